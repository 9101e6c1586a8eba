"""The train steps: pure functions, one for each kind of turn, compiled apart.

A step sees both parameter sets by name: the state of the network that trains, which it returns changed, and the
frozen peer, if the turn has one, which it only reads. They are made, and called, where the mesh is in use.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from alterrec_jax.config import MiningConfig, NetworkConfig
from alterrec_jax.contract import Network, PackedRows, Params, item_table
from alterrec_jax.data.batches import DeviceChunk
from alterrec_jax.errors import UserError
from alterrec_jax.hard_negatives import cache, rank_window
from alterrec_jax.hard_negatives.cache import WindowCache
from alterrec_jax.hard_negatives.rank_window import RankWindow
from alterrec_jax.hard_negatives.sets import (
    CountedNegatives,
    Negatives,
    SharedNegatives,
    WholeCatalogue,
    WindowNegatives,
)
from alterrec_jax.losses.streamed import log_sum_exp, sampled_softmax_loss
from alterrec_jax.nn.item_tables import placed_shapes
from alterrec_jax.numerics import scores_of
from alterrec_jax.runtime.host_memory import give_back_freed_memory
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.lookup import lookup
from alterrec_jax.training.stages import FULL, RANDOM, Turn


class Totals(NamedTuple):
    """Sums over the steps of an epoch, so that it can be interrupted anywhere.

    Attributes:
      loss: sum of the losses of all prefixes.
      prefixes: how many there were.
      gradient_norm: sum of the steps' global gradient norms.
      steps: how many there were.
    """

    loss: jax.Array
    prefixes: jax.Array
    gradient_norm: jax.Array
    steps: jax.Array

    @classmethod
    def zero(cls) -> "Totals":
        """Nothing summed yet."""
        return cls(jnp.zeros(()), jnp.zeros(()), jnp.zeros(()), jnp.zeros(()))


class NetworkState(NamedTuple):
    """What training changes of one network.

    Attributes:
      params: its parameters.
      opt_state: its optimizer's state.
      totals: the sums of the epoch it is in.
      windows: its peer's, of the prefixes that this turn has mined; None where none is needed twice.
    """

    params: Params
    opt_state: optax.OptState
    totals: Totals
    windows: WindowCache | None = None


class FrozenPeer(NamedTuple):
    """The network that does not train: its parameters and its item table, made once a turn without dropout."""

    params: Params
    table: jax.Array

    @classmethod
    def of(cls, network: Network, params: Params, features: jax.Array | None) -> "FrozenPeer":
        """Makes the table."""
        return cls(params, item_table(network, params, features))


TrainStep = Callable[[NetworkState, FrozenPeer | None, jax.Array | None, PackedRows, jax.Array], NetworkState]

GroupStep = Callable[[NetworkState, FrozenPeer | None, jax.Array | None, DeviceChunk, jax.Array], NetworkState]
Step = TypeVar("Step", TrainStep, GroupStep)


def make_optimizer(config: NetworkConfig, steps_per_epoch: int) -> optax.GradientTransformation:
    """Adam or AdamW, its learning rate constant or multiplied by a factor every few epochs of the network's own."""
    return optax.adamw(learning_rate_schedule(config, steps_per_epoch), weight_decay=config.weight_decay)


def learning_rate_schedule(config: NetworkConfig, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate by the number of steps that this network has made."""
    if not config.decay_every:
        return optax.constant_schedule(config.learning_rate)
    period = config.decay_every * steps_per_epoch
    return optax.exponential_decay(config.learning_rate, period, config.decay_factor, staircase=True)


def init_state(
    network: Network, optimizer: optax.GradientTransformation, features: jax.Array | None, key: jax.Array
) -> NetworkState:
    """A fresh network."""
    # In one program, so that no device ever holds more than its part of a table.
    placed = mesh.shardings(state_shapes(network, optimizer, features))
    return jax.jit(functools.partial(_begin, network, optimizer), out_shardings=placed)(key, features)


def state_shapes(network: Network, optimizer: optax.GradientTransformation, features: jax.Array | None) -> NetworkState:
    """The shapes of a network's arrays, and where they lie."""
    key = jax.eval_shape(jax.random.key, 0)
    shapes: NetworkState = placed_shapes(jax.eval_shape(functools.partial(_begin, network, optimizer), key, features))
    return shapes


def _begin(
    network: Network, optimizer: optax.GradientTransformation, key: jax.Array, features: jax.Array | None
) -> NetworkState:
    params = network.init(key, features)
    return NetworkState(params, optimizer.init(params), Totals.zero())


def start_epoch(state: NetworkState) -> NetworkState:
    """Sets the sums to zero. The other arrays are passed on, not copied."""
    return state._replace(totals=mesh.put(Totals(*np.zeros(4, np.float32))))


def make_step(
    turn: Turn,
    networks: Mapping[str, Network],
    optimizer: optax.GradientTransformation,
    config: MiningConfig,
    window: tuple[int, int],
) -> TrainStep:
    """The step of a turn: of its network, whose optimizer is given, in its phase."""
    network = networks[turn.network]
    if turn.phase == RANDOM:
        return make_random_step(network, optimizer, window)
    if turn.phase == FULL:
        return make_full_step(network, optimizer)
    if turn.peer is None:
        return make_self_window_step(network, optimizer, config, window)
    return make_window_step(network, networks[turn.peer], optimizer, config, window, turn.again)


def make_random_step(network: Network, optimizer: optax.GradientTransformation, window: tuple[int, int]) -> TrainStep:
    """The step of the warm-up: as many uniform negatives as the window (k1, k2) holds, no peer, no augmentation."""
    count = min(window[1] - window[0] + 1, network.items)

    def draw(key: jax.Array, table: jax.Array, targets: jax.Array) -> tuple[jax.Array, Negatives, int]:
        drawn = rank_window.random_negatives(key, network.items, count)
        places = jnp.pad(drawn, (0, mesh.padded(count, mesh.MODEL) - count))
        rows = lookup(table, places, mesh.REPLICATED)
        return mesh.with_sharding_constraint(rows, mesh.ITEMS), SharedNegatives.of(drawn, targets), count

    return _step_without_peer(network, optimizer, draw)


def make_full_step(network: Network, optimizer: optax.GradientTransformation) -> TrainStep:
    """The step of a network that is trained on its own: cross-entropy over the whole catalogue, no peer."""
    return _step_without_peer(
        network, optimizer, lambda key, table, targets: (table, WholeCatalogue(targets), network.items)
    )


def _step_without_peer(
    network: Network,
    optimizer: optax.GradientTransformation,
    candidates: Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, Negatives, int]],
) -> TrainStep:
    """A step whose candidates, rows of the item table, and negatives among them need no ranking.

    `candidates` returns these two, and how many of the rows are candidates: others may be padding.
    """

    def loss_fn(params: Params, features: Any, rows: PackedRows, key: jax.Array) -> jax.Array:
        sample_key, dropout_key = jax.random.split(key)
        table, queries = _embed(network, params, features, rows, dropout_key)
        targets = rows.targets.reshape(-1)
        losses = sampled_softmax_loss(
            target_scores=jnp.einsum("pd,pd->p", queries, lookup(table, targets)),
            log_sum=log_sum_exp(queries, *candidates(sample_key, table, targets)),
        )
        return jnp.sum(losses, where=rows.where.reshape(-1))

    def step_without_peer(
        state: NetworkState, peer: FrozenPeer | None, features: Any, rows: PackedRows, key: jax.Array
    ) -> NetworkState:
        del peer
        return _update(state, optimizer, rows, lambda params: loss_fn(params, features, rows, key))

    return step_without_peer


def make_window_step(
    network: Network,
    peer_network: Network,
    optimizer: optax.GradientTransformation,
    config: MiningConfig,
    window: tuple[int, int],
    again: bool = False,
) -> TrainStep:
    """The step of the alternation: hard negatives, and augmented positives, from the frozen peer's ranking.

    Where the state has room for windows, those that are found are kept there; `again` takes those that have been.
    """
    k1, k2 = window
    if config.hard_fraction < 1 and mesh.size(mesh.MODEL) > 1:
        raise UserError("mining.hard_fraction below 1 ranks the whole catalogue in one place; use --mesh with model:1")
    if config.gpu_kernels and mesh.platform() != "gpu":
        raise UserError(f"mining.gpu_kernels are for GPUs, not for {mesh.platform()}; leave them off")

    def window_of(kept: WindowCache | None, queries: jax.Array, table: jax.Array, rows: PackedRows) -> RankWindow:
        if again:
            assert kept is not None, "no window has been kept"
            return cache.read(kept, rows)
        p, items = config.positives, peer_network.items
        return rank_window.peer_window(queries, table, k1, k2, p, config.selection, items, kept is not None)

    def negatives_of(
        found: RankWindow, queries: jax.Array, table: jax.Array, targets: jax.Array, key: jax.Array
    ) -> Negatives:
        if config.hard_fraction == 1:
            return WindowNegatives(queries, table, found, targets)
        draw = mesh.shard_map(
            lambda key, scores: rank_window.drawn_from_window(key, scores, k1, k2, config.hard_fraction),
            (mesh.REPLICATED, mesh.BATCH),
            mesh.BATCH,
        )
        return CountedNegatives(draw(key, scores_of(queries, table)), targets)

    def loss_fn(
        params: Params, features: Any, rows: PackedRows, negatives: Negatives, positives: jax.Array, key: jax.Array
    ) -> jax.Array:
        table, queries = _embed(network, params, features, rows, key)
        targets = rows.targets.reshape(-1)
        losses = sampled_softmax_loss(
            target_scores=jnp.einsum("pd,pd->p", queries, lookup(table, targets)),
            log_sum=log_sum_exp(queries, table, negatives, network.items, gpu_kernels=config.gpu_kernels),
            positive_scores=jnp.einsum("pd,pad->pa", queries, lookup(table, positives)) if config.augment else None,
            positive_where=positives != targets[:, None] if config.augment else None,
            beta=config.beta,
        )
        return jnp.sum(losses, where=rows.where.reshape(-1))

    def window_step(
        state: NetworkState, peer: FrozenPeer | None, features: Any, rows: PackedRows, key: jax.Array
    ) -> NetworkState:
        assert peer is not None, "a window step needs the frozen peer"
        sample_key, dropout_key = jax.random.split(key)
        targets = rows.targets.reshape(-1)
        queries = peer_network.session_embeddings(peer.params, peer.table, rows).reshape(len(targets), -1)
        found = window_of(state.windows, queries, peer.table, rows)
        negatives = negatives_of(found, queries, peer.table, targets, sample_key)
        if state.windows is not None and not again:
            state = state._replace(windows=cache.write(state.windows, rows, found))
        return _update(
            state, optimizer, rows, lambda params: loss_fn(params, features, rows, negatives, found.best, dropout_key)
        )

    return window_step


def make_self_window_step(
    network: Network, optimizer: optax.GradientTransformation, config: MiningConfig, window: tuple[int, int]
) -> TrainStep:
    """The window step of a network that is its own miner: as it stands at each step, without dropout or gradient."""
    step = make_window_step(network, network, optimizer, config, window)

    def self_window_step(
        state: NetworkState, peer: FrozenPeer | None, features: Any, rows: PackedRows, key: jax.Array
    ) -> NetworkState:
        del peer
        itself = FrozenPeer(state.params, network.item_embeddings(state.params, features))
        return step(state, itself, features, rows, key)

    return self_window_step


def in_groups(step: TrainStep) -> GroupStep:
    """The same step on batches that are on the device already: it takes the one whose turn it is.

    The number of the batch is that of the steps which the state has summed, so nothing but the group, once for all its
    batches, comes from the host. The key is that of the epoch.
    """

    def group_step(
        state: NetworkState, peer: FrozenPeer | None, features: Any, group: DeviceChunk, key: jax.Array
    ) -> NetworkState:
        number = state.totals.steps.astype(jnp.int32)
        rows = jax.tree.map(lambda column: column[number - group.first], group.rows)
        return step(state, peer, features, rows, jax.random.fold_in(key, number))

    return group_step


def compiled(step: Step) -> Step:
    """The step as one program, which takes over the buffers of the state that it is given.

    It is made at the first call, for arguments of those shapes: others are an error, never compiled for anew.
    """
    program: jax.stages.Compiled | None = None

    def call(state: NetworkState, *others: Any) -> NetworkState:
        nonlocal program
        if program is None:  # what comes out lies as what goes in
            jitted = jax.jit(step, donate_argnames="state", out_shardings=mesh.shardings(state))
            program = jitted.lower(state, *others).compile()
            give_back_freed_memory()
        return program(state, *others)

    return call


def _embed(
    network: Network, params: Params, features: Any, rows: PackedRows, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The item table, and an embedding for each of the row * position prefixes."""
    table_key, session_key = jax.random.split(key)
    table = network.item_embeddings(params, features, table_key)
    queries = network.session_embeddings(params, table, rows, session_key)
    return table, mesh.with_sharding_constraint(queries.reshape(-1, queries.shape[-1]), mesh.BATCH)


def _update(
    state: NetworkState,
    optimizer: optax.GradientTransformation,
    rows: PackedRows,
    loss_fn: Callable[[Params], jax.Array],
) -> NetworkState:
    """One optimizer step on the mean loss of the batch's prefixes."""
    prefixes = jnp.sum(rows.where, dtype=jnp.float32)
    count = jnp.maximum(prefixes, 1.0)
    mean_loss, gradients = jax.value_and_grad(lambda params: loss_fn(params) / count)(state.params)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    measured = Totals(mean_loss * count, prefixes, _norm(gradients), jnp.ones(()))
    return state._replace(
        params=optax.apply_updates(state.params, updates),
        opt_state=opt_state,
        totals=jax.tree.map(jnp.add, state.totals, measured),
    )


def _norm(tree: Any) -> jax.Array:
    """The global norm. Without the barrier XLA shares the squares with Adam, and writes those of a whole table out."""
    return optax.tree.norm(jax.lax.optimization_barrier(tree))
