# %% [markdown]
# # 06 · When copying the expert fails
#
# **The question.** Why does a perfect copy of an expert drive worse?
#
# **You will be able to**
# - say, from a drawing alone, whether copying an expert can go wrong, and along which path it does;
# - decide by hand whether a path lets information through (d-separation), and test a set of variables with the pi-backdoor criterion;
# - compute exactly what a copy earns, and see why the expert's log cannot warn you;
# - refuse where no method can succeed, and prove that refusing is right.
#
# **Time.** 60 minutes of yours, about ten seconds of the computer's.
#
# **You need.** Conditional probabilities and a little NumPy. Chapter 04 helps: there a hidden cause spoiled a bandit. Here it spoils a teacher.

# %%
import matplotlib.pyplot as plt
import networkx
import numpy as np
from ipywidgets import FloatSlider

from workbench import plots
from workbench.causal import graph as g
from workbench.causal import imitation, worlds
from workbench.causal.scm import Chance
from workbench.causal.tables import random_tables
from workbench.course import check

plots.style()

# %% [markdown]
# ## The car ahead
#
# You want to teach a car to drive by showing it how an experienced driver does it. The driver looks at the gap to the car ahead (**Z**:
# short or long) and at that car's tail light (**L**: on or off), and decides whether to brake (**X**). Your camera sees the gap; it
# does not see the tail light. It does see something else: a car behind that sometimes flashes its lights (**W**). Whether the manoeuvre
# ends well (**Y**) depends on the gap, on the braking, and on how wet the road is, which nobody measures.
#
# Two copies of the driver are made. Both are *perfect*: they reproduce the driver's choices with exactly the right frequencies, as
# if from infinitely many demonstrations. One looks at the gap alone. The other looks at all that the camera offers.

# %%
world = worlds.tail_light()
NAMES = ("Z", "W", "X", "Y")
seen = world.model.joint(*NAMES)  # the probability of everything that can be observed [Z,W,X,Y]


def copy_of(looks_at):
    """The expert's own frequencies, given what the copy looks at, and what that earns."""
    policy = imitation.copied(seen, NAMES, "X", looks_at)
    return world.value({"X": policy})


earned = {"the expert": world.expert_value, "copy that sees Z": copy_of(["Z"]), "copy that sees Z and W": copy_of(["Z", "W"])}
print({who: round(value, 6) for who, value in earned.items()})

# %%
ROAD = {"directed": [("Z", "X"), ("Z", "Y"), ("X", "Y"), ("L", "X"), ("L", "W")], "bidirected": [("W", "Y")]}
DRAWN = {"order": NAMES, "hidden": ["L"], "actions": ["X"], "outcome": "Y",
         "at": {"Z": (0, 0), "L": (0.6, 1.1), "W": (2.6, 1.1), "X": (1.3, 0), "Y": (2.6, 0)}}  # fmt: skip

fig, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.4), width_ratios=[1.25, 1])
plots.causal_diagram(**ROAD, **DRAWN, ax=left)
bars = right.barh(list(earned), list(earned.values()), color=[plots.COLORS[2], plots.COLORS[0], plots.COLORS[3]])
right.bar_label(bars, fmt="%.4f", padding=3)
right.set(xlim=(0, 0.62), xlabel="chance that it ends well")
right.invert_yaxis()
right.set_title("A copy that sees more does worse")
plots.show(
    fig,
    alt=plots.describe_diagram(**ROAD, hidden=["L"])
    + " Beside it three bars: the expert succeeds with chance 0.4712, the copy that sees Z likewise, the copy that sees Z "
    "and W with 0.2909.",
    caption="Square: the decision. Double circle: the outcome. Dashed circle: not seen by the camera. Dashed arrow with two "
    "heads: a hidden cause of both ends (here the wet road). The only difference between the copies is that one looks at W.",
)

# %% [markdown]
# Nothing is wrong with the statistics; there are none. Nothing is wrong with the second copy's accuracy either: seeing W, it predicts
# the driver's action *better* than the first one. And yet it does much worse. This chapter is about how to know that beforehand.
#
# ## Drag it yourself
#
# The verdict below needs only the drawing, no numbers. Three things to try:
#
# 1. Take away the hidden cause of W and Y (click the dashed arrow). May W be looked at now?
# 2. Put it back, and draw an arrow from L to Y: say, the car ahead brakes.
# 3. Start again, choose "hidden cause of two" and connect X and Y.
#
# Under the verdict: what copies earn in twenty random worlds that have exactly this drawing, computed without sampling.

# %%
def gap(directed, bidirected, looks_at):
    """The largest difference between copy and expert in 20 random worlds with this drawing."""
    drawing = g.Diagram(directed, bidirected, NAMES, {"L"})
    models = [random_tables(drawing, seed=seed) for seed in range(20)]
    return max(abs(model.clone({"X": looks_at}).mean("Y") - model.mean("Y")) for model in models)


def what_follows(directed, bidirected):
    verdict = g.pi_backdoor(g.Diagram(directed, bidirected, NAMES, {"L"}), "X", "Y")
    both = f"Copying from Z and W misses the expert's chance by up to {gap(directed, bidirected, ['Z', 'W']):.3f}"
    if not verdict.imitable:
        path = list(zip(verdict.path.nodes, verdict.path.nodes[1:]))
        return plots.DiagramAnswer(False, "Not imitable.", f"{verdict.reason}. {both}.", path)
    use = sorted(verdict.sets["X"])
    best = f"copying from {' and '.join(use) or 'nothing'} by {gap(directed, bidirected, use):.3f}"
    return plots.DiagramAnswer(True, f"Imitable: {verdict.reason}.", f"{both}, {best}.", (), use)


editor = plots.DiagramEditor(**ROAD, **DRAWN, answer=what_follows)
editor.show()

# %% [markdown]
# Somebody must have a rule for this. It has two parts: which *paths* let information through, and which paths matter.
#
# ## 1 Which paths are open
#
# Information travels along arrows, in both directions: a wet road tells you something about accidents, and accidents something about
# the road. Consider three variables in a row.
#
# | | the middle is | nothing looked at | the middle looked at |
# |---|---|---|---|
# | A → M → B | a chain | open | **closed**: all that A says about B, M has said |
# | A ← M → B | a fork | open | **closed**: the common cause explains both |
# | A → M ← B | a collider | **closed** | open |
#
# The last line is the strange one. Two coins are thrown and a bell rings if either shows heads. The coins know nothing of each other. But
# if you hear the bell and see the first coin show tails, you know the second: looking at a common *effect* makes its causes
# dependent. Looking at an effect of the effect (somebody says that she heard a bell) does the same, more weakly. And an arrow with
# two heads stands for a hidden cause, so it ends in a head on both sides.
#
# A longer path is open if every variable between its ends lets information through. Two variables are **d-separated** by a set if
# no path between them is open when that set is looked at (Pearl, 1988); then they are independent given the set, in every world with
# that drawing.
#
# ## Exercise 1: is the path open? · ●●○○○ · 10 min
#
# A path comes as its nodes and the arrows between them: `("X", "L", "W", "Y")` and `("<-", "->", "<->")`. `given` is the set that is
# looked at, and `below[node]` is the set of all effects of a node, near and far.

# %%
def path_is_open(nodes, arrows, given, below):
    """nodes: tuple [n], arrows: tuple [n - 1], given: set, below: dict of sets -> True or False."""
    # solution
    for node, left, right in zip(nodes[1:-1], arrows, arrows[1:]):
        if left.endswith(">") and right.startswith("<"):  # two heads meet: a collider
            passes = node in given or bool(below[node] & given)
        else:
            passes = node not in given
        if not passes:
            return False
    return True
    # end solution
    # stub: return None  # your code here (about six lines)


# %%
is_open = check("06.path_is_open", path_is_open).function

# %% [markdown]
# Now by hand, on the drawing of the road. There are exactly two ways from X to Y that do not begin with X's own arrow: through the gap,
# and through the light, the flash and the wet road.

# %%
drawing = g.Diagram(**ROAD, order=NAMES, hidden={"L"})
below = {name: networkx.descendants(drawing.explicit, name) for name in drawing.names}
gap_way = ("X", "Z", "Y"), ("<-", "->")
light_way = ("X", "L", "W", "Y"), ("<-", "->", "<->")
print(f"{'looked at':12}{'X <- Z -> Y':>16}{'X <- L -> W <-> Y':>22}{'all closed':>14}")
for given in ((), ("Z",), ("W",), ("Z", "W")):
    ways = [is_open(*way, set(given), below) for way in (gap_way, light_way)]
    words = ["open" if way else "closed" for way in ways]
    print(f"{', '.join(given) or 'nothing':12}{words[0]:>16}{words[1]:>22}{'no' if any(ways) else 'YES':>14}")
    assert any(ways) == (not g.admissible(drawing, {"X": given}, "Y").imitable)

# %% [markdown]
# Z alone closes everything. W is a collider: left alone it blocks the second way, looked at it opens it.
#
# ## 2 Which paths matter
#
# When the expert drives, X carries information about Y in two ways. One is what X *does*: the arrow X → Y, and whatever follows from it.
# A copy does the same things, so that part takes care of itself. The other is what X *tells*: the expert saw the light, and the light
# has to do with other things. The copy's choices do not tell these things, because the copy did not see them.
#
# So cut all arrows that leave X. Whatever connects X and Y now is telling, not doing. If a set Z of variables that are seen before X
# closes all of it, the copy $\pi(x \mid z) = P(x \mid z)$ loses nothing:
#
# $$P(y \mid do(\pi)) = \sum_{x,z} P(z)\,P(x \mid z)\,P(y \mid z, do(x)) = \sum_{x,z} P(z)\,P(x \mid z)\,P(y \mid z, x) = P(y).$$
#
# The middle step is the one that needs the set: given Z, seeing x and doing x are the same. This is the **pi-backdoor criterion** of
# Zhang, Kumor and Bareinboim (2020), and it is complete for a single action: where no such set exists, there is a world with that
# drawing in which *no* policy imitates.
#
# ## Exercise 2: may I copy from these? · ●●○○○ · 10 min
#
# `networkx` knows d-separation, but not two-headed arrows, so `separated` adds a node for each. Write the test.

# %%
def separated(arrows, pairs, x, y, given):
    """Whether `given` separates x and y in the graph of `arrows`, each of `pairs` having a hidden cause."""
    graph = networkx.DiGraph(arrows)
    graph.add_nodes_from([x, y, *given])
    for i, (a, b) in enumerate(pairs):
        graph.add_edges_from([(f"hidden {i}", a), (f"hidden {i}", b)])
    return networkx.is_d_separator(graph, x, y, set(given))


def may_copy_from(arrows, pairs, action, outcome, looks_at):
    """arrows, pairs: lists of (from, to); looks_at: a set -> True or False."""
    # solution
    tells = [(a, b) for a, b in arrows if a != action]  # without what the action does
    return separated(tells, pairs, action, outcome, looks_at)
    # end solution
    # stub: return None  # your code here (about two lines)


# %%
safe = check("06.may_copy_from", may_copy_from).function
for looks_at in ((), ("Z",), ("W",), ("Z", "W")):
    ours = safe(ROAD["directed"], ROAD["bidirected"], "X", "Y", set(looks_at))
    theirs = g.admissible(drawing, {"X": looks_at}, "Y")
    assert ours == theirs.imitable
    print(f"{looks_at!s:12} {theirs}")

# %% [markdown]
# The library says the same and gives its reason: it names the open path, and who opens it. It can also search (`g.pi_backdoor`) and
# list all smallest sets (`g.minimal_sets`). From here on we use it.
#
# ## 3 What a copy earns, exactly
#
# Back to the numbers .4712 and .2909. The whole world fits in two tables, and with them a copy's value is one sum. The tables:
# `table[z, w, u, x]` is the probability that gap, flash, road and action are such while the expert drives, and `pays[z, u, x]` is the
# chance that it ends well.
#
# ## Exercise 3: the value of a copy · ●●●○○ · 15 min
#
# The copy sees z and w, and draws x from the expert's $P(x \mid z, w)$, *whatever the road u is like*. `np.einsum` is a convenient way to
# multiply and sum tables: `np.einsum("zw,zwx->x", a, b)` multiplies over matching letters and sums out those not named at the end.

# %%
def value_of_copy(table, pays):
    """table [Z,W,U,X]: P(z,w,u,x) while the expert acts; pays [Z,U,X] -> value of the copy that sees z and w."""
    # solution
    seen_zwx = table.sum(2)
    policy = seen_zwx / seen_zwx.sum(-1, keepdims=True)
    return float(np.einsum("zwu,zwx,zux->", table.sum(3), policy, pays))
    # end solution
    # stub: return None  # your code here (about three lines)


# %%
copy_value = check("06.value_of_copy", value_of_copy).function

light, wet = np.array([0.38, 0.62]), np.array([0.38, 0.62])  # chances of L = 0, 1 and U = 0, 1
table = np.zeros((2, 2, 2, 2))
for z, lit, u in np.ndindex(2, 2, 2):
    table[z, lit & u, u, lit ^ z] += 0.5 * light[lit] * wet[u]  # W = L and U, X = L xor Z
z, u, x = np.indices((2, 2, 2))
pays = (u ^ x ^ z).astype(float)  # braking is right, or wrong, depending on gap and road
print(f"the copy that sees Z and W: {copy_value(table, pays):.6f}")
assert np.isclose(copy_value(table, pays), copy_of(["Z", "W"]))

# %% [markdown]
# Could the log have warned us? The tempting way to judge a policy from a log is to see how it went whenever the expert did x in that
# situation: $\sum P(z,w)\,\pi(x|z,w)\,E[Y \mid z,w,x]$. Put the copy's own $P(x|z,w)$ in, and look at what is left: it is $E[Y]$, the
# expert's value, always. **A copy that is judged by the log it was copied from always passes.**

# %%
outcomes = np.einsum("zwux,zux->zwx", table, pays)  # P(z,w,x) E[Y | z,w,x]
counts = table.sum(2)
policy = counts / counts.sum(-1, keepdims=True)
average = np.divide(outcomes, counts, out=np.zeros_like(outcomes), where=counts > 0)
judged = np.einsum("zw,zwx,zwx->", counts.sum(-1), policy, average)
print(f"judged by the log: {judged:.4f}    on the road: {copy_value(table, pays):.4f}    expert: {world.expert_value:.4f}")

# %% [markdown]
# ## An effect of a collider is enough
#
# Perhaps W seems an odd thing to look at. But cameras record hundreds of things, and each effect of W leaks, too. Let **V** be a sensor
# that reports W correctly with some chance. At one half it is noise; at one it is W itself. The drawing cannot say how much harm V
# does, only that it can.

# %%
def with_sensor(right):
    """The value of a copy that sees Z, and W through a sensor that is right with chance `right`."""
    report = np.array([[right, 1 - right], [1 - right, right]])  # [W, V]
    return copy_value(np.einsum("zwux,wv->zvux", table, report), pays)


def sensor(right):
    chances = np.linspace(0.5, 1, 51)
    fig, ax = plt.subplots(figsize=(6.6, 3.2))
    ax.plot(chances, [with_sensor(chance) for chance in chances], label="copy that sees Z and V")
    ax.plot(right, with_sensor(right), "o", color=plots.COLORS[1], markersize=10, label=f"V right {right:.0%}: {with_sensor(right):.4f}")
    ax.axhline(world.expert_value, color=plots.COLORS[2], linestyle="--", label="expert, and copy that sees Z alone")
    ax.set(xlabel="chance that the sensor V reports W correctly", ylabel="chance that it ends well", ylim=(0.25, 0.52))
    ax.legend(loc="lower left")
    plots.show(fig, alt=f"The copy's value falls from 0.4712 at one half to 0.2909 at one; {with_sensor(right):.4f} at {right:.2f}. "
               "The expert stays at 0.4712.", caption="A better sensor makes a worse driver.")  # fmt: skip


plots.play(sensor, right=FloatSlider(value=0.8, min=0.5, max=1, step=0.05, description="V is right"))

# %% [markdown]
# There is a second kind of effect that must not enter, and it is a more ordinary mistake: an effect of the *action*. In the recording, the
# position of the brake pedal (**B**) predicts braking perfectly. It is in the file, next to Z and W. But it happens after the decision
# that it would have to inform. The library refuses, by name; and a world
# in which the action had to wait for its own effect cannot be built (below with Y, another effect).

# %%
pedal = g.diagram("Z->X Z->Y X->Y L->X L->W W<->Y X->B", "Z W X B Y", hidden="L")
try:
    g.admissible(pedal, {"X": ["Z", "B"]}, "Y")
except ValueError as refusal:
    print("the criterion:", refusal)
try:
    world.model.do({"X": Chance(("Y",), np.eye(2))})
except ValueError as refusal:
    print("the world:    ", refusal)

# %% [markdown]
# ## A surprise: nothing helps
#
# Some drawings have no good set, and then the best method is the one that says so. The smallest example has two arms. A hidden coin **U**
# shows 1 with chance p; Y = 1 if the arm played differs from it. The expert sees the coin and always plays the other side: X = 1 − U.
#
# ## Exercise 4: three values · ●●○○○ · 10 min
#
# What does the expert earn on average, what a copy that reproduces P(x) exactly, and what the best policy that does not see U? Work them
# out for any p.

# %%
def three_values(p):
    """p: chance that U = 1 -> (expert, copy of P(x), best policy that does not see U)."""
    # solution
    copy = p * p + (1 - p) * (1 - p)  # plays 0 with chance p and then wins with chance p, and so on
    return 1.0, copy, max(p, 1 - p)
    # end solution
    # stub: return None  # your code here (about two lines)


# %%
values = check("06.three_values", three_values).function
for p in (0.5, 0.8, 0.9):
    bandit = worlds.xor_bandit(p)
    copy = imitation.copied(bandit.model.joint("X", "Y"), ("X", "Y"), "X", ())
    exact = bandit.expert_value, bandit.value({"X": copy}), bandit.best({"X": ()})[0]
    assert np.allclose(values(p), exact)
    print(f"p = {p}: expert {exact[0]:.2f}, copy {exact[1]:.2f}, best without U {exact[2]:.2f}")

# %% [markdown]
# With a fair coin, every policy wins half of the time. More data, a larger network, a cleverer loss: nothing changes that number. The
# gap of one half is not an error that somebody made.
#
# But how would you *know*? Here is another world: X is a fair coin, and Y = 1 always. To anyone who watches, the two worlds are the same:
# X is 0 or 1 evenly, and Y is always 1. In the second world, every policy is as good as the expert.

# %%
first, second = worlds.xor_bandit(0.5), g.diagram("X->Y X<->Y")
easy = random_tables(second, seed=0).do({"X": ((), [0.5, 0.5]), "Y": (("X",), [[0, 1], [0, 1]])})
assert np.allclose(first.model.joint("X", "Y"), easy.joint("X", "Y"))  # watching cannot tell them apart

chances = np.linspace(0, 1, 11)
hard_line = [first.value({"X": Chance((), [1 - t, t])}) for t in chances]
easy_line = [easy.do({"X": ((), [1 - t, t])}).mean("Y") for t in chances]
fig, ax = plt.subplots(figsize=(6.6, 3))
ax.plot(chances, easy_line, label="world 2: Y = 1 whatever is done")
ax.plot(chances, hard_line, label="world 1: Y = X xor U")
ax.set(xlabel="chance of playing arm 1", ylabel="expected outcome", ylim=(0, 1.08))
ax.legend(loc="lower right")
ax.set_title("Two worlds, one log")
plots.show(fig, alt="Two flat lines over all policies: at 1 in the second world and at 0.5 in the first, "
           "although both worlds give the same observations.",
           caption="Whatever rule turns the log into a policy, it gets the same log in both worlds, and no policy "
           "reaches the expert's 1 in the first.")  # fmt: skip

# %% [markdown]
# A method that promises to match the expert from this log is wrong in world 1, whatever it does. The honest answer is a refusal, and the
# library gives it with its witness. `causal_cloning` returns a policy *and a certificate* where the criterion holds; otherwise it raises.
# `behaviour_cloning` copies whatever you like, but its certificate says what it is worth.

# %%
for problem in (worlds.tail_light(), worlds.xor_bandit(0.5)):
    what = g.of_model(problem.model, problem.order)
    names = problem.model.observed
    watched = problem.model.joint(*names)
    print(problem.name)
    print("  plain:  ", imitation.behaviour_cloning(what, watched, names, "Y", {"X": what.before("X")}))
    try:
        print("  causal: ", imitation.causal_cloning(what, watched, names, "Y", ["X"]))
    except imitation.NotImitable as refusal:
        print("  causal: ", refusal)

# %% [markdown]
# ## When the drawing says no and the data say yes
#
# A refusal from the drawing means: *some* world with this drawing cannot be imitated. Yours may not be one of them, and sometimes the log can
# tell. In the world below the expert recognises a digit U and answers X; a display W shows the answer, with faults; S says whether the
# display disagrees with the digit, and Y = 1 − S. X and S share the hidden digit, so there is nothing to copy from. But all that X does to
# Y passes through S. A policy under which S has the *expert's* distribution has the expert's outcomes as well; S is a **surrogate**. And
# what a policy does to S follows from the log, because X acts on it only through W (the front door). So one can solve for the policy.

# %%
digits = worlds.front_door_digits()
names, drawing = digits.model.observed, g.of_model(digits.model)
log = digits.model.joint(*names)
print(g.pi_backdoor(drawing, "X", "Y"))
(way,) = g.instruments(drawing, "X", "Y")
effect = way.estimand.evaluate(log, names)  # P(s | do x), from the log alone [X,S]
print(f"surrogate: {set(way.surrogate)};  P(S = 1 | do x): {effect[:, 1].round(3)};  while the expert acts: {log.sum((0, 1, 3))[1]:.3f}")

plain = imitation.behaviour_cloning(drawing, log, names, "Y", {"X": ()})
solved = imitation.through_surrogate(log, names, way)
for name, made in (("copy of P(x)", plain), ("through S", solved)):
    print(f"{name:14} plays 1 with chance {made.policies['X'].table[1]:.2f}, earns {digits.value(made.policies):.5f}; {made}")
print(f"{'expert':14}{'':29} earns {digits.expert_value:.5f}")

# %% [markdown]
# The copy answers 1 in 82 % of the cases, like the expert, and falls short. The policy that imitates answers 1 *always*, which the expert
# never does. To imitate an outcome is not to imitate behaviour.
#
# ## What the papers had that we left out
#
# - **Pictures instead of digits.** Zhang, Kumor and Bareinboim (2020) drive on highway images and handwritten digits, and fit generative
#   networks to the log before solving for the policy. Ours is their digit experiment with each picture replaced by its digit.
# - **Continuous variables.** The criteria never look at what values a variable takes, so they carry over unchanged; the sums become
#   integrals, and the tables must be estimated.
# - **Several actions.** Each has its own set, and a later policy changes what an earlier one may look at. That is chapter 07.
# - **Where the drawing comes from.** We were given it. A forgotten hidden cause makes every certificate in this chapter worthless,
#   which is why a certificate lists it among its assumptions.
#
# ## Where it returns
#
# Chapter 07 asks the same question when decisions follow one another. Chapter 08 takes the refusals seriously and asks what can
# still be promised.
#
# ## Further reading
#
# - J. Zhang, D. Kumor, E. Bareinboim, *Causal imitation learning with unobserved confounders* (NeurIPS 2020): the criterion, surrogates, and
#   the tail light.
# - J. Pearl, *Causality* (2nd edition, 2009), chapters 1 and 3: d-separation and doing.
# - P. de Haan, D. Jayaraman, S. Levine, *Causal confusion in imitation learning* (NeurIPS 2019): the same worry, met in practice.
