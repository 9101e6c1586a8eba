"""SR-GNN (Wu et al., AAAI 2019): a gated graph network over the items of a prefix, and a soft attention readout.

Nodes are the distinct items of a prefix; an edge leads from an item to each that follows it. With h' the node vectors
after the graph layers and s_n the last item (eqs. 6-8):

    e_i = w_3 . sigmoid(W_1 h'_n + W_2 h'_i),  g = sum over positions i of e_i h'_i,  q = W_t [g ; h'_n]

Scores are dot products with the raw item table; the loss is the softmax over the catalogue.

Departures: edges count once, whatever their number, and gates are as in the released code (the paper weighs edges by
count); the attention has no softmax, in both. The released code chooses its epoch on the test set, here validation
does.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from alterrec_jax.config import OptimizerConfig, RunConfig, setting
from alterrec_jax.contract import (
    PREFIX,
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
from alterrec_jax.nn.gnn import GatedGraphLayer, session_graph
from alterrec_jax.nn.item_tables import learned_items
from alterrec_jax.nn.segments import at_last, same_segment
from alterrec_jax.numerics import layer_precision
from alterrec_jax.sharding.lookup import lookup
from alterrec_jax.sharding.per_item import zero_padding_rows


@dataclasses.dataclass(frozen=True)
class SRGNNNetworkConfig(OptimizerConfig):
    """The network; defaults are the authors'."""

    dim: int = setting(100, "width d of item and session embeddings", low=1)
    steps: int = setting(1, "graph layers", low=1)
    l2: float = setting(1e-5, "L2 added to the gradient before Adam (PyTorch's weight_decay); 0: none", low=0)
    decay_every: int = setting(3, "epochs after which the learning rate is multiplied by decay_factor; 0: never", low=0)


@register("sr_gnn", title="SR-GNN", paper="Wu et al., AAAI 2019", layout=PREFIX)
@dataclasses.dataclass(frozen=True)
class SRGNNConfig(RunConfig):
    """SR-GNN."""

    batch_prefixes: int = setting(100, "prefixes a step", low=1)
    network: SRGNNNetworkConfig = dataclasses.field(default_factory=SRGNNNetworkConfig)

    def build(self, catalogue: CatalogueInfo) -> System:
        """The system, for a catalogue."""
        network = build_network(self.network, catalogue.items, self.max_length, self.precision)
        return single_network_system("sr_gnn", network, self.network, self.epochs)


def build_network(config: SRGNNNetworkConfig, items: int, max_length: int, dtype: str) -> Network:
    """The pure functions of SR-GNN."""
    of_items, encoder = learned_items(items, config.dim), GraphEncoder(config.steps, dtype)
    per_item = ("items/table",)

    def item_tables(params: Params, context: Context, key: jax.Array | None = None) -> ItemTables:
        return ItemTables(of_items.embed(params["items"], context, key))

    def session_embeddings(
        params: Params, tables: ItemTables, batch: SessionBatch, key: jax.Array | None = None
    ) -> jax.Array:
        del key  # there is no dropout
        inputs = lookup(tables.inputs, batch.items)
        queries: jax.Array = encoder.apply({"params": params["encoder"]}, inputs, batch)  # type: ignore[assignment]
        return queries.astype(dtype)

    def init(key: jax.Array, context: Context) -> Params:
        table_key, encoder_key, uniform_key = jax.random.split(key, 3)
        inputs = jnp.zeros((1, max_length, config.dim))
        params = {
            "items": of_items.init(table_key, context),
            "encoder": encoder.init(encoder_key, inputs, empty_batch(max_length))["params"],
        }
        return zero_padding_rows(per_item, uniform_params(uniform_key, params, config.dim), items)

    return Network(init, item_tables, session_embeddings, items, config.dim, per_item, layout=PREFIX)


class GraphEncoder(nn.Module):
    """Graph layers and the readout."""

    steps: int
    dtype: str

    @nn.compact
    def __call__(self, inputs: jax.Array, batch: SessionBatch) -> jax.Array:
        """float32 [row, position, dim] -> float32 [prefix, dim]."""
        dim = inputs.shape[-1]
        exact = layer_precision(self.dtype)
        hidden, (incoming, outgoing) = inputs, session_graph(batch)
        for step in range(self.steps):
            hidden = GatedGraphLayer(self.dtype, name=f"graph_{step}")(hidden, incoming, outgoing)
        segment = same_segment(batch)
        last_hidden = at_last(hidden, batch)
        joined = nn.Dense(dim, name="last", **exact)(last_hidden) + nn.Dense(dim, name="each", **exact)(hidden)
        weight = nn.Dense(1, use_bias=False, name="attention", **exact)(jax.nn.sigmoid(joined)).astype(jnp.float32)
        pooled = jnp.einsum("rqk,rkd->rqd", segment.astype(jnp.float32), weight * hidden, precision="highest")
        read = jnp.concatenate([at_prefixes(pooled, batch), at_prefixes(hidden, batch)], axis=-1)
        return nn.Dense(dim, name="output", **exact)(read).astype(jnp.float32)
