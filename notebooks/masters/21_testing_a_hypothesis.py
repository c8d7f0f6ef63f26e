# %% [markdown]
# # 21 · Testing a hypothesis
#
# **The question.** How would you know?
#
# **You will be able to**
# - say what a run is worth as evidence, and why three of them are worth so little;
# - build the permutation test, and know its one assumption;
# - choose the number of seeds before the study, from its spread and the smallest difference that matters;
# - write down a claim before looking, run it, and read the verdict;
# - name four ways of fooling yourself, and what each of them costs, measured.
#
# **Time.** 75 minutes of yours, half a minute of the computer's.
#
# **You need.** Means, standard deviations and what a 95 % interval is. Chapter 11 tells what GRPO does; here it is only something
# to compare.

# %%
import hashlib
import json
from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from ipywidgets import Dropdown, IntSlider

import workbench as wb
from workbench import plots, stats
from workbench.course import check
from workbench.study import text

plots.style()
data = Path(wb.__file__).parents[1] / "data"

# %% [markdown]
# ## Sixteen papers
#
# Somebody trained the same small model with four recipes, `grpo`, `dr_grpo`, `dapo` and `reinforce`: twelve updates on two-digit
# addition, then 256 test problems. And they did it 48 times each, with 48 seeds. (`data/four_recipes.py` is the script; a run
# takes about a second.) Hardly anybody has 48 seeds. Three is a common number, and so we cut the study into sixteen studies
# of three seeds, and let each of them be a paper about one question: *is DAPO better than GRPO?*

# %%
recorded = json.loads((data / "four_recipes.json").read_text())
scores = {arm: np.array(values) for arm, values in recorded["scores"].items()}
difference = scores["dapo"] - scores["grpo"]  # [48], run by run: the same seed on both sides
papers = 100 * difference.reshape(16, 3)  # points

fig, ax = plt.subplots(figsize=(7.5, 3.4))
for i, paper in enumerate(sorted(papers.tolist(), key=np.mean)):
    color = plots.COLORS[2] if np.mean(paper) > 0 else plots.COLORS[3]
    ax.plot([i] * 3, paper, "o", color=color, alpha=0.35, markersize=4)
    ax.plot(i, np.mean(paper), "D" if np.mean(paper) > 0 else "v", color=color, markersize=9)
ax.axhline(0, color="black", linewidth=1, linestyle="-")
ax.set(xlabel="paper, sorted by what it found", ylabel="DAPO − GRPO (points)", xticks=[])
ax.set_title("One question, sixteen answers")
ahead, best, worst = (papers.mean(1) > 0).sum(), papers.mean(1).max(), papers.mean(1).min()
plots.show(
    fig,
    alt=f"Sixteen means of three differences each, from {worst:.1f} to {best:.1f} points; {ahead} are above zero.",
    caption="Large marks: the difference a paper reports, the mean of three seeds (small dots). Diamonds found DAPO ahead, "
    "triangles did not.",
)
print(f"{ahead} papers of 16 find DAPO ahead; one of them by {best:.1f} points, and another finds it {-worst:.1f} behind")

# %% [markdown]
# No paper cheated. Each ran what it says it ran, and reported what it saw. They differ in one thing: in which three numbers they gave to
# a random generator. This chapter is about what one may say after seeing three such numbers, or eight, or 48.
#
# ## 1 What is one piece of evidence?
#
# A run's score depends on its seed through the prompts that were drawn, the answers that were sampled, and the answers given in the
# test. Run it again with another seed and you get another score. So *one run is one observation*, however many thousand
# answers went into it: those answers were all given by the same trained model, and share its luck.
#
# What helps is that both recipes ran on **the same seeds**: same prompts in the same order, same random numbers in the test.
# A seed that is kind to one tends to be kind to the other, and in the difference that part of the luck cancels.

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3.6))
for ax, order, title in zip(axes, (np.arange(48), np.roll(np.arange(48), 1)), ("same seed", "different seeds")):
    x, y = 100 * scores["grpo"], 100 * scores["reinforce"][order]
    ax.plot(x, y, "o", alpha=0.6)
    ax.plot([64, 80], [64, 80], color="black", linewidth=1, linestyle="-")
    spread = (y - x).std(ddof=1)
    ax.set(xlabel="GRPO, success (%)", xlim=(64, 80), ylim=(68, 83))
    ax.set_title(f"{title}: spread {spread:.1f} points")
axes[0].set_ylabel("REINFORCE, success (%)")
correlation = np.corrcoef(scores["grpo"], scores["reinforce"])[0, 1]
plots.show(
    fig,
    alt="Scores of 48 runs of REINFORCE against GRPO. With the same seeds the dots follow a line above the diagonal, "
    f"with correlation {correlation:.2f}; with different seeds they are a shapeless cloud.",
    caption="Each dot is a pair of runs; on the black line both would be equal. The spread is the standard deviation of the "
    "difference within a pair.",
)

# %% [markdown]
# The runs are the same ones on both sides; only who is compared with whom has changed. Pairing by seed is free, and section 4 counts the seeds
# that it saves. It works where both arms *use* their random numbers for the same purposes, which is why the package
# gives prompts, sampling and tests a stream each.
#
# ## 2 A test that you can build
#
# Suppose the two recipes did exactly the same thing. Then for each seed it would be pure chance which of the two scores is called "DAPO"
# and which "GRPO"; we might as well have tossed a coin for it. Swapping the names of one seed turns the sign of its difference. So if
# there is nothing to find, all $2^n$ ways to choose the signs of $n$ differences were *equally likely*, and we can list what each of
# them would have shown. The share of them that show a mean at least as far from zero as ours is the **p-value**.
#
# Notice what was assumed: that the two scores of a seed might as well have been swapped. No bell curve, no large numbers, no equal
# variances.
#
# ## Exercise 1: sign by sign · ●●○○○ · 10 min
#
# `product([1, -1], repeat=n)` lists the signs. Count the arrangement that was really seen, too: it is one of them.

# %%
def sign_flip(difference):
    """Differences [n] of paired runs -> two-sided p-value that their mean is not zero."""
    # solution
    signs = np.array(list(product([1, -1], repeat=len(difference))))  # [2^n, n]
    means = signs @ difference / len(difference)
    return np.mean(np.abs(means) >= abs(difference.mean()) - 1e-12)
    # end solution
    # stub: return None  # your code here (about three lines)


# %%
flip = check("21.sign_flip", sign_flip).function

# %% [markdown]
# The `1e-12` in the solution lets means that are equal up to rounding count as equal. Compare with the package, and then look at
# the best result that three seeds can possibly give: all three on the same side.

# %%
for n in (6, 10, 12):
    ours, theirs = flip(difference[:n]), stats.permutation_test(scores["dapo"][:n], scores["grpo"][:n], seed=0, paired=True)
    print(f"first {n:2} seeds: p = {ours:.4f}, the package's {theirs:.4f}")
    assert np.isclose(ours, theirs)
print()
for n in range(2, 9):
    print(f"{n} seeds, all on one side: p = {flip(np.arange(1.0, n + 1)):.4f}")

# %% [markdown]
# **With five paired seeds or fewer, no result whatever is significant at 5 %.** Three seeds on one side happen by chance once in
# four times. That is no weakness of this test; it is what three coin tosses are worth. A t-test gives smaller numbers there, by adding an
# assumption (normal differences) that three runs cannot check.
#
# Turned round, the test also gives an interval: all shifts that it would not reject, had they been subtracted from the differences first.
# `stats.verdict` does both and says the result in words.

# %%
for n in (3, 8, 16, 48):
    print(f"{n:2} seeds   ", stats.verdict(scores["dapo"][:n], scores["grpo"][:n], names=("dapo", "grpo")))

# %% [markdown]
# ## 3 Why three seeds lie
#
# Now play. A study of $n$ seeds is drawn from the 48 recorded ones, 200 times, and each is read in two ways: by looking at
# which mean is larger, and by the test. Move the slider. For which pair do three seeds tell the truth? How many does each pair need before
# its verdict stops changing?

# %%
def resampled(a, b, seeds, studies=200):
    """Differences [studies, seeds] of studies drawn from the recorded pairs of runs, with replacement."""
    picks = wb.seeding.generator(0, "resampled", seeds).integers(0, 48, (studies, seeds))
    return (scores[a] - scores[b])[picks]


# %%
def panel(pair, seeds):
    a, b = pair.split(" − ")
    drawn = resampled(a, b, seeds)
    calls = [stats.verdict(row, np.zeros(seeds)).call for row in drawn]
    ahead = 100 * (drawn.mean(1) > 0).mean()
    shares = [100 * calls.count(call) / len(calls) for call in "<?>"]
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), width_ratios=(2, 1))
    left.hist(100 * drawn.mean(1), bins=np.arange(-4, 8.1, 0.25), color=plots.COLORS[0])
    left.axvline(0, color="black", linewidth=1, linestyle="-")
    left.set(xlabel=f"{pair}, mean of {seeds} seeds (points)", ylabel="studies", title=f"{ahead:.0f} % find {a} ahead")
    names = [f"{b} better", "undecided", f"{a} better"]
    bars = right.barh(names, shares, color=[plots.COLORS[i] for i in (3, 5, 2)])
    right.bar_label(bars, [f"{share:.0f} %" for share in shares], padding=3)
    right.set(xlim=(0, 125), xticks=(0, 50, 100), xlabel="studies (%)", title="What the test says")
    plots.show(fig, alt=f"Of 200 studies with {seeds} seeds, {ahead:.0f} % find {a} ahead of {b}; the test calls {shares[2]:.0f} % "
               f"for {a}, {shares[0]:.0f} % for {b}, and leaves {shares[1]:.0f} % undecided.",
               caption="Left: what studies of this size report. Right: what they may claim.")  # fmt: skip


PAIRS = ["dapo − grpo", "dr_grpo − grpo", "reinforce − grpo"]
plots.play(panel, pair=Dropdown(options=PAIRS), seeds=IntSlider(3, 2, 40))

# %% [markdown]
# REINFORCE is ahead of GRPO in (nearly) every study, even of three seeds: a large difference needs few seeds, *but three seeds cannot tell you that
# it is a large one*. DAPO against GRPO flips. Dr. GRPO against GRPO keeps flipping however far you push the slider, because there is
# (nearly) nothing to find.
#
# ## 4 How many seeds?
#
# Two numbers decide, and neither is the p-value. The **spread** $s$ of a single observation (here: the standard deviation of the
# paired difference), known from a pilot; and the **smallest difference that matters**, $\delta$, which no computation can give you.
# The mean of $n$ differences has standard error $s/\sqrt n$. To be called at 5 %, it must come out $1.96$ standard errors from zero;
# to have that happen in 80 % of studies, the truth must lie another $0.84$ standard errors beyond:
#
# $$\delta = (1.96 + 0.84)\,\frac{s}{\sqrt n}.$$
#
# ## Exercise 2: seeds before the study · ●●○○○ · 10 min
#
# Solve for $n$, and round up.

# %%
def seeds_needed(delta, spread):
    """Smallest difference that matters, spread of a paired difference -> number of seeds, a whole number."""
    # solution
    return int(np.ceil(((1.96 + 0.84) * spread / delta) ** 2))
    # end solution
    # stub: return None  # your code here (one line)


# %%
needed = check("21.seeds_needed", seeds_needed).function

# %% [markdown]
# The formula pretends that the spread is known exactly. `stats.seeds_for` uses the t distribution, which does not, and asks for one or two
# seeds more. Take the first eight seeds of the recorded study as our pilot, and say that 2.5 points would matter to us.

# %%
matters = 2.5  # points
pilot = 100 * (scores["reinforce"] - scores["grpo"])[:8]
spread, apart = pilot.std(ddof=1), np.sqrt(sum((100 * scores[a][:8]).var(ddof=1) for a in ("reinforce", "grpo")) / 2)
print(f"spread of the paired difference: {spread:.2f} points; of one arm's runs: {apart:.2f} points")
asked = stats.seeds_for(matters / spread, paired=True)
print(f"seeds for {matters} points, paired:   formula {needed(matters, spread)}, exact {asked}")
print(f"seeds for {matters} points, unpaired: {stats.seeds_for(matters / apart)} for each arm")

delta = np.linspace(0.5, 5, 91)
fig, ax = plt.subplots(figsize=(7, 3.4))
for n in (3, 8, 16, 48):
    ax.plot(delta, [100 * stats.power(d / spread, n, paired=True) for d in delta], label=f"{n} seeds")
ax.axhline(80, color="black", linewidth=1, linestyle=":")
ax.set(xlabel="true difference (points)", ylabel="studies that find it (%)", ylim=(0, 102), title="What a study can see")
ax.legend(loc="lower right")
visible = {n: delta[np.argmax([stats.power(d / spread, n, paired=True) >= 0.8 for d in delta])] for n in (8, 16, 48)}
plots.show(fig, alt="Power of a paired t-test against the true difference: 80 % is reached at "
           + ", ".join(f"{d:.2f} points with {n} seeds" for n, d in visible.items()) + ", and with 3 seeds not below 5 points.",
           caption="Power for the pilot's spread. Left of where its curve crosses the dotted line, a study will probably "
           "see nothing, whether there is something or not.")  # fmt: skip

# %% [markdown]
# Read the curve of three seeds, and then recall tables in which methods are a point or two apart, three seeds each. With this spread,
# seeing one point takes 48. And when a study that is too small *does* find a difference, the difference it reports is too
# large: only lucky draws get past the threshold.
#
# ## 5 Write it down, then run
#
# The pilot suggested a claim: REINFORCE, the oldest of the four, beats GRPO here. We may not test it on the runs that suggested it. So we
# write down what we will do, all of it, before we do it, and take *fresh seeds*. That is called **pre-registration**. A hash of
# the plan, sent to a friend, is enough to show later that it was not bent afterwards.

# %%
plan = {
    "claim": "reinforce beats grpo", "arms": ["reinforce", "grpo"], "task": "addition, from data/careless_pupil",
    "score": "share of 256 test problems right at temperature 1, after the last update", "budget": "12 updates",
    "matters": f"{matters} points", "seeds": [1000, 1000 + asked],
    "test": "paired permutation test at 5 %, one comparison, no looks before the end",
    "failed runs": "count as the worst score for whichever side they would help",
}  # fmt: skip
written = json.dumps(plan, sort_keys=True, indent=1)
print(written, "\n\nsha256", hashlib.sha256(written.encode()).hexdigest()[:16])

# %% [markdown]
# And now one line. `compare` runs every arm on every seed, in as many processes as there are cores, and keeps what is finished, so that
# nothing is ever run twice (here we keep nothing: `store=None`).

# %%
task = text("addition", start=data / "careless_pupil", evaluate_every=12, problems=256)
study = wb.compare(plan["arms"], task, range(*plan["seeds"]), budget=plan["budget"], store=None)
study.summary(margin=matters / 100)

# %%
study.plot("final", caption="Every run as a dot; the bar is the interquartile mean, the mean of the middle half of the runs, with a "
           "95 % bootstrap interval.")  # fmt: skip

# %% [markdown]
# Read it from the bottom up. *What was it run on?* The last line says. *Is anything missing?* *What may be claimed?* The verdict, and nothing
# else: a difference of means with its interval, from the test that you built. The bars are for the eye; with few runs a bootstrap interval
# is too short (of intervals for the interquartile mean of *three* normal scores, 72 % hold the true value, not 95 %).
#
# **A surprise, and how to be careful with it.** Three methods that were each published as an improvement, and the oldest one beats them.
# What may we claim? That it does so *on this task, from this starting model, after twelve updates, at the learning rate that all of
# them shared*. Whether it lasts, or whether another learning rate turns it round, is not in the data. It is a good next hypothesis.
#
# ## 6 Four ways to fool yourself
#
# We can measure what each costs, because we can make studies in which the truth is known: let *both* arms be GRPO, two sets of runs drawn
# from the 48 recorded ones. Whatever such a study finds is false.
#
# **Best of several.** You try five settings of your new method with three seeds each, and report the best one next to the baseline. Here
# the five settings are all GRPO.

# %%
rng = wb.seeding.generator(0, "best of five")
runs = 100 * rng.choice(scores["grpo"], (20_000, 6, 3)).mean(2)  # [studies, baseline and five settings]
best = runs[:, 1:].argmax(1)
gain = runs[:, 1:].max(1) - runs[:, 0]
again = 100 * rng.choice(scores["grpo"], (20_000, 2, 3)).mean(2)  # the chosen setting and the baseline, on fresh seeds
fresh = again[:, 0] - again[:, 1]
print(f"best of five settings: ahead of the baseline in {(gain > 0).mean():.0%} of studies, by {gain.mean():.1f} points on average")
print(f"the same setting on fresh seeds: ahead in {(fresh > 0).mean():.0%}, by {fresh.mean():.1f} points on average")

# %% [markdown]
# Choosing is not the sin; reporting on the seeds that chose is. **Choose on some seeds, report on others.** The same goes for the best
# seed, the best checkpoint, and the best of several metrics.
#
# **Many comparisons.** Four arms make six pairs. If each pair may err at 5 %, some pair will err far more often than that. Holm's
# procedure keeps the rate of *any* false call at 5 %, whatever the truth is: sort the p-values; call the smallest if it is at most
# $\alpha/m$, the next if it is at most $\alpha/(m-1)$, and so on; stop at the first that fails.
#
# ## Exercise 3: Holm · ●●●○○ · 15 min

# %%
def holm_calls(p, alpha=0.05):
    """p-values [m] -> whether each is called, an array of bool [m] in the same order."""
    # solution
    calls = np.zeros(len(p), bool)
    for step, i in enumerate(np.argsort(p)):
        if p[i] > alpha / (len(p) - step):
            break
        calls[i] = True
    return calls
    # end solution
    # stub: return None  # your code here (about five lines)


# %%
holm = check("21.holm_calls", holm_calls).function

# %% [markdown]
# Six arms that are all GRPO, ten seeds, fifteen pairs: how often is anything called?

# %%
rng = wb.seeding.generator(0, "six arms")
signs = np.array(list(product([1, -1], repeat=10)))
raw, corrected, studies = 0, 0, 300
first, second = np.triu_indices(6, 1)
for _ in range(studies):
    arms = rng.choice(scores["grpo"], (6, 10))
    means = signs @ (arms[first] - arms[second]).T  # [1024, 15]; row 0 is what was seen
    p = (np.abs(means) >= np.abs(means[0]) - 1e-12).mean(0)
    raw, corrected = raw + (p <= 0.05).any(), corrected + holm(p).any()
for name, count in (("each pair at 5 %", raw), ("Holm", corrected)):
    share = stats.wilson_interval(count / studies, studies)
    print(f"{name:17} a false difference in {share.estimate:.0%} of studies [{share.low:.1%}, {share.high:.1%}]")

# %% [markdown]
# Back to the real study. Alone, with all 48 seeds, DAPO against GRPO is called. As one of six pairs it is not:

# %%
print("as the one planned comparison:", stats.verdict(scores["dapo"], scores["grpo"], names=("dapo", "grpo")), "\n")
print("as one of six:")
print(stats.compare_arms(scores))

# %% [markdown]
# Which is right? Both are: they answer different questions. If the one comparison was written down beforehand, it stands alone.
# If we looked at six and picked it *because* it came out, it does not. The numbers cannot tell; only the plan can.
#
# **Stopping when it looks good.** Run a seed, test, run another, test again, and stop at $p \le 0.05$. Every look is a new chance to
# be wrong. We simulate it with a t-test at each look, on two arms that are the same.

# %%
rng = wb.seeding.generator(0, "peeking")
null = rng.choice(scores["grpo"], (2000, 40)) - rng.choice(scores["grpo"], (2000, 40))
looks = np.arange(5, 41)
fooled = np.zeros(2000, bool)
peeking = []
for n in looks:
    _, low, high = stats.t_interval(null[:, :n])
    fooled |= (low > 0) | (high < 0)
    peeking.append(fooled.mean())
stop = stats.Sequential((12, 18, 24))
stopped = sum(stats.verdict(row[:24], np.zeros(24), sequential=stop).decided for row in null[:300])
honest = stats.wilson_interval(stopped / 300, 300)

fig, ax = plt.subplots(figsize=(7, 3.4))
ax.plot(looks, 100 * np.array(peeking), label="a look after every seed")
ax.errorbar([24], [100 * honest.estimate], 100 * np.array([[honest.estimate - honest.low], [honest.high - honest.estimate]]),
            fmt="s", color=plots.COLORS[1], capsize=4, label="three looks that share 5 %")  # fmt: skip
ax.axhline(5, color="black", linewidth=1, linestyle=":")
ax.set(xlabel="seeds at most", ylabel="false differences (%)", ylim=(0, None), title="The price of looking")
ax.legend(loc="upper left")
plots.show(fig, alt=f"With a look after every seed the rate of false differences climbs from {100 * peeking[0]:.0f} % at 5 seeds to "
           f"{100 * peeking[-1]:.0f} % at 40; with three planned looks it is {100 * honest.estimate:.0f} %.",
           caption="Two identical arms. Dotted: the 5 % that was promised. The square has a 95 % interval, from 300 studies.")  # fmt: skip

# %% [markdown]
# Looking is allowed if it is planned. `stats.Sequential((12, 18, 24))` looks three times and gives each look a part of the 5 %, little of
# it early (Lan and DeMets, 1983). `wb.compare(..., seeds=24, stop=stop)` then ends at the first look that decides. On the recorded
# runs:

# %%
print("error rate of each look:", np.round(stop.levels(0.05), 4))
for arm in ("reinforce", "dapo"):
    print(stats.verdict(scores[arm][:24], scores["grpo"][:24], names=(arm, "grpo"), sequential=stop))

# %% [markdown]
# The large difference is decided at the first look, and half of the seeds are saved. The small one is not decided at the last.
#
# **Failures that vanish.** Two runs of your new method crashed, so you average the other six. But why did they crash? If runs that go badly
# crash more, the average flatters. The safe reading counts a missing run as the worst that could have happened, *for every claim*: the
# interval grows until it would hold whatever the run had scored.

# %%
crashed = scores["reinforce"][:8].copy()
crashed[[2, 5]] = np.nan
for name, x in (("complete    ", scores["reinforce"][:8]), ("two crashed ", crashed)):
    print(name, stats.verdict(x, scores["grpo"][:8], names=("reinforce", "grpo"), bounds=(0, 1)))

# %% [markdown]
# A claim survives a few failures only if it would be true even at their worst. Otherwise find out why the runs failed; that is cheaper
# than arguing.
#
# ## 7 When nothing is something
#
# "We found no significant difference" is what every study of three seeds finds. It says nothing about the methods. To claim that two methods
# are *as good as* each other, turn the burden round: name the largest difference that would not matter, and show that the interval lies
# within it. Three outcomes, then, and a fourth for when we do not know.
#
# ## Exercise 4: four verdicts · ●●○○○ · 10 min
#
# From the interval of a difference $a - b$ and the margin, say ">" if a is better, "<" if b is, "=" if they are the same within
# the margin, and "?" otherwise. (If an interval is on one side of zero *and* within the margin, say who is better.)

# %%
def call(low, high, margin):
    """Ends of the interval of a - b, smallest difference that matters -> ">", "<", "=" or "?"."""
    # solution
    if low > 0:
        return ">"
    if high < 0:
        return "<"
    return "=" if -margin < low and high < margin else "?"
    # end solution
    # stub: return None  # your code here (about five lines)


# %%
said = check("21.call", call).function

# %%
margin = 1.0  # point
fig, ax = plt.subplots(figsize=(7.5, 3.2))
ax.axvspan(-margin, margin, color="#eeeeee", label="too small to matter")
ax.axvline(0, color="black", linewidth=1, linestyle="-")
rows = [(arm, n) for arm in ("reinforce", "dapo", "dr_grpo") for n in (8, 48)]
told = {}
for place, (arm, n) in enumerate(rows):
    middle, low, high = (100 * np.array(stats.verdict(scores[arm][:n], scores["grpo"][:n]).difference)).tolist()
    told[arm, n] = said(low, high, margin)
    ax.plot([low, high], [place, place], "-", color=plots.COLORS[place // 2], linewidth=3)
    ax.plot(middle, place, plots.MARKERS[place // 2], color=plots.COLORS[place // 2], markersize=8)
ax.set_yticks(range(len(rows)), [f"{arm} − grpo, {n} seeds   {told[arm, n]}" for arm, n in rows])
ax.set(xlabel="difference (points)", title="Six intervals, three verdicts", ylim=(5.5, -0.5))
ax.grid(axis="y", visible=False)
ax.legend(loc="lower right")
plots.show(fig, alt="Intervals of three differences to GRPO with 8 and 48 seeds, and a margin of one point either way: "
           + "; ".join(f"{arm} with {n} seeds: {told[arm, n]}" for arm, n in rows) + ".",
           caption="95 % intervals, each as if it were the only one. Dr. GRPO with 8 seeds: not known. With 48: the same, within a "
           "point.")  # fmt: skip
print(stats.verdict(scores["dr_grpo"], scores["grpo"], names=("dr_grpo", "grpo"), margin=0.01))

# %% [markdown]
# *Dr. GRPO and GRPO are the same within a point, here.* That is a finding, and a useful one: it took 48 seeds, and it is worth more than
# sixteen papers of three. DAPO with 48 seeds is a finding of another kind: better, if this was the one planned comparison, and hardly by more than a point.
#
# ## Your own study
#
# Everything a study needs fits in a cell. An arm may be a recipe's name, a recipe of yours, or any function that takes a seed and a budget
# and yields rows of numbers:
#
# ```python
# mine = wb.recipes.get("grpo").but("mine", surrogate=wb.clip(high=0.4))  # your idea: what it changes, and nothing else
# study = wb.compare(["grpo", mine], "calculator", seeds=24, budget="100 updates", stop=wb.stats.Sequential((12, 18, 24)))
# study.summary(margin=0.02)  # who is better, or how many seeds are still needed
# study.plot(x="tokens")
# ```
#
# Before you press run: which score? What difference would matter to you? How many seeds does the pilot ask for? What would make
# you say that your idea is wrong?
#
# ## What the papers had that we left out
#
# - **Other summaries.** Agarwal and others (2021) recommend the interquartile mean over many tasks at once, performance profiles and the
#   probability of improvement; `stats` has them all (`stratified_bootstrap`, `performance_profile`, `improvement_interval`), and
#   `study.plot("profile")` draws one. With one task and few seeds they add little.
# - **Bayesian answers.** An interval of this chapter says how often such intervals are right, not how probable the hypothesis is. For that
#   one needs a prior, and then one may look as often as one likes at what it says, though not at how often it errs.
# - **Uncertain pilots.** The spread of eight runs is itself known only to about a quarter either way. A careful planner takes its upper end.
# - **Tests that may be looked at any time.** There are confidence sequences that hold at every seed at once. They are wider than three
#   planned looks at the looks' own places.
# - **Tuning.** Comparing two methods at one learning rate compares two points, not two methods. A fair budget for tuning each
#   is harder than all of the above, and matters more.
#
# ## Where it returns
#
# It does not; it was here all along. Every claim about learning in this course was made over at least eight seeds, with an interval, and says
# what it was run on. Now you can check them: the scripts are in `data`.
#
# ## Further reading
#
# - Agarwal, Schwarzer, Castro, Courville, Bellemare, *Deep reinforcement learning at the edge of the statistical precipice*, 2021
#   (arXiv 2108.13264): what a few runs on many tasks can and cannot say; the library rliable.
# - Colas, Sigaud, Oudeyer, *How many random seeds?*, 2018: power for learning curves, and where bootstrap intervals fall short.
# - Efron, Tibshirani, *An introduction to the bootstrap*, 1993: chapter 15 has the permutation test.
# - Holm, *A simple sequentially rejective multiple test procedure*, Scandinavian Journal of Statistics 6, 1979: six pages.
