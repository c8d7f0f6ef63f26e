"""Tools: each against what it must give, and the box against everything that can go wrong with a call."""

from __future__ import annotations

import json
import math
import threading
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import models, sample, sandbox
from workbench.tasks import Addition, Calculator, Lookup, tools
from workbench.tasks.code import SandboxBroke
from workbench.tasks.spoken import ToolEpisode, call
from workbench.tasks.tools import FAULTS, Search, Store, Toolbox, calculate, python, schema
from workbench.train import train


def double(number: int) -> int:
    """Double a number.

    Args:
        number: The number.
    """
    return 2 * number


def shout(text: str, often: int = 1, loud: bool = False, factor: float = 1.0) -> str:
    """Say it.

    Args:
        text: What.
        often: How often.
        loud: In capitals.
        factor: Not used.
    """
    return (text.upper() if loud else text) * often


def fail() -> str:
    """Always fail."""
    raise RuntimeError("no\x1b[31m luck")


def leave() -> str:
    """Try to end the process."""
    raise SystemExit(3)


def megabyte() -> str:
    """Say a lot."""
    return "é" * 2**20


class Unshowable:
    def __str__(self) -> str:
        raise ValueError("no text")


def unshowable() -> object:
    """Give something that has no text."""
    return Unshowable()


def broken() -> str:
    """Never get to run."""
    raise SandboxBroke("no worker")


@pytest.fixture
def box():
    def hang() -> str:
        """Never come back."""
        while True:
            time.sleep(0.001)

    return Toolbox(double, shout, fail, leave, hang, megabyte, unshowable, broken, seconds=0.05, characters=300, longest=500)


# ---- what goes wrong with a call --------------------------------------------------------------------------------------


def test_a_call_is_answered_by_the_result(box):
    seen = box.answer("Let me see. " + call("double", number=21))
    assert (seen.text, seen.faults, seen.invalid) == ("42", (), False)
    assert box.answer(call("shout", text="a", often=2, loud=True, factor=2)).text == "AA"
    assert box.counts == {"calls": 2}


def test_several_calls_in_a_turn_are_answered_in_order_and_the_ninth_is_not(box):
    assert box.answer(call("double", number=1) + "\n" + call("double", number=2)).text == "2\n4"
    seen = box.answer(call("double", number=1) * 9)
    assert seen.text.split("\n") == ["2"] * 8 + ["error: only the first 8 of 9 calls were made"] and seen.faults == ("long",)


def test_a_turn_without_a_call_is_not_for_the_box(box):
    assert box.answer("42") is None and box.answer("") is None and not box.counts


@pytest.mark.parametrize(
    ("text", "fault", "said"),
    [
        ("<tool_call>", "malformed", "must be closed"),
        ("</tool_call>", "malformed", "must be closed"),
        ("</tool_call>x<tool_call>", "malformed", "must be closed"),
        ("<tool_call><tool_call>{}</tool_call></tool_call>", "malformed", "cannot be nested"),
        ("<tool_call></tool_call>", "malformed", "not JSON"),
        ("<tool_call>double(2)</tool_call>", "malformed", "not JSON"),
        ("<tool_call>" + "[" * 400 + "</tool_call>", "malformed", "not JSON"),
        ("<tool_call>[1]</tool_call>", "malformed", '"name"'),
        ('<tool_call>{"name": ["double"]}</tool_call>', "malformed", '"name"'),
        ('<tool_call>{"name": "triple"}</tool_call>', "unknown", "no tool 'triple'; there are double, shout"),
        (call("__init__"), "unknown", "no tool"),
        ('<tool_call>{"name": "double", "arguments": 3}</tool_call>', "arguments", "must be a JSON object"),
        (call("double"), "arguments", "double(number): missing a required argument: 'number'"),
        (call("double", number=1, more=2), "arguments", "unexpected keyword argument 'more'"),
        (call("double", number="3"), "arguments", "number must be of type int, not str"),
        (call("double", number=True), "arguments", "number must be of type int, not bool"),
        (call("double", number=2.0), "arguments", "number must be of type int, not float"),
        (call("double", number=None), "arguments", "not NoneType"),
        (call("shout", text="a" * 600), "long", "characters; at most 500"),
        (call("fail"), "failed", r"RuntimeError: no\x1b[31m luck"),
        (call("leave"), "failed", "SystemExit(3)"),
        (call("hang"), "time", "hang gave nothing within 0.05 s"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_said_counted_and_never_raised(box, text, fault, said):
    seen = box.answer(text)
    assert seen.faults == (fault,) and seen.text.startswith("error: ") and said in seen.text
    assert len(seen.text) < 400 and "\x1b" not in seen.text
    assert box.counts == {"calls": 1, fault: 1}
    assert seen.invalid == (fault in ("malformed", "unknown", "arguments", "long"))


def test_a_megabyte_is_cut_and_what_has_no_text_says_so(box):
    seen = box.answer(call("megabyte"))
    assert seen.text == "é" * 300 + "… (1048576 characters)" and not seen.faults
    assert box.answer(call("unshowable")).text == "(a Unshowable that cannot be shown: ValueError)"


def test_a_loop_is_ended_and_a_tool_that_hangs_three_times_is_out_of_order_for_a_while_in_every_box(box, monkeypatch):
    before = tools.tally()
    for _ in range(3):
        assert "within" in box.answer(call("hang")).text
    another = Toolbox(box.tools["hang"], double, seconds=0.05)  # that of another episode
    assert box.answer(call("hang")).text == another.answer(call("hang")).text == "error: hang is out of order"
    assert another.answer(call("double", number=2)).text == "4"
    assert box.counts == {"calls": 4, "time": 4} and another.counts == {"calls": 2, "time": 1}
    assert tools.tally() - before == box.counts + another.counts
    later = time.monotonic() + tools.REST * box.seconds
    monkeypatch.setattr(tools.time, "monotonic", lambda: later)
    assert "within" in another.answer(call("hang")).text and "out of order" in another.answer(call("hang")).text  # one more try
    for thread in threading.enumerate():
        if thread.name == "tool":
            thread.join(5)
    assert not any(thread.name == "tool" for thread in threading.enumerate())


def test_a_sandbox_that_broke_is_our_fault_and_raised(box):
    with pytest.raises(SandboxBroke, match="no worker"):
        box.answer(call("broken"))


@settings(max_examples=60, deadline=None)
@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)))
def test_no_call_raises(inside):
    box = Toolbox(double, shout, seconds=1)
    for text in (inside if isinstance(inside, str) else json.dumps(inside), json.dumps({"name": "shout", "arguments": inside})):
        seen = box.answer(f"<tool_call>{text}</tool_call>")
        assert seen is not None and set(seen.faults) <= set(FAULTS)


def test_a_bad_box_is_refused():
    def bare(x):
        return x

    for given_tools, bounds, error, message in (
        ((), {}, ValueError, "at least one tool"), ((double, double), {}, ValueError, "two tools are called 'double'"),
        ((double,), {"seconds": 0}, ValueError, "must be positive"), ((bare,), {}, TypeError, "bare cannot be a tool"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            Toolbox(*given_tools, **bounds)


def test_the_schema_is_what_transformers_makes_of_the_method():
    assert schema(Store().put)["function"] == {
        "name": "put",
        "description": "Write a note down, in the place of an earlier one with the same key.",
        "parameters": {
            "type": "object",
            "properties": {
                "key": {"type": "string", "description": "Its name."},
                "value": {"type": "string", "description": "What to remember."},
            },
            "required": ["key", "value"],
        },
        "return": {"type": "string", "description": "A confirmation."},
    }
    assert [each["function"]["name"] for each in Toolbox(calculate, python).schemas()] == ["calculate", "python"]
    told = Toolbox(calculate).described()
    assert json.dumps(schema(calculate)["function"]) in told and '<tool_call>{"name": ' in told


# ---- the tools --------------------------------------------------------------------------------------------------------


def test_the_calculator_knows_arithmetic():
    for text in ("1+2*3", "(1+2)*3", "-2**2", "7//2", "-7//2", "7%3", "1/8", "2**-1", "2**332", "1.5e3*2", " +5"):
        assert calculate(text) == str(eval(text))


@pytest.mark.parametrize(
    "text",
    ["", "1+", "x", "abs(1)", "'a'*3", "[1]", "1 if 1 else 2", "True", "1j", "10**101", "9**9**9**9", "(-8)**0.5", "0**-1", "1/0",
     "1e999", "-1e999", "1 and 2", "().__class__", "1_0 or 1", "(" * 150 + "1" + ")" * 150, "1+" * 200 + "1", "\x00"],
)  # fmt: skip
def test_the_calculator_refuses_everything_else_at_once(text):
    box = Toolbox(calculate, seconds=5)
    assert box.answer(call("calculate", expression=text)).faults == ("failed",)


def test_notes_are_kept_within_bounds():
    store = Store(entries=2, characters=10)
    box = Toolbox(store.put, store.get, store.delete)
    for made, said in (
        (call("put", key="a", value="1"), "kept"), (call("get", key="a"), "1"), (call("put", key="a", value="2"), "kept"),
        (call("get", key="a"), "2"), (call("get", key="b"), "error: KeyError"), (call("put", key="b", value="1" * 10), "error"),
        (call("put", key="b", value="3"), "kept"), (call("put", key="c", value="4"), "error: ValueError: there are 2 notes"),
        (call("delete", key="a"), "deleted"), (call("delete", key="a"), "error"), (call("put", key="c", value="4"), "kept"),
    ):  # fmt: skip
        assert box.answer(made).text.startswith(said)
    assert store.kept == {"b": "3", "c": "4"}


def test_search_scores_by_bm25():
    """Written out for one word that is in one of two documents, and one that is in both."""
    search = Search({"first": "red apple", "second": "green apple tree"}, k1=1.2, b=0.75)
    mean = (3 + 4) / 2  # the title is a word too

    def part(n, frequency, length):
        norm = 1.2 * (1 - 0.75 + 0.75 * length / mean)
        return math.log(1 + (2 - n + 0.5) / (n + 0.5)) * frequency * 2.2 / (frequency + norm)

    assert search.scores("Tree, apple?") == pytest.approx({"second": part(1, 1, 4) + part(2, 1, 4), "first": part(2, 1, 3)})
    assert list(search.scores("apple")) == ["first", "second"]  # the shorter one
    assert search.scores("pear") == {} and search.search("pear") == search.search("") == "nothing found"
    assert search.search("tree") == "second: green apple tree" and search.search("apple", -5).count("\n") == 0
    assert search.read("second") == "green apple tree"
    with pytest.raises(KeyError, match="use search"):
        search.read("third")
    with pytest.raises(ValueError, match="no document"):
        Search({})


def test_pythons_documentation_is_found():
    search = Search(tools.python_documentation())
    assert len(search.documents) > 200
    for words, title in (("split string separator", "str.split"), ("greatest common divisor", "math.gcd")):
        assert title in search.search(words, 5)
    assert "Counter" in search.search("count hashable items elements")


def test_python_shows_what_is_printed_and_how_it_failed():
    assert python("print(6 * 7)") == "42" and python("x = 1") == "(it printed nothing)"
    assert "ZeroDivisionError" in python("print('before')\n1 / 0") and python("print('before')\n1/0").startswith("before\n")
    assert "SyntaxError" in python("def f(:")
    assert python("x = 1\ndel x") == "(it printed nothing)" and "NameError" in python("print(x)")  # nothing is kept


def test_python_contains_what_hangs_floods_or_leaves():
    box = Toolbox(python, seconds=60)
    for code, said in (("while True: pass", "time"), ("print('a' * 10**7)", "output limit"), ("exit()", "NameError"),
                       ("open('/etc/passwd')", "Error"), ("[0] * 10**10", "memory")):  # fmt: skip
        seen = box.answer(call("python", code=code))
        assert len(seen.text) < 2100 and said.lower() in seen.text.lower()
    assert box.counts == Counter(calls=5)


def test_python_that_could_not_be_tried_is_not_the_programs_fault(monkeypatch):
    class Nothing:
        def submit(self, *arguments, **settings):
            return self

        def result(self):
            return sandbox.Result(sandbox.Verdict.INFRASTRUCTURE, 0, 1, "no worker")

    monkeypatch.setattr(sandbox, "shared", Nothing)
    with pytest.raises(SandboxBroke, match="no worker"):
        Toolbox(python).answer(call("python", code="1"))


# ---- a run with tools of one's own -------------------------------------------------------------------------------------


class Script:
    """An engine that says what it is told to say: `say(row, turn)`."""

    context = 4096

    def __init__(self, tokenizer, say):
        self.say, self.tokenizer = say, tokenizer

    def start(self, prompts, *, seed):
        self.turns = [0] * len(prompts)
        return self

    def extend(self, row, ids):
        pass

    def sample(self, rows, **settings):
        out = []
        for row in rows:
            ids = [*models.encode(self.tokenizer, self.say(row, self.turns[row])), self.tokenizer.eos_token_id]
            self.turns[row] += 1
            out.append(sample.Completion(ids, [-1.0] * len(ids), True))
        return out


@pytest.fixture
def policy():
    policy = models.tiny("0.1m")
    policy.model.config.max_position_embeddings = Script.context
    return policy


class Own(Addition):
    """A user's task: additions, with a toolbox."""

    name = "own"
    max_turns = 3

    def __init__(self, box):
        super().__init__()
        object.__setattr__(self, "box", box)

    def episode(self, problem):
        made = Toolbox(*self.box.tools.values(), seconds=0.05, characters=300)  # each episode its own
        return ToolEpisode(made, lambda answer: float(answer == "42"))


def test_tools_that_raise_hang_or_flood_stop_no_run_and_are_told_to_the_model_and_counted(policy, box):
    names = ("double", "fail", "hang", "megabyte", "unshowable", "leave", "nobody", "double")

    def say(row, turn):
        arguments = {"number": 21} if names[row % 8] == "double" else {}
        return call(names[row % 8], **arguments) if turn == 0 else "<answer>42</answer>" if row % 2 else "no"

    for step in train(policy, Own(box), "grpo", steps=2, prompts=2, engine=Script(policy.tokenizer, say)):
        assert step.episodes == 16 and step.errors == 0 and step.success == 0.5 and step.gradient_norm > 0
        told = [row["turns"][0]["reply"].removeprefix("<R>").removesuffix("</R><A>") for row in step.rollouts]
        assert told[0] == told[7] == "42" and told[1] == r"error: RuntimeError: no\x1b[31m luck"
        assert told[2] in ("error: hang gave nothing within 0.05 s", "error: hang is out of order")
        assert told[3] == "?" * 301 + " (1048576 characters)"  # this tokenizer knows no é, and no ellipsis
        assert told[4] == "(a Unshowable that cannot be shown: ValueError)" and told[5] == "error: RuntimeError: SystemExit(3)"
        assert told[6].startswith("error: there is no tool 'nobody'")
        assert [row["stop"] for row in step.rollouts] == ["DONE"] * 8 and len({row["prompt"] for row in step.rollouts}) == 1
        counts = {name: n for name, n in step.as_row().items() if name.startswith("tool_")}
        assert counts == {"tool_calls": 16, "tool_failed": 4, "tool_time": 2, "tool_unknown": 2}


@pytest.mark.parametrize("task, asked", [("calculator", "1+1"), ("lookup", "aa")])
def test_so_it_is_with_the_small_tasks(policy, task, asked, caplog):
    class Fails(Calculator):
        def calculate(self, expression):
            if expression == asked:  # what the problems themselves are made with still works
                raise OSError("no network")
            return super().calculate(expression)

    class Floods(Calculator):
        def calculate(self, expression):
            return "é" * 2**20 if expression == asked else super().calculate(expression)

    class Lost(Lookup):
        def entry(self, problem, place):
            if place == asked:
                raise KeyError(place)
            return super().entry(problem, place)

    def say(row, turn):
        return f"<T>{asked}</T>" if turn == 0 else "<T>" if turn == 1 else "7"

    for made in (Fails(), Floods()) if task == "calculator" else (Lost(),):
        [step] = train(policy, made, "grpo", steps=1, prompts=1, engine=Script(policy.tokenizer, say))
        assert step.errors == 0 and step.malformed == pytest.approx(1 / 3) and step.truncated == 0
        for row in step.rollouts:
            first, second = (turn["reply"] for turn in row["turns"][:2])
            assert first == "<R>" + ("?" * 200 if isinstance(made, Floods) else "!") + "</R><A>" and second == "<R>!</R><A>"
            assert [turn["reward"] for turn in row["turns"]] == [0, 0, 0]  # GRPO is paid for the outcome alone
    assert [record.levelname for record in caplog.records] == ["WARNING"]  # once, with the traceback, and not in every call
    assert "raised" in caplog.text and ("no network" in caplog.text or "KeyError" in caplog.text)
