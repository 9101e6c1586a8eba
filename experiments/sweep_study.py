"""The Optuna study of a sweep, which several processes work at: who trains which trial, and what came of it.

A trial belongs to the process that has claimed its folder (`alterrec_jax.runtime.locks`). Whoever finds a trial that is
unfinished and unclaimed goes on with it: the same number, the same folder, the same checkpoints. Optuna's heartbeat
would tell of a dead process only after a while, take one that was suspended for dead, and make a trial of another
number.
"""

import contextlib
import dataclasses
import itertools
import json
import pathlib
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
import sqlalchemy
from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial, TrialState

from alterrec_jax.config import SAVING, RunConfig, flat, to_mapping
from alterrec_jax.contract import Stage
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.errors import UserError
from alterrec_jax.runtime import files, locks
from alterrec_jax.runtime.console import log
from alterrec_jax.runtime.locks import Claim
from alterrec_jax.training.workdir import require_outside_datasets
from experiments.space import Space, chosen, combinations

STUDY, TRIALS, TABLE, BEST = "study.db", "trials", "trials.csv", "best.py"
_LOCK = "sweep.lock"
_ABOUT, _ERROR = "sweep", "error"
_BUSY_SECONDS = 60  # how long a process waits while others write to the database
_DEFAULT_TRIALS = 20


@dataclasses.dataclass(frozen=True)
class ClaimedTrial:
    """A trial that this process trains.

    Attributes:
      trial: as Optuna has it.
      values: by fields.
      folder: where it trains.
      reported: the epochs whose score the study knows.
    """

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
        config: RunConfig,
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
        require_outside_datasets(workdir)
        files.require_no_links(workdir, (TRIALS, TABLE, BEST, STUDY, _LOCK))
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

    def claimed_trials(self) -> Iterator[ClaimedTrial]:
        """Yields trials for this process to train until none is left; report what came of each before the next."""
        while (found := self._orphan_or_new()) is not None:
            trial, claim = found
            with claim:
                yield trial

    def complete(self, claimed: ClaimedTrial, score: float) -> None:
        """The trial came to its end."""
        self._study.tell(claimed.trial, score)

    def prune(self, claimed: ClaimedTrial) -> None:
        """The trial was ended early."""
        self._study.tell(claimed.trial, state=TrialState.PRUNED)

    def fail(self, claimed: ClaimedTrial, reason: str) -> None:
        """The configuration cannot be trained; pruned and not failed for Optuna, whose sampler forgets the failed."""
        claimed.trial.set_user_attr(_ERROR, reason)
        self._study.tell(claimed.trial, state=TrialState.PRUNED)

    def trials(self) -> list[FrozenTrial]:
        """All trials that were begun, by number."""
        return [trial for trial in self._study.get_trials(deepcopy=False) if trial.state is not TrialState.WAITING]

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps the other processes of the sweep from taking trials, and from writing what came of them.

        Raises:
          UserError: the file system knows no locks.
        """
        with locks.exclusive(self._workdir / _LOCK) as held:
            if not held.locked:
                raise UserError(f"{self._workdir} cannot be locked; use a --workdir on another disk")
            yield

    def _orphan_or_new(self) -> tuple[ClaimedTrial, Claim] | None:
        """A trial to train, and the claim on its folder; None if all are finished or claimed."""
        with self.locked():
            orphans = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            folders = [self._folder(orphan.number) for orphan in orphans]
            found = locks.claim_unfinished(folders, lambda folder: self._state(folder) is not TrialState.RUNNING)
            if found is None:
                return self._new()
            folder, claim = found
            trial = self._study.get_trials(deepcopy=False)[int(folder.name)]
            log(f"trial {trial.number}: going on with it, for its process has ended")
            self._study.sampler = self._sampler(trial.number)
            return self._claimed(optuna.Trial(self._study, trial._trial_id), set(trial.intermediate_values)), claim

    def _new(self) -> tuple[ClaimedTrial, Claim] | None:
        """The next trial that nobody has begun; None if there are enough."""
        trials = self._study.get_trials(deepcopy=False)
        waiting = [trial.number for trial in trials if trial.state is TrialState.WAITING]
        if not waiting and len(trials) >= self._trials:
            return None
        number = waiting[0] if waiting else len(trials)
        if self._grid and not waiting:
            self._study.enqueue_trial(self._grid[number])
        self._study.sampler = self._sampler(number)
        with contextlib.ExitStack() as stack:
            claim = locks.claim(self._folder(number))
            assert claim is not None, "nobody else takes trials meanwhile"
            stack.enter_context(claim)
            claimed = self._claimed(self._study.ask(), set())
            stack.pop_all()
        return claimed, claim

    def _claimed(self, trial: optuna.Trial, reported: set[int]) -> ClaimedTrial:
        return ClaimedTrial(trial, chosen(trial, self._space), self._folder(trial.number), reported)

    def _folder(self, number: int) -> pathlib.Path:
        return self._workdir / TRIALS / str(number)

    def _state(self, folder: pathlib.Path) -> TrialState:
        """Of the trial of a folder, as the study has it now."""
        return self._study.get_trials(deepcopy=False)[int(folder.name)].state

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """One for each trial: with one for each process, processes that begin together would draw the same values."""
        return optuna.samplers.TPESampler(seed=int(np.random.SeedSequence((self._seed, number)).generate_state(1)[0]))

    def _check_same_sweep(self, config: RunConfig, dataset: Dataset) -> None:
        parts = {f"the space's {key}": distribution_to_json(part) for key, part in self._space.items()}
        here = json.loads(json.dumps(flat(to_mapping(config)) | parts | {"the dataset": dataset.fingerprint}))
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


def epochs_before_pruning(stages: Sequence[Stage]) -> int:
    """The epochs before the first stage that repeats another; else up to the first epoch of the last stage.

    Scores compare only when all that trains has been trained: AlterRec's fused score rises by leaps until both networks
    have had a turn of both kinds.
    """
    kinds = [stage._replace(epochs=0) for stage in stages]
    begins = [0, *itertools.accumulate(stage.epochs for stage in stages)]
    repeated = [begin for number, begin in enumerate(begins[:-1]) if kinds[number] in kinds[:number]]
    return repeated[0] if repeated else begins[-2] + 1


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
