"""Texts and vectors written side by side, block by block, so that a fetch that was stopped goes on
where it was.

While it is filled the folder holds

    rows.jsonl      {"id", "title", "text"}
    vectors.f32     n x D numbers, little endian
    progress.json   the commit record of each block: source, rows, bytes, where to go on

What lies behind the last commit record is cut off when the folder is opened again.

Shapes: n rows of D dimensions.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from leafkit.core.artifact import write_durably
from leafkit.core.checkpoint_layout import (
    PAIR_MATRIX_FILE,
    PAIR_PROGRESS_FILE,
    PAIR_ROWS_FILE,
    PAIR_TEXTS_FILE,
    PAIR_UNDER_WAY_FILE,
    VECTORS_ABOUT_FILE,
)
from leafkit.core.errors import LeafkitError, explain_write_errors

_FLOAT = np.dtype("<f4")
_ROWS_AT_ONCE = 16_384


@dataclass(frozen=True, slots=True)
class PairRow:
    """One row: its id, title ("" for none) and text."""

    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Progress:
    """What is committed.

    Attributes:
        source: everything that decides about the rows; another one begins anew.
        rows: n.
        dim: D; 0 before the first block.
        text_bytes: of rows.jsonl.
        next: where the source goes on, as JSON has it; None at the beginning.
        skipped: rows that the source had and that could not be used.
        is_done: nothing is left.
    """

    source: str
    rows: int = 0
    dim: int = 0
    text_bytes: int = 0
    next: str | int | None = None
    skipped: int = 0
    is_done: bool = False


class PairFiles:
    """The folder while it is filled.

    Args:
        folder: made where it is not there.
        source: as of ``Progress``.

    Attributes:
        folder: as given.
        progress: what is committed.

    Raises:
        LeafkitError: the folder cannot be written.
    """

    def __init__(self, folder: Path, source: str) -> None:
        self.folder = folder
        with explain_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self.progress = self._read_progress(source)
            for name, size in self._sizes().items():
                path = folder / name
                if not path.exists() or path.stat().st_size < size:
                    self.progress = Progress(source)
            for name, size in self._sizes().items():
                with (folder / name).open("ab") as file:
                    file.truncate(size)

    def append(
        self,
        rows: Sequence[PairRow],
        vectors: np.ndarray,
        where_next: str | int | None,
        *,
        skipped: int = 0,
        is_done: bool = False,
    ) -> None:
        """Write a block and commit it.

        Args:
            rows: n of them.
            vectors: (n, D), of any float type.
            where_next: where the source goes on.
            skipped: rows of this block that could not be used.
            is_done: nothing is left.

        Raises:
            LeafkitError: a number is not finite or too large for float32, the vectors are of
                another dimension than those before, or the folder cannot be written.
        """
        before, dim = self.progress, self.progress.dim
        if len(rows) != len(vectors):
            raise ValueError(f"{len(rows)} rows and {len(vectors)} vectors")
        lines = b""
        if rows:
            with np.errstate(over="ignore"):
                numbers = np.ascontiguousarray(vectors, dtype=_FLOAT)
            self._check(rows, numbers)
            dim = numbers.shape[1]
            lines = b"".join(json.dumps(asdict(row)).encode() + b"\n" for row in rows)
            with explain_write_errors(self.folder):
                _extend(self.folder / PAIR_ROWS_FILE, lines)
                _extend(self.folder / PAIR_UNDER_WAY_FILE, numbers.tobytes())
        self.progress = Progress(
            source=before.source,
            rows=before.rows + len(rows),
            dim=dim,
            text_bytes=before.text_bytes + len(lines),
            next=where_next,
            skipped=before.skipped + skipped,
            is_done=is_done,
        )
        record = json.dumps(asdict(self.progress)).encode()
        write_durably(self.folder / PAIR_PROGRESS_FILE, record)

    def ids(self) -> set[str]:
        """Of the rows that are committed."""
        with (self.folder / PAIR_ROWS_FILE).open("rb") as file:
            return {json.loads(line)["id"] for line in file}

    def move_to(self, folder: Path, about: dict[str, str | bool]) -> None:
        """Hand everything over as a folder that ``vectors:FOLDER`` reads; nothing is left here.

        Args:
            folder: is there already.
            about: of about.json.

        Raises:
            LeafkitError: there is no row, or the folder cannot be written.
        """
        if not self.progress.rows:
            raise LeafkitError(
                f"{self.progress.source} holds no text with a vector", "name one that does"
            )
        shape = (self.progress.rows, self.progress.dim)
        with explain_write_errors(folder):
            read = np.memmap(self.folder / PAIR_UNDER_WAY_FILE, _FLOAT, "r", shape=shape)
            written = np.lib.format.open_memmap(
                folder / PAIR_MATRIX_FILE, mode="w+", dtype=_FLOAT, shape=shape
            )
            for start in range(0, shape[0], _ROWS_AT_ONCE):
                written[start : start + _ROWS_AT_ONCE] = read[start : start + _ROWS_AT_ONCE]
            written.flush()
            del read, written
            os.replace(self.folder / PAIR_ROWS_FILE, folder / PAIR_TEXTS_FILE)
            (folder / VECTORS_ABOUT_FILE).write_text(json.dumps(about), encoding="utf-8")
            shutil.rmtree(self.folder)

    def _check(self, rows: Sequence[PairRow], numbers: np.ndarray) -> None:
        wrong = np.flatnonzero(~np.isfinite(numbers).all(axis=1))
        if len(wrong):
            raise LeafkitError(
                f"the vector of {rows[int(wrong[0])].id!r} holds a number that float32 has not: "
                "NaN, infinite or too large",
                "take it out of the source, or store its vector again",
            )
        if self.progress.dim not in (0, numbers.shape[1]):
            raise LeafkitError(
                f"the vector of {rows[0].id!r} has {numbers.shape[1]} dimensions, those before "
                f"{self.progress.dim}",
                "an index has vectors of one model: name the part of it that has",
            )

    def _read_progress(self, source: str) -> Progress:
        """What the last commit says; nothing where there is none, or of another source."""
        path = self.folder / PAIR_PROGRESS_FILE
        try:
            found = Progress(**json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return Progress(source)
        return found if found.source == source else Progress(source)

    def _sizes(self) -> dict[str, int]:
        """Bytes of each file that are committed."""
        now = self.progress
        vector_bytes = now.rows * now.dim * _FLOAT.itemsize
        return {PAIR_ROWS_FILE: now.text_bytes, PAIR_UNDER_WAY_FILE: vector_bytes}


def _extend(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
