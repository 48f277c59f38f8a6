"""Students in the form that other tools load: ``leafkit.export``, and the step of a recipe that
writes a student's ONNX graphs and measures what each of them costs.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from leafkit.core.artifact import open_artifact
from leafkit.core.checkpoint_layout import (
    EXPORT,
    MODEL_SPACE_FILE,
    QUALITY_FILE,
    STUDENT,
)
from leafkit.core.console import log
from leafkit.core.errors import UsageError
from leafkit.core.method import method_of
from leafkit.data.records import Document
from leafkit.data.vector_store import Space
from leafkit.embedders.kept_endpoint import ENDPOINT_KEY
from leafkit.embedders.onnx_graph import OnnxGraphEmbedder
from leafkit.embedders.prompted import prompted_queries
from leafkit.embedders.protocol import Embedder
from leafkit.evaluation.bootstrap import Bootstrap
from leafkit.evaluation.metrics import per_query_metrics
from leafkit.exporters.hub import document_model
from leafkit.exporters.license_text import check_license
from leafkit.exporters.onnx_export import export_graph, transformer_of
from leafkit.exporters.source import ExportSource, no_teacher
from leafkit.exporters.target_names import check_targets
from leafkit.exporters.targets import write_targets
from leafkit.index.exact import search_exact
from leafkit.models.encoder_protocol import Encoder, read_model
from leafkit.models.folder import read_space
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.corpus import Corpus, load_corpus
from leafkit.pipeline.embed import load_vectors
from leafkit.pipeline.exports.recipe_folders import hub_id_of_start, no_local_model, read_card
from leafkit.pipeline.exports.search_page import search_page
from leafkit.pipeline.load_pair import load_pair
from leafkit.pipeline.model_handle import load_student, load_teacher
from leafkit.pipeline.pair_folder import describe_student_space
from leafkit.pipeline.run import Run
from leafkit.results import GraphQuality, codec

_NUM_PROBES = 64
_DEPTH = 10


@dataclass(frozen=True, slots=True)
class ExportInputs:
    """What decides about a student's graphs and their quality."""

    student: str
    teacher: str
    corpus: str
    split: str
    resamples: int
    seed: int
    tokens: list[int]  # cuts of queries and documents


class PairToExport(Protocol):
    """What is needed of a pair.

    Attributes:
        student: the model.
        documents: in the order of the vectors.
        vectors: (N, D) of them.
        space: of the documents' vectors.
        reference: how a recipe names the teacher.
        teacher_prompts: by role, those that the teacher was given.
        prefix_of: the teacher's whole dimension, where the pair lives in its first ones; else 0.
    """

    student: Encoder
    documents: Sequence[Document]
    vectors: np.ndarray
    space: Space
    reference: str
    teacher_prompts: Mapping[str, str]
    prefix_of: int

    @property
    def teacher(self) -> Embedder:
        """What embeds documents; raises a LeafkitError where it cannot be had."""


def export(
    pair: PairToExport | str | Path,
    folder: str | Path,
    to: Sequence[str] = ("hub",),
    *,
    name: str = "",
    license: str = "",
    web_runtime: str | Path = "",
) -> dict[str, Path]:
    """Write a pair's student for other tools, each target in a folder of its own.

    What an earlier export wrote is replaced; anything else in the way is refused.

    Args:
        pair: a ``Pair``, the folder of a finished recipe, or a student's model folder.
        folder: where to; created.
        to: "hub" writes plain sentence-transformers models with their cards: ``hub/student``,
            and, where the teacher is a local model of stock modules, ``hub/teacher`` as it
            embeds the documents and ``hub/pair``, both behind one Router; each can be named by
            itself, "student", "teacher", "pair". "onnx" writes ``hub/student-onnx``, float32
            and int8 graphs in standard operators; "openvino" writes ``openvino``; "web" writes
            ``web``, static files of a page that searches the pair's documents. All are
            compared with the model before they are kept; docs/export.md says which tool opens
            which.
        name: of the model in its card; "" takes the name of its folder.
        license: identifier for the card, as the hub writes it ("apache-2.0"); "" names none.
        web_runtime: folder where npm installed what runs a model in a browser, for "web"; see
            ``leafkit.exporters.web.runtime``.

    Returns:
        The folder of each target that was written.

    Raises:
        UsageError: a target is not known, a name or license is not one, or the pair is none.
        MissingExtra: a target needs a package that is not installed.
        LeafkitError: the student is damaged or cannot be exported so, or something else than
            an earlier export is in the way.
    """
    check_license(license)
    check_targets(to)
    if web_runtime and "web" not in to:
        raise UsageError(f"web_runtime={web_runtime} is for the target web", 'to=["web"]')
    source = _read_source(Path(pair)) if isinstance(pair, str | Path) else _pair_source(pair)
    source = replace(
        source,
        name=name or source.name,
        license=license,
        page=functools.cache(lambda: search_page(pair, web_runtime)),
    )
    return write_targets(source, Path(folder), to)


def _read_source(folder: Path) -> ExportSource:
    """The student in a recipe's folder with the card that the report wrote of it, or a model
    folder.
    """
    if not folder.is_dir():
        raise UsageError(
            f"{folder}: no such folder", "name a recipe's folder, such as checkpoints/kalm-to-23m"
        )
    place, card, base, teacher = folder, "", "", no_teacher
    if (folder / STUDENT).is_dir():
        place = folder / STUDENT
        base = hub_id_of_start(open_artifact(place, STUDENT).recipe)
        card = read_card(folder)
        teacher = functools.cache(lambda: _teacher_of(load_pair(folder)))
    space = read_space(place) if (place / MODEL_SPACE_FILE).is_file() else {}
    space.pop(ENDPOINT_KEY, None)  # what is published names no address of the maker's
    name = folder.resolve().name
    return ExportSource(
        read_model(place), space, name=name, card=card, teacher=teacher, base_model=base
    )


def _pair_source(pair: PairToExport) -> ExportSource:
    space = describe_student_space(
        pair.student,
        pair.space.teacher,
        pair.reference,
        pair.teacher_prompts,
        prefix_of=pair.prefix_of,
    )
    return ExportSource(pair.student, space, teacher=functools.cache(lambda: _teacher_of(pair)))


def _teacher_of(pair: PairToExport) -> TextEncoder:
    return document_model(
        pair.teacher.encoder,
        dim=pair.student.dim,
        max_tokens=pair.space.max_tokens,
        reference=pair.reference,
    )


def run_export(run: Run) -> Path:
    """Write the student's graphs, float32 and int8, and what each of them costs in nDCG@10 on the
    corpus's own queries.

    Raises:
        MissingExtra: onnx, onnxscript or onnxruntime is not installed.
        LeafkitError: the student is not there, is no local model, or cannot be exported.
    """
    teacher = load_teacher(run)
    student = load_student(run, teacher)
    if student.network is None:
        raise no_local_model(student.reference)
    encoder = transformer_of(student.network, student.reference)
    corpus = load_corpus(run, run.recipe.data.corpus)
    folder = run.folder / EXPORT
    inputs = ExportInputs(
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
        load_vectors(
            run,
            teacher.model,
            teacher.name,
            documents,
            role="document",
            max_tokens=limit,
            what=what,
        )
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
        quality = compare_queries(run, corpus, store[:], models)
        metrics["quality"] = codec.to_plain(quality.losses)
        quality.save(draft / QUALITY_FILE)

    manifest = run.step(
        name=EXPORT,
        folder=folder,
        inputs=inputs,
        method=method_of(run_export),
        work=work,
        save=save,
    )
    if (folder / QUALITY_FILE).is_file():
        for name, loss in GraphQuality.load(folder / QUALITY_FILE).losses.items():
            log(
                f"  {name} graph: smallest cosine with the model "
                f"{manifest.metrics['smallest_cosine'][name]:.4f}; nDCG@10 {loss.value:+.4f} "
                f"[{loss.low:+.4f}, {loss.high:+.4f}] against it, n = {loss.n:,}"
            )
    return folder


def compare_queries(
    run: Run, corpus: Corpus, documents: np.ndarray, models: dict[str, Embedder]
) -> GraphQuality:
    """nDCG@10 of each graph's queries minus the model's own, on the teacher's documents (N, D),
    with paired intervals.
    """
    queries = corpus.collection.judged(run.recipe.bench.split)
    ids = ([q.id for q in queries], [d.id for d in corpus.collection.documents])
    values = {}
    texts, role = prompted_queries(models["model"], queries)  # a graph knows no template
    for name, model in models.items():
        vectors = model.embed(texts, role, run.recipe.data.max_query_tokens)
        ranking = search_exact(vectors, documents, _DEPTH)
        metrics = per_query_metrics(ranking, *ids, corpus.collection.qrels, metrics=["ndcg@10"])
        values[name] = metrics["ndcg@10"]
    bootstrap = Bootstrap(len(queries), run.recipe.bench.num_resamples, run.recipe.seed)
    return GraphQuality(
        {
            name: bootstrap.difference(values[name], values["model"])
            for name in models
            if name != "model"
        }
    )
