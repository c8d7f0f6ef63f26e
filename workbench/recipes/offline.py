"""Methods that learn from contexts that somebody else's trajectories left behind.

For the notation see `workbench.recipes.methods`; x is a logged context, a prefix of a trajectory.
"""

from __future__ import annotations

from workbench.objective import clip, fixed, kl, step_rewards, updates
from workbench.recipes.methods import grpo

cobalt = grpo.but(
    "cobalt",
    rollout=fixed(size=16),
    reward=step_rewards(),
    surrogate=clip(0.2, 0.4),
    regulariser=kl(1e-4, "k2"),
    schedule=updates(minibatches=2),
    title="Contextual bandit learning with offline trajectories (Cobalt)",
    arxiv="2602.03806",
    formula=r"\mathbb E_{x\sim\mathrm{log}}\,\frac1G\sum_i\frac1{T_i}\sum_t \min(\rho_{i,t}A_i,"
    r"\ \mathrm{clip}(\rho_{i,t},1-\epsilon_{low},1+\epsilon_{high})A_i),\qquad A_i=\frac{r(x,y_i)-\mathrm{mean}}{\mathrm{std}}",
    left_out="The reward's terms for thinking, for overlong answers and for broken fences: tiny models have none of these. The "
    "single-turn stage before it.",
    reading="What makes it Cobalt is the task it is trained on, workbench.tasks.partial: contexts cut out of logged "
    "trajectories, one attempt each, and a reward that knows the best earlier attempt. Numbers are those of the authors' code.",
)

RECIPES = (cobalt,)
