"""Which items stand together in training sessions: counts of sessions, companions, and facts about prefixes."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from alterrec_jax.data.dataset import Sessions

if TYPE_CHECKING:  # whoever recommends without a graph need not wait for it
    import scipy.sparse

FREQUENT = 10
"""Of each item, so many of the items that most sessions hold it together with (DIMO's and SRIM's l)."""


class Edges(NamedTuple):
    """A weighted graph of items, or of items and, numbered behind them, users.

    Attributes:
      source, target: int32 [edge], their numbers, in ascending order of (source, target).
      weight: float32 [edge].
    """

    source: np.ndarray
    target: np.ndarray
    weight: np.ndarray


class Companions(NamedTuple):
    """Which items ever stood in one session with each, and which most often.

    Attributes:
      offsets: int32 [item + 1], where the companions of each item begin.
      items: int32 [pair], the companions of each item, ascending; the item itself is among them.
      frequent: int32 [item, FREQUENT], those of the most sessions first, of equally many the smallest number; without
        the item itself, and 0 where it has fewer.
      sessions: float32 [item, FREQUENT], in how many sessions; 0 where an item has fewer.
    """

    offsets: np.ndarray
    items: np.ndarray
    frequent: np.ndarray
    sessions: np.ndarray


def incidence_matrix(train: Sessions, items: int, last: bool = True) -> "scipy.sparse.csr_array":
    """float32 [session, item], 1 where a session holds an item, however often; items from `items` on are left out.

    Args:
      train: the sessions.
      items: how many items there are.
      last: whether the last item of a session counts.
    """
    import scipy.sparse

    known = train.items < items  # SciPy would write beyond its arrays
    if not last:
        known[train.offsets[1:][train.lengths > 0] - 1] = False
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(known)])[train.offsets]
    ones, shape = np.ones(int(offsets[-1]), np.float32), (len(train), items)
    held = scipy.sparse.csr_array((ones, train.items[known], offsets), shape=shape)
    held.sum_duplicates()
    held.data[:] = 1
    return held


def cooccurrence(train: Sessions, items: int) -> Edges:
    """In how many training sessions two items stand together; order and repeats within a session do not count.

    An item does not meet itself. Both directions of a pair are there.
    """
    held = incidence_matrix(train, items)
    together = (held.T @ held).tocoo()
    order = np.lexsort((together.col, together.row))
    source, target, weight = together.row[order], together.col[order], together.data[order]
    other = source != target
    return Edges(source[other].astype(np.int32), target[other].astype(np.int32), weight[other].astype(np.float32))


def companions(train: Sessions, items: int) -> Companions:
    """Who stands together with whom, by `cooccurrence`."""
    edges = cooccurrence(train, items)
    itself = np.arange(items, dtype=np.int32)
    source, target = (np.concatenate([ends, itself]) for ends in (edges.source, edges.target))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(source, minlength=items))])
    order = np.lexsort((edges.target, -edges.weight, edges.source))
    item = edges.source[order]
    rank = np.arange(len(item)) - np.searchsorted(item, item)
    at, chosen = (item[rank < FREQUENT], rank[rank < FREQUENT]), order[rank < FREQUENT]
    frequent, sessions = np.zeros((items, FREQUENT), np.int32), np.zeros((items, FREQUENT), np.float32)
    frequent[at], sessions[at] = edges.target[chosen], edges.weight[chosen]
    return Companions(offsets.astype(np.int32), target[np.lexsort((target, source))], frequent, sessions)


def met_elsewhere(train: Sessions, items: int) -> np.ndarray:
    """bool [interaction]: of the prefix that ends there, whether what follows met an item of it in another session.

    That is, whether `cooccurrence` less the prefix's own session is above 0 for some item of the prefix and the one
    that follows. An item does not meet itself.
    """
    times = _times_together(cooccurrence(train, items), items)
    return _any_of_prefix(train, lambda ends, item, following: times(item, following) > 1)


def often_elsewhere(train: Sessions, items: int) -> np.ndarray:
    """bool [interaction]: of the prefix that ends there, whether what follows is a frequent companion of an item of it.

    That is one that fewer than `FREQUENT` others met more often, by `cooccurrence` less the prefix's own session, and
    that met it at all.
    """
    edges, held = cooccurrence(train, items), incidence_matrix(train, items)
    times = _times_together(edges, items)
    most = int(edges.weight.max(initial=0)) + 1
    falling = np.sort(edges.source.astype(np.int64) * most + (most - 1 - edges.weight.astype(np.int64)))
    begins = np.searchsorted(edges.source, np.arange(items))
    session, sizes = np.repeat(np.arange(len(train)), train.lengths), np.diff(held.indptr)

    def frequent(ends: np.ndarray, item: np.ndarray, following: np.ndarray) -> np.ndarray:
        found = times(item, following)
        met = np.flatnonzero(found > 1)
        count, item, own = found[met], item[met], session[ends[met]]
        # Those that met the item as often, or more. Elsewhere, of the own session only those that met it more often do.
        ahead = np.searchsorted(falling, item * most + most - 1 - count, side="right") - begins[item]
        undecided = np.flatnonzero((ahead >= FREQUENT) & (ahead - sizes[own] < FREQUENT))
        for place in range(int(sizes[own[undecided]].max(initial=0))):
            some = undecided[place < sizes[own[undecided]]]
            other = held.indices[held.indptr[own[some]] + place]
            ahead[some] -= times(item[some], other) == count[some]
        often = np.zeros(len(ends), bool)
        often[met] = ahead < FREQUENT
        return often

    return _any_of_prefix(train, frequent)


def _times_together(edges: Edges, items: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A function of two int64 [pair] of items: int64 [pair], in how many sessions they stand together; of a pair of
    which one is not among `items`, 0."""
    pairs = edges.source.astype(np.int64) * items + edges.target  # ascending, as the edges are

    def times(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        if not len(pairs):
            return np.zeros(len(first), np.int64)
        wanted = first * items + second
        at = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
        there = (pairs[at] == wanted) & (first < items) & (second < items)
        return np.where(there, edges.weight[at].astype(np.int64), 0)

    return times


def _any_of_prefix(train: Sessions, holds: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """bool [interaction]: of the prefix that ends there, whether something holds of any of its items.

    Args:
      train: the sessions.
      holds: of int64 [some prefixes], where they end, an item of each and the one that follows it: bool.
    """
    clicked = train.items.astype(np.int64)
    found = np.zeros(len(clicked), bool)
    begins = np.repeat(train.offsets[:-1], train.lengths)
    ends = np.flatnonzero(begins[1:] == begins[:-1])  # prefixes that an item follows
    age = 0
    while len(ends):
        some = holds(ends, clicked[ends - age], clicked[ends + 1])
        found[ends[some]] = True
        age += 1
        ends = ends[~some & (ends - age >= begins[ends])]
    return found
