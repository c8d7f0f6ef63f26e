"""What a sandbox stops, and what each of its layers stops by itself. Remakes attacks.json: `python data/attacks.py`.

For chapter 15 on machines where nothing can be contained, and for its play with the layers. Needs Linux with every layer
(the tier "namespaces, Landlock and seccomp"); to be run by an ordinary user, since root's programs become nobody's and
cannot reach what is root's anyway. Nothing here does harm: what an act should not reach is made for it. Some ten seconds.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench import sandbox
from workbench.course.checks_15 import FORGERIES, TESTS
from workbench.sandbox import Limits, Suite, Tier, naive
from workbench.sandbox.judge import Case
from workbench.sandbox.pool import Worker

LIMITS = Limits(cpu=0.3, wall=2.0, memory=128 << 20, output=4096)

RIGHT = "def square(x):\n    return x * x"
PROGRAMS = {"right": RIGHT, "wrong": "def square(x):\n    return 2 * x"}

# What each begins with is added when it runs: SECRET is the name of a file that anybody may read, PORT is where somebody
# listens on this machine, JUDGE is the number of the judge's process.
ATTACKS = {
    "fork bomb": "import os\nwhile True:\n    os.fork()",
    "reads a secret file": "def square(x):\n    return open(SECRET).read()",
    "overwrites the file": "def square(x):\n    open(SECRET, 'w').write('mine')\n    return x * x",
    "phones home": "import socket\ndef square(x):\n    socket.create_connection(('127.0.0.1', PORT), 1)\n    return x * x",
    "runs a command": "import subprocess\ndef square(x):\n    subprocess.run(['id'], check=True)\n    return x * x",
    "kills the judge": "import os\ndef square(x):\n    os.kill(JUDGE, 9)\n    return x * x",
    "kills everybody": "import os\ndef square(x):\n    os.kill(-1, 9)\n    return x * x",
    "lifts its limits": (
        "import resource\ndef square(x):\n    most = (1 << 40, 1 << 40)\n"
        "    resource.setrlimit(resource.RLIMIT_AS, most)\n    return x * x"
    ),
    "endless loop": (
        "def square(x):\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass"
    ),
    "sleeps": "import time\ndef square(x):\n    time.sleep(1e9)",
    "stops the clock": "import time\ntime.monotonic = time.time = lambda: 0.0\nwhile True: pass",
    "eats the memory": "def square(x):\n    held = []\n    while True:\n        held.append(bytearray(1 << 24))",
    "prints without end": "while True:\n    print('x' * 1000)",
    "writes to the judge's pipe": "import os\nos.write(4, b'pass' * 10)\n" + RIGHT,
    "answers with a spell": "def square(x):\n    raise ValueError('\\x1b[2J<script>alert(1)</script>')",
}  # fmt: skip

# Each returns normally where nothing stops it.
ACTS = {
    "reads a file": "open(SECRET).read()",
    "writes a file": "open(SECRET, 'w').write('mine')",
    "changes a file's mode": "os.chmod(SECRET, 0o777)",
    "asks whether a file is there": "os.stat(SECRET)",
    "starts a process": "os.fork() or os._exit(0)",
    "runs a command": "os.posix_spawn('/bin/true', ['true'], {})",
    "opens a connection": "socket.create_connection(('127.0.0.1', PORT), timeout=1)",
    "sends a datagram": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))",
    "signals its parent": "os.kill(os.getppid(), 0)",
    "signals the judge": "os.kill(JUDGE, 0)",
    "makes a file in memory": "os.memfd_create('x')",
    "keeps a gigabyte": "bytes(1 << 30)",
}
ATTEMPT = """
import os, resource, socket
def attempt(act):
    try:
        exec(act)
    except (Exception, MemoryError):
        return False
    return True
"""
LAYERS = {"namespaces": False, "landlock": False, "seccomp": None, "rlimits": False}  # how each is switched off


@contextmanager
def outside() -> Iterator[str]:
    """Things for programs to reach for, and the line that tells them where these are."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as server:
        os.chmod(folder, 0o777)
        secret = Path(folder) / "secret"
        secret.write_text("the answer is 42")
        secret.chmod(0o666)
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"SECRET, PORT, JUDGE = {str(secret)!r}, {server.getsockname()[1]}, {os.getpid()}\n"


def judged(program: str, pool: sandbox.Pool) -> dict:
    """What each judge says of a program."""
    [real] = pool.judge([(program, TESTS)])
    believed = {name: judge(program, TESTS, pool) for name, judge in naive.JUDGES.items()}
    return {"program": program, "believed": believed, "reward": real.reward, "message": said(real)}


def said(result: sandbox.Result) -> str:
    return f"{result.verdict}: {result.message}" if result.message else str(result.verdict)


def _without_folder(message: str) -> str:
    return re.sub(r"'/\S*/secret'", "'.../secret'", message)


def ablation(where: str) -> dict[str, list[str]]:
    """The acts that got through, by the layers that were on."""
    found = {}
    for on in itertools.product((True, False), repeat=len(LAYERS)):
        settings = Tier.FULL.settings | {name: off for (name, off), kept in zip(LAYERS.items(), on) if not kept}
        worker, through = Worker(Tier.FULL, settings), []
        for name, act in ACTS.items():
            refused = Suite((Case("attempt", (act,), False),))
            if worker.judge(where + ATTEMPT, refused, LIMITS).verdict == "wrong answer":  # it said True
                through.append(name)
        worker.close()
        found["+".join(name for name, kept in zip(LAYERS, on) if kept) or "nothing"] = through
    return found


def main() -> None:
    with sandbox.Pool(1, limits=LIMITS, tier=Tier.FULL) as pool, outside() as where:
        results = [pool.judge([(where + program, TESTS)])[0] for program in ATTACKS.values()]
        programs = {**PROGRAMS, **FORGERIES}
        record = {
            "made by": "python data/attacks.py",
            "made with": f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}, by "
            + ("root: not what is wanted" if os.geteuid() == 0 else "an ordinary user"),
            "fields": FIELDS,
            "judges": {name: judged(program, pool) for name, program in programs.items()},
            "attacks": {
                name: {"program": program, "verdict": str(result.verdict), "message": _without_folder(result.message)}
                for (name, program), result in zip(ATTACKS.items(), results)
            },
            "acts": list(ACTS),
            "through": ablation(where),
        }
    Path(__file__).with_suffix(".json").write_text(json.dumps(record, indent=1, ensure_ascii=True) + "\n", encoding="utf-8")


FIELDS = {
    "judges": "what the naive judges believed of each program, and what the real one said",
    "attacks": "what the sandbox with all layers said of each",
    "through": "by the layers that were on: the acts that nothing stopped",
}

if __name__ == "__main__":
    main()
