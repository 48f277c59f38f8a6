"""LangChain's embeddings of a pair: the roles' own vectors, whoever asks and however."""

from __future__ import annotations

import asyncio
import pickle
import shutil

import numpy as np
import pytest
from pair_folder import TEXTS, save_pair

from leafkit.core.errors import LeafkitError, UsageError
from leafkit.pipeline.load_pair import load_pair

core = pytest.importorskip(
    "langchain_core.embeddings", reason="langchain-core, the extra langchain, is not installed"
)


@pytest.mark.parametrize("dim", [None, 16])
def test_vectors_are_the_pairs(pair, dim):
    embeddings = pair.langchain(dim)
    assert isinstance(embeddings, core.Embeddings)
    for text in TEXTS:
        assert embeddings.embed_query(text) == pair.encode_query(text, dim).tolist()
    assert embeddings.embed_documents(TEXTS) == pair.encode_document(TEXTS, dim).tolist()
    assert embeddings.embed_documents([]) == []


def test_async_calls_give_the_same(pair):
    async def ask(embeddings):
        return await asyncio.gather(
            *(embeddings.aembed_query(text) for text in TEXTS * 4),
            embeddings.aembed_documents(TEXTS),
        )

    *asked, stored = asyncio.run(ask(pair.langchain()))
    np.testing.assert_allclose(asked, [pair.encode_query(t) for t in TEXTS * 4], atol=0)
    assert stored == pair.encode_document(TEXTS).tolist()


def test_langchains_own_store_ranks_as_the_pair(pair):
    from langchain_core.vectorstores import InMemoryVectorStore

    store = InMemoryVectorStore(pair.langchain())
    store.add_texts([d.full_text for d in pair.documents], ids=[d.id for d in pair.documents])
    found = store.similarity_search_with_score("which value of the matrix", k=5)
    expected = pair.search("which value of the matrix", 5)
    assert [document.id for document, _ in found] == [hit.id for hit in expected]
    assert [score for _, score in found] == pytest.approx([h.score for h in expected], abs=2e-3)


def test_it_is_pickled_by_its_folder(pair):
    again = pickle.loads(pickle.dumps(pair.langchain(16)))
    assert again.embed_query(TEXTS[0]) == pair.encode_query(TEXTS[0], 16).tolist()


def test_another_pair_in_that_folder_is_refused(tmp_path):
    folder = save_pair(tmp_path / "one")
    written = pickle.dumps(load_pair(folder).langchain())
    other = save_pair(tmp_path / "two", seed=7)
    shutil.rmtree(folder)
    shutil.copytree(other, folder)
    with pytest.raises(LeafkitError, match="holds another pair than the one") as error:
        pickle.loads(written).embed_query("compute")
    assert "embed what was stored with it again" in error.value.hint


def test_a_pair_in_memory_works_and_is_not_written_down(pair):
    memory = load_pair(pair.opened_from.folder, teacher=pair.teacher)
    embeddings = memory.langchain()
    assert embeddings.embed_query("compute") == pair.encode_query("compute").tolist()
    with pytest.raises(UsageError, match="cannot be written down") as error:
        pickle.dumps(embeddings)
    assert "pair.save" in error.value.hint


@pytest.mark.parametrize("wrong", [None, 7, ["compute"], b"compute"])
def test_what_is_no_text_is_refused(pair, wrong):
    with pytest.raises(UsageError, match="not text"):
        pair.langchain().embed_query(wrong)
    with pytest.raises(UsageError, match="not text"):
        pair.langchain().embed_documents([wrong])


def test_one_text_is_not_taken_for_its_letters(pair):
    with pytest.raises(UsageError, match="one text where several are asked for"):
        pair.langchain().embed_documents("compute")
