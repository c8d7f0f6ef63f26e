"""Verdicts, tests that stay outside, the data that crosses the wall, and a pool that survives what happens to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import random
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.sandbox import (
    Case,
    Limits,
    Pool,
    Result,
    Suite,
    Tier,
    Unavailable,
    Verdict,
    best,
    codec,
    describe,
    printable,
    soak,
    suite,
    tiers,
)
from workbench.sandbox import pool as pool_module
from workbench.sandbox.codec import DEPTH, FRAME, MEMBERS, Malformed, Unsupported, decode, encode
from workbench.sandbox.judge import same
from workbench.sandbox.pool import Conversation
from workbench.sandbox.verdict import escaped

DOUBLE, TESTS = "def double(x): return 2 * x", "assert double(3) == 6\nassert double(-1) == -2"

# ---- the data that crosses -------------------------------------------------------------------------------------------------

_keys = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
_plain = st.recursive(
    _keys | st.floats() | st.complex_numbers(),
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.sets(_keys) | st.frozensets(_keys) | st.dictionaries(_keys, inner)
    ),
)


@settings(max_examples=80, deadline=None)
@given(_plain)
def test_plain_data_comes_back_as_it_was(value):
    back = decode(encode(value))
    assert same(back, value) and type(back) is type(value)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_no_encoder_made_are_refused_or_are_plain_data(data):
    try:
        value = decode(data)
    except Malformed:
        return
    assert same(decode(encode(value)), value)


@settings(max_examples=60, deadline=None)
@given(_plain, st.data())
def test_a_damaged_encoding_never_does_harm(value, data):
    encoded = bytearray(encode(value))
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Malformed):
        decode(bytes(encoded))


class Number(int):
    pass


def _nested(depth):
    value = 0
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [Number(3), object(), print, iter([]), [Number(1)], {1: object()}, _nested(DEPTH + 1), "x" * (FRAME + 1), ["x" * 1000] * 1000,
     set(range(MEMBERS + 1)), [1 << 10**6], [0] * 30_000, "\ud800"],
    ids=range(13),
)  # fmt: skip
def test_what_is_not_plain_data_or_too_much_of_it_is_not_encoded(value):
    with pytest.raises(Unsupported):
        encode(value)


def test_a_length_is_checked_before_anything_is_built():
    for tag in b"lubdts":
        with pytest.raises(Malformed):
            decode(bytes([tag]) + b"\xff\xff\xff\xff")


# ---- tests that stay outside ---------------------------------------------------------------------------------------------


def test_asserts_are_read_as_calls_and_values():
    found = suite("assert f(2, [1]) == {'a': (1, -2)}\nassert abs(g(0.5) - 1.5) < 1e-3")
    assert found == Suite((Case("f", (2, [1]), {"a": (1, -2)}), Case("g", (0.5,), 1.5, 1e-3)))


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        ("", "at least one test"),
        ("assert f(", "not Python"),
        ("x = 1", "a test is an assert"),
        ("assert f(1)", "more than one value"),
        ("assert f(1) != 2", "more than one value"),
        ("assert not abs(f(1) - 2) > 1e-3", "more than one value"),
        ("try:\n    assert f(1) == 2\nexcept Exception: pass", "a test is an assert"),
        ("assert f(x) == 2", "written out"),
        ("assert f(1) == g(2)", "written out"),
    ],
)
def test_a_test_that_accepts_anything_is_refused_with_its_line(tests, message):
    with pytest.raises(ValueError, match=message):
        suite(tests)


def test_a_case_of_something_else_than_plain_data_is_refused():
    with pytest.raises(ValueError, match="plain data only"):
        Case("f", (object(),), 1)
    for tolerance in (-1.0, math.nan, "1"):
        with pytest.raises(ValueError, match="tolerance"):
            Case("f", (1,), 1.0, tolerance)
    with pytest.raises(ValueError, match="by its name"):
        Case("f(1)", (1,), 1)
    with pytest.raises(ValueError, match="a tuple"):
        Case("f", [1], 1)


@pytest.mark.parametrize(
    ("answer", "expected", "tolerance", "equal"),
    [
        (1, 1, 0, True), (True, 1, 0, False), (1.0, 1, 0, False), (0.1 + 0.2, 0.3, 0, False), (0.1 + 0.2, 0.3, 1e-9, True),
        (1, 1.0, 1e-9, True), (True, 1.0, 1e-9, False), (math.nan, 1.0, 1e-9, False), (math.nan, math.nan, 1e-9, True),
        (math.inf, math.inf, 1e-9, True), (-math.inf, math.inf, 1e-9, False), ([1, 2], (1, 2), 0, False),
        ([1, [2.0]], [1, [2.0 + 1e-12]], 1e-9, True), ({1}, {1}, 0, True), ({1.0}, {1}, 0, False),
        ({(1, 2)}, {(1, 2.0)}, 0, False),
        ({"a": 1}, {"a": 1}, 0, True), ({"a": 1}, {"a": True}, 0, False), ({1: 2}, {1.0: 2}, 0, False), ({}, {1: 2}, 0, False),
        (None, False, 0, False), ("1", b"1", 0, False),
    ],
)  # fmt: skip
def test_equality_goes_type_by_type(answer, expected, tolerance, equal):
    assert same(answer, expected, tolerance) is equal


def test_an_integer_beyond_every_float_is_just_wrong():
    assert not Case("f", (), 1.0, 1e-6).accepts(10**5000)


# ---- verdicts ------------------------------------------------------------------------------------------------------------


def test_reward_is_a_constant_of_the_verdict():
    rewards = {verdict: verdict.reward for verdict in Verdict}
    assert rewards.pop(Verdict.PASS) == 1 and rewards.pop(Verdict.INFRASTRUCTURE) is None and set(rewards.values()) == {0.0}


@pytest.mark.parametrize(
    "limits",
    [{"cpu": 0}, {"cpu": -1}, {"cpu": "1"}, {"cpu": math.inf}, {"cpu": math.nan}, {"wall": 0.1}, {"wall": math.inf},
     {"memory": 0}, {"memory": 1e9}, {"memory": 1 << 70}, {"output": 0}],
)  # fmt: skip
def test_impossible_limits_are_refused(limits):
    with pytest.raises(ValueError, match=f"Limits.{next(iter(limits))}"):
        Limits(**limits)


def test_what_a_program_says_cannot_act():
    assert printable("a\x1b[31mb\x07\u202ec\n\td") == "a\\x1b[31mb\\x07\\x202ec\n\td"
    assert printable("x" * 3000).endswith("(3000 characters)") and len(printable("x" * 3000)) < 2100
    assert escaped("<script>&") == "&lt;script&gt;&amp;"


# ---- the pool ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pool():
    with Pool(2, limits=Limits(cpu=0.5)) as pool:
        yield pool


def test_results_come_in_the_order_of_the_jobs(pool):
    counts = []
    wrong = ["def double(x): return x", "def double(x): raise KeyError(x)", "def twice(x): pass", "def double(x) return"]
    results = pool.judge([(program, TESTS) for program in [DOUBLE, *wrong]], progress=lambda done, of: counts.append((done, of)))
    assert [r.verdict for r in results] == [Verdict.PASS, Verdict.WRONG_ANSWER, *[Verdict.EXCEPTION] * 3]
    assert counts == [(n, 5) for n in range(1, 6)]
    assert results[0].passed == results[0].cases == 2 and results[0].cpu > 0 and results[0].tier == str(best())
    assert "double" in results[3].message and "SyntaxError" in results[4].message


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ((DOUBLE, None), "tests are Python"), ((DOUBLE, 3), "tests are Python"), ((DOUBLE, [TESTS]), "not of 'assert double"),
        ((DOUBLE, b"x"), "not of 120"), ((DOUBLE, []), "at least one test"), (DOUBLE, "a program and its tests are needed"),
        ((None, TESTS), "a program and its tests are needed"),
    ],
)  # fmt: skip
def test_what_is_no_job_is_refused_before_anything_runs(job, message, pool):
    with pytest.raises(ValueError, match=message):
        pool.judge([(DOUBLE, TESTS), job])


def test_a_bad_suite_is_refused_before_anything_runs(pool):
    with pytest.raises(ValueError, match="line 1"):
        pool.judge([(DOUBLE, TESTS), (DOUBLE, "assert double(1)")])


def test_it_works_while_an_event_loop_runs(pool):
    async def cell():
        return pool.judge([(DOUBLE, TESTS)])[0].verdict

    assert asyncio.run(cell()) is Verdict.PASS


def test_programs_know_nothing_of_each_other(pool):
    leave = "import builtins, math\nbuiltins.left = math.left = 1\ndef f(): return 1"
    look = "import builtins, math\ndef f(): return hasattr(builtins, 'left') or hasattr(math, 'left')"
    pool.judge([(leave, "assert f() == 1")] * 4)
    assert {r.verdict for r in pool.judge([(look, "assert f() == False")] * 4)} == {Verdict.PASS}


def test_nothing_of_ours_is_in_the_environment(pool, monkeypatch):
    program = "import os\ndef f(): return sorted(k for k in os.environ if k not in ('LC_CTYPE',))"
    assert pool.judge([(program, "assert f() == []")])[0].verdict is Verdict.PASS


def test_honest_programs_pass_beside_endless_loops():
    with Pool(2, limits=Limits(cpu=0.15, wall=4)) as pool:
        hogs = [pool.submit("while True: pass", TESTS) for _ in range(4)]
        honest = pool.judge([(DOUBLE, TESTS)] * 200)
        assert {r.verdict for r in honest} == {Verdict.PASS}
        assert {hog.result().verdict for hog in hogs} == {Verdict.CPU_TIME}


def test_a_program_that_the_kernel_ends_for_its_cpu_time_before_we_do_is_told_so():
    """On a machine that stands still for seconds the hard limit of the kernel may come first, which kills."""
    talk = Conversation(None, Limits(cpu=0.15))
    talk.report = (1, int(signal.SIGKILL), 2.0, codec.BY_ITSELF)
    assert talk._post_mortem().verdict is Verdict.CPU_TIME
    talk.report = (1, int(signal.SIGKILL), 0.1, codec.BY_ITSELF)
    assert talk._post_mortem().verdict is Verdict.KILLED


def test_results_are_remembered_only_when_asked(monkeypatch):
    best()
    runs = []
    real = pool_module.Worker.judge
    monkeypatch.setattr(pool_module.Worker, "judge", lambda self, *job: runs.append(job) or real(self, *job))
    for remember, expected in ((True, 2), (False, 4)):
        runs.clear()
        with Pool(1, remember=remember) as pool:
            for _ in range(3):  # a list among the arguments, which cannot be hashed
                assert pool.judge([(DOUBLE, "assert double([1]) == [1, 1]")])[0].verdict is Verdict.PASS
            pool.judge([(DOUBLE, "assert double([1]) == [1, 1]")], limits=Limits(cpu=0.5))
        assert len(runs) == expected


def test_whatever_is_killed_every_caller_gets_a_verdict_and_nothing_is_left():
    """Zygotes, the first processes of their namespaces, children that wait and children that run, at random."""
    rng, stop, killed = random.Random(0), threading.Event(), []
    others = set(psutil.Process().children(recursive=True))

    def killer():
        while len(killed) < 12 and not stop.wait(0.1):
            with contextlib.suppress(psutil.Error, IndexError):  # it may have ended by itself
                process = rng.choice(sorted(set(psutil.Process().children(recursive=True)) - others, key=lambda p: p.pid))
                process.kill()
                killed.append(process.pid)

    with Pool(2) as pool:
        thread = threading.Thread(target=killer)
        thread.start()
        results = []
        while thread.is_alive():
            results += pool.judge([(DOUBLE, TESTS)] * 20)
        stop.set()
        # a program that is hit itself was killed; one whose worker is hit is judged again, and unless it is hit twice it passes
        hit = [r.verdict for r in results if r.verdict is not Verdict.PASS]
        assert len(killed) == 12 and set(hit) <= {Verdict.INFRASTRUCTURE, Verdict.KILLED} and len(hit) <= len(killed)
        assert {r.verdict for r in pool.judge([(DOUBLE, TESTS)] * 4)} == {Verdict.PASS}
    _, alive = psutil.wait_procs(set(psutil.Process().children(recursive=True)) - others, timeout=3)
    assert alive == []


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, MemoryError])
def test_a_judge_that_fails_tells_its_caller_and_the_next_program_is_judged(error, monkeypatch):
    real, calls = pool_module.Conversation.says, []

    def failing(self, words):
        calls.append(self)
        if len(calls) <= 2:
            raise error("of ours")
        return real(self, words)

    best()
    monkeypatch.setattr(pool_module.Conversation, "says", failing)
    with Pool(1) as pool:
        [broken] = pool.judge([(DOUBLE, TESTS)])
        assert broken.verdict is Verdict.INFRASTRUCTURE and broken.message == f"the judge failed: {error.__name__}: of ours"
        assert pool.judge([(DOUBLE, TESTS)])[0].verdict is Verdict.PASS


def test_a_pool_that_is_closed_unblocks_whoever_waits():
    pool, results = Pool(1, limits=Limits(cpu=0.2, wall=10)), []
    waiting = threading.Thread(target=lambda: results.extend(pool.judge([("while True: pass", TESTS)] * 8)))
    waiting.start()
    while not pool.threads._work_queue.qsize() and waiting.is_alive():
        time.sleep(0.01)
    pool.close()
    waiting.join(10)
    verdicts = [r.verdict for r in results]
    assert len(verdicts) == 8 and verdicts[-1] is Verdict.INFRASTRUCTURE and results[-1].message == "the pool was closed"
    assert set(verdicts) <= {Verdict.CPU_TIME, Verdict.INFRASTRUCTURE}
    pool.close()  # again, which does nothing


def test_a_batch_can_be_awaited_while_the_loop_goes_on(pool):
    counts, turns = [], []

    async def clock():
        while True:
            turns.append(1)
            await asyncio.sleep(0.001)

    async def cell():
        ticking = asyncio.create_task(clock())
        found = await pool.judge_async(
            [("def double(x): return x", TESTS), *[(DOUBLE, TESTS)] * 9], progress=lambda done, of: counts.append((done, of))
        )
        ticking.cancel()
        return found

    verdicts = [r.verdict for r in asyncio.run(cell())]
    assert verdicts == [Verdict.WRONG_ANSWER, *[Verdict.PASS] * 9]
    assert counts == [(n, 10) for n in range(1, 11)] and len(turns) > 3


def test_a_batch_that_nobody_awaits_any_more_is_not_run_to_its_end():
    async def cell(pool):
        batch = asyncio.create_task(pool.judge_async([("while True: pass", TESTS)] * 200))
        await asyncio.sleep(0.05)
        batch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await batch

    with Pool(1, limits=Limits(cpu=0.05, wall=5)) as pool:
        asyncio.run(cell(pool))
        assert pool.judge([(DOUBLE, TESTS)])[0].verdict is Verdict.PASS  # soon, not after 200 loops


def test_a_progress_callback_that_fails_ends_the_batch(pool):
    def full(done, of):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool.judge([(DOUBLE, TESTS)] * 50, progress=full)
    assert pool.judge([(DOUBLE, TESTS)])[0].verdict is Verdict.PASS


def test_an_infrastructure_failure_is_retried_once(monkeypatch):
    real, calls = pool_module.Worker.judge, []

    def flaky(self, *job):
        calls.append(job)
        return Result(Verdict.INFRASTRUCTURE, 0, 1, "broken") if len(calls) % 3 else real(self, *job)

    monkeypatch.setattr(pool_module.Worker, "judge", flaky)
    with Pool(1) as pool:
        assert pool.judge([(DOUBLE, TESTS)])[0].verdict is Verdict.INFRASTRUCTURE and len(calls) == 2
        assert pool.judge([(DOUBLE, TESTS)])[0].verdict is Verdict.PASS and len(calls) == 3


def test_no_process_outlives_a_killed_judge():
    program = (
        "import sys, time; from workbench.sandbox import Limits, Pool\n"
        "pool = Pool(2, limits=Limits(cpu=60))\n"
        "for _ in range(2): pool.submit('while True: pass', 'assert f() == 1')\n"
        "time.sleep(0.7); print('running', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as judge:
        assert judge.stdout.readline() == "running\n"
        left = psutil.Process(judge.pid).children(recursive=True)
        assert len(left) >= 4  # two zygotes and two programs, at least
        judge.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(left, timeout=3)
    assert alive == []


def test_many_programs_leave_nothing_behind(monkeypatch):
    best()
    monkeypatch.setattr(soak, "SETTLED", 100)
    found = soak.soak(200, workers=1, show=lambda line: None)
    assert found["programs"] == 200 and found["verdicts"] == {
        "pass": 285, "wrong answer": 3, "exception": 3, "memory": 3, "protocol": 3, "unsupported value": 3
    }  # fmt: skip
    before, after = found["before"], found["after"]
    for name, held in after.items():
        more = 1000 if "memory" in name else 3 if name == "most_files" else 0  # kB; and of a child, it depends on how far it is
        assert held <= before[name] + more, name


def test_what_contains_programs_is_plain_data_for_the_record_of_a_run(monkeypatch):
    found = describe()
    assert json.loads(json.dumps(found)) == found
    assert found["tier"] == str(best()) and found["layers"] == best().settings and found["refused"] == list(tiers.ACTS)
    monkeypatch.setattr(tiers, "probe", lambda tier: tiers.Probe(tier, () if tier is Tier.NO_FILES else ("opens a socket",)))
    for worse, tier in ((lambda: Tier.NO_FILES, str(Tier.NO_FILES)), (_unavailable, None)):
        monkeypatch.setattr(tiers, "best", worse)
        found = describe()
        assert found["tier"] == tier and found["others"][str(Tier.FULL)] == "does not stop a program that opens a socket"


def _unavailable():
    raise Unavailable("nothing holds")


def test_a_pool_needs_workers_and_a_promise():
    with pytest.raises(ValueError, match="at least one worker"):
        Pool(0)
    with pytest.raises(ValueError, match="a Tier is needed, not 'full'"):
        Pool(1, tier="full")
    with pytest.raises(ValueError, match="a Limits is needed"):
        Pool(1, limits={"cpu": 1})
    with pytest.raises(ValueError, match="i_trust_every_program"):
        Pool(1, tier=Tier.PLAIN)
    with Pool(1, tier=Tier.PLAIN, i_trust_every_program=True) as pool:
        assert pool.judge([(DOUBLE, TESTS)])[0].verdict is Verdict.PASS


def test_a_machine_that_contains_nothing_is_refused_with_what_to_do(monkeypatch):
    best.cache_clear()
    monkeypatch.setattr(tiers, "probe", lambda tier: tiers.Probe(tier, ("opens a socket",)))
    with pytest.raises(Unavailable, match=r"opens a socket(.|\n)*Linux 5.13"):
        best()
    best.cache_clear()


def test_an_uncontained_program_is_seen_to_be_uncontained():
    found = tiers.probe(Tier.PLAIN)
    assert not found.holds and {"reads a file of the user", "writes a file"} <= set(found.broken)
