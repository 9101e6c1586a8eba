"""Alpha-entmax: a softmax that can give weights of exactly 0 (Peters et al., ACL 2019), and how sparse it is learns.

With b = alpha - 1 in (0, 1] and m the largest score, the weights are

    w_i = [1 + b (z_i - m - t)]_+ ^ (1/b),  t such that they sum to 1;

b -> 0 is softmax, b = 1 is sparsemax. t lies between 0 and (1 - n^(-b)) / b for n scores, which tends to log n: in t,
unlike in the usual threshold b (m + t) - 1, nothing is lost to rounding as b falls.

Gradients (Correia et al., EMNLP 2019) take no step through the search. With s = w^(1-b) on the support, and g what
comes in less its mean by weights s,

    dz = s g,  db = sum of w k g,  k = d log w / db at fixed z - m - t = (1 - w^(-b) - b log w) / b^2.
"""

import jax
import jax.numpy as jnp

_LEAST = 1e-5
"""b is kept from 0, as in released code, which adds this much where alpha is 1."""


Saved = tuple[jax.Array, jax.Array, jax.Array]
"""Weights, alpha and b."""


@jax.custom_vjp
def entmax(scores: jax.Array, alpha: jax.Array, where: jax.Array) -> jax.Array:
    """The weights along the last axis.

    Args:
      scores: float [..., n].
      alpha: float [..., 1], in [1, 2]; axes of length 1 broadcast.
      where: bool [..., n], which scores there are; the others weigh 0. Where there is none, all do. Axes broadcast.

    Returns:
      float [..., n], of the shape of `scores`, which sums to 1.
    """
    return _forward(scores, alpha, where)[0]


def _forward(scores: jax.Array, alpha: jax.Array, where: jax.Array) -> tuple[jax.Array, Saved]:
    b = jnp.maximum(alpha - 1, _LEAST)
    largest = jnp.max(scores, axis=-1, keepdims=True, where=where, initial=-jnp.inf)
    below = jnp.where(where, scores - jnp.where(jnp.isfinite(largest), largest, 0), -jnp.inf)
    count = jnp.maximum(jnp.sum(where, axis=-1, keepdims=True), 1).astype(scores.dtype)
    power = 1 / b
    width = -jnp.expm1(-b * jnp.log(count)) * power

    def weights(t: jax.Array) -> jax.Array:
        return jnp.exp(power * jnp.log1p(jnp.maximum(b * (below - t), -1)))

    def halve(_: int, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, step = state
        step = step / 2
        heavy = jnp.sum(weights(low + step), axis=-1, keepdims=True) >= 1
        return jnp.where(heavy, low + step, low), step

    some = jnp.zeros((*scores.shape[:-1], 1), scores.dtype)
    low, _ = jax.lax.fori_loop(0, _halvings(scores.dtype), halve, (some, some + width))
    found = weights(low)
    total = jnp.sum(found, axis=-1, keepdims=True)
    found = found / jnp.where(total > 0, total, 1)
    return found, (found, alpha, b)


def _halvings(dtype: jax.typing.DTypeLike) -> int:
    """24 in float32: t is below log n, and an error of it is at most as large in a weight."""
    return jnp.finfo(dtype).nmant + 1


def _backward(saved: Saved, cotangent: jax.Array) -> tuple[jax.Array, jax.Array, None]:
    weights, alpha, b = saved
    support = weights > 0
    scaled = b * jnp.log(jnp.where(support, weights, 1))  # b log w, at most 0
    slope = jnp.where(support, weights * jnp.exp(-scaled), 0)
    total = jnp.sum(slope, axis=-1, keepdims=True)
    mean = jnp.sum(slope * cotangent, axis=-1, keepdims=True) / jnp.where(total > 0, total, 1)
    centred = cotangent - mean
    # 1 - exp(-x) - x loses all its digits as x goes to 0, where it is -x^2/2 and so on.
    series = -(scaled**2) * (1 / 2 - scaled / 6 + scaled**2 / 24 - scaled**3 / 120)
    curve = jnp.where(scaled > -0.03, series, -jnp.expm1(-scaled) - scaled)
    of_alpha = jnp.where(support, weights * curve, 0) / b**2
    return slope * centred, _summed_to(of_alpha * centred, alpha.shape), None


def _summed_to(values: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The sum over what was broadcast from axes of length 1."""
    return jnp.sum(values, axis=tuple(axis for axis, size in enumerate(shape) if size == 1), keepdims=True)


entmax.defvjp(_forward, _backward)
