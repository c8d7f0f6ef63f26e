"""The sandbox: programs judged a second, next to a fresh interpreter for each."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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
_SCRIPT = _PROGRAM + "".join(f"assert {check}\n" for check in _CHECKS)


def fresh(_: object = None) -> None:
    """What most people do: the program and its asserts in an interpreter of their own, and a look at its exit status."""
    subprocess.run([sys.executable, "-I", "-S", "-c", _SCRIPT], check=True)


def report(pairs: int, *, quick: bool = False, show: Callable[[str], None] = print) -> dict[str, Paired]:
    """Judge the same programs both ways, in turn: by the clock on one worker and on one per core, and by the processor time of
    everything that takes part."""
    from workbench.sandbox import Limits, Pool, best, suite
    from workbench.sandbox.pool import Worker

    tests, cores = suite("".join(f"assert {check}\n" for check in _CHECKS)), os.cpu_count() or 1
    tier, single, clock, cores_clock, cpu = best(), [], ([], []), ([], []), ([], [])  # type: ignore[var-annotated]
    worker, share = Worker(tier), [0.0, 0.0]

    def judged() -> None:
        before = time.perf_counter()
        if worker.judge(_PROGRAM, tests, Limits()).reward != 1:
            raise RuntimeError("an honest program did not pass")
        single.append(time.perf_counter() - before)

    with Pool(tier=tier) as pool, ThreadPoolExecutor(cores) as threads:
        try:
            for turn in range(pairs + 1):
                times = []
                for act in (fresh, judged):
                    start, before = time.perf_counter(), _used(worker.process.pid)
                    for _ in range(PROGRAMS):
                        act()
                    spent = [now - then for now, then in zip(_used(worker.process.pid), before)]
                    times.append((time.perf_counter() - start, spent))
                many = []
                for everything in (
                    lambda: list(threads.map(fresh, range(PROGRAMS * cores))),
                    lambda: pool.judge([(_PROGRAM, tests)] * (PROGRAMS * cores)),
                ):
                    start = time.perf_counter()
                    everything()
                    many.append(time.perf_counter() - start)
                if turn:
                    for side in range(2):
                        clock[side].append(times[side][0])
                        cores_clock[side].append(many[side])
                    (_, (_, theirs, _)), (_, (judge, _, inside)) = times
                    cpu[0].append(theirs)
                    cpu[1].append(judge + inside)
                    share = [share[0] + judge, share[1] + judge + inside]
        finally:
            worker.close()
    found = {"programs": Paired(*clock), "programs, all cores": Paired(*cores_clock), "processor time": Paired(*cpu)}
    middle = statistics.median(single) * 1e3
    show(f"\n{PROGRAMS} programs of three tests each, {tier}, next to a fresh `python -I -S` for each:")
    rate = PROGRAMS / statistics.median(clock[1])
    show(f"  programs a second, one worker, one after the other  {found['programs']}  {rate:,.0f} a second")
    rate = PROGRAMS * cores / statistics.median(cores_clock[1])
    show(f"  the same, {cores} workers, {cores} interpreters at a time      {found['programs, all cores']}  {rate:,.0f} a second")
    each = statistics.median(cpu[1]) / PROGRAMS * 1e3
    show(f"  processor time of all that takes part               {found['processor time']}  {each:.2f} ms a program")
    show(f"  one program: median {middle:.1f} ms; the judge's own share of the processor time {share[0] / share[1]:.0%}")
    ratio = found["programs"].ratio
    show(f"target, programs a second, one worker: {TARGET}x, {'reached' if ratio >= TARGET else 'not reached'} ({ratio:.1f}x)")
    return found


def _used(zygote: int) -> tuple[float, float, float]:
    """Seconds of processor time: of this process, of its ended children, and of a zygote and all that it has forked."""
    mine, ended = time.process_time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    return mine, ended.ru_utime + ended.ru_stime, _below(zygote)


def _below(process: int) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        below = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:  # it has just ended, and counts where it was waited for
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK") + sum(_below(int(child)) for child in below)
