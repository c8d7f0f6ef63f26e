"""What `workbench bench causal` times gives the right answers and says what they are measured by."""

from __future__ import annotations

import numpy as np

from workbench.bench import causal
from workbench.causal import bounds, graph, planning


def test_the_report_compares_equal_values_and_names_every_target(monkeypatch):
    monkeypatch.setattr(causal, "STATES", 30)
    lines: list[str] = []
    found = causal.report(1, quick=True, show=lines.append)
    assert list(found) == ["robust value iteration"] and len(found["robust value iteration"].ours) == 1
    said = "\n".join(lines)
    assert "30 states x 10 actions" in said and "FindOx, 60 variables, 8 actions" in said and said.count("target below") == 3


def test_by_hand_is_another_way_to_the_same_values(monkeypatch):
    monkeypatch.setattr(causal, "STATES", 12)
    watched = causal.big_world()
    assert np.allclose(causal.by_hand(watched), planning.robust_value_iteration(bounds.natural(watched)).value, atol=1e-10)


def test_the_big_diagram_gives_findox_something_to_find():
    diagram, actions = causal.big_diagram()
    found = graph.find_ox(diagram, actions, diagram.order[-1])
    assert len(diagram.order) == 60 and len(actions) == 8 and found
