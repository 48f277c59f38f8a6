"""The inheritance grid: what truncation and quantisation cost the student, against what they cost
the teacher.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from leafkit.results.codec import Saved
from leafkit.results.interval import Interval
from leafkit.results.table import Record, Table, Tabular
from leafkit.results.upgrade import upgrade_grid

Verdict = Literal["inherited", "not inherited", "undecided", "nothing to inherit"]
Outcome = Literal["passed", "no failure found", "not passed"]
INHERITED: Verdict = "inherited"
NOT_INHERITED: Verdict = "not inherited"
UNDECIDED: Verdict = "undecided"
NOTHING_TO_INHERIT: Verdict = "nothing to inherit"


@dataclass(frozen=True, slots=True)
class GridCell:
    """One setting, measured for the teacher and for the student in one mode.

    Attributes:
        mode: "symmetric" (student queries and documents) or "asymmetric" (student queries, teacher
            documents).
        dim: Matryoshka dimension.
        precision: of the stored documents.
        queries: "float" or "quantized".
        rescoring: candidates per result that are scored again with the documents' own vectors; 0
            for none.
        bytes_per_vector: of the stored documents.
        teacher: nDCG@10 of the teacher.
        student: nDCG@10 of the student.
        teacher_retention: the teacher's score over its own at full dimension in float32.
        student_retention: the same of the student.
        gap: the teacher's retention minus the student's.
        max_gap: the gate.
        verdict: "inherited" where the whole interval of the gap is within the gate, "not inherited"
            where all of it is beyond, else "undecided". "nothing to inherit" at a truncated
            dimension where the teacher's first dimensions keep no more than random directions do
            and the student does not fail.
        gain_over_random: what the teacher's first ``dim`` dimensions keep of its nDCG@10 beyond as
            many random directions; None at full dimension, and where it was not measured.
    """

    mode: str
    dim: int
    precision: str
    queries: str
    rescoring: int
    bytes_per_vector: int
    teacher: float
    student: float
    teacher_retention: Interval
    student_retention: Interval
    gap: Interval
    max_gap: float
    verdict: Verdict
    gain_over_random: Interval | None = None

    @property
    def scoring(self) -> str:
        """How it scores: plain, quantised queries, rescored."""
        parts = [f"{self.queries} queries"] if self.queries != "float" else []
        parts += [f"rescored x{self.rescoring}"] if self.rescoring else []
        return ", ".join(parts) or "plain"

    @property
    def setting(self) -> str:
        """The setting without its mode: ``256-d int8, quantized queries, rescored x4``."""
        plain = f"{self.dim}-d {self.precision}"
        return plain if self.scoring == "plain" else f"{plain}, {self.scoring}"


@dataclass(frozen=True, slots=True)
class InheritanceGrid(Tabular, Saved):
    """Every setting with its verdict, as in grid.json.

    Attributes:
        collection: measured on; "" for vectors that came from nowhere named.
        num_queries: judged.
        num_documents: searched.
        strict: whether undecided settings fail too.
        scales: smallest and largest number of each codec's scales, by documents/dim/precision/name;
            the arrays themselves are in scales.npz.
        cells: the settings.
        min_retention: the floor: share of the teacher's nDCG@10 that a student must keep at full
            size in float32 for any setting to be inherited; None in a grid of an earlier version,
            which had no floor.
        of_teacher: what each mode of the student keeps of it; empty in such a grid.
    """

    what = "inheritance grid"
    made_by = "leafkit inherit recipe=NAME"
    derived = ("passed", "num_undecided")

    collection: str
    num_queries: int
    num_documents: int
    strict: bool
    scales: Mapping[str, tuple[float, float]]
    cells: tuple[GridCell, ...]
    min_retention: float | None = None
    of_teacher: Mapping[str, Interval] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the gates hold."""
        return not self.failing()

    @property
    def num_undecided(self) -> int:
        """Settings on which the queries are too few to say."""
        return self.count(UNDECIDED)

    @property
    def outcome(self) -> Outcome:
        """Passed where every setting is decided and none fails; settings with nothing to inherit
        decide nothing.
        """
        if not self.passed:
            return "not passed"
        return "no failure found" if self.num_undecided or not self.count(INHERITED) else "passed"

    def summary(self) -> str:
        """The outcome with its counts, in sentences."""
        counts = [f"{n} {word}" for word in typing.get_args(Verdict) if (n := self.count(word))]
        open_ones = f", {self.num_undecided} undecided" if self.num_undecided else ""
        outcome = self.outcome.capitalize() + (open_ones if self.passed else "")
        plural = "setting" if len(self.cells) == 1 else "settings"
        sentences = [f"{outcome}: of {len(self.cells)} {plural}, {', '.join(counts)}."]
        if self.strict and self.num_undecided:
            sentences.append("Undecided settings fail too.")
        sentences += self._of_floor()
        empty = {c.dim: c.gain_over_random for c in self.cells if c.verdict == NOTHING_TO_INHERIT}
        gain = empty[min(empty)] if empty else None
        if gain is not None:
            why = "within noise" if gain.low <= 0 else "too little to be Matryoshka"
            sentences.append(
                f"Nothing to inherit: what the teacher's first {min(empty)} dimensions keep of its "
                f"nDCG@10 beyond {min(empty)} random directions, {gain.signed()}, is {why}."
            )
        return " ".join(sentences)

    def _of_floor(self) -> list[str]:
        """What the student keeps of its teacher, whatever it keeps of itself."""
        if self.min_retention is None:
            return []
        kept = "; ".join(f"{mode} {share.percent()}" for mode, share in self.of_teacher.items())
        told = [f"Of the teacher's own nDCG@10 the student keeps, at full size: {kept}."]
        floor = f"{self.min_retention:.0%}"
        low = [m for m, share in self.of_teacher.items() if share.high < self.min_retention]
        near = [
            m
            for m, share in self.of_teacher.items()
            if share.low < self.min_retention <= share.high
        ]
        if low:
            told.append(
                f"Below the floor of {floor}, so that no setting is inherited: {', '.join(low)}."
            )
        if near:
            told.append(
                f"Within noise of the floor of {floor}, so that none is decided: {', '.join(near)}."
            )
        return told

    def count(self, verdict: Verdict) -> int:
        """Settings with a verdict."""
        return sum(cell.verdict == verdict for cell in self.cells)

    def failing(self, strict: bool | None = None) -> list[GridCell]:
        """Settings that fail: not inherited, and where ``strict`` (None takes the grid's) undecided
        ones too.
        """
        undecided_fails = self.strict if strict is None else strict
        bad = {NOT_INHERITED, UNDECIDED} if undecided_fails else {NOT_INHERITED}
        return [cell for cell in self.cells if cell.verdict in bad]

    @classmethod
    def upgrade(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Format 1 had the bounds beside their estimates."""
        return upgrade_grid(data)

    def tables(self) -> list[Table]:
        """All settings, the failing ones first."""
        order: list[Verdict] = [NOT_INHERITED, UNDECIDED, NOTHING_TO_INHERIT, INHERITED]
        rows = sorted(self.cells, key=lambda cell: order.index(cell.verdict))
        return [grid_table(self, rows)]

    def records(self) -> list[Record]:
        """A record per setting, bounds as columns of their own."""
        return [_record(cell) for cell in self.cells]


def grid_table(grid: InheritanceGrid, cells: Sequence[GridCell]) -> Table:
    """Some of a grid's settings as a table."""
    where = f"{grid.collection}: " if grid.collection else ""
    header = (
        "mode",
        "setting",
        "teacher keeps",
        "over random",
        "student keeps",
        "gap",
        "allowed",
        "verdict",
    )
    rows = tuple(
        (
            cell.mode,
            cell.setting,
            cell.teacher_retention.percent(),
            cell.gain_over_random.signed() if cell.gain_over_random else "",
            cell.student_retention.percent(),
            cell.gap.signed(),
            f"{cell.max_gap:.3f}",
            cell.verdict,
        )
        for cell in cells
    )
    return Table(
        f"Inheritance, {where}{grid.num_queries:,} queries, {grid.num_documents:,} documents",
        header,
        "llrrrrrl",
        rows,
        f"{grid.summary()} Shares are of the own nDCG@10 at full dimension in float32; over random "
        f"is what the teacher's first dimensions keep beyond as many random directions; the gap is "
        f"the teacher's share minus the student's, with its 95% interval.",
    )


def _record(cell: GridCell) -> Record:
    found: Record = {}
    for name in [column.name for column in fields(cell)]:
        value = getattr(cell, name)
        if isinstance(value, Interval) or name == "gain_over_random":
            ends = (value.value, value.low, value.high) if value else (None, None, None)
            found |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
        else:
            found[name] = value
    return found
