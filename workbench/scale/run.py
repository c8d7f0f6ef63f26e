"""One training run of a real model, from a command: the same on a laptop and under `accelerate launch`.

A run has a folder. Asked for again, it goes on from the newest checkpoint there; interrupted, it makes one first.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback

from workbench import models, recipes, sample, tasks
from workbench.models.language import SIZES, full_name
from workbench.run_folder import replace_file
from workbench.scale.trl import RecipeTrainer, trainer


def run(
    model: str, task: str | tasks.Task, recipe: str = "grpo", *, steps: int, folder: str | Path, seed: int = 0, prompts: int = 16,
    accumulate: int = 1, lr: float | None = None, lora: int | None = None, bits: int | None = None, dtype: str | None = None,
    chat_template: str | None = None, end_of_turn: str | None = None, engine: str | None = None, checkpointing: bool = False,
    checkpoint_every: int = 10, download: bool = False, push: str | None = None, say: Callable[[str], None] = print,
) -> RecipeTrainer:  # fmt: skip
    """Train, and leave the policy in `folder`/policy: the adapters alone, where there are any.

    Args:
        model: a size of `models.tiny`, a folder, or a name on the Hub; how it is loaded: see `models.load`.
        engine: "local", "hugging_face", "vllm", or the address of a vLLM server. accumulate, steps, prompts: see `scale.trainer`.
        lr: default 3e-4 for tiny models and for adapters, 1e-6 for all weights of larger ones. checkpointing: of gradients.
        push: "owner/name" to upload the policy to when it is finished; nothing is uploaded without it.
        say: takes a line of progress after each step; only the first of several processes speaks.
    Raises:
        ValueError: see `scale.trainer`; or the folder holds a run with other settings, named.
        KeyboardInterrupt: it was interrupted (also by SIGTERM), after the step that was running; a checkpoint is in the folder.
    """
    task, folder, processes = tasks.get(task), Path(folder), int(os.environ.get("WORLD_SIZE", "1"))
    if push is not None:
        full_name(push)
    loaded = {"dtype": dtype, "chat_template": chat_template, "end_of_turn": end_of_turn, "download": download}
    if model in SIZES:
        policy = models.tiny(model, seed=seed)
    elif bits:
        policy = models.load(model, device="auto", bits=bits, lora=lora, **loaded)  # type: ignore[arg-type]
    else:
        policy = models.load(model, **loaded)  # type: ignore[arg-type]
    lr = lr or (3e-4 if lora or sum(weight.numel() for weight in policy.parameters()) < 2e7 else 1e-6)
    settings = {
        "model": model, "task": task.name, "recipe": recipes.get(recipe).name, "seed": seed, "prompts": prompts, "lr": lr,
        "lora": lora, "bits": bits, "dtype": dtype, "chat_template": chat_template, "end_of_turn": end_of_turn,
    }  # fmt: skip
    first = int(os.environ.get("RANK", "0")) == 0
    _same(folder / "settings.json", settings, write=first)
    for note in sample.check(policy, task):
        if first:
            say(note)
    server = engine if engine is not None and engine.startswith("http") else None
    made = trainer(
        policy, task, recipe, steps=steps, folder=folder, seed=seed, prompts=prompts, accumulate=accumulate, lr=lr,
        lora=None if bits else lora, engine="hugging_face" if server else engine, processes=processes,
        checkpoint_every=checkpoint_every,
        config={"disable_tqdm": True, "logging_strategy": "steps", "gradient_checkpointing": checkpointing, "log_level": "error"},
    )  # fmt: skip
    if server:
        made.engine = sample.VLLMEngine(made.policy, server=server)
    progress = _Progress(made, steps, say)
    made.add_callback(progress)
    made.pop_callback(PrinterCallback)
    with progress.interruptible():
        made.train(resume_from_checkpoint=True)
    if progress.interrupted:
        raise KeyboardInterrupt(f"stopped after step {progress.done} of {steps}; the same command goes on from {folder}")
    if made.accelerator.is_main_process:
        made.policy.save(folder / "policy")
        say(f"the policy is in {folder / 'policy'}")
        if push is not None:
            made.policy.push(push)
    return made


class _Progress(TrainerCallback):
    """Says what each step did and how long the rest will take; stops between two steps when interrupted."""

    def __init__(self, made: RecipeTrainer, steps: int, say: Callable[[str], None]) -> None:
        schedule = made.recipe.schedule
        self.made, self.steps, self.say = made, steps, say
        self.updates = schedule["minibatches"] * schedule["epochs"]
        self.interrupted = False
        self.done = self.began = 0
        self.started = time.perf_counter()

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        self.done = self.began = state.global_step // self.updates
        self.started = time.perf_counter()
        if self.done and self.made.accelerator.is_main_process:
            self.say(f"going on after step {self.done}")

    def on_step_end(self, _args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self.updates:
            return
        self.done = state.global_step // self.updates
        batch = self.made.batch
        success = batch.outcome[batch.first_rows].mean().item()
        each = (time.perf_counter() - self.started) / max(1, self.done - self.began)
        if self.made.accelerator.is_main_process:
            left = each * (self.steps - self.done)
            self.say(f"step {self.done}/{self.steps}: success {success:.2f}, {each:.1f} s a step, {_span(left)} left")
        if self._any_interrupted():
            self.interrupted = control.should_training_stop = control.should_save = True

    def _any_interrupted(self) -> bool:
        """Whether any process was: all of them stop after the same step."""
        flag = torch.tensor(float(self.interrupted), device=self.made.accelerator.device)
        return bool(self.made.accelerator.reduce(flag, "sum") > 0)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """The first interrupt stops after this step, a second one at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(*_: Any) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True
            self.say("stopping after this step; interrupt again to stop at once, and lose it")

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _same(file: Path, settings: dict[str, Any], *, write: bool) -> None:
    """Refuse to go on in the folder of another run; where there is none, note what this one is."""
    if not file.exists():
        if write:
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(file, json.dumps(settings, indent=1).encode())
        return
    there = json.loads(file.read_text(encoding="utf-8"))
    for name, value in settings.items():
        if there.get(name) != value:
            raise ValueError(
                f"{file.parent} holds a run with {name}={there.get(name)!r}, now {value!r} is asked for; choose another folder"
            )


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
