"""Where finished runs are kept: one folder for each question, one file for each finished (arm, seed).

    <store>/<name>-<hash>/        the hash is of what every arm has in common: the task, the budget, the evaluation
        study.json                what that is
        asked/<hash>.json         each comparison that was asked for: its arms and seeds
        arms/<name>-<hash>/       the hash is of the arm's configuration and code
            arm.json              what the arm is
            seed_3.json           a finished run: complete, or not there
            seed_4.failed.json    why there is none; gone when a later try succeeds
        starts/                   warm starts that arms share
        locks/                    held by whoever is running an arm with a seed

A file is written under another name, forced to disk, and renamed: a kill at any moment leaves it whole or absent. A run is
locked while somebody works on it, and the kernel gives the lock back when that process dies. So any number of processes may
work on one study: each run is made once, and nothing is written twice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from workbench.run_folder import fcntl, replace_file
from workbench.study.cell import Run

if TYPE_CHECKING:
    from workbench.study.result import Study

FORMAT = 1
Record = dict[str, Any]


def key_of(value: Any) -> str:
    """Ten hexadecimal digits that name a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:10]


def slug(name: str) -> str:
    """A name as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", name).strip("._")[:48] or "study"


@dataclass(frozen=True)
class Store:
    """The folder of one study."""

    path: Path

    @staticmethod
    def make(root: str | Path, name: str, common: Mapping[str, Any]) -> Store:
        """Open or make a study's folder.

        Args:
            root: the folder of all studies. name: how this one is called. common: what all its arms have in common, for JSON.
        Raises:
            ValueError: it was written by a newer version, or is damaged.
            OSError: it cannot be written: said here, before anything runs.
        """
        store = Store(Path(root) / f"{slug(name)}-{key_of(dict(common))}")
        with _explained(store.path):
            probe = store.path / "locks" / f"probe.{os.getpid()}"
            replace_file(probe, b"0" * 8192)  # a full disk refuses this already, not the first result
            probe.unlink()
            if not (store.path / "study.json").exists():
                replace_file(store.path / "study.json", _json({"format": FORMAT, "name": name, "common": dict(common)}))
        store.content()
        return store

    def content(self) -> Record:
        """What study this is. Raises ValueError: there is none here, a damaged one, or one of a newer version."""
        file = self.path / "study.json"
        if not file.exists():
            raise ValueError(f"{self.path} holds no study (there is no study.json)")
        return _read(file)

    def ask(self, versions: Mapping[str, str], study: Study) -> None:
        """Note a comparison: its arms (name -> hash) and seeds; the newest is the one that `load` gives."""
        arms, seeds = dict(versions), list(study.seeds)
        asked = {
            "format": FORMAT, "arms": arms, "seeds": seeds, "metric": study.metric, "better": study.better,
            "bounds": study.bounds, "stop": study.stop and dataclasses.asdict(study.stop), "time": time.time(),
        }  # fmt: skip
        with _explained(self.path):
            replace_file(self.path / "asked" / f"{key_of([arms, seeds])}.json", _json(asked))

    def asked(self) -> Record:
        """The newest comparison: arms (name -> hash), seeds, and how they are compared. Raises ValueError: there is none."""
        asked = [_read(file) for file in sorted((self.path / "asked").glob("*.json"))]
        if not asked:
            raise ValueError(f"{self.path} holds no comparison yet")
        return max(asked, key=lambda one: one["time"])

    def folder(self, arm: str, version: str) -> Path:
        """Where the runs of an arm lie."""
        return self.path / "arms" / f"{slug(arm)}-{version[:10]}"

    def describe(self, arm: str, version: str, content: str) -> None:
        """Note what an arm is."""
        file = self.folder(arm, version) / "arm.json"
        if not file.exists():
            with _explained(self.path):
                replace_file(file, _json({"arm": arm, "version": version, "content": content}))

    def has(self, arm: str, version: str, seed: int) -> bool:
        """Whether this run is finished."""
        return (self.folder(arm, version) / f"seed_{seed}.json").exists()

    def read(self, arm: str, version: str, seed: int) -> tuple[Run, Record]:
        """A finished run, and what it was made with.

        Raises:
            ValueError: the file was damaged after it was written, or is of a newer version.
        """
        saved = _read(self.folder(arm, version) / f"seed_{seed}.json")
        return Run(saved["rows"], saved["seconds"], saved["rollouts"]), saved["made_with"]

    def save(self, arm: str, version: str, seed: int, run: Run, made_with: Record) -> None:
        """Keep a finished run; one that is there already stays."""
        if self.has(arm, version, seed):
            return
        folder = self.folder(arm, version)
        record = {"format": FORMAT, "seed": seed, "made_with": made_with, **dataclasses.asdict(run)}
        with _explained(self.path):
            replace_file(folder / f"seed_{seed}.json", _json(record))
        (folder / f"seed_{seed}.failed.json").unlink(missing_ok=True)

    def fail(self, arm: str, version: str, seed: int, reason: str) -> None:
        """Note why there is no such run."""
        with _explained(self.path):
            record = {"format": FORMAT, "seed": seed, "reason": reason}
            replace_file(self.folder(arm, version) / f"seed_{seed}.failed.json", _json(record))

    def failure(self, arm: str, version: str, seed: int) -> str | None:
        """Why there is no such run, if somebody tried."""
        file = self.folder(arm, version) / f"seed_{seed}.failed.json"
        return _read(file)["reason"] if file.exists() else None

    @contextlib.contextmanager
    def claim(self, arm: str, version: str, seed: int) -> Iterator[bool]:
        """Try to be the one who makes a run; False when somebody else is at it."""
        path = self.path / "locks" / f"{slug(arm)}-{version[:10]}-seed_{seed}"
        with _explained(self.path):
            lock: BinaryIO = path.open("ab")
        with lock:
            if fcntl is not None:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    yield False
                    return
            for left in self.folder(arm, version).glob(f".seed_{seed}.*"):
                left.unlink(missing_ok=True)  # what a kill left half written
            yield True
            if self.has(arm, version, seed):  # whoever waits on the file that is gone finds the run finished
                path.unlink(missing_ok=True)


def _read(file: Path) -> Record:
    """One of the store's files. Raises ValueError when it is damaged or newer than this version."""
    try:
        saved = json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}); delete it, and what it held is made again") from None
    if saved.get("format", FORMAT) > FORMAT:
        raise ValueError(
            f"{file} was written by a newer version of the workbench (format {saved['format']}, this one reads up to {FORMAT}); "
            "update the workbench, or choose another store"
        )
    return saved


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"{os.strerror(error.errno or 0)} while writing to the study in {path}: finished runs there are kept; make room or "
            "choose another store=, and ask again with the same arguments to go on",
        ) from error


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
