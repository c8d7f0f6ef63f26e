"""Programs that try to cheat or to break out: reward 0, the neighbour passes, nothing outside is touched, nobody survives."""

# ruff: noqa: E501 (programs on a line of their own)

from __future__ import annotations

import os
import socket
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from workbench.sandbox import Limits, Pool, Tier, Verdict, probe
from workbench.sandbox.judge import suite
from workbench.sandbox.pool import Worker

TESTS = "assert f([3, 1, 2]) == [1, 2, 3]\nassert f([]) == []\nassert f([5, 5]) == [5, 5]"
HONEST = "def f(x):\n    return sorted(x)"
LIMITS = Limits(cpu=0.4, wall=2, output=4096)
LYING = """
class Liar(list):
    __eq__ = lambda self, other: True
    __ne__ = lambda self, other: False
    __hash__ = None
"""

# What each defines as f, or does when it is loaded. {canary}: a file anybody may read and write; {folder}: its folder;
# {port}: a port somebody listens on; {pid}: the judge's process.
ATTACKS = {
    "P01 exits with success when loaded": "import sys; sys.exit(0)",
    "P02 leaves inside the call": "import os\ndef f(x): os._exit(0)",
    "P03 an object equal to everything": "class A:\n    __eq__ = lambda s, o: True\ndef f(x): return A()",
    "P04 a list equal to everything": LYING + "def f(x): return Liar()",
    "P04 a number equal to everything": "class I(int):\n    __eq__ = lambda s, o: True\ndef f(x): return I(3)",
    "P05 replaces the builtins that tests use":
        "import builtins\nbuiltins.AssertionError = type('A', (Exception,), {{}})\nbuiltins.all = builtins.sorted = lambda *a: True\n"
        "builtins.abs = lambda x: 0\nbuiltins.isinstance = lambda *a: True\nbuiltins.type = lambda *a: list\ndef f(x): return x",
    "P06 an exception hook that exits with success":
        "import sys, os\nsys.excepthook = lambda *a: os._exit(0)\ndef f(x): raise ValueError",
    "P07 forges success on the way out": "import atexit, os\natexit.register(lambda: os.write(4, b'ok'))\nimport sys; sys.exit(0)",
    "P08 says that all is well": "print('ALL TESTS PASSED'); print('OK', flush=True); import os; os._exit(0)",
    "P09 looks for the expected value in frames and the heap":
        "import gc, sys\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n        for v in list(frame.f_locals.values()):\n"
        "            if isinstance(v, tuple) and len(v) == 3: return v[2]\n        frame = frame.f_back\n"
        "    for o in gc.get_objects():\n        if type(o).__name__ == 'Case': return o.expected\n",
    "P10 looks for the expected value in its command line":
        "def f(x):\n    text = open('/proc/self/cmdline').read()\n    return eval(text.split('==')[1])",
    "P11 garbage on the pipe": "import os\nos.write(4, b'garbage' * 10)\ndef f(x): return sorted(x)",
    "P12 announces an endless answer": "import os\ndef f(x):\n    os.write(4, b'\\xff\\xff\\xff\\xff')\n    return sorted(x)",
    "P13 loops": "while True: pass",
    "P14 loops and swallows everything":
        "def f(x):\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass",
    "P15 sleeps": "import time\ndef f(x): time.sleep(1e9)",
    "P16 fills the memory": "def f(x):\n    held = []\n    while True: held.append(bytearray(1 << 24))",
    "P17 prints without end": "while True: print('x' * 1000)",
    "P18 recurses without end": "import sys\nsys.setrecursionlimit(10**9)\ndef f(x): return f(x)",
    "P18 recurses in C": "import sys\nsys.setrecursionlimit(10**9)\ndef f(x):\n    a = []\n    for _ in range(10**6): a = [a]\n    return repr(a)",
    "P19 reads a file": "def f(x):\n    open({canary!r}).read()\n    return sorted(x)",
    "P19 reads the passwords": "def f(x):\n    open('/etc/passwd').read()\n    return sorted(x)",
    "P20 writes a file": "def f(x):\n    open({folder!r} + '/made', 'w').write('x')\n    return sorted(x)",
    "P20 makes a link": "import os\ndef f(x):\n    os.symlink('/etc', {folder!r} + '/link')\n    return sorted(x)",
    "P21 deletes a file": "import os\ndef f(x):\n    os.remove({canary!r})\n    return sorted(x)",
    "P21 replaces a folder": "import os\ndef f(x):\n    os.rename({folder!r}, {folder!r} + '2')\n    return sorted(x)",
    "P22 connects": "import socket\ndef f(x):\n    socket.create_connection(('127.0.0.1', {port}), 1)\n    return sorted(x)",
    "P22 sends a datagram":
        "import socket\ndef f(x):\n    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port}))\n    return sorted(x)",
    "P23 leaves a daemon behind":
        "import os, time\ndef f(x):\n    if not os.fork():\n        os.setsid()\n        while True: time.sleep(1)\n    return sorted(x)",
    "P24 runs a command": "import subprocess\ndef f(x):\n    subprocess.run(['touch', {folder!r} + '/made'], check=True)\n    return sorted(x)",
    "P24 replaces itself": "import os\ndef f(x): os.execv('/bin/true', ['true'])",
    "P25 kills its parent": "import os\ndef f(x):\n    os.kill(os.getppid(), 9)\n    return sorted(x)",
    "P25 kills the judge": "import os\ndef f(x):\n    os.kill({pid}, 9)\n    return sorted(x)",
    "P25 kills everybody": "import os\ndef f(x):\n    os.kill(-1, 9)\n    return sorted(x)",
    "P26 reads its parent's environment": "import os\ndef f(x):\n    open(f'/proc/{{os.getppid()}}/environ').read()\n    return sorted(x)",
    "P27 stops the clock": "import time\ntime.monotonic = time.time = lambda: 0.0\ndef f(x):\n    while True: pass",
    "P28 changes its argument": "def f(x):\n    x.clear()\n    return x",
    "P29 raises its limits":
        "import resource\ndef f(x):\n    resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))\n    return sorted(x)",
    "P30 an exception that takes forever to tell":
        "class E(Exception):\n    def __str__(self):\n        while True: pass\ndef f(x): raise E",
    "P30 an exception of a megabyte": "def f(x): raise ValueError('x' * 10**6)",
    "changes its mode": "import os\ndef f(x):\n    os.chmod({canary!r}, 0)\n    return sorted(x)",
    "starts a thread that never ends":
        "import threading\ndef loop():\n    while True: pass\ndef f(x):\n    threading.Thread(target=loop, daemon=True).start()\n    return sorted(x)",
    "traces its parent": "import ctypes, os\ndef f(x):\n    assert ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0\n    return sorted(x)",
    "makes executable memory of the judge's": "import ctypes\ndef f(x):\n    assert ctypes.CDLL(None).syscall(319, b'x', 0) >= 0\n    return sorted(x)",
    "uses the other table of calls":
        "import ctypes\ndef f(x):\n    ctypes.CDLL(None).syscall(0x40000000 + 39)\n    return sorted(x)",
    "answers twice":
        "import os, struct, sys\ndef f(x):\n    data = b'v' + sys.modules['codec'].encode(sorted(x))\n"
        "    os.write(4, struct.pack('>I', len(data)) + data)\n    return sorted(x)",
    "counts its calls": "stock = iter([[1, 2, 3], [], [5, 5]])\ndef f(x): return next(stock)",  # one text in six is in luck
    "an answer nested too deeply": "def f(x):\n    for _ in range(10**5): x = [x]\n    return x",
    "an answer of many megabytes": "def f(x): return ['x' * 10**6] * 100",
    "a set that is slow to hash": "def f(x): return {{n * (2**61 - 1) for n in range(20000)}}",
    "a number too long to print": "def f(x): return 10**5000",
    "a generator": "def f(x): yield from sorted(x)",
    "not a number": "def f(x): return float('nan')",
    "escape sequences": "def f(x): raise ValueError('\\x1b]0;owned\\x07<script>alert(1)</script>')",
    "forges a lockdown failure": "import os\ndef f(x):\n    os._exit(1)",
}  # fmt: skip


@pytest.fixture(scope="module")
def world():
    """A canary in a folder open to everybody, and a port that counts its callers."""
    with (
        tempfile.TemporaryDirectory() as parent,  # not pytest's, which every run of it closes to others
        socket.socket() as stream,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram,
    ):
        folder, canary = Path(parent, "outside"), Path(parent, "outside", "canary")
        folder.mkdir()
        canary.write_text("canary")
        for path, mode in ((Path(parent), 0o777), (folder, 0o777), (canary, 0o666)):
            path.chmod(mode)
        stream.bind(("127.0.0.1", 0))
        stream.listen()
        stream.setblocking(False)
        datagram.bind(("127.0.0.1", stream.getsockname()[1]))
        datagram.setblocking(False)
        yield {"canary": str(canary), "folder": str(folder), "port": stream.getsockname()[1], "pid": os.getpid()}, stream, datagram


@pytest.fixture(scope="module", params=[Tier.FULL, Tier.CONTAINER, Tier.NAMESPACES, Tier.NO_FILES], ids=lambda tier: tier.name)
def tier(request):
    found = probe(request.param)
    if not found.holds:
        pytest.skip(str(found))
    return request.param


def test_every_attack_fails_and_the_neighbour_passes(tier, world):
    setting, stream, datagram = world
    programs = [attack.format(**setting) for attack in ATTACKS.values()]
    with Pool(2, tier=tier, limits=LIMITS) as pool:
        results = pool.judge([(program, TESTS) for attack in programs for program in (attack, HONEST)])
        assert [r.verdict for r in results[1::2]] == [Verdict.PASS] * len(ATTACKS)
        found = dict(zip(ATTACKS, results[::2]))
        assert {name: (r.verdict, r.message) for name, r in found.items() if r.reward != 0} == {}
        time.sleep(1)
        zygotes = [worker.process.pid for worker in _idle(pool)]
        running = [p for pid in zygotes for p in psutil.Process(pid).children(recursive=True)]
        assert [p for p in running if p.cpu_percent(0.05) > 50] == []
        expected = 2 if tier in (Tier.FULL, Tier.NAMESPACES) else 1  # the first of the namespace; one that waits for a program
        assert len(running) == expected * len(zygotes)
    folder = Path(setting["folder"])
    assert [p.name for p in folder.iterdir()] == ["canary"] and not folder.with_name(folder.name + "2").exists()
    assert Path(setting["canary"]).read_text() == "canary" and Path(setting["canary"]).stat().st_mode & 0o777 == 0o666
    for end in (stream.accept, lambda: datagram.recv(10)):
        with pytest.raises(BlockingIOError):
            end()


def _idle(pool):
    workers = [pool.idle.get() for _ in range(pool.workers)]
    for worker in workers:
        pool.idle.put(worker)
    return [worker for worker in workers if worker is not None]


VERDICTS = {
    "P01 exits with success when loaded": Verdict.EXCEPTION,
    "P02 leaves inside the call": Verdict.PROTOCOL,
    "P03 an object equal to everything": Verdict.UNSUPPORTED_VALUE,
    "P04 a list equal to everything": Verdict.UNSUPPORTED_VALUE,
    "P11 garbage on the pipe": Verdict.PROTOCOL,
    "P12 announces an endless answer": Verdict.PROTOCOL,
    "P13 loops": Verdict.CPU_TIME,
    "P14 loops and swallows everything": Verdict.CPU_TIME,
    "P15 sleeps": Verdict.WALL_TIME,
    "P16 fills the memory": Verdict.MEMORY,
    "P17 prints without end": Verdict.OUTPUT_LIMIT,
    "P28 changes its argument": Verdict.WRONG_ANSWER,
    "P30 an exception that takes forever to tell": Verdict.CPU_TIME,
    "uses the other table of calls": Verdict.KILLED,
    "counts its calls": Verdict.WRONG_ANSWER,
    "not a number": Verdict.WRONG_ANSWER,
    "a generator": Verdict.UNSUPPORTED_VALUE,
}


@pytest.mark.parametrize("name", VERDICTS)
def test_the_verdict_says_what_happened(name, world):
    if name.startswith("uses the other") and os.uname().machine != "x86_64":
        pytest.skip("the other table is that of x32, on x86-64 only")
    patient = LIMITS if VERDICTS[name] is Verdict.WALL_TIME else replace(LIMITS, wall=60)  # on a busy machine, too
    with Pool(1, limits=patient) as pool:
        assert pool.judge([(ATTACKS[name].format(**world[0]), TESTS)])[0].verdict == VERDICTS[name]


# Without the layer, in a world where nothing else does its work, something gets through: so the tests above can fail.
WITHOUT = {
    "landlock": (Tier.CONTAINER, {"landlock": False}, "P19 reads a file"),
    "namespaces": (Tier.NAMESPACES, {"namespaces": False}, "P19 reads a file"),
    "seccomp": (Tier.CONTAINER, {"seccomp": None}, "P22 sends a datagram"),
    "files in seccomp": (Tier.NO_FILES, {"seccomp": "files"}, "P19 reads a file"),
    "rlimits": (Tier.CONTAINER, {"rlimits": False}, "keeps a gigabyte"),
}


@pytest.mark.parametrize("layer", WITHOUT)
def test_each_layer_is_needed(layer, world):
    tier, change, name = WITHOUT[layer]
    if not probe(tier).holds:
        pytest.skip(str(probe(tier)))
    attack = ATTACKS.get(name, "held = bytes(1 << 30)\ndef f(x): return sorted(x)").format(**world[0])
    verdicts = []
    for settings in (tier.settings, tier.settings | change):
        worker = Worker(tier, settings)
        verdicts.append(worker.judge(attack, suite(TESTS), LIMITS).verdict)
        worker.close()
    assert verdicts[0] is not Verdict.PASS and verdicts[1] is Verdict.PASS
