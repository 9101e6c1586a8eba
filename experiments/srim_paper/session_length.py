"""Figure 4 of SRIM's paper: SRIM, DIMO and MSGAT on sessions of up to five items and on longer ones.

python -m experiments.srim_paper.session_length --config=FILE --data_dir=DIR --workdir=DIR
"""

from typing import Any

import numpy as np
import polars as pl

from alterrec_jax.evaluation.groups import target_groups
from experiments.srim_paper import command
from experiments.srim_paper.variants import SRIM, Study
from experiments.studies import pictures
from experiments.studies.model_table import Compared, in_words, percent
from experiments.studies.outcome import Outcome
from experiments.studies.study import Run

_MODELS = ("MSGAT", "DIMO", SRIM)
_METRIC = "hits@20"


def runs(study: Study) -> list[Run]:
    """What has to be trained."""
    return [run for model in _MODELS for run in study.model(model)]


def outcome(study: Study) -> Outcome:
    """The figure."""
    targets = study.targets
    masks = target_groups(targets, study.dataset.splits["test"], study.dataset.train_counts)["session_length"]
    masks = {f"{label} items": mask for label, mask in masks.items() if mask.any()}
    ranks = {model: study.ranks(model) for model in _MODELS}
    groups = {
        label: Compared({model: [one[mask] for one in of] for model, of in ranks.items()}, targets[mask], (_METRIC,))
        for label, mask in masks.items()
    }
    others = _MODELS[:-1]
    tests = {label: group.tests([(SRIM, other, _METRIC) for other in others]) for label, group in groups.items()}
    held = all(test.better for of_group in tests.values() for test in of_group)
    findings = [
        "The paper's observation, that SRIM is the best on short and on long sessions, "
        f"{'holds' if held else 'does not hold in full'} on this data.",
        *(
            f"Sessions of {label}, {int(masks[label].sum()):,} targets: SRIM less {other} in Hits@20 {in_words(test)}."
            for label, of_group in tests.items()
            for other, test in zip(others, of_group, strict=True)
        ),
    ]
    rows = [
        {
            "session_length": label,
            "targets": int(masks[label].sum()),
            "model": model,
            "metric": _METRIC,
            "mean": group.mean(model, _METRIC),
            "sd": group.sd(model, _METRIC),
        }
        for label, group in groups.items()
        for model in _MODELS
    ]
    shown = [
        ["sessions of", "targets", *_MODELS],
        *(
            [label, f"{int(masks[label].sum()):,}"]
            + [percent(group.mean(model, _METRIC), group.sd(model, _METRIC)) for model in _MODELS]
            for label, group in groups.items()
        ),
    ]
    return Outcome(
        title="Hits@20 on short and long sessions, in percent",
        source="Figure 4 of SRIM's paper",
        frame=pl.DataFrame(rows),
        shown=shown,
        findings=findings,
        draw=lambda figure: _draw(figure, groups),
        size=(7, 4),
    )


def _draw(figure: Any, groups: dict[str, Compared]) -> None:
    """One group of bars a length, one bar a model, with the standard deviation over seeds."""
    axes, width = figure.subplots(), 0.8 / len(_MODELS)
    for number, model in enumerate(_MODELS):
        places = np.arange(len(groups)) + (number - (len(_MODELS) - 1) / 2) * width
        heights = [100 * group.mean(model, _METRIC) for group in groups.values()]
        spread = [np.nan_to_num(100 * group.sd(model, _METRIC)) for group in groups.values()]
        bars = axes.bar(
            places, heights, 0.92 * width, yerr=spread, capsize=3, color=pictures.COLOURS[number], label=model
        )
        axes.bar_label(bars, fmt="%.2f", fontsize=8, padding=2)
    axes.set_xticks(range(len(groups)), list(groups))
    axes.set(ylabel="Hits@20 (%), test", xlabel="length of the session")
    axes.margins(y=0.12)
    axes.legend(frameon=False, fontsize=9)


if __name__ == "__main__":
    command.run("session_length", runs, outcome)
