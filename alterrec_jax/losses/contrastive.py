"""UniSRec's pretraining: a prefix finds its next item, and itself, among those of its batch.

    L = mean over i of  -log exp(q_i.z_i / tau) / sum over j in N_i and i of exp(q_i.z_j / tau)
        + weight * the same with q~_j in place of z_j

q_i is the session vector of prefix i, z_i the adapted text vector of its target and q~_i the vector of an augmented
prefix, all of unit length. N_i are the prefixes of other sessions with another target. (A batch holds whole sessions
here, where the released code draws prefixes one by one: what follows elsewhere in a session would be a negative far
more often than chance has it, and is left out. Each chunk of a session that is longer than a row counts as one.)

A batch is augmented in one of two ways. Item drop takes every item but a prefix's first away with probability `rate`,
and the rest closes up. Word drop replaces, with that probability, an item's vector by that of its text without some of
its words. All prefixes of a session lose the same items.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from alterrec_jax.contract import Context, Objective, Params, SessionBatch, at_prefixes
from alterrec_jax.errors import UserError
from alterrec_jax.losses.objectives import NEXT_ITEM
from alterrec_jax.losses.softmax import sampled_softmax_loss
from alterrec_jax.losses.streamed import log_sum_exp
from alterrec_jax.nn.moe_adaptor import AdaptFn
from alterrec_jax.nn.vectors import unit
from alterrec_jax.numerics import MemoryLimits
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.lookup import lookup

CONTRASTIVE = "contrastive"
"""The objective."""

SAME_PREFIX = "same_prefix"
"""Its term beside `NEXT_ITEM`: that of the augmented prefix."""

EncodeFn = Callable[[Params, jax.Array, SessionBatch, jax.Array | None], jax.Array]
"""encode(params, inputs float [row, position, dim], batch, key or None) -> float [row, position, dim], of length 1."""


class Contrast(NamedTuple):
    """The settings of the loss.

    Attributes:
      feature: the name of the items' vectors.
      dropped: the name of the vectors of texts without some words; where a dataset has none, items are dropped alone.
      temperature: tau.
      weight: of the second term.
      rate: share of the items that an augmentation changes.
      item_drop: share of the batches whose augmentation is item drop.
      dtype: of what products take.
    """

    feature: str
    dropped: str
    temperature: float
    weight: float
    rate: float
    item_drop: float
    dtype: str


def contrastive(
    name: str,
    adapt: AdaptFn,
    encode: EncodeFn,
    given: Contrast,
    limits: MemoryLimits = MemoryLimits(),  # noqa: B008
) -> Objective:
    """The loss, of a batch in the layout `packed`.

    Args:
      name: the network that trains.
      adapt, encode: what it makes of vectors of items, and of what these become.
      given: the settings.
      limits: how much a device holds at a time.
    """

    def loss(
        params: Mapping[str, Params], context: Context, batch: SessionBatch, key: jax.Array, mined: None
    ) -> dict[str, jax.Array]:
        del mined
        own, dropped = params[name], context.features.get(given.dropped)
        augment_key, adapt_key, encode_key = jax.random.split(key, 3)
        changed = augment(augment_key, batch, given.rate, 1.0 if dropped is None else given.item_drop)

        # Inputs, augmented inputs and targets, [row, 3 * position, width]: each place is adapted for itself.
        items = jnp.concatenate([batch.items, batch.targets.reshape(batch.items.shape)], axis=1)
        inputs, targets = jnp.split(lookup(context.features[given.feature], items), 2, axis=1)
        reworded = inputs
        if dropped is not None:
            if dropped.shape[1] != inputs.shape[-1]:
                raise UserError(
                    f"the vectors {given.dropped} are {dropped.shape[1]} wide, those of {given.feature} "
                    f"{inputs.shape[-1]}; make both with one encoder (--word_drop of preparation does)"
                )
            reworded = jnp.where(changed.reworded[:, :, None], lookup(dropped, batch.items), inputs)
        vectors = jnp.concatenate([inputs, reworded, targets], axis=1)
        adapted = adapt(own, vectors.reshape(-1, vectors.shape[-1]), adapt_key)
        inputs, reworded, targets = jnp.split(adapted.reshape(*vectors.shape[:2], -1), 3, axis=1)

        # A row and its augmented form are encoded as two rows, one after the other.
        both = jax.tree.map(_interleave, batch, changed.batch)
        hidden = encode(own, _interleave(inputs, reworded), both, encode_key)
        hidden, again = jnp.split(hidden.reshape(len(inputs), -1, hidden.shape[-1]), 2, axis=1)
        again = jnp.take_along_axis(again, changed.read_at[:, :, None], axis=1)
        queries = (at_prefixes(hidden, batch) / given.temperature).astype(given.dtype)
        queries = mesh.with_sharding_constraint(queries, mesh.BATCH)
        candidates = {
            NEXT_ITEM: (1.0, unit(targets).reshape(queries.shape)),
            SAME_PREFIX: (given.weight, at_prefixes(again, batch)),
        }
        negatives = InBatch.of(batch)
        return {
            term: weight * jnp.sum(in_batch_losses(queries, rows, negatives, limits), where=batch.is_target)
            for term, (weight, rows) in candidates.items()
        }

    return Objective(loss)


def _interleave(rows: jax.Array, others: jax.Array) -> jax.Array:
    """[2 * row, ...], a row of each in turn: on a mesh, both on the device that has them."""
    return jnp.stack([rows, others], axis=1).reshape(-1, *rows.shape[1:])


def in_batch_losses(
    queries: jax.Array,
    rows: jax.Array,
    negatives: "InBatch",
    limits: MemoryLimits = MemoryLimits(),  # noqa: B008
) -> jax.Array:
    """float32 [prefix], of each query [prefix, dim] with its own row [prefix, dim] against those of its negatives."""
    own = jnp.einsum("pd,pd->p", queries, rows)
    padded = jnp.pad(rows, ((0, mesh.padded(len(rows), mesh.MODEL) - len(rows)), (0, 0)))
    # Devices share the rows along `model`, and each takes all of its own: they come from all of `data`.
    padded = mesh.with_sharding_constraint(padded, mesh.ITEMS)
    return sampled_softmax_loss(own, log_sum_exp(queries, padded, negatives, limits=limits))


class InBatch(NamedTuple):
    """Negatives of a prefix: the prefixes of the batch that are of other sessions and have another target.

    Attributes:
      targets: int32 [prefix].
      sessions: int32 [prefix], numbers that tell the batch's sessions apart; -1 where there is no prefix.
      of_rows: the same two, int32 [row, 2], of the candidates: the prefixes again, and -1 behind them.
    """

    targets: jax.Array
    sessions: jax.Array
    of_rows: jax.Array

    @classmethod
    def of(cls, batch: SessionBatch) -> "InBatch":
        """Those of a batch."""
        rows, length = batch.items.shape
        numbers = jnp.arange(rows, dtype=jnp.int32)[:, None] * length + batch.segments
        sessions = jnp.where(batch.is_target, at_prefixes(numbers[..., None], batch)[:, 0], -1)
        of_rows = jnp.stack([batch.targets, sessions], axis=1)
        behind = mesh.padded(len(of_rows), mesh.MODEL) - len(of_rows)
        of_rows = jnp.pad(of_rows, ((0, behind), (0, 0)), constant_values=-1)
        return cls(batch.targets, sessions, mesh.with_sharding_constraint(of_rows, mesh.REPLICATED))

    def counts(self, start: jax.Array | int, size: int, first: jax.Array | int = 0) -> jax.Array:
        """bool [prefix, size], as `hard_negatives.sets.Negatives.counts`."""
        targets, sessions = jax.lax.dynamic_slice_in_dim(self.of_rows, first + start, size).T[:, None]
        other = (targets != self.targets[:, None]) & (sessions != self.sessions[:, None])
        return other & (sessions >= 0)

    @property
    def specs(self) -> "InBatch":
        """As `hard_negatives.sets.Negatives.specs`."""
        return InBatch._make((mesh.BATCH, mesh.BATCH, mesh.REPLICATED))


class Augmented(NamedTuple):
    """An augmented batch, whose items stand where they stood.

    Attributes:
      batch: without the dropped items: they are in no segment, and what follows them has moved up.
      read_at: int32 [row, position], where the prefix that ended there ends now: at its last item that is left.
      reworded: bool [row, position], which items get the vectors of their texts without some words.
    """

    batch: SessionBatch
    read_at: jax.Array
    reworded: jax.Array


def augment(key: jax.Array, batch: SessionBatch, rate: float, item_drop: float) -> Augmented:
    """Draws an augmentation of a batch in the layout `packed`.

    Args:
      key: what draws.
      batch: the first item of each segment stays.
      rate: the probability that another item is dropped, or any item reworded.
      item_drop: the probability that items are dropped, and none is reworded.
    """
    kind_key, place_key = jax.random.split(key)
    drops = jax.random.uniform(kind_key) < item_drop
    drawn = jax.random.bernoulli(place_key, rate, batch.items.shape)
    first = batch.positions == 0
    kept = ~(drawn & drops) | first
    gone = jnp.cumsum(~kept, axis=1, dtype=jnp.int32)
    before = jax.lax.cummax(jnp.where(first, gone, 0), axis=1)  # in the segments before
    places = jnp.arange(batch.items.shape[1], dtype=jnp.int32)[None]
    shorter = batch._replace(
        positions=jnp.maximum(batch.positions - (gone - before), 0),
        segments=jnp.where(kept, batch.segments, -1),
    )
    return Augmented(shorter, jax.lax.cummax(jnp.where(kept, places, 0), axis=1), drawn & ~drops)
