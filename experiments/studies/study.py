"""The runs behind the tables and figures: trained when first asked for, found again afterwards.

A run is known by its configuration and its dataset alone, so whatever two figures have in common is trained once.
Where every target stands in a run's rankings is kept as well: a figure whose runs exist is redrawn in seconds.
"""

import contextlib
import dataclasses
import functools
import json
import pathlib
import threading
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from alterrec_jax.config import SAVING, RunConfig, to_json
from alterrec_jax.contract import System, View
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.features import catalogue_info
from alterrec_jax.data.targets import Targets
from alterrec_jax.errors import UserError, nearest
from alterrec_jax.evaluation.metrics import metric_values
from alterrec_jax.evaluation.protocol import Protocol, protocol_of, rank_split
from alterrec_jax.evaluation.ranking import Ranks, rank_rows
from alterrec_jax.runtime import files, locks
from alterrec_jax.runtime.console import log
from alterrec_jax.runtime.signals import stop_signals
from alterrec_jax.serving.trained_model import load_trained
from alterrec_jax.training.checkpoint import FOLDER, read_epoch, read_newest
from alterrec_jax.training.trainer import Diverged, Interrupted, Trainer
from alterrec_jax.training.workdir import InUse
from experiments.studies.baselines import BASELINES

Ranker = Callable[[], dict[str, Ranks]]
Base = TypeVar("Base", bound=RunConfig)

METRICS = ("hits@10", "hits@20", "ndcg@10", "ndcg@20")


@dataclasses.dataclass(frozen=True)
class Study(Generic[Base]):
    """A dataset, the configuration that all models start from, and the folder of the runs.

    Attributes:
      dataset: what is trained on and ranked.
      base: the configuration.
      models: by the names that tables and figures give them, changes to it.
      seeds: every model is trained once with each.
      workdir: holds `runs/` and `ranks/`.
      metrics: the columns of its tables, Hits@20 among them; pictures show that and the last one.
    """

    dataset: Dataset
    base: Base
    models: Mapping[str, Callable[[Base], RunConfig]]
    seeds: tuple[int, ...]
    workdir: pathlib.Path
    metrics: tuple[str, ...] = METRICS

    @property
    def protocol(self) -> Protocol:
        """Of all models and baselines."""
        return protocol_of(self.base.protocol, self.dataset)

    @property
    def targets(self) -> Targets:
        """Those of the test split."""
        return self.protocol.select(self.dataset, "test")

    @property
    def catalogue(self) -> int:
        """How many items can be recommended."""
        return self.dataset.catalogue_size

    def model(self, name: str) -> list["Run"]:
        """The runs of a model, one a seed; not trained yet, perhaps.

        Raises:
          UserError: there is no such model, or the configuration that it starts from does not allow it.
        """
        if name not in self.models:
            raise UserError(f"no model is called '{name}'; {nearest(name, list(self.models))}")
        return self.of(self.models[name](self.base).check())

    def of(self, config: RunConfig) -> list["Run"]:
        """The runs of a configuration, one a seed."""
        return [Run(self, dataclasses.replace(config, seed=seed)) for seed in self.seeds]

    def ranks(self, name: str) -> list[Ranks]:
        """Where the test targets stand in the main ranking of one of the models (one a seed) or of `BASELINES`."""
        if name in BASELINES:
            return [self.baseline(name)]
        return [run.ranks()[run.main] for run in self.model(name)]

    def train(self, runs: Iterable["Run"], poll_seconds: float = 5.0) -> None:
        """Trains what is not trained yet; runs that another process is at are left to it, and waited for.

        A run that diverges does not keep the others from being trained.

        Args:
          runs: what is wanted.
          poll_seconds: between two looks at runs that another process trains.

        Raises:
          Interrupted: a signal asked it to stop; the place is saved.
          UserError: as of `Trainer.run`; of runs that diverged, when all others are trained.
        """
        of = {run.workdir: run for run in runs}
        left = [workdir for workdir, run in of.items() if not run.finished]
        total, waited, stop = len(left), False, threading.Event()
        in_use: set[pathlib.Path] = set()  # by who trains there without the study
        diverged: list[str] = []
        with stop_signals(stop):  # also between two runs
            while left:
                free = [workdir for workdir in left if workdir not in in_use]
                found = locks.claim_unfinished(free, lambda workdir: of[workdir].finished)
                if found is None:
                    left, in_use = [workdir for workdir in left if not of[workdir].finished], set()
                    if left and not waited:
                        log(f"waiting for another process, which trains {len(left)} of them")
                        waited = True
                    if left and stop.wait(poll_seconds):
                        raise Interrupted
                    continue
                workdir, claim = found
                with claim:
                    log(f"run {total - len(left) + 1} of {total}: {workdir}")
                    try:
                        Trainer(of[workdir].config, self.dataset, workdir, stop).run()
                        left.remove(workdir)
                    except InUse:
                        in_use.add(workdir)
                    except Diverged as error:
                        log(f"{workdir.name} failed: {error}")
                        diverged.append(f"{workdir.name} ({error})")
                        left.remove(workdir)
                if stop.is_set():  # it came too late for the run to heed
                    raise Interrupted
        if diverged:
            raise UserError(
                f"{len(diverged)} of the runs that this needs cannot be trained; change what all models start from by "
                f"--config.FIELD=VALUE, in the same --workdir: {'; '.join(diverged)}"
            )

    def baseline(self, name: str, split: str = "test") -> Ranks:
        """Where the targets of a split stand in the ranking of a model that only counts."""

        def rank() -> dict[str, Ranks]:
            targets, sessions = self.protocol.select(self.dataset, split), self.dataset.splits[split]
            system = BASELINES[name](self.dataset, self.protocol, self.base.protocol.select_on)
            rows = system.rows(self.dataset, sessions, targets)
            exclude = sessions if self.protocol.exclude_session_items else None
            return {name: rank_rows(rows, name, targets, catalogue=self.dataset.catalogue_size, exclude=exclude)}

        return self._kept(f"baseline {name} {self.base.protocol.select_on}", split, rank)[name]

    def _kept(self, what: str, split: str, rank: Ranker, since: float = 0.0) -> dict[str, Ranks]:
        """The rankings of `rank()`, or those that it gave before, but after the time `since`."""
        settings = [what, split, self.dataset.fingerprint, dataclasses.astuple(self.protocol)]
        path = self.workdir / "ranks" / f"{files.json_digest(settings)[:12]}.npz"
        if (kept := _read_ranks(path, since)) is not None:
            return kept
        with locks.exclusive(path.with_suffix(".lock")):  # processes that waited for one run would all rank it now
            if (kept := _read_ranks(path, since)) is not None:
                return kept
            found = rank()
            arrays = {
                f"{name}/{part}": getattr(ranks, part) for name, ranks in found.items() for part in ("above", "equal")
            }
            with files.replacing(path) as partial, open(partial, "wb") as file:
                np.savez(file, names=np.array(list(found)), **arrays)
        return found


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run of a study. Attributes: study; config, whole, with its seed."""

    study: Study[Any]
    config: RunConfig

    @functools.cached_property
    def system(self) -> System:
        """What its configuration builds."""
        return self.config.build(catalogue_info(self.study.dataset))

    @functools.cached_property
    def workdir(self) -> pathlib.Path:
        """Its folder, named after all that decides its numbers."""
        config = {name: value for name, value in to_json(self.config).items() if name not in SAVING}
        objective = self.system.stages[-1].objective
        name = f"{self.config.family}-{'+'.join(self.system.networks)}-{objective}-seed{self.config.seed}"
        digest = files.json_digest([config, self.study.dataset.fingerprint])[:12]
        return self.study.workdir / "runs" / f"{name}-{digest}"

    @property
    def main(self) -> str:
        """The view that it is reported by."""
        return self.system.main

    @property
    def finished(self) -> bool:
        """Whether it has come to its end."""
        marker = self.workdir / "config.json"
        return marker.exists() and self._meta().get("finished", False)

    @property
    def history(self) -> list[dict[str, Any]]:
        """The record of each epoch."""
        return self._meta()["run_state"]["history"]

    @property
    def best_epoch(self) -> int:
        """The epoch that validation chose, from 0."""
        return self._meta()["run_state"]["best"]["epoch"]

    def ranks(self, split: str = "test", views: Mapping[str, View] | None = None) -> dict[str, Ranks]:
        """Where the targets of a split stand under some views of the best epoch; under the system's own by default."""
        return self._ranks(split, "best", views)

    def ranks_of_epoch(self, epoch: int, split: str = "test") -> dict[str, Ranks]:
        """The same after an epoch, counted from 0, of a run that keeps them."""
        return self._ranks(split, str(epoch), None, epoch)

    def _ranks(
        self, split: str, what: str, views: Mapping[str, View] | None, epoch: int | None = None
    ) -> dict[str, Ranks]:
        def rank() -> dict[str, Ranks]:
            trained = load_trained(self.workdir, self.study.dataset.path)
            params = trained.params if epoch is None else read_epoch(self.workdir, epoch, trained.params)
            encoder = trained.encoder(params=params)
            dataset, protocol = self.study.dataset, self.study.protocol
            targets = protocol.select(dataset, split)
            chosen = views or trained.system.views
            return rank_split(dataset, split, targets, encoder, encoder.tables, chosen, protocol)

        described = json.dumps({name: dict(view) for name, view in (views or {}).items()})
        # A run that was removed and trained again is ranked again.
        trained_at = max(entry.stat().st_mtime for entry in (self.workdir / FOLDER).iterdir())
        return self.study._kept(f"{self.workdir.name} {what} {described}", split, rank, trained_at)

    def _meta(self) -> dict[str, Any]:
        try:
            return read_newest(self.workdir).meta
        except UserError:  # it has begun, and saved nothing yet
            return {}


def values(ranks: Sequence[Ranks]) -> dict[str, np.ndarray]:
    """The metrics of every target under the rankings of several seeds: float64 [seed, target] by name."""
    of_seeds = [metric_values(one.above, one.equal) for one in ranks]
    return {metric: np.stack([one[metric] for one in of_seeds]) for metric in of_seeds[0]}


def _read_ranks(path: pathlib.Path, since: float) -> dict[str, Ranks] | None:
    """The rankings that were kept in a file after a time; None if there are none, or they cannot be read."""
    damaged = (ValueError, KeyError, EOFError, zipfile.BadZipFile)
    with contextlib.suppress(FileNotFoundError, *damaged):
        if path.stat().st_mtime >= since:
            with np.load(path, allow_pickle=False) as held:
                return {name: Ranks(held[f"{name}/above"], held[f"{name}/equal"]) for name in held["names"].tolist()}
    return None
