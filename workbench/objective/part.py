"""A method is made of parts, and a part is one pure function with named settings.

    @part("surrogate", low=positive, high=positive)
    def clip(ratio, advantage, logp, *, low=0.2, high=0.2):
        ...

turns `clip` into a factory: `clip(high=0.28)` is a `Part` that prints as `clip(low=0.2, high=0.28)`, compares by value, can be
pickled, and is called with the slot's arguments. A name or a value that makes no sense is refused when the part is made.

The slots, in the order in which one update uses them. Shapes: B episodes, T tokens, U turns.

    prompts      (history, n, rng) -> n problem numbers                        what to ask next; history: see prompts.py
    context      (step, gains) -> numbers of hints                             what the prompts show besides; see context.py
    rollout      (batch, rewards[B,U]) -> keep[B] bool                         which rollouts to keep; the rest is drawn again
    mix          (batch, rewards[B,U], problem[B], past, rng) -> Batch         replay among the rollouts; see mix.py
    layout       (batch) -> Batch                                              in which rows the rollouts are trained on
    reward       (batch) -> [B,U]                                              a term; a recipe adds up its terms
    unit         (batch) -> [B,T] int                                          which tokens share one importance ratio
    advantage    (batch, rewards[B,T], given[B,T]) -> [B,T]                    credit of each token; given: what it needs
    select       (batch, advantage[B,T], entropy[B,T]) -> weight[B,T]          which tokens are trained on, and how much
    ratio        (logp[B,T], logp_old[B,T], unit[B,T], mask[B,T]) -> [B,T]     new policy over old
    surrogate    (ratio[B,T], advantage[B,T], logp[B,T]) -> [B,T]              the objective of each token, to be maximised
    regulariser  (terms) -> [B,T]                                              a penalty on each token; a recipe adds up its terms
    aggregate    (weight[B,T], mask[B,T], rollout[B]) -> coefficient[B,T]      the share of each token's objective in the sum
    schedule     () -> none                                                    how often a batch of rollouts is used
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

SLOTS = (
    "prompts", "context", "rollout", "mix", "layout", "reward", "unit", "advantage", "select", "ratio", "surrogate",
    "regulariser", "aggregate", "schedule",
)  # fmt: skip

Check = tuple[Callable[[Any], bool], str]


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")


positive: Check = (lambda v: _number(v) and v > 0, "a number above 0")
not_negative: Check = (lambda v: _number(v) and v >= 0, "a number of at least 0")
finite: Check = (_number, "a number")
share: Check = (lambda v: _number(v) and 0 < v <= 1, "a number above 0, at most 1")
fraction: Check = (lambda v: _number(v) and 0 <= v <= 1, "a number from 0 to 1")
flag: Check = (lambda v: isinstance(v, bool), "True or False")
not_rising: Check = (
    lambda v: isinstance(v, tuple) and len(v) > 0 and all(isinstance(n, int) and n >= 0 for n in v)
    and list(v) == sorted(v, reverse=True),
    "whole numbers of at least 0 in a tuple, none larger than the one before it",
)  # fmt: skip


def whole(low: int) -> Check:
    """A whole number of at least `low`."""
    return (lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= low, f"a whole number of at least {low}")


def one_of(*choices: str | int) -> Check:
    """One of the choices."""
    return (lambda v: v in choices and not isinstance(v, bool), "one of " + ", ".join(repr(choice) for choice in choices))


def optional(check: Check) -> Check:
    """None, or what passes `check`."""
    return (lambda v: v is None or check[0](v), f"None or {check[1]}")


@dataclass(frozen=True)
class Part:
    """One choice for one slot of a recipe: a factory made by `part`, and its settings."""

    slot: str
    make: Callable[..., Part]
    settings: tuple[tuple[str, Any], ...]

    def __call__(self, *arguments: Any) -> Any:
        return self.make.function(*arguments, **dict(self.settings))  # type: ignore[attr-defined]

    def __getitem__(self, setting: str) -> Any:
        return dict(self.settings)[setting]

    def get(self, setting: str, default: Any = None) -> Any:
        """The value of a setting; `default` where this part has no such setting."""
        return dict(self.settings).get(setting, default)

    @property
    def name(self) -> str:
        return self.make.__name__

    @property
    def needs(self) -> frozenset[str]:
        """What has to be computed for this part, some of `NEEDS`."""
        return self.make.needs  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in self.settings)})"


NEEDS = frozenset({"entropy", "values", "reference", "answer", "implicit", "turn_entropy", "gains"})


def part(slot: str, /, *, needs: Collection[str] = (), **checks: Check) -> Callable[[Callable[..., Any]], Callable[..., Part]]:
    """Make a pure function a choice for `slot`: see the top of this module.

    Args:
        slot: one of `SLOTS`.
        needs: what has to be computed before the part can be used: any of "entropy", "values" (a value head), "reference"
            (log-probabilities under a reference policy), "answer" (that of the gold answer where each turn begins),
            "implicit" (log-ratios of a judge that learns along), "turn_entropy" (that of earlier steps), "gains" (what hints
            are worth). An advantage is given one of "values", "answer" and "implicit" at most.
        checks: for each keyword-only parameter of the function, what values it takes.
    Raises:
        TypeError: when a part is made with a setting that it does not have.
        ValueError: when a setting has a value that makes no sense.
    """
    if slot not in SLOTS:
        raise ValueError(f"{slot!r} is not a slot; the slots are {', '.join(SLOTS)}")
    if not NEEDS.issuperset(needs):
        raise ValueError(f"a part can need {sorted(NEEDS)}, not {sorted(set(needs) - NEEDS)}")

    def decorate(function: Callable[..., Any]) -> Callable[..., Part]:
        parameters = [p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
        names = [parameter.name for parameter in parameters]
        if set(names) != set(checks):
            raise TypeError(f"{function.__name__}: every setting needs a check; settings {names}, checks {list(checks)}")
        settings = [parameter.replace(kind=parameter.POSITIONAL_OR_KEYWORD) for parameter in parameters]
        signature = inspect.Signature(settings, return_annotation=Part)

        @functools.wraps(function)
        def make(*args: Any, **kwargs: Any) -> Part:
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError as error:
                known = f"its settings are {signature}" if names else "it has no settings"
                raise TypeError(f"{function.__name__}: {error}; {known}") from None
            bound.apply_defaults()
            bound.arguments = {name: tuple(v) if isinstance(v, list) else v for name, v in bound.arguments.items()}  # from JSON
            for name, value in bound.arguments.items():
                accepts, expected = checks[name]
                if not accepts(value):
                    raise ValueError(f"{function.__name__}({name}={value!r}): {name} must be {expected}")
            return Part(slot, make, tuple(bound.arguments.items()))

        make.function = function  # type: ignore[attr-defined]
        make.__signature__ = signature  # type: ignore[attr-defined]
        make.slot = slot  # type: ignore[attr-defined]
        make.needs = frozenset(needs)  # type: ignore[attr-defined]
        return make

    return decorate
