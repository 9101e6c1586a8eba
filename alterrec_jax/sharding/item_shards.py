"""Which column of a row of scores is which item's: every device of the mesh has those of its own items, and padding."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from alterrec_jax.sharding import mesh

LANE = 128
"""Each device's column count is padded to a multiple of this.

In the last few columns of an odd number, some matrix products add up in another order than elsewhere, so that two items
with equal rows would not tie.
"""


class ItemShards(NamedTuple):
    """Which column of a row of scores is which item's.

    Attributes:
      items_per_device: items of each device along the axis `model`; of the last ones some may be beyond the catalogue.
      columns_per_device: columns of each such device: those of its items, and padding.
    """

    items_per_device: int
    columns_per_device: int

    @classmethod
    def of(cls, catalogue: int, multiple: int = LANE) -> "ItemShards":
        """For so many items, each device's columns a multiple of some number."""
        items = mesh.padded(catalogue, mesh.MODEL) // mesh.size(mesh.MODEL)
        return cls(items, items + -items % multiple)

    @property
    def columns(self) -> int:
        """The columns of all devices."""
        return self.columns_per_device * mesh.size(mesh.MODEL)

    def column(self, item: Any) -> Any:
        """The columns of some items, int32 [...]."""
        return item // self.items_per_device * self.columns_per_device + item % self.items_per_device

    def local_columns(self, item: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Of some items, int32 [...], those that this device holds, and their columns there (0 for the others)."""
        column = item - mesh.shard_offset(self.items_per_device, mesh.MODEL)
        held = (column >= 0) & (column < self.items_per_device)
        return held, jnp.where(held, column, 0)

    def is_item(self, start: jax.Array | int, size: int, catalogue: int) -> jax.Array:
        """bool [size]: which of this device's columns from `start` on are items of the catalogue."""
        column = start + jnp.arange(size)
        return (column < self.items_per_device) & (
            mesh.shard_offset(self.items_per_device, mesh.MODEL) + column < catalogue
        )


@functools.partial(jax.jit, static_argnames="shards")
def padded_table(table: Any, shards: ItemShards) -> jax.Array:
    """A table [item, dim] as float32 [column, dim], with rows of zeros in the columns of no item."""

    def padded(part: jax.Array) -> jax.Array:
        return jnp.pad(part.astype(jnp.float32), ((0, shards.columns_per_device - len(part)), (0, 0)))

    return mesh.shard_map(padded, mesh.ITEMS, mesh.ITEMS)(table)
