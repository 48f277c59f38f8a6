"""Can a student be distilled from this teacher? Figures of its vectors, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from leafkit.results.codec import Saved
from leafkit.results.interval import Interval
from leafkit.results.upgrade import upgrade_diagnosis

_IN_WORDS = {
    "can be inherited": "can be inherited from",
    "with losses": "can be inherited from with losses",
    "cannot be inherited": "cannot be inherited from",
}


@dataclass(frozen=True, slots=True)
class Quality:
    """nDCG@10 of one way to search.

    Attributes:
        ndcg: the mean.
        retention: its share of the teacher's own at full dimension.
    """

    ndcg: Interval
    retention: Interval


@dataclass(frozen=True, slots=True)
class RankFigures:
    """What the best affine map of a rank keeps.

    Attributes:
        rank: of the map.
        variance: share kept.
        quality: of queries projected by it; None without judged queries.
    """

    rank: int
    variance: float
    quality: Quality | None = None


@dataclass(frozen=True, slots=True)
class HeadFigures:
    """What the first dimensions keep.

    Attributes:
        dim: how many.
        variance: share kept.
        random_variance: mean share that as many dimensions of a randomly turned space keep.
        random_variance_std: its standard deviation over the turns.
        quality: of the head; None without judged queries.
        random: the same of randomly turned heads; None for the full dimension.
        gain: retention of the head minus that of the turned ones.
    """

    dim: int
    variance: float
    random_variance: float
    random_variance_std: float
    quality: Quality | None = None
    random: Quality | None = None
    gain: Interval | None = None


@dataclass(frozen=True, slots=True)
class BinaryFigures:
    """What one bit per dimension keeps.

    Attributes:
        sign_agreement_at: share of a teacher's bits that a student at some cosine to it keeps, by
            the cosine as text.
        quality: of queries and documents in bits; None without judged queries.
        float_queries: of float queries against bits.
        student: of bits of queries moved to the first of the cosines.
    """

    sign_agreement_at: Mapping[str, float]
    quality: Quality | None = None
    float_queries: Quality | None = None
    student: Quality | None = None


@dataclass(frozen=True, slots=True)
class DiagnosisFigures:
    """What was measured on a teacher's vectors.

    Attributes:
        num_texts: N.
        dim: D.
        num_queries: judged; 0 where there are none.
        student_width: hidden width of the student that is planned, 0 for none.
        claimed_dims: Matryoshka dimensions that the teacher is said to have.
        precisions: that stored vectors shall have.
        total_variance: mean squared distance to the mean.
        spectrum: affine maps of rising rank, the last one the full dimension.
        eigenvalues: of the covariance, the largest first, at most the first thousand.
        effective_rank: exp of the entropy of the eigenvalues' shares.
        mean_cosine: of random pairs of texts; ``n`` counts the pairs.
        dims: heads, the largest first.
        binary: codes of one bit per dimension.
    """

    num_texts: int
    dim: int
    num_queries: int
    student_width: int
    claimed_dims: tuple[int, ...]
    precisions: tuple[str, ...]
    total_variance: float
    spectrum: tuple[RankFigures, ...]
    eigenvalues: tuple[float, ...]
    effective_rank: float
    mean_cosine: Interval
    dims: tuple[HeadFigures, ...]
    binary: BinaryFigures


@dataclass(frozen=True, slots=True)
class Diagnosis(Saved):
    """A teacher's figures on a collection and what they say, as in diagnosis.json.

    Attributes:
        teacher: its name.
        collection: whose texts.
        figures: what was measured.
        verdict: "can be inherited", "with losses" or "cannot be inherited".
        findings: the reasons, in sentences.
    """

    what = "diagnosis"
    made_by = "leafkit inherit recipe=NAME diagnose=true"

    teacher: str
    collection: str
    figures: DiagnosisFigures
    verdict: str
    findings: tuple[str, ...]

    def sentence(self) -> str:
        """The verdict with what it was judged on."""
        figures = self.figures
        queries = f" and {figures.num_queries:,} queries" if figures.num_queries else ""
        place = f" of {self.collection}" if self.collection else ""
        return (
            f"The teacher {self.teacher} {_IN_WORDS.get(self.verdict, self.verdict)}, judged on "
            f"its vectors of {figures.num_texts:,} texts{place}{queries}."
        )

    @classmethod
    def upgrade(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Format 1 had the figures beside the verdict."""
        return upgrade_diagnosis(data)
