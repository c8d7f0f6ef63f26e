"""Named methods. `recipes.get("gtpo")` or `recipes.gtpo`; `recipes.gtpo.but("mine", advantage=...)` for your own."""

from __future__ import annotations

import difflib

from workbench.recipes import credit, memory, methods, offline, rows
from workbench.recipes.credit import (
    bilevel_ppo,
    gtpo_hybrid,
    gtpo_without_returns,
    gtpo_without_shaping,
    gtpo_without_turn_rewards,
    igpo,
    loop,
    oprl,
    poad,
    step_grpo,
    turn_ppo,
)
from workbench.recipes.memory import arpo, epo, icrl, llds, simple_tir, skill0
from workbench.recipes.methods import (
    cispo,
    dapo,
    dr_grpo,
    grpo,
    gspo,
    gspo_token,
    gtpo,
    lite_ppo,
    ppo,
    reinforce,
    reinforce_baseline,
    reinforce_pp,
    reinforce_pp_baseline,
    rloo,
    sapo,
)
from workbench.recipes.offline import cobalt
from workbench.recipes.recipe import RULES, Recipe
from workbench.recipes.rows import dynamic_context, flow_grpo, supo
from workbench.recipes.view import credit_view

__all__ = [
    "RULES", "Recipe", "arpo", "bilevel_ppo", "cispo", "cobalt", "credit_view", "dapo", "describe", "dr_grpo",
    "dynamic_context", "epo", "family", "flow_grpo", "gallery", "get", "grpo", "gspo", "gspo_token", "gtpo",
    "gtpo_hybrid", "gtpo_without_returns", "gtpo_without_shaping", "gtpo_without_turn_rewards", "icrl", "igpo",
    "lite_ppo", "llds", "loop", "names", "oprl", "poad", "ppo", "reinforce", "reinforce_baseline", "reinforce_pp",
    "reinforce_pp_baseline", "rloo", "sapo", "simple_tir", "skill0", "step_grpo", "supo", "turn_ppo",
]  # fmt: skip

METHODS: dict[str, Recipe] = {
    recipe.name: recipe for recipe in (*methods.RECIPES, *credit.RECIPES, *memory.RECIPES, *offline.RECIPES, *rows.RECIPES)
}


def names() -> list[str]:
    """The registered methods. Names are ours; acronyms collide, so the arXiv number is always shown with them."""
    return list(METHODS)


def get(recipe: str | Recipe) -> Recipe:
    """A registered recipe by name; a `Recipe` is returned as it is.

    Raises:
        ValueError: for an unknown name. TypeError: for anything else.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if not isinstance(recipe, str):
        raise TypeError(f"a recipe is a Recipe or one of the names {', '.join(METHODS)}, not {recipe!r}")
    if recipe not in METHODS:
        near = difflib.get_close_matches(recipe.lower().replace("-", "_"), METHODS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"there is no recipe {recipe!r}; {hint}The recipes are {', '.join(METHODS)}")
    return METHODS[recipe]


def family() -> list[tuple[str, str, tuple[str, ...]]]:
    """The edges of the family tree: (child, parent, the slots in which they differ)."""
    return [(r.name, r.parent.name, tuple(r.changes())) for r in METHODS.values() if r.parent is not None]


def gallery() -> str:
    """A Markdown table of all methods, made from the recipes."""
    lines = ["| method | paper | from | what it changes |", "|---|---|---|---|"]
    for recipe in METHODS.values():
        paper = f"[{recipe.arxiv}](https://arxiv.org/abs/{recipe.arxiv})" if recipe.arxiv else "-"
        parent = f"`{recipe.parent.name}`" if recipe.parent else "-"
        changed = "<br>".join(f"{slot}: `{new}`" for slot, new in recipe.shown_changes().items())
        lines.append(f"| `{recipe.name}` {recipe.title} | {paper} | {parent} | {changed or 'the default of every part'} |")
    return "\n".join(lines)


def describe(recipe: str | Recipe) -> str:
    """Title, paper, formula, difference from the parent, the reading chosen and what is left out."""
    r = get(recipe)
    about = [f"{r.title or r.name}" + (f", arXiv {r.arxiv}" if r.arxiv else ""), r.formula, repr(r)]
    about += [f"Reading: {r.reading}"] if r.reading else []
    about += [f"Left out: {r.left_out}"] if r.left_out else []
    return "\n\n".join(line for line in about if line)
