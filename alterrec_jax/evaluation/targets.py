"""Which items of the held-out sessions are to be predicted, and what was known before each of them."""

import dataclasses
from typing import Literal, get_args

import numpy as np

from alterrec_jax import cli
from alterrec_jax.data.dataset import Sessions
from alterrec_jax.errors import UserError

TargetRule = Literal["last", "all_prefixes"]


@dataclasses.dataclass(frozen=True)
class Targets:
    """The items to be predicted, in the order of their sessions and positions.

    Attributes:
      session: int64 [targets], the number of the session within its split.
      position: int32 [targets], where in its session the target stands; the prefix known is items 0 .. position-1,
        so this is also the prefix's length, and never 0.
      item: int32 [targets], the item number of the target; it may lie outside the catalogue.
    """

    session: np.ndarray
    position: np.ndarray
    item: np.ndarray

    def __len__(self) -> int:
        return len(self.item)

    def __getitem__(self, rows: slice | np.ndarray) -> "Targets":
        """The targets at the given rows: a slice, row numbers, or a mask."""
        return Targets(self.session[rows], self.position[rows], self.item[rows])


def select_targets(sessions: Sessions, which: TargetRule | str) -> Targets:
    """Chooses the targets of a split.

    Args:
      sessions: the sessions of a held-out split.
      which: "last": the last item of each session; "all_prefixes": every item from position
        max(1, first_target) on. A session of fewer than two items has no target under either rule.

    Raises:
      UserError: `which` is neither.
    """
    if which not in get_args(TargetRule):
        raise UserError(f"targets='{which}' is unknown; {cli.nearest(which, get_args(TargetRule))}")
    lengths = sessions.lengths
    first = np.maximum(1, sessions.first_target.astype(np.int64))
    if which == "last":
        first = np.maximum(first, lengths - 1)
    count = np.maximum(0, lengths - first)
    session = np.repeat(np.arange(len(sessions)), count)
    # Within the run of rows that belongs to a session, positions count up from its first target.
    within = np.arange(len(session)) - np.repeat(np.cumsum(count) - count, count)
    position = first[session] + within
    item = sessions.items[sessions.offsets[session] + position]
    return Targets(session.astype(np.int64), position.astype(np.int32), item.astype(np.int32))


def histories(sessions: Sessions, targets: Targets, *, width: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Every item that stands before each target in its session, however long that is.

    Args:
      sessions: the split that the targets were selected from.
      targets: some of its targets; give a batch at a time, for the result is as wide as its longest prefix.
      width: pads to this width instead, which must not be less than the longest prefix.

    Returns:
      ids: int32 [targets, width], item numbers in session order, -1 where `where` is False.
      where: bool [targets, width], True where an item stands.
    """
    longest = int(targets.position.max(initial=0))
    width = longest if width is None else width
    if width < longest:
        raise ValueError(f"width {width} is less than the longest prefix, {longest}")
    column = np.arange(width)
    where = column < targets.position[:, None]
    source = np.where(where, sessions.offsets[targets.session][:, None] + column, 0)
    ids = np.full(where.shape, -1, np.int32)
    if where.any():
        ids[where] = sessions.items[source[where]]
    return ids, where


def target_in_history(sessions: Sessions, targets: Targets, *, batch_size: int = 4096) -> np.ndarray:
    """bool [targets], whether the target's item already stands in its session before it (a repeat)."""
    repeat = np.zeros(len(targets), bool)
    for start in range(0, len(targets), batch_size):
        part = targets[start : start + batch_size]
        ids, where = histories(sessions, part)
        repeat[start : start + batch_size] = ((ids == part.item[:, None]) & where).any(axis=1)
    return repeat
