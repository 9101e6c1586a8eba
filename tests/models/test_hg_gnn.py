"""HG-GNN against the released forward pass, against its equations in NumPy, and what it does without a user."""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest

from alterrec_jax.contract import CatalogueInfo, Component, Context, Network, Params, SessionBatch
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.graphs import NeighbourLists, items_and_users
from alterrec_jax.data.packing import Chunks, Plan, fill_rows
from alterrec_jax.errors import UserError
from alterrec_jax.models.hg_gnn import GRAPH, HGGNNConfig, HGGNNNetworkConfig, build_network
from alterrec_jax.nn.gnn import sum_of_neighbours
from alterrec_jax.scoring.prefix_encoder import PrefixEncoder, Prefixes
from alterrec_jax.serving.trained_model import load_trained
from tests.conftest import write_small_dataset
from tests.data.test_graphs import matrix_of, sessions_of_users
from tests.models.families import TINY
from tests.oracles import hg_gnn as oracle
from tests.parity import batch_of, dense, fixture, loss_and_gradient
from tests.training.test_start import begun

HELD = fixture("hg_gnn")
(ITEMS, DIM), USERS, WINDOW = HELD["table_gradient"].shape, len(HELD["user_gradient"]), int(HELD["window"])
LENGTH = HELD["items"].shape[1]
KNOWN = CatalogueInfo(ITEMS, users=USERS)


def network_of(**changes: object) -> Network:
    config = dataclasses.replace(HGGNNNetworkConfig(dim=DIM, window=WINDOW), **changes)  # type: ignore[arg-type]
    return build_network(config, KNOWN, LENGTH, "float32")


@pytest.fixture(scope="module")
def context() -> Context:
    """The graph of the fixture's sessions."""
    lists = np.split(HELD["graph_items"] - 1, np.cumsum(HELD["graph_lengths"])[:-1])
    names = [str(user) for user in range(USERS)]
    train = sessions_of_users([s.tolist() for s in lists], [names[user] for user in HELD["graph_users"]], names)
    return Context({}, {GRAPH: jax.tree.map(jnp.asarray, items_and_users(train, ITEMS))})


def parameters() -> Params:
    """The fixture's parameters as ours."""
    places, items = jnp.split(jnp.asarray(HELD["w_1"]), 2)
    readout = {
        "ages": jnp.asarray(HELD["pos_embedding.weight"]),
        "items": {"kernel": items},
        "of_ages": {"kernel": places},
        "gate": dense(HELD, "glu1"),
        "gate_of_mean": dense(HELD, "glu2"),
        "weight": {"kernel": jnp.asarray(HELD["w_2"])},
        "general_items": {"kernel": jnp.asarray(HELD["w_3"])},
        "general_gate": dense(HELD, "glu3"),
        "gate_of_user": dense(HELD, "glu4"),
        "general_weight": {"kernel": jnp.asarray(HELD["w_4"])},
        "share": dense(HELD, "sigmoid_concat.0"),
    }
    table = jnp.asarray(HELD["v2e.weight"][1:])
    graph = {"own": dense(HELD, "conv1.fc_self"), "neighbours": dense(HELD, "conv1.fc_neigh")}
    return {"items": {"table": table[:ITEMS]}, "users": table[ITEMS:], "graph": graph, "readout": readout}


def with_users(batch: SessionBatch, users: list[int]) -> SessionBatch:
    """The batch of one session a row, each of its user."""
    return batch._replace(users=np.repeat(np.array(users, np.int32)[:, None], batch.items.shape[1], axis=1))


def test_queries_scores_and_gradients_are_those_of_the_released_code(context: Context) -> None:
    network, (batch, ends) = network_of(), batch_of(HELD)
    batch = with_users(batch, HELD["users"].tolist())

    (value, (queries, scores)), gradient = loss_and_gradient(network, parameters(), context, batch, ends)
    np.testing.assert_allclose(queries, HELD["queries"], rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(scores, HELD["scores"], rtol=2e-5, atol=5e-6)
    np.testing.assert_allclose(value, HELD["loss"], rtol=2e-6)
    np.testing.assert_allclose(gradient["items"]["table"], HELD["table_gradient"], rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(gradient["users"], HELD["user_gradient"], rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("graph", [True, False])
def test_packed_sessions_are_those_of_the_equations(context: Context, graph: bool) -> None:
    rng, params, network = np.random.default_rng(4), parameters(), network_of(graph=graph)
    lengths = np.array([1, 6, 3, 4, 7])
    sessions = [rng.integers(0, 5, length).tolist() for length in lengths]
    sessions[3] = [9, 9, 2, 9]
    whose = np.array([2, -1, 0, 1, 1], np.int32)
    rows, places = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 3, 0])
    zeros = np.zeros(5, np.int64)
    items = np.array([item for session in sessions for item in session], np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    batch = fill_rows(items, offsets, Chunks(np.arange(5), zeros, lengths, zeros), Plan(rows, places, 4), LENGTH, whose)
    tables = jax.jit(network.item_tables)(params, context)
    found = jax.jit(network.session_embeddings)(params, tables, batch._replace(interaction=None))
    raw = np.concatenate([params["items"]["table"], params["users"]]).astype(np.float64)
    nodes = oracle.node_vectors(params["graph"], raw, matrix_of(context.graphs[GRAPH])) if graph else raw
    for session, user, row, place in zip(sessions, whose, rows, places, strict=True):
        user_vector = nodes[ITEMS + user] if user >= 0 else np.zeros(DIM)
        for end in range(len(session)):
            expected = oracle.session_vector(params["readout"], nodes[session[: end + 1]], user_vector, WINDOW)
            np.testing.assert_allclose(found[row * LENGTH + place + end], expected, rtol=1e-4, atol=1e-5)


def test_users_are_no_candidates_and_one_that_nobody_knows_is_zero(context: Context) -> None:
    network, params, (batch, ends) = network_of(), parameters(), batch_of(HELD)
    tables, embed = jax.jit(network.item_tables)(params, context), jax.jit(network.session_embeddings)
    np.testing.assert_array_equal(tables.candidates, params["items"]["table"])
    assert tables.users.shape == (USERS, DIM)

    def queries(batch: SessionBatch, **changes: object) -> np.ndarray:
        return np.asarray(embed(params, tables._replace(**changes), batch))[ends]  # type: ignore[arg-type]

    unknown = queries(with_users(batch, [-1] * 5))
    np.testing.assert_array_equal(unknown, queries(with_users(batch, [0] * 5), users=jnp.zeros((1, DIM))))
    np.testing.assert_array_equal(unknown, queries(batch))
    np.testing.assert_array_equal(unknown, queries(with_users(batch, [0] * 5), users=None))
    assert np.abs(unknown - queries(with_users(batch, HELD["users"].tolist()))).max(axis=1).min() > 0.1


def test_evaluation_reads_whose_a_session_is(context: Context) -> None:
    encoder = PrefixEncoder({"hg_gnn": Component(network_of(), "hg_gnn")}, {"hg_gnn": parameters()}, context, LENGTH)

    def embedded(users: list[int] | None) -> np.ndarray:
        whose = None if users is None else np.array(users, np.int32)
        items, offsets = np.array([3, 5, 8, 3, 5, 8], np.int32), np.array([0, 3, 6])
        (found,) = encoder.encode(Prefixes(items, offsets, np.array([0, 1]), np.array([3, 3]), whose))
        embeddings: np.ndarray = found["hg_gnn"]
        return embeddings

    first, second = embedded([0, 1])
    unknown = embedded([-1, -1])
    np.testing.assert_array_equal(embedded(None), unknown)
    for one, other in ((first, second), (first, unknown[0]), (second, unknown[0])):
        assert np.abs(one - other).max() > 0.1


def test_dropout_leaves_candidates_and_the_raw_half_of_what_is_looked_up(context: Context) -> None:
    make, params = jax.jit(network_of().item_tables), parameters()
    quiet, *noisy = (make(params, context, key) for key in (None, jax.random.key(0), jax.random.key(1)))
    for tables in noisy:
        np.testing.assert_array_equal(tables.candidates, quiet.candidates)
        assert (tables.inputs >= tables.candidates / 2).all() and (tables.users >= params["users"] / 2).all()
        assert (tables.inputs != quiet.inputs).any(axis=1).all()
    assert (noisy[0].inputs != noisy[1].inputs).any()


def test_the_gradient_of_a_sum_over_neighbours_is_that_of_the_matrix(context: Context) -> None:
    graph: NeighbourLists = context.graphs[GRAPH]
    rng = np.random.default_rng(0)
    nodes, wanted = (jnp.asarray(rng.normal(size=(ITEMS + USERS, 3)), jnp.float32) for _ in range(2))
    found, back = jax.vjp(lambda nodes: sum_of_neighbours(graph, nodes), nodes)
    np.testing.assert_allclose(found, matrix_of(graph) @ np.asarray(nodes), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(back(wanted)[0], matrix_of(graph).T @ np.asarray(wanted), rtol=1e-5, atol=1e-5)


def test_data_without_users_are_refused_with_the_remedy() -> None:
    with pytest.raises(UserError, match="training sessions name no user; prepare the dataset with --user_column"):
        HGGNNConfig().build(CatalogueInfo(ITEMS))


def test_a_run_is_asked_about_the_sessions_of_its_graph_alone(dataset: Dataset, tmp_path: pathlib.Path) -> None:
    def fewer_sessions(arguments: dict[str, Any]) -> None:
        arguments["sessions"] = arguments["sessions"].tail(-3)

    def without_users(arguments: dict[str, Any]) -> None:
        arguments["sessions"] = arguments["sessions"].with_columns(user_id=pl.lit(None, pl.String))

    workdir = begun(TINY["hg_gnn"], dataset, tmp_path / "run")
    for name, change in (("fewer", fewer_sessions), ("without", without_users)):
        with pytest.raises(UserError, match="model=hg_gnn reads the training sessions of its own dataset"):
            load_trained(workdir, write_small_dataset(tmp_path / name, change))
