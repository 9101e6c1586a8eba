"""Neighbours against an oracle of their equations; what a session sums, however it is packed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.contract import ItemSums, Neighbours
from alterrec_jax.data.dataset import Dataset, Sessions
from alterrec_jax.data.targets import select_targets
from alterrec_jax.evaluation.rank_counts import RankingLimits
from alterrec_jax.evaluation.ranking import rank_rows, rank_targets
from alterrec_jax.models.neighbours import NeighbourConfig, NeighbourRankingConfig, latest_items
from alterrec_jax.scoring.item_sums import entries_of, scores_of_entries
from alterrec_jax.sharding import mesh
from tests.conftest import CATALOGUE
from tests.models.test_contract import batch_of
from tests.oracles import neighbours as oracle

RELATIONS = [("together", 1.0), ("together", 0.7), ("following", 0.5), ("following", 1.0)]


def sessions_of(train: Sessions) -> list[list[int]]:
    return [train[row].tolist() for row in range(len(train))]


def whole(matrix: Neighbours) -> np.ndarray:
    """float32 [known item, candidate]."""
    found = np.zeros((len(matrix), len(matrix)), np.float32)
    np.put_along_axis(found, np.asarray(matrix.items), np.asarray(matrix.weights), axis=1)
    return found


def expected(relation: str, decay: float, train: Sessions, l2: float) -> np.ndarray:
    if relation == "together":
        return oracle.together(sessions_of(train), CATALOGUE, l2)
    return oracle.following(sessions_of(train), CATALOGUE, l2, decay)


@pytest.mark.parametrize(("relation", "decay"), RELATIONS)
def test_the_matrix_is_that_of_the_equations(relation: str, decay: float, dataset: Dataset) -> None:
    train = dataset.splits["train"]
    found = whole(NeighbourConfig(relation=relation, decay=decay, ridge=2.0).fitted(train, CATALOGUE))
    # Items further away than decay^steps = 1e-3 are left out.
    of_equations = expected(relation, decay, train, 2.0)
    np.testing.assert_allclose(found, of_equations, rtol=1e-3, atol=2e-3 if decay < 1 else 1e-4)


def test_a_column_of_the_sparse_solution_solves_its_own_equations(dataset: Dataset) -> None:
    train, l2 = dataset.splits["train"], 3.0
    found = whole(NeighbourConfig(decay=1.0, ridge=l2, support=6, dense_items=0).fitted(train, CATALOGUE))
    held = np.zeros((len(train), CATALOGUE))
    for row, session in enumerate(sessions_of(train)):
        held[row, session] = 1
    gram = held.T @ held
    for candidate in range(CATALOGUE):
        counts = gram[candidate].copy()
        counts[candidate] = 0
        support = np.flatnonzero(found[:, candidate])
        assert len(support) <= 6 and candidate not in support
        assert counts[support].min(initial=np.inf) >= np.sort(counts)[-6]
        right = np.linalg.solve(gram[np.ix_(support, support)] + l2 * np.eye(len(support)), counts[support])
        np.testing.assert_allclose(found[support, candidate], right, rtol=2e-4, atol=1e-5)


def test_the_strongest_entries_of_a_row_are_kept(dataset: Dataset) -> None:
    train = dataset.splits["train"]
    all_of_them = whole(NeighbourConfig(decay=1.0, ridge=2.0).fitted(train, CATALOGUE))
    kept = NeighbourConfig(decay=1.0, ridge=2.0, neighbours=5).fitted(train, CATALOGUE)
    assert kept.items.shape == (CATALOGUE, 5)
    np.testing.assert_allclose(
        np.sort(np.abs(kept.weights), axis=1), np.sort(np.abs(all_of_them), axis=1)[:, -5:], rtol=1e-6
    )
    np.testing.assert_array_equal(np.take_along_axis(all_of_them, kept.items, axis=1), kept.weights)


def test_the_decay_follows_from_whether_the_order_is_real() -> None:
    assert NeighbourConfig().with_decay(ordered=False).decay == 1
    assert NeighbourConfig().with_decay(ordered=True).decay == 0.7
    assert NeighbourConfig(relation="following").with_decay(ordered=True).decay == 0.5
    assert NeighbourConfig(decay=0.9).with_decay(ordered=True).decay == 0.9


@pytest.mark.parametrize(("relation", "decay"), RELATIONS)
def test_what_is_fitted_commutes_with_item_numbers(relation: str, decay: float, dataset: Dataset) -> None:
    train = dataset.splits["train"]
    number = np.random.default_rng(0).permutation(CATALOGUE).astype(np.int32)
    config = NeighbourConfig(relation=relation, decay=decay)
    moved = whole(config.fitted(dataclasses.replace(train, items=number[train.items]), CATALOGUE))
    np.testing.assert_allclose(
        moved[np.ix_(number, number)], whole(config.fitted(train, CATALOGUE)), rtol=1e-3, atol=1e-5
    )


SESSIONS = [[3, 5, 3, 8], [4], [7, 7, 2], [1, 2, 3, 4, 5, 6, 7], [9, 9]]


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_a_prefix_sums_its_own_items_however_it_is_packed(decay: float, dataset: Dataset) -> None:
    matrix = NeighbourConfig(decay=1.0, ridge=2.0, neighbours=7).fitted(dataset.splits["train"], CATALOGUE)
    batch, ends = batch_of(SESSIONS)
    sums = latest_items(batch, decay, 50)
    found = np.asarray(scores_of_entries(entries_of(sums, jax.tree.map(jnp.asarray, matrix)), 0, CATALOGUE))
    prefixes = [session[:end] for session in SESSIONS for end in range(1, len(session) + 1)]
    in_batch = {tuple(prefix): oracle.scores(whole(matrix), prefix, decay) for prefix in prefixes}
    for session, end in zip(SESSIONS, ends, strict=True):
        np.testing.assert_allclose(found[end], in_batch[tuple(session)], rtol=1e-5, atol=1e-6)
    alone, (end,) = batch_of([SESSIONS[3]])
    for age in range(len(SESSIONS[3])):  # every prefix of it, and nothing after one reaches it
        of_prefix = latest_items(alone, decay, 50)
        scores = scores_of_entries(entries_of(of_prefix, jax.tree.map(jnp.asarray, matrix)), 0, CATALOGUE)
        prefix = SESSIONS[3][: len(SESSIONS[3]) - age]
        np.testing.assert_allclose(scores[end - age], in_batch[tuple(prefix)], rtol=1e-5, atol=1e-6)


def test_only_the_latest_items_are_summed() -> None:
    batch, (end,) = batch_of([[1, 2, 3, 4, 5]])
    sums = latest_items(batch, 0.5, 3)
    np.testing.assert_array_equal(sums.items[end], [5, 4, 3])
    np.testing.assert_array_equal(sums.weights[end], [1, 0.5, 0.25])


@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize("words", ["", "data:2,model:2"])
def test_ranks_are_those_of_the_rows_of_scores(blocks: bool, words: str, dataset: Dataset) -> None:
    config = NeighbourRankingConfig(decay=1.0, ridge=2.0, neighbours=7)
    test = dataset.splits["test"]
    targets = select_targets(test, "all_prefixes")
    rows = config.rows(dataset, test, targets)
    plain = rank_rows(rows, "neighbours", targets, catalogue=CATALOGUE, exclude=test)
    matrix = config.fitted(dataset.splits["train"], CATALOGUE)
    sums = _sums(test, targets.session, targets.position)
    limits = RankingLimits(whole_rows=8, block=16, lane=8) if blocks else RankingLimits()
    with mesh.used(mesh.make_mesh(words or "data:1", jax.devices()[: 4 if words else 1])):
        ranks = rank_targets(
            [{"neighbours": sums}],
            {"neighbours": matrix},
            {"neighbours": {"neighbours": 1.0}},
            targets,
            catalogue=CATALOGUE,
            exclude=test,
            limits=limits,
        )["neighbours"]
    np.testing.assert_array_equal(ranks.above, plain.above)
    np.testing.assert_array_equal(ranks.equal, plain.equal)


def _sums(sessions: Sessions, session: np.ndarray, position: np.ndarray) -> ItemSums:
    """The items of each prefix that the catalogue has, the latest first, each once."""
    width = int(position.max())
    sums = ItemSums(np.zeros((len(session), width), np.int32), np.zeros((len(session), width), np.float32))
    for row, (of, end) in enumerate(zip(session, position, strict=True)):
        prefix = [item for item in sessions[of].tolist()[:end] if item < CATALOGUE]
        for place, item in enumerate(dict.fromkeys(reversed(prefix))):
            sums.items[row, place], sums.weights[row, place] = item, 1
    return sums
