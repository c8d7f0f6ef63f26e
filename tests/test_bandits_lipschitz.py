"""Arms on an interval: a grid is a smaller bandit, zooming keeps every place spoken for."""

from __future__ import annotations

import math

import numpy as np
import pytest

from workbench.bandits import lipschitz, play, policies
from workbench.bandits.lipschitz import FixedGrid, Zooming, on_interval, places, tent
from workbench.bandits.problems import Bernoulli


def test_the_tent_falls_from_its_peak_at_its_slope_and_never_below_zero():
    x = np.array([0.0, 0.5, 0.6, 1.0])
    assert np.allclose(tent()(x), [0.3, 0.8, 0.9, 0.5], rtol=0, atol=1e-12)
    assert np.allclose(tent(0.5, 1.0, 4.0)(x), [0.0, 1.0, 0.6, 0.0], rtol=0, atol=1e-12)
    problem = on_interval(tent(), arms=1000)
    assert np.abs(np.diff(problem.means)).max() <= 1 / 1000 + 1e-12
    assert places(1000)[np.argmax(problem.means)] == pytest.approx(0.6, abs=1 / 2000 + 1e-12)


def test_a_grid_plays_the_smaller_bandit_of_its_points():
    """Arms that meet the same luck: UCB1 on the points alone must pull exactly the same."""
    problem = on_interval(tent())
    played = play.play(FixedGrid(), problem, 2000, 20, seed=1)
    points = math.ceil((2000 / math.log(2000)) ** (1 / 3))
    grid = np.array([math.floor((j + 0.5) / points * 1024) for j in range(points)])
    small = Bernoulli(np.array(problem.means)[grid])
    alone = play.play(policies.UCB1(), small, 2000, 20, seed=1)
    assert np.array_equal(played.pulls[:, grid], alone.pulls) and played.pulls.sum() == alone.pulls.sum()
    lost_by_the_grid = 2000 * (problem.optimum - small.optimum)
    assert np.allclose(played.final, alone.final + lost_by_the_grid, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("slope", "horizon", "points"), [(1.0, 1000, 6), (4.0, 1000, 14), (1.0, 100_000, 21)])
def test_the_grid_is_as_fine_as_the_theory_asks(slope, horizon, points):
    assert points == math.ceil((horizon * slope**2 / math.log(horizon)) ** (1 / 3))
    grid = FixedGrid(slope=slope)
    grid.start(2, 1024, horizon)
    assert len(np.unique(grid.grid)) == points


class _Slow:
    """Zooming, one repetition, straight from its two rules, with every ball checked against every place."""

    def __init__(self, arms: int, horizon: int, slope: float, scale: float) -> None:
        self.x, self.slope, self.level = places(arms), slope, scale * math.log(horizon)
        self.pulls: dict[int, list[float]] = {}  # arm: rewards
        self._cover()

    def radius(self, arm: int) -> float:
        return math.sqrt(self.level / (len(self.pulls[arm]) + 1))

    def uncovered(self) -> list[int]:
        covered = np.zeros(len(self.x), dtype=bool)
        for arm in self.pulls:
            covered |= np.abs(self.x - self.x[arm]) <= self.radius(arm) / self.slope + 1e-12
        return np.flatnonzero(~covered).tolist()

    def _cover(self) -> None:
        while bare := self.uncovered():
            self.pulls[bare[0]] = []

    def choose(self) -> int:
        def index(arm: int) -> float:
            return (math.fsum(self.pulls[arm]) / max(len(self.pulls[arm]), 1)) + 2 * self.radius(arm)

        return max(self.pulls, key=index)  # the first to become active, if several

    def update(self, arm: int, reward: float) -> None:
        self.pulls[arm].append(reward)
        self._cover()


@pytest.mark.parametrize(("slope", "scale"), [(1.0, 0.02), (3.0, 0.2), (1.0, 2.0)])
def test_zooming_is_its_two_rules(slope, scale):
    horizon, arms, repetitions = 400, 64, 3
    luck = np.random.default_rng(5).random((horizon, repetitions))
    chances = tent(slope=slope)(places(arms))
    fast = Zooming(slope=slope, scale=scale)
    fast.start(repetitions, arms, horizon)
    slow = [_Slow(arms, horizon, slope, scale) for _ in range(repetitions)]
    for u in luck:
        arm = fast.choose(np.random.default_rng(0))
        assert arm.tolist() == [player.choose() for player in slow]
        reward = (u < chances[arm]).astype(float)
        fast.update(arm, reward)
        for player, a, r in zip(slow, arm.tolist(), reward.tolist()):
            player.update(a, r)
    assert fast.active.tolist() == [len(player.pulls) for player in slow]
    if scale < 1:
        assert min(fast.active) >= 4


def test_every_place_is_spoken_for_and_the_slots_grow():
    policy = Zooming(scale=0.002)
    play.play(policy, on_interval(tent(), arms=256), 3000, 5, seed=2)
    assert (policy.speakers >= 1).all()
    assert policy.active.max() > 8 and policy.place.shape[1] >= policy.active.max()
    assert policy.n.sum() == 5 * 3000


def test_zooming_goes_where_it_pays_and_beats_the_grid_and_the_bandit_of_all_places():
    """With a radius a quarter of the theory's; regret over 40 repetitions, and the bounds are ten standard errors away."""
    problem = on_interval(tent())
    zoomed = play.play(Zooming(scale=2 / 16), problem, 5000, 40, seed=0)
    near = np.abs(places(1024) - 0.6) < 0.1
    assert zoomed.pulls[:, near].sum() / zoomed.pulls.sum() > 0.75
    assert zoomed.final.mean() < 0.6 * play.play(FixedGrid(), problem, 5000, 40, seed=0).final.mean()
    everything = play.play(policies.UCB1(), problem, 5000, 5, seed=0).final.mean()
    assert everything > 0.9 * 5000 * problem.gaps.mean()  # UCB1 has hardly begun


def test_the_finer_grid_has_the_smaller_error_and_the_larger_price_of_learning():
    problem = on_interval(tent(peak=0.5 + 1 / 8))
    by_points = {k: play.play(FixedGrid(k), problem, 3000, 20).final.mean() for k in (2, 12, 200)}
    assert by_points[12] < by_points[2] < by_points[200]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: on_interval(lambda x: x * 2), "must lie between 0 and 1"),
        (lambda: on_interval(lambda x: 0.5), r"shape \(1024,\) became \(\)"),
        (lambda: on_interval(tent(), arms=1), "at least two arms"),
        (lambda: on_interval(tent(), arms=0), "arms must be a whole number of at least 1, not 0"),
        (lambda: FixedGrid(0), "points must be a whole number of at least 1, not 0"),
        (lambda: FixedGrid(slope=0), "slope must be positive, not 0"),
        (lambda: Zooming(slope=-1), "slope must be positive, not -1"),
        (lambda: Zooming(scale=math.inf), "scale must be positive, not inf"),
        (lambda: play.play(FixedGrid(20), Bernoulli([0.5] * 10), 10), "a grid of 20 points on 10 arms"),
    ],
)
def test_what_cannot_be_laid_out_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_interval_is_reexported():
    from workbench import bandits

    assert bandits.Zooming is lipschitz.Zooming and bandits.on_interval is on_interval
