"""nDCG of one encoder that embeds both sides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leafkit.data.records import Collection
from leafkit.data.stored.prefix_vectors import first_dims
from leafkit.embedders.protocol import Embedder
from leafkit.evaluation.benchmark import check_judged
from leafkit.evaluation.metrics import Judgments, fast_ndcg
from leafkit.index.exact import search_exact
from leafkit.index.ranking import exclude_self


def score_encoder(
    embedder: Embedder,
    collection: Collection,
    split: str,
    *,
    query_tokens: int,
    document_tokens: int,
    dims: Sequence[int] = (0,),
    role: str = "query",
    own_documents: str = "auto",
) -> dict[int, np.ndarray]:
    """nDCG@10 of each judged query of a split, at several Matryoshka dimensions; one model embeds
    both sides.

    Args:
        embedder: the model.
        collection: documents, queries, judgments.
        split: whose queries.
        query_tokens: queries are cut here.
        document_tokens: documents are cut here.
        dims: dimensions measured; 0 is the full one.
        role: of the queries; decides about the prompt.
        own_documents: which documents with a query's id it may not retrieve, see
            ``Collection.own_documents``.

    Raises:
        LeafkitError: no judged query.
    """
    check_judged(collection, split)
    judged = collection.judged(split)
    queries = embedder.embed([q.text for q in judged], role, query_tokens)
    documents = embedder.embed(
        [d.full_text for d in collection.documents], "document", document_tokens
    )
    judgments = Judgments(
        [q.id for q in judged], [d.id for d in collection.documents], collection.qrels
    )
    own = collection.own_documents(split, own_documents)
    is_unit = embedder.space("document", document_tokens).normalized
    scores = {}
    for dim in dims:
        width = dim or embedder.dim
        pair = [first_dims(found, width, is_unit=is_unit) for found in (queries, documents)]
        scores[dim] = fast_ndcg(
            exclude_self(search_exact(pair[0], pair[1], 11, judgments.ties), own, 10), judgments
        )
    return scores
