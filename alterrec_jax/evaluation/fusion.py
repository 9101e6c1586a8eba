"""Fusion weights that are fitted by the ranking metric itself.

Weights of the highest softmax likelihood may rank worse than the best component alone, for a likelihood also rewards
what happens far below the first places. So weights are searched for one component at a time, from the best single
component on, and changed only where the metric rises: on the targets of the fit, a fitted view is never worse than
its best component.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.data.dataset import Sessions
from alterrec_jax.data.targets import Targets
from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.batching import default_batch_size, rebatch
from alterrec_jax.evaluation.metrics import metric_values
from alterrec_jax.evaluation.rank_counts import weighed
from alterrec_jax.evaluation.ranking import component_scores, excluded_items, on_mesh
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.item_shards import LANE, ItemShards

_ROUNDS = 3
_NEW = tuple(2.0**power for power in range(-7, 4))  # weights that a component without one is tried with
_FACTORS = (0.0, *(2.0**power for power in (-1, -0.5, -0.25, 0.25, 0.5, 1)))  # what one that has a weight is changed by
_NO_SPREAD = 1e-6  # scores that spread by less of their size differ by rounding alone
_NO_CANDIDATE = -1e30  # the score of what is none: finite, so that a weight of 0 leaves it out


def fit_fusion(
    query_batches: Iterable[Mapping[str, Any]],
    tables: Mapping[str, Any],
    components: Sequence[str],
    targets: Targets,
    *,
    catalogue: int,
    exclude: Sessions | None = None,
    metric: str,
    batch_size: int | None = None,
    held_bytes: int = 2**30,
) -> dict[str, float]:
    """Weights of some components, with which the metric's mean over the targets is at least that of the best one alone.

    A component without a weight is tried with eleven, from 1/128 to 8 times what would make its scores spread as far as
    those of the best component; one that has a weight, with half to twice of it, and without. Three rounds at most; a
    change stays only if the metric rises. A component that ranks nothing gets 0.

    Args:
      query_batches, tables, exclude: as of `ranking.rank_targets`.
      components: what is weighed, by name.
      targets: items of the catalogue that are candidates, one at least.
      catalogue: how many items can be recommended.
      metric: one of `metrics.metric_values`, at any cut-off.
      batch_size: targets scored at a time; None chooses by the catalogue's size.
      held_bytes: of scores that a device holds; more are made anew for each component that is tried.

    Returns:
      of each component the weight of its scores, at least 0; they add up to 1.

    Raises:
      UserError: a score is not finite.
    """
    if len(components) == 1:
        return {components[0]: 1.0}
    scored = _Scored(query_batches, tables, components, targets, catalogue, exclude, batch_size, held_bytes)
    of_spread = np.array([1 / spread if spread else 0.0 for spread in scored.spreads])
    if not of_spread.any():
        return dict.fromkeys(components, 1 / len(components))

    def weights(multiples: np.ndarray) -> np.ndarray:
        return multiples * of_spread / np.sum(multiples * of_spread)

    def best_of(tried: Sequence[np.ndarray]) -> tuple[float, np.ndarray]:
        """The first of the best."""
        values = scored.quality([weights(multiples) for multiples in tried], metric)
        place = int(np.argmax(values))
        return values[place], tried[place]

    alone = np.eye(len(components))[of_spread > 0]
    highest, chosen = best_of(list(alone))
    for _ in range(_ROUNDS):
        before = highest
        for place in np.flatnonzero(of_spread).tolist():
            tried = _changed(chosen, place)
            value, changed = best_of(tried) if tried else (highest, chosen)
            if value > highest:
                highest, chosen = value, changed
        if highest == before:
            break
    return dict(zip(components, weights(chosen).tolist(), strict=True))


def _changed(multiples: np.ndarray, place: int) -> list[np.ndarray]:
    """The weights, that of one component changed in every way that is tried."""
    own = multiples[place]
    if own and np.count_nonzero(multiples) == 1:
        return []  # alone, it ranks the same whatever its weight
    changed = np.repeat(multiples[None], len(_FACTORS) if own else len(_NEW), axis=0)
    changed[:, place] = own * np.array(_FACTORS) if own else _NEW
    return list(changed)


class _Batch(NamedTuple):
    """Some targets: how many rows are real, the components' queries, and the rest as of `rank_counts.count_ranks`."""

    rows: int
    queries: Mapping[str, Any]
    item: jax.Array
    excluded: jax.Array
    where: jax.Array


class _Scored:
    """The targets, and what each component scores their candidates.

    Attributes:
      spreads: of each component, how far its scores of a target spread, as a standard deviation; 0 where all tie.
    """

    def __init__(
        self,
        query_batches: Iterable[Mapping[str, Any]],
        tables: Mapping[str, Any],
        components: Sequence[str],
        targets: Targets,
        catalogue: int,
        exclude: Sessions | None,
        batch_size: int | None,
        held_bytes: int,
    ):
        self._names, self._catalogue = tuple(components), catalogue
        self._tables = {name: on_mesh(tables[name]) for name in components}
        size = mesh.padded(batch_size or default_batch_size(catalogue), mesh.DATA)
        scores = len(targets) * ItemShards.of(catalogue).columns * len(components)
        held = scores * 4 <= held_bytes * mesh.devices()
        self._batches: list[tuple[_Batch, Mapping[str, jax.Array] | None]] = []
        of_rows: list[np.ndarray] = []
        start = 0
        for count, queries in rebatch(query_batches, components, size):
            part = targets[start : start + count]
            item = np.pad(part.item, (0, size - count))
            batch = _Batch(count, *mesh.put((queries, item, *excluded_items(exclude, part, size)), mesh.BATCH))
            made, moments = self._make(batch)
            of_rows.append(np.stack([moments[name] for name in components], axis=1)[..., :count])
            self._batches.append((batch, made if held else None))
            start += count
        variance, square = np.concatenate(of_rows, axis=2).astype(np.float64).mean(axis=2)
        if (bad := ~np.isfinite(variance + square)).any():
            raise UserError(
                f"the scores of '{self._names[int(np.argmax(bad))]}' are not all finite (NaN or infinity); the model "
                "has diverged: train with a lower learning rate"
            )
        self.spreads = np.where(variance > _NO_SPREAD**2 * square, np.sqrt(variance), 0.0)

    def quality(self, tried: Sequence[np.ndarray], metric: str) -> list[float]:
        """The mean of the metric under each of some weights, float64 [component]."""
        name, _, k = metric.partition("@")
        above: list[list[np.ndarray]] = [[] for _ in tried]
        equal: list[list[np.ndarray]] = [[] for _ in tried]
        for batch, held in self._batches:
            scores = held if held is not None else self._make(batch)[0]
            for place, weights in enumerate(tried):
                of_view = dict(zip(self._names, weights.tolist(), strict=True))
                found = _places(_weighed(scores, of_view), batch.item, catalogue=self._catalogue)
                above_part, equal_part = np.asarray(found)[:, : batch.rows]
                above[place].append(above_part)
                equal[place].append(equal_part)
        counts = zip(map(np.concatenate, above), map(np.concatenate, equal), strict=True)
        return [float(metric_values(*of_view, ks=(int(k),))[f"{name}@{k}"].mean()) for of_view in counts]

    def _make(self, batch: _Batch) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        """As of `_of_candidates`."""
        shards = ItemShards.of(self._catalogue, 1)
        scores = {name: component_scores(batch.queries[name], self._tables[name], shards) for name in self._names}
        return _of_candidates(scores, batch.excluded, batch.where, catalogue=self._catalogue)


@functools.partial(jax.jit, static_argnames="catalogue")
def _of_candidates(
    scores: dict[str, jax.Array], excluded: jax.Array, where: jax.Array, *, catalogue: int
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """The scores of candidates, and how they spread, by component.

    Args:
      scores: by component, float32 [batch, item].
      excluded, where, catalogue: as of `rank_counts.count_ranks`.

    Returns:
      scores: float32 [batch, column], columns of each device a multiple of LANE; very low where no candidate is.
      moments: float32 [2, batch], the variance and the mean square over the catalogue.
    """
    shards = ItemShards.of(catalogue, 1)

    def of_device(
        scores: dict[str, jax.Array], excluded: jax.Array, where: jax.Array
    ) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        there = shards.is_item(0, shards.columns_per_device, catalogue)[None]
        here, column = shards.local_columns(excluded)
        highest = jnp.where(here & where & (excluded < catalogue), _NO_CANDIDATE, jnp.inf)
        row = jnp.arange(len(excluded))[:, None]
        padding = ((0, 0), (0, -shards.columns_per_device % LANE))

        def mean(values: jax.Array) -> jax.Array:
            return mesh.psum(jnp.sum(jnp.where(there, values, 0), axis=1), mesh.MODEL) / catalogue

        candidates, moments = {}, {}
        for name, of_name in scores.items():
            both = jnp.stack([mean((of_name - mean(of_name)[:, None]) ** 2), mean(of_name**2)])
            moments[name] = mesh.all_gather(both, mesh.DATA, 1)
            of_name = jnp.where(there, of_name, _NO_CANDIDATE).at[row, column].min(highest)
            candidates[name] = jnp.pad(of_name, padding, constant_values=_NO_CANDIDATE)
        return candidates, moments

    specs = (mesh.BATCH_AND_ITEMS, mesh.BATCH, mesh.BATCH)
    found: tuple[dict[str, jax.Array], dict[str, jax.Array]] = mesh.shard_map(
        of_device, specs, (mesh.BATCH_AND_ITEMS, mesh.REPLICATED)
    )(scores, excluded, where)
    return found


@jax.jit
def _weighed(scores: Mapping[str, jax.Array], weights: Mapping[str, jax.Array | float]) -> jax.Array:
    """`weighed`, as a program of its own: what is compared with a target's score has been rounded as that score was."""
    return weighed(scores, weights)


@functools.partial(jax.jit, static_argnames="catalogue")
def _places(total: jax.Array, item: jax.Array, *, catalogue: int) -> jax.Array:
    """int32 [2, batch]: how many candidates score above each target, and how many as it does, itself included.

    Args:
      total: the weighted sum of scores that `_of_candidates` returns.
      item: int32 [batch], the targets.
      catalogue: how many items can be recommended.
    """
    shards = ItemShards.of(catalogue, 1)

    def of_device(total: jax.Array, item: jax.Array) -> jax.Array:
        inside, column = shards.local_columns(item)
        target = jnp.take_along_axis(total, column[:, None], axis=1)
        target = mesh.psum(jnp.where(inside[:, None], target, 0), mesh.MODEL)
        kind = jnp.where(total > target, 1, 0) + jnp.where(total == target, 1 << 16, 0)
        # The barrier: memory is read once.
        counts = jax.lax.optimization_barrier(jnp.sum(kind.reshape(len(total), -1, LANE), axis=2, dtype=jnp.int32))
        found = jnp.stack([jnp.sum(counts & (1 << 16) - 1, axis=1), jnp.sum(counts >> 16, axis=1)])
        return mesh.all_gather(mesh.psum(found, mesh.MODEL), mesh.DATA, 1)

    places: jax.Array = mesh.shard_map(of_device, (mesh.BATCH_AND_ITEMS, mesh.BATCH), mesh.REPLICATED)(total, item)
    return places
