"""Hard negatives and augmented positives from the frozen peer's ranking (section 4.2 of the AlterRec paper).

The rank of an item is the number of items that score higher, so items of one score share a rank. The window of ranks
[k1, k2) is then what scores less than the k1-th best and at least as much as the k2-th best: two numbers a prefix
describe it, membership is a comparison, and no list of items has to be sorted, gathered or scattered. The top p of
`jax.lax.top_k`, p <= k1, are never in the window.

On a mesh each device sees the scores of its own prefixes and items: borders are found by counts that are added up, and
the best are the best of the devices' best.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from alterrec_jax.hard_negatives.search import SearchSettings, best_items, extremes, kth_best
from alterrec_jax.numerics import MemoryLimits
from alterrec_jax.scoring.item_sums import Queries, all_scores, slice_scores
from alterrec_jax.sharding import mesh


class RankWindow(NamedTuple):
    """The ranks [k1, k2) of each prefix's ranking, by their borders.

    Attributes:
      upper: float32 [prefix], every score of the window is less: the k1-th best (or what lies between it and the
        next lower score), or infinity where k1 is 0.
      lower: float32 [prefix], no score of the window is less: the k2-th best (or what lies between it and the next
        lower score), or minus infinity where k2 is the whole catalogue.
      best: int32 [prefix, p], the best p items, equal scores by ascending item number.
    """

    upper: jax.Array
    lower: jax.Array
    best: jax.Array


def rank_window(
    scores: jax.Array,
    k1: int,
    k2: int,
    p: int = 0,
    selection: str = "search",
    items: int | None = None,
    search: SearchSettings = SearchSettings(),  # noqa: B008
) -> RankWindow:
    """Finds the window [k1, k2) and the top p of each row.

    Args:
      scores: float32 [prefix, item], the peer's scores; minus infinity where there is no item.
      k1, k2: ranks from 0; 0 <= k1 < k2 <= items.
      p: how many of the best to name; p <= k1.
      selection: one of SELECTIONS.
      items: how many there are on all devices; by default as many as there are columns.
      search: how, where the selection is "search".
    """
    prefixes = len(scores)
    items = scores.shape[1] if items is None else items
    sorted_out = p
    if selection == "top_k" or (k1 <= search.sorted_up_to and (p or selection != "search")):
        sorted_out = k1
    if selection == "top_k" and k2 < items:
        sorted_out = k2
    values, numbers = best_items(scores, sorted_out)

    def border(k: int) -> jax.Array:
        """The k-th best score, 0 < k < items."""
        return values[:, k - 1] if k <= sorted_out else kth_best(scores, k, selection, items, search)

    below = border(k1) if k1 else jnp.full(prefixes, jnp.inf, scores.dtype)
    least = border(k2) if k2 < items else jnp.full(prefixes, -jnp.inf, scores.dtype)
    return RankWindow(below, least, numbers[:, :p])


def peer_window(
    queries: jax.Array | Queries,
    table: jax.Array,
    k1: int,
    k2: int,
    p: int = 0,
    selection: str = "search",
    items: int | None = None,
    kept: bool = False,
    limits: MemoryLimits = MemoryLimits(),  # noqa: B008
) -> RankWindow:
    """`rank_window` of the scores of some queries, a few prefixes at a time where all scores are too many to hold.

    The scores will then be made again, in blocks of items, and rounded otherwise; so they will be where the window is
    kept. So that they fall on the same sides of the borders, these then lie halfway between two scores.

    Args:
      queries: float [prefix, dim], or `Queries`.
      table: float32 [item, dim]; rows from `items` on are padding.
      k1, k2, p, selection, items: as of `rank_window`.
      kept: whether the window will be compared with the scores of another step.
      limits: how many scores a device holds at a time.
    """
    items = len(table) if items is None else items
    padding = items < len(table)

    def of_device(queries: jax.Array | Queries, table: jax.Array) -> RankWindow:
        first = mesh.shard_offset(len(table), mesh.MODEL)
        real = first + jnp.arange(len(table)) < items

        def window(scores: jax.Array, between: bool = True) -> RankWindow:
            scores = jnp.where(real[None], scores, -jnp.inf) if padding else scores
            found = rank_window(scores, k1, k2, p, selection, items)
            if between:
                upper, lower = _halfway(scores, found.upper, found.lower)
                found = found._replace(upper=upper, lower=lower)
            return found

        prefixes = len(queries)
        if prefixes * len(table) <= limits.scores:
            return window(slice_scores(queries, table, 0, len(table), first), between=kept)
        at_once = prefixes_at_once(len(table), mesh.size(mesh.MODEL), limits)
        pieces = -(-prefixes // at_once)

        def in_pieces(part: jax.Array) -> jax.Array:
            padded = jnp.pad(part, ((0, pieces * at_once - prefixes), (0, 0)))
            return padded.reshape(pieces, at_once, -1)

        found = jax.lax.map(
            lambda some: window(all_scores(some, table, first, limits)), jax.tree.map(in_pieces, queries)
        )
        return jax.tree.map(lambda of_piece: of_piece.reshape(pieces * at_once, *of_piece.shape[2:])[:prefixes], found)

    window: RankWindow = mesh.shard_map(of_device, (mesh.BATCH, mesh.ITEMS), mesh.BATCH)(queries, table)
    return window


def prefixes_at_once(
    items: int,
    devices: int,
    limits: MemoryLimits = MemoryLimits(),  # noqa: B008
) -> int:
    """How many prefixes are mined together where all of them have too many scores for a device's so many items.

    A few, whose scores stay in a processor's cache. But devices that share the items search together, and every piece
    costs them rounds of their own; and accelerators read the whole table for every piece: there, as many as can be
    held.
    """
    in_cache = devices == 1 and mesh.platform() == "cpu"
    return max((limits.scores_of_piece if in_cache else limits.scores) // items, 1)


def _halfway(scores: jax.Array, *borders: jax.Array) -> list[jax.Array]:
    """float32 [prefix] each: borders, moved between the scores that reach them and those that do not, if there are
    both."""
    reach = [scores >= border[:, None] for border in borders]
    moved = []
    for border, upper, lower in zip(borders, *extremes(scores, reach, [~reaches for reaches in reach]), strict=True):
        middle = lower / 2 + upper / 2
        between = (lower < middle) & (middle <= upper) & jnp.isfinite(middle)
        moved.append(jnp.where(between, middle, border))
    return moved


def in_window(scores: jax.Array, window: RankWindow) -> jax.Array:
    """bool [prefix, item]: which of some items, by the peer's scores for them, are in the window."""
    return (scores < window.upper[:, None]) & (scores >= window.lower[:, None])


def drawn_from_window(key: jax.Array, scores: jax.Array, k1: int, k2: int, hard_fraction: float) -> jax.Array:
    """Negatives of the released code: a share of the window, and uniform items in place of the rest.

    Of the n = k2 - k1 negatives, round(hard_fraction * n) places are drawn from places k1 .. k2-1 of the ranking of
    `jax.lax.top_k` without replacement and the others from the catalogue with replacement. One draw of places and one
    of items serves the whole batch.

    Returns:
      float32 [prefix, item], how often each item is a negative.
    """
    prefixes, items = scores.shape
    window = k2 - k1
    hard = round(hard_fraction * window)
    rank_key, item_key = jax.random.split(key)
    places = k1 + jax.random.permutation(rank_key, window)[:hard]
    mined = jax.lax.top_k(scores, k2)[1][:, places]
    uniform = jax.random.randint(item_key, (window - hard,), 0, items)
    shared = jnp.zeros(items, jnp.float32).at[uniform].add(1.0)
    counts = jnp.broadcast_to(shared[None, :], (prefixes, items))
    return counts.at[jnp.arange(prefixes)[:, None], mined].add(1.0)


def random_negatives(key: jax.Array, items: int, count: int) -> jax.Array:
    """int32 [count]: items drawn uniformly without replacement, one draw for a whole batch."""
    return jax.random.permutation(key, items)[:count].astype(jnp.int32)
