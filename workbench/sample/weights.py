"""A policy's weights as other programs want them: under the names of a checkpoint, with adapters merged in."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def fingerprint(model: Any) -> tuple[Any, ...]:
    """Changes whenever a weight does, or which adapters are on; reads every weight once.

    PyTorch counts changes in place, but not those that go through `.data`; so the bits are added up as well.
    """
    tensors = dict(model.state_dict(keep_vars=True))
    sums = [_bits(value).sum(dtype=torch.int64) for value in tensors.values()]
    versions = tuple(0 if value.is_inference() else value._version for value in tensors.values())
    adapters = tuple(
        (name, tuple(module.active_adapters), module.disable_adapters, tuple(module.merged_adapters), repr(module.scaling))
        for name, module in model.named_modules() if _is_adapted(module)
    )  # fmt: skip
    return tuple(tensors), versions, tuple(torch.stack([s.cpu() for s in sums]).tolist()), adapters


def _bits(value: Tensor) -> Tensor:
    whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return value.detach().view(whole[value.element_size()]) if value.is_floating_point() else value.detach()


@torch.no_grad()
def merged_weights(model: Any) -> dict[str, Tensor]:
    """Every weight by its name in a checkpoint of the bare model, adapters merged into what they adapt; `model` stays as it is.

    Raises:
        ValueError: quantised weights, which cannot be sent as what they stand for.
    """
    from transformers.core_model_loading import revert_weight_conversion

    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    found: dict[str, Tensor] = dict(inner.state_dict())
    for name, module in inner.named_modules():
        plain = _without_adapter(module)
        if plain is not None:
            for key in [key for key in found if key.startswith(f"{name}.")]:
                del found[key]
            found |= {f"{name}.{key}": value for key, value in plain.state_dict().items()}
    strange = [key for key, value in found.items() if not value.is_floating_point()]
    if strange:
        raise ValueError(
            f"{strange[0]} is quantised ({found[strange[0]].dtype}): vLLM cannot be sent such weights while they are trained. "
            "Load the model in bfloat16, or use engine='hugging_face'"
        )
    seen: dict[tuple[int, torch.Size], str] = {}
    for key, value in list(found.items()):
        if seen.setdefault((value.data_ptr(), value.shape), key) != key:
            del found[key]  # tied: the other name is enough
    return revert_weight_conversion(inner, found)


def _is_adapted(module: Any) -> bool:
    return hasattr(module, "get_base_layer") and hasattr(module, "merged_adapters") and hasattr(module, "scaling")


def _without_adapter(module: Any) -> Any:
    """A plain layer that computes what an adapted one computes now, or None for a layer without adapters."""
    if _is_adapted(module):
        twin = copy.deepcopy(module)
        if module.merged_adapters:
            twin.unmerge()
        if not module.disable_adapters:
            twin.merge(adapter_names=list(module.active_adapters))
        return twin.get_base_layer()
    if hasattr(module, "modules_to_save") and hasattr(module, "original_module"):
        on = not module.disable_adapters and module.active_adapters
        return module.modules_to_save[module.active_adapters[0]] if on else module.original_module
    return None
