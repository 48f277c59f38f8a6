"""A ladder of encoders on one index: what each rung keeps and costs, and which promises a router
over them holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from leafkit.results.agreement import SEEN
from leafkit.results.codec import Saved
from leafkit.results.costs import Machine
from leafkit.results.interval import Interval
from leafkit.results.table import Record, Table, Tabular

STUDENT_RUNG, TEACHER_RUNG = "student", "teacher"
JUDGED, TEACHERS_OWN = "judgments", "the teacher's own ten nearest documents"
# what the half that verifies says of a promise: its interval lies above, around or below it
VERIFIED, UNDECIDED, REFUTED = "verified", "undecided", "refuted"
ENDPOINT = "endpoint"  # where a model computes that is asked over the network


@dataclass(frozen=True, slots=True)
class LossPredictor:
    """A ridge regression of what a query loses at a rung on its standardized signals.

    Attributes:
        rung: whose answers.
        previous: rung that answered before; "" for none.
        intercept: mean loss.
        weights: of the signals.
        means: of the signals.
        scales: of the signals.
    """

    rung: str
    previous: str
    intercept: float
    weights: tuple[float, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TimedOn:
    """What a rung was timed on.

    Attributes:
        device: as torch names its kind, or ``ENDPOINT``.
        dtype: of the arithmetic; "" where that is not known.
        threads: of one query; None where the arithmetic is not the processor's.
    """

    device: str
    dtype: str
    threads: int | None

    def __str__(self) -> str:
        """In words.

        >>> print(TimedOn("cpu", "float32", 2), TimedOn("endpoint", "", None), sep="; ")
        cpu, float32, 2 threads; endpoint
        """
        count = "" if self.threads is None else f"{self.threads} thread{'s'[: self.threads > 1]}"
        return ", ".join(filter(None, (self.device, self.dtype, count)))


@dataclass(frozen=True, slots=True)
class RungFigures:
    """One rung alone, on the queries that verify.

    Attributes:
        name: of the rung.
        fingerprint: of its model.
        parameters: of its model; None where it is not loaded here.
        ndcg: nDCG@10.
        kept: share of the teacher's nDCG@10.
        encode_ms: median of a single query, tokenizer included.
        query_ms: the same with the search and the signals that the router reads.
        timed_on: what computed meanwhile.
    """

    name: str
    fingerprint: str
    parameters: int | None
    ndcg: Interval
    kept: Interval
    encode_ms: float
    query_ms: float
    timed_on: TimedOn


@dataclass(frozen=True, slots=True)
class PromiseFigures:
    """One promise: what it takes, and what the queries that verify say of it.

    Attributes:
        promise: share of the teacher's nDCG@10.
        threshold: predicted losses up to it are taken; None where the teacher alone holds the
            promise.
        bound: lower bound of the share kept on the queries that calibrate; None without a
            threshold.
        kept: share kept on the queries that verify.
        cost: of a query, as a share of the teacher's time, likewise.
        shares: of these queries by the rung that answers.
        mix: share that a random mix of one rung and the teacher keeps at the same cost, the best of
            such mixes; None where the teacher answers alone.
        gain: kept minus mix, paired.
        num_needed: queries asked in all, with which the promise could be held where none of those
            that calibrate lost anything.
        verification: ``VERIFIED``, ``UNDECIDED`` or ``REFUTED``, as the whole interval of the share
            kept lies; the teacher alone is verified by itself.
    """

    derived: ClassVar[tuple[str, ...]] = ("verification",)

    promise: float
    threshold: float | None
    bound: float | None
    kept: Interval
    cost: Interval
    shares: Mapping[str, float]
    mix: Interval | None
    gain: Interval | None
    num_needed: int

    @property
    def is_held(self) -> bool:
        """Whether something cheaper than the teacher alone holds it."""
        return self.threshold is not None

    @property
    def verification(self) -> str:
        """What the queries that verify say of it."""
        if self.kept.high < self.promise:
            return REFUTED
        return VERIFIED if self.kept.low >= self.promise else UNDECIDED


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The router at one threshold, on the queries that verify: cost and share kept."""

    cost: float
    kept: Interval


@dataclass(frozen=True, slots=True)
class Ladder(Saved, Tabular):
    """Rungs on one index, and the router over them.

    Attributes:
        collection: that was asked.
        relevance: ``JUDGED``, or ``TEACHERS_OWN`` where there are no judgments.
        asked_with: what the queries are.
        training: whether the student has seen them: ``HELD_OUT`` or ``SEEN``. A promise that was
            calibrated on what it has seen says nothing of other queries.
        max_query_tokens: that they were cut at, as a server of a promise cuts its own; 0 took each
            model's own limit.
        space: name of the space of all vectors.
        index: kind of index that is searched.
        setting: of the index and its search, in words.
        num_documents: of the index.
        num_calibration: queries that the thresholds were chosen on.
        num_verification: other queries, on which all figures are.
        num_learning: queries that the predictors were fitted to and the route was chosen on, which
            neither calibrate nor verify.
        learned_from: what those are.
        rungs: cheapest first, the teacher last.
        route: names of the rungs that the router asks, in order.
        predictors: of the rungs of the route but the last.
        promises: rising.
        curve: of the router, cheapest first.
        num_timed: queries that each rung was timed on, one after the other.
        timed_with: what those are.
        machine: where the times were measured; what computed, each rung says itself.
    """

    what = "ladder"
    made_by = "leafkit ladder"

    collection: str
    relevance: str
    asked_with: str
    training: str
    max_query_tokens: int
    space: str
    index: str
    setting: str
    num_documents: int
    num_calibration: int
    num_verification: int
    num_learning: int
    learned_from: str
    rungs: tuple[RungFigures, ...]
    route: tuple[str, ...]
    predictors: tuple[LossPredictor, ...]
    promises: tuple[PromiseFigures, ...]
    curve: tuple[CurvePoint, ...]
    num_timed: int
    timed_with: str
    machine: Machine

    def verification_of(self, promise: PromiseFigures) -> str:
        """What a promise of this ladder rests on: its ``verification``, or ``SEEN`` where the
        student has seen the queries that calibrate and verify.
        """
        return SEEN if self.training == SEEN else promise.verification

    def is_servable(self, promise: PromiseFigures) -> bool:
        """Whether a promise is held by less than the teacher alone, on queries that the student
        has not seen, and not refuted by those that verify.
        """
        return promise.is_held and self.verification_of(promise) in (VERIFIED, UNDECIDED)

    def offers(self) -> str:
        """The promises that may be served in words, the highest that was verified first."""
        offered = [one for one in self.promises if self.is_servable(one)]
        if not offered:
            return (
                "no promise is held on queries that the student has not seen without being refuted"
                if any(one.is_held for one in self.promises)
                else "no promise is held by less than the teacher alone: ask it with mode=teacher"
            )
        verified = [one for one in offered if one.verification == VERIFIED]
        best = (
            f"the highest that was verified is promise={verified[-1].promise:g}"
            if verified
            else "none was verified"
        )
        costs = ", ".join(f"promise={one.promise:g} at {one.cost.value:.0%}" for one in offered)
        return f"{best}; held and not refuted are {costs} of the teacher's query time"

    @property
    def teacher_ms(self) -> float:
        """Milliseconds of a query that asks the teacher at once."""
        return self.rungs[-1].query_ms

    def rung(self, name: str) -> RungFigures:
        """The figures of a rung.

        Raises:
            KeyError: there is none of this name.
        """
        for one in self.rungs:
            if one.name == name:
                return one
        raise KeyError(name)

    def tables(self) -> list[Table]:
        """Each rung alone; the promises."""
        return [self._rungs_table(), self._promises_table()]

    def _rungs_table(self) -> Table:
        head = (
            "rung",
            "nDCG@10",
            "of the teacher's",
            "encode ms",
            "query ms",
            "of its time",
            "computed by",
        )
        rows = [
            (
                one.name,
                str(one.ndcg),
                one.kept.percent(),
                f"{one.encode_ms:.2f}",
                f"{one.query_ms:.2f}",
                f"{one.query_ms / self.teacher_ms:.1%}",
                str(one.timed_on),
            )
            for one in self.rungs
        ]
        judged = "" if self.relevance == JUDGED else f"; relevant are {self.relevance}"
        title = (
            f"Rungs on {self.collection}: {self.num_verification:,} {self.asked_with}, "
            f"{self.training}{judged}; {self.num_documents:,} documents, {self.index} index "
            f"({self.setting})"
        )
        machine = ", ".join(filter(None, (self.machine.cpu, self.machine.accelerator)))
        note = (
            f"Brackets: 95% bootstrap intervals. Times: medians of {self.num_timed:,} single "
            f"queries ({self.timed_with}), {machine}; query: encoder, search and the router's "
            "signals."
        )
        if any(one.timed_on.device == ENDPOINT for one in self.rungs):
            note += " Times of an endpoint hold the network and whoever else asks it."
        return Table(title, head, "lrrrrrl", tuple(rows), note)

    def _promises_table(self) -> Table:
        head = (
            "promise",
            "bound",
            "kept",
            "verification",
            "of its time",
            "answered by",
            "random mix",
            "gain",
        )
        rows = [
            (
                f"{100 * one.promise:g}%",
                "teacher alone" if one.bound is None else f"{one.bound:.1%}",
                one.kept.percent(),
                self.verification_of(one) if one.is_held else "",
                one.cost.percent(),
                ", ".join(f"{name} {share:.0%}" for name, share in one.shares.items() if share),
                "" if one.mix is None else one.mix.percent(),
                "" if one.gain is None else points(one.gain),
            )
            for one in self.promises
        ]
        title = (
            f"Promises of the router {' > '.join(self.route)}: learned from {self.num_learning:,} "
            f"{self.learned_from}, calibrated on {self.num_calibration:,} queries, verified on "
            f"{self.num_verification:,} others"
        )
        note = (
            "Bound: of the share kept on the queries that calibrate, 95% confidence. Verification: "
            "whether the interval of the share kept on the others lies above, around or below the "
            "promise. Gain over the best random mix of one rung and the teacher at the same cost, "
            "in points, paired."
        )
        if self.training == SEEN:
            note += (
                f" The student has seen these {self.asked_with} in training: a promise says "
                "nothing of other queries, and leafkit serve refuses it without unverified=true."
            )
        for one in self.promises:
            if not one.is_held:
                note += (
                    f" {100 * one.promise:g}% takes the teacher alone: below {one.num_needed:,} "
                    "queries no rung can promise it, whatever it keeps."
                )
            elif one.verification == REFUTED and self.training != SEEN:
                note += (
                    f" {100 * one.promise:g}% is refuted: leafkit serve refuses it without "
                    "unverified=true."
                )
        return Table(title, head, "rrrlrlrr", tuple(rows), note)

    def records(self) -> list[Record]:
        """A record per figure."""
        rows: list[Record] = []
        for rung in self.rungs:
            rows += [
                _record(self.collection, rung.name, "ndcg@10", rung.ndcg),
                _record(self.collection, rung.name, "kept", rung.kept),
            ]
        for one in self.promises:
            name = f"router {one.promise:g}"
            rows += [
                _record(self.collection, name, "kept", one.kept),
                _record(self.collection, name, "cost", one.cost),
            ]
            if one.gain is not None:
                rows.append(_record(self.collection, name, "gain over random mix", one.gain))
        return rows


def points(found: Interval) -> str:
    """A difference of shares in percentage points.

    >>> points(Interval(0.012, -0.003, 0.027))
    '+1.2 [-0.3, +2.7]'
    """
    return f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def _record(collection: str, system: str, metric: str, value: Interval) -> Record:
    return {
        "collection": collection,
        "system": system,
        "metric": metric,
        "value": value.value,
        "low": value.low,
        "high": value.high,
        "n": value.n,
    }
