"""The driver: alternates the two train steps by the schedule, validates, checkpoints, and continues where it stopped.

Everything that decides the numbers is in the configuration, the dataset and the checkpoint. Keys are folded from
one base key by what they are for and when, so a run that is killed and continued makes the same steps.
"""

import contextlib
import functools
import itertools
import math
import pathlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.config import AlterRecConfig, MiningConfig
from alterrec_jax.data.batches import DeviceChunk, TrainBatches
from alterrec_jax.data.catalogue import write_catalogue
from alterrec_jax.data.dataset import Dataset, Sessions
from alterrec_jax.data.targets import Targets
from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.batching import default_batch_size
from alterrec_jax.evaluation.cross_entropy import CROSS_ENTROPY, mean_cross_entropy, sample_of_training
from alterrec_jax.evaluation.protocol import Protocol, validate
from alterrec_jax.hard_negatives import cache
from alterrec_jax.models.alterrec import item_features
from alterrec_jax.models.registry import build_system
from alterrec_jax.runtime import processes
from alterrec_jax.runtime.console import log, progress
from alterrec_jax.runtime.host_memory import steps_in_flight
from alterrec_jax.runtime.signals import stop_signals
from alterrec_jax.sharding import mesh
from alterrec_jax.training import steps
from alterrec_jax.training.checkpoint import EPOCHS, Checkpoint, CheckpointStore
from alterrec_jax.training.run_log import RunLog
from alterrec_jax.training.run_state import RunState, check_same_run, record_of
from alterrec_jax.training.stages import Turn, turn_of_epoch
from alterrec_jax.training.workdir import claimed

_INIT, _ORDER, _STEP = range(3)  # what a key is folded for
_INIT_COUNT = {"id": 0, "text": 1, "fused": 2}  # alone or with others, a network begins alike


class Interrupted(Exception):
    """The run was asked to stop, and has saved its place."""


class Diverged(UserError):
    """A loss stopped being finite: the configuration's fault, not that of the place where it trains."""


def clip_window(mining: MiningConfig, items: int) -> tuple[int, int]:
    """The rank window (k1, k2) within a catalogue; says so if k2 had to be clipped.

    Raises:
      UserError: k1 is not below the catalogue's size, so that no item is left.
    """
    if mining.k1 >= items:
        raise UserError(f"mining.k1 is {mining.k1}, but the catalogue has {items} items; choose a smaller one")
    if mining.k2 > items:
        log(f"mining.k2 ({mining.k2}) exceeds the catalogue ({items} items): clipped to {items}")
    return mining.k1, min(mining.k2, items)


class Trainer:
    """One run in one workdir: `Trainer(...).run()` starts it or continues it.

    Whoever trains several runs gives them one `stop`, and sees there a signal that came too late for a run to heed.
    """

    def __init__(
        self, config: AlterRecConfig, dataset: Dataset, workdir: pathlib.Path, stop: threading.Event | None = None
    ):
        self._config, self._dataset, self._workdir = config.check(), dataset, workdir
        items = dataset.catalogue_size
        self._window = (0, items) if config.mining.negatives == "full" else clip_window(config.mining, items)
        self._system = build_system(config, items)
        self._features = item_features(dataset.text_vectors[:items], config.precision, self._system.networks)
        self._batches = TrainBatches(dataset.splits["train"], config.batch_prefixes, config.max_length)
        if not self._batches.prefixes:
            raise UserError(f"{dataset.path} has no training session of two items or more; prepare more data")
        spe = self._batches.steps_per_epoch
        self._kept = cache.shapes_for(config, len(dataset.splits["train"].items))
        self._optimizers = {name: steps.make_optimizer(part, spe) for name, part in self._system.configs.items()}
        self._step_fns: dict[Turn, steps.GroupStep] = {}
        self._base = jax.random.key(config.seed)
        self._protocol = Protocol(config.protocol.targets, config.protocol.exclude_session_items)
        self._stop = stop or threading.Event()

    @property
    def selected_on(self) -> str:
        """The entry of an epoch's record that chooses the model."""
        return f"{self._system.main}_{self._config.protocol.select_on}"

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
            self._epochs = None
            if self._config.keep_epochs:
                self._epochs = stack.enter_context(contextlib.closing(CheckpointStore(self._workdir, folder=EPOCHS)))
            self._begin_or_continue()
            tell = after_epoch or (lambda record: None)
            if self._log is not None:
                stack.enter_context(contextlib.closing(self._log))
            for record in self._place.history:
                tell(record)
            while not self._finished():
                self._epoch()
                if after_epoch is not None:  # whoever is told may read it; else the next epoch need not wait for it
                    self._store.wait()
                tell(self._place.history[-1])
            self._store.wait()
            if self._log is not None:
                self._log.draw()
        assert self._place.best is not None
        return self._place.best

    def _begin_or_continue(self) -> None:
        self._place = RunState()
        self._log: RunLog | None = None  # only the first process has one
        record = self._store.restore_newest(None, None)
        if record is not None:  # arrays of another configuration have other shapes: compare before reading them
            check_same_run(self._workdir, record.meta, self._config, self._dataset)
        # By their shapes: fresh arrays beside those that are read would take the memory of a second run.
        networks = self._system.networks
        shapes = {
            name: steps.state_shapes(network, self._optimizers[name], self._features[name])
            for name, network in networks.items()
        }
        state = {"networks": shapes, "windows": self._kept}
        found = self._store.restore_newest(state, {name: network.params for name, network in shapes.items()})
        if found is None:
            self._states = {
                name: steps.init_state(
                    network, self._optimizers[name], self._features[name], self._key(_INIT, _INIT_COUNT[name])
                )
                for name, network in networks.items()
            }
            self._windows = cache.zeros(self._kept)
            self._best = {name: _copy(state.params) for name, state in self._states.items()}
        else:
            state, self._best = _copy(found.state), found.best
            self._states, self._windows = state["networks"], state["windows"]
            self._place = RunState(**found.meta["place"])
            self._store.forget_after(self._number())
            log(f"continuing at epoch {self._place.epoch + 1}, step {self._place.step}")
        if self._epochs is not None:  # those of a run that died before its checkpoint, or of one that was here before
            self._epochs.forget_after(self._place.epoch - 1)
        else:
            processes.on_main_process(lambda: shutil.rmtree(self._workdir / EPOCHS, ignore_errors=True))
        batches, shape = self._batches, f"{self._batches.rows} x {self._config.max_length}"
        log(
            f"an epoch is {batches.prefixes:,} prefixes in {batches.steps_per_epoch} steps of {shape} positions, "
            f"{batches.fill:.1%} of which hold an item"
        )
        if (empty := mesh.padded(batches.rows, mesh.DATA) - batches.rows) * 10 > batches.rows:
            log(
                f"note: {mesh.size(mesh.DATA)} devices share {batches.rows} rows a batch and {empty} empty ones; let "
                f"batch_prefixes be {self._config.max_length} times a multiple of {mesh.size(mesh.DATA)}"
            )
        processes.on_main_process(self._begin_logs)
        self._saved_at = time.monotonic()

    def _begin_logs(self) -> None:
        self._log = RunLog(self._workdir, self._config, self._place.history)  # first: config.json tells whose this is
        write_catalogue(self._workdir, self._dataset)

    def _finished(self) -> bool:
        schedule, place = self._config.schedule, self._place
        if place.epoch >= schedule.m_max:
            return True
        waited = place.epoch - 1 - place.best["epoch"] if place.best else 0
        return bool(schedule.patience) and waited >= schedule.patience

    def _epoch(self) -> None:
        """One epoch, or what is left of it: train, validate, record, save."""
        place = self._place
        turn = turn_of_epoch(place.epoch, self._config.schedule, tuple(self._system.networks), self._config.mining)
        if place.step == 0:
            self._states[turn.network] = steps.start_epoch(self._states[turn.network])
        self._train(turn)
        self._check_finite()
        metrics = self._validate()
        self._record(turn, metrics)
        if self._epochs is not None:
            params = {name: state.params for name, state in self._states.items()}
            self._epochs.save(place.epoch, Checkpoint({}, params, {}))
            self._epochs.wait()  # no checkpoint may say that the epoch is done before
        place.epoch, place.step, place.seconds = place.epoch + 1, 0, 0.0
        self._save()
        if self._log is not None:
            self._log.write(place.history)
        if self._told_to_stop() and not self._finished():
            self._interrupt()

    def _train(self, turn: Turn) -> None:
        place, total = self._place, self._batches.steps_per_epoch
        step_fn, peer = self._step_fn(turn), self._peer(turn)
        features, state = self._features[turn.network], self._states[turn.network]._replace(windows=self._windows)
        key, batches = self._key(_STEP, place.epoch), self._on_device(place.epoch, place.step)
        what = f"epoch {place.epoch + 1}/{self._config.schedule.m_max} {turn}"
        started = time.monotonic() - place.seconds
        for group in progress(batches, what, total=total, unit="steps", initial=place.step):
            with jax.transfer_guard("disallow"):
                state = step_fn(state, peer, features, group, key)
            self._states[turn.network], self._windows = state._replace(windows=None), state.windows
            place.step += 1
            if place.step % steps_in_flight() == 0 or place.step == total:
                jax.block_until_ready(state.totals)  # tells true times, and hears signals
            place.seconds = time.monotonic() - started
            if jax.process_count() > 1 and place.step % steps_in_flight() and not self._due_by_steps():
                continue  # processes agree only when they wait for the devices anyway
            stop, late = processes.any_process(
                self._stop.is_set(), time.monotonic() - self._saved_at >= self._config.checkpoint_seconds
            )
            if stop:
                self._interrupt()
            if late or self._due_by_steps():
                self._save()
                started = time.monotonic() - place.seconds

    def _due_by_steps(self) -> bool:
        """Whether to save after this step of the epoch, whatever the time."""
        every = self._config.checkpoint_steps
        return every > 0 and self._place.step % every == 0

    def _told_to_stop(self) -> bool:
        """Whether a signal has reached this process or another one."""
        return processes.any_process(self._stop.is_set())[0]

    def _on_device(self, epoch: int, start: int) -> Iterator[DeviceChunk]:
        """Yields for each batch from number `start` on the group that it is in."""
        for batches, group in self._batches.groups(self._key(_ORDER, epoch), start):
            yield from itertools.repeat(group, batches)

    def _step_fn(self, turn: Turn) -> steps.GroupStep:
        if turn not in self._step_fns:
            optimizer, mining = self._optimizers[turn.network], self._config.mining
            step = steps.make_step(turn, self._system.networks, optimizer, mining, self._window)
            self._step_fns[turn] = steps.compiled(steps.in_groups(step))
        return self._step_fns[turn]

    def _peer(self, turn: Turn) -> steps.FrozenPeer | None:
        if turn.peer is None:
            return None
        peer = turn.peer
        return steps.FrozenPeer.of(self._system.networks[peer], self._states[peer].params, self._features[peer])

    def _validate(self) -> dict[str, dict[str, float]]:
        """Metrics on validation, and cross-entropies on a sample of training, of every view."""
        params = {name: state.params for name, state in self._states.items()}
        encoder = self._system.encoder(params, self._features, self._config.max_length)

        def queries(sessions: Sessions, targets: Targets) -> Iterator[Mapping[str, np.ndarray]]:
            size = default_batch_size(self._dataset.catalogue_size)
            for batch in encoder(sessions, targets):
                for start in range(0, len(next(iter(batch.values()))), size):
                    if self._told_to_stop():
                        self._interrupt()  # the steps are all done: continued, the epoch is validated at once
                    yield {name: array[start : start + size] for name, array in batch.items()}

        views, train = self._system.views, self._dataset.splits["train"]
        found = validate(self._dataset, queries, encoder.tables, views, self._protocol)
        catalogue = self._dataset.catalogue_size
        losses = mean_cross_entropy(
            queries(train, self._sample), encoder.tables, views, self._sample, catalogue=catalogue
        )
        return {view: {**metrics, CROSS_ENTROPY: losses[view]} for view, metrics in found.items()}

    @functools.cached_property
    def _sample(self) -> Targets:
        return sample_of_training(self._dataset)

    def _record(self, turn: Turn, metrics: Mapping[str, Mapping[str, float]]) -> None:
        place, total = self._place, self._batches.steps_per_epoch
        totals = jax.tree.map(float, self._states[turn.network].totals)
        own = sum(record["network"] == turn.network for record in place.history)
        record: dict[str, Any] = {
            "epoch": place.epoch,
            "network": turn.network,
            "phase": turn.phase,
            "loss": totals.loss / max(totals.prefixes, 1.0),
            "gradient_norm": totals.gradient_norm / max(totals.steps, 1.0),
            "learning_rate": float(
                steps.learning_rate_schedule(self._system.configs[turn.network], total)(own * total)
            ),
            "prefixes_per_second": totals.prefixes / max(place.seconds, 1e-9),
            "seconds": place.seconds,
            "finished_at": time.time(),
        }
        record |= {f"{view}_{metric}": value for view, values in metrics.items() for metric, value in values.items()}
        place.history.append(record)
        if place.best is None or record[self.selected_on] > place.best[self.selected_on]:
            place.best = record
            self._best = {name: _copy(state.params) for name, state in self._states.items()}
        log(
            f"epoch {place.epoch + 1:3d} {str(turn):21s} loss {record['loss']:.4f}  validation hits@20 "
            + "  ".join(f"{view} {values['hits@20']:.4f}" for view, values in metrics.items())
            + f"  {record['prefixes_per_second']:,.0f} prefixes/s"
            + ("  *" if place.best is record else "")
        )

    def _interrupt(self) -> NoReturn:
        """Ends the run once its place is saved, as it is told to have been."""
        self._save()
        self._store.wait()
        raise Interrupted

    def _save(self) -> None:
        """Begins to save the run's place, if it is not saved yet and no network has diverged."""
        self._check_finite()
        meta = record_of(self._place, self._finished(), self._config, self._dataset)
        state = {"networks": self._states, "windows": self._windows}
        self._store.save(self._number(), Checkpoint(state, self._best, meta))
        self._saved_at = time.monotonic()

    def _check_finite(self) -> None:
        for name, state in self._states.items():
            if not math.isfinite(float(state.totals.loss)) or not math.isfinite(float(state.totals.gradient_norm)):
                raise Diverged(
                    f"the loss of the {name} network stopped being finite in epoch {self._place.epoch + 1}; lower "
                    f"{name}.learning_rate or raise {name}.temperature, and train in another workdir"
                )

    def _number(self) -> int:
        """Grows through the run: the steps done, and one more for each epoch's validation."""
        return self._place.epoch * (self._batches.steps_per_epoch + 1) + self._place.step

    def _key(self, purpose: int, count: int) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(self._base, purpose), count)


def _copy(tree: Any) -> Any:
    """A copy on the same devices, which no step takes over."""
    return jax.tree.map(jnp.copy, tree)
