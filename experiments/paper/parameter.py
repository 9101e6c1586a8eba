"""Figures 7, 10 and 11: AlterRec over the values of one of its parameters. Each parameter has a command of its own."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import scipy.stats

from alterrec_jax.config import AlterRecConfig
from alterrec_jax.evaluation.ranking import Ranks
from experiments.paper import pictures
from experiments.paper.compared import Compared, percent, told
from experiments.paper.outcome import Outcome
from experiments.paper.study import Run, Study

_STABLE = 0.05  # a metric whose best and worst mean differ by less than this share is said to be stable

Configs = Callable[[Study], dict[str, AlterRecConfig]]
"""Of each value, as it is to be read, the configuration."""


def runs_of(configs: Configs) -> Callable[[Study], list[Run]]:
    """What has to be trained for the values of a parameter."""
    return lambda study: [run for config in configs(study).values() for run in study.of(config.check())]


def outcome_of(study: Study, configs: Configs, name: str, source: str, claim: Callable[[Compared], str]) -> Outcome:
    """The figure of a parameter that is trained with."""
    ranks = {value: [run.ranks()["fused"] for run in study.of(config)] for value, config in configs(study).items()}
    return drawn(study, ranks, name, source, claim)


def drawn(
    study: Study,
    ranks: Mapping[str, Sequence[Ranks]],
    name: str,
    source: str,
    claim: Callable[[Compared], str],
) -> Outcome:
    """The figure, from the ranks under each value."""
    compared = Compared(ranks, study.targets)
    settings = list(ranks)
    best, second = compared.best_two("hits@20")
    worst = min(settings, key=lambda value: compared.mean(value, "hits@20"))
    spread = 1 - compared.mean(worst, "hits@20") / compared.mean(best, "hits@20")
    test = compared.tests([(best, worst, "hits@20")])[0]
    findings = [
        claim(compared),
        f"Test Hits@20 is highest at {name} = {best} ({percent(compared.mean(best, 'hits@20'))}; next is {second}) and "
        f"lowest at {worst} ({percent(compared.mean(worst, 'hits@20'))}): {told(test)}. "
        f"{'Stable' if spread < _STABLE else 'Not stable'}: best and worst differ by {spread:.1%} of the best (stable: "
        f"under {_STABLE:.0%}).",
        f"Mean over {len(study.seeds)} seed(s). Nothing was chosen by these numbers.",
    ]
    return Outcome(
        title=f"AlterRec over {name}",
        source=source,
        frame=compared.frame(best),
        shown=compared.shown(name),
        findings=findings,
        draw=lambda figure: pictures.parameter(figure, name, settings, compared),
        size=(6, 4),
    )


def trend(compared: Compared, metric: str = "hits@20") -> float:
    """Spearman's rank correlation of the metric with the place of the value: 1 where it only grows, -1 only falls."""
    means = [compared.mean(value, metric) for value in compared.of]
    if np.ptp(means) == 0:
        return 0.0
    return float(scipy.stats.spearmanr(np.arange(len(means)), means).statistic)


def declines(name: str) -> Callable[[Compared], str]:
    """The claim of appendix G for k1 and beta."""

    def claim(compared: Compared) -> str:
        rho = trend(compared)
        return (
            f"The paper's observation, that performance tends to decline as {name} grows, "
            f"{'holds' if rho <= -0.5 else 'does not hold'}: rank correlation of Hits@20 with {name} {rho:+.2f}."
        )

    return claim
