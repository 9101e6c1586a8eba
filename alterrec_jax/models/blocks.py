"""A function of rows, applied to a few rows at a time, so that its inner layers never hold all of them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

RowFunction = Callable[[Any, jax.Array, jax.Array | None], jax.Array]
"""Given parameters, rows [row, ...] and a key or None: [row, dim], each row of which depends on its own row alone."""


def rows_in_blocks(function: RowFunction, params: Any, rows: jax.Array, key: jax.Array | None, block: int) -> jax.Array:
    """`function` of all rows; backwards, every block is computed again.

    Args:
      function: what is applied.
      params: what is differentiated; the rows are not.
      rows: [row, ...].
      key: for dropout, folded with the number of the block; None without.
      block: rows at a time. Where there are no more, the function is called once, and differentiated as it is.
    """
    if len(rows) <= block:
        return function(params, rows, key)
    blocks = -(-len(rows) // block)

    def part(number: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        """Where a block starts, which of its rows are new (the last reaches back into its neighbour), and its key."""
        start = jnp.minimum(number * block, len(rows) - block)
        new = (start + jnp.arange(block) >= number * block)[:, None]
        return start, new, None if key is None else jax.random.fold_in(key, number)

    def of_block(params: Any, start: jax.Array, key: jax.Array | None) -> jax.Array:
        return function(params, jax.lax.dynamic_slice_in_dim(rows, start, block), key)

    @jax.custom_vjp
    def whole(params: Any) -> jax.Array:
        def write(number: jax.Array, out: jax.Array) -> jax.Array:
            start, new, block_key = part(number)
            before = jax.lax.dynamic_slice_in_dim(out, start, block)
            value = jnp.where(new, of_block(params, start, block_key), before)
            return jax.lax.dynamic_update_slice_in_dim(out, value, start, axis=0)

        one = jax.eval_shape(lambda: of_block(params, jnp.int32(0), part(jnp.int32(0))[2]))
        return jax.lax.fori_loop(0, blocks, write, jnp.zeros((len(rows), *one.shape[1:]), one.dtype))

    def backward(params: Any, cotangent: jax.Array) -> tuple[Any]:
        def add(number: jax.Array, gradients: Any) -> Any:
            start, new, block_key = part(number)
            own = jnp.where(new, jax.lax.dynamic_slice_in_dim(cotangent, start, block), 0)
            (more,) = jax.vjp(lambda params: of_block(params, start, block_key), params)[1](own)
            return jax.tree.map(jnp.add, gradients, more)

        return (jax.lax.fori_loop(0, blocks, add, jax.tree.map(jnp.zeros_like, params)),)

    whole.defvjp(lambda params: (whole(params), params), backward)
    return whole(params)
