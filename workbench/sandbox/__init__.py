"""Running programs that nobody has read, and a verdict that they cannot forge.

Two problems, solved apart. Containment: a program runs in a process of its own that the kernel has locked down before the
first byte of it arrives (`lockdown`, `zygote`). Integrity: the tests never enter that process; the judge calls the
program's functions over a pipe and compares the plain data that comes back (`codec`, `judge`). An exit status, printed text
or a file is never evidence of success.

    from workbench import sandbox

    with sandbox.Pool() as pool:
        [result] = pool.judge([("def double(x): return 2 * x", "assert double(3) == 6")])

What no tier covers: faults of the kernel, side channels, a fault in the filter itself. For programs written by somebody who
wants to break out, use a virtual machine.
"""

from workbench.sandbox.judge import Case, Raised, Suite, suite
from workbench.sandbox.pool import Pool, shared
from workbench.sandbox.tiers import Tier, Unavailable, best, describe, probe
from workbench.sandbox.verdict import Limits, Result, Verdict, printable

__all__ = [
    "Case", "Limits", "Pool", "Raised", "Result", "Suite", "Tier", "Unavailable", "Verdict", "best", "describe", "printable",
    "probe", "shared", "suite",
]  # fmt: skip
