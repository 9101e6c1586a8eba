"""How a learned item table starts: from random numbers, or from vectors of the items that it then leaves behind.

Harte et al. (RecSys 2023) start BERT4Rec's table from the principal components of text vectors. Their extended paper
(Boz et al., "Improving Sequential Recommendations with LLMs", 2024) also has Gaussian random projections; those of its
code are not centred.
"""

import dataclasses

import jax
import jax.numpy as jnp

from alterrec_jax.config import setting
from alterrec_jax.contract import Reads
from alterrec_jax.data.dataset_files import TEXT
from alterrec_jax.errors import UserError

RANDOM, PCA, RANDOM_PROJECTION, RAW = "random", "pca", "random_projection", "raw"
METHODS = (RANDOM, PCA, RANDOM_PROJECTION, RAW)


@dataclasses.dataclass(frozen=True)
class TableStart:
    """How an item table starts."""

    method: str = setting(
        RANDOM,
        "what the item table starts from: random numbers; the vectors' principal components, neither whitened nor "
        "rescaled; a Gaussian projection of the centred vectors; or the vectors raw, which dim must be as wide as",
        choices=METHODS,
    )
    feature: str = setting(TEXT, "name of the vectors that it starts from; random reads none")
    scale: float = setting(
        0.0, "standard deviation that a table of vectors is rescaled to, 0.02 say; 0: as they are (published)", low=0
    )

    @property
    def reads(self) -> Reads:
        """What is read when the table starts, and not any more afterwards."""
        return Reads(features=() if self.method == RANDOM else (self.feature,))


def started_table(start: TableStart, vectors: jax.Array, dim: int, key: jax.Array) -> jax.Array:
    """float32 [item, dim]: what a table starts from.

    Only items that have a vector decide about centre, axes and scale. The others, rows of zeros, get normal numbers
    with the mean and the standard deviation that each column has.

    Args:
      start: how; its method is not `random`.
      vectors: float [item, width].
      dim: width of the table.
      key: for projections, and for the items without a vector.

    Raises:
      UserError: `dim` does not fit the vectors' width.
    """
    width = vectors.shape[1]
    _check_width(start, width, dim)
    project_key, others_key = jax.random.split(key)
    vectors = vectors.astype(jnp.float32)
    known = jnp.any(vectors != 0, axis=1, keepdims=True)
    count = jnp.maximum(jnp.sum(known), 1)
    centred = jnp.where(known, vectors - jnp.sum(vectors, axis=0, keepdims=True) / count, 0)
    if start.method == RAW:
        table = vectors
    elif start.method == PCA:
        table = _product(centred, principal_axes(centred)[:, :dim])
    else:  # inner products are kept in expectation
        table = _product(centred, jax.random.normal(project_key, (width, dim)) / dim**0.5)
    mean = jnp.sum(table, axis=0, keepdims=True) / count
    variance = jnp.sum((table - mean) ** 2, axis=0, keepdims=True, where=known) / count
    table = jnp.where(known, table, mean + jnp.sqrt(variance) * jax.random.normal(others_key, table.shape))
    if not start.scale:
        return table
    spread = jnp.sqrt(jnp.mean(variance) + jnp.var(mean))  # of all entries
    return table * (start.scale / jnp.maximum(spread, jnp.finfo(jnp.float32).tiny))


def principal_axes(centred: jax.Array) -> jax.Array:
    """float32 [width, axis]: orthonormal directions, by falling variance, each up to its sign.

    Args:
      centred: float32 [item, width], of mean zero; rows of zeros count for nothing.
    """
    _, axes = jnp.linalg.eigh(_product(centred.T, centred))  # by ascending variance
    return axes[:, ::-1]


def modality_tables(vectors: jax.Array, others: jax.Array | None, dim: int) -> tuple[jax.Array, jax.Array | None]:
    """float32 [item, at most dim] twice: two kinds of vectors of one space on the principal axes of the first kind.

    Each kind is centred on itself, so that what tells the kinds apart as such is left out. Items without a vector, rows
    of zeros, have the centre: 0.

    Args:
      vectors: float [item, width].
      others: of the same width; None where there are none.
      dim: how many axes, if the vectors are as wide.
    """

    def centred(rows: jax.Array) -> jax.Array:
        rows = rows.astype(jnp.float32)
        known = jnp.any(rows != 0, axis=1, keepdims=True)
        mean = jnp.sum(rows, axis=0, keepdims=True) / jnp.maximum(jnp.sum(known), 1)
        return jnp.where(known, rows - mean, 0)

    first = centred(vectors)
    axes = principal_axes(first)[:, :dim]
    return _product(first, axes), None if others is None else _product(centred(others), axes)


def _check_width(start: TableStart, width: int, dim: int) -> None:
    if start.method == RAW and dim != width:
        raise UserError(
            f"the item table is to start from the raw vectors of {start.feature}, which are {width} wide, but dim is "
            f"{dim}; make dim {width}, or start by pca or random_projection"
        )
    if start.method == PCA and dim > width:
        raise UserError(
            f"the item table is to start from {dim} (dim) principal components, but the vectors of {start.feature} are "
            f"only {width} wide; make dim {width} at most, or start by random_projection"
        )


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.matmul(left, right, precision="highest")
