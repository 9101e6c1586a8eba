"""A softmax over what a session holds and one over all else, mixed: REnorm of MSGIFSR (eqs. 12-13)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from alterrec_jax.contract import ItemSums
from alterrec_jax.hard_negatives.sets import OutsideSession
from alterrec_jax.losses.streamed import log_sum_exp
from alterrec_jax.numerics import MemoryLimits, precision_of
from alterrec_jax.sharding.lookup import lookup


class Mixture(NamedTuple):
    """What to add to an item's score to get log p: one number for items of the session, one for all others.

    Attributes:
      session: `ItemSums` that name each item of a prefix once, with a weight of 1.
      inside, outside: float32 [prefix]; 0 where there are no such items.
    """

    session: ItemSums
    inside: jax.Array
    outside: jax.Array

    @property
    def offsets(self) -> ItemSums:
        """What the items of the session are ahead of the others, as sums of rows of the identity."""
        ahead = (self.inside - self.outside)[:, None]
        return ItemSums(self.session.items, self.session.weights * ahead)

    def log_probs(self, scores: jax.Array, items: jax.Array) -> jax.Array:
        """float32 [prefix], log p of one item of the catalogue, int32 [prefix], whose scores are given."""
        held = jnp.any((self.session.items == items[:, None]) & (self.session.weights > 0), axis=1)
        return scores + jnp.where(held, self.inside, self.outside)


def renormed(
    queries: jax.Array,
    table: jax.Array,
    log_shares: jax.Array,
    session: ItemSums,
    catalogue_size: int,
    block: int | None = None,
    limits: MemoryLimits = MemoryLimits(),  # noqa: B008
) -> Mixture:
    """The mixture of some prefixes.

    Args:
      queries: float32 or bfloat16 [prefix, dim].
      table: float32 [item, dim]; a score is the dot product of a query with a row.
      log_shares: float32 [prefix, 2], the logarithms of the shares of the session's items and of the others.
      session: names each item of a prefix once, with a weight of 1.
      catalogue_size: rows of the table; those behind them are padding.
      block, limits: as of `log_sum_exp`.
    """
    held = session.weights > 0
    rows = lookup(table, session.items).astype(queries.dtype)
    scores = jnp.einsum(
        "pd,pkd->pk", queries, rows, precision=precision_of(queries.dtype), preferred_element_type=jnp.float32
    )
    inside = jax.nn.logsumexp(jnp.where(held, scores, -1e9), axis=1)
    negatives = OutsideSession(jnp.where(held, session.items, -1))
    outside = log_sum_exp(queries, table, negatives, catalogue_size, block, limits=limits)

    def minus(log_share: jax.Array, log_sum: jax.Array, some: jax.Array) -> jax.Array:
        return jnp.where(some, log_share - jnp.where(some, log_sum, 0), 0)

    return Mixture(
        session,
        minus(log_shares[:, 0], inside, jnp.any(held, axis=1)),
        minus(log_shares[:, 1], outside, outside > -jnp.inf),
    )
