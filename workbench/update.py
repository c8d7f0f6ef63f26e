"""One update of reinforcement learning, from the choice of prompts to the optimiser's step.

To follow it, read `reinforce`: choose hints and prompts, roll out, mix in what was kept of earlier steps, prepare, and for each
minibatch evaluate the policy, take the loss, its gradient, and a step. `workbench.train` sets it up; `workbench.loop` asks for
one step after the other.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workbench import models, objective, recipes, sample, seeding, tasks
from workbench.batch import Batch, Origin, Stop
from workbench.diagnostics import diagnose
from workbench.loop import State, as_row, device_of, trainable
from workbench.tasks import tools


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
        diagnostics: more numbers, by name, see `workbench.diagnostics.diagnose`; in a row they stand among the others. Where the
            task has a toolbox also what became of the step's calls, such as "tool_calls" and "tool_failed": see `tools.FAULTS`.
            With an engine that is not exactly the policy mismatch_mean, mismatch_largest and mismatch_kl, see `sample.Mismatch`;
            with a correction also correction_lost, see `objective.Correction`.
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
        return as_row(self)


@dataclass
class Update:
    """What stays the same from step to step; the arguments of `workbench.train.train` are described there."""

    task: tasks.Task
    recipe: recipes.Recipe
    state: State
    engine: sample.Engine
    seed: int
    prompts: int
    temperature: float
    max_grad_norm: float
    recompute_logp: bool
    rows_per_pass: int | None
    correction: objective.Correction | None = None


def reinforce(update: Update, step: int) -> StepRecord:
    """Make the update number `step` and say what it did.

    Raises:
        RuntimeError: the task raised in every episode. FloatingPointError: loss or gradient are not finite.
    """
    started, told = time.perf_counter(), tools.tally()
    recipe, state, seed = update.recipe, update.state, update.seed
    hints, measured = _choose_hints(update, step)
    sampled, kept, problem = _roll_out(update, step, hints)
    batch = recipe.layout(_mix(update, step, kept, problem)).to(device_of(state.policy))
    cuts = [
        _minibatches(batch.group, recipe.schedule["minibatches"], seeding.generator(seed, "minibatches", step, epoch))
        for epoch in range(recipe.schedule["epochs"])
    ]
    answers = _answers(update, kept, problem) if "answer" in objective.needs(recipe) else []
    prepared, measured_mismatch = _prepare(update, batch, cuts[0], answers)
    if state.judge is not None:
        _teach(update, step, prepared.batch, cuts[0])
    numbers: list[dict[str, float]] = []
    for minibatches in cuts:
        for rows in minibatches:
            numbers.append(_optimise(update, step, prepared.select(rows)))
    played = without_errors(sampled, f"step {step}")
    seconds = time.perf_counter() - started
    tokens = sum(int(each.mask.sum()) for each in (sampled, *measured))

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
        tokens=tokens, tokens_per_second=tokens / seconds, seconds=seconds,
        rollouts=tuple(_transcripts(step, prepared, state.policy.tokenizer)),
        diagnostics=diagnose(recipe, prepared, played) | measured_mismatch
        | {f"tool_{what}": n for what, n in (tools.tally() - told).items()},
    )  # fmt: skip


def _choose_hints(update: Update, step: int) -> tuple[tuple[int, ...], list[Batch]]:
    """The hints in this step's prompts; and the episodes in which hints were measured, where the recipe asks for that."""
    context, task, state, seed = update.recipe.context, update.task, update.state, update.seed
    played: list[Batch] = []

    def success(shown: Collection[int]) -> float:
        pool = seeding.integer(seed, "hints", "problems")
        problems = [_hinted(task, task.problem(number, seed=pool), shown) for number in range(context["problems"])]
        played.append(sample.rollout(
            update.engine, task, state.policy.tokenizer, problems, group_size=1, seed=seeding.integer(seed, "hints", step),
            temperature=update.temperature,
        ))  # fmt: skip
        right = without_errors(played[-1], f"measuring hints in step {step}")
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


def _roll_out(update: Update, step: int, hints: Collection[int]) -> tuple[Batch, Batch, Tensor]:
    """Everything that was sampled; what the recipe keeps of it (what it throws away is drawn again, from new prompts); and
    the number of the problem of each row kept [B]."""
    task, recipe, state, seed = update.task, update.recipe, update.state, update.seed
    sampled: list[Batch] = []
    kept: list[tuple[Batch, Tensor]] = []
    wanted = update.prompts
    for draw in range(recipe.rollout.get("rounds", 1)):
        numbers = recipe.prompts(state.memory.history, wanted, seeding.generator(seed, "prompts", step, draw))
        if not len(numbers):
            raise ValueError(f"{recipe.prompts!r} chose no prompt in step {step}: the prompt set is empty")
        problems = [_hinted(task, task.problem(int(number), seed=seed), hints) for number in numbers]
        batch = sample.rollout(
            update.engine, task, state.policy.tokenizer, problems, group_size=recipe.rollout["size"],
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
    without_errors(everything, f"step {step}")
    kept = kept or [(batch, problem)]
    return everything, Batch.concatenate([each for each, _ in kept]), torch.cat([each for _, each in kept])


def _mix(update: Update, step: int, batch: Batch, problem: Tensor) -> Batch:
    """What is trained on: the rollouts, and what the recipe takes from earlier steps. Then it keeps what it wants of these."""
    recipe, state = update.recipe, update.state
    past, rng = state.memory.successes, seeding.generator(update.seed, "mix", step)
    mixed = recipe.mix(batch, objective.rewards(recipe, batch), problem, past, rng)
    if recipe.mix.name == "replay":
        past = objective.keep_successes(past, batch, problem, recipe.mix["size"])
        state.memory = dataclasses.replace(state.memory, successes=past)
    return mixed


def _answers(update: Update, batch: Batch, problem: Tensor) -> list[list[int]]:
    """The gold answer of each group of the batch, as the policy would have to say it."""
    number = dict(zip(batch.group.tolist(), problem.tolist()))
    texts = [update.task.problem(number[group], seed=update.seed).answer for group in sorted(number)]
    tokenizer = update.state.policy.tokenizer
    return [[*models.encode(tokenizer, text), tokenizer.eos_token_id] for text in texts]


def _prepare(
    update: Update, batch: Batch, minibatches: list[Tensor], answers: list[list[int]]
) -> tuple[objective.Prepared, dict[str, float]]:  # fmt: skip
    """Advantages and weights, with what the policy, its value head and the reference say before the first update; and how far
    the sampler is from the policy, where it is another program or a correction was asked for.

    Read in the passes that the first epoch will use: other shapes round differently, and a recomputed ratio would not be 1.
    """
    needs, state, memory = objective.needs(update.recipe), update.state, update.state.memory
    renewed = torch.full_like(batch.origin, update.recompute_logp, dtype=torch.bool)
    fresh = (batch.origin == Origin.ON_POLICY) & (batch.stop != Stop.ERROR)
    if update.correction is not None:
        renewed |= fresh
    compared = update.correction is not None or not getattr(update.engine, "exact", True)
    if update.recipe.mix.get("logp") == "renewed":
        renewed |= batch.origin == Origin.REPLAY
    passes = [chunk for rows in minibatches for chunk in rows.split(update.rows_per_pass or len(rows))]
    given: dict[str, Tensor] = {}
    found: dict[str, float] = {}
    with torch.no_grad():
        if compared or renewed.any() or needs & {"entropy", "values"}:
            read = [(rows, state.policy.evaluate(batch.select(rows), temperature=update.temperature)) for rows in passes]
            if "entropy" in needs:
                given["entropy"] = _gathered(batch, [(rows, said.entropy) for rows, said in read])
            if state.head is not None:
                given["values"] = _gathered(batch, [(rows, state.head(said.hidden)) for rows, said in read])
            if compared or renewed.any():
                now = _gathered(batch, [(rows, said.logp) for rows, said in read])
                if compared:
                    found = against_the_sampler(update.correction, batch, now, fresh, given)
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
    return objective.prepare(update.recipe, batch, **given), found


def against_the_sampler(
    correction: objective.Correction | None, batch: Batch, now: Tensor, fresh: Tensor, given: dict[str, Tensor]
) -> dict[str, float]:  # fmt: skip
    """How far the sampler was from the policy as it is `now`; with a correction, its weights join what is `given`."""
    sampled = batch.mask & fresh[:, None]
    if not sampled.any():
        return {}
    found = {f"mismatch_{k}": v for k, v in vars(sample.Mismatch.of((now - batch.logp_old)[sampled])).items()}
    if correction is not None:
        given["correction"] = correction(now, batch.logp_old, sampled)
        ratio = correction.ratio(now, batch.logp_old, sampled)
        found["correction_lost"] = (ratio - given["correction"])[sampled].mean().item()
    return found


def _teach(update: Update, step: int, batch: Batch, minibatches: list[Tensor]) -> None:
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
    parameters = trainable(state.judge)
    for parameter in parameters.values():
        parameter.grad = None if parameter.grad is None else parameter.grad / pairs
    optimiser_step(state, parameters, 0.0, update.max_grad_norm, step)


_WATCHED = ("ratio_mean", "ratio_min", "ratio_max", "clip_share", "kl")


def _optimise(update: Update, step: int, part: objective.Prepared) -> dict[str, float]:
    """One optimiser step on one minibatch."""
    recipe, state = update.recipe, update.state
    rows = torch.arange(len(part), device=part.mask.device)
    if not (update.recompute_logp or update.correction):
        rows = rows[objective.active(recipe, part)]  # the others have gradient 0: the sum is the same without them
    state.optimiser.zero_grad()
    if not len(rows):  # a gradient of zeros, not none: the optimiser's averages move as they would with all rows
        for parameter in state.parameters().values():
            parameter.grad = torch.zeros_like(parameter)
        norm = optimiser_step(state, state.parameters(), 0.0, update.max_grad_norm, step)
        return dict.fromkeys(_WATCHED, math.nan) | {"loss": 0.0, "gradient_norm": norm}
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
    norm = optimiser_step(state, state.parameters(), merged["loss"], update.max_grad_norm, step)
    return merged | {"gradient_norm": norm}


def optimiser_step(state: State, parameters: dict[str, Tensor], loss: float, max_grad_norm: float, step: int) -> float:
    """Clip the gradient of `parameters` and take the optimiser's step; returns the norm before clipping.

    Parameters without a gradient are left as they are.

    Raises:
        FloatingPointError: `loss` or the norm is not finite; nothing was changed.
    """
    norm = nn.utils.clip_grad_norm_(list(parameters.values()), max_grad_norm).item()
    if not math.isfinite(loss) or not math.isfinite(norm):
        raise FloatingPointError(
            f"step {step}: loss {loss}, gradient norm {norm}. This update was not made, and the policy is as it was after step "
            f"{step - 1}. Look at the rewards and the ratios of the steps before; a lower lr usually helps"
        )
    state.optimiser.step()
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


def without_errors(batch: Batch, where: str) -> Batch:
    """The rows of episodes in which the task did not raise. Raises RuntimeError where it did in all; `where` that was."""
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


