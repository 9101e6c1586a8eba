"""Which parameters hold a row an item, and what that means for their places and their padding."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from alterrec_jax.sharding import mesh


def class_feature(per_class: Mapping[str, str], path: tuple[Any, ...]) -> str | None:
    """The id feature for each of whose numbers a leaf of a tree of parameters holds a row; None if it does not."""
    return next((feature for name, feature in per_class.items() if is_per_item((name,), path)), None)


def is_per_item(per_item: tuple[str, ...], path: tuple[Any, ...]) -> bool:
    """Whether a leaf of a tree of parameters, or of an optimizer's state over them, holds one row an item.

    Args:
      per_item: `Network.per_item`.
      path: the leaf's path, as of `jax.tree_util.tree_map_with_path`.
    """
    keys = [str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey)]
    return any(keys[-len(parts) :] == parts for parts in (name.split("/") for name in per_item))


def sharded_shapes(per_item: tuple[str, ...], shapes: Any) -> Any:
    """A tree of shapes with their places: rows of items are shared over the mesh's item axis, all else replicated."""

    def placed(path: tuple[Any, ...], leaf: Any) -> jax.ShapeDtypeStruct:
        spec = mesh.ITEMS if is_per_item(per_item, path) else mesh.REPLICATED
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=mesh.sharding(spec))

    return jax.tree_util.tree_map_with_path(placed, shapes)


def zero_padding_rows(per_item: tuple[str, ...], params: Any, catalogue_size: int) -> Any:
    """The parameters with zeros in the rows behind the catalogue: no gradient reaches them, so they stay so."""

    def cleared(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        if not is_per_item(per_item, path) or len(leaf) == catalogue_size:
            return leaf
        real = jnp.arange(len(leaf)) < catalogue_size
        return jnp.where(real.reshape(-1, *(1,) * (leaf.ndim - 1)), leaf, 0)

    return jax.tree_util.tree_map_with_path(cleared, params)
