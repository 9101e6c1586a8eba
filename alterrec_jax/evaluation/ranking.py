"""Where each target stands in the full ranking of the catalogue, for several views of the same scores at once.

A model hands over named *components*, each a dot product of a query with an item: say `id` and `text`, or a sum of rows
of an item-item matrix (`contract.Neighbours`). A *view* is
a weighted sum of components: `{"id": 0.5, "text": 0.5}` is the fused score, `{"id": 1.0}` the ID network alone. Each
component is multiplied out once per batch, however many views weigh it.

What comes out is not a rank but two counts for each target, because items may tie (items that share a text do, in the
text network): how many candidates score above it, and how many score the same. `metrics` turns them into expectations.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.contract import ItemSums, Neighbours, View
from alterrec_jax.data.dataset import Sessions
from alterrec_jax.data.targets import Targets, histories
from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.batching import default_batch_size, rebatch
from alterrec_jax.evaluation.best_items import Best, best_in_blocks, best_of_rows
from alterrec_jax.evaluation.rank_counts import (
    Counts,
    RankingLimits,
    count_in_blocks,
    count_ranks,
    first_duplicate,
    weighed,
)
from alterrec_jax.evaluation.recommended import Recommended
from alterrec_jax.numerics import scores_of_table
from alterrec_jax.runtime.console import progress
from alterrec_jax.scoring.item_sums import Entries, entries_of, scores_of_entries
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.digests import column_digests, row_digests
from alterrec_jax.sharding.item_shards import ItemShards, padded_table

_TARGETS_AT_ONCE = 256  # there


class ScoredBatch(NamedTuple):
    """A batch of queries that can be ranked.

    Attributes:
      counts: given item, excluded and where, as of `rank_counts.count_ranks`: the counts under each view.
      best: given the name of a view, excluded, where, and k: the best items under it.
    """

    counts: Callable[[jax.Array, jax.Array, jax.Array], Iterable[tuple[str, Counts]]]
    best: Callable[[str, jax.Array, jax.Array, int], Best]


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


@functools.partial(jax.jit, static_argnames=("shards", "block"))
def component_scores(
    queries: Any, table: Any, shards: ItemShards, start: jax.Array | int = 0, block: int | None = None
) -> jax.Array:
    """float32 [batch, column], the scores of a component, in full precision.

    Args:
      queries: float [batch, dim]; or `ItemSums`, or the `Entries` that were looked up for them.
      table: float32 [column, dim], by `shards`; or `Neighbours`.
      shards: which column is which item's.
      start, block: the first column on every device, and how many there are, where a table of vectors is such a block.
    """
    if isinstance(table, Neighbours):
        entries = entries_of(queries, table) if isinstance(queries, ItemSums) else queries
        size = shards.columns_per_device if block is None else block

        def of_entries(entries: Entries, start: jax.Array | int) -> jax.Array:
            return scores_of_entries(entries, mesh.shard_offset(shards.items_per_device, mesh.MODEL) + start, size)

        specs = (mesh.BATCH, mesh.REPLICATED)
        summed: jax.Array = mesh.shard_map(of_entries, specs, mesh.BATCH_AND_ITEMS)(entries, start)
        return summed
    of_device = mesh.shard_map(scores_of_table, (mesh.BATCH, mesh.ITEMS), mesh.BATCH_AND_ITEMS)
    scores: jax.Array = of_device(queries, table)
    return scores


# Weighing and counting are compiled apart. Inside one program the compiler may evaluate the sum twice, once for the
# comparison and once for the target, and round it differently; a target would then not equal itself.
weighted_sum = jax.jit(weighed)


def rank_targets(
    query_batches: Iterable[Mapping[str, Any]],
    tables: Mapping[str, Any],
    views: Mapping[str, View],
    targets: Targets,
    *,
    catalogue: int | None = None,
    exclude: Sessions | None = None,
    batch_size: int | None = None,
    limits: RankingLimits = RankingLimits(),  # noqa: B008
    recommended: Recommended | None = None,
) -> dict[str, Ranks]:
    """Ranks the targets under every view, from queries and item tables.

    Args:
      query_batches: in the order of `targets`, mappings of component to float32 [b, dim] queries, temperature already
        applied, or to `ItemSums`; b may differ from batch to batch, and only one batch is held at a time.
      tables: of each component, float32 [catalogue, dim], or `Neighbours`; on a mesh, rows of padding behind them.
      views: of each view, the weights of its components. A component of weight 0 is left out of the sum.
      targets: what to rank.
      catalogue: how many items can be recommended; None where the tables hold nothing else.
      exclude: the sessions that the targets come from, if what a session holds before a target is to be no candidate.
      batch_size: targets scored at a time; None chooses by the catalogue's size. Whole batches have this one
        shape, so nothing is compiled anew on the way.
      limits: how many items a device scores at a time.
      recommended: is shown the best items of each target under the views that it names.

    Raises:
      UserError: a score is not finite.
      ValueError: tables of different lengths, an unknown component, a view without weights, or not as many
        queries as targets.
    """
    catalogue = catalogue or _catalogue_size(tables)
    used = {view: used_weights(weights) for view, weights in views.items()}
    needed = sorted({name for weights in used.values() for name in weights})
    if empty := [view for view, weights in used.items() if not weights]:
        raise ValueError(f"the view '{empty[0]}' gives no component a weight")
    if missing := [name for name in needed if name not in tables]:
        raise ValueError(f"a view weighs the component '{missing[0]}', which has no table")
    in_blocks = ItemShards.of(catalogue).items_per_device > limits.whole_rows
    on_devices = {name: on_mesh(tables[name]) for name in needed}
    size = batch_size or (_TARGETS_AT_ONCE if in_blocks else default_batch_size(catalogue))
    size = mesh.padded(size, mesh.DATA)
    scored = _in_blocks(on_devices, used, catalogue, limits) if in_blocks else _in_rows(on_devices, used, catalogue)
    batches = ((count, scored(queries)) for count, queries in rebatch(query_batches, needed, size))
    return _count_all(batches, tuple(views), targets, exclude, size, recommended)


def _in_rows(
    tables: Mapping[str, jax.Array], used: Mapping[str, View], catalogue: int
) -> Callable[[Mapping[str, np.ndarray]], ScoredBatch]:
    """What scores a batch of queries, in whole rows."""
    shards = ItemShards.of(catalogue)
    padded = {name: padded_columns(table, shards) for name, table in tables.items()}

    def scored(queries: Mapping[str, np.ndarray]) -> ScoredBatch:
        queries = mesh.put(dict(queries), mesh.BATCH)
        components = {name: component_scores(queries[name], table, shards) for name, table in padded.items()}

        def count(item: jax.Array, excluded: jax.Array, where: jax.Array) -> Iterator[tuple[str, Counts]]:
            for view, weights in used.items():
                yield view, count_ranks(view_scores(components, weights), item, excluded, where, catalogue=catalogue)

        def best(view: str, excluded: jax.Array, where: jax.Array, k: int) -> Best:
            return best_of_rows(view_scores(components, used[view]), excluded, where, k=k, catalogue=catalogue)

        return ScoredBatch(count, best)

    return scored


def _in_blocks(
    tables: Mapping[str, jax.Array], used: Mapping[str, View], catalogue: int, limits: RankingLimits
) -> Callable[[Mapping[str, np.ndarray]], ScoredBatch]:
    """The same in blocks of items."""
    shards = ItemShards.of(catalogue, limits.block)
    padded = {name: padded_columns(table, shards) for name, table in tables.items()}
    digests = {name: _candidate_digests(table, catalogue) for name, table in tables.items()}
    same = {}
    for view, weights in used.items():
        in_columns = np.full(shards.columns, -1, np.int32)
        in_columns[shards.column(np.arange(catalogue))] = first_duplicate([digests[name] for name in weights])[
            :catalogue
        ]
        same[view] = mesh.put(in_columns, mesh.ITEMS)

    def scored(batch: Mapping[str, np.ndarray]) -> ScoredBatch:
        queries: dict[str, Any] = mesh.put(dict(batch), mesh.BATCH)
        for name, table in padded.items():  # once, and not for every block
            if isinstance(table, Neighbours):
                queries[name] = _entries_of(queries[name], table)

        def count(*batch: jax.Array) -> Iterable[tuple[str, Counts]]:
            return count_in_blocks(queries, padded, used, same, *batch, catalogue=catalogue, limits=limits).items()

        def best(view: str, excluded: jax.Array, where: jax.Array, k: int) -> Best:
            options: dict[str, Any] = {"k": k, "catalogue": catalogue, "limits": limits}
            return best_in_blocks(queries, padded, used[view], excluded, where, **options)

        return ScoredBatch(count, best)

    return scored


def rank_rows(
    rows: Callable[[int, int], np.ndarray],
    name: str,
    targets: Targets,
    *,
    catalogue: int,
    exclude: Sessions | None = None,
    recommended: Recommended | None = None,
) -> Ranks:
    """Ranks the targets from rows of scores, by the same counting as `rank_targets`.

    Args:
      rows: given start and stop, the float32 [stop - start, catalogue] scores for `targets[start:stop]`.
      name: names the scores in an error.
      targets, exclude: as in `rank_targets`.
      catalogue: how many items can be recommended.
      recommended: is shown the best items of each target, if it knows the name.

    Raises:
      UserError: a score is not finite.
    """
    size, shards = mesh.padded(default_batch_size(catalogue), mesh.DATA), ItemShards.of(catalogue)
    column = shards.column(np.arange(catalogue))

    def batches() -> Iterator[tuple[int, ScoredBatch]]:
        for start in range(0, len(targets), size):
            stop = min(start + size, len(targets))
            scores = np.zeros((size, shards.columns), np.float32)
            scores[: stop - start, column] = rows(start, stop)
            yield stop - start, _of_rows(mesh.put(scores, mesh.BATCH_AND_ITEMS), name, catalogue)

    return _count_all(batches(), (name,), targets, exclude, size, recommended)[name]


def _of_rows(scores: jax.Array, name: str, catalogue: int) -> ScoredBatch:
    """A batch whose scores are there, under one view."""

    def count(*batch: jax.Array) -> Iterable[tuple[str, Counts]]:
        return [(name, count_ranks(scores, *batch, catalogue=catalogue))]

    def best(view: str, excluded: jax.Array, where: jax.Array, k: int) -> Best:
        del view
        return best_of_rows(scores, excluded, where, k=k, catalogue=catalogue)

    return ScoredBatch(count, best)


_entries_of = jax.jit(entries_of)


def padded_columns(table: Any, shards: ItemShards) -> Any:
    """A table of vectors with rows in the columns of no item; `Neighbours`, whose rows are looked up, as they are."""
    return table if isinstance(table, Neighbours) else padded_table(table, shards)


def _candidate_digests(table: Any, catalogue: int) -> np.ndarray:
    """Digests of what decides the scores of each candidate: the rows of vectors, the columns of `Neighbours`."""
    if isinstance(table, Neighbours):
        gathered = mesh.replicated(table)
        return column_digests(np.asarray(gathered.items), np.asarray(gathered.weights), catalogue)
    return row_digests(table)


def on_mesh(table: Any) -> Any:
    """A table [item, dim] as float32 on the devices, the same if it is there already; `Neighbours` likewise."""
    if isinstance(table, Neighbours):
        if isinstance(table.items, jax.Array):
            return table
        return Neighbours(mesh.put_rows(table.items, np.int32), mesh.put_rows(table.weights, np.float32))
    if mesh.devices() == 1 or isinstance(table, jax.Array):
        return jnp.asarray(table, jnp.float32)
    return mesh.put_rows(table, np.float32)


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
    return weighted_sum(
        {name: components[name] for name in weights}, {name: float(weight) for name, weight in weights.items()}
    )


def _count_all(
    batches: Iterable[tuple[int, ScoredBatch]],
    views: tuple[str, ...],
    targets: Targets,
    exclude: Sessions | None,
    size: int,
    recommended: Recommended | None,
) -> dict[str, Ranks]:
    """Counts batch by batch; `batches` yields how many of a batch's rows are real, and what counts."""
    above = {view: np.zeros(len(targets), np.int32) for view in views}
    equal = {view: np.zeros(len(targets), np.int32) for view in views}
    start = 0
    steps = -(-len(targets) // size)
    for count, scored in progress(batches, "ranking", total=steps, unit="batch"):
        stop = start + count
        if stop > len(targets):
            raise ValueError(f"more queries than the {len(targets)} targets")
        part = targets[start:stop]
        item = np.pad(part.item, (0, size - count))
        batch = mesh.put((item, *excluded_items(exclude, part, size)), mesh.BATCH)
        for view, counts in scored.counts(*batch):
            above_part, equal_part, finite = jax.device_get(counts)
            if not finite:
                raise UserError(
                    f"the scores of '{view}' are not all finite (NaN or infinity) for targets {start} to {stop - 1}; "
                    "the model has diverged: train with a lower learning rate"
                )
            above[view][start:stop], equal[view][start:stop] = above_part[:count], equal_part[:count]
        if recommended is not None:
            for view in filter(recommended.names.__contains__, views):
                found = scored.best(view, batch[1], batch[2], recommended.k)
                recommended.see(view, start, found.on_host()[:count])
        start = stop
    if start != len(targets):
        raise ValueError(f"{start} queries for {len(targets)} targets")
    return {view: Ranks(above[view], equal[view]) for view in views}


def excluded_items(exclude: Sessions | None, part: Targets, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct items of each history, padded to `size` rows, and to a power of two in width: few shapes occur."""
    if exclude is None:
        # Not of width 0: XLA for several devices of a CPU may crash on that (jax 0.11.2).
        return np.zeros((size, 1), np.int32), np.zeros((size, 1), bool)
    longest = int(part.position.max(initial=1))
    ids, _ = histories(exclude, part, width=1 << (longest - 1).bit_length())
    ids = np.sort(ids, axis=1)  # item numbers are not negative, so what is missing, -1, goes first
    where = ids >= 0
    where[:, 1:] &= ids[:, 1:] != ids[:, :-1]
    rows = ((0, size - len(part)), (0, 0))
    return np.pad(ids, rows), np.pad(where, rows)
