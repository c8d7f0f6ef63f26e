# %% [markdown]
# # 05 · A transformer that learns to explore
#
# **The question.** Can a network learn the algorithm instead of the answer?
#
# **You will be able to**
# - train a small transformer that plays bandits it has never seen as well as Thompson sampling, without changing a weight;
# - write the three things it takes: logs of players who do not learn, a label, and a loss over all prefixes;
# - work out the exact answer it is learning to give, and so say how far from perfect it is at every moment;
# - predict when it breaks, and recognise two leaks that make its training look better than it can be.
#
# **Time.** 75 minutes of yours, about a minute of the computer's.
#
# **You need.** Chapter 01 (regret, Thompson sampling), Bayes' rule, a little NumPy. It helps to have seen a transformer, but here it
# is a box that reads a sequence; chapter 10 opens the box.

# %%
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from ipywidgets import FloatSlider

import workbench as wb
from workbench import plots
from workbench.bandits import in_context as ic
from workbench.bandits.play import play
from workbench.course import check

plots.style()
torch.set_num_threads(1)
data = Path(wb.__file__).parents[1] / "data"

# %% [markdown]
# ## A player who has been trained and is not being trained
#
# Here are 500 bandits with five arms. The mean of each arm is drawn from 0 to 1, and a pull pays the mean plus noise of standard
# deviation 0.3. Three players get 50 pulls of each. One pulls at random. One is Thompson sampling, who knows how the means were drawn and keeps
# an exact posterior. The third is a transformer of 27,525 numbers, trained beforehand for a few minutes (`python data/explorers.py`). None of
# these bandits was in its training, and *its weights do not change while it plays*. All it can do is read its own history.

# %%
class AtRandom:
    """Pulls any arm, always."""

    feedback, name = "bandit", "at random"

    def start(self, repetitions, arms, horizon):
        self.shape = repetitions, arms

    def choose(self, rng):
        return rng.integers(0, self.shape[1], self.shape[0])

    def update(self, arm, reward):
        pass


FIVE = ic.TaskDistribution(arms=5, low=0.0, high=1.0, std=0.3)
five = ic.HistoryTransformer.load(data / "explorers" / "k5_0.safetensors")
players = {"at random": AtRandom(), "Thompson sampling": ic.PosteriorSampling(FIVE), "transformer": ic.InContext(five)}
games = {name: play(player, FIVE, 50, 500, seed=0) for name, player in players.items()}

# %%
fig, ax = plt.subplots()
for i, (name, game) in enumerate(games.items()):
    mean, low, high = game.interval()
    color = plots.COLORS[(5, 0, 1)[i]]
    ax.fill_between(game.times, low, high, color=color, alpha=0.2, linewidth=0)
    ax.plot(game.times, mean, color=color, marker=plots.MARKERS[i], markevery=6, label=name)
ax.set(xlabel="pulls", ylabel="regret so far (rewards)", title="500 new bandits, nothing trained meanwhile", ylim=(0, 12))
ax.legend(loc="upper left")
final = {name: game.final.mean() for name, game in games.items()}
plots.show(
    fig,
    alt="Regret over 50 pulls: " + ", ".join(f"{name} ends at {value:.1f}" for name, value in final.items())
    + ". The transformer's curve runs along Thompson's, not along the straight line of random pulls.",
    caption="Mean regret with 95 % bands over the bandits. The transformer's curve bends where Thompson's bends; random pulls leave the picture.",
)  # fmt: skip
print({name: round(float(value), 2) for name, value in final.items()})

# %% [markdown]
# It was never shown Thompson sampling, nor any other player who learns. It was shown people who pull levers from habit, and asked, after
# each pull, *which arm do you think is the best one?* Nothing else. This chapter is about why that is enough.
#
# Look at one game. Each column is a moment; the colour is the probability the network gives to each arm before that pull, and the
# mark is the arm it drew. Below is what the exact posterior says of the very same history.

# %%
THREE = ic.TaskDistribution(arms=3)
three = ic.HistoryTransformer.load(data / "explorers" / "k3_0.safetensors")
one = ic.play_tasks(ic.InContext(three), THREE, 1, 30, seed=15)
with torch.no_grad():
    said = three(torch.from_numpy(one.arms), torch.from_numpy(one.rewards).float())[0].softmax(1).numpy()
pulls, sums = ic.summary(one.arms, one.rewards, 3)
exact = ic.posterior_best(pulls[0], sums[0], THREE.std, ic.grid_of(THREE))

# %%
fig, axes = plt.subplots(2, 1, figsize=(8, 4.2), sharex=True)
for ax, belief, title in zip(axes, (said, exact), ("what the network says", "the exact posterior, given the same history")):
    image = ax.imshow(belief[:30].T, cmap="Blues", vmin=0, vmax=1, aspect="auto", extent=(0.5, 30.5, 2.5, -0.5))
    ax.plot(np.arange(1, 31), one.arms[0], "o", color=plots.COLORS[1], markeredgecolor="black", markersize=6)
    ax.set(title=title, yticks=range(3), yticklabels=[f"arm {k}, mean {m:.2f}" for k, m in enumerate(one.means[0])])
    ax.grid(False)
axes[1].set_xlabel("pull")
fig.colorbar(image, ax=axes, label="chance of being the best arm")
gap = np.abs(said[:30] - exact[:30]).mean()
plots.show(
    fig,
    alt=f"Two heat maps of three arms by 30 pulls. Network and exact posterior start at one third each and agree to within {gap:.2f} "
    f"on average; the best arm, {one.best[0]}, is pulled {int((one.arms[0] == one.best[0]).sum())} times.",
    caption="Orange marks: the arm drawn. Where the colour is spread out the player still explores, and it need not be told to.",
)

# %% [markdown]
# ## 1 Logs of people with habits
#
# The training data could not be simpler. Invent a bandit. Invent a player with **habits**: fixed probabilities for the arms, made up
# before the first pull, without a look at the means. Let the player pull, write down arm and reward. Since you invented the bandit, you
# know which arm is best: that is the **label**. The player never learns anything; the *log* nevertheless does tell, in its rewards,
# which arm is likely to be best, and more and more so as it gets longer.
#
# ## Exercise 1: the log and its label · ●●○○○ · 10 min
#
# All the dice have been thrown: `luck` holds numbers between 0 and 1 (arm $k$ is pulled if `luck` falls into the $k$-th slice of the
# habits), `noise` what is added to each reward. Watch out for one thing: nothing but the rewards may tell the network which arm is best.

# %%
def write_logs(means, habits, luck, noise):
    """means, habits [B,K]; luck, noise [B,H] -> arms [B,H], rewards [B,H], label [B]."""
    slices = habits.cumsum(1)[:, None, :-1]  # [B,1,K-1], the upper ends of all slices but the last
    # solution
    arms = (luck[:, :, None] >= slices).sum(2)
    rewards = np.take_along_axis(means, arms, 1) + noise
    return arms, rewards, means.argmax(1)
    # end solution
    # stub: return None  # your code here (about three lines; np.take_along_axis(means, arms, 1) may help)


# %%
logs_of = check("05.write_logs", write_logs).function

# %% [markdown]
# Two examples, with habits that mix a favourite arm into random tastes, as Lee et al. do.

# %%
rng = wb.seeding.generator(0, "examples")
means, habits = rng.random((2, 3)), rng.dirichlet([1, 1, 1], 2)
arms, rewards, label = logs_of(means, habits, rng.random((2, 8)), 0.3 * rng.standard_normal((2, 8)))
for b in range(2):
    print("means", means[b].round(2), " habits", habits[b].round(2), " best arm (the label)", label[b])
    print("  log:", "  ".join(f"{arm}:{reward:+.2f}" for arm, reward in zip(arms[b], rewards[b])))

# %% [markdown]
# ## 2 What there is to know
#
# Suppose you are given such a log. How sure can *anybody* be which arm is best? That is a question for Bayes. Cut the range of means into
# 400 cells. An arm pulled $n$ times with average $\bar r$ has its mean in the cell at $m$ with a probability in proportion to
# $e^{-n (m - \bar r)^2 / 2\sigma^2}$: the habits cancel, for they do not depend on the means. Arm $k$ is the best one if its mean is *somewhere*
# and all others are *below*:
#
# $$P(k \text{ is best}) = \sum_m p_k(m) \prod_{j \neq k} P_j(\text{mean below } m).$$
#
# ## Exercise 2: the chance of being best · ●●●○○ · 15 min
#
# `mass[k]` holds the 400 probabilities of arm $k$'s mean, from low to high. Return the chance of each arm to be the best one. (Two arms in the
# same cell: count half of the cell as below. Divide by the sum at the end, to catch what the cells lose.)

# %%
def chance_best(mass):
    """mass [K,M], rows add up to 1 -> [K], adds up to 1."""
    # solution
    below = mass.cumsum(1) - mass / 2
    chance = np.array([(mass[k] * np.delete(below, k, 0).prod(0)).sum() for k in range(len(mass))])
    return chance / chance.sum()
    # end solution
    # stub: return None  # your code here (about three lines)


# %%
best_chance = check("05.chance_best", chance_best).function

# %% [markdown]
# With two arms and a *normal* prior the sum has a closed form, $\Phi$ of the difference of the means over its standard deviation. That
# is a good thing to compare with; and on the uniform prior, the package.

# %%
from scipy.stats import norm

grid, wide = ic.grid_of(THREE, 400), np.linspace(-2, 3, 2001)
n, total = np.array([3, 8, 1]), np.array([1.8, 4.2, 0.7])
shape = np.exp(-n[:, None] * (grid - (total / n)[:, None]) ** 2 / (2 * 0.3**2))
print("yours  ", best_chance(shape / shape.sum(1, keepdims=True)).round(4))
print("package", ic.posterior_best(n, total, 0.3, grid).round(4))
pair = np.array([norm.pdf(wide, centre, spread) for centre, spread in ((0.6, 0.15), (0.5, 0.25))])
formula = norm.cdf((0.6 - 0.5) / np.hypot(0.15, 0.25))
print(f"two normal beliefs: yours {best_chance(pair / pair.sum(1, keepdims=True))[0]:.5f}, closed form {formula:.5f}")

# %% [markdown]
# Now the point of the whole chapter, in two sentences. A network that is asked for the label, and punished by the logarithm of
# the probability it gave to it, does best if it answers with exactly these probabilities. And *whoever draws the next arm
# from these probabilities is doing Thompson sampling*, because that is what Thompson sampling is: pull each arm as often as you believe
# that it is best.
#
# So the network does not imitate an algorithm. It learns a belief, and exploring is what acting on an honest belief looks like.
# There is a catch, to which we come back: the histories it meets when it plays come from its own choices, not from habits. It is the same
# Bayes' rule that says why this is no problem: given the history, it does not matter who chose the arms, *as long as he knew no more
# than the history*.
#
# ## 3 One log, many lessons
#
# A log of 30 pulls is also a log of 29, of 28, and of none: one sequence gives 31 questions. A causal transformer answers them all in a
# single pass, since its answer at position $n$ can only see the first $n$ pulls. This is what makes a few minutes enough.
#
# ## Exercise 3: the loss over all prefixes · ●●○○○ · 10 min
#
# `logits[b, n]` are the network's $K$ numbers for log $b$ after $n$ pulls; their softmax is its answer. Return the mean cross-entropy
# (minus the natural logarithm of the probability given to the label) at every length of prefix.

# %%
def prefix_loss(logits, label):
    """logits [B,N,K], label [B] -> [N], in nats; the mean is over the logs."""
    # solution
    logp = logits - np.log(np.exp(logits).sum(2, keepdims=True))
    return -logp[np.arange(len(label)), :, label].mean(0)
    # end solution
    # stub: return None  # your code here (about two lines)


# %%
loss_of = check("05.prefix_loss", prefix_loss).function

# %% [markdown]
# Before any training there are two numbers that we know. *Before the first pull nobody knows anything*, and since every arm is equally
# likely to be best, the best possible loss there is $\ln K$. A network that is below it has not been clever: its data leak. And at every length,
# nobody can be below the exact posterior, on average. So the loss has a floor, and we can draw it.

# %%
test = ic.random_logs(THREE, 1000, 30, seed=1)
inputs = torch.from_numpy(test.arms), torch.from_numpy(test.rewards).float()


def measured(model):
    with torch.no_grad():
        return loss_of(model(*inputs).double().numpy(), test.best)


floor = ic.bayes_loss(THREE, test)
fresh = ic.HistoryTransformer(arms=3, horizon=30, seed=7)
print(f"ln 3 = {np.log(3):.4f}; before the first pull: untrained {measured(fresh)[0]:.4f}, exact {floor[0]:.4f}")
print(f"mean over all prefixes: untrained {measured(fresh).mean():.3f}, floor {floor.mean():.3f}")

# %% [markdown]
# ## 4 Train it while you watch
#
# 600 steps, about ten seconds; in each, 64 new bandits with 64 new players that nobody has seen before and nobody will see
# again. (Stop it when you like.)

# %%
live = plots.LivePanel({"loss": "loss (nats)"}, limits={"loss": (0.6, 1.1)}, smooth=25, every=200)
for _ in live.watch(ic.pretrain(fresh, THREE, steps=600, seed=7)):
    pass

# %%
record = json.loads((data / "explorers.json").read_text())
runs = [run for run in record["runs"] if run["arms"] == 3]
fig, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.8))
for i, run in enumerate(runs):
    steps = np.arange(1, len(run["loss"]) + 1) * run["steps"] / len(run["loss"])
    left.plot(steps, run["loss"], color=plots.COLORS[i], linestyle=plots.DASHES[i], label=f"recorded, seed {run['seed']}")
left.axhline(np.mean(runs[0]["exact"]), color="black", linewidth=1.2, linestyle=":", label="exact posterior")
left.set(xlabel="training step", ylabel="loss (nats)", title="To the floor, slowly")
left.legend()
right.plot(measured(fresh), color=plots.COLORS[1], marker="s", markevery=5, label="yours, just now")
right.plot(measured(three), color=plots.COLORS[0], marker="o", markevery=5, label="recorded, 8,000 steps")
right.plot(floor, color="black", linewidth=1.2, linestyle=":", label="exact posterior")
right.set(xlabel="pulls read", title="After each length of prefix", ylim=(0, 1.2))
right.legend()
over = np.mean([np.mean(run["by_prefix"]) - np.mean(run["exact"]) for run in runs])
plots.show(
    fig,
    alt=f"Left: three recorded losses fall and flatten {over:.3f} nats above the exact posterior's. Right: by prefix, the recorded "
    f"network lies on the exact curve, the one just trained {measured(fresh).mean() - floor.mean():.3f} above it on average; all start at ln 3.",
    caption="Left: the loss on logs never trained on. Right: all curves begin at ln 3; the dotted one is what there is to know.",
)

# %% [markdown]
# The last hundredths take most of the time: the recorded networks have done 8,000 steps, or 6,000 with five arms. Does the loss that remains matter? Ask
# the regret. Here is yours, all recorded networks, and Thompson sampling, on 800 new bandits each.

# %%
print(f"{'':34}{'regret after all pulls':>24}")
for arms, horizon in ((3, 30), (5, 50)):
    tasks = ic.TaskDistribution(arms)
    nets = {f"transformer, seed {s}": ic.HistoryTransformer.load(data / f"explorers/k{arms}_{s}.safetensors") for s in range(3)}
    field = {"at random": AtRandom(), "Thompson, exact posterior": ic.PosteriorSampling(tasks)}
    field["Thompson, normal prior"] = ic.PosteriorSampling(tasks, gaussian=True)
    field |= {name: ic.InContext(net) for name, net in nets.items()}
    if arms == 3:
        field["transformer, yours"] = ic.InContext(fresh)
    for name, player in field.items():
        mean, low, high = wb.stats.t_interval(play(player, tasks, horizon, 800, seed=2).final)
        print(f"{arms} arms  {name:26}{mean:8.2f}  [{low:.2f}, {high:.2f}]")

# %% [markdown]
# (95 % intervals over the bandits. *Normal prior* is the comparison of Lee et al.: the uniform prior replaced by a normal one with the same
# mean and variance, which has a posterior in closed form.)
#
# The same network also answers the question of chapter 03. Give it a whole log that somebody else wrote, let it try nothing, and take its
# likeliest arm. What is lost by that choice, on logs of players with habits:

# %%
print("lost by the arm chosen after a log of        5        20        50 pulls")
rules = {"network": [], "exact posterior's likeliest arm": [], "best average": [], "best lower bound": []}
for length in (5, 20, 50):
    logs = ic.random_logs(FIVE, 2000, length, seed=6)
    n, total = (x[:, -1] for x in ic.summary(logs.arms, logs.rewards, 5))
    average = np.where(n > 0, total / np.maximum(n, 1), -np.inf)
    exact_best = ic.posterior_best(n, total, FIVE.std, ic.grid_of(FIVE, 200)).argmax(1)
    cautious = (average - 0.8 / np.sqrt(np.maximum(n, 1))).argmax(1)
    for name, arm in zip(rules, (ic.recommend(five, logs), exact_best, average.argmax(1), cautious)):
        rules[name].append((logs.means.max(1) - logs.means[np.arange(2000), arm]).mean())
for name, loss in rules.items():
    print(f"{name:36}" + "".join(f"{value:10.3f}" for value in loss))

# %% [markdown]
# It lands on the exact posterior here, too: the belief is the same, only what is done with it differs. Averages do worse because they know
# nothing of where means come from: that an arm tried once with 1.3 cannot be that good, and that one never tried is worth a half. (The
# standard error of each entry is below 0.006.)
#
# ## 5 The surprise: being greedy is better, until it is not
#
# Put one more player into the race, the one that chapter 01 warned of: pull each arm once, then always the one with the best average. And ask
# the network for its likeliest arm instead of a draw.

# %%
class Greedy(AtRandom):
    """Every arm once, then always the best average."""

    name = "greedy"

    def start(self, repetitions, arms, horizon):
        self.pulls, self.sums = np.zeros((2, repetitions, arms))

    def choose(self, rng):
        return np.where(self.pulls == 0, np.inf, self.sums / np.maximum(self.pulls, 1)).argmax(1)

    def update(self, arm, reward):
        rows = np.arange(len(arm))
        self.pulls[rows, arm] += 1
        self.sums[rows, arm] += reward


race = {
    "Thompson": ic.PosteriorSampling(THREE), "transformer, drawing": ic.InContext(three), "greedy": Greedy(),
    "transformer, likeliest": ic.InContext(three, greedy=True),
}  # fmt: skip
final = {name: play(player, THREE, 30, 3000, seed=3).final for name, player in race.items()}

# %%
fig, ax = plt.subplots(figsize=(7.4, 4))
for i, (name, regret) in enumerate(final.items()):
    color, dashes = plots.COLORS[(0, 1, 3, 4)[i]], plots.DASHES[i]
    ax.plot(np.sort(regret), 1 - np.arange(3000) / 3000, color=color, linestyle=dashes, label=f"{name}: mean {regret.mean():.2f}")
ax.set(yscale="log", ylim=(1 / 1000, 1), xlim=(0, 20), title="3000 bandits with 3 arms, 30 pulls")
ax.set(xlabel="regret after 30 pulls (rewards)", ylabel="share of bandits with more regret")
ax.legend(loc="upper right")
worst = {name: np.quantile(regret, 0.99) for name, regret in final.items()}
plots.show(
    fig,
    alt="Share of bandits beyond a regret, logarithmic. " + "; ".join(
        f"{name}: mean {final[name].mean():.2f}, one in a hundred above {worst[name]:.1f}" for name in final) + ".",
    caption="Left of the crossing greedy loses less; right of it, in the unlucky cases, it loses far more.",
)  # fmt: skip

# %% [markdown]
# *Greedy has the better mean and the worse tail.* In thirty pulls there is little time to profit from what one learns, so the player who does not
# bother to learn is ahead on average. Now and then it has bad luck with the best arm's only pull, hardly touches it again,
# and loses at every pull that follows. The network with *likeliest* is on the side of greedy, for the same reason: a belief that is acted
# upon without a draw does not explore. What Lee et al. claim, and what we can confirm here, is that the network that draws does **what Thompson
# sampling does**, to within a few percent; not that it beats everything. With a horizon of thousands the tail *is* the mean, and chapter 01's ranking returns.
#
# ## 6 Break it
#
# The network's belief is right for bandits drawn as in training. Now change the world *after* training: move the range of the means, or
# turn the noise up or down. It has no way to know. Against it play two Thompsons: one with the training prior, who is as wrong as the
# network and does exact arithmetic; and one who has been told of the change.

# %%
def change(shift=0.0, noise=0.3):
    world = ic.TaskDistribution(3, low=shift, high=1 + shift, std=noise)
    field = {"network": ic.InContext(three), "Thompson,\ntraining prior": ic.PosteriorSampling(THREE, gaussian=True)}
    field |= {"Thompson,\nwho was told": ic.PosteriorSampling(world, gaussian=True), "greedy": Greedy(), "at random": AtRandom()}
    found = [play(player, world, 30, 600, seed=4).final for player in field.values()]
    mean, low, high = wb.stats.t_interval(np.array(found))
    fig, ax = plt.subplots(figsize=(7, 3.4))
    ax.bar(range(5), mean, yerr=high - mean, capsize=4, color=[plots.COLORS[i] for i in (1, 0, 7, 3, 5)])
    for j, value in enumerate(mean):
        ax.text(j, high[j] + 0.15, f"{value:.1f}", ha="center")
    ax.set(xticks=range(5), xticklabels=field, ylabel="regret after 30 pulls", ylim=(0, 10.5))
    ax.set_title(f"Means from {shift:g} to {1 + shift:g}, noise {noise:g} (trained: 0 to 1, 0.3)", fontsize=11)
    said = ", ".join(f"{name} {value:.2f}".replace("\n", " ") for name, value in zip(field, mean))
    plots.show(fig, alt=f"Mean regret on 600 bandits: {said}.", caption="Bars: mean regret with 95 % intervals.")


sliders = {"continuous_update": False, "readout_format": ".2f"}
plots.play(
    change,
    shift=FloatSlider(value=0.0, min=-1.5, max=1.5, step=0.25, description="shift of all means", **sliders),
    noise=FloatSlider(value=0.3, min=0.1, max=1.2, step=0.1, description="noise", **sliders),
)

# %% [markdown]
# Try it before you read on. Then the same as a table, so that we can talk about numbers.

# %%
changes = [(0.0, 0.3), (-1.0, 0.3), (-0.25, 0.3), (0.25, 0.3), (1.0, 0.3), (0.0, 0.1), (0.0, 0.6), (0.0, 1.0)]
print(f"{'':20}{'regret after 30 pulls':^38}  {'changes of arm':^30}")
print(f"{'means':>13}{'noise':>7}{'network':>10}{'wrong prior':>13}{'told':>7}{'greedy':>8}{'network':>12}{'wrong prior':>13}{'told':>7}")
for shift, noise in changes:
    world = ic.TaskDistribution(3, shift, 1 + shift, noise)
    field = [ic.InContext(three), ic.PosteriorSampling(THREE, gaussian=True), ic.PosteriorSampling(world, gaussian=True), Greedy()]
    logs = [ic.play_tasks(player, world, 1000, 30, seed=5) for player in field]
    lost = [log.regret[:, -1].mean() for log in logs]
    turns = [(np.diff(log.arms, axis=1) != 0).sum(1).mean() for log in logs]
    row = f"{lost[0]:10.2f}{lost[1]:13.2f}{lost[2]:7.2f}{lost[3]:8.2f}{turns[0]:12.1f}{turns[1]:13.1f}{turns[2]:7.1f}"
    print(f"{f'{shift:g} to {1 + shift:g}':>13}{noise:7.1f}" + row)

# %% [markdown]
# Three things to see.
#
# - *Small shifts hurt little.* A quarter of the range either way, and the network still plays like Thompson with the training prior,
#   and both almost as well as the one who was told.
# - *Large shifts break it, downwards worse than a wrong prior does.* In a world where every arm pays less than it has ever seen, each
#   pull disappoints and it wanders on (look at the changes of arm); in a world where every arm pays more, the first arm it touches looks
#   like a miracle and it stays. Thompson with the training prior, here the *wrong prior*, makes the same two mistakes for the same
#   reason, but he at least does his wrong sums exactly. Far from its training nothing obliges the network's answers to be the posterior of
#   any prior.
# - *The wrong noise is a different story.* With less noise than it believes in, it goes on doubting where it could be sure, and loses
#   twice what it need. With more noise, it is too sure too early; and yet it loses *no more* than the Thompson who was told, at 0.6
#   clearly less. That is no merit of the network: an honest Thompson who knows how little he knows explores for longer than thirty pulls
#   can repay. He does not know the horizon, and nor does anybody else in this table. Greedy, who never cared, is hard to beat at the
#   noisy end too.
#
# ## 7 Two ways to spoil the data
#
# **The label's order.** Suppose whoever wrote the generator sorted the arms, best first: it is tidy, and it makes the figures easier to read.
# The label is then always arm 0, and the network needs no log at all. You would see it in one number.

# %%
def tidy(tasks, count, horizon, rng):
    logs = ic.random_logs(tasks, count, horizon, rng)
    order = np.argsort(-logs.means, axis=1)
    rank = np.argsort(order, axis=1)  # the new number of each old arm
    return ic.Logs(np.take_along_axis(rank, logs.arms, 1), logs.rewards, 0 * logs.best, np.take_along_axis(logs.means, order, 1))


spoilt = ic.HistoryTransformer(arms=3, horizon=30, seed=0)
steps = list(ic.pretrain(spoilt, THREE, steps=100, seed=0, logs=tidy))
print(f"loss before the first pull {steps[-1].by_prefix[0]:.4f}, ln 3 is {np.log(3):.4f}; mean over prefixes {steps[-1].loss:.4f}")
print(f"regret on fair bandits {play(ic.InContext(spoilt), THREE, 30, 500, seed=0).final.mean():.2f}, at random {30 * 0.25:.2f}")

# %% [markdown]
# A wonderful loss, and it plays like somebody who never looks at a reward. *Before the first pull the loss must be $\ln K$*: one line of
# test code, and it catches every leak through the label.
#
# **A shuffled log.** This one is subtler, and has a true story: the official code shuffles each log before training, and refuses to
# do so if the logs come from a player who learns. Why? Take a player on two arms, one of which pays 1 with chance `good`, the other with
# chance `bad`, else 0. He begins with either, **stays after a win and switches after a loss**. You are shown *one row* of his log: "he pulled arm A, it
# paid nothing". How likely is A the good arm?
#
# If it is the *first* row: he chose blindly, so only the nothing counts, and Bayes says $\frac{1-g}{(1-g)+(1-b)}$, small. But if the rows
# were *shuffled*, it may be from any time, and he spends most of his time with the good arm.
#
# ## Exercise 4: one row of a shuffled log · ●●●●○ · 15 min
#
# Work it out exactly. Let $s_t$ be the chance that pull $t$ is of the good arm: $s_1 = \frac12$, and $s_{t+1}$ follows from $s_t$, since he
# is on the good arm next time if he was on it and won, or was on the bad one and lost.

# %%
def shuffled_row(good, bad, pulls):
    """P(the arm shown is the good one | one random row of `pulls` shows that it paid nothing)."""
    # solution
    shares = [0.5]
    for _ in range(pulls - 1):
        shares.append(shares[-1] * good + (1 - shares[-1]) * (1 - bad))
    share = np.mean(shares)
    return share * (1 - good) / (share * (1 - good) + (1 - share) * (1 - bad))
    # end solution
    # stub: return None  # your code here (about five lines)


# %%
row_of = check("05.shuffled_row", shuffled_row).function
print(f"good .8, bad .2, paid nothing: first row {0.2 / (0.2 + 0.8):.2f}, a shuffled row of 10 {row_of(0.8, 0.2, 10):.2f}")

# %% [markdown]
# In the shuffled log a failure hardly speaks against an arm any more, because *having been pulled* speaks for it: the player came back for a
# reason, and the reason lies in rows that you have not been shown yet. A network trained on such logs learns "an arm that was pulled is good". Then it
# plays, pulls an arm for no reason at all, reads in its own history that the arm was pulled, and is convinced.
#
# Here is what that does, recorded with eight seeds on small bandits (3 arms, 20 pulls; `python data/logs_of_learners.py`): trained on logs of
# Thompson sampling, in the order of play, or shuffled.

# %%
learners = json.loads((data / "logs_of_learners.json").read_text())
kinds = ("in order", "shuffled")
excess = {kind: np.array([np.subtract(run["loss"], run["exact"]) for run in learners[kind]]) for kind in kinds}
regret = {kind: np.array([(run["mean"], run["worst"]) for run in learners[kind]]) for kind in kinds}
for kind in kinds:
    print(f"{kind:9} loss minus exact after 3 rows {excess[kind][:, 3].mean():+.3f}, at least {excess[kind].mean(0).min():+.3f};",
          "regret: mean {:.2f}, worst in 100 {:.1f}".format(*regret[kind].mean(0)))  # fmt: skip

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.8), width_ratios=(3, 2))
for i, kind in enumerate(kinds):
    mean, low, high = wb.stats.t_interval(excess[kind].T)
    left.fill_between(range(21), low, high, color=plots.COLORS[i], alpha=0.2, linewidth=0)
    left.plot(mean, color=plots.COLORS[i], linestyle=plots.DASHES[i], label=kind)
    for place, values in zip((i, i + 2.5), regret[kind].T):
        right.plot(place + np.linspace(-0.15, 0.15, 8), values, plots.MARKERS[i], color=plots.COLORS[i])
left.axhline(0, color="black", linewidth=1, linestyle="-")
left.set(xlabel="rows read", xticks=range(0, 21, 5), ylabel="loss minus exact posterior's (nats)", title="A loss that is too good")
left.legend()
for place, key, label in ((0.5, "mean", "Thompson"), (3, "worst", None)):
    right.hlines(learners["thompson"][key], place - 0.9, place + 0.9, color="black", linestyle=":", label=label)
right.set(xticks=[0.5, 3], xticklabels=["mean", "worst in 100"], ylabel="regret after 20 pulls", ylim=(0, None), title="At play")
right.legend(loc="upper left")
said = "; ".join("{}: mean regret {:.2f}, worst in a hundred {:.1f}".format(kind, *regret[kind].mean(0)) for kind in kinds)
alt = "Left: trained on logs in order the loss lies above the exact posterior's; on shuffled logs it lies below it for most lengths. Right: "
plots.show(fig, alt + said, "Left, the band: 95 % over eight seeds. Right: each mark is a network; circles in order, squares shuffled.")

# %% [markdown]
# Read the left figure as a detective. *Nobody can be below zero*, on average: the exact posterior uses all that arms and rewards say. The network on
# shuffled logs is below it by 0.16 nats after three rows. It has found news in something that ought to be none: in who was
# pulled. A loss below the floor is not a triumph but a leak, and here you would see it without ever letting the network play. At play the regret is a
# quarter higher, and in the unlucky cases half as high again: it has been convinced by its own first choices. (After only 600 steps neither plays
# as well as Thompson, the dotted line.)
#
# Shuffling the logs of players *with habits* is harmless: their rows are exchangeable, and any order is as good. So the official code may
# shuffle those.
#
# ## 8 The other recipe: copy somebody who learns
#
# If you have a player who learns, there is another way to get a network that does: **algorithm distillation** (Laskin et al., 2022). Keep the
# logs in order, and ask not for the best arm but for *the arm the player pulled next*. The same network, the same loss over prefixes, another
# label. It needs no knowledge of the best arm; but whom will it equal? Recorded, eight seeds, taught by UCB1, which at this noise explores
# too much:

# %%
teacher, thompson = learners["teacher"]["mean"], learners["thompson"]["mean"]
mean, low, high = wb.stats.t_interval([run["mean"] for run in learners["distilled"]])
print(f"regret after 20 pulls: teacher UCB1 {teacher:.2f}, its pupils {mean:.2f} [{low:.2f}, {high:.2f}], Thompson {thompson:.2f}")

# %% [markdown]
# Its teacher, to within a few hundredths: warts and all. Decision pretraining learns *what is best* and finds out how to behave;
# distillation learns *how somebody behaves*. The first needs labels that only a simulator can give, the second a teacher worth
# copying.
#
# ## 9 The same bandit, told as text
#
# A language model is a transformer that reads a history, too. Can it play? In the workbench the same problem is a task like any other: a turn is
# the letter of an arm, the reply is what it paid. There are three ways to tell it (after Nie et al., 2024): the raw history, a summary, and a
# summary with advice, the bonus that UCB would add.

# %%
for context in ("raw", "summary", "guided"):
    told = wb.tasks.get("verbal_bandit", context=context)
    problem = told.problem(1)
    game = told.demonstration(problem, wb.seeding.generator(0, "a game"))
    print(f"{context:8} {problem.prompt}  " + "  ".join(f"{arm} → {reply}" for arm, reply in zip(game[:6:2], game[1:6:2])) + " ...")

# %% [markdown]
# (`wording="story"` tells the same in English sentences, for models that know English.) Our tiny model, of 107 thousand parameters, knows
# nothing. We warm it up on games of UCB in the raw form, the shortest, 150 steps of 16 games, and let it play tables it has never seen. It is algorithm
# distillation once more, only that the history is now text. The score is 1 for the best arm every time, 0 for the worst, and 0.5 for
# drawing arms at random.

# %%
task = wb.tasks.get("verbal_bandit")
policy = wb.models.tiny("0.1m", seed=0)
live = plots.LivePanel(
    {"loss": "loss (nats per token)", "test_success": "score, new tables"}, limits={"test_success": (0, 1)}, smooth=1, every=25
)
for _ in live.watch(wb.sft(policy, task, steps=150, batch_size=16, error_rate=0.0, seed=0, evaluate_every=75)):
    pass

# %%
recorded = json.loads((data / "verbal_bandit.json").read_text())
mean, low, high = wb.stats.t_interval(recorded["greedy"])
print(f"recorded, eight seeds, 512 tables: {mean:.3f} [{low:.3f}, {high:.3f}]")
print(f"its teacher UCB {recorded['expert']:.3f}, at random {recorded['random']:.3f}")

# %%
engine = wb.sample.LocalEngine(policy)
tables = [task.problem(number, split="test") for number in range(4)]
batch = wb.sample.rollout(engine, task, policy.tokenizer, tables, group_size=1, seed=0, temperature=0.0)
for row, table in enumerate(tables):
    print(wb.sample.transcript(batch, row, policy.tokenizer), " means", task.means(table).round(2))

# %% [markdown]
# `<A>` is where the model speaks, `<R>` what the table replies. The pupil scores nearly what its teacher scores (the recorded ones, with 32 games a step, did); and look at the tables with two good
# arms, where it goes back and forth between them. That is UCB's bonus: whichever arm was pulled less often is due again. Nobody told
# the model about counting or square roots. It has found in the text what it needs to answer as UCB would.
#
# And since it is a task like any other, everything from here on in the course applies to it: `wb.train(policy, "verbal_bandit", "grpo", steps=...)` would
# go on from here by trial and error, with the score as the reward.
#
# ## What the papers had that we left out
#
# - *Size.* Lee et al. train four layers on 100,000 stored tasks with 500 pulls and a learning rate of 0.0001; ours are two layers, fresh tasks in
#   every step, and 0.003. What mattered here was the number of steps.
# - *States.* Both papers go on from bandits to Markov decision processes (a dark room, a maze), where a transition takes the place of a pull.
# - *Structure.* Trained on linear bandits by logs that ignore the structure, the network of Lee et al. finds it and beats the players who wrote
#   its logs.
# - *Faster than the teacher.* Laskin et al. show pupils only every so many episodes of the teacher's history, and get pupils who learn faster. In a
#   small trial of ours (3 arms, 20 pulls, every third pull of UCB1, two seeds) it brought nothing, so it is not in the package.
# - *How many tasks?* With too few different ones a network remembers them instead of learning to learn (Kirsch et al., 2022). We never show
#   one twice, and so never see that.
#
# ## Where this returns
#
# The transformer itself is built in chapter 10. Imitating somebody who saw more than you do, which quietly ruins distillation, is the subject of
# chapter 06. The verbal bandit is a first task of many turns; chapter 16 asks which of them deserved the credit. And *what was chosen is itself
# news, if the chooser knew something* is chapter 04 in a new coat: habits were safe because they knew nothing.
#
# ## Further reading
#
# - J. Lee et al., *Supervised pretraining can learn in-context reinforcement learning*, [arXiv 2306.14892](https://arxiv.org/abs/2306.14892).
# - M. Laskin et al., *In-context reinforcement learning with algorithm distillation*, [arXiv 2210.14215](https://arxiv.org/abs/2210.14215).
# - A. Nie et al., *EVOLvE: evaluating and optimizing LLMs for in-context exploration*, [arXiv 2410.06238](https://arxiv.org/abs/2410.06238).
# - L. Kirsch et al., *General-purpose in-context learning by meta-learning transformers*, [arXiv 2212.04458](https://arxiv.org/abs/2212.04458).
# - W. R. Thompson, *On the likelihood that one unknown probability exceeds another in view of the evidence of two samples*, Biometrika 25, 1933.
