"""``jsonl:PATH``, ``csv:PATH``, ``tsv:PATH``, ``parquet:PATH``: rows in a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from leafkit.config import DataConfig
from leafkit.data.records import Collection
from leafkit.data.sources.bad_rows import BadRows
from leafkit.data.sources.delimited import parse_cells, read_cells, read_header
from leafkit.data.sources.files import fingerprint_files, open_path
from leafkit.data.sources.finish import finish_collection
from leafkit.data.sources.jsonl import parse_json_line, read_json_lines
from leafkit.data.sources.names import Columns
from leafkit.data.sources.parquet import read_parquet
from leafkit.data.sources.rows import collect_rows
from leafkit.data.sources.sample import choose_rows, row_content
from leafkit.data.values import Row

FILE_KINDS = ("jsonl", "csv", "tsv", "parquet")


@dataclass(frozen=True, slots=True)
class RowFile:
    """Rows in a file, which may be compressed (.gz, .bz2, .xz, .zst).

    Attributes:
        uri: as the recipe names it.
        kind: one of ``FILE_KINDS``.
        path: the file.
    """

    uri: str
    kind: str
    path: Path

    @classmethod
    def parse(cls, uri: str, kind: str, rest: str) -> RowFile:
        """Read the address.

        Raises:
            UsageError: there is no such file.
        """
        return cls(uri, kind, open_path(uri, rest))

    def fingerprint(self, data: DataConfig) -> str:
        """Identity of the file's content and of the names of its columns."""
        content = fingerprint_files(self.uri, self.path, [self.path], data)
        return Columns.of(data).fingerprint(content)

    def rows(
        self, data: DataConfig, bad: BadRows, limit: int
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """At most ``limit`` rows (0: all), a random sample in the file's order, each with where it
        stands and under our names.

        Raises:
            LeafkitError: the file cannot be read, or a row is bad and the policy is to stop.
        """
        found: Iterator[tuple[str, Row | None]]
        if self.kind == "jsonl":
            lines = choose_rows(partial(read_json_lines, self.path), limit, bad.counts, bytes.strip)
            found = ((where, parse_json_line(where, line, bad)) for where, line in lines)
        elif self.kind == "parquet":
            rows = choose_rows(partial(read_parquet, self.path), limit, bad.counts, row_content)
            found = ((where, row) for where, row in rows)
        else:
            found = self._read_cells(bad, limit)
        yield from Columns.of(data).rename(
            ((where, row) for where, row in found if row is not None), bad
        )

    def _read_cells(self, bad: BadRows, limit: int) -> Iterator[tuple[str, dict[str, Any] | None]]:
        delimiter = "\t" if self.kind == "tsv" else ","
        names = read_header(self.path, delimiter)

        def body() -> Iterator[tuple[str, list[str]]]:
            rows = read_cells(self.path, delimiter)
            next(rows)  # the names
            return rows

        for where, cells in choose_rows(body, limit, bad.counts, _content_of_cells):
            yield where, parse_cells(where, cells, names, bad)

    def read(self, data: DataConfig, *, limit: int, default_split: str) -> Collection:
        """The collection that the rows form.

        Raises:
            LeafkitError: it is empty, or a row is bad and the policy is to stop.
        """
        counts: Counter[str] = Counter()
        bad = BadRows(data.on_bad_row, data.max_bad_rows, counts)
        collection = collect_rows(
            self.path.name.partition(".")[0],
            self.rows(data, bad, limit),
            bad,
            counts,
            default_split=default_split,
            is_sample=limit > 0,
        )
        return finish_collection(self.uri, collection, counts)


def _content_of_cells(cells: list[str]) -> bytes:
    return "\0".join(cells).encode("utf-8", "replace")
