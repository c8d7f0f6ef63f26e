"""The bench of the statistics compares equal intervals."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest

from workbench import bench, stats
from workbench.bench import Paired
from workbench.bench import statistics as room


def test_both_sides_find_the_same_interval():
    if room.rliable() is None:
        pytest.skip("rliable is not installed")
    library, metrics = room.rliable()
    x, _ = room.scores()
    _, ends = library.get_interval_estimates(
        {"x": x}, lambda z: np.array([metrics.aggregate_iqm(z)]), reps=room.DRAWS
    )
    ours = stats.stratified_bootstrap(x, seed=0, draws=room.DRAWS)
    assert np.allclose(ours[1:], ends["x"][:, 0], atol=0.006)  # the ends lie 0.08 apart


def test_pandas_is_left_as_it_was():
    decorators = importlib.import_module("pandas.util._decorators")
    before = decorators.deprecate_kwarg
    room.rliable()
    assert decorators.deprecate_kwarg is before


def test_the_report_and_its_target(monkeypatch, capsys):
    if room.rliable() is None:
        pytest.skip("rliable is not installed")
    monkeypatch.setattr(room, "DRAWS", 20)
    monkeypatch.setattr(room, "improvement_interval", lambda pairs: Paired([3.0], [1.0]))
    assert set(room.report(1, quick=True)) == {"IQM interval"}
    assert room.report(1)["improvement interval"].ratio == 3.0
    monkeypatch.setattr(room, "iqm_interval", lambda pairs: Paired([29.0], [2.0]))
    assert bench.main(["statistics", "--quick"]) == 0
    assert "15x, not reached (14.5x)" in capsys.readouterr().out


def test_without_rliable_the_report_says_so(monkeypatch, capsys):
    monkeypatch.setattr(room.importlib.util, "find_spec", lambda name: None)
    assert room.report(1) == {}
    assert "rliable: skipped" in capsys.readouterr().out
    with pytest.raises(ImportError, match="test"):
        room.iqm_interval(1)


def test_the_room_does_not_hide_the_module_of_that_name():
    """`workbench.bench.statistics` becomes an attribute of the package whose code takes medians."""
    assert sys.modules["workbench.bench"].statistics is room
    assert Paired([2.0, 3.0, 7.0], [1.0, 1.0, 1.0]).ratio == 3.0
