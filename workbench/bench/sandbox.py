"""The sandbox: programs judged a second, next to a fresh interpreter for each."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from workbench.bench import Paired

PROGRAMS = 40
TARGET = 7.0
_CHECKS = ("double(3) == 6", "double(0) == 0", "double(-2) == -4")
_PROGRAM = """
def double(x):
    total = 0
    for _ in range(2):
        total += x
    return total
"""


def fresh() -> None:
    """What most people do: the program and its asserts in an interpreter of their own, and a look at its exit status."""
    text = _PROGRAM + "".join(f"assert {check}\n" for check in _CHECKS)
    for _ in range(PROGRAMS):
        subprocess.run([sys.executable, "-I", "-S", "-c", text], check=True)


def report(pairs: int, *, quick: bool = False, show: Callable[[str], None] = print) -> dict[str, Paired]:
    """Judge the same programs both ways, in turn, on one worker; times by the clock, because the work is in other processes."""
    from workbench.sandbox import Limits, best, suite
    from workbench.sandbox.pool import Worker

    tests, limits = suite("".join(f"assert {check}\n" for check in _CHECKS)), Limits()
    worker = Worker(best())
    single: list[float] = []
    theirs: list[float] = []
    ours: list[float] = []
    inside = judging = 0.0
    try:
        for turn in range(pairs + 1):
            start = time.perf_counter()
            fresh()
            middle, began = time.perf_counter(), time.process_time()
            for _ in range(PROGRAMS):
                before = time.perf_counter()
                result = worker.judge(_PROGRAM, tests, limits)
                single.append(time.perf_counter() - before)
                inside += result.cpu
                if result.reward != 1:
                    raise RuntimeError(f"an honest program did not pass: {result}")
            judging += time.process_time() - began
            if turn:
                theirs.append(middle - start)
                ours.append(time.perf_counter() - middle)
    finally:
        worker.close()
    found = Paired(theirs, ours)
    middle_time = statistics.median(single) * 1e3
    show(f"\n{PROGRAMS} programs of three tests each, one worker, {best()}:")
    show(f"  programs a second: a fresh interpreter each  {found}  {PROGRAMS / statistics.median(ours):,.0f} a second")
    share = judging / (judging + inside)
    show(f"  one program: median {middle_time:.1f} ms; the judge's own share of the processor time {share:.0%}")
    show(f"target, programs a second: {TARGET}x, {'reached' if found.ratio >= TARGET else 'not reached'} ({found.ratio:.1f}x)")
    return {"programs": found}
