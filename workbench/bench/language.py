"""Language models: sampling and training next to `transformers`, TRL and vLLM.

Same weights, same prompts, same number of tokens on both sides.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import importlib.util
import logging
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.bench import Paired, paired

PROMPTS, GROUP, NEW, LONGEST = 16, 8, 32, 64
ROWS = PROMPTS * GROUP
SIZES = ("0.2m", "0.8m", "5m")
TARGETS = {"sampling": 2.2, "GRPO step": 2.2}  # on the 0.8m model, in float32, one thread, fixed lengths


# ---- what is measured -------------------------------------------------------------------------------------------------


def bench_policy(size: str) -> Any:
    """A tiny model with random weights, doubled, so that its distributions are not flat."""
    import torch

    from workbench import models

    policy = models.tiny(size)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "norm" not in name:
                parameter.mul_(2)
    return policy


def bench_prompts() -> list[str]:
    """Sixteen prompts of 12 characters."""
    from workbench import seeding

    rng = seeding.generator(0, "bench")
    return ["".join(str(n) for n in rng.integers(0, 10, 12)) for _ in range(PROMPTS)]


def matmul_rate(dtype: str = "float32", onednn: bool = False) -> float:
    """Multiply-adds a second, times 2 (FLOP/s), of products shaped like the 0.8m model's: the best of several."""
    import torch

    from workbench.models import fast

    a, b = torch.randn(1024, 128).to(getattr(torch, dtype)), torch.randn(128, 768).to(getattr(torch, dtype))
    best = float("inf")
    with fast.onednn(a.shape[0] * b.numel()) if onednn else contextlib.nullcontext():
        for _ in range(30):
            start = time.process_time()
            a @ b
            best = min(best, time.process_time() - start)
    return 2 * a.shape[0] * b.numel() / best


def sampling(
    policy: Any, pairs: int, *, dtype: str = "float32", stop: Collection[int] = (), new: int = NEW
) -> Paired:
    """Our engine against `generate`: 16 prompts, 8 completions each, to `new` tokens or a stop id."""
    import torch

    from workbench import models, sample

    prompts = [ids for text in bench_prompts() for ids in [models.prompt_ids(policy.tokenizer, text)] * GROUP]
    engine, tensor = sample.LocalEngine(policy, dtype=dtype), torch.tensor(prompts)
    lengths = {} if stop else {"min_new_tokens": new}

    def theirs() -> None:
        policy.model.generate(
            tensor, attention_mask=torch.ones_like(tensor), do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
            max_new_tokens=new, pad_token_id=0, eos_token_id=list(stop) or policy.eos, **lengths,
        )  # fmt: skip

    return paired(
        theirs, lambda: engine.start(prompts, seed=0).sample(range(ROWS), max_tokens=new, stop=stop), pairs
    )


def gradient(policy: Any, pairs: int, *, ragged: bool) -> Paired:
    """Our forward and backward pass against the transformers model's own, on the same batch."""
    from workbench.models.language import evaluate_with_transformers

    batch = sampled_batch(policy, "float32", ragged)

    def step(evaluate: Callable[..., Any]) -> None:
        policy.zero_grad()
        evaluate(policy.model, batch).logp.sum().backward()

    from workbench.models import fast

    return paired(lambda: step(evaluate_with_transformers), lambda: step(fast.evaluate), pairs)


@dataclass(frozen=True)
class Digits:
    """A task of one turn in which every episode learns something: the outcome is the share of digits in the text."""

    max_tokens: int = NEW
    name = "digits"
    tools = ()
    max_turns = 1

    def problem(self, index: int, *, split: str = "train", seed: int = 0) -> Any:
        from workbench.tasks import Problem

        return Problem(bench_prompts()[index % PROMPTS], "")

    def episode(self, problem: Any) -> Any:
        return self

    def step(self, text: str) -> Any:
        from workbench.tasks import Reply

        return Reply(None, done=True, outcome=share_of_digits(text))


def share_of_digits(text: str) -> float:
    """The reward that both trainers are given: cheap, and different from rollout to rollout."""
    return sum(c.isdigit() for c in text) / max(len(text), 1)


class FixedLength:
    """An engine whose rows never end early, as `min_new_tokens` does for generate."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.context = engine, engine.context

    def start(self, prompts: Sequence[Sequence[int]], *, seed: int) -> FixedLength:
        self.session = self.engine.start(prompts, seed=seed)
        return self

    def sample(self, rows: Sequence[int], *, stop: Collection[int], **settings: Any) -> list[Any]:
        from workbench.sample import Completion

        found = self.session.sample(rows, stop=(), **settings)
        return [Completion(c.ids, c.logps, True) for c in found]  # complete, so that the task is asked


def sampled_batch(policy: Any, dtype: str, ragged: bool) -> Any:
    """128 episodes of `NEW` tokens, or of lengths from 1 to twice that (mean about `NEW` / 2)."""
    import torch

    from workbench import sample, seeding

    engine = FixedLength(sample.LocalEngine(policy, dtype=dtype))
    task = Digits(LONGEST if ragged else NEW)
    problems = [task.problem(n) for n in range(PROMPTS)]
    batch = sample.rollout(engine, task, policy.tokenizer, problems, group_size=GROUP, seed=0)  # type: ignore[arg-type]
    if not ragged:
        return batch
    drawn = seeding.generator(0, "bench", "lengths").geometric(2 / NEW, ROWS).clip(1, LONGEST)
    keep = torch.arange(batch.tokens.shape[1]) < (batch.prompt_length + torch.from_numpy(drawn))[:, None]
    return batch.replace(
        mask=batch.mask & keep, tokens=batch.tokens * keep, turn=torch.where(keep, batch.turn, -1),
        logp_old=batch.logp_old * keep, length=keep.sum(1),
    )  # fmt: skip


def grpo_step(size: str, pairs: int, *, dtype: str = "float32", checkpointing: bool = False) -> Paired:
    """A whole step, from prompts to new weights: `workbench.train` against TRL's GRPOTrainer, in turn in its callback.

    Both: same start weights, 128 completions of exactly 32 tokens in groups of 8, the GRPO loss, one AdamW step at the same
    rate, no KL term, no reference model, float32. checkpointing: TRL's default, which saves memory by computing twice;
    without it is the fair comparison of the same work.
    """
    import torch
    from datasets import Dataset, disable_progress_bars
    from transformers import PrinterCallback, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from workbench import recipes, sample
    from workbench.train import train

    disable_progress_bars()
    policy = bench_policy(size)
    theirs = copy.deepcopy(policy.model)
    engine: Any = FixedLength(sample.LocalEngine(policy, dtype=dtype))
    task: Any = Digits()
    ours = train(policy, task, recipes.grpo, steps=pairs + 2, prompts=PROMPTS, lr=1e-5, engine=engine)
    times: tuple[list[float], list[float]] = ([], [])

    class InTurn(TrainerCallback):
        start = 0.0

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            times[0].append(time.process_time() - self.start)
            start = time.process_time()
            next(ours)
            times[1].append(time.process_time() - start)
            gc.collect()
            InTurn.start = time.process_time()

    with tempfile.TemporaryDirectory() as folder:
        theirs.name_or_path = folder
        config = GRPOConfig(
            output_dir=folder, per_device_train_batch_size=ROWS, num_generations=GROUP, max_steps=pairs + 1,
            max_completion_length=NEW, generation_kwargs={"min_new_tokens": NEW}, learning_rate=1e-5, beta=0.0, loss_type="grpo",
            lr_scheduler_type="constant", max_grad_norm=1.0, use_cpu=True, bf16=False, gradient_checkpointing=checkpointing,
            report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True, temperature=1.0, top_k=0,
        )  # fmt: skip
        trainer = GRPOTrainer(
            model=theirs,
            args=config,
            processing_class=policy.tokenizer,
            reward_funcs=lambda completions, **_: [share_of_digits(text) for text in completions],
            train_dataset=Dataset.from_dict({"prompt": [f"<U>{text}<A>" for text in bench_prompts()]}),
            callbacks=[InTurn()],
        )
        trainer.remove_callback(PrinterCallback)
        InTurn.start = time.process_time()
        trainer.train()
    ours.close()
    moved = [
        (a - b).abs().max().item() for a, b in zip(theirs.parameters(), bench_policy(size).model.parameters())
    ]
    if not max(moved) > 0 or torch.equal(
        policy.model.lm_head.weight, bench_policy(size).model.lm_head.weight
    ):
        raise RuntimeError("one of the two did not train: the comparison is void")
    return Paired(times[0][1:], times[1][1:])  # the first step is warm-up


def vllm_sampling(size: str, pairs: int) -> tuple[Paired, float]:
    """Our engine against vLLM's, in this process: times by the clock, and the largest difference of log-probabilities."""
    os.environ.update(
        VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_CPU_KVCACHE_SPACE="1", VLLM_LOGGING_LEVEL="ERROR",
        VLLM_CPU_NUM_OF_RESERVED_CPU="0", VLLM_CPU_OMP_THREADS_BIND=str(min(os.sched_getaffinity(0))), VLLM_NO_USAGE_STATS="1",
    )  # fmt: skip
    import torch
    from vllm import LLM, SamplingParams

    from workbench import models, sample

    policy = bench_policy(size)
    texts = [models.prompt_ids(policy.tokenizer, text) for text in bench_prompts()]
    prompts = [ids for ids in texts for _ in range(GROUP)]
    with tempfile.TemporaryDirectory() as folder:
        policy.save(folder)
        llm = LLM(
            folder, dtype="float32", enforce_eager=True, logprobs_mode="processed_logprobs", max_num_seqs=ROWS,
            max_model_len=128, block_size=32, disable_log_stats=True,
        )  # fmt: skip
    settings = SamplingParams(
        n=GROUP, max_tokens=NEW, ignore_eos=True, logprobs=0, detokenize=False
    )
    torch.set_num_threads(1)

    def theirs() -> Any:
        return llm.generate([{"prompt_token_ids": ids} for ids in texts], settings, use_tqdm=False)

    engine = sample.LocalEngine(policy)

    def ours() -> Any:
        return engine.start(prompts, seed=0).sample(range(ROWS), max_tokens=NEW, stop=[])

    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(pairs + 1):
        for act, found in zip((theirs, ours), times):
            start = time.perf_counter()
            result = act()
            if turn:
                found.append(time.perf_counter() - start)
            elif act is theirs:
                first = result[0].outputs[0]
    logps = torch.log_softmax(policy.model(torch.tensor([texts[0] + list(first.token_ids)])).logits[0], 1)
    place = len(texts[0]) - 1
    exact = [logps[place + n, i].item() for n, i in enumerate(first.token_ids)]
    said = [entry[i].logprob for entry, i in zip(first.logprobs, first.token_ids)]
    return Paired(*times), max(abs(a - b) for a, b in zip(exact, said))


# ---- the report -------------------------------------------------------------------------------------------------------


def machine() -> Iterator[str]:
    """What the ratios depend on, line by line."""
    import torch

    from workbench.models import fast

    name = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if "model name" in line),
        platform.processor(),
    )
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    yield f"{name}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}, load {load:.1f} at the start"
    versions = [f"{lib} {_version(lib)}" for lib in ("torch", "transformers", "trl", "vllm-cpu")]
    yield f"{', '.join(versions)}; one thread; large blocks of memory are kept in the process (mallopt), for all sides alike"
    rates = {
        "MKL": matmul_rate(),
        "as we use it": matmul_rate(onednn=True),
        "bfloat16": matmul_rate("bfloat16"),
    }
    yield "matrix products, GFLOP/s: " + ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in rates.items())
    yield f"oneDNN for float32 products: {'yes' if fast._prefer_onednn() else 'no'}"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _version(library: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(library)
    except PackageNotFoundError:
        return "-"


def report(pairs: int, *, quick: bool = False, show: Callable[[str], None] = print) -> dict[str, Paired]:
    """Run everything, or with `quick` the 0.8m model only, and print it; the ratios by name."""
    import torch

    from workbench.models import fast

    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    warnings.filterwarnings("ignore")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    fast.tune_allocator()
    try:
        return _report(("0.8m",) if quick else SIZES, pairs, show)
    finally:
        torch.set_num_threads(threads)


def _report(sizes: Sequence[str], pairs: int, show: Callable[[str], None]) -> dict[str, Paired]:
    from workbench import sample

    found: dict[str, Paired] = {}

    def line(size: str, name: str, result: Paired, note: str = "") -> None:
        found[f"{size} {name}"] = result
        show(f"  {size:5s} {name:38s} {result}  {note}")

    for text in machine():
        show(text)
    rate = matmul_rate(onednn=True)
    show(f"\n{ROWS} completions of {NEW} tokens, groups of {GROUP}; how many times sooner ours is done:")
    for size in sizes:
        policy = bench_policy(size)
        weights = sum(p.numel() for p in policy.parameters())
        prompt = PROMPTS * (len(bench_prompts()[0]) + 2)
        fed = prompt + ROWS * (NEW - 1)  # tokens that go through the model
        fixed = sampling(policy, pairs)
        speed, share = (
            ROWS * NEW / statistics.median(fixed.ours),
            2 * weights * fed / statistics.median(fixed.ours) / rate,
        )
        line(size, "sampling: generate", fixed, f"{speed:,.0f} tokens/s, {share:.0%} of the product rate")
        gap = sample.mismatch(policy, sampled_batch(policy, "bfloat16", False))
        line(size, "sampling in bfloat16: generate", sampling(policy, pairs, dtype="bfloat16"), str(gap))
        stops = range(8, 16)  # one id in sixteen
        ragged = sampling(policy, pairs, stop=stops, new=LONGEST)
        line(size, f"sampling, ragged, at most {LONGEST}: generate", ragged)
        line(size, "gradient: transformers", gradient(policy, pairs, ragged=False))
        line(size, "gradient, ragged: transformers", gradient(policy, pairs, ragged=True))
        if importlib.util.find_spec("trl"):
            step = grpo_step(size, pairs)
            share = (
                4 * 2 * weights * fed / statistics.median(step.ours) / rate
            )  # sampling, forward, twice that backward
            line(size, "GRPO step: TRL", step, f"{share:.0%} of the product rate")
            line(
                size,
                "GRPO step: TRL with its defaults",
                grpo_step(size, pairs, checkpointing=True),
                "it checkpoints",
            )
            line(size, "GRPO step, sampling in bfloat16: TRL", grpo_step(size, pairs, dtype="bfloat16"))
        else:
            show(f"  {size:5s} GRPO step: skipped, TRL is not installed (pip install workbench[scale])")
        if importlib.util.find_spec("vllm"):
            try:
                result, largest = vllm_sampling(size, pairs)
                line(size, "sampling: vLLM", result, f"vLLM's log-probabilities within {largest:.1e}")
            except Exception as error:  # another program's start-up: tell, and go on
                show(
                    f"  {size:5s} sampling: vLLM: skipped, it did not start: {type(error).__name__}: {error}"
                )
        else:
            show(f"  {size:5s} sampling: vLLM: skipped, it is not installed (make vllm)")
    show("")
    for name, target in TARGETS.items():
        for key, result in found.items():
            if key.startswith(f"0.8m {name}:") and "defaults" not in key:
                verdict = "reached" if result.ratio >= target else "not reached"
                show(f"target on 0.8m, {name}: {target}x, {verdict} ({result.ratio:.2f}x)")
    return found
