"""The steps of networks that learn without a peer: a softmax over all items, and a window of one's own ranking."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alterrec_jax.config import AlterRecConfig, FusedNetworkConfig, MiningConfig, TextNetworkConfig
from alterrec_jax.contract import Network, PackedRows
from alterrec_jax.models.registry import build_system
from alterrec_jax.training import steps
from alterrec_jax.training.stages import Turn
from tests.oracles import losses as oracle
from tests.oracles.packing import scored
from tests.training.test_steps import (
    BETA,
    ITEMS,
    K1,
    K2,
    LENGTH,
    P,
    assert_identical,
    batch,
    fresh,
    networks,
    on_host,
    text_vectors,
)

OWN = MiningConfig(negatives="self", k1=K1, k2=K2, p=P, beta=BETA, augment=False)
NETWORKS = ("id", "text", "fused-concat", "fused-sum")
TEMPERATURE = {"id": 0.5, "text": 0.8, "fused-concat": 0.7, "fused-sum": 0.7}


def network_of(name: str) -> tuple[Network, jax.Array | None]:
    """A network with a mean encoder, and its features."""
    if name in ("id", "text"):
        return networks("mean")[name], text_vectors() if name == "text" else None
    operation = name.removeprefix("fused-")
    config = AlterRecConfig(
        model="nfrec",
        max_length=LENGTH,
        text=TextNetworkConfig(mlp_hidden=()),
        fused=FusedNetworkConfig(dim=5, operation=operation, temperature=0.7, dropout=0.0),
    )
    return build_system(config, ITEMS).networks["fused"], text_vectors()


def full_losses(table: np.ndarray, rows: PackedRows, temperature: float) -> list[float]:
    """-log softmax(scores)[target] over all items, of every prefix under a mean encoder, in float64."""
    losses = []
    for visible, target in scored(rows):
        scores = table @ table[list(visible)].mean(axis=0) / temperature
        losses.append(oracle.cross_entropy(scores[target], np.delete(scores, target)))
    return losses


def window_losses(
    table: np.ndarray, rows: PackedRows, temperature: float, miner: np.ndarray | None = None
) -> list[float]:
    """The loss of every prefix against a window of the ranking by `miner`, another item table or the same."""
    losses = []
    miner = table if miner is None else miner
    for visible, target in scored(rows):
        own, mined = (t @ t[list(visible)].mean(axis=0) / temperature for t in (table, miner))
        losses.append(oracle.window_loss(own, mined, target, K1, K2))
    return losses


def descent(name: str, step: steps.TrainStep) -> tuple[steps.NetworkState, steps.NetworkState]:
    """A step by plain gradient descent of rate 1: the state before it, and the one after it."""
    network, features = network_of(name)
    before = on_host(fresh(network, optax.sgd(1.0), features))
    return before, step(fresh(network, optax.sgd(1.0), features), None, features, batch(), jax.random.key(0))


def table_of(name: str, params: Any) -> np.ndarray:
    """float64 [item, width]: the item table."""
    network, features = network_of(name)
    return np.asarray(network.item_embeddings(params, features), np.float64)


def slope(name: str, params: Any, direction: Any, losses: Callable[[np.ndarray], list[float]]) -> float:
    """How the mean of the losses, which a function tells of an item table, grows along a direction."""
    found = []
    for h in (3e-3, -3e-3):
        step = jax.tree.map(lambda leaf, h=h: h * leaf, direction)
        moved = jax.tree.map(lambda leaf, by: jnp.asarray(leaf + by, jnp.float32), params, step)
        found.append(np.mean(losses(table_of(name, moved))))
    return (found[0] - found[1]) / 6e-3


def assert_gradient(
    name: str, before: steps.NetworkState, after: steps.NetworkState, losses: Callable[[np.ndarray], list[float]]
) -> None:
    """The step went down the gradient of the mean of the losses."""
    gradient = jax.tree.map(lambda a, b: a - np.asarray(b), before.params, after.params)
    norm = np.sqrt(sum(np.sum(leaf**2) for leaf in jax.tree.leaves(gradient)))
    np.testing.assert_allclose(after.totals.gradient_norm, norm, rtol=1e-4)
    rng = np.random.default_rng(3)
    for _ in range(3):
        direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), before.params)
        along = sum(jax.tree.leaves(jax.tree.map(lambda g, d: np.sum(g * d), gradient, direction)))
        assert slope(name, before.params, direction, losses) == pytest.approx(along, rel=5e-3, abs=1e-2)


@pytest.mark.parametrize("name", NETWORKS)
def test_full_loss_and_gradient_are_those_of_the_oracle(name: str) -> None:
    network, _ = network_of(name)
    before, after = descent(name, steps.compiled(steps.make_full_step(network, optax.sgd(1.0))))
    losses = full_losses(table_of(name, before.params), batch(), TEMPERATURE[name])
    assert float(after.totals.prefixes) == len(losses) and float(after.totals.steps) == 1
    np.testing.assert_allclose(after.totals.loss, np.sum(losses), rtol=1e-5)
    assert_gradient(name, before, after, lambda table: full_losses(table, batch(), TEMPERATURE[name]))


def test_a_full_step_does_not_depend_on_its_key_and_minds_only_what_is_scored() -> None:
    network, _ = network_of("id")
    step, rows = steps.compiled(steps.make_full_step(network, optax.sgd(1.0))), batch()
    other = rows._replace(targets=np.where(rows.where, rows.targets, 5).astype(np.int32))
    first, second, third = (
        on_host(step(fresh(network, optax.sgd(1.0), None), None, None, r, jax.random.key(seed)))
        for r, seed in ((rows, 0), (rows, 1), (other, 0))
    )
    assert_identical(second, first)
    assert_identical(third, first)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_self_window_step_is_a_window_step_against_a_copy_of_the_state_before(name: str) -> None:
    network, features = network_of(name)
    optimizer = optax.adam(0.01)
    own = steps.compiled(steps.make_self_window_step(network, optimizer, OWN, (K1, K2)))
    against = steps.compiled(steps.make_window_step(network, network, optimizer, OWN, (K1, K2)))
    found, expected = fresh(network, optimizer, features), fresh(network, optimizer, features)
    for seed in range(3):  # the copy is of each step's state, not of the turn's
        params = jax.tree.map(jnp.asarray, on_host(expected.params))
        twin = steps.FrozenPeer(params, network.item_embeddings(params, features))
        expected = against(expected, twin, features, batch(seed), jax.random.key(seed))
        found = own(found, None, features, batch(seed), jax.random.key(seed))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), on_host(found), on_host(expected))


@pytest.mark.parametrize("name", ["id", "fused-concat"])
def test_self_window_loss_is_that_of_the_oracle_and_mining_has_no_gradient(name: str) -> None:
    network, _ = network_of(name)
    before, after = descent(name, steps.compiled(steps.make_self_window_step(network, optax.sgd(1.0), OWN, (K1, K2))))
    table, tau = table_of(name, before.params), TEMPERATURE[name]
    np.testing.assert_allclose(after.totals.loss, np.sum(window_losses(table, batch(), tau)), rtol=1e-5)
    # The windows stay those of the parameters before the step.
    assert_gradient(name, before, after, lambda moved: window_losses(moved, batch(), tau, miner=table))


def test_the_own_ranking_is_made_without_dropout() -> None:
    text = TextNetworkConfig(encoder="mean", dim=11, mlp_hidden=(), item_dropout=0.5, dropout=0.5)
    config = AlterRecConfig(model="text", max_length=LENGTH, text=text)
    network, optimizer = build_system(config, ITEMS).networks["text"], optax.sgd(0.0)
    # A miner with dropout would find other windows; the network that trains draws the same masks in both steps.
    own = steps.compiled(steps.make_self_window_step(network, optimizer, OWN, (K1, K2)))
    against = steps.compiled(steps.make_window_step(network, network, optimizer, OWN, (K1, K2)))
    for seed in range(3):
        state, key = fresh(network, optimizer, text_vectors()), jax.random.key(seed)
        params = jax.tree.map(jnp.copy, state.params)
        still = steps.FrozenPeer(params, network.item_embeddings(params, text_vectors()))
        found = own(state, None, text_vectors(), batch(), key)
        expected = against(fresh(network, optimizer, text_vectors()), still, text_vectors(), batch(), key)
        np.testing.assert_allclose(found.totals.loss, expected.totals.loss, rtol=1e-5)


@pytest.mark.parametrize(
    ("turn", "made"),
    [
        (Turn("id", "random"), "make_random_step"),
        (Turn("id", "full"), "make_full_step"),
        (Turn("id", "window", "id"), "make_self_window_step"),
        (Turn("id", "window", "text"), "make_window_step"),
    ],
    ids=str,
)
def test_each_turn_has_its_step(turn: Turn, made: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("make_random_step", "make_full_step", "make_self_window_step", "make_window_step"):
        monkeypatch.setattr(steps, name, lambda *_, name=name: name)
    assert steps.make_step(turn, networks("mean"), optax.sgd(1.0), OWN, (K1, K2)) == made
