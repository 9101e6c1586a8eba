"""Train steps on meshes of eight virtual devices: the same numbers as on one, and no device sees a whole table."""

import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alterrec_jax import losses as losses_module
from alterrec_jax import mesh, steps
from alterrec_jax import mining as mining_module
from alterrec_jax.config import MiningConfig
from alterrec_jax.models import item_tables
from alterrec_jax.models.item_tables import has_row_per_item
from alterrec_jax.models.network import Network, PackedRows
from alterrec_jax.schedule import Turn
from tests.test_steps import BETA, ITEMS, K1, K2, MINING, TURNS, P, batch, networks, on_host, text_vectors

MESHES = ("data:8", "model:8", "data:4,model:2")
KEY = 5


def padded_rows(rows: PackedRows) -> PackedRows:
    """The batch on the devices, behind its rows as many empty ones as it takes to share them."""
    return PackedRows(*(mesh.put_rows(column, column.dtype, mesh.DATA) for column in rows))


def features_of(name: str) -> jax.Array | None:
    return mesh.put_rows(np.asarray(text_vectors()), np.float32) if name == "text" else None


def params_of(network: Network, features: Any, seed: int) -> Any:
    """Parameters of ordinary size, the same on every mesh, on its devices."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(network.init, jax.random.key(0), features)

    def drawn(path: tuple[Any, ...], leaf: Any) -> jax.Array:
        if has_row_per_item(path):
            return mesh.put_rows(rng.normal(size=(ITEMS, *leaf.shape[1:])), np.float32)
        return mesh.put(rng.normal(size=leaf.shape).astype(np.float32))

    return jax.tree_util.tree_map_with_path(drawn, shapes)


def stepped(
    turn: Turn, words: str, config: MiningConfig = MINING, encoder: str = "mean", dropout: float = 0.0
) -> tuple[steps.NetworkState, str]:
    """The state after a step of plain gradient descent of rate 1 on a mesh, and the program's text."""
    devices = jax.devices()[: 1 if words == "data:1" else 8]
    with mesh.used(mesh.make_mesh(words, devices)):
        both, optimizer = networks(encoder, dropout), optax.sgd(1.0)
        network, features = both[turn.network], features_of(turn.network)
        step = steps.make_step(turn, both, optimizer, config, (K1, K2))
        params = params_of(network, features, 1)
        state = steps.NetworkState(params, optimizer.init(params), mesh.put(steps.Totals.zero()))
        peer = None
        if turn.peer:
            of_peer = features_of(turn.peer)
            peer = steps.FrozenPeer.of(both[turn.peer], params_of(both[turn.peer], of_peer, 2), of_peer)
        arguments = (state, peer, features, padded_rows(batch()), jax.random.key(KEY))
        text = jax.jit(step).lower(*arguments).compile().as_text()
        after = steps.compiled(step)(*arguments)
        assert jax.tree.map(lambda leaf: leaf.sharding, after.params) == jax.tree.map(
            lambda leaf: leaf.sharding, params_of(network, features, 1)
        )
        return on_host(after), text


@pytest.mark.parametrize("words", MESHES)
@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_a_step_is_that_of_one_device(turn: Turn, words: str) -> None:
    (whole, _), (found, _) = stepped(turn, "data:1"), stepped(turn, words)
    assert_alike(found, whole)


def assert_alike(found: steps.NetworkState, whole: steps.NetworkState) -> None:
    """Sums and parameters, those of padding left out, which must be zeros."""
    np.testing.assert_allclose(found.totals, whole.totals, rtol=1e-5)

    def alike(path: tuple[Any, ...], leaf: np.ndarray, wanted: np.ndarray) -> None:
        if has_row_per_item(path):
            assert not leaf[ITEMS:].any()
            leaf = leaf[:ITEMS]
        np.testing.assert_allclose(leaf, wanted, rtol=1e-4, atol=1e-5, err_msg=jax.tree_util.keystr(path))

    jax.tree_util.tree_map_with_path(alike, found.params, whole.params)
