"""Rank windows and negatives against a ranking that is sorted in plain Python."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.hard_negatives.rank_window import (
    drawn_from_window,
    in_window,
    peer_window,
    random_negatives,
    rank_window,
)
from alterrec_jax.hard_negatives.search import SearchSettings, kth_best
from alterrec_jax.numerics import MemoryLimits
from tests.oracles import mining as oracle

PREFIXES, ITEMS = 5, 23


def scores_with_ties(seed: int, kind: str) -> np.ndarray:
    """float32 [prefix, item]: integer scores tie heavily, and rows of one value tie everywhere."""
    rng = np.random.default_rng(seed)
    if kind == "distinct":
        return rng.permuted(np.tile(np.arange(ITEMS, dtype=np.float32), (PREFIXES, 1)), axis=1)
    if kind == "constant":
        return np.full((PREFIXES, ITEMS), -1.5, np.float32)
    return rng.integers(-2, 3, (PREFIXES, ITEMS)).astype(np.float32)


WINDOWS = [(0, 7, 0), (0, 1, 0), (0, ITEMS, 0), (3, 4, 3), (5, 13, 2), (5, 13, 0), (6, ITEMS, 6), (ITEMS - 1, ITEMS, 1)]


@pytest.mark.parametrize("selection", ["search", "top_k"])
@pytest.mark.parametrize(("k1", "k2", "p"), WINDOWS)
def test_window_is_that_of_the_oracle(selection: str, k1: int, k2: int, p: int) -> None:
    search = SearchSettings(sorted_up_to=1)  # so that these small windows are searched for
    scores = np.concatenate([scores_with_ties(k2 + 31 * k1, kind) for kind in ("distinct", "ties", "constant")])

    @jax.jit
    def mined(scores: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = rank_window(scores, k1, k2, p, selection, search=search)
        return in_window(scores, found), found.best

    inside, bests = (np.asarray(array) for array in mined(jnp.asarray(scores)))
    assert inside.shape == scores.shape
    for row, mask, best in zip(scores.tolist(), inside, bests, strict=True):
        assert set(np.flatnonzero(mask).tolist()) == oracle.window(row, k1, k2)
        assert best.tolist() == oracle.top(row, p)
        assert set(best.tolist()).isdisjoint(np.flatnonzero(mask).tolist())
    assert (inside[:PREFIXES].sum(axis=1) == k2 - k1).all(), "without ties"


@pytest.mark.parametrize("selection", ["search", "top_k"])
@pytest.mark.parametrize("k", [1, 2, 100, 1_500, 2_999, 3_000])
@pytest.mark.parametrize("written_out", [6, 0])
def test_kth_best_of_long_rows(selection: str, k: int, written_out: int) -> None:
    search = SearchSettings(sorted_up_to=1, written_out=written_out)
    rng = np.random.default_rng(k)
    rows = [
        rng.normal(size=3_000),
        np.exp(20 * rng.normal(size=3_000)),  # a few are larger than all others together
        np.round(rng.normal(size=3_000), 1),
        np.where(rng.random(3_000) < 0.9, -1.0, rng.normal(size=3_000) * 1e-30),
        np.full(3_000, 7.0),
        np.arange(3_000) - 3_000.0,
        np.concatenate([[3e38, -3e38], np.zeros(2_998)]),
    ]
    scores = np.asarray([*rows, *rng.normal(size=(90, 3_000))], np.float32)
    border = np.asarray(jax.jit(lambda scores: kth_best(scores, k, selection, search=search))(jnp.asarray(scores)))
    best = -np.sort(-scores, axis=1)
    reach, wanted = scores >= border[:, None], scores >= best[:, [k - 1]]
    np.testing.assert_array_equal(reach, wanted)
    if selection == "top_k":
        np.testing.assert_array_equal(border, best[:, k - 1])


def test_approximate_borders_miss_few() -> None:
    scores = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3_000)), jnp.float32)
    inside = in_window(scores, rank_window(scores, 100, 1_500, 5, "approx"))
    np.testing.assert_allclose(inside.sum(axis=1), 1_400, rtol=0.1)


@pytest.mark.parametrize(("k1", "k2", "p"), WINDOWS)
def test_window_of_few_prefixes_at_a_time(k1: int, k2: int, p: int) -> None:
    rng = np.random.default_rng(1)
    queries, table = rng.integers(-2, 3, (7, 4)).astype(np.float32), rng.integers(-2, 3, (ITEMS, 4)).astype(np.float32)
    too_few = MemoryLimits(scores=7 * ITEMS - 1, scores_of_piece=3 * ITEMS - 1, items_of_product=5)
    scores, bests = jnp.asarray(queries @ table.T), []
    for limits in (MemoryLimits(), too_few):
        window = jax.jit(lambda *arrays: peer_window(*arrays, k1, k2, p, limits=limits))(queries, table)  # noqa: B023
        bests.append(window.best)
        for mask, row in zip(np.asarray(in_window(scores, window)), scores.tolist(), strict=True):
            assert set(np.flatnonzero(mask).tolist()) == oracle.window(row, k1, k2)
    np.testing.assert_array_equal(*bests)


@pytest.mark.parametrize("selection", ["search", "top_k"])
def test_borders_hold_for_scores_that_are_rounded_otherwise(selection: str) -> None:
    k1, k2, prefixes, items = 20, 500, 40, 3_001
    rng = np.random.default_rng(2)
    queries, table = (jnp.asarray(rng.normal(size=(n, 64)), jnp.float32) for n in (prefixes, items))
    window = peer_window(queries, table, k1, k2, k1, selection, limits=MemoryLimits(scores=prefixes * items - 1))
    exact = np.asarray(queries, np.float64) @ np.asarray(table, np.float64).T
    nearby = jnp.asarray(exact + 1e-6 * np.abs(exact) * rng.uniform(-1, 1, exact.shape), jnp.float32)
    inside = np.asarray(in_window(nearby, window))
    np.testing.assert_array_equal(inside.sum(axis=1), k2 - k1)
    assert not np.take_along_axis(inside, np.asarray(window.best), axis=1).any()


def shared_draw(counts: np.ndarray, order: np.ndarray, k1: int, k2: int, hard: int) -> np.ndarray:
    """float32 [item]: the uniform negatives that all prefixes share.

    They are what is left once some `hard` ranks of the window, the same for every prefix, have been taken away.
    """
    for ranks in itertools.combinations(range(k1, k2), hard):
        left = counts.copy()
        for prefix, items in enumerate(order):
            left[prefix, items[list(ranks)]] -= 1
        if (left >= 0).all() and (left == left[0]).all():
            return left[0]
    raise AssertionError("no choice of ranks within the window explains the negatives")


@pytest.mark.parametrize("kind", ["distinct", "ties"])
@pytest.mark.parametrize(("hard_fraction", "hard"), [(0.5, 5), (0.3, 3), (0.01, 0), (1.0, 10)])
def test_drawn_negatives_mix_the_window_with_the_catalogue(kind: str, hard_fraction: float, hard: int) -> None:
    k1, k2 = 7, 17
    scores = scores_with_ties(11, kind)
    counts = np.asarray(drawn_from_window(jax.random.key(3), jnp.asarray(scores), k1, k2, hard_fraction))
    assert counts.shape == (PREFIXES, ITEMS) and counts.dtype == np.float32
    np.testing.assert_array_equal(counts.sum(axis=1), k2 - k1)
    order = np.array([oracle.ranking(row) for row in scores.tolist()])
    uniform = shared_draw(counts, order, k1, k2, hard)
    assert uniform.sum() == k2 - k1 - hard
    for row, count in zip(scores.tolist(), counts - uniform, strict=True):
        assert set(np.unique(count)) <= {0.0, 1.0}, "hard negatives are drawn without replacement"
        mined = set(np.flatnonzero(count).tolist())
        assert len(mined) == hard and mined <= set(oracle.ranking(row)[k1:k2])


def test_drawn_negatives_are_uniform_over_window_and_catalogue() -> None:
    k1, k2, draws = 7, 17, 2000
    scores = jnp.arange(ITEMS, 0, -1, dtype=jnp.float32)[None, :]  # item i has rank i
    keys = jax.random.split(jax.random.key(5), draws)
    counts = np.asarray(jax.vmap(lambda key: drawn_from_window(key, scores, k1, k2, 0.5))(keys))[:, 0].mean(axis=0)
    expected = np.full(ITEMS, 5 / ITEMS)
    expected[k1:k2] += 5 / 10
    # Eight standard errors of a mean of 2000 draws; a window that is off by one is 30 off.
    np.testing.assert_allclose(counts, expected, atol=8 * 0.7 / draws**0.5)


def test_random_negatives_are_distinct_and_uniform() -> None:
    count, draws = 5, 2000
    keys = jax.random.split(jax.random.key(0), draws)
    drawn = np.asarray(jax.vmap(lambda key: random_negatives(key, ITEMS, count))(keys))
    assert drawn.shape == (draws, count) and drawn.dtype == np.int32
    assert drawn.min() >= 0 and drawn.max() < ITEMS
    assert (np.diff(np.sort(drawn, axis=1), axis=1) > 0).all(), "drawn without replacement"
    share = np.bincount(drawn.ravel(), minlength=ITEMS) / draws
    np.testing.assert_allclose(share, count / ITEMS, atol=8 * 0.42 / draws**0.5)


def test_random_negatives_can_be_the_whole_catalogue_and_depend_on_the_key() -> None:
    first, second = (np.asarray(random_negatives(jax.random.key(seed), ITEMS, ITEMS)) for seed in (1, 2))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(ITEMS))
    assert first.tolist() != second.tolist()
