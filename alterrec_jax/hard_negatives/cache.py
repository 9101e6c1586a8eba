"""The windows of all training prefixes, mined in a turn's first epoch and kept for its others: a few numbers a prefix.

The peer is frozen for a turn, so its ranking of a prefix is the same in all epochs. Rows are packed anew in each, and a
prefix is known by its place among the interactions (`PackedRows.source`).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from alterrec_jax.config import AlterRecConfig
from alterrec_jax.contract import PackedRows
from alterrec_jax.hard_negatives.rank_window import RankWindow
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.lookup import local_rows


class WindowCache(NamedTuple):
    """A `RankWindow` for every training interaction: of the prefix that ends there. The devices of `model` share them.

    All are vectors, for a TPU fills up the rows of a matrix to 128 numbers.

    Attributes:
      upper, lower: float32 [interaction].
      best: p of int32 [interaction], from the best item on.
    """

    upper: jax.Array
    lower: jax.Array
    best: tuple[jax.Array, ...]


def shapes_for(config: AlterRecConfig, interactions: int) -> WindowCache | None:
    """The shapes of what a run on so many training interactions keeps, and where it lies; None if that is nothing."""
    if not config.keeps_windows:
        return None
    shape, place = (mesh.padded(interactions, mesh.MODEL),), mesh.sharding(mesh.ITEMS)
    border: Any = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=place)
    items: Any = jax.ShapeDtypeStruct(shape, jnp.int32, sharding=place)
    return WindowCache(border, border, (items,) * config.mining.positives)


def zeros(shapes: WindowCache | None) -> WindowCache | None:
    """Room for windows of such shapes."""
    return jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype, device=shape.sharding), shapes)


def write(kept: WindowCache, rows: PackedRows, found: RankWindow) -> WindowCache:
    """The same with the windows of a batch: `found` of its row * position prefixes."""

    def of_device(kept: WindowCache, source: jax.Array, found: RankWindow) -> WindowCache:
        source, found = jax.tree.map(lambda array: mesh.all_gather(array, mesh.DATA), (source, found))
        here, place = local_rows(source, len(kept.upper))
        place = jnp.where(here, place, len(kept.upper))
        mined = WindowCache(found.upper, found.lower, tuple(found.best.T))
        return jax.tree.map(lambda every, some: every.at[place].set(some, mode="drop"), kept, mined)

    source = jnp.where(rows.where, rows.source, -1).reshape(-1)
    program = mesh.shard_map(of_device, (mesh.ITEMS, mesh.BATCH, mesh.BATCH), mesh.ITEMS)
    windows: WindowCache = program(kept, source, found)
    return windows


def read(kept: WindowCache, rows: PackedRows) -> RankWindow:
    """The windows of a batch's row * position prefixes; anything where there is no prefix to learn from."""

    def of_device(kept: WindowCache, source: jax.Array) -> RankWindow:
        here, place = local_rows(source, len(kept.upper))
        below, least, top = jax.tree.map(lambda every: jnp.where(here, every[place], 0), kept)
        best = jnp.stack(top, axis=1) if top else jnp.zeros((len(source), 0), jnp.int32)
        found: RankWindow = jax.tree.map(lambda array: mesh.psum(array, mesh.MODEL), RankWindow(below, least, best))
        return found

    program = mesh.shard_map(of_device, (mesh.ITEMS, mesh.BATCH), mesh.BATCH)
    window: RankWindow = program(kept, rows.source.reshape(-1))
    return window
