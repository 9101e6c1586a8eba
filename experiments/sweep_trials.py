"""The trials of a sweep, trained one after another, and what came of them. Needs Optuna, which comes with an extra."""

import pathlib
import shlex
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import optuna

from alterrec_jax.config import RunConfig
from alterrec_jax.contract import Stage
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.features import catalogue_info
from alterrec_jax.errors import UserError
from alterrec_jax.runtime.console import log
from alterrec_jax.runtime.signals import stop_signals
from alterrec_jax.training.trainer import Diverged, Interrupted, Trainer
from experiments import sweep_report
from experiments.space import Space, applied
from experiments.sweep_study import (
    BEST,
    STUDY,
    TRIALS,
    ClaimedTrial,
    SweepStudy,
    epochs_before_pruning,
    error_of,
    plain_errors,
)


def run(
    space: Space, base: RunConfig, dataset: Dataset, workdir: pathlib.Path, *, trials: int | None, prune: bool
) -> None:
    """Trains trials until there are enough, and tells what came of them.

    Args:
      space: what is searched.
      base: the configuration that it is searched around.
      dataset: what is trained on.
      workdir: of the sweep.
      trials: how many, of all processes together; None for the whole grid, or 20.
      prune: whether poor trials end early.

    Raises:
      Interrupted: a signal came; the work is saved.
      UserError: the workdir holds something else, the study cannot be used, or no trial came to its end.
    """
    stop = threading.Event()
    with plain_errors(workdir):
        pruner = _pruner(base.build(catalogue_info(dataset)).stages, prune)
        study = SweepStudy(workdir, space, base, dataset, trials, pruner)
        with stop_signals(stop):
            for trial in study.claimed_trials():
                if stop.is_set():
                    raise Interrupted
                _train(trial, study, base, dataset, stop)
        _tell(study, space, base, dataset, workdir)


def _pruner(stages: Sequence[Stage], prune: bool) -> optuna.pruners.BasePruner:
    if not prune:
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=epochs_before_pruning(stages))


def _train(claimed: ClaimedTrial, study: SweepStudy, base: RunConfig, dataset: Dataset, stop: threading.Event) -> None:
    """Trains a trial and tells the study; what is no fault of its values ends the sweep, and the trial is not over."""
    name = f"trial {claimed.trial.number}"
    log(f"{name}: " + "  ".join(f"{key}={value}" for key, value in claimed.values.items()))
    try:
        trainer = Trainer(applied(base, claimed.values), dataset, claimed.folder, stop)
    except UserError as error:
        log(f"{name} failed: {error}")
        return study.fail(claimed, str(error))

    def report(record: Mapping[str, Any]) -> None:
        if trainer.chooses(record["epoch"]):  # an epoch of pretraining is no score of a trial
            claimed.report(record["epoch"], record[trainer.selected_on])

    try:
        best = trainer.run(report)
    except Diverged as error:
        log(f"{name} failed: {error}")
        study.fail(claimed, str(error))
    except optuna.TrialPruned:
        log(f"{name} is pruned after epoch {max(claimed.reported) + 1}")
        study.prune(claimed)
    else:
        score = best[trainer.selected_on]
        log(f"{name}: validation {base.protocol.select_on} {score:.4f} in epoch {best['epoch'] + 1}")
        study.complete(claimed, score)


def _tell(study: SweepStudy, space: Space, base: RunConfig, dataset: Dataset, workdir: pathlib.Path) -> None:
    metric = base.protocol.select_on
    with study.locked():  # of processes that end together, the last to write has read all
        trials = sweep_report.ranked(study.trials())
        sweep_report.write_trials(workdir, trials, list(space), metric)
        complete = [trial for trial in trials if trial.state is optuna.trial.TrialState.COMPLETE]
        if complete:
            sweep_report.write_best(workdir, base, complete[0], metric, _commands(workdir, dataset))
    print(sweep_report.format_trials(trials, list(space), metric))
    running = sum(trial.state is optuna.trial.TrialState.RUNNING for trial in trials)
    if running:
        log(f"other processes still train {running} of the trials; the last of them writes the final table")
    elif not complete:
        raise UserError(
            f"none of the {len(trials)} trials came to its end (trial {trials[0].number}: {error_of(trials[0])}); "
            "change the configuration or the space, and use another --workdir"
        )
    if complete:
        log(f"the best is {workdir / BEST}, trained in {workdir / TRIALS / str(complete[0].number)}")


def _commands(workdir: pathlib.Path, dataset: Dataset) -> str:
    """How the sweep was made, and how its best is trained again, for the docstring of best.py."""
    sweep = shlex.join(["python", "-m", "experiments.sweep", *sys.argv[1:]])
    train = shlex.join(
        ["python", "-m", "experiments.train", f"--config={workdir / BEST}", f"--data_dir={dataset.path}"]
    )
    return f"The study is {workdir / STUDY}, made by\n\n    {sweep}\n\nTrain it anew by\n\n    {train} --workdir=DIR"
