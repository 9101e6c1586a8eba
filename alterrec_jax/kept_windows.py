"""The windows of all training prefixes, mined in a turn's first epoch and kept for its others: a few numbers a prefix.

The peer is frozen for a turn, so its ranking of a prefix is the same in all epochs. Rows are packed anew in each, and a
prefix is known by its place among the interactions (`PackedRows.source`).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from alterrec_jax import mesh
from alterrec_jax.config import AlterRecConfig
from alterrec_jax.lookup import held_here, lookup
from alterrec_jax.mining import RankWindow
from alterrec_jax.models.network import PackedRows


class KeptWindows(NamedTuple):
    """A `RankWindow` for every training interaction: of the prefix that ends there. The devices of `model` share them.

    Attributes:
      borders: float32 [interaction, 2], `below` and `least`.
      top: int32 [interaction, p]; None where p is 0, for no checkpoint holds an empty array.
    """

    borders: jax.Array
    top: jax.Array | None


def shapes_for(config: AlterRecConfig, interactions: int) -> KeptWindows | None:
    """The shapes of what a run on so many training interactions keeps, and where it lies; None if that is nothing."""
    if not config.keeps_windows:
        return None
    p = config.mining.p if config.mining.augment else 0
    rows, place = mesh.padded(interactions, mesh.MODEL), mesh.sharding(mesh.BY_ITEM)
    borders: Any = jax.ShapeDtypeStruct((rows, 2), jnp.float32, sharding=place)
    top: Any = jax.ShapeDtypeStruct((rows, p), jnp.int32, sharding=place) if p else None
    return KeptWindows(borders, top)


def nothing_kept(shapes: KeptWindows | None) -> KeptWindows | None:
    """Room for windows of such shapes."""
    return jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype, device=shape.sharding), shapes)


def keep(kept: KeptWindows, rows: PackedRows, found: RankWindow) -> KeptWindows:
    """The same with the windows of a batch: `found` of its row * position prefixes."""
    mined = KeptWindows(jnp.stack([found.below, found.least], axis=1), None if kept.top is None else found.top)

    def of_device(kept: KeptWindows, source: jax.Array, mined: KeptWindows) -> KeptWindows:
        source, mined = jax.tree.map(lambda array: mesh.gathered(array, mesh.DATA), (source, mined))
        here, place = held_here(source, len(kept.borders))
        place = jnp.where(here, place, len(kept.borders))
        return jax.tree.map(lambda every, some: every.at[place].set(some, mode="drop"), kept, mined)

    program = mesh.sharded(of_device, (mesh.BY_ITEM, mesh.BY_ROW, mesh.BY_ROW), mesh.BY_ITEM)
    windows: KeptWindows = program(kept, jnp.where(rows.where, rows.source, -1).reshape(-1), mined)
    return windows


def of_batch(kept: KeptWindows, rows: PackedRows) -> RankWindow:
    """The windows of a batch's row * position prefixes; anything where there is no prefix to learn from."""
    source = rows.source.reshape(-1)
    borders = lookup(kept.borders, source)
    top = jnp.zeros((len(source), 0), jnp.int32) if kept.top is None else lookup(kept.top, source)
    return RankWindow(borders[:, 0], borders[:, 1], top)
