"""Statistics against closed forms, scipy, and coverage by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from workbench import seeding, stats


def test_iqm_is_the_mean_of_the_middle_half():
    assert stats.iqm([100.0, 1.0, 2.0, -50.0]) == 1.5
    assert stats.iqm(np.array([[0, 1, 2, 3, 4, 5, 6, 70.0], [8, 1, 1, 1, 1, 1, 1, 0.0]])) == pytest.approx(
        [3.5, 1.0]
    )


def test_t_and_paired_intervals_equal_scipy():
    a, b = np.array([1.0, 2.0, 4.0, 4.5]), np.array([0.5, 2.5, 3.0, 3.0])
    expected = scipy_stats.ttest_rel(a, b).confidence_interval(0.9)
    estimate, low, high = stats.paired_difference(a, b, level=0.9)
    assert (estimate, low, high) == pytest.approx((0.625, expected.low, expected.high))
    assert stats.t_interval(np.stack([a, b])).estimate == pytest.approx([a.mean(), b.mean()])


def test_the_bootstrap_of_two_runs_is_known_in_closed_form():
    """Two runs 0 and 1: a resampled mean is 0, 1/2 or 1 with 1/4, 1/2, 1/4, so the 40 % interval is the point 1/2
    and the 95 % interval is [0, 1]."""
    assert stats.bootstrap([0.0, 1.0], seed=0) == (0.5, 0.0, 1.0)
    assert stats.bootstrap([0.0, 1.0], seed=0, level=0.4) == (0.5, 0.5, 0.5)


def test_the_bootstrap_agrees_with_scipy_and_is_reproducible(monkeypatch):
    x = seeding.generator(1, "data").normal(size=(3, 25))
    ours = stats.bootstrap(x, stats.iqm, seed=3, draws=4000)
    theirs = scipy_stats.bootstrap(
        (x,), stats.iqm, n_resamples=4000, axis=-1, method="percentile", rng=0, vectorized=False
    )
    interval = theirs.confidence_interval
    assert np.allclose(ours.low, interval.low, atol=0.04) and np.allclose(ours.high, interval.high, atol=0.04)
    again = stats.bootstrap(x, stats.iqm, seed=3, draws=4000)
    assert np.array_equal(ours.low, again.low) and not np.array_equal(
        ours.low, stats.bootstrap(x, stats.iqm, seed=4).low
    )
    monkeypatch.setattr(stats, "_CHUNK", 1)  # one row at a time must change nothing
    assert np.allclose(stats.bootstrap(x, stats.iqm, seed=3, draws=4000).high, ours.high, rtol=1e-12)


def test_coverage_of_the_intervals_by_simulation():
    """2000 samples of 20 exponentials (mean 1): the binomial band of a 95 % interval is +-1 %; skewness costs a few %."""
    rng = seeding.generator(5, "coverage")
    normal = rng.normal(size=(2000, 20))
    _, low, high = stats.t_interval(normal)
    assert np.mean((low < 0) & (0 < high)) == pytest.approx(0.95, abs=0.015)
    _, low, high = stats.bootstrap(
        normal, seed=1, draws=500
    )  # short by about 2 % at R = 20, as the textbook says
    assert 0.905 < np.mean((low < 0) & (0 < high)) < 0.955
    _, low, high = stats.bootstrap(normal, stats.iqm, seed=1, draws=500)
    assert 0.905 < np.mean((low < 0) & (0 < high)) < 0.97


def test_permutation_tests_by_hand_and_uniform_under_the_null():
    assert stats.permutation_test([3.0, 4.0, 5.0], [0.0, 1.0, 2.0], seed=0) == pytest.approx(2 / 20)
    assert stats.permutation_test([3.0, 4.0, 5.0], [0.0, 1.0, 2.0], seed=0, paired=True) == pytest.approx(
        2 / 8
    )
    assert stats.permutation_test([1.0, 1.0], [1.0, 1.0], seed=0) == 1.0
    rng = seeding.generator(7, "null")
    p = [stats.permutation_test(rng.normal(size=5), rng.normal(size=5), seed=0) for _ in range(400)]
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.033)
    random = stats.permutation_test(rng.normal(size=30), rng.normal(size=30) + 2, seed=0, draws=999)
    assert random == pytest.approx(1 / 1000)


def test_bad_input_is_refused_in_words():
    with pytest.raises(ValueError, match="2 values that are not finite"):
        stats.iqm([1.0, np.nan, np.inf])
    with pytest.raises(ValueError, match="at least 2 runs"):
        stats.bootstrap([1.0], seed=0)
    with pytest.raises(ValueError, match="one shape"):
        stats.paired_difference([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="equally many"):
        stats.permutation_test([1.0, 2.0], [1.0], seed=0, paired=True)
    with pytest.raises(ValueError, match="between 0 and 1"):
        stats.t_interval([1.0, 2.0], level=95)
