"""Engines and the driver: what is reported equals the transformers forward, what is drawn follows the softmax."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel, Qwen3Config, Qwen3ForCausalLM

from workbench import models, sample, tasks
from workbench.batch import Batch, Origin, Stop
from workbench.sample.engine import Uniforms, draw, truncate
from workbench.tasks.base import Problem, Reply

V, CONTEXT = 40, 64
ENGINES = [sample.LocalEngine, sample.HuggingFaceEngine]


def net(seed=0, layers=2, width=32, scale=0.25, **settings) -> Qwen3ForCausalLM:
    config = Qwen3Config(
        vocab_size=V, hidden_size=width, intermediate_size=48, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, tie_word_embeddings=True, max_position_embeddings=CONTEXT, **settings,
    )  # fmt: skip
    model = Qwen3ForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.3 * noise if "norm" in name else scale * noise)
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return net()


def gpt2() -> GPT2LMHeadModel:
    """Learned positions: wrong ones show at once."""
    config = GPT2Config(
        vocab_size=V, n_positions=CONTEXT, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3
    )
    torch.manual_seed(0)
    return GPT2LMHeadModel(config).eval()


@torch.no_grad()
def all_logps(model, ids, temperature=1.0):
    """[T,V] log-probabilities of every id after each prefix, by the transformers forward of this row alone."""
    return torch.log_softmax(model(torch.tensor([ids])).logits[0] / temperature, 1)


def prompts(lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, V, n).tolist() for n in lengths]


def assert_logps(model, session, row, completion, temperature=1.0):
    ids = session.ids(row)
    start = len(ids) - len(completion.ids)
    assert ids[start:] == completion.ids
    exact = all_logps(model, ids, temperature)
    for place, (i, logp) in enumerate(zip(completion.ids, completion.logps)):
        assert abs(exact[start + place - 1, i].item() - logp) < 1e-4


# ---- log-probabilities are those of the transformers forward ----------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=9),
    copies=st.integers(1, 3),
    stops=st.sets(st.integers(0, V - 1), max_size=12),
    turns=st.lists(st.tuples(st.integers(1, 8), st.integers(0, 4)), min_size=1, max_size=3),
    temperature=st.sampled_from([0.0, 0.6, 1.0, 1.3]),
    seed=st.integers(0, 100),
)
def test_local_logps_over_ragged_turns(model, lengths, copies, stops, turns, temperature, seed):
    """Left-over tokens, ragged prefixes, several turns, rows that sit out a turn, rows dropped on the way."""
    rng = np.random.default_rng(seed)
    session = sample.LocalEngine(model).start(
        [p for p in prompts(lengths, seed) for _ in range(copies)], seed=seed
    )
    rows = list(range(len(lengths) * copies))
    for max_tokens, extra in turns:
        chosen = [row for row in rows if rng.random() < 0.8] or rows
        rng.shuffle(chosen)
        before = {row: session.ids(row) for row in rows}
        completions = session.sample(chosen, max_tokens=max_tokens, stop=stops, temperature=temperature)
        for row, completion in zip(chosen, completions):
            assert_logps(model, session, row, completion, temperature or 1.0)
            assert session.ids(row)[: len(before[row])] == before[row]
            assert completion.stopped == (completion.ids[-1] in stops)
            assert not stops & set(completion.ids[:-1])
            assert completion.stopped or len(completion.ids) == max_tokens
        assert all(session.ids(row) == before[row] for row in rows if row not in chosen)
        for row in chosen[::2]:
            session.extend(row, rng.integers(0, V, extra).tolist())


def test_local_logps_after_a_prompt_and_its_reply_that_were_never_sampled(model):
    session = sample.LocalEngine(model).start(prompts([5, 3, 5]), seed=0)
    session.extend(1, [1, 2, 3, 4, 5, 6, 7])
    for row, completion in enumerate(session.sample([0, 1, 2], max_tokens=4, stop=[])):
        assert_logps(model, session, row, completion)


def test_reading_prompts_in_pieces_changes_nothing(model, monkeypatch):
    whole = (
        sample.LocalEngine(model).start(prompts([5, 9, 2, 7]), seed=0).sample(range(4), max_tokens=5, stop=[])
    )
    monkeypatch.setattr(sample.local, "SCORES", 1)
    pieces = (
        sample.LocalEngine(model).start(prompts([5, 9, 2, 7]), seed=0).sample(range(4), max_tokens=5, stop=[])
    )
    for a, b in zip(whole, pieces):
        assert a.ids == b.ids and np.allclose(a.logps, b.logps, atol=1e-5)


@pytest.mark.parametrize("make", [net, gpt2])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_hugging_face_logps_over_ragged_turns(make, temperature):
    model = make()
    session = sample.HuggingFaceEngine(model).start(prompts([4, 1, 7, 2]), seed=3)
    for turn, rows in enumerate([[0, 1, 2, 3], [2, 0, 3]]):
        for row, completion in zip(
            rows, session.sample(rows, max_tokens=6, stop=range(8), temperature=temperature)
        ):
            assert_logps(model, session, row, completion, temperature or 1.0)
            session.extend(row, prompts([row + turn])[0])


def test_both_engines_draw_the_same(model):
    given = prompts([4, 1, 7, 4, 4])
    ours, theirs = (
        engine(model).start(given, seed=5).sample(range(5), max_tokens=12, stop=[3, 4, 5], temperature=0.9)
        for engine in ENGINES
    )
    for a, b in zip(ours, theirs):
        assert a.ids == b.ids and a.stopped == b.stopped and np.allclose(a.logps, b.logps, atol=1e-5)


def test_new_weights_are_used_by_new_sessions_only():
    model = net()
    engine = sample.LocalEngine(model)
    old = engine.start([[1, 2, 3]] * 2, seed=0)
    before = old.sample([0], max_tokens=6, stop=[])[0]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.2)
    assert (
        old.sample([1], max_tokens=6, stop=[])[0].logps
        != engine.start([[1, 2, 3]] * 2, seed=0).sample([1], max_tokens=6, stop=[])[0].logps
    )
    session = engine.start([[1, 2, 3]], seed=0)
    assert_logps(model, session, 0, session.sample([0], max_tokens=6, stop=[])[0])
    assert before.ids == old.ids(0)[3:]


# ---- what is drawn ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("temperature", "top_p", "top_k"),
    [(1.0, 1.0, 0), (0.5, 1.0, 0), (1.0, 0.8, 0), (1.0, 1.0, 3), (2.0, 0.7, 4)],
)
def test_frequencies_follow_the_softmax(temperature, top_p, top_k):
    """Chi-square of 40 000 draws against the exact distribution, truncated where asked."""
    logits = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -2.0, -torch.inf, 1.5])
    exact = torch.softmax(logits.double() / temperature, 0)
    order = exact.argsort(descending=True)
    kept, mass, total = [], 0.0, exact[order[: top_k or None]].sum()
    for i in order[: top_k or None].tolist():
        if mass < top_p * total:
            kept.append(i)
        mass += exact[i].item()
    expected = torch.zeros(8, dtype=torch.float64)
    expected[kept] = exact[kept] / exact[kept].sum()
    n = 40_000
    uniform = torch.from_numpy(np.random.default_rng(0).random(n))
    ids, logps = draw(logits.expand(n, -1), uniform, temperature, top_p, top_k)
    count = torch.bincount(ids, minlength=8).double()
    assert not count[expected == 0].any()
    possible = expected > 0
    chi = ((count - n * expected)[possible] ** 2 / (n * expected[possible])).sum()
    assert chi < 30  # 7 degrees of freedom: exceeded once in 10 000 seeds
    assert torch.allclose(logps.double(), exact[ids].log(), atol=1e-6)  # untruncated, at the temperature


def test_the_draw_inverts_the_distribution_exactly():
    logits = torch.log(torch.tensor([[0.0, 0.25, 0.5, 0.0, 0.25, 0.0]]))
    uniform = torch.tensor([0.0, 0.2499, 0.25, 0.7499, 0.75, np.nextafter(1.0, 0.0)], dtype=torch.float64)
    ids, _ = draw(logits.expand(6, -1), uniform, 1.0, 1.0, 0)
    assert ids.tolist() == [1, 1, 2, 2, 4, 4]  # ids of probability 0 are never drawn, not even at the ends


def test_truncation():
    weight = torch.tensor([[0.1, 0.4, 0.3, 0.2]])
    assert truncate(weight, 1.0, 2).tolist() == [pytest.approx([0, 0.4, 0.3, 0])]
    assert truncate(weight, 0.7, 0).tolist() == [pytest.approx([0, 0.4, 0.3, 0])]
    assert truncate(weight, 0.71, 0).tolist() == [pytest.approx([0, 0.4, 0.3, 0.2])]
    assert truncate(weight, 1e-9, 0).tolist() == [pytest.approx([0, 0.4, 0, 0])]
    assert truncate(weight, 0.5, 3).tolist() == [pytest.approx([0, 0.4, 0.3, 0])]


def test_uniforms_depend_on_seed_row_and_position_alone():
    few, many = Uniforms(7, 2), Uniforms(7, 50)
    rows, position = torch.tensor([1, 0, 1]), torch.tensor([130, 5, 63])
    late_first = many(rows, position, 200)
    assert torch.equal(few(rows, torch.tensor([3, 5, 63]), 64)[1:], late_first[1:])
    assert torch.equal(few(rows, position, 130), late_first)
    assert not torch.equal(Uniforms(8, 2)(rows, position, 130), late_first)
    everything = torch.cat([many.numbers.flatten()])
    assert len(everything.unique()) == len(everything) and 0 <= everything.min() and everything.max() < 1


@pytest.mark.parametrize("engine", ENGINES)
def test_same_seed_same_bits(model, engine):
    given = prompts([4, 1, 7, 4])
    runs = [
        engine(model).start(given, seed=seed).sample(range(4), max_tokens=9, stop=[1]) for seed in (0, 0, 1)
    ]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_do_not_depend_on_each_other(model, engine):
    given = prompts([5, 2, 8, 3, 6, 1, 4, 7, 2, 9])
    together = engine(model).start(given, seed=1).sample(range(10), max_tokens=12, stop=range(10))
    assert len({len(c.ids) for c in together}) > 2  # rows were dropped on the way
    session = engine(model).start(given, seed=1)
    for row in [3, 9, 0]:
        assert session.sample([row], max_tokens=12, stop=range(10))[0].ids == together[row].ids


def test_copies_of_a_prompt_draw_differently(model):
    completions = (
        sample.LocalEngine(model).start([[1, 2]] * 8, seed=0).sample(range(8), max_tokens=8, stop=[])
    )
    assert len({tuple(c.ids) for c in completions}) == 8


@pytest.mark.parametrize("engine", ENGINES)
def test_greedy_takes_the_likeliest(model, engine):
    session = engine(model).start([[1, 2, 3]], seed=0)
    session.sample([0], max_tokens=7, stop=[], temperature=0)
    ids = session.ids(0)
    assert ids[3:] == all_logps(model, ids).argmax(1).tolist()[2:-1]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_context_ends_a_row(model, engine):
    session = engine(model).start(prompts([CONTEXT - 3, CONTEXT, 2]), seed=0)
    short, none, long = session.sample([0, 1, 2], max_tokens=10, stop=[])
    assert (len(short.ids), len(none.ids), len(long.ids)) == (3, 0, 10)
    assert not short.stopped and not none.stopped
    assert_logps(model, session, 0, short)
    assert_logps(model, session, 2, long)
    assert session.sample([0], max_tokens=1, stop=[])[0].ids == []


def test_bfloat16_is_close_and_float32_is_exact():
    model = net(width=64)
    given = prompts([6] * 8)
    engine = sample.LocalEngine(model, dtype="bfloat16")
    session = engine.start(given, seed=0)
    completions = session.sample(range(8), max_tokens=16, stop=[])
    gaps = []
    for row, completion in enumerate(completions):
        exact = all_logps(model, session.ids(row))
        gaps += [
            abs(exact[5 + place, i].item() - logp)
            for place, (i, logp) in enumerate(zip(completion.ids, completion.logps))
        ]
    assert 1e-4 < max(gaps) < 0.5


# ---- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_bad_prompts(model, engine):
    start = engine(model).start
    with pytest.raises(ValueError, match="no prompts"):
        start([], seed=0)
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        start([[1], []], seed=0)
    with pytest.raises(ValueError, match="prompt 0 has 65 tokens, the model's context is 64"):
        start([[1] * 65], seed=0)
    with pytest.raises(ValueError, match="prompt 1 contains id 40; the vocabulary has 40 ids"):
        start([[1], [2, 40]], seed=0)
    with pytest.raises(ValueError, match="id -1"):
        start([[-1]], seed=0)
    with pytest.raises(ValueError, match="seed"):
        start([[1]], seed=-1)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": -1}, "temperature"), ({"temperature": float("nan")}, "temperature"), ({"top_p": 0}, "top_p"),
        ({"top_p": 1.1}, "top_p"), ({"top_k": -1}, "top_k"), ({"top_k": 1.5}, "top_k"), ({"max_tokens": 0}, "max_tokens"),
        ({"stop": [V]}, "stop contains id 40"), ({"stop": ["a"]}, "stop must be"), ({"rows": [2]}, "row 2 does not exist"),
        ({"rows": [0, 0]}, "twice"),
    ],
)  # fmt: skip
def test_bad_settings(model, engine, wrong, message):
    session = engine(model).start([[1], [2]], seed=0)
    arguments = {"rows": [0], "max_tokens": 1, "stop": []} | wrong
    with pytest.raises(ValueError, match=message):
        session.sample(arguments.pop("rows"), **arguments)


@pytest.mark.parametrize("engine", ENGINES)
def test_bad_extension(model, engine):
    session = engine(model).start([[1] * 60], seed=0)
    with pytest.raises(ValueError, match="row 0 contains id 99; the vocabulary has 40 ids"):
        session.extend(0, [99])
    with pytest.raises(
        ValueError, match="row 0 has 60 tokens and cannot take 5 more: the model's context is 64"
    ):
        session.extend(0, [1] * 5)
    assert session.ids(0) == [1] * 60


def test_the_local_engine_refuses_other_models():
    with pytest.raises(ValueError, match="use HuggingFaceEngine"):
        sample.LocalEngine(gpt2())
    with pytest.raises(ValueError, match="dtype"):
        sample.LocalEngine(net(), dtype="float16")


# ---- the driver -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def policy():
    policy = models.tiny("0.1m", seed=0)
    with torch.no_grad():  # so that turns end, and end at different lengths
        for name, parameter in policy.named_parameters():
            if "norm" not in name:
                parameter.mul_(2)
    return policy


@dataclass(frozen=True)
class Echo:
    """Answers every turn with its first letters until `rounds` turns are over; problem "raise" raises in turn 1."""

    rounds: int = 3
    max_turns: int = 4
    max_tokens: int = 30
    name = "echo"
    tools = ()

    def episode(self, problem):
        return EchoEpisode(self, problem)


@dataclass
class EchoEpisode:
    task: Echo
    problem: Problem
    turn: int = 0
    seen: tuple = ()

    def step(self, text):
        self.turn += 1
        assert "<E>" not in text
        if self.problem.prompt == "raise" and self.turn == 2:
            raise RuntimeError("broken environment")
        if self.turn == self.task.rounds:
            return Reply(None, 0.5, done=True, outcome=1.0)
        return Reply("r" + "x" * self.turn, reward=-1.0)


class Scripted:
    """An engine that says what it is told, to test the driver alone."""

    def __init__(self, script, context=None):
        self.script, self.context = script, context

    def start(self, prompts, *, seed):
        self.rows = [list(p) for p in prompts]
        self.turn = [0] * len(prompts)
        return self

    def sample(self, rows, *, max_tokens, stop, temperature, top_p, top_k):
        out = []
        for row in rows:
            ids = self.script(row, self.turn[row])
            self.turn[row] += 1
            self.rows[row] += ids
            out.append(sample.Completion(ids, [-0.5] * len(ids), bool(ids) and ids[-1] in stop))
        return out

    def extend(self, row, ids):
        self.rows[row] += ids

    def ids(self, row):
        return self.rows[row]


def scripted(script, task, problems, policy, group_size=1, context=None):
    engine = Scripted(script, context)
    batch = sample.rollout(engine, task, policy.tokenizer, problems, group_size=group_size, seed=0)
    for row in range(len(batch)):
        assert batch.tokens[row, : int(batch.length[row])].tolist() == engine.rows[row]  # only ever appended
    return batch


def text_ids(policy, text):
    return models.encode(policy.tokenizer, text)


def test_a_dialogue_token_by_token(policy):
    batch = scripted(lambda row, turn: text_ids(policy, "ab<E>"), Echo(rounds=2), [Problem("q", "")], policy)
    assert sample.transcript(batch, 0, policy.tokenizer) == "<U>q<A>ab<E><R>rx</R><A>ab<E>"
    assert batch.mask[0].tolist() == [False] * 3 + [True] * 3 + [False] * 5 + [True] * 3
    assert batch.turn[0].tolist() == [-1] * 3 + [0] * 8 + [1] * 3
    assert batch.rewards.tolist() == [[-1.0, 0.5]] and batch.outcome.tolist() == [1.0]
    assert batch.stop.tolist() == [Stop.DONE] and batch.prompt_length.tolist() == [3]


def test_stop_reasons(policy):
    done, cut = text_ids(policy, "a<E>"), text_ids(policy, "abc")
    problems = [Problem(c, "") for c in "pq"]
    batch = scripted(lambda row, turn: cut if row and turn else done, Echo(), problems, policy)
    assert batch.stop.tolist() == [Stop.DONE, Stop.LENGTH]
    assert batch.outcome.tolist() == [1.0, 0.0] and batch.rewards[1].tolist() == [-1.0, 0.0, 0.0]
    assert scripted(lambda *_: done, Echo(rounds=9), problems, policy).stop.tolist() == [Stop.TURNS] * 2
    # the reply <R>rx</R><A> has 5 tokens; then one more must fit for the next turn
    assert scripted(lambda *_: done, Echo(), problems, policy, context=10).stop.tolist() == [Stop.CONTEXT] * 2
    assert (
        scripted(lambda r, t: cut if t else done, Echo(), problems, policy, context=13).stop.tolist()
        == [Stop.CONTEXT] * 2
    )
    nothing = scripted(lambda *_: [], Echo(), problems, policy, context=3)
    assert nothing.stop.tolist() == [Stop.CONTEXT] * 2 and not nothing.mask.any()


def test_a_task_that_raises_costs_its_episode_only(policy, caplog):
    problems = [Problem("p", ""), Problem("raise", "")]
    with caplog.at_level(logging.ERROR):
        batch = scripted(lambda *_: text_ids(policy, "a<E>"), Echo(), problems, policy, group_size=2)
    assert batch.stop.tolist() == [Stop.DONE, Stop.DONE, Stop.ERROR, Stop.ERROR]
    assert batch.outcome.tolist() == [1, 1, 0, 0] and not batch.rewards[2:].any()
    assert batch.group.tolist() == [0, 0, 1, 1]
    assert "broken environment" in caplog.text and "problem 1" in caplog.text


def test_nothing_to_roll_out(policy):
    engine = sample.LocalEngine(policy)
    with pytest.raises(ValueError, match="no problems"):
        sample.rollout(engine, Echo(), policy.tokenizer, [], group_size=2, seed=0)
    with pytest.raises(ValueError, match="group_size must be at least 1"):
        sample.rollout(engine, Echo(), policy.tokenizer, [Problem("p", "")], group_size=0, seed=0)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("task", ["addition", "calculator", "echo"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_ratio_at_the_first_update_is_one(policy, engine, task, temperature):
    task = Echo() if task == "echo" else tasks.get(task)
    problems = [Problem(t, "") for t in ("a", "bc", "def")]
    if task.name != "echo":
        problems = [task.problem(n) for n in range(3)]
    batch = sample.rollout(
        engine(policy), task, policy.tokenizer, problems, group_size=4, seed=0, temperature=temperature
    )
    ratio = (policy.evaluate(batch, temperature=temperature).logp - batch.logp_old).exp()
    assert (ratio - 1).abs().max() < 1e-5
    assert batch.group.tolist() == [n for n in range(3) for _ in range(4)]
    assert (batch.origin == Origin.ON_POLICY).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_pad_id_that_is_the_end_id_is_still_trained_on(policy, engine):
    tokenizer = copy.deepcopy(policy.tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    task = Echo(rounds=1)
    batch = sample.rollout(engine(policy), task, tokenizer, [Problem("a", "")], group_size=16, seed=0)
    ended = batch.stop == Stop.DONE
    assert ended.any()
    last = batch.length[ended] - 1
    assert (batch.tokens[ended, last] == tokenizer.eos_token_id).all() and batch.mask[ended, last].all()
    gradient = torch.autograd.grad(
        policy.evaluate(batch).logp[ended, last].sum(), policy.model.lm_head.weight
    )[0]
    assert gradient[tokenizer.eos_token_id].abs().max() > 0


def test_a_demonstration(policy):
    dialogue = sample.encode_demonstration("1+1=", ["<T>1+1</T>", "2", "2"], policy.tokenizer, group=3)
    batch = Batch.from_dialogues([dialogue])
    assert sample.transcript(batch, 0, policy.tokenizer) == "<U>1+1=<A><T>1+1</T><E><R>2</R><A>2<E>"
    assert models.decode(policy.tokenizer, batch.tokens[0][batch.mask[0]].tolist()) == "<T>1+1</T><E>2<E>"
    assert (
        batch.origin.tolist() == [Origin.EXPERT] and batch.group.tolist() == [3] and not batch.logp_old.any()
    )
    with pytest.raises(ValueError, match="odd number of texts, not 2"):
        sample.encode_demonstration("1", ["a", "b"], policy.tokenizer)
