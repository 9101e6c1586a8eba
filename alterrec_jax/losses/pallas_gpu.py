"""The sum over a rank window and its gradients as kernels for NVIDIA GPUs, written in Pallas and compiled by Triton.

They compute what `losses` computes in blocks of items, but a tile of scores, of the network or of its peer, is made,
compared, summed and forgotten within one multiprocessor. Sums are added up in a fixed order: the same input gives the
same bits. On other devices the kernels are interpreted: right, and very slow.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from alterrec_jax.hard_negatives.sets import WindowNegatives
from alterrec_jax.numerics import precision_of
from alterrec_jax.sharding import mesh

_PREFIXES, _ITEMS, _DIMS = 64, 64, 64  # of a tile; what Triton loads are powers of 2
_PROGRAMS = 512  # that a GPU wants at least; fewer leave multiprocessors idle
_WARPS, _STAGES = 8, 2
_LEAST = float(jnp.finfo(jnp.float32).min)


class _Arguments(NamedTuple):
    """What every kernel reads, whole arrays or references to them."""

    queries: Any  # [prefix, dim]
    table: Any  # [item, dim]
    peer_queries: Any  # [prefix, peer's dim]
    peer_table: Any  # [item, peer's dim]
    upper: Any  # float32 [prefix]
    lower: Any  # float32 [prefix]
    targets: Any  # int32 [prefix]
    numbers: Any  # int32 [2]: of the first item that the device holds, and of the first that is padding


def window_sums(
    queries: jax.Array, table: jax.Array, negatives: WindowNegatives, candidates: int | None
) -> tuple[jax.Array, jax.Array]:
    """Of the items that a device holds: the largest score of each prefix' window, and the sum over the window of
    exp(score - largest).

    Args:
      queries: float32 or bfloat16 [prefix, dim].
      table: float32 [item, dim].
      negatives: the window, with the peer's queries and its table of the same items.
      candidates: how many items there are on all devices; those behind them are padding. None: no padding.

    Returns:
      float32 [prefix] twice; the least float and 0 where the window is empty.
    """
    given = _arguments(queries, table, negatives, candidates)
    (prefixes, _), (items, _) = queries.shape, table.shape
    grid, blocks = _by_prefixes(prefixes, items)

    def of_window(*refs: Any) -> None:
        *given, largest_ref, total_ref = refs
        some, part = pl.program_id(0) * _PREFIXES, pl.program_id(1)

        def add(number: jax.Array, sums: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            largest, total = sums
            scores, counted = _tile_of_window(_Arguments(*given), some, (part * blocks + number) * _ITEMS)
            new = jnp.maximum(largest, jnp.max(jnp.where(counted, scores, _LEAST), axis=1))
            weights = _weights(scores, counted, new)
            return new, total * jnp.exp(largest - new) + jnp.sum(weights, axis=1)

        nothing = jnp.full(_PREFIXES, _LEAST), jnp.zeros(_PREFIXES)
        for ref, found in zip((largest_ref, total_ref), jax.lax.fori_loop(0, blocks, add, nothing), strict=True):
            rows = some + jnp.arange(_PREFIXES)
            triton.store(ref.at[part, rows], found, mask=rows < prefixes)

    shape = jax.ShapeDtypeStruct((grid[1], prefixes), jnp.float32)
    largest, total = _call(of_window, grid, (shape, shape))(*given)
    of_all = jnp.max(largest, axis=0)
    return of_all, jnp.sum(total * jnp.exp(largest - of_all[None]), axis=0)


def window_gradients(
    queries: jax.Array,
    table: jax.Array,
    negatives: WindowNegatives,
    candidates: int | None,
    log_sum: jax.Array,
    cotangent: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """What one device adds to the gradients of queries and table.

    Args:
      queries, table, negatives, candidates: as of `window_sums`.
      log_sum: float32 [prefix], the logarithm of the sum over all devices; minus infinity where a window is empty.
      cotangent: float32 [prefix], its gradient.

    Returns:
      float32 [prefix, dim] and [item, dim].
    """
    (prefixes, dim), (items, _) = queries.shape, table.shape
    shift = jnp.where(log_sum > -jnp.inf, log_sum, 0)
    given = (*_arguments(queries, table, negatives, candidates), shift, cotangent)
    (groups, parts), blocks = _by_prefixes(prefixes, items)
    chunks = range(0, dim, _DIMS)

    def weights_of(refs: Sequence[Any], some: jax.Array, start: jax.Array) -> jax.Array:
        *window, shift, cotangent = refs
        scores, counted = _tile_of_window(_Arguments(*window), some, start)
        weights = _weights(scores, counted, _some(shift, some, 0.0))
        return (weights * _some(cotangent, some, 0.0)[:, None]).astype(queries.dtype)

    def of_queries(*refs: Any) -> None:
        *given, out = refs
        some, part = pl.program_id(0) * _PREFIXES, pl.program_id(1)

        def add(number: jax.Array, sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            start = (part * blocks + number) * _ITEMS
            weights = weights_of(given, some, start)
            tiles = (_tile(given[1], start, _ITEMS, first, queries.dtype) for first in chunks)
            return tuple(of_chunk + _product(weights, tile) for of_chunk, tile in zip(sums, tiles, strict=True))

        found = jax.lax.fori_loop(0, blocks, add, tuple(jnp.zeros((_PREFIXES, _DIMS)) for _ in chunks))
        _write(out, found, some, part)

    def of_table(*refs: Any) -> None:
        *given, out = refs
        start = pl.program_id(0) * _ITEMS

        def add(number: jax.Array, sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            some = number * _PREFIXES
            weights = weights_of(given, some, start).T
            tiles = (_tile(given[0], some, _PREFIXES, first, queries.dtype) for first in chunks)
            return tuple(of_chunk + _product(weights, tile) for of_chunk, tile in zip(sums, tiles, strict=True))

        found = jax.lax.fori_loop(0, groups, add, tuple(jnp.zeros((_ITEMS, _DIMS)) for _ in chunks))
        _write(out, found, start)

    by_part = _call(of_queries, (groups, parts), jax.ShapeDtypeStruct((parts, prefixes, dim), jnp.float32))(*given)
    of_rows = _call(of_table, (pl.cdiv(items, _ITEMS),), jax.ShapeDtypeStruct((items, dim), jnp.float32))(*given)
    return jnp.sum(by_part, axis=0), of_rows


def _arguments(queries: jax.Array, table: jax.Array, negatives: WindowNegatives, candidates: int | None) -> _Arguments:
    first = mesh.shard_offset(len(table), mesh.MODEL)
    padding = first + len(table) if candidates is None else candidates
    window = negatives.window
    numbers = jnp.stack([jnp.asarray(first, jnp.int32), jnp.asarray(padding, jnp.int32)])
    return _Arguments(
        queries, table, negatives.queries, negatives.table, window.upper, window.lower, negatives.targets, numbers
    )


def _by_prefixes(prefixes: int, items: int) -> tuple[tuple[int, int], int]:
    """The grid of a kernel whose programs take some prefixes and a part of the items each, and the tiles of a part."""
    groups, tiles = pl.cdiv(prefixes, _PREFIXES), pl.cdiv(items, _ITEMS)
    blocks = pl.cdiv(tiles, pl.cdiv(_PROGRAMS, groups))
    return (groups, pl.cdiv(tiles, blocks)), blocks


def _call(kernel: Callable[..., None], grid: tuple[int, ...], out_shape: Any) -> Callable[..., Any]:
    return pl.pallas_call(
        kernel,
        grid=grid,
        out_shape=out_shape,
        compiler_params=triton.CompilerParams(num_warps=_WARPS, num_stages=_STAGES),
        interpret=mesh.platform() != "gpu",
    )


def _tile_of_window(given: _Arguments, some: jax.Array, start: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Scores of the prefixes from `some` on for the items from `start` on, and which of the items are negatives."""
    peer = _scores(given.peer_queries, given.peer_table, some, start)
    here, (first, padding) = start + jnp.arange(_ITEMS), (given.numbers[0], given.numbers[1])
    upper, lower = (_some(border, some, -jnp.inf)[:, None] for border in (given.upper, given.lower))
    targets = _some(given.targets, some, -1)[:, None]
    there = (here < given.table.shape[0]) & (first + here < padding)
    counted = (peer < upper) & (peer >= lower) & there[None] & ((first + here)[None] != targets)
    return _scores(given.queries, given.table, some, start), counted


def _weights(scores: jax.Array, counted: jax.Array, shift: jax.Array) -> jax.Array:
    """exp(score - shift) of a tile, 0 for what is no negative."""
    return jnp.where(counted, jnp.exp(jnp.where(counted, scores - shift[:, None], 0)), 0)


def _scores(queries: Any, table: Any, some: jax.Array, start: jax.Array) -> jax.Array:
    """float32 [prefix, item] of a tile: the dot products, one slice of the dimensions after another."""

    def add(number: jax.Array, scores: jax.Array) -> jax.Array:
        of_queries = _tile(queries, some, _PREFIXES, number * _DIMS, queries.dtype)
        return scores + _product(of_queries, _tile(table, start, _ITEMS, number * _DIMS, queries.dtype).T)

    # A loop of its own, so that Triton loads a slice while it multiplies the one before.
    return jax.lax.fori_loop(0, pl.cdiv(queries.shape[1], _DIMS), add, jnp.zeros((_PREFIXES, _ITEMS)))


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    exact = precision_of(left.dtype)
    return jnp.dot(left, right, precision=exact, preferred_element_type=jnp.float32)


def _tile(ref: Any, start: jax.Array, size: int, first: jax.Array | int, dtype: Any) -> jax.Array:
    """[size, dim] of the rows from `start` on and the dimensions from `first` on; zeros beyond the ends."""
    place, there = _place(ref, start, size, first)
    tile: jax.Array = triton.load(place, mask=there, other=0)
    return tile.astype(dtype)


def _place(ref: Any, start: jax.Array, size: int, first: jax.Array | int, *of: jax.Array) -> tuple[Any, jax.Array]:
    """A tile of a reference, or of its part `of`, and which of its entries are within the ends."""
    rows, columns = (start + jnp.arange(size))[:, None], (first + jnp.arange(_DIMS))[None]
    return ref.at[*of, rows, columns], (rows < ref.shape[-2]) & (columns < ref.shape[-1])


def _some(ref: Any, start: jax.Array, other: float) -> jax.Array:
    """Of the prefixes from `start` on; `other` beyond the end."""
    numbers = start + jnp.arange(_PREFIXES)
    found: jax.Array = triton.load(ref.at[numbers], mask=numbers < ref.shape[0], other=other)
    return found


def _write(ref: Any, found: tuple[jax.Array, ...], start: jax.Array, *of: jax.Array) -> None:
    """Writes the rows from `start` on, one slice of the dimensions after another, up to the ends."""
    for number, tile in enumerate(found):
        place, there = _place(ref, start, len(tile), number * _DIMS, *of)
        triton.store(place, tile, mask=there)
