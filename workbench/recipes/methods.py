"""The methods, each as the difference from its parent.

Notation of the formulas: q a prompt, y_i the i-th of its G rollouts, T_i its sampled tokens, R_i its reward; rho_{i,t} the
ratio pi/pi_old of a token, s_i that of a sequence (geometric mean), sg a stopped gradient.
"""

from __future__ import annotations

from workbench.objective import (
    cispo as cispo_surrogate,
)
from workbench.objective import (
    clip,
    current,
    episode_advantage,
    gae,
    importance,
    outcome,
    policy_gradient,
    resample,
    sequence,
    similarity,
    soft_overlong,
    token_mean,
    token_returns,
    token_sum,
    turn_penalty,
    turn_returns,
    updates,
    value_loss,
)
from workbench.objective import (
    sapo as sapo_surrogate,
)
from workbench.recipes.recipe import Recipe

NO_KL = "the KL penalty (in the loss: regulariser=kl(beta), with a reference policy)"

grpo = Recipe(
    title="Group Relative Policy Optimization",
    arxiv="2402.03300",
    formula=r"\frac1G\sum_i \frac1{T_i}\sum_t \min(\rho_{i,t}A_i,\ \mathrm{clip}(\rho_{i,t},1-\epsilon,1+\epsilon)A_i),"
    r"\qquad A_i = \frac{R_i-\mathrm{mean}(R)}{\mathrm{std}(R)}",
    left_out=f"{NO_KL}: DeepSeek-R1 used beta 0.001, TRL's default is 0. Process rewards.",
    reading="std divides by G - 1 and has 1e-4 added, as in TRL.",
)

reinforce = grpo.but(
    "reinforce",
    advantage=episode_advantage(baseline="none", scale="none"),
    ratio=current(),
    surrogate=policy_gradient(),
    aggregate=token_sum(),
    title="REINFORCE (Williams, Machine Learning 8, 1992)",
    formula=r"\frac1B\sum_i R_i \sum_t \log\pi(y_{i,t}\mid y_{i,<t})",
    left_out="Eligibility traces and per-step discounting.",
    reading="Every token is credited with the whole episode's reward.",
)

reinforce_baseline = reinforce.but(
    "reinforce_baseline",
    advantage=episode_advantage(baseline="batch_loo", scale="none"),
    title="REINFORCE with a baseline (Williams, Machine Learning 8, 1992)",
    formula=r"\frac1B\sum_i (R_i - b_i)\sum_t\log\pi(y_{i,t}\mid y_{i,<t}),\qquad b_i=\frac1{B-1}\sum_{j\ne i}R_j",
    left_out="Learned and running baselines.",
    reading="The mean reward of the other episodes of the batch: it does not depend on y_i, so there is no bias.",
)

rloo = reinforce.but(
    "rloo",
    advantage=episode_advantage(baseline="loo", scale="none"),
    title="REINFORCE Leave-One-Out",
    arxiv="2402.14740",
    formula=r"\frac1G\sum_i (R_i - b_i)\sum_t\log\pi(y_{i,t}\mid y_{i,<t}),\qquad b_i=\frac1{G-1}\sum_{j\ne i}R_j",
    left_out="The KL penalty in the reward: regulariser=kl(0.05, 'k1', 'reward').",
    reading="Plain policy gradient with the current policy in the denominator; TRL clips a sequence ratio as well.",
)

reinforce_pp = grpo.but(
    "reinforce_pp",
    advantage=token_returns(),
    aggregate=token_mean(),
    title="REINFORCE++",
    arxiv="2501.03262",
    formula=r"A_t = \frac{\hat R_t-\mathrm{mean}_{\mathrm{batch}}(\hat R)}{\mathrm{std}_{\mathrm{batch}}(\hat R)},"
    r"\qquad \hat R_t = \sum_{s\ge t}\gamma^{s-t} r_s",
    left_out="The KL penalty of each token in the reward: regulariser=kl(beta, 'k1', 'reward').",
    reading="Mean and std over all sampled tokens of the batch, as in verl; clip and token mean are ours.",
)

reinforce_pp_baseline = reinforce_pp.but(
    "reinforce_pp_baseline",
    advantage=episode_advantage(baseline="group", scale="centred_batch"),
    title="REINFORCE++ with the group's mean as baseline",
    arxiv="2501.03262",
    formula=r"A_i = \frac{C_i}{\mathrm{std}_{\mathrm{batch}}(C)},\qquad C_i = R_i-\mathrm{mean}_{\mathrm{group}}(R)",
    left_out="The KL penalty.",
    reading="std over episodes; verl's is over tokens, which differs when lengths do.",
)

ppo = grpo.but(
    "ppo",
    advantage=gae(),
    regulariser=(value_loss(),),
    schedule=updates(epochs=4),
    title="Proximal Policy Optimization, clipped, with generalised advantage estimation",
    arxiv="1707.06347",
    formula=r"\min(\rho_t A_t,\ \mathrm{clip}(\rho_t,1-\epsilon,1+\epsilon)A_t) - \frac c2 (V_t-\hat V_t)^2,"
    r"\qquad A_t = \sum_k(\gamma\lambda)^k(r_{t+k}+\gamma V_{t+k+1}-V_{t+k})",
    left_out="Whitening of advantages; the KL penalty in the reward (regulariser=(value_loss(), kl(0.05, 'k1', 'reward'))); "
    "the value after a cut-off episode.",
    reading="Coefficients of TRL's PPO: value loss 0.1, clipped at 0.2; gamma 1, lambda 0.95, 4 epochs.",
)

dr_grpo = grpo.but(
    "dr_grpo",
    advantage=episode_advantage(scale="none"),
    aggregate=token_sum(norm=32.0),
    title="GRPO done right",
    arxiv="2503.20783",
    formula=r"\frac1{G\,L}\sum_i \sum_t \min(\rho_{i,t}A_i,\ \mathrm{clip}(\rho_{i,t},1-\epsilon,1+\epsilon)A_i),"
    r"\qquad A_i = R_i-\mathrm{mean}(R)",
    reading="L is a constant; the paper's is the longest completion. It only scales the gradient; set it to the task's limit.",
)

dapo = grpo.but(
    "dapo",
    rollout=resample(),
    reward=(outcome(), soft_overlong()),
    surrogate=clip(0.2, 0.28),
    aggregate=token_mean(),
    title="Decoupled clip and Dynamic sAmpling Policy Optimization",
    arxiv="2503.14476",
    formula=r"\frac1{\sum_i T_i}\sum_i\sum_t \min(\rho_{i,t}A_i,"
    r"\ \mathrm{clip}(\rho_{i,t},1-\epsilon_{low},1+\epsilon_{high})A_i),\qquad 0 < |\{\mathrm{correct}\}| < G",
    left_out="Resampling stops after some rounds; the paper's goes on until the batch is full.",
    reading="Of the two ways to treat overlong answers the soft penalty; its lengths fit the small tasks here, not the paper's.",
)

gspo = grpo.but(
    "gspo",
    unit=sequence(),
    surrogate=clip(3e-4, 4e-4),
    schedule=updates(minibatches=4),
    title="Group Sequence Policy Optimization",
    arxiv="2507.18071",
    formula=r"\frac1G\sum_i \min(s_iA_i,\ \mathrm{clip}(s_i,1-\epsilon_{low},1+\epsilon_{high})A_i),"
    r"\qquad s_i = \Big(\frac{\pi(y_i)}{\pi_{old}(y_i)}\Big)^{1/T_i}",
)

gspo_token = gspo.but(
    "gspo_token",
    ratio=importance(gradient="token"),
    title="Group Sequence Policy Optimization, token variant",
    arxiv="2507.18071",
    formula=r"s_{i,t} = \mathrm{sg}(s_i)\,\frac{\pi(y_{i,t})}{\mathrm{sg}(\pi(y_{i,t}))}",
    reading="The same gradient as GSPO while a sequence has one advantage; allows one for each token.",
)

cispo = grpo.but(
    "cispo",
    surrogate=cispo_surrogate(),
    aggregate=token_mean(),
    title="Clipped Importance Sampling Policy Optimization (MiniMax-M1)",
    arxiv="2506.13585",
    formula=r"\frac1{\sum_i T_i}\sum_i\sum_t \mathrm{sg}(\min(\rho_{i,t},c))\,A_i\log\pi(y_{i,t}\mid y_{i,<t})",
    left_out="The lower limit on the ratio.",
    reading="The cap is an absolute number, as in TRL, whose advice 5 is.",
)

sapo = grpo.but(
    "sapo",
    surrogate=sapo_surrogate(),
    title="Soft Adaptive Policy Optimization",
    arxiv="2511.20347",
    formula=r"\frac1G\sum_i\frac1{T_i}\sum_t \frac4{\tau_i}\,\sigma(\tau_i(\rho_{i,t}-1))\,A_i,"
    r"\qquad \tau_i = \tau_{pos}\ \mathrm{if}\ A_i>0\ \mathrm{else}\ \tau_{neg}",
)

lite_ppo = grpo.but(
    "lite_ppo",
    advantage=episode_advantage(baseline="group", scale="batch"),
    aggregate=token_mean(),
    title="Lite PPO (Tricks or Traps)",
    arxiv="2508.08221",
    formula=r"A_i = \frac{R_i-\mathrm{mean}_{\mathrm{group}}(R)}{\mathrm{std}_{\mathrm{batch}}(R)}",
    reading="std of the raw rewards of the batch, as TRL documents it.",
)

gtpo = grpo.but(
    "gtpo",
    reward=(outcome(), turn_penalty(), similarity()),
    advantage=turn_returns(),
    title="Group Turn Policy Optimization",
    arxiv="2511.14846",
    formula=r"A_{i,j} = \frac{R_{i,j}-\mathrm{mean}}{\mathrm{std}},\qquad R_{i,j} = r_{i,j}+\gamma R_{i,j+1},"
    r"\qquad r_{i,j} = r^{acc}_{i,j}+r^{fmt}_{i,j}",
    left_out="The embedding model behind the similarity of a failure to its group's successes: here 3-grams of tokens.",
    reading="Over what mean and std run, we could not read in the paper: here turns of the same number in the group, "
    "turn_returns(pool='flat') and pool='r0' are the two other readings in use. Clip, average and KL were not to be "
    "read either: they are GRPO's. The task decides which turns are malformed. std is at least 0.3, so that groups "
    "that differ only in penalties are not blown up: the sign of the effect hung on that in our measurements.",
)

RECIPES = (
    reinforce, reinforce_baseline, reinforce_pp, reinforce_pp_baseline, rloo, ppo, grpo, dr_grpo, dapo, gspo,
    gspo_token, cispo, sapo, lite_ppo, gtpo,
)  # fmt: skip
