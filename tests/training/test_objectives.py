"""Objectives beyond the paper's two networks: peers that are views, joint training, named terms, frozen parts."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alterrec_jax.config import OptimizerConfig
from alterrec_jax.contract import (
    CatalogueInfo,
    Component,
    Context,
    Network,
    Objective,
    Params,
    SessionBatch,
    Stage,
    System,
)
from alterrec_jax.data.batches import TrainBatches
from alterrec_jax.losses.objectives import NEXT_ITEM, full_softmax
from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.scoring.frozen import freeze, frozen_queries
from alterrec_jax.training import steps
from alterrec_jax.training.loop import EpochDone, TrainLoop
from alterrec_jax.training.run_state import RunState
from tests.evaluation.examples import make_sessions
from tests.oracles import losses as oracle
from tests.oracles.packing import scored
from tests.training.examples import (
    BETA,
    ITEMS,
    K1,
    K2,
    LENGTH,
    MINING,
    TEMPERATURE,
    P,
    assert_identical,
    batch,
    config_of,
    context,
    fresh,
    on_host,
    params_of,
    stage_of,
    step_of,
    system_of,
    table_of,
)

THREE = ("id", "text", "image")
REST = {"text": 1 / 3, "image": 2 / 3}
"""The rest as they weigh in the fusion, 1 to 2."""


def mean_scores(table: np.ndarray, name: str, visible: tuple[int, ...]) -> np.ndarray:
    """float64 [item]: of a prefix under a mean encoder."""
    return table @ table[list(visible)].mean(axis=0) / TEMPERATURE[name]


def frozen_params(system: System) -> dict[str, Params]:
    """Of the networks that do not train."""
    return {name: params_of(system.networks[name], context(), 2) for name in REST}


@pytest.mark.parametrize("encoder", ["mean", "transformer"])
@pytest.mark.parametrize("view", [{"text": 1.0}, {"image": 0.25}, REST, {"image": 2.0, "text": 0.5}])
def test_the_scores_of_a_frozen_view_are_the_weighted_sum_of_its_components(
    view: dict[str, float], encoder: str
) -> None:
    system, params = system_of(encoder, names=THREE), frozen_params(system_of(encoder, names=THREE))
    frozen = freeze(system.components, view, params, context())
    found = frozen_queries(system.components, view, frozen, batch()) @ frozen.candidates.T
    expected = np.zeros((LENGTH * len(batch().items), ITEMS))
    for name, weight in view.items():
        network = system.networks[name]
        tables = network.item_tables(params[name], context())
        queries = np.asarray(network.session_embeddings(params[name], tables, batch()), np.float64)
        expected += weight * queries @ np.asarray(tables.candidates, np.float64).T
    assert frozen.candidates.shape == (ITEMS, sum(system.networks[name].dim for name in view))
    there = batch().is_target
    np.testing.assert_allclose(np.asarray(found)[there], expected[there], rtol=1e-4, atol=1e-4)


def test_a_window_of_the_rest_is_that_of_the_oracle() -> None:
    config = config_of("mean", names=THREE)
    networks = {**config.networks, "id": type(config.networks["id"])(**{**vars(config.networks["id"]), "peer": "rest"})}
    config = AlterRecConfig(
        max_length=LENGTH, networks=networks, mining=MINING, warmup_epochs=0, turn_epochs=1, epochs=3
    ).check()
    system, optimizer, params = config.build(CatalogueInfo(ITEMS)), optax.sgd(1.0), {}
    stage = system.stages[0]
    assert dict(stage.peer) == pytest.approx(REST)
    params = frozen_params(system)
    peer = freeze(system.components, dict(stage.peer), params, context())
    state, before = fresh(system, stage, optimizer), on_host(peer)
    own = table_of(system, "id", state.params["id"])
    tables = {name: table_of(system, name, params[name]) for name in REST}
    losses = []
    for visible, target in scored(batch()):
        mined = sum(weight * mean_scores(tables[name], name, visible) for name, weight in REST.items())
        losses.append(oracle.window_loss(mean_scores(own, "id", visible), mined, target, K1, K2, P, BETA))
    after = steps.compiled(step_of(system, stage, optimizer))(state, peer, context(), batch(), jax.random.key(0))
    np.testing.assert_allclose(after.totals.loss, np.sum(losses), rtol=1e-5)
    assert (table_of(system, "id", after.params["id"]) != own).any()
    assert_identical(on_host(peer), before)


def test_beta_of_a_prefix_is_shared_by_its_positives() -> None:
    optimizer, stage, losses = optax.sgd(0.0), stage_of("id", "window", "text"), []
    for beta, beta_per in ((BETA, "prefix"), (BETA / P, "positive"), (BETA, "positive")):
        mining = MiningConfig(k1=K1, k2=K2, p=P, beta=beta, beta_per=beta_per)
        assert mining.settings(ITEMS).beta == pytest.approx(
            BETA if (beta, beta_per) == (BETA, "positive") else BETA / P
        )
        system = system_of("mean", mining=mining)
        peer = freeze(system.components, {"text": 1.0}, frozen_params(system_of("mean", names=THREE)), context())
        step = steps.compiled(step_of(system, stage, optimizer))
        losses.append(
            float(step(fresh(system, stage, optimizer), peer, context(), batch(), jax.random.key(0)).totals.loss)
        )
    assert losses[0] == pytest.approx(losses[1], rel=1e-6) and losses[0] < 0.99 * losses[2]
    assert MiningConfig(p=0, beta_per="prefix").settings(30_000).beta == 0.5, "nothing to share"


def joint_objective(networks: Mapping[str, Network]) -> Objective:
    """Every network learns by its own softmax, at once; the terms are told apart."""
    alone = {name: full_softmax(name, network).loss for name, network in networks.items()}

    def loss(
        params: Mapping[str, Params], context: Context, batch: SessionBatch, key: jax.Array, mined: Any
    ) -> dict[str, jax.Array]:
        keys = dict(zip(alone, jax.random.split(key, len(alone)), strict=True))
        return {name: of_one(params, context, batch, keys[name], mined)[NEXT_ITEM] for name, of_one in alone.items()}

    return Objective(loss)


def joint_system(
    frozen: tuple[str, ...] = (), epochs: int = 1, names: tuple[str, ...] = ("id", "text"), encoder: str = "mean"
) -> System:
    """Two networks that train in one stage, by one optimizer."""
    whole = system_of(encoder, names=names)
    return whole._replace(
        objectives={"joint": lambda stage: joint_objective(whole.networks)},
        optimizers={"all": OptimizerConfig(learning_rate=0.05)},
        optimized={"all": names},
        stages=(Stage(names, "joint", epochs, "all", frozen=frozen),),
        terms=names,
    )


def test_networks_that_train_at_once_do_as_each_alone_and_terms_are_summed_by_name() -> None:
    system, optimizer, known = joint_system(), optax.sgd(0.5), context()
    (stage,) = system.stages
    joint, state = steps.compiled(step_of(system, stage, optimizer)), fresh(system, stage, optimizer)
    assert set(state.totals.terms) == {"id", "text"}
    alone = {}
    for seed in range(2):
        state = joint(state, None, known, batch(seed), jax.random.key(seed))
    for name in system.networks:
        one = stage_of(name, "full")
        step = steps.compiled(step_of(system_of("mean"), one, optimizer))
        alone[name] = fresh(system_of("mean"), one, optimizer)
        for seed in range(2):
            alone[name] = step(alone[name], None, known, batch(seed), jax.random.key(seed))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
            on_host(state.params[name]),
            on_host(alone[name].params[name]),
        )
        assert float(state.totals.terms[name]) == pytest.approx(float(alone[name].totals.loss), rel=1e-5)
    assert float(state.totals.loss) == pytest.approx(sum(map(float, state.totals.terms.values())), rel=1e-6)
    norm = np.hypot(*(float(one.totals.gradient_norm) / 2 for one in alone.values()))
    assert float(state.totals.gradient_norm) / 2 == pytest.approx(norm, rel=0.05)


def test_a_term_that_an_objective_lacks_stays_zero() -> None:
    system, optimizer, stage = system_of("mean"), optax.sgd(0.5), stage_of("id", "full")
    state = fresh(system, stage, optimizer)._replace(totals=steps.Totals.zeros(("id", NEXT_ITEM)))
    after = step_of(system, stage, optimizer)(state, None, context(), batch(), jax.random.key(0))
    assert float(after.totals.terms["id"]) == 0
    assert float(after.totals.terms[NEXT_ITEM]) == pytest.approx(float(after.totals.loss))


def batches_of() -> TrainBatches:
    """Of two steps an epoch."""
    rng = np.random.default_rng(5)
    return TrainBatches(make_sessions([rng.integers(0, ITEMS, n).tolist() for n in (3, 9, 4, 7)]), 14, LENGTH)


def run(system: System, seed: int = 0) -> tuple[Any, Any, list[str]]:
    """The parameters before and after a run of the loop, and its epochs."""
    batches = batches_of()
    loop = TrainLoop(system, context(), batches, interactions=23, seed=seed)
    arrays, state, epochs = loop.fresh(), RunState(), []
    before = on_host(arrays.params)
    for event in loop.run(arrays, state):
        if isinstance(event, EpochDone):
            epochs.append(str(event.epoch))
            assert float(arrays.totals.steps) == batches.steps_per_epoch == state.step
            assert float(arrays.totals.prefixes) == batches.prefixes
            state.epoch, state.step = state.epoch + 1, 0
    assert jax.tree.map(lambda leaf: leaf.shape, loop.shapes().as_tree()) == jax.tree.map(
        lambda leaf: leaf.shape, arrays.as_tree()
    )
    return before, on_host(arrays.params), epochs


def changed(before: Any, after: Any) -> set[str]:
    """The paths of the parameters that differ."""
    pairs = zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True)
    return {"/".join(key.key for key in path) for (path, old), new in pairs if (old != new).any()}


def test_frozen_parts_of_a_network_that_trains_do_not_change() -> None:
    before, after, epochs = run(joint_system(epochs=2, encoder="transformer"))
    everything = changed(before, after)
    assert epochs == ["id+text:joint"] * 2 and len(everything) == len(jax.tree.leaves(before))
    frozen = ("id/items", "text/encoder", "text/items/output/bias")
    before, after, _ = run(joint_system(frozen, epochs=2, encoder="transformer"))
    assert changed(before, after) == {name for name in everything if not f"{name}/".startswith(frozen)}
    assert any(name.startswith("id/encoder") for name in changed(before, after))


def test_three_networks_alternate_and_only_whose_turn_it_is_changes() -> None:
    config = config_of("mean", names=THREE)
    for epochs, names in enumerate(THREE, 1):
        system = AlterRecConfig(
            max_length=LENGTH,
            networks=config.networks,
            mining=MINING,
            warmup_epochs=0,
            turn_epochs=1,
            epochs=epochs,
        ).build(CatalogueInfo(ITEMS))
        before, after, tape = run(system)
        assert tape == ["id:window(text)", "text:window(image)", "image:window(id)"][:epochs]
        assert {name.split("/")[0] for name in changed(before, after)} == set(THREE[:epochs]), names


def test_stages_of_one_optimizer_must_agree_on_what_it_changes() -> None:
    system = joint_system()
    (stage,) = system.stages
    other = stage._replace(frozen=("id/encoder",))
    with pytest.raises(ValueError, match="'all' freeze different parts"):
        TrainLoop(system._replace(stages=(stage, other)), context(), batches_of(), 23, 0)
    with pytest.raises(ValueError, match="'all' changes .*'id', 'text'.*, not .*'id',"):
        TrainLoop(system._replace(stages=(stage._replace(trains=("id",)),)), context(), batches_of(), 23, 0)


def test_a_component_may_be_frozen_whose_network_trains_under_another_name() -> None:
    system = system_of("mean")
    components = {"twin": Component(system.networks["text"], "text")}
    params = frozen_params(system_of("mean", names=THREE))
    frozen = freeze(components, {"twin": 1.0}, params, context())
    assert_identical(frozen.params["twin"], params["text"])
    assert_identical(frozen.candidates, jnp.asarray(table_of(system, "text", params["text"]), jnp.float32))
