"""Small networks that imitate where causes are hidden: cloning and GAIL, by what they look at. Remakes networks.json.

    python data/networks.py

On the highway (one decision) and in the drive of `leader_follower` (two decisions in turn), each learner is given 4,000
demonstrations and looks either at what the diagram admits or at what somebody who ignores it would take; GAIL also acts in
the drive. Eight seeds, exact values of what they learned. A minute and a half on one core. Chapter 07 reads the result.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from workbench.causal import neural, worlds
from workbench.causal.graph import of_model, sequential_pi_backdoor
from workbench.causal.imitation import copied
from workbench.causal.scm import Chance, World

SEEDS, DEMONSTRATIONS = 8, 4000
WORLDS = {
    "highway": (worlds.highway(), {"X": ("Z", "W")}),  # all that is seen before the decision
    "drive": (worlds.leader_follower(steps=2), {"X1": ("S1",), "X2": ("S2",)}),  # the gap as it is now
}
Scopes = Mapping[str, tuple[str, ...]]


def admitted(problem: worlds.Problem) -> Scopes:
    """What the diagram lets each action look at, in order of time."""
    verdict = sequential_pi_backdoor(of_model(problem.model, problem.order), problem.actions, problem.outcome)
    if verdict.sets is None:
        raise ValueError(verdict.reason)
    return {a: tuple(n for n in problem.before(a) if n in verdict.sets[a]) for a in problem.actions}


def learn(problem: worlds.Problem, method: str, scopes: Scopes, seed: int) -> dict[str, Chance]:
    """The policies that a method learns from the demonstrations of a seed."""
    world = World(problem.model, ("see", "do"))
    data = world.see(DEMONSTRATIONS, seed=seed)
    sizes = {name: problem.model.size(name) for name in problem.model.observed}
    if method == "GAIL" and len(scopes) > 1:
        return neural.gail_in_turn(world, data, scopes, seed=seed)
    single = neural.gail if method == "GAIL" else neural.cloning
    return {action: single(data, sizes, action, scope, seed=seed) for action, scope in scopes.items()}


def main() -> None:
    rows = []
    for name, (problem, ignoring) in WORLDS.items():
        names = problem.model.observed
        seen = problem.model.joint(*names)
        for what, scopes in (("what the diagram admits", admitted(problem)), ("what is at hand", ignoring)):
            exact = problem.value({a: copied(seen, names, a, scope) for a, scope in scopes.items()})
            for method in ("cloning", "GAIL"):
                values = [float(problem.value(learn(problem, method, scopes, seed))) for seed in range(SEEDS)]
                row = {"world": name, "looks at": what, "method": method, "expert": problem.expert_value, "exact copy": exact}
                rows.append(row | {"values": np.round(values, 4).tolist()})
                print(rows[-1], flush=True)
    about = {
        "made by": "python data/networks.py",
        "made with": f"torch {torch.__version__.split('+')[0]}, one thread of a CPU",
        "fields": f"values: exact mean outcome of the learned policies, seeds 0 to {SEEDS - 1}; expert, exact copy: the "
        "expert's, and that of the exact conditional distribution of the actions given what is looked at",
    }
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    page = json.dumps(about, indent=1) + f',\n "rows": [\n  {lines}\n ]\n}}\n'
    Path(__file__).with_suffix(".json").write_text('{\n "about": ' + page, encoding="utf-8")


if __name__ == "__main__":
    main()
