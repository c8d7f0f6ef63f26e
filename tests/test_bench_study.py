"""The bench of studies does the same work on both sides."""

from __future__ import annotations

from workbench.bench import study


def test_both_sides_of_each_comparison_give_the_same_numbers(monkeypatch):
    monkeypatch.setattr(study, "REPETITIONS", 5)
    expected = study.bare(3, 20)
    assert len(set(expected)) == 3
    assert study.harness(3, 20, backend="in_process") == expected
    assert study.harness(3, 20, workers=2) == expected


def test_the_report_says_the_share_of_the_harness_and_the_gain_of_a_worker(monkeypatch, capsys):
    monkeypatch.setattr(study, "overhead", lambda pairs: study.Paired([1.0] * pairs, [1.02] * pairs))
    monkeypatch.setattr(study, "workers", lambda pairs: study.Paired([9.0] * pairs, [5.0] * pairs))
    found = study.report(3, quick=True)
    said = capsys.readouterr().out
    assert "runs of 0.25 s of CPU   +2.0% of run time (target: below 3%)" in said
    assert "1.80x" in said and "target: 1.7x" in said
    assert len(found["overhead"].ours) == 3 and len(found["two workers"].ours) == 1
