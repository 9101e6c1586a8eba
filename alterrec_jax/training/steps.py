"""Pure train steps: one for each kind of stage, compiled apart.

A step sees all parameter sets by name: the state of the networks that train, which it returns changed, and the frozen
peer, if the stage has one, which it only reads. Steps are made, and called, where the mesh is in use.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from alterrec_jax.config import OptimizerConfig
from alterrec_jax.contract import Context, FrozenView, Network, Objective, Params, SessionBatch, param_shapes
from alterrec_jax.data.batches import DeviceChunk
from alterrec_jax.hard_negatives.cache import WindowCache
from alterrec_jax.runtime.host_memory import give_back_freed_memory
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.per_item import sharded_shapes


class Totals(NamedTuple):
    """Sums over the steps of an epoch, so that it can be interrupted anywhere.

    Attributes:
      loss: sum of the losses of all prefixes.
      prefixes: how many there were.
      gradient_norm: sum of the steps' global gradient norms.
      steps: how many there were.
      terms: by name, what each term of a loss of several adds to it.
    """

    loss: jax.Array
    prefixes: jax.Array
    gradient_norm: jax.Array
    steps: jax.Array
    terms: Mapping[str, jax.Array]

    @classmethod
    def zeros(cls, terms: Sequence[str] = ()) -> "Totals":
        """Nothing summed yet, on the devices; `terms` are those that are summed one by one."""
        zero = np.float32(0)
        totals: Totals = mesh.put(Totals(zero, zero, zero, zero, dict.fromkeys(terms, zero)))  # type: ignore[arg-type]
        return totals


class StageState(NamedTuple):
    """What a step changes.

    Attributes:
      params: of the networks that train, by name.
      opt_state: their optimizer's.
      totals: the sums of the epoch.
      windows: the frozen peer's, of the prefixes that this stage has mined; None where none is needed twice.
    """

    params: Mapping[str, Params]
    opt_state: optax.OptState
    totals: Totals
    windows: WindowCache | None = None


TrainStep = Callable[[StageState, FrozenView | None, Context, SessionBatch, jax.Array], StageState]

ChunkStep = Callable[[StageState, FrozenView | None, Context, DeviceChunk, jax.Array], StageState]
Step = TypeVar("Step", TrainStep, ChunkStep)


def make_optimizer(
    config: OptimizerConfig, steps_per_epoch: int, frozen: tuple[str, ...] = ()
) -> optax.GradientTransformation:
    """Adam, AdamW or Adam with L2 in its gradient; its learning rate is constant or falls by steps.

    Args:
      config: its settings.
      steps_per_epoch: of the epochs that the learning rate counts.
      frozen: paths of parameters, like "id/encoder", that stay as they are.
    """
    adam = optax.adamw(learning_rate_schedule(config, steps_per_epoch), weight_decay=config.weight_decay)
    if config.l2:
        adam = optax.chain(optax.add_decayed_weights(config.l2), adam)
    if not frozen:
        return adam

    def labels(params: Params) -> Any:
        def label(path: tuple[Any, ...], leaf: Any) -> str:
            del leaf
            name = "/".join(str(key.key) for key in path)
            return "frozen" if any(f"{name}/".startswith(f"{part}/") for part in frozen) else "trained"

        return jax.tree_util.tree_map_with_path(label, params)

    return optax.multi_transform({"trained": adam, "frozen": optax.set_to_zero()}, labels)


def learning_rate_schedule(config: OptimizerConfig, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate by the number of steps that this optimizer has made."""
    if not config.decay_every:
        return optax.constant_schedule(config.learning_rate)
    period = config.decay_every * steps_per_epoch
    return optax.exponential_decay(config.learning_rate, period, config.decay_factor, staircase=True)


def init_params(network: Network, context: Context, key: jax.Array) -> Params:
    """A fresh network, made in one program, so that no device ever holds more than its part of a table."""
    placed = mesh.shardings(param_shapes(network, context))
    return jax.jit(network.init, out_shardings=placed)(key, context)


def init_opt_state(
    optimizer: optax.GradientTransformation, networks: Mapping[str, Network], params: Mapping[str, Params]
) -> optax.OptState:
    """The fresh state of an optimizer over the parameters of some networks."""
    shapes = opt_state_shapes(optimizer, networks, params)
    return jax.jit(optimizer.init, out_shardings=mesh.shardings(shapes))(dict(params))


def opt_state_shapes(
    optimizer: optax.GradientTransformation, networks: Mapping[str, Network], params: Mapping[str, Any]
) -> Any:
    """The same of an optimizer's state; `params` by name, of the networks that it changes: arrays or shapes."""
    per_item = tuple(f"{name}/{path}" for name in params for path in networks[name].per_item)
    return sharded_shapes(per_item, jax.eval_shape(optimizer.init, dict(params)))


def make_step(objective: Objective, optimizer: optax.GradientTransformation, reuse_windows: bool = False) -> TrainStep:
    """The step of a stage.

    Args:
      objective: what it minimises.
      optimizer: of the networks that train.
      reuse_windows: whether mined windows are read from the cache, instead of being mined and written to it.
    """

    def train_step(
        state: StageState, peer: FrozenView | None, context: Context, batch: SessionBatch, key: jax.Array
    ) -> StageState:
        mined = None
        if objective.mine is not None:
            mine_key, key = jax.random.split(key)
            mined, windows = objective.mine(
                state.params, context, peer, batch, mine_key, state.windows, reuse=reuse_windows
            )
            state = state._replace(windows=windows)
        count = jnp.maximum(jnp.sum(batch.is_target, dtype=jnp.float32), 1.0)

        def mean_loss(params: Mapping[str, Params]) -> tuple[jax.Array, dict[str, jax.Array]]:
            terms = objective.loss(params, context, batch, key, mined)
            return sum(terms.values()) / count, {name: terms.get(name, jnp.zeros(())) for name in state.totals.terms}

        (loss, terms), gradients = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        prefixes = jnp.sum(batch.is_target, dtype=jnp.float32)
        measured = Totals(loss * count, prefixes, _norm(gradients), jnp.ones(()), terms)
        return state._replace(
            params=optax.apply_updates(state.params, updates),
            opt_state=opt_state,
            totals=jax.tree.map(jnp.add, state.totals, measured),
        )

    return train_step


def in_chunks(step: TrainStep) -> ChunkStep:
    """The same step on batches that are on the device already: it takes the one whose turn it is.

    The number of the batch is that of the steps which the state has summed, so nothing but the chunk, once for all its
    batches, comes from the host. The key is that of the epoch.
    """

    def chunk_step(
        state: StageState, peer: FrozenView | None, context: Context, chunk: DeviceChunk, key: jax.Array
    ) -> StageState:
        number = state.totals.steps.astype(jnp.int32)
        batch = jax.tree.map(lambda column: column[number - chunk.first], chunk.batches)
        return step(state, peer, context, batch, jax.random.fold_in(key, number))

    return chunk_step


def compiled(step: Step) -> Step:
    """The step as one program, which takes over the buffers of the state that it is given.

    It is made at the first call, for arguments of those shapes: others are an error, never compiled for anew.
    """
    program: jax.stages.Compiled | None = None

    def call(state: StageState, *others: Any) -> StageState:
        nonlocal program
        if program is None:  # what comes out lies as what goes in
            jitted = jax.jit(step, donate_argnames="state", out_shardings=mesh.shardings(state))
            program = jitted.lower(state, *others).compile()
            give_back_freed_memory()
        return program(state, *others)

    return call


def _norm(tree: Any) -> jax.Array:
    """The global norm. Without the barrier XLA shares the squares with Adam, and writes those of a whole table out."""
    return optax.tree.norm(jax.lax.optimization_barrier(tree))
