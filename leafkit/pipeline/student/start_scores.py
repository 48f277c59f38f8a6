"""How the start model itself scores the documents, before anything of it is trained: a second
opinion beside the teacher's.

A start that retrieves well ranks by other signs than its teacher, so that both together rank better
than either, and a student finds its start's part of that easily. Documents stay the teacher's.

Shapes: n texts of a target, E dimensions of the start's own vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from leafkit.core.console import log
from leafkit.core.truncate import truncate_then_normalize
from leafkit.embedders.token_reader import reader_of
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.evaluation.agreement import DEPTH, shares_found
from leafkit.index.exact import search_exact
from leafkit.index.ranking import exclude_self
from leafkit.index.vectors import SideBySide
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.student.candidates import Candidates, StartScores
from leafkit.pipeline.student.fit.pooled_states import PooledStates
from leafkit.pipeline.student.targets import Distillation
from leafkit.pipeline.student.text_groups import DOCUMENTS
from leafkit.pipeline.student.validation import Validation


def score_by_start(
    start: TextEncoder, task: Distillation, states: PooledStates, candidates: Candidates
) -> Candidates:
    """The candidates with the start's scores beside the teacher's: the documents, and the texts
    that are scored, embedded by the start as it came, with its own prompts and head.

    Args:
        start: not trained yet.
        task: texts, limits and ``start_weight``.
        states: of the student's backbone, which serve where the start reads the same tokens.
        candidates: say which texts are scored, and how many documents are near.
    """
    scored = [number for number in range(len(task.targets)) if candidates.has(number)]
    log(
        f"  scores: the start's own count {task.config.start_weight:g} times the teacher's; it "
        f"reads all {len(task.targets[0].texts):,} documents for that"
    )
    vectors = {number: _embed(start, task, states, number) for number in {0, *scored}}
    nearest: list[np.ndarray | None] = [None] * len(task.targets)
    for number in scored:
        is_index = task.targets[number].origin == DOCUMENTS
        asked = vectors[number]
        k = min(candidates.config.num_nearest, len(vectors[0]) - is_index)
        own = np.arange(len(asked)) if is_index else np.full(len(asked), -1)
        ranking = search_exact(asked, vectors[0], k + is_index)
        nearest[number] = exclude_self(ranking, own, k).positions.astype(np.int32)
    log(f"  scores: it finds {_shared(candidates, nearest):.3f} of the teacher's ten nearest")
    texts = [vectors[n] if n in scored else None for n in range(len(task.targets))]
    beside = StartScores(task.config.start_weight, vectors[0], texts, nearest)
    return replace(candidates, start=beside)


def _shared(candidates: Candidates, nearest: Sequence[np.ndarray | None]) -> float:
    """Overlap@10 of both rankings, the mean over all scored texts."""
    shares = [
        shares_found(theirs[:, :DEPTH], own[:, :DEPTH])
        for theirs, own in zip(candidates.nearest, nearest, strict=True)
        if theirs is not None and own is not None
    ]
    return float(np.concatenate(shares).mean())


def follow_both(validation: Validation, candidates: Candidates) -> Validation:
    """Held-out texts that are checked on what the student is to follow: the teacher's scores and
    the start's together, over all documents.

    Args:
        validation: whose nearest documents are the teacher's alone.
        candidates: with the start's scores; of texts that are not scored the documents' are known.
    """
    start = candidates.start
    if start is None:
        return validation
    own = []
    for number, text in validation.rows:
        vectors = start.texts[number]
        # documents come first; held out they are asked as they are
        own.append((start.documents if vectors is None else vectors)[text])
    asked = SideBySide(validation.vectors, start.weight * np.stack(own))
    together = SideBySide(candidates.documents, start.documents)
    return validation.following(asked[:], together)


def _embed(start: TextEncoder, task: Distillation, states: PooledStates, number: int) -> np.ndarray:
    """(n, E) unit vectors of a target's texts."""
    target = task.targets[number]
    reader = reader_of(start, target.role, task.limits.of(target.role))
    ids = task.tokenize(reader, target.texts)
    if start.projection is None and states.are_of(ids, number, start.hidden_size):
        found = states.bare([(number, i) for i in range(len(ids))])
    else:
        found = TransformerEmbedder(start, task.device, task.precision).embed_ids(ids)
    unit: np.ndarray = truncate_then_normalize(found)
    return unit
