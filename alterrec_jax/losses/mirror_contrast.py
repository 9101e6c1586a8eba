"""MGS's loss: that of the next item, and a contrast of two mirrors of each node of a session's graph.

    L = mean over prefixes of  CE + weight * sum over nodes i of  -log softmax over nodes j of (m_i . m'_j / tau) at i

m and m' are the mirrors of a prefix's nodes from two draws of their peers.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from alterrec_jax.contract import Context, ItemTables, Network, Objective, Params, SessionBatch, at_prefixes
from alterrec_jax.losses.objectives import NEXT_ITEM
from alterrec_jax.losses.softmax import full_softmax_loss
from alterrec_jax.numerics import MemoryLimits
from alterrec_jax.sharding import mesh

CONTRAST = "contrast"
"""The term beside `NEXT_ITEM`."""


class MirrorViews(NamedTuple):
    """What training makes of a batch.

    Attributes:
      queries: float [prefix, dim], session vectors.
      mirrors: float32 [row, position, dim], twice: of each position's item, from two draws.
      nodes: bool [row, position, position], which columns stand for the nodes of a row's graph, one for each.
    """

    queries: jax.Array
    mirrors: tuple[jax.Array, jax.Array]
    nodes: jax.Array


ViewsFn = Callable[[Params, ItemTables, SessionBatch, jax.Array], MirrorViews]
"""views(params, tables, batch, key) -> MirrorViews; tables are those of a step, with draws."""


def mirror_contrast(
    name: str,
    network: Network,
    views: ViewsFn,
    weight: float,
    temperature: float,
    limits: MemoryLimits = MemoryLimits(),  # noqa: B008
) -> Objective:
    """The loss.

    Args:
      name, network: what trains.
      views: its session vectors and mirrors.
      weight: of the contrast.
      temperature: tau.
      limits: how much a device holds at a time.
    """

    def loss(
        params: Mapping[str, Params], context: Context, batch: SessionBatch, key: jax.Array, mined: None
    ) -> dict[str, jax.Array]:
        del mined
        table_key, session_key = jax.random.split(key)
        tables = network.item_tables(params[name], context, table_key)
        found = views(params[name], tables, batch, session_key)
        queries = mesh.with_sharding_constraint(found.queries, mesh.BATCH)
        losses = full_softmax_loss(queries, tables.candidates, batch.targets, network.catalogue_size, limits)
        contrasts = at_prefixes(node_contrast(*found.mirrors, found.nodes, temperature)[..., None], batch)[:, 0]
        return {
            NEXT_ITEM: jnp.sum(losses, where=batch.is_target),
            CONTRAST: weight * jnp.sum(contrasts, where=batch.is_target),
        }

    return Objective(loss)


def node_contrast(one: jax.Array, other: jax.Array, nodes: jax.Array, temperature: float) -> jax.Array:
    """float32 [row, position]: the contrast of the graph that a position is of; 0 where there is none.

    Args:
      one, other, nodes: as of `MirrorViews`.
      temperature: tau.
    """
    logits = jnp.einsum("rqd,rkd->rqk", one, other, precision="highest") / temperature
    logits = jnp.where(nodes, logits, -1e9)
    losses = jax.nn.logsumexp(logits, axis=2) - jnp.diagonal(logits, axis1=1, axis2=2)
    return jnp.sum(jnp.where(nodes, losses[:, None, :], 0), axis=2)
