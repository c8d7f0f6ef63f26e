# %% [markdown]
# # 08 · Partial identification: imitating with bounds
#
# **The question.** If you cannot know, how well can you promise to do?
#
# **You will be able to**
# - say what a record of an expert's choices tells about your own, and what it leaves open, as an interval;
# - plan so that a promise holds in every world that fits the record, and compute the promise;
# - turn one dial, $\Gamma$, from "nothing is hidden" to "anything may be", and see when a plan changes;
# - tell a certificate that holds from one that does not.
#
# **Time.** 75 minutes of yours, about ten seconds of the computer's.
#
# **You need.** Markov decision processes and value iteration, probabilities, NumPy. Chapter 06 shows why copying can fail, and
# chapter 04 the same with a single decision; both help, neither is needed.

# %%
import itertools
import math
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
from ipywidgets import SelectionSlider
from scipy.optimize import linprog

from workbench import plots
from workbench.causal import bounds, games, planning, worlds
from workbench.course import check

plots.style()

# %% [markdown]
# ## A ward with a good record
#
# In a ward, patients are *well*, *mildly* ill, *severely* ill or *critical* (states 0 to 3). Each day a physician **waits**,
# gives a **drug**, or gives a **strong** drug (actions 0 to 2), and the next day the patient is one step better, one step
# worse, or unchanged. A day in state $s$ is worth $1 - s/3$, and a future day counts $\gamma = 0.9$ times as much as the one
# before it. We report values scaled so that a patient who is always well is worth 1.
#
# The physician is good, and sees something that the record does not have: whether the patient is *frail*. You are to treat
# the next patients, with nothing but the record. Here is what the record says of three simple rules, beside the truth, which
# in this simulated ward we can compute.

# %%
ward = worlds.clinic()
STATES, ACTIONS = ["well", "mild", "severe", "critical"], ["wait", "drug", "strong"]
record = ward.observed  # what watching the physician for ever would tell, exactly
expert = float(record.expert_value)

trusted = bounds.natural(record, transitions=False, rewards=False)  # as if nothing were hidden
rules = [np.full(4, x) for x in range(3)]
says = [float(planning.robust_value(trusted, rule).score) for rule in rules]
truth = [float(ward.value(rule)) for rule in rules]
for name, a, b in zip(ACTIONS, says, truth):
    print(f"always {name:7} the record says {a:.3f}, the truth is {b:.3f}")
print(f"the physician   {expert:.3f}")

# %%
known = bounds.natural(record, rewards=False)  # what this chapter builds
low = [float(planning.robust_value(known, rule).score) for rule in rules]
high = [float(planning.robust_value(known, rule, worst=False).score) for rule in rules]

fig, ax = plt.subplots(figsize=(7, 3.2))
ax.hlines(range(3), low, high, color="#bbbbbb", linewidth=9, linestyle="-", label="every value that fits the record")
ax.plot(says, range(3), "D", color=plots.COLORS[3], markersize=9, label="what the record seems to say")
ax.plot(truth, range(3), "o", color="black", markersize=8, label="truth")
ax.axvline(expert, color=plots.COLORS[0], linestyle="--", label="the physician")
ax.set(yticks=range(3), yticklabels=[f"always {name}" for name in ACTIONS], xlim=(0, 1), xlabel="value (1: always well)")
ax.set(ylim=(-0.6, 4.1), title="One record, many truths")
ax.legend(loc="upper left", ncols=2, fontsize=9, frameon=True, framealpha=1, edgecolor="white")
plots.show(
    fig,
    alt="Three wide bars of values that fit the record. " + "; ".join(
        f"always {name}: {a:.2f} to {b:.2f}, the record says {c:.2f}, the truth is {d:.2f}"
        for name, a, b, c, d in zip(ACTIONS, low, high, says, truth)) + f". The physician is at {expert:.2f}.",
    caption="The diamond of the strong drug is the furthest right: the record recommends it. The black dots say otherwise.",
)  # fmt: skip

# %% [markdown]
# The record praises the strong drug above all, and it is a trap: given to everybody it does far worse than the plain drug. The
# physician gave it to those who could bear it. *Seeing* what followed the strong drug is not *doing* it.
#
# The grey bars are the honest answer: every value that some world with this very record could give. They are wide, and that is
# what this chapter is about. Where do they come from, what can be promised in spite of them, and what would make them shorter?
#
# ## 1 What the record tells, and what it leaves open
#
# Write $e(x|s)$ for the physician's choices, as frequencies. Let $T(s'|s,x)$ be what we need, the chance that a patient in
# state $s$ moves to $s'$ if *we* do $x$, to whoever is in front of us. Cut today's patients in $s$ into two groups:
#
# - Those to whom the physician did $x$, a share $e(x|s)$. We have seen what $x$ does to them. Among *all* patients in $s$, the
#   share that got $x$ and then moved to $s'$ is $P(s', x \mid s)$.
# - Those to whom the physician did something else, a share $1 - e(x|s)$. What $x$ would have done to them nobody has seen. It
#   could be anything.
#
# Add the two:
#
# $$P(s', x \mid s) \;\le\; T(s'|s,x) \;\le\; P(s', x \mid s) + 1 - e(x|s).$$
#
# These are the **natural bounds** (Manski, 1990). No assumption went into them, other than that what happens to one patient
# does not depend on what is done to another.
#
# ## Exercise 1: the natural bounds · ●●○○○ · 10 min
#
# You get $P(s', x \mid s)$ as an array `joint[s, x, s']`. It holds everything you need: what is its sum over $s'$?

# %%
def natural_bounds(joint):
    """joint: P(s', x | s) [S,X,S] -> lower and upper ends of T(s'|s,x), each [S,X,S]."""
    # solution
    elsewhere = 1 - joint.sum(-1, keepdims=True)  # the share to whom something else was done
    return joint, joint + elsewhere
    # end solution
    # stub: return None, None  # your code here (about two lines)


# %%
bounds_of = check("08.natural_bounds", natural_bounds).function

# %% [markdown]
# Look at the severely ill. In this simulated ward we may compare with the truth.

# %%
lower, upper = bounds_of(record.joint)
print("a severely ill patient gets better:")
for x, name in enumerate(ACTIONS):
    seen = record.joint[2, x, 1] / record.expert[2, x]
    row = f"  {name:7} given to {record.expert[2, x]:5.1%}, seen in {seen:.3f} of those"
    print(f"{row}; bounds [{lower[2, x, 1]:.3f}, {upper[2, x, 1]:.3f}], truth {ward.transitions[2, x, 1]:.3f}")
assert (lower <= ward.transitions + 1e-12).all() and (ward.transitions <= upper + 1e-12).all()

# %% [markdown]
# The width of each interval is $1 - e(x|s)$, whatever the numbers. *An action that the expert takes often is well known; one
# that the expert hardly takes is hardly known*, however many patients you watch. And note what does **not** narrow the bounds:
# that nothing is hidden. The bounds do not know it, and no record can tell them.
#
# ## 2 The same from a linear program
#
# Is this the best one can say? An interval could be correct and needlessly wide. There is a way to check that needs no
# cleverness (Balke and Pearl, 1997). All that a hidden cause can do to a patient is to settle two things: what the physician
# does, and for each action what would follow, $(x, s'_{\text{wait}}, s'_{\text{drug}}, s'_{\text{strong}})$. So a world is
# nothing but a distribution over those *response types*. The record fixes some sums of it, and $T(s'|s,x)$ is another sum of
# it. The least and the largest value of a sum under such constraints is a linear program.

# %%
def response_types(joint, x, to):
    """The ends of T(to | x) from P(s', x | s) [X,S] of one state, by linear programming over all response types."""
    actions, states = joint.shape
    types = list(itertools.product(range(actions), *[range(states)] * actions))  # (choice, what each action leads to)
    fits = np.zeros((joint.size, len(types)))
    for i, (choice, *leads) in enumerate(types):
        fits[choice * states + leads[choice], i] = 1  # this type shows up in the record here
    wanted = np.array([float(leads[x] == to) for _, *leads in types])
    ends = [linprog(sign * wanted, A_eq=fits, b_eq=joint.ravel()).fun for sign in (1, -1)]
    return ends[0], -ends[1]


for x, name in enumerate(ACTIONS):
    by_program = response_types(record.joint[2], x, 1)
    assert np.allclose(by_program, (lower[2, x, 1], upper[2, x, 1]))
    print(f"severe to mild, {name:7} program [{by_program[0]:.3f}, {by_program[1]:.3f}], the same as the formula")

# %% [markdown]
# 192 kinds of patients, and the program finds nothing better than two additions. The bounds are **sharp**: both ends belong to
# real worlds with this very record. The package builds them (`bounds.witness`). Here are two wards that no record can tell
# apart, the kindest and the cruellest to those who were not given $x$.

# %%
for name, to in (("kindest", 0), ("cruellest", 3)):
    leftover = np.broadcast_to(np.eye(4)[to], (4, 3, 4))  # where x would have led the others
    world = bounds.witness(record, leftover, ward.rewards)
    assert np.allclose(world.observed.joint, record.joint) and np.isclose(world.observed.expert_value, expert)
    values = ", ".join(f"{action} {world.value(rule):.3f}" for action, rule in zip(ACTIONS, rules))
    print(f"the {name} ward: same record, physician {world.observed.expert_value:.3f}; always {values}")

# %% [markdown]
# These are the ends of the grey bars. The two wards agree on everything that was ever seen, and differ by more than 0.6 on what
# would happen to *you*.
#
# ## 3 A promise: robust value iteration
#
# Now plan. We want a policy, and a number, such that in **every** ward that fits the record the policy is worth at least that
# number. Think of an adversary who picks the ward after we have picked the policy. The record binds the adversary in the share
# $P(s', x | s)$. The leftover, $1 - e(x|s)$, it may put where it hurts most: on the state with the smallest value. That is all
# there is to it, because what it does at one pair $(s,x)$ does not restrict it at another:
#
# $$V(s) = \max_x \Big\{ (1-\gamma)\, r(s,x) + \gamma \Big[ \sum_{s'} P(s', x|s)\, V(s') + \big(1 - e(x|s)\big) \min_{s'} V(s') \Big] \Big\}.$$
#
# (The factor $1-\gamma$ is our scaling. That the adversary may change its mind each day does not help it: it is always the same
# state.)
#
# ## Exercise 2: robust value iteration · ●●●○○ · 15 min
#
# Apply the equation until nothing moves; two thousand times is plenty.

# %%
def robust_values(joint, reward, discount):
    """joint: P(s', x | s) [S,X,S], reward [S,X], discount -> the promise for each state [S]."""
    value = np.zeros(len(joint))
    # solution
    elsewhere = 1 - joint.sum(-1)
    for _ in range(2000):
        goes = joint @ value + elsewhere * value.min()  # [S,X]
        value = ((1 - discount) * reward + discount * goes).max(-1)
    return value
    # end solution
    # stub: return None  # your code here (about four lines)


# %%
promise_of = check("08.robust_values", robust_values).function
mine = promise_of(record.joint, ward.rewards, ward.discount)
plan = planning.robust_value_iteration(known)
assert np.allclose(mine, plan.value, atol=1e-9)
naive = planning.robust_value_iteration(trusted)
for name, found in (("trusting the record", naive), ("robust", plan)):
    acts = ", ".join(f"{state}: {ACTIONS[x]}" for state, x in zip(STATES, found.policy))
    print(f"{name:20} promises {found.score:.3f}, delivers {ward.value(found.policy):.3f}  ({acts})")

# %% [markdown]
# Yours and the package's agree. The trusting plan promises more than the physician achieves, and delivers far less. The robust
# plan promises little, keeps its word, and, as it happens, *is the best policy there is*: the plain drug for everybody. It was
# not found because it looked good but because it is the best known.
#
# The promise is so low because we let the adversary do things no physician would believe, such as a well patient turning critical
# overnight. That is not ignorance of the hidden cause, it is neglect of what we know. Say it: a patient moves by one step at most.

# %%
step = np.abs(np.subtract.outer(range(4), range(4))) <= 1  # [S,S]: one step at most
near = bounds.natural(record, rewards=False, support=step[:, None])
close = planning.robust_value_iteration(near)
print(f"promise without that knowledge {plan.score:.3f}, with it {close.score:.3f}; the policy: {close.policy}")

chain = worlds.confounded_chain(3, 0.9, 0.9)  # forward if the action matches a coin that the expert sees, else back
best = planning.value_iteration(chain.transitions, chain.rewards, chain.start, chain.discount).score
anywhere = planning.robust_value_iteration(bounds.natural(chain.observed, rewards=False)).score
physical = bounds.natural(chain.observed, rewards=False, support=worlds.chain_support(3))
print(f"a chain: best {best:.6f}, promise {anywhere:.6f}, and {planning.robust_value_iteration(physical).score:.6f} knowing the steps")

# %% [markdown]
# A third more for the ward. In the second example, a walk along a chain with a hidden coin, the one fact "one step forward or
# back" makes the promise *equal* to the best possible value. What you know about the world is worth more than another thousand
# records.
#
# ## 4 A dial from trust to suspicion
#
# Between "nothing is hidden" and "anything may be" there is a lot of room. A **sensitivity model** puts one number on it (after
# Tan, 2006). For the patients to whom $x$ was *not* given, let $q(s')$ be the chance that $x$ would have led to $s'$. Suppose
# that it differs from what was seen, $P(s'|s,x)$, by a factor of at most $\Gamma$, either way:
#
# $$\tfrac{1}{\Gamma}\, P(s'|s,x) \;\le\; q(s') \;\le\; \Gamma\, P(s'|s,x).$$
#
# $\Gamma = 1$: the others would have fared alike. $\Gamma = 2$: nothing would have been more than twice as likely, or less than
# half as likely. $\Gamma = \infty$: back to the natural bounds, on states that were seen to follow. (This form for transitions
# is our derivation.)
#
# ## Exercise 3: what gamma leaves open · ●●○○○ · 10 min
#
# The truth is a mixture of those who were seen and those who were not, $T = e\,P(s'|s,x) + (1-e)\,q(s')$. Write down its ends.
# (That a row of $T$ sums to 1 may cut them a little further; the planner sees to that.)

# %%
def sensitivity_bounds(joint, gamma):
    """joint: P(s', x | s) [S,X,S], gamma >= 1 -> lower and upper ends of T(s'|s,x), each [S,X,S], none above 1."""
    # solution
    e = joint.sum(-1, keepdims=True)
    seen = joint / e  # P(s' | s, x)
    return seen * (e + (1 - e) / gamma), np.minimum(seen * (e + (1 - e) * gamma), 1)
    # end solution
    # stub: return None, None  # your code here (about three lines)


# %%
dial = check("08.sensitivity_bounds", sensitivity_bounds).function
package = bounds.sensitivity(record, 2.0, rewards=False)
assert np.allclose(dial(record.joint, 2.0)[0], package.low) and np.allclose(dial(record.joint, 2.0)[1], package.high)
GAMMAS = [1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4, 6, 10, 20, 50, math.inf]
sets = {gamma: bounds.sensitivity(record, gamma, rewards=False) for gamma in GAMMAS}
promise = {gamma: planning.robust_value_iteration(found) for gamma, found in sets.items()}
hope = {gamma: planning.robust_value_iteration(found, worst=False) for gamma, found in sets.items()}
delivers = {gamma: float(ward.value(found.policy)) for gamma, found in promise.items()}

# %% [markdown]
# Now turn the dial. On the left, for a severely ill patient, how far each action may be better or worse than it looks: the average
# step, in states (down is better). On the right, the promise of the robust plan, the hope (its value in the kindest ward),
# and what the robust plan really delivers. Underneath, whom it gives what. Where does it change its mind?

# %%
STEPS = np.arange(4.0) - 2  # how many states worse than severe


def draw(gamma=1):
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.7), width_ratios=(1, 1.5))
    ends = [sets[gamma].expectation(STEPS, worst=worst)[2] for worst in (True, False)]
    left.vlines(range(3), *ends, color="#bbbbbb", linewidth=12, linestyle="-")
    left.plot(range(3), (ward.transitions @ STEPS)[2], "o", color="black", markersize=8, label="truth")
    left.plot(range(3), sets[1].expectation(STEPS)[2], "D", color=plots.COLORS[3], label="record")
    left.axhline(0, color="#666666", linewidth=1, linestyle="-")
    left.set(xticks=range(3), xticklabels=ACTIONS, xlim=(-0.6, 2.6), ylim=(-1.1, 1.3), ylabel="average step of the severely ill")
    left.legend(loc="upper center", ncols=2)
    place = np.arange(len(GAMMAS))
    for name, line, color in (("hope", hope, 2), ("delivered", delivers, 5), ("promise", promise, 0)):
        y = [value if name == "delivered" else value.score for value in line.values()]
        right.plot(place, y, color="black" if color == 5 else plots.COLORS[color], linestyle="-", label=name)
    right.axvline(GAMMAS.index(gamma), color=plots.COLORS[1], linestyle="--")
    right.axhline(expert, color="#888888", linewidth=1, linestyle=":", label="the physician")
    right.set(xticks=place[::2], xticklabels=["∞" if g == math.inf else f"{g:g}" for g in GAMMAS[::2]], ylim=(0, 1))
    right.set(xlabel="Γ, the factor that the hidden cause may make", ylabel="value")
    right.legend(loc="lower left", fontsize=9, frameon=True, framealpha=1, edgecolor="white")
    acts = ", ".join(f"{state}: {ACTIONS[x]}" for state, x in zip(STATES, promise[gamma].policy))
    words = f"Γ = {'∞' if gamma == math.inf else gamma}: promise {promise[gamma].score:.2f}, delivered {delivers[gamma]:.2f}. {acts}"
    plots.show(fig, f"Intervals that widen with gamma, and promise, hope and delivery against gamma. {words}.", words)


# %%
labels = [("∞" if gamma == math.inf else f"{gamma:g}", gamma) for gamma in GAMMAS]
plots.play(draw, gamma=SelectionSlider(options=labels, value=1.5, description="Γ"))

# %% [markdown]
# For an exported page, the same as a table:

# %%
needed = next(gamma for gamma in GAMMAS if sets[gamma].contains(ward.transitions, ward.rewards))
print("    Γ  promise  delivered  plan (well, mild, severe, critical)")
for gamma in GAMMAS:
    acts = ", ".join(ACTIONS[x] for x in promise[gamma].policy)
    kept = "" if delivers[gamma] >= promise[gamma].score else "   <- broken"
    print(f"{gamma:5g}  {promise[gamma].score:7.3f}  {delivers[gamma]:9.3f}  {acts}{kept}")
print(f"the truth lies inside from Γ = {needed:g} on")

# %% [markdown]
# Four things to take away.
#
# - **The promise falls** as you suspect more, and the bounds widen: every world that fits a small $\Gamma$ fits a larger one.
# - **The plan changes** state by state. The strong drug is dropped first for the mildly ill, who have most to lose, and last
#   for the critical.
# - **The delivered value rises.** It is not that suspicion makes patients well; it is that the drug with the best record has
#   less evidence behind it than the plain one, and suspicion notices.
# - **A promise is as good as its $\Gamma$.** For small $\Gamma$ it is broken: the truth is not in the set. From the $\Gamma$
#   printed in the last line on it must hold (before that it may, by luck). No record tells you this number. It is an
#   assumption, and here it has at least a name and a unit, so that a physician can be asked: *would those to whom you did not
#   give it have done four times worse?*
#
# ## 5 The surprise: a false certificate
#
# So far we knew the reward. In imitation one does not: the expert is good at *something*. Generative adversarial imitation
# (GAIL; Ho and Ermon, 2016) plays a game. An adversary looks for a reward under which the expert earns more than we do; we look
# for the policy that leaves it the least. Let $\rho(s,x)$ be the *occupancy*, the discounted share of time spent in $s$ doing
# $x$. A reward $r(s,x)$ earns $\langle\rho, r\rangle = \sum_{s,x} \rho(s,x)\, r(s,x)$, and
#
# $$\nu = \min_\pi \max_{0 \le r \le 1}\; \langle \rho_E, r\rangle - \langle \rho_\pi, r\rangle$$
#
# is the largest lead the expert can have. If $\nu = 0$, it seems, we are as good as the expert whatever the reward is: a
# **certificate**.
#
# Two states, two actions, a hidden coin $U$. The expert plays $X = U$, and the reward is (mostly) 1 when $X = U$. Where the
# step leads has nothing to do with $U$. For a game this small the exact solution is a linear program over all mixtures of
# policies.

# %%
coin = worlds.two_state("reward only")
gail = games.imitation_game(coin.observed, coin.transitions)
values = np.array([coin.value(policy) for policy in gail.policies])
lead = float(coin.observed.expert_value)
print(f"plain GAIL: game value {abs(gail.value):.6f}, certificate: {gail.certificate.proved}")
print(f"the expert earns {lead:.3f}, GAIL's policy {gail.mixture @ values:.3f}: it trails by {lead - gail.mixture @ values:.3f}")
print(f"the best of all policies earns {values.max():.3f}: even that trails by {lead - values.max():.3f}")

# %% [markdown]
# GAIL reports a lead of **exactly zero**, and its own policy trails by 0.256. No policy whatsoever comes closer than 0.16. What
# went wrong? Not the optimisation; it is exact. The imitator visits each $(s,x)$ precisely as often as the expert. But the
# expert does $x$ *when it pays*, and the imitator does it blindly. "The same occupancy earns the same" is true only if the
# reward of $(s,x)$ is the same for both: if nothing hidden enters it.
#
# The repair is the one you know. Of what the expert is seen to earn in $(s,x)$, namely $r(s,x) = \mathbb{E}[Y|s,x]$, we can be
# sure in the share $e(x|s)$ only. For the rest the worst is 0. So doing $x$ in $s$ is worth at least $e(x|s)\, r(s,x)$ to us,
# and the honest game is
#
# $$\nu_R = \min_\pi \max_{0 \le r \le 1}\; \langle \rho_E, r\rangle - \langle e \cdot \rho_\pi, r\rangle.$$
#
# This is *natural-bounds robust GAIL*: our derivation, in the style of CAIL-R (Ruan et al., 2024).
#
# ## Exercise 4: the honest lead · ●●●○○ · 10 min
#
# For a given policy, what is the inner maximum? The adversary chooses $r(s,x)$ between 0 and 1 for each pair by itself.

# %%
def honest_lead(expert, imitator, e):
    """Occupancies of expert and imitator [S,X], the expert's choices e(x|s) [S,X] -> the largest lead, a number."""
    # solution
    return np.maximum(expert - e * imitator, 0).sum()  # r = 1 where the expert leads
    # end solution
    # stub: return None  # your code here (one line)


# %%
lead_of = check("08.honest_lead", honest_lead).function
watched = coin.observed
flow = games.occupancy_game(watched, coin.transitions, rewards_identified=False)
assert np.isclose(lead_of(watched.occupancy, flow.occupancy, watched.expert), flow.value)
copied = coin.occupancy(watched.expert)  # the copy of the expert, which plain GAIL finds
print(f"honest lead over the copy {lead_of(watched.occupancy, copied, watched.expert):.3f}")
print(f"honest game value {flow.value:.3f}; its policy plays {flow.policy.argmax(1)} and really trails by {lead - coin.value(flow.policy):.3f}")

# %% [markdown]
# The honest game says 0.2: *no certificate*, the expert may be ahead by that much. And its policy really is the best one. It
# stopped copying the expert's coin flips, since the likelier action is the better known. Here are all six two-state worlds of
# the package, with the four games: which parts does one admit not to know?

# %%
stated, really = np.zeros((6, 4)), np.zeros((6, 4))  # what each game states, and how far its own policy trails
for i, case in enumerate(worlds.TWO_STATE):
    world = worlds.two_state(case)
    unsure = bounds.natural(world.observed)
    settings = ((world.transitions, True), (unsure, True), (world.transitions, False), (unsure, False))
    for k, (moves, paid) in enumerate(settings):
        game = games.imitation_game(world.observed, moves, rewards_identified=paid)
        stated[i, k] = abs(game.value)
        really[i, k] = world.observed.expert_value - game.mixture @ [world.value(policy) for policy in game.policies]
broken = really > stated + 1e-9
print("broken:", [(worlds.TWO_STATE[i], k) for i, k in np.argwhere(broken)])

# %%
fig, ax = plt.subplots(figsize=(9, 4.2))
kinds = ("plain GAIL", "T in bounds", "R in bounds", "both in bounds")
for k, kind in enumerate(kinds):
    at = np.arange(6) + 0.2 * (k - 1.5)
    style = {"color": plots.COLORS[(7, 1, 2, 0)[k]], "hatch": ("", "//", "..", "xx")[k], "edgecolor": "white"}
    ax.bar(at, stated[:, k], 0.18, label=kind, **style)
    for wrong, marker, color, label in ((False, "o", "black", "true lead"), (True, "X", plots.COLORS[3], "true lead: promise broken")):
        chosen = broken[:, k] == wrong
        ax.plot(at[chosen], really[chosen, k], marker, color=color, markersize=7 + 3 * wrong, markeredgecolor="white", label=label if k == 3 else None)
ax.axhline(0, color="#666666", linewidth=1, linestyle="-")
short = ["both\nconfounded", "both,\nflipped", "transition\nonly", "reward\nonly", "nothing\nconfounded", "deterministic\nexpert"]
ax.set(xticks=range(6), xticklabels=short, ylabel="lead of the expert (value)", ylim=(-0.15, 0.5), title="Stated (bars) and true (marks)")
ax.legend(loc="upper center", ncols=3, fontsize=9)
rows = "; ".join(f"{case}: states {', '.join(f'{v:.2f}' for v in row)}, truly {', '.join(f'{v:.2f}' for v in own)}"
                 for case, row, own in zip(worlds.TWO_STATE, stated, really))  # fmt: skip
plots.show(
    fig,
    alt=f"Four stated game values for each of six worlds, and how far each policy really trails. {rows}.",
    caption="A promise holds where the mark is not above its bar. Crosses: it is broken. Under 'reward only' plain GAIL's bar has no height, and its mark is at 0.26.",
)

# %% [markdown]
# Read it world by world. (The order of the bars: both known, $T$ in bounds, $R$ in bounds, both in bounds.)
#
# - *Reward only*: the false certificate, at 0.26 above a bar of no height. Doubting $T$ does not help when it is $R$ that is
#   confounded. The two games that doubt $R$ keep their word. *Both, flipped* tells the same story, less loudly.
# - *Transition only*: plain GAIL may learn $T$ by acting, so its 0.16 is true. If $T$ must come from the record too, it states
#   a little more.
# - *Both confounded*: the marks are **below** zero. This expert is bad at its own task, and all four imitators do better. Do
#   not assume the sign of a gap.
# - *Nothing confounded*: GAIL's 0 is true, but the others cannot know that. Bounds do not narrow because the world happens to
#   be kind.
# - *Deterministic expert*: $e = 1$ where it matters, no share is unseen, all games agree on 0. **Watch an expert who never
#   varies and there is nothing to confound** (and nothing to learn about any other action).
#
# One more thing about the games that doubt $R$: with *every* reward from 0 to 1 allowed, a certificate is next to impossible,
# since $r = 1$ everywhere alone gives the adversary a lead of $1 - \mathbb{E}_{\rho_\pi}[e(x|s)]$. A certificate needs a
# smaller class: known features, known signs. In the extreme, a fair XOR coin, no policy and no method can do better than half,
# and the right output is a refusal.

# %%
fair = worlds.bandit_mdp(worlds.xor_bandit(0.5))
for name, identified in (("plain", True), ("honest", False)):
    game = games.imitation_game(fair.observed, fair.transitions, rewards_identified=identified)
    print(f"XOR, {name:6} game: value {abs(game.value):.3f}, certificate: {game.certificate.proved}; true lead {fair.observed.expert_value - 0.5:.3f}")

# %% [markdown]
# ## 6 More patients do not help, beyond a point
#
# A real record is finite, so $P(s', x | s)$ is itself only known within an interval. `bounds.from_counts` takes a lower
# confidence limit for each of its entries (the rest is leftover, and goes where it hurts), so that with a probability of at
# least 95 % *all* of them hold at once and the promise with them.

# %%
patients = [10, 100, 1000, 10_000, 50_000]
promised = []
for n in patients:
    seen = ward.demonstrations(n, 20, seed=8)  # twenty days each
    counts, sums = bounds.count(*seen, (4, 3))
    sample = bounds.from_counts(counts, sums, start=ward.start, discount=0.9, support=step[:, None], looks=20 * n)
    sample = replace(sample, reward_low=ward.rewards, reward_high=ward.rewards)  # what a day is worth, we know
    promised.append(float(planning.robust_value_iteration(sample).score))

# %%
fig, ax = plt.subplots(figsize=(7, 3.4))
ax.plot(patients, promised, "o-", color=plots.COLORS[0], label="promise from a record of this size (95 %)")
ax.axhline(close.score, color=plots.COLORS[1], linestyle="--", label="promise from an endless record")
ax.axhline(float(ward.value(close.policy)), color="black", linestyle=":", label="what that policy delivers")
ax.set(xscale="log", xlabel="patients watched, twenty days each", ylabel="value", ylim=(0, 1), title="Data stops helping")
ax.legend(loc="upper left", fontsize=9)
plots.show(
    fig,
    alt="The promise rises with the number of patients, " + ", ".join(f"{n}: {p:.2f}" for n, p in zip(patients, promised))
    + f", towards {close.score:.2f}, which no record can pass; the policy delivers {ward.value(close.policy):.2f}.",
    caption="The gap below the dashed line is for want of data. The gap above it is for want of knowledge, and no number of patients closes it.",
)  # fmt: skip

# %% [markdown]
# (One record for each size. That the intervals hold as often as they say is checked over a thousand records of several sizes in
# the package's tests.)
#
# Two gaps, two cures. Below the dashed line you lack data: watch more. Above it you lack knowledge: *another* record of the
# same kind will say the same. You need a different kind: the hidden cause itself, an experiment, an instrument, a physical
# limit such as "one step a day", or a $\Gamma$ that somebody will sign.
#
# ## What the papers had that we left out
#
# - *CAIL-T and CAIL-R* (Ruan et al., 2024) are learning algorithms with a discriminator and sampled rollouts. We solved the
#   games behind them exactly, on tables. Our games are derived from the natural bounds, and may differ in detail from the
#   published algorithms. Chapter 07's learners use the same pieces.
# - *Deep robust Q-learning.* The backup you wrote works with networks, with the smallest value in a batch in place of the
#   minimum over states.
# - *Search for the worst world* (IWOCS; Zouitine et al., 2024): solve one world after another, each the worst for the policy so
#   far. `planning.iwocs` does it with exact solvers; on tables it agrees with robust value iteration, and the tests check that.
#   Its use is where worlds come from a simulator.
# - *A reference policy* (DR-RPO; Gu et al., 2025): pay for leaving it. `planning.regularised` has the exact fixed point;
#   exploration and features are left out.
# - *Instruments*: `bounds.response_type_bounds` takes one, and reproduces Balke and Pearl's bounds for a cholesterol drug,
#   [0.392, 0.780].
# - *Joint sensitivity.* Our $\Gamma$ bounds transitions and rewards each by itself; a model of both together would be a little
#   narrower.
#
# ## Where this returns
#
# Chapter 04's casino is the case of a single decision: its natural bounds are [0.075, 0.575] for either machine, and the truth,
# 0.30, lies within. A promise that holds for all worlds of a set is the same idea as a pessimistic value in chapter 03, for want of
# knowledge instead of want of data. And the question "what is the adversary allowed to do?" comes back when rewards are
# learned, in chapter 14.
#
# ## Further reading
#
# - C. F. Manski, *Nonparametric bounds on treatment effects*, American Economic Review 80, 1990.
# - A. Balke and J. Pearl, *Bounds on treatment effects from studies with imperfect compliance*, Journal of the American
#   Statistical Association 92, 1997.
# - Z. Tan, *A distributional approach for causal inference using propensity scores*, Journal of the American Statistical
#   Association 101, 2006.
# - G. N. Iyengar, *Robust dynamic programming*, Mathematics of Operations Research 30, 2005.
# - J. Ho and S. Ermon, *Generative adversarial imitation learning*, NeurIPS 2016.
# - K. Ruan, J. Zhang, X. Di and E. Bareinboim, *Causal imitation for Markov decision processes: a partial identification
#   approach*, NeurIPS 2024.
# - A. Zouitine, M. Geist and E. Rachelson, *Solving robust MDPs as a sequence of static RL problems*,
#   [arXiv 2410.06212](https://arxiv.org/abs/2410.06212).
# - J. Gu, Y. He, Z. Liu and P. Xu, *Policy regularized distributionally robust Markov decision processes with linear function
#   approximation*, [arXiv 2510.14246](https://arxiv.org/abs/2510.14246).
