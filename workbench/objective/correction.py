"""When the sampler is not quite the policy: weights for what it sampled.

An engine in another precision, or with products in another order, samples from probabilities a little off the trainer's. A
recipe's `ratio` compares the policy with itself at the beginning of the step, and is made to be clipped; this compares that
beginning with the sampler, and multiplies each token's objective: by min(ratio, high), which is truncated importance sampling
(Ionides, Journal of Computational and Graphical Statistics 17, 2008), or by the ratio where it is within limits and 0 elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.objective.ratio import LARGEST


@dataclass(frozen=True)
class Correction:
    """Importance weights of the trainer over the sampler, limited so that a few tokens cannot carry the whole update.

    What the limit takes from the weights is all the bias there is: for an episode of one token (and at the level of sequences
    for any) the mean update is off by at most E_sampler[ratio - weight] times the largest |advantage x score|. A step of
    training reports that mean as `correction_lost`. At the level of tokens a longer episode keeps the states that the sampler
    got into: first-order right, with far less variance.

    Attributes:
        how: "truncate" weighs by min(ratio, high); "mask" by the ratio, and 0 where it is outside of low..high. At the same limit
            a mask takes more, and so biases more; it is for ratios so far off that they say something is broken.
        high, low: the limits; low is for "mask" alone.
        level: "token", or "sequence": the ratio of all that was sampled in a row.
    """

    how: str = "truncate"
    high: float = 2.0
    low: float = 0.0
    level: str = "token"

    def __post_init__(self) -> None:
        if self.how not in ("truncate", "mask") or self.level not in ("token", "sequence"):
            raise ValueError(
                f'how must be "truncate" or "mask" and level "token" or "sequence", not {self.how!r} and {self.level!r}'
            )
        if not 0 <= self.low < 1 < self.high:
            raise ValueError(f"limits must be 0 <= low < 1 < high, since a ratio of 1 is right; not {self.low!r}, {self.high!r}")
        if self.low and self.how == "truncate":
            raise ValueError('only "mask" has a lower limit: small ratios are what they should be')

    def ratio(self, logp: Tensor, logp_sampler: Tensor, mask: Tensor) -> Tensor:
        """Trainer over sampler [B,T], before any limit; 1 off the mask."""
        log_ratio = torch.where(mask, logp - logp_sampler, 0)
        if self.level == "sequence":
            log_ratio = torch.where(mask, log_ratio.sum(1, keepdim=True), 0)
        return log_ratio.clamp(-LARGEST, LARGEST).exp()

    def __call__(self, logp: Tensor, logp_sampler: Tensor, mask: Tensor) -> Tensor:
        """The weights [B,T], no gradient; 1 off the mask.

        Args:
            logp, logp_sampler: [B,T] what trainer and sampler say of the sampled tokens, before the first update.
        """
        ratio = self.ratio(logp.detach(), logp_sampler, mask)
        if self.how == "truncate":
            return ratio.clamp(max=self.high)
        return torch.where((ratio < self.low) | (ratio > self.high), 0, ratio)
