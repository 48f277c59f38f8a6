"""Collections as they come, against mteb's own evaluation (which is pytrec_eval's): documents that
are empty, copies, or missing; queries without judgments, or with none that is positive; ties.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from leafkit.config import DataConfig
from leafkit.data.sources import read_collection
from leafkit.evaluation.benchmark import run_benchmark

WORDS = ["kettle", "harbour", "bread", "bees", "glass", "snow"]
DIM = 8


def _vector(text: str) -> np.ndarray:
    """Few whole numbers, decided by the text alone: copies and many others tie."""
    seed = np.frombuffer(text.encode().ljust(4, b"\0")[:4], dtype=np.uint32)[0] + len(text)
    return np.random.default_rng(int(seed)).integers(0, 3, DIM).astype(np.float32)


def _write(folder: Path, seed: int) -> dict[str, dict[str, int]]:
    """A collection in BEIR's layout, and its judgments as BEIR's reader has them."""
    generator = np.random.default_rng(seed)
    texts = [" ".join(generator.choice(WORDS, 3)) for _ in range(60)]
    texts += texts[:9] + [text.upper() for text in texts[:9]] + ["", " ", ""]
    names = [f"d{i:03}" for i in generator.permutation(len(texts))]
    queries = {f"q{i}": " ".join(generator.choice(WORDS, 2)) for i in range(30)}
    qrels: dict[str, dict[str, int]] = {}
    for query in list(queries)[:24]:
        judged = [*generator.choice(names, 6, replace=False).tolist(), f"gone-{query}"]
        grades = generator.integers(0, 3, len(judged))
        qrels[query] = {d: int(g) for d, g in zip(judged, grades, strict=True)}
    for query in ("q0", "q1"):
        qrels[query] = dict.fromkeys(qrels[query], 0)
    qrels["q2"] = {"gone-for-all": 1}
    qrels["no-such-query"] = {names[0]: 1}
    (folder / "qrels").mkdir(parents=True)
    rows = ({"_id": d, "title": "", "text": t} for d, t in zip(names, texts, strict=True))
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = ({"_id": q, "text": t} for q, t in queries.items())
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    lines = [f"{q}\t{d}\t{g}\n" for q, grades in qrels.items() for d, g in grades.items()]
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
    return qrels


@pytest.mark.parametrize("seed", range(4))
def test_figures_are_those_of_mteb(tmp_path: Path, seed: int) -> None:
    reference = pytest.importorskip("mteb._evaluators.retrieval_metrics")
    qrels = _write(tmp_path / "set", seed)
    collection = read_collection(f"beir:{tmp_path / 'set'}", DataConfig())
    judged = collection.judged("test")
    queries = np.stack([_vector(q.text) for q in judged])
    documents = np.stack([_vector(d.full_text) for d in collection.documents])
    found = run_benchmark(
        collection,
        "test",
        {"teacher": (queries, documents)},
        kind="in-domain",
        num_resamples=100,
        seed=0,
        bm25=False,
    )
    results = {
        query.id: {
            d.id: float(row @ v) for d, v in zip(collection.documents, documents, strict=True)
        }
        for query, row in zip(judged, queries, strict=True)
    }
    theirs = reference.calculate_retrieval_scores(results, qrels, [10, 100])
    mine = {name: values.mean() for name, values in found.per_query["teacher"].items()}
    assert len(judged) == 24
    assert len(collection.documents) == 81
    assert mine["ndcg@10"] == pytest.approx(theirs.ndcg["NDCG@10"], abs=1e-4)
    assert mine["map@100"] == pytest.approx(theirs.map["MAP@100"], abs=1e-4)
    for k in (10, 100):
        assert mine[f"recall@{k}"] == pytest.approx(theirs.recall[f"Recall@{k}"], abs=1e-4)
    assert mine["mrr@10"] == pytest.approx(theirs.mrr["MRR@10"], abs=1e-4)
    assert found.per_query["teacher"]["ndcg@10"][:3].tolist() == [0, 0, 0]
