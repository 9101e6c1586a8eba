"""The driver within one process: where it stops, and what it continues from."""

import dataclasses
import itertools
import pathlib
import signal
import threading
import time
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import orbax.checkpoint as ocp
import pytest

from alterrec_jax.contract import System
from alterrec_jax.data.batches import TrainBatches
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.errors import UserError
from alterrec_jax.evaluation import ranking
from alterrec_jax.losses import objectives
from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.models.unimodal import IdNetworkConfig, VectorNetworkConfig
from alterrec_jax.training import loop, steps, trainer
from alterrec_jax.training.checkpoint import Checkpoint, CheckpointStore, read_newest
from alterrec_jax.training.run_log import RunLog
from alterrec_jax.training.trainer import Interrupted, Trainer
from alterrec_jax.training.workdir import claimed
from tests.conftest import CLOCKS

CONFIG = AlterRecConfig(
    batch_prefixes=53,
    max_length=7,
    networks={
        "id": IdNetworkConfig(encoder="mean", dim=3),
        "text": VectorNetworkConfig(encoder="mean", dim=5, mlp_hidden=()),
    },
    mining=MiningConfig(k1=2, k2=19, augment=False),
    warmup_epochs=1,
    turn_epochs=1,
    epochs=2,
)

IN_TURNS = dataclasses.replace(
    CONFIG,
    networks={**CONFIG.networks, "id": IdNetworkConfig(encoder="mean", dim=3, learning_rate=0.03)},
    mining=MiningConfig(k1=2, k2=19, p=2),
    warmup_epochs=0,
    turn_epochs=2,
    epochs=6,
)


def saved(workdir: pathlib.Path) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """The digests of the newest checkpoint's arrays, and its history without the clocks."""
    meta = read_newest(workdir).meta
    return meta["digests"], [{k: v for k, v in row.items() if k not in CLOCKS} for row in meta["run_state"]["history"]]


@pytest.fixture(scope="module")
def whole(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The workdir of a run that nothing interrupted."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    Trainer(CONFIG, dataset, workdir).run()
    return workdir


@pytest.fixture(scope="module")
def in_turns(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The workdir of a run whose turns last several epochs, which nothing interrupted."""
    workdir = tmp_path_factory.mktemp("runs") / "in_turns"
    Trainer(IN_TURNS, dataset, workdir).run()
    return workdir


@pytest.fixture
def last_step(dataset: Dataset) -> int:
    """How many steps an epoch has."""
    return TrainBatches(dataset.splits["train"], CONFIG.batch_prefixes, CONFIG.max_length).steps_per_epoch


def test_every_epoch_has_the_weights_of_its_fused_view_which_is_never_worse_than_a_network(whole: pathlib.Path) -> None:
    records = saved(whole)[1]
    for record in records:
        assert record["fused_weight_id"] + record["fused_weight_text"] == pytest.approx(1)
        assert record["fused_hits@20"] >= max(record["id_hits@20"], record["text_hits@20"])
    assert "fused_weight_text" in (whole / "history.csv").read_text().splitlines()[0].split(",")


def test_epochs_of_pretraining_neither_choose_the_model_nor_end_the_run(
    dataset: Dataset, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = AlterRecConfig.build
    monkeypatch.setattr(AlterRecConfig, "build", lambda *given: pretraining_first(build(*given)))
    hits = [0.9, 0.8, 0.7, 0.3, 0.5, 0.4, 0.2, 0.9]
    validate = trainer.validate

    def measured(*given: Any) -> dict[str, dict[str, float]]:
        value = hits[len(told)]
        return {view: {name: value for name in metrics} for view, metrics in validate(*given).items()}

    monkeypatch.setattr(trainer, "validate", measured)
    config, told, workdir = dataclasses.replace(CONFIG, epochs=8, patience=2), list[Any](), tmp_path / "run"
    best = Trainer(config, dataset, workdir).run(told.append)
    assert [row["epoch"] for row in told] == list(range(7)) and best["epoch"] == 4
    told.clear()
    short = Trainer(dataclasses.replace(config, epochs=2), dataset, tmp_path / "short")
    assert short.run(told.append)["epoch"] == 1  # pretraining alone: the latest


def pretraining_first(system: System) -> System:
    """Of a system whose stages have one epoch each, the first three choose nothing."""
    return system._replace(stages=tuple(stage._replace(chooses=i >= 3) for i, stage in enumerate(system.stages)))


def test_fixed_weights_are_in_no_record(dataset: Dataset, tmp_path: pathlib.Path) -> None:
    best = Trainer(dataclasses.replace(CONFIG, epochs=1, fusion_weights="fixed"), dataset, tmp_path).run()
    assert not [name for name in best if "_weight_" in name]


def test_no_step_is_compiled_twice(dataset: Dataset, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []  # what compiling leaves behind is given back after each time
    monkeypatch.setattr(steps, "give_back_freed_memory", lambda: compiled.append(1))
    Trainer(dataclasses.replace(CONFIG, warmup_epochs=2, turn_epochs=2, epochs=8), dataset, tmp_path).run()
    assert len(compiled) == 6, "two networks on random negatives, on windows, and on the same windows again"


def test_windows_that_are_kept_for_a_turn_are_those_that_every_epoch_would_mine(
    dataset: Dataset, in_turns: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = objectives.peer_window
    monkeypatch.setattr(
        "alterrec_jax.models.alterrec.peer_window",
        lambda *args: made(*args)._replace(cached_positives=None),
    )
    Trainer(IN_TURNS, dataset, tmp_path).run()
    for kept, mined in zip(saved(in_turns)[1], saved(tmp_path)[1], strict=True):
        numbers = [name for name, value in mined.items() if isinstance(value, float)]
        assert [kept[name] for name in numbers] == pytest.approx([mined[name] for name in numbers], rel=1e-4)


@pytest.mark.parametrize("epoch", [1, 3, 4], ids=["id again", "text again", "id mining anew"])
def test_a_run_that_is_stopped_within_a_turn_keeps_its_windows(
    epoch: int,
    dataset: Dataset,
    last_step: int,
    in_turns: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps_done, progress = itertools.count(), loop.progress

    def stopped(items: Iterable[Any], *args: Any, **kwargs: Any) -> Iterator[Any]:
        for item in progress(items, *args, **kwargs):
            if next(steps_done) == epoch * last_step + last_step // 2:
                signal.raise_signal(signal.SIGTERM)
            yield item

    with monkeypatch.context() as patch:
        patch.setattr(loop, "progress", stopped)
        with pytest.raises(Interrupted):
            Trainer(IN_TURNS, dataset, tmp_path).run()
    state = read_newest(tmp_path).meta["run_state"]
    assert state["epoch"] == epoch and 0 < state["step"] < last_step
    Trainer(IN_TURNS, dataset, tmp_path).run()
    assert saved(tmp_path) == saved(in_turns)


def test_a_stop_after_the_last_epoch_is_no_interruption(
    dataset: Dataset, whole: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = RunLog.write

    def write_and_terminate(log: RunLog, history: Sequence[Mapping[str, Any]]) -> None:
        write(log, history)
        if len(history) == CONFIG.epochs:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(RunLog, "write", write_and_terminate)
    Trainer(CONFIG, dataset, tmp_path).run()
    assert saved(tmp_path) == saved(whole)


def test_whoever_asks_is_told_of_each_epoch_that_is_saved_and_of_those_before_again(
    dataset: Dataset, whole: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    def end(record: Mapping[str, Any]) -> NoReturn:
        assert read_newest(tmp_path).meta["run_state"]["history"] == [record]
        raise RuntimeError("ended")

    with pytest.raises(RuntimeError, match="ended"):
        Trainer(CONFIG, dataset, tmp_path).run(end)
    told: list[Mapping[str, Any]] = []
    Trainer(CONFIG, dataset, tmp_path).run(told.append)
    assert [record["epoch"] for record in told] == [0, 1]
    assert told == read_newest(tmp_path).meta["run_state"]["history"]
    assert saved(tmp_path) == saved(whole)


def test_a_stop_of_before_the_run_is_heeded_and_one_that_came_too_late_is_seen(
    dataset: Dataset, whole: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    stop = threading.Event()
    Trainer(CONFIG, dataset, tmp_path, stop).run(
        lambda record: signal.raise_signal(signal.SIGTERM) if record["epoch"] == CONFIG.epochs - 1 else None
    )
    assert stop.is_set() and saved(tmp_path) == saved(whole)
    with pytest.raises(Interrupted):
        Trainer(CONFIG, dataset, tmp_path / "next", stop).run()


def test_how_often_to_save_may_change_and_nothing_else(dataset: Dataset, whole: pathlib.Path) -> None:
    other = dataclasses.replace(CONFIG, checkpoint_seconds=7, checkpoint_steps=3, keep_checkpoints=1)
    Trainer(other, dataset, whole).run()
    with pytest.raises(UserError, match="seed=0, not 1"):
        Trainer(dataclasses.replace(CONFIG, seed=1), dataset, whole).run()


@pytest.mark.parametrize(("every", "kept"), [(1, 1), (2, 3), (0, 2)])
def test_a_run_saves_as_often_and_keeps_as_many_as_it_is_told(
    every: int,
    kept: int,
    dataset: Dataset,
    whole: pathlib.Path,
    last_step: int,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    numbers, save = [], CheckpointStore.save

    def noted(store: CheckpointStore, number: int, checkpoint: Checkpoint) -> None:
        numbers.append(number)
        save(store, number, checkpoint)

    monkeypatch.setattr(CheckpointStore, "save", noted)
    Trainer(dataclasses.replace(CONFIG, checkpoint_steps=every, keep_checkpoints=kept), dataset, tmp_path).run()
    within = range(every, last_step + 1, every) if every else ()
    assert last_step > 2
    assert numbers == [
        epoch * (last_step + 1) + step for epoch in range(CONFIG.epochs) for step in (*within, last_step + 1)
    ]
    assert sorted(int(entry.name) for entry in (tmp_path / "checkpoints").iterdir()) == numbers[-kept:]
    assert saved(tmp_path) == saved(whole)


def test_a_place_that_could_not_be_saved_is_no_interruption(
    dataset: Dataset, whole: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> NoReturn:
        raise OSError(28, "No space left on device")

    stop = threading.Event()
    stop.set()
    with monkeypatch.context() as patch:
        patch.setattr(ocp.CompositeCheckpointHandler, "finalize", full)  # fails when `save` has come back
        with pytest.raises(UserError, match="the disk is full"):
            Trainer(CONFIG, dataset, tmp_path, stop).run()
        with pytest.raises(UserError, match="the disk is full"):  # nor the end of a run
            Trainer(CONFIG, dataset, tmp_path).run()
    Trainer(CONFIG, dataset, tmp_path).run()
    assert saved(tmp_path) == saved(whole)


def test_a_stop_is_heard_between_the_batches_of_validation(
    dataset: Dataset, whole: pathlib.Path, last_step: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, count = [], ranking.count_ranks

    def count_and_terminate(*args: Any, **kwargs: Any) -> Any:
        batches.append(len(args[1]))
        signal.raise_signal(signal.SIGTERM)
        return count(*args, **kwargs)

    monkeypatch.setattr(ranking, "count_ranks", count_and_terminate)
    with pytest.raises(Interrupted):
        Trainer(CONFIG, dataset, tmp_path, validation_batch=8).run()
    assert batches == [8, 8, 8], "one batch under three views"
    state = read_newest(tmp_path).meta["run_state"]
    assert (state["epoch"], state["step"], state["history"]) == (0, last_step, [])

    monkeypatch.undo()
    first_steps = []

    def noted(items: Iterable[Any], *_: Any, initial: int, **__: Any) -> Iterable[Any]:
        first_steps.append(initial)
        return items

    monkeypatch.setattr(loop, "progress", noted)
    Trainer(CONFIG, dataset, tmp_path).run()
    assert first_steps == [last_step, 0], "only the second epoch had steps left"
    assert saved(tmp_path) == saved(whole)


def test_a_due_checkpoint_does_not_wait_for_validation(
    dataset: Dataset, whole: pathlib.Path, last_step: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> NoReturn:
        raise RuntimeError("killed")

    slow = itertools.count(0, CONFIG.checkpoint_seconds)  # between any two looks at the clock a checkpoint is due
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "time", types.SimpleNamespace(time=time.time, monotonic=lambda: next(slow)))
        patch.setattr(trainer, "validate", killed)
        with pytest.raises(RuntimeError, match="killed"):
            Trainer(CONFIG, dataset, tmp_path).run()
    assert read_newest(tmp_path).meta["run_state"]["step"] == last_step
    Trainer(CONFIG, dataset, tmp_path).run()
    assert saved(tmp_path) == saved(whole)


@pytest.mark.parametrize("function", ["RunLog", "write_catalogue"])
def test_a_run_that_dies_before_its_first_step_begins_again(
    dataset: Dataset, whole: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    def killed(*_: Any) -> NoReturn:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(trainer, function, killed)
        with pytest.raises(RuntimeError, match="killed"):
            Trainer(CONFIG, dataset, tmp_path).run()
    Trainer(CONFIG, dataset, tmp_path).run()
    assert saved(tmp_path) == saved(whole)


def test_a_workdir_that_is_in_use_or_not_of_a_run_is_refused_before_anything_is_written(
    dataset: Dataset, tmp_path: pathlib.Path
) -> None:
    used, other = tmp_path / "used", tmp_path / "other"
    with claimed(used), pytest.raises(UserError, match="in use"):
        Trainer(CONFIG, dataset, used).run()
    (other / "tensorboard").mkdir(parents=True)
    with pytest.raises(UserError, match="not of a run of ours"):
        Trainer(CONFIG, dataset, other).run()
    assert [sorted(path.name for path in folder.iterdir()) for folder in (used, other)] == [
        ["alterrec_jax.lock"],
        ["tensorboard"],
    ]
