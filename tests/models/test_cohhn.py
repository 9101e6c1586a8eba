"""CoHHN against the released forward pass and against its equations in NumPy, and what it does without prices."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest

from alterrec_jax.contract import CatalogueInfo, Context, Network, Params
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.features import catalogue_info, make_context
from alterrec_jax.data.graphs import session_hypergraph
from alterrec_jax.data.packing import Chunks, Plan, fill_rows
from alterrec_jax.data.price_levels import RELATIVE_PRICE, price_levels
from alterrec_jax.errors import UserError
from alterrec_jax.models.cohhn import (
    CATEGORY,
    GRAPH,
    WITHOUT_CATEGORIES,
    CoHHNConfig,
    CoHHNNetworkConfig,
    build_network,
)
from alterrec_jax.nn.gnn import hypergraph_mean
from alterrec_jax.nn.hypergraph import mean_of_members, mean_of_pairs
from alterrec_jax.training.coverage import coverage_notes
from tests.conftest import CATALOGUE
from tests.evaluation.examples import make_sessions
from tests.models.families import TINY
from tests.models.test_contract import random_params
from tests.oracles import cohhn as oracle
from tests.parity import attention, batch_of, dense, fixture, kernel, loss_and_gradient

HELD = fixture("cohhn")
(ITEMS, DIM), LEVELS, CATEGORIES = HELD["embedding.weight"].shape, 3, len(HELD["category_embedding.weight"])
LENGTH, HEADS, LAYERS = HELD["items"].shape[1], 3, 2
SESSIONS = [part.tolist() for part in np.split(HELD["graph_items"] - 1, np.cumsum(HELD["graph_lengths"])[:-1])]
LEVEL, CLASS = HELD["level"].tolist(), HELD["category"].tolist()


def network_of() -> Network:
    config = CoHHNNetworkConfig(dim=DIM, levels=LEVELS, layers=LAYERS, heads=HEADS)
    return build_network(config, CatalogueInfo(ITEMS, {CATEGORY: CATEGORIES}), LENGTH, "float32")


@pytest.fixture(scope="module")
def context() -> Context:
    """The prices, categories and sessions of the fixture. Its first level is where ours has what nobody knows."""
    relative = np.where(HELD["level"] > 0, 1 + (HELD["level"] - 0.5) / LEVELS, 0).astype(np.float32)[:, None]
    assert price_levels(jnp.asarray(relative), LEVELS).tolist() == LEVEL
    graph = jax.tree.map(jnp.asarray, session_hypergraph(make_sessions(SESSIONS), ITEMS))
    features = {RELATIVE_PRICE: jnp.asarray(relative), CATEGORY: jnp.asarray(CLASS)}
    return Context(features, {GRAPH: graph})


def gate_of(letter: str) -> dict[str, Any]:
    """A gate's parameters; its three biases add up."""
    names = f"HyperGraph.a_o_g_{letter}", f"HyperGraph.b_o_g{letter}1", f"HyperGraph.b_o_g{letter}2"
    kernels = [kernel(HELD, name) for name in names]
    bias = jnp.asarray(sum(HELD[f"{name}.bias"] for name in names))
    return {"joined": kernels[0], "part_1": kernels[1], "part_2": kernels[2], "bias": bias}


def both_of(name: str, first: str, second: str) -> dict[str, Any]:
    """Two maps that are added up, with one bias."""
    bias = jnp.asarray(HELD[f"{first}.bias"] + HELD[f"{second}.bias"])
    return {
        f"{name}_first": {"kernel": kernel(HELD, first), "bias": bias},
        f"{name}_second": {"kernel": kernel(HELD, second)},
    }


def parameters() -> Params:
    """The fixture's parameters as ours."""
    ages, items = jnp.split(kernel(HELD, "w_1"), 2)
    strengths = {"price_items": "pv", "price_categories": "pc", "category_prices": "cp", "category_items": "cv"}
    layers = {
        "prices": jnp.asarray(HELD["price_embedding.weight"]),
        "categories": jnp.asarray(HELD["category_embedding.weight"]),
        **{name: jnp.asarray(HELD[f"HyperGraph.mat_{pair}"][:, 0]) for name, pair in strengths.items()},
        **{name: gate_of(name[5]) for name in ("gate_items", "gate_prices", "gate_categories")},
    }
    interest = {
        "ages": jnp.asarray(HELD["pos_embedding.weight"]),
        "items": {"kernel": items, "bias": jnp.asarray(HELD["w_1.bias"])},
        "of_ages": {"kernel": ages},
        "gate": dense(HELD, "glu1"),
        "gate_of_mean": dense(HELD, "glu2"),
        "weight": dense(HELD, "w_2"),
    }
    encoder = {
        "price": attention(HELD, {name: name for name in ("query", "key", "value")}, HEADS),
        "interest": interest,
        "product": dense(HELD, "w_pi_1"),
        "sum": dense(HELD, "w_pi_2"),
        **both_of("keep_interest", "w_c_z", "u_j_z"),
        **both_of("keep_price", "w_c_r", "u_j_r"),
        **both_of("of_price", "w_p", "u_p"),
        **both_of("of_interest", "w_i", "u_i"),
    }
    return {"items": {"table": jnp.asarray(HELD["embedding.weight"])}, "layers": layers, "encoder": encoder}


def test_queries_scores_and_gradients_are_those_of_the_released_code(context: Context) -> None:
    batch, ends = batch_of(HELD)
    found = loss_and_gradient(network_of(), parameters(), context, batch, ends)
    (value, (queries, scores)), gradient = found
    np.testing.assert_allclose(queries, HELD["queries"], rtol=2e-5, atol=5e-6)
    np.testing.assert_allclose(scores, HELD["scores"], rtol=2e-5, atol=2e-5)  # of up to 24
    np.testing.assert_allclose(value, HELD["loss"], rtol=2e-6)
    np.testing.assert_allclose(gradient["items"]["table"], HELD["table_gradient"], rtol=2e-5, atol=5e-6)
    layers = gradient["layers"]
    np.testing.assert_allclose(layers["prices"], HELD["price_gradient"], rtol=2e-5, atol=5e-6)
    np.testing.assert_allclose(layers["categories"], HELD["category_gradient"], rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(
        layers["price_items"], HELD["strength_gradient"][:, 0], rtol=2e-5, atol=1e-5
    )  # terms cancel


def test_packed_sessions_are_those_of_the_equations(context: Context) -> None:
    rng, params, network = np.random.default_rng(4), parameters(), network_of()
    lengths = np.array([1, 6, 3, 4, 7])
    sessions = [rng.integers(0, 5, length).tolist() for length in lengths]
    sessions[3] = [9, 9, 2, 9]
    rows, places, zeros = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 3, 0]), np.zeros(5, np.int64)
    items = np.array([item for session in sessions for item in session], np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    batch = fill_rows(items, offsets, Chunks(np.arange(5), zeros, lengths, zeros), Plan(rows, places, 4), LENGTH)
    tables = jax.jit(network.item_tables)(params, context)
    found = jax.jit(network.session_embeddings)(params, tables, batch._replace(interaction=None))
    matrix = oracle.spreading(SESSIONS, ITEMS)
    liked, prices = oracle.item_side(params["layers"], params["items"]["table"], LEVEL, CLASS, matrix, LAYERS)
    paid = prices[LEVEL]
    np.testing.assert_allclose(tables.candidates, np.concatenate([liked, paid], axis=1), rtol=1e-4, atol=1e-5)
    for session, row, place in zip(sessions, rows, places, strict=True):
        for end in range(len(session)):
            prefix = session[: end + 1]
            expected = oracle.session_vector(params["encoder"], liked[prefix], paid[prefix], HEADS)
            np.testing.assert_allclose(found[row * LENGTH + place + end], expected, rtol=1e-4, atol=2e-5)


def test_the_price_half_of_items_of_one_level_is_the_same_and_of_others_is_not(context: Context) -> None:
    halves = np.asarray(jax.jit(network_of().item_tables)(parameters(), context).candidates)[:, DIM:]
    for one in range(ITEMS):
        for other in range(ITEMS):
            assert np.array_equal(halves[one], halves[other]) == (LEVEL[one] == LEVEL[other])


def test_rows_of_the_graph_sum_to_one_and_are_those_of_the_released_code(context: Context) -> None:
    found = np.asarray(hypergraph_mean(context.graphs[GRAPH], jnp.eye(ITEMS)))
    np.testing.assert_allclose(found, HELD["adjacency"], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found, oracle.spreading(SESSIONS, ITEMS), rtol=1e-6, atol=1e-7)
    inputs = {item for session in SESSIONS for item in session[:-1]}
    np.testing.assert_allclose(found.sum(axis=1), [item in inputs for item in range(ITEMS)], rtol=1e-6)
    assert len(inputs) == ITEMS - 1, "an item that only ever ends sessions is in none"


def test_the_gradient_of_what_sessions_spread_is_that_of_the_matrix(context: Context) -> None:
    rng, matrix = np.random.default_rng(0), oracle.spreading(SESSIONS, ITEMS)
    nodes, wanted = (jnp.asarray(rng.normal(size=(ITEMS, 3)), jnp.float32) for _ in range(2))
    _, back = jax.vjp(lambda nodes: hypergraph_mean(context.graphs[GRAPH], nodes), nodes)
    np.testing.assert_allclose(back(wanted)[0], matrix.T @ np.asarray(wanted), rtol=1e-5, atol=1e-6)


def test_a_softmax_over_members_alone_does_not_underflow() -> None:
    """Over all nodes a row whose members have small logits would have weights of zero, as in the released code."""
    values = jnp.asarray([[1.0, 2.0], [500.0, 500.0], [2.0, 1.0], [-300.0, 1.0]])
    strength, row = jnp.asarray([1.0, 1.0, -2.0, 1.0]), jnp.asarray([0, 1, 0, 2])
    wanted = [[1.5, 1.5], [500, 500], [-300, 1], [0, 0]]
    pairs = (row[None] == jnp.arange(4)[:, None]) & (jnp.arange(4)[:, None] < 3)

    def of_both(values: jax.Array, strength: jax.Array) -> tuple[jax.Array, jax.Array]:
        return mean_of_members(values, strength, row), mean_of_pairs(values, strength, pairs)

    for found in jax.jit(of_both)(values, strength):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    for of_values, of_strength in jax.jit(jax.jacrev(of_both, (0, 1)))(values, strength):
        assert np.isfinite(of_values).all()
        np.testing.assert_array_equal(of_strength, 0, "of one member, or of equal ones, a does not matter")


def test_without_categories_all_items_are_of_one_and_it_is_said(dataset: Dataset) -> None:
    config: Any = TINY["cohhn"]
    bare = dataclasses.replace(dataset, items=dataset.items.drop("category"))
    system = config.build(catalogue_info(bare))
    assert system.notes == (WITHOUT_CATEGORIES,) and config.build(catalogue_info(dataset)).notes == ()
    (network,) = system.networks.values()
    context = make_context(bare, system.reads, "float32")
    assert context.features.keys() == {RELATIVE_PRICE} and not network.per_class
    params = random_params(network, context, 1)
    assert params["layers"]["categories"].shape == (1, config.network.dim)
    same = dataclasses.replace(dataset, items=dataset.items.with_columns(category=pl.lit(None, pl.String)))
    one_class = config.build(catalogue_info(same)).networks["cohhn"]
    tables = [
        jax.jit(one.item_tables)(params, make_context(data, one.reads, "float32")).candidates
        for one, data in ((network, bare), (one_class, same))
    ]
    assert tables[0].shape == (CATALOGUE, 2 * config.network.dim)
    np.testing.assert_array_equal(*tables)


def test_few_prices_are_refused_unless_they_are_allowed(dataset: Dataset) -> None:
    few = pl.when(pl.col("category") == "kind 0").then("price")
    sparse = dataclasses.replace(dataset, items=dataset.items.with_columns(price=few))
    info, config = catalogue_info(sparse), CoHHNConfig()
    with pytest.raises(UserError, match="cohhn needs prices, but the column price has one for .*--price_column"):
        config.build(info)
    allowed = dataclasses.replace(config, network=CoHHNNetworkConfig(sparse_prices=True))
    notes = coverage_notes(allowed.build(info), sparse)
    assert any(f"have no {RELATIVE_PRICE} (no price, or a category with fewer" in note for note in notes)
