"""The driver: consumes the loop's events; validates, records, saves and stops, and continues where it stopped.

Everything that decides the numbers is in the configuration, the dataset and the checkpoint.
"""

import contextlib
import functools
import math
import pathlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import jax
import numpy as np

from alterrec_jax.config import RunConfig
from alterrec_jax.contract import Params, System, View
from alterrec_jax.data.batches import TrainBatches
from alterrec_jax.data.catalogue import write_catalogue
from alterrec_jax.data.dataset import Dataset, Sessions
from alterrec_jax.data.features import catalogue_info, make_context
from alterrec_jax.data.targets import Targets
from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.batching import default_batch_size, rows_of
from alterrec_jax.evaluation.cross_entropy import CROSS_ENTROPY, mean_cross_entropy, sample_of_training
from alterrec_jax.evaluation.fitted_views import fit_views, in_words, weight_entries
from alterrec_jax.evaluation.protocol import Protocol, protocol_of, validate
from alterrec_jax.runtime import processes
from alterrec_jax.runtime.console import log
from alterrec_jax.runtime.signals import stop_signals
from alterrec_jax.scoring.prefix_encoder import PrefixEncoder
from alterrec_jax.sharding import mesh
from alterrec_jax.stages import Epoch
from alterrec_jax.training.checkpoint import EPOCHS, Checkpoint, CheckpointStore
from alterrec_jax.training.coverage import coverage_notes
from alterrec_jax.training.lengthening import stored_shapes
from alterrec_jax.training.loop import RunArrays, StepDone, TrainLoop, copied
from alterrec_jax.training.run_log import RunLog
from alterrec_jax.training.run_state import RunState, record_of, run_of
from alterrec_jax.training.start import fitted_params, params_of_run
from alterrec_jax.training.workdir import claimed


class Interrupted(Exception):
    """The run was asked to stop, and has saved its place."""


class Diverged(UserError):
    """A loss stopped being finite: the configuration's fault, not that of the machine."""


class Trainer:
    """One run in one workdir: `Trainer(...).run()` starts it or continues it.

    Whoever trains several runs gives them one `stop`, and sees there a signal that came too late for a run to heed.
    Validation takes `validation_batch` targets at a time, between which it can be stopped; None chooses by the
    catalogue's size.
    """

    def __init__(
        self,
        config: RunConfig,
        dataset: Dataset,
        workdir: pathlib.Path,
        stop: threading.Event | None = None,
        validation_batch: int | None = None,
    ):
        self._config, self._dataset, self._workdir = config.check(), dataset, workdir
        self._system = config.build(catalogue_info(dataset))
        self._notes = [*self._system.notes, *coverage_notes(self._system, dataset)]
        self._context = make_context(dataset, self._system.reads, config.precision)
        train, reads = dataset.splits["train"], self._system.reads
        self._batches = TrainBatches(train, config.batch_prefixes, config.max_length, self._system.layout, reads.users)
        if not self._batches.prefixes:
            raise UserError(f"{dataset.path} has no training session of two items or more; prepare more data")
        self._loop = self._loop_of(self._system)
        self._protocol: Protocol = protocol_of(config.protocol, dataset)
        self._stop, self._validation_batch = stop or threading.Event(), validation_batch

    @property
    def selected_on(self) -> str:
        """The entry of an epoch's record that chooses the model."""
        return f"{self._system.main}_{self._config.protocol.select_on}"

    def chooses(self, epoch: int) -> bool:
        """Whether an epoch, from 0, is of a stage whose validation chooses the model."""
        return self._loop.epochs[epoch].stage.chooses

    def run(self, after_epoch: Callable[[Mapping[str, Any]], None] | None = None) -> dict[str, Any]:
        """Trains to the end and returns the record of the best epoch.

        Args:
          after_epoch: is given the record of each epoch that is saved, and first of those from before the run was
            continued; what it raises ends the run.

        Raises:
          Interrupted: a signal asked it to stop; its place is saved.
          UserError: the workdir is in use or holds something else, a loss is not finite, or the disk is full.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(stop_signals(self._stop))  # first, so that nothing here is ended half-way
            processes.on_main_process(lambda: stack.enter_context(claimed(self._workdir)))
            kept = self._config.keep_checkpoints
            self._store = stack.enter_context(contextlib.closing(CheckpointStore(self._workdir, kept=kept)))
            self._epoch_store: CheckpointStore | None = None
            if self._config.keep_epochs:
                store = CheckpointStore(self._workdir, folder=EPOCHS)
                self._epoch_store = stack.enter_context(contextlib.closing(store))
            self._begin_or_continue()
            if self._log is not None:
                stack.enter_context(contextlib.closing(self._log))
            for record in self._state.history:
                if after_epoch is not None:
                    after_epoch(record)
            self._consume(after_epoch)
            self._store.wait()
            if self._log is not None:
                self._log.draw()
        assert self._state.best is not None
        return self._state.best

    def _consume(self, after_epoch: Callable[[Mapping[str, Any]], None] | None) -> None:
        """Handles what the loop tells, until the run is over."""
        if self._finished():
            return
        for event in self._loop.run(self._arrays, self._state):
            if isinstance(event, StepDone):
                self._after_step(event)
                continue
            self._after_epoch(event.epoch)
            if after_epoch is not None:
                self._store.wait()  # `after_epoch` may read it; else the next epoch need not wait for it
                after_epoch(self._state.history[-1])
            if self._finished():
                return

    def _begin_or_continue(self) -> None:
        self._state = RunState()
        self._log: RunLog | None = None  # only the main process has one
        # By their shapes: fresh arrays beside those that are read would take the memory of a second run.
        shapes = functools.partial(
            stored_shapes,
            workdir=self._workdir,
            config=self._config,
            dataset=self._dataset,
            loop=self._loop,
            loop_of=self._loop_of,
        )
        found = self._store.restore_newest(shapes, self._loop.shapes().params)
        if found is None:
            self._arrays = self._loop.fresh(self._start)
            self._best = copied(self._arrays.params)
        else:
            self._arrays, self._best = self._loop.continued(RunArrays(**copied(found.state))), found.best
            self._state = RunState(**found.meta["run_state"])
            self._store.forget_after(self._number())
            log(f"continuing at epoch {self._state.epoch + 1}, step {self._state.step}{self._ended_early()}")
        if self._epoch_store is not None:  # those of a run that died before its checkpoint, or of one that was here
            self._epoch_store.forget_after(self._state.epoch - 1)
        else:
            processes.on_main_process(lambda: shutil.rmtree(self._workdir / EPOCHS, ignore_errors=True))
        self._say_what_an_epoch_is()
        processes.on_main_process(self._begin_logs)
        self._saved_at = time.monotonic()

    def _loop_of(self, system: System) -> TrainLoop:
        interactions = len(self._dataset.splits["train"].items)
        return TrainLoop(system, self._context, self._batches, interactions, self._config.seed)

    def _ended_early(self) -> str:
        """A remark for a run that patience has ended, which could go on."""
        if not self._finished() or self._state.epoch >= len(self._loop.epochs):
            return ""
        return f": patience={self._config.patience} has ended the run; give it a larger one to go on"

    def _start(self, fresh: dict[str, Params]) -> dict[str, Params]:
        """The parameters that are fitted, and those of the run that this one starts from, if it does."""
        fitted = fitted_params(self._system, self._dataset.splits["train"])
        if not self._config.start_from:
            return fitted
        return fitted | params_of_run(self._config.start_from, self._system, self._context, self._dataset, fresh)

    def _say_what_an_epoch_is(self) -> None:
        batches, shape = self._batches, f"{self._batches.rows} x {self._batches.length}"
        for note in self._notes:
            log(note)
        log(
            f"an epoch is {batches.prefixes:,} prefixes in {batches.steps_per_epoch} steps of {shape} positions, "
            f"{batches.fill:.1%} of which hold an item"
        )
        if (empty := mesh.padded(batches.rows, mesh.DATA) - batches.rows) * 10 > batches.rows:
            log(
                f"note: {mesh.size(mesh.DATA)} devices share {batches.rows} rows a batch and {empty} empty ones; let "
                f"batch_prefixes be {batches.length} times a multiple of {mesh.size(mesh.DATA)}"
            )

    def _begin_logs(self) -> None:
        self._log = RunLog(self._workdir, self._config, self._state.history)  # first: config.json tells whose this is
        write_catalogue(self._workdir, self._dataset)

    def _finished(self) -> bool:
        state, patience = self._state, self._config.patience
        if state.epoch >= len(self._loop.epochs):
            return True
        if not state.best or not self.chooses(state.best["epoch"]):
            return False
        return bool(patience) and state.epoch - 1 - state.best["epoch"] >= patience

    def _after_step(self, event: StepDone) -> None:
        """Saves, or stops, if it is time."""
        due = self._config.checkpoint_steps > 0 and self._state.step % self._config.checkpoint_steps == 0
        if jax.process_count() > 1 and not event.synced and not due:
            return  # processes agree only when they wait for the devices anyway
        late = time.monotonic() - self._saved_at >= self._config.checkpoint_seconds
        stop, late = processes.any_process(self._stop.is_set(), late)
        if stop:
            self._interrupt()
        if late or due:
            self._save()

    def _after_epoch(self, epoch: Epoch) -> None:
        """Validates, records and saves."""
        state = self._state
        self._check_finite()
        self._record(epoch, *self._validate())
        if self._epoch_store is not None:
            self._epoch_store.save(
                state.epoch, Checkpoint({}, self._arrays.params, run_of(self._config, self._dataset))
            )
            self._epoch_store.wait()  # no checkpoint may say that the epoch is done before
        state.epoch, state.step, state.seconds = state.epoch + 1, 0, 0.0
        self._save()
        if self._log is not None:
            self._log.write(state.history)
        if processes.any_process(self._stop.is_set())[0] and not self._finished():
            self._interrupt()

    def _validate(self) -> tuple[dict[str, View], dict[str, dict[str, float]]]:
        """All views, fitted where they are to be; their metrics on validation, and cross-entropies in training."""
        system, config = self._system, self._config
        encoder = PrefixEncoder(system.components, self._arrays.params, self._context, config.max_length)
        batch_size = self._validation_batch

        def queries(sessions: Sessions, targets: Targets) -> Iterator[Mapping[str, np.ndarray]]:
            size = batch_size or default_batch_size(self._dataset.catalogue_size)
            for batch in encoder(sessions, targets):
                for start in range(0, len(next(iter(batch.values()))), size):
                    if processes.any_process(self._stop.is_set())[0]:
                        self._interrupt()  # the steps are all done: continued, the epoch is validated at once
                    yield rows_of(batch, slice(start, start + size))

        asked = (self._dataset, queries, encoder.tables)
        views = fit_views(system, *asked, self._protocol, config.protocol.select_on, batch_size)
        found = validate(*asked, views, self._protocol, batch_size)
        catalogue = self._dataset.catalogue_size
        sampled = queries(self._dataset.splits["train"], self._sample)
        losses = mean_cross_entropy(
            sampled, encoder.tables, views, self._sample, catalogue=catalogue, batch_size=batch_size
        )
        return views, {view: {**metrics, CROSS_ENTROPY: losses[view]} for view, metrics in found.items()}

    @functools.cached_property
    def _sample(self) -> Targets:
        return sample_of_training(self._dataset)

    def _record(self, epoch: Epoch, views: Mapping[str, View], metrics: Mapping[str, Mapping[str, float]]) -> None:
        state, totals = self._state, jax.tree.map(float, self._arrays.totals)
        network = "+".join(epoch.stage.trains)
        before = sum(record["optimizer"] == epoch.stage.optimizer for record in state.history)
        record: dict[str, Any] = {
            "epoch": state.epoch,
            "network": network,
            "objective": epoch.stage.objective,
            "optimizer": epoch.stage.optimizer,
            "loss": totals.loss / max(totals.prefixes, 1.0),
            "gradient_norm": totals.gradient_norm / max(totals.steps, 1.0),
            "learning_rate": self._loop.learning_rate(epoch, before),
            "prefixes_per_second": totals.prefixes / max(state.seconds, 1e-9),
            "seconds": state.seconds,
            "finished_at": time.time(),
        }
        record |= {f"loss_{name}": value / max(totals.prefixes, 1.0) for name, value in totals.terms.items()}
        record |= {f"{view}_{metric}": value for view, values in metrics.items() for metric, value in values.items()}
        record |= weight_entries(self._system, views)
        state.history.append(record)
        best = state.best
        if best is None or not self.chooses(best["epoch"]) or record[self.selected_on] > best[self.selected_on]:
            state.best = record
            self._best = copied(self._arrays.params)
        log(
            f"epoch {state.epoch + 1:3d} {str(epoch):21s} loss {record['loss']:.4f}  validation hits@20 "
            + "  ".join(f"{view} {values['hits@20']:.4f}" for view, values in metrics.items())
            + "".join(f"  ({name} = {in_words(views[name])})" for name in self._system.fitted)
            + f"  {record['prefixes_per_second']:,.0f} prefixes/s"
            + ("  *" if state.best is record else "")
        )

    def _interrupt(self) -> NoReturn:
        """Saves the run, waits until the checkpoint is complete, and ends."""
        self._save()
        self._store.wait()
        raise Interrupted

    def _save(self) -> None:
        """Begins to save the run, if it is not saved yet and no network has diverged."""
        self._check_finite()
        meta = record_of(self._state, self._finished(), self._config, self._dataset)
        self._store.save(self._number(), Checkpoint(self._arrays.as_tree(), self._best, meta))
        self._saved_at = time.monotonic()

    def _check_finite(self) -> None:
        totals = self._arrays.totals
        if not math.isfinite(float(totals.loss)) or not math.isfinite(float(totals.gradient_norm)):
            epoch = self._loop.epochs[min(self._state.epoch, len(self._loop.epochs) - 1)]
            raise Diverged(
                f"the loss of the {'+'.join(epoch.stage.trains)} network stopped being finite in epoch "
                f"{self._state.epoch + 1}; lower its learning_rate or raise its temperature, and use another workdir"
            )

    def _number(self) -> int:
        """Grows through the run: the steps done, and one more for each epoch's validation."""
        return self._state.epoch * (self._batches.steps_per_epoch + 1) + self._state.step
