"""What a table or figure of the study leaves: table.csv, figure.png, outcome.json, and README.md to read."""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from alterrec_jax.runtime import files

Draw = Callable[[Any], None]
"""Draws into a matplotlib Figure of the size given."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One table or figure.

    Attributes:
      title: what it shows.
      source: the table or figure of the paper that it answers to.
      frame: all its numbers, one row a thing; table.csv.
      shown: the same as a reader wants it: column heads, then rows; a cell in bold stands between two asterisks each.
      findings: sentences on whether the paper's observation holds, computed.
      draw: the picture.
      size: of the picture, width and height in inches.
    """

    title: str
    source: str
    frame: pl.DataFrame
    shown: Sequence[Sequence[str]]
    findings: Sequence[str]
    draw: Draw
    size: tuple[float, float] = (8.0, 4.5)


def write(outcome: Outcome, folder: pathlib.Path, record: Mapping[str, Any]) -> None:
    """Writes an outcome, and the record of how it came about, to a folder."""
    with files.replacing(folder / "table.csv") as partial:
        outcome.frame.write_csv(partial)
    _draw(outcome, folder / "figure.png")
    plain = {name: getattr(outcome, name) for name in ("title", "source", "shown", "findings")}
    files.write_json(folder / "outcome.json", {**plain, "record": dict(record)})
    files.write_text(folder / "README.md", _page(outcome, record))


def _draw(outcome: Outcome, path: pathlib.Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=outcome.size, layout="constrained")  # not by pyplot, whose settings are the caller's
    FigureCanvasAgg(figure)
    outcome.draw(figure)
    with files.replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=130)


def _page(outcome: Outcome, record: Mapping[str, Any]) -> str:
    head, *rows = outcome.shown
    lines = [f"# {outcome.title}", "", f"{outcome.source}.", ""]
    lines += [f"- {finding}" for finding in outcome.findings]
    lines += ["", _row(head), _row(["---", *("---:" for _ in head[1:])]), *map(_row, rows)]
    lines += ["", "![figure](figure.png)", "", "```", record["command"], "```", ""]
    plain = {name.replace("_", " "): value for name, value in record.items() if name != "command"}
    lines += [f"{name}: {_escaped(str(value))}  " for name, value in plain.items()]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(cell: str) -> str:
    """A cell, whose asterisks for bold stay."""
    bold = len(cell) > 4 and cell.startswith("**") and cell.endswith("**")
    return f"**{_escaped(cell[2:-2])}**" if bold else _escaped(cell)


def _escaped(text: str) -> str:
    """Text that Markdown shows as it stands: no tag, link, code, formula or cell of its own comes of it."""
    text = re.sub(r"[\\`|$]", r"\\\g<0>", " ".join(text.split()))
    return re.sub(r"<(?=[A-Za-z/!?])|(?<=\])\(", r"\\\g<0>", text)
