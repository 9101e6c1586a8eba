"""Item encoders: a learned table, an MLP on frozen vectors (AlterRec, section 4.1.1), sums of attributes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from alterrec_jax.contract import Context, Params, Reads
from alterrec_jax.nn.table_starts import RANDOM, TableStart, started_table
from alterrec_jax.numerics import MemoryLimits, layer_precision
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.chunked import rows_in_blocks

NORM_EPSILON = 1e-5
"""Of the LayerNorm on an item table: PyTorch's, as in the released code; linen's own is 1e-6."""

START = 0.02
"""Standard deviation of a fresh table's entries, whatever makes them, so that no network drowns another in a sum."""


class ItemEncoder(NamedTuple):
    """How items get their embeddings.

    Attributes:
      init: (key, context) -> params.
      embed: (params, context, key or None) -> float32 [item, dim]; a key turns dropout on.
      per_item: paths of the parameters that hold one row an item.
      reads: the features that it is made from.
      from_features: whether these alone decide, so that an item that was not in training has an embedding too.
      per_class: paths of the parameters that hold one row for each number of an id feature, and its name.
    """

    init: Any
    embed: Any
    per_item: tuple[str, ...] = ()
    reads: Reads = Reads()
    from_features: bool = False
    per_class: Mapping[str, str] = {}


def learned_items(items: int, dim: int, norm: bool = False, start: TableStart = TableStart()) -> ItemEncoder:  # noqa: B008
    """X: one learned row an item, optionally normalised (released code).

    Args:
      items: how many; rows behind them are padding, so that devices share them evenly.
      dim: width.
      norm: whether a LayerNorm stands behind the table.
      start: what the table starts from.
    """
    table = IdTable(mesh.padded(items, mesh.MODEL), dim, norm)

    def init(key: jax.Array, context: Context) -> Params:
        params = table.init(key)["params"]
        if start.method == RANDOM:
            return params
        start_key = jax.random.fold_in(key, 1)
        return {**params, "table": started_table(start, context.features[start.feature], dim, start_key)}

    def embed(params: Params, context: Context, key: jax.Array | None = None) -> jax.Array:
        del context, key
        return table.apply({"params": params})  # type: ignore[return-value]

    return ItemEncoder(init, embed, ("table",), start.reads)


def vector_items(
    feature: str,
    dim: int,
    *,
    hidden: tuple[int, ...],
    precision: str,
    norm: bool = False,
    unit_variance: bool = True,
    output_relu: bool = False,
    dropout: float = 0.0,
    rows_at_once: int = MemoryLimits().rows_of_table,  # noqa: B008
) -> ItemEncoder:
    """H: an MLP on the frozen vectors of a feature (eq. 1).

    Args:
      feature: its name in the context.
      dim: width.
      hidden: widths of the hidden layers; () is one linear map.
      precision: of products.
      norm: whether a LayerNorm stands behind the table.
      unit_variance: whether vectors of unit length are multiplied by sqrt(width) first.
      output_relu: whether a ReLU follows the last linear map.
      dropout: rate over the whole table, one mask for inputs and candidates.
      rows_at_once: items whose vectors pass through the MLP together.
    """
    table = VectorTable(
        dim=dim, dtype=precision, unit_variance=unit_variance, hidden=hidden, output_relu=output_relu, norm=norm
    )

    def init(key: jax.Array, context: Context) -> Params:
        return table.init(key, context.features[feature][:1], None)["params"]  # their width alone matters

    def of_rows(params: Params, rows: jax.Array, numbers: jax.Array, key: jax.Array | None) -> jax.Array:
        keep = keep_mask(key, numbers, dim, dropout) if key is not None and dropout else None
        return table.apply({"params": params}, rows, keep)  # type: ignore[return-value]

    def embed(params: Params, context: Context, key: jax.Array | None = None) -> jax.Array:
        return rows_in_blocks(of_rows, params, context.features[feature], key, rows_at_once)

    return ItemEncoder(init, embed, (), Reads(features=(feature,)), from_features=True)


def attribute_items(classes: Mapping[str, int], dim: int, norm: bool = False) -> ItemEncoder:
    """An item is the sum of learned rows, one for each of its attributes: category and brand, say.

    Args:
      classes: by name of an id feature, how many ids it has; 0 is "unknown" and has a row of its own.
      dim: width.
      norm: whether a LayerNorm stands behind the table.
    """
    table = AttributeTable(tuple(classes.items()), dim, norm)

    def init(key: jax.Array, context: Context) -> Params:
        return table.init(key, {name: context.features[name][:1] for name in classes})["params"]

    def embed(params: Params, context: Context, key: jax.Array | None = None) -> jax.Array:
        del key
        found = table.apply({"params": params}, {name: context.features[name] for name in classes})
        return mesh.with_sharding_constraint(found, mesh.ITEMS)  # type: ignore[arg-type]

    per_class = {f"{name}/embedding": name for name in classes}
    return ItemEncoder(init, embed, (), Reads(features=tuple(classes)), from_features=True, per_class=per_class)


def keep_mask(key: jax.Array, numbers: jax.Array, dim: int, rate: float) -> jax.Array:
    """float32 [item, dim]: what dropout multiplies the rows of some items by, drawn for each by its number."""

    def of_item(number: jax.Array) -> jax.Array:
        return jax.random.bernoulli(jax.random.fold_in(key, number), 1 - rate, (dim,))

    return jax.vmap(of_item)(numbers) / jnp.float32(1 - rate)


class IdTable(nn.Module):
    """One learned row an item, optionally normalised."""

    items: int
    dim: int
    norm: bool

    @nn.compact
    def __call__(self) -> jax.Array:
        """float [item, dim]."""
        table = self.param("table", nn.initializers.normal(START), (self.items, self.dim))
        return nn.LayerNorm(NORM_EPSILON, name="norm")(table) if self.norm else table


class VectorTable(nn.Module):
    """H = MLP(frozen vectors), eq. 1.

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
        """float [item, width] -> float [item, dim]; `keep`, of the same shape, is what dropout multiplies by."""
        # Where vectors have unit length, their entries then have unit variance: what initialisers and Adam expect.
        table = vectors * vectors.shape[-1] ** 0.5 if self.unit_variance else vectors
        exact = layer_precision(self.dtype)
        for layer, width in enumerate(self.hidden):
            table = nn.relu(nn.Dense(width, name=f"hidden_{layer}", **exact)(table))
        small = nn.initializers.variance_scaling(START**2, "fan_in", "normal")
        table = nn.Dense(self.dim, kernel_init=small, name="output", **exact)(table)
        table = table.astype(jnp.promote_types(table.dtype, jnp.float32))
        if self.output_relu:
            table = nn.relu(table)
        if keep is not None:
            table = table * keep
        return nn.LayerNorm(NORM_EPSILON, name="norm")(table) if self.norm else table


class AttributeTable(nn.Module):
    """The sum of one learned row for each attribute."""

    classes: tuple[tuple[str, int], ...]
    dim: int
    norm: bool

    @nn.compact
    def __call__(self, ids: Mapping[str, jax.Array]) -> jax.Array:
        """int32 [item] by attribute -> float [item, dim]."""
        start = nn.initializers.normal(START / max(len(self.classes), 1) ** 0.5)
        rows = [nn.Embed(count, self.dim, embedding_init=start, name=name)(ids[name]) for name, count in self.classes]
        table = sum(rows[1:], rows[0])
        return nn.LayerNorm(NORM_EPSILON, name="norm")(table) if self.norm else table
