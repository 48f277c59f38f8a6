"""How far a student agrees with its teacher where there are no judgments to measure by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from leafkit.results.interval import Interval
from leafkit.results.table import Record, Table

HELD_OUT, SEEN, UNKNOWN = "held out of training", "seen in training", "perhaps seen in training"


@dataclass(frozen=True, slots=True)
class Agreement:
    """A student against its teacher on texts without judgments: no figure here says that what is
    found is right, only that the teacher finds the same.

    Attributes:
        collection: its name.
        asked_with: what took the place of queries, "queries" or "documents as queries".
        training: whether that has seen them: ``HELD_OUT``, ``SEEN`` or ``UNKNOWN``.
        num_queries: of these.
        num_documents: searched.
        depth: of the rankings that are compared, 10 where there are enough documents.
        query_cosine: of student and teacher, of the queries' vectors.
        document_cosine: of student and teacher, of the documents' vectors, which training has seen.
        overlap: share of the teacher's first ``depth`` documents that are among the student's, by
            way to use it, "asymmetric" (student queries, teacher documents) or "symmetric" (student
            queries and documents).
    """

    collection: str
    asked_with: str
    training: str
    num_queries: int
    num_documents: int
    depth: int
    query_cosine: Interval
    document_cosine: Interval
    overlap: Mapping[str, Interval]

    def __str__(self) -> str:
        found = ", ".join(f"{way} {share.percent()}" for way, share in self.overlap.items())
        return (
            f"{self.collection} has no judgments. Of {self.num_queries:,} {self.asked_with} "
            f"({self.training}), the student's vectors have cosine {self.query_cosine} to the "
            f"teacher's, and it finds {found} of the teacher's own top {self.depth} among "
            f"{self.num_documents:,} documents"
        )

    def table(self) -> Table:
        """The figures, a row each."""
        title = (
            f"{self.collection}, without judgments: agreement with the teacher on "
            f"{self.num_queries:,} {self.asked_with} {self.training}, "
            f"{self.num_documents:,} documents"
        )
        rows = [
            ("cosine of query vectors to the teacher's", str(self.query_cosine)),
            ("cosine of document vectors to the teacher's", str(self.document_cosine)),
            *(
                (f"of the teacher's top {self.depth}, {way}", share.percent())
                for way, share in self.overlap.items()
            ),
        ]
        note = (
            "Brackets: 95% bootstrap intervals. Agreement says nothing of whether both are right."
        )
        return Table(title, ("what", "value"), "lr", tuple(rows), note)

    def records(self) -> list[Record]:
        """A record per figure."""
        figures = {
            ("student", "query cosine"): self.query_cosine,
            ("student", "document cosine"): self.document_cosine,
        } | {(way, f"overlap@{self.depth}"): share for way, share in self.overlap.items()}
        return [
            {
                "collection": self.collection,
                "kind": "without judgments",
                "system": system,
                "metric": metric,
                "value": value.value,
                "low": value.low,
                "high": value.high,
                "n": value.n,
                "teacher_ratio": None,
                "teacher_ratio_low": None,
                "teacher_ratio_high": None,
            }
            for (system, metric), value in figures.items()
        ]
