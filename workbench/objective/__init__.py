"""The parts of an objective, and how they become a loss. A method is a choice of parts: see `workbench.recipes`."""

from workbench.objective.advantage import episode_advantage, gae, token_returns, turn_returns
from workbench.objective.aggregate import row_mean, sequence_mean, token_mean, token_sum
from workbench.objective.context import bare, few_shots, helpful_hints
from workbench.objective.correction import Correction
from workbench.objective.layout import as_sampled, one_row_a_turn
from workbench.objective.loss import Parts, Prepared, active, dead, loss, needs, prepare, rewards
from workbench.objective.mix import keep_successes, on_policy, replay
from workbench.objective.part import SLOTS, Part, part
from workbench.objective.prompts import History, stream, uniform
from workbench.objective.ratio import current, importance
from workbench.objective.regulariser import (
    Terms,
    add_entropy,
    entropy_bonus,
    entropy_window,
    kl,
    likelihood_drops,
    usual_entropy,
    value_loss,
)
from workbench.objective.reward import (
    calibrated,
    context_cost,
    gated_outcome,
    outcome,
    similarity,
    soft_overlong,
    step_rewards,
    turn_penalty,
)
from workbench.objective.rollout import fixed, resample
from workbench.objective.schedule import updates
from workbench.objective.select import (
    all_tokens,
    drop_dead,
    drop_overlong,
    drop_truncated,
    drop_void,
    high_entropy,
    void_turns,
)
from workbench.objective.surrogate import cispo, clip, gradient_weight, policy_gradient, sapo
from workbench.objective.turn_advantage import (
    action_gae,
    bilevel_gae,
    implicit_steps,
    information_gain,
    preference_loss,
    turn_and_outcome,
    turn_gae,
)
from workbench.objective.unit import sequence, token, turn

PARTS = {
    factory.__name__: factory
    for factory in (
        stream, uniform, bare, few_shots, helpful_hints, fixed, resample, on_policy, replay, as_sampled, one_row_a_turn,
        outcome, gated_outcome, turn_penalty, step_rewards, calibrated, soft_overlong, context_cost, similarity,
        token, turn, sequence, episode_advantage, turn_returns, gae, token_returns,
        turn_gae, bilevel_gae, action_gae, turn_and_outcome, information_gain, implicit_steps,
        all_tokens, drop_truncated, drop_overlong, drop_dead, drop_void, high_entropy, importance, current,
        policy_gradient, clip, cispo, sapo, kl, entropy_bonus, entropy_window, likelihood_drops, value_loss,
        sequence_mean, row_mean, token_mean, token_sum, updates,
    )
}  # fmt: skip

__all__ = [
    "PARTS", "SLOTS", "Correction", "History", "Part", "Parts", "Prepared", "Terms", "active", "add_entropy", "dead",
    "gradient_weight", "keep_successes", "loss", "needs", "part", "preference_loss", "prepare", "rewards", "usual_entropy",
    "void_turns", *PARTS,
]  # fmt: skip
