"""DIMO against the released forward pass and losses, against its equations in NumPy, and its losses by hand."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.contract import CatalogueInfo, Context, Network, Params
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.dataset_files import TEXT
from alterrec_jax.data.features import catalogue_info, make_context
from alterrec_jax.data.graphs import GRAPHS
from alterrec_jax.errors import UserError
from alterrec_jax.losses.cooccurrence import COOCCURRENCE
from alterrec_jax.losses.dimo import (
    COUNTERFACTUAL,
    MAPS,
    MAPS_OF,
    OFTEN,
    PROXY,
    DIMOLoss,
    counterfactual_losses,
    dimo_objective,
    proxy_losses,
)
from alterrec_jax.losses.id_and_modality import COMPANIONS, Prefixes
from alterrec_jax.losses.objectives import NEXT_ITEM
from alterrec_jax.models.dimo import Built, DIMOConfig, DIMONetworkConfig, build_network
from alterrec_jax.models.two_tables import FUSED, GRAPH, ID, MODALITY, PARTS, RESIDUAL, SUM
from tests.data.test_graphs import matrix_of
from tests.evaluation.examples import make_sessions
from tests.models.test_contract import batch_of as packed
from tests.oracles import dimo as oracle
from tests.parity import attention, batch_of, dense, fixture, loss_and_gradient

HELD = fixture("dimo")
ITEMS, DIM = HELD["table_gradient"].shape
HEADS, LAYERS = int(HELD["heads"]), int(HELD["layers"])


def built(gcn: str = SUM, **changes: Any) -> Built:
    config = DIMONetworkConfig(dim=DIM, heads=HEADS, layers=LAYERS, gcn=gcn, **changes)
    return build_network(config, ITEMS, HELD["items"].shape[1], "float32")


@pytest.fixture(scope="module")
def context() -> Context:
    """The graph of the fixture's sessions."""
    lists = np.split(HELD["graph_items"] - 1, np.cumsum(HELD["graph_lengths"])[:-1])
    graph = GRAPHS[GRAPH](make_sessions([some.tolist() for some in lists]), ITEMS)
    return Context({TEXT: jnp.zeros((ITEMS, 2))}, {GRAPH: jax.tree.map(jnp.asarray, graph)})


def parameters() -> Params:
    """The fixture's parameters as ours."""

    def half(suffix: str) -> dict[str, Any]:
        return attention(HELD, {name: name + suffix for name in ("query", "key", "value")}, HEADS)

    def beside_each_other(numbers: tuple[int, ...]) -> dict[str, Any]:
        maps = [dense(HELD, f"mlp_seq{number}") for number in numbers]
        return {name: jnp.concatenate([one[name] for one in maps], axis=-1) for name in ("kernel", "bias")}

    names = {ID: "embedding.weight", MODALITY: "text_embedding.weight"}
    return {
        "items": {part: {"table": jnp.asarray(HELD[name])} for part, name in names.items()},
        "sessions": {ID: half("_id"), MODALITY: half("")},
        MAPS: {name: beside_each_other(numbers) for name, numbers in MAPS_OF.items()},
    }


def tables_of(gradient: Params) -> list[jax.Array]:
    return [gradient["items"][part]["table"] for part in PARTS]


def test_queries_scores_and_gradients_are_those_of_the_released_code(context: Context) -> None:
    network, (batch, ends) = built().network, batch_of(HELD)
    (value, (queries, scores)), gradient = loss_and_gradient(network, parameters(), context, batch, ends)
    np.testing.assert_allclose(queries, HELD["queries"], rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(scores, HELD["scores"], rtol=2e-5, atol=5e-6)
    np.testing.assert_allclose(value, HELD["loss"], rtol=2e-6)
    for found, name in zip(tables_of(gradient), ("table_gradient", "text_gradient"), strict=True):
        np.testing.assert_allclose(found, HELD[name], rtol=2e-5, atol=2e-6)


def test_losses_and_their_gradients_are_those_of_the_released_code(context: Context) -> None:
    """Theirs are sums of decimal logarithms; arguments in the order of the functions that they are handed to."""
    (network, encode), (batch, ends) = built(), batch_of(HELD)
    met = jnp.asarray(HELD["flags"] == 1)

    def losses(params: Params) -> dict[str, jax.Array]:
        tables = network.item_tables(params, context)
        prefixes = Prefixes(*(rows[ends] for rows in encode(params, tables, batch, None)))
        target_id, target_mo = jnp.split(tables.candidates[batch.targets[ends]], 2, axis=1)
        swapped = Prefixes(prefixes.q_id, prefixes.p_id, prefixes.q_mo, prefixes.p_mo)
        found: dict[str, Any] = {
            "proxy": proxy_losses(params[MAPS], prefixes, "float32"),
            "proxy_as_called": proxy_losses(params[MAPS], swapped, "float32"),
            "counterfactual": counterfactual_losses(prefixes, target_id, target_mo, met),
        }
        proxies = jnp.concatenate([prefixes.p_id, prefixes.p_mo], axis=1)
        return {**{name: jnp.sum(some) / jnp.log(10) for name, some in found.items()}, "proxies": proxies}

    params, totals = parameters(), ("proxy", "counterfactual")
    found = jax.jit(losses)(params)
    gradients = jax.jit(jax.jacrev(lambda params: {name: losses(params)[name] for name in totals}))(params)
    np.testing.assert_allclose(found["proxies"], HELD["proxies"], rtol=2e-5, atol=2e-6)
    for name, expected in (("proxy", "proxy_loss"), ("proxy_as_called", "proxy_loss_as_called")):
        np.testing.assert_allclose(found[name], HELD[expected], rtol=2e-6)
    np.testing.assert_allclose(found["counterfactual"], HELD["counterfactual_loss"], rtol=2e-6)
    for name in totals:
        for some, part in zip(tables_of(gradients[name]), ("", "_text"), strict=True):
            np.testing.assert_allclose(some, HELD[f"{name}{part}_gradient"], rtol=2e-5, atol=5e-7)


SESSIONS = [[3], [5, 8, 5, 0], [7, 7, 21], [1, 2, 3, 4, 6], [9, 22]]


def test_packed_sessions_are_those_of_the_equations(context: Context) -> None:
    params, (network, encode) = parameters(), built(RESIDUAL)
    batch, ends = packed(SESSIONS)
    tables = jax.jit(network.item_tables)(params, context)
    counts = matrix_of(context.graphs[GRAPH])
    rows = [oracle.propagated(params["items"][part]["table"], counts, LAYERS, mean=True) for part in PARTS]
    np.testing.assert_allclose(tables.candidates, np.concatenate(rows, axis=1), rtol=1e-5, atol=1e-6)
    alone = counts.sum(axis=1) == 0
    assert alone.nonzero()[0].tolist() == [20, 21, 22]
    raw = np.concatenate([params["items"][part]["table"] for part in PARTS], axis=1)
    np.testing.assert_array_equal(tables.candidates[alone], raw[alone])

    found = jax.jit(encode)(params, tables, batch, None)
    of_proxies = jax.jit(proxy_losses, static_argnums=2)(params[MAPS], found, "float32")
    by_number = {f"map_{number}": dense(HELD, f"mlp_seq{number}") for number in (1, 2, 3, 4, 5, 7, 8)}
    for session, last in zip(SESSIONS, ends, strict=True):
        for length in range(1, len(session) + 1):
            at = last - len(session) + length
            prefix = [half[session[:length]] for half in rows]
            q_id, q_mo = (
                oracle.session_vector(params["sessions"][part], x) for part, x in zip(PARTS, prefix, strict=True)
            )
            p_id, p_mo = (half.mean(axis=0) for half in prefix)
            for some, expected in zip(found, (q_id, q_mo, p_id, p_mo), strict=True):
                np.testing.assert_allclose(some[at], expected, rtol=1e-4, atol=1e-5)
            expected_loss = oracle.proxy_loss(by_number, q_id, q_mo, p_id, p_mo)
            np.testing.assert_allclose(of_proxies[at], expected_loss, rtol=1e-4)


def test_views_of_either_half_add_up_to_the_whole(context: Context) -> None:
    config = DIMOConfig(network=DIMONetworkConfig(dim=DIM, heads=HEADS, layers=LAYERS))
    system = config.build(CatalogueInfo(ITEMS))
    batch, ends = packed(SESSIONS)
    scores = {}
    for name, component in system.components.items():

        @jax.jit
        def of_sessions(params: Params, network: Network = component.network) -> jax.Array:
            tables = network.item_tables(params, context)
            return network.session_embeddings(params, tables, batch)[jnp.asarray(ends)] @ tables.candidates.T

        scores[name] = np.asarray(of_sessions(parameters()))
    assert list(scores) == [FUSED, *PARTS]
    np.testing.assert_allclose(scores[ID] + scores[MODALITY], scores[FUSED], rtol=1e-4, atol=1e-4)


def test_the_proxy_loss_of_a_prefix_by_hand() -> None:
    """By maps that change nothing."""
    same = {"kernel": np.eye(2, dtype=np.float32), "bias": np.zeros(2, np.float32)}
    maps = {
        name: {key: np.concatenate([value] * len(numbers), axis=-1) for key, value in same.items()}
        for name, numbers in MAPS_OF.items()
    }
    prefixes = Prefixes(*(jnp.asarray([rows], jnp.float32) for rows in ([1, 0], [0, 2], [3, 3], [0, -1])))
    found = proxy_losses(maps, prefixes, "float32")
    # The ID and its proxy have the cosine 1/sqrt(2), the modality and its -1, both prefixes 0.
    expected = np.log(1 + np.exp(-(0.5**0.5))) + np.log(1 + np.exp(1))
    np.testing.assert_allclose(found, [expected], rtol=1e-6)


def test_the_counterfactual_loss_of_a_prefix_by_hand() -> None:
    vectors = [[1, 0], [0, 2], [0, 0], [0, 0]]
    prefixes = Prefixes(*(jnp.asarray([rows] * 2, jnp.float32) for rows in vectors))
    target_id, target_mo = (jnp.asarray([rows] * 2, jnp.float32) for rows in ([4, 3], [1, 0]))
    found = counterfactual_losses(prefixes, target_id, target_mo, jnp.array([True, False]))
    expected = np.log(1 + np.exp(-0.8))  # the cosines are 4/5 and 0
    np.testing.assert_allclose(found, [expected, -expected], rtol=1e-6)


def test_terms_are_weighed_means_and_flags_are_found_by_interaction() -> None:
    """Three items: 0 and 1 were in two sessions, 2 in none with another. Item 0 is followed by 1, twice."""
    train = make_sessions([[0, 1], [1, 0], [2]])
    graphs = {name: jax.tree.map(jnp.asarray, GRAPHS[name](train, 3)) for name in (GRAPH, COMPANIONS, OFTEN)}
    assert graphs[OFTEN].tolist() == [True, False, True, False, False]
    known = Context({TEXT: jnp.eye(3)}, graphs)
    config = DIMONetworkConfig(dim=2, heads=1, layers=0, table_dropout=0.0, attention_dropout=0.0)
    network, encode = build_network(config, 3, 4, "float32")
    params = jax.jit(network.init)(jax.random.key(0), known)
    batch, _ = packed([[0], [0]])
    first = jnp.arange(batch.items.size) < 2
    # Of the same prefix, one that ends at an interaction which is flagged, and one at another.
    numbers = jnp.where(first, 4 * jnp.arange(batch.items.size), -1)
    batch = batch._replace(targets=first.astype(jnp.int32), is_target=first, interaction=numbers)

    def terms(swapped: bool) -> dict[str, jax.Array]:
        given = DIMOLoss({COOCCURRENCE: 0.5, PROXY: 0.25, COUNTERFACTUAL: 2.0}, 3, swapped, "float32")
        loss = jax.jit(dimo_objective(FUSED, network, encode, given).loss)
        return loss({FUSED: params}, known, batch, jax.random.key(1), None)

    found = terms(swapped=False)
    assert set(found) == {NEXT_ITEM, PROXY, COUNTERFACTUAL, COOCCURRENCE}
    np.testing.assert_allclose(found[COUNTERFACTUAL], 0, atol=1e-6)
    table = np.asarray(params["items"][ID]["table"])
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    near, far = unit[0] @ unit[1], unit[:2] @ unit[2]
    of_items = np.log(np.exp(near) + 10 * np.exp(far)) - near
    np.testing.assert_allclose(found[COOCCURRENCE], 2 * 0.5 * of_items.mean(), rtol=1e-5)
    assert abs(found[PROXY] - terms(swapped=True)[PROXY]) > 1e-3


def test_it_is_refused_without_text(dataset: Dataset) -> None:
    bare = dataclasses.replace(dataset, vectors={})
    system = DIMOConfig().build(catalogue_info(bare))
    with pytest.raises(UserError, match="needs text of the items"):
        make_context(bare, system.reads, "float32")


def test_heads_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match=r"network\.heads.*a divisor of network\.dim"):
        DIMOConfig(network=DIMONetworkConfig(dim=10, heads=4)).check()


def test_terms_without_weight_are_not_computed_and_their_graphs_not_read() -> None:
    network = DIMONetworkConfig(cooccurrence_weight=0, proxy_weight=0, counterfactual_weight=0)
    system = DIMOConfig(network=network).build(CatalogueInfo(9))
    assert system.terms == () and system.reads.graphs == (GRAPH,)
    system = DIMOConfig().build(CatalogueInfo(9))
    assert set(system.reads.graphs) == {GRAPH, COMPANIONS, OFTEN}
    assert system.components[FUSED].network.reads.graphs == (GRAPH,)
