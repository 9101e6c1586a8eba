"""Where each target stands in the full ranking of the catalogue, for several views of the same scores at once.

A model hands over named *components*, each a dot product of a query with an item: say `id` and `text`. A *view* is
a weighted sum of components: `{"id": 0.5, "text": 0.5}` is the fused score, `{"id": 1.0}` the ID network alone. Each
component is multiplied out once per batch, however many views weigh it.

What comes out is not a rank but two counts for each target, because items may tie (items that share a text do, in the
text network): how many candidates score above it, and how many score the same. `metrics` turns them into expectations.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.data.dataset import Sessions
from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.batching import default_batch_size, rebatch
from alterrec_jax.evaluation.targets import Targets, histories
from alterrec_jax.products import scores_of_table
from alterrec_jax.progress import progress

View = Mapping[str, float]

MISS = np.iinfo(np.int32).max
"""`above` of a target that cannot be hit: it exceeds every K, for no catalogue has that many items."""

_ITEM_MULTIPLE = 128  # see `padded_table`
_BITS = 10  # hold a count of so many


@dataclasses.dataclass(frozen=True)
class Ranks:
    """Where the targets stand under one view.

    Attributes:
      above: int32 [targets], candidates that score above the target; MISS where the target is no candidate.
      equal: int32 [targets], candidates that score as the target does, itself included; 1 for a miss.
    """

    above: np.ndarray
    equal: np.ndarray

    def __len__(self) -> int:
        return len(self.above)

    def __getitem__(self, rows: np.ndarray) -> "Ranks":
        """Those of some targets: row numbers, or a mask."""
        return Ranks(self.above[rows], self.equal[rows])


@jax.jit(static_argnames="catalogue")
def count_ranks(
    scores: jax.Array, item: jax.Array, excluded: jax.Array, where: jax.Array, *, catalogue: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Counts the candidates above each target and equal to it.

    The target's score is read out of the row that it is compared with, so that equality is exact.

    Args:
      scores: float32 [batch, item], of items a multiple of 128; columns from `catalogue` on are padding.
      item: int32 [batch], the targets.
      excluded: int32 [batch, position], items that are no candidates, each once in a row; may be of width 0.
      where: bool [batch, position], True where `excluded` names an item.
      catalogue: how many items can be recommended.

    Returns:
      above, equal: int32 [batch], as in `Ranks`; a target that is excluded or outside the catalogue is a miss.
      finite: bool [], whether all scores are.
    """
    inside = item < catalogue
    target = jnp.take_along_axis(scores, jnp.where(inside, item, 0)[:, None], axis=1)
    # Memory is read once: three counts of a few items fit into one number, which is taken apart afterwards.
    kind = jnp.where(scores > target, 1, 0) + jnp.where(scores == target, 1 << _BITS, 0)
    kind += jnp.where(jnp.isfinite(scores), 0, 1 << 2 * _BITS)
    kind = jnp.where((jnp.arange(scores.shape[1]) < catalogue)[None], kind, 0)
    counts = jnp.sum(kind.reshape(len(scores), -1, _ITEM_MULTIPLE), axis=2, dtype=jnp.int32)
    counts = jax.lax.optimization_barrier(counts)
    above, equal, strange = (jnp.sum((counts >> _BITS * i) & (1 << _BITS) - 1, axis=1) for i in range(3))
    # Counting all and taking away the few that are excluded spares a mask of the size of the scores.
    where = where & (excluded < catalogue)
    gone = jnp.take_along_axis(scores, jnp.where(where, excluded, 0), axis=1)
    above -= jnp.sum(where & (gone > target), axis=1, dtype=jnp.int32)
    equal -= jnp.sum(where & (gone == target), axis=1, dtype=jnp.int32)
    ranked = inside & ~jnp.any(where & (excluded == item[:, None]), axis=1)
    return jnp.where(ranked, above, MISS), jnp.where(ranked, equal, 1), ~jnp.any(strange)


def padded_table(table: Any) -> jax.Array:
    """A table [item, dim] as float32, with rows of zeros up to a multiple of 128 items.

    In the last few columns of an odd number, some matrix products add up in another order than elsewhere, so that
    two items with equal rows would not tie.
    """
    return jnp.pad(jnp.asarray(table, jnp.float32), ((0, -len(table) % _ITEM_MULTIPLE), (0, 0)))


@jax.jit
def component_scores(queries: jax.Array, table: jax.Array) -> jax.Array:
    """float32 [batch, item], the dot products of queries [batch, dim] with a table [item, dim], in full precision."""
    return scores_of_table(queries, table)


# Weighing and counting are compiled apart. Inside one program the compiler may evaluate the sum twice, once for the
# comparison and once for the target, and round it differently; a target would then not equal itself.
@jax.jit
def weighted_sum(scores: tuple[jax.Array, ...], weights: tuple[float, ...]) -> jax.Array:
    """float32 [batch, item], the sum of the components, each [batch, item], times their weights."""
    return sum((weight * score for score, weight in zip(scores, weights, strict=True)), jnp.zeros((), jnp.float32))


def rank_targets(
    query_batches: Iterable[Mapping[str, Any]],
    tables: Mapping[str, Any],
    views: Mapping[str, View],
    targets: Targets,
    *,
    exclude: Sessions | None = None,
    batch_size: int | None = None,
) -> dict[str, Ranks]:
    """Ranks the targets under every view, from queries and item tables.

    Args:
      query_batches: in the order of `targets`, mappings of component to float32 [b, dim] queries, temperature already
        applied; b may differ from batch to batch, and only one batch is held at a time.
      tables: of each component, float32 [catalogue, dim].
      views: of each view, the weights of its components. A component of weight 0 is left out of the sum.
      targets: what to rank.
      exclude: the sessions that the targets come from, if what a session holds before a target is to be no candidate.
      batch_size: targets scored at a time; None chooses by the catalogue's size. Whole batches have this one
        shape, so nothing is compiled anew on the way.

    Raises:
      UserError: a score is not finite.
      ValueError: tables of different lengths, an unknown component, a view without weights, or not as many
        queries as targets.
    """
    catalogue = _catalogue_size(tables)
    used = {view: used_weights(weights) for view, weights in views.items()}
    needed = sorted({name for weights in used.values() for name in weights})
    if empty := [view for view, weights in used.items() if not weights]:
        raise ValueError(f"the view '{empty[0]}' gives no component a weight")
    if missing := [name for name in needed if name not in tables]:
        raise ValueError(f"a view weighs the component '{missing[0]}', which has no table")
    padded = {name: padded_table(tables[name]) for name in needed}
    size = batch_size or default_batch_size(catalogue)

    def score_batches() -> Iterator[tuple[int, Iterator[tuple[str, jax.Array]]]]:
        for count, queries in rebatch(query_batches, needed, size):
            components = {name: component_scores(queries[name], padded[name]) for name in needed}
            yield count, ((view, view_scores(components, weights)) for view, weights in used.items())

    return _count_all(score_batches(), tuple(views), targets, catalogue, exclude, size)


def rank_rows(
    rows: Callable[[int, int], np.ndarray],
    name: str,
    targets: Targets,
    *,
    catalogue: int,
    exclude: Sessions | None = None,
) -> Ranks:
    """Ranks the targets from rows of scores, by the same counting as `rank_targets`.

    Args:
      rows: given start and stop, the float32 [stop - start, catalogue] scores for `targets[start:stop]`.
      name: names the scores in an error.
      targets, exclude: as in `rank_targets`.
      catalogue: how many items can be recommended.

    Raises:
      UserError: a score is not finite.
    """
    size = default_batch_size(catalogue)

    def score_batches() -> Iterator[tuple[int, Iterator[tuple[str, jax.Array]]]]:
        for start in range(0, len(targets), size):
            stop = min(start + size, len(targets))
            scores = np.zeros((size, catalogue + -catalogue % _ITEM_MULTIPLE), np.float32)
            scores[: stop - start, :catalogue] = rows(start, stop)
            yield stop - start, iter([(name, jnp.asarray(scores))])

    return _count_all(score_batches(), (name,), targets, catalogue, exclude, size)[name]


def _catalogue_size(tables: Mapping[str, Any]) -> int:
    sizes = {len(table) for table in tables.values()}
    if len(sizes) != 1:
        raise ValueError(f"tables of the components differ in length: { {n: len(t) for n, t in tables.items()} }")
    return sizes.pop()


def used_weights(view: View) -> dict[str, float]:
    """The components of a view that count: one of weight 0 is not even looked at."""
    return {name: weight for name, weight in view.items() if weight}


def view_scores(components: Mapping[str, jax.Array], weights: View) -> jax.Array:
    """float32 [batch, item], the scores of a view from those of its components; all `weights` are `used_weights`."""
    if len(weights) == 1 and set(weights.values()) == {1.0}:
        return components[next(iter(weights))]
    return weighted_sum(tuple(components[name] for name in weights), tuple(float(w) for w in weights.values()))


def _count_all(
    score_batches: Iterable[tuple[int, Iterator[tuple[str, jax.Array]]]],
    views: tuple[str, ...],
    targets: Targets,
    catalogue: int,
    exclude: Sessions | None,
    size: int,
) -> dict[str, Ranks]:
    """Counts batch by batch; `score_batches` yields a batch's real rows and, view by view, its scores."""
    above = {view: np.zeros(len(targets), np.int32) for view in views}
    equal = {view: np.zeros(len(targets), np.int32) for view in views}
    start = 0
    steps = -(-len(targets) // size)
    for count, scores_of_views in progress(score_batches, "ranking", total=steps, unit="batch"):
        stop = start + count
        if stop > len(targets):
            raise ValueError(f"more queries than the {len(targets)} targets")
        part = targets[start:stop]
        item = jnp.asarray(np.pad(part.item, (0, size - count)))
        excluded, where = _excluded(exclude, part, size)
        for view, scores in scores_of_views:
            counts = count_ranks(scores, item, excluded, where, catalogue=catalogue)
            above_part, equal_part, finite = jax.device_get(counts)
            if not finite:
                raise UserError(
                    f"the scores of '{view}' are not all finite (NaN or infinity) for targets {start} to {stop - 1}; "
                    "the model has diverged: train with a lower learning rate"
                )
            above[view][start:stop], equal[view][start:stop] = above_part[:count], equal_part[:count]
        start = stop
    if start != len(targets):
        raise ValueError(f"{start} queries for {len(targets)} targets")
    return {view: Ranks(above[view], equal[view]) for view in views}


def _excluded(exclude: Sessions | None, part: Targets, size: int) -> tuple[jax.Array, jax.Array]:
    """The distinct items of each history, padded to `size` rows, and to a power of two in width: few shapes occur."""
    if exclude is None:
        return jnp.zeros((size, 0), jnp.int32), jnp.zeros((size, 0), bool)
    longest = int(part.position.max(initial=1))
    ids, _ = histories(exclude, part, width=1 << (longest - 1).bit_length())
    ids = np.sort(ids, axis=1)  # item numbers are not negative, so what is missing, -1, goes first
    where = ids >= 0
    where[:, 1:] &= ids[:, 1:] != ids[:, :-1]
    rows = ((0, size - len(part)), (0, 0))
    return jnp.asarray(np.pad(ids, rows)), jnp.asarray(np.pad(where, rows))
