# %% [markdown]
# # 10 · A tiny language model
#
# **The question.** What is the smallest thing that deserves the name *language model*?
#
# **You will be able to**
# - turn text into ids and back;
# - write the whole forward pass of a modern language model in about forty lines (embedding, normalisation, rotary positions,
#   attention, feed-forward) and prove it right;
# - say exactly what such a model is trained on, and avoid a bug that many home-made training loops have;
# - draw text from it, and look inside while it answers.
#
# **Time.** 75 minutes of yours, about a minute of the computer's.
#
# **You need.** Python, a little PyTorch (tensors, matrix products, softmax), and what a probability is. Nothing from earlier
# chapters.

# %%
import json
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from ipywidgets import Dropdown, FloatSlider, IntSlider

import workbench as wb
from workbench import models, plots, sample, stats, tasks
from workbench.course import check

plots.style()

# %% [markdown]
# ## A table that continues text
#
# A language model reads the beginning of a text and says how probable every possible next symbol is. Draw one of them, append it, ask
# again: it writes.
#
# Ours shall learn to answer products and sums of two-digit numbers. It need not do them in its head, for it has a calculator with a
# display of three digits. Here is how somebody who knows the trick goes about it:

# %%
task = tasks.get("calculator", operations=(1, 1), malformed=0.0)


def dialogue(problem):
    """The flawless dialogue about one problem, as text."""
    [(call, result)] = problem.steps
    return f"<U>{problem.prompt}<A><T>{call}</T><E><R>{result}</R><A>{problem.answer}<E>"


texts = [dialogue(task.problem(i)) for i in range(2000)]
texts[:4]

# %% [markdown]
# `<U>` says "now the user speaks", `<A>` "now the assistant", and `<E>` ends the assistant's turn. What stands between `<T>` and `</T>`
# goes to the calculator, whose reply comes back between `<R>` and `</R>`. (It drops all but the last three digits: 37*45 gives 665.)
#
# The smallest language model I can think of is a table: count how often each symbol follows each other one.

# %%
symbols = ["<U>", "<A>", "<T>", "</T>", "<E>", "<R>", "</R>", *"0123456789+-*="]
place = {symbol: i for i, symbol in enumerate(symbols)}
tokenizer = models.make_tokenizer()  # cuts a text into symbols; soon we write it ourselves

counts = np.zeros((len(symbols), len(symbols)))
for text in texts:
    written = tokenizer.tokenize(text)
    for before, after in pairwise(written):
        counts[place[before], place[after]] += 1
table = counts / counts.sum(1, keepdims=True)

# %%
fig, ax = plt.subplots(figsize=(6.6, 5.2))
image = ax.imshow(table, cmap="cividis", vmin=0, vmax=1)
ax.set_xticks(range(len(symbols)), symbols, rotation=90)
ax.set_yticks(range(len(symbols)), symbols)
ax.grid(False)
ax.set(xlabel="next symbol", ylabel="symbol before it")
fig.colorbar(image, label="probability")
plots.show(
    fig,
    alt="A table of the probability of the next symbol given the one before it. After = always comes <A>, after "
    "</T> always <E>; after a digit almost anything can come.",
    caption="Each row is one distribution. Yellow: certain; the table knows the grammar of a dialogue. The rows of the "
    "digits are evenly dark: of numbers it knows nothing.",
)

# %% [markdown]
# Let it speak. We give it the question up to `<A>`, and draw symbols until its turn ends.

# %%
def table_speaks(rng):
    """Draw from <A> on, at most 30 characters. The question plays no part: the table sees one symbol back."""
    turn, symbol = "", "<A>"
    while symbol != "<E>" and len(turn) < 30:
        symbol = str(rng.choice(symbols, p=table[place[symbol]]))
        turn += symbol
    return turn


rng = wb.seeding.generator(0, "table")
turns = [table_speaks(rng) for _ in range(2000)]
hits = np.mean([turn == f"<T>{task.problem(i).steps[0][0]}</T><E>" for i, turn in enumerate(turns)])
print("Asked 37*45=, it said:", *turns[:4], sep="\n   ")
print(f"The right call, in 2000 questions: {hits:.2%}")

# %% [markdown]
# It speaks the language and says nothing, because when it should write the first digit of the call it sees `<T>` and has forgotten the
# question. **Everything in this chapter is about looking back.** A bigger table is no way out: with a row for every possible question it
# would need to have seen every question. We want a function with few numbers in it that reads *all* of what came before. That function is
# the transformer, and we now write all of it.
#
# ## From text to ids
#
# A model computes with numbers, so each symbol gets one, its **id**. Our vocabulary has 128 entries: every character on a keyboard, and
# the tags. A tag is *one* token, not three characters: so the model needs a single decision to end its turn. (Big models have a hundred
# thousand tokens, most of them pieces of words. That makes texts shorter; nothing else below would change.)

# %%
vocabulary = tokenizer.get_vocab()  # a dictionary from token to id
tags = ["<P>", "<U>", "<A>", "<E>", "<T>", "</T>", "<R>", "</R>"]  # <P> fills up short rows; we will not need it
{token: vocabulary[token] for token in [*tags, "0", "1", "9", "+", "="]}

# %% [markdown]
# ## Exercise 1: encode · ●○○○○ · 8 min
#
# Turn a text into a list of ids. Walk through it from the left: where it goes on with a tag, take the whole tag, else one character.

# %%
def encode(text, vocabulary):
    """text -> list of ids. The tags in `tags` are one token each, everything else is one token a character."""
    # solution
    ids = []
    while text:
        token = next((tag for tag in tags if text.startswith(tag)), text[0])
        ids.append(vocabulary[token])
        text = text[len(token) :]
    return ids
    # end solution
    # stub: return None  # your code here (about five lines)


# %%
encode = check("10.encode", encode).function

# %% [markdown]
# The package's tokenizer is an ordinary Hugging Face tokenizer that does the same. The two must agree, and going there and back must lose
# nothing.

# %%
for text in texts[:200]:
    assert encode(text, vocabulary) == models.encode(tokenizer, text)
    assert models.decode(tokenizer, encode(text, vocabulary)) == text
print(texts[0], "→", encode(texts[0], vocabulary))

# %% [markdown]
# ## The numbers inside
#
# Here is a model that has learned nothing yet. Its architecture is that of Qwen3, a family of open models; only its sizes are small. `w`
# holds its **parameters**, the numbers that training may change. (`w` looks at the model's own memory: when the model is trained, `w`
# will be, too.)

# %%
policy = models.tiny("0.1m", seed=0)
w = {name: parameter.detach() for name, parameter in policy.model.named_parameters()}
for name in w:
    if "layers.1." not in name:
        print(f"{name:45} {tuple(w[name].shape)}")
print(f"... and the same again for layer 1: {sum(p.numel() for p in w.values()):,} numbers in all")

# %%
config = policy.config
E, V = config.hidden_size, config.vocab_size
H, K, D = config.num_attention_heads, config.num_key_value_heads, config.head_dim
theta = config.rope_parameters["rope_theta"]
print(f"width E = {E}, vocabulary V = {V}, heads H = {H}, key-value heads K = {K}, size of a head D = {D}, {theta = :g}")

# %% [markdown]
# Read the list from top to bottom and you have the plan. Every token becomes a row of 64 numbers, its **state**. Each of two layers
# *adds* two things to the state: what **attention** fetched from earlier tokens, then what a small **feed-forward** network made of the
# result. At the end the state is compared with the embedding of each of the 128 tokens; these 128 scores, the **logits**, become the
# probabilities of what comes next.
#
#     ids ─► embedding ─► x ─┬──────────────────► + ─┬──────────────────────► + ─►  another layer  ─► norm ─► logits
#                            └► norm ─► attention ─┘ └► norm ─► feed-forward ─┘
#
# Only attention moves anything *between* tokens. All the rest treats each token by itself.
#
# ### Normalisation
#
# Since layers add and add, states grow. So each step reads its input divided by its root mean square (hence *RMSNorm*), times one
# learned weight per dimension:
#
# $$\mathrm{norm}(x) = g \odot \frac{x}{\sqrt{\frac1E \sum_i x_i^2 + \epsilon}}$$

# %%
def rms_norm(x, weight, eps=config.rms_norm_eps):
    """x [...,E], weight [E] -> [...,E]."""
    return weight * x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()


x = torch.randn(5, E)
theirs = torch.nn.functional.rms_norm(x, (E,), eps=config.rms_norm_eps)
assert torch.allclose(rms_norm(x, torch.ones(E)), theirs, atol=1e-6)

# %% [markdown]
# ### Positions, as the hands of clocks
#
# Attention compares tokens by what they contain. But `37` and `73` contain the same digits, so it should also matter how far away a
# token is. *Rotary positions* do this by turning. Take the 32 numbers of a head as 16 pairs; each pair is the tip of a hand on a clock.
# For every token further on in the text, hand $i$ is turned by another $\theta^{-i/16}$ radians: the first hand by a whole radian, the
# last by so little that it takes a book to notice. At position $p$:
#
# $$a' = a \cos \alpha - b \sin \alpha, \qquad b' = a \sin \alpha + b \cos \alpha, \qquad \alpha = p\,\theta^{-i/16}$$
#
# Why does that help? Attention compares two vectors by their dot product, and the dot product of two hands depends only on the *angle
# between them*. Turn both by the same angle and nothing changes. What counts is **how far apart** two tokens are, not where they stand.
#
# ## Exercise 2: rotate · ●●●○○ · 15 min
#
# One detail is a convention that you have to know. In Qwen3 a pair is not two neighbours: dimension $i$ goes with dimension $i + D/2$, so
# the first half of the vector holds all the $a$ and the second half all the $b$.

# %%
def rotate(x, positions, theta):
    """x [...,T,D], positions [T] -> [...,T,D]: each pair (x[i], x[i + D/2]) turned by positions * theta**(-i / (D/2))."""
    # solution
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    speed = theta ** (-torch.arange(half) / half)  # [D/2] radians a token
    angle = positions[:, None] * speed  # [T,D/2]
    return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)
    # end solution
    # stub: return None  # your code here (about five lines: halves, angles, turn, torch.cat)


# %%
rotate = check("10.rotate", rotate).function

# %% [markdown]
# Did it keep its promise? Here is the score of one query against one key, over the distance between them, with the query at three
# places in the text.

# %%
query, key = torch.randn(2, 1, D, generator=torch.Generator().manual_seed(3))
distance = torch.arange(40)
fig, ax = plt.subplots(figsize=(8.5, 3))
for start, width, color in ((40, 7, "#cfe3f1"), (100, 3.5, "#56b4e9"), (400, 1.2, "#0b3a5c")):
    q, k = rotate(query, torch.tensor([start]), theta), rotate(key.expand(40, D), start - distance, theta)
    label = f"query at position {start}"
    ax.plot(distance, (k @ q[0]) / D**0.5, linewidth=width, color=color, linestyle="-", label=label)
ax.set(xlabel="distance from the key to the query (tokens)", ylabel="score")
ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
plots.show(
    fig,
    alt="The score of one query with one key over their distance, for queries at positions 40, 100 and 400. The three "
    "curves lie exactly on top of each other; they go up and down with the distance.",
    caption="Three curves, one inside the other: the score depends on the distance, not on where in the text one is.",
)

# %% [markdown]
# ### Attention: looking back
#
# Each token asks a question, its **query**. Each token also has a **key** by which it is found, and a **value** that is read from it.
# The query of token $t$ is compared with the keys, softmax turns the scores into weights that sum to 1, and the token receives the
# weighted mean of the values:
#
# $$\mathrm{look}_{ts} = \operatorname{softmax}_s\Big(\frac{q_t \cdot k_s}{\sqrt D}\Big), \qquad \mathrm{found}_t = \sum_s \mathrm{look}_{ts}\, v_s$$
#
# Which $s$ take part? In training the whole text is there at once, and a model that could look ahead would copy the token that it is
# asked to predict, and learn nothing. The **causal mask** says who may look at whom.
#
# ## Exercise 3: causal mask · ●○○○○ · 5 min
#
# A token may look at itself and at everything before it. The prediction of the next token is made *from* token $t$, so $t$ itself is
# no secret.

# %%
def causal_mask(length):
    """-> bool [T,T]: entry [t,s] is True where token t may look at token s."""
    # solution
    return torch.ones(length, length, dtype=torch.bool).tril()
    # end solution
    # stub: return None  # your code here (one line; try torch.tril, or compare two torch.arange)


# %%
causal_mask = check("10.causal_mask", causal_mask).function

# %% [markdown]
# Now attention itself. It happens in several **heads** side by side, here two, each with queries of its own, so a token can look at two
# places at once. To save memory, groups of heads share their keys and values (*grouped-query attention*): here both heads share one set,
# in Qwen3-0.6B sixteen heads share eight. And in Qwen3 queries and keys are normalised, so that no score explodes.

# %%
def attention(x, w, layer, positions):
    """x [T,E] -> what attention adds to it [T,E], and where each head looked [H,T,T]."""
    T, name = len(x), f"model.layers.{layer}.self_attn."
    q = (x @ w[name + "q_proj.weight"].T).view(T, H, D).transpose(0, 1)  # [H,T,D]
    k = (x @ w[name + "k_proj.weight"].T).view(T, K, D).transpose(0, 1)  # [K,T,D]
    v = (x @ w[name + "v_proj.weight"].T).view(T, K, D).transpose(0, 1)
    q = rotate(rms_norm(q, w[name + "q_norm.weight"]), positions, theta)
    k = rotate(rms_norm(k, w[name + "k_norm.weight"]), positions, theta)
    k, v = k.repeat_interleave(H // K, 0), v.repeat_interleave(H // K, 0)  # neighbouring heads share
    scores = (q @ k.transpose(1, 2) / D**0.5).masked_fill(~causal_mask(T), -torch.inf)
    look = scores.softmax(-1)
    found = (look @ v).transpose(0, 1).reshape(T, H * D)  # the heads side by side
    return found @ w[name + "o_proj.weight"].T, look


# %% [markdown]
# ### Feed-forward: making something of what was found
#
# Each token by itself: 64 numbers become 192, are multiplied by 192 **gates**, and become 64 again. A gate is $\mathrm{silu}(z) =
# z \cdot \mathrm{sigmoid}(z)$: shut for negative $z$, open for positive. The whole is called *SwiGLU*.

# %%
def feed_forward(x, w, layer):
    """x [T,E] -> what the feed-forward network adds to it [T,E]."""
    name = f"model.layers.{layer}.mlp."
    gate = torch.nn.functional.silu(x @ w[name + "gate_proj.weight"].T)
    return (gate * (x @ w[name + "up_proj.weight"].T)) @ w[name + "down_proj.weight"].T


# %% [markdown]
# ### All of it
#
# The last line deserves a look: the logits are dot products with the *embeddings*. The table that turns ids into states also turns states
# into ids (*tied* embeddings).

# %%
@torch.no_grad()
def forward(ids, w, layers=config.num_hidden_layers, turning=1):
    """A list of T ids -> logits [T,V], and where each layer looked: a list of [H,T,T]. With turning=0 no hand turns."""
    x, looks = w["model.embed_tokens.weight"][torch.tensor(ids)], []
    positions = turning * torch.arange(len(ids))
    for layer in range(layers):
        name = f"model.layers.{layer}."
        found, look = attention(rms_norm(x, w[name + "input_layernorm.weight"]), w, layer, positions)
        x = x + found
        x = x + feed_forward(rms_norm(x, w[name + "post_attention_layernorm.weight"]), w, layer)
        looks.append(look)
    return rms_norm(x, w["model.norm.weight"]) @ w["model.embed_tokens.weight"].T, looks


# %% [markdown]
# That is a language model, and not a caricature of one: put the numbers of Qwen3-0.6B into `w` and its sizes into `H`, `K`, `D` and
# `theta`, and these lines will run it. Are they right? The implementation in `transformers` is used by very many people; ours must give
# the same logits, at every position.

# %%
worst = 0.0
for text in texts[:50]:
    ids = encode(text, vocabulary)
    with torch.no_grad():
        library = policy.model(torch.tensor([ids])).logits[0]
    worst = max(worst, float((forward(ids, w)[0] - library).abs().max()))
print(f"Largest difference between our logits and the library's: {worst:.1e}")
assert worst < 1e-4

# %% [markdown]
# To see how easily one is wrong, leave out the division by `D**0.5` and run these cells again. Nothing crashes, every shape is right, and
# the text it writes looks as before; it is just not this model any more. This is why we compare with something exact.
#
# ## What it is trained on
#
# After every token the model says what should come next; the text says what did. Training makes what did come more probable, by making
# the mean of its *negative log-probability* smaller:
#
# $$\mathrm{loss} = -\frac{1}{\sum_t m_t}\sum_t m_t \log p(\mathrm{token}_t \mid \mathrm{token}_0 \ldots \mathrm{token}_{t-1})$$
#
# $m_t$ is the **mask**: 1 on what the assistant says, 0 on the question and on the calculator's replies, which nobody asks the model to
# write.

# %%
def spoken(ids):
    """ids -> bool [T], True on the assistant's tokens: after <A>, up to and including <E>."""
    mask, mine = [], False
    for token in ids:
        mask.append(mine)
        mine = token == vocabulary["<A>"] or (mine and token != vocabulary["<E>"])
    return torch.tensor(mask)


ids = encode(texts[0], vocabulary)
print(texts[0])
print("".join(("^" if mine else ".") * len(t) for t, mine in zip(tokenizer.tokenize(texts[0]), spoken(ids))))

# %% [markdown]
# ## Exercise 4: the loss · ●●○○○ · 12 min
#
# A common bug of home-made training loops hides in this formula. Row $t$ of the logits was computed *knowing* token $t$; it
# predicts token $t+1$. So **token $t$ is judged by row $t-1$**, and the mask goes with the token that is judged.

# %%
def next_token_loss(logits, ids, mask):
    """logits [T,V], ids [T], mask [T] bool, True on the assistant's tokens -> the mean of -log p over these tokens."""
    # solution
    logp = logits.log_softmax(-1)[:-1]  # row t-1 judges token t
    chosen = logp.gather(1, ids[1:, None])[:, 0]
    return -chosen[mask[1:]].mean()
    # end solution
    # stub: return None  # your code here (about three lines)


# %%
next_token_loss = check("10.next_token_loss", next_token_loss).function

# %% [markdown]
# The package has its own way to the same number: `evaluate` gives the log-probability of every sampled token of a batch. And there is a
# number to expect: who knows nothing gives each of 128 tokens a probability of 1/128, so the loss should be about log 128.

# %%
problem = task.problem(0)
demonstration = task.demonstration(problem, wb.seeding.generator(0, "demonstration"))
batch = wb.Batch.from_dialogues([sample.encode_demonstration(problem.prompt, demonstration, tokenizer)])
assert batch.tokens[0].tolist() == ids and batch.mask[0].tolist() == spoken(ids).tolist()

ours = float(next_token_loss(forward(ids, w)[0], torch.tensor(ids), spoken(ids)))
theirs = -policy.evaluate(batch).logp.sum().item() / int(batch.mask.sum())
print(f"our loss {ours:.5f} · the package's {theirs:.5f} · log 128 = {np.log(128):.5f}")
assert abs(ours - theirs) < 1e-4

# %% [markdown]
# One small difference: we find the assistant's tokens by looking for tags. The package *remembers who produced each token*. That is the
# only safe way once a model writes by itself, since a model can also write a tag where none belongs.
#
# ## A warm start, while you watch
#
# Training is a loop of three lines: compute the loss, ask PyTorch for its gradient, take a small step downhill. By hand, on a copy:

# %%
student = policy.copy()
optimiser = torch.optim.AdamW(student.parameters(), lr=4e-3)
for step, text in enumerate(texts[:30]):
    ids = torch.tensor(encode(text, vocabulary))
    loss = next_token_loss(student.model(ids[None]).logits[0], ids, spoken(ids.tolist()))
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    if step % 10 == 0 or step == 29:
        print(f"after {step:2} dialogues: loss {loss.item():.2f}")

# %% [markdown]
# Thirty dialogues teach it which symbols there are. For the rest we import: `wb.sft` (*supervised fine-tuning*) does the same with 32
# fresh dialogues a step. The right-hand panel asks 128 questions that are never used in training, and runs the calculator for real.
# Watch both panels. If you have seen enough, press Stop: the model keeps what it has learned.

# %%
live = plots.LivePanel(
    {"loss": "loss (nats per token)", "test_success": "success on test questions"},
    limits={"test_success": (0, 1)},
    smooth=1,
)
for _ in live.watch(wb.sft(policy, task, steps=150, error_rate=0.0, seed=0, evaluate_every=5)):
    pass

# %% [markdown]
# For a while all answers are wrong although the loss falls; then, within some fifty steps, most are right. A call has five
# symbols to copy and the answer up to three, and the answer counts only if *every* one of them is right: if each is right with
# probability 0.7, all eight are with probability 0.06. The loss sees each symbol improve; success sees their product.
#
# Is that luck of this seed? Here are eight, recorded on one thread of a CPU (`python data/one_call.py` remakes the file).

# %%
data = Path(wb.__file__).parents[1] / "data"
recorded = json.loads((data / "one_call.json").read_text())
curves = {"greedy": np.array(recorded["greedy"])}
fig = plots.learning_curves(
    curves, steps=recorded["steps"], ylabel="success on test questions", band="t", runs=True, limits=(0, 1)
)
plots.show(
    fig,
    plots.describe_curves(curves),
    caption="Eight models from different random weights, each a thin line. Success takes off in every one, but not at the same step.",
)

# %% [markdown]
# ## Drawing text
#
# The logits at the last position give one distribution. To write, draw from it. A **temperature** $\tau$ makes the draw bolder or
# safer: the *logits* are divided by $\tau$ before the softmax. At $\tau \to 0$ only the most probable token is left (*greedy*); a large
# $\tau$ makes all tokens equal.
#
# ## Exercise 5: temperature · ●○○○○ · 6 min

# %%
def tempered(logits, temperature):
    """logits [V] -> probabilities [V] at this temperature."""
    # solution
    return (logits / temperature).softmax(-1)
    # end solution
    # stub: return None  # your code here (one line)


# %%
tempered = check("10.tempered", tempered).function

# %% [markdown]
# Move the slider (with the mouse, or with the arrow keys). The model has just read `<U>37*45=<A><T>3`; what should come next?

# %%
logits = forward(encode("<U>37*45=<A><T>3", vocabulary), w)[0][-1]
top = logits.topk(12).indices


def draw_temperature(temperature):
    p = tempered(logits, temperature)
    fig, ax = plt.subplots(figsize=(7, 2.8))
    ax.bar([repr(token)[1:-1] for token in tokenizer.convert_ids_to_tokens(top.tolist())], p[top])
    ax.set(ylim=(0, 1), xlabel="next token", ylabel="probability", title=f"temperature {temperature:g}")
    best, rest = tokenizer.convert_ids_to_tokens(int(top[0])), float(1 - p[top].sum())
    alt = f"The most probable next token is {best} with {float(p[top[0]]):.0%}. Outside these twelve: {rest:.0%}."
    plots.show(fig, alt, caption=alt)


plots.play(draw_temperature, temperature=FloatSlider(value=1, min=0.25, max=5, step=0.25))

# %% [markdown]
# Now write. Drawing a turn is a loop around our own forward pass:

# %%
def speak(ids, temperature, stream, limit=task.max_tokens):
    """Draw one turn after `ids`: tokens until <E>, at most `limit`. Temperature 0 is greedy."""
    said = []
    while len(said) < limit and vocabulary["<E>"] not in said:
        logits = forward(ids + said, w)[0][-1]
        if temperature == 0:
            said.append(int(logits.argmax()))
        else:
            said.append(int(torch.multinomial(tempered(logits, temperature), 1, generator=stream)))
    return said


question = encode("<U>37*45=<A>", vocabulary)
stream = torch.Generator().manual_seed(0)
for temperature in (0, 1, 1, 1, 3):
    print(f"temperature {temperature}: {models.decode(tokenizer, speak(question, temperature, stream))}")

# %% [markdown]
# (`<16>` and its like are spare tags, in no dialogue so far: at temperature 3 anything goes.) The package's sampling engine writes for many questions at once, and keeps the keys and values of what has been read so that nothing is
# computed twice. Greedy, it must write exactly what we write, with exactly our log-probabilities.

# %%
engine = sample.LocalEngine(policy)
for problem in [task.problem(i, split="test") for i in range(8)]:
    ids = encode(f"<U>{problem.prompt}<A>", vocabulary)
    mine = speak(ids, 0, None)
    [theirs] = engine.start([ids], seed=0).sample([0], max_tokens=task.max_tokens, stop=[policy.eos], temperature=0)
    judging = forward(ids + mine, w)[0].log_softmax(-1)[len(ids) - 1 : -1]  # row t-1 judges token t
    logp = judging.gather(1, torch.tensor(mine)[:, None])[:, 0]
    assert mine == theirs.ids and torch.allclose(logp, torch.tensor(theirs.logps), atol=1e-4)
print("the same tokens, the same log-probabilities")

# %% [markdown]
# The rest of a dialogue is ours to arrange. When the model ends its turn, the task looks at it; the calculator's reply is appended, and
# the model goes on. Note what is *not* done: the ids that were drawn are never turned into text and back. They are appended, and stay.

# %%
def talk(problem, temperature=0, seed=0):
    """A whole dialogue: its ids, and the verdict of the task."""
    stream, episode = torch.Generator().manual_seed(seed), task.episode(problem)
    ids = encode(f"<U>{problem.prompt}<A>", vocabulary)
    for _ in range(task.max_turns):
        said = speak(ids, temperature, stream)
        ids += said
        reply = episode.step(models.decode(tokenizer, said).removesuffix("<E>"))
        if reply.done:
            break
        ids += encode(f"<R>{reply.text}</R><A>", vocabulary)
    return ids, reply.outcome


for number in range(3):
    ids, outcome = talk(task.problem(number, split="test"))
    print(models.decode(tokenizer, ids), "→", "right" if outcome else "wrong")

# %% [markdown]
# And how often is it right? Two ways to draw from the same model, on 256 questions that it has never seen:

# %%
for temperature, name in ((0.0, "greedy"), (1.0, "temperature 1")):
    score = wb.evaluate(policy, task, temperature=temperature)
    print(f"{name:14} {score.success:.0%} right (95 % interval, questions: {score.low:.0%} to {score.high:.0%})")

# %%
greedy, drawn = np.array(recorded["greedy"])[:, -1], np.array(recorded["sampled"])
for name, values in (("greedy", greedy), ("temperature 1", drawn)):
    found = stats.t_interval(values)
    high = min(1, found.high)
    print(f"8 seeds, {name:14} {found.estimate:.0%} right (95 % interval, seeds: {found.low:.0%} to {high:.0%})")

# %% [markdown]
# The same weights, two marks. The most probable token is nearly always the right one; but a few per thousand of the probability lie
# elsewhere, at each of a dozen tokens, and one slip spoils the answer. Keep this gap in mind: reinforcement learning (chapter 11) draws
# at temperature 1, because whoever never tries anything else finds nothing new, and some of what it gains is this gap closing.
#
# ## Looking inside
#
# Here is a flawless dialogue, as the model sees it. Point at a token, or step through with Tab: it shows how probable the model found
# the token just before it came, and what else it had in mind. Grey tokens are not the assistant's.

# %%
ids = encode(dialogue(task.problem(0, split="test")), vocabulary)
logits, looks = forward(ids, w)
chance = logits.softmax(-1)
names = [token.replace("\n", "⏎") for token in tokenizer.convert_ids_to_tokens(ids)]


def choices(p, count=3):
    best = p.topk(count)
    tokens = tokenizer.convert_ids_to_tokens(best.indices.tolist())
    return ", ".join(f"{token} {value:.1%}" for token, value in zip(tokens, best.values))


before = [1.0] + [float(chance[t - 1, ids[t]]) for t in range(1, len(ids))]
hints = [""] + [f"the model had in mind: {choices(chance[t - 1])}" for t in range(1, len(ids))]
mask = spoken(ids).tolist()
plots.tokens([names], [before], mask=[mask], names=["dialogue"], details=[hints], label="probability", limit=1)

# %% [markdown]
# And here is where it looks. First the second layer as a whole: row by row, the tokens of the call, and where each of them looks.

# %%
start, end = names.index("<T>"), names.index("</T>")
fig, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
for head, ax in enumerate(axes):
    image = ax.imshow(looks[1][head, start:end, : start + 1], cmap="cividis", vmin=0, vmax=1, aspect="auto")
    ax.set_xticks(range(start + 1), names[: start + 1])
    ax.set_yticks(range(end - start), names[start:end])
    ax.grid(False)
    ax.set(xlabel="token it looks at", title=f"layer 1, head {head}")
axes[0].set_ylabel("token that looks")
fig.colorbar(image, ax=axes, label="attention")
where = [names[int(t)] for t in looks[1][0, start:end].argmax(-1)]
plots.show(
    fig,
    alt=f"Attention of the tokens of the call to the question, in the two heads of layer 1. Head 0 looks most at: {' '.join(where)}.",
    caption="A bright diagonal through the question: <T> looks at the first digit, the first digit of the call looks at the "
    "second, and so on. Each token looks at what must be written next.",
)

# %% [markdown]
# Nobody programmed this pointer that moves through the question; it is what 4800 examples made of random numbers. Now look at any token,
# layer and head (the sliders answer to the arrow keys). Above: the attention of that token to all tokens so far. Below: what the model
# expects next. How does it know, at the end of the call, that it is time for `</T>`? And where does it take the answer from?

# %%
def draw_inside(token, layer, head):
    fig, (above, below) = plt.subplots(2, 1, figsize=(8, 4.6))
    look, p = looks[layer][head, token], chance[token]
    above.bar(range(len(ids)), look, color=["#de8f05" if s == token else "#0173b2" for s in range(len(ids))])
    above.set_xticks(range(len(ids)), names, fontsize=8)
    above.set(ylim=(0, 1), ylabel="attention", title=f"token {token}, {names[token]}, looks back (itself: orange)")
    best = p.topk(8)
    below.bar(tokenizer.convert_ids_to_tokens(best.indices.tolist()), best.values, color="#029e73")
    below.set(ylim=(0, 1), ylabel="probability", xlabel="next token")
    far = int(look.argmax())
    alt = f"Token {token}, {names[token]}, in layer {layer}, head {head}, looks most at token {far}, {names[far]} "
    alt += f"({float(look[far]):.0%}). Expected next: {choices(p)}."
    plots.show(fig, alt, caption=alt)


token = IntSlider(start, 0, len(ids) - 1)
plots.play(draw_inside, token=token, layer=Dropdown(options=[0, 1], value=1), head=[0, 1])

# %% [markdown]
# ## What it cannot do
#
# It has seen sums and products of two-digit numbers, and nothing else. Ask for more:

# %%
for question in ("37*45=", "7*8=", "123*45=", "12+34+56="):
    said = models.decode(tokenizer, speak(encode(f"<U>{question}<A>", vocabulary), 0, None))
    print(f"{question:10} {said}")

# %% [markdown]
# It has not understood what a number is. It has learned to copy questions that look like the ones it has seen. Which leads to a question
# about how it finds its place.
#
# ## A surprise: must a model know where things stand?
#
# One would think that copying needs positions: "the third letter" means nothing to somebody who sees a heap of letters. We can take the
# positions away (`turning=0`: no hand turns) and ask what is left. Here are two questions that consist of the same tokens in another
# order. How much do the model's expectations for the next token differ?

# %%
one, other = encode("<U>37*45=", vocabulary), encode("<U>54*73=", vocabulary)
for layers in (1, 2):
    for turning in (1, 0):
        gap = forward(one, w, layers, turning)[0][-1] - forward(other, w, layers, turning)[0][-1]
        print(f"layers: {layers}, {'with' if turning else 'without'} positions: {gap.abs().max():.6f}")

# %% [markdown]
# With one layer and no positions the difference is zero (but for rounding): the last token sees a heap. But *with two layers the order
# is back*, although nobody told the model about positions. The causal mask did: in the first layer each token saw what was before it, and only
# that, so each has seen a different heap; the second layer can tell them apart.
#
# Is that enough to copy? We trained the model of this chapter to copy strings of 4 to 10 random letters, `qwert=qwert`, in four variants:
# with rotary positions; with a *table* of learned positions, added to the embeddings, as early transformers had it; with nothing; and with
# nothing and only one layer. Eight seeds each, 1000 steps of 32 strings, the same settings for all
# (`python data/positions.py` remakes the record in about seven minutes). We expected the variants without positions to fail.

# %%
record = json.loads((data / "positions.json").read_text())
arms = {name: {field: np.array(values) for field, values in arm.items()} for name, arm in record["arms"].items()}
labels = ["rotary", "table of positions", "no positions", "no positions, one layer"]

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.9))
right.axvspan(4, 10, color="#eeeeee")
steps, lengths = np.arange(0, 1001, 100), np.array(record["lengths"])
for arm, label, marker in zip(arms.values(), labels, plots.MARKERS):
    for ax, x, values in ((left, steps, arm["curve"]), (right, lengths, arm["letters"])):
        found = stats.t_interval(values.T)
        [line] = ax.plot(x, found.estimate, marker=marker, markevery=2, label=label)
        ax.fill_between(x, found.low, found.high, color=line.get_color(), alpha=0.2, linewidth=0)
left.set(xlabel="training step", ylabel="share of strings copied without a fault", ylim=(0, 1.02))
right.set(xlabel="letters in the string (grey: lengths seen in training)", ylabel="share of letters copied correctly", ylim=(0, 1.02))
left.legend()
ends = ", ".join(f"{label} {arm['curve'][:, -1].mean():.2f}" for label, arm in zip(labels, arms.values()))
longer = ", ".join(f"{label} {arm['letters'][:, 8].mean():.2f}" for label, arm in zip(labels, arms.values()))
plots.show(
    fig,
    alt=f"Left: share of strings copied without a fault, after training: {ends}. Right: share of letters copied correctly; for "
    f"strings of 12, longer than any in training: {longer}.",
    caption="Means of 8 seeds with 95 % intervals (Student's t). A letter counts if it is the most probable one, given the "
    "right letters before it; guessing gets 1 in 26.",
)

# %% [markdown]
# We expected wrong. One layer without positions fails, as the heap says it must. But *two layers without positions learn to copy*: more
# slowly (0.48 of the strings by the end, interval 0.46 to 0.51; rotary positions get 0.79, interval 0.71 to 0.87), yet far from guessing.
# And on strings longer than any it was trained on, the model that was told nothing does best: of the letters of a string of 12 it
# copies 0.56, rotary positions 0.38, the table 0.13. The table fails at once, because its rows for places beyond the training strings
# were never trained; who relies on positions relies on positions seen.
#
# What may we claim? That order can be learned without being told it; that is solid, and the experiment with two layers says why. Not that
# one of these is the better method. We tuned nothing; and in trial runs with smaller initial weights one rotary model out of two found
# the general way to copy and beat all others on long strings. What does carry over is the cliff at the edge of the grey area: whoever
# is told positions must also be shown them. That is why makers of large models, before they promise a long context, train on long texts
# with slower clocks.
#
# ## What we left out
#
# - **Size.** Nothing in `forward` knows that the model is small. Qwen3-0.6B has 28 layers of width 1024 and a vocabulary of 151,936.
# - **The cache.** We recompute everything for each token. An engine keeps the keys and values, and reads each token once.
# - **Rows of different length.** A batch is a rectangle; the package packs the real tokens of all rows one after the other and never
#   computes on padding (`workbench/models/fast.py`, which also has the backward pass).
# - **Pretraining.** Real models read trillions of tokens before anybody shows them a dialogue. Ours began with the dialogues.
# - **Merges.** Tokenizers of large models merge frequent pairs of symbols into one; then a text has many possible encodings, and
#   decoding and encoding again may change them. That is why ids are appended here, and never remade.
#
# ## Where this returns
#
# - Chapter 11 takes a model that adds, badly, and lets it practise: what `next_token_loss` is to demonstrations, GRPO is to rewards. The
#   log-probabilities of exactly the tokens that were drawn are all that it needs.
# - The mask you wrote decides who gets credit, in every method of part III.
# - Part IV makes the dialogues longer: several calls, calls that fail, and the question which of them deserved the reward.
# - Part V replaces `models.tiny("0.1m")` by a real model, and little else.
#
# ## Further reading
#
# - Vaswani et al. 2017, *Attention is all you need*, arXiv 1706.03762.
# - Su et al. 2021, *RoFormer: enhanced transformer with rotary position embedding*, arXiv 2104.09864.
# - Zhang and Sennrich 2019, *Root mean square layer normalization*, arXiv 1910.07467.
# - Shazeer 2020, *GLU variants improve transformer* (SwiGLU), arXiv 2002.05202.
# - Ainslie et al. 2023, *GQA: training generalized multi-query transformer models from multi-head checkpoints*, arXiv 2305.13245.
# - Qwen team 2025, *Qwen3 technical report*, arXiv 2505.09388.
# - Haviv et al. 2022, *Transformer language models without positional encodings still learn positional information*, arXiv 2203.16634,
#   and Kazemnejad et al. 2023, *The impact of positional encoding on length generalization in transformers*, arXiv 2305.19466: the
#   surprise, found and studied at larger scale.
# - Olsson et al. 2022, *In-context learning and induction heads*, arXiv 2209.11895: how two layers copy.
