"""What this machine can contain, found by trying: a layer counts only if what it should forbid was refused."""

from __future__ import annotations

import functools
import os
import platform
import socket
import sys
import tempfile
from dataclasses import dataclass
from enum import StrEnum

from workbench.sandbox import wasi
from workbench.sandbox.verdict import Limits


class Tier(StrEnum):
    """How programs are contained, strongest first."""

    FULL = "namespaces, Landlock and seccomp"
    CONTAINER = "Landlock and seccomp"
    NAMESPACES = "namespaces and seccomp"
    NO_FILES = "seccomp without any file"
    WASI = "WebAssembly, without files or network"
    PLAIN = "a process of its own, not contained"

    @property
    def settings(self) -> dict:
        """What the zygote is started with."""
        if self is Tier.WASI:
            return {"webassembly": True}
        return {
            "namespaces": self in (Tier.FULL, Tier.NAMESPACES),
            "landlock": self in (Tier.FULL, Tier.CONTAINER),
            "seccomp": {Tier.PLAIN: None, Tier.NO_FILES: "none"}.get(self, "files"),
            "rlimits": True,
        }


class Unavailable(RuntimeError):
    """This machine cannot contain a program well enough."""


@dataclass(frozen=True)
class Probe:
    """What was found of a tier: the forbidden acts that succeeded, and, if it could not be set up at all, why."""

    tier: Tier
    broken: tuple[str, ...]
    error: str = ""

    @property
    def holds(self) -> bool:
        return not self.broken and not self.error

    def __str__(self) -> str:
        if self.holds:
            return f"{self.tier}: holds"
        return f"{self.tier}: " + (self.error or f"does not stop a program that {', '.join(self.broken)}")


# Each act returns normally if it succeeded. {file}, {folder} and {port} exist outside and are open to everybody.
ACTS = {
    "reads a file of the user": "open({file!r}).read()",
    "writes a file": "open({folder!r} + '/made', 'w').write('x')",
    "changes the mode of a file": "os.chmod({file!r}, 0o777); assert os.stat({file!r}).st_mode & 1",  # a stub in WebAssembly
    "starts a process": "os.fork() or os._exit(0)",
    "runs a command": "os.posix_spawn('/bin/true', ['true'], {{}})",
    "opens a socket": "socket.create_connection(('127.0.0.1', {port}), timeout=1)",
    "sends a datagram": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port}))",
    "signals its parent": "os.kill(os.getppid(), 0)",
    "reads its parent's environment": "open(f'/proc/{{os.getppid()}}/environ', 'rb').read()",
    "raises its limits": "resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))",
}
_PROGRAM = """
def attempt(act, setting):
    global os, socket, resource
    import os
    try:
        import socket, resource
    except ImportError:
        pass
    try:
        exec(act)
    except Exception:  # refused by the kernel, or the module is out of reach
        return False
    return True
"""


@functools.cache
def probe(tier: Tier) -> Probe:
    """Try every forbidden act under `tier`, each in a process of its own; found once per process."""
    from workbench.sandbox.judge import Case, Suite
    from workbench.sandbox.pool import ZygoteFailed, start

    if tier is Tier.WASI and not wasi.installed():
        return Probe(tier, (), f"not installed: {wasi.INSTALL}")
    if tier is not Tier.WASI and sys.platform != "linux":
        return Probe(tier, (), f"{sys.platform} has none of these layers")
    broken = []
    with tempfile.TemporaryDirectory() as folder, socket.socket() as server:
        os.chmod(folder, 0o777)
        file = os.path.join(folder, "canary")
        with open(file, "w") as canary:
            canary.write("canary")
        os.chmod(file, 0o666)
        server.bind(("127.0.0.1", 0))
        server.listen()
        setting = {"file": file, "folder": folder, "port": server.getsockname()[1]}
        try:
            worker = start(tier)
        except (ZygoteFailed, ImportError) as error:
            return Probe(tier, (), str(error))
        try:
            honest = worker.judge("def f(x): return x + 1", Suite((Case("f", (1,), 2),)), Limits())
            if honest.verdict == "infrastructure":
                return Probe(tier, (), honest.message)
            if honest.verdict != "pass":
                return Probe(tier, (), f"an honest program does not pass: {honest.verdict}, {honest.message}")
            for name, act in ACTS.items():
                refused = Suite((Case("attempt", (act.format(**setting), 0), False),))
                if worker.judge(_PROGRAM, refused, Limits()).verdict == "wrong answer":  # it said True
                    broken.append(name)
        finally:
            worker.close()
    return Probe(tier, tuple(broken))


def describe() -> dict:
    """What contains programs here, as plain data for the record of a run: found once per process, by trying.

    Returns:
        tier: the strongest that holds, or None. layers: which it has. refused: the forbidden acts that were tried and refused.
        others: what was found of the stronger tiers. kernel: its release.
    """
    try:
        tier = best()
    except Unavailable:
        tier = None
    tried = [other for other in _STRONGEST_FIRST if tier is None or _STRONGEST_FIRST.index(other) <= _STRONGEST_FIRST.index(tier)]
    return {
        "tier": None if tier is None else str(tier),
        "layers": {} if tier is None else dict(tier.settings),
        "refused": [] if tier is None else list(ACTS),
        "others": {str(other): str(probe(other)).removeprefix(f"{other}: ") for other in tried if other is not tier},
        "kernel": platform.release(),
    }


_STRONGEST_FIRST = (Tier.FULL, Tier.CONTAINER, Tier.NAMESPACES, Tier.NO_FILES, Tier.WASI)


@functools.cache
def best() -> Tier:
    """The strongest tier that holds on this machine.

    Raises:
        Unavailable: if none does, with what was found of each and what to do.
    """
    found = []
    for tier in _STRONGEST_FIRST:
        result = probe(tier)
        if result.holds:
            return tier
        found.append(str(result))
    raise Unavailable(
        "programs cannot be contained on this machine:\n  " + "\n  ".join(found)
        + f"\nUse Linux 5.13 or newer (Docker's and Binder's defaults do), or WebAssembly ({wasi.INSTALL}), or, if you trust "
        'every program that will run, Pool(tier=Tier.PLAIN, i_trust_every_program=True).'
    )
