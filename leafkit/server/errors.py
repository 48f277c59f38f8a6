"""Errors in OpenAI's shape, so that its clients show them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from leafkit.core.errors import LeafkitError, UsageError
from leafkit.server.bad_request import BadRequest

_logger = logging.getLogger("leafkit.server")
_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
_COME_AGAIN_S = 1  # what a caller of a server that is full is told to wait


def json_response(
    content: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """JSON in ASCII, so that no text, however odd, is too much for it.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return Response(text, status, headers=dict(headers or {}), media_type="application/json")


def vectors_response(content: Any) -> Response:
    """JSON of what holds vectors as arrays, which have been found finite. Numbers have as many
    digits as it takes to read the same float32 again: half the bytes of Python's own, in a
    thirtieth of the time.
    """
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, media_type="application/json")


def error_response(
    status: int,
    message: str,
    *,
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """``{"error": {"message", "type", "param", "code"}}``."""
    kind = "server_error" if status >= 500 else _TYPES.get(status, "invalid_request_error")
    error = {"message": message, "type": kind, "param": param, "code": code}
    return json_response({"error": error}, status, headers)


def on_bad_request(request: Request, err: Exception) -> Response:
    """What is wrong with the request."""
    assert isinstance(err, BadRequest)
    headers = {"WWW-Authenticate": "Bearer"} if err.status == 401 else None
    return error_response(err.status, str(err), param=err.param, code=err.code, headers=headers)


def busy_response() -> Response:
    """Too many requests are in flight: 429, and when to come again."""
    return error_response(
        429,
        "the server has as many requests as it takes: send this one again later",
        code="too_many_requests",
        headers={"Retry-After": str(_COME_AGAIN_S)},
    )


def stopping_response() -> Response:
    """The server stops before the answer is there."""
    return error_response(
        503,
        "the server stops, and the answer was not ready in time: send this request again",
        code="server_stopping",
        headers={"Retry-After": str(_COME_AGAIN_S)},
    )


def on_busy(request: Request, err: Exception) -> Response:
    """A model's queue is full."""
    return busy_response()


def on_http_exception(request: Request, err: Exception) -> Response:
    """No such path, or another method."""
    assert isinstance(err, HTTPException)
    # request.url is read from the Host header, which may be anything
    message = f"{request.method} {request.scope['path']}: {err.detail}"
    return error_response(err.status_code, message, headers=err.headers)


def on_leafkit_error(request: Request, err: Exception) -> Response:
    """The caller's mistake where it is one; else what the owner of the server can do."""
    assert isinstance(err, LeafkitError)
    message = f"{err}; {err.hint}" if err.hint else str(err)
    if isinstance(err, UsageError):
        return error_response(400, message)
    _logger.error("%s", message)
    return error_response(503, message)


def on_any_error(request: Request, err: Exception) -> Response:
    """A fault of the server's own: its traceback is logged, not sent."""
    return error_response(500, "the server failed; its log has the reason")
