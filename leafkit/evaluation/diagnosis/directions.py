"""How a teacher's vectors lie: angles between texts, and the signs that a small turn keeps."""

from __future__ import annotations

import numpy as np

from leafkit.core.truncate import truncate_then_normalize
from leafkit.evaluation.bootstrap import Bootstrap
from leafkit.index.vectors import Vectors
from leafkit.results import Interval

MAX_PAIRS = 4096  # of random texts, for the anisotropy
# of a student to its teacher, that bits are examined at; nobody published one, so two are
STUDENT_COSINES = (0.95, 0.98)


def measure_anisotropy(documents: Vectors, num_resamples: int, seed: int) -> Interval:
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
    cosines = np.einsum("nd,nd->n", left, right, dtype=np.float64)
    return Bootstrap(count, num_resamples, seed).mean(cosines)


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


def measure_sign_agreement(documents: Vectors, seed: int) -> dict[str, float]:
    """Share of the signs that a student at some cosine keeps, on a sample of the texts.

    For vectors without preferred dimensions it is 1 - arccos(cosine) / pi (Charikar 2002): .899 at
    .95 and .936 at .98. A teacher stays below that where many of its values lie near zero, and
    above where a mean keeps them apart from it.

    Returns:
        The share by the cosine, as text.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(documents))[:MAX_PAIRS])
    sample = documents[rows]
    return {
        f"{c:g}": float(((perturb(sample, c, seed) > 0) == (sample > 0)).mean())
        for c in STUDENT_COSINES
    }
