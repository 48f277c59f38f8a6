"""Reading a request's body: JSON of bounded size, checked field by field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import anyio
from starlette.requests import ClientDisconnect, Request

from leafkit.server.bad_request import BadRequest

_SLOWEST_BODY_S = 60
_LARGEST_IGNORED = 8  # times the largest body


async def read_json(
    request: Request, max_bytes: int, known: frozenset[str]
) -> Mapping[str, object]:
    """The JSON object in a request's body.

    Args:
        request: whose body has not been read.
        max_bytes: of the body; reading stops there.
        known: keys that the object may have.

    Raises:
        BadRequest: it is too large, no JSON object, has numbers that JSON does not know (NaN), or
            a key that is not known.
    """
    body = await _read_bytes(request, max_bytes)
    try:
        found = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as err:
        raise BadRequest(f"the body is not UTF-8: {err}") from None
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None
    except ValueError as err:
        raise BadRequest(f"the body is not JSON: {err}") from None
    if not isinstance(found, dict):
        raise BadRequest(f"the body is a JSON {_kind(found)}, not an object")
    for key in found:
        if key not in known:
            raise BadRequest(
                f"{key[:60]!r} is not known; a request may have {', '.join(sorted(known))}",
                param=key[:60],
            )
    return found


async def _read_bytes(request: Request, max_bytes: int) -> bytes:
    """The body. One that is too large is read to its end and thrown away, so that its sender comes
    to read the answer; not one without end.
    """
    body, num_bytes = bytearray(), 0
    try:
        with anyio.fail_after(_SLOWEST_BODY_S):
            async for part in request.stream():
                num_bytes += len(part)
                if num_bytes <= max_bytes:
                    body += part
                elif num_bytes > _LARGEST_IGNORED * max_bytes:
                    break
    except TimeoutError:
        raise BadRequest(
            f"the body did not arrive within {_SLOWEST_BODY_S} s", status=408
        ) from None
    except ClientDisconnect:
        raise BadRequest("the caller is gone") from None
    if num_bytes > max_bytes:
        raise BadRequest(
            f"the body is larger than {max_bytes:,} bytes (the server's setting max_body_bytes): "
            "send fewer texts at a time",
            status=413,
        )
    return bytes(body)


def read_text(body: Mapping[str, Any], key: str) -> str:
    """A text that must be there.

    Raises:
        BadRequest: it is missing, not text, or not Unicode.
    """
    if key not in body:
        raise BadRequest(f"{key!r} is missing", param=key)
    return check_text(body[key], key)


def check_text(value: Any, param: str) -> str:
    """A value as text.

    Raises:
        BadRequest: it is not text, or holds a lone surrogate, which no tokenizer takes.
    """
    if not isinstance(value, str):
        raise BadRequest(f"{param} is a JSON {_kind(value)}, not text", param=param)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as err:
        raise BadRequest(
            f"{param} holds a lone surrogate at character {err.start}: it is not Unicode text",
            param=param,
        ) from None
    return value


def read_whole(body: Mapping[str, Any], key: str, largest: int) -> int | None:
    """A whole number from 1 to ``largest``; None where it is missing or null.

    Raises:
        BadRequest: it is something else.
    """
    value = body.get(key)
    if value is None:
        return None
    if type(value) is not int or not 1 <= value <= largest:
        raise BadRequest(f"{key} is not a whole number between 1 and {largest:,}", param=key)
    return value


def _kind(value: Any) -> str:
    kinds = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return kinds.get(type(value), "number")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
