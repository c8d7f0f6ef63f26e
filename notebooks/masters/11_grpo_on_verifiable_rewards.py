# %% [markdown]
# # 11 · GRPO on verifiable rewards
#
# **The question.** Can a pupil get better than its teacher, if all it is told is *right* or *wrong*?
#
# **You will be able to**
# - write one step of GRPO on a language model by hand, in about forty lines;
# - get right four details that are easy to get wrong (which verdict, which axis, which tokens, which average);
# - prove your version equal to the package's, loss and gradient, and then train with the package, live;
# - read a training run by what says something (dead groups) and ignore what says nothing (the loss);
# - say what this training can teach a model, and what it cannot.
#
# **Time.** 75 minutes of yours, about half a minute of the computer's.
#
# **You need.** The policy gradient, advantages and the clip from chapter 09, and what a language model is, from chapter 10.

# %%
import json
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from ipywidgets import Dropdown, IntSlider

import workbench as wb
from workbench import models, objective, plots, recipes, sample, stats
from workbench.course import check

plots.style()
data = Path(wb.__file__).parents[1] / "data"

# %% [markdown]
# ## A pupil with a careless teacher
#
# Our pupil is a language model of 107 thousand parameters. First it learned to add two-digit numbers from flawless examples. Then it
# got a teacher who has the wrong answer to *seven sums in ten*, one digit of it replaced by another, and it caught the habit: a model
# that imitates its teacher imitates the mistakes as well. (All that was done beforehand; `python data/addition_grpo.py` remakes it.)
#
# We ask it eight times.

# %%
task = wb.tasks.get("addition")
pupil = models.load(data / "careless_pupil")
tokenizer, END = pupil.tokenizer, pupil.eos

problem = task.problem(2, split="test")
print(f"{sum(p.numel() for p in pupil.parameters()):,} parameters; {problem.prompt} wants {problem.answer}")
batch = sample.rollout(sample.LocalEngine(pupil), task, tokenizer, [problem], group_size=8, seed=0)


def show_rows(batch, value, label, limit=None):
    """Each answer of a batch as a row of tokens, painted by `value` [B,T]."""
    rows = [row[:n] for row, n in zip(batch.tokens.tolist(), batch.length.tolist())]
    texts = [[models.decode(tokenizer, [token]) for token in row] for row in rows]
    names = ["right" if outcome else "wrong" for outcome in batch.outcome.tolist()]
    shown = {"mask": batch.mask, "logp": batch.logp_old, "names": names}
    plots.tokens(texts, value, **shown, label=label, limit=limit)


verdict = (2 * batch.outcome - 1)[:, None] * batch.mask
show_rows(batch, verdict, "verdict")

# %% [markdown]
# The grey part is the prompt, between the tags `<U>` (the user speaks) and `<A>` (the assistant does). Blue answers are right, orange ones
# wrong; hover over a token, or walk there with the Tab key, to see how probable it was. The `<E>` at the end is a token like any other:
# the model has to *choose* to stop.
#
# Nobody will show this pupil a right answer again. From here on there is only a **verifier**: a function that looks at an answer and
# says 1 or 0. It cannot add either (it compares with a string); what matters is that it cannot be argued with.
#
# ## Exercise 1: the verifier · ●○○○○ · 5 min
#
# Write it. The whole training rests on it, and the model will find out what it *really* accepts: a verifier is a goal, whether
# you meant it or not.

# %%
def verify(text, answer):
    """The model's text (without its end token) and the right answer, both strings -> 1.0 or 0.0."""
    # solution
    return float(text == answer)
    # end solution
    # stub: return None  # your code here (one line)


# %%
verified = check("11.verify", verify).function

# %% [markdown]
# ## 1 The group is the yardstick
#
# GRPO asks each question $G$ times. What an answer is credited with is how it did *compared with the other answers to the same question*:
#
# $$A_i = \frac{r_i - \bar r}{\sigma + \varepsilon}.$$
#
# $r_i$ is the reward of answer $i$; $\bar r$ and $\sigma$ are mean and standard deviation over the answers *of its group*, the variance divided by
# $G-1$; $\varepsilon = 10^{-4}$. (Chapter 09 took this formula apart. With rewards of 0 and 1 it gives each question a weight of its own, and
# otherwise does no harm.)
#
# ## Exercise 2: advantages · ●●○○○ · 10 min
#
# Rewards come as a table, a row for each question, a column for each answer.

# %%
def advantages(rewards):
    """rewards [P,G], torch -> advantages [P,G]: standardised within each question's group."""
    # solution
    mean = rewards.mean(1, keepdim=True)
    std = rewards.std(1, keepdim=True)  # torch divides by G - 1
    return (rewards - mean) / (std + 1e-4)
    # end solution
    # stub: return None  # your code here (about three lines)


# %%
advantages_of = check("11.advantages", advantages).function
print(advantages_of(torch.tensor([[1.0, 0, 0, 0], [1.0, 1, 1, 0], [0.0, 0, 0, 0], [1.0, 1, 1, 1]])).round(decimals=2))

# %% [markdown]
# Read the four rows. One right answer among wrong ones gets a lot of credit; one wrong answer among right ones gets a lot of blame. In
# the last two rows nobody gets anything: all wrong and all right look the same to GRPO. Such a group is **dead**. Keep an eye on them.
#
# ## 2 Which tokens are ours?
#
# A row of ids holds the prompt, which we wrote; the answer, which the model sampled; and padding after it, because rows have different
# lengths. Only what the model *chose* may be praised or blamed. That includes the end token: whoever leaves it out trains a model that
# is never told when to stop.
#
# ## Exercise 3: the mask · ●●○○○ · 10 min
#
# All prompts have the same length here, and an answer ends with its first end token. (If there is none, it was cut off: then
# all the rest is answer.) Do not look for padding by its id: in many models padding and end token share one.

# %%
def sampled_mask(tokens, prompt_length, end):
    """tokens [B,T] ids -> [B,T] bool: true from the prompt's end up to and including the first `end`."""
    # solution
    answer = torch.arange(tokens.shape[1]) >= prompt_length
    ends = (tokens == end) & answer
    ended_before = ends.long().cumsum(1) - ends.long() > 0  # an end token stands to the left
    return answer & ~ended_before
    # end solution
    # stub: return None  # your code here (about four lines)


# %%
mask_of = check("11.sampled_mask", sampled_mask).function

# %% [markdown]
# ## 3 One number from many tokens
#
# Each token $t$ of answer $i$ has the clipped objective of chapter 09, with the answer's advantage,
# $o_{i,t} = \min\big(\rho_{i,t} A_i,\, \mathrm{clip}(\rho_{i,t}, 0.8, 1.2)\, A_i\big)$, where $\rho_{i,t}$ is the token's probability under the
# policy now, divided by that under the policy that sampled it. How should they be averaged? GRPO first takes the mean over the $T_i$ tokens
# of an answer, then over the $B$ answers:
#
# $$\text{loss} = -\frac1B \sum_{i=1}^{B} \frac{1}{T_i} \sum_{t=1}^{T_i} o_{i,t}.$$
#
# It looks like bookkeeping and is a decision. This way every *answer* counts the same, and a token of a long one counts less. A wrong
# answer can make each of its tokens count less by being long; Liu et al. (2025) trace the ever longer wrong answers of some models to it.
# Average over all tokens of the batch instead, and every *token* counts the same, and long answers decide everything.
#
# ## Exercise 4: the average · ●●●○○ · 10 min
#
# Write GRPO's. The table of objectives has a number in *every* place, also over prompt and padding.

# %%
def grpo_average(objective, mask):
    """objective [B,T], mask [B,T] bool -> a number: the mean over answers of the mean over their sampled tokens."""
    # solution
    per_answer = (objective * mask).sum(1) / mask.sum(1)
    return per_answer.mean()
    # end solution
    # stub: return None  # your code here (about two lines)


# %%
average_of = check("11.grpo_average", grpo_average).function

# %% [markdown]
# ## 4 The whole thing by hand
#
# Now put the pieces together: draw answers, judge them, compare them, and push. First the drawing. It runs the model over the whole row for
# each new token, which is wasteful (chapter 10 says how to avoid it), but has nothing to hide.

# %%
def draw_answers(model, prompts, size, rng):
    """prompts [P,L] ids -> tokens [P*size,T]: `size` answers to each, one token at a time."""
    tokens = prompts.repeat_interleave(size, 0)
    running = torch.ones(len(tokens), dtype=torch.bool)
    for _ in range(task.max_tokens):
        chances = model(tokens).logits[:, -1].softmax(1)
        drawn = torch.multinomial(chances, 1, generator=rng)[:, 0]
        drawn = torch.where(running, drawn, 0)  # padding behind a finished answer
        tokens = torch.cat([tokens, drawn[:, None]], 1)
        running = running & (drawn != END)
    return tokens


def log_probs(model, tokens, mask):
    """log-probability of each token given those before it [B,T]; 0 where nothing was sampled."""
    logits = model(tokens[:, :-1]).logits  # position t - 1 predicts token t
    logp = logits.log_softmax(2).gather(2, tokens[:, 1:, None])[..., 0]
    return torch.nn.functional.pad(logp, (1, 0)) * mask


# %% [markdown]
# Then the loss, and the step around it. There is no more to GRPO than this.

# %%
def grpo_loss(logp, logp_old, advantage, mask, low=0.2, high=0.2):
    """logp, logp_old, mask [B,T], advantage [B] -> the number to minimise."""
    ratio = (logp - logp_old).exp()
    credit = advantage[:, None]
    return -average_of(torch.minimum(ratio * credit, ratio.clamp(1 - low, 1 + high) * credit), mask)


def grpo_step(policy, optimiser, number, rng, prompts=16, size=8):
    """Ask, judge, compare, push. Returns the share of right answers and the loss."""
    problems = [task.problem(number * prompts + i, seed=1) for i in range(prompts)]
    asked = torch.tensor([models.prompt_ids(tokenizer, problem.prompt) for problem in problems])
    with torch.no_grad():
        tokens = draw_answers(policy.model, asked, size, rng)
        mask = mask_of(tokens, asked.shape[1], END)
        logp_old = log_probs(policy.model, tokens, mask)
    said = [models.decode(tokenizer, row[m].tolist()).removesuffix("<E>") for row, m in zip(tokens, mask)]
    rewards = torch.tensor([verified(text, problems[i // size].answer) for i, text in enumerate(said)])
    advantage = advantages_of(rewards.view(prompts, size)).flatten()
    loss = grpo_loss(log_probs(policy.model, tokens, mask), logp_old, advantage, mask)
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    optimiser.step()
    return rewards.mean().item(), loss.item()


# %% [markdown]
# Forty-odd lines, counting yours. Thirty steps on a copy of the pupil:

# %%
mine = pupil.copy()
optimiser = torch.optim.AdamW(mine.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.0)
rng = torch.Generator().manual_seed(0)
started = time.perf_counter()
right, losses = np.array([grpo_step(mine, optimiser, number, rng) for number in range(30)]).T
print(f"{30 * 16 * 8 / (time.perf_counter() - started):.0f} answers a second")

fig, ax = plt.subplots(figsize=(7, 3.2))
ax.plot(range(1, 31), right, marker="o", label="share of right answers")
ax.plot(range(1, 31), losses, marker="s", markevery=3, label="loss")
ax.axhline(0.3, color="#777777", linewidth=1, linestyle=":", label="the careless teacher")
ax.set(xlabel="step (16 questions × 8 answers each)", ylabel="share, loss", ylim=(-0.1, 1))
ax.set_title("Thirty steps, written by hand")
ax.legend(loc=(0.65, 0.16))
plots.show(
    fig,
    alt=f"The share of right answers rises from {right[:3].mean():.2f} to {right[-3:].mean():.2f} "
    "in thirty steps; the loss stays at zero.",
    caption="It learns from right and wrong alone. The loss does not move at all; section 7 says why.",
)

# %% [markdown]
# ## 5 The same, exactly, as the package's
#
# It goes up. *A curve that goes up is not a test*: a wrong step climbs too, as long as it points roughly uphill. So we compare with the
# package, on the same answers: loss, and gradient with respect to every parameter.
#
# One thing to watch. On fresh answers both losses are zero, and comparing zeros proves nothing. So we take answers drawn by the
# *untrained* pupil and ask for the loss of the one we have just trained, `mine`, where ratios are far from 1 and many tokens are clipped.

# %%
problems = [task.problem(i, seed=2) for i in range(16)]
batch = sample.rollout(sample.LocalEngine(pupil), task, tokenizer, problems, group_size=8, seed=3)


def gradient(loss):
    mine.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in mine.parameters()])


# %%
advantage = advantages_of(batch.outcome.view(16, 8)).flatten()
mask = mask_of(batch.tokens, int(batch.prompt_length[0]), END)
loss_by_hand = grpo_loss(log_probs(mine.model, batch.tokens, mask), batch.logp_old, advantage, mask)
prepared = objective.prepare(recipes.grpo, batch)
theirs, seen = objective.loss(recipes.grpo, prepared, mine.evaluate(batch).logp)
ours_gradient, their_gradient = gradient(loss_by_hand), gradient(theirs)
apart = ((ours_gradient - their_gradient).norm() / their_gradient.norm()).item()
print(f"loss by hand {loss_by_hand.item():.6f}, package {theirs.item():.6f}")
print(f"gradients of {len(ours_gradient):,} numbers differ by {apart:.1e} of their length")
print(f"ratios up to {seen['ratio_max']:.2f}; {seen['clip_share']:.0%} of the tokens are clipped")
assert torch.equal(mask, batch.mask)
assert abs(loss_by_hand.item() - theirs.item()) < 1e-5 and apart < 1e-3

# %% [markdown]
# Equal to rounding: from here on we use the package's. It reads each prompt once for its whole group, keeps what it has computed for earlier
# tokens, and skips answers without credit. What it computes is what you wrote.
#
# ## 6 Live
#
# A fresh copy of the pupil, 64 questions a step, eight answers each. Watch three lines: the share of right answers among those it draws, the
# share of dead groups, and the loss. Press *Stop* when you have seen enough; the rest of the chapter uses whatever you have.

# %%
student = pupil.copy()
live = plots.LivePanel(
    {"success": "right answers", "zero_advantage": "dead groups", "loss": "loss"},
    limits={"zero_advantage": (0, 1), "loss": (-0.5, 0.5)},
)
records = []
for record in live.watch(wb.train(student, task, "grpo", steps=100, seed=0, prompts=64)):
    records.append(record)
answers, seconds = 512 * len(records), sum(record.seconds for record in records)
print(f"{answers / seconds:.0f} answers a second")

# %%
for name, policy in (("before", pupil), ("after", student)):
    drawn = wb.evaluate(policy, task, problems=512, temperature=1.0)
    likeliest = wb.evaluate(policy, task, problems=512)
    row = ""
    for how, found in (("drawn", drawn), ("likeliest", likeliest)):
        row += f"   {how} {found.success:.3f} [{found.low:.3f}, {found.high:.3f}]"
    print(f"{name:7}{row}")

# %% [markdown]
# Those are 512 test problems that it was never asked in training (in brackets, 95 % intervals over problems), once with answers *drawn* from
# the model, once with its *likeliest* answer. Of the drawn ones a little over a third were right before, and nearly all are now, after
# nothing but verdicts; the teacher had managed three in ten. So the answer to this chapter's question is yes. But look at the
# other column before you celebrate; we come back to it in section 8.
#
# ### Play: pause, and look at a group
#
# Pick a step of the run you have just seen. You get one group of that step, its answers painted with what they were credited with. (Where the
# step had one, a group that was alive.)

# %%
def look(step=1):
    group = records[step - 1].rollouts
    said = [row["turns"][0]["text"].removesuffix("<E>") for row in group]
    texts = [[row["prompt"], *text, "<E>"] for row, text in zip(group, said)]
    mask = [[False] + [True] * (len(row) - 1) for row in texts]
    value = [[row["turns"][0]["advantage"]] * len(text) for row, text in zip(group, texts)]
    names = ["right" if row["outcome"] else "wrong" for row in group]
    plots.tokens(texts, value, mask=mask, names=names, label="advantage", limit=2.5)


plots.play(look, step=IntSlider(value=1, min=1, max=len(records), description="step"))

# %% [markdown]
# Early on there is a bit of everything. Later most groups are of one mind, and the rare wrong answer gets all the blame.
#
# The paint is what an answer was *credited with*. What happens to it then is another matter, since all answers share one set of weights.
# So here is the other view: the same kind of picture for a batch of the untrained pupil, painted with **how much the log-probability of
# each token changed** after one step of training on this batch.

# %%
pushed = pupil.copy()
before = pushed.evaluate(batch).logp.detach()
push = torch.optim.AdamW(pushed.parameters(), lr=3e-4, weight_decay=0.0)
objective.loss(recipes.grpo, prepared, pushed.evaluate(batch).logp)[0].backward()
push.step()
change = pushed.evaluate(batch).logp.detach() - before
risen, is_right = change.sum(1) > 0, batch.outcome == 1
print(f"likelier now: {risen[is_right].float().mean():.0%} of the right answers", end=", ")
print(f"{risen[~is_right].float().mean():.0%} of the wrong ones")

# %%
PAINTS = {"change of log-probability": (change, 0.5), "advantage": (prepared.advantage, 2.5)}


def look_at_push(question=0, paint="change of log-probability"):
    rows = (batch.group == question).nonzero()[:, 0]
    value, limit = PAINTS[paint]
    show_rows(batch.select(rows), value[rows].tolist(), paint, limit)


plots.play(look_at_push, question=IntSlider(value=0, min=0, max=15), paint=Dropdown(options=list(PAINTS)))

# %% [markdown]
# Right answers rise, most wrong ones fall, but look at single tokens. *A wrong answer whose first digit is right is a mixed case*: GRPO
# blames that digit along with the rest, and the right answers of the group, which begin with the same digit, pull it up again. Some
# wrong answers even rise as a whole, carried along by answers to other questions: there is one model, and what is learned from one question
# spills over to the others. (Deciding *which token* deserved the blame is the theme of Part IV.)
#
# ## 7 The surprise: the loss says nothing; dead groups say a lot
#
# You may have waited for the loss to go down. It cannot. On fresh answers every ratio is 1, so $o_{i,t} = A_i$ for every token, the mean over
# an answer's tokens is $A_i$, and the advantages of a group add up to zero. **The loss of GRPO is zero at every first step on a batch,
# however good or bad the policy is.** Its *gradient* is not. The loss is a handle to pull the gradient out with, and no measure of anything.
#
# What does say something is the share of dead groups. In a group that is all right or all wrong no answer is better than another: it
# cost as much to draw as any other, and teaches nothing.
#
# ## Exercise 5: dead groups · ●●○○○ · 5 min
#
# A question is answered correctly with probability $p$. How likely is it that a group of $G$ answers to it is dead?

# %%
def dead_share(p, size):
    """p: chance of a right answer, size: G -> the probability that the group is dead."""
    # solution
    return p**size + (1 - p) ** size
    # end solution
    # stub: return None  # your code here (one line)


# %%
dead_of = check("11.dead_share", dead_share).function

# %% [markdown]
# Check it. Ask the pupil, and the student that came out of the live run, 64 questions 64 times each: that estimates $p$ for each question.
# Your formula, averaged over the questions, predicts the share of dead groups of eight. Then ask again, and count.

# %%
asked, means = [task.problem(i, seed=5) for i in range(64)], []
fig, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
for ax, (name, policy) in zip(axes, (("before GRPO", pupil), ("after", student))):
    engine = sample.LocalEngine(policy)
    first, second = (
        sample.rollout(engine, task, tokenizer, asked, group_size=64, seed=seed).outcome for seed in (6, 7)
    )
    solved, groups = first.view(64, 64).mean(1), second.view(512, 8)
    dead = (groups.std(1) == 0).float().mean()
    print(f"{name}: predicted {dead_of(solved, 8).mean():.3f}, counted {dead:.3f} of 512 groups")
    means.append(solved.mean().item())
    ax.hist(solved, bins=np.linspace(0, 1, 17), color=plots.COLORS[0])
    ax.set(title=name, xlabel="share of 64 answers that are right", ylabel="questions")
plots.show(
    fig,
    alt="Histograms of how often each of 64 questions is answered correctly: "
    f"{means[0]:.0%} of the time on average before GRPO, {means[1]:.0%} after it.",
    caption="Before, every question is answered now this way, now that, and few groups are dead. "
    "Afterwards nearly all are settled.",
)

# %% [markdown]
# So dead groups tell you where a run stands, if you read them together with the success. *Many dead, success high*: it is finished, and you
# are paying for samples that teach nothing. *Many dead, success low*: it is stuck, and the questions are too hard. *Few dead*: every sample
# is at work, whatever the loss says. Chapter 13 turns this into a way of choosing questions.
#
# ## 8 What did it learn?
#
# Now the other column. The pupil's *likeliest* answer was right before GRPO had begun. It could add all along! The careless teacher had made
# it *unsure*, not ignorant: its mistakes were scattered, so the right answer remained the most frequent one. GRPO taught the pupil to say
# what it already held most likely.
#
# Is that all GRPO can do? For a fair comparison take another pupil with the same score, about three in ten, who got there otherwise: no
# careless teacher, but sent away in the middle of the flawless lessons, when it had half understood. Same size, same GRPO, same number of
# steps. Eight of each, from eight random starts, recorded.

# %%
record = json.loads((data / "addition_grpo.json").read_text())
curves = {name: np.array([run["success"] for run in runs]) for name, runs in record["arms"].items()}
axes = {"xlabel": "step of GRPO", "ylabel": "share of right answers drawn"}
fig = plots.learning_curves(curves, band="t", runs=True, limits=(0, 1), **axes)
plots.show(
    fig,
    plots.describe_curves(curves),
    caption=f"Thin lines: seeds. Bands: 95 % intervals for the mean. Made with {record['made with']}.",
)

# %%
for name, runs in record["arms"].items():
    for measure in ("sampled", "greedy", "any of 8"):
        row = f"{name:12} {measure:9}"
        for when in ("before", "after"):
            found = stats.t_interval([run[when][measure] for run in runs])
            row += f"   {when} {found.estimate:.2f} [{found.low:.2f}, {min(found.high, 1):.2f}]"
        gain = stats.t_interval([run["after"][measure] - run["before"][measure] for run in runs])
        print(f"{row}   gained {gain.estimate:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]")
over = sum(run["after"]["greedy"] > 0.95 for run in record["arms"]["careless"])
slowest = max(sum(run["seconds"]) for run in record["arms"]["careless"])
print(f"likeliest answer right on over 95 % of the test problems: {over} of 8 careless pupils,")
print(f"each taught from random weights in at most {slowest} seconds of one core")

# %% [markdown]
# (Shares of 256 test problems, means over eight seeds with 95 % intervals. *sampled*: an answer drawn; *greedy*: the likeliest answer; *any of 8*: at
# least one of eight drawn answers is right.)
#
# Both pupils began with about three right answers in ten. In 150 steps the careless ones came to 0.95, the half-taught ones to 0.56. And their gains
# are of different kinds:
#
# - The *careless* pupils gained 0.71 on answers drawn, and 0.06 on the likeliest answer, which may well be nothing (the interval reaches zero). They
#   became sure of what they knew. That is fast: most of it had happened by step thirty.
# - The *half-taught* pupils gained 0.22 on answers drawn and 0.23 on the likeliest one. They did learn something new, from verdicts alone. That is
#   slow, and after 150 steps it is far from finished.
#
# **Nothing on the live panel told the two apart at the start**: the success was much the same (if anything the careless had less), dead groups were
# few in both, the loss was zero; even *any of 8* was the same. The likeliest answer did. So before you celebrate a curve that shoots up, look at what the model could do already. For large models
# just this is debated: how much of what reinforcement learning "teaches" was there before (Yue et al., 2025, below).
#
# Two warnings about our own experiment. The teacher's mistakes were scattered by construction; had it always made the *same* mistake, the wrong
# answer would be the likeliest, and no vote among the pupil's own answers would find the right one. And the sums have two digits, the model 107
# thousand parameters: a demonstration of a mechanism, not a measurement of language models.
#
# ## What the papers had that we left out
#
# - *A penalty for leaving the starting point* (KL), in DeepSeekMath's GRPO; see chapter 09.
# - *Several updates from one batch.* Ours takes one, so no ratio ever leaves 1 and the clip never acts, but for the comparison in section 5.
# - *Rewards for the form* of an answer (tags, a boxed result) next to the verdict. Chapter 09 showed what small rewards do to a standard deviation.
# - *Length.* Our answers have three or four tokens, so how to average them hardly matters. With thousands of tokens it does: chapter 12.
# - *Process rewards*, which judge the steps and not only the end: chapters 14 and 16.
#
# ## Where this returns
#
# Chapter 12 replaces one part of this step at a time and gets the other methods. Chapter 13 spends no samples on dead groups. Chapter 14 shows what
# happens when the verifier can be fooled. In chapter 16 the pupil may use a tool, and the question becomes which *turn* deserved the credit.
#
# ## Further reading
#
# - Z. Shao et al., *DeepSeekMath* (GRPO, section 4), [arXiv 2402.03300](https://arxiv.org/abs/2402.03300).
# - N. Lambert et al., *Tülu 3* (the name "reinforcement learning with verifiable rewards"), [arXiv 2411.15124](https://arxiv.org/abs/2411.15124).
# - DeepSeek-AI, *DeepSeek-R1*, [arXiv 2501.12948](https://arxiv.org/abs/2501.12948).
# - Z. Liu et al., *Understanding R1-Zero-like training: a critical perspective* (Dr. GRPO; length and difficulty),
#   [arXiv 2503.20783](https://arxiv.org/abs/2503.20783).
# - Q. Yu et al., *DAPO* (dead groups drawn again; the average over tokens), [arXiv 2503.14476](https://arxiv.org/abs/2503.14476).
# - Y. Yue et al., *Does reinforcement learning really incentivize reasoning capacity in LLMs beyond the base model?*,
#   [arXiv 2504.13837](https://arxiv.org/abs/2504.13837).
