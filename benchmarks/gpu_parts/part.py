"""One part of the run: what it is, how long it may take, its table and its bars."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Emit = Callable[[Row], None]
PROFILE, SKIPPED = "profile", "skipped"  # keys of rows that are no line of the table


@dataclass(frozen=True, slots=True)
class Setting:
    """What a part is told.

    Attributes:
        device: torch's name of the kind: cuda, or cpu in tiny mode.
        is_tiny: everything small: shows that the script works, measures nothing.
        peak_tflops: of the card; None where it is to be looked up by its name.
        folder: for what a part writes meanwhile.
    """

    device: str
    is_tiny: bool
    peak_tflops: float | None
    folder: Path


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a bar says of the rows.

    Attributes:
        what: that is measured.
        bar: in words.
        found: the value in words.
        is_reached: None where it was not measured.
    """

    what: str
    bar: str
    found: str = "not measured"
    is_reached: bool | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A part.

    Attributes:
        name: on the command line and in the rows.
        title: in the report.
        about: what is measured and how, in sentences.
        limit_s: seconds after which its process is ended.
        run: measures; gives every row to its second argument as soon as there is one.
        columns: header and format of each field of a row.
        judge: its bars.
    """

    name: str
    title: str
    about: str
    limit_s: float
    run: Callable[[Setting, Emit], None]
    columns: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    judge: Callable[[Sequence[Row]], list[Verdict]] = lambda rows: []


def at_least(what: str, bar: float, value: float | None, form: str = ".0%") -> Verdict:
    """A bar that a value is to reach; None was not measured."""
    words = f"at least {bar:{form}}"
    return (
        Verdict(what, words)
        if value is None
        else Verdict(what, words, f"{value:{form}}", value >= bar)
    )


def at_most(what: str, bar: float, value: float | None, form: str = ".2f") -> Verdict:
    """A bar that a value is not to exceed; None was not measured."""
    words = f"at most {bar:{form}}"
    return (
        Verdict(what, words)
        if value is None
        else Verdict(what, words, f"{value:{form}}", value <= bar)
    )


def of_way(rows: Sequence[Row], way: str, key: str) -> float | None:
    """A figure of the row whose way begins so; None where there is none."""
    found = [row[key] for row in rows if row.get("way", "").startswith(way) and key in row]
    return None if not found or found[-1] is None else float(found[-1])


def quotient(above: float | None, below: float | None) -> float | None:
    """Of two figures; None where one is missing."""
    return None if above is None or not below else above / below


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Add a row to a JSON-lines file, at once and as a whole: the process may be ended at any
    moment.
    """
    line = (json.dumps(row) + "\n").encode()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, line)
    finally:
        os.close(handle)


def read_rows(path: Path) -> list[Row]:
    """The rows of a file that ``append`` wrote.

    Raises:
        SystemExit: it is not there, or a line is no JSON.
    """
    if not path.is_file():
        raise SystemExit(f"{path}: there are no results to report; run without --report-only")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            rows.append(dict(json.loads(line)))
        except (ValueError, TypeError) as err:
            raise SystemExit(f"{path}, line {number} is no row of figures: {line[:80]!r}") from err
    return rows
