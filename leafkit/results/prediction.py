"""What a student of a teacher will be worth, said before it is made: what probes measured, what
finished runs say of such probes, and how far the answer may be off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from leafkit.results.codec import Saved
from leafkit.results.diagnosis import Diagnosis
from leafkit.results.interval import Interval
from leafkit.results.table import Record, Table, Tabular

COVERAGE = 0.9  # of a forecast's interval
# kinds of students: a table of token vectors; the closed-form head on the second or the third layer
# of the start model, on its last layer, on all layers side by side; trained for ten minutes
STATIC, TWO_LAYERS, THREE_LAYERS = "static", "2-layers", "3-layers"
LAST_LAYER, ALL_LAYERS, TRAINED = "last-layer", "all-layers", "trained"
KINDS = (STATIC, TWO_LAYERS, THREE_LAYERS, LAST_LAYER, ALL_LAYERS, TRAINED)
# what is known of the queries that probes are asked
MADE_QUERIES = "made of held-out documents, with the teacher's vectors"
GIVEN_QUERIES = "given with the teacher's vectors"
DOCUMENTS_ALONE = "made of held-out documents, without the teacher's vectors"


@dataclass(frozen=True, slots=True)
class ProbeFigures:
    """A student on texts that it was not fitted to, beside its teacher; means, each from 0 to 1.

    Attributes:
        document_cosine: of held-out documents to the teacher's vectors of them.
        document_overlap: share of the documents nearest to a held-out document, itself left out,
            that the student finds for it in the teacher's index.
        source_overlap: share of the documents nearest to a held-out document, itself among them,
            that a query made of it finds.
        source_gain: nDCG of such queries with the document that they were made of as the one
            relevant document.
        query_overlap: share of the documents that the teacher finds for a query that the student
            finds too; None where the teacher's vectors of queries are not known.
        query_cosine: of the student's vectors of queries to the teacher's, likewise.
        source_share: source_gain as a share of the teacher's own, likewise; None too where queries
            were not made of documents.
    """

    document_cosine: float
    document_overlap: float
    source_overlap: float | None
    source_gain: float | None
    query_overlap: float | None
    query_cosine: float | None
    source_share: float | None


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A row of the table that forecasts are read off: probes of a student, and how it turned out.

    Attributes:
        corpus: the collection that was searched.
        teacher: whose vectors.
        space: what was done to the teacher's space; "as it is" for nothing.
        kind: of the student.
        num_texts: that the student was fitted to.
        num_probed: that the largest probe was fitted to; ``probe`` says what was expected of
            ``num_texts`` from such few.
        probe: the figures.
        outcome: share of the teacher's nDCG@10 on judged queries, over the teacher's documents.
    """

    corpus: str
    teacher: str
    space: str
    kind: str
    num_texts: int
    num_probed: int
    probe: ProbeFigures
    outcome: Interval


@dataclass(frozen=True, slots=True)
class FinishedRuns(Saved):
    """The table of finished runs.

    Attributes:
        date: of the last of them.
        made_with: the script that measured them.
        runs: the rows.
    """

    what: ClassVar[str] = "table of finished runs"
    made_by: ClassVar[str] = "benchmarks/predict.py"

    date: str
    made_with: str
    runs: tuple[FinishedRun, ...]


@dataclass(frozen=True, slots=True)
class Forecast:
    """A share of the teacher's nDCG@10 with its 90% prediction interval.

    Attributes:
        value: the estimate.
        low: of the interval.
        high: of the interval.
        outside: what lies beyond all finished runs, in words; "" for nothing. The interval is wider
            for figures of a probe that do, not for more texts; no run vouches for either.
    """

    value: float
    low: float
    high: float
    outside: str

    def __str__(self) -> str:
        """Percent, the bounds in brackets, a star where it is outside.

        >>> str(Forecast(0.931, 0.88, 0.985, ""))
        '93.1% [88.0, 98.5]'
        """
        star = " *" if self.outside else ""
        return f"{self.value:.1%} [{100 * self.low:.1f}, {100 * self.high:.1f}]{star}"


@dataclass(frozen=True, slots=True)
class ProbeAt:
    """A probe: figures of a student fitted to so many texts."""

    num_texts: int
    figures: ProbeFigures


@dataclass(frozen=True, slots=True)
class StudentForecast:
    """What one kind of student will be worth.

    Attributes:
        kind: its name.
        settings: words of a recipe that make it.
        num_texts: that it is to be fitted to: all that there are.
        probes: measured, of rising numbers of texts.
        expected: figures that the probes lead to at ``num_texts``.
        retention: share of the teacher's nDCG@10, its queries over the teacher's documents.
        seconds: until it is there on this machine, from the probes' speed.
        texts_needed: texts with which the forecast reaches the target; 0 where no number of texts
            does that the probes can speak for.
    """

    kind: str
    settings: str
    num_texts: int
    probes: tuple[ProbeAt, ...]
    expected: ProbeFigures
    retention: Forecast
    seconds: float
    texts_needed: int


@dataclass(frozen=True, slots=True)
class WayForecast:
    """One way to search with one kind of student.

    Attributes:
        kind: of the student.
        documents: "teacher's" or "student's": whose vectors are searched.
        dim: first dimensions kept.
        precision: of the stored documents.
        figures: expected of all texts, against the teacher's full vectors.
        retention: share of what the teacher's full vectors are worth.
    """

    kind: str
    documents: str
    dim: int
    precision: str
    figures: ProbeFigures
    retention: Forecast


@dataclass(frozen=True, slots=True)
class SearchEffort:
    """The candidates that an HNSW graph over the known documents must keep.

    Attributes:
        kind: of the student; "teacher" for its own queries.
        num_documents: in the graph: a larger index needs more.
        ef: smallest one asked for that finds ``recall`` of the exact ten on the mean; 0 where none
            of those asked for does.
        recall: that is asked for.
        found: share that is found at ``ef``, or at the largest one asked for.
    """

    kind: str
    num_documents: int
    ef: int
    recall: float
    found: float


@dataclass(frozen=True, slots=True)
class Prediction(Saved, Tabular):
    """What students of a teacher will be worth on a corpus.

    Attributes:
        teacher: as it was named.
        corpus: its name.
        dim: of the teacher's vectors.
        num_documents: whose vectors were looked at.
        num_corpus: documents that the corpus has; about so many, where not all were read.
        num_held_out: documents that no probe was fitted to.
        num_queries: asked.
        asked_with: what is known of them.
        start: the model that students begin as.
        target: share of the teacher that is wanted.
        students: the forecasts by kind.
        ways: other dimensions, precisions and documents.
        efforts: of an approximate index.
        num_runs: finished runs that the forecasts are read off.
        corpora: of those runs.
        teacher_seconds: until the teacher has embedded what it has not yet, here.
        seconds: that this prediction took.
        not_predicted: what it does not say.
        diagnosis: of the teacher's vectors; None where none was asked for.
        num_read: documents that were read, where the corpus has too many to hold; 0 for all.
        num_rows: that these were drawn from; 0 where all were read.
    """

    what: ClassVar[str] = "prediction"
    made_by: ClassVar[str] = "leafkit predict"

    teacher: str
    corpus: str
    dim: int
    num_documents: int
    num_corpus: int
    num_held_out: int
    num_queries: int
    asked_with: str
    start: str
    target: float
    students: tuple[StudentForecast, ...]
    ways: tuple[WayForecast, ...]
    efforts: tuple[SearchEffort, ...]
    num_runs: int
    corpora: tuple[str, ...]
    teacher_seconds: float
    seconds: float
    not_predicted: tuple[str, ...]
    diagnosis: Diagnosis | None = None
    num_read: int = 0
    num_rows: int = 0

    def tables(self) -> list[Table]:
        """Students; ways to search; what an approximate index needs; what is not predicted."""
        found = [self._students()]
        if self.ways:
            found.append(self._ways())
        if self.efforts:
            found.append(self._efforts())
        rows = tuple((what,) for what in self.not_predicted)
        found.append(Table("Not predicted", ("what",), "l", rows))
        if self.diagnosis is not None:
            reasons = tuple((reason,) for reason in self.diagnosis.findings)
            found.append(Table(self.diagnosis.sentence(), ("finding",), "l", reasons))
        return found

    def _students(self) -> Table:
        rows = [
            (
                one.kind,
                f"{one.num_texts:,}",
                _share(one.expected.query_overlap),
                _share(one.expected.source_overlap),
                f"{one.expected.document_cosine:.3f}",
                str(one.retention),
                f"{one.texts_needed:,}" if one.texts_needed else "beyond the probes",
                _duration(one.seconds),
            )
            for one in self.students
        ]
        head = (
            "student",
            "texts",
            "neighbors of queries",
            "of sources",
            "cosine",
            "share of the teacher's nDCG@10",
            f"texts for {self.target:.0%}",
            "time here",
        )
        outside = dict.fromkeys(s.retention.outside for s in self.students if s.retention.outside)
        note = (
            f"Brackets: 90% prediction intervals, read off {self.num_runs:,} finished runs on "
            f"{', '.join(self.corpora)}. Expected of all texts from probes of fewer. This took "
            f"{_duration(self.seconds)}."
        )
        if self.num_rows:
            note += f" Of {self.num_rows:,} rows {self.num_read:,} documents were read, by hash."
        if self.teacher_seconds:
            note += (
                " The teacher must embed the other documents first, which takes it about "
                f"{_duration(self.teacher_seconds)} here."
            )
        if outside:
            note += f" * outside what was ever measured: {'; '.join(outside)}."
        about = "about " if self.num_rows else ""  # in proportion to what was read
        title = (
            f"Students of {self.teacher} on {self.corpus}: {self.num_documents:,} of "
            f"{about}{self.num_corpus:,} documents looked at, {self.num_held_out:,} held out, "
            f"{self.num_queries:,} queries {self.asked_with}"
        )
        return Table(title, head, "lrrrrrrr", tuple(rows), note)

    def _ways(self) -> Table:
        rows = [
            (
                one.kind,
                one.documents,
                f"{one.dim:,}",
                one.precision,
                _share(one.figures.query_overlap),
                _share(one.figures.source_overlap),
                str(one.retention),
            )
            for one in self.ways
        ]
        head = (
            "student",
            "documents",
            "dimensions",
            "precision",
            "neighbors of queries",
            "of sources",
            "share of the teacher's nDCG@10",
        )
        note = (
            "The teacher's full float32 vectors are 100%. What each way leaves of the largest "
            "probe's figures, of what is expected of all texts; the student's own documents are "
            "those that half of the probe leaves."
        )
        return Table("Ways to search", head, "llrlrrr", tuple(rows), note)

    def _efforts(self) -> Table:
        rows = [
            (
                one.kind,
                f"{one.num_documents:,}",
                f"{one.ef:,}" if one.ef else "more than was asked",
                f"{one.found:.3f}",
            )
            for one in self.efforts
        ]
        wanted = self.efforts[0].recall
        note = (
            f"Smallest ef_search that finds {wanted:.0%} of the exact ten; larger graphs need more."
        )
        head = ("queries of", "documents in the graph", "ef_search", "recall@10")
        return Table("HNSW", head, "lrrr", tuple(rows), note)

    def records(self) -> list[Record]:
        """A record per forecast."""
        rows: list[Record] = [
            {
                "kind": one.kind,
                "documents": "teacher's",
                "dim": self.dim,
                "precision": "float32",
                "texts": one.num_texts,
                "value": one.retention.value,
                "low": one.retention.low,
                "high": one.retention.high,
                "outside": one.retention.outside,
                "seconds": one.seconds,
                "texts_needed": one.texts_needed,
            }
            for one in self.students
        ]
        rows += [
            {
                "kind": way.kind,
                "documents": way.documents,
                "dim": way.dim,
                "precision": way.precision,
                "value": way.retention.value,
                "low": way.retention.low,
                "high": way.retention.high,
                "outside": way.retention.outside,
            }
            for way in self.ways
        ]
        return rows


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
