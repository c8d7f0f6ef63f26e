"""The expected update of every method against the exact gradient: the bias, measured."""

import itertools
import math

import pytest
import torch

from workbench import objective as o
from workbench import recipes
from workbench.batch import Batch
from workbench.objective import exact

LOGITS = torch.tensor([[0.5, -0.3], [-0.4, 0.6]], dtype=torch.float64)
MEANS = torch.tensor([[0.9, 0.5], [0.1, 0.3]], dtype=torch.float64)  # an easy and a hard context
VALUES = torch.tensor([0.6, 0.25])

LOGITS3 = torch.tensor([[0.5, -0.3, 0.2]], dtype=torch.float64)
MEANS3 = torch.tensor([[0.9, 0.5, 0.1]], dtype=torch.float64)

UNBIASED = {
    "reinforce": 1.0, "reinforce_baseline": 1.0, "rloo": 1.0, "ppo": 1.0, "loop": 1.0, "turn_ppo": 1.0, "bilevel_ppo": 1.0,
    "poad": 1.0,
}  # fmt: skip

# Batch statistics couple the contexts, so that all combinations have to be listed: a smaller group for these.
SIZE = dict.fromkeys(("reinforce_baseline", "lite_ppo", "reinforce_pp", "reinforce_pp_baseline", "gtpo_hybrid"), 3)

# factor (what a learning rate can undo) and the share of the mean update that does not point along the gradient
BIASED = {
    "dr_grpo": (3 / 4 / 32, 0.0),  # (G-1)/G and its constant; the direction is right
    "grpo": (1.42904, 1.254e-3),
    "gspo": (1.42904, 1.254e-3),
    "gspo_token": (1.42904, 1.254e-3),
    "cispo": (1.42904, 1.254e-3),
    "sapo": (1.42904, 1.254e-3),
    "lite_ppo": (1.30244, 2.079e-3),
    "reinforce_pp": (1.60970, 8.409e-4),
    "reinforce_pp_baseline": (1.53094, 4.674e-3),
    "dapo": (2.22843, 2.318e-2),
    "gtpo": (1.69470, 2.275e-1),
    **dict.fromkeys(("gtpo_without_turn_rewards", "gtpo_without_returns"), (1.69470, 2.275e-1)),  # one turn, none malformed
    **dict.fromkeys(  # GRPO, in an episode of one turn and one row, at a first step, without hints
        ("gtpo_without_shaping", "igpo", "oprl", "arpo", "llds", "icrl", "simple_tir", "skill0", "supo", "flow_grpo",
         "dynamic_context"), (1.42904, 1.255e-3),
    ),
    "epo": (1.42651, 2.055e-3),  # and an entropy bonus
    "gtpo_hybrid": (1.83847, 0.0),  # of three right or wrong answers the spread is always the same, unless it is 0
}

SILENT = {"step_grpo", "cobalt"}  # paid by what the task says of each turn, and a bandit says nothing: the update is 0


def test_the_exact_gradient_is_that_of_the_expected_reward():
    logits = LOGITS.clone().requires_grad_()
    ((logits.softmax(1) * MEANS).sum() / 2).backward()
    torch.testing.assert_close(exact.policy_gradient(LOGITS, MEANS), logits.grad)


def test_every_registered_recipe_is_in_the_table():
    assert UNBIASED.keys() | BIASED.keys() | SILENT == set(recipes.names())


@pytest.mark.parametrize("name", sorted(UNBIASED.keys() | BIASED.keys() | SILENT))
def test_expected_update_against_the_exact_gradient(name):
    size = SIZE.get(name, 4)
    bias = exact.measure(recipes.get(name), LOGITS, MEANS, group_size=size, values=VALUES, reference=LOGITS)
    print(f"{name:22s}", *(f"{key} {value:.3g}" for key, value in vars(bias).items()))
    if name in SILENT:
        assert abs(bias.factor) < 1e-9 and bias.total == pytest.approx(1)
        return
    if name in UNBIASED:
        assert bias.total < 1e-12
    else:
        factor, direction = BIASED[name]
        assert bias.factor == pytest.approx(factor, rel=1e-4)
        assert bias.direction == pytest.approx(direction, rel=1e-2, abs=1e-12)
        assert bias.total > 0.1
        if name not in ("dr_grpo", "gtpo_hybrid"):
            assert bias.direction > 1e-4  # no learning rate repairs this
    assert bias.variance > 0.5


def by_brute_force(recipe, size, bernoulli=True, behaviour=None):
    """Mean and second moment of the update by listing ordered outcomes, through autograd on the logits."""
    contexts, arms = LOGITS.shape
    sampler = LOGITS if behaviour is None else behaviour
    mean, second = torch.zeros(contexts * arms).double(), torch.zeros(contexts * arms, contexts * arms).double()
    for pulls in itertools.product(range(arms), (0, 1) if bernoulli else (None,), repeat=contexts * size):
        arm = torch.tensor(pulls[0::2])
        context = torch.arange(contexts).repeat_interleave(size)
        chance = sampler.softmax(1)[context, arm].prod()
        if bernoulli:
            reward = torch.tensor(pulls[1::2]).double()
            p = MEANS[context, arm]
            chance = chance * (reward * p + (1 - reward) * (1 - p)).prod()
        else:
            reward = MEANS[context, arm]
        logits = LOGITS.clone().requires_grad_()
        logp = torch.stack([torch.zeros(len(arm)).double(), logits.log_softmax(1)[context, arm]], 1)
        batch = Batch.from_pulls(arm, reward, sampler.log_softmax(1)[context, arm], context=context)
        value, _ = o.loss(recipe, o.prepare(recipe, batch), logp)
        update = -torch.autograd.grad(value, logits)[0].flatten()
        mean += chance * update
        second += chance * torch.outer(update, update)
    return mean.view(contexts, arms), second - torch.outer(mean, mean)


@pytest.mark.parametrize("name", ["grpo", "rloo", "lite_ppo", "reinforce_baseline"])
@pytest.mark.parametrize("bernoulli", [True, False])
def test_the_listing_agrees_with_brute_force(name, bernoulli):
    recipe = recipes.get(name)
    update = exact.expected_update(recipe, LOGITS, MEANS, group_size=2, bernoulli=bernoulli)
    mean, covariance = by_brute_force(recipe, 2, bernoulli)
    torch.testing.assert_close(update.mean, mean, rtol=1e-6, atol=1e-9)  # the rewards of a Batch are float32
    torch.testing.assert_close(update.covariance, covariance, rtol=1e-6, atol=1e-9)
    assert update.variance == pytest.approx(covariance.diagonal().sum().item(), rel=1e-6)


@pytest.mark.parametrize("name", ["grpo", "cispo", "sapo"])
def test_off_policy_the_listing_agrees_with_brute_force(name):
    other = LOGITS + torch.tensor([[0.5, -0.2], [-0.6, 0.1]])
    update = exact.expected_update(recipes.get(name), LOGITS, MEANS, group_size=2, behaviour=other)
    mean, covariance = by_brute_force(recipes.get(name), 2, behaviour=other)
    torch.testing.assert_close(update.mean, mean, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(update.covariance, covariance, rtol=1e-6, atol=1e-8)


def test_with_one_prompt_and_right_or_wrong_rewards_std_scaling_keeps_the_direction():
    for size in (2, 4, 6):
        bias = exact.measure(recipes.grpo, LOGITS3, MEANS3, group_size=size)
        assert bias.direction < 1e-12 and abs(bias.factor - 1) > 0.02
    graded = torch.tensor([[1.0, 0.5, 0.1]])
    assert exact.measure(recipes.grpo, LOGITS3, graded, group_size=4, bernoulli=False).direction > 1e-3
    assert exact.measure(recipes.rloo, LOGITS3, graded, group_size=4, bernoulli=False).total < 1e-6


def test_subtracting_a_mean_that_holds_the_own_reward_shrinks_the_gradient():
    for size in (2, 3, 5):
        own = recipes.rloo.but("own", advantage=o.episode_advantage("group", "none"))
        assert exact.measure(own, LOGITS3, MEANS3, group_size=size).factor == pytest.approx((size - 1) / size, rel=1e-9)


def test_what_a_baseline_buys():
    """Without a baseline the variance falls as 1/G; with the mean of the others it is lower, and falls faster than that."""
    found = {
        (name, size): exact.measure(recipes.get(name), LOGITS3, MEANS3 * 0.5 + 0.5, group_size=size).variance
        for name in ("reinforce", "rloo")
        for size in (2, 4, 8)
    }
    assert found["reinforce", 4] == pytest.approx(found["reinforce", 2] / 2)
    for size in (2, 4, 8):
        assert found["rloo", size] < 0.8 * found["reinforce", size]
    assert found["rloo", 8] < found["rloo", 4] / 2 < found["rloo", 2] / 4


def test_any_baseline_that_does_not_look_at_the_pull_is_unbiased():
    for values in (0.0, 0.5, -3.0):
        assert exact.measure(recipes.ppo, LOGITS3, MEANS3, group_size=2, values=torch.tensor([values])).total < 1e-6


def test_off_policy_importance_sampling_is_unbiased_and_its_limits_are_not():
    stale = LOGITS3 + torch.tensor([[0.8, -0.5, 0.1]])
    loo = recipes.rloo.but("is", ratio=o.importance())

    def off(recipe):
        return exact.measure(recipe, LOGITS3, MEANS3, group_size=3, behaviour=stale)

    assert off(loo).total < 1e-6
    assert off(recipes.rloo).total > 0.05  # as if the samples were its own
    for surrogate in (o.clip(), o.cispo(1.2), o.sapo()):
        limited = off(loo.but("limited", surrogate=surrogate))
        assert limited.total > 0.05 and limited.direction > 1e-3
    assert off(loo.but("loose", surrogate=o.clip(9.0, 9.0))).total < 1e-6
    assert off(loo.but("loose", surrogate=o.cispo(99.0))).total < 1e-6


def kl_gradient(logits, reference):
    logits = logits.clone().requires_grad_()
    policy = logits.log_softmax(1)
    (policy.exp() * (policy - reference.log_softmax(1))).sum().backward()
    return logits.grad


def test_which_kl_estimators_have_the_gradient_of_the_kl():
    reference = torch.tensor([[-0.5, 0.7, 0.1]], dtype=torch.float64)
    nothing = torch.zeros_like(MEANS3)
    wanted = -kl_gradient(LOGITS3, reference)
    base = recipes.rloo.but("base", ratio=o.importance())

    def penalty(part, **settings):
        return exact.expected_update(
            base.but("kl", regulariser=part), LOGITS3, nothing, group_size=3, reference=reference, **settings
        ).mean

    for part in (o.kl(1.0, "k2"), o.kl(1.0, "k1", corrected=True), o.kl(1.0, "k3", corrected=True), o.kl(1.0, "k1", "reward")):
        torch.testing.assert_close(penalty(part), wanted, rtol=1e-6, atol=1e-7)
    forward = reference.softmax(1) - LOGITS3.softmax(1)  # minus the gradient of KL(reference || pi)
    torch.testing.assert_close(penalty(o.kl(1.0, "k3")), forward)
    assert (forward - wanted).abs().max() > 0.01
    stale = LOGITS3 + 0.5 * reference
    for part in (o.kl(1.0, "k1", corrected=True), o.kl(1.0, "k3", corrected=True)):
        torch.testing.assert_close(penalty(part, behaviour=stale), wanted, rtol=1e-6, atol=1e-7)
    assert (penalty(o.kl(1.0, "k2"), behaviour=stale) - wanted).abs().max() > 0.01


def test_entropy_bonus_has_the_gradient_of_the_entropy():
    logits = LOGITS3.clone().requires_grad_()
    policy = logits.log_softmax(1)
    (-(policy.exp() * policy).sum()).backward()
    recipe = recipes.rloo.but("entropy", regulariser=o.entropy_bonus(0.5))
    update = exact.expected_update(recipe, LOGITS3, torch.zeros_like(MEANS3), group_size=2)
    torch.testing.assert_close(update.mean, 0.5 * logits.grad)


def test_dynamic_sampling_conditions_on_groups_that_differ():
    kept = exact.expected_update(recipes.dapo, LOGITS, MEANS, group_size=4).kept
    success = (LOGITS.softmax(1) * MEANS).sum(1)
    torch.testing.assert_close(kept, 1 - success**4 - (1 - success) ** 4)
    plain = recipes.grpo.but("plain", aggregate=o.token_mean())
    kept_only = plain.but("kept", rollout=o.resample())
    a = exact.expected_update(plain, LOGITS, MEANS, group_size=4).mean
    b = exact.expected_update(kept_only, LOGITS, MEANS, group_size=4).mean
    torch.testing.assert_close(b, a / kept[:, None])


def test_too_much_to_list_and_nothing_to_keep():
    with pytest.raises(ValueError, match="too many"):
        exact.expected_update(recipes.grpo, torch.zeros(1, 10), torch.full((1, 10), 0.5), group_size=12)
    with pytest.raises(ValueError, match="too many"):
        exact.expected_update(recipes.lite_ppo, torch.zeros(3, 3), torch.full((3, 3), 0.5), group_size=6)
    with pytest.raises(ValueError, match="keeps no outcome"):
        exact.expected_update(recipes.dapo, LOGITS3, torch.ones(1, 3), group_size=4)
    with pytest.raises(ValueError, match="from 0 to 1"):
        exact.expected_update(recipes.grpo, LOGITS3, MEANS3 * 2)
    with pytest.raises(ValueError, match=r"\[S,K\]"):
        exact.expected_update(recipes.grpo, LOGITS3[0], MEANS3[0])
    assert math.isfinite(exact.measure(recipes.grpo, LOGITS3, MEANS3).variance)  # the recipe's own group size
