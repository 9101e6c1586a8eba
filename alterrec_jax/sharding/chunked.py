"""Long arrays a block of rows at a time, so that what is made of them is never held for all of them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from alterrec_jax.sharding import mesh

RowFunction = Callable[[Any, Any, jax.Array, jax.Array | None], jax.Array]
"""Given parameters, a tree of rows [row, ...], their numbers int32 [row] and a key or None: [row, dim], each row of
which depends on its own rows, number and the key alone."""


def chunk_bounds(number: jax.Array, size: int, total: int) -> tuple[jax.Array, jax.Array]:
    """Where block `number` of some rows starts, and which of its rows are new: bool [size].

    All blocks are of one size, so the last one reaches back into its neighbour.
    """
    start = jnp.minimum(number * size, total - size)
    return start, start + jnp.arange(size) >= number * size


def slice_rows(array: jax.Array, start: jax.Array | int, size: int) -> jax.Array:
    """Rows start .. start+size-1."""
    return array if size == len(array) else jax.lax.dynamic_slice_in_dim(array, start, size)


def rows_in_blocks(
    function: RowFunction, params: Any, rows: Any, key: jax.Array | None, block: int, *, learned_rows: bool = False
) -> jax.Array:
    """`function` of all rows, each device of the axis `model` at its own; backwards, blocks are computed again.

    Args:
      function: what is applied.
      params: what is differentiated.
      rows: a tree of [row, ...].
      key: for dropout; None without.
      block: rows at a time. Where a device has no more, the function is called once, and differentiated as it is.
      learned_rows: whether the rows are differentiated, too; they are floats then.
    """
    count = len(jax.tree.leaves(rows)[0])
    held = count // mesh.size(mesh.MODEL)
    if held <= block:
        numbers = jnp.arange(count, dtype=jnp.int32)
        return mesh.with_sharding_constraint(function(params, rows, numbers, key), mesh.ITEMS)
    blocks = -(-held // block)

    def of_block(params: Any, some: Any, start: jax.Array, key: jax.Array | None) -> jax.Array:
        numbers = mesh.shard_offset(held, mesh.MODEL) + start + jnp.arange(block, dtype=jnp.int32)
        return function(params, some, numbers, key)

    def sliced(rows: Any, start: jax.Array) -> Any:
        return jax.tree.map(lambda array: slice_rows(array, start, block), rows)

    def forward(params: Any, rows: Any, key: jax.Array | None) -> jax.Array:
        def write(number: jax.Array, out: jax.Array) -> jax.Array:
            start, new = chunk_bounds(number, block, held)
            value = of_block(params, sliced(rows, start), start, key)
            value = jnp.where(new[:, None], value, slice_rows(out, start, block))
            return jax.lax.dynamic_update_slice_in_dim(out, value, start, axis=0)

        one = jax.eval_shape(lambda: of_block(params, sliced(rows, jnp.int32(0)), jnp.int32(0), key))
        return jax.lax.fori_loop(0, blocks, write, jnp.zeros((held, *one.shape[1:]), one.dtype))

    def backward(params: Any, rows: Any, key: jax.Array | None, cotangent: jax.Array) -> Any:
        def add(number: jax.Array, gradients: Any) -> Any:
            start, new = chunk_bounds(number, block, held)
            own, some = jnp.where(new[:, None], slice_rows(cotangent, start, block), 0), sliced(rows, start)
            of_params, of_rows = gradients
            if not learned_rows:
                (more,) = jax.vjp(lambda params: of_block(params, some, start, key), params)[1](own)
                return jax.tree.map(jnp.add, of_params, more), of_rows
            more, of_some = jax.vjp(lambda params, some: of_block(params, some, start, key), params, some)[1](own)
            # Rows that are not new have a gradient of zero here.
            of_rows = jax.tree.map(
                lambda whole, part: jax.lax.dynamic_update_slice_in_dim(
                    whole, slice_rows(whole, start, block) + part, start, axis=0
                ),
                of_rows,
                of_some,
            )
            return jax.tree.map(jnp.add, of_params, more), of_rows

        nothing = jax.tree.map(jnp.zeros_like, (params, rows if learned_rows else None))
        of_params, of_rows = jax.lax.fori_loop(0, blocks, add, nothing)
        return jax.tree.map(lambda part: mesh.psum(part, mesh.MODEL), of_params), of_rows

    specs = (mesh.REPLICATED, mesh.ITEMS, mesh.REPLICATED)

    @jax.custom_vjp
    def whole(params: Any, rows: Any) -> jax.Array:
        return mesh.shard_map(forward, specs, mesh.ITEMS)(params, rows, key)

    def whole_backward(residuals: tuple[Any, Any], cotangent: jax.Array) -> tuple[Any, Any]:
        places = (mesh.REPLICATED, mesh.ITEMS if learned_rows else None)
        of_both = mesh.shard_map(backward, (*specs, mesh.ITEMS), places)
        return tuple(of_both(*residuals, key, cotangent))

    whole.defvjp(lambda params, rows: (whole(params, rows), (params, rows)), whole_backward)
    return whole(params, rows)
