"""Figures to sentences and verdicts: each threshold from both sides."""

from __future__ import annotations

from dataclasses import replace

import pytest

from leafkit.evaluation.diagnosis.findings import conclude, has_matryoshka
from leafkit.results import (
    BinaryFigures,
    DiagnosisFigures,
    HeadFigures,
    Interval,
    Quality,
    RankFigures,
)

SIGNS = {"0.95": 0.9, "0.98": 0.93}


def share(value, low=None, high=None):
    low, high = value - 0.01 if low is None else low, value + 0.01 if high is None else high
    return Interval(value, low, high, 300)


def kept(retention):
    return Quality(share(0.5 * retention), share(retention))


def figures(**changes):
    base = DiagnosisFigures(
        num_texts=50_000,
        dim=768,
        num_queries=300,
        student_width=384,
        claimed_dims=(768, 64),
        precisions=("float32", "binary"),
        total_variance=0.8,
        spectrum=(RankFigures(384, 0.93, kept(0.99)), RankFigures(768, 1.0, kept(1.0))),
        eigenvalues=(),
        effective_rank=311.4,
        mean_cosine=share(0.1),
        dims=(HeadFigures(768, 1.0, 1.0, 0.0, kept(1.0)), head(0.90, 0.1)),
        binary=binary(0.93),
    )
    return replace(base, **changes)


def binary(retention):
    return BinaryFigures(SIGNS, kept(retention), float_queries=kept(0.96), student=kept(0.8))


def head(retention, gain, dim=64):
    return HeadFigures(
        dim=dim,
        variance=0.3,
        random_variance=dim / 768,
        random_variance_std=0.01,
        quality=kept(retention),
        random=kept(retention - gain),
        gain=share(gain),
    )


def spectrum(retention):
    return RankFigures(384, 0.9, kept(retention)), RankFigures(768, 1.0, kept(1.0))


def test_a_sound_teacher():
    found = conclude(figures())
    assert found.verdict == "can be inherited"
    assert found.findings == (
        "Measured on 50,000 texts and 300 judged queries.",
        "A student of hidden width 384 reaches 384 of 768 dimensions (effective rank 311 of "
        "768): the best such map keeps"
        " 93.0% of the variance and 99.0% [98.0%, 100.0%] of nDCG@10.",
        "Random pairs of texts have a mean cosine of 0.100 [0.090, 0.110].",
        "Matryoshka is there to be inherited: the first 64 dimensions keep 90.0% [89.0%, 91.0%] "
        "of nDCG@10,"
        " 64 of a randomly turned space 80.0% (gain +0.100 [+0.090, +0.110]).",
        "Binary codes keep 93.0% [92.0%, 94.0%] of nDCG@10, 96.0% with float queries and 80.0% "
        "with queries of a"
        " student at cosine 0.95;"
        " a student keeps 90.0% at cosine 0.95, 93.0% at cosine 0.98 of the teacher's bits.",
    )


@pytest.mark.parametrize(
    ("retention", "verdict"),
    [
        (0.951, "can be inherited"),
        (0.949, "with losses"),
        (0.751, "with losses"),
        (0.749, "cannot be inherited"),
    ],
)
def test_the_rank_of_the_student(retention, verdict):
    assert conclude(figures(spectrum=spectrum(retention))).verdict == verdict


@pytest.mark.parametrize(
    ("variance", "verdict"),
    [(0.96, "can be inherited"), (0.9, "with losses"), (0.7, "cannot be inherited")],
)
def test_without_queries_variance_decides(variance, verdict):
    rows = RankFigures(384, variance), RankFigures(768, 1.0)
    heads = (HeadFigures(64, 0.2, 0.083, 0.02),)
    found = conclude(figures(num_queries=0, spectrum=rows, dims=heads, binary=BinaryFigures(SIGNS)))
    assert found.verdict == verdict
    assert "no judged query" in found.findings[0]
    assert "nDCG@10" not in " ".join(found.findings)


@pytest.mark.parametrize("width", [0, 768, 1024])
def test_a_student_that_is_wide_enough_has_no_ceiling(width):
    found = conclude(figures(student_width=width, spectrum=spectrum(0.1)))
    assert found.verdict == "can be inherited"
    assert "all of the 768 dimensions" in found.findings[1]


@pytest.mark.parametrize(
    ("cosine", "verdict", "is_narrow"),
    [(0.69, "can be inherited", 0), (0.71, "can be inherited", 1), (0.951, "with losses", 1)],
)
def test_anisotropy(cosine, verdict, is_narrow):
    found = conclude(figures(mean_cosine=share(cosine)))
    assert (found.verdict, "narrow cone" in " ".join(found.findings)) == (
        verdict,
        bool(is_narrow),
    )


@pytest.mark.parametrize(
    ("gain", "low", "is_there"),
    [(0.05, 0.01, True), (0.05, -0.01, False), (0.015, 0.01, False), (-0.1, -0.2, False)],
)
def test_a_head_must_gain_on_turned_ones_beyond_noise(gain, low, is_there):
    row = replace(head(0.9, gain), gain=share(gain, low))
    assert has_matryoshka(row) is is_there
    found = conclude(figures(dims=(row,)))
    assert found.verdict == ("can be inherited" if is_there else "with losses")


def test_a_head_below_the_yardstick_is_a_loss_where_matryoshka_is_claimed():
    row = head(0.84, 0.2)
    assert conclude(figures(dims=(row,))).verdict == "with losses"
    assert (
        "At 64 dimensions 84.0% [83.0%, 85.0%] is left; trained Matryoshka models keep 90.1%."
        in conclude(figures(dims=(row,))).findings
    )
    assert conclude(figures(dims=(row,), claimed_dims=())).verdict == "can be inherited"
    assert conclude(figures(dims=(head(0.86, 0.2),))).verdict == "can be inherited"


def test_the_smallest_head_says_whether_matryoshka_is_there():
    found = conclude(figures(dims=(head(0.97, 0.001, dim=384), head(0.9, 0.2))))
    assert "the first 64 dimensions" in " ".join(found.findings)
    assert found.verdict == "can be inherited"


@pytest.mark.parametrize(
    ("retention", "asked", "verdict"),
    [
        (0.91, True, "can be inherited"),
        (0.89, True, "with losses"),
        (0.5, False, "can be inherited"),
    ],
)
def test_binary_codes(retention, asked, verdict):
    precisions = ("float32", "binary") if asked else ("int8",)
    found = conclude(figures(binary=binary(retention), precisions=precisions))
    assert found.verdict == verdict


def test_the_worst_part_is_the_verdict():
    parts = figures(spectrum=spectrum(0.5), dims=(head(0.5, 0.0),), mean_cosine=share(0.97))
    assert conclude(parts).verdict == "cannot be inherited"


def test_few_texts_are_said_to_be_few():
    assert (
        "few texts for 768 dimensions, whose spectrum has no rank above 99: low"
        in conclude(figures(num_texts=100)).findings[0]
    )
    assert "few texts for 768 dimensions: low" in conclude(figures(num_texts=1000)).findings[0]
    assert "few" not in conclude(figures(num_texts=4 * 768)).findings[0]
