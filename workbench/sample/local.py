"""The local engine: samples a tiny Qwen3 on the CPU with the matrices of `workbench.models.fast`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from workbench.models import fast
from workbench.sample.engine import Completion, Rows, Uniforms, check_prompts, check_sampling, draw, model_of

CHUNK = 16  # the cache grows by so many positions
DEAD_SHARE = 1 / 8  # finished rows are moved out of the way when they are this share of the rows
SCORES = 1 << 24  # attention scores at once while reading prompts: 64 MB


class LocalEngine:
    """Sampling from a policy that `fast.supports`, on the policy's own weights.

    Identical prompts go through the model once, the keys and values of earlier tokens are kept over the turns of a
    session, and finished rows are dropped. Log-probabilities equal `fast.evaluate`'s to float32 rounding (about 1e-6).

    Args:
        policy: a `LanguageModel`, or the bare transformers model.
        dtype: "float32", or "bfloat16" to round the weights and what they are multiplied with: faster where the
            processor has bfloat16 instructions, but no longer exactly the policy that is trained (see `mismatch`).
    Raises:
        ValueError: a model that `fast` does not compute; use `HuggingFaceEngine`.
    """

    def __init__(self, policy: Any, *, dtype: str = "float32") -> None:
        self.model: Any = model_of(policy)
        if not fast.supports(self.model):
            raise ValueError(
                f"the local engine runs plain float32 Qwen3 models on a CPU, not this {type(self.model).__name__}; "
                "use HuggingFaceEngine(policy)"
            )
        if dtype not in ("float32", "bfloat16"):
            raise ValueError(f'dtype must be "float32" or "bfloat16", not {dtype!r}')
        self.dtype = getattr(torch, dtype)

    @property
    def context(self) -> int:
        return self.model.config.max_position_embeddings

    @property
    def exact(self) -> bool:
        return self.dtype == torch.float32

    def start(self, prompts: Sequence[Sequence[int]], *, seed: int) -> LocalSession:
        check_prompts(prompts, self.model.config.vocab_size, self.context)
        return LocalSession(fast.snapshot(self.model, self.dtype), self.context, prompts, seed)


class LocalSession(Rows):
    """Rows live in slots of one cache; those being sampled are in the first n slots, so a step works on one block.

    Everything a row holds is in the cache except its last token: that one is fed when the next is wanted.
    """

    def __init__(self, w: fast.Weights, context: int, prompts: Sequence[Sequence[int]], seed: int) -> None:
        super().__init__(prompts, len(w.embedding), context)
        self.w = w
        self.uniforms = Uniforms(seed, len(prompts))
        known: dict[tuple[int, ...], int] = {}
        self.prompt_of = [known.setdefault(tuple(prompt), len(known)) for prompt in prompts]
        self.cached = [len(prompt) for prompt in prompts]  # how many tokens of the row are in the cache
        self.slot_of = list(range(len(prompts)))
        self.row_in = list(range(len(prompts)))
        with torch.inference_mode():
            self.keys, self.values = self._new_cache(len(known), max(self.cached))
            self.first = self._feed_many([list(prompt) for prompt in known], [0] * len(known))  # [P,V]
            self.keys, self.values = self.keys[:, self.prompt_of], self.values[:, self.prompt_of]

    def restart(self, row: int, ids: Sequence[int]) -> None:
        super().restart(row, ids)
        self.cached[row] = 0

    def sample(
        self, rows: Sequence[int], *, max_tokens: int, stop: Collection[int], temperature: float = 1.0,
        top_p: float = 1.0, top_k: int = 0,
    ) -> list[Completion]:  # fmt: skip
        check_sampling(rows, len(self.rows), self.vocab_size, max_tokens, stop, temperature, top_p, top_k)
        completions = {row: Completion([], [], False) for row in rows}
        roomy = [row for row in rows if self.room(row, max_tokens)]
        if roomy:
            with torch.inference_mode():
                self._sample(roomy, completions, max_tokens, stop, (temperature, top_p, top_k))
        for row in roomy:
            self.rows[row] += completions[row].ids
            self.cached[row] = len(self.rows[row]) - 1
        return [completions[row] for row in rows]

    def _sample(
        self, rows: list[int], completions: dict[int, Completion], max_tokens: int, stop: Collection[int],
        settings: tuple[float, float, int],
    ) -> None:  # fmt: skip
        self._to_front(rows)
        rows = self.row_in[: len(rows)]
        length = torch.tensor([len(self.rows[row]) for row in rows])  # [n]
        limit = torch.tensor([self.room(row, max_tokens) for row in rows])  # [n]
        self._grow(int((length + limit).max()) - 1)
        logits = self._next_logits(rows)
        row_number, soonest = torch.tensor(rows), int(limit.min())
        before = torch.tensor([self.before[row] for row in rows])
        furthest = int(before.max())
        stops = torch.zeros(self.vocab_size, dtype=torch.bool)
        stops[list(stop)] = True
        alive, n = torch.ones(len(rows), dtype=torch.bool), len(rows)
        sampled: dict[int, list] = {row: [] for row in rows}  # pieces of (ids, logps), joined at the end
        steps: list[tuple[Tensor, Tensor]] = []
        ragged, longest = bool((length != length[0]).any()), int(length.max())

        def keep() -> None:  # move what was sampled since the last change of slots to its rows
            ids, logps = torch.stack([s[0] for s in steps], 1), torch.stack([s[1] for s in steps], 1)
            for slot, (i, p) in enumerate(zip(ids.tolist(), logps.tolist())):
                sampled[rows[slot]].append((i, p))
            steps.clear()

        count, stopped = dict.fromkeys(rows, 0), dict.fromkeys(rows, False)
        for step in range(1, max_tokens + 1):
            ids, logps = draw(logits, self.uniforms(row_number, before + length, furthest + longest), *settings)
            steps.append((ids, logps))
            over = stops[ids]
            if step >= soonest:
                over = over | (limit <= step)
            over = over & alive
            if over.any():
                for slot in over.nonzero()[:, 0].tolist():
                    count[rows[slot]], stopped[rows[slot]] = step, bool(stops[ids[slot]])
                alive &= ~over
                left = int(alive.sum())
                if not left:
                    break
                if n - left >= DEAD_SHARE * n:
                    keep()
                    order = self._compact(alive, longest)
                    rows, n, alive = self.row_in[:left], left, alive[order]
                    ids, length, limit = ids[order], length[order], limit[order]
                    row_number, before = row_number[order], before[order]
                    ragged, longest, soonest = (
                        bool((length != length[0]).any()),
                        int(length.max()),
                        int(limit.min()),
                    )
            mask = (
                fast.additive_mask(torch.arange(longest + 1) <= length[:, None])[:, None] if ragged else None
            )
            logits = self._feed(ids, length, slice(0, n), longest + 1, mask)
            length = length + alive
            longest = int(length.max())
        keep()
        for row, pieces in sampled.items():
            completions[row] = Completion(
                [i for ids, _ in pieces for i in ids][: count[row]],
                [p for _, logps in pieces for p in logps][: count[row]],
                stopped[row],
            )

    # ---- the cache: keys [layers,slots,K,D,positions], values [layers,slots,K,positions,D] ---------------------------
    # So each is read along the axis that its product adds up last, about twice as fast as the other way round.

    def _new_cache(self, slots: int, positions: int) -> tuple[Tensor, Tensor]:
        # zeros, because a masked key times anything must be finite
        w = self.w
        of_layer = len(w.layers), slots, w.kv_heads
        return torch.zeros(*of_layer, w.head_dim, positions), torch.zeros(*of_layer, positions, w.head_dim)

    def _grow(self, positions: int) -> None:
        have = self.keys.shape[-1]
        if positions > have:
            keys, values = self.keys, self.values
            self.keys, self.values = self._new_cache(len(self.rows), -(-positions // CHUNK) * CHUNK)
            self.keys[..., :have], self.values[..., :have, :] = keys, values

    def _to_front(self, rows: list[int]) -> None:
        """Exchange slots so that `rows` are in the first ones."""
        wanted = set(rows)
        out = [slot for slot in range(len(rows)) if self.row_in[slot] not in wanted]
        into = [self.slot_of[row] for row in rows if self.slot_of[row] >= len(rows)]
        self._exchange(out, into, self.keys.shape[-1])

    def _compact(self, alive: Tensor, positions: int) -> Tensor:
        """Exchange finished rows among the first slots with live ones behind them: the old slot of each live row."""
        left, order = int(alive.sum()), torch.arange(len(alive))
        dead = (~alive[:left]).nonzero()[:, 0]
        live = alive[left:].nonzero()[:, 0] + left
        order[dead] = live
        self._exchange(dead.tolist(), live.tolist(), positions)
        return order[:left]

    def _exchange(self, a: list[int], b: list[int], positions: int) -> None:
        if not a:
            return
        for cache in (self.keys[..., :positions], self.values[..., :positions, :]):
            cache[:, a + b] = cache[:, b + a]
        for i, j in zip(a, b):
            self.row_in[i], self.row_in[j] = self.row_in[j], self.row_in[i]
            self.slot_of[self.row_in[i]], self.slot_of[self.row_in[j]] = i, j

    # ---- the model --------------------------------------------------------------------------------------------------

    def _next_logits(self, rows: list[int]) -> Tensor:
        """[n,V] for the token that follows each row, after feeding what the cache does not hold yet."""
        if all(self.cached[row] == len(self.rows[row]) for row in rows):  # nothing since the prompt
            return self.first[[self.prompt_of[row] for row in rows]]
        starts = [min(self.cached[row], len(self.rows[row]) - 1) for row in rows]
        return self._feed_many([self.rows[row][start:] for row, start in zip(rows, starts)], starts)

    def _feed_many(self, pieces: list[list[int]], starts: list[int]) -> Tensor:
        """Feed pieces of different lengths to the first slots: logits [n,V] after the last token of each."""
        c, longest = max(map(len, pieces)), max(len(p) + s for p, s in zip(pieces, starts))
        size = max(1, SCORES // (self.w.heads * c * longest))
        parts = [slice(i, min(i + size, len(pieces))) for i in range(0, len(pieces), size)]
        return torch.cat([self._feed_ragged(pieces[part], starts[part], part) for part in parts])

    def _feed_ragged(self, pieces: list[list[int]], starts: list[int], slots: slice) -> Tensor:
        lengths, begin = torch.tensor([len(piece) for piece in pieces]), torch.tensor(starts)
        place = torch.arange(int(lengths.max()))
        inside = place < lengths[:, None]  # [n,C]
        position = begin[:, None] + torch.where(inside, place, 0)  # [n,C]
        longest = int((begin + lengths).max())
        mask = fast.additive_mask(torch.arange(longest) <= position[..., None])  # [n,C,longest]
        tokens = torch.tensor([i for piece in pieces for i in piece])
        return self._feed(tokens, position[inside], slots, longest, mask, inside, lengths.cumsum(0) - 1)

    def _feed(
        self, tokens: Tensor, position: Tensor, slots: slice, longest: int, mask: Tensor | None,
        inside: Tensor | None = None, last: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Put N packed tokens through the model and into the cache.

        Args:
            tokens, position: [N]. slots: the n slots they belong to. longest: positions to look at.
            mask: [n,C,longest] 0 or -inf, or None if every token may look at all of them.
            inside: [n,C] bool, which of C places the tokens fill; default: one token a slot.
            last: [n] the tokens after which logits are wanted; default: all.
        Returns:
            logits [n,V] float32.
        """
        w = self.w
        n, kv, r, d = slots.stop - slots.start, w.kv_heads, w.group, w.head_dim
        slot = torch.arange(slots.start, slots.stop)
        if inside is not None:
            slot = slot[:, None].expand(inside.shape)[inside]
        layer_number = iter(range(len(w.layers)))

        def attend(qkv: Tensor) -> Tensor:
            number = next(layer_number)
            q, k, v = qkv.view(len(qkv), -1, d).split([w.heads, kv, kv], 1)
            keys, values = self.keys[number], self.values[number]
            if mask is None:
                keys[slots, ..., longest - 1], values[slots, :, longest - 1] = k, v
            else:
                keys[slot, ..., position], values[slot, :, position] = k, v
            keys, values = keys[slots, ..., :longest].transpose(2, 3), values[slots, :, :longest]
            if inside is None:
                return fast.attention(q.reshape(n, kv, r, 1, d), keys, values, mask).view(n, -1)
            padded = q.new_zeros(*inside.shape, kv, r, d)
            padded[inside] = q.reshape(-1, kv, r, d)
            seen = fast.attention(padded.permute(0, 2, 3, 1, 4), keys, values, mask)
            return seen.permute(0, 3, 1, 2, 4)[inside].view(len(tokens), -1)

        x, turn = w.embedding[tokens], w.rotations[position][:, None]
        for layer in w.layers:
            x = fast.block(x, layer, w, turn, attend)
        return fast.logits(x if last is None else x[last], w)
