"""A server that holds a promise: queries climb the ladder, and answers say who gave them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from ladder_case import climb, finish, with_ladder, write_recipe
from served import error_of

from leafkit.core.errors import LeafkitError, UsageError
from leafkit.embedders.protocol import Embedder, RefusedText
from leafkit.pipeline.ladder.router import Router, open_router
from leafkit.pipeline.load_pair import load_pair
from leafkit.results import Ladder
from leafkit.results.agreement import SEEN
from leafkit.results.ladder import TEACHERS_OWN
from leafkit.server.answers.embeddings import answer_embeddings, check_embedding_request
from leafkit.server.answers.routed import route_queries
from leafkit.server.bad_request import BadRequest
from leafkit.server.serve import serve
from leafkit.server.service import Embedded, Service, Texts
from leafkit.server.settings import ServerSettings, check_settings

PROMISE = 0.5
LIMIT = 32  # tokens of a query, of the tiny recipe
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
        serve(
            folder,
            port=0,
            block=False,
            name="mini",
            promise=PROMISE,
            unverified=True,  # it was calibrated on documents that the student has seen
            max_hits=50,
        ) as server,
        httpx.Client(base_url=server.url, timeout=120) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def router(folder):
    pair = load_pair(folder)
    return pair, open_router(folder, pair, PROMISE, is_unverified=True)


def search(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.post("/v1/search", json={"query": QUERIES[0]} | body)


@pytest.mark.parametrize("query", QUERIES)
def test_a_search_is_answered_by_a_rung_and_says_which(client, router, query):
    pair, opened = router
    answer = search(client, query=query, k=7).json()
    assert (answer["mode"], answer["promise"]) == ("ladder", PROMISE)
    assert (answer["verification"], answer["truncated"]) == (SEEN, False)
    rung = answer["rung"]
    assert rung in opened.route
    model = opened.models.get(rung) or pair.teacher
    vector = model.embed([query], "query", LIMIT)[0]
    scores = np.sort(pair.document_matrix() @ vector)[::-1]
    np.testing.assert_allclose([row["score"] for row in answer["data"]], scores[:7], atol=1e-5)
    asked = search(client, query=query, mode="ladder", k=3).json()
    assert (asked["rung"], len(asked["data"])) == (rung, 3)
    assert search(client, query=query, k=50).json()["data"][:7] == answer["data"]


def test_embeddings_of_queries_are_routed_one_by_one(client, router):
    pair, opened = router
    body = {"model": "mini:query", "input": QUERIES}
    answer = client.post("/v1/embeddings", json=body).json()
    assert (answer["promise"], answer["verification"]) == (PROMISE, SEEN)
    assert answer["truncated"] == []
    assert answer["rungs"] == [search(client, query=query).json()["rung"] for query in QUERIES]
    for row, rung, query in zip(answer["data"], answer["rungs"], QUERIES, strict=True):
        model = opened.models.get(rung) or pair.teacher
        wanted = model.embed([query], "query", LIMIT)[0]
        np.testing.assert_allclose(row["embedding"], wanted, atol=1e-5)
    documents = client.post("/v1/embeddings", json=body | {"model": "mini:document"}).json()
    assert "promise" not in documents


def test_what_the_promise_does_not_cover_is_the_students_and_says_so(client):
    for field in ({"dimensions": 24}, {"output_dtype": "int8"}):
        body = {"model": "mini", "input": QUERIES[0], **field}
        answer = client.post("/v1/embeddings", json=body).json()
        assert (answer["promise"], answer["rungs"]) == (None, ["student"]), field
        assert answer["verification"] is None
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


LONG = "solve the matrix and merge the list " * 10  # of more than LIMIT tokens


def test_a_query_is_cut_where_those_were_that_calibrated(client, router):
    pair, opened = router
    assert opened.max_tokens == LIMIT
    answer = search(client, query=LONG, k=3).json()
    assert answer["truncated"] is True
    model = opened.models.get(answer["rung"]) or pair.teacher
    assert model.max_tokens > LIMIT
    vector = model.embed([LONG.strip()], "query", LIMIT)[0]
    scores = np.sort(pair.document_matrix() @ vector)[::-1]
    np.testing.assert_allclose([row["score"] for row in answer["data"]], scores[:3], atol=1e-5)
    assert answer["usage"]["prompt_tokens"] == LIMIT
    # what no promise is about is read as far as the student reads
    assert search(client, query=LONG, mode="asymmetric").json()["truncated"] is False


def test_texts_that_are_cut_are_named_by_their_own_number(client):
    body = {"model": "mini:query", "input": [QUERIES[0], LONG, QUERIES[1], LONG]}
    assert client.post("/v1/embeddings", json=body).json()["truncated"] == [1, 3]
    refused = client.post("/v1/embeddings", json=body | {"truncate": False})
    assert refused.status_code == 400
    message = error_of(refused)["message"]
    assert f"longer than the promise's {LIMIT} tokens" in message
    assert "input[1] (" in message
    assert "input[3] (" in message
    assert "input[0]" not in message
    refused = search(client, query=LONG, truncate=False)
    assert refused.status_code == 400
    assert ": query (" in error_of(refused)["message"]


@pytest.fixture
def service(router, monkeypatch) -> Iterator[tuple[Service, list[tuple[str, list[int]]]]]:
    """A service without HTTP, and what its rungs are asked: rung, and numbers of the texts."""
    pair, opened = router
    settings = ServerSettings(name="mini", promise=PROMISE, unverified=True)
    made, asked = Service(pair, settings, router=opened), []
    embed_at = made.embed_at

    async def record(rung: str, texts: Texts) -> Embedded:
        asked.append((rung, [texts.number_of(row) for row in range(len(texts.texts))]))
        return await embed_at(rung, texts)

    monkeypatch.setattr(made, "embed_at", record)
    yield made, asked
    made.close()


def some_stop_at_each(router: Router, monkeypatch) -> None:
    """Of the queries at a rung the first stops, at the teacher all."""

    def are_enough(self, rung, texts, visit, previous):
        is_last = rung == self.route[-1]
        assert (previous is None) == (rung == self.route[0])
        assert previous is None or len(previous) == len(visit) == len(texts)
        return np.array([is_last or row == 0 for row in range(len(texts))])

    monkeypatch.setattr(Router, "are_enough", are_enough)


def test_texts_at_one_rung_go_together(service, router, monkeypatch):
    made, asked = service
    opened = router[1]
    some_stop_at_each(opened, monkeypatch)
    found = asyncio.run(route_queries(made, Texts(QUERIES, "query", "input"), 10))
    steps = len(opened.route)
    assert asked == [(rung, list(range(i, 4))) for i, rung in enumerate(opened.route)]
    wanted = [*opened.route[:-1], *["teacher"] * (4 - steps + 1)]
    assert [one.rung for one in found] == wanted
    for query, one in zip(QUERIES, found, strict=True):
        model = opened.models.get(one.rung) or router[0].teacher
        np.testing.assert_allclose(one.vector, model.embed([query], "query", LIMIT)[0], atol=1e-5)


def test_a_text_that_the_teacher_refuses_has_its_own_number(service, router, monkeypatch):
    made, _ = service
    pair, opened = router
    some_stop_at_each(opened, monkeypatch)
    last = QUERIES[-1]

    def refuse(texts, role, max_tokens, bar=None):
        raise RefusedText(texts.index(last), last, "is refused", "leave it out")

    monkeypatch.setattr(pair.teacher, "embed", refuse)
    with pytest.raises(RefusedText, match=r"text 3 \('how do i merge'\): is refused"):
        asyncio.run(route_queries(made, Texts(QUERIES, "query", "input"), 10))


def test_a_vector_that_is_not_finite_is_named_by_its_own_number(service, router, monkeypatch):
    made, _ = service
    pair, opened = router
    some_stop_at_each(opened, monkeypatch)

    def broken(texts, role, max_tokens, bar=None):
        found = np.ones((len(texts), pair.dim), dtype=np.float32)
        found[-1] = np.nan
        return found

    monkeypatch.setattr(pair.teacher, "embed", broken)
    with pytest.raises(LeafkitError, match=r"the vector of input\[3\] is not finite"):
        asyncio.run(route_queries(made, Texts(QUERIES, "query", "input"), 10))


def test_what_was_cut_is_unknown_where_a_rung_cannot_count(service, router, monkeypatch):
    """As of an endpoint, whose tokenizer is not here."""
    made, _ = service
    some_stop_at_each(router[1], monkeypatch)
    monkeypatch.setattr("leafkit.server.service.uncut_lengths", unknown_of(router[0].teacher))
    body = {"model": "mini:query", "input": QUERIES}
    request = check_embedding_request(body, made)
    answer = asyncio.run(answer_embeddings(made, request))
    assert answer["rungs"][-1] == "teacher"
    assert answer["truncated"] is None
    first = check_embedding_request(body | {"input": QUERIES[:1]}, made)
    assert asyncio.run(answer_embeddings(made, first))["truncated"] == []
    with pytest.raises(BadRequest, match="nobody knows which texts it cuts"):
        asyncio.run(
            answer_embeddings(made, check_embedding_request(body | {"truncate": False}, made))
        )


def unknown_of(teacher: Embedder) -> Callable[..., list[int] | None]:
    return lambda model, texts, role: None if model is teacher else [3] * len(texts)


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
    assert rows["mini:query"]["verification"] == SEEN
    assert rows["mini:query"]["calibrated_with"] == f"documents as queries, {SEEN}"
    assert rows["mini:query"]["relevance"] == TEACHERS_OWN
    assert rows["mini:query"]["max_query_tokens"] == LIMIT
    assert "promise" not in rows["mini:document"]


def test_the_teacher_answers_what_no_rung_is_sure_of(folder, tmp_path):
    """With a threshold below every prediction; the teacher is loaded when it is first asked."""

    def change(ladder: Ladder) -> Ladder:
        first, *others = ladder.promises
        return replace(ladder, promises=(replace(first, threshold=-100.0), *others))

    copy = with_ladder(folder, tmp_path / "tiny", change)
    with (
        serve(copy, port=0, block=False, promise=PROMISE, unverified=True) as server,
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
    with pytest.raises(UsageError, match="teacher alone"):
        serve(folder, port=0, block=False, promise=0.9999)
    with pytest.raises(UsageError, match="seen in training") as refused:
        serve(folder, port=0, block=False, promise=PROMISE)
    assert "unverified=true" in refused.value.hint
    with pytest.raises(UsageError, match="the ladder lies in the folder"):
        serve(load_pair(folder), port=0, block=False, promise=PROMISE)


@pytest.mark.parametrize(
    "promise", [0, 0.0, 1, 1.0, 1.5, -0.1, True, False, "0.9", float("nan"), float("inf")]
)
def test_a_promise_that_is_no_share(promise):
    with pytest.raises(UsageError, match="no share of the teacher's"):
        check_settings(ServerSettings(promise=promise))


def test_a_promise_needs_the_teacher():
    with pytest.raises(UsageError, match="teacher=off"):
        check_settings(ServerSettings(promise=0.9, teacher="off"))
    assert check_settings(ServerSettings(promise=0.9)).promise == 0.9
    assert check_settings(ServerSettings()).promise is None


def test_an_unverified_promise_is_one():
    with pytest.raises(UsageError, match="none is asked for"):
        check_settings(ServerSettings(unverified=True))
    with pytest.raises(UsageError, match="unverified='yes' is neither"):
        check_settings(ServerSettings(promise=0.9, unverified="yes"))  # type: ignore[arg-type]


@pytest.mark.slow
def test_workers_hold_the_promise_together(folder):
    with (
        serve(folder, port=0, block=False, promise=PROMISE, unverified=True, workers=2) as server,
        httpx.Client(base_url=server.url, timeout=120) as client,
    ):
        answers = [search(client, query=query).json() for query in QUERIES * 2]
        assert {answer["promise"] for answer in answers} == {PROMISE}
        rungs = [answer["rung"] for answer in answers]
        assert rungs[: len(QUERIES)] == rungs[len(QUERIES) :]
