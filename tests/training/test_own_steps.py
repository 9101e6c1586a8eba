"""The steps of networks that learn without a peer: a softmax over all items, and a window of one's own ranking."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alterrec_jax.contract import CatalogueInfo, Component, Network, Objective, SessionBatch
from alterrec_jax.losses.objectives import WindowSettings, full_softmax, own_window, peer_window
from alterrec_jax.models.alterrec import AlterRecConfig
from alterrec_jax.models.nfrec import FusedNetworkConfig, NFRecConfig
from alterrec_jax.models.unimodal import VectorNetworkConfig, VectorsConfig
from alterrec_jax.scoring.frozen import freeze
from alterrec_jax.training import steps
from tests.oracles import losses as oracle
from tests.oracles.packing import scored
from tests.training.examples import (
    ITEMS,
    K1,
    K2,
    LENGTH,
    OWN,
    assert_identical,
    batch,
    context,
    on_host,
    params_of,
    system_of,
)

NETWORKS = ("id", "text", "fused-concat", "fused-sum")
TEMPERATURE = {"id": 0.5, "text": 0.8, "fused-concat": 0.7, "fused-sum": 0.7}
WINDOW = OWN.settings(ITEMS)


def network_of(name: str) -> Network:
    """A network with a mean encoder."""
    if name in ("id", "text"):
        return system_of("mean").networks[name]
    config = NFRecConfig(
        max_length=LENGTH,
        text=VectorsConfig(mlp_hidden=()),
        network=FusedNetworkConfig(dim=5, operation=name.removeprefix("fused-"), temperature=0.7, dropout=0.0),
    )
    return config.build(CatalogueInfo(ITEMS)).networks["fused"]


def against_itself(network: Network, settings: WindowSettings) -> Objective:
    """A window of a frozen peer that is such a network too."""
    return peer_window("it", network, {"peer": Component(network, "peer")}, {"peer": 1.0}, settings)


def full_losses(table: np.ndarray, rows: SessionBatch, temperature: float) -> list[float]:
    """-log softmax(scores)[target] over all items, of every prefix under a mean encoder, in float64."""
    losses = []
    for visible, target in scored(rows):
        scores = table @ table[list(visible)].mean(axis=0) / temperature
        losses.append(oracle.cross_entropy(scores[target], np.delete(scores, target)))
    return losses


def window_losses(
    table: np.ndarray, rows: SessionBatch, temperature: float, miner: np.ndarray | None = None
) -> list[float]:
    """The loss of every prefix against a window of the ranking by `miner`, another item table or the same."""
    losses = []
    miner = table if miner is None else miner
    for visible, target in scored(rows):
        own, mined = (t @ t[list(visible)].mean(axis=0) / temperature for t in (table, miner))
        losses.append(oracle.window_loss(own, mined, target, K1, K2))
    return losses


def fresh(network: Network, optimizer: optax.GradientTransformation) -> steps.StageState:
    """The state before a step, always the same."""
    params = {"it": params_of(network, context(), 1)}
    return steps.StageState(params, optimizer.init(params), steps.Totals.zeros())


def descent(network: Network, objective: Objective) -> tuple[steps.StageState, steps.StageState]:
    """A step by plain gradient descent of rate 1: the state before it, and the one after it."""
    step = steps.compiled(steps.make_step(objective, optax.sgd(1.0)))
    before = on_host(fresh(network, optax.sgd(1.0)))
    return before, step(fresh(network, optax.sgd(1.0)), None, context(), batch(), jax.random.key(0))


def table_of(network: Network, params: Any) -> np.ndarray:
    """float64 [item, width]: the item table."""
    return np.asarray(network.item_tables(params["it"], context()).candidates, np.float64)


def slope(network: Network, params: Any, direction: Any, losses: Callable[[np.ndarray], list[float]]) -> float:
    """How the mean of the losses, as a function of an item table, grows along a direction."""
    found = []
    for h in (3e-3, -3e-3):
        step = jax.tree.map(lambda leaf, h=h: h * leaf, direction)
        moved = jax.tree.map(lambda leaf, by: jnp.asarray(leaf + by, jnp.float32), params, step)
        found.append(np.mean(losses(table_of(network, moved))))
    return (found[0] - found[1]) / 6e-3


def assert_gradient(
    network: Network,
    before: steps.StageState,
    after: steps.StageState,
    losses: Callable[[np.ndarray], list[float]],
) -> None:
    """The step went down the gradient of the mean of the losses."""
    gradient = jax.tree.map(lambda a, b: a - np.asarray(b), before.params, after.params)
    norm = np.sqrt(sum(np.sum(leaf**2) for leaf in jax.tree.leaves(gradient)))
    np.testing.assert_allclose(after.totals.gradient_norm, norm, rtol=1e-4)
    rng = np.random.default_rng(3)
    for _ in range(3):
        direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), before.params)
        along = sum(jax.tree.leaves(jax.tree.map(lambda g, d: np.sum(g * d), gradient, direction)))
        assert slope(network, before.params, direction, losses) == pytest.approx(along, rel=5e-3, abs=1e-2)


@pytest.mark.parametrize("name", NETWORKS)
def test_full_loss_and_gradient_are_those_of_the_oracle(name: str) -> None:
    network, tau = network_of(name), TEMPERATURE[name]
    before, after = descent(network, full_softmax("it", network))
    losses = full_losses(table_of(network, before.params), batch(), tau)
    assert float(after.totals.prefixes) == len(losses) and float(after.totals.steps) == 1
    np.testing.assert_allclose(after.totals.loss, np.sum(losses), rtol=1e-5)
    assert_gradient(network, before, after, lambda table: full_losses(table, batch(), tau))


def test_a_full_step_does_not_depend_on_its_key_and_minds_only_what_is_scored() -> None:
    network = network_of("id")
    step, rows = steps.compiled(steps.make_step(full_softmax("it", network), optax.sgd(1.0))), batch()
    other = rows._replace(targets=np.where(rows.is_target, rows.targets, 5).astype(np.int32))
    first, second, third = (
        on_host(step(fresh(network, optax.sgd(1.0)), None, context(), r, jax.random.key(seed)))
        for r, seed in ((rows, 0), (rows, 1), (other, 0))
    )
    assert_identical(second, first)
    assert_identical(third, first)


@pytest.mark.parametrize("name", NETWORKS)
def test_an_own_window_step_is_a_window_step_against_a_copy_of_the_state_before(name: str) -> None:
    network, optimizer = network_of(name), optax.adam(0.01)
    own = steps.compiled(steps.make_step(own_window("it", network, WINDOW), optimizer))
    against = steps.compiled(steps.make_step(against_itself(network, WINDOW), optimizer))
    found, expected = fresh(network, optimizer), fresh(network, optimizer)
    for seed in range(3):  # the copy is of each step's state, not of the stage's
        params = {"peer": jax.tree.map(jnp.asarray, on_host(expected.params["it"]))}
        twin = freeze({"peer": Component(network, "peer")}, {"peer": 1.0}, params, context())
        expected = against(expected, twin, context(), batch(seed), jax.random.key(seed))
        found = own(found, None, context(), batch(seed), jax.random.key(seed))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), on_host(found), on_host(expected))


@pytest.mark.parametrize("name", ["id", "fused-concat"])
def test_own_window_loss_is_that_of_the_oracle_and_mining_has_no_gradient(name: str) -> None:
    network, tau = network_of(name), TEMPERATURE[name]
    before, after = descent(network, own_window("it", network, WINDOW))
    table = table_of(network, before.params)
    np.testing.assert_allclose(after.totals.loss, np.sum(window_losses(table, batch(), tau)), rtol=1e-5)
    # The windows stay those of the parameters before the step.
    assert_gradient(network, before, after, lambda moved: window_losses(moved, batch(), tau, miner=table))


def test_the_own_ranking_is_made_without_dropout() -> None:
    text = VectorNetworkConfig(encoder="mean", dim=11, mlp_hidden=(), item_dropout=0.5, dropout=0.5)
    config = AlterRecConfig(max_length=LENGTH, networks={"text": text}, mining=OWN)
    network, optimizer = config.build(CatalogueInfo(ITEMS)).networks["text"], optax.sgd(0.0)
    # A miner with dropout would find other windows; the network that trains draws the same masks in both steps.
    own = steps.compiled(steps.make_step(own_window("it", network, WINDOW), optimizer))
    against = steps.compiled(steps.make_step(against_itself(network, WINDOW), optimizer))
    for seed in range(3):
        state, key = fresh(network, optimizer), jax.random.key(seed)
        still = {"peer": jax.tree.map(jnp.copy, state.params["it"])}
        twin = freeze({"peer": Component(network, "peer")}, {"peer": 1.0}, still, context())
        found = own(state, None, context(), batch(), key)
        expected = against(fresh(network, optimizer), twin, context(), batch(), key)
        np.testing.assert_allclose(found.totals.loss, expected.totals.loss, rtol=1e-5)


def test_an_own_window_leaves_the_cache_of_another_stage_as_it_is() -> None:
    network = network_of("id")
    windows = {"cached": jnp.arange(3.0)}
    state = fresh(network, optax.sgd(1.0))._replace(windows=windows)  # type: ignore[arg-type]
    step = steps.make_step(own_window("it", network, WINDOW), optax.sgd(1.0))
    after = step(state, None, context(), batch(), jax.random.key(0))
    assert_identical(after.windows, windows)
