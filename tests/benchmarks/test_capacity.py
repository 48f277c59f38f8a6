"""benchmarks/capacity.py: its closed forms agree with each other."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from capacity_parts.solver import Setting, Solver
from capacity_parts.ways import BASELINE, Texts, Way, make_clusters, make_tokens

WIDTH, DIM, NUM_TOKENS = 6, 5, 9


def make_texts(count: int, seed: int) -> tuple[Texts, np.ndarray]:
    """Texts of two layers, and vectors of length one."""
    chooser = np.random.default_rng(seed)
    states = chooser.normal(size=(count, 2, WIDTH)).astype(np.float32)
    ids = [chooser.integers(0, NUM_TOKENS, 1 + i % 7) for i in range(count)]
    aims = chooser.normal(size=(count, DIM)).astype(np.float32)
    return Texts(states, ids), aims / np.linalg.norm(aims, axis=1, keepdims=True)


def test_a_table_solved_by_texts_is_the_one_that_is_solved_by_tokens() -> None:
    texts, aims = make_texts(60, 0)
    sparse = Way("table", "table", make_tokens(2), is_sparse=True)
    dense = replace(
        sparse,
        make=lambda fitted, seed: lambda asked: make_tokens(2)(fitted, seed)(asked).toarray(),
        is_sparse=False,
    )
    asked, _ = make_texts(20, 1)
    found = [Solver(way, texts, aims, 0).solve(Setting(0.1, 0.5))(asked) for way in (sparse, dense)]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


def test_clusters_that_are_held_back_are_the_map_of_all_texts() -> None:
    texts, aims = make_texts(60, 0)
    local = Way("clusters", "clusters", make_clusters(3, 0.05), is_local=True)
    held, alone = (
        Solver(way, texts, aims, 0).solve(Setting(0.1, share))(texts)
        for way, share in ((local, 1e-9), (BASELINE, 0.0))
    )
    free = Solver(local, texts, aims, 0).solve(Setting(0.1, 10.0))(texts)
    np.testing.assert_allclose(held, alone, atol=1e-5)
    assert ((free - aims) ** 2).sum() < 0.9 * ((alone - aims) ** 2).sum()


def test_shares_of_tokens_count_the_tokens_that_have_no_row() -> None:
    texts = Texts(np.zeros((3, 1, 2)), [np.array(ids) for ids in ([1, 1, 2], [1, 3], [4, 2])])
    shares = make_tokens(2)(texts, 0)
    # tokens 1 and 2 are in two texts; 7 is in none
    asked = Texts(np.zeros((2, 1, 2)), [np.array([1, 2, 3, 7]), np.array([2, 2])])
    np.testing.assert_allclose(shares(asked).toarray(), [[1 / 3, 1 / 3], [0, 1]], atol=1e-6)
