"""``benchmarks/serve.py``: its clients, the comparison of vectors, ratios, growth of memory."""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import serve
from lib.clients import ask, ask_each, make_request
from lib.servers import free_port, started
from serve_parts.made import make_pair_folder, make_tiny_pair
from serve_parts.memory import Watched, memory_lines, mixed
from serve_parts.ways import Way, choose_questions, ways_of


class Echo(BaseHTTPRequestHandler):
    """Answers what it is sent; 400 to what is no JSON, and no length where it is told so."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200 if body.startswith(b"{") else 400)
        if b"no length" not in body:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = b"hang up" in body or b"no length" in body

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def test_clients_ask_in_turn_and_count_what_they_get(port):
    requests = [make_request("/a", {"text": f"größer {i}"}) for i in range(3)]
    assert [json.loads(b)["text"] for b in ask_each(port, requests)] == [
        "größer 0",
        "größer 1",
        "größer 2",
    ]
    wrong = make_request("/a", {"text": "x"}).replace(b"{", b"[", 1)
    numbers = []
    load = ask(
        port,
        [*requests, wrong],
        num_clients=3,
        seconds=30,
        most=40,
        on_answer=numbers.append,
    )
    assert load.statuses == {"200": 30, "400": 10}
    assert sorted(numbers) == list(range(40))
    assert len(load.latencies_ms) == 40
    assert load.rate > 0
    assert load.bodies
    with pytest.raises(SystemExit, match="answers 400"):
        ask_each(port, [wrong])


def test_clients_survive_a_connection_that_ends(port):
    requests = [make_request("/a", {"text": "hang up"}), make_request("/a", {"text": "no length"})]
    load = ask(port, requests, num_clients=1, seconds=30, most=20)
    assert load.statuses["200"] >= 1
    assert load.statuses["error"] >= 1
    assert sum(load.statuses.values()) == 20


def test_loops_are_bounded_in_time_and_a_server_that_is_not_there_is_an_error(port):
    load = ask(port, [make_request("/a", {})], num_clients=2, seconds=0.2, most=10**9)
    assert 0.2 <= load.seconds < 30
    with pytest.raises(SystemExit, match="no request was answered"):
        ask(free_port(), [make_request("/a", {})], num_clients=1, seconds=1, most=3)


def test_refused_requests_are_no_fast_answers(monkeypatch):
    class Busy(Echo):
        num_asked = 0

        def do_POST(self) -> None:
            Busy.num_asked += 1
            if serve.WARM < Busy.num_asked <= serve.WARM + 5:  # of one client, once it is warm
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(503)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            super().do_POST()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Busy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(serve, "free_port", lambda: server.server_address[1])
    monkeypatch.setattr(serve, "started", lambda *_, **__: contextlib.nullcontext())
    options = argparse.Namespace(threads=1, seconds=0.2)
    way = Way("busy", lambda port: [], {}, {})
    try:
        with pytest.raises(SystemExit, match=r"busy: queries were answered with .*'503': 5"):
            serve.measure_way(way, options, ["a", "b"])
    finally:
        server.shutdown()
        server.server_close()


def test_a_server_that_ends_is_an_error_with_what_it_said():
    words = [sys.executable, "-c", "raise SystemExit('no model here')"]
    with (
        pytest.raises(SystemExit, match="no model here"),
        started(words, free_port(), ready="/", environment={}, within_s=30),
    ):
        pass


def test_answers_are_compared_in_order_whatever_their_form():
    vectors = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    expected = {f"text {i}": vector for i, vector in enumerate(vectors)}
    way = Way("a", lambda port: [], {"model": "m"}, expected)
    floats = [json.dumps({"data": [{"embedding": v.tolist()}]}).encode() for v in vectors]
    packed = [
        json.dumps({"data": [{"embedding": base64.b64encode(v.tobytes()).decode()}]}).encode()
        for v in 2 * vectors
    ]
    assert way.smallest_cosine(floats) == pytest.approx(1)
    assert way.smallest_cosine(packed) == pytest.approx(1)
    assert way.smallest_cosine(floats[::-1]) < 0.99
    assert (
        Way("b", way.words, {}, expected, prefix="Query: ")
        .request("x")
        .endswith(b'{"input": "Query: x"}')
    )


def test_a_bar_is_reached_or_missed():
    turns = [{"alone": {"p50_ms": 3.0}, "many": {"rate": 70.0}} for _ in range(3)]
    bare = [{"p50_ms": 2.0, "rate": 100.0} for _ in range(3)]
    times, rates = ("alone", "p50_ms"), ("many", "rate")
    assert serve.ratio_cell(turns, times, bare, 1.6) == "1.50 [1.50, 1.50]; bar <= 1.6 reached"
    assert "**missed**" in serve.ratio_cell(turns, times, bare, 1.4)
    assert serve.ratio_cell(turns, rates, bare, 0.7).endswith("bar >= 0.7 reached")
    assert "**missed**" in serve.ratio_cell(turns, rates, bare, 0.71)
    assert serve.ratio_cell(turns, rates, bare, None) == "0.70 [0.70, 0.70]"


@pytest.mark.parametrize(("per_request", "word"), [(0.0, "reached"), (0.001, "**missed**")])
def test_memory_that_grows_is_told(per_request, word):
    samples = [(n, 500 + n * per_request, 400.0) for n in range(0, 100_001, 1000)]
    watched = Watched(samples=samples)
    watched.load.statuses.update({"200": 90_000, "400": 10_000})
    assert watched.slope() == pytest.approx(per_request * 1024 * 1000, abs=1e-6)
    options = argparse.Namespace(requests=200_000, memory_minutes=5)
    told = "\n".join(memory_lines(watched, options))
    assert word in told
    assert f"{90_000 * per_request:+.1f} MiB" in told
    assert "100,000 requests (of 200,000: 5 minutes were over)" in told
    assert "90,000 x 200" in told


def test_the_mixture_holds_every_kind_of_request():
    asked = mixed([make_request("/v1/embeddings", {"input": f"{i}"}) for i in range(200)])
    assert sum(b"/v1/search" in request for request in asked) == 20
    assert len(asked) == 230
    assert sum(not request.split(b"\r\n\r\n")[1].startswith(b"{") for request in asked) == 2


def test_questions_are_short_and_distinct():
    texts = choose_questions([f"word{i % 50} " * 30 for i in range(500)])
    assert len(set(texts)) == len(texts) <= 128
    assert max(len(text.split()) for text in texts) <= 9


def test_peers_that_are_not_here_are_named_with_the_reason(tmp_path):
    nowhere = str(tmp_path / "python")
    options = argparse.Namespace(
        pair=tmp_path, peer_python=nowhere, vllm_python=sys.executable, tiny=False
    )
    ways, missing = ways_of(options, {})
    assert [way.name.partition(",")[0] for way in ways] == ["leafkit serve"] * 3
    assert [way.workers for way in ways] == [1, 1, 2]
    assert "does not run (FileNotFoundError)" in missing[0]
    assert "vllm not installed" in missing[1]
    assert not any(str(tmp_path) in reason for reason in missing)


def test_a_made_pair_has_the_very_student_whose_graph_it_takes(tmp_path):
    source = make_tiny_pair(tmp_path / "tiny")
    (source / "student" / "losses.json").write_text("[]")  # as a run leaves it
    made = make_pair_folder(source, tmp_path, 50)
    for path in [path for path in (source / "student").rglob("*") if path.is_file()]:
        again = made / path.relative_to(source)
        assert again.read_bytes() == path.read_bytes(), path.name
