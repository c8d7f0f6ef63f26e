"""Calls of tools as a model's own chat template writes them, and as tasks read them: JSON in `<tool_call>` tags."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from workbench.models import call_format
from workbench.models.chat import CallFormat
from workbench.tasks.tools import CLOSE, OPEN

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CALL = re.compile(re.escape(OPEN) + "(.*?)" + re.escape(CLOSE), re.DOTALL)


def format_of(tokenizer: PreTrainedTokenizerBase) -> CallFormat:
    """The format in which a tokenizer's chat template writes calls.

    Raises:
        ValueError: it writes none, or not in JSON.
    """
    found = call_format(tokenizer)
    if found is None:
        raise ValueError(
            'this chat template writes no calls in JSON that could be read; let the prompt tell of the tools: tools_in="prompt"'
        )
    return found


def for_task(text: str, form: CallFormat) -> str:
    """A turn as the model wrote it, with its calls as a task reads them. What is no JSON stays what it is, between the tags."""
    return "".join(f"{OPEN}{piece}{CLOSE}" if is_call else piece for piece, is_call in form.split(text))


def for_model(text: str, form: CallFormat) -> str:
    """A turn of a script, with its calls as the model's template writes them."""
    return _CALL.sub(lambda found: form.write(found[1]), text)
