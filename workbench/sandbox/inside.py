"""What runs around a program, on its side of the wall: it is read, run and asked, and its answers are written.

Loaded alone inside the wall, by the zygote or in WebAssembly, so it imports nothing of the package.
"""

from __future__ import annotations

import marshal
import os
import struct

import codec  # loaded from this file's own folder


def perform(program: int, answers: int) -> None:
    """Run the program, then what came with it, and say what each returned: calls (a name and arguments), expressions (True and
    Python), statements (False and Python). It goes on after an exception, which may be what is expected: the judge decides.

    program, answers: the descriptors to read from and to write to.
    """
    data = os.read(program, 1 << 13)
    while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
        part = os.read(program, 1 << 16)
        if not part:  # the judge has gone
            return
        data += part
    calls = marshal.loads(data[4:])  # the judge's own words
    names: dict = {"__name__": "__program__"}
    tests: dict = {}  # what they have given names to
    for function, arguments in calls:
        try:
            if function is None:
                exec(compile(arguments, "<program>", "exec"), names)
                value = None
            elif function is True:
                value = eval(arguments, names, tests)
            elif function is False:
                exec(arguments, names, tests)
                value = None
            elif function in names:
                value = names[function](*arguments)
            else:
                raise NameError(f"the program defines no {function}")
            data = codec.encode(value)
        except codec.Unsupported as error:
            say(answers, codec.UNSUPPORTED, str(error).encode(errors="replace"))
            continue
        except BaseException as error:  # SystemExit and KeyboardInterrupt are answers, too
            try:
                text = str(error)[:1000]
            except BaseException:
                text = "(its message cannot be shown)"
            text = text.encode(errors="replace").decode()
            say(answers, codec.EXCEPTION, codec.encode((type(error).__name__[:100], text)))
            if function is None:
                return
            continue
        say(answers, codec.VALUE, data)


def say(to: int, kind: int, data: bytes = b"") -> None:
    """Write one message: its length, its kind, its data."""
    data = struct.pack(">IB", len(data) + 1, kind) + data
    while data:
        data = data[os.write(to, data) :]
