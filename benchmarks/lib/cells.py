"""Measurements that are kept: each finished cell of a benchmark is a file, so that one that was
broken off goes on, and a report is written from what is there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.children import measure

FAILED = "failed"  # key of a cell that has no figures, with the reason


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement.

    Attributes:
        name: readable, of what is compared; in file names.
        words: of the child's command line; they decide about the result.
    """

    name: str
    words: tuple[str, ...]

    @property
    def file_name(self) -> str:
        """Of its figures: another command line is another file."""
        digest = hashlib.sha256(json.dumps(self.words).encode()).hexdigest()[:10]
        readable = "".join(c if c.isalnum() or c in "-_." else "_" for c in self.name)
        return f"{readable}-{digest}.json"


def read_cells(folder: Path, cells: Iterable[Cell]) -> dict[Cell, dict[str, Any]]:
    """Figures of the cells that are finished, or failed."""
    return {
        cell: json.loads((folder / cell.file_name).read_text(encoding="utf-8"))
        for cell in cells
        if (folder / cell.file_name).is_file()
    }


def is_done(figures: Mapping[str, Any] | None) -> bool:
    """Whether a cell has figures."""
    return figures is not None and FAILED not in figures


def run_missing(
    script: str, cells: Sequence[Cell], folder: Path, environment: Mapping[str, str]
) -> None:
    """Measure what has no figures yet, one child at a time. One that fails is noted and does not
    end the others; the next run tries it again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, cell in enumerate(cells, 1):
        if is_done(read_cells(folder, [cell]).get(cell)):
            continue
        print(f"{number} of {len(cells)}: {cell.name}", flush=True)
        try:
            figures = measure(script, cell.words, environment)
        except SystemExit as stop:
            figures = {FAILED: _last_line(str(stop))}
            print(f"  failed: {figures[FAILED]}", flush=True)
        write(folder / cell.file_name, figures)


def write(path: Path, figures: Mapping[str, Any]) -> None:
    """All of it or nothing."""
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(figures), encoding="utf-8")
    os.replace(draft, path)


def about_options(options: Any, corpus: str, **more: object) -> dict[str, object]:
    """What decides about the figures of a corpus.

    Args:
        options: of the command line: teacher, max_document_tokens, threads and words.
        corpus: as it is named there.
        more: beside them.
    """
    return {
        "corpus": corpus.rstrip("/"),
        **more,
        "teacher": options.teacher,
        "max_document_tokens": options.max_document_tokens,
        "threads": options.threads,  # times are among the figures
        "words": list(options.words),
    }


def check_about(path: Path, found: object, wanted: Mapping[str, object]) -> None:
    """Refuse a cell that was measured with other options.

    Raises:
        SystemExit: with what is different.
    """
    told = found if isinstance(found, dict) else {}
    apart = [f"{k} is {told.get(k)!r} there" for k in wanted if told.get(k) != wanted[k]]
    if apart:
        raise SystemExit(
            f"{path} was measured with other options ({', '.join(apart)}): take another --label "
            "or --folder"
        )


def check_one_case(found: Mapping[Cell, Mapping[str, Any]]) -> None:
    """Refuse figures of different collections or teachers in one report.

    Raises:
        SystemExit: with the names of two such cells.
    """
    first: dict[str, Cell] = {}
    for cell, figures in found.items():
        if is_done(figures):
            first.setdefault(figures["about"]["fingerprint"], cell)
    if len(first) > 1:
        names = " and ".join(cell.name for cell in first.values())
        raise SystemExit(
            f"{names} were measured on other documents, queries or teachers: the collection "
            "changed between them; take another --folder"
        )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no reason given"
