"""The application: its paths, and what stands before all of them."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from leafkit.core.errors import LeafkitError
from leafkit.server.answers import embeddings, search, tei
from leafkit.server.answers.documents import PRECISIONS
from leafkit.server.answers.routed import describe_promise
from leafkit.server.answers.texts import model_names
from leafkit.server.bad_request import BadRequest
from leafkit.server.body import read_json
from leafkit.server.errors import (
    busy_response,
    json_response,
    on_any_error,
    on_bad_request,
    on_busy,
    on_http_exception,
    on_leafkit_error,
    stopping_response,
    vectors_response,
)
from leafkit.server.lanes import Busy
from leafkit.server.metrics import CONTENT_TYPE
from leafkit.server.playground.routes import playground_routes
from leafkit.server.service import Service

SPACE_HEADER = b"leafkit-space"
_PROBES = ("/health", "/ready", "/metrics")  # answered however busy the server is
_CLOSED = 499  # nginx's word for it, which nobody reads but the metrics
T = TypeVar("T")
_LARGE_ANSWER = 16  # vectors or hits whose JSON is written outside the event loop


def make_app(service: Service) -> ASGIApp:
    """The ASGI application that answers for a pair."""
    handlers = _Handlers(service)
    app = Starlette(
        routes=[
            Route("/health", handlers.health, methods=["GET"]),
            Route("/ready", handlers.ready, methods=["GET"]),
            Route("/metrics", handlers.metrics, methods=["GET"]),
            Route("/v1/models", handlers.models, methods=["GET"]),
            Route("/v1/embeddings", handlers.embeddings, methods=["POST"]),
            Route("/v1/search", handlers.search, methods=["POST"]),
            Route("/embed", handlers.tei, methods=["POST"]),
            *playground_routes(),
        ],
        exception_handlers={
            BadRequest: on_bad_request,
            Busy: on_busy,
            HTTPException: on_http_exception,
            LeafkitError: on_leafkit_error,
            Exception: on_any_error,
        },
    )
    # a redirect's address would be made of the Host header, which may be anything
    app.router.redirect_slashes = False
    return _Guard(app, service)


class _Guard:
    """Counts requests, refuses those beyond the limit before their bodies are read, and names the
    space in every answer.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service
        self._space = service.space.encode("latin-1", "replace")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        metrics, path = self._service.metrics, scope["path"]
        started_s, status, has_begun = time.perf_counter(), 500, False

        async def send_named(message: Message) -> None:
            nonlocal status, has_begun
            if message["type"] == "http.response.start":
                status, has_begun = message["status"], True
                headers = [*message.get("headers", ()), (SPACE_HEADER, self._space)]
                message = {**message, "headers": headers}
            await send(message)

        is_full = metrics.in_flight >= self._service.settings.requests_per_worker
        metrics.begin()
        try:
            answer = busy_response() if is_full and path not in _PROBES else self._app
            await answer(scope, receive, send_named)
        except asyncio.CancelledError:
            if not self._service.is_stopping:
                raise
            self._service.num_given_up += 1
            if has_begun:
                raise
            await stopping_response()(scope, receive, send_named)
        finally:
            metrics.end(path, status, time.perf_counter() - started_s)
            metrics.note_queues(self._service.queues)


class _Handlers:
    def __init__(self, service: Service) -> None:
        self._service, self._settings = service, service.settings

    async def health(self, request: Request) -> Response:
        """That the server answers; asks for no key."""
        return json_response({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """That requests will be answered: 503 once the server stops; asks for no key."""
        service = self._service
        status = "stopping" if service.is_stopping else "ready"
        body = {"status": status, "student": "loaded", "teacher": service.teacher_state}
        return json_response(body, 503 if service.is_stopping else 200)

    async def metrics(self, request: Request) -> Response:
        """Counters, as Prometheus reads them."""
        self._authorize(request)
        text = self._service.metrics.write(self._service.queues)
        return Response(text, headers={"content-type": CONTENT_TYPE})

    async def models(self, request: Request) -> Response:
        """The models by name, with the role, the prompt, the dimensions and the space of each, and
        the precisions that searches take.
        """
        self._authorize(request)
        service, pair = self._service, self._service.pair
        names = model_names(self._settings.name, has_teacher=service.has_teacher)
        prompts = {"query": pair.embedder.prompt("query"), "document": pair.space.prompt}
        rows = [
            {
                "id": name,
                "object": "model",
                "owned_by": "leafkit",
                "role": role,
                "prompt": prompts[role],
                "precisions": PRECISIONS if pair.space.normalized else PRECISIONS[:1],
                "dimensions": pair.dim,
                "matryoshka_dimensions": list(pair.mrl_dims),
                "space": service.space,
                **(self._routing if role == "query" else {}),
            }
            for name, role in names.items()
        ]
        return json_response({"object": "list", "data": rows})

    @property
    def _routing(self) -> Mapping[str, object]:
        """The promise that queries are routed by, what it is about, and the rungs that they
        climb.
        """
        router = self._service.router
        if router is None:
            return {}
        return {
            **describe_promise(self._service),
            "relevance": router.ladder.relevance,
            "calibrated_with": f"{router.ladder.asked_with}, {router.ladder.training}",
            "max_query_tokens": router.max_tokens,
            "route": list(router.route),
        }

    async def embeddings(self, request: Request) -> Response:
        """Vectors of texts, as OpenAI answers."""
        body = await self._read(request, embeddings.KEYS)
        checked = embeddings.check_embedding_request(body, self._service)
        answer = await _unless_gone(request, embeddings.answer_embeddings(self._service, checked))
        return await _write(vectors_response, answer, len(checked.texts.texts))

    async def search(self, request: Request) -> Response:
        """The documents nearest to a query."""
        body = await self._read(request, search.KEYS)
        checked = search.check_search_request(body, self._service)
        answer = await _unless_gone(request, search.answer_search(self._service, checked))
        return await _write(json_response, answer, checked.k)

    async def tei(self, request: Request) -> Response:
        """Vectors of texts, as TEI answers."""
        body = await self._read(request, tei.KEYS)
        checked = tei.check_tei_request(body, self._service)
        answer = await _unless_gone(request, tei.answer_tei(self._service, checked))
        return await _write(vectors_response, answer, len(checked.texts.texts))

    async def _read(self, request: Request, keys: frozenset[str]) -> Mapping[str, Any]:
        self._authorize(request)
        return await read_json(request, self._settings.max_body_bytes, keys)

    def _authorize(self, request: Request) -> None:
        if not self._settings.api_key:
            return
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        # compared in constant time, so that the time taken tells nothing of the key
        is_same = hmac.compare_digest(token.strip().encode(), self._settings.api_key.encode())
        if kind.lower() != "bearer" or not is_same:
            raise BadRequest(
                "the API key is missing or wrong: send it as 'Authorization: Bearer KEY'",
                status=401,
                code="invalid_api_key",
            )


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What the work gives; it is given up when the caller hangs up, so that callers who come again
    and again do not fill the queues.

    Raises:
        BadRequest: the caller is gone.
    """
    answer = asyncio.ensure_future(work)
    # the body is read: the next message is the end of the connection
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return await answer
        raise BadRequest("the caller is gone", status=_CLOSED)
    finally:
        answer.cancel()
        gone.cancel()


async def _write(write: Callable[[Any], Response], content: object, size: int) -> Response:
    """The answer's JSON, outside the event loop where it is long."""
    if size <= _LARGE_ANSWER:
        return write(content)
    return await anyio.to_thread.run_sync(write, content)
