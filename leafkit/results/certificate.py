"""What can be said of a query encoder that was made for an index whose model is gone: the figures
that documents alone allow, and what they do not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from leafkit.results.codec import Saved
from leafkit.results.cut import CutTexts
from leafkit.results.interval import Interval
from leafkit.results.table import Record, Table, Tabular

RESCUED, LINEAR_MAP, RANDOM_MAP = "rescued student", "linear map", "random map"
MARGIN = 0.02  # half an interval that settles a question
# the smallest number of queries of which an interval is worth computing
_FEWEST = 30
_NOT_PROMISED = (
    "how the lost model would have embedded any query: none of its queries, and no vector of one, "
    "was there to compare with",
    "that the lost model put nothing before its queries: a prompt that it was trained to expect "
    "leaves no trace in vectors of documents",
    "how people ask: titles and sentences of documents share their documents' words, and real "
    "questions share fewer",
    "a share of the lost model's nDCG: there is no judgment here, and finding the document that a "
    "sentence was taken from is an easier task",
)


@dataclass(frozen=True, slots=True)
class RescuedSystem:
    """One way to embed queries for the index, or to search it, on what trained nothing.

    Attributes:
        name: ``RESCUED``, ``LINEAR_MAP``, ``RANDOM_MAP`` or BM25.
        document_cosine: of held-out documents to the vectors that are stored for them; None for a
            search without vectors.
        document_overlap: share of the stored vectors' nearest documents that held-out documents
            find when they are asked as queries, themselves left out.
        query_overlap: share of the documents nearest to a held-out document, itself among them,
            that the queries made of it find.
        source_gain: nDCG of those queries with the document that they were made of as the one
            relevant document.
    """

    name: str
    document_cosine: Interval | None
    document_overlap: Interval
    query_overlap: Interval
    source_gain: Interval


@dataclass(frozen=True, slots=True)
class Certificate(Saved, Tabular):
    """A rescued index: what was measured, and how many queries would settle the rest.

    Attributes:
        source: where texts and vectors came from.
        space: the name of their space.
        dim: D, of the vectors.
        num_documents: of the index.
        num_held_out: of them, whose vectors trained nothing.
        num_queries: made of the held-out documents; none of them is a text, title or sentence that
            trained.
        depth: of the rankings that are compared.
        training: that the held-out documents' vectors were kept out of training.
        systems: the rescued student first.
        gain_over_linear: of query_overlap, the rescued student minus the linear map, query by
            query.
        cuts: what the student did not read of the texts that it learned from, by role.
        num_logged: queries with the lost model's own vectors, out of an old log say, that would
            give the overlap with it to within ``MARGIN``.
        num_labelled: queries with relevant documents that would give the difference in nDCG
            between the rescued student and the linear map to within ``MARGIN``.
    """

    what = "certificate"
    made_by = "leafkit rescue"
    derived = ("not_promised",)

    source: str
    space: str
    dim: int
    num_documents: int
    num_held_out: int
    num_queries: int
    depth: int
    training: str
    systems: tuple[RescuedSystem, ...]
    gain_over_linear: Interval
    cuts: tuple[CutTexts, ...]
    num_logged: int
    num_labelled: int

    @property
    def not_promised(self) -> list[str]:
        """What documents alone cannot tell."""
        return list(_NOT_PROMISED)

    def tables(self) -> list[Table]:
        """The figures; what was cut; what is not promised and would settle it."""
        head = (
            "system",
            "cosine of documents",
            f"their neighbors@{self.depth}",
            f"neighbors@{self.depth} by made queries",
            f"nDCG@{self.depth} of the source",
        )
        rows = [
            (
                system.name,
                "" if system.document_cosine is None else str(system.document_cosine),
                system.document_overlap.percent(),
                system.query_overlap.percent(),
                str(system.source_gain),
            )
            for system in self.systems
        ]
        title = (
            f"Certificate of {self.source}: {self.num_held_out:,} documents {self.training}, "
            f"{self.num_queries:,} queries made of them, {self.num_documents:,} documents of "
            f"{self.dim:,} dimensions"
        )
        note = (
            f"Brackets: 95% bootstrap intervals. Rescued minus linear map, neighbors by made "
            f"queries: {self.gain_over_linear.signed()}. {' '.join(f'{c}.' for c in self.cuts)}"
        )
        return [
            Table(title, head, "lrrrr", tuple(rows), note.strip()),
            Table("Not promised", ("what",), "l", tuple((what,) for what in self.not_promised)),
            Table(
                f"What would settle it, to within {MARGIN:g}",
                ("queries", "of which there must be", "for"),
                "rll",
                (
                    (
                        f"{self.num_logged:,}",
                        "the lost model's vectors, out of a log or a cache",
                        f"the share of its own neighbors@{self.depth}",
                    ),
                    (
                        f"{self.num_labelled:,}",
                        "relevant documents",
                        f"the nDCG@{self.depth} over the linear map",
                    ),
                ),
                "Computed from the spread of the made queries; real queries may spread more.",
            ),
        ]

    def records(self) -> list[Record]:
        """A record per figure."""
        rows: list[Record] = []
        for system in self.systems:
            for metric, value in (
                ("document cosine", system.document_cosine),
                (f"document overlap@{self.depth}", system.document_overlap),
                (f"query overlap@{self.depth}", system.query_overlap),
                (f"source nDCG@{self.depth}", system.source_gain),
            ):
                if value is not None:
                    rows.append(
                        {
                            "source": self.source,
                            "system": system.name,
                            "metric": metric,
                            "value": value.value,
                            "low": value.low,
                            "high": value.high,
                            "n": value.n,
                        }
                    )
        return rows


def queries_needed(measured: Interval, margin: float = MARGIN) -> int:
    """How many queries would give the same figure with an interval of ``margin`` to either side:
    its half-width falls with the square root of their number.

    Half of [.40, .60] of 100 queries is .10, five times the margin: 25 times as many are needed.

    >>> queries_needed(Interval(0.5, 0.4, 0.6, 100))
    2500

    Args:
        measured: with its number of queries.
        margin: half of the interval that is wanted.

    Raises:
        ValueError: the interval does not know its number of queries.
    """
    if measured.n is None:
        raise ValueError(f"{measured} of an unknown number of queries")
    share = (measured.high - measured.low) / 2 / margin
    return max(_FEWEST, math.ceil(round(measured.n * share**2, 6)))
