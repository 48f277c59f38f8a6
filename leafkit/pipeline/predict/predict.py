"""Predict what students of a teacher will be worth on a corpus: sample, probes, forecasts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from leafkit.config.effects import refuse_useless
from leafkit.config.load import load_recipe
from leafkit.core.artifact import fingerprint
from leafkit.core.checkpoint_layout import (
    PAIR_TEXTS_FILE,
    PREDICTION,
    PREDICTION_FILE,
    PREDICTION_PAGE_FILE,
)
from leafkit.core.console import log
from leafkit.core.errors import UsageError
from leafkit.core.method import method_of
from leafkit.embedders.prefix import precomputed_of
from leafkit.evaluation.diagnosis.diagnose import Settings, diagnose
from leafkit.evaluation.diagnosis.findings import conclude
from leafkit.evaluation.forecast.calibration import Calibration, calibrate, shipped_runs
from leafkit.models.checkpoint import identify_model
from leafkit.pipeline.corpus import Corpus
from leafkit.pipeline.model_handle import ModelHandle, load_teacher
from leafkit.pipeline.predict.forecasts import (
    Probed,
    find_best,
    forecast_student,
    forecast_trained,
    growth_to,
)
from leafkit.pipeline.predict.load_part import Part, load_part
from leafkit.pipeline.predict.load_sample import check_enough, load_sample, sample_of
from leafkit.pipeline.predict.probe_students import probe_students
from leafkit.pipeline.predict.sample import Sample
from leafkit.pipeline.predict.settings import PredictSettings, refuse_undiagnosed
from leafkit.pipeline.predict.student_words import load_named_start
from leafkit.pipeline.predict.ways import (
    STUDENTS,
    Way,
    find_efforts,
    measure_symmetric,
    measure_ways,
    ratios_of,
    scale_figures,
)
from leafkit.pipeline.run import Run, open_run
from leafkit.pipeline.space_guard import check_cosine
from leafkit.pipeline.student.transformer import build_student
from leafkit.report.prediction import render_prediction
from leafkit.results import Diagnosis, FinishedRun, Prediction, StudentForecast
from leafkit.results.codec import to_plain
from leafkit.results.prediction import KINDS, LAST_LAYER, TRAINED, WayForecast

_NOT_PREDICTED = (
    "how people ask: queries made of documents share their documents' words, and real ones share "
    "fewer",
    "students that train on scores (score_kl) or for longer than the closed form: they end at the "
    "instant student at least, where held-out texts decide",
    "other start models than the one named, and languages that no finished run was of",
    "an approximate index of more documents than were linked here",
)


@dataclass(frozen=True, slots=True)
class PredictionInputs:
    """What decides about a prediction."""

    teacher: str
    vectors: str  # of what a folder holds, where the teacher is one
    prompts: list[str]
    corpus: str
    start: str
    shape: list[str]  # of the start: layers, attention, pooling
    seed: int
    precision: str
    settings: list[str]
    probes: list[str]  # of the static table, and of the graph
    ways: list[str]  # of the codecs
    tokens: list[int]
    runs: str  # of the table's content


def predict(
    teacher: str,
    home: str = "",
    *settings: str,
    recipe: str = "measure",
    asked: PredictSettings | None = None,
) -> Prediction:
    """What students of a teacher will be worth on one's own texts, before any of them is made.

    What is embedded and told is kept below ``checkpoints/NAME``, as ``leafkit predict`` does.

    Args:
        teacher: as ``teacher.source`` takes it, "builtin:mpnet" or "vectors:FOLDER" say.
        home: the texts, "beir:FOLDER" say; "" takes those of a folder of vectors.
        settings: "key=value" of the recipe: "name=mine", "checkpoints=DIR".
        recipe: its name or file.
        asked: target, minutes, texts, kinds; None asks as the command does.

    Raises:
        UsageError: there are too few documents, the teacher compares by inner product, or a setting
            is wrong or counts for nothing.
        LeafkitError: vectors are missing, not finite or all alike, or no query can be made.

    Examples:
        >>> import leafkit
        >>> leafkit.predict("books")
        Traceback (most recent call last):
        leafkit.core.errors.UsageError: home= names no texts
    """
    if not home and teacher.startswith("vectors:"):
        home = f"jsonl:{Path(teacher.partition(':')[2]) / PAIR_TEXTS_FILE}"
    if not home:
        raise UsageError("home= names no texts", 'predict(teacher, "beir:FOLDER")')
    named = any(word.startswith("name=") for word in settings)
    words = [f"teacher.source={teacher}", f"data.corpus={home}", *settings]
    loaded = load_recipe(recipe, words if named else [*words, "name=predict"])
    asked = asked or PredictSettings()
    refuse_useless("predict", loaded, settings)
    refuse_undiagnosed(asked, settings)
    with open_run(loaded, trains=False) as run:
        return run_predict(run, asked)


def run_predict(run: Run, settings: PredictSettings) -> Prediction:
    """Predict, and keep the prediction in the recipe's folder.

    Args:
        run: of a recipe that names teacher and corpus.
        settings: what is asked.

    Raises:
        UsageError: the teacher's vectors are compared by inner product, or there are fewer
            documents than it has dimensions.
        LeafkitError: too few documents have vectors, or these say nothing; see ``make_sample``.
    """
    recipe, teacher = run.recipe, load_teacher(run)
    space = teacher.model.space("document", recipe.data.max_document_tokens)
    check_cosine(teacher.reference or teacher.name, space, "leafkit predict")
    part, runs = load_part(run, settings), shipped_runs()
    check_enough(part.corpus, teacher, settings)
    folder = run.folder / PREDICTION
    inputs = describe_inputs(run, teacher, part.corpus, settings, runs=runs)

    def work(metrics: dict[str, Any]) -> Prediction:
        began_s = time.perf_counter()
        looked = load_sample(run, teacher, part, settings)
        sample = sample_of(run, teacher, part.corpus, looked)
        found = forecast(run, teacher, part, sample, settings=settings, runs=runs)
        spent_s = time.perf_counter() - began_s
        return replace(found, teacher_seconds=looked.seconds_left, seconds=spent_s)

    def save(found: Prediction, draft: Path) -> None:
        found.save(draft / PREDICTION_FILE)
        (draft / PREDICTION_PAGE_FILE).write_text(render_prediction(found), encoding="utf-8")

    run.step(
        name=PREDICTION,
        folder=folder,
        inputs=inputs,
        method=method_of(run_predict, forecast),
        work=work,
        save=save,
    )
    return Prediction.load(folder / PREDICTION_FILE)


def describe_inputs(
    run: Run,
    teacher: ModelHandle,
    corpus: Corpus,
    settings: PredictSettings,
    *,
    runs: Sequence[FinishedRun],
) -> PredictionInputs:
    """Everything that a prediction depends on."""
    recipe, student, inherit = run.recipe, run.recipe.student, run.recipe.inherit
    indexes, known = recipe.bench.indexes, precomputed_of(teacher.model)
    # a table's training has rates of its own
    table = [str(student.static), str(replace(student.optimizer, lr=student.static.lr))]
    num_resamples = recipe.bench.num_resamples if settings.has_diagnosis else 0
    return PredictionInputs(
        teacher=teacher.model.fingerprint,
        vectors="" if known is None else known.content,
        prompts=[teacher.model.prompt(role) for role in ("query", "document")],
        corpus=corpus.fingerprint,
        start=identify_model(student.init),
        shape=[student.init_layers, student.attention, student.pooling],
        seed=recipe.seed,
        precision=str(run.precision),
        settings=[str(settings), str(num_resamples), str(student.num_ridge_texts)],
        probes=[*table, str(indexes.hnsw_links), str(indexes.ef_search)],
        ways=[
            str(_dims_of(run, teacher)),
            str(inherit.precisions),
            str(inherit.int8_range),
            str(inherit.pq_bytes),
        ],
        tokens=[recipe.data.max_query_tokens, recipe.data.max_document_tokens],
        runs=fingerprint(to_plain(list(runs))),
    )


def _dims_of(run: Run, teacher: ModelHandle) -> list[int]:
    """Dimensions that are asked about, the whole vectors' among them where they are named."""
    return list(run.recipe.inherit.dims or teacher.model.mrl_dims)


def _left_out_dims(run: Run, teacher: ModelHandle) -> list[str]:
    """In words, what ``inherit.dims`` names that the teacher's vectors have no first dimensions
    of.
    """
    dim = teacher.model.dim
    beyond = [one for one in run.recipe.inherit.dims if one >= dim]
    if not beyond:
        return []
    told = (
        f"inherit.dims {', '.join(f'{one:,}' for one in beyond)}: the teacher's vectors have "
        f"{dim:,} dimensions, and whole ones are the students' own rows"
    )
    log(f"  {told}")
    return [told]


def _beyond_growth(calibration: Calibration) -> str:
    """In words, how far from the probes the intervals were ever tried."""
    trained = f" ({TRAINED}: {calibration.trained_growth:.1f})" if calibration.has_trained else ""
    return (
        f"how far off forecasts are for more than {calibration.growth:.1f} times the texts of the "
        f"largest probe{trained}: no finished run had more, and such forecasts have a star"
    )


def forecast(
    run: Run,
    teacher: ModelHandle,
    part: Part,
    sample: Sample,
    *,
    settings: PredictSettings,
    runs: Sequence[FinishedRun],
) -> Prediction:
    """Probes and what finished runs say of them.

    Raises:
        LeafkitError: there are no finished runs of two corpora.
    """
    recipe, yardstick = run.recipe, sample.yardstick
    calibration = calibrate(runs, sample.asked_with)
    corpus, num_texts = part.corpus, part.num_documents
    student = replace(
        recipe.student, head_layers="last", token_table=0, token_units=0, kind="instant"
    )
    shaped, words = load_named_start(recipe.student)
    start = build_student(shaped, teacher, student, recipe.seed)
    probed = list(
        probe_students(run, teacher, start, sample, kinds=settings.kinds, minutes=settings.minutes)
    )
    if not probed:
        raise UsageError(
            f"{recipe.student.init} has no layers for {', '.join(settings.kinds)}",
            f"kinds={','.join(KINDS)}",
        )
    about = (calibration, num_texts, settings.target)
    students = [forecast_student(one, *about, words=words) for one in probed]
    place = find_best(students)
    best, told = probed[place], students[place]
    if TRAINED in settings.kinds and not calibration.has_trained:
        log(f"  {TRAINED}: no finished run took steps, so nothing is said of it")
    elif TRAINED in settings.kinds:
        last = next(one for one in probed if one.kind == LAST_LAYER)
        students.append(forecast_trained(last, *about, words=words))
    asked = {} if yardstick.queries is None else {"teacher": yardstick.queries}
    asked |= {best.kind: best.queries}
    return Prediction(
        teacher=teacher.reference or teacher.name,
        corpus=corpus.collection.name,
        dim=teacher.model.dim,
        num_documents=len(sample.texts),
        num_corpus=num_texts,
        num_held_out=len(sample.held_out),
        num_queries=len(sample.queries),
        asked_with=sample.asked_with,
        start=recipe.student.init,
        target=settings.target,
        students=tuple(students),
        ways=tuple(_forecast_ways(run, teacher, sample, best, told=told, calibration=calibration)),
        efforts=tuple(find_efforts(yardstick.documents, asked, recipe.bench.indexes, recipe.seed)),
        num_runs=calibration.num_runs,
        corpora=calibration.corpora,
        teacher_seconds=0.0,
        seconds=0.0,
        not_predicted=(
            *_NOT_PREDICTED,
            _beyond_growth(calibration),
            *_left_out_dims(run, teacher),
        ),
        num_read=len(corpus.collection.documents) if part.num_rows else 0,
        num_rows=part.num_rows,
        diagnosis=_diagnose(run, teacher, corpus, sample) if settings.has_diagnosis else None,
    )


def _forecast_ways(
    run: Run,
    teacher: ModelHandle,
    sample: Sample,
    probed: Probed,
    *,
    told: StudentForecast,
    calibration: Calibration,
) -> Iterator[WayForecast]:
    """Dimensions in float32, precisions of all dimensions, the student's own documents: what each
    leaves of the largest probe's figures, of what is expected of all texts.
    """
    inherit, dim = run.recipe.inherit, teacher.model.dim
    dims = [d for d in _dims_of(run, teacher) if d < dim]
    ways = [(d, "float32") for d in dims]
    ways += [(dim, precision) for precision in inherit.precisions if precision != "float32"]
    found = measure_ways(
        sample.yardstick,
        probed.held_out,
        probed.queries,
        ways,
        config=inherit,
        seed=run.recipe.seed,
    )
    kept = [(way, ratios_of(figures, probed.probes[-1].figures)) for way, figures in found]
    symmetric = measure_symmetric(sample, probed.unfitted, probed.embed_half())
    growth = growth_to(probed.probes, told.num_texts)
    for way, ratios in [*kept, (Way(STUDENTS, dim, "float32"), symmetric)]:
        figures = scale_figures(told.expected, ratios)
        retention = calibration.forecast(figures, growth=growth)
        yield WayForecast(
            kind=probed.kind,
            documents=way.documents,
            dim=way.dim,
            precision=way.precision,
            figures=figures,
            retention=retention,
        )


def _diagnose(run: Run, teacher: ModelHandle, corpus: Corpus, sample: Sample) -> Diagnosis:
    """Of the sample's vectors, without judgments."""
    recipe = run.recipe
    settings = Settings(
        mrl_dims=tuple(d for d in _dims_of(run, teacher) if d <= teacher.model.dim),
        precisions=tuple(recipe.inherit.precisions),
        num_resamples=recipe.bench.num_resamples,
        seed=recipe.seed,
    )
    figures = diagnose(sample.vectors, None, settings)
    conclusion = conclude(figures)
    return Diagnosis(
        teacher=teacher.name,
        collection=corpus.collection.name,
        figures=figures,
        verdict=conclusion.verdict,
        findings=conclusion.findings,
    )
