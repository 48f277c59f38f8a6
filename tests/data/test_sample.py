"""Samples drawn by content: more rows, a higher limit and another order keep what was drawn."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from itertools import pairwise

import pytest

from leafkit.config import DataConfig
from leafkit.data.sources import read_source, sample
from leafkit.data.sources.sample import choose_numbers, choose_rows, row_content

TEXTS = [f"text {i}" for i in range(1000)]


def drawn(texts: list[str], limit: int) -> list[str]:
    return [texts[i] for i in choose_numbers(texts, limit)]


def test_a_higher_limit_keeps_what_a_lower_one_drew() -> None:
    samples = [drawn(TEXTS, limit) for limit in (1, 10, 200, 999, 1000, 2000)]
    for few, many in pairwise(samples):
        assert set(few) <= set(many)
    assert [len(s) for s in samples] == [1, 10, 200, 999, 1000, 1000]
    assert all(s == sorted(s, key=TEXTS.index) for s in samples)


def test_order_and_more_rows_change_little() -> None:
    found = set(drawn(TEXTS, 100))
    assert set(drawn(TEXTS[::-1], 100)) == found
    more = drawn([*TEXTS[:500], *(f"new {i}" for i in range(100)), *TEXTS[500:]], 100)
    old = {text for text in more if text in set(TEXTS)}
    assert old <= found
    assert len(old) > 75  # new ones took their share


def test_the_sample_is_spread_over_the_rows() -> None:
    numbers = choose_numbers(TEXTS, 200)
    assert [sum(n // 250 == quarter for n in numbers) for quarter in range(4)] == pytest.approx(
        [50] * 4, abs=20
    )


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_parts_change_nothing(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    texts = [*TEXTS[:50], *TEXTS[:50], *TEXTS[20:90]]
    expected = choose_numbers(texts, 30)
    monkeypatch.setattr(sample, "_AT_ONCE", at_once)
    assert choose_numbers(texts, 30) == expected


def test_of_equal_rows_the_first_are_taken() -> None:
    assert choose_numbers(["a"] * 10, 4) == [0, 1, 2, 3]


def test_what_was_drawn_is_counted() -> None:
    counts: Counter[str] = Counter()
    assert choose_numbers(TEXTS, 1000, counts) == list(range(1000))
    assert counts == {}
    choose_numbers(TEXTS, 3, counts)
    assert counts == {"rows taken at random (limit) out of 1,000": 3}


def test_rows_are_streamed_twice_and_not_held() -> None:
    passes = 0

    def read():
        nonlocal passes
        passes += 1
        for i in range(20_000):
            yield f"line {i}", b"%d " % i * 100

    tracemalloc.start()
    chosen = [where for where, _ in choose_rows(read, 50, Counter(), bytes.strip)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert passes == 2
    assert len(set(chosen)) == 50
    assert chosen == sorted(chosen, key=lambda where: int(where.split()[1]))
    assert peak < 8e6  # of rows that are 12 MB


def test_no_limit_reads_once() -> None:
    rows = [("a", b"1"), ("b", b"2")]
    assert list(choose_rows(lambda: iter(rows), 0, Counter(), bytes)) == rows


def test_columns_count_under_their_names_in_any_order() -> None:
    assert row_content({"a": 1, "b": "x"}) == row_content({"b": "x", "a": 1})
    assert row_content({"a": 1}) != row_content({"b": 1})
    assert row_content({"a": b"\xff"}) != row_content({"a": b"\xfe"})  # whatever JSON cannot say


def test_a_hub_source_gives_as_many_rows_others_all(tmp_path, monkeypatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.Dataset.from_dict({"text": TEXTS[:60]}).save_to_disk(str(tmp_path / "set"))
    found = {}
    for limit in (10, 20, 0):
        read = read_source(f"hf:{tmp_path / 'set'}@train", limit, DataConfig())
        found[limit] = [d.text for d in read.documents]
    assert [len(texts) for texts in found.values()] == [10, 20, 60]
    assert set(found[10]) <= set(found[20])
    lines = "".join(f'{{"text": "{text}"}}\n' for text in TEXTS[:60])
    (tmp_path / "rows.jsonl").write_text(lines)
    whole = read_source(f"jsonl:{tmp_path / 'rows.jsonl'}", 10, DataConfig())
    assert len(whole.documents) == 60
