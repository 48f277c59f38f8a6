"""Decoders as encoders: each text alone through plain Hugging Face, and through
sentence-transformers after saving.
"""

from __future__ import annotations

import json
import resource
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from transformers import AutoModel, AutoTokenizer

from leafkit.models.checkpoint import read_encoder, write_encoder
from leafkit.models.configure import configure
from leafkit.models.tiny import tiny_encoder

TEXTS = [
    "Compute the matrix",
    "read the queue backwards and split the string by the first value of a table column",
    "a",
    "merge the table twice",
    "sort the stack safely",
]
PROMPTS = {"query": "find the answer : ", "document": "table : ", "sts": "first : "}
ARCHITECTURES = ["qwen2", "mistral", "gemma3_text"]
WAYS = [
    ("bidirectional", "mean"),
    ("causal", "last"),
    ("bidirectional", "last"),
    ("bidirectional", "cls"),
]


def make(architecture: str, attention: str, pooling: str, **config):
    encoder = tiny_encoder(
        architecture,
        tiny.make_tokenizer(),
        pooling=pooling,
        attention=attention,
        hidden=32,
        max_tokens=128,
        **config,
    )
    return configure(encoder, prompts=PROMPTS)


def vectors(encoder, role: str, texts: list[str] = TEXTS) -> torch.Tensor:
    with torch.no_grad():
        return encoder.finish(encoder(encoder.tokenize(texts, role)))


@pytest.mark.parametrize(("attention", "pooling"), WAYS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_saved_decoder_is_the_same_alone_in_plain_hugging_face(
    tmp_path, architecture, attention, pooling
):
    encoder = make(architecture, attention, pooling)
    write_encoder(encoder, tmp_path, {})
    backbone, tokenizer = (
        AutoModel.from_pretrained(tmp_path, dtype=torch.float32),
        AutoTokenizer.from_pretrained(tmp_path),
    )
    expected = []
    for text in TEXTS:
        with torch.no_grad():
            hidden = backbone(
                **tokenizer(PROMPTS["query"] + text, return_tensors="pt")
            ).last_hidden_state[0]
        pooled = {"mean": hidden.mean(dim=0), "cls": hidden[0], "last": hidden[-1]}[pooling]
        expected.append(pooled / pooled.norm())
    torch.testing.assert_close(vectors(encoder, "query"), torch.stack(expected), atol=2e-6, rtol=0)


@pytest.mark.parametrize(
    ("architecture", "attention", "pooling"),
    [(architecture, *way) for architecture in (*ARCHITECTURES, "qwen3", "llama") for way in WAYS]
    + [
        (architecture, "", pooling)
        for architecture in ("modernbert", "xlm-roberta")
        for pooling in ("mean", "last", "cls")
    ],
)
def test_it_loads_in_sentence_transformers_with_the_same_vectors(
    tmp_path, architecture, attention, pooling
):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    write_encoder(make(architecture, attention, pooling), tmp_path, {})
    mine, theirs = (
        read_encoder(tmp_path),
        sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu"),
    )
    assert mine.spec.prompts == PROMPTS
    for role in PROMPTS:
        expected, found = vectors(mine, role).numpy(), theirs.encode(TEXTS, prompt_name=role)
        assert float((expected * found).sum(axis=1).min()) >= 1 - 1e-6
        assert float(np.abs(expected - found).max()) <= 5e-6


@pytest.mark.parametrize(("attention", "pooling"), WAYS)
@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "gpt2", "lfm2"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(monkeypatch, architecture, attention, pooling, side):
    encoder = make(architecture, attention, pooling)
    encoder.tokenizer.padding_side = side
    alone = torch.cat([vectors(encoder, "query", [text]) for text in TEXTS])
    monkeypatch.setattr(
        "leafkit.models.text_encoder.group_by_length", lambda lengths: [np.arange(len(lengths))]
    )
    torch.testing.assert_close(vectors(encoder, "query"), alone, atol=3e-6, rtol=0)


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_an_empty_text_gets_the_end_of_text(pooling):
    """Qwen2's tokenizer makes no token of it, and a mean over nothing is not a number."""
    encoder = tiny_encoder("qwen2", tiny.make_tokenizer(), pooling=pooling, max_tokens=32)
    assert encoder.tokenizer("", add_special_tokens=False)["input_ids"] == []
    assert encoder.tokenize(["", "a", ""], "query")[0] == [encoder.tokenizer.eos_token_id]
    found = vectors(encoder, "query", ["", "a", ""])
    assert torch.isfinite(found).all()
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("architecture", ["qwen2", "mistral"])
def test_last_token_pooling_ends_with_the_end_of_text_after_the_cut(tmp_path, architecture):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    encoder = tiny_encoder(
        architecture, tiny.make_tokenizer(), pooling="last", attention="causal", max_tokens=16
    )
    long = "read the queue backwards and split the string by the first value of a table column " * 3
    ids = encoder.tokenize([long, "a"], "query")
    assert len(ids[0]) == 16
    assert [row[-1] for row in ids] == [encoder.tokenizer.eos_token_id] * 2
    assert len(encoder.tokenize([long], "query", 8)[0]) == 8
    write_encoder(encoder, tmp_path, {})
    found = read_encoder(tmp_path)
    assert found.tokenize([long, "a", ""], "query") == encoder.tokenize([long, "a", ""], "query")
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu").encode(
        [long, "a", ""]
    )
    assert float(np.abs(vectors(found, "query", [long, "a", ""]).numpy() - theirs).max()) <= 5e-6


def test_a_foreign_model_with_last_pooling_keeps_its_tokenizer(tmp_path):
    """Published without an end of text, it was trained without: reading must not add one."""
    encoder = tiny_encoder("qwen2", tiny.make_tokenizer(), attention="causal", max_tokens=32)
    write_encoder(encoder, tmp_path, {})
    (tmp_path / "leafkit.json").unlink()
    pooling = json.loads((tmp_path / "1_Pooling" / "config.json").read_text())
    pooling |= {"pooling_mode_mean_tokens": False, "pooling_mode_lasttoken": True}
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    found = read_encoder(tmp_path)
    assert found.spec.pooling == "last"
    assert found.tokenize(["a"], "query") == encoder.tokenize(["a"], "query")
    assert configure(found).tokenize(["a"], "query") == encoder.tokenize(["a"], "query")
    assert (
        configure(found, pooling="last").tokenize(["a"], "query")[0][-1]
        == encoder.tokenizer.eos_token_id
    )


def test_a_tokenizer_without_padding_is_given_one_when_it_is_written(tmp_path):
    """Mistral's has none, and then no one else could batch the model."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    encoder = make("mistral", "bidirectional", "mean")
    encoder.tokenizer.pad_token = None
    write_encoder(encoder, tmp_path, {})
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu").encode(
        TEXTS, prompt_name="query"
    )
    assert float(np.abs(vectors(encoder, "query").numpy() - theirs).max()) <= 5e-6


@pytest.mark.slow
def test_a_text_of_32768_tokens_is_embedded_in_bounded_memory(tmp_path):
    """A score matrix of that length would take 4 GiB per head in float32."""
    encoder = tiny_encoder(
        "qwen2",
        tiny.make_tokenizer(),
        attention="bidirectional",
        hidden=32,
        max_tokens=32768,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
    )
    write_encoder(encoder, Path(tmp_path), {})
    found = read_encoder(tmp_path)
    assert found.spec.max_tokens == 32768
    start, end = "matrix " * 4700, " table" * 100
    ids = found.tokenize([start + end, "a"], "document")
    assert len(ids[0]) == 32768
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.no_grad():
        whole, short = found(ids)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 1_000_000
    with torch.no_grad():
        assert torch.allclose(short, found(ids[1:])[0], atol=1e-6)
        first = (
            found.backbone(input_ids=torch.tensor([ids[0][:600]])).last_hidden_state[0].mean(dim=0)
        )
    assert torch.isfinite(whole).all()
    assert not torch.allclose(whole, first, atol=1e-5)
