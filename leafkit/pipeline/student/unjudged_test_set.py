"""Texts to measure a finished student on where a collection has no judgments. What chooses the best
moment of its training is in ``validation``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leafkit.data.records import Collection, same_text
from leafkit.data.vector_store import hash_texts
from leafkit.embedders.prefix import precomputed_of
from leafkit.pipeline.model_handle import ModelHandle
from leafkit.results.agreement import HELD_OUT, SEEN

_FEWEST = 20  # texts that a figure is worth giving of
_MOST = 200  # held out of training, and measured on
_SHARE = 0.05  # of the texts, held out of training
FEWEST_DOCUMENTS = math.ceil(_FEWEST / _SHARE)  # of which enough are held out
QUERIES, DOCUMENTS = "queries", "documents as queries"


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What takes the place of judged queries.

    Attributes:
        texts: asked.
        asked_with: ``QUERIES`` or ``DOCUMENTS``.
        role: that both models embed them in.
        own: for each the position of the document that it is, -1 for none.
        training: whether a student of this recipe has seen them: ``HELD_OUT`` or ``SEEN``.
    """

    texts: list[str]
    asked_with: str
    role: str
    own: list[int]
    training: str


def choose_held_out(collection: Collection, split: str, teacher: ModelHandle) -> HeldOut | None:
    """Texts to compare student and teacher on: None where there are judged queries to measure on.

    Queries that no split trains on are taken as they are; else one in twenty of many train queries,
    or of many documents, trains nothing. Where there are few, training has seen what is asked, and
    the result says so. The choice is by the texts' own hashes: it is the same in every run, and
    more texts change little of it.

    Args:
        collection: that is indexed.
        split: whose judged queries would be measured on.
        teacher: one whose vectors were computed elsewhere is asked what it knows.
    """
    if collection.judged(split):
        return None
    known = precomputed_of(teacher.model)

    def choose(texts: Sequence[str], role: str, most: int) -> list[str]:
        distinct = list(dict.fromkeys(texts))
        if known is not None:
            has_vector = known.has(distinct, role)
            distinct = [text for text, has in zip(distinct, has_vector, strict=True) if has]
        order = np.argsort(hash_texts(distinct), kind="stable")
        return [distinct[i] for i in order[:most].tolist()]

    trained = {q.text for q in collection.queries if q.split == "train"}
    same = {same_text(text) for text in trained}
    others = [q.text for q in collection.queries if same_text(q.text) not in same]
    documents = [document.full_text for document in collection.documents]
    unseen = choose(others, "query", _MOST)
    if len(unseen) >= _FEWEST:
        return HeldOut(unseen, QUERIES, "query", [-1] * len(unseen), HELD_OUT)
    queries = choose(sorted(trained), "query", min(_MOST, int(_SHARE * len(trained))))
    if len(queries) >= _FEWEST:
        return HeldOut(queries, QUERIES, "query", [-1] * len(queries), HELD_OUT)
    role = "query" if known is None else "document"
    number = min(_MOST, int(_SHARE * len(documents)))
    is_held_out = number >= _FEWEST
    chosen = choose(documents, role, number if is_held_out else _MOST)
    if len(chosen) < 2 or len(documents) < 3:
        return None
    place = {text: i for i, text in reversed(list(enumerate(documents)))}
    own = [place[text] for text in chosen]
    return HeldOut(chosen, DOCUMENTS, role, own, HELD_OUT if is_held_out else SEEN)


def unseen_texts(held_out: HeldOut | None) -> frozenset[str]:
    """What training leaves out."""
    is_left_out = held_out is not None and held_out.training == HELD_OUT
    return frozenset(held_out.texts) if held_out is not None and is_left_out else frozenset()
