"""Self-attention over a prefix with nothing around it: no output map, no residual, no positions (CoHHN, DIMO)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from alterrec_jax.contract import SessionBatch
from alterrec_jax.nn.segments import causal_mask
from alterrec_jax.numerics import layer_precision


class CausalAttention(nn.Module):
    """Multi-head attention of each position to the items of its prefix; queries, keys and values have biases.

    Attributes:
      heads: how many; a divisor of the width.
      dropout: rate on the weights.
      dtype: of what products take.
    """

    heads: int
    dropout: float
    dtype: str

    @nn.compact
    def __call__(self, inputs: jax.Array, batch: SessionBatch, deterministic: bool) -> jax.Array:
        """float32 [row, position, dim] -> float32 [row, position, dim]; junk where a row holds no item."""
        exact, split = layer_precision(self.dtype), (self.heads, inputs.shape[-1] // self.heads)
        query, key, value = (nn.DenseGeneral(split, name=name, **exact)(inputs) for name in ("query", "key", "value"))
        attended = nn.dot_product_attention(
            query,
            key,
            value,
            mask=causal_mask(batch)[:, None],
            dropout_rng=None if deterministic or not self.dropout else self.make_rng("dropout"),
            dropout_rate=self.dropout,
            broadcast_dropout=False,
            deterministic=deterministic,
            **exact,
        )
        return attended.reshape(inputs.shape).astype(jnp.float32)
