"""A worker: a fresh Python with one thread that takes runs from its standard input and answers on its standard output.

It is started as `python -m workbench.study.worker`, not by `multiprocessing`, which would run the user's script again in every
worker. It ends when its input does: when the process that started it is gone, however that ended.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import queue
import sys
import threading
import time
import traceback
from typing import Any, BinaryIO

import cloudpickle

from workbench.study.cell import Run, run_cell
from workbench.study.machine import made_with, one_thread

PROGRESS_EVERY = 0.5  # seconds


def perform(payload: bytes, report: Any = lambda share: None) -> tuple[str, Any]:
    """Make one run, of a pickled (arm, seed, budget): ("done", (run, made_with)) or ("failed", traceback)."""
    try:
        arm, seed, budget = pickle.loads(payload)
        with one_thread():
            run: Run = run_cell(arm, seed, budget, report)
        return "done", (run, made_with())
    except Exception:
        return "failed", traceback.format_exc()


def main() -> None:
    """Answer until there is no more to do."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what an arm prints must not get between the answers
    faulthandler.enable()
    given: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_listen, args=(os.fdopen(os.dup(0), "rb"), given), daemon=True).start()
    while True:
        payload = given.get()
        told = [time.monotonic()]

        def report(share: float, told: list[float] = told) -> None:
            if time.monotonic() - told[0] > PROGRESS_EVERY:
                told[0] = time.monotonic()
                _say(answers, ("progress", share))

        _say(answers, perform(payload, report))


def _say(answers: BinaryIO, message: tuple[str, Any]) -> None:
    cloudpickle.dump(message, answers)
    answers.flush()


def _listen(requests: BinaryIO, given: queue.Queue[bytes]) -> None:
    while True:
        try:
            given.put(pickle.load(requests))
        except BaseException:  # the end of the input, or half a request: nobody is there any more
            os._exit(0)


if __name__ == "__main__":
    sys.stdout.flush()
    main()
