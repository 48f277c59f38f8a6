"""Codecs fitted: ranges in one pass over the documents, PQ on a sample of them. No query is ever
seen.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from leafkit.config import InheritConfig
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.truncate import truncate_then_normalize
from leafkit.index.codecs.bits import Binary
from leafkit.index.codecs.codec import Codec
from leafkit.index.codecs.floats import Float16, Float32
from leafkit.index.codecs.product import NUM_CENTROIDS, pq_groups, train_product
from leafkit.index.codecs.steps import Int4, Int8, Int8Fixed
from leafkit.index.quantization import linear_scale
from leafkit.index.vectors import Vectors
from leafkit.index.workers import Workers, small_blocks

# documents that PQ is trained on, 128 to a centroid; faiss asks for 39 at least and takes 256 at
# most
PQ_SAMPLE = 32_768
CALIBRATED = ("int8", "int8_fixed", "int4")  # precisions that need the documents' ranges
# nothing to fit
PLAIN: dict[str, Callable[[int], Codec]] = {
    "float32": Float32,
    "float16": Float16,
    "binary": Binary,
}


@dataclass(frozen=True, slots=True)
class Range:
    """(D,) smallest and largest value of each dimension over all documents."""

    low: np.ndarray
    high: np.ndarray


def measure_ranges(
    documents: Vectors, dims: Sequence[int], what: str = "document"
) -> dict[int, Range]:
    """Each dimension's range at every truncation, in one pass over the documents (N, D), which also
    finds what is not finite.

    Raises:
        LeafkitError: a document's vector holds a number that is not finite; its row is named.
    """
    found = {
        dim: Range(np.full(dim, np.inf, np.float32), np.full(dim, -np.inf, np.float32))
        for dim in dims
    }

    def look(rows: slice) -> list[tuple[int, Range]]:
        raw = np.asarray(documents[rows], dtype=np.float32)
        seen = []
        for block in small_blocks(len(raw), raw.shape[1]):
            # one bad number makes the sum bad; large good ones may do so too
            if not np.isfinite(raw[block].sum()):
                bad = np.flatnonzero(~np.isfinite(raw[block]).all(axis=1))
                if len(bad):
                    row = rows.start + block.start + int(bad[0])
                    raise LeafkitError(
                        f"the vector of {what} {row} is not finite",
                        "compute in float32 with precision=float32",
                    )
            for dim in dims:
                unit = truncate_then_normalize(raw[block], dim)
                seen.append((dim, Range(unit.min(axis=0), unit.max(axis=0))))
        return seen

    for dim, seen in itertools.chain.from_iterable(Workers().run(look, len(documents))):
        np.minimum(found[dim].low, seen.low, out=found[dim].low)
        np.maximum(found[dim].high, seen.high, out=found[dim].high)
    return found


def fit_codecs(
    documents: Vectors,
    dims: Sequence[int],
    precisions: Sequence[str],
    config: InheritConfig,
    *,
    seed: int,
    what: str = "document",
) -> dict[tuple[int, str], Codec]:
    """A codec for every dimension and precision, fitted on documents cut to the dimension and then
    normalised.

    Args:
        documents: (N, D).
        dims: to fit for.
        precisions: names as in the recipe.
        config: int8_range and pq_bytes.
        seed: of the documents that PQ is trained on, and of its start.
        what: what a row is, for messages.

    Raises:
        LeafkitError: a document's vector is not finite.
        UsageError: too few documents for PQ, or groups of dimensions that do not come out even.
    """
    check_codecs(len(documents), dims, precisions, config)
    ranged = dims if set(precisions) & set(CALIBRATED) else ()
    ranges = measure_ranges(documents, ranged, what)
    sample = np.empty((0, 0), dtype=np.float32)
    if "pq" in precisions:
        generator = np.random.default_rng(seed)
        rows = np.sort(
            generator.choice(len(documents), min(len(documents), PQ_SAMPLE), replace=False)
        )
        sample = np.asarray(documents[rows], dtype=np.float32)
    return {
        (dim, precision): _fit(
            precision, dim, config, ranges=ranges.get(dim), sample=sample, seed=seed
        )
        for dim in dims
        for precision in precisions
    }


def _fit(
    precision: str,
    dim: int,
    config: InheritConfig,
    *,
    ranges: Range | None,
    sample: np.ndarray,
    seed: int,
) -> Codec:
    if precision in CALIBRATED and ranges is not None:
        if precision == "int8":
            return Int8(linear_scale(ranges.low, ranges.high, 255))
        if precision == "int4":
            return Int4(linear_scale(ranges.low, ranges.high, 15))
        largest = float(max(-ranges.low.min(), ranges.high.max()))
        # documents that are all zero need no range
        return Int8Fixed(dim, config.int8_range or largest or 1.0)
    if precision in PLAIN:
        return PLAIN[precision](dim)
    return train_product(
        truncate_then_normalize(sample, dim), pq_groups(dim, config.pq_bytes), seed
    )


def check_codecs(
    num_documents: int, dims: Sequence[int], precisions: Sequence[str], config: InheritConfig
) -> None:
    """Whatever can be wrong with a codec's settings, before anything is computed.

    Raises:
        UsageError: fewer documents than PQ has centroids, or a dimension that ``pq_bytes`` does not
            divide.
    """
    if "pq" not in precisions:
        return
    if num_documents < NUM_CENTROIDS:
        raise UsageError(
            f"inherit.precisions: pq has {NUM_CENTROIDS} centroids per byte and there are "
            f"{num_documents} documents to train"
            " them on",
            f"leave pq out, or measure on a collection of {NUM_CENTROIDS} documents or more",
        )
    uneven = [dim for dim in dims if config.pq_bytes and dim % config.pq_bytes]
    if uneven:
        raise UsageError(
            f"inherit.pq_bytes: {config.pq_bytes} does not divide the dimension "
            f"{', '.join(map(str, uneven))}",
            "inherit.pq_bytes=0 takes a bit per dimension; otherwise every dimension of "
            "inherit.dims must be a multiple",
        )
