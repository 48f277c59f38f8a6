"""A server that holds a promise: queries climb the ladder, and answers say who gave them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from ladder_case import climb, finish, write_recipe
from served import error_of

from leafkit.core.artifact import read_manifest, seal
from leafkit.core.errors import UsageError
from leafkit.pipeline.ladder.router import open_router
from leafkit.pipeline.load_pair import load_pair
from leafkit.results import Ladder
from leafkit.server.serve import serve
from leafkit.server.settings import ServerSettings, check_settings

PROMISE = 0.5
QUERIES = ["solve the matrix", "a calendar and the currency value lazily", "sort", "how do i merge"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("ladder")
    recipe = write_recipe(root, num_test=0, promises=[PROMISE, 0.9999])
    made = finish(recipe)
    assert climb(recipe).promises[0].is_held
    return made


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[httpx.Client]:
    with (
        serve(folder, port=0, block=False, name="mini", promise=PROMISE, max_hits=50) as server,
        httpx.Client(base_url=server.url, timeout=120) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def router(folder):
    pair = load_pair(folder)
    return pair, open_router(folder, pair, PROMISE)


def search(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.post("/v1/search", json={"query": QUERIES[0]} | body)


@pytest.mark.parametrize("query", QUERIES)
def test_a_search_is_answered_by_a_rung_and_says_which(client, router, query):
    pair, opened = router
    answer = search(client, query=query, k=7).json()
    assert (answer["mode"], answer["promise"]) == ("ladder", PROMISE)
    rung = answer["rung"]
    assert rung in opened.route
    model = opened.models.get(rung) or pair.teacher
    vector = model.embed([query], "query", model.max_tokens)[0]
    scores = np.sort(pair.document_matrix() @ vector)[::-1]
    np.testing.assert_allclose([row["score"] for row in answer["data"]], scores[:7], atol=1e-5)
    asked = search(client, query=query, mode="ladder", k=3).json()
    assert (asked["rung"], len(asked["data"])) == (rung, 3)
    assert search(client, query=query, k=50).json()["data"][:7] == answer["data"]


def test_embeddings_of_queries_are_routed_one_by_one(client, router):
    pair, opened = router
    body = {"model": "mini:query", "input": QUERIES}
    answer = client.post("/v1/embeddings", json=body).json()
    assert answer["promise"] == PROMISE
    assert answer["rungs"] == [search(client, query=query).json()["rung"] for query in QUERIES]
    for row, rung, query in zip(answer["data"], answer["rungs"], QUERIES, strict=True):
        model = opened.models.get(rung) or pair.teacher
        wanted = model.embed([query], "query", model.max_tokens)[0]
        np.testing.assert_allclose(row["embedding"], wanted, atol=1e-5)
    documents = client.post("/v1/embeddings", json=body | {"model": "mini:document"}).json()
    assert "promise" not in documents


def test_what_the_promise_does_not_cover_is_the_students_and_says_so(client):
    for field in ({"dimensions": 24}, {"output_dtype": "int8"}):
        body = {"model": "mini", "input": QUERIES[0], **field}
        answer = client.post("/v1/embeddings", json=body).json()
        assert (answer["promise"], answer["rungs"]) == (None, ["student"]), field
    for field in (
        {"dimensions": 24},
        {"precision": "int8"},
        {"rescore": 2},
        {"input_type": "document"},
    ):
        assert search(client, **field).json()["mode"] == "asymmetric", field
        refused = search(client, mode="ladder", **field)
        assert refused.status_code == 400
        assert error_of(refused)["param"] == next(iter(field))
    vector = {"query": None, "vector": [1.0] + [0.0] * 47}
    assert search(client, **vector).json()["mode"] == "asymmetric"
    assert search(client, **vector, mode="ladder").status_code == 400
    assert search(client, mode="asymmetric").json()["mode"] == "asymmetric"


def test_too_long_a_query_is_refused_where_it_may_not_be_cut(client):
    long = "matrix " * 5000
    cut = search(client, query=long[:6000])
    assert cut.status_code == 200
    rung = cut.json()["rung"]
    refused = search(client, query=long[:6000], truncate=False)
    assert refused.status_code == (200 if rung == "table" else 400)


def test_metrics_count_the_rungs_and_models_name_them(client, router):
    def routed() -> dict[str, float]:
        lines = client.get("/metrics").text.splitlines()
        found = (line.split() for line in lines if line.startswith("leafkit_routed_total"))
        return {name.split('"')[1]: float(value) for name, value in found}

    before = routed()
    rung = search(client).json()["rung"]
    after = routed()
    assert after[rung] == before.get(rung, 0) + 1
    assert sum(after.values()) == sum(before.values()) + 1
    rows = {row["id"]: row for row in client.get("/v1/models").json()["data"]}
    assert rows["mini:query"]["promise"] == PROMISE
    assert rows["mini:query"]["route"] == list(router[1].route)
    assert "promise" not in rows["mini:document"]


def test_the_teacher_answers_what_no_rung_is_sure_of(folder, tmp_path):
    """With a threshold below every prediction; the teacher is loaded when it is first asked."""
    shutil.copytree(folder, tmp_path / "tiny")
    path = tmp_path / "tiny" / "ladder" / "router" / "ladder.json"
    ladder = Ladder.load(path)
    promises = ladder.promises
    moved = replace(promises[0], threshold=-100.0)
    replace(ladder, promises=(moved, *promises[1:])).save(path)
    manifest = read_manifest(path.parent)
    seal(path.parent, manifest.step, manifest.inputs, {}, metrics={}, method=manifest.method)
    with (
        serve(tmp_path / "tiny", port=0, block=False, promise=PROMISE) as server,
        httpx.Client(base_url=server.url, timeout=120) as client,
    ):
        assert client.get("/ready").json()["teacher"] == "lazy"
        answer = search(client).json()
        assert answer["rung"] == "teacher"
        teacher = search(client, mode="teacher").json()
        assert [row["id"] for row in answer["data"]] == [row["id"] for row in teacher["data"]]
        assert client.get("/ready").json()["teacher"] == "loaded"


def test_a_server_without_a_promise_has_no_ladder(folder):
    with (
        serve(folder, port=0, block=False) as server,
        httpx.Client(base_url=server.url, timeout=120) as client,
    ):
        assert search(client).json()["mode"] == "asymmetric"
        refused = search(client, mode="ladder")
        assert refused.status_code == 400
        assert "holds no promise" in error_of(refused)["message"]
        body = {"model": "leafkit", "input": "a"}
        assert "promise" not in client.post("/v1/embeddings", json=body).json()


def test_a_promise_that_is_not_held_ends_the_start(folder):
    with pytest.raises(UsageError, match="teacher alone") as refused:
        serve(folder, port=0, block=False, promise=0.9999)
    assert "promise=0.5 at" in refused.value.hint
    with pytest.raises(UsageError, match="the ladder lies in the folder"):
        serve(load_pair(folder), port=0, block=False, promise=PROMISE)


@pytest.mark.parametrize("promise", [1, 1.0, -0.1, True, "0.9", float("nan")])
def test_a_promise_that_is_no_share(promise):
    with pytest.raises(UsageError, match="no share of the teacher's"):
        check_settings(ServerSettings(promise=promise))


def test_a_promise_needs_the_teacher():
    with pytest.raises(UsageError, match="teacher=off"):
        check_settings(ServerSettings(promise=0.9, teacher="off"))
    assert check_settings(ServerSettings(promise=0.9)).promise == 0.9


@pytest.mark.slow
def test_workers_hold_the_promise_together(folder):
    with (
        serve(folder, port=0, block=False, promise=PROMISE, workers=2) as server,
        httpx.Client(base_url=server.url, timeout=120) as client,
    ):
        answers = [search(client, query=query).json() for query in QUERIES * 2]
        assert {answer["promise"] for answer in answers} == {PROMISE}
        rungs = [answer["rung"] for answer in answers]
        assert rungs[: len(QUERIES)] == rungs[len(QUERIES) :]
