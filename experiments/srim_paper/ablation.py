"""Table 3 of SRIM's paper: SRIM without alignment, without joint inference, and with queries that are the keys.

python -m experiments.srim_paper.ablation --config=FILE --data_dir=DIR --workdir=DIR
"""

from experiments.srim_paper import command
from experiments.srim_paper.variants import ABLATED, SRIM, Study
from experiments.studies import pictures
from experiments.studies.model_table import Compared, in_words
from experiments.studies.outcome import Outcome
from experiments.studies.study import Run

_MODELS = (SRIM, *ABLATED)


def runs(study: Study) -> list[Run]:
    """What has to be trained."""
    return [run for model in _MODELS for run in study.model(model)]


def outcome(study: Study) -> Outcome:
    """The table."""
    compared = Compared({model: study.ranks(model) for model in _MODELS}, study.targets, study.metrics)
    pairs = [(SRIM, model, metric) for model in ABLATED for metric in ("hits@20", "mrr@20")]
    tests = dict(zip(pairs, compared.tests(pairs), strict=True))
    findings = [
        f"{SRIM} less {model}: Hits@20 {in_words(tests[SRIM, model, 'hits@20'])}; "
        f"MRR@20 {in_words(tests[SRIM, model, 'mrr@20'])}."
        for model in ABLATED
    ]
    most = max(ABLATED, key=lambda model: tests[SRIM, model, "hits@20"].difference)
    helps = all(tests[SRIM, model, "hits@20"].better for model in ABLATED)
    findings += [
        f"The paper's observation, that every part helps, {'holds' if helps else 'does not hold in full'} here.",
        "The paper's observation, that the attention's own queries matter most, "
        f"{_verdict(most == 'SRIM-DirAtt', tests[SRIM, 'SRIM-DirAtt', 'hits@20'].better)}: Hits@20 falls most without "
        f"what {most} lacks.",
    ]
    return Outcome(
        title="Ablation of SRIM",
        source="Table 3 of SRIM's paper",
        frame=compared.frame(SRIM),
        shown=compared.shown(),
        findings=findings,
        draw=lambda figure: pictures.bars(figure, compared, ("hits@20", "mrr@20")),
        size=(10, 3.5),
    )


def _verdict(most: bool, better: bool) -> str:
    if most and better:
        return "holds on this data"
    return "is neither confirmed nor contradicted on this data" if most else "does not hold on this data"


if __name__ == "__main__":
    command.run("ablation", runs, outcome)
