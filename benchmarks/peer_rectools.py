"""Times SASRec of RecTools, in an environment of its own, where `benchmarks.peers` starts it.

python -m benchmarks.peer_rectools SETTINGS.json RESULT.json

A training session is a row of a batch, its last `max_length` items and what follows each, padded to that length.
Training is RecTools' `fit`, by its Lightning trainer; evaluation its `recommend` and `calc_metrics`; a recommendation
its `Dataset` of one session and `recommend`. Its feed-forward layers are as wide as the embedding, a quarter of the
others'.
"""

import logging
import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import rectools
from pytorch_lightning import Callback, Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.metrics import MRR, NDCG, HitRate, calc_metrics
from rectools.models import SASRecModel

from benchmarks import peer_task
from benchmarks.peer_task import KS, Task


def main() -> None:
    """Reads the task, writes the times."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    peer_task.run(measure)


class _Clock(Callback):
    """Notes when each step ends: from one end to the next are the loader's batch, the step, and what Lightning adds."""

    def __init__(self, total: int):
        self.steps = peer_task.Steps(total)
        self._before = 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        """The first batch is made from here on."""
        self._before = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
        """A step was made."""
        now = time.perf_counter()
        self.steps.add(now - self._before, float(outputs["loss"]))
        self._before = now


def measure(task: Task) -> dict[str, Any]:
    """Trains, ranks and recommends."""
    arrays = task.arrays()
    sessions = Dataset.construct(_interactions(arrays["offsets"], arrays["items"]))
    steps_per_epoch = -(-(len(arrays["offsets"]) - 1) // task.batch_sessions)
    model = _model(task, steps_per_epoch)
    model.fit(sessions)
    (clock,) = (callback for callback in model.fit_trainer.callbacks if isinstance(callback, _Clock))
    learned = model.data_preparator.train_dataset.interactions.df[Columns.User].value_counts() - 1
    found: dict[str, Any] = {"library": "RecTools", "version": rectools.__version__}
    found |= peer_task.training(clock.steps.seconds, steps_per_epoch, int(learned.sum()))
    found["loss"] = clock.steps.loss(steps_per_epoch)
    histories = Dataset.construct(_interactions(arrays["test_offsets"], arrays["test_items"]))
    users = np.arange(len(arrays["test_targets"]))
    truth = pd.DataFrame({Columns.User: users, Columns.Item: arrays["test_targets"]})
    metrics = {f"hits@{k}": HitRate(k=k) for k in KS} | {f"mrr@{k}": MRR(k=k) for k in KS}
    metrics |= {f"ndcg@{k}": NDCG(k=k, divide_by_achievable=True) for k in KS}

    def rank_all() -> dict[str, float]:
        best = model.recommend(users=users, dataset=histories, k=KS[-1], filter_viewed=False)
        found: dict[str, float] = calc_metrics(metrics, reco=best, interactions=truth)
        return found

    def recommend(session: list[int]) -> Sequence[int]:
        dataset = Dataset.construct(_interactions(np.array([0, len(session)]), np.array(session)))
        best = model.recommend(users=[0], dataset=dataset, k=KS[-1], filter_viewed=False)
        items: list[int] = best[Columns.Item].tolist()
        return items

    found |= peer_task.evaluation(rank_all, len(users), task.rounds)
    return found | peer_task.latency(recommend, arrays["requests"])


def _interactions(offsets: np.ndarray, items: np.ndarray) -> pd.DataFrame:
    """A row an item, of the session that its number says, in order."""
    return pd.DataFrame(
        {
            Columns.User: np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)),
            Columns.Item: items,
            Columns.Weight: 1.0,
            Columns.Datetime: pd.to_datetime(np.arange(len(items)), unit="s"),
        }
    )


def _model(task: Task, steps_per_epoch: int) -> Any:
    """RecTools' model, whose trainer notes the times."""

    def trainer() -> Trainer:
        return Trainer(
            max_epochs=task.epochs if not task.steps else 1,
            limit_train_batches=task.steps or 1.0,
            callbacks=[_Clock(task.steps or task.epochs * steps_per_epoch)],
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        )

    return SASRecModel(
        n_factors=task.dim,
        n_blocks=task.blocks,
        n_heads=task.heads,
        dropout_rate=task.dropout,
        session_max_len=task.max_length,
        batch_size=task.batch_sessions,
        loss="softmax",
        lr=1e-3,
        recommend_torch_device="cpu",
        get_trainer_func=trainer,
    )


if __name__ == "__main__":
    main()
