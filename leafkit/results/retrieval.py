"""What retrieval and the tasks beside it measured: systems by metrics, with paired intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leafkit.results.agreement import Agreement
from leafkit.results.codec import Saved
from leafkit.results.contamination import Contamination
from leafkit.results.costs import IndexRow, LatencyRow
from leafkit.results.interval import Difference, Interval
from leafkit.results.table import Record, Table, Tabular
from leafkit.results.upgrade import upgrade_evaluation

MAIN = "ndcg@10"  # what systems are compared by
IN_DOMAIN, OUT_OF_DOMAIN = "in-domain", "out-of-domain"
METRIC_NAMES = {
    "ndcg@10": "nDCG@10",
    "map@100": "MAP@100",
    "map": "MAP@100",  # in results of earlier versions, which looked no deeper either
    "recall@10": "recall@10",
    "recall@100": "recall@100",
    "mrr@10": "MRR@10",
    "spearman": "Spearman",
    "v_measure": "V-measure",
    "accuracy": "accuracy",
}
SYSTEM_NAMES = {
    "teacher": "teacher queries, teacher documents",
    "symmetric": "student queries, student documents",
    "asymmetric": "student queries, teacher documents",
    "reversed": "teacher queries, student documents",
    "baseline": "baseline queries and documents",
    "bm25": "BM25",
}


@dataclass(frozen=True, slots=True)
class SystemScores:
    """One system's scores on one collection.

    Attributes:
        system: key of ``SYSTEM_NAMES``.
        metrics: mean over the queries, by metric.
    """

    system: str
    metrics: Mapping[str, Interval]


@dataclass(frozen=True, slots=True)
class Hit:
    """A found document.

    Attributes:
        id: of the document.
        text: its beginning.
        score: similarity.
        relevant: by the judgments.
    """

    id: str
    text: str
    score: float
    relevant: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """A query with the first documents of both encoders on the teacher's index.

    Attributes:
        query: its text.
        relevant: ids of the relevant documents.
        teacher: found by the teacher's query vector.
        student: found by the student's.
    """

    query: str
    relevant: tuple[str, ...]
    teacher: tuple[Hit, ...] = ()
    student: tuple[Hit, ...] = ()


@dataclass(frozen=True, slots=True)
class LostQuery:
    """A query on which the student loses against the teacher.

    Attributes:
        id: of the query.
        query: its text.
        teacher_ndcg: nDCG@10 of the teacher's query vector.
        student_ndcg: nDCG@10 of the student's, on the same index.
        relevant: ids of the relevant documents.
        teacher: found by the teacher's query vector.
        student: found by the student's.
    """

    id: str
    query: str
    teacher_ndcg: float
    student_ndcg: float
    relevant: tuple[str, ...]
    teacher: tuple[Hit, ...]
    student: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class QueryScores:
    """nDCG@10 of single queries, for a plot; of a large collection a sample.

    Attributes:
        ids: of the queries.
        texts: likewise.
        ndcg: by system, in the order of the queries.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    ndcg: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class CollectionResult:
    """Every system on one collection.

    Attributes:
        name: of the collection.
        kind: "in-domain" for the corpus that the student was trained on, else "out-of-domain".
        num_documents: searched.
        num_queries: judged, of the split.
        split: whose queries.
        own_documents_dropped: queries whose own document was left out of their ranking.
        systems: their scores.
        differences: of pairs of systems, in nDCG@10.
        retention: of each way to use the student the share of the teacher's nDCG@10.
        per_query: single queries.
        lost: queries with the largest losses.
        contamination: what training has seen of it; None where that was not checked.
    """

    name: str
    kind: str
    num_documents: int
    num_queries: int
    split: str
    own_documents_dropped: int
    systems: tuple[SystemScores, ...]
    differences: tuple[Difference, ...]
    retention: Mapping[str, Interval]
    per_query: QueryScores
    lost: tuple[LostQuery, ...] = ()
    contamination: Contamination | None = None


@dataclass(frozen=True, slots=True)
class MacroFigures:
    """Means over collections that count alike.

    Attributes:
        num_collections: averaged over.
        systems: those that every collection has.
        differences: of pairs of systems, in nDCG@10.
        retention: ratios of two means.
    """

    num_collections: int
    systems: tuple[SystemScores, ...]
    differences: tuple[Difference, ...]
    retention: Mapping[str, Interval]


@dataclass(frozen=True, slots=True)
class TaskScore:
    """Every encoder on one task without a search.

    Attributes:
        kind: "sts", "clustering" or "classification".
        name: of the task.
        metric: it is measured by.
        num_rows: measured on.
        how: the procedure, in words.
        counts: rows that were left out, by reason.
        scores: by encoder.
        differences: of pairs of encoders.
    """

    kind: str
    name: str
    metric: str
    num_rows: int
    how: str
    counts: Mapping[str, int]
    scores: Mapping[str, Interval]
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class EvaluationResult(Tabular, Saved):
    """All that a benchmark measured, as in results.json.

    Attributes:
        collections: with judged queries, the in-domain one first.
        macro: means over the collections; None where there is one or none.
        samples: queries of the first collection to look at.
        tasks: without a search.
        indexes: approximate search on the first collection.
        latency: of single queries.
        agreements: with the teacher, on collections without judgments.
    """

    what = "benchmark"
    made_by = "leafkit bench recipe=NAME"

    collections: tuple[CollectionResult, ...] = ()
    macro: MacroFigures | None = None
    samples: tuple[Sample, ...] = ()
    tasks: tuple[TaskScore, ...] = ()
    indexes: tuple[IndexRow, ...] = ()
    latency: tuple[LatencyRow, ...] = ()
    agreements: tuple[Agreement, ...] = ()

    @classmethod
    def upgrade(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Format 1 had metrics beside the system's name and no number of queries in an interval."""
        return upgrade_evaluation(data)

    def collection(self, name: str) -> CollectionResult:
        """The figures of one collection.

        Raises:
            KeyError: none has this name.
        """
        for found in self.collections:
            if found.name == name:
                return found
        raise KeyError(name)

    def tables(self) -> list[Table]:
        """A table per collection, then the means, the tasks and the latency."""
        parts = [_collection_table(c) for c in self.collections]
        if self.macro:
            title = f"Mean of {self.macro.num_collections} collections"
            parts.append(_systems_table(title, self.macro.systems, self.macro.retention))
        parts += [found.table() for found in self.agreements]
        if self.tasks:
            parts.append(_tasks_table(self.tasks))
        if self.latency:
            parts.append(_latency_table(self.latency))
        return parts

    def records(self) -> list[Record]:
        """A record per collection, system and metric, and per task and encoder.

        ``teacher_ratio`` and its bounds stand beside nDCG@10 of the systems that use the student.
        """
        rows: list[Record] = []
        for part in self.collections:
            about: Record = {"collection": part.name, "kind": part.kind}
            rows += [about | row for row in _records(part.systems, part.retention)]
        if self.macro:
            about = {"collection": "all collections", "kind": "macro"}
            rows += [about | row for row in _records(self.macro.systems, self.macro.retention)]
        for found in self.agreements:
            rows += found.records()
        for task in self.tasks:
            about = {"collection": task.name, "kind": task.kind}
            rows += [
                about | _record(encoder, task.metric, score, None)
                for encoder, score in task.scores.items()
            ]
        return rows


def _record(system: str, metric: str, score: Interval, ratio: Interval | None) -> Record:
    return {
        "system": system,
        "metric": metric,
        "value": score.value,
        "low": score.low,
        "high": score.high,
        "n": score.n,
        "teacher_ratio": ratio.value if ratio else None,
        "teacher_ratio_low": ratio.low if ratio else None,
        "teacher_ratio_high": ratio.high if ratio else None,
    }


def _records(systems: Sequence[SystemScores], retention: Mapping[str, Interval]) -> list[Record]:
    return [
        _record(row.system, metric, score, retention.get(row.system) if metric == MAIN else None)
        for row in systems
        for metric, score in row.metrics.items()
    ]


def _collection_table(found: CollectionResult) -> Table:
    title = (
        f"{found.name} ({found.kind}), n = {found.num_queries:,} {found.split} queries, "
        f"{found.num_documents:,} documents"
    )
    return _systems_table(title, found.systems, found.retention)


def _systems_table(
    title: str, systems: Sequence[SystemScores], retention: Mapping[str, Interval]
) -> Table:
    metrics = list(dict.fromkeys(metric for row in systems for metric in row.metrics))
    rows = tuple(
        (
            SYSTEM_NAMES.get(row.system, row.system),
            *(str(row.metrics[m]) if m in row.metrics else "" for m in metrics),
            retention[row.system].percent() if row.system in retention else "",
        )
        for row in systems
    )
    header = ("system", *(METRIC_NAMES.get(m, m) for m in metrics), "of the teacher's nDCG@10")
    note = "Brackets: 95% paired-bootstrap intervals."
    return Table(title, header, "l" + "r" * (len(header) - 1), rows, note)


def _tasks_table(tasks: Sequence[TaskScore]) -> Table:
    rows = tuple(
        (
            task.name,
            task.kind,
            METRIC_NAMES.get(task.metric, task.metric),
            f"{task.num_rows:,}",
            encoder,
            str(score),
        )
        for task in tasks
        for encoder, score in task.scores.items()
    )
    header = ("task", "kind", "measure", "n", "encoder", "score")
    return Table("Tasks without a search", header, "lllrlr", rows)


def _latency_table(latency: Sequence[LatencyRow]) -> Table:
    rows = tuple(
        (
            row.encoder,
            f"{row.queries_per_s:,.1f}",
            f"{row.p50_ms:.2f}",
            f"{row.p99_ms:.2f}",
            str(row.threads),
            row.dtype,
            f"{row.num_queries:,}",
        )
        for row in latency
    )
    header = ("encoder", "queries/s", "p50 ms", "p99 ms", "threads", "dtype", "n")
    return Table("Latency of single queries", header, "lrrrrlr", rows)
