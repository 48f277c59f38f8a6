"""Is a setting inherited? The gap of every cell with its interval, against a gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from leafkit.core.errors import LeafkitError
from leafkit.evaluation.bootstrap import Bootstrap, interval, share
from leafkit.evaluation.diagnosis.findings import exceeds_random
from leafkit.evaluation.inheritance.cells import Cell
from leafkit.results import GridCell, Interval, Verdict
from leafkit.results.inheritance import (
    INHERITED,
    NOT_INHERITED,
    NOTHING_TO_INHERIT,
    UNDECIDED,
)


def judge(low: float, high: float, max_gap: float) -> Verdict:
    """Verdict on a gap's interval against a gate: inherited where all of it is within, not where
    all of it is beyond.
    """
    if high <= max_gap:
        return INHERITED
    return NOT_INHERITED if low > max_gap else UNDECIDED


def judge_floor(kept: Interval, floor: float) -> Verdict:
    """The best verdict that a student's settings can have: a student that lost the ranking itself
    has nothing of its teacher's to keep, so that all settings fail where the whole interval of its
    retention is below the floor, and none is decided where a part of it is.
    """
    return judge(-kept.high, -kept.low, -floor) if floor else INHERITED


class Retentions:
    """Retention of every system in every cell, over the same resamples.

    Raises:
        LeafkitError: the teacher finds nothing.
    """

    def __init__(
        self, per_query: Mapping[str, np.ndarray], full_dim: int, bootstrap: Bootstrap
    ) -> None:
        self._draws = bootstrap.draws(per_query)
        self._full = Cell(full_dim, "float32", "float", 0)
        self.num_queries = bootstrap.num_queries
        if not self._draws.estimates[self._full.column("teacher")] > 0:
            raise LeafkitError(
                "the teacher finds no relevant document at full dimension in float32: there is "
                "nothing that could be inherited",
                "check that queries, documents and judgments belong together",
            )

    def ndcg(self, system: str, cell: Cell) -> float:
        """The mean over the queries."""
        return self._draws.estimates[cell.column(system)]

    def retention(self, system: str, cell: Cell) -> Interval:
        """nDCG over the system's own at full size; a student that finds nothing there keeps
        nothing.
        """
        return self._draws.ratio(cell.column(system), self._full.column(system))

    def of_teacher(self, mode: str) -> Interval:
        """A student's nDCG over the teacher's, both at full size in float32."""
        return self._draws.ratio(self._full.column(mode), self._full.column("teacher"))

    def gap(self, mode: str, cell: Cell) -> Interval:
        """The teacher's retention minus the student's."""
        parts = [(cell.column(system), self._full.column(system)) for system in ("teacher", mode)]
        kept = [
            (
                share(self._draws.estimates[part], self._draws.estimates[whole]),
                share(self._draws.resampled[part], self._draws.resampled[whole]),
            )
            for part, whole in parts
        ]
        return interval(kept[0][0] - kept[1][0], kept[0][1] - kept[1][1], self.num_queries)


def judge_cells(
    cells: Sequence[Cell],
    modes: Sequence[str],
    values: Retentions,
    *,
    gates: Mapping[str, float],
    sizes: Mapping[str, int],
    gains: Mapping[int, Interval],
    floor: float = 0.0,
) -> tuple[GridCell, ...]:
    """Every mode and cell: retention of teacher and student, gap, intervals, verdict.

    Where the smallest of the teacher's heads keeps no more than random directions do, as
    ``leafkit inherit diagnose=true`` judges it, its dimensions have no order that a student could
    inherit: truncated settings that do not fail have nothing to inherit.

    Args:
        cells: the settings.
        modes: of the student.
        values: nDCG by system and setting.
        gates: largest gap allowed, by precision.
        sizes: bytes of a vector, by bytes/dim/precision.
        gains: what the teacher's first dimensions keep beyond as many random directions, by their
            number.
        floor: share of the teacher's nDCG that a student must keep; see ``judge_floor``.
    """
    judged = []
    limits = {mode: judge_floor(values.of_teacher(mode), floor) for mode in modes}
    has_order = not gains or exceeds_random(gains[min(gains)])
    for mode in modes:
        for cell in cells:
            gap, gate = values.gap(mode, cell), gates[cell.precision]
            # one query has no spread
            verdict = judge(gap.low, gap.high, gate) if values.num_queries > 1 else UNDECIDED
            is_empty = cell.dim in gains and not has_order and values.num_queries > 1
            if is_empty and verdict != NOT_INHERITED:
                verdict = NOTHING_TO_INHERIT
            if limits[mode] == NOT_INHERITED and values.num_queries > 1:
                verdict = NOT_INHERITED
            elif limits[mode] == UNDECIDED and verdict == INHERITED:
                verdict = UNDECIDED
            judged.append(
                GridCell(
                    mode=mode,
                    **cell._asdict(),
                    bytes_per_vector=sizes[f"bytes/{cell.dim}/{cell.precision}"],
                    teacher=values.ndcg("teacher", cell),
                    student=values.ndcg(mode, cell),
                    teacher_retention=values.retention("teacher", cell),
                    student_retention=values.retention(mode, cell),
                    gap=gap,
                    max_gap=gate,
                    verdict=verdict,
                    gain_over_random=gains.get(cell.dim),
                )
            )
    return tuple(judged)
