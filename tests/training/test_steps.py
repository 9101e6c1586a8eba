"""The train steps: their loss is the paper's, they change what trains, and nothing else."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alterrec_jax.config import OptimizerConfig
from alterrec_jax.contract import FrozenView, SessionBatch, Stage
from alterrec_jax.data.batches import DeviceChunk
from alterrec_jax.hard_negatives.rank_window import drawn_from_window
from alterrec_jax.models.alterrec import MiningConfig
from alterrec_jax.numerics import MemoryLimits
from alterrec_jax.training import steps
from tests.oracles import losses as oracle
from tests.oracles import mining
from tests.oracles.packing import scored
from tests.training.examples import (
    BETA,
    ITEMS,
    K1,
    K2,
    MINING,
    STAGES,
    P,
    assert_identical,
    batch,
    context,
    fresh,
    frozen,
    on_host,
    stage_of,
    step_of,
    system_of,
    table_of,
    title,
)

STAGES_OF_ID = [stage for stage in STAGES if stage.trains == ("id",)]
ID_RANDOM, ID_WINDOW = STAGES_OF_ID[:2]
TEXT_WINDOW, TEXT_FULL = stage_of("text", "window", "id"), stage_of("text", "full")


class Stepping(NamedTuple):
    """A window step of the ID network (mean, plain gradient descent of rate 1) against a text peer.

    `pure` is the function, `step` its program.
    """

    pure: steps.TrainStep
    step: steps.TrainStep
    start: Callable[[], steps.StageState]
    peer: FrozenView


@pytest.fixture(scope="module")
def plain() -> Stepping:
    system, optimizer = system_of("mean"), optax.sgd(1.0)
    pure, peer = step_of(system, ID_WINDOW, optimizer), frozen(system, ID_WINDOW)
    assert peer is not None
    return Stepping(pure, steps.compiled(pure), functools.partial(fresh, system, ID_WINDOW, optimizer), peer)


def expected_loss(table: np.ndarray, peer_table: np.ndarray, rows: SessionBatch, augment: bool = True) -> list[float]:
    """The loss of every prefix under mean encoders, by NumPy from the two item tables, in float64."""
    losses = []
    for visible, target in scored(rows):
        items = list(visible)
        own = table @ (table[items].mean(axis=0) / 0.5)
        peer = peer_table @ (peer_table[items].mean(axis=0) / 0.8)
        p, beta = (P, BETA) if augment else (0, 0.0)
        losses.append(oracle.window_loss(own, peer, target, K1, K2, p, beta))
    return losses


def item_table(state: steps.StageState) -> np.ndarray:
    """float64 [item, dim]: the ID network's parameters."""
    return np.asarray(state.params["id"]["items"]["table"], np.float64)


def test_window_loss_and_gradient_are_those_of_the_oracle(plain: Stepping) -> None:
    rows, table = batch(), item_table(plain.start())
    after = plain.step(plain.start(), plain.peer, context(), rows, jax.random.key(0))
    peer_table = np.asarray(plain.peer.candidates, np.float64)
    losses = expected_loss(table, peer_table, rows)
    assert float(after.totals.prefixes) == len(losses) == rows.is_target.sum()
    assert float(after.totals.steps) == 1
    np.testing.assert_allclose(after.totals.loss, np.sum(losses), rtol=1e-5)
    # Plain gradient descent of rate 1 moves the table by the gradient of the mean loss.
    gradient = table - item_table(after)
    np.testing.assert_allclose(after.totals.gradient_norm, np.linalg.norm(gradient), rtol=1e-4)
    rng = np.random.default_rng(3)
    for direction in rng.normal(size=(3, *table.shape)):
        sides = [np.mean(expected_loss(table + h * direction, peer_table, rows)) for h in (1e-4, -1e-4)]
        assert (sides[0] - sides[1]) / 2e-4 == pytest.approx(np.sum(gradient * direction), rel=1e-3, abs=1e-4)


def test_the_batch_meets_targets_in_the_window_and_among_the_positives(plain: Stepping) -> None:
    peer_table = np.asarray(plain.peer.candidates, np.float64)
    ranks = []
    for visible, target in scored(batch()):
        order = mining.ranking((peer_table @ peer_table[list(visible)].mean(axis=0)).tolist())
        ranks.append(order.index(target))
    assert any(rank < P for rank in ranks) and any(K1 <= rank < K2 for rank in ranks)
    assert any(rank >= K2 for rank in ranks)


def test_a_step_changes_what_trains_and_leaves_the_peer_bit_identical(plain: Stepping) -> None:
    state = plain.start()
    before, peer = item_table(state), on_host(plain.peer)
    after = plain.step(state, plain.peer, context(), batch(), jax.random.key(1))
    assert_identical(on_host(plain.peer), peer)
    assert (item_table(after) != before).any()


def test_without_draws_and_dropout_a_step_does_not_depend_on_its_key(plain: Stepping) -> None:
    first, second = (plain.step(plain.start(), plain.peer, context(), batch(), jax.random.key(seed)) for seed in (2, 3))
    assert_identical(on_host(first), on_host(second))


def test_steps_add_up_and_are_never_compiled_anew(plain: Stepping) -> None:
    state, counted = plain.start(), 0
    losses = []
    for seed in range(3):
        rows = batch(seed)
        losses += expected_loss(item_table(state), np.asarray(plain.peer.candidates, np.float64), rows)
        state = plain.step(state, plain.peer, context(), rows, jax.random.key(seed))
        counted += int(rows.is_target.sum())
    assert (float(state.totals.prefixes), float(state.totals.steps)) == (counted, 3)
    np.testing.assert_allclose(state.totals.loss, np.sum(losses), rtol=1e-4)
    shorter = jax.tree.map(lambda column: column[:-1], batch())
    with pytest.raises(TypeError, match="compiled"):
        plain.step(plain.start(), plain.peer, context(), shorter, jax.random.key(0))
    assert [float(total) for total in steps.Totals.zeros()[:4]] == [0, 0, 0, 0]


def test_a_chunk_step_takes_one_batch_after_another_and_nothing_from_the_host(plain: Stepping) -> None:
    key, batches = jax.random.key(4), [batch(seed) for seed in range(3)]
    rows = jax.tree.map(lambda *columns: np.stack(columns), *batches)
    chunk = jax.device_put(DeviceChunk(rows, np.int32(2)))
    step, known = steps.compiled(steps.in_chunks(plain.pure)), context()
    late = steps.Totals.zeros()._replace(steps=jnp.float32(2))  # two steps were made before
    one_by_one, state = (plain.start()._replace(totals=jax.tree.map(jnp.copy, late)) for _ in range(2))
    for number, alone in enumerate(batches):
        one_by_one = plain.step(one_by_one, plain.peer, known, alone, jax.random.fold_in(key, 2 + number))
        with jax.transfer_guard("disallow"):
            state = step(state, plain.peer, known, chunk, key)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8), on_host(state), on_host(one_by_one)
    )
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"), jax.transfer_guard("disallow"):
        step(state, plain.peer, known, DeviceChunk(rows, np.int32(2)), key)


def test_a_batch_without_prefixes_has_no_gradient_and_counts_as_a_step(plain: Stepping) -> None:
    rows = batch()
    nothing = rows._replace(is_target=np.zeros_like(rows.is_target))
    before = on_host(plain.start().params)
    after = plain.step(plain.start(), plain.peer, context(), nothing, jax.random.key(0))
    assert_identical(on_host(after.params), before)
    assert [float(total) for total in after.totals[:4]] == [0, 0, 0, 1]


def test_what_is_not_scored_has_no_influence(plain: Stepping) -> None:
    rows = batch()
    other = rows._replace(
        targets=np.where(rows.is_target, rows.targets, 5).astype(np.int32),
        items=np.where(rows.segments >= 0, rows.items, 8).astype(np.int32),
    )
    first, second = (plain.step(plain.start(), plain.peer, context(), r, jax.random.key(0)) for r in (rows, other))
    assert_identical(on_host(first), on_host(second))


def test_the_text_network_without_augmentation_is_that_of_the_oracle() -> None:
    config = MiningConfig(k1=K1, k2=K2, p=P, beta=BETA, augment=False)
    system, optimizer = system_of("mean", mining=config), optax.sgd(1.0)
    step = steps.compiled(step_of(system, TEXT_WINDOW, optimizer))
    state, peer = fresh(system, TEXT_WINDOW, optimizer), frozen(system, TEXT_WINDOW)
    assert peer is not None
    table = table_of(system, "text", state.params["text"])
    rows = batch()
    losses = []
    for visible, target in scored(rows):
        items = list(visible)
        own, theirs = (t @ t[items].mean(axis=0) for t in (table, np.asarray(peer.candidates, np.float64)))
        losses.append(oracle.window_loss(own / 0.8, theirs / 0.5, target, K1, K2))
    before, peer_before = on_host(state.params), on_host(peer)
    after = step(state, peer, context(), rows, jax.random.key(0))
    np.testing.assert_allclose(after.totals.loss, np.sum(losses), rtol=1e-4)
    assert_identical(on_host(peer), peer_before)
    for name in ("kernel", "bias"):
        trained = after.params["text"]["items"]["output"][name]
        assert (np.asarray(trained) != before["text"]["items"]["output"][name]).any()


def test_a_transformer_trains_with_dropout_against_a_peer_without() -> None:
    system = system_of("transformer", dropout=0.3)
    optimizer = steps.make_optimizer(OptimizerConfig(learning_rate=0.01, weight_decay=0.1), steps_per_epoch=1)
    step = steps.compiled(step_of(system, ID_WINDOW, optimizer))
    peer = frozen(system, ID_WINDOW)
    peer_before, before = on_host(peer), on_host(fresh(system, ID_WINDOW, optimizer).params)
    first, again, other = (
        on_host(step(fresh(system, ID_WINDOW, optimizer), peer, context(), batch(), jax.random.key(seed)))
        for seed in (0, 0, 1)
    )
    assert_identical(on_host(peer), peer_before)
    assert_identical(again, first)
    assert first.totals.loss != other.totals.loss
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.tree.map(np.not_equal, first.params, before)):
        assert leaf.any(), jax.tree_util.keystr(path)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(first))


def test_random_negatives_of_the_whole_catalogue_are_a_full_softmax() -> None:
    system, optimizer = system_of("mean", mining=MiningConfig(k1=0, k2=ITEMS, augment=False)), optax.sgd(1.0)
    step = steps.compiled(step_of(system, ID_RANDOM, optimizer))
    state, rows = fresh(system, ID_RANDOM, optimizer), batch()
    table = item_table(state)
    losses = []
    for visible, target in scored(rows):
        scores = table @ (table[list(visible)].mean(axis=0) / 0.5)
        losses.append(oracle.cross_entropy(scores[target], np.delete(scores, target)))
    after = step(state, None, context(), rows, jax.random.key(0))
    np.testing.assert_allclose(after.totals.loss, np.sum(losses), rtol=1e-5)


def test_random_negatives_are_as_many_as_the_window_holds_without_the_target() -> None:
    system, optimizer = system_of("mean"), optax.sgd(0.0)
    step = steps.compiled(step_of(system, ID_RANDOM, optimizer))
    rows = batch()
    count, prefixes = K2 - K1, int(rows.is_target.sum())
    for seed in range(5):
        state = fresh(system, ID_RANDOM, optimizer)
        all_equal = state._replace(params=jax.tree.map(jnp.zeros_like, state.params))  # the loss counts negatives
        after = step(all_equal, None, context(), rows, jax.random.key(seed))
        assert float(after.totals.loss) == pytest.approx(prefixes * np.log(1 + count), rel=1e-6)


def test_half_a_window_is_what_was_drawn_and_the_same_positives() -> None:
    config = MiningConfig(k1=K1, k2=K2, p=P, beta=BETA, hard_fraction=0.5)
    system, optimizer, rows = system_of("mean", mining=config), optax.sgd(0.0), batch()
    step = steps.compiled(step_of(system, ID_WINDOW, optimizer))
    state, peer, key = fresh(system, ID_WINDOW, optimizer), frozen(system, ID_WINDOW), jax.random.key(0)
    assert peer is not None
    table, peer_table = item_table(state), np.asarray(peer.candidates, np.float64)
    prefixes = list(scored(rows))
    own, theirs = (
        np.stack([t @ t[list(visible)].mean(axis=0) / tau for visible, _ in prefixes])
        for t, tau in ((table, 0.5), (peer_table, 0.8))
    )
    # One draw serves the batch, so it does not matter which of its rows are asked for.
    draw = jax.random.split(key)[0]
    drawn = np.asarray(drawn_from_window(draw, jnp.asarray(theirs, jnp.float32), K1, K2, 0.5)).astype(int)
    losses = []
    for (_, target), scores, ranking, counts in zip(prefixes, own, theirs, drawn, strict=True):
        negatives = np.repeat(scores, np.where(np.arange(ITEMS) == target, 0, counts))
        positives = scores[[item for item in mining.top(ranking.tolist(), P) if item != target]]
        losses.append(oracle.sampled_softmax(scores[target], negatives, positives, BETA))
    after = step(state, peer, context(), rows, key)
    np.testing.assert_allclose(after.totals.loss, np.sum(losses), rtol=1e-5)


@pytest.mark.parametrize("stage", [*STAGES_OF_ID, TEXT_WINDOW], ids=title)
def test_a_long_catalogue_in_blocks_makes_the_same_step(stage: Stage) -> None:
    optimizer, found = optax.sgd(1.0), []
    # Blocks that leave a rest, of everything that knows blocks.
    in_blocks = MemoryLimits(
        scores=1, scores_of_piece=4 * ITEMS, scores_of_block=42 * 5, items_of_product=6, rows_of_table=7
    )
    for limits in (MemoryLimits(), in_blocks):
        system = system_of("mean", mining=MINING, limits=limits)
        step = steps.compiled(step_of(system, stage, optimizer))
        state, peer = fresh(system, stage, optimizer), frozen(system, stage)
        found.append(on_host(step(state, peer, context(), batch(), jax.random.key(0))))
    whole, parts = found
    np.testing.assert_allclose(parts.totals.loss, whole.totals.loss, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), parts.params, whole.params)


@pytest.mark.parametrize("stage", [ID_RANDOM, ID_WINDOW, TEXT_WINDOW, TEXT_FULL], ids=title)
def test_bfloat16_products_are_near_and_what_is_kept_is_float32(stage: Stage) -> None:
    optimizer, found = optax.adam(1e-3), []
    (name,) = stage.trains
    for precision in ("float32", "bfloat16"):
        # The window is the whole catalogue: its borders, of scores rounded otherwise, would be other items' scores.
        whole = MiningConfig(k1=0, k2=ITEMS, augment=False)
        system, known = system_of("transformer", precision=precision, mining=whole), context(precision)
        step, network = steps.compiled(step_of(system, stage, optimizer)), system.networks[name]
        state, peer = fresh(system, stage, optimizer, known), frozen(system, stage, known)
        tables = jax.eval_shape(network.item_tables, state.params[name], known)
        queries = jax.eval_shape(network.session_embeddings, state.params[name], tables, batch())
        assert queries.dtype == jnp.dtype(precision)
        found.append(step(state, peer, known, batch(), jax.random.key(0)))
    exact, rounded = found
    assert {leaf.dtype for leaf in jax.tree.leaves((rounded.params, rounded.totals))} == {jnp.dtype("float32")}
    np.testing.assert_allclose(rounded.totals.loss, exact.totals.loss, rtol=0.05)
    assert rounded.totals.loss != exact.totals.loss
    gradients = [np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(s.opt_state[0].mu)]) for s in found]
    cosine = gradients[0] @ gradients[1] / np.prod([np.linalg.norm(gradient) for gradient in gradients])
    assert cosine > 0.99


def test_learning_rate_falls_by_steps_of_the_optimizers_own() -> None:
    constant = steps.learning_rate_schedule(OptimizerConfig(learning_rate=0.5), 3)
    assert [float(constant(step)) for step in (0, 7, 1000)] == [0.5] * 3
    decaying = steps.learning_rate_schedule(OptimizerConfig(learning_rate=0.5, decay_every=2, decay_factor=0.1), 3)
    expected = [0.5] * 6 + [0.05] * 6 + [0.005]
    np.testing.assert_allclose([float(decaying(step)) for step in range(13)], expected, rtol=1e-5)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_optimizer_is_adam_at_that_rate(weight_decay: float) -> None:
    config = OptimizerConfig(learning_rate=0.5, decay_every=1, decay_factor=0.1, weight_decay=weight_decay)
    optimizer = steps.make_optimizer(config, steps_per_epoch=2)
    params = {"w": jnp.array([3.0])}
    state, moved = optimizer.init(params), []
    for _ in range(4):
        updates, state = optimizer.update({"w": jnp.array([7.0])}, state, params)
        moved.append(float(updates["w"][0]))
    rates = np.array([0.5, 0.5, 0.05, 0.05])  # a gradient that never changes moves Adam by its rate
    np.testing.assert_allclose(moved, -rates * (1 + weight_decay * 3.0), rtol=1e-4)


@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_l2_is_added_to_the_gradient_before_adam_as_by_hand(l2: float) -> None:
    optimizer = steps.make_optimizer(OptimizerConfig(learning_rate=0.1, l2=l2), steps_per_epoch=1)
    params = {"w": jnp.array([3.0, -2.0])}
    state = optimizer.init(params)
    by_hand, first, second = np.array([3.0, -2.0]), np.zeros(2), np.zeros(2)
    for step in range(1, 6):
        slope = np.array([0.5 * step, -1.0])
        updates, state = optimizer.update({"w": jnp.asarray(slope, jnp.float32)}, state, params)
        params = optax.apply_updates(params, updates)
        gradient = slope + l2 * by_hand  # PyTorch's weight_decay, Adam's defaults
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        mean, square = first / (1 - 0.9**step), second / (1 - 0.999**step)
        by_hand = by_hand - 0.1 * mean / (np.sqrt(square) + 1e-8)
        np.testing.assert_allclose(params["w"], by_hand, rtol=1e-5)


def train(params: Any, optimizer: optax.GradientTransformation, count: int = 3) -> Any:
    """The parameters after some steps on gradients of ones."""
    state = optimizer.init(params)
    for _ in range(count):
        updates, state = optimizer.update(jax.tree.map(jnp.ones_like, params), state, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize("config", [OptimizerConfig(weight_decay=0.1), OptimizerConfig(l2=0.1)])
def test_frozen_parts_do_not_change_and_the_others_do_as_without_them(config: OptimizerConfig) -> None:
    params = {"id": {"encoder": {"w": jnp.ones(2)}, "encoders": {"w": jnp.ones(3)}, "items": {"table": jnp.ones(5)}}}
    free = train(params, steps.make_optimizer(config, 1))
    found = train(params, steps.make_optimizer(config, 1, frozen=("id/encoder", "id/items/table")))
    for part, leaf in (("encoder", "w"), ("items", "table")):
        assert_identical(found["id"][part][leaf], params["id"][part][leaf])
    assert_identical(found["id"]["encoders"], free["id"]["encoders"])  # a name that only begins alike
    assert (free["id"]["encoders"]["w"] != 1).all()
