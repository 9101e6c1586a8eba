"""How many candidates score above a target, and how many as it does: from whole rows of scores, or block by block.

Whole rows hold the target's own score, so equality is exact. A long catalogue is scored a block of items at a time,
and two products may round the same score differently; there, items whose rows are equal are known to tie beforehand
(`twins`), and only scores of other items are compared.
"""

import functools
from collections.abc import Sequence
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
    # Memory is read once: three counts of a few items fit into one number, which is taken apart afterwards.
    kind = jnp.where(scores > target, 1, 0) + jnp.where(scores == target, 1 << _BITS, 0)
    kind += jnp.where(jnp.isfinite(scores), 0, 1 << 2 * _BITS)
    kind = jnp.where((jnp.arange(scores.shape[1]) < catalogue)[None], kind, 0)
    counts = jnp.sum(kind.reshape(len(scores), -1, _ITEM_MULTIPLE), axis=2, dtype=jnp.int32)
    counts = jax.lax.optimization_barrier(counts)
    above, equal, strange = (jnp.sum((counts >> _BITS * i) & (1 << _BITS) - 1, axis=1) for i in range(3))
    # Counting all and taking away the few that are excluded spares a mask of the size of the scores.
    where = where & (excluded < catalogue)
    gone = jnp.take_along_axis(scores, jnp.where(where, excluded, 0), axis=1)
    above -= jnp.sum(where & (gone > target), axis=1, dtype=jnp.int32)
    equal -= jnp.sum(where & (gone == target), axis=1, dtype=jnp.int32)
    return *_missed(above, equal, item, excluded, where, catalogue), ~jnp.any(strange)


def count_in_blocks(
    queries: Sequence[jax.Array],
    tables: Sequence[jax.Array],
    weights: Sequence[float],
    same: jax.Array,
    item: jax.Array,
    excluded: jax.Array,
    where: jax.Array,
    *,
    catalogue: int,
) -> Counts:
    """`count_ranks` of the weighted sum of some components, with no more than `BLOCK` items scored at a time.

    Args:
      queries: float32 [batch, dim] of each component.
      tables: float32 [item, dim] of each component, padded to a multiple of `BLOCK` items.
      weights: of each component.
      same: int32 [item], padded likewise: the `twins` of these tables.
      item, excluded, where, catalogue: as of `count_ranks`.
    """
    parts = tuple(queries), tuple(tables), tuple(map(float, weights))
    inside = jnp.where(item < catalogue, item, 0)
    target, twin = _score_of_item(*parts, inside), same[inside]
    above = equal = jnp.zeros(len(item), jnp.int32)
    finite = jnp.bool_(True)
    for start in range(0, catalogue, BLOCK):
        of_block = _count_block(*parts, same, target, twin, excluded, where, start, block=BLOCK, catalogue=catalogue)
        above, equal, finite = above + of_block[0], equal + of_block[1], finite & of_block[2]
    return *_missed(above, equal, item, excluded, where & (excluded < catalogue), catalogue), finite


def twins(tables: Sequence[Any]) -> np.ndarray:
    """int32 [item]: of each item the first one with the same rows in all the tables, each float [item, dim]."""
    tables = [np.asarray(table, np.float32) for table in tables]
    items = len(tables[0])
    draw = np.random.default_rng(0)
    factors = [draw.integers(2**63, size=table.shape[1], dtype=np.uint64) * 2 + 1 for table in tables]

    def bits(table: np.ndarray, rows: Any) -> np.ndarray:
        return (table[rows] + np.float32(0)).view(np.uint32)  # that makes -0 a 0

    hashes = np.zeros(items, np.uint64)
    first = np.arange(items)
    parts = [slice(start, start + _HASHED) for start in range(0, items, _HASHED)]
    for part in parts:
        for table, factor in zip(tables, factors, strict=True):
            hashes[part] += bits(table, part).astype(np.uint64) @ factor
    _, lead, group = np.unique(hashes, return_index=True, return_inverse=True)
    for part in parts:
        led = lead[group[part]]
        equal = np.logical_and.reduce([(bits(t, part) == bits(t, led)).all(axis=1) for t in tables])
        first[part] = np.where(equal, led, first[part])  # rows that only share a hash stand alone
    return first.astype(np.int32)


@jax.jit
def _score_of_item(
    queries: tuple[jax.Array, ...], tables: tuple[jax.Array, ...], weights: tuple[float, ...], item: jax.Array
) -> jax.Array:
    """float32 [batch], the score of one item for each query."""
    rows = zip(queries, tables, weights, strict=True)
    return sum(
        (weight * jnp.einsum("bd,bd->b", query, table[item], precision="highest") for query, table, weight in rows),
        jnp.zeros((), jnp.float32),
    )


@functools.partial(jax.jit, static_argnames=("block", "catalogue"))
def _count_block(
    queries: tuple[jax.Array, ...],
    tables: tuple[jax.Array, ...],
    weights: tuple[float, ...],
    same: jax.Array,
    target: jax.Array,
    twin: jax.Array,
    excluded: jax.Array,
    where: jax.Array,
    start: jax.Array | int,
    *,
    block: int,
    catalogue: int,
) -> Counts:
    """What the items from `start` on add to the counts."""
    parts = zip(queries, tables, weights, strict=True)
    scores = sum(
        (weight * scores_of(query, stretch(table, start, block)) for query, table, weight in parts),
        jnp.zeros((), jnp.float32),
    )
    items = start + jnp.arange(block, dtype=jnp.int32)
    counted = jnp.broadcast_to((items < catalogue)[None], scores.shape)
    here = where & (excluded >= start) & (excluded < start + block)
    gone = jnp.where(here, excluded - start, block)  # beyond the block, so dropped
    kept = counted.at[jnp.arange(len(scores))[:, None], gone].set(False, mode="drop")
    alike = stretch(same, start, block)[None, :] == twin[:, None]
    above = jnp.sum(kept & ~alike & (scores > target[:, None]), axis=1, dtype=jnp.int32)
    equal = jnp.sum(kept & (alike | (scores == target[:, None])), axis=1, dtype=jnp.int32)
    return above, equal, jnp.all(jnp.isfinite(scores) | ~counted)


def _missed(
    above: jax.Array, equal: jax.Array, item: jax.Array, excluded: jax.Array, where: jax.Array, catalogue: int
) -> tuple[jax.Array, jax.Array]:
    """The counts, those of a miss for a target that is excluded or outside the catalogue."""
    ranked = (item < catalogue) & ~jnp.any(where & (excluded == item[:, None]), axis=1)
    return jnp.where(ranked, above, MISS), jnp.where(ranked, equal, 1)
