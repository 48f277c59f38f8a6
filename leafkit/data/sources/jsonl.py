"""Lines of JSON: one object per line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from leafkit.data.sources.bad_rows import BadRows
from leafkit.data.sources.files import read_lines
from leafkit.data.values import Row


def read_jsonl(path: Path, bad: BadRows) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a JSON-lines file, each with its file and line; empty lines are left out.

    Raises:
        LeafkitError: the file cannot be read, or a line is bad and the policy is to stop.
    """
    for where, line in read_json_lines(path):
        row = parse_json_line(where, line, bad)
        if row is not None:
            yield where, row


def read_json_lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """The lines that are not empty, not yet read as JSON."""
    return ((where, line) for where, line in read_lines(path) if line.strip())


def parse_json_line(where: str, line: bytes, bad: BadRows) -> Row | None:
    """The object on a line; None, and one bad row more, where there is none."""
    try:
        row = json.loads(line.decode("utf-8-sig"), object_pairs_hook=_once)
    except _GivenTwice as err:
        bad.refuse(where, str(err))
        return None
    # a number of thousands of digits is a ValueError too
    except (ValueError, RecursionError) as err:
        bad.refuse(where, f"not JSON in UTF-8: {err}")
        return None
    if isinstance(row, dict):
        return row
    hint = "write one object per line" if isinstance(row, list) else ""
    bad.refuse(where, f"a row must be an object, this is {type(row).__name__}", hint)
    return None


class _GivenTwice(Exception):
    """A key of an object stands twice: Python's reader would take the last."""


def _once(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _GivenTwice(f"{twice!r} is given twice")
    return row
