"""``benchmarks/published_codes.py``: every way of storing ranks the nearest document first, whoever
wrote the search.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason='needs pip install "leafkit[dev]"')
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from published_codes import make_ways

from leafkit.evaluation.metrics import Judgments, fast_ndcg
from leafkit.index.ranking import tie_order


def test_every_way_finds_each_document_with_itself_and_its_neighbor_after_it():
    generator = np.random.default_rng(0)
    documents = generator.standard_normal((60, 64)).astype(np.float32)
    documents[1::2] = documents[::2] + 0.4 * generator.standard_normal((30, 64)).astype(np.float32)
    documents /= np.linalg.norm(documents, axis=1, keepdims=True)
    ids = [f"d{i:02d}" for i in range(60)]
    queries = [f"q{i}" for i in range(0, 60, 2)]
    qrels = {q: {f"d{int(q[1:]):02d}": 2, f"d{int(q[1:]) + 1:02d}": 1} for q in queries}
    judgments = Judgments(queries, ids, qrels)
    for name, way in make_ways(documents[::2].copy(), documents, tie_order(ids)).items():
        # inner products of codes that start at each dimension's smallest value are not those of the
        # values
        smallest = 0.8 if "uint8" in name else 0.99
        assert fast_ndcg(way(), judgments).mean() > smallest, name
