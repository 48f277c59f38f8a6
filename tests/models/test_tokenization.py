"""Tokenizers that end texts, and stay themselves when they are saved."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import tiny
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoTokenizer,
    BertConfig,
    LlamaConfig,
    LlamaTokenizer,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from leafkit.core.errors import LeafkitError
from leafkit.models import tokenization
from leafkit.models.builtin.find import find_builtin
from leafkit.models.checkpoint import write_encoder
from leafkit.models.text_encoder import EncoderSpec, TextEncoder
from leafkit.models.tokenization import (
    byte_tokenizer,
    comes_back_equal,
    ends_with_special,
    token_of_empty_text,
    truncated_ids,
    with_eos,
)

WORDS = ["<unk>", "<s>", "</s>", "a", "b", "c"]


@pytest.fixture(scope="module")
def wordpiece() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(find_builtin("builtin:minilm"))


def make_plain(post_processor=None, **specials) -> PreTrainedTokenizerFast:
    """Words by their place in WORDS."""
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    if post_processor is not None:
        core.post_processor = post_processor
    return PreTrainedTokenizerFast(tokenizer_object=core, **specials)


def make_llama(**settings) -> LlamaTokenizer:
    return LlamaTokenizer(
        vocab={word: i for i, word in enumerate([*WORDS, "▁", "▁a"])},
        merges=[("▁", "a")],
        **settings,
    )


def awkward_texts(count: int) -> list[str]:
    """Words of all lengths and scripts, in places without any space between them, with special
    tokens and odd spaces.
    """
    generator = np.random.default_rng(0)
    pieces = [
        "a",
        "matrix",
        "sparse" * 30,
        "é" * 5,
        "e\u0301",
        "\u0301",
        "İ",
        "Σ",
        "中文字",
        "[SEP]",
        "[MASK]",
        ".",
        "\n",
        "\t",
        "  ",
        "\u00a0",
        "\u3000",
        "😀",
        "x_y.z()",
        "##a",
        "\u200b",
        "",
    ]
    texts = []
    for _ in range(count):
        chosen = generator.choice(pieces, generator.integers(0, 120))
        texts.append(str(generator.choice(["", " ", "  "])).join(chosen))
    return texts


def reload(tokenizer, folder: Path, config):
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("max_tokens", [2, 3, 8, 30, 128])
def test_a_beginning_of_a_text_gives_the_ids_of_the_whole(max_tokens, wordpiece):
    texts = awkward_texts(400)
    for tokenizer in (tiny.make_tokenizer(), wordpiece, byte_tokenizer(256)):
        expected = tokenizer(texts, truncation=True, max_length=max_tokens)["input_ids"]
        assert truncated_ids(tokenizer, texts, max_tokens) == expected


@pytest.fixture
def lengths_read(monkeypatch) -> list[list[int]]:
    """Characters of the texts of each call to a tokenizer."""
    calls: list[list[int]] = []
    inner = tokenization._cut_ids

    def counted(tokenizer, texts, limit):
        calls.append([len(text) for text in texts])
        return inner(tokenizer, texts, limit)

    monkeypatch.setattr(tokenization, "_cut_ids", counted)
    return calls


def test_a_long_text_is_read_no_further_than_needed_and_again_where_that_fell_short(
    lengths_read, wordpiece
):
    texts = ["matrix " * 1000, "x" + " " * 500 + "y matrix", "short"]
    truncated_ids(wordpiece, texts, 16)
    assert lengths_read == [[97, 96, 5], [509]]


@pytest.mark.parametrize("case", ["left", "added", "bytes", "replaced"])
def test_whole_texts_are_read_where_a_beginning_says_too_little(case, lengths_read, wordpiece):
    tokenizer = byte_tokenizer(64) if case == "bytes" else copy.deepcopy(wordpiece)
    if case == "left":
        tokenizer.truncation_side = "left"
    if case == "added":
        tokenizer.add_tokens(["matrix matrix"])
    if case == "replaced":
        backend = tokenizer.backend_tokenizer
        backend.normalizer = normalizers.Sequence(
            [backend.normalizer, normalizers.Replace(Regex("x m"), "xm")]
        )
    texts = ["matrix " * 1000]
    expected = tokenizer(texts, truncation=True, max_length=9)["input_ids"]
    assert truncated_ids(tokenizer, texts, 9) == expected
    assert lengths_read == [[7000], []]


@pytest.mark.parametrize("max_length", [3, 8])
def test_the_end_comes_after_the_cut_and_survives_saving(tmp_path, max_length):
    tokenizer = byte_tokenizer(64)
    plain = tokenizer("abcdef")["input_ids"]
    new = with_eos(tokenizer)
    for found in (new, reload(new, tmp_path, Qwen2Config())):
        ids = found("abcdef", truncation=True, max_length=max_length)["input_ids"]
        assert ids == [*plain[: max_length - 1], tokenizer.eos_token_id]
    assert tokenizer("abcdef")["input_ids"] == plain


def test_what_comes_before_the_text_is_kept(tmp_path):
    begin = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B:1", special_tokens=[("<s>", 1)]
    )
    tokenizer = with_eos(make_plain(begin, bos_token="<s>", eos_token="</s>", unk_token="<unk>"))
    for found in (tokenizer, reload(tokenizer, tmp_path, LlamaConfig())):
        assert found("a b c")["input_ids"] == [1, 3, 4, 5, 2]
        assert found("a b c", truncation=True, max_length=3)["input_ids"] == [1, 3, 2]


@pytest.mark.parametrize(
    "settings", [{}, {"add_bos_token": True, "add_eos_token": False}, {"add_bos_token": False}]
)
def test_tokenizers_that_were_told_where_ends_go_keep_this_one(tmp_path, settings):
    """They build their ends from add_bos_token and add_eos_token, once when they are made; loading
    must not do it again.
    """
    tokenizer = make_llama(**settings)
    begin = [1] if settings.get("add_bos_token") else []
    new = with_eos(tokenizer)
    for found in (new, reload(new, tmp_path, LlamaConfig())):
        ids = found("a b")["input_ids"]
        assert ids[-1] == 2
        assert ids[: len(begin)] == begin
    assert tokenizer("a b")["input_ids"][-1] != 2


def test_a_tokenizer_that_ends_texts_is_left_alone():
    tokenizer = tiny.make_tokenizer()
    assert ends_with_special(tokenizer)
    assert with_eos(tokenizer) is tokenizer
    assert (
        with_eos(with_eos(byte_tokenizer(64)))("a")["input_ids"]
        == with_eos(byte_tokenizer(64))("a")["input_ids"]
    )


def test_an_unknown_word_is_no_end():
    """Its token is special too, but it is the text's own."""
    core = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1}, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", eos_token="</s>")
    assert not ends_with_special(tokenizer)
    assert with_eos(tokenizer)("a")["input_ids"] == [0, 1]


def test_without_an_end_token_last_pooling_is_refused():
    with pytest.raises(LeafkitError, match="needs an end-of-sequence token") as caught:
        with_eos(make_plain(unk_token="<unk>"))
    assert "mean" in caught.value.hint


@pytest.mark.parametrize(
    ("specials", "expected"),
    [
        ({"eos_token": "</s>", "pad_token": "<s>"}, 2),
        ({"sep_token": "a", "pad_token": "<s>"}, 3),
        ({"pad_token": "<s>"}, 1),
    ],
)
def test_an_empty_text_is_one_token(specials, expected):
    assert token_of_empty_text(make_plain(unk_token="<unk>", **specials)) == expected


def test_an_empty_text_without_any_such_token_is_refused():
    with pytest.raises(LeafkitError, match="no eos, sep or pad token"):
        token_of_empty_text(make_plain(unk_token="<unk>"))


def test_a_tokenizer_that_would_load_as_another_is_refused(tmp_path):
    """A WordPiece tokenizer beside a Qwen2 config comes back as byte-level BPE, in
    sentence-transformers too.
    """
    from leafkit.models.tiny import tiny_encoder

    reload(tiny.make_tokenizer(), tmp_path / "bert", BertConfig())
    assert comes_back_equal(tiny.make_tokenizer(), tmp_path / "bert")
    encoder = tiny_encoder("qwen2", tiny.make_tokenizer(), vocab_size=400)
    mixed = TextEncoder(encoder.backbone, tiny.make_tokenizer(), EncoderSpec())
    with pytest.raises(LeafkitError, match="saved beside a qwen2 model does not load again"):
        write_encoder(mixed, tmp_path / "qwen2", {})
    assert not comes_back_equal(tiny.make_tokenizer(), tmp_path / "none")
