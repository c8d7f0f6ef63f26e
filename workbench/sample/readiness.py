"""Whether a policy can be trained on a task at all: asked before the first step, answered in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench import models
from workbench.sample.rollout import encode_rows
from workbench.tasks.base import Rewriting, play

if TYPE_CHECKING:
    from workbench.tasks.base import Task


def check(policy: models.LanguageModel, task: Task, *, problems: int = 8) -> list[str]:
    """What must hold before a policy is trained on a task: `models.check`, and room for the scripts that solve the task.

    Args:
        problems: of the training split, whose right scripts are played and encoded.
    Returns:
        What is worth knowing, in words.
    Raises:
        ValueError: see `models.check`; or a right script has a turn that is longer than the task allows with this tokenizer, or
            does not fit the context; says by how much.
    """
    notes = models.check(policy)
    context = policy.context
    longest = 0
    for number in range(problems):
        problem = task.problem(number)
        turns = play(task, problem, task.gold(problem)).transcript
        keeps = task.keeps(problem, turns[::2]) if isinstance(task, Rewriting) else ()
        rows = encode_rows(problem.prompt, turns, policy.tokenizer, rollout=0, keeps=keeps, schemas=problem.schemas)
        for row in rows:
            said = max((len(segment.ids) for segment in row.segments if segment.logps is not None), default=0)
            if said > task.max_tokens:
                raise ValueError(
                    f"a turn that solves problem {number} of {task.name!r} has {said} tokens with this tokenizer, and the task "
                    f"allows {task.max_tokens} a turn: give the task max_tokens of {said} or more"
                )
            needed = len(row.prompt) + sum(len(segment.ids) for segment in row.segments)
            if context is not None and needed > context:
                raise ValueError(
                    f"the model's context is {context} tokens, and to solve problem {number} of {task.name!r} takes {needed}: "
                    f"it is {needed - context} too short. Take a model with a longer context, or smaller problems"
                )
            longest = max(longest, len(row.prompt) + task.max_turns * task.max_tokens)
    if context is not None and longest > context:
        notes.append(
            f"an episode that uses all its turns to the full takes {longest} tokens and more, the context is {context}: such "
            "episodes are cut off (Stop.CONTEXT)"
        )
    return notes
