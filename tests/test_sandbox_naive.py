"""Judges that people write first: right about honest programs, and each forged by a short one that the real judge fails."""

from __future__ import annotations

import os

import pytest

from workbench.sandbox import Pool, Tier, Unavailable, Verdict, best, naive

TESTS = "assert double(3) == 6\nassert double(-1) == -2"
RIGHT = "def double(x): return 2 * x"

EQUAL = "class A:\n    __eq__ = lambda self, other: True\ndef double(x): return A()"
FORGERIES = {
    ("exit code", "leaves with success"): "raise SystemExit(0)",
    ("exit code", "leaves with success when called"): "double = lambda x: exit()",
    ("exit code", "leaves with success by another name"): "double = lambda x: quit()",
    ("exit code", "leaves without unwinding"): "import os\ndef double(x): os._exit(0)",
    ("exit code", "is equal to everything"): EQUAL,
    ("marker", "prints the line and leaves"): f"print({naive.MARKER!r})\nraise SystemExit",
    ("marker", "is equal to everything"): EQUAL,
    ("nonce", "finds the line among its own constants"):
        # in the call: after a bare `raise SystemExit` the compiler drops the rest of the script, the line with it
        "import sys\ndef double(x):\n"
        "    consts = sys._getframe(1).f_code.co_consts\n"
        "    print([c for c in consts if isinstance(c, str) and len(c) == 32][-1])\n    raise SystemExit",
    ("nonce", "is equal to everything"): EQUAL,
    ("same process", "is equal to everything"): EQUAL,
    ("same process", "has its judge's next step do nothing"): "import builtins\nbuiltins.exec = lambda *a: None",
}  # fmt: skip


def _here() -> bool:
    try:
        best()
    except Unavailable:
        return False
    return True


pytestmark = pytest.mark.skipif(not _here(), reason="no tier of the sandbox holds on this machine")


@pytest.fixture(scope="module")
def pool():
    with Pool(1) as made:
        yield made


@pytest.mark.parametrize("name", naive.JUDGES)
def test_a_right_program_passes(name, pool):
    assert naive.JUDGES[name](RIGHT, TESTS, pool)


@pytest.mark.parametrize("name", naive.JUDGES)
def test_a_right_program_may_print(name, pool):
    assert naive.JUDGES[name](f"print('loaded')\n{RIGHT}", TESTS, pool)


@pytest.mark.parametrize("name", naive.JUDGES)
@pytest.mark.parametrize(
    "program",
    ["def double(x): return x + 3", "def double(x): return 1 / 0", "def double(x) return", "", "raise SystemExit(3)",
     "print('almost')\nraise SystemExit(1)", "raise SystemExit('no')"],
)  # fmt: skip
def test_a_wrong_program_that_does_not_cheat_fails(name, program, pool):
    assert not naive.JUDGES[name](program, TESTS, pool)


@pytest.mark.parametrize("name, how", FORGERIES)
def test_each_naive_judge_is_forged_and_the_real_one_is_not(name, how, pool):
    program = FORGERIES[name, how]
    assert naive.JUDGES[name](program, TESTS, pool)
    [real] = pool.judge([(program, TESTS)])
    assert real.reward == 0


def test_every_naive_judge_has_a_forgery_of_its_own_and_one_in_common():
    assert {name for name, _ in FORGERIES} == set(naive.JUDGES)
    assert {name for (name, _), program in FORGERIES.items() if program == EQUAL} == set(naive.JUDGES)


def test_the_nonce_is_another_one_in_every_run(pool):
    asked = []

    class Listening:
        tier = pool.tier

        def judge(self, jobs):
            asked.extend(program for program, _ in jobs)
            return pool.judge(jobs)

    assert all(naive.nonce(RIGHT, TESTS, Listening()) for _ in range(2))
    assert asked[0] != asked[1]


@pytest.mark.parametrize("name", naive.JUDGES)
def test_the_program_runs_in_the_sandbox_and_not_here(name, pool):
    program = f"import os\nassert os.getpid() != {os.getpid()}\nos.environ['FORGED'] = '1'\n{RIGHT}"
    assert naive.JUDGES[name](program, TESTS, pool)
    assert "FORGED" not in os.environ


@pytest.mark.parametrize("name", naive.JUDGES)
def test_a_forgery_that_tries_to_break_out_is_contained(name, pool, tmp_path):
    path = tmp_path / "made"
    program = f"open({str(path)!r}, 'w').write('x')\n{RIGHT}"
    assert not naive.JUDGES[name](program, TESTS, pool)
    assert not path.exists()


@pytest.mark.parametrize("name", naive.JUDGES)
def test_a_pool_that_contains_nothing_is_refused(name):
    with Pool(1, tier=Tier.PLAIN, i_trust_every_program=True) as plain, pytest.raises(ValueError, match="not Tier.PLAIN"):
        naive.JUDGES[name](RIGHT, TESTS, plain)


@pytest.mark.parametrize("name", naive.JUDGES)
def test_tests_that_are_empty_or_no_python_are_refused(name, pool):
    with pytest.raises(ValueError, match="every program would pass"):
        naive.JUDGES[name](RIGHT, "# nothing", pool)
    with pytest.raises(ValueError, match="not Python"):
        naive.JUDGES[name](RIGHT, "assert (", pool)


def test_a_sandbox_that_breaks_down_is_an_error_and_no_verdict(pool):
    class Broken:
        tier = pool.tier

        def judge(self, jobs):
            [result] = pool.judge(jobs)
            return [type(result)(Verdict.INFRASTRUCTURE, 0, 1, "gone")]

    with pytest.raises(RuntimeError, match="broke down: gone"):
        naive.exit_code(RIGHT, TESTS, Broken())
