"""SFT, DPO and reward models by TRL's trainers: the same ids, masks and losses as ours, and that they learn."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import logsigmoid

import workbench as wb
from workbench import models, sample, tasks
from workbench.batch import Batch, Dialogue, Segment, Stop
from workbench.loop import trainable
from workbench.train import demonstrations

pytest.importorskip("trl", reason="the extra `scale` is not installed", exc_type=ImportError)

from workbench import scale

pytestmark = pytest.mark.filterwarnings("ignore")
QUIET = {"save_strategy": "no", "disable_tqdm": True, "logging_steps": 1}
TASK = tasks.get("calculator")


@pytest.fixture(scope="module")
def pupil():
    return models.load("data/calculator_pupil")


@pytest.fixture(scope="module")
def played(pupil):
    """Sixteen groups of eight."""
    problems = [TASK.problem(number) for number in range(16)]
    return sample.rollout(sample.engine_of(pupil), TASK, pupil.tokenizer, problems, group_size=8, seed=0)


def logged(trainer, name):
    return [row[name] for row in trainer.state.log_history if name in row]


def flat(policy):
    return torch.cat([weight.detach().flatten() for weight in trainable(policy).values()])


# ---- demonstrations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [1, 4])
def test_sft_is_ours_step_for_step(accumulate, pupil, tmp_path):
    """Same demonstrations, same masks, same order: the losses of three steps of plain gradient descent, and the weights after."""
    there = pupil.copy()
    config = {**QUIET, "optim": "sgd"}
    made = scale.sft(there, TASK, steps=3, folder=tmp_path, batch_size=8, lr=0.1, seed=3, accumulate=accumulate, config=config)
    made.train()
    here, losses = pupil.copy(), []
    for step in range(1, 4):
        batch = demonstrations(TASK, here.tokenizer, step, 8, 0.2, 3)
        loss = -here.evaluate(batch).logp.sum() / batch.mask.sum()
        losses.append(loss.item())
        here.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(here.parameters(), 1.0)
        with torch.no_grad():
            for weight in trainable(here).values():
                weight -= 0.1 * weight.grad
    assert logged(made, "loss")[:3] == pytest.approx(losses, rel=1e-5)
    moved = (flat(here) - flat(pupil)).norm()
    assert (flat(there) - flat(here)).norm() < 1e-4 * moved, "an update is small beside the weights, which are rounded"
    first = next(wb.sft(pupil.copy(), TASK, steps=3, batch_size=8, seed=3))
    assert losses[0] == pytest.approx(first.loss, rel=1e-5)


def test_sft_learns_nothing_of_what_tools_say(pupil, tmp_path):
    made = scale.sft(pupil, TASK, steps=2, folder=tmp_path, batch_size=4, config=QUIET)
    batch = demonstrations(TASK, pupil.tokenizer, 1, 4, 0.2, 0)
    for row in range(4):
        ids, labels = made.train_dataset[row]["input_ids"], made.train_dataset[row]["labels"]
        assert ids == batch.tokens[row, : len(ids)].tolist() and len(ids) == batch.length[row]
        assert [label != -100 for label in labels] == batch.mask[row, : len(ids)].tolist()
        assert all(label in (-100, i) for label, i in zip(labels, ids))
    reply = batch.tokens[0][(batch.turn[0] >= 0) & ~batch.mask[0]]
    assert len(reply) > 2, "the demonstrations have replies in them"


def test_sft_with_adapters_lowers_the_loss(pupil, tmp_path):
    policy = pupil.copy()
    before = {name: weight.clone() for name, weight in policy.model.named_parameters()}
    made = scale.sft(
        policy, tasks.get("addition"), steps=20, folder=tmp_path, batch_size=16, lr=1e-2, lora=8, config=QUIET
    )
    made.train()
    losses = logged(made, "loss")
    assert losses[-1] < 0.7 * losses[0]
    base = made.model.get_base_model()
    same = [torch.equal(weight, before[n.replace(".base_layer", "")]) for n, weight in base.named_parameters() if "lora" not in n]
    assert same and all(same)


# ---- preferences ----------------------------------------------------------------------------------------------------------


def episode(group, outcome, ids, stop=Stop.DONE):
    return Dialogue([5, 6], group, [Segment([7], [-0.5]), Segment([8]), Segment(ids, [-0.5] * len(ids))],
                    rewards=[0.0, 0.0], outcome=outcome, stop=stop)  # fmt: skip


def test_pairs_are_of_one_prompt_a_success_above_a_failure():
    batch = Batch.from_dialogues([
        episode(0, 1.0, [10]), episode(0, 0.0, [11, 12]), episode(0, 0.0, [13]), episode(0, 1.0, [14], Stop.ERROR),
        episode(1, 1.0, [15]), episode(1, 1.0, [16]),
        episode(2, 0.2, [17]), episode(2, 0.9, [18]), episode(2, 0.5, [19]), episode(2, 0.5, [20]),
    ])  # fmt: skip
    pairs = scale.preferences(batch)
    said = [(pair["chosen_ids"], pair["rejected_ids"]) for pair in pairs]
    assert said == [([7, 8, 10], [7, 8, 13]), ([7, 8, 18], [7, 8, 17])]
    assert all(pair["prompt_ids"] == [5, 6] and pair["chosen_mask"] == [1, 0, 1] for pair in pairs)
    with pytest.raises(ValueError, match="several rows"):
        scale.preferences(Batch.from_dialogues([
            Dialogue([5], 0, [Segment([7], [0.0])], rewards=[0.0], rollout=0),
            Dialogue([5], 0, [Segment([8], [0.0])], rewards=[0.0], rollout=0, first_turn=1),
        ]))  # fmt: skip


def test_a_pair_is_what_was_sampled_id_for_id(played):
    pairs = scale.preferences(played)
    assert len(pairs) > 10
    rows = {tuple(ids[:n]): (mask[:n], o) for ids, mask, n, o in
            zip(played.tokens.tolist(), played.mask.int().tolist(), played.length.tolist(), played.outcome.tolist())}  # fmt: skip
    for pair in pairs:
        for side, outcome in (("chosen", 1.0), ("rejected", 0.0)):
            mask, found = rows[tuple(pair["prompt_ids"] + pair[f"{side}_ids"])]
            assert found == outcome and mask == [0] * len(pair["prompt_ids"]) + pair[f"{side}_mask"]


def test_dpo_starts_at_log_two_and_is_the_formula(pupil, played, tmp_path):
    """-log sigmoid(beta (log-ratio of the chosen - log-ratio of the rejected)), over sampled tokens alone."""
    pairs, policy = scale.preferences(played)[:8], pupil.copy()
    config = {**QUIET, "optim": "sgd"}
    made = scale.dpo(policy, pairs, steps=3, folder=tmp_path, batch_size=8, lr=0.02, beta=0.3, config=config)
    inputs = made.data_collator([dict(pair) for pair in pairs])
    sampled = sum(sum(pair["chosen_mask"]) + sum(pair["rejected_mask"]) for pair in pairs)
    assert inputs["completion_mask"].sum() == sampled < sum(len(p["chosen_ids"]) + len(p["rejected_ids"]) for p in pairs)
    made.train()
    losses = logged(made, "loss")
    assert losses[0] == torch.tensor(math.log(2)).item(), "the reference is the policy: every log-ratio is 0"
    assert losses[2] < losses[1] < losses[0]

    def logps(who, side):
        batch = Batch.from_dialogues([_again(pair, side) for pair in pairs])
        return who.evaluate(batch).logp.sum(1)

    with torch.no_grad():
        ratios = [logps(policy, side) - logps(pupil, side) for side in ("chosen", "rejected")]
        expected = -logsigmoid(0.3 * (ratios[0] - ratios[1])).mean()
        found = made._compute_loss(made.model, inputs, False)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def _again(pair, side):
    """The record of one side of a pair."""
    segments = []
    for i, m in zip(pair[f"{side}_ids"], pair[f"{side}_mask"]):
        if not segments or (segments[-1].logps is not None) != bool(m):
            segments.append(Segment([], [] if m else None))
        segments[-1].ids.append(i)
        if m:
            segments[-1].logps.append(0.0)
    dialogue = Dialogue(pair["prompt_ids"], 0, segments)
    dialogue.rewards = [0.0] * dialogue.turns
    return dialogue


def test_dpo_with_adapters_keeps_no_second_model(pupil, played, tmp_path):
    made = scale.dpo(pupil.copy(), scale.preferences(played), steps=2, folder=tmp_path, lr=1e-2, lora=4, config=QUIET)
    made.train()
    assert made.ref_model is None
    assert logged(made, "loss")[0] == pytest.approx(math.log(2), rel=1e-6)
    taught = models.LanguageModel(made.model, pupil.tokenizer)  # adapters that have learned something: they are in the reference
    again = scale.dpo(taught, scale.preferences(played), steps=2, folder=tmp_path, lr=1e-2, config=QUIET)
    again.train()
    assert logged(again, "loss")[0] == pytest.approx(math.log(2), rel=1e-6)
    assert made.model.active_adapters == ["default"] and "ref" in made.model.peft_config


def test_a_reward_model_learns_which_is_which(pupil, played, tmp_path):
    pairs = scale.preferences(played)
    made = scale.reward_model(pupil, pairs, steps=40, folder=tmp_path, lr=1e-3, config=QUIET)
    untouched = models.load("data/calculator_pupil")
    assert torch.equal(flat(pupil), flat(untouched)), "it starts from a copy"
    before = scale.score(made.model, played)
    made.train()
    losses = logged(made, "loss")
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    after = scale.score(made.model.eval(), played)
    right = played.outcome > 0
    assert after[right].mean() - after[~right].mean() > before[right].mean() - before[~right].mean() + 1

    sides = [Batch.from_dialogues([_again(pair, side) for pair in pairs[:4]]) for side in ("chosen", "rejected")]
    with torch.no_grad():
        gap = scale.score(made.model, sides[0]) - scale.score(made.model, sides[1])
        whole = [[*pair["prompt_ids"], *pair[f"{side}_ids"]] for side in ("chosen", "rejected") for pair in pairs[:4]]
        inputs = made.data_collator([{"chosen_ids": whole[n], "rejected_ids": whole[4 + n]} for n in range(4)])
        assert made.compute_loss(made.model, inputs).item() == pytest.approx(-logsigmoid(gap).mean().item(), rel=1e-5)


# ---- bad input ------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_is_refused(pupil, tmp_path):
    with pytest.raises(ValueError, match="all rollouts are right, or all wrong"):
        scale.dpo(pupil, [], steps=1, folder=tmp_path)
    with pytest.raises(ValueError, match="32 does not divide into 3 micro-batches"):
        scale.sft(pupil, TASK, steps=1, folder=tmp_path, accumulate=3)
    with pytest.raises(ValueError, match="2 processes were asked for and 1 run"):
        scale.sft(pupil, TASK, steps=1, folder=tmp_path, processes=2, config=QUIET)
    with pytest.raises(ValueError, match="the model's context is 512"):
        scale.sft(pupil, tasks.get("calculator", operations=(60, 60)), steps=1, folder=tmp_path, config=QUIET)
    with pytest.raises(ValueError, match="use workbench.sft"):
        scale.sft(pupil, tasks.get("stream"), steps=1, folder=tmp_path, config=QUIET)
