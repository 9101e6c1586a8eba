"""The cloze of BERT4Rec: some items of whole sessions are masked, and predicted from the others.

It reads batches of the layout `whole`; of a session longer than a row each chunk is one. An item is masked only where
its batch learns it, as the last item or as the end of a prefix that is learned, so overlapping chunks mask no item
twice: what a chunk has for context stays visible.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.contract import Context, ItemTables, Network, Objective, Params, SessionBatch
from alterrec_jax.losses.softmax import full_softmax_loss
from alterrec_jax.nn.segments import same_segment
from alterrec_jax.numerics import MemoryLimits
from alterrec_jax.sharding import mesh

CLOZE = "cloze"
"""The objective, and its only term."""


class MaskedSessions(NamedTuple):
    """Sessions of which some items are hidden.

    Attributes:
      tokens: the sessions, with the hidden items.
      masked: bool [row, token], which an encoder must not see.
      places: int32 [row, place], the tokens that it is read at.
      wanted: bool [row, place], which of these are masked items; the others fill up.
    """

    tokens: SessionBatch
    masked: jax.Array
    places: jax.Array
    wanted: jax.Array


class EncodeFn(Protocol):
    """encode(params, tables, sessions, key=None) -> float32 or bfloat16 [row, place, dim]; a key turns dropout on."""

    def __call__(
        self, params: Params, tables: ItemTables, sessions: MaskedSessions, key: jax.Array | None = None
    ) -> jax.Array: ...


def cloze(
    name: str,
    network: Network,
    encode: EncodeFn,
    rate: float,
    last: float,
    limits: MemoryLimits = MemoryLimits(),  # noqa: B008
) -> Objective:
    """The mean cross-entropy, over the whole catalogue, of a batch's masked items.

    A step divides terms by its number of prefixes, so the term is the mean times that number: what is minimised is the
    mean over masked items, and an epoch's loss is the mean over its steps, each weighed by its prefixes.

    Args:
      name, network: what trains.
      encode: what the network makes of sessions with hidden items.
      rate, last: as of `mask_sessions`.
      limits: how much a device holds at a time.
    """

    def loss(
        params: Mapping[str, Params], context: Context, batch: SessionBatch, key: jax.Array, mined: None
    ) -> dict[str, jax.Array]:
        del mined
        mask_key, table_key, session_key = jax.random.split(key, 3)
        sessions = mask_sessions(mask_key, batch, rate, last)
        tables = network.item_tables(params[name], context, table_key)
        queries = encode(params[name], tables, sessions, session_key).reshape(-1, network.dim)
        queries = mesh.with_sharding_constraint(queries, mesh.BATCH)
        labels = jnp.take_along_axis(sessions.tokens.items, sessions.places, axis=1).reshape(-1)
        losses = full_softmax_loss(queries, tables.candidates, labels, network.catalogue_size, limits)
        wanted = sessions.wanted.reshape(-1)
        mean = jnp.sum(losses, where=wanted) / jnp.maximum(jnp.sum(wanted), 1)
        return {CLOZE: mean * jnp.sum(batch.is_target)}

    return Objective(loss)


def mask_sessions(key: jax.Array, batch: SessionBatch, rate: float, last: float) -> MaskedSessions:
    """Draws which items are masked.

    Args:
      key: what draws.
      batch: of the layout `whole`.
      rate: the share of a session's items that is masked, rounded, at least one (`masked_of`).
      last: the probability that a session's last item alone is masked instead.
    """
    shape, length = batch.items.shape, batch.items.shape[1]
    following = jnp.pad(batch.segments[:, 1:], ((0, 0), (0, 1)), constant_values=-1)
    at_end = (batch.segments >= 0) & (batch.segments != following)
    learned = at_end | batch.is_target.reshape(shape)
    order_key, last_key = jax.random.split(key)
    order = jnp.argsort(jax.random.uniform(order_key, shape), axis=1)  # distinct numbers
    together = same_segment(batch)
    rivals = together & learned[:, None, :]
    size = jnp.sum(rivals, axis=2)
    rank = jnp.sum(rivals & (order[:, None, :] < order[:, :, None]), axis=2)
    counts = np.array([0] + [masked_of(items, rate) for items in range(1, length + 1)], np.int32)
    only_last = at_end & (jax.random.uniform(last_key, shape) < last)
    only_last = jnp.any(together & only_last[:, None, :], axis=2)
    masked = learned & jnp.where(only_last, at_end, rank < jnp.asarray(counts)[size])
    places = jnp.argsort(~masked, axis=1, stable=True)[:, : most_masked(length, rate)]
    return MaskedSessions(batch, masked, places, jnp.take_along_axis(masked, places, axis=1))


def masked_of(items: int, rate: float) -> int:
    """How many of a session's items are masked."""
    return max(1, round(rate * items))


def most_masked(length: int, rate: float) -> int:
    """The most items that a row of so many positions can have masked, of sessions of two items or more."""
    most = [0]
    for room in range(1, length + 1):
        sizes = range(2, room + 1)
        most.append(max((most[room - items] + masked_of(items, rate) for items in sizes), default=0))
    return most[length]
