"""The baselines against counting by hand."""

import itertools

import numpy as np
import pytest

from alterrec_jax.data.targets import select_targets
from alterrec_jax.models.counting import (
    cooccurrence_rows,
    count_cooccurrence,
    own_items_first,
    popularity_rows,
    session_cooccurrence_rows,
)
from tests.evaluation.examples import make_dataset, make_sessions, random_sessions

ITEMS, CATALOGUE = 19, 17


def test_by_hand():
    train = make_sessions([[0, 1, 1], [1, 2], [0, 1], [3]])
    test = make_sessions([[3, 1, 0], [4, 2]])  # item 4 never occurs in training
    dataset = make_dataset(train, test, items=5, catalogue=4)
    targets = select_targets(test, "all_prefixes")
    assert popularity_rows(dataset)(1, 3).tolist() == [[2, 4, 1, 1], [2, 4, 1, 1]]
    assert cooccurrence_rows(count_cooccurrence(dataset, test), test, targets)(0, 3).tolist() == [
        [0, 0, 0, 0],  # after 3, which is always alone
        [2, 0, 1, 0],  # after 1: twice with 0, although three times in a pair of clicks; never with itself
        [0, 0, 0, 0],  # after 4
    ]


def _counted(train, items, catalogue):
    """How many sessions hold each item, and each pair of different items, by a loop."""
    alone, together = np.zeros(items), np.zeros((items, catalogue))
    for number in range(len(train)):
        held = set(train[number].tolist())
        for item in held:
            alone[item] += 1
        for one, other in itertools.permutations(held, 2):
            together[one, other] += 1
    return alone, together


@pytest.fixture(params=[0, 1])
def case(request):
    """Training and test sessions, the targets of these, and their dataset."""
    rng = np.random.default_rng(request.param)
    train, test = random_sessions(rng, 53, CATALOGUE), random_sessions(rng, 13, ITEMS)
    return train, test, select_targets(test, "all_prefixes"), make_dataset(train, test, ITEMS, CATALOGUE)


def test_cooccurrence_equals_a_loop(case):
    train, test, targets, dataset = case
    _, together = _counted(train, ITEMS, CATALOGUE)
    rows = cooccurrence_rows(count_cooccurrence(dataset, test), test, targets)
    last = [test[session][position - 1] for session, position in zip(targets.session, targets.position, strict=True)]
    found = np.concatenate([rows(0, 5), rows(5, len(targets))])
    np.testing.assert_array_equal(found, together[last])
    assert found.dtype == np.float32


def test_session_cooccurrence_equals_a_loop(case):
    train, test, targets, dataset = case
    alone, together = _counted(train, ITEMS, CATALOGUE)
    wanted = np.zeros((len(targets), CATALOGUE))
    for row, (session, position) in enumerate(zip(targets.session, targets.position, strict=True)):
        for known in set(test[session][:position].tolist()):
            for candidate in range(CATALOGUE):
                scale = max(alone[known], 1) ** 0.5 * max(alone[candidate], 1) ** 0.3
                wanted[row, candidate] += together[known, candidate] / scale
    rows = session_cooccurrence_rows(count_cooccurrence(dataset, test), test, targets)
    found = np.concatenate([rows(0, 5), rows(5, len(targets))])
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert found.dtype == np.float32


def test_own_items_come_first_and_the_latest_of_them_before_all():
    train = make_sessions([[0, 1], [0, 1], [0, 2], [3, 2]])
    test = make_sessions([[0, 4, 3, 0, 1]])  # item 4 is not in the catalogue
    dataset, targets = make_dataset(train, test, items=5, catalogue=4), select_targets(test, "last")
    rows = session_cooccurrence_rows(count_cooccurrence(dataset, test), test, targets)
    scores = own_items_first(rows, test, targets)(0, 1)[0]
    assert np.argsort(-scores).tolist() == [0, 3, 2, 1], "0 was clicked again behind 3"
    assert scores[1:3].tolist() == rows(0, 1)[0, 1:3].tolist()
