# %% [markdown]
# # 09 · From a bandit to GRPO, against the exact gradient
#
# **The question.** What does a policy gradient estimate, and how noisily?
#
# **You will be able to**
# - write down the exact gradient of a small policy, and every estimate of it that eight samples can give;
# - measure the bias and the noise of an estimator exactly, without running anything twice;
# - build REINFORCE, leave-one-out, the group mean, GRPO's division by the standard deviation, and the clip;
# - say which of these change the noise, which change the length of the step, and which change the goal.
#
# **Time.** 75 minutes of yours, about ten seconds of the computer's.
#
# **You need.** Expectations, variances and a little calculus; NumPy. Chapter 01 helps, but is not needed: this chapter starts
# from one decision and three possible answers.

# %%
import itertools
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from ipywidgets import Checkbox, Dropdown, IntSlider

import workbench as wb
from workbench import plots
from workbench.course import check

plots.style()

# %% [markdown]
# ## A question, three answers
#
# A student is asked the same question again and again, and answers in one of three ways. A *right* answer earns 1. A *tidy* answer
# is wrong but neatly laid out, and earns a consolation of 0.1. *Gibberish* earns nothing. At the moment the student is right one
# time in ten, and tidy most of the time.
#
# That is a three-armed bandit. It is also, in miniature, a language model that is asked one question and pays a small "format
# reward" for a well-formed answer, and it has the great advantage that we can know everything about it.

# %%
ANSWERS = ["right", "tidy", "gibberish"]
REWARD = np.array([1.0, 0.1, 0.0])
POLICY = np.array([0.1, 0.6, 0.3])

# %% [markdown]
# The student's probabilities come from three numbers, the *logits* $\theta_k$, one for each answer $k$:
# $\pi_k = e^{\theta_k} / \sum_j e^{\theta_j}$. To learn is to push the logits. Which way, and how far? The ideal push is an arrow,
# the **gradient** of the expected reward. It has three entries, one for each logit, but they always add up to zero (adding the same
# number to all logits changes nothing), so the arrow lies in a plane and we can draw it. Three rays say which answer a push favours.

# %%
PLANE = np.array([[0, -1, 1], [2, -1, -1]]) / np.sqrt([[2], [6]])  # [2,3]


def compass(ax, reach, title):
    """Axes in the plane of gradients, with one ray of length `reach` for each answer."""
    for name, ray in zip(ANSWERS, (np.eye(3) @ PLANE.T) * np.sqrt(1.5)):
        ax.plot(*np.outer(ray, [0, reach]), color="#bbbbbb", linewidth=1, linestyle="-", zorder=0)
        ax.text(*(1.08 * reach * ray), f"more {name}", ha="center", va="center", color="#444444", fontsize=9)
    ax.set(aspect="equal", xlim=(-1.3 * reach, 1.3 * reach), ylim=(-0.75 * reach, 1.2 * reach), title=title)
    ax.set_xlabel("push on the logits (reward per unit of logit)")


def exact_arrow(ax):
    style = {"arrowstyle": "-|>", "color": "black", "lw": 2, "mutation_scale": 16, "shrinkB": 0}
    ax.annotate("", PLANE @ exact, (0, 0), arrowprops=style)
    ax.plot([], [], color="black", linestyle="-", label="exact gradient")


def cross(ax, push):
    style = {"color": plots.COLORS[1], "markeredgecolor": "black", "markersize": 12}
    ax.plot(*(PLANE @ push), "X", **style, label="mean of the cloud")


# %% [markdown]
# Here is what this chapter is about, in one picture. Suppose that on top of all this every answer earns one mark for turning up. The
# ideal push is the same: nobody can chase a mark that everything earns. Now the student answers eight times, and from those eight
# answers we estimate the arrow. We do that three thousand times over, in two ways that differ by one subtraction.

# %%
rng = wb.seeding.generator(0, "first picture")
picks = rng.choice(3, size=(3000, 8), p=POLICY)  # 3000 groups of 8 answers
marks, score = 1 + REWARD[picks], np.eye(3)[picks] - POLICY
others = (marks.sum(1, keepdims=True) - marks) / 7  # what the seven others earned on average
exact = POLICY * (REWARD - POLICY @ REWARD)

fig, axes = plt.subplots(1, 2, figsize=(9, 4))
titles = ("credit = reward", "credit = reward − others' mean")
for ax, title, credit in zip(axes, titles, (marks, marks - others)):
    compass(ax, 0.75, title)
    estimate = (credit[..., None] * score).mean(1) @ PLANE.T
    shaken = estimate + rng.normal(0, 0.006, estimate.shape)
    ax.plot(*shaken.T, ".", color=plots.COLORS[0], alpha=0.08, markersize=4)
    exact_arrow(ax)
    ax.legend(loc="lower center")
plots.show(
    fig,
    alt="Two clouds of 3000 gradient estimates around the same short black arrow. The left one, "
    "without a subtraction, spreads over the whole plane; the right one is a fraction of its "
    "size.",
    caption="Each dot is the estimate from one group of eight answers (shaken slightly, or they would "
    "hide one another). Both clouds have their centre on the tip of the black arrow.",
)

# %% [markdown]
# Two things to notice. Both clouds are larger than the arrow: a single estimate is mostly noise, and how much of it there is depends on
# what an answer is compared with. And the dots sit in clumps: there are only so many groups of eight one can draw from three
# answers. There are 45, in fact, so we need not sample at all. We can list them, and know the cloud exactly. That is how this
# chapter checks everything it claims. (From here on there is no mark for turning up.)
#
# ## 1 The exact gradient
#
# The expected reward is $J(\theta) = \sum_k \pi_k r_k$, where $r_k$ is the reward of answer $k$. One line of calculus
# ($\partial \pi_k / \partial \theta_j = \pi_k (1[k=j] - \pi_j)$, with $1[k=j]$ equal to 1 if $k=j$ and 0 otherwise) gives
#
# $$\frac{\partial J}{\partial \theta_k} = \pi_k \,(r_k - J).$$
#
# Read it aloud: an answer should be pushed up if it pays more than *you pay now on average*, and the push is proportional to how often
# you give it. A brilliant answer that you almost never give gets almost no push. Keep that in mind; it explains a good deal of
# what follows.
#
# ## Exercise 1: the exact gradient · ●○○○○ · 5 min
#
# Write it down. You get the logits, not the probabilities.

# %%
def exact_gradient(logits, reward):
    """logits [K], reward [K] -> gradient of the expected reward [K]."""
    # solution
    policy = np.exp(logits - logits.max())
    policy = policy / policy.sum()
    return policy * (reward - policy @ reward)
    # end solution
    # stub: return None  # your code here (about three lines)


# %%
gradient_of = check("09.exact_gradient", exact_gradient).function

# %% [markdown]
# Never trust a formula that you have not compared with something else. A gradient can be compared with differences: nudge each logit a
# little, and see by how much $J$ changes.

# %%
def expected_reward(logits):
    return REWARD @ np.exp(logits) / np.exp(logits).sum()


logits, nudge = np.log(POLICY), 1e-5 * np.eye(3)
differences = [(expected_reward(logits + n) - expected_reward(logits - n)) / 2e-5 for n in nudge]
exact = gradient_of(logits, REWARD)
print("formula    ", exact.round(6))
print("differences", np.round(differences, 6))
assert np.allclose(exact, differences, atol=1e-8)

# %% [markdown]
# The exact gradient pushes *right* up, and both others **down**: the tidy answer earns 0.1, but the student earns 0.16 on average, so
# every tidy answer drags the average down. Remember this sign. One of the most popular estimators will get it wrong.
#
# ## 2 Every group there is
#
# A real learner does not know $\pi_k$ and $r_k$ for all answers: there are too many. It can only sample. What saves it is that the
# gradient is itself an expectation. With the *score* $s_k = \nabla_\theta \log \pi_k$, which for this policy is
# $s_k = e_k - \pi$ (a 1 in place $k$, minus the probabilities),
#
# $$\nabla_\theta J = \sum_k \pi_k \, r_k \, s_k = \mathbb{E}_{a \sim \pi}\,[\, r_a \, s_a \,],
# \qquad \hat g = \frac1G \sum_{i=1}^{G} A_i \, s_{a_i}.$$
#
# $a_i$ is the $i$-th of $G$ sampled answers and $A_i$ what we credit it with: its **advantage**. With $A_i = r_{a_i}$ this is
# REINFORCE (Williams, 1992). *Every estimator in this chapter has this form, and differs only in $A_i$*; so we need one function that
# lists the groups, and one that turns advantages into estimates.

# %%
def every_group(size, policy=POLICY):
    """All groups of `size` answers, their order ignored: counts [N,3] and the probability [N] of each."""
    members = itertools.combinations_with_replacement(range(3), size)
    counts = np.array([np.bincount(group, minlength=3) for group in members])
    orders = [math.factorial(size) / math.prod(map(math.factorial, row)) for row in counts.tolist()]
    return counts, orders * np.prod(policy**counts, axis=1)


def estimates(counts, advantage, policy=POLICY):
    """One gradient estimate a group [N,3]. advantage: [3], or [N,3] where it depends on the group."""
    score = np.eye(3) - policy  # row k is the score of answer k
    return (counts * advantage / counts.sum(1, keepdims=True)) @ score


counts, probability = every_group(8)
print(len(counts), "groups of eight; probabilities add up to", probability.sum().round(12))
print("the likeliest:", dict(zip(ANSWERS, counts[probability.argmax()].tolist())), "with", probability.max().round(3))

# %% [markdown]
# Two numbers say how good an estimator is. Its **bias** is how far its mean is from the exact gradient; its **noise** is how far a single
# estimate is, on average, from that mean (the square root of the total variance). We give both as a share of the length of the exact
# gradient, so that "noise 1" means: as long as the arrow itself.

# %%
def measure(estimate, probability):
    """Bias and noise, in units of the exact gradient, and the mean estimate [3]."""
    mean = probability @ estimate
    noise = np.sqrt(probability @ ((estimate - mean) ** 2).sum(1))
    return np.linalg.norm(mean - exact) / np.linalg.norm(exact), noise / np.linalg.norm(exact), mean


bias, noise, mean = measure(estimates(counts, REWARD), probability)
print(f"REINFORCE, eight answers: bias {bias:.1e}, noise {noise:.3f}")

# %% [markdown]
# No bias, to the last digit of the floating-point numbers. This is no accident of our question: it is the equation above.
#
# ## 3 A baseline costs nothing
#
# Suppose we subtract a constant $b$ from every reward. The mean estimate does not move, because the expected score is zero:
# $\sum_k \pi_k s_k = \sum_k \nabla \pi_k = \nabla 1 = 0$. But the noise does.

# %%
constants = np.linspace(-1, 1, 201)
measured = [measure(estimates(counts, REWARD - b), probability)[:2] for b in constants]
bias, noise = np.array(measured).T
print(f"largest bias over all constants: {bias.max():.1e}")

fig, ax = plt.subplots(figsize=(7, 3.4))
ax.plot(constants, noise, label="noise of one group of eight")
ax.axvline(POLICY @ REWARD, color=plots.COLORS[1], linestyle="--", label="b = J, the mean reward")
ax.set(xlabel="baseline b (reward)", ylabel="noise (lengths of the exact gradient)", ylim=(0, None))
ax.set_title("Any constant is allowed; some are better")
ax.legend(loc="lower right")
plots.show(
    fig,
    alt=f"The noise falls from {noise[0]:.2f} at a baseline of -1 to {noise.min():.2f} near 0.26 "
    "and rises again; the mean reward, 0.16, is close to the best but is not it.",
    caption="The bias is zero all along this curve. The mark for turning up is the left end: a "
    "baseline of -1. The mean reward is a good baseline, but the bottom lies a little to its "
    "right.",
)

# %% [markdown]
# ## Exercise 2: the best constant · ●●●○○ · 15 min
#
# The bottom of the curve is not at the mean reward. Where is it? Minimise the expected squared length of one answer's contribution,
# $\mathbb{E}[(r_a - b)^2 \, \lVert s_a \rVert^2]$, over $b$: set the derivative to zero and solve. ($\lVert s \rVert^2$ is the sum of
# the squares of the entries of $s$. As the mean of the estimate does not depend on $b$, this minimises the variance.)

# %%
def best_baseline(policy, reward):
    """policy [K], reward [K] -> the constant with the least noise, a number."""
    # solution
    squared = ((np.eye(len(policy)) - policy) ** 2).sum(1)  # |s_k|^2 of each answer
    return (policy * squared) @ reward / (policy @ squared)
    # end solution
    # stub: return None  # your code here (about two lines)


# %%
best_of = check("09.best_baseline", best_baseline).function
print(f"best constant {best_of(POLICY, REWARD):.3f}, lowest point of the curve {constants[noise.argmin()]:.2f}")

# %% [markdown]
# Answers with a long score, here the rare ones, count for more: they are the ones that shake the estimate. In practice the
# mean reward is close enough, and it is what everybody uses. But a learner does not know the mean reward either.
#
# ## 4 Let the group be its own baseline
#
# It can estimate it from the group. Which is simple enough, and has one trap in it.
#
# ## Exercise 3: leave one out · ●●○○○ · 10 min
#
# Credit each answer with its reward minus the mean reward of **the others** in its group.

# %%
def leave_one_out(rewards):
    """rewards [G] -> advantages [G]: each reward minus the mean of the others."""
    # solution
    others = (rewards.sum() - rewards) / (len(rewards) - 1)
    return rewards - others
    # end solution
    # stub: return None  # your code here (about two lines)


# %%
leave_out = check("09.leave_one_out", leave_one_out).function

# %% [markdown]
# To use it on all 45 groups we need, for each group, the advantage an answer of each kind would get. With the group's mean
# $\bar r$ that is $\frac{G}{G-1}(r_k - \bar r)$: the same thing, since leaving yourself out of the mean stretches your distance
# from it by $\frac{G}{G-1}$. (Try it with rewards 1, 0, 0.)

# %%
def group_mean(counts):
    """Reward minus the mean of the whole group, oneself included [N,3]."""
    return REWARD - (counts @ REWARD / counts.sum(1))[:, None]


def without_oneself(counts):
    """Reward minus the mean of the others [N,3]."""
    size = counts.sum(1, keepdims=True)
    return group_mean(counts) * size / (size - 1)


one = counts[30]
in_full = np.repeat(REWARD, one)  # the same group, written out
assert np.allclose(without_oneself(one[None])[0][np.repeat(range(3), one)], leave_out(in_full))

# %%
print(f"{'':30}{'group of 2':>18}{'group of 4':>18}{'group of 8':>18}")
print(f"{'credit':30}" + f"{'bias':>10}{'noise':>8}" * 3)
CREDITS = {
    "reward": lambda counts: REWARD,
    "reward - best constant": lambda counts: REWARD - best_of(POLICY, REWARD),
    "reward - mean of the others": without_oneself,
    "reward - mean of the group": group_mean,
}
for name, credit in CREDITS.items():
    row = ""
    for size in (2, 4, 8):
        groups, chance = every_group(size)
        bias, noise, _ = measure(estimates(groups, credit(groups)), chance)
        row += f"{bias:10.3f}{noise:8.2f}"
    print(f"{name:30}{row}")

# %% [markdown]
# Leaving oneself out gives no bias, at the price of a little more noise than a constant. A baseline that *includes the sample itself* is
# biased: by 1/2 in groups of two, 1/4 in groups of four, 1/8 in groups of eight. Your own reward, good or bad, is partly cancelled by
# your own share of the mean.
#
# But look closer at what this bias is. Every estimate is the leave-one-out estimate times $\frac{G-1}{G}$: the same
# cloud, shrunk towards zero. The mean points in the right direction, and noise and arrow shrink alike. *A bias that only shortens the arrow
# is a smaller learning rate by another name.* GRPO uses this baseline, and so far nobody need worry. (Leave-one-out as in
# RLOO, group mean without the division that follows as in Dr. GRPO: we have just proved that one is $\frac{G}{G-1}$ times the other.)
#
# ## 5 Play with the cloud
#
# The bubbles below are the whole cloud: one for each possible group, its area the group's probability. The black arrow is the exact
# gradient, the cross the mean of the cloud: *the bias is the gap between the cross and the tip of the arrow*. Start with *credit:
# reward* and make the groups larger; then change the credit. Leave the box unticked for now. What moves the cross, what
# shrinks the cloud, and what does neither?

# %%
def draw(size=8, credit="reward", divide=False):
    groups, chance = every_group(size)
    advantage = np.broadcast_to(CREDITS[credit](groups), groups.shape)
    if divide:  # by the standard deviation of the group's rewards, as in section 6
        spread = np.sqrt((groups * group_mean(groups) ** 2).sum(1, keepdims=True) / (size - 1))
        advantage = np.where(spread > 1e-9, advantage / (spread + 1e-4), 0)
    cloud = estimates(groups, advantage)
    bias, noise, mean = measure(cloud, chance)
    fig, ax = plt.subplots(figsize=(6.5, 4.6))
    reach = max(0.55, np.abs(cloud[chance > 0.004]).max())
    compass(ax, reach, f"bias {bias:.2f} · noise {noise:.2f}")
    ax.scatter(*(cloud @ PLANE.T).T, s=2000 * chance, color=plots.COLORS[0], alpha=0.4, linewidths=0)
    exact_arrow(ax)
    cross(ax, mean)
    ax.legend(loc="lower center", ncols=2)
    words = f"{len(groups)} bubbles, one a group; mean push "
    words += ", ".join(f"{name} {push:+.3f}" for name, push in zip(ANSWERS, mean))
    plots.show(fig, f"Cloud of gradient estimates: {words}; bias {bias:.2f}, noise {noise:.2f}.", words)


sizes = IntSlider(value=8, min=2, max=16, description="group size")
box = Checkbox(value=False, description="divide by the group's standard deviation")
plots.play(draw, size=sizes, credit=Dropdown(options=list(CREDITS)), divide=box)

# %% [markdown]
# ## 6 The surprise: GRPO's gradient is biased, and you can draw by how much
#
# GRPO (Shao et al., 2024) does one more thing. It divides each advantage by the standard deviation of the rewards in its group:
#
# $$A_i = \frac{r_i - \bar r}{\sigma + \varepsilon}, \qquad
# \sigma = \sqrt{\tfrac{1}{G-1} \textstyle\sum_j (r_j - \bar r)^2},$$
#
# $r_i$ being the reward of the $i$-th answer, $\bar r$ and $\sigma$ mean and standard deviation over the group, and $\varepsilon = 10^{-4}$ a
# guard against division by zero. It looks harmless, a matter of scale: every group now speaks with the same loudness. Tick the box
# above, with *mean of the group*, and see; or look here.

# %%
def grpo(counts):
    """Reward minus the group's mean, over the group's standard deviation [N,3]."""
    centred = group_mean(counts)
    spread = np.sqrt((counts * centred**2).sum(1, keepdims=True) / (counts.sum(1, keepdims=True) - 1))
    return centred / (spread + 1e-4)


# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 4))
lucky = counts[:, 0] > 0
kinds = ((lucky, 0, "o", "has a right answer"), (~lucky, 3, "D", "has none"))
for ax, title, credit, reach in zip(axes, ("leave one out", "GRPO"), (without_oneself, grpo), (0.45, 0.9)):
    cloud = estimates(counts, credit(counts))
    compass(ax, reach, title)
    for chosen, color, marker, label in kinds:
        style = {"s": 1500 * probability[chosen], "marker": marker, "color": plots.COLORS[color]}
        ax.scatter(*(cloud @ PLANE.T)[chosen].T, **style, alpha=0.4, linewidths=0, label=label)
    exact_arrow(ax)
    cross(ax, probability @ cloud)
axes[1].legend(loc="upper right", fontsize=8)
plots.show(
    fig,
    alt="Left, leave one out: groups without a right answer cluster close to zero and the mean "
    "equals the exact gradient. Right, GRPO: groups without a right answer lie further out "
    "than the others, and the mean leans towards the tidy answer.",
    caption="One bubble for each of the 45 groups of eight; note the different scales. Left: groups "
    "without a right answer (diamonds) hardly matter. Right: divided by their own small "
    "spread they matter as much as any other, and the cross, their mean, is far from the "
    "arrow, towards 'tidy'.",
)

# %%
bias, noise, mean = measure(estimates(counts, grpo(counts)), probability)
angle = np.degrees(np.arccos(mean @ exact / np.linalg.norm(mean) / np.linalg.norm(exact)))
print("push on              " + "".join(f"{name:>11}" for name in ANSWERS))
print("exact gradient       " + "".join(f"{push:+11.3f}" for push in exact))
print("GRPO, mean of groups " + "".join(f"{push:+11.3f}" for push in mean))
print(f"\nlonger by a factor of {np.linalg.norm(mean) / np.linalg.norm(exact):.2f}, and turned by {angle:.0f} degrees")
print(f"groups without a right answer: {probability[~lucky].sum():.0%}")

# %% [markdown]
# That the arrow is longer would not matter, but it also **turns**, and on the tidy answer it has *the wrong sign*: the exact gradient
# says down, GRPO says up, on average over all groups, and however many groups you average.
#
# The reason is in the diamonds. In 43 % of the groups there is no right answer, only tidy and gibberish, worth 0.1 and 0. Such a group has
# little to say, since nothing in it pays much. But its spread is small as well, and dividing by it makes the 0.1 as loud as the
# 1.0 of a group that did find the right answer. *Standardising answers a different question: not "how much better", but "how many standard
# deviations better, among those I happened to see".*
#
# Does it matter? Let us follow the mean arrow of each estimator from a few starting points, in steps of equal length, so that
# only the direction counts. The picture is the triangle of all policies: each corner is the policy that always gives that answer.

# %%
def follow(start, direction, steps=600, length=0.04):
    """The path [steps,3] of a policy whose logits take steps of one length along direction(policy)."""
    logits, path = np.log(start), []
    for _ in range(steps):
        policy = np.exp(logits - logits.max())
        policy /= policy.sum()
        path.append(policy)
        push = direction(policy)
        logits = logits + length * push / np.linalg.norm(push)
    return np.array(path)


def grpo_mean(policy):
    counts, probability = every_group(8, policy)
    return probability @ estimates(counts, grpo(counts), policy)


starts = ([0.1, 0.6, 0.3], [0.02, 0.5, 0.48], [0.05, 0.15, 0.8])
true_paths = [follow(start, lambda p: p * (REWARD - p @ REWARD)) for start in starts]
grpo_paths = [follow(start, grpo_mean) for start in starts]

# %%
corners = np.array([[0.5, np.sqrt(3) / 2], [0, 0], [1, 0]])  # right, tidy, gibberish
fig, ax = plt.subplots(figsize=(6.2, 5.2))
ax.fill(*corners.T, facecolor="#f7f7f7", edgecolor="#999999")
for name, corner, shift in zip(ANSWERS, corners, ((0, 8), (-8, -14), (8, -14))):
    ax.annotate(f"always {name}", corner, shift, textcoords="offset points", ha="center")
kinds = ((true_paths, "black", "-", "exact gradient"), (grpo_paths, plots.COLORS[1], "--", "GRPO, groups of 8"))
for paths, color, dashes, label in kinds:
    for i, path in enumerate(paths):
        ax.plot(*(path @ corners).T, color=color, linestyle=dashes, label=label if i == 0 else None)
ax.plot(*(np.array(starts) @ corners).T, "o", color="black", markersize=7, label="start")
ax.set(aspect="equal", xlim=(-0.12, 1.12), ylim=(-0.09, 0.95), title="Where the mean arrows lead")
ax.axis("off")
ax.legend(loc="upper left")
lowest = [path[:, 0].min() for path in grpo_paths]
plots.show(
    fig,
    alt="Triangle of policies with three starts near the bottom edge. The exact gradient leads "
    "from each to the corner 'always right'. GRPO sets off towards 'always tidy' from each, "
    "from the hardest start almost into that corner, and climbs to 'always right' afterwards.",
    caption="Same starts, steps of the same length. All three broken paths set off towards 'always "
    "tidy'; the lowest nearly ends there.",
)
for start, low in zip(starts, lowest):
    print(f"P(right) {start[0]:.3f} at the start, {low:.3f} at the lowest point of GRPO's path")

# %% [markdown]
# GRPO takes the detour over neatness. From the hardest start the right answer first becomes *rarer* (from 2 % down to about 1 %), because
# tidiness is learnt first and pushes everything else aside. It arrives in the end: here the groups are exact averages, and 1 % is
# enough. With a finite number of samples, an answer that rare may simply never be drawn again.
#
# Three honest remarks. First, the bias shrinks as groups grow (then $\sigma$ hardly depends on the draw), but slowly; move the slider.
# Second, if *all rewards are 0 or 1* the arrow of a single question does not turn at all: exercise 4 shows what happens instead.
# Third, "biased" is not "bad": being loud about small differences is sometimes just what you want, when the small reward is a
# step on the way. The point is to know which goal you have chosen.
#
# ## Exercise 4: one question against another · ●●●●○ · 20 min
#
# Now rewards are 0 or 1, and questions differ in how often they are solved, $p$. If $k$ of $G$ answers are right, all the right ones get the
# same credit and so do all the wrong ones, and the mean estimate of one question becomes
# $\mathbb{E}\big[\tfrac kG (1 - \tfrac kG)\, / \,\sigma_k\big]\,\frac{1}{p(1-p)}$ times the exact gradient: right direction, wrong length. ($\sigma_k$ is the
# standard deviation of $k$ ones and $G-k$ zeros as above, with $G-1$; the expectation runs over $k$, which is binomial. Ignore $\varepsilon$, and
# let groups with $k=0$ or $k=G$ contribute nothing: they are **dead**, nobody in them is better than anybody else.)
#
# Compute this factor.

# %%
def question_weight(p, size):
    """p: chance of a right answer; size: G -> how many times the exact gradient GRPO's mean estimate is."""
    k = np.arange(1, size)  # the groups that are not dead
    chance = np.array([math.comb(size, int(i)) for i in k]) * p**k * (1 - p) ** (size - k)
    # solution
    share = k / size
    spread = np.sqrt(share * (1 - share) * size / (size - 1))
    return (chance * share * (1 - share) / spread).sum() / (p * (1 - p))
    # end solution
    # stub: return None  # your code here (about three lines)


# %%
weight_of = check("09.question_weight", question_weight).function

# %%
chances = np.linspace(0.005, 0.995, 199)
fig, ax = plt.subplots(figsize=(7, 3.8))
for i, size in enumerate((2, 4, 8, 64)):
    marks = {"marker": plots.MARKERS[i], "markevery": (10 + 5 * i, 40)}
    ax.plot(chances, [weight_of(p, size) for p in chances], label=f"groups of {size}", **marks)
ax.plot(chances, 1 / np.sqrt(chances * (1 - chances)), color="black", linewidth=1, linestyle=":", label="no limit on the group")
ax.set(xlabel="p, how often the question is solved", ylabel="times the exact gradient", ylim=(0, 8), xlim=(0, 1))
ax.set_title("How loudly GRPO asks each question")
ax.legend(loc="upper center", ncols=2)
plots.show(
    fig,
    alt="Weight of a question against its solve rate: flat for groups of two, and U-shaped for "
    "larger groups, highest for questions that are almost never or almost always solved.",
    caption="A flat line would leave the goal as it is. The larger the group, the more weight goes to "
    "the very hard and the very easy questions.",
)

# %% [markdown]
# In groups of two the line is flat: there GRPO is leave-one-out times a constant. In large groups the weight is $1/\sqrt{p(1-p)}$, and
# since $\nabla p / \sqrt{p(1-p)} = \nabla\, 2\arcsin\sqrt{p}$, GRPO then climbs the sum of $2\arcsin\sqrt{p}$ over the questions instead of the sum
# of $p$: a goal that cares more about the last few percent at either end. For groups of eight the truth lies between, and the
# extremes get at most $\frac{G-1}{\sqrt G} = 2.5$ against $1.7$ in the middle.
#
# ## 7 Using a group more than once: ratio and clip
#
# Sampling is expensive, so one would like to take several steps from one group. But after the first step the answers come from an *old*
# policy $\pi^{\text{old}}$. The **importance ratio** $\rho_k = \pi_k / \pi^{\text{old}}_k$ puts that right: $\mathbb{E}_{a\sim\pi^{\text{old}}}[\rho_a r_a s_a]$ is
# the exact gradient at the *new* policy. PPO (Schulman et al., 2017), and GRPO after it, maximise a cautious version of it,
#
# $$\min\big(\rho_i A_i,\; \mathrm{clip}(\rho_i,\, 1-\epsilon_{\text{low}},\, 1+\epsilon_{\text{high}})\, A_i\big),$$
#
# where $\mathrm{clip}(x, l, h)$ is $x$ kept between $l$ and $h$, and both $\epsilon$ are usually 0.2. Where the clipped term is the smaller
# one, it is a constant, and the sample gives no gradient.
#
# ## Exercise 5: who still counts? · ●●●○○ · 10 min
#
# Which samples give a gradient? Return 1.0 for those that do, 0.0 for those that do not.

# %%
def still_counts(ratio, advantage, low=0.2, high=0.2):
    """ratio [N], advantage [N] -> 1.0 where min(ratio A, clip(ratio) A) depends on the ratio, else 0.0 [N]."""
    # solution
    too_high = (advantage > 0) & (ratio > 1 + high)
    too_low = (advantage < 0) & (ratio < 1 - low)
    return np.where(too_high | too_low, 0.0, 1.0)
    # end solution
    # stub: return None  # your code here (about three lines)


# %%
counts_still = check("09.still_counts", still_counts).function

# %% [markdown]
# The clip looks at the sign of the advantage: a good answer stops counting once it has become *likelier* than $1 + \epsilon_{\text{high}}$
# allows, a bad one once it has become *rarer*. A sample that has moved the wrong way always counts, so it can be brought back.
#
# Now let the policy walk away from the one that sampled, along the exact gradient, and compare three ways of using the old groups.

# %%
WAYS = {"ratio": 0, "ratio and clip": 1, "no ratio": 2}
distances = np.linspace(0, 1.5, 301)
kept = np.zeros((3, len(distances)))  # share of the exact gradient that the mean estimate keeps
for j, distance in enumerate(distances):
    moved = np.exp(np.log(POLICY) + distance * exact / np.linalg.norm(exact))
    moved /= moved.sum()
    ratio, here = moved / POLICY, moved * (REWARD - moved @ REWARD)
    credit = without_oneself(counts)
    gate = counts_still(np.broadcast_to(ratio, credit.shape), credit)
    for way, weight in zip(WAYS.values(), (ratio, ratio * gate, 1.0)):
        mean = probability @ estimates(counts, credit * weight, moved)
        kept[way, j] = mean @ here / (here @ here)

# %%
fig, ax = plt.subplots(figsize=(7, 3.6))
for name, way in WAYS.items():
    ax.plot(distances, kept[way], label=name, marker=plots.MARKERS[way], markevery=(15 * way, 50))
ax.set(xlabel="distance walked from the policy that sampled (logits)", ylabel="share of the exact gradient", ylim=(-0.1, 1.1))
ax.set_title("What old samples still say")
ax.legend(loc=(0.7, 0.6))
plots.show(
    fig,
    alt="With the ratio the mean estimate keeps the whole exact gradient at every distance; "
    "without it, it fades to about a third; with the clip it drops to a tenth as soon as the "
    "right answer's ratio passes 1.2, and later to zero.",
    caption="The ratio alone stays exact. The clip is not an estimate of the gradient: it is a brake, "
    "and it grips within a fifth of a logit.",
)

# %% [markdown]
# At distance zero all three agree: **on the samples' own policy the clip does nothing.** Further out, the ratio alone is the only
# unbiased one. So why clip? Because of what the plot leaves out. It walks in a direction that does not depend on the group. In practice
# each step is taken *because of this very group*, and a group of eight is not the truth. Take forty steps on each of the 45
# groups, and see where the policy ends.

# %%
def reuse(clip, steps=40, rate=2.0):
    """The policy after `steps` steps on one group, for each of the 45 groups [45,3]."""
    logits = np.tile(np.log(POLICY), (len(counts), 1))
    credit = without_oneself(counts)
    for _ in range(steps):
        policy = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        ratio = policy / POLICY
        pull = counts * credit * ratio * (counts_still(ratio, credit) if clip else 1.0) / 8
        logits = logits + rate * (pull - pull.sum(1, keepdims=True) * policy)
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


for clip in (False, True):
    end = reuse(clip)
    moved = np.abs(end - POLICY).sum(1) / 2  # the probability that has changed hands
    unlucky = probability[~lucky] @ end[~lucky, 0] / probability[~lucky].sum()
    print("with clip:" if clip else "without clip:")
    print(f"  P(right) {probability @ end[:, 0]:.2f} on average, {unlucky:.3f} after a group without a right answer")
    print(f"  probability moved: {probability @ moved:.2f} on average, {moved.max():.2f} at most")

# %% [markdown]
# Without the clip, eight answers decide everything: the policy runs to whatever looked best in them. On average that even pays here, since
# our rewards never lie, but it is a bet, and after an unlucky group the right answer is half as likely as before. With the clip,
# no group can move much. You pay with speed, and buy that no single draw ruins you. (Chapter 12 turns the $\epsilon$ into a dial.)

# %% [markdown]
# ## 8 The package says the same, of every method
#
# From here on we import. In the workbench a method is a *recipe*: GRPO with some of its parts replaced. The package can list all
# outcomes of a small bandit for any recipe, through the very code that trains language models. If it and you are both right, the
# numbers agree.

# %%
from workbench import recipes
from workbench.objective.exact import expected_update
from workbench.objective.exact import measure as measure_recipe

one_question = (torch.tensor(logits)[None], torch.tensor(REWARD)[None])  # logits and rewards, [1 question, 3 answers]
by_hand = {"reinforce": REWARD, "rloo": without_oneself(counts), "dr_grpo": group_mean(counts) / 32, "grpo": grpo(counts)}
for name, advantage in by_hand.items():
    theirs = expected_update(recipes.get(name), *one_question, bernoulli=False, group_size=8)
    ours = estimates(counts, advantage)
    mean = probability @ ours
    variance = probability @ ((ours - mean) ** 2).sum(1)
    assert np.allclose(theirs.mean[0], mean) and np.isclose(theirs.variance, variance), name
    print(f"{name:10} mean {np.round(mean, 4)}  noise {np.sqrt(variance):.4f}  the same by hand and from the package")

# %% [markdown]
# (The 32 is Dr. GRPO's constant in place of the length of the answer; it only scales the arrow. So that scale does not
# blur the comparison, the table below splits the bias in two: the **factor**, how many exact gradients the mean goes *along* the exact
# gradient, which a learning rate can undo, and the **angle** by which it is turned, which no learning rate can. The noise is divided
# by the factor.)
#
# Now all methods that one answer can tell apart (those for many turns are in part IV), on two little exams, with groups of eight and samples straight from the policy:
# - *one question, graded*: ours, with rewards 1, 0.1 and 0;
# - *two questions, right or wrong*: one solved half of the time, the other once in twenty; rewards 1 and 0.

# %%
solved = torch.tensor([0.5, 0.05], dtype=torch.float64)
two_questions = (torch.stack([solved, 1 - solved], 1).log(), torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
angles = {}
print(f"{'':24}{'one question, graded':^26}  {'two questions, 0 or 1':^26}")
print(f"{'method':24}" + f"{'factor':>9}{'angle':>8}{'noise':>9}  " * 2)
for name in [recipe.name for recipe in recipes.methods.RECIPES]:
    row, angles[name] = "", []
    for exam in (one_question, two_questions):
        found = measure_recipe(recipes.get(name), *exam, bernoulli=False, group_size=8)
        angles[name].append(math.degrees(math.asin(min(1.0, found.direction))))
        row += f"{found.factor:9.2f}{angles[name][-1]:7.1f}°{math.sqrt(found.variance):9.2f}  "
    print(f"{name:24}{row}")

# %% [markdown]
# (The two questions of the second exam are exercise 4 in action; the package's factor for a single one of them is your formula's, but for
# the $10^{-4}$ it adds to $\sigma$.)

# %%
for p in solved.tolist():
    alone = torch.tensor([[p, 1 - p]]).log(), torch.tensor([[1.0, 0.0]])
    factor = measure_recipe(recipes.grpo, *alone, bernoulli=False, group_size=8).factor
    print(f"p = {p:.2f}: package {factor:.4f}, exercise 4 {weight_of(p, 8):.4f}")
    assert abs(factor - weight_of(p, 8)) < 1e-3

# %%
order = sorted(angles, key=lambda name: angles[name])
fig, axes = plt.subplots(1, 2, figsize=(9, 4.4), sharey=True)
for ax, exam, title in zip(axes, (0, 1), ("one question, graded", "two questions, 0 or 1")):
    turned = np.array([angles[name][exam] for name in order])
    ax.hlines(range(len(order)), 0, turned, color="#bbbbbb", linestyle="-", linewidth=1.5)
    straight = turned < 0.01
    ax.plot(turned[straight], np.flatnonzero(straight), "o", color=plots.COLORS[0], label="right direction")
    ax.plot(turned[~straight], np.flatnonzero(~straight), "D", color=plots.COLORS[3], label="turned")
    ax.set(title=title, xlabel="angle to the exact gradient (degrees)", xlim=(-2, 45), yticks=range(len(order)), yticklabels=order)
axes[0].legend(loc="lower right")
plots.show(
    fig,
    alt="Angle between each method's mean update and the exact gradient. On one graded question: "
    + "; ".join(f"{name} {angles[name][0]:.0f}" for name in order) + " degrees. On two questions: "
    + "; ".join(f"{name} {angles[name][1]:.0f}" for name in order) + " degrees.",
    caption="Drawn from the registry. Circles: the mean update points along the exact gradient. "
    "Diamonds: it does not, however many samples you take.",
)  # fmt: skip

# %% [markdown]
# Read it slowly; it is a map of this part of the course.
#
# - *REINFORCE, its baseline form, RLOO, PPO and Dr. GRPO* point the right way on both exams. (PPO is measured with a critic that knows
#   nothing yet and says 0: then it is REINFORCE. With a trained critic it is as good as the critic.)
# - *GRPO, GSPO, CISPO and SAPO* are one and the same here. They differ in what they do with samples from an old policy, and these
#   are fresh (chapter 12).
# - *DAPO* throws dead groups away and draws new ones. That lowers the noise a great deal, and turns the arrow between questions by 26°: a
#   question that is nearly always failed is asked again until it yields a mixed group, and then counts in full. (The noise is that of a
#   batch which is full at last. The samples thrown away on the way, here two groups of three for the hard question, are not in it.)
# - *REINFORCE++ and Lite PPO* divide by the spread of the whole batch instead of the group's. With one question the batch is the group, so they
#   turn like GRPO; with two, the questions share one scale, and almost nothing is left to turn.
# - *GTPO* divides by the standard deviation too, but never by less than 0.3. That floor keeps small differences small: 2° instead of 40°. It
#   was put there for exactly this reason; chapter 16 tells the story.
#
# ## What the papers had that we left out
#
# - *The KL penalty* that ties the policy to where it started; in many recipes since 2025 it is zero. `regulariser=kl(...)` in the package.
# - *Length.* Every answer here is a single token, so how token losses are averaged cannot matter. It does for answers of different
#   length, and it is the other half of what Dr. GRPO changed: chapters 11 and 12.
# - *The critic.* PPO learns a baseline for every state; chapter 16 shows when that pays.
# - *Adam.* An optimiser that rescales each parameter undoes some factors and distorts some angles. The angle here is that of the raw gradient.
#
# ## Where this returns
#
# Dead groups are the heroes of chapter 11, and chapter 13 spends samples where they are not. The ratio and what to do with it is chapter 12.
# Small rewards blown up by a small standard deviation decide who wins in chapter 16. And if importance ratios felt familiar:
# chapter 03 used them to judge a policy by somebody else's choices.
#
# ## Further reading
#
# - R. J. Williams, *Simple statistical gradient-following algorithms for connectionist reinforcement learning*, Machine Learning 8, 1992.
# - J. Schulman et al., *Proximal policy optimization algorithms*, [arXiv 1707.06347](https://arxiv.org/abs/1707.06347).
# - A. Ahmadian et al., *Back to basics: revisiting REINFORCE-style optimization for learning from human feedback in LLMs* (RLOO),
#   [arXiv 2402.14740](https://arxiv.org/abs/2402.14740).
# - Z. Shao et al., *DeepSeekMath: pushing the limits of mathematical reasoning in open language models* (GRPO, section 4),
#   [arXiv 2402.03300](https://arxiv.org/abs/2402.03300).
# - Z. Liu et al., *Understanding R1-Zero-like training: a critical perspective* (Dr. GRPO), [arXiv 2503.20783](https://arxiv.org/abs/2503.20783).
# - Q. Yu et al., *DAPO: an open-source LLM reinforcement learning system at scale*, [arXiv 2503.14476](https://arxiv.org/abs/2503.14476).
