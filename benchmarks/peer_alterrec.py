"""Times SASRec of this library in a process of its own, where `benchmarks.peers` starts it.

python -m benchmarks.peer_alterrec SETTINGS.json RESULT.json

Training sessions are packed, several to a row of `max_length` positions: so many rows as hold about as many targets
as the others' batches. Training is the loop of `experiments.train`, which makes the batches of an epoch when it begins;
so epochs are always whole. Evaluation encodes, ranks and averages as `experiments.evaluate` does; its whole report,
with baselines, intervals and tests, is timed apart. A recommendation is the `Recommender`'s.
"""

import math
import time
from typing import Any

import numpy as np

from alterrec_jax import __version__
from alterrec_jax.contract import Params
from alterrec_jax.data.batches import TrainBatches
from alterrec_jax.data.dataset import Dataset, load_dataset
from alterrec_jax.data.features import catalogue_info, make_context
from alterrec_jax.data.targets import Targets
from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.metrics import summarise
from alterrec_jax.evaluation.protocol import Protocol, rank_split
from alterrec_jax.models.sasrec import SASRecConfig, TransformerOnIdsConfig
from alterrec_jax.runtime.host_memory import keep_freed_memory
from alterrec_jax.serving.evaluate import evaluate_trained
from alterrec_jax.serving.recommend import Recommender
from alterrec_jax.serving.trained_model import TrainedModel
from alterrec_jax.training.loop import StepDone, TrainLoop
from alterrec_jax.training.run_state import RunState
from benchmarks import peer_task
from benchmarks.peer_task import KS, WARM, Task

_SESSION = 10  # items of a request


def main() -> None:
    """Reads the task, writes the times."""
    keep_freed_memory()
    peer_task.run(measure)


def measure(task: Task) -> dict[str, Any]:
    """Trains, ranks and recommends."""
    dataset = load_dataset(task.data_dir)
    network = TransformerOnIdsConfig(dim=task.dim, layers=task.blocks, heads=task.heads, dropout=task.dropout)
    config = SASRecConfig(
        network=network, max_length=task.max_length, batch_prefixes=task.batch_prefixes, epochs=task.epochs
    ).check()
    found: dict[str, Any] = {"library": "alterrec_jax", "version": __version__}
    params, trained = _train(config, dataset)
    found |= trained
    model = TrainedModel(
        config, dataset, config.build(catalogue_info(dataset)), params, {"epoch": config.epochs - 1}, finished=True
    )
    targets = comparable_targets(dataset)
    protocol = Protocol(exclude_session_items=False, ks=KS)

    def rank_all() -> dict[str, float]:
        encoder = model.encoder()
        ranks = rank_split(dataset, "test", targets, encoder, encoder.tables, model.system.views, protocol)
        main = ranks[model.system.main]
        return summarise(main.above, main.equal, KS)

    found |= peer_task.evaluation(rank_all, len(targets), task.rounds)
    recommender = Recommender(model, exclude_session_items=False)

    def recommend(session: list[int]) -> list[int]:
        (best,) = recommender([session], KS[-1])
        return [one.item for one in best]

    found |= peer_task.latency(recommend, task.arrays()["requests"])
    found["peak_bytes"] = peer_task.peak_bytes()
    peer_task.report("writes the whole report")
    started = time.perf_counter()
    evaluate_trained(model, "test", protocol)
    return found | {"report_s": time.perf_counter() - started}


def comparable_targets(dataset: Dataset) -> Targets:
    """The targets of the test split that every library can rank, by the rule of `experiments.evaluate`.

    These are items that occur in training, with one of these before them.
    """
    sessions, targets = dataset.splits["test"], Protocol().select(dataset, "test")
    known = (dataset.train_counts[sessions.items] > 0).cumsum()
    begin, end = sessions.offsets[targets.session], sessions.offsets[targets.session] + targets.position
    before = known[end - 1] - known[begin] + (dataset.train_counts[sessions.items[begin]] > 0)
    return targets[(dataset.train_counts[targets.item] > 0) & (before > 0)]


def _train(config: SASRecConfig, dataset: Dataset) -> tuple[dict[str, Params], dict[str, float]]:
    """The parameters after all epochs, and the times."""
    system, train = config.build(catalogue_info(dataset)), dataset.splits["train"]
    batches = TrainBatches(train, config.batch_prefixes, config.max_length, system.layout)
    context = make_context(dataset, system.reads, config.precision)
    loop = TrainLoop(system, context, batches, len(train.items), config.seed)
    arrays, state = loop.fresh(), RunState()
    steps = peer_task.Steps(config.epochs * batches.steps_per_epoch)
    loss = math.nan
    before = time.perf_counter()
    for event in loop.run(arrays, state):
        now = time.perf_counter()
        if isinstance(event, StepDone):
            steps.add(now - before)
        else:
            loss = float(arrays.totals.loss) / float(arrays.totals.prefixes)
            state.epoch, state.step = state.epoch + 1, 0
        before = time.perf_counter()
    result = peer_task.training(steps.seconds, batches.steps_per_epoch, batches.prefixes)
    return arrays.params, result | {"loss": loss}


def task_arrays(dataset: Dataset, requests: int) -> dict[str, np.ndarray]:
    """The training sessions, test targets and so many requests, as `peer_task.Task` has them.

    Raises:
      UserError: nothing of the test split occurs in training.
    """
    train, test, targets = dataset.splits["train"], dataset.splits["test"], comparable_targets(dataset)
    if not len(targets):
        raise UserError(f"the test split of {dataset.path} has no target that occurs in training; prepare more data")
    known = np.flatnonzero(dataset.train_counts > 0)
    begin = test.offsets[targets.session]
    rows = [test.items[first : first + count] for first, count in zip(begin, targets.position, strict=True)]
    rows = [row[dataset.train_counts[row] > 0] for row in rows]
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    draw = np.random.default_rng(0)
    return {
        "items": train.items,
        "offsets": train.offsets,
        "test_items": np.concatenate(rows),
        "test_offsets": np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        "test_targets": targets.item,
        "requests": draw.choice(known, (requests + WARM, _SESSION)).astype(np.int32),
    }


if __name__ == "__main__":
    main()
