"""The documents over which a student's scores follow its teacher's: the teacher's own nearest of
each text, and some at random.

Shapes: n texts of a target, b rows of a batch, s of them scored, K candidates, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from leafkit.config import CandidatesConfig
from leafkit.core.errors import UsageError
from leafkit.index.exact import search_exact
from leafkit.index.ranking import exclude_self
from leafkit.index.vectors import Vectors, read_blocks
from leafkit.pipeline.student.targets import DOCUMENTS, PSEUDO_TEXTS, Target
from leafkit.train.leaf_module import ScoredRows

_FEWEST = 2  # candidates that say anything about an order


@dataclass(frozen=True, slots=True)
class Candidates:
    """Nearest documents by target; a target without scores has None.

    Attributes:
        documents: the teacher's vectors of the index.
        nearest: by target (n, k) positions of documents.
        config: numbers of candidates.
        seed: of those at random.
    """

    documents: Vectors
    nearest: Sequence[np.ndarray | None]
    config: CandidatesConfig
    seed: int

    def has(self, target: int) -> bool:
        """Whether a target's texts are scored."""
        return self.nearest[target] is not None

    def of(
        self, rows: Sequence[tuple[int, int]], step: int, num_global_scored: int
    ) -> ScoredRows | None:
        """Candidates of a batch's rows; None where none of them is scored. A random document that
        is among a text's nearest counts once.

        Args:
            rows: (number of the target, number of its text).
            step: of the training; the random documents are drawn by it, the same on all processes.
            num_global_scored: rows of the global batch that are scored.
        """
        places = [r for r, (g, _) in enumerate(rows) if self.has(g)]
        if not places:
            return None
        near = np.stack([self._nearest_of(*rows[r]) for r in places])
        count = min(self.config.num_random, len(self.documents))
        generator = np.random.default_rng((self.seed, step))
        different = np.unique(generator.integers(0, len(self.documents), count))
        drawn = np.broadcast_to(different, (len(places), len(different)))
        is_near = (drawn[:, :, None] == near[:, None, :]).any(axis=2)
        positions = np.concatenate([near, drawn], axis=1)
        present = np.concatenate([near >= 0, ~is_near], axis=1)
        unique, inverse = np.unique(np.where(positions < 0, 0, positions), return_inverse=True)
        vectors = np.asarray(self.documents[unique], dtype=np.float32)
        return ScoredRows(
            torch.tensor(places),
            torch.from_numpy(vectors[inverse.reshape(positions.shape)]),
            torch.from_numpy(present),
            num_global_scored,
        )

    def _nearest_of(self, target: int, text: int) -> np.ndarray:
        found = self.nearest[target]
        assert found is not None
        row: np.ndarray = found[text]
        return row


def find_candidates(targets: Sequence[Target], config: CandidatesConfig, seed: int) -> Candidates:
    """The teacher's nearest documents of every text that is scored.

    Args:
        targets: the first one is the index.
        config: which texts, how many candidates.
        seed: of the random ones.

    Raises:
        UsageError: no text is scored, or the index has too few documents.
    """
    documents = targets[0].vectors
    if len(documents) <= _FEWEST:
        raise UsageError(
            f"{len(documents)} documents are no candidates to score",
            "leave the terms over scores at 0: student.losses.l2 needs no candidates",
        )
    nearest = [_nearest(target, documents, config) for target in targets]
    if all(found is None for found in nearest):
        raise UsageError(
            "the terms over scores have no queries to score",
            "give train queries, or student.losses.candidates.texts=all scores the documents "
            "themselves",
        )
    return Candidates(documents, nearest, config, seed)


def _nearest(target: Target, documents: Vectors, config: CandidatesConfig) -> np.ndarray | None:
    is_scored = target.origin != PSEUDO_TEXTS and (
        config.texts == "all" or target.role != "document"
    )
    if not is_scored:
        return None
    is_index = target.origin == DOCUMENTS
    k = min(config.num_nearest, len(documents) - is_index)
    parts = []
    for start, block in read_blocks(target.vectors):
        own = np.arange(start, start + len(block)) if is_index else np.full(len(block), -1)
        ranking = search_exact(block, documents, k + is_index)
        parts.append(exclude_self(ranking, own, k).positions.astype(np.int32))
    return np.concatenate(parts)
