"""The sum over negatives of a softmax loss, with nothing of size [prefix, item] kept for long.

The sum over the negatives has a gradient of its own. Where all scores of a batch fit in memory it takes one product
of queries and table forwards and two backwards, as it must. Otherwise candidates come in blocks, and what a block
needs is computed again backwards. On a mesh each device takes its own prefixes and candidates, and sums are added up.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from alterrec_jax.hard_negatives.sets import Negatives, WindowNegatives
from alterrec_jax.losses import pallas_gpu
from alterrec_jax.numerics import MemoryLimits, product, scores_of
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.chunked import chunk_bounds, slice_rows


def log_sum_exp(
    queries: jax.Array,
    table: jax.Array,
    negatives: Negatives,
    candidates: int | None = None,
    block: int | None = None,
    gpu_kernels: bool = False,
    limits: MemoryLimits = MemoryLimits(),  # noqa: B008
) -> jax.Array:
    """float32 [prefix]: the logarithm of the sum of exp(score) over each prefix's negatives.

    Args:
      queries: float32 or bfloat16 [prefix, dim]; all products are as exact as they are.
      table: float32 [candidate, dim]; a score is the dot product of a query with a row.
      negatives: how often each candidate counts.
      candidates: rows of the table; those behind them are padding, and never count. None: all.
      block: candidates that a device takes at a time; None chooses by the size of the batch and of the table. Values
        and gradients depend on it in the last bits only.
      gpu_kernels: whether blocks are left to `kernels`, for negatives that are a window, and tables of which a device
        holds less than 2^31 numbers.
      limits: how many scores a device holds at a time, where `block` is None.

    Returns:
      minus infinity where a prefix has no negative; its gradient then is 0.
    """
    held = len(table) // mesh.size(mesh.MODEL)
    if block is None:
        prefixes = len(queries) // mesh.size(mesh.DATA)
        block = held if prefixes * held <= limits.scores else max(limits.scores_of_block // prefixes, 1)
    padded = candidates is not None and candidates != len(table)
    if not isinstance(negatives, WindowNegatives) or not isinstance(negatives.queries, jax.Array):
        gpu_kernels = False
    elif gpu_kernels:  # which count a table's entries in int32
        gpu_kernels = held * max(table.shape[1], negatives.table.shape[1]) < 2**31
    way = ReductionPlan(min(block, held), candidates if padded else None, gpu_kernels)
    return _log_sum_exp(way, queries, table, negatives)


class ReductionPlan(NamedTuple):
    """How the sum is made: candidates at a time, how many there are in all if some rows are padding, and whether blocks
    of a window are left to `kernels`."""

    block: int
    candidates: int | None
    kernels: bool


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _log_sum_exp(way: ReductionPlan, queries: jax.Array, table: jax.Array, negatives: Negatives) -> jax.Array:
    return _forward(way, queries, table, negatives)[0]


_PREFIX, _CANDIDATE = mesh.BATCH, mesh.ITEMS


def _forward(way: ReductionPlan, queries: jax.Array, table: jax.Array, negatives: Negatives) -> tuple[jax.Array, tuple]:
    specs = (_PREFIX, _CANDIDATE, negatives.specs)
    if way.block * mesh.size(mesh.MODEL) == len(table):
        forward = mesh.shard_map(functools.partial(_sum_of_all, way), specs, (mesh.BATCH_AND_ITEMS, _PREFIX, _PREFIX))
        weights, log_sum, total = forward(queries, table, negatives)
        return log_sum, (queries, table, weights, total)
    log_sum = mesh.shard_map(functools.partial(_sum_in_blocks, way), specs, _PREFIX)(queries, table, negatives)
    return log_sum, (queries, table, negatives, log_sum)


def _backward(way: ReductionPlan, kept: tuple, cotangent: jax.Array) -> tuple[jax.Array, jax.Array, None]:
    queries, table, *found = kept
    if way.block * mesh.size(mesh.MODEL) == len(table):
        backward, specs = _gradients_of_all, (mesh.BATCH_AND_ITEMS, _PREFIX)
    else:
        backward, specs = functools.partial(_gradients_in_blocks, way), (found[0].specs, _PREFIX)
    program = mesh.shard_map(backward, (_PREFIX, _CANDIDATE, *specs, _PREFIX), (_PREFIX, _CANDIDATE))
    return *program(queries, table, *found, cotangent), None


_log_sum_exp.defvjp(_forward, _backward)


def _sum_of_all(
    way: ReductionPlan, queries: jax.Array, table: jax.Array, negatives: Negatives
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of what a device holds: the weights [prefix, candidate], the logarithm of all devices' sum, and the sum itself,
    both [prefix]; the latter and the weights are divided by the exp of the largest score."""
    scores, counts = scores_of(queries, table), _counts(way, 0, len(table), negatives)
    largest = mesh.pmax(_largest(scores, counts), mesh.MODEL)
    weights = _weights(scores, counts, largest)
    total = mesh.psum(jnp.sum(weights, axis=1), mesh.MODEL)
    return weights, jnp.log(total) + largest, total


def _gradients_of_all(
    queries: jax.Array, table: jax.Array, weights: jax.Array, total: jax.Array, cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Of queries and table, from what `_sum_of_all` found."""
    scale = jnp.where(total > 0, cotangent / jnp.where(total > 0, total, 1), 0)[:, None]
    of_queries = mesh.psum(scale * product(weights, table, queries.dtype), mesh.MODEL)
    of_table = mesh.psum(product(weights.T, scale * queries, queries.dtype), mesh.DATA)
    return of_queries.astype(queries.dtype), of_table


def _sum_in_blocks(way: ReductionPlan, queries: jax.Array, table: jax.Array, negatives: Negatives) -> jax.Array:
    """float32 [prefix]: the logarithm of all devices' sum, each taking a block of its candidates after another."""

    def add(number: jax.Array, sums: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        largest, total = sums
        start, counts = _block(way, number, len(table), negatives)
        scores = scores_of(queries, slice_rows(table, start, way.block))
        new = jnp.maximum(largest, _largest(scores, counts))
        return new, total * jnp.exp(largest - new) + jnp.sum(_weights(scores, counts, new), axis=1)

    if way.kernels and isinstance(negatives, WindowNegatives):
        largest, total = pallas_gpu.window_sums(queries, table, negatives, way.candidates)
    else:
        lowest = jnp.full(queries.shape[:1], jnp.finfo(jnp.float32).min)  # how many, an export does not know
        largest, total = jax.lax.fori_loop(0, -(-len(table) // way.block), add, (lowest, jnp.zeros_like(lowest)))
    of_all = mesh.pmax(largest, mesh.MODEL)
    return jnp.log(mesh.psum(total * jnp.exp(largest - of_all), mesh.MODEL)) + of_all


def _gradients_in_blocks(
    way: ReductionPlan,
    queries: jax.Array,
    table: jax.Array,
    negatives: Negatives,
    log_sum: jax.Array,
    cotangent: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Of queries and table, with all scores made again."""
    shift = jnp.where(log_sum > -jnp.inf, log_sum, 0)

    def add(number: jax.Array, gradients: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        of_queries, of_table = gradients
        start, counts = _block(way, number, len(table), negatives)
        rows = slice_rows(table, start, way.block)
        scores = scores_of(queries, rows) - shift[:, None]
        weights = counts * jnp.exp(jnp.where(counts > 0, scores, 0)) * cotangent[:, None]
        before = slice_rows(of_table, start, way.block)
        of_table = jax.lax.dynamic_update_slice_in_dim(
            of_table, before + product(weights.T, queries, queries.dtype), start, 0
        )
        return of_queries + product(weights, rows, queries.dtype), of_table

    if way.kernels and isinstance(negatives, WindowNegatives):
        found = pallas_gpu.window_gradients(queries, table, negatives, way.candidates, log_sum, cotangent)
    else:
        nothing = (jnp.zeros(queries.shape), jnp.zeros_like(table))
        found = jax.lax.fori_loop(0, -(-len(table) // way.block), add, nothing)
    of_queries, of_table = found
    return mesh.psum(of_queries, mesh.MODEL).astype(queries.dtype), mesh.psum(of_table, mesh.DATA)


def _largest(scores: jax.Array, counts: jax.Array) -> jax.Array:
    """The largest score of each row that counts; the least float where none does."""
    return jnp.max(jnp.where(counts > 0, scores, jnp.finfo(scores.dtype).min), axis=1)


def _weights(scores: jax.Array, counts: jax.Array, largest: jax.Array) -> jax.Array:
    """counts * exp(score - largest)."""
    # exp of a score that does not count may overflow: it is replaced before, not masked after.
    return counts * jnp.exp(jnp.where(counts > 0, scores - largest[:, None], 0))


def _block(way: ReductionPlan, number: jax.Array, held: int, negatives: Negatives) -> tuple[jax.Array, jax.Array]:
    """Where a block of the candidates that a device holds starts, and the counts of what is new in it."""
    start, new = chunk_bounds(number, way.block, held)
    return start, jnp.where(new[None, :], _counts(way, start, held, negatives), 0)


def _counts(way: ReductionPlan, start: jax.Array | int, held: int, negatives: Negatives) -> jax.Array:
    """The counts of a block, 0 for padding."""
    first = mesh.shard_offset(held, mesh.MODEL)
    counts = negatives.counts(start, way.block, first)
    if way.candidates is None:
        return counts
    return jnp.where((first + start + jnp.arange(way.block) < way.candidates)[None, :], counts, 0)
