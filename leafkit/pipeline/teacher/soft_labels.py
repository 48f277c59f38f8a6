"""Soft labels of a stage's rows: scores of each row's candidates by stronger models, by BM25, or
brought by the rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leafkit.core.errors import LeafkitError
from leafkit.data.prompts import make_prompt
from leafkit.evaluation.bm25 import bm25_scores
from leafkit.pipeline.teacher.embed_rows import embed_documents, embed_queries
from leafkit.pipeline.teacher.task import NamedModel, Source, StageTask

ROWS, BM25 = "rows", "bm25"
_ROWS_PER_BLOCK = 4096  # whose candidates' vectors are in memory together


def score_sources(task: StageTask, sources: Sequence[Source]) -> None:
    """Fill ``rows.scores``: what the soft-label models say of each candidate; several are brought
    to one scale and averaged, see ``on_one_scale``.

    BM25 has no upper end: its scores are divided by the row's largest, so that a long query's count
    for no more than a short one's.

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
        rows = source.rows
        counts = np.array([1 + len(given) for given in rows.negatives])
        present = np.arange(candidates.shape[1]) < counts[:, None]
        labels = on_one_scale(parts, [reference != BM25 for reference in models], present)
        rows.scores = [labels[i, :count].tolist() for i, count in enumerate(counts)]


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
    embedder = task.embedder(model.encoder)
    template = config.soft_labels.query_template
    prompt_of = (lambda own: make_prompt(template, own or source.instruction)) if template else None
    mined = bool(config.mining.model) and task.identify(config.mining.model) == model.identity
    # under a template of their own the documents of a symmetric source are other texts
    has_all = mined and not (template and source.is_symmetric)
    used = None if has_all else np.unique(candidates).tolist()
    queries, query_of_row = embed_queries(
        task, embedder, model.name, source=source, prompt_of=prompt_of
    )
    documents = embed_documents(
        task, embedder, model.name, source=source, prompt_of=prompt_of, used=used
    )
    query_RD = queries[query_of_row]
    places = candidates if used is None else np.searchsorted(used, candidates)
    scores = np.empty(candidates.shape, dtype=np.float32)
    for start in range(0, len(rows), _ROWS_PER_BLOCK):
        part = slice(start, start + _ROWS_PER_BLOCK)
        vectors = documents[places[part].ravel()].reshape(*places[part].shape, -1)
        scores[part] = np.einsum("rd,rkd->rk", query_RD[part], vectors)
    return scores


def on_one_scale(
    parts: Sequence[np.ndarray], is_cosine: Sequence[bool], present: np.ndarray
) -> np.ndarray:
    """(R, K) labels out of several models' scores, none of which counts for more because its scores
    are spread wider.

    BM25 divided by a row's largest score spreads over most of [0, 1], cosines over a few tenths at
    most, and those of one encoder over twice as much as another's: in a plain mean before a softmax
    the widest decides alone. So each model's scores are centred in every row and divided by their
    spread, the root of their mean square over the source's candidates; the mean of that gets the
    spread and the rows' centres back that the cosines have in the mean. The labels are cosines
    again: the same temperature fits one model and several, and mse can follow them. Neither KaLM
    nor LG-ANNA (arXiv 2506.07438) says how it joins scores of several models.

    >>> dense, words = np.array([[0.6, 0.4]]), np.array([[1.0, 0.0]])
    >>> on_one_scale([dense, words], [True, False], np.ones((1, 2), dtype=bool)).round(3).tolist()
    [[0.6, 0.4]]

    Args:
        parts: (R, K) scores by each model.
        is_cosine: by model; the scale is that of these, and of all where there are none.
        present: (R, K) candidates that exist.
    """
    if len(parts) == 1:
        return parts[0]
    number = present.sum(axis=1, keepdims=True)
    centres, centred, spreads = [], [], []
    for scores in parts:
        centre = (scores * present).sum(axis=1, keepdims=True) / number
        rest = (scores - centre) * present
        centres.append(centre)
        centred.append(rest)
        spreads.append(float(np.sqrt((rest**2).sum() / present.sum())))
    of_scale = [i for i, known in enumerate(is_cosine) if known] or list(range(len(parts)))
    spread = float(np.mean([spreads[i] for i in of_scale]))
    units = [rest / own if own > 0 else rest for rest, own in zip(centred, spreads, strict=True)]
    mean: np.ndarray = np.mean([centres[i] for i in of_scale], axis=0) + spread * np.mean(
        units, axis=0
    )
    return mean
