"""The parts against worked numbers, and the identities between methods."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from workbench import objective as o
from workbench import recipes, seeding
from workbench.batch import Batch, Dialogue, Segment, Stop


def dialogue(group, turns, outcome, rewards=None, stop=Stop.DONE, replies=2, prompt=(1, 2, 3)):
    """An episode of `turns` (lists of token ids) with a reply of some tokens after each turn but the last."""
    segments = []
    for number, ids in enumerate(turns):
        segments.append(Segment(list(ids), [-0.5 - 0.01 * i for i in ids]))
        if number + 1 < len(turns):
            segments.append(Segment([7] * replies))
    return Dialogue(list(prompt), group, segments, list(rewards or [0.0] * len(turns)), outcome, stop)


def ragged():
    """Two groups of four, one to three turns of one to four tokens."""
    rng = seeding.generator(0, "ragged")
    rows = []
    for row in range(8):
        turns = [rng.integers(1, 9, rng.integers(1, 5)).tolist() for _ in range(rng.integers(1, 4))]
        rows.append(dialogue(row // 4, turns, float(row in (0, 1, 5, 6)), [-float(rng.random() < 0.3) for _ in turns]))
    return Batch.from_dialogues(rows)


def even(width=3):
    """Eight episodes of one turn, all of the same length."""
    return Batch.from_dialogues([dialogue(row // 4, [[1 + row] * width], float(row % 3 == 0)) for row in range(8)])


def one_token_turns():
    return Batch.from_dialogues(
        [dialogue(row // 4, [[1 + row], [2], [3]], float(row % 3 == 0), [0, -float(row == 2), 0]) for row in range(8)]
    )


def drift(batch, amount):
    """Log-probs of a policy that has moved away from the one that sampled; float64, a leaf."""
    noise = torch.from_numpy(seeding.generator(1, "drift").normal(size=tuple(batch.tokens.shape))) * amount
    return torch.where(batch.mask, batch.logp_old.double() + noise, 0).requires_grad_()


def nothing(batch):
    """What `prepare` can be given, from those who know nothing."""
    names = ("entropy", "values", "logp_ref", "answer", "implicit", "entropy_past")
    return {name: torch.zeros(batch.tokens.shape) for name in names}


def result(recipe, batch, amount=0.0, **given):
    """Loss and its gradient with respect to the log-probs."""
    logp = drift(batch, amount)
    value, numbers = o.loss(recipe, o.prepare(recipe, batch, **given), logp)
    return value.detach(), torch.autograd.grad(value, logp)[0], numbers


def close(a, b, **tolerance):
    torch.testing.assert_close(a, b, **{"rtol": 1e-9, "atol": 1e-12, **tolerance})


# ---- identities -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aggregate", [o.sequence_mean(), o.token_mean(), o.token_sum(norm=7.0)])
def test_on_policy_every_surrogate_has_the_gradient_of_the_plain_policy_gradient(aggregate):
    plain = recipes.grpo.but("plain", surrogate=o.policy_gradient(), aggregate=aggregate)
    expected = result(plain, ragged())[1]
    assert expected.abs().sum() > 0.1
    for surrogate in (o.clip(), o.clip(0.2, 0.28, dual=3.0), o.cispo(), o.sapo(), o.clip(3e-4, 4e-4)):
        close(result(plain.but("other", surrogate=surrogate), ragged())[1], expected)
    close(result(plain.but("now", ratio=o.current()), ragged())[1], expected)


def test_off_policy_the_surrogates_differ():
    plain = recipes.grpo.but("plain", surrogate=o.policy_gradient())
    gradients = [
        result(plain.but("other", surrogate=s), ragged(), 0.5)[1]
        for s in (o.policy_gradient(), o.clip(), o.cispo(1.1), o.sapo())
    ]
    for i, a in enumerate(gradients):
        for b in gradients[:i]:
            assert (a - b).abs().max() > 1e-3


@pytest.mark.parametrize("amount", [0.0, 0.4])
def test_rloo_is_dr_grpo_times_g_over_g_minus_1(amount):
    dr = recipes.dr_grpo.but("dr", aggregate=o.token_sum())
    loo = dr.but("loo", advantage=recipes.rloo.advantage)
    close(result(loo, ragged(), amount)[1], result(dr, ragged(), amount)[1] * 4 / 3)
    if amount == 0:
        close(result(recipes.rloo, ragged())[1], result(dr, ragged())[1] * 4 / 3)


@pytest.mark.parametrize("amount", [0.0, 0.4])
def test_with_equal_lengths_token_mean_is_sequence_mean(amount):
    token_level = recipes.grpo.but("t", aggregate=o.token_mean())
    for a, b in zip(result(token_level, even(), amount)[:2], result(recipes.grpo, even(), amount)[:2]):
        close(a, b)
    assert (result(token_level, ragged(), amount)[1] - result(recipes.grpo, ragged(), amount)[1]).abs().max() > 1e-3


def test_the_ratio_of_a_unit_is_the_geometric_mean_of_its_tokens():
    batch = ragged()
    logp = drift(batch, 0.3).detach()
    log_ratio = torch.where(batch.mask, logp - batch.logp_old, 0)
    ratio = o.importance()
    per_token = ratio(logp, batch.logp_old.double(), o.token()(batch), batch.mask)
    close(per_token[batch.mask], log_ratio.exp()[batch.mask], rtol=1e-6)
    per_sequence = ratio(logp, batch.logp_old.double(), o.sequence()(batch), batch.mask)
    mean = (log_ratio.sum(1) / batch.mask.sum(1)).exp()
    close(per_sequence[batch.mask], mean[:, None].expand_as(logp)[batch.mask], rtol=1e-6)
    per_turn = ratio(logp, batch.logp_old.double(), o.turn()(batch), batch.mask)
    for row in range(len(batch)):
        for turn in range(int(batch.turns[row])):
            of = batch.mask[row] & (batch.turn[row] == turn)
            close(per_turn[row, of], log_ratio[row, of].mean().exp().expand(int(of.sum())), rtol=1e-6)


@pytest.mark.parametrize("amount", [0.0, 0.4])
def test_one_unit_a_token_is_the_token_ratio_and_a_constant_unit_is_gspo(amount):
    assert recipes.gspo.unit == o.sequence() and recipes.grpo.unit == o.token()
    logp, batch = drift(ragged(), amount), ragged()
    prepared = o.prepare(recipes.grpo, batch)
    constant = dataclasses.replace(prepared, unit=torch.full_like(prepared.unit, 3))
    wide = recipes.gspo.but("wide", surrogate=o.clip())
    close(o.loss(recipes.grpo, constant, logp)[0], o.loss(wide, o.prepare(wide, batch), logp)[0])
    numbered = dataclasses.replace(o.prepare(wide, batch), unit=torch.arange(logp.shape[1]).expand_as(logp))
    close(o.loss(wide, numbered, logp)[0], o.loss(recipes.grpo, prepared, logp)[0])


def test_gspo_token_has_the_value_and_the_gradient_of_gspo():
    wide = recipes.gspo.but("wide", surrogate=o.clip(0.1, 0.1))
    token_level = wide.but("token", ratio=o.importance("token"))
    for amount in (0.0, 0.4):
        a, b = result(wide, ragged(), amount), result(token_level, ragged(), amount)
        close(a[0], b[0])
        close(a[1], b[1])


@pytest.mark.parametrize("amount", [0.0, 0.4])
def test_with_one_token_a_turn_turns_are_tokens(amount):
    batch = one_token_turns()
    by_turn = recipes.grpo.but("turn", unit=o.turn())
    close(result(by_turn, batch, amount)[1], result(recipes.grpo, batch, amount)[1])
    returns = o.turn_returns(gamma=0.8, scale="none", floor=0.0)
    rewards = batch.at_last_tokens((o.outcome()(batch) + o.turn_penalty()(batch)).double())
    discounted = o.token_returns(gamma=0.8, whiten=False)(batch, rewards, None)
    mean = torch.zeros_like(discounted)
    for group in (0, 1):
        rows = batch.group == group
        mean[rows] = discounted[rows].mean(0)  # all episodes have the same shape: the pool is a column
    close(returns(batch, rewards, None), torch.where(batch.mask, discounted - mean, 0))


@pytest.mark.parametrize("pool", ["turn", "flat", "r0"])
@pytest.mark.parametrize("amount", [0.0, 0.4])
def test_gtpo_with_one_turn_and_the_outcome_alone_is_grpo(pool, amount):
    batch = Batch.from_dialogues([dialogue(row // 4, [[1 + row] * (1 + row % 3)], float(row % 3 == 0)) for row in range(8)])
    gtpo = recipes.gtpo.but("outcome-only", reward=o.outcome(), advantage=o.turn_returns(pool=pool))
    for a, b in zip(result(gtpo, batch, amount)[:2], result(recipes.grpo, batch, amount)[:2]):
        close(a, b)


# ---- GTPO's worked vectors ------------------------------------------------------------------------------------

RETURNS = {"A": [0.9, 1.0], "B": [0.72, 0.8, 1.0], "C": [-0.1, 0.0], "D": [0.0, 0.0, 0.0]}


def worked(shaping=(0.0, 0.0), gamma=0.9, **settings):
    """Advantages of the turns of A (right), B (right, one bad call), C (fails, no call at first), D (fails)."""
    rows = [
        dialogue(4, [[1], [2, 2]], 1.0),
        dialogue(4, [[1, 1], [2], [3]], 1.0, [0, -1, 0]),
        dialogue(4, [[1], [2]], 0.0, [-1, 0]),
        dialogue(4, [[1], [2], [3, 3, 3]], 0.0),
    ]
    batch = Batch.from_dialogues(rows)
    per_turn = (o.outcome()(batch) + o.turn_penalty(0.1)(batch)).double()
    per_turn[2, 1] += shaping[0]
    per_turn[3, 2] += shaping[1]
    part = o.turn_returns(gamma=gamma, eps=1e-6, ddof=0, **settings)
    advantage = part(batch, batch.at_last_tokens(per_turn), None)
    assert (advantage[~batch.mask] == 0).all()
    found = []
    for row in range(4):
        of_turn = [advantage[row, batch.mask[row] & (batch.turn[row] == j)] for j in range(int(batch.turns[row]))]
        assert all((values == values[0]).all() for values in of_turn)
        found.append([values[0].item() for values in of_turn])
    return dict(zip("ABCD", found))


def assert_rounded(found, expected):
    assert {name: [round(x, 3) + 0.0 for x in values] for name, values in found.items()} == expected


def test_turn_returns_without_scale_are_the_centred_returns():
    found = worked(pool="flat", scale="none")
    mean = sum(sum(values) for values in RETURNS.values()) / 10
    for name, values in RETURNS.items():
        assert found[name] == pytest.approx([value - mean for value in values])


@pytest.mark.parametrize(
    "pool, expected",
    [
        ("flat", {"A": [1.018, 1.236], "B": [0.627, 0.801, 1.236], "C": [-1.158, -0.940], "D": [-0.940] * 3}),
        ("turn", {"A": [1.192, 1.207], "B": [0.780, 0.768, 1.0], "C": [-1.101, -0.988], "D": [-0.871, -0.988, -1.0]}),
        ("r0", {"A": [1.192, 1.422], "B": [0.780, 0.963, 1.422], "C": [-1.101, -0.871], "D": [-0.871] * 3}),
    ],
)
def test_gtpo_worked_vectors(pool, expected):
    assert_rounded(worked(pool=pool, floor=0.0), expected)


def test_gtpo_worked_vectors_with_shaping():
    found = worked(shaping=(0.5 * 0.2, 0.5 * 0.8), pool="flat", floor=0.0)
    assert_rounded({k: found[k] for k in "CD"}, {"C": [-1.615, -1.303], "D": [-0.667, -0.565, -0.452]})


def test_grpo_punishes_a_right_answer_with_one_bad_call_and_gtpo_does_not():
    batch = Batch.from_dialogues(
        [
            dialogue(0, [[1], [2]], 1.0), dialogue(0, [[1], [2], [3]], 1.0, [0, -1, 0]),
            dialogue(0, [[1], [2]], 0.0, [-1, 0]), dialogue(0, [[1], [2], [3]], 0.0),
        ]
    )  # fmt: skip
    rewards = o.gated_outcome()(batch)
    assert rewards.sum(1).tolist() == [1, 0, 0, 0]
    advantage = o.episode_advantage(eps=1e-6, ddof=0)(batch, batch.at_last_tokens(rewards.double()), None)
    found = [round(advantage[row, batch.mask[row]][0].item(), 3) for row in range(4)]
    assert found == [1.732, -0.577, -0.577, -0.577]
    assert worked(pool="turn")["B"][0] > 0


def test_all_successes_of_different_lengths():
    batch = Batch.from_dialogues([dialogue(0, [[1]] * n, 1.0) for n in (2, 3, 2, 4)])
    rewards = batch.at_last_tokens(o.outcome()(batch).double())
    assert (o.episode_advantage()(batch, rewards, None) == 0).all()

    def advantage(row, **settings):
        values = o.turn_returns(eps=1e-6, ddof=0, floor=0.0, **settings)(batch, rewards, None)
        return [round(x, 3) + 0.0 for x in values[row, batch.mask[row]].tolist()]

    assert advantage(3, pool="flat") == [-1.993, -1.073, -0.051, 1.085]
    assert advantage(0, pool="turn") == [0.916, 0.916]
    assert advantage(3, pool="turn") == [-1.484, -1.484, -1.0, 0.0]  # nobody else has a fourth turn


def test_the_floor_keeps_a_lone_penalty_small():
    rows = [dialogue(0, [[1], [2]], 0.0, [0.0, -float(row == 0)]) for row in range(8)]
    batch = Batch.from_dialogues(rows)
    rewards = batch.at_last_tokens(o.turn_penalty()(batch).double())
    largest = [o.turn_returns(floor=floor)(batch, rewards, None).abs().max().item() for floor in (0.0, 0.05, 0.3)]
    assert largest[0] > 2.4 and largest[1] > 1.6 and largest[2] < 0.3


# ---- rewards --------------------------------------------------------------------------------------------------


def test_rewards_land_on_their_turns():
    batch = Batch.from_dialogues([dialogue(0, [[1, 2], [3]], 1.0, [-1, 0]), dialogue(0, [[4]], 0.5), dialogue(0, [[4]], -1.0)])
    assert o.outcome()(batch).tolist() == [[0, 1], [0.5, 0], [-1, 0]]
    assert o.gated_outcome()(batch).tolist() == [[0, 0], [0.5, 0], [-1, 0]]
    close(o.turn_penalty(0.25)(batch), torch.tensor([[-0.25, 0], [0, 0], [0, 0]]))
    assert o.step_rewards()(batch).tolist() == batch.rewards.tolist()
    worse = Batch.from_dialogues([dialogue(0, [[1]], -1.0, [-1]), dialogue(0, [[1]], 1.0, [-1])])
    assert o.gated_outcome()(worse).tolist() == [[-1], [0]]
    both = recipes.gtpo.but("both", reward=(o.outcome(), o.turn_penalty(0.25)))
    close(o.rewards(both, batch), torch.tensor([[-0.25, 1], [0.5, 0], [-1, 0]]))


def test_soft_overlong_counts_sampled_tokens_only():
    batch = Batch.from_dialogues([dialogue(0, [[1] * n, [2]], 0.0, replies=9) for n in (4, 5, 7, 9, 30)])
    found = o.soft_overlong(limit=10, cache=4)(batch)
    close(found[:, 1], torch.tensor([0, 0, -0.5, -1, -1]))
    assert (found[:, 0] == 0).all()


def test_similarity_is_alpha_times_the_mean_cosine_to_the_groups_successes():
    rows = [
        dialogue(0, [[1, 2, 3], [4]], 1.0),  # grams 123 234
        dialogue(0, [[1, 2, 3, 1, 2, 3]], 1.0),  # 123 twice, 231, 312
        dialogue(0, [[1, 2], [3, 5]], 0.0),  # 123 235
        dialogue(0, [[1, 2]], 0.0),  # too short for a gram of three
        dialogue(0, [[1, 2, 3, 4]], 0.5),  # neither a success nor a failure
        dialogue(1, [[1, 2, 3, 4]], 0.0),  # a group without a success
    ]
    found = o.similarity(alpha=0.5)(Batch.from_dialogues(rows))
    expected = torch.zeros(6, 2)
    expected[2, 1] = 0.5 * (1 / 2 + 2 / (math.sqrt(6) * math.sqrt(2))) / 2
    close(found, expected, rtol=1e-6)
    same = Batch.from_dialogues([dialogue(0, [[9]], 1.0), dialogue(0, [[9]], 0.0), dialogue(0, [[8]], 0.0)])
    assert o.similarity()(same)[:, 0].tolist() == [0, 0.5, 0]


# ---- advantages -----------------------------------------------------------------------------------------------


def pulls(rewards, group, stop=None):
    rewards = torch.tensor(rewards, dtype=torch.float32)
    batch = Batch.from_pulls(torch.zeros(len(rewards)), rewards, torch.full((len(rewards),), -1.0), group=torch.tensor(group))
    return batch if stop is None else batch.replace(stop=torch.tensor(stop))


def advantage_of(part, batch):
    rewards = batch.at_last_tokens(o.outcome()(batch).double())
    return part(batch, rewards, None)[:, 1]


def test_episode_advantage_against_numpy():
    values, group = [1.0, 0.0, 0.0, 0.25, 2.0, 3.0], [0, 0, 0, 0, 9, 9]
    batch, r = pulls(values, group), np.array(values)
    mean = np.array([r[:4].mean()] * 4 + [r[4:].mean()] * 2)
    size = np.array([4] * 4 + [2] * 2)
    for ddof in (0, 1):
        std = np.array([r[:4].std(ddof=ddof)] * 4 + [r[4:].std(ddof=ddof)] * 2)
        expected = {
            ("none", "none"): r,
            ("group", "none"): r - mean,
            ("loo", "none"): (r - mean) * size / (size - 1),
            ("batch", "none"): r - r.mean(),
            ("batch_loo", "none"): [value - np.delete(r, i).mean() for i, value in enumerate(r)],
            ("group", "group"): (r - mean) / (std + 1e-4),
            ("group", "batch"): (r - mean) / (r.std(ddof=ddof) + 1e-4),
            ("group", "centred_batch"): (r - mean) / ((r - mean).std(ddof=ddof) + 1e-4),
            ("batch", "batch"): (r - r.mean()) / (r.std(ddof=ddof) + 1e-4),
        }
        for (baseline, scale), wanted in expected.items():
            found = advantage_of(o.episode_advantage(baseline, scale, ddof=ddof), batch)
            close(found, torch.tensor(np.array(wanted)))
    floored = advantage_of(o.episode_advantage(floor=10.0, eps=0.0), batch)
    close(floored, torch.tensor((r - mean) / 10))


def test_equal_rewards_have_advantage_exactly_zero():
    # Eight times 0.1 summed and divided by eight is not 0.1 in float32; a tiny std would turn that into a signal.
    for value in (0.1, 0.7, -0.3, 1e6 / 3):
        batch = pulls([value] * 7, [0] * 7)
        for part in (o.episode_advantage(eps=0.0, floor=1e-12), o.episode_advantage("loo", "none"), o.token_returns()):
            assert (advantage_of(part, batch) == 0).all()
        assert o.dead(o.prepare(recipes.grpo, batch)) == 1.0
    same = Batch.from_dialogues([dialogue(0, [[1], [2], [3], [4]], 0.7) for _ in range(7)])
    for pool in ("turn", "r0"):
        recipe = recipes.gtpo.but("same", advantage=o.turn_returns(gamma=0.7, pool=pool))
        assert o.dead(o.prepare(recipe, same)) == (1.0 if pool == "turn" else 0.0)


def test_alone_in_its_group_an_episode_has_advantage_zero():
    batch = pulls([1.0, 1.0, 0.0], [0, 1, 1])
    for part in (o.episode_advantage(), o.episode_advantage("loo", "none"), o.turn_returns(), o.turn_returns(pool="flat")):
        found = advantage_of(part, batch)
        assert found[0] == 0 and found[1] > 0 > found[2]
    lone = Batch.from_dialogues([dialogue(0, [[1], [2]], 1.0), dialogue(1, [[1], [2]], 1.0), dialogue(1, [[1], [2]], 0.0)])
    for pool in ("turn", "r0"):
        found = o.turn_returns(pool=pool)(lone, lone.at_last_tokens(o.outcome()(lone).double()), None)
        assert (found[0] == 0).all() and (found[1] != 0).any()


def test_gae_against_its_definition():
    batch = Batch.from_dialogues([dialogue(0, [[1, 2], [3]], 1.0, replies=3), dialogue(0, [[4]], 0.0)])
    values = torch.arange(batch.tokens.numel()).reshape(batch.tokens.shape).double() / 10
    rewards = batch.at_last_tokens((o.outcome()(batch) + o.turn_penalty(0.5)(batch)).double())
    rewards[0, 4] = -0.5
    gamma, lam = 0.9, 0.8
    found = o.gae(gamma, lam)(batch, rewards, values)
    at = batch.mask[0].nonzero()[:, 0].tolist()
    v, r = [values[0, t].item() for t in at] + [0.0], [rewards[0, t].item() for t in at]
    delta = [r[k] + gamma * v[k + 1] - v[k] for k in range(3)]
    for k in range(3):
        assert found[0, at[k]].item() == pytest.approx(sum((gamma * lam) ** (m - k) * delta[m] for m in range(k, 3)))
    assert (found[~batch.mask] == 0).all()
    # with lambda 1 and gamma 1 it is the return minus the value
    whole = o.gae(1.0, 1.0)(batch, rewards, values)
    returns = o.token_returns(whiten=False)(batch, rewards, None)
    close(whole, torch.where(batch.mask, returns - values, 0))


def test_token_returns_are_whitened_over_the_tokens_of_the_batch():
    batch = ragged()
    rewards = batch.at_last_tokens((o.outcome()(batch) + o.turn_penalty()(batch)).double())
    plain = o.token_returns(gamma=0.9, whiten=False)(batch, rewards, None)
    row = int(batch.mask.sum(1).argmax())
    at = batch.mask[row].nonzero()[:, 0]
    first = sum(0.9**k * rewards[row, t].item() for k, t in enumerate(at))
    assert plain[row, at[0]].item() == pytest.approx(first)
    white = o.token_returns(gamma=0.9, eps=1e-12)(batch, rewards, None)
    assert white[batch.mask].mean().item() == pytest.approx(0, abs=1e-12)
    assert white[batch.mask].std().item() == pytest.approx(1)
    assert (white[~batch.mask] == 0).all()


# ---- ratio, surrogate, regulariser ----------------------------------------------------------------------------


def test_gradient_weights_of_the_surrogates():
    ratio = torch.tensor([0.5, 0.79, 1.0, 1.19, 1.21, 1.5, 4.0, 6.0], dtype=torch.float64)
    up, down = torch.ones_like(ratio), -torch.ones_like(ratio)
    close(o.gradient_weight(o.policy_gradient(), ratio, up), ratio)
    assert o.gradient_weight(o.clip(), ratio, up).tolist() == [0.5, 0.79, 1.0, 1.19, 0, 0, 0, 0]
    assert o.gradient_weight(o.clip(), ratio, down).tolist() == [0, 0, -1.0, -1.19, -1.21, -1.5, -4.0, -6.0]
    assert o.gradient_weight(o.clip(0.2, 0.28), ratio, up).tolist() == [0.5, 0.79, 1.0, 1.19, 1.21, 0, 0, 0]
    assert o.gradient_weight(o.clip(dual=3.0), ratio, down).tolist() == [0, 0, -1.0, -1.19, -1.21, -1.5, 0, 0]
    assert o.gradient_weight(o.cispo(5.0), ratio, up).tolist() == [0.5, 0.79, 1.0, 1.19, 1.21, 1.5, 4.0, 5.0]
    for advantage, tau in ((up, 1.0), (down, 1.05)):
        s = 1 / (1 + (-tau * (ratio - 1)).exp())
        close(o.gradient_weight(o.sapo(), ratio, advantage), 4 * s * (1 - s) * ratio * advantage)


def test_numbers_to_watch():
    batch = even(2)
    logp = batch.logp_old.double().clone()
    logp[0, batch.mask[0]] += math.log(1.5)  # row 0 succeeded: above the clip, no gradient
    logp[1, batch.mask[1]] += math.log(1.1)
    numbers = o.loss(recipes.grpo, o.prepare(recipes.grpo, batch), logp, entropy=torch.full_like(logp, 2.0))[1]
    assert numbers["ratio_max"] == pytest.approx(1.5) and numbers["ratio_min"] == pytest.approx(1.0)
    assert numbers["ratio_mean"] == pytest.approx((6 + 1.5 + 1.1) / 8)
    assert numbers["clip_share"] == pytest.approx(1 / 8) and numbers["entropy"] == pytest.approx(2)
    kl = (1.5 - 1 - math.log(1.5) + 1.1 - 1 - math.log(1.1)) / 8
    assert numbers["kl"] == pytest.approx(kl, rel=1e-6)
    assert all(type(number) is float for number in numbers.values())


def test_huge_ratios_stay_finite():
    batch = even()
    logp = torch.where(batch.mask, torch.where(torch.arange(8)[:, None] % 2 == 0, -1e-3, -200.0), 0).requires_grad_()
    old = batch.replace(logp_old=torch.where(batch.mask, torch.where(torch.arange(8)[:, None] % 2 == 0, -200.0, -1e-3), 0))
    for name in recipes.names():
        recipe = recipes.get(name)
        prepared = o.prepare(recipe, old, **nothing(old))
        value, _ = o.loss(recipe, prepared, logp, nothing(old)["entropy"], nothing(old)["values"])
        assert torch.isfinite(value) and torch.isfinite(torch.autograd.grad(value, logp)[0]).all(), name


def test_kl_estimators_and_places():
    batch, ref = even(), -torch.ones(8, 6) * 0.7
    batch = batch.replace(logp_old=torch.where(batch.mask, -0.5, 0.0))
    d = -0.2
    expected = {"k1": -d, "k2": d * d / 2, "k3": math.exp(d) - 1 - d}
    terms = o.Terms(logp=batch.logp_old, mask=batch.mask, logp_ref=ref)
    for estimator, value in expected.items():
        found = o.kl(0.5, estimator, "reward")(terms)
        assert found[batch.mask].tolist() == pytest.approx([0.5 * value] * 24) and (found[~batch.mask] == 0).all()
    in_reward = recipes.reinforce.but("r", regulariser=o.kl(0.5, "k1", "reward"))
    prepared = o.prepare(in_reward, batch, logp_ref=ref)
    wanted = batch.outcome - 3 * 0.5 * 0.2
    close(prepared.advantage[batch.mask].view(8, 3)[:, 0], wanted.double(), rtol=1e-6)
    in_loss = recipes.grpo.but("l", regulariser=o.kl(0.5))
    base, with_kl = result(recipes.grpo, batch)[0], result(in_loss, batch, logp_ref=ref)[0]
    assert (with_kl - base).item() == pytest.approx(0.5 * expected["k3"], rel=1e-5)
    with pytest.raises(ValueError, match="logp_ref"):
        result(in_loss, batch)


def test_entropy_bonus_and_value_loss():
    batch = even()
    ones = torch.ones(batch.tokens.shape, dtype=torch.float64)
    recipe = recipes.grpo.but("e", regulariser=o.entropy_bonus(0.1))
    logp = drift(batch, 0)
    prepared = o.prepare(recipe, batch)
    bonus = o.loss(recipe, prepared, logp, entropy=2 * ones)[0] - o.loss(recipes.grpo, prepared, logp)[0]
    assert bonus.item() == pytest.approx(-0.2)
    with pytest.raises(ValueError, match="entropy"):
        o.loss(recipe, prepared, logp)
    ppo = recipes.ppo.but("p", regulariser=o.value_loss(0.1, clip=None), advantage=o.gae(lam=1.0))
    prepared = o.prepare(ppo, batch, values=0 * ones)
    wanted = batch.outcome[:, None].double().expand_as(ones)
    close(prepared.returns[batch.mask], wanted[batch.mask])
    close(o.prepare(ppo, batch, values=0.3 * ones).returns[batch.mask], wanted[batch.mask])  # lambda 1: the return itself
    values = (0 * ones + 0.5).requires_grad_()
    value = o.loss(ppo, prepared, logp, values=values)[0]
    gradient = torch.autograd.grad(value, values)[0]
    close(gradient, torch.where(batch.mask, 0.1 * (0.5 - batch.outcome[:, None].double()) / 24, 0))
    clipped = ppo.but("c", regulariser=o.value_loss(0.1, clip=0.2))
    value = o.loss(clipped, prepared, logp, values=values)[0]
    gradient = torch.autograd.grad(value, values)[0]
    right = (batch.outcome == 1)[:, None] & batch.mask  # moved by more than 0.2 towards 1: no more; away from 0: goes back
    assert (gradient[right] == 0).all() and (gradient[batch.mask & ~right] > 0).all()
    with pytest.raises(ValueError, match="values"):
        o.prepare(ppo, batch)


# ---- selecting, averaging, minibatches ------------------------------------------------------------------------


def test_aggregates_against_their_definition():
    batch = ragged()
    weight, mask = batch.mask.double(), batch.mask
    objective = torch.arange(mask.numel()).reshape(mask.shape).double()
    sums, lengths = (objective * weight).sum(1), weight.sum(1)

    def total(part, weight):
        return (part(weight, mask) * objective).sum()

    close(total(o.sequence_mean(), weight), (sums / lengths).mean())
    close(total(o.token_mean(), weight), sums.sum() / lengths.sum())
    close(total(o.token_sum(norm=5.0), weight), sums.mean() / 5)
    weight[2] = 0  # a dropped episode is not counted
    kept = torch.tensor([row for row in range(8) if row != 2])
    close(total(o.sequence_mean(), weight), (sums / lengths)[kept].mean())
    close(total(o.token_mean(), weight), sums[kept].sum() / lengths[kept].sum())
    close(total(o.token_sum(), weight), sums[kept].mean())
    assert (o.sequence_mean()(weight * 0, mask) == 0).all() and (o.token_mean()(weight * 0, mask) == 0).all()


def test_selections():
    rows = [dialogue(0, [[1, 2]], float(i == 0), stop=stop) for i, stop in enumerate(Stop)]
    batch = Batch.from_dialogues(rows)
    advantage = torch.where(torch.arange(5)[:, None] < 3, 1.0, 0.0) * batch.mask
    assert o.all_tokens()(batch, advantage, None).sum(1).tolist() == [2] * 5
    assert o.drop_truncated()(batch, advantage, None).sum(1).tolist() == [2, 0, 2, 0, 2]
    assert o.drop_dead()(batch, advantage, None).sum(1).tolist() == [2, 2, 2, 0, 0]
    entropy = torch.rand(batch.tokens.shape, generator=torch.Generator().manual_seed(0)) * batch.mask
    weight = o.high_entropy(0.3)(batch, advantage, entropy)
    assert weight.sum() == 3 and entropy[weight == 1].min() > entropy[batch.mask & (weight == 0)].max()
    with pytest.raises(ValueError, match="entropy"):
        o.high_entropy()(batch, advantage, None)


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "dapo", "gtpo"])
def test_shares_of_a_minibatch_add_up_and_idle_episodes_can_be_left_out(name):
    recipe, batch = recipes.get(name), ragged()
    batch = batch.replace(outcome=torch.where(batch.group == 1, 1.0, batch.outcome))  # the second group teaches little
    prepared, logp = o.prepare(recipe, batch), drift(batch, 0.3)
    whole = o.loss(recipe, prepared, logp)[0]
    parts = sum(
        o.loss(recipe, share, logp[rows][:, : share.mask.shape[1]])[0]
        for rows in ([0, 3], [1, 2, 4], [5, 6, 7])
        for share in [prepared.share(rows)]
    )
    close(parts, whole)
    busy = o.active(recipe, prepared)
    share = prepared.share(busy)
    close(o.loss(recipe, share, logp[busy][:, : share.mask.shape[1]])[0], whole)
    if name == "grpo":
        assert busy.tolist() == [True] * 4 + [False] * 4 and o.dead(prepared) == 0.5
    penalised = recipe.but("kl", regulariser=o.kl())
    assert o.active(penalised, prepared).all()


def test_a_minibatch_is_averaged_among_its_own_episodes():
    recipe, batch = recipes.grpo, ragged()
    part = o.prepare(recipe, batch).select([4, 1])
    assert len(part) == 2 and part.batch.group.tolist() == [1, 0]
    close(part.coefficient.sum(1), torch.tensor([0.5, 0.5], dtype=torch.float64))
    alone = o.prepare(recipe, batch).share([4, 1])
    close(alone.coefficient.sum(1), torch.tensor([0.125, 0.125], dtype=torch.float64))


def test_episodes_that_ended_in_an_error_count_nowhere():
    rng = seeding.generator(3, "errors")
    rows = [
        dialogue(row // 5, [rng.integers(1, 9, 1 + row % 4).tolist()], float(row % 2), [-float(row % 3 == 0)])
        for row in range(10)
    ]
    batch = Batch.from_dialogues(rows)
    bad = torch.tensor([False, True, False, False, False, False, False, True, True, False])
    batch = batch.replace(stop=torch.where(bad, int(Stop.ERROR), batch.stop), outcome=torch.where(bad, 77.0, batch.outcome))
    clean = batch.select(~bad)
    for name in recipes.names():
        recipe = recipes.get(name)
        logp = drift(batch, 0.2)
        given, given_clean = nothing(batch), nothing(clean)
        prepared = o.prepare(recipe, batch, **given)
        value, _ = o.loss(recipe, prepared, logp, given["entropy"], given["values"])
        gradient = torch.autograd.grad(value, logp)[0]
        other = logp[~bad][:, : clean.tokens.shape[1]].detach().requires_grad_()
        left = o.prepare(recipe, clean, **given_clean)
        expected, _ = o.loss(recipe, left, other, given_clean["entropy"], given_clean["values"])
        close(value, expected)
        assert (gradient[bad] == 0).all()
        close(gradient[~bad][:, : clean.tokens.shape[1]], torch.autograd.grad(expected, other)[0])
    kept = o.resample()(batch, o.rewards(recipes.grpo, batch))
    assert kept.all()
    lone = pulls([1.0, 0.0], [0, 0], [Stop.DONE, Stop.ERROR])
    assert not o.resample()(lone, o.rewards(recipes.grpo, lone)).any()
    with pytest.raises(ValueError, match="every episode"):
        o.prepare(recipes.grpo, pulls([1.0, 0.0], [0, 0], [Stop.ERROR] * 2))


def test_tool_tokens_have_no_gradient():
    batch = ragged()
    for name in recipes.names():
        recipe = recipes.get(name)
        logp = torch.full(batch.tokens.shape, -0.6, requires_grad=True)  # of every token, the environment's too
        prepared = o.prepare(recipe, batch, **nothing(batch))
        value, _ = o.loss(recipe, prepared, logp, nothing(batch)["entropy"], nothing(batch)["values"])
        gradient = torch.autograd.grad(value, logp)[0]
        assert (gradient[~batch.mask] == 0).all() and (gradient[batch.mask] != 0).any()


def test_wrong_shapes_are_refused():
    batch = even()
    with pytest.raises(ValueError, match="values has shape"):
        o.prepare(recipes.ppo, batch, values=torch.zeros(8))
    with pytest.raises(ValueError, match="logp has shape"):
        o.loss(recipes.grpo, o.prepare(recipes.grpo, batch), torch.zeros(8, 2))


# ---- prompts, rollouts, parts ---------------------------------------------------------------------------------


def test_prompts():
    rng = seeding.generator(0, "prompts")
    assert o.stream()([], 3, rng) == [0, 1, 2]
    assert o.stream()([(0, 1.0), (1, 0.0), (2, 0.5)], 2, rng) == [3, 4]
    drawn = o.uniform(pool=5)([], 5, rng)
    assert sorted(drawn) == [0, 1, 2, 3, 4] and all(type(number) is int for number in drawn)
    assert set(o.uniform(pool=2)([], 50, rng)) == {0, 1}


def test_resampling_keeps_groups_that_differ():
    batch = pulls([1.0, 1.0, 0.0, 1.0, 0.0, 0.0], [5, 5, 2, 2, 7, 7])
    rewards = o.outcome()(batch)
    assert o.resample()(batch, rewards).tolist() == [False, False, True, True, False, False]
    rewards[0] += 0.5
    assert o.resample(spread="reward")(batch, rewards).tolist() == [True, True, True, True, False, False]
    assert o.fixed()(batch, rewards).all()
    assert o.on_policy()(batch, rewards, batch.group, batch, np.random.default_rng(0)) is batch


def test_parts_print_compare_and_refuse():
    assert repr(o.clip(high=0.28)) == "clip(low=0.2, high=0.28, dual=None)"
    assert o.clip(high=0.28) == o.clip(0.2, 0.28) != o.clip()
    assert hash(o.clip()) == hash(o.clip()) and o.clip()["low"] == 0.2 and o.clip().get("cap", 1) == 1
    for mistake, message in (
        (lambda: o.clip(hihg=0.2), "hihg"),
        (lambda: o.token(size=3), "no settings"),
    ):
        with pytest.raises(TypeError, match=message):
            mistake()
    for mistake, message in (
        (lambda: o.clip(low=-0.1), "low must be a number above 0"),
        (lambda: o.clip(low=float("nan")), "low"),
        (lambda: o.token_sum(norm=float("inf")), "norm"),
        (lambda: o.high_entropy(share=0), "share"),
        (lambda: o.turn_returns(pool="trun"), "'turn', 'flat', 'r0'"),
        (lambda: o.turn_returns(gamma=1.5), "gamma"),
        (lambda: o.fixed(size=0), "size"),
        (lambda: o.fixed(size=2.0), "size"),
        (lambda: o.episode_advantage(ddof=True), "ddof"),
        (lambda: o.token_returns(whiten=1), "whiten"),
    ):
        with pytest.raises(ValueError, match=message):
            mistake()
    with pytest.raises(TypeError, match="every setting needs a check"):
        o.part("surrogate")(lambda ratio, *, low=1: ratio)
    with pytest.raises(ValueError, match="not a slot"):
        o.part("surogate")
    with pytest.raises(ValueError, match="can need"):
        o.part("surrogate", needs=("value",))


def test_every_part_is_in_the_kit():
    assert {factory.slot for factory in o.PARTS.values()} == set(o.SLOTS)
    for name, factory in o.PARTS.items():
        assert getattr(o, name) is factory and factory().name == name and factory().slot == factory.slot
    assert o.needs(recipes.ppo) == {"values"} and o.needs(recipes.grpo) == set()
    assert o.needs(recipes.grpo.but("x", regulariser=(o.kl(), o.entropy_bonus()))) == {"reference", "entropy"}
