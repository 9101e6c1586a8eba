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

from benchmarks import peer_task
from benchmarks.peer_task import KS, Task


def main() -> None:
    """Reads the task, writes the times."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    peer_task.run(measure)


def measure(task: Task) -> dict[str, Any]:
    """Trains, ranks and recommends."""
    import pandas as pd
    import rectools
    from rectools import Columns
    from rectools.metrics import MRR, NDCG, HitRate, calc_metrics

    arrays = task.arrays()
    steps_per_epoch = -(-(len(arrays["offsets"]) - 1) // task.batch_sessions)
    steps = peer_task.Steps(task.steps or task.epochs * steps_per_epoch)
    model = _model(task, steps)
    model.fit(_dataset(arrays["offsets"], arrays["items"]))
    learned = model.data_preparator.train_dataset.interactions.df[Columns.User].value_counts() - 1
    found: dict[str, Any] = {"library": "RecTools", "version": rectools.__version__}
    found |= peer_task.training(steps.seconds, steps_per_epoch, int(learned.sum()))
    found["loss"] = steps.loss(steps_per_epoch)
    histories = _dataset(arrays["test_offsets"], arrays["test_items"])
    users = np.arange(len(arrays["test_targets"]))
    truth = pd.DataFrame({Columns.User: users, Columns.Item: arrays["test_targets"]})
    metrics = {f"hits@{k}": HitRate(k=k) for k in KS} | {f"mrr@{k}": MRR(k=k) for k in KS}
    metrics |= {f"ndcg@{k}": NDCG(k=k, divide_by_achievable=True) for k in KS}

    def rank_all() -> dict[str, float]:
        best = model.recommend(users=users, dataset=histories, k=KS[-1], filter_viewed=False)
        found: dict[str, float] = calc_metrics(metrics, reco=best, interactions=truth)
        return found

    def recommend(session: list[int]) -> Sequence[int]:
        dataset = _dataset(np.array([0, len(session)]), np.array(session))
        best = model.recommend(users=[0], dataset=dataset, k=KS[-1], filter_viewed=False)
        items: list[int] = best[Columns.Item].tolist()
        return items

    found |= peer_task.evaluation(rank_all, len(users), task.rounds)
    return found | peer_task.latency(recommend, arrays["requests"])


def _dataset(offsets: np.ndarray, items: np.ndarray) -> Any:
    """RecTools' dataset of some sessions, whose users are their numbers: an interaction an item, in order."""
    import pandas as pd
    from rectools import Columns
    from rectools.dataset import Dataset

    interactions = {
        Columns.User: np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)),
        Columns.Item: items,
        Columns.Weight: 1.0,
        Columns.Datetime: pd.to_datetime(np.arange(len(items)), unit="s"),
    }
    return Dataset.construct(pd.DataFrame(interactions))


def _model(task: Task, steps: peer_task.Steps) -> Any:
    """RecTools' model, whose trainer notes each step: the loader's batch, the step itself, and what Lightning adds."""
    from pytorch_lightning import Trainer
    from pytorch_lightning.callbacks import LambdaCallback
    from rectools.models import SASRecModel

    before = time.perf_counter()

    def epoch_starts(*_: Any) -> None:
        nonlocal before
        before = time.perf_counter()

    def step_ends(trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
        nonlocal before
        now = time.perf_counter()
        steps.add(now - before, float(outputs["loss"]))
        before = now

    def trainer() -> Trainer:
        return Trainer(
            max_epochs=1 if task.steps else task.epochs,
            limit_train_batches=task.steps or 1.0,
            callbacks=[LambdaCallback(on_train_epoch_start=epoch_starts, on_train_batch_end=step_ends)],
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
