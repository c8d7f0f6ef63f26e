"""Every task against thousands of random token streams: nothing raises, everything ends, and nonsense earns nothing."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence

import numpy as np
import pytest

from workbench import models, sample, tasks
from workbench.batch import Stop
from workbench.sample import Completion
from workbench.tasks import Calculator, Lookup, Stream, spoken
from workbench.tasks.base import play

SANDBOXED = {"programs", "repair", "katas", "tool_katas"}
TASKS = [
    *(tasks.get(name) for name in tasks.names()),
    Calculator(operations=(1, 2), slack=0),
    Lookup(tables=3, missing=0.5, traps=True),
    spoken(Lookup(tables=2, missing=0.5)),
    *(Stream(question="find", memory=memory) for memory in ("all", "window", "forget")),
]
PIECES = (
    "<T>", "</T>", "<R>", "</R>", "<U>", "<A>", "<P>", "<0>", "<tool_call>", "</tool_call>", "<answer>", "</answer>", "<think>",
    "</think>", "{", "}", '"name"', ": ", '"arguments"', "[", "]", ",", "0", "7", "42", "417", "+", "-", "*", "=", "?", "!", "n",
    "f2", "kq", "A", "Bkq", " ", "\n", "x", "f(1)=5", "lambda", "(", ")", "'", '"', "\\", "\\u0000", "\x00", "\ud800", "é",
    "\u0663", "\uff4b", "😀", "NaN", "1e999", "-0", "null", "true", "```python\n", "```", "9" * 5000, "<T>" * 50, "[" * 900,
    "open('/')", "__import__('os')",
)  # fmt: skip


RANDOM = random.Random(0)
TEXTS = ["".join(RANDOM.choices(PIECES, k=RANDOM.randrange(7))) for _ in range(4000)]


def near(task, problem) -> list[str]:
    """Turns of the gold script, half of them torn, with a piece of something else in the tear; the answer is in none."""
    whole = [turn for turn in task.gold(problem) if problem.answer not in turn]
    torn = [
        text[:cut] + RANDOM.choice(PIECES) + text[cut + RANDOM.randrange(2) :]
        for text in whole * 8
        for cut in [RANDOM.randrange(len(text) + 1)]
    ]
    return whole * 8 + [text for text in torn if problem.answer not in text]


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_thousands_of_streams_raise_nothing_and_end_without_a_reward_for_nonsense(task):
    """Each of up to `max_turns` random texts; for tasks that ask the sandbox a few dozen, for those with a toolbox a thousand."""
    count, problems = (60, 3) if task.name in SANDBOXED else (1000, 20) if task.name == "spoken" else (10_000, 50)
    ended = 0
    for number in range(problems):
        problem = task.problem(number)
        texts = TEXTS + 200 * near(task, problem)
        for _ in range(count // problems):
            episode = task.episode(problem)
            for text in RANDOM.choices(texts, k=task.max_turns):
                reply = episode.step(text)
                assert reply.reward in (0, -1) and 0 <= reply.outcome <= 1 and (reply.text is None) == reply.done
                if reply.done:
                    ended += 1
                    break
            assert reply.text is None or len(reply.text) < 20_000
            if reply.done and task.name != "verbal_bandit":  # there every pull earns something
                assert reply.outcome == 0 or text.strip() == problem.answer or f"<answer>{problem.answer}</answer>" in text
    assert ended > count / 5


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_who_wants_the_reward_without_the_work_is_beaten(task):
    count = 4 if task.name in SANDBOXED else 100
    problems = [task.problem(number, split="test") for number in range(count)]
    cheated = np.mean([play(task, problem, task.cheat(problem)).outcome for problem in problems])
    worked = np.mean([play(task, problem, task.gold(problem)).outcome for problem in problems])
    luck = {"stream": 0.35, "verbal_bandit": 0.65}.get(task.name, 0.03)  # one digit can be guessed, and an arm be the best
    assert worked == 1 and cheated <= luck
    if task.max_turns > 1 and task.name not in ("verbal_bandit", "stream", "repair", "unlock"):
        assert task.cheat(problems[0]) == task.cheat(problems[-1])  # it looked at nothing


class Noise:
    """An engine that says ids at random: any of the vocabulary, at the start more tags and ends than letters, or the script's."""

    context = 300

    def __init__(self, tokenizer, scripts: Sequence[Sequence[str]]) -> None:
        self.end, self.size = tokenizer.eos_token_id, len(tokenizer)
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


HOUSE = [task for task in TASKS if task.name not in SANDBOXED - {"repair"} and not task.name.startswith("spoken")]


@pytest.mark.parametrize("task", HOUSE, ids=repr)
def test_streams_of_ids_through_the_driver_end_with_a_stop_reason(task, caplog):
    tokenizer = models.make_tokenizer()
    problems = [task.problem(number) for number in range(5)]
    size = 4 if task.name in SANDBOXED else 40
    scripts = [task.gold(problem) for problem in problems for _ in range(size)]
    with caplog.at_level(logging.DEBUG):
        batch = sample.rollout(Noise(tokenizer, scripts), task, tokenizer, problems, group_size=size, seed=0)
    assert not caplog.records, caplog.text[:2000]  # nothing raised
    assert batch.rollouts == 5 * size and set(batch.group.tolist()) == set(range(5))
    first = batch.first_rows
    stops = {Stop(stop) for stop in batch.stop.tolist()}
    assert Stop.ERROR not in stops and Stop.LENGTH in stops and Stop.DONE in stops
    assert (batch.outcome[batch.stop != Stop.DONE] == 0).all() and torch_finite(batch.rewards)
    assert all(len(batch.select(batch.group == group).first_rows) == size for group in range(5))  # who failed stays in the group
    assert (batch.turns[first] > 0).all() or Stop.CONTEXT in stops


def torch_finite(values) -> bool:
    return bool(values.isfinite().all())
