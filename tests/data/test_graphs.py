"""Graphs of training sessions against a count in plain Python, and that no other split reaches them."""

import dataclasses
from collections import Counter
from itertools import permutations

import jax
import numpy as np
import polars as pl
import pytest

from alterrec_jax.contract import Reads
from alterrec_jax.data.cooccurrence import FREQUENT, companions, cooccurrence, met_elsewhere, often_elsewhere
from alterrec_jax.data.dataset import Dataset, Sessions
from alterrec_jax.data.features import make_context
from alterrec_jax.data.graphs import (
    GRAPHS,
    LIST_WIDTH,
    PREDECESSORS,
    NeighbourLists,
    items_and_users,
    session_hypergraph,
)
from tests.evaluation.examples import make_sessions
from tests.oracles import dimo as oracle_of_dimo
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


def test_companions_are_who_stood_together_ever_and_most_often() -> None:
    rng = np.random.default_rng(1)
    lists = [rng.integers(0, 17, rng.integers(1, 7)).tolist() for _ in range(60)]
    items = 19  # the last two are in no session
    counted = Counter(pair for session in lists for pair in permutations(sorted(set(session)), 2))
    found = companions(make_sessions(lists), items)
    for item in range(items):
        by_count = sorted((-count, other) for (one, other), count in counted.items() if one == item)
        mine = found.items[found.offsets[item] : found.offsets[item + 1]].tolist()
        assert mine == sorted([item, *(other for _, other in by_count)])
        assert found.sessions[item].tolist() == ([float(-count) for count, _ in by_count] + [0.0] * FREQUENT)[:FREQUENT]
        assert found.frequent[item].tolist() == ([other for _, other in by_count] + [0] * FREQUENT)[:FREQUENT]
    assert max(np.diff(found.offsets)) > FREQUENT + 1
    lists_of = GRAPHS["cooccurrence"](make_sessions(lists), items)
    matrix = np.zeros((items, items), np.float32)
    matrix[tuple(np.array(list(counted)).T)] = list(counted.values())
    np.testing.assert_array_equal(matrix_of(lists_of), matrix)


def test_a_prefix_and_what_follows_met_elsewhere_or_not() -> None:
    lists = [[0, 1, 2, 3], [4, 5], [3, 8, 0], [6], [7, 7, 7], [5, 9, 5, 4], [100, 1], [1, 100]]
    found = met_elsewhere(make_sessions(lists), 10)
    # 0 and 3 meet in two sessions, 4 and 5 too; nobody meets himself, and 100 is no item of the catalogue.
    assert found.tolist() == [
        *(False, False, True, False),
        *(True, False),
        *(False, True, False),
        False,
        *(False, False, False),
        *(False, False, True, False),
        *(False, False),
        *(False, False),
    ]


def test_met_elsewhere_is_a_count_over_the_other_sessions() -> None:
    rng = np.random.default_rng(2)
    lists = [rng.integers(0, 30, rng.integers(1, 9)).tolist() for _ in range(80)]
    expected = []
    for number, session in enumerate(lists):
        others = [set(other) for place, other in enumerate(lists) if place != number]
        for end in range(len(session)):
            target = session[end + 1] if end + 1 < len(session) else None
            before = [item for item in session[: end + 1] if item != target]
            expected.append(any(target in other and item in other for item in before for other in others))
    assert 0.2 < np.mean(expected) < 0.8
    np.testing.assert_array_equal(met_elsewhere(make_sessions(lists), 30), expected)


@pytest.mark.parametrize(("items", "sessions"), [(14, 40), (30, 80), (60, 150)])
def test_often_elsewhere_is_a_rank_among_the_companions_in_other_sessions(items: int, sessions: int) -> None:
    rng = np.random.default_rng(items)
    lists = [(items * rng.random(rng.integers(1, 9)) ** 2).astype(int).tolist() for _ in range(sessions)]
    lists += [[0, 1, items], [1, items + 100, 0]]  # with items outside the catalogue
    expected = []
    for number, session in enumerate(lists):
        for end in range(len(session)):
            prefix, following = session[: end + 1], session[end + 1 : end + 2]
            known = [[item for item in other if item < items] for other in lists]
            of_catalogue = following and following[0] < items
            expected.append(
                bool(of_catalogue) and oracle_of_dimo.often_elsewhere(known, number, prefix, following[0], FREQUENT)
            )
    found = often_elsewhere(make_sessions(lists), items)
    assert 0.1 < found.mean() < 0.9 and (items == 14 or (found != met_elsewhere(make_sessions(lists), items)).any())
    np.testing.assert_array_equal(found, expected)


def test_what_met_in_its_own_session_alone_is_not_often_elsewhere() -> None:
    assert not often_elsewhere(make_sessions([[0, 1], [0, 2, 0], [3]]), 4).any()
    assert often_elsewhere(make_sessions([[0, 1], [2, 1, 0]]), 4).tolist() == [True, False, False, True, False]
    assert not often_elsewhere(make_sessions([]), 4).any()


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
