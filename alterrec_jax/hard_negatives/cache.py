"""The frozen peer's windows of all training prefixes, mined in a stage's first epoch and read in its others.

The peer is frozen for a stage, so its ranking of a prefix is the same in all of its epochs. Rows are packed anew in
each, and a prefix is identified by its last interaction (`SessionBatch.interaction`).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from alterrec_jax.contract import SessionBatch
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


def shapes(interactions: int, positives: int) -> WindowCache:
    """The shapes of a cache for so many training interactions, with so many positives each, and where it lies."""
    shape, place = (mesh.padded(interactions, mesh.MODEL),), mesh.sharding(mesh.ITEMS)
    border: Any = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=place)
    items: Any = jax.ShapeDtypeStruct(shape, jnp.int32, sharding=place)
    return WindowCache(border, border, (items,) * positives)


def zeros(shapes: WindowCache | None) -> WindowCache | None:
    """An empty cache of such shapes; None where there is none."""
    return jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype, device=shape.sharding), shapes)


def write(cache: WindowCache, batch: SessionBatch, found: RankWindow) -> WindowCache:
    """The cache with the windows of a batch; `found` has one for each of its prefixes."""

    def of_device(cache: WindowCache, interaction: jax.Array, found: RankWindow) -> WindowCache:
        interaction, found = jax.tree.map(lambda array: mesh.all_gather(array, mesh.DATA), (interaction, found))
        here, place = local_rows(interaction, len(cache.upper))
        place = jnp.where(here, place, len(cache.upper))
        mined = WindowCache(found.upper, found.lower, tuple(found.best.T))
        return jax.tree.map(lambda every, some: every.at[place].set(some, mode="drop"), cache, mined)

    interaction = jnp.where(batch.is_target, batch.interaction, -1)
    program = mesh.shard_map(of_device, (mesh.ITEMS, mesh.BATCH, mesh.BATCH), mesh.ITEMS)
    windows: WindowCache = program(cache, interaction, found)
    return windows


def read(cache: WindowCache, batch: SessionBatch) -> RankWindow:
    """The windows of a batch's prefixes; anything where there is no prefix to learn from."""

    def of_device(cache: WindowCache, interaction: jax.Array) -> RankWindow:
        here, place = local_rows(interaction, len(cache.upper))
        upper, lower, top = jax.tree.map(lambda every: jnp.where(here, every[place], 0), cache)
        best = jnp.stack(top, axis=1) if top else jnp.zeros((len(interaction), 0), jnp.int32)
        found: RankWindow = jax.tree.map(lambda array: mesh.psum(array, mesh.MODEL), RankWindow(upper, lower, best))
        return found

    program = mesh.shard_map(of_device, (mesh.ITEMS, mesh.BATCH), mesh.BATCH)
    window: RankWindow = program(cache, batch.interaction)
    return window
