"""What happens when too much is asked at once, and what is counted."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from served import error_of, make_pair

from leafkit.core.errors import LeafkitError, UsageError
from leafkit.server.metrics import Metrics, share_rows
from leafkit.server.serve import serve
from leafkit.server.settings import ServerSettings, check_settings

QUERY = {"model": "leafkit", "input": "draw"}
DOCUMENT = {"model": "leafkit:document", "input": "draw"}


class SlowTeacher:
    """A teacher that waits to be let through, and remembers how many texts it got at once."""

    def __init__(self, pair):
        self.model = pair.teacher
        self.began, self.open = threading.Event(), threading.Event()
        self.sizes: list[int] = []
        embed = self.model.embed

        def slowly(texts, role, max_tokens, bar=None):
            self.began.set()
            assert self.open.wait(30)
            self.sizes.append(len(texts))
            return embed(texts, role, max_tokens, bar)

        self.model.embed = slowly


@pytest.fixture
def slow():
    """A server whose teacher is held, with room for eight requests."""
    pair = make_pair()
    teacher = SlowTeacher(pair)
    with (
        serve(pair, port=0, block=False, max_requests=8) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
        ThreadPoolExecutor(16) as pool,
    ):
        yield client, pool, teacher, pair
        teacher.open.set()


def held(client, pool, teacher, count):
    """Requests for documents, all of them waiting for the teacher."""
    asked = [pool.submit(client.post, "/v1/embeddings", json=DOCUMENT)]
    assert teacher.began.wait(30)
    asked += [pool.submit(client.post, "/v1/embeddings", json=DOCUMENT) for _ in range(count - 1)]
    wait_for(lambda: queue_of(client, "teacher") == count)
    return asked


def wait_for(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


def metric(client, line: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return next((float(one.rsplit(" ", 1)[1]) for one in lines if one.startswith(line + " ")), 0.0)


def queue_of(client, lane: str) -> float:
    return metric(client, f'leafkit_queue_length{{lane="{lane}"}}')


def test_a_slow_teacher_does_not_hold_up_queries(slow):
    client, pool, teacher, pair = slow
    asked = held(client, pool, teacher, 4)
    answer = client.post("/v1/embeddings", json=QUERY)
    found = np.array(answer.json()["data"][0]["embedding"])
    np.testing.assert_allclose(found, pair.encode_query("draw"), atol=1e-6)
    assert client.post("/v1/search", json={"query": "draw"}).status_code == 200
    assert not any(one.done() for one in asked)
    teacher.open.set()
    assert [one.result().status_code for one in asked] == [200] * 4
    # the first was alone; what waited meanwhile was embedded together
    assert teacher.sizes == [1, 3]


def test_more_than_the_limit_are_told_to_come_again(slow):
    client, pool, teacher, _ = slow
    held(client, pool, teacher, 4)
    response = client.post("/v1/embeddings", json=DOCUMENT)
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")
    assert error_of(response)["type"] == "rate_limit_error"
    assert queue_of(client, "teacher") == 4
    # queries have the other half, and probes any time
    assert client.post("/v1/embeddings", json=QUERY).status_code == 200
    teacher.open.set()
    wait_for(lambda: queue_of(client, "teacher") == 0)
    assert client.post("/v1/embeddings", json=DOCUMENT).status_code == 200


def test_who_hangs_up_leaves_the_queue(slow):
    client, pool, teacher, _ = slow
    asked = held(client, pool, teacher, 1)
    for _ in range(3):
        with pytest.raises(httpx.ReadTimeout):
            client.post("/v1/embeddings", json=DOCUMENT, timeout=0.2)
    wait_for(lambda: queue_of(client, "teacher") == 1)
    line = 'leafkit_requests_total{path="/v1/embeddings",status="499"}'
    wait_for(lambda: metric(client, line) == 3)
    teacher.open.set()
    assert asked[0].result().status_code == 200
    assert client.post("/v1/embeddings", json=DOCUMENT).status_code == 200
    assert teacher.sizes == [1, 1]


def test_the_whole_server_has_a_limit_too():
    pair = make_pair()
    began, is_open = threading.Event(), threading.Event()
    embed = pair.embedder.embed

    with (
        serve(pair, port=0, block=False, max_requests=2) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
        ThreadPoolExecutor(2) as pool,
    ):

        def slowly(*args, **others):
            began.set()
            assert is_open.wait(30)
            return embed(*args, **others)

        pair.embedder.embed = slowly
        asked = [pool.submit(client.post, "/v1/embeddings", json=QUERY) for _ in range(2)]
        assert began.wait(30)
        wait_for(lambda: metric(client, "leafkit_requests_in_flight") == 3)  # this one too
        response = client.post("/v1/search", json={"query": "draw"})
        assert (response.status_code, response.headers["retry-after"]) == (429, "1")
        assert client.get("/health").status_code == client.get("/ready").status_code == 200
        is_open.set()
        assert [one.result().status_code for one in asked] == [200, 200]


def test_a_text_that_fails_fails_alone(slow):
    """Requests that were put into one batch have answers of their own."""
    client, pool, teacher, pair = slow
    pair.teacher.require = refuse_bad
    first = held(client, pool, teacher, 1)
    texts = ["good", "bad", "good too"]
    asked = [
        pool.submit(client.post, "/v1/embeddings", json=DOCUMENT | {"input": text})
        for text in texts
    ]
    wait_for(lambda: queue_of(client, "teacher") == 4)
    teacher.open.set()
    statuses = [one.result().status_code for one in (*first, *asked)]
    assert statuses == [200, 200, 400, 200]
    assert error_of(asked[1].result())["message"] == "no vector of it"
    expected = pair.encode_document(["good too"])
    found = [row["embedding"] for row in asked[2].result().json()["data"]]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def refuse_bad(texts, role):
    if "bad" in texts:
        raise LeafkitError("no vector of it")


def test_metrics_count_what_was_answered(client, pair):
    before = client.get("/metrics").text
    client.post("/v1/embeddings", json={"model": "mini", "input": ["draw", "sort"]})
    client.post("/v1/embeddings", json={"model": "mini", "input": []})
    client.get("/no/such/path")
    response = client.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert before != response.text
    path = 'path="/v1/embeddings"'
    assert metric(client, f'leafkit_requests_total{{{path},status="200"}}') == 1
    assert metric(client, f'leafkit_requests_total{{{path},status="400"}}') == 1
    assert metric(client, 'leafkit_requests_total{path="other",status="404"}') == 1
    assert metric(client, f'leafkit_request_seconds_bucket{{{path},le="+Inf"}}') == 2
    assert metric(client, f"leafkit_request_seconds_count{{{path}}}") == 2
    assert 0 < metric(client, f"leafkit_request_seconds_sum{{{path}}}") < 60
    assert metric(client, 'leafkit_texts_total{role="query"}') == 2
    num_tokens = pair.embedder.count_tokens(["draw", "sort"], "query")
    assert metric(client, 'leafkit_tokens_total{role="query"}') == num_tokens
    assert metric(client, "leafkit_requests_in_flight") == 1  # the one that asks


def test_metrics_are_read_as_prometheus_reads_them(client):
    """Every line is a comment or NAME{LABELS} NUMBER; buckets grow; every name has its type."""
    lines = client.get("/metrics").text.splitlines()
    typed = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    last: dict[str, float] = {}
    for line in lines:
        if line.startswith("#"):
            continue
        name, _, number = line.rpartition(" ")
        base = name.partition("{")[0]
        for end in ("_bucket", "_sum", "_count"):
            base = base.removesuffix(end)
        assert base in typed, line
        if "_bucket" in name:
            series = name.partition(",le=")[0]
            assert float(number) >= last.get(series, 0.0)
            last[series] = float(number)
        assert float(number) >= 0


def test_workers_share_their_counters(tmp_path):
    with (tmp_path / "rows").open("w+b") as stream:
        rows = share_rows(stream, 2)
        first, second = Metrics(rows, 0), Metrics(rows, 1)
        for one in (first, second, second):
            one.begin()
            one.end("/embed", 200, 0.001)
        second.begin()
        line = 'leafkit_requests_total{path="/embed",status="200"} 3'
        assert line in first.write({}).splitlines()
        assert "leafkit_requests_in_flight 1" in second.write({}).splitlines()
        # who takes the second one's place goes on with its counts, and has nothing in flight
        third = Metrics(share_rows(stream, 2), 1)
        assert line in third.write({}).splitlines()
        assert "leafkit_requests_in_flight 0" in third.write({}).splitlines()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"two words", "holds a space"),
        (b"\xff\xfe", "a character beyond ASCII"),
        (b"a" * 100_000, "more than 65,536 bytes"),
    ],
)
def test_a_key_in_a_file(tmp_path, content, message):
    path = tmp_path / "key"
    settings = ServerSettings(api_key_file=str(path))
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as refused:
        check_settings(settings)
    assert refused.value.hint


def test_a_key_from_a_file_or_the_environment_is_asked_for(tmp_path, monkeypatch):
    path = tmp_path / "key"
    path.write_text("k-from-file\n")
    monkeypatch.setenv("SOME_KEY", " k-from-env ")
    assert check_settings(ServerSettings(api_key_env="SOME_KEY")).api_key == "k-from-env"
    assert "k-from-file" not in repr(check_settings(ServerSettings(api_key_file=str(path))))
    with serve(make_pair(), port=0, block=False, api_key_file=str(path)) as server:
        url = f"{server.url}/metrics"
        assert httpx.get(url).status_code == 401
        right = {"Authorization": "Bearer k-from-file"}
        assert httpx.get(url, headers=right).status_code == 200
        assert httpx.get(f"{server.url}/ready").status_code == 200


def test_the_teacher_is_loaded_when_it_is_told_to_be():
    calls = []

    def open_teacher():
        calls.append(1)
        return teacher

    teacher = make_pair()._teacher
    for state, expected in (("lazy", "lazy"), ("eager", "loaded"), ("off", "off")):
        calls.clear()
        with serve(make_pair(open_teacher), port=0, block=False, teacher=state) as server:
            answer = httpx.get(f"{server.url}/ready").json()
            assert answer == {"status": "ready", "student": "loaded", "teacher": expected}
            assert len(calls) == (state == "eager")
            asked = httpx.post(f"{server.url}/v1/embeddings", json=DOCUMENT)
            assert asked.status_code == (404 if state == "off" else 200), asked.text
            assert len(calls) == (state != "off")


def test_an_eager_teacher_that_is_missing_is_one_error():
    def gone():
        raise LeafkitError("the teacher is not at hand", "bring it back")

    with pytest.raises(LeafkitError, match="not at hand"):
        serve(make_pair(gone), port=0, block=False, teacher="eager")
