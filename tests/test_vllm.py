"""vLLM behind the engine's interface: real, in this process and over a server, its weights the policy's after each update.

Left out, with the reason, only where vLLM is not installed. One vLLM for each shape of model, shared by all tests.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import os
import random
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
import torch

import workbench as wb
from workbench import models, sample, tasks
from workbench.batch import Batch, Dialogue, Segment
from workbench.sample import vllm_server
from workbench.sample.vllm_worker import WeightUpdates

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("vllm"), reason="vLLM is not installed: make vllm")

PROMPTS = [[1, 40, 41, 2], [1, 40, 41, 2], [7] * 45 + [2], list(range(3, 60)), [5]]  # two longer than a block of the cache


@torch.no_grad()
def disturb(policy, seed: int, by: float = 0.05) -> None:
    """Move every trainable weight so far that old ones are seen at once."""
    generator = torch.Generator().manual_seed(seed)
    for value in policy.parameters():
        if value.requires_grad:
            value.add_(by * torch.randn(value.shape, generator=generator))


def make(tied: bool, adapted: bool = False) -> models.LanguageModel:
    policy = models.tiny("0.2m", seed=3)
    if not tied:
        from transformers import Qwen3ForCausalLM

        config = copy.deepcopy(policy.model.config)
        config.tie_word_embeddings = False
        torch.manual_seed(0)
        policy = models.LanguageModel(Qwen3ForCausalLM(config), policy.tokenizer)
    disturb(policy, 0, 0.1)
    if adapted:
        peft = pytest.importorskip("peft")
        adapter = peft.LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
        policy = models.LanguageModel(peft.get_peft_model(policy.model, adapter), policy.tokenizer)
    return policy


def batch_of(session, rows, completions) -> Batch:
    return Batch.from_dialogues([
        Dialogue(session.ids(row)[: -len(one.ids)], n, [Segment(one.ids, one.logps)], [0.0])
        for n, (row, one) in enumerate(zip(rows, completions))
    ])  # fmt: skip


def gap(policy, engine, seed: int = 0, temperature: float = 1.0) -> float:
    """The largest difference of log-probabilities between the policy and what the engine says of its own samples."""
    session = engine.start(PROMPTS, seed=seed)
    said = session.sample(range(len(PROMPTS)), max_tokens=8, stop=[], temperature=temperature)
    return sample.mismatch(policy, batch_of(session, range(len(PROMPTS)), said), temperature=temperature).largest


@pytest.fixture(scope="module")
def policy():
    return make(tied=True)


@pytest.fixture(scope="module")
def engine(policy):
    return sample.VLLMEngine(policy)


@pytest.fixture(scope="module")
def servers():
    """By whether embeddings are tied: what stops it, and its address. Both start at once."""
    with contextlib.ExitStack() as both, ThreadPoolExecutor(2) as pool:
        stacks = {tied: both.enter_context(contextlib.ExitStack()) for tied in (True, False)}
        started = {tied: pool.submit(stack.enter_context, sample.serve(make(tied), wait=500)) for tied, stack in stacks.items()}
        yield {tied: (stacks[tied], each.result()) for tied, each in started.items()}


# ---- the same policy in three engines --------------------------------------------------------------------------------


def test_three_engines_agree(policy, engine):
    """Greedy ids equal, log-probabilities to float32 rounding (within 1e-3 is what was asked for)."""
    found = []
    for each in (sample.LocalEngine(policy), sample.HuggingFaceEngine(policy), engine):
        session = each.start(PROMPTS, seed=0)
        found.append(session.sample(range(len(PROMPTS)), max_tokens=24, stop=[policy.eos], temperature=0))
    for others in found[:2]:
        for a, b in zip(others, found[2]):
            assert a.ids == b.ids and a.stopped == b.stopped
            assert np.allclose(a.logps, b.logps, atol=1e-5)


@pytest.mark.parametrize("settings", [
    {"temperature": 0.7}, {"temperature": 1.6, "top_k": 3}, {"top_p": 0.6}, {"temperature": 0.8, "top_p": 0.7, "top_k": 9},
])  # fmt: skip
def test_log_probabilities_are_over_the_whole_vocabulary(policy, engine, settings):
    """Also where top-p and top-k choose among a few: what vLLM itself would report is then over those few."""
    session = engine.start(PROMPTS, seed=1)
    rows = range(len(PROMPTS))
    said = session.sample(rows, max_tokens=6, stop=[], **settings)
    batch = batch_of(session, rows, said)
    temperature = settings.get("temperature", 1.0)
    assert sample.mismatch(policy, batch, temperature=temperature).largest < 1e-5
    few = settings.get("top_k", 0)
    if few:
        logits = policy.model(batch.tokens).logits
        for row, column in batch.mask.nonzero().tolist():
            assert batch.tokens[row, column] in logits[row, column - 1].topk(few).indices


def test_draws_follow_the_softmax(policy, engine):
    """4,000 rows with one prompt: frequencies within 4.5 standard errors, and the same id no oftener in neighbours."""
    n, prompt = 4000, PROMPTS[0]
    said = engine.start([prompt] * n, seed=2).sample(range(n), max_tokens=1, stop=[])
    ids = torch.tensor([one.ids[0] for one in said])
    p = torch.softmax(policy.model(torch.tensor([prompt])).logits[0, -1].double(), 0)
    frequency = torch.bincount(ids, minlength=len(p)) / n
    assert ((frequency - p).abs() < 4.5 * (p * (1 - p) / n).sqrt() + 1e-9).all()
    again = (p**2).sum()
    assert abs((ids[1:] == ids[:-1]).double().mean() - again) < 4.5 * (again * (1 - again) / n).sqrt()


def test_same_seed_same_ids_whatever_the_other_rows_are(engine):
    rows = range(len(PROMPTS))
    first, again, other = (
        engine.start(PROMPTS, seed=seed).sample(rows, max_tokens=8, stop=[]) for seed in (5, 5, 6)
    )  # fmt: skip
    assert [one.ids for one in first] == [one.ids for one in again] != [one.ids for one in other]
    assert first[0].ids != first[1].ids, "equal prompts draw for themselves"
    few = engine.start(PROMPTS, seed=5).sample([3, 1], max_tokens=8, stop=[])
    assert [one.ids for one in few] == [first[3].ids, first[1].ids]


def test_turns(policy, engine):
    """Rows grow over turns, end at a stop id or the end of the context, and may be started anew."""
    session = engine.start(PROMPTS, seed=7)
    said = session.sample([2, 0], max_tokens=5, stop=range(64))
    for row, one in zip([2, 0], said):
        assert session.ids(row) == PROMPTS[row] + one.ids
        assert one.stopped == (one.ids[-1] < 64) and all(i >= 64 for i in one.ids[:-1])
    session.extend(0, [9, 9, 9])
    before = session.ids(0)
    (one,) = session.sample([0], max_tokens=4, stop=[])
    assert session.ids(0) == before + one.ids and session.ids(1) == PROMPTS[1]
    assert sample.mismatch(policy, batch_of(session, [0], [one])).largest < 1e-5
    session.restart(0, PROMPTS[0])
    (anew,) = session.sample([0], max_tokens=8, stop=[])
    (first,) = engine.start(PROMPTS, seed=7).sample([0], max_tokens=8, stop=[])
    assert anew.ids != first.ids, "what a row draws after it was started anew is independent"
    session.restart(1, [4] * (engine.context - 3))
    (short,) = session.sample([1], max_tokens=9, stop=[])
    assert len(short.ids) == 3 and not short.stopped
    assert session.sample([1], max_tokens=9, stop=[]) == [sample.Completion([], [], False)]


def test_bad_input(policy, engine):
    with pytest.raises(ValueError, match=r"prompt 1 has 513 tokens, the model's context is 512"):
        engine.start([[1], [1] * 513], seed=0)
    with pytest.raises(ValueError, match="contains id 128; the vocabulary has 128 ids"):
        engine.start([[128]], seed=0)
    with pytest.raises(ValueError, match="no prompts"):
        engine.start([], seed=0)
    session = engine.start(PROMPTS, seed=0)
    with pytest.raises(ValueError, match="contains id 999"):
        session.extend(0, [999])
    with pytest.raises(ValueError, match="cannot take 512 more"):
        session.extend(0, [1] * 512)
    with pytest.raises(ValueError, match="temperature 0 .greedy. or from 0.01 on, not at 0.001"):
        session.sample([0], max_tokens=1, stop=[], temperature=0.001)
    with pytest.raises(ValueError, match="settings are of vLLM in this process"):
        sample.VLLMEngine(policy, server="http://127.0.0.1:1", settings={"seed": 1})
    with pytest.raises(ValueError, match="context must be from 1 to the model's own 512"):
        sample.VLLMEngine(policy, context=513)


# ---- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["in process", "server"])
@pytest.mark.parametrize("adapted", [False, True], ids=["plain", "LoRA"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_an_update_reaches_every_layer(tied, adapted, where, request):
    policy = make(tied, adapted)
    address = request.getfixturevalue("servers")[tied][1] if where == "server" else None
    engine = sample.VLLMEngine(policy, server=address)
    assert gap(policy, engine) < 1e-5
    for update in range(1, 4):
        old = policy.copy()
        disturb(policy, update)
        assert gap(policy, engine, seed=update, temperature=0.8) < 1e-5
        assert gap(policy, engine, seed=update) < 1e-5  # with the prefixes of the call before in the cache
        assert engine.updates == update + 1, "once for each change of the weights"
        now = [p.detach().clone() for p in policy.parameters()]
        session = engine.start(PROMPTS, seed=0)
        batch = batch_of(session, range(5), session.sample(range(5), max_tokens=8, stop=[]))
        assert sample.mismatch(old, batch).largest > 0.02, "this test would not see old weights"
        assert all(torch.equal(a, b) for a, b in zip(now, policy.parameters())), "sending changes nothing in the policy"
    if adapted:
        with policy.model.disable_adapter():
            assert gap(policy, engine) < 1e-5
        assert gap(policy, engine) < 1e-5
    engine.close()


def plain_reload(worker, weights, tag):
    """What the library offers, and no more."""
    worker.model_runner.reload_weights(weights_iterator=iter(weights.items()))
    worker.served_tag = tag


def test_the_library_alone_leaves_a_tied_output_layer_behind(monkeypatch):
    """Shows the silent error, and that it would not pass unnoticed. Fails, and says so, once the library is right."""
    policy = make(tied=True)
    engine = sample.VLLMEngine(policy)
    assert gap(policy, engine) < 1e-5
    with monkeypatch.context() as patch:
        patch.setattr(WeightUpdates, "set_weights", plain_reload)
        disturb(policy, 1)
        try:
            engine.start(PROMPTS, seed=0)
        except RuntimeError as error:
            assert "does not compute with them" in str(error)
        else:
            pytest.fail(
                "vLLM's own reload_weights now reaches the output layer of a tied model: packing in WeightUpdates.set_weights "
                "may go, and the text at the top of sample/vllm.py needs a word"
            )
    assert gap(policy, engine) < 1e-5, "a failed update is made again"


def test_an_old_cache_of_prefixes_would_be_noticed(monkeypatch):
    policy = make(tied=True)
    engine = sample.VLLMEngine(policy)
    assert gap(policy, engine) < 1e-5
    with monkeypatch.context() as patch:
        patch.setattr(engine._backend.llm, "reset_prefix_cache", lambda: True)
        disturb(policy, 1)
        with pytest.raises(RuntimeError, match="does not compute with them"):
            engine.start(PROMPTS, seed=0)


@pytest.mark.parametrize("number", [0, 3, 8, -1])
def test_a_forgotten_tensor_would_be_noticed(monkeypatch, number):
    policy = make(tied=False)
    engine = sample.VLLMEngine(policy)
    assert gap(policy, engine) < 1e-5
    whole = WeightUpdates.set_weights
    name = list(policy.model.state_dict())[number]
    old = policy.model.state_dict()[name].clone()
    with monkeypatch.context() as patch:
        patch.setattr(WeightUpdates, "set_weights", lambda self, weights, tag: whole(self, {**weights, name: old}, tag))
        disturb(policy, 1)
        with pytest.raises(RuntimeError, match="does not compute with them"):
            engine.start(PROMPTS, seed=0)


def test_policies_take_turns(policy, engine):
    """Engines with models of one shape share one vLLM; each start brings the weights that it needs, and old sessions end."""
    other = make(tied=True)
    disturb(other, 9)
    second = sample.VLLMEngine(other)
    assert second._backend is engine._backend
    session = engine.start(PROMPTS, seed=0)
    assert gap(other, second) < 1e-5
    with pytest.raises(RuntimeError, match="got other weights while this session was sampling"):
        session.sample([0], max_tokens=1, stop=[])
    assert gap(policy, engine) < 1e-5
    disturb(other, 10)
    session = second.start(PROMPTS, seed=0)
    disturb(other, 11)
    second.start(PROMPTS, seed=0)
    with pytest.raises(RuntimeError, match="newer weights than this session"):
        session.sample([0], max_tokens=1, stop=[])
    second.close()
    assert gap(policy, engine) < 1e-5


def test_the_rest_of_the_process_is_left_as_it_was(policy, engine):
    torch.manual_seed(1)
    random.seed(1)
    states = torch.get_rng_state(), random.getstate(), dict(os.environ)
    narrow = sample.VLLMEngine(policy, context=128)  # another shape of vLLM, so it starts one
    assert narrow._backend is not engine._backend and narrow.context == 128
    assert torch.equal(states[0], torch.get_rng_state()) and states[1:] == (random.getstate(), dict(os.environ))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    assert gap(policy, narrow) < 1e-5
    narrow.close()
    assert gap(policy, engine) < 1e-5


def test_another_precision_is_measured(policy):
    """vLLM in bfloat16: the check knows that it is, training says how far it is off and may correct it."""
    engine = sample.VLLMEngine(policy, dtype="bfloat16", context=256)
    assert 1e-4 < gap(policy, engine) < 0.2
    correction = wb.objective.Correction()
    (record,) = wb.train(policy.copy(), "addition", steps=1, prompts=2, engine=engine, correction=correction)
    assert 1e-5 < record.diagnostics["mismatch_mean"] < 0.05 and 0 <= record.diagnostics["correction_lost"] < 1e-3
    with pytest.raises(RuntimeError, match="another precision than the policy: say which"):
        sample.VLLMEngine(policy, dtype="bfloat16", context=256, tolerance=1e-4).start(PROMPTS, seed=0)
    engine.close()


# ---- tasks and training ----------------------------------------------------------------------------------------------


def test_a_task_of_many_turns():
    """`calculator`, with a pupil that calls it: what is marked as sampled is what the policy said, and the rest is not."""
    pupil = models.load("data/calculator_pupil")
    task = tasks.get("calculator")
    own = sample.VLLMEngine(pupil)
    problems = [task.problem(number) for number in range(12)]
    batch = sample.rollout(own, task, pupil.tokenizer, problems, group_size=2, seed=0)
    assert batch.turns.double().mean() > 1.5 and batch.outcome.mean() > 0.2
    found = sample.mismatch(pupil, batch)  # it is sure of itself: where it says -15, float32 has steps of 1e-6
    assert found.mean < 1e-6 and found.largest < 1e-4
    tag = {name: pupil.tokenizer.convert_tokens_to_ids(name) for name in ("<A>", "<E>", "<R>")}
    for row in range(len(batch)):
        ids, mask = batch.tokens[row].tolist(), batch.mask[row].tolist()
        saying = False
        for column in range(int(batch.length[row])):
            assert mask[column] == saying, (row, column)
            saying = (saying or ids[column] == tag["<A>"]) and ids[column] != tag["<E>"]
    local = sample.rollout(sample.LocalEngine(pupil), task, pupil.tokenizer, problems, group_size=1, seed=0, temperature=0)
    ours = sample.rollout(own, task, pupil.tokenizer, problems, group_size=1, seed=0, temperature=0)
    assert torch.equal(local.tokens, ours.tokens) and torch.equal(local.mask, ours.mask)
    own.close()


@pytest.mark.parametrize("correction", [None, wb.objective.Correction()], ids=["plain", "corrected"])
def test_training(correction):
    """The weights of each step reach vLLM, the ratio at a first update is 1 within the mismatch that the step reports."""
    pupil = models.load("data/calculator_pupil")
    before = copy.deepcopy(pupil)
    records = list(wb.train(pupil, "calculator", "gtpo", steps=3, prompts=4, lr=1e-3, engine="vllm", correction=correction))
    for record in records:
        assert record.gradient_norm > 0 and record.turns > 1.5
        assert record.diagnostics["mismatch_mean"] < 1e-6 and record.diagnostics["mismatch_largest"] < 1e-4
        largest = record.diagnostics["mismatch_largest"] if correction is None else 0.0
        assert np.exp(-largest) - 1e-6 <= record.ratio_min <= record.ratio_max <= np.exp(largest) + 1e-6
    if correction is not None:
        assert records[0].diagnostics["correction_lost"] == 0
    moved = [(a - b).abs().max().item() for a, b in zip(pupil.parameters(), before.parameters())]
    assert min(moved) > 1e-4, "old weights would have shown in the mismatch"
    assert wb.evaluate(pupil, "calculator", problems=16, engine="vllm") == wb.evaluate(pupil, "calculator", problems=16)


# ---- processes -------------------------------------------------------------------------------------------------------


def family(address: str) -> list[psutil.Process]:
    """The server at an address, and all that it started."""
    port = address.rpartition(":")[2]
    (server,) = [one for one in psutil.Process().children() if port in one.cmdline()]
    return [server, *server.children(recursive=True)]


def test_only_loopback_is_listened_on(engine, servers):
    processes = [psutil.Process(), *(one for _, address in servers.values() for one in family(address))]
    assert len(processes) >= 5
    listening = [c.laddr.ip for one in processes for c in one.net_connections() if c.status == psutil.CONN_LISTEN]
    assert len(listening) >= 3 and set(listening) <= {"127.0.0.1", "::1"}


def test_servers_end_with_everything_they_started(servers):
    """One whose time has come, and one that was killed; who asks the dead one is told what to do."""
    policy = make(tied=True)
    engine = sample.VLLMEngine(policy, server=servers[True][1])
    session = engine.start(PROMPTS, seed=0)
    with pytest.raises(ValueError, match="refused /v1/completions: 400"):  # past our own checks: the server has its own
        engine.generate([([1] * 600, {"max_tokens": 1, "seed": 0})])
    for tied, (stack, address) in servers.items():
        processes = family(address)
        if tied:
            for one in processes[1:]:
                one.kill()
            with pytest.raises(ConnectionError, match="cannot be reached.*start it again .sample.serve."):
                for _ in range(20):  # it takes a moment until the rest of it notices
                    session.sample([0], max_tokens=1, stop=[])
        stack.close()
        assert not [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_stopping_waits_until_all_are_gone():
    """Two processes of one group, of which the first ends at once and the second does not hear the first signal."""
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {deaf!r}])"
    first = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    assert first.stdout.readline() == b"deaf\n"
    assert vllm_server._alive(first)
    vllm_server._stop(first)
    assert not vllm_server._alive(first)
    first.stdout.close()


def test_a_server_ends_with_a_process_that_is_killed():
    """Tried on a program that only sleeps: the watch is the same."""
    code = """
import os, signal, subprocess, sys
from workbench.sample.vllm_server import _end_with_us
sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
_end_with_us(sleeper)
print(sleeper.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    said = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, timeout=300, check=False)
    assert said.returncode == -signal.SIGKILL
    gone, left = psutil.wait_procs([psutil.Process(int(said.stdout))] if psutil.pid_exists(int(said.stdout)) else [], timeout=60)
    for one in left:
        one.kill()
    assert not [one for one in left if one.status() != psutil.STATUS_ZOMBIE]
