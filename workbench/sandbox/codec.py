"""Plain data as bytes and back: the only thing that crosses the wall between a program and its judge.

One byte of tag, four of length where there is one, then the contents; exact types only, so that a subclass with an
obliging `__eq__` does not get through. Everything is bounded before anything is built: bytes, values, depth, the size of an
integer, the members of a set or dict (whose hashing could otherwise cost the judge quadratic time).

The words that judge, zygote and child have for each other are here, too. Both sides use this file; inside the wall it is
loaded alone, so it imports nothing of the package.
"""

from __future__ import annotations

import struct
from typing import Any

FRAME, VALUES, DEPTH, INTEGER_BYTES, MEMBERS = 256 << 10, 20_000, 32, 8 << 10, 2_000

DESCRIPTORS = struct.Struct("4i")  # a child's standard output and error, where its program comes from, where answers go
REQUEST = struct.Struct("=BQdQ")  # judge to zygote: what to do, number of the program, seconds of CPU, bytes of memory
BEGINS, FORK, FINISH = 1, 2, 4
REPORT = struct.Struct("=QidB")  # zygote to judge: number of the program, status as from wait, seconds of CPU, and the reason
BY_ITSELF, CPU, ASKED = range(3)
READY, VALUE, UNSUPPORTED, EXCEPTION, LOCKDOWN = b"rvuel"  # the first byte of what a child says

_SEQUENCES = {ord("l"): list, ord("t"): tuple, ord("s"): set, ord("z"): frozenset}
_TAG: dict[Any, int] = {kind: tag for tag, kind in _SEQUENCES.items()}
_HEAD = struct.Struct(">IB")
_BLOCK, _FLOAT, _COMPLEX, _LENGTH = struct.Struct(">BI"), struct.Struct(">Bd"), struct.Struct(">Bdd"), struct.Struct(">I")


def framed(kind: int, data: bytes = b"") -> bytes:
    """One message of a child as it goes through the pipe: its length, its kind, its data."""
    return _HEAD.pack(len(data) + 1, kind) + data


class Unsupported(Exception):
    """Not plain data, or too much of it."""


class Malformed(Exception):
    """Bytes that no encoder made."""


def encode(value: object) -> bytes:
    """Bytes for None, bool, int, float, complex, str, bytes, list, tuple, set, frozenset and dict of these.

    Raises:
        Unsupported: another type (subclasses included), or more than the bounds allow.
    """
    out = bytearray()
    _put(out, value, 0, VALUES)
    if len(out) > FRAME:
        raise Unsupported(f"more than {FRAME} bytes")
    return bytes(out)


def _put(out: bytearray, value: Any, depth: int, left: int) -> int:
    """Append one value; how many values there may still be."""
    left -= 1
    if left < 0 or depth > DEPTH or len(out) > FRAME:
        raise Unsupported(f"more than {VALUES} values, {DEPTH} levels or {FRAME} bytes")
    kind = type(value)
    if kind is int:
        size = value.bit_length() // 8 + 1
        if size > INTEGER_BYTES:
            raise Unsupported(f"an integer of more than {INTEGER_BYTES} bytes")
        out += _BLOCK.pack(105, size) + value.to_bytes(size, "big", signed=True)  # i
    elif kind is str or kind is bytes:
        try:
            contents = value.encode() if kind is str else value
        except UnicodeEncodeError:
            raise Unsupported("a text with half a surrogate pair") from None
        if len(contents) > FRAME:
            raise Unsupported(f"more than {FRAME} bytes")
        out += _BLOCK.pack(117 if kind is str else 98, len(contents)) + contents  # u, b
    elif value is None:
        out += b"N"
    elif kind is bool:
        out += b"T" if value else b"F"
    elif kind is float:
        out += _FLOAT.pack(102, value)  # f
    elif kind in _TAG:
        if kind in (set, frozenset) and len(value) > MEMBERS:
            raise Unsupported(f"a set of more than {MEMBERS} members")
        out += _BLOCK.pack(_TAG[kind], len(value))
        for item in value:
            left = _put(out, item, depth + 1, left)
    elif kind is dict:
        if len(value) > MEMBERS:
            raise Unsupported(f"a dict of more than {MEMBERS} members")
        out += _BLOCK.pack(100, len(value))  # d
        for key, item in value.items():
            left = _put(out, item, depth + 1, _put(out, key, depth + 1, left))
    elif kind is complex:
        out += _COMPLEX.pack(99, value.real, value.imag)  # c
    else:
        raise Unsupported(f"a value of type {kind.__name__[:100]}")
    return left


def decode(data: bytes) -> object:
    """The value that `encode` made `data` from.

    Raises:
        Malformed: anything else, including bytes left over.
    """
    if len(data) > FRAME:
        raise Malformed(f"{len(data)} bytes, at most {FRAME} are read")
    try:
        value, place, _ = _get(data, 0, 0, VALUES)
    except (struct.error, IndexError):
        raise Malformed("cut short") from None
    if place != len(data):
        raise Malformed(f"{len(data) - place} bytes left over" if place < len(data) else "cut short")
    return value


def _get(data: bytes, place: int, depth: int, left: int) -> tuple[Any, int, int]:
    """The value that begins at `place`, where the next one begins, and how many values there may still be."""
    left -= 1
    if left < 0 or depth > DEPTH:
        raise Malformed(f"more than {VALUES} values or {DEPTH} levels")
    tag = data[place]
    if tag == 78:  # N
        return None, place + 1, left
    if tag == 84 or tag == 70:  # T, F
        return tag == 84, place + 1, left
    if tag == 102:  # f
        return _FLOAT.unpack_from(data, place)[1], place + 9, left
    if tag == 99:  # c
        return complex(*_COMPLEX.unpack_from(data, place)[1:]), place + 17, left
    (size,) = _LENGTH.unpack_from(data, place + 1)
    place += 5
    if tag in (105, 117, 98):  # i, u, b
        end = place + size
        if end > len(data):
            raise Malformed("cut short")
        contents = data[place:end]
        if tag == 105:
            if not 0 < size <= INTEGER_BYTES:
                raise Malformed("an integer of an impossible size")
            return int.from_bytes(contents, "big", signed=True), end, left
        try:
            return contents.decode() if tag == 117 else contents, end, left
        except UnicodeDecodeError:
            raise Malformed("text that is not UTF-8") from None
    if tag not in _SEQUENCES and tag != 100:  # d
        raise Malformed(f"unknown tag {tag}")
    if size > MEMBERS and tag not in (108, 116):  # l, t
        raise Malformed(f"a set or dict of {size} members")
    items = []
    for _ in range(2 * size if tag == 100 else size):
        item, place, left = _get(data, place, depth + 1, left)
        items.append(item)
    try:
        return dict(zip(items[::2], items[1::2])) if tag == 100 else _SEQUENCES[tag](items), place, left
    except TypeError:
        raise Malformed("an unhashable member of a set or dict") from None
