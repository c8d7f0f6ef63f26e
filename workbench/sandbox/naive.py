"""Judges as people first write them, for teaching. Every one of them is FORGEABLE: never pay a reward by them.

Each puts the tests into the process of the program that they test and believes what that process says. Here the whole of it,
judge, tests and program, is one program of the sandbox, so a forged verdict harms nobody. The real judge is `Pool.judge`.

    with sandbox.Pool() as pool:
        naive.exit_code("raise SystemExit(0)", "assert double(3) == 6", pool)  # True: forged
"""

from __future__ import annotations

import ast
import secrets
from collections.abc import Callable

from workbench.sandbox.pool import Pool
from workbench.sandbox.tiers import Tier
from workbench.sandbox.verdict import Result, Verdict

MARKER = "ALL TESTS PASSED"

# A script's exit code. The sandbox has a use of its own for the process's, so leaving is made to look like `sys.exit`.
_EXIT_CODE = """
def verdict():
    import os, sys
    os._exit = sys.exit
    names = {{"__name__": "__main__", "exit": sys.exit, "quit": sys.exit}}  # which `-S` takes from a script
    try:
        exec(compile({script!r}, "script", "exec"), names)
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        return 1
    return 0
"""

_SAME_PROCESS = """
def verdict():
    names = {{}}
    try:
        exec({program!r}, names)
        exec({tests!r}, names)
    except Exception:
        return False
    return True
"""


def exit_code(program: str, tests: str, pool: Pool) -> bool:
    """FORGEABLE: run program and asserts as one script and believe an exit code of 0.

    Raises:
        ValueError: tests that are not Python or empty, or a pool that contains nothing.
        RuntimeError: the sandbox broke down, twice.
    """
    _check(tests)
    asked = _EXIT_CODE.format(script=f"{program}\n{tests}\n")
    return _run(asked, "assert verdict() == 0", pool).verdict is Verdict.PASS


def marker(program: str, tests: str, pool: Pool) -> bool:
    """FORGEABLE: print a fixed line after the asserts and believe the script if that line comes last. Raises: as `exit_code`."""
    _check(tests)
    return _last_line(f"{program}\n{tests}\nprint({MARKER!r})\n", pool) == MARKER


def nonce(program: str, tests: str, pool: Pool) -> bool:
    """FORGEABLE: as `marker`, but the line is drawn afresh for every run: it is still inside the process. Raises: as
    `exit_code`."""
    _check(tests)
    line = secrets.token_hex(16)
    return _last_line(f"{program}\n{tests}\nprint({line!r})\n", pool) == line


def same_process(program: str, tests: str, pool: Pool) -> bool:
    """FORGEABLE: `exec` the program, `exec` the asserts in its names, and pass whatever raises nothing. Raises: as
    `exit_code`."""
    _check(tests)
    asked = _SAME_PROCESS.format(program=program, tests=tests)
    return _run(asked, "assert verdict() == True", pool).verdict is Verdict.PASS


JUDGES: dict[str, Callable[[str, str, Pool], bool]] = {
    "exit code": exit_code,
    "marker": marker,
    "nonce": nonce,
    "same process": same_process,
}


def _check(tests: str) -> None:
    try:
        lines = ast.parse(tests).body
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"the tests are not Python: {error}") from None
    if not lines:
        raise ValueError("at least one test is needed: with none, every program would pass")


def _last_line(script: str, pool: Pool) -> str:
    """What the script printed last. The test is never met: only the output is looked at."""
    lines = _run(script, "assert nothing() == 0", pool).output.splitlines()
    return lines[-1] if lines else ""


def _run(program: str, tests: str, pool: Pool) -> Result:
    if pool.tier is Tier.PLAIN:
        raise ValueError("naive judges run forgeries: they need a pool that contains them, not Tier.PLAIN")
    [result] = pool.judge([(program, tests)])
    if result.verdict is Verdict.INFRASTRUCTURE:
        raise RuntimeError(f"the sandbox broke down: {result.message}")
    return result
