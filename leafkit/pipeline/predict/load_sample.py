"""What a prediction looks at, out of a run: as many documents as the teacher embeds in time, or
those whose vectors are there, and queries.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leafkit.core.console import log
from leafkit.core.errors import UsageError
from leafkit.data.records import Document, clean_text
from leafkit.data.sources import BadRows, read_raw_rows
from leafkit.embedders.precomputed import ROLES, PrecomputedVectors
from leafkit.embedders.prefix import precomputed_of
from leafkit.evaluation.forecast.yardstick import FEWEST
from leafkit.pipeline.corpus import Corpus
from leafkit.pipeline.embed import load_vectors
from leafkit.pipeline.model_handle import ModelHandle
from leafkit.pipeline.predict.load_part import MOST_DOCUMENTS, Part
from leafkit.pipeline.predict.sample import (
    FEWEST_DOCUMENTS,
    MOST_ASKED,
    Sample,
    make_sample,
    shuffle_by_hash,
)
from leafkit.pipeline.predict.settings import PredictSettings
from leafkit.pipeline.run import Run

_NUM_TIMED = 16  # texts that the speed is measured on
_TEACHER_SHARE = 0.4  # of the minutes


def check_enough(corpus: Corpus, teacher: ModelHandle, settings: PredictSettings) -> None:
    """Refuse a corpus of which no student can be made.

    Args:
        corpus: that is read.
        teacher: of the students.
        settings: which may ask for a part of it.

    Raises:
        UsageError: it has fewer documents than the teacher's vectors have dimensions, or too few to
            measure on, or too few are asked for.
    """
    count, dim = len(corpus.collection.documents), teacher.model.dim
    needed = max(dim, FEWEST_DOCUMENTS)
    if 0 < settings.texts < FEWEST_DOCUMENTS:
        raise UsageError(
            f"texts={settings.texts}: a prediction looks at {FEWEST_DOCUMENTS} documents at least",
            f"texts={FEWEST_DOCUMENTS}, or 0 for what fits",
        )
    if count < needed:
        raise UsageError(
            f"{corpus.collection.name} has {count:,} documents; a prediction for vectors of "
            f"{dim:,} dimensions needs {needed:,}",
            "a student's head needs as many texts as dimensions; name a larger home=",
        )


@dataclass(frozen=True, slots=True)
class Looked:
    """What a prediction looks at.

    Attributes:
        documents: N of the corpus.
        vectors: (N, D) of the teacher.
        seconds_left: that the teacher needs for the other documents.
    """

    documents: list[Document]
    vectors: np.ndarray
    seconds_left: float


def load_sample(run: Run, teacher: ModelHandle, part: Part, settings: PredictSettings) -> Looked:
    """Documents with the teacher's vectors: those that have them, or as many as it embeds in its
    part of the minutes, chosen by their hashes.

    Raises:
        LeafkitError: a document has no vector, and its teacher is not at hand.
    """
    corpus, data = part.corpus, run.recipe.data
    documents = corpus.collection.documents
    texts = [document.full_text for document in documents]
    order, known = shuffle_by_hash(texts, run.recipe.seed), precomputed_of(teacher.model)
    if known is not None:
        has_vector = known.has(texts, "document")
        if not has_vector.all():
            known.require(texts, "document")  # says which have none
        count, per_text_s = settings.texts or MOST_DOCUMENTS, 0.0
    else:
        per_text_s = _time_teacher(teacher, [texts[i] for i in order[:_NUM_TIMED].tolist()], run)
        affordable = int(_TEACHER_SHARE * settings.minutes * 60 / per_text_s)
        count = settings.texts or max(FEWEST_DOCUMENTS, affordable)
        count = min(count, max(MOST_DOCUMENTS, settings.texts), len(order))
        log(
            f"  the teacher embeds {1 / per_text_s:,.1f} documents/s here: {count:,} of them are "
            "looked at (texts=N says how many)"
        )
    chosen = np.sort(order[: min(count, len(order))]).tolist()
    wanted = [texts[i] for i in chosen]
    if known is not None:
        # read where they lie: a copy would stay as it is when a store's vectors change
        vectors = teacher.model.embed(wanted, "document", data.max_document_tokens)
    else:
        found = load_vectors(
            run,
            teacher.model,
            teacher.name,
            wanted,
            role="document",
            max_tokens=data.max_document_tokens,
            what=f"{corpus.collection.name} documents",
        )
        vectors = np.asarray(found[: len(chosen)], dtype=np.float32)
    left_s = per_text_s * (part.num_documents - len(chosen))
    return Looked([documents[i] for i in chosen], vectors, left_s)


def _time_teacher(teacher: ModelHandle, texts: Sequence[str], run: Run) -> float:
    """Seconds per document."""
    limit = run.recipe.data.max_document_tokens
    teacher.model.embed(texts[:2], "document", limit)  # the first call sets things up
    began_s = time.perf_counter()
    teacher.model.embed(texts, "document", limit)
    return (time.perf_counter() - began_s) / len(texts)


def sample_of(run: Run, teacher: ModelHandle, corpus: Corpus, looked: Looked) -> Sample:
    """The sample with its queries: those of the corpus whose vectors are known, or made ones, which
    a teacher that is at hand embeds.
    """
    limit, known = run.recipe.data.max_query_tokens, precomputed_of(teacher.model)
    name = corpus.collection.name

    def embed(queries: Sequence[str]) -> np.ndarray:
        found = load_vectors(
            run,
            teacher.model,
            teacher.name,
            queries,
            role="query",
            max_tokens=limit,
            what=f"{name} queries for a prediction",
        )
        return np.asarray(found[: len(queries)], dtype=np.float32)

    if known is None:
        return make_sample(looked.documents, looked.vectors, embed=embed, seed=run.recipe.seed)
    asked = _given_queries(corpus, known)
    if asked and len(asked) < FEWEST:
        log(f"  {len(asked):,} queries with vectors are too few to ask: queries are made")
    # the teacher's, which may be at its first dimensions, where the folder has all of them
    given = (asked, teacher.model.embed(asked, "query", limit)) if len(asked) >= FEWEST else None
    return make_sample(looked.documents, looked.vectors, given=given, seed=run.recipe.seed)


def _given_queries(corpus: Corpus, known: PrecomputedVectors) -> list[str]:
    """Those of the corpus that have vectors, and where these are too few, those that lie beside
    their vectors as texts.
    """
    asked = list(dict.fromkeys(query.text for query in corpus.collection.queries))
    has_vector = known.has(asked, "query")
    asked = [text for text, has in zip(asked, has_vector, strict=True) if has]
    beside = known.folder / f"{ROLES['query']}.jsonl"
    if len(asked) >= FEWEST or not beside.is_file():
        return asked
    rows = read_raw_rows(f"jsonl:{beside}", BadRows("stop", 0, Counter()), MOST_ASKED)
    # as the folder's own texts are read: what a collection would make of the row
    found = [clean_text(str(row.get("text", "")), Counter()) for _, row in rows]
    has_vector = known.has(found, "query")
    asked += [text for text, has in zip(found, has_vector, strict=True) if has]
    return list(dict.fromkeys(asked))
