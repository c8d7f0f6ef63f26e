"""Chat templates: what stands around the turns of a dialogue, for any tokenizer; and which templates can be trained with.

A template is asked how it frames a message, by rendering short dialogues and comparing them. Of a dialogue that is played, only
what others say is rendered: ids are appended to ids, and what the policy sampled is never encoded again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from workbench.models.tokenizer import decode, encode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, Any]

_MARK, _SECOND, _THIRD = "\ue000", "\ue001", "\ue002"  # stand for what is said: no template prints, strips or escapes them
_THINK = "<think>\nhm\n</think>\n\n"
_INSTEAD = (
    'Load the model with chat_template="append_only": the same tags, and nothing is rewritten. (Or use a training template of '
    "TRL: tokenizer.chat_template = trl.chat_template_utils.get_training_chat_template(tokenizer).)"
)


# ---- what the driver appends ------------------------------------------------------------------------------------------


def prompt_ids(tokenizer: PreTrainedTokenizerBase, text: str, schemas: Sequence[str] = ()) -> list[int]:
    """Ids of a user's message up to where the assistant speaks: `<U>text<A>` in our own tokenizer.

    Args:
        schemas: of tools that the template is to tell of, as JSON; see `Problem.schemas`.
    Raises:
        ValueError: the tokenizer has no chat template, or no token for a character; or the template does not tell of tools.
    """
    asked = [_user(text)]
    if not schemas:
        return encode(tokenizer, _render(tokenizer, asked, generate=True))
    tools = [json.loads(schema) for schema in schemas]
    told = _render(tokenizer, asked, generate=True, tools=tools)
    untold = [tool["function"]["name"] for tool in tools if tool["function"]["name"] not in told]
    if untold:
        raise ValueError(f'this chat template does not tell of tools ({untold[0]}); let the prompt do it: tools_in="prompt"')
    return encode(tokenizer, told)


def reply_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids to append after an assistant turn and its end token: a tool's reply and what makes the assistant speak again.

    `<R>text</R><A>` in our own tokenizer. Some templates print a newline after the end token; it is part of the reply. Where a
    template has no messages of tools, the reply is a user's. Control tokens that stand in the text as words (a tool may print
    anything) are encoded as the letters they are made of: nobody but the template ends a turn or begins one.

    Raises:
        ValueError: no chat template, or one that cannot be trained with, see `check_template`.
    """
    framed = frames(tokenizer)
    text = json.dumps(text, ensure_ascii=False)[1:-1] if framed.quoted else text
    pieces = _control(tokenizer, tokenizer.chat_template).split(text)  # what may be forged is at the odd places
    ids = encode(tokenizer, str(tokenizer.eos_token) + framed.before + pieces[0] + ("" if len(pieces) > 1 else framed.after))
    ids = ids[ids.index(tokenizer.eos_token_id) + 1 :]
    for place, piece in enumerate(pieces[1:], 1):
        if place % 2:
            ids += tokenizer.encode(piece, add_special_tokens=False, split_special_tokens=True)
        else:
            ids += encode(tokenizer, piece + (framed.after if place == len(pieces) - 1 else ""))
    return ids


def turn_text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """What the assistant said in a turn, without its end token: the text of its ids, after what the template began for it
    (some open `<think>` in the assistant's name)."""
    return frames(tokenizer).opened + decode(tokenizer, ids)


@dataclass(frozen=True)
class Frames:
    """What a chat template prints between two turns of the assistant.

    Attributes:
        role: whose message a reply is: "tool", or "user" where the template has none of tools.
        before, after: the texts around a reply, from the end token of one turn to where the next begins.
        quoted: the reply is printed as a JSON string, as Llama 3.1 does.
        opened: what the template has already written of every turn, such as "<think>"; mostly nothing.
    """

    role: str
    before: str
    after: str
    quoted: bool
    opened: str


def frames(tokenizer: PreTrainedTokenizerBase) -> Frames:
    """How a tokenizer's chat template goes on after a turn. Raises ValueError like `check_template`."""
    return _frames(tokenizer, tokenizer.chat_template, tokenizer.eos_token)


def check_template(tokenizer: PreTrainedTokenizerBase) -> Frames:
    """Refuse a chat template that cannot be trained with; returns its frames.

    In dialogues with questions, thoughts, calls of tools and their replies, what is printed up to a turn of the assistant must
    stay as it is when the dialogue goes on. A policy learns from the context in which it sampled; a template that later strips
    thoughts, say, would have it speak in contexts that it never saw. What follows the end token of a turn must have the same ids
    by itself as in the whole dialogue.

    Raises:
        ValueError: no template; no end token after a turn; or earlier turns are rewritten. Says what to use instead.
    """
    return frames(tokenizer)


@lru_cache(maxsize=64)
def _frames(tokenizer: PreTrainedTokenizerBase, template: str | None, end: str) -> Frames:
    """The arguments after the first are there for the cache: a tokenizer may be given another template."""
    prompt = _render(tokenizer, [_user("q")], generate=True)
    opened = _opened(prompt)
    ending = _render(tokenizer, [_user("q"), _assistant(opened, _MARK)], generate=False).rsplit(_MARK, 1)[-1]
    if end not in ending:
        raise ValueError(_no_end(tokenizer, ending, end))
    role = "tool" if _has_tool_messages(tokenizer, opened) else "user"
    reply = {"role": role, "name": "f", "content": _MARK}
    called = [_user("q"), _assistant(opened, "", call=role == "tool"), reply]
    before, after = _render(tokenizer, called, generate=True).rsplit(_MARK, 1)
    turn = _render(tokenizer, called[:2], generate=False)
    turn = turn[: turn.rfind(end) + len(end)]
    if not before.startswith(turn):
        raise ValueError(_rewritten("the reply to a call", turn, before))
    for what, dialogue in _dialogues(role, opened, thinks="</think>" not in prompt):
        said = ""
        for n, message in enumerate(dialogue):
            if message["role"] == "assistant":
                for part, generate in ((dialogue[:n], True), (dialogue[: n + 1], False)):
                    now = _render(tokenizer, part, generate)
                    if not now.startswith(said):
                        raise ValueError(_rewritten(what, said, now))
                    said = now
    quoted = before.endswith('"') and after.startswith('"')
    made = Frames(role, before[len(turn) :], after, quoted, opened)
    apart = encode(tokenizer, end + made.before + "1" + made.after)
    whole, start = encode(tokenizer, turn + made.before + "1" + made.after), encode(tokenizer, turn)
    if whole != start + apart[apart.index(tokenizer.eos_token_id) + 1 :]:
        raise ValueError(
            f"this tokenizer encodes what follows {end!r} differently after a whole dialogue: ids cannot be appended. Is {end!r} "
            "a special token of it? tokenizer.add_special_tokens makes it one"
        )
    return made


def _dialogues(role: str, opened: str, thinks: bool) -> Iterator[tuple[str, list[Message]]]:
    """Dialogues in which templates are known to rewrite, each with what happens in it."""

    def said(text: str, call: bool = False) -> Message:
        return _assistant(opened, text, call)

    thinking = _THINK if thinks and not opened else ""  # it is there already where the template opens it
    thought = thinking + "a"
    yield "the next question", [_user("q"), said("a"), _user("r"), said("b"), _user("s"), said("c")]
    yield "a question after thoughts", [_user("q"), said(thought), _user("r"), said(thought), _user("s"), said(thought)]
    if role == "tool":
        found = {"role": "tool", "name": "f", "content": "1"}
        called, mused = said("", call=True), said(thinking, call=True)
        yield "the reply to a call", [_user("q"), called, found, called, found, said("a"), _user("r"), said("b")]
        yield "the reply after thoughts", [_user("q"), mused, found, mused, found, said(thought), _user("r"), said("b")]


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _assistant(opened: str, text: str, call: bool = False) -> Message:
    content = f"{opened}hm\n</think>\n\n{text}" if opened else text
    return {"role": "assistant", "content": content} | ({"tool_calls": [_call({})]} if call else {})


def _call(arguments: dict[str, Any]) -> dict[str, Any]:
    return {"id": "call00001", "type": "function", "function": {"name": "f", "arguments": arguments}}


def _opened(prompt: str) -> str:
    """The thought that a generation prompt leaves open."""
    place = prompt.rfind("<think>")
    return prompt[place:] if place > prompt.rfind("</think>") else ""


def _has_tool_messages(tokenizer: PreTrainedTokenizerBase, opened: str) -> bool:
    """Whether the template prints a tool's message, after the end of the turn that called it."""
    dialogue = [_user("q"), _assistant(opened, "", call=True), {"role": "tool", "name": "f", "content": _MARK}]
    try:
        start = len(_render(tokenizer, dialogue[:1], generate=True))
        before, mark, _ = _render(tokenizer, dialogue, generate=True).rpartition(_MARK)
    except Exception:  # whatever a template raises for a role or a field that it does not know
        return False
    return bool(mark) and str(tokenizer.eos_token) in before[start - len(opened) :]


def _no_end(tokenizer: PreTrainedTokenizerBase, printed: str, end: str) -> str:
    others = [token for token in _special(tokenizer) if token in printed]
    other = max(others, key=printed.rfind, default="")
    told = f"the chat template does not end the assistant's turns with the end token {end!r}, so turns could not end"
    return told + (f'; it prints {other!r}: load the model with end_of_turn="{other}"' if other else f". {_INSTEAD}")


def _rewritten(what: str, before: str, after: str) -> str:
    same = next((n for n, (x, y) in enumerate(zip(before, after)) if x != y), min(len(before), len(after)))
    return (
        f"this chat template rewrites earlier turns: {what} turns {before[max(0, same - 20) : same + 30]!r} into "
        f"{after[max(0, same - 20) : same + 30]!r}, and the policy would be used in other contexts than it learned in. {_INSTEAD}"
    )


def _special(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    return [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]


@lru_cache(maxsize=64)
def _control(tokenizer: PreTrainedTokenizerBase, template: str | None) -> re.Pattern[str]:
    """Finds what a text must not contain as tokens: the special ones, and those with which the template frames a reply."""
    framed = frames(tokenizer)
    added = [str(token) for token in tokenizer.added_tokens_decoder.values()]
    mine = {token for token in added if token.strip() and token in framed.before + framed.after} | set(_special(tokenizer))
    return re.compile("(" + "|".join(map(re.escape, sorted(mine, key=len, reverse=True))) + ")")


def _render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], generate: bool, **more: Any) -> str:
    if not tokenizer.chat_template:
        raise ValueError(
            "the tokenizer has no chat template, so nothing says where a turn begins and ends; use an instruct model, or load "
            'this one with chat_template="chatml" (or a Jinja template of yours) and teach it the format first (sft)'
        )
    return str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=generate, **more))


# ---- a template that rewrites nothing ---------------------------------------------------------------------------------


_CHATML = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' -%}{% generation %}{{ (message.content or '') + @end@ }}{% endgeneration %}
{%- else -%}{{ (message.content or '') + @end@ }}{%- endif -%}
{{ '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""

_APPEND_ONLY = """\
{#- Made from the frames of another template: what is said is printed as it is, and earlier turns are never rewritten. -#}
{%- if tools -%}{{ raise_exception('this template does not tell of tools; describe them in the prompt') }}{%- endif -%}
{%- for message in messages -%}
{%- set before = messages[loop.index0 - 1].role if loop.index0 else 'nobody' -%}
{%- set key = before ~ ' ' ~ message.role -%}
{%- set content = message.content or '' -%}
{%- if message.role == 'assistant' and before in ('user', 'tool') -%}
@header@{% generation %}{{ content }}
{%- for call in message.tool_calls or [] -%}
{%- set function = call.function or call -%}
{{ @open@ ~ ({'name': function.name, @key@: function.arguments} | tojson) ~ @close@ }}
{%- endfor -%}
{{ @end@ }}{% endgeneration %}
{%- elif key in @frames@ -%}
{%- set frame = @frames@[key] -%}
{{ frame[0] ~ content }}
{%- if message.role != 'tool' or loop.last or messages[loop.index0 + 1].role != 'tool' -%}{{ frame[1] }}{%- endif -%}
{%- else -%}
{{ raise_exception('no ' ~ message.role ~ ' message can follow ' ~ before ~ ' in this template') }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ @prompt@ }}{%- endif -%}
"""


def chatml(tokenizer: PreTrainedTokenizerBase) -> str:
    """The plainest template, for a model that has none: ChatML, with the tokenizer's own end token."""
    return _CHATML.replace("@end@", json.dumps(str(tokenizer.eos_token), ensure_ascii=False))


def append_only(tokenizer: PreTrainedTokenizerBase) -> str:
    """A chat template with the tags of the tokenizer's own that prints every message as it is, whatever comes after it.

    What a template prints around messages is taken from the shortest dialogues; a default system prompt and a date become
    fixed texts. Calls of tools are JSON in the frame of `call_format`, else in `<tool_call>` tags. Tools are not told of.

    Raises:
        ValueError: no chat template, or its frames cannot be told apart.
    """
    end = str(tokenizer.eos_token)
    prompt = _render(tokenizer, [_user(_MARK)], generate=True)
    first, close = _between(_render(tokenizer, [_user(_MARK)], generate=False), _MARK)
    opened = _opened(prompt)
    header = prompt[len(first + _MARK + close) :]
    if not prompt.startswith(first + _MARK + close) or not header:
        raise ValueError("this chat template prints no header that makes the assistant speak; give a template of your own")
    dialogue = [_user("q"), _assistant(opened, _SECOND), _user(_THIRD)]
    again = _between(_render(tokenizer, dialogue, generate=False), _SECOND, _THIRD)[1]
    if end not in again:
        raise ValueError(f"this chat template does not end a turn with the end token {end!r}; give a template of your own")
    later = again[again.index(end) + len(end) :]
    frame: dict[str, tuple[str, ...]] = {"nobody user": (first, close), "assistant user": (later, close)}
    system = _attempt(tokenizer, [{"role": "system", "content": _MARK}, _user(_SECOND)], _MARK, _SECOND)
    if system:
        frame |= {"nobody system": (system[0], ""), "system user": (system[1], close)}
    if _has_tool_messages(tokenizer, opened):
        called = [_user("q"), _assistant(opened, "", call=True)]
        found = [{"role": "tool", "name": "f", "content": text} for text in (_MARK, _SECOND)]
        before, after = _between(_render(tokenizer, [*called, found[0]], generate=False), _MARK)
        before = before[before.rindex(end) + len(end) :]
        frame["assistant tool"] = (before.removesuffix('"'), after.removeprefix('"'))
        two = _attempt(tokenizer, [*called, *found], _MARK, _SECOND)
        if two and not before.endswith('"'):
            frame["tool tool"] = two[1:]
    form = call_format(tokenizer) or CallFormat("<tool_call>\n", "\n</tool_call>")
    values = {
        "header": header.removesuffix(opened), "prompt": header, "end": end, "key": form.key,
        "open": form.open + ("[" if form.listed else ""), "close": ("]" if form.listed else "") + form.close, "frames": frame,
    }  # fmt: skip
    made = _APPEND_ONLY.replace("@header@", "{{ @header@ }}")
    for name, value in values.items():
        made = made.replace(f"@{name}@", json.dumps(value, ensure_ascii=False))
    return made


def _between(text: str, *marks: str) -> tuple[str, ...]:
    """What stands before, between and after some marks."""
    parts = []
    for mark in marks:
        if mark not in text:
            raise ValueError("this chat template does not print every message; give a template of your own")
        part, _, text = text.partition(mark)
        parts.append(part)
    return (*parts, text)


def _attempt(tokenizer: PreTrainedTokenizerBase, messages: list[Message], *marks: str) -> tuple[str, ...] | None:
    """`_between` of a dialogue that the template may refuse."""
    try:
        return _between(_render(tokenizer, messages, generate=False), *marks)
    except Exception:  # templates raise what they like for a role they do not know
        return None


# ---- calls of tools ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CallFormat:
    """How a chat template writes a call of a tool.

    Attributes:
        open, close: the texts around a call in JSON; both may be empty. key: the name of the arguments in it.
        listed: the JSON is a list of calls.
    """

    open: str = ""
    close: str = ""
    key: str = "arguments"
    listed: bool = False

    def split(self, text: str) -> list[tuple[str, bool]]:
        """The pieces of a turn, each with whether it is a call; calls come as JSON with "name" and "arguments", or as they were
        written, if that is not JSON."""
        before, after = self.open.strip(), self.close.strip()
        if not before:
            return [(one, True) for one in self._read(text)] if text.lstrip().startswith(("{", "[")) else [(text, False)]
        pieces: list[tuple[str, bool]] = []
        place, closed = 0, re.escape(after) if after else rf"(?=\Z|{re.escape(before)})"
        for found in re.finditer(f"{re.escape(before)}(.*?){closed}", text, re.DOTALL):
            pieces += [(text[place : found.start()], False), *((one, True) for one in self._read(found[1]))]
            place = found.end()
        return [piece for piece in [*pieces, (text[place:], False)] if piece[0]]

    def _read(self, written: str) -> list[str]:
        try:
            calls = json.loads(written)
        except (ValueError, RecursionError):
            return [written]
        return [self._renamed(call) for call in (calls if isinstance(calls, list) and calls else [calls])]

    def _renamed(self, call: Any) -> str:
        if isinstance(call, dict) and self.key in call:
            call = {"name": call.get("name"), "arguments": call[self.key]}
        return json.dumps(call)

    def write(self, call: str) -> str:
        """A call, JSON with "name" and "arguments", as the template writes it; what is no such JSON between its tags."""
        try:
            told = json.loads(call)
            call = json.dumps({"name": told["name"], self.key: told["arguments"]}, ensure_ascii=False)
        except (ValueError, KeyError, TypeError):
            pass
        return self.open + (f"[{call}]" if self.listed else call) + self.close


def call_format(tokenizer: PreTrainedTokenizerBase) -> CallFormat | None:
    """How the tokenizer's chat template writes calls; None if it writes none, or not in JSON."""
    return _call_format(tokenizer, tokenizer.chat_template)


@lru_cache(maxsize=64)
def _call_format(tokenizer: PreTrainedTokenizerBase, template: str | None) -> CallFormat | None:
    prompt = _render(tokenizer, [_user("q")], generate=True)
    opened, arguments = _opened(prompt), {"x": _MARK}
    message = _assistant(opened, "") | {"tool_calls": [_call(arguments)]}
    try:
        said = _render(tokenizer, [_user("q"), message], generate=False).removeprefix(prompt.removesuffix(opened))
    except Exception:  # templates raise what they like for what they do not know
        return None
    for start in (found.start() for found in re.finditer(r"[\[{]", said)):
        try:
            call, stop = json.JSONDecoder().raw_decode(said, start)
        except ValueError:
            continue
        listed = isinstance(call, list)
        call = call[0] if listed and call else call
        keys = [key for key in call if call[key] == arguments] if isinstance(call, dict) else []
        if keys and call.get("name") == "f":
            before = said[:start].rsplit("</think>", 1)[-1].lstrip("\n")
            return CallFormat(before, said[stop:].split(str(tokenizer.eos_token))[0], keys[0], listed)
    return None
