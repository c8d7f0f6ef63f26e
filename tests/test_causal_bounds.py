"""Bounds against linear programs, constructed worlds, coverage by simulation, and another package."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import linprog

from workbench import seeding
from workbench.causal import worlds
from workbench.causal.bounds import (
    Uncertainty,
    count,
    from_counts,
    identified,
    natural,
    point,
    response_type_bounds,
    sensitivity,
    witness,
)
from workbench.causal.planning import robust_value, robust_value_iteration
from workbench.causal.scm import ConfoundedMDP, Observed

SHAPES = [(2, 2, 3), (3, 2, 4), (4, 3, 5)]  # states, actions, values of the hidden cause
MANY = 200  # worlds of each shape: 600 together
EXACT = 1e-6


def one(observed: Observed, i: int) -> Observed:
    """World number i of a stack."""
    return Observed(*(part[i] for part in observed[:5]), *observed[5:])


def odds(mdp: ConfoundedMDP) -> np.ndarray:
    """The least gamma that is true of each world's transitions: the largest factor between q(s'), what an action would have
    led to where the expert did something else, and what was seen."""
    watched = mdp.observed
    other = (mdp.transitions - watched.joint) / (1 - watched.expert)[..., None]
    factor = other / (watched.joint / watched.expert[..., None])
    return np.maximum(factor, 1 / factor).max((-1, -2, -3))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_truth_is_inside(shape):
    mdp = worlds.random_mdp(*shape, seed=0, count=MANY)
    known = natural(mdp.observed)
    assert known.contains(mdp.transitions, mdp.rewards, tolerance=1e-12).all()
    everywhere = natural(mdp.observed, support=np.ones((shape[0], shape[0]), bool)[:, None])
    assert everywhere.contains(mdp.transitions, mdp.rewards, tolerance=1e-12).all()
    for i, gamma in enumerate(odds(mdp)):
        watched = one(mdp.observed, i)
        free = natural(watched)
        truth = mdp.transitions[i], np.clip(mdp.rewards[i], free.reward_low, free.reward_high)
        widest = sensitivity(watched, math.inf)
        assert widest.contains(*truth)
        exact, narrower = (sensitivity(watched, g, rewards=False) for g in (gamma, 1 + 0.9 * (gamma - 1)))
        shown = exact.reward_low
        assert exact.contains(mdp.transitions[i], shown) and not narrower.contains(mdp.transitions[i], shown)


def test_natural_bounds_are_as_wide_as_the_expert_looked_elsewhere_confounded_or_not():
    for case in worlds.TWO_STATE:
        watched = worlds.two_state(case).observed
        known = natural(watched)
        assert known.free == pytest.approx(1 - watched.expert, abs=1e-12)
        assert known.reward_high - known.reward_low == pytest.approx(1 - watched.expert, abs=1e-12)
        everything = natural(watched, support=np.ones((2, 1, 2), bool))
        assert everything.high is not None
        wide = np.where(watched.expert > 0, 1 - watched.expert, 1)[..., None]
        assert everything.high - everything.low == pytest.approx(np.broadcast_to(wide, (2, 2, 2)), abs=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_both_ends_are_attained_by_a_world_with_the_same_demonstrations(shape):
    """Sharpness: the worst and the best of the set are real worlds, which no demonstration can tell from the true one."""
    mdp = worlds.random_mdp(*shape, seed=1, count=MANY)
    states, actions = shape[:2]
    rng = seeding.generator(1, "sharp")
    for i in range(MANY):
        watched = one(mdp.observed, i)
        known = natural(watched)
        for worst in (True, False):
            value = rng.random(states)
            to = np.zeros(states)
            to[value.argmin() if worst else value.argmax()] = 1
            paid = np.full((states, actions), 0.0 if worst else 1.0)
            world = witness(watched, np.broadcast_to(to, (states, actions, states)), paid)
            for ours, theirs in zip(world.observed[:4], watched[:4]):
                assert ours == pytest.approx(theirs, abs=1e-12)
            assert world.transitions == pytest.approx(known.extreme(value, worst=worst), abs=1e-12)
            ends = known.reward_low if worst else known.reward_high
            assert world.rewards == pytest.approx(ends, abs=1e-12)
            assert world.transitions @ value == pytest.approx(known.expectation(value, worst=worst), abs=1e-12)


def test_the_robust_value_is_the_value_of_a_real_world():
    for seed in range(20):
        watched = worlds.random_mdp(3, 2, 4, seed=seed).observed
        plan = robust_value_iteration(natural(watched))
        to = np.eye(3)[plan.value.argmin()]
        world = witness(watched, np.broadcast_to(to, (3, 2, 3)), np.zeros((3, 2)))
        assert world.value(plan.policy) == pytest.approx(plan.score, abs=1e-10)


def test_closed_form_equals_the_linear_program_over_response_types():
    """P(x, y | s) for 500 random joints: each end of P(Y_x = y), Y the reward or the next state."""
    rng = seeding.generator(2, "joints")
    for _ in range(250):
        actions, outcomes = int(rng.integers(2, 4)), int(rng.integers(2, 4))
        law = rng.dirichlet(np.ones(actions * outcomes)).reshape(1, actions, outcomes)
        x, value = int(rng.integers(actions)), rng.random(outcomes)
        weight = np.zeros((actions, outcomes))
        weight[x] = value
        e = law[0].sum(-1)[x]
        low = law[0, x] @ value + (1 - e) * value.min()
        high = law[0, x] @ value + (1 - e) * value.max()
        assert response_type_bounds(law, weight) == pytest.approx((low, high), abs=1e-9)
    for i in range(250):
        watched = worlds.random_mdp(2, 2, 3, seed=i).observed
        value = rng.random(2)
        known = natural(watched)
        for worst in (True, False):
            ours = known.expectation(value, worst=worst)[0, 1]
            lp = response_type_bounds(watched.joint[0][None], np.array([[0, 0], value]))[0 if worst else 1]
            assert ours == pytest.approx(lp, abs=1e-9)


@pytest.mark.parametrize("gamma", [1.0, 1.5, 3.0, 20.0, math.inf])
def test_the_sensitivity_model_equals_its_linear_program(gamma):
    """T = e P + (1-e) q with P/gamma <= q <= gamma P, q a distribution; the same for a binary reward."""
    rng = seeding.generator(3, "sensitivity")
    for i in range(100):
        watched = worlds.random_mdp(3, 2, 3, seed=i).observed
        known, value = sensitivity(watched, gamma), rng.random(3)
        s, x = int(rng.integers(3)), int(rng.integers(2))
        e = watched.expert[s, x]
        seen, r = watched.joint[s, x] / e, watched.reward[s, x] / e
        for worst, end in ((True, known.reward_low), (False, known.reward_high)):
            for shown, score, ours in (
                (seen, value, known.expectation(value, worst=worst)[s, x]),
                (np.array([1 - r, r]), np.array([0.0, 1.0]), end[s, x]),
            ):
                ends = np.stack([shown / gamma, np.minimum(shown * gamma, 1) if gamma < math.inf else np.ones_like(shown)], 1)
                lp = linprog(score if worst else -score, A_eq=np.ones((1, len(shown))), b_eq=[1], bounds=ends)
                best = lp.fun if worst else -lp.fun
                assert ours == pytest.approx(e * shown @ score + (1 - e) * best, abs=1e-9)


def test_gamma_of_one_is_a_point_and_larger_gammas_only_widen():
    gammas = [1.0, 1.1, 1.5, 2.0, 4.0, 10.0, 1000.0, math.inf]
    mdp = worlds.random_mdp(3, 2, 4, seed=4, count=500)
    sets = [sensitivity(mdp.observed, gamma) for gamma in gammas]
    seen = mdp.observed.joint / mdp.observed.expert[..., None]
    assert sets[0].low == pytest.approx(seen, abs=1e-12) and sets[0].free == pytest.approx(0, abs=1e-12)
    assert sets[0].reward_low == pytest.approx(sets[0].reward_high, abs=1e-12)
    value = seeding.generator(4, "value").random((500, 3))
    low = np.array([known.expectation(value) for known in sets])
    high = np.array([known.expectation(value, worst=False) for known in sets])
    assert (np.diff(low, axis=0) <= 1e-12).all() and (np.diff(high, axis=0) >= -1e-12).all()
    assert (np.diff([known.reward_low for known in sets], axis=0) <= 1e-12).all()
    assert (np.diff([known.reward_high for known in sets], axis=0) >= -1e-12).all()
    free = natural(mdp.observed)
    assert low[-1] == pytest.approx(free.expectation(value), abs=1e-12)  # full support: infinity is the natural bounds
    assert sets[-2].expectation(value) == pytest.approx(low[-1], abs=0.01)


def test_infinite_gamma_keeps_what_was_seen_and_natural_does_not():
    watched = worlds.confounded_chain(3).observed
    keeps, free = sensitivity(watched, math.inf, rewards=False), natural(watched, rewards=False)
    assert keeps.high is not None and keeps.high[0, 1].tolist() == pytest.approx([0, 1, 0, 0])  # action 1 only ever went on
    assert free.high is None
    near = natural(watched, rewards=False, support=worlds.chain_support(3))
    assert near.high is not None and near.high[1, 1] == pytest.approx([0.1, 0, 1, 0])


def test_filling_up_states_in_order_is_the_optimum_over_a_box():
    rng = seeding.generator(5, "box")
    for _ in range(200):
        low, room = rng.dirichlet(np.ones(4)) * rng.random(), rng.random(4)
        high = low + room * max(1.0, (1 - low.sum()) / room.sum())
        value = rng.random(4)
        lows, highs = (np.broadcast_to(end, (4, 1, 4)).copy() for end in (low, high))
        known = Uncertainty(lows, highs, np.zeros((4, 1)), np.ones((4, 1)), np.full(4, 0.25), 0.9)
        for worst in (True, False):
            lp = linprog(value if worst else -value, A_eq=np.ones((1, 4)), b_eq=[1], bounds=np.stack([low, high], 1))
            best = lp.fun if worst else -lp.fun
            assert known.expectation(value, worst=worst)[0, 0] == pytest.approx(best, abs=1e-9)
            assert known.extreme(value, worst=worst).sum(-1) == pytest.approx(1)


def test_an_action_never_taken_is_bounded_by_nothing_and_not_identified():
    watched = worlds.two_state("deterministic expert").observed
    for known in (natural(watched), sensitivity(watched, 1.0), natural(watched, transitions=False, rewards=False)):
        assert known.free[:, 0] == pytest.approx([1, 1])
        assert (known.reward_low[:, 0].tolist(), known.reward_high[:, 0].tolist()) == ([0, 0], [1, 1])
        assert known.free[:, 1] == pytest.approx([0, 0])
    with pytest.raises(ValueError, match=r"positivity: e\(x\|s\) = 0 at s=0, x=0"):
        identified(watched)
    with pytest.raises(ValueError, match=r"positivity: e\(x\|s\) = 0 at s=1, x=0"):
        identified(watched, np.array([1, 0]))
    fine = identified(watched, np.array([1, 1]))
    assert robust_value(fine, np.array([1, 1])).score == pytest.approx(watched.expert_value)


def test_balke_and_pearl():
    """The lipid study (Balke and Pearl 1997): P(y, d | z) in the order (0,0), (0,1), (1,0), (1,1)."""
    shown = np.array([[0.919, 0.0, 0.081, 0.0], [0.315, 0.139, 0.073, 0.473]]).reshape(2, 2, 2)  # [Z, Y, D]
    low, high = response_type_bounds(shown.transpose(0, 2, 1), [[0, -1], [0, 1]])
    assert (low, high) == pytest.approx((0.392, 0.780), abs=EXACT)
    none = response_type_bounds(shown.mean(0).T[None], [[0, -1], [0, 1]])  # without the instrument
    assert none[0] < low and none[1] > high and none[1] - none[0] == pytest.approx(1)
    with pytest.raises(ValueError, match="z must touch y"):
        response_type_bounds(np.array([[[1.0, 0], [0, 0]], [[0, 1.0], [0, 0]]]), [[0, -1], [0, 1]])



def test_an_instrument_never_hurts_and_the_truth_is_inside():
    for seed in range(60):
        model = worlds.random_model([("Z", "X"), ("X", "Y")], [("X", "Y")], "ZXY", seed=seed)
        law = np.stack([model.joint("X", "Y", given={"Z": z}) for z in (0, 1)])
        low, high = response_type_bounds(law, [[0, -1], [0, 1]])
        effect = model.do({"X": 1}).mean("Y") - model.do({"X": 0}).mean("Y")
        assert low - 1e-9 <= effect <= high + 1e-9
        for z in (0, 1):
            wide = response_type_bounds(law[z][None], [[0, -1], [0, 1]])
            assert wide[0] - 1e-9 <= low and high <= wide[1] + 1e-9


# Samples


@pytest.mark.parametrize("rows", [10, 50, 1000])
def test_coverage_of_the_sample_bounds(rows):
    """1000 data sets with a fixed number of rows in each state; all lower ends hold at once at least as often as stated."""
    mdp = worlds.random_mdp(3, 2, 3, seed=7)
    watched, rng, level = mdp.observed, seeding.generator(7, "coverage", rows), 0.8
    cells = np.concatenate([watched.joint.reshape(3, -1)], -1)
    counts = np.stack([rng.multinomial(rows, cells[s] / cells[s].sum(), size=1000) for s in range(3)], 1)
    counts = counts.reshape(1000, 3, 2, 3)
    rate = watched.reward / watched.expert  # binary rewards with the right mean, drawn given the action
    sums = rng.binomial(counts.sum(-1), rate)
    known = from_counts(counts, sums, start=mdp.start, discount=0.9, level=level)
    truth = natural(watched)
    assert known.contains(mdp.transitions, mdp.rewards).mean() >= level
    holds = (known.low <= truth.low + 1e-12).all((-1, -2, -3)) & (known.reward_low <= truth.reward_low + 1e-12).all((-1, -2))
    holds &= (known.reward_high >= truth.reward_high - 1e-12).all((-1, -2))
    assert holds.mean() >= level  # a stronger statement: the whole natural set is inside
    tight = from_counts(counts, sums, start=mdp.start, discount=0.9, level=0.01)
    held = (tight.low <= truth.low + 1e-12).all((-1, -2, -3)).mean()
    assert held < 0.8  # a level that promises little is not always right: the test can fail


def test_one_cell_has_exactly_the_binomial_coverage():
    """One state, one action, two next states would leave one cell: its end is Clopper and Pearson's."""
    from scipy import stats

    counts = np.array([[[7.0, 0.0], [13.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    known = from_counts(counts, counts.sum(-1), start=[1, 0], discount=0.5, level=0.9)
    delta = 0.1 / (8 + 8)
    exact = stats.binomtest(7, 20).proportion_ci(1 - 2 * delta, method="exact").low
    assert known.low[0, 0, 0] == pytest.approx(exact, abs=1e-12) and known.low[0, 0, 1] == 0
    assert known.low[1] == pytest.approx(0) and known.reward_high[1] == pytest.approx(1)  # a state never visited
    m = known.reward_low[0, 1]  # Chernoff: 20 kl(13/20, m) = log(1 / delta)
    p = 13 / 20
    assert 20 * (p * math.log(p / m) + (1 - p) * math.log((1 - p) / (1 - m))) == pytest.approx(math.log(1 / delta), abs=1e-6)


def test_sample_bounds_close_in_on_the_natural_bounds():
    watched = worlds.two_state("both").observed
    truth, gaps = natural(watched), []
    for rows in (10**3, 10**5, 10**7):
        counts = np.round(rows * watched.joint)
        known = from_counts(counts, np.round(rows * watched.reward), start=watched.start, discount=0.9)
        assert (known.low <= truth.low + 1e-6).all()
        gaps.append((truth.low - known.low).max())
    assert gaps[0] > 5 * gaps[1] > 25 * gaps[2] and gaps[2] < 0.001
    fewer = from_counts(counts, np.round(rows * watched.reward), start=watched.start, discount=0.9, looks=10**6)
    assert (fewer.low <= known.low).all() and (fewer.low < known.low).any()


def test_coverage_along_trajectories():
    """Counts from episodes, where the number of visits is random: `looks` pays for that."""
    mdp = worlds.two_state("both")
    seen = mdp.demonstrations(1000, 60, seed=3)
    before, after = seen.states[:, :-1], seen.states[:, 1:]
    counts, rows = np.zeros((1000, 2, 2, 2)), np.arange(1000)[:, None]
    np.add.at(counts, (rows, before, seen.actions, after), 1)
    sums = np.zeros((1000, 2, 2))
    np.add.at(sums, (rows, before, seen.actions), seen.rewards)
    by_hand = count(*(part[17] for part in seen), (2, 2))
    assert np.array_equal(counts[17], by_hand[0]) and np.array_equal(sums[17], by_hand[1])
    known = from_counts(counts, sums, start=mdp.start, discount=0.9, level=0.8, looks=60)
    truth = natural(mdp.observed)
    holds = (known.low <= truth.low + 1e-12).all((-1, -2, -3)) & (known.reward_low <= truth.reward_low).all((-1, -2))
    assert (holds & (known.reward_high >= truth.reward_high).all((-1, -2))).mean() >= 0.8


def test_counting_by_hand():
    counts, sums = count([[0, 1, 1]], [[1, 0]], [[0.5, 1.0]], (2, 2))
    assert counts[0, 1, 1] == 1 and counts[1, 0, 1] == 1 and counts.sum() == 2
    assert sums.tolist() == [[0, 0.5], [1, 0]]
    with pytest.raises(ValueError, match="episodes need"):
        count([[0, 1]], [[1, 0]], [[0, 0]], (2, 2))


# Another package


def test_causalrl_gives_the_same_natural_bounds():
    """Logs of single steps of 200 random confounded MDPs: its Manski bounds on E[Y | do(x), s] are our natural bounds."""
    from causalrl.data.dataset import ConfoundedTrajectoryDataset, Transition
    from causalrl.ope.bounds import causal_q_bounds

    for seed in range(200):
        mdp = worlds.random_mdp(2, 2, 3, seed=seed)
        rng = seeding.generator(seed, "logs")
        seen = mdp.demonstrations(1, 40, seed=seed)
        s, x, y, t = seen.states[0, :-1], seen.actions[0], (rng.random(40) < seen.rewards[0]).astype(float), seen.states[0, 1:]
        log = [Transition(int(a), int(b), float(r), int(n), True) for a, b, r, n in zip(s, x, y, t)]
        counts, sums = count(seen.states, seen.actions, y[None], (2, 2))
        rows = np.maximum(counts.sum((-1, -2)), 1)[:, None]
        watched = mdp.observed._replace(
            expert=counts.sum(-1) / rows, joint=counts / rows[..., None], reward=sums / rows
        )
        ours = natural(watched)
        theirs = ConfoundedTrajectoryDataset(log, 2, 2)
        for state, action in itertools.product(range(2), repeat=2):
            if counts[state].sum():
                expected = tuple(causal_q_bounds(theirs, state, action))
                got = (ours.reward_low[state, action], ours.reward_high[state, action])
                assert got == pytest.approx(expected, abs=1e-12)


def test_causalrl_sensitivity_bounds_are_wider_because_they_forget_one_constraint():
    """Tan's model as that package has it (Zhao, Small and Bhattacharya 2019) lets the weights 1 + (1/e - 1) q/P of the
    treated have any mean; but they must average 1/e, since q is a distribution. We keep that constraint, so our interval lies
    inside theirs and is still valid; both are a point at gamma = 1."""
    from causalrl.ope.bounds import ipw_sensitivity_bounds

    strictly = 0
    for seed in range(200):
        rng = seeding.generator(seed, "sensitivity")
        treated, e, gamma = int(rng.integers(5, 30)), float(rng.uniform(0.2, 0.8)), float(rng.uniform(1, 5))
        y = (rng.random(treated) < 0.6).astype(float)
        watched = worlds.bandit_mdp(worlds.xor_bandit()).observed
        watched = watched._replace(
            expert=np.array([[1 - e, e]]), joint=np.array([[[1 - e], [e]]]), reward=np.array([[0.0, e * y.mean()]])
        )
        known = sensitivity(watched, gamma)
        ours = known.reward_low[0, 1], known.reward_high[0, 1]
        low, high = ipw_sensitivity_bounds(y, np.full(treated, e), gamma=gamma, return_certificate=False)
        assert low - 1e-12 <= ours[0] <= ours[1] <= high + 1e-12
        strictly += ours[1] < high - 1e-9
        at_one = ipw_sensitivity_bounds(y, np.full(treated, e), gamma=1.0, return_certificate=False)
        one_point = sensitivity(watched, 1.0)
        assert (one_point.reward_low[0, 1], one_point.reward_high[0, 1]) == pytest.approx(tuple(at_one), abs=1e-12)
    assert strictly > 150


def test_bad_input_is_refused_in_words():
    watched = worlds.two_state("both").observed
    for gamma in (0.9, -1, math.nan):
        with pytest.raises(ValueError, match="gamma is a factor of at least 1"):
            sensitivity(watched, gamma)
    with pytest.raises(ValueError, match="outside the support at s=0, x=0"):
        natural(watched, support=np.array([[False, True], [True, True]])[:, None])
    with pytest.raises(ValueError, match="the support leaves no next state"):
        natural(watched, support=np.zeros((2, 2, 2), bool))
    good = point(np.full((2, 2, 2), 0.5), np.zeros((2, 2)), [0.5, 0.5], 0.9)
    parts = {name: getattr(good, name) for name in ("low", "high", "reward_low", "reward_high", "start", "discount")}
    for changes, message in (
        ({"low": np.full((2, 2, 2), 0.6)}, r"the lower bounds of T\(s=0, x=0\) add up to more than 1"),
        ({"low": np.full((2, 2, 2), -0.1)}, "are negative"),
        ({"high": np.full((2, 2, 2), 0.4)}, "lower bound above its upper bound"),
        ({"low": np.zeros((2, 2, 2)), "high": np.full((2, 2, 2), 0.4)}, "add up to less than 1"),
        ({"reward_low": np.ones((2, 2))}, r"R\(s=0, x=0\) has a lower bound above"),
        ({"discount": 1.5}, "discount"),
    ):
        with pytest.raises(ValueError, match=message):
            Uncertainty(**{**parts, **changes})
    with pytest.raises(ValueError, match="the next state S': not a distribution"):
        point(np.ones((2, 2, 2)), np.zeros((2, 2)), [0.5, 0.5], 0.9)
    with pytest.raises(ValueError, match="leftover: not a distribution"):
        witness(watched, np.ones((2, 2, 2)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="the reward Y goes from"):
        witness(watched, np.full((2, 2, 2), 0.5), np.full((2, 2), 2.0))
    with pytest.raises(ValueError, match="law must be"):
        response_type_bounds(np.ones((2, 2)) / 4, np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"P\(x, y \| z\): not a distribution"):
        response_type_bounds(np.ones((1, 2, 2)), np.ones((2, 2)))
    with pytest.raises(ValueError, match="too many for a linear program"):
        response_type_bounds(np.full((3, 8, 8), 1 / 64), np.ones((8, 8)))
    counts, sums = np.ones((2, 2, 2)), np.ones((2, 2))
    options = {"start": [0.5, 0.5], "discount": 0.9}
    with pytest.raises(ValueError, match="whole numbers"):
        from_counts(counts / 2, sums, **options)
    with pytest.raises(ValueError, match="the rewards at s=0, x=0 are outside"):
        from_counts(counts, sums * 3, **options)
    with pytest.raises(ValueError, match="level must lie"):
        from_counts(counts, sums, level=95, **options)
    with pytest.raises(ValueError, match="looks must be"):
        from_counts(counts, sums, looks=0, **options)
    with pytest.raises(ValueError, match="outside the support at s=0, x=0"):
        from_counts(counts, sums, support=np.eye(2, dtype=bool)[:, None], **options)
