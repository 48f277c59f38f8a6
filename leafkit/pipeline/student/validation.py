"""Training texts that train nothing: they say which start and which moment of a training is the
best, without judgments.

Shapes: V texts, D dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from leafkit.data.records import Collection, same_text
from leafkit.data.stored.flat_tokens import FlatTokens
from leafkit.data.vector_store import hash_texts
from leafkit.evaluation.agreement import DEPTH, cosines, shares_found
from leafkit.evaluation.metrics import Judgments, fast_ndcg
from leafkit.index.exact import search_exact
from leafkit.index.ranking import Ranking, exclude_self
from leafkit.index.vectors import Vectors
from leafkit.pipeline.student.leave_out import relevant_sources
from leafkit.pipeline.student.targets import (
    Distillation,
    Target,
    list_rows,
    of_origin,
    read_targets,
)
from leafkit.pipeline.student.text_groups import DOCUMENTS, TextGroup

_FEWEST = 20  # texts that a choice is worth basing on
_SHARE = 0.05  # of the texts, at most
_SHARE_OF_FEW = 0.1  # where that is not enough, and a training must be watched
_MOST_DOCUMENTS = 100  # they are long, and each check embeds them
TokenIds = Sequence[FlatTokens]  # by target


@dataclass(frozen=True, slots=True)
class Agreed:
    """How near a student is to its teacher on held-out texts.

    Attributes:
        cosine: mean, of its vectors to the teacher's.
        overlap: share of the teacher's ten nearest documents that it finds among the teacher's
            vectors.
        shares: of each text, whose mean the overlap is.
        ndcg: nDCG@10 of the judged texts among the teacher's vectors; None where too few are.
        followed: share of the ten nearest documents by the scores that the student is to follow;
            None where these are the teacher's alone, of which the overlap says it.
    """

    cosine: float
    overlap: float
    shares: tuple[float, ...] = field(default=(), repr=False)
    ndcg: float | None = None
    followed: float | None = None

    def is_better(self, other: Agreed) -> bool:
        """By what it finds of that which it is to find; where that is equal, by cosine."""
        return (self._aim, self.cosine) > (other._aim, other.cosine)

    @property
    def _aim(self) -> float:
        return self.overlap if self.followed is None else self.followed

    def is_as_good(self, other: Agreed) -> bool:
        """Whether it finds as much on the same texts, within a standard error of the difference,
        text by text.
        """
        lost = np.array(other.shares) - np.array(self.shares)
        return bool(lost.mean() <= lost.std() / len(lost) ** 0.5)

    def __str__(self) -> str:
        parts = [f"cosine {self.cosine:.4f}", f"overlap@{DEPTH} {self.overlap:.3f}"]
        if self.followed is not None:
            parts.append(f"{self.followed:.3f} with teacher and start together")
        if self.ndcg is not None:
            parts.append(f"nDCG@{DEPTH} {self.ndcg:.3f}")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Validation:
    """Held-out texts with what the teacher finds for them.

    Attributes:
        origin: ``QUERIES``, ``MADE_QUERIES``, or ``DOCUMENTS`` that are asked as they are.
        rows: (number of the target, number of its text), V of them.
        token_ids: of the student, V of them.
        vectors: (V, D) of the teacher.
        own: (V,) position of the document that each is, or -1.
        nearest: (V, k) the teacher's own ranking.
        documents: the teacher's vectors of the index.
        texts: theirs, and all that differ from one of them in case and spaces only: nothing trains
            on these.
        judged: numbers of the texts that have judgments.
        judgments: theirs; None where too few have any.
        followed: (V, k) the ranking that the student is to follow, where it is another.
        has_stand_ins: ``vectors`` are those of the documents that the texts were made of.
    """

    origin: str
    rows: list[tuple[int, int]]
    token_ids: list[np.ndarray]
    vectors: np.ndarray
    own: np.ndarray
    nearest: np.ndarray
    documents: Vectors
    texts: frozenset[str]
    judged: np.ndarray
    judgments: Judgments | None = None
    followed: np.ndarray | None = None
    has_stand_ins: bool = False

    @property
    def asked(self) -> str:
        """What the texts are, in words."""
        if self.has_stand_ins:
            return f"{self.origin} (by the vectors of their documents)"
        return self.origin if self.origin != DOCUMENTS else "documents, asked as queries,"

    def __str__(self) -> str:
        return f"{len(self.rows):,} {self.asked} held out"

    def measure(self, vectors: np.ndarray) -> Agreed:
        """Agreement of a student's vectors of the texts, (V, D), with the teacher's."""
        ranking = _nearest(vectors, self.documents, self.own, self.nearest.shape[1])
        shares = shares_found(self.nearest, ranking.positions)
        ndcg = followed = None
        if self.followed is not None:
            followed = float(shares_found(self.followed, ranking.positions).mean())
        if self.judgments is not None:
            of_judged = Ranking(ranking.positions[self.judged], ranking.scores[self.judged])
            ndcg = float(fast_ndcg(of_judged, self.judgments).mean())
        return Agreed(
            float(cosines(self.vectors, vectors).mean()),
            float(shares.mean()),
            tuple(shares.tolist()),
            ndcg,
            followed,
        )

    def following(self, vectors: np.ndarray, documents: Vectors) -> Validation:
        """The same texts for a student that is to follow other scores than the teacher's.

        Args:
            vectors: (V, E) of the texts.
            documents: (N, E) of the index; inner products are the scores.
        """
        depth = self.nearest.shape[1]
        return replace(self, followed=_nearest(vectors, documents, self.own, depth).positions)


def choose_validation(
    task: Distillation, token_ids: TokenIds, origins: Sequence[str], *, is_watched: bool = False
) -> Validation | None:
    """Texts of the first origin that has enough of them; None where none has.

    The choice is by the texts' own hashes: it is the same in every run, and more texts change
    little of it.

    Args:
        task: whose texts they are; the first target is the index.
        token_ids: of the student, by target.
        origins: the best first.
        is_watched: whether a training is checked on them, so that of few texts more are taken.
    """
    documents = task.targets[0].vectors
    for origin in origins:
        candidates = list_rows(task.targets, of_origin(origin))
        first: dict[str, tuple[int, int]] = {}
        for g, i in candidates:
            first.setdefault(same_text(task.targets[g].texts[i]), (g, i))
        most = _MOST_DOCUMENTS if origin == DOCUMENTS else task.config.num_held_out
        count = int(_SHARE * len(first))
        if is_watched:
            count = max(count, min(_FEWEST, int(_SHARE_OF_FEW * len(first))))
        count = min(most, task.config.num_held_out, count)
        if count >= _FEWEST:
            break
    else:
        return None
    if len(documents) < 2 * DEPTH:
        return None  # nearly all of them are among the ten nearest
    keys, asked = list(first), [task.targets[g].texts[i] for g, i in first.values()]
    chosen = {keys[i] for i in np.argsort(hash_texts(asked), kind="stable")[:count].tolist()}
    rows = sorted(first[key] for key in chosen)
    vectors = read_targets(task.targets, rows)
    own = np.array([i if origin == DOCUMENTS else -1 for _, i in rows], dtype=np.int64)
    grades = [task.relevant.get(task.targets[g].texts[i]) for g, i in rows]
    judged = np.array([v for v, found in enumerate(grades) if found], dtype=np.int64)
    return Validation(
        origin=origin,
        rows=rows,
        token_ids=[token_ids[g][i] for g, i in rows],
        vectors=vectors,
        own=own,
        nearest=_nearest(vectors, documents, own, DEPTH).positions,
        documents=documents,
        texts=frozenset(
            text for t in task.targets for text in t.texts if same_text(text) in chosen
        ),
        judged=judged,
        judgments=_judgments([found for found in grades if found], len(documents)),
        has_stand_ins=any(task.targets[g].sources for g, _ in rows),
    )


def relevant_documents(
    collection: Collection, targets: Sequence[TextGroup | Target]
) -> dict[str, dict[int, int]]:
    """Grades of judged train queries, and of queries that stand for a document, by position of the
    document in the index that trains, by the query's text.

    Args:
        collection: with the judgments.
        targets: the first one is the index, which may lack some of the collection's documents.
    """
    texts = set(targets[0].texts)
    trained = (document.id for document in collection.documents if document.full_text in texts)
    positions = {name: i for i, name in enumerate(trained)}
    found = relevant_sources(targets)
    for query in collection.queries:
        if query.split == "train" and query.id in collection.qrels:
            grades = collection.qrels[query.id].items()
            known = {positions[d]: grade for d, grade in grades if grade > 0 and d in positions}
            if known:
                found.setdefault(query.text, {}).update(known)
    return found


def _judgments(grades: Sequence[Mapping[int, int]], num_documents: int) -> Judgments | None:
    """Of queries whose grades are known by the positions of documents."""
    if len(grades) < _FEWEST:
        return None
    names = [str(row) for row in range(len(grades))]
    qrels = [{str(at): grade for at, grade in of_query.items()} for of_query in grades]
    documents = [str(at) for at in range(num_documents)]
    return Judgments(names, documents, dict(zip(names, qrels, strict=True)))


def _nearest(vectors: np.ndarray, documents: Vectors, own: np.ndarray, k: int) -> Ranking:
    """The k documents nearest to each of the V vectors, without its own."""
    ranking = search_exact(vectors, documents, k + int((own >= 0).any()))
    return exclude_self(ranking, own, k)
