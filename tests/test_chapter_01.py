"""The game at the beginning of chapter 01, played by clicking."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench import course

MASTER = Path(__file__).parents[1] / "notebooks" / "masters" / "01_multi_armed_bandits.py"


@pytest.fixture(scope="module")
def chapter():
    """What the cells before the first widget define."""
    names: dict = {}
    for cell in course.solved(MASTER).cells:
        if cell.cell_type == "code":
            if cell.source.startswith("widget, "):
                return names
            exec(cell.source, names)
    raise AssertionError("the chapter has no widget")


def test_clicks_pull_the_machines_until_fifty_and_then_show_the_curves(chapter, capsys):
    widget, buttons, state = chapter["sit_down"](seed=3)
    told = widget.children[1]
    assert [button.description for button in buttons] == [*(f"pull {name}" for name in "ABCDE"), "new game"]
    for turn in range(49):
        buttons[turn % 2].click()
    game = state["game"]
    assert game.count.tolist() == [25, 24, 0, 0, 0] and told.value.startswith("Pulls left: 1. Paid: A: ")
    expected = [sum(game._luck[t] < game._means[k] for t in range(k, 49, 2)) for k in (0, 1)]
    assert game.wins[:2].tolist() == expected
    assert "[figure]" not in capsys.readouterr().out
    buttons[1].click()
    assert game.over and "All fifty pulls are spent" in told.value
    lost = 25 * (2 * game._means.max() - game._means[0] - game._means[1])
    assert f"[figure] Regret after 50 pulls: you {lost:.1f}, UCB1" in capsys.readouterr().out
    buttons[0].click()  # nobody pulls after the end
    assert game.count.sum() == 50


def test_a_new_game_has_other_machines_and_the_same_seed_the_same(chapter):
    _, buttons, state = chapter["sit_down"](seed=3)
    first = state["game"]._means
    buttons[0].click()
    buttons[5].click()
    assert not state["game"].lost and list(state["game"]._means) != list(first)
    assert list(chapter["Game"](4)._means) == list(state["game"]._means)
    assert all(0 < p < 1 for seed in range(50) for p in chapter["Game"](seed)._means)
