"""What a run was made on and with, and one thread for it."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import workbench
from workbench.study.fingerprint import source_of_package

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def made_with() -> dict[str, str]:
    """The machine and the versions of whatever is loaded, for people and for a warning where they differ."""
    loaded = {
        name: str(sys.modules[name].__version__)
        for name in ("numpy", "torch", "transformers", "gymnasium")
        if hasattr(sys.modules.get(name), "__version__")
    }
    return {**_machine(), **loaded}


@functools.cache
def _machine() -> dict[str, str]:
    return {
        "processor": _processor(),
        "cores": str(cores()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "workbench": workbench.__version__,
        "source": source_of_package(),
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch, and for NumPy's linear algebra where `threadpoolctl` is installed: the number changes the bits."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError):
            from threadpoolctl import threadpool_limits

            stack.enter_context(threadpool_limits(1))
        torch = sys.modules.get("torch")
        if torch is not None:
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(1)
        yield
