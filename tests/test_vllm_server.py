"""What an engine asks of a vLLM server, and what happens when that fails. The server here is a stand-in that needs no vLLM: it
speaks the same few words, and takes the weights it is sent. (`test_vllm.py` has the real one.)"""

from __future__ import annotations

import contextlib
import copy
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from safetensors.torch import load_file

import workbench as wb
from workbench import models, sample
from workbench.batch import Batch, Dialogue, Segment
from workbench.sample import vllm_server
from workbench.sample.weights import fingerprint, merged_weights

PROMPTS = [[1, 20, 2], [1, 20, 2], [1, 30, 31, 2]]


class StandIn(ThreadingHTTPServer):
    """Attributes: asked: (path, body) so far. fail: statuses for the next questions. slow: seconds before an answer."""

    def __init__(self, policy, port=0):
        super().__init__(("127.0.0.1", port), Answer)
        self.model = copy.deepcopy(policy.model)
        for value in self.model.parameters():
            value.data.zero_()
        self.asked, self.fail, self.slow, self.tag, self.deaf = [], [], 0.0, "", False
        self.lock = threading.Lock()
        self.address = f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, path, body):
        if path == "/v1/models":
            return {"data": [{"id": "policy", "max_model_len": 256}]}
        if path == "/reset_prefix_cache":
            return {"success": True}
        if path == "/collective_rpc":
            if body["method"] == "set_weights_from":
                if not self.deaf:
                    self.model.load_state_dict(load_file(body["args"][0]), strict=False)
                self.tag = body["args"][1]
            return {"results": [[self.tag] if body["method"] == "tell_tag" else None]}
        (one,) = sample.HuggingFaceEngine(self.model).start([body["prompt"]], seed=body["seed"]).sample(
            [0], max_tokens=body["max_tokens"], stop=body["stop_token_ids"], temperature=body["temperature"],
            top_p=body["top_p"], top_k=body["top_k"],
        )  # fmt: skip
        return {"choices": [{"token_ids": one.ids, "logprobs": {"token_logprobs": one.logps}}]}


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.do_POST()

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        with self.server.lock:
            self.server.asked.append((self.path, body))
            status = self.server.fail.pop(0) if self.server.fail else 200
            said = self.server.answer(self.path, body) if status == 200 else {"error": "so it was planned"}
        time.sleep(self.server.slow)
        with contextlib.suppress(OSError):  # who asked may have gone
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(said).encode())

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def serving(policy):
    server = StandIn(policy)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch):
    monkeypatch.setattr(vllm_server, "PAUSE", 0.01)


@pytest.fixture
def policy():
    return models.tiny("0.1m", seed=2)


@pytest.fixture
def server(policy):
    with serving(policy) as one:
        yield one


def counted(server, path):
    return sum(asked == path for asked, _ in server.asked)


def test_weights_are_sent_when_they_changed_and_never_else(policy, server):
    engine = sample.VLLMEngine(policy, server=server.address)
    assert engine.context == 256 and not engine.exact
    for updates in (1, 2, 3):
        session = engine.start(PROMPTS, seed=0)
        engine.start(PROMPTS, seed=1)
        assert engine.updates == updates
        said = session.sample(range(3), max_tokens=6, stop=[3], temperature=0.8)
        rows = enumerate(zip(PROMPTS, said))
        batch = Batch.from_dialogues([Dialogue(p, n, [Segment(one.ids, one.logps)], [0.0]) for n, (p, one) in rows])
        assert sample.mismatch(policy, batch, temperature=0.8).largest < 1e-5
        assert said[0].ids != said[1].ids, "each row has a seed of its own"
        with torch.no_grad():
            (policy.model.lm_head.weight if updates == 1 else policy.model.model.norm.weight.data).mul_(1.5)
    assert counted(server, "/reset_prefix_cache") == 3


def test_a_fingerprint_sees_every_kind_of_change(policy):
    seen = [fingerprint(policy.model)]
    assert fingerprint(policy.model) == seen[0] == fingerprint(policy.model)
    weight = policy.model.model.layers[0].mlp.up_proj.weight
    with torch.no_grad():
        weight[0, 0] += 1
    seen.append(fingerprint(policy.model))
    weight.data[1, 1] += 1  # PyTorch does not count this one
    seen.append(fingerprint(policy.model))
    with torch.no_grad():
        weight[:2] = weight[:2].flip(0)  # the same numbers elsewhere
    seen.append(fingerprint(policy.model))
    assert len(set(seen)) == len(seen)
    assert fingerprint(policy.model.to(torch.bfloat16)) not in seen


def test_merged_weights_are_those_of_the_adapted_model(policy):
    """LoRA on all linear layers and on the embedding, and a layer that is trained whole; the policy is left as it was."""
    peft = pytest.importorskip("peft")
    adapter = peft.LoraConfig(r=4, target_modules=["q_proj", "down_proj", "embed_tokens"], modules_to_save=["norm"], lora_alpha=8)
    policy.model.config.tie_word_embeddings = False
    untied = models.LanguageModel(type(policy.model)(policy.model.config), policy.tokenizer)
    names = set(untied.model.state_dict())
    adapted = peft.get_peft_model(untied.model, adapter)
    with torch.no_grad():
        for value in adapted.parameters():
            if value.requires_grad:
                value.add_(0.1 * torch.randn(value.shape, generator=torch.Generator().manual_seed(0)))
    before = [value.clone() for value in adapted.parameters()]
    said = {}
    for on in (True, False):
        with contextlib.nullcontext() if on else adapted.disable_adapter():
            said[on] = adapted(torch.tensor(PROMPTS[2:])).logits, fingerprint(adapted), merged_weights(adapted)
    assert said[True][1] != said[False][1], "an adapter that is off is a change"
    for logits, _, weights in said.values():
        assert set(weights) == names
        plain = type(policy.model)(policy.model.config)
        plain.load_state_dict(weights)
        torch.testing.assert_close(plain(torch.tensor(PROMPTS[2:])).logits, logits, rtol=0, atol=1e-5)
    assert (said[True][0] - said[False][0]).abs().max() > 0.01
    assert all(torch.equal(a, b) for a, b in zip(before, adapted.parameters()))
    with pytest.raises(ValueError, match="is quantised .torch.uint8.*hugging_face"):
        untied.model.lm_head.register_buffer("packed", torch.zeros(2, dtype=torch.uint8))
        merged_weights(untied.model)


def test_wrong_weights_do_not_pass(policy, server):
    server.deaf = True
    engine = sample.VLLMEngine(policy, server=server.address)
    with pytest.raises(RuntimeError, match="does not compute with them: log-probabilities differ by .*: use engine='hugging"):
        engine.start(PROMPTS, seed=0)
    server.deaf = False
    engine.start(PROMPTS, seed=0)
    assert sample.VLLMEngine(policy, server=server.address, dtype="bfloat16").tolerance > engine.tolerance


def test_a_server_that_was_restarted_or_shared_is_noticed(policy, server):
    engine = sample.VLLMEngine(policy, server=server.address)
    session = engine.start(PROMPTS, seed=0)
    server.tag = "of somebody else"
    with pytest.raises(RuntimeError, match="got other weights while this session was sampling"):
        session.sample([0], max_tokens=2, stop=[])
    engine.start(PROMPTS, seed=0).sample([0], max_tokens=2, stop=[])
    assert engine.updates == 2


def test_questions_are_repeated_twice(policy, server):
    engine = sample.VLLMEngine(policy, server=server.address)
    session = engine.start(PROMPTS, seed=0)
    before = counted(server, "/v1/completions")
    server.fail = [500, 503]
    (one,) = session.sample([0], max_tokens=4, stop=[])
    assert counted(server, "/v1/completions") == before + 3
    assert one.ids == engine.start(PROMPTS, seed=0).sample([0], max_tokens=4, stop=[])[0].ids
    server.fail = [500, 500, 500]
    with pytest.raises(RuntimeError, match=r"failed: 500 .*so it was planned.*; asked 3 times for /v1/comp.*last checkpoint"):
        session.sample([0], max_tokens=4, stop=[])
    server.fail = [400]
    with pytest.raises(ValueError, match="refused /v1/completions: 400 .*so it was planned"):
        session.sample([0], max_tokens=4, stop=[])


def test_a_slow_server(policy, server):
    engine = sample.VLLMEngine(policy, server=server.address, timeout=0.2)
    session = engine.start(PROMPTS, seed=0)
    before, server.slow = counted(server, "/v1/completions"), 0.6
    with pytest.raises(TimeoutError, match=r"did not answer within 0.2 s; asked 3 times .* longer timeout"):
        session.sample([0], max_tokens=4, stop=[])
    assert counted(server, "/v1/completions") == before + 3


def test_a_server_that_was_started_otherwise(policy, server):
    server.fail = [200, 404]
    with pytest.raises(ValueError, match=r"started by sample.serve.policy., or with VLLM_SERVER_DEV_MODE=1"):
        sample.VLLMEngine(policy, server=server.address)
    with pytest.raises(ConnectionError, match="127.0.0.1:9 cannot be reached"):
        sample.VLLMEngine(policy, server="http://127.0.0.1:9")


def test_a_training_survives_its_server(policy, tmp_path):
    """It stops with its last step in the folder, and goes on with another server, to the bits of a run that was not disturbed."""
    list(wb.sft(policy, "addition", steps=20, batch_size=16))
    start = copy.deepcopy(policy)

    def training(policy, address, run, steps=4):
        engine = sample.VLLMEngine(policy, server=address)
        recipe = wb.recipes.grpo.but("longer", reward=(wb.outcome(), wb.soft_overlong(4, 4)))
        return wb.train(policy, "addition", recipe, steps=steps, prompts=2, engine=engine, run=run)

    with serving(policy) as server:
        running = training(policy, server.address, tmp_path / "run")
        records = [next(running), next(running)]
    with pytest.raises(ConnectionError, match="start it again .sample.serve., and then the training with the same folder"):
        next(running)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
    assert json.loads(lines[0])["mismatch_largest"] < 1e-4
    with serving(policy) as server:
        rest = list(training(policy, server.address, tmp_path / "run"))
        assert [record.step for record in rest] == [3, 4]
        whole = list(training(start, server.address, tmp_path / "whole"))
    assert [record.reward for record in whole] == [record.reward for record in [*records, *rest]]
    assert records[0].gradient_norm > 0
    assert all(torch.equal(a, b) for a, b in zip(start.parameters(), policy.parameters()))


def test_without_vllm_the_message_has_the_command(policy, monkeypatch):
    from workbench.sample import vllm_start

    monkeypatch.setattr(vllm_start.importlib.util, "find_spec", lambda name: None)
    for attempt in (lambda: sample.engine_of(policy, "vllm"), lambda: sample.serve(policy).__enter__()):
        with pytest.raises(ImportError, match="vLLM is not installed: make vllm"):
            attempt()
    with pytest.raises(ImportError, match="make vllm"):
        next(wb.train(policy, "addition", steps=1, engine="vllm"))


def test_a_version_that_was_not_tested_is_told(monkeypatch):
    from workbench.sample import vllm_start

    monkeypatch.setattr(vllm_start.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(vllm_start.importlib.metadata, "version", lambda name: "0.41.0")
    with pytest.warns(UserWarning, match=r"vLLM 0.41.0 was not tested, 0.32.\* was"):
        vllm_start.need_vllm()
