# %% [markdown]
# # 02 · Contexts, adversaries and budgets
#
# **The question.** What if the best arm depends on who asks, or on who is trying to fool you, or runs out?
#
# **You will be able to**
# - build LinUCB: one regression for each arm, and a bonus for what it has not seen;
# - build EXP3 and play against it, and say exactly what its guarantee promises against an opponent who reacts, and what not;
# - let two learners find the equilibrium of a game, and measure how far they are from it;
# - turn a bandit with budgets into a linear program, and see why it wants a mixture of arms rather than the best one.
#
# **Time.** 80 minutes of yours, about ten seconds of the computer's.
#
# **You need.** Chapter 01, or: what an arm is, what regret is, and the idea of an optimistic bonus. Expectations, a little
# linear algebra, NumPy.

# %%
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from ipywidgets import Button, HBox, IntSlider, Output, VBox

import workbench as wb
from workbench import plots
from workbench.bandits import adversarial, budgeted, contextual
from workbench.bandits.play import play
from workbench.course import check

plots.style()

# %% [markdown]
# ## Three ways for the best arm to be the wrong idea
#
# Chapter 01 had one best arm, and all one had to do was to find it. Here are three small worlds in which that plan fails. In
# the first, half of the visitors like one thing and half another. In the second, somebody watches which arm has been the best
# so far and spoils it. In the third, the good arms use up stock, and the evening is over when one of two shelves is empty. In
# each, the first learner looks for the best arm; the second does what this chapter teaches.

# %%
visitors = contextual.TabularContexts([[0.8, 0.2], [0.2, 0.8]])
trap = adversarial.leader_trap(2000)
stock = budgeted.BudgetedBandit(
    reward=[0.9, 0.9, 0.3], cost=[[1, 0], [0, 1], [0.1, 0.1]], budget=[150, 150], horizon=600
)
asks = [play(contextual.ContextUCB(kinds, bins=kinds == 1), visitors, 2000, 20, seed=1) for kinds in (1, 2)]
leader = adversarial.FollowPerturbedLeader(rate=1e9)  # the perturbation is a billionth: it follows the leader
fools = [play(policy, trap, 2000, 20, seed=1) for policy in (leader, adversarial.Hedge())]
best_arm = budgeted.FixedMixture(stock.best_arm().mixture)
sells = [budgeted.play_budgeted(policy, stock, 20, seed=1).reward.mean() for policy in (best_arm, budgeted.UcbBwK())]

# %%
fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.6))
labels = (("one arm for all", "one for each kind"), ("follow the leader", "Hedge"))
for ax, runs, names, title in zip(axes, (asks, fools), labels, ("Who asks?", "Who fools you?")):
    for run, name in zip(runs, names):
        ax.plot(run.times, run.regret.mean(0), label=name)
    ax.set(title=title, xlabel="round", ylabel="regret (rewards)")
    ax.legend(loc="upper left")
axes[2].bar(["best arm", "UcbBwK"], sells, color=plots.COLORS[:2], width=0.6)
axes[2].axhline(stock.bound(), color="black", linestyle=":", linewidth=1.5)
axes[2].text(0.1, stock.bound() + 7, "nobody earns more", ha="center", fontsize=9)
axes[2].set(title="What runs out?", ylabel="earned in 600 rounds", ylim=(0, 370))
plots.show(
    fig,
    alt="Three panels. Regret of one arm for all visitors grows on a straight line to "
    f"{asks[0].final.mean():.0f}, of one learner for each kind it stays at {asks[1].final.mean():.0f}. Regret of following the "
    f"leader grows to {fools[0].final.mean():.0f}, of Hedge to {fools[1].final.mean():.0f}. The best arm earns {sells[0]:.0f}, "
    f"a learner with budgets {sells[1]:.0f}, and the dotted bound is {stock.bound():.0f}.",
    caption="Means over 20 repetitions. Left and middle: a straight line means that nothing is learned. Right: the best arm alone "
    "earns little more than half of what a mixture does.",
)

# %% [markdown]
# ## 1 Who asks: a regression for each arm
#
# When there are two kinds of visitors, one learner for each kind does it. But visitors are rarely of two kinds. They come with
# *features* $x$, a vector of numbers, and no two are alike. To learn from one visitor about the next we must assume something
# that ties them together. The simplest assumption: arm $k$ pays $\theta_k \cdot x$ on average, for a vector $\theta_k$ that we
# do not know.
#
# Then each arm is a linear regression. From the visitors who got arm $k$ we keep two sums, $A_k = I + \sum x x^\top$ and
# $b_k = \sum \text{reward} \cdot x$, and estimate $\hat\theta_k = A_k^{-1} b_k$ (ridge regression; the $I$ keeps it defined before
# there are data). What UCB1's bonus $1/\sqrt n$ was to a mean, $\sqrt{x^\top A_k^{-1} x}$ is to a regression: small where this
# arm has seen many visitors *like this one*, large in directions it has never looked. **LinUCB** (Li, Chu, Langford and
# Schapire, 2010) pulls the arm with the largest
#
# $$\hat\theta_k \cdot x + \alpha \sqrt{x^\top A_k^{-1} x}.$$
#
# ## Exercise 1: one round of LinUCB · ●●○○○ · 15 min
#
# Choose, then learn. The order matters, and so does *who* learns: only the arm that was pulled has met this visitor.

# %%
def linucb_round(design, moment, x, pays, width):
    """design [K,d,d], moment [K,d], features x [d], what each arm would pay [K] -> arm, new design, new moment."""
    # solution
    inverse = np.linalg.inv(design)
    theta = np.einsum("kij,kj->ki", inverse, moment)
    arm = int((theta @ x + width * np.sqrt(x @ inverse @ x)).argmax())
    design, moment = design.copy(), moment.copy()
    design[arm] += np.outer(x, x)
    moment[arm] += pays[arm] * x
    return arm, design, moment
    # end solution
    # stub: return None  # your code here (about seven lines; work on copies)


# %%
one_round = check("02.linucb_round", linucb_round).function

# %% [markdown]
# Now 300 visitors, and the package's LinUCB beside yours. It differs in one thing: it never inverts a matrix. Adding $x x^\top$
# to $A$ changes the inverse by a formula found in 1950 by Sherman and Morrison, which costs $d^2$ steps instead of $d^3$. The
# choices must be the same.

# %%
rng = wb.seeding.generator(0, "visitors")
theta = rng.normal(size=(3, 4)) / 2
design, moment = np.tile(np.eye(4), (3, 1, 1)), np.zeros((3, 4))
theirs, same = contextual.LinUCB(width=0.5), 0
theirs.start(1, 3, 300)
for _ in range(300):
    x = rng.normal(size=4) / 2
    pays = theta @ x + 0.1 * rng.normal(size=3)
    their_arm = theirs.choose(rng, x[None])
    arm, design, moment = one_round(design, moment, x, pays, 0.5)
    same += arm == their_arm[0]
    theirs.update(their_arm, pays[their_arm])
print(same, "of 300 choices are the same; largest difference of the inverses",
      f"{np.abs(np.linalg.inv(design) - theirs.inverse[0]).max():.0e}")  # fmt: skip
assert same == 300

# %% [markdown]
# From here on we import. Linear Thompson sampling is the same regression with a die instead of a bonus: draw each $\theta_k$
# from its posterior, and pull the best for this visitor. Next to both, a UCB1 that does not look at the visitor.

# %%
linear = contextual.LinearContexts(wb.seeding.generator(0, "arms").normal(size=(4, 5)) / 2, noise=0.2)
players = {
    "LinUCB": contextual.LinUCB(width=0.5),
    "linear Thompson": contextual.LinearThompson(width=0.3),
    "UCB1, who does not look": contextual.ContextUCB(1, bins=True),
}
fig, ax = plt.subplots(figsize=(7, 3.6))
for name, policy in players.items():
    run = play(policy, linear, 3000, 20, seed=2)
    mean, low, high = run.interval()
    (line,) = ax.plot(run.times, mean, label=name)
    ax.fill_between(run.times, low, high, color=line.get_color(), alpha=0.25, linewidth=0)
    print(f"{name:25} regret {mean[-1]:7.1f}  [{low[-1]:.1f}, {high[-1]:.1f}]")
ax.set(xscale="log", yscale="log", xlabel="round", ylabel="regret (rewards)", ylim=(0.3, None))
ax.set_title("Looking at who asks")
ax.legend(loc="upper left")
plots.show(
    fig,
    alt="On log-log axes the regret of LinUCB and of linear Thompson sampling bends and stays below 30 after 3000 rounds; that "
    "of a UCB1 that ignores the visitor goes on along a straight line past 1000.",
    caption="Four arms, five features, mean of 20 repetitions with 95 % intervals. The straight line has slope one.",
)

# %% [markdown]
# Two warnings. If rewards are *not* linear in the features, LinUCB converges with great confidence to the wrong thing. And the
# bonus only knows about the visitor's features: if what they miss also decided who came, chapter 04 is waiting.
#
# ## 2 Who fools you: never be predictable
#
# So far rewards were drawn by a chance that does not care about us. Now somebody chooses them. In each round an **adversary**
# sets a loss between 0 and 1 for every arm; at the same time we pull an arm. What can one promise against that?
#
# Nothing, if the learner can be predicted. *Follow the leader*, which pulls the arm that has lost least so far, was beaten in
# the second panel above by a table of losses written down in advance, in which each arm is hit just when it has become the
# leader. The way out is a die. **Hedge** (Freund and Schapire, 1997) gives each arm the chance
#
# $$p_k \propto \exp(-\eta \cdot \text{what arm } k \text{ has lost so far}),$$
#
# where the rate $\eta$ says how quickly to believe the past. It needs to be told the losses of all arms. When we are told only
# that of the arm we pulled, we have to guess the others, and there is one guess that is right on average whatever the adversary
# does: *loss divided by the chance of having pulled that arm* for the arm we pulled, and *zero* for the others. Hedge on these
# guesses is **EXP3** (Auer, Cesa-Bianchi, Freund and Schapire, 2002).
#
# ## Exercise 2: a loss nobody saw · ●○○○○ · 5 min
#
# Write the guess. It is the first importance weight of this course, and there will be many.

# %%
def loss_estimate(chances, arm, loss):
    """chances [K] of the draw, the arm that was drawn, what it lost -> estimated losses of all arms [K]."""
    # solution
    estimate = np.zeros(len(chances))
    estimate[arm] = loss / chances[arm]
    return estimate
    # end solution
    # stub: return None  # your code here (about three lines)


# %%
estimate_of = check("02.loss_estimate", loss_estimate).function

# %% [markdown]
# *Right on average* can be checked by listing all draws, each with its chance. So can the price: an arm that is rarely pulled
# has an estimate that is nearly always zero and now and then enormous.

# %%
chances, losses = np.array([0.7, 0.25, 0.05]), np.array([0.9, 0.2, 0.6])
draws = np.array([estimate_of(chances, k, losses[k]) for k in range(3)])  # row k: what we guess if arm k is drawn
mean = chances @ draws
spread = np.sqrt(chances @ (draws - mean) ** 2)
for k in range(3):
    print(f"arm {k}: pulled with {chances[k]:.2f}, loses {losses[k]:.1f}, mean guess {mean[k]:.3f}, spread {spread[k]:.2f}")
assert np.allclose(mean, losses, atol=1e-15)

# %% [markdown]
# Now EXP3 in ten lines, made so that you can play against it. You are the adversary: in every round you choose which of three
# arms loses 1. EXP3 draws its arm without seeing your choice, and you see its chances before you choose. What counts is its
# **regret**: its hits, less those of the arm you have hit least.

# %%
class Duel:
    """You against EXP3. `hit(arm)` plays one round in which that arm loses 1 and the others nothing."""

    def __init__(self, rate=0.1, seed=5):
        self.rng, self.rate, self.guess = wb.seeding.generator(seed, "duel"), rate, np.zeros(3)
        self.chances, self.hits, self.pulls = [np.full(3, 1 / 3)], [], []

    def hit(self, arm):
        now = self.chances[-1]
        pulled = int(self.rng.choice(3, p=now))
        self.guess = self.guess + estimate_of(now, pulled, float(pulled == arm))
        weight = np.exp(-self.rate * (self.guess - self.guess.min()))
        self.chances.append(weight / weight.sum())
        self.hits.append(arm)
        self.pulls.append(pulled)

    def regret(self):
        """Times EXP3 was hit, and times the luckiest arm was."""
        struck = sum(a == b for a, b in zip(self.hits, self.pulls))
        return struck, int(np.bincount(self.hits, minlength=3).min())


# %%
def draw_duel(duel):
    rounds, chances = len(duel.hits), np.array(duel.chances)
    struck, luckiest = duel.regret()
    fig, ax = plt.subplots(figsize=(8, 3.4))
    for arm, name in enumerate("ABC"):
        style = {"color": plots.COLORS[arm], "linestyle": plots.DASHES[arm]}
        ax.plot(chances[:, arm], marker=plots.MARKERS[arm], markevery=[-1], label=f"{name}: {chances[-1, arm]:.2f} now", **style)
        struck_at = [t for t in range(rounds) if duel.hits[t] == arm == duel.pulls[t]]
        ax.plot(struck_at, chances[struck_at, arm], "x", color=plots.COLORS[arm], markersize=7)
    ax.set(xlabel="round", ylabel="chance of the arm", ylim=(0, 1.25 * max(0.5, chances.max())), xlim=(-0.5, max(20, rounds) + 0.5))
    ax.set_title(f"EXP3 was hit {struck} times, the luckiest arm {luckiest} times: regret {struck - luckiest}")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(loc="upper center", ncols=3)
    now = ", ".join(f"{name} {p:.2f}" for name, p in zip("ABC", chances[-1]))
    plots.show(
        fig,
        alt=f"Chances of EXP3 over {rounds} rounds; now {now}. It was hit {struck} times and the luckiest arm {luckiest} times.",
        caption="A cross: you hit the arm that EXP3 had drawn.",
    )


# %% [markdown]
# First somebody who always hits EXP3's likeliest arm. That seems clever. Look what it does.

# %%
duel = Duel()
for _ in range(150):
    duel.hit(int(duel.chances[-1].argmax()))
draw_duel(duel)

# %% [markdown]
# Every hit that strikes makes the arm less likely, so the adversary must move on; in the end it has spread its hits over all
# arms, the luckiest arm included, and EXP3 is hardly worse off than that arm. Now you. Over 100 rounds EXP3 promises about
# $\sqrt{2 \cdot 100 \cdot 3 \ln 3} \approx 26$ at most, on average; how near can you come?

# %%
yours, screen = Duel(), Output()


def redraw():
    screen.clear_output(wait=True)
    with screen:
        draw_duel(yours)


def button(label, arm, times):
    def press(_):
        for _ in range(times):
            yours.hit(int(yours.chances[-1].argmax()) if arm is None else arm)
        redraw()

    made = Button(description=label)
    made.on_click(press)
    return made


singles = [button(f"hit {name}", arm, 1) for arm, name in enumerate("ABC")]
tens = [button(f"hit {name} 10 times", arm, 10) for arm, name in enumerate("ABC")]
display(VBox([HBox([*singles, button("hit its favourite", None, 1)]), HBox(tens), screen]))
redraw()

# %% [markdown]
# *(The buttons work in the notebook; run the cell again to start afresh. An exported page shows the duel above instead.)*
#
# One game says little, since both of you were lucky or not. So here are some ways to fight, over 150 rounds, each in 1000
# games. "In turn" hits A, B, C, A, ...; "blocks" hits each fifty times in a row; the last one is the clever one from above.

# %%
fights = {"in turn": np.arange(150) % 3, "blocks": np.arange(150) // 50, "A and B in turn": np.arange(150) % 2,
          "A, then B": np.arange(150) // 75}  # fmt: skip
fights = {name: adversarial.LossTable(np.eye(3)[hits]) for name, hits in fights.items()}
fights["its favourite"] = adversarial.Reactive(adversarial.hit_the_favourite, 3)
for name, adversary in fights.items():
    mean, low, high = wb.stats.t_interval(play(adversarial.EXP3(rate=0.1), adversary, 150, 1000, seed=1).final)
    print(f"{name:16} regret of EXP3 {mean:5.1f}  [{low:.1f}, {high:.1f}]")

# %% [markdown]
# *Mercy* hurts EXP3 at least as much as all that cunning: it must find out which arm is never hit, from guesses that are mostly
# zero. Hitting all arms alike leaves nothing to regret, and with long blocks EXP3 even does better than every single arm. (Its
# favourite is here the arm it has pulled most often, as for any spy who cannot see the chances.)
#
# ### What exactly is promised
#
# Against losses fixed in advance, EXP3's expected regret is at most $\sqrt{2 T K \ln K}$ and Hedge's, who sees everything, at
# most $\sqrt{\tfrac12 T \ln K}$, for every table of losses whatsoever. An adversary who *reacts* asks for more care, since
# there are now three things that "regret" may mean:
#
# - **pseudo-regret**: against the arm that is best *on average* over the learner's dice. EXP3's bound holds for it, unchanged.
# - **regret in hindsight**: against the arm that turned out best in *this* game. It is larger, because the luckiest arm differs
#   from game to game. Hedge keeps its bound even here, in every single game, if we count the mean loss of its mixture. For EXP3
#   the luckiest arm can be luckier than the bound allows; EXP3.P, a more cautious relative, keeps it below
#   $5.15\sqrt{T K \ln(K/\delta)}$ except with chance $\delta$.
# - **policy regret**: against what the adversary *would have done* to somebody who always pulled that arm. About this nobody
#   can promise anything.

# %%
T, arms, games = 2000, 3, 100
rules = {"hit the favourite": adversarial.hit_the_favourite, "hit the last": adversarial.hit_the_last}
print(f"{'mean over 100 games':22}{'':10}{'pseudo-regret':>14}{'in hindsight':>14}{'worst game':>12}{'bound':>8}")
for rule_name, rule in rules.items():
    for policy, bound in (
        (adversarial.Hedge(), adversarial.hedge_bound(T, arms)),
        (adversarial.EXP3(), adversarial.exp3_bound(T, arms)),
        (adversarial.EXP3P(), adversarial.exp3p_bound(T, arms, 0.05)),
    ):
        rivals = [play(policy, adversarial.Reactive(rule, arms, rival=k), T, games, seed=3).final for k in range(arms)]
        pseudo, hindsight = max(r.mean() for r in rivals), np.max(rivals, 0)
        name = type(policy).__name__
        print(f"{rule_name:22}{name:10}{pseudo:14.1f}{hindsight.mean():14.1f}{hindsight.max():12.0f}{bound:8.0f}")

# %% [markdown]
# All within their bounds, and hindsight is indeed what the adversary can push up. Look at the worst game of EXP3, too: the
# bound is for the mean, and a single game can exceed it, as can one of Hedge's: its bound is for its mixtures, and the last
# column counts what was drawn. (EXP3.P's bound covers 95 games of a hundred, with room to spare.)
#
# And policy regret? Here is an adversary who bears a grudge. Pull arm 0 but once, and every arm loses 1 for ever. Until then,
# arm 1 loses a quarter.

# %%
grudge = adversarial.Reactive(adversarial.bear_a_grudge, 3)
final = play(adversarial.EXP3(), grudge, T, games, seed=3).final
print(f"EXP3: regret on the losses played {final.mean():.1f}, at most {final.max():.1f} in {games} games")
print(f"and it lost nearly {T}, where always pulling arm 1 would have lost {T / 4:.0f}")

# %% [markdown]
# Almost no regret, and everything lost: after the first mistake all arms are equally bad, so there is nothing to regret. *A
# regret bound says that you did as well as any fixed arm would have done in the world that your own actions made.* Remember
# this when a learner changes the world it learns in.

# %% [markdown]
# ## 3 Both fool each other: a game
#
# Let the adversary be a learner too. In **rock, paper, scissors** the column player pays the row player 1, 0 or -1, and each
# hedges against what the other does. Hedge, by hand, is two lines; we start both with a lopsided opinion.

# %%
GAME = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])  # rows and columns: rock, paper, scissors


def self_play(rounds, rate):
    """Mixtures of the row player [T,3] and of the column player [T,3], each of whom is told all its payoffs."""
    x, y = np.log([0.6, 0.3, 0.1]), np.log([0.2, 0.2, 0.6])
    rows, columns = [], []
    for _ in range(rounds):
        p, q = np.exp(x) / np.exp(x).sum(), np.exp(y) / np.exp(y).sum()
        x, y = x + rate * GAME @ q, y - rate * p @ GAME
        rows.append(p)
        columns.append(q)
    return np.array(rows), np.array(columns)


rows, columns = self_play(3000, np.sqrt(8 * np.log(3) / 3000) / 2)  # / 2, because payoffs range over 2
row_mean = rows.cumsum(0) / np.arange(1, 3001)[:, None]
theirs = adversarial.hedge_against_hedge(GAME, 3000, row=[0.6, 0.3, 0.1], column=[0.2, 0.2, 0.6])
assert np.allclose(theirs.row[-1], row_mean[-1])
print("the average mixture of the row player after 3000 rounds:", row_mean[-1].round(3))

# %%
corners = np.array([[0.5, np.sqrt(3) / 2], [0, 0], [1, 0]])  # rock, paper, scissors
fig, ax = plt.subplots(figsize=(6, 4.8))
ax.fill(*corners.T, facecolor="#f7f7f7", edgecolor="#999999")
for name, corner, shift in zip(("rock", "paper", "scissors"), corners, ((0, 8), (-8, -14), (8, -14))):
    ax.annotate(name, corner, shift, textcoords="offset points", ha="center")
ax.plot(*(rows @ corners).T, color=plots.COLORS[0], linewidth=0.8, linestyle="-", alpha=0.7, label="mixture of the round")
ax.plot(*(row_mean @ corners).T, color=plots.COLORS[1], linestyle="-", label="average so far")
ax.plot(*(rows[0] @ corners), "o", color="black", markersize=7, label="start")
ax.plot(*corners.mean(0), "*", color=plots.COLORS[3], markersize=14, label="equilibrium")
ax.set(aspect="equal", xlim=(-0.15, 1.35), ylim=(-0.09, 0.95), title="Two copies of Hedge chase each other")
ax.axis("off")
ax.legend(loc="upper right")
plots.show(
    fig,
    alt="In the triangle of mixtures the row player's mixture circles round the middle in ever wider loops, while the average "
    f"of its mixtures spirals into the middle: {', '.join(f'{p:.3f}' for p in row_mean[-1])} after 3000 rounds.",
    caption="The mixtures themselves never settle. Their average goes to one third each.",
)

# %% [markdown]
# Neither player knows that there is an equilibrium, and neither settles on it. Yet the *averages* approach it, for a reason in
# one line: if neither regrets not having played something else, then neither average leaves the other anything to exploit.
#
# ## Exercise 3: how exploitable? · ●●○○○ · 10 min
#
# The row player earns `row @ payoff @ column`. Suppose each player switched to its best answer to the *other's* mixture. By how
# much would the two gains add up? That sum is the **exploitability**, zero exactly at an equilibrium. (What the two mixtures
# earn against each other drops out of the sum.)

# %%
def exploitability(payoff, row, column):
    """payoff [N,M] to the row player, mixtures row [N] and column [M] -> what two best answers would gain together."""
    # solution
    return (payoff @ column).max() - (row @ payoff).min()
    # end solution
    # stub: return None  # your code here (one line)


# %%
gap_of = check("02.exploitability", exploitability).function
print("all rock against all rock:", gap_of(GAME, np.eye(3)[0], np.eye(3)[0]))
third = np.full(3, 1 / 3)
print(f"one third each: {gap_of(GAME, third, third):.0e}")

# %% [markdown]
# The two average regrets bound it, so it falls at least as fast as $1/\sqrt T$. To see that no symmetry is needed, here is a
# game of four rows and six columns that came out of a random number generator. Its value is found by a linear program; the two
# Hedges are not told.

# %%
odd = wb.seeding.generator(0, "odd game").normal(size=(4, 6)).round(1)
value, row, column = adversarial.minimax(odd)
print(f"value {value:.3f}, equilibrium mixture of the row player {row.round(3)}")
horizons = np.unique(np.geomspace(100, 6400, 13).round().astype(int))
runs = [adversarial.hedge_against_hedge(odd, int(T)) for T in horizons]
gaps = np.array([gap_of(odd, run.row[-1], run.column[-1]) for run in runs])
bound = np.ptp(odd) * (np.sqrt(np.log(4)) + np.sqrt(np.log(6))) / np.sqrt(2 * horizons)
slope = np.polyfit(np.log(horizons), np.log(gaps), 1)[0]
print(f"exploitability falls as T to the power {slope:.2f}; average mixture after {horizons[-1]} rounds {runs[-1].row[-1].round(3)}")

# %%
fig, ax = plt.subplots(figsize=(6.5, 3.4))
ax.plot(horizons, gaps, "o", color=plots.COLORS[0], label="measured")
ax.plot(horizons, bound, color="black", linestyle=":", label="sum of the two regret bounds, over T")
ax.set(xscale="log", yscale="log", xlabel="rounds T", ylabel="exploitability (payoff)", title="Two learners find an equilibrium")
for axis, ticks in ((ax.xaxis, (100, 400, 1600, 6400)), (ax.yaxis, (0.02, 0.05, 0.1, 0.2, 0.5, 1))):
    axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_ticks([], minor=True)
ax.legend(loc="upper right")
plots.show(
    fig,
    alt=f"Log-log plot: exploitability falls from {gaps[0]:.2f} at {horizons[0]} rounds to {gaps[-1]:.3f} at {horizons[-1]}, "
    f"slope {slope:.2f}, always under a dotted bound that falls as one over the root of T.",
    caption="Each dot is a run of its own, with the rate that suits its horizon. Nothing is drawn at random.",
)

# %% [markdown]
# ## 4 What runs out: a linear program
#
# The third world of the first picture. On a market stall you can offer *portraits*, *posters* or *stickers*. A portrait sells
# nine times in ten and uses up a frame, a poster sells nine times in ten and uses up a sheet of paper; a sticker sells three
# times in ten and uses a frame or a sheet one time in ten each. There are 150 frames, 150 sheets, and 600 customers. When
# frames or paper are gone, you pack up.
#
# ## Exercise 4: what is a mixture worth? · ●●○○○ · 10 min
#
# You offer arm $k$ with the chance `mixture[k]`, all evening. Reckon with averages: what does a round earn, and after how many
# rounds does something run out, or the evening end?

# %%
def mixture_value(reward, cost, budget, horizon, mixture):
    """reward [K] and cost [K,D] of a pull on average, budget [D], rounds at most, mixture [K] -> earned in all."""
    # solution
    rounds = min(horizon, (budget / (mixture @ cost)).min())
    return mixture @ reward * rounds
    # end solution
    # stub: return None  # your code here (about two lines)


# %%
value_of = check("02.mixture_value", mixture_value).function

# %%
NAMES = ["portraits", "posters", "stickers"]
market = (stock.reward, stock.cost, stock.budget, stock.horizon)
with np.errstate(divide="ignore"):  # an arm that does not use a resource lasts for ever
    for k, name in enumerate(NAMES):
        print(f"{name:10} only: {value_of(*market, np.eye(3)[k]):6.1f}")
    print(f"half portraits, half posters: {value_of(*market, np.array([0.5, 0.5, 0])):6.1f}")
plan = stock.plan()
best = value_of(*market, plan.mixture)
print(f"the best mixture {dict(zip(NAMES, plan.mixture.round(4).tolist()))}: {best:.1f}, per round {plan.value:.3f}")
assert np.isclose(best, stock.bound())

# %% [markdown]
# **The surprise: the best mixture beats every fixed arm**, 315 against 180, and not by learning anything: both know everything.
# With budgets there may be no best arm at all. Finding the best mixture is a linear program: maximise $\sum_k x_k r_k$ subject
# to $\sum_k x_k c_{kj} \le B_j / T$ for each resource $j$ and $\sum_k x_k \le 1$. Its value times $T$ bounds what any policy
# can earn on average, however clever (Badanidiyuru, Kleinberg and Slivkins, 2013). And the mixture has at most one arm more
# than there are resources, because the optimum of a linear program is at a corner.
#
# Reckoning with averages is one thing, an evening with luck in it another. So let us play 200 evenings of each.

# %%
plans = {name: np.eye(3)[k] for k, name in enumerate(NAMES)} | {"best mixture": plan.mixture}
for name, mixture in plans.items():
    evening = budgeted.play_budgeted(budgeted.FixedMixture(mixture), stock, 200, seed=4)
    mean, low, high = wb.stats.t_interval(evening.reward)
    print(f"{name:13} earned {mean:6.1f}  [{low:.1f}, {high:.1f}]   packed up after {evening.rounds.mean():5.1f} of 600 rounds")

# %% [markdown]
# The mixture comes short of 315 by a little, since some evenings one shelf empties early by chance. Play with the stock: when
# does the best mixture drop an arm, and when is a single arm enough?

# %%
def draw_stock(frames, sheets):
    here = budgeted.BudgetedBandit(stock.reward, stock.cost, [frames, sheets], 600)
    plan, single = here.plan(), here.best_arm()
    fig, axes = plt.subplots(1, 2, figsize=(8.5, 3.2), width_ratios=(3, 2))
    axes[0].bar(NAMES, plan.mixture, color=plots.COLORS[:3], width=0.6)
    axes[0].set(ylabel="share of the rounds", ylim=(0, 1), title="Best mixture")
    earned = [600 * single.value, 600 * plan.value]
    axes[1].bar(["best arm", "best mixture"], earned, color=plots.COLORS[3:5], width=0.6)
    axes[1].set(ylabel="earned in 600 rounds", ylim=(0, 560), title=f"{plan.value / single.value:.2f} times as much")
    shares = ", ".join(f"{name} {share:.2f}" for name, share in zip(NAMES, plan.mixture))
    plots.show(
        fig,
        alt=f"With {frames} frames and {sheets} sheets the best mixture is {shares}. It earns {earned[1]:.0f}, the best "
        f"arm {earned[0]:.0f}.",
        caption=f"{frames} frames, {sheets} sheets of paper. What is missing to 1 is spent idle.",
    )


steps = {"min": 30, "max": 600, "step": 30}
plots.play(draw_stock, frames=IntSlider(value=150, **steps), sheets=IntSlider(value=150, **steps))

# %% [markdown]
# ### Learning it
#
# A learner does not know rewards and costs. Two ideas from this very chapter solve it.
#
# **LagrangeBwK** (Immorlica, Sankararaman, Schapire and Slivkins, 2019) turns the budget into a *game*. One player picks arms;
# the other sets prices on the resources, and raises the price of what is used up too fast. A pull is worth its reward less what
# it uses at these prices. EXP3.P picks, Hedge prices, and as in section 3 their averages go to the equilibrium, which is the
# solution of the linear program and its shadow prices.
#
# **UcbBwK** (Agrawal and Devanur, 2014) is *optimism*: overestimate rewards, underestimate costs, each by a confidence radius,
# solve the program, draw the arm from its mixture.

# %%
learners = {"LagrangeBwK": budgeted.LagrangeBwK(), "UcbBwK": budgeted.UcbBwK()}
for rounds in (600, 2400):
    larger = budgeted.BudgetedBandit(stock.reward, stock.cost, stock.budget * rounds / 600, rounds)
    print(f"{rounds} rounds: no policy earns more than {larger.bound():.0f}; best arm {rounds * larger.best_arm().value:.0f}")
    for name, policy in learners.items():
        evening = budgeted.play_budgeted(policy, larger, 20, seed=5)
        assert (evening.used <= larger.budget).all()  # nobody ever overspends
        mean, low, high = wb.stats.t_interval(evening.reward / larger.bound())
        print(f"   {name:12} {mean:5.1%} of the bound  [{low:.1%}, {high:.1%}]")

# %% [markdown]
# Both leave the best arm far behind. The optimist even beats those 200 evenings on which the best mixture was carried out
# blindly, since it plans again in every round, from what is left. The game is slower here, but needs no confidence radius, and so
# can be carried over to rewards that an adversary chooses.
#
# ## 5 Who asks, when it runs out: HATCH
#
# Last, everything at once. Visitors ask, each in their own way, and there are fewer servings than visitors. Now the question is
# not only how to serve this visitor but *whether*: a serving spent on one who hardly cares is missing for one who does. HATCH
# (Yang and others, 2020) decides in two steps. Visitors are grouped into classes; class $j$ makes up a share $\phi_j$ of them,
# and serving one is worth $u_j$. With budget left for a share $\rho$ of the remaining rounds, serve class $j$ with the chance
# $p_j$ that maximises $\sum_j p_j \phi_j u_j$ subject to $\sum_j p_j \phi_j \le \rho$. Then, for those who are served, a LinUCB
# of their class chooses how.
#
# ## Exercise 5: whom to serve · ●●●○○ · 10 min
#
# That linear program is so simple that no solver is needed: it is a knapsack whose last item may be cut. (`np.argsort(-value)`
# gives the classes from the most valuable down.)

# %%
def whom_to_serve(value, chance, rate):
    """value [J] of serving a class, its share of the visitors [J], servings per round that are left -> p [J]."""
    p, left = np.zeros(len(value)), rate
    for j in np.argsort(-value):
        # solution
        p[j] = min(1.0, left / chance[j])
        left = left - p[j] * chance[j]
        # end solution
        # stub: return None  # your code here (two lines: how often class j is served, and what that leaves)
    return p


# %%
serve = check("02.whom_to_serve", whom_to_serve).function
value, share = np.array([0.2, 0.5, 0.9]), np.array([0.5, 0.3, 0.2])
for rate in (0.4, 0.1):
    p = serve(value, share, rate)
    print(f"servings for {rate:.0%} of the visitors: p = {p.round(3)}, earning {p * share @ value:.2f} a round")
assert np.allclose(serve(value, share, 0.4), [0, 2 / 3, 1]) and np.allclose(serve(value, share, 0.1), [0, 0, 0.5])

# %% [markdown]
# The worth of a class is not known, so HATCH uses an optimistic estimate of it, learnt on the way. Against it, the same LinUCBs
# serving whoever comes until nothing is left; on 400 servings for 1000 visitors of three classes.

# %%
centres = np.array([[1, 0.1, 0.1], [0.1, 1, 0.1], [0.1, 0.1, 1]])
shifts = wb.seeding.generator(0, "askers").uniform(-0.1, 0.1, (3, 5, 3))
ways = 0.9 * np.array([[0.2, 0.1, 0.6], [0.1, 0.45, 0.1], [0.05, 0.3, 0.75]])
askers = budgeted.BudgetedAskers((centres[:, None] + shifts).clip(0), [0.5, 0.3, 0.2], ways, budget=400, horizon=1000)


class FirstCome(budgeted.Hatch):
    """HATCH's LinUCBs without its program: everybody is served."""

    def choose(self, context, left, rounds, rng):
        return super().choose(context, np.full_like(left, np.inf), rounds, rng)


for policy in (FirstCome(askers.centres, askers.chance), budgeted.Hatch(askers.centres, askers.chance)):
    run = budgeted.play_budgeted(policy, askers, 40, seed=6)
    mean, low, high = wb.stats.t_interval(run.reward)
    served = (policy.served / (1000 * askers.chance)).mean(0)
    print(f"{type(policy).__name__:10} {mean:6.1f} [{low:.1f}, {high:.1f}], served of each class:", served.round(2))
print(f"no policy earns more than {askers.bound():.1f}; by classes alone not more than {askers.class_bound():.1f}")

# %% [markdown]
# First come, first served gives the budget to whoever happens to arrive early, and closes after 400 visitors. HATCH saves it
# for the third class, and learns which class that is.
#
# ## What the papers had that we left out
#
# - *Contexts that are not linear*: visitors on a line, sorted into bins (`contextual.ContextUCB` with `bins=True`: too few bins
#   blur, too many forget), and classes of policies, either explored first and then optimised (`contextual.ExploreFirstOracle`)
#   or weighed against one another (`adversarial.EXP4`).
# - *Follow the perturbed leader*: one can also be unpredictable by adding noise to the past losses. With noise of one certain
#   shape (Gumbel's) it *is* Hedge.
# - *LagrangeBwK's dice*: the price setter draws one resource in each round; we use its mean price. *UcbBwK's safety margin*: it
#   plans with slightly less than the budget; we plan again in every round with what is left.
# - *HATCH's classes* come from a Gaussian mixture fitted to past visitors; we took the classes as given.
# - *The constants.* Theory's confidence radii are wider than the ones used here, so that the proofs go through.
#
# ## Where this returns
#
# The importance weight of exercise 2 judges policies from logged choices in chapter 03, and its heavy tail is the trouble
# there. Features that hide a cause are chapter 04. Two learners who improve by playing against each other return in chapter 07,
# where a reward plays against an imitator. Whom to spend the next sample on is chapter 13, with prompts in the place of
# visitors. And the ratio in GRPO's clip (chapters 09 and 12) divides, once more, by the chance of what was drawn.
#
# ## Further reading
#
# - A. Slivkins, *Introduction to multi-armed bandits*, chapters 5 to 10, [arXiv 1904.07272](https://arxiv.org/abs/1904.07272).
# - T. Lattimore and C. Szepesvari, *Bandit algorithms*, Cambridge University Press, 2020, chapters 11, 18 and 19.
# - L. Li, W. Chu, J. Langford and R. Schapire, *A contextual-bandit approach to personalized news article recommendation*, WWW
#   2010.
# - P. Auer, N. Cesa-Bianchi, Y. Freund and R. Schapire, *The nonstochastic multiarmed bandit problem*, SIAM Journal on
#   Computing 32, 2002.
# - R. Arora, O. Dekel and A. Tewari, *Online bandit learning against an adaptive adversary: from regret to policy regret*, ICML
#   2012, [arXiv 1206.6400](https://arxiv.org/abs/1206.6400).
# - N. Immorlica, K. Sankararaman, R. Schapire and A. Slivkins, *Adversarial bandits with knapsacks*, FOCS 2019.
# - M. Yang and others, *Hierarchical adaptive contextual bandits for resource constraint based recommendation*, WWW 2020,
#   [arXiv 2004.01136](https://arxiv.org/abs/2004.01136).
