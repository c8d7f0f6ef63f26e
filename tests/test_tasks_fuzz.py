"""Every task against thousands of random token streams: nothing raises, everything ends, and nonsense earns nothing.

Tasks that ask the sandbox get a few dozen here, and all get 10,000 with WORKBENCH_FUZZ=10000 in the environment. Run once so, it
took five minutes of a core: 18 settings of tasks, 180,000 streams, nothing raised, and no reward that was not earned.
"""

from __future__ import annotations

import ast
import logging
import os
import random
from collections.abc import Sequence

import numpy as np
import pytest

from workbench import models, sample, tasks
from workbench.batch import Stop
from workbench.sample import Completion
from workbench.tasks import Calculator, Lookup, Repair, Stream, spoken
from workbench.tasks.base import play
from workbench.tasks.code import values

SANDBOXED = {"programs", "repair", "katas", "tool_katas"}
MANY = int(os.environ.get("WORKBENCH_FUZZ", "0"))
TASKS = [
    *(tasks.get(name) for name in tasks.names()),
    Calculator(operations=(1, 2), slack=0),
    Lookup(tables=3, missing=0.5, traps=True),
    spoken(Lookup(tables=2, missing=0.5)),
    Repair(level=3, examples=4, turns=8, perturbed=0.5),
    *(Stream(question="find", memory=memory) for memory in ("all", "window", "forget")),
]
PIECES = (
    "<T>", "</T>", "<R>", "</R>", "<U>", "<A>", "<P>", "<0>", "<tool_call>", "</tool_call>", "<answer>", "</answer>", "<think>",
    "</think>", "{", "}", '"name"', ": ", '"arguments"', "[", "]", ",", "0", "7", "42", "417", "+", "-", "*", "=", "?", "!", "n",
    "f2", "kq", "A", "Bkq", " ", "\n", "x", "f(1)=5", "lambda", "(", ")", "'", '"', "\\", "\\u0000", "\x00", "\ud800", "é",
    "\u0663", "\uff4b", "😀", "NaN", "1e999", "-0", "null", "true", "```python\n", "```", "9" * 5000, "<T>" * 50, "[" * 900,
    "open('/')", "__import__('os')",
)  # fmt: skip
CODE = (
    "x", "x", "x*2", "+", "-", "*", "//", "%", "**", "x%0", "(", ")", "[", "]", "{", "}", ",", ":", "=", ":=", ".", "\n",
    "\n    ", "def f(x):", "return ", "yield ", "lambda x: ", "if ", " else ", " for y in ", "range(9)", "range(10**9)",
    "import os;", "__import__('sys')", "exit()", "raise SystemExit(0)", "assert f(1) == 5", "print('9' * 99999)",
    "open('/etc/passwd')", "del ", "global f;", "f", "f(x)", "f = ", "'", '"', "'" * 3, "#", "\\", "@", "async ", "True", "...",
    "None", "1e999", "9**9**9", "type", "().__class__.__mro__", "object", "7", "42", "max(x,3)", "abs(x-2)",
)  # fmt: skip


RANDOM = random.Random(0)
TEXTS = ["".join(RANDOM.choices(PIECES, k=RANDOM.randrange(7))) for _ in range(4000)]
PROGRAMS = TEXTS[:1000] + ["".join(RANDOM.choices(CODE, k=RANDOM.randrange(9))) for _ in range(3000)]


def near(task, problem) -> list[str]:
    """Turns of the gold script, half of them torn, with a piece of something else in the tear; the answer is in none."""
    coded = task.name in SANDBOXED
    whole = [turn for turn in task.gold(problem)[:4] if coded or problem.answer not in turn]
    torn = [
        text[:cut] + RANDOM.choice(CODE if coded else PIECES) + text[cut + RANDOM.randrange(2) :]
        for text in whole * 8
        for cut in [RANDOM.randrange(len(text) + 1)]
    ]
    return torn if coded else whole * 8 + [text for text in torn if problem.answer not in text]


def earned(task, problem, text: str, nonsense: bool) -> bool:
    """Whether a text may be rewarded. Of what comes out of tearing the right program some still is right: a formula must have the
    right values, as Python itself finds where it is plain arithmetic; of a kata no more is asked than where it came from."""
    if task.name in ("programs", "repair"):
        try:
            tree = ast.parse(text.strip(), mode="eval")
        except SyntaxError:
            return False
        plain = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.Constant, ast.Name, ast.Call, ast.Load)
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert all(isinstance(node, plain) for node in ast.walk(tree)) and names <= {"x", "max", "min", "abs"}, text
        return values(ast.unparse(tree)) == values(problem.answer)
    if task.name in SANDBOXED:
        return not nonsense
    return text.strip() == problem.answer or f"<answer>{problem.answer}</answer>" in text


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_thousands_of_streams_raise_nothing_and_end_without_a_reward_for_nonsense(task):
    """Each of up to `max_turns` random texts; for tasks that ask the sandbox a few dozen, for those with a toolbox a thousand."""
    count, problems = (1000, 20) if task.name == "spoken" else (10_000, 50)
    if task.name in SANDBOXED:
        count, problems = 120 // (1 + task.max_turns), 2
    if MANY:
        count, problems = MANY, 50
    nonsense = PROGRAMS if task.name in SANDBOXED else TEXTS
    ended = rewarded = 0
    for number in range(problems):
        problem = task.problem(number)
        torn = near(task, problem)
        for _ in range(count // problems):
            episode = task.episode(problem)
            for _ in range(task.max_turns):
                made_up = not torn or RANDOM.random() < 0.5
                text = RANDOM.choice(nonsense if made_up else torn)
                reply = episode.step(text)
                assert reply.reward in (0, -1) and 0 <= reply.outcome <= 1 and (reply.text is None) == reply.done
                if reply.done:
                    ended += 1
                    break
            assert reply.text is None or len(reply.text) < 20_000
            if reply.done and reply.outcome and task.name != "verbal_bandit":  # there every pull earns something
                rewarded += 1
                assert earned(task, problem, text, made_up), (reply.outcome, text)
    assert ended > count / 5
    if MANY:
        print(f"{task!r}: {count} streams, {ended} ended by themselves, {rewarded} rewarded")


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_who_wants_the_reward_without_the_work_is_beaten(task):
    count = 4 if task.name in SANDBOXED and not MANY else 100
    problems = [task.problem(number, split="test") for number in range(count)]
    cheated = np.mean([play(task, problem, task.cheat(problem)).outcome for problem in problems])
    worked = np.mean([play(task, problem, task.gold(problem)).outcome for problem in problems])
    luck = {"stream": 0.35, "verbal_bandit": 0.65}.get(task.name, 0.03)  # one digit can be guessed, and an arm be the best
    assert worked == 1 and cheated <= luck
    if task.max_turns > 1 and task.name not in ("verbal_bandit", "stream", "repair", "unlock"):
        assert task.cheat(problems[0]) == task.cheat(problems[-1])  # it looked at nothing


class Noise:
    """An engine that says ids at random: any of the vocabulary, at the start more tags and ends than letters, or the script's."""

    def __init__(self, tokenizer, scripts: Sequence[Sequence[str]], context: int) -> None:
        self.context, self.end, self.size = context, tokenizer.eos_token_id, len(tokenizer)
        self.known = [[models.encode(tokenizer, text) for text in script] for script in scripts]

    def start(self, prompts, *, seed):
        self.rng, self.rows = np.random.default_rng(seed), [list(prompt) for prompt in prompts]
        return self

    def ids(self, row):
        return list(self.rows[row])

    def extend(self, row, ids):
        assert len(self.rows[row]) + len(ids) <= self.context
        self.rows[row] += ids

    def restart(self, row, ids):
        self.rows[row] = list(ids)

    def sample(self, rows, *, max_tokens, stop, temperature=1.0, top_p=1.0, top_k=0):
        out = []
        for row in rows:
            room = min(max_tokens, self.context - len(self.rows[row]))
            script = self.known[row % len(self.known)]
            if self.rng.random() < 0.3:
                ids = [*script[int(self.rng.integers(len(script)))], self.end]
            else:
                ids = self.rng.integers(self.size, size=room).tolist()
                ids += [self.end] if self.rng.random() < 0.5 else []
            ids = ids[: ids.index(self.end) + 1] if self.end in ids else ids
            ids = ids[:room]
            self.rows[row] += ids
            out.append(Completion(ids, [-1.0] * len(ids), bool(ids) and ids[-1] == self.end))
        return out


ENGLISH = ("katas", "spoken", "tool_katas")  # their prompts are long


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_streams_of_ids_through_the_driver_end_with_a_stop_reason(task, caplog):
    tokenizer = models.make_tokenizer()
    problems = [task.problem(number) for number in range(5)]
    size = 4 if task.name in SANDBOXED else 40
    scripts = [task.gold(problem) for problem in problems for _ in range(size)]
    context = 4096 if task.name in ENGLISH else 300
    with caplog.at_level(logging.DEBUG):
        batch = sample.rollout(Noise(tokenizer, scripts, context), task, tokenizer, problems, group_size=size, seed=0)
    assert not caplog.records, caplog.text[:2000]  # nothing raised
    assert batch.rollouts == 5 * size and set(batch.group.tolist()) == set(range(5))
    first = batch.first_rows
    stops = {Stop(stop) for stop in batch.stop.tolist()}
    assert Stop.ERROR not in stops and Stop.DONE in stops
    assert Stop.LENGTH in stops or task.max_tokens == 400  # noise of 400 ids has an end of turn in it
    assert (batch.outcome[batch.stop != Stop.DONE] == 0).all() and torch_finite(batch.rewards)
    assert all(len(batch.select(batch.group == group).first_rows) == size for group in range(5))  # who failed stays in the group
    assert (batch.turns[first] > 0).all() or Stop.CONTEXT in stops


def torch_finite(values) -> bool:
    return bool(values.isfinite().all())
