"""Texts and their teacher vectors as a data module: token-budget batches for ``LeafModule``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from leafkit.config import SCORE_TERMS
from leafkit.core.errors import UsageError
from leafkit.data.batching import share_of_rank, token_budget_batches
from leafkit.data.stored.flat_tokens import flatten
from leafkit.embedders.token_reader import reader_of
from leafkit.train.batch_data import BatchData
from leafkit.train.batch_list import BatchList
from leafkit.train.leaf_module import LeafBatch, LeafModule
from leafkit.train.student_terms import needs_candidates, weights_of

_CHECKED_ROWS = 4096  # vectors looked at together


class DistillationData(BatchData):
    """Texts with the vectors that a teacher gave them; what a student is distilled on.

        module = LeafModule(student, OptimizerConfig())
        data = DistillationData(documents, vectors, queries=queries, query_vectors=more)
        lightning.Trainer(max_epochs=2).fit(module, data)

    Texts are tokenized by the module's own encoder, each role with its prompt, when training
    starts. Batches hold texts of similar length; every pass has others.

    Args:
        texts: documents.
        vectors: (n, D) their teacher vectors; an array, or whatever gives rows of one.
        queries: texts that get the prompt of queries.
        query_vectors: (m, D) the teacher's vectors of the queries.
        tokens_per_batch: padded tokens of a batch, over all processes.
        max_texts_per_batch: texts of a batch, over all processes.
        max_tokens: texts are cut here; None takes the encoder's own limit.
        seed: of the order.

    Raises:
        UsageError: texts and vectors do not fit together.
    """

    def __init__(
        self,
        texts: Sequence[str],
        vectors: np.ndarray,
        *,
        queries: Sequence[str] = (),
        query_vectors: np.ndarray | None = None,
        tokens_per_batch: int = 2048,
        max_texts_per_batch: int = 128,
        max_tokens: int | None = None,
        seed: int = 42,
    ) -> None:
        super().__init__()
        if len(queries) and query_vectors is None:
            raise UsageError("queries without query_vectors", "give the teacher's vectors of them")
        groups = [("document", texts, vectors)]
        if query_vectors is not None:
            groups.append(("query", queries, query_vectors))
        for role, its_texts, its_vectors in groups:
            if len(its_texts) != len(its_vectors):
                raise UsageError(
                    f"{len(its_texts):,} texts and {len(its_vectors):,} vectors (role {role})",
                    "give one vector per text, in the same order",
                )
        self._groups = [group for group in groups if len(group[1])]
        if not self._groups:
            raise UsageError("there is no text to train on", "DistillationData(texts, vectors)")
        self._tokens_per_batch, self._max_texts = tokens_per_batch, max_texts_per_batch
        self._max_tokens, self._seed = max_tokens, seed
        self._token_ids = flatten([])

    def setup(self, stage: str) -> None:
        """Tokenize with the trained encoder and count the batches.

        Raises:
            UsageError: the vectors are not of the encoder's dimension, or not finite; or the module
                has terms over scores, for which these batches hold no candidates.
        """
        module = self.trainer.lightning_module
        if isinstance(module, LeafModule) and needs_candidates(module.weights):
            over_scores = [t for t in SCORE_TERMS if weights_of(module.weights)[t]]
            raise UsageError(
                f"student.losses.{over_scores[0]} is over the scores of documents, and the batches "
                "of DistillationData have none",
                "leafkit.distill(..., config=StudentConfig(losses=...)) takes them from the index",
            )
        encoder = module.encoder
        for role, _, vectors in self._groups:
            _check_vectors(role, vectors, encoder.dim)
        self._token_ids = flatten(
            part
            for role, texts, _ in self._groups
            for part in reader_of(encoder, role, self._max_tokens).read_parts(texts)
        )
        self.num_batches = len(self._plan(0))

    def make_pass(self, epoch: int) -> BatchList:
        """The batches of a pass, this process's share of each."""
        batches = with_count(self._plan(epoch), self.num_batches)
        rank, world_size = self.trainer.global_rank, self.trainer.world_size

        def make(index: int) -> LeafBatch:
            batch = batches[index]
            rows = share_of_rank(batch, rank, world_size)
            weight = 1.0 if len(rows) else 0.0
            rows = rows if len(rows) else batch[:1]
            targets = torch.from_numpy(self._targets(rows))
            return LeafBatch([self._token_ids[r] for r in rows], targets, len(batch), weight)

        return BatchList(len(batches), make, rows=[len(batch) for batch in batches])

    def _plan(self, epoch: int) -> list[np.ndarray]:
        return token_budget_batches(
            self._token_ids.lengths,
            self._tokens_per_batch,
            self._max_texts,
            self._seed,
            epoch=epoch,
        )

    def _targets(self, rows: np.ndarray) -> np.ndarray:
        """(b, D) float32 teacher vectors of rows, counted over all groups."""
        targets, first = [], 0
        order: list[np.ndarray] = []
        for _, texts, vectors in self._groups:
            places = np.flatnonzero((rows >= first) & (rows < first + len(texts)))
            if len(places):
                targets.append(np.asarray(vectors[rows[places] - first], dtype=np.float32))
                order.append(places)
            first += len(texts)
        joined = np.concatenate(targets)
        return joined[np.argsort(np.concatenate(order), kind="stable")]


def with_count(batches: Sequence[np.ndarray], count: int) -> list[np.ndarray]:
    """The same rows in ``count`` batches: the largest are halved, or the smallest are joined.

    Passes over texts of equal budget differ by a few batches, because other texts meet in a window;
    Lightning wants passes of one length. A joined batch may be larger than the budget by what the
    smaller of the two had.

    >>> [batch.tolist() for batch in with_count([np.array([4, 1, 3]), np.array([2])], 3)]
    [[4], [1, 3], [2]]
    >>> batches = [np.array([0, 1]), np.array([2]), np.array([3])]
    >>> [batch.tolist() for batch in with_count(batches, 2)]
    [[0, 1], [2, 3]]

    Args:
        batches: row numbers.
        count: at least 1 and at most the number of rows.
    """
    parts = list(batches)
    while len(parts) < count:
        place = max(range(len(parts)), key=lambda i: len(parts[i]))
        half = len(parts[place]) // 2
        parts[place : place + 1] = [parts[place][:half], parts[place][half:]]
    while len(parts) > count:
        first, second = sorted(sorted(range(len(parts)), key=lambda i: len(parts[i]))[:2])
        parts[first] = np.concatenate([parts[first], parts.pop(second)])
    return parts


def _check_vectors(role: str, vectors: np.ndarray, dim: int) -> None:
    for start in range(0, len(vectors), _CHECKED_ROWS):
        part = np.asarray(vectors[start : start + _CHECKED_ROWS], dtype=np.float32)
        if part.ndim != 2 or part.shape[1] != dim:
            raise UsageError(
                f"the teacher vectors (role {role}) have shape {part.shape[1:]} per text and the "
                f"student's have {dim} dimensions",
                "build the student for this teacher: a projection onto the teacher's dimensions",
            )
        is_finite = np.isfinite(part).all(axis=1)
        if not is_finite.all():
            raise UsageError(
                f"teacher vector {start + int(np.argmin(is_finite))} (role {role}) is not finite",
                "embed the texts again",
            )
