"""Methods whose parts look back at earlier steps, or change with the number of the step."""

from workbench.objective import (
    clip,
    drop_void,
    entropy_bonus,
    entropy_window,
    few_shots,
    helpful_hints,
    likelihood_drops,
    outcome,
    replay,
    turn_penalty,
    uniform,
    updates,
)
from workbench.recipes.methods import grpo

arpo = grpo.but(
    "arpo",
    prompts=uniform(pool=128),
    mix=replay(),
    surrogate=clip(0.2, 0.3),
    title="Agentic Replay Policy Optimization",
    arxiv="2505.16282",
    formula=r"\mathrm{mean}(R) < 0.2,\ \mathrm{std}(R) < 0.05\ \Rightarrow\ y_1 \leftarrow y^+ \sim \mathrm{buffer}(q),"
    r"\qquad \pi_{old}(y^+) := \pi(y^+)",
    left_out="The choice of 128 tasks that the model can solve at all; half a point for the format; 15 passes over the tasks.",
    reading="What is replayed starts at ratio 1, as in the released code; replay(logp='sampled') weighs it by how likely it has "
    "become. A success is an outcome above 0.1. Not the ARPO of 2507.19849, which branches where the entropy is high.",
)

epo = grpo.but(
    "epo",
    regulariser=(entropy_bonus(0.001), entropy_window()),
    title="Entropy-regularised Policy Optimization",
    arxiv="2509.22576",
    formula=r"-\lambda\Big(H - \big[\kappa_l\bar H_j - H\big]_+ - \big[H - \kappa_r\bar H_j\big]_+\Big),"
    r"\qquad \bar H_j = \text{mean of } H \text{ at turn } j \text{ over all earlier steps}",
    left_out="The weight of the window that changes over training (the released code lets it fall, the abstract's second version "
    "speaks of a rise): here it is 1.",
    reading="The released code's penalty is a constant without a gradient, which can change nothing but the reported loss: "
    "entropy_window(penalty='constant') is that, the default here is a distance that pushes back. It is applied at every "
    "turn, there only in the second half of the longest episode.",
)

simple_tir = grpo.but(
    "simple_tir",
    select=drop_void(),
    title="SimpleTIR, filtering of void turns",
    arxiv="2509.02479",
    formula=r"\text{the sum runs over } i \text{ without a void turn}",
    left_out="Everything else of the paper: its format of code and answers, and its training of a base model.",
    reading="Void is a turn that the task found malformed and that did not end the episode, or that a limit cut off. Episodes "
    "with one stay in the baseline of their group.",
)

llds = grpo.but(
    "llds",
    regulariser=(likelihood_drops(),),
    schedule=updates(epochs=4),
    title="Likelihood-preserving regularisation against lazy likelihood displacement",
    arxiv="2512.04220",
    formula=r"-\lambda \sum_j 1\Big[\sum_{t\in j}\log\tfrac{\pi_{old}}{\pi} > 0\Big]\sum_{t\in j}"
    r"\max\big(0, \log\tfrac{\pi_{old}}{\pi}\big),\qquad A \ge 0",
    left_out="The variant that leaves answer tokens out. The weight of the paper's penalty, which we could not read: here 0.1.",
    reading="Gated by turn, which the released model card prefers to the whole response, and on tokens with an advantage of at "
    "least 0. It is 0 for a policy that has not moved since it sampled, so a batch is used four times here.",
)

icrl = grpo.but(
    "icrl",
    context=few_shots(),
    title="In-context reinforcement learning for tool use, few-shot annealing",
    arxiv="2603.08068",
    formula=r"x_0 = (\text{example}_1, \dots, \text{example}_{k}, q),\qquad k = 3, 2, 0 \text{ over the stages of training}",
    left_out="The reward for the format, and a KL penalty of 0.001.",
    reading="A stage goes on from the last weights, and from the optimiser's averages too.",
)

skill0 = grpo.but(
    "skill0",
    context=helpful_hints(),
    reward=(outcome(), turn_penalty(0.1)),
    title="SKILL0, withdrawal of skills",
    arxiv="2604.02268",
    formula=r"x_0 = (\text{the } m \text{ hints with the largest } \Delta_h \ge 0, q),\qquad"
    r"\Delta_h = \text{success with } h - \text{success without},\qquad m = 6, 3, 0",
    left_out="Skill files rendered as images, and the small reward for compressing them.",
    reading="Without means: beside the other hints shown. A hint that is no longer shown is not measured again.",
)

RECIPES = (arpo, epo, simple_tir, llds, icrl, skill0)
