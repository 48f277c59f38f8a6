"""How many documents a corpus has of which a part was read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import tiny

from leafkit.config import DataConfig
from leafkit.pipeline.corpus import Corpus
from leafkit.pipeline.predict import load_part as module
from leafkit.pipeline.predict.load_part import load_part
from leafkit.pipeline.predict.settings import PredictSettings

ROWS, READ = 600, 300
TEXTS: list[dict[str, Any]] = [{"id": f"d{i}", "text": f"text {i}"} for i in range(ROWS)]
# a pair brings a document of its own for each of its texts, or names one of another row
PAIRS: list[dict[str, Any]] = [
    {"query": f"ask {i}?", "positive": f"text {i}", "negatives": [f"other {i}", f"third {i}"]}
    for i in range(ROWS)
]
NAMED: list[dict[str, Any]] = [
    *TEXTS[:60],
    *({"query": f"ask {i}?", "positive_ids": [f"d{i % 60}"]} for i in range(60, ROWS)),
]


@pytest.mark.parametrize(("rows", "count"), [(TEXTS, ROWS), (PAIRS, 3 * ROWS), (NAMED, 60)])
def test_documents_are_told_and_not_rows(rows, count, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_DOCUMENTS", READ)
    uri = f"jsonl:{tiny.write_lines(tmp_path / 'rows.jsonl', rows)}"
    run: Any = SimpleNamespace(
        recipe=SimpleNamespace(data=DataConfig(corpus=uri)),
        on_main=lambda work: work(),
        share=lambda what, load: load(),
    )
    part = load_part(run, PredictSettings())
    assert part.num_rows == ROWS
    assert part.num_documents == pytest.approx(count, rel=0.2)
    num_read = len(part.corpus.collection.documents)
    assert num_read < part.num_documents
    monkeypatch.setattr(module, "MOST_DOCUMENTS", ROWS)
    whole = Corpus(module.read_part(uri, run.recipe.data, ROWS), "")
    monkeypatch.setattr(module, "load_corpus", lambda run, uri: whole)
    part = load_part(run, PredictSettings())
    assert (part.num_documents, part.num_rows) == (count, 0)
