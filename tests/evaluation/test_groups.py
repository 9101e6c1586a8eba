"""Groups of targets: where each belongs, and that the parts make up the whole."""

import numpy as np
import pytest

from alterrec_jax.data.targets import select_targets
from alterrec_jax.evaluation.groups import group_metrics, target_groups
from alterrec_jax.evaluation.metrics import summarise
from alterrec_jax.evaluation.ranking import Ranks
from tests.evaluation.examples import make_sessions, random_sessions


def test_by_hand():
    #         item:  0  1  2  3   4   5   6    7
    counts = np.array([0, 4, 5, 9, 10, 30, 99, 100])
    sessions = make_sessions(
        [[7, 0], [7, 1], [7, 2], [7, 3], [7, 4], [1, 2, 1, 2, 3, 5], [1, 2, 3, 1, 2, 3, 6], [7, 7]]
    )
    targets = select_targets(sessions, "last")
    masks = target_groups(targets, sessions, counts)
    found = {grouping: {k: np.flatnonzero(v).tolist() for k, v in m.items()} for grouping, m in masks.items()}
    assert found == {
        "popularity": {"[0, 5)": [0, 1], "[5, 10)": [2, 3], "[10, 30)": [4], "[30, 100)": [5, 6], "[100, inf)": [7]},
        "session_length": {"<=5": [0, 1, 2, 3, 4, 7], ">5": [5, 6]},
        "repeat": {"in_session": [7], "new": [0, 1, 2, 3, 4, 5, 6]},
    }


def test_targets_alone_on_their_time_by_hand():
    alone = [[True, False, False], [False, False, True], [True, True]]
    sessions = make_sessions([[1, 2, 3], [4, 5, 6], [7, 8]], [2, 1, 1], alone)
    targets = select_targets(sessions, "all_prefixes")
    assert targets.item.tolist() == [3, 5, 6, 8]
    found = target_groups(targets, sessions, np.zeros(9, np.int64))["time_stamp"]
    assert {label: mask.tolist() for label, mask in found.items()} == {
        "alone": [False, False, True, True],
        "shared": [True, True, False, False],
    }
    unknown = make_sessions([[1, 2, 3], [4, 5, 6], [7, 8]], [2, 1, 1])
    assert "time_stamp" not in target_groups(targets, unknown, np.zeros(9, np.int64))


def test_groups_weighted_by_n_make_up_the_total():
    rng = np.random.default_rng(2)
    sessions = random_sessions(rng, 97, 23, longest=13)
    targets = select_targets(sessions, "all_prefixes")
    ranks = {v: Ranks(rng.integers(0, 30, len(targets)), rng.integers(1, 9, len(targets))) for v in ("id", "text")}
    groups = group_metrics(ranks, target_groups(targets, sessions, rng.integers(0, 200, 23)))
    for labels in groups.values():
        assert sum(group["n"] for group in labels.values()) == len(targets)
        for view, rank in ranks.items():
            for metric, total in summarise(rank.above, rank.equal).items():
                parts = sum(group["n"] * group[view][metric] for group in labels.values() if group["n"])
                assert parts / len(targets) == pytest.approx(total, rel=1e-12)


def test_an_empty_group_has_no_numbers():
    sessions = make_sessions([[0, 1]])
    targets = select_targets(sessions, "last")
    ranks = {"id": Ranks(np.array([0]), np.array([1]))}
    groups = group_metrics(ranks, target_groups(targets, sessions, np.array([1, 1])), ks=(10,))
    assert groups["repeat"] == {
        "in_session": {"n": 0, "id": {"hits@10": None, "ndcg@10": None, "mrr@10": None}},
        "new": {"n": 1, "id": {"hits@10": 1.0, "ndcg@10": 1.0, "mrr@10": 1.0}},
    }
