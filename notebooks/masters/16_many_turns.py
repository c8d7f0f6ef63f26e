# %% [markdown]
# # 16 · Many turns: from GRPO to GTPO
#
# **The question.** A dialogue of five turns ends well. Which turn deserved it?
#
# **You will be able to**
# - give each turn of a dialogue a credit of its own, by hand and with the package: turn rewards, discounted returns, comparison;
# - say which tokens may be credited, and show what happens to a model that is trained on its tool's words;
# - recognise two ways of comparing turns that are biased against early turns, or in favour of late ones;
# - explain why text that is decoded and encoded again breaks a policy gradient before the first update;
# - read an ablation with intervals, and name the conditions under which credit by turns pays.
#
# **Time.** 90 minutes of yours, about half a minute of the computer's.
#
# **You need.** GRPO as in chapter 11 (groups, advantages, the mask), and chapter 09's warning about standard deviations.

# %%
import itertools
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from ipywidgets import FloatSlider, SelectionSlider

import workbench as wb
from workbench import models, objective, plots, recipes, sample, stats, tasks
from workbench.batch import Batch, Dialogue, Segment, Stop
from workbench.course import check

plots.style()
data = Path(wb.__file__).parents[1] / "data"

# %% [markdown]
# ## Four dialogues
#
# The task is `calculator`. A question such as `37*45=` cannot be done in the head of a small model, but it may call a tool:
# it writes `<T>37*45</T>` and ends its turn with `<E>`; the environment answers `<R>665</R>` (results are taken modulo 1000); then it is
# the model's turn again. A turn without a tool tag is the final answer. A turn with a tool tag that is not exactly one good call
# is **malformed**: the tool answers `!`, and the model may try again.
#
# Here is a group of four dialogues about the same question, written by hand so that everything can be worked out on paper. They
# are played by the real task: what it says of each turn, and of the end, is its own verdict.

# %%
tokenizer = models.make_tokenizer()
task = tasks.get("calculator")
problem = tasks.Problem("37*45=", "665", (("37*45", "665"),))
SAID = {
    "A": ["<T>37*45</T>", "665"],  # right
    "B": ["<T>37*45</T>", "<T>37*45", "665"],  # right, after a second look that went wrong
    "C": ["37*45</T>", "615"],  # a malformed call, then a guess
    "D": ["<T>37*46</T>", "<T>37*46</T>", "702"],  # well-formed calls, of the wrong thing
}


# %%
def played(texts):
    """One dialogue, token by token: what the policy says is marked as its own, what the tool says is not."""
    episode, dialogue = task.episode(problem), Dialogue(models.prompt_ids(tokenizer, problem.prompt), 0)
    for text in texts:
        ids = [*models.encode(tokenizer, text), tokenizer.eos_token_id]
        dialogue.segments.append(Segment(ids, [0.0] * len(ids)))  # 0: nobody sampled these, so no log-probability
        reply = episode.step(text)
        dialogue.rewards.append(reply.reward)
        if reply.done:
            dialogue.stop, dialogue.outcome = Stop.DONE, reply.outcome
        else:
            dialogue.segments.append(Segment(models.reply_ids(tokenizer, reply.text)))
    return dialogue


four = Batch.from_dialogues([played(texts) for texts in SAID.values()])
print("outcome", four.outcome.tolist(), " what the task said of each turn", four.rewards.tolist())

# %% [markdown]
# And here is how three methods share out the credit. Blue tokens are pushed up, orange ones down; grey ones were not chosen by the model.
# **Change the method** with the buttons, or put the focus on a token (click it, or press Tab) and press M: the dialogues stay the same,
# the credit moves. C changes what paints the tokens, the arrows walk, and below stands what every method thinks of this very token.

# %%
paper = {"eps": 1e-6, "ddof": 0}  # divide variances by n, as one does on paper
by_turn = (objective.outcome(), objective.turn_penalty(penalty=0.1))
GRPO = recipes.grpo.but("grpo", advantage=objective.episode_advantage(**paper))
GRPO_MIN = GRPO.but("grpo-min", reward=objective.gated_outcome())
GTPO = GRPO.but("gtpo", reward=by_turn, advantage=objective.turn_returns(gamma=0.9, floor=0.0, **paper))
viewer = recipes.credit_view(four, tokenizer, [GRPO, GRPO_MIN, GTPO])
for name, dialogue in zip(SAID, viewer.dialogues):
    dialogue["name"] = f"dialogue {name}"
viewer

# %% [markdown]
# Look at dialogue B. It is *right*, with one malformed call on the way.
# - `grpo` knows only the end: B is as good as A, and its malformed call is pushed up like everything else in it.
# - `grpo-min` takes the lower of two marks, correctness and form: one malformed call, and the whole dialogue counts 0. Now B is pushed
#   *down* like a wrong one, its right answer included. (That is the rule the authors of GTPO give their GRPO, as far as we could read.)
# - `gtpo` pushes B up, less than A, and the malformed turn least.
#
# GTPO (Ding et al., 2025) is three ideas on top of GRPO. Rewards for *turns*; *returns*, so that a turn answers for what came after it;
# and partial credit for failures that resemble a success. We build the first two by hand.
#
# ## 1 What a turn brings home
#
# Turn $j$ of a dialogue has a reward $r_j$: here 1 on the last turn if the answer is right, and $-0.1$ on each turn that is
# malformed. But a first call is not worth its own reward, which is 0; it is worth what it leads to. So we add up what comes after it,
# and let it count less the further away it is:
#
# $$R_j = r_j + \gamma\, r_{j+1} + \gamma^2 r_{j+2} + \dots = r_j + \gamma\, R_{j+1}.$$
#
# $\gamma$ is between 0 and 1, here 0.9; it is *per turn*, not per token.
#
# ## Exercise 1: turn returns · ●●○○○ · 10 min
#
# Work out B's three returns on paper first, from $r = (0, -0.1, 1)$.

# %%
def turn_returns(rewards, gamma):
    """rewards [U] of the turns of one dialogue -> returns [U]."""
    # solution
    returns, running = np.zeros(len(rewards)), 0.0
    for j in reversed(range(len(rewards))):
        running = rewards[j] + gamma * running
        returns[j] = running
    return returns
    # end solution
    # stub: return None  # your code here (about five lines)


# %%
returns_of = check("16.turn_returns", turn_returns).function
REWARDS = {"A": [0, 1], "B": [0, -0.1, 1], "C": [-0.1, 0], "D": [0, 0, 0]}
for name, rewards in REWARDS.items():
    print(name, "rewards", rewards, " returns", returns_of(np.array(rewards, float), 0.9).round(3))

# %% [markdown]
# The malformed turn of B still has a return of 0.8: it was followed by a right answer. Compare it with A's second turn, 1.0, and you see
# all that it is blamed for.
#
# ## 2 On which tokens?
#
# The policy acts by turns, but it is trained by tokens. A whole turn is *one* action, so all its tokens carry its credit: the
# opening tag, each digit, and the end token. The prompt and the tool's reply are nobody's action. A reply belongs to the turn that it
# answers (that is what `turn` says), yet the policy did not write it, and that is what `mask` says.
#
# ## Exercise 2: credit on tokens · ●●○○○ · 10 min

# %%
def on_tokens(value, turn, mask):
    """value [U] of each turn, turn [T] of each token (-1: prompt), mask [T] bool (sampled by the policy) -> credit [T]."""
    # solution
    return np.where(mask, value[np.maximum(turn, 0)], 0.0)
    # end solution
    # stub: return None  # your code here (one or two lines)


# %%
tokens_of = check("16.on_tokens", on_tokens).function
one = four.select([1])  # dialogue B
spread = tokens_of(np.array([0.72, 0.8, 1.0]), one.turn[0].numpy(), one.mask[0].numpy())
letters = [models.decode(tokenizer, [token]) for token in one.tokens[0].tolist()]
plots.tokens([letters], [spread], mask=one.mask.tolist(), names=["dialogue B"], label="return", limit=1)

# %% [markdown]
# ## 3 Compared with whom?
#
# In chapter 11 an answer was compared with the other answers of its group. What should a *turn* be compared with? A return of 0.72 is
# the best that a first turn of a three-turn dialogue can have, and a poor one for a last turn. So, like with like: **compare turn $j$ with the
# turns $j$ of the other dialogues of the group**, those that have one,
#
# $$A_{i,j} = \frac{R_{i,j} - \mathrm{mean}_j}{\mathrm{std}_j + \varepsilon}.$$
#
# A turn that only one dialogue has is compared with nothing, and gets 0.
#
# (We could not read in the paper over which set its mean and standard deviation run. Three readings are in use, and the package
# has them all: this one, `pool="turn"`; `"flat"`, all turns of the group in one pool; `"r0"`, the first turns' mean and deviation for
# every turn. Section 4 shows why it matters.)
#
# ## Exercise 3: like with like · ●●●○○ · 15 min

# %%
def same_turn(returns):
    """returns [B,U] of a group, nan where a dialogue has no such turn -> advantages [B,U], 0 there and where alone."""
    # solution
    advantage = np.zeros_like(returns)
    for j in range(returns.shape[1]):
        there = ~np.isnan(returns[:, j])
        if there.sum() > 1:
            column = returns[there, j]
            advantage[there, j] = (column - column.mean()) / (column.std() + 1e-6)
    return advantage
    # end solution
    # stub: return None  # your code here (about six lines)


# %%
compared_of = check("16.same_turn", same_turn).function

# %% [markdown]
# Put the three pieces together, and compare with the package on the four dialogues.

# %%
table = np.full((4, 3), np.nan)
for i, rewards in enumerate(REWARDS.values()):
    table[i, : len(rewards)] = returns_of(np.array(rewards, float), 0.9)
by_hand = compared_of(table)
theirs = objective.prepare(GTPO, four).advantage.numpy()
mine = np.stack([tokens_of(value, *pair) for value, *pair in zip(by_hand, four.turn.numpy(), four.mask.numpy())])
assert np.allclose(mine, theirs, atol=1e-5)
credits = {recipe.name: objective.prepare(recipe, four).advantage for recipe in (GRPO, GRPO_MIN)}
for i, name in enumerate(SAID):
    turns = by_hand[i][~np.isnan(table[i])]
    others = "   ".join(f"{method} {value[i].abs().max() * value[i].sum().sign():+.3f}" for method, value in credits.items())
    print(f"{name}   {others}   by turns", "  ".join(f"{value:+.3f}" for value in turns))

# %% [markdown]
# Yours and the package's agree on every token. There is the line this chapter began with: **B, right with one malformed call, gets −0.577
# from GRPO with the strict reward, and +0.780, +0.768, +1.000 from turn-level credit.**
#
# ## 4 The wrong neighbours
#
# Now the pooled readings. Take a policy that does nothing wrong at any particular place: its dialogues have two to five turns, whatever
# happens, and end well half the time, by coin flip. No turn deserves more than another. What does each reading say, on average, of a
# first turn, a second, a third?

# %%
def coin_flips(groups=4000, size=8, gamma=0.9, seed=0):
    """Returns [groups,size,5], nan after the end: lengths 2 to 5 and successes drawn without regard to anything."""
    rng = wb.seeding.generator(seed, "coin flips")
    length = rng.integers(2, 6, (groups, size, 1))
    success = rng.integers(0, 2, (groups, size, 1))
    to_go = length - 1 - np.arange(5)
    return np.where(to_go >= 0, success * gamma ** np.maximum(to_go, 0), np.nan)


def standardised(returns, axes, of=None):
    """Minus mean, over standard deviation, of the pool `of` along `axes`; where nothing varies, 0."""
    of = returns if of is None else of
    count = np.maximum(np.isfinite(of).sum(axes, keepdims=True), 1)
    mean = np.nansum(of, axes, keepdims=True) / count
    std = np.sqrt(np.nansum((of - mean) ** 2, axes, keepdims=True) / count)
    return np.where(std > 1e-9, (returns - mean) / np.maximum(std, 1e-9), 0 * returns)


# %%
def draw(gamma=0.9):
    returns = coin_flips(gamma=gamma)
    returns = returns[:, :, np.isfinite(returns).sum((0, 1)) > 0]
    readings = {
        "turn": standardised(returns, 1),
        "flat": standardised(returns, (1, 2)),
        "r0": standardised(returns, 1, returns[:, :, :1]),
    }
    fig, ax = plt.subplots(figsize=(7, 3.6))
    words = []
    for (name, value), marker in zip(readings.items(), plots.MARKERS):
        mean = np.nanmean(value, (0, 1))
        ax.plot(range(1, 6), mean, marker=marker, label=f"pool = {name!r}")
        words.append(f"{name}: " + ", ".join(f"{m:+.2f}" for m in mean))
    ax.axhline(0, color="#777777", linewidth=1, linestyle=":")
    ax.set(xlabel="turn", ylabel="mean advantage", xticks=range(1, 6), title="What a turn gets for its place alone")
    ax.legend(loc="upper left")
    alt = f"Mean advantage of turns 1 to 5 at gamma {gamma}. " + "; ".join(words)
    plots.show(fig, alt, "Nothing in these dialogues depends on the turn. " + "; ".join(words))


plots.play(draw, gamma=FloatSlider(value=0.9, min=0.5, max=1.0, step=0.1))

# %% [markdown]
# Like with like gives every turn 0 on average, whatever $\gamma$ is. The flat pool gives first turns less and last turns more, *because of
# the discount alone*: early returns are small, and the pool cannot know why. To the optimiser it says: whatever you say first, say it
# less often. And `r0` flatters late turns: they are measured against first turns. Move $\gamma$ to 1, where nothing is discounted: the
# bias goes, and so does what the discount was for, a preference for short ways.
#
# It is at its worst where everything went well. Four right dialogues of 2, 3, 2 and 4 turns: GRPO sees no difference and gives 0
# everywhere. The flat pool, on the longest of them:

# %%
lengths = [2, 3, 2, 4]
good = np.full((4, 4), np.nan)
for i, length in enumerate(lengths):
    good[i, :length] = 0.9 ** np.arange(length)[::-1]
flat = (good - np.nanmean(good)) / np.nanstd(good)
print("flat pool, dialogue of four turns:", flat[3].round(3))
print("like with like, same dialogue:    ", compared_of(good)[3].round(3))
print("like with like, of two turns:     ", compared_of(good)[0][:2].round(3))

# %% [markdown]
# The flat pool pushes the first call of a flawless dialogue down by two standard deviations. Like with like says something
# sensible, and yet look twice: with everything right, *all* it says is "shorter". That is the discount at work, and nothing else is left
# to drown it. Keep it in mind for tasks in which a careful extra call is worth its turn.
#
# ## 5 How loud is a small mistake?
#
# The other half of the formula is the division. A malformed call costs 0.1, a wrong answer 1: a small sin and a large one. But take a group
# in which *everybody* failed, early in training. The only differences left are the penalties; the standard deviation is tiny, and the
# division blows the small sin up to full size. (Chapter 09's "tidy" answer, back again.) A **floor** under the standard deviation stops
# that: divide by $\max(\mathrm{std}, \mathrm{floor})$.
#
# ## Exercise 4: blown up · ●●○○○ · 10 min
#
# All `size` dialogues of a group fail. In their last turn, `bad` of them make a malformed call, which costs `penalty`; the others' last turn is
# well-formed, and costs nothing. What is the advantage of a malformed turn? (Leave $\varepsilon$ out. The standard deviation of a group
# in which a share $s$ has the value $-p$ and the rest 0 is $p\sqrt{s(1-s)}$.)

# %%
def blown_up(bad, size, penalty, floor):
    """The advantage of a malformed last turn, a number."""
    # solution
    share = bad / size
    std = penalty * np.sqrt(share * (1 - share))
    return -penalty * (1 - share) / max(std, floor)
    # end solution
    # stub: return None  # your code here (about three lines)


# %%
loudness = check("16.blown_up", blown_up).function
fig, ax = plt.subplots(figsize=(7, 3.4))
bad = np.arange(1, 8)
for floor, marker in zip((0.0, 0.05, 0.3), plots.MARKERS):
    ax.plot(bad, [loudness(k, 8, 0.1, floor) for k in bad], marker=marker, label=f"floor {floor:g}")
ax.axhline(-1 / np.sqrt(7), color="#777777", linestyle=":", linewidth=1, label="a wrong answer, 1 of 8 right")
ax.set(xlabel="how many of the 8 failures made a malformed call", ylabel="advantage of a malformed turn")
ax.set_title("The same 0.1, three floors")
ax.legend(loc="lower right")
loud = [loudness(k, 8, 0.1, f) for f in (0.0, 0.05, 0.3) for k in (1, 4)]
plots.show(
    fig,
    alt=f"Without a floor one malformed call among eight failures gets {loud[0]:.2f}, four get {loud[1]:.2f}; with floor 0.05 "
    f"{loud[2]:.2f} and {loud[3]:.2f}; with floor 0.3 {loud[4]:.2f} and {loud[5]:.2f}.",
    caption="The penalty is 0.1 in all three. Dotted: what a wrong answer gets in a group with one right one.",
)

# %% [markdown]
# Without a floor the penalty could be 0.001 with the same result. The package's `gtpo` has a floor of 0.3; section 10 asks whether that matters.
#
# ## 6 Train on what the tool said?
#
# What if we forget the mask? It is an easy mistake: the tool's words stand in the same row of ids, and a training loop that computes
# its loss over "everything after the prompt" runs without complaint. Let us make it on purpose, with a pupil who has learned to call the
# calculator, and then saw careless demonstrations: every second call was first made malformed, and half of them ended in a wrong answer.
#
# First in supervised lessons. A driver should stop the model at its end token and let the tool speak. What does the pupil do if *nobody
# stops it* after a call? Will it wait for the tool?

# %%
pupil = models.load(data / "calculator_pupil")
tokenizer = pupil.tokenizer


def invents(policy, problems=96):
    """Share of calls after which the policy, if nobody stops it, writes the tool's reply itself."""
    asked = [task.problem(i, split="test") for i in range(problems)]
    session = sample.LocalEngine(policy).start([models.prompt_ids(tokenizer, p.prompt) for p in asked], seed=1)
    stop = {"temperature": 1.0, "top_p": 1.0, "top_k": 0}
    calls = session.sample(list(range(problems)), max_tokens=12, stop=[tokenizer.eos_token_id], **stop)
    rows = [i for i, call in enumerate(calls) if call.stopped and "<T>" in models.decode(tokenizer, call.ids)]
    close = tokenizer.convert_tokens_to_ids("</R>")
    went_on = session.sample(rows, max_tokens=6, stop=[close], **stop)
    said = [models.decode(tokenizer, more.ids) for more in went_on]
    return np.mean([text.startswith("<R>") and text.endswith("</R>") for text in said]), said


rate, said = invents(pupil)
print(f"invented replies: {rate:.0%}; for instance", said[:3])

# %%
def everything(batch):
    """The same batch with the mask of somebody who forgot it: all that follows the prompt."""
    place = torch.arange(batch.tokens.shape[1])
    return batch.replace(mask=(place < batch.length[:, None]) & (place >= batch.prompt_length[:, None]))


def lessons(policy, mask_of, steps=20, seed=4):
    """Supervised lessons from flawless demonstrations, 32 a step."""
    optimiser = torch.optim.AdamW(policy.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0)
    for step in range(steps):
        rng = wb.seeding.generator(seed, "lessons", step)
        shown = [task.problem(32 * step + i, seed=seed) for i in range(32)]
        spoken = [(p.prompt, task.demonstration(p, rng), tokenizer) for p in shown]
        batch = mask_of(Batch.from_dialogues([sample.encode_demonstration(*one, group=i) for i, one in enumerate(spoken)]))
        loss = -policy.evaluate(batch).logp.sum() / batch.mask.sum()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimiser.step()
    return policy


rate, said = invents(lessons(pupil.copy(), everything))
print(f"after 20 lessons without a mask, invented replies: {rate:.0%}; for instance", said[:4])

# %% [markdown]
# It has learned to play the tool. With a driver that stops it in time this does no visible harm; with one that does not (a stop string
# that the tokenizer splits differently, a template with another end token), it will quote results that no tool ever returned. With the
# mask on it is never trained on what follows its end token, and does not do it.
#
# In reinforcement learning it does harm even with a driver that is right. Take one batch of rollouts, and look at the gradient of GRPO: of
# the pupil's own tokens, and of the tool's.

# %%
asked = [task.problem(number, seed=7) for number in range(16)]
batch = sample.rollout(sample.LocalEngine(pupil), task, tokenizer, asked, group_size=8, seed=0)
wide = everything(batch)
with torch.no_grad():
    wide = wide.replace(logp_old=torch.where(wide.mask, pupil.evaluate(wide).logp.clamp(max=0), 0))
prepared = objective.prepare(recipes.grpo, wide)
probe = pupil.copy()


def gradient(tokens):
    """Of the objective summed over some of the tokens [B,T], all parameters in a row."""
    probe.zero_grad()
    logp = probe.evaluate(wide).logp
    (prepared.coefficient * prepared.advantage * (logp - wide.logp_old).exp())[tokens].sum().backward()
    return torch.cat([p.grad.flatten() for p in probe.parameters()])


# %%
foreign = wide.mask & ~batch.mask
own, tools = gradient(batch.mask), gradient(foreign)
print(f"the tool's tokens are {foreign.sum() / wide.mask.sum():.0%} of all")
print(f"their gradient is {tools.norm() / own.norm():.1f} times as long as that of the pupil's own")
print(f"the cosine between the two is {torch.nn.functional.cosine_similarity(own, tools, 0):+.2f}")
for name, tokens in (("own", batch.mask), ("the tool's", foreign)):
    print(f"mean log-probability of {name} tokens: {wide.logp_old[tokens].mean():.2f}")

# %% [markdown]
# A third of the tokens, with a gradient *longer* than that of all the rest, and nearly at a right angle to it: noise, as far as the pupil is
# concerned. Nor could it be anything else. The digits of a product are just what the pupil cannot know; that is why it asks. They are
# improbable, and improbable tokens have long gradients. "Make them likelier, the dialogue ended well" teaches nothing that could be learned,
# and the clipping of the gradient's length sees to it that the useful part shrinks with the rest.
#
# What comes of it? The recorded runs below (`python data/unmasked.py`) start from this pupil, with eight seeds each: GRPO as it should be,
# and with the mask off; and the lessons from before.

# %%
record = json.loads((data / "unmasked.json").read_text())
unmasked = pd.DataFrame(record["rows"])


def runs_of(kind, masked, measure):
    """[seeds, looks] and the updates at which we looked."""
    chosen = unmasked[(unmasked["kind"] == kind) & (unmasked["mask"] == masked)]
    wide = chosen.pivot(index="seed", columns="update", values=measure)
    return wide.to_numpy(), list(wide.columns)


# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3.4))
panels = (("grpo", "success", "GRPO: right answers"), ("lessons", "invented", "lessons: invented replies"))
words = []
for ax, (kind, measure, title) in zip(axes, panels):
    for number, (masked, label) in enumerate(((True, "mask on"), (False, "mask off"))):
        runs, steps = runs_of(kind, masked, measure)
        found = stats.t_interval(runs.T)
        look = {"color": plots.COLORS[number], "label": label}
        ax.plot(steps, found.estimate, marker=plots.MARKERS[number], **look)
        ax.fill_between(steps, found.low, found.high, color=plots.COLORS[number], alpha=0.2, linewidth=0)
        low, high = max(found.low[-1], 0), found.high[-1]
        words.append(f"{title}, {label}, {found.estimate[-1]:.2f} [{low:.2f}, {high:.2f}]")
    ax.set(title=title, xlabel="updates", ylabel="share", ylim=(-0.02, 1), xticks=steps)
axes[0].legend(loc="upper left")
words = "At the end (means of eight seeds, 95 % intervals): " + "; ".join(words) + "."
plots.show(fig, "Learning curves with the mask on and off. " + words, words)

# %% [markdown]
# With the mask on, ten updates of GRPO take the pupil from 30 right answers in a hundred to 47. With the mask off they achieve nothing: the same
# task, the same rewards, and it stands where it stood. And twenty lessons without a mask are enough for it to invent more than half of the replies
# if it is let. The mask is no bookkeeping.
#
# ## 7 Never go back to text
#
# One more thing can go wrong with tokens, and it needs no mistake in a formula. The episode is a list of *ids*. To show a turn to the tool, it is
# decoded to text. It is tempting to go on from the text: put the conversation together as a string, and encode it again for the next turn,
# or for training. Does it come back as the same ids?
#
# A toy tokenizer: five signs, and two **merges**, `12` and `21`, which are tokens of their own.

# %%
TEXTS, MERGES = ["1", "2", "12", "21", "+", "=", "<E>"], [("1", "2"), ("2", "1")]


def toy_encode(text):
    """Byte-pair encoding: the first merge wherever it can be done, then the second."""
    pieces = text.replace("<E>", "E")
    pieces = ["<E>" if piece == "E" else piece for piece in pieces]
    for a, b in MERGES:
        merged = []
        for piece in pieces:
            if merged and (merged[-1], piece) == (a, b):
                merged[-1] = a + b
            else:
                merged.append(piece)
        pieces = merged
    return [TEXTS.index(piece) for piece in pieces]


def toy_decode(ids):
    return "".join(TEXTS[i] for i in ids)


sampled = [0, 1, 0, 4, 1, 0, 6]
print("sampled ids      ", sampled, "=", toy_decode(sampled))
print("encoded again    ", toy_encode(toy_decode(sampled)))

# %% [markdown]
# Same text, other ids, and another number of them. A policy that samples tokens may spell the text `12` in two ways; an encoder
# always chooses one. What the importance ratio compares is then the probability of ids that nobody sampled. Here with a policy that is
# a table: the probability of each token given the one before it.

# %%
rng = wb.seeding.generator(0, "toy policy")
policy = np.exp(rng.normal(0, 0.5, (7, 7)))
policy /= policy.sum(1, keepdims=True)


def chances(ids):
    """Probability of each token given the one before (the turn begins after '=')."""
    return [policy[before, now] for before, now in zip([5, *ids[:-1]], ids)]


again = toy_encode(toy_decode(sampled))
rows = [sampled, again]
plots.tokens(
    [[TEXTS[i] for i in ids] for ids in rows], [chances(ids) for ids in rows],
    names=["sampled", "encoded again"], label="probability", limit=1,
)
ratio = np.prod(chances(again)) / np.prod(chances(sampled))
print(f"nothing has been trained yet, and the 'ratio' of this turn is {ratio:.2f}; it should be 1")

# %%
share = []
for length in range(1, 8):
    turns = [list(ids) for ids in itertools.product(range(5), repeat=length)]
    share.append(np.mean([toy_encode(toy_decode(ids)) == ids for ids in turns]))
fig, ax = plt.subplots(figsize=(6.5, 3))
ax.plot(range(1, 8), share, marker="o")
ax.set(xlabel="tokens in the turn", ylabel="share that comes back unchanged", ylim=(0, 1.02))
ax.set_title("Decode, encode: how many turns survive")
alt = "All turns over five tokens, enumerated. Share that comes back as the same ids: "
alt += ", ".join(f"{s:.2f} of {n + 1} tokens" for n, s in enumerate(share))
plots.show(fig, alt, "Two merges are enough. Every turn of each length was tried, all alike likely.")

# %% [markdown]
# A trained model spells most words the usual way, so the share is far better than here; but a long dialogue gives it many chances,
# and one is enough to shift every position behind it. The remedy costs nothing: **only ever append ids**.
#
# ## Exercise 5: the next prompt · ●○○○○ · 5 min
#
# The model has been shown `prompt` and has sampled the ids `sampled`; the tool answers with a text. What does the model see next? (Use
# `toy_encode`.)

# %%
def next_prompt(prompt, sampled, reply):
    """prompt, sampled: lists of ids; reply: a text -> the list of ids that the next turn is sampled from."""
    # solution
    return [*prompt, *sampled, *toy_encode(reply)]
    # end solution
    # stub: return None  # your code here (one line)


# %%
prompt_of = check("16.next_prompt", next_prompt).function
print(prompt_of(toy_encode("12+21="), sampled, "=12"))

# %% [markdown]
# That is how `workbench.sample.rollout` builds a dialogue, and how the four dialogues above were made; and it is why the ratio of the first
# update is 1, which is the first thing to check in anybody's training loop.
#
# ## 8 Live
#
# Now train. The package's `gtpo` is what you built, with a floor of 0.3, and with the third idea: a failed dialogue gets partial credit for
# resembling the successes of its group. Watch three curves: right answers, malformed turns, turns a dialogue.

# %%
student = pupil.copy()
live = plots.LivePanel({"success": "right answers", "malformed": "malformed turns", "turns": "turns"}, limits={"malformed": (0, 1)})
records = []
for step in live.watch(wb.train(student, task, "gtpo", steps=20, seed=0)):
    records.append(step)

# %% [markdown]
# Eight fresh dialogues about one question, by the pupil *before* this training. `ratio` compares the student with it, token by token: what
# has become more likely (blue), what less (orange)? `entropy` shows where the pupil was unsure. Step through the eight with Shift and an arrow.

# %%
question = [task.problem(number, split="test") for number in range(24)]
drawn = sample.rollout(sample.LocalEngine(pupil), task, tokenizer, question, group_size=8, seed=0)
mixed = [g for g in range(24) if 2 <= drawn.outcome[drawn.group == g].sum() <= 6 and (drawn.rewards[drawn.group == g] < 0).any()]
group = drawn.select(drawn.group == mixed[0])
with torch.no_grad():
    before, after = pupil.evaluate(group), student.evaluate(group)
recipes.credit_view(
    group, tokenizer, [recipes.grpo, recipes.grpo.but("grpo-min", reward=objective.gated_outcome()), recipes.gtpo],
    logp=after.logp, entropy=before.entropy,
)

# %% [markdown]
# ## 9 The question: does it pay?
#
# One run shows nothing. The recorded study below (`python data/gtpo.py` remakes it) trains each method from the *same* eight pupils of different
# random starts, on the same prompts, so that methods can be compared pupil by pupil. (Pupils that answered fewer than one problem in ten
# after their lessons were left out before any method was run.) Besides GRPO with correctness alone (`grpo`), GRPO with the strict reward
# (`grpo-min`) and GTPO there is GTPO without each of its three parts: without turn rewards; without returns (one advantage for the whole
# dialogue); without the partial credit (`no-shaping`). And GTPO with a lower floor.
#
# Success moves all the time, so we take its mean over the looks, one every ten updates: higher means learning sooner, or further, or both.

# %%
record = json.loads((data / "gtpo.json").read_text())
frame = pd.DataFrame(record["rows"])
ARMS = ["grpo", "grpo-min", "gtpo", "gtpo-no-turn-rewards", "gtpo-no-returns", "gtpo-no-shaping", "gtpo-floor-.05"]
MAIN, LOOKS = "noise .5, slack 3", (10, 20, 30, 40)


def per_seed(condition, arm, measure="success", looks=LOOKS):
    """One number for each of the eight pupils [8]: the mean of `measure` over some looks, in hundredths."""
    chosen = frame[(frame["condition"] == condition) & (frame["arm"] == arm) & frame["update"].isin(looks)]
    return 100 * chosen.pivot(index="seed", columns="update", values=measure).mean(axis=1).to_numpy()


def against(base, condition, arm, measure="success", looks=LOOKS):
    """Difference from `base`, pupil by pupil: estimate, and the ends of its 95 % interval, in points."""
    return stats.paired_difference(*(per_seed(condition, name, measure, looks) for name in (arm, base)))


def arms_of(condition):
    return [arm for arm in ARMS if arm in set(frame[frame["condition"] == condition]["arm"])]


# %%
def table(condition):
    """Means and paired differences in points, one line an arm."""
    looks = [look for look in LOOKS if look in set(frame[frame["condition"] == condition]["update"])]
    last = looks[-1]
    print(f"{condition:22}{'success: mean':>15}{'minus grpo':>20}{'minus gtpo':>20}{f'at {last}':>7}   malformed at 10, {last}")
    for arm in arms_of(condition):
        gaps = ""
        for base in ("grpo", "gtpo"):
            gap = against(base, condition, arm, looks=looks)
            gaps += f"{gap.estimate:+6.1f} [{gap.low:+5.1f},{gap.high:+5.1f}]" if arm != base else f"{'':20}"
        measured = (("success", last), ("malformed", 10), ("malformed", last))
        end, soon, late = (per_seed(condition, arm, measure, [look]).mean() for measure, look in measured)
        print(f"{arm:22}{per_seed(condition, arm, looks=looks).mean():15.1f}{gaps}{end:7.1f}{soon:13.1f}{late:6.1f}")


table(MAIN)

# %%
panels = (("success", LOOKS, "success"), ("malformed", [10], "malformed turns, update 10"))
fig, axes = plt.subplots(1, 2, figsize=(9, 3.3), sharey=True)
words = []
for ax, (measure, looks, title) in zip(axes, panels):
    for place, arm in enumerate(ARMS[1:]):
        gap = against("grpo", MAIN, arm, measure, looks)
        kind = 0 if gap.low > 0 else 3 if gap.high < 0 else 5
        ax.plot([gap.low, gap.high], [place, place], color=plots.COLORS[kind], linestyle="-")
        ax.plot(gap.estimate, place, {0: "o", 3: "s", 5: "D"}[kind], color=plots.COLORS[kind])
        words.append(f"{title}, {arm}: {gap.estimate:+.1f} [{gap.low:+.1f}, {gap.high:+.1f}]")
    ax.axvline(0, color="#777777", linewidth=1, linestyle=":")
    ax.set(title=title, xlabel="minus grpo's (points)", yticks=range(6), yticklabels=ARMS[1:], ylim=(5.6, -0.6))
    ax.grid(axis="y", visible=False)
caption = "Means of eight paired differences, 95 % intervals. Circle: above zero; square: below; diamond: not decided."
plots.show(fig, "Differences from GRPO. " + "; ".join(words), caption)

# %% [markdown]
# Read it slowly, for it is not what one would like it to be.
#
# - *Malformed calls* go, and nobody need argue: after ten updates 7 turns in a hundred with GTPO, 16 with GRPO. What is blamed where it
#   happened is unlearned faster.
# - *Success*: GTPO is ahead by 2.7 points over the forty updates, and the interval is clear of zero. At update 40 it is ahead by less than one, and
#   the interval holds zero. It learns sooner; that it learns more, we have not seen.
# - *Which part does it?* Look at the column `minus gtpo`. Without turn rewards success is as good; without the partial credit as well; without
#   returns it is a point lower. No part is the secret, and what each does the others nearly make up for. Even malformed calls fall
#   faster than GRPO's when *nothing* is charged for them: a malformed call costs a turn, and the discount charges for turns.
# - *The strict reward*, which pushes a right dialogue down for one bad call, is not the villain it seemed at the start of this chapter. It
#   clears malformed calls away as fast as GTPO does, and what it costs in success (1.5 points against GTPO) is small. A group of eight has other right dialogues in it; they
#   carry what B is robbed of. The picture of four dialogues was true, and it was not the whole truth.
#
# (Six arms against one, two measures, intervals of 95 % each: of twenty such intervals one will miss by chance. Chapter 21 is about that.)
#
# ## 10 Where it pays: play with the map
#
# *Noise* is how often a call in the pupil's demonstrations was first made malformed. *Slack* is how many extra turns a dialogue has for
# trying again: with slack 0 a single malformed call in one of the longest chains is fatal. *Floor* is the floor under GTPO's standard deviation.
# Each square of the map is a comparison of its own, eight pupils against eight, over the first twenty updates. Move the sliders: the map
# follows the floor, the curves the square.

# %%
NOISE, SLACK, FLOOR = (".2", ".5"), (0, 1, 3), {"0.05": "gtpo-floor-.05", "0.3": "gtpo"}
MAP = plt.matplotlib.colors.LinearSegmentedColormap.from_list("map", ["#e9b86a", "#ffffff", "#6fb1d8"])


def draw_map(ax, arm, chosen):
    """The difference from grpo in each square; returns it in words."""
    picture, words = np.zeros((2, 3)), []
    for (y, noise), (x, slack) in itertools.product(enumerate(NOISE), enumerate(SLACK)):
        gap = against("grpo", f"noise {noise}, slack {slack}", arm, looks=(10, 20))
        verdict = "wins" if gap.low > 0 else "loses" if gap.high < 0 else "not decided"
        picture[y, x] = gap.estimate
        ax.text(x, y, f"{gap.estimate:+.1f}\n[{gap.low:+.1f}, {gap.high:+.1f}]\n{verdict}", ha="center", va="center", fontsize=9.5)
        words.append(f"noise {noise}, slack {slack}: {gap.estimate:+.1f} [{gap.low:+.1f}, {gap.high:+.1f}], {verdict}")
        if (noise, slack) == chosen:
            ax.add_patch(plt.Rectangle((x - 0.48, y - 0.48), 0.96, 0.96, fill=False, linewidth=2.5))
    ax.imshow(picture, cmap=MAP, vmin=-8, vmax=8, aspect="auto", origin="lower")
    ax.set(xticks=range(3), xticklabels=SLACK, yticks=range(2), yticklabels=["0.2", "0.5"], xlabel="slack (extra turns)", ylabel="noise")
    ax.grid(visible=False)
    return "; ".join(words)


# %%
def draw(noise=".5", slack=3, floor="0.3"):
    fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.6), width_ratios=(3, 2))
    words = draw_map(axes[0], FLOOR[floor], (noise, slack))
    axes[0].set_title(f"GTPO minus GRPO, floor {floor} (points of success)")
    for number, arm in enumerate(("grpo", FLOOR[floor])):
        chosen = frame[(frame["condition"] == f"noise {noise}, slack {slack}") & (frame["arm"] == arm)]
        wide = chosen.pivot(index="update", columns="seed", values="success")
        found = stats.t_interval(wide.to_numpy())
        axes[1].plot(wide.index, found.estimate, marker=plots.MARKERS[number], color=plots.COLORS[number], label=arm)
        axes[1].fill_between(wide.index, found.low, found.high, color=plots.COLORS[number], alpha=0.2, linewidth=0)
    axes[1].set(title=f"noise 0{noise}, slack {slack}", xlabel="updates", ylabel="success", ylim=(0, 1))
    axes[1].legend(loc="lower right")
    plots.show(fig, f"Map of the difference between GTPO with floor {floor} and GRPO. {words}.", "Blue: GTPO ahead. Orange: behind.")


def choose(options, value, name):
    return SelectionSlider(options=options, value=value, description=name)


plots.play(draw, noise=choose(NOISE, ".5", "noise"), slack=choose(SLACK, 3, "slack"), floor=choose(tuple(FLOOR), "0.3", "floor"))

# %% [markdown]
# In five of the six squares GTPO is ahead with the package's floor, by about three points over the first twenty updates; in the sixth the
# interval lies around zero; in none does it lose. With the low floor the map looks much the same, with fewer squares decided. Does the floor
# matter, then? And what sets the sixth square apart? Ask the numbers:

# %%
for noise, slack in itertools.product(NOISE, SLACK):
    condition, early = f"noise {noise}, slack {slack}", (10, 20)
    floors = against("gtpo-floor-.05", condition, "gtpo", looks=early)
    bad = per_seed(condition, "grpo", "malformed", [10]).mean()
    print(f"{condition}: floor 0.3 minus floor 0.05 {floors.estimate:+.1f} [{floors.low:+.1f}, {floors.high:+.1f}]", end="   ")
    print(f"malformed with grpo at update 10: {bad:.0f} in a hundred turns")

# %% [markdown]
# The two floors cannot be told apart in any square: all six intervals hold zero. The formula of exercise 4 is right, and what it warns of
# did not happen to these pupils. On average they are right more than a quarter of the time before the first update, so that few of their groups
# fail as a whole. With a pupil who fails nearly always it may be otherwise; try it (fewer lessons make one).
#
# The sixth square is the one with the fewest malformed calls: little noise, and with slack 0 the outcome itself punishes most of them. There
# is not much left for a finer credit to tell apart. Across the map the gain goes with how many malformed turns there are to get rid of. Six
# squares are no law, but that is the condition to look for in a task of yours before you hope for much: **mistakes that show in one turn,
# that are frequent, and that the outcome does not already punish.**
#
# That condition makes a prediction. On `repair`, where a formula is put right over several turns (chapter 17), hardly a turn is malformed: credit
# by turns should change nothing there. (One pupil for all eight runs this time; they differ in prompts and samples.)

# %%
table("repair")

# %% [markdown]
# A tie, and a narrow one: no arm is further than half a point from GRPO, and every interval holds zero.
#
# One more thing, in the right-hand panel of the map. The two bands lie on top of each other, and yet the difference is decided in most squares. The bands
# say how much *pupils* differ, and they differ a great deal; the difference is taken pupil by pupil, and of that they say nothing. Do not read
# a comparison off two overlapping bands.
#
# ## 11 Where else?
#
# Every square of the map is about malformed calls. Are there tasks in which credit by turns matters more: longer dialogues, tools that
# mislead, mistakes that show late? We looked for some. The four conditions below, their measure and their eight seeds were written down
# before any arm but GRPO had been tried on them (`python data/horizons.py`); only one of them is about malformed calls.
#
# - *decoys*: three tables of keys (the task `lookup`), two or three hops. A key looked up in the wrong table gives a wrong key, which
#   looks like any other: the mistake shows only at the end.
# - *long*: four to six lookups in a row, up to ten turns, half of the demonstrated calls malformed at first.
# - *late errors*: as many lookups, three tables, and no turn to spare: a slip in the first turn shows in the last.
# - *useless calls*: six in ten of the demonstrated lookups come after another one that is good for nothing.

# %%
found = json.loads((data / "horizons.json").read_text())
elsewhere = pd.DataFrame(found["rows"])
fig, ax = plt.subplots(figsize=(7.5, 3.8))
words, names = [], []
for place, gap in enumerate(found["search"]):
    kind = 0 if gap["low"] > 0 else 3 if gap["high"] < 0 else 5
    look = {"color": plots.COLORS[kind], "linestyle": "-"}
    ax.plot([gap["low of all"], gap["high of all"]], [place, place], linewidth=1, **look)
    ax.plot([gap["low"], gap["high"]], [place, place], linewidth=3, **look)
    ax.plot(gap["effect"], place, {0: "o", 3: "s", 5: "D"}[kind], color=plots.COLORS[kind])
    names.append(f"{gap['condition']}: minus {gap['against']}")
    words.append(f"{names[-1]} {gap['effect']:+.1f} [{gap['low']:+.1f}, {gap['high']:+.1f}]")
ax.axvline(0, color="#777777", linewidth=1, linestyle=":")
ax.set(xlabel="GTPO's success minus the other's (points)", yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.4, -0.6))
ax.grid(axis="y", visible=False)
caption = "Thick: 95 % intervals of eight paired differences. Thin: intervals that hold for all eight lines together."
plots.show(fig, "GTPO against GRPO, four more conditions. " + "; ".join(words), caption)

# %%
for (condition, arm), runs in elsewhere.groupby(["condition", "arm"], sort=False):
    start, end = (100 * np.mean([row[place] for row in runs["success"]]) for place in (0, -1))
    bad, turns = (np.mean([row[0] for row in runs[what]]) for what in ("malformed", "turns"))
    print(f"{condition:14}{arm:10}success {start:5.1f} -> {end:5.1f}   at update 10: malformed {100 * bad:4.1f} %, {turns:4.1f} turns")

# %% [markdown]
# Read it together with the map.
#
# - *Useless calls*: ahead of either GRPO, by about a point: little, but clear of zero, and of the thin lines too. A useless call is no mistake, and yet it shows
#   in one turn: it *costs* one, and the discount charges for turns.
# - *Long*: ahead of GRPO by a point and a half (not clear of zero if one allows for eight looks at once), and after ten updates 8 turns in a hundred are malformed,
#   not 13. Against the strict reward a tie. Length has not made the gain larger than it was in the short dialogues of section 9.
# - *Decoys*: if anything *behind*, by half a point, with everybody above 96 in a hundred.
# - *Late errors*: no difference shown, at 86 in a hundred; it rather points the other way.
#
# Why does it not help where a mistake shows late? Follow the formula. A turn that looks in the wrong table is answered like any other; its reward is 0,
# and its return is the discounted outcome, as for the blameless turn before it. **Returns do not find the guilty turn. They hand the verdict back along
# the dialogue; who was guilty must be said by the task, turn by turn, or by the turns that it cost.** Where neither says anything, GTPO has nothing that GRPO
# has not. (A method that asks the model itself how much likelier a turn made the right answer needs nobody to say it: IGPO, arXiv 2510.14967. We ran it
# on the decoys, and there it was no different from GRPO.)
#
# So we have not found the task on which credit by turns matters *much*. Four conditions are no long search: none has a dialogue of fifty turns, a tool that
# breaks something, or a model large enough to change its mind halfway.
#
# ## What the papers had that we left out
#
# - *Real models and code.* GTPO's dialogues are those of language models that write programs and read what they print. Chapter 20.
# - *The embedding behind the partial credit.* The paper compares the code of a failed dialogue with that of its group's successes by a text
#   embedding; ours counts runs of three tokens that both have.
# - *What we could not read in the paper*: over which set mean and standard deviation run, the clip, a penalty for leaving the starting point. Where we
#   had to choose, the recipe says so (`recipes.describe("gtpo")`).
# - *A critic.* Instead of comparing with other dialogues one can learn the value of a state, turn by turn: `recipes.turn_ppo`.
#
# Careful with names: at least two other methods are called GTPO, one that weighs tokens by their entropy (arXiv 2508.04349) and one about
# conflicting gradients (2508.03772). In this course an acronym comes with its number.
#
# ## Where this returns
#
# Chapter 17 cuts dialogues into single decisions and returns to bandits. Chapter 18 asks what breaks after ten turns. Chapter 20 runs `gtpo`
# with a real model; chapter 21 turns the way we compared methods here into a plan that is made *before* the runs.
#
# ## Further reading
#
# - Y. Ding et al., *Empowering Multi-Turn Tool-Integrated Reasoning with Group Turn Policy Optimization* (GTPO),
#   [arXiv 2511.14846](https://arxiv.org/abs/2511.14846).
# - J. Feng et al., *ReTool* (a tool in the loop, its words masked), [arXiv 2504.11536](https://arxiv.org/abs/2504.11536).
# - *Reinforcing Multi-Turn Reasoning in LLM Agents via Turn-Level Credit Assignment*, [arXiv 2505.11821](https://arxiv.org/abs/2505.11821).
# - On dense turn rewards whose sign does not agree with success, and a repair (iterative reward calibration),
#   [arXiv 2604.02869](https://arxiv.org/abs/2604.02869).
# - *SimpleTIR* (dialogues with empty turns left out), [arXiv 2509.02479](https://arxiv.org/abs/2509.02479).
