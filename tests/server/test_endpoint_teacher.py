"""A promise whose last rung is a teacher behind an endpoint, which is opened without a recipe."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from ladder_case import climb, finish, with_ladder, write_recipe
from synth_server import MODEL, ChatServer, chat_server

from leafkit import export
from leafkit.core.artifact import read_manifest, seal
from leafkit.core.checkpoint_layout import MODEL_SPACE_FILE
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.truncate import truncate_then_normalize
from leafkit.embedders.kept_endpoint import ENDPOINT_KEY
from leafkit.embedders.make_embedder import make_embedder
from leafkit.models.encoder_protocol import read_model
from leafkit.pipeline.load_pair import load_pair
from leafkit.results import Ladder
from leafkit.server.serve import serve

PROMISE = 0.5
QUERY = "solve the matrix"
OPENAI = "https://api.openai.com/v1"


@pytest.fixture(
    scope="module",
    params=[pytest.param(0, id="whole"), pytest.param(24, id="cut", marks=pytest.mark.slow)],
)
def made(request, tmp_path_factory) -> Iterator[tuple[Path, ChatServer, int]]:
    """A recipe's folder whose queries all climb to the teacher, its endpoint, and the dimensions
    that are asked of that.
    """
    root = tmp_path_factory.mktemp("endpoint")
    recipe = write_recipe(root, num_test=0, promises=[PROMISE], rungs=["table"])
    model = make_embedder(read_model(root / "big"))

    def embed(texts: list[str], dim: int) -> np.ndarray:
        vectors = model.embed(texts, "document", model.max_tokens)
        return truncate_then_normalize(vectors, dim)

    def change(ladder: Ladder) -> Ladder:
        (first,) = ladder.promises
        return replace(ladder, promises=(replace(first, threshold=-100.0),))

    with chat_server() as server:
        server.embed, server.dim = embed, 48
        words = (
            f"teacher.source=endpoint:{MODEL}",
            f"embeddings.endpoint.base_url={server.url}",
            f"embeddings.dimensions={request.param}",
        )
        folder = finish(recipe, *words)
        assert climb(recipe, *words).promises[0].is_held
        yield with_ladder(folder, root / "copy" / "tiny", change), server, request.param


@pytest.fixture(autouse=True)
def no_address(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def start(folder: Path, **settings: Any):
    # it was calibrated on documents that the student has seen
    return serve(folder, port=0, block=False, promise=PROMISE, unverified=True, **settings)


def with_space(folder: Path, copy: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of a recipe's folder whose student says something else of its space."""
    shutil.copytree(folder, copy)
    path = copy / "student" / MODEL_SPACE_FILE
    space = json.loads(path.read_text())
    change(space)
    path.write_text(json.dumps(space))
    manifest = read_manifest(path.parent)
    seal(path.parent, manifest.step, manifest.inputs, {}, metrics={}, method=manifest.method)
    return copy


def test_a_climbing_query_is_answered_by_the_endpoint(made):
    folder, endpoint, dimensions = made
    with (
        start(folder) as server,
        httpx.Client(base_url=server.url, timeout=120) as client,
    ):
        asked = client.post("/v1/search", json={"query": QUERY, "k": 7})
        body = {"model": "leafkit", "input": [QUERY]}
        embedded = client.post("/v1/embeddings", json=body).json()
    assert asked.status_code == 200, asked.text
    answer = asked.json()
    assert (answer["rung"], answer["promise"]) == ("teacher", PROMISE)
    assert embedded["rungs"] == ["teacher"]
    vector = endpoint.embed([QUERY], dimensions or 48)[0]
    np.testing.assert_allclose(embedded["data"][0]["embedding"], vector, atol=1e-5)
    scores = np.sort(load_pair(folder).document_matrix() @ vector)[::-1]
    np.testing.assert_allclose([row["score"] for row in answer["data"]], scores[:7], atol=1e-5)
    assert endpoint.requests[-1].body.get("dimensions", 0) == dimensions


def test_another_endpoint_ends_the_start_and_nothing_is_sent(made, tmp_path):
    folder, endpoint, dimensions = made
    count = len(endpoint.requests)
    other = "http://127.0.0.1:1/v1"
    changes: tuple[dict[str, Any], ...] = ({"base_url": other}, {"dimensions": 12})
    for number, change in enumerate(changes):
        moved = with_space(
            folder,
            tmp_path / str(number),
            lambda space, new=change: space[ENDPOINT_KEY].update(new),
        )
        with pytest.raises(LeafkitError, match="is not the teacher of these documents") as refused:
            start(moved)
        assert change.get("base_url", endpoint.url) in refused.value.hint
        assert f"dimensions={change.get('dimensions', dimensions)}," in str(refused.value)
    assert len(endpoint.requests) == count


def test_a_key_that_is_none_ends_the_start(made, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "two\nlines")
    with pytest.raises(UsageError, match="the environment variable OPENAI_API_KEY holds no key"):
        start(made[0])


def test_a_pair_that_keeps_no_address_takes_that_of_the_environment(made, tmp_path, monkeypatch):
    """As those do that were made before it was kept."""
    folder, endpoint, dimensions = made
    old = with_space(folder, tmp_path / "old", lambda space: space.pop(ENDPOINT_KEY))
    with pytest.raises(LeafkitError, match="is not the teacher of these documents") as refused:
        start(old)
    assert f"another address than {OPENAI}, OPENAI_BASE_URL names" in refused.value.hint
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
    if dimensions:
        with pytest.raises(LeafkitError, match="is not the teacher of these") as refused:
            start(old)
        assert endpoint.url in refused.value.hint
        return
    with (
        start(old) as server,
        httpx.Client(base_url=server.url, timeout=120) as client,
    ):
        assert client.post("/v1/search", json={"query": QUERY}).json()["rung"] == "teacher"


def test_an_endpoint_that_only_the_pair_names_needs_the_users_word(made, tmp_path):
    """The pair may be somebody else's, and the key would go with the texts."""
    folder, _, _ = made
    theirs = with_space(
        folder,
        tmp_path / "theirs",
        lambda space: space[ENDPOINT_KEY].update(base_url="https://evil.org/v1"),
    )
    with pytest.raises(UsageError, match=r"the pair wants to send texts, .* to evil\.org: ") as one:
        start(theirs)
    assert "allow_hosts=evil.org" in one.value.hint
    with pytest.raises(LeafkitError, match="is not the teacher of these documents"):
        start(theirs, allow_hosts=["evil.org"])
    pair = load_pair(theirs)
    assert len(pair.search(QUERY, k=2)) == 2  # the student alone sends nothing
    with pytest.raises(UsageError, match="the pair wants to send"):
        pair.encode_document("a")
    with (  # without a promise the teacher is not asked before a document is
        serve(theirs, port=0, block=False) as server,
        httpx.Client(base_url=server.url, timeout=120) as client,
    ):
        body = {"model": "leafkit:document", "input": [QUERY]}
        refused = client.post("/v1/embeddings", json=body)
        assert refused.status_code == 503
        assert "allow_hosts=evil.org" in refused.text
        assert client.post("/v1/search", json={"query": QUERY}).status_code == 200
    with pytest.raises(UsageError, match="the pair that was given opens its teacher itself"):
        serve(pair, port=0, block=False, allow_hosts=["evil.org"])


def test_a_pair_that_is_saved_keeps_it_and_what_is_published_does_not(made, tmp_path):
    folder, endpoint, dimensions = made
    load_pair(folder).save(tmp_path / "saved")
    kept = load_pair(tmp_path / "saved").endpoint
    assert kept is not None
    assert (kept.base_url, kept.dimensions) == (endpoint.url, dimensions)
    vector = load_pair(tmp_path / "saved").encode_document(QUERY)
    np.testing.assert_allclose(vector, endpoint.embed([QUERY], dimensions or 48)[0], atol=1e-5)
    for number, source in enumerate((folder, load_pair(folder))):
        export(source, tmp_path / str(number), to=["student"])
        files = list((tmp_path / str(number)).rglob(MODEL_SPACE_FILE))
        assert files
        assert not any(endpoint.url in path.read_text() for path in files)
