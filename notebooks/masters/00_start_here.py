# %% [markdown]
# # 00 · Start here
#
# **The question.** What will I have learned at the end?
#
# **You will be able to** run a notebook of this course, do an exercise and have it checked, say what this machine can and cannot do, and
# find your way through the parts.
#
# **Time.** 15 minutes of yours, less than a minute of the computer's.
#
# **You need.** A little Python. If you are new to Jupyter: a notebook is a page of text and *cells* of code. Click on a cell and press
# Shift+Enter to run it and go to the next one; do that from the top. (Or choose *Run → Run All Cells* above, and read on while they run.)

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from ipywidgets import IntSlider

import workbench as wb
from workbench import doctor, models, plots, sample, tasks
from workbench.course import check

plots.style()

# %% [markdown]
# ## Something that learns
#
# Here is a row of slot machines, called *arms*. Each pays one coin or nothing, with a probability of its own that nobody tells us. The
# learner begins by pulling all arms equally often, sixteen pulls at a time. Then it looks back: pulls that paid *more than the average of the
# sixteen* become more probable, the others less. That is all. It is also, with a few refinements, how large language models are
# trained to reason: you are looking at the smallest relative of an algorithm called GRPO.

# %%
def pays_of(arms):
    """The payout probabilities of the arms: from poor to good, in a shuffled order."""
    return wb.seeding.generator(0, "payouts", arms).permutation(np.linspace(0.1, 0.9, arms))


def play_bandit(arms, updates=120, pulls=16, rate=1.5):
    """The learner's probabilities of the arms before each update: [updates, arms]."""
    pays, rng, logits, history = pays_of(arms), wb.seeding.generator(0, "bandit", arms), np.zeros(arms), []
    for _ in range(updates):
        p = np.exp(logits) / np.exp(logits).sum()
        history.append(p)
        pulled = rng.choice(arms, size=pulls, p=p)
        paid = (rng.random(pulls) < pays[pulled]).astype(float)
        credit = paid - paid.mean()  # better or worse than the average of the sixteen
        for arm, c in zip(pulled, credit):
            logits += rate / pulls * c * ((np.arange(arms) == arm) - p)
    return np.array(history)


# %% [markdown]
# Move the slider with the mouse, or click on it and use the arrow keys. With more arms, does it still find the best one? How much longer
# does it take?

# %% tags=["slider"]
def draw_bandit(arms):
    pays, history = pays_of(arms), play_bandit(arms)
    best = pays.argmax()
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.2), width_ratios=(1, 2))
    left.bar(range(1, arms + 1), pays, color=["#0173b2" if k == best else "#bbbbbb" for k in range(arms)])
    left.set(xlabel="arm", ylabel="probability that it pays", ylim=(0, 1), title="hidden from the learner")
    left.xaxis.get_major_locator().set_params(integer=True)
    for k in np.argsort(pays):
        bold = {"color": "#0173b2", "linewidth": 3} if k == best else {"color": "#999999", "linewidth": 1}
        right.plot(16 * np.arange(len(history)), history[:, k], linestyle="-", **bold)
    right.set(xlabel="pulls so far", ylabel="probability of pulling an arm", ylim=(0, 1), title="blue: the best arm")
    alt = f"With {arms} arms, the learner pulls the best arm with probability {history[0, best]:.2f} at first "
    alt += f"and {history[-1, best]:.2f} after {16 * len(history)} pulls."
    plots.show(fig, alt, caption=alt)


plots.play(draw_bandit, arms=IntSlider(value=5, min=2, max=20))

# %% [markdown]
# ## Three learners, side by side
#
# The course has one story: *an agent acts, is told how well it went, and must decide what deserved the credit.* Here are three such
# agents. You need not understand their code today; each returns in a chapter of its own.
#
# **The bandit** from above, with eight arms, now by the package: the same `Batch` of what was done, and the same recipe, `grpo`, that will later
# train a language model.

# %%
pays = torch.tensor(pays_of(8), dtype=torch.float32)
bandit_policy = models.Tabular(1, 8)


def bandit_learner(seed=0):
    """Yields the reward that one pull may expect, then learns from sixteen pulls."""
    optimiser, step = torch.optim.SGD(bandit_policy.parameters(), lr=0.5), 0
    while True:
        yield float(bandit_policy.table.detach().softmax(1)[0] @ pays)
        here = torch.zeros(16, dtype=torch.int64)  # a bandit has one state, number 0
        arms, logp = bandit_policy.pull(here, seed=wb.seeding.integer(seed, "pulls", step))
        luck = torch.from_numpy(wb.seeding.generator(seed, "luck", step).random(16))
        batch = wb.Batch.from_pulls(arms, (luck < pays[arms]).float(), logp)
        prepared = wb.objective.prepare(wb.recipes.grpo, batch)
        loss, _ = wb.objective.loss(wb.recipes.grpo, prepared, bandit_policy.evaluate(batch).logp)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        step += 1


# %% [markdown]
# **The imitator** lives on a board of 7 by 7 fields and should get to the flag in the corner. Nobody rewards it. It watches somebody who knows the
# way, one walk at a time, counts which move was made where, and does likewise; where it has seen nothing, it stumbles about. We can
# compute exactly how often it would reach the flag within 15 moves.

# %%
SIDE, FLAG = 7, 48
MOVES = np.array([(0, 1), (0, -1), (1, 0), (-1, 0)])
fields = np.array([(row, column) for row in range(SIDE) for column in range(SIDE)])
lands = (fields[:, None] + MOVES).clip(0, SIDE - 1) @ (SIDE, 1)  # [field, move] -> field
seen = np.zeros((SIDE**2, 4))  # how often each move was seen in each field


def imitator(seed=0):
    """Yields how often the imitator reaches the flag, then watches one more walk."""
    rng = wb.seeding.generator(seed, "walks")
    while True:
        moves = (seen + 1e-9) / (seen + 1e-9).sum(1, keepdims=True)
        steps = np.zeros((SIDE**2, SIDE**2))
        np.add.at(steps, (np.arange(SIDE**2)[:, None], lands), moves)
        steps[FLAG] = np.eye(SIDE**2)[FLAG]  # whoever is there stays there
        yield float(np.linalg.matrix_power(steps, 15)[:FLAG, FLAG].mean())
        field = int(rng.integers(FLAG))
        while field != FLAG:
            good = [m for m in (0, 2) if lands[field, m] != field]  # right or down
            move = int(rng.choice(good)) if rng.random() < 0.9 else int(rng.integers(4))  # even experts slip
            seen[field, move] += 1
            field = lands[field, move]


# %% [markdown]
# **The language model** has a hundred thousand numbers inside and begins with random ones. It is to answer questions like `37*45=`, and
# may use a calculator (one that shows the last three digits). It learns from examples how to write a call, and what to do with the reply. Its test questions are never among the
# examples.
#
# Run the cell and watch. *Stop* ends the training whenever you like; what has been learned is kept.

# %% tags=["live"]
task = tasks.get("calculator", operations=(1, 1), malformed=0.0)
policy = models.tiny("0.1m", seed=0)


def three_learners():
    warm_start = wb.sft(policy, task, steps=150, error_rate=0.0, seed=0, evaluate_every=5)
    for record, reward, reached in zip(warm_start, bandit_learner(), imitator()):
        yield {"step": record.step, "bandit": reward, "imitator": reached, "model": record.test_success}


live = plots.LivePanel(
    {"bandit": "bandit: coins per pull", "imitator": "imitator: at the flag", "model": "model: right answers"},
    limits={"bandit": (0, 1), "imitator": (0, 1), "model": (0, 1)},
    smooth=1,
)
for _ in live.watch(three_learners()):
    pass

# %% [markdown]
# Three curves that go up, at very different paces and for very different reasons: one is told how well it did, one sees how it is done,
# one reads how it is done. A curve that goes up proves little, though. This was *one* run with *one* seed; chapter 10 shows the model's
# curve for eight. The course is strict about this: where it makes a claim about learning, it shows several seeds and an interval.
#
# What has become of them?

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), width_ratios=(1.3, 1))
p = bandit_policy.table.detach().softmax(1)[0].numpy()
left.bar(np.arange(1, 9) - 0.2, pays, width=0.4, color="#bbbbbb", label="probability that it pays (hidden)")
left.bar(np.arange(1, 9) + 0.2, p, width=0.4, label="probability of pulling it (learned)")
left.set(xlabel="arm", ylabel="probability", ylim=(0, 1.25), title="the bandit")
left.legend(loc="upper left")
known = seen.sum(1) > 0
down, across = MOVES[seen.argmax(1)][known].T
arrows = {"scale": 14, "width": 0.012, "pivot": "mid", "color": "#0173b2"}
right.quiver(*fields[known][:, ::-1].T, across, -down, **arrows)
right.scatter(*fields[~known][:, ::-1].T, marker="$?$", color="#999999", s=60)
right.scatter(SIDE - 1, SIDE - 1, marker="*", s=260, color="#de8f05", zorder=3)
right.set(xlim=(-0.6, SIDE - 0.2), ylim=(SIDE - 0.4, -0.6), aspect="equal", title="the imitator's usual moves")
right.set(xticks=[], yticks=[])
plots.show(
    fig,
    alt=f"Left: the bandit pulls its best arm with probability {p[int(pays.argmax())]:.2f}. Right: the board with an arrow in "
    f"each of the {int(known.sum())} fields where the imitator has seen a move; most point right or down, to the flag.",
    caption="The star is the flag; a question mark stands where the imitator has seen no move.",
)

# %% [markdown]
# And the model you can ask yourself. Grey is what it was given, blue is what it wrote; point at a token (or press Tab) to see how sure it
# was.

# %%
def ask(a, sign, b):
    call = f"{a}{sign}{b}"
    result = task.calculate(call)
    problem = tasks.Problem(f"{call}=", result, ((call, result),))
    batch = sample.rollout(
        sample.LocalEngine(policy), task, policy.tokenizer, [problem], group_size=1, seed=0, temperature=0
    )
    texts = policy.tokenizer.convert_ids_to_tokens(batch.tokens[0].tolist())
    chance = batch.logp_old.exp().tolist()
    verdict = "right" if batch.outcome[0] else "wrong"
    mask = batch.mask.tolist()
    plots.tokens([texts], chance, mask=mask, names=[verdict], label="probability", limit=1)


plots.play(ask, a=IntSlider(value=37, min=10, max=99), sign=["*", "+", "-"], b=IntSlider(value=45, min=10, max=99))

# %% [markdown]
# ## The map
#
# Five parts, each with a few chapters of about an hour. What has a link is there; the rest is being written.
#
# | part | what it asks |
# |---|---|
# | **I Bandits** | One decision: how to learn while you earn, from logged choices, and when a hidden cause fools you. [01 Multi-armed bandits](01_multi_armed_bandits.ipynb) · [02 Contexts, adversaries and budgets](02_contexts_adversaries_and_budgets.ipynb) · [03 Learning from logged choices](03_learning_from_logged_choices.ipynb) · [04 Bandits with hidden causes](04_bandits_with_hidden_causes.ipynb) · [05 A transformer that learns to explore](05_a_transformer_that_learns_to_explore.ipynb) |
# | **II Causal imitation** | Why does a perfect copy of an expert drive worse? What to do when the expert sees more than you. [06 When copying the expert fails](06_when_copying_the_expert_fails.ipynb) · [07 Causal imitation over many steps, and inverse RL](07_causal_imitation_over_many_steps.ipynb) · [08 Partial identification: imitating with bounds](08_partial_identification.ipynb) |
# | **III Policy gradients to GRPO** | From one token to many. [09 From a bandit to GRPO, against the exact gradient](09_from_a_bandit_to_grpo.ipynb) · [10 A tiny language model](10_a_tiny_language_model.ipynb) · [11 GRPO on verifiable rewards](11_grpo_on_verifiable_rewards.ipynb) |
# | **IV Turns and tools** | Which of many turns deserved the reward? Code, tools, long horizons. [15 Code tasks and the sandbox](15_code_tasks_and_the_sandbox.ipynb) · [16 Many turns: from GRPO to GTPO](16_many_turns.ipynb) · [17 Multi-turn code as a contextual bandit](17_multi_turn_code_as_a_contextual_bandit.ipynb) |
# | **V Scale** | Real models, GPUs, and how to find out whether a difference is real. [21 Testing a hypothesis](21_testing_a_hypothesis.ipynb) |
#
# New to all of this: from 01 on, in order. You know transformers: begin with 09. You know reinforcement learning: begin with 10. You have an
# idea to test: begin with 21. Part II needs 01 and 04, and nothing of parts III to V.
#
# At the end you will have written, by hand and checked against something exact, each piece that stands between a slot machine and a language model that uses
# tools over many turns; and you will know how to test an idea of your own, and what you may claim.
#
# ## This machine
#
# The course runs on a laptop without a network. This is what the workbench found here. ✓ is fine; ○ is not here and not needed for most
# chapters, with what it would enable and how to get it; · is worth knowing; ✗ must be repaired first.

# %%
print(doctor.report(doctor.examine()))

# %% [markdown]
# ## How exercises work
#
# A cell with an exercise has a function with a hole in it, `return None  # your code here`. Put your code there, run the cell, then
# run the next one, which checks it. The check says one of three things: … *not yet* (nothing there), ✔ *correct*, or ✘ with, if possible,
# the *name of the mistake*: wrong answers that people often give are known. Nothing is sent anywhere, and you can try as often
# as you like. Until you have it right the notebook goes on with our version, so nothing further down breaks.
#
# The dots say how hard it is. Try it:
#
# ### Exercise 1: credit · ●○○○○ · 3 min
#
# The bandit gave each pull a credit: what it paid, minus the average of all pulls of the round. Given the payments of a round, return the
# credits.

# %%
def credit(paid):
    """paid [N], a numpy array of payments -> credits [N]."""
    # solution
    return paid - paid.mean()
    # end solution
    # stub: return None  # your code here (one line)


# %%
credit = check("00.credit", credit).function

# %% [markdown]
# Then see what a mistake looks like: change your line to `return paid.mean() - paid` and run both cells again.
#
# Why subtract the average at all? If every pull pays, none deserves more than the others, and there is nothing to learn from that
# round:

# %%
print("all paid: ", credit(np.array([1.0, 1.0, 1.0, 1.0])))
print("one paid: ", credit(np.array([0.0, 1.0, 0.0, 0.0])))

# %% [markdown]
# In chapter 11 a language model will write eight answers to each question, and you will see what it means that *all eight were right*.
#
# ## Further reading
#
# - Sutton and Barto 2018, *Reinforcement learning: an introduction*, second edition: the book to have beside parts I and III.
# - Lattimore and Szepesvári 2020, *Bandit algorithms*: part I, with all proofs.
# - Pearl 2009, *Causality*, second edition: the language of part II.
# - Shao et al. 2024, *DeepSeekMath: pushing the limits of mathematical reasoning in open language models*, arXiv 2402.03300: where GRPO
#   comes from.

# %%
print("This notebook has run to its end.")
