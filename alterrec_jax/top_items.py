"""The best items of a catalogue for some sessions, gathered block by block, so that no whole row of scores is held."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.blocks import stretch

NOTHING = np.iinfo(np.int32).max  # no item has this number


class Sought(NamedTuple):
    """What is known of the sessions.

    Attributes:
      seen: int32 [session, place], items to leave out; `NOTHING` where there is none.
      known: bool [session, 1], whether the main view knows something of the session; else it is scored by `counts`.
      counts: float32 [item], padded to whole blocks: how often each item of the catalogue was bought in training.
      new_scores: float32 [session, new item], the text scores of items beyond the catalogue; minus infinity where a
        session has seen one, or where the text part knows nothing of the session.
    """

    seen: jax.Array
    known: jax.Array
    counts: jax.Array
    new_scores: jax.Array


class Best(NamedTuple):
    """What was found so far.

    Attributes:
      scores: float32 [session, k], from high to low; minus infinity where there is nothing.
      items: int32 [session, k].
      ranks: int32 [session, new item], how many items score above each new one by text.
    """

    scores: jax.Array
    items: jax.Array
    ranks: jax.Array

    @classmethod
    def nothing(cls, sessions: int, k: int, new: int) -> "Best":
        """Before the first block."""
        shape = (sessions, k)
        return cls(jnp.full(shape, -jnp.inf), jnp.zeros(shape, jnp.int32), jnp.zeros((sessions, new), jnp.int32))


@functools.partial(jax.jit, static_argnames="catalogue")
def with_block(
    best: Best, main: jax.Array, text: jax.Array, start: jax.Array | int, sought: Sought, *, catalogue: int
) -> Best:
    """The best of what was found so far and of one more block of items; of equal scores, the lower items come first.

    Args:
      best: of the blocks before.
      main, text: float32 [session, item], the scores of a block by the main view and by the text part; the text ones
        are read only if there are new items.
      start: the first item of the block.
      sought: what is known of the sessions.
      catalogue: how many items can be recommended; what lies behind them is padding.
    """
    block = main.shape[1]
    items = jnp.broadcast_to(start + jnp.arange(block, dtype=jnp.int32), main.shape)
    here = (sought.seen >= start) & (sought.seen < start + block)
    place = jnp.where(here, sought.seen - start, block)  # beyond the block, so dropped
    wanted = (items < catalogue).at[jnp.arange(len(main))[:, None], place].set(False, mode="drop")
    scores = jnp.where(sought.known, main, stretch(sought.counts, start, block)[None, :])
    scores = jnp.concatenate([best.scores, jnp.where(wanted, scores, -jnp.inf)], axis=1)
    # Without the barrier XLA may fall back to sorting whole rows.
    found, place = jax.lax.optimization_barrier(jax.lax.top_k(scores, best.scores.shape[1]))
    found_items = jnp.take_along_axis(jnp.concatenate([best.items, items], axis=1), place, axis=1)
    ranks = best.ranks
    if ranks.shape[1]:
        by_text = jnp.sort(jnp.where(wanted, text, -jnp.inf), axis=1)
        reached = jax.vmap(lambda row, values: jnp.searchsorted(row, values, side="right"))(by_text, sought.new_scores)
        ranks = ranks + block - reached
    return Best(found, found_items, ranks)


@jax.jit
def without(scores: jax.Array, seen: jax.Array) -> jax.Array:
    """The scores [session, item], minus infinity where an item was seen."""
    return scores.at[jnp.arange(len(seen))[:, None], seen].set(-jnp.inf, mode="drop")


def block_of(table: jax.Array, start: int, block: int) -> jax.Array:
    """Rows start .. start+block-1 of a table [item, dim]; the table as it stands if that is all of it."""
    return table if block == len(table) else _stretch(table, start, size=block)


_stretch = jax.jit(stretch, static_argnames="size")
