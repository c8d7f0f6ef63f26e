"""Weights for what something else than the policy sampled: the bias is within the bound that the limit implies, exactly."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch

import workbench as wb
from workbench import models, objective, recipes, sample
from workbench.batch import Batch, Dialogue, Segment
from workbench.objective import Correction, exact

LOGITS = torch.tensor([[0.55, 0.40, 0.05], [0.30, 0.66, 0.04]], dtype=torch.float64).log()
SAMPLER = torch.tensor([[0.40, 0.578, 0.022], [0.42, 0.565, 0.015]], dtype=torch.float64).log()  # ratios .7 to 2.7
MEANS = torch.tensor([[0.9, 0.5, 0.1], [0.1, 0.3, 0.8]], dtype=torch.float64)
CORRECTIONS = [
    Correction(high=1.1), Correction(high=2.0), Correction("mask", high=2.0), Correction("mask", high=2.5, low=0.5),
    Correction("mask", high=1.3, low=0.7),
]  # fmt: skip


def lost(correction: Correction, logits=LOGITS, sampler=SAMPLER) -> torch.Tensor:
    """[S] E_sampler[ratio - weight]."""
    trainer, mu = logits.log_softmax(1), sampler.log_softmax(1)
    everywhere = torch.ones_like(trainer, dtype=torch.bool)
    return (mu.exp() * (correction.ratio(trainer, mu, everywhere) - correction(trainer, mu, everywhere))).sum(1)


def bias(correction: Correction | None) -> torch.Tensor:
    """[S,K] the mean update of RLOO, whose ratio is 1 whoever sampled, against the exact gradient."""
    update = exact.expected_update(recipes.get("rloo"), LOGITS, MEANS, group_size=3, behaviour=SAMPLER, correction=correction)
    return update.mean - exact.policy_gradient(LOGITS, MEANS)


def test_without_a_limit_there_is_no_bias():
    assert bias(Correction(high=1e6)).abs().max() < 1e-7
    assert lost(Correction(high=1e6)).abs().max() < 1e-12
    assert exact.measure(recipes.get("rloo"), LOGITS, MEANS, group_size=3, behaviour=SAMPLER).total > 0.2


@pytest.mark.parametrize("correction", CORRECTIONS, ids=repr)
def test_the_bias_is_within_the_bound(correction):
    """Per context: E_sampler[ratio - weight] x the largest |advantage x score|; of rewards from 0 to 1, advantages are within 1.

    The bias is the sum over arms of what the limit took, times advantage and score, to the last digit; the bound is what is
    left of that without knowing where. Where the limit takes little, the bias without correction is outside of it.
    """
    contexts = len(LOGITS)
    policy, mu = LOGITS.softmax(1), SAMPLER.softmax(1)
    score = torch.eye(3, dtype=torch.float64) - policy[:, None]  # [S,a,K]
    bound = lost(correction)[:, None] * score.abs().amax(1) / contexts  # [S,K]
    found = bias(correction)
    assert (found.abs() <= bound + 1e-7).all()
    everywhere = torch.ones_like(mu, dtype=torch.bool)
    taken = policy - mu * correction(policy.log(), mu.log(), everywhere)
    advantage = MEANS - (mu * MEANS).sum(1, keepdim=True)
    torch.testing.assert_close(found, -((taken * advantage)[..., None] * score).sum(1) / contexts, rtol=0, atol=1e-7)
    little = lost(correction) < 0.02
    assert ((bias(None).abs() > bound).any(1) | ~little).all(), "uncorrected it is outside"


def test_masking_takes_more_than_truncating_at_the_same_limit():
    truncate, mask = Correction(high=2.0), Correction("mask", high=2.0)
    assert (lost(truncate) < 0.02).all() and (lost(mask) > 3 * lost(truncate)).all()
    assert bias(truncate).norm() < 0.3 * bias(None).norm() < bias(None).norm() < bias(mask).norm()


def expected_gradient(correction: Correction | None) -> torch.Tensor:
    """Two actions one after the other, the second in the state that the first led to; paid for the pair. All pairs listed."""
    recipe = recipes.get("reinforce")
    table = torch.tensor([[0.3, -0.2], [0.5, 0.1], [-0.6, 0.4]], dtype=torch.float64, requires_grad=True)
    sampler = torch.tensor([[-0.4, 0.3], [0.0, 0.8], [0.7, -0.5]], dtype=torch.float64)
    paid = {(0, 0): 1.0, (0, 1): 0.2, (1, 0): 0.0, (1, 1): 0.7}

    def said(logits, first, second):
        logp = logits.log_softmax(1)
        return logp[0, first], logp[1 + first, second]

    total = torch.zeros_like(table)
    for first, second in itertools.product((0, 1), (0, 1)):
        mu, pi = said(sampler, first, second), torch.stack(said(table, first, second))
        ids = [1 + first, second]
        episode = Dialogue([0], 0, [Segment(ids, [p.item() for p in mu])], [0.0], outcome=paid[first, second])
        batch = Batch.from_dialogues([episode])
        sampled, now = (torch.nn.functional.pad(each[None], (1, 0)) for each in (torch.stack(mu), pi))
        weight = None if correction is None else correction(now, sampled, batch.mask)
        prepared = objective.prepare(recipe, batch.replace(logp_old=now.detach().float()), correction=weight)
        value, _ = objective.loss(recipe, prepared, now)
        (gradient,) = torch.autograd.grad(-value, table)
        total += math.exp(sum(mu)) * gradient
    exactly = sum(paid[i, j] * sum(said(table, i, j)).exp() for i, j in paid)
    return total, torch.autograd.grad(exactly, table)[0]


def test_over_two_tokens_sequences_are_exact_and_tokens_are_nearer_than_nothing():
    found, gradient = expected_gradient(Correction(high=1e6, level="sequence"))
    torch.testing.assert_close(found, gradient, rtol=0, atol=1e-6)
    by_token = (expected_gradient(Correction(high=1e6))[0] - gradient).norm()
    uncorrected = (expected_gradient(None)[0] - gradient).norm()
    assert 1e-3 < by_token < uncorrected


def test_weights():
    logp, sampler = torch.log(torch.tensor([[0.5, 0.2, 0.9, 0.3]])), torch.log(torch.tensor([[0.25, 0.4, 0.3, 0.1]]))
    mask = torch.tensor([[True, True, True, False]])
    for correction, expected in (
        (Correction(high=2.5), [2, 0.5, 2.5, 1]), (Correction("mask", high=2.5), [2, 0.5, 0, 1]),
        (Correction("mask", high=9, low=0.6), [2, 0, 3, 1]), (Correction(high=9, level="sequence"), [3, 3, 3, 1]),
        (Correction("mask", high=2.9, level="sequence"), [0, 0, 0, 1]),
    ):  # fmt: skip
        torch.testing.assert_close(correction(logp, sampler, mask), torch.tensor([expected], dtype=torch.float32))


@pytest.mark.parametrize(("settings", "message"), [
    ({"how": "clip"}, "how must be"), ({"level": "turn"}, "level"), ({"high": 1.0}, "0 <= low < 1 < high"),
    ({"how": "mask", "low": 1.5}, "0 <= low < 1 < high"), ({"low": 0.5}, 'only "mask" has a lower limit'),
])  # fmt: skip
def test_limits_that_make_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        Correction(**settings)


class Elsewhere:
    """An engine that samples from a neighbour of the policy, and says so."""

    exact = False

    def __init__(self, policy):
        self.neighbour = copy.deepcopy(policy)
        with torch.no_grad():
            for n, value in enumerate(self.neighbour.parameters()):
                value.add_(0.02 * torch.randn(value.shape, generator=torch.Generator().manual_seed(n)))
        self.engine = sample.LocalEngine(self.neighbour)
        self.context = self.engine.context

    def start(self, prompts, *, seed):
        return self.engine.start(prompts, seed=seed)


def test_training_reports_the_mismatch_and_corrects_it(tmp_path):
    policy = models.tiny("0.1m", seed=1)
    list(wb.sft(policy, "addition", steps=20, batch_size=16))
    engine = Elsewhere(policy)
    longer = recipes.grpo.but("longer", reward=(wb.outcome(), wb.soft_overlong(4, 4)))  # so that rollouts differ in reward
    settings = {"steps": 1, "prompts": 4, "engine": engine, "recipe": longer}
    (plain,) = wb.train(copy.deepcopy(policy), "addition", **settings)
    seen = plain.diagnostics
    assert seen["mismatch_mean"] > 0.01 and seen["mismatch_largest"] > seen["mismatch_mean"] and seen["mismatch_kl"] > 0
    assert "correction_lost" not in seen and abs(plain.ratio_max - 1) > 0.01
    assert plain.ratio_max <= math.exp(seen["mismatch_largest"]) * (1 + 1e-5)
    (exactly,) = wb.train(copy.deepcopy(policy), "addition", steps=1, prompts=4)
    assert not [name for name in exactly.diagnostics if name.startswith("mismatch")]
    ends = {}
    for correction in (None, Correction(high=1.01), Correction(high=1e6)):
        trained = copy.deepcopy(policy)
        (record,) = wb.train(trained, "addition", correction=correction, **settings)
        ends[correction] = torch.cat([value.flatten() for value in trained.parameters()])
        if correction is not None:
            assert record.ratio_min == record.ratio_max == 1.0, "the ratio is against the policy itself"
            assert record.diagnostics["mismatch_mean"] == pytest.approx(seen["mismatch_mean"])
            assert (record.diagnostics["correction_lost"] > 1e-4) == (correction.high < 2)
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(ends.values(), 2))
    (rounded,) = wb.train(policy, "addition", steps=1, prompts=4, engine=sample.LocalEngine(policy, dtype="bfloat16"),
                          correction=Correction("mask", high=1.5, low=0.5), run=tmp_path / "run")  # fmt: skip
    assert 1e-5 < rounded.diagnostics["mismatch_mean"] < 0.05
    with pytest.raises(ValueError, match="correction"):
        list(wb.train(policy, "addition", steps=2, prompts=4, engine=sample.LocalEngine(policy, dtype="bfloat16"),
                      run=tmp_path / "run"))  # fmt: skip
