"""Bandits: one decision at a time, with everything known about them worked out exactly.

    from workbench import bandits
    problem = bandits.Bernoulli([0.5, 0.4, 0.4])
    bandits.play.play(bandits.UCB1(), problem, horizon=1000, repetitions=100).interval()

To read it: `problems` says what a bandit is, `play` is the loop, `policies` are those for independent rewards; `lipschitz`,
`adversarial`, `contextual`, `budgeted` and `confounded` change one assumption each, `offline` learns from logs, and
`in_context` learns to learn. Functions whose names say little alone stay in their modules: `play.play`, `policies.get`,
`offline.value`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from workbench.bandits import (
    adversarial,
    budgeted,
    confounded,
    contextual,
    lipschitz,
    offline,
    play,
    policies,
    problems,
)
from workbench.bandits.adversarial import (
    EXP3,
    EXP3P,
    EXP4,
    Equilibrium,
    FollowPerturbedLeader,
    Hedge,
    LossTable,
    Reactive,
    SelfPlay,
    exploitability,
    hedge_against_hedge,
    minimax,
    weighted_majority,
)  # fmt: skip
from workbench.bandits.budgeted import (
    BudgetedAskers,
    BudgetedBandit,
    BudgetedPolicy,
    Earned,
    FixedMixture,
    Hatch,
    LagrangeBwK,
    Plan,
    UcbBwK,
    best_plan,
    play_budgeted,
    whom_to_serve,
)  # fmt: skip
from workbench.bandits.confounded import (
    FAMILY,
    GREEDY_CASINO,
    ConfoundedBandit,
    ConfoundedProblem,
    IntentThompson,
    World,
)
from workbench.bandits.contextual import (
    ContextUCB,
    ExploreFirstOracle,
    LinearContexts,
    LinearThompson,
    LinUCB,
    LipschitzContexts,
    TabularContexts,
)  # fmt: skip
from workbench.bandits.lipschitz import FixedGrid, Zooming, on_interval, tent
from workbench.bandits.offline import Log
from workbench.bandits.play import Played, Policy
from workbench.bandits.policies import (
    KLUCB,
    MOSS,
    POLICIES,
    UCB1,
    EpsilonGreedy,
    ExploreFirst,
    GaussianThompson,
    Greedy,
    SuccessiveElimination,
    Thompson,
    Uniform,
)  # fmt: skip
from workbench.bandits.problems import Bernoulli, Gaussian, Problem, Rounds, bernoulli_kl, minimax_floor

if TYPE_CHECKING:
    from workbench.bandits.env import BanditEnv
    from workbench.bandits.in_context import (
        HistoryTransformer,
        InContext,
        PosteriorSampling,
        TaskDistribution,
    )

# what loads torch or gymnasium
_LATER = {
    "BanditEnv": "env", "HistoryTransformer": "in_context", "InContext": "in_context", "PosteriorSampling": "in_context",
    "TaskDistribution": "in_context",
}  # fmt: skip

__all__ = [
    "EXP3", "EXP3P", "EXP4", "FAMILY", "GREEDY_CASINO", "KLUCB", "MOSS", "POLICIES", "UCB1", "BanditEnv", "Bernoulli",
    "BudgetedAskers", "BudgetedBandit", "BudgetedPolicy", "ConfoundedBandit", "ConfoundedProblem", "ContextUCB", "Earned",
    "EpsilonGreedy", "Equilibrium", "ExploreFirst", "ExploreFirstOracle", "FixedGrid", "FixedMixture",
    "FollowPerturbedLeader", "Gaussian", "GaussianThompson", "Greedy", "Hatch", "Hedge", "HistoryTransformer", "InContext",
    "IntentThompson", "LagrangeBwK", "LinUCB", "LinearContexts", "LinearThompson", "LipschitzContexts", "Log", "LossTable",
    "Plan", "Played", "Policy", "PosteriorSampling", "Problem", "Reactive", "Rounds", "SelfPlay", "SuccessiveElimination",
    "TabularContexts", "TaskDistribution", "Thompson", "UcbBwK", "Uniform", "World", "Zooming", "adversarial",
    "bernoulli_kl", "best_plan", "budgeted", "confounded", "contextual", "exploitability", "hedge_against_hedge",
    "lipschitz", "minimax", "minimax_floor", "offline", "on_interval", "play", "play_budgeted", "policies", "problems",
    "tent", "weighted_majority", "whom_to_serve",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
