# %% [markdown]
# # 17 · Multi-turn code as a contextual bandit
#
# **The question.** Do you need the whole trajectory?
#
# **You will be able to**
# - cut logged dialogues into contexts without leaking the answer, and say which of them are worth keeping;
# - pay for a single attempt so that progress counts, and see what that pays for in practice;
# - say when attempts can be learned one at a time, and prove it on a problem whose every history is listed;
# - read a comparison at the depth it was trained for, and beyond;
# - recognise a model that believes its tests more than it should, and what can be done about it.
#
# **Time.** 60 minutes of yours, about half a minute of the computer's.
#
# **You need.** Contexts and arms from chapter 02, logged choices and importance weights from chapter 03, GRPO from chapter 11, and the
# sandbox of chapter 15 (it has to work on this machine: programs are run here).

# %%
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from ipywidgets import Checkbox, Dropdown, FloatSlider, IntSlider, SelectMultiple

import workbench as wb
from workbench import models, plots, sample, stats
from workbench.bandits import offline
from workbench.bandits.attempts import Attempts
from workbench.course import check
from workbench.tasks import partial

plots.style()
data = Path(wb.__file__).parents[1] / "data"

# %% [markdown]
# ## A log
#
# The task is called `repair`. A formula is wrong, two examples say what it should give, and there are three attempts to put it right.
# After a failed attempt comes one line of feedback: the first example that fails. When both examples pass, or the attempts are used
# up, *hidden* tests at fourteen points decide. Our pupil (107 thousand parameters, `python data/repair.py` remakes it) has seen this done,
# and mostly fails. We let it try 40 problems sixteen times each, and keep everything it did.

# %%
task = wb.tasks.Repair(turns=3)
pupil = models.load(data / "repair_pupil")
tokenizer = pupil.tokenizer


def play(policy, task, problems, size, seed):
    """Episodes of a policy: the batch, and what `partial.read` makes of it, a trajectory for each row."""
    batch = sample.rollout(sample.LocalEngine(policy), task, tokenizer, problems, group_size=size, seed=seed)
    return batch, partial.read(batch, problems, task, lambda ids: models.decode(tokenizer, ids))


problems = [task.problem(number) for number in range(40)]
batch, logged = play(pupil, task, problems, 16, seed=0)
cost = int(batch.mask.sum())
print(f"{len(logged)} episodes, {cost:,} sampled tokens; solved: {batch.outcome.mean():.0%}")
example = next(n for n in partial.informative(logged) if len(logged[n].rates) == 3)
print(sample.transcript(batch, example, tokenizer))

# %%
number = int(np.argmax([len({one.rates for one in logged[16 * n : 16 * n + 16]}) for n in range(40)]))
shown = sorted(logged[16 * number : 16 * number + 16], key=lambda one: (len(one.rates), one.rates))
share = np.array([[*one.rates, *[np.nan] * (3 - len(one.rates))] for one in shown])

fig, ax = plt.subplots(figsize=(7, 5))
picture = ax.imshow(share, aspect="auto", cmap="cividis", vmin=0, vmax=1)
for row, one in enumerate(shown):
    for turn, text in enumerate(one.texts):
        light = "black" if share[row, turn] > 0.5 else "white"
        ax.text(turn, row, text[:14], ha="center", va="center", fontsize=8, color=light, family="monospace")
ax.set(xticks=range(3), xticklabels=["1", "2", "3"], yticks=[], xlabel="attempt", ylabel="sixteen episodes")
ax.set_title(f"{problems[number].prompt}  wants {problems[number].answer}")
ax.grid(False)
fig.colorbar(picture, label="share of hidden tests passed")
right = sum(one.solved(3) for one in shown)
plots.show(
    fig,
    alt=f"A table of the programs written in sixteen episodes at one problem, up to three in each, coloured by the share "
    f"of hidden tests they pass. {right} episodes end with all of them; most programs pass hardly any.",
    caption="Each row is an episode, read from left to right. Yellow: right. An empty cell: the episode was over.",
)

# %% [markdown]
# Chapter 16 learned from whole episodes like these: play three attempts, see how it ends, share out the credit. Look at the picture again,
# though. After a wrong first attempt, *the second can still be right*, whatever the first one was. Whoever stands at an attempt needs to know
# what was tried and what was said about it; how the pupil got there does not matter any more.
#
# So here is the idea of this chapter (Chen et al. 2026, who call it Cobalt): *what was logged is a context, one attempt is an arm*. Cut the
# episodes into what stood before each attempt, let the model make that attempt alone, and pay it at once. That is a contextual bandit, as in
# chapter 02, and no trajectory is ever played while it learns.
#
# ## 1 Cut
#
# Which contexts does an episode hold? The bare prompt; the prompt with the first attempt and the reply to it; and so on up to the reply before the
# last attempt. Each is the *beginning of a row of tokens that was logged*, so a number says it all: how many tokens. (No text is encoded a second
# time: chapter 16 showed what comes of that.)
#
# ## Exercise 1: where to cut · ●●○○○ · 10 min
#
# A row comes with `turn`, which is -1 on the prompt and $j$ on attempt $j$ *and the reply to it*, and `mask`, which is true where the model sampled.
# The trap is an expensive one: a context that holds the attempt which it asks for gives the answer away, and the model learns to copy.

# %%
def prefix_ends(turn, mask):
    """turn [T], mask [T], numpy -> list: how many tokens stand before each attempt, the first one included."""
    # solution
    return [int(np.argmax(turn == j)) for j in range(turn.max() + 1)]
    # end solution
    # stub: return None  # your code here (one line will do)


# %%
ends_of = check("17.prefix_ends", prefix_ends).function
for row, one in enumerate(logged):
    length = len(one.ids)
    assert ends_of(batch.turn[row, :length].numpy(), batch.mask[row, :length].numpy()) == list(one.ends)
for end in logged[example].ends:
    print(models.decode(tokenizer, list(logged[example].ids[:end])))

# %% [markdown]
# Your cuts are those of the package, in all 640 rows. Not every cut is used. `partial.cut` follows the authors' code: the bare prompt once for a
# problem, and prefixes up to the third attempt; none from the point on where two attempts in a row passed all public or all hidden
# tests (nothing is left to repair); none that is too long. And only episodes in which *some attempt is right and some is not* are cut at all.
#
# ## 2 Which to keep
#
# An episode that is right at once, or never, shows no progress. Of the others the authors keep four for each problem, chosen by how much they
# progressed: the **spread** of an episode is its best share of hidden tests passed minus its worst. They do not take the largest spreads. They
# take the four whose spreads *differ most from one another*, so that easy and hard repairs are both there.
#
# ## Exercise 2: the most varied four · ●●●○○ · 15 min
#
# Of $n$ numbers choose $m$ with the largest variance. There are many subsets, but you need not try them all: sort the numbers, and the best subset
# is always *the k lowest and the m - k highest*, for some $k$ from 0 to $m$. (Why? If a chosen number had unchosen ones on both sides, moving it away
# from the mean of the others would make the variance larger.)

# %%
def most_varied(spreads, most):
    """spreads [n], most: m, at most n -> sorted list of the m places whose numbers have the largest variance."""
    # solution
    order = np.argsort(spreads)
    sets = [[*order[:k], *order[len(order) - most + k :]] for k in range(most + 1)]
    variances = [np.var(spreads[chosen]) for chosen in sets]
    return sorted(int(place) for place in sets[int(np.argmax(variances))])
    # end solution
    # stub: return None  # your code here (about four lines)


# %%
varied_of = check("17.most_varied", most_varied).function

# %% [markdown]
# ### Play: choose a subset
#
# Eight made-up spreads, four to be kept. Move `low`: so many are taken from the lower end, the others from the upper. Then choose another set of spreads.

# %%
SETS = {
    "even": np.linspace(0.1, 1, 8),
    "most are high": np.array([0.15, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 1.0]),
    "two kinds": np.array([0.1, 0.12, 0.15, 0.2, 0.9, 0.93, 0.96, 1.0]),
}


def choose(low=1, spreads="even"):
    values = SETS[spreads]
    chosen = [n < low or n >= 8 - 4 + low for n in range(8)]
    best = varied_of(values, 4)
    fig, ax = plt.subplots(figsize=(7, 3))
    ax.bar(range(1, 9), values, color=[plots.COLORS[0] if keep else "#cccccc" for keep in chosen])
    ax.plot([n + 1 for n in best], values[best] + 0.05, "v", color=plots.COLORS[1], label="the most varied four")
    ax.set(xlabel="episode, by spread", ylabel="spread (share of tests)", ylim=(0, 1.3), xticks=range(1, 9))
    ax.set_title(f"kept: variance {np.var(values[chosen]):.3f}; the largest is {np.var(values[best]):.3f}")
    ax.legend(loc="upper left")
    kept = ", ".join(str(n + 1) for n in range(8) if chosen[n])
    plots.show(fig, alt=f"Eight bars; kept are {kept}; the most varied four are {', '.join(str(n + 1) for n in best)}.")


plots.play(choose, low=IntSlider(value=1, min=0, max=4), spreads=Dropdown(options=list(SETS)))

# %%
lively = [logged[n] for n in partial.informative(logged)]
spreads = np.array([one.spread for one in lively])
contexts = partial.cut(partial.choose(logged, 4))
print(f"{len(lively)} of {len(logged)} episodes have a wrong and a right attempt; their spreads: ", end="")
print(", ".join(f"{count} of {value:.2f}" for value, count in zip(*np.unique(spreads.round(2), return_counts=True))))
crowd = [len(mine) for mine in partial.by_problem(lively)]
print(f"{sum(n > 4 for n in crowd)} of {len(crowd)} problems have more than four of them")
print("contexts by the attempts in them:", {n: sum(c.turn == n for c in contexts) for n in (0, 1, 2)})

# %% [markdown]
# In our log nearly all spreads are 1 or close to it, because a wrong formula agrees with the right one almost nowhere; and few problems have more than
# four such episodes, so most are kept whatever the rule. With real programs, which pass some tests and fail others, there is more to choose.
# (Does the choice matter here? We tried, with a log four times as long: 32 episodes of each problem, of which two are kept, the most varied or any two. After
# 24,000 more tokens the first arm solves 5 problems in a hundred more with three attempts, and eight seeds leave that open: the interval is -6 to 16.)
#
# ### Play: pick the prefixes yourself
#
# What is a context worth? One whose attempts all fail, or all succeed, teaches GRPO nothing: its group is dead (chapter 11). So let us ask the pupil
# for 16 attempts from *every* context, and look at how often it succeeds. Pick contexts by the number of attempts in them (Ctrl or Shift
# and the arrow keys choose several), and see how many are alive.

# %%
everything = partial.cut(lively)
bandit = partial.Partial(task, tuple(everything))
answers = sample.rollout(sample.LocalEngine(pupil), bandit, tokenizer, everything, group_size=16, seed=1)
success = answers.outcome.view(-1, 16).mean(1).numpy()
attempts_in = np.array([context.turn for context in everything])


def pick(attempts=(0, 1, 2)):
    mine = success[np.isin(attempts_in, attempts)]
    alive = ((mine > 0) & (mine < 1)).mean() if len(mine) else 0.0
    fig, ax = plt.subplots(figsize=(7, 3))
    parts = [success[attempts_in == n] for n in attempts]
    names = [f"{n} attempts before" for n in attempts]
    ax.hist(parts, bins=np.linspace(-1 / 32, 33 / 32, 18), stacked=True, label=names, color=plots.COLORS[: len(parts)])
    ax.set(xlabel="share of 16 attempts that are right", ylabel="contexts", xlim=(-0.05, 1.05))
    ax.set_title(f"{len(mine)} contexts, {alive:.0%} of their groups alive")
    ax.legend()
    plots.show(fig, alt=f"Of {len(mine)} contexts {alive:.0%} have both right and wrong attempts; the mean share right is "
               f"{mine.mean() if len(mine) else 0:.2f}.")  # fmt: skip


plots.play(pick, attempts=SelectMultiple(options=[0, 1, 2], value=(0, 1, 2), description="attempts before", rows=3))

# %% [markdown]
# ## 3 What one attempt is paid
#
# When the episode is gone, so is its verdict; each attempt needs its own. "All hidden tests or nothing" would do, and be rare. The authors pay
# something for progress as well. With $r$ the share of hidden tests that a program passes, and $b$ the best share of the attempts *before it
# in its context* (0 if there are none):
#
# 1. the base is 1 for $r = 1$, 0.2 for $r \ge 0.5$, 0 for $r > 0$ and $-0.1$ for $r = 0$;
# 2. if $r < 1$ and $b > 0$: a program that is *better* than $b$ gets $0.1\,(r-b)/(1-b)$ on top; one that is *not better* gets, in place
#    of the base, $-0.1 + 0.1\,(r-b)/b$.
#
# ## Exercise 3: the pay · ●●○○○ · 10 min

# %%
def completion_reward(rate, best):
    """rate: share of hidden tests passed; best: the best share before, both from 0 to 1 -> the reward."""
    # solution
    base = 1.0 if rate == 1 else 0.2 if rate >= 0.5 else 0.0 if rate > 0 else -0.1
    if rate == 1 or best == 0:
        return base
    if rate > best:
        return base + 0.1 * (rate - best) / (1 - best)
    return -0.1 + 0.1 * (rate - best) / best
    # end solution
    # stub: return None  # your code here (about five lines)


# %%
reward_of = check("17.completion_reward", completion_reward).function
grid = [n / 14 for n in range(15)]
assert all(abs(reward_of(r, b) - partial.reward(r, b)) < 1e-12 for r in grid for b in grid)
for name, best in (("first attempt", 0.0), ("after 7 of 14", 0.5)):
    print(f"{name:14}", *(f"{passed:2}: {reward_of(passed / 14, best):+.2f} " for passed in (0, 3, 7, 10, 14)))

# %% [markdown]
# A quirk to notice: seven tests of fourteen earn 0.2 at the first attempt and -0.1 when an earlier attempt passed seven already. Standing still is
# not paid twice. (The authors' pay has more terms, for thinking and for length; our models do neither. A text that is no program gets -1.)
#
# ## 4 Why one attempt may be enough, exactly
#
# Is it *allowed* to forget the trajectory? Let us take a problem so small that every history can be listed. One of four answers is right,
# with chances 0.4, 0.3, 0.2 and 0.1. There are $T$ attempts, and after a wrong one you are told so. A policy $\pi$ says how likely
# each answer is after each **history** $h$ (the wrong answers so far). With $d^\pi(h)$, the chance to come to $h$ without having solved it, and
# $\bar r(h,a)$, the chance that answer $a$ is right there,
#
# $$J(\pi) = \sum_h d^{\pi}(h) \sum_a \pi(a|h)\,\bar r(h,a), \qquad
# \hat J(\pi) = \sum_h d^{\mu}(h) \sum_a \pi(a|h)\,\bar r(h,a).$$
#
# $J$ is what we want: the chance to solve it within $T$ attempts. $\hat J$ is what single attempts from a log are trained on: the histories are
# those of the *logger* $\mu$. Only one letter differs.

# %%
world = Attempts(prior=(0.4, 0.3, 0.2, 0.1), turns=4)
uniform = np.full((len(world.histories), 4), 0.25)  # a logger that guesses
greedy, best = world.greedy(), world.best()
print(len(world.histories), "histories, such as", world.histories[:3], "...", world.histories[-1])
for name, policy in (("guessing", uniform), ("likeliest answer each time", greedy), ("best of all policies", best)):
    wanted, trained = world.value(policy), world.stepwise(policy, uniform)
    print(f"{name:27} J {wanted:.3f}   stepwise sum on the guesser's log {trained:.3f}")

# %% [markdown]
# Two things. The stepwise sum is not a chance, it is above 1: a good policy is asked again and again about histories that it would never have
# come to. So its *value* means little. But the policy that is best for it, *the likeliest answer each time*, is also the best for $J$. That is
# what we need: it can be optimised in place of $J$.
#
# How wrong can it be? Write the difference of two values as a sum over attempts (the performance difference lemma). What remains of $J - \hat J$
# is, for each logged history, how differently $\pi$ and $\mu$ choose there, times a chance to be right *later*. A chance lies between 0 and 1, so
#
# $$|J(\pi) - \hat J(\pi)| \;\le\; \sum_{h \text{ with attempts left}} d^\mu(h)\; \tfrac12\textstyle\sum_a |\pi(a|h) - \mu(a|h)|.$$
#
# (Our derivation; `workbench/bandits/attempts.py`, and its tests compare it with a list of all episodes.) At most one unit for each attempt but the
# last: it grows with $T$, not with $T^2$. And it is small while the policy stays near its logger, which is what a KL penalty is for.
#
# ### Play: away from the logger
#
# Mix the guesser with the greedy policy, and watch value, stepwise sum and bound part. Then lay the trap.

# %%
def away(mix=0.5, turns=4, trap=False):
    world = Attempts((0.4, 0.3, 0.2, 0.1), turns, traps=(0,) if trap else ())
    logger = np.full((len(world.histories), 4), 0.25)
    mixes = np.linspace(0, 1, 21)
    policies = [(1 - m) * logger + m * world.greedy() for m in [*mixes, mix]]
    value = np.array([world.value(policy) for policy in policies])
    step = np.array([world.stepwise(policy, logger) for policy in policies])
    bound = np.array([world.bound(policy, logger) for policy in policies])
    fig, ax = plt.subplots(figsize=(7, 3.4))
    ax.fill_between(mixes, (step - bound)[:-1], (step + bound)[:-1], alpha=0.2, label="stepwise ± bound")
    ax.plot(mixes, step[:-1], label="stepwise sum, on the log")
    ax.plot(mixes, value[:-1], label="value J")
    ax.axhline(world.value(world.best()), color="#777777", linestyle=":", label="best J there is")
    ax.axvline(mix, color="#777777", linewidth=1)
    ax.set(xlabel="from the logger (0) to the greedy policy (1)", ylabel="sum of chances", ylim=(-1, 3.5))
    ax.set_title(f"J {value[-1]:.2f}, stepwise {step[-1]:.2f}, bound {bound[-1]:.2f}")
    ax.legend(loc="upper left", ncols=2, fontsize=8)
    plots.show(fig, alt=f"At mix {mix:.1f} the value is {value[-1]:.2f}, the stepwise sum {step[-1]:.2f}, and they may differ by "
               f"{bound[-1]:.2f}; the best value is {world.value(world.best()):.2f}.")  # fmt: skip


plots.play(away, mix=FloatSlider(value=0.5, min=0, max=1, step=0.1), turns=IntSlider(value=4, min=1, max=5), trap=Checkbox())

# %%
for name, traps in (("no trap", ()), ("answer 0 is a trap", (0,))):
    world = Attempts((0.4, 0.3, 0.2, 0.1), 4, traps)
    price = np.round(world.cost()[0], 2) + 0.0
    print(f"{name:18} greedy {world.value(world.greedy()):.2f}, best {world.value(world.best()):.2f}; "
          f"what each first answer costs: {price}")  # fmt: skip

# %% [markdown]
# A **trap** is an answer that ends the episode when it is wrong. Now the bandit teaches the wrong thing, with a perfect log and no noise: the
# likeliest answer pays best *at once*, so it is given first, and with it the other chances are lost. The best policy gives it last.
#
# Without traps a wrong answer costs one attempt and no more, whatever came before. The literature calls such a problem **one-step recoverable**
# (Jain et al. 2025 make the point for code): from anywhere, one good step is enough. Repairing a formula is like that, since an attempt
# breaks nothing. Deleting the tests, sending the e-mail, spending the budget are not. *Ask what a mistake costs later before you cut a trajectory.*
#
# ## 5 What cutting buys: weights
#
# Chapter 03 judged a new policy from an old log by weighting each choice with the chance of the new policy over that of the logger. For a whole
# episode the chances multiply, and so do the weights.
#
# ## Exercise 4: the weight of an episode · ●●○○○ · 10 min

# %%
def episode_weights(ratio, episode):
    """ratio [N]: new over old chance of each logged attempt; episode [N]: which episode it is of -> one weight an episode."""
    # solution
    return np.array([np.prod(ratio[episode == number]) for number in np.unique(episode)])
    # end solution
    # stub: return None  # your code here (one or two lines)


# %%
weights_of = check("17.episode_weights", episode_weights).function


def effective(weight):
    """Kish's effective share: how much of a log is left when its weights are uneven (chapter 03)."""
    return weight.sum() ** 2 / (weight**2).sum() / len(weight)


world = Attempts((0.4, 0.3, 0.2, 0.1), turns=5)
uniform = np.full((len(world.histories), 4), 0.25)
policy = 0.3 * uniform + 0.7 * world.greedy()
log, episode = world.record(uniform, 2000, seed=0)
ratio = offline.weights(log, policy)
place = np.concatenate([np.arange(n) for n in np.bincount(episode)])
single, whole = [], []
for turns in range(1, 6):
    early = place < turns
    single.append(effective(ratio[early]))
    whole.append(effective(weights_of(ratio[early], episode[early])))

# %%
fig, ax = plt.subplots(figsize=(7, 3.2))
ax.plot(range(1, 6), single, marker="o", label="single attempts")
ax.plot(range(1, 6), whole, marker="s", label="whole episodes")
ax.set(xlabel="attempts allowed", ylabel="effective share of the log", ylim=(0, 1), xticks=range(1, 6))
ax.set_title("How much of 2000 logged episodes is left")
ax.legend()
plots.show(
    fig,
    alt=f"Effective share against the number of attempts: for single attempts it stays between {min(single):.2f} and {max(single):.2f}; "
    f"for whole episodes it falls from {whole[0]:.2f} to {whole[-1]:.2f}.",
    caption="The same log and the same new policy. One factor a context, or one for every attempt of the episode.",
)
found = offline.ips(log, policy)
scale = log.rounds / 2000  # attempts an episode
print(f"stepwise sum: exactly {world.stepwise(policy, uniform):.3f}, from the log "
      f"{found.estimate * scale:.3f} [{found.low * scale:.3f}, {found.high * scale:.3f}]")  # fmt: skip

# %% [markdown]
# That is the bargain. Single attempts keep the weights small, whatever the length, and give up something for it: their contexts are the
# logger's, so they estimate $\hat J$ and not $J$. (Cobalt goes one step further. It keeps the logged *contexts* only, and draws fresh attempts from
# them: then every weight is 1.)
#
# ## 6 Live
#
# The recipe `cobalt` is GRPO with few changes; what makes the difference is the task, `Partial`, whose prompts are your cuts.

# %%
print(wb.recipes.get("cobalt"))

# %%
student = pupil.copy()
live = plots.LivePanel({"success": "right attempts", "zero_advantage": "dead groups"}, limits={"zero_advantage": (0, 1)})
bandit = partial.Partial(task, tuple(contexts))
records = list(live.watch(wb.train(student, bandit, "cobalt", steps=12, seed=0, prompts=16, lr=1e-3)))
spent = sum(record.tokens for record in records)
print(f"{len(contexts)} contexts; {spent:,} tokens sampled, and {cost:,} for the log")

# %% [markdown]
# ## Exercise 5: solved with how many turns? · ●●○○○ · 10 min
#
# A model that was trained on contexts with at most two attempts in them will be used for longer. *Evaluating at the training depth only* would not
# tell how it does then. One rollout of eight turns answers for every depth, if it is read right: what is handed in when the turns
# are over is the *last* attempt made until then. An episode that stopped earlier, since its examples passed, is handed in as it is.

# %%
def solved_at(rates, turns):
    """rates: for each episode the list of its attempts' shares of tests passed -> share of episodes solved with so many turns."""
    # solution
    return np.mean([row[min(turns, len(row)) - 1] == 1 for row in rates])
    # end solution
    # stub: return None  # your code here (one or two lines)


# %%
solved_of = check("17.solved_at", solved_at).function
deep = wb.tasks.Repair(turns=8)
unseen = [deep.problem(number, split="test") for number in range(128)]
fig, ax = plt.subplots(figsize=(7, 3.2))
by_depth = {}
for name, policy in (("before", pupil), ("after", student)):
    rates = [one.rates for one in play(policy, deep, unseen, 1, seed=2)[1]]
    by_depth[name] = [solved_of(rates, turns) for turns in range(1, 9)]
    ax.plot(range(1, 9), by_depth[name], marker="o", label=name)
ax.axvspan(0.9, 3.1, color="#eeeeee", zorder=0)
ax.set(xlabel="attempts allowed", ylabel="share of test problems solved", ylim=(0, 0.6), xticks=range(1, 9))
ax.set_title("128 problems it was not trained on; grey: depths in the log")
ax.legend(loc="upper left")
text = "; ".join(f"{name}: {line[0]:.2f} with one attempt, {line[-1]:.2f} with eight" for name, line in by_depth.items())
plots.show(fig, alt=f"Share solved against attempts allowed. {text}.", caption="One run: too little to claim anything.")

# %% [markdown]
# ## 7 Recorded: one attempt at a time, or whole episodes?
#
# Now with eight seeds each. Everybody starts from our pupil and may *sample the same number of tokens*; the tokens of the log are on Cobalt's bill.
# *online* plays fresh episodes of three turns and is paid by their outcome. *cobalt* is what you have just seen, with smaller groups. Learning rate,
# group size and clip are the same for both, and were tuned for neither.

# %%
record = json.loads((data / "cobalt.json").read_text())
runs, arms = record["runs"], ("online", "cobalt")
kept = [run["contexts"][1] / run["contexts"][0] for run in runs["cobalt"]]
print(f"{record['made with']}; {np.mean(kept):.1f} episodes of a problem are kept, on average")


def interval(values):
    found = stats.t_interval(values)
    return f"{found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}]"


def depth_lines(ax, names, what, label):
    """Share solved against the attempts allowed: the mean over seeds, and 95 % intervals."""
    for n, name in enumerate(names):
        found = stats.t_interval(np.array([run[what] for run in runs[name]]).T)
        ax.fill_between(range(1, 9), found.low, found.high, alpha=0.15, color=plots.COLORS[n])
        ax.plot(range(1, 9), found.estimate, marker=plots.MARKERS[n], color=plots.COLORS[n], label=name)
    ax.plot(range(1, 9), runs["pupil"][0][what], color="#777777", linestyle=":", label="pupil")
    ax.set(xlabel="attempts allowed", ylabel="share of test problems solved", xticks=range(1, 9), title=label)


# %%
fig, ax = plt.subplots(figsize=(7.5, 4))
depth_lines(ax, arms, "true", "24,000 sampled tokens each, eight seeds")
ax.axvspan(0.9, 3.1, color="#eeeeee", zorder=0)
ax.set_ylim(0, 0.6)
ax.legend(loc="upper left", ncols=2, fontsize=8)
said = "; ".join(f"{a}: {np.mean([r['true'][0] for r in runs[a]]):.2f} at one, {np.mean([r['true'][7] for r in runs[a]]):.2f} at eight"
                 for a in arms)  # fmt: skip
plots.show(fig, alt=f"Share solved against attempts allowed. {said}.",
           caption="Bands: 95 % intervals for the mean over seeds. Grey: the depths of the log.")  # fmt: skip

# %%
for name in arms:
    line = f"{name:14}"
    for depth in (1, 3, 8):
        line += f"   {depth}: {interval([run['true'][depth - 1] for run in runs[name]])}"
    retried = [run["true"][7] - run["true"][0] for run in runs[name]]
    print(f"{line}   8 - 1: {interval(retried)}")
gain = np.array([a["true"] for a in runs["cobalt"]]) - np.array([b["true"] for b in runs["online"]])
line = "".join(f"   {depth}: {interval(gain[:, depth - 1])}" for depth in (1, 3, 8))
print(f"cobalt - online{line}   8 - 1: {interval(gain[:, 7] - gain[:, 0])}")

# %% [markdown]
# Read it as chapter 21 will teach you to. Neither method is ahead at one, at three or at eight attempts: every interval of a difference contains 0,
# and all but the first are wide enough to hide ten points either way. And look at the dotted line: from the second attempt on, neither is above the pupil
# that it started from. 24,000 tokens are about thirty updates, and that is too little for either: it is not known here *which is better*.
# (The paper, with models of eight billion parameters, reports Cobalt ahead of online GRPO.)
#
# The last column is the one to think about: what seven more attempts add to the first. For *online* it is more than for *cobalt* in these runs, though the
# interval of the difference just reaches across 0, so take it as a question and not as a finding. There is a reason why it might be so. The
# failed attempts in Cobalt's contexts are those of the *untrained* pupil, drawn at random. The trained model, told that its attempt failed, stands before
# *its own best guess*, and needs its second best; such contexts were never in the log. That is section 4 at work, the price of
# taking the contexts from the logger. Had we looked at one attempt alone, we would have praised Cobalt; at eight alone, the other.

# %% [markdown]
# ## 8 When the tests are wrong
#
# Public tests are written by people. Suppose two of them have *exchanged their expected outputs*. The hidden tests are true, as before. Now a right program is told
# that it fails, attempt after attempt, and a program that pleases the examples is wrong. Here is our pupil on such problems.

# %%
wrong_tests = wb.tasks.Repair(turns=8, perturbed=1.0)
misled = [problem for n in range(128) if wrong_tests.misleading(problem := wrong_tests.problem(n, split="test"))]
held, episodes = play(pupil, wrong_tests, misled, 1, seed=4)
found = [n for n, one in enumerate(episodes) if max(one.rates) == 1]
lost = [n for n in found if episodes[n].rates[-1] < 1]
one = episodes[lost[0]]
print(f"{one.problem.prompt}   true answer: {one.problem.answer}")
for text, rate in zip(one.texts, one.rates):
    print(f"   {text:12}  {'right' if rate == 1 else 'wrong'}")
print(f"{len(found)} of {len(misled)} episodes come to a right program; {len(lost)} of these hand in a wrong one")

# %% [markdown]
# It was there, was told "no", and went away. To obey the test in the context is what every log has taught it: there, a failing example meant a wrong
# program, always. The authors of Cobalt call the larger form of this *in-context reward hacking*: a model bends its program to a test
# that it sees, by writing the expected output down or by fitting the logic to it. Their remedy is cheap. **Perturb a part of the logged trajectories**
# in the same way, and go on paying by the true hidden tests: in these contexts obeying does not pay.
#
# The arm *perturbed* below did that with about half of its logged problems. All else is as for *cobalt*.

# %%
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.8), sharey=True)
trained = ("online", "cobalt", "perturbed")
for ax, what, label in zip(axes, ("true", "lies"), ("true examples", "two outputs exchanged")):
    depth_lines(ax, trained, what, label)
    ax.set_ylim(0, 0.6)
axes[0].legend(loc="upper left", ncols=2, fontsize=8)
said = "; ".join(f"{a}: {np.mean([r['lies'][0] for r in runs[a]]):.2f} at one, {np.mean([r['lies'][7] for r in runs[a]]):.2f} at eight"
                 for a in trained)  # fmt: skip
plots.show(fig, alt=f"Two panels of the share solved against attempts allowed. With exchanged outputs {said}.",
           caption="Eight seeds, 95 % intervals. Solved: every hidden test passes, and these are true in both panels.")  # fmt: skip

# %%
for name in ("pupil", *trained):
    line = f"{name:10}"
    for what in ("given up", "satisfied", "wrong pair"):
        values = [run[what] for run in runs[name]]
        line += f"   {what} {interval(values) if len(values) > 1 else f'{values[0]:.3f}'}"
    print(line)
for what in ("true", "lies"):
    for depth in (1, 3, 8):
        gain = [a[what][depth - 1] - b[what][depth - 1] for a, b in zip(runs["perturbed"], runs["cobalt"])]
        print(f"perturbed - cobalt, {what:4} examples, {depth} attempts: {interval(gain)}")

# %% [markdown]
# Here the numbers do not bear out what we hoped to show. In the left panel and in the right one, *perturbed* and *cobalt* cannot be told apart; with eight attempts
# all arms have lost nearly every problem whose tests are wrong, and nine right programs in ten are given up, whoever was trained how. Some 26 updates,
# on logs of which about half have wrong tests, have not undone what 38 thousand demonstrations taught. Nor do our models hack in the stricter
# sense: hardly any program satisfies the exchanged examples or writes a wrong pair down. They are too small to please the wrong test; they only stop
# believing the right answer.
#
# Two things can be kept. The *failure* is real and easy to see: **with wrong tests, many attempts end worse than one**, while with right ones they help, and one
# figure that stops at three attempts would have shown neither. And a remedy from a paper is a hypothesis here, like any other: ours came out
# empty at this size and this budget, which says little about theirs.
#
# ## What the papers had that we left out
#
# - *Size.* The authors train models of eight billion parameters on programming problems with partial credit; ours has 107 thousand, and a wrong formula
#   passes almost no test. What we found about *our* arms says nothing about theirs.
# - *Their log*: first answers at temperature 0.6, feedback in sentences, contexts of up to ten thousand tokens, two more turns after public tests pass. Ours
#   is drawn at temperature 1, and an episode ends when its examples pass.
# - *The pay's terms for thinking, for length and for broken fences*, and the single-turn stage before it.
# - *A KL penalty that holds the policy near its logger.* The recipe has theirs, $10^{-4}$, which is next to nothing; the bound of section 4 would like more.
# - *Judging hacks by reading.* They have a large model sort the failures; we count programs.
#
# ## Where it returns
#
# Contexts that go stale come back in chapter 18, and the question what a comparison with eight seeds can say in chapter 21. What you have built here is
# `workbench/tasks/partial.py` and the recipe `cobalt`. An idea to try with them: log again with the trained model halfway, so that the
# contexts hold *its own* mistakes, and see whether the depth curve bends up.
#
# ## Further reading
#
# - Z. Chen, D. Chen, R. Jin, Y. Liang, Y. Xie and H. Sun (2026). Bridging online and offline RL: contextual bandit learning for multi-turn
#   code generation. arXiv 2602.03806.
# - A. K. Jain et al. (2025). Multi-turn code generation through single-step rewards. arXiv 2502.20380.
# - M. Dudík, J. Langford and L. Li (2011). Doubly robust policy evaluation and learning. arXiv 1103.4601.
# - Z. Shao et al. (2024). DeepSeekMath. arXiv 2402.03300. The GRPO that all arms share.
