"""Tiny random weights of any architecture."""

from __future__ import annotations

import pytest
import tiny
import torch

from leafkit.core.errors import UsageError
from leafkit.models.checkpoint import identify_model, load_encoder, read_encoder, write_encoder
from leafkit.models.tiny import tiny_encoder

DECODERS = [
    "qwen2",
    "qwen3",
    "mistral",
    "gemma",
    "gemma2",
    "gemma3_text",
    "llama",
    "phi3",
    "granite",
    "smollm3",
    "olmo2",
    "gpt2",
    "opt",
    "gpt_neox",
    "bloom",
    "falcon",
    "mixtral",
    "qwen3_moe",
]
ENCODERS = [
    "bert",
    "roberta",
    "xlm-roberta",
    "distilbert",
    "modernbert",
    "mpnet",
    "deberta-v2",
    "electra",
    "albert",
    "nomic_bert",
    "eurobert",
]
TEXTS = [
    "Compute the matrix",
    "",
    "read the queue backwards and split the string by the first value of a table column",
]


def vectors(encoder) -> torch.Tensor:
    with torch.no_grad():
        return encoder(encoder.tokenize(TEXTS, "query"))


@pytest.mark.parametrize("architecture", DECODERS + ENCODERS)
def test_every_architecture_is_small_reads_text_and_comes_back(tmp_path, architecture):
    attention = "bidirectional" if architecture in DECODERS else ""
    encoder = tiny_encoder(architecture, tiny.make_tokenizer(), attention=attention, max_tokens=64)
    config = encoder.backbone.config
    assert (config.model_type, config.num_hidden_layers, config.hidden_size) == (
        architecture,
        2,
        64,
    )
    assert config.num_attention_heads == 4
    assert config.vocab_size == len(encoder.tokenizer)
    assert encoder.num_parameters() < 300_000
    assert not encoder.training
    assert (encoder.spec.attention, encoder.spec.max_tokens) == (attention, 64)
    assert len(encoder.tokenize(["matrix " * 100], "query")[0]) == 64
    with torch.no_grad():
        assert torch.isfinite(encoder(encoder.tokenize(["matrix " * 100], "query"))).all()
    write_encoder(encoder, tmp_path, {})
    assert torch.equal(vectors(read_encoder(tmp_path)), vectors(encoder))


@pytest.mark.parametrize(
    "architecture", ["qwen2", "mistral", "gemma3_text", "bert", "roberta", "albert"]
)
def test_every_weight_gets_a_gradient(architecture):
    """A pooler that no vector uses would stop distributed training."""
    encoder = tiny_encoder(architecture, tiny.make_tokenizer(), max_tokens=64).train()
    encoder(encoder.tokenize(TEXTS, "query")).square().sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


def test_a_pooler_on_disk_is_left_out(tmp_path):
    from transformers import RobertaConfig, RobertaModel

    tokenizer = tiny.make_tokenizer()
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
    )
    RobertaModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert not any("pooler" in name for name, _ in read_encoder(tmp_path).named_parameters())


def test_heads_share_keys_where_they_can():
    config = tiny_encoder("qwen2", tiny.make_tokenizer()).backbone.config
    assert (config.num_key_value_heads, config.intermediate_size) == (2, 128)


def test_gemma_has_both_kinds_of_layers():
    config = tiny_encoder("gemma3_text", tiny.make_tokenizer()).backbone.config
    assert config.layer_types == ["sliding_attention", "full_attention"]


def test_weights_follow_the_seed_and_the_architecture_and_leave_the_global_state_alone():
    state = torch.get_rng_state()
    first, again, other = (
        vectors(tiny_encoder("qwen3", tiny.make_tokenizer(), seed=seed, max_tokens=64))
        for seed in (None, None, 7)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=1e-2)


def test_the_given_tokenizer_stays_as_it_was():
    tokenizer = tiny.make_tokenizer()
    encoder = tiny_encoder("mistral", tokenizer, max_tokens=64)
    assert tokenizer.eos_token is None
    assert (encoder.tokenizer.eos_token, encoder.tokenizer.pad_token) == ("[SEP]", "[PAD]")


@pytest.mark.parametrize(
    ("architecture", "match"),
    [
        ("qwen_2", r"unknown architecture 'qwen_2': did you mean qwen2"),
        ("", "unknown architecture ''"),
        ("zzzzzzzz", "unknown architecture 'zzzzzzzz'$"),
        ("t5", "no single model that reads text"),
        ("vit", "no single model that reads text"),
        ("whisper", "no single model that reads text"),
        ("xlnet", "cannot be built small"),
    ],
)
def test_unknown_architectures_are_usage_errors(architecture, match):
    with pytest.raises(UsageError, match=match) as caught:
        tiny_encoder(architecture, tiny.make_tokenizer())
    assert caught.value.hint


@pytest.mark.parametrize("architecture", ["qwen2", "mistral", "gemma3_text", "bert"])
def test_a_reference_names_the_same_weights_every_time(architecture):
    first, again = load_encoder(f"tiny:{architecture}"), load_encoder(f"tiny:{architecture}")
    assert first.fingerprint == again.fingerprint != ""
    assert torch.equal(vectors(first), vectors(again))
    assert identify_model(f"tiny:{architecture}") == f"tiny:{architecture}"
    assert first.backbone.config.model_type == architecture


def test_different_references_have_different_identities():
    assert load_encoder("tiny:llama").fingerprint != load_encoder("tiny:mistral").fingerprint


def test_a_reference_to_no_architecture_is_a_usage_error():
    with pytest.raises(UsageError, match="unknown architecture 'mistrall': did you mean mistral"):
        load_encoder("tiny:mistrall")
