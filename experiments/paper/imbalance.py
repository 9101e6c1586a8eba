"""Figures 3 and 9: what the ID and the text part of naive fusion can do, and their training loss, epoch by epoch.

python -m experiments.paper.imbalance --config=FILE --data_dir=DIR --workdir=DIR
"""

import numpy as np

from experiments.paper import command
from experiments.paper.by_epoch import ByEpoch
from experiments.paper.variants import Study
from experiments.studies.model_table import percent
from experiments.studies.outcome import Outcome
from experiments.studies.study import Run

_MODEL = "NFRec (concat)"
_NEAR = 0.05  # curves that differ by less than this share, on average over the epochs, are said to overlap
_NAMES = {"fused": "NFRec", "id": "ID in NFRec", "text": "text in NFRec"}


def runs(study: Study) -> list[Run]:
    """What has to be trained: one run of naive fusion is drawn, that of the first seed."""
    return study.model(_MODEL)[:1]


def outcome(study: Study) -> Outcome:
    """The figure."""
    of = ByEpoch(runs(study)[0], _NAMES)
    gaps = {
        name: {part: _gap(curve[part], curve["fused"]) for part in ("id", "text")}
        for name, curve in (("Hits@20", of.hits), ("training loss", of.losses))
    }
    dominated = all(gap["id"] < _NEAR and gap["id"] < gap["text"] for gap in gaps.values())
    last = {part: of.hits[part][-1] for part in _NAMES}
    findings = [
        f"The paper's observation, that the ID part nearly overlaps with NFRec while text contributes little, "
        f"{'holds' if dominated else 'does not hold in full'}: over the epochs the ID part is off NFRec by "
        f"{gaps['Hits@20']['id']:.1%} in test Hits@20 and {gaps['training loss']['id']:.1%} in training loss, the text "
        f"part by {gaps['Hits@20']['text']:.1%} and {gaps['training loss']['text']:.1%} (overlap: under {_NEAR:.0%}).",
        f"After the last epoch, test Hits@20 in percent: NFRec {percent(last['fused'])}, ID in NFRec "
        f"{percent(last['id'])}, text in NFRec {percent(last['text'])}.",
        "Parts are scored by eqs. 7-8, which are exact here (mean encoder, concatenation). The loss is the "
        "cross-entropy over the catalogue of a fixed sample of training targets. Nothing was chosen by the test curve: "
        f"every epoch was kept, and ranked when the run was over. One run is drawn, that of seed {study.seeds[0]}.",
    ]
    return Outcome(
        title="Imbalance in naive fusion",
        source="Figures 3 and 9 of the paper",
        frame=of.frame(),
        shown=of.shown(),
        findings=findings,
        draw=of.draw_with_loss,
        size=(10, 4),
    )


def _gap(part: np.ndarray, whole: np.ndarray) -> float:
    """How far one curve is off another on average, as a share of it; epochs in which that is at 0 do not count."""
    there = whole > 0
    return float(np.mean(np.abs(part - whole)[there] / whole[there])) if there.any() else float("nan")


if __name__ == "__main__":
    command.run("imbalance", runs, outcome)
