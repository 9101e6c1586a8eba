"""The study that several processes share, without training: who takes which trial, and what is told of it."""

import pathlib
from collections.abc import Iterator
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from alterrec_jax.data.dataset import Dataset
from alterrec_jax.errors import UserError
from alterrec_jax.models.alterrec import AlterRecConfig
from experiments.space import Space
from experiments.sweep_report import format_trials, ranked
from experiments.sweep_study import STUDY, ClaimedTrial, SweepStudy, plain_errors

GRID: Space = {"networks.id.dim": CategoricalDistribution([2, 4, 6]), "mining.k1": CategoricalDistribution([1, 2])}
RANGE: Space = {"networks.id.dropout": FloatDistribution(0.0, 0.9)}


@pytest.fixture
def workdir(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "sweep"


def study(
    workdir: pathlib.Path, dataset: Dataset, space: Space, trials: int | None = None, **fields: Any
) -> SweepStudy:
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1)
    return SweepStudy(workdir, space, AlterRecConfig(**fields), dataset, trials, pruner)


def values(trials: Iterator[ClaimedTrial], sweep: SweepStudy) -> list[dict]:
    """Brings what is left of a sweep to its end."""
    found = []
    for trial in trials:
        found.append(dict(trial.values))
        trial.report(0, 0.5)
        sweep.complete(trial, 0.5)
    return found


def test_a_grid_has_each_combination_once(workdir: pathlib.Path, dataset: Dataset) -> None:
    sweep = study(workdir, dataset, GRID, 9)
    found = values(sweep.claimed_trials(), sweep)
    assert sorted(tuple(item.values()) for item in found) == [(dim, k1) for dim in (2, 4, 6) for k1 in (1, 2)]
    assert values(sweep.claimed_trials(), sweep) == []
    part = study(workdir.with_name("part"), dataset, GRID, 2)
    assert values(part.claimed_trials(), part) == found[:2]
    more = study(workdir.with_name("part"), dataset, GRID)
    assert values(more.claimed_trials(), more) == found[2:]


@pytest.mark.parametrize("space", [GRID, RANGE], ids=["grid", "range"])
def test_an_orphan_is_gone_on_with_and_a_trial_of_a_living_process_is_not(
    workdir: pathlib.Path, dataset: Dataset, space: Space
) -> None:
    one, other = study(workdir, dataset, space, 4), study(workdir, dataset, space, 4)
    mine = one.claimed_trials()
    left = next(mine)
    left.report(0, 0.1)
    others = other.claimed_trials()
    living = next(others)
    assert (left.trial.number, living.trial.number) == (0, 1)
    assert left.values != living.values
    mine.close()  # releases the claim, as the end of a process does
    other.complete(living, 0.2)
    again = next(others)
    assert (again.trial.number, again.values, again.folder) == (0, left.values, left.folder)
    assert again.reported == {0}
    again.report(0, 0.1)  # Optuna warns of a step that is told of twice, and warnings are errors here
    again.report(1, 0.3)
    other.complete(again, 0.3)
    assert len(values(others, other)) == 2
    assert [trial.state for trial in other.trials()] == [TrialState.COMPLETE] * 4
    assert other.trials()[0].intermediate_values == {0: 0.1, 1: 0.3}


def test_draws_do_not_depend_on_how_often_the_sweep_was_begun(workdir: pathlib.Path, dataset: Dataset) -> None:
    whole = study(workdir, dataset, RANGE, 5)
    found = values(whole.claimed_trials(), whole)
    assert len({item["networks.id.dropout"] for item in found}) == 5
    parts = []
    for trials in (2, 3, 5):
        part = study(workdir.with_name("parts"), dataset, RANGE, trials)
        parts += values(part.claimed_trials(), part)
    assert parts == found


def test_a_trial_that_was_enqueued_and_not_begun_is_not_lost(
    workdir: pathlib.Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise RuntimeError("killed")

    sweep = study(workdir, dataset, GRID)
    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "ask", killed)
        with pytest.raises(RuntimeError, match="killed"):
            next(sweep.claimed_trials())
    assert sweep.trials() == []
    found = values(sweep.claimed_trials(), sweep)
    assert len({tuple(item.items()) for item in found}) == len(found) == 6


def test_the_worse_are_pruned_and_the_failed_come_last(workdir: pathlib.Path, dataset: Dataset) -> None:
    sweep = study(workdir, dataset, RANGE, 7)
    for claimed in sweep.claimed_trials():
        number = claimed.trial.number
        if number == 1:
            sweep.fail(claimed, "no good")
            continue
        claimed.report(0, 0.5)
        if number == 6:
            with pytest.raises(optuna.TrialPruned):
                claimed.report(1, 0.05)
            sweep.prune(claimed)
        else:
            claimed.report(1, 0.6 + number / 10)
            sweep.complete(claimed, 0.6 + number / 10)
    trials = ranked(sweep.trials())
    assert [trial.number for trial in trials] == [5, 4, 3, 2, 0, 6, 1]
    lines = format_trials(trials, list(RANGE), "ndcg@20").splitlines()
    assert lines[0].split() == ["trial", "networks.id.dropout", "ndcg@20", "epoch", "state"]
    assert [line.split()[-1] for line in lines[1:]] == ["complete"] * 5 + ["pruned", "failed"]
    assert [line.split()[2:4] for line in lines[1:]][::6] == [["1.1000", "2"], ["-", "-"]]


def test_another_sweep_s_workdir_is_refused(workdir: pathlib.Path, dataset: Dataset) -> None:
    study(workdir, dataset, GRID)
    study(workdir, dataset, GRID, checkpoint_seconds=7, checkpoint_steps=7, keep_checkpoints=7)
    with pytest.raises(UserError, match=r"seed=0, not 1"):
        study(workdir, dataset, GRID, seed=1)
    with pytest.raises(UserError, match=r"the space's mining\.k1"):
        study(workdir, dataset, RANGE)


def test_what_is_not_of_a_sweep_is_not_replaced(workdir: pathlib.Path, dataset: Dataset) -> None:
    workdir.mkdir()
    (workdir / "best.py").write_text("mine")
    with pytest.raises(UserError, match=r"holds best\.py"):
        study(workdir, dataset, GRID)
    other = workdir.with_name("other")
    other.mkdir()
    (other / STUDY).write_text("no database " * 100)
    with pytest.raises(UserError, match="cannot be used .*not a database"), plain_errors(other):
        study(other, dataset, GRID)
