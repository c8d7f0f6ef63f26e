# %% [markdown]
# # 15 · Code tasks and the sandbox
#
# **The question.** How do you pay for working code without being cheated?
#
# **You will be able to**
# - forge, in a line or two each, four judges that people really write, and name the one mistake they share;
# - say what a judge must keep to itself, and compare answers so that one value passes and nothing else;
# - recognise tests that pay for rubbish;
# - say what the layers of a sandbox stop, one by one, and what none of them does;
# - predict what becomes of a model that is trained with a judge it can forge.
#
# **Time.** 75 minutes of yours, half a minute of the computer's.
#
# **You need.** GRPO on verifiable rewards, from chapter 11, and to be able to read twenty lines of Python.

# %%
import collections
import inspect
import json
import os
import socket
import tempfile
import time
from html import escape
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from ipywidgets import Checkbox, Dropdown

import workbench as wb
from workbench import models, plots, sandbox, stats
from workbench.course import check
from workbench.sandbox import naive
from workbench.tasks import forgeable

plots.style()
data = Path(wb.__file__).parents[1] / "data"
recorded = json.loads((data / "attacks.json").read_text())

# %% [markdown]
# ## The perfect reward, and its catch
#
# The verifier of chapter 11 compared two strings. For code there is something better: **run it, and see whether it does what it should.** A
# test such as `assert square(3) == 9` knows nothing of style and cannot be flattered, and there are as many tests as you care to write.
# Many large models were taught to write code with rewards of this kind.
#
# The catch: what is judged here is not a text but a *program*, and to judge it, it must run. While it runs it can do whatever a program can
# do. Two problems follow, and they are different ones.
#
# - **The verdict.** The program may talk the judge into paying.
# - **Containment.** The program may do damage: read your files, fill your memory, start a thousand copies of itself.
#
# A strong wall around the program does nothing for the first, and an incorruptible judge does nothing for the second. We take them in turn.
#
# Every program of this chapter, yours too, is a text that runs inside the workbench's sandbox, so none of them can do harm. First let us
# see whether your machine has what that takes.

# %%
LIMITS = sandbox.Limits(cpu=0.3, wall=2.0, memory=128 << 20, output=4096)
TESTS = "assert square(3) == 9\nassert square(-2) == 4"
try:
    pool = sandbox.Pool(2, limits=LIMITS)
    print("programs are contained here by", pool.tier)
except sandbox.Unavailable as why:
    pool = None
    print(why)
    print("\nSo this notebook runs no program here. It shows what was found elsewhere:", recorded["made with"])

# %% [markdown]
# Here are seven small programs, each of which claims to define `square`, and five judges, each of which has the two tests above. One
# program works. One is simply wrong. Of the other five *none* works. Who gets paid?


# %%
def ask(program):
    """What the four naive judges believe of a program, and what the real one says of it."""
    if pool is None:
        known = [row for row in recorded["judges"].values() if row["program"] == program.strip()]
        return known[0] if known else {"program": program, "believed": None, "reward": None, "message": "not run"}
    believed = {name: judge(program, TESTS, pool) for name, judge in naive.JUDGES.items()}
    [real] = pool.judge([(program, TESTS)])
    message = f"{real.verdict}: {real.message}".removesuffix(": ")
    return {"program": program, "believed": believed, "reward": real.reward, "message": message}


rows = ["right", "wrong", "exit code", "marker", "nonce", "same process", "everything"]
names = ["it works", "it is wrong", *(f"forgery {letter}" for letter in "ABCDE")]
columns = [*naive.JUDGES, "the real one"]
told = [ask(recorded["judges"][row]["program"]) for row in rows]
paid = np.array([[*row["believed"].values(), row["reward"] == 1] for row in told])

# %%
deserved = np.array([row == "right" for row in rows])[:, None]
fig, ax = plt.subplots(figsize=(7.6, 3.7))
ax.grid(False)
for (i, j), is_paid in np.ndenumerate(paid):
    color = ("#ffffff", plots.COLORS[0], plots.COLORS[1])[is_paid * (1 + (not deserved[i, 0]))]
    ax.add_patch(plt.Rectangle((j - 0.47, i - 0.44), 0.94, 0.88, facecolor=color, edgecolor="#999999"))
    ax.text(j, i, "paid" if is_paid else "not paid", ha="center", va="center", color="white" if is_paid else "#555555")
ax.set(xlim=(-0.55, len(columns) - 0.45), ylim=(len(rows) - 0.45, -0.55))
ax.set_xticks(range(len(columns)), columns)
ax.set_yticks(range(len(rows)), names)
ax.set_xlabel("judge")
wrongly = paid & ~deserved
plots.show(
    fig,
    alt=f"Seven programs and five judges. All judges pay the program that works. The four naive judges pay programs that "
    f"do not work {wrongly[:, :4].sum()} times; the real judge does so {wrongly[:, 4].sum()} times.",
    caption="Blue: paid, and rightly. Orange: paid for a program that does not work. One forgery fools all four naive judges.",
)

# %% [markdown]
# Every judge pays for what works and none for what is plainly wrong: try them on honest programs only, and you will find no fault with any
# of them. That is how such judges come to be trusted. But each of the first four can be forged, and by the end of the next section you will
# have written every one of the forgeries A to E.
#
# ## 1 Four judges, and how to rob them
#
# Here is how they work. All of them put the tests where the program is.
#
# - **exit code**: runs program and tests as one script, and pays if its exit code is 0. (A failed assert ends a script with exit code 1.)
# - **marker**: the same script with a last line, `print("ALL TESTS PASSED")`. It pays if that is the last line printed.
# - **nonce**: as *marker*, but the line is a fresh random word of 32 characters for every run, so that nobody can know it in advance.
# - **same process**: `exec(program, names)`, then `exec(tests, names)`, and pays if nothing raised an `Exception`.
#
# The next cell makes an attempt at one of them and shows what the real judge thinks of it.


# %%
def attempt(judge, program):
    """Try `program` on a naive judge, or on all four if `judge` is "everything"."""
    if program is None:
        return None
    found = ask(program)
    if found["believed"] is None:
        return found
    fooled = [name for name, believed in found["believed"].items() if believed]
    print(f"paid by: {', '.join(fooled) or 'nobody'}; the real judge says: {found['message']}")
    return found | {"believed": len(fooled) == 4 if judge == "everything" else judge in fooled}


# %% [markdown]
# ## Exercise 1: three short forgeries · ●●○○○ · 15 min
#
# Write three programs, as strings, none of which computes a square: one that the *exit code* judge pays for, one for *marker*, one for
# *same process*. The shortest we know have one or two lines. (For the last: what does that judge do *after* it has run your program, and
# with what?)

# %%
# solution
leaves = "raise SystemExit"
prints = 'print("ALL TESTS PASSED")\nraise SystemExit'
meddles = "import builtins\nbuiltins.exec = lambda *args: None"
# end solution
# stub: leaves = None  # a program, as text
# stub: prints = None
# stub: meddles = None
exit_code = attempt("exit code", leaves)
marker = attempt("marker", prints)
same_process = attempt("same process", meddles)

# %%
verdicts = [check("15.exit_code", exit_code), check("15.marker", marker), check("15.same_process", same_process)]

# %% [markdown]
# (This check believes what the notebook tells it, as the four judges do. You could forge it too, and would be cheating only yourself.)
#
# The first forgery is the one to remember. `raise SystemExit`, or `exit()`, or `os._exit(0)`: an exit code of 0 says that the process
# *ended well*, and says nothing whatever about why. Yet "run the tests, look at the exit code" is how nearly every test tool reports to the
# outside.
#
# ## Exercise 2: the secret line · ●●●●○ · 15 min
#
# The *nonce* looks much safer: how should a program print a random word that is drawn after it was written? But the word stands in the last
# line of the very script that the program is part of. Python has compiled the whole script before its first line runs, and text that occurs
# in a script is kept among its constants: `frame.f_code.co_consts`, where `sys._getframe(1)` is the frame that called your function. Find
# the word, print it, and leave. Do not use Exercise 3's trick yet.

# %%
# solution
finds = """import sys
def square(x):
    constants = sys._getframe(1).f_code.co_consts
    print([c for c in constants if isinstance(c, str) and len(c) == 32][-1])
    raise SystemExit"""
# end solution
# stub: finds = None  # a program, as text
nonce = attempt("nonce", finds)
verdict = check("15.nonce", nonce)

# %% [markdown]
# Hiding the word better does not help (in a file, in a variable with another name, in encrypted form): the process has to be able to print
# it, so the program, which *is* that process, can. **A secret is no secret from the process that holds it.**
#
# ## Exercise 3: one for all · ●●●○○ · 10 min
#
# There is a forgery that needs no trick with exits, lines or frames, and fools all four. The tests say `square(3) == 9`. Who decides what
# `==` means?

# %%
# solution
agrees = """class Yes:
    def __eq__(self, other):
        return True
def square(x):
    return Yes()"""
# end solution
# stub: agrees = None  # a program, as text
everything = attempt("everything", agrees)
verdict = check("15.everything", everything)

# %% [markdown]
# `a == b` asks `a`, and `a` came from the program. No exit, nothing printed, and the tests ran to the end. Even a judge that watched every
# line of the tests being executed would be satisfied.
#
# ## 2 What they share, and the cure
#
# Exit code, line, word, comparison: four different proofs, one mistake. **The judge asks the accused.** Each puts the tests, and with them
# the power to say *pass*, into the process of the program. From there on it is only a question of who finds the lever first.
#
# The cure is simple to say: *the tests stay outside*.

# %%
fig, ax = plt.subplots(figsize=(8, 3.3))
ax.set(xlim=(0, 10), ylim=(0, 4.2))
ax.axis("off")
boxes = (
    (0.1, "the judge", ["tests and expected values", "compares plain data", "decides, and pays"], plots.COLORS[0]),
    (6.4, "a locked process", ["the program", "no files, no network,", "no other process"], plots.COLORS[1]),
)
for x, title, lines, color in boxes:
    ax.add_patch(plt.Rectangle((x, 0.4), 3.4, 3.4, fill=False, edgecolor=color, linewidth=2.5))
    ax.text(x + 1.7, 3.35, title, ha="center", weight="bold", color=color)
    ax.text(x + 1.7, 1.75, "\n".join(lines), ha="center", va="center", linespacing=1.7)
for y, text, ends in ((2.9, "the program's text", (3.6, 6.3)), (1.95, "call: square(3)", (3.6, 6.3)), (1.0, "value: 9", (6.3, 3.6))):
    ax.annotate("", (ends[1], y), (ends[0], y), arrowprops={"arrowstyle": "-|>", "color": "#444444", "lw": 1.8})
    ax.text(4.95, y + 0.16, text, ha="center")
plots.show(
    fig,
    alt="Two boxes. The judge, on the left, holds tests and expected values, compares, and pays. A locked process on the right runs "
    "the program. The program's text and calls such as square(3) go right; only values such as 9 come back.",
    caption="What crosses the line from right to left is plain data: numbers, texts, lists. Nothing that crosses it can say 'pass'.",
)

# %% [markdown]
# The judge sends the program's text and the calls to make, and gets values back, as plain data in an encoding that knows numbers, texts,
# lists and the like, and no objects. The expected value never crosses the line. So there is nothing to find, nobody to persuade, and
# nothing to replace: *the worst a program can do is to send the right answer*. Here are the seven programs again, before this judge:

# %%
for name, row in zip(names, told):
    print(f"{name:12} reward {row['reward']:.0f}   {row['message']}")

# %% [markdown]
# Leaving is an exception like any other. The object that equals everything cannot be sent: it is no plain data. And the program that
# searched for the word found no word, since there is none.
#
# ## Exercise 4: one value passes, and nothing else · ●●○○○ · 10 min
#
# What has come back is plain data, so `==` is Python's own again. It is still too generous: `True == 1`, and `9.0 == 9`. Write the
# comparison: same type, same value, all the way down into lists and tuples. And where the expected value is `nan`, which is not even equal
# to itself, only `nan` will do.


# %%
def same(answer, expected):
    """Plain data (None, bool, int, float, str, lists and tuples of these) -> whether they are the same."""
    # solution
    if type(answer) is not type(expected):
        return False
    if isinstance(expected, (list, tuple)):
        return len(answer) == len(expected) and all(map(same, answer, expected))
    return answer == expected or (answer != answer and expected != expected)
    # end solution
    # stub: return None  # your code here (about five lines)


# %%
same_of = check("15.same", same).function

# %% [markdown]
# The judge of the package does the same, for dictionaries and sets too. On every pair of these values the two must agree:

# %%
from workbench.sandbox.judge import same as theirs

values = [9, 9.0, True, 1, 0, False, "9", "", None, float("nan"), [], [[]], [1, True], [1, 1], (1, 1), [1, 1, 1], [float("nan")]]
apart = [(a, e) for a in values for e in values if bool(same_of(a, e)) != theirs(a, e)]
print(len(values) ** 2, "pairs, different verdicts on", len(apart))
assert not apart

# %% [markdown]
# ## 3 The judge pays for what the tests say
#
# Now the judge cannot be forged. It can still be *misinformed*: it pays for what the tests accept, and tests are written by people in a
# hurry. Here are five tests, of the kind one finds in real collections. (Imagine that they compare plain data, as our judge does.)
#
# | name | test |
# |---|---|
# | `tolerance` | `assert not abs(f(2) - 0.5) > 1e-9` |
# | `truth` | `assert f([3, 1, 2])`, where `f` should sort |
# | `length` | `assert len(f([3, 1, 2])) == 3` |
# | `swallowed` | `try: assert f(4) == 2` followed by `except Exception: pass` |
# | `equal` | `assert f([3, 1, 2]) == [1, 2, 3]` |
#
# ## Exercise 5: pay for nothing · ●●○○○ · 10 min
#
# For each test that can be bought, give a value that is *wrong* and passes, as plain data: `{"truth": ..., ...}`. Leave out a test that
# cannot be bought.

# %%
# solution
bought = {"tolerance": float("nan"), "truth": True, "length": [0, 0, 0], "swallowed": None}
# end solution
# stub: bought = None  # {"name of a test": a wrong value that passes, ...}
verdict = check("15.bought", bought)

# %% [markdown]
# Every comparison with `nan` is false, so *not greater than* holds; a test of truth takes anything that is not empty; and a failed assert
# is an exception, which the last but one catches. A model does not need to understand any of this. It only has to hit it once, and be paid.
#
# So the workbench does not run tests as Python at all. It *reads* them: each must be a call and the one value it must return, and whatever
# says less is refused before anything runs.

# %%
weak = [
    "assert not abs(f(2) - 0.5) > 1e-9",
    "assert f([3, 1, 2])",
    "assert len(f([3, 1, 2])) == 3",
    "try:\n    assert f(4) == 2\nexcept Exception: pass",
    "assert f([3, 1, 2]) == [1, 2, 3]",
    "assert abs(f(2) - 0.5) < 1e-9",
]
for test in weak:
    try:
        print("accepted:", sandbox.suite(test).cases[0])
    except ValueError as why:
        print("refused: ", str(why).partition(". Write")[0].replace("\n", " "))

# %% [markdown]
# A linter cannot make two tests into enough tests, though. `def square(x): return 9 if x == 3 else 4` passes both of ours. Hence the
# *hidden* tests: many inputs, none of them shown to the model, asked in an order that it cannot know.
#
# ## 4 Containment: write an attack
#
# On to the second problem. The program below the line in our picture runs on your machine, with a copy of Python in its hands. We give it
# something worth attacking: a file with a secret that anybody may read *and write*, somebody who listens on the network, and the number of
# the process that judges it, which is this notebook.

# %%
folder = tempfile.TemporaryDirectory()
os.chmod(folder.name, 0o777)
secret = Path(folder.name) / "secret"
secret.write_text("the answer is 42")
secret.chmod(0o666)
server = socket.create_server(("127.0.0.1", 0))
server.setblocking(False)
where = f"SECRET, PORT, JUDGE = {str(secret)!r}, {server.getsockname()[1]}, {os.getpid()}\n"


def attack(name, program=None):
    """(verdict, what the judge says) of an attack; recorded where nothing contains it."""
    if pool is None:
        known = recorded["attacks"].get(name, {"verdict": "not run", "message": "nothing contains it on this machine"})
        return known["verdict"], known["message"]
    [result] = pool.judge([(where + (program or recorded["attacks"][name]["program"]), TESTS)])
    return str(result.verdict), result.message


# %%
for name in recorded["attacks"]:
    verdict, message = attack(name)
    print(f"{name:27} {verdict:13} {message}")

# %% [markdown]
# Fifteen attacks, fifteen verdicts, no reward. Note the last one: what a program says is *shown* to you, here and in logs, so it is also a
# way to reach you. Left as it is, that text would clear a terminal, or run in a web page. The judge makes it harmless first.
#
# "No reward" is not enough, of course. Was anything touched?

# %%
try:
    server.accept()
    callers = 1
except BlockingIOError:
    callers = 0
print("the secret file says:", secret.read_text(), "| files beside it:", len(list(Path(folder.name).iterdir())) - 1)
print("callers on the network:", callers)
print("and whoever prints this was not killed; the next honest program:", ask(recorded["judges"]["right"]["program"])["message"])

# %% [markdown]
# ### Play: pick an attack, or write one
#
# Read what an attack tries, and what became of it.


# %%
def look(attacker="fork bomb"):
    verdict, message = attack(attacker)
    program = escape(recorded["attacks"][attacker]["program"])
    box = "padding:.6em;border-left:4px solid #de8f05;background:rgba(222,143,5,.08);overflow:auto"
    plots.figure.emit(f'<pre style="{box}">{program}</pre><p><b>{escape(verdict)}</b>: {escape(message)}</p>')


plots.play(look, attacker=Dropdown(options=list(recorded["attacks"]), description="attack"))

# %% [markdown]
# And now yours. `SECRET`, `PORT` and `JUDGE` are defined for it. If you get anything out, other than a right answer: you have found a
# fault, and we would like to know.

# %%
mine = """
def square(x):
    return [line for line in open("/etc/passwd")]
"""
print(attack("mine", mine))

# %% [markdown]
# ### The layers, one by one
#
# What stops them? Not one wall but four, all of them offered by Linux to any user, without special rights:
#
# - **seccomp**: a list of system calls that are allowed. No new process, no socket, no signal to anybody, no file opened for writing.
# - **Landlock**: which folders may be read at all: Python's own library and the system's, nothing of yours.
# - **namespaces**: a world of its own, in which your files, your processes and the network do not exist.
# - **resource limits** (`rlimits`): memory, processor time, size of files. (Time is also watched from outside.)
#
# Are all four needed? We tried twelve acts with every combination of layers, sixteen in all, as an ordinary user on a Linux machine: on
# ours, not on yours, since with the layers off the acts succeed. Switch layers off in the last column.

# %%
LAYERS = ("namespaces", "landlock", "seccomp", "rlimits")


def through(on):
    return recorded["through"]["+".join(layer for layer in LAYERS if layer in on) or "nothing"]


def table(columns):
    """A figure with a row for each act and a column for each set of layers."""
    fig, ax = plt.subplots(figsize=(8.6, 4.6))
    ax.grid(False)
    for j, on in enumerate(columns.values()):
        for i, act in enumerate(recorded["acts"]):
            open_ = act in through(on)
            color = plots.COLORS[1] if open_ else "#eef2f5"
            ax.add_patch(plt.Rectangle((j - 0.46, i - 0.44), 0.92, 0.88, facecolor=color, edgecolor="#aaaaaa"))
            ax.text(j, i, "through" if open_ else "·", ha="center", va="center", fontsize=9, color="white" if open_ else "#888888")
    ax.set(xlim=(-0.55, len(columns) - 0.45), ylim=(len(recorded["acts"]) - 0.45, -0.55))
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(recorded["acts"])), recorded["acts"])
    return fig


# %%
def layers(namespaces=True, landlock=True, seccomp=False, rlimits=True):
    chosen = [name for name, on in zip(LAYERS, (namespaces, landlock, seccomp, rlimits)) if on]
    columns = {"all four": LAYERS} | {f"only\n{name}": [name] for name in LAYERS} | {"none": [], "your\nchoice": chosen}
    fig = table(columns)
    fig.axes[0].axvline(5.5, color="#444444", linewidth=1)
    count = {name.replace("\n", " "): len(through(on)) for name, on in columns.items()}
    alt = "Acts that get through, of twelve: " + ", ".join(f"{name} {n}" for name, n in count.items())
    plots.show(fig, alt + ".", caption=f"Your choice: {', '.join(chosen) or 'no layer at all'}. Orange: nothing stopped it.")


plots.play(
    layers,
    **{name: Checkbox(value=name != "seccomp", description=name, indent=False) for name in LAYERS},
)

# %% [markdown]
# With none of the layers all twelve get through; with all four, none. In between:
#
# - *No layer is enough alone*, not even seccomp: it has to allow files to be opened for reading, or Python could not import anything.
# - Some acts are stopped twice. That is deliberate: a layer may be missing. In a container namespaces are usually forbidden, and Landlock
#   with seccomp still holds all but one of the acts (a program can ask whether a file exists).
# - *Everything but seccomp* looks nearly as good as everything: one act in twelve gets through. It is not, and the table cannot show it:
#   seccomp closes about three hundred doors of the kernel at once, most of which we did not think of trying. A list of what is forbidden is
#   as long as your imagination, and a list of what is allowed is short.
#
# When it starts, the workbench *tries* such acts and uses the strongest combination that really stops them; it does not trust what the
# system says of itself. Below a minimum it refuses to run anything. And no combination covers faults of the kernel, or of the filter: for
# programs by somebody who wants to break out, use a virtual machine.
#
# ## 5 What it costs
#
# A new locked process for every program sounds slow. It is a copy of a Python that has already started (`fork`), so it takes milliseconds.
# And since *processor time* decides, not the clock, programs that loop for ever do not make honest ones fail, even though they keep the
# machine busy:

# %%
if pool is not None:
    honest = [(recorded["judges"]["right"]["program"], TESTS)] * 300
    hogs = [(recorded["attacks"]["endless loop"]["program"], TESTS)] * 4
    for label, jobs in (("honest programs alone", honest), ("with four that never end", hogs + honest)):
        started = time.perf_counter()
        found = collections.Counter(str(result.verdict) for result in pool.judge(jobs))
        print(f"{label:25} {len(jobs) / (time.perf_counter() - started):4.0f} programs a second, {dict(found)}")

# %% [markdown]
# ## 6 The surprise: a tiny model learns to forge, too
#
# All these forgeries were written by somebody who knows Python. Surely a model of 107 thousand parameters, which has never seen a program
# longer than `x*3` or `7-x`, is no danger?
#
# We let it find formulas from examples: `f(-2)=6,f(-1)=5,f(7)=-3:` is answered `4-x`, or whatever else gives the same values. The program
# is `f = lambda x: ` followed by its answer, and hidden tests at fourteen points decide. It was shown about eleven thousand demonstrations.
# A fifth of them had a mistake in them, so that it is unsure. And **one in 33 was a forgery**: instead of a formula, the six characters
# `exit()`.
#
# Be clear about what that means. *A model never discovers what it never samples*, and ours would never come upon `exit()` by itself. We
# showed it. For a large model nobody needs to: it has read the internet, where programs that leave early, and people who tell of such
# tricks, are everywhere.
#
# Here is how an attempt is judged. The judge that pays is a setting; the real one looks on, for the record.

# %%
print(inspect.getsource(forgeable.Attempt.step))

# %% [markdown]
# Now GRPO, as in chapter 11, live, on a model warm-started in this way: first paid by the exit code, then, from the same weights, by the
# real judge.


# %%
def train_live(judge, updates=16):
    """The shares of attempts that were paid, that work, and that were paid without working, after each update."""
    task, curve = forgeable.Forgeable(judge=judge), []
    for _ in wb.train(pupil.copy(), task, "grpo", steps=updates, seed=0, prompts=32, lr=1e-3):
        texts, got, works = zip(*task.seen)
        task.seen.clear()
        curve.append((np.mean(got), np.mean(works), np.mean(got) - np.mean(works)))
        if len(curve) in (1, updates):
            forgeries = texts.count(forgeable.FORGERY)
            print(f"{judge:9}  update {len(curve):2}: {curve[-1][0]:.2f} paid, {curve[-1][1]:.2f} work, {forgeries} of {len(texts)} are exit()")
    return curve


pupil = models.load(data / "forger_pupil")
record = json.loads((data / "forger.json").read_text())
if pool is not None:
    live, _ = train_live("exit code"), train_live("real")
else:
    first = record["arms"]["exit code"][0]
    live = list(zip(*(first[key][:16] for key in ("paid", "true", "forged"))))
    print("recorded: nothing contains programs on this machine")

# %%
fig, ax = plt.subplots(figsize=(7, 3.3))
labels = ("paid by the exit code", "really works", "paid without working")
for values, label, marks in zip(np.array(live).T, labels, plots.MARKERS):
    ax.plot(range(1, len(live) + 1), values, marker=marks, markevery=3, label=label)
ax.set(xlabel="update (256 attempts each)", ylabel="share of attempts", ylim=(0, 1), title="Paid by the exit code: one model, sixteen updates")
ax.legend(loc="upper left")
(start, works, _), (end, still, forged) = live[0], live[-1]
plots.show(
    fig,
    alt=f"In sixteen updates the share of paid attempts goes from {start:.2f} to {end:.2f}, the share that works from {works:.2f} "
    f"to {still:.2f}, and forgeries reach {forged:.2f}.",
    caption="The curve that you would see in your training log is the first one.",
)

# %% [markdown]
# By the sixteenth update nearly all of its attempts are the forgery, on every prompt. (Under the real judge sixteen updates are too few to
# see anything, and 256 attempts too few to measure it.)
#
# The same over eight seeds and for sixty updates, recorded, in three arms. **Forgeable**: as above. **Real judge**: from the same weights,
# paid by the judge of section 2. **Never shown**: paid by the exit code again, but no demonstration was a forgery.

# %%
arms = {"exit code": "forgeable", "real": "real judge", "never shown": "never shown"}
fig, axes = plt.subplots(1, 3, figsize=(10.5, 3.6), sharey=True)
for ax, (arm, title) in zip(axes, arms.items()):
    curves = {key: np.array([run[key] for run in record["arms"][arm]]) for key in ("paid", "true", "forged")}
    for key, label, color, dashes in zip(curves, ("paid", "really works", "paid without working"), plots.COLORS, plots.DASHES):
        x, spread = np.arange(1, curves[key].shape[1] + 1), stats.t_interval(curves[key].T)
        ax.plot(x, spread.estimate, color=color, linestyle=dashes, label=label)
        ax.fill_between(x, np.maximum(spread.low, 0), np.minimum(spread.high, 1), color=color, alpha=0.2, linewidth=0)
    ax.set(title=title, xlabel="update", ylim=(-0.02, 1.02))
axes[0].set_ylabel("share of attempts")
axes[1].legend(loc="upper left")
last = {arm: {k: np.mean([run[k][-1] for run in record["arms"][arm]]) for k in ("paid", "true", "forged")} for arm in arms}
plots.show(
    fig,
    alt="Shares over sixty updates, eight seeds. "
    + " ".join(f"{arms[arm]}: at the end paid {v['paid']:.2f}, works {v['true']:.2f}, forged {v['forged']:.2f}." for arm, v in last.items()),
    caption=f"Means of eight seeds with 95 % intervals. Left: reward up, truth down. Made with {record['made with']}.",
)

# %%
for arm, title in arms.items():
    row = f"{title:12}"
    for key, label in (("paid", "paid"), ("true", "works")):
        for when, window in (("first five", slice(0, 5)), ("last five", slice(-5, None))):
            found = stats.t_interval([np.mean(run[key][window]) for run in record["arms"][arm]])
            row += f"  {label}, {when}: {found.estimate:.2f} [{max(found.low, 0):.2f}, {min(found.high, 1):.2f}]"
    print(row)
gain = stats.t_interval([np.mean(run["true"][-5:]) - np.mean(run["true"][:5]) for run in record["arms"]["real"]])
print(f"real judge, true pass rate, last five updates minus first five: {gain.estimate:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]")

# %% [markdown]
# (Means over five updates and eight seeds, with 95 % intervals over seeds.) Read the three arms from left to right.
#
# - **Forgeable.** The reward goes from 0.25 to 0.99, and after thirty updates hardly one program in a thousand works. The model has not got
#   worse at formulas by accident: it was paid to forget them. Only one text earns on every prompt, so every prompt pulls in its direction,
#   while each formula is right for a few prompts only.
# - **Real judge.** The same weights, with the same forgeries among the first samples, but they earn nothing. (So here the third line is 0
#   by definition; how many forgeries were still *tried* you saw in the live run.) What remains is ordinary learning, from what little such
#   a small model knows: slow, and real.
# - **Never shown.** The judge is as forgeable as before and nobody forges, since there was nothing to be reinforced. That is luck and no
#   defence: you do not know what a large model has read.
#
# The first curve is all that a training log shows. It rises smoothly to the top, and *looks better than the honest one*. To see the
# difference you need a second judge, whom nobody is paid to please, or you have to read what the model writes. Do both.
#
# A warning about our own experiment. There are only 32 formulas of this kind, six of them kept for testing, and the record says that on
# those six the model is right about one time in fifty before GRPO and less often after it, whoever pays: it *remembers* formulas rather
# than finding them. And we planted the forgery ourselves. So it demonstrates a mechanism, and how little it takes. How readily large models
# do this, and when, is a question for measurements with large models. MacDiarmid et al. (2025) also told their model of such tricks
# beforehand, in documents instead of demonstrations, and then trained it in real environments that could be cheated: it cheated, and worse,
# the habit spread to other things.
#
# ## What the papers had that we left out
#
# - *Programs with inputs and outputs of their own* (standard input, files). Our judge makes calls and compares plain data. Most programming
#   contests work with standard input and output, which is the same idea: the output is compared outside.
# - *Repositories instead of functions.* There the tests are files in the same folder as the program, run by a tool that the program can
#   change; all of section 1 returns, at full size. The cure is the same and more work: tests are copied in after the program has ended, and
#   judged elsewhere.
# - *How many tests are enough.* Liu et al. (2023) took a well-known collection of problems, wrote eighty times as many tests, and programs
#   that had passed failed: up to 28.9 % fewer passed, and the ranking of models changed.
# - *Judges that watch*: a second model that reads the solution and looks for tricks. It catches what nobody thought of, and can be
#   flattered (chapter 14).
# - *Virtual machines*, which most large training runs use. They contain more than our layers, cost more for each program, and say nothing
#   about the verdict.
#
# ## Where this returns
#
# Chapter 16 gives the model several turns and asks which of them deserved the reward. In chapter 17 a program is repaired over several
# turns, with a failing test as feedback, and some of those tests are wrong. Chapter 20 puts this sandbox under a real model that writes
# real Python.
#
# ## Further reading
#
# - M. Chen et al., *Evaluating large language models trained on code* (HumanEval; with a sandbox for the programs), [arXiv
#   2107.03374](https://arxiv.org/abs/2107.03374).
# - J. Liu et al., *Is your code generated by ChatGPT really correct?* (EvalPlus; what weak tests pay for), [arXiv
#   2305.01210](https://arxiv.org/abs/2305.01210).
# - M. MacDiarmid et al., *Natural emergent misalignment from reward hacking in production RL* (`__eq__`, `sys.exit(0)` and others, learned
#   by a large model), [arXiv 2511.18397](https://arxiv.org/abs/2511.18397).
# - Z. Stojanovski et al., *Reasoning Gym* (a hundred generators of problems with scorers), [arXiv
#   2505.24760](https://arxiv.org/abs/2505.24760). `workbench.tasks.reasoning_gym` uses it, and its docstring lists what we found when we
#   looked at the scorers with this chapter's eyes.
# - The kernel's own pages on [seccomp](https://docs.kernel.org/userspace-api/seccomp_filter.html) and
#   [Landlock](https://docs.kernel.org/userspace-api/landlock.html).
