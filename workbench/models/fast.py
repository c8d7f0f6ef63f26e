"""The Qwen3 forward pass as plain matrices: the same numbers as `transformers`, two to three times sooner on a CPU.

At these sizes a training step is matrix products on one side and, on the other, everything that a general library must do
around them. Four things are done differently here, and nothing is approximated:

1. `fold` joins what one product can do (query, key and value; gate and up) and multiplies the weights of the
   normalisations into the matrix that follows. It is differentiable: the gradient arrives at the model's own parameters.
2. Tokens are packed: a product runs over the real tokens of all rows, one after the other, and never over padding.
3. The rollouts of one prompt share it: its tokens go through the model once, its keys and values are used by all.
4. Logits are computed only where a token was sampled.

`block` is the layer, both for training (`evaluate`) and for sampling (workbench.sample.local); they differ in `attend`.
Shapes: N packed tokens, E width, H heads, K key-value heads, R = H/K, D head size, F inner width, V vocabulary.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.batch import Batch
from workbench.models.evaluation import Evaluation

Attend = Callable[[Tensor], Tensor]


@dataclass
class Layer:
    """One layer, as (in, out) matrices: x @ matrix."""

    qkv: Tensor  # [E,(H+2K)D]
    scale: Tensor  # [H+K,D] weights of the query and key norms; the queries' hold attention's 1/sqrt(D) as well
    out: Tensor  # [HD,E]
    gate_up: Tensor  # [E,2F]
    down: Tensor  # [F,E]


@dataclass
class Weights:
    """A whole model, folded."""

    embedding: Tensor  # [V,E]
    layers: list[Layer]
    norm: Tensor  # [E] weights of the last norm, times sqrt(E); not folded, because value heads read what comes after it
    head: Tensor  # [E,V]
    heads: int
    kv_heads: int
    head_dim: int
    eps: float
    rotations: Tensor  # [context,D/2] complex: how far position p turns each pair of a query or a key

    @property
    def group(self) -> int:
        """R, the query heads that share a key-value head."""
        return self.heads // self.kv_heads


def supports(model: Any) -> bool:
    """Whether this file computes exactly what `model` does: a plain float32 Qwen3 on the CPU with nothing attached to it
    (no adapter, quantisation, hook, sliding window, dropout or bias)."""
    config: Any = getattr(model, "config", None)
    if getattr(config, "model_type", "") != "qwen3" or type(model).__name__ != "Qwen3ForCausalLM":
        return False
    plain = ("torch.nn.modules", "transformers.models.qwen3", "transformers.activations")
    return (
        all(
            type(m).__module__.startswith(plain) and not m._forward_hooks and not m._forward_pre_hooks
            for m in model.modules()
        )
        and all(p.dtype == torch.float32 and p.device.type == "cpu" for p in model.parameters())
        and set(config.layer_types) == {"full_attention"}
        and config.rope_parameters["rope_type"] == "default"
        and config.hidden_act == "silu"
        and not config.attention_bias
        and not config.attention_dropout
    )


@functools.lru_cache(maxsize=8)
def _rotations(theta: float, head_dim: int, context: int) -> Tensor:
    """[context,D/2] complex rotary factors (RoFormer, arXiv:2104.09864, eq. 15)."""
    speed = 1.0 / theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angle = torch.arange(context, dtype=torch.float32)[:, None] * speed
    return torch.polar(torch.ones_like(angle), angle)


def _pairs_together(weight: Tensor, heads: int) -> Tensor:
    """Qwen3 rotates dimension i with i + D/2; put the two side by side, so that a pair is one complex number.
    Queries and keys are reordered alike, so their products stay what they were."""
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def fold(model: Any) -> Weights:
    """The model's parameters as the few matrices that the forward pass needs; differentiable."""
    config = model.config
    heads, kv_heads, head_dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    root, layers = config.hidden_size**0.5, []
    for layer in model.model.layers:
        a, m = layer.self_attn, layer.mlp
        q, k = _pairs_together(a.q_proj.weight, heads), _pairs_together(a.k_proj.weight, kv_heads)
        q_scale = _pairs_together(a.q_norm.weight, 1)  # sqrt(D) of the norm and 1/sqrt(D) of attention make 1
        k_scale = _pairs_together(a.k_norm.weight, 1) * head_dim**0.5
        layers.append(
            Layer(
                qkv=(torch.cat([q, k, a.v_proj.weight]) * (layer.input_layernorm.weight * root)).T,
                scale=torch.cat([q_scale.expand(heads, -1), k_scale.expand(kv_heads, -1)]),
                out=a.o_proj.weight.T,
                gate_up=(
                    torch.cat([m.gate_proj.weight, m.up_proj.weight])
                    * (layer.post_attention_layernorm.weight * root)
                ).T,
                down=m.down_proj.weight.T,
            )
        )
    return Weights(
        embedding=model.model.embed_tokens.weight,
        layers=layers,
        norm=model.model.norm.weight * root,
        head=model.lm_head.weight.T,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        eps=config.rms_norm_eps,
        rotations=_rotations(config.rope_parameters["rope_theta"], head_dim, config.max_position_embeddings),
    )


def snapshot(model: Any, dtype: torch.dtype = torch.float32) -> Weights:
    """A folded copy that does not change when the model is trained; matrices in `dtype`."""
    with torch.inference_mode():
        w = fold(model)
        for layer in w.layers:
            layer.qkv, layer.out, layer.gate_up, layer.down = (
                m.to(dtype).contiguous()
                if m.dtype != dtype
                else m.clone(memory_format=torch.contiguous_format)
                for m in (layer.qkv, layer.out, layer.gate_up, layer.down)
            )
        w.embedding, w.norm = w.embedding.clone(), w.norm.clone()
        w.head = w.head.clone(memory_format=torch.contiguous_format)
    return w


# ---- the operations -------------------------------------------------------------------------------------------------
# Each has its gradient written out: autograd's own would make a pass over memory for every elementary operation.


def product(a: Tensor, matrix: Tensor, onto: Tensor | None = None) -> Tensor:
    """a [N,I] @ matrix [I,O] (+ onto [N,O]); float32 outside whatever the matrix's type is."""
    if torch.is_grad_enabled():
        return _Product.apply(a, matrix, onto)
    if matrix.dtype != a.dtype:
        out = (a.to(matrix.dtype) @ matrix).to(a.dtype)
        return out if onto is None else out.add_(onto)
    with onednn(len(a) * matrix.numel()):
        return a @ matrix if onto is None else torch.addmm(onto, a, matrix)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, matrix: Tensor, onto: Tensor | None) -> Tensor:
        ctx.save_for_backward(a, matrix)
        with onednn(len(a) * matrix.numel()):  # the same call as without gradients, for the same bits
            return a @ matrix if onto is None else torch.addmm(onto, a, matrix)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        a, matrix = ctx.saved_tensors
        with onednn(len(a) * matrix.numel()):
            return grad @ matrix.T, a.T @ grad, grad if ctx.needs_input_grad[2] else None


def normed(x: Tensor, eps: float) -> Tensor:
    """x [...,E] over its length, sqrt(|x|^2 + E eps): RMSNorm (arXiv:1910.07467) but for its weights and sqrt(E), which are in
    the matrix that follows."""
    return _Normed.apply(x, eps) if torch.is_grad_enabled() else x / _length(x, eps)


def _length(x: Tensor, eps: float) -> Tensor:
    return torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), _constant((x.shape[-1] * eps) ** 0.5))


_constant = functools.cache(torch.tensor)


def _through_norm(grad: Tensor, y: Tensor, length: Tensor) -> Tensor:
    """The gradient of x, where y = x / length: what points along y is lost."""
    return torch.addcmul(grad, y, torch.linalg.vecdot(grad, y).unsqueeze(-1), value=-1).div_(length)


class _Normed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        length = _length(x, eps)
        y = x / length
        ctx.save_for_backward(y, length)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _through_norm(grad, *ctx.saved_tensors), None


def turned(qkv: Tensor, scale: Tensor, turn: Tensor, eps: float) -> Tensor:
    """Queries and keys normalised, scaled, and turned by their token's position, in place; values stay as they are.

    Args:
        qkv: [N,(H+2K)D]. scale: [H+K,D]. turn: [N,1,D/2] complex.
    """
    if torch.is_grad_enabled():
        return _Turned.apply(qkv, scale, turn, eps)
    qk = _first_heads(qkv, scale)
    torch.mul(_pairs((qk / _length(qk, eps)).mul_(scale)), turn, out=_pairs(qk))
    return qkv


def _first_heads(qkv: Tensor, scale: Tensor) -> Tensor:
    return qkv.view(len(qkv), -1, scale.shape[1])[:, : len(scale)]


def _pairs(x: Tensor) -> Tensor:
    """The same memory as complex numbers: [...,D] -> [...,D/2]."""
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)))


class _Turned(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, scale: Tensor, turn: Tensor, eps: float) -> Tensor:
        qk = _first_heads(qkv, scale)
        length = _length(qk, eps)
        y = qk / length
        torch.mul(_pairs(y * scale), turn, out=_pairs(qk))
        ctx.mark_dirty(qkv)
        ctx.save_for_backward(y, length, scale, turn)
        return qkv

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        y, length, scale, turn = ctx.saved_tensors
        out = grad.clone()
        qk = _first_heads(out, scale)
        back = torch.view_as_real(_pairs(qk) * turn.conj()).flatten(-2)
        d_scale = (back * y).sum(0)
        qk.copy_(_through_norm(back.mul_(scale), y, length))
        return out, d_scale, None, None


def gated(x: Tensor) -> Tensor:
    """SwiGLU (arXiv:2002.05202): the first half of x [N,2F] passes through silu and gates the second -> [N,F]."""
    if torch.is_grad_enabled():
        return _Gated.apply(x)
    gate, up = x.chunk(2, -1)
    return F.silu(gate).mul_(up)


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        gate, up = x.chunk(2, -1)
        opened = F.silu(gate)
        ctx.save_for_backward(x, opened)
        return opened * up

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x, opened = ctx.saved_tensors
        gate, up = x.chunk(2, -1)
        out = torch.empty_like(x)
        d_gate, d_up = out.chunk(2, -1)
        torch.mul(grad, opened, out=d_up)
        torch.mul(grad, up, out=d_gate)
        torch.ops.aten.silu_backward(d_gate, gate, grad_input=d_gate)
        return out


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Plain softmax attention of query heads that share key-value heads.

    Args:
        q: [B,K,R,C,D] already divided by sqrt(D). k, v: [B,K,S,D]. mask: [B or 1,C,S], 0 or -inf, or None.
    Returns:
        [B,K,R,C,D].
    """
    b, kv, r, c, d = q.shape
    q, k, v = q.reshape(b * kv, r * c, d), k.reshape(b * kv, -1, d), v.reshape(b * kv, -1, d)
    out = _Attention.apply(q, k, v, mask, b) if torch.is_grad_enabled() else _attention(q, k, v, mask, b)[0]
    return out.view(b, kv, r, c, d)


def _attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, b: int) -> tuple[Tensor, Tensor]:
    with onednn(q.numel() * k.shape[1] if k.is_contiguous() else 0):  # it would copy a slice of a cache in every step
        scores = torch.bmm(q, k.transpose(1, 2))
        if mask is not None:
            scores.view(b, -1, mask.shape[1], k.shape[1]).add_(mask[:, None])
        weight = torch.softmax(scores, -1)
        return torch.bmm(weight, v), weight


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, b: int) -> Tensor:
        out, weight = _attention(q, k, v, mask, b)
        ctx.save_for_backward(q, k, v, weight)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, weight = ctx.saved_tensors
        with onednn(q.numel() * k.shape[1]):
            d_scores = torch.bmm(grad, v.transpose(1, 2))
            d_scores = torch.ops.aten._softmax_backward_data(d_scores, weight, -1, d_scores.dtype)
            # as [D,S]: MKL is four times slower at the same products as [S,D]
            d_k, d_v = torch.bmm(q.transpose(1, 2), d_scores), torch.bmm(grad.transpose(1, 2), weight)
            return torch.bmm(d_scores, k), d_k.transpose(1, 2), d_v.transpose(1, 2), None, None


SMALLEST = 2_000_000  # multiply-adds; below it the other library's calls cost more than they save


class onednn:
    """Inside `with onednn(work)`, float32 products of `work` multiply-adds use oneDNN where that is known to be better.

    PyTorch's default, MKL, runs at half speed or less on some AMD processors, and torch.set_float32_matmul_precision("medium")
    sends products to oneDNN. On a processor with bfloat16 units that setting may also mean less precision, so it is
    used only after a measurement of the error; and only for our own products, because it slows others down (attention).
    The choice depends on the processor and the size, never on a stopwatch: a seed must give the same bits every time.
    """

    def __init__(self, work: int) -> None:
        self.on = work >= SMALLEST and _prefer_onednn()

    def __enter__(self) -> None:
        if self.on:
            self.before = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("medium")

    def __exit__(self, *_: object) -> None:
        if self.on:
            torch.set_float32_matmul_precision(self.before)


@functools.cache
def _prefer_onednn() -> bool:
    """An AMD processor on which the setting keeps float32's precision: relative error below 1e-5."""
    try:
        vendor = "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    except OSError:
        vendor = False
    if not (vendor and torch.backends.mkldnn.is_available()):
        return False
    a, b = (torch.randn(256, 256, generator=torch.Generator().manual_seed(0)) for _ in range(2))
    exact, before = a.double() @ b.double(), torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        found = torch.stack([a @ b, torch.bmm(a[None], b[None])[0]])
        error = (found - exact).abs().max() / exact.abs().max()
    finally:
        torch.set_float32_matmul_precision(before)
    return bool(error < 1e-5)


def block(x: Tensor, layer: Layer, w: Weights, turn: Tensor, attend: Attend) -> Tensor:
    """One layer on packed tokens.

    Args:
        x: [N,E]. turn: [N,1,D/2] complex, `w.rotations` at each token's position.
        attend: [N,(H+2K)D] queries, keys, values -> [N,HD], the only place where tokens see each other.
    """
    qkv = turned(product(normed(x, w.eps), layer.qkv), layer.scale, turn, w.eps)
    x = product(attend(qkv), layer.out, x)
    return product(gated(product(normed(x, w.eps), layer.gate_up)), layer.down, x)


def logits(x: Tensor, w: Weights) -> Tensor:
    """[N,V] from the last layer's output [N,E]."""
    return product(normed(x, w.eps) * w.norm, w.head)


def tune_allocator() -> bool:
    """Keep freed memory in the process instead of giving it back to the system after every operation; False if it cannot.

    glibc returns each large tensor to the kernel, and the next one of that size costs a page fault every 4 KB: up to a third
    of a training step of a tiny model. It holds for the whole process, and faster for everything in it, at the price that
    memory once used stays reserved: so it is for programs that train or measure, not a default.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        mmap_threshold, trim_threshold = -3, -1  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD of malloc.h
        return bool(libc.mallopt(mmap_threshold, 1 << 30) and libc.mallopt(trim_threshold, (1 << 31) - 1))
    except (OSError, AttributeError):  # not glibc
        return False


# ---- training: the whole batch at once, with gradients --------------------------------------------------------------


@dataclass
class Packing:
    """Where every token that must go through the model is: P distinct prompts of at most S tokens, then the B rows' own
    tokens, at most C each, then one token of padding (number N - 1) that nothing looks at."""

    tokens: Tensor  # [N] ids
    position: Tensor  # [N] place in its episode
    prompts: Tensor  # [P,S] number of each prompt's tokens
    rows: Tensor  # [B,C] number of each row's own tokens
    prompt_of: Tensor  # [B]
    state: Tensor  # [B,T] number of the token before t, whose state predicts token t
    prompt_mask: Tensor  # [1,S,S] 0 where a token of a prompt may look, -inf elsewhere
    row_mask: Tensor  # [B or 1,C,S+C] the same for a row's token, over its prompt and its own tokens


def pack(batch: Batch) -> Packing:
    """Lay out a batch: a prompt that several rows share is there once, and nothing after the last sampled token."""
    tokens, given = batch.tokens.numpy(), batch.prompt_length.numpy()
    column = np.arange(tokens.shape[1])
    last = np.where(batch.mask.numpy(), column, 0).max(1)  # the last sampled token is predicted, not fed
    known: dict[bytes, int] = {}
    prompt_of = np.array([known.setdefault(row[:n].tobytes(), len(known)) for row, n in zip(tokens, given)])
    first = np.unique(prompt_of, return_index=True)[1]
    prompt_length, row_length = given[first], np.maximum(last - given, 0)
    ends = np.cumsum(np.concatenate([prompt_length, row_length]))
    starts, total = ends - np.concatenate([prompt_length, row_length]), int(ends[-1]) + 1

    def number(start: np.ndarray, length: np.ndarray) -> np.ndarray:
        place = column[: max(length.max(), 1)]
        return np.where(place < length[:, None], start[:, None] + place, total - 1)

    prompts, rows = number(starts[: len(first)], prompt_length), number(starts[len(first) :], row_length)
    own = column - given[:, None]  # [B,T] place among the row's own tokens; negative in the prompt
    where = np.where(own < row_length[:, None], starts[len(first) :, None] + own, total - 1)
    where = np.where(own < 0, starts[prompt_of][:, None] + column, where)  # [B,T] the number of token t
    ids, position = np.zeros(total, np.int64), np.zeros(total, np.int64)
    ids[where], position[where] = tokens, column
    ids[-1], position[-1] = 0, 0
    before = np.pad(where[:, :-1], ((0, 0), (1, 0)), constant_values=total - 1)

    to = torch.from_numpy
    seen = to(prompt_length)[prompt_of] if len(set(prompt_length.tolist())) > 1 else to(prompt_length)[:1]
    s, c = prompts.shape[1], rows.shape[1]
    prompt_seen = (torch.arange(s) < seen[:, None])[:, None].expand(-1, c, -1)
    own_seen = torch.ones(c, c, dtype=torch.bool).tril().expand(len(seen), -1, -1)
    return Packing(
        to(ids), to(position), to(prompts), to(rows), to(prompt_of), to(before),
        prompt_mask=additive_mask(torch.ones(1, s, s, dtype=torch.bool).tril()),
        row_mask=additive_mask(torch.cat([prompt_seen, own_seen], 2)),
    )  # fmt: skip


def additive_mask(allowed: Tensor) -> Tensor:
    """0 where `allowed`, -inf elsewhere: what is added to attention scores."""
    return torch.zeros(allowed.shape).masked_fill_(~allowed, -torch.inf)


def evaluate(model: Any, batch: Batch, temperature: float = 1.0) -> Evaluation:
    """What `model` says of a batch: equal to its own forward pass to rounding, gradients included.

    Hidden states are given up to the last sampled token of a row and are 0 after it.
    """
    w, p = fold(model), pack(batch)
    h, kv, r, d = w.heads, w.kv_heads, w.group, w.head_dim

    def places(tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Numbers [G,L] of tokens -> where their queries [G,K,R,L], keys and values [G,K,L] are among all heads of all tokens."""
        first = tokens[:, None] * (h + 2 * kv)
        keys = first + torch.arange(h, h + kv)[:, None]
        return first[:, None] + torch.arange(h).view(kv, r, 1), keys, keys + kv

    parts = *places(p.prompts), *places(p.rows)
    into, back = _both_ways(parts, len(p.tokens) * (h + 2 * kv))
    seen = [tokens[:, None, None] * h + torch.arange(h).view(kv, r, 1) for tokens in (p.prompts, p.rows)]
    out_of, onto = _both_ways(seen, len(p.tokens) * h)

    def attend(qkv: Tensor) -> Tensor:
        moved = _Moved.apply(qkv.view(-1, d), into, back).split([part.numel() for part in parts])
        q, k, v, row_q, row_k, row_v = (x.view(*part.shape, d) for x, part in zip(moved, parts))
        of_prompts = attention(q, k, v, p.prompt_mask)
        k, v = (torch.cat([x.index_select(0, p.prompt_of), own], 2) for x, own in ((k, row_k), (v, row_v)))
        of_rows = attention(row_q, k, v, p.row_mask)
        both = torch.cat([of_prompts.flatten(0, 3), of_rows.flatten(0, 3)])
        return _Moved.apply(both, onto, out_of).view(-1, h * d)

    x, turn = F.embedding(p.tokens, w.embedding), w.rotations[p.position][:, None]
    for layer in w.layers:
        x = block(x, layer, w, turn, attend)
    state = normed(x, w.eps) * w.norm

    sampled = batch.mask.nonzero(as_tuple=True)
    logp = torch.log_softmax(product(state.index_select(0, p.state[sampled]), w.head) / temperature, 1)
    entropy = -(logp.exp() * logp).sum(1)
    chosen = logp.gather(1, batch.tokens[sampled][:, None])[:, 0]
    zeros = torch.zeros(batch.tokens.shape)
    state = torch.cat([state[:-1], state.new_zeros(1, state.shape[1])])
    return Evaluation(
        logp=zeros.index_put(sampled, chosen),
        entropy=zeros.index_put(sampled, entropy),
        hidden=F.embedding(p.state, state),
    )


class _Moved(torch.autograd.Function):
    """x [N,D] -> x[to]. Whatever counts is moved to one place only: its gradient comes `back` and need not be added up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, to: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        return x.index_select(0, to)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad.index_select(0, ctx.saved_tensors[0]), None, None


def _both_ways(parts: Sequence[Tensor], size: int) -> tuple[Tensor, Tensor]:
    """The numbers in `parts`, below `size`, one after the other; and where among them each number is.

    A number that is nowhere, as the padding is if all rows are equally long, is given place 0. That may be: it is the query of
    a prompt's first token, which sees itself only and therefore has no gradient.
    """
    to = torch.cat([part.flatten() for part in parts])
    back = torch.zeros(size, dtype=torch.int64)
    back[to] = torch.arange(len(to))
    return to, back
