"""vLLM as a server on this machine: what asks it, and what starts and stops it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import psutil
from torch import Tensor

from workbench.sample.engine import model_of
from workbench.sample.vllm_start import Request, arguments, dtype_name, environment, need_vllm, shape
from workbench.sample.vllm_worker import WeightUpdates

RETRIES, PAUSE = 2, 1.0  # seconds before the first, twice as long before the second
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never by way of a proxy


class Server:
    """What an engine asks of a server, by HTTP. Each question is repeated twice if it fails, then there is an error.

    Raises:
        ConnectionError, TimeoutError: not there, or too slow. RuntimeError: it failed. ValueError: it refused what was asked.
    """

    def __init__(self, address: str, timeout: float) -> None:
        self.address, self.timeout = address.rstrip("/"), timeout
        model = self._ask("/v1/models", None)["data"][0]
        self.name: str = model["id"]
        self.context: int | None = model.get("max_model_len")
        self._call("prepare_sampler")

    def generate(self, requests: list[Request]) -> list[tuple[list[int], list[float]]]:
        """Ids and log-probabilities of one completion for each request, all asked at the same time."""
        # one request for each row: a list of prompts in one request would share one seed, and equal prompts would draw alike
        with ThreadPoolExecutor(min(128, len(requests))) as pool:
            return list(pool.map(self._complete, requests))

    def _complete(self, request: Request) -> tuple[list[int], list[float]]:
        always = {"model": self.name, "logprobs": 0, "ignore_eos": True, "return_token_ids": True,
                  "return_tokens_as_token_ids": True}  # fmt: skip
        choice = self._ask("/v1/completions", {"prompt": request[0], **request[1], **always})["choices"][0]
        return choice["token_ids"], choice["logprobs"]["token_logprobs"]

    def load(self, weights: Mapping[str, Tensor], tag: str) -> None:
        """Take these weights from now on, and call them `tag`; they go by way of a file."""
        from safetensors.torch import save_file

        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "weights.safetensors")
            save_file({name: value.detach().cpu().contiguous() for name, value in weights.items()}, path)
            self._call("set_weights_from", path, tag)
        if not self._ask("/reset_prefix_cache", {})["success"]:
            raise RuntimeError(f"the vLLM server at {self.address} did not empty its cache of prefixes: is it shared?")

    def tag(self) -> str:
        """Which weights it says it has."""
        return self._call("tell_tag")[0][0]

    def leave(self, user: object) -> None:
        """Nothing: who started a server stops it."""

    def _call(self, method: str, *arguments: str) -> list[Any]:
        try:
            return self._ask("/collective_rpc", {"method": method, "args": list(arguments)})["results"]
        except ValueError as error:
            raise ValueError(
                f"{error}. It must be started by sample.serve(policy), or with VLLM_SERVER_DEV_MODE=1 in its environment and "
                f"--worker-extension-cls {WeightUpdates.__module__}.{WeightUpdates.__qualname__}"
            ) from error

    def _ask(self, path: str, body: dict[str, Any] | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"})
        what, kind = "", cast(type[Exception], ConnectionError)
        for attempt in range(RETRIES + 1):  # a request can be repeated: the same seed draws the same
            if attempt:
                time.sleep(PAUSE * attempt)
            try:
                with DIRECT.open(request, timeout=self.timeout) as answer:
                    return json.loads(answer.read() or b"null")
            except urllib.error.HTTPError as error:
                said = error.read().decode(errors="replace")[:500]
                if error.code < 500:
                    raise ValueError(f"the vLLM server at {self.address} refused {path}: {error.code} {said}") from error
                what, kind = f"failed: {error.code} {said}", RuntimeError
            except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", error)
                slow = isinstance(reason, TimeoutError)
                what = f"did not answer within {self.timeout:g} s" if slow else f"cannot be reached ({reason})"
                kind = TimeoutError if slow else ConnectionError
        raise kind(
            f"the vLLM server at {self.address} {what}; asked {RETRIES + 1} times for {path}. Look at its log, start it again "
            "(sample.serve), and then the training with the same folder: it goes on from its last checkpoint"
            + (". Or give VLLMEngine a longer timeout" if kind is TimeoutError else "")
        )


@contextmanager
def serve(
    policy: Any, *, dtype: str | None = None, context: int | None = None, port: int = 0, wait: float = 300.0,
    log: str | Path | None = None, settings: Mapping[str, Any] | None = None,
) -> Iterator[str]:  # fmt: skip
    """A vLLM server for this policy on this machine, as long as the block lasts; gives its address.

    It listens on loopback only. Its weights are nobody's until an engine sends them. At the end all its processes are stopped,
    also where the end is that this process is killed.

    Args:
        dtype, context: as for `VLLMEngine`. port: 0 takes a free one. wait: seconds for its start.
        log: a file for what it says. settings: more options of `vllm serve`, by the names that `vllm.LLM` gives them.
    Raises:
        ImportError: vLLM is not installed. RuntimeError: it did not start; with the last lines it said.
    """
    need_vllm()
    model = model_of(policy)
    own = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    with tempfile.TemporaryDirectory() as folder:
        shape(model).save_pretrained(folder)
        given = {"model": folder} | arguments(dtype or dtype_name(next(model.parameters()).dtype), context or own)
        port = port or _free_port()
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", str(port)]
        for name, value in (given | {"served_model_name": "policy"} | dict(settings or {})).items():
            option = f"--{name.replace('_', '-')}"
            command += [option] if value is True else [] if value in (False, None) else [option, str(value)]
        path = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        more = {"VLLM_SERVER_DEV_MODE": "1", "PYTHONPATH": os.pathsep.join(filter(None, path))}
        said = Path(log) if log is not None else Path(folder) / "log.txt"
        with said.open("wb") as file:
            process = subprocess.Popen(
                command, env=os.environ | environment() | more, stdout=file, stderr=file, start_new_session=True
            )
        watch = _end_with_us(process)
        try:
            address = f"http://127.0.0.1:{port}"
            _await(address, process, wait, lambda: said.read_text(errors="replace")[-2000:])
            yield address
        finally:
            _stop(process)
            watch.communicate()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _await(address: str, process: subprocess.Popen[bytes], wait: float, last: Callable[[], str]) -> None:
    end = time.monotonic() + wait
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the vLLM server did not start; its last words: {last()}")
        try:
            with DIRECT.open(f"{address}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"the vLLM server was not ready after {wait:g} s (wait=...); its last words: {last()}")


def _end_with_us(process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """A process that waits for the end of its input, which comes when we end, however that is, and then kills the server's."""
    code = "import os, signal, sys; sys.stdin.read(); os.killpg(int(sys.argv[1]), signal.SIGKILL)"
    return subprocess.Popen(
        [sys.executable, "-c", code, str(process.pid)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def _stop(process: subprocess.Popen[bytes]) -> None:
    """The server and every process that it has started: they are one group. Returns when they are gone."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        end = time.monotonic() + 10
        while _alive(process) and time.monotonic() < end:
            time.sleep(0.05)


def _alive(process: subprocess.Popen[bytes]) -> bool:
    process.poll()
    for one in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(one.pid) == process.pid and one.status() != psutil.STATUS_ZOMBIE:
                return True
    return False
