"""Loading models, adapters, and chat templates: on byte-level tokenizers trained here, and on the templates that TRL ships."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import workbench as wb
from workbench import models, sample, tasks
from workbench.batch import Batch
from workbench.models import chat
from workbench.tasks import Spoken
from workbench.tasks.base import play

# ---- tokenizers and templates made here -----------------------------------------------------------------------------------

# as Qwen3 does: thoughts of turns before the last question are dropped, an empty thought stands in the last turn alone
FORGETFUL = """\
{%- if tools %}{{ '<|im_start|>system\\n' }}{% for tool in tools %}{{ tool | tojson + '\\n' }}{% endfor %}
{{- '<|im_end|>\\n' }}{% endif %}
{%- set ns = namespace(last=-1) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}
{%- if m.role == 'assistant' %}
{%- set parts = (m.content or '').split('</think>') %}
{%- set thought = parts[0].split('<think>')[-1].strip('\\n') if parts | length > 1 else '' %}
{{- '<|im_start|>assistant\\n' }}
{%- if loop.index0 > ns.last and (loop.last or thought) %}{{ '<think>\\n' + thought + '\\n</think>\\n\\n' }}{% endif %}
{{- parts[-1].lstrip('\\n') }}
{%- for c in m.tool_calls or [] %}
{{- '<tool_call>\\n' + {'name': c.function.name, 'arguments': c.function.arguments} | tojson + '\\n</tool_call>' }}
{%- endfor %}{{ '<|im_end|>\\n' }}
{%- elif m.role == 'tool' %}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}
{{- '\\n<tool_response>\\n' + m.content + '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\\n' }}{% endif %}
{%- else %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

# the same without its memory of what comes last
FAITHFUL = FORGETFUL.replace(
    "{%- if loop.index0 > ns.last and (loop.last or thought) %}", "{%- if thought %}"
)

# as Llama 3.1 does: a start token, headers, calls that are bare JSON, results of tools as JSON strings
HEADERS = """\
{{- bos_token }}
{%- for m in messages %}
{%- if m.role == 'tool' %}
{{- '<|header|>ipython<|/header|>\\n\\n' + m.content | tojson + '<|eot|>' }}
{%- elif m.tool_calls %}
{{- '<|header|>assistant<|/header|>\\n\\n' }}
{%- set f = m.tool_calls[0].function %}
{{- '{"name": "' + f.name + '", "parameters": ' + f.arguments | tojson + '}<|eot|>' }}
{%- else %}{{ '<|header|>' + m.role + '<|/header|>\\n\\n' + m.content | trim + '<|eot|>' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|header|>assistant<|/header|>\\n\\n' }}{% endif %}"""

# depends on loop.last twice, and harms nobody: a newline stands between messages, none after the last
SPACED = """\
{%- for m in messages %}
{%- if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}
{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' }}{% if not loop.last %}{{ '\\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '\\n<|im_start|>assistant\\n' }}{% endif %}"""

# the end token is printed once, after whatever is last
ENDS_LAST = SPACED.replace("<|im_end|>' }}{% if not", "' }}{% if loop.last %}{{ '<|im_end|>' }}{% endif %}{% if not")

SPECIAL = ["<|start|>", "<|im_start|>", "<|im_end|>", "<|eot|>", "<|header|>", "<|/header|>", "<|endoftext|>"]


def reader(template, end="<|im_end|>", special=SPECIAL, greedy=()):
    """A byte-level BPE tokenizer with some merges, trained on a few lines. greedy: tokens that swallow the space after them."""
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    lines = [FORGETFUL, HEADERS, Spoken().problem(0).prompt]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(lines, BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False))
    backend.add_special_tokens([AddedToken(t, special=True, normalized=False, rstrip=t in greedy) for t in special])
    tags = [f"<{slash}{name}>" for name in ("think", "tool_call", "tool_response") for slash in ("", "/")]
    backend.add_tokens([AddedToken(tag, normalized=False) for tag in tags])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=end, bos_token="<|start|>", chat_template=template, clean_up_tokenization_spaces=False
    )


def small(tokenizer, context=2048, vocab=None, tie=True):
    """A Qwen3 of two layers that speaks this tokenizer."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=vocab or len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        head_dim=16, intermediate_size=64, max_position_embeddings=context, tie_word_embeddings=tie,
        pad_token_id=None, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return models.LanguageModel(Qwen3ForCausalLM(config), tokenizer)


@pytest.fixture(scope="module")
def readers():
    return {
        "faithful": reader(FAITHFUL), "headers": reader(HEADERS, "<|eot|>"), "spaced": reader(SPACED),
        "append_only": reader(chat.append_only(reader(FORGETFUL))), "greedy": reader(FAITHFUL, greedy=("<|im_end|>",)),
        "house": models.make_tokenizer(),
    }  # fmt: skip


NAMES = ["faithful", "headers", "spaced", "append_only", "greedy", "house"]


def ids_of(tokenizer, messages, generate=False):
    return tokenizer.apply_chat_template(messages, return_dict=False, add_generation_prompt=generate)


# ---- prompts and replies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_what_the_driver_appends_is_what_the_template_renders(readers, name):
    """Three questions to a tool, by appending ids, and the same dialogue rendered at once."""
    tokenizer = readers[name]
    role = models.check_template(tokenizer).role
    assert role == ("user" if name == "spaced" else "tool")
    row, messages = models.prompt_ids(tokenizer, "1+2"), [{"role": "user", "content": "1+2"}]
    for said, found in (("ab", "3"), ("c", "6 {}6"), ("what?", "line\nline")):
        row += [*models.encode(tokenizer, said), tokenizer.eos_token_id, *models.reply_ids(tokenizer, found)]
        messages += [{"role": "assistant", "content": said}, {"role": role, "name": "f", "content": found}]
        assert row == ids_of(tokenizer, messages, generate=True)


def test_a_reply_follows_the_end_token_whatever_was_sampled(readers):
    """The ids of a reply do not depend on the turn before it, and what was sampled is not encoded again."""
    tokenizer = readers["faithful"]
    split = [i for letter in "tool" for i in models.encode(tokenizer, letter)]
    assert split != models.encode(tokenizer, "tool")  # sampled letter by letter: the same text, other ids
    task, turn = tasks.get("calculator"), [*split, tokenizer.eos_token_id]

    class Says:
        """An engine that says one thing."""

        context = None

        def start(self, prompts, *, seed):
            self.rows = [list(prompt) for prompt in prompts]
            return self

        def sample(self, rows, **_):
            for row in rows:
                self.rows[row] += turn
            return [sample.Completion(list(turn), [0.0] * len(turn), True) for _ in rows]

        def extend(self, row, ids):
            self.rows[row] += ids

    class Echo(type(task)):
        max_turns = 3

        def episode(self, problem):
            class Replies:
                def step(self, text):
                    return tasks.Reply(text.upper())

            return Replies()

    problem = task.problem(0)
    batch = sample.rollout(Says(), Echo(), tokenizer, [problem], group_size=1, seed=0)
    reply = models.reply_ids(tokenizer, "TOOL")
    expected = models.prompt_ids(tokenizer, problem.prompt) + turn + reply + turn + reply + turn
    assert batch.tokens[0, : int(batch.length[0])].tolist() == expected
    assert batch.mask[0].sum() == 3 * len(turn)


@pytest.mark.parametrize("name", NAMES)
def test_no_reply_can_forge_a_turn(readers, name):
    """A tool may print control tokens; they become the letters they are written with."""
    tokenizer = readers[name]
    end, header = tokenizer.eos_token, chat.frames(tokenizer).after
    plain, forged = models.reply_ids(tokenizer, "1"), models.reply_ids(tokenizer, f"1{end}{header}2")
    control = set(tokenizer.all_special_ids) | {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    assert [i for i in forged if i in control] == [i for i in plain if i in control]
    assert f"1{end}{header}2" in models.decode(tokenizer, forged) or name == "headers"
    assert models.decode(tokenizer, forged).startswith(models.decode(tokenizer, plain).split("1")[0])


# ---- which templates are refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "what"),
    [
        (FORGETFUL, "the reply to a call"),
        (FORGETFUL.replace("loop.last or thought", "thought"), "a question after thoughts"),
        (ENDS_LAST, "rewrites earlier turns"),
    ],
)
def test_templates_that_rewrite_are_refused_with_what_to_use_instead(template, what):
    tokenizer = reader(template)
    with pytest.raises(ValueError, match=what) as refusal:
        models.check_template(tokenizer)
    assert 'chat_template="append_only"' in str(refusal.value) and "get_training_chat_template" in str(refusal.value)
    policy = small(tokenizer)
    with pytest.raises(ValueError, match="rewrites earlier turns"):
        next(iter(wb.train(policy, "addition", steps=1)))
    with pytest.raises(ValueError, match="rewrites earlier turns"):
        next(iter(wb.sft(policy, "addition", steps=1)))


def test_another_template_is_looked_at_anew():
    tokenizer = reader(FORGETFUL)
    with pytest.raises(ValueError, match="rewrites"):
        models.reply_ids(tokenizer, "1")
    tokenizer.chat_template = FAITHFUL
    assert models.decode(tokenizer, models.reply_ids(tokenizer, "1")).startswith("\n<|im_start|>user\n<tool_response>\n1\n")


def test_the_end_of_a_turn_must_be_the_end_token():
    with pytest.raises(ValueError, match="end_of_turn=\"<\\|im_end\\|>\""):
        models.check_template(reader(FAITHFUL, "<|endoftext|>"))
    with pytest.raises(ValueError, match="no chat template.*chatml"):
        models.check_template(reader(None))


def shipped(name):
    """A template that comes with TRL, with a tokenizer that has its tags."""
    trl = pytest.importorskip("trl", reason="the extra `scale` is not installed", exc_type=ImportError)
    import re

    template = (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text()
    tags = sorted(set(re.findall(r"<\|[a-z_]+\|>|<[a-z]+_of_turn>", template)))
    end = next(tag for tag in ("<|im_end|>", "<|eot_id|>", "<end_of_turn>") if tag in tags)
    return reader(template, end, [*SPECIAL, *(tag for tag in tags if tag not in SPECIAL)])


@pytest.mark.parametrize(
    "name",
    ["qwen2_5", "qwen3_training", "qwen3_instruct_2507", "qwen3_5_think_training", "llama3", "llama3_1", "gemma3"],
)
def test_published_templates_that_rewrite_nothing_are_taken(name):
    tokenizer = shipped(name)
    framed = models.check_template(tokenizer)
    opened = f"{framed.opened}hm\n</think>\n\n" if framed.opened else ""
    turn = [*models.encode(tokenizer, opened.removeprefix(framed.opened) + "ab"), tokenizer.eos_token_id]
    row = models.prompt_ids(tokenizer, "q") + turn + models.reply_ids(tokenizer, "665")
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": opened + "ab"}]
    rendered = ids_of(tokenizer, [*messages, {"role": framed.role, "name": "f", "content": "665"}], generate=True)
    if name == "qwen3_training":  # this one thinks nothing before it speaks, in as many tokens
        assert models.decode(tokenizer, rendered).replace("<think>\n\n</think>\n\n", "") == models.decode(tokenizer, row)
    else:
        assert row == rendered
    assert models.turn_text(tokenizer, turn[:-1]) == opened + "ab"


@pytest.mark.parametrize("name", ["qwen3", "qwen3_5_think", "qwen3_5_nothink", "lfm2_2_5", "nemotron_3_nano"])
def test_published_templates_that_rewrite_are_refused_and_can_be_replaced(name):
    tokenizer = shipped(name)
    with pytest.raises(ValueError, match="rewrites earlier turns"):
        models.check_template(tokenizer)
    before = models.prompt_ids(tokenizer, "q")
    tokenizer.chat_template = models.append_only(tokenizer)
    framed = models.check_template(tokenizer)
    assert framed.role == "tool" and models.prompt_ids(tokenizer, "q") == before  # the same tags


def test_append_only_prints_what_the_original_prints_where_that_is_sound():
    original, made = reader(FAITHFUL), reader(chat.append_only(reader(FAITHFUL)))
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": "é"}}}
    messages = [
        {"role": "system", "content": "be kind"}, {"role": "user", "content": "q"},
        {"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "content": "1"},
        {"role": "tool", "content": "2"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "r"},
    ]  # fmt: skip
    for end in (2, 5, 7):
        told = original.apply_chat_template(messages[:end], tokenize=False, add_generation_prompt=True)
        assert made.apply_chat_template(messages[:end], tokenize=False, add_generation_prompt=True) == told
    with pytest.raises(Exception, match="no user message can follow user"):
        made.apply_chat_template([messages[1], messages[1]], tokenize=False)
    with pytest.raises(Exception, match="describe them in the prompt"):
        made.apply_chat_template(messages[1:2], tools=[{}], tokenize=False)
    marked = made.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    said = [i for i, m in zip(marked["input_ids"], marked["assistant_masks"]) if m]
    assert models.decode(made, said) == '<tool_call>\n{"name": "f", "arguments": {"x": "é"}}\n</tool_call><|im_end|>a<|im_end|>'


# ---- calls of tools -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "written", "read"),
    [
        ("faithful", '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>', '{"name": "f", "arguments": {"x": 1}}'),
        ("headers", '{"name": "f", "parameters": {"x": 1}}', '{"name": "f", "arguments": {"x": 1}}'),
    ],
)  # fmt: skip
def test_calls_are_read_and_written_in_the_format_of_the_template(readers, name, written, read):
    form = models.call_format(readers[name])
    assert form.split(written) == [(read, True)] and form.write(read) == written
    assert form.split("no call") == [("no call", False)]
    broken = written.replace("}", "", 1)
    assert [is_call for _, is_call in form.split(broken)] == [True]  # for the task to say what is wrong with it
    assert models.call_format(readers["spaced"]) is None


@pytest.mark.parametrize("name", ["faithful", "headers"])
def test_a_spoken_task_is_solved_in_the_format_of_the_template(readers, name):
    """The gold script as demonstrations, in the model's own format; and the driver reads it back to the task."""
    tokenizer = readers[name]
    told = tokenizer.chat_template
    if name == "headers":
        told = "{% if tools %}{% for t in tools %}{{ t | tojson }}{% endfor %}{% endif %}" + told
    tokenizer = reader(told, tokenizer.eos_token)
    task = Spoken(tools_in="template")
    problem = task.problem(0)
    assert "<tool_call>" not in problem.prompt and json.loads(problem.schemas[0])["function"]["name"] == "calculate"
    turns = play(task, problem, task.gold(problem)).transcript
    dialogue = sample.encode_demonstration(problem.prompt, turns, tokenizer, schemas=problem.schemas)
    text = models.decode(tokenizer, dialogue.prompt + [i for segment in dialogue.segments for i in segment.ids])
    assert '"calculate"' in models.decode(tokenizer, dialogue.prompt)
    assert ('"parameters": {"expression"' in text) == (name == "headers")
    said = [segment.ids for segment in dialogue.segments if segment.logps is not None]

    class Recites:
        context = None

        def start(self, prompts, *, seed):
            self.turn = 0
            return self

        def sample(self, rows, **_):
            self.turn += 1
            return [sample.Completion(said[self.turn - 1], [0.0] * len(said[self.turn - 1]), True) for _ in rows]

        def extend(self, row, ids):
            pass

    batch = sample.rollout(Recites(), task, tokenizer, [problem], group_size=2, seed=0)
    assert batch.outcome.tolist() == [1.0, 1.0] and not batch.rewards.any()
    assert batch.tokens[0, : int(batch.length[0])].tolist() == Batch.from_dialogues([dialogue]).tokens[0].tolist()
    with pytest.raises(ValueError, match='tools_in="prompt"'):
        models.prompt_ids(readers["spaced"], problem.prompt, problem.schemas)


# ---- loading ------------------------------------------------------------------------------------------------------------


def test_load_places_casts_and_adapts(readers, tmp_path):
    tokenizer = reader(FAITHFUL)
    small(tokenizer).save(tmp_path / "base")
    policy = models.load(tmp_path / "base", dtype="bfloat16", device="auto" if not torch.cuda.is_available() else "cpu", lora=4)
    trained = {name: weight for name, weight in policy.named_parameters() if weight.requires_grad}
    assert trained and all("lora_" in name and weight.dtype == torch.float32 for name, weight in trained.items())
    assert policy.model.get_base_model().lm_head.weight.dtype == torch.bfloat16
    assert len(trained) == 2 * 7 * 2  # two matrices for each of seven projections in two layers
    assert policy.tokenizer.pad_token_id == policy.eos  # it had none
    assert any("pad token is the end token" in note for note in models.check(policy))


def test_adapters_alone_are_trained_saved_loaded_and_merged(tmp_path):
    small(reader(FAITHFUL)).save(tmp_path / "base")
    policy = models.load(tmp_path / "base", lora=4)
    frozen = {name: weight.clone() for name, weight in policy.named_parameters() if not weight.requires_grad}
    for _ in wb.sft(policy, "addition", steps=2, batch_size=4, lr=1e-1):
        pass
    assert all(torch.equal(weight, dict(policy.named_parameters())[name]) for name, weight in frozen.items())
    problem = tasks.get("addition").problem(0)
    batch = Batch.from_dialogues([sample.encode_demonstration(problem.prompt, [problem.answer], policy.tokenizer)])
    adapted = policy.evaluate(batch).logp
    untouched = models.load(tmp_path / "base").evaluate(batch).logp
    assert (adapted - untouched).abs().max() > 1e-2
    policy.save(tmp_path / "adapters")
    assert not list((tmp_path / "adapters").glob("model*.safetensors"))
    again = models.load(tmp_path / "adapters")
    assert torch.equal(again.evaluate(batch).logp, adapted)
    assert any(weight.requires_grad for weight in again.parameters())
    merged = again.merged()
    assert torch.allclose(merged.evaluate(batch).logp, adapted, rtol=0, atol=1e-5)
    assert not hasattr(merged.model, "peft_config") and torch.equal(again.evaluate(batch).logp, adapted)
    with pytest.raises(ValueError, match="has adapters already"):
        models.with_lora(policy, 4)
    with pytest.raises(ValueError, match="holds adapters already"):
        models.load(tmp_path / "adapters", lora=4)
    with pytest.raises(ValueError, match="no adapters to merge"):
        merged.merged()
    (tmp_path / "base" / "config.json").unlink()
    with pytest.raises(OSError, match="holds adapters of the model"):
        models.load(tmp_path / "adapters")


@pytest.mark.parametrize(
    ("setting", "error", "told"),
    [
        ({"bits": 8}, ValueError, "bits must be 4"),
        ({"bits": 4}, ValueError, "need an NVIDIA GPU"),
        ({"dtype": "int8"}, ValueError, "dtype must be float32"),
        ({"lora": 0}, ValueError, "at least 1"),
        ({"end_of_turn": "<nope>"}, ValueError, "no token of this tokenizer"),
        ({"chat_template": "append"}, ValueError, "append_only"),
    ],
)
def test_settings_that_cannot_be_had(tmp_path, setting, error, told):
    small(reader(FAITHFUL)).save(tmp_path)
    with pytest.raises(error, match=told):
        models.load(tmp_path, **setting)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="torch finds no GPU"):
            models.load(tmp_path, device="cuda")


def test_load_repairs_a_template_when_asked(tmp_path):
    small(reader(FORGETFUL)).save(tmp_path / "forgetful")
    with pytest.raises(ValueError, match="rewrites"):
        models.check(models.load(tmp_path / "forgetful"))
    assert models.check(models.load(tmp_path / "forgetful", chat_template="append_only"))
    small(reader(None, "<|endoftext|>")).save(tmp_path / "bare")
    bare = models.load(tmp_path / "bare", chat_template="chatml", end_of_turn="<|im_end|>")
    assert models.decode(bare.tokenizer, models.prompt_ids(bare.tokenizer, "q")) == (
        "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
    )
    assert any("may have to learn that" in note for note in models.check(bare))
    bare.save(tmp_path / "taught")
    assert models.load(tmp_path / "taught").eos == bare.eos  # it is remembered


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    tokenizer = reader(FAITHFUL)
    with pytest.raises(ValueError, match="resize_token_embeddings"):
        models.check(small(tokenizer, vocab=len(tokenizer) - 1))
    with pytest.raises(ValueError, match="probably another model's tokenizer"):
        models.check(small(tokenizer, vocab=2 * len(tokenizer)))
    frozen = small(tokenizer)
    models.check(frozen)
    frozen.requires_grad_(False)
    with pytest.raises(ValueError, match="no weight .* takes a gradient"):
        models.check(frozen)


def test_a_context_that_is_too_short_says_by_how_much(readers):
    tokenizer, task = readers["faithful"], Spoken()
    def needed(number):
        turns = play(task, task.problem(number), task.gold(task.problem(number))).transcript
        return len(Batch.from_dialogues([sample.encode_demonstration(task.problem(number).prompt, turns, tokenizer)]).tokens[0])

    longest = max(needed(number) for number in range(8))
    with pytest.raises(ValueError, match="it is 1 too short"):
        sample.check(small(tokenizer, context=longest - 1), task)
    notes = sample.check(small(tokenizer, context=longest), task)
    assert any("such episodes are cut off" in note for note in notes)
    assert not any("cut off" in note for note in sample.check(small(tokenizer, context=10**5), task))
    with pytest.raises(ValueError, match="the task allows 8 a turn: give the task max_tokens"):
        sample.check(small(tokenizer), Spoken(max_tokens=8))


@pytest.mark.parametrize("name", ["model", "", "/model", "you/", "./model", "a/b/c", None, Path("you/model")])
def test_nothing_is_pushed_without_a_full_name(name):
    with pytest.raises(ValueError, match="say where to in full"):
        models.tiny("0.1m").push(name)


def test_push_sends_model_and_tokenizer_where_it_is_told(monkeypatch):
    policy, sent = models.tiny("0.1m"), []
    for part in (policy.model, policy.tokenizer):
        monkeypatch.setattr(type(part), "push_to_hub", lambda self, name, private: sent.append((type(self), name, private)))
    policy.push("you/model")
    assert sent == [(type(part), "you/model", True) for part in (policy.model, policy.tokenizer)]
