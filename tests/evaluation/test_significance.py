"""The sign-flip test against trying all signs, what is flipped, and Holm's correction by hand."""

import numpy as np
import pytest
import scipy.stats

from alterrec_jax.evaluation.intervals import Bootstrap, percentile_interval, resampled_means
from alterrec_jax.evaluation.significance import Comparison, Paired, compare, holm, paired_p_value
from tests.oracles import significance as oracle


@pytest.mark.parametrize("seed", range(5))
def test_few_sessions_equal_trying_all_signs(seed):
    rng = np.random.default_rng(seed)
    session = rng.choice([2, 3, 7, 11, 12, 40, 41], 29)
    difference = rng.integers(-3, 6, 29) / 4  # sums tie, and some are zero
    difference[session == 7] = 0
    assert paired_p_value(difference, session) == pytest.approx(oracle.p_value(difference, session), abs=1e-12)


def test_drawn_signs_come_near_all_signs():
    rng = np.random.default_rng(0)
    session, difference = np.repeat(np.arange(9), 3), rng.normal(0.4, 1, 27)
    wanted = oracle.p_value(difference, session)
    found = paired_p_value(difference, session, resamples=400)  # of 512
    assert found != wanted and found == pytest.approx(wanted, abs=4 * np.sqrt(wanted * (1 - wanted) / 400))


def test_a_session_is_flipped_as_a_whole():
    # Three sessions that agree have 8 sign patterns, of which two are as extreme; 150 targets would have 2**150.
    assert paired_p_value(np.full(150, 0.1), np.repeat([4, 5, 9], 50)) == 2 / 8
    assert paired_p_value(np.full(150, 0.1), np.arange(150)) == 1 / 10_000
    # Within a session, differences cancel before anything is flipped.
    assert paired_p_value(np.tile([0.5, -0.5], 50), np.repeat(np.arange(50), 2)) == 1


def test_the_order_of_the_targets_and_of_the_models_does_not_matter():
    rng = np.random.default_rng(1)
    session, difference = np.repeat(np.arange(8), 4), rng.normal(0.3, 1, 32)
    order = rng.permutation(32)
    found = paired_p_value(difference, session)
    assert paired_p_value(difference[order], session[order]) == pytest.approx(found, abs=1e-12)
    assert paired_p_value(-difference, session) == found


def test_p_is_uniform_where_the_models_are_equally_good():
    rng = np.random.default_rng(2)
    found = []
    for seed in range(400):
        shared = np.repeat(rng.normal(size=23), 3)  # targets of a session go together
        found.append(paired_p_value(shared + rng.normal(size=69) / 4, np.repeat(np.arange(23), 3), 199, seed))
    assert scipy.stats.kstest(found, "uniform").pvalue > 0.01
    assert 0.03 <= np.mean(np.array(found) <= 0.05) <= 0.07


def test_a_seed_repeats_and_blocks_do_not_matter():
    difference, session = np.random.default_rng(3).normal(0.15, 1, 90), np.arange(90)
    found = paired_p_value(difference, session, seed=4)
    assert 0 < found < 1 and found != paired_p_value(difference, session, seed=5)
    assert paired_p_value(difference, session, seed=4, signs_at_once=1000) == found


@pytest.mark.parametrize("difference", [[0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.5, -0.5, 0.0]])
def test_one_session_or_none_that_differs_proves_nothing(difference):
    assert paired_p_value(np.array(difference), np.array([6, 6, 8])) == 1


@pytest.mark.parametrize("difference", [[], [0.5, np.nan], [0.5, np.inf]])
def test_what_cannot_be_tested(difference):
    with pytest.raises(ValueError, match="one target at least, and finite"):
        paired_p_value(np.array(difference), np.arange(len(difference)))


def test_holm_by_hand():
    # Ascending: 0.01 * 4, 0.02 * 3, 0.0275 * 2 (which may not fall below the one before it), 0.9 * 1.
    np.testing.assert_allclose(holm([0.0275, 0.01, 0.9, 0.02]), [0.06, 0.04, 0.9, 0.06])
    np.testing.assert_allclose(holm([0.7, 0.8]), [1, 1])
    assert holm([0.03]).tolist() == [0.03] and holm([]).tolist() == []


def test_compares_a_family():
    rng = np.random.default_rng(5)
    settings, family = Bootstrap(resamples=50, seed=3), []
    for targets, shift in ((60, 0.5), (40, 0.0), (50, 0.12)):
        b = rng.random(targets)
        family.append(Paired(b + rng.normal(shift, 0.3, targets), b, np.arange(targets) // 2))
    found = compare(family, settings, resamples=499)
    adjusted = holm([paired_p_value(a - b, session, 499, 3) for a, b, session in family])
    for one, (a, b, session), wanted in zip(found, family, adjusted, strict=True):
        low, high = percentile_interval(resampled_means((a - b)[:, None], session, settings))[:, 0]
        p = paired_p_value(a - b, session, 499, 3)
        assert one == Comparison(a.mean(), b.mean(), a.mean() - b.mean(), (low, high), p, wanted)
        assert low < one.difference < high
    assert [one.significant for one in found] == [True, False, found[2].adjusted_p <= 0.05]
    assert compare([], settings) == []


def test_what_is_significant():
    def compared(p, difference=0.1):
        return Comparison(0.2, 0.2 - difference, difference, (0.0, 0.2), 0.001, p)

    assert compared(0.05).significant and compared(0.0499).significant and not compared(0.0501).significant
    assert compared(0.05).better and not compared(0.0501).better
    assert compared(0.05, -0.1).significant and not compared(0.05, -0.1).better
