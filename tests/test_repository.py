"""What the repository promises about itself."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from workbench.doctor import canonical, read_lock

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = sorted((ROOT / "workbench").rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = read_lock(ROOT / "requirements.lock")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False
    )


def python(code: str) -> str:
    result = run(sys.executable, "-c", code, PYTHONPATH=str(ROOT))
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def files() -> list[Path]:
    """What git tracks, or will track."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard")
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.splitlines() if (path := ROOT / name).is_file()]


# Versions


def accepts(requirement: str, version: str) -> bool:
    from packaging.requirements import Requirement

    return Requirement(requirement).specifier.contains(version)


def test_every_requirement_is_in_the_lock_with_a_version_it_accepts():
    extras = PROJECT["optional-dependencies"]
    assert set(extras) == {"lab", "scale", "vllm", "ray", "wasi", "test"}
    for requirement in [*PROJECT["dependencies"], *(line for extra in extras.values() for line in extra)]:
        name = canonical(re.match(r"[A-Za-z0-9._-]+", requirement)[0])
        assert name in LOCK, f"{name} is not in requirements.lock: make lock"
        assert accepts(requirement, LOCK[name]), f"{requirement}, but the lock has {LOCK[name]}: make lock"


def test_the_lock_fits_every_machine():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    cuda = re.compile(r"torchvision|torchaudio|torchcodec|triton|pytorch-triton|nvidia-.*|cuda-.*")
    assert not [name for name in LOCK if cuda.fullmatch(name)]
    pins = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(pins) == len(LOCK) > 100
    assert not [line for line in pins if re.search(r"[@/:+]", line)], "a file, a host or a local version"


def test_a_line_that_is_no_pin_is_refused(tmp_path):
    file = tmp_path / "requirements.lock"
    file.write_text("# comment\nJupyter_Core==5.9.1  # why\n\n")
    assert read_lock(file) == {"jupyter-core": "5.9.1"}
    for line in ("torch>=2", "torch==2.13.0+cpu", "torch @ file:///x.whl", "-r other.txt"):
        file.write_text(f"numpy==2.3.5\n{line}\n")
        with pytest.raises(ValueError, match=r"requirements.lock, line 2"):
            read_lock(file)


@pytest.mark.parametrize("name", ["environment.yml", "binder/environment.yml"])
def test_conda_environments_agree_with_the_lock(name):
    import yaml

    environment = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    conda = [line for line in environment["dependencies"] if isinstance(line, str)]
    pins = dict(line.split("=")[:2] for line in conda if "=" in line)
    version = pins.pop("python")
    assert accepts(f"python{PROJECT['requires-python']}", version)
    assert {name.removesuffix("-cpu") for name in pins} == {"pytorch"}
    for package, version in pins.items():
        assert version == LOCK[{"pytorch": "torch"}[package.removesuffix("-cpu")]]
    pip = [line for entry in environment["dependencies"] if isinstance(entry, dict) for line in entry["pip"]]
    if name == "environment.yml":
        assert pip == ["-c requirements.lock", "-e .[lab]"]
    else:
        assert not pip, "binder/postBuild installs, because only there is the checkout the current folder"
        post = ROOT / "binder" / "postBuild"
        assert os.access(post, os.X_OK)
        assert '-c requirements.lock -e ".[lab]"' in post.read_text(encoding="utf-8")


def test_every_install_uses_the_lock():
    for path in [ROOT / "Makefile", ROOT / "README.md", ROOT / "binder" / "postBuild", *PACKAGE]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            # `make lock` alone looks for newer versions
            if re.search(r"-m pip install|pip install .*-e ", line) and "build/lock/" not in line:
                assert "-c requirements.lock" in line, f"{path.name}, line {number}"


# Rooms


def test_import_contracts():
    tool = shutil.which("lint-imports", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if tool is None:
        pytest.skip("import-linter is not installed")
    result = run(tool, "--no-cache", PYTHONPATH=str(ROOT))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


def test_rooms_import_rooms_and_not_the_front_door():
    """`import workbench` inside the package would be a way around the contracts."""
    rooms = {path.stem for path in (ROOT / "workbench").iterdir()}
    for path in PACKAGE:
        if path.name in ("__init__.py", "cli.py") and path.parent.name == "workbench":  # the door itself
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{path.relative_to(ROOT)}, line {getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import):
                assert not [a for a in node.names if a.name == "workbench" and a.asname], where
            elif isinstance(node, ast.ImportFrom) and node.module == "workbench":
                assert {alias.name for alias in node.names} <= rooms | {"__version__"}, where
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "workbench":
                assert node.attr == "__version__", where


def test_importing_is_fast_and_loads_nothing_heavy():
    code = """
import sys, time
start = time.perf_counter()
import workbench
elapsed = time.perf_counter() - start
print(elapsed, *[name for name in ("torch", "numpy", "transformers", "matplotlib", "pandas") if name in sys.modules])
"""
    best, *loaded = min((python(code).split() for _ in range(3)), key=lambda words: float(words[0]))
    assert not loaded
    assert float(best) < 1


# Names at the front door


def test_names_are_loaded_when_used():
    code = """
import sys
import workbench as wb
assert wb.seeding.generator(0, "x") and "torch" not in sys.modules
assert wb.Batch.__module__ == "workbench.batch" and "torch" in sys.modules
assert wb.Stop.DONE == 0 and wb.Origin.EXPERT == 2
print("Batch" in dir(wb), "__version__" in dir(wb))
"""
    assert python(code) == "True True"


def test_unknown_names_are_refused_with_a_hint():
    import workbench as wb

    with pytest.raises(AttributeError, match="no attribute 'Bacth'; did you mean Batch"):
        wb.Bacth  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'zzzzzz'; it has Batch, Origin"):
        wb.zzzzzz  # noqa: B018
    assert not hasattr(wb, "_ipython_display_")
    with pytest.raises(ImportError):
        exec("from workbench import zzzzzz")


@pytest.mark.skipif(not (ROOT / "workbench" / "train.py").exists(), reason="train.py is not there yet")
def test_train_is_the_function_also_after_its_module_was_imported():
    code = """
import workbench.train
import workbench as wb
from workbench.train import train, sft
from workbench import train as again
assert wb.train is train is again and wb.sft is sft and callable(wb.evaluate), wb.train
import pickle
assert pickle.loads(pickle.dumps(train)) is train
"""
    python(code)


def test_parts_are_at_the_front_door_and_hide_nothing():
    import workbench as wb

    if not hasattr(wb.objective, "PARTS"):
        pytest.skip("workbench.objective.PARTS is not there yet")
    rooms = {path.stem for path in (ROOT / "workbench").iterdir()}
    for name, factory in wb.objective.PARTS.items():
        assert getattr(wb, name) is factory
        assert name in dir(wb)
        assert name not in rooms, f"wb.{name} would be either the part or the module, depending on what was imported"
        assert name not in wb._HOME


# Text


def public(body: list[ast.stmt], inside: str = "") -> list[tuple[str, ast.ClassDef | ast.FunctionDef]]:
    """Public functions, classes and methods as ("Class." or "", node)."""
    found = []
    for node in body:
        if isinstance(node, ast.If):  # `if TYPE_CHECKING:` and the like
            found += public(node.body, inside)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            found.append((inside, node))
            if isinstance(node, ast.ClassDef):
                found += public(node.body, f"{node.name}.")
    return found


def test_public_functions_are_documented_and_annotated():
    trees = {path.relative_to(ROOT): ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE}
    nodes = [(path, inside, node) for path, tree in trees.items() for inside, node in public(tree.body)]
    # what a method of an interface does is said once, by whoever defines the interface
    interface = {node.name for _, inside, node in nodes if inside and ast.get_docstring(node)}
    missing = [f"{path}: docstring" for path, tree in trees.items() if tree.body and not ast.get_docstring(tree)]
    for path, inside, node in nodes:
        where = f"{path}:{node.lineno} {inside}{node.name}"
        marks = {ast.unparse(mark).split(".")[-1] for mark in node.decorator_list}
        said = ast.get_docstring(node) or (inside and node.name in interface)
        if not said and not marks & {"property", "overload", "setter"}:
            missing.append(f"{where}: docstring")
        if isinstance(node, ast.FunctionDef):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
            bare = [a.arg for a in given if a is not None and a.annotation is None and a.arg not in ("self", "cls")]
            if node.returns is None:
                bare.append("what it returns")
            # the arguments of a part are those of its slot, which objective/part.py lists
            if bare and not any(mark.startswith("part(") for mark in marks):
                missing.append(f"{where}: types of {', '.join(bare)}")
    assert not missing, "\n".join(missing)


def test_no_paths_of_somebodys_machine():
    pattern = re.compile(r"(?<![\w.])/(?:home|Users|root|tmp|work)/[\w.-]+|[A-Z]:\\\\?Users")
    for path in files():
        if path == Path(__file__) or path.suffix in {".png", ".safetensors", ".npz"}:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            assert not pattern.search(line), f"{path.relative_to(ROOT)}, line {number}: {line.strip()[:100]}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_without_outputs(path):
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] == "code":
            assert not cell["outputs"] and cell["execution_count"] is None, f"cell {number} of {path.name}"


def test_the_readme_lists_every_notebook_and_nothing_else():
    section = re.search(r"<!-- notebooks -->(.*)<!-- /notebooks -->", README, re.S)
    listed = re.findall(r"\]\(notebooks/([^)/]+\.ipynb)\)", section[1])
    assert listed == [path.name for path in NOTEBOOKS], "README.md, between the notebooks marks, in reading order"


def test_the_readme_names_only_what_exists():
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", README) if not re.match(r"[a-z]+:", link)]
    layout = re.search(r"<!-- layout -->(.*)<!-- /layout -->", README, re.S)[1]
    entries = re.findall(r"^\| `([^`]+)`", layout, re.M)
    assert len(entries) > 10
    for name in [*links, *entries]:
        assert (ROOT / name).exists(), f"README.md names {name}, which does not exist"
    top = {path.relative_to(ROOT).parts[0] for path in files()} - {".gitignore"}
    rooms = {
        f"workbench/{path.name}"
        for path in (ROOT / "workbench").iterdir()
        if path.name != "__init__.py" and (path.suffix == ".py" or (path / "__init__.py").exists())
    }
    absent = (top | rooms) - {entry.rstrip("/") for entry in entries} - {"README.md", "workbench"}
    assert not absent, f"the layout in README.md lacks {sorted(absent)}"


def test_the_readme_has_the_table_of_methods():
    from workbench import recipes

    section = re.search(r"<!-- gallery -->\n(.*)<!-- /gallery -->", README, re.S)
    assert section[1] == recipes.gallery() + "\n", "run `make notebooks`"


def test_make_names_are_explained():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.search(r"^\.PHONY: (.*)$", makefile, re.M)[1].split()) - {"help"}
    assert targets == set(re.findall(r'@echo "make ([\w-]+) ', makefile))
    assert {"lab", "test", "lock"} <= targets
    assert set(re.findall(r"`make ([\w-]+)", README)) <= {*targets, "help"}


@pytest.mark.parametrize(("plain", "vllm", "status", "last"), [
    (0, 0, 0, "=== 90 passed in 9s ==="), (1, 0, 1, "=== 1 failed, 89 passed in 9s ==="),
    (0, 1, 1, "=== 1 failed, 29 passed in 3s ==="),
])  # fmt: skip
def test_the_last_line_of_ci_is_pytests_of_what_failed(tmp_path, plain, vllm, status, last):
    """`.ci/run` with a `make` that only says what pytest would; without vLLM's tests where the others failed."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    said = {"test": (plain, f"=== {'1 failed, 89' if plain else '90'} passed in 9s ==="),
            "test-vllm": (vllm, f"=== {'1 failed, 29' if vllm else '30'} passed in 3s ===")}  # fmt: skip
    cases = " ".join(f"{target}) echo '{line}'; exit {code};;" for target, (code, line) in said.items())
    for name, code in (("make", f'case "$1" in {cases} esac'), ("chromium", "exit 0")):
        program = tmp_path / name
        program.write_text(f"#!/bin/bash\n{code}\n")
        program.chmod(0o755)
    result = run(str(tmp_path / ".ci" / "run"), PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert result.returncode == status and result.stdout.splitlines()[-1] == last
    assert ("30 passed" in result.stdout) == (status == 0)


# The tests themselves


def test_tests_stay_on_this_machine():
    for address in (("192.0.2.1", 80), ("example.org", 80), ("0.0.0.0", 0), ("", 0), ("2001:db8::1", 80, 0, 0)):
        with socket.socket() as plug:
            for method in (plug.connect, plug.connect_ex, plug.bind):
                with pytest.raises(RuntimeError, match="must stay on this machine"):
                    method(address)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        socket.create_connection(server.getsockname(), timeout=5).close()


def test_tests_use_one_thread():
    import torch

    assert torch.get_num_threads() == 1
