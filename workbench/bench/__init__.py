"""`workbench bench`: how fast the workbench is next to what you would use otherwise, on this machine, now.

Every number is a ratio of two things timed in turn in one process on one thread: on a laptop absolute speeds drift by a
third, ratios by a few per cent. Times are CPU seconds of the process, so that other programs disturb little; the table gives
the median ratio, and the smallest and largest. One module here for each room that has something to compare; its `report`
prints a line for every comparison and returns them by name.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median  # a room is called statistics too
from typing import Any

ROOMS = ("language", "turns", "sandbox", "bandits", "causal", "statistics", "study")


@dataclass(frozen=True)
class Paired:
    """Times of two programs that did the same work in turn."""

    theirs: list[float]
    ours: list[float]

    @property
    def ratios(self) -> list[float]:
        return sorted(t / o for t, o in zip(self.theirs, self.ours))

    @property
    def ratio(self) -> float:
        return median(self.ratios)

    def __str__(self) -> str:
        return (
            f"{self.ratio:5.2f}x  ({self.ratios[0]:.2f} to {self.ratios[-1]:.2f}, {len(self.ratios)} pairs)"
        )


def paired(theirs: Callable[[], Any], ours: Callable[[], Any], pairs: int) -> Paired:
    """Time the two in turn, `pairs` times each after one warm-up each. CPU seconds of this process."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(pairs + 1):
        for act, found in zip((theirs, ours), times):
            gc.collect()
            start = time.process_time()
            act()
            if turn:
                found.append(time.process_time() - start)
    return Paired(*times)


def main(argv: Sequence[str] | None = None) -> int:
    """The command `workbench bench`."""
    parser = argparse.ArgumentParser(prog="workbench bench", description=str(__doc__).split("\n\n")[0])
    parser.add_argument("rooms", nargs="*", metavar="room", help=f"any of {', '.join(ROOMS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="the comparisons with targets only, at one size")
    parser.add_argument("--pairs", type=int, default=5, help="how often each is timed (default: 5)")
    options = parser.parse_args(argv)
    for room in options.rooms:
        if room not in ROOMS:
            parser.error(f"no room {room!r}; there are {', '.join(ROOMS)}")
    if options.pairs < 1:
        parser.error("--pairs: at least 1")
    os.environ["OMP_NUM_THREADS"] = "1"
    for room in options.rooms or ROOMS:
        importlib.import_module(f"workbench.bench.{room}").report(options.pairs, quick=options.quick)
    return 0
