"""The kinds of sources behind one interface, and the functions that everybody else uses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from leafkit.config import DataConfig
from leafkit.core.errors import UsageError
from leafkit.data.records import Collection
from leafkit.data.sources.bad_rows import BadRows
from leafkit.data.sources.beir import BeirSource
from leafkit.data.sources.hub import HubSource
from leafkit.data.sources.installed import MtebSource, PydocsSource
from leafkit.data.sources.row_files import FILE_KINDS, RowFile

KINDS = (
    "builtin:pydocs",
    "builtin:pydocs-out-of-domain",
    "jsonl:PATH",
    "csv:PATH",
    "tsv:PATH",
    "parquet:PATH",
    "beir:PATH",
    "hf:NAME[:CONFIG]@SPLIT[#REVISION]",
    "mteb:TASK[:SUBSET][@SPLIT]",
)


class Source(Protocol):
    """Something that a collection can be read from."""

    def fingerprint(self, data: DataConfig) -> str:
        """Identity of its content, without reading all of it where that can be helped."""

    def read(self, data: DataConfig, *, limit: int, default_split: str) -> Collection:
        """The collection; of sources made of rows a random ``limit`` of them (0: all), and pairs
        that state no split are of ``default_split``.
        """


def open_source(uri: str) -> Source:
    """The source that an address names.

    Raises:
        UsageError: it is of no known kind, or does not exist.
    """
    kind, _, rest = uri.partition(":")
    if rest and kind == "builtin":
        return PydocsSource.parse(uri, rest)
    if rest and kind in FILE_KINDS:
        return RowFile.parse(uri, kind, rest)
    if rest and kind == "beir":
        return BeirSource.parse(uri, rest)
    if rest and kind == "mteb":
        return MtebSource(uri, rest)
    if kind == "hf" and "@" in rest:
        return HubSource.parse(uri, rest)
    raise UsageError(f"unknown source {uri!r}", f"a source is one of {', '.join(KINDS)}")


def read_collection(
    uri: str, data: DataConfig, limit: int = 0, default_split: str = ""
) -> Collection:
    """The collection a source names; of rows in files and of hf a random ``limit`` (0: all).

    Pairs that state no split are of ``default_split``; without one, a hash of the query decides.

    Raises:
        UsageError: the source is of no known kind or does not exist.
        LeafkitError: it is empty, or a row is bad and the policy is to stop.
    """
    return open_source(uri).read(data, limit=limit, default_split=default_split)


def read_source(uri: str, limit: int, data: DataConfig) -> Collection:
    """The collection of a source of which ``limit`` texts of each role train a student (0: all).

    Of a data set in the form of ``hf:`` as many rows are read, for it may have more than a machine
    holds; other sources are read whole, and their texts drawn then: rows of a file may name each
    other.

    Raises:
        UsageError: the source is of no known kind or does not exist.
        LeafkitError: it is empty, or a row is bad and the policy is to stop.
    """
    source = open_source(uri)
    rows = limit if isinstance(source, HubSource) else 0
    return source.read(data, limit=rows, default_split="")


def source_fingerprint(uri: str, data: DataConfig) -> str:
    """Identity of a source's content, without reading all of it where that can be helped.

    Raises:
        UsageError: the source is of no known kind or does not exist.
    """
    return open_source(uri).fingerprint(data)


def has_raw_rows(uri: str) -> bool:
    """Whether a source is made of rows, so that ``read_raw_rows`` reads it.

    Raises:
        UsageError: the source is of no known kind or does not exist.
    """
    return isinstance(open_source(uri), RowFile | HubSource)


def read_raw_rows(
    uri: str, bad: BadRows, limit: int = 0, data: DataConfig | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a source that is made of them, under our names, each with where it stands; a random
    ``limit`` of them (0: all).

    Args:
        uri: of the source.
        bad: what to do with bad rows.
        limit: rows taken.
        data: the names of columns; None has none of its own.

    Raises:
        UsageError: the source is of no known kind, does not exist, or is not made of rows.
    """
    source = open_source(uri)
    if isinstance(source, RowFile | HubSource):
        return source.rows(data or DataConfig(), bad, limit)
    raise UsageError(
        f"source {uri} has no rows of texts with labels or scores",
        "jsonl:PATH, csv:PATH, tsv:PATH, parquet:PATH and hf:NAME@SPLIT do",
    )
