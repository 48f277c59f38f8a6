"""Queries at the rungs of a ladder: embedded, searched for, and what the router reads of it. The
same functions calibrate the router and serve it.

Shapes: Q queries, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from leafkit.core.artifact import read_manifest
from leafkit.core.checkpoint_layout import EXPORT
from leafkit.embedders.lookup_table import LookupTableEmbedder
from leafkit.embedders.onnx_graph import OnnxGraphEmbedder
from leafkit.embedders.protocol import Embedder
from leafkit.evaluation.routing.signals import DEPTH, Visit
from leafkit.index.exact import search_exact
from leafkit.index.ranking import Ranking, exclude_self
from leafkit.index.rescoring import rescore
from leafkit.index.search import search_index
from leafkit.pipeline.pair import Pair


def search(pair: Pair, queries: np.ndarray, k: int) -> Ranking:
    """The k best documents of (Q, D) float32 vectors, by the pair's index at the setting that it is
    served with; scores are inner products whatever the index holds.
    """
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    k = min(k, len(pair.documents))
    if pair.index is None:
        return search_exact(queries, pair.document_matrix(), k)
    setting = pair.index.plan.settings[-1]
    found = search_index(pair.index, queries, k, setting, documents=pair.vectors)
    return rescore(queries, pair.document_matrix(), found.positions, k)


def describe_search(pair: Pair) -> tuple[str, str]:
    """Kind of the index, and how it is built and searched, in words: what decides, beside the
    documents, about what is found.
    """
    if pair.index is None:
        return "flat", "exhaustive"
    plan = pair.index.plan
    return plan.kind, f"{plan.factory}, {plan.label(plan.settings[-1])}"


def graph_of(folder: Path, pair: Pair) -> str:
    """Identity of what answers as the student: the exported graph of a recipe's folder, or the
    student itself. Which of the graphs answers is decided by the figures among its files.
    """
    if not isinstance(pair.embedder, OnnxGraphEmbedder):
        return type(pair.embedder).__name__
    return read_manifest(folder / EXPORT).fingerprint()


def lengths_of(model: Embedder, texts: Sequence[str], max_tokens: int) -> np.ndarray:
    """(Q,) lengths of a table's vectors before they are normalized: a text of frequent words, or of
    words that cancel out, has a short one. 1 for other models, whose vectors come normalized.
    """
    found = np.ones(len(texts))
    if isinstance(model, LookupTableEmbedder):
        for row, ids in enumerate(model.encoder.tokenize(texts, "query", max_tokens)):
            if ids:
                found[row] = np.linalg.norm(model.table.take(ids, axis=0).mean(axis=0))
    return found


def visit(
    pair: Pair,
    model: Embedder,
    texts: Sequence[str],
    vectors: np.ndarray,
    *,
    max_tokens: int,
    own: np.ndarray | None = None,
    k: int = DEPTH,
) -> tuple[Visit, Ranking]:
    """Queries at a rung, and their k best documents.

    Args:
        pair: whose documents are searched.
        model: of the rung.
        texts: Q queries without prompts.
        vectors: (Q, D) of the rung.
        max_tokens: that the queries were cut at; 0 takes the model's own limit.
        own: (Q,) position of the document that a query may not find, -1 for none; None where no
            query is a document.
        k: documents, ``DEPTH`` at least.
    """
    spare = 0 if own is None else int((own >= 0).any())
    ranking = search(pair, vectors, max(k, DEPTH) + spare)
    if own is not None:
        ranking = exclude_self(ranking, own, max(k, DEPTH))
    seen = Visit(
        vectors,
        lengths_of(model, texts, max_tokens or model.max_tokens),
        ranking.positions[:, :DEPTH],
        ranking.scores[:, :DEPTH],
    )
    return seen, ranking
