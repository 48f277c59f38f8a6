"""What a prediction looks at: documents with the teacher's vectors, a part of which no probe is
fitted to, and queries that are asked.

Shapes: N documents, H of them held out, A queries, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from leafkit.core.errors import LeafkitError
from leafkit.data.made_queries import make_queries_of
from leafkit.data.records import Document
from leafkit.data.vector_store import hash_texts
from leafkit.evaluation.forecast.yardstick import FEWEST, Yardstick, unit
from leafkit.results.prediction import DOCUMENTS_ALONE, GIVEN_QUERIES, MADE_QUERIES

MOST_HELD_OUT = 300  # documents
MOST_ASKED = 400  # queries
_SHARE_HELD_OUT = 0.2
FEWEST_DOCUMENTS = 200


@dataclass(frozen=True, slots=True)
class Sample:
    """Documents and queries.

    Attributes:
        texts: N, as models read them.
        fit: positions that probes may be fitted to, in random order.
        held_out: (H,) positions of the others.
        queries: A texts.
        asked_with: what is known of the queries, a key of ``forecast.calibration.FEATURES``.
        yardstick: what the teacher finds for held-out documents and queries, with its vectors.
    """

    texts: Sequence[str]
    fit: np.ndarray
    held_out: np.ndarray
    queries: Sequence[str]
    asked_with: str
    yardstick: Yardstick

    @property
    def vectors(self) -> np.ndarray:
        """(N, D) unit vectors of the teacher."""
        return self.yardstick.documents

    @property
    def held_out_texts(self) -> list[str]:
        """H of them."""
        return [self.texts[place] for place in self.held_out.tolist()]


def make_sample(
    documents: Sequence[Document],
    vectors: np.ndarray,
    *,
    given: tuple[Sequence[str], np.ndarray] | None = None,
    embed: Callable[[Sequence[str]], np.ndarray] | None = None,
    seed: int,
) -> Sample:
    """Hold documents out, and make queries of them where none are given.

    Args:
        documents: N, of different texts.
        vectors: (N, D) of the teacher.
        given: queries that people asked, ``FEWEST`` at least, with the teacher's vectors of them,
            (Q, D).
        embed: the teacher's vectors of made queries; None where it is not at hand.
        seed: of what is held out and made.

    Raises:
        LeafkitError: too few documents, vectors that are not finite, all alike or not as many as
            the documents, or no query can be made.
    """
    if len(vectors) != len(documents):
        raise LeafkitError(
            f"{len(documents):,} documents have {len(vectors):,} vectors: no telling which is whose"
        )
    if len(documents) < FEWEST_DOCUMENTS:
        raise LeafkitError(
            f"{len(documents):,} documents with vectors are too few to predict anything of",
            f"give {FEWEST_DOCUMENTS} at least",
        )
    texts = [document.full_text for document in documents]
    order = shuffle_by_hash(texts, seed)
    num_held_out = min(MOST_HELD_OUT, int(_SHARE_HELD_OUT * len(documents)))
    held_out, fit = np.sort(order[:num_held_out]), order[num_held_out:]
    told: np.ndarray | None = None
    if given is not None:
        chosen = shuffle_by_hash(given[0], seed)[:MOST_ASKED]
        queries = [given[0][i] for i in chosen.tolist()]
        sources = np.full(len(queries), -1)
        asked_with, told = GIVEN_QUERIES, unit(given[1][chosen], queries, "query")
    else:
        queries, sources = choose_queries(documents, held_out, seed)
        asked_with = DOCUMENTS_ALONE
        if embed is not None:
            asked_with, told = MADE_QUERIES, unit(embed(queries), queries, "query")
    yardstick = Yardstick(unit(vectors, texts), held_out, sources, told)
    return Sample(
        texts=texts,
        fit=fit,
        held_out=held_out,
        queries=queries,
        asked_with=asked_with,
        yardstick=yardstick,
    )


def shuffle_by_hash(texts: Sequence[str], seed: int) -> np.ndarray:
    """(n,) positions in the order of the hashes of their texts: more texts change little of it."""
    return np.argsort(hash_texts([f"{seed}:{text}" for text in texts]), kind="stable")


def choose_queries(
    documents: Sequence[Document], held_out: np.ndarray, seed: int
) -> tuple[list[str], np.ndarray]:
    """Queries made of the held-out documents, none of which is another document's whole text, with
    the positions of their documents, (A,).

    Raises:
        LeafkitError: too few can be made.
    """
    places = held_out.tolist()
    made = make_queries_of([documents[place] for place in places], 2 * MOST_ASKED, seed)
    whole = {document.full_text for document in documents}
    kept = [(text, places[at]) for text, at in made.items() if text not in whole][:MOST_ASKED]
    if len(kept) < FEWEST:
        raise LeafkitError(
            f"{len(kept)} queries can be made of {len(places):,} held-out documents: they have no "
            "titles, no sentences and too few words",
            "a prediction needs documents of a sentence at least, or queries with vectors",
        )
    return [text for text, _ in kept], np.array([place for _, place in kept], dtype=np.int64)
