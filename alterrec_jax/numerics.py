"""Matrix products: how exact they are, how much is held at a time, and scores against a table too long for one."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.chunked import chunk_bounds, slice_rows


class MemoryLimits(NamedTuple):
    """How much a device holds at a time in a train step. None of it changes a number by more than rounding.

    Attributes:
      scores: of a batch, that may be held at once: 256 MiB in float32, and about three times that in a step. Where a
        batch has more, windows are mined for a few prefixes at a time, and losses are summed in blocks of candidates.
      scores_of_piece: of the prefixes that a CPU mines together where all are too many.
      scores_of_block: of a block of candidates, of which about four matrices are held at once.
      items_of_product: rows of a table that a CPU multiplies with at a time; XLA copies a whole side of a product there
        before it multiplies.
      rows_of_table: items whose vectors pass through an MLP together.
    """

    scores: int = 2**26
    scores_of_piece: int = 2**23
    scores_of_block: int = 2**22
    items_of_product: int = 2**16
    rows_of_table: int = 2**14


def precision_of(dtype: jax.typing.DTypeLike) -> jax.lax.Precision | None:
    """What makes a device multiply all digits of float32, where by default it would not."""
    return jax.lax.Precision.HIGHEST if jnp.dtype(dtype) == jnp.float32 else None


def layer_precision(dtype: jax.typing.DTypeLike) -> dict[str, Any]:
    """Arguments of a flax layer whose products take `dtype`; parameters stay float32."""
    return {"dtype": jnp.dtype(dtype), "precision": precision_of(dtype)}


def product(left: jax.Array, right: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """float32 left @ right, both rounded to `dtype` before."""
    return jnp.matmul(
        left.astype(dtype), right.astype(dtype), precision=precision_of(dtype), preferred_element_type=jnp.float32
    )


def scores_of(queries: jax.Array, rows: jax.Array) -> jax.Array:
    """float32 [query, row]: the dot products, as exact as the queries are."""
    return product(queries, rows.T, queries.dtype)


def scores_of_table(
    queries: jax.Array,
    table: jax.Array,
    items_at_once: int = MemoryLimits().items_of_product,  # noqa: B008
) -> jax.Array:
    """`scores_of` a table of any length, on a CPU made from one block of so many of its rows after another."""
    block = min(items_at_once, len(table))
    if block == len(table) or mesh.platform() != "cpu":
        return scores_of(queries, table)

    def write(number: jax.Array, scores: jax.Array) -> jax.Array:
        start, _ = chunk_bounds(number, block, len(table))
        of_block = scores_of(queries, slice_rows(table, start, block))
        return jax.lax.dynamic_update_slice_in_dim(scores, of_block, start, axis=1)

    return jax.lax.fori_loop(0, -(-len(table) // block), write, jnp.zeros((len(queries), len(table))))
