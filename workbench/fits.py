"""What fits: the bytes and the seconds that training a model takes, before a weight of it is loaded.

Weights are counted by building the model without its numbers. What a pass of training keeps is counted by making the pass on
tensors without contents (torch's fake tensors): every architecture, adapter and number format is counted by its own code. What
cannot be known that way, such as what a GPU's driver takes, is a stated allowance.
"""

from __future__ import annotations

import copy
import dataclasses
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from workbench import models
from workbench.models.language import SIZES

GIB = 2**30
# Shapes of Qwen3 (arXiv:2505.09388): layers, width, heads, key-value heads, inner width, whether the embeddings are tied.
SHAPES = {
    "0.6b": (28, 1024, 16, 8, 3072, True), "1.7b": (28, 2048, 16, 8, 6144, True), "4b": (36, 2560, 32, 8, 9728, True),
    "8b": (36, 4096, 32, 8, 12288, False), "14b": (40, 5120, 40, 8, 17408, False), "32b": (64, 5120, 64, 8, 25600, False),
}  # fmt: skip
# TRL scores tokens in tiles of so many tokens and vocabulary entries (trl.kernels, 1.16)
TILE = (4096, 32768)
PROCESS = 0.55 * GIB  # of memory for Python and the libraries, TRL included (measured)
CUDA = 0.6 * GIB  # of a GPU's memory for its context (assumed)
WASTE = 0.1  # of what tensors take, for the gaps that allocators leave (measured: 0 to .2 with glibc)
VLLM = 1.5 * GIB  # for its graphs and buffers


# ---- counting bytes -----------------------------------------------------------------------------------------------------


class Meter(TorchDispatchMode):
    """Counts the bytes of all tensors made while it is entered: how many there are, and how many there were at most.

    A storage counts once, however many tensors share it, and until nobody holds it. What kernels use inside is not seen.

    Attributes:
        now, peak: bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: dict[int, int] = {}

    def count(self, *tensors: Tensor) -> None:
        """Count tensors that were there before."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage._cdata not in self._seen:
                self._seen[storage._cdata] = storage.nbytes()
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._gone, storage._cdata)

    def _gone(self, key: int) -> None:
        self.now -= self._seen.pop(key, 0)

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = call(*args, **(kwargs or {}))
        self.count(*(each for each in tree_leaves(made) if isinstance(each, Tensor)))
        return made


@dataclass(frozen=True)
class Plan:
    """How a model is to be trained.

    Attributes:
        rows: episodes in one pass on one GPU. context: tokens of an episode. prompt: how many of them nobody samples.
        rollouts: episodes of one step on one GPU, sampled side by side. turns: of an episode.
        dtype: of the weights. lora: rank of adapters, None to train all weights. bits: 4 for weights in 4 bits.
        checkpointing: keep what goes into each layer and compute the rest again (gradient checkpointing).
        gpus: each holds a whole copy. engine: "local", or "vllm" in the same memory.
        trainer: "trl" (scale.trainer), or "workbench" (workbench.train), which keeps two copies of what it trains.
    """

    rows: int = 8
    context: int = 1024
    prompt: int = 256
    rollouts: int = 128
    turns: int = 4
    dtype: str = "bfloat16"
    lora: int | None = None
    bits: int | None = None
    checkpointing: bool = False
    gpus: int = 1
    engine: str = "local"
    trainer: str = "trl"

    def __post_init__(self) -> None:
        for name in ("rows", "context", "rollouts", "turns", "gpus"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 1 <= self.prompt < self.context:
            raise ValueError(f"prompt must be from 1 to {self.context - 1} tokens of the context, not {self.prompt}")
        for name, known in (("dtype", ("float32", "bfloat16", "float16")), ("engine", ("local", "vllm")), ("bits", (None, 4)),
                            ("trainer", ("trl", "workbench"))):  # fmt: skip
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(map(str, known))}, not {getattr(self, name)!r}")
        if self.bits and not self.lora:
            raise ValueError("weights in 4 bits cannot be trained; give adapters too (lora)")


@dataclass(frozen=True)
class Need:
    """Bytes on one GPU, or of one process on a CPU.

    Attributes:
        parameters, trained: how many numbers. weights, adapters, gradients, optimiser: exact.
        activations: what a pass of training takes at its largest, above all these, the gradients of earlier passes included.
        copies: of `workbench.train`, to go back to. cache: keys and values of all rollouts at full length.
        sampler: what sampling takes besides. fixed: for Python and the libraries.
        training, sampling: the two peaks, with an allowance for gaps; the larger one must fit.
    """

    parameters: int
    trained: int
    weights: int
    adapters: int
    gradients: int
    optimiser: int
    activations: int
    copies: int
    cache: int
    sampler: int
    fixed: int

    @property
    def held(self) -> int:
        """What is there all the time, in tensors."""
        return self.weights + self.adapters + self.gradients + self.optimiser

    @property
    def training(self) -> int:
        return self.fixed + int((self.held + self.activations + self.copies) * (1 + WASTE))

    @property
    def sampling(self) -> int:
        return self.fixed + int((self.held + self.copies // 2 + self.cache + self.sampler) * (1 + WASTE))

    @property
    def peak(self) -> int:
        return max(self.training, self.sampling)


def config_of(model: str | Path, *, download: bool = False) -> Any:
    """The configuration of a model: a size such as "4b" (a Qwen3 of that size) or "0.8m" (one of ours), a folder, or a name.

    Raises:
        ValueError: no such size, and no such model here.
    """
    from transformers import AutoConfig, Qwen3Config

    name = str(model)
    if name.lower() in SHAPES:
        layers, width, heads, kv_heads, inner, tied = SHAPES[name.lower()]
        return Qwen3Config(
            vocab_size=151936, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, head_dim=128,
            num_key_value_heads=kv_heads, intermediate_size=inner, tie_word_embeddings=tied, max_position_embeddings=40960,
        )  # fmt: skip
    if name in SIZES:
        return models.tiny(name).model.config
    try:
        return AutoConfig.from_pretrained(name, local_files_only=not download)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{name!r} is no size ({', '.join([*SIZES, *SHAPES])}), no folder with a model, and not in the local Hugging Face "
            "cache; a size needs no download"
        ) from error


def need(config: Any, plan: Plan) -> Need:
    """The bytes that training by a plan takes."""
    size = getattr(torch, plan.dtype).itemsize
    whole = _built(config, plan)
    parameters = {name: weight for name, weight in whole.named_parameters() if "lora_" not in name}
    small = {name: weight for name, weight in whole.named_parameters() if "lora_" in name}
    trained = [weight for weight in whole.parameters() if weight.requires_grad]
    weights = sum(_stored(name, weight, plan) for name, weight in parameters.items())
    gradients = sum(_bytes(weight) for weight in trained)
    optimiser = 2 * gradients + 4 * len(trained)  # Adam: two averages of each number, and the count of steps
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    layer = plan.rollouts * plan.context * 2 * heads * head * size
    if plan.engine == "vllm":
        sampler = weights + int(VLLM)  # a copy of its own
    else:
        sampler = layer // 2 + 3 * 4 * plan.rollouts * text.vocab_size  # a layer's keys while they grow, and the distribution
    if plan.checkpointing:  # of every layer but the one at work only what goes in is kept
        states = plan.rows * plan.context * text.hidden_size * size
        activations = _pass(_built(config, plan, 1), plan) + text.num_hidden_layers * states
    else:
        activations = _pass(whole, plan)
    return Need(
        parameters=sum(weight.numel() for weight in parameters.values()), trained=sum(weight.numel() for weight in trained),
        weights=weights, adapters=sum(map(_bytes, small.values())), gradients=gradients, optimiser=optimiser,
        activations=activations + (gradients if plan.gpus > 1 else 0),  # what the GPUs tell each other
        copies=2 * (gradients + optimiser) if plan.trainer == "workbench" else 0,
        cache=layer * text.num_hidden_layers, sampler=sampler, fixed=int(CUDA if torch.cuda.is_available() else PROCESS),
    )  # fmt: skip


def _bytes(weight: Tensor) -> int:
    return weight.numel() * weight.element_size()


def _stored(name: str, weight: Tensor, plan: Plan) -> int:
    """The bytes of a weight: NF4 has 4 bits a number and, for blocks of 64, a scale of 8 bits and 4 bytes for 256 scales."""
    quantised = plan.bits == 4 and weight.ndim == 2 and "embed" not in name and "lm_head" not in name
    return int(weight.numel() * (0.5 + 1 / 64 + 4 / (64 * 256))) if quantised else _bytes(weight)


def _built(config: Any, plan: Plan, layers: int | None = None) -> Any:
    """The model as it would be trained, with `layers` layers, without its numbers."""
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(config)
    text = config.get_text_config()
    if layers is not None:
        text.num_hidden_layers = layers
        if getattr(text, "layer_types", None):
            text.layer_types = text.layer_types[:layers]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, plan.dtype), attn_implementation="sdpa")
        if plan.lora:
            import peft

            model = peft.get_peft_model(model, models.lora_config(plan.lora))
    return model.train()


def _pass(model: Any, plan: Plan) -> int:
    """The most bytes that one pass of training takes above weights and gradients, which an earlier pass has left there."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        made: dict[int, Tensor] = {}
        for module in model.modules():
            for name, weight in module._parameters.items():
                if weight is not None:
                    empty = torch.empty(weight.shape, dtype=weight.dtype)
                    module._parameters[name] = made.setdefault(id(weight), nn.Parameter(empty, weight.requires_grad))
            for name, value in module._buffers.items():
                if value is not None:
                    module._buffers[name] = torch.empty(value.shape, dtype=value.dtype)
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        for weight in trained:
            weight.grad = torch.empty_like(weight)
        with Meter() as meter:
            there = [weight.grad for weight in trained if weight.grad is not None]
            meter.count(*model.parameters(), *model.buffers(), *there)
            before = meter.now
            _loss(model, torch.zeros(plan.rows, plan.context, dtype=torch.long), plan).backward()
    return meter.peak - before


def _loss(model: Any, ids: Tensor, plan: Plan) -> Tensor:
    """A loss of the log-probabilities of all sampled tokens, as the trainer takes them."""
    inner = model.get_base_model() if plan.lora else model
    body, head, ids = inner.base_model, inner.get_output_embeddings(), ids[:, :-1]
    states = body(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)[0][:, plan.prompt - 1 :]
    if plan.trainer == "trl":
        return _Tiles.apply(states.reshape(-1, states.shape[-1]), head.weight).sum()
    logits = head(states)
    row = torch.zeros(states.shape[0] * states.shape[1], dtype=torch.long)
    logp = torch.log_softmax(logits[row, row].float() / 1.5, 1)
    return logp.gather(1, row[:, None]).sum() - (logp.exp() * logp).sum()


class _Tiles(torch.autograd.Function):
    """The sizes of TRL's fused output layer: one tile of logits at a time, and gradients that add up in float32."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(states, weight)
        tile = states.new_empty(min(len(states), TILE[0]), TILE[1])
        return tile[:, :1].float().sum().expand(len(states)).clone()

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> Any:
        states, weight = ctx.saved_tensors
        whole = torch.zeros(weight.shape, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        part = torch.zeros(states.shape, dtype=torch.float32)
        states.new_empty(min(len(states), TILE[0]), TILE[1])
        return part.to(states.dtype), None if whole is None else whole.to(weight.dtype)


# ---- this machine ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """Where the training is to run. memory: bytes of one GPU, or that are free on a machine without. gpus: how many."""

    name: str
    memory: int
    gpus: int


def machine() -> Machine:
    """What is here."""
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        return Machine(card.name, card.total_memory, torch.cuda.device_count())
    import psutil

    return Machine("this machine's memory", psutil.virtual_memory().available, 0)


@dataclass(frozen=True)
class Rates:
    """Measured here: floating-point operations a second of a product of matrices, and bytes a second read from memory."""

    operations: float
    bytes: float


def rates(dtype: str = "bfloat16", *, seconds: float = 0.3) -> Rates:
    """Measure both, for about `seconds` each."""
    device, kind = ("cuda" if torch.cuda.is_available() else "cpu"), getattr(torch, dtype)
    side = 4096 if device == "cuda" else 512
    a, b = torch.ones(side, side, dtype=kind, device=device), torch.ones(side, side, dtype=kind, device=device)
    long = torch.ones(2**28 if device == "cuda" else 2**24, dtype=torch.uint8, device=device)

    def a_second(act: Any, amount: float) -> float:
        act()
        if device == "cuda":
            torch.cuda.synchronize()
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            act()
            if device == "cuda":
                torch.cuda.synchronize()
            count += 1
        return count * amount / (time.perf_counter() - started)

    return Rates(a_second(lambda: a @ b, 2.0 * side**3), a_second(long.clone, 2.0 * long.numel()))


def seconds(config: Any, plan: Plan, needed: Need, rate: Rates, *, share: float = 0.4) -> tuple[float, float]:
    """A rough time of one step: sampling, and training, in seconds. Expect to be off by a factor of two.

    Operations: 2 a parameter and token forwards, as many backwards for states and again for gradients of weights that are
    trained; those of attention by the length. A step of sampling reads all weights, and the keys and values so far.

    Args:
        share: of the measured rate that training reaches.
    """
    text = config.get_text_config()
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    attention = 2.0 * plan.context * text.num_attention_heads * head * text.num_hidden_layers  # of a token, half seen on average
    forward = 2.0 * needed.parameters + attention
    times = 2.0 + (1.0 if plan.lora is None else 0.0) + (1.0 if plan.checkpointing else 0.0)
    tokens = plan.rollouts * plan.context
    said = plan.context - plan.prompt
    read = (needed.weights + needed.cache / 2) / rate.bytes
    sampling = said * max(read, plan.rollouts * forward / (share * rate.operations))
    return sampling, times * forward * tokens / (share * rate.operations)


def advice(config: Any, plan: Plan, room: float) -> list[str]:
    """Settings of `doctor` that would make it fit, the mildest first: one by one, then together with those before."""
    changes: list[tuple[str, dict[str, Any]]] = []
    rows = plan.rows
    while rows > 1:
        rows //= 2
        changes.append((f"--batch {rows}", {"rows": rows}))
    changes.append(("--checkpointing", {"checkpointing": True}))
    if plan.dtype == "float32":
        changes.append(("--dtype bfloat16", {"dtype": "bfloat16"}))
    if plan.lora is None:
        changes.append(("--lora 16", {"lora": 16}))
    changes += [(f"--rollouts {plan.rollouts // n}", {"rollouts": plan.rollouts // n}) for n in (2, 8) if plan.rollouts >= n]
    if plan.bits is None:
        changes.append(("--bits 4 --lora 16", {"bits": 4, "lora": plan.lora or 16}))
    together: dict[str, Any] = {}
    kept: dict[str, str] = {}
    for told, change in changes:
        together |= change
        kept[told.split()[0]] = told
        if need(config, dataclasses.replace(plan, **change)).peak <= room:
            return [told]
        if need(config, dataclasses.replace(plan, **together)).peak <= room:
            return list(kept.values())
    return []


def report(
    name: str, plan: Plan, *, download: bool = False, here: Machine | None = None, rate: Rates | None = None
) -> dict[str, Any]:  # fmt: skip
    """Everything `workbench doctor --model` says, as plain numbers (bytes, seconds) and words."""
    config = config_of(name, download=download)
    here = here or machine()
    needed = need(config, plan)
    room = here.memory
    fits = needed.peak <= room
    enough = not here.gpus or plan.gpus <= here.gpus
    sampling, training = seconds(config, plan, needed, rate or rates(plan.dtype))
    return {
        "model": name, "plan": dataclasses.asdict(plan), "machine": dataclasses.asdict(here), "room": int(room),
        "need": dataclasses.asdict(needed) | {"training": needed.training, "sampling": needed.sampling, "peak": needed.peak},
        "fits": fits, "enough_gpus": enough, "lower": [] if fits else advice(config, plan, room),
        "seconds": {"sampling": sampling, "training": training},
    }  # fmt: skip


def told(found: dict[str, Any]) -> str:
    """A report in words."""
    n, plan, here, took = found["need"], found["plan"], found["machine"], found["seconds"]
    some = f"{_count(n['trained'])} trained" if n["trained"] < n["parameters"] else "all trained"
    table = [
        (f"weights ({'4 bits' if plan['bits'] else plan['dtype']})", n["weights"]), ("adapters", n["adapters"]),
        ("gradients", n["gradients"]), ("optimiser (Adam)", n["optimiser"]),
        (f"a pass of {plan['rows']} x {plan['context']} tokens", n["activations"]), ("copies to go back to", n["copies"]),
        (f"keys and values of {plan['rollouts']} rollouts", n["cache"]),
        (f"the rest of sampling ({plan['engine']})", n["sampler"]), ("Python and libraries", n["fixed"]),
        ("peak while training, a tenth for gaps", n["training"]), ("peak while sampling, a tenth for gaps", n["sampling"]),
    ]  # fmt: skip
    lines = [f"{found['model']}: {_count(n['parameters'])} parameters, {some}", ""]
    lines += [f"  {what:<42}{_size(size):>10}" for what, size in table if size]
    on = f"each of {plan['gpus']} GPUs" if plan["gpus"] > 1 else here["name"]
    verdict = "Fits" if found["fits"] else "Does not fit"
    lines += ["", f"{verdict}: {_size(n['peak'])} are needed, {on} has {_size(found['room'])}."]
    if not found["enough_gpus"]:
        lines.append(f"{plan['gpus']} GPUs were asked for, {here['gpus']} are here.")
    if not found["fits"]:
        lower = " ".join(found["lower"])
        lines.append(f"It would fit with {lower}" if lower else "No setting makes it fit: take a smaller model.")
    lines.append(
        f"A step of {plan['rollouts']} rollouts: about {_time(took['sampling'])} of sampling and {_time(took['training'])} of "
        "training, from rates measured here; easily off by a factor of two."
    )
    return "\n".join(lines)


def _size(number: float) -> str:
    return f"{number / GIB:.1f} GiB" if number >= GIB / 10 else f"{number / 2**20:.1f} MiB"


def _count(number: int) -> str:
    return f"{number / 1e9:.2f} billion" if number >= 1e8 else f"{number / 1e6:.2f} million"


def _time(value: float) -> str:
    return f"{value:.1f} s" if value < 90 else f"{value / 60:.0f} min" if value < 5400 else f"{value / 3600:.1f} h"
