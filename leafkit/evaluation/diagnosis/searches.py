"""Every way to search that a diagnosis compares, in one pass over the documents.

Shapes: Q queries, N documents, D dimension.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from leafkit.core.errors import LeafkitError
from leafkit.core.truncate import truncate_then_normalize
from leafkit.evaluation.diagnosis.directions import STUDENT_COSINES, perturb
from leafkit.evaluation.diagnosis.spectrum import Spectrum
from leafkit.evaluation.metrics import Judgments, fast_ndcg
from leafkit.index.exact import TopK
from leafkit.index.quantization import quantize_binary
from leafkit.index.ranking import Ranking, exclude_self
from leafkit.index.vectors import Vectors

CHUNK = 16384  # documents in memory at a time
# documents kept per query: ten are scored, the rest is for its own document and for ties
DEPTH, BINARY_DEPTH = 20, 64
NUM_ROTATIONS = 3  # random turns of the space that Matryoshka heads are compared with
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
class _System:
    """One way to search: query vectors, and how a chunk of documents becomes what they are compared
    with.
    """

    queries: np.ndarray
    turn: int = -1  # number of the random rotation; -1 is the space as it is
    dim: int = 0  # of the truncated documents; 0 takes all
    coding: str = "float"  # signs are +1 and -1, bits are packed and compared by Hamming distance


def _rotation(full: int, turn: int, seed: int) -> np.ndarray:
    """(D, D) float32 orthogonal: Q of a normal matrix. Its columns' signs are of no matter to
    cosines of heads.
    """
    return np.linalg.qr(np.random.default_rng([seed, turn]).normal(size=(full, full)))[0].astype(
        np.float32
    )


def score_searches(
    documents: Vectors,
    judged: Judged,
    spectrum: Spectrum,
    *,
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
        query_dim = judged.vectors.shape[1]
        raise LeafkitError(
            f"queries have {query_dim} dimensions and documents {full}: they are of two models"
        )
    heads = [d for d in dims if d < full]
    rotations = _rotations(full, heads, seed)
    systems = _plan_systems(spectrum, judged.vectors, ranks=ranks, seed=seed)
    systems |= _plan_heads(judged.vectors, heads, rotations)
    values = _score(documents, judged, systems, rotations)
    values["dim", full] = values["rank", full]
    return values | _average_turns(values, heads)


def score_heads(
    documents: Vectors, judged: Judged, dims: Sequence[int], seed: int
) -> dict[Key, np.ndarray]:
    """nDCG@10 of each query, (Q,), at the full dimension, of the first ``dims`` dimensions and of
    as many of randomly turned spaces (averaged): keys dim and its d, turned and its d, the same
    numbers as of ``score_searches``.
    """
    full = judged.vectors.shape[1]
    heads = [d for d in dims if d < full]
    rotations = _rotations(full, heads, seed)
    systems = {("dim", full): _System(judged.vectors)}
    systems |= _plan_heads(judged.vectors, heads, rotations)
    values = _score(documents, judged, systems, rotations)
    kept = {key: found for key, found in values.items() if key[0] == "dim"}
    return kept | _average_turns(values, heads)


def _rotations(full: int, heads: Sequence[int], seed: int) -> list[np.ndarray]:
    return [_rotation(full, turn, seed) for turn in range(NUM_ROTATIONS if heads else 0)]


def _score(
    documents: Vectors,
    judged: Judged,
    systems: Mapping[Key, _System],
    rotations: Sequence[np.ndarray],
) -> dict[Key, np.ndarray]:
    own = np.asarray(judged.own if len(judged.own) else np.full(len(judged.vectors), -1))
    return {
        key: fast_ndcg(exclude_self(ranking, own, ranking.positions.shape[1]), judged.judgments)
        for key, ranking in _search(documents, systems, rotations).items()
    }


def _average_turns(values: Mapping[Key, np.ndarray], heads: Sequence[int]) -> dict[Key, np.ndarray]:
    turns = range(NUM_ROTATIONS)
    return {
        ("turned", d): np.mean([values[f"turn {turn}", d] for turn in turns], axis=0) for d in heads
    }


def _plan_heads(
    queries: np.ndarray, heads: Sequence[int], rotations: Sequence[np.ndarray]
) -> dict[Key, _System]:
    """The first dimensions of the space as it is, and turned; keys dim and turn T with their d."""
    systems: dict[Key, _System] = {
        ("dim", d): _System(truncate_then_normalize(queries, d), dim=d) for d in heads
    }
    for turn, rotation in enumerate(rotations):
        turned = queries @ rotation
        systems |= {
            (f"turn {turn}", d): _System(truncate_then_normalize(turned, d), turn=turn, dim=d)
            for d in heads
        }
    return systems


def _plan_systems(
    spectrum: Spectrum, queries: np.ndarray, *, ranks: Sequence[int], seed: int
) -> dict[Key, _System]:
    """Affine maps of the queries, and codes of one bit per dimension. Keys: rank and its r, bits
    and the kind of query.
    """
    full = queries.shape[1]
    center = queries.mean(axis=0, dtype=np.float64)
    systems: dict[Key, _System] = {
        ("rank", r): _System(queries if r == full else spectrum.project(queries, r, center))
        for r in ranks
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
    has_bits = any(system.coding == "bits" for system in systems.values())
    for start, chunk in read_chunks(documents):
        unit = truncate_then_normalize(chunk)
        views = {-1: unit} | {turn: unit @ rotation for turn, rotation in enumerate(rotations)}
        bits = quantize_binary(unit) if has_bits else unit
        for key, system in systems.items():
            if system.coding == "bits":
                block = bits
            elif system.coding == "signs":
                block = np.where(unit > 0, np.float32(1), np.float32(-1))
            else:
                view = views[system.turn]
                block = truncate_then_normalize(view, system.dim) if system.dim else view
            best[key].add(np.ascontiguousarray(block), start)
    return {key: top.ranking for key, top in best.items()}


def read_chunks(documents: Vectors) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(documents), CHUNK):
        yield start, documents[start : start + CHUNK]
