"""Bootstrap intervals of metric means, with sessions as the unit that is drawn.

The prefixes of one session are not independent of each other, so whole sessions are drawn with replacement, as many as
there are, and the mean is taken over the targets of what was drawn (the cluster bootstrap). With one target a session
this is the ordinary bootstrap. All columns see the same draws, so the difference of two columns has its own interval.
"""

import dataclasses

import numpy as np

from alterrec_jax.errors import UserError
from alterrec_jax.runtime.console import progress

LEVEL = 0.95
"""The share of the resampled means that an interval holds."""


@dataclasses.dataclass(frozen=True)
class Bootstrap:
    """How intervals are made.

    Attributes:
      resamples: how many times sessions are drawn; 0 makes no intervals.
      seed: of the draws.
    """

    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resamples < 0:
            raise UserError(f"bootstrap: {self.resamples} resamples; wanted >= 0")


def resampled_means(
    values: np.ndarray, session: np.ndarray, settings: Bootstrap, draws_at_once: int = 2**23
) -> np.ndarray:
    """The means of each column over the targets, once for each time the sessions are drawn anew.

    Args:
      values: float64 [targets, columns].
      session: int64 [targets], the session of each target.
      settings: how many resamples, and their seed.
      draws_at_once: draw counts held at a time, in elements: 2**23 float64 are 64 MiB.

    Returns:
      float64 [resamples, columns].
    """
    if not len(values):
        raise ValueError("no targets to resample")
    _, cluster = np.unique(session, return_inverse=True)
    sessions = int(cluster.max()) + 1
    columns = [np.ones(len(values)), *values.T]  # the first one counts targets
    sums = np.stack([np.bincount(cluster, weights=column, minlength=sessions) for column in columns], axis=1)
    rng = np.random.default_rng(settings.seed)
    held = max(1, draws_at_once // sessions)
    means = np.empty((settings.resamples, values.shape[1]))
    for start in progress(range(0, settings.resamples, held), "bootstrap", unit="block"):
        count = min(held, settings.resamples - start)
        drawn = np.empty((count, sessions))
        for row in drawn:
            row[:] = np.bincount(rng.integers(0, sessions, sessions), minlength=sessions)
        totals = drawn @ sums
        means[start : start + count] = totals[:, 1:] / totals[:, :1]
    return means


def percentile_interval(means: np.ndarray) -> np.ndarray:
    """The percentile interval of each column of `resampled_means`: float64 [2, columns], low and high."""
    tail = (1 - LEVEL) / 2
    return np.quantile(means, [tail, 1 - tail], axis=0)
