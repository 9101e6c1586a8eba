"""Table 1, for the models that exist here: AlterRec, naive fusion, networks trained apart, SASRec, and counting.

python -m experiments.paper.comparison --config=FILE --data_dir=DIR --workdir=DIR
"""

from experiments.paper import command, pictures
from experiments.paper.baselines import BASELINES
from experiments.paper.compared import METRICS, NAMES, Compared, told
from experiments.paper.outcome import Outcome
from experiments.paper.study import Run, Study

_MAIN = "AlterRec"
_TRAINED = ("SASRec", "NFRec (sum)", "NFRec (concat)", "Independent, fused", _MAIN, "AlterRec_aug")


def runs(study: Study) -> list[Run]:
    """What has to be trained."""
    return [run for model in _TRAINED for run in study.model(model)]


def outcome(study: Study) -> Outcome:
    """The table."""
    models = (*BASELINES, *_TRAINED)
    compared = Compared({model: study.ranks(model) for model in models}, study.targets)
    others = [model for model in models if not model.startswith(_MAIN)]
    bold = compared.bold()
    findings = []
    for metric in METRICS:
        best = max(others, key=lambda model: compared.mean(model, metric))
        test = compared.tests([(_MAIN, best, metric)])[0]
        findings.append(f"{NAMES[metric]}: {_MAIN} - {best}, the best of the others: {told(test)} (not corrected).")
    wins = all(bold.get(metric, "").startswith(_MAIN) for metric in METRICS)
    findings.append(
        "The paper's observation, that AlterRec and AlterRec_aug are the best of all, "
        f"{'holds' if wins else 'does not hold in full'} on this data. Bold: better than the second best by more than "
        "chance (Holm over the columns)."
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


if __name__ == "__main__":
    command.run("comparison", runs, outcome)
