"""Random models of a diagram as tables, for questions about whole families of worlds.

A structural model (`scm.Model`) lists every value of every hidden cause; with many arrows there are too many. Where only the
distributions matter (watching and acting, no counterfactuals), a table of probabilities for each variable is enough, and
numpy's einsum multiplies them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench import seeding
from workbench.causal.graph import Diagram


@dataclass(frozen=True)
class Tables:
    """A model: for each variable, hidden causes of pairs included, its parents and P(variable | parents) [*parents, size]."""

    parents: dict[Any, tuple[Any, ...]]
    chances: dict[Any, np.ndarray]

    def joint(self, *names: str) -> np.ndarray:
        """P(names), one axis for each, exactly. Raises ValueError for an unknown name."""
        for name in names:
            if name not in self.parents:
                raise ValueError(f"unknown name {name!r}; there are {', '.join(n for n in self.parents if isinstance(n, str))}")
        at = {name: i for i, name in enumerate(self.parents)}
        factors: list[Any] = []
        for name, above in self.parents.items():
            factors += [self.chances[name], [*(at[parent] for parent in above), at[name]]]
        return np.einsum(*factors, [at[name] for name in names], optimize="greedy")

    def conditional(self, name: str, given: tuple[str, ...]) -> np.ndarray:
        """P(name | given) [*given, size]; uniform where the given values never happen."""
        table = self.joint(*given, name)
        total = table.sum(-1, keepdims=True)
        return np.divide(table, total, out=np.full_like(table, 1 / table.shape[-1]), where=total > 0)

    def do(self, policies: Mapping[str, tuple[tuple[str, ...], Any]]) -> Tables:
        """The model in which each action is drawn by a policy: (what it looks at, table [*looks_at, size]).

        Raises ValueError for an unknown action and a table that does not fit.
        """
        parents, chances = dict(self.parents), dict(self.chances)
        for name, (looks_at, table) in policies.items():
            table = np.asarray(table, dtype=float)
            wanted = tuple(len(self.chances[n].T) for n in (*looks_at, name) if n in self.chances)
            if name not in parents or table.shape != wanted:
                raise ValueError(f"a policy for {name} that looks at {looks_at} needs a table {wanted}, not {table.shape}")
            parents[name], chances[name] = tuple(looks_at), table
        return Tables(parents, chances)

    def clone(self, scopes: Mapping[str, Any]) -> Tables:
        """The model in which each action is copied from its scope: P(action | scope), as the expert is seen to act."""
        looks = {name: tuple(sorted(scope)) for name, scope in scopes.items()}
        return self.do({name: (scope, self.conditional(name, scope)) for name, scope in looks.items()})

    def mean(self, name: str) -> float:
        """E[name], the values of a variable being 0, 1, 2, ..."""
        table = self.joint(name)
        return float(table @ np.arange(len(table)))


def random_tables(diagram: Diagram, *, seed: int, values: int = 2) -> Tables:
    """A random model of a diagram: every distribution is drawn uniformly over all of them."""
    rng = seeding.generator(seed, "random tables")
    graph = diagram.explicit
    parents = {name: tuple(graph.predecessors(name)) for name in graph}
    chances = {name: rng.dirichlet(np.ones(values), size=[values] * len(above)) for name, above in parents.items()}
    return Tables(parents, chances)
