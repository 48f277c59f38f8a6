"""Commands that take no words."""

from __future__ import annotations

from collections.abc import Sequence

from leafkit.core.errors import UsageError


def refuse_words(command: str, words: Sequence[str]) -> None:
    """Refuse words where a command takes none.

    Raises:
        UsageError: there are some.
    """
    if words:
        raise UsageError(f"{command} takes no words, not {words[0]!r}", f"leafkit {command}")
