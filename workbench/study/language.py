"""Recipes on a text task: one run is a warm start, shared by all arms of a seed, and then `train` with evaluations in between."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench import models, recipes, seeding, tasks
from workbench.loop import copy_into, trainable
from workbench.objective import SLOTS
from workbench.run_folder import fcntl, replace_file
from workbench.study.cell import UNITS, Arm, Budget, Row
from workbench.study.fingerprint import fingerprint
from workbench.train import StepRecord, evaluate, sft, train

# what `train` is told here, and what belongs to the machine and would differ between two equal runs
_OURS = ("policy", "task", "recipe", "steps", "seed", "run", "checkpoint_every", "evaluate_every", "threads", "progress")
_TIMES = ("seconds", "tokens_per_second")


@dataclass(frozen=True)
class WarmStart:
    """A tiny model, taught by demonstrations of which a share `error_rate` has a mistake: what arms start from (see `sft`).

    Attributes:
        steps: on the task itself; None: what the task asks for (`tasks.Taught`), easier ones first perhaps, and else 150.
    """

    size: str = "0.1m"
    steps: int | None = None
    batch_size: int = 32
    lr: float = 4e-3
    error_rate: float = 0.2

    def __post_init__(self) -> None:
        if self.size not in models.SIZES:
            raise ValueError(f"no tiny model of size {self.size!r}; there are {', '.join(models.SIZES)}")

    def policy(self, task: tasks.Task, seed: int, folder: Path | None) -> models.LanguageModel:
        """The policy of a seed; from `folder`, where it lies there already."""
        made = models.tiny(self.size, seed=seed)
        if folder is None:
            return self._taught(made, task, seed)
        from safetensors.torch import load, save

        file = folder / f"{fingerprint([self, task])[:10]}-seed_{seed}.safetensors"
        with _alone(file):  # another arm of this seed waits here for the same warm start
            if not file.exists():
                weights = trainable(self._taught(made, task, seed))
                replace_file(file, save({name: value.detach().contiguous() for name, value in weights.items()}))
        copy_into(trainable(made), load(file.read_bytes()), file)
        return made

    def _taught(self, policy: models.LanguageModel, task: tasks.Task, seed: int) -> models.LanguageModel:
        settings = {name: getattr(self, name) for name in ("batch_size", "lr", "error_rate")}
        plan: tuple[tuple[tasks.Task, int], ...] = ((task, 150 if self.steps is None else self.steps),)
        if self.steps is None and isinstance(task, tasks.Taught):
            plan = task.lessons
        for part, (lesson, steps) in enumerate(plan):
            mine = seed if len(plan) == 1 else seeding.integer(seed, "lessons", part)
            for _ in sft(policy, lesson, steps=steps, seed=mine, **settings):
                pass
        return policy


Start = str | Path | WarmStart | Callable[[int], models.LanguageModel]


@dataclass
class Text:
    """A text task as a setting: what `text` makes. See there."""

    task: tasks.Task
    start: WarmStart | Path | Callable[[int], models.LanguageModel]
    evaluate_every: int | None
    problems: int
    temperature: float
    settings: Mapping[str, Any]
    metric: str | None = "test_success"
    better: str = "higher"
    bounds: tuple[float, float] | None = (0.0, 1.0)
    units: tuple[str, ...] = UNITS
    name: str = ""
    folder: Path | None = field(default=None, compare=False)  # of warm starts; not part of what the study is

    def __post_init__(self) -> None:
        self.name = self.task.name

    def identity(self) -> Any:
        start = _content(self.start) if isinstance(self.start, Path) else self.start
        return [self.task, start, self.evaluate_every, self.problems, self.temperature]

    def arm(self, given: Any) -> tuple[str, Arm]:
        chosen = given if isinstance(given, Trained) else Trained(recipes.get(given))
        made = TextArm(self, chosen.recipe, {**self.settings, **chosen.settings})
        made.check()
        return chosen.name, made

    def metrics(self) -> tuple[str, ...]:
        apart = (*_TIMES, "step", "rollouts", "diagnostics", "episodes", "tokens")
        return tuple(f.name for f in dataclasses.fields(StepRecord) if f.name not in apart)

    def share(self, folder: Path) -> None:
        self.folder = folder

    def policy(self, seed: int) -> models.LanguageModel:
        """What every arm of this seed starts from."""
        if isinstance(self.start, WarmStart):
            return self.start.policy(self.task, seed, self.folder)
        return models.load(self.start) if isinstance(self.start, Path) else self.start(seed)


def text(
    task: str | tasks.Task, *, start: Start = "0.1m", evaluate_every: int | None = None, problems: int = 256,
    temperature: float = 1.0, settings: Mapping[str, Any] | None = None,
) -> Text:  # fmt: skip
    """A text task for `compare`, with what all arms share: where they start, how they are evaluated, how they are trained.

    The metric is `test_success`: the mean outcome on the first `problems` test problems. All other numbers of
    `train.StepRecord` are there too. Arms of one seed start from the same policy and draw their prompts from the same streams.

    Args:
        start: a size such as "0.1m": `WarmStart(size)`; a `WarmStart` of yours; a folder with a saved policy, the same for every
            seed; or a function from a seed to a policy, called anew for each run.
        evaluate_every: updates; by default a tenth of the budget, if that is in updates, else 10. Also at both ends.
        temperature: of the evaluation; 1 is the policy that is trained, 0 takes the likeliest tokens.
        settings: what to tell `train` in every arm, such as {"lr": 1e-3, "prompts": 8}; see `trained` for one arm.
    Raises:
        ValueError, TypeError: unknown task or size, a setting that `train` has not. OSError: no such folder.
    """
    task = tasks.get(task)
    if isinstance(start, str) and start in models.SIZES:
        start = WarmStart(start)
    if isinstance(start, str):
        start = Path(start)
    if isinstance(start, Path) and not start.is_dir():
        raise FileNotFoundError(f"start: {start} is neither a folder with a saved policy nor one of {', '.join(models.SIZES)}")
    for name, number in (("evaluate_every", evaluate_every), ("problems", problems)):
        if number is not None and number < 1:
            raise ValueError(f"{name} must be at least 1, not {number!r}")
    return Text(task, start, evaluate_every, problems, temperature, _known(settings or {}))


@dataclass(frozen=True)
class Trained:
    """A recipe with settings of its own: what `trained` makes."""

    recipe: recipes.Recipe
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        told = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return f"{self.recipe.name}({told})" if told else self.recipe.name


def trained(recipe: str | recipes.Recipe, **settings: Any) -> Trained:
    """An arm: a recipe with settings of `train` that differ from the other arms', such as `trained("grpo", lr=1e-3)`.

    Raises:
        ValueError: unknown recipe. TypeError: a setting that `train` has not, or that the study decides.
    """
    return Trained(recipes.get(recipe), _known(settings))


def _known(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    known = [name for name in inspect.signature(train).parameters if name not in _OURS]
    for name in settings:
        if name not in known:
            raise TypeError(f"{name!r} is no setting of an arm; there are {', '.join(known)}")
    return settings


@dataclass
class TextArm:
    """One recipe as a function (seed, budget) -> rows."""

    setting: Text
    recipe: recipes.Recipe
    settings: Mapping[str, Any]

    def identity(self) -> Any:
        """What changes a result: parts with their own code and settings, not what is said of them."""
        parts = [
            (slot, [(one.name, one.settings, one.make.function) for one in _several(getattr(self.recipe, slot))])
            for slot in SLOTS
        ]
        return [parts, self.settings]

    def __repr__(self) -> str:
        return f"{self.recipe!r}, settings {dict(self.settings)}"

    def check(self) -> None:
        """Have `train` look at the settings before anything runs. Raises what it raises."""
        train(models.tiny("0.1m"), self.setting.task, self.recipe, steps=1, **self.settings).close()

    def __call__(self, seed: int, budget: Budget) -> Iterator[Row]:
        task, policy = self.setting.task, self.setting.policy(seed)
        in_updates = budget.unit == "updates"
        every = self.setting.evaluate_every or (max(1, round(budget.amount / 10)) if in_updates else 10)

        def score() -> float:
            found = evaluate(
                policy, task, problems=self.setting.problems, temperature=self.setting.temperature, seed=seed
            )
            return found.success

        samples = tokens = 0
        yield {"step": 0, "samples": 0, "tokens": 0, "test_success": score()}
        steps = int(budget.amount) if in_updates else 10**9
        for record in train(policy, task, self.recipe, steps=steps, seed=seed, **self.settings):
            samples, tokens = samples + record.episodes, tokens + record.tokens
            spent = {"updates": record.step, "samples": samples, "tokens": tokens}.get(budget.unit, 0)
            looked = record.step % every == 0 or spent >= budget.amount
            numbers = {name: value for name, value in record.as_row().items() if name not in (*_TIMES, "episodes")}
            yield {
                **numbers, "samples": samples, "tokens": tokens, "test_success": score() if looked else None,
                "rollouts": record.rollouts if looked else None,
            }  # fmt: skip


def _several(parts: Any) -> Any:
    return parts if isinstance(parts, tuple) else (parts,)


def _content(folder: Path) -> str:
    """A hash of the files of a saved policy."""
    found = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in (".safetensors", ".json", ".txt"):
            found.update(file.name.encode() + b"\0" + file.read_bytes())
    return found.hexdigest()


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Hold the lock beside a file, waiting for whoever has it; the kernel takes it from a process that dies."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_name(f".{file.name}.lock").open("ab") as lock:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


