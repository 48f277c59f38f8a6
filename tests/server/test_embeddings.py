"""/v1/embeddings and /embed: roles, number types, cuts and spaces."""

from __future__ import annotations

import base64

import httpx
import numpy as np
import pytest
from served import DIMS, LIMIT, error_of, make_pair

from leafkit.config import InheritConfig
from leafkit.core.truncate import truncate_then_normalize
from leafkit.index.codecs.fit import fit_codecs
from leafkit.server.answers import documents
from leafkit.server.serve import serve

LONG = "compute the matrix " * 60
SPACE = "leafkit-space"


def embed(client, **body) -> httpx.Response:
    return client.post("/v1/embeddings", json={"model": "mini", "input": "draw"} | body)


def vectors_of(response: httpx.Response) -> np.ndarray:
    assert response.status_code == 200, response.text
    return np.array([row["embedding"] for row in response.json()["data"]])


@pytest.mark.parametrize(
    ("model", "word", "role"),
    [
        ("mini", "query", "query"),
        ("mini", "search_query", "query"),
        ("mini", "document", "document"),
        ("mini", "search_document", "document"),
        ("mini", "passage", "document"),
        ("mini:query", "search_query", "query"),
        ("mini:document", "passage", "document"),
        ("mini:document", None, "document"),
    ],
)
def test_an_input_type_says_the_role(client, pair, model, word, role):
    found = vectors_of(embed(client, model=model, input_type=word))
    encode = pair.encode_query if role == "query" else pair.encode_document
    np.testing.assert_allclose(found, encode(["draw"]), atol=1e-6)


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"model": "mini:query", "input_type": "document"}, "input_type", "says document"),
        ({"model": "mini:document", "input_type": "query"}, "input_type", "leave one of them out"),
        ({"input_type": "classification"}, "input_type", "is not one of query"),
        ({"input_type": ["query"]}, "input_type", "is not one of query"),
        ({"output_dtype": "float64"}, "output_dtype", "float, int8, uint8, binary, ubinary"),
        ({"truncate": 1}, "truncate", "true, false"),
        ({"truncate": []}, "truncate", "true, false"),
        ({"expected_space": 3}, "expected_space", "not text"),
    ],
)
def test_contradictions_and_unknown_words_are_refused(client, body, param, message):
    response = embed(client, **body)
    found = error_of(response)
    assert (response.status_code, found["param"]) == (400, param)
    assert message in found["message"]


@pytest.mark.parametrize("dim", [None, 16])
@pytest.mark.parametrize("output_type", ["int8", "uint8"])
def test_bytes_have_the_documents_scale(client, pair, output_type, dim):
    found = vectors_of(embed(client, output_dtype=output_type, dimensions=dim))
    codec = fit_codecs(pair.vectors, [dim or 32], ["int8"], InheritConfig(), seed=0)[
        dim or 32, "int8"
    ]
    expected = codec.encode(pair.encode_query(["draw"], dim)).astype(int)
    np.testing.assert_array_equal(found, expected + (128 if output_type == "uint8" else 0))
    assert np.abs(codec.decode(expected) - pair.encode_query(["draw"], dim)).max() < 0.6


def test_bits_are_packed_as_sentence_transformers_packs_them(client, pair):
    vectors = pair.encode_query(["draw", "count"])
    packed = np.packbits(vectors > 0, axis=1)
    texts = ["draw", "count"]
    found = vectors_of(embed(client, output_dtype="ubinary", input=texts))
    np.testing.assert_array_equal(found, packed)
    found = vectors_of(embed(client, output_dtype="binary", input=texts))
    np.testing.assert_array_equal(found, packed.astype(int) - 128)
    quantize = pytest.importorskip("sentence_transformers.quantization").quantize_embeddings
    np.testing.assert_array_equal(found, quantize(vectors, "binary"))


@pytest.mark.parametrize(
    ("output_type", "dtype"),
    [("float", "<f4"), ("int8", "i1"), ("uint8", "u1"), ("binary", "i1"), ("ubinary", "u1")],
)
def test_base64_holds_the_numbers_of_the_list(client, output_type, dtype):
    plain = vectors_of(embed(client, output_dtype=output_type))[0]
    answer = embed(client, output_dtype=output_type, encoding_format="base64").json()
    found = np.frombuffer(base64.b64decode(answer["data"][0]["embedding"]), dtype=dtype)
    np.testing.assert_array_equal(found, plain.astype(dtype))


@pytest.mark.parametrize(("model", "limit"), [("mini", 128), ("mini:document", LIMIT)])
def test_cut_texts_are_told_or_refused(client, pair, model, limit):
    answer = embed(client, model=model, input=["draw", LONG, "sort", LONG]).json()
    assert answer["truncated"] == [1, 3]
    source = pair.embedder if model == "mini" else pair.teacher
    role = "query" if model == "mini" else "document"
    counted = sum(map(len, source.encoder.tokenize(["draw", LONG, "sort", LONG], role, limit)))
    assert answer["usage"]["total_tokens"] == counted
    assert embed(client, model=model, input="draw", truncate=False).json()["truncated"] == []
    for word in (False, "NONE"):
        response = embed(client, model=model, input=["draw", LONG, "sort", LONG], truncate=word)
        assert response.status_code == 400
        message = error_of(response)["message"]
        assert f"the model's {limit} tokens" in message
        assert "input[1]" in message
        assert "input[3]" in message
        assert "input[0]" not in message
    alone = error_of(embed(client, model=model, input=LONG, truncate=False))["message"]
    assert ": input (" in alone  # one text is no list


def test_every_answer_names_its_space(client, pair):
    answers = [
        embed(client).json(),
        client.post("/v1/search", json={"query": "draw"}).json(),
        client.get("/v1/models").json()["data"][0],
    ]
    assert {answer["space"] for answer in answers} == {pair.space.teacher}
    responses = [client.post("/embed", json={"inputs": "draw"}), client.get("/v1/none")]
    assert {response.headers[SPACE] for response in responses} == {pair.space.teacher}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"model": "mini", "input": "draw"}),
        ("/v1/search", {"query": "draw"}),
        ("/embed", {"inputs": "draw"}),
    ],
)
def test_another_space_is_a_conflict(client, pair, path, body):
    right = client.post(path, json=body | {"expected_space": pair.space.teacher})
    assert right.status_code == 200
    wrong = client.post(path, json=body | {"expected_space": "else"})
    assert (wrong.status_code, error_of(wrong)["code"]) == (409, "space_mismatch")
    assert pair.space.teacher in error_of(wrong)["message"]


def test_without_matryoshka_dimensions_only_the_whole_one_is_served():
    with (
        serve(make_pair(mrl_dims=()), port=0, block=False) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        body = {"model": "leafkit", "input": "draw"}
        response = client.post("/v1/embeddings", json=body | {"dimensions": 16})
        assert response.status_code == 400
        assert "no Matryoshka dimensions" in error_of(response)["message"]
        response = client.post("/v1/embeddings", json=body | {"dimensions": 32})
        assert len(response.json()["data"][0]["embedding"]) == 32


def test_vectors_of_any_length_have_no_codes():
    pair = make_pair()
    object.__setattr__(pair.space, "normalized", False)
    with (
        serve(pair, port=0, block=False) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        body = {"model": "leafkit", "input": "draw", "output_dtype": "int8"}
        response = client.post("/v1/embeddings", json=body)
        assert response.status_code == 400
        assert "length one" in error_of(response)["message"]
        body = {"query": "draw", "precision": "binary"}
        assert client.post("/v1/search", json=body).status_code == 400
        assert client.post("/v1/search", json={"query": "draw"}).status_code == 200
        # TEI's normalize means something here
        body = {"inputs": "draw", "normalize": False}
        assert client.post("/embed", json=body).status_code == 200


def test_teis_clients_get_lists_of_numbers(client, pair):
    for inputs in ("draw", ["draw", "count"]):
        response = client.post("/embed", json={"inputs": inputs, "truncate": True})
        several = [inputs] if isinstance(inputs, str) else inputs
        np.testing.assert_allclose(response.json(), pair.encode_query(several), atol=1e-6)
    body = {"inputs": "draw", "prompt_name": "document", "dimensions": 8, "normalize": True}
    found = np.array(client.post("/embed", json=body).json())
    expected = truncate_then_normalize(pair.encode_document(["draw"]), 8)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"inputs": []}, "inputs"),
        ({"inputs": [1, 2]}, "inputs"),
        ({"inputs": ["draw"] * 9}, "inputs"),
        ({"inputs": LONG, "truncate": False}, "inputs"),
        ({"normalize": False}, "normalize"),
        ({"normalize": "yes"}, "normalize"),
        ({"prompt_name": "classify"}, "prompt_name"),
        ({"truncation_direction": "Left"}, "truncation_direction"),
        ({"dimensions": 31}, "dimensions"),
        ({"model": "mini"}, "model"),
    ],
)
def test_wrong_values_of_teis_are_named(client, changes, param):
    response = client.post("/embed", json={"inputs": "draw"} | changes)
    assert (response.status_code, error_of(response)["param"]) == (400, param)


class RemoteTeacher:
    """Vectors of the teacher without its tokenizer, as an endpoint has them."""

    encoder = None

    def __init__(self, model):
        self._model = model

    def __getattr__(self, name):
        return getattr(self._model, name)


def test_a_teacher_without_a_tokenizer_says_that_nobody_knows():
    pair = make_pair()
    handle = pair._teacher
    pair._teacher = type(handle)(RemoteTeacher(handle.model), "remote", "")
    with (
        serve(pair, port=0, block=False) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        body = {"model": "leafkit:document", "input": "draw"}
        answer = client.post("/v1/embeddings", json=body).json()
        assert answer["truncated"] is None
        assert answer["usage"]["total_tokens"] == 0
        response = client.post("/v1/embeddings", json=body | {"truncate": False})
        assert (response.status_code, error_of(response)["param"]) == (400, "truncate")
        found = client.post("/v1/search", json={"query": "draw", "mode": "teacher"}).json()
        assert found["truncated"] is None


def test_the_scales_of_all_dimensions_are_kept(monkeypatch):
    pair = make_pair()
    fitted = []
    fit = documents.fit_codecs

    def count(vectors, dims, *rest, **named):
        fitted.append(dims[0])
        return fit(vectors, dims, *rest, **named)

    monkeypatch.setattr(documents, "fit_codecs", count)
    with (
        serve(pair, port=0, block=False) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        body = {"model": "leafkit", "input": "draw", "output_dtype": "int8"}
        for dim in (*DIMS, *DIMS):
            for precision in ("int8", "int4", "binary"):
                client.post(
                    "/v1/search",
                    json={"query": "draw", "dimensions": dim, "precision": precision},
                )
            response = client.post("/v1/embeddings", json=body | {"dimensions": dim})
            assert response.status_code == 200
    assert len(fitted) == 3 * len(DIMS)
