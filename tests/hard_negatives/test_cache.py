"""Windows that are kept for a stage: those of the oracle for every prefix, however it is packed when they are used."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alterrec_jax.contract import CatalogueInfo, Context, SessionBatch
from alterrec_jax.data.batches import TrainBatches
from alterrec_jax.hard_negatives import cache, rank_window
from alterrec_jax.hard_negatives.cache import WindowCache
from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.scoring.frozen import freeze
from alterrec_jax.sharding import mesh
from alterrec_jax.training import steps
from alterrec_jax.training.loop import TrainLoop
from tests.evaluation.examples import make_sessions
from tests.oracles import mining as oracle
from tests.sharding.examples import ONE, assert_alike, context_on_mesh, on_mesh, padded_rows, params_on_mesh
from tests.training.examples import (
    ITEMS,
    LENGTH,
    P,
    context,
    fresh,
    frozen,
    on_host,
    params_of,
    stage_of,
    step_of,
    system_of,
    vectors,
)

STAGE = stage_of("id", "window", "text")
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
    return jax.tree.map(lambda shape: jnp.full(shape.shape, -77, shape.dtype), cache.shapes(INTERACTIONS, p))


@pytest.mark.parametrize(("k1", "k2", "p"), [(3, 17, 2), (1, ITEMS, 0), (0, 9, 0), (5, 6, 5)])
def test_a_prefix_has_the_window_of_the_oracle_in_another_epoch(k1: int, k2: int, p: int) -> None:
    """The peer is a mean over a table whose rows repeat, so scores tie.

    Later its scores are a little off, as if they had been rounded otherwise, and no item moves.
    """
    system, batches = system_of("mean"), batches_of()
    network = system.networks["text"]
    repeated = vectors()
    repeated[ITEMS // 2 :] = repeated[: ITEMS - ITEMS // 2]
    known = Context({"text": jnp.asarray(repeated)}, {})
    peer = freeze(system.components, {"text": 1.0}, {"text": params_of(network, known, 2)}, known)

    @jax.jit
    def queries_of(batch: SessionBatch) -> jax.Array:
        return network.session_embeddings(peer.params["text"], peer.tables["text"], batch)

    @jax.jit
    def mine(kept: WindowCache, batch: SessionBatch) -> WindowCache:
        found = rank_window.peer_window(queries_of(batch), peer.candidates, k1, k2, p, kept=True)
        return cache.write(kept, batch, found)

    kept = room(p)
    for batch in batches.epoch(jax.random.key(0)):
        kept = mine(kept, batch)
    seen = set()
    for batch in batches.epoch(jax.random.key(1)):
        found = cache.read(kept, batch)
        assert found.best.shape == (4 * LENGTH, p)
        rounded = np.where(np.arange(4 * LENGTH) % 2, 1 + 2e-6, 1 - 2e-6)[:, None]
        scores = np.asarray(queries_of(batch) @ peer.candidates.T) * np.float32(rounded)
        inside = np.asarray(rank_window.in_window(jnp.asarray(scores), found))
        for prefix in np.flatnonzero(batch.is_target):
            assert set(np.flatnonzero(inside[prefix]).tolist()) == oracle.window(scores[prefix].tolist(), k1, k2)
            assert found.best[prefix].tolist() == oracle.top(scores[prefix].tolist(), p)
            seen.add(int(batch.interaction[prefix]))
    assert len(seen) == batches.prefixes, "every prefix has its own place"
    elsewhere = np.setdiff1d(np.arange(INTERACTIONS), sorted(seen))
    assert len(elsewhere)
    for array in jax.tree.leaves(kept):
        assert (np.asarray(array)[elsewhere] == -77).all(), "nothing but prefixes is kept"


def stepped(words: str) -> tuple[steps.StageState, steps.StageState]:
    """The states after a step that mines and another one, on the same prefixes, with the same windows."""
    empty = room(P)
    with on_mesh(words):
        system, optimizer, known = system_of("mean"), optax.sgd(1.0), context_on_mesh()
        params = {"id": params_on_mesh(system.networks["id"], known, 1)}
        windows = jax.tree.map(lambda array: mesh.put_rows(np.asarray(array), array.dtype), empty)
        state = steps.StageState(params, optimizer.init(params), steps.Totals.zeros(), windows)
        of_peer = {"text": params_on_mesh(system.networks["text"], known, 2)}
        peer = freeze(system.components, {"text": 1.0}, of_peer, known)
        batch = padded_rows(next(iter(batches_of().epoch(jax.random.key(0)))))
        mining, reusing = (steps.compiled(step_of(system, STAGE, optimizer, reuse)) for reuse in (False, True))
        mined = mining(state, peer, known, batch, jax.random.key(5))
        first = on_host(mined)
        return first, on_host(reusing(mined, peer, known, batch, jax.random.key(6)))


@pytest.mark.parametrize("words", ["data:8", "data:4,model:2", "model:8"])
def test_devices_keep_the_windows_of_one(words: str) -> None:
    for found, whole in zip(stepped(words), stepped(ONE), strict=True):
        assert_alike(found, whole)
        for array, of_one in zip(*map(jax.tree.leaves, (found.windows, whole.windows)), strict=True):
            np.testing.assert_allclose(array[:INTERACTIONS], of_one, rtol=1e-5)
            assert not array[INTERACTIONS:].any()


def test_a_step_that_reuses_windows_is_the_step_that_mines() -> None:
    system, optimizer = system_of("mean"), optax.sgd(1.0)
    peer = frozen(system, STAGE)
    batch = next(iter(batches_of().epoch(jax.random.key(0))))

    def step(windows: WindowCache | None, reuse: bool = False) -> Any:
        made = steps.compiled(step_of(system, STAGE, optimizer, reuse))
        state = fresh(system, STAGE, optimizer)._replace(windows=windows)
        return on_host(made(state, peer, context(), batch, jax.random.key(5)))

    plain, first = step(None), step(room(P))
    jax.tree.map(np.testing.assert_array_equal, first.totals, plain.totals)
    assert_alike(first, plain)  # two programs: whether a product and a sum are one instruction, XLA decides anew
    again = step(jax.tree.map(jnp.asarray, first.windows), reuse=True)
    jax.tree.map(np.testing.assert_array_equal, again.windows, first.windows)
    assert_alike(again, plain)
    nothing = step(room(P), reuse=True)
    assert nothing.totals.loss == 0, "it takes what was kept, which here is no window at all"


def test_a_step_that_reuses_windows_selects_nothing() -> None:
    system, optimizer = system_of("mean"), optax.sgd(1.0)
    peer, state = frozen(system, STAGE), fresh(system, STAGE, optimizer)._replace(windows=room(P))
    batch, texts = next(iter(batches_of().epoch(jax.random.key(0)))), []
    for reuse in (False, True):
        step = jax.jit(step_of(system, STAGE, optimizer, reuse))
        texts.append(step.lower(state, peer, context(), batch, jax.random.key(5)).compile().as_text() or "")
    found = [sum(word in text for word in ("TopK", " sort(")) for text in texts]
    assert found[0] > 0 and found[1] == 0


@pytest.mark.parametrize(
    ("mined", "turn_epochs", "positives"),
    [
        (MiningConfig(k1=5), 2, 5),
        (MiningConfig(k1=5, augment=False), 2, 0),
        (MiningConfig(k1=5), 1, None),
        (MiningConfig(k1=5, hard_fraction=0.5), 2, None),
        (MiningConfig(k1=5, negatives="self", augment=False), 2, None),
        (MiningConfig(k1=5, negatives="uniform", augment=False), 2, None),
        (MiningConfig(k1=5, negatives="full", augment=False), 2, None),
    ],
)
def test_windows_are_kept_where_they_serve_twice(mined: MiningConfig, turn_epochs: int, positives: int | None) -> None:
    config = AlterRecConfig(mining=mined, turn_epochs=turn_epochs, epochs=9).check()
    system = config.build(CatalogueInfo(ITEMS))
    found = TrainLoop(system, context(), batches_of(), INTERACTIONS, seed=0).shapes().windows
    assert (found is not None) == (positives is not None)
    assert found is None or len(found.best) == positives and found.upper.shape == (INTERACTIONS,)


def test_a_top_of_none_takes_no_room() -> None:
    found = cache.shapes(10, 0)
    assert found.best == () and found.upper.shape == (10,)
    assert cache.zeros(None) is None
