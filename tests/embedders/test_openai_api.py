"""Vectors from a real server that misbehaves: what is retried, what is refused, in which order, and
what is paid once.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from synth_server import MODEL, ChatServer, Request, chat_server, hash_vectors

from leafkit.config import EmbeddingsConfig, EndpointConfig
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.data.vector_store import VectorStore
from leafkit.embedders import openai_api as endpoint_module
from leafkit.embedders.fill_store import fill_store
from leafkit.embedders.openai_api import PROBE, OpenAIEmbedder
from leafkit.embedders.protocol import RefusedText

pytest.importorskip("openai")
KEY = "sk-very-secret-0123456789"
TEXTS = [f"text number {i} about {word}" for i, word in enumerate(tiny.THINGS)]  # 30


@pytest.fixture(autouse=True)
def _environment(monkeypatch) -> None:
    for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as running:
        yield running


def make(
    server: ChatServer,
    prompts: dict[str, str] | None = None,
    memory: Path | None = None,
    **changes: Any,
) -> OpenAIEmbedder:
    mrl_dims = changes.pop("mrl_dims", ())
    endpoint = EndpointConfig(
        base_url=server.url, max_concurrency=3, max_retries=2, backoff_s=0.001, timeout_s=5.0
    )
    of_endpoint = {f.name: changes.pop(f.name) for f in fields(endpoint) if f.name in changes}
    endpoint = replace(endpoint, **of_endpoint)
    config = replace(EmbeddingsConfig(endpoint=endpoint, texts_per_request=4), **changes)
    return OpenAIEmbedder(MODEL, config, prompts or {}, mrl_dims, memory=memory)


def at(base_url: str) -> EmbeddingsConfig:
    """Defaults for the endpoint at this address."""
    return EmbeddingsConfig(endpoint=EndpointConfig(base_url=base_url))


def after_probe(behaviour: str, number: int = 1):
    """A script that misbehaves at one request, the probe being number 0."""
    return lambda request: behaviour if request.number == number else "good"


def test_vectors_are_the_servers_in_the_order_of_the_texts(server):
    model = make(server)
    vectors = model.embed(TEXTS, "document", 64)
    assert (vectors.dtype, vectors.shape, model.dim) == (np.float32, (30, 16), 16)
    np.testing.assert_allclose(vectors, hash_vectors(TEXTS, 16), atol=1e-6)
    assert len(server.requests) == 1 + 8
    assert server.requests[0].texts == [PROBE]
    assert {r.path for r in server.requests} == {"/v1/embeddings"}
    assert {r.headers["authorization"] for r in server.requests} == {f"Bearer {KEY}"}
    assert all(set(r.body) == {"model", "input", "encoding_format"} for r in server.requests)
    assert {r.body["model"] for r in server.requests} == {MODEL}


@pytest.mark.parametrize("behaviour", ["shuffled", "floats", "unnumbered"])
def test_any_good_form_gives_the_same_vectors(server, behaviour):
    server.script = lambda request: behaviour
    np.testing.assert_allclose(
        make(server).embed(TEXTS, "query", 64), hash_vectors(TEXTS, 16), atol=1e-6
    )


def test_late_answers_change_no_order(server):
    delays = iter([0.0, 0.12, 0.01, 0.06, 0.02, 0.09] * 20)
    server.script = lambda request: f"slow:{next(delays)}"
    np.testing.assert_allclose(
        make(server).embed(TEXTS, "query", 64), hash_vectors(TEXTS, 16), atol=1e-6
    )


def test_prompts_stand_before_the_texts_and_decide_about_the_fingerprint(server):
    model = make(server, {"query": "find : ", "document": ""})
    np.testing.assert_allclose(
        model.embed(TEXTS[:3], "query", 64),
        hash_vectors([f"find : {t}" for t in TEXTS[:3]], 16),
        atol=1e-6,
    )
    np.testing.assert_allclose(
        model.embed(TEXTS[:3], "document", 64), hash_vectors(TEXTS[:3], 16), atol=1e-6
    )
    assert (model.prompt("query"), model.prompt("document")) == ("find : ", "")
    assert model.space("query", 64).prompt == "find : "
    names = {
        make(server, p, **c).fingerprint
        for p in ({}, {"query": "a"}, {"document": "a"})
        for c in ({}, {"dimensions": 8})
    }
    assert len(names) == 6
    assert (
        make(server).fingerprint
        == make(server, {"query": ""}, texts_per_request=1, timeout_s=9.0).fingerprint
    )
    elsewhere = at("http://elsewhere:1/v1")
    assert (
        OpenAIEmbedder(MODEL, elsewhere, {}).fingerprint
        != OpenAIEmbedder("other", elsewhere, {}).fingerprint
    )


def test_a_password_in_the_address_is_no_part_of_the_fingerprint():
    plain, secret = (at(f"http://{who}host:1/v1") for who in ("", "ann:pw@"))
    assert (
        OpenAIEmbedder(MODEL, plain, {}).fingerprint
        == OpenAIEmbedder(MODEL, secret, {}).fingerprint
    )


def test_the_space_does_not_hang_on_the_cut(server):
    model = make(server)
    assert model.space("query", 64) == model.space("query", 256)
    assert (model.space("query", 64).dim, model.space("query", 64).normalized) == (16, True)
    assert len(server.requests) == 1


def test_dimensions_are_sent_only_where_they_are_asked_for(server):
    assert make(server, dimensions=8).embed(TEXTS[:5], "query", 64).shape == (5, 8)
    assert {r.body["dimensions"] for r in server.requests} == {8}


def test_a_server_that_ignores_the_dimensions_is_refused(server):
    server.script = lambda request: "dim:16"
    with pytest.raises(LeafkitError, match="16 dimensions where 8 were expected") as caught:
        make(server, dimensions=8).embed(TEXTS, "query", 64)
    assert "embeddings.dimensions" in caught.value.hint


def test_vectors_that_are_not_normalized_stay_so(server):
    server.script = lambda request: "long"
    model = make(server)
    np.testing.assert_allclose(
        model.embed(TEXTS, "query", 64), 3 * hash_vectors(TEXTS, 16), rtol=1e-5
    )
    assert not model.space("query", 64).normalized


def test_a_server_without_base64_is_asked_for_floats(server):
    server.script = lambda request: (
        "400:encoding_format" if request.body["encoding_format"] == "base64" else "good"
    )
    model = make(server)
    np.testing.assert_allclose(model.embed(TEXTS, "query", 64), hash_vectors(TEXTS, 16), atol=1e-6)
    assert sum(r.body["encoding_format"] == "base64" for r in server.requests) == 1


def test_no_texts_cost_nothing_but_the_dimension(server):
    assert make(server).embed([], "query", 64).shape == (0, 16)
    assert len(server.requests) == 1


def test_no_more_requests_at_once_than_allowed(server):
    server.script = lambda request: "slow:0.05"
    make(server, texts_per_request=2).embed(TEXTS, "query", 64)
    assert server.max_at_once == 3


@pytest.mark.parametrize(
    "behaviour",
    [
        "429",
        "wait:0.01",
        "500",
        "503",
        "408",
        "drop",
        "half",
        "raw:<html>busy</html>",
        "raw:{}",
        "raw:[]",
        "raw:",
        'raw:{"data": {}}',
        'raw:{"data": [1]}',
        'raw:{"data": [{"index": 0}]}',
        'raw:{"error": "busy"}',
    ],
)
def test_what_may_pass_is_asked_for_again(server, behaviour):
    server.script = after_probe(behaviour, 3)
    np.testing.assert_allclose(
        make(server).embed(TEXTS, "query", 64), hash_vectors(TEXTS, 16), atol=1e-6
    )
    assert len(server.requests) == 1 + 8 + 1


@pytest.mark.parametrize("behaviour", ["500", "drop", "raw:garbage"])
def test_what_does_not_pass_ends_after_the_retries(server, behaviour):
    server.script = lambda request: "good" if request.number < 4 else behaviour
    with pytest.raises(LeafkitError, match="gave no vectors of 'chatter' in 3 tries") as caught:
        make(server, max_concurrency=1).embed(TEXTS, "query", 64)
    assert len(server.requests) == 4 + 3
    assert "the same command continues" in caught.value.hint


@pytest.mark.parametrize("behaviour", ["hang", "dribble"])
def test_a_late_answer_is_a_timeout_however_it_is_late(server, behaviour):
    server.script = after_probe(behaviour)
    started_s = time.perf_counter()
    make(server, timeout_s=0.5).embed(TEXTS[:8], "query", 64)
    assert time.perf_counter() - started_s < 8
    assert len(server.requests) == 1 + 2 + 1


def test_an_endless_answer_is_cut_off(server, monkeypatch):
    monkeypatch.setattr(endpoint_module, "_OVERHEAD_BYTES", 100_000)
    server.script = after_probe("endless")
    make(server, timeout_s=30.0).embed(TEXTS[:4], "query", 64)
    assert len(server.requests) == 3


def test_retry_after_is_obeyed(server):
    times: list[float] = []

    def script(request: Request) -> str:
        times.append(time.perf_counter())
        return "wait:0.4" if request.number == 1 else "good"

    server.script = script
    make(server, max_concurrency=1).embed(TEXTS[:4], "query", 64)
    assert times[2] - times[1] >= 0.4


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (401, "OPENAI_API_KEY"),
        (403, "OPENAI_API_KEY"),
        (404, "embeddings.endpoint.base_url"),
        (418, "own words"),
    ],
)
def test_a_refusal_stops_at_once_and_shows_no_key(server, status, hint):
    server.script = lambda request: f"{status}:you may not, {KEY}"
    with pytest.raises(LeafkitError) as caught:
        make(server).embed(TEXTS, "query", 64)
    assert all(
        part in str(caught.value) for part in (server.url, MODEL, str(status), "you may not, ***")
    )
    assert KEY not in str(caught.value)
    assert hint in caught.value.hint
    assert len(server.requests) == 1


def test_a_request_that_is_refused_outright_is_no_matter_of_a_text(server):
    server.script = lambda request: "400:no such parameter"
    with pytest.raises(LeafkitError, match=r"status 400: .*no such parameter") as caught:
        make(server).embed(TEXTS, "query", 64)
    assert not isinstance(caught.value, RefusedText)
    assert len(server.requests) == 2  # once for each encoding


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("number", [0, 1])
def test_a_redirect_to_another_host_is_refused_and_sends_nothing_there(server, status, number):
    with chat_server() as other:
        for url in (
            other.url,
            other.url.replace("127.0.0.1", "localhost"),
            server.url.replace("127.0.0.1", "localhost"),
            server.url.replace("http://", "https://"),
        ):
            server.requests.clear()
            behaviour = f"to:{status}:{url}/embeddings?secret=1"
            server.script = lambda r, b=behaviour: b if r.number == number else "good"
            with pytest.raises(
                LeafkitError, match=r"sends requests on to .* not followed"
            ) as caught:
                make(server, max_concurrency=1).embed(TEXTS, "query", 64)
            assert "secret" not in str(caught.value)
            assert "embeddings.endpoint.base_url" in caught.value.hint
            assert len(server.requests) == number + 1  # it is no error that passes
        assert other.requests == []


def test_a_redirect_within_the_host_is_followed(server):
    server.script = after_probe(f"to:307:{server.url}/elsewhere")
    found = make(server, max_concurrency=1).embed(TEXTS, "query", 64)
    assert found.shape == (len(TEXTS), 16)
    assert server.requests[2].path == "/v1/elsewhere"


@pytest.mark.parametrize("key", [KEY, ""])
def test_the_host_is_said_before_texts_go_there(server, monkeypatch, capsys, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    model = make(server)
    for _ in range(2):
        model.embed(TEXTS, "query", 64)
    told = f"  texts go to {server.url}" + ", the key in OPENAI_API_KEY with them" * bool(key)
    said = capsys.readouterr().out
    assert [line for line in said.splitlines() if "go to" in line] == [told]
    assert KEY not in said


def test_an_account_without_credit_is_no_rate_limit(server):
    server.script = lambda request: (
        '429:{"error": {"message": "you exceeded your quota", "code": "insufficient_quota"}}'
    )
    with pytest.raises(LeafkitError, match="exceeded your quota"):
        make(server).embed(TEXTS, "query", 64)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_text_that_is_too_long_is_named_by_its_number(server, status):
    texts = [*TEXTS[:21], "much too long " * 100, *TEXTS[21:]]
    server.script = lambda r: (
        f"{status}:at most 512 tokens" if max(map(len, r.texts)) > 1000 else "good"
    )
    with pytest.raises(
        RefusedText,
        match=rf"^text 21 \('much too long .*status {status}: .*at most 512 tokens; it has 1,400",
    ) as caught:
        make(server, texts_per_request=8).embed(texts, "query", 64)
    assert caught.value.number == 21
    assert "shorten" in caught.value.hint


def test_the_number_counts_all_texts_of_a_store(server, tmp_path):
    texts = [*TEXTS[:21], "much too long " * 100, *TEXTS[21:]]
    server.script = lambda r: "400:too long" if max(map(len, r.texts)) > 1000 else "good"
    model = make(server)
    store = VectorStore(tmp_path / "s", model.space("query", 64), texts, rows_per_shard=8)
    with pytest.raises(RefusedText, match=r"^text 21 ") as caught:
        fill_store(store, model, texts, "query", title="test")
    assert caught.value.number == 21
    assert [shard.number for shard in store.missing()] == [2, 3]


def test_too_many_texts_in_a_request_are_halved_until_they_fit_and_that_is_remembered(server):
    server.script = lambda request: "422:batch size > 3" if len(request.texts) > 3 else "good"
    model = make(server, texts_per_request=12, max_concurrency=1)
    np.testing.assert_allclose(model.embed(TEXTS, "query", 64), hash_vectors(TEXTS, 16), atol=1e-6)
    assert sum(len(request.texts) > 3 for request in server.requests) == 2  # 12, then 6
    assert max(server.prompts().values()) == 1


@pytest.mark.parametrize(
    ("behaviour", "match"),
    [
        ("fewer", "gives 3 vectors .* for 4 texts"),
        ("more", "gives 5 vectors .* for 4 texts"),
        ("twice", "for 4 texts: no telling which is whose"),
        ("oddindex", "for 4 texts: no telling"),
        ("dim:17", "a vector of 17 dimensions where 16 were expected"),
        ("empty:1", "a vector of 0 dimensions where 16"),
        ("null:2", r"text 6 \('text number 6.*gives no vector for it"),
        ("hole:2", "text 6 .*gives no vector for it"),
        ("text:1", "text 5 .*gives no vector for it"),
        ("nested:1", "text 5 .*gives no vector"),
        ("words:1", "text 5 .*gives no vector"),
        ("nan:3", "text 7 .*not finite"),
        ("inf:3", "text 7 .*not finite"),
        ("huge:3", "text 7 .*gives no vector"),
        ("short64", "text 4 .*gives no vector|of 0 dimensions"),
        ("zero", "text 4 .*gives a vector of zeros for it"),
        ("long", "text 4 .*vector of length 3, where it"),
    ],
)
def test_answers_that_are_no_vectors_of_this_model_are_refused(server, behaviour, match):
    server.script = after_probe(behaviour, 2)
    with pytest.raises(LeafkitError, match=match) as caught:
        make(server, max_concurrency=1).embed(TEXTS, "query", 64)
    assert caught.value.hint
    assert len(server.requests) == 3


@pytest.mark.parametrize("behaviour", ["null", "nan", "zero", "fewer", "empty", "raw:"])
def test_a_probe_that_fails_leaves_no_memory(server, tmp_path, behaviour):
    server.script = lambda request: behaviour
    model = make(server, memory=tmp_path / "vectors")
    with pytest.raises(LeafkitError):
        _ = model.dim
    assert not list(tmp_path.rglob("*.json"))
    server.script = lambda request: "good"
    assert model.dim == 16


# --- what is remembered


def test_a_later_run_knows_the_space_without_a_request(server, tmp_path):
    make(server, memory=tmp_path).embed(TEXTS, "query", 64)
    count = len(server.requests)
    later = make(server, memory=tmp_path)
    assert later.space("query", 64) == make(server, memory=tmp_path).space("query", 9)
    assert later.dim == 16
    assert len(server.requests) == count
    later.embed(TEXTS[:4], "query", 64)
    assert len(server.requests) == count + 2  # the probe again, to see that the same model answers


def test_another_dimension_than_before_is_refused(server, tmp_path):
    make(server, memory=tmp_path).embed(TEXTS, "query", 64)
    server.dim = 24
    with pytest.raises(LeafkitError, match="24 dimensions where 16 were expected"):
        make(server, memory=tmp_path).embed(TEXTS, "query", 64)


def test_another_model_of_the_same_dimension_under_the_same_name_is_refused(server, tmp_path):
    make(server, memory=tmp_path).embed(TEXTS, "query", 64)
    server.embed = lambda texts, dim: hash_vectors([f"other {text}" for text in texts], dim)
    with pytest.raises(LeafkitError, match="another model answers under the old name") as caught:
        make(server, memory=tmp_path).embed(TEXTS, "query", 64)
    (memory,) = tmp_path.glob("endpoint-*.json")
    assert str(memory) in caught.value.hint
    # rounding is no other model
    server.embed = lambda texts, dim: hash_vectors(texts, dim) + np.float32(1e-3)
    make(server, memory=tmp_path).embed(TEXTS[:2], "query", 64)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"dim": 16}', '{"dim": 3, "normalized": true, "probe": [1, 0]}']
)
def test_a_corrupt_memory_is_named(server, tmp_path, content):
    _ = make(server, memory=tmp_path).dim
    (memory,) = tmp_path.glob("endpoint-*.json")
    memory.write_text(content)
    with pytest.raises(LeafkitError, match="is corrupt") as caught:
        _ = make(server, memory=tmp_path).dim
    assert "delete it" in caught.value.hint


def test_the_memory_holds_no_key(server, tmp_path):
    _ = make(server, memory=tmp_path).dim
    (memory,) = tmp_path.glob("endpoint-*.json")
    assert KEY not in memory.read_text()
    assert json.loads(memory.read_text())["model"] == MODEL


def test_matryoshka_dimensions_must_be_the_models(server):
    assert make(server, mrl_dims=[4, 8]).mrl_dims == (8, 4)
    with pytest.raises(
        LeafkitError, match=r"teacher\.mrl_dims=\[32, 8\] are not between 1 and the 16"
    ):
        _ = make(server, mrl_dims=[32, 8]).dim


# --- address and key


def test_the_key_and_the_address_are_checked_before_anything_is_sent(server, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UsageError, match="OPENAI_API_KEY is not set") as caught:
        _ = OpenAIEmbedder(MODEL, EmbeddingsConfig(), {}).dim
    assert "embeddings.endpoint.api_key_env" in caught.value.hint
    with pytest.raises(
        UsageError,
        match=r"embeddings\.endpoint\.base_url \(or OPENAI_BASE_URL\) is no http address",
    ):
        OpenAIEmbedder(MODEL, at("localhost:8000"), {})
    assert make(server).embed(TEXTS[:1], "query", 64).shape == (1, 16)
    assert server.requests[0].headers["authorization"] == "Bearer none"


# --- a killed run

SCRIPT = """
    import sys
    from pathlib import Path
    from leafkit.config import EmbeddingsConfig, EndpointConfig
    from leafkit.data.vector_store import VectorStore
    from leafkit.embedders.fill_store import fill_store
    from leafkit.embedders.openai_api import OpenAIEmbedder
    texts = [f"text {i}" for i in range(64)]
    endpoint = EndpointConfig(base_url=sys.argv[1], max_concurrency=2, backoff_s=0.01)
    config = EmbeddingsConfig(endpoint=endpoint, texts_per_request=4)
    model = OpenAIEmbedder("chatter", config, {}, memory=Path(sys.argv[2]))
    space = model.space("query", 64)
    store = VectorStore(Path(sys.argv[2]) / "store", space, texts, rows_per_shard=16)
    print("computed", fill_store(store, model, texts, "query", title="test"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_run_pays_for_no_finished_shard_twice(server, tmp_path, how):
    """16 requests fill four shards; the eleventh never comes back, then the process is killed."""
    stuck: list[int] = []

    def script(request: Request) -> str:
        if request.number >= 11 and not stuck:
            stuck.append(request.number)
            return "hang"
        return "slow:0.02"

    server.script = script
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), server.url, str(tmp_path)]
    child = subprocess.Popen(
        command, env=tiny.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not stuck and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    os.kill(child.pid, how)
    assert child.wait(timeout=30) != 0
    texts = [f"text {i}" for i in range(64)]
    committed = sorted(int(p.stem) for p in (tmp_path / "store").glob("0*.json"))
    assert committed == [0, 1]
    before = len(server.requests)
    server.script = lambda request: "good"
    done = subprocess.run(
        command, env=tiny.environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip().endswith("computed 32"), done.stderr
    again = [text for request in server.requests[before:] for text in request.texts]
    assert sorted(again) == sorted([PROBE, *texts[32:]])
    space = OpenAIEmbedder(MODEL, at(server.url), {}, memory=tmp_path).space("query", 64)
    store = VectorStore(tmp_path / "store", space, texts, rows_per_shard=16)
    assert store.missing() == []
    np.testing.assert_allclose(store[:], hash_vectors(texts, 16), atol=1e-3)
