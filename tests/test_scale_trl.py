"""Recipes inside TRL's trainer: the loss, gradients and whole runs of `workbench.train`; TRL's own settings, environments."""

from __future__ import annotations

import json

import pytest
import torch

import workbench as wb
from workbench import models, objective, recipes, tasks
from workbench.loop import trainable

trl = pytest.importorskip("trl", reason="the extra `scale` is not installed", exc_type=ImportError)

from workbench import scale  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
QUIET = {"save_strategy": "no", "disable_tqdm": True, "logging_strategy": "no"}
CARRIED = [name for name in recipes.names() if scale.carries(name) is None]


@pytest.fixture(scope="module")
def pupil():
    """A policy whose calls are sometimes right: after a few lessons."""
    policy = models.tiny("0.1m", seed=0)
    for _ in wb.sft(policy, "calculator", steps=30, batch_size=16, seed=0):
        pass
    return policy


def made(policy, folder, recipe="grpo", task="calculator", **settings):
    settings = {"steps": 2, "prompts": 2, **settings}
    return scale.trainer(policy.copy(), task, recipe, folder=folder, **{"config": QUIET, **settings})


def flat(policy):
    return torch.cat([weight.detach().flatten() for weight in trainable(policy).values()])


# ---- which recipes ------------------------------------------------------------------------------------------------------


def test_what_trl_cannot_carry_is_refused_with_the_part(pupil, tmp_path):
    assert {"grpo", "gtpo", "gspo", "cispo", "igpo", "loop"} <= set(CARRIED)
    for name, part in (("ppo", "values"), ("dapo", "resample"), ("arpo", "replay"), ("flow_grpo", "one_row_a_turn")):
        assert part in scale.carries(name)
        with pytest.raises(ValueError, match=f"recipe '{name}': .*workbench.train"):
            made(pupil, tmp_path, name)


@pytest.mark.parametrize(
    ("change", "slot"),
    [
        ({"reward": (objective.outcome(), objective.turn_penalty())}, "reward"),
        ({"advantage": objective.turn_returns()}, "advantage"),
        ({"advantage": objective.episode_advantage(ddof=0)}, "advantage"),
        ({"unit": objective.turn()}, "unit"),
        ({"surrogate": objective.policy_gradient(), "ratio": objective.current()}, "surrogate"),
        ({"regulariser": objective.kl(estimator="k2")}, "regulariser"),
        ({"surrogate": objective.cispo(), "aggregate": objective.sequence_mean()}, "aggregate"),
        ({"select": objective.drop_dead()}, "select"),
    ],
)
def test_what_trl_has_no_setting_for_is_refused_with_the_slot(change, slot):
    with pytest.raises(ValueError, match=f"TRL has no setting for {slot}="):
        scale.native(recipes.grpo.but("x", **change))


# ---- the same numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CARRIED)
def test_loss_and_gradients_are_those_of_train(name, pupil, tmp_path):
    recipe = recipes.get(name)
    recipe = recipe.but("x", schedule=objective.updates()) if recipe.schedule["minibatches"] > 1 else recipe
    trainer = made(pupil, tmp_path, recipe)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    asked = list(range(2))
    inputs = trainer._prepare_inputs([trainer.train_dataset[n] for n in asked for _ in range(recipe.rollout["size"])])
    trainer._compute_loss(trainer.model, inputs).backward()
    theirs = torch.cat([weight.grad.flatten() for weight in trainer.policy.model.parameters()])

    policy, batch = pupil.copy(), trainer.batch
    needs, given = objective.needs(recipe), {}
    with torch.no_grad():
        said = policy.evaluate(batch)
        given |= {"entropy": said.entropy} if "entropy" in needs else {}
        given |= {"logp_ref": said.logp} if "reference" in needs else {}
        if "answer" in needs:
            texts = [tasks.get("calculator").problem(n).answer for n in asked]
            answers = [[*models.encode(policy.tokenizer, text), policy.eos] for text in texts]
            given["answer"] = models.answer_logp(policy, batch, answers)
    prepared = objective.prepare(recipe, batch, **given)
    said = policy.evaluate(batch)
    value, seen = objective.loss(recipe, prepared, said.logp, said.entropy)
    value.backward()
    ours = torch.cat([weight.grad.flatten() for weight in policy.model.parameters()])
    assert seen["ratio_max"] == pytest.approx(1, abs=1e-5)
    assert (theirs - ours).norm() <= 1e-5 * ours.norm() + 1e-9
    assert ours.norm() > 0 or objective.dead(prepared) == 1


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_whole_run_is_that_of_train(accumulate, pupil, tmp_path):
    """Same problems, same streams of random numbers, same optimiser, two minibatches: the same weights after three batches."""
    recipe = recipes.gtpo.but("x", schedule=objective.updates(minibatches=1))
    config = {**QUIET, "adam_beta2": 0.95}
    trainer = made(pupil, tmp_path, recipe, steps=3, lr=1e-4, accumulate=accumulate, config=config)
    trainer.train()
    policy = pupil.copy()
    for _ in wb.train(policy, "calculator", recipe, steps=3, prompts=2, lr=1e-4, seed=0):
        pass
    moved = (flat(policy) - flat(pupil)).norm()
    apart = (flat(trainer.policy) - flat(policy)).norm()
    assert moved > 1e-3 and apart < 0.02 * moved, "Adam magnifies rounding where gradients are next to 0"


def test_minibatches_and_epochs_are_the_recipe_s(pupil, tmp_path):
    recipe = recipes.gtpo.but("x", schedule=objective.updates(minibatches=2, epochs=2))
    trainer = made(pupil, tmp_path, recipe, steps=2, prompts=4, config={**QUIET, "logging_strategy": "steps"})
    trainer.train()
    logs = [row for row in trainer.state.log_history if "ratio_max" in row]
    assert trainer.state.global_step == 2 * 2 * 2
    first = [abs(row["ratio_max"] - 1) < 1e-5 for row in logs]
    assert first[0] and not first[1] and not all(first[2:4]), "only before the first update is every ratio 1"
    assert all(0 <= row["zero_advantage"] <= 1 for row in logs)


# ---- adapters -------------------------------------------------------------------------------------------------------------


def test_with_lora_only_adapters_move_and_the_base_is_the_reference(pupil, tmp_path):
    recipe = recipes.grpo.but("x", regulariser=objective.kl(0.1))
    trainer = made(pupil, tmp_path / "run", recipe, lora=4, lr=1e-2)
    before = {name: weight.clone() for name, weight in trainer.policy.model.named_parameters()}
    trainer.train()
    model = trainer.policy.model
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved and all("lora_" in name for name in moved) and trainer.reference is None
    ids = torch.tensor([[1, 20, 30, 40, 2]])
    adapted = model(ids).logits
    with model.disable_adapter():
        assert torch.allclose(model(ids).logits, pupil.model(ids).logits, atol=1e-6)
    assert not torch.allclose(adapted, pupil.model(ids).logits, atol=1e-4)
    model.save_pretrained(tmp_path / "adapter")
    from peft import PeftModel

    again = PeftModel.from_pretrained(pupil.copy().model, tmp_path / "adapter")
    assert torch.allclose(again(ids).logits, adapted, atol=1e-6)
    assert torch.allclose(again.merge_and_unload()(ids).logits, adapted, atol=1e-5)


# ---- TRL's own environments -------------------------------------------------------------------------------------------------


def test_trl_plays_a_task_as_an_environment_with_lora(pupil, tmp_path):
    """Nothing of ours while it trains: TRL reads the calls, runs the tool, masks its tokens, and pays for right answers."""
    from datasets import Dataset
    from peft import LoraConfig

    task = tasks.get("calculator", operations=(1, 1))
    policy = pupil.copy()
    asked = [{"prompt": [{"role": "user", "content": task.problem(n).prompt}], "problem": n} for n in range(8)]
    config = trl.GRPOConfig(
        output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=16, num_generations=8, max_completion_length=40,
        report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False, learning_rate=1e-2, **QUIET,
    )  # fmt: skip
    trainer = trl.GRPOTrainer(
        model=policy.model, reward_funcs=scale.answered, args=config, train_dataset=Dataset.from_list(asked),
        processing_class=policy.tokenizer, environment_factory=scale.environment(task),
        peft_config=LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"),
    )  # fmt: skip
    trainer.train()
    assert trainer.state.global_step == 2


def test_an_environment_answers_calls_and_its_reward_is_the_task_s():
    task = tasks.get("calculator", operations=(1, 1))
    one = scale.environment(task)()
    problem = task.problem(3)
    one.reset(problem=3, prompt="ignored")
    (call, result), *_ = problem.steps
    assert one.calculate(expression=call) == result
    said = [[{"role": "assistant", "content": problem.answer}], [{"role": "assistant", "content": "no"}], []]
    paid = []
    for completion in said:
        one.reset(problem=3)
        paid += scale.answered([completion], [one])
    assert paid == [1.0, 0.0, 0.0]
    from transformers.utils import get_json_schema

    told = json.dumps(get_json_schema(one.calculate))
    assert '"expression"' in told and '"string"' in told


def test_a_task_without_typed_tools_is_no_environment():
    with pytest.raises(ValueError, match="has no tools; for one turn give GRPOTrainer a reward function"):
        scale.environment("addition")


# ---- bad input ------------------------------------------------------------------------------------------------------------


def test_sizes_that_do_not_divide_and_processes_that_are_not_there_are_refused(pupil, tmp_path):
    with pytest.raises(ValueError, match="do not divide into 1 processes .* 3 micro-batches"):
        made(pupil, tmp_path, accumulate=3)
    with pytest.raises(ValueError, match="2 processes were asked for and 1 run"):
        made(pupil, tmp_path, processes=2)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        made(pupil, tmp_path, lora=0)
    with pytest.raises(TypeError, match="learning_rat"):
        made(pupil, tmp_path, config={"learning_rat": 1.0})
