"""Several runs side by side as one HTML file, and the reading of their reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from leafkit.core.checkpoint_layout import (
    BENCH_REPORT,
    DIAGNOSIS_REPORT,
    INHERIT_REPORT,
    REPORT_FILE,
)
from leafkit.core.errors import UsageError
from leafkit.report import facts, provenance, side_by_side
from leafkit.report.environment import render_page
from leafkit.report.side_by_side import MAX_RUNS, Run
from leafkit.results import RunReport, merge_reports

# reports of runs that measured only; leafkit distill writes all in one
_PART_FILES = [f"{part}.json" for part in (BENCH_REPORT, INHERIT_REPORT, DIAGNOSIS_REPORT)]
_SECTIONS = {
    "retrieval": "Retrieval",
    "inheritance": "Inheritance",
    "frontiers": "Quality against cost",
    "recipes": "What differs in the recipes",
    "origin": "How these were made",
}


def read_reports(paths: Sequence[Path]) -> list[tuple[str, RunReport]]:
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
    reports = [merge_reports([RunReport.load(file) for file in files]) for files in found]
    names = [report.name or file.stem for file, report in zip(resolved, reports, strict=True)]
    return [
        (name if names.count(name) == 1 else f"{name} ({_apart(file, resolved)})", report)
        for name, file, report in zip(names, resolved, reports, strict=True)
    ]


def _files_of(path: Path) -> list[Path]:
    """The report or reports that a path names.

    Raises:
        UsageError: there is none.
    """
    files = [path]
    if path.is_dir():
        files = [path / REPORT_FILE]
        if not files[0].is_file():
            files = [path / name for name in _PART_FILES]
    found = [file for file in files if file.is_file()]
    if not found:
        is_folder = path.is_dir()
        raise UsageError(
            f"{path} holds no {REPORT_FILE}" if is_folder else f"no such file or folder: {path}",
            "leafkit distill, bench and inherit write reports into checkpoints/RECIPE; name that "
            "folder or such a file",
        )
    return found


def _apart(file: Path, files: Sequence[Path]) -> str:
    """The shortest end of the path that no other file has."""
    parts = file.parts
    for length in range(1, len(parts) + 1):
        if sum(other.parts[-length:] == parts[-length:] for other in files) == 1:
            break
    tail = parts[-length:]
    return "/".join(tail[:-1] if tail[-1] == REPORT_FILE and len(tail) > 1 else tail)


def render_comparison(reports: Sequence[tuple[str, RunReport]]) -> str:
    """The runs as columns, in one HTML document; parts that no run measured are left out.

    Args:
        reports: a name for each run and its report, as ``read_reports`` gives them; no two names
            are the same, and there are at most ``MAX_RUNS``.
    """
    runs = [Run(name, report, tone) for tone, (name, report) in enumerate(reports, 1)]
    name = runs[0].name if len(runs) == 1 else f"{len(runs)} runs compared"
    versions = {provenance.version(run.report) for run in runs}
    return render_page(
        "comparison",
        _SECTIONS,
        title=f"{name}: leafkit",
        version=versions.pop() if len(versions) == 1 else "",
        name=name,
        runs=runs,
        heads=["", *(run.head for run in runs)],
        facts=facts,
        provenance=provenance,
        side_by_side=side_by_side,
    )
