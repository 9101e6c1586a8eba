"""Graphs of training sessions against a count in plain Python, and that no other split reaches them."""

import dataclasses
from collections import Counter
from itertools import permutations

import jax
import numpy as np

from alterrec_jax.contract import Reads
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.features import make_context
from alterrec_jax.data.graphs import GRAPHS, cooccurrence
from tests.evaluation.examples import make_sessions


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


def test_held_out_sessions_reach_no_graph_and_training_sessions_do(dataset: Dataset) -> None:
    reads = Reads(graphs=tuple(GRAPHS))
    nothing = make_sessions([])
    without = dataclasses.replace(dataset, splits={**dataset.splits, "validation": nothing, "test": nothing})
    leaked = dataclasses.replace(dataset, splits={**dataset.splits, "train": dataset.splits["test"]})
    own, same, planted = (jax.tree.leaves(make_context(d, reads, "float32")) for d in (dataset, without, leaked))
    for one, other in zip(own, same, strict=True):
        np.testing.assert_array_equal(one, other)
    assert any(one.shape != other.shape or (one != other).any() for one, other in zip(own, planted, strict=True))
