"""What a teacher finds for texts that no probe is fitted to, and how much of it a probe finds.

Shapes: N documents, H of them held out, A queries made of these or given, D dimensions, E of the
vectors that are searched.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leafkit.core.errors import LeafkitError
from leafkit.core.truncate import truncate_then_normalize
from leafkit.evaluation.agreement import DEPTH, cosines, shares_found, source_gains
from leafkit.index.exact import search_exact
from leafkit.index.ranking import exclude_self
from leafkit.results import ProbeFigures

FEWEST = 20  # held-out documents, or queries, of which a figure is worth giving
_SHOWN = 80  # characters of a text in a message
_SMALLEST_VARIANCE = 1e-9  # of unit vectors: below it they are one vector, rounded


class Yardstick:
    """The teacher's rankings.

    Args:
        documents: (N, D) unit vectors of the teacher.
        held_out: (H,) positions of the documents that no probe is fitted to.
        sources: (A,) position of the document that each query was made of; -1 for a query that was
            made of none.
        queries: (A, D) the teacher's vectors of the queries; None where they are not known.

    Raises:
        LeafkitError: too few documents are held out, the teacher's vectors are all alike, or its
            ranking of documents of given queries alone says nothing.
    """

    def __init__(
        self,
        documents: np.ndarray,
        held_out: np.ndarray,
        sources: np.ndarray,
        queries: np.ndarray | None,
    ) -> None:
        if len(held_out) < FEWEST or len(documents) < 2 * DEPTH + len(held_out):
            raise LeafkitError(
                f"{len(documents):,} documents, {len(held_out):,} of them held out, are too few to "
                "predict anything of",
                "give at least 200 documents with their vectors",
            )
        if float(documents.var(axis=0).sum()) < _SMALLEST_VARIANCE:
            raise LeafkitError(
                "the teacher's vectors of all documents are one and the same: nothing can be found "
                "by them",
                "look at what the model makes of two different texts",
            )
        self.documents, self.held_out, self.sources = documents, held_out, sources
        self.queries = queries
        own = documents[held_out]
        near = search_exact(own, documents, DEPTH + 1)
        self._of_documents = exclude_self(near, held_out, DEPTH).positions
        self._has_sources = bool((sources >= 0).all()) and len(sources) > 0
        self._of_sources = np.empty((0, DEPTH), dtype=np.int64)
        if self._has_sources:
            self._of_sources = search_exact(documents[sources], documents, DEPTH).positions
        self._of_queries: np.ndarray | None = None
        self._gain = 0.0
        if queries is not None and len(queries):
            self._of_queries = search_exact(queries, documents, DEPTH).positions
            if self._has_sources:
                self._gain = float(source_gains(self._of_queries, sources).mean())

    def measure(
        self, held_out: np.ndarray, queries: np.ndarray, index: np.ndarray | None = None
    ) -> ProbeFigures:
        """A student's figures; cosines are NaN-free only of vectors of the teacher's dimension, so
        that those of shorter ones are of the teacher's first dimensions.

        Args:
            held_out: (H, E) its vectors of the held-out documents.
            queries: (A, E) of the queries.
            index: (N, E) that is searched; None for the teacher's own documents.
        """
        searched = self.documents if index is None else index
        dim = held_out.shape[1]
        near = search_exact(held_out, searched, DEPTH + 1)
        found = exclude_self(near, self.held_out, DEPTH).positions
        told = self.documents[self.held_out][:, :dim]
        overlap = source_overlap = source_gain = source_share = query_cosine = None
        if len(queries):
            ranked = search_exact(queries, searched, DEPTH).positions
            if self._has_sources:
                source_overlap = float(shares_found(self._of_sources, ranked).mean())
                source_gain = float(source_gains(ranked, self.sources).mean())
            if self._of_queries is not None and self.queries is not None:
                overlap = float(shares_found(self._of_queries, ranked).mean())
                query_cosine = float(cosines(self.queries[:, :dim], queries).mean())
                if source_gain is not None and self._gain:
                    source_share = source_gain / self._gain
        return ProbeFigures(
            document_cosine=float(cosines(told, held_out).mean()),
            document_overlap=float(shares_found(self._of_documents, found).mean()),
            source_overlap=source_overlap,
            source_gain=source_gain,
            query_overlap=overlap,
            query_cosine=query_cosine,
            source_share=source_share,
        )


def unit(
    vectors: Sequence[np.ndarray] | np.ndarray, texts: Sequence[str] = (), role: str = "document"
) -> np.ndarray:
    """(n, D) contiguous float32 vectors of length one.

    Args:
        vectors: n of the teacher.
        texts: whose they are, for messages: of a sample, the number of a row tells nobody which
            text it is. Without them the number is all there is.
        role: of the texts.

    Raises:
        LeafkitError: a number is not finite; the text is shown.
    """
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    wrong = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(wrong):
        first = int(wrong[0])
        which = f"the {role} {_begin(texts[first])!r}" if len(texts) else f"{role} {first}"
        raise LeafkitError(
            f"the teacher's vector of {which} is not finite ({len(wrong):,} such vectors)",
            f"compute it again, in float32; if it stays, look at that {role}'s text",
        )
    made: np.ndarray = truncate_then_normalize(rows)
    return made


def _begin(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
