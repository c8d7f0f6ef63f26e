"""What to watch in every step of a training over many turns: plain numbers of a batch, nothing that costs a forward pass.

A curve that rises can hide that calls die out, that a dense reward pulls away from success, or that early turns get all of the
gradient; each has its number here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.batch import Batch, Stop
from workbench.objective import Parts, Prepared, void_turns

TURNS = 10  # the last index also stands for all later turns
QUARTERS = 4
MADE_OF_THE_OUTCOME = ("outcome", "gated_outcome", "similarity")  # reward terms whose correlation with it says nothing


@torch.no_grad()
def diagnose(recipe: Parts, prepared: Prepared, played: Batch) -> dict[str, float]:
    """Numbers by name; those that cannot be measured in this batch are left out.

    Args:
        prepared: what the step trains on, before its first update. played: everything that was sampled in the step.
    Returns: of `played`, without episodes that ended in an error of the task:
        void: share of turns that are neither a readable call nor an answer. calls: turns of an episode that did not end it.
        logp_correct: mean log-probability of a sampled token in episodes with outcome 1 or more; where it falls while success
            rises, good rollouts are pushed down with the bad ones (arXiv 2512.04220).
        entropy_turn_j: -log p of what was sampled in turn j = 1, 2, ..., nats a token.
        correlation_turns, correlation_NAME: between the sum of the task's turn rewards, or of the recipe's term NAME, over an
            episode, and its outcome (point-biserial where that is 0 or 1). Below 0, the term pays for failing (arXiv 2604.02869).
        Of `prepared`, with the size of a token's gradient measured as |coefficient x advantage|:
        gradient_turn_j: share of turn j. gradient_quarter_q: share of the q-th quarter of the episodes, by sampled tokens, the
            shortest first; with equal credit each has 0.25.
    """
    names: list[str] = []
    values: list[Tensor] = []

    def note(name: str, value: Tensor, measured: Tensor | bool = True) -> None:
        names.append(name)
        values.append(torch.where(torch.as_tensor(measured), value.double(), torch.nan))

    valid = played.stop != Stop.ERROR
    batch = played if bool(valid.all()) else played.select(valid)
    exists = batch.last_token >= 0
    first = batch.first_rows
    outcome, stop = batch.outcome[first], batch.stop[first]
    note("void", (void_turns(batch) & exists).sum() / exists.sum(), exists.any())
    note("calls", (exists.sum() - (stop != Stop.TURNS).sum()) / len(first))
    right = batch.mask & (batch.outcome >= 1)[:, None]
    note("logp_correct", (batch.logp_old * right).sum() / right.sum(), right.any())
    tokens = _by_turn(batch, batch.mask.double())
    for j, (count, logp) in enumerate(zip(tokens, _by_turn(batch, batch.logp_old.double() * batch.mask)), 1):
        note(f"entropy_turn_{j}", -logp / count, count > 0)
    terms = {"turns": batch.rewards} | {t.name: t(batch) for t in recipe.reward if t.name not in MADE_OF_THE_OUTCOME}
    for name, term in terms.items():
        total = batch.of_rollouts((term * exists).sum(1))
        correlation = _correlation(total.double(), outcome.double())
        note(f"correlation_{name}", correlation, correlation.isfinite())

    batch = prepared.batch if prepared.mask.device.type == "cpu" else prepared.batch.to("cpu")
    size = (prepared.coefficient * prepared.advantage * prepared.mask).abs().cpu().double()
    whole = size.sum()
    for j, part in enumerate(_by_turn(batch, size), 1):
        note(f"gradient_turn_{j}", part / whole, whole > 0)
    episodes = batch.of_rollouts(size.sum(1))
    order = batch.of_rollouts(batch.mask.sum(1)).argsort(stable=True)
    for q, part in enumerate(episodes[order].tensor_split(QUARTERS), 1):
        note(f"gradient_quarter_{q}", part.sum() / whole, (whole > 0) & (len(order) >= QUARTERS))
    numbers = torch.stack(values).tolist()
    return {name: number for name, number in zip(names, numbers) if number == number}


def _by_turn(batch: Batch, values: Tensor) -> Tensor:
    """[B,T] -> at most [TURNS]: the sum over the tokens of each turn index."""
    turns = min(batch.rewards.shape[1], TURNS)
    index = batch.turn.clamp(0, turns - 1).flatten()
    return values.new_zeros(turns).index_add(0, index, (values * batch.mask).flatten())


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's, of two [R]; not finite where one of them is constant."""
    a, b = a - a.mean(), b - b.mean()
    spread = ((a**2).sum() * (b**2).sum()).sqrt()
    return torch.where(spread > 1e-9, (a * b).sum() / spread, torch.nan)
