"""What training has seen of the texts that are measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from leafkit.results.codec import Saved


@dataclass(frozen=True, slots=True)
class Overlap:
    """Evaluation texts of one role that training texts hold.

    Attributes:
        total: texts looked for.
        exact: those with the same words.
        near: those that share a long run of words, without the exact ones.
    """

    total: int
    exact: int
    near: int


@dataclass(frozen=True, slots=True)
class OverlapExample:
    """An evaluation text beside the training text that holds it, each cut to a line.

    Attributes:
        evaluation: the text measured on.
        training: the text trained on.
        kind: "exact" or "near".
        role: "queries" or "documents".
    """

    evaluation: str
    training: str
    kind: str
    role: str


@dataclass(frozen=True, slots=True)
class Contamination:
    """Overlaps of one collection with the pair's training texts.

    Attributes:
        unknown: why nothing could be counted; "" where it was.
        training_texts: how many were read.
        queries: overlaps of the judged queries.
        documents: overlaps of the documents.
        examples: some of them.
        notes: what one has to know about the count, in sentences.
    """

    unknown: str = ""
    training_texts: int | None = None
    queries: Overlap | None = None
    documents: Overlap | None = None
    examples: tuple[OverlapExample, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ContaminationReport(Saved):
    """Contamination by name of the collection, as in contamination.json."""

    what = "contamination check"
    made_by = "leafkit bench recipe=NAME"

    collections: Mapping[str, Contamination]

    @classmethod
    def upgrade(cls, data: Mapping[str, object]) -> Mapping[str, object]:
        """Format 1 had the names at the top."""
        return {"collections": data}
