"""A trained model as what a shop's servers take: one matrix of item vectors, and two programs that need none of this.

A view is a weighted sum of dot products. The components' item tables side by side are one matrix [item, dim], and a
session's embeddings, each times its component's weight, one vector [dim], whose dot products with the rows are the
view's scores. Whatever searches by dot product can then serve the model, be it one network or several. A network whose
session encoder looks up something else than it scores brings a second matrix. Neighbours are no vectors: their rows, a
sparse item-item matrix, are further arrays, and only the program that scores knows what to do with them. Nobody says
whose a session is: what a network learned of users is left out, and every user is one that training did not know.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.contract import ItemSums, ItemTables, Neighbours, SessionBatch
from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.ranking import used_weights
from alterrec_jax.numerics import scores_of
from alterrec_jax.scoring.item_sums import entries_of, scores_of_entries
from alterrec_jax.scoring.top_k import top_k
from alterrec_jax.serving.trained_model import TrainedModel

PLATFORMS = ("cpu", "cuda", "tpu")
"""What one exported program runs on."""

NO_ITEM = -1
"""Fills up a session that is shorter than the model's max_length, and a list of items that is shorter than others."""


class Served(NamedTuple):
    """A model by its main view.

    Attributes:
      item_vectors: float32 [item, dim], what is scored.
      item_inputs: float32 [item, width], what the session encoders look up; None if that is `item_vectors`.
      encode: given item_vectors (or item_inputs, if there are such) and int32 [session, max_length], the items of each
        session in their order and then `NO_ITEM`: float32 [session, dim]. A session without items gets zeros.
      max_length: the latest items of a session that the model sees.
      neighbours: the rows of all components that score by neighbours, one component's after another's; None if the
        main view has none.
      sums: given what `encode` is given, which of these rows the sessions sum.
    """

    item_vectors: np.ndarray
    item_inputs: np.ndarray | None
    encode: Callable[[jax.Array, jax.Array], jax.Array]
    max_length: int
    neighbours: Neighbours | None
    sums: Callable[[jax.Array, jax.Array], ItemSums]

    @property
    def looked_up(self) -> np.ndarray:
        """float32 [item, width], what `encode` is given."""
        return self.item_vectors if self.item_inputs is None else self.item_inputs


def served(trained: TrainedModel) -> Served:
    """Joins the components of a trained model's main view."""
    system, length = trained.system, trained.config.max_length
    weights = used_weights(system.views[system.main])
    all_tables = trained.encoder(*weights).item_tables
    # Behind the catalogue a mesh may have rows of padding, which nobody serves.
    catalogue = trained.dataset.catalogue_size
    tables: dict[str, ItemTables] = {
        name: jax.tree.map(lambda t: t[:catalogue], all_tables[name]._replace(users=None)) for name in weights
    }
    of_neighbours = [name for name in weights if isinstance(tables[name].candidates, Neighbours)]
    vector_weights = {name: weight for name, weight in weights.items() if name not in of_neighbours}
    looks_up = [name for name in weights if name in vector_weights or tables[name].own_inputs is not None]
    own = any(tables[name].own_inputs is not None for name in looks_up)
    # Components that look up the very same arrays share columns.
    arrays = {name: tuple(map(id, jax.tree.leaves(all_tables[name].inputs))) if own else name for name in looks_up}
    first: dict[Any, str] = {}
    holder = {name: first.setdefault(arrays[name], name) for name in looks_up}
    columns = {name: _flattened(tables[name].inputs) for name in first.values()}
    ends = dict(zip(columns, itertools.accumulate(part.shape[1] for part in columns.values()), strict=True))
    spans = {name: slice(ends[of] - columns[of].shape[1], ends[of]) for name, of in holder.items()}

    def encode(looked_up: jax.Array, sessions: jax.Array) -> jax.Array:
        count, held = sessions.shape[0], sessions >= 0
        # The rows of these sessions' items are all of the tables that is needed.
        near = jnp.take(looked_up, jnp.where(held, sessions, 0).reshape(-1), axis=0)
        place = jax.lax.broadcasted_iota(jnp.int32, (count, length), 1)
        first = jax.lax.broadcasted_iota(jnp.int32, (count, length), 0) * length
        # An item has the number of its first place in the session, so that equal items have equal numbers.
        same = (sessions[:, :, None] == sessions[:, None, :]) & held[:, None, :]
        number = first + jnp.where(held, jnp.argmax(same, axis=2).astype(jnp.int32), place)
        items = jnp.sum(held, axis=1, dtype=jnp.int32)
        batch = _batch_of(number, held)
        vectors = [jnp.zeros((count, 0), jnp.float32)]
        for name, weight in vector_weights.items():
            component, rows, inputs = system.components[name], near[:, spans[name]], tables[name].own_inputs
            near_tables = ItemTables(rows) if inputs is None else ItemTables(rows, _unflattened(rows, inputs))
            embeddings = component.network.session_embeddings(trained.params[component.trained], near_tables, batch)
            vectors.append(weight * embeddings.astype(jnp.float32))
        return jnp.where(items[:, None] > 0, jnp.concatenate(vectors, axis=1), 0)

    def sums(looked_up: jax.Array, sessions: jax.Array) -> ItemSums:
        held = sessions >= 0
        batch, items = _batch_of(jnp.where(held, sessions, 0), held), jnp.sum(held, axis=1, dtype=jnp.int32)
        parts = []
        for place, name in enumerate(of_neighbours):
            component, whole = system.components[name], tables[name]
            if name in spans:
                whole = whole._replace(own_inputs=_unflattened(looked_up[:, spans[name]], whole.inputs))
            found = component.network.session_embeddings(trained.params[component.trained], whole, batch)
            some = jnp.where(items[:, None] > 0, weights[name] * found.weights, 0)
            parts.append(ItemSums(found.items + place * catalogue, some))
        summed: ItemSums = jax.tree.map(lambda *part: jnp.concatenate(part, axis=1), *parts)
        return summed

    vectors = [np.zeros((catalogue, 0), np.float32)]
    vectors += [np.asarray(tables[name].candidates, np.float32) for name in vector_weights]
    item_inputs = np.concatenate([np.asarray(part) for part in columns.values()], axis=1) if own else None
    neighbours = _stacked([tables[name].candidates for name in of_neighbours]) if of_neighbours else None
    return Served(np.concatenate(vectors, axis=1), item_inputs, encode, length, neighbours, sums)


def _batch_of(items: jax.Array, held: jax.Array) -> SessionBatch:
    """A session a row, of which only the last item ends a prefix; int32 and bool [session, place]."""
    place = jax.lax.broadcasted_iota(jnp.int32, items.shape, 1)
    length = jnp.sum(held, axis=1, dtype=jnp.int32)
    first = jax.lax.broadcasted_iota(jnp.int32, length.shape, 0) * items.shape[1]
    nothing, nobody = jnp.zeros_like(length), jnp.full_like(place, -1)
    ends = first + jnp.maximum(length - 1, 0)
    return SessionBatch(items, place, jnp.where(held, 0, -1), nothing, length > 0, ends, users=nobody)


def _stacked(parts: list[Neighbours]) -> Neighbours:
    """The rows of several, one after another, all as wide as the widest."""
    width = max(part.items.shape[1] for part in parts)
    wide = [jax.tree.map(lambda p: np.pad(np.asarray(p), ((0, 0), (0, width - p.shape[1]))), part) for part in parts]
    stacked: Neighbours = jax.tree.map(lambda *rows: np.concatenate(rows), *wide)
    return stacked


def _flattened(inputs: Any) -> jax.Array:
    """float32 [item, width]: the leaves of what an encoder looks up, side by side."""
    leaves = jax.tree.leaves(inputs)
    return jnp.concatenate([leaf.reshape(len(leaf), -1).astype(jnp.float32) for leaf in leaves], axis=1)


def _unflattened(rows: jax.Array, like: Any) -> Any:
    """The tree that `_flattened` made rows of."""
    leaves, tree = jax.tree.flatten(like)
    widths = [math.prod(leaf.shape[1:]) for leaf in leaves]
    parts = jnp.split(rows, list(itertools.accumulate(widths))[:-1], axis=1)
    shaped = [part.reshape(-1, *leaf.shape[1:]).astype(leaf.dtype) for part, leaf in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(tree, shaped)


def top_items(
    model: Served, train_counts: np.ndarray, k: int, exclude_session_items: bool
) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """The function from item vectors, item inputs if there are such, sessions and lists of items to the best items.

    Lists are int32 [session, place], numbers of items in any order and `NO_ITEM`, and bool [session], whether only the
    listed items may be found, or all but them (`everything` lists none).

    Behind the item vectors, and inputs if there are such, come the two arrays of neighbours, if the model has some.

    It returns scores and numbers, float32 and int32 [session, k], from high to low; equal scores by ascending item
    number. A session without items is ranked by how often items occur in training. Where too few items are left, scores
    are minus infinity.

    Args:
      model: what scores.
      train_counts: int [item], how often each occurs in training.
      k: how many.
      exclude_session_items: whether to leave out what a session holds: of it, the function sees `max_length` items.

    Raises:
      UserError: there are no k items.
    """
    items = len(model.item_vectors)
    if not 1 <= k <= items:
        raise UserError(f"--k={k} is not between 1 and the number of items, {items}")
    bought = np.asarray(train_counts, np.float32)

    def top(item_vectors: jax.Array, *others_and_requests: jax.Array) -> tuple[jax.Array, jax.Array]:
        *others, sessions, listed, only_listed = others_and_requests
        looked_up = item_vectors if model.item_inputs is None else others[0]
        scores = scores_of(model.encode(looked_up, sessions), item_vectors)
        if model.neighbours is not None:
            scores += scores_of_entries(entries_of(model.sums(looked_up, sessions), Neighbours(*others[-2:])), 0, items)
        scores = jnp.where(jnp.any(sessions >= 0, axis=1, keepdims=True), scores, bought[None, :])
        scores = jnp.where(_marked(listed, items) == only_listed[:, None], scores, -jnp.inf)
        if exclude_session_items:
            scores = jnp.where(_marked(sessions, items), -jnp.inf, scores)
        return top_k(scores, k)

    return top


def _marked(listed: jax.Array, items: int) -> jax.Array:
    """bool [session, item]: which items a list holds, or a session."""
    row = jax.lax.broadcasted_iota(jnp.int32, listed.shape, 0)
    marked = jnp.zeros((listed.shape[0], items), bool)
    return marked.at[row, jnp.where(listed >= 0, listed, items)].set(True, mode="drop")


def everything(sessions: int) -> tuple[np.ndarray, np.ndarray]:
    """The lists that `top_items` takes for some sessions which may get any item."""
    return np.full((sessions, 1), NO_ITEM, np.int32), np.zeros(sessions, bool)


def arrays_of(model: Served, encoder_only: bool = False) -> tuple[np.ndarray, ...]:
    """What an exported program takes before the sessions: the encoder what is looked up, the other program all."""
    if encoder_only:
        return (model.looked_up,)
    inputs = () if model.item_inputs is None else (model.item_inputs,)
    neighbours = () if model.neighbours is None else (model.neighbours.items, model.neighbours.weights)
    return (model.item_vectors, *inputs, *neighbours)


def exported_encoder(model: Served) -> bytes:
    """The function from what is looked up and sessions to their vectors, as `exported_top_items` makes the other."""
    return _exported(model.encode, arrays_of(model, encoder_only=True), *_requests(model)[:1])


def exported_top_items(model: Served, train_counts: np.ndarray, k: int, exclude_session_items: bool) -> bytes:
    """`top_items` as StableHLO, for every platform, any number of sessions and lists of any length from 1 on.

    `jax.export.deserialize` reads it.
    """
    function = top_items(model, train_counts, k, exclude_session_items)
    return _exported(function, arrays_of(model), *_requests(model))


def _requests(model: Served) -> tuple[jax.ShapeDtypeStruct, ...]:
    """The shapes of sessions and of lists."""
    sessions, listed = jax.export.symbolic_shape("sessions, listed")
    return (
        jax.ShapeDtypeStruct((sessions, model.max_length), jnp.int32),
        jax.ShapeDtypeStruct((sessions, listed), jnp.int32),
        jax.ShapeDtypeStruct((sessions,), bool),
    )


def _exported(
    function: Callable[..., object], arrays: tuple[np.ndarray, ...], *requests: jax.ShapeDtypeStruct
) -> bytes:
    known = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays]
    return bytes(jax.export.export(jax.jit(function), platforms=PLATFORMS)(*known, *requests).serialize())


def rows_of(sessions: list[list[int]], max_length: int) -> np.ndarray:
    """int32 [session, max_length], as `Served.encode` takes them: the latest items of each, and `NO_ITEM`."""
    rows = np.full((len(sessions), max_length), NO_ITEM, np.int32)
    for row, session in zip(rows, sessions, strict=True):
        latest = session[-max_length:]
        row[: len(latest)] = latest
    return rows
