"""From probes to forecasts: what finished runs say of each kind of student.

Shapes: H held-out documents, A queries, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from leafkit.evaluation.forecast.calibration import Calibration
from leafkit.evaluation.forecast.growth import FARTHEST, expect_at
from leafkit.pipeline.predict.student_words import StudentWords
from leafkit.results import StudentForecast
from leafkit.results.prediction import TRAINED, ProbeAt

TRAINED_SECONDS = 600.0  # of the finished runs that were trained
_STEP = 2**0.25  # between numbers of texts that are tried for a target


@dataclass(frozen=True, slots=True)
class Probed:
    """What is known of one kind of student.

    Attributes:
        kind: its name.
        probes: of rising numbers of texts.
        held_out: (H, D) vectors of the largest probe.
        queries: (A, D) likewise.
        seconds_per_text: to make a student of this kind, from the probes' speed.
        unfitted: positions of the documents that half of the largest probe leaves.
        embed_half: vectors of a student that was fitted to that half: of the held-out documents, of
            the queries, of the documents that it left.
    """

    kind: str
    probes: tuple[ProbeAt, ...]
    held_out: np.ndarray
    queries: np.ndarray
    seconds_per_text: float
    unfitted: np.ndarray
    embed_half: Callable[[], tuple[np.ndarray, np.ndarray, np.ndarray]]


def forecast_student(
    probed: Probed, calibration: Calibration, num_texts: int, target: float, *, words: StudentWords
) -> StudentForecast:
    """What a student of this kind will be worth, fitted to ``num_texts``.

    Args:
        probed: its probes.
        calibration: by finished runs.
        num_texts: that there are.
        target: share of the teacher that is wanted.
        words: that make the students.
    """
    expected = expect_at(probed.probes, num_texts)
    needed = find_texts(probed.probes, calibration, target)
    return StudentForecast(
        kind=probed.kind,
        settings=words.of(probed.kind, max(num_texts, needed)),
        num_texts=num_texts,
        probes=probed.probes,
        expected=expected,
        retention=calibration.forecast(expected, growth=growth_to(probed.probes, num_texts)),
        seconds=probed.seconds_per_text * num_texts,
        texts_needed=needed,
    )


def forecast_trained(
    probed: Probed, calibration: Calibration, num_texts: int, target: float, *, words: StudentWords
) -> StudentForecast:
    """What ten minutes of training make of the last layer's closed form, by finished runs alone: no
    probe takes a step.

    Args:
        probed: of the last layer.
        calibration: with finished runs that were trained.
        num_texts: that there are.
        target: share of the teacher that is wanted.
        words: that make the students.
    """
    whole = forecast_student(probed, calibration, num_texts, target, words=words)
    needed = find_texts(probed.probes, calibration, target, is_trained=True)
    return replace(
        whole,
        kind=TRAINED,
        settings=words.of(TRAINED, max(num_texts, needed)),
        retention=calibration.forecast(
            whole.expected, growth=growth_to(probed.probes, num_texts), is_trained=True
        ),
        seconds=TRAINED_SECONDS,
        texts_needed=needed,
    )


def growth_to(probes: Sequence[ProbeAt], num_texts: int) -> float:
    """A number of texts in times of the largest probe's, 1 at least."""
    return max(1.0, num_texts / probes[-1].num_texts)


def find_best(students: Sequence[StudentForecast]) -> int:
    """Position of the one that keeps most; of several whose forecast ends at 100%, of the one that
    finds most of its teacher's neighbors.
    """
    return max(
        range(len(students)),
        key=lambda i: (students[i].retention.value, students[i].expected.document_overlap),
    )


def find_texts(
    probes: Sequence[ProbeAt],
    calibration: Calibration,
    target: float,
    *,
    is_trained: bool = False,
) -> int:
    """The fewest texts whose forecast reaches a share; 0 where no number does that the probes can
    speak for.
    """
    count = float(probes[0].num_texts)
    farthest = FARTHEST * probes[-1].num_texts
    while count <= farthest:
        expected = expect_at(probes_to(probes, count), int(count))
        if calibration.forecast(expected, is_trained=is_trained).value >= target:
            return int(count)
        count *= _STEP
    return 0


def probes_to(probes: Sequence[ProbeAt], count: float) -> Sequence[ProbeAt]:
    """The probes up to a number of texts, the smallest at least; all of them beyond the largest."""
    below = [probe for probe in probes if probe.num_texts <= count]
    return below or probes[:1]
