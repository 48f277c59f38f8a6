"""Duplicates between training and evaluation texts: against a naive count, in many scripts, at the
edges of 13 words.
"""

from __future__ import annotations

import itertools
import random
import re
import sys
import unicodedata

import numpy as np
import pytest

from leafkit.core.errors import UsageError
from leafkit.data import contamination
from leafkit.data.contamination import Evaluation, find_overlaps, hash_runs, shorten, split_words
from leafkit.results import Contamination, Overlap, OverlapExample

THIRTEEN = "one two three four five six seven eight nine ten eleven twelve thirteen"


def count(training, queries=(), documents=(), words=13):
    return find_overlaps(training, {"c": Evaluation(list(queries), list(documents))}, words)["c"]


# --- words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The  Matrix-free solver, v2.0!", ["the", "matrix", "free", "solver", "v2", "0"]),
        ("", []),
        (" \n\t ?!... _ ", []),
        ("don't DON\u2019T", ["don", "t", "don", "t"]),
        ("\uff26ull\uff57idth \ufb01le", ["fullwidth", "file"]),  # NFKC
        ("na\u00efve nai\u0308ve", ["na\u00efve", "na\u00efve"]),  # composed and decomposed
        ("机器 学习\uff0c很好。", list("机器学习很好")),
        ("データ・セットを見る", list("データセットを見る")),
        ("ภาษาไทย", ["ภ", "า", "ษ", "า", "ไ", "ท", "ย"]),
        ("한국어 문장입니다.", ["한국어", "문장입니다"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),  # marks belong to their word
        ("Zażółć GĘŚLĄ jaźń", ["zażółć", "gęślą", "jaźń"]),
        ("snake_case_name", ["snake", "case", "name"]),
        ("BERT模型v2", ["bert", "模", "型", "v2"]),
        ("a\u00a0b\u200bc", ["a", "b", "c"]),
        ("\U0001f600 smile", ["smile"]),
    ],
)
def test_words(text, words):
    assert split_words(text) == words


@pytest.mark.parametrize("longer", [" \u00e9", " \u4e2d"])
def test_the_short_cuts_give_the_same_words(longer):
    """A text of ASCII alone takes the fastest way; a word more sends it the longer ones: Latin
    letters, then any script.
    """
    chooser = random.Random(0)
    for _ in range(200):
        text = "".join(chooser.choice([chr(i) for i in range(128)]) for _ in range(60))
        assert split_words(text + longer)[:-1] == split_words(text)
        text += (
            chooser.choice(["\u00e9", "\u0142\u00f3", "\u00df", "\u0434\u0430", "\ud55c\uad6d"])
            + text[:20]
        )
        assert split_words(text + " \u4e2d")[:-1] == split_words(text)


def test_every_mark_and_every_script_without_spaces_takes_the_long_way():
    for code in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code)) in {"Mn", "Mc"} or re.match(
            f"[{contamination._SPACELESS}]", chr(code)
        ):
            assert contamination._NEEDS_CARE.match(chr(code)), hex(code)


# --- runs


@pytest.mark.parametrize("run", [1, 2, 5, 13])
def test_runs_stay_inside_their_text_and_equal_runs_have_equal_hashes(run):
    generator = np.random.default_rng(run)
    lengths = generator.integers(0, 20, size=50)
    codes = generator.integers(0, 3, size=lengths.sum())
    words = np.array([hash(f"word {c}") for c in range(3)], dtype=np.int64).view(np.uint64)[codes]
    hashes, texts = hash_runs(words, lengths, run)
    expected, owners, seen = [], [], {}
    for number, (start, length) in enumerate(
        zip(np.cumsum(lengths) - lengths, lengths, strict=True)
    ):
        for i in range(start, start + length - run + 1):
            expected.append(tuple(codes[i : i + run]))
            owners.append(number)
    assert texts.tolist() == owners
    for key, value in zip(expected, hashes.tolist(), strict=True):
        assert seen.setdefault(key, value) == value
    assert len(set(seen.values())) == len(seen)


def test_the_order_of_words_matters():
    words = np.array([hash("a"), hash("b")], dtype=np.int64).view(np.uint64)
    assert (
        hash_runs(words, np.array([2]), 2)[0] != hash_runs(words[::-1].copy(), np.array([2]), 2)[0]
    )


# --- against a naive count


def naive_words(text):
    text = unicodedata.normalize("NFKC", text).lower()
    return re.findall(r"[^\W_]+", text)


def naive(training, texts, run):
    known = [naive_words(t) for t in training]
    wholes = {tuple(w) for w in known if w}
    runs = {tuple(w[i : i + run]) for w in known for i in range(len(w) - run + 1)}
    exact = near = 0
    for text in texts:
        words = naive_words(text)
        if tuple(words) in wholes:
            exact += 1
        elif any(tuple(words[i : i + run]) in runs for i in range(len(words) - run + 1)):
            near += 1
    return Overlap(len(texts), exact, near)


@pytest.mark.parametrize("seed", range(12))
def test_equals_a_naive_count_on_small_vocabularies(seed, monkeypatch):
    """Few words make many overlaps, of every length around the run; small batches put their borders
    everywhere.
    """
    monkeypatch.setattr(contamination, "_WORDS_PER_BATCH", 1 + 7 * seed)
    chooser = random.Random(seed)
    vocabulary = ["a", "B", "été", "x1", "Straße"][: 2 + seed % 4]
    run = 2 + seed % 3

    def make(number):
        joints = [" ", ", ", " - ", "\n", "!? "]
        return [
            "".join(
                chooser.choice(vocabulary) + chooser.choice(joints)
                for _ in range(chooser.randint(0, 2 * run))
            )
            for _ in range(number)
        ]

    training, queries, documents = make(40), make(30), make(30)
    found = count(iter(training), queries, documents, run)
    assert found.queries == naive(training, queries, run)
    assert found.documents == naive(training, documents, run)
    assert found.training_texts == 40
    assert found.queries.near + found.documents.near > 0


def test_several_collections_at_once_equal_each_alone():
    chooser = random.Random(1)
    texts = [" ".join(chooser.choices("abc", k=chooser.randint(1, 9))) for _ in range(90)]
    training = texts[:20]
    sets = {
        f"c{i}": Evaluation(texts[20 + 20 * i : 30 + 20 * i], texts[30 + 20 * i : 40 + 20 * i])
        for i in range(3)
    }
    together = find_overlaps(training, sets, 3)
    for name, evaluation in sets.items():
        assert together[name] == find_overlaps(training, {name: evaluation}, 3)[name]


# --- planted duplicates


def test_case_punctuation_and_width_hide_no_duplicate():
    found = count(
        ["What, precisely, is a  KERNEL -- in an operating-system?"],
        ["what precisely is a kernel in an operating system"],
    )
    assert found.queries == Overlap(total=1, exact=1, near=0)
    assert found.examples == (
        OverlapExample(
            evaluation="what precisely is a kernel in an operating system",
            training="What, precisely, is a KERNEL -- in an operating-system?",
            kind="exact",
            role="queries",
        ),
    )


def test_thirteen_words_in_a_row_are_near_and_twelve_are_not():
    twelve = THIRTEEN.rpartition(" ")[0]
    training = [f"before it {THIRTEEN} and after it"]
    assert count(training, [f"Elsewhere: {THIRTEEN}!"]).queries == Overlap(total=1, exact=0, near=1)
    assert count(training, [f"elsewhere {twelve} something else entirely"]).queries.near == 0
    assert count(training, [THIRTEEN]).queries.near == 1  # the whole query is the run


def test_a_short_text_is_an_exact_duplicate_or_none():
    found = count(
        ["how to sort a list in python"], ["sort a list", "How to sort a list in Python?"]
    )
    assert found.queries == Overlap(total=2, exact=1, near=0)


def test_a_run_across_two_training_texts_is_none():
    first, second = (
        THIRTEEN[:30].rpartition(" ")[0],
        THIRTEEN[len(THIRTEEN[:30].rpartition(" ")[0]) + 1 :],
    )
    assert f"{first} {second}" == THIRTEEN
    assert count([first, second], [THIRTEEN]).queries == Overlap(total=1, exact=0, near=0)


def test_chinese_counts_characters():
    sentence = "深度学习模型需要大量标注数据来训练参数"
    assert (
        count([f"众所周知\uff0c{sentence}。"], [f"为什么{sentence[:14]}\uff1f"]).queries.near == 1
    )
    assert count([f"众所周知\uff0c{sentence}。"], [f"为什么{sentence[:12]}呢"]).queries.near == 0
    assert count(["机器 学习"], ["机器学习"]).queries.exact == 1


def test_texts_without_words_are_no_duplicates():
    assert count(["", "?!", " "], ["", "..."], ["!"]).queries == Overlap(total=2, exact=0, near=0)


@pytest.mark.parametrize("training", [[], [""]])
def test_nothing_to_compare(training):
    nothing = Overlap(total=0, exact=0, near=0)
    assert count(training) == Contamination(
        training_texts=len(training), queries=nothing, documents=nothing
    )
    assert count(training, ["a question"]).queries.exact == 0
    assert count(["a question"]).queries.total == 0


def test_every_copy_of_an_evaluation_text_counts():
    found = count([THIRTEEN, THIRTEEN], [THIRTEEN, THIRTEEN.upper()], [f"{THIRTEEN} fourteen"] * 3)
    assert found.queries.exact == 2
    assert found.documents == Overlap(total=3, exact=0, near=3)


def test_examples_are_five_with_queries_first_and_the_first_training_text():
    queries = [f"question number {i} of many" for i in range(3)]
    documents = [f"document {i} {THIRTEEN}" for i in range(9)]
    found = count(
        [f"the first {THIRTEEN}", *queries, f"the second {THIRTEEN}", "x" * 500], queries, documents
    )
    assert [(e.role, e.kind) for e in found.examples] == [("queries", "exact")] * 3 + [
        ("documents", "near")
    ] * 2
    assert {e.training for e in found.examples[3:]} == {f"the first {THIRTEEN}"}


def test_long_texts_are_shown_shortened():
    assert shorten("a b") == "a b"
    assert len(shorten("word " * 1000)) == contamination.SHOWN_CHARACTERS
    assert shorten("word " * 1000).endswith("…")
    assert shorten("a" + " " * 5000 + "b").endswith("…")


def test_training_is_read_once_and_not_kept():
    seen = []
    texts = (seen.append(i) or f"text {i}" for i in itertools.count())
    count(itertools.islice(texts, 5), ["text 3"])
    assert seen == [0, 1, 2, 3, 4]


def test_an_overlap_of_no_words_is_refused():
    with pytest.raises(UsageError, match=r"bench\.overlap_words=0"):
        count(["a"], ["b"], words=0)


def test_real_queries_are_found_where_they_were_planted(shared_data):
    """The pool of unlabelled questions says of itself that it holds none of SciFact's; the planted
    one is found.
    """
    import json

    claims = [
        json.loads(line)["text"]
        for line in (shared_data / "scifact" / "queries.jsonl").open(encoding="utf-8")
    ]
    pool = [
        json.loads(line)["text"]
        for line in (shared_data / "pairs" / "unlabeled_queries.jsonl").open(encoding="utf-8")
    ]
    before = count(pool[:20000], claims).queries.exact
    after = count([*pool[:20000], f"  {claims[7].upper()}!!"], claims).queries.exact
    assert after == before + 1
