"""How many candidates score above a target, and how many as it does: from whole rows of scores, or block by block.

Whole rows hold the target's own score, so equality is exact. A long catalogue is scored a block of items at a time,
and two products may round the same score differently; there, items whose rows are equal are known to tie beforehand
(`first_duplicate`), and only scores of other items are compared.

On a mesh every device counts among its own items, and the counts are added up.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.contract import Neighbours
from alterrec_jax.scoring.item_sums import Entries, scores_at, scores_of_entries, slice_scores
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.chunked import slice_rows
from alterrec_jax.sharding.item_shards import LANE, ItemShards
from alterrec_jax.sharding.lookup import lookup

MISS = np.iinfo(np.int32).max
"""`above` of a target that cannot be hit: it exceeds every K, for no catalogue has that many items."""


class RankingLimits(NamedTuple):
    """How many items a device scores at a time.

    Attributes:
      whole_rows: up to so many are scored as whole rows; more in blocks.
      block: items of a block.
      lane: columns that are counted together; divides the block.
    """

    whole_rows: int = 2**16
    block: int = 2**14
    lane: int = LANE


_BITS = 10  # hold a count of so many

Counts = tuple[jax.Array, jax.Array, jax.Array]
"""above, equal: int32 [batch], as in `ranking.Ranks`; finite: bool [], whether all scores are."""


@jax.jit(static_argnames="catalogue")
def count_ranks(scores: jax.Array, item: jax.Array, excluded: jax.Array, where: jax.Array, *, catalogue: int) -> Counts:
    """Counts the candidates above each target and equal to it.

    The target's score is read out of the row that it is compared with, so that equality is exact.

    Args:
      scores: float32 [batch, column], by `ItemShards.of(catalogue)`.
      item: int32 [batch], the targets.
      excluded: int32 [batch, position], items that are no candidates, each once in a row; may be of width 0.
      where: bool [batch, position], True where `excluded` names an item.
      catalogue: how many items can be recommended.

    Returns:
      see `Counts`; a target that is excluded or outside the catalogue is a miss.
    """
    shards = ItemShards.of(catalogue)

    def of_device(scores: jax.Array, item: jax.Array, excluded: jax.Array, where: jax.Array) -> Counts:
        inside, column = shards.local_columns(item)
        target = jnp.take_along_axis(scores, column[:, None], axis=1)
        target = mesh.psum(jnp.where(inside[:, None], target, 0), mesh.MODEL)
        where = where & (excluded < catalogue)
        here, of_excluded = shards.local_columns(excluded)
        counted = shards.is_item(0, shards.columns_per_device, catalogue)
        above, equal, finite = _count_ranks_in_block(
            scores, scores > target, scores == target, counted, of_excluded, where & here
        )
        return _of_whole_batch(*_apply_misses(above, equal, item, excluded, where, catalogue), finite)

    specs = (mesh.BATCH_AND_ITEMS, *(mesh.BATCH,) * 3)
    counts: Counts = mesh.shard_map(of_device, specs, mesh.REPLICATED)(scores, item, excluded, where)
    return counts


def _of_whole_batch(above: jax.Array, equal: jax.Array, finite: jax.Array) -> Counts:
    """The counts of all devices' targets, and whether all devices' scores are finite."""
    non_finite = mesh.psum((~finite).astype(jnp.int32), *mesh.AXES)
    return mesh.all_gather(above, mesh.DATA), mesh.all_gather(equal, mesh.DATA), non_finite == 0


def _count_ranks_in_block(
    scores: jax.Array,
    higher: jax.Array,
    tied: jax.Array,
    counted: jax.Array,
    excluded: jax.Array,
    where: jax.Array,
    lane: int = LANE,
) -> Counts:
    """Counts, of some columns of scores and those of the other devices, which are higher than the target or like it.

    Args:
      scores, higher, tied: [batch, item], of items a multiple of `lane`.
      counted: bool [item], which columns are candidates.
      excluded: int32 [batch, position], columns that are none in a row, each once; `where` says which of them are real.
      where: bool [batch, position].
      lane: columns that are counted together, at most 1,023.
    """
    # Memory is read once: three counts of a few items fit into one number, which is taken apart afterwards.
    kind = jnp.where(higher, 1, 0) + jnp.where(tied, 1 << _BITS, 0) + jnp.where(jnp.isfinite(scores), 0, 1 << 2 * _BITS)
    kind = jnp.where(counted[None], kind, 0)
    counts = jnp.sum(kind.reshape(len(scores), -1, lane), axis=2, dtype=jnp.int32)
    counts = jax.lax.optimization_barrier(counts)
    above, equal, non_finite = (jnp.sum((counts >> _BITS * i) & (1 << _BITS) - 1, axis=1) for i in range(3))
    # Counting all and taking away the few that are excluded spares a mask of the size of the scores.
    of_excluded = jnp.take_along_axis(kind, jnp.where(where, excluded, 0), axis=1)
    above -= jnp.sum(where & (of_excluded & 1 > 0), axis=1, dtype=jnp.int32)
    equal -= jnp.sum(where & (of_excluded >> _BITS & 1 > 0), axis=1, dtype=jnp.int32)
    return mesh.psum(above, mesh.MODEL), mesh.psum(equal, mesh.MODEL), ~jnp.any(non_finite)


def count_in_blocks(
    queries: Mapping[str, Any],
    tables: Mapping[str, jax.Array],
    views: Mapping[str, Mapping[str, float]],
    same: Mapping[str, jax.Array],
    item: jax.Array,
    excluded: jax.Array,
    where: jax.Array,
    *,
    catalogue: int,
    limits: RankingLimits = RankingLimits(),  # noqa: B008
) -> dict[str, Counts]:
    """`count_ranks` of every view, with no more than a block of items scored at a time.

    Args:
      queries: float32 [batch, dim] of each component, or `Entries`.
      tables: float32 [column, dim] of each component, by `ItemShards.of(catalogue, limits.block)`, or `Neighbours`.
      views: of each view, the weights of its components.
      same: of each view, int32 [column], likewise: the `first_duplicate` of the tables that it weighs.
      item, excluded, where, catalogue: as of `count_ranks`.
      limits: how many items at a time.
    """
    shards = ItemShards.of(catalogue, limits.block)
    of = {name: queries[name] for name in tables}
    tables = without_neighbours(tables)
    weights = {view: {name: float(weight) for name, weight in weights.items()} for view, weights in views.items()}
    inside = jnp.where(item < catalogue, item, 0)
    target_scores = _target_scores(of, tables, weights, same, inside, shards.column(inside))
    batch = _Batch(of, tables, weights, same, target_scores, excluded, where)
    nothing: Counts = mesh.put((*np.zeros((2, len(item)), np.int32), np.bool_(True)))
    total = dict.fromkeys(views, nothing)
    for start in range(0, shards.columns_per_device, limits.block):
        total = _with_block(total, batch, start, limits=limits, catalogue=catalogue)
    return _rid_of_misses(total, item, excluded, where, catalogue=catalogue)


def first_duplicate(digests: Sequence[np.ndarray]) -> np.ndarray:
    """int32 [item]: of each item the first one with the same rows in all of some tables.

    Args:
      digests: of each table, those of its rows, as by `row_digests`: no process has to see a whole table.
    """
    together = np.concatenate(digests, axis=1)
    same = np.arange(len(together), dtype=np.int32)
    # Numbers sort ten times faster than rows, and what is alone by half of a digest is alone.
    _, group, sizes = np.unique(together[:, :2].copy().view(np.uint64)[:, 0], return_inverse=True, return_counts=True)
    repeated = np.flatnonzero(sizes[group] > 1)
    _, first, group = np.unique(together[repeated], axis=0, return_index=True, return_inverse=True)
    same[repeated] = repeated[first[group]]
    return same


Weights = dict[str, dict[str, float]]


class _Batch(NamedTuple):
    """What the items are counted for, block by block.

    Attributes:
      queries, tables, same, excluded, where: as of `count_in_blocks`.
      weights: of each view, those of its components.
      target_scores: of each view, the scores of the targets, float32 [batch], and the first duplicate of each, int32
        [batch].
    """

    queries: Mapping[str, Any]
    tables: Mapping[str, Any]
    weights: Weights
    same: Mapping[str, jax.Array]
    target_scores: Mapping[str, tuple[jax.Array, jax.Array]]
    excluded: jax.Array
    where: jax.Array

    @property
    def specs(self) -> "_Batch":
        """Where its arrays lie on the mesh."""
        by_row, by_item = mesh.BATCH, mesh.ITEMS
        return _Batch._make((by_row, by_item, mesh.REPLICATED, by_item, by_row, by_row, by_row))


@jax.jit
def _target_scores(
    queries: dict[str, Any],
    tables: dict[str, Any],
    weights: Weights,
    same: Mapping[str, jax.Array],
    item: jax.Array,
    column: jax.Array,
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Of every view, the scores of the targets in some columns, float32 [batch], and their first duplicates, int32."""

    def of_component(name: str, query: Any) -> jax.Array:
        if isinstance(query, Entries):
            return scores_at(query, item)
        return jnp.einsum("bd,bd->b", query, lookup(tables[name], column), precision="highest")

    scores = {name: of_component(name, query) for name, query in queries.items()}
    duplicate = {view: lookup(same[view][:, None], column)[:, 0] for view in weights}
    return {view: (weighed(scores, of_view), duplicate[view]) for view, of_view in weights.items()}


@functools.partial(jax.jit, static_argnames="catalogue")
def _rid_of_misses(
    total: dict[str, Counts], item: jax.Array, excluded: jax.Array, where: jax.Array, *, catalogue: int
) -> dict[str, Counts]:
    """The counts, those of a miss for a target that is no candidate."""
    item, excluded, where = (mesh.with_sharding_constraint(part, mesh.REPLICATED) for part in (item, excluded, where))
    where &= excluded < catalogue
    return {
        view: (*_apply_misses(above, equal, item, excluded, where, catalogue), finite)
        for view, (above, equal, finite) in total.items()
    }


@functools.partial(jax.jit, static_argnames=("limits", "catalogue"))
def _with_block(
    total: dict[str, Counts], batch: _Batch, start: jax.Array | int, *, limits: RankingLimits, catalogue: int
) -> dict[str, Counts]:
    """The counts so far, and those among the items in every device's columns from `start` on."""
    block = limits.block
    shards = ItemShards.of(catalogue, block)

    def of_device(batch: _Batch, start: jax.Array | int) -> dict[str, Counts]:
        # The barrier: each product is made once and not again for every use.
        components = jax.lax.optimization_barrier(
            {
                name: block_scores(query, batch.tables[name], start, block, shards)
                for name, query in batch.queries.items()
            }
        )
        here, column = shards.local_columns(batch.excluded)
        here &= batch.where & (batch.excluded < catalogue) & (column >= start) & (column < start + block)
        found = {}
        for view, weights in batch.weights.items():
            # And each sum once: what a column is counted as, it is taken away as.
            scores = jax.lax.optimization_barrier(weighed(components, weights))
            target, duplicate = batch.target_scores[view]
            tied = slice_rows(batch.same[view], start, block)[None, :] == duplicate[:, None]
            higher, level = scores > target[:, None], scores == target[:, None]
            counted = shards.is_item(start, block, catalogue)
            counts = _count_ranks_in_block(
                scores, higher & ~tied, level | tied, counted, column - start, here, limits.lane
            )
            found[view] = _of_whole_batch(*counts)
        return found

    found = mesh.shard_map(of_device, (batch.specs, mesh.REPLICATED), mesh.REPLICATED)(batch, start)
    return {
        view: (above + found[view][0], equal + found[view][1], finite & found[view][2])
        for view, (above, equal, finite) in total.items()
    }


def without_neighbours(tables: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of vectors; in place of `Neighbours`, whose entries have been looked up, nothing."""
    return {name: () if isinstance(table, Neighbours) else table for name, table in tables.items()}


def block_scores(query: Any, table: Any, start: jax.Array | int, block: int, shards: ItemShards) -> jax.Array:
    """float32 [batch, block], of a component in some of a device's columns; arguments as of `count_in_blocks`."""
    if isinstance(query, Entries):
        return scores_of_entries(query, mesh.shard_offset(shards.items_per_device, mesh.MODEL) + start, block)
    scores: jax.Array = slice_scores(query, table, start, block)
    return scores


def weighed(components: Mapping[str, jax.Array], weights: Mapping[str, jax.Array | float]) -> jax.Array:
    """float32, the sum of the components, arrays of one shape, times their weights."""
    return sum((weight * components[name] for name, weight in weights.items()), jnp.zeros((), jnp.float32))


def _apply_misses(
    above: jax.Array, equal: jax.Array, item: jax.Array, excluded: jax.Array, where: jax.Array, catalogue: int
) -> tuple[jax.Array, jax.Array]:
    """The counts, those of a miss for a target that is excluded or outside the catalogue."""
    ranked = (item < catalogue) & ~jnp.any(where & (excluded == item[:, None]), axis=1)
    return jnp.where(ranked, above, MISS), jnp.where(ranked, equal, 1)
