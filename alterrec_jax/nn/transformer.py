"""The Transformer of session encoders, in the variants that released code uses."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax

from alterrec_jax.contract import SessionBatch
from alterrec_jax.nn.segments import causal_mask, same_segment
from alterrec_jax.numerics import layer_precision


@dataclasses.dataclass(frozen=True)
class TransformerSettings:
    """A Transformer. The defaults are those of AlterRec's released code.

    Attributes:
      layers, heads: how many; heads divide the width of the input, unless `head_dim` says how wide each is.
      dropout: rate on the input and behind each sublayer.
      dtype: of what products take.
      attention_dropout: rate on attention weights; None is `dropout`.
      activation: "relu" or "gelu" (exact, by the error function).
      attention_bias: whether the four maps of the attention have biases.
      inner: width of the feed-forward layer; 0 is 4 times the input's.
      norm_epsilon: of every LayerNorm.
      fast_variance: whether LayerNorm takes E[x^2] - E[x]^2; an epsilon of 1e-12 cannot bear its rounding.
      init_stddev: of every weight, normal; 0 leaves flax's initialisers.
      head_dim: width of a head; 0 is the input's divided by `heads`.
      bare_input: whether the input has neither LayerNorm nor dropout.
    """

    layers: int
    heads: int
    dropout: float
    dtype: str = "float32"
    attention_dropout: float | None = None
    activation: str = "relu"
    attention_bias: bool = False
    inner: int = 0
    norm_epsilon: float = 1e-6
    fast_variance: bool = True
    init_stddev: float = 0.0
    head_dim: int = 0
    bare_input: bool = False

    def norm(self, name: str) -> nn.LayerNorm:
        """A LayerNorm."""
        return nn.LayerNorm(self.norm_epsilon, use_fast_variance=self.fast_variance, name=name)

    @property
    def kernels(self) -> dict[str, Any]:
        """How weights begin, for modules with a `kernel_init`."""
        return {"kernel_init": nn.initializers.normal(self.init_stddev)} if self.init_stddev else {}


def recbole_transformer(
    layers: int, heads: int, dropout: float, attention_dropout: float, inner: int, dtype: str
) -> TransformerSettings:
    """RecBole's block, which BSARec, S3-Rec and UniSRec share: GELU, biases everywhere, LayerNorm epsilon 1e-12."""
    return TransformerSettings(
        layers,
        heads,
        dropout,
        dtype,
        attention_dropout,
        activation="gelu",
        attention_bias=True,
        inner=inner,
        norm_epsilon=1e-12,
        fast_variance=False,
        init_stddev=0.02,
    )


class TransformerEncoder(nn.Module):
    """A Transformer of post-LayerNorm blocks: causal, read at the last item of the prefix, or seeing whole segments.

    Learned positions from 0, LayerNorm and dropout on the input unless that is bare.
    """

    settings: TransformerSettings
    max_length: int
    causal: bool = True

    @nn.compact
    def __call__(self, inputs: jax.Array, batch: SessionBatch, deterministic: bool) -> jax.Array:
        """float [row, position, dim] -> float [row, position, dim]; junk where a row holds no item."""
        given = self.settings
        start = nn.initializers.normal(0.02)
        positions = nn.Embed(self.max_length, inputs.shape[-1], embedding_init=start, name="positions")
        hidden = inputs + positions(batch.positions)
        if not given.bare_input:
            hidden = given.norm("input_norm")(hidden)
            hidden = nn.Dropout(given.dropout)(hidden, deterministic=deterministic)
        return _blocks(given, hidden, batch, self.causal, deterministic)


class TransformerBlocks(nn.Module):
    """The blocks alone, of a Transformer whose input has its positions and its LayerNorm already."""

    settings: TransformerSettings
    causal: bool = True

    @nn.compact
    def __call__(self, hidden: jax.Array, batch: SessionBatch, deterministic: bool) -> jax.Array:
        """As `TransformerEncoder`."""
        return _blocks(self.settings, hidden, batch, self.causal, deterministic)


def _blocks(
    given: TransformerSettings, hidden: jax.Array, batch: SessionBatch, causal: bool, deterministic: bool
) -> jax.Array:
    """One block after another, within a compact module."""
    mask = (causal_mask if causal else same_segment)(batch)[:, None]
    for layer in range(given.layers):
        hidden = _Block(given, name=f"block_{layer}")(hidden, mask, deterministic)
    return hidden


class _Block(nn.Module):
    settings: TransformerSettings

    @nn.compact
    def __call__(self, hidden: jax.Array, mask: jax.Array, deterministic: bool) -> jax.Array:
        hidden = attention_sublayer(self.settings, hidden, hidden, mask, deterministic)
        return feed_forward_sublayer(self.settings, hidden, deterministic)


def attention_sublayer(
    given: TransformerSettings, queries: jax.Array, keys: jax.Array, mask: jax.Array, deterministic: bool
) -> jax.Array:
    """float [..., query, dim]: LayerNorm(queries + their attention to the keys), within a compact module.

    Args:
      given: the Transformer.
      queries: float [..., query, dim].
      keys: float [..., key, dim].
      mask: bool [..., 1, query, key].
      deterministic: whether dropout is off.
    """
    # Of the products alone: sums and norms stay float32.
    attention = nn.MultiHeadDotProductAttention(
        given.heads,
        qkv_features=given.heads * given.head_dim or None,
        out_features=queries.shape[-1],
        use_bias=given.attention_bias,
        dropout_rate=given.dropout if given.attention_dropout is None else given.attention_dropout,
        broadcast_dropout=False,
        name="attention",
        **layer_precision(given.dtype),
        **given.kernels,
    )
    attended = attention(queries, keys, mask=mask, deterministic=deterministic)
    attended = nn.Dropout(given.dropout)(attended, deterministic=deterministic)
    return given.norm("attention_norm")(queries + attended.astype(queries.dtype))


def feed_forward_sublayer(given: TransformerSettings, hidden: jax.Array, deterministic: bool) -> jax.Array:
    """float [..., dim]: LayerNorm(hidden + two maps with the activation between), within a compact module."""
    dim, exact = hidden.shape[-1], layer_precision(given.dtype)
    inner = nn.Dense(given.inner or 4 * dim, name="inner", **exact, **given.kernels)(hidden)
    inner = nn.relu(inner) if given.activation == "relu" else nn.gelu(inner, approximate=False)
    outer = nn.Dense(dim, name="outer", **exact, **given.kernels)(inner)
    outer = nn.Dropout(given.dropout)(outer, deterministic=deterministic)
    return given.norm("feed_forward_norm")(hidden + outer.astype(hidden.dtype))
