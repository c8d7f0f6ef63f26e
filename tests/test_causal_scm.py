"""Structural models against hand calculation and sampling; confounded MDPs against brute-force enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from workbench.causal import worlds
from workbench.causal.env import ConfoundedEnv
from workbench.causal.scm import (
    Chance,
    ConfoundedMDP,
    Mechanism,
    Model,
    World,
    as_policy,
    confounded_mdp,
    distribution,
)
from workbench.permission import NotPermitted


def smoking() -> Model:
    """U -> X, U -> Y, X -> Y with numbers that give everything by hand."""
    return Model(
        {"U": 0.3, "N": 0.1},
        {
            "X": Mechanism(("U",), lambda u: u),
            "Y": Mechanism(("X", "U", "N"), lambda x, u, n: (x & (1 - u)) ^ n),
        },
    )


def test_seeing_and_doing_by_hand():
    model = smoking()
    assert model.joint("X") == pytest.approx([0.7, 0.3])
    assert model.mean("Y", {"X": 1}) == pytest.approx(0.1)  # X = 1 only where U = 1, so Y is N
    assert model.do({"X": 1}).mean("Y") == pytest.approx(0.7 * 0.9 + 0.3 * 0.1)
    assert model.conditional("Y", ["X"]) == pytest.approx(np.array([[0.9, 0.1], [0.9, 0.1]]))
    assert model.joint("X", "Y").sum() == pytest.approx(1)


def test_imagining_keeps_what_the_evidence_says_of_the_hidden_cause():
    model = smoking()
    assert model.imagine("Y", evidence={"X": 0}, actions={"X": 1})[1] == pytest.approx(0.9)  # U = 0 is known
    assert model.imagine("Y", evidence={"X": 0, "Y": 1}, actions={"X": 1})[1] == pytest.approx(0)  # and N = 1
    assert model.imagine("Y", evidence={}, actions={"X": 1})[1] == pytest.approx(model.do({"X": 1}).mean("Y"))
    policy = Chance((), [0.25, 0.75])
    assert model.imagine("Y", evidence={"X": 0}, actions={"X": policy})[1] == pytest.approx(0.25 * 0.1 + 0.75 * 0.9)


def test_consistency_doing_what_was_done_changes_nothing():
    """Composition (Pearl 2009, 7.3.1): imagining the action that was taken gives back what was seen."""
    for seed in range(20):
        model = worlds.random_problem(worlds.KUMOR["z between"], seed=seed).model
        for x1, x2 in itertools.product((0, 1), repeat=2):
            evidence = {"X1": x1, "X2": x2}
            assert model.imagine("Y", evidence=evidence, actions=evidence) == pytest.approx(model.joint("Y", given=evidence))


def test_a_table_is_reproduced_by_its_private_noise():
    table = np.random.default_rng(0).dirichlet(np.ones(3), size=(2, 4))
    model = Model({"A": 0.4, "B": [0.1, 0.2, 0.3, 0.4]}, {
        "P": Mechanism(("A",), lambda a: a), "Q": Mechanism(("B",), lambda b: b, 4), "Y": Chance(("P", "Q"), table),
    })  # fmt: skip
    assert model.conditional("Y", ["P", "Q"]) == pytest.approx(table)
    certain = Model({}, {"Y": Chance((), [0.0, 1.0, 0.0])})
    assert certain.joint("Y") == pytest.approx([0, 1, 0]) and len(certain.weights) == 1


def test_do_equals_the_truncated_product():
    """P(v | do x) is the product of all factors but that of X, for random models without hidden causes."""
    for seed in range(10):
        model = worlds.random_model([("A", "X"), ("A", "Y"), ("X", "Y")], [], "AXY", seed=seed)
        p_a, p_y = model.joint("A"), model.conditional("Y", ["A", "X"])
        for x in (0, 1):
            assert model.do({"X": x}).joint("A", "Y") == pytest.approx(p_a[:, None] * p_y[:, x])
        policy = np.array([[0.2, 0.8], [0.6, 0.4]])
        done = model.do({"X": Chance(("A",), policy)})
        assert done.joint("A", "X", "Y") == pytest.approx(p_a[:, None, None] * policy[:, :, None] * p_y)


def test_samples_follow_the_law_and_a_seed_fixes_them():
    model = worlds.tail_light().model
    drawn = model.sample(40_000, 3)
    seen = np.bincount(np.ravel_multi_index([drawn["Z"], drawn["X"], drawn["W"]], (2, 2, 2)), minlength=8) / 40_000
    assert np.abs(seen - model.joint("Z", "X", "W").ravel()).max() < 4.5 * np.sqrt(0.25 / 40_000)
    assert all(np.array_equal(drawn[name], model.sample(40_000, 3)[name]) for name in drawn)
    assert not np.array_equal(drawn["X"], model.sample(40_000, 4)["X"])


def test_a_learner_asks_only_what_it_may_and_sees_only_what_is_visible():
    model = worlds.car_horn().model
    world = World(model)
    assert set(world.see(10, seed=0)) == {"F", "B", "X", "Y"}
    with pytest.raises(NotPermitted, match=r"do\(X = 1\) needs permission to do"):
        world.do({"X": 1}, 10, seed=0)
    with pytest.raises(NotPermitted, match="imagine"):
        World(model, ("see", "do")).imagine("Y", evidence={"X": 0}, actions={"X": 1})
    acting = World(model, ("see", "do", "imagine"))
    assert (acting.do({"X": 1}, 50, seed=0)["X"] == 1).all()
    assert acting.imagine("Y", evidence={"X": 0, "Y": 1}, actions={"X": 1})[1] == pytest.approx(0)
    with pytest.raises(ValueError, match="the policy of X names 'S'"):
        acting.do({"X": Chance(("S",), np.eye(2))}, 5, seed=0)
    with pytest.raises(ValueError, match="imagine names 'S'"):
        acting.imagine("Y", evidence={"S": 0}, actions={"X": 1})


def test_edges_and_shared_causes():
    directed, shared = worlds.tail_light().model.edges()
    assert set(directed) == {("Z", "X"), ("Z", "Y"), ("X", "Y")}
    assert {frozenset(pair) for pair in shared} == {frozenset("WX"), frozenset("WY")}
    for graph in worlds.KUMOR.values():
        directed, shared = worlds.random_problem(graph, seed=0).model.edges()
        assert set(directed) == set(graph.directed)
        assert {frozenset(pair) for pair in shared} == {frozenset(pair) for pair in graph.bidirected}


def test_bad_models_are_refused_by_name():
    copy = Mechanism(("U",), lambda u: u)
    with pytest.raises(ValueError, match=r"U: not a distribution: a row sums to 1.1"):
        Model({"U": [0.5, 0.6]}, {})
    with pytest.raises(ValueError, match="Y: not a distribution"):
        Model({}, {"Y": Chance((), [1.2, -0.2])})
    with pytest.raises(ValueError, match="unknown name 'V' in the parents of X"):
        Model({"U": 0.5}, {"X": Mechanism(("V",), lambda v: v)})
    with pytest.raises(ValueError, match="circle through A, B"):
        Model({}, {"A": Mechanism(("B",), lambda b: b), "B": Mechanism(("A",), lambda a: a)})
    with pytest.raises(ValueError, match="X takes the values 0 to 2, but has size 2"):
        _ = Model({"U": 0.5}, {"X": Mechanism(("U",), lambda u: 2 * u)}).rows
    with pytest.raises(ValueError, match="U is both"):
        Model({"U": 0.5}, {"U": copy})
    with pytest.raises(ValueError, match="too many to enumerate"):
        Model({f"U{i}": 0.5 for i in range(23)}, {})
    with pytest.raises(ValueError, match="1 parents need a table of 2 axes"):
        Model({"U": 0.5}, {"X": Chance(("U",), [0.5, 0.5])})


def test_bad_questions_are_refused_by_name():
    model = smoking()
    with pytest.raises(ValueError, match="unknown name 'Q'"):
        model.joint("Q")
    with pytest.raises(ValueError, match="unknown name 'Q' in do"):
        model.do({"Q": 1})
    with pytest.raises(ValueError, match=r"do\(X = 2\): X has the values 0 to 1"):
        model.do({"X": 2})
    with pytest.raises(ValueError, match="a policy for X that sees .* needs a table"):
        model.do({"X": Chance(("Y",), np.ones((2, 3)) / 3)})
    with pytest.raises(ValueError, match="circle"):
        model.do({"X": Chance(("Y",), np.eye(2))})
    with pytest.raises(ValueError, match="the policy of X"):
        model.do({"X": Chance((), [np.nan, np.nan])})
    with pytest.raises(ValueError, match="X = 1, Y = 1 has probability 0"):
        Model({"U": 0.5}, {"X": Mechanism(("U",), lambda u: u), "Y": Mechanism(("U",), lambda u: 1 - u)}).joint(
            "X", given={"X": 1, "Y": 1}
        )


# Confounded MDPs


def brute(mdp: ConfoundedMDP, policy: np.ndarray | None, steps: int) -> float:
    """The value by unrolling distributions over (state) step by step; policy None: the expert."""
    at, value = mdp.start.copy(), 0.0
    for t in range(steps):
        new = np.zeros_like(at)
        for s, u in itertools.product(range(mdp.states), range(len(mdp.noise))):
            acts = mdp.choice[s, u] if policy is None else policy[s]
            for x in range(mdp.actions):
                chance = at[s] * mdp.noise[u] * acts[x]
                value += chance * mdp.discount**t * mdp.mean_reward[s, x, u]
                new += chance * mdp.kernel[s, x, u]
        at = new
    return (1 - mdp.discount) * value


def test_values_and_occupancies_equal_unrolling():
    for seed in range(5):
        mdp = worlds.random_mdp(3, 2, 3, seed=seed, discount=0.6)
        policy = np.random.default_rng(seed).dirichlet(np.ones(2), 3)
        assert mdp.value(policy) == pytest.approx(brute(mdp, policy, 60), abs=1e-12)
        assert mdp.observed.expert_value == pytest.approx(brute(mdp, None, 60), abs=1e-12)
        assert mdp.occupancy(policy).sum() == pytest.approx(1)
        assert mdp.observed.occupancy.sum() == pytest.approx(1)


def test_many_mdps_at_once_equal_one_by_one():
    stack = worlds.random_mdp(3, 2, 3, seed=1, count=4)
    policy = np.array([0, 1, 1])
    for i in range(4):
        one = ConfoundedMDP(stack.noise[i], stack.choice[i], stack.kernel[i], stack.mean_reward[i], stack.start[i], 0.9)
        assert one.value(policy) == pytest.approx(stack.value(policy)[i], abs=1e-12)
        for ours, theirs in zip(one.observed[:4], stack.observed[:4]):
            assert ours == pytest.approx(theirs[i], abs=1e-12)


def test_demonstrations_and_rollouts_follow_the_exact_laws():
    mdp = worlds.two_state("both")
    seen, done = mdp.demonstrations(4000, 5, seed=0), mdp.rollouts(np.array([1, 1]), 4000, 5, seed=0)
    s, x, t = seen.states[:, :-1].ravel(), seen.actions.ravel(), seen.states[:, 1:].ravel()
    for state, action in itertools.product((0, 1), repeat=2):
        here = s == state
        joint = np.mean((x == action)[here] & (t == 1)[here])
        assert joint == pytest.approx(mdp.observed.joint[state, action, 1], abs=4.5 / np.sqrt(4 * here.sum()))
    here = done.states[:, :-1].ravel() == 0
    moved = np.mean(done.states[:, 1:].ravel()[here])
    assert moved == pytest.approx(mdp.transitions[0, 1, 1], abs=4.5 / np.sqrt(4 * here.sum()))
    assert np.mean(done.rewards.ravel()[here]) == pytest.approx(mdp.rewards[0, 1], abs=4.5 / np.sqrt(4 * here.sum()))
    assert np.array_equal(seen.actions, mdp.demonstrations(4000, 5, seed=0).actions)


def test_the_environment_passes_gymnasium_and_follows_the_laws():
    from gymnasium.utils.env_checker import check_env

    mdp = worlds.two_state("transition only")
    check_env(ConfoundedEnv(mdp), skip_render_check=True)
    env = ConfoundedEnv(mdp, steps=20_000, debug=True)
    state, _ = env.reset(seed=1)
    counts = np.zeros((2, 2))  # [state, expert's action]
    for _ in range(8000):
        new, reward, terminated, _, info = env.expert_step()
        counts[state, info["action"]] += 1
        assert info["action"] == info["hidden"] // 4  # U is the first of three binary causes
        assert reward == state and not terminated
        state = new
    assert counts[:, 1] / counts.sum(1) == pytest.approx(mdp.observed.expert[:, 1], abs=0.03)
    assert env.step(1)[4]["action"] == 1


def test_the_environment_truncates_refuses_and_repeats():
    mdp = worlds.two_state("none")
    env = ConfoundedEnv(mdp, steps=2, allow=("see",))
    with pytest.raises(ValueError, match="call reset"):
        env.expert_step()
    env.reset(seed=5)
    assert [env.expert_step()[3] for _ in range(2)] == [False, True]
    assert "hidden" not in env.expert_step()[4]
    with pytest.raises(NotPermitted, match=r"step\(1\) needs permission to do"):
        env.step(1)
    with pytest.raises(NotPermitted, match="see"):
        ConfoundedEnv(mdp, allow=("do",)).expert_step()
    with pytest.raises(ValueError, match="from 0 to 1"):
        ConfoundedEnv(mdp).step(2)
    with pytest.raises(ValueError, match="one MDP at a time"):
        ConfoundedEnv(worlds.random_mdp(2, 2, 2, seed=0, count=3))
    runs = []
    for _ in range(2):
        env.reset(seed=9)
        runs.append([env.expert_step()[:2] for _ in range(2)])
    assert runs[0] == runs[1]


def test_structure_says_what_is_confounded():
    shared = [worlds.two_state(case).confounded for case in worlds.TWO_STATE]
    assert shared == [(True, True), (True, True), (True, False), (False, True), (False, False), (False, False)]


def test_bad_mdps_are_refused_by_name():
    good = worlds.random_mdp(2, 2, 2, seed=0)
    parts = {name: getattr(good, name) for name in ("noise", "choice", "kernel", "mean_reward", "start", "discount")}
    for name, value, message in (
        ("noise", [0.5, 0.6], "the hidden cause U: not a distribution"),
        ("choice", good.choice * 2, "the expert's action X: not a distribution"),
        ("kernel", good.kernel * 0.9, "the next state S': not a distribution"),
        ("start", [1.0, 1.0], "the first state: not a distribution"),
        ("mean_reward", good.mean_reward + 1, "the reward Y goes from"),
        ("discount", 1.0, "discount must be at least 0 and below 1"),
        ("choice", np.ones((3, 2, 2)) / 2, r"choice must have shape \(2, 2, 2\)"),
    ):
        with pytest.raises(ValueError, match=message):
            ConfoundedMDP(**{**parts, name: value})
    move = Mechanism(("S", "X"), lambda s, x: s ^ x)
    with pytest.raises(ValueError, match="unknown name 'V' in the parents of the expert"):
        confounded_mdp({"U": 0.5}, expert=Mechanism(("V",), lambda v: v), move=move, reward=move, discount=0.9)
    with pytest.raises(ValueError, match="the expert gives 0 to 2, but has size 2"):
        confounded_mdp({"U": 0.5}, expert=Mechanism(("U",), lambda u: 2 * u), move=move, reward=move, discount=0.9)


def test_bad_policies_and_distributions_are_refused():
    mdp = worlds.two_state("both")
    with pytest.raises(ValueError, match="actions must be 0 to 1, not 0 to 2"):
        mdp.value(np.array([0, 2]))
    with pytest.raises(ValueError, match="not shape"):
        mdp.value(np.array([[0.5, 0.5]]))
    with pytest.raises(ValueError, match="the policy: not a distribution"):
        as_policy(np.array([[0.5, 0.4], [1.0, 0.0]]), 2, 2)
    with pytest.raises(ValueError, match="finite"):
        distribution([np.nan, 1.0], "Y")
