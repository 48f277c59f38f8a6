"""POST /v1/embeddings: vectors of texts in a role, in OpenAI's shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from leafkit.evaluation.routing.signals import DEPTH
from leafkit.results.ladder import STUDENT_RUNG
from leafkit.server.answers.documents import shorten
from leafkit.server.answers.output import FORMATS, OUTPUT_TYPES, encode_output, write_vector
from leafkit.server.answers.routed import describe_promise, route_queries
from leafkit.server.answers.texts import (
    check_expected_space,
    model_names,
    read_choice,
    read_dim,
    read_role,
    read_texts,
    read_truncate,
    refuse_without_teacher,
)
from leafkit.server.bad_request import BadRequest
from leafkit.server.body import read_text
from leafkit.server.service import Service, Texts

# "user" is OpenAI's mark of an end user, for its own monitoring; clients send it
KEYS = frozenset(
    {
        "model",
        "input",
        "dimensions",
        "encoding_format",
        "user",
        "input_type",
        "output_dtype",
        "truncate",
        "expected_space",
    }
)


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """A request that has been checked."""

    model: str
    texts: Texts
    dim: int
    output_type: str
    is_base64: bool


def check_embedding_request(body: Mapping[str, Any], service: Service) -> EmbeddingRequest:
    """The request in a body.

    Raises:
        BadRequest: a field is missing, of another type or out of range, or no such model, or
            another space than is expected.
    """
    pair, name = service.pair, service.settings.name
    model = read_text(body, "model")
    names = model_names(name, has_teacher=service.has_teacher)
    if model not in names:
        raise BadRequest(
            f"there is no model {model[:100]!r} here; there are {', '.join(names)}",
            param="model",
            status=404,
            code="model_not_found",
        )
    role = read_role(body, "input_type", names[model], is_fixed=model != name)
    refuse_without_teacher(role, "input_type", has_teacher=service.has_teacher)
    check_expected_space(body, service.space)
    encoding = read_choice(body, "encoding_format", FORMATS, "float")
    output_type = read_choice(body, "output_dtype", OUTPUT_TYPES, "float")
    dim = read_dim(body, pair.dim, pair.mrl_dims)
    may_cut = read_truncate(body)
    texts = read_texts(body, "input", service.settings.max_inputs)
    is_list = isinstance(body["input"], list)
    asked = Texts(texts, role, "input", may_cut, are_listed=is_list)
    return EmbeddingRequest(model, asked, dim, output_type, encoding == "base64")


async def answer_embeddings(service: Service, request: EmbeddingRequest) -> Mapping[str, object]:
    """What OpenAI's endpoint would answer, with the space and the texts that were cut; ``usage``
    counts the tokens that the model read, prompt and special tokens included, or 0 where they are
    not known.

    Raises:
        BadRequest: a text has no vector, or may not be cut.
        LeafkitError: the teacher is not available, or fails.
        Busy: too many wait.
    """
    codec = None
    if request.output_type in ("int8", "uint8"):
        documents, dim = service.documents, request.dim
        if documents.has_output_codec(dim):  # no turn behind searches for what is only read
            codec = documents.output_codec(dim)
        else:
            codec = await service.in_search(lambda: documents.output_codec(dim))
    if _is_routed(service, request):
        return await _answer_routed(service, request)
    found = await service.embed(request.texts, by_teacher=request.texts.role == "document")
    vectors = shorten(found.vectors, request.dim, is_unit=found.is_unit)
    written = encode_output(vectors, request.output_type, codec)
    answer = _write_answer(
        service, request, written, num_tokens=found.num_tokens, truncated=found.truncated
    )
    if service.router is None or request.texts.role != "query":
        return answer
    # a query that no promise was calibrated for
    rungs = [STUDENT_RUNG] * len(written)
    return {**answer, "rungs": rungs, "promise": None, "verification": None}


def _is_routed(service: Service, request: EmbeddingRequest) -> bool:
    """Whether the server's promise covers a request: queries, whole vectors of floats."""
    return (
        service.router is not None
        and request.texts.role == "query"
        and request.dim == service.pair.dim
        and request.output_type == "float"
    )


async def _answer_routed(service: Service, request: EmbeddingRequest) -> Mapping[str, object]:
    """Each query's vector by the rung that answers it, which is named beside the promise."""
    found = await route_queries(service, request.texts, DEPTH)
    is_known = all(one.is_cut is not None for one in found)
    answer = _write_answer(
        service,
        request,
        encode_output(np.stack([one.vector for one in found]), "float", None),
        num_tokens=sum(one.num_tokens for one in found),
        truncated=[i for i, one in enumerate(found) if one.is_cut] if is_known else None,
    )
    return {**answer, "rungs": [one.rung for one in found], **describe_promise(service)}


def _write_answer(
    service: Service,
    request: EmbeddingRequest,
    written: np.ndarray,
    *,
    num_tokens: int,
    truncated: list[int] | None,
) -> Mapping[str, object]:
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": i, "embedding": write_vector(one, request.is_base64)}
            for i, one in enumerate(written)
        ],
        "model": request.model,
        "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
        "truncated": truncated,
        "space": service.space,
    }
