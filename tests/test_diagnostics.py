"""The numbers of a step, against batches worked out by hand."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from workbench import objective, recipes
from workbench.batch import Batch, Dialogue, Segment, Stop
from workbench.diagnostics import TURNS, diagnose
from workbench.plots import describe_diagnostics, diagnostics


def episode(group, turns, outcome, rewards, stop=Stop.DONE, rollout=None, first_turn=0):
    """turns: log-probabilities of the sampled tokens of each turn; a reply of two tokens after each but the last."""
    segments = []
    for number, logps in enumerate(turns):
        segments += [Segment([5] * len(logps), list(logps))] + [Segment([6, 7])] * (number + 1 < len(turns))
    return Dialogue([1, 2], group, segments, list(rewards), outcome, stop, rollout=rollout, first_turn=first_turn)


@pytest.fixture
def batch():
    return Batch.from_dialogues([
        episode(0, [[-1.0, -2.0], [-3.0]], 1.0, [0, 0]),
        episode(0, [[-0.5], [-0.5], [-2.0, -2.0]], 0.0, [-1, 0, 0], Stop.TURNS),
        episode(1, [[-4.0, -1.0]], 0.0, [0], Stop.LENGTH),
        episode(1, [[-1.0]], 1.0, [-1]),
        episode(1, [[-9.0]], 1.0, [0], Stop.ERROR),
    ])  # fmt: skip


def numbers(batch, recipe="gtpo", **changes):
    recipe = recipes.get(recipe)
    recipe = recipe.but("changed", **changes) if changes else recipe
    return diagnose(recipe, objective.prepare(recipe, batch), batch)


def test_turns_calls_and_log_probabilities_by_hand(batch):
    seen = numbers(batch)
    # turns: 2 + 3 + 1 + 1; void: the malformed first turn of the second episode and the turn that was cut off,
    # not the malformed answer; calls: 1 + 3 (its turns ran out) + 0 + 0
    assert seen["void"] == pytest.approx(2 / 7) and seen["calls"] == pytest.approx(4 / 4)
    assert seen["logp_correct"] == pytest.approx(-(1 + 2 + 3 + 1) / 4)
    assert seen["entropy_turn_1"] == pytest.approx((1 + 2 + 0.5 + 4 + 1 + 1) / 6)
    assert seen["entropy_turn_2"] == pytest.approx((3 + 0.5) / 2) and seen["entropy_turn_3"] == pytest.approx(2)
    assert "entropy_turn_4" not in seen


def test_correlations_by_hand(batch):
    """Episodes have turn rewards 0, -1, 0, -1 and outcomes 1, 0, 0, 1: no correlation; without the last episode it is 1/2."""
    assert numbers(batch)["correlation_turns"] == pytest.approx(0, abs=1e-12)
    fewer = numbers(batch.select([0, 1, 2]), reward=(objective.outcome(), objective.turn_penalty(penalty=0.3)))
    assert fewer["correlation_turns"] == pytest.approx(0.5) == fewer["correlation_turn_penalty"]
    assert [name for name in numbers(batch) if name.startswith("corr")] == ["correlation_turns", "correlation_turn_penalty"]
    alone = numbers(batch.select([0, 2]))  # no turn was malformed
    assert not any(name.startswith("correlation") for name in alone)


def test_the_correlation_with_a_binary_outcome_is_the_point_biserial_one():
    rewards, outcomes = [[-1, -1], [0, -1], [-1, 0], [0, 0], [0, 0]], [0, 0, 1, 1, 0]
    batch = Batch.from_dialogues([episode(0, [[-1.0], [-1.0]], o, r) for r, o in zip(rewards, outcomes)])
    total = torch.tensor(rewards, dtype=torch.float64).sum(1)
    right = torch.tensor(outcomes) == 1
    by_hand = (total[right].mean() - total[~right].mean()) / total.std(correction=0) * math.sqrt(2 * 3) / 5
    assert numbers(batch)["correlation_turns"] == pytest.approx(by_hand.item())


def prepared(batch, advantage, coefficient):
    ready = objective.prepare(recipes.get("grpo"), batch)
    spread = [batch.mask * torch.tensor(value, dtype=torch.float64)[:, None] for value in (advantage, coefficient)]
    return dataclasses.replace(ready, advantage=spread[0], coefficient=spread[1])


def test_gradient_shares_by_hand():
    """Sizes of the episodes, shortest first: 1 token x |2 x .5|, 1 x 3, 3 x |-1| (2 + 1 tokens), 4 x 0."""
    batch = Batch.from_dialogues([
        episode(0, [[-1.0] * 2, [-1.0]], 1, [0, 0]), episode(0, [[-1.0]], 0, [0]), episode(0, [[-1.0]], 0, [0]),
        episode(0, [[-1.0] * 3, [-1.0]], 0, [0, 0]),
    ])  # fmt: skip
    seen = diagnose(recipes.get("grpo"), prepared(batch, [-1, 2, 3, 7], [1, 0.5, 1, 0]), batch)
    assert [seen[f"gradient_quarter_{q}"] for q in (1, 2, 3, 4)] == pytest.approx([1 / 7, 3 / 7, 3 / 7, 0])
    assert (seen["gradient_turn_1"], seen["gradient_turn_2"]) == pytest.approx((6 / 7, 1 / 7))


def test_a_group_that_taught_nothing_has_no_shares(batch):
    seen = numbers(batch.select([0]), "grpo")
    assert not any(name.startswith("gradient") for name in seen)
    assert not any(name.startswith("gradient_quarter") for name in numbers(batch.select([0, 1])))  # two are no quarters
    assert "logp_correct" not in numbers(batch.select([1, 2]))


def test_an_episode_of_two_rows_counts_once(batch):
    whole = [episode(0, [[-1.0, -2.0], [-3.0]], 1.0, [-1, 0]), episode(0, [[-0.5]], 0.0, [0])]
    parts = [
        episode(0, [[-1.0, -2.0]], 1.0, [-1], rollout=0), episode(0, [[-3.0]], 1.0, [0], rollout=0, first_turn=1),
        episode(0, [[-0.5]], 0.0, [0], rollout=1),
    ]  # fmt: skip
    assert numbers(Batch.from_dialogues(parts)) == pytest.approx(numbers(Batch.from_dialogues(whole)))


def test_late_turns_share_the_last_index():
    batch = Batch.from_dialogues([episode(0, [[-float(j)] for j in range(1, TURNS + 3)], 1.0, [0] * (TURNS + 2))])
    seen = numbers(batch)
    assert seen[f"entropy_turn_{TURNS}"] == pytest.approx((TURNS + TURNS + 1 + TURNS + 2) / 3)
    assert f"entropy_turn_{TURNS + 1}" not in seen


@pytest.mark.parametrize("name", ["grpo", "gtpo", "rloo", "reinforce"])
def test_shares_add_up_to_one(name, batch):
    recipe = recipes.get(name)
    seen = diagnose(recipe, objective.prepare(recipe, batch), batch)
    for kind in ("gradient_turn", "gradient_quarter"):
        assert sum(value for key, value in seen.items() if key.startswith(kind)) == pytest.approx(1)
    assert all(math.isfinite(value) for value in seen.values())


# ---- the figure -------------------------------------------------------------------------------------------------------

ROWS = [
    {"step": step, "success": step / 10, "loss": 1.0, "correlation_turns": None if step == 2 else 0.5, "entropy_turn_2": 1.0}
    | {f"entropy_turn_{j}": 1.0 * step for j in (10, 1)}
    for step in (1, 2, 3, 4)
]


def test_a_panel_for_what_there_is_and_a_line_for_each_number():
    fig = diagnostics(ROWS)
    seen = {ax.get_title(loc="left"): ax for ax in fig.axes if ax.get_visible()}
    assert list(seen) == ["Success", "Turn rewards and success", "Entropy of each turn"]
    lines = {line.get_label(): line for line in seen["Entropy of each turn"].get_lines()}
    assert list(lines) == ["turn 1", "turn 2", "turn 10"]  # as numbers, not as letters
    assert lines["turn 10"].get_ydata().tolist() == [1, 2, 3, 4]
    assert seen["Success"].get_ylim() == (0, 1) and seen["Turn rewards and success"].get_ylim() == (-1, 1)


def test_a_running_mean_skips_what_is_missing():
    by_title = {ax.get_title(loc="left"): ax for ax in diagnostics(ROWS, smooth=2).axes}
    (line,) = by_title["Success"].get_lines()
    assert line.get_ydata().tolist() == pytest.approx([0.1, 0.15, 0.25, 0.35])
    line = by_title["Turn rewards and success"].get_lines()[0]
    assert line.get_ydata().tolist() == pytest.approx([0.5, math.nan, 0.5, 0.5], nan_ok=True)


def test_the_figure_in_words():
    told = describe_diagnostics(ROWS)
    assert "over 4 training steps" in told and "Success: 0.1 to 0.4" in told and "Entropy of each turn, turn 10: 1 to 4" in told


def test_rows_without_anything_to_draw_are_refused():
    cases = (([], {}, "no rows"), ([{"loss": 1.0}], {}, "none of these rows"), (ROWS, {"smooth": 0}, "smooth must be"))
    for rows, settings, message in cases:
        with pytest.raises(ValueError, match=message):
            diagnostics(rows, **settings)
