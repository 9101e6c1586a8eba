"""The k best, in pages as GPUs take them and whole, against a slow sort."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.scoring import top_k as module
from alterrec_jax.scoring.top_k import top_k


def oracle(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """By sorting every row; a stable sort keeps equal scores in order of their columns."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), order


@pytest.mark.parametrize("form", [top_k, module._in_pages])
@pytest.mark.parametrize(
    ("rows", "columns", "k"), [(7, 61, 1), (7, 61, 16), (7, 61, 17), (3, 61, 61), (0, 40, 20), (5, 300, 128)]
)
def test_the_best_are_those_of_a_sort(form, rows, columns, k):
    rng = np.random.default_rng(columns + k)
    scores = rng.integers(-3, 3, (rows, columns)).astype(np.float32)  # most are equal to others
    scores[rng.random(scores.shape) < 0.3] = -np.inf  # more than k, so that these are taken too
    values, found = jax.jit(functools.partial(form, k=k))(scores)
    expected_values, expected = oracle(scores, k)
    np.testing.assert_array_equal(values, expected_values)
    np.testing.assert_array_equal(found, expected)


def test_zeros_of_either_sign_are_equal():
    scores = np.zeros((1, 50), np.float32)
    scores[0, ::2] = -0.0
    np.testing.assert_array_equal(module._in_pages(jnp.asarray(scores), k=40)[1][0], np.arange(40))


@pytest.mark.parametrize(("k", "asked"), [(5, [5]), (16, [16]), (20, [16, 4]), (64, [16] * 4), (200, [200])])
def test_no_more_is_asked_of_a_gpu_at_once_than_it_has_a_kernel_for(k, asked):
    traced = jax.jit(functools.partial(top_k, k=k)).trace(jax.ShapeDtypeStruct((8, 1000), jnp.float32))
    of = {platform: _asked(traced.lower(lowering_platforms=(platform,)).as_text()) for platform in ("cpu", "cuda")}
    assert of == {"cpu": [k], "cuda": asked}


def _asked(program: str) -> list[int]:
    return [int(k) for k in re.findall(r"chlo\.top_k.*k = (\d+)", program)]
