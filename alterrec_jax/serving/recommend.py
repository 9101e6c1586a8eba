"""The top items for given sessions, by the score of a view of the system, the main one unless another is named.

Items that were not in training are placed by a component that reads their features alone, such as a text network. A
session of which the view knows nothing, an empty one say, gets what is bought most: all its scores would tie.
"""

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.contract import Neighbours, System
from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.batching import joined, padded_rows
from alterrec_jax.evaluation.rank_counts import RankingLimits
from alterrec_jax.evaluation.ranking import component_scores, padded_columns, used_weights, view_scores
from alterrec_jax.numerics import scores_of
from alterrec_jax.scoring.prefix_encoder import Prefixes
from alterrec_jax.serving.top_items import NO_ITEM, Query, TopK, block_of, is_wanted, update_top_k
from alterrec_jax.serving.trained_model import TrainedModel
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.item_shards import LANE, ItemShards
from alterrec_jax.sharding.lookup import lookup

POPULARITY = "popularity"

# Compiled apart: together with what cuts off columns, fewer might be multiplied.
_new_item_scores = jax.jit(scores_of)


class Recommendation(NamedTuple):
    """One recommended item.

    Attributes:
      item: its number; from the catalogue's size on, the number of a new item.
      score: what it was ranked by; the kinds of score are not comparable.
      by: what scored it: the view that ranks, the component that places new items, or "popularity" in training.
    """

    item: int
    score: float
    by: str


def new_item_component(system: System, features: Collection[str]) -> str | None:
    """The component that places items which were not in training: the first that is made from these features alone."""
    for name, component in system.components.items():
        network = component.network
        if network.places_new_items and set(network.reads.features) <= set(features):
            return name
    return None


def new_item_features(trained: TrainedModel, given: Collection[str] = ()) -> tuple[str, ...]:
    """The features that new items must bring: all those of one component that places them.

    Args:
      trained: the model.
      given: features whose vectors are brought; others can be made of texts, where a text model made the dataset's.

    Raises:
      UserError: no component is made from vectors alone.
    """
    system, dataset = trained.system, trained.dataset
    networks = [component.network for component in system.components.values()]
    placing = [network.reads.features for network in networks if network.places_new_items]
    placing = [features for features in placing if features and dataset.vectors.keys() >= set(features)]
    if not placing:
        raise UserError(
            f"a run of model={trained.config.family} has no network on text or other vectors alone, so it cannot place "
            "new items"
        )
    encoded = {name for name, encoder in dataset.text_encoders.items() if not encoder.get("given")}
    for known in (set(given), encoded.union(given)):
        for features in placing:
            if known.issuperset(features):
                return features
    return placing[0]


@dataclasses.dataclass
class Recommender:
    """Recommends from a trained model.

    Attributes:
      trained: the model.
      exclude_session_items: whether to leave out what a session holds.
      new_items: by name of a feature, float32 [new item, width]: of items that were not in training; they get the
        numbers after the catalogue's. Empty for none.
      limits: how many items a device scores at a time.
      sessions_at_once: how many sessions are scored together.
      view: the view of the system that ranks, by name; empty for the main one.
    """

    trained: TrainedModel
    exclude_session_items: bool
    new_items: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    limits: RankingLimits = RankingLimits()
    sessions_at_once: int = 64
    view: str = ""

    def __post_init__(self) -> None:
        self._catalogue = self.trained.dataset.catalogue_size
        self._new = len(next(iter(self.new_items.values()))) if self.new_items else 0
        system = self.trained.system
        self._view = self.view or system.main
        if self._view not in system.views:
            there = ", ".join(system.views)
            raise UserError(f"a run of model={self.trained.config.family} has no view '{self._view}'; it has {there}")
        self._weights = used_weights(system.views[self._view])
        self._placing = new_item_component(system, self.new_items) if self._new else None
        if self._new and self._placing is None:
            raise UserError(
                f"a run of model={self.trained.config.family} has no network on {' and '.join(self.new_items)} alone, "
                "so it cannot place new items"
            )
        others = sorted({*self._weights} - {self._placing})
        self._encoders = [self.trained.encoder(*others)] if others else []
        if self._placing:  # alone, for it knows of more items
            self._encoders.append(self.trained.encoder(self._placing, new_items=self.new_items))
        in_blocks = ItemShards.of(self._catalogue).items_per_device > self.limits.whole_rows
        self._shards = ItemShards.of(self._catalogue, self.limits.block if in_blocks else LANE)
        self._block = self.limits.block if in_blocks else self._shards.columns_per_device
        of_catalogue = {name: table for encoder in self._encoders for name, table in encoder.tables.items()}
        if self._placing:
            new = np.arange(self._catalogue, self._catalogue + self._new)
            padded = np.pad(new, (0, -len(new) % LANE))  # the padding's scores are cut off
            self._new_table = lookup(of_catalogue[self._placing], mesh.put(padded), mesh.REPLICATED)
            if mesh.size(mesh.MODEL) == 1:
                of_catalogue[self._placing] = of_catalogue[self._placing][: self._catalogue]
            else:  # with new ones behind them, other items lie on a device than those of the other tables
                of_catalogue[self._placing] = self.trained.encoder(self._placing).tables[self._placing]
        self._tables = {name: padded_columns(table, self._shards) for name, table in of_catalogue.items()}
        counts = np.zeros(self._shards.columns, np.float32)
        counts[self._shards.column(np.arange(self._catalogue))] = self.trained.dataset.train_counts[: self._catalogue]
        self._counts = mesh.put(counts, mesh.ITEMS)

    def __call__(
        self,
        sessions: Sequence[Iterable[int]],
        k: int,
        *,
        exclude: Sequence[Iterable[int]] | None = None,
        only: Sequence[Iterable[int] | None] | None = None,
    ) -> Iterator[list[Recommendation]]:
        """Yields the k best items for each session.

        A new item has no score of the view, so it cannot be weighed against fused scores: it takes the rank that
        the component which places it gives it among the catalogue and the new items, and moves what stood there down.
        Ranks are those among the items that a session may get.

        Args:
          sessions: item numbers, the latest last; new items may be among them. Components other than the one that
            places new items do not know them.
          k: how many; at most as many as there are items. Where a session may get fewer, it gets all of them.
          exclude: for each session, items that it must not get; None for no such lists.
          only: for each session, the only items that it may get, or None for all.

        Raises:
          UserError: there are no k items, or no item of a number.
        """
        self.check_count(k)
        checked = [self._checked(session, "a session") for session in sessions]
        exclude = [()] * len(checked) if exclude is None else exclude
        only = [None] * len(checked) if only is None else only
        listed = [self._listed(*lists) for lists in zip(checked, exclude, only, strict=True)]
        return self._in_batches(checked, listed, k)

    def check_count(self, k: int) -> None:
        """Raises a `UserError` where there are no k items."""
        total = self._catalogue + self._new
        if not 1 <= k <= total:
            raise UserError(f"--k={k} is not between 1 and the number of items, {total}")

    def _checked(self, items: Iterable[int], what: str) -> np.ndarray:
        """int32 [item], if there are items of these numbers."""
        numbers, total = np.array([*items]), self._catalogue + self._new
        if not numbers.size:
            return np.zeros(0, np.int32)
        if numbers.dtype.kind not in "iu" or numbers.ndim != 1:
            raise UserError(f"{what} holds something else than numbers of items, from 0 to {total - 1}")
        if len(wrong := numbers[(numbers < 0) | (numbers >= total)]):
            raise UserError(f"{what} holds the item number {wrong[0]}; they go from 0 to {total - 1}")
        return numbers.astype(np.int32)

    def _listed(
        self, session: np.ndarray, exclude: Iterable[int], only: Iterable[int] | None
    ) -> tuple[np.ndarray, bool]:
        """int32 [item], what `Query` lists of a session; and whether only that is wanted."""
        out = self._checked(exclude, "an exclude list")
        out = np.union1d(out, session) if self.exclude_session_items else out
        return (out, False) if only is None else (np.setdiff1d(self._checked(only, "an only list"), out), True)

    def _in_batches(
        self, sessions: list[np.ndarray], listed: list[tuple[np.ndarray, bool]], k: int
    ) -> Iterator[list[Recommendation]]:
        for start in range(0, len(sessions), self.sessions_at_once):
            batch = slice(start, start + self.sessions_at_once)
            yield from self._some(sessions[batch], listed[batch], k)

    def _some(
        self, sessions: list[np.ndarray], listed: list[tuple[np.ndarray, bool]], k: int
    ) -> Iterator[list[Recommendation]]:
        lengths = np.fromiter((len(session) for session in sessions), np.int64, len(sessions))
        prefixes = Prefixes(
            items=np.concatenate(sessions),
            offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
            session=np.arange(len(sessions)),
            length=lengths,
        )
        encoded: dict[str, Any] = {}
        for encoder in self._encoders:
            batches = list(encoder.encode(prefixes))
            encoded |= {name: joined([batch[name] for batch in batches]) for name in encoder.tables}
        # Without the component that places new items, the view knows nothing of them.
        known = lengths if self._placing in self._weights else self._of_catalogue(sessions)
        shape = 1 << (len(sessions) - 1).bit_length()  # one session is not made to wait for 63 empty ones
        shape = mesh.padded(shape, mesh.DATA)
        padding = ((0, shape - len(sessions)), (0, 0))
        queries, listed_items, only_listed, known_to_placing, known_to_view = mesh.put(
            (
                {name: padded_rows(query, shape) for name, query in encoded.items()},
                np.pad(_in_rows([items for items, _ in listed]), padding, constant_values=NO_ITEM),
                np.pad(np.array([[only] for _, only in listed]), padding),
                np.pad(lengths[:, None] > 0, padding),
                np.pad(known[:, None] > 0, padding),
            ),
            mesh.BATCH,
        )
        new_scores = self._new_scores(queries, listed_items, only_listed, known_to_placing)
        query = Query(listed_items, only_listed, known_to_view, self._counts, new_scores)
        best = TopK.empty(shape, min(k, self._catalogue), self._new)
        for start in range(0, self._shards.columns_per_device, self._block):
            # The scores are those of evaluation, made by its functions: what ties there ties here.
            scores = {
                name: component_scores(queries[name], self._block_of(table, start), self._shards, start, self._block)
                for name, table in self._tables.items()
            }
            of_view = view_scores(scores, self._weights)
            placing = scores[self._placing] if self._placing else of_view
            best = update_top_k(best, of_view, placing, start, query, shards=self._shards, catalogue=self._catalogue)
        found = jax.device_get(mesh.replicated((best.scores, best.items, new_scores, best.ranks)))
        for row, some in enumerate(known):
            by = self._view if some else POPULARITY
            parts = (part[row] for part in found)
            yield _merge(*parts, by=by, placing=self._placing or "", catalogue=self._catalogue, k=k)

    def _block_of(self, table: Any, start: int) -> Any:
        """What scores the columns of a block."""
        return table if isinstance(table, Neighbours) else block_of(table, start, self._block)

    def _new_scores(
        self, queries: dict[str, Any], listed: jax.Array, only_listed: jax.Array, known: jax.Array
    ) -> jax.Array:
        """float32 [session, new item], as `Query` has them; `known` to what places them, bool [session, 1]."""
        if not self._placing:
            return mesh.put(np.zeros((len(listed), 0), np.float32), mesh.BATCH)
        scores = _new_item_scores(queries[self._placing], self._new_table)[:, : self._new]
        beyond = jnp.where((listed >= self._catalogue) & (listed < NO_ITEM), listed - self._catalogue, NO_ITEM)
        return jnp.where(known & is_wanted(beyond, only_listed, self._new), scores, -jnp.inf)

    def _of_catalogue(self, sessions: list[np.ndarray]) -> np.ndarray:
        """int64 [session], how many items of the catalogue each holds."""
        return np.array([np.count_nonzero(session < self._catalogue) for session in sessions], np.int64)


def _in_rows(listed: list[np.ndarray]) -> np.ndarray:
    """int32 [session, place], some lists of items with `NO_ITEM` behind them; few widths occur."""
    longest = max(map(len, listed))
    rows = np.full((len(listed), 1 << (longest - 1).bit_length() if longest else 1), NO_ITEM, np.int32)
    for row, items in zip(rows, listed, strict=True):
        row[: len(items)] = items
    return rows


def _merge(
    scores: np.ndarray,
    items: np.ndarray,
    new_scores: np.ndarray,
    ranks: np.ndarray,
    *,
    by: str,
    placing: str,
    catalogue: int,
    k: int,
) -> list[Recommendation]:
    """Puts the new items, the best first, at their ranks into the list of the others.

    `ranks` are those among the catalogue; in the ranking of all items, better new ones come before too.
    """
    merged = [Recommendation(int(i), float(s), by) for s, i in zip(scores, items, strict=True) if np.isfinite(s)]
    for better, new in enumerate(np.argsort(-new_scores, kind="stable")):
        place = int(ranks[new]) + better
        if place >= k or not np.isfinite(new_scores[new]):
            break  # and those after it stand further down
        merged.insert(place, Recommendation(catalogue + int(new), float(new_scores[new]), placing))
    return merged[:k]
