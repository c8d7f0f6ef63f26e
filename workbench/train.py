"""Training: the supervised warm start, the loop of reinforcement learning, and evaluation.

    for step in train(policy, "addition", "grpo", steps=50, seed=0, run="runs/first"):
        print(step.step, step.success)

To follow one update, read `_reinforce`: choose hints and prompts, roll out, mix in what was kept of earlier steps, prepare, and
for each minibatch evaluate the policy, take the loss, its gradient, and a step. `workbench.loop` around it writes the run
folder and takes care of stopping and going on.

Everything random comes from (seed, purpose, step), nothing from a stream that runs through the whole training. So a run that
goes on needs only the weights, the optimiser, its `Memory` of earlier steps (what prompts were asked, what is to be replayed)
and the number of the step: the bits are those of a run that was never stopped.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workbench import models, objective, recipes, sample, sandbox, seeding, stats, tasks
from workbench.batch import Batch, Dialogue, Origin, Stop
from workbench.diagnostics import diagnose
from workbench.loop import State, device_of, loop, trainable, use_threads


@dataclass(frozen=True)
class StepRecord:
    """What one step of `train` did. Means are over the rollouts of the step; ratios over the tokens trained on.

    Attributes:
        reward: mean sum of the recipe's rewards of an episode. success: mean outcome, thrown-away rollouts included.
        zero_advantage: share of groups from which nothing was learned. gradient_norm: before clipping.
        clip_share: tokens with an advantage but no gradient. kl: estimated KL(old || new). entropy: nats a token, estimated
            by -log p of what was sampled.
        length: sampled tokens of an episode. turns: of an episode. malformed: share of turns the task found malformed.
        truncated: share of episodes cut off by a limit. errors: episodes left out because the task raised.
        hints: how many the prompts showed. replayed: share of the episodes trained on that an earlier step sampled.
        episodes, tokens: sampled in this step, thrown-away rollouts and those that measured hints included.
        tokens_per_second: over the whole step's `seconds`.
        test_success: of the test split, greedy and without hints, where `evaluate_every` asked for it, and after the last step
            with as many hints as this one. rollouts: one group, to be looked at.
        diagnostics: more numbers, by name, see `workbench.diagnostics.diagnose`; in a row they stand among the others.
    """

    step: int
    reward: float
    success: float
    zero_advantage: float
    loss: float
    gradient_norm: float
    ratio_mean: float
    ratio_min: float
    ratio_max: float
    clip_share: float
    kl: float
    entropy: float
    length: float
    turns: float
    malformed: float
    truncated: float
    errors: int
    hints: int
    replayed: float
    episodes: int
    tokens: int
    tokens_per_second: float
    seconds: float
    test_success: float | None = None
    rollouts: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    diagnostics: dict[str, float] = field(default_factory=dict, repr=False)

    def as_row(self) -> dict[str, float | None]:
        """Plain numbers by name, as in metrics.jsonl; None for what could not be measured."""
        return _row(self)


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
        return _row(self)


def _row(record: Any) -> dict[str, float | None]:
    numbers = {f.name: getattr(record, f.name) for f in dataclasses.fields(record) if f.name not in ("rollouts", "diagnostics")}
    numbers |= getattr(record, "diagnostics", {})
    return {name: value if value is not None and math.isfinite(value) else None for name, value in numbers.items()}


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
    pool = seeding.integer(seed, "sft", "problems")

    def advance(step: int) -> WarmStartRecord:
        started = time.perf_counter()
        numbers = range((step - 1) * batch_size, step * batch_size)
        problems = [task.problem(number, seed=pool) for number in numbers]
        rng = seeding.generator(seed, "sft", "mistakes", step)
        batch = Batch.from_dialogues([
            row for n, problem in enumerate(problems)
            for row in _demonstrated(task, problem, rng, error_rate, policy.tokenizer, n)
        ]).to(device_of(policy))  # fmt: skip
        rate = lr * min(1.0, step / max(1, steps // 10)) * (1 - (step - 1) / steps)
        state.optimiser.param_groups[0]["lr"] = rate
        loss = -policy.evaluate(batch).logp.sum() / batch.mask.sum()
        state.optimiser.zero_grad()
        loss.backward()
        norm = _step(state, loss.item(), max_grad_norm, step)
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
    engine: str | sample.Engine | None = None, recompute_logp: bool = False, rows_per_pass: int | None = None,
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
        engine: "local", "hugging_face", an engine, or None for the fastest that can run this policy.
        recompute_logp: take the old log-probabilities from the trainer's own forward pass, not from the engine.
        rows_per_pass: episodes in one forward and backward pass, to save memory; the gradient is the same.
        run: a folder for configuration, metrics, transcripts and checkpoints; `steps` may grow when the run goes on.
        threads: of torch while a step runs; restored after it. One, because at these sizes two runs side by side get more
            done than one run on two threads, and because the bits then do not depend on the machine's number of cores.
    Raises:
        ValueError: bad settings, a prompt longer than the context, or a folder of another run.
        RuntimeError: the task raised in every episode of a step. FloatingPointError: loss or gradient are not finite.
        OSError: the folder cannot be written or is in use; the message says what to do.
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
    update = _Update(recipe, state, temperature, max_grad_norm, recompute_logp, rows_per_pass)
    sampler = sample.engine_of(policy, engine)

    def advance(step: int) -> StepRecord:
        return _reinforce(step, seed, task, sampler, update, prompts, evaluate_every)

    parts = recipe.to_dict() | dict.fromkeys(recipes.recipe.ABOUT, "") | {"parent": None}  # what counts, not what is said of it
    config = {
        "kind": "train", "task": _settings(task), "recipe": parts, "policy": _policy_settings(policy), "seed": seed,
        "prompts": prompts, "lr": lr, "value_lr": value_lr, "temperature": temperature, "max_grad_norm": max_grad_norm,
        "engine": type(sampler).__name__, "recompute_logp": recompute_logp, "rows_per_pass": rows_per_pass,
        "evaluate_every": evaluate_every,
    }  # fmt: skip
    return loop(advance, state, steps, seed, run, config, checkpoint_every, threads, progress, _judged_by(task))


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
    played = _without_errors(batch, "this evaluation")
    n, p = played.rollouts, played.outcome[played.first_rows].mean().item()
    _, low, high = stats.wilson_interval(p, n)
    return Score(p, low, high, n, batch.rollouts - n, played.mask.sum().item() / n, played.turns.sum().item() / n)


# ---- one step of reinforcement learning -------------------------------------------------------------------------------


@dataclass
class _Update:
    """What stays the same from step to step."""

    recipe: recipes.Recipe
    state: State
    temperature: float
    max_grad_norm: float
    recompute_logp: bool
    rows_per_pass: int | None


def _reinforce(
    step: int, seed: int, task: tasks.Task, engine: sample.Engine, update: _Update, prompts: int, evaluate_every: int
) -> StepRecord:
    started = time.perf_counter()
    recipe, state = update.recipe, update.state
    hints, measured = _choose_hints(step, seed, task, engine, update)
    sampled, kept, problem = _roll_out(step, seed, task, engine, update, prompts, hints)
    batch = recipe.layout(_mix(step, seed, update, kept, problem)).to(device_of(state.policy))
    cuts = [
        _minibatches(batch.group, recipe.schedule["minibatches"], seeding.generator(seed, "minibatches", step, epoch))
        for epoch in range(recipe.schedule["epochs"])
    ]
    answers = _answers(task, seed, state.policy, kept, problem) if "answer" in objective.needs(recipe) else []
    prepared = _prepare(update, batch, cuts[0], answers)
    if state.judge is not None:
        _teach(update, prepared.batch, cuts[0], step)
    numbers: list[dict[str, float]] = []
    for minibatches in cuts:
        for rows in minibatches:
            numbers.append(_optimise(update, prepared.select(rows), step))
    played = _without_errors(sampled, f"step {step}")
    seconds = time.perf_counter() - started
    tokens = sum(int(each.mask.sum()) for each in (sampled, *measured))
    look = _due(step, evaluate_every) or len(recipe.context(step + 1, state.memory.gains)) != len(hints)
    score = evaluate(state.policy, task, problems=128, seed=seed, engine=engine).success if look else None

    def over(name: str, how: Callable[[list[float]], float] = lambda values: sum(values) / len(values)) -> float:
        return how([found[name] for found in numbers if not math.isnan(found[name])] or [math.nan])

    episodes = played.first_rows  # [R]: what is said of an episode is counted once, however many rows it has
    cut_off = (played.stop == Stop.LENGTH) | (played.stop == Stop.TURNS) | (played.stop == Stop.CONTEXT)
    return StepRecord(
        step=step,
        reward=played.of_rollouts(objective.rewards(recipe, played).sum(1)).mean().item(),
        success=played.outcome[episodes].mean().item(),
        zero_advantage=objective.dead(prepared),
        loss=over("loss"), gradient_norm=over("gradient_norm"),
        ratio_mean=over("ratio_mean"), ratio_min=over("ratio_min", min), ratio_max=over("ratio_max", max),
        clip_share=over("clip_share"), kl=over("kl"), entropy=-(played.logp_old.sum() / played.mask.sum()).item(),
        length=played.mask.sum().item() / len(episodes), turns=played.turns.sum().item() / len(episodes),
        malformed=((played.rewards < 0).sum() / played.turns.sum()).item(),
        truncated=cut_off[episodes].float().mean().item(), errors=sampled.rollouts - len(episodes),
        hints=len(hints), replayed=(batch.origin[batch.first_rows] == Origin.REPLAY).float().mean().item(),
        episodes=sum(each.rollouts for each in (sampled, *measured)),
        tokens=tokens, tokens_per_second=tokens / seconds, seconds=seconds, test_success=score,
        rollouts=tuple(_transcripts(step, prepared, state.policy.tokenizer)),
        diagnostics=diagnose(recipe, prepared, played),
    )  # fmt: skip


def _choose_hints(
    step: int, seed: int, task: tasks.Task, engine: sample.Engine, update: _Update
) -> tuple[tuple[int, ...], list[Batch]]:
    """The hints in this step's prompts; and the episodes in which hints were measured, where the recipe asks for that."""
    context, state = update.recipe.context, update.state
    played: list[Batch] = []

    def success(shown: Collection[int]) -> float:
        pool = seeding.integer(seed, "hints", "problems")
        problems = [_hinted(task, task.problem(number, seed=pool), shown) for number in range(context["problems"])]
        played.append(sample.rollout(
            engine, task, state.policy.tokenizer, problems, group_size=1, seed=seeding.integer(seed, "hints", step),
            temperature=update.temperature,
        ))  # fmt: skip
        right = _without_errors(played[-1], f"measuring hints in step {step}")
        return right.outcome[right.first_rows].mean().item()

    if "gains" in context.needs and (step - 1) % context["measure"] == 0:
        gains = list(state.memory.gains) or [None] * task.hints  # type: ignore[attr-defined]
        shown = context(step, gains) if state.memory.gains else range(len(gains))  # all of them the first time
        together = success(shown)
        for hint in shown:
            gains[hint] = together - success([other for other in shown if other != hint])
        state.memory = dataclasses.replace(state.memory, gains=tuple(gains))
    return context(step, state.memory.gains), played


def _hinted(task: tasks.Task, problem: tasks.Problem, hints: Collection[int]) -> tasks.Problem:
    return task.hinted(problem, tuple(hints)) if hints else problem  # type: ignore[attr-defined]


def _roll_out(
    step: int, seed: int, task: tasks.Task, engine: sample.Engine, update: _Update, prompts: int, hints: Collection[int]
) -> tuple[Batch, Batch, Tensor]:
    """Everything that was sampled; what the recipe keeps of it (what it throws away is drawn again, from new prompts); and
    the number of the problem of each row kept [B]."""
    recipe, state = update.recipe, update.state
    sampled: list[Batch] = []
    kept: list[tuple[Batch, Tensor]] = []
    wanted = prompts
    for draw in range(recipe.rollout.get("rounds", 1)):
        numbers = recipe.prompts(state.memory.history, wanted, seeding.generator(seed, "prompts", step, draw))
        if not len(numbers):
            raise ValueError(f"{recipe.prompts!r} chose no prompt in step {step}: the prompt set is empty")
        problems = [_hinted(task, task.problem(int(number), seed=seed), hints) for number in numbers]
        batch = sample.rollout(
            engine, task, update.state.policy.tokenizer, problems, group_size=recipe.rollout["size"],
            seed=seeding.integer(seed, "rollout", step, draw), temperature=update.temperature,
        )  # fmt: skip
        sampled.append(batch)
        first = torch.zeros(len(batch), dtype=torch.bool)
        first[batch.first_rows] = True
        asked = []
        for group, number in enumerate(numbers):
            outcomes = batch.outcome[first & (batch.group == group) & (batch.stop != Stop.ERROR)]
            asked.append((int(number), outcomes.mean().item() if len(outcomes) else 0.0))
        state.memory = dataclasses.replace(state.memory, history=(*state.memory.history, *asked))
        problem = torch.tensor([int(number) for number in numbers])[batch.group]
        keep = recipe.rollout(batch, objective.rewards(recipe, batch))
        if keep.any():
            kept.append((batch.select(keep), problem[keep]))
            wanted -= len(torch.unique(kept[-1][0].group))
        if wanted < 1:
            break
    everything = Batch.concatenate(sampled)
    _without_errors(everything, f"step {step}")
    kept = kept or [(batch, problem)]
    return everything, Batch.concatenate([each for each, _ in kept]), torch.cat([each for _, each in kept])


def _mix(step: int, seed: int, update: _Update, batch: Batch, problem: Tensor) -> Batch:
    """What is trained on: the rollouts, and what the recipe takes from earlier steps. Then it keeps what it wants of these."""
    recipe, state = update.recipe, update.state
    past, rng = state.memory.successes, seeding.generator(seed, "mix", step)
    mixed = recipe.mix(batch, objective.rewards(recipe, batch), problem, past, rng)
    if recipe.mix.name == "replay":
        past = objective.keep_successes(past, batch, problem, recipe.mix["size"])
        state.memory = dataclasses.replace(state.memory, successes=past)
    return mixed


def _answers(task: tasks.Task, seed: int, policy: models.LanguageModel, batch: Batch, problem: Tensor) -> list[list[int]]:
    """The gold answer of each group of the batch, as the policy would have to say it."""
    number = dict(zip(batch.group.tolist(), problem.tolist()))
    texts = [task.problem(number[group], seed=seed).answer for group in sorted(number)]
    return [[*models.encode(policy.tokenizer, text), policy.tokenizer.eos_token_id] for text in texts]


def _prepare(
    update: _Update, batch: Batch, minibatches: list[Tensor], answers: list[list[int]]
) -> objective.Prepared:  # fmt: skip
    """Advantages and weights, with what the policy, its value head and the reference say before the first update.

    Read in the passes that the first epoch will use: other shapes round differently, and a recomputed ratio would not be 1.
    """
    needs, state, memory = objective.needs(update.recipe), update.state, update.state.memory
    renewed = torch.full_like(batch.origin, update.recompute_logp, dtype=torch.bool)
    if update.recipe.mix.get("logp") == "renewed":
        renewed |= batch.origin == Origin.REPLAY
    passes = [chunk for rows in minibatches for chunk in rows.split(update.rows_per_pass or len(rows))]
    given: dict[str, Tensor] = {}
    with torch.no_grad():
        if renewed.any() or needs & {"entropy", "values"}:
            read = [(rows, state.policy.evaluate(batch.select(rows), temperature=update.temperature)) for rows in passes]
            if "entropy" in needs:
                given["entropy"] = _gathered(batch, [(rows, said.entropy) for rows, said in read])
            if state.head is not None:
                given["values"] = _gathered(batch, [(rows, state.head(said.hidden)) for rows, said in read])
            if renewed.any():
                now = _gathered(batch, [(rows, said.logp) for rows, said in read])
                batch = batch.replace(logp_old=torch.where(renewed[:, None], now, batch.logp_old))
        if state.reference is not None:
            said = [state.reference.evaluate(batch.select(rows), temperature=update.temperature) for rows in passes]
            given["logp_ref"] = _gathered(batch, [(rows, each.logp) for rows, each in zip(passes, said)])
        if state.judge is not None:
            said = [state.judge.evaluate(batch.select(rows), temperature=update.temperature) for rows in passes]
            judged = _gathered(batch, [(rows, each.logp) for rows, each in zip(passes, said)])
            given["implicit"] = torch.where(batch.mask, judged - batch.logp_old, 0)
        if "answer" in needs:
            given["answer"] = models.answer_logp(state.policy, batch, answers, temperature=update.temperature)
    if "turn_entropy" in needs:
        played = batch.mask & (batch.stop != Stop.ERROR)[:, None]
        given["entropy_past"] = objective.usual_entropy(memory.turn_entropy, batch.turn)
        known = objective.add_entropy(memory.turn_entropy, given["entropy"], batch.turn, played)
        state.memory = dataclasses.replace(memory, turn_entropy=known)
    return objective.prepare(update.recipe, batch, **given)


def _teach(update: _Update, batch: Batch, minibatches: list[Tensor], step: int) -> None:
    """One optimiser step of the judge, which has scored this batch already, on the pairs of success and failure in it."""
    state, part = update.state, update.recipe.advantage
    assert state.judge is not None
    state.optimiser.zero_grad()
    pairs = 0
    for rows in minibatches:  # whole groups, so that no pair is cut
        share = batch.select(rows)
        implicit = state.judge.evaluate(share, temperature=update.temperature).logp - share.logp_old
        loss, found = objective.preference_loss(share, implicit, beta=part["beta"], score=part["score"])
        if found:
            (loss * found).backward()
        pairs += found
    if not pairs:
        return
    parameters = list(trainable(state.judge).values())
    for parameter in parameters:
        parameter.grad = None if parameter.grad is None else parameter.grad / pairs
    _apply(parameters, state.optimiser, 0.0, update.max_grad_norm, step)


_WATCHED = ("ratio_mean", "ratio_min", "ratio_max", "clip_share", "kl")


def _optimise(update: _Update, part: objective.Prepared, step: int) -> dict[str, float]:
    """One optimiser step on one minibatch."""
    recipe, state = update.recipe, update.state
    rows = torch.arange(len(part), device=part.mask.device)
    if not update.recompute_logp:
        rows = rows[objective.active(recipe, part)]  # the others have gradient 0: the sum is the same without them
    state.optimiser.zero_grad()
    if not len(rows):  # a gradient of zeros, not none: the optimiser's averages move as they would with all rows
        for parameter in state.parameters().values():
            parameter.grad = torch.zeros_like(parameter)
        return dict.fromkeys(_WATCHED, math.nan) | {"loss": 0.0, "gradient_norm": _step(state, 0.0, update.max_grad_norm, step)}
    numbers: list[dict[str, float]] = []
    for chunk in rows.split(update.rows_per_pass or len(rows)):
        share = part.share(chunk)
        said = state.policy.evaluate(share.batch, temperature=update.temperature)
        values = None if state.head is None else state.head(said.hidden.detach())  # it reads the policy, it does not shape it
        loss, seen = objective.loss(recipe, share, said.logp, said.entropy, values)
        loss.backward()
        numbers.append({"loss": loss.item(), **seen})
    merged = {name: sum(found[name] for found in numbers) / len(numbers) for name in numbers[0]}
    merged["loss"] = sum(found["loss"] for found in numbers)
    merged["ratio_min"] = min(found["ratio_min"] for found in numbers)
    merged["ratio_max"] = max(found["ratio_max"] for found in numbers)
    return merged | {"gradient_norm": _step(state, merged["loss"], update.max_grad_norm, step)}


def _step(state: State, loss: float, max_grad_norm: float, step: int) -> float:
    """`_apply` to what the recipe's loss trains."""
    return _apply(list(state.parameters().values()), state.optimiser, loss, max_grad_norm, step)


def _apply(
    parameters: list[Tensor], optimiser: torch.optim.Optimizer, loss: float, max_grad_norm: float, step: int
) -> float:  # fmt: skip
    """Clip the gradient and take the optimiser's step, or refuse it; returns the norm before clipping.

    Parameters without a gradient are left as they are.
    """
    norm = nn.utils.clip_grad_norm_(parameters, max_grad_norm).item()
    if not math.isfinite(loss) or not math.isfinite(norm):
        raise FloatingPointError(
            f"step {step}: loss {loss}, gradient norm {norm}. This update was not made, and the policy is as it was after step "
            f"{step - 1}. Look at the rewards and the ratios of the steps before; a lower lr usually helps"
        )
    optimiser.step()
    return norm


def _minibatches(group: Tensor, count: int, rng: np.random.Generator) -> list[Tensor]:
    """Rows [B] cut at random into `count` parts by whole groups (fewer where there are fewer groups)."""
    _, number = torch.unique(group, return_inverse=True)
    groups = int(number.max()) + 1
    if count == 1:
        return [torch.arange(len(group), device=group.device)]
    shuffled = torch.from_numpy(rng.permutation(groups)).to(group.device)
    parts = shuffled.tensor_split(min(count, groups))
    return [torch.isin(number, part).nonzero()[:, 0] for part in parts]


def _gathered(batch: Batch, pieces: list[tuple[Tensor, Tensor]]) -> Tensor:
    """[B,T] from (rows, [rows,T or less]) pieces."""
    whole = torch.zeros(batch.tokens.shape, device=batch.tokens.device)
    for rows, values in pieces:
        whole[rows, : values.shape[1]] = values.float()
    return whole


def _without_errors(batch: Batch, where: str) -> Batch:
    valid = batch.stop != Stop.ERROR
    if valid.all():
        return batch
    if not valid.any():
        raise RuntimeError(
            f"the task raised, or gave a reward that is not finite, in all {batch.rollouts} episodes of {where}: nothing to "
            "learn from. Play one by hand to see why: tasks.play(task, task.problem(0), [...])"
        )
    return batch.select(valid)


def _transcripts(step: int, prepared: objective.Prepared, tokenizer: Any) -> Iterator[dict[str, Any]]:
    """The first group that taught something (else the first), turn by turn."""
    batch = prepared.batch
    first = int((prepared.advantage != 0).any(1).to(torch.int64).argmax())
    rewards = prepared.rewards.cpu()
    for number, row in enumerate((batch.group == batch.group[first]).nonzero()[:, 0].tolist()):
        ids, mask, turn = batch.tokens[row], batch.mask[row], batch.turn[row]
        turns = []
        for j in turn[mask].unique().tolist():
            mine = mask & (turn == j)
            turns.append({
                "text": models.decode(tokenizer, ids[mine].tolist()),
                "reply": models.decode(tokenizer, ids[~mask & (turn == j)].tolist()),
                "reward": rewards[row][mine.cpu()].sum().item(),
                "advantage": prepared.advantage[row][mine].mean().item(),
            })  # fmt: skip
        yield {
            "step": step, "row": number, "prompt": models.decode(tokenizer, ids[: int(batch.prompt_length[row])].tolist()),
            "turns": turns, "outcome": batch.outcome[row].item(), "stop": Stop(int(batch.stop[row])).name,
        }  # fmt: skip


# ---- small things -----------------------------------------------------------------------------------------------------


def _demonstrated(
    task: tasks.Task, problem: tasks.Problem, rng: np.random.Generator, error_rate: float, tokenizer: Any, number: int
) -> list[Dialogue]:
    turns = task.demonstration(problem, rng, error_rate)
    keeps = task.keeps(problem, turns[::2]) if isinstance(task, tasks.Rewriting) else ()
    return sample.encode_rows(problem.prompt, turns, tokenizer, rollout=number, group=number, keeps=keeps)


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
