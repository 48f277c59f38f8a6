"""Growth keeps what the model computes and lets the copies part."""

from __future__ import annotations

import pytest
import tiny
import torch
from transformers import BertConfig, BertModel

from leafkit.core.errors import UsageError
from leafkit.models.checkpoint import load_encoder
from leafkit.models.grow import grow
from leafkit.models.text_encoder import EncoderSpec, TextEncoder

TEXTS = [f"{query} {document}" for query, document in tiny.make_pairs(20)]


def cosines(encoder: TextEncoder) -> torch.Tensor:
    with torch.no_grad():
        vectors = encoder.finish(encoder(encoder.tokenize(TEXTS, "document")))
    return vectors @ vectors.T


@pytest.mark.parametrize(
    ("hidden", "intermediate"),
    [(32, 64), (32, 96), (64, 0), (64, 100), (64, 160), (96, 0), (96, 64)],
)
def test_cosines_are_preserved(hidden, intermediate):
    start = tiny.make_encoder()
    grown = grow(start, hidden, intermediate, seed=3)
    assert (cosines(grown) - cosines(start)).abs().max() <= 1e-5
    assert grown.hidden_size == hidden
    assert grown.backbone.config.intermediate_size == (intermediate or 64 * hidden // 32)


@pytest.mark.parametrize("pooling", ["cls", "last"])
def test_cosines_are_preserved_for_other_poolings(pooling):
    start = tiny.make_encoder(pooling=pooling)
    assert (cosines(grow(start, 64, 0, seed=3)) - cosines(start)).abs().max() <= 1e-5


def test_a_grown_vector_is_the_starts_vector_repeated():
    start = tiny.make_encoder()
    ids = start.tokenize(TEXTS, "document")
    with torch.no_grad():
        assert torch.allclose(grow(start, 64, 0, seed=3)(ids), start(ids).repeat(1, 2), atol=2e-5)


def test_copies_get_different_gradients_and_part_after_one_step():
    grown = grow(tiny.make_encoder(), 64, 0, seed=3)
    optimizer = torch.optim.SGD(grown.parameters(), lr=0.1)
    goal = torch.randn(len(TEXTS), 64, generator=torch.Generator().manual_seed(0))
    (grown(grown.tokenize(TEXTS, "document")) * goal).mean().backward()
    inner = grown.backbone.encoder.layer[0].intermediate.dense
    # units 64 to 127 are copies of the first 64, in some order
    before = (inner.bias[:64, None] - inner.bias[None, 64:]).abs()
    assert before.min(dim=0).values.max() == 0
    pairs = before.argmin(dim=0)
    optimizer.step()
    after = (inner.bias[pairs] - inner.bias[64:]).abs()
    assert (after > 0).float().mean() > 0.9


def test_without_noise_copies_would_stay_equal(monkeypatch):
    """Why the split is uneven: with an even one the gradients of two copies differ by rounding
    only.
    """

    def spread() -> float:
        grown = grow(tiny.make_encoder(), 64, 0, seed=3)
        vectors = grown(grown.tokenize(TEXTS, "document"))
        (vectors[:, :32] + vectors[:, 32:]).square().mean().backward()
        gradient = grown.backbone.encoder.layer[0].attention.self.value.bias.grad
        return float((gradient[:32] - gradient[32:]).norm() / gradient.norm())

    uneven = spread()
    monkeypatch.setattr("leafkit.models.grow.SPLIT_NOISE", 0.0)
    assert spread() < 1e-4 < 0.02 < uneven


def test_the_seed_decides_about_the_split():
    weights = [
        grow(tiny.make_encoder(), 64, 0, seed).backbone.encoder.layer[0].output.dense.weight
        for seed in (1, 1, 2)
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_start_model_is_left_alone():
    start = tiny.make_encoder()
    before = cosines(start)
    grow(start, 64, 0, seed=3)
    assert start.backbone.config.hidden_size == 32
    assert torch.equal(cosines(start), before)


@pytest.mark.parametrize(("hidden", "intermediate"), [(48, 0), (16, 0), (32, 60), (64, 60)])
def test_sizes_that_cannot_preserve_the_function_are_refused(hidden, intermediate):
    with pytest.raises(UsageError, match="cannot grow 32/64 to") as caught:
        grow(tiny.make_encoder(), hidden, intermediate, seed=3)
    assert "multiple of 32" in caught.value.hint


def test_an_encoder_with_projection_is_refused():
    with pytest.raises(UsageError, match="only a BERT encoder without projection can grow"):
        grow(tiny.make_encoder(dim=48), 64, 0, seed=3)


@pytest.mark.parametrize(("intermediate", "millions"), [(3072, 66.4), (2304, 59.3)])
def test_parameter_counts_of_the_real_widths(intermediate, millions):
    """all-MiniLM-L6-v2 at 768: 66.4M with the ratio kept, 59.3M with 2304 inner units. On the meta
    device: no memory.
    """
    config = BertConfig(
        vocab_size=30522,
        hidden_size=768,
        num_hidden_layers=6,
        num_attention_heads=24,
        intermediate_size=intermediate,
        max_position_embeddings=512,
    )
    with torch.device("meta"):
        backbone = BertModel(config, add_pooling_layer=False)
    count = TextEncoder(backbone, tiny.make_tokenizer(), EncoderSpec()).num_parameters()
    assert round(count / 1e6, 1) == millions
    assert intermediate == 3072 or count == 59_281_920


@pytest.mark.slow
def test_the_real_minilm_grows_to_59_million_with_the_same_cosines():
    start = load_encoder("builtin:minilm")
    texts = [
        "how to invert a matrix",
        "numpy linalg inv: the inverse of a matrix",
        "the weather is fine",
        "",
    ]
    grown = grow(start, 768, 2304, seed=0)
    assert grown.num_parameters() == 59_281_920
    with torch.no_grad():
        a, b = (e.finish(e(e.tokenize(texts, "document"))) for e in (start, grown))
    assert (a @ a.T - b @ b.T).abs().max() <= 1e-5
