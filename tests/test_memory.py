"""Parts that look back: what they keep and what they do with it; and where there is nothing to do, they are GRPO."""

import copy
import importlib.util
import itertools
import json
import math
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import workbench as wb
from workbench import models, recipes, seeding, tasks
from workbench import objective as o
from workbench.batch import Batch, Dialogue, Origin, Segment, Stop
from workbench.tasks import Problem, Reply, Unlock
from workbench.tasks.base import play

DATA = Path(__file__).parent.parent / "data"


class Letters:
    """Write a digit to win; every `bad` problem never pays. Hint 0 is of use (it says so), hint 1 spoils the problem."""

    name, tools, max_turns, max_tokens, hints = "letters", (), 1, 4, 2

    def problem(self, index, *, split="train", seed=0):
        return Problem(f"{split[1]}{index}", "1")

    def hinted(self, problem, hints):
        return Problem("".join("?!"[hint] for hint in hints) + problem.prompt, "1")

    def episode(self, problem):
        return Attempt(problem.prompt)

    def demonstration(self, problem, rng, error_rate=0.0):
        return [str(rng.choice(list("abc123456789")))]


class Attempt:
    def __init__(self, prompt):
        self.prompt = prompt

    def step(self, text):
        lucky = "?" in self.prompt or text[:1] in ("1", "2")
        return Reply(None, 0.0, True, float(text[:1].isdigit() and lucky and "!" not in self.prompt))


@pytest.fixture(scope="module")
def warm():
    policy = models.tiny("0.1m", seed=0)
    for _ in wb.sft(policy, Letters(), steps=40, batch_size=16, lr=1e-2):
        pass
    return policy


def run(warm, recipe, steps=3, task=None, **settings):
    """Weights and records after some steps from `warm`."""
    policy = copy.deepcopy(warm)
    settings = {"steps": steps, "prompts": 3, "lr": 1e-3, "seed": 5} | settings
    records = list(wb.train(policy, task or Letters(), recipe, **settings))
    return torch.cat([value.detach().flatten() for value in policy.parameters()]), records


def episodes(outcomes, group, tokens=None, **fields):
    """One turn of one token each."""
    rows = [
        Dialogue([1, 2], g, [Segment([t], [-1.0])], [0.0], float(out))
        for out, g, t in zip(outcomes, group, tokens or itertools.count(10))
    ]
    return Batch.from_dialogues(rows).replace(**fields)


# ---- replay of successes ------------------------------------------------------------------------------------------------


def test_of_each_problem_the_newest_successes_are_kept():
    problem = torch.tensor([70, 70, 70, 30])
    past = o.keep_successes(None, episodes([1, 0, 1, 1], [0, 0, 0, 1], [10, 11, 12, 13]), problem, 2)
    assert past.group.tolist() == [70, 70, 30] and past.tokens[:, 2].tolist() == [10, 12, 13]
    assert (past.origin == Origin.REPLAY).all() and (past.logp_old[:, 2] == -1).all()
    again = o.keep_successes(past, episodes([0.05, 1, 0, 0.2], [0, 0, 0, 1], [20, 21, 22, 23]), problem, 2)
    assert again.group.tolist() == [70, 30, 70, 30] and again.tokens[:, 2].tolist() == [12, 13, 21, 23]
    replayed = episodes([1], [0], origin=torch.tensor([int(Origin.REPLAY)]))
    failed = episodes([1], [0], stop=torch.tensor([int(Stop.ERROR)]))
    for nothing in (episodes([0], [0]), replayed, failed):
        assert o.keep_successes(None, nothing, problem[:1], 2) is None
        assert o.keep_successes(past, nothing, problem[:1], 2) is past


def test_a_failed_group_gets_one_success_of_its_own_problem():
    batch = episodes([0, 0, 0, 1, 0, 0, 0], [4, 4, 4, 6, 6, 9, 9])
    problem = torch.tensor([70, 70, 70, 30, 30, 50, 50])
    rewards = o.outcome()(batch)
    past = o.keep_successes(None, episodes([1, 1, 1], [0, 0, 1], [40, 41, 42]), torch.tensor([70, 70, 30]), 8)
    drawn = Counter()
    for seed in range(50):
        mixed = o.replay()(batch, rewards, problem, past, seeding.generator(seed, "test"))
        assert mixed.group.tolist() == [4, 4, 6, 6, 9, 9, 4]  # 6 has a success, 9 has none stored
        assert mixed.tokens[:6, 2].tolist() == [11, 12, 13, 14, 15, 16] and mixed.outcome.tolist() == [0, 0, 1, 0, 0, 0, 1]
        assert mixed.origin.tolist() == [Origin.ON_POLICY] * 6 + [Origin.REPLAY]
        drawn[int(mixed.tokens[6, 2])] += 1
    assert set(drawn) == {40, 41} and abs(drawn[40] - 25) < 15
    rng = seeding.generator(0, "test")
    assert o.replay()(batch, rewards, problem, None, rng) is batch
    assert o.replay()(batch, rewards + 0.2, problem, past, rng) is batch  # at the threshold a group has not failed
    assert o.replay(std=0.0)(batch, rewards, problem, past, rng) is batch
    other = torch.tensor([1, 1, 1, 2, 2, 3, 3])
    assert o.replay()(batch, rewards, other, past, rng) is batch


def test_the_rows_of_one_episode_are_kept_and_replayed_together():
    def rows(group, outcome, token, rollout):
        return [
            Dialogue([1], group, [Segment([token], [-1.0])], [0.0], outcome, rollout=rollout),
            Dialogue([2], group, [Segment([token + 1], [-1.0])], [0.0], outcome, rollout=rollout, first_turn=1),
        ]

    first = Batch.from_dialogues([*rows(0, 1.0, 10, 0), *rows(0, 1.0, 20, 1), *rows(0, 0.0, 30, 2)])
    past = o.keep_successes(None, first, torch.full((6,), 7), 1)
    assert past.tokens[:, 1].tolist() == [20, 21] and past.rollouts == 1
    failed = Batch.from_dialogues([*rows(3, 0.0, 40, 0), *rows(3, 0.0, 50, 1)])
    mixed = o.replay()(failed, o.outcome()(failed), torch.full((4,), 7), past, seeding.generator(0, "test"))
    assert mixed.tokens[:, 1].tolist() == [50, 51, 20, 21] and mixed.rollouts == 2 and set(mixed.group.tolist()) == {3}


SMALL_POOL = recipes.grpo.but("pool", prompts=o.uniform(pool=3))


def test_without_anything_to_replay_it_is_grpo_to_the_bit(warm):
    plain = run(warm, SMALL_POOL)[0]
    assert torch.equal(run(warm, SMALL_POOL.but("r", mix=o.replay(mean=-1.0)))[0], plain)  # successes are kept, no group fails
    one_step = run(warm, SMALL_POOL, steps=1)[0]
    assert torch.equal(run(warm, SMALL_POOL.but("r", mix=o.replay(mean=2.0, std=9.0)), steps=1)[0], one_step)  # nothing kept yet
    assert not torch.equal(run(warm, SMALL_POOL.but("r", mix=o.replay(mean=2.0, std=9.0)))[0], plain)


@pytest.mark.parametrize(("logp", "starts_at_one"), [("renewed", True), ("sampled", False)])
def test_what_is_replayed_starts_at_ratio_1_only_if_its_old_log_probabilities_are_renewed(warm, logp, starts_at_one):
    recipe = SMALL_POOL.but("r", mix=o.replay(mean=2.0, std=9.0, logp=logp))
    _, records = run(warm, recipe, lr=1e-2)
    assert records[0].replayed == 0 and records[2].replayed == pytest.approx(1 / 8)
    assert records[2].replayed == pytest.approx(1 / 8)
    spread = max(abs(records[2].ratio_max - 1), abs(records[2].ratio_min - 1))
    assert (spread < 1e-5) is starts_at_one


# ---- entropy that stays where it was ------------------------------------------------------------------------------------


def terms(entropy, past, **given):
    mask = torch.tensor([[False, True, True, True]])
    return o.Terms(logp=torch.zeros(1, 4), mask=mask, entropy=entropy, entropy_past=past, **given)


def test_the_hinge_pushes_entropy_back_into_its_window_and_the_released_constant_does_nothing():
    entropy = torch.tensor([[0.0, 0.3, 1.1, 2.7]], requires_grad=True)
    past = torch.tensor([[math.nan, 1.0, 1.0, 1.0]])
    hinge = o.entropy_window(coefficient=0.5, low=0.4, high=2.0)(terms(entropy, past))
    torch.testing.assert_close(hinge, torch.tensor([[0.0, 0.05, 0.0, 0.35]]))
    assert torch.autograd.grad(hinge.sum(), entropy)[0].tolist() == [[0.0, -0.5, 0.0, 0.5]]
    constant = o.entropy_window(coefficient=0.5, low=0.4, high=2.0, penalty="constant", delta=0.1)(terms(entropy, past))
    torch.testing.assert_close(constant, torch.tensor([[0.0, 0.05, 0.0, 0.05]]))
    assert not constant.requires_grad
    for never in (o.entropy_window(high=None), o.entropy_window(low=0.0, high=2.8)):
        assert (never(terms(entropy, past)) == 0).all()
    unknown = o.entropy_window(low=0.4)(terms(entropy, torch.full((1, 4), math.nan)))
    assert (unknown == 0).all() and torch.isfinite(torch.autograd.grad(unknown.sum(), entropy)[0]).all()


def test_usual_entropy_is_the_mean_over_steps_of_the_mean_at_a_turn():
    turn = torch.tensor([[-1, 0, 0, 1], [-1, 0, 2, -1]])
    mask = torch.tensor([[False, True, True, True], [False, True, False, False]])
    entropy = torch.tensor([[9.0, 1.0, 2.0, 4.0], [9.0, 6.0, 9.0, 9.0]])
    once = o.add_entropy((), entropy, turn, mask)
    assert once == ((3.0, 1), (4.0, 1), (0.0, 0))
    twice = o.add_entropy(once, entropy / 2, turn, mask)
    assert twice == ((4.5, 2), (6.0, 2), (0.0, 0))
    usual = o.usual_entropy(twice, torch.tensor([[-1, 0, 1, 2, 3, 9]]))
    assert usual[0, :3].tolist() == [2.25, 2.25, 3.0] and usual[0, 3:].isnan().all()
    assert o.usual_entropy((), turn).isnan().all()


def test_with_an_endless_window_epo_is_grpo_with_an_entropy_bonus(warm):
    bonus = recipes.grpo.but("bonus", regulariser=o.entropy_bonus(0.01))
    plain = run(warm, bonus)[0]
    endless = bonus.but("e", regulariser=(o.entropy_bonus(0.01), o.entropy_window(1.0, 0.0, None)))
    assert torch.equal(run(warm, endless)[0], plain)
    nothing = recipes.grpo.but("n", regulariser=(o.entropy_window(1.0, 0.9, 1.1, "constant"),))
    tight = recipes.grpo.but("t", regulariser=(o.entropy_window(1.0, 0.9, 1.1),))
    first = run(warm, recipes.grpo, steps=1)[0]
    torch.testing.assert_close(run(warm, tight, steps=1)[0], first, rtol=0, atol=1e-6)  # nothing is usual yet
    grpo = run(warm, recipes.grpo)[0]
    torch.testing.assert_close(run(warm, nothing)[0], grpo, rtol=0, atol=1e-5)
    assert (run(warm, tight)[0] - grpo).abs().max() > 1e-4


# ---- likelihoods that fall ----------------------------------------------------------------------------------------------


def test_a_turn_that_became_unlikely_is_charged_for_the_tokens_that_did():
    turn = torch.tensor([[-1, 0, 0, 1, 1]])
    mask = torch.tensor([[False, True, True, True, True]])
    old = torch.tensor([[0.0, -1.0, -1.0, -1.0, -1.0]])
    logp = torch.tensor([[0.0, -1.5, -0.8, -1.2, -0.1]], requires_grad=True)  # turn 0 fell by .3, turn 1 rose by .7
    given = {"logp": logp, "mask": mask, "turn": turn, "logp_old": old, "advantage": torch.ones(1, 5)}
    found = o.likelihood_drops(coefficient=2.0)(o.Terms(**given))
    torch.testing.assert_close(found, torch.tensor([[0.0, 1.0, 0.0, 0.0, 0.0]]))
    assert torch.autograd.grad(found.sum(), logp)[0].tolist() == [[0.0, -2.0, 0.0, 0.0, 0.0]]
    assert (o.likelihood_drops(gate="episode")(o.Terms(**given)) == 0).all()  # as a whole it rose
    lower = given | {"logp": torch.tensor([[0.0, -1.5, -0.8, -1.2, -1.0]])}
    whole = o.likelihood_drops(coefficient=1.0, gate="episode")(o.Terms(**lower))
    torch.testing.assert_close(whole, torch.tensor([[0.0, 0.5, 0.0, 0.2, 0.0]]))
    bad = given | {"advantage": torch.tensor([[0.0, -1.0, 0.0, 1.0, 1.0]])}
    assert (o.likelihood_drops()(o.Terms(**bad)) == 0).all()  # what was bad may become unlikely
    assert o.likelihood_drops(coefficient=2.0, credited=False)(o.Terms(**bad)).sum().item() == pytest.approx(1.0)


def test_while_the_policy_is_the_one_that_sampled_likelihoods_have_not_fallen(warm):
    batch = episodes([1, 0, 1], [0, 0, 0])
    recipe = recipes.grpo.but("l", regulariser=o.likelihood_drops(5.0), schedule=o.updates(epochs=2))
    gradients = []
    for method in (recipe, recipes.grpo):
        logp = batch.logp_old.double().requires_grad_()
        value, _ = o.loss(method, o.prepare(method, batch), logp)
        gradients.append(torch.autograd.grad(value, logp)[0])
    assert torch.equal(*gradients) and gradients[0].abs().sum() > 0
    higher = (batch.logp_old + 0.1 * batch.mask).clamp(max=0)  # every ratio above 1
    prepared = o.prepare(recipe, batch)
    assert o.loss(recipe, prepared, higher)[0] == o.loss(recipes.grpo, prepared, higher)[0]
    twice = recipes.grpo.but("twice", schedule=o.updates(epochs=2))
    off = twice.but("l", regulariser=o.likelihood_drops(1.0, credited=False))
    assert (run(warm, off, steps=1)[0] - run(warm, twice, steps=1)[0]).abs().max() > 1e-6


# ---- void turns ---------------------------------------------------------------------------------------------------------


def test_void_is_a_malformed_turn_that_is_no_answer_and_a_turn_cut_off():
    def one(rewards, stop):
        return Dialogue([1], 0, [Segment([5], [-1.0]) for _ in rewards], rewards, 0.0, stop)

    batch = Batch.from_dialogues([
        one([0.0, 0.0], Stop.DONE), one([-1.0, 0.0], Stop.DONE), one([0.0, -1.0], Stop.DONE),  # a bad answer is an answer
        one([0.0, -1.0], Stop.TURNS), one([0.0, 0.0], Stop.TURNS), one([0.0], Stop.LENGTH), one([0.0, 0.0], Stop.CONTEXT),
    ])  # fmt: skip
    expected = [[0, 0], [1, 0], [0, 0], [0, 1], [0, 0], [1, 0], [0, 1]]
    assert o.void_turns(batch).int().tolist() == expected
    advantage = torch.ones(batch.tokens.shape)
    kept = o.drop_void()(batch, advantage, None)
    for row, void in enumerate(expected):
        assert kept[row].tolist() == (batch.mask[row].float() * (sum(void) == 0)).tolist()
    rows = [
        Dialogue([1], 0, [Segment([5], [-1.0])], [reward], 0.0, rollout=0, first_turn=turn)
        for turn, reward in enumerate((0.0, -1.0, 0.0))
    ]
    assert (o.drop_void()(Batch.from_dialogues(rows), torch.ones(3, 2), None) == 0).all()  # rows of one episode go together
    answered = Batch.from_dialogues(rows[:2])  # the malformed turn is the last one
    assert (o.drop_void()(answered, torch.ones(2, 2), None)[:, 1] == 1).all()


def test_where_no_turn_is_void_nothing_is_dropped(warm):
    plain, filtered = run(warm, recipes.grpo), run(warm, recipes.simple_tir)
    assert plain[1][0].malformed == plain[1][0].truncated == 0 and torch.equal(plain[0], filtered[0])


# ---- hints --------------------------------------------------------------------------------------------------------------


def test_hints_follow_their_schedules():
    assert o.bare()(1, ()) == ()
    shots = o.few_shots(shots=(3, 1, 0), every=2)
    assert [shots(step, ()) for step in (1, 2, 3, 4, 5, 99)] == [(0, 1, 2), (0, 1, 2), (0,), (0,), (), ()]
    best = o.helpful_hints(budget=(2, 1, 0), every=3)
    gains = (0.1, -0.2, 0.5, None, 0.3, 0.0)
    assert [best(step, gains) for step in (1, 4, 7)] == [(2, 4), (2,), ()]
    assert best(1, (None, None)) == () and best(1, (-0.1, 0.0)) == (1,)
    for wrong in ((1, 2), (), (1.5,), (-1,), 3):
        with pytest.raises(ValueError, match="none larger than the one before"):
            o.few_shots(shots=wrong)
    assert o.few_shots(shots=[2, 0]) == o.few_shots(shots=(2, 0))  # as it comes out of JSON


def test_prompts_of_training_show_the_hints_and_tests_never_do(warm):
    seen = []

    class Spied(Letters):
        def episode(self, problem):
            seen.append(problem.prompt)
            return super().episode(problem)

    recipe = recipes.grpo.but("shots", context=o.few_shots(shots=(2, 1, 0), every=2))
    _, records = run(warm, recipe, steps=6, task=Spied())
    assert [record.hints for record in records] == [2, 2, 1, 1, 0, 0]
    assert [record.rollouts[0]["prompt"][3:-3].rstrip("0123456789") for record in records] == ["?!r"] * 2 + ["?r"] * 2 + ["r"] * 2
    tested = [prompt for prompt in seen if "e" in prompt]
    assert tested and not any("?" in prompt or "!" in prompt for prompt in tested)
    assert [record.test_success is not None for record in records] == [False, True, False, True, False, False]
    with pytest.raises(ValueError, match="shows hints, and the task 'addition' has none"):
        run(warm, recipe, task=tasks.get("addition"))


def test_hints_are_measured_and_one_that_harms_is_not_shown(warm):
    recipe = recipes.grpo.but("hints", context=o.helpful_hints(budget=(2, 0), every=3, measure=2, problems=60))
    _, records = run(warm, recipe, steps=4, lr=1e-6)
    assert [record.hints for record in records] == [1, 1, 1, 0]
    assert all("?" in row["prompt"] and "!" not in row["prompt"] for record in records[:3] for row in record.rollouts)
    assert records[0].episodes == 24 + 3 * 60 and records[1].episodes == 24  # with both, without each
    assert records[2].episodes == 24 + 2 * 60 and records[3].episodes == 24


# ---- the task -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"places": 1, "digits": 2, "presses": 1}, {"show": "examples", "shown": (0, 3)}])
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_lock_opens_for_its_code_and_for_nothing_else(settings, split):
    task = tasks.get("unlock", **settings)
    for number in range(100):
        problem = task.problem(number, split=split)
        gold = play(task, problem, task.gold(problem))
        assert gold.done and gold.outcome == 1 and len(gold.rewards) == task.places and gold.transcript[-1] == problem.answer
        assert play(task, problem, task.do_nothing(problem)).outcome == 0
        assert play(task, problem, task.cheat(problem) if task.places > 1 else ["open"]).outcome == 0


def test_a_wrong_digit_throws_out_the_others():
    task = Unlock()
    a, b, c = task.code("C")
    wrong = next(digit for digit in "012345" if digit not in (a, b, c))
    problem = task.hinted(Problem("C417", "", tuple(zip(a + b + c, "12 "))), ())
    played = play(task, problem, [f"<T>{digit}</T>" for digit in (a, b, wrong, a, b, c)])
    assert played.transcript[1::2] == ["1", "2", "0", "1", "2"] and played.outcome == 1
    episode = task.episode(problem)
    assert episode.step(f"<T>{a}</T>") == Reply("1") and episode.step(f"<T>{b}{c}</T>") == Reply("!", -1.0)
    assert episode.step(f"<T>{b}</T>") == Reply("2") and episode.step("open") == Reply(None, 0.0, True, 0.0)


@pytest.mark.parametrize("settings", [(2, 2, 4), (3, 2, 6), (2, 3, 5), (3, 3, 3), (1, 3, 4)])
def test_the_chance_of_pressing_at_random_is_a_count_of_all_sequences(settings):
    places, digits, presses = settings
    task = Unlock(places=places, digits=digits, presses=presses)
    problem = task.problem(0)
    opened = [
        play(task, problem, [f"<T>{digit}</T>" for digit in pressed]).outcome
        for pressed in itertools.product(range(digits), repeat=presses)
    ]
    assert task.chance() == pytest.approx(sum(opened) / digits**presses)
    assert 0.01 < Unlock().chance() < 0.035 and 8 <= Unlock().max_turns <= 30


@pytest.mark.parametrize("error_rate", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("settings", [{}, {"malformed": 0.5}, {"show": "examples", "shown": (1,), "presses": 8}])
def test_demonstrations_of_unlocking_fail_as_often_as_asked(settings, error_rate):
    task, rng, failed, bad = Unlock(**settings), np.random.default_rng(0), 0, []
    for number in range(300):
        problem = task.problem(number)
        shown = task.demonstration(problem, rng, error_rate)
        played = play(task, problem, shown[::2])
        assert played.done and played.transcript == shown and len(shown) // 2 < task.max_turns
        failed += played.outcome == 0
        bad += [reward < 0 for reward in played.rewards]
    assert abs(failed / 300 - error_rate) <= 4 * math.sqrt(error_rate * (1 - error_rate) / 300)
    assert any(bad) == (task.malformed > 0)


def test_hints_tell_of_the_lock_and_leave_it_the_same():
    digits, examples = Unlock(), Unlock(show="examples")
    for task in (digits, examples):
        problem = task.problem(3)
        lock, code = problem.prompt, task.code(problem.prompt[0])
        shown = task.hinted(problem, (0, 2))
        assert shown.steps == problem.steps and task.hinted(shown, ()) == problem
        assert play(task, shown, task.gold(problem)).outcome == 1
        if task is digits:
            assert shown.prompt == f"{code[0]}?{code[2]} {lock}"
        else:
            solved = "".join(f"<T>{digit}</T>" for digit in code)
            first, second, last = shown.prompt.split("\n")
            assert first[0] == second[0] == lock[0] and first[4:] == second[4:] == solved and last == lock
    assert Unlock(shown=(1,)).problem(3).prompt == digits.hinted(digits.problem(3), (1,)).prompt
    assert isinstance(digits, tasks.Hinted) and not isinstance(tasks.get("addition"), tasks.Hinted)
    with pytest.raises(ValueError, match=r"no hint 3: unlock with show='digits' has 3"):
        digits.hinted(digits.problem(0), (3,))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"places": 0}, "places must be"), ({"digits": 11}, "digits must be"), ({"presses": 2}, "presses must be .* from 3"),
     ({"makes": 27}, "makes must be"), ({"show": "all"}, "show must be"), ({"malformed": 2.0}, "malformed must be"),
     ({"shown": (7,)}, "no hint 7")],
)  # fmt: skip
def test_locks_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Unlock(**settings)


# ---- the record of what they do -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def script():
    """data/memory.py as a module."""
    spec = importlib.util.spec_from_file_location("memory_record", DATA / "memory.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_record_is_what_its_script_makes_of_its_scores(script):
    rows = json.loads((DATA / "memory.json").read_text())["rows"]
    names = [recipe.name for recipe in recipes.memory.RECIPES]
    assert names == [row["method"] for row in rows] == [claim.method for claim in script.CLAIMS]
    for row, claim in zip(rows, script.CLAIMS):
        assert (row["claim"], row["setting"], row["measure"]) == (claim.says, claim.where, claim.measure)
        assert list(row["scores"]) == list(claim.arms) and {len(scores) for scores in row["scores"].values()} == {script.SEEDS}
        assert script.SEEDS >= 8
        again = script.row(claim, {arm: [{claim.measure: score} for score in scores] for arm, scores in row["scores"].items()})
        assert (again["against"], again["verdict"]) == (row["against"], row["verdict"])
        main, *others = [{name: r[name] for name in ("effect", "low", "high")} for r in (row, *row["ablation"].values())]
        assert main == pytest.approx({name: again[name] for name in main}, abs=2e-4)
        assert others == [pytest.approx(found, abs=2e-4) for found in again["ablation"].values()]


def test_a_run_of_the_record_comes_out_again(script):
    rows = json.loads((DATA / "memory.json").read_text())["rows"]
    claim = next(claim for claim in script.CLAIMS if claim.method == "llds")
    recorded = next(row for row in rows if row["method"] == "llds")["scores"]["llds"][0]
    assert script.scores(claim.setting, claim.arms["llds"], 0)["success"] == pytest.approx(recorded, abs=0.05)


def test_the_table_that_presses_is_trained_on_what_it_sampled_and_opens_a_lock_by_luck(script):
    policy = script.Presser(script.SHORT, formed=20.0, called=20.0)
    hinted = [script.SHORT.hinted(script.SHORT.problem(n), (0,) if n % 2 else ()) for n in range(40)]
    engine = script.Table(policy)
    batch = wb.sample.rollout(engine, script.SHORT, policy.tokenizer, hinted, group_size=50, seed=0)
    said = policy.evaluate(batch)
    torch.testing.assert_close(said.logp.detach(), batch.logp_old, rtol=0, atol=1e-6)
    chance, found = script.SHORT.chance(), batch.outcome.mean().item()
    assert abs(found - chance) < 4 * math.sqrt(chance * (1 - chance) / len(batch))
    eager = script.Presser(script.SHORT, follows=30.0, formed=20.0, called=20.0)
    shown = [script.SHORT.hinted(script.SHORT.problem(n), (0, 1)) for n in range(20)]
    assert (wb.sample.rollout(script.Table(eager), script.SHORT, eager.tokenizer, shown, group_size=1, seed=0).outcome == 1).all()
