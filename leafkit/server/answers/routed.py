"""Queries that climb a ladder: each rung embeds and searches, until its answer is enough for the
promise.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial

from leafkit.evaluation.routing.signals import Visit
from leafkit.index.ranking import Ranking
from leafkit.pipeline.ladder.visits import visit
from leafkit.server.service import Embedded, Service, Texts


@dataclass(frozen=True, slots=True)
class Routed:
    """One query's answer.

    Attributes:
        rung: that gave it.
        embedded: its vector.
        ranking: of the documents, (1, k).
        embed_s: seconds of all rungs' encoders, with the wait for them.
        search_s: likewise of their searches.
    """

    rung: str
    embedded: Embedded
    ranking: Ranking
    embed_s: float
    search_s: float


async def route_query(service: Service, texts: Texts, k: int) -> Routed:
    """The answer of the first rung whose predicted loss the promise allows.

    Args:
        service: with a router.
        texts: one query.
        k: documents.

    Raises:
        BadRequest: the query has no vector, or may not be cut.
        LeafkitError: the teacher is not available, or a model fails.
        Busy: too many wait.
    """
    router = service.router
    assert router is not None
    previous: Visit | None = None
    embed_s = search_s = 0.0
    for rung in router.route:
        started_s = time.perf_counter()
        # the tokens of another rung's tokenizer are counted anew
        asked = replace(texts, lengths=None, is_counted=False)
        found = await service.embed_at(rung, asked)
        embedded_s = time.perf_counter()
        model = router.models.get(rung, service.pair.embedder)
        work = partial(visit, service.pair, model, texts.texts, found.vectors, k=k)
        seen, ranking = await service.in_search(work)
        embed_s += embedded_s - started_s
        search_s += time.perf_counter() - embedded_s
        if router.is_enough(rung, texts.texts[0], seen, previous):
            break
        previous = seen
    service.metrics.count_texts(texts.role, 1, found.num_tokens)
    service.metrics.count_rung(rung)
    best = Ranking(ranking.positions[:, :k], ranking.scores[:, :k])
    return Routed(rung, found, best, embed_s, search_s)
