"""The cross-entropies of a run's history against NumPy, and the sample that they are measured on."""

from collections.abc import Iterator

import numpy as np
import pytest

from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.targets import Targets, select_targets
from alterrec_jax.evaluation.cross_entropy import mean_cross_entropy, sample_of_training
from tests.evaluation.examples import fusion, make_dataset, make_sessions, random_sessions
from tests.oracles import losses as oracle

CATALOGUE, DIM = 29, {"id": 3, "text": 5}


def batches(queries: dict[str, np.ndarray], *cuts: int) -> Iterator[dict[str, np.ndarray]]:
    """The queries in pieces that end at `cuts` and at the end."""
    edges = [0, *cuts, len(queries["id"])]
    for start, stop in zip(edges, edges[1:], strict=False):
        yield {name: query[start:stop] for name, query in queries.items()}


@pytest.mark.parametrize("cuts", [(), (1, 2, 2, 40), (11,)])
@pytest.mark.parametrize("held", [8, 64])
def test_of_every_view_it_is_that_of_the_oracle(held: int, cuts: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    targets = select_targets(random_sessions(rng, 31, CATALOGUE), "all_prefixes")
    assert len(targets) > held and len(targets) % 8
    queries = {name: (4 * rng.normal(size=(len(targets), dim))).astype(np.float32) for name, dim in DIM.items()}
    tables = {name: rng.normal(size=(CATALOGUE, dim)).astype(np.float32) for name, dim in DIM.items()}
    tables["text"][20:] = tables["text"][2]  # ties
    views = fusion(0.3) | {"id under another name": {"id": 1.0, "text": 0.0}}
    found = mean_cross_entropy(batches(queries, *cuts), tables, views, targets, batch_size=held)
    assert list(found) == list(views)
    scores = {name: queries[name].astype(np.float64) @ tables[name].T for name in DIM}
    for view, weights in views.items():
        rows = sum(weight * scores[name] for name, weight in weights.items())
        losses = [
            oracle.cross_entropy(row[item], np.delete(row, item)) for row, item in zip(rows, targets.item, strict=True)
        ]
        assert found[view] == pytest.approx(np.mean(losses), rel=1e-5)
    assert found["id under another name"] == found["id"]


def test_scores_that_would_overflow_do_not() -> None:
    targets = Targets(np.zeros(1, np.int64), np.ones(1, np.int32), np.full(1, 3, np.int32))
    table = np.arange(5, dtype=np.float32)[:, None]
    found = mean_cross_entropy([{"id": np.full((1, 1), 1000, np.float32)}], {"id": table}, {"id": {"id": 1.0}}, targets)
    assert found == {"id": 1000.0}


@pytest.fixture
def dataset() -> Dataset:
    """Training sessions of 0 to 9 items."""
    train = random_sessions(np.random.default_rng(5), 61, CATALOGUE)
    return make_dataset(train, make_sessions([[0, 1]]), CATALOGUE, CATALOGUE)


def rows_of(targets: Targets) -> list[tuple[int, int, int]]:
    """(session, position, item) of each target."""
    return list(zip(*(column.tolist() for column in (targets.session, targets.position, targets.item)), strict=True))


@pytest.mark.parametrize("count", [1, 7, 53, 101])
def test_the_sample_is_of_whole_sessions_but_for_one_and_always_the_same(dataset: Dataset, count: int) -> None:
    sample = rows_of(sample_of_training(dataset, count))
    assert sample == rows_of(sample_of_training(dataset, count)), "the same in every call"
    everything = rows_of(select_targets(dataset.splits["train"], "all_prefixes"))
    assert len(everything) > count == len(sample)
    assert sample == sorted(set(sample)) and set(sample) <= set(everything)
    sessions = {session for session, _, _ in sample}
    cut = [s for s in sessions if {row for row in everything if row[0] == s} - set(sample)]
    assert len(cut) <= 1
    assert count < 53 or max(sessions) > 40, "not the first sessions"


def test_a_smaller_sample_is_of_the_larger_and_a_small_dataset_is_taken_whole(dataset: Dataset) -> None:
    assert set(rows_of(sample_of_training(dataset, 19))) < set(rows_of(sample_of_training(dataset, 47)))
    everything = rows_of(select_targets(dataset.splits["train"], "all_prefixes"))
    assert rows_of(sample_of_training(dataset, len(everything) + 1)) == everything
    assert rows_of(sample_of_training(dataset)) == everything
