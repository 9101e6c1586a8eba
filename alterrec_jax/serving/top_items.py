"""The best items of a catalogue for some sessions, gathered block by block, so that no whole row of scores is held."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.hard_negatives import search
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.chunked import slice_rows
from alterrec_jax.sharding.item_shards import ItemShards

NO_ITEM = np.iinfo(np.int32).max  # no item has this number


class Query(NamedTuple):
    """What is known of the sessions.

    Attributes:
      listed: int32 [session, place], items by number, in any order; `NO_ITEM` where there is none.
      only_listed: bool [session, 1], whether only the listed items are wanted, or all but them.
      known: bool [session, 1], whether the view knows something of the session; else it is scored by `counts`.
      counts: float32 [column], by the `ItemShards` of the scores: how often each item was bought in training.
      new_scores: float32 [session, new item], scores of items beyond the catalogue by the component that places them;
        minus infinity where one is not wanted, or where that component knows nothing of the session.
    """

    listed: jax.Array
    only_listed: jax.Array
    known: jax.Array
    counts: jax.Array
    new_scores: jax.Array


class TopK(NamedTuple):
    """What was found so far.

    Attributes:
      scores: float32 [session, k], from high to low; minus infinity where there is nothing.
      items: int32 [session, k].
      ranks: int32 [session, new item], how many items score above each new one by the component that places it.
    """

    scores: jax.Array
    items: jax.Array
    ranks: jax.Array

    @classmethod
    def empty(cls, sessions: int, k: int, new: int) -> "TopK":
        """Before the first block."""
        shape = (sessions, k)
        found = (np.full(shape, -np.inf, np.float32), np.zeros(shape, np.int32), np.zeros((sessions, new), np.int32))
        return cls(*mesh.put(found, mesh.BATCH))


@functools.partial(jax.jit, static_argnames=("shards", "catalogue"))
def update_top_k(
    best: TopK,
    of_view: jax.Array,
    placing: jax.Array,
    start: jax.Array | int,
    query: Query,
    *,
    shards: ItemShards,
    catalogue: int,
) -> TopK:
    """The best of what was found so far and of one more block of items; of equal scores, the lower items come first.

    Args:
      best: of the blocks before.
      of_view, placing: float32 [session, column], the scores of a block by that view and by the component that places
        new items; the latter are read only if there are some.
      start: the first column of the block, on every device.
      query: what is known of the sessions.
      shards: which column is which item's.
      catalogue: how many items can be recommended.
    """

    def of_device(best: TopK, of_view: jax.Array, placing: jax.Array, start: jax.Array | int, query: Query) -> TopK:
        block, k = of_view.shape[1], best.scores.shape[1]
        here, column = shards.local_columns(query.listed)
        column = jnp.where(here & (column >= start), column - start, NO_ITEM)
        wanted = is_wanted(column, query.only_listed, block) & shards.is_item(start, block, catalogue)[None]
        scores = jnp.where(query.known, of_view, slice_rows(query.counts, start, block)[None, :])
        scores = jnp.where(wanted, scores, -jnp.inf)
        found, numbers = search.best_items(
            scores, min(k, block * mesh.size(mesh.MODEL)), shards.items_per_device, start
        )
        ranks = best.ranks
        if ranks.shape[1]:
            by_component = jnp.sort(jnp.where(wanted, placing, -jnp.inf), axis=1)
            higher = block - jax.vmap(lambda row, values: jnp.searchsorted(row, values, side="right"))(
                by_component, query.new_scores
            )
            ranks = ranks + mesh.psum(higher, mesh.MODEL)
        return TopK(*search.merged((best.scores, best.items), (found, numbers), k), ranks)

    by_row, by_item = mesh.BATCH, mesh.ITEMS
    specs_of_query = Query(by_row, by_row, by_row, by_item, by_row)  # type: ignore[arg-type]
    specs = (by_row, mesh.BATCH_AND_ITEMS, mesh.BATCH_AND_ITEMS, mesh.REPLICATED, specs_of_query)
    merged: TopK = mesh.shard_map(of_device, specs, by_row)(best, of_view, placing, start, query)
    return merged


@functools.partial(jax.jit, static_argnames="columns")
def is_wanted(listed: jax.Array, only_listed: jax.Array, columns: int) -> jax.Array:
    """bool [session, column]: the listed columns where only those are wanted, elsewhere all but them.

    Args:
      listed: int32 [session, place], from 0 on; what is no column is passed over.
      only_listed: bool [session, 1].
      columns: how many there are.
    """
    sessions = len(listed)
    marked = jnp.zeros((sessions, columns), bool).at[jnp.arange(sessions)[:, None], listed].set(True, mode="drop")
    return marked == only_listed


def block_of(table: jax.Array, start: int, block: int) -> jax.Array:
    """Of what each device holds of a table [column, dim], the rows from `start` on; the table if that is all."""
    return table if block * mesh.size(mesh.MODEL) == len(table) else _slice_rows(table, start, size=block)


@functools.partial(jax.jit, static_argnames="size")
def _slice_rows(table: jax.Array, start: jax.Array | int, *, size: int) -> jax.Array:
    of_device = mesh.shard_map(functools.partial(slice_rows, size=size), (mesh.ITEMS, mesh.REPLICATED), mesh.ITEMS)
    block: jax.Array = of_device(table, start)
    return block
