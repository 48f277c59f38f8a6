"""The documents over which a student's scores follow its teacher's: the teacher's own nearest of
each text, and some at random.

Shapes: n texts of a target, b rows of a batch, s of them scored, K candidates, D dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import numpy as np
import torch

from leafkit.config import CandidatesConfig, StudentConfig
from leafkit.core.console import log
from leafkit.core.errors import UsageError
from leafkit.data.records import Collection
from leafkit.index.exact import search_exact
from leafkit.index.ranking import exclude_self
from leafkit.index.vectors import Vectors, read_blocks
from leafkit.pipeline.student.leave_out import leave_out
from leafkit.pipeline.student.targets import Target
from leafkit.pipeline.student.text_groups import DOCUMENTS, PSEUDO_TEXTS, TextGroup
from leafkit.pipeline.student.validation import relevant_documents
from leafkit.train.student_terms import ScoredRows, SecondOpinion, needs_candidates

_FEWEST = 2  # candidates that say anything about an order
_MOST_RELEVANT = 8  # of a query in one batch; other batches have others
Relevant = Mapping[str, Mapping[int, int]]  # grades by position of the document, by text


class NoQueriesError(UsageError):
    """Scores are to be followed, and there is no text whose scores these could be."""


@dataclass(frozen=True, slots=True)
class StartScores:
    """How the start model itself scores, by its own unit vectors of E dimensions.

    Attributes:
        weight: of its scores beside the teacher's, whose weight is 1.
        documents: (N, E) of the index.
        texts: by target (n, E); None where a target's texts are not scored.
        nearest: by target (n, k) positions of the documents that it finds for them; likewise.
    """

    weight: float
    documents: np.ndarray
    texts: Sequence[np.ndarray | None]
    nearest: Sequence[np.ndarray | None]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Nearest documents by target; a target without scores has None.

    Attributes:
        documents: the teacher's vectors of the index.
        nearest: by target (n, k) positions of documents.
        config: numbers of candidates.
        seed: of those at random.
        relevant: (r,) positions of relevant documents by (number of the target, number of its
            text); empty where the contrastive term does not ask.
        start: the start's own scores beside the teacher's; None where they do not count.
    """

    documents: Vectors
    nearest: Sequence[np.ndarray | None]
    config: CandidatesConfig
    seed: int
    relevant: Mapping[tuple[int, int], np.ndarray] = field(default_factory=dict)
    start: StartScores | None = None

    def has(self, target: int) -> bool:
        """Whether a target's texts are scored."""
        return self.nearest[target] is not None

    def of(
        self,
        rows: Sequence[tuple[int, int]],
        step: int,
        expected: tuple[float, float] | None = None,
    ) -> ScoredRows | None:
        """Candidates of a batch's rows; None where none of them is scored. A document that is among
        them twice counts once.

        Args:
            rows: (number of the target, number of its text).
            step: of the training; the random documents are drawn by it, the same on all processes.
            expected: scored and judged rows that a global batch of this size has on average; None
                takes what these rows have.
        """
        places = [r for r, (g, _) in enumerate(rows) if self.has(g)]
        if not places:
            return None
        scored = [rows[r] for r in places]
        expected = expected or self.count(np.array(rows))
        near = np.concatenate([_rows_of(found, scored) for found in self._rankings()], axis=1)
        count = min(self.config.num_random, len(self.documents))
        generator = np.random.default_rng((self.seed, step))
        different = np.unique(generator.integers(0, len(self.documents), count))
        # the first target is the index: a document is no candidate of its own
        own = np.array([i if g == 0 else -1 for g, i in scored])
        drawn = np.where(different == own[:, None], -1, different)
        positions, positives = np.concatenate([near, drawn], axis=1), None
        if self.relevant:
            judged = [self._draw_relevant(row, step) for row in scored]
            width = max(len(found) for found in judged)
            columns = np.full((len(places), width), -1)
            for column, found in zip(columns, judged, strict=True):
                column[: len(found)] = found
            positions = np.concatenate([positions, columns], axis=1)
            positives = np.stack(
                [
                    np.isin(line, self.relevant.get(row, ()))
                    for line, row in zip(positions, scored, strict=True)
                ]
            )
        present = (positions >= 0) & ~_seen_before(positions)
        unique, inverse = np.unique(np.where(positions < 0, 0, positions), return_inverse=True)
        inverse = inverse.reshape(positions.shape)
        vectors = np.asarray(self.documents[unique], dtype=np.float32)
        return ScoredRows(
            rows=torch.tensor(places),
            candidates=torch.from_numpy(vectors[inverse]),
            present=torch.from_numpy(present),
            expected_rows=expected[0],
            positives=None if positives is None else torch.from_numpy(positives),
            expected_judged=expected[1],
            second=self._second_opinion(scored, unique, inverse),
        )

    def count(self, rows: np.ndarray) -> tuple[int, int]:
        """Scored and judged ones among rows, (n, 2) numbers of targets and of their texts."""
        scored = np.flatnonzero([found is not None for found in self.nearest])
        num_scored = int(np.isin(rows[:, 0], scored).sum())
        if not self.relevant:
            return num_scored, 0
        judged = np.array(list(self.relevant), dtype=np.int64)
        keys, asked = ((g << 32) + i for g, i in (rows.astype(np.int64).T, judged.T))
        return num_scored, int(np.isin(keys, asked).sum())

    def _rankings(self) -> list[Sequence[np.ndarray | None]]:
        """The teacher's nearest documents, and the start's where its scores count."""
        return [self.nearest] if self.start is None else [self.nearest, self.start.nearest]

    def _second_opinion(
        self, scored: Sequence[tuple[int, int]], unique: np.ndarray, inverse: np.ndarray
    ) -> SecondOpinion | None:
        """The start's vectors of scored texts and of their candidates."""
        if self.start is None:
            return None
        documents = self.start.documents[unique]
        return SecondOpinion(
            torch.from_numpy(_rows_of(self.start.texts, scored)),
            torch.from_numpy(documents[inverse]),
            self.start.weight,
        )

    def _draw_relevant(self, row: tuple[int, int], step: int) -> np.ndarray:
        """(r,) some of a text's relevant documents, other ones in each step."""
        found = self.relevant.get(row, np.empty(0, dtype=np.int64))
        if len(found) <= _MOST_RELEVANT:
            return found
        return np.random.default_rng((self.seed, step, *row)).choice(
            found, _MOST_RELEVANT, replace=False
        )


def _rows_of(by_target: Sequence[np.ndarray | None], rows: Sequence[tuple[int, int]]) -> np.ndarray:
    """(s, ...) rows of the arrays of their targets, which have them."""
    found = []
    for target, text in rows:
        array = by_target[target]
        assert array is not None
        found.append(array[text])
    return np.stack(found)


def _seen_before(positions: np.ndarray) -> np.ndarray:
    """(s, K) bool: whether a position stands further left in its row already.

    >>> _seen_before(np.array([[4, 2, 4, 2, 7]])).tolist()
    [[False, False, True, True, False]]
    """
    order = np.argsort(positions, axis=1, kind="stable")
    ranked = np.take_along_axis(positions, order, axis=1)
    is_repeated = np.zeros(positions.shape, dtype=bool)
    is_repeated[:, 1:] = ranked[:, 1:] == ranked[:, :-1]
    seen = np.empty_like(is_repeated)
    np.put_along_axis(seen, order, is_repeated, axis=1)
    return seen


def can_score(targets: Sequence[Target]) -> bool:
    """Whether there are queries to score and documents to score them over."""
    has_queries = any(t.origin != PSEUDO_TEXTS and t.role != "document" for t in targets)
    return has_queries and len(targets[0].texts) > _FEWEST


def check_scores(
    groups: Sequence[TextGroup],
    config: StudentConfig,
    collection: Collection,
    *,
    unseen: AbstractSet[str] = frozenset(),
) -> None:
    """Refuse terms over scores that have nothing to score, before the teacher embeds anything.

    Args:
        groups: that the student learns from; the first one is the index.
        config: of the student.
        collection: whose judgments the contrastive term follows.
        unseen: texts among them that training leaves out, as ``leave_out`` does.

    Raises:
        UsageError: as of ``find_candidates``.
    """
    losses = config.losses
    if config.trains_on_losses and needs_candidates(losses):
        kept = leave_out(groups, unseen)
        relevant = relevant_documents(collection, kept) if losses.contrastive else None
        _check_texts(kept, losses.candidates, relevant)


def find_candidates(
    targets: Sequence[Target],
    config: CandidatesConfig,
    seed: int,
    relevant: Relevant | None = None,
) -> Candidates:
    """The teacher's nearest documents of every text that is scored.

    Args:
        targets: the first one is the index.
        config: which texts, how many candidates.
        seed: of the random ones.
        relevant: what judgments say, for the contrastive term; None where it is not asked for.

    Raises:
        NoQueriesError: no text is scored.
        UsageError: none is judged where that is asked for, or the index has too few documents.
    """
    _check_texts(targets, config, relevant)
    documents = targets[0].vectors
    nearest = [_nearest(target, documents, config) for target in targets]
    judged: dict[tuple[int, int], np.ndarray] = {}
    if relevant is not None:
        judged = _find_relevant(targets, nearest, relevant)
    return Candidates(documents, nearest, config, seed, judged)


def _check_texts(
    groups: Sequence[TextGroup | Target], config: CandidatesConfig, relevant: Relevant | None
) -> None:
    """Refuse texts that have no scores to follow, as of ``find_candidates``."""
    if len(groups[0].texts) <= _FEWEST:
        raise UsageError(
            f"{len(groups[0].texts)} documents are no candidates to score",
            "leave the terms over scores at 0: student.losses.l2 needs no candidates",
        )
    scored = [group for group in groups if _is_scored(group, config)]
    if not scored:
        raise NoQueriesError(
            "the terms over scores have no queries to score",
            "give train queries, or student.losses.candidates.texts=all scores the documents "
            "themselves",
        )
    asked = (text for group in scored if group.role != "document" for text in group.texts)
    if relevant is not None and not any(relevant.get(text) for text in asked):
        raise UsageError(
            "student.losses.contrastive: no train query has judged documents",
            "leave it at 0: the terms over the teacher's own scores need no judgments",
        )


def _is_scored(group: TextGroup | Target, config: CandidatesConfig) -> bool:
    return group.origin != PSEUDO_TEXTS and (config.texts == "all" or group.role != "document")


def _find_relevant(
    targets: Sequence[Target], nearest: Sequence[np.ndarray | None], relevant: Relevant
) -> dict[tuple[int, int], np.ndarray]:
    """Positions of the relevant documents of every scored query that has any."""
    queries = [
        (g, i, text)
        for g, target in enumerate(targets)
        if nearest[g] is not None and target.role != "document"
        for i, text in enumerate(target.texts)
    ]
    judged = {
        (g, i): np.array(sorted(relevant[text]), dtype=np.int64)
        for g, i, text in queries
        if relevant.get(text)
    }
    log(f"  contrastive: {len(judged):,} of {len(queries):,} training queries are judged")
    return judged


def _nearest(target: Target, documents: Vectors, config: CandidatesConfig) -> np.ndarray | None:
    if not _is_scored(target, config):
        return None
    is_index = target.origin == DOCUMENTS
    k = min(config.num_nearest, len(documents) - is_index)
    parts = []
    for start, block in read_blocks(target.vectors):
        own = np.arange(start, start + len(block)) if is_index else np.full(len(block), -1)
        ranking = search_exact(block, documents, k + is_index)
        parts.append(exclude_self(ranking, own, k).positions.astype(np.int32))
    return np.concatenate(parts)
