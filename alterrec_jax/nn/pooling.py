"""The session encoder g = mean (section 4.1.2 of the AlterRec paper)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from alterrec_jax.contract import SessionBatch
from alterrec_jax.nn.segments import causal_mask


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
