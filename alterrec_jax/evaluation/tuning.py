"""Settings of V-SkNN that validation chooses."""

import itertools
from collections.abc import Sequence

import numpy as np

from alterrec_jax.data.dataset import Dataset
from alterrec_jax.errors import UserError, nearest
from alterrec_jax.evaluation.metrics import METRICS, summarise
from alterrec_jax.evaluation.protocol import Protocol
from alterrec_jax.evaluation.ranking import rank_rows
from alterrec_jax.models.session_knn import SessionKNNConfig

GRID = tuple(
    SessionKNNConfig(neighbours=neighbours, idf=idf, remind=remind)
    for neighbours, idf, remind in itertools.product((100, 200, 500, 1000), (0.0, 1.0), (True, False))
)
"""What `choose` tries by default."""


def choose(
    dataset: Dataset,
    protocol: Protocol,
    metric: str,
    grid: Sequence[SessionKNNConfig] = GRID,
    sample: int = 5000,
) -> SessionKNNConfig:
    """The settings of a grid whose ranking of the validation split is best; of equally good ones the first.

    Of more targets than the sample has, so many are drawn and ranked, the same ones for all settings and in every call.
    The test split is never read. `remind` stays as it is where the protocol takes a prefix's items out anyway.

    Args:
      dataset: its training sessions vote.
      protocol: what is ranked against what.
      grid: what is tried, in this order.
      sample: how many targets are ranked, at most.
      metric: what is best, such as "hits@20"; its cut-off is one of the protocol's.

    Raises:
      UserError: the metric is none of the protocol's, or the split has no target.
    """
    known = [f"{name}@{k}" for k in protocol.ks for name in METRICS]
    if metric not in known:
        raise UserError(f"metric '{metric}' is unknown; {nearest(metric, known)}")
    sessions, targets = dataset.splits["validation"], protocol.select(dataset, "validation")
    targets = targets[np.sort(np.random.default_rng(0).permutation(len(targets))[:sample])]

    def quality(settings: SessionKNNConfig) -> float:
        ranks = rank_rows(
            settings.rows(dataset, sessions, targets),
            f"session_knn {settings}",
            targets,
            catalogue=dataset.catalogue_size,
            exclude=sessions if protocol.exclude_session_items else None,
        )
        return summarise(ranks.above, ranks.equal, protocol.ks)[metric]

    return max((s for s in grid if s.remind or not protocol.exclude_session_items), key=quality)
