"""A tokenizer made in code: one token for every printable ASCII character, and the tags of a dialogue with tools.

    <U>37*45+58-9=<A><T>37*45</T><E><R>665</R><A><T>665+58</T><E><R>723</R><A>...

It is an ordinary fast tokenizer, so it saves, loads, and runs in TRL and vLLM unchanged. Nothing merges, so a text has
one encoding and ids can be appended to ids without drift.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TAGS = ["<P>", "<U>", "<A>", "<E>", "<T>", "</T>", "<R>", "</R>"]
CHARACTERS = "\n" + "".join(chr(code) for code in range(32, 127))
VOCABULARY = (
    128  # rounded up with spare tags <0>, <1>, ..., so that a new tag does not change the models' shapes
)

# Each message renders to a text of its own, whatever comes before or after it: earlier turns are never rewritten.
# A call of a tool with `expression` as its only argument is the bare expression; any other call is JSON.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message.role == 'user' or message.role == 'system' -%}
<U>{{ message.content or '' }}
{%- elif message.role == 'assistant' -%}
<A>{% generation %}{{ message.content or '' }}
{%- for call in message.tool_calls or [] -%}
{%- set function = call.function or call -%}
{%- if function.name == 'calculate' and function.arguments is mapping and function.arguments.expression is string \
and function.arguments | length == 1 -%}
<T>{{ function.arguments.expression }}</T>
{%- else -%}
<T>{{ {'name': function.name, 'arguments': function.arguments} | tojson }}</T>
{%- endif -%}
{%- endfor -%}
<E>{% endgeneration %}
{%- elif message.role == 'tool' -%}
<R>{{ message.content or '' }}</R>
{%- else -%}
{{ raise_exception('unknown role ' ~ message.role ~ '; there are system, user, assistant and tool') }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<A>{%- endif -%}
"""


# How libraries read a turn back: what stands between the tags of a call is the expression of `calculate`.
RESPONSE_TEMPLATE = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<A>",
    "fields": {
        "tool_calls": {
            "open": "<T>", "close_pattern": r"</T>(?:<E>)?", "repeats": True, "content": "text",
            "transform": {"type": "function", "function": {"name": "calculate", "arguments": {"expression": "{content}"}}},
        },
        "content": {"close_pattern": r"<E>|\Z", "content": "text"},
    },
}  # fmt: skip


def make_tokenizer() -> PreTrainedTokenizerBase:
    """The tokenizer of the tiny models: 128 ids, 0 is padding `<P>`, 3 ends a turn `<E>`."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    spare = [f"<{n}>" for n in range(VOCABULARY - len(TAGS) - len(CHARACTERS))]
    tokens = [*TAGS, *CHARACTERS, *spare]
    backend = Tokenizer(WordLevel({token: number for number, token in enumerate(tokens)}))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens([AddedToken(tag, special=True, normalized=False) for tag in [*TAGS, *spare]])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<P>",
        eos_token="<E>",
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
        response_template=RESPONSE_TEMPLATE,
        model_max_length=10**9,  # the model knows its own limit
    )


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of a text, nothing added. The tags in it become their tokens.

    Raises:
        ValueError: the tokenizer has no token for a character of the text; names it and where it is.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)  # the same ids in a third of the time
    try:
        # unless a call before this one left its settings in it, which the tokenizer's own method puts right
        if backend is not None and not (backend.truncation or backend.padding or backend.encode_special_tokens):
            return backend.encode(text, add_special_tokens=False).ids
        return tokenizer.encode(text, add_special_tokens=False)
    except (
        Exception
    ) as error:  # the library raises a bare Exception, whose message does not say which character
        known = tokenizer.get_vocab()
        for place, character in enumerate(text):
            if character not in known:
                raise ValueError(
                    f"character {character!r} (U+{ord(character):04X}) at position {place} has no token; this tokenizer "
                    "knows printable ASCII and the newline"
                ) from error
        raise


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of some ids, tags included."""
    return tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
