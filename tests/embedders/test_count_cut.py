"""What models do not read of long texts is counted and said."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny
import torch

import leafkit
from leafkit.embedders import count_cut as room
from leafkit.embedders.count_cut import count_cut
from leafkit.models.static_encoder import StaticEncoder, bare_tokenizer
from leafkit.models.tiny import tiny_encoder
from leafkit.results import CutTexts


def expected(encoder, texts, role, limit):
    lengths = np.array(
        [
            len(encoder.tokenizer(encoder.prompt(role) + text, truncation=False)["input_ids"])
            for text in texts
        ]
    )
    return int((lengths > limit).sum()), int(lengths.sum()), int(np.minimum(lengths, limit).sum())


TEXTS = ["sort the table", "draw a graph " * 8, "", "książka żółwia " * 30, "水" * 90, "merge"]


@pytest.mark.parametrize("architecture", ["bert", "qwen2", "roberta"])
@pytest.mark.parametrize("limit", [12, 40, 0])
def test_counts_are_those_of_the_tokenizer(architecture, limit):
    encoder = tiny_encoder(architecture, tiny.make_tokenizer(), max_tokens=64)
    encoder = tiny.with_spec(encoder, prompts={"query": "find : "})
    for role in ("query", "document"):
        found = count_cut(encoder, TEXTS, role, limit, model="M", what="texts")
        assert found.limit == (limit or 64)
        num_cut, num_tokens, num_read = expected(encoder, TEXTS, role, found.limit)
        assert (found.num_cut, found.num_tokens, found.num_read) == (num_cut, num_tokens, num_read)
        read = sum(map(len, encoder.tokenize(TEXTS, role, limit)))
        empty = sum(not encoder.tokenizer(encoder.prompt(role) + t)["input_ids"] for t in TEXTS)
        assert found.num_read == read - empty  # an empty text is read as one special token
        assert not found.is_sample


def test_short_texts_need_no_tokenizer(monkeypatch):
    encoder = tiny.make_encoder()
    monkeypatch.setattr(encoder, "count_uncut", None)
    found = count_cut(encoder, ["sort the table"] * 5, "document", 32, model="M", what="texts")
    assert (found.num_cut, found.share_of_texts, found.share_of_tokens) == (0, 0.0, 0.0)


def test_of_many_texts_a_sample_is_counted_and_said_to_be_one(monkeypatch):
    monkeypatch.setattr(room, "_MOST_BYTES", 4000)
    encoder = tiny.make_encoder()
    texts = ["sort the table " * (20 if i % 4 == 0 else 1) for i in range(400)]
    found = count_cut(encoder, texts, "document", 16, model="M", what="texts")
    assert found.is_sample
    assert "about" in str(found)
    assert found.share_of_texts == pytest.approx(0.25, abs=0.15)
    # a single long text that the sample lacks is found all the same
    texts = ["sort the table"] * 4000 + ["sort the table " * 20]
    found = count_cut(encoder, texts, "document", 16, model="M", what="texts")
    assert found.num_cut == 1
    assert "under 0.1% of them are cut" in str(found)


def test_a_table_reads_everything_unless_it_is_cut():
    tokenizer = bare_tokenizer(tiny.make_tokenizer())
    static = StaticEncoder(
        tokenizer, torch.randn(tokenizer.get_vocab_size(), 8), torch.nn.Linear(8, 16)
    )
    long = ["sort the table " * 200]
    assert count_cut(static, long, "document", 0, model="M", what="texts").num_cut == 0
    found = count_cut(static, long, "document", 100, model="M", what="texts")
    assert (found.num_cut, found.num_tokens, found.num_read) == (1, 600, 100)


@pytest.mark.parametrize(
    ("num_cut", "num_read", "words"),
    [
        (0, 1000, "0.0% of them are cut, 0.0% of their"),
        (1, 999, "0.1% of them are cut, 0.1% of their"),
        (1000, 150, "100.0% of them are cut, 85.0% of their"),
        (999, 1, "99.9% of them are cut, 99.9% of their"),
    ],
)
def test_the_sentence(num_cut, num_read, words):
    cut = CutTexts(
        model="M",
        texts="documents",
        limit=64,
        num_texts=1000,
        num_cut=num_cut,
        num_tokens=1000,
        num_read=num_read,
    )
    assert words in str(cut)
    assert CutTexts.from_plain(json.loads(json.dumps(cut.to_plain()))) == cut


def test_the_api_says_what_teacher_and_student_do_not_read(capsys):
    teacher = tiny.make_encoder()
    texts = ["sort the table", "draw a graph " * 60, "merge a queue"]
    pair = leafkit.distill(
        teacher, tiny.make_encoder(seed=3), texts=texts, max_document_tokens=32, num_pseudo_texts=40
    )
    said = [line for line in capsys.readouterr().out.splitlines() if "are cut" in line]
    assert len(said) == 2
    assert "the teacher reads up to 32 tokens of each of 3 texts documents: 33.3% of" in said[0]
    assert (
        "student reads up to 32 tokens of each of 3 texts trained as documents: 33.3% of" in said[1]
    )
    uncut = leafkit.distill(
        teacher, tiny.make_encoder(seed=3), texts=texts[::2], max_document_tokens=0
    )
    assert "are cut" not in capsys.readouterr().out
    assert (pair.space.max_tokens, uncut.space.max_tokens) == (32, 128)
