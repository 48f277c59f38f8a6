"""mteb tasks made of rows at hand: mteb runs them as any of its own, without a hub."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

MISSING = "mteb is not installed: pip install leafkit[bench]"


def make_task(
    corpus: Sequence[Mapping[str, Any]],
    queries: Sequence[Mapping[str, Any]],
    qrels: Mapping[str, Mapping[str, int]],
    split: str = "test",
    **metadata: Any,
) -> Any:
    """A retrieval task whose data is these rows; skips the test where mteb is not installed.

    Args:
        corpus: rows with id, text and, where there is one, title.
        queries: rows with id and text, and instruction where there is one.
        qrels: grade by query and document.
        split: that it is evaluated on.
        metadata: fields of mteb's TaskMetadata.
    """
    pytest.importorskip("mteb", reason=MISSING)
    import datasets
    from mteb.abstasks import AbsTaskRetrieval

    def load() -> dict[str, Any]:
        rows = {
            "corpus": datasets.Dataset.from_list([dict(row) for row in corpus]),
            "queries": datasets.Dataset.from_list([dict(row) for row in queries]),
            "relevant_docs": {query: dict(grades) for query, grades in qrels.items()},
            "top_ranked": None,
        }
        return {"default": {split: rows}}

    return _task(
        AbsTaskRetrieval,
        load,
        {"type": "Retrieval", "main_score": "ndcg_at_10", "eval_splits": [split]} | metadata,
    )


def make_other_task(
    base: str, rows: Sequence[Mapping[str, Any]], main_score: str, **metadata: Any
) -> Any:
    """A task of another kind ("AbsTaskSTS") whose data is these rows, each with its split."""
    pytest.importorskip("mteb", reason=MISSING)
    import datasets
    from mteb import abstasks

    def load() -> Any:
        splits = {row["split"]: [r for r in rows if r["split"] == row["split"]] for row in rows}
        return datasets.DatasetDict(
            {split: datasets.Dataset.from_list(part) for split, part in splits.items()}
        )

    return _task(
        getattr(abstasks, base),
        load,
        {"main_score": main_score, "eval_splits": ["test"]} | metadata,
    )


def _task(base: type, load: Any, changes: Mapping[str, Any]) -> Any:
    from mteb.abstasks.task_metadata import TaskMetadata

    empty = (
        "reference",
        "date",
        "domains",
        "task_subtypes",
        "license",
        "annotations_creators",
        "dialect",
        "sample_creation",
        "bibtex_citation",
    )
    about = dict.fromkeys(empty) | {
        "name": "LocalTask",
        "description": "Rows at hand",
        "category": "t2t",
        "modalities": ["text"],
        "eval_langs": ["eng-Latn"],
        "dataset": {"path": "local/rows", "revision": "1"},
    }

    class LocalTask(base):
        metadata = TaskMetadata(**(about | changes))

        def load_data(self, **_: Any) -> None:
            self.dataset = load()
            self.data_loaded = True

    return LocalTask()


def read_beir_rows(
    folder: Path,
) -> tuple[list[dict[str, str]], list[dict[str, str]], dict[str, dict[str, int]]]:
    """Corpus, queries and test judgments of a folder in BEIR's layout, read without leafkit."""
    corpus, queries = (
        [
            {"id": row["_id"], "text": row["text"]}
            | ({"title": row["title"]} if "title" in row else {})
            for row in map(
                json.loads, (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
            )
        ]
        for name in ("corpus", "queries")
    )
    qrels: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, document, grade = line.split("\t")
        qrels.setdefault(query, {})[document] = int(grade)
    return corpus, [row for row in queries if row["id"] in qrels], qrels
