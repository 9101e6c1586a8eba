"""Windows that are kept for a turn: those of the oracle for every prefix, however it is packed when they are used."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alterrec_jax.config import AlterRecConfig, MiningConfig, ScheduleConfig
from alterrec_jax.contract import PackedRows
from alterrec_jax.data.batches import TrainBatches
from alterrec_jax.hard_negatives import cache, rank_window
from alterrec_jax.hard_negatives.cache import WindowCache
from alterrec_jax.sharding import mesh
from alterrec_jax.training import steps
from alterrec_jax.training.stages import Turn
from tests.evaluation.examples import make_sessions
from tests.oracles import mining as oracle
from tests.sharding.test_mesh_steps import ONE, assert_alike, features_of, on_mesh, padded_rows, params_of
from tests.training.test_steps import ITEMS, K1, K2, LENGTH, MINING, P, fresh, frozen, networks, on_host, text_vectors

TURN = Turn("id", "window", "text")
AGAIN = TURN._replace(again=True)
LENGTHS = (3, 12, 2, 5, 1, 4, 9, 30, 1, 2, 8, 7, 7)
INTERACTIONS = sum(LENGTHS)


def batches_of(seed: int = 0) -> TrainBatches:
    """Of sessions of all lengths, some of which are context at first."""
    rng = np.random.default_rng(seed)
    lists = [rng.integers(0, ITEMS, n).tolist() for n in LENGTHS]
    firsts = [1, 1, 1, 4, 1, 1, 8, 1, 1, 1, 3, 1, 6]
    return TrainBatches(make_sessions(lists, firsts), batch_prefixes=4 * LENGTH, max_length=LENGTH)


def room(p: int) -> WindowCache:
    """For the windows of those sessions, filled with what no window is."""
    mined = MiningConfig(augment=p > 0, p=p)
    shapes = cache.shapes_for(AlterRecConfig(mining=mined), INTERACTIONS)
    return jax.tree.map(lambda shape: jnp.full(shape.shape, -77, shape.dtype), shapes)


@pytest.mark.parametrize(("k1", "k2", "p"), [(3, 17, 2), (1, ITEMS, 0), (0, 9, 0), (5, 6, 5)])
def test_a_prefix_has_the_window_of_the_oracle_in_another_epoch(k1: int, k2: int, p: int) -> None:
    """The peer is a mean over a table whose rows repeat, so scores tie.

    Later its scores are a little off, as if they had been rounded otherwise, and no item moves.
    """
    network, batches = networks("mean")["text"], batches_of()
    vectors = text_vectors().at[ITEMS // 2 :].set(text_vectors()[: ITEMS - ITEMS // 2])
    peer = frozen(network, vectors)

    @jax.jit
    def queries_of(rows: PackedRows) -> jax.Array:
        return network.session_embeddings(peer.params, peer.table, rows).reshape(4 * LENGTH, -1)

    @jax.jit
    def mine(kept: WindowCache, rows: PackedRows) -> WindowCache:
        return cache.write(kept, rows, rank_window.peer_window(queries_of(rows), peer.table, k1, k2, p, kept=True))

    kept = room(p)
    for rows in batches.epoch(jax.random.key(0)):
        kept = mine(kept, rows)
    seen = set()
    for rows in batches.epoch(jax.random.key(1)):
        found = cache.read(kept, rows)
        assert found.best.shape == (4 * LENGTH, p)
        rounded = np.where(np.arange(4 * LENGTH) % 2, 1 + 2e-6, 1 - 2e-6)[:, None]
        scores = np.asarray(queries_of(rows) @ peer.table.T) * np.float32(rounded)
        inside = np.asarray(rank_window.in_window(jnp.asarray(scores), found))
        for place in np.flatnonzero(rows.where):
            assert set(np.flatnonzero(inside[place]).tolist()) == oracle.window(scores[place].tolist(), k1, k2)
            assert found.best[place].tolist() == oracle.top(scores[place].tolist(), p)
            seen.add(int(rows.source.flat[place]))
    assert len(seen) == batches.prefixes, "every prefix has its own place"
    elsewhere = np.setdiff1d(np.arange(INTERACTIONS), sorted(seen))
    assert len(elsewhere)
    for array in jax.tree.leaves(kept):
        assert (np.asarray(array)[elsewhere] == -77).all(), "nothing but prefixes is kept"


def stepped(words: str) -> tuple[steps.NetworkState, steps.NetworkState]:
    """The states after a step that mines and another one, on the same prefixes, with the same windows."""
    empty = room(P)
    with on_mesh(words):
        both, optimizer, features = networks("mean"), optax.sgd(1.0), features_of("text")
        params = params_of(both["id"], None, 1)
        windows = jax.tree.map(lambda array: mesh.put_rows(np.asarray(array), array.dtype), empty)
        state = steps.NetworkState(params, optimizer.init(params), mesh.put(steps.Totals.zero()), windows)
        peer = steps.FrozenPeer.of(both["text"], params_of(both["text"], features, 2), features)
        rows = padded_rows(next(iter(batches_of().epoch(jax.random.key(0)))))
        mined = steps.compiled(steps.make_step(TURN, both, optimizer, MINING, (K1, K2)))(
            state, peer, None, rows, jax.random.key(5)
        )
        first = on_host(mined)
        again = steps.compiled(steps.make_step(AGAIN, both, optimizer, MINING, (K1, K2)))
        return first, on_host(again(mined, peer, None, rows, jax.random.key(6)))


@pytest.mark.parametrize("words", ["data:8", "data:4,model:2", "model:8"])
def test_devices_keep_the_windows_of_one(words: str) -> None:
    for found, whole in zip(stepped(words), stepped(ONE), strict=True):
        assert_alike(found, whole)
        for array, of_one in zip(*map(jax.tree.leaves, (found.windows, whole.windows)), strict=True):
            np.testing.assert_allclose(array[:INTERACTIONS], of_one, rtol=1e-5)
            assert not array[INTERACTIONS:].any()


def test_a_step_with_kept_windows_is_the_step_that_mines() -> None:
    both, optimizer = networks("mean"), optax.sgd(1.0)
    peer = frozen(both["text"], text_vectors())
    rows = next(iter(batches_of().epoch(jax.random.key(0))))

    def step(turn: Turn, state: steps.NetworkState) -> Any:
        made = steps.make_step(turn, both, optimizer, MINING, (K1, K2))
        return on_host(steps.compiled(made)(state, peer, None, rows, jax.random.key(5)))

    plain = step(TURN, fresh(both["id"], optimizer, None))
    first = step(TURN, fresh(both["id"], optimizer, None)._replace(windows=room(P)))
    jax.tree.map(np.testing.assert_array_equal, first._replace(windows=None), plain)
    kept = jax.tree.map(jnp.asarray, first.windows)
    again = step(AGAIN, fresh(both["id"], optimizer, None)._replace(windows=kept))
    jax.tree.map(np.testing.assert_array_equal, again.windows, first.windows)
    assert_alike(again, plain)
    nothing = step(AGAIN, fresh(both["id"], optimizer, None)._replace(windows=room(P)))
    assert nothing.totals.loss == 0, "it takes what was kept, which here is no window at all"


def test_a_step_with_kept_windows_selects_nothing() -> None:
    both, optimizer = networks("mean"), optax.sgd(1.0)
    peer, state = frozen(both["text"], text_vectors()), fresh(both["id"], optimizer, None)._replace(windows=room(P))
    rows, texts = next(iter(batches_of().epoch(jax.random.key(0)))), []
    for turn in (TURN, AGAIN):
        step = jax.jit(steps.make_step(turn, both, optimizer, MINING, (3, 17)))
        texts.append(step.lower(state, peer, None, rows, jax.random.key(5)).compile().as_text() or "")
    found = [sum(word in text for word in ("TopK", " sort(")) for text in texts]
    assert found[0] > 0 and found[1] == 0


@pytest.mark.parametrize(
    ("mined", "m_gap", "kept"),
    [
        (MiningConfig(), 2, True),
        (MiningConfig(), 1, False),
        (MiningConfig(hard_fraction=0.5), 2, False),
        (MiningConfig(negatives="self", augment=False), 2, False),
        (MiningConfig(negatives="uniform", augment=False), 2, False),
        (MiningConfig(negatives="full", augment=False), 2, False),
    ],
)
def test_windows_are_kept_where_they_serve_twice(mined: MiningConfig, m_gap: int, kept: bool) -> None:
    config = AlterRecConfig(mining=mined, schedule=ScheduleConfig(m_gap=m_gap)).check()
    assert (cache.shapes_for(config, 10) is not None) == kept


def test_a_top_of_none_takes_no_room() -> None:
    shapes = cache.shapes_for(AlterRecConfig(mining=MiningConfig(augment=False)), 10)
    assert shapes is not None and shapes.best == () and shapes.upper.shape == (10,)
