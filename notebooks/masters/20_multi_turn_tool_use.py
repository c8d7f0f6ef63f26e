# %% [markdown]
# # 20 · Multi-turn tool-use RL on a GPU
#
# **The question.** The whole course in one run: what has to be decided, predicted, watched and believed?
#
# **You will be able to**
# - write a run down as a plan that fits a laptop or a GPU, with the same recipe object in both;
# - predict its memory and its work before you press run, on the back of an envelope and with the package;
# - run GTPO against GRPO side by side, and say what one pair of runs shows (nothing) and what eight show;
# - check a task before a model sees it: what does the right answer earn, what does doing nothing, what does cheating?
# - say plainly what was not done.
#
# **Time.** 60 minutes of yours, about half a minute of the computer's.
#
# **You need.** Chapters 11 (GRPO), 15 (the sandbox), 16 (credit by turns) and 19 (what changes with a real model).
#
# On a laptop everything here runs small, on a model of 107 thousand weights. Where there is a GPU *and* you name a model, one
# cell switches to full size. **No run at full size was made for this notebook**: no GPU was to be had when it was written. So
# there are no curves of one in it, and nothing here says what one would show. What is shown was run on a CPU, and says so.

# %%
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from ipywidgets import Dropdown, IntSlider

import workbench as wb
from workbench import fits, models, objective, plots, recipes, sample, sandbox, stats, tasks
from workbench.course import check

plots.style()
data = Path(wb.__file__).parents[1] / "data"

# %% [markdown]
# ## One group of dialogues
#
# Here is what the whole course is about, in one picture: eight attempts of a small model at one question, each of several turns
# with a calculator. Some end well. **Press M to change the method**, C to change what paints the tokens: who deserves what?

# %%
pupil = models.load(data / "calculator_pupil")
calculator = tasks.get("calculator")
asked = [calculator.problem(number, split="test") for number in range(16)]
drawn = sample.rollout(sample.LocalEngine(pupil), calculator, pupil.tokenizer, asked, group_size=8, seed=0)
mixed = [g for g in range(16) if 2 <= drawn.outcome[drawn.group == g].sum() <= 6 and (drawn.rewards[drawn.group == g] < 0).any()]
group = drawn.select(drawn.group == mixed[0])
recipes.credit_view(group, pupil.tokenizer, [recipes.grpo, recipes.gtpo])

# %% [markdown]
# Every part of the course is in it. The eight are pulls of one **bandit** arm, the question (chapters 01 and 09). That the model
# calls a tool at all it learned by **imitation**, of a teacher who made mistakes (06, 10). What pays is a **verdict** that cannot
# be argued with (11, 14, 15). The mean of the group is the **baseline** (09); the ratio is an **importance weight** (03); the
# clip is **pessimism** about it (03, 08). And the paint is **credit** (16).
#
# ## 1 The plan
#
# A run is a handful of decisions. We write them down in one place, *before* the run, and the first of them is which machine. If
# you have a GPU and a model that can read, put its name or its folder here; nothing else has to be changed.

# %%
NAME = None  # for instance "Qwen/Qwen3-4B", if it is in your Hugging Face cache, or the folder of a model
SCALE = all(importlib.util.find_spec(name) for name in ("trl", "peft"))
FULL = NAME is not None and torch.cuda.is_available() and SCALE


@dataclass(frozen=True)
class Plan:
    """One run. tokens: of a whole dialogue. per_pass: dialogues trained at once. rank: of the adapters; 0: all weights."""

    model: str | Path
    task: tasks.Task
    prompts: int
    steps: int
    tokens: int
    lr: float
    per_pass: int = 128
    rank: int = 0
    engine: str | None = None


# %%
SMALL_PLAN = Plan(data / "calculator_pupil", calculator, prompts=16, steps=8, tokens=64, lr=3e-4)
FULL_PLAN = Plan(NAME or "Qwen/Qwen3-4B", tasks.spoken(calculator), 16, 200, 1500, 2e-5, per_pass=2, rank=16, engine="vllm")
KATAS_PLAN = Plan(NAME or "Qwen/Qwen3-4B", tasks.get("tool_katas"), 8, 200, 3000, 2e-5, per_pass=1, rank=16, engine="vllm")
plan = FULL_PLAN if FULL else SMALL_PLAN
GRPO, GTPO = recipes.grpo, recipes.gtpo  # the same two objects whatever the machine
print("full size" if FULL else "small", plan, sep=": ")

# %% [markdown]
# The recipe is not part of the plan: it does not know about the machine. (`gtpo` is `grpo` with three parts replaced; the rest of
# the difference between a laptop and a GPU is in the lines above.)
#
# ## 2 Predict before you press run
#
# A run that dies after four hours for want of memory costs four hours. What will it need? Three things share the memory of the
# GPU: what training keeps for each weight, what sampling keeps of each dialogue, and what the backward pass keeps of each token.
# You can work out the first two in your head.
#
# ## Exercise 1: what training keeps · ●●○○○ · 10 min
#
# *All weights trained*: for each of them weight, gradient and Adam's two averages, in float32 (4 bytes). *Adapters*: the frozen
# model in bfloat16 (2 bytes a weight, nothing else), and for each number of the adapters those same four in float32.

# %%
def training_bytes(weights, adapters):
    """weights: of the model; adapters: numbers in its adapters, 0 if all weights are trained -> bytes."""
    # solution
    if adapters:
        return 2 * weights + 16 * adapters
    return 16 * weights
    # end solution
    # stub: return None  # your code here (about three lines)


# %%
training_of = check("20.training_bytes", training_bytes).function

# %% [markdown]
# Sampling keeps, for every token of every dialogue that runs at the same time, a **key** and a **value** in each layer (chapter
# 10), so that it need not be computed again: the *KV cache*. In today's models several heads share one head of keys and values.
#
# ## Exercise 2: what sampling keeps · ●●○○○ · 10 min

# %%
def cache_bytes(shape, tokens, dialogues):
    """shape: dict with layers, heads, kv_heads, head_dim, width; tokens: of one dialogue; in bfloat16 -> bytes."""
    # solution
    numbers_a_token = 2 * shape["layers"] * shape["kv_heads"] * shape["head_dim"]
    return 2 * numbers_a_token * tokens * dialogues
    # end solution
    # stub: return None  # your code here (about two lines)


# %%
cache_of = check("20.cache_bytes", cache_bytes).function
SHAPES = {  # as published for Qwen3
    "0.6B": {"weights": 596_049_920, "layers": 28, "heads": 16, "kv_heads": 8, "head_dim": 128, "width": 1024, "inner": 3072},
    "4B": {"weights": 4_022_468_096, "layers": 36, "heads": 32, "kv_heads": 8, "head_dim": 128, "width": 2560, "inner": 9728},
    "8B": {"weights": 8_190_735_360, "layers": 36, "heads": 32, "kv_heads": 8, "head_dim": 128, "width": 4096, "inner": 12288},
}


def adapter_numbers(shape, rank):
    """In adapters of that rank on all linear layers of a model but the output."""
    q, kv, d, inner = shape["heads"] * shape["head_dim"], shape["kv_heads"] * shape["head_dim"], shape["width"], shape["inner"]
    sides = 2 * (d + q) + 2 * (d + kv) + 3 * (d + inner)  # queries and output, keys and values, the three of the feed-forward
    return rank * sides * shape["layers"]


# %% [markdown]
# What the backward pass keeps is harder to count, because every layer keeps something else. For the layers of Qwen3 it is about
# 80 bytes for each token, layer and unit of width (from 60 to 100, by shape; the simpler layers that Korthikanti et al. counted
# in 2022 kept 34), for all dialogues that go through the model in one pass. With **recomputation** only the input of each layer
# is kept, 2 bytes, and the rest is computed twice.
#
# Now play. **Find a plan that fits the 8B model into 80 GB, with dialogues of 3,000 tokens.** What has to give?

# %%
def parts(name, adapters, at_once, per_pass, recompute, tokens=3000):
    """GB of each thing that shares the memory of one GPU."""
    shape = SHAPES[name]
    layers = (2 if recompute else 80) * shape["width"] * shape["layers"] * tokens * per_pass
    return {
        "training": training_of(shape["weights"], adapter_numbers(shape, 16) if adapters else 0) / 1e9,
        "sampler's weights": 2 * shape["weights"] / 1e9,
        "KV cache": cache_of(shape, tokens, at_once) / 1e9,
        "backward pass": layers / 1e9,
    }


# %%
def draw(model="8B", adapters=False, recompute=False, at_once=64, per_pass=8):
    found = parts(model, adapters, at_once, per_pass, recompute)
    fig, ax = plt.subplots(figsize=(8.5, 2.4))
    left = 0.0
    for (name, size), color, hatch in zip(found.items(), plots.COLORS, ("", "//", "..", "xx")):
        ax.barh(0, size, left=left, color=color, hatch=hatch, edgecolor="white", label=f"{name} {size:.0f}")
        left += size
    ax.axvline(80, color="#333333", linewidth=1.5)
    ax.text(80, 0.5, " 80 GB", va="bottom")
    ax.set(xlim=(0, max(100, left * 1.05)), ylim=(-0.6, 0.7), yticks=[], xlabel="GB on one GPU", title=f"{model}: {left:.0f} GB")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.35), ncols=4, fontsize=9, handlelength=1.4, columnspacing=1.2)
    words = ", ".join(f"{name} {size:.1f}" for name, size in found.items())
    verdict = "It fits." if left <= 80 else "It does not fit."
    plots.show(fig, f"Memory of a plan for {model}, in GB: {words}. Together {left:.0f}. {verdict}", f"In GB: {words}. {verdict}")


at_once = IntSlider(value=64, min=8, max=256, step=8, description="sampled at once")
per_pass = IntSlider(value=8, min=1, max=16, description="trained in one pass")
plots.play(draw, model=Dropdown(options=list(SHAPES), value="8B"), at_once=at_once, per_pass=per_pass, adapters=False, recompute=False)

# %% [markdown]
# Two switches do it together, and neither does alone: adapters bring the 131 GB of training down to 17, recomputation the 283 GB
# of the backward pass down to 7. Without recomputation one dialogue at a time has to go through the model (`rows_per_pass` in
# `wb.train`, `accumulate` in TRL's trainer: the gradient is the same), and even then no more than 24 may be sampled at once. Note
# what is *not* in the picture: the recipe. GTPO needs no byte more than GRPO. A critic would.
#
# An envelope is for orders of magnitude. For a plan that you mean to run, the package *counts*: it builds the model without its
# numbers, makes one pass of training on tensors without contents, and writes down the most that was there at any time. (On the
# command line: `workbench doctor --model 8b --lora 16 --checkpointing`.) Your solution of the puzzle, counted, and the full plan
# of section 1:

# %%
def counted(size, **plan):
    """What a plan with adapters and vLLM takes on one GPU, counted by the package."""
    return fits.need(fits.config_of(size), fits.Plan(lora=16, engine="vllm", **plan))


if SCALE:
    puzzle = counted("8b", rows=8, context=3000, prompt=1000, rollouts=64, checkpointing=True)
    envelope = parts("8B", True, 64, 8, True)
    found = (puzzle.weights + puzzle.adapters + puzzle.gradients + puzzle.optimiser, puzzle.sampler, puzzle.cache, puzzle.activations)
    for (name, size), exact in zip(envelope.items(), found):
        print(f"8B {name:18} envelope {size:6.1f} GB, counted {exact / 1e9:6.1f}")
    print(f"8B peak while training {puzzle.training / 1e9:.0f} GB, while sampling {puzzle.sampling / 1e9:.0f}")
    dialogues = FULL_PLAN.prompts * GRPO.rollout["size"]
    need = counted("4b", rows=FULL_PLAN.per_pass, context=FULL_PLAN.tokens, prompt=500, rollouts=dialogues)
    print(f"FULL_PLAN with a 4B model: peak while training {need.training / 1e9:.0f} GB, while sampling {need.sampling / 1e9:.0f}")
    assert need.peak < 80e9
else:
    print("left out: counting adapters needs PEFT. Install it with  pip install -c requirements.lock -e '.[scale]'")

# %% [markdown]
# What training keeps and the cache the envelope had to a tenth of a gigabyte: it is the same arithmetic. It had forgotten what
# vLLM needs beside its weights (1.6 GB: put down, not counted). What a pass needs it had at less than half, for recomputation
# still has *one* layer in full at any time, and the end of the model on top. And sampling and training take turns, so that the
# peak is not the sum. This count has earned its place already: the first version of this plan asked 32 prompts a step, and
# would have needed 83 GB.
#
# ## Exercise 3: how much work is it? · ●●○○○ · 10 min
#
# A token costs a forward pass one multiplication and one addition for each weight: 2 operations. The backward pass costs twice as
# much. Every token is sampled once (a forward pass) and trained on once (forward and backward); prompts count like everything
# else. How many operations does a run take?

# %%
def operations(weights, prompt, said, dialogues):
    """weights: of the model; prompt, said: tokens of a dialogue; dialogues: in the whole run -> operations."""
    # solution
    sampling, training = 2, 2 + 4
    return (sampling + training) * weights * (prompt + said) * dialogues
    # end solution
    # stub: return None  # your code here (about two lines)


# %%
operations_of = check("20.operations", operations).function
SIZE = GRPO.rollout["size"]


def work(plan, weights):
    """Operations of a plan, whose dialogues are as long as it says."""
    return operations_of(weights, 0, plan.tokens, plan.prompts * plan.steps * SIZE)


RATE = 4e14  # operations a second of a large GPU if it is kept busy: four tenths of what its data sheet says for bfloat16
for name, each in (("calculator in English", FULL_PLAN), ("katas with Python", KATAS_PLAN)):
    total = work(each, SHAPES["4B"]["weights"])
    print(f"{name}: {each.prompts * each.steps * SIZE:,} dialogues, {total:.1e} operations, {total / RATE / 3600:.1f} hours at best, with the 4B model")

# %% [markdown]
# *At best*, for sampling does not keep a GPU busy: it waits for its memory, as chapter 19 explained. Think of several times as
# long; the first steps of a real run tell. For the small plan we can do better than an envelope: take two steps here and now, and
# time the second. (The first also pays for getting started.)

# %%
policy = models.load(SMALL_PLAN.model)
_, second = wb.train(policy.copy(), SMALL_PLAN.task, GTPO, steps=2, prompts=SMALL_PLAN.prompts, seed=99)
one = second.seconds
count = sum(p.numel() for p in policy.parameters())
print(f"one step: {second.episodes} dialogues, {second.tokens:,} sampled tokens, {one:.1f} s, {work(SMALL_PLAN, count) / SMALL_PLAN.steps / one:.1e} operations a second")
print(f"so {SMALL_PLAN.steps} steps of two methods should take {2 * SMALL_PLAN.steps * one:.0f} s")

# %% [markdown]
# (Far below what the processor could do: at this size most of the time goes into everything *around* the products.)
#
# ## 3 Press run
#
# GTPO, then GRPO. Same pupil, same questions, same dice: what differs is the credit.

# %%
def small(recipe, title):
    """A live run of the small plan: one record a step."""
    live = plots.LivePanel({"success": "right answers", "malformed": "malformed turns", "turns": "turns"}, limits={"malformed": (0, 1)})
    student, found = policy.copy(), []
    settings = {"steps": SMALL_PLAN.steps, "prompts": SMALL_PLAN.prompts, "lr": SMALL_PLAN.lr}
    print(title)
    for step in live.watch(wb.train(student, SMALL_PLAN.task, recipe, seed=0, **settings)):
        found.append(step)
    return found


runs = {"gtpo": small(GTPO, "GTPO")}

# %%
runs["grpo"] = small(GRPO, "GRPO")
print(f"took {sum(step.seconds for run in runs.values() for step in run):.0f} s; predicted were {2 * SMALL_PLAN.steps * one:.0f}")

# %% [markdown]
# At full size the same two objects go into TRL's trainer, with adapters and with vLLM as the engine. This cell runs if you named
# a model and have a GPU; otherwise it tells you what it would do. Checkpoints are written on the way, so a run that is stopped
# goes on.

# %%
def full(plan, recipe, folder):
    """The same recipe at full size: TRL's trainer, adapters, vLLM."""
    from workbench import scale

    made = scale.trainer(
        plan.model, plan.task, recipe, steps=plan.steps, prompts=plan.prompts, lr=plan.lr, lora=plan.rank or None,
        engine=plan.engine, accumulate=max(1, plan.prompts * recipe.rollout["size"] // plan.per_pass), folder=folder,
    )  # fmt: skip
    made.train()
    return made


if FULL:
    for recipe in (GTPO, GRPO):
        full(FULL_PLAN, recipe, Path("runs") / f"{recipe.name}-calculator")
else:
    print("not run: it needs a GPU, TRL, and a model named at the top. It would call, for each of the two recipes,")
    print(f"  full({FULL_PLAN}, recipe, folder)")

# %% [markdown]
# ## 4 What may be said
#
# You have seen one pair of runs. Plot it, and forget it: with other dice the order may be the other way round.

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3.2))
words = []
for ax, (measure, title) in zip(axes, (("success", "right answers"), ("malformed", "malformed turns"))):
    for (name, run), marker in zip(runs.items(), plots.MARKERS):
        values = [getattr(step, measure) for step in run]
        ax.plot(range(1, len(run) + 1), values, marker=marker, label=name)
        words.append(f"{title} with {name}: {values[0]:.2f} at first, {values[-1]:.2f} at last")
    ax.set(title=title, xlabel="update", ylabel="share", ylim=(0, None))
axes[0].legend(loc="lower right")
plots.show(fig, "One run of each method. " + "; ".join(words), "One run of each: an anecdote. " + "; ".join(words) + ".")

# %% [markdown]
# What may be said comes from pupils of *eight* random starts, each trained with both methods on the same prompts and compared
# with itself (recorded; `python data/gtpo.py`, an hour of one core).

# %%
frame = pd.DataFrame(json.loads((data / "gtpo.json").read_text())["rows"])
frame = frame[(frame["condition"] == "noise .5, slack 3") & frame["arm"].isin(["grpo", "gtpo"])]


def measured(arm, measure):
    """[updates 10 to 40, pupils]"""
    return frame[frame["arm"] == arm].pivot(index="update", columns="seed", values=measure).loc[10:]


fig, axes = plt.subplots(1, 2, figsize=(9, 3.2))
words = []
for ax, (measure, title) in zip(axes, (("success", "right answers"), ("malformed", "malformed turns"))):
    gap = measured("gtpo", measure) - measured("grpo", measure)
    found = stats.t_interval(100 * gap.to_numpy())
    ax.axhline(0, color="#777777", linewidth=1, linestyle=":")
    ax.errorbar(gap.index, found.estimate, [found.estimate - found.low, found.high - found.estimate], marker="o", capsize=4, linestyle="-")
    ax.set(title=title, xlabel="update", ylabel="gtpo minus grpo (points)", xticks=gap.index)
    for update, *numbers in zip(gap.index, found.estimate, found.low, found.high):
        words.append("{} after {}: {:+.1f} [{:+.1f}, {:+.1f}]".format(title, update, *numbers))
plots.show(fig, "GTPO minus GRPO, eight pupils. " + "; ".join(words), "Eight paired differences, their mean and its 95 % interval. " + "; ".join(words) + ".")
over = 100 * (measured("gtpo", "success") - measured("grpo", "success")).mean()
print("right answers, mean over the forty updates: {:+.1f} points [{:+.1f}, {:+.1f}]".format(*stats.t_interval(over.to_numpy())[:3]))

# %% [markdown]
# Malformed turns fall sooner with GTPO, beyond doubt. Right answers come somewhat sooner; that there are more of them in the end,
# these eight do not show. And *all of it was run on a model of 107 thousand weights that does arithmetic in tags*. Whether a
# model of four billion that writes programs behaves likewise is a question, not a conclusion; the paper's own report is a gain of
# 3.0 % on mathematics and of 3.9 % on reasoning and programs (Ding et al., 2025). If you run it at full size, run it in pairs,
# several of them, and let chapter 21 tell you how many.
#
# ## 5 Katas: programs, with Python at hand
#
# The second task of the capstone is for models that can read. A kata is a small programming problem in English; over a few turns
# the model may run Python in the sandbox and look things up in its documentation; then it answers with a program, and hidden
# tests decide (chapter 15). Where your machine has nothing to contain a foreign program with, the cells of this section say so
# and run none.

# %%
try:
    contained = str(sandbox.best())
except sandbox.Unavailable as why:
    contained = ""
    print(why)
katas = tasks.get("tool_katas")
problem = katas.problem(4)
print(problem.prompt[:330], "...", sep="")
if contained:
    played = tasks.play(katas, problem, katas.gold(problem))
    for number, text in enumerate(played.transcript):
        print(f"{'the tool' if number % 2 else 'the model'} | {text[:300]}")
    print("outcome", played.outcome)

# %% [markdown]
# What played there was a script, not a model: the right answer, by hand. **Before a model sees a task, scripts should.** A right
# answer must earn 1, doing nothing 0, and so must everything that only *looks* like an answer: what a script can get for nothing,
# a model will get for nothing, too, and will find sooner than you (chapter 14).

# %%
single = tasks.get("katas")


def by_heart(problem):
    """A program that knows the public tests, and nothing else."""
    cases = single.kata(problem).public.cases
    answers = {repr(case.arguments): case.expected for case in cases}
    return f"def {cases[0].function}(*given):\n    return {answers!r}.get(repr(given))"


SCRIPTS = {
    "the right answer": lambda p: p.answer,
    "nothing": lambda p: "",
    "looks right": lambda p: single.kata(p).wrong,
    "knows the examples": by_heart,
    "never ends": lambda p: "while True: pass",
    "leaves early": lambda p: "raise SystemExit(0)",
    "prints success": lambda p: "print('all tests passed')",
    "calls out": lambda p: "import socket\nsocket.create_connection(('127.0.0.1', 80))",
}


# %%
def paid(script, problems):
    """What a script earns with each of the problems, and what the judge says of it."""
    verdicts = [tasks.code.judged(script(p), single.kata(p).hidden) for p in problems]
    return [v.reward for v in verdicts], verdicts[0]


if contained:
    tried = [single.problem(number) for number in range(3)]
    print(f"contained by {contained}")
    table = {name: paid(script, tried) for name, script in SCRIPTS.items()}
    for name, (rewards, verdict) in table.items():
        print(f"{name:20} earns {np.mean(rewards):.2f}   {verdict.verdict.value}: {verdict.message}"[:110])
    assert np.mean(table["the right answer"][0]) == 1 and not any(np.sum(r) for name, (r, _) in table.items() if name != "the right answer")

# %% [markdown]
# The right answer earns 1, and nothing else earns anything. That includes the program which is nearly right and the one that
# knows the examples: the hidden tests are others. And the loop, the early exit and the call to the outside are stopped without
# doing harm. The task is fit to be trained on. (Three problems here; the tests of this repository play all of them.)
#
# ### And a tiny model?
#
# Honestly: it cannot do it. It has never read an English sentence; the prompt is fifteen hundred characters that mean nothing to
# it. But the *machinery* does not know that, and it is worth seeing what it makes of somebody who knows nothing. Four problems,
# four attempts each, by an untrained model.

# %%
if contained:
    stranger = models.tiny("0.1m", seed=0)
    stranger.model.config.max_position_embeddings = 4096  # rotary positions need no weights
    short = tasks.get("tool_katas", turns=3, max_tokens=48)
    tried = [short.problem(number) for number in range(4)]
    drawn = sample.rollout(sample.LocalEngine(stranger), short, stranger.tokenizer, tried, group_size=4, seed=0)
    said = models.decode(stranger.tokenizer, drawn.tokens[0, drawn.prompt_length[0] : drawn.length[0]].tolist())
    print("one of its attempts:", repr(said))
    print("right:", int(drawn.outcome.sum()), "of", len(drawn), "  ended:", {w.name: int((drawn.stop == w).sum()) for w in wb.Stop})
    for recipe in (GRPO, GTPO):
        prepared = objective.prepare(recipe, drawn)
        print(f"{recipe.name}: {objective.dead(prepared):.0%} of the groups are dead")

# %% [markdown]
# Every group is dead for GRPO: sixteen failures, all alike; no gradient, for as long as you care to wait (chapter 11). GTPO has
# something to say all the same. Some attempts ended their first turn without calling a tool, which costs 0.1, and others did not
# end it at all: a difference *within* a group, and so a gradient. What would be learned from it is the manners of the thing, to
# end a turn and to call a tool. That is not nothing, and it is not programming. Credit by turns can teach the form where nothing
# succeeds; *content has to succeed now and then* before any of these methods can make more of it. That is why real runs start
# from a model that can already do a little, or from demonstrations.
#
# At full size it would be this, once for each recipe:

# %%
if FULL and contained:
    for recipe in (GTPO, GRPO):
        full(KATAS_PLAN, recipe, Path("runs") / f"{recipe.name}-katas")
else:
    print("not run: it needs a GPU, TRL, a sandbox, and a model named at the top.")

# %% [markdown]
# ## What was left out, and what was not done
#
# - *A run at full size.* None was made. The plan of section 1 is written out and its cell has been run with a tiny stand-in;
#   memory, hours and results on a GPU are predictions from counting, and no more.
# - *The papers' models and data.* GTPO's authors train language models of several billion weights on mathematics with an
#   interpreter; their prompts, their stage of supervised lessons and parts of their loss we could not read, and the recipe says
#   where we had to choose.
# - *Speed on a GPU*: sampling and training at the same time, dialogues that are a step older than the weights, weights spread
#   over several cards. vLLM and accelerate can; we have not measured it.
# - *Reasoning at length.* A dialogue of 3,000 tokens is short by today's standards; what breaks after ten turns is chapter 18's
#   subject.
#
# ## Where this returns
#
# Chapter 21 closes the course with the question that this chapter left open on purpose: you have a plan, a task that scripts have
# tried, and two methods. How many runs, and what may you say after them?
#
# ## Further reading
#
# - Y. Ding et al., *Empowering Multi-Turn Tool-Integrated Reasoning with Group Turn Policy Optimization* (GTPO), [arXiv
#   2511.14846](https://arxiv.org/abs/2511.14846).
# - Z. Shao et al., *DeepSeekMath* (GRPO), [arXiv 2402.03300](https://arxiv.org/abs/2402.03300).
# - V. Korthikanti et al., *Reducing activation recomputation in large transformer models* (what a backward pass keeps), [arXiv
#   2205.05198](https://arxiv.org/abs/2205.05198).
# - J. Kaplan et al., *Scaling laws for neural language models* (six operations for each weight and token of training), [arXiv
#   2001.08361](https://arxiv.org/abs/2001.08361).
# - J. Feng et al., *ReTool* (a code interpreter in the loop), [arXiv 2504.11536](https://arxiv.org/abs/2504.11536).
