"""Other forms of a text: a statement as a question, words as pseudo-texts.

A student trained on texts that lack a form of query (keywords, questions) fails on that form.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

_NOT_VERBS = frozenset(
    "a an the this these those that it its is are was whether if when for with in on of to and "
    "or not no class base abstract"
    " various all any each both same also see note one two set common default internal private "
    "public"
    " given more logical new simple high low single multiple main current optional number list "
    "function method feature object"
    " data see utility helper wrapper tuple string integer float boolean".split()
)
_TEST = re.compile(r"^returns? true if ", re.IGNORECASE)
_OPENINGS = ("how do I {}", "how to {}", "how can I {}", "which function can {}")


def as_question(statement: str, seed: int) -> str | None:
    """``Compute the inverse of a matrix.`` as ``how do I compute the inverse of a matrix?``

    Works on a statement whose first word is a verb in the imperative or the third person, which is
    how Python's documentation is written (PEP 257); None for any other.
    """
    first = statement.rstrip(". ").split(". ")[0]
    words = _TEST.sub("check if ", first).split()
    if len(words) < 3 or not words[0].isalpha() or words[0].lower() in _NOT_VERBS:
        return None
    verb = words[0].lower()
    if verb.endswith(("ing", "ed", "ly", "ion", "ss", "er", "or")) and verb not in {
        "process",
        "pass",
        "compress",
    }:
        return None
    if verb.endswith("ies"):
        verb = verb[:-3] + "y"
    elif verb.endswith(("sses", "shes", "ches", "xes")):
        verb = verb[:-2]
    elif verb.endswith("s") and not verb.endswith("ss"):
        verb = verb[:-1]
    if words[1].lower() in {"of", "for", "is", "are", "that", "which", "to"}:
        return None
    opening = _OPENINGS[random.Random(f"{seed}:{statement}").randrange(len(_OPENINGS))]
    return opening.format(" ".join([verb, *words[1:]])) + "?"


def make_pseudo_texts(words: Sequence[str], count: int, seed: int) -> list[str]:
    """``count`` texts of 2 to 12 words drawn from a vocabulary: no meaning, but every subject a
    model knows.

    They hold a model to what it knew before it was tuned on one kind of text.
    """
    chooser = random.Random(f"pseudo:{seed}")
    longest = min(12, len(words))
    return (
        [
            " ".join(chooser.sample(words, chooser.randint(min(2, longest), longest)))
            for _ in range(count)
        ]
        if words
        else []
    )
