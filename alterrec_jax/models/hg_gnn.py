"""HG-GNN (Pang et al., WSDM 2022): a graph of all training sessions' items and users, then two readouts of a session.

Nodes are items and users (`data.graphs.items_and_users`). With Z their learned rows, z = dropout(Z) and mean over the
weighted neighbours of a node, itself among them:

    h = relu(W_s z + b_s + W_n mean + b_n),  x_i = (h + Z)/2 of item s_i,  u = (h + Z)/2 of the session's user

Over the last ten items of a prefix, m their mean and p_k a position embedding that counts from the last one, k = 0:

    c = sum of b_i x_i,   b_i  = w_2 . sigmoid(G_1 tanh(W_1 [p_(n-i) ; x_i]) + g_1 + G_2 m)
    o = sum of b'_i x_i,  b'_i = w_4 . sigmoid(G_3 tanh(W_3 x_i) + g_3 + G_4 u)
    a = sigmoid(w . [c ; o] + b),  q = u + a c + (1 - a) o

Scores are dot products with the items' raw rows of Z; the loss is the softmax over the catalogue.

This is the released forward pass: one layer and one map for edges of all kinds, no similarity edges between items or
between users, successors not added to the graph. The paper has a map for each kind of edge, several layers and those
edges. Departures from the released code:

* its users are classes of the softmax, and can be recommended; here only items are candidates;
* a user that training does not know has u = 0; it has no node there. Nobody says to `recommend` or to an export whose
  a session is, so they rank with u = 0;
* it chooses its epoch on the test set, here validation does.

In training the graph holds the very transition that is to be predicted, in evaluation it does not: dropout on the
nodes is what bridges that.
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
    Reads,
    SessionBatch,
    System,
    at_prefixes,
)
from alterrec_jax.errors import UserError
from alterrec_jax.models.registry import register
from alterrec_jax.models.single import single_network_system
from alterrec_jax.models.unimodal import empty_batch, uniform_params
from alterrec_jax.nn.gnn import MeanNeighbourLayer
from alterrec_jax.nn.item_tables import learned_items
from alterrec_jax.nn.segments import recent, recent_mask
from alterrec_jax.nn.vectors import dropout
from alterrec_jax.numerics import layer_precision
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.lookup import lookup
from alterrec_jax.sharding.per_item import zero_padding_rows

GRAPH = "items_and_users"


@dataclasses.dataclass(frozen=True)
class HGGNNNetworkConfig(OptimizerConfig):
    """The network; defaults are the authors'."""

    dim: int = setting(128, "width d of item, user and session embeddings", low=1)
    window: int = setting(10, "of a session, the latest items that are read; at most max_length of them", low=1)
    graph: bool = setting(True, "whether there is a graph layer; without one, x_i and u are the raw rows of Z")
    dropout: float = setting(0.5, "rate on what the graph layer reads", low=0, below=1)
    l2: float = setting(1e-5, "L2 added to the gradient before Adam (PyTorch's weight_decay); 0: none", low=0)
    decay_every: int = setting(3, "epochs after which the learning rate is multiplied by decay_factor; 0: never", low=0)


@register("hg_gnn", title="HG-GNN", paper="Pang et al., WSDM 2022", needs="users", layout=PACKED)
@dataclasses.dataclass(frozen=True)
class HGGNNConfig(RunConfig):
    """HG-GNN."""

    epochs: int = setting(20, "epochs in all", low=1)
    patience: int = setting(15, "stop after so many epochs without a better validation; 0: never", low=0)
    network: HGGNNNetworkConfig = dataclasses.field(default_factory=HGGNNNetworkConfig)

    def build(self, catalogue: CatalogueInfo) -> System:
        """The system, for a catalogue.

        Raises:
          UserError: training knows no user.
        """
        if not catalogue.users:
            raise UserError(
                "hg_gnn reads whose each session is, but the training sessions name no user; prepare the dataset with "
                "--user_column"
            )
        network = build_network(self.network, catalogue, self.max_length, self.precision)
        return single_network_system("hg_gnn", network, self.network, self.epochs)


def build_network(config: HGGNNNetworkConfig, catalogue: CatalogueInfo, max_length: int, dtype: str) -> Network:
    """The pure functions of HG-GNN."""
    items, dim = catalogue.items, config.dim
    of_items, layer = learned_items(items, dim), MeanNeighbourLayer(dtype)
    readout = Readout(min(config.window, max_length), dtype)
    per_item = ("items/table",)

    def item_tables(params: Params, context: Context, key: jax.Array | None = None) -> ItemTables:
        table, users = of_items.embed(params["items"], context), params["users"]
        if not config.graph:
            return ItemTables(table, users=users)
        # Every device computes all nodes: a neighbour may be any of them.
        everywhere = mesh.with_sharding_constraint(table, mesh.REPLICATED)[:items]
        nodes = jnp.concatenate([everywhere, users])
        hidden: jax.Array = layer.apply(  # type: ignore[assignment]
            {"params": params["graph"]}, dropout(key, nodes, config.dropout), context.graphs[GRAPH]
        )
        of_nodes = (hidden + nodes) / 2
        inputs = jnp.pad(of_nodes[:items], ((0, len(table) - items), (0, 0)))
        return ItemTables(
            table,
            mesh.with_sharding_constraint(inputs, mesh.ITEMS),
            mesh.with_sharding_constraint(of_nodes[items:], mesh.REPLICATED),
        )

    def session_embeddings(
        params: Params, tables: ItemTables, batch: SessionBatch, key: jax.Array | None = None
    ) -> jax.Array:
        del key  # dropout falls on the nodes
        inputs = lookup(tables.inputs, batch.items)
        users = users_of(tables, batch, inputs)
        queries: jax.Array = readout.apply({"params": params["readout"]}, inputs, users, batch)  # type: ignore[assignment]
        return at_prefixes(queries.astype(dtype), batch)

    def init(key: jax.Array, context: Context) -> Params:
        table_key, graph_key, readout_key, uniform_key = jax.random.split(key, 4)
        inputs = jnp.zeros((1, max_length, dim))
        params = {
            "items": of_items.init(table_key, context),
            "users": jnp.zeros((catalogue.users, dim)),
            "readout": readout.init(readout_key, inputs, inputs, empty_batch(max_length))["params"],
        }
        if config.graph:
            nodes = jnp.zeros((items + catalogue.users, dim))
            params["graph"] = layer.init(graph_key, nodes, context.graphs[GRAPH])["params"]
        return zero_padding_rows(per_item, uniform_params(uniform_key, params, dim), items)

    reads = Reads(graphs=(GRAPH,) if config.graph else (), users=True)
    return Network(
        init, item_tables, session_embeddings, items, dim, per_item, reads, layout=PACKED, per_user=("users",)
    )


def users_of(tables: ItemTables, batch: SessionBatch, like: jax.Array) -> jax.Array:
    """float32 [row, position, dim], u of the user whose session a position is of; 0 where nobody knows that user."""
    if tables.users is None or batch.users is None:
        return jnp.zeros_like(like)
    found = tables.users[jnp.maximum(batch.users, 0)]
    return jnp.where((batch.users >= 0)[..., None], found, 0)


class Readout(nn.Module):
    """What a session is about now, what of it its user is about in general, and both mixed."""

    window: int
    dtype: str

    @nn.compact
    def __call__(self, inputs: jax.Array, users: jax.Array, batch: SessionBatch) -> jax.Array:
        """float32 [row, position, dim], of items and of users -> float32 [row, position, dim]."""
        dim, exact = inputs.shape[-1], layer_precision(self.dtype)
        latest = recent(inputs, self.window)  # [row, position, age, dim]
        among = recent_mask(batch, self.window).astype(jnp.float32)

        def dense(name: str, bias: bool = False, width: int = dim) -> nn.Dense:
            return nn.Dense(width, use_bias=bias, name=name, **exact)

        def pooled(weights: jax.Array, values: jax.Array) -> jax.Array:
            return jnp.einsum("rpa,rpad->rpd", weights * among, values.astype(jnp.float32), precision="highest")

        mean = pooled(1 / jnp.maximum(jnp.sum(among, axis=2, keepdims=True), 1), latest)
        ages = self.param("ages", nn.initializers.normal(0.02), (self.window, dim))
        # W_1 [p ; x] as two products, each of fewer rows than there are pairs of position and age.
        hidden = jnp.tanh(recent(dense("items")(inputs), self.window) + dense("of_ages")(ages)[None, None])
        gate = jax.nn.sigmoid(dense("gate", bias=True)(hidden) + dense("gate_of_mean")(mean)[:, :, None])
        current = pooled(dense("weight", width=1)(gate)[..., 0].astype(jnp.float32), latest)

        # Of one user each, so that an item weighs the same in all prefixes.
        hidden = jnp.tanh(dense("general_items")(inputs))
        gate = jax.nn.sigmoid(dense("general_gate", bias=True)(hidden) + dense("gate_of_user")(users))
        weighed = dense("general_weight", width=1)(gate).astype(jnp.float32) * inputs
        general = pooled(jnp.ones_like(among), recent(weighed, self.window))

        both = jnp.concatenate([current, general], axis=-1)
        share = jax.nn.sigmoid(dense("share", bias=True, width=1)(both).astype(jnp.float32))
        return users + share * current + (1 - share) * general
