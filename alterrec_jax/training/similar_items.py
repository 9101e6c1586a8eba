"""Where a new item starts in a learned table: among known items whose texts are like its own.

    row = sum over the NEIGHBOURS known items j of the highest cosine to its text of  w_j row_j,
    w_j = max(cosine_j, 0), divided by their sum

It is a rule of thumb, made for a start that training goes on from: a mean is shorter than what it is a mean of. An item
without a text, or whose text is like none, has no neighbour, and keeps the row that it was initialised with.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.dataset_files import TEXT
from alterrec_jax.evaluation.best_items import best_in_blocks
from alterrec_jax.evaluation.rank_counts import RankingLimits
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.item_rows import ROWS_AT_ONCE, rows_of, set_rows
from alterrec_jax.sharding.item_shards import ItemShards, padded_table

NEIGHBOURS = 10
_NEW_AT_ONCE = 256


class Similar(NamedTuple):
    """New items, and the known ones that they start from.

    Attributes:
      items: int32 [new], those that have a neighbour.
      neighbours: int32 [new, k], known items.
      weights: float32 [new, k], at least 0; they add up to 1.
    """

    items: np.ndarray
    neighbours: np.ndarray
    weights: np.ndarray


def similar_items(
    dataset: Dataset,
    rows: np.ndarray,
    neighbours: int = NEIGHBOURS,
    limits: RankingLimits = RankingLimits(),  # noqa: B008
) -> Similar:
    """The nearest known items of each new one, by the cosine of their text vectors.

    Args:
      dataset: its catalogue's texts are compared; no item has a neighbour where they were not encoded.
      rows: int32 [catalogue], negative for new items.
      neighbours: how many, at most.
      limits: how many items a device compares with at a time.
    """
    catalogue, new = dataset.catalogue_size, np.flatnonzero(rows < 0).astype(np.int32)
    if _feature(dataset) not in dataset.vectors:
        return Similar(new[:0], np.zeros((0, neighbours), np.int32), np.zeros((0, neighbours), np.float32))
    shards = ItemShards.of(catalogue, limits.block)
    # A new item becomes a row of zeros, whose cosine of 0 weighs nothing.
    table = padded_table(_known_units(*(mesh.put_rows(a, np.float32) for a in (_texts(dataset), rows >= 0))), shards)
    k, size = min(neighbours, catalogue), mesh.padded(_NEW_AT_ONCE, mesh.DATA)
    found, weights = np.zeros((len(new), k), np.int32), np.zeros((len(new), k), np.float32)
    nothing = mesh.put((np.zeros((size, 1), np.int32), np.zeros((size, 1), bool)), mesh.BATCH)
    for start in range(0, len(new), size):
        some = new[start : start + size]
        texts = np.pad(_units(np.asarray(_texts(dataset)[some], np.float32)), ((0, size - len(some)), (0, 0)))
        queries = {TEXT: mesh.put(texts, mesh.BATCH)}
        options: dict[str, Any] = {"k": k, "catalogue": catalogue, "limits": limits}
        best = best_in_blocks(queries, {TEXT: table}, {TEXT: 1.0}, *nothing, **options)
        cosines, items = (part[: len(some)] for part in best.gathered())
        found[start : start + size], weights[start : start + size] = items, np.maximum(cosines, 0)
    total = weights.sum(axis=1)
    near = total > 0
    return Similar(new[near], found[near], weights[near] / total[near, None])


def place_by_text(table: jax.Array, similar: Similar, rows_at_once: int = ROWS_AT_ONCE) -> jax.Array:
    """A table [item, ...], taken over, with the weighted means of their neighbours' rows in the rows of new items."""
    neighbours = similar.neighbours.shape[1]
    items_at_once = max(rows_at_once // max(neighbours, 1), 1)
    for start in range(0, len(similar.items), items_at_once):
        part = slice(start, start + items_at_once)
        items, weights = similar.items[part], similar.weights[part]
        of_known = rows_of(table, similar.neighbours[part].reshape(-1), items_at_once * neighbours)
        padded = mesh.put(np.pad(weights, ((0, items_at_once - len(items)), (0, 0))))
        table = set_rows(table, items, _means(of_known, padded))
    return table


def _feature(dataset: Dataset) -> str:
    """The vectors of the texts by their name; those of another encoder where there are no others."""
    return TEXT if TEXT in dataset.vectors else next(iter(dataset.text_encoders), TEXT)


def _texts(dataset: Dataset) -> np.ndarray:
    return dataset.vectors[_feature(dataset)][: dataset.catalogue_size]


def _units(vectors: np.ndarray) -> np.ndarray:
    """float32 [item, width], of length 1; zeros stay zeros."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)


@jax.jit
def _known_units(vectors: jax.Array, known: jax.Array) -> jax.Array:
    """float32 [item, width], of length 1; zeros for items that are not known."""
    length = jnp.maximum(jnp.linalg.norm(vectors, axis=1, keepdims=True), jnp.finfo(jnp.float32).tiny)
    return mesh.with_sharding_constraint(vectors / length * known[:, None], mesh.ITEMS)


@jax.jit
def _means(rows: jax.Array, weights: jax.Array) -> jax.Array:
    """float [item, ...] from rows [item * k, ...] and weights [item, k]."""
    by_item = rows.reshape(*weights.shape, *rows.shape[1:])
    return jnp.einsum("nk...,nk->n...", by_item, weights, precision="highest")
