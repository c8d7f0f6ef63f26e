"""The judge's side: warm workers, the conversation with a program, and batches of programs.

A `Worker` is one zygote (see `zygote`) and judges one program at a time. A `Pool` has one per core and a thread for each, so its
calls work the same inside a notebook, where an event loop is running, and outside.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
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
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from workbench.sandbox import codec, wasi
from workbench.sandbox.answers import Answers, Ended, order_for, questions
from workbench.sandbox.judge import Case, Suite, suite
from workbench.sandbox.tiers import Tier, best
from workbench.sandbox.verdict import Limits, Result, Verdict, printable

Tests = str | Suite | Sequence[Case]

START = 20.0  # seconds a zygote, or a fork of it, may take to be ready before we call it broken
RECYCLE = 5_000  # programs after which a zygote is replaced
_FLAGS = ("-I", "-S", "-X", "no_debug_ranges")
_BOOT = """
import sys
folder, settings = sys.argv[1:]
sys.path.insert(0, folder)
import zygote
del sys.path[0]
zygote.main(eval(settings))
"""


_READY = codec.framed(codec.READY)


class ZygoteFailed(RuntimeError):
    """A worker's process could not be started, or died."""


class Worker:
    """One zygote; judges one program at a time. Not for use by two threads at once."""

    def __init__(self, tier: Tier, settings: dict | None = None) -> None:
        """settings: layers other than the tier's, for tests that switch one off.

        Raises:
            ZygoteFailed: it does not start; says why.
        """
        self.tier, self.forks = tier, 0
        self.waiting: Conversation | None = None  # with a child that is locked down and has no program yet
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for what in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):  # with settimeout Python would ask before each word whether it may
            self.control.setsockopt(socket.SOL_SOCKET, what, struct.pack("ll", int(START), 0))
        folder = str(Path(__file__).parent)
        command = [sys.executable, *_FLAGS, "-c", _BOOT, folder, repr(settings or tier.settings)]
        environment = {"LD_BIND_NOW": "1"}  # link all now, not in every child; the zygote takes it out
        self.process = subprocess.Popen(
            command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, cwd="/",
            start_new_session=True,  # Ctrl-C in a terminal is for the judge alone
        )  # fmt: skip
        theirs.close()
        try:
            found = self.control.recv(4096).decode() or "it ended at once"
        except OSError as error:
            found = f"no sign of life: {error}"
        if found != "ready":
            self.close()
            raise ZygoteFailed(found)

    def close(self) -> None:
        """End the zygote and whatever it runs."""
        if self.waiting:
            self.waiting.hang_up()
            self.waiting = None
        self.control.close()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def judge(self, program: str, tests: Suite, limits: Limits) -> Result:
        """Run one program against its tests, in an order that it cannot know, up to the first case it fails."""
        self.forks += 1
        order = order_for(program, tests)
        passed, spoilt, talk = 0, None, None
        try:
            talk, self.waiting = self.waiting, None
            if talk is None or talk.limits != limits:
                if talk is not None:
                    talk.hang_up()
                talk = Conversation(self.control, limits)
                talk.ask(codec.FORK, 0)
            talk.begin(program, order)
            self.waiting = Conversation(self.control, limits)
            self.waiting.ask(codec.BEGINS | codec.FORK, self.forks)
            talk.number = self.forks
            talk.await_ready()
            for passed in talk.cases(order):  # noqa: B007 (it is looked at below)
                pass
            verdict, message = Verdict.PASS, ""
        except Ended as ended:
            verdict, message = ended.verdict, ended.message
        except OSError as error:
            verdict, message = Verdict.INFRASTRUCTURE, f"the sandbox broke down: {error}"
        cpu, output = 0.0, ""
        if talk is not None:
            spoilt = talk.close()
            cpu, output = talk.cpu, printable(talk.printed.decode(errors="replace"))
        if spoilt is not None and verdict is Verdict.PASS:
            verdict, message = spoilt.verdict, spoilt.message
        return Result(verdict, passed, len(order), printable(message), output, cpu, str(self.tier))


class Conversation(Answers):
    """The judge's half of the pipes to one program."""

    def __init__(self, control: socket.socket, limits: Limits) -> None:
        super().__init__(limits)
        self.control = control
        self.ends: list[int] = []
        self.number = 0  # what the zygote calls the program; 0 until it has been told that it begins
        self.ready = False  # whether the child has locked itself down
        self.report: tuple | None = None
        self.outgoing, self.printed, self.gone = b"", bytearray(), False
        self.deadline = time.monotonic() + START
        self.waiting = select.poll()

    @property
    def cpu(self) -> float:
        """Seconds of CPU that the program used, as the zygote has reported."""
        return self.report[2] if self.report else 0.0

    def ask(self, what: int, number: int) -> None:
        """Have the zygote fork a child at the other end of new pipes; `what` may also say that program `number` begins."""
        opened: list[int] = []
        try:
            for _ in range(3):
                opened += os.pipe2(os.O_CLOEXEC)
            program, self.program, self.answers, answers, self.output, output = opened
            self.ends = [self.program, self.answers, self.output]
            request = codec.REQUEST.pack(what, number, self.limits.cpu, self.limits.memory)
            theirs = codec.DESCRIPTORS.pack(output, output, program, answers)
            self.control.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, theirs)])
        finally:
            for end in opened:
                if end not in self.ends:
                    os.close(end)
        self.waiting.register(self.answers, select.POLLIN)
        self.waiting.register(self.output, select.POLLIN)

    def begin(self, program: str, cases: Sequence[Case]) -> None:
        """Hand over the program and what it will be asked, never what is expected. The child reads it once it is locked down."""
        self.outgoing = questions(program, cases)
        self.deadline = time.monotonic() + START
        if len(self.outgoing) > select.PIPE_BUF:  # what an empty pipe may not take at once
            os.set_blocking(self.program, False)
        self._send()
        if self.gone:
            self.await_ready()  # which says why, if there was no lock
            raise Ended(Verdict.INFRASTRUCTURE, "the child was gone before it had a program")
        if self.outgoing:
            self.waiting.register(self.program, select.POLLOUT)

    def await_ready(self) -> None:
        """Wait until the child has locked itself down; from here on the program's time runs.

        Raises:
            Ended: it could not.
        """
        if not self.says(_READY):
            while (reply := self._message()) is None:
                self._more()
            raise Ended(Verdict.INFRASTRUCTURE, f"no lock: {reply[1:].decode(errors='replace')}")
        self.ready = True
        self.deadline = time.monotonic() + (self.limits.wall or 0)

    def close(self) -> Ended | None:
        """Have the program killed if it has not left, and wait until it is gone: what spoils a pass, if anything."""
        spoilt = None
        try:
            self._finish()
        except Ended as ended:
            spoilt = ended
        more = self.left_over
        for end, event in self.waiting.poll(0) if self.ends else ():
            if end == self.answers and event & select.POLLIN:
                more = True
            elif end == self.output and event & select.POLLIN:
                self.printed += os.read(end, self.limits.output)
        if more:
            spoilt = spoilt or Ended(Verdict.PROTOCOL, "it answered without being asked")
        self.hang_up()
        if self.cpu > self.limits.cpu:
            spoilt = spoilt or Ended(Verdict.CPU_TIME, f"it used {self.cpu:.2f} s of {self.limits.cpu:g} s")
        return spoilt

    def hang_up(self) -> None:
        """Close the judge's ends of the pipes."""
        for end in self.ends:
            os.close(end)
        self.ends = []

    def _more(self) -> None:
        """Hear something; what there is to send goes out meanwhile."""
        del self.heard[: self.place]
        self.place = 0
        left = self.deadline - time.monotonic()
        if left <= 0:
            if not self.ready:
                raise Ended(Verdict.INFRASTRUCTURE, f"no child after {START:g} s")
            raise Ended(Verdict.WALL_TIME, f"no answer after {self.limits.wall:g} s")
        for end, _ in self.waiting.poll(left * 1000):
            if end == self.answers:
                data = os.read(end, 1 << 16)
                if not data:  # it has gone: the zygote knows how
                    if not self.ready:
                        raise Ended(Verdict.INFRASTRUCTURE, "the sandbox has died")
                    raise self._post_mortem()
                self.heard += data
                return  # the rest can wait: this may be all that was asked
            if end == self.output:
                self._hear_output()
            elif end == self.program:
                self._send()
                if not self.outgoing:
                    self.waiting.unregister(end)

    def _send(self) -> None:
        try:
            self.outgoing = self.outgoing[os.write(self.program, self.outgoing) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:  # what it left behind is heard
            self.outgoing, self.gone = b"", True

    def _hear_output(self) -> None:
        data = os.read(self.output, 1 << 16)
        if not data:
            self.waiting.unregister(self.output)
        self.printed += data
        if len(self.printed) > self.limits.output:
            raise Ended(Verdict.OUTPUT_LIMIT, f"it printed more than {self.limits.output} bytes")

    def _finish(self) -> None:
        """Have the zygote end the program and say how it ended.

        Raises:
            Ended: it does not say.
        """
        if not self.number or self.report is not None:
            return
        try:
            self.control.send(codec.REQUEST.pack(codec.FINISH, self.number, 0.0, 0))
            data = self.control.recv(64)
        except OSError as error:
            raise Ended(Verdict.INFRASTRUCTURE, f"the sandbox did not say how the program ended: {error}") from None
        if not data:
            raise Ended(Verdict.INFRASTRUCTURE, "the sandbox has died")
        self.report = codec.REPORT.unpack(data)

    def _post_mortem(self) -> Ended:
        """The verdict on a program that ended before its answer."""
        self._finish()
        assert self.report is not None
        _, status, _, reason = self.report
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        if reason == codec.CPU or number == signal.SIGXCPU or self.cpu > self.limits.cpu:  # the kernel may be first
            return Ended(Verdict.CPU_TIME, f"it used more than {self.limits.cpu:g} s")
        if number:
            return Ended(Verdict.KILLED, f"it was ended by {signal.Signals(number).name}")
        return Ended(Verdict.PROTOCOL, "it left without an answer")


def start(tier: Tier) -> Worker | wasi.Runtime:
    """What judges programs under a tier.

    Raises:
        ZygoteFailed, ImportError: it does not start; says why.
    """
    return wasi.Runtime() if tier is Tier.WASI else Worker(tier)


def _checked(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"a {kind.__name__} is needed, not {value!r}")
    return value


def _job(job: Any) -> tuple[str, Suite]:
    match job:
        case (str(program), tests):
            return program, suite(tests)
    raise ValueError(f"a program and its tests are needed, ('def f(x): ...', 'assert f(1) == 2'), not {job!r}")


@functools.cache
def shared() -> Pool:
    """A pool for whoever needs one now and then: made when first asked for, closed when Python ends.

    Raises:
        Unavailable: no tier holds on this machine.
    """
    pool = Pool()
    atexit.register(pool.close)
    return pool


class Pool:
    """Workers, and batches of programs for them.

    Args:
        workers: zygotes; default: one per core. limits: for every program. tier: how programs are contained; default: the
            strongest that holds here. remember: keep results by (program, tests) and give them again.
        i_trust_every_program: needed for Tier.PLAIN, which contains nothing.
    Raises:
        Unavailable: no tier holds on this machine.
        ValueError: fewer than one worker, something else than limits and a tier, or Tier.PLAIN without the promise.
    """

    def __init__(
        self, workers: int | None = None, *, limits: Limits | None = None, tier: Tier | None = None, remember: bool = False,
        i_trust_every_program: bool = False,
    ) -> None:  # fmt: skip
        count = (os.cpu_count() or 1) if workers is None else workers
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"a pool needs at least one worker, not {workers!r}")
        if tier is Tier.PLAIN and not i_trust_every_program:
            raise ValueError("Tier.PLAIN contains nothing; if you trust what will run, say i_trust_every_program=True")
        self.limits, self.tier = _checked(limits or Limits(), Limits), _checked(tier or best(), Tier)
        self.known: dict[tuple[str, str, Limits], Result] | None = {} if remember else None
        self.idle: queue.SimpleQueue[Worker | wasi.Runtime | None] = queue.SimpleQueue()
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
            ValueError: tests that cannot be read, or a program that is not text; before anything runs.
        """
        return self._submit(*_job((program, tests)), limits)

    def judge(
        self, jobs: Iterable[tuple[str, Tests]], *, limits: Limits | None = None,
        progress: Callable[[int, int], Any] | None = None,
    ) -> list[Result]:  # fmt: skip
        """Judge (program, tests) pairs and give their results in the same order.

        Args:
            progress: called with the numbers done and in all after each.
        Raises:
            ValueError: tests that cannot be read, or a program that is not text; before anything runs.
        """
        ready = [_job(job) for job in jobs]
        futures = [self._submit(program, tests, limits) for program, tests in ready]
        ended: queue.SimpleQueue[Future] = queue.SimpleQueue()  # as_completed would not notice that the pool has been closed
        for future in futures:
            future.add_done_callback(ended.put)
        try:
            for done in range(1, len(futures) + 1):
                ended.get()
                if progress is not None:
                    progress(done, len(futures))
        except BaseException:
            for future in futures:
                future.cancel()
            raise
        return [self._found(future, tests) for future, (_, tests) in zip(futures, ready)]

    async def judge_async(
        self, jobs: Iterable[tuple[str, Tests]], *, limits: Limits | None = None,
        progress: Callable[[int, int], Any] | None = None,
    ) -> list[Result]:  # fmt: skip
        """As `judge`, while the event loop goes on: `await pool.judge_async(jobs)`, in a notebook's cell, too.

        `progress` is called in the loop's thread. If the waiting is cancelled, so are the programs that have not begun.
        """
        ready = [_job(job) for job in jobs]
        futures = [self._submit(program, tests, limits) for program, tests in ready]
        loop, ended = asyncio.get_running_loop(), asyncio.Queue[Future]()
        for future in futures:
            future.add_done_callback(lambda future: loop.call_soon_threadsafe(ended.put_nowait, future))
        try:
            for done in range(1, len(futures) + 1):
                await ended.get()
                if progress is not None:
                    progress(done, len(futures))
        except BaseException:
            for future in futures:
                future.cancel()
            raise
        return [self._found(future, tests) for future, (_, tests) in zip(futures, ready)]

    def _submit(self, program: str, tests: Suite, limits: Limits | None) -> Future[Result]:
        try:
            return self.threads.submit(self._judge, program, tests, _checked(limits or self.limits, Limits))
        except RuntimeError:
            closed: Future[Result] = Future()
            closed.set_result(self._failed(tests, "the pool was closed"))
            return closed

    def _found(self, future: Future[Result], tests: Suite) -> Result:
        """What came of a job, also if the pool was closed before its turn."""
        return self._failed(tests, "the pool was closed") if future.cancelled() else future.result()

    def _failed(self, tests: Suite, why: str) -> Result:
        return Result(Verdict.INFRASTRUCTURE, 0, len(tests.cases), printable(why), tier=str(self.tier))

    def _judge(self, program: str, tests: Suite, limits: Limits) -> Result:
        key = (program, repr(tests), limits)
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
            worker = worker or start(self.tier)
            result = worker.judge(program, tests, limits)
        except (ZygoteFailed, ImportError) as error:
            result = self._failed(tests, f"the sandbox did not start: {error}")
        except BaseException as error:  # whatever happens to this thread, its caller is told and the worker replaced
            result = self._failed(tests, f"the judge failed: {type(error).__name__}: {error}")
        finally:
            broken = result is None or result.verdict is Verdict.INFRASTRUCTURE
            if worker is not None and (broken or worker.forks >= RECYCLE):
                worker.close()
                worker = None
            self.idle.put(worker)
        return result
