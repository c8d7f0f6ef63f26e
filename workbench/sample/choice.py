"""Which engine: the fastest that can run a policy, or the one asked for."""

from __future__ import annotations

from typing import Any

from workbench.models import fast
from workbench.sample.engine import Engine
from workbench.sample.hugging_face import HuggingFaceEngine
from workbench.sample.local import LocalEngine
from workbench.sample.vllm import VLLMEngine

ENGINES = {"local": LocalEngine, "hugging_face": HuggingFaceEngine, "vllm": VLLMEngine}


def engine_of(policy: Any, engine: str | Engine | None = None) -> Engine:
    """An engine for a `LanguageModel`.

    Args:
        engine: "local", "hugging_face", "vllm" (in this process; for a server make a `VLLMEngine`), an engine (it is returned as
            it is), or None: the local one where it can run the policy, else Hugging Face's.
    Raises:
        TypeError: a policy that is no language model. ValueError: an unknown name, or an engine that cannot run the policy.
        ImportError: vLLM is asked for and not installed; says how to get it.
    """
    if not hasattr(policy, "tokenizer"):
        raise TypeError(
            f"tasks are played in text: the policy must be a LanguageModel, not {type(policy).__name__}. "
            "For a table, make batches with Batch.from_pulls and use objective.prepare and objective.loss"
        )
    if engine is None:
        return LocalEngine(policy) if fast.supports(policy.model) else HuggingFaceEngine(policy)
    if not isinstance(engine, str):
        return engine
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(map(repr, ENGINES))}, an engine or None, not {engine!r}")
    return ENGINES[engine](policy)
