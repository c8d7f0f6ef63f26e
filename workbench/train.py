"""Training: the supervised warm start, the loop of reinforcement learning, and evaluation.

    for step in train(policy, "addition", "grpo", steps=50, seed=0, run="runs/first"):
        print(step.step, step.success)

One step of `sft` is all here; one of `train` is in `workbench.update`, to be read from the prompts to the gradient.
`workbench.loop` around both writes the run folder and takes care of stopping and going on.

Everything random comes from (seed, purpose, step), nothing from a stream that runs through the whole training. So a run that
goes on needs only the weights, the optimiser, its `Memory` of earlier steps (what prompts were asked, what is to be replayed)
and the number of the step: the bits are those of a run that was never stopped.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from workbench import models, objective, recipes, sample, sandbox, seeding, stats, tasks
from workbench.batch import Batch, Dialogue
from workbench.loop import State, as_row, device_of, loop, trainable, use_threads
from workbench.update import StepRecord, Update, optimiser_step, reinforce, without_errors

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class WarmStartRecord:
    """What one step of `sft` did. loss: nats a token. gradient_norm: before clipping. tokens: trained on."""

    step: int
    loss: float
    gradient_norm: float
    learning_rate: float
    tokens: int
    tokens_per_second: float
    seconds: float
    test_success: float | None = None
    rollouts: tuple[dict[str, Any], ...] = field(default=(), repr=False)

    def as_row(self) -> dict[str, float | None]:
        """Plain numbers by name, as in metrics.jsonl; None for what could not be measured."""
        return as_row(self)


@dataclass(frozen=True)
class Score:
    """How a policy does on problems it was not trained on.

    Attributes:
        success: mean outcome of the episodes without errors; low, high: its 95 % interval over problems (Wilson).
        episodes, errors: played to an end, and left out because the task raised. length, turns: means.
    """

    success: float
    low: float
    high: float
    episodes: int
    errors: int
    length: float
    turns: float


# ---- the three verbs --------------------------------------------------------------------------------------------------


def sft(
    policy: models.LanguageModel, task: str | tasks.Task, *, steps: int, batch_size: int = 32, lr: float = 4e-3,
    error_rate: float = 0.2, seed: int = 0, max_grad_norm: float = 1.0, run: str | Path | None = None,
    checkpoint_every: int = 50, evaluate_every: int = 0, threads: int | None = 1, progress: bool = False,
) -> Generator[WarmStartRecord, None, None]:  # fmt: skip
    """Supervised warm start: raise the probability of demonstrations, fresh ones in every step.

    A generator: each step happens when its record is asked for; stop when you like. AdamW; the learning rate rises to `lr` over
    the first tenth of the steps (without that, one seed in three learned addition late or not at all) and falls linearly to 0.

    Args:
        error_rate: share of demonstrations with a mistake in them: without, there is little for `train` to improve on.
        run: a folder; called again with the same arguments, the run goes on where it was. threads: see `train`.
    Raises:
        ValueError: bad settings, or a folder of another run. FloatingPointError: loss or gradient are not finite.
        OSError: the folder cannot be written or is in use; the message says what to do.
    """
    task = tasks.get(task)
    _check(steps=steps, batch_size=batch_size, lr=lr, max_grad_norm=max_grad_norm, checkpoint_every=checkpoint_every)
    state = State(policy, _adamw([(policy, lr)]))

    def advance(step: int) -> WarmStartRecord:
        started = time.perf_counter()
        batch = demonstrations(task, policy.tokenizer, step, batch_size, error_rate, seed).to(device_of(policy))
        rate = lr * min(1.0, step / max(1, steps // 10)) * (1 - (step - 1) / steps)
        state.optimiser.param_groups[0]["lr"] = rate
        loss = -policy.evaluate(batch).logp.sum() / batch.mask.sum()
        state.optimiser.zero_grad()
        loss.backward()
        norm = optimiser_step(state, state.parameters(), loss.item(), max_grad_norm, step)
        seconds, tokens = time.perf_counter() - started, int(batch.mask.sum())
        score = evaluate(policy, task, problems=128, seed=seed).success if _due(step, evaluate_every) else None
        return WarmStartRecord(step, loss.item(), norm, rate, tokens, tokens / seconds, seconds, score)

    config = {
        "kind": "sft", "task": _settings(task), "policy": _policy_settings(policy), "seed": seed, "steps": steps,
        "batch_size": batch_size, "lr": lr, "error_rate": error_rate, "max_grad_norm": max_grad_norm,
        "evaluate_every": evaluate_every,
    }  # fmt: skip
    return loop(advance, state, steps, seed, run, config, checkpoint_every, threads, progress, _judged_by(task))


def train(
    policy: models.LanguageModel, task: str | tasks.Task, recipe: str | recipes.Recipe = "grpo", *, steps: int, seed: int = 0,
    prompts: int = 16, lr: float = 3e-4, value_lr: float = 1e-2, temperature: float = 1.0, max_grad_norm: float = 1.0,
    engine: str | sample.Engine | None = None, recompute_logp: bool = False,
    correction: objective.Correction | None = None, rows_per_pass: int | None = None,
    run: str | Path | None = None, checkpoint_every: int = 1, evaluate_every: int = 0, threads: int | None = 1,
    progress: bool = False,
) -> Generator[StepRecord, None, None]:  # fmt: skip
    """Reinforcement learning on the training problems of a task.

    A generator: each step happens when its record is asked for. Stop when you like (break, close, interrupt): `policy` then
    has the weights of the last complete step. With a folder, the same call goes on from there, to the same bits.

    Args:
        recipe: a `Recipe` or a registered name. It also says how many rollouts a prompt gets, and how often they are used.
        prompts: distinct prompts in a step. temperature: of sampling and of the probabilities that are trained.
        lr: of AdamW, constant. value_lr: of the value head, where the recipe has one.
        engine: "local", "hugging_face", "vllm" (in this process; for a server make a `sample.VLLMEngine`), an engine, or None for
            the fastest that can run this policy. vLLM does not promise the same bits for the same seed.
        recompute_logp: take the old log-probabilities from the trainer's own forward pass, not from the engine.
        correction: do so, and weigh what was sampled by trainer over sampler; for an engine that is not exactly the policy.
        rows_per_pass: episodes in one forward and backward pass, to save memory; the gradient is the same up to rounding, and a
            run may go on with another number.
        run: a folder for configuration, metrics, transcripts and checkpoints; `steps` may grow when the run goes on.
        threads: of torch while a step runs; restored after it. One, because at these sizes two runs side by side get more
            done than one run on two threads, and because the bits then do not depend on the machine's number of cores.
    Raises:
        ValueError: bad settings, a prompt longer than the context, or a folder of another run.
        RuntimeError: the task raised in every episode of a step. FloatingPointError: loss or gradient are not finite.
        MemoryError: says which setting to lower. OSError: the folder cannot be written or is in use, or a vLLM server is gone;
            the message says what to do.
    """
    task, recipe = tasks.get(task), recipes.get(recipe)
    _check(steps=steps, prompts=prompts, lr=lr, value_lr=value_lr, temperature=temperature, max_grad_norm=max_grad_norm,
           checkpoint_every=checkpoint_every, rows_per_pass=1 if rows_per_pass is None else rows_per_pass)  # fmt: skip
    if recipe.context.name != "bare" and not isinstance(task, tasks.Hinted):
        raise ValueError(
            f"{recipe.context!r} shows hints, and the task {task.name!r} has none: it needs an attribute `hints` and a method "
            "`hinted` (workbench.tasks.Hinted), as the task 'unlock' has"
        )
    needs = objective.needs(recipe)
    head = models.ValueHead(policy.hidden_size).to(device_of(policy)) if "values" in needs else None
    state = State(policy, _adamw([(policy, lr), *([(head, value_lr)] if head else [])]), head)
    if "reference" in needs:
        state.reference = copy.deepcopy(policy).requires_grad_(False)
    if "implicit" in needs:
        state.judge = copy.deepcopy(policy)
        judged = {"params": list(trainable(state.judge).values()), "lr": recipe.advantage["speed"] * lr}
        state.optimiser.add_param_group(judged)
    sampler = sample.engine_of(policy, engine)
    update = Update(
        task=task, recipe=recipe, state=state, engine=sampler, seed=seed, prompts=prompts, temperature=temperature,
        max_grad_norm=max_grad_norm, recompute_logp=recompute_logp, rows_per_pass=rows_per_pass, correction=correction,
    )  # fmt: skip

    def advance(step: int) -> StepRecord:
        record = reinforce(update, step)
        withdrawn = len(recipe.context(step + 1, state.memory.gains)) != record.hints
        if not (_due(step, evaluate_every) or withdrawn):
            return record
        score = evaluate(policy, task, problems=128, seed=seed, engine=sampler).success
        return dataclasses.replace(record, test_success=score)

    parts = recipe.to_dict() | dict.fromkeys(recipes.recipe.ABOUT, "") | {"parent": None}  # what counts, not what is said of it
    config = {
        "kind": "train", "task": _settings(task), "recipe": parts, "policy": _policy_settings(policy), "seed": seed,
        "prompts": prompts, "lr": lr, "value_lr": value_lr, "temperature": temperature, "max_grad_norm": max_grad_norm,
        "engine": type(sampler).__name__, "recompute_logp": recompute_logp,
        "evaluate_every": evaluate_every, **({} if correction is None else {"correction": vars(correction)}),
    }  # fmt: skip
    noted = _judged_by(task) | {"rows_per_pass": rows_per_pass}
    return loop(advance, state, steps, seed, run, config, checkpoint_every, threads, progress, noted)


def evaluate(
    policy: models.LanguageModel, task: str | tasks.Task, *, split: str = "test", problems: int = 256, temperature: float = 0.0,
    seed: int = 0, engine: str | sample.Engine | None = None, threads: int | None = 1,
) -> Score:  # fmt: skip
    """Play problems 0..problems-1 of a split once each, greedily unless a temperature is given.

    The test problems are the same for every `seed`, so that policies are compared on the same ones; the seed is of sampling.

    Raises:
        ValueError: bad settings. RuntimeError: the task raised in every episode.
    """
    task = tasks.get(task)
    _check(problems=problems)
    asked = [task.problem(number, split=split) for number in range(problems)]
    sampler = sample.engine_of(policy, engine)
    with use_threads(threads):
        batch = sample.rollout(
            sampler, task, policy.tokenizer, asked, group_size=1, seed=seeding.integer(seed, "evaluate"),
            temperature=temperature,
        )  # fmt: skip
    played = without_errors(batch, "this evaluation")
    n, p = played.rollouts, played.outcome[played.first_rows].mean().item()
    _, low, high = stats.wilson_interval(p, n)
    return Score(p, low, high, n, batch.rollouts - n, played.mask.sum().item() / n, played.turns.sum().item() / n)


# ---- small things -----------------------------------------------------------------------------------------------------


def demonstrations(
    task: tasks.Task, tokenizer: PreTrainedTokenizerBase, step: int, batch_size: int, error_rate: float, seed: int
) -> Batch:  # fmt: skip
    """What step number `step` (from 1) of `sft` learns from: demonstrations, with a mistake in `error_rate` of them."""
    pool, rng = seeding.integer(seed, "sft", "problems"), seeding.generator(seed, "sft", "mistakes", step)
    rows: list[Dialogue] = []
    for n, number in enumerate(range((step - 1) * batch_size, step * batch_size)):
        problem = task.problem(number, seed=pool)
        turns = task.demonstration(problem, rng, error_rate)
        keeps = task.keeps(problem, turns[::2]) if isinstance(task, tasks.Rewriting) else ()
        rows += sample.encode_rows(
            problem.prompt, turns, tokenizer, rollout=n, group=n, keeps=keeps, schemas=problem.schemas
        )
    return Batch.from_dialogues(rows)


def _adamw(modules: list[tuple[nn.Module, float]]) -> torch.optim.AdamW:
    groups = [{"params": list(trainable(module).values()), "lr": lr} for module, lr in modules]
    return torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0)


def _check(**settings: float) -> None:
    for name, value in settings.items():
        whole = name in ("steps", "batch_size", "prompts", "problems", "checkpoint_every", "rows_per_pass")
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
        if not good or (whole and value != int(value)):
            raise ValueError(f"{name} must be a {'whole number of at least 1' if whole else 'number above 0'}, not {value!r}")


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _settings(task: tasks.Task) -> dict[str, Any]:
    known = dataclasses.asdict(task) if dataclasses.is_dataclass(task) and not isinstance(task, type) else vars(task)
    plain = {key: value for key, value in known.items() if isinstance(value, (bool, int, float, str, tuple, list, dict))}
    return {"name": task.name, **plain}


def _judged_by(task: tasks.Task) -> dict[str, Any]:
    """For a task whose verdicts come from the sandbox: its tier and what each layer refused when it was tried."""
    return {"sandbox": sandbox.describe()} if getattr(task, "sandboxed", False) else {}


def _policy_settings(policy: Any) -> dict[str, Any]:
    return {
        "class": type(policy).__name__,
        "parameters": sum(value.numel() for value in policy.parameters()),
        "trained": sum(value.numel() for value in trainable(policy).values()),
        **{name: getattr(policy, name) for name in ("vocab_size", "hidden_size", "context")},
    }
