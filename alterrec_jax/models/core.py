"""CORE (Hou et al., SIGIR 2022): a session vector is a weighted mean of its items' own vectors, compared by cosine.

    w = 1/n ("mean"), or softmax over the prefix of a . T(x)_i + c ("transformer"; T a causal Transformer)
    q = unit(sum of w_i x_i),  y_v = q . unit(E_v) / temperature

The weights mix the item vectors, not what the Transformer makes of them. In training, dropout falls on the inputs and,
by another mask, on the candidates before they are normalised.

Departures: none in the forward pass; the Transformer is causal, as in the released code, though the paper does not say
so. Since the weights are a softmax over what precedes, one pass embeds every prefix: the normaliser cancels in `unit`.
All prefixes of a session share the dropout of their inputs.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from alterrec_jax.config import OptimizerConfig, RunConfig, require_divisor, setting
from alterrec_jax.contract import (
    PACKED,
    CatalogueInfo,
    Context,
    ItemTables,
    Network,
    Params,
    SessionBatch,
    System,
    at_prefixes,
)
from alterrec_jax.models.registry import register
from alterrec_jax.models.single import single_network_system
from alterrec_jax.models.unimodal import empty_batch, uniform_params
from alterrec_jax.nn.item_tables import learned_items
from alterrec_jax.nn.segments import causal_mask
from alterrec_jax.nn.transformer import TransformerEncoder, recbole_transformer
from alterrec_jax.nn.vectors import dropout, unit
from alterrec_jax.numerics import layer_precision
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.lookup import lookup
from alterrec_jax.sharding.per_item import zero_padding_rows


@dataclasses.dataclass(frozen=True)
class CORENetworkConfig(OptimizerConfig):
    """The network; defaults are the authors'."""

    weights: str = setting(
        "transformer",
        "how items of a prefix are weighed: by a Transformer, or equally",
        choices=("transformer", "mean"),
    )
    dim: int = setting(100, "width d of item and session embeddings", low=1)
    layers: int = setting(2, "Transformer blocks", low=1)
    heads: int = setting(2, "attention heads; a divisor of dim", low=1)
    inner: int = setting(256, "width of the feed-forward layers", low=1)
    dropout: float = setting(0.5, "rate inside the Transformer", low=0, below=1)
    attention_dropout: float = setting(0.5, "rate on its attention weights", low=0, below=1)
    item_dropout: float = setting(
        0.2, "rate on the items' vectors: inputs, and by another mask candidates", low=0, below=1
    )
    temperature: float = setting(0.07, "cosines are divided by it", above=0)


@register("core", title="CORE", paper="Hou et al., SIGIR 2022", layout=PACKED)
@dataclasses.dataclass(frozen=True)
class COREConfig(RunConfig):
    """CORE."""

    batch_prefixes: int = setting(2048, "prefixes a step, rounded to whole rows", low=1)
    network: CORENetworkConfig = dataclasses.field(default_factory=CORENetworkConfig)

    def check(self) -> "COREConfig":
        """As `RunConfig.check`."""
        super().check()
        require_divisor("network.heads", self.network.heads, "network.dim", self.network.dim)
        return self

    def build(self, catalogue: CatalogueInfo) -> System:
        """The system, for a catalogue."""
        network = build_network(self.network, catalogue.items, self.max_length, self.precision)
        return single_network_system("core", network, self.network, self.epochs)


def build_network(config: CORENetworkConfig, items: int, max_length: int, dtype: str) -> Network:
    """The pure functions of CORE."""
    of_items, weigher = learned_items(items, config.dim), _weigher(config, max_length, dtype)
    per_item = ("items/table",)

    def item_tables(params: Params, context: Context, key: jax.Array | None = None) -> ItemTables:
        table = of_items.embed(params["items"], context)
        dropped = dropout(key, table, config.item_dropout)
        return ItemTables(mesh.with_sharding_constraint(unit(dropped), mesh.ITEMS), table)

    def session_embeddings(
        params: Params, tables: ItemTables, batch: SessionBatch, key: jax.Array | None = None
    ) -> jax.Array:
        inputs = lookup(tables.inputs, batch.items)
        rngs = {}
        if key is not None:
            input_key, rngs["dropout"] = jax.random.split(key)
            inputs = dropout(input_key, inputs, config.item_dropout)
        weights = weigher.apply({"params": params["encoder"]}, inputs, batch, key is None, rngs=rngs)
        mixed = jnp.einsum("rqk,rkd->rqd", weights, inputs, precision="highest")
        return at_prefixes((unit(mixed) / config.temperature).astype(dtype), batch)

    def init(key: jax.Array, context: Context) -> Params:
        table_key, encoder_key, uniform_key = jax.random.split(key, 3)
        inputs = jnp.zeros((1, max_length, config.dim))
        params = {
            "items": uniform_params(uniform_key, of_items.init(table_key, context), config.dim),
            "encoder": weigher.init(encoder_key, inputs, empty_batch(max_length), True).get("params", {}),
        }
        return zero_padding_rows(per_item, params, items)

    return Network(init, item_tables, session_embeddings, items, config.dim, per_item)


def _weigher(config: CORENetworkConfig, max_length: int, dtype: str) -> nn.Module:
    if config.weights == "mean":
        return EqualWeights()
    rates = config.dropout, config.attention_dropout
    settings = recbole_transformer(config.layers, config.heads, *rates, config.inner, dtype)
    return TransformerWeights(TransformerEncoder(settings, max_length), dtype)


class EqualWeights(nn.Module):
    """All items of a prefix weigh the same."""

    @nn.compact
    def __call__(self, inputs: jax.Array, batch: SessionBatch, deterministic: bool) -> jax.Array:
        """float32 [row, query position, key position]: the weights of the prefix that ends at each query position."""
        del deterministic
        return causal_mask(batch).astype(inputs.dtype)


class TransformerWeights(nn.Module):
    """Weights by what a Transformer makes of each item in its prefix."""

    encoder: TransformerEncoder
    dtype: str

    @nn.compact
    def __call__(self, inputs: jax.Array, batch: SessionBatch, deterministic: bool) -> jax.Array:
        """As `EqualWeights`."""
        hidden = self.encoder(inputs, batch, deterministic)
        exact = layer_precision(self.dtype)
        start = nn.initializers.normal(0.02)
        logits = nn.Dense(1, kernel_init=start, name="weight", **exact)(hidden)[..., 0].astype(jnp.float32)
        mask = causal_mask(batch)
        logits = jnp.where(mask, logits[:, None, :], -1e9)
        shifted = logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
        return jnp.where(mask, jnp.exp(shifted), 0)
