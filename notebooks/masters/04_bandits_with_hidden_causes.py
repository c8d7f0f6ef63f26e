# %% [markdown]
# # 04 · Bandits with hidden causes
#
# **The question.** Why can the best-looking data give the worst policy?
#
# **You will be able to**
# - tell apart three questions that sound alike: what did they get, what does it pay, what would it have paid *them*;
# - work out all three by enumeration, and combine two of them into the third;
# - build a bandit learner that uses its own intuition as a clue instead of obeying it;
# - show by numbers what pessimism can and cannot protect against.
#
# **Time.** 60 minutes of yours, about ten seconds of the computer's.
#
# **You need.** Conditional probabilities and a little NumPy. Chapter 01 for Thompson sampling, chapter 03 for logs and lower bounds.

# %%
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from ipywidgets import HTML, Button, Dropdown, HBox, VBox

import workbench as wb
from workbench import plots
from workbench.bandits import confounded, offline
from workbench.bandits.confounded import FAMILY, GREEDY_CASINO, ConfoundedBandit, ConfoundedProblem, IntentThompson, World
from workbench.bandits.play import play
from workbench.bandits.policies import Thompson
from workbench.course import check
from workbench.permission import Layer, NotPermitted

plots.style()

# %% [markdown]
# ## A casino that obeys the law
#
# Two machines stand side by side. The law says that every machine must pay in at least 30 % of its games, and the inspector comes
# regularly: she tosses a coin to choose the machine, plays, and notes what it pays. Both machines pass, with exactly 30 %.
#
# The guests, however, win in only 15 % of their games, on either machine. Nobody breaks the law, nobody tampers with the machines
# while you play, and you are not unlucky. Sit down and bet. Before each game you will feel drawn to one of the machines, as one
# does.

# %%
FLOOR = wb.seeding.generator(0, "casino floor")
tally, now = {}, {"state": FLOOR.integers(4)}
MACHINES = ("left", "right")
feeling, score = HTML(), HTML()


def bet(way, games, choose):
    """Play some games; `choose` maps the machine one feels drawn to, to the machine one plays."""
    for _ in range(games):
        state = now["state"]
        won = FLOOR.random() < GREEDY_CASINO.pays[choose(GREEDY_CASINO.intent[state]), state]
        played, wins = tally.get(way, (0, 0))
        tally[way], now["state"] = (played + 1, wins + bool(won)), FLOOR.integers(4)
    rows = [f"{way}: {wins} of {played} won ({wins / played:.0%})" for way, (played, wins) in tally.items()]
    score.value = "<br>".join(rows)
    feeling.value = f"You feel drawn to the <b>{MACHINES[GREEDY_CASINO.intent[now['state']]]}</b> machine. Your bet?"


def button(label, *how):
    made = Button(description=label, layout={"width": "auto"})
    made.on_click(lambda _: bet(*how))
    return made


# %%
bet("single bets", 0, lambda drawn: drawn)
display(
    VBox([
        feeling,
        HBox([
            button("left machine", "single bets", 1, lambda drawn: 0),
            button("right machine", "single bets", 1, lambda drawn: 1),
            button("100 games with the feeling", "with the feeling", 100, lambda drawn: drawn),
            button("100 games by coin", "by coin", 100, lambda drawn: FLOOR.integers(2)),
        ]),
        score,
    ])
)  # fmt: skip

# %% [markdown]
# (In an exported page these buttons have nobody behind them; the figure below is what they would show.) Four ways of betting, two
# hundred evenings of a hundred games each:

# %%
def evenings(choose, count=200, games=100):
    """Share of games won in each evening [count]; `choose` maps the machines one feels drawn to, to those one plays."""
    rng = wb.seeding.generator(1, "evenings")
    state = rng.integers(0, 4, (count, games))
    machine = choose(GREEDY_CASINO.intent[state], rng)
    return (rng.random(state.shape) < GREEDY_CASINO.pays[machine, state]).mean(1)


WAYS = {
    "with the\nfeeling": lambda drawn, rng: drawn,
    "by coin": lambda drawn, rng: rng.integers(0, 2, drawn.shape),
    "always left": lambda drawn, rng: np.zeros_like(drawn),
    "always right": lambda drawn, rng: np.ones_like(drawn),
}
found = wb.stats.t_interval([evenings(way) for way in WAYS.values()])

# %%
fig, ax = plt.subplots(figsize=(7, 3.4))
ax.bar(range(4), found.estimate, yerr=found.high - found.estimate, capsize=4, color=[plots.COLORS[i] for i in (3, 0, 0, 0)], width=0.6)
ax.axhline(0.45, color="black", linestyle=":", label="what a guest could win here")
ax.set(xticks=range(4), xticklabels=list(WAYS), ylabel="share of games won", ylim=(0, 0.52), title="Your intuition is being used")
ax.legend(loc="upper left", bbox_to_anchor=(0.0, 0.86))
plots.show(
    fig,
    alt="Share of games won: " + "; ".join(f"{name} {x:.3f}".replace("\n", " ") for name, x in zip(WAYS, found.estimate))
    + ". A dotted line at 0.45 is what could be won.",
    caption="Means over 200 evenings of 100 games, 95 % intervals.",
)  # fmt: skip

# %% [markdown]
# Following your feeling halves your chances, and a coin is better advice than you are. Yet a look at anybody's log would show two
# machines that pay 15 %, equally, with a tiny interval. And there is a way of betting that wins 45 % of the games. To find it we
# have to look behind the wall.
#
# ## 1 What did they get, and what does it pay
#
# The casino knows its guests. Half of them are drunk ($D = 1$), and half of the time a lamp above the machines blinks ($B = 1$),
# as if by coin tosses. A sober guest heads for the left machine, unless the lamp blinks, and a drunk one does the opposite. The
# machines sense both, and set their chances accordingly. There are four *hidden states* $u = (D, B)$:
#
# | $D, B$ | 0, 0 | 0, 1 | 1, 0 | 1, 1 |
# |---|---|---|---|---|
# | the guest intends to play | left | right | right | left |
# | left pays with chance | **0.10** | 0.50 | 0.40 | **0.20** |
# | right pays with chance | 0.50 | **0.10** | **0.20** | 0.40 |
#
# The bold numbers are what guests get who follow their intuition: the worst, in every column. The world is small enough to add
# up.

# %%
CHANCE = np.array([0.25, 0.25, 0.25, 0.25])  # of each hidden state, [U]
INTENT = np.array([0, 1, 1, 0])  # the machine a guest heads for, [U]
PAYS = np.array([[0.10, 0.50, 0.40, 0.20], [0.50, 0.10, 0.20, 0.40]])  # [machine, U]

# %% [markdown]
# *What did they get?* Among the guests who chose machine $x$, how many won? That is conditioning: throw away all others, and
# average over the states that are left, each by its share of what is left.
#
# $$E[Y \mid X = x] = \frac{\sum_u P(u)\, 1[\text{intent}(u) = x]\; \text{pays}(x, u)}{\sum_u P(u)\, 1[\text{intent}(u) = x]}$$
#
# ## Exercise 1: see · ●●○○○ · 8 min

# %%
def see(chance, intent, pays):
    """chance [U], intent [U], pays [K,U] -> what those who chose each machine got [K]."""
    # solution
    chose = intent == np.arange(len(pays))[:, None]  # [K,U]
    return (chose * chance * pays).sum(1) / (chose * chance).sum(1)
    # end solution
    # stub: return None  # your code here (about two lines)


# %%
see_of = check("04.see", see).function
print("see:", see_of(CHANCE, INTENT, PAYS))

# %% [markdown]
# *What does it pay?* The inspector's question. She does not wait for guests to choose; a coin does, and a coin is neither drunk
# nor looks at lights. That is **intervening**, written $do(X = x)$: the machine is set, and the hidden state stays as likely as
# it was.
#
# ## Exercise 2: do · ●○○○○ · 5 min

# %%
def do(chance, intent, pays):
    """chance [U], intent [U], pays [K,U] -> what each machine pays if it is chosen for everybody [K]."""
    # solution
    return pays @ chance
    # end solution
    # stub: return None  # your code here (one line)


# %%
do_of = check("04.do", do).function
print("do:", do_of(CHANCE, INTENT, PAYS))

# %% [markdown]
# 0.15 and 0.30, each right about its own question. The log answers the first. Whoever uses it to answer the second conditions
# where they should intervene, and no amount of data will tell them.
#
# ## 2 What would it have paid them?
#
# A third question is finer than both. Take the guests who are *about to* play left. What would they get if, at the last moment,
# they were moved to the right machine? It is asked about people who will choose one thing and play another, so it cannot be read
# off a log, where the two always agree. It is a *counterfactual*, written $E[Y_x \mid X = z]$: machine $x$ played, $z$ intended.
#
# ## Exercise 3: do, given the intent · ●●○○○ · 10 min
#
# A table with a row for each intent $z$ and a column for each machine $x$.

# %%
def do_given_intent(chance, intent, pays):
    """chance [U], intent [U], pays [K,U] -> E[Y_x | X=z] as a table [intent z, machine x]."""
    # solution
    meant = (intent == np.arange(len(pays))[:, None]) * chance  # [Z,U]
    return meant @ pays.T / meant.sum(1, keepdims=True)
    # end solution
    # stub: return None  # your code here (about two lines)


# %%
given_intent_of = check("04.do_given_intent", do_given_intent).function
print(given_intent_of(CHANCE, INTENT, PAYS))
assert np.allclose(given_intent_of(CHANCE, INTENT, PAYS), GREEDY_CASINO.do_given_intent(), atol=1e-12)

# %% [markdown]
# There it is: 0.15 on the diagonal, for those who follow their intuition, and **0.45** off it. The way to beat this casino is to
# notice which machine you feel drawn to, and to play the other one. Intuition is useless as advice and precious as evidence: it
# tells you something about the hidden state that you have no other way of knowing.
#
# The table also holds both other answers. Its diagonal is what is seen. Its average over the intents, each by its share, is what
# is done. The reverse is not true: the lower layers do not contain the higher ones. Here are six worlds of this kind, all from
# the paper that introduced them (Bareinboim, Forney and Pearl, 2015).

# %%
def layers(world):
    bandit = FAMILY[world]
    table = bandit.do_given_intent()
    bars = {"see": bandit.see(), "do": bandit.do(), "left intended": table[0], "right intended": table[1]}
    fig, ax = plt.subplots(figsize=(7.4, 3.6))
    for machine, (name, shift) in enumerate(zip(MACHINES, (-0.19, 0.19))):
        heights = [pair[machine] for pair in bars.values()]
        drawn = ax.bar(np.arange(4) + shift, heights, 0.36, color=plots.COLORS[machine], label=f"{name} machine")
        ax.bar_label(drawn, fmt="%.3g", fontsize=9)
    best = (bandit.natural(), bandit.best_do(), bandit.best_given_intent())
    words = "Guests win {:.3g}. Best machine: {:.3g}. Knowing the intent: {:.3g}.".format(*best)
    ax.set(xticks=range(4), xticklabels=list(bars), ylabel="chance of a win", ylim=(0, 1.12), title=words)
    ax.legend(loc="upper right", ncol=2, bbox_to_anchor=(1, 0.98))
    said = "; ".join(f"{name} {pair[0]:.3g} and {pair[1]:.3g}" for name, pair in bars.items())
    plots.show(fig, alt=f"The world {world}, left and right machine: {said}.",
               caption="Change the world. Where do see and do disagree about the better machine? Where is the intent worth nothing?")  # fmt: skip


plots.play(layers, world=Dropdown(options=list(FAMILY), description="world"))

# %% [markdown]
# Two of them deserve a look. In *paradoxical switching* the log prefers the left machine, clearly; the inspector finds the right
# one better; and those drawn to the left should go right, and those drawn to the right should go left. In *generous casino*
# intuition is excellent: the inspector's 0.30 would make you distrust it. So "never trust your gut" is no lesson either. The
# lesson is to find out, and that takes the right kind of data.
#
# ## 3 Which questions are you allowed to ask?
#
# From here on we are no longer gods. A `World` draws data from a bandit and shows nothing else, and it asks for permission. One
# who may only watch gets logs. To set the machine takes the permission to *do*. To notice an intent before acting is the third
# layer, and needs the permission to *imagine*, as the workbench calls it. Every learner in the next chapters that meets a hidden
# cause states what it was allowed.

# %%
watcher = World(GREEDY_CASINO, allow=[Layer.SEE], seed=2)
log = watcher.see(10_000)
print("seen, left and right:", offline.reward_model(log)[0].round(3))
try:
    watcher.do(0, rounds=100)
except NotPermitted as refusal:
    print("refused:", refusal)

# %% [markdown]
# Why be so strict? Because in a simulation everything is within reach, and a method that peeks by accident looks brilliant.
#
# With two machines there is a small wonder. Those who may see and do, but not imagine, can still *compute* the third layer. What
# machine $x$ pays to everybody is a mixture: what it paid those who chose it, and what it would pay those who did not,
#
# $$E[Y \mid do(x)] = P(X = x)\, E[Y \mid X = x] + P(X = x')\, E[Y_x \mid X = x'].$$
#
# Only the last term is unknown.
#
# ## Exercise 4: the unseen half · ●●○○○ · 10 min
#
# Solve for it. `see`, `do` and `share` have one number for each of the two machines. Entry $x$ of the answer is about machine
# $x$, played by those who intended the other one.

# %%
def unseen(see, do, share):
    """see E[Y|X=x], do E[Y|do(x)], share P(X=x), each [2] -> E[Y_x | X = the other one] [2]."""
    # solution
    return (do - share * see) / (1 - share)
    # end solution
    # stub: return None  # your code here (one line)


# %%
unseen_of = check("04.unseen", unseen).function
player = World(GREEDY_CASINO, allow=[Layer.SEE, Layer.DO], seed=3)
log = player.see(10_000)
done = np.array([player.do(machine, 10_000).mean() for machine in (0, 1)])
estimate = unseen_of(offline.reward_model(log)[0], done, offline.imitation(log)[0])
print("from 10,000 guests and 20,000 coin tosses:", estimate.round(3), "exact:", 0.45)
assert np.allclose(estimate, confounded.unseen_from_see_and_do(offline.reward_model(log)[0], done, offline.imitation(log)[0]))

# %% [markdown]
# Two kinds of data, and in neither is it written down that a guest played against their intuition; together they say what happens
# to one who does. With three machines one equation is left with two unknowns, and the wonder is over.

# %% [markdown]
# ## 4 A learner that listens to its intuition, without obeying it
#
# Now let us learn to play, without knowing any of this. Thompson sampling (chapter 01) keeps for each machine the wins and losses
# so far, draws a plausible chance from a Beta distribution, and plays the machine with the larger draw. It sets its machine
# itself, so it lives on the second layer, and there both machines pay 0.30: it can never do better, however long it plays.
#
# The remedy is one line: treat the intent as a context, and keep a table of wins and losses for each. It may seem odd that a
# program has an intent. It has one whenever it starts from somebody's inclination: a trained policy's first choice, a driver's
# foot, a doctor's hunch.
#
# ## Exercise 5: a memory for intents · ●●○○○ · 10 min
#
# From a history of rounds, make the table [won or lost, intent, machine] of counts. Every count starts at 1, the uniform prior.

# %%
def memory(intent, machine, won):
    """intent, machine, won [n], each 0 or 1 -> counts [2,2,2]: wins then losses, for each intent and machine."""
    # solution
    counts = np.ones((2, 2, 2))
    for z, x, y in zip(intent, machine, won):
        counts[0 if y else 1, z, x] += 1
    return counts
    # end solution
    # stub: return None  # your code here (about four lines)


# %%
memory_of = check("04.memory", memory).function

# %% [markdown]
# One guest who plays a thousand games with it:

# %%
rng = wb.seeding.generator(0, "one guest")
history = np.zeros((3, 1000), dtype=int)  # intent, machine, won
counts = memory_of(*history[:, :0])
for game in range(1000):
    state = rng.choice(4, p=CHANCE)
    machine = rng.beta(*counts[:, INTENT[state]]).argmax()
    won = rng.random() < PAYS[machine, state]
    history[:, game] = INTENT[state], machine, won
    counts[0 if won else 1, INTENT[state], machine] += 1
assert np.array_equal(counts, memory_of(*history))
switched = history[0] != history[1]
print(f"won {history[2].mean():.3f} of a thousand games")
print(f"went against the feeling in {switched[:50].mean():.0%} of the first 50 games and in {switched[50:].mean():.0%} of the others")

# %% [markdown]
# Single runs mislead, so now a thousand guests at once, through the package. A third kind of player has watched two hundred other
# guests before. Such a log is *not* thrown away for being confounded: it answers the first-layer question, and what those who
# chose $x$ got is the diagonal of the table. Regret counts against the best that one can do knowing the intent, 0.45 a game.

# %%
drawn = World(GREEDY_CASINO, seed=8).see(200 * 1000)
seen = offline.Log(drawn.actions.reshape(1000, 200), drawn.rewards.reshape(1000, 200), 2)  # each has watched others
both = [Layer.DO, Layer.IMAGINE]
players = [
    play(Thompson(), ConfoundedProblem(GREEDY_CASINO, allow=[Layer.DO]), 1000, 1000, seed=9),
    play(IntentThompson(), ConfoundedProblem(GREEDY_CASINO, allow=both), 1000, 1000, seed=9),
    play(IntentThompson(seen), ConfoundedProblem(GREEDY_CASINO, allow=both), 1000, 1000, seed=9),
]
NAMES = ("without the intent", "intent as a clue", "and 200 guests watched")
for name, player in zip(NAMES, players):
    found = wb.stats.t_interval(player.final)
    print(f"{name:24} regret after 1000 games {found.estimate:7.2f}  95 % interval {found.low:.2f} to {found.high:.2f}")

# %%
fig, ax = plt.subplots(figsize=(7, 3.8))
for j, (name, player) in enumerate(zip(NAMES, players)):
    found = player.interval()
    ax.plot(player.times, found.estimate, color=plots.COLORS[j], linestyle=plots.DASHES[j], label=name)
    ax.fill_between(player.times, np.maximum(found.low, 1e-3), found.high, color=plots.COLORS[j], alpha=0.2)
ax.plot(players[0].times, 0.15 * players[0].times, color="black", linestyle=":", linewidth=1, label="0.15 a game")
ax.set(xscale="log", yscale="log", ylim=(0.05, 300), xlabel="games", ylabel="regret (wins)", title="Ignoring a clue costs in every game")
ax.legend(loc="upper left")
last = "; ".join(f"{name} {player.final.mean():.1f}" for name, player in zip(NAMES, players))
plots.show(fig, alt=f"Regret against games on logarithmic axes. After 1000 games: {last}.",
           caption="Means over 1000 guests with 95 % bands. The blind learner follows the dotted straight line for ever.")  # fmt: skip

# %% [markdown]
# The learner without its intent loses 0.15 in every game, for ever: it has nothing left to learn. With the intent the
# regret grows ever more slowly; it pays for finding out what each pair does. The log of other guests pays most of that bill,
# because it says for each intent what obedience brings: 15 %, twice. What is left is to try the other machine.

# %% [markdown]
# ## 5 The surprise: pessimism does not help
#
# In chapter 03 pessimism saved us from logs that were thin in the wrong places: trust what has been proven. Does it save us here?
# Leave the casino for a clinic. There are two treatments. Doctors look at the patient, and what they see is not in the log: mild
# cases mostly get treatment A, severe ones mostly B. **B is better for both**: it cures 95 % instead of 90 % of mild cases, and
# 40 % instead of 20 % of severe ones.

# %%
clinic = ConfoundedBandit(
    chance=[0.4, 0.1, 0.1, 0.4],  # mild and given A, mild and given B, severe and given A, severe and given B
    intent=[0, 1, 0, 1],
    pays=[[0.90, 0.90, 0.20, 0.20], [0.95, 0.95, 0.40, 0.40]],
)
print("see", clinic.see().round(3), " do", clinic.do().round(3))
print("given the doctor's intent (rows), A and B cure")
print(clinic.do_given_intent().round(3))

# %% [markdown]
# Seen, A cures 76 % and B 51 %. Done, A cures 55 % and B 67.5 %. The best-looking treatment is the worse one: for everybody, and
# even for those for whom the doctors chose it. Now let the three rules of chapter 03 choose one treatment for all, from longer
# and longer logs of two hospitals. They have the same treatments with the same effects on the same patients. In the first the
# doctors choose by habit: B nineteen times in twenty, whoever comes. That is thin data in the worst place, made for pessimism. In
# the second hospital they look.

# %%
RULES = {
    "most played": offline.most_played,
    "best average": offline.empirical_best,
    "best lower bound": offline.lower_confidence,
}
LENGTHS, LOGS = (20, 50, 100, 200, 500, 1000, 2000, 5000), 500
ward = World(clinic, seed=5)
loss = {"by habit": np.empty((3, len(LENGTHS))), "by looking": np.empty((3, len(LENGTHS)))}
held = []
for j, length in enumerate(LENGTHS):
    habit = offline.record(clinic.do(), [0.05, 0.95], length, seed=6, logs=LOGS)
    drawn = ward.see(LOGS * length)
    looked = offline.Log(drawn.actions.reshape(LOGS, length), drawn.rewards.reshape(LOGS, length), 2)
    for i, rule in enumerate(RULES.values()):
        for name, logs in (("by habit", habit), ("by looking", looked)):
            loss[name][i, j] = (clinic.best_do() - clinic.do()[rule(logs)[:, 0]]).mean()
    bound = offline.reward_model(looked)[:, 0] - np.sqrt(np.log(4 * length) / (2 * looked.counts()[:, 0]))
    held.append((bound < clinic.do()).all(1).mean())
print("lower bounds that hold, by looking:", dict(zip(LENGTHS, np.round(held, 2).tolist())))

# %%
fig, axes = plt.subplots(1, 2, figsize=(9.2, 3.7), sharey=True)
for ax, (name, lost) in zip(axes, loss.items()):
    for i, rule in enumerate(RULES):
        ax.plot(LENGTHS, lost[i], color=plots.COLORS[1 + i], marker=plots.MARKERS[1 + i], label=rule)
    ax.set(xscale="log", xlabel="patients in the log", title=f"Doctors choose {name}", ylim=(-0.006, 0.14))
axes[0].set(ylabel="loss (chance of a cure)")
axes[0].legend(loc="upper right")
plots.show(
    fig,
    alt="Loss against length of the log. Doctors who choose by habit: best average falls from "
    f"{loss['by habit'][1, 0]:.3f} to {loss['by habit'][1, -1]:.3f}, best lower bound never exceeds {loss['by habit'][2].max():.4f}. "
    f"Doctors who look: both rise, from {loss['by looking'][2, 0]:.3f} to {loss['by looking'][2, -1]:.3f}, the largest loss there is.",
    caption="Means over 500 logs. The treatments are the same on both sides; only what made the doctors choose differs.",
)

# %% [markdown]
# On the left it is chapter 03 again: the averages fall for the few patients who got A, pessimism does not. On the right pessimism
# is as wrong as greed, and **the more data, the surer**: its bounds, which should hold in nearly all logs, hold in none
# from five hundred patients on. It
# guards against the noise of a small sample, and here there is none. The 76 % are true; they are the answer to another question.
# Only the rule that ignores the outcomes altogether does better, by knowing nothing: the doctors give A to half of the patients,
# so it tosses a coin.
#
# No cleverer rule can help either. Take a third hospital whose doctors choose by coin, and whose treatments truly cure 76 % and
# 51 %. Its logs and those of the clinic are the same, to the last digit of every probability; the best treatments differ.
# Whatever you compute from the log, you compute the same in both, and in one of them you are wrong.

# %%
twin = ConfoundedBandit(chance=clinic.chance, intent=clinic.intent, pays=np.tile(clinic.see()[:, None], (1, 4)))
print("share of A and B", clinic.chosen(), twin.chosen())
print("see             ", clinic.see().round(3), twin.see().round(3))
print("do              ", clinic.do().round(3), twin.do().round(3))
assert np.allclose(clinic.see(), twin.see()) and clinic.do().argmax() != twin.do().argmax()

# %% [markdown]
# So what *may* one say from a log alone? We know what A did for those who got it. Of the others we know nothing: it might have
# cured all of them, or none. That gives an interval that is always true (Manski, 1990):
#
# $$P(X=x)\,E[Y \mid X=x] \;\le\; E[Y \mid do(x)] \;\le\; P(X=x)\,E[Y \mid X=x] + P(X \ne x).$$

# %%
for name, world in (("greedy casino", GREEDY_CASINO), ("clinic", clinic), ("its twin", twin)):
    low = world.chosen() * world.see()
    high = low + 1 - world.chosen()
    ends = ", ".join(f"{a:.3f} to {b:.3f}" for a, b in zip(low, high))
    print(f"{name:14} promised: {ends}   truth: {world.do().round(3)}")
    assert (low <= world.do()).all() and (world.do() <= high).all()

# %% [markdown]
# Wide, and honest. Such an interval does not shrink with more data, for it is not about noise. It will often refuse to say which
# arm is better, and that refusal is the correct answer. Part II of this course is about what can be done then: when an expert's
# choices may be copied all the same (chapter 06), what to look at over many steps (chapter 07), and how to plan with intervals
# like these (chapter 08).
#
# ## What the paper had that we left out
#
# - *Weighted draws.* The paper's learner also weighs its draws by a term made from the counterfactuals. Ours only starts from the
#   guests' log.
# - *Where the intent comes from.* We handed it over as a number. Noticing one's own intent before acting is the hard part for
#   people, and for a program it means to keep the policy it started from.
# - *More machines.* `ConfoundedBandit` takes any number; exercise 4's trick does not survive a third one.
#
# ## Where this returns
#
# Chapters 06 to 08, as above; there the hidden cause sits between an expert and a reward over many steps. And quietly everywhere:
# whenever a model learns from what somebody chose (a log, a demonstration, a preference), ask what they saw that the log does not
# hold.
#
# ## Further reading
#
# - E. Bareinboim, A. Forney, J. Pearl, *Bandits with unobserved confounders: a causal approach*, NeurIPS 2015.
# - J. Pearl, D. Mackenzie, *The Book of Why*, 2018: the three layers, told for everybody.
# - E. Bareinboim, J. Correa, D. Ibeling, T. Icard, *On Pearl's hierarchy and the foundations of causal inference*, 2022: why
#   lower layers do not determine higher ones.
# - C. Manski, *Nonparametric bounds on treatment effects*, American Economic Review 80, 1990.
