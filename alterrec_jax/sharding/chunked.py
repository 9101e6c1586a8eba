"""Long arrays a block of rows at a time, so that what is made of them is never held for all of them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from alterrec_jax.sharding import mesh

RowFunction = Callable[[Any, jax.Array, jax.Array, jax.Array | None], jax.Array]
"""Given parameters, rows [row, ...], their numbers int32 [row] and a key or None: [row, dim], each row of which depends
on its own row, number and the key alone."""


def chunk_bounds(number: jax.Array, size: int, total: int) -> tuple[jax.Array, jax.Array]:
    """Where block `number` of some rows starts, and which of its rows are new: bool [size].

    All blocks are of one size, so the last one reaches back into its neighbour.
    """
    start = jnp.minimum(number * size, total - size)
    return start, start + jnp.arange(size) >= number * size


def slice_rows(array: jax.Array, start: jax.Array | int, size: int) -> jax.Array:
    """Rows start .. start+size-1."""
    return array if size == len(array) else jax.lax.dynamic_slice_in_dim(array, start, size)


def rows_in_blocks(function: RowFunction, params: Any, rows: jax.Array, key: jax.Array | None, block: int) -> jax.Array:
    """`function` of all rows, each device of the axis `model` at its own; backwards, blocks are computed again.

    Args:
      function: what is applied.
      params: what is differentiated; the rows are not.
      rows: [row, ...].
      key: for dropout; None without.
      block: rows at a time. Where a device has no more, the function is called once, and differentiated as it is.
    """
    held = len(rows) // mesh.size(mesh.MODEL)
    if held <= block:
        numbers = jnp.arange(len(rows), dtype=jnp.int32)
        return mesh.with_sharding_constraint(function(params, rows, numbers, key), mesh.ITEMS)
    blocks = -(-held // block)

    def of_block(params: Any, start: jax.Array, rows: jax.Array, key: jax.Array | None) -> jax.Array:
        numbers = mesh.shard_offset(held, mesh.MODEL) + start + jnp.arange(block, dtype=jnp.int32)
        return function(params, slice_rows(rows, start, block), numbers, key)

    def forward(params: Any, rows: jax.Array, key: jax.Array | None) -> jax.Array:
        def write(number: jax.Array, out: jax.Array) -> jax.Array:
            start, new = chunk_bounds(number, block, held)
            value = jnp.where(new[:, None], of_block(params, start, rows, key), slice_rows(out, start, block))
            return jax.lax.dynamic_update_slice_in_dim(out, value, start, axis=0)

        one = jax.eval_shape(lambda: of_block(params, jnp.int32(0), rows, key))
        return jax.lax.fori_loop(0, blocks, write, jnp.zeros((held, *one.shape[1:]), one.dtype))

    def backward(params: Any, rows: jax.Array, key: jax.Array | None, cotangent: jax.Array) -> Any:
        def add(number: jax.Array, gradients: Any) -> Any:
            start, new = chunk_bounds(number, block, held)
            own = jnp.where(new[:, None], slice_rows(cotangent, start, block), 0)
            (more,) = jax.vjp(lambda params: of_block(params, start, rows, key), params)[1](own)
            return jax.tree.map(jnp.add, gradients, more)

        gradients = jax.lax.fori_loop(0, blocks, add, jax.tree.map(jnp.zeros_like, params))
        return jax.tree.map(lambda part: mesh.psum(part, mesh.MODEL), gradients)

    specs = (mesh.REPLICATED, mesh.ITEMS, mesh.REPLICATED)

    @jax.custom_vjp
    def whole(params: Any) -> jax.Array:
        return mesh.shard_map(forward, specs, mesh.ITEMS)(params, rows, key)

    def whole_backward(params: Any, cotangent: jax.Array) -> tuple[Any]:
        of_params = mesh.shard_map(backward, (*specs, mesh.ITEMS), mesh.REPLICATED)
        return (of_params(params, rows, key, cotangent),)

    whole.defvjp(lambda params: (whole(params), params), whole_backward)
    return whole(params)
