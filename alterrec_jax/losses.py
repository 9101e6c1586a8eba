"""The losses of both networks (eqs. 2-5 of the AlterRec paper) on scores that are already there."""

import jax
import jax.numpy as jnp


def sampled_softmax_loss(
    target_scores: jax.Array,
    negative_scores: jax.Array,
    negative_counts: jax.Array,
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
      negative_scores: float [prefix, item], scores of the candidates for N.
      negative_counts: float or bool [prefix, item], how often each of them is in N; 0 takes it out.
      positive_scores: float [prefix, positive], y_a; None without augmentation.
      positive_where: bool [prefix, positive], which of them count (an augmented positive that is t does not).
      beta: weight of each augmented positive.

    Returns:
      float [prefix]. 0 where N is empty, with a gradient of 0.
    """
    counts = negative_counts.astype(negative_scores.dtype)
    some = jnp.any(counts > 0, axis=1)
    lowest = jnp.finfo(negative_scores.dtype).min
    largest = jax.lax.stop_gradient(jnp.max(jnp.where(counts > 0, negative_scores, lowest), axis=1, keepdims=True))
    # exp of a score that is not in N may overflow: it is replaced before, not masked after.
    weights = counts * jnp.exp(jnp.where(counts > 0, negative_scores - largest, 0.0))
    total = jnp.where(some, jnp.sum(weights, axis=1), 1.0)
    log_sum = jnp.log(total) + largest[:, 0]
    loss = jnp.where(some, jax.nn.softplus(jnp.where(some, log_sum - target_scores, 0.0)), 0.0)
    if positive_scores is None or positive_where is None:
        return loss
    margins = jnp.where(some[:, None] & positive_where, log_sum[:, None] - positive_scores, 0.0)
    augmented = jnp.where(some[:, None] & positive_where, jax.nn.softplus(margins), 0.0)
    return loss + beta * jnp.sum(augmented, axis=1)
