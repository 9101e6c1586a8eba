"""Models side by side: mean and standard deviation over seeds, and paired tests over sessions.

A cell is in bold only if it is the best of its column and every other is worse by more than chance: by the sign-flip
test over test sessions, values averaged over the seeds before, with Holm's correction over the whole table. Such a test
speaks of the runs that were trained, not of what other seeds would have given: the deviation over seeds tells of that.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from alterrec_jax.data.targets import Targets
from alterrec_jax.evaluation.intervals import LEVEL, Bootstrap
from alterrec_jax.evaluation.ranking import Ranks
from alterrec_jax.evaluation.significance import Comparison, Paired, compare, holm, paired_p_value
from experiments.studies.study import METRICS, values

NAMES = {
    f"{metric}@{k}": f"{name}@{k}"
    for metric, name in (("hits", "Hits"), ("ndcg", "NDCG"), ("mrr", "MRR"))
    for k in (10, 20)
}


class Compared:
    """Models on the same targets.

    Attributes:
      of: for each model and metric, float64 [seed, target].
    """

    def __init__(self, ranks: Mapping[str, Sequence[Ranks]], targets: Targets, metrics: Sequence[str] = METRICS):
        """`ranks`: of each model, one a seed, or a single one where chance has no part."""
        self.of = {model: values(of_seeds) for model, of_seeds in ranks.items()}
        self._session, self._metrics = targets.session, tuple(metrics)

    def mean(self, model: str, metric: str) -> float:
        """Over seeds and targets."""
        return float(self.of[model][metric].mean())

    def sd(self, model: str, metric: str) -> float:
        """Over seeds, of the means over targets; nan for a single seed."""
        means = self.of[model][metric].mean(axis=1)
        return float(means.std(ddof=1)) if len(means) > 1 else float("nan")

    def tests(self, pairs: Sequence[tuple[str, str, str]]) -> list[Comparison]:
        """Compares the models of each (model, model, metric), as one family."""
        family = [
            Paired(self.of[a][metric].mean(axis=0), self.of[b][metric].mean(axis=0), self._session)
            for a, b, metric in pairs
        ]
        return compare(family, Bootstrap()) if family else []

    def best_two(self, metric: str) -> list[str]:
        """The two best models by the mean, the best first."""
        return sorted(self.of, key=lambda model: -self.mean(model, metric))[:2]

    def bold(self) -> dict[str, str]:
        """Of each metric, the model that beats every other one by more than chance; none where no model does."""
        best = {metric: self.best_two(metric)[0] for metric in self._metrics}
        pairs = [(best[metric], model, metric) for metric in best for model in self.of if model != best[metric]]
        p_values = [
            paired_p_value(self.of[a][metric].mean(axis=0) - self.of[b][metric].mean(axis=0), self._session)
            for a, b, metric in pairs
        ]
        adjusted = holm(p_values).tolist() if pairs else []  # no intervals, which take longer and are not shown here
        chance = {metric for (_, _, metric), p in zip(pairs, adjusted, strict=True) if p > 1 - LEVEL}
        return {metric: model for metric, model in best.items() if metric not in chance and len(self.of) > 1}

    def frame(self, reference: str) -> pl.DataFrame:
        """One row a model and metric: mean, sd, and the reference minus it, with its interval and p-values."""
        others = [model for model in self.of if model != reference]
        pairs = [(reference, model, metric) for model in others for metric in self._metrics]
        found = dict(zip(pairs, self.tests(pairs), strict=True))
        rows = []
        for model in self.of:
            for metric in self._metrics:
                test = found.get((reference, model, metric))
                rows.append(
                    {
                        "model": model,
                        "metric": metric,
                        "seeds": len(self.of[model][metric]),
                        "mean": self.mean(model, metric),
                        "sd": self.sd(model, metric),
                        f"{reference} minus this": test and test.difference,
                        "low": test and test.interval[0],
                        "high": test and test.interval[1],
                        "p": test and test.p,
                        "p_holm": test and test.adjusted_p,
                    }
                )
        return pl.DataFrame(rows)

    def shown(self, head: str = "model") -> list[list[str]]:
        """Percent, mean and standard deviation, as the paper's tables have them."""
        bold = self.bold()
        rows = [[head, *(NAMES[metric] for metric in self._metrics)]]
        for model in self.of:
            cells = [percent(self.mean(model, metric), self.sd(model, metric)) for metric in self._metrics]
            marked = [
                f"**{cell}**" if bold.get(metric) == model else cell
                for cell, metric in zip(cells, self._metrics, strict=True)
            ]
            rows.append([model, *marked])
        return rows


def percent(mean: float, sd: float = float("nan")) -> str:
    """12.34 ± 0.05, of shares."""
    return f"{100 * mean:.2f}" + ("" if np.isnan(sd) else f" ± {100 * sd:.2f}")


def in_words(test: Comparison) -> str:
    """A difference in percent points with its interval and p-value, for a sentence."""
    p = "< 0.001" if test.adjusted_p < 0.001 else f"= {test.adjusted_p:.3f}"
    low, high = test.interval
    return f"{100 * test.difference:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}] points, p {p}"
