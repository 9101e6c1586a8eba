"""Alpha-entmax against exact forms at both of its ends, and its gradients against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.nn import entmax as module
from alterrec_jax.nn.entmax import entmax

RNG = np.random.default_rng(0)
SCORES = (RNG.normal(size=(300, 21)) * np.exp(RNG.normal(size=(300, 1)))).astype(np.float32)
WHERE = RNG.random((300, 21)) < 0.6
WHERE[:, 0] = True


def sparsemax(scores: np.ndarray) -> np.ndarray:
    """[n], by sorting (Martins and Astudillo, 2016)."""
    ranked = np.sort(scores)[::-1]
    thresholds = (np.cumsum(ranked) - 1) / np.arange(1, len(scores) + 1)
    return np.maximum(scores - thresholds[np.flatnonzero(ranked > thresholds)[-1]], 0)


def softmax(scores: np.ndarray) -> np.ndarray:
    """[n]."""
    shifted = np.exp(scores - scores.max())
    return shifted / shifted.sum()


@pytest.mark.parametrize("alpha, exact, atol", [(2.0, sparsemax, 1e-6), (1.0, softmax, 2e-5)])
def test_its_ends_are_sparsemax_and_softmax_of_what_is_there(alpha: float, exact: object, atol: float) -> None:
    """At 1 it stops 1e-5 short, and so many squares of a score lie between it and softmax."""
    found = np.asarray(entmax(jnp.asarray(SCORES), jnp.full((300, 1), alpha), jnp.asarray(WHERE)))
    for weights, scores, where in zip(found, SCORES.astype(np.float64), WHERE, strict=True):
        np.testing.assert_allclose(weights[where], exact(scores[where]), atol=atol)  # type: ignore[operator]
        assert not weights[~where].any()
    assert np.any(found[WHERE] == 0) == (alpha == 2)


@pytest.mark.parametrize("alpha", [1.001, 1.5, 2.0])
def test_its_halvings_are_as_many_as_float32_can_tell_apart(alpha: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are as exact as rounding the scores lets them be; with four halvings less, sparsemax is not."""
    with jax.enable_x64(True):
        exact = np.asarray(entmax(jnp.asarray(SCORES, jnp.float64), jnp.full((300, 1), np.float64(alpha)), WHERE))

    def error() -> float:
        found = entmax(jnp.asarray(SCORES), jnp.full((300, 1), alpha, jnp.float32), jnp.asarray(WHERE))
        return float(np.abs(np.asarray(found) - exact).max())

    assert error() < 8e-7
    if alpha == 2:
        monkeypatch.setattr(module, "_halvings", lambda dtype: 20)
        assert error() > 1.6e-6


def test_gradients_are_those_of_finite_differences() -> None:
    """Of scores, and of an alpha that rows share, near softmax too, where its terms nearly cancel."""
    step, weigh = 1e-5, RNG.normal(size=(3, 6))
    scores, where = SCORES[:3, :6].astype(np.float64), WHERE[:3, :6]
    with jax.enable_x64(True):

        @jax.jit
        def value(scores: jax.Array, alpha: jax.Array) -> jax.Array:
            return jnp.sum(jnp.asarray(weigh) * entmax(scores, alpha, jnp.asarray(where)))

        gradients = jax.jit(jax.grad(value, (0, 1)))
        for alpha in (np.full((1, 1), 1.002), np.full((1, 1), 1.3), RNG.uniform(1.5, 1.95, (3, 1))):
            of_scores, of_alpha = (np.asarray(part) for part in gradients(scores, alpha))
            for place in np.ndindex(scores.shape):
                shift = np.zeros_like(scores)
                shift[place] = step
                slope = (value(scores + shift, alpha) - value(scores - shift, alpha)) / (2 * step)
                np.testing.assert_allclose(of_scores[place], slope, rtol=1e-5, atol=1e-8)
            for place in np.ndindex(alpha.shape):
                shift = np.zeros_like(alpha)
                shift[place] = step
                slope = (value(scores, alpha + shift) - value(scores, alpha - shift)) / (2 * step)
                np.testing.assert_allclose(of_alpha[place], slope, rtol=1e-5, atol=1e-8)


def test_float32_gradients_are_exact_near_softmax() -> None:
    gradient = jax.jit(jax.grad(lambda z, a, w: jnp.sum(w * entmax(z, a, jnp.ones(z.shape, bool))), (0, 1)))
    weigh = RNG.normal(size=SCORES.shape)
    for alpha in (1.0003, 1.01, 1.6):
        alphas = np.full((300, 1), alpha, np.float32)
        found = gradient(jnp.asarray(SCORES), jnp.asarray(alphas), jnp.asarray(weigh, jnp.float32))
        with jax.enable_x64(True):
            exact = gradient(*(jnp.asarray(part, jnp.float64) for part in (SCORES, alphas, weigh)))
        for one, other in zip(found, exact, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-5)


def test_what_is_masked_is_as_if_removed_and_nothing_at_all_is_finite() -> None:
    def value(scores: jax.Array, alpha: jax.Array, where: jax.Array) -> jax.Array:
        return jnp.sum(jnp.arange(1.0, scores.shape[1] + 1)[None] * entmax(scores, alpha, where))

    alpha, kept = jnp.full((1, 1), 1.4), jnp.asarray([[0.3, -1.0, 0.9]])
    masked = jnp.concatenate([kept, jnp.asarray([[50.0, -jnp.inf]])], axis=1)
    where = jnp.asarray([[True, True, True, False, False]])
    both = jax.jit(jax.value_and_grad(value, (0, 1)))
    found, alone = both(masked, alpha, where), both(kept, alpha, where[:, :3])
    np.testing.assert_allclose(found[0], alone[0], rtol=1e-6)
    np.testing.assert_allclose(found[1][0][:, :3], alone[1][0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1][1], alone[1][1], rtol=1e-5)
    assert not found[1][0][:, 3:].any()

    nothing = both(masked, alpha, jnp.zeros_like(where))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(nothing))  # zeros, neither inf nor nan
