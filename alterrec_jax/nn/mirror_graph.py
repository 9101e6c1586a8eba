"""MGS's encoder (Lai et al., 2022): the graph of a prefix, each node of which has a mirror made of other items."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from alterrec_jax.contract import SessionBatch
from alterrec_jax.nn.gnn import BOTH, TypedAttentionLayer, edge_types, latest_nodes
from alterrec_jax.nn.segments import at_last, same_segment
from alterrec_jax.numerics import layer_precision


def node_columns(batch: SessionBatch) -> jax.Array:
    """bool [row, position, position]: which columns stand for the nodes of a position's graph, one for each."""
    return same_segment(batch) & latest_nodes(batch)[1][:, None, :]


class MirrorGraphLayer(nn.Module):
    """A step: nodes x hear from their neighbours, and exchange with their mirrors m.

    x_i <- `TypedAttentionLayer`;  x_i <- x_i + a_i (m_i - x_i), a_i = (W_q x_i) . (W_k m_i) / sqrt(d)
    m_i <- sum over nodes j of softmax_j((W_q' m_i) . (W_k' x_j) / sqrt(d)) m_j
    """

    dtype: str

    @nn.compact
    def __call__(
        self, hidden: jax.Array, mirrors: jax.Array, types: jax.Array, nodes: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """x and m, float32 [row, position, dim], from the same.

        Args:
          hidden, mirrors: x and m.
          types: int32 [row, position, position], `edge_types` in the columns that stand for nodes; 0 elsewhere.
          nodes: bool [row, position, position], which columns these are, in the segment of the row's position.
        """
        dim, exact = hidden.shape[-1], layer_precision(self.dtype)

        def mapped(values: jax.Array, name: str) -> jax.Array:
            return nn.Dense(dim, use_bias=False, name=name, **exact)(values).astype(jnp.float32) * dim**-0.25

        hidden = TypedAttentionLayer(BOTH, name="neighbours")(hidden, types)
        pull = jnp.sum(mapped(hidden, "pull_query") * mapped(mirrors, "pull_key"), axis=-1, keepdims=True)
        hidden = hidden + pull * (mirrors - hidden)
        query, key = mapped(mirrors, "mirror_query"), mapped(hidden, "mirror_key")
        logits = jnp.where(nodes, jnp.einsum("rqd,rkd->rqk", query, key, precision="highest"), -1e9)
        return hidden, jnp.einsum("rqk,rkd->rqd", nn.softmax(logits, axis=-1), mirrors, precision="highest")


class MirrorGraphEncoder(nn.Module):
    """From items and their mirrors to q. Every position computes its segment's, of which the last one is read.

    Attributes:
      steps: how many layers.
      last_item: mu, the largest share of the last item in q; 0: none.
      dropout: rate on q.
      max_length: the longest prefix.
      dtype: of what products take.
    """

    steps: int
    last_item: float
    dropout: float
    max_length: int
    dtype: str

    @nn.compact
    def __call__(self, rows: jax.Array, mirrors: jax.Array, batch: SessionBatch, deterministic: bool) -> jax.Array:
        """float32 [row, position, dim], twice -> float32 [row, position, dim], junk where no prefix ends."""
        dim, nodes = rows.shape[-1], node_columns(batch)

        def dense(name: str, values: jax.Array, bias: bool = False, width: int = dim) -> Any:
            layer = nn.Dense(width, use_bias=bias, name=name, **layer_precision(self.dtype))
            return layer(values).astype(jnp.float32)

        types, hidden = jnp.where(nodes, edge_types(batch), 0), rows
        for step in range(self.steps):
            hidden, mirrors = MirrorGraphLayer(self.dtype, name=f"graph_{step}")(hidden, mirrors, types, nodes)
        gate = nn.sigmoid(dense("highway", jnp.concatenate([rows, hidden], axis=-1)))
        hidden = gate * rows + (1 - gate) * hidden

        last = at_last(hidden, batch)
        ages = nn.Embed(self.max_length, dim, name="ages")(latest_nodes(batch)[0])
        placed = hidden + ages
        joined = dense("each", placed) + dense("mirror", mirrors) + dense("last", last, bias=True)
        weighed = dense("weight", nn.sigmoid(joined), width=1) * placed
        pooled = jnp.einsum("rqk,rkd->rqd", nodes.astype(jnp.float32), weighed, precision="highest")
        if self.last_item:
            share = self.last_item * nn.sigmoid(dense("gate", jnp.concatenate([pooled, last], axis=-1)))
            pooled = share * last + (1 - share) * pooled
        return nn.Dropout(self.dropout)(pooled, deterministic=deterministic)
