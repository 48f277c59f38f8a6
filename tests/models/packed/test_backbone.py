"""The equivalence that licenses packed execution: packed == each text alone == padded, vectors and
gradients.
"""

from __future__ import annotations

import pytest
import torch
from packed_case import KINDS, LENGTHS, make, make_qwen2, token_ids
from tiny import make_encoder
from transformers import BertModel, Qwen2Model

from leafkit.models import text_encoder as encoder_module
from leafkit.models.packed.backbone import can_pack, is_plain_bert, run_packed
from leafkit.models.packed.grouping import pack
from leafkit.models.pooling import pool_packed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_packed_equals_each_text_alone(kind, pooling):
    backbone = make(kind).backbone
    batch = pack(token_ids(), torch.device("cpu"))
    with torch.no_grad():
        found = pool_packed(run_packed(backbone, batch), batch, pooling)
        for row, ids in zip(found, token_ids(), strict=True):
            hidden = backbone(input_ids=torch.tensor([ids])).last_hidden_state[0]
            expected = {"mean": hidden.mean(dim=0), "cls": hidden[0], "last": hidden[-1]}[pooling]
            torch.testing.assert_close(row, expected, atol=2e-6, rtol=1e-5)


def gradients_of(encoder, monkeypatch, is_packed, checkpointing=False):
    monkeypatch.setattr(encoder_module, "can_pack", lambda backbone: is_packed)
    weights = torch.randn(len(LENGTHS), encoder.dim, generator=torch.Generator().manual_seed(0))
    if checkpointing:
        backbone = encoder.backbone
        (
            getattr(backbone, "activation_checkpointing_enable", None)
            or backbone.gradient_checkpointing_enable
        )()
    encoder.train(checkpointing)
    encoder.zero_grad()
    (encoder(token_ids()) * weights).sum().backward()
    return {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_packed_gradients_equal_padded_ones(kind, checkpointing, monkeypatch):
    expected = gradients_of(make(kind), monkeypatch, is_packed=False)
    found = gradients_of(make(kind), monkeypatch, is_packed=True, checkpointing=checkpointing)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_in_bf16_packed_is_as_near_to_float32_as_padded_is(kind, monkeypatch):
    encoder = make(kind)
    with torch.no_grad():
        exact = encoder(token_ids())
    errors = []
    for is_packed in (True, False):
        monkeypatch.setattr(encoder_module, "can_pack", lambda backbone, answer=is_packed: answer)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            errors.append(float((encoder(token_ids()) - exact).norm() / exact.norm()))
    assert errors[0] < max(1.5 * errors[1], 0.01)


def test_only_a_bidirectional_bert_is_packed_among_berts():
    encoder = make_encoder()
    assert can_pack(encoder.backbone)
    assert is_plain_bert(encoder.backbone)
    encoder.backbone.config.is_decoder = True
    assert not can_pack(encoder.backbone)


def test_a_qwen2_with_windows_or_dropout_is_not_packed():
    assert can_pack(make_qwen2())
    assert not is_plain_bert(make_qwen2())
    assert not can_pack(make_qwen2(attention_dropout=0.1))
    assert not can_pack(make_qwen2(use_sliding_window=True, sliding_window=4, max_window_layers=0))


@pytest.mark.parametrize(("rope", "is_packed"), [("dynamic", False), ("linear", True)])
def test_a_qwen2_whose_rotations_depend_on_the_longest_text_is_not_packed(rope, is_packed):
    rope_parameters = {"rope_type": rope, "factor": 2.0, "rope_theta": 10_000.0}
    assert can_pack(make_qwen2(rope_parameters=rope_parameters)) is is_packed


def test_a_subclass_with_a_forward_of_its_own_is_not_packed():
    class Other(BertModel):
        pass

    class OtherQwen2(Qwen2Model):
        pass

    assert not can_pack(Other(make_encoder().backbone.config))
    assert not can_pack(OtherQwen2(make_qwen2().config))
