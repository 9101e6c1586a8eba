"""Prefixes as sums of their items: the session encoder g = mean (section 4.1.2 of the AlterRec paper), and sums whose
weights are made of an item and the prefix that it is in."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from alterrec_jax.contract import SessionBatch
from alterrec_jax.nn.segments import causal_mask
from alterrec_jax.numerics import layer_precision, product


class MeanEncoder(nn.Module):
    """g = mean: the running mean of the items so far, for every prefix at once."""

    dropout: float

    @nn.compact
    def __call__(self, inputs: jax.Array, batch: SessionBatch, deterministic: bool) -> jax.Array:
        """float [row, position, dim] -> float [row, position, dim]; zeros where a row holds no item."""
        inputs = nn.Dropout(self.dropout)(inputs, deterministic=deterministic)
        share = causal_mask(batch).astype(inputs.dtype)
        return jnp.einsum(
            "rqk,rkd->rqd", share / jnp.maximum(share.sum(-1, keepdims=True), 1.0), inputs, precision="highest"
        )


def gated_sums(
    keys: jax.Array,
    queries: jax.Array,
    weight: jax.Array,
    values: jax.Array,
    batch: SessionBatch,
    dtype: str,
    bias: jax.Array | float = 0.0,
) -> jax.Array:
    """sum over i of e_i v_i with e_i = w . sigmoid(k_i + q_n) + b, over a prefix whose last position is n.

    Args:
      keys, queries: float32 [row, position, width].
      weight: w, float32 [width, 1].
      values: float32 [row, position, dim].
      batch: where prefixes begin.
      dtype: of what the product with w takes.
      bias: b, float32 [].

    Returns:
      float32 [row, position, dim]; zeros where a row holds no item.
    """

    def read(query: jax.Array, visible: jax.Array) -> jax.Array:
        gate = jax.nn.sigmoid(keys + query[:, None])
        weights = (product(gate, weight, dtype)[..., 0] + bias) * visible
        return jnp.einsum("rk,rkd->rd", weights, values, precision="highest")

    # Every pair of positions has a vector of its own. They are made for one query of each row after another, and
    # again for the gradient, so that no square of positions is held; a CPU is faster for it, too.
    over_queries = (jnp.swapaxes(queries, 0, 1), jnp.swapaxes(causal_mask(batch), 0, 1))
    found = jax.lax.map(lambda of_query: jax.checkpoint(read)(*of_query), over_queries)
    return jnp.swapaxes(found, 0, 1)


class GatedMeanEncoder(nn.Module):
    """sum over t of b_t v_t, b_t = w . sigmoid(G v_t + g + M mean(v)) + c, over each prefix: MMSBR's interest."""

    dtype: str

    @nn.compact
    def __call__(self, inputs: jax.Array, batch: SessionBatch) -> jax.Array:
        """float32 [row, position, dim] -> float32 [row, position, dim]; zeros where a row holds no item."""
        dim, exact = inputs.shape[-1], layer_precision(self.dtype)
        mean = MeanEncoder(0.0)(inputs, batch, True)
        keys = nn.Dense(dim, name="each", **exact)(inputs).astype(jnp.float32)
        queries = nn.Dense(dim, use_bias=False, name="mean", **exact)(mean).astype(jnp.float32)
        weight = self.param("weight", nn.initializers.xavier_normal(), (dim, 1))
        bias = self.param("bias", nn.initializers.zeros, (1,))
        return gated_sums(keys, queries, weight, inputs, batch, self.dtype, bias[0])
