"""Can a student be distilled from this teacher? Asked on the user's own texts, before training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leafkit.core.checkpoint_layout import DIAGNOSIS, DIAGNOSIS_FILE
from leafkit.core.method import method_of
from leafkit.data.records import Collection
from leafkit.data.stored.prefix_vectors import StoredVectors
from leafkit.evaluation.diagnosis.diagnose import Settings, diagnose
from leafkit.evaluation.diagnosis.findings import conclude
from leafkit.evaluation.diagnosis.searches import Judged
from leafkit.evaluation.metrics import Judgments
from leafkit.models.checkpoint import identify_model
from leafkit.pipeline.corpus import Corpus, load_corpus
from leafkit.pipeline.embed import load_query_vectors, load_vectors
from leafkit.pipeline.model_handle import ModelHandle, load_teacher
from leafkit.pipeline.run import Run
from leafkit.pipeline.space_guard import check_cosine
from leafkit.pipeline.student.head import head_width
from leafkit.results import Diagnosis

FORMAT = 2  # of the file, and of what the findings say


@dataclass(frozen=True, slots=True)
class DiagnosisInputs:
    """What decides about a teacher's diagnosis."""

    format: int
    teacher: str
    corpus: str
    split: str
    own: str  # policy for a query's own document
    student: str  # identity of its start model
    width: int
    dims: list[int]
    ranks: list[int]
    precisions: list[str]
    resamples: int
    seed: int
    precision: str
    tokens: list[int]  # cuts of queries and documents
    prompts: list[str]


def run_diagnose(run: Run) -> Diagnosis:
    """Diagnose the recipe's teacher on its corpus.

    Queries are the judged ones of bench.split; a collection without any is diagnosed without nDCG.

    Raises:
        UsageError: inherit.ranks or inherit.dims does not fit the teacher's vectors.
        LeafkitError: the teacher is missing, there are fewer than two texts, or a vector is not
            finite.
    """
    recipe = run.recipe
    teacher = load_teacher(run)
    space = teacher.model.space("document", recipe.data.max_document_tokens)
    check_cosine(teacher.reference or teacher.name, space, "diagnose=true")
    corpus = load_corpus(run, recipe.data.corpus)
    collection = corpus.collection
    settings = Settings(
        mrl_dims=tuple(recipe.inherit.dims or teacher.model.mrl_dims),
        ranks=tuple(recipe.inherit.ranks),
        student_width=head_width(recipe.student),
        precisions=tuple(recipe.inherit.precisions),
        num_resamples=recipe.bench.num_resamples,
        seed=recipe.seed,
    )
    inputs = _describe_inputs(run, teacher, corpus, settings)
    folder = run.folder / DIAGNOSIS
    documents = load_vectors(
        run,
        teacher.model,
        teacher.name,
        [d.full_text for d in collection.documents],
        role="document",
        max_tokens=recipe.data.max_document_tokens,
        what=f"{collection.name} documents",
    )
    queries = _embed_queries(run, teacher, collection)

    def work(metrics: dict[str, Any]) -> Diagnosis:
        figures = diagnose(documents, _judge_queries(run, collection, queries), settings)
        conclusion = conclude(figures)
        metrics["verdict"] = conclusion.verdict
        return Diagnosis(
            teacher=teacher.name,
            collection=collection.name,
            figures=figures,
            verdict=conclusion.verdict,
            findings=conclusion.findings,
        )

    def save(diagnosis: Diagnosis, draft: Path) -> None:
        diagnosis.save(draft / DIAGNOSIS_FILE)

    run.step(
        name=DIAGNOSIS,
        folder=folder,
        inputs=inputs,
        method=method_of(run_diagnose),
        work=work,
        save=save,
    )
    return Diagnosis.load(folder / DIAGNOSIS_FILE)


def _describe_inputs(
    run: Run, teacher: ModelHandle, corpus: Corpus, settings: Settings
) -> DiagnosisInputs:
    recipe = run.recipe
    return DiagnosisInputs(
        format=FORMAT,
        teacher=teacher.model.fingerprint,
        corpus=corpus.fingerprint,
        split=recipe.bench.split,
        own=recipe.data.exclude_self,
        student=identify_model(recipe.student.init),
        width=settings.student_width,
        dims=list(settings.mrl_dims),
        ranks=list(settings.ranks),
        precisions=list(settings.precisions),
        resamples=settings.num_resamples,
        seed=recipe.seed,
        precision=str(run.precision),
        tokens=[recipe.data.max_query_tokens, recipe.data.max_document_tokens],
        prompts=[teacher.model.prompt(role) for role in ("query", "document")],
    )


def _embed_queries(run: Run, teacher: ModelHandle, collection: Collection) -> StoredVectors | None:
    """Teacher vectors of the judged queries; None where there is none."""
    split = run.recipe.bench.split
    queries = collection.judged(split)
    if not queries:
        return None
    return load_query_vectors(
        run,
        teacher.model,
        teacher.name,
        queries,
        max_tokens=run.recipe.data.max_query_tokens,
        what=f"{collection.name} {split} queries",
    )


def _judge_queries(
    run: Run, collection: Collection, queries: StoredVectors | None
) -> Judged | None:
    """Query vectors with their judgments."""
    if queries is None:
        return None
    split = run.recipe.bench.split
    judgments = Judgments(
        [q.id for q in collection.judged(split)],
        [d.id for d in collection.documents],
        collection.qrels,
    )
    own = collection.own_documents(split, run.recipe.data.exclude_self)
    return Judged(queries[:], judgments, own)
