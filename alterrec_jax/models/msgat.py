"""MSGAT (Qiao et al., CIKM 2023): a gated graph network, and attention that can leave items out, twice.

Everything but tables and queries has width 2d. The nodes of a prefix are its distinct items, and P_v is a position:

    g_v = LN([E_v ; P_v]),  h = GatedGraph(g), by position;  h_{n+1} = 0, a place for the target
    u_i = LN(c_i + D(W_2 relu(W_1 c_i))),  c_i = sum of entmax_a(D(relu(W_q h_i + b_q)) . h_j / sqrt(2d / heads)) h_j
    w_i = entmax_b(w_0 . relu(W_3 u_i + W_4 u_{n+1} + b)) over the n items,  v_i = sigmoid(A h_n + B h_i)
    p   = unit(D(selu(W_f [sum of w_i v_i ; u_{n+1}]))),  y_v = scale q . unit(E_v)

Attention over n + 1 places has heads; a of each, and b, is 1 + sigmoid of a map of the target's query, and of u_{n+1}.
q is p ("none"), or p + D(p + r) with r = unit(selu(sum of the distinct items' rows)) ("itself"): the released code's
intent neighbours, where a prefix has none but itself. r teaches the table nothing, as there.

Departures, from released code unless said:

- Its neighbours are the three most similar prefixes of the batch, in evaluation too. Test prefixes of one session lie
  next to each other, so that a prefix's neighbour holds its target: 68.39 Hits@20 on Diginetica, 47.35 once the test
  set is shuffled (issue 1 of its repository, where the author agrees). Here a vector is a function of its prefix, in
  training too. Its inter-session channel averages r over the batch by overlap; the attention behind that weighs
  copies of one row, so that none of its parameters has an effect. They are not here.
- Its position is the rank of an item's id among the prefix's. Here items are numbered as they first appear: renaming
  items changes nothing. The two agree where items first appear in the order of their ids.
- Its padding attends and is attended, and stands among the nodes. Here only items of the prefix and the target do.
- Its rows longer than `max_norm` are cut in the tables, here where they are looked up.
- It lowers the rate before an epoch, so after the 4th, 9th, 14th one; here after the 5th, 10th, 15th. It chooses its
  epoch on the test set, here validation does.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from alterrec_jax.config import OptimizerConfig, RunConfig, require_divisor, setting
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
from alterrec_jax.models.unimodal import empty_batch, encoded, uniform_params
from alterrec_jax.nn.entmax import entmax
from alterrec_jax.nn.gnn import GatedGraphLayer, first_appearances, node_numbers, session_graph
from alterrec_jax.nn.item_tables import NORM_EPSILON, learned_items
from alterrec_jax.nn.segments import at_last, same_segment
from alterrec_jax.nn.vectors import unit
from alterrec_jax.numerics import layer_precision
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.lookup import lookup
from alterrec_jax.sharding.per_item import zero_padding_rows


@dataclasses.dataclass(frozen=True)
class MSGATNetworkConfig(OptimizerConfig):
    """The network; defaults are the authors'."""

    dim: int = setting(100, "width d of item and session embeddings", low=1)
    steps: int = setting(1, "graph layers", low=1)
    heads: int = setting(5, "attention heads; a divisor of 2 dim", low=1)
    dropout: float = setting(0.2, "rate on queries, behind the feed-forward layers and on p", low=0, below=1)
    neighbours: str = setting(
        "none", "whose vectors are added to p: none, or the prefix's own p + r", choices=("none", "itself")
    )
    neighbour_dropout: float = setting(0.4, "rate on what is added", low=0, below=1)
    max_norm: float = setting(1.5, "longer rows of items and positions are cut to this length", above=0)
    scale: float = setting(20.0, "what dot products with unit item vectors are multiplied by", above=0)
    l2: float = setting(1e-5, "L2 added to the gradient before Adam (PyTorch's weight_decay); 0: none", low=0)
    decay_every: int = setting(5, "epochs after which the learning rate is multiplied by decay_factor; 0: never", low=0)


@register("msgat", title="MSGAT", paper="Qiao et al., CIKM 2023", layout=PREFIX)
@dataclasses.dataclass(frozen=True)
class MSGATConfig(RunConfig):
    """MSGAT."""

    batch_prefixes: int = setting(512, "prefixes a step", low=1)
    patience: int = setting(3, "stop after so many epochs without a better validation; 0: never", low=0)
    network: MSGATNetworkConfig = dataclasses.field(default_factory=MSGATNetworkConfig)

    def check(self) -> "MSGATConfig":
        """As `RunConfig.check`."""
        super().check()
        require_divisor("network.heads", self.network.heads, "2 network.dim", 2 * self.network.dim)
        return self

    def build(self, catalogue: CatalogueInfo) -> System:
        """The system, for a catalogue."""
        network = build_network(self.network, catalogue.items, self.max_length, self.precision)
        return single_network_system("msgat", network, self.network, self.epochs)


def build_network(config: MSGATNetworkConfig, items: int, max_length: int, dtype: str) -> Network:
    """The pure functions of MSGAT."""
    of_items, encoder = learned_items(items, config.dim), SparseGraphEncoder(config, max_length, dtype)
    per_item = ("items/table",)

    def item_tables(params: Params, context: Context, key: jax.Array | None = None) -> ItemTables:
        table = of_items.embed(params["items"], context, key)
        return ItemTables(mesh.with_sharding_constraint(unit(table), mesh.ITEMS), table)

    def session_embeddings(
        params: Params, tables: ItemTables, batch: SessionBatch, key: jax.Array | None = None
    ) -> jax.Array:
        inputs = lookup(tables.inputs, batch.items)
        queries: jax.Array = encoded(encoder, params["encoder"], inputs, batch, key)
        return at_prefixes((config.scale * queries).astype(dtype), batch)

    def init(key: jax.Array, context: Context) -> Params:
        table_key, encoder_key, uniform_key = jax.random.split(key, 3)
        inputs = jnp.zeros((1, max_length, config.dim))
        params = {
            "items": of_items.init(table_key, context),
            "encoder": encoder.init(encoder_key, inputs, empty_batch(max_length), True)["params"],
        }
        return zero_padding_rows(per_item, uniform_params(uniform_key, params, config.dim), items)

    return Network(init, item_tables, session_embeddings, items, config.dim, per_item, layout=PREFIX)


class SparseGraphEncoder(nn.Module):
    """From item vectors to q. Every position computes what belongs to its segment, and its last one is read."""

    config: MSGATNetworkConfig
    max_length: int
    dtype: str

    @nn.compact
    def __call__(self, inputs: jax.Array, batch: SessionBatch, deterministic: bool) -> jax.Array:
        """float32 [row, position, dim] -> float32 [row, position, dim], junk where no prefix ends."""
        given = self.config
        segment, rows = same_segment(batch), clip_length(inputs, given.max_norm)
        hidden = self._graph(rows, batch)
        each, target = jnp.split(self._attend(hidden, batch, deterministic), 2, axis=1)
        target = at_last(target, batch)

        wide = hidden.shape[-1]
        joined = self._dense(wide, "each", use_bias=False)(each) + self._dense(wide, "target")(target)
        logits = self._dense(1, "weight", use_bias=False)(nn.relu(joined))[:, None, :, 0]
        weights = entmax(jnp.broadcast_to(logits, segment.shape), self._alpha("alpha")(target), segment)
        gates = nn.sigmoid(self._dense(wide, "last_gate")(at_last(hidden, batch)) + self._dense(wide, "gate")(hidden))
        pooled = jnp.einsum("rqk,rkd->rqd", weights, gates, precision="highest")
        output = nn.selu(self._dense(given.dim, "output")(jnp.concatenate([pooled, target], axis=-1)))
        session = unit(nn.Dropout(given.dropout)(output, deterministic=deterministic))
        if given.neighbours == "none":
            return session
        distinct = (segment & first_appearances(batch)[:, None, :]).astype(jnp.float32)
        summed = jnp.einsum("rqk,rkd->rqd", distinct, jax.lax.stop_gradient(rows), precision="highest")
        added = session + unit(nn.selu(summed))
        return session + nn.Dropout(given.neighbour_dropout)(added, deterministic=deterministic)

    def _graph(self, rows: jax.Array, batch: SessionBatch) -> jax.Array:
        """h: float32 [row, position, 2 dim]."""
        positions = nn.Embed(self.max_length, rows.shape[-1], name="positions")(node_numbers(batch))
        joined = jnp.concatenate([rows, clip_length(positions, self.config.max_norm)], axis=-1)
        hidden = nn.LayerNorm(1e-12, use_fast_variance=False, name="input_norm")(joined)
        incoming, outgoing = session_graph(batch)
        for step in range(self.config.steps):
            hidden = GatedGraphLayer(self.dtype, name=f"graph_{step}")(hidden, incoming, outgoing)
        return hidden

    def _attend(self, hidden: jax.Array, batch: SessionBatch, deterministic: bool) -> jax.Array:
        """u: float32 [row, 2 * position, 2 dim], of the items, and behind them of the targets."""
        (rows, length, wide), heads = hidden.shape, self.config.heads
        dropout = nn.Dropout(self.config.dropout, deterministic=deterministic)
        to_query = self._dense(wide, "query")
        query = dropout(nn.relu(to_query(hidden)))
        target = dropout(jnp.broadcast_to(nn.relu(to_query(jnp.zeros((1, 1, wide)))), hidden.shape))
        target = at_last(target, batch)  # one mask of dropout a prefix

        keys = hidden.reshape(rows, length, heads, -1)
        queries = jnp.concatenate([query, target], axis=1).reshape(rows, 2 * length, heads, -1)
        logits = jnp.einsum("rqhd,rkhd->rhqk", queries, keys, precision="highest") / (wide / heads) ** 0.5
        alpha = jnp.swapaxes(self._alpha("head_alpha")(target.reshape(keys.shape)), 1, 2)
        # The target's place is zero: as a key it scores 0, as a value it adds nothing, but it takes its weight.
        logits = jnp.pad(logits, ((0, 0), (0, 0), (0, 0), (0, 1)))
        seen = jnp.pad(same_segment(batch), ((0, 0), (0, 0), (0, 1)), constant_values=True)
        weights = entmax(logits, jnp.tile(alpha, (1, 1, 2, 1)), jnp.tile(seen, (1, 2, 1))[:, None])
        mixed = jnp.einsum("rhqk,rkhd->rqhd", weights[..., :-1], keys, precision="highest")
        mixed = mixed.reshape(rows, 2 * length, wide)
        inner = nn.relu(self._dense(wide, "inner")(mixed))
        return nn.LayerNorm(NORM_EPSILON, name="norm")(mixed + dropout(self._dense(wide, "outer")(inner)))

    def _dense(self, width: int, name: str, use_bias: bool = True) -> Any:
        layer = nn.Dense(width, use_bias, name=name, **layer_precision(self.dtype))
        return lambda values: layer(values).astype(jnp.float32)

    def _alpha(self, name: str) -> Any:
        """How sparse the weights are: 1 is softmax, 2 sparsemax."""
        return lambda values: 1 + nn.sigmoid(self._dense(1, name)(values))


def clip_length(rows: jax.Array, length: float) -> jax.Array:
    """The rows [..., dim], those that are longer cut to a length, as a constant factor of the gradient."""
    squared = jax.lax.stop_gradient(jnp.sum(rows**2, axis=-1, keepdims=True))
    return rows * jnp.minimum(1, length * jax.lax.rsqrt(jnp.maximum(squared, 1e-24)))
