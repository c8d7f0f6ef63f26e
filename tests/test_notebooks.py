"""Every notebook is what its master makes, has the bones of a chapter, and runs unsolved and solved."""

from __future__ import annotations

import re
import time
from copy import deepcopy
from pathlib import Path

import pytest

from workbench import course

ROOT = Path(__file__).parents[1]
MASTERS, NOTEBOOKS = ROOT / "notebooks" / "masters", ROOT / "notebooks"
STEMS = sorted(path.stem for path in MASTERS.glob("[0-9][0-9]_*.py"))
LIMIT = 120  # seconds a notebook may take on a quiet machine
PATIENCE = 5  # and how many times slower the machine of the day may be


def test_the_committed_notebooks_are_what_the_masters_make():
    assert STEMS, "there are no masters"
    assert course.compare(MASTERS, NOTEBOOKS) == []


@pytest.mark.parametrize("stem", STEMS)
def test_a_notebook_is_committed_without_outputs(stem):
    import nbformat

    for cell in nbformat.read(NOTEBOOKS / f"{stem}.ipynb", 4).cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None


@pytest.mark.parametrize("stem", STEMS)
def test_a_chapter_has_its_bones(stem):
    assert course.lint(MASTERS / f"{stem}.py") == []


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["unsolved", "solved"])
@pytest.mark.parametrize("stem", STEMS)
def test_a_notebook_runs(stem, mode, monkeypatch, tmp_path):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))  # nobody's profile or start-up files
    before = set(NOTEBOOKS.rglob("*"))
    made = course.solved if mode == "solved" else course.learner
    notebook, seconds = _execute(made(MASTERS / f"{stem}.py"))
    print(f"{stem} {mode}: {seconds:.1f} s")
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    widgets = (
        notebook.metadata.get("widgets", {})
        .get("application/vnd.jupyter.widget-state+json", {})
        .get("state", {})
    )
    outputs += [output for widget in widgets.values() for output in widget["state"].get("outputs", ())]

    failed = [
        output for output in outputs if output["output_type"] == "error"
    ]  # a slider's error stops no cell
    assert not failed, failed[0]["evalue"]
    printed = "".join(output["text"] for output in outputs if output["output_type"] == "stream")
    verdicts = {name: mark for mark, name in re.findall(r"^([✔…✘]) (\d\d\.\w+): ", printed, re.MULTILINE)}
    wanted = course.names(stem[:2])
    assert sorted(verdicts) == sorted(wanted), "the notebook runs each of its chapter's checks"
    expected = "✔" if mode == "solved" else "…"
    assert verdicts == dict.fromkeys(wanted, expected), printed

    for output in outputs:
        data = output.get("data", {})
        assert not any(key.startswith("image/") for key in data), "a figure without alt text: use plots.show"
        for image in re.findall(r"<img\b[^>]*>", data.get("text/html", "")):
            assert re.search(r'\balt="[^"]{10,}"', image), image[-300:]
    warned = [
        output["text"]
        for output in outputs
        if output["output_type"] == "stream" and output["name"] == "stderr"
    ]
    assert not any("Warning" in text for text in warned), "".join(warned)[-2000:]
    left = {path for path in set(NOTEBOOKS.rglob("*")) - before if ".ipynb_checkpoints" not in path.parts}
    assert not left, f"the notebook leaves files behind: {sorted(left)}"


def _execute(notebook):
    """Run `notebook` in a kernel of its own, in the folder of the notebooks; a slow one or an error fails the test."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellTimeoutError

    resources = {"metadata": {"path": str(NOTEBOOKS)}}
    for attempt in (1, 2):
        copy, start = deepcopy(notebook), time.monotonic()
        try:
            NotebookClient(copy, timeout=LIMIT * 2, kernel_name="python3", resources=resources).execute()
        except CellTimeoutError:
            # ipykernel 7 now and then loses a request and then sits idle (microsoft/vscode-jupyter#17228): a fresh kernel
            # gets one more chance. A cell that is really too slow, or does not end, fails both times.
            if attempt == 2:
                raise
            continue
        seconds = time.monotonic() - start
        assert seconds < LIMIT * PATIENCE
        return copy, seconds
    raise AssertionError("not reached")
