"""Figure 6: the share of test targets by their popularity in training, and the improvement over a reference in each.

python -m experiments.paper.long_tail --config=FILE --data_dir=DIR --workdir=DIR --reference=SASRec
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from absl import flags

from alterrec_jax.errors import UserError, nearest
from alterrec_jax.evaluation.groups import target_groups
from alterrec_jax.evaluation.intervals import Bootstrap
from alterrec_jax.evaluation.significance import Comparison, Paired, compare
from experiments.paper import command
from experiments.paper.variants import VARIANTS, Study
from experiments.studies import pictures
from experiments.studies.baselines import BASELINES
from experiments.studies.model_table import NAMES, Compared, in_words
from experiments.studies.outcome import Outcome
from experiments.studies.study import Run

_MAIN = "AlterRec"
_MODELS = (_MAIN, "AlterRec_aug", "NFRec (concat)")
_LARGE = 0.05  # the share of the targets that a group must have for a claim to rest on it
_METRICS = ("hits@20", "ndcg@20")

_REFERENCE = flags.DEFINE_string(
    "reference", "SASRec", "The model that improvements are over; the paper's is BERT4Rec. Any of the study's models."
)


def runs(study: Study) -> list[Run]:
    """What has to be trained."""
    if _REFERENCE.value not in {*VARIANTS, *BASELINES}:
        raise UserError(f"--reference={_REFERENCE.value}: {nearest(_REFERENCE.value, [*VARIANTS, *BASELINES])}")
    if _REFERENCE.value == _MAIN:
        raise UserError(f"--reference={_MAIN} is what the figure is about; name another model")
    return [run for model in (*_MODELS, _REFERENCE.value) if model in VARIANTS for run in study.model(model)]


def outcome(study: Study) -> Outcome:
    """The figure."""
    reference, targets = _REFERENCE.value, study.targets
    models = [model for model in _MODELS if model != reference]
    ranks = {model: study.ranks(model) for model in (*models, reference)}
    masks = target_groups(targets, study.dataset.splits["test"], study.dataset.train_counts)["popularity"]
    masks = {label: mask for label, mask in masks.items() if mask.any()}
    groups = {
        label: Compared({m: [r[mask] for r in of] for m, of in ranks.items()}, targets[mask], _METRICS)
        for label, mask in masks.items()
    }
    shares = [float(mask.mean()) for mask in masks.values()]
    gains = {
        metric: {model: [_gain(groups[label], model, reference, metric) for label in masks] for model in models}
        for metric in _METRICS
    }
    rows = [
        {
            "training_purchases": label,
            "targets": int(mask.sum()),
            "share": share,
            "model": model,
            "metric": metric,
            "mean": groups[label].mean(model, metric),
            "reference": groups[label].mean(reference, metric),
            "improvement_percent": gains[metric][model][place],
        }
        for place, ((label, mask), share) in enumerate(zip(masks.items(), shares, strict=True))
        for metric in _METRICS
        for model in models
    ]
    family = [
        Paired(of[_MAIN]["hits@20"].mean(axis=0), of[reference]["hits@20"].mean(axis=0), targets.session[mask])
        for of, mask in ((groups[label].of, mask) for label, mask in masks.items())
    ]
    tests = dict(zip(masks, compare(family, Bootstrap()), strict=True))
    large = {
        label: gain
        for label, gain, share in zip(masks, gains["hits@20"][_MAIN], shares, strict=True)
        if share >= _LARGE
    }
    findings = [
        _claim(large, tests, reference) + f" Groups with less than {_LARGE:.0%} of the targets are left out of this.",
        *(
            f"{label} training purchases, {share:.0%} of the targets: {_MAIN} minus {reference} in Hits@20 "
            f"{in_words(tests[label])}."
            for label, share in zip(masks, shares, strict=True)
        ),
    ]
    head = ["training purchases", "share", *(f"{model}, {NAMES[metric]}" for metric in _METRICS for model in models)]
    shown = [
        [
            label,
            f"{share:.1%}",
            *(_gain_in_words(gains[metric][model][place]) for metric in _METRICS for model in models),
        ]
        for place, (label, share) in enumerate(zip(masks, shares, strict=True))
    ]

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, len(_METRICS), squeeze=False)[0]
        for axes, metric in zip(panels, _METRICS, strict=True):
            _panel(axes, list(masks), shares, gains[metric], f"{NAMES[metric]}: improvement over {reference} (%)")

    return Outcome(
        title=f"Improvement over {reference} by popularity of the target, in percent",
        source="Figure 6 of the paper, whose reference is BERT4Rec",
        frame=pl.DataFrame(rows),
        shown=[head, *shown],
        findings=findings,
        draw=draw,
        size=(12, 4.5),
    )


def _claim(gains: Mapping[str, float], tests: Mapping[str, Comparison], reference: str) -> str:
    """Whether the rarest group gains most, and more than chance explains; groups from the rarest on."""
    observed = "The paper's observation, that long-tail items gain most,"
    judged = {label: gain for label, gain in gains.items() if not np.isnan(gain)}
    if len(judged) < 2:
        return f"{observed} cannot be judged on this data: fewer than two groups have targets that a model finds."
    most = max(judged, key=lambda label: judged[label])
    verdict = "does not hold"
    if most == next(iter(gains)):
        verdict = "holds" if tests[most].better else "is neither confirmed nor contradicted"
    return (
        f"{observed} {verdict} on this data: the relative change of Hits@20 from "
        f"{reference} to {_MAIN} is best on targets with {most} training purchases (in percent: "
        f"{_gain_in_words(judged[most])})."
    )


def _gain(compared: Compared, model: str, reference: str, metric: str) -> float:
    """In percent of the reference; infinite where only the model has something, nan where neither has."""
    of_model, of_reference = compared.mean(model, metric), compared.mean(reference, metric)
    if not of_reference:
        return float("inf") if of_model else float("nan")
    return 100 * (of_model / of_reference - 1)


def _gain_in_words(gain: float) -> str:
    return "-" if np.isnan(gain) else "from 0" if np.isinf(gain) else f"{gain:+.1f}"


def _panel(axes: Any, labels: list[str], shares: list[float], gains: dict[str, list[float]], what: str) -> None:
    """Bars for the shares on the left axis, a line for each model on the right one."""
    places = list(range(len(labels)))
    axes.bar(places, [100 * share for share in shares], color="#dddddd", width=0.7)
    axes.set_xticks(places, labels, fontsize=9)
    axes.set(xlabel="purchases of the target in training", ylabel="share of the test targets (%, bars)")
    right = axes.twinx()
    pictures.lines(right, {model: (places, _finite(values)) for model, values in gains.items()}, ylabel=what)
    right.axhline(0, color="black", linewidth=0.6)


def _finite(values: list[float]) -> list[float]:
    """What can be drawn; nan, which leaves a gap, for the rest."""
    return [value if np.isfinite(value) else float("nan") for value in values]


if __name__ == "__main__":
    command.run("long_tail", runs, outcome)
