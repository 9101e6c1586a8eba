"""The loop of a run, as a generator of what happened: steps, and ends of epochs. Whoever consumes it validates, saves,
logs and stops; between two events nothing changes.

Keys are folded from one base key by what they are for and when, so a run that is continued makes the same steps.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from alterrec_jax.contract import Context, FrozenView, Params, Stage, System, param_shapes
from alterrec_jax.data.batches import DeviceChunk, TrainBatches
from alterrec_jax.hard_negatives import cache
from alterrec_jax.hard_negatives.cache import WindowCache
from alterrec_jax.runtime.console import progress
from alterrec_jax.runtime.host_memory import steps_in_flight
from alterrec_jax.scoring.frozen import freeze
from alterrec_jax.stages import Epoch, tape
from alterrec_jax.training import steps
from alterrec_jax.training.run_state import RunState
from alterrec_jax.training.steps import Totals

_INIT, _ORDER, _STEP = range(3)  # what a key is folded for


@dataclasses.dataclass
class RunArrays:
    """The arrays of a run: what a checkpoint holds beside its record.

    Attributes:
      params: by network.
      opt_states: by optimizer.
      totals: the sums of the epoch.
      windows: the frozen peer's, of a run whose stages cache them; else None.
    """

    params: dict[str, Params]
    opt_states: dict[str, Any]
    totals: Totals
    windows: WindowCache | None

    def as_tree(self) -> dict[str, Any]:
        """As a checkpoint stores them."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


class StepDone(NamedTuple):
    """A step was made. Attributes: synced, whether the devices were waited for."""

    synced: bool


class EpochDone(NamedTuple):
    """All steps of an epoch were made. Attributes: epoch, which."""

    epoch: Epoch


class TrainLoop:
    """What is fixed while a run lasts: its system, its batches, its compiled steps."""

    def __init__(self, system: System, context: Context, batches: TrainBatches, interactions: int, seed: int):
        """Builds the objectives and optimizers.

        Args:
          system, context: what trains, and what it reads.
          batches: of the training sessions.
          interactions: how many these sessions have.
          seed: of every random number.
        """
        self._system, self._context, self._batches = system, context, batches
        self._base, self.epochs = jax.random.key(seed), tape(system.stages)
        self._objectives = [system.objectives[stage.objective](stage) for stage in system.stages]
        self._optimizers = {
            name: steps.make_optimizer(config, batches.steps_per_epoch, _frozen(system, name))
            for name, config in system.optimizers.items()
        }
        cached = [
            objective.cached_positives
            for stage, objective in zip(system.stages, self._objectives, strict=True)
            if objective.cached_positives is not None and max(stage.epochs, stage.uncut) > 1
        ]
        self._windows = cache.shapes(interactions, max(cached)) if cached else None
        self._steps: dict[tuple[Stage, bool], steps.ChunkStep] = {}

    def shapes(self) -> RunArrays:
        """The shapes of the arrays, and where they lie."""
        networks = self._system.networks
        params = {name: param_shapes(network, self._context) for name, network in networks.items()}
        return RunArrays(params, self._opt_states(params, shapes=True), Totals.zeros(self._system.terms), self._windows)

    def fresh(self, start: Callable[[dict[str, Params]], Mapping[str, Params]] | None = None) -> RunArrays:
        """The arrays before the first step; `start` makes the parameters of some networks from their fresh ones."""
        system = self._system
        params = {
            name: steps.init_params(network, self._context, self._key(_INIT, system.init_numbers[name]))
            for name, network in system.networks.items()
        }
        if start is not None:
            params |= start(params)
        totals, windows = Totals.zeros(system.terms), cache.zeros(self._windows)
        return RunArrays(params, self._opt_states(params), totals, windows)

    def lengthens(self, shorter: "TrainLoop", epochs: int) -> str:
        """Why a run of another length, of which so many epochs have begun, cannot go on here; empty if it can.

        It can where this loop would have made the same epochs: nothing in them may depend on how many come after.
        """
        if self._system.optimizers != shorter._system.optimizers:
            return "its optimizers depend on the length"
        for number, (there, here) in enumerate(zip(shorter.epochs[:epochs], self.epochs, strict=False), 1):
            if (_what(there), there.number, there.within) != (_what(here), here.number, here.within):
                return f"its epoch {number} was {there} and would have been {here}"
        mined = any(shorter._objectives[epoch.number].cached_positives is not None for epoch in shorter.epochs[:epochs])
        if mined and self._windows != shorter._windows:
            return "the windows that it mined were not kept"
        return ""

    def continued(self, arrays: RunArrays) -> RunArrays:
        """The arrays of a run that goes on here, with room for windows where a shorter one needed none."""
        if arrays.windows is not None:
            return arrays
        return dataclasses.replace(arrays, windows=cache.zeros(self._windows))

    def run(self, arrays: RunArrays, state: RunState) -> Iterator[StepDone | EpochDone]:
        """Trains from where the state says, and keeps arrays and state up to date at every event.

        Whoever consumes `EpochDone` moves the state to the next epoch.
        """
        while state.epoch < len(self.epochs):
            epoch = self.epochs[state.epoch]
            if state.step == 0:
                arrays.totals = Totals.zeros(self._system.terms)
            yield from self._train(epoch, arrays, state)
            yield EpochDone(epoch)

    def _train(self, epoch: Epoch, arrays: RunArrays, state: RunState) -> Iterator[StepDone]:
        stage, total = epoch.stage, self._batches.steps_per_epoch
        step, peer = self._step(epoch), self._peer(stage, arrays)
        changed = steps.StageState(
            {name: arrays.params[name] for name in stage.trains},
            arrays.opt_states[stage.optimizer],
            arrays.totals,
            arrays.windows,
        )
        key, chunks = self._key(_STEP, state.epoch), self._on_device(state.epoch, state.step)
        what = f"epoch {state.epoch + 1}/{len(self.epochs)} {epoch}"
        started = time.monotonic()
        for chunk in progress(chunks, what, total=total, unit="steps", initial=state.step):
            with jax.transfer_guard("disallow"):
                changed = step(changed, peer, self._context, chunk, key)
            arrays.params |= changed.params
            arrays.opt_states[stage.optimizer] = changed.opt_state
            arrays.totals, arrays.windows = changed.totals, changed.windows
            state.step += 1
            synced = state.step % steps_in_flight() == 0 or state.step == total
            if synced:
                jax.block_until_ready(changed.totals)  # tells true times, and hears signals
            state.seconds += time.monotonic() - started
            yield StepDone(synced)
            started = time.monotonic()

    def learning_rate(self, epoch: Epoch, epochs_before: int) -> float:
        """That of an epoch, of whose optimizer's own there were so many before."""
        total = self._batches.steps_per_epoch
        schedule = steps.learning_rate_schedule(self._system.optimizers[epoch.stage.optimizer], total)
        return float(schedule(epochs_before * total))

    def _step(self, epoch: Epoch) -> steps.ChunkStep:
        objective = self._objectives[epoch.number]
        reuse = self._windows is not None and objective.cached_positives is not None and epoch.within > 0
        same = (_what(epoch), reuse)
        if same not in self._steps:
            step = steps.make_step(objective, self._optimizers[epoch.stage.optimizer], reuse)
            self._steps[same] = steps.compiled(steps.in_chunks(step))
        return self._steps[same]

    def _peer(self, stage: Stage, arrays: RunArrays) -> FrozenView | None:
        if not stage.peer:
            return None
        return freeze(self._system.components, dict(stage.peer), arrays.params, self._context)

    def _on_device(self, epoch: int, start: int) -> Iterator[DeviceChunk]:
        """Yields for each batch from number `start` on the chunk that it is in."""
        for batches, chunk in self._batches.device_chunks(self._key(_ORDER, epoch), start):
            yield from itertools.repeat(chunk, batches)

    def _opt_states(self, params: Mapping[str, Params], shapes: bool = False) -> dict[str, Any]:
        make = steps.opt_state_shapes if shapes else steps.init_opt_state
        return {
            name: make(optimizer, self._system.networks, {own: params[own] for own in self._system.optimized[name]})
            for name, optimizer in self._optimizers.items()
        }

    def _key(self, purpose: int, count: int) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(self._base, purpose), count)


def _what(epoch: Epoch) -> Stage:
    """What an epoch does, however many of its stage there are."""
    return epoch.stage._replace(epochs=0, uncut=0)


def _frozen(system: System, optimizer: str) -> tuple[str, ...]:
    """The parameters that an optimizer leaves as they are; its stages must agree, for its state depends on them."""
    found = {stage.frozen for stage in system.stages if stage.optimizer == optimizer}
    if len(found) > 1:
        raise ValueError(f"stages of the optimizer '{optimizer}' freeze different parts; give each an optimizer")
    for stage in system.stages:
        if stage.optimizer == optimizer and stage.trains != system.optimized[optimizer]:
            raise ValueError(f"the optimizer '{optimizer}' changes {system.optimized[optimizer]}, not {stage.trains}")
    return next(iter(found), ())


def copied(tree: Any) -> Any:
    """A copy on the same devices, which no step takes over."""
    return jax.tree.map(jnp.copy, tree)
