"""The pretraining of S3-Rec: four tasks on whole sessions of which items are hidden from a bidirectional encoder.

With h_t what the encoder makes of a session whose last item, and each other one by chance, is replaced by MASK, U the
attributes' rows, E the items', and W_x h + b_x a linear map of each task's own, the terms are

    AAP  at items that are not masked: the sum over attributes a of BCE(u_a . W_aap h_t, whether s_t has a)
    MAP  the same at masked items, by W_map
    MIP  at masked items: -log sigmoid(W_mip h_t . e_(s_t) - W_mip h_t . e_n), n an item that is not in the session
    SP   of a session: -log sigmoid(W_sp c . z+ - W_sp c . z-)

(+ b_x in each). For SP a piece of the session is drawn, of 1 .. half of its items. At the session's last position c is
read of the session with the piece masked, z+ of the piece with all else masked, and z- of as many consecutive items of
other sessions in the piece's place, again with all else masked.

It reads batches of the layout `whole`; of a session longer than a row each chunk is one. What is hidden and compared is
drawn by `draw_tasks`, anew in each step.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from alterrec_jax.contract import Context, Network, Objective, Params, SessionBatch
from alterrec_jax.nn.segments import same_segment
from alterrec_jax.numerics import product
from alterrec_jax.sharding.lookup import lookup

AAP, MAP, MIP, SP = TASKS = ("aap", "map", "mip", "sp")
"""The terms: associated and masked attribute prediction, masked item and segment prediction."""

S3_PRETRAINING = "s3_pretraining"
"""The objective."""


class Tasks(NamedTuple):
    """What one step hides, and what it compares with.

    Attributes:
      sessions: the batch, with no segment where a position takes no part.
      masked: bool [row, position], items that are masked for AAP, MAP and MIP.
      negatives: int32 [row, position], of each position an item that is not in its session.
      piece: bool [row, position], the piece of each session that SP is about.
      strangers: int32 [row, position], within a piece the items of other sessions that stand in its place; else 0.
      compared: bool [row, position], the last positions of the sessions that SP learns from.
    """

    sessions: SessionBatch
    masked: jax.Array
    negatives: jax.Array
    piece: jax.Array
    strangers: jax.Array
    compared: jax.Array


class EncodeFn(Protocol):
    """encode(params, inputs, sessions, key=None) -> float32 [row, position, dim]: every item sees its whole session.

    `inputs` are float32 [row, position, dim], rows of items or MASK. A key turns dropout on.
    """

    def __call__(
        self, params: Params, inputs: jax.Array, sessions: SessionBatch, key: jax.Array | None = None
    ) -> jax.Array: ...


AttributesFn = Callable[[Params, Context, jax.Array], jax.Array]
"""(params, context, items) -> int32 [row, position, most], the attributes of each item, from 1; 0 fills up."""


def s3_pretraining(
    name: str,
    network: Network,
    encode: EncodeFn,
    attributes_of: AttributesFn,
    *,
    weights: Mapping[str, float],
    mask_rate: float,
    prefixes: bool,
    double_sigmoid: bool,
) -> Objective:
    """The weighted means of the four tasks, each over the places or sessions that it learns from.

    A step divides terms by its number of prefixes, so that each term is its mean times that number.

    Args:
      name, network: what trains; its parameters hold what only pretraining needs under "pretraining" (`task_losses`).
      encode: what the network makes of sessions with hidden items.
      attributes_of: the attributes of items.
      weights: of each of TASKS.
      mask_rate, prefixes: as of `draw_tasks`.
      double_sigmoid: as of `task_losses`.
    """

    def loss(
        params: Mapping[str, Params], context: Context, batch: SessionBatch, key: jax.Array, mined: None
    ) -> dict[str, jax.Array]:
        del mined
        draw_key, table_key, session_key = jax.random.split(key, 3)
        tasks = draw_tasks(draw_key, batch, network.catalogue_size, mask_rate, prefixes)
        table = network.item_tables(params[name], context, table_key).candidates
        attributes = attributes_of(params[name], context, batch.items)
        found = task_losses(encode, params[name], table, attributes, tasks, session_key, double_sigmoid=double_sigmoid)
        prefix_count = jnp.sum(batch.is_target)
        return {
            task: weights[task] * prefix_count * jnp.sum(losses, where=where) / jnp.maximum(jnp.sum(where), 1)
            for task, (losses, where) in found.items()
        }

    return Objective(loss)


def draw_tasks(key: jax.Array, batch: SessionBatch, catalogue_size: int, mask_rate: float, prefixes: bool) -> Tasks:
    """Draws what is hidden in a step, and what is compared.

    Args:
      key: what draws.
      batch: of the layout `whole`.
      catalogue_size: negatives are uniform among so many items, without those of the session in the batch.
      mask_rate: the probability of an item to be masked; a session's last one always is.
      prefixes: whether of each session a prefix of random length takes part, instead of all of it.
    """
    keys = jax.random.split(key, 6)
    shape, together, is_item = batch.items.shape, same_segment(batch), batch.segments >= 0
    size = jnp.sum(together, axis=2, dtype=jnp.int32)

    def of_session(values: jax.Array) -> jax.Array:
        """What stands where each position's session begins."""
        first = jnp.arange(shape[1], dtype=jnp.int32)[None] - batch.positions
        return jnp.take_along_axis(values, jnp.where(is_item, first, 0), axis=1)

    def uniform(key: jax.Array, low: int, high: jax.Array) -> jax.Array:
        """int32 [row, position], low .. high, one number a session."""
        return of_session(jax.random.randint(key, shape, low, jnp.maximum(high, low) + 1))

    kept = uniform(keys[0], 1, size) if prefixes else size
    inside = is_item & (batch.positions < kept)
    last = inside & (batch.positions == kept - 1)
    masked = last | (inside & (jax.random.uniform(keys[1], shape) < mask_rate))

    length = uniform(keys[2], 1, kept // 2)
    place = batch.positions - uniform(keys[3], 0, kept - length)
    piece = inside & (kept > 1) & (place >= 0) & (place < length)

    # The items of all sessions one after another; those of the others follow a session's own ones, as in a ring.
    number = (jnp.cumsum(is_item.reshape(-1), dtype=jnp.int32) - 1).reshape(shape)
    total = jnp.maximum(number[-1, -1] + 1, 1)
    ring = batch.items.reshape(-1)[jnp.argsort(~is_item.reshape(-1), stable=True)]
    others = total - size
    taken = of_session(number) + size + uniform(keys[4], 0, others - length) + place
    strangers = jnp.where(piece, ring[taken % total], 0)

    negatives = _outside(keys[5], batch.items, together, catalogue_size)
    sessions = batch._replace(segments=jnp.where(inside, batch.segments, -1))
    return Tasks(sessions, masked, negatives, piece, strangers, last & (kept > 1) & (others >= length))


def _outside(key: jax.Array, items: jax.Array, together: jax.Array, catalogue_size: int) -> jax.Array:
    """int32 [row, position]: of each position, a uniform item that is not in its session.

    Of the d distinct items of a session, the one that has i smaller ones has v - i items before it that are none of
    them. So number r among the others is r + how many of the d have v - i <= r.
    """
    length = items.shape[1]
    equal = together & (items[:, :, None] == items[:, None, :])
    distinct = jnp.argmax(equal, axis=2) == jnp.arange(length)[None]  # where an item comes first in its session
    rivals = together & distinct[:, None, :]
    others_before = items - jnp.sum(rivals & (items[:, None, :] < items[:, :, None]), axis=2)
    count = catalogue_size - jnp.sum(rivals, axis=2)
    drawn = jax.random.randint(key, items.shape, 0, jnp.maximum(count, 1))
    return drawn + jnp.sum(rivals & (others_before[:, None, :] <= drawn[:, :, None]), axis=2)


def task_losses(
    encode: EncodeFn,
    params: Params,
    table: jax.Array,
    attributes: jax.Array,
    tasks: Tasks,
    key: jax.Array | None = None,
    *,
    double_sigmoid: bool = False,
) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Of each task the losses, float32 [row, position], and bool [row, position], which of them count.

    Args:
      encode: the encoder.
      params: the network's; under "pretraining" they have "mask", float32 [dim], "attributes", float32
        [1 + attribute, dim], whose row 0 is read by nobody, and a linear map of each task.
      table: float32 [item, dim], E.
      attributes: int32 [row, position, most], of the sessions' items, from 1; 0 fills up.
      tasks: what is hidden, and compared.
      key: turns dropout on.
      double_sigmoid: whether MIP and SP compare sigmoids of the scores instead of these (released code).
    """
    own = params["pretraining"]
    rows, negatives, strangers = (
        lookup(table, items) for items in (tasks.sessions.items, tasks.negatives, tasks.strangers)
    )
    masked, context, piece, others = _encoded_views(encode, params, rows, strangers, tasks, key)

    def mapped(task: str, of: jax.Array) -> jax.Array:
        return product(of, own[task]["kernel"], of.dtype) + own[task]["bias"][None, None]

    def compared(query: jax.Array, positive: jax.Array, negative: jax.Array) -> jax.Array:
        scores = [jnp.einsum("rpd,rpd->rp", query, other, precision="highest") for other in (positive, negative)]
        if double_sigmoid:
            scores = [jax.nn.sigmoid(score) for score in scores]
        return jax.nn.softplus(scores[1] - scores[0])

    # A position is learned by one of AAP and MAP, so that one product with all attributes serves both.
    query = jnp.where(tasks.masked[..., None], mapped(MAP, masked), mapped(AAP, masked))
    scores = product(query, own["attributes"][1:].T, query.dtype)
    of_item = jnp.take_along_axis(scores, jnp.maximum(attributes - 1, 0), axis=2)
    of_attributes = jnp.sum(jax.nn.softplus(scores), axis=2) - jnp.sum(of_item, axis=2, where=attributes > 0)
    visible = (tasks.sessions.segments >= 0) & ~tasks.masked
    return {
        AAP: (of_attributes, visible),
        MAP: (of_attributes, tasks.masked),
        MIP: (compared(mapped(MIP, masked), rows, negatives), tasks.masked),
        SP: (compared(mapped(SP, context), piece, others), tasks.compared),
    }


def _encoded_views(
    encode: EncodeFn, params: Params, rows: jax.Array, strangers: jax.Array, tasks: Tasks, key: jax.Array | None
) -> list[jax.Array]:
    """Four times float32 [row, position, dim], in one pass of the encoder: masked items, then for SP a session without
    its piece, the piece alone, and the strangers alone."""
    mask, masked, piece = params["pretraining"]["mask"], tasks.masked[..., None], tasks.piece[..., None]
    views = (
        jnp.where(masked, mask, rows),
        jnp.where(piece, mask, rows),
        jnp.where(piece, rows, mask),
        jnp.where(piece, strangers, mask),
    )
    # Those of a row follow each other, so that rows of padding stay behind all others.
    inputs = jnp.stack(views, axis=1).reshape(-1, *rows.shape[1:])
    sessions = jax.tree.map(lambda array: jnp.repeat(array, len(views), axis=0), tasks.sessions)
    hidden = encode(params, inputs, sessions, key).reshape(len(rows), len(views), *rows.shape[1:])
    return [hidden[:, view] for view in range(len(views))]
