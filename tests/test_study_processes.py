"""Studies in worker processes, on a Ray cluster, under kills, interrupts and full disks: the same bits, nothing lost."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import warnings
from pathlib import Path

import pandas as pd
import psutil
import pytest

from workbench import seeding
from workbench.study import compare, load, runs

HERE = Path(__file__).parent
SEEDS, STEPS = 6, 5


def walk(seed, budget, slope=1.0, pause=0.0, trace=None):
    """A random walk with a slope; it takes its time if told to, and leaves a trace of having been run."""
    if trace:
        with open(trace, "a") as file:
            file.write(f"{slope} {seed}\n")
    rng, place = seeding.generator(seed, "walk"), 0.0
    for step in range(1, STEPS + 1):
        time.sleep(pause)
        place += slope + rng.normal()
        yield {"step": step, "place": place}


def arms(**settings):
    return {f"slope {slope}": functools.partial(walk, slope=slope, **settings) for slope in (1.0, 2.0)}


def ask(given=None, seeds=SEEDS, **changed):
    usual = {"backend": "in_process", "progress": False, "store": None, "budget": f"{STEPS} updates"}
    return compare(given or arms(), seeds=seeds, **{**usual, **changed})


def same(found, expected):
    pd.testing.assert_frame_equal(found.frame, expected.frame, check_exact=True)


@pytest.fixture(scope="module")
def undisturbed():
    return ask()


def children(of=None):
    """The workers that a process has."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [child for child in psutil.Process(of).children() if "workbench.study.worker" in child.cmdline()]
    return []


def wait_until(true, seconds=30):
    """Poll a condition that must come true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def script(text, *arguments, **options):
    """Run a Python script of that text; its output."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}"}
    return subprocess.run(
        [sys.executable, *arguments], input=textwrap.dedent(text), capture_output=True, text=True, env=environment, timeout=120,
        **options,
    )  # fmt: skip


def forked(act):
    """Do something in a fork of this process, as another process would; its process id."""
    child = os.fork()
    if child:
        return child
    with contextlib.suppress(BaseException):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        act()
        os._exit(0)
    os._exit(1)


# The same bits


def test_two_workers_give_the_same_bits(undisturbed):
    found = ask(backend="processes", workers=2)
    same(found, undisturbed)
    assert children() == [], "workers end with the study"


def test_arms_of_a_script_run_in_workers_without_a_main_guard(tmp_path):
    """In a notebook and in a script, functions live in __main__, which no worker can import without running it again."""
    text = """
        import workbench as wb
        from workbench import compare
        FACTOR = 3
        print("once")
        def helper(x):
            return FACTOR * x
        def arm(seed, budget):
            yield {"step": 1, "score": helper(wb.seeding.generator(seed, "x").normal())}
        arms = {"arm": arm, "named": lambda s, b: arm(s, b)}
        frames = [
            compare(arms, seeds=2, budget="1 update", store=None, progress=False, **how).frame
            for how in ({"backend": "in_process"}, {"workers": 2})
        ]
        print(frames[0].equals(frames[1]), len(frames[0]))
    """
    file = tmp_path / "mine.py"
    file.write_text(textwrap.dedent(text))
    for result in (script("", str(file)), script(text, "-")):
        assert result.stdout.split() == ["once", "True", "4"], result.stderr


def test_a_run_has_one_thread_wherever_it_is_made(monkeypatch):
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        here = ask({"here": lambda seed, budget: iter([{"step": 1, "threads": torch.get_num_threads()}])}, 1)
        assert here.scores().iloc[0, 0] == 1 and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    told = {"there": lambda seed, budget: iter([{"step": 1, "threads": int(os.environ["OMP_NUM_THREADS"])}])}
    assert ask(told, 1, backend="processes").scores().iloc[0, 0] == 1


def test_what_an_arm_prints_does_not_get_between_the_answers(undisturbed):
    def loud(seed, budget):
        print("loud" * 1000, flush=True)
        os.write(1, b"louder")
        yield from walk(seed, budget)

    found = ask({"slope 1.0": loud}, backend="processes", workers=1)
    assert found.scores()["slope 1.0"].tolist() == undisturbed.scores()["slope 1.0"].tolist()


RAY = """
    import fcntl, socket, struct, sys
    with socket.socket() as s:  # loopback up, in a namespace that has nothing else
        fcntl.ioctl(s, 0x8914, struct.pack("16sh", b"lo", 0x1 | 0x40))
    assert [name for _, name in socket.if_nameindex()] == ["lo"]
    import os
    os.environ["RAY_TMPDIR"] = sys.argv[1]
    import ray
    from ray.cluster_utils import Cluster
    import test_study_processes as t

    def noting(seed, budget, slope):
        for row in t.walk(seed, budget, slope, pause=0.1):  # long enough for the other node's worker to start
            node = ray.get_runtime_context().get_node_id()
            yield {**row, "rollouts": [{"node": node}]} if row["step"] == 1 else row

    def breaking(seed, budget):
        os._exit(3)
        yield {}

    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "node_ip_address": "127.0.0.1", "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=small)
    cluster.add_node(**{name: value for name, value in small.items() if name != "include_dashboard"})
    cluster.wait_for_nodes()
    print("started")
    from functools import partial
    arms = {f"slope {slope}": partial(noting, slope=slope) for slope in (1.0, 2.0)}
    found = t.ask(arms, backend="ray", address=cluster.address)
    found.frame.to_pickle(sys.argv[2])
    print("nodes", len({one["node"] for one in found.rollouts()}))
    import warnings
    warnings.simplefilter("ignore")
    broken = t.ask({"breaks": breaking, "walks": t.walk}, 1, backend="ray", address=cluster.address)
    print("missing", [(cell, reason.split(":")[0]) for cell, reason in broken.missing.items()], len(broken.runs))
    cluster.shutdown()
"""


def test_a_cluster_of_two_nodes_gives_the_same_bits(undisturbed, tmp_path):
    """Ray listens on all interfaces, so it runs where there is only loopback, and everything dies with that place."""
    pytest.importorskip("ray")
    alone = ["unshare", "-n", "-p", "-f", "--mount-proc", "--kill-child"]
    try:
        permitted = subprocess.run([*alone, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        permitted = False
    if not permitted:
        pytest.skip("a network namespace of its own is not permitted here")
    path = f"{HERE.parent}{os.pathsep}{HERE}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "RAY_raylet_start_wait_time_s": "120"}
    environment["RAY_agent_register_timeout_ms"] = "120000"  # its helpers may take long to start on a busy machine
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as short:  # the paths of its sockets must be short
        result = subprocess.run(
            [*alone, sys.executable, "-", short, str(tmp_path / "frame")], input=textwrap.dedent(RAY), env=environment,
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    if "started" not in result.stdout:
        pytest.skip(f"Ray did not start here: {result.stderr.strip().splitlines()[-1]}")
    assert "nodes 2" in result.stdout, result.stdout + result.stderr[-3000:]
    assert "missing [(('breaks', 0), 'WorkerCrashedError')] 1" in result.stdout
    pd.testing.assert_frame_equal(pd.read_pickle(tmp_path / "frame"), undisturbed.frame, check_exact=True)


# Kills


def test_kills_of_the_coordinator_lose_and_double_nothing(undisturbed, tmp_path):
    """Thirteen kills at random moments, some with workers; each is followed by the same call again."""
    rng = random.Random(0)
    slow, store, killed, studies = arms(pause=0.002, trace=tmp_path / "trace"), tmp_path / "runs", 0, 0
    while killed < 13:
        how = {"backend": "processes", "workers": 2} if killed % 4 == 0 else {"backend": "in_process"}
        child = forked(functools.partial(ask, slow, store=store / str(studies), **how))
        time.sleep(rng.uniform(0, 1.0 if killed % 4 == 0 else 0.3))
        workers = children(child)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status)
        wait_until(lambda workers=workers: not any(worker.is_running() for worker in workers))
        if not os.WIFSIGNALED(status):  # it was done before: the next study
            assert os.WEXITSTATUS(status) == 0
            studies += 1
    for number in range(studies + 1):
        found = ask(slow, store=store / str(number))
        same(found, undisturbed)
        assert len(list(found.path.glob("arms/*/seed_*.json"))) == 2 * SEEDS
        assert not [file for file in found.path.rglob("*") if file.name.startswith(".seed")], "no file half written is left"
        before = (tmp_path / "trace").read_text()
        same(ask(slow, store=store / str(number)), undisturbed)
        assert (tmp_path / "trace").read_text() == before, "nothing is made twice"


def test_a_kill_while_a_result_is_written_leaves_it_absent(undisturbed, tmp_path):
    """At the worst moment: all of it is on disk, under its other name."""

    def act():
        rename = Path.rename

        def deadly(self, target):
            if Path(target).name == "seed_2.json":
                os.kill(os.getpid(), signal.SIGKILL)
            return rename(self, target)

        Path.rename = deadly
        ask(store=tmp_path)

    assert os.WIFSIGNALED(os.waitpid(forked(act), 0)[1])
    assert len(list(tmp_path.rglob(".seed_2.json.*"))) == 1 and not list(tmp_path.rglob("seed_2.json"))
    same(ask(store=tmp_path), undisturbed)
    assert not list(tmp_path.rglob(".seed_2.json.*"))


def test_a_worker_ends_with_the_process_that_started_it(tmp_path):
    trace = tmp_path / "trace"
    child = forked(lambda: ask({"slow": functools.partial(walk, pause=60.0, trace=trace)}, 1, backend="processes"))
    wait_until(trace.exists)
    (worker,) = children(child)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    wait_until(lambda: not worker.is_running())


def test_kills_of_workers_lose_and_double_nothing(undisturbed, tmp_path):
    """Twelve kills of whichever worker is there, at random moments of studies that go on by themselves or are asked again."""
    rng, killed, stop = random.Random(1), [], threading.Event()

    def kill():
        while len(killed) < 12 and not stop.wait(rng.uniform(0, 0.25)):
            for worker in children()[:1]:
                worker.kill()
                killed.append(worker.pid)

    killer = threading.Thread(target=kill)
    killer.start()
    slow, studies = arms(pause=0.004), 0
    try:
        while killer.is_alive():
            with contextlib.suppress(RuntimeError), warnings.catch_warnings():  # too many runs killed twice
                warnings.simplefilter("ignore")
                ask(slow, store=tmp_path / str(studies), backend="processes", workers=2)
            studies += 1
    finally:
        stop.set()
        killer.join()
    assert len(killed) == 12
    for number in range(studies):
        same(ask(slow, store=tmp_path / str(number)), undisturbed)


def test_two_processes_at_one_study_share_the_work(undisturbed, tmp_path):
    trace = tmp_path / "trace"
    slow = arms(pause=0.004, trace=trace)
    both = [forked(lambda: ask(slow, store=tmp_path / "runs")) for _ in range(2)]
    assert [os.waitpid(child, 0)[1] for child in both] == [0, 0]
    assert sorted(trace.read_text().splitlines()) == sorted(f"{s} {seed}" for s in (1.0, 2.0) for seed in range(SEEDS))
    same(ask(slow, store=tmp_path / "runs"), undisturbed)


def test_a_run_held_by_a_process_that_dies_is_made_by_the_one_that_waits(undisturbed, tmp_path):
    trace, go = tmp_path / "trace", tmp_path / "go"

    def waits(seed, budget):
        trace.touch()
        while not go.exists():
            time.sleep(0.01)
        yield from walk(seed, budget)

    holder = forked(lambda: ask({"slope 1.0": waits}, 1, store=tmp_path / "runs"))
    wait_until(trace.exists)
    threading.Timer(0.3, lambda: (os.kill(holder, signal.SIGKILL), go.touch())).start()
    found = ask({"slope 1.0": waits}, 1, store=tmp_path / "runs")
    os.waitpid(holder, 0)
    assert found.scores().iloc[0, 0] == undisturbed.scores().iloc[0, 0]


# Crashes


def crashes(seed, budget, how, trace, times=99):
    """Ends its process on the first `times` tries with seed 1."""
    if seed == 1:
        with open(trace, "a") as file:
            file.write("x")
        if len(Path(trace).read_text()) <= times:
            if how == "exit":
                os._exit(3)
            elif how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            else:
                import faulthandler

                faulthandler._sigsegv()
    yield from walk(seed, budget)


def test_a_worker_that_crashes_once_is_forgiven(undisturbed, tmp_path):
    given = {"slope 1.0": functools.partial(crashes, how="exit", trace=str(tmp_path / "trace"), times=1)}
    found = ask(given, backend="processes", workers=2)
    assert found.missing == {}
    assert found.scores()["slope 1.0"].tolist() == undisturbed.scores()["slope 1.0"].tolist()


@pytest.mark.parametrize(
    ("how", "said"),
    [("exit", "ended with status 3"), ("kill", "killed by SIGKILL, as happens when memory runs out"), ("fault", "in crashes")],
)
def test_a_worker_that_crashes_twice_is_a_missing_run_that_says_why(how, said, tmp_path):
    given = {**arms(), "crashes": functools.partial(crashes, how=how, trace=str(tmp_path / "trace"))}
    with pytest.warns(UserWarning, match="1 of 9 runs are missing"):
        found = ask(given, 3, store=tmp_path / "runs", backend="processes", workers=2)
    assert list(found.missing) == [("crashes", 1)] and said in found.missing["crashes", 1]
    assert len((tmp_path / "trace").read_text()) == 2
    assert load(found.path).missing == found.missing
    assert any(note.startswith("missing: crashes, seed 1") for note in found.summary().notes())
    assert (runs(tmp_path / "runs")["status"] != "finished").sum() == 1


# Interrupts and disks


def test_an_interrupt_keeps_what_is_done_and_leaves_no_worker(undisturbed, tmp_path):
    text = f"""
        import test_study_processes as t
        t.ask(t.arms(pause=0.05), store={str(tmp_path)!r}, backend="processes", workers=2)
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}"}
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(text)], stderr=subprocess.PIPE, text=True, env=environment,
                               start_new_session=True)  # fmt: skip
    wait_until(lambda: len(list(tmp_path.rglob("seed_*.json"))) >= 2)
    workers = children(process.pid)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, said = process.communicate(timeout=30)
    kept = len(list(tmp_path.rglob("seed_*.json")))
    assert f"stopped; {kept} of 12 runs are kept in" in said and "the same call goes on" in said
    assert workers and not any(worker.is_running() for worker in workers)
    found = ask(arms(pause=0.05), store=tmp_path)
    same(found, undisturbed)


def limited(size, store, told):
    """A process whose files cannot grow beyond `size`: as real as a full disk, the kernel refuses the write."""

    def act():
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        try:
            ask({"small": walk, "large": large}, metric="place", store=store)
        except OSError as error:
            os.write(told, str(error).encode())

    return act


def large(seed, budget):
    if seed == 3:
        yield {"step": 1, "place": 0.0, "rollouts": [{"text": "x" * 30_000}]}
    else:
        yield from walk(seed, budget)


@pytest.mark.parametrize(("size", "kept"), [(4096, 0), (20_000, 1)])
def test_a_full_disk_is_said_at_once_or_keeps_what_is_done(size, kept, tmp_path):
    ours, theirs = os.pipe()
    child = forked(limited(size, tmp_path, theirs))
    os.close(theirs)
    assert os.waitpid(child, 0)[1] == 0
    with os.fdopen(ours) as file:
        said = file.read()
    assert "File too large while writing to the study in" in said and "ask again with the same arguments to go on" in said
    done = list(tmp_path.rglob("seed_*.json"))
    assert len(done) > 0 if kept else done == []
    found = ask({"small": walk, "large": large}, metric="place", store=tmp_path)
    assert len(found.runs) == 2 * SEEDS


def test_a_read_only_disk_is_said_before_anything_runs(tmp_path):
    """A real one: a file system mounted read-only, in a mount namespace of its own."""
    store, trace = tmp_path / "disk", tmp_path / "trace"
    store.mkdir()
    text = f"""
        import test_study_processes as t
        t.ask(t.arms(trace={str(trace)!r}), store={str(store)!r})
    """
    command = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs -o ro none {store} && exec "$@"', "-"]
    with contextlib.suppress(FileNotFoundError):
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
            pytest.skip("mounting is not permitted here")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}"}
    result = subprocess.run(
        [*command, sys.executable, "-c", textwrap.dedent(text)], capture_output=True, text=True, env=environment, check=False
    )
    assert "Read-only file system while writing to the study in" in result.stderr
    assert not trace.exists()
    with pytest.raises(OSError, match="Not a directory while writing to the study in"):
        (tmp_path / "file").touch()
        ask(store=tmp_path / "file")
