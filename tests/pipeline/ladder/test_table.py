"""A table of token vectors in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from leafkit.pipeline.ladder.rungs import sorted_rungs, spread_layers
from leafkit.pipeline.ladder.table import _Bags, principal_axes, solve_table


def texts_of(count: int, num_tokens: int, seed: int = 0) -> list[np.ndarray]:
    chooser = np.random.default_rng(seed)
    return [chooser.integers(0, num_tokens, chooser.integers(1, 9)) for _ in range(count)]


def dense(texts, num_tokens: int) -> np.ndarray:
    x = np.zeros((len(texts), num_tokens))
    for row, ids in enumerate(texts):
        np.add.at(x[row], ids, 1 / len(ids))
    return x


@pytest.mark.parametrize("ridge", [0.03, 1.0])
def test_the_table_is_the_ridge_solution_around_the_prior(ridge):
    """By the normal equations of the whole problem, in float64."""
    num_tokens, width = 40, 5
    texts, chooser = texts_of(120, 30), np.random.default_rng(1)  # ten tokens occur nowhere
    x, y = dense(texts, num_tokens), chooser.normal(size=(120, width))
    prior = chooser.normal(size=(num_tokens, width))
    told = x @ prior
    factor = max(0.0, (told * y).sum() / (told * told).sum())
    energies = (x**2).sum(axis=0)
    strength = ridge * energies[energies > 0].mean()
    wanted = np.linalg.solve(
        x.T @ x + strength * np.eye(num_tokens), x.T @ y + strength * factor * prior
    )
    found = solve_table(
        _Bags.of(texts, num_tokens), torch.tensor(y).float(), torch.tensor(prior).float(), ridge
    )
    np.testing.assert_allclose(found.numpy(), wanted, atol=2e-3)
    np.testing.assert_allclose(found[30:].numpy(), factor * prior[30:], atol=1e-5)


def test_axes_are_those_of_most_variance():
    chooser = np.random.default_rng(0)
    vectors = chooser.normal(size=(300, 6)).astype(np.float32) * [5, 4, 0.1, 0.1, 0.1, 0.1] + 2
    mean, axes = principal_axes(vectors.astype(np.float32), 2)
    np.testing.assert_allclose(mean, vectors.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(axes.T @ axes, np.eye(2), atol=1e-5)
    assert np.abs(axes[2:]).max() < 0.05


def test_layers_are_spread_and_the_last_is_kept():
    assert spread_layers(6, 1) == "6"
    assert spread_layers(12, 3) == "4,8,12"
    assert spread_layers(5, 2) == "3,5"


def test_rungs_are_sorted_by_cost_and_named_once():
    assert sorted_rungs(["3l", "1l", "table", "1l"]) == ["table", "1l", "3l"]
    assert sorted_rungs([]) == []
