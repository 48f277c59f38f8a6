"""The equivalence that licenses packed execution: packed == each text alone == padded, vectors and
gradients, of every architecture.
"""

from __future__ import annotations

import importlib

import pytest
import torch
from packed_case import KINDS, LENGTHS, NUM_LAYERS, make, make_backbone, make_qwen2, token_ids
from tiny import make_encoder
from transformers import BertModel, MPNetModel, Qwen2Model

from leafkit.models import text_encoder as encoder_module
from leafkit.models.configure import enable_gradient_checkpointing
from leafkit.models.lora import add_adapters
from leafkit.models.packed import attention
from leafkit.models.packed.backbone import (
    ARCHITECTURES,
    architecture_of,
    can_pack,
    is_plain_bert,
    run_packed,
    why_padded,
)
from leafkit.models.packed.grouping import pack
from leafkit.models.pooling import POOLINGS, pool_packed

CPU = torch.device("cpu")
# 150 tokens: MPNet's buckets of distances end at 128
LONG = (150, 3, 40, 40, 1)
ONE_OF_EACH = {kind.split()[0]: kind for kind in KINDS}.values()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_of_the_table_is_a_class_of_transformers(name):
    module, _, class_name = name.rpartition(".")
    model_class = getattr(importlib.import_module(f"transformers.models.{module}"), class_name)
    assert architecture_of(model_class) is ARCHITECTURES[name]


def test_every_architecture_of_the_table_is_among_the_models_of_these_tests():
    classes = {type(make_backbone(kind)).__name__ for kind in ONE_OF_EACH}
    assert classes == {name.rpartition(".")[2] for name in ARCHITECTURES}


@pytest.mark.parametrize("kind", KINDS)
def test_packed_equals_each_text_alone(kind):
    backbone = make(kind).backbone
    assert not why_padded(backbone)
    batch = pack(token_ids(), CPU)
    with torch.no_grad():
        hidden = run_packed(backbone, batch)
        found = {pooling: pool_packed(hidden, batch, pooling) for pooling in POOLINGS}
        for row, ids in enumerate(token_ids()):
            alone = backbone(input_ids=torch.tensor([ids])).last_hidden_state[0]
            expected = {"mean": alone.mean(dim=0), "cls": alone[0], "last": alone[-1]}
            for pooling in POOLINGS:
                torch.testing.assert_close(
                    found[pooling][row], expected[pooling], atol=5e-6, rtol=1e-5, msg=pooling
                )


@pytest.mark.parametrize("kind", ONE_OF_EACH)
def test_a_model_gives_the_same_where_launches_cost(kind, ahead):
    """Hidden states, and gradients of all weights."""
    backbone, found = make(kind, positions=160).backbone, []
    for is_ahead in (False, True):
        ahead(is_ahead)
        batch = pack(token_ids((*LONG, 38, 37)), CPU)
        backbone.zero_grad()
        hidden = run_packed(backbone, batch)
        (hidden * torch.linspace(-1, 1, hidden.shape[1])).sum().backward()
        gradients = [p.grad.clone() for p in backbone.parameters() if p.grad is not None]
        found.append((hidden.detach(), *gradients))
    torch.testing.assert_close(found[1][0], found[0][0], atol=1e-5, rtol=1e-5)
    # of all weights: biases of keys change no softmax, so that their gradients are rounding alone
    largest = max(float(gradient.abs().max()) for gradient in found[0][1:])
    torch.testing.assert_close(found[1][1:], found[0][1:], atol=2e-6 * largest, rtol=1e-4)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_all_texts_are_pooled_at_once_where_launches_cost(pooling, ahead):
    """Vectors and gradients are those of group by group."""
    batch = pack(token_ids(), CPU)
    hidden = torch.randn(len(batch.ids_N), 8, generator=torch.Generator().manual_seed(0))
    found = []
    for is_ahead in (False, True):
        ahead(is_ahead)
        given = hidden.bfloat16().requires_grad_()
        pooled = pool_packed(given, batch, pooling)
        (pooled * torch.linspace(-1, 1, 8)).sum().backward()
        found.append((pooled.detach(), given.grad))
    assert found[1][0].dtype == torch.float32
    torch.testing.assert_close(found[1], found[0], atol=1e-6, rtol=1e-6)


def padded_states(backbone, texts):
    """transformers' own hidden states, (L + 1, N, H), of texts in one padded matrix."""
    width = max(map(len, texts))
    ids = torch.tensor([[*text, *[1] * (width - len(text))] for text in texts])
    mask = torch.arange(width)[None] < torch.tensor([[len(text)] for text in texts])
    states = backbone(
        input_ids=ids, attention_mask=mask.long(), output_hidden_states=True
    ).hidden_states
    return torch.stack([state[mask] for state in states])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", [LENGTHS, LONG])
def test_states_of_all_layers_equal_the_padded_ones(kind, lengths, monkeypatch):
    monkeypatch.setattr(attention, "_SMALLEST_BLOCK", 16)
    backbone = make(kind, positions=160).backbone
    texts = token_ids(lengths)
    batch = pack(texts, CPU)
    with torch.no_grad():
        found = run_packed(backbone, batch, all_layers=True)
        expected = padded_states(backbone, [texts[i] for i in batch.order])
        assert len(found) == len(expected) == NUM_LAYERS + 1
        torch.testing.assert_close(torch.stack(found), expected, atol=1e-5, rtol=1e-5)
        assert torch.equal(found[-1], run_packed(backbone, batch))


def gradients_of(encoder, monkeypatch, is_packed, checkpointing=False):
    monkeypatch.setattr(encoder_module, "can_pack", lambda backbone: is_packed)
    weights = torch.randn(len(LENGTHS), encoder.dim, generator=torch.Generator().manual_seed(0))
    if checkpointing:
        enable_gradient_checkpointing(encoder)
    encoder.train(checkpointing)
    encoder.zero_grad()
    (encoder(token_ids()) * weights).sum().backward()
    return {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}


def compare(found, expected):
    """In parts of the largest: that of a bias of keys is zero but for rounding."""
    assert found.keys() == expected.keys()
    largest = max(gradient.abs().max() for gradient in expected.values())
    for name, gradient in found.items():
        torch.testing.assert_close(
            gradient / largest, expected[name] / largest, atol=1e-6, rtol=1e-4, msg=name
        )


@pytest.mark.parametrize("kind", KINDS)
def test_packed_gradients_equal_padded_ones(kind, monkeypatch):
    encoder = make(kind)
    assert can_pack(encoder.train().backbone)
    expected = gradients_of(encoder, monkeypatch, is_packed=False)
    assert expected.keys() == dict(encoder.named_parameters()).keys()
    for checkpointing in (False, True):
        found = gradients_of(encoder, monkeypatch, is_packed=True, checkpointing=checkpointing)
        compare(found, expected)


@pytest.mark.parametrize("kind", ONE_OF_EACH)
def test_adapters_are_computed(kind, monkeypatch):
    encoder = make(kind)
    names = {n for n, m in encoder.backbone.named_modules() if type(m) is torch.nn.Linear}
    add_adapters(encoder, 2, 4.0, sorted({name.rpartition(".")[2] for name in names}), seed=0)
    for name, weight in encoder.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    assert can_pack(encoder.backbone)
    expected = gradients_of(encoder, monkeypatch, is_packed=False)
    assert len(expected) == 2 * len(names)
    compare(gradients_of(encoder, monkeypatch, is_packed=True), expected)


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


@pytest.mark.parametrize("kind", KINDS)
def test_with_weights_in_bf16_packed_is_as_near_to_float32_as_padded_is(kind):
    batch = pack(token_ids(), CPU)
    texts = [token_ids()[i] for i in batch.order]
    with torch.inference_mode():
        exact = run_packed(make(kind).backbone, batch)
        backbone = make(kind).backbone.bfloat16()
        found, padded = run_packed(backbone, batch), padded_states(backbone, texts)[-1]
    assert found.dtype == torch.bfloat16
    errors = [float((x.float() - exact).norm() / exact.norm()) for x in (found, padded)]
    assert errors[0] < max(1.5 * errors[1], 0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_under_autocast_are_near_those_in_float32(kind, monkeypatch):
    encoder = make(kind)
    expected = gradients_of(encoder, monkeypatch, is_packed=True)
    errors = []
    for is_packed in (True, False):
        with torch.autocast("cpu", torch.bfloat16):
            found = gradients_of(encoder, monkeypatch, is_packed=is_packed)
        pairs = [(found[name].float().flatten(), g.flatten()) for name, g in expected.items()]
        ours, exact = (torch.cat(x) for x in zip(*pairs, strict=True))
        errors.append(float((ours - exact).norm() / exact.norm()))
    assert errors[0] < max(1.5 * errors[1], 0.02)


@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta", "mpnet"])
def test_a_padding_token_inside_of_a_text_has_no_position(kind):
    """As it is written out in a text, <pad> is one: transformers passes over it."""
    backbone = make(kind).backbone
    texts = [[5, 1, 6, 7], [1, 8, 1, 1, 9, 3], [4, 1]]
    batch = pack(texts, CPU)
    with torch.no_grad():
        found = run_packed(backbone, batch)
        expected = padded_states(backbone, [texts[i] for i in batch.order])[-1]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["roberta", "mpnet", "distilbert", "modernbert", "qwen3 causal"])
def test_a_model_that_drops_attention_weights_is_padded_while_it_trains(kind):
    name = {"distilbert": "attention_dropout", "roberta": "attention_probs_dropout_prob"}
    name |= {"mpnet": name["roberta"]}
    backbone = make_backbone(kind, **{name.get(kind, "attention_dropout"): 0.1})
    assert can_pack(backbone.eval())
    assert "drops attention weights" in why_padded(backbone.train())


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta"])
def test_an_encoder_set_up_as_a_decoder_is_not_packed(kind):
    backbone = make_backbone(kind)
    assert can_pack(backbone)
    backbone.config.is_decoder = True
    assert "decoder" in why_padded(backbone)


def test_capped_scores_are_not_packed():
    backbone = make_backbone("gemma3_text causal", attn_logit_softcapping=50.0)
    assert "caps" in why_padded(backbone)


def test_only_a_bidirectional_bert_is_packed_among_berts():
    encoder = make_encoder()
    assert can_pack(encoder.backbone)
    assert is_plain_bert(encoder.backbone)
    encoder.backbone.config.is_decoder = True
    assert not can_pack(encoder.backbone)


def test_a_qwen2_is_packed_but_for_dropout_of_attention_weights_in_training():
    assert can_pack(make_qwen2())
    assert not is_plain_bert(make_qwen2())
    assert can_pack(make_qwen2(attention_dropout=0.1))
    assert not can_pack(make_qwen2(attention_dropout=0.1).train())
    assert can_pack(make_qwen2(use_sliding_window=True, sliding_window=4, max_window_layers=0))


@pytest.mark.parametrize(("rope", "is_packed"), [("dynamic", False), ("linear", True)])
def test_a_qwen2_whose_rotations_depend_on_the_longest_text_is_not_packed(rope, is_packed):
    rope_parameters = {"rope_type": rope, "factor": 2.0, "rope_theta": 10_000.0}
    assert can_pack(make_qwen2(rope_parameters=rope_parameters)) is is_packed


def test_a_model_whose_layers_rotate_in_two_ways_is_not_packed_if_one_depends_on_the_longest():
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
    plain = {"rope_type": "default", "rope_theta": 10_000.0}
    for kind in ("modernbert", "gemma3_text causal"):
        parameters = {"full_attention": rope, "sliding_attention": plain}
        assert "longest" in why_padded(make_backbone(kind, rope_parameters=parameters))


def test_a_subclass_with_a_forward_of_its_own_is_not_packed_and_the_reason_says_so():
    class Other(BertModel):
        pass

    class OtherQwen2(Qwen2Model):
        pass

    class OtherMPNet(MPNetModel):
        pass

    for other in (
        Other(make_encoder().backbone.config),
        OtherQwen2(make_qwen2().config),
        OtherMPNet(make_backbone("mpnet").config),
    ):
        assert not can_pack(other)
        parent = type(other).__mro__[1].__name__
        assert f"it is no {parent}, but a subclass" in why_padded(other)
        with pytest.raises(ValueError, match="cannot be packed: it is no"):
            run_packed(other, pack(token_ids(), CPU))


def test_an_unknown_architecture_says_so():
    from transformers import AlbertConfig, AlbertModel

    config = AlbertConfig(
        vocab_size=64, hidden_size=32, num_attention_heads=4, intermediate_size=48
    )
    assert why_padded(AlbertModel(config)) == "leafkit knows no packed form of it"
