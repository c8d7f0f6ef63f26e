"""Two processes train as one does: real ones, started by torchrun where there is only loopback, since it listens everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from workbench import models, objective, recipes, sample, seeding, tasks
from workbench.batch import Batch
from workbench.loop import trainable

pytest.importorskip("trl", reason="the extra `scale` is not installed", exc_type=ImportError)

from workbench import scale

pytestmark = pytest.mark.filterwarnings("ignore")
HERE = Path(__file__)
TASK, PUPIL = tasks.get("calculator"), HERE.parents[1] / "data" / "calculator_pupil"
QUIET = {"save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True}
RECIPES = {
    "gtpo": recipes.gtpo,  # advantages over the turns of a group
    "lite_ppo": recipes.lite_ppo,  # a standard deviation over the whole batch, and a mean over its tokens
    "kl": recipes.grpo.but("kl", regulariser=objective.kl(0.1), schedule=objective.updates(epochs=2)),
}



def fixed(engine, task, tokenizer, problems, *, group_size, **_):
    """Rollouts that depend on the problem alone, not on the process that plays it."""
    return Batch.concatenate([
        sample.rollout(engine, task, tokenizer, [problem], group_size=group_size, seed=seeding.integer(0, problem.prompt))
        for problem in problems
    ])  # fmt: skip


def trained(name: str, folder: Path, monkeypatch, processes: int = 1, accumulate: int = 1) -> dict[str, torch.Tensor]:
    """The weights after two batches, by plain gradient descent: its steps are the gradients."""
    policy = models.load(PUPIL)
    monkeypatch.setattr("workbench.scale.trl.sample", type("Sample", (), {**vars(sample), "rollout": staticmethod(fixed)}))
    trainer = scale.trainer(
        policy, TASK, RECIPES[name], steps=2, prompts=4, lr=0.1, folder=folder, accumulate=accumulate, processes=processes,
        config={**QUIET, "optim": "sgd"},
    )  # fmt: skip
    trainer.train()
    monkeypatch.undo()
    return {key: value.detach().clone() for key, value in trainable(trainer.policy).items()}


def flat(weights):
    return torch.cat([value.flatten() for value in weights.values()])


def main(folder: Path) -> None:
    """What each of two processes does."""
    rank = int(os.environ["RANK"])
    with pytest.MonkeyPatch.context() as patch:
        for name in RECIPES:
            weights = trained(name, folder / name, patch, processes=2)
            torch.save(weights, folder / f"{name}_{rank}.pt")
    one = recipes.grpo.but("one", prompts=objective.uniform(pool=1))  # the same problem everywhere
    policy = models.load(PUPIL)
    trainer = scale.trainer(policy, TASK, one, steps=1, prompts=2, folder=folder / "one", processes=2, config=QUIET)
    trainer.train()
    trainer.batch.save(folder / f"rollouts_{rank}")


def test_two_processes_are_one(tmp_path, monkeypatch):
    """Two processes with two prompts each make the steps of one with four, whatever their objective averages over; and
    they draw from streams of their own."""
    alone = ["unshare", "-r", "-n", "-p", "-f", "--mount-proc", "--kill-child"]
    try:
        permitted = subprocess.run([*alone, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        permitted = False
    if not permitted:
        pytest.skip("a network namespace of its own is not permitted here")
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), "ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_addr", "127.0.0.1"]
    done = subprocess.run(
        [*alone, "sh", "-c", 'ip link set lo up && exec "$@"', "-", *torchrun, str(HERE), str(tmp_path)],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    start = flat(trainable(models.load(PUPIL)))
    for name in RECIPES:
        there = [flat(torch.load(tmp_path / f"{name}_{rank}.pt", weights_only=True)) for rank in (0, 1)]
        assert torch.equal(*there), "both processes have the same weights"
        here = flat(trained(name, tmp_path / "here", monkeypatch, accumulate=2))
        moved = (here - start).norm()
        assert moved > 1e-2 and (there[0] - here).norm() < 1e-4 * moved, name
    drawn = [Batch.load(tmp_path / f"rollouts_{rank}") for rank in (0, 1)]
    policy = models.load(PUPIL)
    for rank, batch in enumerate(drawn):
        again = sample.rollout(
            sample.engine_of(policy), TASK, policy.tokenizer, [TASK.problem(0)], group_size=8,
            seed=seeding.integer(0, "rollout", 1, rank),
        )  # fmt: skip
        assert torch.equal(again.tokens, batch.tokens)
    assert {tuple(row) for row in drawn[0].tokens.tolist()} != {tuple(row) for row in drawn[1].tokens.tolist()}


def test_a_launcher_that_runs_one_process_without_a_word_is_found_out(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from workbench import models, scale\n"
        f"scale.trainer(models.tiny('0.1m'), 'addition', steps=1, folder={str(tmp_path)!r}, prompts=2, processes=2)\n"
    )
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", str(script)]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run(launch, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode and "2 processes were asked for and 1 run: start with" in done.stderr, done.stderr[-3000:]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
