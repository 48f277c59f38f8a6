"""qrels/SPLIT.tsv: query, document and grade on a line, apart by tabs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

from leafkit.core.errors import UsageError
from leafkit.data.records import clean_text
from leafkit.data.sources.bad_rows import BadRows
from leafkit.data.sources.files import COMPRESSED, read_lines, what_is_wrong
from leafkit.data.sources.names import SPLIT_NAMES

# Of a query that several splits judge the first of these counts: what measures never trains.
_ORDER = ("test", "validation", "train")
_FORM = "a judgment is query-id, corpus-id and a whole number, tab-separated"


@dataclass(frozen=True, slots=True)
class Judgment:
    """One line: where it stands, and what it says."""

    where: str
    query: str
    document: str
    grade: int
    split: str


def split_files(folder: Path) -> list[tuple[Path, str]]:
    """The files of judgments with their splits, "" of those that are none, sorted by name.

    Raises:
        UsageError: no file has the name of a split, or one cannot be read.
    """
    endings = (".tsv", *(f".tsv{ending}" for ending in COMPRESSED))
    names = {path: path.name.partition(".")[0] for path in sorted(folder.iterdir())}
    found = [
        (path, SPLIT_NAMES.get(name, ""))
        for path, name in names.items()
        if path.name.removeprefix(name) in endings
    ]
    for path, _ in found:
        if reason := what_is_wrong(path):
            raise UsageError(f"{path} {reason}", "qrels holds train.tsv, dev.tsv, test.tsv")
    if not any(split for _, split in found):
        there = ", ".join(f"qrels/{path.name}" for path in names) or "nothing"
        raise UsageError(
            f"{folder} has no file with the name of a split (found: {there})",
            "call it train.tsv, dev.tsv (or validation.tsv) or test.tsv",
        )
    return found


def read_splits(
    files: list[tuple[Path, str]],
    bad: BadRows,
    counts: Counter[str],
    queries: Container[str],
    *,
    documents: Container[str],
) -> list[Judgment]:
    """The judgments of all splits, each pair of query and document once.

    A pair that stands twice with one grade is counted; with another grade it is a bad row. Of a
    query that several splits judge only one split's judgments stay.

    Args:
        files: see ``split_files``.
        bad: what to do with bad lines.
        counts: gets what was left out.
        queries: ids; they decide whether quotes around a field belong to it.
        documents: ids, likewise.
    """
    by_query: dict[str, dict[str, dict[str, Judgment]]] = {}
    for path, split in files:
        known = (queries, documents)
        if not split:
            num_judgments = sum(1 for _ in _read_file(path, "", bad, known, is_counted=True))
            counts[f"judgments in qrels/{path.name} left out (not a split)"] += num_judgments
            continue
        for found in _read_file(path, split, bad, known):
            own = by_query.setdefault(found.query, {}).setdefault(split, {})
            first = own.setdefault(found.document, found)
            if first is not found and first.grade == found.grade:
                counts["judgments given twice"] += 1
            elif first is not found:
                bad.refuse(
                    found.where,
                    f"query {found.query!r} and document {found.document!r} have grade "
                    f"{found.grade} here and {first.grade} in {first.where}",
                )
    kept: list[Judgment] = []
    for of_splits in by_query.values():
        taken, *others = [split for split in _ORDER if split in of_splits]
        kept += of_splits[taken].values()
        for other in others:
            what = f"{other} judgments of queries that {taken} judges too left out"
            counts[what] += len(of_splits[other])
    return kept


def _read_file(
    path: Path,
    split: str,
    bad: BadRows,
    known: tuple[Container[str], Container[str]],
    *,
    is_counted: bool = False,
) -> Iterator[Judgment]:
    """The judgments of a file; of one that is only counted nothing is checked."""
    is_first = True
    for where, line in read_lines(path):
        if not line.strip():
            continue
        try:
            fields = line.decode("utf-8-sig").rstrip("\r\n").split("\t")
        except UnicodeDecodeError as err:
            bad.refuse(where, f"not UTF-8: {err}")
            continue
        grade = _grade(fields[-1]) if len(fields) == 3 else None
        if is_first and len(fields) == 3 and grade is None and not _is_number(fields[2]):
            is_first = False
            continue  # BEIR's header
        is_first = False
        if grade is None and not is_counted:
            bad.refuse(where, f"{_FORM}; this is {fields!r}")
            continue
        query, document = (
            (fields[0], fields[1])
            if is_counted
            else (_plain(fields[0], known[0]), _plain(fields[1], known[1]))
        )
        yield Judgment(where, query, document, grade or 0, split)


def _plain(field: str, known: Container[str]) -> str:
    """An id as its row has it: quotes stay where they are part of it."""
    text = clean_text(field, Counter())
    if text not in known and len(text) > 1 and text[0] == text[-1] == '"':
        return clean_text(text[1:-1].replace('""', '"'), Counter())
    return text


def _grade(field: str) -> int | None:
    """A whole number, 1.0 among them; None where it is none."""
    try:
        value = float(field.strip().strip('"'))
        return int(value) if value == int(value) else None
    except (ValueError, OverflowError):
        return None


def _is_number(field: str) -> bool:
    try:
        float(field.strip().strip('"'))
    except ValueError:
        return False
    return True
