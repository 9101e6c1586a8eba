"""Draws the facts about a dataset into one picture."""

import pathlib
from typing import Any

import numpy as np

from alterrec_jax.data.dataset import SPLITS
from alterrec_jax.runtime import files
from alterrec_jax.runtime.printable import printable
from data_tools.description import Facts, top_share

_COLOURS = {"train": "#4477aa", "validation": "#ee9944", "test": "#228833"}
_OF_CATALOGUE, _OF_TEXTS, _OF_COVERAGE = "#66557a", "#998877", "#557788"


def draw(facts: Facts, path: pathlib.Path) -> None:
    """Writes a PNG with session lengths, item popularity, shares of targets, and what is known of the items."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2)
    _lengths(axes[0, 0], facts)
    _popularity(axes[0, 1], facts)
    _targets(axes[1, 0], facts)
    _items(axes[1, 1], facts)
    figure.suptitle(_wrapped(printable(facts.name)), fontsize=13, parse_math=False)  # a folder may have two $
    with files.replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=110)


def _lengths(axes: Any, facts: Facts) -> None:
    longest = max(int(facts.splits[split].lengths.max(initial=1)) for split in SPLITS)
    lengths = np.arange(1, longest + 1)
    for split in SPLITS:
        part = facts.splits[split].lengths
        at_least = 1.0 - np.searchsorted(np.sort(part), lengths, side="left") / max(len(part), 1)
        axes.step(lengths, at_least, where="post", color=_COLOURS[split], label=f"{split} ({len(part):,} sessions)")
    axes.set(xscale="log", ylim=(0, 1.03), title="Session length")
    axes.set(xlabel="items in a session", ylabel="sessions at least so long")
    axes.yaxis.set_major_formatter(_percent())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.legend()
    axes.grid(alpha=0.3)


def _popularity(axes: Any, facts: Facts) -> None:
    counts = facts.popularity
    axes.plot(np.arange(1, len(counts) + 1), np.maximum(counts, 0.5), color=_OF_CATALOGUE)
    axes.set(
        xscale="log",
        yscale="log",
        title=f"Item popularity: the first 10% has {top_share(counts, 0.1):.0%} of the interactions",
        xlabel="items of the catalogue, the most frequent first",
        ylabel="training interactions",
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else "0")
    axes.grid(alpha=0.3)


def _targets(axes: Any, facts: Facts) -> None:
    labels = {"repeats": "already in\nthe session", "new_targets": "outside the\ncatalogue"}
    width = 0.26
    for column, split in enumerate(SPLITS):
        part = facts.splits[split]
        shares = [getattr(part, field) / max(part.targets, 1) for field in labels]
        places = np.arange(len(labels)) + (column - 1) * width
        bars = axes.bar(places, shares, width, color=_COLOURS[split], label=split)
        axes.bar_label(bars, [f"{share:.1%}" for share in shares], padding=2, fontsize=9)
    highest = max(getattr(part, field) / max(part.targets, 1) for part in facts.splits.values() for field in labels)
    axes.set(title="Targets", ylabel="share of the targets", ylim=(0, max(0.05, highest * 1.35)))
    axes.set_xticks(np.arange(len(labels)), labels.values())
    axes.yaxis.set_major_formatter(_percent())
    axes.legend(ncols=3, loc="upper center")


def _items(axes: Any, facts: Facts) -> None:
    alone = facts.items - facts.without_text - facts.sharing_text
    rows = {
        "in the catalogue": facts.catalogue,
        "held-out sessions only": facts.items - facts.catalogue,
        "with a text of their own": alone,
        "sharing a text": facts.sharing_text,
        "without text": facts.without_text,
    }
    known = {f"with {name}": round(share * facts.catalogue) for name, share, _ in facts.coverage if name != "text"}
    colours = [_OF_CATALOGUE] * 2 + [_OF_TEXTS] * 3 + [_OF_COVERAGE] * len(known)
    bars = axes.barh([*rows, *known], [*rows.values(), *known.values()], color=colours)
    labels = [f"{value:,} ({value / max(facts.items, 1):.1%})" for value in rows.values()]
    labels += [f"{value:,} ({value / max(facts.catalogue, 1):.1%} of the catalogue)" for value in known.values()]
    axes.bar_label(bars, labels, padding=3, fontsize=9)
    axes.set(
        title=f"Items ({facts.items:,}) and what is known of them",
        xlim=(0, max(facts.items, 1) * (1.9 if known else 1.3)),
        xlabel="items",
    )
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.invert_yaxis()


def _percent() -> Any:
    return lambda value, _: f"{value:.0%}"


def _wrapped(text: str) -> str:
    """A long folder name over several lines of 100 characters, so that it is not cut off."""
    return "\n".join(text[start : start + 100] for start in range(0, len(text), 100))
