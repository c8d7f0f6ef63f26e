"""The bench times two things in turn, and runs the rooms it is asked for."""

from __future__ import annotations

import pytest

from workbench import bench


def test_ratios_are_paired():
    result = bench.Paired([2.0, 4.0, 9.0], [1.0, 1.0, 3.0])
    assert result.ratios == [2.0, 3.0, 4.0] and result.ratio == 3.0
    assert str(result) == " 3.00x  (2.00 to 4.00, 3 pairs)"


def test_the_two_sides_take_turns_and_warm_up():
    order = []
    result = bench.paired(lambda: order.append("theirs"), lambda: order.append("ours"), 2)
    assert order == ["theirs", "ours"] * 3
    assert len(result.ours) == len(result.theirs) == 2


@pytest.mark.parametrize(("arguments", "message"), [(["7b"], "no room '7b'"), (["--pairs", "0"], "at least 1")])
def test_wrong_use(arguments, message, capsys):
    with pytest.raises(SystemExit):
        bench.main(arguments)
    assert message in capsys.readouterr().err


def test_every_room_reports():
    """A room named in the bench has a `report`, and every module of the bench is named."""
    from importlib import import_module
    from pathlib import Path

    modules = {path.stem for path in Path(bench.__file__).parent.glob("*.py")} - {"__init__"}
    assert modules == set(bench.ROOMS)
    assert all(callable(import_module(f"workbench.bench.{room}").report) for room in bench.ROOMS)
