"""POST /v1/search: the documents nearest to a query or to a vector."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leafkit.index.exact import search_exact
from leafkit.index.ranking import Ranking
from leafkit.index.rescoring import rescore
from leafkit.index.search import search_index
from leafkit.server.answers.documents import PRECISIONS, shorten
from leafkit.server.answers.routed import describe_promise, route_queries
from leafkit.server.answers.texts import (
    check_expected_space,
    read_choice,
    read_dim,
    read_role,
    read_truncate,
    refuse_without_teacher,
)
from leafkit.server.bad_request import BadRequest
from leafkit.server.body import read_text, read_whole
from leafkit.server.service import Service, Texts

KEYS = frozenset(
    {
        "query",
        "vector",
        "input_type",
        "k",
        "mode",
        "dimensions",
        "precision",
        "rescore",
        "index",
        "truncate",
        "expected_space",
    }
)
# who embeds the query, and whose vectors of the documents are searched
_MODES = {
    "asymmetric": ("student", "teacher"),
    "teacher": ("teacher", "teacher"),
    "student": ("student", "student"),
    "ladder": ("ladder", "teacher"),
}
_DEFAULT_HITS = 10
_MOST_RESCORED = 100  # times k


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """A request that has been checked; either texts or a vector is there."""

    texts: Texts | None
    vector: np.ndarray | None
    k: int
    mode: str
    dim: int
    precision: str
    rescore: int
    index: str

    @property
    def side(self) -> str:
        """Whose vectors of the documents are searched."""
        return _MODES[self.mode][1]


def check_search_request(body: Mapping[str, Any], service: Service) -> SearchRequest:
    """The request in a body.

    Raises:
        BadRequest: a field is missing, of another type or out of range, or something that this
            server does not hold is asked for.
    """
    pair = service.pair
    has_query = body.get("query") is not None
    has_vector = body.get("vector") is not None
    if has_query and has_vector:
        raise BadRequest("query and vector are both there: send one of them", param="vector")
    mode = read_choice(body, "mode", tuple(_MODES), _default_mode(body, service))
    if mode == "ladder":
        _check_ladder(body, service)
    if mode == "teacher" and has_query:
        refuse_without_teacher("document", "mode", has_teacher=service.has_teacher)
    if mode == "student" and not service.documents.has_student:
        raise BadRequest(
            "mode=student: the student has not embedded the documents here; start the server with "
            "student_documents=true",
            param="mode",
        )
    check_expected_space(body, service.space)
    dim = read_dim(body, pair.dim, pair.mrl_dims)
    precision = read_choice(body, "precision", PRECISIONS, "float32")
    if precision != "float32" and not pair.space.normalized:
        raise BadRequest(
            f"precision={precision} needs vectors of length one, which this teacher's are not",
            param="precision",
        )
    if has_vector and body.get("input_type") is not None:
        raise BadRequest(
            "input_type says how a query is embedded, and the vector is one already: leave it out",
            param="input_type",
        )
    role = read_role(body, "input_type", "query")
    may_cut = read_truncate(body)
    return SearchRequest(
        None if has_vector else _read_query(body, role, may_cut=may_cut),
        _read_vector(body["vector"], pair.dim, dim, is_unit=pair.space.normalized)
        if has_vector
        else None,
        k=read_whole(body, "k", service.settings.max_hits)
        or min(_DEFAULT_HITS, service.settings.max_hits),
        mode=mode,
        dim=dim,
        precision=precision,
        rescore=_read_rescore(body),
        index=_read_index(body, service, mode, is_whole=dim == pair.dim, precision=precision),
    )


def _default_mode(body: Mapping[str, Any], service: Service) -> str:
    """Queries are routed where the server holds a promise that covers what they ask for."""
    is_routed = service.router is not None and not _uncovered(body, service)
    return "ladder" if is_routed else "asymmetric"


def _uncovered(body: Mapping[str, Any], service: Service) -> str:
    """The first field of a request that no promise was calibrated for; "" where there is none."""
    pair = service.pair
    held = "flat" if pair.index is None else pair.index.plan.kind
    usual: dict[str, tuple[object, ...]] = {
        "vector": (),
        "dimensions": (pair.dim,),
        "precision": ("float32",),
        "rescore": (0, False),
        "index": (held,),
    }
    for key, allowed in usual.items():
        if body.get(key) is not None and body[key] not in allowed:
            return key
    is_query = read_role(body, "input_type", "query") == "query"
    return "" if is_query else "input_type"


def _check_ladder(body: Mapping[str, Any], service: Service) -> None:
    if service.router is None:
        raise BadRequest(
            "mode=ladder: this server holds no promise; start it with promise=.99 say, after "
            "leafkit ladder",
            param="mode",
        )
    key = _uncovered(body, service)
    if key:
        raise BadRequest(
            f"mode=ladder: the promise was calibrated for queries as text, all dimensions and the "
            f"served index alone: leave {key} out, or ask mode=asymmetric",
            param=key,
        )


def _read_query(body: Mapping[str, Any], role: str, *, may_cut: bool) -> Texts:
    question = read_text(body, "query")
    if not question.strip():
        raise BadRequest("query is empty", param="query")
    return Texts([question], role, "query", may_cut, are_listed=False)


def _read_vector(value: Any, full_dim: int, dim: int, *, is_unit: bool) -> np.ndarray:
    """(1, dim) float32."""
    if not isinstance(value, list) or len(value) not in (full_dim, dim):
        allowed = f"{full_dim}" if dim == full_dim else f"{full_dim} or {dim}"
        raise BadRequest(f"vector is not a list of {allowed} numbers", param="vector")
    if not all(type(x) is float or type(x) is int for x in value):
        raise BadRequest("vector holds something else than numbers", param="vector")
    try:
        kept = np.array([float(x) for x in value[:dim]])
    except OverflowError:  # a whole number beyond float64
        kept = np.array([math.inf])
    with np.errstate(over="ignore"):
        length = float(np.sqrt(np.square(kept).sum()))
    # as far from float32's end as the square of it: documents are as long as one, or a few
    if not length < 1e18:
        raise BadRequest("vector is longer than float32 can multiply", param="vector")
    if is_unit and not length > 1e-12:
        what = "vector is zero" if dim == len(value) else f"the first {dim} numbers are zero"
        raise BadRequest(f"{what}, which has no direction", param="vector")
    vector: np.ndarray = (kept / length if is_unit else kept).astype(np.float32)[None]
    return vector


def _read_rescore(body: Mapping[str, Any]) -> int:
    """Times k candidates that are scored again; 0 scores none again."""
    value = body.get("rescore")
    if value is None or value is False or (type(value) is int and value == 0):
        return 0
    if type(value) is not int or not 1 <= value <= _MOST_RESCORED:
        raise BadRequest(
            f"rescore is not a whole number between 0 and {_MOST_RESCORED}", param="rescore"
        )
    return value


def _read_index(
    body: Mapping[str, Any], service: Service, mode: str, *, is_whole: bool, precision: str
) -> str:
    """The index of these vectors; one that was not asked for serves what it can."""
    built = service.pair.index
    held = "flat" if built is None else built.plan.kind
    fits = is_whole and precision == "float32" and _MODES[mode][1] == "teacher"
    wanted = read_choice(
        body, "index", tuple(dict.fromkeys(("flat", held))), held if fits else "flat"
    )
    if wanted != "flat" and not fits:
        raise BadRequest(
            f"index={wanted} holds the teacher's vectors at their whole dimension in its own "
            "precision: ask index=flat at others",
            param="index",
        )
    return wanted


async def answer_search(service: Service, request: SearchRequest) -> Mapping[str, object]:
    """The hits, best first, and how they were found.

    Raises:
        BadRequest: the query has no vector, or may not be cut.
        LeafkitError: the teacher is not available, or a model fails.
        Busy: too many wait.
    """
    if request.mode == "ladder":
        return await _answer_routed(service, request)
    started_s = time.perf_counter()
    num_tokens = 0
    truncated: bool | None = False
    if request.texts is not None:
        by_teacher = _MODES[request.mode][0] == "teacher"
        found = await service.embed(request.texts, by_teacher=by_teacher)
        queries = shorten(found.vectors, request.dim, is_unit=found.is_unit)
        num_tokens = found.num_tokens
        truncated = None if found.truncated is None else bool(found.truncated)
    else:
        assert request.vector is not None
        queries = request.vector
    embedded_s = time.perf_counter()
    ranking = await service.in_search(lambda: _rank(service, request, queries))
    searched_s = time.perf_counter()
    return _write_answer(
        service,
        request,
        ranking,
        num_tokens=num_tokens,
        truncated=truncated,
        embed_s=embedded_s - started_s,
        search_s=searched_s - embedded_s,
    )


async def _answer_routed(service: Service, request: SearchRequest) -> Mapping[str, object]:
    """The hits of the rung that answers, which is named beside the promise."""
    assert request.texts is not None
    (found,) = await route_queries(service, request.texts, request.k)
    answer = _write_answer(
        service,
        request,
        found.ranking,
        num_tokens=found.num_tokens,
        truncated=found.is_cut,
        embed_s=found.embed_s,
        search_s=found.search_s,
    )
    return {**answer, "rung": found.rung, **describe_promise(service)}


def _write_answer(
    service: Service,
    request: SearchRequest,
    ranking: Ranking,
    *,
    num_tokens: int,
    truncated: bool | None,
    embed_s: float,
    search_s: float,
) -> Mapping[str, object]:
    return {
        "object": "list",
        "model": service.settings.name,
        "space": service.space,
        "mode": request.mode,
        "input_type": None if request.texts is None else request.texts.role,
        "dimensions": request.dim,
        "precision": request.precision,
        "rescore": request.rescore,
        "index": request.index,
        "num_documents": len(service.pair.documents),
        "truncated": truncated,
        "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
        "timings": {
            "embed_ms": round(1e3 * embed_s, 3),
            "search_ms": round(1e3 * search_s, 3),
        },
        "data": _write_hits(service, ranking.positions[0], ranking.scores[0]),
    }


def _rank(service: Service, request: SearchRequest, queries: np.ndarray) -> Ranking:
    pair, documents = service.pair, service.documents
    k = min(request.k, len(pair.documents))
    candidates = min(k * max(1, request.rescore), len(pair.documents))
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    if request.index != "flat":
        assert pair.index is not None
        setting = pair.index.plan.settings[-1]
        found = search_index(pair.index, queries, candidates, setting, documents=pair.vectors)
    else:
        vectors = documents.find(request.side, request.dim, request.precision)
        found = search_exact(queries, vectors, candidates)
        if not request.rescore:
            return found
    # an index has scores of its own: of codes, or distances; what is sent are those of the vectors
    return rescore(queries, documents.matrix(request.side, request.dim), found.positions, k)


def _write_hits(
    service: Service, positions: Sequence[int] | np.ndarray, scores: Sequence[float] | np.ndarray
) -> list[dict[str, object]]:
    documents = service.pair.documents
    return [
        {
            "id": documents[int(place)].id,
            "score": float(score),
            "text": documents[int(place)].full_text,
        }
        for place, score in zip(positions, scores, strict=True)
        if place >= 0  # an index may look at fewer documents than were asked for
    ]
