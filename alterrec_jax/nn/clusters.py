"""Clusters of vectors by direction (spherical k-means), which stand for attributes where a dataset has none."""

import jax
import jax.numpy as jnp

from alterrec_jax.nn.vectors import unit
from alterrec_jax.numerics import scores_of

_MOST = 2**16  # vectors that the centres are found from


def cluster_centres(key: jax.Array, vectors: jax.Array, count: int, rounds: int = 20) -> jax.Array:
    """float32 [count, width], of unit length: the means of the vectors that are nearest to each.

    They start from different vectors, drawn at random. A centre that is nearest to none stays where it is.

    Args:
      key: what draws.
      vectors: float [item, width]; rows of zeros, of items without a vector, belong to no cluster. Of more than 2^16
        rows so many are drawn.
      count: how many centres; where fewer items have a vector, the others start from zeros.
      rounds: how often the means are made.
    """
    known = jnp.any(vectors != 0, axis=1)
    # A random order with the known ones first.
    order = jnp.argsort(jnp.where(known, 0.0, 1.0) + jax.random.uniform(key, known.shape))
    some = unit(vectors[order[:_MOST]].astype(jnp.float32))
    centres = jnp.pad(some[:count], ((0, max(count - len(some), 0)), (0, 0)))

    def improved(_: int, centres: jax.Array) -> jax.Array:
        # Those without a vector add their zeros to the first cluster.
        sums = jax.ops.segment_sum(some, jnp.argmax(scores_of(some, centres), axis=1), len(centres))
        return jnp.where(jnp.any(sums != 0, axis=1, keepdims=True), unit(sums), centres)

    return jax.lax.fori_loop(0, rounds, improved, centres)


def nearest_centre(vectors: jax.Array, centres: jax.Array) -> jax.Array:
    """int32 [...]: the number of the centre that is nearest to each vector, from 1; 0 where the vector is zeros.

    Args:
      vectors: float [..., width].
      centres: float32 [count, width], of unit length.
    """
    flat = vectors.reshape(-1, vectors.shape[-1]).astype(jnp.float32)
    nearest = jnp.argmax(scores_of(flat, centres), axis=1).astype(jnp.int32) + 1
    return jnp.where(jnp.any(flat != 0, axis=1), nearest, 0).reshape(vectors.shape[:-1])
