"""Vectors on disk, found by the hash of their text: texts beside a numpy matrix, or the shards of a
vector store.

Everything is read once when it is opened, so that a number which is not finite, a damaged file or a
text with two vectors is found before anything is computed from them; afterwards the vectors are
memory-mapped.
"""

from __future__ import annotations

import itertools
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from leafkit.core.errors import LeafkitError
from leafkit.core.file_hashes import sha256_of_file
from leafkit.data.records import Document, clean_text
from leafkit.data.vector_store import Space, hash_texts

ROWS_AT_ONCE = 16384
STORE_FILES = "[0-9][0-9][0-9][0-9][0-9].vectors"
_SPACE_TYPES = {
    "teacher": str,
    "dim": int,
    "prompt": str,
    "max_tokens": int,
    "pooling": str,
    "normalized": bool,
}
# two vectors of one text may differ by this share of their length: batches and bf16 make them
# differ
_SAME_SHARE = 0.01


class Rows:
    """Several matrices of one width as one: ``parts`` are (n_i, D)."""

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self._parts = list(parts)
        self._starts = np.cumsum([0, *(len(part) for part in parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def dim(self) -> int:
        """D, the width."""
        return int(self._parts[0].shape[1])

    def take(self, rows: np.ndarray) -> np.ndarray:
        """(len(rows), D) float32; what float32 cannot hold becomes infinite.

        Raises:
            LeafkitError: a file was cut short since it was opened.
        """
        out = np.empty((len(rows), self.dim), dtype=np.float32)
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        with np.errstate(over="ignore"):
            for number in np.unique(numbers):
                _check_whole(self._parts[number])
                here = np.flatnonzero(numbers == number)
                out[here] = self._parts[number][rows[here] - self._starts[number]]
        return out


def _check_whole(part: np.ndarray) -> None:
    """Reading rows that a mapped file has lost would end the process without a word."""
    if not isinstance(part, np.memmap) or part.filename is None:
        return
    needed = part.offset + part.nbytes
    try:
        found = Path(part.filename).stat().st_size
    except FileNotFoundError:  # a removed file is there as long as it is mapped
        return
    if found < needed:
        raise LeafkitError(
            f"{part.filename} has {found:,} bytes where it had {needed:,} when it was opened",
            "let no other program write it meanwhile; make it again",
        )


@dataclass(frozen=True, slots=True)
class Table:
    """Vectors by text.

    Attributes:
        hashes: (n,) of the distinct texts, sorted.
        rows: (n,) row of each one's vector.
        vectors: all rows.
        shortest: length of the shortest vector.
        longest: length of the longest.
        where: the file or folder, for messages.
    """

    hashes: np.ndarray
    rows: np.ndarray
    vectors: Rows
    shortest: float
    longest: float
    where: str

    def find(self, texts: Sequence[str]) -> np.ndarray:
        """(len(texts),) row of each text's vector, -1 where there is none."""
        wanted = hash_texts(texts)
        at = np.minimum(np.searchsorted(self.hashes, wanted), len(self.hashes) - 1)
        return np.where(self.hashes[at] == wanted, self.rows[at], -1)


def read_table(texts_path: Path, matrix_path: Path) -> Table:
    """Texts in a jsonl file and their vectors in a npy file, row by row.

    Raises:
        LeafkitError: a file is missing or damaged, they are of different lengths, or see
            ``make_table``.
    """
    for path in (texts_path, matrix_path):
        if not path.is_file():
            raise LeafkitError(
                f"{path} is missing",
                f"{texts_path.name} and {matrix_path.name} belong together, row by row",
            )
    matrix = _open_matrix(matrix_path)
    lines, hashes = array("q"), []
    texts = _read_texts(texts_path)
    while block := list(itertools.islice(texts, ROWS_AT_ONCE)):
        lines.extend(number for number, _ in block)
        hashes.append(hash_texts([text for _, text in block]))
    if len(lines) != len(matrix):
        raise LeafkitError(
            f"{texts_path} has {len(lines):,} rows and {matrix_path.name} {len(matrix):,}: no "
            f"telling which vector is whose",
            "save them again, in the same order",
        )
    return make_table(
        Rows([matrix]),
        np.concatenate(hashes),
        str(texts_path.parent),
        lambda row: f"{texts_path.name}:{lines[row]}",
    )


def read_store(folder: Path) -> tuple[Table, Space]:
    """The committed shards of a leafkit vector store and the space that they are in.

    Raises:
        LeafkitError: a file is missing or has not the sha256 of its commit record, shards are of
            different spaces, or see ``make_table``.
    """
    parts, hashes, spaces = [], [], []
    for path in sorted(folder.glob(STORE_FILES)):
        record_path = path.with_suffix(".json")
        try:
            record = json.loads(record_path.read_text(encoding="utf-8"))
            space, rows, dtype = (
                Space(**record["space"]),
                int(record["rows"]),
                np.dtype(record["dtype"]).newbyteorder("<"),
            )
            digests = {
                name: str(record["sha256"][name])
                for name in (path.name, path.with_suffix(".hashes").name)
            }
            if wrong := [
                key for key, kind in _SPACE_TYPES.items() if type(getattr(space, key)) is not kind
            ]:
                raise ValueError(f"{wrong[0]} of its space is {getattr(space, wrong[0])!r}")
            # whole numbers of the same width would be read as vectors
            if dtype.kind != "f" or min(rows, space.dim) < 1:
                raise ValueError(f"{rows} rows of {space.dim} {dtype.name}")
        except FileNotFoundError:
            continue  # a shard without its commit record does not exist
        except (ValueError, KeyError, TypeError) as err:
            raise LeafkitError(
                f"{record_path} is not a commit record: {err}", "make the store again"
            ) from err
        for name, expected in digests.items():
            if not (folder / name).is_file() or sha256_of_file(folder / name) != expected:
                raise LeafkitError(
                    f"{folder / name} is missing or has not the sha256 of its commit record",
                    "make the store again",
                )
        spaces.append(space)
        if space != spaces[0]:
            raise LeafkitError(
                f"{folder}: {record_path.name} is of another space than the shards before it",
                "make it again",
            )
        hashes.append(np.fromfile(path.with_suffix(".hashes"), dtype="<u8"))
        if len(hashes[-1]) != rows or path.stat().st_size != rows * space.dim * dtype.itemsize:
            raise LeafkitError(
                f"{path} has not the {rows} {dtype.name} rows of its commit record",
                "make the store again",
            )
        parts.append(np.memmap(path, dtype=dtype, mode="r", shape=(rows, space.dim)))
    if not parts:
        raise LeafkitError(
            f"{folder} holds no committed shard", "the run that was writing it makes it complete"
        )
    return make_table(
        Rows(parts), np.concatenate(hashes), str(folder), lambda row: f"row {row}"
    ), spaces[0]


def make_table(vectors: Rows, hashes: np.ndarray, where: str, name: Callable[[int], str]) -> Table:
    """The table of some vectors.

    Args:
        vectors: n rows.
        hashes: (n,) uint64 of their texts.
        where: they come from.
        name: of a row, for messages.

    Raises:
        LeafkitError: a number is not finite in float32, a vector has no length, all texts have one
            vector, or a text stands there twice with different vectors.
    """
    shortest, longest = _measure(vectors, where, name)
    _refuse_equal(vectors, hashes, where)
    order = np.argsort(hashes, kind="stable")
    is_first = np.append(True, hashes[order][1:] != hashes[order][:-1])
    firsts = order[is_first]
    twins, first_of = order[~is_first], firsts[np.cumsum(is_first) - 1][~is_first]
    for start in range(0, len(twins), ROWS_AT_ONCE):
        second, first = twins[start : start + ROWS_AT_ONCE], first_of[start : start + ROWS_AT_ONCE]
        expected = vectors.take(first)
        distance = np.linalg.norm(vectors.take(second) - expected, axis=1)
        wrong = np.flatnonzero(distance > _SAME_SHARE * np.linalg.norm(expected, axis=1))
        if len(wrong):
            raise LeafkitError(
                f"{where}: the text of {name(int(first[wrong[0]]))} stands again in "
                f"{name(int(second[wrong[0]]))},"
                f" with another vector ({len(wrong)} such texts)",
                "keep one of the two: a text has one vector",
            )
    return Table(
        hashes[firsts],
        firsts,
        vectors,
        shortest=shortest,
        longest=longest,
        where=where,
    )


def _refuse_equal(vectors: Rows, hashes: np.ndarray, where: str) -> None:
    if len(np.unique(hashes)) < 2:
        return
    first = vectors.take(np.zeros(1, dtype=np.int64))
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        rows = np.arange(start, min(start + ROWS_AT_ONCE, len(vectors)))
        if (vectors.take(rows) != first).any():
            return
    raise LeafkitError(
        f"{where}: all {len(vectors):,} texts have one and the same vector: nothing can be found "
        f"by it",
        "compute them again; see what the model makes of two different texts",
    )


def _measure(vectors: Rows, where: str, name: Callable[[int], str]) -> tuple[float, float]:
    """Lengths of the shortest and the longest vector."""
    shortest, longest = np.inf, 0.0
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        block = vectors.take(np.arange(start, min(start + ROWS_AT_ONCE, len(vectors))))
        wrong = np.flatnonzero(~np.isfinite(block).all(axis=1))
        if len(wrong):
            raise LeafkitError(
                f"{where}: the vector of {name(start + int(wrong[0]))} is not finite "
                f"({len(wrong)} such vectors among"
                f" {len(block):,})",
                "compute it again, in float32; if it stays, look at that row's text",
            )
        lengths = np.sqrt(np.einsum("nd,nd->n", block, block, dtype=np.float64))
        empty = np.flatnonzero(lengths == 0)
        if len(empty):
            raise LeafkitError(
                f"{where}: the vector of {name(start + int(empty[0]))} has length zero in float32 "
                f"({len(empty)} such vectors among {len(block):,}): no text is nearer to it than "
                f"another",
                "compute it again, or take out the row, the text and its vector",
            )
        shortest, longest = min(shortest, float(lengths.min())), max(longest, float(lengths.max()))
    return shortest, longest


def _open_matrix(path: Path) -> np.ndarray:
    try:
        # refuses pickled objects, which could run code
        matrix = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as err:
        raise LeafkitError(
            f"{path} is no matrix that numpy can map: {err}", "write it with numpy.save"
        ) from err
    if matrix.dtype.kind != "f":
        raise LeafkitError(
            f"{path} holds {matrix.dtype} where vectors are floats",
            "save float16, float32 or float64",
        )
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise LeafkitError(
            f"{path} has the shape {matrix.shape}, not (texts, dimensions)", "save one row per text"
        )
    return matrix


def _read_texts(path: Path) -> Iterator[tuple[int, str]]:
    """Line number, from 1, and the text that a collection would make of the row."""
    counts: Counter[str] = Counter()
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row: Any = json.loads(line.decode("utf-8-sig"))
            except (ValueError, RecursionError) as err:
                raise LeafkitError(
                    f"{path}:{number}: not JSON in UTF-8: {err}", "repair the row"
                ) from err
            text, title = (
                (row.get("text"), row.get("title") or "") if isinstance(row, dict) else (None, "")
            )
            if not isinstance(text, str) or not isinstance(title, str):
                raise LeafkitError(
                    f"{path}:{number}: a row needs 'text' and may have a 'title', both text",
                    "repair the row",
                )
            yield (
                number,
                Document("", clean_text(text, counts), clean_text(title, counts)).full_text,
            )
