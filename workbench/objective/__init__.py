"""The parts of an objective, and how they become a loss. A method is a choice of parts: see `workbench.recipes`."""

from workbench.objective.advantage import episode_advantage, gae, token_returns, turn_returns
from workbench.objective.aggregate import row_mean, sequence_mean, token_mean, token_sum
from workbench.objective.loss import Parts, Prepared, active, dead, loss, needs, prepare, rewards
from workbench.objective.mix import on_policy
from workbench.objective.part import SLOTS, Part, part
from workbench.objective.prompts import History, stream, uniform
from workbench.objective.ratio import current, importance
from workbench.objective.regulariser import Terms, entropy_bonus, kl, value_loss
from workbench.objective.reward import (
    gated_outcome,
    outcome,
    similarity,
    soft_overlong,
    step_rewards,
    turn_penalty,
)
from workbench.objective.rollout import fixed, resample
from workbench.objective.schedule import updates
from workbench.objective.select import all_tokens, drop_dead, drop_truncated, high_entropy
from workbench.objective.surrogate import cispo, clip, gradient_weight, policy_gradient, sapo
from workbench.objective.unit import sequence, token, turn

PARTS = {
    factory.__name__: factory
    for factory in (
        stream, uniform, fixed, resample, on_policy,
        outcome, gated_outcome, turn_penalty, step_rewards, soft_overlong, similarity,
        token, turn, sequence, episode_advantage, turn_returns, gae, token_returns,
        all_tokens, drop_truncated, drop_dead, high_entropy, importance, current,
        policy_gradient, clip, cispo, sapo, kl, entropy_bonus, value_loss,
        sequence_mean, row_mean, token_mean, token_sum, updates,
    )
}  # fmt: skip

__all__ = [
    "PARTS", "SLOTS", "History", "Part", "Parts", "Prepared", "Terms", "active", "dead", "gradient_weight", "loss", "needs",
    "part", "prepare", "rewards", *PARTS,
]  # fmt: skip
