"""Where runs happen: in this process, in worker processes of one thread each, or on a Ray cluster. The bits are the same.

A backend is told to `start` jobs while it has `free` places, and `wait` says what became of them.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

from workbench.study.cell import Arm, Budget, Run
from workbench.study.machine import ONE_THREAD
from workbench.study.store import Store

BACKENDS = ("processes", "in_process", "ray")
TRIES = 2
POLL = 0.2  # seconds between looks at a run that another process is making


@dataclass(frozen=True)
class Job:
    """One run to be made. payload: the pickled (arm, seed, budget)."""

    arm: str
    version: str
    seed: int
    payload: bytes


Event = tuple[Job, str, Any]  # (job, "progress", share) or (job, "done", (run, made_with)) or (job, "failed", reason)


class Backend(Protocol):
    """Somewhere to run jobs."""

    def free(self) -> bool:
        """Whether another job can be started now."""
        ...

    def start(self, job: Job) -> None: ...

    def wait(self, timeout: float) -> list[Event]:
        """What happened, as soon as something did; nothing after `timeout` seconds."""
        ...

    def close(self) -> None:
        """Stop everything that is running."""
        ...


def pack(arm: Arm, seed: int, budget: Budget) -> bytes:
    """(arm, seed, budget) for another process; functions from a notebook or a script go with their code.

    Raises:
        TypeError: the arm cannot be pickled.
    """
    import cloudpickle

    try:
        return cloudpickle.dumps((arm, seed, budget))
    except Exception as error:
        raise TypeError(
            f"the arm {arm!r} cannot be sent to another process ({error}): make what it needs inside it"
        ) from error


def execute(jobs: Iterable[Job], backend: Backend, store: Store, told: Callable[[Event], None]) -> None:
    """Make every run that is not there yet; a failed one is tried once more.

    Runs that another process is making are waited for, and made here should that process die. Results are in the store when
    `told` hears of them. Returns when every job is done or has failed; an interrupt leaves what is done in the store.
    """
    waiting: deque[Job] = deque(jobs)
    claims: dict[Job, ExitStack] = {}
    tries: dict[Job, int] = {}
    try:
        while waiting or claims:
            for _ in range(len(waiting)):
                if not backend.free():
                    break
                job = waiting.popleft()
                claim = ExitStack()
                mine = claim.enter_context(store.claim(job.arm, job.version, job.seed))
                if store.has(job.arm, job.version, job.seed):
                    claim.close()
                    told((job, "done", store.read(job.arm, job.version, job.seed)))
                elif mine:
                    claims[job] = claim
                    backend.start(job)
                else:
                    claim.close()
                    waiting.append(job)
            for job, what, value in backend.wait(POLL) if waiting or claims else ():
                if what == "failed":
                    tries[job] = tries.get(job, 0) + 1
                    if tries[job] < TRIES:
                        backend.start(job)
                        continue
                    store.fail(job.arm, job.version, job.seed, value)
                elif what == "done":
                    run, made_with = value
                    store.save(job.arm, job.version, job.seed, run, made_with)
                if what != "progress":
                    claims.pop(job).close()
                told((job, what, value))
    finally:
        backend.close()
        for claim in claims.values():
            claim.close()


# ---- in this process --------------------------------------------------------------------------------------------------


class InProcess:
    """One run after the other, here."""

    def __init__(self, on_progress: Callable[[Event], None] = lambda event: None) -> None:
        self._job: Job | None = None
        self._told = on_progress

    def free(self) -> bool:
        return self._job is None

    def start(self, job: Job) -> None:
        self._job = job

    def wait(self, timeout: float) -> list[Event]:
        from workbench.study.worker import perform

        if self._job is None:
            threading.Event().wait(timeout)
            return []
        job, self._job = self._job, None
        what, value = perform(job.payload, lambda share: self._told((job, "progress", share)))
        return [(job, what, value)]

    def close(self) -> None:
        pass


# ---- worker processes -------------------------------------------------------------------------------------------------


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    errors: Any  # the file that its standard error goes to
    ear: threading.Thread = field(init=False)  # listens to it, until it ends
    job: Job | None = None

    def last_words(self) -> str:
        """How it ended, and the end of what it wrote."""
        code = self.process.wait()
        if code < 0:
            with contextlib.suppress(ValueError):
                code_name = signal.Signals(-code).name
                how = f"killed by {code_name}" + (", as happens when memory runs out" if code_name == "SIGKILL" else "")
                return f"the worker process was {how}\n{self._tail()}".strip()
        return f"the worker process ended with status {code}\n{self._tail()}".strip()

    def bury(self) -> None:
        """Let go of everything that a dead process leaves."""
        self.process.wait()
        self.ear.join(1.0)  # not for ever: what the arm has forked may hold the pipe
        for pipe in (self.process.stdin, self.process.stdout, self.errors):
            with contextlib.suppress(OSError):  # what was not sent can no longer be
                pipe.close()  # type: ignore[union-attr]

    def _tail(self) -> str:
        self.errors.seek(0, os.SEEK_END)
        self.errors.seek(max(0, self.errors.tell() - 4000))
        return self.errors.read().decode(errors="replace")


@dataclass
class Processes:
    """`count` worker processes with one thread each. They end with this process, however it ends."""

    count: int
    _workers: list[_Worker] = field(default_factory=list)
    _heard: queue.Queue[tuple[_Worker, str, Any]] = field(default_factory=queue.Queue)

    def free(self) -> bool:
        return len(self._workers) < self.count or any(worker.job is None for worker in self._workers)

    def start(self, job: Job) -> None:
        worker = next((worker for worker in self._workers if worker.job is None), None) or self._new()
        worker.job = job
        assert worker.process.stdin is not None
        with contextlib.suppress(OSError):  # it died just now: its thread will say so
            pickle.dump(job.payload, worker.process.stdin)
            worker.process.stdin.flush()

    def wait(self, timeout: float) -> list[Event]:
        events: list[Event] = []
        try:
            events += self._event(*self._heard.get(timeout=timeout))
        except queue.Empty:
            for worker in [worker for worker in self._workers if worker.process.poll() is not None]:
                events += self._event(worker, "died", None)
        return events

    def close(self) -> None:
        for worker in self._workers:
            worker.process.kill()
        while self._workers:
            self._workers.pop().bury()

    def _new(self) -> _Worker:
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        path = os.pathsep.join(p or os.getcwd() for p in sys.path)
        process = subprocess.Popen(
            [sys.executable, "-m", "workbench.study.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": path}, start_new_session=True,  # Ctrl-C is for this process
        )  # fmt: skip
        worker = _Worker(process, errors)
        worker.ear = threading.Thread(target=self._listen, args=(worker,), daemon=True)
        worker.ear.start()
        self._workers.append(worker)
        return worker

    def _listen(self, worker: _Worker) -> None:
        while True:
            try:
                message = pickle.load(worker.process.stdout)  # type: ignore[arg-type]
            except Exception:  # the end, or half a message: it is dead
                self._heard.put((worker, "died", None))
                return
            self._heard.put((worker, *message))

    def _event(self, worker: _Worker, what: str, value: Any) -> Iterator[Event]:
        job = worker.job
        if what == "died":
            if worker not in self._workers:
                return
            what, value = "failed", worker.last_words()
            self._workers.remove(worker)
            worker.bury()
        if job is not None:
            if what != "progress":
                worker.job = None
            yield job, what, value


# ---- Ray --------------------------------------------------------------------------------------------------------------


class OnRay:
    """Tasks of one CPU each, spread over the nodes of a Ray cluster.

    Args:
        address: of a running cluster, "auto" to find it; None: the one this process is connected to, else a new local one.
            Ray listens on all network interfaces.
    Raises:
        ModuleNotFoundError: Ray is not installed.
    """

    def __init__(self, address: str | None = None) -> None:
        try:
            import ray
        except ImportError:
            raise ModuleNotFoundError('Ray is not installed: pip install -c requirements.lock -e ".[ray]"') from None
        self._ray = ray
        self._started = not ray.is_initialized()
        if self._started:
            ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="error")
        # Ray gives a task of one CPU one thread; by default it would fill one node before it uses the next
        self._perform = ray.remote(num_cpus=1, max_retries=0, scheduling_strategy="SPREAD")(_perform_on_ray)
        self._running: dict[Any, Job] = {}

    def free(self) -> bool:
        return len(self._running) < max(1, self._ray.cluster_resources().get("CPU", 1))  # nodes come and go

    def start(self, job: Job) -> None:
        self._running[self._perform.remote(job.payload, [p or os.getcwd() for p in sys.path])] = job

    def wait(self, timeout: float) -> list[Event]:
        if not self._running:
            threading.Event().wait(timeout)
            return []
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout)
        events: list[Event] = []
        for reference in ready:
            job = self._running.pop(reference)
            try:
                what, value = pickle.loads(self._ray.get(reference))
            except Exception as error:  # the worker or its node died
                what, value = "failed", f"{type(error).__name__}: {error}"
            events.append((job, what, value))
        return events

    def close(self) -> None:
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running.clear()
        if self._started:
            self._ray.shutdown()


def _perform_on_ray(payload: bytes, path: list[str]) -> bytes:
    import cloudpickle

    sys.path += [folder for folder in path if folder not in sys.path]  # where arms from modules of the user's lie

    from workbench.study.worker import perform

    return cloudpickle.dumps(perform(payload))


def backend_of(kind: str, workers: int, address: str | None, told: Callable[[Event], None]) -> Backend:
    """The backend of that name."""
    if kind == "ray":
        return OnRay(address)
    return InProcess(told) if kind == "in_process" else Processes(workers)


__all__ = ["BACKENDS", "Backend", "Event", "InProcess", "Job", "OnRay", "Processes", "Run", "backend_of", "execute", "pack"]
