"""Vectors of texts that other vector stores hold already: a source that is added, or a limit that
is raised, embeds only what is new.

Only what was committed is read, and every file is compared with the sha256 of its commit record
before a row of it counts. What is damaged is named and left alone: its texts are embedded anew.

Shapes: n texts, D dimensions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from leafkit.core.console import log
from leafkit.core.file_hashes import read_sha256
from leafkit.data.mapped_rows import map_numbers
from leafkit.data.vector_store import HASH, Space


@dataclass(frozen=True, slots=True)
class _Part:
    """A committed shard of another store."""

    vectors: Path
    sha256: str  # of its vectors
    hashes: np.ndarray  # (rows,) of its texts

    def read(self, dim: int, dtype: np.dtype) -> np.ndarray:
        """(rows, D) vectors, mapped from their file.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not what was committed.
        """
        if read_sha256(self.vectors) != self.sha256:
            raise ValueError(f"{self.vectors.name} does not have the sha256 that it names")
        return map_numbers(self.vectors, dtype).reshape(len(self.hashes), dim)


class KeptRows:
    """Rows of other stores for some texts, found by the texts' hashes.

    Args:
        folders: of stores whose vectors are those that this store would get, in the order in which
            they are asked; who calls answers for that.
        space: of the vectors.
        dtype: of the stored numbers.
        wanted: hashes of the texts, in any order.

    Attributes:
        num_stores: that have one of the texts.
        num_found: of the wanted texts, those that come twice counted twice.
        num_taken: rows that were asked for and are there, so far.
    """

    def __init__(
        self, folders: Iterable[Path], space: Space, dtype: np.dtype, wanted: np.ndarray
    ) -> None:
        self._dim = space.dim
        self._hashes = np.unique(wanted)
        self._places = np.full(len(self._hashes), -1, dtype=np.int64)
        self._parts: list[np.ndarray] = []  # vectors of shards that have some of the texts
        self._starts = [0]  # of each part, among the rows of all
        self.num_stores = self.num_taken = 0
        for folder in folders:
            if (self._places >= 0).all():
                break
            num_parts = len(self._parts)
            for part in _committed(folder, space, dtype):
                self._note(part, dtype)
            self.num_stores += len(self._parts) > num_parts
        self.num_found = int(self.has(wanted).sum())

    def _note(self, part: _Part, dtype: np.dtype) -> None:
        at = self._find(part.hashes)
        is_new = (at >= 0) & (self._places[at] < 0)
        if not is_new.any():
            return
        try:
            self._parts.append(part.read(self._dim, dtype))
        except (OSError, ValueError) as err:
            log(f"  {part.vectors} is left alone: {err}", style="yellow")
            return
        self._places[at[is_new]] = self._starts[-1] + np.flatnonzero(is_new)
        self._starts.append(self._starts[-1] + len(part.hashes))

    def _find(self, hashes: np.ndarray) -> np.ndarray:
        """(n,) places among the wanted hashes, -1 for what is none of them."""
        at = np.searchsorted(self._hashes, hashes)
        at[at == len(self._hashes)] = 0
        return np.where(self._hashes[at] == hashes, at, -1)

    def has(self, hashes: np.ndarray) -> np.ndarray:
        """(n,) whether some store has a vector of each of these texts, by their hashes."""
        at = self._find(hashes)
        found: np.ndarray = (at >= 0) & (self._places[at] >= 0)
        return found

    def take(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Vectors of some of the wanted texts.

        Args:
            hashes: (n,) of the texts.

        Returns:
            (n,) whether a text has one, and (n, D) float32; rows without one hold anything.
        """
        vectors = np.empty((len(hashes), self._dim), dtype=np.float32)
        is_there = self.has(hashes)
        rows = np.flatnonzero(is_there)
        self.num_taken += len(rows)
        places = self._places[self._find(hashes[rows])]
        parts = np.searchsorted(self._starts, places, side="right") - 1
        for number in np.unique(parts).tolist():
            of_part = parts == number
            found = self._parts[number][places[of_part] - self._starts[number]]
            vectors[rows[of_part]] = found
        return is_there, vectors


def _committed(folder: Path, space: Space, dtype: np.dtype) -> Iterator[_Part]:
    """Shards of a store that hold vectors of this space in these numbers, in order."""
    for path in sorted(folder.glob("[0-9]*.json")):
        vectors, hashes = path.with_suffix(".vectors"), path.with_suffix(".hashes")
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["space"] != asdict(space) or record["dtype"] != dtype.name:
                continue
            sha256 = record["sha256"]
            if read_sha256(hashes) != sha256[hashes.name]:
                raise ValueError(f"{hashes.name} does not have the sha256 that it names")
            yield _Part(vectors, str(sha256[vectors.name]), np.fromfile(hashes, dtype=HASH))
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as err:
            log(f"  {path} is left alone: {err}", style="yellow")
