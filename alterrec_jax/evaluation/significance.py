"""Whether one model is better than another by more than chance, tested with the session as the unit.

The prefixes of a session are not independent of each other, so a session is what a test may exchange: if two models are
equally good, either could have produced either one's values on it, and the difference of all its targets might as
well have the other sign. This is Fisher's randomisation test, which Smucker, Allan and Carterette (CIKM 2007) recommend
for metrics of retrieval.

Of a model trained with several seeds, the caller averages each target's values over the seeds first: seeds are no
further sessions.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from alterrec_jax.evaluation.intervals import LEVEL, Bootstrap, percentile_interval, resampled_means

RESAMPLES = 9999
"""How often signs are drawn: a p-value is at least 1 / 10,000, and rarely off by more than a tenth near 0.05."""

# Sums that differ by less than this share of all that is summed differ by rounding alone.
_ROUNDING = 1e-12


class Paired(NamedTuple):
    """What two models achieve on the same targets.

    Attributes:
      a, b: float64 [targets], a metric of each model, say from `metrics.metric_values`.
      session: int64 [targets], the session of each target.
    """

    a: np.ndarray
    b: np.ndarray
    session: np.ndarray


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One comparison out of a family.

    Attributes:
      a, b: the means of both models over the targets.
      difference: a - b.
      interval: low and high of the difference, by the bootstrap over sessions; it knows nothing of the family.
      p: of the sign-flip test; see `paired_p_value`.
      adjusted_p: the same, adjusted for the family; see `holm`.
    """

    a: float
    b: float
    difference: float
    interval: tuple[float, float]
    p: float
    adjusted_p: float

    @property
    def significant(self) -> bool:
        """Whether the adjusted p-value is 0.05 at most."""
        return self.adjusted_p <= 1 - LEVEL

    @property
    def better(self) -> bool:
        """Whether a is better than b by more than chance."""
        return self.significant and self.difference > 0


def compare(family: Sequence[Paired], settings: Bootstrap, *, resamples: int = RESAMPLES) -> list[Comparison]:
    """Compares the models of each pair, and adjusts the p-values for all comparisons of the family.

    Args:
      family: every comparison that a claim rests on, also those on other targets, metrics or datasets.
      settings: of the intervals, of one resample at least; the seed is the test's too.
      resamples: as of `paired_p_value`.

    Raises:
      ValueError: as `paired_p_value`.
    """
    p_values = [paired_p_value(a - b, session, resamples, settings.seed) for a, b, session in family]
    compared = []
    for (a, b, session), p, adjusted in zip(family, p_values, holm(p_values).tolist(), strict=True):
        low, high = percentile_interval(resampled_means((a - b)[:, None], session, settings))[:, 0].tolist()
        means = float(a.mean()), float(b.mean())
        compared.append(Comparison(*means, means[0] - means[1], (low, high), p, adjusted))
    return compared


def paired_p_value(
    difference: np.ndarray,
    session: np.ndarray,
    resamples: int = RESAMPLES,
    seed: int = 0,
    signs_at_once: int = 2**21,
) -> float:
    """The two-sided p-value of a mean difference under random signs, one sign for all targets of a session.

    The share of signs under which the mean is at least as far from 0 as it was found, the signs found among them. All
    signs are tried if there are no more than `resamples`, else so many are drawn.

    Args:
      difference: float64 [targets], the metric of one model minus that of the other.
      session: int64 [targets], the session of each target.
      resamples: how often signs are drawn.
      seed: of the draws.
      signs_at_once: drawn signs held at a time; each takes nine bytes.

    Raises:
      ValueError: there is no target, or a difference is not finite.
    """
    if not len(difference) or not np.isfinite(difference).all():
        raise ValueError("wanted one target at least, and finite differences")
    _, cluster = np.unique(session, return_inverse=True)
    # A sum is as far from 0 as the mean is. Sessions on which both models are equal, most of them where the metric has
    # a cut-off, have no sign.
    sums = np.bincount(cluster, weights=difference)
    sums = sums[sums != 0]
    if len(sums) < 2:
        return 1.0  # one sign alone changes nothing
    every = 2 ** len(sums) <= resamples
    blocks = _all_signs(len(sums)) if every else _drawn_signs(len(sums), resamples, seed, signs_at_once)
    total, size = float(sums.sum()), float(np.abs(sums).sum())
    # The sum of what is positive twice, less the sum of all, is the sum under these signs.
    far = sum(int((np.abs(2 * (bits @ sums) - total) >= abs(total) - _ROUNDING * size).sum()) for bits in blocks)
    return far / 2 ** len(sums) if every else (far + 1) / (resamples + 1)


def _all_signs(sessions: int) -> Iterator[np.ndarray]:
    """float64 [2 ** sessions, session], 1 for plus and 0 for minus."""
    yield (np.arange(2**sessions)[:, None] >> np.arange(sessions) & 1).astype(np.float64)


def _drawn_signs(sessions: int, resamples: int, seed: int, at_once: int) -> Iterator[np.ndarray]:
    """The same, drawn; a block of rows at a time, and whatever the block, the same."""
    rng, width = np.random.default_rng(seed), -(-sessions // 32) * 4  # whole words of the generator
    held = max(1, at_once // sessions)
    for start in range(0, resamples, held):
        drawn = np.frombuffer(rng.bytes(min(held, resamples - start) * width), np.uint8).reshape(-1, width)
        yield np.unpackbits(drawn, axis=1, count=sessions).astype(np.float64)


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """float64 [comparisons], the p-values adjusted for their number by Holm's step-down method, in the given order.

    Comparing each with 0.05 keeps the chance of a single false claim in the whole family at 0.05, however the
    comparisons depend on each other.
    """
    from statsmodels.stats.multitest import multipletests  # here, for it takes a second that few commands want to wait

    return np.asarray(multipletests(p_values, method="holm")[1])
