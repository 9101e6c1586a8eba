"""Normal distributions without covariances, and prices as such: of items, and of prefixes by an attention (MMSBR).

The squared Wasserstein distance of two, of means m and m' and variances s and s', is

    W2 = |m - m'|^2 + |sqrt(s) - sqrt(s')|^2 = |m|^2 + sum(s) + |m'|^2 + sum(s') - 2 (m . m' + sqrt(s) . sqrt(s'))

and so -W2 is the dot product of a vector of the one with a vector of the other, each 2 d + 2 wide.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from alterrec_jax.contract import SessionBatch
from alterrec_jax.nn.segments import causal_mask
from alterrec_jax.numerics import layer_precision

_LEAST_VARIANCE = 1e-24  # below, the square root has no slope
_NORM_EPSILON = 1e-12


class Gaussian(NamedTuple):
    """Normal distributions. Attributes: mean, variance, float32 [..., dim] both, the variance at least 0."""

    mean: jax.Array
    variance: jax.Array


def positive(values: jax.Array) -> jax.Array:
    """elu(x) + 1, of the same shape."""
    return jnp.where(values > 0, values + 1, jnp.exp(jnp.minimum(values, 0)))


def distance_query(of: Gaussian, factor: float = 1.0) -> jax.Array:
    """float32 [..., 2 dim + 2], whose dot product with `distance_key` of another one is -factor * W2."""
    root, size = _root(of), _size(of)
    parts = [2 * of.mean, 2 * root, -jnp.ones_like(size), -size]
    return factor * jnp.concatenate(parts, axis=-1)


def distance_key(of: Gaussian) -> jax.Array:
    """float32 [..., 2 dim + 2], the other side of `distance_query`."""
    size = _size(of)
    return jnp.concatenate([of.mean, _root(of), size, jnp.ones_like(size)], axis=-1)


def _root(of: Gaussian) -> jax.Array:
    return jnp.sqrt(jnp.maximum(of.variance, _LEAST_VARIANCE))


def _size(of: Gaussian) -> jax.Array:
    return jnp.sum(of.mean**2 + of.variance, axis=-1, keepdims=True)


class PriceGaussians(nn.Module):
    """The prices of items, and what those of a prefix come to: the last one, and of each as much as it is near to it.

    With m, s the rows of the mean and the spread of a level, c that of the category, N one LayerNorm and D dropout, an
    item has the mean m + c and the variance elu(s + c) + 1. Of a prefix, with m and s those of its last item,

        x = D(N m + N c),  y = elu(D(N s + N c)) + 1
        q, k, v of x by linear maps, of y by others with elu + 1 behind them
        a = softmax(-W2(q, k) / sqrt(head)),  m' = N(m + D(W sum of a v_x + b)),  s' = N(s + D(U sum of a^2 v_y + u))

    and the variance is elu(s') + 1.

    Attributes:
      levels: how many numbers a level may have; 0 is "unknown".
      categories: the same of categories; 0 where there are none, and c is left out.
      dim: width.
      heads: a divisor of the width.
      dropout: rate on the rows, the weights, and what is added.
      dtype: of what products take.
    """

    levels: int
    categories: int
    dim: int
    heads: int
    dropout: float
    dtype: str

    def setup(self) -> None:
        exact = layer_precision(self.dtype)
        self.means, self.spreads = (nn.Embed(self.levels, self.dim) for _ in range(2))
        if self.categories:
            self.category = nn.Embed(self.categories, self.dim)
        self.norm = nn.LayerNorm(_NORM_EPSILON, use_fast_variance=False)
        self.map_means, self.map_spreads = (nn.Dense(3 * self.dim, **exact) for _ in range(2))
        self.out_means, self.out_spreads = (nn.Dense(self.dim, **exact) for _ in range(2))
        self.drop = nn.Dropout(self.dropout)

    def of_items(self, known: jax.Array) -> Gaussian:
        """float32 [..., dim], of int32 [..., 2], the numbers of level and category."""
        mean, spread = self.means(known[..., 0]), self.spreads(known[..., 0])
        category = self.category(known[..., 1]) if self.categories else 0
        return Gaussian(mean + category, positive(spread + category))

    def __call__(self, known: jax.Array, batch: SessionBatch, deterministic: bool) -> Gaussian:
        """float32 [row, position, dim], of int32 [row, position, 2]; junk where a row holds no item."""
        means, spreads = self.means(known[..., 0]), self.spreads(known[..., 0])
        category = self.norm(self.category(known[..., 1])) if self.categories else 0
        rows, length = known.shape[:2]

        def drop(values: jax.Array) -> jax.Array:
            return self.drop(values, deterministic=deterministic)

        def heads(values: jax.Array) -> jax.Array:
            return values.astype(jnp.float32).reshape(rows, length, 3, self.heads, self.dim // self.heads)

        of_means = heads(self.map_means(drop(self.norm(means) + category)))
        of_spreads = positive(heads(self.map_spreads(positive(drop(self.norm(spreads) + category)))))
        query, key = (Gaussian(of_means[:, :, part], of_spreads[:, :, part]) for part in range(2))
        near = jnp.einsum("rqhd,rkhd->rhqk", distance_query(query), distance_key(key), precision="highest")
        visible = causal_mask(batch)[:, None]
        weights = nn.softmax(jnp.where(visible, near * (self.heads / self.dim) ** 0.5, -1e9))
        weights = drop(jnp.where(visible, weights, 0))

        def mixed(weights: jax.Array, values: jax.Array) -> jax.Array:
            return jnp.einsum("rhqk,rkhd->rqhd", weights, values, precision="highest").reshape(rows, length, self.dim)

        added = self.out_means(mixed(weights, of_means[:, :, 2])).astype(jnp.float32)
        mean = self.norm(means + drop(added))
        added = self.out_spreads(mixed(weights**2, of_spreads[:, :, 2])).astype(jnp.float32)
        return Gaussian(mean, positive(self.norm(spreads + drop(added))))
