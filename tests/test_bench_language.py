"""The bench measures the same work on both sides, and reports what it found."""

from __future__ import annotations

import pytest
import torch

from workbench import sample
from workbench.bench import Paired, main
from workbench.bench import language as bench


@pytest.fixture(scope="module")
def policy():
    return bench.bench_policy("0.1m")


def test_fixed_lengths(policy):
    batch = bench.sampled_batch(policy, "float32", ragged=False)
    assert batch.mask.sum(1).tolist() == [bench.NEW] * bench.ROWS
    assert batch.group.bincount().tolist() == [bench.GROUP] * bench.PROMPTS
    groups = batch.outcome.view(bench.PROMPTS, bench.GROUP)
    assert (groups.std(1) > 0).all()  # so that every group trains
    assert sample.mismatch(policy, batch).largest < 1e-5


def test_ragged_lengths(policy):
    batch = bench.sampled_batch(policy, "float32", ragged=True)
    lengths = batch.mask.sum(1)
    assert 1 <= lengths.min() and lengths.max() <= bench.LONGEST
    assert bench.NEW / 3 < lengths.float().mean() < bench.NEW
    assert sample.mismatch(policy, batch).largest < 1e-5


def test_mismatch_is_what_it_says(policy):
    batch = bench.sampled_batch(policy, "float32", ragged=False)
    gap = torch.tensor([0.1, -0.3]).repeat(bench.ROWS, bench.NEW // 2)
    shifted = torch.zeros_like(batch.logp_old)
    shifted[batch.mask] = gap.flatten()
    found = sample.mismatch(policy, batch.replace(logp_old=(batch.logp_old - shifted).clamp(max=0)))
    assert found.mean == pytest.approx(0.2, rel=1e-2) and found.largest == pytest.approx(0.3, rel=1e-2)
    assert found.kl == pytest.approx(((gap.exp() - 1 - gap).mean()).item(), rel=2e-2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sampling_runs(policy, dtype):
    assert bench.sampling(policy, 1, dtype=dtype).ratio > 0


def test_gradients_are_of_the_same_batch(policy):
    assert bench.gradient(policy, 1, ragged=True).ratio > 0


def test_a_step_of_each_trainer():
    pytest.importorskip("trl")
    result = bench.grpo_step("0.1m", 1)  # raises if one of the two did not train
    assert len(result.ours) == len(result.theirs) == 1 and result.ratio > 0


def test_the_report_and_the_command(monkeypatch, capsys):
    monkeypatch.setattr(bench, "grpo_step", lambda *_, **__: Paired([1.0], [0.5]))
    monkeypatch.setattr(bench, "sampling", lambda *_, **__: Paired([3.0], [1.0]))
    monkeypatch.setattr(bench, "gradient", lambda *_, **__: Paired([3.0], [1.0]))
    monkeypatch.setattr(bench.importlib.util, "find_spec", lambda name: name == "trl" or None)
    monkeypatch.setattr(bench, "bench_policy", lambda size, real=bench.bench_policy: real("0.1m"))
    assert main(["language", "--quick", "--pairs", "1"]) == 0
    shown = capsys.readouterr().out
    assert "sampling: vLLM: skipped, it is not installed" in shown
    assert "sampling: 2.2x, reached (3.00x)" in shown and "GRPO step: 2.2x, not reached (2.00x)" in shown
    assert "GFLOP/s" in shown and "KL" in shown
