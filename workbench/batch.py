"""The one record: everything that acts produces a `Batch`, everything that learns consumes one.

A pull of a bandit arm is an episode of one sampled token, a trajectory in a Markov decision process (MDP) is an episode of
actions between states, a dialogue with tools is an episode of turns. Shapes: B episodes, T tokens, U turns.

    prompt      turn 0          reply       turn 1
    7 8 * 4 =   <T> 7 8 </T>    <R> 2 </R>  3 1 2
    mask  0     1 1 1 1         0 0 0       1 1 1        1 = sampled by the policy
    turn -1     0 0 0 0         0 0 0       1 1 1        a reply belongs to the turn it answers

Most episodes are one row. One whose context was rewritten on the way (a summary in the place of what it sums up) is several:
each row then starts from the context as it was, the turns keep their numbers, and `rollout` says which rows are one episode.

    rollout 0   count a: b a a b   <T> summary 2 </T>
    turn        -1       -1        0
    rollout 0   count a: 2  a a b  3                      the second row: what it starts from is prompt, turn 1 is new
    turn        -1       -1 -1     1
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class Stop(IntEnum):
    """Why an episode ended."""

    DONE = 0  # the policy or the environment finished it
    LENGTH = 1  # a turn used up its tokens: truncated
    TURNS = 2  # all turns used without an answer
    CONTEXT = 3  # the model's context is full
    ERROR = 4  # the task raised; the episode carries no information


class Origin(IntEnum):
    """Who acted."""

    ON_POLICY = 0
    REPLAY = 1
    EXPERT = 2


_SHAPES = {
    "tokens": "BT", "mask": "BT", "turn": "BT", "logp_old": "BT", "rewards": "BU",
    "group": "B", "outcome": "B", "stop": "B", "prompt_length": "B", "length": "B", "origin": "B", "rollout": "B",
}  # fmt: skip
_DTYPES = {"mask": torch.bool, "logp_old": torch.float32, "rewards": torch.float32, "outcome": torch.float32}
_PADDING = {"turn": -1}  # every other field is padded with 0


@dataclass(frozen=True, eq=False)
class Batch:
    """B rows of at most T tokens and U turns: an episode each, or, where `rollout` says so, a part of one.

    Token t of a row was chosen knowing tokens 0..t-1 of that row. All tensors live on one device; integers are int64.

    Attributes:
        tokens: [B,T] ids, 0 after `length`.
        mask: [B,T] bool, true where the policy sampled the token. Never derived from ids.
        turn: [B,T] -1 on the prompt and after `length`; j on the sampled tokens of turn j and on the reply to it. Turns are
            numbered through the rollout: a later row starts with a later turn.
        group: [B] episodes with the same number answer the same prompt.
        logp_old: [B,T] float32 log-probability under the policy that sampled, at its temperature; 0 off the mask.
        rewards: [B,U] float32, what the task said of each turn by itself; 0 for turns that are not in the row.
        outcome: [B] float32, the verdict on the whole episode (0 or 1 where there is one right answer).
        stop: [B] a `Stop`.
        prompt_length: [B] how many tokens were given at the start.
        length: [B] how many of the T tokens are real.
        origin: [B] an `Origin`.
        rollout: [B] rows with the same number are one episode: they share group, outcome, stop and origin, and no turn is
            sampled in two of them. Renumbered 0, 1, ... in order of first appearance. Default: every row its own.
    Raises:
        TypeError, ValueError: on construction, naming the field, the row, and what was expected.
    """

    tokens: Tensor
    mask: Tensor
    turn: Tensor
    group: Tensor
    logp_old: Tensor
    rewards: Tensor
    outcome: Tensor
    stop: Tensor
    prompt_length: Tensor
    length: Tensor
    origin: Tensor
    rollout: Tensor = None  # type: ignore[assignment]  # filled in on construction

    def __post_init__(self) -> None:
        if self.rollout is None and isinstance(self.tokens, Tensor) and self.tokens.ndim:
            object.__setattr__(self, "rollout", torch.arange(len(self.tokens), device=self.tokens.device))
        sizes: dict[str, int] = {}
        for name, shape in _SHAPES.items():
            value = getattr(self, name)
            if not isinstance(value, Tensor):
                raise TypeError(f"Batch.{name} must be a torch tensor [{','.join(shape)}], not {type(value).__name__}")
            if value.ndim != len(shape):
                raise ValueError(f"Batch.{name} must have shape [{','.join(shape)}], not {tuple(value.shape)}")
            for axis, size in zip(shape, value.shape):
                if sizes.setdefault(axis, size) != size:
                    expected = [sizes.get(a, s) for a, s in zip(shape, value.shape)]
                    raise ValueError(f"Batch.{name} has shape {tuple(value.shape)}; the other fields imply {expected}")
            dtype = _DTYPES.get(name, torch.int64)
            if value.dtype != dtype:
                raise TypeError(f"Batch.{name} must be {dtype}, not {value.dtype}; convert it with .to({dtype})")
            if value.device != self.tokens.device:
                raise ValueError(f"Batch.{name} is on {value.device}, tokens on {self.tokens.device}; use Batch.to()")
        for name in ("logp_old", "rewards", "outcome"):
            self._refuse(name, ~torch.isfinite(getattr(self, name)), "is not finite; drop or repair that episode")
        position = torch.arange(sizes["T"], device=self.tokens.device)
        inside = position < self.length[:, None]
        self._refuse("length", (self.length < 1) | (self.length > sizes["T"]), f"must be from 1 to {sizes['T']}")
        self._refuse("prompt_length", self.prompt_length > self.length, "is longer than the episode")
        self._refuse("prompt_length", self.prompt_length < 0, "is negative")
        self._refuse("mask", self.mask & ~inside, "marks a token after the end of its episode")
        self._refuse("mask", self.mask & (position < self.prompt_length[:, None]), "marks a token of the prompt")
        self._refuse("turn", self.mask & (self.turn < 0), "must be 0 or more on every sampled token")
        self._refuse("turn", self.turn >= sizes["U"], f"must be below the {sizes['U']} columns of rewards")
        self._refuse("turn", ~inside & (self.turn != -1), "must be -1 after the end of the episode")
        running = torch.where(self.turn < 0, -1, self.turn).cummax(1).values if self.tokens.numel() else self.turn
        self._refuse("turn", self.mask & (self.turn < running), "goes back to an earlier turn")
        self._refuse("logp_old", ~self.mask & (self.logp_old != 0), "must be 0 where nothing was sampled")
        self._refuse("logp_old", self.logp_old > 1e-4, "is a log-probability and cannot be positive")
        self._refuse("stop", (self.stop < 0) | (self.stop > max(Stop)), f"must be one of {[s.name for s in Stop]}")
        origins = [o.name for o in Origin]
        self._refuse("origin", (self.origin < 0) | (self.origin > max(Origin)), f"must be one of {origins}")
        object.__setattr__(self, "rollout", _in_order(self.rollout))
        if self.rollouts < len(self):
            self._check_rollouts()

    def _check_rollouts(self) -> None:
        first = self.first_rows[self.rollout]
        for name in ("group", "outcome", "stop", "origin"):
            value = getattr(self, name)
            self._refuse(name, value != value[first], "differs from that of another row of its rollout; they share it")
        sampled = (self.last_token >= 0).to(torch.int64)
        again = torch.zeros_like(sampled[: self.rollouts]).index_add(0, self.rollout, sampled)[self.rollout] > 1
        if again.any():
            row, turn = again.nonzero()[0].tolist()
            raise ValueError(
                f"Batch.turn: turn {turn} of rollout {int(self.rollout[row])} (row {row}) is sampled in several rows: number "
                "the turns through the rollout, and mask what a row repeats of the rows before it"
            )

    def _refuse(self, name: str, bad: Tensor, why: str) -> None:
        if bad.any():
            where = bad.nonzero()[0].tolist()
            at = f"row {where[0]}" + (f", column {where[1]}" if len(where) > 1 else "")
            raise ValueError(f"Batch.{name} at {at} ({getattr(self, name)[tuple(where)].item()}) {why}")

    # ---- reading ----------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self.tokens.shape[0]

    @property
    def turns(self) -> Tensor:
        """[B] how many turns were sampled in each row."""
        return (self.last_token >= 0).sum(1)

    @property
    def rollouts(self) -> int:
        """R, the number of episodes: B, unless some have several rows."""
        return int(self.rollout.max()) + 1 if len(self) else 0

    @property
    def first_rows(self) -> Tensor:
        """[R] the first row of each rollout: `batch.outcome[batch.first_rows]` counts every episode once."""
        row = torch.arange(len(self), device=self.rollout.device)
        return torch.full_like(row[: self.rollouts], len(self)).scatter_reduce(0, self.rollout, row, "amin")

    def of_rollouts(self, values: Tensor) -> Tensor:
        """[B,...] -> [R,...]: the sum over the rows of each rollout."""
        return values.new_zeros(self.rollouts, *values.shape[1:]).index_add(0, self.rollout, values)

    def end_to_end(self, values: Tensor) -> Tensor:
        """[B,T] -> [R,K*T]: the rows of each rollout one after the other, in the order of their turns; K rows at most."""
        place, rows = self._places()
        joined = values.new_zeros(self.rollouts * rows, values.shape[1]).index_copy(0, place, values)
        return joined.view(self.rollouts, rows * values.shape[1])

    def row_by_row(self, joined: Tensor) -> Tensor:
        """[R,K*T] -> [B,T]: the inverse of `end_to_end`."""
        return joined.view(-1, self.tokens.shape[1])[self._places()[0]]

    def _places(self) -> tuple[Tensor, int]:
        """For each row its place [B] in a table of R x K rows, and K."""
        turns = self.rewards.shape[1]
        first = self.turn.masked_fill(~self.mask, turns).amin(1)  # the first turn that was sampled in the row
        order = (self.rollout * (turns + 1) + first).argsort(stable=True)
        count = self.of_rollouts(torch.ones_like(self.rollout))
        place = torch.empty_like(order)
        place[order] = torch.arange(len(self), device=order.device)
        rows = int(count.max())
        return self.rollout * rows + place - (count.cumsum(0) - count)[self.rollout], rows

    @property
    def last_token(self) -> Tensor:
        """[B,U] position of the last sampled token of each turn; -1 where there is no such turn."""
        position = torch.arange(self.tokens.shape[1], device=self.tokens.device).expand_as(self.tokens)
        last = torch.full(self.rewards.shape, -1, dtype=torch.int64, device=self.tokens.device)
        column = self.turn.clamp(min=0)
        return last.scatter_reduce(1, column, torch.where(self.mask, position, -1), "amax")

    def at_last_tokens(self, turn_values: Tensor) -> Tensor:
        """Spread one value a turn [B,U] over the tokens [B,T]: on the turn's last sampled token, 0 elsewhere."""
        last = self.last_token
        spread = torch.zeros(self.tokens.shape, dtype=turn_values.dtype, device=turn_values.device)
        return spread.scatter_add(1, last.clamp(min=0), torch.where(last >= 0, turn_values, 0))

    def at_all_tokens(self, turn_values: Tensor) -> Tensor:
        """Spread one value a turn [B,U] over the tokens [B,T]: on every sampled token of the turn, 0 elsewhere."""
        return turn_values.gather(1, self.turn.clamp(min=0)) * self.mask

    # ---- new batches from old ---------------------------------------------------------------------------------

    def replace(self, **fields: Tensor) -> Batch:
        """A copy with some fields replaced, validated again."""
        return dataclasses.replace(self, **fields)

    def to(self, device: torch.device | str) -> Batch:
        """A copy on another device."""
        return Batch(**{name: getattr(self, name).to(device) for name in _SHAPES})

    def select(self, rows: Tensor | Sequence[int]) -> Batch:
        """The rows `rows` (indices, or a bool mask [B]), in that order, trimmed to what they use."""
        rows = torch.as_tensor(rows, device=self.tokens.device)
        if rows.dtype != torch.bool:
            rows = rows.to(torch.int64)  # an empty list arrives as float
            outside = (rows < -len(self)) | (rows >= len(self))
            if outside.any():
                raise ValueError(f"row {rows[outside][0].item()} does not exist: the batch has {len(self)} episodes")
        kept = {name: getattr(self, name)[rows] for name in _SHAPES}
        if len(kept["length"]):
            tokens, turns = int(kept["length"].max()), max(int(kept["turn"].max()) + 1, 1)
            for name, shape in _SHAPES.items():
                if shape != "B":
                    kept[name] = kept[name][:, : tokens if shape == "BT" else turns]
        return Batch(**kept)

    def split(self) -> list[Batch]:
        """One batch per group, in order of first appearance."""
        order = list(dict.fromkeys(self.group.tolist()))
        return [self.select(self.group == number) for number in order]

    @staticmethod
    def concatenate(batches: Sequence[Batch], *, renumber: bool = True) -> Batch:
        """All episodes, padded to the longest; rows of different batches are different rollouts.

        Groups of different batches are different prompts unless `renumber=False`.
        """
        if not batches:
            raise ValueError("nothing to concatenate: give at least one Batch")
        joined: dict[str, list[Tensor]] = {name: [] for name in _SHAPES}
        offset = rollouts = 0
        tokens = max(batch.tokens.shape[1] for batch in batches)
        turns = max(batch.rewards.shape[1] for batch in batches)
        for batch in batches:
            for name, shape in _SHAPES.items():
                value = getattr(batch, name)
                if shape != "B":
                    width = (tokens if shape == "BT" else turns) - value.shape[1]
                    value = torch.nn.functional.pad(value, (0, width), value=_PADDING.get(name, 0))
                elif name == "group" and renumber:
                    value = torch.unique(value, return_inverse=True)[1] + offset
                elif name == "rollout":
                    value = value + rollouts
                joined[name].append(value)
            rollouts += batch.rollouts
            if renumber and len(batch):
                offset = int(joined["group"][-1].max()) + 1
        return Batch(**{name: torch.cat(values) for name, values in joined.items()})

    # ---- making one -------------------------------------------------------------------------------------------

    @staticmethod
    def from_pulls(
        arms: Tensor, rewards: Tensor, logp: Tensor, *, context: Tensor | None = None, group: Tensor | None = None
    ) -> Batch:
        """Bandit pulls: B episodes of one sampled token, the arm, after one token for the context (0 if there is none).

        Args:
            arms, rewards, logp: [B] the arm pulled, what it paid, its log-probability when it was pulled.
            context: [B] the context's number. group: [B]; default: one group per context.
        """
        context = torch.zeros_like(arms) if context is None else context
        rows = len(arms)
        return Batch(
            tokens=torch.stack([context, arms], 1).to(torch.int64),
            mask=torch.tensor([[False, True]]).repeat(rows, 1),
            turn=torch.tensor([[-1, 0]]).repeat(rows, 1),
            group=(context if group is None else group).to(torch.int64),
            logp_old=torch.stack([torch.zeros(rows), logp.to(torch.float32)], 1),
            rewards=torch.zeros(rows, 1),
            outcome=rewards.to(torch.float32),
            stop=torch.full((rows,), int(Stop.DONE)),
            prompt_length=torch.ones(rows, dtype=torch.int64),
            length=torch.full((rows,), 2),
            origin=torch.full((rows,), int(Origin.ON_POLICY)),
        )

    @staticmethod
    def from_trajectories(
        states: Tensor, actions: Tensor, rewards: Tensor, logp: Tensor, *, length: Tensor | None = None,
        group: Tensor | None = None, terminated: Tensor | None = None,
    ) -> Batch:  # fmt: skip
        """MDP trajectories: tokens s0 a0 s1 a1 ..., one turn a step, the outcome is the undiscounted return.

        Args:
            states, actions, rewards, logp: [B,U], step u = (state, action taken in it, reward for it, its log-prob).
            length: [B] number of steps (default U). group: [B] (default: all one group).
            terminated: [B] bool, false where a time limit cut the trajectory (default: all true).
        """
        rows, steps = actions.shape
        length = torch.full((rows,), steps) if length is None else length
        alive = torch.arange(steps) < length[:, None]
        paired = torch.stack([alive, alive], 2).flatten(1)
        sampled = torch.tensor([False, True]).repeat(steps) & paired
        turn = torch.where(paired, torch.arange(steps).repeat_interleave(2), -1)
        turn[:, 0] = -1  # the first state is the prompt; a later one is the environment's reply to the turn before it
        turn[:, 2::2] = torch.where(paired[:, 2::2], turn[:, 2::2] - 1, -1)
        ended = torch.ones(rows, dtype=torch.bool) if terminated is None else terminated
        logp_tokens = torch.stack([torch.zeros(rows, steps), logp.to(torch.float32)], 2).flatten(1)
        paid = torch.where(alive, rewards, 0).to(torch.float32)
        return Batch(
            tokens=torch.where(paired, torch.stack([states, actions], 2).flatten(1), 0).to(torch.int64),
            mask=sampled,
            turn=turn,
            group=torch.zeros(rows, dtype=torch.int64) if group is None else group,
            logp_old=torch.where(sampled, logp_tokens, 0),
            rewards=paid,
            outcome=paid.sum(1),
            stop=torch.where(ended, int(Stop.DONE), int(Stop.TURNS)),
            prompt_length=torch.ones(rows, dtype=torch.int64),
            length=2 * length,
            origin=torch.full((rows,), int(Origin.ON_POLICY)),
        )

    @staticmethod
    def from_dialogues(dialogues: Sequence[Dialogue]) -> Batch:
        """Dialogues with tools, one row each, padded on the right. Those with the same `rollout` are rows of one episode."""
        if not dialogues:
            raise ValueError("no dialogues: an empty prompt set gives no batch; check the task and its split")
        tokens_max = max(len(d.prompt) + sum(len(s.ids) for s in d.segments) for d in dialogues)
        turns_max = max(max(d.first_turn + d.turns, 1) for d in dialogues)
        rows: list[tuple[Any, ...]] = []
        rollouts: dict[Any, int] = {}
        for number, dialogue in enumerate(dialogues):
            if len(dialogue.rewards) != dialogue.turns:
                raise ValueError(
                    f"dialogue {number} has {dialogue.turns} sampled turns but {len(dialogue.rewards)} turn rewards"
                )
            given = len(dialogue.prompt)
            tokens, mask, turn, logp = list(dialogue.prompt), [False] * given, [-1] * given, [0.0] * given
            current = dialogue.first_turn - 1
            for segment in dialogue.segments:
                sampled = segment.logps is not None
                current += sampled
                tokens += segment.ids
                mask += [sampled] * len(segment.ids)
                turn += [current if current >= dialogue.first_turn else -1] * len(segment.ids)
                logp += segment.logps if segment.logps is not None else [0.0] * len(segment.ids)
            pad = tokens_max - len(tokens)
            rows.append(
                (tokens + [0] * pad, mask + [False] * pad, turn + [-1] * pad, logp + [0.0] * pad,
                 [0.0] * dialogue.first_turn + list(dialogue.rewards)
                 + [0.0] * (turns_max - dialogue.first_turn - len(dialogue.rewards)), len(tokens),
                 rollouts.setdefault(("own", number) if dialogue.rollout is None else dialogue.rollout, len(rollouts)))
            )  # fmt: skip
        return Batch(
            tokens=torch.tensor([row[0] for row in rows], dtype=torch.int64),
            mask=torch.tensor([row[1] for row in rows], dtype=torch.bool),
            turn=torch.tensor([row[2] for row in rows], dtype=torch.int64),
            group=torch.tensor([d.group for d in dialogues], dtype=torch.int64),
            logp_old=torch.tensor([row[3] for row in rows], dtype=torch.float32),
            rewards=torch.tensor([row[4] for row in rows], dtype=torch.float32),
            outcome=torch.tensor([d.outcome for d in dialogues], dtype=torch.float32),
            stop=torch.tensor([int(d.stop) for d in dialogues]),
            prompt_length=torch.tensor([len(d.prompt) for d in dialogues]),
            length=torch.tensor([row[5] for row in rows]),
            origin=torch.tensor([int(d.origin) for d in dialogues]),
            rollout=torch.tensor([row[6] for row in rows]),
        )

    # ---- on disk ----------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write every field, without loss, as a safetensors file."""
        from safetensors.torch import save_file

        save_file({name: getattr(self, name).contiguous() for name in _SHAPES}, str(path), {"format": "workbench-batch-1"})

    @staticmethod
    def load(path: str | Path) -> Batch:
        """Read what `save` wrote; ValueError when the file is something else or cut short."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            fields = load_file(str(path))
        except SafetensorError as error:
            raise ValueError(f"{path} is not a saved Batch, or is cut short: {error}") from error
        if {*fields, "rollout"} != set(_SHAPES):  # files of the time before `rollout` have one row an episode
            raise ValueError(f"{path} holds {sorted(fields)}, not the fields of a Batch {sorted(_SHAPES)}")
        return Batch(**fields)


def _in_order(numbers: Tensor) -> Tensor:
    """[B] any integers -> 0, 1, ... in order of first appearance."""
    _, number = torch.unique(numbers, return_inverse=True)
    row = torch.arange(len(numbers), device=numbers.device)
    count = int(number.max()) + 1 if len(number) else 0
    first = torch.full_like(row[:count], len(row)).scatter_reduce(0, number, row, "amin")
    rank = torch.empty_like(first)
    rank[first.argsort()] = row[:count]
    return rank[number]


@dataclass
class Segment:
    """A run of tokens by one author: the policy if `logps` is given, else the environment."""

    ids: list[int]
    logps: list[float] | None = None


@dataclass
class Dialogue:
    """One row as the multi-turn driver collects it: a prompt, then segments, appended and never changed.

    Attributes:
        rollout: rows with the same number are one episode; None: the row is an episode by itself.
        first_turn: the number of its first turn in the episode. rewards: of its own turns.
    """

    prompt: list[int]
    group: int
    segments: list[Segment] = dataclasses.field(default_factory=list)
    rewards: list[float] = dataclasses.field(default_factory=list)
    outcome: float = 0.0
    stop: Stop = Stop.DONE
    origin: Origin = Origin.ON_POLICY
    rollout: int | None = None
    first_turn: int = 0

    @property
    def turns(self) -> int:
        """How many turns were sampled in it."""
        return sum(segment.logps is not None for segment in self.segments)
