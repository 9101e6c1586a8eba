"""A system over the values of one of its parameters, as a table and a picture with two axes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.stats

from alterrec_jax.config import RunConfig
from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.ranking import Ranks
from alterrec_jax.models.registry import family
from experiments.studies import pictures
from experiments.studies.model_table import Compared, in_words, percent
from experiments.studies.outcome import Outcome
from experiments.studies.study import Run, Study

STABLE = 0.05  # a metric whose best and worst mean differ by less than this share is said to be stable

Configs = Callable[[Study[Any]], Mapping[str, RunConfig]]
"""Of each value, as it is to be read, the configuration."""

Claim = Callable[[Compared], str]
"""Whether what the paper says holds, in a sentence."""


def runs_of(configs: Configs, remedy: str) -> Callable[[Study[Any]], list[Run]]:
    """What has to be trained for the values of a parameter; the remedy is for whoever is left with one value."""

    def runs(study: Study[Any]) -> list[Run]:
        found = [config.check() for config in configs(study).values()]
        if len(found) < 2:
            values = ", ".join(configs(study))
            raise UserError(
                f"of the values that this varies, --config and {study.catalogue} items allow {values} alone, and there "
                f"is nothing to compare; {remedy}"
            )
        return [run for config in found for run in study.of(config)]

    return runs


def outcome_of(study: Study[Any], configs: Configs, name: str, source: str, claim: Claim) -> Outcome:
    """The figure of a parameter that is trained with."""
    ranks = {value: [run.ranks()[run.main] for run in study.of(config)] for value, config in configs(study).items()}
    return drawn(study, ranks, name, source, claim)


def drawn(
    study: Study[Any],
    ranks: Mapping[str, Sequence[Ranks]],
    name: str,
    source: str,
    claim: Claim,
) -> Outcome:
    """The figure, from the ranks under each value."""
    system = family(study.base.family).title
    compared = Compared(ranks, study.targets, study.metrics)
    settings = list(ranks)
    best, second = compared.best_two("hits@20")
    worst = min(reversed(settings), key=lambda value: compared.mean(value, "hits@20"))
    differ = spread([compared.mean(value, "hits@20") for value in settings])
    test = compared.tests([(best, worst, "hits@20")])[0]
    findings = [
        claim(compared),
        f"Test Hits@20 is highest at {name} = {best} ({percent(compared.mean(best, 'hits@20'))}; next is {second}) and "
        f"lowest at {worst} ({percent(compared.mean(worst, 'hits@20'))}): {in_words(test)} (both "
        f"picked after the fact). {'Stable' if differ < STABLE else 'Not stable'}: best and worst differ by "
        f"{differ:.1%} of the best (stable: under {STABLE:.0%}).",
        f"Mean over {len(study.seeds)} seed(s). Nothing was chosen by these numbers.",
    ]
    return Outcome(
        title=f"{system} over {name}",
        source=source,
        frame=compared.frame(best),
        shown=compared.shown(name),
        findings=findings,
        draw=lambda figure: pictures.parameter(figure, name, settings, compared, study.metrics[-1]),
        size=(6, 4),
    )


def spread(means: Sequence[float]) -> float:
    """How far the lowest is below the highest, as a share of the highest; 0 if all are 0."""
    return 1 - min(means) / max(means) if max(means) else 0.0


def trend(compared: Compared, metric: str = "hits@20") -> float:
    """Spearman's rank correlation of the metric with the place of the value: 1 where it only grows, -1 only falls."""
    means = [compared.mean(value, metric) for value in compared.of]
    if np.ptp(means) == 0:
        return 0.0
    return float(scipy.stats.spearmanr(np.arange(len(means)), means).statistic)


def declines(name: str) -> Callable[[Compared], str]:
    """The claim that a system gets worse as a parameter grows."""

    def claim(compared: Compared) -> str:
        rho, first, last = trend(compared), next(iter(compared.of)), list(compared.of)[-1]
        test = compared.tests([(first, last, "hits@20")])[0]
        held = rho <= -0.5 and test.better
        return (
            f"The paper's observation, that performance tends to decline as {name} grows, "
            f"{'holds' if held else 'does not hold'}: rank correlation of Hits@20 with {name} {rho:+.2f} (wanted: "
            f"-0.5 or less), and {name} = {first} less {name} = {last} {in_words(test)}."
        )

    return claim
