"""Any recipe and any task inside TRL's GRPOTrainer: TRL trains (optimiser, LoRA, accelerate, checkpoints, logs), the recipe says
what is maximised, the task what is asked.

    made = trainer("models/mine", "calculator", "gtpo", steps=200, folder="runs/mine", lora=16)
    made.train()

Two ways. `trainer` plays the task with our own driver (through TRL's `rollout_func`) and takes our objective in place of TRL's
loss: every recipe that `carries` accepts, with the numbers of `workbench.train` on the same rollouts. `native` and
`environment` need nothing of ours while it trains: settings of TRL that mean the same recipe, and the task as what
TRL calls an environment, in which TRL itself reads the calls.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor
from torch.nn.functional import pad
from transformers.utils.chat_template_utils import (
    DocstringParsingException,
    TypeHintParsingException,
    get_json_schema,
)
from trl import GRPOConfig, GRPOTrainer

from workbench import models, objective, recipes, sample, seeding, tasks
from workbench.batch import Batch, Stop
from workbench.loop import lacks_memory
from workbench.scale.settings import adapters, check_processes, new_adapters, usual
from workbench.update import against_the_sampler

if TYPE_CHECKING:
    from peft import PeftConfig


# ---- which recipes ------------------------------------------------------------------------------------------------------


_CARRIED = {
    "prompts": ("stream", "uniform"), "context": ("bare",), "rollout": ("fixed",), "mix": ("on_policy",),
    "layout": ("as_sampled",),
}  # fmt: skip


def carries(recipe: str | recipes.Recipe) -> str | None:
    """Why TRL's trainer cannot carry a recipe, or None if it can.

    TRL asks the prompts of a data set in its order, samples each a fixed number of times, makes one row of a rollout, and
    remembers nothing: parts that want anything else have no place in it. Of what parts need, log-probabilities of the policy,
    of a reference and of gold answers can be had, a value head and a judge that learns along cannot.
    """
    r = recipes.get(recipe)
    for slot, names in _CARRIED.items():
        part = getattr(r, slot)
        if part.name not in names:
            return f"{slot}={part!r} has no place in TRL's trainer, only {' or '.join(names)} has; use workbench.train"
    missing = objective.needs(r) - {"entropy", "reference", "answer"}
    if missing:
        return f"it needs {' and '.join(sorted(missing))}, which TRL's trainer has no place for; use workbench.train"
    return None


_SURROGATES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "clip": lambda s: {"epsilon": s["low"], "epsilon_high": s["high"], "delta": s["dual"]},
    "cispo": lambda s: {"loss_type": "cispo", "epsilon_high": s["cap"]},
    "sapo": lambda s: {"loss_type": "sapo", "sapo_temperature_pos": s["positive"], "sapo_temperature_neg": s["negative"]},
}


def native(recipe: str | recipes.Recipe) -> dict[str, Any]:
    """The arguments of TRL's GRPOConfig that mean this recipe, for a plain GRPOTrainer.

    Raises:
        ValueError: TRL has no such setting; says which part. `trainer` carries many more.
    """
    r = recipes.get(recipe)
    reason = carries(r)
    if reason:
        raise ValueError(f"recipe {r.name!r}: {reason}")
    told: dict[str, Any] = {"num_generations": r.rollout["size"], "num_iterations": r.schedule["epochs"]}
    if r.schedule["minibatches"] > 1:  # times gradient_accumulation_steps, where that is not 1
        told["steps_per_generation"] = r.schedule["minibatches"]

    def refuse(slot: str, why: str) -> ValueError:
        return ValueError(f"recipe {r.name!r}: TRL has no setting for {slot}={getattr(r, slot)!r} ({why}); use scale.trainer")

    a = r.advantage
    if a.name != "episode_advantage" or a["baseline"] != "group" or a["floor"] or a.get("over", "rollouts") != "rollouts":
        raise refuse("advantage", "only that of an episode, minus the mean of its group")
    if a["scale"] not in ("group", "batch", "none") or (a["scale"] != "none" and (a["ddof"], a["eps"]) != (1, 1e-4)):
        raise refuse("advantage", "its scale is the std of group or batch with ddof=1, eps=1e-4, or none")
    told["scale_rewards"] = a["scale"]
    if [term.name for term in r.reward] != ["outcome"]:
        raise refuse("reward", "give reward functions to GRPOTrainer instead")
    if r.surrogate.name not in _SURROGATES:
        raise refuse("surrogate", f"only {', '.join(_SURROGATES)}")
    told |= _SURROGATES[r.surrogate.name](r.surrogate)
    if r.unit.name == "turn" or (r.unit.name == "sequence" and r.ratio.get("gradient") != "unit"):
        raise refuse("unit", "only single tokens, or the sequence with its own gradient")
    told["importance_sampling_level"] = r.unit.name
    if r.ratio.name != "importance":
        raise refuse("ratio", "only importance()")
    average = {"sequence_mean": "grpo", "token_mean": "dapo"}.get(r.aggregate.name)
    if r.aggregate.name == "token_sum":
        average, told["max_completion_length"] = "dr_grpo", int(r.aggregate["norm"])
    wanted = {"cispo": "token_mean", "sapo": "sequence_mean"}.get(r.surrogate.name, r.aggregate.name)
    if average is None or r.aggregate.name != wanted:
        raise refuse("aggregate", f"with {r.surrogate.name}() TRL takes {wanted}()" if average else "TRL averages otherwise")
    told.setdefault("loss_type", average)
    if r.select.name == "drop_truncated":
        told["mask_truncated_completions"] = True
    elif r.select.name != "all_tokens":
        raise refuse("select", "only all_tokens or drop_truncated")
    for penalty in r.regulariser:
        if penalty.name != "kl" or penalty["estimator"] != "k3" or penalty["place"] != "loss":
            raise refuse("regulariser", "only kl() with k3 in the loss")
        told |= {"beta": penalty["beta"], "use_bias_correction_kl": penalty["corrected"]}
    return told


# Settings of TRL that something of ours takes the place of: they would be taken without a word, and do nothing.
_REPLACED = {
    "the recipe says what is maximised": (
        "loss_type", "epsilon", "epsilon_high", "delta", "scale_rewards", "importance_sampling_level", "sapo_temperature_pos",
        "sapo_temperature_neg", "mask_truncated_completions", "use_bias_correction_kl", "top_entropy_quantile", "entropy_coef",
        "reward_weights", "off_policy_mask_threshold",
    ),
    "the engine and the task say how it is sampled": (
        "top_p", "top_k", "min_p", "repetition_penalty", "generation_kwargs", "max_completion_length",
        "max_tool_calling_iterations", "cache_implementation",
    ),
    'vLLM samples with engine="vllm"': ("use_vllm", "vllm_mode"),
}  # fmt: skip


# ---- the trainer --------------------------------------------------------------------------------------------------------


class RecipeTrainer(GRPOTrainer):
    """TRL's GRPOTrainer with our rollouts and a recipe's objective. Made by `trainer`.

    What is replaced: where rollouts come from (`rollout_func`, TRL's own hook), the advantages (computed once for all rollouts
    of a generation), and the loss. Everything else is TRL's.
    """

    def __init__(
        self, *, task: tasks.Task, recipe: recipes.Recipe, engine: str | sample.Engine | None, seed: int,
        correction: objective.Correction | None = None, **given: Any,
    ) -> None:  # fmt: skip
        self.task, self.recipe, self.problem_seed, self.correction = task, recipe, seed, correction
        super().__init__(rollout_func=_play, reward_funcs=success, **given)
        model = self.accelerator.unwrap_model(self.model)
        self.policy = models.LanguageModel(model, self.processing_class)
        self.engine = sample.engine_of(self.policy, engine)
        self.reference: models.LanguageModel | None = None
        if "reference" in objective.needs(recipe) and not new_adapters(model):
            self.reference = self.policy.copy().requires_grad_(False)
        self.prepared: objective.Prepared
        self.asked: list[int] = []

    def train(self, resume_from_checkpoint: str | bool | None = None, **given: Any) -> Any:
        """TRL's. True goes on from the newest complete checkpoint in the folder, and starts anew where there is none."""
        if resume_from_checkpoint is True:
            folders = {int(f.name.rpartition("-")[2]): f for f in Path(self.args.output_dir).glob("checkpoint-*")}
            whole = [step for step, f in folders.items() if (f / "trainer_state.json").exists()]  # it is written last
            resume_from_checkpoint = str(folders[max(whole)]) if whole else None
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **given)

    def training_step(self, *given: Any, **more: Any) -> Tensor:
        """TRL's, with words for a lack of memory."""
        try:
            return super().training_step(*given, **more)
        except (RuntimeError, MemoryError) as error:
            if not lacks_memory(error):
                raise
            rows = self.args.per_device_train_batch_size
            raise MemoryError(
                f"out of memory with {rows} rollouts in a pass: raise `accumulate` (the gradient is the same), train adapters "
                '(lora=16), set config={"gradient_checkpointing": True}, or lower `prompts`; go on from the last checkpoint with '
                f"train(resume_from_checkpoint=True). {error}"
            ) from error

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self.asked = [int(row["problem"]) for row in inputs]
        given = super()._generate_and_score_completions(inputs)
        self.prepared = self._prepared(self.batch)
        first = len(inputs) * self.accelerator.process_index
        given["row"] = torch.arange(first, first + len(inputs), device=given["completion_ids"].device)
        return given

    @torch.no_grad()
    def _prepared(self, batch: Batch) -> objective.Prepared:
        """What `workbench.train` prepares: advantages and weights, before the first update, for the rollouts of all processes."""
        needs = objective.needs(self.recipe)
        said: dict[str, Tensor] = {}
        compared = self.correction is not None or not getattr(self.engine, "exact", True)
        if compared or "entropy" in needs:
            read = self.policy.evaluate(batch, temperature=self.temperature)
        if "entropy" in needs:
            said["entropy"] = read.entropy
        if compared:
            now, played = read.logp, batch.stop != Stop.ERROR
            for name, number in against_the_sampler(self.correction, batch, now, played, said).items():
                self._metrics["train"][name].append(number)
            if self.correction is not None:
                batch = batch.replace(logp_old=torch.where(batch.mask & played[:, None], now, batch.logp_old))
        if "answer" in needs:
            texts = [self._problem(number).answer for number in self.asked[:: self.recipe.rollout["size"]]]
            answers = [[*models.encode(self.policy.tokenizer, text), self.policy.eos] for text in texts]
            said["answer"] = models.answer_logp(self.policy, batch, answers, temperature=self.temperature)
        if "reference" in needs:
            if self.reference is not None:
                said["logp_ref"] = self.reference.evaluate(batch, temperature=self.temperature).logp
            else:
                with self.policy.model.disable_adapter():
                    said["logp_ref"] = self.policy.evaluate(batch, temperature=self.temperature).logp
        if self.accelerator.num_processes > 1:
            device, everyone = batch.tokens.device, gather_object([(batch, said)])
            batch = Batch.concatenate([each.to(device) for each, _ in everyone])
            width = batch.tokens.shape[1]
            said = {
                name: torch.cat([pad(each[name].to(device), (0, width - each[name].shape[1])) for _, each in everyone])
                for name in said
            }
        return objective.prepare(self.recipe, batch, **said)

    def _problem(self, number: int) -> tasks.Problem:
        return self.task.problem(number, seed=self.problem_seed)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        """The recipe's loss on one micro-batch: its share of the minibatch that one step of the optimiser sees.

        Processes then take the mean of their gradients, so each gives its share as many times as there are processes.
        """
        micro, among = self._step % self.args.steps_per_generation, self.current_gradient_accumulation_steps
        first = micro // among * among
        rows = self.accelerator.gather(torch.cat([each["row"] for each in self._buffered_inputs[first : first + among]]))
        mine = torch.isin(rows, inputs["row"]).nonzero()[:, 0]
        share = self.prepared.select(rows).share(mine)  # in the order of inputs["row"]
        logp, entropy, _ = self._get_per_token_logps_and_entropies(
            model, torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1),
            torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1), inputs["completion_ids"].shape[1],
            compute_entropy=True,
        )  # fmt: skip
        value, seen = objective.loss(self.recipe, share, _ours(logp, share.batch), _ours(entropy, share.batch))
        for name, number in seen.items():
            self._metrics["train"][name].append(number)
        return value * self.accelerator.num_processes

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """TRL's, with the share of groups that taught nothing."""
        super().log(logs | {"zero_advantage": objective.dead(self.prepared)} if hasattr(self, "prepared") else logs, start_time)


def _ours(value: Tensor, batch: Batch) -> Tensor:
    """TRL's columns, completions from 0 on, as those of the batch: [B,C] -> [B,T]."""
    column = torch.arange(batch.tokens.shape[1], device=value.device) - batch.prompt_length[:, None]
    return torch.where(batch.mask, value.gather(1, column.clamp(0, value.shape[1] - 1)), 0)


def _play(prompts: list[Any], trainer: Any) -> dict[str, Any]:
    """TRL's hook for rollouts: our driver, on the prompts that TRL has repeated, each of a group beside the others."""
    size = trainer.recipe.rollout["size"] if trainer.model.training else 1
    problems = [trainer._problem(number) for number in trainer.asked[::size]]
    trainer.model.eval()
    try:
        with torch.no_grad():
            batch = sample.rollout(
                trainer.engine, trainer.task, trainer.policy.tokenizer, problems, group_size=size,
                seed=seeding.integer(trainer.problem_seed, "rollout", *_where(trainer)), temperature=trainer.temperature,
            ).to(trainer.accelerator.device)  # fmt: skip
    except (ConnectionError, TimeoutError) as error:  # a server that samples is gone: nothing is half done here
        if trainer.state.global_step:
            trainer._save_checkpoint(trainer.model, trial=None)
        raise type(error)(
            f"the engine stopped answering after update {trainer.state.global_step}; all that was done is in "
            f"{trainer.args.output_dir}. Start it again and go on with train(resume_from_checkpoint=True). {error}"
        ) from error
    finally:
        trainer.model.train()
    if len(batch) != len(prompts):
        raise ValueError(
            f"task {trainer.task.name!r} rewrote the context of an episode, which then has several rows; TRL's trainer has one "
            "row for each rollout. Use workbench.train"
        )
    trainer.batch = batch
    rows = list(zip(batch.prompt_length.tolist(), batch.length.tolist()))
    return {
        "prompt_ids": [ids[:start] for ids, (start, _) in zip(batch.tokens.tolist(), rows)],
        "completion_ids": [ids[start:end] for ids, (start, end) in zip(batch.tokens.tolist(), rows)],
        "logprobs": [logp[start:end] for logp, (start, end) in zip(batch.logp_old.tolist(), rows)],
        "env_mask": [[int(m) for m in mask[start:end]] for mask, (start, end) in zip(batch.mask.tolist(), rows)],
        "outcome": batch.outcome.tolist(),
    }


def _where(trainer: Any) -> tuple[int, int]:
    """The number of this batch of rollouts, from 1, and the process: the streams of `workbench.train` on the first process."""
    updates = trainer.recipe.schedule["epochs"] * trainer.recipe.schedule["minibatches"]
    return 1 + trainer.state.global_step // updates, trainer.accelerator.process_index


def success(outcome: list[float], **_: Any) -> list[float]:
    """What TRL logs as the reward: the verdict of the task."""
    return outcome


def trainer(
    model: str | Path | models.LanguageModel, task: str | tasks.Task, recipe: str | recipes.Recipe = "grpo", *, steps: int,
    folder: str | Path, seed: int = 0, prompts: int = 16, lr: float = 3e-4, temperature: float = 1.0,
    max_grad_norm: float = 1.0, accumulate: int = 1, checkpoint_every: int = 50, lora: int | PeftConfig | None = None,
    engine: str | sample.Engine | None = None, correction: objective.Correction | None = None, processes: int = 1,
    config: Mapping[str, Any] | None = None,
) -> RecipeTrainer:  # fmt: skip
    """A trainer of TRL for a recipe and a task; call its `train()`, or, to go on where a run stopped, make the same trainer
    again and call `train(resume_from_checkpoint=True)`.

    Args:
        model: a folder, a name on the Hub, or a `LanguageModel`. lora: the rank of adapters on all linear layers, or a PEFT
            configuration; None trains all weights.
        steps: batches of rollouts, as in `workbench.train`; each is `prompts` prompts with the recipe's number of rollouts.
        accumulate: micro-batches in each of the recipe's minibatches, to save memory; the gradient is the same.
        checkpoint_every: batches of rollouts between two checkpoints in `folder`.
        engine: what samples, see `sample.engine_of`: None for the fastest of our own that can run the model. Of several processes
            each samples for itself, with vLLM inside it or a vLLM server of its own: one server serves one policy.
        correction: of what an engine that is not exactly the policy sampled, as in `workbench.train`; how far it is from the
            policy is logged in any case (`mismatch_mean` and so on).
        processes: how many were asked for (accelerate launch --num_processes): fewer in fact are refused, since accelerate runs
            one without a word where it cannot run more. Each takes its share of the prompts, with random numbers of its own.
        config: more of TRL's GRPOConfig, such as {"bf16": True, "report_to": ["tensorboard"]}.
    Raises:
        ValueError: a recipe that TRL cannot carry, with the part; sizes that do not divide; processes that are not there; a
            tokenizer without a chat template, or with one that rewrites earlier turns.
    """
    task, recipe = tasks.get(task), recipes.get(recipe)
    reason = carries(recipe)
    if reason:
        raise ValueError(f"recipe {recipe.name!r}: {reason}")
    for why, names in _REPLACED.items():
        for name in names:
            if name in (config or {}):
                raise ValueError(f"{name} would do nothing: {why}")
    policy = model if isinstance(model, models.LanguageModel) else models.load(model)
    size, minibatches, epochs = recipe.rollout["size"], recipe.schedule["minibatches"], recipe.schedule["epochs"]
    rows, updates = prompts * size, minibatches * epochs
    if prompts % processes or rows % (minibatches * accumulate * processes):
        raise ValueError(
            f"{prompts} prompts x {size} rollouts do not divide into {processes} processes (whole prompts each) x {minibatches} "
            f"minibatches x {accumulate} micro-batches; choose prompts so that they do"
        )
    pool = recipe.prompts.get("pool")
    numbers = [n % pool for n in range(steps * prompts)] if pool else range(steps * prompts)
    asked = [task.problem(int(n), seed=seed) for n in numbers]
    sample.check(policy, task)  # what is wrong with the tokenizer or the context is said now, not in the first step
    arguments = GRPOConfig(
        output_dir=str(folder), seed=seed, max_steps=steps * updates, learning_rate=lr, temperature=temperature,
        max_grad_norm=max_grad_norm, num_generations=size, num_iterations=epochs, beta=0.0,
        per_device_train_batch_size=rows // (minibatches * accumulate * processes), gradient_accumulation_steps=accumulate,
        steps_per_generation=minibatches * accumulate, shuffle_dataset=pool is not None, disable_dropout=True,
        **usual(config, save_steps=checkpoint_every * updates, adam_beta2=0.95),
    )  # fmt: skip
    if arguments.save_strategy == "steps" and arguments.save_steps % updates:
        raise ValueError(
            f"save_steps={arguments.save_steps}: a run can go on only between two batches of rollouts, and each is used for "
            f"{updates} updates; use checkpoint_every"
        )
    data = Dataset.from_dict({
        "prompt": [[{"role": "user", "content": problem.prompt}] for problem in asked], "problem": [int(n) for n in numbers],
    })  # fmt: skip
    made = RecipeTrainer(
        task=task, recipe=recipe, engine=engine, seed=seed, correction=correction, model=policy.model, args=arguments,
        train_dataset=data, processing_class=policy.tokenizer, peft_config=adapters(lora),
    )  # fmt: skip
    check_processes(made, processes)
    return made


# ---- tasks as TRL's own environments --------------------------------------------------------------------------------------


def environment(task: str | tasks.Task, *, split: str = "train", seed: int = 0) -> type:
    """A task as what TRL's `environment_factory` takes: `reset`, the task's tools as typed methods, and the reward.

        asked = [{"prompt": [{"role": "user", "content": task.problem(n).prompt}], "problem": n} for n in range(64)]
        GRPOTrainer(
            model, answered, environment_factory=environment(task), train_dataset=Dataset.from_list(asked),
            processing_class=tokenizer, args=GRPOConfig(...),
        )

    TRL then reads the calls itself, in the format of the model's template. A call that cannot be read ends the episode there,
    whereas our driver lets the task answer it; so `trainer` is the one to compare recipes with.

    Raises:
        ValueError: a task whose turns are not calls of typed tools.
    """
    chosen = tasks.get(task)
    return _environment(chosen, split, seed)


def _environment(task: tasks.Task, split: str, seed: int) -> type:
    if not task.tools:
        raise ValueError(f"task {task.name!r} has no tools; for one turn give GRPOTrainer a reward function instead")
    holder = task if all(hasattr(task, name) for name in task.tools) else type(task.episode(task.problem(0)))
    lacking = [name for name in task.tools if not hasattr(holder, name)]
    if lacking:
        raise ValueError(f"task {task.name!r} has no typed method {lacking[0]!r} that TRL could call")

    class Environment:
        def reset(self, problem: int, **_: Any) -> None:
            self._problem = task.problem(int(problem), split=split, seed=seed)
            self._episode = task.episode(self._problem)

    def forwarded(name: str) -> Callable[..., Any]:
        source = getattr(holder, name)

        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            owner = task if holder is task else self._episode
            return getattr(owner, name)(*args, **kwargs)

        method.__name__, method.__doc__ = name, source.__doc__
        parameters = list(inspect.signature(source).parameters.values())
        me = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        kept = [p for p in parameters if p.name != "self"]
        hints = inspect.get_annotations(getattr(source, "__func__", source), eval_str=True)
        method.__signature__ = inspect.Signature([me, *(p.replace(annotation=hints.get(p.name, p.annotation)) for p in kept)])  # type: ignore[attr-defined]
        method.__annotations__ = hints
        return method

    for name in task.tools:
        setattr(Environment, name, forwarded(name))
        try:
            get_json_schema(getattr(Environment, name))
        except (DocstringParsingException, TypeHintParsingException) as error:
            raise ValueError(
                f"tool {name!r} of task {task.name!r} cannot be described to a model: types and a docstring with `Args:` are "
                f"needed ({error})"
            ) from error
    Environment.__name__ = Environment.__qualname__ = f"{type(task).__name__}Environment"
    return Environment


def answered(completions: list[Any], environments: list[Any], **_: Any) -> list[float]:
    """The reward function that belongs to `environment`: the task's verdict on the last thing that the assistant said."""
    verdicts = []
    for completion, one in zip(completions, environments):
        last = completion[-1] if completion else {}
        said = last.get("content") or "" if last.get("role") == "assistant" and not last.get("tool_calls") else None
        verdicts.append(0.0 if said is None else float(one._episode.step(said).outcome))
    return verdicts
