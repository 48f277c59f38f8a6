"""A grid for machines that collect test results, and for people who read why a gate failed."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from leafkit.results import GridCell, InheritanceGrid, Table
from leafkit.results.inheritance import NOTHING_TO_INHERIT, UNDECIDED

# XML 1.0, section 2.2
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(grid: InheritanceGrid) -> str:
    """JUnit XML of a grid: a test case for each mode and cell.

    "not inherited" is a failure; "nothing to inherit" is skipped; "undecided" is skipped, and where
    the grid is strict a failure too.
    """
    failing = grid.failing()
    skipped = (NOTHING_TO_INHERIT, *(() if grid.strict else (UNDECIDED,)))
    num_skipped = sum(grid.count(verdict) for verdict in skipped)
    counts = {
        "tests": str(len(grid.cells)),
        "failures": str(len(failing)),
        "errors": "0",
        "skipped": str(num_skipped),
    }
    name = _clean(f"leafkit inherit on {grid.collection or 'vectors'}")
    suites = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(suites, "testsuite", {"name": name} | counts)
    for cell in grid.cells:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            {"classname": f"inherit.{cell.mode}", "name": _clean(cell.setting)},
        )
        message = describe_gap(cell) + _describe_floor(grid, cell.mode)
        if cell in failing:
            failure = ElementTree.SubElement(
                case, "failure", {"type": cell.verdict, "message": message}
            )
            failure.text = message
        elif cell.verdict in skipped:
            ElementTree.SubElement(case, "skipped", {"message": f"{cell.verdict}: {message}"})
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _describe_floor(grid: InheritanceGrid, mode: str) -> str:
    if grid.min_retention is None:
        return ""
    kept = grid.of_teacher[mode].percent()
    return f"; of the teacher's own it keeps {kept}, floor {grid.min_retention:.0%}"


def describe_gap(cell: GridCell) -> str:
    """What was measured in a cell, in one sentence."""
    found = cell.gain_over_random
    gain = f"; the teacher's gain over random directions: {found.signed()}" if found else ""
    return (
        f"the teacher keeps {cell.teacher_retention.value:.3f} of its nDCG@10 and the student "
        f"{cell.student_retention.value:.3f}: gap {cell.gap.signed()}, allowed "
        f"{cell.max_gap:.3f}{gain}"
    )


def describe_failures(grid: InheritanceGrid, strict: bool | None = None) -> str:
    """A table of the cells that fail, "" where none does.

    Args:
        grid: what was measured.
        strict: whether undecided cells fail too; None takes what the grid says.
    """
    failing = grid.failing(strict)
    if not failing:
        return ""
    where = f"{grid.collection or 'the vectors given'}, {grid.num_queries} queries"
    table = Table(
        f"{len(failing)} of {len(grid.cells)} settings are not inherited ({where}):",
        ("mode", "setting", "teacher keeps", "student keeps", "gap", "allowed", "verdict"),
        "llrrrrl",
        tuple(
            (
                cell.mode,
                cell.setting,
                f"{cell.teacher_retention.value:.3f}",
                f"{cell.student_retention.value:.3f}",
                cell.gap.signed(),
                f"{cell.max_gap:.3f}",
                cell.verdict,
            )
            for cell in failing
        ),
    )
    return str(table)


def _clean(text: str) -> str:
    return _NOT_IN_XML.sub("?", text)
