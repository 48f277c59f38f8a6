"""The certificate of a rescued index: the student beside a linear map, a random one and BM25, on
documents whose vectors trained nothing and on queries made of them.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from leafkit.core.artifact import read_manifest, refuse_foreign
from leafkit.core.checkpoint_layout import (
    CERTIFICATE,
    CERTIFICATE_FILE,
    CERTIFICATE_PAGE_FILE,
    STUDENT,
)
from leafkit.core.console import log
from leafkit.core.errors import LeafkitError
from leafkit.core.method import method_of
from leafkit.data.made_queries import make_queries_of, words_of
from leafkit.data.records import Document, same_text
from leafkit.embedders.make_embedder import make_embedder
from leafkit.embedders.protocol import Embedder
from leafkit.embedders.token_reader import reader_of
from leafkit.models.checkpoint import identify_model
from leafkit.pipeline.corpus import Corpus, load_corpus
from leafkit.pipeline.embed import load_vectors
from leafkit.pipeline.model_handle import ModelHandle, load_student, load_teacher
from leafkit.pipeline.rescue.measure import BM25, Asked, measure_bm25, measure_vectors, summarize
from leafkit.pipeline.run import Run
from leafkit.pipeline.student.fit.closed_form import start_projection
from leafkit.pipeline.student.fit.pooled_states import PooledStates
from leafkit.pipeline.student.leave_out import leave_out
from leafkit.pipeline.student.start import load_start
from leafkit.pipeline.student.targets import Distillation, Target, TokenLimits
from leafkit.pipeline.student.text_groups import DOCUMENTS
from leafkit.pipeline.student.transformer import build_student
from leafkit.pipeline.student.unjudged_test_set import (
    FEWEST_DOCUMENTS,
    HeldOut,
    choose_held_out,
    unseen_texts,
)
from leafkit.report.certificate import render_certificate
from leafkit.results import Certificate, CutTexts
from leafkit.results.agreement import HELD_OUT
from leafkit.results.certificate import LINEAR_MAP, RANDOM_MAP, RESCUED, queries_needed

_MOST_FITTED = 4096  # documents that the linear map is fitted to: more move it little
_MOST_PARTS = 100  # of a document, one of which is asked


class NoCertificateError(LeafkitError):
    """All documents trained, or nothing can be asked of those that did not, so that no figure says
    what the student is worth.
    """


@dataclass(frozen=True, slots=True)
class CertificateInputs:
    """What decides about a certificate."""

    student: str
    teacher: str
    corpus: str
    start: str
    seed: int
    precision: str
    resamples: int
    tokens: list[int]  # cuts of queries and documents


def run_certificate(run: Run) -> Certificate:
    """Measure the recipe's own student on what trained nothing; the page is in the recipe's folder.

    Raises:
        NoCertificateError: there are too few documents to hold any out, or there is none of which a
            query can be made that no other document trained.
        LeafkitError: there is no student.
    """
    recipe = run.recipe
    teacher, corpus = load_teacher(run), load_corpus(run, recipe.data.corpus)
    held_out = choose_unseen(run, teacher, corpus)
    # on every process, before the first one works alone: all of them learn that there are none
    asks = choose_queries(corpus.collection.documents, held_out, recipe.seed)
    if not asks:
        raise NoCertificateError(
            f"no query can be made of the {len(held_out.own):,} held-out documents that no other "
            "document is or has as its title or a sentence",
            "a certificate needs documents of words of their own",
        )
    student = load_student(run, teacher)
    folder = run.folder / CERTIFICATE
    inputs = CertificateInputs(
        student=read_manifest(run.folder / STUDENT).fingerprint(),
        teacher=teacher.model.fingerprint,
        corpus=corpus.fingerprint,
        start=identify_model(recipe.student.init),
        seed=recipe.seed,
        precision=str(run.precision),
        resamples=recipe.bench.num_resamples,
        tokens=[recipe.data.max_query_tokens, recipe.data.max_document_tokens],
    )

    def save(found: Certificate, draft: Path) -> None:
        found.save(draft / CERTIFICATE_FILE)
        (draft / CERTIFICATE_PAGE_FILE).write_text(render_certificate(found), encoding="utf-8")

    run.step(
        name=CERTIFICATE,
        folder=folder,
        inputs=inputs,
        method=method_of(certify, choose_unseen, choose_queries),
        work=lambda metrics: certify(run, teacher, student, corpus, held_out=held_out, asks=asks),
        save=save,
    )
    return Certificate.load(folder / CERTIFICATE_FILE)


def choose_unseen(run: Run, teacher: ModelHandle, corpus: Corpus) -> HeldOut:
    """The documents that train nothing, as ``leafkit distill`` chose them.

    Raises:
        NoCertificateError: there are too few documents to hold any out.
    """
    found = choose_held_out(corpus.collection, run.recipe.bench.split, teacher)
    if found is None or found.training != HELD_OUT or min(found.own) < 0:
        raise NoCertificateError(
            f"{corpus.collection.name} has {len(corpus.collection.documents):,} documents, too few "
            "to keep any out of training",
            f"a certificate needs {FEWEST_DOCUMENTS} documents, one in twenty of which trains "
            "nothing",
        )
    return found


def remove_certificate(run: Run) -> None:
    """Take away the certificate of a student that is no longer there.

    Raises:
        LeafkitError: something else lies in its place.
    """
    folder = run.folder / CERTIFICATE

    def remove() -> None:
        refuse_foreign(folder)
        if folder.is_dir():
            shutil.rmtree(folder)
            log(f"  the certificate of an earlier student is removed: {folder}", style="yellow")

    with run.turn(folder):
        run.on_main(remove)


def certify(
    run: Run,
    teacher: ModelHandle,
    student: ModelHandle,
    corpus: Corpus,
    *,
    held_out: HeldOut,
    asks: Sequence[tuple[int, str]],
) -> Certificate:
    """The figures; arguments as they stand in ``run_certificate``, ``asks`` of one at least."""
    recipe, documents = run.recipe, corpus.collection.documents
    limits = TokenLimits(recipe.data.max_query_tokens, recipe.data.max_document_tokens)
    texts = [document.full_text for document in documents]
    vectors = load_vectors(
        run,
        teacher.model,
        teacher.name,
        texts,
        role="document",
        max_tokens=limits.document,
        what=f"{corpus.collection.name} documents",
    )
    places = [place for place, _ in asks]
    held_texts = [texts[place] for place in places]
    asked = Asked.of(places, held_texts, [query for _, query in asks], vectors)
    target = Target(texts, "document", vectors, origin=DOCUMENTS)
    linear, random = fit_maps(run, teacher, leave_out([target], unseen_texts(held_out)), limits)
    values = {
        name: measure_vectors(
            asked,
            model.embed(asked.texts, "document", limits.document),
            model.embed(asked.queries, "query", limits.query),
        )
        for name, model in {RESCUED: student.model, LINEAR_MAP: linear, RANDOM_MAP: random}.items()
    }
    values[BM25] = measure_bm25(asked, texts)
    systems, gain, labelled = summarize(
        values,
        (RESCUED, LINEAR_MAP),
        num_resamples=recipe.bench.num_resamples,
        seed=recipe.seed,
    )
    return Certificate(
        source=teacher.reference,
        space=teacher.space_id,
        dim=teacher.model.dim,
        num_documents=len(documents),
        num_held_out=len(places),
        num_queries=len(asks),
        depth=asked.depth,
        training=held_out.training,
        systems=systems,
        gain_over_linear=gain,
        cuts=_cuts_of(run),
        num_logged=queries_needed(systems[0].query_overlap),
        num_labelled=queries_needed(labelled),
    )


def choose_queries(
    documents: Sequence[Document], held_out: HeldOut, seed: int
) -> list[tuple[int, str]]:
    """A query made of each held-out document, with the document's position: any one of its title
    and sentences, if the same words, whatever their case, are neither a document that trains nor a
    title or sentence of one. Of one there is none of, nothing.

    Args:
        documents: of the index.
        held_out: which of them trained nothing.
        seed: of what is made and chosen.
    """
    unseen = {same_text(text) for text in unseen_texts(held_out)}
    made = {
        place: list(make_queries_of([documents[place]], _MOST_PARTS, seed))
        for place in held_out.own
    }
    asked = {same_text(text) for texts in made.values() for text in texts}
    trained: set[str] = set()
    for document in documents:
        if same_text(document.full_text) not in unseen:
            trained |= asked & {same_text(text) for text in words_of(document)}
    chooser, asks = np.random.default_rng(seed), []
    for place, texts in made.items():
        parts = [text for text in texts if same_text(text) not in trained]
        if parts:
            asks.append((place, parts[int(chooser.integers(len(parts)))]))
    return asks


def fit_maps(
    run: Run, teacher: ModelHandle, targets: Sequence[Target], limits: TokenLimits
) -> tuple[Embedder, Embedder]:
    """The start model under the closed-form map onto the documents' vectors, and under a random
    one: what is to be had without any training.

    Args:
        run: device, precision and the recipe.
        teacher: whose space it is.
        targets: the documents that train, alone.
        limits: where texts are cut.
    """
    log("  for comparison, the linear map alone:")
    config = replace(
        run.recipe.student,
        kind="instant",
        head="linear",
        head_layers="last",
        token_table=0,
        token_units=0,
        head_steps=0,
        num_ridge_texts=min(_MOST_FITTED, run.recipe.student.num_ridge_texts),
        ridge=0.0,
    )
    mapped = build_student(load_start(config), teacher, config, run.recipe.seed)
    task = Distillation(
        teacher=teacher,
        targets=targets,
        config=config,
        limits=limits,
        embed=lambda texts, role, max_tokens, what: teacher.model.embed(texts, role, max_tokens),
        device=run.device,
        precision=run.precision,
        seed=run.recipe.seed,
    )
    reader = reader_of(mapped, "document", limits.document)
    token_ids = [task.tokenize(reader, target.texts) for target in targets]
    random = copy.deepcopy(mapped)
    start_projection(mapped, task, PooledStates(mapped, task, token_ids), None)
    linear, other = (make_embedder(one, run.device, run.precision) for one in (mapped, random))
    return linear, other


def _cuts_of(run: Run) -> tuple[CutTexts, ...]:
    """What the student did not read of its texts, as its training counted it."""
    found = read_manifest(run.folder / STUDENT).metrics.get("cuts", ())
    return tuple(CutTexts.from_plain(cut) for cut in found)
