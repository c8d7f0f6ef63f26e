"""A value head: how much more the episode is worth, read off a policy's state."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ValueHead(nn.Module):
    """A linear map from `Evaluation.hidden` to one number a token, 0 at first.

    On the one-hot states of a `Tabular` policy this is a table of state values.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(hidden_size))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, hidden: Tensor) -> Tensor:
        """[B,T,D] -> [B,T]."""
        if hidden.shape[-1] != len(self.weight):
            raise ValueError(
                f"hidden states have size {hidden.shape[-1]}, this value head was made for {len(self.weight)}"
            )
        return hidden.to(self.weight.dtype) @ self.weight + self.bias
