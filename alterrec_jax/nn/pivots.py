"""MMSBR's items: rows of their own, the pivots, that gather in turn what the text and the image say.

P are the pivots of an item, and each modality has k tokens, made of its vector x by k pairs of linear maps with tanh
and dropout behind each. In a pair of layers, the text comes first and the image behind it:

    H = T([P ; X]),   P <- (P + H_P) / 2,   X <- X + H_X

with a Transformer layer T of its own each time: N(h + D W A(h)) of an attention A, then N(h + D(W_2 relu(W_1 h))), and
N one LayerNorm for both. At the end

    v = D relu(F_2 D relu(F_1 D P))

of the pivots side by side, so that v has no negative entries. A modality that items lack has no layers.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from alterrec_jax.contract import Params
from alterrec_jax.nn.item_tables import NORM_EPSILON
from alterrec_jax.numerics import MemoryLimits, layer_precision
from alterrec_jax.sharding.chunked import rows_in_blocks

PIVOTS = "pivots"


class PivotTransformer(nn.Module):
    """v of some items.

    Attributes:
      modalities: their names, in the order in which they speak; one that is not given has no layers.
      pairs: pairs of layers.
      heads: a divisor of the width.
      tokens: k.
      dropout: rate within modalities and layers.
      output_dropout: rate D of v.
      dtype: of what products take.
    """

    modalities: tuple[str, ...]
    pairs: int
    heads: int
    tokens: int
    dropout: float
    output_dropout: float
    dtype: str

    @nn.compact
    def __call__(
        self, pivots: jax.Array, vectors: Mapping[str, jax.Array], draws: jax.Array | None = None
    ) -> jax.Array:
        """float32 [..., dim].

        Args:
          pivots: float32 [..., pivot, dim].
          vectors: by name of a modality, float32 [..., width].
          draws: float32 [..., `draws_of` the pivots], uniform numbers, that decide what is dropped; None: nothing is.
        """
        dim, exact = pivots.shape[-1], layer_precision(self.dtype)
        drop = _dropout_in_turn(draws)
        spoken = [name for name in self.modalities if name in vectors]
        tokens = {name: self._tokens(name, vectors[name], dim, drop) for name in spoken}
        for pair in range(self.pairs):
            for name in spoken:
                layer = _Layer(self.heads, self.dropout, self.dtype, name=f"{name}_{pair}")
                hidden = layer(jnp.concatenate([pivots, tokens[name]], axis=-2), drop)
                gathered, said = jnp.split(hidden, [pivots.shape[-2]], axis=-2)
                pivots, tokens[name] = (pivots + gathered) / 2, tokens[name] + said
        hidden = drop(pivots.reshape(*pivots.shape[:-2], -1), self.output_dropout)
        for name in ("join", "output"):
            hidden = drop(nn.relu(nn.Dense(dim, name=name, **exact)(hidden)), self.output_dropout)
        return hidden.astype(jnp.float32)

    def draws_of(self, pivots: int, dim: int, modalities: int) -> int:
        """How many numbers decide what is dropped of an item: one for each entry that dropout reads."""
        of_layers = 2 * self.pairs * (pivots + self.tokens) * dim
        return modalities * (2 * self.tokens * dim + of_layers) + (pivots + 2) * dim

    def _tokens(self, name: str, vectors: jax.Array, dim: int, drop: "Dropout") -> jax.Array:
        """float32 [..., token, dim], from [..., width]."""
        exact = layer_precision(self.dtype)
        hidden = nn.Dense(self.tokens * dim, name=f"{name}_tokens", **exact)(vectors)
        hidden = drop(jnp.tanh(hidden), self.dropout).reshape(*vectors.shape[:-1], self.tokens, dim)
        start = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal", batch_axis=0)
        kernel = self.param(f"{name}_kernel", start, (self.tokens, dim, dim)).astype(exact["dtype"])
        bias = self.param(f"{name}_bias", nn.initializers.zeros, (self.tokens, dim))
        mapped = jnp.einsum("...kd,kde->...ke", hidden, kernel, precision=exact["precision"]).astype(jnp.float32)
        return drop(jnp.tanh(mapped + bias.reshape(*(1,) * (mapped.ndim - 2), *bias.shape)), self.dropout)


class _Layer(nn.Module):
    heads: int
    dropout: float
    dtype: str

    @nn.compact
    def __call__(self, hidden: jax.Array, drop: "Dropout") -> jax.Array:
        dim, exact, norm = hidden.shape[-1], layer_precision(self.dtype), nn.LayerNorm(NORM_EPSILON, name="norm")
        parts = nn.Dense(3 * dim, name="attention", **exact)(hidden)
        query, key, value = jnp.moveaxis(parts.reshape(*hidden.shape[:-1], 3, self.heads, dim // self.heads), -3, 0)
        logits = jnp.einsum("...qhd,...khd->...hqk", query, key, precision=exact["precision"]).astype(jnp.float32)
        weights = nn.softmax(logits * (self.heads / dim) ** 0.5).astype(value.dtype)
        mixed = jnp.einsum("...hqk,...khd->...qhd", weights, value, precision=exact["precision"]).reshape(hidden.shape)
        mixed = nn.Dense(dim, use_bias=False, name="out", **exact)(mixed)
        hidden = norm(hidden + drop(mixed.astype(jnp.float32), self.dropout))
        inner = nn.relu(nn.Dense(4 * dim, name="inner", **exact)(hidden))
        outer = nn.Dense(dim, name="outer", **exact)(inner)
        result: jax.Array = norm(hidden + drop(outer.astype(jnp.float32), self.dropout))
        return result


Dropout = Callable[[jax.Array, float], jax.Array]
"""drop(values, rate): some of them 0, the others divided by 1 - rate."""


def _dropout_in_turn(draws: jax.Array | None) -> Dropout:
    """Each call takes the next of the uniform numbers [..., draw] of its rows; none are no dropout.

    A draw for each step of the layers would be a program of its own, and these take longer to compile than all layers.
    """
    used = 0

    def drop(values: jax.Array, rate: float) -> jax.Array:
        nonlocal used
        if draws is None:
            return values
        size = math.prod(values.shape[draws.ndim - 1 :])
        numbers = draws[..., used : used + size].reshape(values.shape)
        used += size
        return jnp.where(numbers >= rate, values / (1 - rate), 0)

    return drop


def items_of_pivots(
    transformer: PivotTransformer,
    params: Params,
    rows: Mapping[str, Any],
    key: jax.Array | None,
    rows_at_once: int = MemoryLimits().rows_of_table // 8,  # noqa: B008
) -> jax.Array:
    """float32 [item, dim], v of all items; a key turns dropout on, which is drawn for each item by its number.

    Args:
      transformer: what makes them.
      params: its parameters.
      rows: `PIVOTS`, float32 [item, pivot, dim], and of each modality float32 [item, width]; all are learned.
      key: for dropout.
      rows_at_once: items that pass through the layers together: fewer than through an MLP, for each is several tokens.
    """

    def of_rows(params: Params, rows: Mapping[str, Any], numbers: jax.Array, key: jax.Array | None) -> jax.Array:
        pivots, vectors = rows[PIVOTS], {name: some for name, some in rows.items() if name != PIVOTS}
        draws = None
        if key is not None:
            count = transformer.draws_of(pivots.shape[1], pivots.shape[2], len(vectors))
            draws = jax.vmap(lambda number: jax.random.uniform(jax.random.fold_in(key, number), (count,)))(numbers)
        return transformer.apply({"params": params}, pivots, vectors, draws)  # type: ignore[return-value]

    return rows_in_blocks(of_rows, params, rows, key, rows_at_once, learned_rows=True)
