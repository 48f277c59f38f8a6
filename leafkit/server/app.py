"""The application: its paths, its errors, and the one thread that asks the models."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from functools import partial

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from leafkit.core.errors import LeafkitError
from leafkit.server.body import read_json, read_text, read_whole
from leafkit.server.embeddings import KEYS, answer_embeddings, check_embedding_request, model_names
from leafkit.server.errors import (
    BadRequest,
    json_response,
    on_any_error,
    on_bad_request,
    on_http_exception,
    on_leafkit_error,
)
from leafkit.server.settings import ServedPair, ServerSettings

_SEARCH_KEYS = frozenset({"query", "k", "dimensions"})
_DEFAULT_HITS = 10


def make_app(pair: ServedPair, settings: ServerSettings) -> Starlette:
    """The ASGI application that answers for a pair.

    Models and tokenizers are asked from one thread at a time: tokenizers are not safe to share, and
    the models use all cores by themselves.
    """
    server = _Handlers(pair, settings)
    return Starlette(
        routes=[
            Route("/health", server.health, methods=["GET"]),
            Route("/v1/models", server.models, methods=["GET"]),
            Route("/v1/embeddings", server.embeddings, methods=["POST"]),
            Route("/v1/search", server.search, methods=["POST"]),
        ],
        exception_handlers={
            BadRequest: on_bad_request,
            HTTPException: on_http_exception,
            LeafkitError: on_leafkit_error,
            Exception: on_any_error,
        },
    )


class _Handlers:
    def __init__(self, pair: ServedPair, settings: ServerSettings) -> None:
        self._pair, self._settings = pair, settings
        self._one_at_a_time = anyio.Semaphore(1)

    async def health(self, request: Request) -> Response:
        """That the server answers; asks for no key."""
        return json_response({"status": "ok"})

    async def models(self, request: Request) -> Response:
        """The models by name, with the role and the dimensions of each."""
        self._authorize(request)
        rows = [
            {"id": name, "object": "model", "owned_by": "leafkit", "role": role}
            | {"dimensions": self._pair.space.dim}
            for name, role in model_names(self._settings.name).items()
        ]
        return json_response({"object": "list", "data": rows})

    async def embeddings(self, request: Request) -> Response:
        """Vectors of texts."""
        self._authorize(request)
        body = await read_json(request, self._settings.max_body_bytes, KEYS)
        checked = check_embedding_request(body, self._settings, self._pair.space.dim)
        return await self._answer(partial(answer_embeddings, self._pair, checked))

    async def search(self, request: Request) -> Response:
        """The documents nearest to a query."""
        self._authorize(request)
        body = await read_json(request, self._settings.max_body_bytes, _SEARCH_KEYS)
        question = read_text(body, "query")
        if not question.strip():
            raise BadRequest("query is empty", param="query")
        k = read_whole(body, "k", self._settings.max_hits) or _DEFAULT_HITS
        dim = read_whole(body, "dimensions", self._pair.space.dim)

        def answer() -> Mapping[str, object]:
            hits = self._pair.search(question, k, dim)
            rows = [{"id": hit.id, "score": hit.score, "text": hit.text} for hit in hits]
            return {"object": "list", "model": self._settings.name, "data": rows}

        return await self._answer(answer)

    async def _answer(self, work: Callable[[], Mapping[str, object]]) -> Response:
        """Do the work and write its JSON outside the event loop."""
        async with self._one_at_a_time:
            return await anyio.to_thread.run_sync(lambda: json_response(work()))

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
