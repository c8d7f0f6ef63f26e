"""Policies: a softmax table, and language models from tiny ones made here to any of Hugging Face's."""

from __future__ import annotations

from workbench.models.evaluation import Evaluation
from workbench.models.language import SIZES, LanguageModel, load, load_weights, tiny
from workbench.models.probe import answer_logp
from workbench.models.tabular import Tabular
from workbench.models.tokenizer import decode, encode, make_tokenizer, prompt_ids, reply_ids
from workbench.models.value import ValueHead

__all__ = [
    "SIZES", "Evaluation", "LanguageModel", "Tabular", "ValueHead", "answer_logp", "decode", "encode", "load", "load_weights",
    "make_tokenizer", "prompt_ids", "reply_ids", "tiny",
]  # fmt: skip
