"""Made-up sessions and text vectors, for catalogues of any size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from alterrec_jax.data.batches import rows_of_batch
from alterrec_jax.data.dataset import Sessions

TEXT_WIDTH = 384


def sessions(items: int, positions: int, length: int) -> Sessions:
    """Random training sessions that fill as many rows of `length` positions as come nearest to `positions`."""
    random, rows = np.random.default_rng(0), rows_of_batch(positions, length)
    return Sessions(
        items=random.integers(0, items, rows * (length + 1)).astype(np.int32),
        offsets=np.arange(rows + 1, dtype=np.int64) * (length + 1),
        first_target=np.ones(rows, np.int32),
        session_ids=pl.Series([str(row) for row in range(rows)]),
        user_ids=pl.Series([None] * rows, dtype=pl.String),
    )


@functools.partial(jax.jit, static_argnums=(0, 1))
def text_vectors(items: int, dtype: str = "float32") -> jax.Array:
    """[item, width], no two rows the same, made in place: a copy that is freed again would count as the peak."""
    phases = jnp.arange(items)[:, None] * jnp.arange(1.0, TEXT_WIDTH + 1)[None, :]
    return jnp.sin(phases).astype(dtype)
