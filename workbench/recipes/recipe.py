"""A method is what it changes: `Recipe()` is GRPO, every other method is `parent.but(name, slot=part, ...)`.

Parts that do not fit together are refused when the recipe is made, with the reason; see `RULES`.
"""

# ruff: noqa: RUF009 - parts are immutable, so they may be defaults of a dataclass
from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from workbench.objective import (
    PARTS,
    SLOTS,
    Part,
    all_tokens,
    as_sampled,
    bare,
    clip,
    episode_advantage,
    fixed,
    importance,
    on_policy,
    outcome,
    sequence_mean,
    stream,
    token,
    updates,
)

SEVERAL = ("reward", "regulariser")  # slots whose parts are added up
ABOUT = ("title", "arxiv", "formula", "left_out", "reading")


@dataclass(frozen=True, repr=False)
class Recipe:
    """One method: a part for each slot (the slots are described in `workbench.objective.part`), and where it comes from.

    Attributes:
        reward, regulariser: several parts, added up; all other slots hold one.
        title: the method's full name. arxiv: the paper's number: many acronyms name several methods.
        formula: LaTeX. left_out: what the paper has and this recipe has not. reading: what was chosen where it is unclear.
        parent: the recipe this one differs from, or None.
    Raises:
        TypeError, ValueError: for an unknown slot, a part in the wrong slot, or parts that do not fit together.
    """

    name: str = "grpo"
    prompts: Part = stream()
    context: Part = bare()
    rollout: Part = fixed()
    mix: Part = on_policy()
    layout: Part = as_sampled()
    reward: tuple[Part, ...] = (outcome(),)
    unit: Part = token()
    advantage: Part = episode_advantage()
    select: Part = all_tokens()
    ratio: Part = importance()
    surrogate: Part = clip()
    regulariser: tuple[Part, ...] = ()
    aggregate: Part = sequence_mean()
    schedule: Part = updates()
    title: str = field(default="", compare=False)
    arxiv: str = field(default="", compare=False)
    formula: str = field(default="", compare=False)
    left_out: str = field(default="", compare=False)
    reading: str = field(default="", compare=False)
    parent: Recipe | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", self.name):
            raise ValueError(f"a recipe's name is letters, digits and _ . + -, not {self.name!r}")
        for slot in SLOTS:
            value = getattr(self, slot)
            if slot in SEVERAL:
                value = (value,) if isinstance(value, Part) or callable(value) else value
                if not isinstance(value, (tuple, list)):
                    raise TypeError(f"{self.name}: {slot} takes parts in a tuple, not {value!r}")
                object.__setattr__(self, slot, tuple(value))
            for one in value if slot in SEVERAL else (value,):
                _check_part(self.name, slot, one)
        for rule in RULES:
            complaint = rule(self)
            if complaint:
                raise ValueError(f"recipe {self.name!r}: {complaint}")

    def but(self, name: str, **changes: Any) -> Recipe:
        """This recipe with some parts replaced, under a new name.

        Args:
            changes: slots (a part; for reward and regulariser one part or a tuple), and title, arxiv, formula, left_out,
                reading, which are not inherited: they describe a paper, and this is another method.
        """
        for unknown in sorted(set(changes) - {*SLOTS, *ABOUT}):
            near = difflib.get_close_matches(unknown, [*SLOTS, *ABOUT], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"a recipe has no slot {unknown!r}{hint} The slots are {', '.join(SLOTS)}")
        about = {key: changes.pop(key, "") for key in ABOUT}
        return dataclasses.replace(self, name=name, parent=self, **changes, **about)

    def changes(self) -> dict[str, tuple[Any, Any]]:
        """For each slot in which this recipe differs from its parent: (the parent's part, its own)."""
        if self.parent is None:
            return {}
        pairs = {slot: (getattr(self.parent, slot), getattr(self, slot)) for slot in SLOTS}
        return {slot: pair for slot, pair in pairs.items() if pair[0] != pair[1]}

    def shown_changes(self) -> dict[str, str]:
        """The changes as code. Of a part whose parent has the same with other settings, the settings that matter."""
        shown = {}
        for slot, (old, new) in self.changes().items():
            same = isinstance(new, Part) and isinstance(old, Part) and new.make is old.make
            usual = dict(new.make().settings) if same else {}
            kept = [(k, v) for k, v in new.settings if v != usual[k] or v != old[k]] if same else []
            shown[slot] = repr(dataclasses.replace(new, settings=tuple(kept)) if same else new)
        return shown

    def __repr__(self) -> str:
        label = f"{self.name} ({self.arxiv})" if self.arxiv else self.name
        if self.parent is None:
            lines, head = [f"{slot}={getattr(self, slot)!r}" for slot in SLOTS], "Recipe"
        else:
            lines, head = [f"{slot}={new}" for slot, new in self.shown_changes().items()], f"{self.parent.name}.but"
        return f"{label} = {head}(" + "".join(f"\n    {line}," for line in lines) + ("\n)" if lines else ")")

    def _repr_markdown_(self) -> str:
        paper = f"[arXiv {self.arxiv}](https://arxiv.org/abs/{self.arxiv})" if self.arxiv else ""
        about = [f"**{self.title or self.name}** {paper}".strip()]
        about += [f"$$ {self.formula} $$"] if self.formula else []
        about += [f"```python\n{self!r}\n```"]
        about += [f"*Reading*: {self.reading}"] if self.reading else []
        about += [f"*Left out*: {self.left_out}"] if self.left_out else []
        return "\n\n".join(about)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` makes an equal recipe of them."""
        values: dict[str, Any] = {"name": self.name}
        for slot in SLOTS:
            value = getattr(self, slot)
            values[slot] = [_plain(one) for one in value] if slot in SEVERAL else _plain(value)
        values |= {key: getattr(self, key) for key in ABOUT}
        values["parent"] = None if self.parent is None else self.parent.to_dict()
        return values

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Recipe:
        """The inverse of `to_dict`.

        Raises:
            ValueError: for a missing or unknown entry, or a part that this version (or this process) does not know.
        """
        expected = {"name", *SLOTS, *ABOUT, "parent"}
        if not isinstance(values, dict) or set(values) != expected:
            found = sorted(values) if isinstance(values, dict) else type(values).__name__
            raise ValueError(f"not a saved recipe: expected entries {sorted(expected)}, found {found}")
        made = dict(values)
        for slot in SLOTS:
            made[slot] = tuple(map(_part, values[slot])) if slot in SEVERAL else _part(values[slot])
        made["parent"] = None if values["parent"] is None else Recipe.from_dict(values["parent"])
        return Recipe(**made)


def _check_part(name: str, slot: str, value: Any) -> None:
    if isinstance(value, Part):
        if value.slot != slot:
            raise ValueError(f"recipe {name!r}: {value!r} is a choice for {value.slot}, not for {slot}")
    elif hasattr(value, "slot") and callable(value):
        raise TypeError(f"recipe {name!r}: {slot}={value.__name__} is not finished: write {value.__name__}()")
    else:
        known = ", ".join(part for part, factory in PARTS.items() if factory.slot == slot)  # type: ignore[attr-defined]
        raise TypeError(f"recipe {name!r}: {slot} takes a part, not {value!r}; there are {known}")




def _plain(value: Part) -> dict[str, Any]:
    return {"part": value.name, **dict(value.settings)}


def _part(values: Any) -> Part:
    if not isinstance(values, dict) or values.get("part") not in PARTS:
        raise ValueError(f"{values!r} is not a known part; a part of your own must be in workbench.objective.PARTS first")
    return PARTS[values["part"]](**{key: value for key, value in values.items() if key != "part"})


BY_TURN = ("turn_returns", "turn_gae", "turn_and_outcome", "information_gain", "implicit_steps")  # one advantage a turn


# ---- what does not fit together -------------------------------------------------------------------------------


def _value_head(r: Recipe) -> str | None:
    names = [penalty.name for penalty in r.regulariser]
    if "values" in r.advantage.needs and "value_loss" not in names:
        return f"{r.advantage.name}() needs a value head, and nothing trains it: add value_loss() to the regulariser"
    if "value_loss" in names and "values" not in r.advantage.needs:
        return f"value_loss() trains a value head that {r.advantage.name}() does not use: use gae() or drop value_loss()"
    return None


def _advantage_in_unit(r: Recipe) -> str | None:
    """A pooled ratio mixes the gradients of its tokens, so they must have one advantage (see arXiv 2507.18071)."""
    token_level = ("gae", "token_returns", "bilevel_gae", "action_gae")
    varies = {"sequence": (*token_level, *BY_TURN), "turn": token_level}
    if r.advantage.name in varies.get(r.unit.name, ()) and r.ratio.get("gradient") == "unit" and r.surrogate.name != "cispo":
        return (
            f"{r.advantage.name}() gives tokens of one {r.unit.name} different advantages, but importance(gradient='unit') "
            "gives them one gradient: use importance(gradient='token')"
        )
    return None


def _alone(r: Recipe) -> str | None:
    if r.rollout.get("size") != 1:
        return None
    uses = r.advantage.get("baseline") in ("group", "loo") or r.advantage.get("scale") == "group"
    if uses or (r.advantage.name in BY_TURN and "values" not in r.advantage.needs):
        return f"{r.advantage!r} compares the rollouts of a prompt, and {r.rollout!r} makes only one: use size=2 or more"
    if r.rollout.name == "resample":
        return "resample() keeps groups whose rollouts differ, and a group of one never does: use size=2 or more"
    if any(term.name == "similarity" for term in r.reward):
        return "similarity() compares a failure with its group's successes: use rollouts of size 2 or more"
    return None


def _centred(r: Recipe) -> str | None:
    if r.advantage.get("scale") == "centred_batch" and r.advantage.get("baseline") == "none":
        return "scale='centred_batch' is the spread after the baseline, and there is no baseline: use scale='batch'"
    return None


def _penalties(r: Recipe) -> str | None:
    for penalty in r.regulariser:
        if penalty.name == "kl" and penalty["place"] == "loss" and penalty["estimator"] == "k1" and not penalty["corrected"]:
            return (
                "kl(estimator='k1', place='loss') does nothing on average: the expected gradient of log pi is 0; "
                "use k2 or k3, corrected=True, or place='reward'"
            )
        if penalty.name == "kl" and penalty["place"] == "reward" and penalty["corrected"]:
            return "kl(corrected=True) corrects the gradient of the KL, and place='reward' takes none: leave it out"
    names = [penalty.name for penalty in r.regulariser]
    twice = next((name for name in names if names.count(name) > 1), None)
    return f"{twice}() is in the regulariser twice: add up the coefficients" if twice else None


def _rewards(r: Recipe) -> str | None:
    names = [term.name for term in r.reward]
    if not names:
        return "a recipe needs at least one reward term, e.g. outcome()"
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        return f"{twice}() is in the reward twice"
    for a, b, why in (
        ("outcome", "gated_outcome", "both are the verdict on the episode"),
        ("outcome", "step_rewards", "the outcome of a Markov decision process is the sum of its step rewards"),
        ("gated_outcome", "step_rewards", "the outcome of a Markov decision process is the sum of its step rewards"),
        ("turn_penalty", "step_rewards", "both are what the task said of each turn"),
        ("turn_penalty", "calibrated", "both are what the task said of each turn"),
        ("step_rewards", "calibrated", "both are what the task said of each turn"),
    ):
        if a in names and b in names:
            return f"{a}() and {b}() count the same thing twice ({why}): keep one"
    verdicts = [name for name in ("outcome", "gated_outcome", "step_rewards") if name in names]
    if verdicts and r.advantage.name == "turn_and_outcome":
        return f"turn_and_outcome() puts the outcome after the last turn itself: leave {verdicts[0]}() out of the reward"
    for term in r.reward:
        if term.name == "soft_overlong" and term["cache"] > term["limit"]:
            return f"{term!r}: the cache is the last part of the limit and cannot be longer"
    return None


def _nothing_to_limit(r: Recipe) -> str | None:
    if r.ratio.name != "current":
        return None
    if r.surrogate.name != "policy_gradient":
        return f"with current() every ratio is 1, so {r.surrogate.name}() has nothing to limit: use policy_gradient()"
    if r.unit.name != "token":
        return f"with current() every ratio is 1, so pooling it over a {r.unit.name} does nothing: use token()"
    return None


def _nothing_to_replay(r: Recipe) -> str | None:
    if r.mix.name != "replay":
        return None
    if r.prompts.name == "stream":
        return "stream() never asks a problem again, so there is never a success of it to replay: use uniform(pool=...)"
    if r.mix["logp"] == "sampled" and r.ratio.name == "current":
        return "replay(logp='sampled') weighs by the importance ratio, and with current() every ratio is 1: use importance()"
    return None


def _never_moved(r: Recipe) -> str | None:
    names = [penalty.name for penalty in r.regulariser]
    if "likelihood_drops" in names and r.schedule["epochs"] * r.schedule["minibatches"] == 1 and r.mix.get("logp") != "sampled":
        return (
            "likelihood_drops() is 0 while the policy is the one that sampled, and updates() takes one step from there: "
            "use updates(epochs=...) or updates(minibatches=...)"
        )
    return None


def _window(r: Recipe) -> str | None:
    for penalty in r.regulariser:
        if penalty.name == "entropy_window" and penalty["high"] is not None and penalty["high"] <= penalty["low"]:
            return f"{penalty!r}: nothing is between low and high"
    return None


def _dual(r: Recipe) -> str | None:
    if r.surrogate.name == "clip" and r.surrogate["dual"] is not None and r.surrogate["dual"] <= 1 + r.surrogate["high"]:
        return f"clip(dual={r.surrogate['dual']}) must be above 1 + high = {1 + r.surrogate['high']}"
    return None


RULES: tuple[Callable[[Recipe], str | None], ...] = (
    _value_head, _advantage_in_unit, _alone, _centred, _penalties, _rewards, _nothing_to_limit, _dual,
    _nothing_to_replay, _never_moved, _window,
)  # fmt: skip
"""Each looks at a whole recipe and returns what is wrong with it, or None."""
