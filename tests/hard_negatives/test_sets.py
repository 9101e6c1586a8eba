"""Every set of negatives against a loop, for the whole catalogue and for stretches of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.hard_negatives.rank_window import peer_window, random_negatives
from alterrec_jax.hard_negatives.sets import (
    CountedNegatives,
    Negatives,
    SharedNegatives,
    WholeCatalogue,
    WindowNegatives,
)
from tests.oracles import mining as oracle

PREFIXES, ITEMS, DIM, K1, K2 = 7, 23, 4, 3, 17
TARGETS = np.array([0, 22, 5, 5, 11, 7, 16], np.int32)


def assert_counts(negatives: Negatives, wanted: np.ndarray) -> None:
    """Compares whole and by stretches, whose ends are not those of the candidates."""
    candidates = wanted.shape[1]
    np.testing.assert_array_equal(negatives.counts(0, candidates), wanted)
    for start, size in ((0, 5), (4, 5), (candidates - 3, 3)):
        slice_rows = jax.jit(negatives.counts, static_argnums=1)(jnp.int32(start), size)
        np.testing.assert_array_equal(slice_rows, wanted[:, start : start + size])


def test_window() -> None:
    rng = np.random.default_rng(0)
    queries, table = (rng.integers(-2, 3, (n, DIM)).astype(np.float32) for n in (PREFIXES, ITEMS))  # many ties
    wanted = np.zeros((PREFIXES, ITEMS))
    for row, scores in enumerate((queries @ table.T).tolist()):
        for item in oracle.window(scores, K1, K2) - {int(TARGETS[row])}:
            wanted[row, item] = 1
    window = peer_window(queries, table, K1, K2)
    assert_counts(WindowNegatives(jnp.asarray(queries), jnp.asarray(table), window, jnp.asarray(TARGETS)), wanted)


def test_every_other() -> None:
    wanted = np.ones((PREFIXES, ITEMS))
    for row, target in enumerate(TARGETS.tolist()):
        wanted[row, target] = 0
    assert_counts(WholeCatalogue(jnp.asarray(TARGETS)), wanted)
    every_stretch = WholeCatalogue(jnp.asarray(TARGETS)).counts
    for start in (0, 5, 16, ITEMS - 1):
        for size in (1, ITEMS - start):
            np.testing.assert_array_equal(every_stretch(start, size), wanted[:, start : start + size])


def test_counted() -> None:
    of_items = np.random.default_rng(1).integers(0, 4, (PREFIXES, ITEMS)).astype(np.float32)
    wanted = of_items.copy()
    wanted[np.arange(PREFIXES), TARGETS] = 0
    assert of_items[np.arange(PREFIXES), TARGETS].any()
    assert_counts(CountedNegatives(jnp.asarray(of_items), jnp.asarray(TARGETS)), wanted)


@pytest.mark.parametrize("count", [8, 9, ITEMS - 1])
def test_shared(count: int) -> None:
    met = 0
    for seed in range(5):
        items = np.asarray(random_negatives(jax.random.key(seed), ITEMS, count + 1))
        wanted = np.zeros((PREFIXES, count + 1))
        for row, target in enumerate(TARGETS.tolist()):
            kept = [place for place, item in enumerate(items.tolist()) if item != target][:count]
            wanted[row, kept] = 1
            met += target in items[:count]
        assert (wanted.sum(axis=1) == count).all()
        assert_counts(SharedNegatives.of(jnp.asarray(items), jnp.asarray(TARGETS)), wanted)
    assert met, "no prefix met its own target"
