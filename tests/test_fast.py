"""models/fast.py against the transformers forward pass: values, gradients, and what it refuses."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from workbench.batch import Batch, Dialogue, Segment
from workbench.models import fast
from workbench.models.language import evaluate_with_transformers

V = 50


def model(heads=4, kv_heads=2, tied=True, seed=0, **settings) -> Qwen3ForCausalLM:
    """A small Qwen3 with weights large enough, and norms uneven enough, that every mistake shows."""
    config = Qwen3Config(
        vocab_size=V, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=heads,
        num_key_value_heads=kv_heads, head_dim=32, tie_word_embeddings=tied, max_position_embeddings=128, **settings,
    )  # fmt: skip
    net = Qwen3ForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.3 * noise if "norm" in name else 0.15 * noise)
    return net


def batch(shape="ragged", groups=4, size=3, seed=0) -> Batch:
    """Groups that share prompts of different lengths, with one or two turns; or every row of the same length."""
    generator = torch.Generator().manual_seed(seed)

    def ids(low, high):
        length = int(torch.randint(low, high + 1, (), generator=generator))
        return torch.randint(0, V, (length,), generator=generator).tolist()

    dialogues = []
    for group in range(groups):
        prompt = ids(1, 9) if shape == "ragged" else ids(6, 6)
        for row in range(size):
            dialogue = Dialogue(list(prompt), group, rewards=[0.0])
            first = ids(1, 7) if shape == "ragged" else ids(5, 5)
            if shape == "one token":
                first = first[:1]
            dialogue.segments = [Segment(first, [-1.0] * len(first))]
            if shape == "ragged" and row % 2:
                last = ids(1, 6)
                dialogue.segments += [
                    Segment(ids(1, 5)),
                    Segment(last, [-1.0] * len(last)),
                    Segment(ids(1, 3)),
                ]
                dialogue.rewards = [0.0, 0.0]
            dialogues.append(dialogue)
    return Batch.from_dialogues(dialogues)


def gradients(net, said, weight):
    net.zero_grad()
    value = (said.logp * weight).sum() + (said.entropy * weight.cos()).sum()
    value = value + (said.hidden.sin().sum(-1) * weight).sum()
    value.backward()
    return {name: parameter.grad for name, parameter in net.named_parameters()}


def in_double(net):
    """Weights, activations and rotary angles in float64: transformers alone rounds the norms and the angles to float32."""
    exact = copy.deepcopy(net).double()
    for module in exact.modules():
        if hasattr(module, "variance_epsilon"):
            module.forward = lambda x, m=module: (
                m.weight * x * (x.pow(2).mean(-1, keepdim=True) + m.variance_epsilon).rsqrt()
            )
    return exact


@pytest.mark.parametrize("shape", ["ragged", "equal", "one token"])
@pytest.mark.parametrize(("heads", "kv_heads", "tied"), [(4, 2, True), (2, 2, False), (3, 1, True)])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_values_equal_the_transformers_forward(shape, heads, kv_heads, tied, temperature):
    net, rows = model(heads, kv_heads, tied), batch(shape)
    ours, theirs = fast.evaluate(net, rows, temperature), evaluate_with_transformers(net, rows, temperature)
    assert (ours.logp - theirs.logp).abs().max() < 2e-5
    assert (ours.entropy - theirs.entropy).abs().max() < 2e-5
    assert (ours.hidden - theirs.hidden)[rows.mask].abs().max() < 1e-4
    assert not ours.logp[~rows.mask].any() and not ours.entropy[~rows.mask].any()


@pytest.mark.parametrize("shape", ["ragged", "equal"])
@pytest.mark.parametrize("tied", [True, False])
def test_gradients_equal_the_transformers_forward_s(shape, tied):
    net, rows = model(tied=tied), batch(shape)
    weight = torch.randn(rows.tokens.shape, generator=torch.Generator().manual_seed(1)) * rows.mask
    exact = in_double(net)
    reference = gradients(exact, evaluate_with_transformers(exact, rows, 0.8), weight.double())
    for name, gradient in gradients(net, fast.evaluate(net, rows, 0.8), weight).items():
        error = (gradient - reference[name]).norm() / reference[name].norm()
        assert error < 1e-5, (name, error)


def test_tokens_of_the_environment_get_no_gradient_and_later_ones_no_influence():
    net, rows = model(), batch()
    reply = ~rows.mask & (rows.turn >= 0)
    assert reply.any()
    before = fast.evaluate(net, rows).logp
    (before * reply).sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in net.parameters())
    last = rows.mask & (torch.arange(rows.tokens.shape[1]) == rows.last_token.max(1).values[:, None])
    other = rows.replace(tokens=torch.where(last, (rows.tokens + 1) % V, rows.tokens))
    after = fast.evaluate(net, other).logp
    assert torch.allclose(before[rows.mask & ~last], after[rows.mask & ~last], atol=1e-6)
    assert not torch.allclose(before[last], after[last], atol=1e-3)


def test_the_same_bits_with_and_without_gradients():
    net, rows = model(), batch()
    with torch.no_grad():
        without = fast.evaluate(net, rows)
    within = fast.evaluate(net, rows)
    assert torch.equal(without.logp, within.logp.detach()) and torch.equal(
        without.entropy, within.entropy.detach()
    )


def test_a_batch_with_nothing_sampled():
    rows = batch()
    rows = rows.replace(mask=torch.zeros_like(rows.mask), logp_old=torch.zeros_like(rows.logp_old))
    assert not fast.evaluate(model(), rows).logp.any()


def test_a_shared_prompt_goes_through_once():
    rows = batch("equal", groups=3, size=5)
    packing = fast.pack(rows)
    assert packing.prompts.shape == (3, 6)
    assert len(packing.tokens) == 3 * 6 + 15 * 4 + 1  # the last token is predicted, not fed; one of padding


def test_supports_refuses_what_it_does_not_compute():
    assert fast.supports(model())
    assert not fast.supports(model().to(torch.bfloat16))
    assert not fast.supports(model(attention_bias=True))
    assert not fast.supports(model(attention_dropout=0.1))
    assert not fast.supports(model(use_sliding_window=True, sliding_window=8, max_window_layers=0))
    assert not fast.supports(torch.nn.Linear(2, 2))
    from peft import LoraConfig, get_peft_model

    net = model()
    adapted = get_peft_model(net, LoraConfig(r=2, target_modules=["q_proj"]))
    assert not fast.supports(adapted) and not fast.supports(net)
    hooked = model()
    hooked.model.layers[0].register_forward_hook(lambda *_: None)
    assert not fast.supports(hooked)


def test_the_precision_setting_is_scoped(monkeypatch):
    monkeypatch.setattr(fast, "_prefer_onednn", lambda: True)
    monkeypatch.setattr(fast, "SMALLEST", 0)
    before = torch.get_float32_matmul_precision()
    with pytest.raises(KeyError), fast.onednn(1):
        assert torch.get_float32_matmul_precision() == "medium"
        raise KeyError
    assert torch.get_float32_matmul_precision() == before
    net, rows = model(), batch()
    assert (fast.evaluate(net, rows).logp - evaluate_with_transformers(net, rows).logp).abs().max() < 2e-5


def test_the_precision_setting_is_used_only_if_exact():
    if fast._prefer_onednn():
        with fast.onednn(fast.SMALLEST):
            a = torch.randn(300, 300, generator=torch.Generator().manual_seed(1))
            exact = a.double() @ a.double()
            assert ((a @ a) - exact).abs().max() / exact.abs().max() < 1e-5


def test_the_allocator_can_be_asked():
    assert fast.tune_allocator() in (True, False)
