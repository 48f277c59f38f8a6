"""A student as a sentence-transformers folder: the same vectors there, and a card that is true."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
import yaml
from torch import nn

from leafkit.core.errors import LeafkitError
from leafkit.exporters import hub
from leafkit.exporters.model_card import make_card, with_license
from leafkit.exporters.source import PROBES, ExportSource
from leafkit.models.static_encoder import StaticEncoder, bare_tokenizer

SPACE = {"kind": "student", "teacher": "abc", "teacher_reference": "model:owner/teacher@1"}
PROMPTS = {"query": tiny.PROMPT}


def static_encoder() -> StaticEncoder:
    torch.manual_seed(0)
    tokenizer = bare_tokenizer(tiny.make_tokenizer())
    table = torch.randn(tokenizer.get_vocab_size(), 8)
    return StaticEncoder(tokenizer, table, nn.Linear(8, 24), (24, 8)).eval()


def make(kind: str):
    if kind == "static":
        return static_encoder()
    settings = {"plain": {}, "projected": {"dim": 48}, "cls": {"pooling": "cls"}}[kind]
    return tiny.make_encoder(prompts=PROMPTS, **settings).eval()


@pytest.mark.parametrize("kind", ["plain", "projected", "cls", "static"])
def test_sentence_transformers_gives_the_same_vectors(kind, tmp_path):
    library = pytest.importorskip(
        "sentence_transformers", reason="sentence-transformers is not installed"
    )
    encoder = make(kind)
    found = hub.export_hub(ExportSource(encoder, SPACE), tmp_path)
    assert found["hub"] >= 1 - 1e-6
    model = library.SentenceTransformer(str(tmp_path), device="cpu")
    for role, encode in (("query", model.encode_query), ("document", model.encode_document)):
        with torch.inference_mode():
            expected = encoder.finish(encoder(encoder.tokenize(list(PROBES), role))).numpy()
        theirs = encode(list(PROBES))
        assert np.einsum("nd,nd->n", expected, theirs).min() > 1 - 1e-6


def test_what_is_written_does_not_depend_on_what_was_tokenized_before(tmp_path):
    encoder = tiny.make_encoder().eval()
    for name in ("fresh", "used"):
        (tmp_path / name).mkdir()
        hub.export_hub(ExportSource(encoder, SPACE), tmp_path / name)
        # leaves its truncation and padding in the tokenizer
        encoder.tokenizer(["draw"] * 2, truncation=True, max_length=4, padding="max_length")
    for path in sorted((tmp_path / "fresh").rglob("*.json")):
        again = tmp_path / "used" / path.relative_to(tmp_path / "fresh")
        assert path.read_text() == again.read_text(), path.name
    assert '"truncation": null' in (tmp_path / "used" / "tokenizer.json").read_text()


def test_a_model_that_comes_back_as_another_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "read_model", lambda folder: tiny.make_encoder(seed=1).eval())
    with pytest.raises(LeafkitError, match="differs from the one that was written"):
        hub.export_hub(ExportSource(tiny.make_encoder().eval(), SPACE), tmp_path)


def front_matter(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def test_the_card_names_space_license_and_prompts():
    encoder = tiny.make_encoder(prompts=PROMPTS, mrl_dims=(32, 8)).eval()
    card = make_card(ExportSource(encoder, SPACE, name="mini", license="apache-2.0"))
    found = front_matter(card)
    assert found["license"] == "apache-2.0"
    assert "matryoshka" in found["tags"]
    for text in ("# mini", "model:owner/teacher@1", "encode_query", "Matryoshka: 32, 8"):
        assert text in card
    bare = make_card(ExportSource(static_encoder()))
    assert "license" not in front_matter(bare)
    assert "has not named a license yet" in bare
    assert "The model has no prompts." in bare


def test_a_name_cannot_bring_markup_into_the_card():
    encoder = tiny.make_encoder().eval()
    hostile = "x\n---\n<script>alert(1)</script> [a](javascript:b)\x1b[31m"
    card = make_card(ExportSource(encoder, {"teacher_reference": hostile}, name=hostile))
    assert "\n---\n<" not in card
    assert "<script>" not in card.replace("\\<", "")
    assert "\x1b" not in card
    assert "\\[a\\](" in card


def test_a_license_enters_a_card_that_is_there():
    card = "---\nlicense: mit\ntags:\n- leaf\n---\n\n# mini\n\n---\n"
    found = with_license(card, "apache-2.0")
    assert front_matter(found) == {"license": "apache-2.0", "tags": ["leaf"]}
    assert found.endswith("\n\n# mini\n\n---\n")
    assert with_license(card, "") == card
    assert with_license("# no front matter", "mit") == "# no front matter"
