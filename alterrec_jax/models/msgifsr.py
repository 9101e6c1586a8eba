"""MSGIFSR (Guo et al., WSDM 2022): intents of several grains, in a graph of the n-grams of a prefix.

Nodes are the distinct windows of 1 .. K consecutive items of a prefix, K being `order` (`nn.ngrams`); h_v is a node's
vector after graph attention along and against all edges (`nn.ngram_attention`). All nodes v, of whatever length, are
read by the last item n (eqs. 8-10):

    a = softmax over v of w . sigmoid(U h_v + b + V h_n),  g = sum of a_v h_v,  r = unit(W [h_n ; g])

The score is 12 r . unit(E_v). With `renorm` (REnorm, eqs. 12-13) the items S of the prefix and all others have a
softmax each, and phi = softmax(MLP(r)) chooses between them:

    p(v) = phi_0 softmax over S (v)  if v is in S,  phi_1 softmax over the others (v)  if not.

Up to a number that is the same for all items, log p is the score and, for items of S alone, an offset

    (log phi_0 - log sum over S of exp(score)) - (log phi_1 - log sum over the others of exp(score)),

so ranking by p is ranking by a dot product and a sparse sum (`Neighbours`, where each item names itself).

Departures. The mixture over K (IFR) is left out, and with it the readouts of longer windows, which it alone uses. A
prefix shorter than n items has one n-gram, its last item n times, where the released code repeats the smallest item
number. Every kind of edge gives its residual, where DGL leaves out kinds without an edge in the batch. Rows of the
table are cut to length 1 as they are read, without gradient; the released code writes them back so. Dropout of inputs
is drawn once for each size of windows and, in a layer, each direction, not for each kind of edge and window. L2 falls
on biases too. Training sessions are shuffled, and validation chooses the epoch (there: in the order of time, by the
test set). Defaults are those of `main_msgifsr.py` with REnorm, as in the paper; its `start.sh` runs order 1 without.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from alterrec_jax.config import OptimizerConfig, RunConfig, setting
from alterrec_jax.contract import (
    PREFIX,
    CatalogueInfo,
    Component,
    Context,
    ItemSums,
    ItemTables,
    Neighbours,
    Network,
    Objective,
    Params,
    SessionBatch,
    Stage,
    System,
    at_prefixes,
)
from alterrec_jax.losses.objectives import NEXT_ITEM
from alterrec_jax.losses.renorm import Mixture, renormed
from alterrec_jax.models.neighbours import latest_items
from alterrec_jax.models.registry import register
from alterrec_jax.models.single import FULL, single_network_system
from alterrec_jax.models.unimodal import empty_batch, encoded, uniform_params
from alterrec_jax.nn.item_tables import learned_items
from alterrec_jax.nn.ngram_attention import NGramAttention
from alterrec_jax.nn.ngrams import WindowEncoder, ngram_graph
from alterrec_jax.nn.segments import at_last, same_segment
from alterrec_jax.nn.vectors import unit
from alterrec_jax.numerics import layer_precision
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.lookup import lookup
from alterrec_jax.sharding.per_item import zero_padding_rows

_SCALE = 12.0  # of cosines (released code)
_ITEMS_AT_ONCE = 2**14  # of the catalogue, where nothing is learned from their scores
_OFFSETS = "renorm"


@dataclasses.dataclass(frozen=True)
class MSGIFSRNetworkConfig(OptimizerConfig):
    """The network; defaults are the authors'."""

    order: int = setting(3, "K, items of the longest n-gram; 1: the items alone", low=1)
    renorm: bool = setting(True, "REnorm: a softmax for items of the session and one for all others")
    dim: int = setting(256, "width d of item and session embeddings", low=1)
    layers: int = setting(1, "layers of graph attention", low=1)
    heads: int = setting(8, "attention heads, each of width d", low=1)
    dropout: float = setting(0.1, "rate on items, on what comes into a layer and on attention weights", low=0, below=1)
    l2: float = setting(1e-4, "L2 added to the gradient before Adam (PyTorch's weight_decay); 0: none", low=0)
    decay_every: int = setting(3, "epochs after which the learning rate is multiplied by decay_factor; 0: never", low=0)


@register("msgifsr", title="MSGIFSR", paper="Guo et al., WSDM 2022", layout=PREFIX)
@dataclasses.dataclass(frozen=True)
class MSGIFSRConfig(RunConfig):
    """MSGIFSR."""

    patience: int = setting(3, "stop after so many epochs without a better validation; 0: never", low=0)
    network: MSGIFSRNetworkConfig = dataclasses.field(default_factory=MSGIFSRNetworkConfig)

    def build(self, catalogue: CatalogueInfo) -> System:
        """The system, for a catalogue."""
        model = MSGIFSR(self.network, catalogue.items, self.max_length, self.precision)
        system = single_network_system("msgifsr", model.network, self.network, self.epochs)
        if not self.network.renorm:
            return system
        components = {**system.components, _OFFSETS: Component(model.offsets, "msgifsr")}
        views = {"msgifsr": dict.fromkeys(components, 1.0)}
        return system._replace(components=components, views=views, objectives={FULL: model.objective})


class ItemRows(NamedTuple):
    """The learned rows of the items: float32 [item, dim], of length 1 each, and [item, 1], how long they were."""

    unit: jax.Array
    length: jax.Array


class MSGIFSR:
    """The pure functions of MSGIFSR.

    Attributes:
      network: what trains, and scores by vectors.
      offsets: what REnorm adds to the items of a session, a function of the same parameters.
    """

    def __init__(self, config: MSGIFSRNetworkConfig, items: int, max_length: int, dtype: str):
        self._encoder = IntentEncoder(config, dtype)
        self._of_items = learned_items(items, config.dim)
        self._max_length = max_length
        per_item = ("items/table",)
        self.network = Network(self._init, self._tables, self._queries, items, config.dim, per_item, layout=PREFIX)
        self.offsets = self.network._replace(item_tables=self._identity, session_embeddings=self._offsets, dim=0)

    def _init(self, key: jax.Array, context: Context) -> Params:
        config = self._encoder.config
        table_key, encoder_key, uniform_key = jax.random.split(key, 3)
        inputs = jnp.zeros((1, self._max_length, config.dim))
        params = {
            "items": self._of_items.init(table_key, context),
            "encoder": self._encoder.init(encoder_key, inputs, empty_batch(self._max_length), True)["params"],
        }
        return zero_padding_rows(
            self.network.per_item, uniform_params(uniform_key, params, config.dim), self.network.catalogue_size
        )

    def _tables(self, params: Params, context: Context, key: jax.Array | None = None) -> ItemTables:
        table = self._of_items.embed(params["items"], context, key)
        length = jnp.sqrt(jnp.maximum(jnp.sum(table**2, axis=1, keepdims=True), 1e-24))  # as `unit` has it
        rows = ItemRows(*(mesh.with_sharding_constraint(part, mesh.ITEMS) for part in (unit(table), length)))
        return ItemTables(rows.unit, rows)

    def _identity(self, params: Params, context: Context, key: jax.Array | None = None) -> ItemTables:
        inputs = self._tables(params, context, key).inputs
        itself = jnp.arange(len(inputs.unit), dtype=jnp.int32)[:, None]
        rows = Neighbours(itself, jnp.ones(itself.shape, jnp.float32))
        return ItemTables(jax.tree.map(lambda part: mesh.with_sharding_constraint(part, mesh.ITEMS), rows), inputs)

    def _read(
        self, params: Params, rows: ItemRows, batch: SessionBatch, key: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """float [prefix, dim], 12 r, and float32 [prefix, 2], log phi."""
        units, length = (lookup(part, batch.items) for part in rows)
        longer = jax.lax.stop_gradient(jnp.maximum(length, 1))
        intents, log_shares = encoded(self._encoder, params["encoder"], units * (length / longer), batch, key)
        return (_SCALE * intents).astype(self._encoder.dtype), log_shares

    def _queries(
        self, params: Params, tables: ItemTables, batch: SessionBatch, key: jax.Array | None = None
    ) -> jax.Array:
        return self._read(params, tables.inputs, batch, key)[0]

    def _offsets(
        self, params: Params, tables: ItemTables, batch: SessionBatch, key: jax.Array | None = None
    ) -> ItemSums:
        read = self._read(params, tables.inputs, batch, key)
        return self._mixture(*read, tables.inputs.unit, batch, _ITEMS_AT_ONCE).offsets

    def _mixture(
        self, queries: jax.Array, log_shares: jax.Array, table: jax.Array, batch: SessionBatch, block: int | None = None
    ) -> Mixture:
        session = latest_items(batch, 1.0, self._max_length)
        return renormed(queries, table, log_shares, session, self.network.catalogue_size, block)

    def objective(self, stage: Stage) -> Objective:
        """-log p of the item that follows, under the mixture."""
        (name,) = stage.trains

        def loss(
            params: Mapping[str, Params], context: Context, batch: SessionBatch, key: jax.Array, mined: None
        ) -> dict[str, jax.Array]:
            del mined
            tables = self._tables(params[name], context)
            queries, log_shares = self._read(params[name], tables.inputs, batch, key)
            queries = mesh.with_sharding_constraint(queries, mesh.BATCH)
            mixture = self._mixture(queries, log_shares, tables.candidates, batch)
            scores = jnp.einsum("pd,pd->p", queries, lookup(tables.candidates, batch.targets))
            return {NEXT_ITEM: -jnp.sum(mixture.log_probs(scores, batch.targets), where=batch.is_target)}

        return Objective(loss)


class IntentEncoder(nn.Module):
    """The graph of n-grams and its readout."""

    config: MSGIFSRNetworkConfig
    dtype: str

    @nn.compact
    def __call__(self, inputs: jax.Array, batch: SessionBatch, deterministic: bool) -> tuple[jax.Array, jax.Array]:
        """float32 [row, position, dim] -> float32 [prefix, dim], r, and float32 [prefix, 2], log phi.

        Without REnorm the latter is zero.
        """
        config, dim, exact = self.config, inputs.shape[-1], layer_precision(self.dtype)
        graph, segment = ngram_graph(batch, config.order), same_segment(batch)
        of_sizes = jnp.broadcast_to(inputs[:, None], (inputs.shape[0], config.order, *inputs.shape[1:]))
        dropped = nn.Dropout(config.dropout)(of_sizes, deterministic=deterministic)
        hidden = unit(WindowEncoder(self.dtype, name="windows")(dropped, graph.short))
        for layer in range(config.layers):
            attention = NGramAttention(config.heads, config.dropout, self.dtype, name=f"layer_{layer}")
            hidden = attention(hidden, graph, segment, deterministic)
        hidden = unit(hidden)

        last_hidden = jnp.take_along_axis(hidden[:, 0], at_last(graph.item_node[..., None], batch), axis=1)
        joined = nn.Dense(dim, name="each", **exact)(hidden)
        joined += nn.Dense(dim, use_bias=False, name="last", **exact)(last_hidden)[:, None]
        logits = nn.Dense(1, use_bias=False, name="attention", **exact)(jax.nn.sigmoid(joined))[..., 0]
        mask = segment[:, None] & graph.nodes[:, :, None]  # [row, size, position, position of a node]
        logits = jnp.where(mask, logits[:, :, None].astype(jnp.float32), -1e9)
        weights = jnp.where(mask, jax.nn.softmax(logits, axis=(1, 3)), 0)
        pooled = jnp.einsum("rkqs,rksd->rqd", weights, hidden, precision="highest")

        read = jnp.concatenate([at_prefixes(last_hidden, batch), at_prefixes(pooled, batch)], axis=-1)
        intents = unit(nn.Dense(dim, use_bias=False, name="output", **exact)(read).astype(jnp.float32))
        if not config.renorm:
            return intents, jnp.zeros((intents.shape[0], 2))
        inner = nn.relu(nn.Dense(dim, name="shares_inner", **exact)(intents))
        shares = nn.Dense(2, use_bias=False, name="shares", **exact)(inner).astype(jnp.float32)
        return intents, jax.nn.log_softmax(shares)
