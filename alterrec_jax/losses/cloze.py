"""The cloze of BERT4Rec: some items of whole sessions are masked, and predicted from the others.

It reads batches of the layout `packed`. There a session's items but the last are inputs and the last is a target, so
the whole session is the inputs and, at an end token, what follows them. Of a session longer than a row each chunk is
one. An item is masked only where its batch learns it, as the target of one of its own prefixes or, with these, as the
first of all, so overlapping chunks mask no item twice: what a chunk has for context stays visible. (A chunk of
`max_length` 1 has none, and masks its first item a second time.)
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.contract import Context, ItemTables, Network, Objective, Params, SessionBatch
from alterrec_jax.hard_negatives.sets import WholeCatalogue
from alterrec_jax.losses.softmax import sampled_softmax_loss
from alterrec_jax.losses.streamed import log_sum_exp
from alterrec_jax.nn.segments import same_segment, with_end_tokens
from alterrec_jax.numerics import MemoryLimits
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.lookup import lookup

CLOZE = "cloze"
"""The objective, and its only term."""


class MaskedSessions(NamedTuple):
    """Sessions of which some items are hidden.

    Attributes:
      tokens: the items, as of `with_end_tokens`, with the hidden ones.
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
        table, everything = tables.candidates, WholeCatalogue(labels)
        losses = sampled_softmax_loss(
            target_scores=jnp.einsum("pd,pd->p", queries, lookup(table, labels)),
            log_sum=log_sum_exp(queries, table, everything, network.catalogue_size, limits=limits),
        )
        wanted = sessions.wanted.reshape(-1)
        mean = jnp.sum(losses, where=wanted) / jnp.maximum(jnp.sum(wanted), 1)
        return {CLOZE: mean * jnp.sum(batch.is_target)}

    return Objective(loss)


def mask_sessions(key: jax.Array, batch: SessionBatch, rate: float, last: float) -> MaskedSessions:
    """Draws which items are masked.

    Args:
      key: what draws.
      batch: of the layout `packed`.
      rate: the share of a session's items that is masked, rounded, at least one (`masked_of`).
      last: the probability that a session's last item alone is masked instead.
    """
    tokens, learned = _whole_sessions(batch)
    length = batch.items.shape[1]
    order_key, last_key = jax.random.split(key)
    order = jnp.argsort(jax.random.uniform(order_key, tokens.items.shape), axis=1)  # distinct numbers
    together = same_segment(tokens)
    rivals = together & learned[:, None, :]
    size = jnp.sum(rivals, axis=2)
    rank = jnp.sum(rivals & (order[:, None, :] < order[:, :, None]), axis=2)
    counts = np.array([0] + [masked_of(items, rate) for items in range(1, length + 2)], np.int32)
    at_end = (jnp.arange(2 * length) >= length)[None]
    only_last = at_end & (jax.random.uniform(last_key, tokens.items.shape) < last)
    only_last = jnp.any(together & only_last[:, None, :], axis=2)
    masked = learned & jnp.where(only_last, at_end, rank < jnp.asarray(counts)[size])
    places = jnp.argsort(~masked, axis=1, stable=True)[:, : most_masked(length, rate)]
    return MaskedSessions(tokens, masked, places, jnp.take_along_axis(masked, places, axis=1))


def masked_of(items: int, rate: float) -> int:
    """How many of a session's items are masked."""
    return max(1, round(rate * items))


def most_masked(length: int, rate: float) -> int:
    """The most items that a row of so many positions can have masked, however sessions lie in it.

    A session of n inputs has n + 1 items.
    """
    most = [0]
    for room in range(1, length + 1):
        most.append(max(most[room - inputs] + masked_of(inputs + 1, rate) for inputs in range(1, room + 1)))
    return most[length]


def _whole_sessions(batch: SessionBatch) -> tuple[SessionBatch, jax.Array]:
    """The sessions with what follows them at their end tokens, and bool [row, token], which items are learned."""
    tokens, shape = with_end_tokens(batch), batch.items.shape
    targets, is_target = batch.targets.reshape(shape), batch.is_target.reshape(shape)
    # An item is the target of the prefix that ends before it; the first of a session is learned with the second.
    before = jnp.pad(is_target[:, :-1], ((0, 0), (1, 0)))
    learned = jnp.concatenate([jnp.where(batch.positions == 0, is_target, before), is_target], axis=1)
    items = jnp.concatenate([batch.items, targets], axis=1)
    return tokens._replace(items=items), learned & (tokens.segments >= 0)
