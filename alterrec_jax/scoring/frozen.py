"""A view whose networks rest: several components as one table and one query, so that mining knows one kind of score."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from alterrec_jax.contract import (
    Component,
    Context,
    FrozenView,
    ItemSums,
    Neighbours,
    Params,
    SessionBatch,
    View,
    make_item_tables,
)
from alterrec_jax.scoring.item_sums import Entries, Queries, entries_of


def freeze(
    components: Mapping[str, Component], view: View, params: Mapping[str, Params], context: Context
) -> FrozenView:
    """The components of a view, with their item tables made without dropout.

    Args:
      components: of the system.
      view: the weights of those that are wanted.
      params: by name of the trained network.
      context: what is known of the items.
    """
    own = {name: params[components[name].trained] for name in view}
    tables = {name: make_item_tables(components[name].network, own[name], context) for name in view}
    candidates = [of.candidates for of in tables.values() if not isinstance(of.candidates, Neighbours)]
    if not candidates:  # of no width
        candidates = [next(iter(tables.values())).candidates.weights[:, :0]]
    side_by_side = candidates[0] if len(candidates) == 1 else jnp.concatenate(candidates, axis=1)
    return FrozenView(own, tables, side_by_side)


def frozen_queries(
    components: Mapping[str, Component], view: View, frozen: FrozenView, batch: SessionBatch
) -> jax.Array | Queries:
    """What gives the view's scores with `frozen.candidates`: float [prefix, sum of dims], or `Queries`."""
    vectors, entries = [], []
    for name, weight in view.items():
        network, tables = components[name].network, frozen.tables[name]
        found = network.session_embeddings(frozen.params[name], tables, batch)
        if isinstance(found, ItemSums):
            entries.append(entries_of(ItemSums(found.items, weight * found.weights), tables.candidates))
        else:
            vectors.append(found if weight == 1 else (weight * found).astype(found.dtype))
    if not vectors:
        vectors = [jnp.zeros((len(entries[0]), 0), jnp.float32)]
    side_by_side = vectors[0] if len(vectors) == 1 else jnp.concatenate(vectors, axis=1)
    if not entries:
        return side_by_side
    joined = [jnp.concatenate(parts, axis=1) for parts in zip(*((e.items, e.values) for e in entries), strict=True)]
    return Queries(side_by_side, Entries(*joined))
