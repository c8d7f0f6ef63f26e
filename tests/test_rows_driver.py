"""The driver where a task rewrites the context: rows whose prefixes are append-only, and ratios that are 1."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from workbench import models, sample, tasks
from workbench.batch import Batch, Origin, Stop
from workbench.objective import one_row_a_turn
from workbench.objective.layout import as_one_sequence
from workbench.tasks import Problem, Reply

ENGINES = [sample.LocalEngine, sample.HuggingFaceEngine]


@pytest.fixture(scope="module")
def policy():
    policy = models.tiny("0.1m", seed=0)
    with torch.no_grad():  # so that turns end, and end at different lengths
        for name, parameter in policy.named_parameters():
            if "norm" not in name:
                parameter.mul_(2)
        policy.model.model.embed_tokens.weight[policy.eos] *= 3
    return policy


@dataclass(frozen=True)
class Forgetful:
    """Six turns; the reply to turn j leaves `keeps[j]` in the context."""

    keeps: tuple[tuple[int, ...] | None, ...] = (None, (1,), None, (1, 3), (1, 3, 4), None)
    max_turns: int = 7
    max_tokens: int = 16
    name = "forgetful"
    tools = ()

    def episode(self, problem):
        return ForgetfulEpisode(self, problem)


@dataclass
class ForgetfulEpisode:
    task: Forgetful
    problem: Problem
    turn: int = -1

    def step(self, text):
        self.turn += 1
        if self.problem.prompt == "raise" and self.turn == 3:
            raise RuntimeError("broken environment")
        if self.turn == 5:
            return Reply(None, done=True, outcome=1.0)
        return Reply(str(self.turn), reward=-0.5, keep=self.task.keeps[self.turn])


class Scripted:
    """An engine that says what it is told."""

    def __init__(self, script, context=None):
        self.script, self.context = script, context

    def start(self, prompts, *, seed):
        self.rows, self.turn = [list(p) for p in prompts], [0] * len(prompts)
        return self

    def sample(self, rows, *, max_tokens, stop, temperature, top_p, top_k):
        out = []
        for row in rows:
            ids = self.script(row, self.turn[row])
            self.turn[row] += 1
            self.rows[row] += ids
            out.append(sample.Completion(ids, [-0.5] * len(ids), ids[-1] in stop))
        return out

    def extend(self, row, ids):
        self.rows[row] += ids

    def restart(self, row, ids):
        self.rows[row] = list(ids)


def play(policy, task, problems=("q",), script=None, **settings) -> Batch:
    said = script or (lambda row, turn: models.encode(policy.tokenizer, "abcdef"[turn] + "<E>"))
    asked = [Problem(prompt, "") for prompt in problems]
    return sample.rollout(Scripted(said, **settings), task, policy.tokenizer, asked, group_size=1, seed=0)


def texts(policy, batch) -> list[str]:
    return [sample.transcript(batch, row, policy.tokenizer) for row in range(len(batch))]


def test_an_episode_whose_context_is_rewritten_goes_on_in_a_new_row(policy):
    batch = play(policy, Forgetful())
    assert texts(policy, batch) == [
        "<U>q<A>a<E><R>0</R><A>b<E>",
        "<U>q<A>b<E><R>1</R><A>c<E><R>2</R><A>d<E>",
        "<U>q<A>b<E><R>1</R><A>d<E><R>3</R><A>e<E><R>4</R><A>f<E>",  # keeping all there is rewrites nothing
    ]
    said = [models.decode(policy.tokenizer, batch.tokens[row][batch.mask[row]].tolist()) for row in range(3)]
    assert said == ["a<E>b<E>", "c<E>d<E>", "e<E>f<E>"]
    assert batch.rollout.tolist() == [0, 0, 0] and batch.turns.tolist() == [2, 2, 2]
    assert [sorted(set(row[row >= 0].tolist())) for row in batch.turn] == [[0, 1], [2, 3], [4, 5]]
    assert batch.of_rollouts(batch.rewards).tolist() == [[-0.5] * 5 + [0]]
    assert batch.outcome.tolist() == [1.0] * 3 and batch.stop.tolist() == [Stop.DONE] * 3
    assert batch.prompt_length.tolist() == [3, 9, 15]


def test_everything_may_be_forgotten_and_what_was_forgotten_may_come_back(policy):
    batch = play(policy, Forgetful((None, (), None, (0,), None, None)))
    assert texts(policy, batch) == [
        "<U>q<A>a<E><R>0</R><A>b<E>",
        "<U>q<A>c<E><R>2</R><A>d<E>",
        "<U>q<A>a<E><R>0</R><A>e<E><R>4</R><A>f<E>",
    ]


def test_what_ends_an_episode_ends_all_its_rows(policy, caplog):
    batch = play(policy, Forgetful(), ["raise", "p"])
    assert batch.rollout.tolist() == [0, 0, 1, 1, 1] and batch.group.tolist() == [0, 0, 1, 1, 1]
    assert batch.stop.tolist() == [Stop.ERROR] * 2 + [Stop.DONE] * 3 and not batch.rewards[:2].any()
    cut = play(policy, Forgetful(), script=lambda row, turn: [9] if turn == 3 else models.encode(policy.tokenizer, "a<E>"))
    assert cut.stop.tolist() == [Stop.LENGTH] * 2 and cut.outcome.tolist() == [0, 0]
    out_of_turns = play(policy, Forgetful(max_turns=3))
    assert out_of_turns.stop.tolist() == [Stop.TURNS] * 2
    full = play(policy, Forgetful(), context=14)  # the second row begins with 9 ids, and outgrows the context with turn 2's reply
    assert full.stop.tolist() == [Stop.CONTEXT] * 2 and full.length.tolist() == [11, 11]


@pytest.mark.parametrize("keep", [(2,), (1, 0), (0, 0), (-1,)])
def test_a_task_that_keeps_what_is_not_there_is_in_error(policy, keep, caplog):
    batch = play(policy, Forgetful((None, keep, None, None, None, None)))
    assert batch.stop.tolist() == [Stop.ERROR]
    assert f"Reply.keep must be turns from 0 to 1, in order and each once, not {keep!r}" in caplog.text


# ---- ratios -----------------------------------------------------------------------------------------------------------


def largest_error(policy, batch, temperature=1.0) -> float:
    gap = policy.evaluate(batch, temperature=temperature).logp - batch.logp_old
    return (gap[batch.mask].exp() - 1).abs().max().item()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_ratio_at_the_first_update_is_one_in_every_row(policy, engine, temperature):
    problems = [Problem(text, "") for text in ("a", "bc", "def")]
    batch = sample.rollout(
        engine(policy), Forgetful(max_tokens=20), policy.tokenizer, problems, group_size=4, seed=0, temperature=temperature
    )
    assert len(batch) > batch.rollouts == 12 and (batch.rollout.bincount() == 3).any()
    assert largest_error(policy, batch, temperature) < 1e-5
    assert largest_error(policy, one_row_a_turn()(batch), temperature) < 1e-5


@pytest.mark.parametrize("memory", ["all", "window", "summary", "forget"])
def test_the_ratio_is_one_for_streams(policy, memory):
    """The turns are scripted, because no random policy reads a stream; the ratio is that of two readings of the same rows."""
    task = tasks.get("stream", memory=memory, readings=(5, 5), items=2)
    problems = [task.problem(number) for number in range(4)]
    gold = [task.gold(problem) for problem in problems]
    engine = Scripted(lambda row, turn: models.encode(policy.tokenizer, gold[row][turn] + "<E>"))
    batch = sample.rollout(engine, task, policy.tokenizer, problems, group_size=1, seed=0)
    assert batch.outcome.tolist() == [1.0] * len(batch) and batch.rollouts == 4
    with torch.no_grad():
        logp = policy.evaluate(batch).logp
        prompts = [row[:n].tolist() for row, n in zip(batch.tokens, batch.prompt_length)]
        session = sample.LocalEngine(policy).start(prompts, seed=0)
        for row in range(len(batch)):  # feed the same tokens to the sampler, and let it say what it thinks of the next
            first = int(batch.prompt_length[row])
            (said,) = session.sample([row], max_tokens=1, stop=[], temperature=1.0)
            expected = policy.evaluate(_with(batch, row, first, said.ids[0])).logp[row, first]
            assert abs(said.logps[0] - expected.item()) < 1e-5
    assert (logp[~batch.mask] == 0).all()
    rows = [row for number, problem in enumerate(problems) for row in sample.encode_rows(
        problem.prompt, tasks.play(task, problem, gold[number]).transcript, policy.tokenizer, rollout=number, group=number,
        keeps=task.keeps(problem, gold[number]),
    )]  # fmt: skip
    taught = Batch.from_dialogues(rows)
    for name in ("tokens", "mask", "turn", "prompt_length", "length", "rollout"):
        assert torch.equal(getattr(taught, name), getattr(batch, name)), name
    assert (taught.origin == Origin.EXPERT).all()


def _with(batch: Batch, row: int, column: int, token: int) -> Batch:
    tokens = batch.tokens.clone()
    tokens[row, column] = token
    return batch.replace(tokens=tokens)


def test_as_one_sequence_the_ratio_is_not_one(policy):
    """The trap of rewritten contexts (2510.12635): the same tokens after other tokens have another probability."""
    problems = [Problem(text, "") for text in ("a", "bc", "def")]
    batch = sample.rollout(
        sample.LocalEngine(policy), Forgetful(max_tokens=20), policy.tokenizer, problems, group_size=4, seed=0
    )
    wrong = as_one_sequence(batch)
    assert torch.equal(wrong.mask.sum(1), batch.of_rollouts(batch.mask.sum(1)))
    assert largest_error(policy, batch) < 1e-5 and largest_error(policy, wrong) > 0.5
    assert torch.equal(wrong.tokens[wrong.mask], batch.tokens[batch.mask])
    assert torch.equal(wrong.of_rollouts(wrong.rewards), batch.of_rollouts(batch.rewards))
    whole = batch.of_rollouts(torch.ones_like(batch.rollout)) == 1
    assert whole.any()  # where nothing was forgotten, there is nothing to get wrong
    assert largest_error(policy, wrong.select(whole)) < 1e-5


# ---- sessions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_a_row_started_anew_draws_new_numbers_and_disturbs_nobody(policy, engine):
    draws = []
    for others in (False, True):
        session = engine(policy).start([[1, 20, 2], [1, 30, 31, 2]], seed=3)
        first = session.sample([0], max_tokens=12, stop=[])[0].ids
        if others:
            session.sample([1], max_tokens=5, stop=[])
        session.restart(0, [1, 20, 2])
        assert session.ids(0) == [1, 20, 2]
        second = session.sample([0], max_tokens=12, stop=[])[0]
        session.extend(0, [40, 2])
        third = session.sample([0, 1] if others else [0], max_tokens=6, stop=[])[0]
        draws.append((first, second.ids, third.ids))
        assert first != second.ids
        exact = torch.log_softmax(policy.model(torch.tensor([session.ids(0)])).logits[0], 1)
        for at, i, logp in zip(range(2, 14), second.ids, second.logps):
            assert abs(exact[at, i].item() - logp) < 1e-4
        for at, i, logp in zip(range(16, 22), third.ids, third.logps):
            assert abs(exact[at, i].item() - logp) < 1e-4
    assert draws[0] == draws[1]


@pytest.mark.parametrize("engine", ENGINES)
def test_bad_restarts(policy, engine):
    session = engine(policy).start([[1, 2]], seed=0)
    for ids, message in (([], "is empty"), ([500], "contains id 500"), ([1] * 600, "the model's context is 512")):
        with pytest.raises(ValueError, match=message):
            session.restart(0, ids)
    assert session.ids(0) == [1, 2]
