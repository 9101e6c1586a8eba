"""Scores that are sums of rows of an item-item matrix, for whatever slice of the candidates is asked for.

A prefix's rows, looked up once, are a sparse vector over the catalogue: entries. A slice of its scores is what falls
into it.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from alterrec_jax.contract import ItemSums, Neighbours
from alterrec_jax.numerics import MemoryLimits, scores_of, scores_of_table
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.chunked import slice_rows
from alterrec_jax.sharding.lookup import lookup


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Entries:
    """Sparse scores.

    Attributes:
      items: int32 [prefix, entry], whose each is; an item may have several, which are added up.
      values: float32 [prefix, entry].
    """

    items: jax.Array
    values: jax.Array

    def __len__(self) -> int:
        return len(self.items)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Queries:
    """Queries of a view with neighbours in it: a dot product and sparse scores, which are added up.

    Attributes:
      vectors: float [prefix, dim]; of width 0 where the view has no vectors.
      entries: of the neighbours.
    """

    vectors: jax.Array
    entries: Entries

    def __len__(self) -> int:
        return len(self.vectors)


def entries_of(sums: ItemSums, neighbours: Neighbours, spec: PartitionSpec = mesh.BATCH) -> Entries:
    """Looks up the rows of some prefixes' items; `spec` says how the prefixes lie on the mesh."""
    items = lookup(neighbours.items, sums.items, spec)
    values = lookup(neighbours.weights, sums.items, spec) * sums.weights[..., None]
    prefixes, places = sums.items.shape  # the former unknown in an export
    entries = places * neighbours.items.shape[1]
    return Entries(items.reshape(prefixes, entries), values.reshape(prefixes, entries))


def scores_of_entries(entries: Entries, first: jax.Array | int, size: int) -> jax.Array:
    """float32 [prefix, size], the scores of the items first .. first+size-1."""
    place = entries.items - first
    place = jnp.where((place >= 0) & (place < size), place, size)  # beyond the slice, so dropped

    def of_prefix(place: jax.Array, values: jax.Array) -> jax.Array:
        return jnp.zeros(size, jnp.float32).at[place].add(values, mode="drop")

    return jax.vmap(of_prefix)(place, entries.values)


def scores_at(entries: Entries, items: jax.Array) -> jax.Array:
    """float32 [prefix], the score of one item, int32 [prefix], for each prefix."""
    return jnp.sum(jnp.where(entries.items == items[:, None], entries.values, 0), axis=1)


def slice_scores(
    queries: jax.Array | Queries, table: jax.Array, start: jax.Array | int, size: int, first: jax.Array | int = 0
) -> jax.Array:
    """float32 [prefix, size], the scores of some candidates that a device holds.

    Args:
      queries: float [prefix, dim], or with entries.
      table: float32 [item, dim], what the device holds.
      start, size: which of it.
      first: the number of the first item that it holds.
    """
    if isinstance(queries, Queries):
        vectors = slice_scores(queries.vectors, table, start, size)
        return vectors + scores_of_entries(queries.entries, first + start, size)
    return scores_of(queries, slice_rows(table, start, size))


def all_scores(
    queries: jax.Array | Queries,
    table: jax.Array,
    first: jax.Array | int = 0,
    limits: MemoryLimits = MemoryLimits(),  # noqa: B008
) -> jax.Array:
    """float32 [prefix, item], the scores of all candidates that a device holds; `first` as of `slice_scores`."""
    if isinstance(queries, Queries):
        vectors = all_scores(queries.vectors, table, first, limits)
        return vectors + scores_of_entries(queries.entries, first, len(table))
    return scores_of_table(queries, table, limits.items_of_product)


def scores_of_items(queries: jax.Array | Queries, table: jax.Array, items: jax.Array) -> jax.Array:
    """float32 [prefix], the score of one item, int32 [prefix], for each prefix."""
    if isinstance(queries, Queries):
        return scores_of_items(queries.vectors, table, items) + scores_at(queries.entries, items)
    return jnp.einsum("pd,pd->p", queries, lookup(table, items), preferred_element_type=jnp.float32)
