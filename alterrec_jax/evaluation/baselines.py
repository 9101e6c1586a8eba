"""What a model has to beat: popularity, and co-occurrence with the last item. Neither learns; both only count.

Each returns a function for `ranking.rank_rows`, so baselines are ranked by the code and the protocol of the models.
"""

from collections.abc import Callable

import numpy as np
import scipy.sparse

from alterrec_jax.data.dataset import Dataset, Sessions
from alterrec_jax.evaluation.targets import Targets

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
    counts = _cooccurrence(dataset, distinct)
    return lambda start, stop: counts[row[start:stop]].toarray()


def _cooccurrence(dataset: Dataset, items: np.ndarray) -> scipy.sparse.csr_array:
    """float32 [len(items), catalogue], in how many training sessions each of some items meets each other item."""
    train = dataset.splits["train"]
    session = np.repeat(np.arange(len(train)), train.lengths)
    holds = scipy.sparse.csr_array(
        (np.ones(len(session), np.float32), (session, train.items)), shape=(len(train), len(dataset.items))
    )
    holds.sum_duplicates()
    holds.data[:] = 1
    counts = (holds.T.tocsr()[items] @ holds[:, : dataset.catalogue_size]).tocsr()
    of_row = np.repeat(items, np.diff(counts.indptr))
    counts.data[counts.indices == of_row] = 0
    return counts
