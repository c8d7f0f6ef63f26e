"""The vLLM engine: samples with continuous batching, in this process or from a server on this machine.

    engine = VLLMEngine(policy)                      # in this process
    with serve(policy) as address:                   # in processes of its own, listening on loopback only
        engine = VLLMEngine(policy, server=address)

vLLM keeps a copy of the weights, in a layout of its own. `start` compares the policy's weights with those that were sent last;
if they differ it sends them all, empties the cache of prefixes, and then lets vLLM sample a few tokens whose log-probabilities
must be the policy's. That check is there because the library, asked for the same, has reported success and gone on with an old
output layer (tied embeddings, CPU build 0.32), an old cache, or an old adapter under a number it knew.

Adapters (LoRA and others of PEFT) are merged into a copy of the layers they adapt, and whole weights are sent: one way for
every policy, adapters on embeddings and whole retrained layers included, and no adapter number that could be served stale.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch

from workbench import seeding
from workbench.batch import Batch, Dialogue, Segment
from workbench.models.language import evaluate_with_transformers
from workbench.sample.engine import Completion, Rows, check_prompts, check_sampling, model_of
from workbench.sample.rollout import Mismatch
from workbench.sample.vllm_server import Server
from workbench.sample.vllm_start import TESTED, InProcess, Request, dtype_name, in_process
from workbench.sample.weights import fingerprint, merged_weights

COLDEST = 0.01  # vLLM silently takes this temperature for any lower one above 0
PROBES, PROBE_LENGTH, PROBE_TOKENS, PROBE_TEMPERATURE = 8, 40, 4, 2.0  # longer than a block of vLLM's cache of prefixes
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.02}  # of the mean difference there, nats


class VLLMEngine:
    """Sampling from any policy whose model vLLM knows.

    A session samples from the weights of its start; once the engine has sent newer ones, the session is over. Same seed: a row
    draws from a stream of its own, so the same weights, version and machine gave the same ids whenever we looked, whatever the
    other rows were. vLLM promises less: how many rows it computes together depends on timing, products over other numbers of rows
    round differently, and a draw near an edge may then fall on its other side. Ids are not those of the other engines.

    Args:
        policy: a `LanguageModel`, or the bare transformers model (also wrapped by PEFT).
        server: the address of a running server, such as "http://127.0.0.1:8000" (see `serve`); None: in this process.
        dtype: what vLLM computes in, e.g. "bfloat16"; default: the policy's. A server has its own: say which.
        context: tokens in the longest row, to save memory; default: the model's.
        tolerance: the largest mean |log p of the policy - log p of vLLM| that the check after an update accepts, in nats.
        timeout: seconds to wait for a server's answer, each time; it is asked three times.
        settings: more arguments of `vllm.LLM`, such as {"gpu_memory_utilization": 0.5}; not with a server.
    Attributes:
        updates: how often weights were sent.
    Raises:
        ImportError: vLLM is not installed. ValueError: settings that make no sense, or a model with quantised weights.
    """

    exact = False

    def __init__(
        self, policy: Any, *, server: str | None = None, dtype: str | None = None, context: int | None = None,
        tolerance: float | None = None, timeout: float = 600.0, settings: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.policy = policy
        self.model: Any = model_of(policy)
        config = self.model.config.get_text_config()
        self.vocab_size: int = config.vocab_size
        own = getattr(config, "max_position_embeddings", None)
        if context is not None and not 1 <= context <= (own or context):
            raise ValueError(f"context must be from 1 to the model's own {own}, not {context!r}")
        self.context: int | None = context or own
        computes = getattr(torch, dtype) if dtype else next(self.model.parameters()).dtype
        self.tolerance = TOLERANCE.get(computes, 0.05) if tolerance is None else tolerance
        self.updates = 0
        self.tag = ""  # of the weights that are served
        self._sent: Any = None
        self._backend: InProcess | Server
        if server is None:
            self._backend = in_process(self, self.model, dtype_name(computes), self.context, settings or {})
        elif settings:
            raise ValueError("settings are of vLLM in this process; give them to serve(), which starts the server")
        else:
            self._backend = Server(server, timeout)
            self.context = min(filter(None, (self.context, self._backend.context)), default=None)

    def start(self, prompts: Sequence[Sequence[int]], *, seed: int) -> VLLMSession:
        """See `Engine.start`.

        Raises:
            RuntimeError: vLLM took new weights and does not compute with them; or a server failed.
            ConnectionError, TimeoutError: the server is not there, or too slow.
        """
        check_prompts(prompts, self.vocab_size, self.context)
        seeding.sequence(seed, "sample")  # refuse a bad seed now
        self.update()
        return VLLMSession(self, prompts, seed)

    def update(self) -> None:
        """Make vLLM's weights the policy's. `start` calls this; it does nothing where they are known to be equal."""
        now = fingerprint(self.model)
        if self._sent == now and self.served() == self.tag:
            return
        self._sent, self.tag = None, uuid.uuid4().hex
        self._backend.load(merged_weights(self.model), self.tag)
        self._verify()
        self._sent = now
        self.updates += 1

    def generate(self, requests: list[Request]) -> list[tuple[list[int], list[float]]]:
        """Ids and log-probabilities of one completion for each request."""
        return self._backend.generate(requests) if requests else []

    def served(self) -> str:
        """The tag of the weights that vLLM says it has: another trainer may use the same server, or somebody restarted it."""
        return self._backend.tag()

    def close(self) -> None:
        """Do without vLLM; in this process it goes when the last engine has done so. A server goes on."""
        self._backend.leave(self)

    def _verify(self) -> None:
        """Let vLLM sample, as it always does, and compare: only the weights and an empty cache of prefixes give these numbers."""
        rng = seeding.generator(0, "vllm", "probe")
        length = min(PROBE_LENGTH, (self.context or PROBE_LENGTH + PROBE_TOKENS) - PROBE_TOKENS)
        prompts = rng.integers(0, self.vocab_size, (PROBES, max(length, 1))).tolist()
        session = VLLMSession(self, prompts, 0)
        said = session.sample(range(PROBES), max_tokens=PROBE_TOKENS, stop=[], temperature=PROBE_TEMPERATURE)
        batch = Batch.from_dialogues([
            Dialogue(prompt, n, [Segment(one.ids, one.logps)], [0.0]) for n, (prompt, one) in enumerate(zip(prompts, said))
        ]).to(next(self.model.parameters()).device)  # fmt: skip
        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                own = evaluate_with_transformers(self.model, batch, PROBE_TEMPERATURE).logp
        finally:
            self.model.train(training)
        gap = Mismatch.of((own - batch.logp_old)[batch.mask])
        if not gap.mean <= self.tolerance:  # nan fails too
            raise RuntimeError(
                "vLLM took the policy's weights and does not compute with them: log-probabilities differ by "
                f"{gap.mean:.1e} on average, {gap.largest:.1e} at most; allowed is {self.tolerance:.0e} average. "
                f"Either an update does not reach every layer in this version of vLLM ({TESTED}.* was tested): use "
                "engine='hugging_face'. Or vLLM computes in another precision than the policy: say which, VLLMEngine(dtype=...)"
            )


class VLLMSession(Rows):
    """Nothing but the ids is kept between calls: vLLM finds earlier tokens in its own cache of prefixes."""

    def __init__(self, engine: VLLMEngine, prompts: Sequence[Sequence[int]], seed: int) -> None:
        super().__init__(prompts, engine.vocab_size, engine.context)
        self.engine, self.seed, self.tag = engine, seed, engine.tag

    def sample(
        self, rows: Sequence[int], *, max_tokens: int, stop: Collection[int], temperature: float = 1.0,
        top_p: float = 1.0, top_k: int = 0,
    ) -> list[Completion]:  # fmt: skip
        check_sampling(rows, len(self.rows), self.vocab_size, max_tokens, stop, temperature, top_p, top_k)
        if 0 < temperature < COLDEST:
            raise ValueError(f"vLLM samples at temperature 0 (greedy) or from {COLDEST} on, not at {temperature!r}")
        room = {row: self.room(row, max_tokens) for row in rows}
        stops = sorted({int(i) for i in stop})
        settings = {"temperature": float(temperature), "top_p": float(top_p), "top_k": int(top_k), "stop_token_ids": stops}
        live = [row for row in rows if room[row]]
        if self.tag != self.engine.tag:
            raise RuntimeError("the engine has newer weights than this session was started with; start a new one")
        found = dict(zip(live, self.engine.generate([
            (self.rows[row], settings | {"max_tokens": int(room[row]), "seed": self._seed(row)}) for row in live
        ])))  # fmt: skip
        if live and self.engine.served() != self.tag:
            raise RuntimeError(
                "vLLM got other weights while this session was sampling: was the server restarted, or does another training use "
                "it? It serves one policy at a time; start a new session, or the training again from its last checkpoint"
            )
        completions = []
        for row in rows:
            ids, logps = found.get(row, ([], []))
            self.rows[row] += ids
            completions.append(Completion(ids, logps, bool(ids) and ids[-1] in stops))
        return completions

    def _seed(self, row: int) -> int:
        """Of what is drawn next: no number is used twice in a row."""
        return seeding.integer(self.seed, "sample", row, self.before[row] + len(self.rows[row]))
