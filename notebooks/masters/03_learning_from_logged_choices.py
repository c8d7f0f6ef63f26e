# %% [markdown]
# # 03 · Learning from logged choices
#
# **The question.** Can you learn from what somebody else did?
#
# **You will be able to**
# - choose from a log in three ways (copy, trust the averages, trust only what is proven) and say which suits which log;
# - say what a new policy would have earned, from choices that another policy made, and give an interval;
# - build importance weighting, its self-normalised form and the doubly robust one, and check them against every log there is;
# - recognise a log that cannot answer your question, also when its diagnostics look healthy.
#
# **Time.** 75 minutes of yours, about ten seconds of the computer's.
#
# **You need.** Means, probabilities, a little NumPy. Chapter 01 helps: there you chose the arms yourself. Here nobody lets you.

# %%
import itertools
import math

import matplotlib.pyplot as plt
import numpy as np
from ipywidgets import FloatLogSlider, SelectionSlider

import workbench as wb
from workbench import plots
from workbench.bandits import offline
from workbench.course import check

plots.style()

# %% [markdown]
# ## Ten books and somebody else's habits
#
# A small library puts one book beside the till and notes whether the next visitor borrows it. For years the librarian has chosen
# the book. Now she has retired, and you have inherited her notebook: which book lay there, and whether it was taken. You may not
# experiment. Which book do you put there for the next year?
#
# It is a bandit with ten arms, and we are gods here: we know that book 2 is taken with chance 0.62 and the others less often.
# What we will change is the librarian. With **coverage** $C^* = 1$ she was an expert and always chose book 2. In general she
# chose it with chance $1/C^*$, and otherwise any other book: $C^* = 10$ is choosing blindly, and beyond that she avoided the best
# book.

# %%
BOOKS = np.array([0.45, 0.40, 0.62, 0.35, 0.50, 0.42, 0.38, 0.55, 0.30, 0.48])
RULES = {
    "most played": offline.most_played,
    "best average": offline.empirical_best,
    "best lower bound": offline.lower_confidence,
}


def lost(rule, log):
    """What a year with the rule's book costs against the best one, for each log."""
    return BOOKS.max() - BOOKS[rule(log)[..., 0]]


# %% [markdown]
# Three rules for choosing. *Most played* copies her habit and never looks at whether a book was taken: it is imitation. *Best
# average* takes the numbers at their word: greedy. *Best lower bound* asks of each book what it has at least proven: pessimism.
# Below, left, is one notebook of hers; right, what each rule costs on average over two thousand such notebooks. Move the coverage
# from expert to blind and watch the rules change places.

# %%
def draw_notebook(ax, log):
    """One log: the average of each book down to its lower bound, the truth, and what each rule would take."""
    counts, means = log.counts()[0], offline.reward_model(log, unseen=np.nan)[0]
    radius = np.sqrt(math.log(2 * 10 * log.rounds) / (2 * np.maximum(counts, 1)))
    ax.vlines(range(10), np.maximum(means - radius, -0.25), means, color=plots.COLORS[0], linestyle="-", linewidth=1.5)
    ax.plot(means, "o", color=plots.COLORS[0], label="average, and down to its lower bound")
    ax.plot(BOOKS, "_", color="black", markersize=13, label="the truth")
    for j, (name, rule) in enumerate(RULES.items(), 1):
        ax.plot(rule(log)[0], -0.3 - 0.12 * j, plots.MARKERS[j], color=plots.COLORS[j], label=name)
    labels = [f"{k}\n×{n}" for k, n in enumerate(counts)]
    ax.set(xticks=range(10), xticklabels=labels, ylim=(-0.75, 1.65), yticks=[0, 0.5, 1], title="One notebook")
    ax.set(xlabel="book, and how often it lay there", ylabel="share borrowed")
    ax.legend(ncol=2, loc="upper center", fontsize=8.5)


# %%
def compare_rules(coverage, rounds):
    librarian = offline.expert(BOOKS, coverage)
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.9), width_ratios=(3, 2))
    draw_notebook(left, offline.record(BOOKS, librarian, rounds, seed=5))
    many = offline.record(BOOKS, librarian, rounds, seed=6, logs=2000)
    interval = wb.stats.t_interval([lost(rule, many) for rule in RULES.values()])
    right.bar(range(3), interval.estimate, yerr=interval.high - interval.estimate, capsize=4, color=plots.COLORS[1:4])
    for j, loss in enumerate(interval.estimate):
        right.text(j, loss + 0.008, f"{loss:.3f}", ha="center", fontsize=10)
    right.set(xticks=range(3), xticklabels=[name.replace(" ", "\n", 1) for name in RULES], ylim=(0, 0.25))
    right.set(ylabel="loss (chance of a loan)", title="2000 notebooks")
    said = "; ".join(f"{name} {loss:.3f}" for name, loss in zip(RULES, interval.estimate))
    plots.show(fig, alt=f"Coverage {coverage:.1f}, {rounds} rounds. Mean loss over 2000 logs: {said}.",
               caption="Left: the marks in the lower half show which book each rule takes. Right: 95 % intervals.")  # fmt: skip


plots.play(
    compare_rules,
    coverage=FloatLogSlider(value=1.5, min=0, max=math.log10(20), step=0.05, readout_format=".1f"),
    rounds=SelectionSlider(options=[50, 100, 200, 400, 800], value=200),
)

# %% [markdown]
# Near the left end (try coverage 1.1) the greedy rule is terrible, with any amount of data: some book lay there once, was taken
# once, and looks like a certainty. The copier is perfect. Near 10 the copier knows nothing (the most played book is any book),
# and the averages are worth having. Pessimism behaves like the copier at one end and moves towards the averages at the other,
# without being told which end it is at. It is not the best of the three everywhere, and where the librarian *avoided* the best
# book (coverage 20) it follows her part of the way. It is the one that is never absurd so long as she gave the best book a fair
# share.
#
# ## 1 What a log has proven
#
# Why do averages lie? Each one is honest. The *largest* of ten is not: it was picked for being large, and the least tried arms
# swing most. Compare what the greedy rule is promised with what it gets.

# %%
print("coverage   promised   delivered")
for coverage in (1.1, 2.0, 10.0):
    logs = offline.record(BOOKS, offline.expert(BOOKS, coverage), 200, seed=7, logs=2000)
    promised = offline.reward_model(logs, unseen=0.0)[:, 0].max(1)
    print(f"{coverage:8.1f}{promised.mean():11.3f}{(BOOKS.max() - lost(offline.empirical_best, logs)).mean():12.3f}")

# %% [markdown]
# This is the *winner's curse*. The remedy is to charge each arm for its uncertainty. Hoeffding's inequality says that the average
# of $n$ rewards in $[0, 1]$ lies more than $\sqrt{\ln(1/p)/(2n)}$ above its truth with chance at most $p$. To have all $K$ arms
# behave at once, with room to spare, share out a chance of $\delta = 1/N$ as $p = \delta / 2K$, where $N$ is the length of the
# log:
#
# $$\text{lower bound of arm } a = \bar r_a - \sqrt{\frac{\ln (2 K N)}{2 n_a}}.$$
#
# In chapter 01 a radius like this was *added*: whoever may try things should be curious. Whoever may not should be careful.
#
# ## Exercise 1: the lower bound · ●○○○○ · 5 min
#
# You get the total reward and the number of tries of each arm. Some arms may never have been tried; what have they proven?

# %%
def lower_bound(total, count):
    """total [K], count [K] (may be 0) -> lower confidence bounds [K]."""
    # solution
    tries = np.maximum(count, 1)
    radius = np.sqrt(np.log(2 * len(count) * count.sum()) / (2 * tries))
    return np.where(count > 0, total / tries - radius, -np.inf)
    # end solution
    # stub: return None  # your code here (about three lines)


# %%
bound_of = check("03.lower_bound", lower_bound).function

# %%
logs = offline.record(BOOKS, offline.expert(BOOKS, 3.0), 200, seed=8, logs=500)
ours = [bound_of(total[0], count[0]).argmax() for total, count in zip(logs.totals(), logs.counts())]
assert np.array_equal(ours, offline.lower_confidence(logs)[:, 0])
print("500 logs: the package's lower_confidence chooses the same arm in every one")

# %% [markdown]
# ## 2 Where counting beats statistics
#
# Now the surprise. Take only two arms, paying 0.6 and 0.5, and a librarian who is nearly an expert: $C^* = 1.2$, so she chose the
# better arm five times in six. Here the rule that ignores all rewards can be analysed completely. It errs if the better arm is in
# the minority.
#
# ## Exercise 2: when the majority errs · ●●○○○ · 10 min
#
# The number of rounds (out of `rounds`) in which she chose the better arm is binomial with chance $1/C^*$. Give the exact chance
# that *most played* takes the wrong one of two arms. At a tie it tosses a coin. (`math.comb(n, k)` counts the ways.)

# %%
def majority_errs(rounds, coverage):
    """rounds: an even or odd number of rounds; coverage: C* -> the chance of choosing the worse of two arms."""
    # solution
    p = 1 / coverage
    chance = [math.comb(rounds, k) * p**k * (1 - p) ** (rounds - k) for k in range(rounds + 1)]
    minority = sum(chance[k] for k in range(rounds + 1) if 2 * k < rounds)
    tie = chance[rounds // 2] if rounds % 2 == 0 else 0.0
    return minority + tie / 2
    # end solution
    # stub: return None  # your code here (about five lines)


# %%
errs = check("03.majority_errs", majority_errs).function

# %% [markdown]
# Against it we let the averages and the lower bounds play: forty thousand logs of every length, with the better arm in either
# place.

# %%
lengths = np.array([4, 8, 16, 32, 64, 128, 256])
pair = np.array([[[0.6, 0.5]], [[0.5, 0.6]]]).repeat(20_000, axis=0)  # [40000 logs, 1 context, 2 arms]
wrong = {name: [] for name in RULES}
for rounds in lengths:
    logs = offline.record(pair, offline.expert(pair, 1.2), int(rounds), seed=9)
    for name, rule in RULES.items():
        wrong[name].append((np.take_along_axis(pair[:, 0], rule(logs), 1) < 0.6).mean())
exact = np.array([errs(int(n), 1.2) for n in lengths])
assert np.allclose(wrong["most played"], exact, atol=0.01)
print("most played at N = 16: simulated", round(wrong["most played"][2], 5), "exact", round(exact[2], 5))

# %%
half = 0.5 * math.log(0.5 * 1.2) + 0.5 * math.log(0.5 / (1 - 1 / 1.2))  # KL(1/2 || 1/C*)
fig, ax = plt.subplots(figsize=(7, 3.8))
ax.plot(lengths, exact, color=plots.COLORS[1], marker=plots.MARKERS[1], label="most played (exact)")
for j, name in enumerate(("best average", "best lower bound"), 1):
    shown = np.array(wrong[name]) > 0
    ax.plot(lengths[shown], np.array(wrong[name])[shown], color=plots.COLORS[1 + j], marker=plots.MARKERS[1 + j], label=name)
ax.plot(lengths, np.exp(-lengths * half), color="#888888", linestyle=":", label=r"exp(−N KL(½ ‖ 1/C*))")
ax.set(xscale="log", yscale="log", ylim=(1e-7, 1), xticks=lengths, xticklabels=lengths)
ax.set(xlabel="rounds in the log, N", ylabel="chance of the worse arm", title="Nearly an expert: C* = 1.2")
ax.minorticks_off()
ax.legend(loc="lower left")
plots.show(
    fig,
    alt=f"Chance of the worse of two arms against log length. Most played falls from {exact[0]:.2f} at 4 rounds to "
    f"{exact[4]:.0e} at 64; best average is still at {wrong['best average'][4]:.2f} there and best lower bound at "
    f"{wrong['best lower bound'][4]:.3f}.",
    caption="Both scales are logarithmic. The grey line is the exponential rate at which a majority can err.",
)

# %% [markdown]
# At 64 rounds the counter errs less than once in a thousand million logs; the averages err in more than a quarter, because eleven
# tries of the worse arm easily look better than they are. The rewards are *noise* here, and the habit of a near-expert is
# *signal*. That a majority errs exponentially rarely is Chernoff's bound, the grey line, and it holds for every $C^* < 2$. But
# the habit speaks only while the best arm has the majority, and only if there *is* one best arm.
#
# With many different visitors the rewards matter again. Twenty kinds of visitors, five books, four hundred rounds: about twenty
# rounds for each kind. Means are drawn anew for each of three hundred libraries.

# %%
coverages = np.array([1.0, 1.1, 1.25, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0])
libraries = wb.seeding.generator(0, "libraries").random((300, 20, 5))
rules = {**RULES, "best lower bound": lambda log: offline.lower_confidence(log, scale=0.3)}
regret = np.empty((3, len(coverages), 300))
for j, coverage in enumerate(coverages):
    logs = offline.record(libraries, offline.expert(libraries, coverage), 400, seed=10)
    for i, rule in enumerate(rules.values()):
        earned = np.take_along_axis(libraries, rule(logs)[..., None], -1)[..., 0]
        regret[i, j] = (libraries.max(-1) - earned).mean(-1)

fig, ax = plt.subplots(figsize=(7, 3.8))
for i, name in enumerate(rules):
    found = wb.stats.t_interval(regret[i])
    ax.plot(coverages, found.estimate, color=plots.COLORS[1 + i], marker=plots.MARKERS[1 + i], label=name)
    ax.fill_between(coverages, found.low, found.high, color=plots.COLORS[1 + i], alpha=0.2)
ax.set(xlabel="coverage C* (1 an expert, 5 blind)", ylabel="loss (chance of a loan)", title="Twenty kinds of visitors")
ax.legend(loc="upper left")
at = {c: regret[:, list(coverages).index(c)].mean(-1) for c in (1.25, 3.0, 5.0)}
plots.show(
    fig,
    alt="Loss against coverage for most played, best average and best lower bound. "
    + "; ".join(f"at {c}: " + ", ".join(f"{x:.3f}" for x in at[c]) for c in at) + ".",
    caption="Means over 300 libraries with 95 % bands. Pessimism passes copying at about 2, the averages pass it before 3.",
)  # fmt: skip

# %% [markdown]
# Read it from left to right. While the logger chooses the best book more often than not, copy. Beyond that pessimism takes over,
# and stays best to the right end, where she was blind and her log is as good as an experiment. The averages are never first. (We
# shrank the radius to 0.3 of the theory's; proven radii are wide.) Rashidinejad and colleagues (2021) prove that this is no
# accident: with two contexts or more, the lower bound adapts to the whole range of coverages as well as anything can, up to
# constants. With a single context, as you have seen, counting can beat it.
#
# ## 3 Judging a policy without running it
#
# So far we chose one arm for ever. Often the question is another: somebody proposes a *policy*, a chance for each arm, and you
# must say what it would have earned. If the logger wrote down how likely each of her choices was, its **propensity**, this can be
# answered without bias, by an idea from survey sampling (Horvitz and Thompson, 1952): a person of a kind that was asked too
# rarely stands for several.
#
# Let $\mu(a)$ be the logger's chance of arm $a$, and $\pi(a)$ the new policy's. A round with arm $a$ came up $\mu(a)$ of the
# time, and would have come up $\pi(a)$ of the time. So count it $w = \pi(a) / \mu(a)$ times:
#
# $$\hat V_{\text{IPS}} = \frac1N \sum_{i=1}^N \frac{\pi(a_i)}{\mu(a_i)} \, r_i .$$
#
# ## Exercise 3: inverse propensity scoring · ●○○○○ · 5 min

# %%
def ips(reward, new, old):
    """reward [N]; new, old [N]: the chance each policy gives to the logged action -> the estimated value, a number."""
    # solution
    return (new / old * reward).mean()
    # end solution
    # stub: return None  # your code here (one line)


# %%
ips_of = check("03.ips", ips).function

# %% [markdown]
# Is it really unbiased? Take a world so small that we can list all its logs: two kinds of visitors, two books, three rounds. Each
# round is one of eight (visitor, book, taken or not), so there are $8^3 = 512$ logs, and we know the chance of each.

# %%
truth = np.array([[0.9, 0.3], [0.2, 0.6]])  # [visitor, book]
librarian = np.array([[0.8, 0.2], [0.3, 0.7]])
proposal = np.array([[0.25, 0.75], [0.6, 0.4]])
every = np.array(list(itertools.product(itertools.product((0, 1), repeat=3), repeat=3)))  # [512, 3 rounds, 3]
visitor, book, taken = np.moveaxis(every, -1, 0)
pays = np.where(taken == 1, truth[visitor, book], 1 - truth[visitor, book])
chance = (0.5 * librarian[visitor, book] * pays).prod(1)  # of each log; both kinds of visitor are equally frequent

new, old = proposal[visitor, book], librarian[visitor, book]
estimates = np.array([ips_of(*log) for log in zip(taken, new, old)])
print("mean over all 512 logs", chance @ estimates)
print("the proposal's value  ", offline.value(proposal, truth))
assert math.isclose(chance @ estimates, offline.value(proposal, truth), abs_tol=1e-12)

# %% [markdown]
# Equal to the last digit. And yet look at single estimates: a log in which a rare choice happened to be rewarded three times
# gives a nonsense.

# %%
print("largest estimate:", estimates.max().round(2), "although no reward is larger than 1")
print("weights of the rounds in that log:", (new / old)[estimates.argmax()])

# %% [markdown]
# Three rounds whose weights add up to more than eleven. If we divide by that instead of by three, we have an ordinary weighted
# average, and it cannot leave the range of the rewards. That is the *self-normalised* estimator:
#
# $$\hat V_{\text{SN}} = \frac{\sum_i w_i r_i}{\sum_i w_i}.$$
#
# ## Exercise 4: self-normalised · ●●○○○ · 10 min
#
# You are also told which action each round had. Think about whether you need it.

# %%
def self_normalised(reward, action, new, old):
    """reward [N], action [N]; new, old [N]: the chance each policy gives to that action -> the estimated value."""
    # solution
    weight = new / old
    return weight @ reward / weight.sum()
    # end solution
    # stub: return None  # your code here (about two lines)


# %%
sn_of = check("03.self_normalised", self_normalised).function
print("the nonsense from above becomes", sn_of(taken[estimates.argmax()], book[0], new[estimates.argmax()], old[estimates.argmax()]))
mean = chance @ [sn_of(*log) for log in zip(taken, book, new, old)]
print(f"mean over all 512 logs {mean:.4f}: a bias of {mean - offline.value(proposal, truth):+.4f}")

# %% [markdown]
# The price is a bias, large for three rounds and shrinking like $1/N$. (One sum for the whole log, by the way. If you normalise
# within each action, all its weights are equal and cancel, and the new policy is gone from the answer.)
#
# A third way is to guess the rewards. The **direct method** fits a model $m(a)$ of the rewards and asks what it predicts for the
# new policy, $\sum_a \pi(a) m(a)$. Little noise, but it is as wrong as the model. The **doubly robust** estimator predicts, and
# then lets the log correct the prediction by the weighted residuals:
#
# $$\hat V_{\text{DR}} = \sum_a \pi(a)\, m(a) + \frac1N \sum_i \frac{\pi(a_i)}{\mu(a_i)} \,\bigl(r_i - m(a_i)\bigr).$$
#
# ## Exercise 5: doubly robust · ●●●○○ · 15 min
#
# One context, so that `policy` and `model` have one number for each arm.

# %%
def doubly_robust(reward, action, old, policy, model):
    """reward, action, old [N]; policy [K], model [K] predicted rewards -> the estimated value."""
    # solution
    weight = policy[action] / old
    return policy @ model + (weight * (reward - model[action])).mean()
    # end solution
    # stub: return None  # your code here (about two lines)


# %%
dr_of = check("03.doubly_robust", doubly_robust).function

# %% [markdown]
# Against the package, on a log of the ten books; and the two identities that give it its name. With a model of zeros nothing is
# predicted and IPS remains; if the model leaves no residuals, the weights do not matter.

# %%
proposed = np.full(10, 0.05) + 0.5 * (np.arange(10) == 2)
log = offline.record(BOOKS, offline.expert(BOOKS, 10.0), 400, seed=11)
guess = np.full(10, 0.5)
ours = dr_of(log.rewards, log.actions, log.propensities, proposed, guess)
theirs = offline.doubly_robust(log, proposed, guess[None])
print(f"ours {ours:.6f}; the package {theirs.estimate:.6f}, 95 % interval {theirs.low:.3f} to {theirs.high:.3f}")
print(f"the truth {offline.value(proposed, BOOKS):.6f}")
assert math.isclose(ours, theirs.estimate)
zero = dr_of(log.rewards, log.actions, log.propensities, proposed, np.zeros(10))
assert math.isclose(zero, offline.ips(log, proposed).estimate)
sure = (BOOKS > 0.45).astype(float)  # books that are always or never taken, and a model that knows it
assert math.isclose(dr_of(sure[log.actions], log.actions, 0.01 * log.propensities, proposed, sure), proposed @ sure)

# %% [markdown]
# ## 4 How far can you trust the interval?
#
# All of these come with a 95 % interval. Does it hold the truth 95 times in a hundred? That can be tried: four kinds of visitors,
# three books, a thousand logs of two hundred rounds. The proposal mostly chooses what is best. The librarian explores with some
# chance, and else chooses one of the two books that the proposal likes least, so the less she explores, the less her log has to
# say.

# %%
kinds = np.array([[0.2, 0.5, 0.8], [0.6, 0.4, 0.3], [0.1, 0.7, 0.5], [0.5, 0.3, 0.9]])
wanted = np.array([[0.1, 0.1, 0.8], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
avoids = np.where(wanted == 0.8, 0.0, 0.5)
flat = np.full((4, 3), 0.5)  # a crude model: everything is taken half of the time
JUDGES = {
    "IPS": lambda log: offline.ips(log, wanted),
    "self-normalised": lambda log: offline.self_normalised(log, wanted),
    "doubly robust, crude model": lambda log: offline.doubly_robust(log, wanted, flat),
    "doubly robust, right model": lambda log: offline.doubly_robust(log, wanted, kinds),
    "direct, crude model": lambda log: offline.direct(log, wanted, flat),
}
worth = offline.value(wanted, kinds)
SHARES = (1.0, 0.3, 0.1, 0.03, 0.01)
records = {s: offline.record(kinds, s / 3 + (1 - s) * avoids, 200, seed=12, logs=1000) for s in SHARES}
judged = {s: {name: judge(records[s]) for name, judge in JUDGES.items()} for s in SHARES}

# %%
print(f"{'coverage of the 95 % interval':32}" + "".join(f"{f'explores {s:.0%}':>15}" for s in SHARES))
for name in JUDGES:
    covered = [np.mean((judged[s][name].low < worth) & (worth < judged[s][name].high)) for s in SHARES]
    print(f"{name:32}" + "".join(f"{c:15.1%}" for c in covered))
print()
print(f"{'bias':32}" + "".join(f"{f'explores {s:.0%}':>15}" for s in SHARES))
for name in JUDGES:
    print(f"{name:32}" + "".join(f"{judged[s][name].estimate.mean() - worth:15.3f}" for s in SHARES))

# %%
fig, axes = plt.subplots(1, 3, figsize=(9.4, 3.6), sharey=True)
for ax, share in zip(axes, (1.0, 0.1, 0.01)):
    spread = [judged[share][name].estimate for name in JUDGES][:4]
    parts = ax.violinplot(spread, orientation="horizontal", showmeans=True, showextrema=False)
    for body, colour in zip(parts["bodies"], plots.COLORS):
        body.set(facecolor=colour, alpha=0.6)
    parts["cmeans"].set(color="black", linestyle="-")
    ax.axvline(worth, color="black", linestyle=":", linewidth=1.5)
    ax.set(xlim=(-0.3, 2), xlabel="estimated value", title=f"explores {share:.0%}")
axes[0].set(yticks=range(1, 5), yticklabels=[name.replace(", ", ",\n") for name in list(JUDGES)[:4]])
spreads = "; ".join(f"exploring {s:.0%}: IPS {judged[s]['IPS'].estimate.std():.2f}, "
                    f"self-normalised {judged[s]['self-normalised'].estimate.std():.2f}" for s in (1.0, 0.1, 0.01))  # fmt: skip
plots.show(
    fig,
    alt=f"Distributions of 1000 estimates around the exact value {worth:.3f}. Standard deviations: {spreads}.",
    caption="Dotted: the truth. Black bars: the mean of the estimates. On the right most logs hold no example of what the "
    "proposal wants, and a few hold one with a weight in the hundreds.",
)

# %% [markdown]
# At full exploration all is well (except for the crude model alone: it is wrong with great confidence, at any size of log). As
# exploration falls, IPS and the doubly robust estimators stay **unbiased**, and their intervals fail all the same: the interval
# of one log is made from that log's spread, and a log that happens to hold none of the heavy rounds looks calm. Being right on
# average is no comfort when the average is made of many estimates that are far too low and a few giants. Only with a model that
# happens to be right does the interval come near what it promises.
#
# Could a diagnostic warn us? The usual one is the *effective number of rounds*, $(\sum w)^2 / \sum w^2$.

# %%
print(f"{'explores':>8}{'effective rounds':>18}{'largest weight':>16}{'mean weight':>13}{'never seen':>12}")
for share in SHARES:
    found = offline.overlap(records[share], wanted)
    row = found.effective, found.largest, found.mean
    print(f"{share:8.0%}" + "".join(f"{np.median(x):{n}.1f}" for x, n in zip(row, (18, 16, 13))) + f"{np.median(found.unseen):12.0%}")

# %% [markdown]
# It falls, and then **rises again**. At 1 % exploration most logs hold not one of the heavy rounds; all weights in them are small
# and alike, and the effective number looks excellent. What gives it away are the two other columns: weights should average to 1,
# and here most of the proposal's wishes were never tried. Before believing an estimate from a log, look at what is *not* in it.
#
# ## What the papers had that we left out
#
# - *Many steps.* Rashidinejad and colleagues go on to decision processes: coverage of states and actions, value iteration with
#   lower bounds.
# - *Tighter radii.* Bernstein's instead of Hoeffding's, which know that a rare reward varies little; and clipped or shrunken
#   weights, which trade bias for calm.
# - *Fitting the model on other data* (cross-fitting). We handed the doubly robust estimator a model from outside. Fitted on the
#   same log as a table of averages, it becomes the direct method exactly: try `offline.doubly_robust(log, proposed,
#   offline.reward_model(log))`.
# - *Propensities nobody wrote down.* `offline.with_counted_propensities` counts them; then IPS and the direct method are the same
#   number.
#
# ## Where this returns
#
# The ratio of new to old probability is the heart of PPO and its descendants (chapters 09 and 12), clipped for the reason you
# have just seen. Pessimism returns in chapter 08, against what cannot be known. And one assumption was silently made
# throughout: that nothing moved both the librarian's choice and the visitor's answer but what stands in the notebook. No
# diagnostic above would have noticed. Chapter 04 is about that.
#
# ## Further reading
#
# - P. Rashidinejad, B. Zhu, C. Ma, J. Jiao, S. Russell, *Bridging offline reinforcement learning and imitation learning: a tale
#   of pessimism*, [arXiv 2103.12021](https://arxiv.org/abs/2103.12021).
# - M. Dudík, J. Langford, L. Li, *Doubly robust policy evaluation and learning*, [arXiv
#   1103.4601](https://arxiv.org/abs/1103.4601).
# - D. G. Horvitz, D. J. Thompson, *A generalization of sampling without replacement from a finite universe*, Journal of the
#   American Statistical Association 47, 1952: where the weights come from.
