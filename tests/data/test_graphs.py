"""Graphs of training sessions against a count in plain Python, and that no other split reaches them."""

import dataclasses
from collections import Counter
from itertools import permutations

import jax
import numpy as np
import polars as pl
import pytest

from alterrec_jax.contract import Reads
from alterrec_jax.data.dataset import Dataset, Sessions
from alterrec_jax.data.features import make_context
from alterrec_jax.data.graphs import (
    GRAPHS,
    LIST_WIDTH,
    PREDECESSORS,
    NeighbourLists,
    cooccurrence,
    items_and_users,
    session_hypergraph,
)
from tests.evaluation.examples import make_sessions
from tests.parity import fixture


def test_cooccurrence_counts_sessions_that_hold_both() -> None:
    lists = [[3, 1, 3], [1, 3], [2], [0, 1, 2, 1]]
    edges = cooccurrence(make_sessions(lists), 5)
    counted = Counter(pair for session in lists for pair in permutations(sorted(set(session)), 2))
    found = list(zip(edges.source.tolist(), edges.target.tolist(), strict=True))
    assert found == sorted(counted)
    assert edges.weight.tolist() == [counted[pair] for pair in found]
    assert (1, 3) in found and edges.weight[found.index((1, 3))] == 2


def test_items_outside_the_catalogue_are_left_out() -> None:
    edges = cooccurrence(make_sessions([[0, 7, 2], [9], [2, 0, 100_000]]), 5)
    assert [edges.source.tolist(), edges.target.tolist(), edges.weight.tolist()] == [[0, 2], [2, 0], [2.0, 2.0]]


def test_a_hypergraph_holds_each_session_without_its_last_item_both_ways() -> None:
    lists = [[3, 1, 3], [2], [], [9, 0, 2, 0, 7, 4], [9, 1], [1, 1, 1]]
    of_sessions, of_items = session_hypergraph(make_sessions(lists), 5)
    assert of_sessions.node.tolist() == [0, 1, 2], "sessions that hold no item of the catalogue are left out"
    assert of_sessions.degree.tolist() == [2, 2, 1] and of_items.degree.tolist() == [1, 2, 1, 1, 0]
    held = [neighbours[weights > 0].tolist() for _, neighbours, weights in zip(*of_sessions[:3], strict=True)]
    holding = [neighbours[weights > 0].tolist() for _, neighbours, weights in zip(*of_items[:3], strict=True)]
    assert held == [[1, 3], [0, 2], [1]]
    assert (of_items.node.tolist(), holding) == ([0, 1, 2, 3], [[1], [0, 2], [1], [0]])


def test_held_out_sessions_reach_no_graph_and_training_sessions_do(dataset: Dataset) -> None:
    reads = Reads(graphs=tuple(GRAPHS))
    nothing = make_sessions([])
    without = dataclasses.replace(dataset, splits={**dataset.splits, "validation": nothing, "test": nothing})
    leaked = dataclasses.replace(dataset, splits={**dataset.splits, "train": dataset.splits["test"]})
    own, same, planted = (jax.tree.leaves(make_context(d, reads, "float32")) for d in (dataset, without, leaked))
    for one, other in zip(own, same, strict=True):
        np.testing.assert_array_equal(one, other)
    assert any(one.shape != other.shape or (one != other).any() for one, other in zip(own, planted, strict=True))


def sessions_of_users(lists: list[list[int]], users: list[str | None], names: list[str]) -> Sessions:
    """Sessions whose users are known, or None."""
    whose, known = pl.Series(users, dtype=pl.String), pl.Series(names, dtype=pl.String)
    return dataclasses.replace(make_sessions(lists), user_ids=whose, user_names=known)


def matrix_of(graph: NeighbourLists) -> np.ndarray:
    """float32 [node, node], the weights."""
    nodes = len(graph.degree)
    matrix = np.zeros((nodes, nodes), np.float32)
    np.add.at(matrix, (graph.node[:, None], graph.neighbours), graph.weights)
    return matrix


def oracle_of_items_and_users(lists: list[list[int]], users: list[int], items: int, nodes: int) -> np.ndarray:
    """float32 [node, node]: c_ab + c_ba + [b in in12(a)] + [a in in12(b)], clicks both ways, and every node itself."""
    matrix = np.eye(nodes, dtype=np.float32)
    before: dict[int, Counter[int]] = {item: Counter() for item in range(items)}
    for session, user in zip(lists, users, strict=True):
        known = [item for item in session if item < items]
        for item, following in zip(known, known[1:], strict=False):
            before[following][item] += 1
        for item in known if user >= 0 else []:
            matrix[item, items + user] += 1
            matrix[items + user, item] += 1
    for item, counted in before.items():
        for other, count in counted.items():
            matrix[item, other] += count
            matrix[other, item] += count
        for other, _ in counted.most_common(12):  # of equal counts those that were counted first
            matrix[item, other] += 1
            matrix[other, item] += 1
    return matrix


@pytest.mark.parametrize("seed", range(4))
def test_items_and_users_are_neighbours_as_often_as_a_loop_counts(seed: int) -> None:
    rng, items, names = np.random.default_rng(seed), 19, ["a", "b", "c", "idle"]
    # Item 0 is frequent, and repeats; the largest numbers are no items of the catalogue.
    lists = [(rng.integers(0, 24, n) * rng.integers(0, 2, n)).tolist() for n in rng.integers(1, 12, 60)]
    users = rng.integers(-1, 3, 60).tolist()
    train = sessions_of_users(lists, ["stranger" if user < 0 else names[user] for user in users], names)
    graph = items_and_users(train, items)
    expected = oracle_of_items_and_users(lists, users, items, items + len(names))
    np.testing.assert_array_equal(matrix_of(graph), expected)
    np.testing.assert_array_equal(graph.degree, expected.sum(axis=1))
    before_zero = {a for session in lists for a, b in zip(session, session[1:], strict=False) if b == 0 and a < items}
    assert len(before_zero) > PREDECESSORS and np.bincount(graph.node).max() > 1, "what could go wrong is there"
    assert graph.neighbours.shape[1] == LIST_WIDTH and expected[-1].sum() == 1, "a user without a session is alone"


def test_the_graph_is_that_of_the_released_code() -> None:
    held = fixture("hg_gnn")
    lists = np.split(held["graph_items"] - 1, np.cumsum(held["graph_lengths"])[:-1])
    names = [str(user) for user in range(len(held["user_gradient"]))]
    whose: list[str | None] = [names[user] for user in held["graph_users"]]
    train = sessions_of_users([session.tolist() for session in lists], whose, names)
    graph = items_and_users(train, len(held["table_gradient"]))
    np.testing.assert_array_equal(matrix_of(graph), held["adjacency"])
