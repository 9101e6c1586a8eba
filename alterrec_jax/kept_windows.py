"""The windows of all training prefixes, mined in a turn's first epoch and kept for its others: a few numbers a prefix.

The peer is frozen for a turn, so its ranking of a prefix is the same in all epochs. Rows are packed anew in each, and a
prefix is known by its place among the interactions (`PackedRows.source`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from alterrec_jax import mesh
from alterrec_jax.config import AlterRecConfig
from alterrec_jax.mining import RankWindow
from alterrec_jax.models.network import PackedRows


class KeptWindows(NamedTuple):
    """A `RankWindow` for every training interaction: of the prefix that ends there. Every device holds all of them.

    Attributes:
      below, least: float32 [interaction].
      top: int32 [interaction, p]; None where p is 0, for no checkpoint holds an empty array.
    """

    below: jax.Array
    least: jax.Array
    top: jax.Array | None


def shapes_for(config: AlterRecConfig, interactions: int) -> KeptWindows | None:
    """The shapes of what each network of a run on so many training interactions keeps; None if that is nothing."""
    if not config.keeps_windows:
        return None
    p = config.mining.p if config.mining.augment else 0

    def empty() -> KeptWindows:
        border = jnp.zeros(interactions)
        return KeptWindows(border, border, jnp.zeros((interactions, p), jnp.int32) if p else None)

    shapes: KeptWindows = jax.eval_shape(empty)
    return shapes


def keep(kept: KeptWindows, rows: PackedRows, found: RankWindow) -> KeptWindows:
    """The same with the windows of a batch: `found` of its row * position prefixes."""
    mined = KeptWindows(found.below, found.least, found.top if kept.top is not None else None)

    def of_device(kept: KeptWindows, place: jax.Array, mined: KeptWindows) -> KeptWindows:
        place, mined = jax.tree.map(lambda array: mesh.gathered(array, mesh.DATA), (place, mined))
        return jax.tree.map(lambda all_, some: all_.at[place].set(some, mode="drop", unique_indices=True), kept, mined)

    where, source = rows.where.reshape(-1), rows.source.reshape(-1)
    # Behind the last one, and each elsewhere: what is dropped.
    place = jnp.where(where, source, len(kept.below) + jnp.arange(len(source)))
    specs = (mesh.EVERYWHERE, mesh.BY_ROW, mesh.BY_ROW)
    windows: KeptWindows = mesh.sharded(of_device, specs, mesh.EVERYWHERE)(kept, place, mined)
    return windows


def of_batch(kept: KeptWindows, rows: PackedRows) -> RankWindow:
    """The windows of a batch's row * position prefixes; anything where there is no prefix to learn from."""

    def of_device(kept: KeptWindows, source: jax.Array) -> RankWindow:
        below, least, top = jax.tree.map(lambda all_: all_[jnp.maximum(source, 0)], kept)
        return RankWindow(below, least, jnp.zeros((len(source), 0), jnp.int32) if top is None else top)

    window: RankWindow = mesh.sharded(of_device, (mesh.EVERYWHERE, mesh.BY_ROW), mesh.BY_ROW)(
        kept, rows.source.reshape(-1)
    )
    return window
