"""The judge's side: warm workers, the conversation with a program, and batches of programs.

A `Worker` is one zygote (see `zygote`) and judges one program at a time. A `Pool` has one per core and a thread for each, so its
calls work the same inside a notebook, where an event loop is running, and outside.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import json
import os
import queue
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from types import TracebackType
from typing import Any

from workbench.sandbox import codec
from workbench.sandbox.judge import Case, Suite, shown, suite
from workbench.sandbox.tiers import Tier, best
from workbench.sandbox.verdict import Limits, Result, Verdict, printable

Tests = str | Suite | Sequence[Case]

START = 20.0  # seconds a zygote, or a fork of it, may take to be ready before we call it broken
RECYCLE = 5_000  # programs after which a zygote is replaced
_BOOT = """
import json, sys
folder, settings = sys.argv[1:]
sys.path.insert(0, folder)
import zygote
del sys.path[0]
zygote.main(json.loads(settings))
"""


class ZygoteFailed(RuntimeError):
    """A worker's process could not be started, or died."""


class Ended(Exception):
    """The program has come to its verdict."""

    def __init__(self, verdict: Verdict, message: str = "") -> None:
        self.verdict, self.message = verdict, message


class Worker:
    """One zygote; judges one program at a time. Not for use by two threads at once."""

    def __init__(self, tier: Tier, settings: dict | None = None) -> None:
        """settings: layers other than the tier's, for tests that switch one off.

        Raises:
            ZygoteFailed: it does not start; says why.
        """
        self.tier, self.forks = tier, 0
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(START)
        folder = str(Path(__file__).parent)
        command = [sys.executable, "-I", "-S", "-c", _BOOT, folder, json.dumps(settings or tier.settings)]
        environment: dict[str, str] = {}
        self.process = subprocess.Popen(
            command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, cwd="/",
            start_new_session=True,  # Ctrl-C in a terminal is for the judge alone
        )  # fmt: skip
        theirs.close()
        try:
            found = json.loads(self.control.recv(4096) or b'{"error": "it ended at once"}')
        except OSError as error:
            found = {"error": f"no sign of life: {error}"}
        if "error" in found:
            self.close()
            raise ZygoteFailed(found["error"])

    def close(self) -> None:
        """End the zygote and whatever it runs."""
        self.control.close()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def judge(self, program: str, tests: Suite, limits: Limits) -> Result:
        """Run one program against its tests, in an order that it cannot know, up to the first case it fails."""
        self.forks += 1
        talk, order = Conversation(self.control, limits), _order(program, tests)
        passed = 0
        try:
            talk.open()
            talk.begin(program, order)
            talk.hear()  # the program itself has run
            for case in order:
                answer = talk.hear()
                if not case.accepts(answer):
                    raise Ended(Verdict.WRONG_ANSWER, f"{case}, not {shown(answer)}")
                passed += 1
            verdict, message = Verdict.PASS, ""
        except Ended as ended:
            verdict, message = ended.verdict, ended.message
        except OSError as error:
            verdict, message = Verdict.INFRASTRUCTURE, f"the sandbox broke down: {error}"
        spoilt, cpu = talk.close()
        if verdict is Verdict.PASS and spoilt is not None:
            verdict, message = spoilt.verdict, spoilt.message
        output = printable(talk.printed.decode(errors="replace"))
        return Result(verdict, passed, len(order), printable(message), output, cpu, str(self.tier))


class Conversation:
    """The judge's half of the pipes to one program, with everything that may go wrong turned into a verdict."""

    def __init__(self, control: socket.socket, limits: Limits) -> None:
        self.control, self.limits = control, limits
        self.report: dict | None = None
        self.outgoing, self.heard, self.printed = b"", bytearray(), bytearray()
        self.deadline = time.monotonic() + START
        self.ends: list[int] = []
        self.waiting = select.poll()

    def open(self) -> None:
        """Have the zygote fork, and wait until the child has locked itself down."""
        program, self.program = os.pipe2(os.O_CLOEXEC)
        self.answers, answers = os.pipe2(os.O_CLOEXEC)
        self.output, output = os.pipe2(os.O_CLOEXEC)
        self.ends = [self.program, self.answers, self.output]
        request = {"cpu": self.limits.cpu, "memory": self.limits.memory}
        try:
            socket.send_fds(self.control, [json.dumps(request).encode()], [program, answers, output])
        finally:
            for end in (program, answers, output):
                os.close(end)
        for end in self.ends:
            os.set_blocking(end, False)
        for end in (self.answers, self.output, self.control.fileno()):
            self.waiting.register(end, select.POLLIN)
        reply = self._next()
        if reply != ("ready",):
            raise Ended(Verdict.INFRASTRUCTURE, f"the sandbox could not be locked: {reply!r}")

    def begin(self, program: str, cases: Sequence[Case]) -> None:
        """Hand over the program and what it will be asked, never what is expected."""
        try:
            data = codec.encode((program, [(case.function, case.arguments) for case in cases]))
        except codec.Unsupported as error:
            raise Ended(Verdict.UNSUPPORTED_VALUE, f"the program cannot be handed over: {error}") from None
        self.outgoing = struct.pack(">I", len(data)) + data
        self.waiting.register(self.program, select.POLLOUT)
        self.deadline = time.monotonic() + (self.limits.wall or 0)

    def hear(self) -> object:
        """The next value that the program returns.

        Raises:
            Ended: it did not return plain data.
        """
        match self._next():
            case ("value", value):
                return value
            case ("exception", str(kind), str(text)):
                raise Ended(Verdict.MEMORY if kind == "MemoryError" else Verdict.EXCEPTION, f"{kind}: {text}")
            case ("unsupported", str(text)):
                raise Ended(Verdict.UNSUPPORTED_VALUE, f"it returned {text}")
        raise Ended(Verdict.PROTOCOL, "it answered something that is no answer")

    def close(self) -> tuple[Ended | None, float]:
        """Kill the program and wait until it is gone: what spoils a pass, if anything, and its CPU seconds."""
        spoilt = None
        try:
            if self.ends and self.report is None:
                with contextlib.suppress(OSError):
                    self.control.send(b'{"kill": 1}')
                self.control.settimeout(START)
                self._read_report()
        except Ended as ended:
            spoilt = ended
        for end in self.ends:
            with contextlib.suppress(OSError):
                if end == self.answers and (self.heard or os.read(end, 1)):
                    spoilt = spoilt or Ended(Verdict.PROTOCOL, "it answered without being asked")
                if end == self.output:
                    self.printed += os.read(end, self.limits.output)
            os.close(end)
        cpu = (self.report or {}).get("cpu", 0.0)
        if cpu > self.limits.cpu:
            spoilt = spoilt or Ended(Verdict.CPU_TIME, f"it used {cpu:.2f} s of {self.limits.cpu:g} s")
        return spoilt, cpu

    def _next(self) -> object:
        """The next message of the program; what there is to send goes out meanwhile."""
        while (message := self._message()) is None:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise Ended(Verdict.WALL_TIME, f"no answer after {self.limits.wall:g} s")
            ready = [end for end, _ in self.waiting.poll(left * 1000)]
            for end in ready:
                if end == self.output:
                    self._hear_output()
                elif end == self.program:
                    self._send()
                elif end == self.answers:
                    data = os.read(end, 1 << 18)
                    if not data:  # it has gone: the zygote knows how
                        self.waiting.unregister(end)
                    self.heard += data
            if ready == [self.control.fileno()]:  # nothing more will come
                self._read_report()
                raise self._post_mortem()
        return message

    def _send(self) -> None:
        try:
            self.outgoing = self.outgoing[os.write(self.program, self.outgoing) :]
        except BrokenPipeError:
            self.outgoing = b""
        if not self.outgoing:
            self.waiting.unregister(self.program)

    def _hear_output(self) -> None:
        data = os.read(self.output, 1 << 16)
        if not data:
            self.waiting.unregister(self.output)
        self.printed += data
        if len(self.printed) > self.limits.output:
            raise Ended(Verdict.OUTPUT_LIMIT, f"it printed more than {self.limits.output} bytes")

    def _message(self) -> object | None:
        """One message out of what was heard, or None if there is no whole one."""
        if len(self.heard) < 4:
            return None
        end = 4 + struct.unpack(">I", self.heard[:4])[0]
        if end > 4 + codec.FRAME:
            raise Ended(Verdict.PROTOCOL, f"it announced an answer of {end - 4} bytes")
        if len(self.heard) < end:
            return None
        data = bytes(self.heard[4:end])
        del self.heard[:end]
        try:
            return codec.decode(data)
        except codec.Malformed as error:
            raise Ended(Verdict.PROTOCOL, f"it answered something that is no answer: {error}") from None

    def _read_report(self) -> None:
        try:
            data = self.control.recv(4096)
        except OSError as error:
            raise Ended(Verdict.INFRASTRUCTURE, f"the sandbox did not say how the program ended: {error}") from None
        if not data:
            raise Ended(Verdict.INFRASTRUCTURE, "the sandbox has died")
        self.report = json.loads(data)

    def _post_mortem(self) -> Ended:
        """The verdict on a program that ended before its answer."""
        assert self.report is not None
        status = self.report["status"]
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        if self.report["reason"] == "cpu" or number == signal.SIGXCPU:
            return Ended(Verdict.CPU_TIME, f"it used more than {self.limits.cpu:g} s")
        if number:
            return Ended(Verdict.KILLED, f"it was ended by {signal.Signals(number).name}")
        return Ended(Verdict.PROTOCOL, "it left without an answer")


@functools.cache
def shared() -> Pool:
    """A pool for whoever needs one now and then: made when first asked for, closed when Python ends.

    Raises:
        Unavailable: no tier holds on this machine.
    """
    pool = Pool()
    atexit.register(pool.close)
    return pool


def _order(program: str, tests: Suite) -> list[Case]:
    """The cases in an order that depends on the program's text, so that a program cannot count its calls and know the test."""

    def place(number: int) -> bytes:
        return hashlib.sha256(f"{number}:{program}".encode(errors="replace")).digest()

    return [tests.cases[number] for number in sorted(range(len(tests.cases)), key=place)]


class Pool:
    """Workers, and batches of programs for them.

    Args:
        workers: zygotes; default: one per core. limits: for every program. tier: how programs are contained; default: the
            strongest that holds here. remember: keep results by (program, tests) and give them again.
        i_trust_every_program: needed for Tier.PLAIN, which contains nothing.
    Raises:
        Unavailable: no tier holds on this machine.
        ValueError: fewer than one worker, or Tier.PLAIN without the promise.
    """

    def __init__(
        self, workers: int | None = None, *, limits: Limits | None = None, tier: Tier | None = None, remember: bool = False,
        i_trust_every_program: bool = False,
    ) -> None:  # fmt: skip
        count = (os.cpu_count() or 1) if workers is None else workers
        if count < 1:
            raise ValueError(f"a pool needs at least one worker, not {workers!r}")
        if tier is Tier.PLAIN and not i_trust_every_program:
            raise ValueError("Tier.PLAIN contains nothing; if you trust what will run, say i_trust_every_program=True")
        self.limits, self.tier = limits or Limits(), tier or best()
        self.known: dict[tuple[str, Suite], Result] | None = {} if remember else None
        self.idle: queue.SimpleQueue[Worker | None] = queue.SimpleQueue()
        for _ in range(count):
            self.idle.put(None)  # started when first needed
        self.workers = count
        self.threads = ThreadPoolExecutor(count, thread_name_prefix="sandbox")

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let running programs end, forget waiting ones, and end the workers."""
        self.threads.shutdown(cancel_futures=True)
        for _ in range(self.workers):
            worker = self.idle.get()
            if worker is not None:
                worker.close()
        self.workers = 0

    def submit(self, program: str, tests: Tests, *, limits: Limits | None = None) -> Future[Result]:
        """Have one program judged in the background.

        Raises:
            ValueError: tests that cannot be read; before anything runs.
        """
        return self.threads.submit(self._judge, program, suite(tests), limits or self.limits)

    def judge(
        self, jobs: Iterable[tuple[str, Tests]], *, limits: Limits | None = None,
        progress: Callable[[int, int], Any] | None = None,
    ) -> list[Result]:  # fmt: skip
        """Judge (program, tests) pairs and give their results in the same order.

        Args:
            progress: called with the numbers done and in all after each.
        Raises:
            ValueError: tests that cannot be read; before anything runs.
        """
        ready = [(program, suite(tests)) for program, tests in jobs]
        futures = [self.threads.submit(self._judge, program, tests, limits or self.limits) for program, tests in ready]
        try:
            for done, _ in enumerate(as_completed(futures), 1):
                if progress is not None:
                    progress(done, len(futures))
        except BaseException:
            for future in futures:
                future.cancel()
            raise
        return [future.result() for future in futures]

    def _judge(self, program: str, tests: Suite, limits: Limits) -> Result:
        key = (program, tests)
        if self.known is not None and key in self.known:
            return self.known[key]
        result = self._once(program, tests, limits)
        if result.verdict is Verdict.INFRASTRUCTURE:
            result = self._once(program, tests, limits)
        if self.known is not None and result.verdict is not Verdict.INFRASTRUCTURE:
            self.known[key] = result
        return result

    def _once(self, program: str, tests: Suite, limits: Limits) -> Result:
        worker, result = self.idle.get(), None
        try:
            worker = worker or Worker(self.tier)
            result = worker.judge(program, tests, limits)
        except ZygoteFailed as error:
            result = Result(
                Verdict.INFRASTRUCTURE, 0, len(tests.cases), f"the sandbox did not start: {error}", tier=str(self.tier)
            )  # fmt: skip
        finally:
            broken = result is None or result.verdict is Verdict.INFRASTRUCTURE
            if worker is not None and (broken or worker.forks >= RECYCLE):
                worker.close()
                worker = None
            self.idle.put(worker)
        return result
