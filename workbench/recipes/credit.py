"""Where in an episode of several turns the credit goes. Notation as in `methods.py`; j counts the turns 1..U of a rollout."""

from __future__ import annotations

from workbench.objective import (
    action_gae,
    bilevel_gae,
    calibrated,
    clip,
    episode_advantage,
    implicit_steps,
    importance,
    information_gain,
    outcome,
    similarity,
    step_rewards,
    turn,
    turn_and_outcome,
    turn_gae,
    turn_penalty,
    turn_returns,
    updates,
)
from workbench.recipes.methods import grpo, gtpo, ppo, rloo

gtpo_without_turn_rewards = gtpo.but(
    "gtpo_without_turn_rewards",
    reward=(outcome(), similarity()),
    title="GTPO without the rewards of turns (an ablation)",
    arxiv="2511.14846",
    formula=r"r_{i,j} = r^{acc}_{i,j}",
    reading="Malformed turns cost nothing; the outcome is still discounted back over the turns.",
)

gtpo_without_returns = gtpo.but(
    "gtpo_without_returns",
    advantage=episode_advantage(floor=0.3),
    title="GTPO without returns (an ablation)",
    arxiv="2511.14846",
    formula=r"A_{i,j} = A_i = \frac{R_i-\mathrm{mean}(R)}{\mathrm{std}(R)},\qquad R_i = \sum_j r_{i,j}",
    reading="The rewards of the turns are added up, and every turn is credited with the sum: GRPO on the same rewards. To take "
    "away the discount alone: advantage=turn_returns(gamma=1.0).",
)

gtpo_without_shaping = gtpo.but(
    "gtpo_without_shaping",
    reward=(outcome(), turn_penalty()),
    title="GTPO without self-supervised shaping (an ablation)",
    arxiv="2511.14846",
    formula=r"r^{acc}_{i,U} = 1\ \mathrm{if\ right\ else}\ 0",
)

gtpo_hybrid = gtpo.but(
    "gtpo_hybrid",
    reward=calibrated(),
    advantage=turn_and_outcome(),
    title="MT-GRPO and GTPO hybrid with Iterative Reward Calibration",
    arxiv="2604.02869",
    formula=r"A_{i,j} = \mathrm{norm}_j(G_{i,j}) + \lambda\,\mathrm{norm}(O_i),\qquad G_{i,j} = r_{i,j}+\gamma G_{i,j+1},"
    r"\quad G_{i,U+1} = O_i,\qquad r_{i,j} = c\,\mathrm{corr}(\mathrm{tier}(j), O)",
    left_out="The language model that plays the user. Calibration between runs, by hand: here every batch calibrates itself.",
    reading="Of the calibration we know that it sets a tier's reward by its point-biserial correlation with success, not how: "
    "here in proportion, within the groups, and 0 below a correlation of 0.1. Tiers are the values of the task's turn rewards.",
)

turn_ppo = ppo.but(
    "turn_ppo",
    unit=turn(),
    advantage=turn_gae(),
    title="PPO over turns",
    arxiv="2512.17008",
    formula=r"A_j = \sum_k(\gamma\lambda)^k(r_{j+k}+\gamma V(s_{j+k+1})-V(s_{j+k})),\qquad "
    r"s_j = (q, y_1, b_1, \dots, y_{j-1}, b_{j-1}),\qquad \rho_j = \Big(\frac{\pi(y_j)}{\pi_{old}(y_j)}\Big)^{1/T_j}",
    left_out="A critic of its own size: the value head reads the policy's state and does not shape it.",
    reading="A turn is clipped as a whole, at its geometric mean; gamma 0.99 and lambda 0.9 per turn, as summaries of the paper "
    "say. Every token of a turn teaches the head one number, what the episode is worth from the beginning of the turn on.",
)

bilevel_ppo = ppo.but(
    "bilevel_ppo",
    advantage=bilevel_gae(),
    title="PPO with generalised advantages at two levels (VAGEN)",
    arxiv="2510.16907",
    formula=r"A_j = \delta_j+\gamma\lambda A_{j+1},\quad \delta_j = r_j+\gamma V_{j+1}-V_j;\qquad "
    r"A_{j,T_j} = A_j,\quad A_{j,t} = r_{j,t} + V_{j,t+1}-V_{j,t}+\lambda A_{j,t+1}",
    left_out="The reward for describing the state rightly, which a judge gives; whitening.",
    reading="V_j is the value at the last token of turn j, as in the released code; in the text it may be that after it. "
    "gamma 0.95 between turns is the authors' setting, 1 inside them and lambda 0.95 are PPO's.",
)

poad = ppo.but(
    "poad",
    advantage=action_gae(),
    title="Policy Optimization with Action Decomposition",
    arxiv="2405.15821",
    formula=r"\delta_t = V_{t+1}-V_t\ \mathrm{inside\ a\ turn},\qquad \delta_t = r_j+\gamma V_{t+1}-V_t\ \mathrm{at\ its\ end}",
    reading="lambda counts tokens, inside a turn as well; gamma 0.95 is our choice.",
)

loop = rloo.but(
    "loop",
    ratio=importance(),
    surrogate=clip(low=1 - 1 / 1.1, high=0.1),
    schedule=updates(epochs=2),
    title="Leave-One-Out PPO",
    arxiv="2502.01600",
    formula=r"\min(\rho_{i,t}A_i,\ \mathrm{clip}(\rho_{i,t},\tfrac1{1+\epsilon},1+\epsilon)A_i),\qquad "
    r"A_i = \frac{G}{G-1}(R_i-\mathrm{mean}(R))",
    left_out="Dropping |A| below 0.01, stopping an iteration at a large KL, and starting to train without the slowest rollouts.",
    reading="How tokens are averaged we could not read: summed in an episode, as in RLOO, so that the first update is RLOO's. "
    "Two epochs, as in the paper; it cuts them into minibatches as well.",
)

igpo = grpo.but(
    "igpo",
    advantage=information_gain(),
    title="Information Gain-based Policy Optimization",
    arxiv="2510.14967",
    formula=r"A_j = \sum_k\gamma^k \tilde r_{j+k},\qquad r_j = p_{j+1}-p_j\ (j<U),\quad r_U = R,\qquad "
    r"p_j = \exp\Big(\frac1L\sum_l\log\pi_{old}(a_l\mid s_j,a_{<l})\Big)",
    left_out="F1 between answer and gold: the task's verdict. KL 0.001. The curriculum between gain and outcome.",
    reading="Gains are standardised over all turns of the group, outcomes over its rollouts; gamma 1, as the released code runs. "
    "p is read without gradient, under the policy that sampled, of the answer as the task writes it, end of turn included.",
)

oprl = grpo.but(
    "oprl",
    advantage=implicit_steps(),
    title="Implicit step rewards by an online process reward model (iStar)",
    arxiv="2509.19199",
    formula=r"A_{i,j} = \mathrm{norm}(R_i)+\alpha\,\mathrm{norm}(r_{i,j}),\qquad r_{i,j} = \beta\sum_{t\in j}"
    r"\log\frac{\phi(y_{i,t})}{\pi_{old}(y_{i,t})},\qquad \phi:\ -\log\sigma(\bar r_+-\bar r_-)",
    left_out="The penalty for invalid actions (turn_penalty() in the reward).",
    reading="A trajectory's score is the mean over its turns, as in the released code; both advantages are standardised, where "
    "that code leaves one out for the episode. The judge learns after it has scored, at twice the policy's learning rate.",
)

step_grpo = gtpo.but(
    "step_grpo",
    reward=step_rewards(),
    advantage=turn_returns(gamma=0.0, floor=0.0),
    title="Step-wise GRPO (R1-Router)",
    arxiv="2505.22095",
    formula=r"A_{i,j} = \frac{r_{i,j}-\mathrm{mean}_j(r)}{\mathrm{std}_j(r)}",
    left_out="The teacher's trajectories, every step of which is a prompt with a group of its own: give single steps as prompts, "
    "and this is GRPO on them. The similarity of a question to the gold question: the task scores the steps.",
    reading="On whole rollouts the turns of one number are the group, though what went before them differs.",
)

RECIPES = (
    gtpo_without_turn_rewards, gtpo_without_returns, gtpo_without_shaping, gtpo_hybrid, turn_ppo, bilevel_ppo, poad, loop, igpo,
    oprl, step_grpo,
)  # fmt: skip
