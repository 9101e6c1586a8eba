"""Item encoders (section 4.1.1): the learned ID table X, and the table H made from frozen sentence vectors."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from alterrec_jax.config import NetworkConfig, TextNetworkConfig
from alterrec_jax.contract import InitFn, ItemFn, Params
from alterrec_jax.nn.transformer import NORM_EPSILON
from alterrec_jax.numerics import precision_of
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.chunked import rows_in_blocks

TABLE = "table"
"""The name of every parameter that holds one row an item."""

_START = 0.02
_ROWS_AT_ONCE = 2**14  # items whose text passes through the MLP together


class ItemEncoder(NamedTuple):
    """How items get their embeddings: two of the three functions of a `Network`."""

    init: InitFn
    embed: ItemFn


def id_items(items: int, dim: int, norm: bool) -> ItemEncoder:
    """X, for a catalogue of so many items, and rows of padding that the mesh shares alike; reads no features."""
    table = IdTable(mesh.padded(items, mesh.MODEL), dim, norm)

    def init(key: jax.Array, features: jax.Array | None) -> Params:
        del features
        return table.init(key)["params"]

    def embed(params: Params, features: jax.Array | None, key: jax.Array | None = None) -> jax.Array:
        del features, key
        return table.apply({"params": params})  # type: ignore[return-value]

    return ItemEncoder(init, embed)


def text_items(config: TextNetworkConfig, like: NetworkConfig, precision: str) -> ItemEncoder:
    """H, by the MLP of a configuration; its width and norm are those of the network `like`, which it serves."""
    table = TextTable(
        dim=like.dim,
        dtype=precision,
        unit_variance=config.unit_variance,
        hidden=config.mlp_hidden,
        output_relu=config.mlp_output_relu,
        norm=like.item_norm,
    )

    def init(key: jax.Array, features: jax.Array | None) -> Params:
        assert features is not None, "text needs its vectors"
        return table.init(key, features[:1], None)["params"]  # their width alone matters

    def of_rows(params: Params, rows: jax.Array, numbers: jax.Array, key: jax.Array | None) -> jax.Array:
        keep = _kept(key, numbers, like.dim, config.item_dropout) if key is not None and config.item_dropout else None
        return table.apply({"params": params}, rows, keep)  # type: ignore[return-value]

    def embed(params: Params, features: jax.Array | None, key: jax.Array | None = None) -> jax.Array:
        assert features is not None, "text needs its vectors"
        return rows_in_blocks(of_rows, params, features, key, _ROWS_AT_ONCE)

    return ItemEncoder(init, embed)


def has_row_per_item(path: tuple[Any, ...]) -> bool:
    """Whether what lies at a path of a tree of parameters, or of their optimizer's state, holds one row an item."""
    return bool(path) and getattr(path[-1], "key", None) == TABLE


def placed_shapes(shapes: Any) -> Any:
    """A tree of shapes, to which is added where the arrays lie: what holds one row an item over `model`, all else
    everywhere."""

    def placed(path: tuple[Any, ...], leaf: Any) -> jax.ShapeDtypeStruct:
        place = mesh.sharding(mesh.ITEMS if has_row_per_item(path) else mesh.REPLICATED)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)

    return jax.tree_util.tree_map_with_path(placed, shapes)


def without_padding(params: Params, items: int) -> Params:
    """The parameters with zeros in the rows of no item: no gradient reaches them, so they stay so."""

    def cleared(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        if not has_row_per_item(path) or len(leaf) == items:
            return leaf
        return jnp.where(jnp.arange(len(leaf))[:, None] < items, leaf, 0)

    return jax.tree_util.tree_map_with_path(cleared, params)


def _kept(key: jax.Array, numbers: jax.Array, dim: int, rate: float) -> jax.Array:
    """float32 [item, dim]: what dropout multiplies the rows of some items by, drawn for each by its number."""

    def of_item(number: jax.Array) -> jax.Array:
        return jax.random.bernoulli(jax.random.fold_in(key, number), 1 - rate, (dim,))

    return jax.vmap(of_item)(numbers) / jnp.float32(1 - rate)


class IdTable(nn.Module):
    """X: one learned row an item, optionally normalised (released code)."""

    items: int
    dim: int
    norm: bool

    @nn.compact
    def __call__(self) -> jax.Array:
        """float [item, dim]."""
        table = self.param(TABLE, nn.initializers.normal(_START), (self.items, self.dim))
        return nn.LayerNorm(NORM_EPSILON, name="norm")(table) if self.norm else table


class TextTable(nn.Module):
    """H = MLP(sentence vectors), eq. 1.

    Hidden layers are linear maps with ReLU; dropout on the finished table gives inputs and candidates the same mask.
    """

    dim: int
    dtype: str
    unit_variance: bool
    hidden: tuple[int, ...]
    output_relu: bool
    norm: bool

    @nn.compact
    def __call__(self, vectors: jax.Array, keep: jax.Array | None) -> jax.Array:
        """float [item, d_text] -> float [item, dim]; `keep`, of the same shape, is what dropout multiplies by."""
        # Where sentence vectors have unit length, their entries then have unit variance: what initialisers and Adam
        # expect.
        table = vectors * vectors.shape[-1] ** 0.5 if self.unit_variance else vectors
        exact: dict[str, Any] = {"dtype": jnp.dtype(self.dtype), "precision": precision_of(self.dtype)}
        for layer, width in enumerate(self.hidden):
            table = nn.relu(nn.Dense(width, name=f"hidden_{layer}", **exact)(table))
        # Rows start as small as those of the ID table, so that neither network drowns the other in the fused score.
        small = nn.initializers.variance_scaling(_START**2, "fan_in", "normal")
        table = nn.Dense(self.dim, kernel_init=small, name="output", **exact)(table).astype(jnp.float32)
        if self.output_relu:
            table = nn.relu(table)
        if keep is not None:
            table = table * keep
        return nn.LayerNorm(NORM_EPSILON, name="norm")(table) if self.norm else table
