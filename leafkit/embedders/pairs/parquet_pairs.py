"""Pairs out of a Parquet file: a text column, and a column of lists of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from leafkit.core.console import progress_bar
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.data.records import clean_text
from leafkit.data.sources.bad_rows import BadRows
from leafkit.data.sources.files import reading
from leafkit.embedders.pairs.columns import NUMBERED, PairColumns, make_row
from leafkit.embedders.pairs.lengths import ZERO, check_lengths, is_zero
from leafkit.embedders.pairs.pair_files import PairFiles, PairRow

_ROWS_AT_ONCE = 2048
_VECTOR, _ID = "vector", "id"
_OTHER_IDS = "id=NAME names another column, id=- takes the rows' numbers"


def fetch_parquet(
    path: Path, columns: PairColumns, files: PairFiles, bad: BadRows, *, similarity: str = ""
) -> None:
    """Copy the file's rows; the names of columns are ``text``, ``vector`` and, where there is one,
    ``id``, unless ``columns`` says others.

    Args:
        path: of the file.
        columns: names; without an id, or with id=-, rows are known by their number.
        files: get the rows, behind those that they have.
        bad: the policy for rows that cannot be used.
        similarity: how the vectors are compared; "" where all are of length one.

    Raises:
        UsageError: there is no such file or column, the vectors' column holds no lists of
            numbers, an id is used twice, or a vector is not of length one and no similarity is
            named.
        LeafkitError: the file is damaged, or a row cannot be used and the policy is to stop.
    """
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    if not path.is_file():
        raise UsageError(f"parquet:{path}: no such file: {path.absolute()}", "check the path")
    try:
        with reading(path), pyarrow.parquet.ParquetFile(path) as file:
            names = _find_columns(path, file.schema_arrow, columns)
            total, number = file.metadata.num_rows, 0
            reader = _Reader(path, columns, names, bad, files.ids() if "id" in names else set())
            with progress_bar(f"pairs of {path.name}", total, "rows") as bar:
                for batch in file.iter_batches(_ROWS_AT_ONCE, columns=sorted(set(names.values()))):
                    # what was committed before is read over: a row group cannot be entered midway
                    if number + len(batch) > int(files.progress.next or 0):
                        rows, vectors = reader.read(batch, number)
                        if rows and not similarity:
                            check_lengths(vectors, rows, f"parquet:{path}")
                        skipped = len(batch) - len(rows)
                        files.append(rows, vectors, number + len(batch), skipped=skipped)
                    number += len(batch)
                    bar.advance(len(batch))
            files.append([], np.empty((0, 0)), number, is_done=True)
    except (pyarrow.ArrowException, ValueError) as err:
        raise LeafkitError(
            f"{path}: no Parquet file, or damaged: {str(err).splitlines()[0]}", "write it again"
        ) from err


def _find_columns(path: Path, schema: Any, columns: PairColumns) -> dict[str, str]:
    """Names of the file's columns by what they hold."""
    import pyarrow

    has_id = columns.id or (_ID if _ID in schema.names else "")
    has_id = "" if has_id == NUMBERED else has_id
    wanted = {
        "text": columns.text,
        "title": columns.title,
        "id": has_id,
        "vector": columns.vector or _VECTOR,
    }
    named = {part: name for part, name in wanted.items() if name}
    for part, name in named.items():
        if schema.names.count(name) != 1:
            there = "has no" if name not in schema.names else "has more than one"
            raise UsageError(
                f"parquet:{path} {there} column {name!r}; it has {', '.join(schema.names)}",
                f"{part}=NAME says which of them is the {part}",
            )
    kind = schema.field(named["vector"]).type
    is_list = (
        pyarrow.types.is_list(kind)
        or pyarrow.types.is_large_list(kind)
        or pyarrow.types.is_fixed_size_list(kind)
    )
    if not is_list or not pyarrow.types.is_floating(kind.value_type):
        raise UsageError(
            f"parquet:{path}: the column {named['vector']!r} holds {kind}, not lists of floats",
            "vector=NAME says which column has the vectors",
        )
    return named


@dataclass(frozen=True, slots=True)
class _Reader:
    """What turns blocks of a file into rows and vectors.

    Attributes:
        path: of the file, for messages.
        columns: names of what a pair is made of.
        names: those of them that the file has, by what they hold.
        bad: the policy for rows that cannot be used.
        used: ids of the rows so far.
    """

    path: Path
    columns: PairColumns
    names: dict[str, str]
    bad: BadRows
    used: set[str]

    def read(self, batch: Any, first: int) -> tuple[list[PairRow], np.ndarray]:
        """The rows of a block that can be used, and their vectors, (n, D); the block's first row
        has the number ``first``.
        """
        rows: list[PairRow] = []
        vectors: list[np.ndarray] = []
        name = self.names["vector"]
        lists = batch.column(name)
        for place, found in enumerate(batch.drop_columns([name]).to_pylist()):
            where = f"{self.path} row {first + place}"
            row = self._row(found, first + place, where)
            if row is None:
                continue
            vector = lists[place].values
            if vector is None or vector.null_count or not len(vector):
                self.bad.refuse(where, f"{name!r} is missing or empty")
                continue
            numbers = vector.to_numpy(zero_copy_only=False)
            if is_zero(numbers):
                self.bad.refuse(where, ZERO)
                continue
            self._use(row.id, where)
            rows.append(row)
            vectors.append(numbers)
        odd = [i for i, vector in enumerate(vectors) if len(vector) != len(vectors[0])]
        if odd:
            raise LeafkitError(
                f"{self.path}: the vector of {rows[odd[0]].id!r} has {len(vectors[odd[0]])} "
                f"dimensions, that of {rows[0].id!r} {len(vectors[0])}",
                "an index has vectors of one model: write a file of those alone",
            )
        return rows, np.stack(vectors) if vectors else np.empty((0, 0), dtype=np.float32)

    def _row(self, found: dict[str, Any], number: int, where: str) -> PairRow | None:
        row_id: str | None = str(number)
        if "id" in self.names:
            row_id = _id_of(found, self.names["id"], where, self.bad)
        if row_id is None:
            return None
        return make_row(
            row_id, found, self.columns, where=where, bad=self.bad, counts=self.bad.counts
        )

    def _use(self, row_id: str, where: str) -> None:
        """An id that repeats is one of something else, of the book that a row is a page of say: to
        skip such rows would lose pages, so that no policy does it.
        """
        if "id" not in self.names:
            return
        if row_id in self.used:
            name = self.names["id"]
            raise UsageError(f"{where}: the {name!r} {row_id!r} is used twice", _OTHER_IDS)
        self.used.add(row_id)


def _id_of(found: dict[str, Any], name: str, where: str, bad: BadRows) -> str | None:
    value = found.get(name)
    if isinstance(value, str | int) and not isinstance(value, bool):
        # as the file of texts is read
        row_id = clean_text(str(value), bad.counts)
        if row_id:
            return row_id
    bad.refuse(where, f"{name!r} is {value!r}, which is no id", _OTHER_IDS)
    return None
