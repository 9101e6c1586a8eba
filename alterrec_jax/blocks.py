"""Long arrays a block of rows at a time, so that what is made of them is never held for all of them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

RowFunction = Callable[[Any, jax.Array, jax.Array | None], jax.Array]
"""Given parameters, rows [row, ...] and a key or None: [row, dim], each row of which depends on its own row alone."""


def block_at(number: jax.Array, size: int, total: int) -> tuple[jax.Array, jax.Array]:
    """Where block `number` of some rows starts, and which of its rows are new: bool [size].

    All blocks are of one size, so the last one reaches back into its neighbour.
    """
    start = jnp.minimum(number * size, total - size)
    return start, start + jnp.arange(size) >= number * size


def stretch(array: jax.Array, start: jax.Array | int, size: int) -> jax.Array:
    """Rows start .. start+size-1."""
    return array if size == len(array) else jax.lax.dynamic_slice_in_dim(array, start, size)


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
        """Where a block starts, which of its rows are new, and its key."""
        start, new = block_at(number, block, len(rows))
        return start, new[:, None], None if key is None else jax.random.fold_in(key, number)

    def of_block(params: Any, start: jax.Array, key: jax.Array | None) -> jax.Array:
        return function(params, stretch(rows, start, block), key)

    @jax.custom_vjp
    def whole(params: Any) -> jax.Array:
        def write(number: jax.Array, out: jax.Array) -> jax.Array:
            start, new, block_key = part(number)
            before = stretch(out, start, block)
            value = jnp.where(new, of_block(params, start, block_key), before)
            return jax.lax.dynamic_update_slice_in_dim(out, value, start, axis=0)

        one = jax.eval_shape(lambda: of_block(params, jnp.int32(0), part(jnp.int32(0))[2]))
        return jax.lax.fori_loop(0, blocks, write, jnp.zeros((len(rows), *one.shape[1:]), one.dtype))

    def backward(params: Any, cotangent: jax.Array) -> tuple[Any]:
        def add(number: jax.Array, gradients: Any) -> Any:
            start, new, block_key = part(number)
            own = jnp.where(new, stretch(cotangent, start, block), 0)
            (more,) = jax.vjp(lambda params: of_block(params, start, block_key), params)[1](own)
            return jax.tree.map(jnp.add, gradients, more)

        return (jax.lax.fori_loop(0, blocks, add, jax.tree.map(jnp.zeros_like, params)),)

    whole.defvjp(lambda params: (whole(params), params), backward)
    return whole(params)
