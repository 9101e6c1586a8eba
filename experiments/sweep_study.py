"""The Optuna study of a sweep, which several processes work at: who trains which trial, and what came of it.

A trial belongs to the process that holds the lock of its folder. The system lets go of a lock when its process ends,
however it ends, so whoever finds a trial that runs and is not locked goes on with it: the same number, the same
folder, the same checkpoints. Optuna's heartbeat would tell of a dead process only after a while, take one that was
suspended for dead, and make a trial of another number.
"""

import contextlib
import dataclasses
import fcntl
import json
import pathlib
import random
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

import numpy as np
import optuna
import sqlalchemy
from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial, TrialState

from alterrec_jax.config import SAVING, AlterRecConfig
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.errors import UserError
from alterrec_jax.runtime.console import log
from experiments.space import Space, chosen, combinations, flat

STUDY, TRIALS, TABLE, BEST = "study.db", "trials", "trials.csv", "best.py"
_LOCK = "sweep.lock"
_ABOUT, _ERROR = "sweep", "error"
_BUSY_SECONDS = 60  # how long a process waits while others write to the database
_DEFAULT_TRIALS = 20


@dataclasses.dataclass(frozen=True)
class Turn:
    """A trial that this process trains. Attributes: its values by fields, and its folder."""

    trial: optuna.Trial
    values: Mapping[str, Any]
    folder: pathlib.Path
    reported: set[int]

    def report(self, epoch: int, score: float) -> None:
        """Tells the study the score of an epoch, once.

        Raises:
          optuna.TrialPruned: others did better at this point.
        """
        if epoch not in self.reported:
            self.reported.add(epoch)
            self.trial.report(score, epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned


class SweepStudy:
    """The study of a workdir, made if there is none."""

    def __init__(
        self,
        workdir: pathlib.Path,
        space: Space,
        config: AlterRecConfig,
        dataset: Dataset,
        trials: int | None,
        pruner: optuna.pruners.BasePruner,
    ):
        self._workdir, self._space, self._seed = workdir, space, config.seed
        self._grid = combinations(space)
        # Mixed, so that fewer trials than combinations are a fair sample of them.
        random.Random(config.seed).shuffle(self._grid)
        self._trials = trials or len(self._grid) or _DEFAULT_TRIALS
        if self._grid and self._trials > len(self._grid):
            log(f"the space has {len(self._grid)} combinations: as many trials, not {self._trials}")
            self._trials = len(self._grid)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        workdir.mkdir(parents=True, exist_ok=True)
        foreign = [name for name in (TRIALS, TABLE, BEST) if (workdir / name).exists()]
        if foreign and not (workdir / STUDY).exists():
            raise UserError(f"{workdir} holds {foreign[0]}, which is not of a sweep of ours; use another --workdir")
        with self.locked():
            self._study = optuna.create_study(
                storage=optuna.storages.RDBStorage(
                    sqlalchemy.URL.create("sqlite", database=str(workdir / STUDY)).render_as_string(),
                    engine_kwargs={"connect_args": {"timeout": _BUSY_SECONDS}},
                ),
                study_name="sweep",
                direction="maximize",
                pruner=pruner,
                load_if_exists=True,
            )
            self._check_same_sweep(config, dataset)

    def turns(self) -> Iterator[Turn]:
        """Yields trials for this process to train until none is left; each must be told of before the next."""
        while (found := self._orphan_or_new()) is not None:
            turn, held = found
            with held:
                yield turn

    def complete(self, turn: Turn, score: float) -> None:
        """The trial came to its end."""
        self._study.tell(turn.trial, score)

    def prune(self, turn: Turn) -> None:
        """The trial was ended early."""
        self._study.tell(turn.trial, state=TrialState.PRUNED)

    def fail(self, turn: Turn, reason: str) -> None:
        """The configuration cannot be trained; pruned and not failed for Optuna, whose sampler forgets the failed."""
        turn.trial.set_user_attr(_ERROR, reason)
        self._study.tell(turn.trial, state=TrialState.PRUNED)

    def trials(self) -> list[FrozenTrial]:
        """All trials that were begun, by number."""
        return [trial for trial in self._study.get_trials(deepcopy=False) if trial.state is not TrialState.WAITING]

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps the other processes of the sweep from taking trials, and from writing what came of them."""
        lock = _lock(self._workdir / _LOCK, wait=True)
        assert lock is not None
        with lock:
            yield

    def _orphan_or_new(self) -> tuple[Turn, contextlib.ExitStack] | None:
        """A trial to train, and what holds its lock; None if all are told of or in other hands."""
        with self.locked(), contextlib.ExitStack() as held:
            for orphan in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                lock = self._lock_of(orphan.number)
                if lock is None:
                    continue
                held.enter_context(lock)
                now = self._study.get_trials(deepcopy=False)[orphan.number]  # its process may have just told of it
                if now.state is TrialState.RUNNING:
                    log(f"trial {now.number}: going on with it, for its process has ended")
                    self._study.sampler = self._sampler(now.number)
                    trial = optuna.Trial(self._study, now._trial_id)
                    return self._turn(trial, set(now.intermediate_values)), held.pop_all()
                lock.close()
            trials = self._study.get_trials(deepcopy=False)
            waiting = [trial.number for trial in trials if trial.state is TrialState.WAITING]
            if not waiting and len(trials) >= self._trials:
                return None
            number = waiting[0] if waiting else len(trials)
            if self._grid and not waiting:
                self._study.enqueue_trial(self._grid[number])
            self._study.sampler = self._sampler(number)
            lock = self._lock_of(number)
            assert lock is not None, "nobody else takes trials meanwhile"
            held.enter_context(lock)
            return self._turn(self._study.ask(), set()), held.pop_all()

    def _turn(self, trial: optuna.Trial, reported: set[int]) -> Turn:
        return Turn(trial, chosen(trial, self._space), self._workdir / TRIALS / str(trial.number), reported)

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """One for each trial: with one for each process, processes that begin together would draw the same values."""
        return optuna.samplers.TPESampler(seed=int(np.random.SeedSequence((self._seed, number)).generate_state(1)[0]))

    def _lock_of(self, number: int) -> TextIO | None:
        folder = self._workdir / TRIALS / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        return _lock(folder / _LOCK, wait=False)

    def _check_same_sweep(self, config: AlterRecConfig, dataset: Dataset) -> None:
        parts = {f"the space's {key}": distribution_to_json(part) for key, part in self._space.items()}
        here = json.loads(json.dumps(flat(config) | parts | {"the dataset": dataset.fingerprint}))
        there = self._study.user_attrs.get(_ABOUT)
        if there is None:
            self._study.set_user_attr(_ABOUT, here)
            return
        for name in sorted(there.keys() | here.keys()):
            if name not in SAVING and there.get(name) != here.get(name):
                raise UserError(
                    f"{self._workdir} holds a sweep with {name}={there.get(name)}, not {here.get(name)}; "
                    "use another --workdir, or remove that one"
                )


def error_of(trial: FrozenTrial) -> str:
    """Why the configuration of a trial could not be trained; empty if it could."""
    return trial.user_attrs.get(_ERROR, "")


@contextlib.contextmanager
def plain_errors(workdir: pathlib.Path) -> Iterator[None]:
    """Tells in one line what the database tells in pages.

    Raises:
      UserError: the study cannot be read or written.
    """
    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause = error.__cause__ or error
        reason = str(getattr(cause, "orig", None) or cause).splitlines()[0]
        raise UserError(
            f"the study {workdir / STUDY} cannot be used ({reason}); if the disk has room, use another --workdir"
        ) from None


def _lock(path: pathlib.Path, wait: bool) -> TextIO | None:
    """The open file that holds a lock until it is closed; None if another process holds it and is not waited for."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(path, "a", encoding="utf-8"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        except OSError as error:
            raise UserError(f"{path} cannot be locked ({error.strerror}); use a --workdir on another disk") from None
        stack.pop_all()
        return file
