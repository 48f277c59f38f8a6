"""Token readers: the encoder's own ids, part by part, and an identity that all that decides about
them changes.
"""

from __future__ import annotations

import pytest
import tiny
from tokenizers import normalizers

from leafkit.embedders import token_reader
from leafkit.embedders.token_reader import TokenReader, bare_reader, read_flat, reader_of
from leafkit.models.static_encoder import bare_tokenizer, tokenize
from leafkit.models.tokenization import identify_tokenizer

TEXTS = ["invert the matrix", "", "sort a table of strings " * 30, "draw the graph"] * 5


def lists_of(reader: TokenReader, texts: list[str] = TEXTS) -> list[list[int]]:
    return [ids.tolist() for ids in read_flat(reader, texts)]


@pytest.mark.parametrize("size", [1, 3, 20, 4096])
def test_ids_are_the_encoders_whatever_a_part_holds(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_reader, "_TEXTS_PER_PART", size)
    encoder = tiny.make_encoder(prompts={"query": "find : "})
    for role, limit in (("query", 16), ("document", 0), ("document", None)):
        reader = reader_of(encoder, role, limit)
        assert lists_of(reader) == encoder.tokenize(TEXTS, role, limit)
    bare = bare_tokenizer(encoder.tokenizer)
    for limit in (0, 8):
        assert lists_of(bare_reader(bare, limit)) == tokenize(bare, TEXTS, limit)


def test_no_more_than_a_part_is_tokenized_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_reader, "_TEXTS_PER_PART", 3)
    asked: list[int] = []

    class Bar:
        done = 0

        def advance(self, count: int = 1, note: str = "") -> None:
            self.done += count

    def read(texts):
        asked.append(len(texts))
        return [[1]] * len(texts)

    bar = Bar()
    parts = list(TokenReader(read, lambda: "who").read_parts(TEXTS, bar))
    assert asked == [3, 3, 3, 3, 3, 3, 2] == [len(part) for part in parts]
    assert bar.done == len(TEXTS)


def test_what_decides_about_ids_is_in_their_identity() -> None:
    encoder = tiny.make_encoder(prompts={"query": "find : "})
    same = reader_of(tiny.make_encoder(prompts={"query": "find : "}, seed=5), "query", 16)
    base = reader_of(encoder, "query", 16).identify_ids(TEXTS)
    assert same.identify_ids(TEXTS) == base  # weights say nothing about ids
    others = [
        reader_of(encoder, "query", 17).identify_ids(TEXTS),
        reader_of(encoder, "document", 16).identify_ids(TEXTS),
        reader_of(tiny.make_encoder(prompts={"query": "seek : "}), "query", 16).identify_ids(TEXTS),
        reader_of(encoder, "query", 16).identify_ids(TEXTS[:-1]),
        reader_of(encoder, "query", 16).identify_ids(TEXTS[::-1]),
        bare_reader(bare_tokenizer(encoder.tokenizer), 16).identify_ids(TEXTS),
        bare_reader(bare_tokenizer(encoder.tokenizer), 17).identify_ids(TEXTS),
    ]
    assert len({base, *others}) == 1 + len(others)


def test_a_limit_above_the_models_own_is_its_own() -> None:
    encoder = tiny.make_encoder()
    ids = {reader_of(encoder, "query", limit).identify_ids(TEXTS) for limit in (None, 0, 10**6)}
    assert len(ids) == 1


def test_a_tokenizer_is_known_by_its_content() -> None:
    tokenizer = tiny.make_tokenizer()
    before = identify_tokenizer(tokenizer)
    tokenizer(["cut", "and padded"], truncation=True, max_length=3, padding=True)
    assert identify_tokenizer(tokenizer) == before  # its last call is none of its content
    tokenizer.add_tokens(["newword"])
    grown = identify_tokenizer(tokenizer)
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    lowered = identify_tokenizer(tokenizer)
    tokenizer.truncation_side = "left"
    assert len({before, grown, lowered, identify_tokenizer(tokenizer)}) == 4


def test_what_cannot_be_told_from_others_has_no_identity() -> None:
    encoder = tiny.make_encoder()

    class Slow:
        is_fast = False

    encoder.tokenizer = Slow()
    assert identify_tokenizer(encoder.tokenizer) == ""
    assert reader_of(encoder, "query", 16).identify_ids(TEXTS) == ""
