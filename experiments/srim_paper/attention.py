"""Figure 5 of SRIM's paper: no attention, queries that are the keys, and queries that are mapped.

python -m experiments.srim_paper.attention --config=FILE --data_dir=DIR --workdir=DIR
"""

from experiments.srim_paper import command
from experiments.srim_paper.variants import SRIM, WITHOUT_ATTENTION, Study
from experiments.studies import pictures
from experiments.studies.model_table import NAMES, Compared, in_words
from experiments.studies.outcome import Outcome
from experiments.studies.study import Run

_MODELS = {WITHOUT_ATTENTION: WITHOUT_ATTENTION, "SRIM-LinAtt": "SRIM-DirAtt", "SRIM (direct attention)": SRIM}
"""By the names that the figure gives them; its SRIM-LinAtt is what Table 3 calls SRIM-DirAtt."""

_METRICS = ("hits@20", "mrr@20")


def runs(study: Study) -> list[Run]:
    """What has to be trained."""
    return [run for model in _MODELS.values() for run in study.model(model)]


def outcome(study: Study) -> Outcome:
    """The figure."""
    ranks = {shown: study.ranks(model) for shown, model in _MODELS.items()}
    compared = Compared(ranks, study.targets, study.metrics)
    without, linear, direct = _MODELS
    pairs = [pair for metric in _METRICS for pair in ((direct, linear, metric), (linear, without, metric))]
    tests = compared.tests(pairs)
    held = all(test.better for test in tests)
    findings = [
        "The paper's observation, that mapped queries are better than raw ones and these than no attention, "
        f"{'holds' if held else 'does not hold in full'} on this data.",
        *(
            f"{one} less {other}, {NAMES[metric]}: {in_words(test)}."
            for (one, other, metric), test in zip(pairs, tests, strict=True)
        ),
    ]
    return Outcome(
        title="Self-attention of SRIM",
        source="Figure 5 of SRIM's paper",
        frame=compared.frame(direct),
        shown=compared.shown(),
        findings=findings,
        draw=lambda figure: pictures.grouped(figure, compared, _METRICS),
        size=(7, 4),
    )


if __name__ == "__main__":
    command.run("attention", runs, outcome)
