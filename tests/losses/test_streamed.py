"""The sampled softmax with augmented positives, by value, by gradient and by property, whole and in blocks of items."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.hard_negatives.sets import CountedNegatives
from alterrec_jax.losses.softmax import sampled_softmax_loss
from alterrec_jax.losses.streamed import log_sum_exp
from tests.oracles import losses as oracle

PREFIXES, ITEMS, POSITIVES, BETA = 7, 13, 3, 0.7


class Scores(NamedTuple):
    """The arguments of the loss but beta, as NumPy arrays."""

    target_scores: np.ndarray
    negative_scores: np.ndarray
    negative_counts: np.ndarray
    positive_scores: np.ndarray
    positive_where: np.ndarray


def random_scores(seed: int, scale: float = 2.0) -> Scores:
    """Counts from 0 to 3, one prefix without any negative, one without any positive."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 4, (PREFIXES, ITEMS)).astype(np.float32)
    counts[2] = 0
    where = rng.random((PREFIXES, POSITIVES)) < 0.6
    where[4] = False
    return Scores(
        (scale * rng.normal(size=PREFIXES)).astype(np.float32),
        (scale * rng.normal(size=(PREFIXES, ITEMS))).astype(np.float32),
        counts,
        (scale * rng.normal(size=(PREFIXES, POSITIVES))).astype(np.float32),
        where,
    )


def expected(scores: Scores, beta: float) -> np.ndarray:
    """float64 [prefix], by the oracle."""
    return np.array(
        [
            oracle.sampled_softmax(target, np.repeat(row, count.astype(int)), positives[where], beta)
            for target, row, count, positives, where in zip(*scores, strict=True)
        ]
    )


BLOCKS = (ITEMS, 1, 4, ITEMS - 1)
"""Items at a time: all of them, one, and two that leave a rest."""


@functools.partial(jax.jit, static_argnames="block")
def loss(
    target_scores: Any,
    negative_scores: Any,
    negative_counts: Any,
    positive_scores: Any = None,
    positive_where: Any = None,
    beta: float = 0.0,
    block: int | None = None,
) -> jax.Array:
    """The loss of given scores: queries that are their rows, against a table that is the identity."""
    no_target = jnp.full(len(negative_scores), -1)
    negatives = CountedNegatives(jnp.asarray(negative_counts, jnp.float32), no_target)
    log_sum = log_sum_exp(negative_scores, jnp.eye(negative_scores.shape[1]), negatives, block=block)
    return sampled_softmax_loss(target_scores, log_sum, positive_scores, positive_where, beta)


@functools.partial(jax.jit, static_argnames="block")
def gradients(scores: Scores, block: int | None = None) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of the summed loss, with respect to the scores of target, negatives and positives."""

    def total(target: jax.Array, negative: jax.Array, positive: jax.Array) -> jax.Array:
        filled = Scores(target, negative, scores.negative_counts, positive, scores.positive_where)
        return jnp.sum(loss(*filled, beta=BETA, block=block))

    return jax.grad(total, (0, 1, 2))(scores.target_scores, scores.negative_scores, scores.positive_scores)


def expected_gradients(scores: Scores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Central differences of the oracle, which is float64."""
    doubles = Scores(*(np.asarray(part, bool if part.dtype == bool else np.float64) for part in scores))
    found, step = [], 1e-5
    for name in ("target_scores", "negative_scores", "positive_scores"):
        part = getattr(doubles, name)
        slopes = np.empty_like(part)
        for place in np.ndindex(part.shape):
            sides = []
            for moved in (step, -step):
                changed = part.copy()
                changed[place] += moved
                sides.append(expected(doubles._replace(**{name: changed}), BETA)[place[0]])
            slopes[place] = (sides[0] - sides[1]) / (2 * step)
        found.append(slopes)
    return found[0], found[1], found[2]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("beta", [0.0, BETA])
@pytest.mark.parametrize("block", BLOCKS)
def test_values_are_those_of_the_oracle(seed: int, beta: float, block: int) -> None:
    scores = random_scores(seed)
    found = loss(*scores, beta=beta, block=block)
    assert found.shape == (PREFIXES,) and found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected(scores, beta), rtol=1e-5, atol=1e-6)


def test_expected_numbers_by_hand() -> None:
    target, negatives = jnp.array([0.0]), jnp.array([[0.0, 0.0, 0.0]])
    np.testing.assert_allclose(loss(target, negatives, jnp.array([[True, True, True]])), [np.log(4)], rtol=1e-6)
    np.testing.assert_allclose(loss(target, negatives, jnp.array([[0, 5, 2]])), [np.log(8)], rtol=1e-6)
    positives, where = jnp.array([[np.log(3.0), 100.0]], jnp.float32), jnp.array([[True, False]])
    found = loss(target, negatives, jnp.array([[1, 1, 1]]), positives, where, beta=0.5)
    np.testing.assert_allclose(found, [np.log(4) + 0.5 * np.log(2)], rtol=1e-6)


@pytest.mark.parametrize("block", BLOCKS)
def test_gradients_are_those_of_the_oracle(block: int) -> None:
    scores = random_scores(3)
    for found, wanted in zip(gradients(scores, block), expected_gradients(scores), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block", BLOCKS)
def test_huge_scores_stay_finite(block: int) -> None:
    scores = random_scores(4, scale=1e4)
    found = np.asarray(loss(*scores, beta=BETA, block=block))
    np.testing.assert_allclose(found, expected(scores, BETA), rtol=1e-5)
    assert found.max() > 1e4
    for gradient in gradients(scores, block):
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("masked", [3e38, -3e38])
@pytest.mark.parametrize("block", BLOCKS)
def test_masked_items_do_not_matter_however_large(masked: float, block: int) -> None:
    scores = random_scores(5)
    out = scores.negative_counts == 0
    wild = scores._replace(
        negative_scores=np.where(out, np.float32(masked), scores.negative_scores),
        positive_scores=np.where(scores.positive_where, scores.positive_scores, np.float32(masked)),
    )
    np.testing.assert_array_equal(loss(*wild, beta=BETA, block=block), loss(*scores, beta=BETA, block=block))
    for found, wanted in zip(gradients(wild, block), gradients(scores, block), strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("block", BLOCKS)
def test_no_negatives_give_no_loss_and_no_gradient(block: int) -> None:
    scores = random_scores(6)
    assert not scores.negative_counts[2].any() and scores.positive_where[2].any()
    assert loss(*scores, beta=BETA, block=block)[2] == 0
    for gradient in gradients(scores, block):
        assert np.isfinite(gradient).all() and not np.asarray(gradient)[2].any()


def test_masking_an_item_equals_removing_it() -> None:
    scores = random_scores(7)
    item = int(np.argmax(scores.negative_counts.sum(axis=0)))
    masked = scores.negative_counts.copy()
    masked[:, item] = 0
    kept = np.delete(np.arange(ITEMS), item)
    removed = scores._replace(
        negative_scores=scores.negative_scores[:, kept], negative_counts=scores.negative_counts[:, kept]
    )
    found = np.asarray(loss(*scores._replace(negative_counts=masked), beta=BETA))
    np.testing.assert_allclose(found, loss(*removed, beta=BETA), rtol=1e-6)
    assert not np.allclose(found, loss(*scores, beta=BETA))


def test_masking_a_positive_equals_removing_it() -> None:
    scores = random_scores(8)
    masked = scores.positive_where.copy()
    masked[:, 1] = False
    kept = [0, 2]
    removed = scores._replace(
        positive_scores=scores.positive_scores[:, kept], positive_where=scores.positive_where[:, kept]
    )
    found = np.asarray(loss(*scores._replace(positive_where=masked), beta=BETA))
    np.testing.assert_allclose(found, loss(*removed, beta=BETA), rtol=1e-6)
    assert not np.allclose(found, loss(*scores, beta=BETA))


def test_an_item_counted_twice_equals_two_items_of_its_score() -> None:
    scores = random_scores(9)
    twice = scores._replace(
        negative_scores=np.repeat(scores.negative_scores, 3, axis=1),
        negative_counts=(np.tile(np.arange(3), ITEMS)[None, :] < np.repeat(scores.negative_counts, 3, axis=1)),
    )
    np.testing.assert_allclose(loss(*scores, beta=BETA), loss(*twice, beta=BETA), rtol=1e-5, atol=1e-6)


def test_beta_zero_and_no_positives_equal_no_augmentation() -> None:
    scores = random_scores(10)
    plain = loss(*scores[:3])
    np.testing.assert_array_equal(loss(*scores, beta=0.0), plain)
    nothing = scores._replace(positive_where=np.zeros_like(scores.positive_where))
    np.testing.assert_array_equal(loss(*nothing, beta=BETA), plain)
