"""Hashes of arrays by the devices that hold them: against damage and for equality, not against forgery."""

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax import mesh

_LANES = tuple(np.random.default_rng(0).integers(1, 2**32, size=4, dtype=np.uint32))


def mixed(word: jax.Array) -> jax.Array:
    """uint32 of the same shape: every bit of a word changes about half of the bits (the finaliser of MurmurHash3)."""
    word = (word ^ (word >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    word = (word ^ (word >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return word ^ (word >> np.uint32(16))


def row_hashes(table: jax.Array | np.ndarray) -> np.ndarray:
    """uint32 [row, 4], 128 bits for each row of a table float [row, dim]; equal for equal rows (0 equals -0)."""
    return np.asarray(_row_hashes(table))


@jax.jit
def _row_hashes(table: jax.Array) -> jax.Array:
    bits = jax.lax.bitcast_convert_type(table.astype(jnp.float32) + 0, jnp.uint32)  # that makes -0 a 0
    column = jnp.arange(table.shape[1], dtype=jnp.uint32)
    lanes = [jnp.sum(mixed(bits ^ mixed(column ^ lane)[None]), axis=1, dtype=jnp.uint32) for lane in _LANES]
    return mesh.constrained(jnp.stack(lanes, axis=1), mesh.EVERYWHERE)
