# %% [markdown]
# # 01 · Multi-armed bandits
#
# **The question.** How do you learn while you earn?
#
# **You will be able to**
# - say what regret is, and read a regret curve;
# - build epsilon-greedy, UCB1 and Thompson sampling from nothing but counts and sums;
# - say why a good learner's regret grows as the logarithm of time on one problem, and as a square root on the worst one;
# - tell a slope from a floor, and say how many repetitions a ranking of algorithms needs.
#
# **Time.** 60 minutes of yours, less than half a minute of the computer's.
#
# **You need.** Means, probabilities and a little NumPy. Nothing from other chapters: the course begins here.

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from ipywidgets import HTML, Button, HBox, Output, SelectionSlider, VBox

import workbench as wb
from workbench import plots
from workbench.bandits.play import play
from workbench.bandits.policies import KLUCB, UCB1, EpsilonGreedy, ExploreFirst, Thompson
from workbench.bandits.problems import Bernoulli, bernoulli_kl, minimax_floor
from workbench.course import check

plots.style()

# %% [markdown]
# ## Fifty pulls
#
# Five slot machines stand in a row. Each pays one coin with a chance of its own, which never changes and which nobody tells you.
# You have fifty pulls. Every pull at a bad machine is a coin you could have had, and every pull at the machine you believe in
# teaches you nothing about the others. (Old slot machines were called one-armed bandits; five of them are a bandit with five
# arms.)
#
# What you lose is called **regret**. A pull of an arm with chance 0.3, while the best has 0.7, costs 0.4, whether or not it
# happened to pay: luck is not counted, only choices. We keep the chances in a sealed object, with two learners who will play the
# same machines.

# %%
class Game:
    """Five machines with hidden chances, and fifty pulls."""

    PULLS = 50

    def __init__(self, seed):
        luck = wb.seeding.generator(seed, "machines")
        self._means = luck.permutation([0.75, 0.6, 0.5, 0.4, 0.25]) + luck.uniform(-0.1, 0.1, 5).round(2)
        self._luck = luck.random(self.PULLS)
        self.count, self.wins, self.lost = np.zeros(5, int), np.zeros(5, int), []

    @property
    def over(self):
        return len(self.lost) == self.PULLS

    def pull(self, arm):
        if not self.over:
            self.wins[arm] += self._luck[len(self.lost)] < self._means[arm]
            self.count[arm] += 1
            self.lost.append(self._means.max() - self._means[arm])


# %%
def draw_game(game, who):
    """The regret of a finished game on the curves of two policies that play the same machines."""
    fig, ax = plt.subplots(figsize=(7, 3.8))
    pulls, said = np.arange(1, game.PULLS + 1), []
    for j, policy in enumerate((UCB1(), Thompson())):
        played = play(policy, Bernoulli(game._means), game.PULLS, 1000)
        low, high = np.quantile(played.regret, (0.1, 0.9), axis=0)
        ax.plot(played.times, played.regret.mean(0), color=plots.COLORS[j], label=played.name)
        ax.fill_between(played.times, low, high, color=plots.COLORS[j], alpha=0.15, linewidth=0)
        said.append(f"{played.name} {played.final.mean():.1f}")
    ax.plot(pulls, np.cumsum(game.lost), color="black", linestyle="-", linewidth=2.5, label=who)
    ax.plot(pulls, pulls * (game._means.max() - game._means.mean()), color="#888888", linestyle=":", label="blindly")
    ax.set(xlabel="pulls", ylabel="regret (coins)", title=f"{game.wins.sum()} coins from {game.PULLS} pulls", ylim=(0, None))
    ax.legend(loc="upper left")
    alt = f"Regret after {game.PULLS} pulls: {who} {sum(game.lost):.1f}, " + ", ".join(said) + " on average."
    chances = ", ".join(f"{'ABCDE'[k]} {p:g}" for k, p in enumerate(game._means))
    plots.show(fig, alt=alt, caption=f"Bands: the middle 80 % of 1000 games. The chances were {chances}.")


# %%
def table(game):
    """How often each machine was pulled and has paid, as HTML."""
    if game.over:
        return "All fifty pulls are spent. Below is what they cost; press <b>new game</b> for five other machines."
    rows = [f"{name}: {w} of {n}" for name, w, n in zip("ABCDE", game.wins, game.count)]
    return f"Pulls left: {game.PULLS - len(game.lost)}. Paid: " + " · ".join(rows)


# %%
def sit_down(seed, who="you"):
    """Buttons for a game: the widget, its buttons, and the game being played."""
    state, told, screen = {"game": Game(seed), "seed": seed}, HTML(), Output()

    def act(arm):
        if arm is None:
            state.update(seed=state["seed"] + 1, game=Game(state["seed"] + 1))
            screen.clear_output()
        elif not state["game"].over:
            state["game"].pull(arm)
            if state["game"].over:
                with screen:
                    draw_game(state["game"], who)
        told.value = table(state["game"])

    buttons = [Button(description=f"pull {name}", layout={"width": "90px"}) for name in "ABCDE"] + [Button(description="new game")]
    for arm, button in enumerate(buttons):
        button.on_click(lambda _, arm=arm: act(arm if arm < 5 else None))
    told.value = table(state["game"])
    return VBox([HBox(buttons), told, screen]), buttons, state


# %% [markdown]
# Now you. Tab and the space bar work as well as the mouse. Resist reading `_means`.

# %%
widget, buttons, state = sit_down(seed=1)
display(widget)

# %% [markdown]
# In an exported page nobody answers these buttons. So here is a ghost who presses them: each machine four times, then always the
# one that paid most often. Is it better than you?

# %%
_, pressed, ghost = sit_down(seed=100, who="the ghost")
for turn in range(Game.PULLS):
    if turn <= 20:  # four times round, then a choice for good
        arm = turn % 5 if turn < 20 else int(ghost["game"].wins.argmax())
    pressed[arm].click()
assert ghost["game"].over
draw_game(ghost["game"], "the ghost")

# %% [markdown]
# The ghost's way has a name, **explore first**. Its line is a ramp while it explores, and after that either flat (it found the
# best machine) or a straight line for ever (it settled on another; here on one that is nearly as good). Fifty pulls are few:
# over so short a game UCB1 has hardly begun to trust its averages, and you may well have beaten it. The rest of this chapter is
# about what happens to each way of playing as the game grows long.
#
# ## 1 Greed, and a little madness
#
# All that a learner needs to remember of an arm is how often it was pulled, $n_k$, and how much it paid, $s_k$. A way of playing
# is then a function from these to an arm. Here is the game as a loop; everything that follows fits into `choose`.

# %%
def run(choose, luck, means):
    """luck [T]: one number a round, the same whichever arm is pulled -> the arms pulled [T]."""
    count, total = np.zeros(len(means)), np.zeros(len(means))
    arms = np.empty(len(luck), dtype=int)
    for t, u in enumerate(luck):
        arms[t] = t if t < len(means) else choose(count, total, t)  # first, each arm once
        count[arms[t]] += 1
        total[arms[t]] += u < means[arms[t]]
    return arms


def greedy(count, total, t):
    return (total / count).argmax()


means = np.array([0.4, 0.6])
games = wb.seeding.generator(0, "greedy").random((500, 300))
ends = np.array([run(greedy, luck, means)[-1] for luck in games])
print(f"after 300 rounds greed is on the worse of two arms in {np.mean(ends == 0):.0%} of 500 games")

# %% [markdown]
# Why so often? If the better arm loses its first round and the worse one wins its first, which by independence happens with
# chance $0.4 \times 0.4 = 0.16$, then the better arm's average is 0, the other's will always be above 0, and the better
# arm is never pulled again. Its bad name can never be cleared, since only a pull could clear it. No amount of time helps, so
# greed's regret grows as a straight line.
#
# A little madness repairs it. **Epsilon-greedy** pulls, with chance $\varepsilon$, any arm at all.

# %%
def epsilon_greedy(epsilon, rng):
    def choose(count, total, t):
        return rng.integers(len(count)) if rng.random() < epsilon else (total / count).argmax()

    return choose


dice = wb.seeding.generator(0, "madness")
ends = np.array([run(epsilon_greedy(0.1, dice), luck, means)[-1] for luck in games])
print(f"epsilon-greedy after 300 rounds: on the worse arm in {np.mean(ends == 0):.0%} of the games, 5% by madness alone")

# %% [markdown]
# Better, but it never stops being mad. In the long run it wastes the share $\varepsilon (K-1)/K$ of all rounds, another straight
# line, only less steep. What is missing is a reason to explore an arm *less* once it is known.
#
# ## 2 Optimism
#
# Give every arm the benefit of the doubt. The average of $n$ rewards in $[0, 1]$ lies more than $r$ from its truth with chance at
# most $2 e^{-2 n r^2}$ (Hoeffding). So around each average there is a **confidence radius** within which the truth very probably
# lies; take the best that is still credible, $\bar x_k + r_k$, and pull the arm where this is largest. Either it is as good as
# hoped, and you earn; or it is not, its radius shrinks, and you learn. Both are fine. UCB1 (Auer, Cesa-Bianchi and Fischer, 2002)
# takes
#
# $$r_k = \sqrt{\frac{2 \ln t}{n_k}},$$
#
# where $t$ counts the rounds played so far, all arms together.
#
# ## Exercise 1: the confidence radius · ●○○○○ · 5 min

# %%
def radius(count, t):
    """count [K]: pulls of each arm, none of them 0; t: rounds so far -> radius [K]."""
    # solution
    return np.sqrt(2 * math.log(t) / count)
    # end solution
    # stub: return None  # your code here (one line)


# %%
radius_of = check("01.radius", radius).function

# %% [markdown]
# With it, UCB1 is one more line. The package plays many games side by side, with one array operation a round for all of them; on
# the same luck it must pull exactly the arms that our loop pulls.

# %%
def ucb1(count, total, t):
    return (total / count + radius_of(count, t)).argmax()


def replay(policy, luck, means):
    """The package's policy on one tape of luck."""
    policy.start(1, len(means), len(luck))
    for u in luck:
        arm = policy.choose(dice)
        policy.update(arm, (u < means[arm]).astype(float))
        yield int(arm[0])


ten = np.array([0.5] + [0.4] * 9)
tape = wb.seeding.generator(0, "tape").random(3000)
assert list(replay(UCB1(), tape, ten)) == run(ucb1, tape, ten).tolist()
print("3000 rounds: our UCB1 and the package's pull the same arm in every one")

# %% [markdown]
# ## 3 Belief
#
# Thompson (1933) had another idea, for choosing between two medicines. Keep not an average but a whole *belief* about each arm:
# a distribution over what its chance may be. To choose, draw one possible world from the belief and do what is best in it. An arm
# is then pulled as often as it is believed to be the best: never more, and never not at all.
#
# For coins the belief is easy to carry. If at first every chance between 0 and 1 is equally credible, then after some wins and
# losses the belief is a Beta distribution, Beta$(a, b)$, with a mean of $a / (a + b)$.
#
# ## Exercise 2: the belief · ●○○○○ · 5 min
#
# Give $a$ and $b$ of each arm. (Before any pull the belief is flat: that is Beta(1, 1).)

# %%
def posterior(wins, count):
    """wins [K], count [K] (pulls) -> a [K], b [K]."""
    # solution
    return wins + 1.0, count - wins + 1.0
    # end solution
    # stub: return None, None  # your code here (one line)


# %%
belief = check("01.posterior", posterior).function

# %%
def thompson(count, total, t):
    return dice.beta(*belief(total, count)).argmax()


def draw_beliefs(rounds):
    """Three arms after so many rounds of Thompson sampling."""
    chances = np.array([0.6, 0.5, 0.3])
    luck = wb.seeding.generator(4, "beliefs").random(rounds)
    arms = run(thompson, luck, chances)
    x = np.linspace(0.001, 0.999, 500)
    fig, ax = plt.subplots(figsize=(7, 3.4))
    for k, name in enumerate("ABC"):
        wins = np.array([(luck[arms == k] < chances[k]).sum()])
        (a,), (b,) = belief(wins, np.array([(arms == k).sum()]))
        log = (a - 1) * np.log(x) + (b - 1) * np.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
        ax.plot(x, np.exp(log), color=plots.COLORS[k], label=f"{name}: {(arms == k).sum()} pulls, {wins[0]} paid")
        ax.axvline(chances[k], color=plots.COLORS[k], linestyle=":", linewidth=1)
    ax.set(xlabel="chance to pay", ylabel="density of belief", title=f"After {rounds} rounds", ylim=(0, None))
    ax.legend(loc="upper left")
    pulls = np.bincount(arms, minlength=3)
    plots.show(fig, alt=f"Beliefs about three arms after {rounds} rounds; they were pulled {pulls.tolist()} times.",
               caption="Dotted: the truth. The belief about a bad arm stays wide: nobody needs to know it better.")  # fmt: skip


plots.play(draw_beliefs, rounds=SelectionSlider(options=[3, 10, 30, 100, 300, 1000], value=30))

# %% [markdown]
# ## 4 What each of them costs
#
# Ten arms, one of 0.5 and nine of 0.4; ten thousand rounds; a hundred games of each. From here on we let the package play. All
# ways meet the same luck, so the differences are theirs.

# %%
problem = Bernoulli(ten)
ways = {"epsilon-greedy 0.1": EpsilonGreedy(0.1), "explore first": ExploreFirst(), "UCB1": UCB1(), "Thompson": Thompson()}
curves = {name: play(policy, problem, 10_000, 100) for name, policy in ways.items()}

fig, axes = plt.subplots(1, 2, figsize=(9.4, 3.9), sharey=True)
for j, (name, played) in enumerate(curves.items()):
    mean, low, high = played.interval()
    for ax in axes:
        ax.plot(played.times, mean, color=plots.COLORS[j], linestyle=plots.DASHES[j], label=name)
        ax.fill_between(played.times, low, high, color=plots.COLORS[j], alpha=0.2, linewidth=0)
axes[0].set(xlabel="round", ylabel="regret (coins)", title="Time as it passes")
axes[1].set(xlabel="round (logarithmic)", xscale="log", title="The same, each decade alike")
axes[0].legend(loc="upper left", fontsize=9)
final = ", ".join(f"{name} {played.final.mean():.0f}" for name, played in curves.items())
plots.show(fig, alt=f"Regret over ten thousand rounds of four policies. At the end: {final}.",
           caption="Means of 100 games with 95 % intervals. On the right a straight line means: so much for each tenfold time.")  # fmt: skip

# %% [markdown]
# Explore-first pays everything in advance; after that its band shows the games in which it chose wrongly. Epsilon-greedy ends as
# a straight line on the left: it pays a tax for ever. Thompson's line bends until, on the right, it climbs by nearly the same
# amount for each tenfold time. That is growth as $\ln T$.
#
# And UCB1, with the best guarantee of the four, costs the most. It would bend as well, but not yet: to tell a gap of 0.1 its
# radius must shrink to about 0.1, which takes $2 \ln T / 0.1^2$, some 1800 pulls, of each of nine arms. That is more than the
# game has. A guarantee for every problem and for ever is bought with caution, and whoever knows the problem may do better for a
# long while.
#
# ## 5 Why the logarithm
#
# To stop pulling a bad arm altogether, you would have to be certain. But some worlds look the same for a long time: an arm whose
# chance is secretly higher than the best's can show a losing streak as bad as what you have seen. After $n$ pulls of an arm with
# chance $p$, the chance that an arm with chance $q$ would have looked like it is about $e^{-n\, \mathrm{kl}(p, q)}$, where
#
# $$\mathrm{kl}(p, q) = p \ln \frac pq + (1-p) \ln \frac{1-p}{1-q}.$$
#
# If there are $T$ rounds to lose in that other world, you can afford a chance of about $1/T$ of being fooled, and so you must pull
# until $n\,\mathrm{kl}(p, p^*) \approx \ln T$. Each of those pulls costs the gap. Lai and Robbins (1985) proved that no learner
# that is good on every problem escapes: in the limit, its regret gains with each unit of $\ln T$ at least
#
# $$C = \sum_{k:\, p_k < p^*} \frac{p^* - p_k}{\mathrm{kl}(p_k, p^*)}.$$
#
# ## Exercise 3: the constant of Lai and Robbins · ●●○○○ · 10 min

# %%
def constant(means):
    """means [K], all between 0 and 1 and one of them best -> C, a number."""
    # solution
    best = means.max()
    worse = means[means < best]
    return float(((best - worse) / bernoulli_kl(worse, best)).sum())
    # end solution
    # stub: return None  # your code here (about three lines; bernoulli_kl(p, q) is imported)


# %%
constant_of = check("01.constant", constant).function
assert math.isclose(constant_of(ten), problem.lai_robbins, rel_tol=1e-9)

# %% [markdown]
# Let us see. Two arms, 0.9 and 0.6, so that the logarithm sets in early. The dotted line has the slope $C$; where it is drawn
# does not matter, since the theorem speaks of the slope only.

# %%
easy = Bernoulli([0.9, 0.6])
fig, ax = plt.subplots(figsize=(7, 3.8))
said = []
for j, policy in enumerate((UCB1(), KLUCB(), Thompson())):
    played = play(policy, easy, 10_000, 1000)
    late = played.times >= 300
    slope, low, high = wb.stats.t_interval(np.polyfit(np.log(played.times[late]), played.regret[:, late].T, 1)[0])
    said.append(f"{played.name} {slope:.2f} [{low:.2f}, {high:.2f}]")
    ax.plot(played.times, played.regret.mean(0), color=plots.COLORS[j], linestyle=plots.DASHES[j], label=said[-1])
t = np.array([300, 10_000])
ax.plot(t, constant_of(np.array([0.9, 0.6])) * np.log(t / 300) + 1, color="black", linestyle=":", label=f"C = {easy.lai_robbins:.2f}")
ax.set(xscale="log", xlabel="round (logarithmic)", ylabel="regret (coins)", title="0.9 against 0.6")
ax.legend(loc="upper left", title="slope from round 300 on", alignment="left")
plots.show(
    fig,
    alt=f"Regret against the logarithm of time. Slopes with 95 % intervals: {', '.join(said)}; Lai and Robbins {easy.lai_robbins:.2f}.",
    caption="Means of 1000 games. KL-UCB is UCB1 with the radius that fits a coin: the largest q with n kl(mean, q) = ln t.",
)

# %% [markdown]
# Thompson sampling and KL-UCB are proven to reach the slope $C$ in the limit. After ten thousand rounds they are still on their
# way, KL-UCB from above and Thompson from below. UCB1's is many times as steep: its radius holds for anything between 0 and 1,
# also for what varies much more than a coin of 0.9.
#
# ### Below the lower bound
#
# Now the surprise. $C \ln T$ is often called *the lower bound*. For our ten arms:

# %%
floor = constant_of(ten) * math.log(10_000)
mean, low, high = curves["Thompson"].interval()
print(f"C ln T = {constant_of(ten):.1f} x {math.log(10_000):.2f} = {floor:.0f}")
print(f"Thompson after 10,000 rounds: {mean[-1]:.0f}, 95 % interval [{low[-1]:.0f}, {high[-1]:.0f}]")
assert high[-1] < floor

# %% [markdown]
# It is far below, and nothing is wrong. The theorem is about the limit: the regret is $C \ln T$ *plus something that grows more
# slowly*, and that something may be negative and large. It is a **slope, not a floor**. A plot that draws $C \ln T$ as a line
# from the origin, with good algorithms beneath it, has not found better than optimal ones.
#
# ## 6 The worst problem
#
# There is a floor, too, but it is about problems, not about one problem. If the gap is large, it is soon seen; if it is tiny,
# mistakes cost nothing. In between lies the gap that hurts most.
#
# ## Exercise 4: a hard problem · ●●●○○ · 10 min
#
# $T$ rounds shared among $K$ arms make about $T / K$ pulls of each. The average of that many fair coins still has a standard
# deviation. Build the problem whose best arm is above the others by exactly that much: the first arm has 0.5 plus the gap, all
# others 0.5.

# %%
def hard_problem(arms, horizon):
    """arms: K; horizon: T -> means [K]."""
    # solution
    means = np.full(arms, 0.5)
    means[0] += 0.5 / math.sqrt(horizon / arms)
    return means
    # end solution
    # stub: return None  # your code here (about three lines)


# %%
hard = check("01.hard_problem", hard_problem).function

# %%
def draw_gaps(horizon):
    """Regret of three policies against the gap of two arms."""
    gaps = np.geomspace(0.2, 12, 13) * (hard(2, horizon).max() - 0.5)
    gaps = gaps[gaps <= 0.5]
    fig, ax = plt.subplots(figsize=(7, 3.8))
    worst = []
    for j, policy in enumerate((ExploreFirst(), UCB1(), Thompson())):
        found = [play(policy, Bernoulli([0.5, 0.5 + gap]), horizon, 100, points=2) for gap in gaps]
        mean, low, high = wb.stats.t_interval([played.final for played in found])
        ax.plot(gaps, mean, color=plots.COLORS[j], marker=plots.MARKERS[j], label=found[0].name)
        ax.fill_between(gaps, low, high, color=plots.COLORS[j], alpha=0.2, linewidth=0)
        worst.append(f"{found[0].name} {mean.max():.0f} at gap {gaps[mean.argmax()]:.2f}")
    ax.axvline(hard(2, horizon).max() - 0.5, color="#888888", linestyle=":", label="the gap of exercise 4")
    ax.axhline(minimax_floor(2, horizon), color="black", linestyle="--", linewidth=1, label=r"floor $\sqrt{(K-1)T}/27$")
    ax.set(xscale="log", xlabel="gap between the two arms", ylabel="regret (coins)", title=f"After {horizon} rounds")
    ax.legend(fontsize=9)
    plots.show(fig, alt=f"Regret after {horizon} rounds against the gap. Largest: " + ", ".join(worst) + ".",
               caption="Means of 100 games with 95 % intervals. Tiny gaps cost nothing, large ones are soon seen.")  # fmt: skip


plots.play(draw_gaps, horizon=SelectionSlider(options=[100, 300, 1000, 3000], value=1000))

# %% [markdown]
# Move the horizon. The hump of UCB1 and of Thompson moves to smaller gaps with $\sqrt{K/T}$ and grows with $\sqrt{KT}$.
# (Explore-first rises once more on the right: it explores as long for a large gap as for a small one. Its worst case grows with
# $T^{2/3}$.) Every learner has such a hump, since near its top no statistics in the world can tell the arms apart in time: for every learner there is *some* problem, with $K$
# arms and normal rewards of variance 1, that costs it at least $\sqrt{(K-1)T}/27$ (Lattimore and Szepesvári, theorem 15.2). That
# is a floor at every $T$, but under the worst problem, not under yours. (Our coins vary less than such rewards, so here the line is
# only for scale.)
#
# ## 7 How many games make a ranking?
#
# Five arms, one of 0.6 and four of 0.5, three thousand rounds. We play a thousand games, so that the true order is beyond doubt.
# Then we pretend to be in a hurry, and rank three learners by only a few games each, as one does with "three seeds".

# %%
rivals = {"epsilon-greedy 0.1": EpsilonGreedy(0.1), "UCB1": UCB1(), "Thompson": Thompson()}
seeds = [wb.seeding.integer(0, "ranking", name) for name in rivals]  # each has luck of its own, as in most studies
five = Bernoulli([0.6] + [0.5] * 4)
many = np.array([play(policy, five, 3000, 1000, seed=seed).final for policy, seed in zip(rivals.values(), seeds)])
for name, mean, low, high, spread in zip(rivals, *wb.stats.t_interval(many), many.std(1)):
    print(f"{name:19}{mean:7.1f}  [{low:.1f}, {high:.1f}]   one game: +- {spread:.0f}")

# %%
truth = many.mean(1).argsort()
pick = wb.seeding.generator(0, "hurry").integers(1000, size=(4000, 3, 100))
drawn = many[np.arange(3)[:, None], pick]  # [4000 hurried studies, 3 policies, 100 games]
print("games each   wrong order   wrong winner")
for n in (1, 3, 10, 30, 100):
    order = drawn[..., :n].mean(-1).argsort(-1)
    print(f"{n:10}{(order != truth).any(-1).mean():14.0%}{(order[:, 0] != truth[0]).mean():15.0%}")
wrong_of_three = (drawn[..., :3].mean(-1).argsort(-1) != truth).any(-1).mean()
assert 0.4 < wrong_of_three < 0.6

# %% [markdown]
# With three games each, you might as well toss a coin for whether the order is right, and the wrong learner wins nearly as often.
# The reason is epsilon-greedy: its regret is a gamble (a lucky find, or a long walk along the wrong arm), so three of its games
# can look brilliant. Nothing here is special to bandits. Remember the table when you read a ranking of three seeds; chapter 21
# is about what to do instead.
#
# ## What the papers had that we left out
#
# - *The proofs.* That UCB1's regret is at most $\sum 8 \ln T / \text{gap}$ and a constant takes one page and Hoeffding's
#   inequality; see Slivkins, chapter 1.
# - *Better constants.* MOSS removes the logarithm from the worst case; KL-UCB attains $C$. Both are in the package, with
#   successive elimination (`workbench.bandits.policies`).
# - *Infinitely many arms.* If nearby arms pay alike, one can zoom in on where it pays: `workbench.bandits.lipschitz`.
# - *Arms that change*, and *best-arm identification*, where only the last choice counts.
#
# ## Where this returns
#
# Chapter 02 takes away, one after the other, that all rounds are alike, that nobody wishes you ill, and that pulls are free. In
# chapter 03 the confidence radius is *subtracted*, for learners who may not try. Chapter 05 trains a network until it does
# what Thompson sampling does. And in chapter 13 the arms are prompts, and a pull is a rollout of a language model.
#
# ## Further reading
#
# - A. Slivkins, *Introduction to multi-armed bandits*, [arXiv 1904.07272](https://arxiv.org/abs/1904.07272): chapters 1 to 3.
# - T. Lattimore, C. Szepesvári, *Bandit algorithms*, Cambridge University Press, 2020.
# - P. Auer, N. Cesa-Bianchi, P. Fischer, *Finite-time analysis of the multiarmed bandit problem*, Machine Learning 47, 2002.
# - W. R. Thompson, *On the likelihood that one unknown probability exceeds another in view of the evidence of two samples*,
#   Biometrika 25, 1933.
# - T. L. Lai, H. Robbins, *Asymptotically efficient adaptive allocation rules*, Advances in Applied Mathematics 6, 1985.
