"""V-SkNN against its slow twin and by hand, and what its settings are chosen on."""

import dataclasses
import math

import numpy as np
import pytest

from alterrec_jax.data.targets import select_targets
from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.metrics import summarise
from alterrec_jax.evaluation.protocol import Protocol
from alterrec_jax.evaluation.ranking import rank_rows
from alterrec_jax.evaluation.tuning import GRID, choose
from alterrec_jax.models.session_knn import SessionKNNConfig, session_knn_rows
from tests.evaluation.examples import make_dataset, make_sessions, random_sessions
from tests.oracles import session_knn as oracle

ITEMS, CATALOGUE = 19, 17


def test_by_hand():
    train = make_sessions([[0, 1, 1], [1, 2, 2, 1, 3, 4], [0, 2], [3]])
    test = make_sessions([[1, 0, 3]])
    dataset = make_dataset(train, test, items=5, catalogue=4)
    targets = select_targets(test, "last")
    # The prefix is (1: 1/2, 0: 1), of norm sqrt(5)/2. Session 0 shares both, session 1 only the first one of its four.
    # Session 2 shares the last one, session 3 nothing.
    first, second, third = 1.5 / math.sqrt(2.5), 0.5 / math.sqrt(5), 1 / math.sqrt(2.5)
    rows = session_knn_rows(dataset, test, targets, neighbours=3, idf=0.0)(0, 1)
    np.testing.assert_allclose(rows, [[first + third, first + second / 2, second / 2 + third, second / 2]], rtol=1e-6)
    rows = session_knn_rows(dataset, test, targets, neighbours=2, idf=0.0)(0, 1)
    np.testing.assert_allclose(rows, [[first + third, first, third, 0]], rtol=1e-6)
    rows = session_knn_rows(dataset, test, targets, neighbours=2, idf=3.0, remind=False)(0, 1)
    np.testing.assert_allclose(rows, [[0, 0, third * (1 + 3 * math.log(2)), 0]], rtol=1e-6)


@pytest.mark.parametrize("latest", [0, 1])
def test_of_equally_similar_sessions_the_latest_is_the_neighbour(latest):
    # 1 / sqrt(3) and 3 / sqrt(27) are one number, although not in floating point.
    pair = [[0, 2, 3], [0, 1, *range(4, 29)]]
    train, test = make_sessions([pair[1 - latest], pair[latest]]), make_sessions([[0, 1, 29]])
    dataset = make_dataset(train, test, items=30, catalogue=30)
    row = session_knn_rows(dataset, test, select_targets(test, "last"), neighbours=1, idf=0.0)(0, 1)[0]
    assert np.flatnonzero(row).tolist() == pair[latest]


@pytest.mark.parametrize("remind", [True, False])
@pytest.mark.parametrize("neighbours, idf", [(1, 0.0), (3, 1.0), (7, 0.0), (100, 2.5)])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_the_oracle(seed, neighbours, idf, remind):
    rng = np.random.default_rng(seed)
    train, test = random_sessions(rng, 53, CATALOGUE), random_sessions(rng, 13, ITEMS)
    targets = select_targets(test, "all_prefixes")
    dataset = make_dataset(train, test, ITEMS, CATALOGUE)
    lists = [train[number].tolist() for number in range(len(train))]
    wanted = [
        oracle.scores(lists, test[session][:position].tolist(), CATALOGUE, neighbours, idf, remind)
        for session, position in zip(targets.session, targets.position, strict=True)
    ]
    settings = {"neighbours": neighbours, "idf": idf, "remind": remind}
    rows = session_knn_rows(dataset, test, targets, **settings)
    found = np.concatenate([rows(0, 5), rows(5, len(targets))])
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert found.dtype == np.float32
    in_blocks = session_knn_rows(dataset, test, targets, **settings, shared_at_once=100)
    np.testing.assert_array_equal(in_blocks(0, len(targets)), found)
    assert [train[number].tolist() for number in range(len(train))] == lists


@pytest.mark.parametrize("train", [[[0, 1], [2]], [[], []], []])
def test_all_tie_without_a_neighbour(train):
    test = make_sessions([[3, 0], [4, 4, 1]])  # item 3 is nowhere in training, item 4 outside the catalogue
    dataset = make_dataset(make_sessions(train), test, items=5, catalogue=4)
    rows = session_knn_rows(dataset, test, select_targets(test, "all_prefixes"), neighbours=5, idf=1.0)
    assert rows(0, 3).tolist() == [[0.0] * 4] * 3


def test_an_item_of_no_training_session_keeps_its_place():
    train, test = make_sessions([[0, 1], [2, 3]]), make_sessions([[0, 2, 4, 1]])
    dataset = make_dataset(train, test, items=5, catalogue=4)
    row = session_knn_rows(dataset, test, select_targets(test, "last"), neighbours=2, idf=0.0)(0, 1)[0]
    assert row[3] / row[1] == pytest.approx(4)  # places 2 and 1 of 3, once in the similarity, once in the vote


def test_settings_that_make_no_sense():
    test = make_sessions([[0, 1]])
    dataset, targets = make_dataset(test, test, 2, 2), select_targets(test, "last")
    for neighbours, idf in ((0, 0.0), (1, -1.0)):
        with pytest.raises(ValueError, match="wanted"):
            session_knn_rows(dataset, test, targets, neighbours=neighbours, idf=idf)


@pytest.fixture
def dataset():
    """One whose test split is missing."""
    rng = np.random.default_rng(3)
    made = make_dataset(random_sessions(rng, 53, CATALOGUE), random_sessions(rng, 13, ITEMS), ITEMS, CATALOGUE)
    return dataclasses.replace(made, splits={name: made.splits[name] for name in ("train", "validation")})


@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("metric", ["hits@10", "mrr@3"])
def test_chooses_the_best_on_validation(dataset, metric, exclude):
    tried = ((1, 0.0, True), (2, 0.0, False), (3, 4.0, True), (9, 1.0, True), (9, 0.0, False))
    grid = [SessionKNNConfig(neighbours=k, idf=idf, remind=remind) for k, idf, remind in tried]
    protocol, sessions = Protocol(ks=(3, 10), exclude_session_items=exclude), dataset.splits["validation"]
    targets = protocol.select(dataset, "validation")
    found = []
    for settings in grid:
        rows = settings.rows(dataset, sessions, targets)
        ranks = rank_rows(rows, "", targets, catalogue=CATALOGUE, exclude=sessions if exclude else None)
        found.append(summarise(ranks.above, ranks.equal, protocol.ks)[metric] * (settings.remind or not exclude))
    assert choose(dataset, protocol, metric, grid) == grid[int(np.argmax(found))]


def test_chooses_the_first_of_equally_good_ones():
    train, test = make_sessions([[0, 1]]), make_sessions([[2, 3]])
    assert choose(make_dataset(train, test, 4, 4), Protocol(), "hits@10") == GRID[0]


def test_chooses_on_a_sample_that_stays_the_same(dataset, monkeypatch):
    seen = []

    def spy(self, dataset, sessions, targets, rows=SessionKNNConfig.rows):
        seen.append((targets.session.tolist(), targets.position.tolist()))
        return rows(self, dataset, sessions, targets)

    monkeypatch.setattr(SessionKNNConfig, "rows", spy)
    choose(dataset, Protocol(), "ndcg@20", sample=11)
    assert len(seen) == len(GRID) and all(one == seen[0] for one in seen)
    pairs = list(zip(*seen[0], strict=True))
    assert len(set(pairs)) == 11 and pairs == sorted(pairs)


def test_an_unknown_metric(dataset):
    with pytest.raises(UserError, match=r"metric 'hits@21' is unknown; did you mean 'hits@20'\?"):
        choose(dataset, Protocol(), "hits@21")
