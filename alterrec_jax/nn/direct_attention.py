"""SRIM's direct attention: queries are mapped, keys and values are the rows as they are (eqs. 7 and 8).

Of a prefix of j items with rows x, and of each head a slice of their width w,

    A_tk = softmax over k <= j of  (W x_t + b) . x_k / sqrt(w),   s_t = sum over k of A_tk x_k

and the prefix is the mean of s_1 .. s_j, or s_j alone. What an earlier item attends to depends on where the prefix
ends, so the mean has weights of its own for each prefix: of item k in prefix j the mean of A_tk over t <= j. They are
made for all prefixes of a row at once, each exactly what it is alone.
"""

import jax
import jax.numpy as jnp

from alterrec_jax.contract import SessionBatch
from alterrec_jax.nn.segments import causal_mask
from alterrec_jax.nn.vectors import dropout

MEAN, LAST = "mean", "last"


def attended(
    queries: jax.Array,
    rows: jax.Array,
    batch: SessionBatch,
    heads: int,
    readout: str,
    rate: float = 0.0,
    key: jax.Array | None = None,
) -> jax.Array:
    """float32 [row, position, dim]: the prefix that ends at each position.

    Args:
      queries: float32 [row, position, dim], mapped rows.
      rows: float32 [row, position, dim], keys and values.
      batch: which positions belong together.
      heads: a divisor of dim; each has consecutive columns.
      readout: `MEAN` or `LAST`.
      rate: of dropout on the attention, for which all prefixes of a session have one mask.
      key: turns it on.
    """
    of_heads = (*rows.shape[:2], heads, -1)
    queries, keys = queries.reshape(of_heads), rows.reshape(of_heads)
    scaled = queries / keys.shape[-1] ** 0.5
    logits = jnp.einsum("rthw,rkhw->rhtk", scaled, keys, precision="highest")
    among = causal_mask(batch)  # [row, prefix, item]
    kept = dropout(key, jnp.ones_like(logits), rate)
    if readout == LAST:
        weights = kept * jax.nn.softmax(jnp.where(among[:, None], logits, -1e9), axis=-1)
    else:
        # [row, head, attending item, prefix, item], each the softmax over the items of one prefix.
        of_prefixes = jnp.where(among[:, None, None], logits[:, :, :, None], -1e9)
        attention = kept[:, :, :, None] * jax.nn.softmax(of_prefixes, axis=-1)
        weights = jnp.einsum("rjt,rhtjk->rhjk", prefix_mean(batch), attention, precision="highest")
    weights = jnp.where(among[:, None], weights, 0)
    return jnp.einsum("rhjk,rkhw->rjhw", weights, keys, precision="highest").reshape(rows.shape)


def prefix_mean(batch: SessionBatch) -> jax.Array:
    """float32 [row, prefix, item]: 1/j for the items of a prefix of j, 0 for others."""
    among = causal_mask(batch).astype(jnp.float32)
    return among / jnp.maximum(jnp.sum(among, axis=-1, keepdims=True), 1)
