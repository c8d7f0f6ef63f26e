"""Statistics against closed forms, scipy, and coverage by simulation."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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
        (x,), lambda x, axis: stats.iqm(np.moveaxis(x, axis, -1)), n_resamples=4000, axis=-1, method="percentile", rng=0
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


# Score matrices, runs x tasks


@pytest.fixture(scope="module")
def rliable():
    from workbench.bench import statistics

    return statistics.rliable() or pytest.skip("rliable is not installed")


def test_point_estimates_equal_rliable(rliable):
    _, metrics = rliable
    rng = seeding.generator(2, "scores")
    x, y = rng.normal(size=(7, 5)).round(1), rng.normal(size=(9, 5)).round(1)  # rounded: ties
    assert stats.iqm_all(x) == pytest.approx(metrics.aggregate_iqm(x), abs=1e-15)
    assert stats.iqm_all(x) == pytest.approx(scipy_stats.trim_mean(x, 0.25, axis=None), abs=1e-15)
    assert stats.optimality_gap(x) == pytest.approx(metrics.aggregate_optimality_gap(x), abs=1e-15)
    assert stats.optimality_gap(x, 0.3) == pytest.approx(metrics.aggregate_optimality_gap(x, 0.3), abs=1e-15)
    assert stats.probability_of_improvement(x, y) == pytest.approx(
        metrics.probability_of_improvement(x, y), abs=1e-15
    )


@pytest.mark.filterwarnings("ignore:random_state is deprecated:FutureWarning")
def test_intervals_agree_with_rliable(rliable):
    """Two bootstraps with streams of their own: ends agree to three times the error that 4000 draws leave (0.003 here)."""
    library, metrics = rliable
    rng = seeding.generator(3, "scores")
    x, y = rng.random((8, 6)), 0.15 + rng.random((8, 6))
    random = np.random.RandomState(0)

    def of(function):
        return lambda *z: np.array([function(*z)])

    def theirs(scores, function):
        _, ends = library.get_interval_estimates({"x": scores}, of(function), reps=4000, random_state=random)
        return ends["x"][:, 0]

    for ours, function in ((stats.iqm_all, metrics.aggregate_iqm), (stats.optimality_gap, metrics.aggregate_optimality_gap)):
        _, low, high = stats.stratified_bootstrap(x, ours, seed=1, draws=4000)
        assert (low, high) == pytest.approx(theirs(x, function), abs=0.009)
    _, ends = library.get_interval_estimates(
        {"xy": (x, y)}, of(metrics.probability_of_improvement), reps=200, random_state=random
    )
    found = stats.improvement_interval(x, y, seed=1, draws=4000)
    assert found[1:] == pytest.approx(ends["xy"][:, 0], abs=0.04)
    thresholds = np.linspace(-0.1, 1.1, 7)
    profile, bands = library.create_performance_profile({"x": x}, thresholds, reps=2000)
    found = stats.performance_profile(x, thresholds, seed=1, draws=4000)
    assert np.allclose(found.estimate, profile["x"], atol=1e-15)
    assert np.allclose([found.low, found.high], bands["x"], atol=0.025)


def test_the_stratified_bootstrap_resamples_within_each_task():
    """Tasks whose runs all score alike have nothing to resample; two runs 0 and 1 of another task make it known."""
    assert stats.stratified_bootstrap(np.tile([1.0, 5.0, 9.0], (4, 1)), seed=0)[1:] == (5.0, 5.0)
    x = np.array([[0.0, 10.0], [1.0, 10.0]])
    centre, low, high = stats.stratified_bootstrap(x, lambda z: z.mean((-2, -1)), seed=0)
    assert (centre, low, high) == (5.25, 5.0, 5.5)
    # two such tasks, each resampled for itself: a mean of 0 comes once in sixteen times, not once in four
    both = stats.stratified_bootstrap([[0.0, 0.0], [1.0, 1.0]], lambda z: z.mean((-2, -1)), seed=0, level=0.8)
    assert both == (0.5, 0.25, 0.75)


def test_the_fast_path_of_the_interquartile_mean_is_the_same_bootstrap(monkeypatch):
    x = seeding.generator(4, "scores").normal(size=(9, 4))
    fast = stats.stratified_bootstrap(x, seed=5)
    assert stats.stratified_bootstrap(x, lambda z: stats.iqm_all(z), seed=5) == pytest.approx(fast, abs=1e-12)
    assert stats.stratified_bootstrap(x, seed=6)[1:] != fast[1:] and stats.stratified_bootstrap(x, seed=5) == fast


def test_coverage_of_the_stratified_bootstrap_by_simulation():
    """The interquartile mean of normal scores, true value 0: what intervals of 95 % really cover, by runs and tasks."""
    rng, found = seeding.generator(6, "coverage"), {}
    for shape in ((3, 1), (10, 1), (20, 5)):
        inside = 0
        for trial in range(500):
            _, low, high = stats.stratified_bootstrap(rng.normal(size=shape), seed=trial, draws=400)
            inside += low < 0 < high
        found[shape] = stats.wilson_interval(inside / 500, 500)
    assert found[3, 1].high < 0.8
    assert found[10, 1].low < 0.94 < found[10, 1].high
    assert found[20, 5].low < 0.95 < found[20, 5].high


# Power


def test_power_is_that_of_simulated_t_tests_and_of_the_table_in_colas_and_others():
    assert [stats.seeds_for(d) for d in (0.5, 0.8, 1.0, 1.5, 2.0)] == [64, 26, 17, 9, 6]
    assert stats.power(0.0, 9) == pytest.approx(0.05) and stats.power(-1.0, 9) == stats.power(1.0, 9)
    rng = seeding.generator(8, "power")
    a, b = rng.normal(0.8, 1, (4000, 12)), rng.normal(0, 1, (4000, 12))
    called = scipy_stats.ttest_ind(a, b, axis=1).pvalue <= 0.05
    assert stats.power(0.8, 12) == pytest.approx(called.mean(), abs=0.025)
    called = scipy_stats.ttest_1samp(a, 0, axis=1).pvalue <= 0.01
    assert stats.power(0.8, 12, paired=True, level=0.99) == pytest.approx(called.mean(), abs=0.025)
    assert stats.power(100.0, 50) == 1.0  # far in the tail, where a noncentral t is below the smallest float


def test_seeds_for_is_the_smallest_number_that_reaches_its_power():
    for effect, paired, comparisons in product((0.3, 1.0, 3.0), (False, True), (1, 15)):
        n = stats.seeds_for(effect, paired=paired, comparisons=comparisons)
        level = 1 - 0.05 / comparisons
        least = stats.least_seeds(paired=paired, comparisons=comparisons)
        assert stats.power(effect, n, paired=paired, level=level) >= 0.8 and n >= least
        assert n == least or stats.power(effect, n - 1, paired=paired, level=level) < 0.8
    assert stats.seeds_for(1e-6) == 1_000_000


def test_fewer_than_least_seeds_can_call_nothing_however_large_the_difference():
    assert stats.least_seeds() == 6 and stats.least_seeds(paired=False) == 4
    assert stats.least_seeds(comparisons=15) == 10
    for paired in (True, False):
        for n in range(2, 9):
            a = 100 + np.arange(n) / 10
            called = stats.verdict(a, np.arange(n) / 7, paired=paired).decided
            assert called == (n >= stats.least_seeds(paired=paired))


def test_the_verdict_has_the_power_that_was_planned():
    """Effect of one standard deviation, 17 seeds an arm, 80 %: the permutation test loses next to nothing against t."""
    rng = seeding.generator(9, "power")
    n = stats.seeds_for(1.0)
    called = [stats.verdict(rng.normal(1, 1, n), rng.normal(0, 1, n), paired=False).call for _ in range(400)]
    assert called.count(">") / 400 == pytest.approx(0.8, abs=0.06) and "<" not in called


# Tests


def test_welch_and_holm_by_hand():
    a, b = np.array([1.0, 2.0, 4.0, 4.5]), np.array([0.5, 2.5, 3.0])
    difference, p = stats.welch_test(a, b)
    va, vb = a.var(ddof=1) / 4, b.var(ddof=1) / 3
    freedom = (va + vb) ** 2 / (va**2 / 3 + vb**2 / 2)
    t = (a.mean() - b.mean()) / np.sqrt(va + vb)
    assert p == pytest.approx(2 * scipy_stats.t.sf(abs(t), freedom))
    half = scipy_stats.t.ppf(0.975, freedom) * np.sqrt(va + vb)
    assert difference == pytest.approx((2.875 - 2.0, 0.875 - half, 0.875 + half))
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("paired", [True, False])
def test_verdicts_have_the_p_values_of_the_permutation_test(paired):
    """Where both arms have the same number of runs its distribution is symmetric, and two-sided means twice one tail."""
    rng = seeding.generator(10, "p")
    for _ in range(20):
        a, b = rng.normal(0.5, 1, 7).round(1), rng.normal(0, 1, 7).round(1)  # tenths: ties up to rounding
        expected = stats.permutation_test(a, b, seed=0, paired=paired)
        assert stats.verdict(a, b, paired=paired).p == pytest.approx(expected)


def test_the_interval_is_the_set_of_shifts_that_the_test_does_not_reject():
    rng = seeding.generator(11, "shifts")
    for paired, n in ((True, 8), (False, 6)):
        a, b = rng.normal(0.5, 1, n), rng.normal(0, 1, n)
        _, low, high = stats.verdict(a, b, paired=paired).difference
        for shift in (low - 1e-6, high + 1e-6):
            assert stats.permutation_test(a - shift, b, seed=0, paired=paired) <= 0.05
        for shift in (low + 1e-6, (low + high) / 2, high - 1e-6):
            assert stats.permutation_test(a - shift, b, seed=0, paired=paired) > 0.05


def test_the_paired_interval_is_made_of_hartigans_typical_values():
    a = np.array([0.3, 1.1, 2.0, 0.7, 1.6, 0.9])
    means = sorted(np.mean(c) for k in range(1, 7) for c in combinations(a, k))
    _, low, high = stats.verdict(a, np.zeros(6)).difference  # 64 gaps; 2.5 % is the first, rounded down
    assert (low, high) == pytest.approx((means[0], means[-1]))
    _, low, high = stats.verdict(a, np.zeros(6), level=0.8).difference
    assert (low, high) == pytest.approx((means[5], means[-6]))


@pytest.mark.parametrize(("paired", "n"), [(True, 8), (False, 5)])
def test_two_identical_arms_are_called_different_in_exactly_the_share_the_level_allows(paired, n):
    """Over all ways in which chance could have dealt the same scores: no simulation. With ties it is fewer."""
    rng = seeding.generator(12, "deals")
    for tied in (False, True):
        scores = rng.exponential(size=2 * n)
        scores = np.minimum(scores, 1.0).round(1) if tied else scores
        if paired:
            x, y = scores[:n], scores[n:]
            deals = [(np.where(s, x, y), np.where(s, y, x)) for s in product([False, True], repeat=n)]
        else:
            first = [list(c) for c in combinations(range(2 * n), n)]
            deals = [(scores[c], np.delete(scores, c)) for c in first]
        called = sum(stats.verdict(a, b, paired=paired).decided for a, b in deals)
        most = 2 * int(0.05 * len(deals) / 2)
        assert called <= most if tied else called == most


def test_random_arrangements_are_valid_too():
    """20 paired seeds: 9999 random sign patterns. The p-value is never below 1 / 10 000, and its level holds."""
    assert stats.verdict(np.arange(20) + 100.0, np.arange(20)[::-1] * 1.5).p == pytest.approx(2 / 10_000)
    rng = seeding.generator(13, "random")
    p = np.array([stats.verdict(rng.normal(size=16), rng.normal(size=16)).p for _ in range(300)])
    assert stats.wilson_interval((p <= 0.05).mean(), 300).low < 0.05
    assert scipy_stats.kstest(p, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("paired", [True, False])
def test_a_random_arrangement_that_moves_nothing_counts_as_the_one_seen(paired, monkeypatch):
    """Every eighth sign pattern of three differences is that one, so it shows where few runs are arranged at random."""
    a, b = np.array([1.0, 2.0, 4.0]), np.array([0.5, 0.6, 0.7])
    exact = stats.verdict(a, b, paired=paired).p
    monkeypatch.setattr(stats, "_EXACT", 1)
    stats._arrangements.cache_clear()
    assert stats.verdict(a, b, paired=paired).p == pytest.approx(exact, abs=0.02)
    stats._arrangements.cache_clear()


DISTRIBUTIONS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "shares of ten": lambda rng, n: rng.binomial(10, 0.7, n) / 10,
    "skewed": lambda rng, n: rng.exponential(size=n) ** 2,
}
LOOKS = stats.Sequential((8, 10, 12))


@pytest.mark.parametrize("sequential", [None, LOOKS], ids=["all at once", "stopped early"])
def test_six_identical_arms_are_called_different_in_at_most_one_study_in_twenty(sequential):
    """15 pairs; a study errs if any of them is called. 200 or 400 studies of each
    distribution of scores, so that the upper end of Wilson's interval can fall below 5 %."""
    rng, wrong = seeding.generator(14, "family"), []
    n, studies = (10, 200) if sequential is None else (12, 400)
    for scores in DISTRIBUTIONS.values():
        for _ in range(studies):
            arms = {name: scores(rng, n) for name in "abcdef"}
            wrong.append(any(v.decided for v in stats.compare_arms(arms, sequential=sequential, draws=0).verdicts.values()))
    share = stats.wilson_interval(np.mean(wrong), len(wrong))
    assert share.high <= 0.05, share


def test_looks_spend_at_most_what_they_may_whatever_the_number_of_arms():
    """A pair is tested at every look with a share of its error rate; all sign patterns of 10 differences give the exact
    rate of calling two identical arms different, which times 15 bounds that of six arms."""
    size = seeding.generator(15, "looks").exponential(size=8)
    signs = np.array(list(product([1.0, -1.0], repeat=8)))
    for spending, alpha in product(("obrien_fleming", "pocock"), (0.05, 0.05 / 3)):
        plan = stats.Sequential((4, 6, 8), spending)
        for n in plan.looks:
            heads = signs[:: 2 ** (8 - n), :n]  # all patterns up to this look
            called = [
                stats.verdict((head * size[:n]), np.zeros(n), sequential=plan, level=1 - alpha).decided for head in heads
            ]
            assert np.mean(called) <= plan.spent(n / 8, alpha) + 1e-12, (spending, alpha, n)
        assert np.mean(called) > 0.6 * alpha  # and it is not only caution: most of the rate is used


def test_a_study_stopped_early_calls_what_an_earlier_look_called():
    rng = seeding.generator(16, "stop")
    a, b = rng.normal(3, 1, 12), rng.normal(0, 1, 12)
    a[:10] = b[:10] + np.array([-1.0, -1.1, 2.7, 3.0, 3.1, 3.2, 2.9, 3.3, 2.8, 3.4])
    a[10:] -= 40  # what comes after the stop changes nothing
    first = stats.compare_arms({"a": a[:8], "b": b[:8]}, sequential=LOOKS)
    later = stats.compare_arms({"a": a[:10], "b": b[:10]}, sequential=LOOKS)
    last = stats.compare_arms({"a": a, "b": b}, sequential=LOOKS)
    assert not first.done and first.more is not None and not first.last
    assert later.done and str(later) == str(last) and last.verdicts["a", "b"].seeds == 10
    null = stats.compare_arms({"a": b, "b": b[::-1]}, sequential=LOOKS)
    assert null.done and not null.verdicts["a", "b"].decided


def test_looks_cost_little_power_and_save_seeds():
    """Effect of 0.6 standard deviations: 24 paired seeds find it in 80 % of studies if looked at once."""
    assert stats.power(0.6, 24, paired=True) == pytest.approx(0.80, abs=0.01)
    rng, plan = seeding.generator(22, "looks"), stats.Sequential((12, 18, 24))
    found = [stats.verdict(rng.normal(0.6, 1, 24), np.zeros(24), sequential=plan) for _ in range(300)]
    right = np.mean([v.call == ">" for v in found])
    assert 0.68 < right < 0.85 and np.mean([v.seeds for v in found]) < 21


def test_spending_functions():
    plan = stats.Sequential((5, 10), "pocock")
    assert plan.spent(1.0, 0.05) == pytest.approx(0.05) == stats.Sequential((5, 10)).spent(1.0, 0.05)
    assert stats.Sequential((5, 10)).spent(0.5, 0.05) == pytest.approx(2 * scipy_stats.norm.sf(1.959964 * 2**0.5))
    assert plan.spent(0.5, 0.05) == pytest.approx(0.05 * np.log(1 + (np.e - 1) / 2))
    # five paired seeds can spend nothing (2/32 is too much): all of it is carried over to the last look
    assert stats.Sequential((5, 10), "pocock").levels(0.05)[1] == pytest.approx(0.05)


# Several arms


def test_holm_keeps_the_rate_where_one_arm_really_differs():
    """The case in which permuting the labels of all arms together would be wrong: five alike, one far off and noisy."""
    rng, wrong, right = seeding.generator(17, "one differs"), 0, 0
    for _ in range(150):
        arms = {name: rng.normal(size=10) for name in "abcde"} | {"far": rng.normal(30, 5, 10)}
        found = stats.compare_arms(arms, draws=0).verdicts
        wrong += any(v.decided for (a, b), v in found.items() if b != "far")
        right += sum(v.call == "<" for (a, b), v in found.items() if b == "far")
    assert right == 5 * 150 and stats.wilson_interval(wrong / 150, 150).low < 0.05


def test_an_interval_leaves_out_zero_exactly_if_a_difference_is_called():
    rng = seeding.generator(18, "agree")
    calls = set()
    for _ in range(60):
        arms = {name: rng.normal(rng.choice([0, 0.8, 1.5]), 1, 11) for name in "abcd"}
        found = stats.compare_arms(arms, margin=2.0, draws=0)
        adjusted = stats.holm([v.p for v in found.verdicts.values()])
        for p, v in zip(adjusted, found.verdicts.values(), strict=True):
            assert (v.call in "<>") == (p <= 0.05) == (not v.difference.low <= 0 <= v.difference.high)
            if v.call == "=":
                assert max(-v.difference.low, v.difference.high) < 2.0
            assert v.level >= 0.95
            calls.add(v.call)
    assert calls == {"<", ">", "=", "?"}


def test_each_interval_has_the_level_at_which_its_pair_was_tested():
    """Three pairs, two called: the first at 5 % / 3, the second at 5 % / 2; the third keeps the simultaneous 5 % / 3."""
    rng = seeding.generator(23, "levels")
    base = rng.normal(size=10)
    found = stats.compare_arms({"a": base + 9, "b": base + 0.1 * rng.normal(size=10), "c": base}, draws=0).verdicts
    called = [found["a", "b"], found["a", "c"]]
    assert sorted(1 - v.level for v in called) == pytest.approx([0.05 / 3, 0.05 / 2])
    assert not found["b", "c"].decided and 1 - found["b", "c"].level == pytest.approx(0.05 / 3)


def test_a_reference_arm_needs_fewer_comparisons():
    rng = seeding.generator(19, "reference")
    arms = {name: rng.normal(size=9) for name in ("old", "new", "newer")}
    found = stats.compare_arms(arms, reference="old")
    assert list(found.verdicts) == [("new", "old"), ("newer", "old")]
    assert found.verdicts["new", "old"].level == pytest.approx(0.975)


def test_equivalence_is_called_wrongly_in_at_most_one_study_in_twenty():
    """A true difference exactly at the margin, where "=" is false by a hair."""
    rng = seeding.generator(20, "margin")
    calls = [
        stats.verdict(rng.normal(0.5, 0.3, 10), rng.normal(0, 0.3, 10), margin=0.5).call for _ in range(800)
    ]
    assert stats.wilson_interval(calls.count("=") / 800, 800).high < 0.05


def test_a_comparison_gives_what_its_parts_give():
    rng = seeding.generator(21, "parts")
    a, b = rng.random((6, 3)), rng.random((6, 3))
    found = stats.compare_arms({"a": a, "b": b}, seed=4)
    assert found.iqm["a"] == pytest.approx(stats.stratified_bootstrap(a, seed=4))
    assert found.improvement["a", "b"] == pytest.approx(stats.improvement_interval(a, b, seed=4))
    v = found.verdicts["a", "b"]
    assert v.p == pytest.approx(stats.permutation_test(a.mean(1), b.mean(1), seed=0, paired=True))
    assert v.difference.estimate == pytest.approx(a.mean() - b.mean())
    assert found.missing == {"a": 0, "b": 0} and found.seeds == 6 and found.done
    spread = (a.mean(1) - b.mean(1)).std(ddof=1)
    assert v.more == stats.seeds_for(abs(v.difference.estimate) / spread, paired=True) - 6 == found.more
    unpaired = stats.verdict(a, b, paired=False, margin=0.2)
    pooled = np.sqrt((a.mean(1).var(ddof=1) + b.mean(1).var(ddof=1)) / 2)
    assert unpaired.more == stats.seeds_for(0.2 / pooled) - 6


# Missing runs


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.booleans(), st.integers(1, 3))
def test_missing_runs_widen_to_hold_whatever_they_would_have_been(seed, paired, lost):
    rng = np.random.default_rng(seed)
    full = {name: rng.random((7, 2)) for name in "ab"}
    holes = {name: x.copy() for name, x in full.items()}
    for _ in range(lost):
        holes[rng.choice(["a", "b"])][rng.integers(7), rng.integers(2)] = np.nan
    missing = sum(int(np.isnan(x).sum()) for x in holes.values())
    complete = stats.compare_arms(full, paired=paired, bounds=(0, 1), draws=50)
    found = stats.compare_arms(holes, paired=paired, bounds=(0, 1), draws=50)
    inner, outer = complete.verdicts["a", "b"], found.verdicts["a", "b"]
    assert outer.difference.low <= inner.difference.low <= inner.difference.high <= outer.difference.high
    assert outer.missing == missing and f"{missing} missing" in str(outer)
    assert outer.call in (inner.call, "?") and outer.p >= inner.p - 1e-12
    for name in "ab":
        assert found.iqm[name].low <= complete.iqm[name].low <= complete.iqm[name].high <= found.iqm[name].high
    within = found.improvement["a", "b"], complete.improvement["a", "b"]
    assert within[0].low <= within[1].low and within[1].high <= within[0].high


def test_a_failed_run_counts_against_its_arm():
    """Failures that are no accident: an arm that crashes whenever it would have done badly must not win by crashing."""
    a = np.array([0.9, 0.92, np.nan, np.nan, 0.95, np.nan, np.nan, 0.91])
    b = np.full(8, 0.7) + np.arange(8) / 100
    assert stats.verdict(np.where(np.isnan(a), 0.93, a), b).call == ">"
    found = stats.verdict(a, b, names=("new", "old"), bounds=(0, 1))
    assert found.call == "?" and found.missing == 4
    one = np.where(np.isnan(a), 0.93, a)
    one[2] = np.nan
    assert stats.verdict(one, b).call == ">"  # at its worst seen (0.7) the claim still holds
    assert stats.compare_arms({"a": np.full(8, np.nan), "b": b}).verdicts["a", "b"].call == "?"


# Words


def test_verdicts_in_words():
    noise = np.array([0.01, -0.02, 0.0, 0.03, -0.01, 0.02, -0.03, 0.01])
    grpo = 0.5 + np.arange(8) / 50
    assert str(stats.verdict(grpo + 0.11 + noise, grpo, names=("gtpo", "grpo"))) == (
        "gtpo > grpo: +11.1 points [9.3, 13.0], 8 seeds"
    )
    assert str(stats.verdict(grpo - 0.11 + noise, grpo, names=("new", "old"))).startswith("old > new: +10.9 points [9.0, 12.7]")
    assert str(stats.verdict(grpo + 4 * noise, grpo, names=("new", "old"))).startswith(
        "undecided: about "
    ) and "more seeds for 80 % power (new - old: +" in str(stats.verdict(grpo + 4 * noise, grpo, names=("new", "old")))
    assert "6 seeds are the fewest that can decide" in str(stats.verdict(grpo[:3] + 0.1, grpo[:3]))
    assert str(stats.verdict(grpo + noise, grpo, margin=0.05)).startswith("a = b within 5 points: +0.1 points [")
    assert "8 seeds, but less than 50 points" in str(stats.verdict(grpo + 0.11 + noise, grpo, margin=0.5))
    assert str(stats.verdict(100 * grpo + 11, 100 * grpo)) == "a > b: +11.00 [11.00, 11.00], 8 seeds"
    assert "no difference was seen" in str(stats.verdict(grpo, grpo))
    assert "1 seed)" in str(stats.verdict(grpo[:1], grpo[:1]))


def test_bad_input_to_comparisons_is_refused_in_words():
    good = np.arange(6.0)
    for match, arguments, options in [
        ("at least two arms", {"a": good}, {}),
        ("equally many runs, not {'a': 6, 'b': 5}; mark a run that failed as NaN", {"a": good, "b": good[:5]}, {}),
        ("same tasks", {"a": np.ones((3, 2)), "b": np.ones((3, 4))}, {}),
        ("no arm 'c' to compare with; there are a, b", {"a": good, "b": good}, {"reference": "c"}),
        ("margin must be a positive", {"a": good, "b": good}, {"margin": 0.0}),
        ("do not lie within bounds", {"a": good, "b": good}, {"bounds": (0, 1)}),
        ("nothing to compare", {"a": good * np.nan, "b": good * np.nan}, {}),
        ("mark it as NaN", {"a": good, "b": np.full(6, np.inf)}, {}),
        ("between 0 and 1", {"a": good, "b": good}, {"level": 95}),
        ("not one of the looks", {"a": good, "b": good}, {"sequential": LOOKS}),
        ("runs, tasks", {"a": np.ones((2, 2, 2)), "b": good}, {}),
    ]:
        with pytest.raises(ValueError, match=match):
            stats.compare_arms(arguments, **options)
    with pytest.raises(ValueError, match="rising numbers"):
        stats.Sequential((8, 8))
    with pytest.raises(ValueError, match="spending"):
        stats.Sequential((8, 12), "linear")
    with pytest.raises(ValueError, match="positive number of standard deviations"):
        stats.seeds_for(0.0)
    with pytest.raises(ValueError, match="power between"):
        stats.seeds_for(1.0, target=80)
    with pytest.raises(ValueError, match="at least 2"):
        stats.power(1.0, 1)
    with pytest.raises(ValueError, match="same tasks"):
        stats.probability_of_improvement(np.ones((3, 2)), np.ones((3, 1)))
    with pytest.raises(ValueError, match="not finite"):
        stats.stratified_bootstrap([1.0, np.nan], seed=0)
