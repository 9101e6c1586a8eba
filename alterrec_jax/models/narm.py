"""NARM (Li et al., CIKM 2017): a GRU over a prefix, whose last state asks which of the earlier ones matter.

With h_1 .. h_n the states of the GRU, whose inputs are dropped out, and B the bilinear decoder:

    e_i = v . sigmoid(A_1 h_i + A_2 h_n),  c = sum over i of e_i h_i,  q = B dropout([c ; h_n]),  y_v = q . E_v

The paper writes E_v B [c ; h_n], which is the same. The weights e_i are not normalised: so are the paper's formula and
RecBole.

Departures: the GRU is PyTorch's, as in RecBole: it resets after the product with the state, has no biases, and its
gates are true sigmoids. The authors' own program resets before the product, has biases, and approximates its sigmoids
by straight lines; it puts a softmax over e_i, which the paper has not, and of a session over 19 items it keeps the
first 19, with a target that comes later. None of this is offered. Defaults are the paper's widths (50 and 100) and
batches of 512; RecBole's are 64, 128 and 2,048. Linear maps start as in RecBole (Xavier, and the GRU uniform), the item
table with a standard deviation of 0.02 as everywhere here. All prefixes of a session share the dropout of their inputs.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from alterrec_jax.config import OptimizerConfig, RunConfig, setting
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
from alterrec_jax.models.unimodal import empty_batch, encoded
from alterrec_jax.nn.gru import SegmentGRU
from alterrec_jax.nn.item_tables import learned_items
from alterrec_jax.nn.pooling import gated_sums
from alterrec_jax.numerics import layer_precision
from alterrec_jax.sharding.lookup import lookup
from alterrec_jax.sharding.per_item import zero_padding_rows


@dataclasses.dataclass(frozen=True)
class NARMNetworkConfig(OptimizerConfig):
    """The network; defaults are the paper's."""

    dim: int = setting(50, "width d of item and session embeddings", low=1)
    state: int = setting(100, "width of the GRU's state", low=1)
    input_dropout: float = setting(0.25, "rate on the items' vectors, before the GRU", low=0, below=1)
    output_dropout: float = setting(0.5, "rate on [c ; h_n], before the last map", low=0, below=1)


@register("narm", title="NARM", paper="Li et al., CIKM 2017", layout=PACKED)
@dataclasses.dataclass(frozen=True)
class NARMConfig(RunConfig):
    """NARM."""

    batch_prefixes: int = setting(512, "prefixes a step, rounded to whole rows", low=1)
    network: NARMNetworkConfig = dataclasses.field(default_factory=NARMNetworkConfig)

    def build(self, catalogue: CatalogueInfo) -> System:
        """The system, for a catalogue."""
        network = build_network(self.network, catalogue.items, self.max_length, self.precision)
        return single_network_system("narm", network, self.network, self.epochs)


def build_network(config: NARMNetworkConfig, items: int, max_length: int, dtype: str) -> Network:
    """The pure functions of NARM."""
    of_items, encoder = learned_items(items, config.dim), HybridEncoder(config, dtype)
    per_item = ("items/table",)

    def item_tables(params: Params, context: Context, key: jax.Array | None = None) -> ItemTables:
        return ItemTables(of_items.embed(params["items"], context, key))

    def session_embeddings(
        params: Params, tables: ItemTables, batch: SessionBatch, key: jax.Array | None = None
    ) -> jax.Array:
        inputs = lookup(tables.inputs, batch.items)
        queries: jax.Array = encoded(encoder, params["encoder"], inputs, batch, key)
        return at_prefixes(queries.astype(dtype), batch)

    def init(key: jax.Array, context: Context) -> Params:
        table_key, encoder_key = jax.random.split(key)
        inputs = jnp.zeros((1, max_length, config.dim))
        params = {
            "items": of_items.init(table_key, context),
            "encoder": encoder.init(encoder_key, inputs, empty_batch(max_length), True)["params"],
        }
        return zero_padding_rows(per_item, params, items)

    return Network(init, item_tables, session_embeddings, items, config.dim, per_item)


class HybridEncoder(nn.Module):
    """The GRU's own state, and the sum of the states that it attends to, mapped to the width of the items."""

    config: NARMNetworkConfig
    dtype: str

    @nn.compact
    def __call__(self, inputs: jax.Array, batch: SessionBatch, deterministic: bool) -> jax.Array:
        """float32 [row, position, dim] -> float32 [row, position, dim]; junk where a row holds no item."""
        config = self.config
        inputs = nn.Dropout(config.input_dropout)(inputs, deterministic=deterministic)
        states = SegmentGRU(config.state, self.dtype, name="gru")(inputs, batch)
        context = StateAttention(self.dtype, name="attention")(states, batch)
        joined = jnp.concatenate([context, states], axis=-1)
        joined = nn.Dropout(config.output_dropout)(joined, deterministic=deterministic)
        return _linear(config.dim, "output", self.dtype)(joined).astype(jnp.float32)


class StateAttention(nn.Module):
    """c of each prefix: its states, each times a weight that it and the last one give it."""

    dtype: str

    @nn.compact
    def __call__(self, states: jax.Array, batch: SessionBatch) -> jax.Array:
        """float32 [row, position, width] -> float32 [row, position, width]."""
        width = states.shape[-1]
        keys = _linear(width, "each", self.dtype)(states).astype(jnp.float32)
        queries = _linear(width, "last", self.dtype)(states).astype(jnp.float32)
        vector = self.param("weight", nn.initializers.xavier_normal(), (width, 1))
        return gated_sums(keys, queries, vector, states, batch, self.dtype)


def _linear(width: int, name: str, dtype: str) -> nn.Dense:
    start = nn.initializers.xavier_normal()
    return nn.Dense(width, use_bias=False, kernel_init=start, name=name, **layer_precision(dtype))
