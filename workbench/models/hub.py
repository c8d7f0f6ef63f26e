"""Any causal language model, by name or folder, and what must hold before it is trained.

    policy = load("Qwen/Qwen3-0.6B", lora=16, dtype="bfloat16", device="auto", download=True)
    for note in check(policy):
        print(note)
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from workbench.models import chat
from workbench.models.language import LanguageModel

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

TEMPLATES = ("append_only", "chatml")


def load(
    name_or_folder: str | Path, *, download: bool = False, dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None, lora: int | PeftConfig | None = None, bits: int | None = None,
    chat_template: str | None = None, end_of_turn: str | None = None,
) -> LanguageModel:  # fmt: skip
    """A saved policy, or any causal model in the local Hugging Face cache.

    Args:
        name_or_folder: a folder written by `LanguageModel.save` (of adapters too), or a Hub name such as "Qwen/Qwen3-0.6B".
        download: ask the Hub for what is not there yet. dtype: of the weights; default: as they were saved.
        device: default: the CPU; "auto": a GPU if torch can use one (of several, this process's own), else the CPU.
        lora: the rank of adapters on all linear layers, or a PEFT configuration: only these are trained, in float32.
        bits: 4 keeps the weights in 4 bits (NF4, computing in bfloat16); needs an NVIDIA GPU, and `lora` to be trained.
        chat_template: "append_only" for one made of the tags of the model's own that rewrites nothing (see
            `models.append_only`), "chatml", or a template in Jinja. Default: the model's own.
        end_of_turn: the token that ends a turn, where it is not the tokenizer's end-of-sequence token.
    Raises:
        OSError: there is no such model here, or its files are incomplete or damaged.
        ValueError: a setting that cannot be had; says what to do. ImportError: a package is missing; says the command.
    """
    name = str(name_or_folder)
    place, dtype = _device(device), _dtype(dtype)
    if bits is not None:
        _check_bits(bits, place)
    adapter = _adapter(name)
    try:
        tokenizer = _read_tokenizer(name, adapter, download)
        model = _read_model(adapter["base_model_name_or_path"] if adapter else name, download, dtype, place, bits)
    except OSError as error:
        if adapter:
            base = adapter["base_model_name_or_path"]
            raise OSError(
                f"{name} holds adapters of the model {base or '(not said)'!r}, which cannot be read. Make that model, put the "
                f"adapters on it with peft.PeftModel.from_pretrained(model, {name!r}): {error}"
            ) from error
        raise
    if end_of_turn is not None:
        if end_of_turn not in tokenizer.get_vocab():
            raise ValueError(f"end_of_turn={end_of_turn!r} is no token of this tokenizer; it has {_special(tokenizer)}")
        tokenizer.eos_token = end_of_turn
    policy = LanguageModel(model.train(), tokenizer)  # a tokenizer without an end is refused
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # TRL and batched generation want one; what it is changes no number here
        log.info("%s has no pad token: its end token %r is used. Masks never come from pad ids", name, tokenizer.eos_token)
    if chat_template is not None:
        tokenizer.chat_template = _template(chat_template, tokenizer)
    if adapter:
        policy.model = _peft().PeftModel.from_pretrained(policy.model, name, is_trainable=True)
    if lora is not None:
        if adapter:
            raise ValueError(f"{name} holds adapters already; leave lora out to train them on, or merge them first (`merged`)")
        policy = with_lora(policy, lora)
    return policy


def with_lora(policy: LanguageModel, lora: int | PeftConfig) -> LanguageModel:
    """The policy with new adapters (LoRA, arXiv:2106.09685): only they are trained; at first they change nothing.

    Args:
        lora: their rank, on all linear layers but the output's, with alpha twice the rank; or a PEFT configuration.
    Raises:
        ValueError: a rank below 1, or a policy that has adapters.
    """
    if hasattr(policy.model, "peft_config"):
        raise ValueError("this policy has adapters already; merge them first (`policy.merged()`)")
    config = lora_config(lora)
    model = policy.model
    if getattr(model, "is_loaded_in_4bit", False):
        model = _peft().prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    return LanguageModel(_peft().get_peft_model(model, config), policy.tokenizer)


def lora_config(lora: int | PeftConfig) -> PeftConfig:
    """What `lora=16` means: PEFT's configuration."""
    if not isinstance(lora, int):
        return lora
    if isinstance(lora, bool) or lora < 1:
        raise ValueError(f"lora is the rank of the adapters, a whole number of at least 1, not {lora!r}")
    made: PeftConfig = _peft().LoraConfig(r=lora, lora_alpha=2 * lora, target_modules="all-linear", task_type="CAUSAL_LM")
    return made


def check(policy: LanguageModel) -> list[str]:
    """What must hold before a policy is trained on dialogues. Returns what is worth knowing, in words.

    Raises:
        ValueError: the tokenizer is another model's; a chat template that is missing, rewrites earlier turns, or ends them
            otherwise (`check_template`); nothing to train. Says what to do.
    """
    tokenizer, notes = policy.tokenizer, []
    highest = max(tokenizer.get_vocab().values())
    if highest >= policy.vocab_size:
        raise ValueError(
            f"the tokenizer has ids up to {highest}, the model knows {policy.vocab_size}: it is another model's tokenizer, or "
            "tokens were added to it (model.resize_token_embeddings(len(tokenizer)) makes room for them)"
        )
    if highest + 1 < 0.9 * policy.vocab_size:
        raise ValueError(
            f"the tokenizer has {highest + 1} ids, the model {policy.vocab_size}: over a tenth of what it may sample would have "
            "no text. It is probably another model's tokenizer"
        )
    ends = _ends(policy.model)
    if ends and policy.eos not in ends:
        known = tokenizer.convert_ids_to_tokens(sorted(ends))
        notes.append(f"turns end with {tokenizer.eos_token!r}; the model was saved with {known}: it may have to learn that")
    framed = chat.check_template(tokenizer)
    if framed.role == "user":
        notes.append("the chat template has no messages of tools: replies are given as a user's")
    if framed.opened:
        notes.append(f"the chat template begins every turn with {framed.opened!r}: the policy thinks first")
    if tokenizer.pad_token_id is None:
        notes.append("no pad token: none is needed, rows are told apart by their lengths (TRL takes the end token)")
    elif tokenizer.pad_token_id == policy.eos:
        notes.append("the pad token is the end token: that is fine, no mask here comes from pad ids")
    if not any(weight.requires_grad for weight in policy.parameters()):
        raise ValueError("no weight of this policy takes a gradient; a model in 4 bits needs adapters: load it with lora=16")
    return notes


# ---- reading ------------------------------------------------------------------------------------------------------------


def _read_tokenizer(name: str, adapter: dict[str, Any] | None, download: bool) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    own = adapter is None or (Path(name) / "tokenizer_config.json").exists()
    source = name if own or adapter is None else adapter["base_model_name_or_path"]
    try:
        return AutoTokenizer.from_pretrained(source, local_files_only=not download)
    except (OSError, ValueError) as error:
        raise _unreadable(source, error) from error


def _read_model(name: str, download: bool, dtype: Any, device: torch.device, bits: int | None) -> Any:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    more: dict[str, Any] = {}
    if bits is not None:
        more["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16
        )
    if device.type != "cpu":
        more["device_map"] = {"": device}
    try:
        return AutoModelForCausalLM.from_pretrained(name, local_files_only=not download, dtype=dtype, **more)
    except (OSError, ValueError, SafetensorError) as error:
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: Exception) -> OSError:
    if Path(name).is_dir():
        return OSError(f"the folder {name} holds no complete saved model: {error}")
    return OSError(
        f"{name!r} is neither a folder nor in the local Hugging Face cache; check the path, or pass download=True: {error}"
    )


def _adapter(name: str) -> dict[str, Any] | None:
    """The configuration of adapters saved in a folder; None if it holds none."""
    file = Path(name) / "adapter_config.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _dtype(given: torch.dtype | str | None) -> Any:
    if isinstance(given, str):
        found = getattr(torch, given, None)
        if not isinstance(found, torch.dtype) or not found.is_floating_point:
            raise ValueError(f"dtype must be float32, bfloat16 or float16, not {given!r}")
        return found
    return given or "auto"


def _device(given: torch.device | str | None) -> torch.device:
    if given is None:
        return torch.device("cpu")
    if given == "auto":
        own = int(os.environ.get("LOCAL_RANK", "0"))  # set by accelerate and torchrun
        return torch.device("cuda", own) if torch.cuda.is_available() else torch.device("cpu")
    device = torch.device(given)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f'device={str(given)!r}, but torch finds no GPU here (`workbench doctor` says why); leave it out')
    return device


def _check_bits(bits: int, device: torch.device) -> None:
    if bits != 4:
        raise ValueError(f"bits must be 4, or None for weights as they are, not {bits!r}")
    if device.type != "cuda":
        raise ValueError('weights in 4 bits need an NVIDIA GPU: pass device="cuda" where there is one; else leave bits out')
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ImportError("weights in 4 bits need bitsandbytes: pip install bitsandbytes")


def _template(given: str, tokenizer: PreTrainedTokenizerBase) -> str:
    if given == "append_only":
        return chat.append_only(tokenizer)
    if given == "chatml":
        return chat.chatml(tokenizer)
    if "{" not in given:
        raise ValueError(f"chat_template must be {' or '.join(map(repr, TEMPLATES))}, or a template in Jinja, not {given!r}")
    return given


def _ends(model: Any) -> set[int]:
    """The ids with which the model was saved to stop."""
    found: set[int] = set()
    for config in (model.config.get_text_config(), getattr(model, "generation_config", None)):
        end = getattr(config, "eos_token_id", None)
        found |= set(end) if isinstance(end, (list, tuple)) else set() if end is None else {end}
    return found


def _special(tokenizer: PreTrainedTokenizerBase) -> str:
    return ", ".join(str(token) for token in tokenizer.added_tokens_decoder.values() if token.special) or "none"


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ImportError("adapters need PEFT: pip install -c requirements.lock -e '.[scale]'") from error
    return peft
