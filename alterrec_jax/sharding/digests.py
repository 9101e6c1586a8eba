"""Digests of arrays, and of their rows, that are made where the arrays lie: no host ever holds a whole table."""

import hashlib
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.sharding import mesh

_TYPES = ("float32", "int32", "uint32")
# For each lane, what the number of a row and that of a column are mixed with: SHA-256's first words.
_LANES = (
    (0x6A09E667, 0xBB67AE85),
    (0x3C6EF372, 0xA54FF53A),
    (0x510E527F, 0x9B05688C),
    (0x1F83D9AB, 0x5BE0CD19),
)


def tree_digest(tree: Any) -> str:
    """A digest of the paths, types, trailing dimensions and bits of a tree's arrays: against damage, not forgery.

    Zeros add nothing to it, and the number of rows is no part of it, so that a table may be padded with rows of zeros.
    It does not depend on how an array is sharded; all processes that hold a part of one must ask together.

    Args:
      tree: arrays of JAX or NumPy, float32, int32 or uint32, of any shape.

    Raises:
      ValueError: an array of another type.
    """
    found = jax.tree_util.tree_leaves_with_path(tree)
    for path, leaf in found:
        if leaf.dtype not in _TYPES:
            raise ValueError(
                f"{jax.tree_util.keystr(path)} is of type {leaf.dtype}; a digest knows {', '.join(_TYPES)}"
            )
    # One after another: on virtual devices, programs that wait for each other's devices may not run side by side.
    sums = [jax.device_get(_sums(leaf)) for _, leaf in found]
    digest = hashlib.sha256()
    for (path, leaf), lanes in zip(found, sums, strict=True):
        trailing = leaf.shape[1:] if leaf.ndim else "scalar"
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {trailing} {lanes.tolist()}\n".encode())
    return digest.hexdigest()


@jax.jit  # a program for each shape, not for each tree: parameters and their moments share them
def _sums(leaf: jax.Array) -> jax.Array:
    """uint32 [lane], the sums of the elements' bits, each mixed with its place."""
    bits = jax.lax.bitcast_convert_type(jnp.atleast_1d(leaf), jnp.uint32)
    ones = (1,) * (bits.ndim - 1)
    rows = jnp.arange(bits.shape[0], dtype=jnp.uint32).reshape(-1, *ones)
    columns = jnp.arange(math.prod(bits.shape[1:]), dtype=jnp.uint32).reshape(1, *bits.shape[1:])
    zero = jnp.uint32(0)
    lanes = []
    for row_word, column_word in _LANES:
        place = _mix(rows ^ jnp.uint32(row_word)) + _mix(columns ^ jnp.uint32(column_word))
        lanes.append(jnp.where(bits == zero, zero, _mix(bits ^ place)))
    # In one pass: four sums of their own would read the array four times, and on a CPU write each lane out first.
    sums = jax.lax.reduce(lanes, [zero] * len(lanes), _add, range(bits.ndim))
    return mesh.with_sharding_constraint(jnp.stack(sums), mesh.REPLICATED)


def _add(one: list[jax.Array], other: list[jax.Array]) -> list[jax.Array]:
    return [a + b for a, b in zip(one, other, strict=True)]


def _mix(word: Any) -> Any:
    """Murmur3's finaliser, of uint32 of JAX or NumPy: one to one, and every bit of it changes about half of them."""
    word = (word ^ (word >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    word = (word ^ (word >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return word ^ (word >> np.uint32(16))


def row_digests(table: Any) -> np.ndarray:
    """uint32 [row, lane], 128 bits for each row of a table float [row, dim], equal for equal rows (0 equals -0)."""
    return np.asarray(_row_digests(table))


@jax.jit
def _row_digests(table: jax.Array) -> jax.Array:
    bits = jax.lax.bitcast_convert_type(table.astype(jnp.float32) + 0, jnp.uint32)  # that makes -0 a 0
    columns = jnp.arange(table.shape[1], dtype=jnp.uint32)[None]
    lanes = [jnp.sum(_mix(bits ^ _mix(columns ^ jnp.uint32(word))), axis=1, dtype=jnp.uint32) for _, word in _LANES]
    return mesh.with_sharding_constraint(jnp.stack(lanes, axis=1), mesh.REPLICATED)


def column_digests(columns: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """uint32 [column, lane], 128 bits for each column of a sparse matrix, equal for equal columns.

    Args:
      columns: int32 [row, entry], each once in a row.
      values: float32 [row, entry]; zeros add nothing.
      count: how many columns there are.
    """
    lanes = np.zeros((count, len(_LANES)), np.uint32)
    row, entry = np.nonzero(values)
    column, bits = columns[row, entry], values[row, entry].view(np.uint32)
    for lane, (word, _) in enumerate(_LANES):
        np.add.at(lanes[:, lane], column, _mix(bits ^ _mix(row.astype(np.uint32) ^ np.uint32(word))))
    return lanes
