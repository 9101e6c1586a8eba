"""Negatives weighted by a peer: a softmax over the sum of both scores, whatever the peer is made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.contract import CatalogueInfo, FrozenView, Params, System, make_item_tables
from alterrec_jax.losses.objectives import NEXT_ITEM, peer_weighted
from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.models.neighbours import NeighbourConfig
from alterrec_jax.models.unimodal import IdNetworkConfig, VectorNetworkConfig
from alterrec_jax.numerics import MemoryLimits
from alterrec_jax.scoring.frozen import freeze
from tests.evaluation.examples import make_sessions
from tests.training.examples import ITEMS, LENGTH, batch, context, params_of

SHARE = 0.4
SESSIONS = [[3, 5, 3, 8], [4, 1], [7, 7, 2], [1, 2, 3, 4, 5, 6, 7], [9, 9]]
PEERS = [{"text": 1.0}, {"near": 2.0}, {"text": 0.5, "near": 3.0, "far": 1.0}]


@pytest.fixture(scope="module")
def system() -> System:
    """ID, text and two kinds of neighbours."""
    networks = {
        "id": IdNetworkConfig(encoder="mean", dim=5, dropout=0.0),
        "text": VectorNetworkConfig(encoder="mean", dim=4, dropout=0.0, mlp_hidden=(3,)),
        "near": NeighbourConfig(ridge=1.0, neighbours=6, decay=1.0),
        "far": NeighbourConfig(relation="following", ridge=1.0, decay=0.5),
    }
    mining = MiningConfig(negatives="weighted", k1=1, augment=False)
    return AlterRecConfig(networks=networks, max_length=LENGTH, mining=mining).check().build(CatalogueInfo(ITEMS))


@pytest.fixture(scope="module")
def params(system: System) -> dict[str, Params]:
    whole = {name: params_of(system.networks[name], context(), 2) for name in ("id", "text")}
    found = jax.tree.map(lambda leaf: 0.4 * leaf, whole)  # leads of the peer that float32 holds
    for name in ("near", "far"):
        fit = system.networks[name].fit
        assert fit is not None
        found[name] = jax.tree.map(jnp.asarray, fit(make_sessions(SESSIONS)))
    return found


def peer_scores(system: System, params: dict[str, Params], name: str) -> np.ndarray:
    """float64 [prefix, item], of one component, by loops."""
    network = system.networks[name]
    tables = make_item_tables(network, params[name], context())
    found = network.session_embeddings(params[name], tables, batch())
    if name == "text":
        return np.asarray(found, np.float64) @ np.asarray(tables.candidates, np.float64).T
    scores = np.zeros((len(found), ITEMS))
    for row, (items, weights) in enumerate(zip(np.asarray(found.items), np.asarray(found.weights), strict=True)):
        for item, weight in zip(items, weights, strict=True):
            np.add.at(scores[row], params[name]["items"][item], weight * np.asarray(params[name]["weights"][item]))
    return scores


def frozen_of(system: System, params: dict[str, Params], peer: dict[str, float]) -> FrozenView:
    return freeze(system.components, peer, params, context())


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("held", [2**26, 40])
def test_the_loss_and_its_gradient_are_those_of_the_sum_of_scores(
    peer: dict[str, float], held: int, system: System, params: dict[str, Params]
) -> None:
    limits = MemoryLimits(scores=held, scores_of_block=held)
    network = system.networks["id"]
    objective = peer_weighted("id", network, system.components, peer, SHARE, limits)
    assert objective.mine is not None
    frozen, key = frozen_of(system, params, peer), jax.random.key(0)
    mined, _ = objective.mine({"id": params["id"]}, context(), frozen, batch(), key, None, False)
    added = SHARE * sum(weight * peer_scores(system, params, name) for name, weight in peer.items())

    def expected(own: Params) -> jax.Array:
        tables = network.item_tables(own, context())
        scores = network.session_embeddings(own, tables, batch()) @ tables.candidates.T + jnp.asarray(
            added, jnp.float32
        )
        of_target = jnp.take_along_axis(scores, batch().targets[:, None], axis=1)[:, 0]
        return jnp.sum(jax.nn.logsumexp(scores, axis=1) - of_target, where=batch().is_target)

    def loss(own: Params) -> jax.Array:
        return objective.loss({"id": own}, context(), batch(), key, mined)[NEXT_ITEM]

    value, gradient = jax.value_and_grad(loss)(params["id"])
    right, of_right = jax.value_and_grad(expected)(params["id"])
    np.testing.assert_allclose(value, right, rtol=1e-5)
    for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(of_right), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_without_a_share_of_the_peer_it_is_the_network_alone(system: System, params: dict[str, Params]) -> None:
    network, peer = system.networks["id"], {"text": 1.0}
    frozen = frozen_of(system, params, peer)
    losses = []
    for share in (0.0, 1.0):
        objective = peer_weighted("id", network, system.components, peer, share)
        assert objective.mine is not None
        mined, _ = objective.mine({"id": params["id"]}, context(), frozen, batch(), jax.random.key(0), None, False)
        losses.append(
            float(objective.loss({"id": params["id"]}, context(), batch(), jax.random.key(1), mined)[NEXT_ITEM])
        )
    tables = network.item_tables(params["id"], context())
    scores = network.session_embeddings(params["id"], tables, batch()) @ tables.candidates.T
    of_target = jnp.take_along_axis(scores, batch().targets[:, None], axis=1)[:, 0]
    alone = jnp.sum(jax.nn.logsumexp(scores, axis=1) - of_target, where=batch().is_target)
    np.testing.assert_allclose(losses[0], alone, rtol=1e-5)
    assert abs(losses[1] - losses[0]) > 1e-3
