"""One network on one kind of item knowledge: the records that describe it, and the pure functions that it becomes.

AlterRec alternates several of these, NFRec fuses two kinds in one, SASRec is one of them alone.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from alterrec_jax.config import OptimizerConfig, require_divisor, setting
from alterrec_jax.contract import (
    CatalogueInfo,
    Context,
    ItemTables,
    Network,
    Params,
    SessionBatch,
    at_prefixes,
)
from alterrec_jax.errors import UserError
from alterrec_jax.nn.item_tables import ItemEncoder, attribute_items, learned_items, vector_items
from alterrec_jax.nn.pooling import MeanEncoder
from alterrec_jax.nn.table_starts import TableStart
from alterrec_jax.nn.transformer import TransformerEncoder, TransformerSettings
from alterrec_jax.numerics import MemoryLimits
from alterrec_jax.sharding.lookup import lookup
from alterrec_jax.sharding.per_item import zero_padding_rows

TRANSFORMER, MEAN, AUTO = "transformer", "mean", "auto"
_MEAN_RATE = 5  # by how much a mean learns faster than the Transformer
ENCODERS = (TRANSFORMER, MEAN, AUTO)


@dataclasses.dataclass(frozen=True)
class EncoderConfig(OptimizerConfig):
    """The session encoder g and the optimizer of a network (section 4.1)."""

    encoder: str = setting(
        TRANSFORMER,
        "session encoder g: causal Transformer read at the last item, mean, or auto: the Transformer where the order "
        "within sessions is real, the mean where preparation drew it at random",
        choices=ENCODERS,
    )
    dim: int = setting(300, "width d of item and session embeddings", low=1)
    layers: int = setting(2, "Transformer blocks", low=1)
    heads: int = setting(2, "attention heads; a divisor of the width", low=1)
    dropout: float = setting(
        0.1, "rate inside the Transformer and on its input; for the mean, on its input", low=0, below=1
    )
    item_norm: bool = setting(False, "LayerNorm on the item table before lookup and scoring (released code)")
    temperature: float = setting(1.0, "tau: scores are dot products divided by it", above=0)
    init: str = setting(
        "normal",
        "normal, or uniform: every parameter within +-1/sqrt(width) (released code)",
        choices=("normal", "uniform"),
    )

    @property
    def width(self) -> int:
        """Of what the session encoder takes and gives."""
        return self.dim


@dataclasses.dataclass(frozen=True)
class NetworkConfig(EncoderConfig):
    """One of several networks: what its items are made of stands in `kind`."""

    weight: float = setting(1.0, "share of its score in the fusion; shares are divided by their sum", low=0)
    peer: str = setting(
        "next", "whose ranking it mines: a network's name, next (the next one in order), or rest (the others fused)"
    )


@dataclasses.dataclass(frozen=True)
class IdNetworkConfig(NetworkConfig):
    """A network on a learned item table X."""

    kind: str = setting("ids", "what items are made of: a learned table", choices=("ids",))
    start: TableStart = TableStart()


@dataclasses.dataclass(frozen=True)
class VectorsConfig:
    """An MLP on frozen vectors, which makes the table H (eq. 1)."""

    feature: str = setting("text", "name of the vectors in the dataset: text, or others that preparation was given")
    mlp_hidden: tuple[int, ...] = setting((300,), "widths of the MLP's hidden layers; () is one linear map", low=1)
    unit_variance: bool = setting(True, "multiply vectors of unit length by sqrt(width) first (released code: no)")
    mlp_output_relu: bool = setting(False, "ReLU after the last linear map too (released code)")
    item_dropout: float = setting(
        0.0, "dropout over the whole table, one mask for inputs and candidates (released code)", low=0, below=1
    )


@dataclasses.dataclass(frozen=True)
class VectorNetworkConfig(NetworkConfig, VectorsConfig):
    """A network on frozen vectors."""

    kind: str = setting("vectors", "what items are made of: an MLP on frozen vectors", choices=("vectors",))


@dataclasses.dataclass(frozen=True)
class AttributeNetworkConfig(NetworkConfig):
    """A network on the sum of learned vectors of an item's attributes."""

    kind: str = setting("attributes", "what items are made of: a sum over attributes", choices=("attributes",))
    attributes: tuple[str, ...] = setting(
        ("category", "brand"), "which columns of the dataset", choices=("category", "brand")
    )


AnyNetworkConfig = IdNetworkConfig | VectorNetworkConfig | AttributeNetworkConfig


def check_encoder(name: str, config: EncoderConfig) -> None:
    """Raises a `UserError` where the fields of an encoder do not fit each other."""
    if config.encoder != MEAN:  # auto may become the Transformer
        require_divisor(f"{name}.heads", config.heads, "the width of its embeddings", config.width)


def session_encoder(config: EncoderConfig, catalogue: CatalogueInfo) -> str:
    """Which session encoder a network has on a dataset: the Transformer or the mean."""
    if config.encoder != AUTO:
        return config.encoder
    return TRANSFORMER if catalogue.ordered else MEAN


def optimizer_of(config: EncoderConfig, catalogue: CatalogueInfo) -> EncoderConfig:
    """The settings of a network's optimizer: where `auto` became the mean, the learning rate is that of a mean.

    The ID mean that validation chose on Complete Journey has five times the rate of Amazon Beauty's Transformer.
    """
    if config.encoder == AUTO and session_encoder(config, catalogue) == MEAN:
        return dataclasses.replace(config, learning_rate=_MEAN_RATE * config.learning_rate)
    return config


def encoder_notes(networks: Mapping[str, EncoderConfig], catalogue: CatalogueInfo) -> tuple[str, ...]:
    """A sentence on the session encoder of the networks that leave it to the dataset, if there are any."""
    left = [name for name, config in networks.items() if config.encoder == AUTO]
    if not left:
        return ()
    chosen, order = session_encoder(networks[left[0]], catalogue), "real" if catalogue.ordered else "random"
    rate = f" (learning rates times {_MEAN_RATE})" if chosen == MEAN else ""
    return (f"encoder of {' and '.join(left)}: {chosen}{rate}, for the order within sessions is {order}",)


def item_encoder(
    config: AnyNetworkConfig,
    catalogue: CatalogueInfo,
    precision: str,
    limits: MemoryLimits = MemoryLimits(),  # noqa: B008
) -> ItemEncoder:
    """What makes the item table of a network."""
    if isinstance(config, IdNetworkConfig):
        return learned_items(catalogue.items, config.dim, config.item_norm, config.start)
    if isinstance(config, VectorNetworkConfig):
        return vectors_of(config, config.dim, config.item_norm, precision, limits)
    unknown = [name for name in config.attributes if name not in catalogue.classes]
    if unknown:
        raise UserError(
            f"the dataset's items have no {unknown[0]}; prepare it with --{unknown[0]}_column, or name other attributes"
        )
    classes = {name: catalogue.classes[name] for name in config.attributes}
    return attribute_items(classes, config.dim, config.item_norm)


def vectors_of(
    config: VectorsConfig,
    dim: int,
    norm: bool,
    precision: str,
    limits: MemoryLimits = MemoryLimits(),  # noqa: B008
) -> ItemEncoder:
    """H by the MLP of a record, of another width and norm perhaps: those of the network that it serves."""
    return vector_items(
        config.feature,
        dim,
        hidden=config.mlp_hidden,
        precision=precision,
        norm=norm,
        unit_variance=config.unit_variance,
        output_relu=config.mlp_output_relu,
        dropout=config.item_dropout,
        rows_at_once=limits.rows_of_table,
    )


def build_network(
    config: EncoderConfig, catalogue: CatalogueInfo, of_items: ItemEncoder, max_length: int, dtype: str
) -> Network:
    """Joins an item encoder and a session encoder into a `Network`.

    Args:
      config: of the session encoder.
      catalogue: how many items can be recommended, and whether sessions have an order.
      of_items: makes the items' embeddings, of the width that the configuration has.
      max_length: the longest prefix that the encoder sees.
      dtype: that of what products take; session embeddings have it.
    """
    if session_encoder(config, catalogue) == MEAN:
        encoder: MeanEncoder | TransformerEncoder = MeanEncoder(config.dropout)
    else:
        settings = TransformerSettings(config.layers, config.heads, config.dropout, dtype)
        encoder = TransformerEncoder(settings, max_length)
    per_item = tuple(f"items/{path}" for path in of_items.per_item)

    def item_tables(params: Params, context: Context, key: jax.Array | None = None) -> ItemTables:
        return ItemTables(of_items.embed(params["items"], context, key))

    def session_embeddings(
        params: Params, tables: ItemTables, batch: SessionBatch, key: jax.Array | None = None
    ) -> jax.Array:
        inputs = lookup(tables.inputs, batch.items)
        hidden: jax.Array = encoded(encoder, params["encoder"], inputs, batch, key)
        return at_prefixes((hidden / config.temperature).astype(dtype), batch)

    def init(key: jax.Array, context: Context) -> Params:
        table_key, encoder_key, uniform_key = jax.random.split(key, 3)
        hidden = jnp.zeros((1, max_length, config.width))
        params = {
            "items": of_items.init(table_key, context),
            "encoder": encoder.init(encoder_key, hidden, empty_batch(max_length), True).get("params", {}),
        }
        params = uniform_params(uniform_key, params, config.width) if config.init == "uniform" else params
        return zero_padding_rows(per_item, params, catalogue.items)

    return Network(
        init,
        item_tables,
        session_embeddings,
        catalogue.items,
        config.width,
        per_item,
        of_items.reads,
        places_new_items=of_items.from_features,
        per_class={f"items/{path}": feature for path, feature in of_items.per_class.items()},
    )


def encoded(encoder: nn.Module, params: Params, inputs: jax.Array, batch: Any, key: jax.Array | None) -> Any:
    """What a session encoder makes of the items that were looked up for a batch; a key turns dropout on."""
    rngs = {} if key is None else {"dropout": key}
    return encoder.apply({"params": params}, inputs, batch, key is None, rngs=rngs)


def empty_batch(max_length: int) -> SessionBatch:
    """A row of one segment, for the shapes that an encoder begins from."""
    one = jnp.zeros((1, max_length), jnp.int32)
    return SessionBatch(one, one, one, one.reshape(-1), one.reshape(-1).astype(bool))


def uniform_params(key: jax.Array, params: Params, dim: int) -> Params:
    """Every parameter, gains and biases included, uniform in +-1/sqrt(dim) (released code of many of these systems)."""
    leaves, tree = jax.tree.flatten(params)
    bound = dim**-0.5
    keys = jax.random.split(key, len(leaves))
    drawn = [jax.random.uniform(k, leaf.shape, leaf.dtype, -bound, bound) for k, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, drawn)
