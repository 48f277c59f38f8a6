"""BM25 (bm25s) as the baseline that needs no model, and as soft labels of given candidates."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import bm25s
import numpy as np

from leafkit.index.ranking import Ranking

# kana and Han: no spaces between words
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_RUN = re.compile(f"[{_UNSPACED}]+")
# bm25s's own pattern, and single characters of the scripts above
_TOKEN = rf"(?u)\b\w\w+\b|[{_UNSPACED}]"


def search_bm25(queries: Sequence[str], documents: Sequence[str], k: int) -> Ranking:
    """Lucene's BM25 with k1 = 1.5, b = .75.

    Tokens are lower-cased words of two characters or more, without stop words or stemming of any
    language. Chinese and Japanese, which leave no spaces between words, count as single characters
    and pairs of neighbours, as in Lucene's CJKAnalyzer with unigrams.
    """
    if (retriever := _index(documents)) is None:
        shape = len(queries), min(k, len(documents))
        return Ranking(
            np.broadcast_to(np.arange(shape[1]), shape).copy(), np.zeros(shape, dtype=np.float32)
        )
    positions, scores = retriever.retrieve(
        _tokenize(queries), k=min(k, len(documents)), show_progress=False
    )
    return Ranking(np.asarray(positions), np.asarray(scores, dtype=np.float32))


def bm25_scores(
    queries: Sequence[str], candidates: np.ndarray, documents: Sequence[str]
) -> np.ndarray:
    """BM25 of given documents, by the formula and tokens of ``search_bm25``; its statistics come
    from all documents.

    Only the candidates are looked up in each word's list of documents, so the cost does not grow
    with the lists' length.

    Args:
        queries: (R,) texts.
        candidates: (R, c) positions in ``documents``; -1 stands for none.
        documents: (N,) texts.

    Returns:
        (R, c) float32; NaN where there is no candidate.

    Raises:
        ValueError: shapes do not fit, or a position is no document's.
    """
    wanted = np.asarray(candidates, dtype=np.int64)
    if wanted.ndim != 2 or len(wanted) != len(queries):
        raise ValueError(f"candidates of shape {wanted.shape} for {len(queries)} queries")
    if wanted.size and not -1 <= wanted.min() <= wanted.max() < len(documents):
        raise ValueError(
            f"candidates {wanted.min()} to {wanted.max()} of {len(documents)} documents"
        )
    out = np.where(wanted < 0, np.nan, np.zeros(wanted.shape)).astype(np.float32)
    if not wanted.size or (wanted < 0).all() or (index := _index(documents)) is None:
        return out
    number_of = index.vocab_dict
    values, holders, starts = (index.scores[name] for name in ("data", "indices", "indptr"))
    for row, tokens in enumerate(_tokenize(queries)):
        for token in tokens:
            number = number_of.get(token)
            if number is None or number + 1 >= len(starts):
                continue
            first, last = int(starts[number]), int(starts[number + 1])
            if first == last:
                continue
            held = holders[first:last]  # ascending
            at = np.minimum(np.searchsorted(held, wanted[row]), last - first - 1)
            out[row] += np.where(held[at] == wanted[row], values[first:last][at], 0)
    return out


def _index(documents: Sequence[str]) -> bm25s.BM25 | None:
    """None where no document holds a word, which bm25s cannot index: every score is zero then."""
    tokens = _tokenize(documents)
    if not any(tokens):
        return None
    retriever = bm25s.BM25()
    retriever.index(tokens, show_progress=False)
    return retriever


def _tokenize(texts: Sequence[str]) -> list[list[str]]:
    spaced = [_RUN.sub(_characters_and_pairs, text) for text in texts]
    return bm25s.tokenize(
        spaced, token_pattern=_TOKEN, stopwords=None, return_ids=False, show_progress=False
    )


def _characters_and_pairs(run: re.Match[str]) -> str:
    characters = run.group()
    pairs = (a + b for a, b in itertools.pairwise(characters))
    return f" {' '.join([*characters, *pairs])} "
