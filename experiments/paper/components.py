"""Figure 5: AlterRec and its two networks on test, epoch by epoch.

python -m experiments.paper.components --config=FILE --data_dir=DIR --workdir=DIR
"""

from experiments.paper import command
from experiments.paper.by_epoch import ByEpoch
from experiments.paper.variants import Study
from experiments.studies.model_table import Compared, in_words, percent
from experiments.studies.outcome import Outcome
from experiments.studies.study import Run

_MODEL, _NAIVE = "AlterRec", "NFRec (concat)"
_NAMES = {"fused": "AlterRec", "id": "ID in AlterRec", "text": "text in AlterRec"}


def runs(study: Study) -> list[Run]:
    """What has to be trained; the run of the first seed is drawn."""
    return [*study.model(_MODEL), *study.model(_NAIVE)]


def outcome(study: Study) -> Outcome:
    """The figure."""
    of = ByEpoch(study.model(_MODEL)[0], _NAMES)
    ranks = {_NAMES[view]: [run.ranks()[view] for run in study.model(_MODEL)] for view in _NAMES}
    ranks["text in NFRec"] = [run.ranks()["text"] for run in study.model(_NAIVE)]
    compared = Compared(ranks, study.targets)
    tests = compared.tests(
        [
            ("AlterRec", "ID in AlterRec", "hits@20"),
            ("AlterRec", "text in AlterRec", "hits@20"),
            ("text in AlterRec", "text in NFRec", "hits@20"),
        ]
    )
    fused = all(test.better for test in tests[:2])
    trained = tests[2].better
    findings = [
        f"The paper's observation, that both parts are trained effectively and AlterRec has no imbalance, "
        f"{'holds' if fused and trained else 'does not hold in full'}.",
        f"At the best epoch, mean of {len(study.seeds)} seed(s), in test Hits@20: AlterRec minus ID in AlterRec "
        f"{in_words(tests[0])}; AlterRec minus text in AlterRec {in_words(tests[1])}.",
        f"The text network reaches {percent(compared.mean('text in AlterRec', 'hits@20'))}, the text part of NFRec "
        f"{percent(compared.mean('text in NFRec', 'hits@20'))} ({in_words(tests[2])}).",
        f"The curves and the table are of the run of seed {study.seeds[0]}. Nothing was chosen by the test curve: "
        "every epoch was kept, and ranked when the run was over.",
    ]
    return Outcome(
        title="The two networks of AlterRec during training",
        source="Figure 5 of the paper",
        frame=of.frame(),
        shown=of.shown(),
        findings=findings,
        draw=of.draw,
        size=(7, 4),
    )


if __name__ == "__main__":
    command.run("components", runs, outcome)
