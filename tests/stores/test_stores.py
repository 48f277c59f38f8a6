"""Each store held to one contract: what is sent is there once, is found, and says its space.

PostgreSQL with pgvector, Qdrant's local mode and LanceDB are the real ones, where they are
installed; OpenSearch is played by tests/support/opensearch_server.py.
"""

from __future__ import annotations

import importlib
import json
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from leafkit.core.addresses.store import PRECISIONS_OF_STORES, STORE_KINDS
from leafkit.core.errors import LeafkitError
from leafkit.data.records import Document
from leafkit.data.vector_store import Space
from leafkit.stores import parquet
from leafkit.stores.open_store import open_store
from leafkit.stores.store import StoredSpace, check_stored, make_rows

DIM, COUNT = 24, 40
SPACE = Space("abc123", DIM, "text : ", 64, "mean", normalized=True)
ABOUT = StoredSpace(SPACE, "float32")
ODD = ["it's", 'a "quote"', "a/b?c#d", "日本語 🙂", "x" * 200, "%s", "1", "-"]


def make_vectors(count: int = COUNT, seed: int = 0) -> np.ndarray:
    """(count, DIM) of length one, as an index holds them."""
    vectors = np.random.default_rng(seed).normal(size=(count, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


VECTORS = make_vectors()
DOCUMENTS = [
    Document(
        ODD[i] if i < len(ODD) else f"d{i}",
        f"text {i} of the\nmatrix; DROP TABLE docs1; -- ' \" \\",
        f"title {i}" if i % 3 else "",
    )
    for i in range(COUNT)
]
QUERY = np.float32(make_vectors(1, 9)[0])


def rows(start: int = 0, stop: int = COUNT, documents=DOCUMENTS, vectors=VECTORS):
    return make_rows(start, documents[start:stop], vectors[start:stop], "tiny")


def expected(k: int, vectors: np.ndarray = VECTORS) -> list[tuple[str, float]]:
    scores = vectors.astype(np.float32) @ QUERY
    return [(DOCUMENTS[i].id, float(scores[i])) for i in np.argsort(-scores)[:k]]


def fill(address, about=ABOUT):
    store = open_store(address)
    store.create(about, VECTORS)
    assert store.send(rows()) == COUNT
    store.finish(COUNT)
    return store


@pytest.mark.parametrize("kind", STORE_KINDS)
def test_what_is_sent_is_found(kind, place):
    address = place(kind)
    with closing(open_store(address)) as store:
        assert store.stored() is None
    with closing(fill(address)):
        pass
    with closing(open_store(address)) as store:  # by another process, some day
        assert store.stored() == ABOUT
        assert store.count() == COUNT
        for k in (1, 7, COUNT):
            found = store.search(QUERY, k)
            assert [hit.id for hit in found] == [name for name, _ in expected(k)]
            np.testing.assert_allclose(
                [hit.score for hit in found], [score for _, score in expected(k)], atol=1e-5
            )
        assert len(store.search(QUERY, 1000)) == COUNT
        texts = {d.id: d.full_text for d in DOCUMENTS}
        assert {hit.id: hit.text for hit in store.search(QUERY, COUNT)} == texts


@pytest.mark.parametrize("kind", STORE_KINDS)
def test_twice_is_once_and_a_change_is_one_row(kind, place):
    with closing(fill(place(kind))) as store:
        assert store.send(rows()) == 0
        changed = list(DOCUMENTS)
        changed[11] = replace(changed[11], text="another text")
        other = VECTORS.copy()
        other[12] = make_vectors(1, 5)[0]
        part = COUNT if kind == "parquet" else 2  # a part of a Parquet folder is one file
        assert store.send(rows(documents=changed, vectors=other)) == part
        assert store.count() == COUNT
        found = {hit.id: (hit.text, hit.score) for hit in store.search(QUERY, COUNT)}
        assert found[changed[11].id][0].endswith("another text")
        score = float(other[12].astype(np.float32) @ QUERY)
        assert found[changed[12].id][1] == pytest.approx(score, abs=1e-5)


def test_a_search_after_many_updates_finds_as_many_as_before(place):
    many = 1500  # so many that PostgreSQL takes the index
    documents = [Document(f"d{i}", f"text {i}") for i in range(many)]
    with closing(open_store(place("pgvector"))) as store:
        store.create(ABOUT, make_vectors(many))
        for seed in (0, 1, 2):
            vectors = make_vectors(many, seed)
            store.send(rows(0, many, documents, vectors))
            if seed < 2:
                store.finish(many)
        real, statements = store._connection.execute, []

        def execute(statement, *values):
            statements.append(str(statement))
            return real(statement, *values)

        store._connection.execute = execute
        # as a run that was stopped leaves it, and as one that ends does
        for is_finished in (False, True):
            if is_finished:
                store.finish(many)
            statements.clear()
            scores = vectors.astype(np.float32) @ QUERY
            for k in (10, 40):
                best = {f"d{i}" for i in np.argsort(-scores)[:k]}
                found = [hit.id for hit in store.search(QUERY, k)]
                assert len(found) == k
                assert len(best & set(found)) >= 0.9 * k
        assert not any("enable_indexscan" in statement for statement in statements)


TEXT = 'ω日本 "\\ \n'
LONG = [Document(f"d{i}", TEXT * (20 * (1 + i % 5)), TEXT) for i in range(30)]
LONG += [Document("longest", TEXT * 3000), Document("last", "text")]


def test_requests_of_long_texts_are_short_qdrant(place, monkeypatch):
    address = place("qdrant")
    module = importlib.import_module("leafkit.stores.qdrant")
    monkeypatch.setattr(module, "_MOST_BYTES", 20_000)
    sent: list[tuple[int, int]] = []
    with closing(open_store(address)) as store:
        store.create(ABOUT, VECTORS)
        upsert = store._client.upsert

        def recorded(name, batch, **settings):
            told = json.dumps(batch.model_dump(mode="json"))  # escapes make it the longest way
            sent.append((len(batch.ids), len(told)))
            return upsert(name, batch, **settings)

        monkeypatch.setattr(store._client, "upsert", recorded)
        assert store.send(rows(0, len(LONG), LONG, make_vectors(len(LONG)))) == len(LONG)
        assert store.count() == len(LONG)
        assert store.send(rows(0, len(LONG), LONG, make_vectors(len(LONG)))) == 0
    assert [count for count, size in sent if size > 20_000] == [1]  # what cannot be cut
    assert 3 < len(sent) < len(LONG)  # several to a request
    assert sum(count for count, _ in sent) == len(LONG)


def test_requests_of_long_texts_are_short_opensearch(place, played, monkeypatch):
    address = place("opensearch")
    module = importlib.import_module("leafkit.stores.opensearch")
    monkeypatch.setattr(module, "_MOST_BYTES", 20_000)
    long = [d for d in LONG if d.id != "longest"]
    with closing(open_store(address)) as store:
        store.create(ABOUT, VECTORS)
        assert store.send(rows(0, len(long), long, make_vectors(len(long)))) == len(long)
        assert store.count() == len(long)
    assert 10_000 < played.largest_bulk <= 20_000


@pytest.mark.parametrize("kind", STORE_KINDS)
def test_a_stopped_run_goes_on(kind, place, monkeypatch):
    monkeypatch.setattr(parquet, "ROWS_PER_PART", 16)
    address = place(kind)
    with closing(open_store(address)) as store:
        store.create(ABOUT, VECTORS)
        assert store.send(rows(0, 16)) == 16
    with closing(open_store(address)) as store:
        assert store.stored() == ABOUT
        if kind == "parquet":
            store.create(ABOUT, VECTORS)
        assert [store.send(rows(a, min(a + 16, COUNT))) for a in (0, 16, 32)] == [0, 16, 8]
        store.finish(COUNT)
        assert store.count() == COUNT
        assert [hit.id for hit in store.search(QUERY, 5)] == [name for name, _ in expected(5)]


@pytest.mark.parametrize(
    ("kind", "precision"),
    [(k, p) for k in STORE_KINDS for p in PRECISIONS_OF_STORES[k] if p != "float32"],
)
def test_short_numbers_find_nearly_the_same(kind, precision, place):
    """int8 and binary: where a store has codes of its own, and the played ones have none."""
    address = place(kind)
    with closing(fill(address, StoredSpace(SPACE, precision))):
        pass
    with closing(open_store(address)) as store:
        assert store.stored() == StoredSpace(SPACE, precision)
        found = store.search(QUERY, 5)
        is_coarse = (kind, precision) == ("parquet", "binary")  # bits, and nothing to rescore by
        if is_coarse:
            signs = np.where(VECTORS > 0, 1, -1) @ QUERY
            assert [h.score for h in found] == pytest.approx(np.sort(signs)[::-1][:5], abs=1e-4)
            return
        assert [hit.id for hit in found] == [name for name, _ in expected(5)]
        error = 0.02 if precision == "int8" and kind == "parquet" else 1e-3
        np.testing.assert_allclose(
            [hit.score for hit in found], [score for _, score in expected(5)], atol=error
        )


@pytest.mark.parametrize("kind", STORE_KINDS)
def test_vectors_of_any_length_are_ranked_by_inner_product(kind, place):
    address = place(kind)
    longer = (VECTORS.astype(np.float32) * np.linspace(0.2, 3, COUNT)[:, None]).astype(np.float16)
    about = StoredSpace(replace(SPACE, normalized=False), "float32")
    with closing(open_store(address)) as store:
        store.create(about, longer)
        store.send(rows(vectors=longer))
        store.finish(COUNT)
        found = store.search(QUERY, 6)
        assert [(hit.id, round(hit.score, 4)) for hit in found] == [
            (name, round(score, 4)) for name, score in expected(6, longer)
        ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"teacher": "another"}, "teacher is 'abc123' there and 'another' here"),
        ({"prompt": ""}, "prompt is 'text : ' there and '' here"),
        ({"max_tokens": 9}, "max_tokens is 64 there and 9 here"),
        ({"dim": 12}, "dim is 24 there and 12 here"),
    ],
)
def test_another_space_is_refused(change, said):
    with pytest.raises(LeafkitError, match="holds vectors of another space") as error:
        check_stored("qdrant:x/y", ABOUT, StoredSpace(replace(SPACE, **change), "float32"))
    assert said in str(error.value)


def test_another_precision_is_refused():
    with pytest.raises(LeafkitError, match="holds float32 vectors, not float16") as error:
        check_stored("qdrant:x/y", ABOUT, StoredSpace(SPACE, "float16"))
    assert "embed.to_precision=float32" in error.value.hint


@pytest.mark.parametrize("kind", STORE_KINDS)
def test_nothing_is_asked_where_nothing_is(kind, place):
    with closing(open_store(place(kind))) as store:
        assert store.stored() is None
        with pytest.raises(LeafkitError, match="is not there"):
            store.search(QUERY, 3)


def test_a_mark_changes_with_everything_that_is_stored():
    base = rows().marks[9]
    document = DOCUMENTS[9]
    for changed in ("id", "title", "text"):
        other = replace(document, **{changed: "new"})
        assert make_rows(9, [other], VECTORS[9:10], "tiny").marks[0] != base
    assert make_rows(9, [document], VECTORS[8:9], "tiny").marks[0] != base
    assert make_rows(9, [document], VECTORS[9:10], "others").marks[0] != base
    assert make_rows(9, [document], VECTORS[9:10], "tiny").marks[0] == base
