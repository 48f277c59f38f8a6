"""The documents' vectors as searches want them: of the teacher or the student, cut, at a precision.

Everything here runs in the lane of searches, one at a time, so that nothing is made twice; what is
made of codecs may be read anywhere.

Shapes: N documents, D dimensions.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from leafkit.config import InheritConfig
from leafkit.core.errors import UsageError
from leafkit.data.stored.prefix_vectors import first_dims
from leafkit.index.codecs.codec import Codec
from leafkit.index.codecs.fit import fit_codecs
from leafkit.index.codecs.steps import Int8
from leafkit.index.vectors import Vectors, read_chunks
from leafkit.pipeline.pair import Pair

PRECISIONS = ("float32", "int8", "int4", "binary")
_KEPT = 4  # matrices, and as many sets of codes: each may be as large as the index
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CodedVectors:
    """Vectors that are stored as codes and restored where they are read.

    Attributes:
        codec: made them.
        codes: (N, ...).
    """

    codec: Codec
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: slice | np.ndarray, /) -> np.ndarray:
        return self.codec.decode(self.codes[rows])


class DocumentVectors:
    """The matrices of a pair's documents, of which the last few that were asked for are kept, and
    all codecs, which are small.

    Args:
        pair: holds the teacher's.
        student: (N, D) the student's, where searches among them are wanted.
    """

    def __init__(self, pair: Pair, student: np.ndarray | None = None) -> None:
        self._pair, self._student = pair, student
        self._matrices: OrderedDict[tuple[object, ...], np.ndarray] = OrderedDict()
        self._coded: OrderedDict[tuple[object, ...], CodedVectors] = OrderedDict()
        self._codecs: dict[tuple[str, int, str], Codec] = {}

    @property
    def has_student(self) -> bool:
        """Whether the student's vectors of the documents are here."""
        return self._student is not None

    def find(self, side: str, dim: int, precision: str) -> Vectors:
        """(N, dim) vectors to search among.

        Args:
            side: teacher or student.
            dim: cut to it, then normalized where the pair's vectors are.
            precision: of ``PRECISIONS``; codes have the documents' own scale.

        Raises:
            UsageError: codes of vectors that are not of length one.
        """
        if precision == "float32":
            return self.matrix(side, dim)

        def make() -> CodedVectors:
            codec = self.codec(side, dim, precision)
            parts = [
                codec.encode(shorten(np.asarray(part, np.float32), dim, is_unit=True))
                for _, part in read_chunks(self._all(side))
            ]
            return CodedVectors(codec, np.concatenate(parts))

        return _kept(self._coded, (side, dim, precision), make)

    def matrix(self, side: str, dim: int) -> np.ndarray:
        """(N, dim) float32."""
        if side == "teacher" and dim == self._pair.dim:
            return self._pair.document_matrix()

        def make() -> np.ndarray:
            vectors = np.asarray(self._all(side), dtype=np.float32)
            return shorten(vectors, dim, is_unit=self._pair.space.normalized)

        return _kept(self._matrices, (side, dim), make)

    def codec(self, side: str, dim: int, precision: str) -> Codec:
        """How vectors of this dimension are written down, fitted on the documents.

        Raises:
            UsageError: the vectors are not of length one.
        """
        if not self._pair.space.normalized:
            raise UsageError(
                f"{precision} needs vectors of length one, which this teacher's are not",
                "ask for floats",
            )

        key = (side, dim, precision)
        if key not in self._codecs:
            fitted = fit_codecs(self._all(side), [dim], [precision], InheritConfig(), seed=0)
            self._codecs[key] = fitted[dim, precision]
        return self._codecs[key]

    def has_output_codec(self, dim: int) -> bool:
        """Whether the scale is there, so that ``output_codec`` only reads it."""
        return ("teacher", dim, "int8") in self._codecs

    def output_codec(self, dim: int) -> Int8:
        """The scale of int8 vectors that are sent: the teacher's documents'."""
        codec = self.codec("teacher", dim, "int8")
        assert isinstance(codec, Int8)
        return codec

    def _all(self, side: str) -> np.ndarray:
        if side == "teacher":
            return self._pair.vectors
        assert self._student is not None
        return self._student


def shorten(vectors: np.ndarray, dim: int, *, is_unit: bool) -> np.ndarray:
    """(n, dim) of (n, D) vectors, which stay as they are where ``dim`` is D."""
    return vectors if dim == vectors.shape[1] else first_dims(vectors, dim, is_unit=is_unit)


def _kept(
    kept: OrderedDict[tuple[object, ...], T], key: tuple[object, ...], make: Callable[[], T]
) -> T:
    """What was made for a key; the one that was not asked for longest gives way."""
    if key not in kept:
        if len(kept) >= _KEPT:
            kept.popitem(last=False)
        kept[key] = make()
    kept.move_to_end(key)
    return kept[key]
