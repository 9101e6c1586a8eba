"""Searches settings on validation with Optuna: trains each of many configurations, and writes down the best.

    python -m experiments.sweep --config=experiments/configs/amazon_beauty.py --data_dir=DIR --workdir=DIR

Start the same command as often as there is room for, also at once: the processes share WORKDIR/study.db, and each takes
further trials until there are --trials of them. Trial N trains in WORKDIR/trials/N; after a kill the same command goes
on there. Then train WORKDIR/best.py on other seeds, or evaluate the best trial's folder.

--space names what is searched, by default the grid of AlterRec's paper (appendix F); experiments/space.py says how to
write one. Lists alone are a grid, of which each combination is trained once; with a range Optuna's TPE draws. A trial's
score is the best validation of its epochs by protocol.select_on, of the system's main view. Test data are never looked
at.
"""

import pathlib
import shlex
import sys
import threading
from collections.abc import Sequence

import optuna
from absl import flags

from alterrec_jax.config import RunConfig
from alterrec_jax.contract import Stage
from alterrec_jax.data.dataset import Dataset, load_dataset
from alterrec_jax.data.features import catalogue_info
from alterrec_jax.errors import UserError
from alterrec_jax.models.registry import read_run_config
from alterrec_jax.runtime import command_line
from alterrec_jax.runtime.console import log
from alterrec_jax.runtime.host_memory import keep_freed_memory
from alterrec_jax.runtime.signals import stop_signals
from alterrec_jax.training.trainer import Diverged, Interrupted, Trainer
from experiments import config_flag, sweep_report
from experiments.space import Space, applied, read_space
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

_CONFIG = config_flag.define(
    "The file of experiments/configs that a sweep begins from; --config.FIELD=VALUE overrides a field for all trials.",
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Dataset folder written by data_tools.prepare.", required=True)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the sweep: study, trials, table, best.py. One that exists is continued.", required=True
)
_SPACE = flags.DEFINE_string(
    "space", "experiments/spaces/paper.json", "JSON file of fields with a list of values or a range each."
)
_TRIALS = flags.DEFINE_integer(
    "trials", None, "How many, of all processes together; by default the whole grid, or 20.", lower_bound=1
)
_PRUNE = flags.DEFINE_bool(
    "prune",
    True,
    "Whether a trial ends early whose best epoch is below the median of the others at its epoch: from the sixth trial "
    "on, once every kind of stage has been trained (pretraining, a turn of each network).",
)
flags.mark_flag_as_required("config")


def main() -> int:
    """Trains trials until there are enough, and tells what came of them."""
    keep_freed_memory()
    base = read_run_config(_CONFIG.value.to_dict(), "--config").check()
    space, workdir = read_space(_SPACE.value, base), pathlib.Path(_WORKDIR.value)
    dataset, stop = load_dataset(_DATA_DIR.value), threading.Event()
    with plain_errors(workdir):
        pruner = _pruner(base.build(catalogue_info(dataset)).stages)
        study = SweepStudy(workdir, space, base, dataset, _TRIALS.value, pruner)
        try:
            with stop_signals(stop):
                for trial in study.claimed_trials():
                    if stop.is_set():
                        raise Interrupted
                    _train(trial, study, base, dataset, stop)
        except Interrupted:
            log("saved; the same command continues from here")
            return command_line.EXIT_RESUME
        except KeyboardInterrupt:
            raise UserError("interrupted; the same command continues from the last checkpoint") from None
        _tell(study, space, base)
    return 0


def _pruner(stages: Sequence[Stage]) -> optuna.pruners.BasePruner:
    if not _PRUNE.value:
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
    try:
        best = trainer.run(lambda record: claimed.report(record["epoch"], record[trainer.selected_on]))
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


def _tell(study: SweepStudy, space: Space, base: RunConfig) -> None:
    workdir, metric = pathlib.Path(_WORKDIR.value), base.protocol.select_on
    with study.locked():  # of processes that end together, the last to write has read all
        trials = sweep_report.ranked(study.trials())
        sweep_report.write_trials(workdir, trials, list(space), metric)
        complete = [trial for trial in trials if trial.state is optuna.trial.TrialState.COMPLETE]
        if complete:
            sweep_report.write_best(workdir, base, complete[0], metric, _commands(workdir))
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


def _commands(workdir: pathlib.Path) -> str:
    """How the sweep was made, and how its best is trained again, for the docstring of best.py."""
    sweep = shlex.join(["python", "-m", "experiments.sweep", *sys.argv[1:]])
    train = shlex.join(
        ["python", "-m", "experiments.train", f"--config={workdir / BEST}", f"--data_dir={_DATA_DIR.value}"]
    )
    return f"The study is {workdir / STUDY}, made by\n\n    {sweep}\n\nTrain it anew by\n\n    {train} --workdir=DIR"


if __name__ == "__main__":
    command_line.run(main)
