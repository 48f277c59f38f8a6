"""Evaluation texts that training saw: exact duplicates, and near ones that share a run of words.

A text is reduced to its words: NFKC, lower case, whitespace and punctuation left out. Two texts
with the same words are exact duplicates. Texts that share a run of 13 words are near duplicates
(GPT-3, arXiv 2005.14165, appendix C); a text of fewer words has no such run and can only be an
exact duplicate. Scripts without spaces between words count characters.

Words and runs are compared by 64-bit hashes. Two different runs get the same one with probability
2^-64, so 50 million runs of training texts against 5 million of evaluation texts give one false
match in 70,000 such checks: they are not compared again.
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from leafkit.core.errors import UsageError
from leafkit.results import Contamination, Overlap, OverlapExample

ROLES = ("queries", "documents")
MAX_EXAMPLES = 5  # shown per collection, queries first
SHOWN_CHARACTERS = 160  # of each text of an example
# of training texts hashed at a time: 2 MiB per array, which stays in a processor's cache
_WORDS_PER_BATCH = 1 << 18
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying by it loses nothing mod 2^64
_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Myanmar, Khmer
    "\u3005-\u3007\u3021-\u3029\u3040-\u30ff\u31f0-\u31ff"  # kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
# Blocks that hold marks or scripts without spaces; without them \w+ splits as well and three times
# as fast.
_NEEDS_CARE = re.compile("[\u0300-\u036f\u0483-\u0489\u0530-\u1dff\u20d0-\u20ff\u2cef-\U0010ffff]")
_ASCII_WORD, _PLAIN_WORD = re.compile(r"[a-z0-9]+"), re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The texts of a collection that figures depend on."""

    queries: Sequence[str]
    documents: Sequence[str]


@functools.cache
def _any_word() -> re.Pattern[str]:
    """The words of a text in any script: a character where there are no spaces, else letters,
    digits and their marks.

    ``\\w`` leaves marks out and would cut Hindi words at every vowel.
    """
    ranges: list[list[int]] = []
    for i in range(sys.maxunicode + 1):
        if unicodedata.category(chr(i)) in {"Mn", "Mc"}:
            if ranges and ranges[-1][1] == i - 1:
                ranges[-1][1] = i
            else:
                ranges.append([i, i])
    marks = "".join(f"{chr(a)}-{chr(b)}" for a, b in ranges)
    return re.compile(rf"[{_SPACELESS}][{marks}]*|(?:(?![_{_SPACELESS}])[\w{marks}])+")


def split_words(text: str) -> list[str]:
    """The words that two texts are compared by.

    >>> split_words("The  Matrix-free solver, v2.0!")
    ['the', 'matrix', 'free', 'solver', 'v2', '0']
    """
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    if not _NEEDS_CARE.search(folded):
        return _PLAIN_WORD.findall(folded)
    return [
        word
        for word in _any_word().findall(folded)
        if not unicodedata.category(word[0]).startswith("P")
    ]


def hash_runs(words: np.ndarray, lengths: np.ndarray, run: int) -> tuple[np.ndarray, np.ndarray]:
    """Hash of every run of ``run`` words inside one text: sum of word_j * m^(run - 1 - j), mod
    2^64.

    Args:
        words: (W,) uint64 hashes of the words of several texts, one text after the other.
        lengths: (T,) words of each text.
        run: words in a run.

    Returns:
        (S,) uint64 hashes and (S,) numbers of the texts they are of, in order.
    """
    num_starts = max(0, len(words) - run + 1)
    text = np.repeat(np.arange(len(lengths)), lengths)[:num_starts]
    ends = np.cumsum(lengths)
    inside = np.arange(num_starts) + run <= ends[text]
    hashes = np.zeros(num_starts, dtype=np.uint64)
    for j in range(run if num_starts else 0):
        hashes *= _MULTIPLIER
        hashes += words[j : j + num_starts]
    return hashes[inside], text[inside]


@dataclass(slots=True)
class _Batch:
    """Texts with the hashes of their words: ``whole`` (T,) of each text, 0 for one without words;
    ``words`` (W,).
    """

    texts: list[str]
    whole: np.ndarray
    words: np.ndarray
    lengths: np.ndarray


def _batches(texts: Iterable[str]) -> Iterator[_Batch]:
    """Texts hashed by about ``_WORDS_PER_BATCH`` words at a time.

    Python's hash of a string is SipHash under a key that each process draws: no text can be made to
    collide with another.
    """
    held: list[str] = []
    whole: list[int] = []
    words: list[int] = []
    lengths: list[int] = []

    def flush() -> _Batch:
        hashes = np.array(words, dtype=np.int64).view(np.uint64)
        batch = _Batch(
            list(held),
            np.array(whole, dtype=np.int64).view(np.uint64),
            hashes,
            np.array(lengths, dtype=np.int64),
        )
        for column in (held, whole, words, lengths):
            column.clear()
        return batch

    for text in texts:
        found = split_words(text)
        held.append(text)
        whole.append(hash(" ".join(found)) if found else 0)
        words.extend(map(hash, found))
        lengths.append(len(found))
        if len(words) >= _WORDS_PER_BATCH or len(held) >= _WORDS_PER_BATCH:
            yield flush()
    if held:
        yield flush()


class _Lookup:
    """Distinct hashes that are looked for, each with the number of the training text it was first
    seen in, or -1.
    """

    def __init__(self, hashes: np.ndarray) -> None:
        self.values, self.inverse = np.unique(hashes, return_inverse=True)
        self.seen_in = np.full(len(self.values), -1, dtype=np.int64)
        bits = int(np.clip(np.ceil(np.log2(16 * max(1, len(self.values)))), 10, 28))
        self._mask = np.uint64((1 << bits) - 1)
        # most hashes of training texts end at one look into this table
        self._may_hold = np.zeros(1 << bits, dtype=bool)
        self._may_hold[self.values & self._mask] = True

    def mark(self, hashes: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """Look up the hashes (S,) of training texts with these numbers (S,); numbers of the texts
        that hold something new.
        """
        rows = np.flatnonzero(self._may_hold[hashes & self._mask])
        if not len(rows) or not len(self.values):
            return texts[:0]
        places = np.searchsorted(self.values, hashes[rows]).clip(max=len(self.values) - 1)
        is_new = (self.values[places] == hashes[rows]) & (self.seen_in[places] < 0)
        places, found = places[is_new], texts[rows[is_new]]
        self.seen_in[places[::-1]] = found[::-1]  # of several at one place the first stays
        return found


@dataclass(slots=True)
class _Watched:
    """All evaluation texts in one row, (T,), and what is looked for: the hash of each and those of
    its runs.

    ``owner`` (S,) says which text a run is of; ``shown`` keeps the beginning of each training text
    that held something new.
    """

    texts: list[str]
    wholes: np.ndarray
    exact: _Lookup
    near: _Lookup
    owner: np.ndarray
    shown: dict[int, str] = field(default_factory=dict)


def find_overlaps(
    training: Iterable[str], evaluations: Mapping[str, Evaluation], overlap_words: int
) -> dict[str, Contamination]:
    """Evaluation texts of several collections that occur among training texts, in one pass over the
    training texts.

    Time is linear in the words of both. Memory is that of the evaluation texts' runs (about 50
    bytes each) and of one batch.

    Args:
        training: texts, read once and not kept.
        evaluations: by name of the collection.
        overlap_words: words in a run that makes near duplicates.

    Returns:
        By name of the collection. An exact duplicate is no near one; a text without words is no
        duplicate of anything.

    Raises:
        UsageError: ``overlap_words`` is not positive.
    """
    if overlap_words < 1:
        raise UsageError(
            f"bench.overlap_words={overlap_words} is not positive", "13 words are usual"
        )
    parts = [
        (name, role, getattr(evaluation, role))
        for name, evaluation in evaluations.items()
        for role in ROLES
    ]
    watched = _watch([text for _, _, texts in parts for text in texts], overlap_words)
    num_training = 0
    for batch in _batches(training):
        hashes, text = hash_runs(batch.words, batch.lengths, overlap_words)
        numbers = np.arange(num_training, num_training + len(batch.texts))
        found = [watched.exact.mark(batch.whole, numbers), watched.near.mark(hashes, numbers[text])]
        for number in np.unique(np.concatenate(found)).tolist():
            watched.shown[number] = shorten(batch.texts[number - num_training])
        num_training += len(batch.texts)
    exact = (watched.exact.seen_in[watched.exact.inverse] >= 0) & (watched.wholes != 0)
    runs_seen = np.bincount(
        watched.owner, watched.near.seen_in[watched.near.inverse] >= 0, minlength=len(watched.texts)
    )
    near = (runs_seen > 0) & ~exact
    return _summarise(parts, watched, exact, near, num_training=num_training)


def _watch(texts: list[str], overlap_words: int) -> _Watched:
    wholes, runs, owners, offset = (
        [np.zeros(0, np.uint64)],
        [np.zeros(0, np.uint64)],
        [np.zeros(0, np.int64)],
        0,
    )
    for batch in _batches(texts):
        hashes, text = hash_runs(batch.words, batch.lengths, overlap_words)
        wholes.append(batch.whole)
        runs.append(hashes)
        owners.append(text + offset)
        offset += len(batch.texts)
    joined = np.concatenate(wholes)
    return _Watched(
        texts, joined, _Lookup(joined), _Lookup(np.concatenate(runs)), np.concatenate(owners)
    )


def _summarise(
    parts: Sequence[tuple[str, str, Sequence[str]]],
    watched: _Watched,
    exact: np.ndarray,
    near: np.ndarray,
    *,
    num_training: int,
) -> dict[str, Contamination]:
    overlaps: dict[str, dict[str, Overlap]] = {}
    examples: dict[str, list[OverlapExample]] = {}
    start = 0
    for name, role, texts in parts:
        here = slice(start, start + len(texts))
        overlaps.setdefault(name, {})[role] = Overlap(
            len(texts), int(exact[here].sum()), int(near[here].sum())
        )
        shown = examples.setdefault(name, [])
        for kind, flags in (("exact", exact), ("near", near)):
            rows = np.flatnonzero(flags[here])[: MAX_EXAMPLES - len(shown)] + start
            shown += [
                OverlapExample(
                    evaluation=shorten(watched.texts[row]),
                    training=_training_text(watched, kind, row),
                    kind=kind,
                    role=role,
                )
                for row in rows.tolist()
            ]
        start += len(texts)
    return {
        name: Contamination(
            training_texts=num_training,
            queries=roles["queries"],
            documents=roles["documents"],
            examples=tuple(examples[name]),
        )
        for name, roles in overlaps.items()
    }


def _training_text(watched: _Watched, kind: str, row: int) -> str:
    """Of the training texts that hold this evaluation text, or one of its runs, the first."""
    if kind == "exact":
        return watched.shown[int(watched.exact.seen_in[watched.exact.inverse[row]])]
    runs = slice(
        np.searchsorted(watched.owner, row), np.searchsorted(watched.owner, row, side="right")
    )
    seen = watched.near.seen_in[watched.near.inverse[runs]]
    return watched.shown[int(seen[seen >= 0].min())]


def shorten(text: str) -> str:
    """The beginning of the text on one line."""
    line = " ".join(text[: 4 * SHOWN_CHARACTERS].split())
    is_whole = len(line) <= SHOWN_CHARACTERS and len(text) <= 4 * SHOWN_CHARACTERS
    return line if is_whole else f"{line[: SHOWN_CHARACTERS - 1]}…"
