"""The process that programs are forked from: a bare interpreter with the standard library at hand and nothing worth stealing.

Started by `pool` as `python -I -S` with an empty environment and one socket, its standard input. For every program it is sent
limits and pipes; it forks, the child locks itself down, says that it is ready, and waits, ahead of time: only then does it read
a program. This process never reads a byte that a program wrote: it watches the child's clock, ends it, and reports
how it ended. It leaves when the judge does, and takes its children with it.

What a fork costs is memory: pages to share, and those that are written afterwards and must be copied, a few microseconds each.
So little is loaded; what a child needs is made before the fork, and its way is walked a few times in advance (`rehearse`),
because Python rewrites the code of a function while it runs for the first time; and `serve` and `perform` (in `inside`) are one
function each.
"""

from __future__ import annotations

import _socket
import fcntl
import gc
import io
import marshal
import os
import select
import signal
import struct
import sys
import time

import codec  # these are loaded from this file's own folder, see above
import inside
import lockdown

PRELOADED = (
    "array bisect cmath collections copy enum functools heapq itertools math operator random re string time typing"
).split()
UNREACHABLE = (  # preloaded, too, where a program cannot read the library
    "dataclasses datetime decimal fractions json numbers resource socket statistics textwrap"
).split()
NOTHING, PROGRAM, ANSWERS, RULES = 0, 3, 4, 5  # descriptors of a child; 1 and 2 are what it prints
PIPES = codec.DESCRIPTORS.pack(1, 2, PROGRAM, ANSWERS)
TICK = 10  # milliseconds between two looks at a running child's clock


def main(settings: dict) -> None:
    """Get ready, say so, and serve the judge until it is gone."""
    os.environ.pop("LD_BIND_NOW", None)
    control = _socket.socket(fileno=fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 16))
    try:
        folders = lockdown.readable_folders()
        if settings["namespaces"]:
            lockdown.enter_namespaces(folders)
            inside = os.fork()
            if inside:
                os.waitpid(inside, 0)
                os._exit(0)
        silence = os.pipe()
        os.dup2(silence[0], NOTHING)
        for end in silence:
            os.close(end)  # reading the other end now ends at once
        for place in (1, 2, PROGRAM, ANSWERS):
            os.dup2(NOTHING, place)
        rules = lockdown.landlock_rules(folders) if settings["landlock"] else None
        os.dup2(NOTHING if rules is None else rules, RULES)
        code = lockdown.seccomp_filter(files=settings["seccomp"] == "files") if settings["seccomp"] else None
        register, os.register_at_fork = os.register_at_fork, lambda **hooks: None  # or random reads a new seed in every child
        reachable = settings["seccomp"] != "none" and (settings["namespaces"] or lockdown.reachable(os.__file__))
        for name in PRELOADED + ([] if reachable else UNREACHABLE):
            __import__(name)
        os.register_at_fork = register
        sys.modules["random"].seed(0)  # so a program that draws numbers draws the same ones again
        lockdown.drop_rights()
        if settings["rlimits"]:
            lockdown.limit_descendants()
        lockdown.no_new_privileges()
        lockdown.hide_memory()
    except OSError as error:
        control.send(lockdown.reason(error).encode())
        return
    sys.stdin = io.TextIOWrapper(io.FileIO(NOTHING), encoding="utf-8")
    sys.stdout = sys.stderr = io.TextIOWrapper(io.FileIO(1, "w"), encoding="utf-8", errors="replace", write_through=True)
    rehearse()
    if settings["namespaces"]:
        lockdown.lock((), None, None)  # die with the parent
    os.closerange(1, RULES)
    filter = None if code is None else lockdown.Filter(code)
    gc.collect()
    gc.freeze()
    gc.disable()
    control.send(b"ready")
    try:
        serve(control, settings["rlimits"], None if rules is None else RULES, filter)
    finally:
        os._exit(0)


def serve(control: _socket.socket, limited: bool, rules: int | None, filter: lockdown.Filter | None) -> None:
    """Do what the judge asks until it is gone. There are at most two children: one that runs a program, and one that waits for
    the next, with limits and pipes of its own."""
    patience = select.poll()
    patience.register(control.fileno(), select.POLLIN)
    running = waiting = number = reason = 0
    seconds = 0.0
    limits: tuple = ()
    while True:
        if running and not patience.poll(TICK):
            try:
                used = time.clock_gettime((~running << 3) | 2)  # the clock of another process, CPUCLOCK_SCHED
            except OSError:  # it has just ended
                continue
            if used > seconds and not reason:
                reason = codec.CPU
                os.kill(running, signal.SIGKILL)  # it is ours until it is reaped: nobody else has its number
            continue
        data, attached, _, _ = control.recvmsg(64, 64)
        if not data:
            break
        what, named, cpu, memory = codec.REQUEST.unpack(data)
        if what & codec.BEGINS:
            running, waiting, number, seconds, reason = waiting, 0, named, cpu, codec.BY_ITSELF
        if what & codec.FORK:
            if waiting:  # with other limits
                os.kill(waiting, signal.SIGKILL)
                os.waitpid(waiting, 0)
            if not attached or attached[0][2] != PIPES:
                raise OSError("the pipes did not come to their places")
            if limited:
                limits = lockdown.limits(cpu, memory)
            waiting = os.fork()
            if not waiting:
                live(limits, rules, filter)
            os.closerange(1, RULES)
        if what & codec.FINISH and running:
            ended, status, usage = os.wait4(running, os.WNOHANG)
            if not ended:
                reason = reason or codec.ASKED
                os.kill(running, signal.SIGKILL)
                ended, status, usage = os.wait4(running, 0)
            running = 0
            control.send(codec.REPORT.pack(number, status, usage.ru_utime + usage.ru_stime, reason))
    for child in (running, waiting):
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def live(limits: tuple, rules: int | None, filter: lockdown.Filter | None) -> None:
    """The child: lock down, say so, wait for the program, run it, and leave. Never returns."""
    leave, ready = os._exit, codec.framed(codec.READY)
    try:
        try:
            os.closerange(RULES + 1, 64)
            lockdown.lock(limits, rules, filter)
            os.close(RULES)
        except BaseException as error:
            inside.say(ANSWERS, codec.framed(codec.LOCKDOWN, lockdown.reason(error).encode()))
            leave(1)
        inside.say(ANSWERS, ready)
        gc.enable()
        inside.perform(PROGRAM, ANSWERS)
    finally:
        leave(0)


def rehearse() -> None:
    """Do what a child does, some times over, with pipes that lead nowhere and locks that do not close."""
    program = "def double(x):\n    '''Twice x.'''\n    return sum([x for _ in range(2)])\nfor i in range(9): double(i)\n"
    calls = [(None, program), ("double", (1,)), ("double", ("a", [1.5], None))]
    for _ in range(20):
        with_program, with_answers = os.pipe(), os.pipe()
        os.dup2(with_program[0], PROGRAM)
        os.dup2(with_answers[1], ANSWERS)
        data = marshal.dumps(calls)
        os.write(with_program[1], struct.pack(">I", len(data)) + data)
        try:
            lockdown.lock(lockdown.limits(), -1, lockdown.Filter(b""), death=0)
        except OSError:
            inside.say(ANSWERS, codec.framed(codec.READY))
        inside.perform(PROGRAM, ANSWERS)
        inside.say(ANSWERS, codec.framed(codec.VALUE, codec.encode([1, "a", (True, None, 0.5), {"a": {1}}])))
        for end in with_program + with_answers:
            os.close(end)
