"""What a report shows of a run that measured only: bench, inherit or the diagnosis of a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from leafkit.core.checkpoint_layout import BENCH, GRID_FILE, INHERIT, RESULTS_FILE
from leafkit.pipeline.collect import describe_model, describe_run
from leafkit.pipeline.corpus import load_corpus
from leafkit.pipeline.model_handle import load_student, load_teacher
from leafkit.pipeline.run import Run
from leafkit.results import CorpusFacts, Diagnosis, EvaluationResult, InheritanceGrid, RunReport


def collect_bench(run: Run, command: str) -> RunReport:
    """The benchmark with its models, collections and machine."""
    result = EvaluationResult.load(run.folder / BENCH / RESULTS_FILE)
    uris = (run.recipe.data.corpus, *run.recipe.bench.collections)
    return replace(_describe_pair(run, command, uris), bench=result)


def collect_inherit(run: Run, command: str) -> RunReport:
    """The inheritance grid with its models, collection and machine."""
    grid = InheritanceGrid.load(run.folder / INHERIT / GRID_FILE)
    return replace(_describe_pair(run, command, (run.recipe.data.corpus,)), inheritance=grid)


def collect_diagnosis(run: Run, command: str, diagnosis: Diagnosis) -> RunReport:
    """A teacher's diagnosis with its collection and machine."""
    teacher = describe_model(load_teacher(run))
    corpora = _corpora(run, (run.recipe.data.corpus,))
    return replace(
        describe_run(run, command), teacher=teacher, corpora=corpora, diagnosis=diagnosis
    )


def _describe_pair(run: Run, command: str, uris: Sequence[str]) -> RunReport:
    """Teacher, student and collections; the run itself last, so that its steps and its peak of
    memory cover the loading too.
    """
    teacher = load_teacher(run)
    student = load_student(run, teacher)
    corpora = _corpora(run, uris)
    return replace(
        describe_run(run, command),
        teacher=describe_model(teacher),
        student=describe_model(student),
        corpora=corpora,
    )


def _corpora(run: Run, uris: Sequence[str]) -> tuple[CorpusFacts, ...]:
    return tuple(load_corpus(run, uri).about() for uri in uris if uri)
