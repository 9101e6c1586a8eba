"""How a study trains its runs, beside other processes and in spite of signals and failures, and keeps their ranks."""

import os
import pathlib
import signal
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from alterrec_jax.config import RunConfig
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.ranking import Ranks
from alterrec_jax.models.alterrec import AlterRecConfig
from alterrec_jax.models.unimodal import IdNetworkConfig, VectorNetworkConfig
from alterrec_jax.runtime import locks
from alterrec_jax.training.trainer import Diverged, Interrupted
from alterrec_jax.training.workdir import InUse
from experiments.paper.variants import VARIANTS, Study
from experiments.studies import study as module
from experiments.studies.study import Run

Made = list[tuple[str, int]]


@pytest.fixture
def study(dataset: Dataset, tmp_path: pathlib.Path) -> Study:
    """A study of three seeds in an empty folder."""
    return Study(dataset, AlterRecConfig(), VARIANTS, (0, 1, 2), tmp_path)


class NoTrainer:
    """Stands in for a trainer, and trains nothing."""

    made: Made = []
    second: Callable[[], object] = staticmethod(lambda: None)
    """What happens in runs of seed 1."""

    def __init__(self, config: RunConfig, dataset: Dataset, workdir: pathlib.Path, stop: threading.Event):
        self._seed = config.seed
        self.made.append((config.family, config.seed))

    def run(self) -> None:
        """As of `Trainer`."""
        if self._seed == 1:
            self.second()


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Made:
    """The model and seed of each run for which a trainer was made."""
    monkeypatch.setattr(NoTrainer, "made", [])
    monkeypatch.setattr(module, "Trainer", NoTrainer)
    return NoTrainer.made


def in_the_second_run(monkeypatch: pytest.MonkeyPatch, what: Callable[[], object]) -> None:
    """Makes it happen there."""
    monkeypatch.setattr(NoTrainer, "second", staticmethod(what))


def test_a_run_is_named_after_what_changes_its_numbers(study: Study) -> None:
    name = Run(study, AlterRecConfig()).workdir
    assert Run(study, AlterRecConfig(checkpoint_seconds=7, checkpoint_steps=7, keep_checkpoints=7)).workdir == name
    assert Run(study, AlterRecConfig(max_length=7)).workdir != name


def test_networks_in_another_order_are_another_run(study: Study) -> None:
    names = {"id": IdNetworkConfig(), "text": VectorNetworkConfig()}
    turned = dict(reversed(names.items()))
    assert Run(study, AlterRecConfig(networks=names)).workdir != Run(study, AlterRecConfig(networks=turned)).workdir


def test_a_run_in_other_hands_is_not_prepared_until_they_let_go(
    study: Study, trained: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = study.model("SASRec")
    others = locks.claim(runs[1].workdir)
    assert others is not None
    timer = threading.Timer(0.3, others.close)
    timer.start()
    study.train(runs, poll_seconds=0.01)
    timer.join()
    assert trained == [("sasrec", 0), ("sasrec", 2), ("sasrec", 1)]
    told = capsys.readouterr().err
    assert told.count("which trains 1 of them") == 1 and told.count("seed1") == 1 and "run 3 of 3" in told


def test_a_run_that_is_trained_by_hand_is_waited_for(
    study: Study, trained: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def in_use_at_first() -> None:
        if len(trained) == 2:
            raise InUse("process 7 trains there")

    in_the_second_run(monkeypatch, in_use_at_first)
    study.train(study.model("SASRec"), poll_seconds=0.01)
    assert [seed for _, seed in trained] == [0, 1, 2, 1]
    assert capsys.readouterr().err.count("which trains 1 of them") == 1


def test_a_run_that_diverges_is_named_when_the_others_are_trained(
    study: Study, trained: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge() -> None:
        raise Diverged("the loss stopped being finite")

    in_the_second_run(monkeypatch, diverge)
    with pytest.raises(UserError, match=r"1 of the runs .* sasrec-id-full-seed1-\w+ \(the loss stopped being finite\)"):
        study.train(study.model("SASRec"))
    assert [seed for _, seed in trained] == [0, 1, 2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_a_run_did_not_heed_ends_the_study_after_it(
    study: Study, trained: Made, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
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


def test_an_unknown_model_is_named(study: Study) -> None:
    with pytest.raises(UserError, match="no model is called 'AlterRex'; did you mean 'AlterRec'?"):
        study.model("AlterRex")
