"""What the losses of DIMO and SRIM have in common: sessions in two halves, of items' IDs and of their modality."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from alterrec_jax.contract import Context, ItemTables, Network, Params, SessionBatch
from alterrec_jax.losses.softmax import full_softmax_loss
from alterrec_jax.nn.vectors import unit
from alterrec_jax.numerics import MemoryLimits
from alterrec_jax.sharding import mesh

COMPANIONS = "companions"
"""The graph that the co-occurrence loss reads."""


class Prefixes(NamedTuple):
    """Of each prefix float32 [prefix, dim]: what attention makes of its ID rows and of those of the modality (q), and
    the means of both (p)."""

    q_id: jax.Array
    q_mo: jax.Array
    p_id: jax.Array
    p_mo: jax.Array


EncodeFn = Callable[[Params, ItemTables, SessionBatch, jax.Array | None], Prefixes]
"""encode(params, tables, batch, key or None) -> what a network makes of the prefixes of a batch."""


def embedded(
    network: Network,
    encode: EncodeFn,
    params: Params,
    context: Context,
    batch: SessionBatch,
    table_key: jax.Array,
    session_key: jax.Array,
) -> tuple[jax.Array, Prefixes]:
    """The candidates, and the prefixes, with dropout."""
    tables = network.item_tables(params, context, table_key)
    prefixes = encode(params, tables, batch, session_key)
    return tables.candidates, Prefixes(*(mesh.with_sharding_constraint(rows, mesh.BATCH) for rows in prefixes))


def cross_entropy(
    queries: jax.Array, table: jax.Array, batch: SessionBatch, items: int, limits: MemoryLimits
) -> jax.Array:
    """The sum over the batch's prefixes, over the whole catalogue."""
    losses = full_softmax_loss(queries, table, batch.targets, items, limits)
    return jnp.sum(losses, where=batch.is_target)


def cosine(left: jax.Array, right: jax.Array) -> jax.Array:
    """float32 [...], from two of [..., dim]; 0 where either is."""
    return jnp.sum(unit(left) * unit(right), axis=-1)
