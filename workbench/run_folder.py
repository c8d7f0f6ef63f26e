"""A folder that remembers one run: it survives being killed at any moment, and a run that goes on repeats nothing.

    config.json            what was run (it must be the same to go on) and with what versions (only noted)
    metrics.jsonl          one line a step, appended, never changed
    rollouts.jsonl         a few transcripts of each step, likewise
    checkpoints/step_N/    the state after N steps: tensors, state.json, and complete.json with a checksum of each file

The order makes it safe. A checkpoint is written under a temporary name, forced to disk and renamed; it carries the lines
of its own step; only then are these lines appended. So a kill leaves either the step before, complete, or a checkpoint
whose lines may be missing or torn, and opening the folder cuts what is torn and appends what is missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

try:
    import fcntl
except ImportError:  # Windows: the folder works, but two processes are not kept apart
    fcntl = None  # type: ignore[assignment]

KEPT = 2  # the newest checkpoints kept, besides the start: one to go on from, one should that be damaged
Row = dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after `step` steps: tensors by file and name, and what JSON can hold."""

    step: int
    tensors: dict[str, dict[str, Tensor]]
    state: Row
    rows: list[Row]
    rollouts: list[Row]


def read_rows(path: str | Path) -> list[Row]:
    """The complete lines of a .jsonl file, also while a run is writing it; a torn last line is left out.

    Raises:
        ValueError: naming a line, not the last, that is not JSON.
    """
    return _parse(Path(path))[0]


def steps_of(path: str | Path) -> list[int]:
    """The steps of which a run folder has a checkpoint."""
    found = (re.fullmatch(r"step_(\d{6,})", folder.name) for folder in Path(path).glob("checkpoints/step_*"))
    return sorted(int(match[1]) for match in found if match)


def read_checkpoint(path: str | Path, step: int) -> Checkpoint:
    """The checkpoint of a step, every byte compared with its checksum.

    Raises:
        ValueError: when a file is missing, cut short or altered.
    """
    from safetensors.torch import load

    folder = Path(path) / "checkpoints" / f"step_{step:06d}"
    try:
        sums = json.loads((folder / "complete.json").read_bytes())
        contents = {name: (folder / name).read_bytes() for name in sums}
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"{folder} is not a complete checkpoint: {error}") from error
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != sums[name]:
            raise ValueError(f"{folder / name} is not what was written: its checksum differs")
    saved = json.loads(contents.pop("state.json"))
    return Checkpoint(tensors={name.removesuffix(".safetensors"): load(data) for name, data in contents.items()}, **saved)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file so that a kill at any moment leaves the old one, or the new one, whole; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _write(temporary, data)
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)  # gives a full disk its room back
        raise
    _sync_folder(path.parent)


class RunFolder:
    """Open a run folder, or make it; it is this process's alone until `close`.

    Args:
        path: the folder.
        config: what is run, as JSON can hold it. A folder is opened again only with the same.
        made_with: versions, threads and the like: written down; a difference is only a warning.
    Raises:
        BlockingIOError: another process, or an unfinished run of this one, has the folder open.
        ValueError: the folder holds another run, or something that is no run; the message says what to do.
        OSError: a write failed, e.g. the disk is full. What was complete stays, and the run can go on later.
    """

    def __init__(self, path: str | Path, config: Mapping[str, Any], *, made_with: Mapping[str, Any] | None = None) -> None:
        self.path = Path(path)
        self._checkpoints = self.path / "checkpoints"
        self._open: list[IO[bytes]] = []
        try:
            self._checkpoints.mkdir(parents=True, exist_ok=True)
            self._lock()
            self._check_config({"run": dict(config), "made_with": dict(made_with or {})})
            self._clear_temporary()
            self._metrics = _Log(self._keep(self.path / "metrics.jsonl"), lambda row: row["step"])
            self._rollouts = _Log(self._keep(self.path / "rollouts.jsonl"), lambda row: (row["step"], row["row"]))
            self.latest = self._read_latest()
            if self.latest:
                self._append(self.latest.rows, self.latest.rollouts)
            self._check_metrics()
        except BaseException:
            self.close()
            raise

    def record(self, row: Row, rollouts: Iterable[Row] = ()) -> None:
        """Append the lines of a step that gets no checkpoint; a line that is there already is not repeated."""
        self._append([row], list(rollouts))

    def save(
        self, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Row, row: Row | None = None,
        rollouts: Iterable[Row] = (),
    ) -> None:  # fmt: skip
        """Write the checkpoint of a step, then append its lines, then remove checkpoints no longer needed.

        Args:
            tensors: by file and name, e.g. {"policy": {"weight": ...}} goes to policy.safetensors.
            state: what else is needed to go on, as JSON can hold it.
            row, rollouts: the step's line of metrics.jsonl and lines of rollouts.jsonl; no row for the start.
        """
        from safetensors.torch import save

        rows, rollouts = [row] if row else [], list(rollouts)
        saved = {"step": step, "state": state, "rows": rows, "rollouts": rollouts}
        contents = {f"{file}.safetensors": save(_contiguous(named)) for file, named in tensors.items()}
        contents["state.json"] = _json(saved)
        contents["complete.json"] = _json({name: hashlib.sha256(data).hexdigest() for name, data in contents.items()})
        target = self._checkpoints / f"step_{step:06d}"
        temporary = target.with_name(f".{target.name}")
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            for name, data in contents.items():
                _write(temporary / name, data)
            _sync_folder(temporary)
            if target.exists():
                shutil.rmtree(target)
            temporary.rename(target)
            _sync_folder(self._checkpoints)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)  # gives a full disk its room back
            raise self._explained(error) from error
        self._append(rows, rollouts)
        self.latest = None  # only for going on; do not hold the tensors
        for number in self.steps()[1:-KEPT]:  # the start is kept: the reference policy of a penalty, and the last resort
            shutil.rmtree(self._checkpoints / f"step_{number:06d}", ignore_errors=True)

    def steps(self) -> list[int]:
        """The steps of which there is a checkpoint."""
        return steps_of(self.path)

    def read(self, step: int) -> Checkpoint:
        """The checkpoint of a step; of step 0: what the run started from."""
        return read_checkpoint(self.path, step)

    def close(self) -> None:
        """Give the folder free. The kernel does the same for a process that is killed."""
        while self._open:
            self._open.pop().close()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- opening ----------------------------------------------------------------------------------------------

    def _keep(self, path: Path) -> IO[bytes]:
        path.touch()
        self._open.append(path.open("r+b", buffering=0))  # what is written is written: nothing waits for a flush
        return self._open[-1]

    def _lock(self) -> None:
        lock = self._keep(self.path / ".lock")
        if fcntl is None:
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = lock.read().decode(errors="replace")
            who = "a run of this process that is not finished: close its generator" if holder == str(os.getpid()) else (
                f"process {holder or 'unknown'}: wait for it or stop it"
            )  # fmt: skip
            raise BlockingIOError(f"{self.path} is in use by {who}, or choose another folder") from None
        try:
            lock.truncate(0)
            lock.write(str(os.getpid()).encode())
        except OSError:
            pass  # the number is only for the message

    def _check_config(self, config: Row) -> None:
        path = self.path / "config.json"
        config = json.loads(_json(config))  # tuples become lists, as they come back from the file
        if not path.exists():
            names = {p.name for p in self.path.iterdir() if not p.name.startswith(".config.json")}  # a kill may leave one
            strange = sorted(names - {".lock", "checkpoints"})
            if strange or any(self._checkpoints.iterdir()):
                found = ", ".join(strange[:3]) or "checkpoints"
                raise ValueError(f"{self.path} is not a run folder (no config.json, but {found}); choose a new folder")
            try:
                replace_file(path, json.dumps(config, indent=1).encode())
            except OSError as error:
                raise self._explained(error) from error
            return
        try:
            saved = json.loads(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"{path} is not JSON ({error}); restore it, or choose a new folder") from error
        for name, there, here in _differences(saved.get("run"), config["run"], ""):
            raise ValueError(
                f"{self.path} holds another run: {name} is {there} there and {here} here. "
                "Give the same to go on with it, or choose a new folder"
            )
        for name, there, here in _differences(saved.get("made_with"), config["made_with"], ""):
            warnings.warn(f"{self.path} was made with {name} {there}, now {here}: the bits may differ", stacklevel=4)

    def _clear_temporary(self) -> None:
        for path in self._checkpoints.glob(".step_*"):
            shutil.rmtree(path, ignore_errors=True)

    def _read_latest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole. A damaged one is put aside: the steps after the one before are done again."""
        steps = self.steps()
        for step in reversed(steps):
            path = self._checkpoints / f"step_{step:06d}"
            try:
                return self.read(step)
            except ValueError as error:
                warnings.warn(f"{error}; going back to the checkpoint before it", stacklevel=4)
                aside = path.with_name(f"unreadable_{path.name}")
                shutil.rmtree(aside, ignore_errors=True)
                path.rename(aside)
        if steps or self._metrics.keys:
            raise ValueError(f"no checkpoint in {self._checkpoints} can be read; choose a new folder and start again")
        return None

    def _check_metrics(self) -> None:
        reached = max(self.latest.step if self.latest else 0, len(self._metrics.keys))
        missing = [step for step in range(1, reached + 1) if step not in self._metrics.keys]
        if missing:
            raise ValueError(
                f"{self.path / 'metrics.jsonl'} has no line for step {missing[0]}, though the run went on to step "
                f"{reached}: the file was changed. Restore it, or choose a new folder"
            )

    # ---- writing ----------------------------------------------------------------------------------------------

    def _append(self, rows: list[Row], rollouts: list[Row]) -> None:
        try:
            self._rollouts.append(rollouts)
            self._metrics.append(rows)
        except OSError as error:
            raise self._explained(error) from error

    def _explained(self, error: OSError) -> OSError:
        done = max(self._metrics.keys, default=0) if hasattr(self, "_metrics") else 0
        return OSError(
            error.errno,
            f"{os.strerror(error.errno or 0)} while writing to {self.path}: nothing written before is lost "
            f"(step {done} is complete); make room and run again with the same arguments to go on",
        )


class _Log:
    """Append-only JSON lines. Each has a key, and a key is written once."""

    def __init__(self, file: IO[bytes], key: Callable[[Row], Any]) -> None:
        self._file, self._key = file, key
        rows, end = _parse(Path(file.name))
        self.keys = {key(row) for row in rows}
        file.truncate(end)
        file.seek(end)

    def append(self, rows: Iterable[Row]) -> None:
        new = [row for row in rows if self._key(row) not in self.keys]
        if not new:
            return
        data = memoryview(b"".join(_json(row) + b"\n" for row in new))
        end = self._file.tell()
        try:
            while data:
                data = data[self._file.write(data) :]
            os.fsync(self._file.fileno())
        except BaseException:
            self._file.seek(end)
            self._file.truncate()  # not half a line; opening would cut it too
            raise
        self.keys.update(self._key(row) for row in new)


def _parse(path: Path) -> tuple[list[Row], int]:
    """The rows of a .jsonl file, and how many bytes they take; what follows is a torn last line."""
    data, rows, end = path.read_bytes(), [], 0
    for number, line in enumerate(data.splitlines(keepends=True), start=1):
        try:
            if not line.endswith(b"\n"):
                raise ValueError("cut short")
            rows.append(json.loads(line))
        except ValueError as error:
            if end + len(line) == len(data):
                break
            raise ValueError(f"{path} line {number} is damaged ({error}); restore the file, or choose a new folder") from None
        end += len(line)
    return rows, end


def _json(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False).encode()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _contiguous(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in named.items()}


def _differences(there: Any, here: Any, name: str) -> Iterable[tuple[str, str, str]]:
    """(dotted name, value there, value here) wherever two JSON values differ."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in list(there) + [key for key in here if key not in there]:
            absent = "absent"
            yield from _differences(there.get(key, absent), here.get(key, absent), f"{name}.{key}" if name else key)
    elif there != here:
        yield name, str(there), str(here)
