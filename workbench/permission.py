"""What a learner may ask of the world: to watch it, to act in it, or to ask what would have been.

Pearl's three layers (Pearl and Mackenzie 2018; Bareinboim, Correa, Ibeling and Icard 2022). Data of a lower layer almost never
determine the answers of a higher one, so whatever simulates a world with hidden causes says which layers a learner was given,
and refuses the rest: otherwise a method could peek and nobody would notice.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum


class Layer(StrEnum):
    """A layer of the causal hierarchy."""

    SEE = "see"  # watch what happens when nature or somebody else acts
    DO = "do"  # choose the action
    IMAGINE = "imagine"  # ask for another action's outcome, given what one saw or was about to do


class NotPermitted(PermissionError):
    """The learner asked for a layer that it was not given."""


def require(layer: Layer, granted: Collection[Layer | str], what: str) -> None:
    """Raise NotPermitted unless `layer` is among those `granted`; `what` names the question, e.g. "do(X=1)".

    Raises:
        ValueError: if `granted` names a layer that does not exist.
    """
    layers = {Layer(name) for name in granted}
    if layer not in layers:
        given = ", ".join(sorted(layers)) or "nothing"
        raise NotPermitted(
            f"{what} needs permission to {layer}; this learner was given {given}; grant it with allow={layer.value!r}"
        )
