"""Matrix products: how exact they are, and scores against a table too long to be multiplied at once."""

from typing import Any

import jax
import jax.numpy as jnp

from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.chunked import chunk_bounds, slice_rows

PRECISIONS = ("float32", "bfloat16")
"""Of what products take: float32 in full, or bfloat16, of which the sums still are float32."""

_ITEMS_AT_ONCE = 2**16  # XLA on CPU copies a whole side of a product before it multiplies


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


def scores_of_table(queries: jax.Array, table: jax.Array) -> jax.Array:
    """`scores_of` a table of any length, on a CPU made from one block of its rows after another."""
    block = min(_ITEMS_AT_ONCE, len(table))
    if block == len(table) or mesh.platform() != "cpu":
        return scores_of(queries, table)

    def write(number: jax.Array, scores: jax.Array) -> jax.Array:
        start, _ = chunk_bounds(number, block, len(table))
        of_block = scores_of(queries, slice_rows(table, start, block))
        return jax.lax.dynamic_update_slice_in_dim(scores, of_block, start, axis=1)

    return jax.lax.fori_loop(0, -(-len(table) // block), write, jnp.zeros((len(queries), len(table))))
