"""Soft labels of a stage's rows: scores of each row's candidates by stronger models, by BM25, or
brought by the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from leafkit.core.errors import LeafkitError
from leafkit.evaluation.bm25 import bm25_scores
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.teacher.mine import embed_queries
from leafkit.pipeline.teacher.task import EmbedRequest, NamedModel, Source, StageTask

ROWS, BM25 = "rows", "bm25"
_ROWS_PER_BLOCK = 4096  # whose candidates' vectors are in memory together


def score_sources(task: StageTask, sources: Sequence[Source]) -> None:
    """Fill ``rows.scores``: the mean of what the soft-label models say of each candidate.

    BM25 has no upper end: its scores are divided by the row's largest, so that they lie in [0, 1]
    like cosines of texts do.

    Raises:
        LeafkitError: a row brings scores of other candidates than it has, or none.
    """
    models = task.config.soft_labels.models
    if not models:
        for source in sources:
            source.rows.scores = [[] for _ in range(len(source.rows))]
        return
    if models == [ROWS]:
        for source in sources:
            _check_given(source)
        return
    named = {reference: task.load_model(reference) for reference in models if reference != BM25}
    for source in sources:
        candidates = _candidates(source)
        parts = [
            _bm25(source, candidates)
            if reference == BM25
            else _dense(task, source, candidates, named[reference])
            for reference in models
        ]
        mean = np.mean(parts, axis=0)
        rows = source.rows
        rows.scores = [mean[i, : 1 + len(rows.negatives[i])].tolist() for i in range(len(rows))]


def _check_given(source: Source) -> None:
    rows = source.rows
    for i in range(len(rows)):
        expected = 1 + len(rows.negatives[i])
        if len(rows.scores[i]) != expected:
            raise LeafkitError(
                f"source {source.name}: the row of query {rows.queries[i][:60]!r} brings "
                f"{len(rows.scores[i])} scores for"
                f" {expected} candidates: they are soft labels of another candidate list",
                "give 'scores' with one number per positive and negative, mine no further "
                "negatives for such rows,"
                " or name models in soft_labels.models",
            )


def _candidates(source: Source) -> np.ndarray:
    """(R, K) positions of each row's positive and negatives; absent ones repeat the positive."""
    rows = source.rows
    lists = [[rows.positives[i], *rows.negatives[i]] for i in range(len(rows))]
    width = max(map(len, lists))
    return np.array([row + row[:1] * (width - len(row)) for row in lists])


def _bm25(source: Source, candidates: np.ndarray) -> np.ndarray:
    scores = bm25_scores(source.rows.queries, candidates, source.rows.documents)
    return scores / np.maximum(scores.max(axis=1, keepdims=True), 1e-9)


def _dense(
    task: StageTask, source: Source, candidates: np.ndarray, model: NamedModel
) -> np.ndarray:
    """(R, K) cosines by a model; only documents that are somebody's candidate are embedded, unless
    mining embedded all.
    """
    rows, config = source.rows, task.config
    embedder = task.embedder(_with_template(task, source, model.encoder))
    texts, query_of_row = rows.distinct_queries()
    has_all = bool(config.mining.model) and task.identify(config.mining.model) == model.identity
    used = np.arange(len(rows.documents)) if has_all else np.unique(candidates)
    queries = embed_queries(task, embedder, model.name, source=source, texts=texts)
    request = EmbedRequest(
        [rows.documents[d] for d in used],
        "document",
        task.data.max_document_tokens,
        f"{source.name} {'documents' if has_all else 'candidates'}",
    )
    documents = task.library.embed(embedder, model.name, request)
    query_RD = queries[np.array(query_of_row)]
    places = np.searchsorted(used, candidates)
    scores = np.empty(candidates.shape, dtype=np.float32)
    for start in range(0, len(rows), _ROWS_PER_BLOCK):
        part = slice(start, start + _ROWS_PER_BLOCK)
        vectors = documents[places[part].ravel()].reshape(*places[part].shape, -1)
        scores[part] = np.einsum("rd,rkd->rk", query_RD[part], vectors)
    return scores


def _with_template(task: StageTask, source: Source, encoder: TextEncoder) -> TextEncoder:
    """The model under the soft labels' own query prompt, where the stage gives one."""
    template = task.config.soft_labels.query_template
    if not template:
        return encoder
    instruction = source.config.instruction or task.config.instruction
    prompt = template.removesuffix("{query}").replace("{instruction}", instruction)
    spec = replace(encoder.spec, prompts={"query": prompt})
    return TextEncoder(
        encoder.backbone,
        encoder.tokenizer,
        spec,
        encoder.projection,
        fingerprint=encoder.fingerprint,
    )
