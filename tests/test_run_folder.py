"""A run folder is killed, torn, damaged, opened twice and run out of disk; nothing written may be lost or repeated."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from workbench.run_folder import RunFolder, read_checkpoint, read_rows

CONFIG = {"seed": 3, "recipe": {"name": "grpo", "low": 0.2}, "shape": (2, 3)}


def write(folder, steps, first=1, size=4):
    for step in range(first, steps + 1):
        folder.save(
            step, {"policy": {"weight": torch.full((size,), float(step))}}, {"history": [step]},
            {"step": step, "loss": step / 7}, [{"step": step, "row": row, "text": "x"} for row in range(2)],
        )  # fmt: skip


def steps_in(path):
    return [row["step"] for row in read_rows(path / "metrics.jsonl")]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def finished(path):
    with RunFolder(path, CONFIG) as folder:
        folder.save(0, {"policy": {"weight": torch.zeros(4)}}, {})
        write(folder, 5)
    return path


def test_what_was_saved_comes_back(finished):
    with RunFolder(finished, CONFIG) as folder:
        latest = folder.latest
        assert latest.step == 5 and latest.state == {"history": [5]}
        assert torch.equal(latest.tensors["policy"]["weight"], torch.full((4,), 5.0))
        assert torch.equal(folder.read(0).tensors["policy"]["weight"], torch.zeros(4))
    assert [row["loss"] for row in read_rows(finished / "metrics.jsonl")] == [step / 7 for step in range(1, 6)]
    assert [(r["step"], r["row"]) for r in read_rows(finished / "rollouts.jsonl")] == [
        (step, row) for step in range(1, 6) for row in range(2)
    ]
    assert sorted(p.name for p in (finished / "checkpoints").iterdir()) == ["step_000000", "step_000004", "step_000005"]


@pytest.mark.parametrize("name", ["metrics", "rollouts"])
def test_a_torn_last_line_is_cut_and_a_missing_one_is_healed(finished, name):
    file = finished / f"{name}.jsonl"
    whole = file.read_bytes()
    last = len(whole.splitlines(keepends=True)[-1])
    for kept in (len(whole) - 1, len(whole) - last // 2, len(whole) - last):  # no newline, half a line, no line
        file.write_bytes(whole[:kept])
        RunFolder(finished, CONFIG).close()
        assert file.read_bytes() == whole


def test_a_line_in_the_middle_that_is_damaged_is_named(finished):
    file = finished / "metrics.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + b'{"step": \n' + b"".join(lines[2:]))
    with pytest.raises(ValueError, match=r"metrics.jsonl line 2 is damaged"):
        RunFolder(finished, CONFIG)
    file.write_bytes(lines[0] + b"".join(lines[2:]))
    with pytest.raises(ValueError, match="no line for step 2, though the run went on to step 5"):
        RunFolder(finished, CONFIG)


def test_opened_twice_is_refused_in_a_process_and_between_processes(finished):
    with (
        RunFolder(finished, CONFIG),
        pytest.raises(BlockingIOError, match="a run of this process that is not finished"),
    ):
        RunFolder(finished, CONFIG)
    code = f"""
        import sys, time
        from workbench.run_folder import RunFolder
        folder = RunFolder({str(finished)!r}, {json.loads(json.dumps(CONFIG))!r})
        print("open", flush=True)
        time.sleep(60)
    """
    other = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(BlockingIOError, match=f"in use by process {other.pid}"):
            RunFolder(finished, CONFIG)
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    RunFolder(finished, CONFIG).close()  # the kernel released the lock of the killed process


def test_another_run_is_refused_by_its_first_difference(finished):
    with pytest.raises(ValueError, match=r"recipe.low is 0.2 there and 0.3 here.*new folder"):
        RunFolder(finished, CONFIG | {"recipe": {"name": "grpo", "low": 0.3}})
    with pytest.raises(ValueError, match="extra is absent there and 1 here"):
        RunFolder(finished, CONFIG | {"extra": 1})
    with pytest.warns(UserWarning, match="torch absent, now 9: the bits may differ"):
        RunFolder(finished, CONFIG, made_with={"torch": "9"}).close()


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"is not a run folder .*thesis.txt"):
        RunFolder(tmp_path, CONFIG)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def flip(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "state"])
def test_a_damaged_checkpoint_falls_back_and_repeats_no_line(finished, damage):
    before = (finished / "metrics.jsonl").read_bytes(), (finished / "rollouts.jsonl").read_bytes()
    weights = finished / "checkpoints" / "step_000005" / "policy.safetensors"
    if damage == "flip":
        flip(weights)
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-3])
    elif damage == "remove":
        weights.unlink()
    else:
        flip(weights.with_name("state.json"))
    with pytest.warns(UserWarning, match="going back to the checkpoint before"), RunFolder(finished, CONFIG) as folder:
        assert folder.latest.step == 4
        write(folder, 5, first=5)
        assert before == ((finished / "metrics.jsonl").read_bytes(), (finished / "rollouts.jsonl").read_bytes())
        write(folder, 6, first=6)
    assert steps_in(finished) == [1, 2, 3, 4, 5, 6]


def test_with_no_readable_checkpoint_the_folder_is_refused(finished):
    for folder in (finished / "checkpoints").iterdir():
        flip(folder / "policy.safetensors")
    with pytest.warns(UserWarning), pytest.raises(ValueError, match=r"no checkpoint in .* can be read"):
        RunFolder(finished, CONFIG)
    assert steps_in(finished) == [1, 2, 3, 4, 5]


def test_a_half_written_checkpoint_is_no_checkpoint(finished):
    (finished / "checkpoints" / ".step_000006").mkdir()
    with RunFolder(finished, CONFIG) as folder:
        assert folder.latest.step == 5
    assert not (finished / "checkpoints" / ".step_000006").exists()
    with pytest.raises(ValueError, match="not a complete checkpoint"):
        read_checkpoint(finished, 6)


def test_a_full_disk_loses_nothing_and_the_run_goes_on(path):
    """A limit on the size of files is as real as a full disk: the kernel refuses the write."""
    code = f"""
        import resource, sys, torch
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_run_folder import CONFIG, write
        from workbench.run_folder import RunFolder
        with RunFolder({str(path)!r}, CONFIG) as folder:
            folder.save(0, {{"policy": {{"weight": torch.zeros(4)}}}}, {{}})
            write(folder, 3)
            limit = int(sys.argv[1])
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            try:
                write(folder, 40, first=4, size=int(sys.argv[2]))
            except OSError as error:
                print(error)
    """
    for limit, size in ((4096, 2000), (700, 4)):  # the checkpoint does not fit; a line of rollouts.jsonl does not
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), str(limit), str(size)], capture_output=True, text=True, check=True
        )
        assert "File too large while writing to" in done.stdout and "to go on" in done.stdout, done
        assert (path / "rollouts.jsonl").read_bytes().endswith(b"\n"), "half a line was left"
        reached = int(done.stdout.split("(step ")[1].split(" ")[0])
        assert steps_in(path) == list(range(1, reached + 1))
        with RunFolder(path, CONFIG) as folder:
            assert folder.latest.step in (reached, reached + 1)
            write(folder, 50, first=folder.latest.step + 1)
        assert steps_in(path) == list(range(1, 51))
        keys = [(r["step"], r["row"]) for r in read_rows(path / "rollouts.jsonl")]
        assert keys == [(step, row) for step in range(1, 51) for row in range(2)]
        for p in sorted(path.rglob("*"), reverse=True):
            p.rmdir() if p.is_dir() else p.unlink()


def test_killed_at_any_moment_every_line_is_there_once(path):
    code = f"""
        import sys, torch
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_run_folder import CONFIG, write
        from workbench.run_folder import RunFolder
        with RunFolder({str(path)!r}, CONFIG) as folder:
            if folder.latest is None:
                folder.save(0, {{"policy": {{"weight": torch.zeros(4)}}}}, {{}})
            print("open", flush=True)
            write(folder, 10**6, first=(folder.latest.step if folder.latest else 0) + 1)
    """
    reached = 0
    for delay in (0.0, 0.003, 0.01, 0.031, 0.1):
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"open\n"
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        with RunFolder(path, CONFIG) as folder:
            now = folder.latest.step if folder.latest else 0
        assert now >= reached and steps_in(path) == list(range(1, now + 1))
        reached = now
    assert reached > 0
