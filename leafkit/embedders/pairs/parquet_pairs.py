"""Pairs out of a Parquet file: a text column, and a column of lists of numbers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from leafkit.core.console import progress_bar
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.data.sources.bad_rows import BadRows
from leafkit.data.sources.files import reading
from leafkit.embedders.pairs.columns import PairColumns, make_row
from leafkit.embedders.pairs.pair_files import PairFiles, PairRow

_ROWS_AT_ONCE = 2048
_VECTOR, _ID = "vector", "id"


def fetch_parquet(path: Path, columns: PairColumns, files: PairFiles, bad: BadRows) -> None:
    """Copy the file's rows; the names of columns are ``text``, ``vector`` and, where there is one,
    ``id``, unless ``columns`` says others.

    Args:
        path: of the file.
        columns: names; without an id rows are known by their number.
        files: get the rows, behind those that they have.
        bad: the policy for rows that cannot be used.

    Raises:
        UsageError: there is no such file or column, or the vectors' column holds no lists of
            numbers.
        LeafkitError: the file is damaged, or a row cannot be used and the policy is to stop.
    """
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    if not path.is_file():
        raise UsageError(f"parquet:{path}: no such file: {path.absolute()}", "check the path")
    counts = bad.counts
    try:
        with reading(path), pyarrow.parquet.ParquetFile(path) as file:
            names = _find_columns(path, file.schema_arrow, columns)
            total, number = file.metadata.num_rows, 0
            with progress_bar(f"pairs of {path.name}", total, "rows") as bar:
                for batch in file.iter_batches(_ROWS_AT_ONCE, columns=sorted(set(names.values()))):
                    # what was committed before is read over: a row group cannot be entered midway
                    if number + len(batch) > int(files.progress.next or 0):
                        _append(path, batch, number, columns, names, files, bad, counts)
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


def _append(
    path: Path,
    batch: Any,
    first: int,
    columns: PairColumns,
    names: dict[str, str],
    files: PairFiles,
    bad: BadRows,
    counts: Counter[str],
) -> None:
    """One block of rows, the first of which has the number ``first``."""
    rows: list[PairRow] = []
    vectors: list[np.ndarray] = []
    skipped = 0
    lists = batch.column(names["vector"])
    plain = batch.drop_columns([names["vector"]]).to_pylist()
    for place, found in enumerate(plain):
        where = f"{path} row {first + place}"
        row_id = str(first + place) if "id" not in names else _id_of(found, names["id"], where, bad)
        row = None
        if row_id is not None:
            row = make_row(row_id, found, columns, where=where, bad=bad, counts=counts)
        vector = lists[place].values if row is not None else None
        if row is not None and (vector is None or vector.null_count or not len(vector)):
            bad.refuse(where, f"{names['vector']!r} is missing or empty")
            row = None
        if row is None or vector is None:
            skipped += 1
            continue
        rows.append(row)
        vectors.append(vector.to_numpy(zero_copy_only=False))
    lengths = [len(vector) for vector in vectors]
    if len(set(lengths)) > 1:
        odd = next(i for i, length in enumerate(lengths) if length != lengths[0])
        raise LeafkitError(
            f"{path}: the vector of {rows[odd].id!r} has {lengths[odd]} dimensions, that of "
            f"{rows[0].id!r} {lengths[0]}",
            "an index has vectors of one model: write a file of those alone",
        )
    matrix = np.stack(vectors) if vectors else np.empty((0, 0), dtype=np.float32)
    files.append(rows, matrix, first + len(batch), skipped=skipped)


def _id_of(found: dict[str, Any], name: str, where: str, bad: BadRows) -> str | None:
    value = found.get(name)
    if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
        return str(value)
    bad.refuse(where, f"{name!r} is {value!r}, which is no id")
    return None
