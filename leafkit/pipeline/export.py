"""The student as an ONNX graph for serving queries, compared with the model it came from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from leafkit.core.checkpoint_layout import EXPORT, QUALITY_FILE
from leafkit.core.console import log
from leafkit.core.errors import LeafkitError
from leafkit.core.method import method_of
from leafkit.embedders.onnx_graph import OnnxGraphEmbedder
from leafkit.embedders.protocol import Embedder
from leafkit.evaluation.bootstrap import Bootstrap
from leafkit.evaluation.metrics import per_query_metrics
from leafkit.export.graph import GRAPH_FORM, export_graph
from leafkit.index.exact import search_exact
from leafkit.pipeline.corpus import Corpus, load_corpus
from leafkit.pipeline.embed import load_vectors
from leafkit.pipeline.model_handle import load_student, load_teacher
from leafkit.pipeline.run import Run

_NUM_PROBES = 64
_DEPTH = 10


@dataclass(frozen=True, slots=True)
class ExportInputs:
    """What decides about a student's graphs and their quality."""

    form: int
    student: str
    teacher: str
    corpus: str
    split: str
    resamples: int
    seed: int
    tokens: list[int]  # cuts of queries and documents


def run_export(run: Run) -> Path:
    """Write the student's graphs, float32 and int8, and what each of them costs in nDCG@10 on the
    home collection.

    Raises:
        MissingExtra: onnx, onnxscript or onnxruntime is not installed.
        LeafkitError: the student is not there, is no model at hand, or cannot be exported.
    """
    teacher = load_teacher(run)
    student = load_student(run, teacher)
    encoder = student.encoder
    if encoder is None and student.network is not None:
        raise LeafkitError(
            f"{student.reference} is a table: it answers faster without a graph",
            "leafkit search serves it as it is",
        )
    if encoder is None:
        raise LeafkitError(
            f"{student.reference} is no model at hand: there is nothing to export",
            "export a trained student",
        )
    corpus = load_corpus(run, run.recipe.data.corpus)
    folder = run.folder / EXPORT
    inputs = ExportInputs(
        form=GRAPH_FORM,
        student=student.model.fingerprint,
        teacher=teacher.model.fingerprint,
        corpus=corpus.fingerprint,
        split=run.recipe.bench.split,
        resamples=run.recipe.bench.num_resamples,
        seed=run.recipe.seed,
        tokens=[run.recipe.data.max_query_tokens, run.recipe.data.max_document_tokens],
    )
    queries = corpus.collection.judged(run.recipe.bench.split)
    probes = [q.text for q in (queries or corpus.collection.queries)][:_NUM_PROBES]
    probes = probes or [d.text for d in corpus.collection.documents][:_NUM_PROBES]
    limit = run.recipe.data.max_document_tokens
    documents = [d.full_text for d in corpus.collection.documents]
    what = f"{corpus.collection.name} documents"
    store = (
        load_vectors(run, teacher.model, teacher.name, documents, "document", limit, what)
        if queries
        else None
    )

    def work(metrics: dict[str, Any]) -> dict[str, Any]:
        return metrics

    def save(metrics: dict[str, Any], draft: Path) -> None:
        metrics["smallest_cosine"] = export_graph(encoder, draft, probes)
        if store is None:
            return
        models = {
            "model": student.model,
            "float32": OnnxGraphEmbedder(draft),
            "int8": OnnxGraphEmbedder(draft, "int8"),
        }
        metrics["quality"] = compare_queries(run, corpus, store[:], models)
        (draft / QUALITY_FILE).write_text(json.dumps(metrics["quality"], indent=1))

    manifest = run.step(
        name=EXPORT,
        folder=folder,
        inputs=inputs,
        method=method_of(run_export),
        work=work,
        save=save,
    )
    for name, found in manifest.metrics.get("quality", {}).items():
        log(
            f"  {name} graph: smallest cosine with the model "
            f"{manifest.metrics['smallest_cosine'][name]:.4f}; nDCG@10"
            f" {found['mean']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}] against it, n = "
            f"{found['num_queries']:,}"
        )
    return folder


def compare_queries(
    run: Run, corpus: Corpus, documents: np.ndarray, models: dict[str, Embedder]
) -> dict[str, Any]:
    """nDCG@10 of each graph's queries minus the model's own, on the teacher's documents (N, D),
    with paired intervals.
    """
    queries = corpus.collection.judged(run.recipe.bench.split)
    ids = ([q.id for q in queries], [d.id for d in corpus.collection.documents])
    values = {}
    for name, model in models.items():
        vectors = model.embed([q.text for q in queries], "query", run.recipe.data.max_query_tokens)
        ranking = search_exact(vectors, documents, _DEPTH)
        values[name] = per_query_metrics(ranking, *ids, corpus.collection.qrels, ["ndcg@10"])[
            "ndcg@10"
        ]
    bootstrap = Bootstrap(len(queries), run.recipe.bench.num_resamples, run.recipe.seed)
    return {
        name: bootstrap.difference(values[name], values["model"]).to_plain()
        | {"num_queries": len(queries)}
        for name in models
        if name != "model"
    }
