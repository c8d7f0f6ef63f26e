"""Methods whose rollouts are several rows of the batch: a row a turn, or a row for each time the context was rewritten."""

from workbench.objective import (
    clip,
    context_cost,
    drop_overlong,
    episode_advantage,
    one_row_a_turn,
    outcome,
    row_mean,
)
from workbench.recipes.methods import NO_KL, grpo

flow_grpo = grpo.but(
    "flow_grpo",
    layout=one_row_a_turn(),
    advantage=episode_advantage(over="rows"),
    surrogate=clip(0.2, 0.3),
    aggregate=row_mean(),
    title="Flow-based Group Refined Policy Optimization (AgentFlow)",
    arxiv="2510.05592",
    formula=r"\frac1G\sum_i\frac1{U_i}\sum_j\frac1{T_{ij}}\sum_t \min(\rho A_i,\ \mathrm{clip}(\rho,1-\epsilon,1+\epsilon)A_i),"
    r"\qquad A_i = \frac{R_i-\mathrm{mean}(R)}{\mathrm{std}(R)}\ \text{over all rows of } q",
    left_out=f"{NO_KL}; the released configuration has 0.001. The executor, verifier and generator around the planner.",
    reading="Mean and std run over rows, as in the released code: a rollout of many turns weighs more in them; "
    "episode_advantage(over='rollouts') counts each rollout once. How rows are averaged we could not read: here first over the "
    "tokens of a turn, then over turns, then over rollouts.",
)

supo = grpo.but(
    "supo",
    select=drop_overlong(),
    title="Summarization augmented Policy Optimization",
    arxiv="2510.06727",
    formula=r"\frac1{|\mathcal F|}\sum_{i\in\mathcal F}\frac1{T_i}\sum_{k}\sum_t \min(\rho_{i,k,t}A_i,\ \mathrm{clip}(\cdot)A_i),"
    r"\qquad \mathcal F = \{i \text{ that ended within all limits}\}",
    left_out=f"{NO_KL}. When to ask for a summary: the task does that.",
    reading="A rollout is a row k for each stretch between two summaries; all of them, summaries included, share the advantage "
    "of the rollout, which is compared with the other rollouts, not rows. A rollout that hit a limit still counts in the mean "
    "and std of its group. The clip and the average are GRPO's, over all tokens of a rollout.",
)

dynamic_context = grpo.but(
    "dynamic_context",
    reward=(outcome(), context_cost()),
    title="Dynamic Context Policy Optimization (memory as action)",
    arxiv="2510.12635",
    formula=r"R_i = r_i - c\,[\max_k |x_{i,k}| > L],\qquad \text{rows } k \text{ cut where the context was edited share } A_i",
    left_out=f"{NO_KL}. The paper's own tools and its supervised start.",
    reading="The size of the penalty we could not read: here 0.1 once a row of the rollout is longer than the budget. Not the "
    "DCPO of adaptive clipping.",
)

RECIPES = (flow_grpo, supo, dynamic_context)
