# %% [markdown]
# # 19 · Real models: LoRA, TRL, vLLM
#
# **The question.** What changes when the model is a thousand times larger?
#
# **You will be able to**
# - train a large model through a few small matrices (LoRA): write it in twenty lines, and prove it equal to the library's;
# - recognise two ways in which a real tokenizer spoils a training run without a word: its padding, and its chat template;
# - run the same recipe on the same task in another trainer, TRL's, and show that it does the same;
# - measure how far the engine that samples and the trainer that learns disagree, know when it matters, and correct it;
# - explain why a serving engine such as vLLM keeps its slots full, and predict what fits into a memory.
#
# **Time.** 75 minutes of yours, about half a minute of the computer's.
#
# **You need.** GRPO from chapter 11 and credit by turns from chapter 16; what a language model is, from chapter 10.
#
# Nothing is downloaded, and no GPU is used. TRL and PEFT come with the extra `scale`; without it the cells that need them say so,
# and all the others run.

# %%
import importlib.util
import json
import os
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # vLLM, where it is installed, warns of what does not matter here
import matplotlib.pyplot as plt
import numpy as np
import torch
from ipywidgets import FloatSlider, IntSlider
from torch import nn

import workbench as wb
from workbench import models, objective, plots, recipes, sample, tasks
from workbench.batch import Batch
from workbench.course import check

plots.style()
data = Path(wb.__file__).parents[1] / "data"
SCALE = all(importlib.util.find_spec(name) for name in ("trl", "peft"))
ASK = "left out: it needs TRL and PEFT. Install them with  pip install -c requirements.lock -e '.[scale]'"

# %% [markdown]
# ## What grows
#
# Training keeps four numbers for each weight: the weight itself, its gradient, and two running averages of Adam's. In float32
# that is $4 \times 4 = 16$ bytes a weight. How much is that for our pupil, and for models that you may have heard of? We can
# build those models without downloading or even storing them: on torch's `meta` device a tensor has a shape and no content, and
# shapes are all we need to count. (The shapes are the published ones of Qwen3.)

# %%
from transformers import Qwen3Config, Qwen3ForCausalLM

SHAPES = {  # width, layers, heads, key-value heads, inner width, and whether input and output share their table
    "0.6B": (1024, 28, 16, 8, 3072, True),
    "4B": (2560, 36, 32, 8, 9728, True),
    "8B": (4096, 36, 32, 8, 12288, False),
}


def on_paper(width, layers, heads, kv_heads, inner, tied):
    """A Qwen3 of that shape without any memory behind its weights."""
    shape = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": inner}
    more = {"num_key_value_heads": kv_heads, "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": tied}
    with torch.device("meta"):
        return Qwen3ForCausalLM(Qwen3Config(**shape, **more))


pupil = models.load(data / "calculator_pupil")
zoo = {"our pupil": pupil.model} | {f"Qwen3 {name}": on_paper(*shape) for name, shape in SHAPES.items()}

# %%
def inner_layers(model):
    """The linear layers of a transformer, without the one that makes the output."""
    return [layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and "lm_head" not in name]


def gibibytes(model, rank=None):
    """Weights, gradients and Adam's averages: all in float32, or frozen in bfloat16 with adapters of that rank beside them."""
    weights = sum(p.numel() for p in model.parameters())
    if rank is None:
        return 16 * weights / 2**30
    beside = sum(rank * (layer.in_features + layer.out_features) for layer in inner_layers(model))
    return (2 * weights + 16 * beside) / 2**30


# %%
fig, ax = plt.subplots(figsize=(7.5, 3.4))
told = []
for place, (name, model) in enumerate(zoo.items()):
    full, small = gibibytes(model), gibibytes(model, rank=16)
    for offset, size, kind in ((0.2, full, "all weights"), (-0.2, small, "LoRA, rank 16")):
        color, hatch = (plots.COLORS[0], None) if offset > 0 else (plots.COLORS[1], "///")
        ax.barh(place + offset, size, 0.36, color=color, hatch=hatch, edgecolor="white", label=kind if place == 0 else None)
        ax.text(size * 1.15, place + offset, f"{size:.3g}", va="center", fontsize=9, bbox={"fc": "white", "ec": "none", "pad": 1})
    told.append(f"{name}: {full:.3g} and {small:.3g} GiB")
for size, who in ((16, "a laptop"), (74.5, "an 80 GB GPU")):
    ax.axvline(size, color="#555555", linewidth=1, linestyle=":")
    ax.text(size, 3.62, who, ha="center" if size > 20 else "right", va="bottom", fontsize=9)
ax.set(xscale="log", xlabel="GiB for weights, gradients and Adam (no activations)", yticks=range(4), yticklabels=zoo, xlim=(5e-4, 2000))
ax.legend(loc="lower right")
plots.show(fig, "Memory for training all weights, and with LoRA. " + "; ".join(told), "A scale of powers of ten. " + "; ".join(told) + ".")

# %% [markdown]
# The smallest of the three has 5,600 times as many weights as our pupil. It would still fit into a laptop; of the large one a
# good GPU holds all four numbers for no more than two thirds of its weights. **Memory is what changes.** The recipe does not: a
# prompt, a group, a verdict, an advantage, a ratio. The rest of this chapter is about making room, and about what goes wrong on
# the way.
#
# One line decides which model you use. As it stands the chapter uses our pupil, who has learned to call a calculator and does so
# carelessly (chapter 16). With a model on your disk, or in the Hugging Face cache, put its name there. A model that can read gets
# the same problems in English, with calls in JSON: `tasks.spoken`.

# %%
MODEL, TASK = data / "calculator_pupil", tasks.get("calculator")
# MODEL, TASK = "Qwen/Qwen3-0.6B", tasks.spoken(tasks.get("calculator"))
RECIPE = recipes.gtpo

policy = models.load(MODEL)
print(f"{sum(p.numel() for p in policy.parameters()):,} weights; the task says: {TASK.problem(0).prompt[:70]!r}")

# %% [markdown]
# ## 1 LoRA: a small correction beside a frozen layer
#
# A linear layer maps $x$ to $Wx$. Low-rank adaptation (LoRA, Hu et al., 2021) leaves $W$ as it is, for good, and adds a detour:
#
# $$Wx \;+\; \frac{\alpha}{r}\, B A x .$$
#
# $A$ has $r$ rows and squeezes $x$ into $r$ numbers; $B$ has $r$ columns and spreads them out again. Only $A$ and $B$ are
# trained. For a layer of 4096 by 4096 and $r = 16$ that is 131 thousand numbers in place of 17 million. $B$ starts at 0, so that
# at first nothing is changed; $A$ at random. ($\alpha$ is a constant. Divided by $r$, so that the size of the correction does not
# depend much on the rank you choose.)
#
# ## Exercise 1: the adapted layer · ●●○○○ · 10 min

# %%
def adapted(x, weight, down, up, alpha):
    """x [N,in], weight [out,in] (torch keeps a row for each output), down = A [r,in], up = B [out,r] -> [N,out]."""
    # solution
    correction = x @ down.T @ up.T
    return x @ weight.T + alpha / len(down) * correction
    # end solution
    # stub: return None  # your code here (about two lines)


# %%
adapted_by = check("19.adapted", adapted).function

# %% [markdown]
# Now put it into a model: every linear layer but the output is replaced by one that has a detour. This is all there is to it.

# %%
class LoRA(nn.Module):
    """A frozen linear layer with a trainable detour of that rank."""

    def __init__(self, layer, rank, alpha):
        super().__init__()
        self.weight, self.alpha = layer.weight, alpha
        self.down = nn.Parameter(torch.randn(rank, layer.in_features) / rank)
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x):
        return adapted_by(x, self.weight, self.down, self.up, self.alpha)


def with_adapters(policy, rank=4, alpha=8):
    """A copy of the policy that trains adapters only."""
    copy = policy.copy()
    copy.model.requires_grad_(False)
    for name, layer in list(copy.model.named_modules()):
        if layer in inner_layers(copy.model):
            parent, _, own = name.rpartition(".")
            setattr(copy.model.get_submodule(parent), own, LoRA(layer, rank, alpha))
    return copy


# %%
torch.manual_seed(0)
mine = with_adapters(policy)
count = [sum(p.numel() for p in mine.parameters() if p.requires_grad or not only) for only in (True, False)]
print(f"{count[0]:,} of {count[1]:,} numbers are trained")
ids = torch.tensor([models.prompt_ids(policy.tokenizer, TASK.problem(0).prompt)])
with torch.no_grad():
    print("changed at the start:", (mine.model(ids).logits - policy.model(ids).logits).abs().max().item())

# %% [markdown]
# A twelfth of the numbers here; with a real model, whose layers are wide, one or two in a hundred, or fewer. Our training loop
# does not have to be told: it trains what takes a gradient. Four steps of the recipe, and then we look at what has moved.

# %%
before = {name: value.clone() for name, value in mine.model.state_dict().items()}
for step in wb.train(mine, TASK, RECIPE, steps=4, prompts=8, lr=3e-3, seed=0):
    print(f"step {step.step}: right {step.success:.2f}, malformed turns {step.malformed:.2f}, {step.seconds:.1f} s")
moved = {name.rpartition(".")[2] for name, value in mine.model.state_dict().items() if not torch.equal(value, before[name])}
print("what has moved:", sorted(moved))
assert moved <= {"up", "down"}

# %% [markdown]
# (Four steps show that it runs. That it *learns* would take seeds and intervals.)
#
# Is it the same as the library's? PEFT is what everybody uses. We wrap the untouched model with it, give its adapters our
# numbers, and compare the output. And we try what adapters are loved for: **merging**. $W + \frac\alpha r BA$ is a matrix like
# any other, so the detour can be folded into the layer, and the model is then as fast as it ever was.

# %%
def in_peft(mine, policy, rank=4, alpha=8):
    """The same policy with PEFT's adapters, holding our numbers."""
    import peft

    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    model = peft.get_peft_model(policy.copy().model, config)
    for name, layer in model.get_base_model().named_modules():
        if hasattr(layer, "lora_A"):
            ours = mine.model.get_submodule(name)
            layer.lora_A["default"].weight.data.copy_(ours.down)
            layer.lora_B["default"].weight.data.copy_(ours.up)
    return model


# %%
if SCALE:
    theirs = in_peft(mine, policy)
    with torch.no_grad():
        ours, base = mine.model(ids).logits, policy.model(ids).logits
        print(f"the adapters change the output by up to     {(ours - base).abs().max():.2f}")
        print(f"ours and PEFT's differ by at most           {(ours - theirs(ids).logits).abs().max():.1e}")
        merged = theirs.merge_and_unload()
        print(f"merged and with the detour, at most         {(merged(ids).logits - ours).abs().max():.1e}")
        assert torch.allclose(merged(ids).logits, ours, atol=1e-4)
else:
    print(ASK)

# %% [markdown]
# Equal, to rounding. An adapter is a small file, and a served model can hold many of them, one for each customer; merged, it is
# gone for good into one model. Both are used.
#
# ## 2 Two traps in a tokenizer
#
# Our own tokenizer was made for this course and has no surprises. A real one comes with the model, and with habits.
#
# ### Padding that is also an end
#
# Rows of a batch have different lengths, so the short ones are filled up with a **padding** id. Many tokenizers have none, and
# the usual advice is one line: `pad_token = eos_token`, pad with the token that ends a turn. After that *two things have one
# name*. Here is what a widely used helper of `transformers` makes of one of our dialogues when it prepares it for supervised
# training. (A label of −100 means: do not train on this.)

# %%
from transformers import DataCollatorForLanguageModeling

careful = models.make_tokenizer()
advised = models.make_tokenizer()
advised.pad_token = advised.eos_token
one_call = tasks.get("calculator", operations=(1, 1), malformed=0.0)


def demonstrations(numbers, tokenizer):
    """Flawless dialogues about some problems, as a batch."""
    shown = [(one_call.problem(n), wb.seeding.generator(0, "shown", n)) for n in numbers]
    spoken = [(p.prompt, one_call.demonstration(p, rng), tokenizer) for p, rng in shown]
    return Batch.from_dialogues([sample.encode_demonstration(*one, group=i) for i, one in enumerate(spoken)])


row = demonstrations([0], careful).tokens[0].tolist()
for name, tokenizer in (("a pad token of its own", careful), ("padded with the end token", advised)):
    labels = DataCollatorForLanguageModeling(tokenizer, mlm=False)([{"input_ids": row}])["labels"][0]
    words = [models.decode(tokenizer, [i]) if i >= 0 else "·" for i in labels.tolist()]
    print(f"{name:28}", "".join(words))

# %% [markdown]
# The helper took the ends of the turns for padding and left them out. Nothing fails, and nothing warns you. What does a model
# learn that is never shown an end? Two untrained ones, sixty lessons each, with the end tokens and without.

# %%
def taught(with_ends, steps=60):
    """A fresh tiny model after some lessons, in which end tokens count or do not."""
    fresh = models.tiny("0.1m", seed=0)
    optimiser = torch.optim.AdamW(fresh.parameters(), lr=4e-3, betas=(0.9, 0.95), weight_decay=0.0)
    for step in range(steps):
        batch = demonstrations(range(16 * step, 16 * step + 16), fresh.tokenizer)
        counted = batch.mask if with_ends else batch.mask & (batch.tokens != fresh.eos)
        loss = -fresh.evaluate(batch).logp[counted].mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(fresh.parameters(), 1.0)
        optimiser.step()
    return fresh


asked = [one_call.problem(n, split="test") for n in range(64)]
for with_ends in (True, False):
    fresh = taught(with_ends)
    played = sample.rollout(sample.LocalEngine(fresh), one_call, fresh.tokenizer, asked, group_size=1, seed=0)
    text = models.decode(fresh.tokenizer, played.tokens[0, : played.length[0]].tolist())
    stopped = (played.stop != wb.Stop.LENGTH).float().mean()
    print(f"ends {'counted' if with_ends else 'left out'}: {stopped:.0%} of 64 dialogues end their turns by themselves; {text}")

# %% [markdown]
# A model that never stops. In a run with tools it never gets an answer either, for the tool speaks when the turn ends.
#
# ## Exercise 2: pad without looking at ids · ●●○○○ · 10 min
#
# Sampling wants rows that end at the same place, so padding goes on the *left*, and an **attention mask** says which places are
# real: 1 for a token, 0 for padding. Make both, for rows in which the padding's id may occur as a token.

# %%
def padded(rows, pad):
    """rows: lists of ids of different lengths -> ids [B,T], attention mask [B,T]: 1 for a token, 0 for padding; tensors."""
    # solution
    width = max(len(row) for row in rows)
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids, mask
    # end solution
    # stub: return None  # your code here (about four lines)


# %%
padded_by = check("19.padded", padded).function
talk = demonstrations(range(8), policy.tokenizer)
rows = [row[:n].tolist() for row, n in zip(talk.tokens, talk.length.tolist())]
ids, mask = padded_by(rows, policy.eos)
with torch.no_grad():
    right = policy.model(ids, attention_mask=mask).logits[:, -1].softmax(1)
    wrong = policy.model(ids, attention_mask=(ids != policy.eos).long()).logits[:, -1].softmax(1)
    moved = (right - wrong).abs().sum(1) / 2
print(f"with a mask made from the ids, {moved.mean():.1%} of the probability lies elsewhere (worst row {moved.max():.1%})")

# %% [markdown]
# ### A template that rewrites history
#
# Between messages and ids stands a **chat template**, a small program that turns a list of messages into one text. Some templates
# treat the *last* message differently from earlier ones: they leave out what the model thought in earlier turns, or drop a
# greeting. It saves room in a chat. In training it means that the past is rewritten: the model sampled its third turn after *one*
# text, and is then trained as if it had been after *another*. (Chapter 16 showed what becomes of a ratio then.) Here is a
# template of that kind:

# %%
FORGETFUL = """\
{%- for m in messages -%}
{%- set text = m.content or '' -%}
{%- if m.role == 'assistant' -%}
<A>{{ text if loop.last else text.split('</think>')[-1] }}<E>
{%- elif m.role == 'tool' -%}<R>{{ text }}</R>
{%- else -%}<U>{{ text }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<A>{%- endif -%}
"""
forgetful = models.make_tokenizer()
forgetful.chat_template = FORGETFUL
talk = [
    {"role": "user", "content": "37*45+1="},
    {"role": "assistant", "content": "<think>product first</think><T>37*45</T>"},
    {"role": "tool", "content": "665"},
    {"role": "assistant", "content": "<think>now the sum</think><T>665+1</T>"},
]
for k in (2, 4):
    print(f"after {k} messages:", forgetful.apply_chat_template(talk[:k], tokenize=False))

# %% [markdown]
# The first thought is in the first line and gone from the second.
#
# ## Exercise 3: is the past left alone? · ●●○○○ · 10 min
#
# Write the test. `render` is any template as a function, from a list of messages to a text. The past is left alone if what is
# rendered after $k$ messages is how the text of *all* messages begins, whatever $k$.

# %%
def keeps_history(render, messages):
    """render: list of messages -> str; messages: a conversation -> True if no earlier text is ever rewritten."""
    # solution
    whole = render(messages)
    return all(whole.startswith(render(messages[:k])) for k in range(1, len(messages)))
    # end solution
    # stub: return None  # your code here (about two lines)


# %%
keeps = check("19.keeps_history", keeps_history).function
for name, tokenizer in (("ours", careful), ("the forgetful one", forgetful)):
    print(f"{name} keeps the past:", keeps(lambda m, t=tokenizer: t.apply_chat_template(m, tokenize=False), talk))

# %% [markdown]
# The package asks that question of every model before it trains one, with calls, replies and thoughts, and refuses. And it can
# make a template that has the tags of the model's own and rewrites nothing (`models.load(..., chat_template="append_only")` does
# both at once):

# %%
try:
    models.check_template(forgetful)
except ValueError as refused:
    print(refused)
forgetful.chat_template = models.append_only(forgetful)
print("now it keeps the past:", keeps(lambda m: forgetful.apply_chat_template(m, tokenize=False), talk))

# %% [markdown]
# ## 3 Another trainer
#
# Large models are rarely trained with a loop of one's own. TRL has a trainer with everything around it: adapters, several GPUs,
# checkpoints, logging. `workbench.scale.trainer` puts a recipe and a task into it. What is ours is where the rollouts come from
# and what the loss is; everything else is TRL's. If the recipe is the same, so must the numbers be: the same prompts, the same
# dice, the loss and the length of the gradient.

# %%
QUIET = {"save_strategy": "no", "disable_tqdm": True, "logging_strategy": "steps", "logging_steps": 1, "adam_beta2": 0.95}


def in_trl(recipe, steps=1, prompts=4, **settings):
    """A run inside TRL's trainer on a copy of the policy: the trainer, and one line of its log for each step."""
    from transformers.trainer_callback import PrinterCallback
    from transformers.utils import logging
    from workbench import scale

    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        made = scale.trainer(policy.copy(), TASK, recipe, steps=steps, prompts=prompts, folder=folder, seed=0, config=QUIET, **settings)
        made.remove_callback(PrinterCallback)
        made.train()
    return made, [line for line in made.state.log_history if "grad_norm" in line]


# %%
if SCALE:
    print(f"{'recipe':12}{'loss, TRL':>14}{'ours':>12}{'gradient, TRL':>18}{'ours':>12}")
    for name in ("grpo", "gtpo", "cispo", "dr_grpo"):
        (line,) = in_trl(name)[1]
        (step,) = wb.train(policy.copy(), TASK, name, steps=1, prompts=4, seed=0)
        print(f"{name:12}{line['loss']:14.6f}{step.loss:12.6f}{float(line['grad_norm']):18.6f}{step.gradient_norm:12.6f}")
        assert abs(step.gradient_norm - float(line["grad_norm"])) <= 1e-4 * step.gradient_norm
else:
    print(ASK)

# %% [markdown]
# And with adapters: one more argument, `lora=4`. Same recipe, same task.

# %%
if SCALE:
    made, lines = in_trl(RECIPE, steps=4, lora=4, lr=3e-3)
    for number, line in enumerate(lines, 1):
        print(f"step {number}: reward {float(line['reward']):.2f}, dead groups {float(line['zero_advantage']):.2f}, "
              f"ratio up to {float(line['ratio_max']):.6f}")
    trained = [name for name, p in made.policy.model.named_parameters() if p.requires_grad]
    print(f"{len(trained)} tensors are trained, all of them adapters: {all('lora_' in name for name in trained)}")
else:
    print(ASK)

# %% [markdown]
# Not every method fits. TRL asks its prompts in the order of a data set, a fixed number of times each, and remembers nothing; a
# method that draws again, replays, or has a critic needs more. `scale.carries` says of each recipe what stands in its way, and
# `scale.native` goes one step further: where TRL's own settings mean the same, it says which, and then TRL needs nothing of ours.

# %%
if SCALE:
    from workbench import scale

    reasons = {name: scale.carries(name) for name in recipes.names()}
    print(f"{sum(why is None for why in reasons.values())} of {len(reasons)} recipes run in TRL's trainer. Among those that do not:")
    for name in ("dapo", "ppo", "arpo"):
        print(f"  {name}: {reasons[name]}")
    print("grpo in TRL's own words:", scale.native("grpo"))
    try:
        scale.native("gtpo")
    except ValueError as refused:
        print(refused)
else:
    print(ASK)

# %% [markdown]
# ## 4 Three engines, one distribution
#
# What samples is often not what learns. We have three **engines**: our own (`LocalEngine`, for tiny models), the forward pass of
# `transformers` (`HuggingFaceEngine`, for any), and vLLM, a serving engine with code of its own. The policy gradient assumes that
# the probabilities under which tokens were drawn are those that the trainer computes. Are they? We take each sampled token's
# log-probability as the engine reported it, and ask the trainer what *it* says of the same token.
#
# Where vLLM is installed (`make vllm`), it samples here. Elsewhere its half comes from a record: dialogues of this same pupil,
# sampled by vLLM's build for CPUs, once in float32 and once in bfloat16 (`python data/three_engines.py` remakes them). The
# trainer's half is computed here, now, in any case.

# %%
record = json.loads((data / "three_engines.json").read_text())
calculator = tasks.get("calculator")
questions = [calculator.problem(n, split="test") for n in range(record["problems"])]


def drawn(engine, size=record["group_size"], temperature=1.0):
    settings = {"group_size": size, "seed": 0, "temperature": temperature}
    return sample.rollout(engine, calculator, pupil.tokenizer, questions, **settings)


def from_vllm(dtype, kind, **settings):
    """Dialogues sampled by vLLM: here where it is installed, else as recorded."""
    if importlib.util.find_spec("vllm"):
        engine = sample.VLLMEngine(pupil, dtype=dtype)
        found = drawn(engine, **settings)
        engine.close()
        return found
    kept = record["batches"][kind]
    return Batch(**{name: torch.tensor(values, dtype=torch.bool if name == "mask" else None) for name, values in kept.items()})


# %%
likeliest = {"size": 1, "temperature": 0.0}
batches = {
    "local": drawn(sample.LocalEngine(pupil)), "transformers": drawn(sample.HuggingFaceEngine(pupil)),
    "vLLM, float32": from_vllm("float32", "float32"), "vLLM, bfloat16": from_vllm("bfloat16", "bfloat16"),
    "local, bfloat16": drawn(sample.LocalEngine(pupil, dtype="bfloat16")),
}
engines = {"local": sample.LocalEngine, "transformers": sample.HuggingFaceEngine}
greedy = [drawn(make(pupil), **likeliest).tokens for make in engines.values()]
greedy.append(from_vllm("float32", "greedy", **likeliest).tokens)
print("the likeliest dialogues are the same, token for token, in all three:", all(torch.equal(each, greedy[0]) for each in greedy))
same = torch.equal(batches["local"].tokens, batches["transformers"].tokens)
print(f"drawn with the same dice, local and transformers: {'the same' if same else 'not the same'} {int(batches['local'].mask.sum()):,} tokens")


def gap(batch):
    """|log p of the trainer - log p of the engine| at every sampled token."""
    with torch.no_grad():
        return (pupil.evaluate(batch).logp - batch.logp_old)[batch.mask].abs().numpy()

# %%
fig, ax = plt.subplots(figsize=(7.5, 3.6))
told = []
for (name, batch), dash, color in zip(batches.items(), plots.DASHES, plots.COLORS):
    far = np.sort(np.maximum(gap(batch), 1e-9))
    ax.plot(far, np.linspace(0, 1, len(far)), label=name, linestyle=dash, color=color)
    told.append(f"{name} {far.mean():.1e} on average, {far.max():.1e} at most")
ax.axvline(np.log(1.2), color="#777777", linewidth=1, linestyle=":")
ax.text(np.log(1.2), 0.03, "GRPO's clip ", fontsize=9, ha="right")
ax.set(xscale="log", xlabel="distance of two log-probabilities of one token (nats)", ylabel="share of tokens below")
ax.legend(loc="upper left", bbox_to_anchor=(0.36, 0.93), fontsize=9)
ax.set_title("How far engine and trainer are apart")
plots.show(fig, "Cumulative shares. " + "; ".join(told), "In float32 all engines agree to rounding; in bfloat16 none does. " + "; ".join(told) + ".")

# %% [markdown]
# In float32 the three are one distribution, to rounding: even at the worst token four or five digits agree. (Half of vLLM's
# numbers agree to the last bit; they stand at the left edge.) In **bfloat16**, a format of 16 bits in place of 32, in which large
# models are usually sampled because it halves the memory, they differ by a few thousandths of a nat on average. And look at the
# far right: two tokens in a thousand reach GRPO's clip, and at the worst token of the record vLLM and the trainer are almost a
# whole nat apart, a factor of two and a half in probability. Is that much?
#
# ### The surprise: it depends on the method, not on the engine
#
# Look again at the dotted line. GRPO ignores a token once its ratio has left the range from 0.8 to 1.2 in the direction of its
# advantage, and hardly any token's disagreement comes near that. But GSPO compares whole answers, by the mean of the log-ratios
# of their tokens, and its clip is over *five hundred times* narrower, from 0.9997 to 1.0004. Take a batch before any update,
# when every ratio should be 1, and count how many tokens each method throws away because of the engine alone. To see the whole
# range, sample from copies of the pupil whose weights are rounded to so many binary digits (bfloat16 keeps 7 after the point,
# float32 23).

# %%
def rounded(policy, bits):
    """A copy whose weights keep `bits` binary digits after the point."""
    copy = policy.copy()
    with torch.no_grad():
        for weight in copy.parameters():
            part, power = torch.frexp(weight)
            weight.copy_(torch.ldexp((part * 2 ** (bits + 1)).round() / 2 ** (bits + 1), power))
    return copy


def thrown_away(batch, recipe):
    """Share of the credited tokens without a gradient, before any update."""
    with torch.no_grad():
        return objective.loss(recipe, objective.prepare(recipe, batch), pupil.evaluate(batch).logp)[1]["clip_share"]


BITS = (23, 10, 9, 8, 7, 6, 5, 4, 3)
coarse = {bits: drawn(sample.LocalEngine(rounded(pupil, bits)), size=8) for bits in BITS}
lost = {name: [thrown_away(batch, recipes.get(name)) for batch in coarse.values()] for name in ("gspo", "grpo", "gtpo")}

# %%
fig, ax = plt.subplots(figsize=(7.5, 3.4))
for (name, shares), marker in zip(lost.items(), plots.MARKERS):
    ax.plot(range(len(BITS)), shares, marker=marker, label=name)
seven = BITS.index(7)
ax.axvline(seven, color="#777777", linewidth=1, linestyle=":")
ax.text(seven + 0.06, 0.62, "as coarse as bfloat16", fontsize=9, va="top")
ax.set(xticks=range(len(BITS)), xticklabels=BITS, xlabel="binary digits that the sampler's weights keep", ylim=(-0.02, 0.64))
ax.set(ylabel="share of credited tokens", title="Thrown away before the first update")
ax.legend(loc="upper left")
words = "; ".join(f"{bits} digits: gspo {lost['gspo'][i]:.0%}, grpo {lost['grpo'][i]:.1%}" for i, bits in enumerate(BITS) if bits in (23, 10, 7, 3))
plots.show(fig, "Share of tokens without a gradient. " + words, f"One batch of {len(coarse[7])} dialogues for each precision. " + words + ".")

# %% [markdown]
# GSPO loses a good part of its tokens to rounding before it has learned anything; GRPO and GTPO lose next to none until the
# sampler is far coarser than anybody's. **Whether two engines are "close enough" is a question about your clip.** (One batch of
# one tiny model; a model of another size has other gaps. The line to copy is the measurement: `sample.mismatch(policy, batch)`.)
#
# The remedy has two halves. First, let the trainer say what the old probabilities were, not the engine: then the ratio starts at
# 1 again. In `wb.train` that is `recompute_logp=True`.

# %%
def with_renewed(batch):
    """The batch with the trainer's log-probabilities as the old ones."""
    with torch.no_grad():
        return batch.replace(logp_old=torch.where(batch.mask, pupil.evaluate(batch).logp.clamp(max=0), 0))


for kind, batch in (("7 digits", coarse[7]), ("vLLM, bfloat16", batches["vLLM, bfloat16"])):
    for name in ("gspo", "grpo"):
        before, after = (thrown_away(each, recipes.get(name)) for each in (batch, with_renewed(batch)))
        print(f"{kind:15} {name}: thrown away {before:5.1%}, with the trainer's own old probabilities {after:.1%}")

# %% [markdown]
# But now the gradient is that of *another* game: the tokens were drawn by the engine, and count as if the trainer had drawn them.
# The second half sets that right. A token that the trainer thinks likelier than the engine did was drawn too seldom, and should
# count for more: by the **importance weight** $p_\text{trainer} / p_\text{engine}$ (chapter 03). One rare token with a huge
# weight would drown everything, so weights are cut off at a cap, which costs a little bias and buys a finite variance: *truncated
# importance sampling*.
#
# ## Exercise 4: a weight with a lid · ●●○○○ · 5 min

# %%
def truncated(trainer, sampler, cap):
    """trainer, sampler: log-probabilities of the same tokens [N] under each; cap: above 1 -> weights [N]."""
    # solution
    return (trainer - sampler).exp().clamp(max=cap)
    # end solution
    # stub: return None  # your code here (one line)


# %%
weight_of = check("19.truncated", truncated).function
for name, batch in (("vLLM, float32", batches["vLLM, float32"]), ("vLLM, bfloat16", batches["vLLM, bfloat16"]), ("3 digits", coarse[3])):
    with torch.no_grad():
        weight = weight_of(pupil.evaluate(batch).logp[batch.mask], batch.logp_old[batch.mask], 2.0)
    print(f"{name:15} weights from {weight.min():.4f} to {weight.max():.4f}, mean {weight.mean():.4f}, at the cap {(weight == 2).float().mean():.2%}")

# %% [markdown]
# Their mean is 1, as it must be for an engine that samples what it says it samples: the average of $p/q$ over draws from $q$ is
# the sum of $p$. A mean that is not 1 is a warning that the engine does *not*: an old adapter still in place, a cache that was
# not emptied, a temperature that one side does not know of. Look at it in every run with a foreign engine.
#
# The package has both halves in one word, `correction`. One step of GSPO with a sampler in bfloat16, without and with:

# %%
one_update = recipes.gspo.but("gspo-one", schedule=objective.updates())
batch = batches["vLLM, bfloat16"]
with torch.no_grad():
    said = pupil.evaluate(batch).logp
correction = objective.Correction(high=2.0)
assert torch.allclose(correction(said, batch.logp_old, batch.mask)[batch.mask], weight_of(said, batch.logp_old, 2.0)[batch.mask])
for given in (None, correction):
    student = pupil.copy()
    settings = {"steps": 1, "prompts": 8, "seed": 0, "engine": sample.LocalEngine(student, dtype="bfloat16")}
    (step,) = wb.train(student, calculator, one_update, correction=given, **settings)
    print(f"{'corrected' if given else 'as it is':10} thrown away {step.clip_share:5.1%}, ratios up to {step.ratio_max:.4f}, "
          f"mismatch {step.diagnostics['mismatch_mean']:.1e} on average")

# %% [markdown]
# ## 5 Why the slots are kept full
#
# On a GPU one step of sampling, one token for each dialogue in the batch, takes nearly the same time for one dialogue as for
# sixty-four: what takes time is reading the weights, and they are read once a step. So one samples many dialogues side by side,
# in so many **slots**. But dialogues differ in length. If a batch is started together and ends together (a *static* batch), every
# slot waits for the longest. A serving engine gives a slot that is free to the next dialogue in line, in the middle of
# everything: *continuous batching*.
#
# ## Exercise 5: how long does it take? · ●●●○○ · 15 min
#
# Dialogues of known lengths stand in line. How many steps until all are done, if a free slot takes the next at once?

# %%
def continuous(lengths, slots):
    """lengths: tokens of each request, in line; slots: how many at once -> the number of steps until the last one is done."""
    # solution
    free = [0] * slots  # the step at which each slot is free
    for length in lengths:
        soonest = free.index(min(free))
        free[soonest] += length
    return max(free)
    # end solution
    # stub: return None  # your code here (about five lines)


# %%
steps_of = check("19.continuous", continuous).function

# %% [markdown]
# Now look at it. Each row is a slot, each bar a dialogue; what is empty was paid for and not used. **Move the spread**: at 0 all
# dialogues are equally long and the two ways are the same. Real lengths are spread widely, the more so the longer a model may
# think.

# %%
def schedule(lengths, slots, refill):
    """Where each request runs: (slot, first step, length), one for each."""
    if refill:
        free, placed = [0] * slots, []
        for length in lengths:
            slot = free.index(min(free))
            placed.append((slot, free[slot], length))
            free[slot] += length
        return placed
    placed, start = [], 0
    for first in range(0, len(lengths), slots):
        batch = lengths[first : first + slots]
        placed += [(slot, start, length) for slot, length in enumerate(batch)]
        start += max(batch)
    return placed


def lengths_of(spread, count=40, mean=60, seed=1):
    """Log-normal lengths with that mean: spread is the standard deviation of the logarithm."""
    drawn = wb.seeding.generator(seed, "lengths").normal(size=count)
    return np.maximum(1, mean * np.exp(spread * drawn - spread**2 / 2)).round().astype(int).tolist()


# %%
def draw(spread=0.8, slots=8):
    lengths = lengths_of(spread)
    fig, axes = plt.subplots(2, 1, figsize=(8.5, 4.4), sharex=True)
    words = []
    for ax, refill, name in zip(axes, (False, True), ("static", "continuous")):
        placed = schedule(lengths, slots, refill)
        total = max(start + length for _, start, length in placed)
        for number, (slot, start, length) in enumerate(placed):
            ax.barh(slot, length, left=start, height=0.8, color=plots.COLORS[number % 3], edgecolor="white", linewidth=0.6)
        ax.axvline(total, color="#333333", linewidth=1)
        used = sum(lengths) / (total * slots)
        ax.set(yticks=[], ylabel=f"{slots} slots", title=f"{name}: {total} steps, {used:.0%} of them used")
        ax.grid(visible=False)
        words.append(f"{name} {total} steps, {used:.0%} used")
    axes[1].set_xlabel("steps (one token for every busy slot)")
    words = "; ".join(words)
    plots.show(fig, f"{len(lengths)} requests in {slots} slots. {words}.", f"The same {len(lengths)} dialogues, in the same order. {words}.")


spread = FloatSlider(value=0.8, min=0.0, max=1.5, step=0.1, description="spread")
plots.play(draw, spread=spread, slots=IntSlider(value=8, min=1, max=16, description="slots"))

# %%
for spread in (0.0, 0.4, 0.8, 1.2):
    ratios = []
    for seed in range(100):
        lengths = lengths_of(spread, seed=seed)
        static = max(start + length for _, start, length in schedule(lengths, 8, refill=False))
        ratios.append(static / steps_of(lengths, 8))
    print(f"spread {spread}: static takes {np.mean(ratios):.2f} times as long (middle nine tenths {np.quantile(ratios, 0.05):.2f} to {np.quantile(ratios, 0.95):.2f})")

# %% [markdown]
# Continuous batching takes about half the time where lengths differ much, and as long where they do not. Two limits of the
# picture. It counts steps, and a step with empty slots is a little cheaper than a full one; on a CPU much cheaper, which is why
# our own engine simply drops rows that are done and has no line of waiting ones. And look at the *end* of the lower picture: when
# the line is empty, one long dialogue keeps everybody waiting all the same. A step of reinforcement learning has just such an end
# every time. (Splitting the cache of keys and values into pages, so that slots of any length fit into one memory, is vLLM's other
# idea; see below.)

# %% [markdown]
# ## What was left out
#
# - *A real model.* Nothing above 107 thousand weights was trained for this chapter: no machine for it was to be had. What is
#   claimed is what was run: that the recipe, the adapters, TRL and vLLM give the same numbers. Sizes of real models are counted,
#   not measured.
# - *Which rank, which layers, which learning rate.* That is asked of a task and a model, with seeds and intervals; Schulman and
#   others (2025) report that for reinforcement learning small ranks do as well as training everything. We did not test it.
# - *Four bits.* The frozen layers can be kept in 4 bits (QLoRA), on an NVIDIA GPU. A quantised sampler is also a far coarser one:
#   see the right end of the curve in section 4.
# - *Sequence-level correction* of the engines' disagreement (weights for whole answers): less biased, more variance.
# - *Paged attention*, prefix caches, speculative sampling: how engines get fast. They change no probability, if they are right;
#   so measure.
#
# ## Where this returns
#
# Chapter 20 is the whole course in one run: the same recipe, tools, the sandbox, and a plan that fits the machine. Chapter 21
# asks what you may say afterwards.
#
# ## Further reading
#
# - E. Hu et al., *LoRA: Low-rank adaptation of large language models*, [arXiv 2106.09685](https://arxiv.org/abs/2106.09685).
# - T. Dettmers et al., *QLoRA: Efficient finetuning of quantized LLMs*, [arXiv 2305.14314](https://arxiv.org/abs/2305.14314).
# - J. Schulman and Thinking Machines Lab, *LoRA without regret* (2025),
#   [thinkingmachines.ai/blog/lora](https://thinkingmachines.ai/blog/lora/).
# - W. Kwon et al., *Efficient memory management for large language model serving with PagedAttention* (vLLM), [arXiv
#   2309.06180](https://arxiv.org/abs/2309.06180).
# - G.-I. Yu et al., *Orca: A distributed serving system for transformer-based generative models* (where continuous batching comes
#   from), OSDI 2022.
# - C. Zheng et al., *Group Sequence Policy Optimization* (and its narrow clip), [arXiv
#   2507.18071](https://arxiv.org/abs/2507.18071).
# - E. Ionides, *Truncated importance sampling*, Journal of Computational and Graphical Statistics 17, 2008.
# - F. Yao et al., *On the rollout-training mismatch in modern RL systems* (and truncated weights against it; 2025),
#   [openreview.net](https://openreview.net/forum?id=8MHqvb4lK9).
# - [TRL's documentation](https://huggingface.co/docs/trl), [PEFT's](https://huggingface.co/docs/peft),
#   [vLLM's](https://docs.vllm.ai).
