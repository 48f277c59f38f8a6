"""A bit per dimension."""

from __future__ import annotations

import numpy as np

from leafkit.index.codecs.bits import Binary


def test_binary_restores_signs():
    assert Binary(3).round_trip(np.float32([[0.2, 0.0, -3]])).tolist() == [[1, -1, -1]]
