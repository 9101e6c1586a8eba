"""The kinds of pictures that the paper has: bars of models, and lines over a parameter or over epochs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.studies.model_table import NAMES, Compared

COLOURS = ("#4477aa", "#ee9944", "#228833", "#aa3377", "#66ccee", "#bbbbbb", "#222222")


def bars(figure: Any, compared: Compared, metrics: Sequence[str] = ("hits@20", "ndcg@20")) -> None:
    """One panel a metric, one bar a model, with the standard deviation over seeds."""
    panels = figure.subplots(1, len(metrics), squeeze=False)[0]
    models = list(compared.of)
    for axes, metric in zip(panels, metrics, strict=True):
        heights = [100 * compared.mean(model, metric) for model in models]
        spread = [np.nan_to_num(100 * compared.sd(model, metric)) for model in models]
        places = np.arange(len(models))
        colours = [COLOURS[place % len(COLOURS)] for place in places]
        axes.barh(places, heights, xerr=spread, color=colours, capsize=3)
        for place, height, sd in zip(places, heights, spread, strict=True):
            axes.annotate(f" {height:.2f}", (height + sd, place), va="center", fontsize=8)
        axes.set_yticks(places, models)
        axes.invert_yaxis()
        axes.set(
            xlabel=f"{NAMES[metric]} (%), test",
            xlim=(0, 1.18 * max(h + s for h, s in zip(heights, spread, strict=True))),
        )


def grouped(figure: Any, compared: Compared, metrics: Sequence[str] = ("hits@20", "ndcg@20")) -> None:
    """One group of bars a metric, one bar a model, with the standard deviation over seeds."""
    axes = figure.subplots()
    models, width = list(compared.of), 0.8 / len(compared.of)
    for number, model in enumerate(models):
        places = np.arange(len(metrics)) + (number - (len(models) - 1) / 2) * width
        heights = [100 * compared.mean(model, metric) for metric in metrics]
        spread = [np.nan_to_num(100 * compared.sd(model, metric)) for metric in metrics]
        drawn = axes.bar(places, heights, 0.92 * width, yerr=spread, capsize=3, color=COLOURS[number], label=model)
        axes.bar_label(drawn, fmt="%.2f", fontsize=8, padding=2)
    axes.set_xticks(range(len(metrics)), [NAMES[metric] for metric in metrics])
    axes.set(ylabel="test (%)")
    axes.margins(y=0.12)
    axes.legend(frameon=False, fontsize=9)


def lines(axes: Any, of: Mapping[str, tuple[Sequence[float], Sequence[float]]], **labels: Any) -> None:
    """One line for each name, from its x and y."""
    for (name, (x, y)), colour in zip(of.items(), COLOURS, strict=False):
        axes.plot(x, y, marker="o", markersize=3, color=colour, label=name)
    axes.set(**labels)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=9)


def parameter(figure: Any, name: str, settings: Sequence[str], compared: Compared, second: str = "ndcg@20") -> None:
    """Hits@20 on the left axis and another metric on the right one over the values of a parameter."""
    left = figure.subplots()
    right = left.twinx()
    places = np.arange(len(settings))
    for axes, metric, colour, style in ((left, "hits@20", COLOURS[0], "-"), (right, second, COLOURS[1], "--")):
        means = np.array([100 * compared.mean(setting, metric) for setting in settings])
        spread = np.nan_to_num([100 * compared.sd(setting, metric) for setting in settings])
        axes.errorbar(places, means, yerr=spread, color=colour, linestyle=style, marker="o", capsize=3)
        axes.set_ylabel(f"{NAMES[metric]} (%), test", color=colour)
        axes.tick_params(axis="y", colors=colour)
        room = max(0.6 * float(np.ptp(means)), 0.04 * float(means.max()), 1.1 * float(spread.max()))
        axes.set_ylim(means.min() - room, means.max() + room)
    left.set_xticks(places, settings)
    left.set_xlabel(name)
    left.grid(alpha=0.3)
