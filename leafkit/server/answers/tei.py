"""POST /embed: vectors as TEI (text-embeddings-inference) answers, for clients that speak it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from leafkit.core.truncate import truncate_then_normalize
from leafkit.server.answers.documents import shorten
from leafkit.server.answers.output import write_vector
from leafkit.server.answers.texts import (
    check_expected_space,
    read_choice,
    read_dim,
    read_role,
    read_texts,
    read_truncate,
    refuse_without_teacher,
)
from leafkit.server.bad_request import BadRequest
from leafkit.server.service import Service, Texts

KEYS = frozenset(
    {
        "inputs",
        "truncate",
        "truncation_direction",
        "normalize",
        "prompt_name",
        "dimensions",
        "expected_space",
    }
)


@dataclass(frozen=True, slots=True)
class TeiRequest:
    """A request that has been checked."""

    texts: Texts
    dim: int
    normalize: bool | None  # None: as the model does


def check_tei_request(body: Mapping[str, Any], service: Service) -> TeiRequest:
    """The request in a body. Its ``prompt_name`` is the role; the student answers where it is left
    out.

    Raises:
        BadRequest: a field is missing, of another type or out of range.
    """
    pair = service.pair
    role = read_role(body, "prompt_name", "query")
    refuse_without_teacher(role, "prompt_name", has_teacher=service.has_teacher)
    check_expected_space(body, service.space)
    read_choice(body, "truncation_direction", ("right", "Right"), "right")
    normalize = body.get("normalize")
    if normalize is not None and not isinstance(normalize, bool):
        raise BadRequest("normalize is neither true nor false", param="normalize")
    if normalize is False and pair.space.normalized:
        raise BadRequest(
            "normalize=false: this model's vectors are of length one as it gives them",
            param="normalize",
        )
    dim = read_dim(body, pair.dim, pair.mrl_dims)
    may_cut = read_truncate(body)
    texts = read_texts(body, "inputs", service.settings.max_inputs)
    is_list = isinstance(body["inputs"], list)
    asked = Texts(texts, role, "inputs", may_cut, are_listed=is_list)
    return TeiRequest(asked, dim, normalize)


async def answer_tei(service: Service, request: TeiRequest) -> list[str | np.ndarray]:
    """A list of numbers for each text.

    Raises:
        BadRequest: a text has no vector, or may not be cut.
        LeafkitError: the teacher is not available, or fails.
        Busy: too many wait.
    """
    found = await service.embed(request.texts, by_teacher=request.texts.role == "document")
    vectors = shorten(found.vectors, request.dim, is_unit=found.is_unit)
    if request.normalize and not found.is_unit:
        vectors = truncate_then_normalize(vectors)
    return [write_vector(one, is_base64=False) for one in vectors]
