"""The equivalence that licenses packed execution: packed == each text alone == padded, vectors and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import make_encoder
from torch.nn import functional

from leafkit.models import encoder as encoder_module
from leafkit.models.packed import _explicit_attention, can_pack, pack, pool_packed, run_packed

LENGTHS = (5, 3, 9, 3, 1, 12, 9, 5)


def token_ids() -> list[list[int]]:
    generator = np.random.default_rng(0)
    return [generator.integers(5, 30, length).tolist() for length in LENGTHS]


def test_a_batch_is_its_texts_longest_first_without_padding():
    ids = token_ids()
    batch = pack(ids, torch.device("cpu"))
    assert batch.groups == [(1, 12), (2, 9), (2, 5), (2, 3), (1, 1)]
    assert batch.ids_N.tolist() == [token for i in batch.order for token in ids[i]]
    assert batch.positions_N.tolist() == [p for i in batch.order for p in range(len(ids[i]))]


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_packed_equals_each_text_alone(pooling):
    backbone = make_encoder().backbone
    batch = pack(token_ids(), torch.device("cpu"))
    with torch.no_grad():
        found = pool_packed(run_packed(backbone, batch), batch, pooling)
        for row, ids in zip(found, token_ids(), strict=True):
            hidden = backbone(input_ids=torch.tensor([ids])).last_hidden_state[0]
            expected = {"mean": hidden.mean(dim=0), "cls": hidden[0], "last": hidden[-1]}[pooling]
            torch.testing.assert_close(row, expected, atol=1e-6, rtol=1e-5)


def test_packed_gradients_equal_padded_ones(monkeypatch):
    encoder = make_encoder()
    encoder.disable_dropout()
    weights = torch.randn(len(LENGTHS), encoder.dim, generator=torch.Generator().manual_seed(0))
    gradients = []
    for is_packed in (True, False):
        monkeypatch.setattr(encoder_module, "can_pack", lambda backbone, answer=is_packed: answer)
        encoder.zero_grad()
        (encoder(token_ids()) * weights).sum().backward()
        gradients.append({name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("length", [3, 128])
def test_attention_in_bf16_is_as_near_to_float32_as_bf16_is(length):
    """Autocast's float32 softmax is left out: neither the result nor a gradient may be further off than with it."""
    torch.manual_seed(0)
    exact = [torch.randn(2, 3, length, 8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    weights = torch.randn(2, 3, length, 8, dtype=torch.float64)
    expected = functional.scaled_dot_product_attention(*exact)
    (expected * weights).sum().backward()

    def errors(attend):
        inputs = [x.detach().bfloat16().requires_grad_() for x in exact]
        with torch.autocast("cpu", torch.bfloat16):
            found = attend(*inputs)
        assert found.dtype == torch.bfloat16
        (found.double() * weights).sum().backward()
        pairs = [(found, expected), *((i.grad, e.grad) for i, e in zip(inputs, exact, strict=True))]
        return [float((a.detach().double() - b.detach()).norm() / b.detach().norm()) for a, b in pairs]

    def with_float32_softmax(q, k, v):
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)
        return scores.softmax(dim=-1, dtype=torch.float32).to(v.dtype) @ v

    for ours, theirs in zip(errors(_explicit_attention), errors(with_float32_softmax), strict=True):
        assert ours < max(1.3 * theirs, 0.006)
        assert ours < 0.02


def test_explicit_attention_equals_the_fused_one():
    query, key, value = torch.randn(3, 2, 4, 7, 8, generator=torch.Generator().manual_seed(1))
    expected = functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(_explicit_attention(query, key, value), expected, atol=1e-6, rtol=1e-5)


def test_only_a_bidirectional_bert_is_packed():
    encoder = make_encoder()
    assert can_pack(encoder.backbone)
    encoder.backbone.config.is_decoder = True
    assert not can_pack(encoder.backbone)
