"""Cloning with certificates, and imitation by way of a surrogate, against enumeration."""

from __future__ import annotations

import numpy as np
import pytest

from workbench import seeding
from workbench.causal import graph as g
from workbench.causal import imitation, worlds
from workbench.causal.tables import random_tables


def given(problem: worlds.Problem):
    names = problem.order or problem.model.observed
    return g.of_model(problem.model, problem.order), problem.model.joint(*names), names


def test_tail_light_is_cloned_exactly_with_a_certificate_and_badly_without_one():
    light = worlds.tail_light()
    graph = g.of_model(light.model)
    names = light.model.observed
    seen = light.model.joint(*names)
    made = imitation.causal_cloning(graph, seen, names, "Y", ["X"])
    assert made.policies["X"].parents == ("Z",) and made.certificate.proved and made.certificate.value == 0
    assert light.value(made.policies) == pytest.approx(0.4712, abs=1e-12)
    worse = imitation.behaviour_cloning(graph, seen, names, "Y", {"X": ("Z", "W")})
    assert light.value(worse.policies) == pytest.approx(0.290864, abs=1e-6)
    assert not worse.certificate.proved and "W is a collider" in worse.certificate.reason
    assert str(worse).startswith("no certificate: ")


@pytest.mark.parametrize("name", worlds.KUMOR)
def test_random_models_of_the_table_of_graphs_are_cloned_exactly_or_refused(name):
    known = worlds.KUMOR[name]
    graph = g.Diagram(known.directed, known.bidirected, known.order)
    for seed in range(5):
        model = random_tables(graph, seed=seed)
        seen = model.joint(*known.order)
        if known.sets is None:
            with pytest.raises(imitation.NotImitable, match="refused: nothing that X") as refused:
                imitation.causal_cloning(graph, seen, known.order, "Y", known.actions)
            assert refused.value.verdict.path is not None
            everything = {action: graph.before(action) for action in known.actions}
            made = imitation.behaviour_cloning(graph, seen, known.order, "Y", everything)
            assert not made.certificate.proved
            continue
        made = imitation.causal_cloning(graph, seen, known.order, "Y", known.actions)
        acted = model.do({a: (policy.parents, policy.table) for a, policy in made.policies.items()})
        assert acted.joint("Y") == pytest.approx(model.joint("Y"), abs=1e-12)
        assert made.certificate.proved


def test_nobody_gets_a_certificate_where_an_expert_cannot_be_imitated():
    for problem in (worlds.xor_bandit(0.5), worlds.car_horn(), worlds.two_parities()):
        graph, seen, names = given(problem)
        with pytest.raises(imitation.NotImitable):
            imitation.causal_cloning(graph, seen, names, "Y", problem.actions)
        made = imitation.behaviour_cloning(graph, seen, names, "Y", {a: graph.before(a) for a in problem.actions})
        assert not made.certificate.proved and made.certificate.value is None
        assert problem.value(made.policies) == pytest.approx(0.5, abs=1e-12) and problem.expert_value == 1


def test_front_door_digits_are_imitated_through_their_surrogate():
    digits = worlds.front_door_digits()
    graph, seen, names = given(digits)
    (instrument,) = g.instruments(graph, "X", "Y")
    made = imitation.through_surrogate(seen, names, instrument)
    assert made.policies["X"].table == pytest.approx([0, 1], abs=1e-9) and made.certificate.proved
    assert digits.value(made.policies) == pytest.approx(0.756, abs=1e-9)
    plain = imitation.behaviour_cloning(graph, seen, names, "Y", {"X": ()})
    assert digits.value(plain.policies) == pytest.approx(0.66384, abs=1e-9) and not plain.certificate.proved


def test_a_surrogate_imitates_exactly_whenever_it_certifies_and_the_rest_is_refused():
    """Random models of front-door graphs with a covariate: some experts can be matched, some not; the certificate knows."""
    graph = g.diagram("Z->X X->W Z->W W->S S->Y X<->S", "Z X W S Y")
    kinds = {True: 0, False: 0}
    for seed in range(30):
        model = random_tables(graph, seed=seed)
        seen = model.joint(*graph.order)
        for instrument in g.instruments(graph, "X", "Y"):
            made = imitation.through_surrogate(seen, graph.order, instrument)
            policy = made.policies["X"]
            acted = model.do({"X": (policy.parents, policy.table)})
            kinds[made.certificate.proved] += 1
            if made.certificate.proved:
                assert acted.joint("Y") == pytest.approx(model.joint("Y"), abs=1e-8)
            else:
                surrogate = sorted(instrument.surrogate)
                assert abs(acted.joint(*surrogate) - model.joint(*surrogate)).max() > 1e-8
    assert min(kinds.values()) >= 5, kinds


def test_a_surrogate_that_is_looked_at_or_acted_on_counts_once():
    """Without a hidden cause the pair (Z, X) is a surrogate: matching its distribution is copying P(x | z)."""
    graph = g.diagram("Z->X Z->Y X->Y", "Z X Y")
    model = random_tables(graph, seed=0)
    seen = model.joint("Z", "X", "Y")
    instrument = next(i for i in g.instruments(graph, "X", "Y") if i.looks_at == ("Z",) and i.surrogate == {"Z", "X"})
    made = imitation.through_surrogate(seen, ("Z", "X", "Y"), instrument)
    assert made.certificate.proved
    assert made.policies["X"].table == pytest.approx(model.conditional("X", ("Z",)), abs=1e-9)


def test_copied_tables_are_conditionals_and_uniform_where_nothing_was_seen():
    rng = seeding.generator(0, "copied")
    seen = rng.dirichlet(np.ones(12)).reshape(2, 3, 2)
    seen[1, 2] = 0
    seen /= seen.sum()
    table = imitation.copied(seen, ("A", "B", "X"), "X", ("B", "A")).table
    assert table[2, 1] == pytest.approx([0.5, 0.5])
    assert table[0, 1] == pytest.approx(seen[1, 0] / seen[1, 0].sum())
    with pytest.raises(ValueError, match="unknown name 'Q'"):
        imitation.copied(seen, ("A", "B", "X"), "X", ("Q",))
    with pytest.raises(ValueError, match="X cannot look at itself"):
        imitation.copied(seen, ("A", "B", "X"), "X", ("X",))
    with pytest.raises(ValueError, match="3 axes does not fit"):
        imitation.copied(seen, ("A", "X"), "X", ())
    with pytest.raises(ValueError, match="what is seen"):
        imitation.copied(2 * seen, ("A", "B", "X"), "X", ())


def test_a_certificate_cannot_claim_more_than_its_number():
    with pytest.raises(ValueError, match=r"nothing is proved while the expert may lead by 0\.1"):
        imitation.Certificate(True, (), "because", 0.1)
    assert "the expert leads by at most 0.5" in str(imitation.Certificate(False, (), "because", 0.5))
