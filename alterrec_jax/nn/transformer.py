"""Session encoders g (section 4.1.2): from the items of a session to an embedding of each of its prefixes."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from alterrec_jax.contract import PackedRows, same_segment
from alterrec_jax.numerics import precision_of

NORM_EPSILON = 1e-5  # PyTorch's, as in the released code; linen's own is 1e-6


class MeanEncoder(nn.Module):
    """g = mean: the running mean of the items so far, for every prefix at once."""

    dropout: float

    @nn.compact
    def __call__(self, inputs: jax.Array, rows: PackedRows, deterministic: bool) -> jax.Array:
        """float [row, position, dim] -> float [row, position, dim]; zeros where a row holds no item."""
        inputs = nn.Dropout(self.dropout)(inputs, deterministic=deterministic)
        share = same_segment(rows).astype(inputs.dtype)
        return jnp.einsum(
            "rqk,rkd->rqd", share / jnp.maximum(share.sum(-1, keepdims=True), 1.0), inputs, precision="highest"
        )


class TransformerEncoder(nn.Module):
    """g = causal Transformer, read at the last item of the prefix.

    As in the released code: post-LayerNorm blocks, ReLU, a feed-forward width of 4 dim, no bias in the attention,
    learned positions from 0, LayerNorm and dropout on the input.
    """

    layers: int
    heads: int
    dropout: float
    max_length: int
    dtype: str

    @nn.compact
    def __call__(self, inputs: jax.Array, rows: PackedRows, deterministic: bool) -> jax.Array:
        """float [row, position, dim] -> float [row, position, dim]; junk where a row holds no item."""
        dim = inputs.shape[-1]
        places = nn.Embed(self.max_length, dim, embedding_init=nn.initializers.normal(0.02), name="positions")
        hidden = nn.LayerNorm(NORM_EPSILON, name="input_norm")(inputs + places(rows.positions))
        hidden = nn.Dropout(self.dropout)(hidden, deterministic=deterministic)
        mask = same_segment(rows)[:, None]
        for layer in range(self.layers):
            hidden = _Block(self.heads, self.dropout, self.dtype, name=f"block_{layer}")(hidden, mask, deterministic)
        return hidden


class _Block(nn.Module):
    heads: int
    dropout: float
    dtype: str

    @nn.compact
    def __call__(self, hidden: jax.Array, mask: jax.Array, deterministic: bool) -> jax.Array:
        dim = hidden.shape[-1]
        # Of the products alone: sums and norms stay float32.
        exact: dict[str, Any] = {"dtype": jnp.dtype(self.dtype), "precision": precision_of(self.dtype)}
        attention = nn.MultiHeadDotProductAttention(
            self.heads, use_bias=False, dropout_rate=self.dropout, broadcast_dropout=False, name="attention", **exact
        )
        attended = attention(hidden, mask=mask, deterministic=deterministic)
        attended = nn.Dropout(self.dropout)(attended, deterministic=deterministic)
        hidden = nn.LayerNorm(NORM_EPSILON, name="attention_norm")(hidden + attended.astype(hidden.dtype))
        inner = nn.relu(nn.Dense(4 * dim, name="inner", **exact)(hidden))
        outer = nn.Dense(dim, name="outer", **exact)(inner)
        outer = nn.Dropout(self.dropout)(outer, deterministic=deterministic)
        return nn.LayerNorm(NORM_EPSILON, name="feed_forward_norm")(hidden + outer.astype(hidden.dtype))
