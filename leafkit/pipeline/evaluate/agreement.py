"""A corpus without judged queries gets figures all the same: the student's agreement with its
teacher.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from leafkit.core.artifact import read_manifest
from leafkit.core.checkpoint_layout import FIGURES_FILE, STUDENT
from leafkit.core.method import method_of
from leafkit.data.stored.prefix_vectors import StoredVectors
from leafkit.data.vector_store import hash_texts
from leafkit.evaluation.agreement import measure_agreement
from leafkit.pipeline.corpus import Corpus, load_corpus
from leafkit.pipeline.embed import load_vectors
from leafkit.pipeline.evaluate.parts import keep_part
from leafkit.pipeline.model_handle import ModelHandle
from leafkit.pipeline.run import Run
from leafkit.pipeline.student.unjudged_test_set import choose_held_out
from leafkit.results import Agreement, EvaluationResult
from leafkit.results.agreement import UNKNOWN


@dataclass(frozen=True, slots=True)
class AgreementInputs:
    """What decides about the agreement of two models on a collection."""

    corpus: str
    asked: str  # hash of the texts
    training: str  # whether it has seen them
    spaces: list[dict[str, Any]]  # of queries and documents, teacher and student
    precision: str
    resamples: int
    seed: int


def measure_unjudged(run: Run, teacher: ModelHandle, student: ModelHandle) -> list[Path]:
    """The agreement of student and teacher on the recipe's corpus, where it has no judged query of
    bench.split; nothing where it has some, or too few texts.
    """
    recipe = run.recipe
    if not recipe.data.corpus:
        return []
    corpus = load_corpus(run, recipe.data.corpus)
    collection = corpus.collection
    held_out = choose_held_out(collection, recipe.bench.split, teacher)
    if held_out is None:
        return []
    texts = [document.full_text for document in collection.documents]
    queries: list[StoredVectors] = []
    documents: list[StoredVectors] = []
    for handle in (teacher, student):
        is_query = held_out.role == "query"
        limits = recipe.data.max_query_tokens, recipe.data.max_document_tokens
        queries.append(
            load_vectors(
                run,
                handle.model,
                handle.name,
                held_out.texts,
                role=held_out.role,
                max_tokens=limits[0] if is_query else limits[1],
                what=f"{collection.name} {held_out.asked_with}",
            )
        )
        documents.append(
            load_vectors(
                run,
                handle.model,
                handle.name,
                texts,
                role="document",
                max_tokens=limits[1],
                what=f"{collection.name} documents",
            )
        )
    training = held_out.training if _trained_on(run, corpus) else UNKNOWN
    inputs = AgreementInputs(
        corpus=corpus.fingerprint,
        asked=hash_texts(held_out.texts).tobytes().hex()[:64],
        training=training,
        spaces=[asdict(store.space) for store in (*queries, *documents)],
        precision=str(run.precision),
        resamples=recipe.bench.num_resamples,
        seed=recipe.seed,
    )

    def work(metrics: dict[str, Any]) -> Agreement:
        return measure_agreement(
            (queries[0][:], queries[1][:]),
            (documents[0], documents[1]),
            [document.id for document in collection.documents],
            own=held_out.own,
            collection=collection.name,
            asked_with=held_out.asked_with,
            training=training,
            num_resamples=recipe.bench.num_resamples,
            seed=recipe.seed,
        )

    def save(found: Agreement, draft: Path) -> None:
        EvaluationResult(agreements=(found,)).save(draft / FIGURES_FILE)

    folder = keep_part(
        run,
        f"agreement {collection.name}",
        inputs,
        method=method_of(measure_unjudged),
        work=work,
        save=save,
    )
    return [folder]


def _trained_on(run: Run, corpus: Corpus) -> bool:
    """Whether the student is the recipe's own and was distilled on this corpus: of another one
    nobody here knows what it has seen.
    """
    folder = run.folder / STUDENT
    if run.recipe.bench.student or not folder.is_dir():
        return False
    return read_manifest(folder).inputs.get("corpus") == corpus.fingerprint
