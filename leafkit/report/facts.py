"""What a run found, in sentences; page, comparison, card and console all say it in these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

from leafkit.report.format import (
    decimal,
    grouped,
    interval,
    is_known,
    noise_verdict,
    percent,
    percent_interval,
    round_percent,
    short_count,
    verdict_against_teacher,
)
from leafkit.results import (
    CollectionResult,
    Contamination,
    Difference,
    EvaluationResult,
    Interval,
    LatencyRow,
    ModelFacts,
    RunReport,
    SystemScores,
    Verdict,
)
from leafkit.results.retrieval import IN_DOMAIN, METRIC_NAMES

SYSTEMS = {
    "teacher": "teacher embeds queries and documents",
    "symmetric": "student embeds queries and documents",
    "asymmetric": "student embeds queries, teacher embeds documents",
    "reversed": "teacher embeds queries, student embeds documents",
    "baseline": "a stock encoder embeds both",
    "bm25": "words only, no vectors",
}
_RIVALS = {"bm25": "BM25", "baseline": "The baseline, a stock encoder,"}
MODES = {"asymmetric": "embeds the queries alone", "symmetric": "embeds queries and documents"}
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True, slots=True)
class Scored:
    """What systems scored on a collection, or on the mean over all; ``collection`` is None there.

    Attributes:
        name: of the collection.
        kind: in-domain or out-of-domain, or how many are averaged.
        systems: their scores.
        differences: paired ones.
        retention: shares of the teacher's nDCG@10.
        num_collections: averaged over; 1 for a collection.
        collection: everything else about it.
    """

    name: str
    kind: str
    systems: tuple[SystemScores, ...]
    differences: tuple[Difference, ...]
    retention: Mapping[str, Interval]
    num_collections: int = 1
    collection: CollectionResult | None = None

    @property
    def num_queries(self) -> int | None:
        """Judged; a mean over collections has no number of its own."""
        return self.collection.num_queries if self.collection else None

    @property
    def num_documents(self) -> int | None:
        """Searched, likewise."""
        return self.collection.num_documents if self.collection else None

    @property
    def title(self) -> str:
        """Name, kind and number of queries in one phrase."""
        number = f", {grouped(self.num_queries)} queries" if self.collection else ""
        return f"{self.name} ({self.kind}{number})"

    def difference(self, a: str, b: str) -> Difference | None:
        """``a`` minus ``b`` in nDCG@10; None where it was not measured."""
        same = (d for d in self.differences if (d.a, d.b, d.metric) == (a, b, "ndcg@10"))
        return next(same, None)

    def score(self, system: str, metric: str = "ndcg@10") -> Interval | None:
        """What a system scored; None where it was not measured."""
        for row in self.systems:
            if row.system == system and metric in row.metrics:
                cell = row.metrics[metric]
                return cell if is_known(cell.value) else None
        return None


def bench(report: RunReport) -> EvaluationResult:
    """The benchmark; an empty one where the run has none."""
    return report.bench or EvaluationResult()


def scored(report: RunReport) -> list[Scored]:
    """The collections, in-domain first, then the mean over them where there is one."""
    found = [
        Scored(c.name, c.kind, c.systems, c.differences, c.retention, collection=c)
        for c in sorted(bench(report).collections, key=lambda c: c.kind != IN_DOMAIN)
    ]
    mean = bench(report).macro
    if mean is not None and mean.systems:
        kind = f"mean of {grouped(mean.num_collections)} collections"
        shares = mean.systems, mean.differences, mean.retention
        found.append(Scored("all collections", kind, *shares, mean.num_collections))
    return found


def headline(parts: list[Scored]) -> list[Scored]:
    """The first collection and the mean where there is one, else all collections."""
    return [parts[0], parts[-1]] if parts and parts[-1].collection is None else parts


def system_name(system: str) -> str:
    """What a system is called in print."""
    return "BM25" if system == "bm25" else system


def difference_name(row: Difference) -> str:
    """What is subtracted from what."""
    return f"{system_name(row.a)} - {system_name(row.b)}"


def metric_name(metric: str) -> str:
    """What a metric is called in print."""
    return METRIC_NAMES.get(metric, metric)


def contamination_line(found: Contamination | None) -> str:
    """How many evaluation texts training has seen, in one line; what is not known is said.

    >>> from leafkit.results import Overlap
    >>> contamination_line(Contamination(queries=Overlap(total=300, exact=0, near=2)))
    'contamination: 0 of 300 queries exact, 2 near'
    """
    if found is None:
        return "contamination: not checked"
    if found.unknown:
        return f"contamination: unknown ({found.unknown})"
    counts = [
        f"{grouped(part.exact)} of {grouped(part.total)} {what} exact, {grouped(part.near)} near"
        for what, part in (("queries", found.queries), ("documents", found.documents))
        if part is not None
    ]
    line = f"contamination: {'; '.join(counts) or 'not counted'}"
    if found.training_texts is None:
        return line
    return f"{line} (against {grouped(found.training_texts)} training texts)"


def notes_on(part: Scored, brief: bool = False) -> list[str]:
    """What one has to know beside scores: contamination, and documents that were dropped.

    ``brief`` leaves out the remarks on how contamination was counted.
    """
    if part.collection is None:
        return [
            "every collection counts the same; intervals draw the collections, then the queries "
            "of each"
        ]
    found, dropped = part.collection.contamination, part.collection.own_documents_dropped
    notes = [contamination_line(found), *(found.notes if found and not brief else ())]
    if dropped:
        notes.append(f"own documents dropped from the rankings: {grouped(dropped)}")
    return notes


def speed_up(report: RunReport) -> tuple[float, LatencyRow] | None:
    """Queries per second of the student over the teacher's, and the student's row.

    The two rows must have the same threads and dtype; None where no such two were measured.
    """
    rows = bench(report).latency
    for student in (row for row in rows if row.encoder == "student"):
        for teacher in (row for row in rows if row.encoder == "teacher"):
            same = (student.threads, student.dtype) == (teacher.threads, teacher.dtype)
            ratio = student.queries_per_s / (teacher.queries_per_s or float("nan"))
            if same and is_known(ratio):
                return ratio, student
    return None


def parameters(report: RunReport) -> tuple[int, int] | None:
    """Parameters of the student and of the teacher, where both are known."""
    counts = [m.parameters for m in (report.student, report.teacher) if m and m.parameters]
    return (counts[0], counts[1]) if len(counts) == 2 else None


def verdict_sentences(report: RunReport, brief: bool = False) -> list[str]:
    """The run's result in words: what is kept on each collection, then size and speed.

    Where there is a mean over the collections, the ``brief`` result has the first collection and
    the mean alone.
    """
    return [*retention_sentences(report, brief), *filter(None, [size_sentence(report)])]


def retention_sentences(report: RunReport, brief: bool = False) -> list[str]:
    """What is kept on each collection, and what does as well there; none where that was not
    measured.
    """
    sentences: list[str] = []
    parts = scored(report)
    for part in headline(parts) if brief else parts:
        kept = [
            _kept_in_words(part, mode)
            for mode in MODES
            if mode in part.retention and is_known(part.retention[mode].value)
        ]
        if kept:
            subject = "it" if sentences else "the student"
            kept[0] = kept[0].replace(" where", " of the teacher's nDCG@10 where", 1)
            said = [f"On {part.title}, {subject} keeps {', and '.join(kept)}.", *rivals(part)]
            sentences.append(" ".join(said))
    return sentences


def size_sentence(report: RunReport) -> str:
    """How large and how fast the student is beside its teacher, or ""."""
    sized = list(_size_and_speed(report))
    return f"The student {', and '.join(sized)}." if sized else ""


def _kept_in_words(part: Scored, mode: str) -> str:
    retention, row = part.retention[mode], part.difference(mode, "teacher")
    # a share and a difference are resampled alike and rounded each on its own: both must say it
    is_noise = row is not None and noise_verdict(row.interval, row.p) == "within noise"
    against = verdict_against_teacher(retention, 1.0 if is_noise else None)
    verdict = ", ".join(filter(None, (mode, against)))
    return f"{percent_interval(retention)} where it {MODES[mode]} ({verdict})"


def rivals(part: Scored) -> list[str]:
    """What has to be said beside a share of the teacher's score: that words alone, or a stock
    encoder, do as well as the teacher or the student do, in a sentence each.
    """
    return list(filter(None, (_rival(part, name, words) for name, words in _RIVALS.items())))


def _rival(part: Scored, rival: str, words: str) -> str:
    score = part.score(rival)
    for system, owner in (("teacher", "the teacher's"), ("asymmetric", "the student's")):
        own = part.score(system)
        if score is None or own is None:
            continue
        row = part.difference(system, rival)
        side = noise_verdict(row.interval, row.p) if row else ""
        if side in ("", "no interval"):
            side = "lower" if own.value < score.value else "higher"
        if side == "higher":
            continue
        how = "above" if side == "lower" else "within noise of"
        figures = f"{decimal(score.value)} there, {how} {owner} {decimal(own.value)}"
        return f"{words} scores {figures}."
    return ""


def _size_and_speed(report: RunReport) -> Iterator[str]:
    counts, faster = parameters(report), speed_up(report)
    if counts is not None:
        sizes = [short_count(count) for count in counts]
        share = counts[0] / counts[1]
        yield f"has {sizes[0]} parameters, {round_percent(share)} of the teacher's {sizes[1]}"
    if faster is not None:
        ratio, row = faster
        setting = f"{row.threads} threads, {row.dtype}, single queries"
        yield f"embeds {ratio:.1f} times as many queries per second ({setting})"


def opening_sentences(report: RunReport) -> list[str]:
    """What the run found, whatever it measured: retention, then inheritance, else the diagnosis;
    size and speed come last.
    """
    inherited = inherit_sentence(report)
    agreement = [] if scored(report) else agreement_sentences(report)
    found = [*agreement, *retention_sentences(report, brief=True), inherited]
    found = list(filter(None, found)) or [diagnosis_sentence(report)]
    said = list(filter(None, [*found, size_sentence(report)]))
    return said if any(found) else ["This run measured no retrieval.", *said]


def prompt(model: ModelFacts | None, role: str) -> str:
    """What a model puts before a query or a document; "" for nothing."""
    return model.prompts.get(role, "") if model else ""


def agreement_sentences(report: RunReport) -> list[str]:
    """How far the student agrees with its teacher on collections without judgments."""
    return [f"{found}." for found in bench(report).agreements]


def cut_sentences(report: RunReport) -> list[str]:
    """What models did not read of texts, a sentence for each; empty where they read all."""
    found = [f"{cut}." for cut in report.cuts if cut.num_cut]
    return list(dict.fromkeys(found))


def inherit_summary(report: RunReport) -> str:
    """The inheritance check in words, or "" where the run has none."""
    return report.inheritance.summary() if report.inheritance else ""


def inherit_sentence(report: RunReport) -> str:
    """The same as a sentence of its own with the place of the measurement, or ""."""
    grid = report.inheritance
    return f"Inheritance on {grid.collection or '?'}: {inherit_summary(report)}" if grid else ""


def diagnosis_sentence(report: RunReport) -> str:
    """The verdict on the teacher in words, or ""."""
    return report.diagnosis.sentence() if report.diagnosis else ""


def diagnosis_facts(report: RunReport) -> list[tuple[str, str]]:
    """The figures of the diagnosis that are no table, as terms with what was found."""
    if report.diagnosis is None:
        return []
    figures = report.diagnosis.figures
    binary = figures.binary
    facts = [
        ("dimensions", grouped(figures.dim)),
        ("effective rank", decimal(figures.effective_rank, 1)),
        ("mean cosine of two texts", interval(figures.mean_cosine)),
    ]
    for cosine, share in binary.sign_agreement_at.items():
        facts.append((f"signs kept at cosine {cosine} to the teacher", percent(share)))
    if binary.quality is not None:
        kept = percent_interval(binary.quality.retention)
        facts.append(("kept under one bit per dimension", kept))
    return facts
