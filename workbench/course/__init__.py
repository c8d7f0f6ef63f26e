"""The course: masters become the notebooks people open, and exercises are checked where they stand.

`from workbench.course import check` in a notebook; `build`, `compare`, `solved` and `lint` for whoever writes them.
"""

from workbench.course.checks import Result, check, expect, grade, names
from workbench.course.masters import build, compare, learner, lint, solved

__all__ = ["Result", "build", "check", "compare", "expect", "grade", "learner", "lint", "names", "solved"]
