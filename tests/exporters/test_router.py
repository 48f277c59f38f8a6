"""Student and teacher as one model of sentence-transformers, and the teacher as it embeds the
documents: the pair's own vectors.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from leafkit.core.artifact import open_artifact
from leafkit.core.errors import LeafkitError
from leafkit.embedders.prefix import PrefixEmbedder
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.exporters.hub import document_model
from leafkit.exporters.source import ExportSource
from leafkit.exporters.targets import write_targets
from leafkit.models.encoder_protocol import read_model
from leafkit.models.heads.two_layer import TwoLayerHead
from leafkit.models.static_encoder import StaticEncoder, bare_tokenizer

LONG = "read the table and the queue of a socket " * 8
TEXTS = ["sort the stack", "the calendar and the merge value", "a", LONG]
CUT = 24  # tokens of a document
SPACE = {"kind": "student", "teacher": "abc", "teacher_reference": "model:owner/teacher@1"}


def teacher(head: str = "none"):
    prompts = {"query": "ask : ", "document": "text : "}
    dim = 0 if head == "none" else 64
    encoder = tiny.make_encoder(48, seed=3, prompts=prompts, dim=dim, mrl_dims=(48, 24))
    if head == "two_layer":
        torch.manual_seed(0)
        encoder.projection = TwoLayerHead(48, 16, 64)
        torch.nn.init.normal_(encoder.projection.outer.weight)
    return encoder.eval()


def source_of(found, dim: int = 48) -> ExportSource:
    student = tiny.make_encoder(32, dim=dim, prompts={"query": tiny.PROMPT}).eval()
    served = document_model(found, dim=dim, max_tokens=CUT, reference="model:big")
    return ExportSource(student, SPACE, teacher=lambda: served)


def embed(encoder, role: str, dim: int = 0, limit: int = 0) -> np.ndarray:
    model = TransformerEmbedder(encoder, torch.device("cpu"), torch.float32)
    whole = PrefixEmbedder(model, dim) if dim and dim < model.dim else model
    return whole.embed(TEXTS, role, limit or model.max_tokens)


@pytest.mark.parametrize("dim", [48, 24])
@pytest.mark.parametrize("head", ["none", "linear", "two_layer"])
def test_a_teacher_is_exported_as_it_embeds_the_documents(head, dim, tmp_path):
    found = teacher(head)
    places = write_targets(source_of(found, dim), tmp_path, ["teacher"])
    again = read_model(places["teacher"])
    expected = embed(found, "document", dim, CUT)
    np.testing.assert_allclose(embed(again, "document"), expected, atol=1e-6)
    assert again.spec.max_tokens == CUT
    assert again.spec.mrl_dims == tuple(d for d in (48, 24) if d <= dim)
    told = json.loads((places["teacher"] / "config_sentence_transformers.json").read_text())
    assert told["default_prompt_name"] is None


def test_one_model_of_sentence_transformers_gives_the_pairs_vectors(tmp_path):
    library = pytest.importorskip(
        "sentence_transformers", reason="sentence-transformers is not installed"
    )
    found = teacher("linear")
    source = source_of(found, 24)
    places = write_targets(source, tmp_path, ["hub"])
    assert places == {name: tmp_path / "hub" / name for name in ("student", "teacher", "pair")}
    pair = library.SentenceTransformer(str(places["pair"]), device="cpu")
    ours = {
        "query": embed(source.encoder, "query"),
        "document": embed(found, "document", 24, CUT),
    }
    theirs = {"query": pair.encode_query(TEXTS), "document": pair.encode_document(TEXTS)}
    for role, expected in ours.items():
        np.testing.assert_allclose(theirs[role], expected, atol=1e-6)
    with pytest.raises(ValueError, match="route"):
        pair.encode(TEXTS)
    # as who builds the same of the two folders has it
    parts = [
        list(library.SentenceTransformer(str(places[n]), device="cpu"))
        for n in ("student", "teacher")
    ]
    router = library.models.Router.for_query_document(*parts)
    own = library.SentenceTransformer(modules=[router], device="cpu", prompts=pair.prompts)
    np.testing.assert_allclose(own.encode_query(TEXTS), theirs["query"], atol=1e-6)
    np.testing.assert_allclose(own.encode_document(TEXTS), theirs["document"], atol=1e-6)


def test_a_table_can_answer_the_queries(tmp_path):
    library = pytest.importorskip(
        "sentence_transformers", reason="sentence-transformers is not installed"
    )
    torch.manual_seed(0)
    tokenizer = bare_tokenizer(tiny.make_tokenizer())
    table = torch.randn(tokenizer.get_vocab_size(), 8)
    student = StaticEncoder(tokenizer, table, torch.nn.Linear(8, 48)).eval()
    served = document_model(teacher(), dim=48, max_tokens=CUT, reference="model:big")
    places = write_targets(ExportSource(student, SPACE, teacher=lambda: served), tmp_path, ["pair"])
    pair = library.SentenceTransformer(str(places["pair"]), device="cpu")
    with torch.no_grad():
        expected = student.finish(student(student.tokenize(TEXTS))).numpy()
    np.testing.assert_allclose(pair.encode_query(TEXTS), expected, atol=1e-6)
    np.testing.assert_allclose(pair.encode_document(TEXTS), embed(served, "document"), atol=1e-6)


def test_the_pair_takes_no_second_room_for_the_weights(tmp_path):
    places = write_targets(source_of(teacher()), tmp_path, ["hub"])
    for name in ("student", "teacher"):
        for path in places[name].rglob("*.safetensors"):
            copied = places["pair"] / name / path.relative_to(places[name])
            assert copied.samefile(path)
    for name, place in places.items():
        found = open_artifact(place, f"export-{name}").metrics["smallest_cosine"]
        assert min(found.values()) >= 1 - 1e-6


def test_where_there_are_no_links_there_are_copies(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    places = write_targets(source_of(teacher()), tmp_path, ["hub"])
    weights = places["pair"] / "student" / "model.safetensors"
    assert not weights.samefile(places["student"] / "model.safetensors")
    open_artifact(places["pair"], "export-pair")
    assert {p.name for p in weights.parent.iterdir() if "link" in p.name} == set()


def test_a_pair_needs_a_teacher_that_has_a_folder(tmp_path, capsys):
    student = tiny.make_encoder().eval()
    tokenizer = bare_tokenizer(tiny.make_tokenizer())
    table = StaticEncoder(
        tokenizer, torch.randn(tokenizer.get_vocab_size(), 8), torch.nn.Linear(8, 32)
    ).eval()
    for found, message in ((None, "it is an endpoint"), (table, "it is a table of token vectors")):

        def open_teacher(found=found):
            return document_model(found, dim=32, max_tokens=0, reference="endpoint:x")

        source = ExportSource(student, SPACE, teacher=open_teacher)
        for target in ("teacher", "pair"):
            with pytest.raises(LeafkitError, match=message):
                write_targets(source, tmp_path / "no", ["student", target])
        assert not (tmp_path / "no").exists()
        # the group goes without, and says so
        assert set(write_targets(source, tmp_path / "yes", ["hub"])) == {"student"}
        said = " ".join("".join(capsys.readouterr()).split())
        assert "hub without teacher, pair: the teacher endpoint:x cannot be written" in said
    assert {p.name for p in (tmp_path / "yes" / "hub").iterdir()} == {"student"}


def test_the_license_that_is_named_is_the_students_alone(tmp_path):
    source = replace(source_of(teacher()), license="apache-2.0")
    places = write_targets(source, tmp_path, ["hub"])
    for name in ("teacher", "pair"):
        card = (places[name] / "README.md").read_text()
        assert "license:" not in card.split("---")[1]
    assert "the student's is apache-2.0" in (places["pair"] / "README.md").read_text()
    found = {p.parent.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("LICENSE")}
    assert found == {"hub/student", "hub/pair/student"}


def test_cards_name_both_models_and_what_is_cut(tmp_path):
    source = source_of(teacher("linear"), 24)
    places = write_targets(source, tmp_path, ["hub"])
    card = (places["teacher"] / "README.md").read_text()
    for text in ("model:owner/teacher@1", "24 tokens", "'text : '", "license"):
        assert text in card
    pair = (places["pair"] / "README.md").read_text()
    assert "encode_query" in pair
    assert "`encode` without a role is refused" in pair
