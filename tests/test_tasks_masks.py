"""For every task and engine: who is trained on what. A slightly taught policy plays, so that there are calls and replies."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from workbench import models, objective, recipes, sample, seeding, tasks
from workbench.batch import Batch, Stop
from workbench.models.language import evaluate_with_transformers
from workbench.tasks import Lookup, Stream

READ = ("katas", "spoken", "tool_katas")  # in English: a tiny model makes no call there, and their prompts are long
TASKS = [
    *(tasks.get(name) for name in tasks.names() if name not in READ),
    Lookup(tables=2, missing=0.5, traps=True),
    Stream(memory="forget"),
]
CALLING = ("calculator", "lookup", "unlock", "stream")
ENGINES = [sample.LocalEngine, sample.HuggingFaceEngine]


@pytest.fixture(scope="module")
def policy():
    """Taught for a moment by demonstrations of all the tasks at once."""
    policy = models.tiny("0.1m", seed=0)
    rng, optimiser = seeding.generator(0, "demonstrations"), torch.optim.AdamW(policy.parameters(), lr=4e-3)
    shown = []
    for number in range(24):
        for task in TASKS:
            problem = task.problem(number)
            shown.append(sample.encode_demonstration(problem.prompt, task.demonstration(problem, rng), policy.tokenizer))
    batch = Batch.from_dialogues(shown)
    for _ in range(30):
        optimiser.zero_grad()
        rows = batch.select(rng.permutation(len(shown))[:32].tolist())
        (-policy.evaluate(rows).logp.sum() / rows.mask.sum()).backward()
        optimiser.step()
    return policy


def played(policy, task, engine=sample.LocalEngine, temperature=1.0):
    problems = [task.problem(number) for number in range(3)]
    return sample.rollout(engine(policy), task, policy.tokenizer, problems, group_size=4, seed=0, temperature=temperature)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_the_ratio_at_the_first_update_is_one_and_turns_cover_every_trained_token_once(policy, task, engine):
    batch = played(policy, task, engine)
    ratio = (policy.evaluate(batch).logp - batch.logp_old).exp()
    assert (ratio - 1).abs().max() < 1e-5
    assert (batch.turns.max() > 1) == (task.max_turns > 1)  # there are replies to get wrong
    ones = torch.ones_like(batch.rewards)
    assert torch.equal(batch.at_all_tokens(ones), batch.mask.to(ones.dtype))  # each trained token is in one turn
    assert (batch.turn[batch.mask] >= 0).all() and batch.at_last_tokens(ones).sum() == batch.turns.sum()
    for turn, mask in zip(batch.turn.tolist(), batch.mask.tolist()):
        mine = [number for number, sampled in zip(turn, mask) if sampled]
        spans = [number for number, before in zip(mine, [-1, *mine]) if number != before]
        assert spans == sorted(set(mine)) == list(range(spans[0], spans[0] + len(spans)))  # in order, none in two pieces
    per_turn = torch.zeros_like(batch.rewards).scatter_add(1, batch.turn.clamp(min=0), batch.mask.to(ones.dtype))
    assert torch.equal(per_turn.sum(1), batch.mask.sum(1).to(ones.dtype))


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_the_ratio_is_one_with_a_row_for_each_turn_too_and_rows_of_a_rollout_share_one_advantage(policy, task):
    batch = played(policy, task)
    rows = objective.one_row_a_turn()(batch)
    assert rows.rollouts == batch.rollouts and len(rows) == batch.turns.clamp(min=1).sum()
    assert ((policy.evaluate(rows).logp - rows.logp_old).exp() - 1).abs().max() < 1e-5
    assert rows.mask.sum() == batch.mask.sum() and (rows.mask.any(1).int() <= 1).all()
    for each in (batch, rows):
        for recipe in ("grpo", "supo"):
            outcome = torch.arange(batch.rollouts)[each.rollout].double() / 16  # no two rollouts alike
            advantage = objective.prepare(recipes.get(recipe), each.replace(outcome=outcome.float())).advantage
            for rollout in range(each.rollouts):
                mine = (each.rollout == rollout)[:, None] & each.mask
                assert advantage[mine].unique().numel() <= 1  # every token of every row


class Guided:
    """A task that replies what it would reply to the gold script, whatever it is told: for models that never get that far."""

    def __init__(self, task):
        self.task, self.name, self.max_turns, self.max_tokens, self.tools = task, task.name, 2, 24, task.tools

    def problem(self, number):
        return self.task.problem(number)

    def episode(self, problem):
        guide = iter([*tasks.play(self.task, problem, self.task.gold(problem)).transcript[1::2], None])
        return Says(lambda: next(guide))


class Says:
    def __init__(self, reply):
        self.reply = reply

    def step(self, text):
        said = self.reply()
        return tasks.Reply(said, done=said is None)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", READ)
def test_so_it_is_with_the_prompts_and_replies_of_tasks_in_english(policy, name, engine):
    long = policy.copy()
    long.model.config.max_position_embeddings = 4096
    with torch.no_grad():  # an end of turn is likely enough that replies are reached
        long.model.get_input_embeddings().weight[long.eos] *= 2
    task = Guided(tasks.get(name))
    batch = sample.rollout(engine(long), task, long.tokenizer, [task.problem(0)], group_size=4, seed=0)
    assert (batch.turns.max() > 1) == (name != "katas") and batch.prompt_length[0] > 100
    for rows in (batch, objective.one_row_a_turn()(batch)):
        assert ((long.evaluate(rows).logp - rows.logp_old).exp() - 1).abs().max() < 5e-5
        ones = torch.ones_like(rows.rewards)
        assert torch.equal(rows.at_all_tokens(ones), rows.mask.to(ones.dtype))


def gradient_of_logits(policy, batch, recipe="gtpo"):
    """[B,T-1,V] gradient of the loss with respect to the logits that predict tokens 1, 2, ...; every episode has an advantage."""
    seen: list[torch.Tensor] = []

    def keep(module, given, output):
        output.retain_grad()
        seen.append(output)

    hook = policy.model.lm_head.register_forward_hook(keep)
    try:
        said = evaluate_with_transformers(policy.model, batch)
    finally:
        hook.remove()
    recipe = recipes.get(recipe)
    prepared = objective.prepare(recipe, batch)
    prepared = dataclasses.replace(prepared, advantage=torch.where(batch.mask, 1.0, 0.0).double())
    objective.loss(recipe, prepared, said.logp, said.entropy)[0].backward()
    full = torch.zeros(*batch.tokens[:, 1:].shape, policy.vocab_size)
    columns = torch.unique(batch.mask.nonzero()[:, 1] - 1)
    full[:, columns] = seen[0].grad
    return full


@pytest.mark.parametrize("task", [task for task in TASKS if task.name in CALLING], ids=repr)
def test_the_gradient_at_tool_tokens_is_zero(policy, task):
    batch = played(policy, task)
    size = gradient_of_logits(policy, batch).abs().sum(2)
    tool = (~batch.mask & (batch.turn >= 0))[:, 1:]
    assert tool.any() and (size[tool] == 0).all() and (size[~batch.mask[:, 1:]] == 0).all()
    assert (size[batch.mask[:, 1:]] > 0).all()
    everything = batch.replace(mask=batch.turn >= 0, rollout=torch.arange(len(batch)))  # masks switched off, on purpose
    assert (gradient_of_logits(policy, everything).abs().sum(2)[tool] > 0).all()


class Spells:
    """An engine that writes the gold script of a task with its tags spelled, character by character."""

    context = None

    def __init__(self, tokenizer, turns):
        letter = tokenizer.get_vocab()
        self.turns = [[*(letter[character] for character in turn), tokenizer.eos_token_id] for turn in turns]

    def start(self, prompts, *, seed):
        self.row, self.said = list(prompts[0]), 0
        return self

    def extend(self, row, ids):
        self.row += ids

    def sample(self, rows, **settings):
        ids = self.turns[self.said]
        self.row, self.said = self.row + ids, self.said + 1
        return [sample.Completion(ids, [-1.0] * len(ids), True)]


@pytest.mark.parametrize("task", [task for task in TASKS if task.name in CALLING and task.name != "stream"], ids=repr)
def test_a_tag_that_was_spelled_stays_so(policy, task):
    """Its text is that of a call, and is answered; encoded again it would be one token, and not what the policy did."""
    tokenizer, problem = policy.tokenizer, task.problem(0)
    engine = Spells(tokenizer, task.gold(problem))
    batch = sample.rollout(engine, task, tokenizer, [problem], group_size=1, seed=0)
    assert batch.outcome.tolist() == [1] and batch.tokens[0].tolist() == engine.row
    sampled = batch.tokens[0][batch.mask[0]].tolist()
    assert sampled == [i for ids in engine.turns for i in ids]
    again = [i for turn in task.gold(problem) for i in [*models.encode(tokenizer, turn), tokenizer.eos_token_id]]
    assert len(again) < len(sampled) and models.decode(tokenizer, again) == models.decode(tokenizer, sampled)


def test_failed_episodes_stay_in_their_group_with_their_stop_reason(policy):
    """Eight attempts at each lock, of which most are cut off or give up: all eight are there, and all count in the baseline."""
    task = tasks.get("calculator", operations=(2, 3), slack=0)
    problems = [task.problem(number) for number in range(6)]
    batch = sample.rollout(sample.LocalEngine(policy), task, policy.tokenizer, problems, group_size=8, seed=1, temperature=1.3)
    assert batch.group.bincount().tolist() == [8] * 6 and batch.rollouts == 48
    stops = {Stop(stop) for stop in batch.stop.tolist()}
    assert {Stop.LENGTH, Stop.TURNS, Stop.DONE} <= stops and Stop.ERROR not in stops
    failed = batch.stop != Stop.DONE
    assert (batch.outcome[failed] == 0).all() and batch.mask[failed].any(1).all()
    outcome = torch.zeros(48)
    outcome[0] = 1.0
    prepared = objective.prepare(recipes.get("rloo"), batch.replace(outcome=outcome, rewards=torch.zeros_like(batch.rewards)))
    credit = prepared.advantage[:8].sum(1) / batch.mask[:8].sum(1)
    assert credit.tolist() == pytest.approx([1.0] + [-1 / 7] * 7)  # seven failures, however they ended
