"""The Hugging Face engine: samples any causal model of `transformers` through its own forward pass. Correct before fast."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from typing import Any

import torch

from workbench.sample.engine import Completion, Rows, Uniforms, check_prompts, check_sampling, draw, model_of


class HuggingFaceEngine:
    """Sampling from any policy with a transformers causal model, on the model's device.

    Rows are padded on the left and told apart by an attention mask and position ids, never by a pad id; so a model whose
    pad id is its end id, or that has none, is sampled rightly. Every call of `sample` reads the rows again from the start.

    Args:
        policy: a `LanguageModel`, or the bare model.
    """

    def __init__(self, policy: Any) -> None:
        self.model: Any = model_of(policy)
        self.config: Any = self.model.config.get_text_config()

    exact = True

    @property
    def context(self) -> int | None:
        return getattr(self.config, "max_position_embeddings", None)

    def start(self, prompts: Sequence[Sequence[int]], *, seed: int) -> HuggingFaceSession:
        check_prompts(prompts, self.config.vocab_size, self.context)
        return HuggingFaceSession(self.model, self.config.vocab_size, self.context, prompts, seed)


class HuggingFaceSession(Rows):
    """Nothing but the ids is kept between calls."""

    def __init__(
        self, model: Any, vocab_size: int, context: int | None, prompts: Sequence[Sequence[int]], seed: int
    ) -> None:
        super().__init__(prompts, vocab_size, context)
        self.model = model
        self.uniforms = Uniforms(seed, len(prompts))
        self.takes_positions = "position_ids" in inspect.signature(model.forward).parameters

    def sample(
        self, rows: Sequence[int], *, max_tokens: int, stop: Collection[int], temperature: float = 1.0,
        top_p: float = 1.0, top_k: int = 0,
    ) -> list[Completion]:  # fmt: skip
        check_sampling(rows, len(self.rows), self.vocab_size, max_tokens, stop, temperature, top_p, top_k)
        room = {row: self.room(row, max_tokens) for row in rows}
        found: dict[int, tuple[list[int], list[float]]] = {row: ([], []) for row in rows}
        stopped = dict.fromkeys(rows, False)
        live = [row for row in rows if room[row]]
        if live:
            training = self.model.training
            self.model.eval()
            try:
                with torch.inference_mode():
                    self._sample(live, found, stopped, room, set(stop), (temperature, top_p, top_k))
            finally:
                self.model.train(training)
        for row in rows:
            self.rows[row] += found[row][0]
        return [Completion(*found[row], stopped[row]) for row in rows]

    def _sample(
        self, live: list[int], found: dict[int, tuple[list[int], list[float]]], stopped: dict[int, bool],
        room: dict[int, int], stop: set[int], settings: tuple[float, float, int],
    ) -> None:  # fmt: skip
        device = self.model.device
        longest = max(len(self.rows[row]) for row in live)
        feed = torch.tensor([[0] * (longest - len(self.rows[row])) + self.rows[row] for row in live])
        length = torch.tensor([len(self.rows[row]) for row in live])
        mask = (torch.arange(longest) >= longest - length[:, None]).to(torch.int64)
        position = (mask.cumsum(1) - 1).clamp(min=0)
        rows, cache, alive = torch.tensor(live), None, set(live)
        before = torch.tensor([self.before[row] for row in live])
        furthest = int(before.max())
        while True:
            extra = {"position_ids": position.to(device)} if self.takes_positions else {}
            output = self.model(
                input_ids=feed.to(device),
                attention_mask=mask.to(device),
                past_key_values=cache,
                use_cache=True,
                **extra,
            )
            cache = output.past_key_values
            logits = output.logits[:, -1].float().cpu()
            ids, logps = draw(logits, self.uniforms(rows, before + length, furthest + int(length.max())), *settings)
            for row, i, p in zip(live, ids.tolist(), logps.tolist()):
                if row in alive:
                    found[row][0].append(i)
                    found[row][1].append(p)
                    stopped[row] = i in stop
                    if stopped[row] or len(found[row][0]) == room[row]:
                        alive.discard(row)
            if not alive:
                return
            feed, position = ids[:, None], length[:, None]
            mask = torch.nn.functional.pad(mask, (0, 1), value=1)
            length = length + torch.tensor([row in alive for row in live])
