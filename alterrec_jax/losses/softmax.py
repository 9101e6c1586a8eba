"""The losses of AlterRec (eqs. 2-5): a softmax of the target, and of augmented positives, against negatives."""

import jax
import jax.numpy as jnp

from alterrec_jax.hard_negatives.sets import WholeCatalogue
from alterrec_jax.losses.streamed import log_sum_exp
from alterrec_jax.numerics import MemoryLimits
from alterrec_jax.sharding.lookup import lookup


def sampled_softmax_loss(
    target_scores: jax.Array,
    log_sum: jax.Array,
    positive_scores: jax.Array | None = None,
    positive_where: jax.Array | None = None,
    beta: float = 0.0,
) -> jax.Array:
    """Cross-entropy of the target, and of augmented positives, against one set of negatives.

        L = -log softmax(y_t over {t} + N)  +  beta * sum over a in A of -log softmax(y_a over {a} + N)

    Every positive stands alone against the same N: no other positive is in its denominator (eqs. 4, 5).
    With y the positive's score and z = log sum over n in N of exp(y_n), each term is softplus(z - y).

    Args:
      target_scores: float [prefix], y_t.
      log_sum: float [prefix], z, as from `log_sum_exp`; minus infinity where N is empty.
      positive_scores: float [prefix, positive], y_a; None without augmentation.
      positive_where: bool [prefix, positive], which of them count (an augmented positive that is t does not).
      beta: weight of each augmented positive.

    Returns:
      float [prefix]. 0 where N is empty, with a gradient of 0.
    """
    some = log_sum > -jnp.inf
    loss = _softplus_where(some, log_sum - target_scores)
    if positive_scores is None or positive_where is None:
        return loss
    augmented = _softplus_where(some[:, None] & positive_where, log_sum[:, None] - positive_scores)
    return loss + beta * jnp.sum(augmented, axis=1)


def full_softmax_loss(
    queries: jax.Array,
    table: jax.Array,
    targets: jax.Array,
    items: int,
    limits: MemoryLimits = MemoryLimits(),  # noqa: B008
) -> jax.Array:
    """Cross-entropy of the target over the whole catalogue.

    Args:
      queries: float [prefix, dim].
      table: float32 [item, dim], the candidates; rows behind the catalogue are padding.
      targets: int32 [prefix].
      items: how many the catalogue has.
      limits: how much a device holds at a time.

    Returns:
      float [prefix].
    """
    return sampled_softmax_loss(
        target_scores=jnp.einsum("pd,pd->p", queries, lookup(table, targets)),
        log_sum=log_sum_exp(queries, table, WholeCatalogue(targets), items, limits=limits),
    )


def _softplus_where(where: jax.Array, values: jax.Array) -> jax.Array:
    return jnp.where(where, jax.nn.softplus(jnp.where(where, values, 0.0)), 0.0)
