"""What a model has to beat: popularity, and co-occurrence with the last item or with the whole session.

None of them learns, they only count. Each returns a function for `ranking.rank_rows`, so baselines are ranked by the
code and the protocol of the models.
"""

from collections.abc import Callable

import numpy as np
import scipy.sparse

from alterrec_jax.data.dataset import Dataset, Sessions
from alterrec_jax.evaluation.targets import Targets, histories

# How much the frequency of a known item and of a candidate weigh against their co-occurrence. Chosen among seven
# pairs on validation: of Amazon Beauty the best, of Complete Journey 0.001 below the best.
_KNOWN_POWER, _CANDIDATE_POWER = 0.5, 0.3

Rows = Callable[[int, int], np.ndarray]
"""Given start and stop, the float32 [stop - start, catalogue] scores for these targets."""


def popularity_rows(dataset: Dataset) -> Rows:
    """Scores an item by how often it occurs in training, whatever the session."""
    counts = dataset.train_counts[: dataset.catalogue_size].astype(np.float32)
    return lambda start, stop: np.broadcast_to(counts, (stop - start, len(counts)))


def cooccurrence_rows(dataset: Dataset, sessions: Sessions, targets: Targets) -> Rows:
    """Scores an item by the number of training sessions that hold it together with the last item before the target.

    The order within a session and repeats in it do not count. An item does not co-occur with itself: its score for
    itself is 0, else the last item would lead every ranking. All items tie if the last item is outside the catalogue.

    Args:
      dataset: its training sessions are counted, its catalogue is scored.
      sessions: those that the targets come from.
      targets: what is to be ranked.
    """
    last = sessions.items[sessions.offsets[targets.session] + targets.position - 1]
    distinct, row = np.unique(last, return_inverse=True)
    counts = _cooccurrence(_train_holds(dataset), distinct, dataset.catalogue_size)
    return lambda start, stop: counts[row[start:stop]].toarray()


def session_cooccurrence_rows(dataset: Dataset, sessions: Sessions, targets: Targets) -> Rows:
    """Scores an item by its co-occurrence with all items before the target, scaled by how frequent both are.

        score(j) = sum over the distinct items i before the target of c_ij / (n_i ** 0.5 * n_j ** 0.3)

    c_ij is the number of training sessions that hold both, as in `cooccurrence_rows`; n_i that of those that hold i.
    Without the scaling, what is bought most would lead every ranking. Arguments as there.
    """
    holds = _train_holds(dataset)
    distinct = np.unique(sessions.items)
    frequency = np.maximum(holds.sum(axis=0), 1.0)
    known = scipy.sparse.diags_array(frequency[distinct] ** -_KNOWN_POWER)
    candidate = scipy.sparse.diags_array(frequency[: dataset.catalogue_size] ** -_CANDIDATE_POWER)
    similarity = known @ _cooccurrence(holds, distinct, dataset.catalogue_size) @ candidate

    def rows(start: int, stop: int) -> np.ndarray:
        ids, where = histories(sessions, targets[start:stop])
        before = _holds(np.nonzero(where)[0], np.searchsorted(distinct, ids[where]), (len(ids), len(distinct)))
        return np.asarray((before @ similarity).todense(), np.float32)

    return rows


def _train_holds(dataset: Dataset) -> scipy.sparse.csr_array:
    """float32 [training sessions, items], 1 where a session holds an item."""
    train = dataset.splits["train"]
    session = np.repeat(np.arange(len(train)), train.lengths)
    return _holds(session, train.items, (len(train), len(dataset.items)))


def _holds(row: np.ndarray, column: np.ndarray, shape: tuple[int, int]) -> scipy.sparse.csr_array:
    """float32 of the shape, 1 at the given places, however often they are given."""
    holds = scipy.sparse.csr_array((np.ones(len(row), np.float32), (row, column)), shape=shape)
    holds.sum_duplicates()
    holds.data[:] = 1
    return holds


def _cooccurrence(holds: scipy.sparse.csr_array, items: np.ndarray, catalogue: int) -> scipy.sparse.csr_array:
    """float32 [len(items), catalogue], in how many sessions each of some items meets each other item."""
    counts = (holds.T.tocsr()[items] @ holds[:, :catalogue]).tocsr()
    of_row = np.repeat(items, np.diff(counts.indptr))
    counts.data[counts.indices == of_row] = 0
    return counts
