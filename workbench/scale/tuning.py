"""Demonstrations, preferences and reward models by TRL's own trainers, from token ids that are never encoded twice.

    scale.sft("models/mine", "calculator", steps=200, folder="runs/taught").train()

    batch = sample.rollout(engine, task, policy.tokenizer, problems, group_size=8, seed=0)
    pairs = scale.preferences(batch)  # a success above a failure of the same prompt
    scale.dpo(policy, pairs, steps=50, folder="runs/preferred").train()
    scale.reward_model(policy, pairs, steps=50, folder="runs/judge").train()

Everything else that TRL can do is in its configurations: give it as `config`, such as {"loss_type": "ipo"}.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from torch import Tensor
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from workbench import models, tasks
from workbench.batch import Batch, Stop
from workbench.scale.settings import adapters, check_processes, usual
from workbench.train import demonstrations

if TYPE_CHECKING:
    from peft import PeftConfig

IGNORED = -100  # what marks a token that is not learned from, in labels of `transformers`


def sft(
    model: str | Path | models.LanguageModel, task: str | tasks.Task, *, steps: int, folder: str | Path, seed: int = 0,
    batch_size: int = 32, lr: float = 2e-5, error_rate: float = 0.2, max_grad_norm: float = 1.0, accumulate: int = 1,
    lora: int | PeftConfig | None = None, processes: int = 1, config: Mapping[str, Any] | None = None,
) -> SFTTrainer:  # fmt: skip
    """TRL's SFTTrainer on the demonstrations of a task, the same in the same order as in `workbench.sft`.

    What a tool says is read and not learned. The loss of a step is that of `workbench.sft`: nats a token of the assistant. The
    learning rate is constant; {"lr_scheduler_type": "linear", "warmup_ratio": 0.1} as `config` comes close to the other one.

    Args:
        accumulate: micro-batches in each batch, to save memory. The other arguments are those of `trainer`.
    Raises:
        ValueError: sizes that do not divide, a demonstration longer than the model's context, processes that are not there.
    """
    task, policy = tasks.get(task), _loaded(model)
    common = _common(steps, folder, seed, lr, max_grad_norm, batch_size, accumulate, processes)
    arguments = SFTConfig(**common, **usual(
        config, adam_beta2=0.95, train_sampling_strategy="sequential", dataset_kwargs={"skip_prepare_dataset": True}
    ))  # fmt: skip
    rows: dict[str, list[list[int]]] = {"input_ids": [], "labels": []}
    for step in range(1, steps + 1):
        batch = demonstrations(task, policy.tokenizer, step, batch_size, error_rate, seed)
        if len(batch) != batch_size:
            raise ValueError(f"task {task.name!r} rewrites its context: a demonstration has several rows; use workbench.sft")
        _check_length(policy, batch)
        for ids, label, length in zip(batch.tokens, batch.tokens.where(batch.mask, IGNORED), batch.length.tolist()):
            rows["input_ids"].append(ids[:length].tolist())
            rows["labels"].append(label[:length].tolist())
    made = SFTTrainer(
        model=policy.model, args=arguments, train_dataset=Dataset.from_dict(rows), processing_class=policy.tokenizer,
        peft_config=adapters(lora),
    )  # fmt: skip
    check_processes(made, processes)
    return made


# ---- preferences --------------------------------------------------------------------------------------------------------


def preferences(batch: Batch) -> list[dict[str, list[int]]]:
    """Pairs of rollouts of one prompt, the one with the higher outcome first.

    The best of a group stands with the worst, the second best with the second worst, and so on while there is a difference, so no
    rollout is used twice; a group in which all are right or all wrong gives none. What ended in an error of the task is left out.

    Returns:
        for each pair the ids of its prompt, and `chosen_ids`, `rejected_ids` with `chosen_mask`, `rejected_mask`: 1 on what the
        policy sampled, 0 on what tools said.
    Raises:
        ValueError: a rollout of several rows (its context was rewritten), which no pair can hold.
    """
    if batch.rollouts < len(batch):
        raise ValueError("an episode of several rows (its context was rewritten) cannot be one side of a pair")
    pairs = []
    for group in batch.split():
        played = group.select(group.stop != Stop.ERROR)
        order = played.outcome.argsort(descending=True, stable=True).tolist()
        for best, worst in zip(order[: len(order) // 2], order[::-1]):
            if played.outcome[best] > played.outcome[worst]:
                start = int(played.prompt_length[best])
                sides = {"chosen": best, "rejected": worst}
                pair = {"prompt_ids": played.tokens[best, :start].tolist()}
                for side, row in sides.items():
                    end = int(played.length[row])
                    pair[f"{side}_ids"] = played.tokens[row, start:end].tolist()
                    pair[f"{side}_mask"] = played.mask[row, start:end].int().tolist()
                pairs.append(pair)
    return pairs


def dpo(
    model: str | Path | models.LanguageModel, pairs: Sequence[Mapping[str, list[int]]], *, steps: int, folder: str | Path,
    seed: int = 0, batch_size: int = 16, lr: float = 1e-6, beta: float = 0.1, max_grad_norm: float = 1.0, accumulate: int = 1,
    lora: int | PeftConfig | None = None, processes: int = 1, config: Mapping[str, Any] | None = None,
) -> DPOTrainer:  # fmt: skip
    """TRL's DPOTrainer (direct preference optimisation, arXiv 2305.18290) on pairs of `preferences`.

    Log-probabilities are summed over what the policy sampled; the replies of tools are read and do not count. The reference is
    the model as it is given; with new adapters it is the model without them, and nothing is kept twice.

    Args:
        beta: how much a log-ratio counts: small lets the policy go far from the reference.
    Raises:
        ValueError: no pairs, sizes that do not divide, processes that are not there.
    """
    policy = _loaded(model)
    common = _common(steps, folder, seed, lr, max_grad_norm, batch_size, accumulate, processes)
    arguments = DPOConfig(**common, beta=beta, **usual(config, remove_unused_columns=False))
    pad_token = policy.tokenizer.pad_token_id
    adapted = lora is not None or hasattr(policy.model, "peft_config")  # TRL then takes the adapters off, or keeps theirs twice
    reference = None if adapted else policy.copy().model.requires_grad_(False)
    made = PairTrainer(
        model=policy.model, ref_model=reference, args=arguments, train_dataset=_paired(pairs), peft_config=adapters(lora),
        processing_class=policy.tokenizer, data_collator=MaskedPairs(policy.eos if pad_token is None else pad_token),
    )  # fmt: skip
    check_processes(made, processes)
    return made


class PairTrainer(DPOTrainer):
    """TRL's DPOTrainer on pairs of ids. TRL's own would make ids from text first."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


@dataclass
class MaskedPairs(DataCollatorForPreference):
    """TRL's, with what tools said left out of the completions."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """As TRL's, from pairs of `preferences`."""
        made = super().torch_call(examples)
        for row, mask in enumerate([each[f"{side}_mask"] for side in ("chosen", "rejected") for each in examples]):
            start = len(examples[row % len(examples)]["prompt_ids"])
            made["completion_mask"][row, start : start + len(mask)] = torch.tensor(mask)
        return made


def reward_model(
    model: str | Path | models.LanguageModel, pairs: Sequence[Mapping[str, list[int]]], *, steps: int, folder: str | Path,
    seed: int = 0, batch_size: int = 16, lr: float = 1e-4, max_grad_norm: float = 1.0, accumulate: int = 1,
    lora: int | PeftConfig | None = None, processes: int = 1, config: Mapping[str, Any] | None = None,
) -> RewardTrainer:  # fmt: skip
    """TRL's RewardTrainer (Bradley-Terry) on pairs of `preferences`: a model that gives an episode a number.

    It starts from the language model, with a new last layer of one output. Score episodes with `score(made.model, batch)`.

    Raises:
        ValueError: no pairs, sizes that do not divide, processes that are not there.
    """
    policy = _loaded(model)
    common = _common(steps, folder, seed, lr, max_grad_norm, batch_size, accumulate, processes)
    arguments = RewardConfig(**common, **usual(config))
    data = _paired(pairs)
    whole = Dataset.from_dict({
        f"{side}_ids": [pair["prompt_ids"] + pair[f"{side}_ids"] for pair in data] for side in ("chosen", "rejected")
    })  # fmt: skip
    made = RewardTrainer(
        model=_with_one_output(policy.model, seed), args=arguments, train_dataset=whole, processing_class=policy.tokenizer,
        peft_config=adapters(lora),
    )  # fmt: skip
    check_processes(made, processes)
    return made


@torch.no_grad()
def score(model: Any, batch: Batch) -> Tensor:
    """[B] what a reward model thinks of each episode, read at its last token."""
    position = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)
    attention = (position < batch.length[:, None]).long()
    body = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden = body.base_model(input_ids=batch.tokens, attention_mask=attention).last_hidden_state
    return body.score(hidden[torch.arange(len(batch)), batch.length - 1])[:, 0]


# ---- small things ---------------------------------------------------------------------------------------------------------


def _loaded(model: str | Path | models.LanguageModel) -> models.LanguageModel:
    return model if isinstance(model, models.LanguageModel) else models.load(model)


def _common(
    steps: int, folder: str | Path, seed: int, lr: float, max_grad_norm: float, batch_size: int, accumulate: int, processes: int
) -> dict[str, Any]:  # fmt: skip
    """Arguments that all of TRL's configurations know."""
    if batch_size % (accumulate * processes):
        raise ValueError(f"batch_size {batch_size} does not divide into {accumulate} micro-batches x {processes} processes")
    return {
        "output_dir": str(folder), "seed": seed, "max_steps": steps, "learning_rate": lr, "max_grad_norm": max_grad_norm,
        "per_device_train_batch_size": batch_size // (accumulate * processes), "gradient_accumulation_steps": accumulate,
        "max_length": None,
    }  # fmt: skip


def _check_length(policy: models.LanguageModel, batch: Batch) -> None:
    longest = int(batch.length.max())
    if policy.context is not None and longest > policy.context:
        raise ValueError(f"a demonstration has {longest} tokens, the model's context is {policy.context}")


def _paired(pairs: Sequence[Mapping[str, list[int]]]) -> Dataset:
    if not pairs:
        raise ValueError("no pairs: in every group all rollouts are right, or all wrong; sample more, or of other problems")
    return Dataset.from_list([dict(pair) for pair in pairs])


def _with_one_output(model: Any, seed: int) -> Any:
    """The same transformer under a new last layer that gives one number."""
    from transformers import AutoModelForSequenceClassification

    if hasattr(model, "merge_and_unload"):
        raise ValueError("a reward model starts from plain weights: merge the adapters first (model.merge_and_unload())")
    config = copy.deepcopy(model.config)
    config.num_labels = 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = AutoModelForSequenceClassification.from_config(config, dtype=next(model.parameters()).dtype)
    made.base_model.load_state_dict(model.base_model.state_dict())
    return made.to(model.device)
