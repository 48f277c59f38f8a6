"""Haystack's two embedders of a pair, alone and inside a pipeline that is written and read."""

from __future__ import annotations

import asyncio

import pytest
from pair_folder import TEXTS

from leafkit.core.errors import UsageError
from leafkit.pipeline.load_pair import load_pair

haystack = pytest.importorskip(
    "haystack", reason="haystack-ai, the extra haystack, is not installed"
)


@pytest.mark.parametrize("dim", [None, 16])
def test_vectors_are_the_pairs(pair, dim):
    text_embedder, document_embedder = pair.haystack(dim)
    documents = [haystack.Document(content=text, id=str(i)) for i, text in enumerate(TEXTS)]
    assert text_embedder.run(TEXTS[0])["embedding"] == pair.encode_query(TEXTS[0], dim).tolist()
    found = document_embedder.run(documents)["documents"]
    assert [d.embedding for d in found] == pair.encode_document(TEXTS, dim).tolist()
    assert [(d.id, d.content) for d in found] == [(d.id, d.content) for d in documents]
    assert all(document.embedding is None for document in documents)  # those given stay as they are


def test_async_runs_give_the_same(pair):
    text_embedder, document_embedder = pair.haystack()
    found = asyncio.run(text_embedder.run_async(TEXTS[0]))
    assert found["embedding"] == pair.encode_query(TEXTS[0]).tolist()
    documents = [haystack.Document(content=text) for text in TEXTS]
    stored = asyncio.run(document_embedder.run_async(documents))["documents"]
    assert [d.embedding for d in stored] == pair.encode_document(TEXTS).tolist()


def test_a_title_in_the_meta_stands_before_the_text(pair):
    _, embedder = pair.haystack(meta_fields_to_embed=["title"])
    document = haystack.Document(content="draw the graph", meta={"title": "compute"})
    (found,) = embedder.run([document, haystack.Document(content="merge")][:1])["documents"]
    assert found.embedding == pair.encode_document("compute draw the graph").tolist()
    (plain,) = embedder.run([haystack.Document(content="merge")])["documents"]
    assert plain.embedding == pair.encode_document("merge").tolist()


def test_a_pipeline_is_written_and_read_by_the_pairs_folder(pair):
    text_embedder, document_embedder = pair.haystack(16, ["title"])
    pipeline = haystack.Pipeline()
    pipeline.add_component("query", text_embedder)
    pipeline.add_component("documents", document_embedder)
    again = haystack.Pipeline.loads(pipeline.dumps(), allowed_modules=["leafkit.*"])
    document = haystack.Document(content="draw", meta={"title": "compute"})
    found = again.run({"query": {"text": "compute"}, "documents": {"documents": [document]}})
    assert found["query"]["embedding"] == pair.encode_query("compute", 16).tolist()
    (stored,) = found["documents"]["documents"]
    assert stored.embedding == pair.encode_document("compute draw", 16).tolist()


def test_a_pair_in_memory_is_not_written_down(pair):
    memory = load_pair(pair.opened_from.folder, teacher=pair.teacher)
    for embedder in memory.haystack():
        with pytest.raises(UsageError, match="cannot be written down"):
            embedder.to_dict()


def test_bad_documents_are_named(pair):
    text_embedder, document_embedder = pair.haystack()
    with pytest.raises(UsageError, match="document picture has no text"):
        document_embedder.run([haystack.Document(id="picture", content=None)])
    with pytest.raises(UsageError, match="a document is a str"):
        document_embedder.run(["compute"])
    with pytest.raises(UsageError, match="a query is a list"):
        text_embedder.run(["compute"])
    with pytest.raises(UsageError, match="'title' is one text"):
        pair.haystack(meta_fields_to_embed="title")
