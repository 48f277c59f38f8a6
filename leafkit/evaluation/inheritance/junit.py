"""A grid for machines that collect test results, and for people who read why a gate failed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from leafkit.evaluation.inheritance.grid import NOT_INHERITED, UNDECIDED

# XML 1.0, section 2.2
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(grid: Mapping[str, Any]) -> str:
    """JUnit XML of a grid: a test case for each mode and cell.

    "not inherited" is a failure; "undecided" is skipped, and with ``strict`` a failure too.

    Args:
        grid: as in grid.json.
    """
    rows, strict = grid["rows"], bool(grid.get("strict"))
    verdicts = [row["verdict"] for row in rows]
    num_failed = verdicts.count(NOT_INHERITED) + (verdicts.count(UNDECIDED) if strict else 0)
    num_skipped = 0 if strict else verdicts.count(UNDECIDED)
    counts = {
        "tests": str(len(rows)),
        "failures": str(num_failed),
        "errors": "0",
        "skipped": str(num_skipped),
    }
    name = _clean(f"leafkit inherit on {grid.get('collection', 'vectors')}")
    suites = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(suites, "testsuite", {"name": name} | counts)
    for row in rows:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            {"classname": f"inherit.{row['mode']}", "name": _clean(describe_setting(row))},
        )
        if row["verdict"] == NOT_INHERITED or (strict and row["verdict"] == UNDECIDED):
            failure = ElementTree.SubElement(
                case, "failure", {"type": row["verdict"], "message": describe_gap(row)}
            )
            failure.text = describe_gap(row)
        elif row["verdict"] == UNDECIDED:
            ElementTree.SubElement(case, "skipped", {"message": f"undecided: {describe_gap(row)}"})
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def describe_setting(row: Mapping[str, Any]) -> str:
    """A row's setting: ``256-d int8, quantised queries, rescored x4``."""
    words = [f"{row['dim']}-d {row['precision']}"]
    if row.get("queries", "float") != "float":
        words.append(f"{row['queries']} queries")
    if row.get("rescoring"):
        words.append(f"rescored x{row['rescoring']}")
    return ", ".join(words)


def describe_gap(row: Mapping[str, Any]) -> str:
    """What was measured in a row, in one sentence."""
    return (
        f"the teacher keeps {row['teacher_retention']:.3f} of its nDCG@10 and the student "
        f"{row['student_retention']:.3f}:"
        f" gap {row['gap']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}], allowed "
        f"{row['max_gap']:.3f}"
    )


def describe_failures(grid: Mapping[str, Any], strict: bool) -> str:
    """A table of the cells that fail, "" where none does.

    Args:
        grid: as in grid.json.
        strict: undecided cells fail too.
    """
    failing = [
        r
        for r in grid["rows"]
        if r["verdict"] == NOT_INHERITED or (strict and r["verdict"] == UNDECIDED)
    ]
    if not failing:
        return ""
    header = ("mode", "setting", "teacher keeps", "student keeps", "gap", "allowed", "verdict")
    cells = [
        (
            row["mode"],
            describe_setting(row),
            f"{row['teacher_retention']:.3f}",
            f"{row['student_retention']:.3f}",
            f"{row['gap']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]",
            f"{row['max_gap']:.3f}",
            row["verdict"],
        )
        for row in failing
    ]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in (header, *cells)
    ]
    where = f"{grid.get('collection', 'the vectors given')}, {grid['num_queries']} queries"
    return "\n".join(
        [f"{len(failing)} of {len(grid['rows'])} settings are not inherited ({where}):", *lines]
    )


def _clean(text: str) -> str:
    return _NOT_IN_XML.sub("?", text)
