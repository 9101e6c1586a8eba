"""The losses of both networks (eqs. 2-5 of the AlterRec paper), with nothing of size [prefix, item] kept for long.

The sum over the negatives has a gradient of its own. Where all scores of a batch fit in memory it takes one product
of queries and table forwards and two backwards, as it must. Otherwise candidates come in blocks, and what a block
needs is computed again backwards.
"""

import functools

import jax
import jax.numpy as jnp

from alterrec_jax.blocks import block_at, stretch
from alterrec_jax.mining import HELD
from alterrec_jax.negatives import Negatives
from alterrec_jax.products import product, scores_of

_BLOCK = 2**22  # scores of a block, of which about four matrices are held at once


def sampled_softmax_loss(
    target_scores: jax.Array,
    log_sum: jax.Array,
    positive_scores: jax.Array | None = None,
    positive_where: jax.Array | None = None,
    beta: float = 0.0,
) -> jax.Array:
    """Cross-entropy of the target, and of augmented positives, against one set of negatives.

        L = -log softmax(y_t over {t} + N)  +  beta * sum over a in A of -log softmax(y_a over {a} + N)

    Every positive stands alone against the same N: no other positive is in its denominator (eqs. 4, 5).
    With y the positive's score and z = log sum over n in N of exp(y_n), each term is softplus(z - y).

    Args:
      target_scores: float [prefix], y_t.
      log_sum: float [prefix], z, as from `log_sum_exp`; minus infinity where N is empty.
      positive_scores: float [prefix, positive], y_a; None without augmentation.
      positive_where: bool [prefix, positive], which of them count (an augmented positive that is t does not).
      beta: weight of each augmented positive.

    Returns:
      float [prefix]. 0 where N is empty, with a gradient of 0.
    """
    some = log_sum > -jnp.inf
    loss = _softplus_where(some, log_sum - target_scores)
    if positive_scores is None or positive_where is None:
        return loss
    augmented = _softplus_where(some[:, None] & positive_where, log_sum[:, None] - positive_scores)
    return loss + beta * jnp.sum(augmented, axis=1)


def _softplus_where(where: jax.Array, values: jax.Array) -> jax.Array:
    return jnp.where(where, jax.nn.softplus(jnp.where(where, values, 0.0)), 0.0)


def log_sum_exp(queries: jax.Array, table: jax.Array, negatives: Negatives, block: int | None = None) -> jax.Array:
    """float32 [prefix]: the logarithm of the sum of exp(score) over each prefix's negatives.

    Args:
      queries: float32 or bfloat16 [prefix, dim]; all products are as exact as they are.
      table: float32 [candidate, dim]; a score is the dot product of a query with a row.
      negatives: how often each candidate counts.
      block: candidates at a time; None chooses by the size of the batch and of the table. Values and gradients
        depend on it in the last bits only.

    Returns:
      minus infinity where a prefix has no negative; its gradient then is 0.
    """
    candidates = len(table)
    if block is None:
        block = candidates if len(queries) * candidates <= HELD else max(_BLOCK // len(queries), 1)
    return _log_sum_exp(min(block, candidates), queries, table, negatives)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _log_sum_exp(block: int, queries: jax.Array, table: jax.Array, negatives: Negatives) -> jax.Array:
    return _forward(block, queries, table, negatives)[0]


def _forward(block: int, queries: jax.Array, table: jax.Array, negatives: Negatives) -> tuple[jax.Array, tuple]:
    if block == len(table):
        weights, largest = _weights(queries, table, negatives.counts(0, block))
        total = jnp.sum(weights, axis=1)
        return jnp.log(total) + largest, (queries, table, weights, total)

    def add(number: jax.Array, sums: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        largest, total = sums
        start, counts = _block(number, block, len(table), negatives)
        weights, of_block = _weights(queries, stretch(table, start, block), counts)
        new = jnp.maximum(largest, of_block)
        return new, total * jnp.exp(largest - new) + jnp.sum(weights, axis=1) * jnp.exp(of_block - new)

    lowest = jnp.full(len(queries), jnp.finfo(jnp.float32).min)
    largest, total = jax.lax.fori_loop(0, -(-len(table) // block), add, (lowest, jnp.zeros_like(lowest)))
    log_sum = jnp.log(total) + largest
    return log_sum, (queries, table, negatives, log_sum)


def _backward(block: int, kept: tuple, cotangent: jax.Array) -> tuple[jax.Array, jax.Array, None]:
    queries, table, *_ = kept
    if block == len(table):
        _, _, weights, total = kept
        scale = jnp.where(total > 0, cotangent / jnp.where(total > 0, total, 1), 0)[:, None]
        of_queries = scale * product(weights, table, queries.dtype)
        return of_queries.astype(queries.dtype), product(weights.T, scale * queries, queries.dtype), None
    _, _, negatives, log_sum = kept
    shift = jnp.where(log_sum > -jnp.inf, log_sum, 0)

    def add(number: jax.Array, gradients: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        of_queries, of_table = gradients
        start, counts = _block(number, block, len(table), negatives)
        rows = stretch(table, start, block)
        scores = scores_of(queries, rows) - shift[:, None]
        weights = counts * jnp.exp(jnp.where(counts > 0, scores, 0)) * cotangent[:, None]
        before = stretch(of_table, start, block)
        of_table = jax.lax.dynamic_update_slice_in_dim(
            of_table, before + product(weights.T, queries, queries.dtype), start, 0
        )
        return of_queries + product(weights, rows, queries.dtype), of_table

    nothing = (jnp.zeros(queries.shape), jnp.zeros_like(table))
    of_queries, of_table = jax.lax.fori_loop(0, -(-len(table) // block), add, nothing)
    return of_queries.astype(queries.dtype), of_table, None


_log_sum_exp.defvjp(_forward, _backward)


def _weights(queries: jax.Array, rows: jax.Array, counts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """counts * exp(score - largest), and the largest score that counts (the least float where none does)."""
    scores = scores_of(queries, rows)
    counted = jnp.where(counts > 0, scores, jnp.finfo(scores.dtype).min)
    largest = jnp.max(counted, axis=1)
    # exp of a score that does not count may overflow: it is replaced before, not masked after.
    return counts * jnp.exp(jnp.where(counts > 0, scores - largest[:, None], 0)), largest


def _block(number: jax.Array, block: int, candidates: int, negatives: Negatives) -> tuple[jax.Array, jax.Array]:
    """Where a block starts, and the counts of what is new in it."""
    start, new = block_at(number, block, candidates)
    return start, jnp.where(new[None, :], negatives.counts(start, block), 0)
