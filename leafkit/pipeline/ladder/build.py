"""The ladder of a finished recipe: its cheap rungs, the times and the quality of all, the router
and the promises that it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from leafkit.config import to_plain
from leafkit.core.artifact import fingerprint, open_artifact, read_manifest
from leafkit.core.checkpoint_layout import (
    INDEX,
    LADDER,
    LADDER_FILE,
    LADDER_PAGE_FILE,
    PER_QUERY_FILE,
    ROUTER_FOLDER,
    STUDENT,
)
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.method import method_of
from leafkit.data.vector_store import hash_texts
from leafkit.embedders.prefix import precomputed_of
from leafkit.embedders.protocol import Embedder
from leafkit.evaluation.metrics import Judgments, fast_ndcg
from leafkit.evaluation.per_query import PerQuery, write_per_query
from leafkit.evaluation.routing.signals import DEPTH, Visit, read_signals
from leafkit.index.ranking import Ranking
from leafkit.models.encoder_protocol import Encoder
from leafkit.pipeline.collect import describe_machine
from leafkit.pipeline.corpus import Corpus, load_corpus
from leafkit.pipeline.distill import load_targets
from leafkit.pipeline.ladder.asked import (
    Questions,
    learning_questions,
    load_questions,
    split_targets,
    teachers_own,
)
from leafkit.pipeline.ladder.measure import Measured, Signals, summarize
from leafkit.pipeline.ladder.rungs import (
    choose_layers_of,
    make_rung,
    open_rung,
    sorted_rungs,
)
from leafkit.pipeline.ladder.timing import time_rungs
from leafkit.pipeline.ladder.visits import describe_search, graph_of, visit
from leafkit.pipeline.load_pair import load_pair
from leafkit.pipeline.model_handle import ModelHandle, load_teacher
from leafkit.pipeline.pair import Pair
from leafkit.pipeline.run import Run
from leafkit.pipeline.space_guard import check_space
from leafkit.report.ladder import render_ladder
from leafkit.results import Ladder
from leafkit.results.ladder import STUDENT_RUNG, TEACHER_RUNG


@dataclass(frozen=True, slots=True)
class RouterInputs:
    """What decides about a router and its figures."""

    config: dict[str, Any]
    rungs: list[str]  # fingerprints of their models
    student: str
    index: str
    teacher: str
    corpus: str
    split: str
    own_documents: str
    resamples: int
    timed: int
    seed: int
    tokens: int  # cut of queries
    graph: str  # identity of what embeds as the student
    setting: str  # of the index and its search
    asked: str  # identity of the queries that calibrate and verify
    learned: str  # likewise of those that are learned from


@dataclass(frozen=True, slots=True)
class Rung:
    """A rung as it is asked.

    Attributes:
        name: of it.
        model: embeds queries.
        fingerprint: of its weights.
        parameters: of it; None where it is not loaded here.
    """

    name: str
    model: Embedder
    fingerprint: str
    parameters: int | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A finished recipe with its rungs.

    Attributes:
        pair: student and documents.
        teacher: the last rung.
        corpus: that is indexed.
        rungs: cheapest first.
        questions: that calibrate and verify.
        learned: that the predictors are fitted to; none where there are too few.
    """

    pair: Pair
    teacher: ModelHandle
    corpus: Corpus
    rungs: Sequence[Rung]
    questions: Questions
    learned: Questions


def run_ladder(run: Run) -> Ladder:
    """Fit the cheap rungs, measure all, calibrate the router on half of the queries and verify it
    on the other.

    Args:
        run: of a recipe that is finished: its student and its index are there.

    Returns:
        The figures, which lie with the router in the recipe's ladder/router.

    Raises:
        UsageError: a rung is no cheaper than the student, or the teacher embeds no new query.
        LeafkitError: the recipe is not finished, or has too few queries.
    """
    prepared = prepare(run)

    def work(metrics: dict[str, Any]) -> tuple[Ladder, PerQuery]:
        return describe_ladder(run, prepared, measure_rungs(run, prepared))

    def save(found: tuple[Ladder, PerQuery], draft: Path) -> None:
        figures, per_query = found
        figures.save(draft / LADDER_FILE)
        (draft / LADDER_PAGE_FILE).write_text(render_ladder(figures), encoding="utf-8")
        write_per_query(draft / PER_QUERY_FILE, [per_query])

    folder = run.folder / LADDER / ROUTER_FOLDER
    run.step(
        name=f"{LADDER} {ROUTER_FOLDER}",
        folder=folder,
        inputs=_inputs(run, prepared),
        method=method_of(prepare, measure_rungs, describe_ladder),
        work=work,
        save=save,
    )
    return Ladder.load(folder / LADDER_FILE)


def prepare(run: Run) -> Prepared:
    """The recipe's pair, its rungs, fitted where they are not there, and its queries.

    Raises:
        UsageError, LeafkitError: see ``run_ladder``.
    """
    recipe = run.recipe
    _check_finished(run)
    teacher = load_teacher(run)
    if precomputed_of(teacher.model) is not None:
        raise UsageError(
            f"teacher.source={recipe.teacher.source}: the last rung is the teacher, and stored "
            "vectors embed no new query",
            "name the model itself",
        )
    corpus = load_corpus(run, recipe.data.corpus)
    pair = load_pair(run.folder, index=recipe.ladder.index, is_held=True)
    check_space(str(run.folder), pair.space.teacher, teacher.space_id)
    if read_manifest(run.folder / INDEX).inputs.get("corpus") != corpus.fingerprint:
        raise LeafkitError(
            f"{run.folder / INDEX} holds other documents than data.corpus={recipe.data.corpus}",
            "leafkit distill recipe=NAME, with the same words, brings the recipe up to date",
        )
    names = sorted_rungs(recipe.ladder.rungs)
    layers = choose_layers_of(names, pair.student, recipe.student)
    targets = load_targets(run, teacher, corpus)
    split = split_targets(targets, corpus.collection, recipe.bench.split, teacher)
    questions = load_questions(
        run,
        pair,
        teacher,
        corpus,
        targets=targets,
        trained=read_manifest(run.folder / STUDENT).inputs.get("content", ()),
        has_others=bool(split.queries),
    )
    rungs = []
    for name in names:
        folder = make_rung(
            run,
            name,
            layers[name],
            student=pair.student,
            teacher=teacher,
            corpus=corpus,
            targets=split.targets,
        )
        model = open_rung(folder, pair.space.teacher, pair.dim)
        rungs.append(_rung(name, model, model.encoder))
    rungs.append(_rung(STUDENT_RUNG, pair.embedder, pair.student))
    rungs.append(_rung(TEACHER_RUNG, teacher.model, teacher.model.encoder))
    return Prepared(
        pair=pair,
        teacher=teacher,
        corpus=corpus,
        rungs=rungs,
        questions=questions,
        learned=learning_questions(pair, split),
    )


def _check_finished(run: Run) -> None:
    """Refuse a recipe without a student or an index.

    Raises:
        LeafkitError: it has none.
    """
    for part in (STUDENT, INDEX):
        if not (run.folder / part).is_dir():
            raise LeafkitError(
                f"{run.folder} has no {part}: a ladder is made of a finished recipe",
                "leafkit distill recipe=NAME, with the same words, finishes it",
            )
        open_artifact(run.folder / part, part)


def _rung(name: str, model: Embedder, network: Encoder | None) -> Rung:
    parameters = None if network is None else network.num_parameters()
    return Rung(name, model, model.fingerprint, parameters)


def _identity_of(questions: Questions) -> str:
    return fingerprint([questions.training, hash_texts(questions.texts).tobytes().hex()])


def _inputs(run: Run, prepared: Prepared) -> RouterInputs:
    recipe, pair = run.recipe, prepared.pair
    return RouterInputs(
        config=to_plain(recipe.ladder),
        rungs=[rung.fingerprint for rung in prepared.rungs],
        student=pair.student.fingerprint,
        index=read_manifest(run.folder / INDEX).fingerprint(),
        teacher=prepared.teacher.model.fingerprint,
        corpus=prepared.corpus.fingerprint,
        split=recipe.bench.split,
        own_documents=recipe.data.exclude_self,
        resamples=recipe.bench.num_resamples,
        timed=recipe.bench.num_latency_queries,
        seed=recipe.seed,
        tokens=recipe.data.max_query_tokens,
        graph=graph_of(run.folder, pair),
        setting=describe_search(pair)[1],
        asked=_identity_of(prepared.questions),
        learned=_identity_of(prepared.learned),
    )


def measure_rungs(run: Run, prepared: Prepared) -> Measured:
    """What every query gets at every rung, and how long that takes."""
    pair, rungs, recipe = prepared.pair, prepared.rungs, run.recipe
    limit = recipe.data.max_query_tokens

    def rank(asked: Questions, judgments: Sequence[Judgments]) -> tuple[list[np.ndarray], Signals]:
        vectors = [asked.embed(rung.model, limit) for rung in rungs[:-1]]
        return rank_all(
            pair,
            rungs,
            [*vectors, asked.vectors],
            asked.texts,
            own=asked.own,
            judgments=judgments,
            max_tokens=limit,
        )

    questions, learned = prepared.questions, prepared.learned
    own = teachers_own(pair, questions.vectors, questions.own)
    (ndcg, agreement), signals = rank(questions, (questions.judgments, own))
    of_learned = None
    if learned.queries:
        (values,), found = rank(learned, (learned.judgments,))
        of_learned = values, found
    return Measured(
        names=tuple(rung.name for rung in rungs),
        ndcg=ndcg,
        signals=signals,
        losses=1 - agreement,
        learned=of_learned,
        times=time_rungs(
            pair,
            [(rung.name, rung.model) for rung in rungs],
            _timed(prepared).texts[: recipe.bench.num_latency_queries],
            max_tokens=limit,
            device=run.device,
        ),
    )


def _timed(prepared: Prepared) -> Questions:
    """What the rungs are timed on: documents asked as queries are longer than what is served, so
    that the queries that the router learns from stand in for them where there are any.
    """
    questions, learned = prepared.questions, prepared.learned
    return learned if questions.are_documents and learned.queries else questions


def describe_ladder(run: Run, prepared: Prepared, measured: Measured) -> tuple[Ladder, PerQuery]:
    """The figures of a ladder, and nDCG@10 of each query by rung."""
    pair, questions, recipe = prepared.pair, prepared.questions, run.recipe
    timed = _timed(prepared)
    figures = summarize(
        measured, recipe.ladder.promises, resamples=recipe.bench.num_resamples, seed=recipe.seed
    )
    kind, setting = describe_search(pair)
    found = Ladder(
        collection=pair.name,
        relevance=questions.relevance,
        asked_with=questions.asked_with,
        training=questions.training,
        max_query_tokens=recipe.data.max_query_tokens,
        space=pair.space.teacher,
        index=kind,
        setting=setting,
        num_documents=len(pair.documents),
        num_calibration=figures.num_calibration,
        num_verification=figures.num_verification,
        num_learning=figures.num_learning,
        learned_from=prepared.learned.asked_with
        if prepared.learned.queries
        else f"{questions.asked_with} that calibrate nothing",
        rungs=tuple(
            replace(one, fingerprint=rung.fingerprint, parameters=rung.parameters)
            for one, rung in zip(figures.rungs, prepared.rungs, strict=True)
        ),
        route=figures.route,
        predictors=figures.predictors,
        promises=figures.promises,
        curve=figures.curve,
        num_timed=min(recipe.bench.num_latency_queries, len(timed.queries)),
        timed_with=timed.asked_with,
        machine=describe_machine(run),
    )
    ids = [query.id for query in questions.queries]
    values = {name: {"ndcg@10": measured.ndcg[:, i]} for i, name in enumerate(measured.names)}
    return found, PerQuery(pair.name, ids, values)


def rank_all(
    pair: Pair,
    rungs: Sequence[Rung],
    vectors: Sequence[np.ndarray],
    texts: Sequence[str],
    *,
    own: np.ndarray,
    judgments: Sequence[Judgments],
    max_tokens: int,
) -> tuple[list[np.ndarray], Signals]:
    """Queries at every rung: nDCG@10, (Q, R), by each of some judgments, and the signals of each
    rung but the teacher, after every cheaper one and as the first.

    Args:
        pair: whose documents are searched.
        rungs: cheapest first, the teacher last.
        vectors: (Q, D) of each rung.
        texts: Q queries.
        own: (Q,) position of the document that a query may not find, -1 for none.
        judgments: what is relevant.
        max_tokens: that the queries were cut at; 0 took each model's own limit.
    """
    values: list[list[np.ndarray]] = [[] for _ in judgments]
    visits: dict[str, Visit] = {}
    for rung, found in zip(rungs, vectors, strict=True):
        visits[rung.name], ranking = visit(
            pair, rung.model, texts, found, max_tokens=max_tokens, own=own
        )
        top = Ranking(ranking.positions[:, :DEPTH], ranking.scores[:, :DEPTH])
        for column, judged in zip(values, judgments, strict=True):
            column.append(fast_ndcg(top, judged))
    small = [rung.name for rung in rungs[:-1]]
    signals = {
        (previous, name): read_signals(texts, visits[name], visits[previous] if previous else None)
        for i, name in enumerate(small)
        for previous in ("", *small[:i])
    }
    return [np.stack(columns, axis=1) for columns in values], signals
