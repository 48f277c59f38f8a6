"""Malformed requests by the thousand: each is the caller's error in OpenAI's shape, none is the
server's, and the next good request has its answer.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from typing import Any

import httpx
import numpy as np
import pytest
from served import make_pair

from leafkit.server.app import make_app
from leafkit.server.service import Service
from leafkit.server.settings import ServerSettings

KEY = "k-5d1"
GOOD: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {"model": "mini", "input": "draw"},
    "/v1/search": {"query": "draw", "k": 2},
    "/embed": {"inputs": "draw"},
}
FIELDS = {
    "/v1/embeddings": (
        "model input dimensions encoding_format user input_type output_dtype truncate "
        "expected_space"
    ).split(),
    "/v1/search": (
        "query vector input_type k mode dimensions precision rescore index truncate expected_space"
    ).split(),
    "/embed": (
        "inputs truncate truncation_direction normalize prompt_name dimensions expected_space"
    ).split(),
}
TEXTS = [
    "",
    " ",
    "\0",
    "draw",
    "\ud800",
    "a\udfffb",
    "\ufeff",
    "\u202e\x1b[2J",
    "😀" * 50,
    "a" * 5000,
    "query",
    "document",
    "int8",
    "base64",
    "mini:document",
    "__proto__",
    "../../etc/passwd",
    "%s%n",
    "{{7*7}}",
]
NUMBERS = [0, -1, 1, 2, 8, 9, 32, 33, 2**31, 2**63, 10**40, 0.5, -0.0, 1e-320, 1e308, True, False]
HOSTS = ["", " ", "[", "[::1", "]:80", "a:b:c", "a/../b?c#d", "\xff\xfe", "a\tb", "h" * 9000, "%00"]
# what Python's json writes for these is no JSON
NOT_JSON = [float("nan"), float("inf"), float("-inf")]


def any_value(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(12 if depth < 3 else 6)
    if kind < 2:
        return rng.choice(TEXTS)
    if kind < 4:
        return rng.choice(NUMBERS)
    if kind == 4:
        return None
    if kind == 5:
        return rng.choice(NOT_JSON)
    if kind < 9:
        return [any_value(rng, depth + 1) for _ in range(rng.choice((0, 1, 2, 9, 32, 33)))]
    if kind == 9:
        return [rng.uniform(-1, 1) for _ in range(rng.choice((8, 16, 31, 32, 33)))]
    if kind == 10:
        return [rng.randrange(30_000) for _ in range(rng.randrange(1, 40))]
    return {rng.choice(TEXTS): any_value(rng, depth + 1) for _ in range(rng.randrange(4))}


def random_bytes(rng: random.Random, body: bytes) -> bytes:
    """A body that is broken on its way."""
    kind = rng.randrange(9)
    if kind == 0:
        return body[: rng.randrange(len(body))]
    if kind == 1:
        return rng.randbytes(rng.randrange(1, 200))
    if kind == 2:
        at = rng.randrange(len(body))
        return body[:at] + rng.randbytes(rng.randrange(1, 4)) + body[at + 1 :]
    if kind == 3:
        opened = rng.choice((b"[", b'{"a":', b'{"input":['))
        return opened * rng.choice((50, 900, 5_000, 60_000))
    if kind == 4:
        depth = rng.choice((50, 900, 5_000))
        return b'{"model":"mini","input":' + b"[" * depth + b"]" * depth + b"}"
    if kind == 5:
        return body.decode("utf-8", "replace").encode(rng.choice(("utf-16", "utf-32", "utf-7")))
    if kind == 6:
        return rng.choice((b"", b"null", b"[]", b"3", b'"draw"', b"NaN", b"\xef\xbb\xbf" + body))
    if kind == 7:
        return b'{"model":"mini","model":3,"input":' + b"9" * rng.choice((10, 5000)) + b"}"
    size = rng.choice((100_000, 3_000_000)) if rng.random() < 0.3 else 1000
    return b'{"model":"mini","input":"' + b"a" * size + b'","query":"' + b"a" * size + b'"}'


def random_request(rng: random.Random) -> tuple[str, str, dict[str, str], bytes]:
    """Method, path, headers and body; most have one thing wrong, some have many, a few nothing."""
    path = rng.choice(list(GOOD))
    body = dict(GOOD[path])
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        name = rng.choice(FIELDS[path]) if rng.random() < 0.9 else rng.choice(TEXTS)
        body[name] = any_value(rng)
    if rng.random() < 0.1:
        body.pop(rng.choice(list(body)))
    content = json.dumps(body).encode()
    if rng.random() < 0.3:
        content = random_bytes(rng, content)
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    method = "POST"
    if rng.random() < 0.05:
        headers["authorization"] = rng.choice(
            ("", "Bearer", f"Bearer {KEY}x", f"Basic {KEY}", "Bearer \xff\xfe", f"bearer\t{KEY}")
        )
    if rng.random() < 0.05:
        method = rng.choice(("GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "BREW"))
    if rng.random() < 0.05:
        path = rng.choice(("/", "/v1", path + "/", path + "%00", "/v1/%ff", "//" + path, "/" * 500))
    if rng.random() < 0.05:
        headers["content-type"] = rng.choice(("text/plain", "multipart/form-data", "a/b; c=" * 20))
    if rng.random() < 0.05:
        headers["host"] = rng.choice(HOSTS)
    return method, path, headers, content


def problem_of(method: str, response: httpx.Response, whole: Counter[str]) -> str:
    """What is wrong with an answer; "" where nothing is."""
    if response.status_code >= 500:
        return "a 5xx"
    if method == "HEAD":
        return ""
    if response.status_code >= 400:
        found = response.json()
        if set(found) != {"error"} or set(found["error"]) != {"message", "type", "param", "code"}:
            return "not OpenAI's shape"
        return "" if found["error"]["message"] else "no message"
    whole["good"] += 1
    return ""


async def send_all(count: int, seed: int) -> tuple[Counter[int], Counter[str]]:
    """Statuses of ``count`` requests, eight at a time, with a good one after every fiftieth."""
    pair = make_pair()
    settings = ServerSettings(name="mini", api_key=KEY)
    service = Service(pair, settings)
    service.prepare()
    expected = pair.encode_query("draw")
    rng = random.Random(seed)
    statuses: Counter[int] = Counter()
    whole: Counter[str] = Counter()
    transport = httpx.ASGITransport(make_app(service))

    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:

        async def send(method: str, path: str, headers: dict[str, str], content: bytes) -> None:
            raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
            response = await client.request(
                method, f"http://here{path}", headers=raw, content=content
            )
            statuses[response.status_code] += 1
            problem = problem_of(method, response, whole)
            assert not problem, (problem, method, path, headers, content[:500], response.text[:500])

        for start in range(0, count, 8):
            await asyncio.gather(*(send(*random_request(rng)) for _ in range(8)))
            if start % 48 == 0:
                headers = {"authorization": f"Bearer {KEY}"}
                body = GOOD["/v1/embeddings"]
                answer = await client.post("/v1/embeddings", json=body, headers=headers)
                found = np.array(answer.json()["data"][0]["embedding"])
                np.testing.assert_allclose(found, expected, atol=1e-6)
    assert service.metrics.in_flight == 0
    assert sum(service.queues.values()) == 0
    service.close()
    return statuses, whole


def test_a_thousand_malformed_requests():
    statuses, whole = asyncio.run(send_all(1000, seed=1))
    assert sum(statuses.values()) == 1000
    # the generator reaches what it is meant to
    assert {200, 400, 401, 404, 405, 409, 413} <= statuses.keys()
    assert statuses[400] > 500
    assert whole["good"] < 300


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_ten_thousand_malformed_requests(seed):
    statuses, _ = asyncio.run(send_all(10_000, seed=seed))
    assert sum(statuses.values()) == 10_000


@pytest.mark.parametrize("host", HOSTS)
def test_an_odd_host_header_changes_no_answer(host):
    service = Service(make_pair(), ServerSettings(name="mini"))
    transport = httpx.ASGITransport(make_app(service))

    async def ask() -> list[httpx.Response]:
        raw = [(b"host", host.encode("latin-1"))]
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            paths = ("/health", "/v1/nothing", "/v1/embeddings", "/v1/embeddings/")
            return [await client.get(path, headers=raw) for path in paths]

    fine, missing, method, slash = asyncio.run(ask())
    service.close()
    assert fine.status_code == 200
    assert missing.json()["error"]["message"] == "GET /v1/nothing: Not Found"
    assert method.json()["error"]["message"] == "GET /v1/embeddings: Method Not Allowed"
    assert slash.json()["error"]["message"] == "GET /v1/embeddings/: Not Found"
