"""LlamaIndex's embedding of a pair: queries and texts by role, through its own calls."""

from __future__ import annotations

import asyncio
import pickle

import pytest
from pair_folder import TEXTS

from leafkit.core.errors import LeafkitError, UsageError
from leafkit.pipeline.load_pair import load_pair

base = pytest.importorskip(
    "llama_index.core.base.embeddings.base",
    reason="llama-index-core, the extra llama-index, is not installed",
)


@pytest.mark.parametrize("dim", [None, 16])
def test_vectors_are_the_pairs(pair, dim):
    embedding = pair.llama_index(dim)
    assert isinstance(embedding, base.BaseEmbedding)
    expected = pair.encode_document(TEXTS, dim).tolist()
    assert embedding.get_query_embedding(TEXTS[0]) == pair.encode_query(TEXTS[0], dim).tolist()
    assert embedding.get_text_embedding_batch(TEXTS) == expected
    assert embedding.get_text_embedding(TEXTS[1]) == pytest.approx(expected[1], abs=1e-6)


def test_async_calls_give_the_same(pair):
    embedding = pair.llama_index()

    async def ask():
        return (
            await embedding.aget_query_embedding(TEXTS[0]),
            await embedding.aget_text_embedding(TEXTS[1]),
            await embedding.aget_text_embedding_batch(TEXTS),
        )

    query, text, batch = asyncio.run(ask())
    assert query == pair.encode_query(TEXTS[0]).tolist()
    assert text == pair.encode_document(TEXTS[1]).tolist()
    assert batch == pair.encode_document(TEXTS).tolist()


def test_it_is_written_down_and_read_again(pair):
    from leafkit.adapters.llama_index import PairEmbedding

    embedding = pair.llama_index(16)
    written = embedding.to_dict()
    expected = pair.encode_query("compute", 16).tolist()
    for again in (PairEmbedding.from_dict(written), pickle.loads(pickle.dumps(embedding))):
        assert again.get_query_embedding("compute") == expected
        assert again.model_name == embedding.model_name


def test_a_changed_dimension_counts(pair):
    embedding = pair.llama_index()
    whole = pair.encode_query("compute").tolist()
    cut = embedding.model_copy(update={"dim": 16})
    assert cut.get_query_embedding("compute") == pair.encode_query("compute", 16).tolist()
    assert cut.get_text_embedding("merge") == pair.encode_document("merge", 16).tolist()
    assert embedding.get_query_embedding("compute") == whole  # the copy has its own
    again = pickle.loads(pickle.dumps(cut))
    assert again.get_query_embedding("compute") == pair.encode_query("compute", 16).tolist()
    embedding.dim = 16
    assert embedding.get_text_embedding_batch(TEXTS) == pair.encode_document(TEXTS, 16).tolist()
    asked = asyncio.run(embedding.aget_query_embedding("compute"))
    stored = asyncio.run(embedding.aget_text_embedding_batch(TEXTS))
    assert (len(asked), {len(vector) for vector in stored}) == (16, {16})
    cut.dim = None
    assert cut.get_query_embedding("compute") == whole


def test_which_pair_it_is_cannot_be_changed(pair, another):
    from pydantic import ValidationError

    embedding = pair.llama_index()
    with pytest.raises(UsageError, match="place cannot be changed"):
        embedding.model_copy(update={"place": {"folder": str(another)}})
    with pytest.raises(ValidationError, match="frozen"):
        embedding.model_name = "another"


def test_two_pairs_are_told_apart_where_vectors_are_kept(pair, another):
    from leafkit.adapters.llama_index import PairEmbedding

    written = pair.llama_index().to_dict()
    other = load_pair(another).llama_index()
    assert other.model_name != written["model_name"]
    written["place"]["folder"] = str(another)
    with pytest.raises(LeafkitError, match="holds another pair"):
        PairEmbedding.from_dict(written).get_query_embedding("compute")


def test_it_is_read_in_another_folder(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder.parent)
    pair = load_pair(folder.name)
    written = pickle.dumps(pair.llama_index())
    expected = pair.encode_query("compute").tolist()
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(written).get_query_embedding("compute") == expected


def test_a_cache_by_text_alone_is_refused(pair):
    from llama_index.core.storage.kvstore import SimpleKVStore

    from leafkit.adapters.llama_index import PairEmbedding

    with pytest.raises(UsageError, match="whether it is a query or a document"):
        PairEmbedding(pair, embeddings_cache=SimpleKVStore())


def test_a_pair_in_memory_is_not_pickled_half(pair):
    memory = load_pair(pair.opened_from.folder, teacher=pair.teacher).llama_index()
    assert memory.get_query_embedding("compute") == pair.encode_query("compute").tolist()
    with pytest.raises(UsageError, match="cannot be written down"):
        pickle.dumps(memory)
    with pytest.raises(UsageError, match="a pair in memory, which is gone"):
        type(memory).from_dict(memory.to_dict())
