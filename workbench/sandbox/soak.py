"""Many programs through one pool, and what is left of them: `python -m workbench.sandbox.soak 200000`.

Memory, open files and number of all processes, before and after. "Before" is after the first thousand programs, when Python and
the pool have settled; of the zygotes, which are replaced every so often, it is the largest that counts.

Recorded on two cores of an EPYC (Zen 5; Linux 6.18, Python 3.11, two workers): 200,000 programs in 192 s, nineteen of twenty
honest, which all passed. The judge went from 28.5 to 29.0 MB (28.9 after 20,000) with 12 descriptors in 3 threads throughout; the
largest zygote held 11.4 MB and 5 descriptors; there were 7 processes before and after.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from workbench.sandbox.pool import Pool
from workbench.sandbox.verdict import Limits, Verdict

HONEST = "def double(x):\n    total = 0\n    for _ in range(2):\n        total += x\n    return total\n"
OTHERS = {  # of a hundred programs, what some are instead
    3: "def double(x): return x",
    17: "def double(x) return x",
    31: "import os\nos._exit(0)",
    59: "def double(x):\n    print('x' * 10_000)\n    return [object()]",
    83: "def double(x): return bytes(1 << 29)",
}
TESTS = "assert double(3) == 6\nassert double(0) == 0\nassert double(-2) == -4"
SETTLED = 1_000


@dataclass(frozen=True)
class Held:
    """What the judge and everything below it hold. memory: resident kilobytes, of the judge and of the largest other."""

    processes: int
    judge_memory: int
    judge_files: int
    judge_threads: int
    largest_memory: int
    most_files: int


def held() -> Held:
    """What is held now."""
    own, below = os.getpid(), list(_below(os.getpid()))
    status = Path(f"/proc/{own}/status").read_text()
    return Held(
        len(below) + 1, _memory(own), len(os.listdir(f"/proc/{own}/fd")), int(status.split("Threads:")[1].split()[0]),
        max(map(_memory, below), default=0), max(map(_files, below), default=0),
    )  # fmt: skip


def soak(
    programs: int, *, workers: int | None = None, seconds: float = float("inf"), show: Callable[[str], None] = print
) -> dict:  # fmt: skip
    """Judge `programs` programs, or as many as there is time for, and compare what is held before and after.

    Returns:
        programs: how many were judged after the first SETTLED. verdicts: how often each. before, after: `Held`. seconds.
    """
    verdicts = dict.fromkeys(map(str, Verdict), 0)
    done, start, before = 0, time.monotonic(), held()
    with Pool(workers, limits=Limits(cpu=0.5)) as pool:
        while done < programs + SETTLED and time.monotonic() - start < seconds:
            if done == SETTLED:
                before = held()
                show(f"before: {before}")
            batch = [(OTHERS.get(number % 100, HONEST), TESTS) for number in range(done, done + SETTLED)]
            for result in pool.judge(batch):
                verdicts[result.verdict] += 1
            done += SETTLED
            if done % (20 * SETTLED) == 0:
                show(f"{done:,} programs, {time.monotonic() - start:.0f} s: {held()}")
        after = held()
    return {
        "programs": done - SETTLED, "seconds": round(time.monotonic() - start, 1), "workers": workers or os.cpu_count(),
        "verdicts": {name: count for name, count in verdicts.items() if count},
        "before": asdict(before), "after": asdict(after),
        "made with": f"Linux {platform.release()}, Python {platform.python_version()}",
    }  # fmt: skip


def _below(process: int) -> Iterator[int]:
    """The descendants of a process."""
    for child in Path(f"/proc/{process}/task").glob("*/children"):
        for name in child.read_text().split():
            yield int(name)
            yield from _below(int(name))


def _memory(process: int) -> int:
    """Resident kilobytes; 0 if it has just ended."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    except OSError:
        return 0


def _files(process: int) -> int:
    try:
        return len(os.listdir(f"/proc/{process}/fd"))
    except OSError:  # it has just ended, or hides itself from everybody but root
        return 0


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("programs", type=int)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    options = parser.parse_args()
    show = functools.partial(print, flush=True)
    print(json.dumps(soak(options.programs, workers=options.workers, seconds=options.seconds, show=show), indent=1))


if __name__ == "__main__":
    main()
