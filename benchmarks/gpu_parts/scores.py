"""What terms over scores cost a student's training, beside L2 alone."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gpu_parts.loop import Budget, train_student
from gpu_parts.made import device_of, fake_targets, make_ids, make_lengths, make_student
from gpu_parts.part import Emit, Part, Row, Setting, Verdict, at_most, of_way, quotient
from leafkit.config import StudentConfig, StudentLosses
from leafkit.pipeline.student.candidates import Candidates
from leafkit.train.student_terms import ScoredRows

BAR = 1.15
L2 = "l2"
TERMS = {
    "l2 + score_kl": StudentLosses(score_kl=1.0),
    "l2 + score_mse": StudentLosses(score_mse=1.0),
    "l2 + ranking": StudentLosses(ranking=1.0),
    "l2 + margin_mse": StudentLosses(margin_mse=1.0),
    "l2 + contrastive": StudentLosses(contrastive=1.0),
}
MAX_TOKENS, MEDIAN = 64, 24


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured.

    Attributes:
        num_texts: trained on.
        num_documents: candidates are drawn from.
        num_steps: of a training; the first third is not timed.
        turns: of every term.
    """

    num_texts: int
    num_documents: int
    num_steps: int
    turns: int


TINY, FULL = Sizes(60, 100, 5, 1), Sizes(4000, 20_000, 150, 2)


def make_candidates(num_texts: int, num_documents: int, losses: StudentLosses) -> Candidates:
    """Nearest documents of every text, as a pipeline's search would leave them; half of the texts
    have a relevant one where the term asks.
    """
    config = losses.candidates
    generator = np.random.default_rng(4)
    nearest = generator.integers(0, num_documents, (num_texts, config.num_nearest))
    relevant = {(0, i): nearest[i, :1] for i in range(0, num_texts, 2)}
    documents = fake_targets(num_documents).astype(np.float16)
    return Candidates(documents, [nearest], config, 0, relevant if losses.contrastive else {})


def run(setting: Setting, emit: Emit) -> None:
    """Every term in turn with L2 alone, at the recipe's batches."""
    measure_terms(setting, TINY if setting.is_tiny else FULL, emit)


def measure_terms(setting: Setting, sizes: Sizes, emit: Emit) -> None:
    """Every term in turn with L2 alone, at the recipe's batches.

    Args:
        setting: what a part is told.
        sizes: how much is measured.
        emit: takes a row of each way: steps a second, and the time of a step over that of L2 alone
            in the same turn, with the smallest and the largest.
    """
    device, config = device_of(setting), StudentConfig()
    student = make_student(setting)
    size = student.backbone.config.vocab_size
    ids = make_ids(make_lengths(sizes.num_texts, MEDIAN, MAX_TOKENS), 3, size)
    steps = sizes.num_steps, max(1, sizes.num_steps // 3)
    budget = Budget(config.tokens_per_batch, config.max_texts_per_batch, *steps)
    scored = replace(config.losses, contrastive=1.0)
    candidates = make_candidates(sizes.num_texts, sizes.num_documents, scored)
    plain = replace(candidates, relevant={})

    def measure(losses: StudentLosses) -> float:
        given = candidates if losses.contrastive else plain

        def score(rows: np.ndarray, step: int) -> ScoredRows | None:
            if losses == StudentLosses():
                return None
            return given.of([(0, int(row)) for row in rows], step)

        made = copy.deepcopy(student)
        timed = train_student(made, ids, budget, device, losses=losses, score=score)
        return timed.seconds / timed.num_steps

    measure(StudentLosses())  # the first training of a process pays for what starts once
    found: dict[str, list[float]] = {way: [] for way in (L2, *TERMS)}
    for _ in range(sizes.turns):
        for way in found:
            found[way].append(measure(TERMS.get(way, StudentLosses())))
    for way, seconds in found.items():
        ratios = [s / alone for s, alone in zip(seconds, found[L2], strict=True)]
        emit(
            {
                "way": way,
                "steps_per_s": 1 / statistics.median(seconds),
                "time": statistics.median(ratios),
                "least": min(ratios),
                "most": max(ratios),
            }
        )


def judge(rows: Sequence[Row]) -> list[Verdict]:
    """Time of a step with the term that recipes take."""
    ratio = quotient(of_way(rows, "l2 + score_kl", "time"), 1.0)
    return [at_most("time of a step with score_kl, times L2 alone", BAR, ratio)]


SCORES = Part(
    "scores",
    "Terms over scores",
    "The 23M student on made texts at the recipe's batches, every text scored over 32 nearest and"
    " 32 random documents of 20,000; two turns of every term, median. The time is of a step, times"
    " that of L2 alone in the same turn.",
    60,
    run,
    {"way": ("terms", ""), "steps_per_s": ("steps/s", ",.1f"), "time": ("time", ".2f")},
    judge,
)
