"""BM25 (bm25s) as the baseline that needs no model."""

from __future__ import annotations

from collections.abc import Sequence

import bm25s
import numpy as np

from leafkit.search.index import Ranking


def search_bm25(queries: Sequence[str], documents: Sequence[str], k: int) -> Ranking:
    """Lucene's BM25 with k1 = 1.5, b = .75, lower-cased words, no stop words, no stemming."""
    retriever = bm25s.BM25()
    retriever.index(bm25s.tokenize(list(documents), stopwords=None, show_progress=False), show_progress=False)
    tokens = bm25s.tokenize(list(queries), stopwords=None, show_progress=False)
    positions, scores = retriever.retrieve(tokens, k=min(k, len(documents)), show_progress=False)
    return Ranking(np.asarray(positions), np.asarray(scores, dtype=np.float32))
