"""The closed form under ties against every order of the tied items."""

import math

import numpy as np
import pytest

from alterrec_jax.data.targets import select_targets
from alterrec_jax.evaluation.metrics import metric_values, summarise
from alterrec_jax.evaluation.rank_counts import MISS
from alterrec_jax.evaluation.ranking import rank_rows
from tests.evaluation.examples import make_sessions
from tests.oracles.ranking import expected_by_permutation, expected_by_place

METRICS = ("hits", "ndcg", "mrr")


def values(above, equal, k):
    found = metric_values(np.array(above, np.int32), np.array(equal, np.int32), (k,))
    return {metric: found[f"{metric}@{k}"].tolist() for metric in METRICS}


@pytest.mark.parametrize("k", [1, 3, 10])
def test_every_order_of_the_tied_items(k):
    for above in (0, 1, 2, 3, 9, 10, 11):
        for equal in range(1, 7):
            for metric, found in values([above], [equal], k).items():
                assert found[0] == pytest.approx(expected_by_permutation(metric, above, equal, k), abs=1e-12)


def test_random_places():
    rng = np.random.default_rng(3)
    above, equal = rng.integers(0, 40, 211), rng.integers(1, 50, 211)
    for k in (1, 7, 20, 1009):
        for metric, found in values(above, equal, k).items():
            wanted = [expected_by_place(metric, g, e, k) for g, e in zip(above, equal, strict=True)]
            np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-15)


def test_by_hand():
    # ranking: above  equal
    # first:       0      1   place 1
    # second:      1      1   place 2
    # tied:        1      2   place 2 or 3
    # on the edge: 2      2   place 3 or 4, of which 4 is beyond K = 3
    # beyond:      3      1   place 4
    found = values([0, 1, 1, 2, 3], [1, 1, 2, 2, 1], 3)
    assert found["hits"] == [1, 1, 1, 0.5, 0]
    assert found["mrr"] == pytest.approx([1, 1 / 2, (1 / 2 + 1 / 3) / 2, 1 / 3 / 2, 0])
    assert found["ndcg"] == pytest.approx([1, 1 / math.log2(3), (1 / math.log2(3) + 0.5) / 2, 0.25, 0])


def test_a_miss_gives_nothing_even_if_k_exceeds_the_catalogue():
    assert values([MISS], [1], 100_000) == {"hits": [0.0], "ndcg": [0.0], "mrr": [0.0]}


def test_k_beyond_the_catalogue_hits_every_candidate():
    assert values([0, 4, 0], [1, 1, 5], 50)["hits"] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("catalogue", [20, 23, 12_101])
def test_constant_scores_give_k_of_the_catalogue(catalogue):
    targets = select_targets(make_sessions([[1, 0], [1, 7], [2, catalogue - 1]]), "last")
    ranks = rank_rows(lambda start, stop: np.ones((stop - start, catalogue)), "x", targets, catalogue=catalogue)
    assert summarise(ranks.above, ranks.equal)["hits@20"] == pytest.approx(20 / catalogue, rel=1e-15)


def test_summarise():
    found = summarise(np.array([0, 15]), np.array([1, 1]))
    assert list(found) == ["hits@10", "ndcg@10", "mrr@10", "hits@20", "ndcg@20", "mrr@20"]
    assert (found["hits@10"], found["hits@20"]) == (0.5, 1.0)
    with pytest.raises(ValueError, match="no targets"):
        summarise(np.zeros(0, np.int32), np.zeros(0, np.int32))
