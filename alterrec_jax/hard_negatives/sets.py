"""Sets of negatives: how often each candidate is a negative of each prefix, for any slice of the candidates.

A set is a tree of arrays with one method, so that a loss can ask for it block by block, forwards and backwards. A
prefix's own target is in none of them, but for `OutsideSession`.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from alterrec_jax.hard_negatives.rank_window import RankWindow, in_window
from alterrec_jax.scoring.item_sums import Queries, slice_scores
from alterrec_jax.sharding import mesh

_MOST = 60.0
"""How far ahead of the target an item may be, so that the sum of such counts is finite in float32."""


class Negatives(Protocol):
    """What a loss needs to know of its negatives."""

    def counts(self, start: jax.Array | int, size: int, first: jax.Array | int = 0) -> jax.Array:
        """[prefix, size] bool or float32, how often some candidates are negatives of each prefix.

        They are those that a device holds from `start`, which may be traced, to start+size-1. `first` is the number of
        the first that it holds.
        """

    @property
    def specs(self) -> Any:
        """Where its arrays lie on the mesh: a tree like itself."""


class WindowNegatives(NamedTuple):
    """The rank window of the peer, whose scores are made anew for every slice of the catalogue.

    Attributes:
      queries: float [prefix, dim], the peer's session embeddings, or `Queries`.
      table: float32 [item, dim], its item table.
      window: the borders.
      targets: int32 [prefix].
    """

    queries: jax.Array | Queries
    table: jax.Array
    window: RankWindow
    targets: jax.Array

    def counts(self, start: jax.Array | int, size: int, first: jax.Array | int = 0) -> jax.Array:
        """bool [prefix, size], as `Negatives.counts`."""
        scores = slice_scores(self.queries, self.table, start, size, first)
        return in_window(scores, self.window) & _others(first + start, size, self.targets)

    @property
    def specs(self) -> "WindowNegatives":
        """As `Negatives.specs`."""
        return WindowNegatives._make((mesh.BATCH, mesh.ITEMS, mesh.BATCH, mesh.BATCH))


class PeerWeighted(NamedTuple):
    """The whole catalogue but the target, each item as often as the peer says: exp(its score - the target's score).

    A softmax over own scores with these counts is one over the sum of own and peer's scores: an item that the peer
    ranks above the target weighs more, one that it ranks far below hardly counts. What the peer knows already is not
    learned again.

    Attributes:
      queries: float [prefix, dim], the peer's session embeddings, or `Queries`, times the share that its score has.
      table: float32 [item, dim], its item table.
      target_scores: float32 [prefix], what these give the target.
      targets: int32 [prefix].
    """

    queries: jax.Array | Queries
    table: jax.Array
    target_scores: jax.Array
    targets: jax.Array

    def counts(self, start: jax.Array | int, size: int, first: jax.Array | int = 0) -> jax.Array:
        """float32 [prefix, size], as `Negatives.counts`."""
        ahead = slice_scores(self.queries, self.table, start, size, first) - self.target_scores[:, None]
        return jnp.where(_others(first + start, size, self.targets), jnp.exp(jnp.minimum(ahead, _MOST)), 0)

    @property
    def specs(self) -> "PeerWeighted":
        """As `Negatives.specs`."""
        return PeerWeighted._make((mesh.BATCH, mesh.ITEMS, mesh.BATCH, mesh.BATCH))


class WholeCatalogue(NamedTuple):
    """The whole catalogue but the target: with it, the loss is the cross-entropy of a softmax over all items.

    Attributes:
      targets: int32 [prefix].
    """

    targets: jax.Array

    def counts(self, start: jax.Array | int, size: int, first: jax.Array | int = 0) -> jax.Array:
        """bool [prefix, size], as `Negatives.counts`."""
        return _others(first + start, size, self.targets)

    @property
    def specs(self) -> "WholeCatalogue":
        """As `Negatives.specs`."""
        return WholeCatalogue._make((mesh.BATCH,))


class OutsideSession(NamedTuple):
    """The whole catalogue but what a prefix holds, be it the target or not.

    Attributes:
      items: int32 [prefix, place], what it holds; -1 where there is no item.
    """

    items: jax.Array

    def counts(self, start: jax.Array | int, size: int, first: jax.Array | int = 0) -> jax.Array:
        """bool [prefix, size], as `Negatives.counts`."""
        place = self.items - first - start
        place = jnp.where((self.items >= 0) & (place >= 0) & (place < size), place, size)  # beyond the slice: dropped
        return jax.vmap(lambda held: jnp.ones(size, bool).at[held].set(False, mode="drop"))(place)

    @property
    def specs(self) -> "OutsideSession":
        """As `Negatives.specs`."""
        return OutsideSession._make((mesh.BATCH,))


class CountedNegatives(NamedTuple):
    """Negatives that were drawn for each prefix.

    Attributes:
      counts_per_item: float32 [prefix, item], how often each was drawn.
      targets: int32 [prefix].
    """

    counts_per_item: jax.Array
    targets: jax.Array

    def counts(self, start: jax.Array | int, size: int, first: jax.Array | int = 0) -> jax.Array:
        """float32 [prefix, size], as `Negatives.counts`."""
        drawn = jax.lax.dynamic_slice_in_dim(self.counts_per_item, start, size, axis=1)
        return jnp.where(_others(first + start, size, self.targets), drawn, 0)

    @property
    def specs(self) -> "CountedNegatives":
        """As `Negatives.specs`."""
        return CountedNegatives._make((mesh.BATCH_AND_ITEMS, mesh.BATCH))


class SharedNegatives(NamedTuple):
    """Items that were drawn once for all prefixes of a batch; here these alone are the candidates.

    One more is drawn than wanted. It takes the place of a prefix's own target, or else is left out.

    Attributes:
      items: int32 [wanted + 1], distinct.
      targets: int32 [prefix].
      target_drawn: bool [prefix], whether the target is among the wanted.
    """

    items: jax.Array
    targets: jax.Array
    target_drawn: jax.Array

    @classmethod
    def of(cls, items: jax.Array, targets: jax.Array) -> "SharedNegatives":
        """Compares targets with items."""
        return cls(items, targets, jnp.any(items[None, :-1] == targets[:, None], axis=1))

    def counts(self, start: jax.Array | int, size: int, first: jax.Array | int = 0) -> jax.Array:
        """bool [prefix, size], as `Negatives.counts`; what lies behind the items, the loss leaves out."""
        place = first + start + jnp.arange(size, dtype=jnp.int32)
        drawn = jnp.take(self.items, place, mode="fill", fill_value=-1)
        wanted = (place < len(self.items) - 1)[None, :] | self.target_drawn[:, None]
        return wanted & (drawn[None, :] != self.targets[:, None])

    @property
    def specs(self) -> "SharedNegatives":
        """As `Negatives.specs`."""
        return SharedNegatives._make((mesh.REPLICATED, mesh.BATCH, mesh.BATCH))


def _others(start: jax.Array | int, size: int, targets: jax.Array) -> jax.Array:
    """bool [prefix, size]: which of the items from `start` on are not the prefix's target."""
    return (start + jnp.arange(size, dtype=jnp.int32))[None, :] != targets[:, None]
