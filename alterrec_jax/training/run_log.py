"""What a run leaves to read: config.json, history.csv, TensorBoard events and curves.png.

All of it is written from the history that the checkpoint holds, and anew when a run is continued, so an interrupted run
neither loses an epoch nor tells one twice. The events and the picture are by-products, of packages that come with an
extra: a run goes on without.
"""

import contextlib
import pathlib
import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from alterrec_jax.config import RunConfig, to_json
from alterrec_jax.evaluation.cross_entropy import CROSS_ENTROPY
from alterrec_jax.evaluation.fitted_views import WEIGHT
from alterrec_jax.runtime import extras, files
from alterrec_jax.runtime.console import log
from alterrec_jax.training.run_state import CONFIG

_HISTORY, _EVENTS, CURVES = "history.csv", "tensorboard", "curves.png"
WRITTEN = (CONFIG, _HISTORY, _EVENTS, CURVES)
_WORDS = ("network", "objective", "optimizer")
_SHOWN = "_hits@20"
_DRAW_SECONDS = 10  # before a picture is drawn again: each takes half a second, as long as an epoch of little data


class RunLog:
    """The logs of one workdir."""

    def __init__(self, workdir: pathlib.Path, config: RunConfig, history: Sequence[Mapping[str, Any]]):
        self._workdir, self._written = workdir, 0
        self._drawn_at = time.monotonic()
        self._to_draw: tuple[Mapping[str, Any], ...] = ()
        files.write_json(workdir / CONFIG, to_json(config))
        shutil.rmtree(workdir / _EVENTS, ignore_errors=True)  # written anew from the history
        missing = [module for module in ("tensorboard", "matplotlib") if not extras.installed(module)]
        if missing:
            log(
                f"note: {_HISTORY} has what {' and '.join(missing)} would show, not installed here; to see it, "
                + extras.remedy("plots")
            )
        self._draws = "matplotlib" not in missing
        self._writer = _NoEvents() if "tensorboard" in missing else _event_writer(workdir / _EVENTS)
        if history:
            self.write(history)

    def close(self) -> None:
        """Ends the event file, and draws what is not drawn yet if it can: an error here would hide why a run ends."""
        with contextlib.suppress(OSError):
            self.draw()
        self._writer.close()

    def write(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Brings the logs up to the history, one record an epoch."""
        for record in history[self._written :]:
            group = f"{record['network']}_network"
            for name, value in record.items():
                if name not in (*_WORDS, "epoch", "finished_at"):
                    view, _, metric = name.partition("_")
                    of_view = "@" in name or metric == CROSS_ENTROPY or metric.startswith(WEIGHT)
                    split = "train" if metric == CROSS_ENTROPY else "validation"
                    tag = f"{split}_{metric}/{view}" if of_view else f"{group}/{name}"
                    self._writer.add_scalar(tag, value, record["epoch"] + 1, wall_time=record["finished_at"])
        self._written = len(history)
        self._writer.flush()
        with files.replacing(self._workdir / _HISTORY) as partial:
            pl.DataFrame(list(history)).write_csv(partial)
        self._to_draw = tuple(history)
        if time.monotonic() - self._drawn_at >= _DRAW_SECONDS:
            self.draw()

    def draw(self) -> None:
        """Brings the curves up to the history."""
        if self._to_draw and self._draws:
            with files.replacing(self._workdir / CURVES) as partial:
                _draw_curves(self._to_draw, partial)
        self._drawn_at, self._to_draw = time.monotonic(), ()


class _NoEvents:
    """Stands in for TensorBoard's writer where that is not installed."""

    def add_scalar(self, tag: str, value: float, step: int, wall_time: float) -> None:
        """Does nothing, as the others."""

    def flush(self) -> None: ...

    def close(self) -> None: ...


def _event_writer(folder: pathlib.Path) -> Any:
    from tensorboard.summary import Writer

    return Writer(str(folder))


def _draw_curves(history: Sequence[Mapping[str, Any]], path: pathlib.Path) -> None:
    """Losses on the left, validation on the right, whose turn it was as shades behind both."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    views = [name.removesuffix(_SHOWN) for name in history[0] if name.endswith(_SHOWN)]
    networks = list(dict.fromkeys(record["network"] for record in history))
    colours = {name: f"C{place}" for place, name in enumerate(dict.fromkeys((*networks, *views)))}
    figure = Figure(figsize=(11, 4), layout="constrained")  # not by pyplot, whose settings are the caller's
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    drawn = dict.fromkeys((record["network"], record["objective"]) for record in history)
    first = {network: objective for network, objective in reversed(drawn)}
    for network, objective in drawn:
        part = [record for record in history if (record["network"], record["objective"]) == (network, objective)]
        left.plot(
            [record["epoch"] + 1 for record in part],
            [record["loss"] for record in part],
            "-" if objective != first[network] or len(drawn) == len(networks) else ":",
            marker="o",
            markersize=3,
            color=colours[network],
            label=f"{network}, {objective}",
        )
    for view in views:
        right.plot(
            [record["epoch"] + 1 for record in history],
            [record[f"{view}{_SHOWN}"] for record in history],
            marker="o",
            markersize=3,
            color=colours[view],
            label=view,
        )
    for axes, title in ((left, "training loss of the network that trains"), (right, "validation Hits@20")):
        for record in history:
            axes.axvspan(
                record["epoch"] + 0.5, record["epoch"] + 1.5, color=colours[record["network"]], alpha=0.07, lw=0
            )
        axes.set(title=title, xlabel="epoch (shade: the network that trains)", xlim=(0.5, len(history) + 0.5))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=120, format="png")
