"""Several runs side by side as one HTML file, and the reading of their reports."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from leafkit.core.checkpoint_layout import (
    BENCH_REPORT,
    DIAGNOSIS_REPORT,
    INHERIT_REPORT,
    REPORT_FILE,
)
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.report import facts, side_by_side
from leafkit.report.cells import note
from leafkit.report.html import page
from leafkit.report.markup import Safe, element
from leafkit.report.side_by_side import MAX_RUNS, Runs

_MEASURED = ("bench", "inherit", "diagnosis")  # a report holds at least one of them
_LISTS = {
    "bench": ("collections", "latency", "samples", "tasks", "indexes"),
    "inherit": ("rows",),
    "diagnosis": ("spectrum", "dims"),
}
# of runs that measured only; the whole road writes all in one
_PART_FILES = (
    f"{BENCH_REPORT}.json",
    f"{INHERIT_REPORT}.json",
    f"{DIAGNOSIS_REPORT}.json",
)
_REMEDY = (
    "leafkit distill, bench and inherit write reports into checkpoints/RECIPE; name that folder "
    "or such a file"
)


def read_reports(paths: Sequence[Path]) -> list[tuple[str, dict[str, Any]]]:
    """The reports of runs with a name for each that no other one has.

    Args:
        paths: folders of recipes, or report files under any name. Of a folder without report.json,
            the reports of bench, inherit and diagnosis count as one.

    Raises:
        UsageError: there is no such file, the same one is named twice, or there are none or too
            many.
        LeafkitError: a file is not readable, no JSON, or no report.
    """
    if not 1 <= len(paths) <= MAX_RUNS:
        raise UsageError(
            f"{len(paths)} runs were named, 1 to {MAX_RUNS} can be compared",
            "name the folders of some runs",
        )
    found = [_files_of(path) for path in paths]
    resolved = [files[0].resolve() for files in found]
    for file in resolved:
        if resolved.count(file) > 1:
            raise UsageError(f"{file} is named {resolved.count(file)} times", "name every run once")
    reports = [_merged([_read_report(file) for file in files]) for files in found]
    names = [
        str(data.get("name") or _place(file)) for file, data in zip(resolved, reports, strict=True)
    ]
    return [
        (name if names.count(name) == 1 else f"{name} ({_apart(file, resolved)})", data)
        for name, file, data in zip(names, resolved, reports, strict=True)
    ]


def _files_of(path: Path) -> list[Path]:
    """The report or reports that a path names.

    Raises:
        UsageError: there is none.
    """
    if not path.is_dir():
        files = [path] if path.is_file() else []
    else:
        whole = path / REPORT_FILE
        files = (
            [whole]
            if whole.is_file()
            else [path / name for name in _PART_FILES if (path / name).is_file()]
        )
    if not files:
        what = (
            f"{path} holds no {REPORT_FILE}" if path.is_dir() else f"no such file or folder: {path}"
        )
        raise UsageError(what, _REMEDY)
    return files


def _merged(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One report with the measured parts of all; the first one's word counts where they say the
    same thing twice.
    """
    return {key: value for report in reversed(reports) for key, value in report.items()}


def _place(file: Path) -> str:
    """The folder of a report that has its usual name, else the file's own name."""
    return file.parent.name if file.name == REPORT_FILE else file.stem


def _apart(file: Path, files: Sequence[Path]) -> str:
    """The shortest end of the path that no other file has."""
    parts = file.parts
    for length in range(1, len(parts) + 1):
        if sum(other.parts[-length:] == parts[-length:] for other in files) == 1:
            break
    tail = parts[-length:]
    return "/".join(tail[:-1] if tail[-1] == REPORT_FILE and len(tail) > 1 else tail)


def _read_report(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as err:
        raise LeafkitError(
            f"cannot read {file}: {err.strerror}", "give yourself permission to read it"
        ) from err
    except (ValueError, RecursionError) as err:
        raise LeafkitError(
            f"{file} is not valid JSON: {err}",
            "it is damaged; run its command again to write it anew",
        ) from err
    complaint = _complaint(data)
    if complaint:
        raise LeafkitError(f"{file} is no report of leafkit: {complaint}", _REMEDY)
    return data


def _complaint(data: Any) -> str:
    """What keeps parsed JSON from being a report; "" where nothing does."""
    if not isinstance(data, dict):
        return f"it holds a {type(data).__name__} where an object is needed"
    if not any(data.get(part) for part in _MEASURED):
        return f"it has none of the keys {', '.join(_MEASURED)}"
    objects = (*_MEASURED, "recipe", "versions", "hardware", "teacher", "student", "losses")
    wrong = [
        key for key in objects if data.get(key) is not None and not isinstance(data[key], dict)
    ]
    if wrong:
        return f"{wrong[0]} is a {type(data[wrong[0]]).__name__} where an object is needed"
    for part, lists in _LISTS.items():
        for key in lists:
            rows = (data.get(part) or {}).get(key)
            if rows is not None and not (
                isinstance(rows, list) and all(isinstance(row, dict) for row in rows)
            ):
                return f"{part}.{key} is not a list of objects"
    for number, collection in enumerate((data.get("bench") or {}).get("collections") or []):
        rows = collection.get("rows")
        if rows is not None and not (
            isinstance(rows, list) and all(isinstance(row, dict) for row in rows)
        ):
            return f"bench.collections[{number}].rows is not a list of objects"
    return ""


def render_comparison(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """The runs as columns, in one HTML document.

    Args:
        runs: a name for each run and what its stages measured, as ``read_reports`` gives them.
            Parts that are missing are left out; no two names are the same, and there are at most
            ``MAX_RUNS``.
    """
    sections = [section for build in side_by_side.SECTIONS if (section := build(runs)) is not None]
    title = runs[0][0] if len(runs) == 1 else f"{len(runs)} runs compared"
    versions = list(
        dict.fromkeys(str((data.get("versions") or {}).get("leafkit", "")) for _, data in runs)
    )
    return page(
        f"{title}: leafkit",
        _header(runs, title),
        sections,
        versions[0] if len(versions) == 1 else "",
    )


def _header(runs: Runs, title: str) -> Safe:
    items = [
        element(
            "li",
            side_by_side.swatch(place),
            element("b", name),
            note(" \N{MIDDLE DOT} ".join(_about(data))),
            element("p", " ".join(facts.opening_sentences(data)[:1])),
        )
        for place, (name, data) in enumerate(runs)
    ]
    return element("header", element("h1", title), element("ul", *items, class_="runs"))


def _about(data: Mapping[str, Any]) -> list[str]:
    commit = f"commit {str(data['commit'])[:12]}" if data.get("commit") else ""
    return [
        fact for fact in (str(data.get("created") or "")[:10], facts.machine(data), commit) if fact
    ]
