"""A language model as a policy: tiny ones made here, or any causal model that `transformers` can load."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from workbench import seeding
from workbench.batch import Batch
from workbench.models import fast
from workbench.models.evaluation import Evaluation
from workbench.models.tokenizer import make_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Qwen3 shapes: layers, width, heads, key-value heads, inner width of the feed-forward layer; then the standard deviation
# of the first weights. Warm start on `calculator`, 400 steps of batch 32, share of whole test demonstrations right under
# greedy choice, seeds 0 and 1: "0.2m" 0 and 0 with Qwen3's own .02, .95 and .10 with .06. At "0.8m" (200 steps) .02 and
# .045 did not differ by more than the seeds do, so Qwen3's stays.
SIZES = {
    "0.1m": (2, 64, 2, 1, 192, 0.06),
    "0.2m": (3, 64, 4, 2, 192, 0.06),
    "0.8m": (4, 128, 4, 2, 384, 0.02),
    "5m": (6, 256, 8, 4, 768, 0.02),
}
CONTEXT = 512


class LanguageModel(nn.Module):
    """A causal language model of `transformers` (or such a model wrapped by PEFT) and its tokenizer.

    Attributes:
        model, tokenizer: as given. hidden_size, vocab_size: the model's. eos: id of the end-of-turn token.
        context: tokens in the longest episode, None if the model sets no limit.
    """

    def __init__(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        if tokenizer.eos_token_id is None:
            raise ValueError(
                "the tokenizer has no end-of-sequence token; turns could not end. Set tokenizer.eos_token"
            )
        self.model: Any = model
        self.tokenizer = tokenizer

    @property
    def config(self) -> Any:
        return self.model.config.get_text_config()

    @property
    def hidden_size(self) -> int:
        return self.config.hidden_size

    @property
    def vocab_size(self) -> int:
        return self.config.vocab_size

    @property
    def context(self) -> int | None:
        return getattr(self.config, "max_position_embeddings", None)

    @property
    def eos(self) -> int:
        return self.tokenizer.eos_token_id

    def evaluate(self, batch: Batch, *, temperature: float = 1.0) -> Evaluation:
        """Log-probability and entropy [B,T] of every sampled token, and the hidden states [B,T,D].

        Tiny Qwen3 models on a CPU go through `workbench.models.fast`, all others through their own forward pass.

        Raises:
            ValueError: an episode longer than the model's context, an id outside its vocabulary, a token sampled from
                no prompt, or a temperature that is not positive.
        """
        self._check(batch, temperature)
        if batch.mask.any() and fast.supports(self.model):
            return fast.evaluate(self.model, batch, temperature)
        return evaluate_with_transformers(self.model, batch, temperature)

    def save(self, folder: str | Path) -> None:
        """Write model and tokenizer in the ordinary Hugging Face layout; `load` reads it, and so do TRL and vLLM.

        Of a policy with adapters, the adapters alone are written, and the name of the model they belong to.
        """
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def push(self, name: str, *, private: bool = True) -> None:
        """Upload model and tokenizer to the Hugging Face Hub. Nothing else here ever uploads anything.

        Args:
            name: "owner/name", in full. private: only you can see it.
        Raises:
            ValueError: a name without its owner.
        """
        full_name(name)
        self.model.push_to_hub(name, private=private)
        self.tokenizer.push_to_hub(name, private=private)

    def merged(self) -> LanguageModel:
        """The same policy without adapters: they are added into a copy of the weights.

        Raises:
            ValueError: it has none, or its weights are quantised.
        """
        if not hasattr(self.model, "merge_and_unload"):
            raise ValueError("this policy has no adapters to merge")
        if getattr(self.config, "quantization_config", None) is not None:
            raise ValueError("4-bit weights take no exact sum: load the model without bits=4, then the adapters, then merge")
        return LanguageModel(self.copy().model.merge_and_unload(), self.tokenizer)

    def copy(self) -> LanguageModel:
        """The same policy with weights of its own."""
        return copy.deepcopy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> LanguageModel:
        """TRL puts another forward pass on a model that it trains. It is bound to that model: a copy would go on computing with
        the weights of the original, so in a copy the model's own is back."""
        twin = LanguageModel(copy.deepcopy(self.model, memo), self.tokenizer)
        for module in twin.modules():
            forward = vars(module).get("forward")
            if "fused_lm_head" in getattr(getattr(forward, "__code__", None), "co_varnames", ()):
                del module.forward
        return twin

    def _check(self, batch: Batch, temperature: float) -> None:
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, not {temperature!r}")
        longest = int(batch.length.max()) if len(batch) else 0
        if self.context is not None and longest > self.context:
            row = int(batch.length.argmax())
            raise ValueError(
                f"episode {row} has {longest} tokens, the model's context is {self.context}; shorten the episode"
            )
        bad = (batch.tokens < 0) | (batch.tokens >= self.vocab_size)
        if bad.any():
            row, column = bad.nonzero()[0].tolist()
            unknown = batch.tokens[row, column].item()
            raise ValueError(
                f"id {unknown} at row {row}, column {column} is not in the vocabulary of {self.vocab_size}"
            )
        if batch.mask[:, 0].any():
            raise ValueError(
                "a sampled token in column 0 has nothing before it; give every episode a prompt of one token"
            )


def full_name(name: object) -> None:
    """Refuse a name on the Hub without its owner."""
    owner, _, rest = name.partition("/") if isinstance(name, str) else ("", "", "")
    if not (owner and rest) or "/" in rest or owner.startswith("."):
        raise ValueError(f'to upload, say where to in full, as in "you/my-model", not {name!r}')


def evaluate_with_transformers(model: nn.Module, batch: Batch, temperature: float = 1.0) -> Evaluation:
    """`LanguageModel.evaluate` by the model's own forward pass: the reference, and the way for any model.

    The attention mask comes from `batch.length`, never from pad ids. The vocabulary-wide softmax is taken at the sampled
    tokens alone, so memory grows with their number and not with B x T.
    """
    rows, tokens = batch.tokens.shape
    row, column = batch.mask.nonzero(as_tuple=True)
    width = max(tokens - 1, 1)  # the last token predicts nothing
    columns, place = torch.unique(column - 1, return_inverse=True)
    position = torch.arange(width, device=batch.tokens.device)
    seen: list[
        Any
    ] = []  # asking for output_hidden_states would keep every layer's, and leave hooks in the model
    hook = _body(model).register_forward_hook(lambda _module, _inputs, output: seen.append(output[0]))
    try:
        output = model(
            input_ids=batch.tokens[:, :width],
            attention_mask=(position < batch.length[:, None]).to(torch.int64),
            use_cache=False,
            logits_to_keep=columns,
        )
    finally:
        hook.remove()
    logp = torch.log_softmax(output.logits[row, place].float() / temperature, 1)  # [N,V], N sampled tokens
    chosen = logp.gather(1, batch.tokens[row, column][:, None])[:, 0]
    entropy = -(logp.exp() * logp).sum(1)
    zeros = torch.zeros(rows, tokens, device=logp.device)
    states = seen[0][:, : tokens - 1]
    return Evaluation(
        logp=zeros.index_put((row, column), chosen),
        entropy=zeros.index_put((row, column), entropy),
        hidden=nn.functional.pad(states, (0, 0, 1, 0)),
    )


def _body(model: Any) -> nn.Module:
    """The transformer without its output layer, inside any adapter."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner.base_model


def tiny(size: str = "0.2m", *, seed: int = 0) -> LanguageModel:
    """An untrained Qwen3 of about that many parameters, with the character tokenizer. Same seed, same bits.

    Head dimension 32 (the smallest that vLLM's CPU build takes) and tied embeddings.

    Raises:
        ValueError: no such size.
    """
    from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

    if size not in SIZES:
        raise ValueError(f"no tiny model of size {size!r}; there are {', '.join(SIZES)}")
    layers, width, heads, kv_heads, inner, deviation = SIZES[size]
    tokenizer = make_tokenizer()
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=32,
        intermediate_size=inner,
        max_position_embeddings=CONTEXT,
        initializer_range=deviation,
        tie_word_embeddings=True,
        pad_token_id=None,  # else its embedding is zeroed and frozen, and RMSNorm is singular there
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):  # the caller's global stream stays as it is
        torch.random.default_generator.manual_seed(seeding.integer(seed, "tiny", size))
        model = Qwen3ForCausalLM(config)
    model.generation_config = GenerationConfig(
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, do_sample=True, top_k=0
    )
    return LanguageModel(model, tokenizer)


def load_weights(policy: LanguageModel, folder: str | Path) -> None:
    """Put the weights saved in `folder` into `policy`, which must have the same architecture; else it is left as it was.

    Raises:
        ValueError: the checkpoint is of another model; names the first tensor that does not fit.
        OSError: `folder` has no weights, or they are damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"there are no weights (*.safetensors) in {folder}")
    try:
        saved: dict[str, Tensor] = {
            name: value for file in files for name, value in load_file(str(file)).items()
        }
    except SafetensorError as error:
        raise OSError(f"the weights in {folder} are damaged or cut short: {error}") from error
    state = policy.model.state_dict()
    tied = {name for name, value in state.items() if name not in saved and _is_shared(value, state, saved)}
    for name in [*state, *saved]:
        if name in tied:
            continue
        have = tuple(state[name].shape) if name in state else "no such tensor"
        given = tuple(saved[name].shape) if name in saved else "no such tensor"
        if have != given:
            raise ValueError(
                f"the checkpoint in {folder} is of another model: {name} is {given} there, {have} in this model; "
                "make the model with the size the checkpoint was saved from, or use load()"
            )
    policy.model.load_state_dict(saved, strict=False)


def _is_shared(value: Tensor, state: dict[str, Tensor], saved: dict[str, Tensor]) -> bool:
    """Whether a tensor missing from a checkpoint is the same memory as one that is in it (a tied output layer)."""
    return any(name in saved and other.data_ptr() == value.data_ptr() for name, other in state.items())
