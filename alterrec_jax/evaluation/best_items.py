"""The best candidates of each target, from whole rows of scores or block by block, as `rank_counts` counts them.

Of equal scores the lower item numbers come first; `Ranks` know of a tie, a list has to break it.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.evaluation.rank_counts import RankingLimits, block_scores, weighed, without_neighbours
from alterrec_jax.hard_negatives import search
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.item_shards import ItemShards

NO_ITEM = -1


class Best(NamedTuple):
    """What was found so far.

    Attributes:
      scores: float32 [batch, k], from high to low; minus infinity where there is no candidate left.
      items: int32 [batch, k]; any number there.
    """

    scores: jax.Array
    items: jax.Array

    def gathered(self) -> tuple[np.ndarray, np.ndarray]:
        """Both, on the host."""
        scores, items = jax.device_get(mesh.replicated(self))
        return scores, items

    def on_host(self) -> np.ndarray:
        """int32 [batch, k], the items; NO_ITEM where there is no candidate left."""
        scores, items = self.gathered()
        return np.where(np.isneginf(scores), NO_ITEM, items)


@functools.partial(jax.jit, static_argnames=("k", "catalogue"))
def best_of_rows(scores: jax.Array, excluded: jax.Array, where: jax.Array, *, k: int, catalogue: int) -> Best:
    """The best of whole rows of scores; arguments as of `rank_counts.count_ranks`, k at most the catalogue's size."""
    shards = ItemShards.of(catalogue)

    def of_device(scores: jax.Array, excluded: jax.Array, where: jax.Array) -> Best:
        return _best_of_block(scores, 0, excluded, where, k, shards, catalogue)

    specs = (mesh.BATCH_AND_ITEMS, mesh.BATCH, mesh.BATCH)
    found: Best = mesh.shard_map(of_device, specs, mesh.BATCH)(scores, excluded, where)
    return found


def best_in_blocks(
    queries: Mapping[str, Any],
    tables: Mapping[str, Any],
    weights: Mapping[str, float],
    excluded: jax.Array,
    where: jax.Array,
    *,
    k: int,
    catalogue: int,
    limits: RankingLimits,
) -> Best:
    """The best under one view, with no more than a block of items scored at a time.

    Args:
      queries, tables, excluded, where, catalogue, limits: as of `rank_counts.count_in_blocks`.
      weights: of the view's components.
      k: how many, at most the catalogue's size.
    """
    own = {name: float(weight) for name, weight in weights.items()}
    vectors = without_neighbours(tables)
    parts = {name: (queries[name], vectors[name]) for name in own}
    shape = (len(excluded), k)
    best = Best(*mesh.put((np.full(shape, -np.inf, np.float32), np.zeros(shape, np.int32)), mesh.BATCH))
    for start in range(0, ItemShards.of(catalogue, limits.block).columns_per_device, limits.block):
        best = _with_block(best, parts, own, start, excluded, where, block=limits.block, catalogue=catalogue)
    return best


@functools.partial(jax.jit, static_argnames=("block", "catalogue"))
def _with_block(
    best: Best,
    parts: dict[str, tuple[Any, Any]],
    weights: dict[str, float],
    start: jax.Array | int,
    excluded: jax.Array,
    where: jax.Array,
    *,
    block: int,
    catalogue: int,
) -> Best:
    """The best so far and of the items in every device's columns from `start` on."""
    shards = ItemShards.of(catalogue, block)

    def of_device(
        best: Best,
        parts: dict[str, tuple[Any, Any]],
        weights: dict[str, float],
        start: jax.Array | int,
        excluded: jax.Array,
        where: jax.Array,
    ) -> Best:
        k = best.scores.shape[1]
        components = {name: block_scores(*part, start, block, shards) for name, part in parts.items()}
        scores = weighed(jax.lax.optimization_barrier(components), weights)
        found = _best_of_block(scores, start, excluded, where, k, shards, catalogue)
        return Best(*search.merged(best, found, k))

    by_row = mesh.BATCH
    of_parts = {name: (by_row, mesh.ITEMS) for name in parts}
    specs = (by_row, of_parts, mesh.REPLICATED, mesh.REPLICATED, by_row, by_row)
    found: Best = mesh.shard_map(of_device, specs, by_row)(best, parts, weights, start, excluded, where)
    return found


def _best_of_block(
    scores: jax.Array,
    start: jax.Array | int,
    excluded: jax.Array,
    where: jax.Array,
    k: int,
    shards: ItemShards,
    catalogue: int,
) -> Best:
    """The best of all devices' columns from `start` on, float32 [batch, column] on each."""
    rows, block = scores.shape
    here, column = shards.local_columns(excluded)
    place = jnp.where(where & here & (column >= start), column - start, block)  # beyond the block, so dropped
    scores = jnp.where(shards.is_item(start, block, catalogue)[None], scores, -jnp.inf)
    scores = scores.at[jnp.arange(rows)[:, None], place].set(-jnp.inf, mode="drop")
    return Best(*search.best_items(scores, min(k, block * mesh.size(mesh.MODEL)), shards.items_per_device, start))
