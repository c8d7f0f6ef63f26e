"""Masters: one jupytext percent file per chapter, from which the notebook that people open is generated.

Inside a code cell of a master

    def leave_one_out(rewards):
        # solution
        total = rewards.sum()
        return rewards - (total - rewards) / (len(rewards) - 1)
        # end solution
        # stub: return None  # your code here

the learner gets the stub lines (or one `...` where there are none) and the solved notebook what stands between the
tags. Tags are lines of their own; everything else is copied to both. The same master gives the same bytes: a cell's id
is a hash of its text in the master, and the metadata are fixed.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbformat import NotebookNode

_BEGIN, _END, _STUB = "# solution", "# end solution", "# stub:"
_METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
LABELS = ("**The question.**", "**You will be able to**", "**Time.**", "**You need.**")
EXERCISE = re.compile(r"^#{2,4} Exercise (\d+): .+ · [●]{1,5}[○]{0,4} · \d+ min$", re.MULTILINE)
MAX_LINES = 25


def _learner_source(source: str, where: str) -> str:
    """What the learner sees of one code cell."""
    lines: list[str] = []
    opened: int | None = None  # where in `lines` the solution that is being skipped began
    indent = ""
    waiting: tuple[int, str] | None = None  # a closed solution that has not met its stub yet

    def placeholder() -> None:
        if waiting is not None:
            lines.insert(waiting[0], waiting[1] + "...")

    for line in source.splitlines():
        tag = line.strip()
        if opened is not None:
            if tag == _END:
                waiting, opened = (opened, indent), None
            elif tag == _BEGIN or tag.startswith(_STUB):
                raise ValueError(f"{where}: {tag!r} inside a solution; close it with {_END!r} first")
        elif tag == _END:
            raise ValueError(f"{where}: {_END!r} without {_BEGIN!r}")
        elif tag == _BEGIN:
            placeholder()
            waiting, opened, indent = None, len(lines), line[: len(line) - len(line.lstrip())]
        elif tag.startswith(_STUB):
            lines.append(line[: len(line) - len(line.lstrip())] + tag[len(_STUB) :].removeprefix(" "))
            waiting = None
        else:
            lines.append(line)
            if waiting is not None and tag:
                placeholder()
                waiting = None
    if opened is not None:
        raise ValueError(f"{where}: {_BEGIN!r} is never closed; add {_END!r}")
    placeholder()
    return "\n".join(lines)


def _solved_source(source: str) -> str:
    """The same cell with its solution in and the tags gone."""
    lines = [line for line in source.splitlines() if line.strip() not in (_BEGIN, _END)]
    return "\n".join(line for line in lines if not line.strip().startswith(_STUB))


def _notebook(master: str | Path, *, with_solutions: bool) -> NotebookNode:
    import jupytext
    import nbformat

    master = Path(master)
    seen: dict[str, int] = {}
    cells = []
    for number, cell in enumerate(jupytext.reads(master.read_text(encoding="utf-8"), fmt="py:percent").cells):
        digest = hashlib.blake2s(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:10]
        seen[digest] = seen.get(digest, 0) + 1
        source = cell.source
        if cell.cell_type == "code":
            unsolved = _learner_source(
                source, f"{master.name}, cell {number}"
            )  # refuses bad tags in either notebook
            source = _solved_source(source) if with_solutions else unsolved
        make = getattr(nbformat.v4, f"new_{cell.cell_type}_cell")
        tags = cell.metadata.get("tags")
        cells.append(
            make(source, id=f"{digest}-{seen[digest]}", metadata={"tags": sorted(tags)} if tags else {})
        )
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=_METADATA)
    notebook.nbformat_minor = 5
    nbformat.validate(notebook)
    return notebook


def learner(master: str | Path) -> NotebookNode:
    """The notebook of `master` with its exercises unsolved. Raises ValueError where the tags do not match."""
    return _notebook(master, with_solutions=False)


def solved(master: str | Path) -> NotebookNode:
    """The notebook of `master` with its solutions in. Raises ValueError where the tags do not match."""
    return _notebook(master, with_solutions=True)


def _text(notebook: NotebookNode) -> str:
    import nbformat

    return nbformat.writes(notebook).rstrip("\n") + "\n"


def build(masters: str | Path, notebooks: str | Path) -> list[Path]:
    """Write `notebooks/NN_name.ipynb` for every `masters/NN_name.py`; returns the files that changed."""
    changed = []
    for master in sorted(Path(masters).glob("[0-9][0-9]_*.py")):
        target = Path(notebooks) / f"{master.stem}.ipynb"
        text = _text(learner(master))
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8", newline="\n")
            changed.append(target)
    return changed


def compare(masters: str | Path, notebooks: str | Path) -> list[str]:
    """What differs between the masters and the notebooks beside them, one sentence each; empty if nothing does."""
    drift = []
    sources = {path.stem: path for path in Path(masters).glob("[0-9][0-9]_*.py")}
    targets = {path.stem: path for path in Path(notebooks).glob("[0-9][0-9]_*.ipynb")}
    for stem in sorted(sources | targets):
        if stem not in targets:
            drift.append(f"{stem}.ipynb is missing: run `workbench course build`")
        elif stem not in sources:
            drift.append(f"{stem}.ipynb has no master {stem}.py")
        elif targets[stem].read_text(encoding="utf-8") != _text(learner(sources[stem])):
            drift.append(
                f"{stem}.ipynb is not what {stem}.py makes: edit the master, then `workbench course build`"
            )
    return drift


def lint(master: str | Path) -> list[str]:
    """What a chapter lacks of the bones every chapter has, one sentence each; empty if nothing is missing."""
    master = Path(master)
    chapter = int(master.name[:2])
    cells = solved(master).cells
    prose = [cell.source for cell in cells if cell.cell_type == "markdown"]
    found = []
    if cells[0].cell_type != "markdown" or not cells[0].source.startswith(f"# {chapter:02d} · "):
        found.append(f"the first cell must be text that begins with '# {chapter:02d} · Title'")
    found += [f"the first cell lacks {label!r}" for label in LABELS if label not in cells[0].source]
    headers = [line for text in prose for line in text.splitlines() if re.match(r"^#+ Exercise\b", line)]
    for header in headers:
        if not EXERCISE.match(header):
            found.append(f"{header!r} should read like '## Exercise 1: leave one out · ●●○○○ · 10 min'")
    if chapter >= 1 and len(headers) < 3:
        found.append(f"{len(headers)} exercises, at least 3 wanted")
    if not any(re.search(r"^## Further reading$", text, re.MULTILINE) for text in prose):
        found.append("no '## Further reading'")
    for cell in cells:
        if cell.cell_type == "code" and len(cell.source.splitlines()) > MAX_LINES:
            found.append(
                f"a code cell of {len(cell.source.splitlines())} lines (at most {MAX_LINES}): {cell.source[:50]!r}"
            )
    return found
