"""The transformer that learns to explore, against exact posteriors, its own full forward pass, and Thompson sampling."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import integrate
from scipy.stats import norm

from workbench import seeding
from workbench.bandits import in_context as ic
from workbench.bandits.play import play

DATA = Path(__file__).parents[1] / "data"
FIVE = ic.TaskDistribution(5)


def tensors(logs):
    return torch.from_numpy(logs.arms), torch.from_numpy(logs.rewards).float(), torch.from_numpy(logs.best)


def stirred(arms=3, horizon=8, seed=0):
    """A network whose last layer is not zero, so that its answers depend on what it reads."""
    model = ic.HistoryTransformer(arms, horizon, seed=seed)
    with torch.no_grad():
        model.answer.weight.normal_(generator=torch.Generator().manual_seed(seed))
    return model


# ---- the exact answer ----


def test_with_two_arms_and_a_gaussian_prior_the_posterior_is_the_textbook_one():
    """Means N(m, v) a priori: posterior N((m/v + sum/s^2) / (1/v + n/s^2), 1 / (1/v + n/s^2)), and P(first is best) = Phi."""
    prior_mean, prior_var, std = 0.4, 0.09, 0.3
    pulls = np.array([[0, 0], [3, 0], [2, 5], [20, 20], [1, 40]])
    sums = pulls * np.array([[0.5, 0.3], [0.9, 0.1], [0.2, 0.6], [0.5, 0.52], [-1.0, 0.7]])
    grid = prior_mean + 8 * math.sqrt(prior_var) * (2 * (np.arange(4000) + 0.5) / 4000 - 1)
    weight = norm.pdf(grid, prior_mean, math.sqrt(prior_var))
    found = ic.posterior_best(pulls, sums, std, grid, weight)
    precision = 1 / prior_var + pulls / std**2
    mean = (prior_mean / prior_var + sums / std**2) / precision
    first = norm.cdf((mean[:, 0] - mean[:, 1]) / np.sqrt((1 / precision).sum(1)))
    assert np.allclose(found[:, 0], first, atol=1e-5) and np.allclose(found.sum(1), 1, atol=1e-12)


def test_with_a_uniform_prior_the_posterior_is_the_integral():
    pulls, sums, std = np.array([4, 1, 0]), np.array([2.2, 0.1, 0.0]), 0.3

    def density(k, m):
        return norm.pdf(m, sums[k] / pulls[k], std / math.sqrt(pulls[k])) if pulls[k] else 1.0

    whole = [integrate.quad(lambda m, k=k: density(k, m), 0, 1)[0] for k in range(3)]

    def below(k, m):
        return integrate.quad(lambda x: density(k, x), 0, m)[0] / whole[k]

    exact = [
        integrate.quad(
            lambda m, k=k: density(k, m) / whole[k] * math.prod(below(j, m) for j in range(3) if j != k), 0, 1
        )[0]
        for k in range(3)
    ]
    found = ic.posterior_best(pulls, sums, std, ic.grid_of(ic.TaskDistribution(3)))
    assert np.allclose(found, exact, atol=1e-5)


def test_without_data_every_arm_is_as_likely_and_the_bayes_loss_starts_at_ln_k():
    for arms in (2, 3, 5):
        tasks = ic.TaskDistribution(arms)
        assert np.allclose(ic.posterior_best(np.zeros(arms), np.zeros(arms), 0.3, ic.grid_of(tasks)), 1 / arms, atol=1e-12)
        loss = ic.bayes_loss(tasks, ic.random_logs(tasks, 50, 6, 0))
        assert loss[0] == pytest.approx(math.log(arms), abs=1e-12)


def test_the_posterior_is_calibrated_on_the_logs_it_is_meant_for():
    """The probability it gives to an arm is, on average, how often that arm is best: also among the cases where it is sure."""
    logs = ic.random_logs(FIVE, 4000, 20, 1)
    pulls, sums = ic.summary(logs.arms, logs.rewards, 5)
    chance = ic.posterior_best(pulls[:, -1], sums[:, -1], FIVE.std, ic.grid_of(FIVE, 256))
    hit = np.eye(5)[logs.best]
    for low, high in ((0, 0.1), (0.1, 0.4), (0.4, 0.8), (0.8, 1.01)):
        here = (chance >= low) & (chance < high)
        off = (hit - chance)[here]
        assert here.sum() > 300 and abs(off.mean()) < 4 * off.std() / math.sqrt(here.sum())


def test_shifting_means_and_rewards_together_changes_nothing():
    logs = ic.random_logs(FIVE, 20, 10, 2)
    pulls, sums = ic.summary(logs.arms, logs.rewards + 3, 5)
    there = ic.TaskDistribution(5, 3, 4)
    shifted = ic.posterior_best(pulls, sums, 0.3, ic.grid_of(there))
    pulls, sums = ic.summary(logs.arms, logs.rewards, 5)
    assert np.allclose(shifted, ic.posterior_best(pulls, sums, 0.3, ic.grid_of(FIVE)), atol=1e-9)


# ---- the logs ----


def test_the_log_does_not_give_the_label_away():
    """How often an arm was pulled, or its place, says nothing of its worth: only rewards do."""
    logs = ic.random_logs(FIVE, 20_000, 10, 3)
    most = np.array([np.bincount(row, minlength=5).argmax() for row in logs.arms])
    for guess in (most, logs.arms[:, 0], np.zeros(20_000)):
        assert abs((guess == logs.best).mean() - 0.2) < 4 * math.sqrt(0.2 * 0.8 / 20_000)
    assert (logs.best == logs.means.argmax(1)).all()


def test_rewards_have_the_mean_and_the_deviation_of_the_task():
    tasks = ic.TaskDistribution(3, -1, 2, std=0.5)
    logs = ic.random_logs(tasks, 2000, 20, 4)
    noise = logs.rewards - np.take_along_axis(logs.means, logs.arms, 1)
    assert abs(noise.mean()) < 4 * 0.5 / math.sqrt(noise.size)
    assert abs(noise.std() - 0.5) < 4 * 0.5 / math.sqrt(2 * noise.size)
    assert -1 <= logs.means.min() < -0.99 and 1.99 < logs.means.max() <= 2


def test_players_mix_dirichlet_with_a_favourite():
    """P(the second pull repeats the first) = E[w^2 + 2 w (1 - w) / K + (1 - w)^2 * 2 / (K + 1)] for w one of 0, .1, ..., 1."""
    logs = ic.random_logs(FIVE, 40_000, 2, 5)
    w = np.arange(11) / 10
    expected = (w**2 + 2 * w * (1 - w) / 5 + (1 - w) ** 2 * 2 / 6).mean()
    assert abs((logs.arms[:, 0] == logs.arms[:, 1]).mean() - expected) < 4 * math.sqrt(expected * (1 - expected) / 40_000)


def test_a_summary_counts_prefixes():
    pulls, sums = ic.summary(np.array([[1, 0, 1]]), np.array([[0.5, 2.0, 1.0]]), 2)
    assert pulls.tolist() == [[[0, 0], [0, 1], [1, 1], [1, 2]]]
    assert sums.tolist() == [[[0, 0], [0, 0.5], [2, 0.5], [2, 1.5]]]


# ---- the network ----


def test_the_sizes_are_the_ones_stated():
    def count(arms, horizon):
        return sum(p.numel() for p in ic.HistoryTransformer(arms, horizon).parameters())

    assert count(3, 30) == 26_755 and count(5, 50) == 27_525


@pytest.mark.parametrize("arms", [2, 3, 5])
def test_an_untrained_network_has_loss_ln_k_at_every_prefix(arms):
    logs = ic.random_logs(ic.TaskDistribution(arms), 16, 12, 0)
    read, rewards, best = tensors(logs)
    loss = ic.prefix_loss(ic.HistoryTransformer(arms, 12)(read, rewards), best)
    assert loss.shape == (13,) and torch.allclose(loss, torch.full((13,), math.log(arms)), atol=1e-6)


def test_position_n_has_seen_n_pulls_and_no_more():
    model = stirred()
    arms, rewards, _ = tensors(ic.random_logs(ic.TaskDistribution(3), 4, 8, 0))
    before = model(arms, rewards)
    for pull in range(8):
        changed = rewards.clone()
        changed[:, pull] += 1
        moved = (model(arms, changed) - before).abs().amax((0, 2))
        assert (moved[: pull + 1] == 0).all() and (moved[pull + 1 :] > 1e-4).all()


def test_one_pull_at_a_time_equals_the_whole_history_at_once():
    model = stirred()
    arms, rewards, _ = tensors(ic.random_logs(ic.TaskDistribution(3), 7, 8, 1))
    with torch.no_grad():
        whole = model(arms, rewards)
        logits, memory = model.begin(7)
        parts = [logits]
        for n in range(8):
            logits, memory = model.extend(memory, arms[:, n], rewards[:, n])
            parts.append(logits)
    assert torch.allclose(torch.stack(parts, 1), whole, atol=1e-5)
    assert torch.allclose(model(arms[:, :3], rewards[:, :3]), whole[:, :4], atol=1e-5)


def test_saving_and_loading_changes_no_bit(tmp_path):
    model = stirred(seed=3)
    model.save(tmp_path / "model.safetensors")
    again = ic.HistoryTransformer.load(tmp_path / "model.safetensors")
    arms, rewards, _ = tensors(ic.random_logs(ic.TaskDistribution(3), 4, 8, 0))
    assert torch.equal(model(arms, rewards), again(arms, rewards))
    (tmp_path / "other").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a saved HistoryTransformer"):
        ic.HistoryTransformer.load(tmp_path / "other")


def test_the_loss_over_prefixes_by_hand():
    logits = torch.tensor([[[0.0, 0.0], [math.log(3), 0.0]]])  # 1/2, then 3/4
    assert ic.prefix_loss(logits, torch.tensor([0])).tolist() == pytest.approx([math.log(2), math.log(4 / 3)])
    assert ic.prefix_loss(logits, torch.tensor([[0, 1]])).tolist() == pytest.approx([math.log(2), math.log(4)])


# ---- training ----


def test_a_few_hundred_steps_reach_a_loss_between_exact_bounds():
    """Nobody is below the exact posterior. Who is below the exact posterior after one pull must be reading more than one."""
    tasks = ic.TaskDistribution(2)
    model = ic.HistoryTransformer(2, 10, width=16, layers=1, heads=1)
    records = list(ic.pretrain(model, tasks, steps=300, batch_size=32, seed=0))
    logs = ic.random_logs(tasks, 3000, 10, 7)
    arms, rewards, best = tensors(logs)
    with torch.no_grad():
        loss = ic.prefix_loss(model(arms, rewards), best).numpy()
    exact = ic.bayes_loss(tasks, logs)
    assert abs(records[0].loss - math.log(2)) < 1e-6 and records[-1].step == 300
    assert loss[0] == pytest.approx(math.log(2), abs=0.02)
    assert exact.mean() - 0.005 < loss.mean() < (math.log(2) + 10 * exact[1]) / 11 - 0.02


def test_training_is_reproducible_and_depends_on_its_seed():
    def weights(seed):
        model = ic.HistoryTransformer(3, 5, seed=0)
        for _ in ic.pretrain(model, ic.TaskDistribution(3), steps=3, batch_size=4, seed=seed):
            pass
        return model.answer.weight.detach()

    assert torch.equal(weights(1), weights(1)) and not torch.equal(weights(1), weights(2))


class InTurn:
    """Pulls 0, 1, 2, 0, ... whatever they pay."""

    feedback = "bandit"

    def start(self, repetitions, arms, horizon):
        self.pull, self.rows, self.arms = 0, repetitions, arms

    def choose(self, rng):
        return np.full(self.rows, self.pull % self.arms)

    def update(self, arm, reward):
        self.pull += 1


def test_distillation_learns_what_its_teacher_does_and_not_what_would_be_best():
    model = ic.HistoryTransformer(3, 6, width=16, layers=1, heads=1)
    list(ic.distil(model, ic.TaskDistribution(3), InTurn(), steps=100))
    played = ic.play_tasks(ic.InContext(model, greedy=True), ic.TaskDistribution(3), 50, 7, 0)
    assert (played.arms == [0, 1, 2, 0, 1, 2, 0]).all()


# ---- playing ----


def test_playing_keeps_the_books():
    tasks = ic.TaskDistribution(3, std=0.2)
    played = ic.play_tasks(InTurn(), tasks, 2000, 4, 0)
    assert (played.arms == [0, 1, 2, 0]).all()
    gaps = played.means.max(1, keepdims=True) - played.means
    assert np.allclose(played.regret, gaps[:, [0, 1, 2, 0]].cumsum(1))
    noise = played.rewards - played.means[:, [0, 1, 2, 0]]
    assert abs(noise.std() - 0.2) < 4 * 0.2 / math.sqrt(2 * noise.size)
    again = ic.play_tasks(ic.PosteriorSampling(tasks), tasks, 2000, 4, 0)
    assert np.array_equal(again.means, played.means)  # all policies meet the same tasks and the same noise
    assert np.allclose(again.rewards - np.take_along_axis(again.means, again.arms, 1), noise)


def test_the_same_tasks_are_a_problem_for_play():
    """`play` and `play_tasks` are one loop, and `play` counts regret against the means of each repetition."""
    tasks, policy = ic.TaskDistribution(3), ic.PosteriorSampling(ic.TaskDistribution(3))
    found = play(policy, tasks, 12, 4000, seed=0)
    kept = ic.play_tasks(policy, tasks, 4000, 12, 0)
    assert found.times[-1] == 12 and found.pulls.sum() == 4000 * 12
    gap = found.final.mean() - kept.regret[:, -1].mean()
    assert abs(gap) < 4 * math.sqrt((found.final.var() + kept.regret[:, -1].var()) / 4000)
    turns = play(InTurn(), tasks, 3, 5, seed=1)
    means = tasks.start(5, 3, seeding.generator(1, "bandit", "luck")).means
    assert np.allclose(turns.final, 3 * means.max(1) - means.sum(1))


def test_an_untrained_network_plays_at_random():
    """Regret per pull of three uniform arms: E[max] - E[mean] = 3/4 - 1/2."""
    played = ic.play_tasks(ic.InContext(ic.HistoryTransformer(3, 10)), ic.TaskDistribution(3), 3000, 10, 1)
    final = played.regret[:, -1]
    assert abs(final.mean() - 2.5) < 4 * final.std() / math.sqrt(3000)


def test_a_network_in_play_answers_what_it_says_of_the_whole_history():
    model = stirred(3, 6)
    played = ic.play_tasks(ic.InContext(model, greedy=True), ic.TaskDistribution(3), 20, 7, 0)
    arms, rewards, _ = tensors(played)
    with torch.no_grad():
        assert np.array_equal(model(arms[:, :6], rewards[:, :6]).argmax(2).numpy(), played.arms)
    cut = ic.Logs(played.arms[:, :6], played.rewards[:, :6], played.best, played.means)
    assert np.array_equal(ic.recommend(model, cut), played.arms[:, -1])


def test_posterior_sampling_pulls_as_often_as_the_posterior_says():
    """After the same history in every repetition: frequencies against `posterior_best`, and against Phi for the normal prior."""
    tasks = ic.TaskDistribution(2)
    for gaussian, rows in ((False, 5000), (True, 200_000)):
        policy = ic.PosteriorSampling(tasks, gaussian=gaussian)
        policy.start(rows, 2, 30)
        for _ in range(20):
            policy.update(np.ones(rows, int), np.full(rows, 0.95))
        share = (policy.choose(seeding.generator(0, "test")) == 0).mean()
        if gaussian:  # arm 0 is N(1/2, 1/12), as the uniform distribution has it
            precision = np.array([12, 12 + 20 / 0.09])
            centre = np.array([0.5, (0.5 * 12 + 19 / 0.09) / precision[1]])
            exact = norm.cdf((centre[0] - centre[1]) / math.sqrt((1 / precision).sum()))
        else:
            exact = ic.posterior_best(np.array([0, 20]), np.array([0, 19.0]), 0.3, ic.grid_of(tasks))[0]
        assert abs(share - exact) < 4 * math.sqrt(exact * (1 - exact) / rows)


WEIGHTS = sorted((DATA / "explorers").glob("*.safetensors"))


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda path: path.stem)
def test_the_recorded_networks_reach_their_targets(path):
    """On 800 new tasks: regret within 15 % of Thompson sampling, under a third of random; loss ln K at the start."""
    model = ic.HistoryTransformer.load(path)
    tasks, pulls = ic.TaskDistribution(model.arms), model.horizon
    arms, rewards, best = tensors(ic.random_logs(tasks, 400, pulls, 3))
    with torch.no_grad():
        loss = ic.prefix_loss(model(arms, rewards), best)
        before = model.begin(1)[0].softmax(1)
    assert loss[0].item() == pytest.approx(math.log(model.arms), abs=0.01)
    assert torch.allclose(before, torch.full_like(before, 1 / model.arms), atol=0.04)
    policies = (ic.InContext(model), ic.PosteriorSampling(tasks, gaussian=True))
    network, thompson = (ic.play_tasks(p, tasks, 800, pulls, 4).regret[:, -1].mean() for p in policies)
    at_random = pulls * (model.arms / (model.arms + 1) - 0.5)  # E[max] - E[mean] of uniform means, every pull
    assert network < 1.15 * thompson and network < at_random / 3


def test_all_six_recorded_networks_are_there():
    assert [path.stem for path in WEIGHTS] == ["k3_0", "k3_1", "k3_2", "k5_0", "k5_1", "k5_2"]


# ---- what must be refused ----


def test_bad_input_is_refused_in_words():
    with pytest.raises(ValueError, match="at least two arms, not 1"):
        ic.TaskDistribution(1)
    with pytest.raises(ValueError, match="low < high, not 1.0 to 0.0"):
        ic.TaskDistribution(3, 1.0, 0.0)
    with pytest.raises(ValueError, match="std must be a positive number, not 0"):
        ic.TaskDistribution(3, std=0)
    with pytest.raises(ValueError, match="horizon must be at least 1, not 0"):
        ic.random_logs(FIVE, 3, 0, 0)
    with pytest.raises(ValueError, match="count must be at least 1, not 0"):
        ic.random_logs(FIVE, 0, 3, 0)
    with pytest.raises(ValueError, match="seed must be"):
        ic.random_logs(FIVE, 3, 3, -1)
    with pytest.raises(ValueError, match="at least two arms, one pull and one layer"):
        ic.HistoryTransformer(3, 0)
    with pytest.raises(ValueError, match="width must be a multiple of heads"):
        ic.HistoryTransformer(3, 5, width=32, heads=3)
    model = ic.HistoryTransformer(3, 5)
    with pytest.raises(ValueError, match="made for 5 pulls and knows no position 6"):
        model(torch.zeros(1, 6, dtype=torch.int64), torch.zeros(1, 6))
    with pytest.raises(ValueError, match="the tasks have 5 arms, the network was made for 3"):
        ic.pretrain(model, FIVE, steps=1)
    with pytest.raises(ValueError, match="must be positive, not 0"):
        ic.pretrain(model, ic.TaskDistribution(3), steps=0)
    with pytest.raises(ValueError, match="the tasks have 5 arms, the network was made for 3"):
        ic.distil(model, FIVE, InTurn(), steps=1)
    with pytest.raises(ValueError, match="made for 5 pulls and knows no position 8"):
        ic.play_tasks(ic.InContext(model), ic.TaskDistribution(3), 2, 9, 0)
    for policy in (ic.InContext(model), ic.PosteriorSampling(ic.TaskDistribution(3))):
        with pytest.raises(ValueError, match="of 3 arms, the problem has 5|for 3 arms, the problem has 5"):
            ic.play_tasks(policy, FIVE, 2, 4, 0)
    with pytest.raises(ValueError, match="horizon must be at least 1, not 0"):
        ic.play_tasks(InTurn(), FIVE, 2, 0, 0)


def test_a_loss_that_is_not_finite_stops_training_in_words():
    def broken(tasks, count, horizon, rng):
        logs = ic.random_logs(tasks, count, horizon, rng)
        return ic.Logs(logs.arms, logs.rewards + np.inf, logs.best, logs.means)

    model = ic.HistoryTransformer(3, 5)
    with pytest.raises(FloatingPointError, match="step 1: the loss is nan"):
        next(ic.pretrain(model, ic.TaskDistribution(3), steps=2, logs=broken))


def test_a_stream_of_tasks_is_a_pure_function_of_its_seed():
    one, two = ic.random_logs(FIVE, 4, 6, 5), ic.random_logs(FIVE, 4, 6, 5)
    assert np.array_equal(one.rewards, two.rewards)
    assert not np.array_equal(one.rewards, ic.random_logs(FIVE, 4, 6, 6).rewards)
    assert np.array_equal(ic.random_logs(FIVE, 4, 6, seeding.generator(5, "logs")).rewards, one.rewards)
