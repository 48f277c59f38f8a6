"""Rows of Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from leafkit.core.errors import LeafkitError
from leafkit.data.sources.files import reading

_ROWS_AT_ONCE = 1024


def read_parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a file, each with its number, counted from 0.

    Raises:
        LeafkitError: it is no Parquet file, or damaged.
    """
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    number = 0
    try:
        with reading(path), pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS_AT_ONCE):
                for row in batch.to_pylist():
                    yield f"{path} row {number}", row
                    number += 1
    except (pyarrow.ArrowException, ValueError) as err:  # text that is not UTF-8 among them
        raise LeafkitError(
            f"{path} row {number}: no Parquet file, or damaged: {str(err).splitlines()[0]}",
            "write it again",
        ) from err
