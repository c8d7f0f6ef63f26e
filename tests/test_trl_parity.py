"""Loss and gradients equal to TRL's GRPOTrainer, on the same batch with the same model."""

from __future__ import annotations

import pytest
import torch

from workbench import objective as o
from workbench import recipes, seeding
from workbench.batch import Batch, Dialogue, Segment, Stop

trl = pytest.importorskip("trl", reason="the extra `scale` is not installed", exc_type=ImportError)

VOCABULARY, EOS, PAD, LONGEST, SIZE = 32, 1, 0, 12, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny Qwen3 and a tokenizer of words w2 w3 ..., on disk, where TRL's reference model is loaded from."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    path = tmp_path_factory.mktemp("qwen3")
    words = {"<pad>": PAD, "<eos>": EOS} | {f"w{i}": i for i in range(2, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>").save_pretrained(path)
    config = Qwen3Config(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32, max_position_embeddings=64, initializer_range=0.2, tie_word_embeddings=True,
        pad_token_id=PAD, eos_token_id=EOS, bos_token_id=None,
    )  # fmt: skip
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    Qwen3ForCausalLM(config).save_pretrained(path)
    torch.random.set_rng_state(state)
    return str(path)


@pytest.fixture(scope="module")
def episodes():
    """Two prompts, four rollouts each, of different lengths; some with a reply of a tool in the middle; one is cut off."""
    rng = seeding.generator(0, "parity")
    made = []
    for row in range(2 * SIZE):
        prompt = [5, 6, 7, 8][: 3 + row // SIZE]
        ids = rng.integers(2, VOCABULARY, rng.integers(2, LONGEST)).tolist()
        if row != 3:
            ids[-1] = EOS
        tool = [2 < t < 5 and len(ids) > 6 for t in range(len(ids))]
        made.append((prompt, ids, [int(not t) for t in tool], float(row in (0, 2, 5)) + 0.25 * (row == 6)))
    return made


class Ours:
    """The record of the same episodes, and the log-probs of the same model, computed here."""

    def __init__(self, model, episodes):
        dialogues = []
        for row, (prompt, ids, mask, reward) in enumerate(episodes):
            segments: list[Segment] = []
            for token, sampled in zip(ids, mask):
                if not segments or (segments[-1].logps is not None) != bool(sampled):
                    segments.append(Segment([], [] if sampled else None))
                segments[-1].ids.append(token)
                if sampled:
                    segments[-1].logps.append(0.0)
            dialogue = Dialogue(prompt, row // SIZE, segments, outcome=reward)
            dialogue.rewards = [0.0] * dialogue.turns
            dialogue.stop = Stop.DONE if ids[-1] == EOS else Stop.LENGTH
            dialogues.append(dialogue)
        self.model, batch = model, Batch.from_dialogues(dialogues)
        self.batch = batch.replace(logp_old=self.logp(batch).detach())

    def logp(self, batch, model=None):
        attention = (torch.arange(batch.tokens.shape[1]) < batch.length[:, None]).long()
        logits = (model or self.model)(input_ids=batch.tokens, attention_mask=attention).logits[:, :-1]
        chosen = logits.float().log_softmax(-1).gather(2, batch.tokens[:, 1:, None])[..., 0]
        return torch.where(batch.mask, torch.nn.functional.pad(chosen, (1, 0)), 0)


def theirs(model_path, episodes, tmp_path, **arguments):
    """A trainer, and what it makes of the episodes up to its loss: its own masks, advantages and reference log-probs."""
    from datasets import Dataset
    from transformers import AutoTokenizer

    rewards = [reward for *_, reward in episodes]
    config = trl.GRPOConfig(
        output_dir=str(tmp_path), per_device_train_batch_size=2 * SIZE, num_generations=SIZE, report_to=[], use_cpu=True,
        max_completion_length=LONGEST, temperature=1.0, bf16=False, gradient_checkpointing=False, disable_dropout=True,
        model_init_kwargs={"dtype": "float32"}, save_strategy="no", logging_strategy="no", **arguments,
    )  # fmt: skip
    trainer = trl.GRPOTrainer(
        model=model_path, args=config, train_dataset=Dataset.from_dict({"prompt": ["w5 w6 w7"]}),
        processing_class=AutoTokenizer.from_pretrained(model_path), reward_funcs=lambda completions, **_: rewards,
    )  # fmt: skip
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    prompts, ids, masks = ([episode[i] for episode in episodes] for i in range(3))
    trainer._generate = lambda _: (prompts, ids, masks, ["text"] * len(ids), None, {}, None, [[] for _ in ids])
    inputs = trainer._generate_and_score_completions([{"prompt": "w5 w6 w7"}] * len(ids))
    return trainer, inputs


def spread(batch, inputs, value):
    """Our [B,T] tensor on TRL's completion columns."""
    moved = torch.zeros(inputs["completion_ids"].shape)
    for row in range(len(batch)):
        start, end = int(batch.prompt_length[row]), int(batch.length[row])
        moved[row, : end - start] = value[row, start:end]
    return moved


def disagreement(a, b):
    return ((a - b).norm() / b.norm()).item()


CASES = {
    "grpo": (recipes.grpo, {"loss_type": "grpo"}),
    "grpo-wide": (recipes.grpo.but("x", surrogate=o.clip(0.2, 0.28)), {"loss_type": "grpo", "epsilon_high": 0.28}),
    "dr_grpo": (
        recipes.dr_grpo.but("x", aggregate=o.token_sum(norm=float(LONGEST))),
        {"loss_type": "dr_grpo", "scale_rewards": "none"},
    ),
    "dapo": (recipes.dapo.but("x", reward=o.outcome()), {"loss_type": "dapo", "epsilon_high": 0.28}),
    "dapo-truncated": (
        recipes.dapo.but("x", reward=o.outcome(), select=o.drop_truncated()),
        {"loss_type": "dapo", "epsilon_high": 0.28, "mask_truncated_completions": True},
    ),
    "cispo": (recipes.cispo.but("x", surrogate=o.cispo(1.5)), {"loss_type": "cispo", "epsilon_high": 1.5}),
    "sapo": (recipes.sapo, {"loss_type": "sapo"}),
    "lite_ppo": (recipes.lite_ppo, {"loss_type": "dapo", "scale_rewards": "batch"}),
    "gspo": (
        recipes.gspo.but("x", surrogate=o.clip(0.03, 0.04)),
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.03, "epsilon_high": 0.04},
    ),
    "gspo-paper": (
        recipes.gspo,
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4},
    ),
    "sequence-dapo": (
        recipes.dapo.but("x", reward=o.outcome(), unit=o.sequence(), surrogate=o.clip(0.05, 0.08)),
        {"loss_type": "dapo", "importance_sampling_level": "sequence", "epsilon": 0.05, "epsilon_high": 0.08},
    ),
    "dual": (recipes.grpo.but("x", surrogate=o.clip(dual=1.6)), {"loss_type": "grpo", "delta": 1.6}),
    "kl": (
        recipes.grpo.but("x", regulariser=o.kl(0.1)),
        {"loss_type": "grpo", "beta": 0.1, "use_bias_correction_kl": False},
    ),
    "kl-corrected": (
        recipes.dapo.but("x", reward=o.outcome(), regulariser=o.kl(0.1, corrected=True)),
        {"loss_type": "dapo", "beta": 0.1, "use_bias_correction_kl": True, "epsilon_high": 0.28},
    ),
    "kl-corrected-sequence": (
        recipes.gspo.but("x", surrogate=o.clip(0.1, 0.1), regulariser=o.kl(0.1, corrected=True)),
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "beta": 0.1, "epsilon": 0.1},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_settings_are_those_that_scale_finds_for_the_recipe(case):
    from workbench import scale

    recipe, arguments = CASES[case]
    found = scale.native(recipe.but("x", rollout=o.fixed()))
    assert {name: found[name] for name in arguments} == arguments
    usual = vars(trl.GRPOConfig(output_dir="x", use_cpu=True, bf16=False))
    told = {"loss_type", "scale_rewards", "beta", "importance_sampling_level", "delta"}
    assert {name: found.get(name, usual[name]) for name in told - set(arguments)}.items() >= {
        (name, usual[name]) for name in {"beta", "delta"} - set(arguments)
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradients_equal_trls(case, folder, episodes, tmp_path):
    recipe, arguments = CASES[case]
    trainer, inputs = theirs(folder, episodes, tmp_path, **arguments)
    model = trainer.accelerator.unwrap_model(trainer.model)
    ours = Ours(model, episodes)
    old = ours.batch.logp_old
    noise = torch.from_numpy(seeding.generator(1, "noise").normal(size=tuple(old.shape)) * 0.3).float()
    off_policy = ours.batch.replace(logp_old=torch.where(ours.batch.mask, (old + noise).clamp(max=0), 0))
    reference = None
    if trainer.beta:
        with torch.no_grad():  # a reference that is not the policy, or the penalty would be 0
            for weight in trainer.ref_model.parameters():
                weight.mul_(1.1)
            inputs = trainer._generate_and_score_completions([{"prompt": "w5 w6 w7"}] * len(ours.batch))
            reference = ours.logp(ours.batch, trainer.ref_model)
            difference = (spread(ours.batch, inputs, reference) - inputs["ref_per_token_logps"]) * inputs["tool_mask"]
            assert (difference * inputs["completion_mask"]).abs().max() < 1e-5
    assert (inputs["tool_mask"] * inputs["completion_mask"]).sum() < inputs["completion_mask"].sum()

    for batch, sampled in ((ours.batch, None), (off_policy, spread(off_policy, inputs, off_policy.logp_old))):
        model.zero_grad()
        given = inputs if sampled is None else {**inputs, "old_per_token_logps": sampled}
        expected = trainer._compute_loss(trainer.model, given)
        expected.backward()
        wanted = torch.cat([weight.grad.flatten() for weight in model.parameters()])

        model.zero_grad()
        prepared = o.prepare(recipe, batch, logp_ref=reference)
        logp = ours.logp(batch)
        value, numbers = o.loss(recipe, prepared, logp)
        value.backward()
        found = torch.cat([weight.grad.flatten() for weight in model.parameters()])

        credited = [prepared.advantage[row, batch.mask[row]][0].item() for row in range(len(batch))]
        assert credited == pytest.approx(inputs["advantages"].tolist(), rel=1e-5, abs=1e-6)
        assert wanted.norm() > 1e-3
        # Advantages sum to about 0, so on-policy the loss is what rounding leaves: it is compared with its terms instead.
        terms = (prepared.coefficient * prepared.advantage * (logp if recipe.surrogate.name == "cispo" else 1)).abs().sum()
        assert abs(value.item() - expected.item()) <= 1e-6 * terms.item()
        if sampled is not None:
            assert value.item() == pytest.approx(expected.item(), rel=1e-5)
        assert disagreement(found, wanted) < 1e-5
        print(f"{case}: loss {abs(value.item() - expected.item()):.1e}, gradient {disagreement(found, wanted):.1e} relative")
        if sampled is None:
            assert numbers["ratio_min"] == pytest.approx(1, abs=1e-5)
        elif recipe.surrogate.name == "clip":
            assert numbers["clip_share"] > 0  # the case says something about clipping


@pytest.mark.filterwarnings("ignore")
def test_the_comparison_can_fail(folder, episodes, tmp_path):
    """The nearest wrong recipe is told apart by orders of magnitude more than the tolerance."""
    trainer, inputs = theirs(folder, episodes, tmp_path, loss_type="grpo")
    model = trainer.accelerator.unwrap_model(trainer.model)
    ours = Ours(model, episodes)
    trainer._compute_loss(trainer.model, inputs).backward()
    wanted = torch.cat([weight.grad.flatten() for weight in model.parameters()])
    for wrong in (
        recipes.grpo.but("population", advantage=o.episode_advantage(ddof=0)),
        recipes.grpo.but("eps", advantage=o.episode_advantage(eps=1e-3)),
        recipes.grpo.but("tokens", aggregate=o.token_mean()),
    ):
        model.zero_grad()
        o.loss(wrong, o.prepare(wrong, ours.batch), ours.logp(ours.batch))[0].backward()
        found = torch.cat([weight.grad.flatten() for weight in model.parameters()])
        assert disagreement(found, wanted) > 1e-4
