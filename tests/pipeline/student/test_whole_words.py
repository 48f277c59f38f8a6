"""Whole words in a table of token vectors: which ones, what stays as it was, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from leafkit.core.errors import UsageError
from leafkit.data.stored.flat_tokens import FlatTokens, flatten
from leafkit.models.static_encoder import token_texts, tokenize
from leafkit.pipeline.student.whole_words import add_words

PIECES = ["[UNK]", "py", "##torch", "##th", "##on", "read", "##s", "a", "file"]


@pytest.fixture
def tokenizer() -> Tokenizer:
    model = models.WordPiece({p: i for i, p in enumerate(PIECES)}, unk_token="[UNK]")
    made = Tokenizer(model)
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(["[MASK]"])  # an id beyond the vocabulary's
    return made


def ids_of(tokenizer: Tokenizer, texts: list[str], cut: int = 0) -> FlatTokens:
    return flatten([tokenize(tokenizer, texts, cut)])


TEXTS = ["PyTorch reads a file", "a python file", "pytorch python", "", "pytorch py reads"]


def test_frequent_words_of_several_pieces_become_one_token(tokenizer):
    longer, found = add_words(tokenizer, [(ids_of(tokenizer, TEXTS), 0)], 2)
    assert found == 2
    # pytorch three times; python and reads twice each, the first by its letters
    first = tokenizer.get_vocab_size()
    assert tokenize(longer, ["PyTorch python"]) == [[first, first + 1]]
    assert token_texts(longer)[first:] == ["pytorch", "python"]


def test_all_other_texts_keep_their_tokens(tokenizer):
    longer, _ = add_words(tokenizer, [(ids_of(tokenizer, TEXTS), 0)], 2)
    others = ["reads a file", "pythons [MASK] pyon", "unknown", ""]
    expected = tokenize(tokenizer, others)
    # python is the beginning of pythons now, which has no other pieces
    expected[1][:4] = [tokenizer.get_vocab_size() + 1, PIECES.index("##s")]
    assert tokenize(longer, others) == expected


def test_a_word_seen_once_and_the_end_of_a_cut_text_are_not_counted(tokenizer):
    whole = ids_of(tokenizer, ["pytorchs", "a reads", "reads"])
    assert add_words(tokenizer, [(whole, 0)], 10)[1] == 1
    # [a, py, ##th] of a python
    cut = ids_of(tokenizer, ["a python", "file python", "reads file"], 3)
    assert add_words(tokenizer, [(cut, 3)], 10)[1] == 0
    assert add_words(tokenizer, [(cut, 0)], 10)[1] == 1


def test_groups_are_counted_together_and_the_order_of_texts_does_not_matter(tokenizer):
    one = [(ids_of(tokenizer, [t]), 0) for t in TEXTS]
    found = [add_words(tokenizer, g, 3)[0].to_str() for g in (one, one[::-1])]
    assert (
        found[0] == found[1] == add_words(tokenizer, [(ids_of(tokenizer, TEXTS), 0)], 3)[0].to_str()
    )


def test_counts_do_not_depend_on_how_texts_are_parted(tokenizer, monkeypatch):
    group = ids_of(tokenizer, TEXTS * 7)
    expected = add_words(tokenizer, [(group, 0)], 3)[0].to_str()
    monkeypatch.setattr("leafkit.pipeline.student.whole_words._TEXTS_PER_PART", 2)
    monkeypatch.setattr("leafkit.data.stored.flat_tokens._TOKENS_PER_CHUNK", 3)
    assert add_words(tokenizer, [(group, 0)], 3)[0].to_str() == expected


def test_another_kind_of_pieces_is_refused():
    other = Tokenizer(models.BPE({"a": 0}, []))
    empty = FlatTokens(np.zeros(0, np.int32), np.zeros(1, np.int64))
    with pytest.raises(UsageError, match=r"num_words=5.*BPE"):
        add_words(other, [(empty, 0)], 5)
