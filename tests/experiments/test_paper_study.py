"""How a study trains its runs, beside other processes and in spite of signals and failures, and keeps their ranks."""

import os
import pathlib
import signal
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from alterrec_jax.config import AlterRecConfig
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.ranking import Ranks
from alterrec_jax.training.trainer import Diverged, Interrupted
from experiments.paper import study as module
from experiments.paper.study import Run, Study

TrainedModel = list[tuple[str, int]]


@pytest.fixture
def study(dataset: Dataset, tmp_path: pathlib.Path) -> Study:
    """A study of three seeds in an empty folder."""
    return Study(dataset, AlterRecConfig(), (0, 1, 2), tmp_path)


class NoTrainer:
    """Stands in for a trainer, and trains nothing."""

    made: TrainedModel = []
    second: Callable[[], object] = staticmethod(lambda: None)
    """What happens in runs of seed 1."""

    def __init__(self, config: AlterRecConfig, dataset: Dataset, workdir: pathlib.Path, stop: threading.Event):
        self._seed = config.seed
        self.made.append((config.model, config.seed))

    def run(self) -> None:
        """As of `Trainer`."""
        if self._seed == 1:
            self.second()


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> TrainedModel:
    """The model and seed of each run for which a trainer was made."""
    monkeypatch.setattr(NoTrainer, "made", [])
    monkeypatch.setattr(module, "Trainer", NoTrainer)
    monkeypatch.setattr(module, "_WAIT_SECONDS", 0.01)
    return NoTrainer.made


def in_the_second_run(monkeypatch: pytest.MonkeyPatch, what: Callable[[], object]) -> None:
    """Makes it happen there."""
    monkeypatch.setattr(NoTrainer, "second", staticmethod(what))


def test_a_run_is_named_after_what_changes_its_numbers(study: Study) -> None:
    name = Run(study, AlterRecConfig()).workdir
    assert Run(study, AlterRecConfig(checkpoint_seconds=7, checkpoint_steps=7, keep_checkpoints=7)).workdir == name
    assert Run(study, AlterRecConfig(max_length=7)).workdir != name


def test_a_run_in_other_hands_is_not_prepared_until_they_let_go(
    study: Study, trained: TrainedModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def in_use(workdir: pathlib.Path) -> bool:
        asked.append(workdir)
        return "seed1" in workdir.name and len(asked) < 9

    monkeypatch.setattr(module, "in_use", in_use)
    study.train(study.model("SASRec"))
    assert trained == [("id", 0), ("id", 2), ("id", 1)] and len(asked) == 9
    told = capsys.readouterr().err
    assert told.count("which trains 1 of them") == 1 and told.count("seed1") == 1 and "run 3 of 3" in told


def test_a_run_that_diverges_is_named_when_the_others_are_trained(
    study: Study, trained: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge() -> None:
        raise Diverged("the loss stopped being finite")

    in_the_second_run(monkeypatch, diverge)
    with pytest.raises(UserError, match=r"1 of the runs .* id-full-seed1-\w+ \(the loss stopped being finite\)"):
        study.train(study.model("SASRec"))
    assert [seed for _, seed in trained] == [0, 1, 2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_a_run_did_not_heed_ends_the_study_after_it(
    study: Study, trained: TrainedModel, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    in_the_second_run(monkeypatch, lambda: os.kill(os.getpid(), number))
    with pytest.raises(Interrupted):
        study.train(study.model("SASRec"))
    assert [seed for _, seed in trained] == [0, 1]
    trained.clear()
    with pytest.raises(Interrupted):
        study.train(study.model("SASRec")[:2])  # where it was the last one too


def test_what_several_want_ranked_at_once_is_ranked_once(study: Study) -> None:
    ranked = []

    def rank() -> dict[str, Ranks]:
        ranked.append(1)
        time.sleep(0.2)
        return {"fused": Ranks(np.arange(3, dtype=np.int32), np.ones(3, np.int32))}

    found: list[Ranks] = []
    threads = [
        threading.Thread(target=lambda: found.append(study._kept("a run", "test", rank)["fused"])) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ranked) == 1
    assert [ranks.above.tolist() for ranks in found] == [[0, 1, 2]] * 3
