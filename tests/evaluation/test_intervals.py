"""Bootstrap intervals: what is drawn, how wide they are, and that a seed repeats them."""

import numpy as np
import pytest

from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.intervals import Bootstrap, percentile_interval, resampled_means


def interval(values, session, **settings):
    settings = Bootstrap(**settings)
    return percentile_interval(resampled_means(values[:, None], session, settings))[:, 0]


def test_equals_drawing_sessions_one_by_one():
    rng = np.random.default_rng(0)
    session = np.sort(rng.choice([3, 5, 6, 11, 12, 30, 31], 23))
    values = rng.random((23, 2))
    found = resampled_means(values, session, Bootstrap(resamples=13, seed=5))
    names, draws = np.unique(session), np.random.default_rng(5)
    for row in found:
        drawn = names[draws.integers(0, len(names), len(names))]
        rows = np.concatenate([np.flatnonzero(session == name) for name in drawn])
        np.testing.assert_allclose(row, values[rows].mean(axis=0), rtol=1e-12)


def test_a_seed_repeats_and_another_differs():
    values, session = np.random.default_rng(1).random(50), np.arange(50)
    assert interval(values, session, seed=3).tolist() == interval(values, session, seed=3).tolist()
    assert interval(values, session, seed=3).tolist() != interval(values, session, seed=4).tolist()


def test_blocks_do_not_change_the_draws():
    values, session = np.random.default_rng(1).random((50, 1)), np.repeat(np.arange(10), 5)
    whole = resampled_means(values, session, Bootstrap())
    np.testing.assert_allclose(resampled_means(values, session, Bootstrap(), draws_at_once=70), whole, rtol=1e-12)


def test_width_is_that_of_the_normal_approximation():
    values = np.random.default_rng(2).random(997)
    low, high = interval(values, np.arange(997), resamples=2000)
    error = values.std() / np.sqrt(997)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)


def test_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(4)
    covered = 0
    for seed in range(200):
        of_session = rng.random(101)  # all targets of a session share one value, of mean 0.5
        low, high = interval(np.repeat(of_session, 3), np.repeat(np.arange(101), 3), seed=seed, resamples=200)
        covered += low <= 0.5 <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_prefixes_of_one_session_count_as_one_draw():
    of_session = np.random.default_rng(5).random(101)
    once = interval(of_session, np.arange(101))
    copied = interval(np.repeat(of_session, 7), np.repeat(np.arange(101), 7))
    np.testing.assert_allclose(copied, once, rtol=1e-12)


def test_one_session_has_no_width_and_none_is_an_error():
    assert interval(np.array([0.25, 0.75]), np.array([8, 8])).tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match="no targets"):
        resampled_means(np.zeros((0, 1)), np.zeros(0, np.int64), Bootstrap())


def test_settings_that_make_no_sense():
    with pytest.raises(UserError, match="bootstrap: -1 resamples"):
        Bootstrap(resamples=-1)
