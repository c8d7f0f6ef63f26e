"""One run of a study: an arm, a seed, a budget, and the rows that come out.

The one protocol that everything is adapted to: an arm is a function

    arm(seed: int, budget: Budget) -> iterator of rows

and a row is a dict of plain numbers with

    step      a whole number that grows from row to row: updates made so far; 0 once all is prepared, before the first one
    samples   optional: episodes (or pulls, or demonstrations) used so far
    tokens    optional: tokens generated so far
    ...       any other name: a metric; None where it was not measured
    rollouts  optional: a list of dicts for JSON, examples to be looked at

All randomness comes from `seed`; arms that use it for the same purposes get common random numbers. The study stops asking when
the budget is spent, so an arm may run for ever, and it takes the time, so an arm reports none.
"""

from __future__ import annotations

import numbers
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

UNITS = ("updates", "samples", "tokens", "seconds")
AXES = ("step", "samples", "tokens", "seconds")
Row = dict[str, Any]
Arm = Callable[[int, "Budget"], Iterator[Mapping[str, Any]]]


@dataclass(frozen=True)
class Budget:
    """What one run may spend. The row that reaches `amount` is its last.

    Attributes:
        unit: "updates", "samples", "tokens" (generated), or "seconds" of wall-clock time, with which no two runs are alike.
    Raises:
        ValueError: no such unit, or an amount that is not positive (and whole, except for seconds).
    """

    amount: float
    unit: str

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(f"a budget is in {', '.join(UNITS)}, not in {self.unit!r}")
        if not 0 < self.amount < float("inf") or (self.unit != "seconds" and self.amount != int(self.amount)):
            kind = "positive number" if self.unit == "seconds" else "positive whole number"
            raise ValueError(f"a budget in {self.unit} must be a {kind}, not {self.amount!r}")

    @staticmethod
    def of(budget: str | Budget) -> Budget:
        """A budget written as text: "200 updates", "1e6 tokens", "90 seconds"."""
        if isinstance(budget, Budget):
            return budget
        match = re.fullmatch(r"\s*([0-9][0-9_]*\.?[0-9]*(?:e[0-9]+)?)\s*([a-z]+?)s?\s*", str(budget))
        if not match or f"{match[2]}s" not in UNITS:
            raise ValueError(f"a budget is a number and one of {', '.join(UNITS)}, such as '200 updates', not {budget!r}")
        return Budget(float(match[1]), f"{match[2]}s")

    def __str__(self) -> str:
        return f"{self.amount:g} {self.unit}" if self.amount != int(self.amount) else f"{int(self.amount)} {self.unit}"


@dataclass(frozen=True)
class Run:
    """What one run logged.

    Attributes:
        seconds: wall-clock time to each row, from the row of step 0 if there is one (what comes before it is preparation, such as
            a warm start), else from the start. It belongs to the machine, not to the result.
    """

    rows: list[Row]
    seconds: list[float]
    rollouts: list[Row]


def run_cell(arm: Arm, seed: int, budget: Budget, report: Callable[[float], None] = lambda share: None) -> Run:
    """Run one arm with one seed until the budget is spent or the arm ends.

    Args:
        report: is told, after each row, which share of the budget is spent.
    Raises:
        TypeError, ValueError: for rows that break the protocol, and for a budget in a unit that the arm does not log.
    """
    rows: list[Row] = []
    seconds: list[float] = []
    rollouts: list[Row] = []
    started = time.perf_counter()
    stream = arm(seed, budget)
    if not isinstance(stream, Iterator):
        raise TypeError(f"an arm must give an iterator of rows (write it with yield), not {type(stream).__name__}")
    try:
        for given in stream:
            now = time.perf_counter()
            row, shown = _checked(given, rows[-1] if rows else None)
            if row["step"] == 0:
                started = now
            rows.append(row)
            seconds.append(now - started)
            rollouts += [{"step": row["step"], **one} for one in shown]
            spent = _spent(row, seconds[-1], budget)
            report(min(1.0, spent / budget.amount))
            if spent >= budget.amount:
                break
    finally:
        if hasattr(stream, "close"):
            stream.close()
    if not rows:
        raise ValueError("the arm ended without a single row")
    return Run(rows, seconds, rollouts)


def _checked(given: Mapping[str, Any], last: Row | None) -> tuple[Row, list[Row]]:
    if not isinstance(given, Mapping):
        raise TypeError(f"a row must be a dict with 'step' and metrics, not {given!r}")
    values = dict(given)
    shown = list(values.pop("rollouts", None) or ())
    row: Row = {}
    for name, value in values.items():
        if value is None:
            continue
        if not isinstance(name, str):
            raise TypeError(f"a metric's name must be text, not {name!r}")
        if not isinstance(value, numbers.Real) and not (hasattr(value, "item") and getattr(value, "size", 0) == 1):
            raise TypeError(f"metric {name!r} must be one number or None, not {value!r}")
        row[name] = float(value.item() if hasattr(value, "item") else value)
    step = row.get("step")
    if step is None or step != int(step) or step < 0:
        raise ValueError(f"a row needs 'step', a whole number of updates made so far, not {step!r}")
    row["step"] = int(step)
    if last is not None and row["step"] <= last["step"]:
        raise ValueError(f"steps must grow from row to row; {row['step']} follows {last['step']}")
    for axis in ("samples", "tokens"):
        if last is not None and (axis in last) and row.get(axis, -1.0) < last[axis]:
            raise ValueError(f"{axis!r} counts from the start of the run; {row.get(axis)} follows {last[axis]}")
    if "seconds" in row:
        raise ValueError("the study takes the time itself; a row must not have 'seconds'")
    return row, shown


def _spent(row: Row, seconds: float, budget: Budget) -> float:
    if budget.unit == "seconds":
        return seconds
    name = "step" if budget.unit == "updates" else budget.unit
    if name not in row:
        raise ValueError(f"the budget is {budget}, but the arm's rows have no {name!r}: log it, or give a budget in updates")
    return row[name]
