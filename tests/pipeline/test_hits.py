"""Hits: a sequence; shown as lines and as a table, and neither obeys what a document says."""

from __future__ import annotations

import pytest

from leafkit.core.printable import printable
from leafkit.pipeline.hits import Hits, SearchHit

HOSTILE = "\x1b[2J\x1b]0;owned\x07 <script>alert(1)</script>\r\n\u202edetrever\u2066 \x9b31m"


def make(*texts: str) -> Hits:
    items = tuple(SearchHit(f"d{i}", 1 - i / 10, text) for i, text in enumerate(texts))
    return Hits("which?", items, 10, 1.0, 2.0)


def test_it_is_a_sequence() -> None:
    hits = make("a", "b", "c")
    assert len(hits) == 3
    assert [hit.text for hit in hits] == ["a", "b", "c"]
    assert hits[1].id == "d1"
    assert [hit.id for hit in hits[1:]] == ["d1", "d2"]
    with pytest.raises(IndexError):
        _ = hits[3]


def test_lines_are_aligned_and_cut() -> None:
    lines = repr(make("a", "long " * 50)).splitlines()
    assert lines[0] == "2 of 10 documents for 'which?'"
    assert lines[1] == " 1. d0  1.000  a"
    assert lines[2].endswith("\N{HORIZONTAL ELLIPSIS}")
    assert len(lines[2]) < 100


def test_nothing_of_a_document_reaches_the_terminal_as_a_command() -> None:
    hits = Hits(HOSTILE, (SearchHit(HOSTILE, 0.5, HOSTILE),), 1, 0.0, 0.0)
    shown = repr(hits)
    assert len(shown.splitlines()) == 2
    assert all(c.isprintable() or c == "\n" for c in shown)


def test_nothing_of_a_document_is_markup_in_a_notebook() -> None:
    html = Hits(HOSTILE, (SearchHit(HOSTILE, 0.5, HOSTILE),), 1, 0.0, 0.0)._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert html.count("<tr>") == 2


def test_nothing_found_is_said() -> None:
    assert repr(make()) == "0 of 10 documents for 'which?'"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\tb\n\nc", "a b c"),
        ("é 語 \U0001f600", "é 語 \U0001f600"),
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        ),
        ("lone \ud800 surrogate", "lone surrogate"),
        ("", ""),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown
