"""The train steps: their loss is the paper's, they change what trains, and nothing else."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alterrec_jax import numerics
from alterrec_jax.config import AlterRecConfig, MiningConfig, NetworkConfig, TextNetworkConfig
from alterrec_jax.contract import Network, PackedRows
from alterrec_jax.data.batches import DeviceChunk, TrainBatches
from alterrec_jax.hard_negatives import rank_window as mining_module
from alterrec_jax.hard_negatives.rank_window import drawn_from_window
from alterrec_jax.losses import streamed as losses_module
from alterrec_jax.models.alterrec import build_networks
from alterrec_jax.nn import item_tables
from alterrec_jax.training import steps
from alterrec_jax.training.stages import Turn
from tests.evaluation.examples import make_sessions
from tests.oracles import losses as oracle
from tests.oracles import mining
from tests.oracles.packing import scored

ITEMS, TEXT_WIDTH, LENGTH = 23, 5, 7
K1, K2, P, BETA = 3, 17, 2, 0.7
MINING = MiningConfig(k1=K1, k2=K2, p=P, beta=BETA)
ALTERNATING = [
    Turn(*turn) for turn in (("id", "random"), ("id", "window", "text"), ("text", "random"), ("text", "window", "id"))
]
TURNS = [
    *ALTERNATING,
    Turn("id", "full"),
    Turn("text", "full"),
    Turn("id", "window", "id"),
    Turn("text", "window", "text"),
]


def networks(encoder: str, dropout: float = 0.0, precision: str = "float32") -> dict[str, Network]:
    """Two small networks, of different widths and temperatures."""
    shared: dict[str, Any] = {"encoder": encoder, "layers": 1, "heads": 1, "dropout": dropout}
    config = AlterRecConfig(
        max_length=LENGTH,
        precision=precision,
        id=NetworkConfig(dim=3, temperature=0.5, **shared),
        text=TextNetworkConfig(dim=11, mlp_hidden=(), temperature=0.8, **shared),
    )
    return build_networks(config, ITEMS)


def text_vectors() -> jax.Array:
    """float32 [item, d_text]."""
    return jnp.asarray(np.random.default_rng(0).normal(size=(ITEMS, TEXT_WIDTH)), jnp.float32)


def batch(seed: int = 0) -> PackedRows:
    """Rows with several sessions, context that is not scored, and empty places."""
    rng = np.random.default_rng(seed)
    lists = [rng.integers(0, ITEMS, n).tolist() for n in (3, 12, 2, 5, 1, 4, 9)]
    sessions = make_sessions(lists, [1, 1, 1, 4, 1, 1, 8])
    batches = TrainBatches(sessions, batch_prefixes=6 * LENGTH, max_length=LENGTH)
    (rows,) = batches.epoch(jax.random.key(seed))
    there = rows.segments >= 0
    assert (there & ~rows.where).any() and (~there).any()
    return rows


def fresh(network: Network, optimizer: optax.GradientTransformation, features: Any) -> steps.NetworkState:
    """A state whose parameters are of ordinary size; always the same, in buffers that may be donated."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(network.init, jax.random.key(0), features)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes)
    return steps.NetworkState(params, optimizer.init(params), steps.Totals.zero())


def frozen(network: Network, features: Any) -> steps.FrozenPeer:
    """The peer, of ordinary size too."""
    rng = np.random.default_rng(2)
    shapes = jax.eval_shape(network.init, jax.random.key(0), features)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes)
    return steps.FrozenPeer(params, network.item_embeddings(params, features))


def on_host(tree: Any) -> Any:
    """A copy that no donated buffer reaches."""
    return jax.tree.map(lambda leaf: np.array(leaf, copy=True), tree)


def assert_identical(found: Any, expected: Any) -> None:
    """Every leaf, bit by bit."""
    jax.tree.map(np.testing.assert_array_equal, found, expected)


class Stepping(NamedTuple):
    """A window step of the ID network (mean, plain gradient descent of rate 1) against a text peer.

    `pure` is the function, `step` its program.
    """

    pure: Any
    step: Any
    start: Callable[[], steps.NetworkState]
    peer: steps.FrozenPeer


@pytest.fixture(scope="module")
def plain() -> Stepping:
    both, optimizer = networks("mean"), optax.sgd(1.0)
    pure = steps.make_window_step(both["id"], both["text"], optimizer, MINING, (K1, K2))
    return Stepping(
        pure, steps.compiled(pure), lambda: fresh(both["id"], optimizer, None), frozen(both["text"], text_vectors())
    )


def expected_loss(table: np.ndarray, peer_table: np.ndarray, rows: PackedRows, augment: bool = True) -> list[float]:
    """The loss of every prefix under mean encoders, by NumPy from the two item tables, in float64."""
    losses = []
    for visible, target in scored(rows):
        items = list(visible)
        own = table @ (table[items].mean(axis=0) / 0.5)
        peer = peer_table @ (peer_table[items].mean(axis=0) / 0.8)
        p, beta = (P, BETA) if augment else (0, 0.0)
        losses.append(oracle.window_loss(own, peer, target, K1, K2, p, beta))
    return losses


def test_window_loss_and_gradient_are_those_of_the_oracle(plain: Stepping) -> None:
    rows, before = batch(), on_host(plain.start().params)
    after = plain.step(plain.start(), plain.peer, None, rows, jax.random.key(0))
    table = before["items"]["table"].astype(np.float64)
    peer_table = np.asarray(plain.peer.table, np.float64)
    losses = expected_loss(table, peer_table, rows)
    assert float(after.totals.prefixes) == len(losses) == rows.where.sum()
    assert float(after.totals.steps) == 1
    np.testing.assert_allclose(after.totals.loss, np.sum(losses), rtol=1e-5)
    # Plain gradient descent of rate 1 moves the table by the gradient of the mean loss.
    gradient = table - np.asarray(after.params["items"]["table"], np.float64)
    np.testing.assert_allclose(after.totals.gradient_norm, np.linalg.norm(gradient), rtol=1e-4)
    rng = np.random.default_rng(3)
    for direction in rng.normal(size=(3, *table.shape)):
        sides = [np.mean(expected_loss(table + h * direction, peer_table, rows)) for h in (1e-4, -1e-4)]
        assert (sides[0] - sides[1]) / 2e-4 == pytest.approx(np.sum(gradient * direction), rel=1e-3, abs=1e-4)


def test_the_batch_meets_targets_in_the_window_and_among_the_positives(plain: Stepping) -> None:
    peer_table = np.asarray(plain.peer.table, np.float64)
    ranks = []
    for visible, target in scored(batch()):
        order = mining.ranking((peer_table @ peer_table[list(visible)].mean(axis=0)).tolist())
        ranks.append(order.index(target))
    assert any(rank < P for rank in ranks) and any(K1 <= rank < K2 for rank in ranks)
    assert any(rank >= K2 for rank in ranks)


def test_a_step_changes_what_trains_and_leaves_the_peer_bit_identical(plain: Stepping) -> None:
    state = plain.start()
    before, peer = on_host(state.params), on_host(plain.peer)
    after = plain.step(state, plain.peer, None, batch(), jax.random.key(1))
    assert_identical(on_host(plain.peer), peer)
    assert (np.asarray(after.params["items"]["table"]) != before["items"]["table"]).any()


def test_without_draws_and_dropout_a_step_does_not_depend_on_its_key(plain: Stepping) -> None:
    first, second = (plain.step(plain.start(), plain.peer, None, batch(), jax.random.key(seed)) for seed in (2, 3))
    assert_identical(on_host(first), on_host(second))


def test_steps_add_up_and_are_never_compiled_anew(plain: Stepping) -> None:
    state, counted = plain.start(), 0
    losses = []
    for seed in range(3):
        rows = batch(seed)
        table = np.asarray(state.params["items"]["table"], np.float64)
        losses += expected_loss(table, np.asarray(plain.peer.table, np.float64), rows)
        state = plain.step(state, plain.peer, None, rows, jax.random.key(seed))
        counted += int(rows.where.sum())
    assert (float(state.totals.prefixes), float(state.totals.steps)) == (counted, 3)
    np.testing.assert_allclose(state.totals.loss, np.sum(losses), rtol=1e-4)
    shorter = jax.tree.map(lambda column: column[:-1], batch())
    with pytest.raises(TypeError, match="compiled"):
        plain.step(plain.start(), plain.peer, None, shorter, jax.random.key(0))
    params = on_host(state.params)
    state = steps.start_epoch(state)
    assert [float(total) for total in state.totals] == [0, 0, 0, 0]
    assert_identical(on_host(state.params), params)


def test_a_group_step_takes_one_batch_after_another_and_nothing_from_the_host(plain: Stepping) -> None:
    key, batches = jax.random.key(4), [batch(seed) for seed in range(3)]
    rows = PackedRows(*(np.stack(column) for column in zip(*batches, strict=True)))
    group = jax.device_put(DeviceChunk(rows, np.int32(2)))
    step = steps.compiled(steps.in_groups(plain.pure))
    late = steps.Totals(jnp.zeros(()), jnp.zeros(()), jnp.zeros(()), jnp.float32(2))  # two steps were made before
    one_by_one, state = (plain.start()._replace(totals=jax.tree.map(jnp.copy, late)) for _ in range(2))
    for number, alone in enumerate(batches):
        one_by_one = plain.step(one_by_one, plain.peer, None, alone, jax.random.fold_in(key, 2 + number))
        with jax.transfer_guard("disallow"):
            state = step(state, plain.peer, None, group, key)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), on_host(state), on_host(one_by_one))
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"), jax.transfer_guard("disallow"):
        step(state, plain.peer, None, DeviceChunk(rows, np.int32(2)), key)


def test_a_batch_without_prefixes_has_no_gradient_and_counts_as_a_step(plain: Stepping) -> None:
    rows = batch()
    nothing = rows._replace(where=np.zeros_like(rows.where))
    before = on_host(plain.start().params)
    after = plain.step(plain.start(), plain.peer, None, nothing, jax.random.key(0))
    assert_identical(on_host(after.params), before)
    assert [float(total) for total in after.totals] == [0, 0, 0, 1]


def test_what_is_not_scored_has_no_influence(plain: Stepping) -> None:
    rows = batch()
    other = rows._replace(
        targets=np.where(rows.where, rows.targets, 5).astype(np.int32),
        items=np.where(rows.segments >= 0, rows.items, 8).astype(np.int32),
    )
    first, second = (plain.step(plain.start(), plain.peer, None, r, jax.random.key(0)) for r in (rows, other))
    assert_identical(on_host(first), on_host(second))


def test_the_text_network_without_augmentation_is_that_of_the_oracle() -> None:
    both, optimizer = networks("mean"), optax.sgd(1.0)
    config = MiningConfig(k1=K1, k2=K2, p=P, beta=BETA, augment=False)
    step = steps.compiled(steps.make_window_step(both["text"], both["id"], optimizer, config, (K1, K2)))
    state, peer = fresh(both["text"], optimizer, text_vectors()), frozen(both["id"], None)
    table = np.asarray(both["text"].item_embeddings(state.params, text_vectors()), np.float64)
    rows = batch()
    losses = []
    for visible, target in scored(rows):
        items = list(visible)
        own, theirs = (t @ t[items].mean(axis=0) for t in (table, np.asarray(peer.table, np.float64)))
        losses.append(oracle.window_loss(own / 0.8, theirs / 0.5, target, K1, K2))
    before, peer_before = on_host(state.params), on_host(peer)
    after = step(state, peer, text_vectors(), rows, jax.random.key(0))
    np.testing.assert_allclose(after.totals.loss, np.sum(losses), rtol=1e-4)
    assert_identical(on_host(peer), peer_before)
    for name in ("kernel", "bias"):
        trained = after.params["items"]["output"][name]
        assert (np.asarray(trained) != before["items"]["output"][name]).any()


def test_a_transformer_trains_with_dropout_against_a_peer_without() -> None:
    both = networks("transformer", dropout=0.3)
    config = NetworkConfig(learning_rate=0.01, weight_decay=0.1)
    optimizer = steps.make_optimizer(config, steps_per_epoch=1)
    step = steps.compiled(steps.make_window_step(both["id"], both["text"], optimizer, MINING, (K1, K2)))
    peer = frozen(both["text"], text_vectors())
    peer_before, before = on_host(peer), on_host(fresh(both["id"], optimizer, None).params)
    first, again, other = (
        on_host(step(fresh(both["id"], optimizer, None), peer, None, batch(), jax.random.key(seed)))
        for seed in (0, 0, 1)
    )
    assert_identical(on_host(peer), peer_before)
    assert_identical(again, first)
    assert first.totals.loss != other.totals.loss
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.tree.map(np.not_equal, first.params, before)):
        assert leaf.any(), jax.tree_util.keystr(path)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(first))


def test_random_negatives_of_the_whole_catalogue_are_a_full_softmax() -> None:
    both, optimizer = networks("mean"), optax.sgd(1.0)
    step = steps.compiled(steps.make_random_step(both["id"], optimizer, (0, ITEMS)))
    state, rows = fresh(both["id"], optimizer, None), batch()
    table = np.asarray(state.params["items"]["table"], np.float64)
    losses = []
    for visible, target in scored(rows):
        scores = table @ (table[list(visible)].mean(axis=0) / 0.5)
        losses.append(oracle.cross_entropy(scores[target], np.delete(scores, target)))
    after = step(state, None, None, rows, jax.random.key(0))
    np.testing.assert_allclose(after.totals.loss, np.sum(losses), rtol=1e-5)


def all_equal(network: Network, optimizer: optax.GradientTransformation) -> steps.NetworkState:
    """A state of zeros: all scores are 0, so that a loss only counts negatives."""
    state = fresh(network, optimizer, None)
    return state._replace(params=jax.tree.map(jnp.zeros_like, state.params))


def test_random_negatives_are_as_many_as_the_window_holds_without_the_target() -> None:
    both, optimizer = networks("mean"), optax.sgd(0.0)
    step = steps.compiled(steps.make_random_step(both["id"], optimizer, (K1, K2)))
    rows = batch()
    count, prefixes = K2 - K1, int(rows.where.sum())
    for seed in range(5):
        after = step(all_equal(both["id"], optimizer), None, None, rows, jax.random.key(seed))
        assert float(after.totals.loss) == pytest.approx(prefixes * np.log(1 + count), rel=1e-6)


def test_half_a_window_is_what_was_drawn_and_the_same_positives() -> None:
    both, optimizer = networks("mean"), optax.sgd(0.0)
    rows, peer = batch(), frozen(both["text"], text_vectors())
    config = MiningConfig(k1=K1, k2=K2, p=P, beta=BETA, hard_fraction=0.5)
    step = steps.compiled(steps.make_window_step(both["id"], both["text"], optimizer, config, (K1, K2)))
    state, key = fresh(both["id"], optimizer, None), jax.random.key(0)
    table, peer_table = (np.asarray(t, np.float64) for t in (state.params["items"]["table"], peer.table))
    places = list(scored(rows))
    own, theirs = (
        np.stack([t @ t[list(visible)].mean(axis=0) / tau for visible, _ in places])
        for t, tau in ((table, 0.5), (peer_table, 0.8))
    )
    # One draw serves the batch, so it does not matter which of its rows are asked for.
    draw = jax.random.split(key)[0]
    drawn = np.asarray(drawn_from_window(draw, jnp.asarray(theirs, jnp.float32), K1, K2, 0.5)).astype(int)
    losses = []
    for (_, target), scores, ranking, counts in zip(places, own, theirs, drawn, strict=True):
        negatives = np.repeat(scores, np.where(np.arange(ITEMS) == target, 0, counts))
        positives = scores[[item for item in mining.top(ranking.tolist(), P) if item != target]]
        losses.append(oracle.sampled_softmax(scores[target], negatives, positives, BETA))
    after = step(state, peer, None, rows, key)
    np.testing.assert_allclose(after.totals.loss, np.sum(losses), rtol=1e-5)


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_a_long_catalogue_in_blocks_makes_the_same_step(turn: Turn, monkeypatch: pytest.MonkeyPatch) -> None:
    both, optimizer = networks("mean"), optax.sgd(1.0)
    features = {"id": None, "text": text_vectors()}
    found = []
    for in_blocks in (False, True):
        if in_blocks:  # blocks that leave a rest, of everything that knows blocks
            monkeypatch.setattr(losses_module, "HELD", 1)
            monkeypatch.setattr(losses_module, "_BLOCK", 42 * 5)
            monkeypatch.setattr(mining_module, "HELD", 1)
            monkeypatch.setattr(mining_module, "_PIECE", 4 * ITEMS)
            monkeypatch.setattr(numerics, "_ITEMS_AT_ONCE", 6)
            monkeypatch.setattr(item_tables, "_ROWS_AT_ONCE", 7)
        step = steps.compiled(steps.make_step(turn, both, optimizer, MINING, (K1, K2)))
        state = fresh(both[turn.network], optimizer, features[turn.network])
        peer = frozen(both[turn.peer], features[turn.peer]) if turn.peer else None
        found.append(on_host(step(state, peer, features[turn.network], batch(), jax.random.key(0))))
    whole, parts = found
    np.testing.assert_allclose(parts.totals.loss, whole.totals.loss, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), parts.params, whole.params)


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_bfloat16_products_are_near_and_what_is_kept_is_float32(turn: Turn) -> None:
    optimizer, found = optax.adam(1e-3), []
    for precision in ("float32", "bfloat16"):
        both = networks("transformer", precision=precision)
        features = {"id": None, "text": text_vectors().astype(precision)}
        # The window is the whole catalogue: its borders, of scores rounded otherwise, would be other items' scores.
        step = steps.compiled(steps.make_step(turn, both, optimizer, MINING, (0, ITEMS)))
        network = both[turn.network]
        state = fresh(network, optimizer, features[turn.network])
        peer = frozen(both[turn.peer], features[turn.peer]) if turn.peer else None
        table = network.item_embeddings(state.params, features[turn.network])
        assert network.session_embeddings(state.params, table, batch()).dtype == jnp.dtype(precision)
        found.append(step(state, peer, features[turn.network], batch(), jax.random.key(0)))
    exact, rounded = found
    assert {leaf.dtype for leaf in jax.tree.leaves((rounded.params, rounded.totals))} == {jnp.dtype("float32")}
    np.testing.assert_allclose(rounded.totals.loss, exact.totals.loss, rtol=0.05)
    assert rounded.totals.loss != exact.totals.loss
    gradients = [np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(s.opt_state[0].mu)]) for s in found]
    cosine = gradients[0] @ gradients[1] / np.prod([np.linalg.norm(gradient) for gradient in gradients])
    assert cosine > 0.99


def test_learning_rate_falls_by_steps_of_the_networks_own() -> None:
    constant = steps.learning_rate_schedule(NetworkConfig(learning_rate=0.5), 3)
    assert [float(constant(step)) for step in (0, 7, 1000)] == [0.5] * 3
    decaying = steps.learning_rate_schedule(NetworkConfig(learning_rate=0.5, decay_every=2, decay_factor=0.1), 3)
    expected = [0.5] * 6 + [0.05] * 6 + [0.005]
    np.testing.assert_allclose([float(decaying(step)) for step in range(13)], expected, rtol=1e-5)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_optimizer_is_adam_at_that_rate(weight_decay: float) -> None:
    config = NetworkConfig(learning_rate=0.5, decay_every=1, decay_factor=0.1, weight_decay=weight_decay)
    optimizer = steps.make_optimizer(config, steps_per_epoch=2)
    params = {"w": jnp.array([3.0])}
    state, moved = optimizer.init(params), []
    for _ in range(4):
        updates, state = optimizer.update({"w": jnp.array([7.0])}, state, params)
        moved.append(float(updates["w"][0]))
    rates = np.array([0.5, 0.5, 0.05, 0.05])  # a gradient that never changes moves Adam by its rate
    np.testing.assert_allclose(moved, -rates * (1 + weight_decay * 3.0), rtol=1e-4)
