"""Whether a text is surely not in the language asked for: scripts, accents and function words of
en, zh, fr and pl.

It judges only when it is sure, and it knows four languages: German text passes as short French, for
one. A wrong language that it lets through costs one bad row; a right one that it refuses costs a
request.
"""

from __future__ import annotations

import re

MIN_HITS = 3  # function words of another language before a text counts as written in it
MIN_WORDS = 25  # a text this long without one function word of its language is in another
# words that two of the languages share (to, on, by, do, i, plus, ten) are in none
_FUNCTION_WORDS = {
    "en": frozenset(
        (
            "the of and in that for with as are this from which have not be it you can how what "
            "an at when your their does"
        ).split()
    ),
    "fr": frozenset(
        "le la les l des du une un et est dans pour que qui qu sur avec au aux ce cette ces sont "
        "ne pas je vous nous il"
        " elle comment mon ma mes son sa ses être j".split()
    ),
    "pl": frozenset(
        "w na z się nie jest że jak dla od oraz są przez czy który która które jego jej tym tego "
        "przy może jako po u o"
        " ze tylko już".split()
    ),
}
_ACCENTED = {"fr": re.compile("[àâçèéêëîïôùûœ]"), "pl": re.compile("[ąćęłńśźż]")}
_WORD = re.compile(r"[^\W\d_]+")
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_LATIN = re.compile("[A-Za-z\u00aa-\u024f\u1e00-\u1eff]")


def count_han(text: str) -> int:
    """Chinese characters in a text."""
    return len(_HAN.findall(text))


def is_other_language(text: str, language: str) -> bool:
    """Whether ``text`` is surely not written in ``language`` (en, zh, fr or pl)."""
    num_han, num_latin = count_han(text), len(_LATIN.findall(text))
    num_foreign = sum(ch.isalpha() for ch in text) - num_han - num_latin
    if num_foreign >= 4 and num_foreign > 0.3 * (num_han + num_latin + num_foreign):
        return True  # Cyrillic, kana, Hangul, Arabic ...
    words = [word for word in _WORD.findall(text) if _LATIN.match(word)]
    if language == "zh":
        return len(words) >= 8 and num_han < len(words) / 2
    if num_han >= 4 and num_han > len(words):
        return True
    hits = {name: _count_hits(words, name) for name in _FUNCTION_WORDS}
    own = hits.pop(language)
    return any(count >= MIN_HITS and count > 2 * own for count in hits.values()) or (
        len(words) >= MIN_WORDS and own == 0
    )


def _count_hits(words: list[str], language: str) -> int:
    """Function words, and words whose accents only this language has; names (capitals) say nothing
    about the language.
    """
    accented = _ACCENTED.get(language)
    return sum(
        word.lower() in _FUNCTION_WORDS[language]
        or bool(accented and word[0].islower() and accented.search(word))
        for word in words
    )
