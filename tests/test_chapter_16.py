"""What chapter 16 says of its two records is what they hold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workbench import stats

DATA = Path(__file__).parents[1] / "data"
SQUARES = [f"noise {noise}, slack {slack}" for noise in (".2", ".5") for slack in (0, 1, 3)]
MAIN = "noise .5, slack 3"


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return pd.DataFrame(json.loads((DATA / "gtpo.json").read_text())["rows"])


def per_seed(frame, condition, arm, measure="success", looks=(10, 20, 30, 40)):
    chosen = frame[(frame.condition == condition) & (frame.arm == arm) & frame["update"].isin(looks)]
    wide = chosen.pivot(index="seed", columns="update", values=measure)
    assert len(wide) == 8 and not wide.isna().any(axis=None)
    return 100 * wide.mean(axis=1).to_numpy()


def gap(frame, condition, arm, base="grpo", **what):
    return stats.paired_difference(per_seed(frame, condition, arm, **what), per_seed(frame, condition, base, **what))


def test_malformed_calls_fall_faster_with_credit_by_turns(frame):
    early = {arm: per_seed(frame, MAIN, arm, "malformed", [10]).mean() for arm in ("grpo", "gtpo", "grpo-min")}
    assert round(early["gtpo"]) == 7 and round(early["grpo"]) == 16 and early["grpo-min"] < early["gtpo"]
    for arm in ("gtpo", "gtpo-no-turn-rewards", "gtpo-no-returns", "gtpo-no-shaping"):
        assert gap(frame, MAIN, arm, measure="malformed", looks=[10]).high < 0


def test_success_comes_sooner_and_no_part_is_the_secret(frame):
    over, end = gap(frame, MAIN, "gtpo"), gap(frame, MAIN, "gtpo", looks=[40])
    assert round(over.estimate, 1) == 2.7 and over.low > 0 and end.low < 0 < end.estimate < 1 < end.high
    without = {name: gap(frame, MAIN, f"gtpo-no-{name}", "gtpo") for name in ("turn-rewards", "shaping", "returns")}
    for part in ("turn-rewards", "shaping"):
        assert without[part].low < 0 < without[part].high and abs(without[part].estimate) < 0.3
    assert round(without["returns"].estimate) == -1 and without["returns"].high < 0
    assert round(gap(frame, MAIN, "grpo-min", "gtpo").estimate, 1) == -1.5


def test_the_map_has_five_squares_for_it_none_against_and_no_floor_that_decides(frame):
    wins = {square: gap(frame, square, "gtpo", looks=(10, 20)) for square in SQUARES}
    assert [square for square, found in wins.items() if found.low <= 0] == ["noise .2, slack 0"]
    assert wins["noise .2, slack 0"].low < 0 < wins["noise .2, slack 0"].high
    assert all(2.5 < found.estimate < 4 for square, found in wins.items() if square != "noise .2, slack 0")
    low = [gap(frame, square, "gtpo-floor-.05", looks=(10, 20)) for square in SQUARES]
    assert 0 < sum(found.low > 0 for found in low) < 5 and all(found.high > 0 for found in low)
    for square in SQUARES:
        floors = gap(frame, square, "gtpo-floor-.05", "gtpo", looks=(10, 20))
        assert floors.low < 0 < floors.high
    fewest = min(SQUARES, key=lambda square: per_seed(frame, square, "grpo", "malformed", [10]).mean())
    assert fewest == "noise .2, slack 0"
    assert min(per_seed(frame, square, "grpo", looks=[0]).mean() for square in SQUARES) > 25


def test_on_repair_where_hardly_a_turn_is_malformed_it_is_a_tie(frame):
    arms = sorted(set(frame[frame.condition == "repair"].arm) - {"grpo"})
    found = [gap(frame, "repair", arm, looks=(10, 20)) for arm in arms]
    assert len(arms) == 6 and all(one.low < 0 < one.high and abs(one.estimate) < 0.5 for one in found)
    assert per_seed(frame, "repair", "grpo", "malformed", [10]).mean() < 3


def test_the_mask_is_no_bookkeeping():
    rows = pd.DataFrame(json.loads((DATA / "unmasked.json").read_text())["rows"])

    def last(kind, mask, measure, update):
        chosen = rows[(rows.kind == kind) & (rows["mask"] == mask) & (rows["update"] == update)]
        return stats.t_interval(chosen.sort_values("seed")[measure].to_numpy())

    start, on, off = last("grpo", True, "success", 0), last("grpo", True, "success", 10), last("grpo", False, "success", 10)
    assert np.round([start.estimate, on.estimate], 2).tolist() == [0.30, 0.47] and off.low < start.estimate < off.high
    assert last("lessons", False, "invented", 20).low > 0.5 and last("lessons", True, "invented", 20).estimate == 0


def test_the_search_elsewhere_says_what_its_runs_say():
    record = json.loads((DATA / "horizons.json").read_text())
    assert [one["against"] for one in record["search"]] == ["grpo", "grpo-min"] * 4
    for family in (record["search"], record["others"]):
        for one in family:
            arms = [
                {run["seed"]: 100 * np.mean(run["success"][1:]) for run in record["rows"]
                 if run["condition"] == one["condition"] and run["arm"] == arm}
                for arm in (one["arm"], one["against"])
            ]  # fmt: skip
            assert len(arms[0]) == 8 and arms[0].keys() == arms[1].keys()
            values = [[found[seed] for seed in sorted(found)] for found in arms]
            alone = stats.paired_difference(*values)
            together = stats.paired_difference(*values, level=1 - 0.05 / len(family))
            told = [one[name] for name in ("effect", "low", "high", "low of all", "high of all")]
            assert told == pytest.approx([*alone, *together[1:]], abs=0.011)


def test_where_else_it_pays_a_little_where_mistakes_cost_a_turn_and_not_where_they_show_late():
    record = json.loads((DATA / "horizons.json").read_text())
    found = {(one["condition"], one["against"]): one for one in record["search"]}
    clear = {name for name, one in found.items() if one["low of all"] > 0 or one["high of all"] < 0}
    assert clear == {("useless calls", "grpo"), ("useless calls", "grpo-min")}
    assert found["long", "grpo"]["low"] > 0 and found["long", "grpo-min"]["low"] < 0 < found["long", "grpo-min"]["high"]
    assert all(-0.5 < found["decoys", base]["effect"] and found["decoys", base]["high"] < 0 for base in ("grpo", "grpo-min"))
    for late in (found["late errors", base] for base in ("grpo", "grpo-min")):
        assert late["low"] < late["effect"] < 0 < late["high"]
    assert record["others"][0]["low"] < 0 < record["others"][0]["high"]
    rows = pd.DataFrame([row for row in record["rows"] if row["condition"] == "long"])
    malformed = {arm: 100 * np.mean([row[0] for row in runs.malformed]) for arm, runs in rows.groupby("arm")}
    assert round(malformed["grpo"]) == 13 and round(malformed["gtpo"]) == 8
    assert all(row["success"][1:] > [0.9, 0.95] for row in record["rows"] if row["condition"] == "decoys")
