"""A softmax policy that is a table: small enough to be checked by enumeration."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from workbench import seeding
from workbench.batch import Batch
from workbench.models.evaluation import Evaluation


class Tabular(nn.Module):
    """pi(a|s) = softmax(table[s])[a], uniform at first.

    The action tokens[b,t] is chosen in the state tokens[b,t-1], as `Batch.from_pulls` and `Batch.from_trajectories` lay
    them out. `hidden` is the one-hot state.

    Attributes:
        table: [S,A] the logits. hidden_size: S. vocab_size: A. context: None, there is no longest episode.
    """

    context = None

    def __init__(self, states: int, actions: int, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        if states < 1 or actions < 1:
            raise ValueError(f"a table needs at least one state and one action, not {states} and {actions}")
        self.table = nn.Parameter(torch.zeros(states, actions, dtype=dtype))

    @property
    def hidden_size(self) -> int:
        return self.table.shape[0]

    @property
    def vocab_size(self) -> int:
        return self.table.shape[1]

    def evaluate(self, batch: Batch, *, temperature: float = 1.0) -> Evaluation:
        """Log-probability, entropy and state of every sampled token [B,T].

        Raises:
            ValueError: a state or action outside the table, or a temperature that is not positive.
        """
        row, column = batch.mask.nonzero(as_tuple=True)
        if (column == 0).any():
            raise ValueError(
                "a sampled token in column 0 has no state before it; give every episode a prompt of one token"
            )
        states, actions = batch.tokens[row, column - 1], batch.tokens[row, column]
        self._check("state", states, self.hidden_size)
        self._check("action", actions, self.vocab_size)
        logp = self._logp(states, temperature)
        rows, tokens = batch.tokens.shape
        hidden = self.table.new_zeros(rows, tokens, self.hidden_size)
        hidden[row, column, states] = 1
        zeros = self.table.new_zeros(rows, tokens)
        chosen = logp.gather(1, actions[:, None])[:, 0]
        return Evaluation(
            logp=zeros.index_put((row, column), chosen),
            entropy=zeros.index_put((row, column), -(logp.exp() * logp).sum(1)),
            hidden=hidden,
        )

    def pull(self, states: Tensor, *, seed: int, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """Draw one action in each of the states [N]; returns actions [N] and their log-probabilities [N], no gradient."""
        self._check("state", states, self.hidden_size)
        stream = torch.Generator(device=self.table.device).manual_seed(seeding.integer(seed, "pull"))
        with torch.no_grad():
            logp = self._logp(states, temperature)
            actions = torch.multinomial(logp.exp(), 1, generator=stream)
            return actions[:, 0], logp.gather(1, actions)[:, 0]

    def _logp(self, states: Tensor, temperature: float) -> Tensor:
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, not {temperature!r}")
        return torch.log_softmax(self.table[states] / temperature, 1)

    @staticmethod
    def _check(what: str, ids: Tensor, size: int) -> None:
        bad = (ids < 0) | (ids >= size)
        if bad.any():
            raise ValueError(f"{what} {ids[bad][0].item()} is not in this table of {size} {what}s")
