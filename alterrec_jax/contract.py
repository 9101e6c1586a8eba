"""What every model is: three pure functions over a parameter tree.

Whatever ranks by a dot product of a session vector with an item vector fits, and scoring, mining, losses,
evaluation and recommendation are written once, for all of them.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

Params = Any
RowArray = Any  # a jax.Array, or a NumPy array that is not on the device yet


class PackedRows(NamedTuple):
    """Several sessions a row, of static shape (`alterrec_jax.data.packing`).

    Attributes:
      items: int32 [row, position], item numbers; 0 where there is none.
      targets: int32 [row, position], the item that follows; 0 where `where` is False.
      positions: int32 [row, position], the place of an item in its session, from 0.
      segments: int32 [row, position], numbers the sessions of a row from 0; -1 where there is no item.
      where: bool [row, position], which positions are prefixes to learn from (or to score).
      source: int32 [row, position], the place of an item among those of all sessions; -1 where there is none. It
        tells prefixes apart, however they are packed. None where nobody asks.
    """

    items: RowArray
    targets: RowArray
    positions: RowArray
    segments: RowArray
    where: RowArray
    source: RowArray = None


class InitFn(Protocol):
    """init(key, features) -> params."""

    def __call__(self, key: jax.Array, features: jax.Array | None) -> Params: ...


class ItemFn(Protocol):
    """item_embeddings(params, features, key=None) -> float32 [item, dim]; a key turns dropout on."""

    def __call__(self, params: Params, features: jax.Array | None, key: jax.Array | None = None) -> jax.Array: ...


class SessionFn(Protocol):
    """session_embeddings(params, table, rows, key=None) -> float32 or bfloat16 [row, position, dim]; causal.

    Position j is the embedding of the prefix that ends there. `table` is the item table of the same parameters,
    made once and used for inputs and candidates alike.
    """

    def __call__(
        self, params: Params, table: jax.Array, rows: PackedRows, key: jax.Array | None = None
    ) -> jax.Array: ...


class Network(NamedTuple):
    """A model. `features` are what it knows of the items and does not learn (text vectors), or None.

    `session_embeddings` are divided by the temperature: scores are plain dot products, as exact as these are. Of its
    `items`, each has a row in the tables; rows behind them are padding.
    """

    init: InitFn
    item_embeddings: ItemFn
    session_embeddings: SessionFn
    items: int


def item_table(network: Network, params: Params, features: jax.Array | None) -> jax.Array:
    """float [item, dim] without dropout, made once for many uses. A parameter that is the table as it stands, as X
    without a norm, is handed on; a compiled function would copy it."""
    embed = network.item_embeddings if features is None else jax.jit(network.item_embeddings)
    return embed(params, features)


def same_segment(rows: PackedRows) -> jax.Array:
    """bool [row, query position, key position]: both are items of one session, the key not after the query."""
    length = rows.segments.shape[1]
    together = rows.segments[:, :, None] == rows.segments[:, None, :]
    causal = jnp.tril(jnp.ones((length, length), dtype=bool))
    return together & (rows.segments >= 0)[:, :, None] & causal[None]
