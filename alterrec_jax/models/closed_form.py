"""Item-item matrices in closed form: ridge regressions on what training sessions hold.

What is counted is sparse and stays on the host; what is solved, for all items at once or column by column, runs on the
device.
"""

import functools
import math
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from alterrec_jax.contract import Neighbours
from alterrec_jax.data.cooccurrence import incidence_matrix
from alterrec_jax.data.dataset import Sessions
from alterrec_jax.runtime.console import progress
from alterrec_jax.scoring.top_k import top_k

_LEAST = 1e-3  # an item whose weight by age is less is left out
_SESSIONS_AT_ONCE = 2**14
_ROWS_AT_ONCE = 1024
_COLUMNS_AT_ONCE = 256


def reach(decay: float) -> int:
    """How many steps away decay^steps is still of weight."""
    return 1 + math.floor(math.log(_LEAST) / math.log(decay)) if decay < 1 else sys.maxsize


class Ridge(NamedTuple):
    """How a matrix is solved for.

    Attributes:
      l2: what is added to the diagonal of the Gram matrix.
      kept: entries of a row that are kept.
      dense_items: up to so many items are solved at once.
      support: items among which a column is solved otherwise.
    """

    l2: float
    kept: int
    dense_items: int
    support: int


class Counts(NamedTuple):
    """The two sides of the normal equations, (gram + l2 I) B = together.

    Attributes:
      gram: float32 [known item, known item], sparse.
      together: float32 [known item, candidate], sparse.
    """

    gram: scipy.sparse.csr_array
    together: scipy.sparse.csr_array


def solve(train: Sessions, items: int, ridge: Ridge, decay: float | None = None) -> Neighbours:
    """The matrix of NumPy arrays: of each known item, what it adds to the score of candidates.

    Args:
      train: the training sessions; nothing else is read.
      items: how many the catalogue has.
      ridge: how it is solved for.
      decay: of items that follow a prefix, and of those in it; None for items that stand together, none of which
        predicts itself.
    """
    counts = count_together(train, items) if decay is None else count_following(train, items, decay)
    if items <= ridge.dense_items:
        return _strongest(_dense(counts, ridge.l2, decay is None), ridge.kept)
    return _sparse(counts, ridge, decay is None)


def count_together(train: Sessions, items: int) -> Counts:
    """X'X on both sides: in how many sessions two items stand."""
    held = incidence_matrix(train, items)
    gram = scipy.sparse.csr_array(held.T @ held)
    return Counts(gram, gram)


def count_following(train: Sessions, items: int, decay: float) -> Counts:
    """S'S and S'T: S holds the items of every prefix by their age, T those that follow it by their distance."""
    shape = (items, items)
    gram, together = scipy.sparse.csr_array(shape, dtype=np.float32), scipy.sparse.csr_array(shape, dtype=np.float32)
    for start in range(0, len(train), _SESSIONS_AT_ONCE):
        bounds = train.offsets[start : start + _SESSIONS_AT_ONCE + 1]
        known, following = _prefixes(train.items[bounds[0] : bounds[-1]], bounds - bounds[0], items, decay)
        gram, together = gram + known.T @ known, together + known.T @ following
    return Counts(scipy.sparse.csr_array(gram), scipy.sparse.csr_array(together))


def _prefixes(
    items: np.ndarray, offsets: np.ndarray, catalogue: int, decay: float
) -> tuple[scipy.sparse.csr_array, scipy.sparse.csr_array]:
    """float32 [interaction, item] twice: of the prefix that ends there, what it holds, and what follows it.

    A last item ends no prefix that something follows.
    """
    lengths = np.diff(offsets)
    position = np.arange(len(items)) - np.repeat(offsets[:-1], lengths)
    left = np.repeat(lengths, lengths) - position - 1
    longest = min(int(lengths.max(initial=1)), reach(decay))

    def matrix(step: int) -> scipy.sparse.csr_array:
        rows, columns, values = [], [], []
        for away in range(longest):
            row = np.flatnonzero((left > 0) & (position >= away) if step < 0 else left > away)
            item = items[row - away if step < 0 else row + 1 + away]
            row, item = row[item < catalogue], item[item < catalogue]
            rows.append(row)
            columns.append(item)
            values.append(np.full(len(row), decay**away, np.float32))
        places = (np.concatenate(rows), np.concatenate(columns))
        return scipy.sparse.csr_array((np.concatenate(values), places), shape=(len(items), catalogue))

    return matrix(-1), matrix(1)


def _dense(counts: Counts, l2: float, no_own: bool) -> jax.Array:
    """float32 [known item, candidate], the whole matrix."""
    gram = jnp.asarray(counts.gram.toarray())
    if no_own:
        return _without_own(gram, l2)
    return _ridge(gram, jnp.asarray(counts.together.toarray()), l2)


@jax.jit
def _without_own(gram: jax.Array, l2: float) -> jax.Array:
    """I - P diag(P)^-1, with P = (gram + l2 I)^-1 (Steck, 2019, eq. 8)."""
    identity = jnp.eye(len(gram))
    inverse = _ridge(gram, identity, l2)
    return jnp.where(identity > 0, 0, -inverse / jnp.diagonal(inverse)[None])


@jax.jit
def _ridge(gram: jax.Array, right: jax.Array, l2: float) -> jax.Array:
    """(gram + l2 I)^-1 right."""
    with jax.default_matmul_precision("highest"):
        factor = jax.scipy.linalg.cho_factor(
            gram + l2 * jnp.broadcast_to(jnp.eye(gram.shape[-1]), gram.shape), lower=True
        )
        found: jax.Array = jax.scipy.linalg.cho_solve(factor, right)
    return found


def _strongest(matrix: jax.Array, kept: int) -> Neighbours:
    """The entries of largest magnitude of each row."""
    parts = [
        _strongest_of(matrix[start : start + _ROWS_AT_ONCE], kept) for start in range(0, len(matrix), _ROWS_AT_ONCE)
    ]
    items, weights = (np.concatenate([np.asarray(part[i]) for part in parts]) for i in range(2))
    return Neighbours(items, weights)


@functools.partial(jax.jit, static_argnames="kept")
def _strongest_of(rows: jax.Array, kept: int) -> tuple[jax.Array, jax.Array]:
    _, columns = top_k(jnp.abs(rows), kept)
    return columns, jnp.take_along_axis(rows, columns, axis=1)


def _sparse(counts: Counts, ridge: Ridge, no_own: bool) -> Neighbours:
    """Each column solved among the items that it occurs with most; of each row, the strongest entries."""
    items = counts.gram.shape[0]
    gram, of_candidate = counts.gram, scipy.sparse.csr_array(counts.together.T)
    rows, columns, values = [], [], []
    blocks = range(0, items, _COLUMNS_AT_ONCE)
    for start in progress(blocks, "fitting neighbours", total=len(blocks), unit="block"):
        candidates = np.arange(start, min(start + _COLUMNS_AT_ONCE, items))
        systems = np.broadcast_to(
            np.eye(ridge.support, dtype=np.float32), (len(candidates), *(ridge.support,) * 2)
        ).copy()
        right = np.zeros((len(candidates), ridge.support), np.float32)
        support = np.full((len(candidates), ridge.support), -1, np.int64)
        for place, candidate in enumerate(candidates):
            of_one = slice(of_candidate.indptr[candidate], of_candidate.indptr[candidate + 1])
            known, count = of_candidate.indices[of_one], of_candidate.data[of_one]
            others = known != candidate if no_own else np.ones(len(known), bool)
            known, count = known[others], count[others]
            best = np.sort(np.argsort(-count, kind="stable")[: ridge.support])
            known, size = known[best], len(best)
            support[place, :size], right[place, :size] = known, count[best]
            systems[place, :size, :size] = gram[known][:, known].toarray()
        found = np.asarray(_solved(systems, right, ridge.l2))
        real = support >= 0
        rows.append(support[real])
        columns.append(np.broadcast_to(candidates[:, None], support.shape)[real])
        values.append(found[real])
    places = (np.concatenate(rows), np.concatenate(columns))
    matrix = scipy.sparse.csr_array((np.concatenate(values), places), shape=(items, items))
    return _strongest_of_sparse(matrix, ridge.kept)


@jax.jit
def _solved(systems: jax.Array, right: jax.Array, l2: float) -> jax.Array:
    """float32 [candidate, support], of many small systems."""
    return _ridge(systems, right[..., None], l2)[..., 0]


def _strongest_of_sparse(matrix: scipy.sparse.csr_array, kept: int) -> Neighbours:
    items = matrix.shape[0]
    found = Neighbours(np.zeros((items, kept), np.int32), np.zeros((items, kept), np.float32))
    for row in range(items):
        part = slice(matrix.indptr[row], matrix.indptr[row + 1])
        columns, values = matrix.indices[part], matrix.data[part]
        best = np.argsort(-np.abs(values), kind="stable")[:kept]
        found.items[row, : len(best)], found.weights[row, : len(best)] = columns[best], values[best]
    return found
