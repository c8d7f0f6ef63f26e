"""Recipes inside TRL's trainer: the loss, gradients and whole runs of `workbench.train`; TRL's own settings, environments."""

from __future__ import annotations

import copy
import json
import os
import signal
import sys

import pytest
import torch

import workbench as wb
from workbench import models, objective, recipes, sample, seeding, tasks
from workbench.loop import trainable

trl = pytest.importorskip("trl", reason="the extra `scale` is not installed", exc_type=ImportError)

from workbench import scale  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
QUIET = {"save_strategy": "no", "disable_tqdm": True, "logging_strategy": "no"}
CARRIED = [name for name in recipes.names() if scale.carries(name) is None]
NATIVE = ["grpo", "dr_grpo", "gspo", "cispo", "sapo", "lite_ppo"]


@pytest.fixture(scope="module")
def pupil():
    """A policy whose episodes sometimes succeed, so that there is something to learn."""
    return models.load("data/calculator_pupil")


def made(policy, folder, recipe="grpo", task="calculator", **settings):
    settings = {"steps": 2, "prompts": 4, **settings}
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
    """On the policy's own rollouts, where every ratio is 1, and on rollouts of another, where they are clipped."""
    recipe = recipes.get(name)
    recipe = recipe.but("x", schedule=objective.updates()) if recipe.schedule["minibatches"] > 1 else recipe
    trainer = made(pupil, tmp_path, recipe)
    asked = list(range(4))
    theirs, value = gradient_of(trainer, [trainer.train_dataset[n] for n in asked for _ in range(recipe.rollout["size"])])
    noise = torch.from_numpy(seeding.generator(0, "noise").normal(size=tuple(trainer.batch.tokens.shape)) * 0.3).float()
    old = torch.where(trainer.batch.mask, (trainer.batch.logp_old + noise).clamp(max=0), 0)
    for batch in (trainer.batch, trainer.batch.replace(logp_old=old)):
        if batch is not trainer.batch:
            trainer.prepared = trainer._prepared(batch)
            trainer.model.zero_grad()
            theirs, value = gradient_of(trainer, None)
        policy, needs, given = pupil.copy(), objective.needs(recipe), {}
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
        expected, seen = objective.loss(recipe, prepared, said.logp, said.entropy)
        expected.backward()
        ours = torch.cat([weight.grad.flatten() for weight in policy.model.parameters()])
        assert (theirs - ours).norm() <= 1e-5 * ours.norm() and ours.norm() > 1e-3
        terms = (prepared.coefficient * prepared.advantage).abs().sum().item()  # on-policy they add up to next to nothing
        assert abs(value - expected.item()) <= 1e-5 * max(abs(expected.item()), terms)
        if batch is trainer.batch:
            assert seen["ratio_max"] == pytest.approx(1, abs=1e-5)
        elif recipe.surrogate.name == "clip":
            assert seen["clip_share"] > 0


@pytest.mark.parametrize("name", NATIVE)
def test_a_plain_trainer_with_native_settings_has_the_same_loss_and_gradients(name, pupil, tmp_path):
    """TRL's own rewards to advantages to loss, on the same rollouts. (Off-policy: test_trl_parity.)"""
    from datasets import Dataset

    recipe = recipes.get(name).but("x", schedule=objective.updates())
    ours = made(pupil, tmp_path, recipe)
    rows = [ours.train_dataset[n] for n in range(4) for _ in range(8)]
    gradient, value = gradient_of(ours, rows)
    batch = ours.batch
    policy = pupil.copy()
    config = trl.GRPOConfig(
        output_dir=str(tmp_path), per_device_train_batch_size=32, report_to=[], use_cpu=True, bf16=False,
        gradient_checkpointing=False, disable_dropout=True, **QUIET, **scale.native(recipe),
    )  # fmt: skip
    plain = trl.GRPOTrainer(
        model=policy.model, args=config, train_dataset=Dataset.from_dict({"prompt": ["1+1="]}), processing_class=policy.tokenizer,
        reward_funcs=lambda completions, **_: batch.outcome.tolist(),
    )  # fmt: skip
    cut = list(zip(batch.prompt_length.tolist(), batch.length.tolist()))
    prompts = [ids[:start] for ids, (start, _) in zip(batch.tokens.tolist(), cut)]
    ids, masks = ([row[a:b] for row, (a, b) in zip(t.int().tolist(), cut)] for t in (batch.tokens, batch.mask))
    plain._generate = lambda _: (prompts, ids, masks, ["text"] * len(ids), None, {}, None, [[] for _ in ids])
    theirs, their_value = gradient_of(plain, [{"prompt": "1+1="}] * 32)
    assert gradient.norm() > 1e-3 and (gradient - theirs).norm() <= 1e-5 * gradient.norm()
    terms = (ours.prepared.coefficient * ours.prepared.advantage * (batch.logp_old if name == "cispo" else 1)).abs().sum()
    assert abs(value - their_value) <= 1e-6 * terms


def gradient_of(trainer, rows):
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    inputs = trainer._prepare_inputs(rows) if rows else trainer._buffered_inputs[0]
    value = trainer._compute_loss(trainer.model, inputs)
    value.backward()
    return torch.cat([weight.grad.flatten() for weight in trainer.model.parameters()]), value.item()


def test_native_settings_are_all_there_is_of_a_recipe():
    assert [name for name in recipes.names() if _native(name)] == NATIVE
    assert scale.native("gspo")["steps_per_generation"] == 4, "four minibatches of each batch of rollouts"
    for name in NATIVE:
        trl.GRPOConfig(output_dir="x", use_cpu=True, bf16=False, per_device_train_batch_size=8, **scale.native(name))


def _native(name):
    try:
        return scale.native(name)
    except ValueError:
        return None


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_whole_run_is_that_of_train(accumulate, pupil, tmp_path):
    """Same problems, same streams of random numbers, same optimiser, two minibatches: the same weights after three batches."""
    recipe = recipes.gtpo.but("x", schedule=objective.updates(minibatches=1))
    trainer = made(pupil, tmp_path, recipe, steps=3, lr=1e-4, accumulate=accumulate)
    trainer.train()
    policy = pupil.copy()
    for _ in wb.train(policy, "calculator", recipe, steps=3, prompts=4, lr=1e-4, seed=0):
        pass
    moved = (flat(policy) - flat(pupil)).norm()
    apart = (flat(trainer.policy) - flat(policy)).norm()
    assert moved > 1e-3 and apart < 0.02 * moved, "Adam magnifies rounding where gradients are next to 0"


def test_a_coarse_sampler_is_corrected_as_by_train(pupil, tmp_path):
    """From a sampler in bfloat16: the mismatch is logged, and the step is that of train with the same correction, not without."""
    recipe, correction = recipes.gtpo.but("x", schedule=objective.updates()), objective.Correction(high=1.0001)

    def coarse(policy):
        return sample.LocalEngine(policy, dtype="bfloat16")

    policy = pupil.copy()
    settings = {"steps": 1, "lr": 1e-4, "config": {**QUIET, "logging_strategy": "steps"}, "correction": correction}
    trainer = scale.trainer(policy, "calculator", recipe, folder=tmp_path, prompts=4, engine=coarse(policy), **settings)
    trainer.train()
    ours = []
    for given in (correction, None):
        student = pupil.copy()
        (step,) = wb.train(
            student, "calculator", recipe, steps=1, prompts=4, lr=1e-4, seed=0, engine=coarse(student), correction=given
        )
        ours.append((flat(student) - flat(trainer.policy)).norm().item())
    row = trainer.state.log_history[0]
    assert row["mismatch_mean"] > 1e-4 and row["correction_lost"] > 0 and abs(row["ratio_max"] - 1) < 1e-5
    moved = (flat(trainer.policy) - flat(pupil)).norm().item()
    assert moved > 1e-3 and ours[0] < 0.02 * moved and ours[1] > 2 * ours[0]


def test_minibatches_and_epochs_are_the_recipe_s(pupil, tmp_path):
    recipe = recipes.gtpo.but("x", schedule=objective.updates(minibatches=2, epochs=2))
    trainer = made(pupil, tmp_path, recipe, steps=2, prompts=4, config={**QUIET, "logging_strategy": "steps"})
    trainer.train()
    logs = [row for row in trainer.state.log_history if "ratio_max" in row]
    assert trainer.state.global_step == 2 * 2 * 2
    first = [abs(row["ratio_max"] - 1) < 1e-5 for row in logs]
    assert first[0] and not first[1] and not all(first[2:4]), "only before the first update is every ratio 1"
    assert all(0 <= row["zero_advantage"] <= 1 for row in logs)


@pytest.mark.parametrize("lora", [None, 4])
def test_a_killed_run_goes_on_to_the_same_bits(lora, pupil, tmp_path):
    """Killed in the second of two batches, after a checkpoint: optimiser, streams and order of rows are as they were."""
    from transformers import TrainerCallback

    recipe = recipes.gtpo.but("x", schedule=objective.updates(minibatches=2, epochs=2))

    class Kill(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            if state.global_step == 6:
                os.kill(os.getpid(), signal.SIGKILL)

    def trainer(folder):
        config = {"disable_tqdm": True, "logging_strategy": "no"}
        return made(pupil, folder, recipe, prompts=2, lr=1e-3, checkpoint_every=1, lora=lora, config=config)

    whole = trainer(tmp_path / "whole")
    whole.train()
    child = os.fork()
    if not child:
        killed = trainer(tmp_path / "killed")
        killed.add_callback(Kill())
        killed.train()
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    resumed = trainer(tmp_path / "killed")
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 8
    assert sorted(folder.name for folder in (tmp_path / "killed").glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-8"]
    assert torch.equal(resumed.batch.tokens, whole.batch.tokens), "the last rollouts"
    assert torch.equal(flat(resumed.policy), flat(whole.policy)) and not torch.equal(flat(whole.policy), flat(pupil))
    if lora is None:
        assert torch.equal(flat(models.load(tmp_path / "killed" / "checkpoint-8")), flat(whole.policy))


class Unsteady:
    """An engine whose server dies before the third batch."""

    def __init__(self, policy, dies=True):
        self.inner, self.context, self.left = sample.engine_of(policy), 512, 2 if dies else 99

    def start(self, prompts, *, seed):
        self.left -= 1
        if self.left < 0:
            raise ConnectionError("nobody listens")
        return self.inner.start(prompts, seed=seed)


def test_a_dead_engine_stops_the_run_with_a_checkpoint_of_all_that_was_done(pupil, tmp_path):
    whole = made(pupil, tmp_path / "whole", "gtpo", steps=3, lr=1e-3)
    whole.train()
    config = {"disable_tqdm": True, "logging_strategy": "no"}

    def trainer(dies):
        policy = pupil.copy()
        return scale.trainer(
            policy, "calculator", "gtpo", steps=3, prompts=4, lr=1e-3, folder=tmp_path / "run", engine=Unsteady(policy, dies),
            config=config,
        )  # fmt: skip

    with pytest.raises(ConnectionError, match="after update 2.*resume_from_checkpoint=True.*nobody listens"):
        trainer(True).train()
    (tmp_path / "run" / "checkpoint-9").mkdir()  # one that was being written when the machine went down
    resumed = trainer(False)
    resumed.train(resume_from_checkpoint=True)
    assert torch.equal(flat(resumed.policy), flat(whole.policy))


def test_going_on_without_a_checkpoint_starts_anew_and_lack_of_memory_says_what_to_lower(pupil, tmp_path, monkeypatch):
    trainer = made(pupil, tmp_path, steps=1)

    def full(*_, **__):
        torch.empty(2**60, dtype=torch.uint8)  # an exbibyte: the error of the machine itself

    monkeypatch.setattr(trainer, "_get_per_token_logps_and_entropies", full)
    with pytest.raises(MemoryError, match="32 rollouts in a pass: raise `accumulate`.*tried to allocate"):
        trainer.train(resume_from_checkpoint=True)


@pytest.mark.parametrize("lora", [None, 4])
def test_copies_of_a_model_that_trl_trains_have_weights_of_their_own(lora, pupil, tmp_path, monkeypatch):
    """TRL's patched forward is bound to the model it was put on; a reference made by copying would follow the policy."""
    monkeypatch.setattr("workbench.models.fast.supports", lambda _: False)  # as with any larger model
    trainer = made(pupil, tmp_path, recipes.grpo.but("x", regulariser=objective.kl(0.1)), steps=1, lora=lora)
    trainer._prepare_inputs([trainer.train_dataset[n] for n in range(4) for _ in range(8)])
    twins = [trainer.policy.copy(), copy.deepcopy(trainer.policy), trainer.policy.merged() if lora else trainer.reference]
    with torch.no_grad():
        for weight in trainer.model.parameters():
            weight.mul_(1.05)
        now = trainer.policy.evaluate(trainer.batch).logp
        before = pupil.evaluate(trainer.batch).logp
        for twin in twins:
            assert torch.allclose(twin.evaluate(trainer.batch).logp, before, atol=1e-5)
        assert not torch.allclose(now, before, atol=1e-3)


# ---- adapters -------------------------------------------------------------------------------------------------------------


def test_with_lora_only_adapters_move_and_the_base_is_the_reference(pupil, tmp_path):
    recipe = recipes.grpo.but("x", regulariser=objective.kl(0.1))
    trainer = made(pupil, tmp_path / "run", recipe, lora=4, lr=1e-2)
    assert trainer.reference is None
    before = {name: weight.clone() for name, weight in trainer.policy.model.named_parameters()}
    trainer.train()
    model = trainer.policy.model
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved and all("lora_" in name for name in moved)
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
        output_dir=str(tmp_path), max_steps=3, per_device_train_batch_size=16, num_generations=8, max_completion_length=40,
        report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False, learning_rate=1e-2, save_strategy="no",
        disable_tqdm=True, logging_steps=1,
    )  # fmt: skip
    trainer = trl.GRPOTrainer(
        model=policy.model, reward_funcs=scale.answered, args=config, train_dataset=Dataset.from_list(asked),
        processing_class=policy.tokenizer, environment_factory=scale.environment(task),
        peft_config=LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"),
    )  # fmt: skip
    trainer.train()
    logs = [row for row in trainer.state.log_history if "reward" in row]
    assert len(logs) == 3 and all(row["tools/call_frequency"] > 0 for row in logs)
    assert max(row["reward"] for row in logs) > 0 and max(row["grad_norm"] for row in logs) > 0
    said = torch.cat([batch["completion_ids"][(batch["tool_mask"] * batch["completion_mask"]) == 0]
                      for batch in trainer._buffered_inputs])  # fmt: skip
    assert policy.tokenizer.convert_tokens_to_ids("<R>") in said, "what the tool said is masked"
    moved = {n for n, weight in trainer.model.named_parameters() if "lora_B" in n and weight.any()}
    assert moved and all(torch.equal(weight, dict(pupil.model.named_parameters())[n.replace(".base_layer", "")])
                         for n, weight in trainer.model.get_base_model().named_parameters() if "lora" not in n)  # fmt: skip


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
        made(pupil, tmp_path, prompts=2, accumulate=3)
    with pytest.raises(ValueError, match="save_steps=3: a run can go on only between two batches"):
        recipe = recipes.grpo.but("x", schedule=objective.updates(epochs=2))
        made(pupil, tmp_path, recipe, config={"save_steps": 3, "disable_tqdm": True})
    with pytest.raises(ValueError, match="2 processes were asked for and 1 run"):
        made(pupil, tmp_path, processes=2)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        made(pupil, tmp_path, lora=0)
    with pytest.raises(TypeError, match="learning_rat"):
        made(pupil, tmp_path, config={"learning_rat": 1.0})


@pytest.mark.parametrize(
    ("config", "who"),
    [({"loss_type": "dapo"}, "the recipe"), ({"top_p": 0.9}, "the engine and the task"), ({"use_vllm": True}, "engine=")],
)
def test_settings_that_would_do_nothing_are_refused(config, who, pupil, tmp_path):
    with pytest.raises(ValueError, match=f"{next(iter(config))} would do nothing: .*{who}"):
        made(pupil, tmp_path, config=config)


def test_a_tokenizer_without_a_template_is_refused_before_training_and_one_without_padding_trains(pupil, tmp_path):
    bare = pupil.copy()
    bare.tokenizer = models.make_tokenizer()
    bare.tokenizer.chat_template = None
    with pytest.raises(ValueError, match="the tokenizer has no chat template"):
        scale.trainer(bare, "calculator", steps=1, folder=tmp_path)
    bare.tokenizer = models.make_tokenizer()
    bare.tokenizer.pad_token = None
    here, there = made(bare, tmp_path), made(pupil, tmp_path)
    rows = [there.train_dataset[n] for n in range(4) for _ in range(8)]
    assert torch.allclose(gradient_of(here, rows)[0], gradient_of(there, rows)[0], atol=1e-6)


def test_an_environment_needs_tools_that_trl_can_describe():
    class Untyped:
        name, tools, max_turns, max_tokens = "untyped", ("look",), 2, 8

        def look(self, place):
            return place

    with pytest.raises(ValueError, match="tool 'look' of task 'untyped' .*: types and a docstring"):
        scale.environment(Untyped())


# ---- what is not installed --------------------------------------------------------------------------------------------------


def test_what_is_missing_is_named_with_the_command_that_brings_it(pupil, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("workbench.scale")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(vars(wb), "scale", raising=False)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "trl", None)
        with pytest.raises(ImportError, match=r"workbench.scale needs TRL, .*: pip install .*\[scale\]"):
            wb.scale  # noqa: B018
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"need PEFT.*: pip install .*\[scale\]"):
        made(pupil, tmp_path, lora=4)
