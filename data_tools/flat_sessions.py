"""Sessions as flat arrays, as preparation holds them: all their interactions one after another, without a copy of what
is the same for a whole session. And how rows in any order are taken a block of whole sessions at a time."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import polars as pl

BLOCK = 1 << 21  # rows that are sorted or compared at a time


@dataclasses.dataclass(frozen=True)
class FlatSessions:
    """Sessions, and their interactions one after another.

    Attributes:
      session: uint32 [sessions], ascending: rows of the sessions table of `Logs`.
      lengths: int64 [sessions], interactions of each; none has none.
      first_target: int32 [sessions], the first position that may be a target.
      rows: [interactions], a table with the column item (integers), and others: price (float, null where unknown), and
        alone (bool), whether nothing else of the session has the same time.
    """

    session: np.ndarray
    lengths: np.ndarray
    first_target: np.ndarray
    rows: pl.DataFrame

    @classmethod
    def of(cls, table: pl.DataFrame) -> "FlatSessions":
        """Of a table with the column session (ascending); every position but the first may be a target."""
        session = table["session"].to_numpy()
        starts = np.flatnonzero(np.append(True, session[1:] != session[:-1])[: len(session)])
        lengths = np.diff(starts, append=len(session))
        return cls(session[starts], lengths, np.ones(len(starts), np.int32), table.drop("session"))

    def __len__(self) -> int:
        return len(self.session)

    @property
    def stops(self) -> np.ndarray:
        """int64 [sessions], one past the last row of each."""
        return np.cumsum(self.lengths)

    @property
    def starts(self) -> np.ndarray:
        """int64 [sessions], the first row of each."""
        return self.stops - self.lengths

    def where(self, chosen: np.ndarray) -> "FlatSessions":
        """The sessions for which `chosen`, bool [sessions], is true."""
        if chosen.all():
            return self
        rows = self.rows.filter(pl.Series(np.repeat(chosen, self.lengths)))
        return FlatSessions(self.session[chosen], self.lengths[chosen], self.first_target[chosen], rows)

    def where_rows(self, chosen: np.ndarray) -> "FlatSessions":
        """The interactions for which `chosen`, bool [interactions], is true, and the sessions that have any left."""
        if chosen.all():
            return self
        lengths = np.add.reduceat(chosen, self.starts, dtype=np.int64)
        left = lengths > 0
        rows = self.rows.filter(pl.Series(chosen))
        return FlatSessions(self.session[left], lengths[left], self.first_target[left], rows)


def blocks(session: np.ndarray, rows: int = BLOCK) -> Iterator[np.ndarray]:
    """Takes a table apart into blocks of whole sessions, so that what is done within sessions needs no second table.

    Args:
      session: unsigned integers [rows], of each row, in any order.
      rows: of a block, about.

    Yields:
      int64, the rows of a block, ascending. Sessions ascend from block to block.
    """
    lengths = np.zeros(int(session.max(initial=0)) + 1 if len(session) else 0, np.int64)
    np.add.at(lengths, session, 1)  # bincount would make a copy of the sessions, of twice their size
    stops = np.cumsum(lengths)
    cuts = np.searchsorted(stops, np.arange(rows, len(session) + rows, rows)) + 1
    below = 0
    for above in np.unique(np.minimum(cuts, len(stops))).tolist() or [0]:  # an empty table is a block
        yield np.flatnonzero((session >= below) & (session < above))
        below = above
