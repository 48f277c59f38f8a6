"""A part of a source that is too large to hold: rows drawn by their content, read one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from leafkit.config import DataConfig
from leafkit.data.records import Collection, Query
from leafkit.data.sources.bad_rows import BadRows
from leafkit.data.sources.beir import BeirSource
from leafkit.data.sources.delimited import read_cells
from leafkit.data.sources.finish import finish_collection
from leafkit.data.sources.jsonl import read_json_lines
from leafkit.data.sources.kinds import open_source
from leafkit.data.sources.parquet import read_parquet
from leafkit.data.sources.row_files import RowFile
from leafkit.data.sources.rows import collect_rows

_SPLIT = "test"  # of queries whose judgments nobody reads


def has_more_rows(uri: str, count: int) -> bool:
    """Whether a source is a file of more rows, or a folder of BEIR's layout with more documents;
    False of other kinds. No further row is read than it takes to know.

    Raises:
        UsageError: the source is of no known kind or does not exist.
        LeafkitError: the file cannot be read.
    """
    source = open_source(uri)
    if isinstance(source, BeirSource):
        source = _files_of(source)[0]
    if not isinstance(source, RowFile):
        return False
    rows = _raw_rows(source)
    return next(islice(rows, count, None), None) is not None


def _raw_rows(file: RowFile) -> Iterator[object]:
    if file.kind == "jsonl":
        return read_json_lines(file.path)
    if file.kind == "parquet":
        return read_parquet(file.path)
    rows = read_cells(file.path, "\t" if file.kind == "tsv" else ",")
    next(rows, None)  # the names
    return rows


def read_part(uri: str, data: DataConfig, limit: int) -> Collection:
    """At most ``limit`` rows of a source that is made of them, as it would be read whole; of BEIR's
    layout as many documents with a text, and as many queries, without their judgments.

    Raises:
        UsageError: the source is of no known kind or does not exist.
        LeafkitError: it is empty, or a row is bad and the policy is to stop.
    """
    source = open_source(uri)
    if not isinstance(source, BeirSource):
        return source.read(data, limit=limit, default_split="")
    plain = replace(data, columns={}, ignore_columns=[])  # BEIR's layout has names of its own
    counts: Counter[str] = Counter()
    bad = BadRows(data.on_bad_row, data.max_bad_rows, counts)
    documents, queries = _files_of(source)
    found = collect_rows(
        source.root.name,
        _with_text(documents.rows(plain, bad, limit), counts),
        bad,
        counts,
        default_split="",
    )
    of_queries = BadRows(data.on_bad_row, data.max_bad_rows, Counter())
    found.queries = [
        Query(str(row.get("id", where)), text, _SPLIT)
        for where, row in queries.rows(plain, of_queries, limit)
        if isinstance(text := row.get("text"), str) and text.strip()
    ]
    return finish_collection(uri, found, counts)


def _files_of(source: BeirSource) -> tuple[RowFile, RowFile]:
    """Documents and queries."""

    def file_of(name: str) -> RowFile:
        # a method of its own would give all kept collections another method, and make them anew
        path: Path = source._part(name)
        return RowFile(source.uri, "jsonl", path)

    return file_of("corpus.jsonl"), file_of("queries.jsonl")


def _with_text(
    rows: Iterator[tuple[str, dict[str, Any]]], counts: Counter[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Documents that have a title alone, under their title; none without either."""
    for where, row in rows:
        if row.get("text"):
            yield where, row
        elif row.get("title"):
            yield where, row | {"text": row["title"], "title": ""}
        else:
            counts["documents without text left out"] += 1
