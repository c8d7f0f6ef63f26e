"""The bench of the bandits plays the same problem on both sides."""

from __future__ import annotations

import pytest

from workbench import bench
from workbench.bench import Paired
from workbench.bench import bandits as room


@pytest.mark.parametrize("policy", ["UCB1", "Thompson"])
@pytest.mark.parametrize("library", ["river", "mabwiser"])
def test_both_sides_run_and_times_are_per_round(library, policy, monkeypatch):
    pytest.importorskip(library)
    calls = []
    monkeypatch.setattr(room, "ROUNDS", {"ours": 50, "river": 20, "mabwiser": 10})

    def timed(theirs, ours, pairs):
        theirs()
        ours()
        calls.append(pairs)
        return Paired([2.0], [1.0])

    monkeypatch.setattr(room, "paired", timed)
    found = room.rounds_per_second(library, policy, 3)
    assert calls == [3] and found.theirs == [2.0 / room.ROUNDS[library]] and found.ours == [1.0 / (50 * 100)]


def test_the_report_and_its_targets(monkeypatch, capsys):
    pytest.importorskip("river"), pytest.importorskip("mabwiser")
    monkeypatch.setattr(room, "rounds_per_second", lambda library, policy, pairs: Paired([41.0], [1.0]))
    assert set(room.report(1, quick=True)) == {
        "UCB1 against river", "Thompson against river", "UCB1 against mabwiser", "Thompson against mabwiser",
    }  # fmt: skip
    assert "policies x" not in capsys.readouterr().out
    monkeypatch.setattr(room, "STUDY_SIZE", (30, 5))
    assert bench.main(["bandits"]) == 0
    said = capsys.readouterr().out
    assert "UCB1 against river: 40x, reached (41x)" in said and "150x, not reached (41x)" in said
    assert "12 policies x 5 repetitions x 30 rounds: under 120 s, reached" in said


def test_what_is_not_installed_is_skipped(monkeypatch, capsys):
    monkeypatch.setattr(room.importlib.util, "find_spec", lambda name: None)
    assert room.report(1, quick=True) == {}
    assert "river: skipped, river is not installed" in capsys.readouterr().out
