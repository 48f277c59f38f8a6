"""The encoder against plain Hugging Face arithmetic, and against itself in other batches."""

from __future__ import annotations

import pytest
import tiny
import torch
from torch import nn

from leafkit.core.errors import UsageError
from leafkit.models.text_encoder import EncoderSpec, TextEncoder

TEXTS = [
    "Compute the matrix",
    "",
    "read the queue backwards and split the string by the first value of a table column",
    "a",
    "the gradient of the integral",
    "zqxj " * 20,
]
POOLINGS = ["mean", "cls", "last"]


def plain_vectors(encoder: TextEncoder, texts: list[str]) -> torch.Tensor:
    """One padded batch through the tokenizer and the backbone, pooled by hand, as Hugging Face's
    model cards do it.
    """
    batch = encoder.tokenizer(
        texts,
        padding=True,
        truncation=True,
        max_length=encoder.spec.max_tokens,
        return_tensors="pt",
    )
    with torch.no_grad():
        hidden = encoder.backbone(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        ).last_hidden_state
    mask = batch["attention_mask"]
    if encoder.spec.pooling == "cls":
        pooled = hidden[:, 0]
    elif encoder.spec.pooling == "last":
        pooled = hidden[torch.arange(len(texts)), mask.sum(dim=1) - 1]
    else:
        pooled = (hidden * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    return pooled if encoder.projection is None else encoder.projection(pooled)


def embed(encoder: TextEncoder, texts: list[str], role: str = "document") -> torch.Tensor:
    with torch.no_grad():
        return encoder(encoder.tokenize(texts, role))


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("dim", [0, 48])
def test_vectors_equal_those_of_plain_hugging_face(pooling, dim):
    encoder = tiny.make_encoder(pooling=pooling, dim=dim)
    assert torch.allclose(
        embed(encoder, TEXTS), plain_vectors(encoder, TEXTS), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_text_has_the_same_vector_alone_and_in_any_batch(pooling):
    encoder = tiny.make_encoder(pooling=pooling)
    together = embed(encoder, TEXTS)
    alone = torch.cat([embed(encoder, [text]) for text in TEXTS])
    reversed_order = embed(encoder, TEXTS[::-1]).flip(0)
    assert torch.allclose(together, alone, rtol=1e-5, atol=1e-6)
    assert torch.allclose(together, reversed_order, rtol=1e-5, atol=1e-6)


def test_poolings_differ():
    vectors = [embed(tiny.make_encoder(pooling=pooling), TEXTS[2:3]) for pooling in POOLINGS]
    assert not torch.allclose(vectors[0], vectors[1], atol=1e-2)
    assert not torch.allclose(vectors[1], vectors[2], atol=1e-2)


def test_gradients_of_grouped_batches_equal_those_of_one_padded_batch(monkeypatch):
    encoder = tiny.make_encoder(dim=48)
    token_ids = encoder.tokenize(TEXTS, "document")
    goal = torch.randn(len(TEXTS), 48, generator=torch.Generator().manual_seed(0))

    def gradients() -> list[torch.Tensor]:
        encoder.zero_grad()
        (encoder(token_ids) * goal).sum().backward()
        return [p.grad.clone() for p in encoder.parameters()]

    grouped = gradients()
    monkeypatch.setattr(
        "leafkit.models.text_encoder.group_by_length",
        lambda lengths: [torch.arange(len(lengths)).numpy()],
    )
    padded = gradients()
    largest = max(float(g.abs().max()) for g in padded)
    assert max(
        float((a - b).abs().max()) for a, b in zip(grouped, padded, strict=True)
    ) <= 1e-5 * max(1.0, largest)


def test_empty_text_has_a_finite_vector_of_length_one():
    encoder = tiny.make_encoder()
    vector = encoder.finish(embed(encoder, [""]))
    assert float(vector.norm()) == pytest.approx(1, abs=1e-5)


def test_a_hundred_thousand_characters_are_cut_at_max_tokens():
    encoder = tiny.make_encoder()
    ids = encoder.tokenize(["matrix " * 15000], "document")[0]
    assert len(ids) == 128
    assert ids[-1] == encoder.tokenizer.sep_token_id
    assert torch.isfinite(embed(encoder, ["matrix " * 15000])).all()


@pytest.mark.parametrize(("asked", "got"), [(16, 16), (None, 128), (5000, 128)])
def test_max_tokens_counts_special_tokens_and_never_exceeds_the_models_limit(asked, got):
    assert len(tiny.make_encoder().tokenize(["the " * 400], "document", asked)[0]) == got


def test_a_lone_surrogate_is_refused_by_the_tokenizer():
    """Texts are repaired where they enter (``leafkit.data.records.clean_text``); the encoder does
    not guess.
    """
    with pytest.raises(TypeError):
        tiny.make_encoder().tokenize(["broken \ud800 text"], "document")


def test_the_prompt_of_the_role_comes_before_the_text():
    encoder = tiny.make_encoder(prompts={"query": "find the "})
    with_prompt, without = (
        encoder.tokenize(["matrix"], "query"),
        encoder.tokenize(["matrix"], "document"),
    )
    assert with_prompt == tiny.make_encoder().tokenize(["find the matrix"], "document")
    assert without == tiny.make_encoder().tokenize(["matrix"], "document")


def test_the_prompt_is_part_of_what_max_tokens_cuts():
    encoder = tiny.make_encoder(prompts={"query": "find the "})
    assert (
        encoder.tokenize(["matrix table string"], "query", 5)[0]
        == encoder.tokenize(["find the matrix"], "document")[0]
    )


def test_no_texts_give_no_ids():
    assert tiny.make_encoder().tokenize([], "query") == []


def test_finish_cuts_before_it_normalizes():
    encoder = tiny.make_encoder()
    raw = embed(encoder, TEXTS)
    short = encoder.finish(raw, 8)
    assert torch.allclose(short.norm(dim=1), torch.ones(len(TEXTS)), atol=1e-5)
    assert torch.allclose(short, nn.functional.normalize(raw[:, :8], dim=1), atol=1e-6)


def test_a_model_that_does_not_normalize_keeps_its_lengths():
    encoder = tiny.make_encoder(normalized=False)
    raw = embed(encoder, TEXTS)
    assert torch.equal(encoder.finish(raw), raw)
    assert torch.equal(encoder.finish(raw, 8), raw[:, :8])


def test_projection_stays_float32_under_autocast():
    encoder = tiny.make_encoder(dim=48)
    pooled = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        inside = encoder.project(pooled)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, encoder.project(pooled))


def test_disable_dropout_makes_training_mode_deterministic():
    encoder = tiny.make_encoder().train()
    ids = encoder.tokenize(TEXTS, "document")
    assert not torch.equal(encoder(ids), encoder(ids))
    encoder.disable_dropout()
    assert torch.equal(encoder(ids), encoder(ids))


def test_sizes_are_counted():
    encoder = tiny.make_encoder(hidden=32, dim=48)
    linear = 2 * (4 * 32 * 32 + 2 * 32 * 64)
    assert (encoder.hidden_size, encoder.dim) == (32, 48)
    assert encoder.flops_per_token() == 2 * linear
    assert (
        encoder.num_parameters()
        == sum(p.numel() for p in encoder.backbone.parameters()) + 32 * 48 + 48
    )


def test_unknown_pooling_is_refused():
    encoder = tiny.make_encoder()
    with pytest.raises(UsageError, match="pooling 'max' is not one of mean, cls, last"):
        TextEncoder(encoder.backbone, encoder.tokenizer, EncoderSpec(pooling="max"))
