"""Neighbours: a session's scores are the sum of its items' rows of an item-item matrix, fitted in closed form.

Two matrices B [known item, candidate], each the solution of a ridge regression on training sessions:

* `together` (EASE; Steck, 2019, eq. 8): X [session, item] is 1 where a session holds an item. With
  P = (X'X + ridge I)^-1, B = I - P diag(P)^-1, so that no item predicts itself.
* `following` (SLIT, the transitions of SLIST; Choi et al., 2021): S [prefix, item] holds decay^age of the items of a
  prefix, T [prefix, item] decay^distance of those that follow it. B = (S'S + ridge I)^-1 S'T.

Recommending, an item of the session counts decay^age, the latest one 1; an item that stands in it twice counts once.

Departures from the papers: of each row the `neighbours` entries of largest magnitude are kept. Beyond `dense_items`
items the inverse is not made: each column is solved on its own, among the items that it occurs with most (as in
Steck's sparse Markov random fields, 2019). SLIST's sum of both matrices is left to the fusion.
"""

import dataclasses
import functools
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.config import RunConfig, setting
from alterrec_jax.contract import (
    CatalogueInfo,
    Context,
    ItemSums,
    ItemTables,
    Neighbours,
    Network,
    Params,
    SessionBatch,
    at_prefixes,
)
from alterrec_jax.data.dataset import Dataset, Sessions
from alterrec_jax.data.targets import Targets, histories
from alterrec_jax.models.closed_form import Ridge, reach, solve
from alterrec_jax.models.counting import CountedConfig, Rows
from alterrec_jax.models.registry import COUNTED, register
from alterrec_jax.sharding import mesh

TOGETHER, FOLLOWING = "together", "following"
_DECAYS = {TOGETHER: 0.7, FOLLOWING: 0.5}  # on validation of Amazon Beauty and Online Retail


@dataclasses.dataclass(frozen=True)
class NeighbourSettings:
    """The matrix, and how a session sums it."""

    relation: str = setting(
        TOGETHER,
        "what makes items neighbours: standing together in a session (EASE), or following one another (SLIT)",
        choices=(TOGETHER, FOLLOWING),
    )
    decay: float = setting(
        0.0,
        "weight of an item by its age in the session: decay^age, the latest 1; 0 chooses: 1 where the order within "
        "sessions is random, else 0.7 for together and 0.5 for following",
        low=0,
        high=1,
    )
    ridge: float = setting(100.0, "strength of the ridge, in sessions", above=0)
    neighbours: int = setting(512, "entries of a row that are kept, those of largest magnitude", low=1)
    dense_items: int = setting(
        30_000, "catalogues up to so many items are solved at once, by a dense inverse of float32", low=0
    )
    support: int = setting(128, "items among which a column is solved in a larger catalogue", low=1)

    def reach(self, longest: int) -> int:
        """How many items of a session are summed, the latest; the others would weigh next to nothing."""
        return min(longest, reach(self.decay))

    def with_decay(self, ordered: bool) -> Self:
        """The same with a decay chosen, given whether the order within sessions is real."""
        if self.decay:
            return self
        chosen = _DECAYS[self.relation] if ordered else 1.0
        return dataclasses.replace(self, decay=chosen)

    def fitted(self, train: Sessions, items: int) -> Neighbours:
        """The matrix of NumPy arrays, from training sessions alone; a decay must have been chosen."""
        ridge = Ridge(self.ridge, min(self.neighbours, items), self.dense_items, min(self.support, items))
        return solve(train, items, ridge, self.decay if self.relation == FOLLOWING else None)


@dataclasses.dataclass(frozen=True)
class NeighbourConfig(NeighbourSettings):
    """A component that is fitted when a run begins, and never trained."""

    kind: str = setting("neighbours", "what it is: sums of rows of an item-item matrix", choices=("neighbours",))
    weight: float = setting(1.0, "share of its score in the fusion; shares are divided by their sum", low=0)


def build_neighbours(config: NeighbourSettings, catalogue: CatalogueInfo, max_length: int) -> Network:
    """The component as a network whose parameters are the matrix; of a session it sees `max_length` items."""
    config, items = config.with_decay(catalogue.ordered), catalogue.items
    width = min(config.neighbours, items)

    def init(key: jax.Array, context: Context) -> Params:
        del key, context
        shape = (mesh.padded(items, mesh.MODEL), width)
        return {"items": jnp.zeros(shape, jnp.int32), "weights": jnp.zeros(shape, jnp.float32)}

    def fit(train: Sessions) -> Params:
        found = config.fitted(train, items)
        return {"items": found.items, "weights": found.weights}

    def item_tables(params: Params, context: Context, key: jax.Array | None = None) -> ItemTables:
        del context, key
        return ItemTables(Neighbours(params["items"], params["weights"]))

    def session_embeddings(
        params: Params, tables: ItemTables, batch: SessionBatch, key: jax.Array | None = None
    ) -> ItemSums:
        del params, tables, key
        return latest_items(batch, config.decay, config.reach(max_length))

    return Network(init, item_tables, session_embeddings, items, dim=0, per_item=("items", "weights"), fit=fit)


def latest_items(batch: SessionBatch, decay: float, latest: int) -> ItemSums:
    """The latest items of each prefix, an item that it holds twice once, and their weights decay^age."""
    items, segments = jnp.asarray(batch.items), jnp.asarray(batch.segments)
    rows, length = items.shape
    latest = min(latest, length)
    age = jnp.arange(latest, dtype=jnp.int32)
    place = jnp.arange(length, dtype=jnp.int32)[:, None] - age[None]  # [position, age]
    before = jnp.maximum(place, 0)
    seen = items[:, before]  # [row, position, age]
    held = (place >= 0)[None] & (segments[:, before] == segments[:, :, None]) & (segments >= 0)[:, :, None]
    later = (age[None, :] < age[:, None])[None, None]
    again = jnp.any((seen[..., None] == seen[..., None, :]) & held[..., None, :] & later, axis=-1)
    weights = jnp.where(held & ~again, (jnp.float32(decay) ** age)[None, None], 0)
    sums = ItemSums(jnp.where(held, seen, 0).reshape(rows * length, latest), weights.reshape(rows * length, latest))
    return sums if batch.ends is None else jax.tree.map(functools.partial(_at_ends, batch), sums)


def _at_ends(batch: SessionBatch, of_positions: jax.Array) -> jax.Array:
    return at_prefixes(of_positions.reshape(*jnp.shape(batch.items), -1), batch)


@register("neighbours", title="Neighbours in closed form", paper="Steck, 2019 (EASE); Choi et al., 2021", kind=COUNTED)
@dataclasses.dataclass(frozen=True)
class NeighbourRankingConfig(CountedConfig, NeighbourSettings):
    """The component alone, which needs no training run."""

    def rows(self, dataset: Dataset, sessions: Sessions, targets: Targets) -> Rows:
        """As `CountedConfig.rows`."""
        config, items = self.with_decay(dataset.ordered), dataset.catalogue_size
        matrix = config.fitted(dataset.splits["train"], items)

        def rows(start: int, stop: int) -> np.ndarray:
            ids, where = histories(sessions, targets[start:stop])
            scores = np.zeros((stop - start, items), np.float32)
            for row, (session, held) in enumerate(zip(ids, where, strict=True)):
                known = session[held & (session < items)][-config.reach(RunConfig.max_length) :][::-1]
                _, first = np.unique(known, return_index=True)
                for age in np.sort(first):
                    item = known[age]
                    scores[row, matrix.items[item]] += np.float32(config.decay**age) * matrix.weights[item]
            return scores

        return rows
