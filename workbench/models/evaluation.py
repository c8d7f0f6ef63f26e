"""What a policy says about the tokens of a batch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A policy's account of a batch; gradients flow through all three.

    Attributes:
        logp: [B,T] log-probability of each token given those before it; 0 where the batch's mask is false.
        entropy: [B,T] entropy in nats of the distribution the token was drawn from; 0 where the mask is false.
        hidden: [B,T,D] the policy's state just before the token: what a `ValueHead` reads.
    """

    logp: Tensor
    entropy: Tensor
    hidden: Tensor
