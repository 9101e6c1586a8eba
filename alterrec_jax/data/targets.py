"""Which items of the held-out sessions are to be predicted, and what was known before each of them."""

import dataclasses

import numpy as np

from alterrec_jax.config import TARGET_RULES
from alterrec_jax.data.dataset import Sessions
from alterrec_jax.errors import UserError, nearest


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


def select_targets(sessions: Sessions, which: str) -> Targets:
    """Chooses the targets of a split.

    Args:
      sessions: the sessions of a held-out split.
      which: "last": the last item of each session; "all_prefixes": every item from position
        max(1, first_target) on. A session of fewer than two items has no target under either rule.

    Raises:
      UserError: `which` is neither.
    """
    if which not in TARGET_RULES:
        raise UserError(f"targets='{which}' is unknown; {nearest(which, TARGET_RULES)}")
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


def draw(targets: Targets, sessions: int, count: int) -> Targets:
    """So many of the targets, in their order, or all if there are fewer; always the same.

    Sessions are drawn at random, and all targets of each; of the last one perhaps a part.

    Args:
      targets: of some split.
      sessions: how many sessions the split has.
      count: how many are wanted.
    """
    place = np.random.default_rng(0).permutation(sessions)[targets.session]
    return targets[np.sort(np.argsort(place, kind="stable")[:count])]


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


def repeats(items: np.ndarray, offsets: np.ndarray, at_once: int = 2**21) -> np.ndarray:
    """Whether an item already stands in the same session before, some sessions at a time.

    Args:
      items: int32 [interactions], of all sessions one after another.
      offsets: int64 [sessions + 1], where each session begins.
      at_once: interactions that are looked at together; a longer session is, by itself.

    Returns:
      bool [interactions].
    """
    repeat = np.ones(len(items), bool)
    size, first = int(items.max(initial=0)) + 1, 0
    while first < len(offsets) - 1:
        last = max(int(np.searchsorted(offsets, offsets[first] + at_once, side="right")) - 1, first + 1)
        bounds = offsets[first : last + 1]
        session = np.repeat(np.arange(last - first, dtype=np.int64), np.diff(bounds))
        pair = session * size + items[bounds[0] : bounds[-1]]
        repeat[bounds[0] + np.unique(pair, return_index=True)[1]] = False
        first = last
    return repeat


def target_in_history(sessions: Sessions, targets: Targets) -> np.ndarray:
    """bool [targets], whether the target's item already stands in its session before it."""
    return repeats(sessions.items, sessions.offsets)[sessions.offsets[targets.session] + targets.position]
