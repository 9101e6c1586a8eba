"""Test performance and training loss of a run's views, epoch by epoch, from the parameters that it kept."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from alterrec_jax.evaluation.cross_entropy import CROSS_ENTROPY
from alterrec_jax.evaluation.metrics import summarise
from alterrec_jax.runtime.console import progress
from experiments.studies import pictures
from experiments.studies.model_table import percent
from experiments.studies.study import Run


class ByEpoch:
    """The curves of one run with `keep_epochs`.

    Attributes:
      hits, ndcg: of each view, test Hits@20 and NDCG@20 by epoch.
      losses: of each view, the mean cross-entropy on a sample of training targets by epoch.
    """

    def __init__(self, run: Run, names: Mapping[str, str]):
        """`names`: the views that are drawn, and what they are called."""
        history = run.history
        epochs = progress(range(len(history)), "ranking test by epoch", total=len(history), unit="epoch")
        found = [run.ranks_of_epoch(epoch) for epoch in epochs]
        summaries = {view: [summarise(ranks[view].above, ranks[view].equal) for ranks in found] for view in names}
        self.hits = {view: np.array([one["hits@20"] for one in summaries[view]]) for view in names}
        self.ndcg = {view: np.array([one["ndcg@20"] for one in summaries[view]]) for view in names}
        self.losses = {view: np.array([record[f"{view}_{CROSS_ENTROPY}"] for record in history]) for view in names}
        self._names, self._history, self._best = names, history, run.best_epoch

    def frame(self) -> pl.DataFrame:
        """One row an epoch and view."""
        return pl.DataFrame(
            [
                {
                    "epoch": epoch + 1,
                    "trained": f"{record['network']}:{record['objective']}",
                    "view": self._names[view],
                    "test_hits@20": self.hits[view][epoch],
                    "test_ndcg@20": self.ndcg[view][epoch],
                    "train_cross_entropy": self.losses[view][epoch],
                    "chosen_by_validation": epoch == self._best,
                }
                for epoch, record in enumerate(self._history)
                for view in self._names
            ]
        )

    def shown(self) -> list[list[str]]:
        """One row an epoch: Hits@20 in percent, and the loss."""
        head = [
            "epoch",
            *(f"{name}, Hits@20" for name in self._names.values()),
            *(f"{n}, loss" for n in self._names.values()),
        ]
        rows = []
        for epoch in range(len(self._history)):
            hits = [percent(self.hits[view][epoch]) for view in self._names]
            losses = [f"{self.losses[view][epoch]:.3f}" for view in self._names]
            rows.append([f"{epoch + 1}{' (best)' if epoch == self._best else ''}", *hits, *losses])
        return [head, *rows]

    def draw(self, figure: Any) -> None:
        """Test Hits@20 over the epochs."""
        self._curves(figure.subplots(), self.hits, 100.0, "Hits@20 (%), test")

    def draw_with_loss(self, figure: Any) -> None:
        """Test Hits@20 and the training loss side by side."""
        left, right = figure.subplots(1, 2)
        self._curves(left, self.hits, 100.0, "Hits@20 (%), test")
        self._curves(right, self.losses, 1.0, "training loss (cross-entropy, nats)")

    def _curves(self, axes: Any, of: Mapping[str, np.ndarray], scale: float, what: str) -> None:
        epochs = [epoch + 1 for epoch in range(len(self._history))]
        curves = {name: (epochs, (scale * of[view]).tolist()) for view, name in self._names.items()}
        pictures.lines(axes, curves, xlabel="epoch", ylabel=what)
        axes.xaxis.get_major_locator().set_params(integer=True)
