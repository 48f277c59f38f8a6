"""A student as a sentence-transformers folder: the same vectors there, and a card that is true."""

from __future__ import annotations

import ast
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import yaml
from torch import nn

import leafkit
from leafkit.core.errors import LeafkitError
from leafkit.exporters import hub
from leafkit.exporters.model_card import _UNNAMED, complete_card, make_card, with_license
from leafkit.exporters.source import PROBES, ExportSource
from leafkit.models.encoder_protocol import read_model
from leafkit.models.heads.two_layer import TwoLayerHead
from leafkit.models.static_encoder import StaticEncoder, bare_tokenizer

SPACE = {"kind": "student", "teacher": "abc", "teacher_reference": "model:owner/teacher@1"}
PROMPTS = {"query": tiny.PROMPT}


LENGTHS = {
    "sentence_bert_config.json": "max_seq_length",
    "tokenizer_config.json": "model_max_length",
    "tokenizer.json": "truncation",
}


def vectors_of(encoder, role: str) -> np.ndarray:
    with torch.inference_mode():
        return encoder.finish(encoder(encoder.tokenize(list(PROBES), role))).numpy()


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
        expected = vectors_of(encoder, role)
        theirs = encode(list(PROBES))
        assert np.einsum("nd,nd->n", expected, theirs).min() > 1 - 1e-6
    # a tool that knows of no prompt embeds queries
    bare = np.einsum("nd,nd->n", vectors_of(encoder, "query"), model.encode(list(PROBES)))
    assert bare.min() > 1 - 1e-6


def test_the_files_of_the_tokenizer_agree_about_the_length(tmp_path):
    encoder = tiny.with_spec(make("plain"), max_tokens=40)
    hub.export_hub(ExportSource(encoder, SPACE), tmp_path)
    told = {name: json.loads((tmp_path / name).read_text()) for name in LENGTHS}
    found = [told[name].get(key, "absent") for name, key in LENGTHS.items()]
    assert found == [40, 40, None]
    assert not {"max_length", "stride"} & told["tokenizer_config.json"].keys()
    assert read_model(tmp_path).spec.max_tokens == 40


def test_only_a_student_with_a_prompt_has_it_by_default(tmp_path):
    for kind, encoder in (("with", make("plain")), ("without", tiny.make_encoder().eval())):
        (tmp_path / kind).mkdir()
        hub.export_hub(ExportSource(encoder, SPACE), tmp_path / kind)
        told = json.loads((tmp_path / kind / "config_sentence_transformers.json").read_text())
        assert told["default_prompt_name"] == ("query" if kind == "with" else None)


def test_a_license_whose_text_is_known_comes_with_it(tmp_path):
    for name in ("apache-2.0", "mit", ""):
        folder = tmp_path / (name or "none")
        folder.mkdir()
        hub.export_hub(ExportSource(make("plain"), SPACE, license=name), folder)
        assert (folder / "LICENSE").is_file() == (name == "apache-2.0")
    text = (tmp_path / "apache-2.0" / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert text.rstrip().endswith("END OF TERMS AND CONDITIONS")


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


def test_the_reports_card_gets_license_and_tools():
    template = Path(leafkit.__file__).parent / "report" / "templates" / "card.md.j2"
    assert _UNNAMED in template.read_text(encoding="utf-8")
    encoder = tiny.make_encoder(prompts=PROMPTS).eval()
    card = f"---\ntags:\n- leaf\n---\n\n# mini\n\n{_UNNAMED}"
    found = complete_card(ExportSource(encoder, SPACE, license="mit", card=card))
    assert front_matter(found) == {"license": "mit", "tags": ["leaf"]}
    assert _UNNAMED not in found
    assert "publishes it under mit" in found
    same = ExportSource(encoder, SPACE, card=card, name="mini")
    assert complete_card(same).startswith(card.rstrip())


def test_the_reports_card_is_titled_and_loaded_as_it_is_published():
    encoder = tiny.make_encoder(prompts=PROMPTS).eval()
    card = "---\ntags:\n# none\n- leaf\n---\n\n# tiny\n\n## Use\n\nFOLDER_OR_HUB_ID_OF_THIS_MODEL\n"
    source = ExportSource(encoder, SPACE, name="mini", repository="me/mini", card=card)
    expected = card.replace("# tiny", "# mini").replace("FOLDER_OR_HUB_ID_OF_THIS_MODEL", "me/mini")
    assert complete_card(source).startswith(expected)
    # the card of a student without a report, likewise
    own = complete_card(replace(source, card=""))
    assert 'student = SentenceTransformer("me/mini")' in own
    assert "OF_THIS_MODEL" not in own


def test_a_card_says_one_thing_of_encode_without_a_prompt():
    card = complete_card(ExportSource(tiny.make_encoder(prompts=PROMPTS).eval(), SPACE))
    assert "`encode` without a prompt's name embeds a query" in card
    assert "bare `encode`" not in card


def test_every_snippet_has_the_prompt_and_is_code():
    hostile = "ask `a` ```b``` '''c''' \"d\" \\ $(e): "
    encoder = tiny.make_encoder(prompts={"query": hostile}).eval()
    card = complete_card(ExportSource(encoder, SPACE, repository="owner/mini"))
    blocks = re.findall(r"^(```+)(\w+)\n(.*?)\n\1$", card, flags=re.MULTILINE | re.DOTALL)
    python = [code for _, language, code in blocks if language == "python"]
    assert len(python) == 4
    for code in python:
        compile(code, "card", "exec")
        assert "owner/mini" in code or "FOLDER" in code
    for code in python[-2:]:  # LangChain, LlamaIndex
        texts = [n.value for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Constant)]
        assert hostile in texts
    shell = [shlex.split(code) for _, language, code in blocks if language == "sh"]
    assert "--default-prompt-name" in shell[0]
    assert json.loads(shell[1][-1])["input"].startswith(hostile)
    assert "owner/mini-onnx" in card


def test_a_head_of_two_layers_is_not_offered_to_a_server_that_refuses_it():
    encoder = tiny.make_encoder(dim=24).eval()
    encoder.projection = TwoLayerHead(encoder.projection.in_features, 8, 24)
    card = complete_card(ExportSource(encoder, SPACE))
    assert "text-embeddings-router" not in card
    assert "text-embeddings-inference does not take this folder" in card
    assert "vllm serve" in card


def test_a_table_has_no_server_that_it_cannot_run_on():
    card = complete_card(ExportSource(static_encoder(), SPACE))
    assert "text-embeddings-router" not in card
    assert "LangChain" in card
