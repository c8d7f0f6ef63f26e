"""The loop around the steps of a training: the run folder, stopping at any moment, and going on to the same bits.

`loop` asks for one step after the other and yields its record. A step either happens or leaves no trace: what fails or is
interrupted in the middle is undone in memory, and the folder holds complete steps alone.
"""

from __future__ import annotations

import dataclasses
import math
import platform
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from workbench import seeding
from workbench.batch import Batch
from workbench.models import LanguageModel, ValueHead
from workbench.run_folder import Checkpoint, RunFolder, read_checkpoint, steps_of

Tensors = dict[str, dict[str, Tensor]]


class Record(Protocol):
    """What a step reports."""

    @property
    def step(self) -> int: ...
    @property
    def rollouts(self) -> tuple[dict[str, Any], ...]: ...
    def as_row(self) -> dict[str, float | None]: ...


R = TypeVar("R", bound=Record)


def as_row(record: Any) -> dict[str, float | None]:
    """The numbers of a record by name, those under `diagnostics` among the others; None for what is not finite."""
    plain = [f.name for f in dataclasses.fields(record) if f.name not in ("rollouts", "diagnostics")]
    numbers = {name: getattr(record, name) for name in plain} | getattr(record, "diagnostics", {})
    return {name: value if value is not None and math.isfinite(value) else None for name, value in numbers.items()}


@dataclass(frozen=True)
class Memory:
    """What a run knows of its earlier steps, for the parts that ask. A step puts a new one in its place, and changes none.

    Attributes:
        history: the prompts asked so far, see `objective.prompts`.
        successes: episodes to be replayed, `group` is the number of their problem; see `objective.mix`.
        turn_entropy: for each turn index a sum over steps and their number, see `objective.regulariser`.
        gains: what each hint was worth when it was last measured, None if never; see `objective.context`.
    """

    history: tuple[tuple[int, float], ...] = ()
    successes: Batch | None = None
    turn_entropy: tuple[tuple[float, int], ...] = ()
    gains: tuple[float | None, ...] = ()

    def tensors(self) -> Tensors:
        """What a checkpoint keeps as tensors, by file and name."""
        return {} if self.successes is None else {"successes": vars(self.successes)}

    def notes(self) -> dict[str, Any]:
        """What a checkpoint keeps as JSON: Python writes a float so that it reads the same float."""
        return {"history": self.history, "turn_entropy": self.turn_entropy, "gains": self.gains}

    @staticmethod
    def read(checkpoint: Checkpoint) -> Memory:
        """What `tensors` and `notes` put there."""
        notes, tensors = checkpoint.state, checkpoint.tensors.get("successes")
        return Memory(
            history=tuple((int(number), float(outcome)) for number, outcome in notes["history"]),
            successes=None if tensors is None else Batch(**tensors),
            turn_entropy=tuple((float(total), int(steps)) for total, steps in notes.get("turn_entropy", ())),
            gains=tuple(notes.get("gains", ())),
        )


@dataclass
class State:
    """Everything that a step changes."""

    policy: LanguageModel
    optimiser: torch.optim.Optimizer
    head: ValueHead | None = None
    reference: LanguageModel | None = None  # does not change: the policy that the run started from
    judge: LanguageModel | None = None  # learns what success looks like, by steps of its own
    memory: Memory = dataclasses.field(default_factory=Memory)

    def parameters(self) -> dict[str, Tensor]:
        """What the recipe's loss trains, by name."""
        head = {} if self.head is None else {f"head.{name}": value for name, value in trainable(self.head).items()}
        return {**trainable(self.policy), **head}

    def trained(self) -> dict[str, Tensor]:
        """Everything that is trained, by name: `parameters`, and those of the judge."""
        judge = {} if self.judge is None else {f"judge.{name}": value for name, value in trainable(self.judge).items()}
        return {**self.parameters(), **judge}

    def capture(self) -> Tensors:
        """A copy of all that is trained, by file and name. Frozen weights are not in it: whoever goes on brings them."""
        moments = {
            f"optimiser.{name}.{key}": value.detach().clone()
            for name, parameter in self.trained().items()
            for key, value in self.optimiser.state[parameter].items()
        }
        others = {name: value for name, value in self.trained().items() if name.startswith(("head.", "judge."))}
        return {
            "policy": {name: value.detach().clone() for name, value in trainable(self.policy).items()},
            "training": {**moments, **{name: value.detach().clone() for name, value in others.items()}},
        }

    def restore(self, tensors: Tensors, where: object) -> None:
        """Put back what `capture` took. Raises ValueError for a checkpoint of another model; `where` it lies."""
        copy_into(trainable(self.policy), tensors["policy"], where)
        training = tensors["training"]
        others = {name: value for name, value in self.trained().items() if name.startswith(("head.", "judge."))}
        copy_into(others, {name: value for name, value in training.items() if name in others}, where)
        for name, parameter in self.trained().items():
            prefix = f"optimiser.{name}."
            found = {key.removeprefix(prefix): value for key, value in training.items() if key.startswith(prefix)}
            self.optimiser.state[parameter] = {
                key: value.clone() if key == "step" else value.to(parameter.device, copy=True) for key, value in found.items()
            }


def loop(
    advance: Callable[[int], R], state: State, steps: int, seed: int, run: str | Path | None, config: dict[str, Any],
    checkpoint_every: int, threads: int | None, progress: bool, made_with: Mapping[str, Any],
) -> Generator[R, None, None]:  # fmt: skip
    """Ask `advance` for the steps after those done so far, up to `steps`, and yield their records.

    Args:
        advance: makes step number n: changes `state` and returns the record. All its randomness comes from n.
        run: the folder, or None to keep nothing. config: what must be equal to go on in a folder; "kind" names it.
        made_with: what a reader should know of the machine, besides versions.
    """
    folder = RunFolder(run, config, made_with=_made_with(threads) | dict(made_with)) if run is not None else None
    good: Tensors = {}  # with `memory`, the state after step `done`
    memory = state.memory
    bar, done, saved = None, 0, 0
    try:
        if folder is not None:
            done = saved = _go_on(folder, state)
        good, memory = state.capture(), state.memory
        bar = _bar(done, steps, config["kind"]) if progress else None
        while done < steps:
            try:
                with use_threads(threads), _torch_seed(seed, config["kind"], done + 1, state):
                    record = advance(done + 1)
                    now = state.capture()
                if folder is not None and (record.step % checkpoint_every == 0 or record.step == steps):
                    _save(folder, record.step, now, state.memory, record.as_row(), record.rollouts)
                    saved = record.step
                elif folder is not None:
                    folder.record(record.as_row(), record.rollouts)
            except BaseException as error:
                state.restore(good, "memory")
                state.memory = memory
                if lacks_memory(error):
                    raise MemoryError(_lower({**config, **made_with}, done + 1, error)) from error
                raise
            good, memory, done = now, state.memory, record.step
            if bar is not None:
                bar.update()
            yield record
    finally:
        if bar is not None:
            bar.close()
        if folder is not None:
            with suppress(OSError):  # a full disk has been reported already
                if saved < done:
                    _save(folder, done, good, memory)
            folder.close()


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: a GPU's, or the machine's, for which torch raises a bare RuntimeError."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _lower(config: Mapping[str, Any], step: int, error: BaseException) -> str:
    """What to lower when memory ran out, the mildest first."""
    told = f"out of memory in step {step}; the policy is as it was before it. "
    if "rows_per_pass" in config:
        now = config["rows_per_pass"] or "all rows of a minibatch"
        told += (
            f"Lower rows_per_pass (now {now}): the run goes on, with the same gradients from smaller passes; or prompts (now "
            f"{config['prompts']}), in a new run. "
        )
    elif "batch_size" in config:
        told += f"Lower batch_size (now {config['batch_size']}) in a new run. "
    return told + f"Adapters (models.load(..., lora=16)) or a smaller model need less, see `workbench doctor --model`. {error}"


def _save(folder: RunFolder, step: int, tensors: Tensors, memory: Memory, *lines: Any) -> None:
    folder.save(step, tensors | memory.tensors(), memory.notes(), *lines)


def _go_on(folder: RunFolder, state: State) -> int:
    """Bring `state` to the folder's newest checkpoint, or make its first one; returns the step."""
    latest = folder.latest
    if latest is None:
        _save(folder, 0, state.capture(), state.memory)
        return 0
    mine = trainable(state.policy)
    _compare(mine, latest.tensors["policy"], folder.path)
    known = [latest, *_readable(folder, [step for step in folder.steps() if step != latest.step])]
    if not any(_same(mine, checkpoint.tensors["policy"]) for checkpoint in known):
        raise ValueError(
            f"{folder.path} holds a run that started from other weights, and stopped with others than this policy's. Give it "
            "the policy it started from, or put its own weights into this one (workbench.loop.restore), or choose a new folder"
        )
    if state.reference is not None:
        reference = dict(state.reference.named_parameters())
        start = folder.read(0).tensors["policy"]
        copy_into({name: reference[name] for name in start}, start, folder.path)
    state.restore(latest.tensors, folder.path)
    state.memory = Memory.read(latest)
    return latest.step


def _readable(folder: RunFolder, steps: list[int]) -> Iterator[Checkpoint]:
    for step in steps:
        with suppress(ValueError):
            yield folder.read(step)


def restore(policy: nn.Module, run: str | Path, *, step: int | None = None) -> int:
    """Put the weights of a run's checkpoint (default: the newest) into `policy`; returns its step.

    Raises:
        ValueError: no such checkpoint, a damaged one, or one of another model (naming the first tensor that does not fit).
    """
    there = steps_of(run)
    if not there or (step is not None and step not in there):
        raise ValueError(f"{run} has no checkpoint{'' if step is None else f' of step {step}'}; it has {there}")
    checkpoint = read_checkpoint(run, there[-1] if step is None else step)
    copy_into(trainable(policy), checkpoint.tensors["policy"], run)
    return checkpoint.step


# ---- small things -----------------------------------------------------------------------------------------------------


def trainable(module: nn.Module) -> dict[str, Tensor]:
    """Parameters that take a gradient; a tied one once."""
    return {name: value for name, value in module.named_parameters() if value.requires_grad}


def _compare(mine: Mapping[str, Tensor], saved: Mapping[str, Tensor], where: object) -> None:
    for name in [*mine, *(name for name in saved if name not in mine)]:
        there = tuple(saved[name].shape) if name in saved else "no such tensor"
        here = tuple(mine[name].shape) if name in mine else "no such tensor"
        if there != here:
            raise ValueError(
                f"the checkpoint in {where} is of another model: {name} is {there} there, {here} in this one. "
                "Make the model as it was made for that run"
            )


@torch.no_grad()
def copy_into(mine: Mapping[str, Tensor], saved: Mapping[str, Tensor], where: object) -> None:
    """Overwrite `mine` in place. Raises ValueError, naming the first tensor that differs, and changes nothing then."""
    _compare(mine, saved, where)
    for name, value in mine.items():
        value.copy_(saved[name])


def _same(mine: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> bool:
    return mine.keys() == saved.keys() and all(torch.equal(mine[name].detach().cpu(), saved[name].cpu()) for name in mine)


def device_of(policy: nn.Module) -> torch.device:
    """Where the policy's weights are."""
    return next(policy.parameters()).device


def _made_with(threads: int | None) -> dict[str, Any]:
    import transformers

    import workbench

    return {
        "workbench": workbench.__version__, "torch": torch.__version__, "transformers": transformers.__version__,
        "python": platform.python_version(), "machine": platform.machine(), "threads": threads,
    }  # fmt: skip


@contextmanager
def use_threads(count: int | None) -> Iterator[None]:
    """Let torch use `count` threads inside, what it used before afterwards; None changes nothing."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _torch_seed(seed: int, kind: str, step: int, state: State) -> Iterator[None]:
    """torch's global stream, for a policy with dropout: of this step alone, and given back as it was."""
    device = device_of(state.policy)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seeding.integer(seed, kind, "torch", step))
        yield


def _bar(done: int, steps: int, title: str) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=steps, initial=done, desc=title, unit="step")
