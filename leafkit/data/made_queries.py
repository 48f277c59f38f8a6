"""Queries made of documents, for collections that have few or none: titles and single sentences,
stretches of documents that have neither, and whole what is too short for any of these.

They are what a document says of itself, in its own language; nothing is rewritten.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Mapping, Sequence

from leafkit.data.records import Document

# after the full stop of a language that puts a space behind it, and of those that do not
_ENDS = re.compile(r"(?<=[.!?\u0964\u061f\u06d4])\s+|(?<=[\u3002\uff01\uff1f])|\n+")
_WORDS = range(5, 26)  # of a sentence; shorter ones say little, longer ones are no query
_CHARACTERS = range(8, 61)  # of a sentence in a script without spaces
_FEWEST_IN_TITLE = 2  # words
_MOST_IN_STRETCH, _MOST_CHARACTERS_IN_STRETCH = 12, 24  # words; characters without spaces
_WITHOUT_SPACES = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")


def make_queries_of(documents: Sequence[Document], count: int, seed: int) -> Mapping[str, int]:
    """At most ``count`` different texts: every document's title and first sentence before any
    document's second, those of one rank in random order. Each with the position of the document
    that it was made of: of several that hold the same words the first that was asked.

    >>> document = Document("a", "Bread rises when it is warm. Salt slows it.", "Baking bread")
    >>> sorted(make_queries_of([document], 9, seed=0))
    ['Baking bread', 'Bread rises when it is warm.']

    A document whole is no query: where it has no title and no single sentences, its words are cut
    into stretches. One that is too short for that, a product's name say, is asked as it is.

    >>> document = Document("b", "digital storage of great capacity with random and fast access")
    >>> sorted(make_queries_of([document, Document("c", "garden hose")], 9, seed=0))
    ['digital storage of great capacity', 'garden hose', 'with random and fast access']

    Args:
        documents: of the index.
        count: most that are made.
        seed: of the order.
    """
    chooser = random.Random(f"made:{seed}")
    waiting = [(place, _parts(document)) for place, document in enumerate(documents)]
    made: dict[str, int] = {}
    is_first = True
    while waiting and len(made) < count:
        chooser.shuffle(waiting)
        rest = []
        for place, parts in waiting:
            part = next(parts, None)
            if part is not None:
                rest.append((place, parts))
            elif is_first:
                # it waits no longer, so that it moves nothing in the order of the others
                part = _whole(documents[place])
            if not part:
                continue
            made.setdefault(part, place)
            if len(made) == count:
                break
        waiting, is_first = rest, False
    return made


def words_of(document: Document) -> set[str]:
    """All that a document has been read as: whole, its title, its text, every sentence of any
    length, and what ``make_queries_of`` makes of it; white space is single.

    >>> sorted(words_of(Document("a", "It rises.  Slowly.", "Bread")))
    ['Bread', 'Bread It rises. Slowly.', 'It rises.', 'It rises. Slowly.', 'Slowly.']
    """
    whole = (document.full_text, document.title, document.text)
    found = {" ".join(text.split()) for text in (*whole, *_ENDS.split(document.text))}
    return (found | set(_parts(document))) - {""}


def _parts(document: Document) -> Iterator[str]:
    """The title, then sentences in order; else stretches; else the one sentence that it is."""
    whole = _whole(document)
    parts = list(_title_and_sentences(document))
    yield from [part for part in parts if part != whole] or _stretches(whole) or parts


def _whole(document: Document) -> str:
    return " ".join(document.full_text.split())


def _title_and_sentences(document: Document) -> Iterator[str]:
    title = " ".join(document.title.split())
    if len(title.split()) >= _FEWEST_IN_TITLE or _is_sentence(title):
        yield title
    for sentence in _ENDS.split(document.text):
        text = " ".join(sentence.split())
        if _is_sentence(text):
            yield text


def _is_sentence(text: str) -> bool:
    return len(text.split()) in _WORDS if _is_spaced(text) else len(text) in _CHARACTERS


def _is_spaced(text: str) -> bool:
    """Whether it has more words between spaces than letters that need none: a Japanese name makes
    no Japanese text of an English one, nor English names an English one of a Japanese one, which
    counting all letters alike would do.

    >>> _is_spaced("Tokyo (東京) is the capital"), _is_spaced("PyTorchとTensorFlowの違い")
    (True, False)
    """
    num_letters = len(_WITHOUT_SPACES.findall(text))
    if not num_letters:
        return True
    others = _WITHOUT_SPACES.sub(" ", text).split()
    num_words = sum(any(letter.isalpha() for letter in word) for word in others)
    return num_letters < num_words


def _stretches(text: str) -> list[str]:
    """At least two parts, of nearly equal length."""
    is_spaced = _is_spaced(text)
    units = text.split() if is_spaced else list(text)
    longest = _MOST_IN_STRETCH if is_spaced else _MOST_CHARACTERS_IN_STRETCH
    count = max(2, -(-len(units) // longest))
    ends = [len(units) * i // count for i in range(count + 1)]
    joint = " " if is_spaced else ""
    found = [joint.join(units[a:b]).strip() for a, b in itertools.pairwise(ends)]
    return [part for part in found if _is_sentence(part)]
