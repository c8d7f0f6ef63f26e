"""Worlds in which an expert sees what a learner does not. Everything about them can be worked out exactly.

Single decisions and short sequences are `Problem`s around a structural model; longer ones are `ConfoundedMDP`s. What was
taken from a paper is cited where it stands; the rest is ours, made small enough to enumerate.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from workbench import seeding
from workbench.causal.graph import Diagram, of_model
from workbench.causal.scm import Chance, ConfoundedMDP, Mechanism, Model, confounded_mdp

_POLICIES = 2**16  # deterministic policies that are tried at most


@dataclass(frozen=True)
class Problem:
    """Decisions to imitate in a structural model.

    Attributes:
        model: the world while the expert acts. actions: the decisions, in the order they are taken. outcome: its mean is
            the value. order: the observed variables as they happen in time; the model's causal order if empty.
    """

    name: str
    model: Model
    actions: tuple[str, ...] = ("X",)
    outcome: str = "Y"
    order: tuple[str, ...] = ()

    @property
    def expert_value(self) -> float:
        """E[outcome] while the expert acts."""
        return self.model.mean(self.outcome)

    @property
    def diagram(self) -> Diagram:
        """What the model's structure says: arrows, shared hidden causes, the order in time."""
        return of_model(self.model, self.order or self.model.observed)

    def before(self, action: str) -> tuple[str, ...]:
        """The observed variables that happen before `action`."""
        order = self.order or self.model.observed
        if action not in self.actions:
            raise ValueError(f"unknown action {action!r}; {self.name} has {', '.join(self.actions)}")
        return tuple(name for name in order[: order.index(action)] if name in self.model.observed)

    def value(self, policies: Mapping[str, int | Chance]) -> float:
        """E[outcome] when each action in `policies` is taken by its policy, and the expert keeps the others."""
        return self.model.do(policies).mean(self.outcome)

    def best(self, scopes: Mapping[str, Sequence[str]]) -> tuple[float, dict[str, Chance]]:
        """The best value and policies that look at `scopes` only, by trying all deterministic ones (one of them is best
        where each decision remembers what the earlier ones saw). Raises ValueError where there are too many to try."""
        sizes = {action: self.model.size(action) for action in scopes}
        shapes = {action: tuple(self.model.size(name) for name in scope) for action, scope in scopes.items()}
        total = int(np.prod([float(sizes[a]) ** int(np.prod(shapes[a])) for a in scopes]))
        if total > _POLICIES:
            raise ValueError(f"{total} deterministic policies for {', '.join(scopes)} are too many to try ({_POLICIES} at most)")
        choices = [itertools.product(range(sizes[a]), repeat=int(np.prod(shapes[a]))) for a in scopes]
        found: tuple[float, dict[str, Chance]] = (-np.inf, {})
        for picks in itertools.product(*choices):
            policies = {
                a: Chance(tuple(scopes[a]), np.eye(sizes[a])[np.reshape(pick, shapes[a]).astype(int)])
                for a, pick in zip(scopes, picks)
            }
            if (value := self.value(policies)) > found[0] + 1e-15:
                found = value, policies
        return found


def _xor(*parts: np.ndarray) -> np.ndarray:
    return np.bitwise_xor.reduce(np.broadcast_arrays(*parts))


# One decision


def xor_bandit(p: float = 0.5) -> Problem:
    """Two arms; the expert plays the one that loses against a hidden coin U ~ B(p), and Y = X xor U: it always wins.

    Nobody who does not see the coin wins more than max(p, 1 - p) of the time.
    """
    return Problem(
        "xor bandit",
        Model({"U": p}, {"X": Mechanism(("U",), lambda u: 1 - u), "Y": Mechanism(("X", "U"), np.bitwise_xor)}),
    )


def greedy_casino() -> Problem:
    """Two machines that know whether one is drunk (D) and which of them blinks (B); X = B xor D is one's intuition.

    Payoffs (Bareinboim, Forney and Pearl 2015, "Bandits with unobserved confounders"): seeing pays 0.15, randomising 0.30,
    playing against one's intuition 0.45.
    """
    tenths = np.array([[[1, 5], [4, 2]], [[5, 1], [2, 4]]])  # [X, B, D]
    return Problem(
        "greedy casino",
        Model(
            {"B": 0.5, "D": 0.5, "N": np.full(10, 0.1)},
            {
                "X": Mechanism(("B", "D"), np.bitwise_xor),
                "Y": Mechanism(("X", "B", "D", "N"), lambda x, b, d, n: n < tenths[x, b, d]),
            },
        ),
    )


def tail_light(*, strong: bool = False) -> Problem:
    """Z is the gap ahead; the expert reacts to a tail light L that the learner does not see; W, seen by both, depends on L and
    on a hidden road condition U that decides the outcome. Copying with Z is exact, copying with Z and W is not.

    The graph is that of Zhang, Kumor and Bareinboim (2020, figure 1 d); the numbers are ours. `strong`: another reward,
    where the best policy beats the expert.
    """
    if strong:
        return Problem(
            "tail light, strong",
            Model(
                {"L": 0.3, "U": 0.3, "V": 0.5},
                {
                    "Z": Mechanism(("V",), lambda v: v),
                    "W": Mechanism(("L", "U"), np.bitwise_or),
                    "X": Mechanism(("L",), lambda light: light),
                    "Y": Mechanism(("Z", "X", "U"), lambda z, x, u: np.where(z == 0, x ^ u, 1 - (x & u))),
                },
            ),
        )
    return Problem(
        "tail light",
        Model(
            {"L": 0.62, "U": 0.62, "V": 0.5},
            {
                "Z": Mechanism(("V",), lambda v: v),
                "W": Mechanism(("L", "U"), np.bitwise_and),
                "X": Mechanism(("L", "Z"), np.bitwise_xor),
                "Y": Mechanism(("U", "X", "Z"), _xor),
            },
        ),
    )


def front_door_digits() -> Problem:
    """The expert sees a digit U (0 or 1), mostly does X = U; W is what X shows, S whether W differs from U, Y = not S.

    The experiment with handwritten digits of Zhang, Kumor and Bareinboim (2020), each image replaced by its digit. No
    covariate is observed, so cloning copies P(x); but the surrogate S tells a policy that imitates: always 1.
    """
    return Problem(
        "front-door digits",
        Model(
            {"U": 0.9, "A": 0.9, "B": 0.9, "C": 0.9},
            {
                "X": Mechanism(("U", "A"), lambda u, a: 1 - (u ^ a)),
                "W": Mechanism(("X", "B"), lambda x, b: 1 - (x ^ b)),
                "S": Mechanism(("W", "U", "C"), lambda w, u, c: 1 - (c ^ (w ^ u))),
                "Y": Mechanism(("S",), lambda s: 1 - s),
            },
        ),
    )


def car_horn() -> Problem:
    """Front, back and side of a car are free or not (F, B, S); the expert looks at all three, a learner with two mirrors at F
    and B. Without S no policy does better than a coin (Kumor, Zhang and Bareinboim 2021)."""
    return Problem(
        "car horn",
        Model(
            {"U_f": 0.5, "U_b": 0.5, "U_s": 0.5},
            {
                "F": Mechanism(("U_f",), lambda u: u),
                "B": Mechanism(("U_b",), lambda u: u),
                "S": Mechanism(("U_s",), lambda u: u),
                "X": Mechanism(("F", "B", "S"), _xor),
                "Y": Mechanism(("X", "F", "B", "S"), lambda x, f, b, s: 1 - (x ^ f ^ b ^ s)),
            },
            hidden=("S",),
        ),
    )


def highway() -> Problem:
    """A car ahead, at a short, medium or long gap (Z), shows its tail light (L) to the expert, not to a learner.

    X keeps the lane, changes it, or brakes; braking is good on a dry road and bad on a wet one (U, hidden), keeping the
    other way round. A car behind flashes (W) mostly when both the light is on and the road wet. Y: passed safely. The graph
    of `tail_light`, told in full; the numbers are ours. Z alone is admissible, Z and W together are not.
    """
    dry = [[0.1, 0.5, 0.95], [0.5, 0.7, 0.95], [0.9, 0.8, 0.95]]  # [Z, X]
    wet = [[0.8, 0.6, 0.1], [0.9, 0.7, 0.1], [0.95, 0.8, 0.1]]
    safe = np.stack([dry, wet], axis=-1)  # [Z, X, U]
    flash = np.where(np.array([[0, 0], [0, 1]], bool), 0.95, 0.05)  # [L, U]
    return Problem(
        "highway",
        Model(
            {"L": 0.5, "U": 0.5},
            {
                "Z": Chance((), [0.4, 0.4, 0.2]),
                "W": Chance(("L", "U"), np.stack([1 - flash, flash], -1)),
                "X": Mechanism(("Z", "L"), lambda z, light: np.where(light == 1, np.where(z < 2, 2, 1), 0), 3),
                "Y": Chance(("Z", "X", "U"), np.stack([1 - safe, safe], -1)),
            },
        ),
        order=("Z", "W", "X", "Y"),
    )


# Two decisions


def two_parities() -> Problem:
    """X1 := U1, Z := U1 xor U2, X2 := Z, Y := not(X1 xor X2 xor U2): the witness that graph "x1 z x2, outcome confounded" is not
    imitable (Kumor, Zhang and Bareinboim 2021). The expert always wins, the best imitator half of the time."""
    return Problem(
        "two parities",
        Model(
            {"U1": 0.5, "U2": 0.5},
            {
                "X1": Mechanism(("U1",), lambda u: u),
                "Z": Mechanism(("U1", "U2"), np.bitwise_xor),
                "X2": Mechanism(("Z",), lambda z: z),
                "Y": Mechanism(("X1", "X2", "U2"), lambda a, b, u: 1 - (a ^ b ^ u)),
            },
        ),
        ("X1", "X2"),
    )


def four_causes() -> Problem:
    """Two decisions and four hidden causes. U3 is shared by Z0 and Y, so copying with {} and {X0, Z1} is a little wrong (.428896
    instead of .4352), although it looks admissible on a graph that forgets a shared cause.

    The mechanisms are those of a public exercise on causal imitation by the causal AI lab at Columbia.
    """
    return Problem(
        "four causes",
        Model(
            {"U1": 0.8, "U2": 0.8, "U3": 0.2, "U4": 0.1, "V": 0.68},
            {
                "X0": Mechanism(("V",), lambda v: v),
                "Z0": Mechanism(("U1", "U3"), np.bitwise_xor),
                "Z1": Mechanism(("Z0", "U2", "U4"), _xor),
                "X1": Mechanism(("U2", "Z1"), np.bitwise_xor),
                "Y": Mechanism(("X0", "X1", "Z0", "Z1", "U3"), lambda *v: 1 - _xor(*v)),
            },
        ),
        ("X0", "X1"),
        order=("Z0", "X0", "Z1", "X1", "Y"),
    )


@dataclass(frozen=True)
class Graph:
    """A diagram with its temporal order, and what the sequential criterion says of it.

    Attributes:
        sets: the smallest admissible sets, one for each action; None if not imitable.
    """

    directed: tuple[tuple[str, str], ...]
    bidirected: tuple[tuple[str, str], ...]
    order: tuple[str, ...]
    actions: tuple[str, ...]
    sets: tuple[frozenset[str], ...] | None

    @property
    def diagram(self) -> Diagram:
        """The same as a `Diagram`."""
        return Diagram(self.directed, self.bidirected, self.order)


def _graph(arrows: str, order: str, *sets: str) -> Graph:
    directed: list[tuple[str, str]] = []
    bidirected: list[tuple[str, str]] = []
    for arrow in arrows.split():
        tail, head = arrow.split("<->" if "<->" in arrow else "->")
        (bidirected if "<->" in arrow else directed).append((tail, head))
    names = tuple(order.split())
    actions = tuple(name for name in names if name.startswith("X"))
    answer = tuple(frozenset(found.split()) for found in sets) if sets else None
    return Graph(tuple(directed), tuple(bidirected), names, actions, answer)


_ZX1_WX2 = "Z<->X1 X1->W W->X2 X2->Y Z->Y"
_CHAIN = "X1<->Z Z->W W->X2 X2->Y X1->Y W<->Y"
KUMOR = {
    "z must not enter": _graph("X1->X2 X2->Y Y<->Z X1<->Z Z<->X2", "Z X1 X2 Y", "", ""),
    "z first": _graph("X1->X2 X2->Y Z->Y Z<->X1", "Z X1 X2 Y", "", "Z"),
    "z between": _graph("X1->X2 X2->Y Z->Y Z<->X1", "X1 Z X2 Y", "", "Z"),
    "outcome confounded": _graph("X1<->Z Z->X2 X2->Y X1->Y Z<->Y", "X1 Z X2 Y"),
    "actions confounded": _graph("X1->X2 X2->Y X1->Y X1<->X2", "X1 X2 Y", "", "X1"),
    "z before x2": _graph(_ZX1_WX2, "X1 W Z X2 Y", "", "Z"),
    "z after x2": _graph(_ZX1_WX2, "X1 W X2 Z Y"),
    "z before x1": _graph(_CHAIN, "Z X1 W X2 Y", "Z", "W"),
    "z after x1": _graph(_CHAIN, "X1 Z W X2 Y"),
    "mediator confounded": _graph("X->Z Z->Y X->Y X<->Z", "X Z Y"),
}
"""The graphs of Kumor, Zhang and Bareinboim (2021), with smallest sets checked there and by brute force here."""


def random_model(
    directed: Sequence[tuple[str, str]],
    bidirected: Sequence[tuple[str, str]],
    order: Sequence[str],
    *,
    seed: int,
    values: int = 2,
) -> Model:
    """A random model of a graph: each two-headed arrow is a hidden cause, each distribution is uniform over all of them.

    Raises ValueError for an arrow to or from a name that `order` does not have, and for a circle.
    """
    rng = seeding.generator(seed, "random model")
    causes = {f"U_{a}{b}": rng.dirichlet(np.ones(values)) for a, b in bidirected}
    mechanisms: dict[str, Mechanism | Chance] = {}
    for edge in (*directed, *bidirected):
        for end in edge:
            if end not in order:
                raise ValueError(f"unknown name {end!r} in the arrow {edge[0]} to {edge[1]}; there are {', '.join(order)}")
    for name in order:
        parents = [a for a, b in directed if b == name] + [f"U_{a}{b}" for a, b in bidirected if name in (a, b)]
        mechanisms[name] = Chance(tuple(parents), rng.dirichlet(np.ones(values), size=[values] * len(parents)))
    return Model(causes, mechanisms)


def random_problem(graph: Graph, *, seed: int) -> Problem:
    """A random binary model of one of the graphs in `KUMOR`, or of any other `Graph`."""
    return Problem(
        "random",
        random_model(graph.directed, graph.bidirected, graph.order, seed=seed),
        graph.actions,
        graph.order[-1],
        graph.order,
    )


# Many decisions


def confounded_chain(n: int = 3, p: float = 0.9, discount: float = 0.9) -> ConfoundedMDP:
    """States 0 to n; a step goes forward if the action matches a hidden coin U ~ B(p), which the expert sees, else back.

    State n is the end and pays 1 for ever, so that the value is E discount^(steps to n); the expert needs n. There it always
    plays 1, so nobody wonders whether the end can be left. Ours.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}")

    def move(s: np.ndarray, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        return np.where(s == n, n, np.where(x == u, s + 1, np.maximum(s - 1, 0)))

    return confounded_mdp(
        {"U": p},
        expert=Mechanism(("S", "U"), lambda s, u: np.where(s == n, 1, u)),
        move=Mechanism(("S", "X", "U"), move, n + 1),
        reward=Mechanism(("S",), lambda s: s == n),
        discount=discount,
        start=np.eye(n + 1)[0],
        name="confounded chain",
    )


def chain_support(n: int) -> np.ndarray:
    """What is physically possible in `confounded_chain`: one state forward or back, boolean [S,1,S]."""
    s = np.arange(n + 1)
    near = (s == np.minimum(s[:, None] + 1, n)) | (s == np.maximum(s[:, None] - 1, 0))
    near[n] = s == n
    return near[:, None]


def _two_state(name: str, noise: dict[str, float], expert: Mechanism, move: Mechanism, reward: Mechanism) -> ConfoundedMDP:
    return confounded_mdp(noise, expert=expert, move=move, reward=reward, discount=0.9, name=name)


TWO_STATE = ("both", "both, flipped", "transition only", "reward only", "none", "deterministic expert")


def two_state(case: str) -> ConfoundedMDP:
    """Two states, two actions, and a hidden cause that confounds what the case says; see `TWO_STATE` for the names.

    "both" is example 7.2 of Bareinboim's book on causal reinforcement learning; the others are ours.
    Raises ValueError for an unknown case.
    """
    if case in ("both", "both, flipped"):
        flip = int(case != "both")
        return _two_state(
            case,
            {"U1": 0.9, "U2": 0.1, "U3": 0.1},
            Mechanism(("S", "U1"), lambda s, u: s ^ u ^ flip),
            Mechanism(("S", "X", "U1", "U2"), lambda s, x, u, v: (u ^ v) ^ (s | x)),
            Mechanism(("S", "X", "U1", "U3"), _xor),
        )
    if case == "reward only":
        return _two_state(
            case,
            {"U": 0.8, "N": 0.2, "M": 0.1},
            Mechanism(("U",), lambda u: u),
            Mechanism(("S", "X", "N"), _xor),
            Mechanism(("X", "U", "M"), lambda x, u, m: 1 - (x ^ u ^ m)),
        )
    experts = {
        "transition only": Mechanism(("U",), lambda u: u),
        "none": Mechanism(("V",), lambda v: v),
        "deterministic expert": Mechanism((), lambda: 1),
    }
    if case not in experts:
        raise ValueError(f"unknown case {case!r}; there are {', '.join(TWO_STATE)}")
    return _two_state(
        case,
        {"U": 0.8, "N": 0.1, "V": 0.8},
        experts[case],
        Mechanism(("X", "U", "N"), lambda x, u, n: 1 - (x ^ u ^ n)),
        Mechanism(("S",), lambda s: s),
    )


def bandit_mdp(problem: Problem) -> ConfoundedMDP:
    """A problem with one action and no covariates as an MDP with one state and discount 0, for planners and games."""
    model, (action,) = problem.model, problem.actions
    size, rows, weights = model.size(action), model.rows, model.weights
    pays = np.stack([model._done({action: x}).rows[problem.outcome] for x in range(size)])  # [X, rows]
    return ConfoundedMDP(
        weights,
        np.eye(size)[rows[action]][None],
        np.ones((1, size, len(weights), 1)),
        pays[None].astype(float),
        np.ones(1),
        0.0,
        high=float(model.size(problem.outcome) - 1),
        confounded=(False, True),
        name=problem.name,
    )


def random_mdp(
    states: int, actions: int, noise: int, *, seed: int, count: int | None = None, discount: float = 0.9
) -> ConfoundedMDP:
    """A random confounded MDP, or `count` of them stacked on a leading axis: every distribution is drawn uniformly, rewards
    from 0 to 1. The expert's choice depends on the hidden cause of both transition and reward."""
    rng = seeding.generator(seed, "random mdp")
    lead = () if count is None else (count,)

    def uniform(*shape: int) -> np.ndarray:
        return rng.dirichlet(np.ones(shape[-1]), size=(*lead, *shape[:-1]))

    return ConfoundedMDP(
        uniform(noise),
        uniform(states, noise, actions),
        uniform(states, actions, noise, states),
        rng.random((*lead, states, actions, noise)),
        uniform(states),
        discount,
        name="random mdp",
    )


def leader_follower(steps: int = 3) -> Problem:
    """A car follows another and sees the gap S0, S1, ... (0 to 4); X brakes, holds or accelerates (0, 1, 2).

    The expert also sees the leader's lights, which tell its last change of speed A: hidden, but the gap has already felt it.
    The closing speed carries over, so S[t+1] depends on S[t] and on S[t-1]. Y counts the gaps from 1 to 3 among the last
    `steps`. Copying X given the gap alone mixes up why it is what it is; given (S[t], X[t-1], S[t-1]) copying is exact.
    Ours, in the manner of the highway task of Ruan and Di (2022). Raises ValueError for `steps` outside 1 to 4.
    """
    if not 1 <= steps <= 4:
        raise ValueError(f"steps must be 1 to 4, not {steps}: every value of the hidden causes is enumerated")

    def gap(now: np.ndarray, before: np.ndarray, x: np.ndarray, a: np.ndarray) -> np.ndarray:
        return np.clip(now + np.clip(now - before, -2, 2) + (1 - x) + (a - 1), 0, 4)

    def drive(s: np.ndarray, a: np.ndarray) -> np.ndarray:
        return np.where(s == 0, 0, np.where(s == 4, 2, a))

    changes = {f"A{t}": np.array([0.2, 0.6, 0.2]) for t in range(1, steps + 2)}
    mechanisms: dict[str, Mechanism | Chance] = {
        "S0": Chance((), np.full(5, 0.2)),
        "S1": Mechanism(("S0", "A1"), lambda s, a: np.clip(s + a - 1, 0, 4), 5),
    }
    for t in range(1, steps + 1):
        mechanisms[f"X{t}"] = Mechanism((f"S{t}", f"A{t}"), drive, 3)
        mechanisms[f"S{t + 1}"] = Mechanism((f"S{t}", f"S{t - 1}", f"X{t}", f"A{t + 1}"), gap, 5)
    last = tuple(f"S{t + 1}" for t in range(1, steps + 1))
    mechanisms["Y"] = Mechanism(last, lambda *s: sum(((g >= 1) & (g <= 3)).astype(int) for g in s), steps + 1)
    return Problem("leader and follower", Model(changes, mechanisms), tuple(f"X{t}" for t in range(1, steps + 1)))


def clinic(discount: float = 0.9) -> ConfoundedMDP:
    """Patients are well, mild, severe or critical (0 to 3); a physician waits, gives a drug, or a strong drug (0, 1, 2).

    The physician sees frailty F, which the record does not have. The strong drug heals the robust and harms the frail, and
    is mostly given to the robust: in the record it looks best. Reward: 1 - severity / 3, which nothing hidden enters. Ours.
    """
    # chances to get better by one, and to get worse by one, for the robust and the frail [F, X]
    better = np.array([[0.15, 0.4, 0.6], [0.1, 0.4, 0.1]])
    worse = np.array([[0.25, 0.1, 0.1], [0.4, 0.1, 0.7]])
    choice = np.array([[0.05, 0.35, 0.6], [0.1, 0.85, 0.05]])  # [F, X]
    kernel = np.zeros((4, 3, 2, 4))
    for s, x, f in itertools.product(range(4), range(3), range(2)):
        stays = 1 - better[f, x] - worse[f, x]
        np.add.at(kernel[s, x, f], [max(s - 1, 0), min(s + 1, 3), s], [better[f, x], worse[f, x], stays])
    return ConfoundedMDP(
        np.array([0.5, 0.5]),
        np.broadcast_to(choice, (4, 2, 3)),
        kernel,
        np.broadcast_to(1 - np.arange(4)[:, None, None] / 3, (4, 3, 2)),
        np.array([0, 0.4, 0.4, 0.2]),
        discount,
        confounded=(True, False),
        name="clinic",
    )
