"""Queries that climb a ladder: each rung embeds and searches, until its answer is enough for the
promise.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from leafkit.data.records import clean_text
from leafkit.evaluation.routing.signals import Visit
from leafkit.index.ranking import Ranking
from leafkit.pipeline.ladder.visits import visit
from leafkit.server.service import Service, Texts


@dataclass(frozen=True, slots=True)
class Routed:
    """One query's answer.

    Attributes:
        rung: that gave it.
        vector: (D,) of it.
        ranking: of the documents, (1, k).
        num_tokens: that the rung read; 0 where that is not known.
        is_cut: whether it did not read all of it; None where that is not known.
        embed_s: seconds of all rungs' encoders, with the wait for them.
        search_s: likewise of their searches.
    """

    rung: str
    vector: np.ndarray
    ranking: Ranking
    num_tokens: int
    is_cut: bool | None
    embed_s: float
    search_s: float


async def route_queries(service: Service, texts: Texts, k: int) -> list[Routed]:
    """The answer of the first rung whose predicted loss the promise allows, for each query. Queries
    that come to the same rung are embedded there and searched for together.

    Args:
        service: with a router.
        texts: n queries.
        k: documents of each.

    Raises:
        BadRequest: a query has no vector, or may not be cut.
        LeafkitError: the teacher is not available, or a model fails.
        Busy: too many wait.
    """
    router = service.router
    assert router is not None
    # as every model reads them
    cleaned = [clean_text(text, Counter()) for text in texts.texts]
    routed: dict[int, Routed] = {}
    waiting = np.arange(len(cleaned))
    previous: Visit | None = None
    embed_s = search_s = 0.0
    for rung in router.route:
        started_s = time.perf_counter()
        asked = Texts(
            texts=[cleaned[i] for i in waiting],
            role=texts.role,
            param=texts.param,
            may_cut=texts.may_cut,
            max_tokens=router.max_tokens,
            numbers=waiting.tolist(),
            are_listed=texts.are_listed,
        )
        found = await service.embed_at(rung, asked)
        embedded_s = time.perf_counter()
        seen, ranking = await service.in_search(
            partial(
                visit,
                service.pair,
                router.models.get(rung, service.pair.embedder),
                asked.texts,
                found.vectors,
                max_tokens=router.max_tokens,
                k=k,
            )
        )
        embed_s += embedded_s - started_s
        search_s += time.perf_counter() - embedded_s
        are_enough = router.are_enough(rung, asked.texts, seen, previous)
        for row in np.flatnonzero(are_enough).tolist():
            length = None if found.lengths is None else found.lengths[row]
            routed[int(waiting[row])] = Routed(
                rung=rung,
                vector=found.vectors[row],
                ranking=Ranking(
                    ranking.positions[row : row + 1, :k], ranking.scores[row : row + 1, :k]
                ),
                num_tokens=min(length or 0, found.limit),
                is_cut=None if length is None else length > found.limit,
                embed_s=embed_s,
                search_s=search_s,
            )
        waiting, previous = waiting[~are_enough], seen.take(~are_enough)
        if not len(waiting):
            break
    answers = [routed[i] for i in range(len(cleaned))]
    for one in answers:
        service.metrics.count_texts(texts.role, 1, one.num_tokens)
        service.metrics.count_rung(one.rung)
    return answers


def describe_promise(service: Service) -> Mapping[str, object]:
    """What answers of rungs say of the promise that the server holds."""
    router = service.router
    assert router is not None
    return {"promise": router.promise.promise, "verification": router.verification}
