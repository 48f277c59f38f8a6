"""Queries made of documents, for collections that have few or none: titles and single sentences.

They are what a document says of itself, in its own language; nothing is rewritten.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence

from leafkit.data.records import Document

# after the full stop of a language that puts a space behind it, and of those that do not
_ENDS = re.compile(r"(?<=[.!?\u0964\u061f])\s+|(?<=[\u3002\uff01\uff1f])|\n+")
_WORDS = range(5, 26)  # of a sentence; shorter ones say little, longer ones are no query
_CHARACTERS = range(8, 61)  # of a sentence in a script without spaces
_FEWEST_IN_TITLE = 2  # words
_WITHOUT_SPACES = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")


def make_queries(documents: Sequence[Document], count: int, seed: int) -> list[str]:
    """At most ``count`` different texts: every document's title and first sentence before any
    document's second, those of one rank in random order.

    >>> document = Document("a", "Bread rises when it is warm. Salt slows it.", "Baking bread")
    >>> sorted(make_queries([document], 9, seed=0))
    ['Baking bread', 'Bread rises when it is warm.']

    Args:
        documents: of the index.
        count: most that are made.
        seed: of the order.
    """
    chooser = random.Random(f"made:{seed}")
    waiting = [_parts(document) for document in documents]
    made: dict[str, None] = {}
    while waiting and len(made) < count:
        chooser.shuffle(waiting)
        rest = []
        for parts in waiting:
            part = next(parts, None)
            if part is None:
                continue
            made[part] = None
            rest.append(parts)
            if len(made) == count:
                break
        waiting = rest
    return list(made)


def _parts(document: Document) -> Iterator[str]:
    """The title, then sentences in order."""
    title = " ".join(document.title.split())
    if len(title.split()) >= _FEWEST_IN_TITLE or _is_sentence(title):
        yield title
    for sentence in _ENDS.split(document.text):
        text = " ".join(sentence.split())
        if _is_sentence(text):
            yield text


def _is_sentence(text: str) -> bool:
    if _WITHOUT_SPACES.search(text):
        return len(text) in _CHARACTERS
    return len(text.split()) in _WORDS
