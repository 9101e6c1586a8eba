"""Hard negatives and augmented positives from the frozen peer's ranking (section 4.2 of the AlterRec paper).

The ranking is that of `jax.lax.top_k`: by descending score, equal scores by ascending item number. A rank window
is a contiguous piece of it, so it is described by its two border entries, and an item is in it if it lies
between them: membership is a comparison, and no list of items has to be gathered or scattered.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class RankWindow(NamedTuple):
    """The ranks [k1, k2) of each prefix's ranking, by their first and last entries.

    Attributes:
      first_score, first_item: [prefix], the entry of rank k1.
      last_score, last_item: [prefix], the entry of rank k2 - 1; None where k2 is the whole catalogue.
      top: int32 [prefix, p], the items of rank 0 .. p-1.
    """

    first_score: jax.Array
    first_item: jax.Array
    last_score: jax.Array | None
    last_item: jax.Array | None
    top: jax.Array


def rank_window(scores: jax.Array, k1: int, k2: int, p: int = 0) -> RankWindow:
    """Finds the window [k1, k2) and the top p of each row by `jax.lax.top_k`.

    Args:
      scores: float [prefix, item], the peer's scores.
      k1, k2: ranks from 0; 0 <= k1 < k2 <= items.
      p: how many of the best to name; p <= k1.
    """
    items = scores.shape[1]
    whole = k2 == items  # then only the first border needs the ranking
    # Without the barrier XLA pushes the slices below into the selection and falls back to sorting whole rows.
    values, indices = jax.lax.optimization_barrier(jax.lax.top_k(scores, k1 + 1 if whole else k2))
    return RankWindow(
        first_score=values[:, k1],
        first_item=indices[:, k1],
        last_score=None if whole else values[:, k2 - 1],
        last_item=None if whole else indices[:, k2 - 1],
        top=indices[:, :p],
    )


def in_window(scores: jax.Array, window: RankWindow) -> jax.Array:
    """bool [prefix, item]: which items of the scores that `window` was found in have a rank in [k1, k2)."""
    item = jnp.arange(scores.shape[1], dtype=jnp.int32)[None, :]
    first_score, first_item = window.first_score[:, None], window.first_item[:, None]
    inside = (scores < first_score) | ((scores == first_score) & (item >= first_item))
    if window.last_score is not None and window.last_item is not None:
        last_score, last_item = window.last_score[:, None], window.last_item[:, None]
        inside &= (scores > last_score) | ((scores == last_score) & (item <= last_item))
    return inside


def drawn_from_window(key: jax.Array, scores: jax.Array, k1: int, k2: int, hard_fraction: float) -> jax.Array:
    """Negatives of the released code: a share of the window, and uniform items in place of the rest.

    Of the n = k2 - k1 negatives, round(hard_fraction * n) ranks are drawn from the window without replacement and
    the others from the catalogue with replacement. One draw of ranks and one of items serves the whole batch.

    Returns:
      float32 [prefix, item], how often each item is a negative.
    """
    prefixes, items = scores.shape
    window = k2 - k1
    hard = round(hard_fraction * window)
    rank_key, item_key = jax.random.split(key)
    ranks = k1 + jax.random.permutation(rank_key, window)[:hard]
    mined = jax.lax.top_k(scores, k2)[1][:, ranks]
    uniform = jax.random.randint(item_key, (window - hard,), 0, items)
    shared = jnp.zeros(items, jnp.float32).at[uniform].add(1.0)
    counts = jnp.broadcast_to(shared[None, :], (prefixes, items))
    return counts.at[jnp.arange(prefixes)[:, None], mined].add(1.0)


def random_negatives(key: jax.Array, items: int, count: int) -> jax.Array:
    """int32 [count]: items drawn uniformly without replacement, one draw for a whole batch.

    Each prefix's negatives are uniform over the catalogue; the loss takes the prefix's own target out of them, as
    it does with a window.
    """
    return jax.random.permutation(key, items)[:count].astype(jnp.int32)
