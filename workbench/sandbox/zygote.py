"""The process that programs are forked from: a bare interpreter with the standard library loaded and nothing worth stealing.

Started by `pool` as `python -I -S` with an empty environment and one socket, its standard input. For every program it is sent
limits and three pipes; it forks, and the child locks itself down, says that it is ready, and only then is given the
program. This process never reads a byte that a program wrote: it watches the child's clock and reports how it ended. It
ends when the socket does, and takes the child with it.
"""

from __future__ import annotations

import fcntl
import gc
import io
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable

import codec  # loaded from this file's own folder, see above
import lockdown

PRELOADED = (
    "array bisect cmath collections copy dataclasses datetime decimal enum fractions functools heapq itertools math numbers "
    "operator random re statistics string textwrap typing"
).split()
PROGRAM, ANSWERS = 3, 4  # the child's pipes
TICK = 0.01  # seconds between two looks at the child's clock


def main(settings: dict) -> None:
    """Get ready, say so, and fork a child for each request until the judge is gone."""
    control = socket.socket(fileno=0)
    try:
        if settings["namespaces"]:
            lockdown.enter_namespaces(lockdown.readable_folders())
            inside = os.fork()
            if inside:
                os.waitpid(inside, 0)
                os._exit(0)
            lockdown.die_with_parent()
        rules = lockdown.landlock_rules(lockdown.readable_folders()) if settings["landlock"] else None
        program = lockdown.seccomp_filter(files=settings["seccomp"] == "files") if settings["seccomp"] else None
        for name in PRELOADED:
            __import__(name)
        lockdown.drop_rights()
        lockdown.no_new_privileges()
        lockdown.hide_memory()
    except OSError as error:
        control.send(json.dumps({"error": str(error), "errno": error.errno}).encode())
        return
    control.send(json.dumps({"ready": os.getpid()}).encode())
    gc.collect()
    gc.freeze()
    while True:
        data, pipes, _, _ = socket.recv_fds(control, 4096, 3)
        if not data:
            return
        request = json.loads(data)
        if "kill" in request:  # of a program that has already ended
            continue
        child = os.fork()
        if not child:
            run(settings, request, pipes, rules, program)
        for pipe in pipes:
            os.close(pipe)
        report = watch(control, child, request)
        if report is None:
            return
        control.send(json.dumps(report).encode())


def watch(control: socket.socket, child: int, request: dict) -> dict | None:
    """Wait for the child's end, or bring it about; None if nobody is left to tell."""
    clock, reason, asked = ((~child) << 3) | 2, None, True  # the clock of another process, CPUCLOCK_SCHED
    try:
        handle = os.pidfd_open(child)
    except OSError:
        handle = None
    waiting = select.poll()
    waiting.register(control, select.POLLIN)
    if handle is not None:
        waiting.register(handle, select.POLLIN)
    while True:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            break
        for descriptor, _ in waiting.poll(TICK * 1000):
            if descriptor == control.fileno():
                data = control.recv(4096)
                asked = bool(data)
                reason = reason or ("asked" if asked else "abandoned")
                os.kill(child, signal.SIGKILL)
                if not asked:
                    waiting.unregister(control)
        try:
            used = time.clock_gettime(clock)
        except OSError:  # it has just ended
            continue
        if reason is None and used > request["cpu"]:
            reason = "cpu"
            os.kill(child, signal.SIGKILL)
    if handle is not None:
        os.close(handle)
    if not asked:
        return None
    return {"status": status, "cpu": usage.ru_utime + usage.ru_stime, "reason": reason}


def run(settings: dict, request: dict, pipes: list[int], rules: int | None, program: bytes | None) -> None:
    """The child: lock down, say so, then read the program and the calls, and answer. Never returns."""
    try:
        source, answers, printed = pipes
        nothing = os.pipe()[0]  # its other end is closed below: reading it ends at once
        wanted = [nothing, printed, printed, source, answers, *([] if rules is None else [rules])]
        for place, fd in enumerate([fcntl.fcntl(fd, fcntl.F_DUPFD, 64) for fd in wanted]):
            os.dup2(fd, place)
        rules = None if rules is None else len(wanted) - 1
        os.closerange(len(wanted), 256)
        os.setsid()
        if settings["rlimits"]:
            lockdown.limit_resources(request["cpu"], request["memory"])
        lockdown.die_with_parent()
        if rules is not None:
            lockdown.apply_landlock(rules)
            os.close(rules)
        if program is not None:
            lockdown.apply_seccomp(program)
    except BaseException as error:
        _send(codec.encode(("lockdown", f"{type(error).__name__}: {error}")))
        os._exit(1)
    _send(codec.encode(("ready",)))
    gc.enable()
    serve()
    os._exit(0)


def serve() -> None:
    """Run the program, then the calls that came with it, up to the first that fails."""
    sys.stdin = io.TextIOWrapper(io.FileIO(0), encoding="utf-8")
    sys.stdout = sys.stderr = io.TextIOWrapper(io.FileIO(1, "w"), encoding="utf-8", errors="replace", write_through=True)
    program, calls = codec.decode(_receive())
    names: dict = {"__name__": "__program__"}
    going = answer(lambda: exec(compile(program, "<program>", "exec"), names))
    for function, arguments in calls:
        going = going and answer(lambda: call(names, function, arguments))  # noqa: B023


def call(names: dict, function: str, arguments: tuple) -> object:
    """Call what the program has defined."""
    if function not in names:
        raise NameError(f"the program defines no {function}")
    return names[function](*arguments)


def answer(work: Callable[[], object]) -> bool:
    """Send what `work` returns, or how it failed; whether it returned plain data."""
    going = False
    try:
        value = work()
        try:
            reply, going = codec.encode(("value", value)), True
        except codec.Unsupported as error:
            reply = codec.encode(("unsupported", str(error)))
    except BaseException as error:  # SystemExit and KeyboardInterrupt are answers, too
        try:
            text = str(error)[:1000].encode(errors="replace").decode()
        except BaseException:
            text = "(its message cannot be shown)"
        reply = codec.encode(("exception", type(error).__name__[:100], text))
    _send(reply)
    return going


def _send(data: bytes) -> None:
    data = struct.pack(">I", len(data)) + data
    while data:
        data = data[os.write(ANSWERS, data) :]


def _receive() -> bytes:
    data, size = b"", 4
    while len(data) < size:
        part = os.read(PROGRAM, 1 << 18)
        if not part:  # the judge has gone
            os._exit(0)
        data += part
        size = 4 + struct.unpack(">I", data[:4])[0] if len(data) >= 4 else 4
    return data[4:]
