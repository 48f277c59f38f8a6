"""Exemplars: same label and another text as positive, other labels as negatives, everything
counted.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from leafkit.data.exemplars import Exemplars, pair_exemplars
from leafkit.data.sources import BadRows, read_raw_rows


def check(texts: list[str], labels: list[str], num_negatives: int, paired: Exemplars) -> None:
    """What must hold for any input."""
    assert sorted(set(paired.rows.tolist())) == paired.rows.tolist()
    assert len(set(paired.positives.tolist())) == len(paired.positives)
    assert paired.negatives.shape == (len(paired.rows), num_negatives)
    for row, positive, negatives in zip(
        paired.rows, paired.positives, paired.negatives, strict=True
    ):
        assert labels[positive] == labels[row]
        assert texts[positive] != texts[row]
        found = negatives[negatives >= 0].tolist()
        assert (negatives[: len(found)] >= 0).all()
        assert all(labels[n] != labels[row] for n in found)
        shown = [texts[n] for n in [row, positive, *found]]
        assert len(set(shown)) == len(shown)
        possible = {text for text, label in zip(texts, labels, strict=True) if label != labels[row]}
        assert len(found) == min(num_negatives, len(possible - {texts[row], texts[positive]}))


@pytest.mark.parametrize("seed", range(60))
def test_random_labels_with_many_copies(seed: int) -> None:
    generator = np.random.default_rng(seed)
    size, num_texts, num_labels = generator.integers([1, 1, 1], [60, 40, 12])
    texts = [f"text {i}" for i in generator.integers(num_texts, size=size)]
    labels = [f"label {i}" for i in generator.integers(num_labels, size=size)]
    num_negatives = int(generator.integers(0, 9))
    paired = pair_exemplars(texts, labels, num_negatives, seed)
    check(texts, labels, num_negatives, paired)
    expected = 0
    for label in set(labels):
        copies = Counter(text for text, other in zip(texts, labels, strict=True) if other == label)
        most = max(copies.values())
        expected += copies.total() - max(0, 2 * most - copies.total()) if len(copies) > 1 else 0
    assert len(paired.rows) == expected
    assert size - expected == sum(
        count for what, count in paired.counts.items() if "left out" in what
    )


def test_texts_of_a_label_form_one_round() -> None:
    texts = [f"text {i}" for i in range(50)]
    paired = pair_exemplars(texts, ["same"] * 50, 0, 3)
    row, seen = 0, []
    while row not in seen:
        seen.append(row)
        row = int(paired.positives[row])
    assert len(seen) == 50
    assert not paired.counts


def test_a_label_with_one_text_is_left_out_and_counted() -> None:
    paired = pair_exemplars(["a", "b", "c", "d", "d"], ["x", "x", "y", "z", "z"], 1, 0)
    assert paired.rows.tolist() == [0, 1]
    assert paired.positives.tolist() == [1, 0]
    assert set(paired.negatives.ravel().tolist()) <= {2, 3, 4}
    assert paired.counts == {"rows whose label has no other text left out": 3}


def test_surplus_copies_are_left_out_and_counted() -> None:
    texts = ["a", "a", "a", "a", "b", "c"]
    paired = pair_exemplars(texts, ["x"] * 6, 0, 0)
    check(texts, ["x"] * 6, 0, paired)
    assert len(paired.rows) == 4
    assert paired.counts == {"copies of a text that makes up most of its label left out": 2}


def test_negatives_come_from_different_labels_while_there_are_enough() -> None:
    texts = [f"text {i}" for i in range(80)]
    labels = [f"label {i % 8}" for i in range(80)]
    for num_negatives, per_label in ((7, {1}), (14, {2}), (10, {1, 2})):
        paired = pair_exemplars(texts, labels, num_negatives, 0)
        for negatives in paired.negatives:
            counts = Counter(labels[n] for n in negatives)
            assert len(counts) == 7
            assert set(counts.values()) == per_label
    assert not paired.counts


def test_negatives_are_spread_over_labels_and_texts() -> None:
    labels = [f"label {i % 20}" for i in range(2000)]
    paired = pair_exemplars([f"text {i}" for i in range(2000)], labels, 5, 0)
    drawn = np.bincount(paired.negatives.ravel() % 20, minlength=20)
    assert abs(drawn - 500).max() < 5 * np.sqrt(500)  # five standard deviations
    assert len(set(paired.negatives.ravel().tolist())) > 0.95 * 2000


def test_a_text_under_two_labels_is_never_its_own_negative_nor_its_positives() -> None:
    texts, labels = ["a", "b", "a", "b", "c"], ["x", "x", "y", "y", "y"]
    for seed in range(30):
        paired = pair_exemplars(texts, labels, 2, seed)
        check(texts, labels, 2, paired)
        assert paired.negatives[:2].tolist() == [[4, -1], [4, -1]]
    assert paired.counts["rows with too few texts of other labels"] >= 2


def test_one_label_alone_has_no_negatives_and_says_so() -> None:
    paired = pair_exemplars(["a", "b"], ["x", "x"], 3, 0)
    assert paired.negatives.tolist() == [[-1] * 3] * 2
    assert paired.counts == {"rows with too few texts of other labels": 2}


def test_pairs_are_a_function_of_the_seed() -> None:
    texts, labels = [f"text {i}" for i in range(100)], [str(i % 5) for i in range(100)]
    first, again, other = (pair_exemplars(texts, labels, 3, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.positives, again.positives)
    assert np.array_equal(first.negatives, again.negatives)
    assert (first.positives != other.positives).mean() > 0.5
    assert (first.negatives != other.negatives).mean() > 0.5


def test_nothing_gives_nothing() -> None:
    paired = pair_exemplars([], [], 2, 0)
    assert paired.rows.shape == paired.positives.shape == (0,)
    assert paired.negatives.shape == (0, 2)
    assert not paired.counts


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="2 texts with 1 labels"):
        pair_exemplars(["a", "b"], ["x"], 1, 0)
    with pytest.raises(ValueError, match="num_negatives -1"):
        pair_exemplars(["a"], ["x"], -1, 0)


def test_banking77(shared_data: Path) -> None:
    bad = BadRows("error", 0, Counter())
    raw = [
        row
        for _, row in read_raw_rows(f"jsonl:{shared_data / 'cls' / 'banking77.jsonl'}", bad, 3000)
    ]
    texts, labels = [row["text"] for row in raw], [row["label"] for row in raw]
    paired = pair_exemplars(texts, labels, 7, 0)
    check(texts, labels, 7, paired)
    assert len(paired.rows) > 2900
