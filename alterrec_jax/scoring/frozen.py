"""A view whose networks rest: several components as one table and one query, so that mining knows one dot product."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from alterrec_jax.contract import Component, Context, FrozenView, Params, SessionBatch, View, make_item_tables


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
    candidates = [tables[name].candidates for name in view]
    side_by_side = candidates[0] if len(candidates) == 1 else jnp.concatenate(candidates, axis=1)
    return FrozenView(own, tables, side_by_side)


def frozen_queries(
    components: Mapping[str, Component], view: View, frozen: FrozenView, batch: SessionBatch
) -> jax.Array:
    """float [prefix, sum of dims], whose dot products with `frozen.candidates` are the view's scores."""
    queries = []
    for name, weight in view.items():
        network = components[name].network
        found = network.session_embeddings(frozen.params[name], frozen.tables[name], batch)
        queries.append(found if weight == 1 else (weight * found).astype(found.dtype))
    return queries[0] if len(queries) == 1 else jnp.concatenate(queries, axis=1)
