"""Policies: tables against enumeration, language models against a forward pass by hand, the tokenizer against itself."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import models
from workbench.batch import Batch, Dialogue, Segment
from workbench.models import language
from workbench.models.tokenizer import CHARACTERS, TAGS

TOKENIZER = models.make_tokenizer()


def dialogues(policy, seed=0, rows=5):
    """Ragged two-turn episodes of random ids."""
    rng = np.random.default_rng(seed)

    def draw(low, high):
        return rng.integers(policy.vocab_size, size=rng.integers(low, high)).tolist()

    made = []
    for row in range(rows):
        first, second = draw(1, 6), draw(1, 9)
        made.append(
            Dialogue(
                draw(1, 7), row,
                [Segment(first, [0.0] * len(first)), Segment(draw(1, 4)), Segment(second, [0.0] * len(second))], [0.0, 0.0],
            )
        )  # fmt: skip
    return Batch.from_dialogues(made)


# ---- tabular --------------------------------------------------------------------------------------------------


def table_policy():
    policy = models.Tabular(3, 4, dtype=torch.float64)
    with torch.no_grad():
        policy.table.copy_(torch.arange(12.0).reshape(3, 4).sin())
    return policy


def test_tabular_equals_the_softmax_of_its_row():
    policy = table_policy()
    states, actions = torch.arange(3).repeat_interleave(4), torch.arange(4).repeat(3)
    batch = Batch.from_pulls(actions, torch.zeros(12), torch.zeros(12), context=states)
    for temperature in (1.0, 0.5):
        result = policy.evaluate(batch, temperature=temperature)
        expected = torch.log_softmax(policy.table / temperature, 1)
        assert torch.equal(result.logp[:, 1].reshape(3, 4), expected)
        assert torch.allclose(result.entropy[::4, 1], -(expected.exp() * expected).sum(1), rtol=0, atol=1e-15)
        assert not result.logp[:, 0].any() and not result.entropy[:, 0].any()
    assert torch.equal(result.hidden[:, 1], torch.eye(3, dtype=torch.float64)[states])


def test_tabular_gradient_is_the_score_function():
    policy = table_policy()
    batch = Batch.from_pulls(torch.tensor([2]), torch.zeros(1), torch.zeros(1), context=torch.tensor([1]))
    policy.evaluate(batch).logp.sum().backward()
    expected = torch.zeros(3, 4, dtype=torch.float64)
    expected[1] = torch.eye(4, dtype=torch.float64)[2] - torch.softmax(policy.table[1].detach(), 0)
    assert torch.allclose(policy.table.grad, expected, rtol=0, atol=1e-15)


def test_tabular_reads_trajectories():
    """In s0 a0 s1 a1 an action may be a larger number than there are states; only states index the table."""
    policy = models.Tabular(2, 5)
    states, actions = torch.tensor([[0, 1], [1, 0]]), torch.tensor([[4, 3], [2, 4]])
    batch = Batch.from_trajectories(
        states, actions, torch.zeros(2, 2), torch.zeros(2, 2), length=torch.tensor([2, 1])
    )
    result = policy.evaluate(batch)
    assert result.logp.shape == (2, 4)
    assert (
        torch.allclose(result.logp[batch.mask], torch.tensor(1 / 5).log())
        and not result.logp[~batch.mask].any()
    )
    assert result.hidden[0].tolist() == [[0, 0], [1, 0], [0, 0], [0, 1]] and result.hidden[1, 3].tolist() == [
        0,
        0,
    ]


def test_pull_draws_from_the_policy_and_from_its_seed_alone():
    policy = table_policy()
    states = torch.full((20_000,), 2)
    actions, logp = policy.pull(states, seed=5)
    again, _ = policy.pull(states, seed=5)
    assert torch.equal(actions, again) and not torch.equal(actions, policy.pull(states, seed=6)[0])
    chance = torch.softmax(policy.table.detach()[2], 0)
    assert torch.equal(logp, chance.log()[actions]) or torch.allclose(
        logp, chance.log()[actions], rtol=0, atol=1e-14
    )
    share = torch.bincount(actions, minlength=4) / len(states)
    assert ((share - chance).abs() < 4 * (chance * (1 - chance) / len(states)).sqrt()).all()
    assert not logp.requires_grad


def test_tabular_refuses_what_is_not_in_the_table():
    policy = models.Tabular(3, 4)
    pulls = {"rewards": torch.zeros(1), "logp": torch.zeros(1)}
    with pytest.raises(ValueError, match="action 4 is not in this table of 4 actions"):
        policy.evaluate(Batch.from_pulls(torch.tensor([4]), **pulls))
    with pytest.raises(ValueError, match="state 3 is not in this table of 3 states"):
        policy.evaluate(Batch.from_pulls(torch.tensor([0]), **pulls, context=torch.tensor([3])))
    with pytest.raises(ValueError, match="temperature must be positive"):
        policy.evaluate(Batch.from_pulls(torch.tensor([0]), **pulls), temperature=0.0)
    with pytest.raises(ValueError, match="at least one state"):
        models.Tabular(0, 4)


def test_value_head_is_zero_then_a_table_of_values():
    policy, head = models.Tabular(3, 4), models.ValueHead(3)
    states = torch.tensor([0, 1, 2, 1])
    batch = Batch.from_pulls(
        torch.zeros(4, dtype=torch.int64), torch.zeros(4), torch.zeros(4), context=states
    )
    hidden = policy.evaluate(batch).hidden
    assert head(hidden).shape == batch.tokens.shape and not head(hidden).any()
    with torch.no_grad():
        head.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
    assert head(hidden)[:, 1].tolist() == [1, 2, 3, 2]
    with pytest.raises(ValueError, match="size 3, this value head was made for 5"):
        models.ValueHead(5)(hidden)


# ---- tokenizer ------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*TAGS, *CHARACTERS]), max_size=60).map("".join))
def test_texts_survive_the_tokenizer(text):
    ids = models.encode(TOKENIZER, text)
    assert models.decode(TOKENIZER, ids) == text


@settings(max_examples=100, deadline=None)
@given(st.text(CHARACTERS, max_size=40), st.text(CHARACTERS, max_size=40))
def test_one_token_a_character_and_joins_do_not_merge(a, b):
    both = models.encode(TOKENIZER, a + "<E>" + b)
    assert both == [*models.encode(TOKENIZER, a), TOKENIZER.eos_token_id, *models.encode(TOKENIZER, b)]
    if "<" not in a:
        assert len(models.encode(TOKENIZER, a)) == len(a)


def test_ids_are_fixed():
    """Saved checkpoints depend on them."""
    assert models.encode(TOKENIZER, "<P><U><A><E><T></T><R></R>\n ") == list(range(10))
    assert models.encode(TOKENIZER, "!09AZaz~") == [10, 25, 34, 42, 67, 74, 99, 103]


def test_encoding_is_what_the_library_says_and_is_never_cut():
    tokenizer = models.make_tokenizer()
    for text in ("", "<T>37*45</T>", "<U>a<A>b<E>", "\n <"):
        assert models.encode(tokenizer, text) == tokenizer.encode(text, add_special_tokens=False)
    whole = models.encode(tokenizer, "12345")
    tokenizer.backend_tokenizer.enable_truncation(2)
    assert models.encode(tokenizer, "12345") == whole and len(whole) == 5
    assert len(TOKENIZER) == TOKENIZER.vocab_size == 128
    assert all(models.decode(TOKENIZER, [number]) for number in range(128))
    assert (TOKENIZER.pad_token_id, TOKENIZER.eos_token_id) == (0, 3)


@pytest.mark.parametrize(
    ("text", "message"), [("12é", r"'é' \(U\+00E9\) at position 2"), ("\t", r"U\+0009"), ("数", r"U\+6570")]
)
def test_an_unknown_character_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        models.encode(TOKENIZER, text)


CALL = {"type": "function", "function": {"name": "calculate", "arguments": {"expression": "37*45"}}}
OTHER = {"type": "function", "function": {"name": "look_up", "arguments": {"key": "a<b", "n": 2}}}
MESSAGES = [
    {"role": "user", "content": "37*45="},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "name": "calculate", "content": "665"},
    {"role": "assistant", "content": "so", "tool_calls": [OTHER, CALL]},
    {"role": "tool", "name": "look_up", "content": "x"},
    {"role": "tool", "name": "calculate", "content": "665"},
    {"role": "assistant", "content": "665"},
    {"role": "user", "content": "thanks "},
    {"role": "assistant", "content": None, "tool_calls": []},
]


def test_the_chat_template():
    text = TOKENIZER.apply_chat_template(MESSAGES[:4], tokenize=False)
    assert text == (
        "<U>37*45=<A><T>37*45</T><E><R>665</R>"
        '<A>so<T>{"name": "look_up", "arguments": {"key": "a<b", "n": 2}}</T><T>37*45</T><E>'
    ) or json.loads(text.split("<T>")[2].split("</T>")[0]) == {
        "name": "look_up",
        "arguments": {"key": "a<b", "n": 2},
    }
    with pytest.raises(Exception, match="unknown role"):
        TOKENIZER.apply_chat_template([{"role": "robot", "content": ""}], tokenize=False)


def test_the_chat_template_never_rewrites_earlier_turns():
    def render(messages, generate):
        text = TOKENIZER.apply_chat_template(messages, tokenize=False, add_generation_prompt=generate)
        ids = TOKENIZER.apply_chat_template(messages, return_dict=False, add_generation_prompt=generate)
        assert ids == models.encode(TOKENIZER, text)
        return text, ids

    whole_text, whole_ids = render(MESSAGES, False)
    for end in range(1, len(MESSAGES)):
        # where the assistant speaks next, the prompt for it is a prefix too
        for generate in {False, MESSAGES[end]["role"] == "assistant"}:
            text, ids = render(MESSAGES[:end], generate)
            assert whole_text.startswith(text) and whole_ids[: len(ids)] == ids
        assert render(MESSAGES[:end], True)[0] == render(MESSAGES[:end], False)[0] + "<A>"


def test_the_template_marks_what_the_assistant_says():
    marked = TOKENIZER.apply_chat_template(MESSAGES[:3], return_dict=True, return_assistant_tokens_mask=True)
    said = [i for i, m in zip(marked["input_ids"], marked["assistant_masks"]) if m]
    assert models.decode(TOKENIZER, said) == "<T>37*45</T><E>"


def test_prompts_and_replies_are_what_the_template_renders():
    prompt, reply = models.prompt_ids(TOKENIZER, "37*45="), models.reply_ids(TOKENIZER, "665")
    turn = models.encode(TOKENIZER, "<T>37*45</T><E>")
    assert (
        models.decode(TOKENIZER, prompt) == "<U>37*45=<A>"
        and models.decode(TOKENIZER, reply) == "<R>665</R><A>"
    )
    rendered = TOKENIZER.apply_chat_template(MESSAGES[:3], return_dict=False, add_generation_prompt=True)
    assert prompt + turn + reply == rendered


def test_a_template_that_rewrites_turns_is_refused():
    rewriting = models.make_tokenizer()
    rewriting.chat_template = (
        "{% for m in messages %}{{ m.content }}"
        "{% if m.role == 'assistant' and loop.last %}<E>{% endif %}{% endfor %}"
    )
    with pytest.raises(ValueError, match="rewrites earlier turns"):
        models.reply_ids(rewriting, "1")
    bare = models.make_tokenizer()
    bare.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        models.prompt_ids(bare, "1")


def test_a_newline_after_the_end_token_belongs_to_the_reply():
    chatml = models.make_tokenizer()
    chatml.chat_template = (
        "{% for m in messages %}<U>{{ m.role }}\n{{ m.content }}<E>\n{% endfor %}"
        "{% if add_generation_prompt %}<U>assistant\n{% endif %}"
    )
    assert models.decode(chatml, models.reply_ids(chatml, "665")) == "\n<U>tool\n665<E>\n<U>assistant\n"


# ---- language models ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "millions"), [("0.1m", 0.1), ("0.2m", 0.2), ("0.8m", 0.8), ("5m", 5.0)])
def test_sizes(size, millions):
    policy = models.tiny(size)
    count = sum(p.numel() for p in policy.parameters()) / 1e6
    assert abs(count - millions) < 0.1 * max(millions, 0.7)
    assert policy.config.head_dim == 32 and policy.config.pad_token_id is None
    assert (policy.eos, policy.vocab_size, policy.context) == (3, 128, 512)
    embedding = policy.model.get_input_embeddings().weight
    assert (embedding.norm(dim=1) > 0).all() and policy.model.lm_head.weight is embedding


def test_tiny_models_depend_on_their_seed_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    a = models.tiny("0.1m", seed=3)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    b, c = models.tiny("0.1m", seed=3), models.tiny("0.1m", seed=4)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters()))
    assert not torch.equal(a.model.lm_head.weight, c.model.lm_head.weight)
    with pytest.raises(ValueError, match="no tiny model of size '3m'; there are 0.1m"):
        models.tiny("3m")


@pytest.fixture(scope="module")
def policy():
    """A tiny model made less uniform, so that a mistake in the logits shows."""
    made = models.tiny("0.1m", seed=0)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)
    return made


def by_hand(policy, batch, temperature):
    """One unpadded forward pass for each token."""
    logp, entropy, hidden = [], [], []
    for row in range(len(batch)):
        for column in batch.mask[row].nonzero()[:, 0].tolist():
            with torch.no_grad():
                state = policy.model.base_model(input_ids=batch.tokens[row : row + 1, :column])[0][0, -1]
                logits = policy.model.lm_head(state)
            distribution = torch.log_softmax(logits / temperature, 0)
            logp.append(distribution[batch.tokens[row, column]])
            entropy.append(-(distribution.exp() * distribution).sum())
            hidden.append(state)
    return torch.stack(logp), torch.stack(entropy), torch.stack(hidden)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("way", ["policy", "transformers"])
def test_evaluate_equals_a_forward_pass_for_each_token(policy, way, temperature):
    batch = dialogues(policy)
    if way == "policy":
        result = policy.evaluate(batch, temperature=temperature)
    else:
        result = language.evaluate_with_transformers(policy.model, batch, temperature)
    logp, entropy, hidden = by_hand(policy, batch, temperature)
    assert torch.allclose(result.logp[batch.mask], logp, rtol=0, atol=1e-4)
    assert torch.allclose(result.entropy[batch.mask], entropy, rtol=0, atol=1e-4)
    assert torch.allclose(result.hidden[batch.mask], hidden, rtol=0, atol=1e-4)
    assert result.hidden.shape == (*batch.tokens.shape, policy.hidden_size)
    assert not result.logp[~batch.mask].any() and not result.entropy[~batch.mask].any()


def test_the_reference_leaves_no_trace(policy):
    """A hook left behind would shut the model out of the fast path."""
    language.evaluate_with_transformers(policy.model, dialogues(policy))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in policy.model.modules())
    assert language.fast.supports(policy.model)


def test_padding_is_known_by_length_not_by_id(policy):
    """Id 0 is padding; as a real token it must count. What stands after `length` must not."""
    batch = dialogues(policy)
    zeros = batch.replace(tokens=torch.zeros_like(batch.tokens))
    logp, _, _ = by_hand(policy, zeros, 1.0)
    assert torch.allclose(policy.evaluate(zeros).logp[zeros.mask], logp, rtol=0, atol=1e-4)
    inside = torch.arange(batch.tokens.shape[1]) < batch.length[:, None]
    rubbish = batch.replace(tokens=torch.where(inside, batch.tokens, 77))
    for way in (policy.evaluate, lambda b: language.evaluate_with_transformers(policy.model, b)):
        assert torch.allclose(way(rubbish).logp, way(batch).logp, rtol=0, atol=1e-5)


def test_gradients_flow_through_all_three(policy):
    batch = dialogues(policy)
    for name in ("logp", "entropy", "hidden"):
        policy.zero_grad()
        getattr(policy.evaluate(batch), name)[batch.mask].square().sum().backward()
        assert policy.model.model.layers[0].self_attn.q_proj.weight.grad.abs().sum() > 0, name


def test_a_prompt_without_an_answer_evaluates_to_nothing(policy):
    for prompt in ([5], [5, 6, 7]):
        result = policy.evaluate(Batch.from_dialogues([Dialogue(prompt, 0)]))
        assert result.logp.shape == (1, len(prompt)) and not result.logp.any()


def test_bad_batches_are_refused(policy):
    batch = dialogues(policy)
    tokens = batch.tokens.clone()
    tokens[2, 1] = 128
    with pytest.raises(ValueError, match="id 128 at row 2, column 1 is not in the vocabulary of 128"):
        policy.evaluate(batch.replace(tokens=tokens))
    long = Batch.from_dialogues([Dialogue([1], 0), Dialogue([1] * 513, 1)])
    with pytest.raises(ValueError, match="episode 1 has 513 tokens, the model's context is 512"):
        policy.evaluate(long)
    with pytest.raises(ValueError, match="temperature must be positive"):
        policy.evaluate(batch, temperature=0)
    with pytest.raises(ValueError, match="column 0"):
        policy.evaluate(Batch.from_dialogues([Dialogue([], 0, [Segment([1, 2], [0.0, 0.0])], [0.0])]))


def test_save_and_load(policy, tmp_path):
    policy.save(tmp_path)
    again = models.load(tmp_path)
    batch = dialogues(policy)
    assert all(torch.equal(x, y) for x, y in zip(again.parameters(), policy.parameters()))
    assert torch.allclose(again.evaluate(batch).logp, policy.evaluate(batch).logp, rtol=0, atol=1e-5)
    assert type(again.model).__name__ == "Qwen3ForCausalLM" and again.config.pad_token_id is None
    assert again.tokenizer.chat_template == TOKENIZER.chat_template
    assert again.tokenizer.get_vocab() == TOKENIZER.get_vocab()
    text = "<U>a b\n<A><T>1+2</T><E>"
    assert models.decode(again.tokenizer, models.encode(again.tokenizer, text)) == text
    assert again.model.lm_head.weight is again.model.get_input_embeddings().weight


def test_loading_what_is_not_there(tmp_path):
    with pytest.raises(OSError, match="nor in the local Hugging Face cache"):
        models.load("no-such/model")
    with pytest.raises(OSError, match="holds no complete saved model"):
        models.load(tmp_path)


def test_a_damaged_checkpoint(policy, tmp_path):
    policy.save(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(OSError, match="holds no complete saved model"):
        models.load(tmp_path)
    with pytest.raises(OSError, match="damaged or cut short"):
        models.load_weights(policy.copy(), tmp_path)


def test_load_weights(policy, tmp_path):
    policy.save(tmp_path)
    other = models.tiny("0.1m", seed=9)
    models.load_weights(other, tmp_path)
    assert all(torch.equal(x, y) for x, y in zip(policy.parameters(), other.parameters()))
    assert other.model.lm_head.weight is other.model.get_input_embeddings().weight
    for size, tensor in [("0.2m", "q_proj"), ("0.8m", "embed_tokens")]:
        target = models.tiny(size)
        before = [p.clone() for p in target.parameters()]
        with pytest.raises(
            ValueError, match=f"is of another model: .*{tensor}.* is .* there, .* in this model"
        ):
            models.load_weights(target, tmp_path)
        assert all(torch.equal(x, y) for x, y in zip(before, target.parameters()))
    with pytest.raises(FileNotFoundError, match="no weights"):
        models.load_weights(other, tmp_path / "elsewhere")


def test_a_copy_is_separate(policy):
    twin = policy.copy()
    with torch.no_grad():
        twin.model.lm_head.weight.add_(1)
    assert not torch.equal(twin.model.lm_head.weight, policy.model.lm_head.weight)


def test_any_other_causal_model_works():
    """Another architecture, untied, with learned positions, whose pad id is its eos id."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=128,
        n_positions=64,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=3,
        eos_token_id=3,
        pad_token_id=3,
    )
    policy = models.LanguageModel(GPT2LMHeadModel(config).eval(), TOKENIZER)
    assert (policy.context, policy.hidden_size, policy.vocab_size) == (64, 32, 128)
    batch = dialogues(policy)
    batch = batch.replace(tokens=torch.where(batch.tokens % 3 == 0, 3, batch.tokens))
    result = policy.evaluate(batch)
    logp, entropy, hidden = by_hand(policy, batch, 1.0)
    assert torch.allclose(result.logp[batch.mask], logp, rtol=0, atol=1e-4)
    assert torch.allclose(result.entropy[batch.mask], entropy, rtol=0, atol=1e-4)
    assert torch.allclose(result.hidden[batch.mask], hidden, rtol=0, atol=1e-4)


def test_lora_models_work(policy):
    from peft import LoraConfig, get_peft_model

    wrapped = models.LanguageModel(
        get_peft_model(policy.copy().model, LoraConfig(r=4, target_modules=["q_proj"])), TOKENIZER
    )
    batch = dialogues(policy)
    assert torch.allclose(wrapped.evaluate(batch).logp, policy.evaluate(batch).logp, rtol=0, atol=1e-4)
    wrapped.evaluate(batch).logp.sum().backward()
    trained = [name for name, p in wrapped.named_parameters() if p.grad is not None]
    assert trained and all("lora" in name for name in trained)
    assert (wrapped.hidden_size, wrapped.vocab_size, wrapped.context) == (policy.hidden_size, 128, 512)


def test_a_tokenizer_without_an_end_is_refused(policy):
    endless = models.make_tokenizer()
    endless.eos_token = None
    with pytest.raises(ValueError, match="no end-of-sequence token"):
        models.LanguageModel(policy.model, endless)


def test_trl_accepts_tokenizer_and_template():
    utilities = pytest.importorskip("trl.chat_template_utils")
    assert utilities.supports_tool_calling(TOKENIZER) and utilities.is_chat_template_prefix_preserving(
        TOKENIZER
    )
