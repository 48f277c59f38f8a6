"""Whole words for a table of token vectors: frequent words that the tokenizer cuts in pieces get a
row of their own, as pyNIFE's table of 100,000 words has.

A mean of pieces cannot say that "py" and "##torch" stood beside each other. WordPiece takes the
longest entry that fits, so a word in its vocabulary is one token from then on; so is the beginning
of a longer word that starts with it, and words that do not are cut as before.

Shapes: N token ids of some texts, V vocabulary.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

import numpy as np
from tokenizers import Tokenizer

from leafkit.core.errors import UsageError
from leafkit.data.stored.flat_tokens import FlatTokens

MIN_COUNT = 2  # of a word in the training texts: of one seen once nothing is learnt
_MAX_PIECES = 8  # what is longer is data, not a word
_TEXTS_PER_PART = 8192


def add_words(
    tokenizer: Tokenizer, token_ids: Iterable[tuple[FlatTokens, int]], num_words: int
) -> tuple[Tokenizer, int]:
    """A copy of the tokenizer whose vocabulary holds the most frequent words that it cuts in
    pieces, and how many it was given; fewer than asked for where the texts have fewer.

    Args:
        tokenizer: WordPiece.
        token_ids: of the training texts by group, with the length at which the group was cut
            (0: it was not), for the last word of a cut text may be a part of one.
        num_words: most words to add.

    Raises:
        UsageError: the tokenizer's pieces are of another kind.
    """
    content = json.loads(tokenizer.to_str())
    if (kind := content["model"].get("type")) != "WordPiece":
        raise UsageError(
            f"student.static.num_words={num_words}: whole words are added to a WordPiece "
            f"vocabulary, and student.init's is {kind}",
            "student.static.num_words=0, or student.init=builtin:minilm",
        )
    prefix = content["model"]["continuing_subword_prefix"]
    vocabulary = content["model"]["vocab"]
    pieces = _pieces_by_id(vocabulary, tokenizer.get_vocab_size())
    counts = _count_words(token_ids, np.array([p.startswith(prefix) for p in pieces]))
    # by text beside count: the same vocabulary on every machine
    found = [(-n, "".join(pieces[i].removeprefix(prefix) for i in ids)) for ids, n in counts]
    words = [w for n, w in sorted(found) if -n >= MIN_COUNT and w not in vocabulary][:num_words]
    first = tokenizer.get_vocab_size()
    # a token beside the vocabulary would take the next free number when the content is read again
    vocabulary |= {token["content"]: token["id"] for token in content["added_tokens"]}
    vocabulary |= {word: first + i for i, word in enumerate(words)}
    return Tokenizer.from_str(json.dumps(content)), len(words)


def _pieces_by_id(vocabulary: dict[str, int], num_tokens: int) -> list[str]:
    """Texts of the tokens; "" for those that were added beside the vocabulary."""
    pieces = [""] * num_tokens
    for piece, number in vocabulary.items():
        pieces[number] = piece
    return pieces


def _count_words(
    token_ids: Iterable[tuple[FlatTokens, int]], is_continued_V: np.ndarray
) -> Iterable[tuple[tuple[int, ...], int]]:
    """(the pieces of a word, how often it occurs) of all words of several pieces."""
    counts: Counter[tuple[int, ...]] = Counter()
    for group, cut in token_ids:
        for start in range(0, len(group), _TEXTS_PER_PART):
            part = group[start : start + _TEXTS_PER_PART]
            if part.num_tokens:
                _count_part(part, cut, is_continued_V, counts)
    return counts.items()


def _count_part(
    part: FlatTokens, cut: int, is_continued_V: np.ndarray, counts: Counter[tuple[int, ...]]
) -> None:
    ids_N = np.concatenate(list(part.chunks()))
    starts = np.flatnonzero(~is_continued_V[ids_N])
    lengths = np.diff(np.append(starts, len(ids_N)))
    is_whole = np.ones(len(starts), dtype=bool)
    if cut:
        ends = np.cumsum(part.lengths)[part.lengths >= cut]
        is_whole[np.searchsorted(starts, ends) - 1] = False
    for length in range(2, _MAX_PIECES + 1):
        chosen = starts[is_whole & (lengths == length)]
        words, occurrences = np.unique(
            ids_N[chosen[:, None] + np.arange(length)], axis=0, return_counts=True
        )
        counts.update(dict(zip(map(tuple, words.tolist()), occurrences.tolist(), strict=True)))
