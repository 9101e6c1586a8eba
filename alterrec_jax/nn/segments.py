"""Which positions of a row belong together: the masks that session encoders share."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from alterrec_jax.contract import BatchArray, SessionBatch
from alterrec_jax.sharding import mesh


def same_segment(batch: SessionBatch) -> jax.Array:
    """bool [row, query position, key position]: both are items of one segment."""
    together = batch.segments[:, :, None] == batch.segments[:, None, :]
    return together & (batch.segments >= 0)[:, :, None]


def causal_mask(batch: SessionBatch) -> jax.Array:
    """bool [row, query position, key position]: both are items of one segment, the key not after the query."""
    length = batch.segments.shape[1]
    causal = jnp.tril(jnp.ones((length, length), dtype=bool))
    return same_segment(batch) & causal[None]


def recent(values: jax.Array, window: int) -> jax.Array:
    """[row, position, age, ...] from [row, position, ...]: what stands 0 .. window-1 positions before; zeros before a
    row begins."""
    length, rest = values.shape[1], ((0, 0),) * (values.ndim - 2)
    shifted = [jnp.pad(values, ((0, 0), (age, 0), *rest))[:, :length] for age in range(window)]
    return jnp.stack(shifted, axis=2)


def recent_mask(batch: SessionBatch, window: int) -> jax.Array:
    """bool [row, position, age]: which entries of `recent` are items of the position's own segment."""
    numbers = batch.segments + 1  # 0 where there is no item
    return (recent(numbers, window) == numbers[..., None]) & (numbers > 0)[..., None]


def with_end_tokens(batch: SessionBatch) -> SessionBatch:
    """The batch with rows twice as long: in the second half a token more for each segment, behind its last item.

    It stands as far into the second half as that last item into the first, and has the next position. Elsewhere the
    second half is padding. Items there are 0.
    """
    following = jnp.pad(batch.segments[:, 1:], ((0, 0), (0, 1)), constant_values=-1)
    ends = jnp.where(batch.segments == following, -1, batch.segments)

    def joined(first: jax.Array, second: jax.Array) -> jax.Array:
        return jnp.concatenate([first, second], axis=1)

    return batch._replace(
        items=joined(batch.items, jnp.zeros_like(batch.items)),
        positions=joined(batch.positions, batch.positions + 1),
        segments=joined(batch.segments, ends),
    )


def aligned_at_end(batch: SessionBatch, length: int) -> SessionBatch:
    """The batch with positions up to `length` - 1, which the last item of every segment has."""
    sizes = jnp.sum(same_segment(batch), axis=2, dtype=jnp.int32)
    return batch._replace(positions=jnp.clip(length - sizes + batch.positions, 0, length - 1))


def at_last(values: jax.Array, batch: SessionBatch) -> jax.Array:
    """[row, position, dim] -> [row, position, dim]: at each position, what stands at the last one of its segment."""
    segment = same_segment(batch)
    last = jnp.max(jnp.where(segment, jnp.arange(segment.shape[1])[None, None], 0), axis=2)
    return jnp.take_along_axis(values, last[..., None], axis=1)


class AlignedPrefixes(NamedTuple):
    """Each prefix as a row of its own that ends in the last column.

    Attributes:
      items: int32 [prefix, column], item numbers; 0 where there is none.
      is_item: bool [prefix, column]; false in the columns before the prefix begins.
      number: int32 [prefix], where the prefix ends in the whole batch, row * length + position, on any mesh.
    """

    items: jax.Array
    is_item: jax.Array
    number: jax.Array


def right_aligned(batch: SessionBatch) -> AlignedPrefixes:
    """The prefixes of a batch, each as its segment up to where it ends, in rows as long as those of the batch."""
    shards, length = mesh.size(mesh.DATA), batch.items.shape[1]
    size = batch.items.size // shards
    if batch.ends is None:
        ends = jnp.broadcast_to(jnp.arange(size, dtype=jnp.int32)[None], (shards, size))
    else:
        ends = batch.ends.reshape(shards, -1)

    def of_shards(array: BatchArray, at: jax.Array) -> jax.Array:
        found = jnp.take_along_axis(array.reshape(shards, size), at.reshape(shards, -1), axis=1)
        return found.reshape(-1, *at.shape[2:])

    before_end = jnp.arange(length - 1, -1, -1, dtype=jnp.int32)
    is_item = before_end[None] <= of_shards(batch.positions, ends)[:, None]
    items = of_shards(batch.items, jnp.maximum(ends[:, :, None] - before_end[None, None], 0))
    first = jnp.arange(shards, dtype=jnp.int32)[:, None] * size
    return AlignedPrefixes(jnp.where(is_item, items, 0), is_item, (first + ends).reshape(-1))
