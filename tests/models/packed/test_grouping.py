"""Groups of similar length: nothing lost, little padded."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from leafkit.models.packed.grouping import group_by_length, pack


def waste(lengths: np.ndarray, group: np.ndarray) -> float:
    return 1 - lengths[group].sum() / (len(group) * lengths[group].max())


@pytest.mark.parametrize("seed", range(5))
def test_every_text_is_in_exactly_one_group(seed):
    lengths = np.random.default_rng(seed).integers(1, 200, size=97)
    groups = group_by_length(lengths)
    assert sorted(np.concatenate(groups).tolist()) == list(range(97))


@pytest.mark.parametrize("max_waste", [0.0, 0.1, 0.3])
def test_padding_stays_under_the_bound(max_waste):
    lengths = np.random.default_rng(1).integers(1, 300, size=200)
    groups = group_by_length(lengths, max_waste=max_waste)
    assert max(waste(lengths, group) for group in groups) <= max_waste + 1e-9
    assert len(groups) < 200


def test_a_larger_bound_makes_fewer_groups():
    lengths = np.random.default_rng(1).integers(1, 300, size=200)
    assert len(group_by_length(lengths, max_waste=0.3)) < len(
        group_by_length(lengths, max_waste=0.05)
    )


def test_padded_size_stays_within_the_token_limit():
    lengths = np.random.default_rng(2).integers(5, 20, size=100)
    groups = group_by_length(lengths, max_waste=1.0, max_tokens=64)
    assert max(len(g) * lengths[g].max() for g in groups) <= 64


def test_a_text_above_the_token_limit_is_alone():
    assert [g.tolist() for g in group_by_length([3, 500, 3], max_tokens=16)] == [[1], [0, 2]]


def test_longest_group_comes_first_and_equal_lengths_share_one():
    assert [g.tolist() for g in group_by_length([4, 9, 4, 9, 4])] == [[1, 3], [0, 2, 4]]


def test_no_text_gives_no_group():
    assert group_by_length([]) == []


def test_a_batch_is_its_texts_longest_first_without_padding():
    lengths = (5, 3, 9, 3, 1, 12, 9, 5)
    generator = np.random.default_rng(0)
    ids = [generator.integers(5, 30, length).tolist() for length in lengths]
    batch = pack(ids, torch.device("cpu"))
    assert batch.groups == [(1, 12), (2, 9), (2, 5), (2, 3), (1, 1)]
    assert batch.ids_N.tolist() == [token for i in batch.order for token in ids[i]]
    assert batch.positions_N.tolist() == [p for i in batch.order for p in range(len(ids[i]))]
