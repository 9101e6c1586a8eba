"""A trained model as what a shop's servers take: one matrix of item vectors, and two programs that need none of this.

A view is a weighted sum of dot products. The parts' item tables side by side are one matrix [item, dim], and a
session's embeddings, each times its part's weight, one vector [dim], whose dot products with the rows are the view's
scores. Whatever searches by dot product can then serve the model, be it one network or several.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.contract import PackedRows
from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.ranking import used_weights
from alterrec_jax.numerics import scores_of
from alterrec_jax.scoring.top_k import top_k
from alterrec_jax.serving.trained_model import TrainedModel

PLATFORMS = ("cpu", "cuda", "tpu")
"""What one exported program runs on."""

NO_ITEM = -1
"""Fills up a session that is shorter than the model's max_length."""


class Served(NamedTuple):
    """A model by its main view.

    Attributes:
      item_vectors: float32 [item, dim].
      encode: given item_vectors and int32 [session, max_length], the items of each session in their order and then
        `NO_ITEM`: float32 [session, dim]. A session without items gets zeros.
      max_length: the latest items of a session that the model sees.
    """

    item_vectors: np.ndarray
    encode: Callable[[jax.Array, jax.Array], jax.Array]
    max_length: int


def served(trained: TrainedModel) -> Served:
    """Joins the parts of a trained model's main view."""
    system, length = trained.system, trained.config.max_length
    weights = used_weights(system.views[system.main])
    tables = trained.encoder(*weights).tables
    ends = np.cumsum([tables[name].shape[1] for name in weights])

    def encode(item_vectors: jax.Array, sessions: jax.Array) -> jax.Array:
        count, held = sessions.shape[0], sessions >= 0
        # The rows of these sessions' items are all of the tables that is needed.
        near = jnp.take(item_vectors, jnp.where(held, sessions, 0).reshape(-1), axis=0)
        place = jax.lax.broadcasted_iota(jnp.int32, (count, length), 1)
        number = jax.lax.broadcasted_iota(jnp.int32, (count, length), 0) * length + place
        rows = PackedRows(number, jnp.zeros_like(number), place, jnp.where(held, 0, -1), held)
        items = jnp.sum(held, axis=1, dtype=jnp.int32)
        vectors = []
        for (name, weight), end in zip(weights.items(), ends, strict=True):
            part, table = system.parts[name], near[:, end - tables[name].shape[1] : end]
            embeddings = part.network.session_embeddings(trained.params[part.trained], table, rows)
            last = jnp.take_along_axis(embeddings, jnp.maximum(items - 1, 0)[:, None, None], axis=1)[:, 0]
            vectors.append(weight * last.astype(jnp.float32))
        return jnp.where(items[:, None] > 0, jnp.concatenate(vectors, axis=1), 0)

    item_vectors = np.concatenate([np.asarray(tables[name], np.float32) for name in weights], axis=1)
    return Served(item_vectors, encode, length)


def top_items(
    model: Served, train_counts: np.ndarray, k: int, exclude_session_items: bool
) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """The function from item vectors and sessions, as of `Served.encode`, to the scores and numbers of the best items.

    It returns float32 and int32 [session, k], from high to low; equal scores by ascending item number. A session
    without items is ranked by how often items occur in training. Where too few items are left, scores are minus
    infinity.

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

    def top(item_vectors: jax.Array, sessions: jax.Array) -> tuple[jax.Array, jax.Array]:
        scores = scores_of(model.encode(item_vectors, sessions), item_vectors)
        held = sessions >= 0
        scores = jnp.where(jnp.any(held, axis=1, keepdims=True), scores, bought[None, :])
        if exclude_session_items:
            row = jax.lax.broadcasted_iota(jnp.int32, sessions.shape, 0)
            scores = scores.at[row, jnp.where(held, sessions, items)].set(-jnp.inf, mode="drop")
        return top_k(scores, k)

    return top


def exported(function: Callable[..., object], model: Served) -> bytes:
    """A function of item vectors and sessions as StableHLO, for every platform and any number of sessions.

    `jax.export.deserialize` reads it.
    """
    (sessions,) = jax.export.symbolic_shape("sessions")
    arguments = (
        jax.ShapeDtypeStruct(model.item_vectors.shape, jnp.float32),
        jax.ShapeDtypeStruct((sessions, model.max_length), jnp.int32),
    )
    return bytes(jax.export.export(jax.jit(function), platforms=PLATFORMS)(*arguments).serialize())


def rows_of(sessions: list[list[int]], max_length: int) -> np.ndarray:
    """int32 [session, max_length], as `Served.encode` takes them: the latest items of each, and `NO_ITEM`."""
    rows = np.full((len(sessions), max_length), NO_ITEM, np.int32)
    for row, session in zip(rows, sessions, strict=True):
        latest = session[-max_length:]
        row[: len(latest)] = latest
    return rows
