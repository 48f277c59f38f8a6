"""Files of comma- or tab-separated values with names of columns in the first row."""

from __future__ import annotations

import contextlib
import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from leafkit.core.errors import LeafkitError
from leafkit.data.sources.bad_rows import BadRows
from leafkit.data.sources.files import read_lines
from leafkit.data.values import Row

# whose cells are numbers, though a file of text has them as text
_NUMERIC = ("score", "scores", "pos_score", "neg_score", "positive_score", "negative_score")
_MAX_FIELD_CHARS = 2**28

Cells = list[str]


def read_cells(path: Path, delimiter: str) -> Iterator[tuple[str, Cells]]:
    """Rows of a file, the first holds the names of its columns; rows without any cell are left out.

    Values apart by commas may be quoted as RFC 4180 says, line ends inside included. Those apart by
    tabs hold neither tabs nor line ends, so that a quote inside is a quote.

    Raises:
        LeafkitError: the file cannot be read, is not in UTF-8, or ends inside quotes.
    """
    if delimiter == "\t":
        for where, text in _decode(path):
            if text.strip():
                yield where, [_unquote(cell) for cell in text.rstrip("\r\n").split("\t")]
        return
    before, now = csv.field_size_limit(), ""

    def lines() -> Iterator[str]:
        nonlocal now
        for now, text in _decode(path):  # noqa: B007
            yield text

    csv.field_size_limit(max(before, _MAX_FIELD_CHARS))
    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    start = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as err:
            raise LeafkitError(
                f"{path}:{start}: no row of comma-separated values: {err}",
                "quote cells that hold commas, quotes or line ends, and double quotes inside",
            ) from err
        if any(cell.strip() for cell in cells):
            yield f"{path}:{start}", cells
        start = reader.line_num + 1


def _decode(path: Path) -> Iterator[tuple[str, str]]:
    is_first = True
    for where, line in read_lines(path):
        try:
            yield where, line.decode("utf-8-sig" if is_first else "utf-8")
        except UnicodeDecodeError as err:
            raise LeafkitError(f"{where}: not UTF-8: {err}", "write the file in UTF-8") from err
        is_first = False


def _unquote(cell: str) -> str:
    """A cell that was quoted because of quotes inside, as pandas writes it; else as it is."""
    if len(cell) > 1 and cell[0] == cell[-1] == '"':
        inner = cell[1:-1]
        if '"' in inner and '"' not in inner.replace('""', ""):
            return inner.replace('""', '"')
    return cell


def read_header(path: Path, delimiter: str) -> Cells:
    """The names of the columns.

    Raises:
        LeafkitError: there is no row, or a name is empty or stands twice.
    """
    _, names = next(read_cells(path, delimiter), ("", []))
    names = [name.strip() for name in names]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if not names or not all(names) or twice:
        what = f"a column called {twice[0]!r} twice" if twice and twice[0] else "no name"
        raise LeafkitError(
            f"{path}:1: the first row has {what if names else 'no columns'}; it holds the names of "
            "the columns",
            "give every column a name of its own",
        )
    return names


def parse_cells(where: str, cells: Cells, names: Cells, bad: BadRows) -> Row | None:
    """A row by the names of its columns, without cells that are empty; None, and one bad row more,
    where it has not a cell for each.
    """
    if len(cells) != len(names):
        bad.refuse(where, f"{len(cells)} cells for {len(names)} columns ({', '.join(names)})")
        return None
    row: dict[str, Any] = {}
    for name, cell in zip(names, cells, strict=True):
        row[name] = cell or None
        if name in _NUMERIC and cell:
            with contextlib.suppress(ValueError):  # whoever reads the row says that it is no number
                row[name] = float(cell)
    return row
