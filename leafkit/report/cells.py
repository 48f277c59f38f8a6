"""What the report's tables and charts are filled with: cells of two lines, verdicts as badges,
bars, colours of systems.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leafkit.report import facts
from leafkit.report import figures as fig
from leafkit.report.bars import Bar
from leafkit.report.markup import Safe, badge, element, join

TONES = {"teacher": 1, "symmetric": 2, "asymmetric": 3, "baseline": 4, "bm25": 5, "reversed": 7}
OTHER_TONE = 6
INHERIT_BADGES = {
    "inherited": ("pass", "\N{CHECK MARK}"),
    "not inherited": ("fail", "\N{BALLOT X}"),
}
_NOISE_BADGES = {
    "within noise": ("open", "\N{ALMOST EQUAL TO}"),
    "higher": ("pass", "\N{UPWARDS ARROW}"),
    "lower": ("fail", "\N{DOWNWARDS ARROW}"),
}
OPEN_BADGE = ("open", "?")

Data = Mapping[str, Any]


def bar(label: str, cell: Data, tone: int, text: str) -> Bar:
    """A score with its interval, if it has one, as a bar."""
    low, high = (cell["low"], cell["high"]) if fig.has_interval(cell) else (None, None)
    return Bar(label, cell["mean"], low, high, tone, text)


def two_lines(first: object, second: object) -> Safe:
    """A cell whose second line is smaller; without one it has one line."""
    return join((first, " ", element("small", second))) if second else join((first,))


def stacked(text: str) -> Safe:
    """An estimate with its interval in a second, smaller line."""
    estimate, _, bounds = text.partition(" ")
    return two_lines(estimate, bounds)


def noise_badge(row: Data) -> Safe:
    """What the interval of a difference allows one to say."""
    words = fig.noise_verdict(row)
    return badge(*_NOISE_BADGES.get(words, OPEN_BADGE), words)


def inherit_badge(row: Data) -> Safe:
    """The verdict on one setting of the inheritance check."""
    words = str(row.get("verdict", "undecided"))
    return badge(*INHERIT_BADGES.get(words, OPEN_BADGE), words)


def note(*children: object) -> Safe:
    """A paragraph in small print."""
    return element("p", *children, class_="note")


def notes_on(collection: Data) -> Safe:
    """Contamination and dropped documents below a collection's scores, with the texts that training
    has seen.
    """
    lines = note("; ".join(facts.notes_on(collection)))
    found = collection.get("contamination")
    examples = (found.get("examples") if isinstance(found, Mapping) else None) or []
    if not examples:
        return lines
    items = [
        element(
            "li",
            element("b", str(e.get("kind", "?"))),
            ": ",
            element("q", _short(e.get("evaluation", "?"))),
            " in training as ",
            element("q", _short(e.get("training", "?"))),
        )
        for e in examples
    ]
    return join(
        (
            lines,
            element(
                "details",
                element("summary", f"{len(items)} example{'s' * (len(items) > 1)}"),
                element("ul", *items, class_="note"),
            ),
        )
    )


def _short(text: object) -> str:
    return fig.shorten(text, 160)
