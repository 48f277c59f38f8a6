"""A pair over HTTP: the vectors of the pair itself, and an error in OpenAI's shape for whatever is
wrong with a request.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
import tiny
from served import error_of, make_pair

from leafkit.core.errors import LeafkitError, MissingExtra, UsageError
from leafkit.server.listen import is_loopback
from leafkit.server.serve import serve

KEY = "k-3f9"


def embed(client, **body) -> httpx.Response:
    return client.post("/v1/embeddings", json={"model": "mini", "input": "draw"} | body)


@pytest.mark.parametrize(
    ("model", "role"), [("mini", "query"), ("mini:query", "query"), ("mini:document", "document")]
)
def test_a_models_name_says_the_role(client, pair, model, role):
    texts = ["draw", "compute the matrix"]
    answer = embed(client, model=model, input=texts).json()
    encode = pair.encode_query if role == "query" else pair.encode_document
    found = np.array([row["embedding"] for row in answer["data"]], dtype=np.float32)
    np.testing.assert_allclose(found, encode(texts), atol=1e-6)
    assert [row["index"] for row in answer["data"]] == [0, 1]
    assert (answer["object"], answer["model"]) == ("list", model)
    source = pair.embedder if role == "query" else pair.teacher
    num_tokens = sum(map(len, source.encoder.tokenize(texts, role)))
    assert answer["usage"] == {"prompt_tokens": num_tokens, "total_tokens": num_tokens}


def test_one_text_base64_and_dimensions(client, pair):
    answer = embed(client, dimensions=8, encoding_format="base64").json()
    found = np.frombuffer(base64.b64decode(answer["data"][0]["embedding"]), dtype="<f4")
    np.testing.assert_allclose(found, pair.encode_query("draw", 8), atol=1e-6)
    assert np.linalg.norm(found) == pytest.approx(1.0, abs=1e-6)


def test_openais_own_client_gets_the_vectors(client, pair):
    library = pytest.importorskip("openai", reason="the openai package is not installed")
    server = library.OpenAI(base_url=f"{client.base_url}/v1", api_key="unused")
    answer = server.embeddings.create(model="mini", input=["draw"], dimensions=8)
    np.testing.assert_allclose(answer.data[0].embedding, pair.encode_query("draw", 8), atol=1e-6)
    assert answer.usage.total_tokens > 0
    # its default asks for base64; a list of floats is the same vector
    plain = server.embeddings.create(model="mini", input=["draw"], encoding_format="float")
    packed = server.embeddings.create(model="mini", input=["draw"])
    np.testing.assert_allclose(plain.data[0].embedding, packed.data[0].embedding, atol=1e-7)
    answer = server.embeddings.create(
        model="mini",
        input=["draw"],
        encoding_format="float",
        extra_body={"input_type": "document", "output_dtype": "ubinary"},
    )
    packed_bits = np.packbits(pair.encode_document("draw") > 0)
    np.testing.assert_array_equal(answer.data[0].embedding, packed_bits)
    with pytest.raises(library.ConflictError, match="live in the space"):
        server.embeddings.create(
            model="mini", input="draw", extra_body={"expected_space": "another"}
        )
    with pytest.raises(library.NotFoundError, match="there is no model 'gpt'"):
        server.embeddings.create(model="gpt", input="draw")
    assert [model.id for model in server.models.list()] == ["mini", "mini:query", "mini:document"]


def test_search_finds_what_the_pair_finds(client, pair):
    answer = client.post("/v1/search", json={"query": "draw the graph", "k": 3}).json()
    expected = pair.search("draw the graph", 3)
    assert [row["id"] for row in answer["data"]] == [hit.id for hit in expected]
    assert answer["data"][0]["text"] == expected[0].text
    assert len(client.post("/v1/search", json={"query": "draw"}).json()["data"]) == 10


def test_health(client):
    assert client.get("/health").json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("changes", "param", "message"),
    [
        ({"input": []}, "input", "empty list"),
        ({"input": 3}, "input", "number, not text"),
        ({"input": None}, "input", "null, not text"),
        ({"input": ["draw", 3]}, "input[1]", "number, not text"),
        ({"input": ["draw", True]}, "input[1]", "boolean, not text"),
        ({"input": [1, 2, 3]}, "input", "token ids"),
        ({"input": [[1, 2], [3]]}, "input", "check_embedding_ctx_length=False"),
        ({"input": ["draw"] * 9}, "input", "9 texts; a request may have 8"),
        ({"dimensions": 0}, "dimensions", "between 1 and 32"),
        ({"dimensions": 33}, "dimensions", "between 1 and 32"),
        ({"dimensions": 8.0}, "dimensions", "between 1 and 32"),
        ({"dimensions": True}, "dimensions", "between 1 and 32"),
        ({"dimensions": "8"}, "dimensions", "between 1 and 32"),
        ({"encoding_format": "int8"}, "encoding_format", "float, base64"),
        ({"encoding_format": ["float"]}, "encoding_format", "float, base64"),
        ({"model": 3}, "model", "number, not text"),
        ({"dimensions": 9}, "dimensions", "is not one of 32, 16, 8"),
        ({"truncate": "START"}, "truncate", "true, false, END or NONE"),
        ({"truncate_to": 3}, "truncate_to", "is not known"),
    ],
)
def test_wrong_values_are_named(client, changes, param, message):
    response = embed(client, **changes)
    found = error_of(response)
    assert (response.status_code, found["param"]) == (400, param)
    assert message in found["message"]
    assert found["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b"[]", 400, "JSON array, not an object"),
        (b"null", 400, "JSON null, not an object"),
        (b"\xff\xfe", 400, "not UTF-8"),
        (b'{"model": "mini", "input": "draw", "dimensions": NaN}', 400, "NaN is no JSON number"),
        (b'{"model": "mini", "input": "draw", "dimensions": -Infinity}', 400, "-Infinity"),
        (b'{"model": "mini", "input": "draw", "dimensions": 1e999}', 400, "between 1 and 32"),
        (b'{"model": "mini", "input": "draw", "dimensions": ' + b"9" * 5000 + b"}", 400, ""),
        (b'{"model": "mini", "input": "\\ud800 draw"}', 400, "lone surrogate"),
        (b'{"model": "mini", "input": ["a", "b\\udfff"]}', 400, "input[1] holds a lone surrogate"),
        (b'{"model": "\\ud800", "input": "draw"}', 400, "lone surrogate"),
        (b'{"\\ud800": 1}', 400, "is not known"),
        (b'{"model": "mini", "input": ' + b"[" * 9000 + b"]" * 9000 + b"}", 400, ""),
        (b'{"model": "mini"}', 400, "'input' is missing"),
        (b'{"input": "draw"}', 400, "'model' is missing"),
        (b'{"model": "mini", "input": "' + b"a" * 20_000 + b'"}', 413, "larger than 20,000"),
    ],
)
def test_bad_bodies_are_the_callers_errors(client, content, status, message):
    for path in ("/v1/embeddings", "/v1/search"):
        response = client.post(path, content=content)
        assert response.status_code in (400, 413), response.text
        error_of(response)
    response = client.post("/v1/embeddings", content=content)
    assert response.status_code == status
    assert message in error_of(response)["message"]


@pytest.mark.parametrize("text", ["", " ", "\0", "a\0b", "\ufeffdraw", "\x1b[31m", "😀" * 300])
def test_odd_texts_have_vectors(client, text):
    response = embed(client, input=text)
    assert response.status_code == 200
    assert np.isfinite(response.json()["data"][0]["embedding"]).all()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"query": "  "}, "query"),
        ({"query": ["draw"]}, "query"),
        ({"query": "draw", "k": 0}, "k"),
        ({"query": "draw", "k": 10**9}, "k"),
        ({"query": "draw", "k": 2.5}, "k"),
        ({"query": "draw", "dimensions": 99}, "dimensions"),
        ({"query": "draw", "top_k": 3}, "top_k"),
        ({}, "query"),
    ],
)
def test_wrong_searches_are_refused(client, body, param):
    response = client.post("/v1/search", json=body)
    assert (response.status_code, error_of(response)["param"]) == (400, param)


def test_other_models_paths_and_methods(client):
    response = embed(client, model="gpt")
    assert (response.status_code, error_of(response)["code"]) == (404, "model_not_found")
    assert "mini, mini:query, mini:document" in error_of(response)["message"]
    response = client.get("/v1/nothing")
    assert (response.status_code, error_of(response)["type"]) == (404, "not_found_error")
    response = client.get("/v1/embeddings")
    assert response.status_code == 405
    assert "GET /v1/embeddings" in error_of(response)["message"]


def test_requests_at_once_get_their_own_vectors(client, pair):
    texts = [f"{verb} the matrix" for verb in ("draw", "count", "sort", "merge")]
    expected = pair.encode_query(texts)
    found: dict[int, list[float]] = {}

    def ask(i: int) -> None:
        found[i] = embed(client, input=texts[i]).json()["data"][0]["embedding"]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose(np.array([found[i] for i in range(4)]), expected, atol=1e-6)


def test_a_key_is_asked_for_everywhere_but_health(pair):
    with (
        serve(pair, port=0, block=False, api_key=KEY) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        body = {"model": "leafkit", "input": "draw"}
        for headers in ({}, {"Authorization": "Bearer no"}, {"Authorization": f"Basic {KEY}"}):
            for response in (
                client.post("/v1/embeddings", json=body, headers=headers),
                client.post("/v1/search", json={"query": "draw"}, headers=headers),
                client.get("/v1/models", headers=headers),
            ):
                assert (response.status_code, error_of(response)["code"]) == (
                    401,
                    "invalid_api_key",
                )
                assert KEY not in response.text
        right = {"Authorization": f"Bearer {KEY}"}
        assert client.post("/v1/embeddings", json=body, headers=right).status_code == 200
        assert client.get("/health").status_code == 200


def test_a_teacher_that_is_not_at_hand_is_the_servers_error():
    def gone():
        raise LeafkitError("the teacher is not at hand", "bring it back")

    with (
        serve(make_pair(gone), port=0, block=False) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        body = {"model": "leafkit:document", "input": "draw"}
        response = client.post("/v1/embeddings", json=body)
        assert response.status_code == 503
        assert error_of(response)["message"] == "the teacher is not at hand; bring it back"
        assert error_of(response)["type"] == "server_error"
        body["model"] = "leafkit"
        assert client.post("/v1/embeddings", json=body).status_code == 200


def test_a_fault_of_the_server_is_not_told_to_the_caller():
    pair = make_pair()

    def fail(*args, **others):
        raise ZeroDivisionError("secret")

    with (
        serve(pair, port=0, block=False) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        pair.embedder.embed = fail
        response = client.post("/v1/embeddings", json={"model": "leafkit", "input": "draw"})
    assert response.status_code == 500
    assert "secret" not in response.text
    error_of(response)


def test_a_handle_closes_and_tells_its_state(pair):
    server = serve(pair, port=0, block=False)
    assert server.url in repr(server)
    assert httpx.get(f"{server.url}/health").status_code == 200
    server.close()
    server.close()
    assert "is closed" in repr(server)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/health")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"port": -1}, "is no port"),
        ({"port": 70000}, "is no port"),
        ({"port": "8080"}, "is no port"),
        ({"host": "0.0.0.0"}, "no API key is asked for"),
        ({"host": "::"}, "no API key is asked for"),
        ({"host": "no.such.host.invalid", "api_key": KEY}, "is no address of this machine"),
        ({"name": "a:b"}, "is no name of a model"),
        ({"name": ""}, "is no name of a model"),
        ({"api_key": "two words"}, "holds a space"),
        ({"max_inputs": 0}, "max_inputs=0"),
        ({"max_requests": True}, "max_requests=True"),
        ({"teacher": "never"}, "teacher='never' says nothing"),
        ({"teacher": None}, "teacher=None says nothing"),
        ({"workers": 2}, "a folder is needed"),
        ({"workers": 2, "max_requests": 3}, "each needs two of max_requests=3"),
        ({"index": "hnsw"}, "has its index already"),
        ({"index": "nix"}, "no such kind"),
        ({"student_documents": 1}, "neither true nor false"),
        ({"api_key": KEY, "api_key_env": "NAME"}, "api_key and api_key_env each name"),
        ({"max_body_bytes": 1.5}, "max_body_bytes=1.5"),
    ],
)
def test_wrong_settings_are_refused(pair, changes, message):
    with pytest.raises(UsageError, match=message) as refused:
        serve(pair, **{"port": 0, "block": False} | changes)
    assert refused.value.hint


def test_a_port_that_is_taken_is_one_error(pair):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(LeafkitError, match=f"cannot listen on 127.0.0.1:{port}") as refused:
            serve(pair, port=port, block=False)
    assert "port=0" in refused.value.hint


@pytest.mark.parametrize("is_blocking", [False, True])
def test_a_port_that_another_server_took_meanwhile_is_one_error(is_blocking, capfd):
    """Two servers that start together are both bound; the other one listens first."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        teacher = make_pair()._teacher

        def listen_meanwhile():
            other.listen()
            return teacher

        with pytest.raises(LeafkitError, match=f"cannot listen on 127.0.0.1:{port}") as refused:
            serve(make_pair(listen_meanwhile), port=port, block=is_blocking, teacher="eager")
    assert "port=0" in refused.value.hint
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    assert "serving" not in out


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_without_its_packages_it_says_how_to_install_them(pair, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra) as refused:
        serve(pair, port=0, block=False)
    assert refused.value.hint == 'pip install "leafkit[serve]"'


def test_loopback():
    assert [is_loopback(h) for h in ("localhost", "127.3.2.1", "::1")] == [True] * 3
    assert [is_loopback(h) for h in ("0.0.0.0", "::", "example.org", "10.0.0.1")] == [False] * 4


def test_a_request_that_the_drain_gives_up_is_told_so(monkeypatch):
    monkeypatch.setattr("leafkit.server.process.DRAIN_S", 1)
    pair = make_pair()
    embed, began, go_on = pair.embedder.embed, threading.Event(), threading.Event()

    def slowly(*args, **others):
        began.set()
        assert go_on.wait(60)
        return embed(*args, **others)

    server = serve(pair, port=0, block=False)
    pair.embedder.embed = slowly
    try:
        with ThreadPoolExecutor(1) as pool:
            body = {"model": "leafkit", "input": "draw"}
            asked = pool.submit(httpx.post, f"{server.url}/v1/embeddings", json=body, timeout=60)
            assert began.wait(60)
            server.close()
            response = asked.result(60)
    finally:
        go_on.set()
    assert (response.status_code, error_of(response)["code"]) == (503, "server_stopping")
    assert response.headers["retry-after"]
    assert response.headers["leafkit-space"]
    assert not server._server.has_answered_all


SLOW_SERVER = """
import time
from served import error_of, make_pair
from leafkit.core.console import set_verbosity
from leafkit.server.serve import serve
set_verbosity("info")
pair = make_pair()
embed, calls = pair.embedder.embed, []
def slowly(*args, **others):
    calls.append(1)
    if len(calls) > 1:  # the first warms up
        print("busy", flush=True)
        time.sleep(2)
    return embed(*args, **others)
pair.embedder.embed = slowly
serve(pair, port=0)
print("after", flush=True)
"""


@pytest.mark.slow
def test_sigterm_lets_the_open_request_finish():
    path = os.pathsep.join([str(tiny.ROOT), str(tiny.ROOT / "tests" / "support")])
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_SERVER],
        env=tiny.environment(PYTHONPATH=path, HF_HUB_OFFLINE="1"),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        url = process.stdout.readline().split(" on ")[1].split()[0]
        answers: list[httpx.Response] = []
        body = {"model": "leafkit", "input": "draw"}
        ask = threading.Thread(
            target=lambda: answers.append(httpx.post(f"{url}/v1/embeddings", json=body, timeout=60))
        )
        ask.start()
        assert process.stdout.readline() == "busy\n"
        process.send_signal(signal.SIGTERM)
        ask.join()
        assert len(json.loads(answers[0].text)["data"][0]["embedding"]) == 32
        started_s = time.monotonic()
        assert process.wait(timeout=60) == 0
        assert time.monotonic() - started_s < 30
        told = process.stdout.read()
        assert "after" in told
        assert "every open request was answered" in told
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_the_log_does_not_claim_answers_that_were_not_given():
    path = os.pathsep.join([str(tiny.ROOT), str(tiny.ROOT / "tests" / "support")])
    code = SLOW_SERVER.replace("time.sleep(2)", "time.sleep(600)").replace(
        "pair = make_pair()",
        "from leafkit.server import process; process.DRAIN_S = 1; pair = make_pair()",
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=tiny.environment(PYTHONPATH=path, HF_HUB_OFFLINE="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        url = next(line for line in process.stdout if " on " in line).split(" on ")[1].split()[0]
        with ThreadPoolExecutor(1) as pool:
            body = {"model": "leafkit", "input": "draw"}
            asked = pool.submit(httpx.post, f"{url}/v1/embeddings", json=body, timeout=60)
            assert next(line for line in process.stdout if "busy" in line)
            process.send_signal(signal.SIGTERM)
            assert asked.result(60).status_code == 503
        told = process.communicate(timeout=60)[0]
        assert "stopped without waiting for every open request" in told
        assert "was answered" not in told
        assert "Traceback" not in told
    finally:
        process.kill()
        process.wait()
