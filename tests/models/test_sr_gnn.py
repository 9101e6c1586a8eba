"""SR-GNN against the released forward pass, and against its equations in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.contract import Context
from alterrec_jax.models.sr_gnn import SRGNNNetworkConfig, build_network
from alterrec_jax.nn.gnn import session_graph
from tests.parity import batch_of, dense, fixture, loss_and_gradient

HELD = fixture("sr_gnn")
ITEMS, DIM = HELD["table_gradient"].shape
NOTHING_KNOWN = Context({}, {})


def parameters() -> dict:
    """The fixture's parameters as ours."""

    def gates(side: str) -> dict:
        return {"kernel": jnp.asarray(HELD[f"gnn.w_{side}"].T), "bias": jnp.asarray(HELD[f"gnn.b_{side}"])}

    graph = {
        "incoming": dense(HELD, "gnn.linear_edge_in"),
        "outgoing": dense(HELD, "gnn.linear_edge_out"),
        "incoming_bias": jnp.asarray(HELD["gnn.b_iah"]),
        "outgoing_bias": jnp.asarray(HELD["gnn.b_oah"]),
        "input_gates": gates("ih"),
        "hidden_gates": gates("hh"),
    }
    encoder = {
        "graph_0": graph,
        "last": dense(HELD, "linear_one"),
        "each": dense(HELD, "linear_two"),
        "attention": dense(HELD, "linear_three"),
        "output": dense(HELD, "linear_transform"),
    }
    return {"items": {"table": jnp.asarray(HELD["embedding.weight"][1:])}, "encoder": encoder}


def test_queries_scores_and_gradient_are_those_of_the_released_code() -> None:
    network = build_network(SRGNNNetworkConfig(dim=DIM), ITEMS, HELD["items"].shape[1], "float32")
    batch, ends = batch_of(HELD)
    params = parameters()

    (value, (queries, scores)), gradient = loss_and_gradient(network, params, NOTHING_KNOWN, batch, ends)
    np.testing.assert_allclose(queries, HELD["queries"], rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(scores, HELD["scores"], rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(value, HELD["loss"], rtol=2e-6)
    np.testing.assert_allclose(gradient["items"]["table"], HELD["table_gradient"], rtol=2e-5, atol=1e-5)


def oracle_graph(items: list[int]) -> tuple[dict[int, set[int]], dict[int, set[int]]]:
    """Of each item, its distinct predecessors and successors."""
    before: dict[int, set[int]] = {item: set() for item in items}
    after: dict[int, set[int]] = {item: set() for item in items}
    for item, following in zip(items, items[1:], strict=False):
        after[item].add(following)
        before[following].add(item)
    return before, after


@pytest.mark.parametrize("seed", range(3))
def test_graphs_are_means_over_distinct_neighbours_whatever_shares_the_row(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sessions = [rng.integers(0, 5, length).tolist() for length in (1, 4, 6)]
    row = [item for session in sessions for item in session] + [0, 0]
    segments = [number for number, session in enumerate(sessions) for _ in session] + [-1, -1]
    batch, _ = batch_of(HELD)
    batch = batch._replace(items=np.array([row], np.int32), segments=np.array([segments], np.int32))
    incoming, outgoing = (np.asarray(graph[0]) for graph in session_graph(batch))
    start = 0
    for session in sessions:
        before, after = oracle_graph(session)
        for place, item in enumerate(session):
            for graph, neighbours in ((incoming, before[item]), (outgoing, after[item])):
                expected = np.zeros(len(row))
                for neighbour in neighbours:
                    expected[start + session.index(neighbour)] = 1 / len(neighbours)
                np.testing.assert_allclose(graph[start + place], expected, rtol=1e-6)
        start += len(session)
    assert not incoming[start:].any() and not outgoing[start:].any()
