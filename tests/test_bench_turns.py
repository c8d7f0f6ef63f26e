"""Both sides play the same episodes, and the report says what it found."""

from __future__ import annotations

import pytest

from workbench.batch import Stop
from workbench.bench import Paired, language, main, turns


@pytest.fixture(scope="module")
def policy():
    return language.bench_policy("0.1m")


def test_both_sides_play_the_same_turns(policy):
    batch, ids = turns.ours(policy), turns.theirs(policy)
    rows, width = turns.GROUPS * turns.GROUP, batch.tokens.shape[1]
    assert batch.tokens.shape == ids.shape and batch.length.tolist() == [width] * rows
    assert batch.stop.tolist() == [Stop.DONE] * rows and batch.turns.tolist() == [turns.TURNS] * rows
    assert batch.mask.sum(1).tolist() == [turns.TURNS * turns.NEW] * rows
    given = ~batch.mask  # prompts and replies, token by token
    assert (ids[given] == batch.tokens[given]).all()


@pytest.mark.parametrize(("sizes", "said"), [((1.5, 1.0), "1.5x, reached (1.50x)"), ((1.0, 1.0), "1.5x, not reached (1.00x)")])
def test_the_report_and_the_command(monkeypatch, capsys, sizes, said):
    monkeypatch.setattr(turns, "paired", lambda theirs, ours, pairs: Paired([sizes[0]] * pairs, [sizes[1]] * pairs))
    monkeypatch.setattr(turns, "bench_policy", lambda size: None)
    assert main(["turns", "--quick", "--pairs", "2"]) == 0
    assert said in capsys.readouterr().out
