"""Rows of an item table by item number, where each device may hold a part of the table only."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from alterrec_jax.sharding import mesh


def lookup(table: jax.Array, items: jax.Array, spec: PartitionSpec = mesh.BATCH) -> jax.Array:
    """[..., dim] of the table's dtype, `table[items]`.

    Every device looks up what it holds, and the sum over `model` is complete. Backwards, the rows' gradients go to all
    devices of `data`, and each adds up those of its own items: many fewer numbers than a gradient of the table.

    Args:
      table: float32 [item, dim].
      items: int32 [...], numbers below the table's length.
      spec: how `items` lie: by `BATCH` over the axis `data`, or by `REPLICATED`.
    """
    return table[items] if mesh.devices() == 1 else _lookup(spec, len(table), table, items)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _lookup(spec: PartitionSpec, length: int, table: jax.Array, items: jax.Array) -> jax.Array:
    def local(table: jax.Array, items: jax.Array) -> jax.Array:
        here, place = local_rows(items, len(table))
        return mesh.psum(jnp.where(here[..., None], table[place], 0), mesh.MODEL)

    return mesh.shard_map(local, (mesh.ITEMS, spec), spec)(table, items)


def _forward(spec: PartitionSpec, length: int, table: jax.Array, items: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _lookup(spec, length, table, items), items


def _backward(spec: PartitionSpec, length: int, items: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, None]:
    def local(items: jax.Array, cotangent: jax.Array) -> jax.Array:
        if spec == mesh.BATCH:
            items, cotangent = (mesh.all_gather(array, mesh.DATA) for array in (items, cotangent))
        rows = length // mesh.size(mesh.MODEL)
        here, place = local_rows(items, rows)
        nothing = jnp.zeros((rows, cotangent.shape[-1]), cotangent.dtype)
        return nothing.at[jnp.where(here, place, rows)].add(cotangent, mode="drop")

    return mesh.shard_map(local, (spec, spec), mesh.ITEMS)(items, cotangent), None


_lookup.defvjp(_forward, _backward)


def local_rows(items: jax.Array, rows: int) -> tuple[jax.Array, jax.Array]:
    """Which rows this device holds, of so many that each one has along `model`, and their places (0 for the others)."""
    place = items - mesh.shard_offset(rows, mesh.MODEL)
    here = (place >= 0) & (place < rows)
    return here, jnp.where(here, place, 0)
