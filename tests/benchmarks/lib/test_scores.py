"""nDCG of one encoder on both sides."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from leafkit.core.errors import LeafkitError
from leafkit.core.truncate import truncate_then_normalize
from leafkit.data.records import Collection, Document, Query
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.evaluation.benchmark import run_benchmark

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
from lib.scores import score_encoder


def _collection_of_pairs() -> Collection:
    pairs = tiny.make_pairs(24)
    documents = [Document(f"d{i}", text) for i, (_, text) in enumerate(pairs)]
    queries = [Query(f"q{i}", text) for i, (text, _) in enumerate(pairs)]
    return Collection(
        "pairs", documents, queries, {f"q{i}": {f"d{i}": 1} for i in range(len(pairs))}
    )


def test_scores_of_one_encoder_equal_the_benchmark_s_at_every_dimension():
    collection = _collection_of_pairs()
    embedder = TransformerEmbedder(
        tiny.make_encoder(prompts={"query": tiny.PROMPT}), torch.device("cpu"), torch.float32
    )
    found = score_encoder(
        embedder, collection, "test", query_tokens=32, document_tokens=48, dims=(0, 8)
    )
    queries = embedder.embed([q.text for q in collection.judged("test")], "query", 32)
    documents = embedder.embed([d.full_text for d in collection.documents], "document", 48)
    for dim, cut in ((0, 32), (8, 8)):
        vectors = {
            "teacher": (
                truncate_then_normalize(queries, cut),
                truncate_then_normalize(documents, cut),
            )
        }
        expected = run_benchmark(
            collection, "test", vectors, kind="in-domain", num_resamples=20, seed=0
        ).per_query["teacher"]["ndcg@10"]
        np.testing.assert_allclose(found[dim], expected)
    assert not np.array_equal(found[0], found[8])
    with pytest.raises(LeafkitError, match="no judged validation query"):
        score_encoder(embedder, collection, "validation", query_tokens=32, document_tokens=48)
