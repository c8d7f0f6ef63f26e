"""Training stops anywhere and goes on to the same bits; bad input is refused or counted; the streams do not meet."""

import copy
import errno
import json
import math
import os
import signal
import time
from dataclasses import dataclass

import pytest
import torch

import workbench as wb
from workbench import models, recipes, sandbox, tasks
from workbench.loop import lacks_memory, restore
from workbench.objective import (
    entropy_bonus,
    entropy_window,
    helpful_hints,
    kl,
    replay,
    turn_penalty,
    uniform,
    updates,
)
from workbench.run_folder import read_rows
from workbench.stats import permutation_test, wilson_interval
from workbench.tasks import Problem, Reply
from workbench.update import _minibatches

TIMES = ("seconds", "tokens_per_second")


@dataclass
class Digits:
    """Write two characters; the outcome is the share of digits. A random half of what is demonstrated are digits."""

    trouble: str = ""

    name = "digits"
    tools = ()
    max_turns = 1
    max_tokens = 16
    hints = 3

    def problem(self, index, *, split="train", seed=0):
        return Problem(f"{split[1]}{index}", "12")

    def hinted(self, problem, hints):
        return Problem("".join("?!*"[hint] for hint in hints) + problem.prompt, "12")

    def episode(self, problem):
        return self

    def step(self, text):
        if self.trouble == "raise" or (self.trouble == "raise sometimes" and text[:1] == "1"):
            raise RuntimeError("the task is broken")
        outcome = sum(letter.isdigit() for letter in text) / max(len(text), 2)
        bad = self.trouble == "nan" or (self.trouble == "nan sometimes" and text[:1] == "1")
        return Reply(None, 0.0, True, math.nan if bad else outcome)

    def demonstration(self, problem, rng, error_rate=0.0):
        return ["".join(rng.choice(list("abcd1234"), 2))]


@pytest.fixture(scope="module")
def warm():
    policy = models.tiny("0.1m", seed=0)
    for _ in wb.sft(policy, Digits(), steps=60, batch_size=16, lr=1e-2):
        pass
    return policy


@pytest.fixture
def policy(warm):
    return copy.deepcopy(warm)


SMALL = {"prompts": 3, "lr": 1e-3, "seed": 5}


def train(policy, recipe="grpo", task=None, **settings):
    recipe = recipes.get(recipe)
    return wb.train(policy, task or Digits(), recipe, **SMALL | settings)


def weights(policy):
    return torch.cat([value.detach().flatten() for value in policy.parameters()])


def timeless(rows):
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def metrics(path):
    return timeless(read_rows(path / "metrics.jsonl"))


# ---- stopping and going on ----------------------------------------------------------------------------------------------

GRPO = recipes.grpo.but("mine", regulariser=kl(0.1), schedule=updates(epochs=2, minibatches=2))
MEMORY = recipes.grpo.but(  # everything that a run can know of its earlier steps
    "memory", prompts=uniform(pool=4), context=helpful_hints((2, 1, 0), every=2, measure=2, problems=4),
    mix=replay(mean=0.99, std=9.0), regulariser=(entropy_bonus(), entropy_window(0.1, 0.5, 1.1)),
)  # fmt: skip


def test_same_seed_same_bits_and_another_seed_others(warm):
    ends = []
    for seed in (5, 5, 6):
        policy = copy.deepcopy(warm)
        rows = timeless(record.as_row() for record in train(policy, steps=2, seed=seed))
        ends.append((rows, weights(policy)))
    assert ends[0][0] == ends[1][0] and torch.equal(ends[0][1], ends[1][1])
    assert ends[0][0] != ends[2][0] and not torch.equal(ends[0][1], ends[2][1])


@pytest.mark.parametrize("recipe", ["grpo", "ppo", "dapo", GRPO, MEMORY], ids=["grpo", "ppo", "dapo", "kl", "memory"])
@pytest.mark.parametrize("in_process", [True, False])
def test_a_stopped_run_goes_on_to_the_same_bits(warm, tmp_path, recipe, in_process):
    whole, stopped = copy.deepcopy(warm), copy.deepcopy(warm)
    rows = timeless(record.as_row() for record in train(whole, recipe, steps=5, run=tmp_path / "whole"))
    for record in train(stopped, recipe, steps=5, run=tmp_path / "stopped"):
        if record.step == 2:
            break
    assert len(metrics(tmp_path / "stopped")) == 2
    again = stopped if in_process else copy.deepcopy(warm)  # as a new process would have it
    rest = timeless(record.as_row() for record in train(again, recipe, steps=5, run=tmp_path / "stopped"))
    assert rest == rows[2:]
    assert torch.equal(weights(again), weights(whole)) and not torch.equal(weights(whole), weights(warm))
    assert metrics(tmp_path / "stopped") == metrics(tmp_path / "whole") == rows
    one, two = (tmp_path / run / "checkpoints" / "step_000005" for run in ("whole", "stopped"))
    files = [file.name for file in one.glob("*.safetensors")]  # Adam's averages and the value head too
    assert {"policy.safetensors", "training.safetensors"} <= set(files)
    for name in files:
        assert (one / name).read_bytes() == (two / name).read_bytes()
    states = [json.loads((folder / "state.json").read_bytes())["state"] for folder in (one, two)]
    assert states[0] == states[1]
    if recipe is MEMORY:
        assert "successes.safetensors" in files and all(states[0].values())
        assert any(row["replayed"] for row in rows) and len({row["hints"] for row in rows}) > 1
    rollouts = [read_rows(tmp_path / run / "rollouts.jsonl") for run in ("whole", "stopped")]
    assert rollouts[0] == rollouts[1] and {row["step"] for row in rollouts[0]} == {1, 2, 3, 4, 5}


def test_a_warm_start_goes_on_with_its_learning_rate(tmp_path):
    def run(policy, name, stop=None):
        records = []
        for record in wb.sft(policy, "calculator", steps=6, batch_size=4, run=tmp_path / name, checkpoint_every=2):
            records.append(record.as_row())
            if record.step == stop:
                break
        return timeless(records)

    whole, stopped = models.tiny("0.1m", seed=1), models.tiny("0.1m", seed=1)
    rows = run(whole, "whole")
    run(stopped, "stopped", stop=3)  # between two checkpoints: stopping writes one
    assert run(models.tiny("0.1m", seed=1), "stopped") == rows[3:]
    assert metrics(tmp_path / "stopped") == rows
    assert [row["learning_rate"] for row in rows] == pytest.approx([4e-3 * (1 - n / 6) for n in range(6)])
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_more_steps_may_be_asked_of_a_finished_run(warm, tmp_path):
    whole, longer = copy.deepcopy(warm), copy.deepcopy(warm)
    list(train(whole, steps=3))
    assert len(list(train(longer, steps=2, run=tmp_path / "run"))) == 2
    assert list(train(longer, steps=2, run=tmp_path / "run")) == []
    assert [record.step for record in train(longer, steps=3, run=tmp_path / "run")] == [3]
    assert torch.equal(weights(longer), weights(whole))


def test_killed_at_random_moments_the_run_ends_as_if_it_had_not_been(warm, tmp_path):
    """SIGKILL, which no process can answer. Children are forks, so that each starts at once."""
    whole, steps = copy.deepcopy(warm), 30
    started = time.perf_counter()
    list(train(whole, MEMORY, steps=steps, run=tmp_path / "whole"))
    a_step = (time.perf_counter() - started) / steps
    delays = torch.Generator().manual_seed(int.from_bytes(os.urandom(4), "big"))
    kills = 0
    for attempt in range(60):
        child = os.fork()
        if child == 0:
            try:
                list(train(copy.deepcopy(warm), MEMORY, steps=steps, run=tmp_path / "killed"))
                os._exit(0)
            finally:
                os._exit(1)
        deadline = time.perf_counter() + (4 * a_step * (0.2 + torch.rand((), generator=delays).item()) if attempt < 12 else 120)
        status = 0
        while time.perf_counter() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            time.sleep(0.001)
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            kills += 1
            continue
        assert status == 0
        break
    assert kills >= 5
    assert [row["step"] for row in metrics(tmp_path / "killed")] == list(range(1, steps + 1))
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")
    assert read_rows(tmp_path / "killed" / "rollouts.jsonl") == read_rows(tmp_path / "whole" / "rollouts.jsonl")
    again = copy.deepcopy(warm)
    assert restore(again, tmp_path / "killed") == steps
    assert torch.equal(weights(again), weights(whole))


def test_an_interrupted_step_is_undone(warm, tmp_path, monkeypatch):
    whole, policy = copy.deepcopy(warm), copy.deepcopy(warm)
    two_updates = MEMORY.but("two", schedule=updates(minibatches=2))
    rows = timeless(record.as_row() for record in train(whole, two_updates, steps=4))
    step, calls = torch.optim.AdamW.step, []

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) == 6:  # the second minibatch of step 3
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", interrupted)
    after = []
    with pytest.raises(KeyboardInterrupt):
        for _ in train(policy, two_updates, steps=4, run=tmp_path / "run", checkpoint_every=3):
            after.append(weights(policy).clone())
    assert torch.equal(weights(policy), after[1]), "the policy is as it was after step 2"
    assert len(metrics(tmp_path / "run")) == 2
    rest = timeless(record.as_row() for record in train(policy, two_updates, steps=4, run=tmp_path / "run", checkpoint_every=3))
    assert rest == rows[2:] and torch.equal(weights(policy), weights(whole))


def test_a_full_disk_stops_the_run_and_room_lets_it_go_on(warm, tmp_path, monkeypatch):
    whole, policy = copy.deepcopy(warm), copy.deepcopy(warm)
    rows = timeless(record.as_row() for record in train(whole, steps=4))
    fsync, calls = os.fsync, []

    def full(handle):
        calls.append(1)
        if len(calls) > 35:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device .*to go on"):
        list(train(policy, steps=4, run=tmp_path / "run"))
    monkeypatch.undo()
    done = len(metrics(tmp_path / "run"))
    assert 1 <= done < 4
    list(train(policy, steps=4, run=tmp_path / "run"))
    assert metrics(tmp_path / "run") == rows and torch.equal(weights(policy), weights(whole))


# ---- folders of other runs ----------------------------------------------------------------------------------------------


def test_another_run_is_refused(warm, policy, tmp_path):
    list(train(policy, steps=1, run=tmp_path / "run"))
    for other, message in (
        ({"lr": 2e-3}, "lr is 0.001 there and 0.002 here"),
        ({"recipe": "rloo"}, "recipe.name is grpo there and rloo here"),
        ({"task": tasks.get("addition")}, "task.name is digits there and addition here"),
        ({"seed": 6}, "seed is 5 there and 6 here"),
    ):
        with pytest.raises(ValueError, match=message):
            list(train(copy.deepcopy(warm), steps=1, run=tmp_path / "run", **other))
    with pytest.raises(ValueError, match=r"policy\.parameters is \d+ there and \d+ here"):
        list(train(models.tiny("0.2m"), steps=1, run=tmp_path / "run"))
    with pytest.raises(ValueError, match="started from other weights"):
        list(train(models.tiny("0.1m", seed=9), steps=2, run=tmp_path / "run"))
    running = train(policy, steps=3, run=tmp_path / "run")
    next(running)
    with pytest.raises(BlockingIOError, match="close its generator"):
        next(train(copy.deepcopy(warm), steps=3, run=tmp_path / "run"))
    running.close()


def test_a_checkpoint_of_another_model_names_the_tensor(policy, tmp_path):
    list(train(policy, steps=1, run=tmp_path / "run"))
    other = models.tiny("0.8m")
    before = weights(other).clone()
    with pytest.raises(ValueError, match=r"another model: \S*embed_tokens.weight is \(128, 64\) there, \(128, 128\) in this one"):
        restore(other, tmp_path / "run")
    assert torch.equal(weights(other), before)
    with pytest.raises(ValueError, match=r"no checkpoint of step 7; it has \[0, 1\]"):
        restore(policy, tmp_path / "run", step=7)


# ---- bad input ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["raise", "nan"])
def test_episodes_in_which_the_task_fails_are_skipped_and_counted(policy, trouble):
    (record,) = train(policy, steps=1, task=Digits(f"{trouble} sometimes"))
    assert 0 < record.errors < 24
    assert all(math.isfinite(value) for value in record.as_row().values() if value is not None)
    assert wb.evaluate(policy, Digits(f"{trouble} sometimes"), problems=40, temperature=1.0).errors > 0


@pytest.mark.parametrize("trouble", ["raise", "nan"])
def test_a_step_in_which_every_episode_fails_stops_with_the_reason(policy, tmp_path, trouble):
    before = weights(policy).clone()
    with pytest.raises(RuntimeError, match="in all 24 episodes of step 1"):
        list(train(policy, steps=1, task=Digits(trouble), run=tmp_path / "run"))
    assert torch.equal(weights(policy), before) and metrics(tmp_path / "run") == []


def test_a_gradient_that_is_not_finite_stops_before_the_update(policy, tmp_path):
    running = train(policy, steps=5, run=tmp_path / "run")
    next(running)
    before = weights(policy).clone()
    parameter = next(policy.parameters())
    hook = parameter.register_hook(lambda gradient: gradient * math.nan)
    with pytest.raises(FloatingPointError, match="step 2: loss .*, gradient norm nan"):
        next(running)
    hook.remove()
    assert torch.equal(weights(policy), before)
    assert [record.step for record in train(policy, steps=2, run=tmp_path / "run")] == [2]


def test_lack_of_memory_says_what_to_lower_and_the_run_goes_on_with_it(policy, tmp_path, monkeypatch):
    running = train(policy, steps=5, run=tmp_path / "run")
    next(running)
    before, evaluate = weights(policy).clone(), type(policy).evaluate

    def large(self, batch, **more):  # more than two rows at once are too many: the machine's own error
        torch.empty(2**60 if len(batch) > 2 else 1, dtype=torch.uint8)
        return evaluate(self, batch, **more)

    monkeypatch.setattr(type(policy), "evaluate", large)
    with pytest.raises(MemoryError, match="step 2;.*Lower rows_per_pass .now all rows of a minibatch.*prompts .now .*allocate"):
        next(running)
    assert torch.equal(weights(policy), before)
    again = train(policy, steps=2, run=tmp_path / "run", rows_per_pass=2)
    assert [record.step for record in again] == [2] and not torch.equal(weights(policy), before)
    with pytest.raises(MemoryError, match="Lower batch_size .now 4"):
        next(wb.sft(policy, Digits(), steps=1, batch_size=4))
    assert not lacks_memory(RuntimeError("the task is broken"))


def test_settings_that_make_no_sense_are_refused_before_anything_happens(policy, tmp_path):
    for settings, message in (
        ({"prompts": 0}, "prompts must be a whole number of at least 1, not 0"),
        ({"steps": -1}, "steps must be"), ({"lr": 0.0}, "lr must be a number above 0"),
        ({"temperature": math.nan}, "temperature must be"), ({"checkpoint_every": 0}, "checkpoint_every must be"),
        ({"rows_per_pass": 0}, "rows_per_pass must be"), ({"engine": "magic"}, "engine must be one of 'local', 'hugging_face'"),
        ({"recipe": "gppo"}, "no recipe 'gppo'; did you mean"), ({"task": "addditon"}, "unknown task"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            train(policy, **{"steps": 1, "run": tmp_path / "run"} | settings)
    with pytest.raises(TypeError, match="must be a LanguageModel, not Tabular"):
        train(models.Tabular(2, 2), steps=1)
    with pytest.raises(ValueError, match="only one: use size=2"):
        recipes.grpo.but("alone", rollout=wb.objective.fixed(1))
    assert not (tmp_path / "run").exists()


def test_a_prompt_longer_than_the_context_is_named(policy):
    class Long(Digits):
        def problem(self, index, *, split="train", seed=0):
            return Problem("1" * 600, "2")

    with pytest.raises(ValueError, match="prompt 0 has 602 tokens, the model's context is 512"):
        list(train(policy, steps=1, task=Long()))


# ---- what is computed ---------------------------------------------------------------------------------------------------


class Spy:
    """A task that notes which problems it is asked."""

    def __init__(self, task):
        self.task, self.asked = task, []

    def __getattr__(self, name):
        return getattr(self.task, name)

    def problem(self, index, *, split="train", seed=0):
        problem = self.task.problem(index, split=split, seed=seed)
        self.asked.append(problem.prompt)
        return problem


@pytest.mark.parametrize("name", ["addition", "calculator"])
def test_what_is_trained_on_is_never_tested_on(name):
    policy = models.tiny("0.1m")
    seen, tested = Spy(tasks.get(name)), Spy(tasks.get(name))
    for seed in (0, 1):
        list(wb.sft(policy, seen, steps=4, batch_size=32, seed=seed))
        list(wb.train(policy, seen, steps=2, prompts=32, seed=seed))
    wb.evaluate(policy, tested, problems=200)
    assert len(set(seen.asked)) > 250 and len(set(tested.asked)) > 150
    assert not set(seen.asked) & set(tested.asked)


@pytest.mark.parametrize("engine", ["local", "hugging_face"])
@pytest.mark.parametrize("name", ["addition", "calculator"])
def test_the_ratio_at_the_first_update_is_1(name, engine):
    policy = models.tiny("0.2m", seed=3)
    list(wb.sft(policy, name, steps=10, batch_size=8))
    recipe = recipes.grpo.but("any", reward=(turn_penalty(1.0), wb.objective.outcome(), wb.objective.soft_overlong(4, 4)))
    settings = {"steps": 1, "prompts": 3, "temperature": 0.9, "engine": engine}
    (record,) = wb.train(copy.deepcopy(policy), name, recipe, **settings)
    assert record.gradient_norm > 0
    assert record.ratio_min == pytest.approx(1, abs=1e-5) and record.ratio_max == pytest.approx(1, abs=1e-5)
    (record,) = wb.train(copy.deepcopy(policy), name, recipe, recompute_logp=True, **settings)
    assert record.ratio_min == record.ratio_mean == record.ratio_max == 1.0


def test_passes_and_skipped_rows_do_not_change_the_gradient(warm):
    ends = []
    for settings in ({}, {"rows_per_pass": 5}, {"recompute_logp": True}):  # the last one skips no rows
        policy = copy.deepcopy(warm)
        records = list(train(policy, "gtpo", steps=2, **settings))
        ends.append((weights(policy), [record.gradient_norm for record in records], [record.loss for record in records]))
    assert ends[0][1][0] > 0
    for end in ends[1:]:
        assert end[1] == pytest.approx(ends[0][1], rel=1e-4) and end[2] == pytest.approx(ends[0][2], abs=1e-5)
        gap = (end[0] - ends[0][0]).abs()  # AdamW divides by the gradient's size: where that is almost 0, rounding shows
        assert gap.mean() < 1e-7 and gap.max() < 1e-4


def test_minibatches_are_whole_groups():
    group = torch.arange(7).repeat_interleave(3)[torch.randperm(21, generator=torch.Generator().manual_seed(0))]
    parts = _minibatches(group, 3, wb.seeding.generator(0, "test"))
    assert len(parts) == 3 and sorted(torch.cat(parts).tolist()) == list(range(21))
    held = [set(group[part].tolist()) for part in parts]
    assert sum(len(groups) for groups in held) == 7
    assert len(_minibatches(group, 99, wb.seeding.generator(0, "test"))) == 7


def test_dynamic_sampling_draws_until_it_has_enough_groups(policy):
    class Odd(Digits):
        """Only odd problems tell rollouts apart."""

        def episode(self, problem):
            self.odd = int(problem.prompt[1:]) % 2
            return copy.copy(self)

        def step(self, text):
            return super().step(text) if self.odd else Reply(None, 0.0, True, 1.0)

    spy = Spy(Odd())
    (record,) = train(policy, "dapo", steps=1, prompts=4, task=spy)
    assert spy.asked == [f"r{number}" for number in range(8)]  # four, two for the two dead ones, one, one
    assert record.zero_advantage == 0 and record.tokens == pytest.approx(record.length * 64)
    assert len({row["prompt"] for row in record.rollouts}) == 1 and len(record.rollouts) == 8


def test_every_step_samples_anew(policy):
    same = recipes.grpo.but("same", prompts=wb.objective.uniform(pool=1))
    one, two = train(policy, same, steps=2, prompts=1, lr=1e-30)
    assert [row["prompt"] for row in one.rollouts] == [row["prompt"] for row in two.rollouts]
    assert [row["turns"][0]["text"] for row in one.rollouts] != [row["turns"][0]["text"] for row in two.rollouts]


def test_the_threads_are_as_before(policy):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        running = train(policy, steps=2)
        next(running)
        assert torch.get_num_threads() == 2
        running.close()
    finally:
        torch.set_num_threads(before)


def test_a_score_has_wilsons_interval(policy):
    assert wilson_interval(0.5, 100)[1:] == pytest.approx((0.40383, 0.59617), abs=1e-5)  # Brown, Cai and DasGupta 2001
    assert wilson_interval(1.0, 20)[1:] == pytest.approx((0.83887, 1.0), abs=1e-5)
    greedy = wb.evaluate(policy, Digits(), problems=30)
    assert greedy == wb.evaluate(policy, Digits(), problems=30, seed=1)
    assert wb.evaluate(policy, Digits(), problems=30, temperature=1.0, seed=1) != wb.evaluate(
        policy, Digits(), problems=30, temperature=1.0, seed=2
    )
    assert greedy.low < greedy.success < greedy.high or greedy.success in (0, 1)
    assert greedy.episodes == 30 and greedy.errors == 0


def test_the_record_says_what_happened(policy):
    first, second = train(policy, steps=2, evaluate_every=2)
    assert first.test_success is None and 0 <= second.test_success <= 1
    assert first.as_row()["test_success"] is None and "rollouts" not in first.as_row()
    assert first.tokens == pytest.approx(first.length * 24) and first.turns == 1.0
    row = first.rollouts[0]
    assert row["prompt"].startswith("<U>r") and row["turns"][0]["reward"] == row["outcome"] and row["stop"] == "DONE"


def test_every_recipe_trains_a_step(warm):
    class Paid(Digits):  # by the turn too: some recipes look at nothing else
        def step(self, text):
            reply = super().step(text)
            return Reply(None, reply.outcome, True, reply.outcome)

    for name in recipes.names():
        policy = copy.deepcopy(warm)
        (record,) = train(policy, name, Paid(), steps=1, prompts=2)
        assert record.gradient_norm > 0 and not torch.equal(weights(policy), weights(warm)), name


def test_it_learns(warm):
    """Six paired runs, with the task's rewards and with its rewards turned round: more digits, and fewer."""

    class Letters(Digits):
        def step(self, text):
            reply = super().step(text)
            return Reply(None, 0.0, True, 1 - reply.outcome)

    ends = {Digits: [], Letters: []}
    for seed in range(6):
        for task, found in ends.items():
            policy = copy.deepcopy(warm)
            list(train(policy, task=task(), steps=6, prompts=4, seed=seed))
            found.append(wb.evaluate(policy, Digits(), problems=40, temperature=1.0).success)
    assert permutation_test(ends[Digits], ends[Letters], seed=0, paired=True) <= 2 / 2**6
    assert sum(ends[Digits]) / 6 > sum(ends[Letters]) / 6 + 0.3


def test_a_run_judged_in_the_sandbox_says_in_which_tier(tmp_path):
    for name in ("programs", "addition"):
        for _ in wb.sft(models.tiny("0.1m", seed=0), name, steps=1, batch_size=2, seed=0, run=tmp_path / name):
            pass
        made_with = json.loads((tmp_path / name / "config.json").read_text())["made_with"]
        assert made_with.get("sandbox") == (json.loads(json.dumps(sandbox.describe())) if name == "programs" else None)
