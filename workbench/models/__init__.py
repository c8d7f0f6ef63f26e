"""Policies: a softmax table, and language models from tiny ones made here to any of Hugging Face's."""

from __future__ import annotations

from workbench.models.chat import append_only, call_format, check_template, prompt_ids, reply_ids, turn_text
from workbench.models.evaluation import Evaluation
from workbench.models.hub import check, load, lora_config, with_lora
from workbench.models.language import SIZES, LanguageModel, load_weights, tiny
from workbench.models.probe import answer_logp
from workbench.models.tabular import Tabular
from workbench.models.tokenizer import decode, encode, make_tokenizer
from workbench.models.value import ValueHead

__all__ = [
    "SIZES", "Evaluation", "LanguageModel", "Tabular", "ValueHead", "answer_logp", "append_only", "call_format", "check",
    "check_template", "decode", "encode", "load", "load_weights", "lora_config", "make_tokenizer", "prompt_ids", "reply_ids",
    "tiny", "turn_text", "with_lora",
]  # fmt: skip
