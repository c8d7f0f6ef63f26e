"""What makes two arms the same: their configuration and their own code.

The code that counts is the arm's: the source of functions and classes from a notebook, a script or a module of yours, with
everything of yours that they refer to by name, their defaults and their closures. Of installed packages, this one included,
only the version counts. So editing one arm reruns that arm alone, and an upgrade reruns what may have changed.
"""

from __future__ import annotations

import dataclasses
import dis
import functools
import hashlib
import importlib.metadata
import inspect
import json
import site
import sys
import sysconfig
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import workbench

_FOLDER = Path(__file__).parents[1]
_INSTALLED = {
    str(Path(p).resolve())
    for p in (*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages())
    if p and "scripts" not in p
}
_PLAIN = (type(None), bool, int, float, complex, str, bytes)


def fingerprint(value: Any) -> str:
    """A hash (64 hexadecimal digits) of a value's configuration and code; the same in every process.

    Raises:
        TypeError: for a value whose content cannot be told, such as an open file.
    """
    return _digest(value, [], {})


def source_of_package() -> str:
    """A hash of this package's code that learning depends on: noted with each run, since a version may hide many edits."""
    found = hashlib.sha256()
    for path in sorted(_FOLDER.rglob("*.py")):
        if path.relative_to(_FOLDER).parts[0] not in ("course", "plots", "bench", "study", "cli.py", "doctor.py"):
            found.update(path.relative_to(_FOLDER).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:12]


def _digest(value: Any, above: list[int], known: dict[int, tuple[Any, str]]) -> str:
    """The hash of one value. above: ids on the way to it, which end a recursion. known: what was hashed before, kept alive
    so that no id is used twice."""
    if isinstance(value, _PLAIN):
        return hashlib.sha256(json.dumps([type(value).__name__, repr(value)]).encode()).hexdigest()
    if id(value) in above:
        return f"level {above.index(id(value))}"
    if id(value) not in known:
        found = hashlib.sha256()
        above.append(id(value))
        _feed(found, value, lambda part: found.update(_digest(part, above, known).encode()))
        above.pop()
        known[id(value)] = (value, found.hexdigest())
    return known[id(value)][1]


def _feed(found: Any, value: Any, feed: Callable[[Any], None]) -> None:
    """Update `found` with what `value` is; `feed` does the same for its parts."""

    def write(*parts: Any) -> None:
        found.update(json.dumps([str(part) for part in parts]).encode())

    if hasattr(value, "identity") and not inspect.isclass(value):
        write("identity", _name(type(value)))
        feed(value.identity())
    elif isinstance(value, types.ModuleType):
        write("module", value.__name__, _version(value.__name__))
        if _is_yours(value.__name__) and getattr(value, "__file__", None):
            write(Path(str(value.__file__)).read_text(encoding="utf-8"))
    elif isinstance(value, functools.partial):
        write("partial")
        feed([value.func, list(value.args), value.keywords])
    elif hasattr(value, "__wrapped__") and not isinstance(value, types.FunctionType):  # functools.cache and its like
        write("wrapped", _name(type(value)))
        feed(value.__wrapped__)
    elif isinstance(value, types.MethodType):
        write("method", value.__name__)
        feed([value.__func__, value.__self__])
    elif isinstance(value, types.FunctionType):
        write("function", _name(value), _version(value.__module__))
        feed([value.__defaults__, value.__kwdefaults__, [_content(cell) for cell in value.__closure__ or ()]])
        if _is_yours(value.__module__):
            write(_source(value))
            for name in sorted(_names(value.__code__)):
                if name in value.__globals__:
                    write("global", name)
                    feed(value.__globals__[name])
    elif inspect.isclass(value):
        write("class", _name(value), _version(value.__module__))
        if _is_yours(value.__module__):
            write(_source(value))
            feed(list(value.__bases__))
            for name, member in sorted(vars(value).items()):
                if isinstance(getattr(member, "__func__", member), types.FunctionType):
                    write("member", name)
                    feed(getattr(member, "__func__", member))
    elif isinstance(value, types.BuiltinFunctionType):
        write("builtin", _name(value), _version(getattr(value, "__module__", None)))
    elif isinstance(value, Mapping):
        write("mapping", len(value))
        for key in sorted(value, key=repr):
            feed(key)
            feed(value[key])
    elif isinstance(value, (list, tuple)):
        write(type(value).__name__, len(value))
        for one in value:
            feed(one)
    elif isinstance(value, (set, frozenset)):
        write("set", *sorted(fingerprint(one) for one in value))
    elif isinstance(value, Path):
        write("path", value)
    elif hasattr(value, "tobytes") and hasattr(value, "dtype"):
        write("array", value.dtype, value.shape)
        if value.dtype == object:
            feed(value.tolist())
        else:
            found.update(value.tobytes())
    elif hasattr(value, "detach") and hasattr(value, "numpy"):
        feed(value.detach().cpu().numpy())
    elif hasattr(value, "state_dict"):
        feed([type(value), dict(value.state_dict())])
    elif dataclasses.is_dataclass(value):
        feed([type(value), {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}])
    else:
        _feed_object(value, feed)


def _feed_object(value: Any, feed: Callable[[Any], None]) -> None:
    """Any other object: its class and what pickle would keep of it."""
    try:
        made = value.__reduce_ex__(2)
    except Exception as error:
        raise TypeError(
            f"cannot tell what is in {value!r}, so finished runs could not be found again ({error}): make it inside the arm"
        ) from None
    feed(made if isinstance(made, str) else [part if not hasattr(part, "__next__") else list(part) for part in made])


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet: a function that refers to itself
        return None


def _names(code: types.CodeType) -> set[str]:
    """Every name a function, or a function inside it, may look up among the globals."""
    found = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _names(constant)
    return found


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__name__)}"


def _source(value: Any) -> str:
    try:
        return inspect.getsource(getattr(value, "__code__", value))  # of the code: not of what a wrapper wraps
    except (OSError, TypeError):  # made by exec, or typed into a plain interpreter
        code = getattr(value, "__code__", None)
        return repr((code.co_code, [c for c in code.co_consts if isinstance(c, _PLAIN)], code.co_names)) if code else ""


@functools.cache
def _is_yours(module: str | None) -> bool:
    """Whether a module is the user's own code, so that its source counts."""
    if module is None or module.partition(".")[0] in {"workbench", "builtins"}:
        return False
    if module == "__main__":
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is not None and not any(str(Path(file).resolve()).startswith(folder + "/") for folder in _INSTALLED)


@functools.cache
def _version(module: str | None) -> str:
    top = (module or "").partition(".")[0]
    if top == "workbench":
        return workbench.__version__
    if not top or top in sys.stdlib_module_names or _is_yours(module):
        return ""
    try:
        return importlib.metadata.version(top)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(sys.modules.get(top), "__version__", ""))
