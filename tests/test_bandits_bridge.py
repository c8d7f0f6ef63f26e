"""Bandits as batches: every recipe runs on them, and its updates have exactly the mean that enumeration says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench import models, objective, recipes
from workbench.bandits import bridge, offline
from workbench.bandits.problems import Bernoulli, Gaussian
from workbench.batch import Origin
from workbench.objective.exact import expected_update, policy_gradient

MEANS = np.array([[0.9, 0.5, 0.1], [0.2, 0.3, 0.8]])
LOGITS = torch.tensor([[0.0, 0.5, -0.5], [0.7, 0.0, -0.7]], dtype=torch.float64)


def table(logits=LOGITS):
    policy = models.Tabular(*logits.shape, dtype=torch.float64)
    with torch.no_grad():
        policy.table.copy_(logits)
    return policy


def update(recipe, policy, batch):
    """Minus the gradient of a recipe's loss with respect to the table [S,K], for a batch as it is."""
    needs = objective.needs(recipe)
    with torch.no_grad():
        now = policy.evaluate(batch)
    given = {}
    if "entropy" in needs:
        given["entropy"] = now.entropy
    if "values" in needs:
        given["values"] = torch.zeros_like(now.logp)
    if "reference" in needs:
        given["logp_ref"] = now.logp
    given |= {name: torch.zeros_like(now.logp) for name in ("answer", "implicit") if name in needs}
    if "turn_entropy" in needs:
        given["entropy_past"] = torch.full_like(now.logp, torch.nan)  # the first update: nothing is usual yet
    prepared = objective.prepare(recipe, batch, **given)
    said = policy.evaluate(batch)
    loss, _ = objective.loss(recipe, prepared, said.logp, said.entropy, given.get("values"))
    (gradient,) = torch.autograd.grad(loss, policy.table)
    return -gradient


def kept_rollout(recipe, policy, bandits, size, seed):
    """One group for each context; what dynamic sampling throws away is drawn again."""
    asked = np.tile([0, 1], 40) if recipe.rollout.name == "resample" else np.array([0, 1])
    batch = bridge.rollout(policy, bandits, asked, group_size=size, seed=seed)
    keep = recipe.rollout(batch, objective.rewards(recipe, batch))
    first = [int(batch.group[keep & (batch.tokens[:, 0] == context)][0]) for context in (0, 1)]
    return batch.select(torch.isin(batch.group, torch.tensor(first)))


SILENT = {"step_grpo", "cobalt"}  # paid by what the task says of each turn, and a bandit says nothing: the update is 0


@pytest.mark.parametrize("name", sorted(set(recipes.names()) - SILENT))
def test_the_mean_update_of_every_recipe_is_the_one_of_enumeration(name):
    """200 updates from 200 batches of one group of three pulls a context, against all outcomes listed; 5 standard errors."""
    logits, means = LOGITS[:, :2], MEANS[:, [0, 2]]
    recipe, policy, bandits = recipes.get(name), table(logits), [Bernoulli(row) for row in means]
    exact = expected_update(recipe, logits, torch.from_numpy(means), group_size=3)
    seen = torch.stack([update(recipe, policy, kept_rollout(recipe, policy, bandits, 3, seed)) for seed in range(200)])
    error = (exact.covariance.diagonal().view_as(exact.mean) / 200).sqrt()
    assert ((seen.mean(0) - exact.mean).abs() <= 5 * error + 1e-6).all()
    assert exact.mean.abs().max() > 5 * error.max()  # the test can tell this update from none


def test_a_bandit_is_learnt_to_the_end_with_the_recipes_of_language_models():
    bandits = [Bernoulli(row) for row in MEANS]
    for name in ("grpo", "rloo", "ppo"):
        recipe, policy = recipes.get(name), table(torch.zeros(2, 3, dtype=torch.float64))
        optimiser = torch.optim.Adam(policy.parameters(), lr=0.1)
        for step in range(60):
            batch = bridge.rollout(policy, bandits, [0, 1, 0, 1], group_size=8, seed=step)
            policy.table.grad = -update(recipe, policy, batch)
            optimiser.step()
        assert policy.table.argmax(1).tolist() == MEANS.argmax(1).tolist(), name


def test_rollouts_are_laid_out_as_prompts_and_groups():
    batch = bridge.rollout(table(), [Gaussian(row, 0.0) for row in MEANS], [1, 0, 1], group_size=4, seed=3)
    assert batch.tokens[:, 0].tolist() == [1] * 4 + [0] * 4 + [1] * 4
    assert batch.group.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert np.allclose(batch.outcome, MEANS[batch.tokens[:, 0], batch.tokens[:, 1]], atol=1e-7)
    logp = LOGITS.log_softmax(1)[batch.tokens[:, 0], batch.tokens[:, 1]]
    assert torch.allclose(batch.logp_old[:, 1].double(), logp, atol=1e-6)
    again = bridge.rollout(table(), [Gaussian(row, 0.0) for row in MEANS], [1, 0, 1], group_size=4, seed=3)
    assert torch.equal(batch.tokens, again.tokens)


def test_arms_and_rewards_have_their_probabilities():
    batch = bridge.rollout(table(), [Bernoulli(row) for row in MEANS], [0], group_size=20_000, seed=0)
    share = np.bincount(batch.tokens[:, 1], minlength=3) / 20_000
    policy = LOGITS.softmax(1)[0].numpy()
    assert (np.abs(share - policy) < 4 * np.sqrt(policy * (1 - policy) / 20_000)).all()
    for arm in range(3):
        paid = batch.outcome[batch.tokens[:, 1] == arm].numpy()
        mean = MEANS[0, arm]
        assert abs(paid.mean() - mean) < 4 * np.sqrt(mean * (1 - mean) / len(paid))
    noisy = bridge.rollout(table(), [Gaussian(row, 0.3) for row in MEANS], [1], group_size=20_000, seed=0)
    noise = noisy.outcome.numpy() - MEANS[1, noisy.tokens[:, 1]]
    assert abs(noise.std() - 0.3) < 4 * 0.3 / np.sqrt(40_000)


def test_the_gradient_from_a_log_is_that_of_the_new_policy():
    """Another policy logged; with the importance ratio, REINFORCE's mean update is still the exact gradient of the new policy."""
    logger = np.array([[0.2, 0.3, 0.5], [0.4, 0.4, 0.2]])
    recipe = recipes.get("reinforce").but(
        "off-policy", ratio=objective.importance(), surrogate=objective.policy_gradient()
    )
    log = offline.record(MEANS, logger, 100_000, seed=0)
    batch = bridge.from_log(log)
    assert (batch.origin == Origin.REPLAY).all() and len(batch) == 100_000
    assert np.allclose(batch.logp_old[:, 1].exp(), log.propensities.reshape(-1), atol=1e-6)
    assert np.array_equal(batch.tokens[:, 0].numpy(), log.contexts.reshape(-1))
    seen = update(recipe, table(), batch)
    exact = policy_gradient(LOGITS, torch.from_numpy(MEANS))
    assert torch.allclose(seen, exact, atol=0.006)


def test_bad_input_is_refused_in_words():
    policy, bandits = table(), [Bernoulli(row) for row in MEANS]
    with pytest.raises(ValueError, match="contexts must be a list of whole numbers"):
        bridge.rollout(policy, bandits, [], group_size=2, seed=0)
    with pytest.raises(ValueError, match="contexts must be a list of whole numbers"):
        bridge.rollout(policy, bandits, [0.5], group_size=2, seed=0)
    with pytest.raises(ValueError, match="group_size must be at least 1, not 0"):
        bridge.rollout(policy, bandits, [0], group_size=0, seed=0)
    with pytest.raises(ValueError, match="numbers from 0 to 1, one problem each"):
        bridge.rollout(policy, bandits, [2], group_size=2, seed=0)
    with pytest.raises(ValueError, match="same number of arms, not .2, 3."):
        bridge.rollout(policy, [bandits[0], Bernoulli([0.1, 0.2])], [0], group_size=2, seed=0)
    with pytest.raises(ValueError, match="pulled arm 2, but the problem has 2"):
        bridge.rollout(policy, Bernoulli([0.1, 0.2]), group_size=50, seed=0)
    with pytest.raises(ValueError, match="no propensities"):
        bridge.from_log(offline.Log(np.array([0, 1]), np.array([0.0, 1.0]), 2))
