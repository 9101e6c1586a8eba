"""Two things that are done to vectors outside of a module: to item tables above all."""

import jax
import jax.numpy as jnp


def unit(vectors: jax.Array, axis: int = -1) -> jax.Array:
    """Vectors along an axis divided by their length; zeros stay zeros, with a gradient of 0."""
    return vectors * jax.lax.rsqrt(jnp.maximum(jnp.sum(vectors**2, axis=axis, keepdims=True), 1e-24))


def dropout(key: jax.Array | None, values: jax.Array, rate: float) -> jax.Array:
    """The values, each 0 with probability `rate` and else divided by 1 - rate; as they are without a key."""
    if key is None or not rate:
        return values
    return jnp.where(jax.random.bernoulli(key, 1 - rate, values.shape), values / (1 - rate), 0)
