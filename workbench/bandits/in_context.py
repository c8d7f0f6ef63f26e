"""A transformer that learns to explore: shown logs of many bandits, it plays a new one well without changing a weight.

Two ways to train it. The *decision-pretrained transformer* (Lee et al. 2023, arXiv 2306.14892) reads a log that somebody wrote
by pulling arms at random, and must name the best arm after every prefix of it; whoever then draws arms from its answer does
posterior sampling, which is Thompson's rule. *Algorithm distillation* (Laskin et al. 2022, arXiv 2210.14215) reads the history
of a bandit algorithm and must name the arm that the algorithm pulled next; it becomes that algorithm.

The exact Bayesian answer is here too (`posterior_best`): it is what the first network is learning to compute. Shapes: B tasks,
H pulls, K arms, R repetitions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from workbench import seeding
from workbench.bandits.play import Policy

Array = np.ndarray
CELLS = 512  # of the grid on which a posterior over one arm's mean is held
BLOCK = 32  # batches of training data made at once


@dataclass(frozen=True)
class TaskDistribution:
    """Gaussian bandits whose means are drawn independently and uniformly from `low` to `high`; rewards have deviation `std`.

    It is a problem for `workbench.bandits.play`, in which each repetition has means of its own.

    Raises:
        ValueError: fewer than two arms, an empty range, or a deviation that is not positive.
    """

    arms: int = 5
    low: float = 0.0
    high: float = 1.0
    std: float = 0.3

    feedback = ("bandit",)

    def __post_init__(self) -> None:
        if self.arms < 2:
            raise ValueError(f"a bandit needs at least two arms, not {self.arms!r}")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"means are drawn from low to high, with low < high, not {self.low!r} to {self.high!r}")
        if not 0 < self.std < math.inf:
            raise ValueError(f"std must be a positive number, not {self.std!r}")

    def means(self, count: int, seed: int | np.random.Generator) -> Array:
        """[count,K] means of that many tasks."""
        if count < 1:
            raise ValueError(f"count must be at least 1, not {count!r}")
        return _generator(seed, "tasks").uniform(self.low, self.high, (count, self.arms))

    def start(self, repetitions: int, horizon: int, rng: np.random.Generator, *, full: bool = False) -> _Rounds:
        """A new task for each repetition; see `workbench.bandits.problems.Problem`."""
        return _Rounds(self.means(repetitions, rng), self.std, rng)


@dataclass(frozen=True)
class _Rounds:
    """One bandit a repetition: means [R,K]. The noise of a round is the same whatever the arm."""

    means: Array
    std: float
    rng: np.random.Generator

    def show(self) -> None:
        return None

    def pull(self, arm: Array) -> tuple[Array, Array]:
        paid = self.means[np.arange(len(arm)), arm]
        return paid + self.std * self.rng.standard_normal(len(arm)), self.means.max(1) - paid


@dataclass(frozen=True)
class Logs:
    """arms, rewards [B,H]: what was pulled and what it paid, in order. best [B]: the arm with the highest mean. means [B,K]."""

    arms: Array
    rewards: Array
    best: Array
    means: Array

    @property
    def regret(self) -> Array:
        """[B,H] what always pulling the best arm would have earned more on average, in total so far."""
        return (self.means.max(1, keepdims=True) - np.take_along_axis(self.means, self.arms, 1)).cumsum(1)


def random_logs(tasks: TaskDistribution, count: int, horizon: int, seed: int | np.random.Generator) -> Logs:
    """Logs of players who do not learn: each pulls from fixed probabilities of its own.

    A player mixes Dirichlet(1, ..., 1) probabilities with one favourite arm, the favourite's weight being 0, .1, ..., or 1 (the
    official code of Lee et al. 2023). Neither knows the means, so an arm's frequency says nothing of its worth.
    """
    if horizon < 1:
        raise ValueError(f"horizon must be at least 1, not {horizon!r}")
    rng = _generator(seed, "logs")
    means = tasks.means(count, rng)
    waiting = rng.standard_exponential((count, tasks.arms))
    favourite, weight = rng.integers(0, tasks.arms, count), rng.integers(0, 11, count) / 10
    chance = (1 - weight)[:, None] * waiting / waiting.sum(1, keepdims=True)
    chance[np.arange(count), favourite] += weight
    edges = chance.cumsum(1)[:, None, :-1]
    arms = (rng.random((count, horizon, 1)) >= edges).sum(2)
    rewards = np.take_along_axis(means, arms, 1) + tasks.std * rng.standard_normal((count, horizon))
    return Logs(arms, rewards, means.argmax(1), means)


# ---- the exact answer -----------------------------------------------------------------------------------------------


def summary(arms: Array, rewards: Array, count: int) -> tuple[Array, Array]:
    """Pulls and summed rewards of each arm after every prefix: two arrays [B,H+1,K] from arms, rewards [B,H]."""
    one_hot = np.eye(count)[arms]  # [B,H,K]
    start = np.zeros((len(arms), 1, count))
    pulls = np.concatenate([start, one_hot.cumsum(1)], 1)
    sums = np.concatenate([start, (one_hot * rewards[..., None]).cumsum(1)], 1)
    return pulls, sums


def posterior_best(pulls: Array, sums: Array, std: float, grid: Array, weight: Array | None = None) -> Array:
    """The probability [...,K] that each arm is the best one, given its pulls and summed rewards [...,K].

    Arms are independent with a prior that lies on `grid` [M], equally spaced, with `weight` [M] (default: uniform); rewards are
    Gaussian with deviation `std`. The integral over the best arm's mean m of p_k(m) times the product over the others of
    P(mean <= m) is taken by the midpoint rule: its error falls as 1/M^2.
    """
    pulls, sums = np.asarray(pulls, float)[..., None], np.asarray(sums, float)[..., None]
    log = (sums * grid - 0.5 * pulls * grid**2) / std**2  # of the likelihood, up to a constant
    if weight is not None:
        log = log + np.log(weight)
    mass = np.exp(log - log.max(-1, keepdims=True))
    mass /= mass.sum(-1, keepdims=True)
    below = mass.cumsum(-1) - 0.5 * mass  # [...,K,M]
    product = np.ones_like(below[..., 0, :])
    before = np.empty_like(below)  # products of the arms before and after, so that nothing is divided by zero
    for k in range(below.shape[-2]):
        before[..., k, :] = product
        product = product * below[..., k, :]
    product = np.ones_like(product)
    for k in reversed(range(below.shape[-2])):
        before[..., k, :] *= product
        product = product * below[..., k, :]
    best = (mass * before).sum(-1)
    return best / best.sum(-1, keepdims=True)


def grid_of(tasks: TaskDistribution, cells: int = CELLS) -> Array:
    """Midpoints of `cells` equal cells from `low` to `high`."""
    return tasks.low + (np.arange(cells) + 0.5) * (tasks.high - tasks.low) / cells


def bayes_loss(tasks: TaskDistribution, logs: Logs) -> Array:
    """[H+1] the loss of the exact posterior on these logs: no predictor has a lower one on average.

    Nats, at every length of prefix; ln K at length 0.
    """
    grid, out = grid_of(tasks), []
    pulls, sums = summary(logs.arms, logs.rewards, tasks.arms)
    rows = np.arange(len(logs.best))
    for n in range(pulls.shape[1]):
        chance = posterior_best(pulls[:, n], sums[:, n], tasks.std, grid)
        out.append(-np.log(np.maximum(chance[rows, logs.best], 1e-12)).mean())
    return np.array(out)


# ---- playing --------------------------------------------------------------------------------------------------------


def play_tasks(
    policy: Policy, tasks: TaskDistribution, count: int, horizon: int, seed: int | np.random.Generator
) -> Logs:
    """What `policy` pulls and earns on `count` tasks, as logs in the order of play: `play`, with the whole history kept."""
    if horizon < 1:
        raise ValueError(f"horizon must be at least 1, not {horizon!r}")
    nature = _generator(seed, "nature")
    coin = nature if isinstance(seed, np.random.Generator) else seeding.generator(seed, "policy")
    rounds = tasks.start(count, horizon, nature)
    policy.start(count, tasks.arms, horizon)
    arms, rewards = np.empty((count, horizon), int), np.empty((count, horizon))
    for t in range(horizon):
        arms[:, t] = policy.choose(coin)
        rewards[:, t], _ = rounds.pull(arms[:, t])
        policy.update(arms[:, t], rewards[:, t])
    return Logs(arms, rewards, rounds.means.argmax(1), rounds.means)


class PosteriorSampling:
    """Thompson sampling for `tasks`: pull each arm with the probability, given all that was seen, that it is the best one.

    With `gaussian` the uniform prior is replaced by the normal one of the same mean and variance, for which the posterior has a
    closed form; that is what Lee et al. compare with. Without, the posterior is exact (`posterior_best`).
    """

    feedback = "bandit"

    def __init__(self, tasks: TaskDistribution, *, gaussian: bool = False) -> None:
        self.tasks, self.gaussian, self.grid = tasks, gaussian, grid_of(tasks, CELLS // 2)

    def start(self, repetitions: int, arms: int, horizon: int) -> None:
        if arms != self.tasks.arms:
            raise ValueError(f"this prior is of {self.tasks.arms} arms, the problem has {arms}")
        self.pulls, self.sums = np.zeros((repetitions, arms)), np.zeros((repetitions, arms))

    def choose(self, rng: np.random.Generator, *context: Any) -> Array:
        if not self.gaussian:
            return _draw(posterior_best(self.pulls, self.sums, self.tasks.std, self.grid), rng)
        mean, var = (self.tasks.low + self.tasks.high) / 2, (self.tasks.high - self.tasks.low) ** 2 / 12
        precision = 1 / var + self.pulls / self.tasks.std**2
        centre = (mean / var + self.sums / self.tasks.std**2) / precision
        return (centre + rng.standard_normal(centre.shape) / np.sqrt(precision)).argmax(1)

    def update(self, arm: Array, reward: Array) -> None:
        rows = np.arange(len(arm))
        self.pulls[rows, arm] += 1
        self.sums[rows, arm] += reward


class InContext:
    """A trained network as a policy: it draws arms from its answer, or, with `greedy`, takes the likeliest.

    Its weights stay as they are; all it learns is in its memory of the history, which grows by one token a pull.
    """

    feedback = "bandit"

    def __init__(self, model: HistoryTransformer, *, greedy: bool = False) -> None:
        self.model, self.greedy = model, greedy

    def start(self, repetitions: int, arms: int, horizon: int) -> None:
        if arms != self.model.arms:
            raise ValueError(f"this network was made for {self.model.arms} arms, the problem has {arms}")
        self.model._check(horizon - 1)  # before the first pull it has seen none
        with torch.no_grad():
            self._logits, self._memory = self.model.begin(repetitions)

    def probabilities(self) -> Array:
        """Its answer: the probability [R,K] of each arm in the coming pull."""
        return self._logits.double().softmax(1).numpy()

    def choose(self, rng: np.random.Generator, *context: Any) -> Array:
        return self._logits.argmax(1).numpy() if self.greedy else _draw(self.probabilities(), rng)

    def update(self, arm: Array, reward: Array) -> None:
        if self._memory[0][0].shape[1] > self.model.horizon:
            return  # after its last pull there is nothing left to choose
        read = torch.from_numpy(np.asarray(arm)), torch.from_numpy(np.asarray(reward)).float()
        with torch.no_grad():
            self._logits, self._memory = self.model.extend(self._memory, *read)


def recommend(model: HistoryTransformer, logs: Logs) -> Array:
    """[B] the likeliest arm after the whole of each log: what to play when no more can be tried."""
    with torch.no_grad():
        return model(torch.from_numpy(logs.arms), torch.from_numpy(logs.rewards).float())[:, -1].argmax(1).numpy()


def _draw(chance: Array, rng: np.random.Generator) -> Array:
    """One index a row of `chance` [R,K]."""
    edges = chance.cumsum(1)
    return (rng.random((len(chance), 1)) * edges[:, -1:] >= edges[:, :-1]).sum(1)


# ---- the network ----------------------------------------------------------------------------------------------------


class HistoryTransformer(nn.Module):
    """Reads pulls and rewards, and after each says which arm comes next: logits [B,H+1,K], position n having seen n pulls.

    Causal, pre-norm, learned positions; one token a pull (arm one-hot, reward) after a first token that says nothing. With
    width 32 and two layers, 26,755 parameters for K = 3 and H = 30; 27,525 for K = 5 and H = 50. The last layer starts at
    zero, so that an untrained network says 1/K at every position, exactly.

    Raises:
        ValueError: sizes out of range, or a width that the heads do not divide.
    """

    hidden: Tensor  # [H+1,H+1] 0 where a position may look, -inf where it may not

    def __init__(
        self, arms: int, horizon: int, *, width: int = 32, layers: int = 2, heads: int = 2, seed: int = 0
    ) -> None:
        super().__init__()
        if arms < 2 or horizon < 1 or layers < 1:
            raise ValueError(
                f"at least two arms, one pull and one layer are needed, not arms={arms}, horizon={horizon}, layers={layers}"
            )
        if heads < 1 or width % heads:
            raise ValueError(f"width must be a multiple of heads, not {width} and {heads}")
        self.arms, self.horizon, self.width, self.heads = arms, horizon, width, heads
        with torch.random.fork_rng(devices=[]):  # the caller's global stream stays as it is
            torch.random.default_generator.manual_seed(seeding.integer(seed, "history transformer"))
            self.read = nn.Linear(arms + 1, width)
            self.start = nn.Parameter(0.02 * torch.randn(width))
            self.position = nn.Parameter(0.02 * torch.randn(horizon + 1, width))
            self.blocks: Any = nn.ModuleList(_Block(width, heads) for _ in range(layers))
            self.norm = nn.LayerNorm(width)
            self.answer = nn.Linear(width, arms)
        nn.init.zeros_(self.answer.weight)
        nn.init.zeros_(self.answer.bias)
        hidden = torch.full((horizon + 1, horizon + 1), -math.inf).triu(1)
        self.register_buffer("hidden", hidden, persistent=False)

    def forward(self, arms: Tensor, rewards: Tensor) -> Tensor:
        """Logits [B,H'+1,K] from arms [B,H'] and rewards [B,H'], H' at most `horizon`."""
        rows, pulls = arms.shape
        self._check(pulls)
        x = torch.cat([self.start.expand(rows, 1, self.width), self._tokens(arms, rewards)], 1)
        x = x + self.position[: pulls + 1]
        for block in self.blocks:
            x = block(x, self.hidden[: pulls + 1, : pulls + 1])
        return self.answer(self.norm(x))

    def begin(self, rows: int) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Before the first pull of `rows` tasks: logits [rows,K], and the memory to hand to `extend`."""
        return self._advance(self.start.expand(rows, 1, self.width), [])

    def extend(
        self, memory: list[tuple[Tensor, Tensor]], arms: Tensor, rewards: Tensor
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """One more pull a task, arms and rewards [rows]: logits [rows,K] and the memory, now one pull longer.

        What earlier positions computed is remembered (keys and values), so a step costs one token and not the whole history.
        """
        return self._advance(self._tokens(arms[:, None], rewards[:, None]), memory)

    def _advance(
        self, x: Tensor, memory: list[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        place = memory[0][0].shape[1] if memory else 0
        self._check(place)
        longer = []
        x = x + self.position[place]
        for number, block in enumerate(self.blocks):
            x, kept = block.extend(x, memory[number] if memory else None)
            longer.append(kept)
        return self.answer(self.norm(x))[:, 0], longer

    def _tokens(self, arms: Tensor, rewards: Tensor) -> Tensor:
        by_arm, by_reward = self.read.weight.T.split([self.arms, 1])
        return functional.embedding(arms, by_arm) + rewards[..., None].to(by_arm.dtype) * by_reward + self.read.bias

    def _check(self, pulls: int) -> None:
        if pulls > self.horizon:
            raise ValueError(
                f"this network was made for {self.horizon} pulls and knows no position {pulls}; "
                "play a shorter horizon, or train one with a longer `horizon`"
            )

    def save(self, path: str | Path) -> None:
        """Weights and sizes as one safetensors file."""
        from safetensors.torch import save_file

        sizes = {"arms": self.arms, "horizon": self.horizon, "width": self.width, "layers": len(self.blocks)}
        text = {name: str(value) for name, value in {**sizes, "heads": self.heads}.items()}
        state = {name: value.contiguous() for name, value in self.state_dict().items()}
        save_file(state, str(path), {"format": "workbench-history-transformer-1", **text})

    @staticmethod
    def load(path: str | Path) -> HistoryTransformer:
        """Read what `save` wrote. Raises OSError if there is no such file, ValueError if it is something else."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), "pt") as file:
                about = file.metadata() or {}
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(f"{path} is not a saved HistoryTransformer, or is cut short: {error}") from error
        if about.get("format") != "workbench-history-transformer-1":
            raise ValueError(f"{path} is not a saved HistoryTransformer")
        sizes = {name: int(about[name]) for name in ("width", "layers", "heads")}
        model = HistoryTransformer(int(about["arms"]), int(about["horizon"]), **sizes)
        model.load_state_dict(state)
        return model


class _Block(nn.Module):
    """Attention to what came before, then a feed-forward layer; both add to the stream."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attend, self.norm_think = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.gather = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        rows, tokens, width = x.shape
        # plain products: at this size faster than the fused attention kernel, forwards and backwards
        split = self.query_key_value(self.norm_attend(x)).view(rows, tokens, 3, self.heads, -1)
        query, key, value = split.permute(2, 0, 3, 1, 4).flatten(1, 2)
        score = torch.baddbmm(hidden, query, key.transpose(1, 2), alpha=query.shape[-1] ** -0.5)
        seen = torch.bmm(score.softmax(-1), value).view(rows, self.heads, tokens, -1)
        x = x + self.gather(seen.transpose(1, 2).reshape(rows, tokens, width))
        return x + self.down(functional.relu(self.up(self.norm_think(x))))

    def extend(self, x: Tensor, memory: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The same for one new token [B,1,D], with the keys and values [B,n,heads,d] of the n tokens before it."""
        rows, _, width = x.shape
        split = self.query_key_value(self.norm_attend(x)).view(rows, 1, 3, self.heads, -1)
        query, key, value = split.unbind(2)
        if memory is not None:
            key, value = torch.cat([memory[0], key], 1), torch.cat([memory[1], value], 1)
        score = torch.einsum("bhd,bnhd->bhn", query[:, 0], key) * query.shape[-1] ** -0.5
        seen = torch.einsum("bhn,bnhd->bhd", score.softmax(-1), value).reshape(rows, 1, width)
        x = x + self.gather(seen)
        return x + self.down(functional.relu(self.up(self.norm_think(x)))), (key, value)


# ---- training -------------------------------------------------------------------------------------------------------


def prefix_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Mean cross-entropy (nats) at every length of prefix: [N] from logits [B,N,K] and label [B] or [B,N].

    With one label a task this is the loss of decision pretraining, with one a position that of algorithm distillation.
    """
    rows, lengths, arms = logits.shape
    target = label[:, None].expand(rows, lengths) if label.ndim == 1 else label
    each = functional.cross_entropy(logits.reshape(-1, arms), target.reshape(-1), reduction="none")
    return each.view(rows, lengths).mean(0)


@dataclass(frozen=True)
class PretrainRecord:
    """One step of training. loss: nats, mean over prefixes. by_prefix: the same at every length of prefix. lr: learning rate."""

    step: int
    loss: float
    by_prefix: Array
    lr: float


def pretrain(
    model: HistoryTransformer, tasks: TaskDistribution, *, steps: int, batch_size: int = 64, lr: float = 3e-3,
    seed: int = 0, logs: Callable[[TaskDistribution, int, int, np.random.Generator], Logs] = random_logs,
) -> Iterator[PretrainRecord]:  # fmt: skip
    """Decision pretraining: name the best arm after every prefix of a log. Every step sees new tasks and new logs.

    A generator: each step happens when its record is asked for; stop when you like. AdamW; the learning rate rises over 100
    steps and falls to 0 along a cosine. A thousand steps come near Thompson sampling for 3 arms and 30 pulls; the recorded
    networks (`data/explorers.py`) took 8,000, and 6,000 for 5 arms and 50 pulls: under three minutes of one core.

    Args:
        logs: who makes them; default: players who do not learn. The label is `Logs.best`.
    Raises:
        ValueError: bad settings, or tasks with another number of arms. FloatingPointError: the loss is not finite.
    """
    def batches() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for block in range(math.ceil(steps / BLOCK)):
            made = logs(tasks, BLOCK * batch_size, model.horizon, seeding.generator(seed, "pretrain", block))
            yield from _cut(made.arms, made.rewards, made.best, batch_size)

    return _fit(model, tasks, batches(), steps, batch_size, lr)


def distil(
    model: HistoryTransformer, tasks: TaskDistribution, teacher: Policy, *, steps: int, batch_size: int = 64, lr: float = 3e-3,
    seed: int = 0,
) -> Iterator[PretrainRecord]:  # fmt: skip
    """Algorithm distillation: name the arm that `teacher` pulled next, after every prefix of its history.

    The histories are played afresh in every step and read in the order in which they were played. Arguments, records and errors
    as in `pretrain`.
    """

    def batches() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for block in range(math.ceil(steps / BLOCK)):
            rng = seeding.generator(seed, "distil", block)
            made = play_tasks(teacher, tasks, BLOCK * batch_size, model.horizon + 1, rng)
            yield from _cut(made.arms[:, :-1], made.rewards[:, :-1], made.arms, batch_size)

    return _fit(model, tasks, batches(), steps, batch_size, lr)


def _cut(arms: Array, rewards: Array, label: Array, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    pieces = (torch.from_numpy(np.ascontiguousarray(part)) for part in (arms, rewards.astype(np.float32), label))
    yield from zip(*(piece.split(size) for piece in pieces))


def _fit(
    model: HistoryTransformer, tasks: TaskDistribution, batches: Iterator[tuple[Tensor, Tensor, Tensor]], steps: int,
    batch_size: int, lr: float,
) -> Iterator[PretrainRecord]:  # fmt: skip
    if tasks.arms != model.arms:
        raise ValueError(f"the tasks have {tasks.arms} arms, the network was made for {model.arms}")
    if steps < 1 or batch_size < 1 or not lr > 0:
        raise ValueError(f"steps, batch_size and lr must be positive, not {steps!r}, {batch_size!r} and {lr!r}")

    def run() -> Iterator[PretrainRecord]:
        optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-4, fused=True)
        parameters = list(model.parameters())
        for step, (arms, rewards, label) in zip(range(1, steps + 1), batches):
            rate = lr * min(1.0, step / 100) * 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))
            optimiser.param_groups[0]["lr"] = rate
            by_prefix = prefix_loss(model(arms, rewards), label)
            loss = by_prefix.mean()
            if not math.isfinite(loss.item()):
                raise FloatingPointError(f"step {step}: the loss is {loss.item()}; a lower lr usually helps")
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            yield PretrainRecord(step, loss.item(), by_prefix.detach().numpy(), rate)

    return run()


def _generator(seed: int | np.random.Generator, key: str) -> np.random.Generator:
    return seed if isinstance(seed, np.random.Generator) else seeding.generator(seed, key)
