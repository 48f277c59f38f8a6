"""Files damaged by the hundred: each is refused by name, is computed again, or changes nothing."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from fuzz_files import Outcome, Specimen, try_all
from store_reader import make_store, make_vectors

from leafkit.cli import main
from leafkit.config import DataConfig
from leafkit.core.artifact import open_artifact
from leafkit.data.records import Collection
from leafkit.data.sources import read_collection
from leafkit.embedders.precomputed import PrecomputedVectors
from leafkit.models.encoder_protocol import read_model
from leafkit.pipeline.load_pair import load_pair
from leafkit.results import EvaluationResult, InheritanceGrid, RunReport

QUERY, _ = tiny.make_pairs()[0]
TEXTS = ["compute the matrix", "draw a graph twice"]
_log = logging.getLogger(__name__)


def _search(index: str):
    def read(folder: Path) -> object:
        hits = load_pair(folder, index=index, device="cpu").search(QUERY, 3)
        return [(hit.id, hit.text, round(hit.score, 5)) for hit in hits]

    return read


def _embed(folder: Path) -> object:
    encoder = read_model(folder)
    with torch.inference_mode():
        vectors = encoder.finish(encoder(encoder.tokenize(TEXTS, "query")))
    return vectors.numpy().round(5).tolist(), encoder.prompt("query"), encoder.dim


def _read_store(folder: Path) -> object:
    store = make_store(folder / "store", 300, 8)
    return "to be made" if store.missing() else store[:].tolist()


def _make_store(folder: Path) -> None:
    store = make_store(folder / "store", 300, 8)
    for shard in store.missing():
        store.write(shard, make_vectors(np.arange(300), 8)[shard.start : shard.stop])


def _make_theirs(folder: Path) -> None:
    folder.mkdir()
    generator = np.random.default_rng(0)
    for stem, column in (("queries", 0), ("documents", 1)):
        texts = [pair[column] for pair in tiny.make_pairs(20)]
        tiny.write_lines(folder / f"{stem}.jsonl", [{"text": text} for text in texts])
        vectors = generator.normal(size=(20, 8)).astype(np.float32)
        np.save(folder / f"{stem}.npy", vectors / np.linalg.norm(vectors, axis=1)[:, None])
    about = {"name": "theirs", "prompts": {"query": "find: "}, "normalized": True}
    (folder / "about.json").write_text(json.dumps(about))


def _read_theirs(folder: Path) -> object:
    vectors = PrecomputedVectors(folder)
    return vectors.prompt("query"), [
        np.asarray(vectors.embed([pair[column] for pair in tiny.make_pairs(20)], role, 64)).tolist()
        for column, role in enumerate(("query", "document"))
    ]


def _make_beir(folder: Path) -> None:
    (folder / "qrels").mkdir(parents=True)
    pairs = tiny.make_pairs(20)
    documents = [{"_id": f"d{i}", "title": "t", "text": d} for i, (_, d) in enumerate(pairs)]
    tiny.write_lines(folder / "corpus.jsonl", documents)
    tiny.write_lines(
        folder / "queries.jsonl", [{"_id": f"q{i}", "text": q} for i, (q, _) in enumerate(pairs)]
    )
    rows = "".join(f"q{i}\td{i}\t1\n" for i in range(20))
    (folder / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{rows}")


def _collection(found: Collection) -> object:
    return repr((found.documents, found.queries, found.qrels, found.negatives))


def _read_jsonl(folder: Path) -> object:
    return _collection(read_collection(f"jsonl:{folder / 'pairs.jsonl'}", DataConfig()))


def _read_beir(folder: Path) -> object:
    return _collection(read_collection(f"beir:{folder}", DataConfig()))


def _read_kept(folder: Path) -> object:
    open_artifact(folder)
    return _collection(Collection.load(folder))


@pytest.fixture(scope="module")
def specimens(tmp_path_factory: pytest.TempPathFactory) -> list[Specimen]:
    """A finished run and everything that a user may bring."""
    root = tmp_path_factory.mktemp("sound")
    home = tiny.make_home(root / "home")
    path = tiny.write_recipe(root / "tiny.yaml", tiny.tiny_recipe(home, root / "ck"))
    assert main.main(["distill", f"recipe={path}"]) == 0
    run = root / "ck" / "tiny"
    _search("hnsw")(run)
    for make, name in ((_make_store, "stores"), (_make_theirs, "theirs"), (_make_beir, "beir")):
        make(root / name)
    (root / "pairs").mkdir()
    (home / "pairs.jsonl").rename(root / "pairs" / "pairs.jsonl")
    (corpus,) = (root / "ck" / "corpora").iterdir()
    pair = ("student/*", "index/*", "index-hnsw/*")
    return [
        Specimen("pair", run, _search("flat"), pair[:2]),
        Specimen("pair, sealed anew", run, _search("flat"), pair[1:2], is_resealed=True),
        Specimen("faiss index", run, _search("hnsw"), pair[2:]),
        Specimen(
            "report", run, lambda f: repr(RunReport.load(f / "report.json")), ("report.json",)
        ),
        Specimen("benchmark", run / "bench", _read_bench),
        Specimen("inheritance", run / "inherit", _read_grid),
        Specimen("kept corpus", corpus, _read_kept),
        Specimen("kept corpus, sealed anew", corpus, _read_kept, is_resealed=True, is_foreign=True),
        Specimen("vector store", root / "stores", _read_store, is_remade=True),
        Specimen("model", home / "big", _embed, is_foreign=True),
        Specimen(
            "vectors of theirs",
            root / "theirs",
            _read_theirs,
            is_foreign=True,
            optional=("about.json",),
        ),
        Specimen("jsonl", root / "pairs", _read_jsonl, is_foreign=True),
        Specimen("beir", root / "beir", _read_beir, is_foreign=True),
    ]


def _read_report(folder: Path) -> object:
    return repr(RunReport.load(folder / "report.json"))


def _read_bench(folder: Path) -> object:
    open_artifact(folder)
    return repr(EvaluationResult.load(folder / "results.json"))


def _read_grid(folder: Path) -> object:
    open_artifact(folder)
    return repr(InheritanceGrid.load(folder / "grid.json"))


def _try_all(specimens: list[Specimen], place: Path, share: float) -> list[Outcome]:
    found = [
        outcome
        for s in specimens
        # a pair is slow to load, and its files are the model's and the index's
        for outcome in try_all(s, place / "copy", share * (0.3 if s.name == "pair" else 1.0))
    ]
    counts = {
        s.name: dict(Counter(o.what for o in found if o.case.startswith(f"{s.name}: ")))
        for s in specimens
    }
    _log.warning("%d damaged files: %s", len(found), counts)
    return found


def _complain(found: list[Outcome]) -> str:
    bad = [f"{o.what}: {o.case}\n    {o.told[:300]}" for o in found if not o.is_good]
    return "\n".join([f"{len(bad)} of {len(found)} cases", *bad])


def test_some_damaged_files(specimens: list[Specimen], tmp_path: Path) -> None:
    found = _try_all(specimens, tmp_path, share=0.04)
    assert all(outcome.is_good for outcome in found), _complain(found)
    assert len(found) > 40


@pytest.mark.slow
def test_every_file_with_every_damage(specimens: list[Specimen], tmp_path: Path) -> None:
    found = _try_all(specimens, tmp_path, share=1.0)
    assert all(outcome.is_good for outcome in found), _complain(found)
    assert len(found) > 1500
    assert Counter(outcome.what for outcome in found)["refused"] > 1200
