"""``benchmarks/natural_questions.jsonl``: well formed, and its answers exist where they are said to
be.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import pytest

from leafkit.data import pydocs

QUESTIONS = Path(__file__).parents[2] / "benchmarks" / "natural_questions.jsonl"
PACKAGES = ("stdlib", "torch", "numpy", "scipy", "sklearn", "pandas", "networkx")
MIN_QUESTIONS = 130
MIN_FOUND = 0.95


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return [
        json.loads(line)
        for line in QUESTIONS.read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]


def package_of(name: str) -> str | None:
    """The package of PACKAGES that a qualified name belongs to, None for a stranger."""
    root = name.split(".")[0]
    if root in PACKAGES and root != "stdlib":
        return root
    # distutils left in 3.12
    return "stdlib" if root in sys.stdlib_module_names or root == "distutils" else None


def test_there_are_enough_questions(rows):
    assert len(rows) >= MIN_QUESTIONS


def test_rows_have_exactly_the_expected_fields(rows):
    for row in rows:
        assert set(row) == {"id", "query", "accepted"}, row
        assert row["query"], row
        assert row["query"] == row["query"].strip(), row


@pytest.mark.parametrize("field", ["id", "query"])
def test_ids_and_queries_are_unique(rows, field):
    counts = Counter(row[field].lower() for row in rows)
    assert [value for value, count in counts.items() if count > 1] == []


def test_every_question_has_distinct_accepted_names(rows):
    for row in rows:
        assert row["accepted"], row["id"]
        assert len(set(row["accepted"])) == len(row["accepted"]), row["id"]


def test_every_accepted_name_belongs_to_a_known_package(rows):
    assert [name for row in rows for name in row["accepted"] if package_of(name) is None] == []


def test_every_package_is_asked_about(rows):
    counts = Counter(
        package for row in rows for package in {package_of(name) for name in row["accepted"]}
    )
    assert {package: counts[package] for package in PACKAGES if counts[package] < 10} == {}


@pytest.mark.slow
def test_accepted_names_exist_on_the_installed_versions(rows):
    """Names move between versions, so a few may be missing; the message lists them."""
    installed = [package for package in PACKAGES if pydocs.find_package(package) is not None]
    wanted = {name for row in rows for name in row["accepted"] if package_of(name) in installed}
    needed = tuple(
        package for package in installed if any(package_of(name) == package for name in wanted)
    )
    entries, _ = pydocs.read_packages(needed)
    missing = sorted(wanted - {entry.name for entry in entries})
    found = 1 - len(missing) / len(wanted)
    assert found >= MIN_FOUND, (
        f"{len(missing)} of {len(wanted)} accepted names are gone: {', '.join(missing)}"
    )
