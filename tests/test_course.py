"""The course machinery: masters become notebooks, checks name the mistake."""

from __future__ import annotations

import json

import numpy as np
import pytest

from workbench import course
from workbench.course import checks

# 98: no chapter of the course, so that none of its checks is declared while the registry is another
MASTER = '''# %% [markdown]
# # 98 · A chapter
# **The question.** Why? **You will be able to** do it. **Time.** 5 minutes. **You need.** Nothing.

# %% tags=["slider"]
def double(x):
    """Twice x."""
    # solution
    y = 2 * x
    return y
    # end solution
    # stub: return None  # your code here


# %%
def triple(x):
    # solution
    return 3 * x
    # end solution


# %%
answer = ...
# solution
answer = 42
# end solution
# stub: # replace the dots
# stub: pass

# %% [markdown]
# ## Further reading
'''


@pytest.fixture
def folders(tmp_path):
    masters, notebooks = tmp_path / "masters", tmp_path / "notebooks"
    masters.mkdir()
    notebooks.mkdir()
    (masters / "98_chapter.py").write_text(MASTER)
    return masters, notebooks


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(checks, "_REGISTRY", {})


def _code(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def test_the_learner_gets_stubs_and_the_solution_keeps_the_answer(folders):
    master = folders[0] / "98_chapter.py"
    unsolved, full = _code(course.learner(master)), _code(course.solved(master))
    assert unsolved[0] == 'def double(x):\n    """Twice x."""\n    return None  # your code here'
    assert full[0] == 'def double(x):\n    """Twice x."""\n    y = 2 * x\n    return y'
    assert unsolved[1] == "def triple(x):\n    ..."
    assert full[1] == "def triple(x):\n    return 3 * x"
    assert unsolved[2] == "answer = ...\n# replace the dots\npass"
    assert full[2] == "answer = ...\nanswer = 42"


def test_the_build_is_the_same_bytes_and_drift_is_named(folders):
    masters, notebooks = folders
    assert course.compare(masters, notebooks) == ["98_chapter.ipynb is missing: run `workbench course build`"]
    assert [path.name for path in course.build(masters, notebooks)] == ["98_chapter.ipynb"]
    first = (notebooks / "98_chapter.ipynb").read_bytes()
    assert course.build(masters, notebooks) == [] and course.compare(masters, notebooks) == []
    loaded = json.loads(first)
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in loaded["cells"])
    assert loaded["metadata"]["kernelspec"]["name"] == "python3"
    assert loaded["cells"][1]["metadata"] == {"tags": ["slider"]}
    ids = [cell["id"] for cell in loaded["cells"]]
    assert len(set(ids)) == len(ids)

    # a new cell changes no other cell's id
    (masters / "98_chapter.py").write_text(MASTER.replace("# %%\nanswer", "# %%\n1 + 1\n\n# %%\nanswer"))
    assert "is not what 98_chapter.py makes" in course.compare(masters, notebooks)[0]
    course.build(masters, notebooks)
    assert set(ids) < {
        cell["id"] for cell in json.loads((notebooks / "98_chapter.ipynb").read_bytes())["cells"]
    }

    (notebooks / "04_orphan.ipynb").write_text("{}")
    assert course.compare(masters, notebooks) == ["04_orphan.ipynb has no master 04_orphan.py"]


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("# solution\nx = 1", "never closed"),
        ("x = 1\n# end solution", "without '# solution'"),
        ("# solution\n# solution\n# end solution", "inside a solution"),
    ],
)
def test_tags_that_do_not_match_are_refused(tmp_path, cell, words):
    (tmp_path / "98_bad.py").write_text(f"# %%\n{cell}\n")
    with pytest.raises(ValueError, match=words):
        course.solved(tmp_path / "98_bad.py")


def test_the_lint_names_what_a_chapter_lacks(folders):
    master = folders[0] / "98_chapter.py"
    assert course.lint(master) == ["0 exercises, at least 3 wanted"]
    good = "\n".join(f"# %% [markdown]\n# ## Exercise {i}: do it · ●●○○○ · 10 min\n" for i in (1, 2, 3))
    master.write_text(MASTER + good)
    assert course.lint(master) == []
    master.write_text(
        (MASTER + good).replace("**Time.**", "").replace("· ●●○○○ ·", "", 1) + "\n# %%\n" + "x = 1\n" * 26
    )
    found = " ".join(course.lint(master))
    assert "lacks '**Time.**'" in found and "should read like" in found and "26 lines" in found
    master.write_text((MASTER + good).replace("# ## Further reading", "# ## The end"))
    assert course.lint(master) == ["no '## Further reading'"]


def _leave_one_out(r):
    return r - (r.sum() - r) / (len(r) - 1)


@pytest.fixture
def loo(registry):
    checks.expect(
        "98.loo",
        _leave_one_out,
        inputs=lambda rng: (rng.integers(0, 2, 6).astype(float) + np.arange(6),),
        mistakes={
            "your baseline includes the sample itself": lambda r: r - r.mean(),
            "you divided by the standard deviation": lambda r: (r - r.mean()) / r.std(),
        },
    )


def test_a_right_answer_passes_and_the_two_likely_mistakes_are_named(loo, capsys):
    def mine(r):
        return _leave_one_out(r)

    result = course.check("98.loo", mine)
    assert result and result.status == "correct" and result.function is mine
    assert (
        course.check("98.loo", lambda r: r - r.mean()).message == "your baseline includes the sample itself"
    )
    result = course.check("98.loo", lambda r: (r - r.mean()) / r.std())
    assert (
        not result and result.status == "wrong" and result.message == "you divided by the standard deviation"
    )
    assert result.function is _leave_one_out
    assert capsys.readouterr().out.splitlines()[0] == "✔ 98.loo: correct"


def _crashes(r):
    return r.no_such_thing


def _mutates(r):
    r -= r.mean()
    return r


def _unsolved(r):
    raise NotImplementedError


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (None, "not yet", "not yet"),
        (lambda r: None, "not yet", "not yet"),
        (lambda r: ..., "not yet", "not yet"),
        (lambda r: (None, None), "not yet", "not yet"),
        (_unsolved, "not yet", "not yet"),
        (_crashes, "wrong", "stops with AttributeError"),
        (_mutates, "wrong", "changes its input"),
        (lambda r: r / 0.0 if r.sum() else r, "wrong", "not finite"),
        (lambda r: r.sum(), "wrong", "a number, wanted is an array of shape (6,)"),
        (lambda r: _leave_one_out(r)[None], "wrong", "of shape (1, 6), wanted is an array of shape (6,)"),
        (lambda r: 0 * r, "wrong", "wanted is"),
        (7, "wrong", "should be a function"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_every_other_answer_is_told_in_words(loo, answer, status, words):
    result = course.check("98.loo", answer)
    assert result.status == status and words in result.message and result.function is _leave_one_out


def test_values_tensors_structures_and_judges(registry):
    torch = pytest.importorskip("torch")
    checks.expect("98.value", 0.25, mistakes={"you forgot to divide by two": 0.5})
    assert course.check("98.value", 0.25) and course.check("98.value", torch.tensor(0.25))
    assert course.check("98.value", 0.5).message == "you forgot to divide by two"
    assert course.check("98.value", 0.3).message == "not 0.3"
    assert course.check("98.value", ...).status == "not yet"
    checks.expect(
        "98.words", lambda n: {"ids": [n, n + 1], "text": "a"}, inputs=lambda rng: (int(rng.integers(9)),)
    )
    assert course.check("98.words", lambda n: {"ids": (n, n + 1), "text": "a"})
    assert not course.check("98.words", lambda n: {"ids": (n, n + 1), "text": "b"})
    checks.expect("98.even", 2, judge=lambda x: None if x % 2 == 0 else "that is odd")
    assert course.check("98.even", 8) and course.check("98.even", 3).message == "that is odd"


def test_declarations_that_cannot_work_are_refused(registry):
    with pytest.raises(ValueError, match="named like"):
        checks.expect("loo", 1)
    checks.expect("98.x", 1)
    with pytest.raises(ValueError, match="twice"):
        checks.expect("98.x", 1)
    with pytest.raises(ValueError, match="gives the right answer"):
        checks.expect("98.y", 1, mistakes={"none at all": 1})
    with pytest.raises(ValueError, match="judge refuses the reference"):
        checks.expect("98.z", 1, judge=lambda x: "no")
    with pytest.raises(ValueError, match="there is no check"):
        course.check("98.nothing", 1)


def test_a_grader_runs_the_same_checks(loo):
    checks.expect("98.seven", 7)
    assert course.names(98) == ["98.loo", "98.seven"]
    results = course.grade("98", {"loo": lambda rewards: _leave_one_out(rewards)})  # a function of their own
    assert [(r.name, r.status) for r in results] == [("98.loo", "correct"), ("98.seven", "not yet")]


def test_our_function_under_the_learners_name_is_not_counted_as_theirs():
    from workbench.course import check, grade

    unsolved = {"credit": check("00.credit", lambda paid: None).function}
    solved = {"credit": check("00.credit", lambda paid: paid - paid.mean()).function}
    assert [result.status for result in grade("00", unsolved)] == ["not yet"]
    assert [result.status for result in grade("00", solved)] == ["correct"]
