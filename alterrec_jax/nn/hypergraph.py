"""CoHHN's item side: items, price levels and categories learn from each other, and items from sessions.

With V, U, W the rows of items, levels and categories, [r] those of an item's level and category, and D, D' dropout,

    gate(x, y, z) = D(x + g * y + (1 - g) * z),  g = sigmoid(A [x ; y ; z] + B y + C z + b)
    mean(X; M)_r = D'(sum over members j of r of w_rj X_j),  w_r = softmax over these of a_r (sum of X_j's entries)

    V' = gate(V, U[level], W[category]) + S V
    U' = gate(U, mean(V; items of the level), mean(W; categories of the level))
    W' = gate(W, mean(U; levels of the category), mean(V; items of the category))

A level is one of a category, and the other way round, where an item has both. Without members a mean is 0. All layers
have the same parameters.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from alterrec_jax.data.graphs import Hypergraph
from alterrec_jax.nn.gnn import hypergraph_mean
from alterrec_jax.numerics import product


class HypergraphLayers(nn.Module):
    """V and U after some layers.

    Attributes:
      layers: how many.
      levels, categories: how many rows U and W have.
      gate_dropout, mean_dropout: the rates of D and D'.
      dtype: of what products take.
    """

    layers: int
    levels: int
    categories: int
    gate_dropout: float
    mean_dropout: float
    dtype: str

    @nn.compact
    def __call__(
        self,
        items: jax.Array,
        level: jax.Array,
        category: jax.Array,
        graph: Hypergraph,
        deterministic: bool,
    ) -> tuple[jax.Array, jax.Array]:
        """float32 [item, dim] and [level, dim].

        Args:
          items: float32 [item, dim], V.
          level, category: int32 [item], of each item.
          graph: the sessions.
          deterministic: whether dropout is off.
        """
        dim, start = items.shape[-1], nn.initializers.normal(0.02)
        prices = self.param("prices", start, (self.levels, dim))
        categories = self.param("categories", start, (self.categories, dim))
        pairs = jnp.zeros((self.levels, self.categories), bool).at[level, category].set(True)
        drop = nn.Dropout(self.mean_dropout, deterministic=deterministic)

        def gate(name: str) -> Gate:
            return Gate(self.gate_dropout, self.dtype, deterministic, name=name)

        def strength(name: str, rows: int) -> jax.Array:
            return self.param(name, start, (rows,))

        of_items, of_prices, of_categories = gate("gate_items"), gate("gate_prices"), None
        price_items, price_categories = strength("price_items", self.levels), strength("price_categories", self.levels)
        if self.layers > 1:
            of_categories = gate("gate_categories")
            category_prices = strength("category_prices", self.categories)
            category_items = strength("category_items", self.categories)
        for layer in range(self.layers):
            changed = of_items(items, prices, categories, (level, category)) + hypergraph_mean(graph, items)
            by_items = drop(mean_of_members(items, price_items, level))
            by_categories = drop(mean_of_pairs(categories, price_categories, pairs))
            changed_prices = of_prices(prices, by_items, by_categories)
            if of_categories is not None and layer + 1 < self.layers:  # nobody reads the last layer's
                by_prices = drop(mean_of_pairs(prices, category_prices, pairs.T))
                by_items = drop(mean_of_members(items, category_items, category))
                categories = of_categories(categories, by_prices, by_items)
            items, prices = changed, changed_prices
        return items, prices


class Gate(nn.Module):
    """gate(x, y, z)."""

    dropout: float
    dtype: str
    deterministic: bool

    @nn.compact
    def __call__(
        self, own: jax.Array, first: jax.Array, second: jax.Array, at: tuple[jax.Array, jax.Array] | None = None
    ) -> jax.Array:
        """float32 [node, dim].

        Args:
          own, first, second: x, y and z, float32 [node, dim].
          at: int32 [node] twice, which rows of `first` and of `second` belong to the nodes; None if those in order.
        """
        dim, start = own.shape[-1], nn.initializers.lecun_normal()
        joined = jnp.split(self.param("joined", start, (3 * dim, dim)), 3)
        of_first, of_second = (joined[k] + self.param(f"part_{k}", start, (dim, dim)) for k in (1, 2))
        bias = self.param("bias", nn.initializers.zeros, (dim,))
        parts = product(first, of_first, self.dtype), product(second, of_second, self.dtype)
        if at is not None:  # a level has many items: it is mapped once
            first, second = first[at[0]], second[at[1]]
            parts = parts[0][at[0]], parts[1][at[1]]
        share = jax.nn.sigmoid(product(own, joined[0], self.dtype) + parts[0] + parts[1] + bias[None])
        mixed = own + share * first + (1 - share) * second
        return nn.Dropout(self.dropout)(mixed, deterministic=self.deterministic)


def mean_of_members(values: jax.Array, strength: jax.Array, row: jax.Array) -> jax.Array:
    """float32 [row, dim], mean(X; M) of values each of which is a member of one row.

    Args:
      values: float32 [value, dim], X.
      strength: float32 [row], a.
      row: int32 [value], whose member each is.
    """
    rows = len(strength)
    logits = strength[row] * jnp.sum(values, axis=1)
    best = jax.lax.stop_gradient(jax.ops.segment_max(logits, row, rows))
    weights = jnp.exp(logits - best[row])
    total = jax.ops.segment_sum(weights, row, rows)
    return jax.ops.segment_sum(weights[:, None] * values, row, rows) / jnp.where(total > 0, total, 1)[:, None]


def mean_of_pairs(values: jax.Array, strength: jax.Array, pairs: jax.Array) -> jax.Array:
    """float32 [row, dim], mean(X; M) of values that may be members of several rows.

    Args:
      values, strength: as of `mean_of_members`.
      pairs: bool [row, value], which are members.
    """
    logits = jnp.where(pairs, strength[:, None] * jnp.sum(values, axis=1)[None], -jnp.inf)
    best = jax.lax.stop_gradient(jnp.maximum(jnp.max(logits, axis=1, keepdims=True), -1e30))
    weights = jnp.exp(logits - best)
    total = jnp.sum(weights, axis=1, keepdims=True)
    return jnp.matmul(weights / jnp.where(total > 0, total, 1), values, precision="highest")
