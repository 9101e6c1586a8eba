"""Hits@K, NDCG@K and MRR@K of one target, in expectation over random orders of tied items, in closed form.

After McSherry and Najork, "Computing Information Retrieval Performance Measures Efficiently in the Presence of Tied
Scores", ECIR 2008. With g candidates above the target and e equal to it (itself included), the target stands on each
of the places g+1 .. g+e with probability 1/e, so a metric is the mean of its gain over these places. The gain of
place r is 1 for Hits (= recall, for one target), 1/log2(r+1) for NDCG, 1/r for MRR, and 0 for all three beyond K.
"""

from collections.abc import Sequence

import numpy as np

METRICS = ("hits", "ndcg", "mrr")
KS = (10, 20)


def metric_values(above: np.ndarray, equal: np.ndarray, ks: Sequence[int] = KS) -> dict[str, np.ndarray]:
    """The expected metrics of each target.

    Args:
      above: int32 [targets], candidates that score above the target (g).
      equal: int32 [targets], candidates that score as it does, itself included (e, at least 1).
      ks: the cut-offs, each at least 1; one may exceed the catalogue.

    Returns:
      "hits@K", "ndcg@K", "mrr@K" for each K: float64 [targets], from 0 to 1.
    """
    values = {}
    above, equal = above.astype(np.int64), equal.astype(np.int64)  # their sum may exceed int32
    for k in ks:
        place = np.arange(1, k + 1)
        gains = {"hits": np.ones(k), "ndcg": 1 / np.log2(place + 1), "mrr": 1 / place}
        first, last = np.minimum(above, k), np.minimum(above + equal, k)
        for name in METRICS:
            total = np.concatenate([[0.0], np.cumsum(gains[name])])  # total[r]: the gains of places 1 .. r
            values[f"{name}@{k}"] = (total[last] - total[first]) / equal
    return values


def summarise(above: np.ndarray, equal: np.ndarray, ks: Sequence[int] = KS) -> dict[str, float]:
    """The means of `metric_values` over the targets, of which there must be one at least."""
    if not len(above):
        raise ValueError("no targets to average over")
    return {name: float(value.mean()) for name, value in metric_values(above, equal, ks).items()}
