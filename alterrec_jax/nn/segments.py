"""Which positions of a row belong together: the masks that session encoders share."""

import jax
import jax.numpy as jnp

from alterrec_jax.contract import SessionBatch


def same_segment(batch: SessionBatch) -> jax.Array:
    """bool [row, query position, key position]: both are items of one segment."""
    together = batch.segments[:, :, None] == batch.segments[:, None, :]
    return together & (batch.segments >= 0)[:, :, None]


def causal_mask(batch: SessionBatch) -> jax.Array:
    """bool [row, query position, key position]: both are items of one segment, the key not after the query."""
    length = batch.segments.shape[1]
    causal = jnp.tril(jnp.ones((length, length), dtype=bool))
    return same_segment(batch) & causal[None]


def at_last(values: jax.Array, batch: SessionBatch) -> jax.Array:
    """[row, position, dim] -> [row, position, dim]: at each position, what stands at the last one of its segment."""
    segment = same_segment(batch)
    last = jnp.max(jnp.where(segment, jnp.arange(segment.shape[1])[None, None], 0), axis=2)
    return jnp.take_along_axis(values, last[..., None], axis=1)
