"""Plain data as bytes and back: the only thing that crosses the wall between a program and its judge.

One byte of tag, four of length where there is one, then the contents; exact types only, so that a subclass with an
obliging `__eq__` does not get through. Everything is bounded before anything is built: bytes, values, depth, the size of an
integer, the members of a set or dict (whose hashing could otherwise cost the judge quadratic time).

Both sides use this file; inside the wall it is loaded alone, so it imports nothing of the package.
"""

from __future__ import annotations

import struct
from typing import Any

FRAME, VALUES, DEPTH, INTEGER_BYTES, MEMBERS = 256 << 10, 20_000, 32, 8 << 10, 2_000
_CONSTANTS = {b"N": None, b"T": True, b"F": False}
_SEQUENCES = {b"l": list, b"t": tuple, b"s": set, b"z": frozenset}
_TAG: dict[Any, bytes] = {kind: tag for tag, kind in _SEQUENCES.items()}


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
    count = 0

    def put(value: Any, depth: int) -> None:
        nonlocal count
        count += 1
        if count > VALUES or depth > DEPTH or len(out) > FRAME:
            raise Unsupported(f"more than {VALUES} values, {DEPTH} levels or {FRAME} bytes")
        kind = type(value)
        if value is None:
            out.extend(b"N")
        elif kind is bool:
            out.extend(b"T" if value else b"F")
        elif kind is int:
            size = value.bit_length() // 8 + 1
            if size > INTEGER_BYTES:
                raise Unsupported(f"an integer of more than {INTEGER_BYTES} bytes")
            _block(out, b"i", value.to_bytes(size, "big", signed=True))
        elif kind is float:
            out.extend(b"f" + struct.pack(">d", value))
        elif kind is complex:
            out.extend(b"c" + struct.pack(">dd", value.real, value.imag))
        elif kind is str:
            try:
                _block(out, b"u", value.encode())
            except UnicodeEncodeError:
                raise Unsupported("a text with half a surrogate pair") from None
        elif kind is bytes:
            _block(out, b"b", value)
        elif kind in _TAG:
            if kind in (set, frozenset) and len(value) > MEMBERS:
                raise Unsupported(f"a set of more than {MEMBERS} members")
            out.extend(_TAG[kind] + struct.pack(">I", len(value)))
            for item in value:
                put(item, depth + 1)
        elif kind is dict:
            if len(value) > MEMBERS:
                raise Unsupported(f"a dict of more than {MEMBERS} members")
            out.extend(b"d" + struct.pack(">I", len(value)))
            for key, item in value.items():
                put(key, depth + 1)
                put(item, depth + 1)
        else:
            raise Unsupported(f"a value of type {kind.__name__[:100]}")

    put(value, 0)
    if len(out) > FRAME:
        raise Unsupported(f"more than {FRAME} bytes")
    return bytes(out)


def decode(data: bytes) -> object:
    """The value that `encode` made `data` from.

    Raises:
        Malformed: anything else, including bytes left over.
    """
    if len(data) > FRAME:
        raise Malformed(f"{len(data)} bytes, at most {FRAME} are read")
    place = count = 0

    def take(size: int) -> bytes:
        nonlocal place
        if size > len(data) - place:
            raise Malformed("cut short")
        place += size
        return data[place - size : place]

    def length() -> int:
        return struct.unpack(">I", take(4))[0]

    def get(depth: int) -> object:
        nonlocal count
        count += 1
        if count > VALUES or depth > DEPTH:
            raise Malformed(f"more than {VALUES} values or {DEPTH} levels")
        tag = take(1)
        if tag in _CONSTANTS:
            return _CONSTANTS[tag]
        if tag == b"i":
            size = length()
            if not 0 < size <= INTEGER_BYTES:
                raise Malformed("an integer of an impossible size")
            return int.from_bytes(take(size), "big", signed=True)
        if tag == b"f":
            return struct.unpack(">d", take(8))[0]
        if tag == b"c":
            return complex(*struct.unpack(">dd", take(16)))
        if tag == b"u":
            try:
                return take(length()).decode()
            except UnicodeDecodeError:
                raise Malformed("text that is not UTF-8") from None
        if tag == b"b":
            return take(length())
        if tag in _SEQUENCES:
            kind, size = _SEQUENCES[tag], length()
            if kind in (set, frozenset) and size > MEMBERS:
                raise Malformed(f"a set of {size} members")
            return _built(kind, [get(depth + 1) for _ in range(size)])
        if tag == b"d":
            size = length()
            if size > MEMBERS:
                raise Malformed(f"a dict of {size} members")
            return _built(dict, [(get(depth + 1), get(depth + 1)) for _ in range(size)])
        raise Malformed(f"unknown tag {tag!r}")

    value = get(0)
    if place != len(data):
        raise Malformed(f"{len(data) - place} bytes left over")
    return value


def _built(kind: type, items: list) -> object:
    try:
        return kind(items)
    except TypeError:
        raise Malformed("an unhashable member of a set or dict") from None


def _block(out: bytearray, tag: bytes, contents: bytes) -> None:
    if len(contents) > FRAME:
        raise Unsupported(f"more than {FRAME} bytes")
    out.extend(tag + struct.pack(">I", len(contents)) + contents)
