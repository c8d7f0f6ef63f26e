"""What each way of giving credit to turns is said to do, on problems small enough for many seeds. Remakes credit.json.

    python data/credit.py            all rows
    python data/credit.py igpo       the rows of one method anew, the others as they were

The policies are tables: what a token is chosen by is the token before it. A turn is one action (or a few words), its reply the
next state. Arms are paired: seed s of two arms starts from the same table and draws from the same streams.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from workbench import models, recipes, seeding, stats
from workbench import objective as o
from workbench.batch import Batch, Origin, Stop
from workbench.recipes import Recipe

HERE = Path(__file__).parent
GROUPS, SIZE = 8, 8  # prompts in an update, rollouts of each


@dataclass(frozen=True, eq=False)
class World:
    """A task for a table. Tokens 0..actions-1 are the policy's, a state that looks like s is the token actions + s.

    Attributes:
        start: the state of each prompt [P]; a group is a prompt, drawn at random.
        step: (state, action, chance) -> next state, what the task says of the turn, done, outcome; all [B]; chance is uniform.
        initial: [looks, actions] probabilities the policy starts with. turns: at most that many.
        looks: what each state looks like to the policy [states]; default: itself.
        gold: the right answer of each prompt [P], for recipes that ask. words: tokens of a turn by its first one [actions].
    """

    start: np.ndarray
    step: Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]
    initial: np.ndarray
    turns: int
    gold: np.ndarray | None = None
    words: np.ndarray | None = None
    looks: np.ndarray | None = None

    @property
    def actions(self) -> int:
        return self.initial.shape[1]

    @property
    def longest(self) -> int:
        """Tokens of the longest turn."""
        return 1 if self.words is None else int(self.words.max())


@dataclass(frozen=True)
class Curve:
    """For each seed and update: mean outcome, share of turns the task found malformed, turns, groups that taught nothing."""

    success: np.ndarray
    malformed: np.ndarray
    turns: np.ndarray
    dead: np.ndarray
    policy: np.ndarray  # [seeds, looks, actions] probabilities at the end

    @staticmethod
    def join(curves: Sequence[Curve]) -> Curve:
        return Curve(*(np.concatenate([getattr(curve, field) for curve in curves]) for field in Curve.__dataclass_fields__))


def play(table: np.ndarray, world: World, seeds: Sequence[int], update: int) -> tuple[Batch, np.ndarray, np.ndarray]:
    """Rollouts of one update; the prompt of each row; and of each token the look of the state and the place in its turn.

    The seeds stand one after the other, each with rows of the table to itself.
    """
    most, each = world.longest, GROUPS * SIZE
    streams = [seeding.generator(seed, "credit", "play", update) for seed in seeds]
    prompt = np.concatenate([np.repeat(stream.integers(len(world.start), size=GROUPS), SIZE) for stream in streams])
    chance = np.concatenate([stream.random((world.turns, most + 1, each)) for stream in streams], 2)
    offset = world.actions + np.repeat(np.arange(len(seeds)), each) * len(world.initial)
    rows, width = len(prompt), 1 + world.turns * (most + 1)
    likely = np.exp(table - table.max(1, keepdims=True))
    likely /= likely.sum(1, keepdims=True)
    summed, logs = likely.cumsum(1), np.log(likely)
    summed[:, -1] = 1.0
    tokens, turn = np.zeros((rows, width), np.int64), np.full((rows, width), -1)
    logp, mask, seen = np.zeros((rows, width)), np.zeros((rows, width), bool), np.zeros((rows, width), np.int64)
    rewards, outcome = np.zeros((rows, world.turns)), np.zeros(rows)
    looks = np.arange(len(world.initial)) if world.looks is None else world.looks
    state, alive, length = world.start[prompt], np.ones(rows, bool), np.ones(rows, np.int64)
    tokens[:, 0] = offset + looks[state]
    for u in range(world.turns):
        left, action = alive.astype(np.int64), np.zeros(rows, np.int64)
        for word in range(most):
            here = np.flatnonzero(left)
            before = tokens[here, length[here] - 1]
            drawn = (chance[u, word, here, None] < summed[before]).argmax(1)
            if word == 0:
                action[here] = drawn
                left = np.where(alive, 1 if world.words is None else world.words[action], 0)
            at = length[here]
            tokens[here, at], logp[here, at], mask[here, at], turn[here, at] = drawn, logs[before, drawn], True, u
            seen[here, at] = looks[state[here]] * most + word
            length[here] += 1
            left = np.maximum(left - 1, 0)
        state, said, done, verdict = world.step(state, action, chance[u, most])
        rewards[alive, u] = said[alive]
        outcome[alive & done] = verdict[alive & done]
        alive &= ~done
        if u + 1 < world.turns:
            here = np.flatnonzero(alive)
            tokens[here, length[here]], turn[here, length[here]] = offset[here] + looks[state[here]], u
            length[here] += 1
    batch = Batch(
        tokens=torch.from_numpy(tokens), mask=torch.from_numpy(mask), turn=torch.from_numpy(turn),
        group=torch.arange(rows) // SIZE, logp_old=torch.from_numpy(logp).float(),
        rewards=torch.from_numpy(rewards).float(), outcome=torch.from_numpy(outcome).float(),
        stop=torch.from_numpy(np.where(alive, int(Stop.TURNS), int(Stop.DONE))),
        prompt_length=torch.ones(rows, dtype=torch.int64), length=torch.from_numpy(length),
        origin=torch.full((rows,), int(Origin.ON_POLICY)),
    )  # fmt: skip
    return batch, prompt, seen + np.repeat(np.arange(len(seeds)), each)[:, None] * len(world.initial) * most


def learn(
    recipe: Recipe, world: World, seeds: Sequence[int], *, updates: int = 60, lr: float = 0.03, value_lr: float = 0.1
) -> Curve:  # fmt: skip
    """Train a table from `world.initial` by a recipe, once for each seed: the steps of `workbench.train`, without text.

    All seeds are trained side by side in one table. No statistic of the recipes here reaches beyond a group, and Adam does not
    see by how many episodes a gradient was divided, so that is the same as one after the other (nearly so for the judge of
    `implicit_steps`, which averages over pairs, and one seed may have more of them). But for two cases, which are done one
    after the other: `calibrated` looks at the whole batch, and a later word of a turn is chosen by the word before.
    """
    if len(seeds) > 1 and (world.words is not None or any(term.name == "calibrated" for term in recipe.reward)):
        return Curve.join([learn(recipe, world, [seed], updates=updates, lr=lr, value_lr=value_lr) for seed in seeds])
    policy = models.Tabular(world.actions + len(seeds) * len(world.initial), world.actions, dtype=torch.float64)
    noise = [seeding.generator(seed, "credit", "start").normal(size=world.initial.shape) for seed in seeds]
    with torch.no_grad():
        policy.table[world.actions :] = torch.from_numpy(np.concatenate([np.log(world.initial) + 0.1 * each for each in noise]))
    needs, rounds = o.needs(recipe), range(recipe.schedule["epochs"])
    critic = nn.Parameter(torch.zeros(len(seeds) * len(world.initial) * world.longest, dtype=torch.float64))
    settings = [{"params": policy.parameters(), "lr": lr}, {"params": [critic], "lr": value_lr}]
    optimiser = torch.optim.Adam(settings, betas=(0.9, 0.95))
    judge = copy.deepcopy(policy)
    judged = torch.optim.Adam(judge.parameters(), lr=lr * recipe.advantage.get("speed", 1.0), betas=(0.9, 0.95))
    curve: list[list[Tensor]] = []
    for update in range(updates):
        batch, prompt, seen = play(policy.table.detach().numpy(), world, seeds, update)
        given: dict[str, Tensor] = {}
        with torch.no_grad():
            if "values" in needs:
                given["values"] = critic[seen] * batch.mask
            if "answer" in needs and world.gold is not None:
                given["answer"] = models.answer_logp(policy, batch, [[int(world.gold[p])] for p in prompt[::SIZE]])
            if "implicit" in needs:
                given["implicit"] = torch.where(batch.mask, judge.evaluate(batch).logp - batch.logp_old, 0)
        prepared = o.prepare(recipe, batch, **given)
        if "implicit" in needs:
            scored, part = judge.evaluate(batch).logp - batch.logp_old, recipe.advantage
            preference, pairs = o.preference_loss(batch, scored, beta=part["beta"], score=part["score"])
            judged.zero_grad()
            if pairs:
                (len(seeds) * preference).backward()
                judged.step()
        for _ in rounds:
            loss, _ = o.loss(recipe, prepared, policy.evaluate(batch).logp, values=critic[seen] if "values" in needs else None)
            optimiser.zero_grad()
            (len(seeds) * loss).backward()
            optimiser.step()
        turns, bad = batch.turns.double(), (batch.rewards < 0).sum(1).double()
        taught = (prepared.advantage != 0).any(1).view(-1, SIZE).any(1).double()
        per_seed = [value.view(len(seeds), -1).mean(1) for value in (batch.outcome.double(), bad, turns, 1 - taught)]
        curve.append([per_seed[0], per_seed[1] / per_seed[2], per_seed[2], per_seed[3]])
    found = torch.stack([torch.stack(each) for each in curve]).numpy()  # [updates, 4, seeds]
    table = policy.table[world.actions :].softmax(1).detach().view(len(seeds), *world.initial.shape).numpy()
    return Curve(*(found[:, k].T for k in range(4)), table)


# ---- the tasks ------------------------------------------------------------------------------------------------


def errands(calls: int, slack: int, chances: Sequence[float]) -> World:
    """Calls to be made in order: action 0 makes one, 1 makes it wrongly (which shows at the end alone), 2 is malformed and has
    to be repeated, 3 is well-formed and useless."""

    def step(state: np.ndarray, action: np.ndarray, chance: np.ndarray) -> tuple[np.ndarray, ...]:
        made = state % calls + (action < 2)
        spoiled = np.maximum(state // calls, action == 1)
        done = made == calls
        return np.where(done, 0, made) + calls * spoiled, -1.0 * (action == 2), done, 1.0 * (done & (spoiled == 0))

    initial = np.tile(np.array(chances), (calls, 1))
    return World(np.array([0]), step, initial, calls + slack, looks=np.tile(np.arange(calls), 2))


def programs(prompts: int = 8, length: int = 5, operations: int = 4, *, right: float) -> World:
    """The program of each prompt, an operation a turn, judged as a whole; `right` is the chance of each operation at first."""
    program = seeding.generator(0, "programs").integers(operations, size=(prompts, length))

    def step(state: np.ndarray, action: np.ndarray, chance: np.ndarray) -> tuple[np.ndarray, ...]:
        place, spoiled = state // 2, state % 2
        spoiled = np.maximum(spoiled, action != program.flat[place])
        done = place % length == length - 1
        return np.where(done, 0, 2 * (place + 1) + spoiled), 0.0 * action, done, 1.0 * (done & (spoiled == 0))

    initial = np.full((prompts * length, operations), (1 - right) / (operations - 1))
    initial[np.arange(prompts * length), program.flatten()] = right
    return World(2 * length * np.arange(prompts), step, initial, length, looks=np.arange(2 * prompts * length) // 2)


def busy(calls: int, slack: int, chances: Sequence[float]) -> World:
    """As `errands`, but what the task says of a turn misleads: action 1 looks something up, is praised (1) and helps nothing, 2
    makes a call wrongly and unnoticed (0), 3 is malformed (-1); the right call, 0, is worth 0."""

    def step(state: np.ndarray, action: np.ndarray, chance: np.ndarray) -> tuple[np.ndarray, ...]:
        made = state % calls + ((action == 0) | (action == 2))
        spoiled = np.maximum(state // calls, action == 2)
        done = made == calls
        said = np.array([0.0, 1.0, 0.0, -1.0])[action]
        return np.where(done, 0, made) + calls * spoiled, said, done, 1.0 * (done & (spoiled == 0))

    initial = np.tile(np.array(chances), (calls, 1))
    return World(np.array([0]), step, initial, calls + slack, looks=np.tile(np.arange(calls), 2))


def hunt(belief: Sequence[float], doors: int = 5, values: int = 8, prompts: int = 4, opens: float = 0.8) -> World:
    """Doors to be opened in the right order, then a value to be said. After h right doors the right value is said with the
    chance `belief[h]` at first: what one has seen makes the answer likelier, or does not until the last door."""
    hops, rng = len(belief) - 1, seeding.generator(0, "hunt")
    way, gold, looks = rng.integers(doors, size=(prompts, hops)), rng.integers(values, size=prompts), hops + 2  # the last: lost

    def step(state: np.ndarray, action: np.ndarray, chance: np.ndarray) -> tuple[np.ndarray, ...]:
        prompt, hop = state // looks, state % looks
        opened = action < doors
        right = opened & (hop < hops) & (action == way[prompt, np.minimum(hop, hops - 1)])
        hop = np.where(right, hop + 1, np.where(opened & (hop < hops), hops + 1, hop))
        return prompt * looks + hop, 0.0 * action, ~opened, 1.0 * (~opened & (action - doors == gold[prompt]))

    initial = np.zeros((prompts * looks, doors + values))
    for state in range(prompts * looks):
        hop = state % looks
        again = opens if hop < hops else 0.2 if hop == hops else 0.5
        known = min(belief[hop] if hop <= hops else belief[0], 0.99 - again)
        initial[state, :doors], initial[state, doors:] = again / doors, (1 - again - known) / (values - 1)
        initial[state, doors + gold[state // looks]] = known
    return World(looks * np.arange(prompts), step, initial, hops + 3, gold=doors + gold)


def rooms(length: int, decides: int, keys: int, high: float, low: float) -> World:
    """A walk through rooms where a key is taken in each, and only the one taken in room `decides` matters: with key 1 success
    has the chance `high`, with any other `low`."""

    def step(state: np.ndarray, action: np.ndarray, chance: np.ndarray) -> tuple[np.ndarray, ...]:
        room, has = state // 2, state % 2
        has = np.where(room == decides, action == 1, has)
        done = room == length - 1
        return np.where(done, 0, 2 * (room + 1) + has), 0.0 * action, done, 1.0 * (done & (chance < np.where(has, high, low)))

    return World(np.array([0]), step, np.full((length, keys), 1 / keys), length, looks=np.arange(2 * length) // 2)


def tables(hops: int, kinds: int, prompts: int = 4) -> World:
    """At each hop the right one of several tables has to be asked, and the task says of each turn whether it was."""
    way = seeding.generator(0, "tables").integers(kinds, size=(prompts, hops))

    def step(state: np.ndarray, action: np.ndarray, chance: np.ndarray) -> tuple[np.ndarray, ...]:
        place, lost = state // 2, state % 2
        right = action == way.flat[place]
        lost, done = np.maximum(lost, ~right), place % hops == hops - 1
        return np.where(done, 0, 2 * (place + 1) + lost), 1.0 * right, done, 1.0 * (done & (lost == 0))

    initial = np.full((prompts * hops, kinds), 1 / kinds)
    return World(2 * hops * np.arange(prompts), step, initial, hops, looks=np.arange(2 * prompts * hops) // 2)


def corridor(length: int, cap: int, slip: float, words: int, ways: int = 3) -> World:
    """A step forward with the right one of three actions (but for slips), else one back; success: the end within `cap` turns."""
    way = seeding.generator(0, "corridor").integers(ways, size=length)

    def step(state: np.ndarray, action: np.ndarray, chance: np.ndarray) -> tuple[np.ndarray, ...]:
        state = np.where((action == way[state]) & (chance > slip), state + 1, np.maximum(state - 1, 0))
        done = state == length
        return np.where(done, 0, state), 0.0 * action, done, 1.0 * done

    return World(np.array([0]), step, np.full((length, ways), 1 / ways), cap, words=np.full(ways, words))


def phrases(words: int = 6, right: float = 0.8) -> World:
    """Two turns, each said in one word or in `words`; neither has anything to do with success."""

    def step(state: np.ndarray, action: np.ndarray, chance: np.ndarray) -> tuple[np.ndarray, ...]:
        done = state == 1
        return 1 - state, 0.0 * action, done, 1.0 * (done & (chance < right))

    return World(np.array([0]), step, np.full((2, 2), 0.5), 2, words=np.array([1, words]))


# ---- the rows -------------------------------------------------------------------------------------------------

MEASURES: dict[str, Callable[[Curve], np.ndarray]] = {
    "success": lambda c: c.success.mean(1),
    "success at the end": lambda c: c.success[:, -10:].mean(1),
    "malformed turns": lambda c: c.malformed.mean(1),
    "turns at the end": lambda c: c.turns[:, -10:].mean(1),
    "groups that taught nothing": lambda c: c.dead.mean(1),
    "chance of the short phrase": lambda c: c.policy[:, :, 0].mean(1),
}
"""[seeds] of a curve; means over all updates unless it says at the end, which is the last ten."""


@dataclass(frozen=True)
class Demo:
    """One claim on one task: the method against what it is compared with, and again without what is said to make the difference.

    Attributes:
        sign: +1 if the claim is that the method has more of the measure, -1 less.
        without: what the ablation takes away; its effect is against the same baseline.
    """

    key: str
    claim: str
    setting: str
    world: World
    measure: str
    sign: int
    method: Recipe
    baseline: Recipe
    without: str
    ablated: Recipe
    seeds: int = 12
    updates: int = 60
    lr: float = 0.03

    def values(self, recipe: Recipe, seeds: int | None = None) -> list[float]:
        """The measure, one number a seed; of the first `seeds`, or of all."""
        curve = played(self.world, recipe, self.seeds if seeds is None else seeds, self.updates, self.lr)
        return MEASURES[self.measure](curve).round(5).tolist()


@cache
def played(world: World, recipe: Recipe, seeds: int, updates: int, lr: float) -> Curve:
    return learn(recipe, world, range(seeds), updates=updates, lr=lr)


def row(demo: Demo) -> dict[str, object]:
    """The demonstration, played."""
    arms = {recipe.name: demo.values(recipe) for recipe in (demo.method, demo.baseline, demo.ablated)}

    def effect(recipe: Recipe) -> list[float]:
        found = stats.paired_difference(arms[recipe.name], arms[demo.baseline.name])
        return [round(float(value), 4) for value in found]

    estimate, low, high = (demo.sign * value for value in effect(demo.method))
    low, high = min(low, high), max(low, high)
    return {
        "key": demo.key, "method": demo.method.name, "arxiv": demo.method.arxiv or demo.method.parent.arxiv,  # type: ignore[union-attr]
        "claim": demo.claim, "setting": demo.setting, "measure": demo.measure, "against": demo.baseline.name,
        "effect": effect(demo.method), "ablation": {"without": demo.without, "effect": effect(demo.ablated)},
        "verdict": "appears" if low > 0 else "reversed" if high < 0 else "not seen",
        "seeds": demo.seeds, "updates": demo.updates, "lr": demo.lr, "values": arms,
    }  # fmt: skip


R, NOISY = recipes, errands(3, 9, (0.35, 0.15, 0.4, 0.1))
READABLE, UNREADABLE = hunt((0.01, 0.05, 0.15, 0.6)), hunt((0.01, 0.01, 0.01, 0.6))
MISLED, LONG = busy(3, 2, (0.45, 0.3, 0.1, 0.15)), corridor(5, 12, 0.1, words=4)
LATE, OFTEN = errands(5, 3, (0.4, 0.2, 0.3, 0.1)), R.loop.but("loop_8", schedule=o.updates(epochs=8))
UNDISCOUNTED = R.gtpo.but("gtpo_undiscounted", advantage=o.turn_returns(gamma=1.0))
STRONGER = R.gtpo.but("gtpo_alpha_1", reward=(o.outcome(), o.turn_penalty(), o.similarity(1.0)))
NAIVE = R.gtpo_hybrid.but("hybrid_naive", reward=o.turn_penalty(0.5))
SILENT = R.gtpo_hybrid.but("hybrid_silent", reward=o.turn_penalty(0.0))
NO_OUTCOME = R.gtpo_hybrid.but("hybrid_without_outcome", advantage=o.turn_and_outcome(weight=0.0))
AT_ONCE = R.igpo.but("igpo_gamma_0", advantage=o.information_gain(gamma=0.0))

DEMOS = [
    Demo("gtpo turns", "Paying for each turn makes malformed calls rare sooner than paying for the answer.",
         "three calls, nine turns to spare, 40 % of calls malformed at first", NOISY, "malformed turns", -1,
         R.gtpo, R.grpo, "the rewards of turns", R.gtpo_without_turn_rewards),
    Demo("gtpo success", "Credit by the turn raises success.", "the same", NOISY, "success", +1,
         R.gtpo, R.grpo, "returns: all turns get the sum", R.gtpo_without_returns),
    Demo("gtpo discount", "A discount makes episodes short where useless calls cost nothing.",
         "three calls, nine turns to spare, 57 % of calls useless at first", errands(3, 9, (0.4, 0.02, 0.01, 0.57)),
         "turns at the end", -1, R.gtpo, R.grpo, "the discount", UNDISCOUNTED, updates=80),
    Demo("gtpo shaping", "Partial credit for failures that look like successes helps where successes are few.",
         "programs of five operations, 2 % right at first", programs(right=0.45), "success", +1,
         R.gtpo, R.gtpo_without_shaping, "moderation: alpha 1", STRONGER, updates=80, lr=0.05),
    Demo("gtpo shaping, easier", "The same.", "programs of five operations, 8 % right at first", programs(right=0.6), "success",
         +1, R.gtpo, R.gtpo_without_shaping, "moderation: alpha 1", STRONGER, updates=80, lr=0.05),
    Demo("hybrid", "Turn rewards that mislead cost success; calibrated by their correlation with it they do not.",
         "three calls, two turns to spare, a praised look-up that helps nothing", MISLED, "success", +1,
         R.gtpo_hybrid, NAIVE, "the outcome's own term", NO_OUTCOME, updates=50, seeds=8),
    Demo("hybrid, gain", "Calibrated turn rewards are better than none.", "the same", MISLED, "success", +1,
         R.gtpo_hybrid, SILENT, "calibration", NAIVE, updates=50, seeds=8),
    Demo("turn_ppo", "A critic of turns is better than a critic of tokens.", "a corridor of five steps, turns of four words",
         LONG, "success", +1, R.turn_ppo, R.ppo, "the ratio of turns", R.turn_ppo.but("turn_ppo_tokens", unit=o.token()),
         updates=50, lr=0.02, seeds=8),
    Demo("bilevel_ppo", "Advantages at two levels are better than at one.", "the same", LONG, "success", +1,
         R.bilevel_ppo, R.ppo, "the discount between turns",
         R.bilevel_ppo.but("bilevel_undiscounted", advantage=o.bilevel_gae(gamma=1.0)), updates=50, lr=0.02, seeds=8),
    Demo("poad", "A discount per token teaches PPO to be brief; one per action, no more than no discount does.",
         "two turns of one word or six, which change nothing", phrases(), "chance of the short phrase", -1,
         R.poad, R.ppo.but("ppo_discounted", advantage=o.gae(gamma=0.95)), "the discount (PPO at gamma 1)", R.ppo,
         updates=40, seeds=8),
    Demo("loop", "Rollouts used twice, with a clip, teach more than once.", "five calls, three turns to spare", LATE,
         "success", +1, R.loop, R.rloo, "the clip", R.loop.but("loop_unclipped", surrogate=o.policy_gradient())),
    Demo("loop, clip", "It is the ratio and its clip that allow it.", "the same, used eight times at a large rate", LATE,
         "success", +1, OFTEN, R.rloo.but("rloo_8", schedule=o.updates(epochs=8)), "the clip",
         OFTEN.but("loop_8_unclipped", surrogate=o.policy_gradient()), updates=30, lr=0.1, seeds=8),
    Demo("igpo", "Paying for what makes the answer likelier speeds up learning where success is rare.",
         "three doors in order, each of which shows a part of the evidence", READABLE, "success", +1,
         R.igpo, R.grpo, "credit for later turns", AT_ONCE, updates=100, lr=0.05, seeds=8),
    Demo("igpo, dead groups", "Fewer groups teach nothing.", "the same", READABLE, "groups that taught nothing", -1,
         R.igpo, R.grpo, "credit for later turns", AT_ONCE, updates=100, lr=0.05, seeds=8),
    Demo("igpo, no evidence", "The same where only the last door shows anything.", "three doors, evidence behind the last",
         UNREADABLE, "success", +1, R.igpo, R.grpo, "credit for later turns", AT_ONCE, updates=100, lr=0.05, seeds=8),
    Demo("oprl", "A judge that learns from preferences finds the turn that decides, and speeds up learning.",
         "six rooms with four keys, one of which matters, and a noisy outcome", rooms(6, 2, 4, 0.7, 0.3), "success", +1,
         R.oprl, R.grpo, "the judge's learning", R.oprl.but("oprl_frozen", advantage=o.implicit_steps(speed=1e-9)),
         updates=80),
    Demo("step_grpo", "A score for every step, compared with the same step of others, beats a verdict at the end.",
         "four hops, each through one of four tables", tables(4, 4), "success", +1,
         R.step_grpo, R.grpo, "groups of the steps: all get the sum", R.grpo.but("steps_summed", reward=o.step_rewards()),
         lr=0.05),
]  # fmt: skip


def main(keys: Sequence[str]) -> None:
    started, path = time.process_time(), HERE / "credit.json"
    for demo in DEMOS:
        if keys and not any(demo.key.startswith(key) for key in keys):
            continue
        new = row(demo)
        print(demo.key, demo.measure, new["effect"], "ablation", new["ablation"], new["verdict"], flush=True)
        old = json.loads(path.read_text())["rows"] if path.exists() else []
        known = {each["key"]: each for each in [*old, new]}
        lines = ",\n".join("  " + json.dumps(known[each.key]) for each in DEMOS if each.key in known)
        start = json.dumps(ABOUT, indent=1).removesuffix("\n}")
        path.write_text(start + ',\n "rows": [\n' + lines + "\n ]\n}\n", encoding="utf-8")
    print(f"{time.process_time() - started:.0f} s of one core")


ABOUT = {
    "made by": "python data/credit.py",
    "fields": "effect: mean paired difference of the measure, method minus against, and the ends of Student's 95 % interval; "
    "ablation: the same for the method without the part named; values: the measure of each arm, one number a seed from 0; "
    "verdict: whether the interval leaves out 0 on the side of the claim (appears), on the other (reversed), or holds it",
    "tasks": f"tables of a few states, {GROUPS} prompts x {SIZE} rollouts an update, Adam; see data/credit.py",
}


if __name__ == "__main__":
    main(sys.argv[1:])
