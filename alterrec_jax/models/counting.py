"""Systems that only count: popularity, association rules (co-occurrence with the last item), and co-occurrence with the
whole session.

None of them trains. Each returns a function for `evaluation.ranking.rank_rows`, so they are ranked by the code and the
protocol of the systems that do.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.sparse

from alterrec_jax.config import FamilyConfig, setting
from alterrec_jax.data.cooccurrence import incidence_matrix
from alterrec_jax.data.dataset import Dataset, Sessions
from alterrec_jax.data.targets import Targets, histories
from alterrec_jax.models.registry import COUNTED, register

Rows = Callable[[int, int], np.ndarray]
"""Given start and stop, the float32 [stop - start, catalogue] scores for these targets."""


@dataclasses.dataclass(frozen=True)
class CountedConfig(FamilyConfig):
    """A system without parameters."""

    def rows(self, dataset: Dataset, sessions: Sessions, targets: Targets) -> Rows:
        """The scores of every candidate for the targets of some sessions, by counts of the training sessions alone."""
        raise TypeError(f"{type(self).__name__} is no family of systems")


@register("popularity", title="Popularity", paper="", kind=COUNTED)
@dataclasses.dataclass(frozen=True)
class PopularityConfig(CountedConfig):
    """How often an item occurs in training."""

    def rows(self, dataset: Dataset, sessions: Sessions, targets: Targets) -> Rows:
        """As `CountedConfig.rows`."""
        del sessions, targets
        return popularity_rows(dataset)


@register("cooccurrence", title="Association rules", paper="Ludewig and Jannach, 2018 (AR)", kind=COUNTED)
@dataclasses.dataclass(frozen=True)
class CooccurrenceConfig(CountedConfig):
    """In how many training sessions an item stands together with the last one."""

    def rows(self, dataset: Dataset, sessions: Sessions, targets: Targets) -> Rows:
        """As `CountedConfig.rows`."""
        return cooccurrence_rows(count_cooccurrence(dataset, sessions), sessions, targets)


@register("session_cooccurrence", title="Co-occurrence with the session", paper="", kind=COUNTED)
@dataclasses.dataclass(frozen=True)
class SessionCooccurrenceConfig(CountedConfig):
    """The same summed over the items of the session, scaled by how frequent both are.

    The powers were chosen among seven pairs on validation: of Amazon Beauty the best, of Complete Journey 0.001 below
    the best.
    """

    known_power: float = setting(0.5, "power of the known item's frequency that divides a count", low=0)
    candidate_power: float = setting(0.3, "power of the candidate's frequency that divides a count", low=0)
    own_items_first: bool = setting(
        False, "put the items that the session holds already in front of all others; of use where they are candidates"
    )

    def rows(self, dataset: Dataset, sessions: Sessions, targets: Targets) -> Rows:
        """As `CountedConfig.rows`."""
        counted = count_cooccurrence(dataset, sessions)
        rows = session_cooccurrence_rows(counted, sessions, targets, self.known_power, self.candidate_power)
        return own_items_first(rows, sessions, targets) if self.own_items_first else rows


def popularity_rows(dataset: Dataset) -> Rows:
    """Scores an item by how often it occurs in training, whatever the session."""
    counts = dataset.train_counts[: dataset.catalogue_size].astype(np.float32)
    return lambda start, stop: np.broadcast_to(counts, (stop - start, len(counts)))


class Cooccurrence(NamedTuple):
    """How often training sessions hold two items together. The order within a session and repeats in it do not count.

    Attributes:
      items: int32 [known], ascending: the distinct items that stand in the sessions which are asked about.
      together: float32 [known, catalogue], sparse: in how many training sessions each of them meets each item of the
        catalogue. An item does not meet itself, else the last item would lead every ranking.
      frequency: float32 [items], in how many training sessions each item of the dataset occurs.
    """

    items: np.ndarray
    together: scipy.sparse.csr_array
    frequency: np.ndarray


def count_cooccurrence(dataset: Dataset, sessions: Sessions) -> Cooccurrence:
    """Counts over the training sessions, for the items that some other sessions hold."""
    train = dataset.splits["train"]
    holds = incidence_matrix(train, len(dataset.items))
    known = np.unique(sessions.items)
    together = (holds.T.tocsr()[known] @ holds[:, : dataset.catalogue_size]).tocsr()
    together.data[together.indices == np.repeat(known, np.diff(together.indptr))] = 0
    return Cooccurrence(known, together, np.asarray(holds.sum(axis=0)))


def cooccurrence_rows(counted: Cooccurrence, sessions: Sessions, targets: Targets) -> Rows:
    """Scores an item by the number of training sessions that hold it together with the last item before the target.

    All items tie if that is outside the catalogue.

    Args:
      counted: for these sessions.
      sessions: those that the targets come from.
      targets: what is to be ranked.
    """
    last = sessions.items[sessions.offsets[targets.session] + targets.position - 1]
    row = np.searchsorted(counted.items, last)
    return lambda start, stop: counted.together[row[start:stop]].toarray()


def session_cooccurrence_rows(
    counted: Cooccurrence,
    sessions: Sessions,
    targets: Targets,
    known_power: float = SessionCooccurrenceConfig.known_power,
    candidate_power: float = SessionCooccurrenceConfig.candidate_power,
) -> Rows:
    """Scores an item by its co-occurrence with all items before the target, scaled by how frequent both are.

        score(j) = sum over the distinct items i before the target of c_ij / (n_i^known_power * n_j^candidate_power)

    c_ij is the number of training sessions that hold both, n_i that of those that hold i. Without the scaling, what is
    bought most would lead every ranking. Arguments as of `cooccurrence_rows`.
    """
    items, together, frequency = counted
    frequency = np.maximum(frequency, 1.0)
    known = scipy.sparse.diags_array(frequency[items] ** -known_power)
    candidate = scipy.sparse.diags_array(frequency[: together.shape[1]] ** -candidate_power)
    similarity = known @ together @ candidate

    def rows(start: int, stop: int) -> np.ndarray:
        ids, where = histories(sessions, targets[start:stop])
        before = _holds(np.nonzero(where)[0], np.searchsorted(items, ids[where]), (len(ids), len(items)))
        return np.asarray((before @ similarity).todense(), np.float32)

    return rows


def own_items_first(rows: Rows, sessions: Sessions, targets: Targets) -> Rows:
    """The ranking of `rows` behind the items that stand before the target, of these the latest first."""

    def changed(start: int, stop: int) -> np.ndarray:
        scores = np.array(rows(start, stop))
        ids, where = histories(sessions, targets[start:stop])
        row, place = np.nonzero(where & (ids < scores.shape[1]))  # ascending, so that an item's last place counts
        scores[row, ids[row, place]] = scores.max(initial=0) + 1 + place
        return scores

    return changed


def _holds(row: np.ndarray, column: np.ndarray, shape: tuple[int, int]) -> scipy.sparse.csr_array:
    """float32 of the shape, 1 at the given places, however often they are given."""
    holds = scipy.sparse.csr_array((np.ones(len(row), np.float32), (row, column)), shape=shape)
    holds.sum_duplicates()
    holds.data[:] = 1
    return holds
