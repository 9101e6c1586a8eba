"""Graph layers: over the items of a session, gated or by attention, and means over the neighbours in a graph of all
sessions.

Those of a session work by masks alone: no node is numbered, nothing is built on the host. Every position computes the
vector of its own item's node, so positions that hold one item agree.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from alterrec_jax.contract import SessionBatch
from alterrec_jax.data.graphs import Hypergraph, NeighbourLists
from alterrec_jax.nn.item_tables import START
from alterrec_jax.nn.segments import same_segment
from alterrec_jax.numerics import layer_precision

SELF, PRECEDES, FOLLOWS, BOTH = 1, 2, 3, 4
"""Types of edges, of which a node has at most one to each other."""

SLOPE = 0.2
"""Of LeakyReLU where graph attention networks weigh neighbours."""


def session_graph(batch: SessionBatch) -> tuple[jax.Array, jax.Array]:
    """float32 [row, position, position] twice: means over distinct predecessors and over distinct successors.

    An edge leads from an item to each item that ever follows it in its segment, whatever the count; an item that
    follows itself is its own neighbour. Rows without a neighbour are zero. A node stands in the column of its first
    position.
    """
    segment = same_segment(batch)
    same, first = _same_item(batch, segment)
    edges = _followers(same, segment)

    def mean(edges: jax.Array) -> jax.Array:
        counted = (edges & first[:, None, :]).astype(jnp.float32)
        return counted / jnp.maximum(jnp.sum(counted, axis=2, keepdims=True), 1.0)

    return mean(jnp.swapaxes(edges, 1, 2)), mean(edges)


def edge_types(batch: SessionBatch) -> jax.Array:
    """int32 [row, position, position]: what the item of a column is to that of a row, in their segment.

    `SELF`: the same item; `PRECEDES`: it ever stands right before it; `FOLLOWS`: right behind it; `BOTH`: both. 0: none
    of these.
    """
    segment = same_segment(batch)
    same, _ = _same_item(batch, segment)
    follows = _followers(same, segment)
    precedes = jnp.swapaxes(follows, 1, 2)
    return jnp.select([same, precedes & follows, precedes, follows], [SELF, BOTH, PRECEDES, FOLLOWS], 0)


def latest_nodes(batch: SessionBatch) -> tuple[jax.Array, jax.Array]:
    """Nodes counted backwards, by where their items last appear.

    Returns:
      int32 [row, position]: numbers the distinct items of a segment from 0, which is the last one.
      bool [row, position]: where an item appears for the last time; False where there is none.
    """
    segment = same_segment(batch)
    same, _ = _same_item(batch, segment)
    places = jnp.arange(same.shape[1])
    last = jnp.max(jnp.where(same, places[None, None], -1), axis=2)
    latest = last == places[None]
    later = places[None, None] > last[:, :, None]
    return jnp.sum(segment & latest[:, None, :] & later, axis=2), latest


def node_numbers(batch: SessionBatch) -> jax.Array:
    """int32 [row, position]: numbers the distinct items of a segment from 0, in the order of their first appearance."""
    segment = same_segment(batch)
    same, first = _same_item(batch, segment)
    begins = jnp.argmax(same, axis=2)[:, :, None]
    before = jnp.arange(begins.shape[1])[None, None, :] < begins
    return jnp.sum(segment & first[:, None, :] & before, axis=2)


def first_appearances(batch: SessionBatch) -> jax.Array:
    """bool [row, position]: an item that its segment did not have before; True where there is no item."""
    return _same_item(batch, same_segment(batch))[1]


def _same_item(batch: SessionBatch, segment: jax.Array) -> tuple[jax.Array, jax.Array]:
    """bool [row, position, position], one item in one segment; and `first_appearances`."""
    same = segment & (batch.items[:, :, None] == batch.items[:, None, :])
    earlier = jnp.tril(jnp.ones(same.shape[1:], bool), -1)
    return same, ~jnp.any(same & earlier[None], axis=2)


def _followers(same: jax.Array, segment: jax.Array) -> jax.Array:
    """bool [row, position, position]: the item of a row is ever followed by that of a column."""
    # same[i, j - 1] where j - 1 and j are of one segment: the item of i is followed by what stands at j.
    follows = jnp.pad(same[:, :, :-1], ((0, 0), (0, 0), (1, 0))) & segment
    shared, chained = same.astype(jnp.float32), follows.astype(jnp.float32)
    return jnp.einsum("rij,rjk->rik", chained, shared) > 0


class TypedAttentionLayer(nn.Module):
    """Attention over a node's neighbours by the type of their edge (GCE-GNN, Wang et al., SIGIR 2020, eqs. 6-8).

        x'_i = sum of a_ij x_j,  a_i = softmax over neighbours j of LeakyReLU(w_t . (x_i * x_j)), t the type of (i, j)

    Attributes:
      kinds: how many types of edges there are, from 1.
    """

    kinds: int

    @nn.compact
    def __call__(self, nodes: jax.Array, types: jax.Array) -> jax.Array:
        """float32 [row, position, dim], and int32 [row, position, position], 0 for no edge -> as the first."""
        weights = self.param("weights", nn.initializers.normal(START), (self.kinds, nodes.shape[-1]))
        of_type = nodes[:, :, None] * weights[None, None]
        scores = jnp.einsum("rqtd,rkd->rtqk", of_type, nodes, precision="highest")
        # Those of the edge's own type; a gather's gradient would scatter.
        is_type = types[:, None] == jnp.arange(1, self.kinds + 1)[None, :, None, None]
        score = jnp.sum(jnp.where(is_type, scores, 0), axis=1)
        shares = nn.softmax(jnp.where(types > 0, nn.leaky_relu(score, SLOPE), -1e9), axis=-1)
        return jnp.einsum("rqk,rkd->rqd", shares, nodes, precision="highest")


class GatedGraphLayer(nn.Module):
    """A step of a gated graph neural network (SR-GNN, eqs. 1-5), as its released code computes it.

        a  = [A_in (W_1 h + b_1) + c_1 ; A_out (W_2 h + b_2) + c_2]
        r, z = sigmoid of maps of a and h;  n = tanh(W a + b + r * (U h + u));  h' = (1 - z) n + z h

    The paper and RecBole write h' = (1 - z) h + z n: the same family, with z for 1 - z.
    """

    dtype: str

    @nn.compact
    def __call__(self, hidden: jax.Array, incoming: jax.Array, outgoing: jax.Array) -> jax.Array:
        """float32 [row, position, dim] and two graphs [row, position, position] -> float32 [row, position, dim]."""
        dim = hidden.shape[-1]
        exact = layer_precision(self.dtype)

        def spread(graph: jax.Array, name: str) -> jax.Array:
            mapped = nn.Dense(dim, name=name, **exact)(hidden).astype(jnp.float32)
            bias = self.param(f"{name}_bias", nn.initializers.zeros, (dim,))
            return jnp.einsum("rqk,rkd->rqd", graph, mapped, precision="highest") + bias[None, None]

        around = jnp.concatenate([spread(incoming, "incoming"), spread(outgoing, "outgoing")], axis=-1)
        gates = nn.Dense(3 * dim, name="input_gates", **exact)(around).astype(jnp.float32)
        own = nn.Dense(3 * dim, name="hidden_gates", **exact)(hidden).astype(jnp.float32)
        (reset_a, update_a, new_a), (reset_h, update_h, new_h) = jnp.split(gates, 3, -1), jnp.split(own, 3, -1)
        reset, update = jax.nn.sigmoid(reset_a + reset_h), jax.nn.sigmoid(update_a + update_h)
        new = jnp.tanh(new_a + reset * new_h)
        return new + update * (hidden - new)


def sum_of_neighbours(graph: NeighbourLists, nodes: jax.Array) -> jax.Array:
    """float32 [node, dim]: of each node, its neighbours' rows, each times its weight.

    Weights are the same both ways, so the gradient is the same sum: nothing is scattered backwards.
    """
    return _sum_of_lists(graph, graph, nodes)


def hypergraph_mean(graph: Hypergraph, nodes: jax.Array) -> jax.Array:
    """float32 [item, dim], S x with S = D^-1 H B^-1 H^T: the mean over an item's sessions of the means of their items.

    Zeros of an item in no session. S itself would have an entry for each pair of items in a session.
    """
    means = _sum_of_lists(graph.sessions, graph.items, nodes) / graph.sessions.degree[:, None]
    return _sum_of_lists(graph.items, graph.sessions, means) / jnp.maximum(graph.items.degree, 1)[:, None]


@jax.custom_vjp
def _sum_of_lists(lists: NeighbourLists, transposed: NeighbourLists, nodes: jax.Array) -> jax.Array:
    """The sums over lists; `transposed` lists the same edges by their other ends, and the gradient is summed by it."""
    # One gather after another, which XLA fuses: no array has a row for each edge.
    parts = [nodes[lists.neighbours[:, k]] * lists.weights[:, k, None] for k in range(lists.neighbours.shape[1])]
    added = sum(parts[1:], parts[0])
    return jax.ops.segment_sum(added, lists.node, len(lists.degree), indices_are_sorted=True)


def _sum_forward(lists: NeighbourLists, transposed: NeighbourLists, nodes: jax.Array) -> tuple[jax.Array, Any]:
    return _sum_of_lists(lists, transposed, nodes), (lists, transposed)


def _sum_backward(both: tuple[NeighbourLists, NeighbourLists], cotangent: jax.Array) -> tuple[None, None, jax.Array]:
    lists, transposed = both
    return None, None, _sum_of_lists(transposed, lists, cotangent)


_sum_of_lists.defvjp(_sum_forward, _sum_backward)


class MeanNeighbourLayer(nn.Module):
    """GraphSAGE with means (Hamilton et al., 2017): h = relu(W_s z + b_s + W_n (mean of neighbours' z) + b_n)."""

    dtype: str

    @nn.compact
    def __call__(self, nodes: jax.Array, graph: NeighbourLists) -> jax.Array:
        """float32 [node, dim] -> float32 [node, dim]."""
        dim, exact = nodes.shape[-1], layer_precision(self.dtype)
        mean = sum_of_neighbours(graph, nodes) / graph.degree[:, None]
        mapped = nn.Dense(dim, name="own", **exact)(nodes) + nn.Dense(dim, name="neighbours", **exact)(mean)
        return nn.relu(mapped).astype(jnp.float32)
