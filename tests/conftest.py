"""For every test: one thread, no network, no downloads."""

from __future__ import annotations

import os

# Read by torch, NumPy and transformers when they are imported, and by kernels and processes that tests start.
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false")
os.environ.update(WANDB_MODE="disabled", MPLBACKEND="agg")

import ipaddress
import socket

import pytest


def _local(address: object) -> bool:
    """Whether a socket address is of this machine: a path, or loopback. A host name other than localhost is not."""
    if not isinstance(address, tuple):
        return True
    host = str(address[0])
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(scope="session", autouse=True)
def only_loopback():
    """Refuse to connect to, send to, or listen on anything but loopback."""
    patch = pytest.MonkeyPatch()

    def refuse(method):
        original = getattr(socket.socket, method)

        def guarded(self, *arguments):
            if not _local(arguments[-1]):
                raise RuntimeError(f"a test must stay on this machine, but called {method}({arguments[-1]!r})")
            return original(self, *arguments)

        patch.setattr(socket.socket, method, guarded)

    for method in ("connect", "connect_ex", "bind", "sendto"):
        refuse(method)
    yield
    patch.undo()
