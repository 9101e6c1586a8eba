"""DIMO's and SRIM's co-occurrence loss: an item resembles those it often stands in a session with, not the others.

    L_co = log( e^cos(x_i, m_i) + sum over k of e^cos(x_i, x_k) ) - cos(x_i, m_i)

m_i is the mean of the item's `FREQUENT` most frequent companions, each weighed by the sessions that they share, and k
are as many items that never met item i, drawn uniformly. (The released code takes those of an argsort of mostly zeros:
nearly the same ten items for everyone. SRIM prints a ratio of cosines, whose denominator may be 0.)
"""

import jax
import jax.numpy as jnp

from alterrec_jax.data.cooccurrence import FREQUENT, Companions
from alterrec_jax.nn.vectors import unit
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.lookup import lookup

COOCCURRENCE = "cooccurrence"
"""The term of a loss."""


def cooccurrence_losses(
    key: jax.Array, table: jax.Array, known: Companions, items: int, count: int
) -> tuple[jax.Array, jax.Array]:
    """L_co of some items, in natural logarithms.

    Args:
      key: draws them, and the items that they never met.
      table: float32 [item, dim], what is compared.
      known: of the training sessions.
      items: how many the catalogue has.
      count: how many are drawn; all of them, each once, where the catalogue has no more.

    Returns:
      float32 [drawn] and bool [drawn], which have companions: the loss of the others is 0.
    """
    item_key, other_key = jax.random.split(key)
    drawn = jnp.arange(items) if items <= count else jax.random.randint(item_key, (count,), 0, items)
    others, has_others = never_met(other_key, known, drawn, items, FREQUENT)
    return compared_losses(table, known, drawn, others, has_others)


def compared_losses(
    table: jax.Array, known: Companions, drawn: jax.Array, others: jax.Array, has_others: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """As `cooccurrence_losses`, of items int32 [drawn] that are compared with others int32 [drawn, k], if they have."""

    def rows(numbers: jax.Array) -> jax.Array:
        return unit(lookup(table, numbers, mesh.REPLICATED))

    weights = known.sessions[drawn]
    frequent = lookup(table, known.frequent[drawn], mesh.REPLICATED)
    mean = unit(jnp.einsum("ik,ikd->id", weights, frequent, precision="highest"))
    own = rows(drawn)
    near = jnp.einsum("id,id->i", own, mean, precision="highest")
    far = jnp.einsum("id,ikd->ik", own, rows(others), precision="highest")
    together = jnp.concatenate([near[:, None], jnp.where(has_others[:, None], far, -jnp.inf)], axis=1)
    has_companions = weights[:, 0] > 0
    return jnp.where(has_companions, jax.nn.logsumexp(together, axis=1) - near, 0), has_companions


def never_met(
    key: jax.Array, known: Companions, drawn: jax.Array, items: int, count: int
) -> tuple[jax.Array, jax.Array]:
    """Uniform items that an item never stood in a session with, nor is itself.

    Args:
      key: draws them.
      known: of the training sessions.
      drawn: int32 [drawn], the items.
      items: how many the catalogue has.
      count: how many for each.

    Returns:
      int32 [drawn, count], and bool [drawn], whether there are such items.
    """
    begin = known.offsets[drawn][:, None]
    companions = known.offsets[drawn + 1][:, None] - begin
    free = items - companions
    rank = jnp.minimum(
        (jax.random.uniform(key, (len(drawn), count)) * free).astype(jnp.int32), jnp.maximum(free - 1, 0)
    )
    # The item of that rank among those that are no companions has `low` companions before it: the first `low` for which
    # companion number `low`, ascending from 0, less `low` is beyond the rank.
    low, high = jnp.zeros_like(rank), jnp.broadcast_to(companions, rank.shape)

    def halved(_: jax.Array, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = (low + high) // 2
        before = (low < high) & (known.items[begin + jnp.minimum(middle, companions - 1)] - middle <= rank)
        return jnp.where(before, middle + 1, low), jnp.where(before, high, middle)

    low, _ = jax.lax.fori_loop(0, items.bit_length(), halved, (low, high))
    return jnp.minimum(rank + low, items - 1), free[:, 0] > 0
