"""Engines that turn prompt ids into sampled ids, and the driver that plays a task with one."""

from __future__ import annotations

from workbench.sample.choice import engine_of
from workbench.sample.engine import Completion, Engine, Session
from workbench.sample.hugging_face import HuggingFaceEngine
from workbench.sample.local import LocalEngine
from workbench.sample.readiness import check
from workbench.sample.rollout import (
    Mismatch,
    encode_demonstration,
    encode_rows,
    mismatch,
    rollout,
    transcript,
)
from workbench.sample.vllm import VLLMEngine
from workbench.sample.vllm_server import serve

__all__ = [
    "Completion", "Engine", "HuggingFaceEngine", "LocalEngine", "Mismatch", "Session", "VLLMEngine", "check",
    "encode_demonstration", "encode_rows", "engine_of", "mismatch", "rollout", "serve", "transcript",
]  # fmt: skip
