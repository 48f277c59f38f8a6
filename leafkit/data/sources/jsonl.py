"""``jsonl:PATH``: one JSON object per line."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leafkit.config import DataConfig
from leafkit.core.errors import UsageError
from leafkit.data.records import Collection
from leafkit.data.sources.bad_rows import BadRows
from leafkit.data.sources.files import fingerprint_files
from leafkit.data.sources.finish import finish_collection
from leafkit.data.sources.rows import collect_rows, with_our_names


@dataclass(frozen=True, slots=True)
class JsonlSource:
    """Rows in a JSON-lines file.

    Attributes:
        uri: as the recipe names it.
        path: the file.
    """

    uri: str
    path: Path

    @classmethod
    def parse(cls, uri: str, rest: str) -> JsonlSource:
        """Read the address.

        Raises:
            UsageError: there is no such file.
        """
        if not Path(rest).is_file():
            what = f"source {uri}: no such file: {Path(rest).absolute()}"
            raise UsageError(what, "check the path")
        return cls(uri, Path(rest))

    def fingerprint(self, data: DataConfig) -> str:
        """Identity of the file's content."""
        return fingerprint_files(self.uri, self.path, data)

    def rows(self, bad: BadRows, limit: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """At most ``limit`` rows (0: all), each with where it stands.

        Raises:
            LeafkitError: one is no object and the policy is to stop.
        """
        rows = ((where, with_our_names(row)) for where, row in read_jsonl(self.path, bad))
        return itertools.islice(rows, limit or None)

    def read(self, data: DataConfig, *, limit: int, default_split: str) -> Collection:
        """The collection that the rows form.

        Raises:
            LeafkitError: it is empty, or a row is bad and the policy is to stop.
        """
        counts: Counter[str] = Counter()
        bad = BadRows(data.on_bad_row, data.max_bad_rows, counts)
        rows = self.rows(bad, limit)
        collection = collect_rows(self.path.stem, rows, bad, counts, default_split=default_split)
        return finish_collection(self.uri, collection, counts)


def read_jsonl(path: Path, bad: BadRows) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a JSON-lines file, each with its file and line; empty lines are left out."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            where = f"{path}:{number}"
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig"))
            except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as err:
                bad.refuse(where, f"not JSON in UTF-8: {err}")
                continue
            if isinstance(row, dict):
                yield where, row
            else:
                bad.refuse(where, f"a row must be an object, this is {type(row).__name__}")
