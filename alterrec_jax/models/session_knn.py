"""V-SkNN: what the training sessions most similar to a prefix hold.

After Ludewig and Jannach, "Evaluation of Session-based Recommendation Algorithms", UMUAI 28, 2018. For a prefix of L
items, let p(i) be the latest position, from 1 to L, at which it holds item i:

    v_i            = p(i) / L: the last item weighs 1, those before it ever less, on a line; 0 where i is not held
    similarity(n)  = sum over the items i of n of v_i / (|v| * sqrt(|n|)): the cosine of v and the training session n,
                     whose |n| distinct items weigh 1 each
    score(j)       = (1 + idf * log(N / n_j)) * sum over the neighbours n that hold j of similarity(n) * latest(n)

The neighbours are the k most similar of the N training sessions. Where several are equally similar at the k-th place,
those of the highest numbers come first: the most recent ones, if the log was in order of time. latest(n) is the
greatest v_i among the items of n, and n_j is the number of training sessions that hold j.

The weights v are those of the paper's V-SkNN, and latest(n) is the w_n(s) of its S-SkNN. The authors' program
(session-rec, vsknn.py) joins both as is done here, and adds the cosine, the factor of idf, and the choice whether a
prefix's own items are voted for. Its votes fade with 1, 1/2, 1/3 ... by default, which made no difference
on validation, and it looks at recent sessions only. Here all training sessions may vote, under leave-one-out a user's
own too.
"""

import dataclasses
import itertools

import numpy as np
import scipy.sparse

from alterrec_jax.config import setting
from alterrec_jax.data.cooccurrence import incidence_matrix
from alterrec_jax.data.dataset import Dataset, Sessions
from alterrec_jax.data.targets import Targets, histories
from alterrec_jax.models.counting import CountedConfig, Rows
from alterrec_jax.models.registry import COUNTED, register


@register("session_knn", title="V-SkNN", paper="Ludewig and Jannach, UMUAI 2018", kind=COUNTED)
@dataclasses.dataclass(frozen=True)
class SessionKNNConfig(CountedConfig):
    """What the training sessions most similar to a prefix hold."""

    neighbours: int = setting(500, "how many training sessions vote, k", low=1)
    idf: float = setting(1.0, "how much rare items are favoured; 0: not at all", low=0)
    remind: bool = setting(
        True, "whether the items of a prefix are voted for too; they would lead most rankings of baskets"
    )

    def rows(self, dataset: Dataset, sessions: Sessions, targets: Targets) -> Rows:
        """As `CountedConfig.rows`."""
        return session_knn_rows(
            dataset, sessions, targets, neighbours=self.neighbours, idf=self.idf, remind=self.remind
        )


def session_knn_rows(
    dataset: Dataset,
    sessions: Sessions,
    targets: Targets,
    *,
    neighbours: int,
    idf: float,
    remind: bool = True,
    shared_at_once: int = 2**20,
) -> Rows:
    """Scores an item by the votes of the training sessions nearest to what stands before the target.

    An item that training lacks keeps its place in a prefix, but no session shares it. All items tie if no training
    session shares an item with the prefix.

    Args:
      dataset: its training sessions vote.
      sessions: those that the targets come from.
      targets: what is to be ranked.
      neighbours, idf, remind: as in `SessionKNNConfig`.
      shared_at_once: training sessions that share an item with a prefix, over the prefixes that are compared at a time;
        a session counts for each item that it shares. Each takes about 50 bytes while the nearest are sorted out, and
        those that are chosen eight bytes for each item that they hold.

    Raises:
      ValueError: neighbours is less than 1, or idf is negative.
    """
    if neighbours < 1 or idf < 0:
        raise ValueError(f"{neighbours} neighbours, idf {idf}; wanted one at least, and idf >= 0")
    holds = incidence_matrix(dataset.splits["train"], len(dataset.items)).astype(np.float64)
    held_by, candidates = holds.T.tocsr(), holds[:, : dataset.catalogue_size]
    distinct, frequency = np.diff(holds.indptr), np.diff(held_by.indptr)
    rarity = np.log(max(1, holds.shape[0]) / np.maximum(frequency, 1))[: dataset.catalogue_size]
    favour = 1 + idf * rarity
    before = np.concatenate([[0], np.cumsum(frequency[sessions.items])])
    first = sessions.offsets[targets.session]
    shared = before[first + targets.position] - before[first]

    def scores(start: int, stop: int) -> np.ndarray:
        latest = _latest_positions(sessions, targets[start:stop], holds.shape[1])
        row, session, similarity = _nearest(latest, held_by, distinct, neighbours)
        held = holds[session]
        places = latest[np.repeat(row, np.diff(held.indptr)), held.indices]
        decay = np.maximum.reduceat(places, held.indptr[:-1]) / targets.position[start:stop][row]
        votes = scipy.sparse.csr_array((similarity * decay, (row, session)), shape=(stop - start, holds.shape[0]))
        score = (votes @ candidates).toarray() * favour
        if not remind:
            score[latest[:, : score.shape[1]] > 0] = 0
        return score.astype(np.float32)

    def rows(start: int, stop: int) -> np.ndarray:
        block = np.cumsum(shared[start:stop]) // shared_at_once
        edges = [start, *(start + 1 + np.flatnonzero(np.diff(block))), stop]
        return np.concatenate([scores(*part) for part in itertools.pairwise(edges)])

    return rows


def _latest_positions(sessions: Sessions, targets: Targets, items: int) -> np.ndarray:
    """float64 [targets, items], where a prefix last holds an item, counted from 1; 0 where it does not."""
    ids, where = histories(sessions, targets)
    row, column = np.nonzero(where)
    latest = np.zeros((len(targets), items))
    np.maximum.at(latest, (row, ids[where]), column + 1)
    return latest


def _nearest(
    latest: np.ndarray, held_by: scipy.sparse.csr_array, distinct: np.ndarray, neighbours: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The neighbours of each prefix: its row, their number and their similarity, each [neighbours of all], by row.

    They are compared by the square of shared / sqrt(distinct). That is a ratio of two whole numbers, whose division
    rounds equal ratios equally, so no tie is lost.
    """
    shared = scipy.sparse.csr_array(latest) @ held_by
    row = np.repeat(np.arange(len(latest)), np.diff(shared.indptr))
    square = shared.data**2 / distinct[shared.indices]
    order = np.lexsort((-shared.indices, -square, row))
    chosen = order[np.arange(len(row)) - shared.indptr[row] < neighbours]
    norm = np.sqrt((latest**2).sum(axis=1))
    return row[chosen], shared.indices[chosen], np.sqrt(square[chosen]) / norm[row[chosen]]
