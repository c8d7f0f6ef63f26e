"""Recipes that say where the credit goes: against worked numbers, and the identities that tie them to each other."""

import copy
import importlib.util
import json
import math
import sys
from pathlib import Path

import pytest
import torch

from workbench import models, recipes, seeding, stats
from workbench import objective as o
from workbench.batch import Batch, Dialogue, Segment, Stop
from workbench.recipes import credit
from workbench.run_folder import read_checkpoint
from workbench.train import train

CRITICS = ("turn_ppo", "bilevel_ppo", "poad")


def dialogue(group, turns, outcome, rewards=None, stop=Stop.DONE, rollout=None, first_turn=0):
    """An episode of `turns` (lists of ids), a reply of two tokens after each turn but the last."""
    segments = []
    for number, ids in enumerate(turns):
        segments.append(Segment(list(ids), [-0.5 - 0.01 * i for i in ids]))
        if number + 1 < len(turns):
            segments.append(Segment([7, 7]))
    paid = list(rewards or [0.0] * len(turns))
    return Dialogue([1, 2, 3], group, segments, paid, outcome, stop, rollout=rollout, first_turn=first_turn)


def ragged(groups=2, size=4, longest=3, width=4):
    """Groups of episodes of one to `longest` turns of one to `width` tokens, some turns malformed."""
    rng = seeding.generator(0, "credit", groups, size, longest, width)
    rows = []
    for row in range(groups * size):
        turns = [rng.integers(1, 9, rng.integers(1, width + 1)).tolist() for _ in range(rng.integers(1, longest + 1))]
        rows.append(dialogue(row // size, turns, float(row % 3 == 0), [-float(rng.random() < 0.3) for _ in turns]))
    return Batch.from_dialogues(rows)


def random_like(batch, name):
    return torch.from_numpy(seeding.generator(3, name).normal(size=tuple(batch.tokens.shape)))


def everything(batch, scale=1.0):
    """Something to give for every need a part can have."""
    return {
        "values": scale * random_like(batch, "values"),
        "answer": -(scale * random_like(batch, "answer")).abs(),
        "implicit": scale * random_like(batch, "implicit") * batch.mask,
    }


def gradient(recipe, batch, amount=0.0, **given):
    """Of the loss with respect to the log-probabilities of a policy that has moved by `amount`."""
    logp = torch.where(batch.mask, batch.logp_old.double() + amount * random_like(batch, "drift"), 0).requires_grad_()
    value, _ = o.loss(recipe, o.prepare(recipe, batch, **given), logp, values=given.get("values"))
    return torch.autograd.grad(value, logp)[0]


def advantages(part, batch, rewards, given=None):
    """[rows][turns]: the advantage of each turn; fails where the tokens of a turn differ, or anything else has one."""
    found = part(batch, batch.at_last_tokens(rewards.double()), given)
    found = found[0] if isinstance(found, tuple) else found
    assert (found[~batch.mask] == 0).all()
    table = []
    for row in range(len(batch)):
        of_turn = [found[row, batch.mask[row] & (batch.turn[row] == j)] for j in range(batch.rewards.shape[1])]
        assert all((values == values[0]).all() for values in of_turn if len(values))
        table.append([values[0].item() for values in of_turn if len(values)])
    return table


def close(a, b, **tolerance):
    torch.testing.assert_close(a, b, **{"rtol": 1e-9, "atol": 1e-12, **tolerance})


def near(found, expected, rel=1e-9):
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        assert a == pytest.approx(b, rel=rel, abs=1e-12)


# ---- GTPO, all of it ------------------------------------------------------------------------------------------


def group_of_four(c_tokens=((1,), (2,)), d_tokens=((1,), (2,), (3, 3, 3))):
    """A right, B right with one bad call, C fails and makes no call at first, D fails."""
    return Batch.from_dialogues(
        [
            dialogue(4, [[1], [2, 2]], 1.0),
            dialogue(4, [[1, 1], [2], [3]], 1.0, [0, -1, 0]),
            dialogue(4, c_tokens, 0.0, [-1, 0]),
            dialogue(4, d_tokens, 0.0),
        ]
    )


def test_the_shaped_returns_of_the_worked_group():
    batch = group_of_four()
    rewards = o.outcome()(batch) + o.turn_penalty()(batch)
    rewards[2, 1] += 0.5 * 0.2
    rewards[3, 2] += 0.5 * 0.8
    centred = advantages(o.turn_returns(pool="flat", scale="none"), batch, rewards)
    returns = [[0.9, 1.0], [0.72, 0.8, 1.0], [-0.01, 0.1], [0.324, 0.36, 0.4]]
    mean = sum(map(sum, returns)) / 10
    near(centred, [[value - mean for value in row] for row in returns], rel=1e-6)


def test_the_recipes_own_similarity_shapes_a_failure():
    """The whole recipe, not its parts: what `similarity` gives is discounted back over the turns of the failure."""
    batch = Batch.from_dialogues(
        [
            dialogue(0, [[1, 2, 3], [4]], 1.0),
            dialogue(0, [[1, 2, 3], [4]], 0.0),  # says the same, and fails
            dialogue(0, [[5, 6], [8]], 0.0),  # shares nothing with the success
        ]
    )
    total = o.rewards(recipes.gtpo, batch)
    close(total, torch.tensor([[0, 1], [0, 0.5], [0, 0]]), rtol=1e-6)
    found = o.prepare(recipes.gtpo, batch).advantage
    plain = o.prepare(recipes.gtpo_without_shaping, batch).advantage
    firsts = found[:, 3]
    assert firsts[0] > firsts[1] > 0 > firsts[2] or firsts[1].abs() < 1e-3  # in the middle
    assert plain[1, 3] == plain[2, 3] < found[1, 3]


def test_all_successes_under_the_first_turns_statistics():
    batch = Batch.from_dialogues([dialogue(0, [[1]] * n, 1.0) for n in (2, 3, 2, 4)])
    first = torch.tensor([0.9, 0.81, 0.9, 0.729], dtype=torch.float64)
    mean, std = first.mean().item(), first.std(correction=0).item()
    found = advantages(o.turn_returns(pool="r0", eps=1e-6, ddof=0, floor=0.0), batch, o.outcome()(batch))
    near(found[3], [(0.9 ** (3 - j) - mean) / (std + 1e-6) for j in range(4)])
    assert found[3][3] > 2.3  # the last turn of the longest success is pushed up the most


def test_all_failures_with_one_penalty_each():
    """The worked case of a blown-up penalty: -0.1 becomes -1.5 standard deviations, and the floor or `scale` prevents it."""
    batch = Batch.from_dialogues([dialogue(0, [[1], [2]], 0.0, [0, -1]), *[dialogue(0, [[1], [2]], 0.0) for _ in range(1)]])
    rewards = o.turn_penalty()(batch)
    flat = advantages(o.turn_returns(pool="flat", floor=0.0, eps=1e-6, ddof=0), batch, rewards)
    returns = torch.tensor([-0.09, -0.1, 0, 0], dtype=torch.float64)
    expected = (returns - returns.mean()) / (returns.std(correction=0) + 1e-6)
    near(flat, [expected[:2].tolist(), expected[2:].tolist()], rel=1e-6)
    assert flat[0][1] < -1.0
    floored = advantages(o.turn_returns(pool="flat", floor=0.3, eps=1e-6, ddof=0), batch, rewards)
    assert -0.2 < floored[0][1] < 0
    centred = advantages(o.turn_returns(pool="flat", scale="none"), batch, rewards)
    assert -0.06 < centred[0][1] < 0


def test_each_ablation_takes_away_what_it_says():
    batch = group_of_four(d_tokens=((1,), (2, 2), (3,)))
    full = o.rewards(recipes.gtpo, batch)
    assert (full[1, 1] + 0.1).abs() < 1e-6 and full[3, 2] > 0.05
    assert o.rewards(recipes.gtpo_without_turn_rewards, batch)[1, 1] == 0
    assert o.rewards(recipes.gtpo_without_turn_rewards, batch)[3, 2] == full[3, 2]
    assert o.rewards(recipes.gtpo_without_shaping, batch)[3, 2] == 0
    assert o.rewards(recipes.gtpo_without_shaping, batch)[1, 1] == full[1, 1]
    one_a_row = o.prepare(recipes.gtpo_without_returns, batch).advantage
    for row in range(4):
        of_row = one_a_row[row, batch.mask[row]]
        assert (of_row == of_row[0]).all()
    for name in ("gtpo_without_turn_rewards", "gtpo_without_returns", "gtpo_without_shaping"):
        assert len(recipes.get(name).changes()) == 1 and recipes.get(name).parent is recipes.gtpo


@pytest.mark.parametrize("amount", [0.0, 0.4])
def test_one_turn_without_penalty_and_shaping_is_grpo(amount):
    batch = ragged(longest=1).replace(rewards=torch.zeros(8, 1))
    expected = gradient(recipes.grpo, batch, amount)
    assert expected.abs().sum() > 0.1
    silent = {name: torch.zeros(batch.tokens.shape, dtype=torch.float64) for name in ("answer", "implicit")}
    for recipe in (
        recipes.gtpo_without_shaping.but("gtpo", advantage=o.turn_returns(floor=0.0)),
        recipes.gtpo_without_returns.but("sum", reward=o.outcome(), advantage=o.episode_advantage()),
        recipes.igpo,
        recipes.oprl,
    ):
        close(gradient(recipe, batch, amount, **silent), expected)
    # the hybrid credits both the turn and the outcome, which are the same thing there
    hybrid = recipes.gtpo_hybrid.but("h", advantage=o.turn_and_outcome(weight=0.3, eps=0.0, ddof=1))
    same = recipes.grpo.but("same", advantage=o.episode_advantage(eps=0.0))
    close(gradient(hybrid, batch), 1.3 * gradient(same, batch), rtol=1e-6)


# ---- turns and outcome ----------------------------------------------------------------------------------------


def test_the_hybrid_without_the_outcome_is_the_returns_of_turns():
    batch = ragged()
    for gamma in (0.9, 0.5, 1.0):
        turns = o.turn_penalty(0.3)(batch).double()
        part = o.turn_and_outcome(gamma=gamma, weight=0.0, eps=1e-6)
        known = o.turn_returns(gamma=gamma, floor=0.0, eps=1e-6, ddof=0)
        with_outcome = turns + gamma * o.outcome()(batch).double()  # on the last turn, one step nearer than the virtual one
        near(advantages(part, batch, turns), advantages(known, batch, with_outcome))


def test_the_hybrid_by_hand():
    batch = group_of_four()
    found = advantages(o.turn_and_outcome(gamma=0.9, weight=0.3, eps=0.0), batch, o.turn_penalty()(batch))
    # G: A .81 .9, B .9(.9 * .9) - .09 = .639, .9 * .9 - .1 = .71, .9; C -.1 0; D 0 0 0; outcomes 1 1 0 0 -> +-1
    first, second = [0.81, 0.639, -0.1, 0.0], [0.9, 0.71, 0.0, 0.0]

    def norm(values, k):
        mean = sum(values) / len(values)
        return (values[k] - mean) / math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))

    near(found[0], [norm(first, 0) + 0.3, norm(second, 0) + 0.3], rel=1e-6)
    near(found[1], [norm(first, 1) + 0.3, norm(second, 1) + 0.3, 1.0 + 0.3], rel=1e-6)
    near(found[2], [norm(first, 2) - 0.3, norm(second, 2) - 0.3], rel=1e-6)
    near(found[3], [norm(first, 3) - 0.3, norm(second, 3) - 0.3, -1.0 - 0.3], rel=1e-6)


def test_the_hybrid_refuses_a_second_outcome():
    for term in (o.outcome(), o.gated_outcome(), o.step_rewards()):
        with pytest.raises(ValueError, match="leave .* out of the reward"):
            recipes.gtpo_hybrid.but("twice", reward=term)


def test_calibration_pays_each_tier_its_correlation_with_success():
    # Tier 1 goes with failure, tier -1 with success, tier 0.5 with nothing; the numbers say otherwise.
    rows = [
        dialogue(0, [[1], [2], [3]], 1.0, [-1, 0, 0.5]),
        dialogue(0, [[1], [2], [3]], 1.0, [-1, -1, 0.5]),
        dialogue(0, [[1], [2], [3]], 0.0, [1, 0, 0.5]),
        dialogue(0, [[1], [2], [3]], 0.0, [1, 0, 0.5]),
    ]
    batch = Batch.from_dialogues(rows)
    found = o.calibrated(scale=0.5)(batch)

    def corr(counts):
        x = torch.tensor([*counts, 0.0], dtype=torch.float64)[:4]
        y = torch.tensor([1.0, 1, 0, 0], dtype=torch.float64)
        return torch.corrcoef(torch.stack([x, y]))[0, 1].item()

    worse, none, better = corr([0, 0, 1, 1]), corr([1, 0, 1, 1]), corr([1, 2, 0, 0])
    assert worse == pytest.approx(-1) and better > 0.9
    expected = [[better, none, 0], [better, better, 0], [worse, none, 0], [worse, none, 0]]
    close(found, 0.5 * torch.tensor(expected), rtol=1e-6)
    assert (o.calibrated(least=0.99)(batch)[:, 1] == 0).all()  # what is below `least` is ignored
    assert o.calibrated(least=0.99)(batch)[2, 0] == -0.5


def test_calibration_looks_within_the_groups():
    # All of tier 1 is in the easy group: across groups it goes with success, within them it says nothing.
    rows = [dialogue(0, [[1]], 1.0, [1.0]) for _ in range(3)] + [dialogue(0, [[1]], 0.0, [1.0])]
    rows += [dialogue(1, [[1]], 0.0, [0.0]) for _ in range(3)] + [dialogue(1, [[1]], 1.0, [0.0])]
    assert (o.calibrated(least=0.0)(Batch.from_dialogues(rows)) == 0).all()


def test_calibration_refuses_scores():
    rng = seeding.generator(0, "scores")
    batch = Batch.from_dialogues([dialogue(0, [[1]], 0.0, [float(x)]) for x in rng.normal(size=20)])
    with pytest.raises(ValueError, match="different values: round them"):
        o.calibrated()(batch)


# ---- critics --------------------------------------------------------------------------------------------------


def test_with_one_token_a_turn_all_critics_are_gae():
    batch = ragged(width=1)
    values = random_like(batch, "values")
    rewards = batch.at_last_tokens((o.outcome()(batch) + o.turn_penalty()(batch)).double())
    expected = o.gae(0.9, 0.8)(batch, rewards, values)
    advantage, target = o.turn_gae(0.9, 0.8)(batch, rewards, values)
    close(advantage, expected)
    close(target, torch.where(batch.mask, expected + values, 0))
    close(o.bilevel_gae(0.9, 0.8)(batch, rewards, values), expected)
    close(o.action_gae(0.9, 0.8)(batch, rewards, values), expected)


def test_with_one_turn_two_levels_are_the_lower_one_and_action_gae_does_not_discount():
    batch = ragged(longest=1)
    values = random_like(batch, "values")
    rewards = batch.at_last_tokens(o.outcome()(batch).double())
    two = o.bilevel_gae(0.3, 0.4, token_gamma=0.9, token_lam=0.8)
    close(two(batch, rewards, values), o.gae(0.9, 0.8)(batch, rewards, values))
    close(o.action_gae(0.5, 0.8)(batch, rewards, values), o.gae(1.0, 0.8)(batch, rewards, values))


def test_turn_gae_by_hand():
    batch = Batch.from_dialogues([dialogue(0, [[1, 2], [3], [4, 5, 6]], 1.0, [0, -1, 0])])
    values = random_like(batch, "values")
    part = o.turn_gae(gamma=0.9, lam=0.5)
    rewards = o.outcome()(batch) + o.turn_penalty(0.5)(batch)
    at = [3, 7, 10]  # where the turns begin
    v = [values[0, t].item() for t in at] + [0.0]
    delta = [r + 0.9 * v[j + 1] - v[j] for j, r in enumerate([0.0, -0.5, 1.0])]
    expected = [delta[0] + 0.45 * (delta[1] + 0.45 * delta[2]), delta[1] + 0.45 * delta[2], delta[2]]
    near(advantages(part, batch, rewards, values), [expected])
    target = part(batch, batch.at_last_tokens(rewards.double()), values)[1]
    for j, (begin, end) in enumerate(((3, 5), (7, 8), (10, 13))):
        close(target[0, begin:end], torch.full((end - begin,), expected[j] + v[j], dtype=torch.float64))
    prepared = o.prepare(recipes.turn_ppo.but("t", advantage=part), batch, values=values)
    assert (prepared.returns[batch.mask] != prepared.advantage[batch.mask] + values[batch.mask]).any()
    assert len({*prepared.returns[0, 10:13].tolist()}) == 1


def test_bilevel_gae_by_hand():
    batch = Batch.from_dialogues([dialogue(0, [[1, 2], [3, 4]], 1.0, [-1, 0])])
    v = random_like(batch, "values")
    rewards = batch.at_last_tokens((o.outcome()(batch) + o.turn_penalty(0.5)(batch)).double())
    found = o.bilevel_gae(0.9, 0.8, token_gamma=0.7, token_lam=0.6)(batch, rewards, v)[0]
    last = 1.0 - v[0, 8]  # turns are tokens 3, 4 and 7, 8
    first = -0.5 + 0.9 * v[0, 8] - v[0, 4] + 0.9 * 0.8 * last
    close(found[8], last)
    close(found[4], first)
    close(found[7], 0.7 * v[0, 8] - v[0, 7] + 0.42 * last)
    close(found[3], 0.7 * v[0, 4] - v[0, 3] + 0.42 * first)


def test_how_many_words_a_turn_takes_matters_to_ppo_and_not_to_poad():
    """With values of 0 and lambda 1, what the first turn is credited with, said in one token and in six."""
    short, long = (Batch.from_dialogues([dialogue(0, [[1] * n, [2]], 1.0)]) for n in (1, 6))

    def first(part, batch):
        rewards = batch.at_last_tokens(o.outcome()(batch).double())
        return part(batch, rewards, torch.zeros(batch.tokens.shape))[0, 3].item()

    assert first(o.action_gae(0.9, 1.0), short) == first(o.action_gae(0.9, 1.0), long) == pytest.approx(0.9)
    assert first(o.gae(0.9, 1.0), short) == pytest.approx(0.9)
    assert first(o.gae(0.9, 1.0), long) == pytest.approx(0.9**6)
    turn = o.turn_gae(0.9, 1.0)
    assert turn(long, long.at_last_tokens(o.outcome()(long).double()), torch.zeros(long.tokens.shape))[0][0, 3] == 0.9


@pytest.mark.parametrize("name", CRITICS)
def test_a_critic_that_is_missing_is_asked_for(name):
    with pytest.raises(ValueError, match="needs values"):
        o.prepare(recipes.get(name), ragged())


# ---- LOOP -----------------------------------------------------------------------------------------------------


def test_loop_is_rloo_at_the_first_update_and_g_over_g_minus_1_of_the_group_mean():
    batch = ragged()
    close(gradient(recipes.loop, batch), gradient(recipes.rloo, batch))
    own = recipes.loop.but("own", advantage=o.episode_advantage("group", "none"))
    for amount in (0.0, 0.4):
        close(gradient(recipes.loop, batch, amount), 4 / 3 * gradient(own, batch, amount))


def test_loop_clips_at_one_over_one_point_one_and_at_one_point_one():
    ratio = torch.tensor([0.5, 0.90, 0.91, 1.0, 1.09, 1.11], dtype=torch.float64)  # 1 / 1.1 is 0.909
    up = torch.ones_like(ratio)
    assert o.gradient_weight(recipes.loop.surrogate, ratio, up).tolist() == [0.5, 0.90, 0.91, 1.0, 1.09, 0]
    assert o.gradient_weight(recipes.loop.surrogate, ratio, -up).tolist() == [0, 0, -0.91, -1.0, -1.09, -1.11]


# ---- information gain -----------------------------------------------------------------------------------------


def at_turns(batch, values):
    """[B,T] from one number a turn for each row, on the first token of the turn."""
    found = torch.zeros(batch.tokens.shape, dtype=torch.float64)
    for row, numbers in enumerate(values):
        for j, value in enumerate(numbers):
            found[row, (batch.mask[row] & (batch.turn[row] == j)).nonzero()[0]] = value
    return found


@pytest.mark.parametrize("amount", [0.0, 0.4])
def test_igpo_with_an_answer_that_never_becomes_likelier_is_grpo(amount):
    batch = ragged()
    constant = at_turns(batch, [[-1.3] * int(n) for n in batch.turns])
    close(gradient(recipes.igpo, batch, amount, answer=constant), gradient(recipes.grpo, batch, amount))
    moving = everything(batch)["answer"]
    assert (gradient(recipes.igpo, batch, amount, answer=moving) - gradient(recipes.grpo, batch, amount)).abs().max() > 1e-3


def test_igpo_by_hand():
    batch = Batch.from_dialogues([dialogue(0, [[1], [2], [3]], 1.0), dialogue(0, [[1], [2]], 0.0), dialogue(0, [[1]], 1.0)])
    answer = at_turns(batch, [[math.log(0.1), math.log(0.3), math.log(0.8)], [math.log(0.1), math.log(0.2)], [math.log(0.1)]])
    gains, outcomes = torch.tensor([0.2, 0.5, 0.1]).double(), torch.tensor([1.0, 0, 1]).double()
    g = ((gains - gains.mean()) / gains.std()).tolist()
    r = ((outcomes - outcomes.mean()) / outcomes.std()).tolist()
    found = advantages(o.information_gain(gamma=0.9, eps=0.0), batch, o.outcome()(batch), answer)
    expected = [[g[0] + 0.9 * (g[1] + 0.9 * r[0]), g[1] + 0.9 * r[0], r[0]], [g[2] + 0.9 * r[1], r[1]], [r[2]]]
    near(found, expected, rel=1e-6)
    logs = torch.tensor([math.log(3), math.log(8 / 3), math.log(2)]).double()
    l = ((logs - logs.mean()) / logs.std()).tolist()
    found = advantages(o.information_gain(gamma=0.0, gain="log", eps=0.0), batch, o.outcome()(batch), answer)
    near(found, [[l[0], l[1], r[0]], [l[2], r[1]], [r[2]]], rel=1e-6)
    both = torch.cat([gains, outcomes])
    j = ((both - both.mean()) / both.std()).tolist()
    found = advantages(o.information_gain(gamma=0.0, pool="joint", eps=0.0), batch, o.outcome()(batch), answer)
    near(found, [[j[0], j[1], j[3]], [j[2], j[4]], [j[5]]], rel=1e-6)


def test_a_group_that_fails_throughout_still_teaches_igpo():
    batch = Batch.from_dialogues([dialogue(0, [[1], [2]], 0.0) for _ in range(4)])
    answer = at_turns(batch, [[-2.0, -2.0], [-2.0, -1.0], [-2.0, -2.0], [-2.0, -3.0]])
    assert o.dead(o.prepare(recipes.grpo, batch)) == 1.0
    prepared = o.prepare(recipes.igpo, batch, answer=answer)
    assert o.dead(prepared) == 0.0
    assert (prepared.advantage[:, -1] == 0).all()  # the answers, of which none was right, are not told apart
    with pytest.raises(ValueError, match="needs answer"):
        o.prepare(recipes.igpo, batch)


def test_a_tables_answer_is_the_answers_probability_in_that_state():
    table = models.Tabular(5, 4, dtype=torch.float64)
    with torch.no_grad():
        table.table.copy_(torch.from_numpy(seeding.generator(0, "table").normal(size=(5, 4))))
    states, actions = torch.tensor([[0, 2, 1], [0, 3, 4]]), torch.tensor([[1, 2, 3], [0, 0, 1]])
    length = torch.tensor([3, 2])
    batch = Batch.from_trajectories(
        states, actions, torch.zeros(2, 3), torch.full((2, 3), -1.0), length=length, group=torch.tensor([0, 1])
    )
    found = models.answer_logp(table, batch, [[3], [1]])
    logp = table.table.log_softmax(1).float()
    expected = torch.zeros(2, 6)
    expected[0, [1, 3, 5]] = logp[[0, 2, 1], 3]
    expected[1, [1, 3]] = logp[[0, 3], 1]
    close(found, expected, rtol=1e-6)
    assert not found.requires_grad
    close(models.answer_logp(table, batch, [[3], [1]], rows_per_pass=2), found)


def test_the_answer_of_a_language_model_is_what_it_says_of_the_demonstration():
    policy = models.tiny("0.1m")
    encode, end = (lambda text: models.encode(policy.tokenizer, text)), policy.tokenizer.eos_token_id
    call, reply = [*encode("<T>2+3</T>"), end], models.reply_ids(policy.tokenizer, "5")
    asked = models.prompt_ids(policy.tokenizer, "2+3+4=")
    gold = [*encode("9"), end]
    rows = [
        Dialogue(asked, 0, [Segment(call, [-1.0] * len(call)), Segment(reply), Segment(gold, [-1.0] * 2)], [0.0, 0.0], 1.0),
        Dialogue(asked, 0, [Segment(call, [-1.0] * len(call)), Segment(reply), Segment(call, [-1.0] * len(call))], [0.0, 0.0]),
    ]
    batch = Batch.from_dialogues(rows)
    found = models.answer_logp(policy, batch, [gold])
    said = policy.evaluate(batch).logp
    second = len(asked) + len(call) + len(reply)
    assert found[0, second].item() == pytest.approx(said[0, second : second + 2].mean().item(), rel=1e-4)
    assert found[1, second] == found[0, second] and (found != 0).sum() == 4
    answered = Batch.from_dialogues([Dialogue(asked, 0, [Segment(gold, [0.0] * 2)], [0.0])])
    at_once = policy.evaluate(answered).logp[answered.mask].mean()
    assert found[:, len(asked)].tolist() == pytest.approx([at_once.item()] * 2, rel=1e-4)


def test_answers_that_make_no_sense_are_refused():
    table, batch = models.Tabular(9, 9), ragged()
    with pytest.raises(ValueError, match="give one for every group"):
        models.answer_logp(table, batch, [[3]])
    with pytest.raises(ValueError, match="is empty"):
        models.answer_logp(table, batch, [[3], []])


# ---- implicit rewards -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [0.0, 0.4])
def test_oprl_with_a_judge_that_says_nothing_is_grpo(amount):
    batch = ragged()
    given = everything(batch)
    expected = gradient(recipes.grpo, batch, amount)
    close(gradient(recipes.oprl, batch, amount, implicit=torch.zeros(batch.tokens.shape)), expected)
    alone = recipes.oprl.but("alone", advantage=o.implicit_steps(alpha=0.0))
    close(gradient(alone, batch, amount, implicit=given["implicit"]), expected)
    assert (gradient(recipes.oprl, batch, amount, implicit=given["implicit"]) - expected).abs().max() > 1e-3
    with pytest.raises(ValueError, match="needs implicit"):
        o.prepare(recipes.oprl, batch)


def test_oprl_by_hand():
    batch = Batch.from_dialogues([dialogue(0, [[1, 2], [3]], 1.0), dialogue(0, [[4]], 0.0)])
    implicit = torch.zeros(batch.tokens.shape, dtype=torch.float64)
    implicit[0, [3, 4, 7]] = torch.tensor([1.0, 2.0, -1.0]).double()
    implicit[1, 3] = 4.0
    steps = torch.tensor([0.3, -0.1, 0.4]).double()
    s = ((steps - steps.mean()) / steps.std()).tolist()
    found = advantages(o.implicit_steps(alpha=0.5, beta=0.1, eps=0.0), batch, o.outcome()(batch), implicit)
    e = math.sqrt(0.5)  # of outcomes 1 and 0
    near(found, [[e + 0.5 * s[0], e + 0.5 * s[1]], [-e + 0.5 * s[2]]], rel=1e-6)


def test_the_judges_loss_is_that_of_preferences_over_trajectories():
    rows = [dialogue(0, [[1], [2, 3]], 1.0), dialogue(0, [[4]], 0.0), dialogue(0, [[4], [5]], 0.0), dialogue(1, [[4]], 1.0)]
    rows.append(dialogue(0, [[1]], 1.0, stop=Stop.ERROR))
    batch = Batch.from_dialogues(rows)
    implicit = (random_like(batch, "judge") * batch.mask).requires_grad_()
    per_row = implicit.detach().sum(1)
    for score, turns in (("mean", torch.tensor([2.0, 1, 2])), ("sum", torch.ones(3))):
        loss, pairs = o.preference_loss(batch, implicit, beta=0.3, score=score)
        s = 0.3 * per_row[:3] / turns
        expected = ((1 + (s[1] - s[0]).exp()).log() + (1 + (s[2] - s[0]).exp()).log()) / 2
        assert pairs == 2
        close(loss.detach(), expected)
        towards = torch.autograd.grad(loss, implicit)[0]
        assert (towards[0, batch.mask[0]] < 0).all() and (towards[1:3][batch.mask[1:3]] > 0).all()
        assert (towards[3:] == 0).all() and (towards[~batch.mask] == 0).all()  # no pair in its group; an error
    nothing, pairs = o.preference_loss(batch.select([0, 3]), implicit[[0, 3]])
    assert pairs == 0 and nothing.item() == 0


def test_a_judge_learns_which_turn_decides():
    """Two turns, arms 0 and 1 each; success is arm 1 in the second. The judge's rewards come to say so, and only so."""
    rng = seeding.generator(5, "judge")
    policy = models.Tabular(4, 2, dtype=torch.float64)
    judge = copy.deepcopy(policy)
    optimiser = torch.optim.Adam(judge.parameters(), lr=0.05)
    states = torch.tensor([[0, 1]]).expand(64, 2)
    for _ in range(60):
        actions = torch.from_numpy(rng.integers(0, 2, (64, 2)))
        batch = Batch.from_trajectories(states, actions, torch.zeros(64, 2), torch.full((64, 2), -math.log(2)))
        batch = batch.replace(outcome=actions[:, 1].float())
        loss, _ = o.preference_loss(batch, judge.evaluate(batch).logp - batch.logp_old, beta=1.0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    learned = judge.table.log_softmax(1).detach() + math.log(2)
    useful, useless = learned[1, 1] - learned[1, 0], learned[0, 1] - learned[0, 0]
    assert useful > 3 and useless.abs() < 0.6


# ---- Step-GRPO ------------------------------------------------------------------------------------------------


def test_step_grpo_on_single_steps_is_grpo_with_the_steps_rewards():
    rng = seeding.generator(0, "steps")
    batch = ragged(longest=1).replace(rewards=torch.from_numpy(rng.random((8, 1))).float())
    grpo = recipes.grpo.but("steps", reward=o.step_rewards())
    for amount in (0.0, 0.4):
        close(gradient(recipes.step_grpo, batch, amount), gradient(grpo, batch, amount))


def test_step_grpo_compares_a_step_with_the_steps_of_its_number_alone():
    batch = Batch.from_dialogues([dialogue(0, [[1], [2]], 1.0, [1.0, 0.0]), dialogue(0, [[1], [2]], 0.0, [0.0, 0.5])])
    e = math.sqrt(0.5)
    found = advantages(recipes.step_grpo.advantage, batch, o.rewards(recipes.step_grpo, batch))
    near(found, [[e, -e], [-e, e]], rel=1e-3)  # whatever the outcome


# ---- all of them ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [recipe.name for recipe in credit.RECIPES])
def test_tool_tokens_have_no_gradient_and_the_ratio_is_one(name):
    batch, recipe = ragged(), recipes.get(name)
    given = everything(batch)
    logp = torch.where(batch.mask, batch.logp_old, -0.6).requires_grad_()  # of the environment's tokens too
    value, numbers = o.loss(recipe, o.prepare(recipe, batch, **given), logp, values=given["values"])
    found = torch.autograd.grad(value, logp)[0]
    assert (found[~batch.mask] == 0).all() and (found[batch.mask] != 0).any()
    assert numbers["ratio_min"] == numbers["ratio_max"] == 1


@pytest.mark.parametrize("name", [recipe.name for recipe in credit.RECIPES])
def test_an_episode_of_several_rows_counts_once(name):
    """The same episodes with a row for each turn: nobody's advantage changes."""
    recipe = recipes.get(name)
    rng = seeding.generator(1, "rows")
    whole, cut, places = [], [], []
    for number in range(8):
        turns = [rng.integers(1, 9, 2).tolist() for _ in range(rng.integers(1, 4))]
        outcome, paid = float(number % 3 == 0), [-float(rng.random() < 0.4) for _ in turns]
        whole.append(dialogue(number // 4, turns, outcome, paid))
        for j, ids in enumerate(turns):
            places.append((number, j))
            cut.append(dialogue(number // 4, [ids], outcome, [paid[j]], rollout=number, first_turn=j))
    one, many = Batch.from_dialogues(whole), Batch.from_dialogues(cut)
    given = everything(one)
    spread = {key: torch.zeros(many.tokens.shape, dtype=torch.float64) for key in given}
    for row, (number, j) in enumerate(places):
        for key in given:
            spread[key][row, many.mask[row]] = given[key][number, one.mask[number] & (one.turn[number] == j)]
    # 3-grams run over the turns of a row: without them
    recipe = recipe.but("rows", reward=tuple(term for term in recipe.reward if term.name != "similarity"))
    a, b = o.prepare(recipe, one, **given).advantage, o.prepare(recipe, many, **spread).advantage
    assert (a != 0).any()
    for row, (number, j) in enumerate(places):
        close(b[row, many.mask[row]], a[number, one.mask[number] & (one.turn[number] == j)])


@pytest.mark.parametrize("name", [recipe.name for recipe in credit.RECIPES])
def test_every_recipe_says_what_it_is(name):
    recipe = recipes.get(name)
    assert recipe.title and recipe.formula and len(recipe.arxiv) == 10
    assert recipe.reading or recipe.left_out or "without" in name


# ---- in training ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pupil():
    """Adds two-digit numbers, and is unsure of it."""
    return models.load(Path(__file__).parents[1] / "data" / "careless_pupil")


def test_training_asks_for_the_gold_answer_of_each_prompt(pupil, monkeypatch):
    policy, asked = copy.deepcopy(pupil), []

    def spy(policy, batch, answers, *, temperature):
        for row in range(len(batch)):
            prompt = models.decode(policy.tokenizer, batch.tokens[row, : int(batch.prompt_length[row])].tolist())
            a, b = prompt.removeprefix("<U>").removesuffix("=<A>").split("+")
            assert models.decode(policy.tokenizer, answers[int(batch.group[row])]) == f"{int(a) + int(b)}<E>"
        asked.append(len(batch))
        return torch.zeros(batch.tokens.shape)

    monkeypatch.setattr(models, "answer_logp", spy)
    dynamic = recipes.igpo.but("dynamic", rollout=o.resample(size=4, rounds=2))  # groups are thrown away and renumbered
    for recipe in (dynamic, recipes.igpo.but("replayed", mix=o.replay(), prompts=o.uniform(pool=3))):
        for _ in train(policy, "addition", recipe, steps=2, prompts=3):
            pass
    assert len(asked) == 4


def test_a_run_with_a_judge_goes_on_to_the_same_bits(pupil, tmp_path):
    def weights(steps, run):
        policy = copy.deepcopy(pupil)
        for _ in train(policy, "addition", "oprl", steps=steps, prompts=4, run=run):
            pass
        return policy.state_dict()

    straight = weights(3, tmp_path / "straight")
    weights(2, tmp_path / "broken")
    again = weights(3, tmp_path / "broken")
    assert all(torch.equal(straight[name], again[name]) for name in straight)
    saved = read_checkpoint(tmp_path / "straight", 3).tensors["training"]
    start = dict(pupil.named_parameters())
    moved = [name for name in start if not torch.equal(saved[f"judge.{name}"], start[name])]
    assert moved and not any(torch.equal(saved[f"judge.{name}"], straight[name]) for name in moved)  # neither copy nor policy


def test_the_judges_step_leaves_the_policy_alone(pupil, monkeypatch):
    policy = copy.deepcopy(pupil)
    seen, module = [], importlib.import_module("workbench.update")
    teach = module._teach

    def spy(update, *rest):
        before = {name: value.clone() for name, value in update.state.parameters().items()}
        judge = {name: value.clone() for name, value in update.state.judge.named_parameters()}
        teach(update, *rest)
        assert all(torch.equal(before[name], value) for name, value in update.state.parameters().items())
        seen.append(any(not torch.equal(judge[name], value) for name, value in update.state.judge.named_parameters()))

    monkeypatch.setattr(module, "_teach", spy)
    for _ in train(policy, "addition", "oprl", steps=1, prompts=4):
        pass
    assert seen == [True]


# ---- the recorded demonstrations ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demonstrations():
    """data/credit.py as a module, and what it recorded."""
    path = Path(__file__).parents[1] / "data" / "credit.py"
    spec = importlib.util.spec_from_file_location("credit_demonstrations", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module, json.loads(path.with_suffix(".json").read_text())["rows"]


def test_the_record_has_a_row_for_every_demonstration_and_every_recipe(demonstrations):
    module, rows = demonstrations
    assert [row["key"] for row in rows] == [demo.key for demo in module.DEMOS]
    shown = {row["method"] for row in rows} | {arm for row in rows for arm in row["values"]}
    assert shown >= {recipe.name for recipe in credit.RECIPES}
    for row, demo in zip(rows, module.DEMOS):
        assert row["method"] == demo.method.name and row["seeds"] == demo.seeds >= 8
        assert all(len(values) == demo.seeds for values in row["values"].values())
        effect = stats.paired_difference(row["values"][row["method"]], row["values"][row["against"]])
        assert row["effect"] == pytest.approx([float(value) for value in effect], abs=1e-4)
        low, high = sorted(demo.sign * end for end in effect[1:])
        assert row["verdict"] == ("appears" if low > 0 else "reversed" if high < 0 else "not seen")


def test_the_record_is_what_the_code_does(demonstrations):
    """The first seed of one row again: alone, it takes the same way as among the others."""
    module, rows = demonstrations
    demo = next(demo for demo in module.DEMOS if demo.key == "step_grpo")
    row = next(row for row in rows if row["key"] == demo.key)
    for recipe in (demo.method, demo.baseline):
        assert demo.values(recipe, seeds=1) == pytest.approx(row["values"][recipe.name][:1], abs=0.01)


def test_seeds_that_are_trained_side_by_side_do_not_meet(demonstrations):
    module, _ = demonstrations
    world, given = module.tables(2, 3), {"updates": 8}
    for recipe, rounding in ((recipes.step_grpo, 1e-6), (recipes.ppo, 1e-6), (recipes.oprl, 1e-2)):  # see `learn`
        together, alone = module.learn(recipe, world, [4, 5], **given), module.learn(recipe, world, [5], **given)
        assert together.policy[1] == pytest.approx(alone.policy[0], abs=rounding)
        assert together.policy[0] != pytest.approx(alone.policy[0], abs=0.02)
