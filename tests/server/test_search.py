"""/v1/search: the ranking that numpy gives, by every mode, dimension and precision."""

from __future__ import annotations

import httpx
import numpy as np
import pytest
from served import DOCUMENTS, error_of, make_pair, save_pair

from leafkit.config import InheritConfig
from leafkit.core.truncate import truncate_then_normalize
from leafkit.index.codecs.fit import fit_codecs
from leafkit.server.serve import serve

QUERY = "draw the graph"


def search(client, **body) -> httpx.Response:
    return client.post("/v1/search", json={"query": QUERY} | body)


def rank(scores: np.ndarray, k: int) -> list[str]:
    return [f"d{i}" for i in np.argsort(-scores, kind="stable")[:k]]


def documents_of(pair, mode: str) -> np.ndarray:
    if mode == "student":
        vectors = pair.embedder.embed(DOCUMENTS, "document", pair.space.max_tokens)
        return vectors.astype(np.float16).astype(np.float32)
    return np.asarray(pair.vectors, dtype=np.float32)


@pytest.mark.parametrize("precision", ["float32", "int8", "int4", "binary"])
@pytest.mark.parametrize("dim", [None, 8])
@pytest.mark.parametrize("mode", ["asymmetric", "teacher", "student"])
def test_the_ranking_is_numpys(client, pair, mode, dim, precision):
    answer = search(client, mode=mode, dimensions=dim, precision=precision, k=7).json()
    source = pair.teacher if mode == "teacher" else pair.embedder
    query = source.encode_query(QUERY, dim)
    vectors = truncate_then_normalize(documents_of(pair, mode), dim)
    codec = fit_codecs(vectors, [dim or 32], [precision], InheritConfig(), seed=0)[
        dim or 32, precision
    ]
    scores = codec.round_trip(vectors) @ query
    found = [row["score"] for row in answer["data"]]
    np.testing.assert_allclose(found, np.sort(scores)[::-1][:7], atol=1e-3)
    gaps = -np.diff(np.sort(scores)[::-1][:8])
    if gaps.min() > 2e-3:  # equals may stand in any order
        assert [row["id"] for row in answer["data"]] == rank(scores, 7)
    assert (answer["mode"], answer["precision"]) == (mode, precision)
    assert (answer["dimensions"], answer["index"], answer["rescore"]) == (dim or 32, "flat", 0)
    assert answer["num_documents"] == len(DOCUMENTS)
    assert answer["usage"]["total_tokens"] > 0
    assert set(answer["timings"]) == {"embed_ms", "search_ms"}


def test_a_vector_asks_as_its_query_does(client, pair):
    asked = search(client, k=5).json()["data"]
    for length in (1.0, 7.5):
        vector = (pair.encode_query(QUERY) * length).tolist()
        found = client.post("/v1/search", json={"vector": vector, "k": 5}).json()["data"]
        assert [row["id"] for row in found] == [row["id"] for row in asked]
        np.testing.assert_allclose(
            [row["score"] for row in found], [row["score"] for row in asked], atol=1e-5
        )
    short = {"vector": pair.encode_query(QUERY, 8).tolist(), "dimensions": 8, "k": 5}
    found = client.post("/v1/search", json=short).json()["data"]
    assert [row["id"] for row in found] == [
        row["id"] for row in search(client, k=5, dimensions=8).json()["data"]
    ]


@pytest.mark.parametrize("mode", ["asymmetric", "teacher"])
def test_a_question_in_a_documents_role_goes_without_the_querys_prompt(client, pair, mode):
    source = pair.teacher if mode == "teacher" else pair.embedder
    vectors = np.asarray(pair.vectors, dtype=np.float32)
    found = {}
    for role, encode in (("query", source.encode_query), ("document", source.encode_document)):
        answer = search(client, mode=mode, input_type=role, k=48).json()
        assert answer["input_type"] == role
        found[role] = [row["score"] for row in answer["data"]]
        scores = vectors @ encode(QUERY)
        np.testing.assert_allclose(found[role], np.sort(scores)[::-1], atol=1e-5)
    assert search(client, mode=mode, k=48).json()["input_type"] == "query"
    assert np.abs(np.subtract(found["query"], found["document"])).max() > 1e-2


def test_candidates_of_few_bits_are_scored_again(client, pair):
    scores = np.asarray(pair.vectors, np.float32) @ pair.encode_query(QUERY)
    rough = search(client, k=3, precision="binary").json()["data"]
    exact = search(client, k=3, precision="binary", rescore=16).json()
    # 16 times 3 candidates are all documents
    assert [row["id"] for row in exact["data"]] == rank(scores, 3)
    assert exact["rescore"] == 16
    assert rough[0]["score"] != pytest.approx(exact["data"][0]["score"])


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"vector": [0.1] * 32}, "vector", "send one of them"),
        ({"query": None, "vector": [0.1] * 31}, "vector", "a list of 32 numbers"),
        ({"query": None, "vector": [0.1] * 9, "dimensions": 8}, "vector", "32 or 8 numbers"),
        ({"query": None, "vector": "AAAA"}, "vector", "a list of 32 numbers"),
        ({"query": None, "vector": ["0.1"] * 32}, "vector", "something else than numbers"),
        ({"query": None, "vector": [True] * 32}, "vector", "something else than numbers"),
        ({"query": None, "vector": [[1]] * 32}, "vector", "something else than numbers"),
        ({"query": None, "vector": [0] * 32}, "vector", "has no direction"),
        ({"query": None, "vector": [1e30] * 32}, "vector", "longer than float32 can multiply"),
        ({"query": None, "vector": [10**400] * 32}, "vector", "longer than float32 can multiply"),
        ({"query": None, "vector": [9e17] * 32}, "vector", "longer than float32 can multiply"),
        (
            {"query": None, "vector": [0] * 8 + [1] * 24, "dimensions": 8},
            "vector",
            "the first 8 numbers are zero",
        ),
        ({"input_type": "question"}, "input_type", "not one of query"),
        (
            {"query": None, "vector": [0.1] * 32, "input_type": "query"},
            "input_type",
            "the vector is one already",
        ),
        ({"mode": "symmetric"}, "mode", "asymmetric, teacher, student"),
        ({"precision": "float64"}, "precision", "float32, int8, int4, binary"),
        ({"dimensions": 9}, "dimensions", "32, 16, 8"),
        ({"rescore": 101}, "rescore", "between 0 and 100"),
        ({"rescore": True}, "rescore", "between 0 and 100"),
        ({"rescore": -1}, "rescore", "between 0 and 100"),
        ({"index": "hnsw"}, "index", "not one of flat"),
        ({"index": 3}, "index", "not one of flat"),
        ({"query": "draw " * 200, "truncate": False}, "query", "128 tokens"),
        ({"query": "draw " * 200, "truncate": False}, "query", ": query ("),
    ],
)
def test_wrong_values_are_named(client, body, param, message):
    response = search(client, **body)
    found = error_of(response)
    assert (response.status_code, found["param"]) == (400, param)
    assert message in found["message"]


def test_what_is_not_held_is_refused_with_the_reason():
    with (
        serve(make_pair(), port=0, block=False, teacher="off") as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        response = search(client, mode="student")
        assert response.status_code == 400
        assert "student_documents=true" in error_of(response)["message"]
        response = search(client, mode="teacher")
        assert response.status_code == 400
        assert "teacher=off" in error_of(response)["message"]
        # the teacher's documents are there, whoever embedded the query
        body = {"vector": [0.1] * 32, "mode": "teacher"}
        assert client.post("/v1/search", json=body).status_code == 200
        body = {"model": "leafkit", "input": "draw", "input_type": "document"}
        response = client.post("/v1/embeddings", json=body)
        assert (response.status_code, error_of(response)["param"]) == (400, "input_type")
        body["model"] = "leafkit:document"
        assert client.post("/v1/embeddings", json=body).status_code == 404
        names = [row["id"] for row in client.get("/v1/models").json()["data"]]
        assert names == ["leafkit", "leafkit:query"]


def test_fewer_hits_than_usual_are_the_most(pair):
    with (
        serve(pair, port=0, block=False, max_hits=4) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        assert len(search(client).json()["data"]) == 4
        assert search(client, k=5).status_code == 400


@pytest.mark.parametrize("kind", ["binary", "int8"])
def test_an_index_of_codes_answers_with_the_vectors_own_scores(tmp_path, kind):
    folder = save_pair(tmp_path / "two")
    with (
        serve(folder, port=0, block=False, index=kind) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        held, exact = (search(client, **body).json() for body in ({}, {"index": "flat"}))
        assert (held["index"], held["precision"]) == (kind, "float32")
        assert [row["id"] for row in held["data"]] == [row["id"] for row in exact["data"]]
        found, wanted = ([row["score"] for row in answer["data"]] for answer in (held, exact))
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_an_index_that_is_held_answers_where_it_can(tmp_path):
    folder = save_pair(tmp_path / "two")
    with (
        serve(folder, port=0, block=False, index="hnsw") as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        approximate, exact = (search(client, **body).json() for body in ({}, {"index": "flat"}))
        assert (approximate["index"], exact["index"]) == ("hnsw", "flat")
        assert [r["id"] for r in approximate["data"]] == [r["id"] for r in exact["data"]]
        assert search(client, dimensions=8).json()["index"] == "flat"
        assert search(client, rescore=2).json()["index"] == "hnsw"
        response = search(client, index="hnsw", precision="int8")
        assert (response.status_code, error_of(response)["param"]) == (400, "index")
