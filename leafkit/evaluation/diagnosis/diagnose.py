"""Can a student be distilled from this teacher, and what could it inherit? Measured on the
teacher's vectors alone.

Everything is one pass over the documents for the spectrum and one for the searches, in chunks: a
million documents never are in memory together. Similarity is the cosine throughout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.truncate import truncate_then_normalize
from leafkit.evaluation.bootstrap import Bootstrap
from leafkit.evaluation.diagnosis.spectrum import Spectrum, measure_spectrum
from leafkit.evaluation.metrics import Judgments, fast_ndcg
from leafkit.index.exact import TopK
from leafkit.index.quantization import quantize_binary
from leafkit.index.ranking import Ranking, exclude_self
from leafkit.index.vectors import Vectors

CHUNK = 16384  # documents in memory at a time
# documents kept per query: ten are scored, the rest is for its own document and for ties
DEPTH, BINARY_DEPTH = (
    20,
    64,
)
MAX_EIGENVALUES = 1024  # reported
MAX_PAIRS = 4096  # of random texts, for the anisotropy
NUM_ROTATIONS = 3  # random turns of the space that Matryoshka heads are compared with
SMALLEST_HEAD = 32
# of a student to its teacher, that bits are examined at; nobody published one, so two are
STUDENT_COSINES = (
    0.95,
    0.98,
)
Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Judged:
    """Q queries.

    Attributes:
        vectors: (Q, D) of the teacher.
        judgments: of the same queries over the documents whose vectors are examined.
        own: (Q,) position of the document that a query must not find, -1 for none; empty where no
            query has one.
    """

    vectors: np.ndarray
    judgments: Judgments
    own: Sequence[int] = ()


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


@dataclass(frozen=True, slots=True)
class _System:
    """One way to search: query vectors, and how a chunk of documents becomes what they are compared
    with.
    """

    queries: np.ndarray
    turn: int = -1  # number of the random rotation; -1 is the space as it is
    dim: int = 0  # of the truncated documents; 0 takes all
    coding: str = "float"  # signs are +1 and -1, bits are packed and compared by Hamming distance


def diagnose(documents: Vectors, judged: Judged | None, settings: Settings) -> dict[str, Any]:
    """Spectrum, rank-limited maps, anisotropy, Matryoshka heads and binary codes of a teacher, as
    plain data.

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
    a cosine of ``STUDENT_COSINES[0]`` in a random direction: a student that is as good as that and
    errs without a preferred direction. ``sign_agreement`` is the share of bits that survive such a
    move.

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
    spectrum = measure_spectrum(chunk for _, chunk in _chunks(documents))
    full = len(spectrum.mean)
    ranks, dims = _choose_ranks(settings, full), _choose_dims(settings, full)
    quality = _Quality(documents, judged, spectrum, ranks, dims, settings)
    binary = _sign_agreements(documents, settings.seed) | quality.of(("bits", 0))
    if judged is not None:
        binary |= {"float_queries": quality.of(("bits", 1)), "student": quality.of(("bits", 2))}
    return {
        "num_texts": len(documents),
        "dim": full,
        "num_queries": len(judged.vectors) if judged is not None else 0,
        "student_width": settings.student_width,
        "claimed_dims": list(settings.mrl_dims),
        "precisions": list(settings.precisions),
        "total_variance": spectrum.total,
        "spectrum": [
            {"rank": r, "variance": spectrum.variance_kept(r)} | quality.of(("rank", r))
            for r in ranks
        ],
        "eigenvalues": [float(value) for value in spectrum.eigenvalues[:MAX_EIGENVALUES]],
        "effective_rank": spectrum.effective_rank(),
        "anisotropy": measure_anisotropy(documents, settings.num_resamples, settings.seed),
        "dims": [_head(spectrum, quality, dim) for dim in dims],
        "binary": binary,
    }


class _Quality:
    """nDCG@10 of every way to search, with intervals over the queries; nothing where no query is
    judged.
    """

    def __init__(
        self,
        documents: Vectors,
        judged: Judged | None,
        spectrum: Spectrum,
        ranks: Sequence[int],
        dims: Sequence[int],
        settings: Settings,
    ) -> None:
        self._full = len(spectrum.mean)
        self._values = (
            _score(documents, judged, spectrum, ranks, dims, settings.seed)
            if judged is not None
            else {}
        )
        num_queries = len(judged.vectors) if judged is not None else 0
        self._bootstrap = (
            Bootstrap(num_queries, settings.num_resamples, settings.seed) if num_queries else None
        )

    def of(self, key: Key) -> dict[str, Any]:
        """``ndcg`` and ``retention`` of one way to search, each with its interval."""
        if self._bootstrap is None:
            return {}
        values, base = self._values[key], self._values["rank", self._full]
        return {
            "ndcg": self._bootstrap.mean(values).to_plain(),
            "retention": self._bootstrap.ratio(values, base).to_plain(),
        }

    def gain(self, key: Key, other: Key) -> dict[str, float]:
        """By how much the retention of one way to search exceeds that of another."""
        assert self._bootstrap is not None
        base = self._values["rank", self._full]
        return self._bootstrap.ratio_gap(
            self._values[key], base, self._values[other], base
        ).to_plain()


def _head(spectrum: Spectrum, quality: _Quality, dim: int) -> dict[str, Any]:
    """What the first ``dim`` dimensions keep, and what as many of a randomly turned space do."""
    full = len(spectrum.mean)
    measured = quality.of(("dim", dim))
    found = {
        "dim": dim,
        "variance": spectrum.head_variance(dim),
        "random_variance": dim / full,
        "random_variance_std": spectrum.head_spread(dim),
    } | measured
    if measured and dim < full:
        found |= {
            "random": quality.of(("turned", dim)),
            "gain": quality.gain(("dim", dim), ("turned", dim)),
        }
    return found


def measure_anisotropy(documents: Vectors, num_resamples: int, seed: int) -> dict[str, float]:
    """Mean cosine of random pairs of texts (Ethayarajh 2019, arXiv 1909.00512), with its interval.

    No text is in two pairs, so that the pairs are independent and the bootstrap over them is
    honest.
    """
    count = min(MAX_PAIRS, len(documents) // 2)
    order = np.random.default_rng(seed).permutation(len(documents))[: 2 * count]
    left, right = (
        truncate_then_normalize(documents[np.asarray(rows)])
        for rows in (order[:count], order[count:])
    )
    found = Bootstrap(count, num_resamples, seed).mean(
        np.einsum("nd,nd->n", left, right, dtype=np.float64)
    )
    return {"mean_cosine": found.mean, "low": found.low, "high": found.high, "num_pairs": count}


def perturb(vectors: np.ndarray, cosine: float, seed: int) -> np.ndarray:
    """Unit vectors at exactly this cosine to ``vectors`` (n, D), each in a random direction;
    float32.

    A vector of one dimension, which has no other direction, and the zero vector stay as they are.
    """
    unit = truncate_then_normalize(vectors.astype(np.float64))
    noise = np.random.default_rng(seed).normal(size=unit.shape)
    noise -= np.einsum("nd,nd->n", noise, unit)[:, None] * unit
    lengths = np.linalg.norm(noise, axis=1, keepdims=True)
    is_movable = (lengths > 1e-9) & (np.linalg.norm(unit, axis=1, keepdims=True) > 0)
    moved = cosine * unit + np.sqrt(1 - cosine**2) * noise / np.where(lengths > 0, lengths, 1)
    return np.where(is_movable, moved, unit).astype(np.float32)


def _sign_agreements(documents: Vectors, seed: int) -> dict[str, Any]:
    """Share of the signs that a student at some cosine keeps, on a sample of the texts.

    For vectors without preferred dimensions it is 1 - arccos(cosine) / pi (Charikar 2002): .899 at
    .95 and .936 at .98. A teacher stays below that where many of its values lie near zero, and
    above where a mean holds them away from it.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(documents))[:MAX_PAIRS])
    sample = documents[rows]
    shares = {
        f"{c:g}": float(((perturb(sample, c, seed) > 0) == (sample > 0)).mean())
        for c in STUDENT_COSINES
    }
    return {"sign_agreement": next(iter(shares.values())), "sign_agreement_at": shares}


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


def _rotation(full: int, turn: int, seed: int) -> np.ndarray:
    """(D, D) float32 orthogonal: Q of a normal matrix. Its columns' signs are of no matter to
    cosines of heads.
    """
    return np.linalg.qr(np.random.default_rng([seed, turn]).normal(size=(full, full)))[0].astype(
        np.float32
    )


def _score(
    documents: Vectors,
    judged: Judged,
    spectrum: Spectrum,
    ranks: Sequence[int],
    dims: Sequence[int],
    seed: int,
) -> dict[Key, np.ndarray]:
    """nDCG@10 of each query, (Q,), by way to search; random turns are averaged under the key
    turned.

    Raises:
        LeafkitError: queries have another dimension than documents.
    """
    full = len(spectrum.mean)
    if judged.vectors.shape[1] != full:
        found = judged.vectors.shape[1]
        raise LeafkitError(
            f"queries have {found} dimensions and documents {full}: they are of two models"
        )
    heads = [d for d in dims if d < full]
    rotations = [_rotation(full, turn, seed) for turn in range(NUM_ROTATIONS if heads else 0)]
    systems = _plan_systems(spectrum, judged.vectors, ranks, heads, rotations, seed)
    own = np.asarray(judged.own if len(judged.own) else np.full(len(judged.vectors), -1))
    values = {
        key: fast_ndcg(exclude_self(ranking, own, ranking.positions.shape[1]), judged.judgments)
        for key, ranking in _search(documents, systems, rotations).items()
    }
    values["dim", full] = values["rank", full]
    for dim in heads:
        values["turned", dim] = np.mean(
            [values[f"turn {turn}", dim] for turn in range(NUM_ROTATIONS)], axis=0
        )
    return values


def _plan_systems(
    spectrum: Spectrum,
    queries: np.ndarray,
    ranks: Sequence[int],
    heads: Sequence[int],
    rotations: Sequence[np.ndarray],
    seed: int,
) -> dict[Key, _System]:
    """Every search to be made. Keys: rank and its r, dim and its d, turn T and its d, bits and the
    kind of query.
    """
    full = queries.shape[1]
    center = queries.mean(axis=0, dtype=np.float64)
    systems = {
        ("rank", r): _System(queries if r == full else spectrum.project(queries, r, center))
        for r in ranks
    }
    systems |= {("dim", d): _System(truncate_then_normalize(queries, d), dim=d) for d in heads}
    for turn, rotation in enumerate(rotations):
        turned = queries @ rotation
        systems |= {
            (f"turn {turn}", d): _System(truncate_then_normalize(turned, d), turn=turn, dim=d)
            for d in heads
        }
    systems["bits", 0] = _System(quantize_binary(queries), coding="bits")
    systems["bits", 1] = _System(queries, coding="signs")
    systems["bits", 2] = _System(
        quantize_binary(perturb(queries, STUDENT_COSINES[0], seed)), coding="bits"
    )
    return systems


def _search(
    documents: Vectors, systems: Mapping[Key, _System], rotations: Sequence[np.ndarray]
) -> dict[Key, Ranking]:
    """All systems' rankings in one pass over the documents."""
    depth = {False: min(DEPTH, len(documents)), True: min(BINARY_DEPTH, len(documents))}
    best = {
        key: TopK(
            np.ascontiguousarray(system.queries),
            depth[system.coding == "bits"],
            hamming=system.coding == "bits",
        )
        for key, system in systems.items()
    }
    for start, chunk in _chunks(documents):
        unit = truncate_then_normalize(chunk)
        views = {-1: unit} | {turn: unit @ rotation for turn, rotation in enumerate(rotations)}
        bits = quantize_binary(unit)
        for key, system in systems.items():
            if system.coding == "bits":
                block = bits
            elif system.coding == "signs":
                block = np.where(unit > 0, np.float32(1), np.float32(-1))
            else:
                view = views[system.turn]
                block = truncate_then_normalize(view, system.dim) if system.dim else view
            best[key].add(np.ascontiguousarray(block), start)
    return {key: found.ranking for key, found in best.items()}


def _chunks(documents: Vectors) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(documents), CHUNK):
        yield start, documents[start : start + CHUNK]
