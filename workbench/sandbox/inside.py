"""What runs around a program, on its side of the wall: it is read, run and asked, and its answers are written.

Loaded alone inside the wall, by the zygote or in WebAssembly, so it imports nothing of the package.
"""

from __future__ import annotations

import marshal
import os

import codec  # loaded from this file's own folder


def perform(program: int, answers: int) -> None:
    """Run the program, then what came with it, and say what each returned: calls (a name and arguments), expressions (True and
    Python), statements (False and Python). It goes on after an exception, which may be what is expected: the judge decides.
    That the program itself has run is said together with the first answer: every word wakes the judge.

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
    before = b""  # what is to be said with the next answer
    for function, arguments in calls:
        kind = codec.VALUE
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
            kind, data = codec.UNSUPPORTED, str(error).encode(errors="replace")
        except BaseException as error:  # SystemExit and KeyboardInterrupt are answers, too
            try:
                text = str(error)[:1000]
            except BaseException:
                text = "(its message cannot be shown)"
            text = text.encode(errors="replace").decode()
            kind, data = codec.EXCEPTION, codec.encode((type(error).__name__[:100], text))
        data = codec.framed(kind, data)
        if function is not None:
            say(answers, before + data)
            before = b""
        elif kind == codec.VALUE:
            before = data
        else:
            say(answers, data)
            return


def say(to: int, data: bytes) -> None:
    """Write all of `data`."""
    while data:
        data = data[os.write(to, data) :]
