"""Rows of item tables from one to another, some at a time, wherever the devices hold them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.lookup import local_rows, lookup

ROWS_AT_ONCE = 8192


def copy_rows(
    table: jax.Array, places: np.ndarray, source: jax.Array, rows: np.ndarray, rows_at_once: int = ROWS_AT_ONCE
) -> jax.Array:
    """A table with some of its rows replaced by rows of another one.

    Args:
      table: float [item, ...], over the mesh's item axis; it is taken over.
      places: int [row], which of its rows.
      source: float [other item, ...], likewise over the axis.
      rows: int [row], the rows of `source` that they become.
      rows_at_once: how many travel at a time; each device has a copy of them.
    """
    for start in range(0, len(places), rows_at_once):
        part = slice(start, start + rows_at_once)
        table = set_rows(table, places[part], rows_of(source, rows[part], rows_at_once))
    return table


def rows_of(table: jax.Array, rows: np.ndarray, size: int) -> jax.Array:
    """float [size, ...]: some rows of a table, on every device; padded to a size, so that few programs are made."""
    wanted = mesh.put(np.pad(rows, (0, size - len(rows))).astype(np.int32))
    return _gathered(table, wanted)


def set_rows(table: jax.Array, places: np.ndarray, rows: jax.Array) -> jax.Array:
    """The table, taken over, with `rows` [size, ...] in some places, int [at most size]."""
    padded = np.pad(places, (0, len(rows) - len(places)), constant_values=len(table)).astype(np.int32)
    return _written(table, mesh.put(padded), rows)


@jax.jit
def _gathered(table: jax.Array, rows: jax.Array) -> jax.Array:
    flat = lookup(table.reshape(len(table), -1), rows, mesh.REPLICATED)
    return flat.reshape(len(rows), *table.shape[1:])


@functools.partial(jax.jit, donate_argnums=0)
def _written(table: jax.Array, places: jax.Array, rows: jax.Array) -> jax.Array:
    def of_device(table: jax.Array, places: jax.Array, rows: jax.Array) -> jax.Array:
        here, place = local_rows(places, len(table))
        return table.at[jnp.where(here, place, len(table))].set(rows, mode="drop")

    specs = (mesh.ITEMS, mesh.REPLICATED, mesh.REPLICATED)
    written: jax.Array = mesh.shard_map(of_device, specs, mesh.ITEMS)(table, places, rows)
    return written
