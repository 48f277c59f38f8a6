"""Can a student be distilled from this teacher, and what could it inherit? Measured on the
teacher's vectors alone.

Everything is one pass over the documents for the spectrum and one for the searches, in chunks: a
million documents never are in memory together. Similarity is the cosine throughout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from leafkit.core.errors import LeafkitError, UsageError
from leafkit.evaluation.bootstrap import Bootstrap
from leafkit.evaluation.diagnosis.directions import measure_anisotropy, measure_sign_agreement
from leafkit.evaluation.diagnosis.searches import Judged, Key, read_chunks, score_searches
from leafkit.evaluation.diagnosis.spectrum import Spectrum, measure_spectrum
from leafkit.index.vectors import Vectors
from leafkit.results import (
    BinaryFigures,
    DiagnosisFigures,
    HeadFigures,
    Interval,
    Quality,
    RankFigures,
)

MAX_EIGENVALUES = 1024  # reported
SMALLEST_HEAD = 32


@dataclass(frozen=True, slots=True)
class Settings:
    """What is asked of the teacher.

    Attributes:
        mrl_dims: Matryoshka dimensions that it is said to have; empty where it claims none, and
            then halves are measured.
        ranks: of the affine maps; empty takes 64, 128, 256, ..., the student's width and the full
            dimension.
        student_width: H, hidden width of the student that is planned: the rank of its W_out; 0
            where none is.
        precisions: that stored vectors shall have; "binary" among them makes the binary loss part
            of the verdict.
        num_resamples: of the bootstrap.
        seed: of everything random.
    """

    mrl_dims: tuple[int, ...] = ()
    ranks: tuple[int, ...] = ()
    student_width: int = 0
    precisions: tuple[str, ...] = ("float32",)
    num_resamples: int = 10_000
    seed: int = 42


def diagnose(documents: Vectors, judged: Judged | None, settings: Settings) -> DiagnosisFigures:
    """Spectrum, rank-limited maps, anisotropy, Matryoshka heads and binary codes of a teacher.

    The best affine map of rank r is y = m + P (x - m). Queries are projected and documents stay as
    they are, because that is what an asymmetric student does: its W_out has rank H at most, while
    the index holds the teacher's own vectors. P is spanned by the documents' first r principal
    directions: the squared error over documents cannot be smaller (Eckart and Young), and scores
    tell two documents apart by q (d1 - d2) alone, which lies mostly in those directions; a subspace
    that the judged queries choose themselves would fit them and no others. m is the mean of the
    queries, which the bias of W_out can hold. Its nDCG is that of this map, not a bound: no map was
    fitted to the ranking.

    Matryoshka heads stand beside heads of the same space turned at random (mean of
    ``NUM_ROTATIONS``): any d directions keep something, and only what the first d keep beyond that
    is Matryoshka.

    Binary codes are measured with Hamming and with float queries, and with Hamming queries moved to
    a cosine of ``directions.STUDENT_COSINES[0]`` in a random direction: a student that is as good
    as that and errs without a preferred direction. ``sign_agreement_at`` is the share of bits that
    survive such a move.

    Args:
        documents: (N, D) vectors of the texts, N at least 2.
        judged: queries; None measures no nDCG.
        settings: what is asked.

    Raises:
        UsageError: a rank or dimension is out of range.
        LeafkitError: fewer than two texts, or a vector that is not finite.
    """
    if len(documents) < 2:
        raise LeafkitError(
            f"{len(documents)} text(s) cannot diagnose a teacher: at least two are needed",
            "name more texts with data.corpus",
        )
    if judged is not None and not len(judged.vectors):
        judged = None
    if judged is not None and not np.isfinite(judged.vectors).all():
        row = int(np.flatnonzero(~np.isfinite(judged.vectors).all(axis=1))[0])
        raise LeafkitError(f"the vector of query {row} is not finite", "look at that query's text")
    spectrum = measure_spectrum(chunk for _, chunk in read_chunks(documents))
    full = len(spectrum.mean)
    ranks, dims = _choose_ranks(settings, full), _choose_dims(settings, full)
    scores = (
        score_searches(documents, judged, spectrum, ranks=ranks, dims=dims, seed=settings.seed)
        if judged is not None
        else {}
    )
    quality = _Quality(scores, full, settings)
    return DiagnosisFigures(
        num_texts=len(documents),
        dim=full,
        num_queries=len(judged.vectors) if judged is not None else 0,
        student_width=settings.student_width,
        claimed_dims=settings.mrl_dims,
        precisions=settings.precisions,
        total_variance=spectrum.total,
        spectrum=tuple(
            RankFigures(rank, spectrum.variance_kept(rank), quality.of(("rank", rank)))
            for rank in ranks
        ),
        eigenvalues=tuple(spectrum.eigenvalues[:MAX_EIGENVALUES].tolist()),
        effective_rank=spectrum.effective_rank(),
        mean_cosine=measure_anisotropy(documents, settings.num_resamples, settings.seed),
        dims=tuple(_head(spectrum, quality, dim) for dim in dims),
        binary=BinaryFigures(
            sign_agreement_at=measure_sign_agreement(documents, settings.seed),
            quality=quality.of(("bits", 0)),
            float_queries=quality.of(("bits", 1)),
            student=quality.of(("bits", 2)),
        ),
    )


class _Quality:
    """nDCG@10 of every way to search, with intervals over the queries.

    Args:
        scores: (Q,) by way to search; empty where no query is judged.
        full: D.
        settings: of the bootstrap.
    """

    def __init__(self, scores: Mapping[Key, np.ndarray], full: int, settings: Settings) -> None:
        self._scores, self._full = scores, full
        self._bootstrap = (
            Bootstrap(len(next(iter(scores.values()))), settings.num_resamples, settings.seed)
            if scores
            else None
        )

    def of(self, key: Key) -> Quality | None:
        """One way to search; None where no query is judged."""
        if self._bootstrap is None:
            return None
        values, base = self._scores[key], self._scores["rank", self._full]
        return Quality(self._bootstrap.mean(values), self._bootstrap.ratio(values, base))

    def gain(self, key: Key, other: Key) -> Interval | None:
        """By how much the retention of one way to search exceeds that of another."""
        if self._bootstrap is None:
            return None
        base = self._scores["rank", self._full]
        return self._bootstrap.ratio_gap(self._scores[key], base, self._scores[other], base)


def _head(spectrum: Spectrum, quality: _Quality, dim: int) -> HeadFigures:
    """What the first ``dim`` dimensions keep, and what as many of a randomly turned space do."""
    full = len(spectrum.mean)
    is_part = dim < full
    return HeadFigures(
        dim=dim,
        variance=spectrum.head_variance(dim),
        random_variance=dim / full,
        random_variance_std=spectrum.head_spread(dim),
        quality=quality.of(("dim", dim)),
        random=quality.of(("turned", dim)) if is_part else None,
        gain=quality.gain(("dim", dim), ("turned", dim)) if is_part else None,
    )


def _choose_ranks(settings: Settings, full: int) -> list[int]:
    wrong = [r for r in settings.ranks if not 1 <= r <= full]
    if wrong:
        raise UsageError(
            f"inherit.ranks: {wrong[0]} is not between 1 and the vectors' dimension {full}"
        )
    width = min(settings.student_width or full, full)
    doubled = [r for r in (64 << i for i in range(16)) if r < full]
    return sorted({*(settings.ranks or doubled), width, full})


def _choose_dims(settings: Settings, full: int) -> list[int]:
    wrong = [d for d in settings.mrl_dims if not 1 <= d <= full]
    if wrong:
        raise UsageError(
            f"inherit.dims: {wrong[0]} is not between 1 and the vectors' dimension {full}"
        )
    halves = [full >> i for i in range(1, 16) if full >> i >= SMALLEST_HEAD] or [max(1, full // 2)]
    return sorted({*(settings.mrl_dims or halves), full}, reverse=True)
