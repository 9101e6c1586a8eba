"""Table 2: AlterRec with random negatives, without text and without ID; and both networks trained apart, in two ways.

python -m experiments.paper.ablation --config=FILE --data_dir=DIR --workdir=DIR
"""

from experiments.paper import command
from experiments.paper.variants import Study
from experiments.studies import pictures
from experiments.studies.model_table import Compared, in_words
from experiments.studies.outcome import Outcome
from experiments.studies.study import Run

FULL = "AlterRec"
ABLATED = ("AlterRec_random", "AlterRec_w/o_text", "AlterRec_w/o_ID")
CONTROLS = ("Independent, fused", "Independent, self-mined, fused")
_OTHERS = (*ABLATED, *CONTROLS)
_MODELS = (FULL, *_OTHERS)


def runs(study: Study) -> list[Run]:
    """What has to be trained."""
    return [run for model in _MODELS for run in study.model(model)]


def outcome(study: Study) -> Outcome:
    """The table."""
    ranks = {model: study.ranks(model) for model in _MODELS}
    compared = Compared(ranks, study.targets)
    tests = compared.tests([(FULL, model, "hits@20") for model in _OTHERS])
    findings = []
    for model, test in zip(_OTHERS, tests, strict=True):
        better = "better than" if test.difference > 0 else "worse than"
        verdict = better if test.significant else "not significantly different from"
        findings.append(f"{FULL} is {verdict} {model} in Hits@20: {in_words(test)}.")
    held = all(test.better for test in tests[: len(ABLATED)])
    findings.append(
        f"The paper's observation, that every part helps, {'holds' if held else 'does not hold in full'} on this data. "
        "The paper has no independent networks that are fused: here they take the same turns, by full softmax, or each "
        "on windows of its own ranking. The difference from these is what learning from each other brings, or costs."
    )
    return Outcome(
        title="Ablation",
        source="Table 2 of the paper",
        frame=compared.frame(FULL),
        shown=compared.shown(),
        findings=findings,
        draw=lambda figure: pictures.bars(figure, compared),
        size=(10, 3.5),
    )


if __name__ == "__main__":
    command.run("ablation", runs, outcome)
