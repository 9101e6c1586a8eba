"""Figures 2 and 8: naive fusion against each of its networks trained alone, the encoders being the same.

python -m experiments.paper.naive_vs_independent --config=FILE --data_dir=DIR --workdir=DIR
"""

from experiments.paper import command
from experiments.paper.variants import Study
from experiments.studies import pictures
from experiments.studies.model_table import Compared, in_words, percent
from experiments.studies.outcome import Outcome
from experiments.studies.study import Run

_ID, _TEXT = "ID only (mean)", "text only (mean)"
_FUSED = ("NFRec (sum)", "NFRec (concat)")
_MODELS = (_ID, _TEXT, *_FUSED)


def runs(study: Study) -> list[Run]:
    """What has to be trained."""
    return [run for model in _MODELS for run in study.model(model)]


def outcome(study: Study) -> Outcome:
    """The figure."""
    compared = Compared({model: study.ranks(model) for model in _MODELS}, study.targets)
    tests = dict(
        zip(
            [*_FUSED, _TEXT],
            compared.tests([*((model, _ID, "hits@20") for model in _FUSED), (_ID, _TEXT, "hits@20")]),
            strict=True,
        )
    )
    gains = {model: tests[model] for model in _FUSED}
    better = [model for model, test in gains.items() if test.better]
    first = "holds"
    if better:
        first = f"does not hold: {' and '.join(better)} did better"
    elif any(test.difference > 0 for test in gains.values()):
        first = "is not contradicted: where naive fusion did better, it may be chance"
    worst = min(_MODELS, key=lambda model: compared.mean(model, "hits@20"))
    second = "holds" if worst == _TEXT and tests[_TEXT].significant else "does not hold"
    findings = [
        f"Observation 1, ID only does as well as naive fusion or better, {first}. "
        + "; ".join(f"{model} minus {_ID} in Hits@20: {in_words(test)}" for model, test in gains.items())
        + ".",
        f"Observation 2, text only is worst and behind ID only, {second}: it has "
        f"{percent(compared.mean(_TEXT, 'hits@20'))} against {percent(compared.mean(_ID, 'hits@20'))} "
        f"({_ID} minus {_TEXT}: {in_words(tests[_TEXT])}); the worst is {worst}.",
    ]
    return Outcome(
        title="Naive fusion against networks trained alone",
        source="Figures 2 and 8 of the paper; all four with the mean as session encoder and softmax over the catalogue",
        frame=compared.frame(_ID),
        shown=compared.shown(),
        findings=findings,
        draw=lambda figure: pictures.grouped(figure, compared),
        size=(7, 4),
    )


if __name__ == "__main__":
    command.run("naive_vs_independent", runs, outcome)
