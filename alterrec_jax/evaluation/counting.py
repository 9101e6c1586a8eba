"""How many candidates score above a target, and how many as it does: from whole rows of scores, or block by block.

Whole rows hold the target's own score, so equality is exact. A long catalogue is scored a block of items at a time,
and two products may round the same score differently; there, items whose rows are equal are known to tie beforehand
(`twins`), and only scores of other items are compared.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.blocks import stretch
from alterrec_jax.products import scores_of

MISS = np.iinfo(np.int32).max
"""`above` of a target that cannot be hit: it exceeds every K, for no catalogue has that many items."""

BLOCK = 2**14  # items of a long catalogue that are scored at a time
_ITEM_MULTIPLE = 128  # see `padded_table`
_BITS = 10  # hold a count of so many
_HASHED = 2**16  # rows that are hashed at a time

Counts = tuple[jax.Array, jax.Array, jax.Array]
"""above, equal: int32 [batch], as in `ranking.Ranks`; finite: bool [], whether all scores are."""


def row_width(catalogue: int) -> int:
    """How many columns a row of scores for so many items has."""
    return catalogue + -catalogue % _ITEM_MULTIPLE


def padded_table(table: Any, multiple: int = _ITEM_MULTIPLE) -> jax.Array:
    """A table [item, dim] as float32, with rows of zeros up to a multiple of so many items.

    In the last few columns of an odd number, some matrix products add up in another order than elsewhere, so that
    two items with equal rows would not tie.
    """
    return jnp.pad(jnp.asarray(table, jnp.float32), ((0, -len(table) % multiple), (0, 0)))


@jax.jit(static_argnames="catalogue")
def count_ranks(scores: jax.Array, item: jax.Array, excluded: jax.Array, where: jax.Array, *, catalogue: int) -> Counts:
    """Counts the candidates above each target and equal to it.

    The target's score is read out of the row that it is compared with, so that equality is exact.

    Args:
      scores: float32 [batch, item], of items a multiple of 128; columns from `catalogue` on are padding.
      item: int32 [batch], the targets.
      excluded: int32 [batch, position], items that are no candidates, each once in a row; may be of width 0.
      where: bool [batch, position], True where `excluded` names an item.
      catalogue: how many items can be recommended.

    Returns:
      see `Counts`; a target that is excluded or outside the catalogue is a miss.
    """
    inside = item < catalogue
    target = jnp.take_along_axis(scores, jnp.where(inside, item, 0)[:, None], axis=1)
    where = where & (excluded < catalogue)
    counted = jnp.arange(scores.shape[1]) < catalogue
    above, equal, finite = _tally(scores, scores > target, scores == target, counted, excluded, where)
    return *_missed(above, equal, item, excluded, where, catalogue), finite


def _tally(
    scores: jax.Array, higher: jax.Array, alike: jax.Array, counted: jax.Array, excluded: jax.Array, where: jax.Array
) -> Counts:
    """Counts, of some columns of scores, those that are higher than the target and those that are like it.

    Args:
      scores, higher, alike: [batch, item], of items a multiple of 128.
      counted: bool [item], which columns are candidates.
      excluded: int32 [batch, position], columns that are none in a row, each once; `where` says which of them are real.
      where: bool [batch, position].
    """
    # Memory is read once: three counts of a few items fit into one number, which is taken apart afterwards.
    kind = (
        jnp.where(higher, 1, 0) + jnp.where(alike, 1 << _BITS, 0) + jnp.where(jnp.isfinite(scores), 0, 1 << 2 * _BITS)
    )
    kind = jnp.where(counted[None], kind, 0)
    counts = jnp.sum(kind.reshape(len(scores), -1, _ITEM_MULTIPLE), axis=2, dtype=jnp.int32)
    counts = jax.lax.optimization_barrier(counts)
    above, equal, strange = (jnp.sum((counts >> _BITS * i) & (1 << _BITS) - 1, axis=1) for i in range(3))
    # Counting all and taking away the few that are excluded spares a mask of the size of the scores.
    gone = jnp.take_along_axis(kind, jnp.where(where, excluded, 0), axis=1)
    above -= jnp.sum(where & (gone & 1 > 0), axis=1, dtype=jnp.int32)
    equal -= jnp.sum(where & (gone >> _BITS & 1 > 0), axis=1, dtype=jnp.int32)
    return above, equal, ~jnp.any(strange)


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
) -> dict[str, Counts]:
    """`count_ranks` of every view, with no more than `BLOCK` items scored at a time.

    Args:
      queries: float32 [batch, dim] of each component.
      tables: float32 [item, dim] of each component, padded to a multiple of `BLOCK` items.
      views: of each view, the weights of its components.
      same: of each view, int32 [item], padded likewise: the `twins` of the tables that it weighs.
      item, excluded, where, catalogue: as of `count_ranks`.
    """
    of = {name: jnp.asarray(queries[name], jnp.float32) for name in tables}
    weights = {view: {name: float(weight) for name, weight in weights.items()} for view, weights in views.items()}
    inside = jnp.where(item < catalogue, item, 0)
    sought = _sought(of, tables, weights, same, inside)
    total = {view: (jnp.zeros(len(item), jnp.int32),) * 2 + (jnp.bool_(True),) for view in views}
    for start in range(0, catalogue, BLOCK):
        total = _with_block(
            total, of, tables, weights, same, sought, excluded, where, start, block=BLOCK, catalogue=catalogue
        )
    return {
        view: (*_missed(above, equal, item, excluded, where & (excluded < catalogue), catalogue), finite)
        for view, (above, equal, finite) in total.items()
    }


def twins(tables: Sequence[Any]) -> np.ndarray:
    """int32 [item]: of each item the first one with the same rows in all the tables, each float [item, dim]."""
    first = np.zeros(len(tables[0]), np.int64)
    for table in tables:
        first = _first_of_group(first * len(first) + _twins_of(np.asarray(table, np.float32)))
    return first.astype(np.int32)


def _twins_of(table: np.ndarray) -> np.ndarray:
    """int64 [item]: `twins` of a single table."""
    factors = np.random.default_rng(0).integers(2**63, size=table.shape[1], dtype=np.uint64) * 2 + 1

    def bits(rows: Any) -> np.ndarray:
        return (table[rows] + np.float32(0)).view(np.uint32)  # that makes -0 a 0

    parts = [slice(start, start + _HASHED) for start in range(0, len(table), _HASHED)]
    hashes = np.concatenate([bits(part).astype(np.uint64) @ factors for part in parts])
    first, alone = _first_of_group(hashes), np.arange(len(table))
    shared = np.flatnonzero(first != alone)
    different = (bits(shared) != bits(first[shared])).any(axis=1)
    first[shared[different]] = shared[different]  # rows that only share a hash stand alone
    return first


def _first_of_group(keys: np.ndarray) -> np.ndarray:
    """int64 [item]: of each item the first one with the same key."""
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    return first[group]


Weights = dict[str, dict[str, float]]


@jax.jit
def _sought(
    queries: dict[str, jax.Array],
    tables: dict[str, jax.Array],
    weights: Weights,
    same: Mapping[str, jax.Array],
    item: jax.Array,
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Of every view, the targets' scores, float32 [batch], and their twins, int32 [batch]."""
    scores = {
        name: jnp.einsum("bd,bd->b", query, tables[name][item], precision="highest") for name, query in queries.items()
    }
    return {view: (weighed(scores, of_view), same[view][item]) for view, of_view in weights.items()}


@functools.partial(jax.jit, static_argnames=("block", "catalogue"))
def _with_block(
    total: dict[str, Counts],
    queries: dict[str, jax.Array],
    tables: dict[str, jax.Array],
    weights: Weights,
    same: Mapping[str, jax.Array],
    sought: dict[str, tuple[jax.Array, jax.Array]],
    excluded: jax.Array,
    where: jax.Array,
    start: jax.Array | int,
    *,
    block: int,
    catalogue: int,
) -> dict[str, Counts]:
    """The counts so far, and those of the items from `start` on."""
    # The barrier: each product is made once and not again for every use.
    components = jax.lax.optimization_barrier(
        {name: scores_of(query, stretch(tables[name], start, block)) for name, query in queries.items()}
    )
    counted = start + jnp.arange(block) < catalogue
    here = where & (excluded >= start) & (excluded < jnp.minimum(start + block, catalogue))
    found = {}
    for view, of_view in weights.items():
        # And each sum once: what a column is counted as, it is taken away as.
        scores = jax.lax.optimization_barrier(weighed(components, of_view))
        (target, twin), (above, equal, finite) = sought[view], total[view]
        alike = stretch(same[view], start, block)[None, :] == twin[:, None]
        higher, level = scores > target[:, None], scores == target[:, None]
        of_block = _tally(scores, higher & ~alike, level | alike, counted, excluded - start, here)
        found[view] = above + of_block[0], equal + of_block[1], finite & of_block[2]
    return found


def weighed(components: Mapping[str, jax.Array], weights: Mapping[str, float]) -> jax.Array:
    """float32, the sum of the components, arrays of one shape, times their weights."""
    return sum((weight * components[name] for name, weight in weights.items()), jnp.zeros((), jnp.float32))


def _missed(
    above: jax.Array, equal: jax.Array, item: jax.Array, excluded: jax.Array, where: jax.Array, catalogue: int
) -> tuple[jax.Array, jax.Array]:
    """The counts, those of a miss for a target that is excluded or outside the catalogue."""
    ranked = (item < catalogue) & ~jnp.any(where & (excluded == item[:, None]), axis=1)
    return jnp.where(ranked, above, MISS), jnp.where(ranked, equal, 1)
