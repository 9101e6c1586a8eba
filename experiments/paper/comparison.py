"""Table 1, for the models that exist here: AlterRec, naive fusion, networks trained apart, SASRec, and counting.

python -m experiments.paper.comparison --config=FILE --data_dir=DIR --workdir=DIR
"""

from experiments.paper import command
from experiments.paper.variants import Study, augmented
from experiments.studies import pictures
from experiments.studies.model_table import NAMES, Compared, in_words
from experiments.studies.outcome import Outcome
from experiments.studies.study import Run

_OWN = ("AlterRec", "AlterRec_aug")
_MAIN = _OWN[0]
_COUNTED = ("Popularity", "Association rules (last item)", "Co-occurrence (whole session)", "V-SkNN")
_TRAINED = ("SASRec", "NFRec (sum)", "NFRec (concat)", "Independent, fused", *_OWN)


def runs(study: Study) -> list[Run]:
    """What has to be trained."""
    return [run for model in _TRAINED for run in study.model(model)]


def outcome(study: Study) -> Outcome:
    """The table."""
    models = (*_COUNTED, *_TRAINED)
    compared = Compared({model: study.ranks(model) for model in models}, study.targets)
    best = {metric: _best_of_others(compared, metric) for metric in study.metrics}
    pairs = [(own, best[metric], metric) for metric in study.metrics for own in _OWN]
    tests = dict(zip(pairs, compared.tests(pairs), strict=True))
    findings = [
        f"{NAMES[metric]}, against {best[metric]}, the best of the others: "
        + "; ".join(f"{own} {in_words(tests[own, best[metric], metric])}" for own in _OWN)
        + "."
        for metric in study.metrics
    ]
    wins = all(test.better for test in tests.values())
    findings.append(
        "The paper's observation, that AlterRec and AlterRec_aug are the best of all, "
        f"{'holds' if wins else 'does not hold in full'} on this data (p by Holm over these {len(tests)} comparisons). "
        "Bold: better than every other by more than chance (Holm over the table). "
        f"k1 is {study.base.mining.k1} for AlterRec and {augmented(study.base).mining.k1} for AlterRec_aug, "
        "whose positives must not be negatives too."
    )
    return Outcome(
        title="Comparison",
        source="Table 1 of the paper",
        frame=compared.frame(_MAIN),
        shown=compared.shown(),
        findings=findings,
        draw=lambda figure: pictures.bars(figure, compared),
        size=(12, 4.5),
    )


def _best_of_others(compared: Compared, metric: str) -> str:
    return max((model for model in compared.of if model not in _OWN), key=lambda model: compared.mean(model, metric))


if __name__ == "__main__":
    command.run("comparison", runs, outcome)
