"""The training rows of a stage: all sources' rows, prompted and numbered as one table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from leafkit.core.errors import UsageError
from leafkit.data.prompts import check_room, takes_in_batch_negatives
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.teacher.sources import report_counts
from leafkit.pipeline.teacher.task import Source


@dataclass(slots=True)
class StageRows:
    """All rows of a stage. Texts are as the encoder sees them: with their prompts.

    Attributes:
        sources: in the recipe's order.
        source_of_row: (R,) index into ``sources``.
        queries: (R,) texts.
        documents: distinct texts.
        positives: (R,) positions in ``documents``.
        negatives: (R,) positions in ``documents``, as many as the row has.
        relevant: (R,) positions that are never negatives of the row, its positive among them.
        in_batch: (R,) whether other rows' documents are negatives.
        soft: (R,) a score for the positive and each negative; empty without soft labels.
    """

    sources: list[Source]
    source_of_row: np.ndarray
    queries: list[str]
    documents: list[str]
    positives: np.ndarray
    negatives: list[np.ndarray]
    relevant: list[np.ndarray]
    in_batch: np.ndarray
    soft: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.queries)


def check_prompts(
    encoder: TextEncoder, sources: Sequence[Source], max_query_tokens: int, max_document_tokens: int
) -> None:
    """Refuse prompts that leave no room for the text, those of rows with an instruction of their
    own among them; before documents where the task is symmetric.

    Raises:
        UsageError: one does; the message names the source.
    """
    plain = replace(encoder.spec, prompts={}, max_tokens=10**9)
    counter = TextEncoder(
        encoder.backbone, encoder.tokenizer, plain, encoder.projection, **encoder.beside
    )
    for source in sources:
        own = sorted({"", *source.rows.instructions})
        prompts = [source.prompt_of(instruction) for instruction in own]
        longest = max(map(len, counter.tokenize(prompts, "query")))
        limits = [max_query_tokens, *[max_document_tokens] * source.is_symmetric]
        check_room(f"source {source.name}", longest, min(map(encoder.limit, limits)))


def join_sources(sources: Sequence[Source]) -> StageRows:
    """One table out of all sources.

    Equal texts are one document, so that none is a negative of itself; what any source says is
    relevant to a query's text, and that text itself, is no negative of it.

    Raises:
        UsageError: no row is left.
    """
    known = _known_answers(sources)
    documents = _NumberedTexts()
    columns: dict[str, list[Any]] = {
        name: [] for name in ("source", "query", "positive", "negatives", "soft", "in_batch")
    }
    for number, source in enumerate(sources):
        rows = source.rows
        takes = takes_in_batch_negatives(source.config.task, source.config.in_batch)
        counts: Counter[str] = Counter()
        prompts = {own: source.prompt_of(own) for own in set(rows.instructions)}
        for i in range(len(rows)):
            query, prompt = rows.queries[i], prompts[rows.instructions[i]]
            prefix = prompt if source.is_symmetric else ""
            texts = [rows.documents[d] for d in rows.negatives[i]]
            kept = [
                k
                for k, text in enumerate(texts)
                if text != query and not any(text in known_ for known_ in known[query])
            ]
            counts["negatives that some row calls relevant left out"] += len(texts) - len(kept)
            counts["rows without any negative"] += not (kept or takes)
            columns["source"].append(number)
            columns["query"].append(prompt + query)
            columns["positive"].append(documents.place(prefix, rows.documents[rows.positives[i]]))
            columns["negatives"].append(
                np.array([documents.place(prefix, texts[k]) for k in kept], dtype=np.int64)
            )
            scores = (
                [rows.scores[i][0], *(rows.scores[i][k + 1] for k in kept)]
                if rows.scores[i]
                else []
            )
            columns["soft"].append(np.array(scores, dtype=np.float32))
            columns["in_batch"].append(takes)
        report_counts(source, counts)
    if not columns["query"]:
        raise UsageError(
            "no training row is left",
            "loosen mining.filter_rank or mining.on_shortfall, or give more rows",
        )
    queries = [query for source in sources for query in source.rows.queries]
    # a row without in-batch negatives sees its own documents alone, and a label may have many
    # others
    relevant = [
        documents.numbers_of({query}.union(*known[query])) if takes else np.array([positive])
        for query, takes, positive in zip(
            queries, columns["in_batch"], columns["positive"], strict=True
        )
    ]
    return StageRows(
        sources=list(sources),
        source_of_row=np.array(columns["source"]),
        queries=columns["query"],
        documents=documents.texts(),
        positives=np.array(columns["positive"]),
        negatives=columns["negatives"],
        relevant=relevant,
        in_batch=np.array(columns["in_batch"]),
        soft=columns["soft"],
    )


class _NumberedTexts:
    """Distinct documents, in the order of their first appearance."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._under_text: dict[str, list[int]] = {}  # a text may be there with and without a prompt

    def place(self, prompt: str, text: str) -> int:
        """Number of the text with this prompt before it."""
        number = self._numbers.setdefault(prompt + text, len(self._numbers))
        numbers = self._under_text.setdefault(text, [])
        if number not in numbers:
            numbers.append(number)
        return number

    def numbers_of(self, texts: set[str]) -> np.ndarray:
        """Numbers of the texts that are there, under any prompt, in order."""
        found = sorted(n for text in texts for n in self._under_text.get(text, ()))
        return np.array(found, dtype=np.int64)

    def texts(self) -> list[str]:
        """All documents with their prompts."""
        return list(self._numbers)


def _known_answers(sources: Sequence[Source]) -> dict[str, list[frozenset[str]]]:
    """By query text, the document texts that sources say are relevant to it; rows of one label
    share one set.
    """
    known: dict[str, list[frozenset[str]]] = {}
    for source in sources:
        rows = source.rows
        texts_of: dict[frozenset[int], frozenset[str]] = {}
        for query, query_id in zip(rows.queries, rows.query_ids, strict=True):
            positions = rows.relevant[query_id]
            if positions not in texts_of:
                texts_of[positions] = frozenset(rows.documents[d] for d in positions)
            answers = known.setdefault(query, [])
            if not any(texts is texts_of[positions] for texts in answers):
                answers.append(texts_of[positions])
    return known
