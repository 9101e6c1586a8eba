"""Train steps on meshes of eight virtual devices: the same numbers as on one, and no device sees a whole table."""

import dataclasses
import functools
from contextlib import AbstractContextManager
from typing import Any

import jax
import numpy as np
import optax
import pytest

from alterrec_jax import numerics
from alterrec_jax.config import MiningConfig
from alterrec_jax.contract import Network, PackedRows
from alterrec_jax.errors import UserError
from alterrec_jax.hard_negatives import rank_window as mining_module
from alterrec_jax.losses import streamed as losses_module
from alterrec_jax.nn import item_tables
from alterrec_jax.nn.item_tables import has_row_per_item
from alterrec_jax.sharding import mesh
from alterrec_jax.training import steps
from alterrec_jax.training.stages import Turn
from tests.oracles import mining as oracle
from tests.training.test_steps import ITEMS, K1, K2, MINING, TURNS, batch, networks, on_host, text_vectors

ONE, MESHES = "data:1", ("data:8", "model:8", "data:4,model:2")


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


def on_mesh(words: str) -> AbstractContextManager[Any]:
    """Uses a mesh of all eight devices, or of a single one."""
    return mesh.used(mesh.make_mesh(words, jax.devices()[: 1 if words == ONE else 8]))


@functools.cache
def stepped(
    turn: Turn, words: str, config: MiningConfig = MINING, encoder: str = "mean", dropout: float = 0.0
) -> steps.NetworkState:
    """The state after a step of plain gradient descent of rate 1 on a mesh."""
    with on_mesh(words):
        both, optimizer = networks(encoder, dropout), optax.sgd(1.0)
        network, features = both[turn.network], features_of(turn.network)
        params = params_of(network, features, 1)
        placed = jax.tree.map(lambda leaf: leaf.sharding, params)
        state = steps.NetworkState(params, optimizer.init(params), mesh.put(steps.Totals.zero()))
        peer = None
        if turn.peer:
            of_peer = features_of(turn.peer)
            peer = steps.FrozenPeer.of(both[turn.peer], params_of(both[turn.peer], of_peer, 2), of_peer)
        step = steps.compiled(steps.make_step(turn, both, optimizer, config, (K1, K2)))
        after = step(state, peer, features, padded_rows(batch()), jax.random.key(5))
        assert jax.tree.map(lambda leaf: leaf.sharding, after.params) == placed
        return on_host(after)


def assert_alike(found: steps.NetworkState, whole: steps.NetworkState) -> None:
    """Sums and parameters, those of padding left out, which must be zeros."""
    np.testing.assert_allclose(found.totals, whole.totals, rtol=1e-5)

    def alike(path: tuple[Any, ...], leaf: np.ndarray, wanted: np.ndarray) -> None:
        if has_row_per_item(path):
            assert not leaf[ITEMS:].any()
            leaf = leaf[:ITEMS]
        np.testing.assert_allclose(leaf, wanted, rtol=1e-4, atol=1e-5, err_msg=jax.tree_util.keystr(path))

    jax.tree_util.tree_map_with_path(alike, found.params, whole.params)


EVERY_TURN = [(turn, "data:4,model:2") for turn in TURNS]
BOTH_ENDS = [(turn, words) for turn in (Turn("id", "window", "text"), Turn("text", "random")) for words in MESHES[:2]]


@pytest.mark.parametrize(("turn", "words"), [*EVERY_TURN, *BOTH_ENDS], ids=str)
def test_a_step_is_that_of_one_device(turn: Turn, words: str) -> None:
    assert_alike(stepped(turn, words), stepped(turn, ONE))


def test_dropout_does_not_depend_on_the_mesh() -> None:
    turn, case = Turn("id", "window", "text"), (MINING, "transformer", 0.4)
    whole = stepped(turn, ONE, *case)
    assert whole.totals.loss != stepped(turn, ONE, MINING, "transformer").totals.loss
    assert_alike(stepped(turn, "data:4,model:2", *case), whole)


@pytest.mark.parametrize(
    "turn", [Turn("id", "window", "text"), Turn("text", "window", "id"), Turn("text", "full")], ids=str
)
def test_a_long_catalogue_in_blocks_makes_the_same_step(turn: Turn, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = stepped(turn, ONE)
    monkeypatch.setattr(losses_module, "HELD", 1)
    monkeypatch.setattr(losses_module, "_BLOCK", 14 * 5)
    monkeypatch.setattr(mining_module, "HELD", 1)
    monkeypatch.setattr(mining_module, "_PIECE", 4 * 12)
    monkeypatch.setattr(numerics, "_ITEMS_AT_ONCE", 5)
    monkeypatch.setattr(item_tables, "_ROWS_AT_ONCE", 5)
    assert_alike(stepped.__wrapped__(turn, "data:4,model:2"), whole)


def test_half_a_window_needs_whole_rows() -> None:
    turn, config = Turn("id", "window", "text"), dataclasses.replace(MINING, hard_fraction=0.5)
    assert_alike(stepped(turn, "data:8", config), stepped(turn, ONE, config))
    with pytest.raises(UserError, match="use --mesh with model:1"):
        stepped(turn, "data:4,model:2", config)


@pytest.mark.parametrize("name", ["id", "text"])
def test_a_network_begins_alike(name: str) -> None:
    states = []
    for words in (ONE, "data:4,model:2"):
        with on_mesh(words):
            network = networks("transformer")[name]
            state = steps.init_state(network, optax.adam(1e-3), features_of(name), jax.random.key(0))
            states.append(on_host(state))
    assert_alike(states[1], states[0])


@functools.cache
def ranked(items: int, k1: int, k2: int, p: int) -> tuple[np.ndarray, np.ndarray, list[tuple[set[int], list[int]]]]:
    """Queries and a table whose scores tie, and of each query the window and the best items by the oracle."""
    rng = np.random.default_rng(3)
    queries, table = (rng.integers(-3, 4, size=(count, 2)).astype(np.float32) for count in (8, items))
    rows = (queries @ table.T).tolist()
    return queries, table, [(oracle.window(scores, k1, k2), oracle.top(scores, p)) for scores in rows]


@pytest.mark.parametrize("held", [2**26, 1])
@pytest.mark.parametrize(
    ("words", "selection"), [*((words, "search") for words in MESHES), ("data:4,model:2", "top_k")]
)
@pytest.mark.parametrize(("items", "k1", "k2", "p"), [(901, 3, 500, 3), (901, 90, 901, 0), (11, 2, 9, 2)])
def test_windows_are_those_of_the_oracle(
    words: str, selection: str, held: int, items: int, k1: int, k2: int, p: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With scores that tie, within a device's items and between those of several, at once or a prefix at a time."""
    monkeypatch.setattr(mining_module, "HELD", held)
    queries, table, wanted = ranked(items, k1, k2, p)
    with on_mesh(words):
        arguments = (mesh.put(queries, mesh.BATCH), mesh.put_rows(table, np.float32))

        def window(queries: jax.Array, table: jax.Array) -> mining_module.RankWindow:
            return mining_module.peer_window(queries, table, k1, k2, p, selection, items)

        found = jax.device_get(jax.jit(window)(*arguments))
    for row, (scores, (of_window, best)) in enumerate(zip(queries @ table.T, wanted, strict=True)):
        inside = (scores < found.upper[row]) & (scores >= found.lower[row])
        assert set(np.flatnonzero(inside).tolist()) == of_window
        assert found.best[row].tolist() == best
