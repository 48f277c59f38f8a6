"""Text from elsewhere, made safe to show."""

from __future__ import annotations

# zero-width joiners: they belong to words of some scripts and to emoji, and no terminal obeys them
_KEPT = "\u200c\u200d"


def printable(text: str) -> str:
    """One line without characters that a terminal obeys: control codes, escapes, changes of the
    writing direction and line breaks are spaces, runs of which are one.

    >>> printable("a\\x1b[31mred\\r\\n  b")
    'a [31mred b'
    """
    shown = (c if c.isprintable() or c in _KEPT else " " for c in text)
    return " ".join("".join(shown).split())


def printable_lines(text: str) -> str:
    """The same with its line breaks and spaces left as they are; a tab is a space.

    >>> printable_lines("a\\x1b]0;b\\x07\\n  c")
    'a ]0;b \\n  c'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" or c in _KEPT else " " for c in text)
