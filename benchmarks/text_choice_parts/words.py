"""Texts by their words: a word is worth its idf the first time and less each time it comes again, a
text what its words are worth over how many it has, for the teacher's time grows with them.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Sequence

import numpy as np

from leafkit.data.contamination import split_words

_SPECIALS = 2  # that a tokenizer puts around a text


def order_by_words(texts: Sequence[str], count: int) -> list[int]:
    """Numbers of ``count`` texts, the best one first.

    The gain of a text is the sum over its different words w of idf(w) (sqrt(n + 1) - sqrt(n)), n
    texts with w having been taken, over its number of words and 2. The sum is submodular, so that
    gains only fall and few are computed again (Minoux 1978).

    >>> order_by_words(["a cat", "a black dog", "a cat, a dog and so on"], 2)
    [2, 1]
    """
    words = _Words(texts)
    waiting = [(-words.gain(i), i, 0) for i in range(len(texts))]
    heapq.heapify(waiting)
    order: list[int] = []
    while len(order) < min(count, len(texts)):
        _, i, known_at = waiting[0]
        if known_at == len(order):
            heapq.heappop(waiting)
            order.append(i)
            words.take(i)
        else:
            heapq.heapreplace(waiting, (-words.gain(i), i, len(order)))
    return order


class _Words:
    """The words of texts, and what they are still worth.

    Args:
        texts: N texts.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        numbers: dict[str, int] = {}
        found, ends, lengths = array("i"), array("q", [0]), array("i")
        for text in texts:
            words = split_words(text)
            lengths.append(len(words) + _SPECIALS)
            # sorted, so that a sum is the same in every process
            found.extend(numbers.setdefault(word, len(numbers)) for word in sorted(set(words)))
            ends.append(len(found))
        self._found, self._ends = np.array(found, dtype=np.int32), np.array(ends)
        self._lengths = np.array(lengths)
        num_texts = np.bincount(self._found, minlength=len(numbers))
        self._idf = np.log(len(texts) / np.maximum(num_texts, 1))
        self._times = np.zeros(len(numbers))
        self._worth = self._idf.copy()

    def _of(self, i: int) -> np.ndarray:
        words: np.ndarray = self._found[self._ends[i] : self._ends[i + 1]]
        return words

    def gain(self, i: int) -> float:
        """What a text would add now, by the word."""
        return float(self._worth[self._of(i)].sum() / self._lengths[i])

    def take(self, i: int) -> None:
        """Count a text's words as had once more."""
        words = self._of(i)
        self._times[words] += 1
        had = self._times[words]
        self._worth[words] = self._idf[words] * (np.sqrt(had + 1) - np.sqrt(had))
