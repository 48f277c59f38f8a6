"""POST /v1/embeddings: vectors of texts in a role, in OpenAI's shape."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from leafkit.core.errors import LeafkitError
from leafkit.server.body import check_text, read_text, read_whole
from leafkit.server.errors import BadRequest
from leafkit.server.settings import ServedPair, ServerSettings

# "user" is OpenAI's mark of an end user, for its own monitoring; clients send it
KEYS = frozenset({"model", "input", "dimensions", "encoding_format", "user"})
_FORMATS = ("float", "base64")
_NO_TOKEN_IDS = (
    "input holds token ids, which are another model's: send text "
    "(LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False))"
)


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """A request that has been checked."""

    model: str
    role: str  # query: the student; document: the teacher
    texts: list[str]
    dim: int | None
    is_base64: bool


def model_names(name: str) -> dict[str, str]:
    """Role of each model that a server answers for."""
    return {name: "query", f"{name}:query": "query", f"{name}:document": "document"}


def check_embedding_request(
    body: Mapping[str, Any], settings: ServerSettings, full_dim: int
) -> EmbeddingRequest:
    """The request in a body.

    Raises:
        BadRequest: a field is missing, of another type or out of range, or no such model.
    """
    model = read_text(body, "model")
    names = model_names(settings.name)
    if model not in names:
        raise BadRequest(
            f"there is no model {model[:100]!r} here; there are {', '.join(names)}",
            param="model",
            status=404,
            code="model_not_found",
        )
    wanted = body.get("encoding_format")
    if wanted is not None and wanted not in _FORMATS:
        raise BadRequest(
            f"encoding_format is not one of {', '.join(_FORMATS)}", param="encoding_format"
        )
    dim = read_whole(body, "dimensions", full_dim)
    texts = _read_input(body, settings.max_inputs)
    return EmbeddingRequest(model, names[model], texts, dim, wanted == "base64")


def _read_input(body: Mapping[str, Any], max_inputs: int) -> list[str]:
    if "input" not in body:
        raise BadRequest("'input' is missing", param="input")
    value = body["input"]
    if not isinstance(value, list):
        return [check_text(value, "input")]
    if not value:
        raise BadRequest("input is an empty list", param="input")
    if isinstance(value[0], int | list) and not isinstance(value[0], bool):
        raise BadRequest(_NO_TOKEN_IDS, param="input")
    if len(value) > max_inputs:
        raise BadRequest(
            f"input has {len(value):,} texts; a request may have {max_inputs:,}", param="input"
        )
    return [check_text(text, f"input[{i}]") for i, text in enumerate(value)]


def answer_embeddings(pair: ServedPair, request: EmbeddingRequest) -> Mapping[str, object]:
    """What OpenAI's endpoint would answer; ``usage`` counts the tokens that the model read, prompt
    and special tokens included, or 0 where they are not known.

    Raises:
        BadRequest: a text has no vector.
        LeafkitError: the teacher is not available, or fails.
    """
    is_query = request.role == "query"
    model = pair.embedder if is_query else pair.teacher
    try:
        model.require(request.texts, request.role)
    except LeafkitError as err:
        raise BadRequest(str(err), param="input") from err
    encode = pair.encode_query if is_query else pair.encode_document
    vectors = encode(request.texts, request.dim)
    if not np.isfinite(vectors).all():
        raise LeafkitError("a vector is not finite", "check the model")
    limit = None if is_query else pair.space.max_tokens or None
    num_tokens = model.count_tokens(request.texts, request.role, limit) or 0
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": i, "embedding": _write(vector, request.is_base64)}
            for i, vector in enumerate(vectors)
        ],
        "model": request.model,
        "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
    }


def _write(vector: np.ndarray, is_base64: bool) -> str | list[float]:
    if is_base64:
        return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    numbers: list[float] = vector.tolist()
    return numbers
