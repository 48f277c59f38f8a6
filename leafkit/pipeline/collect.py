"""Everything a report shows, gathered from the artifacts of a recipe."""

from __future__ import annotations

import datetime
import json
import os
import resource
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from leafkit.config import to_plain
from leafkit.config.teacher_recipe import load_teacher_recipe
from leafkit.core.artifact import git_commit, read_manifest, versions
from leafkit.core.checkpoint_layout import (
    BENCH,
    GRID_FILE,
    INHERIT,
    LOSSES_FILE,
    MANIFEST_FILE,
    RESULTS_FILE,
    STUDENT,
)
from leafkit.core.system import cpu_name, memory_gib
from leafkit.pipeline.corpus import load_corpus
from leafkit.pipeline.model_handle import ModelHandle, load_student, load_teacher
from leafkit.pipeline.run import Run
from leafkit.results import (
    CutTexts,
    EvaluationResult,
    InheritanceGrid,
    Machine,
    ModelFacts,
    RunReport,
    SpectrumSummary,
    StepTime,
    codec,
)


def collect_report(run: Run, command: str) -> RunReport:
    """Recipe, machine, models, losses, figures and times of a finished run; see leafkit.report for
    what shows them.

    Raises:
        LeafkitError: a part of it is not there, or damaged.
    """
    steps = summarise_steps(run.steps)
    teacher = load_teacher(run)
    student = load_student(run, teacher)
    uris = (run.recipe.data.corpus, *run.recipe.bench.collections)
    corpora = tuple(load_corpus(run, uri).about() for uri in uris)
    manifest = read_manifest(run.folder / STUDENT)
    has_grid = _has_grid_of(run, teacher, student)
    return replace(
        describe_run(run, command),
        steps=steps,
        teacher=describe_model(teacher),
        student=replace(describe_model(student), name=f"{run.recipe.name} student"),
        spectrum=codec.from_plain(SpectrumSummary, manifest.metrics["spectrum"], "spectrum"),
        losses=collect_losses(run),
        corpora=corpora,
        cuts=(*run.cuts, *map(CutTexts.from_plain, manifest.metrics.get("cuts", ()))),
        bench=EvaluationResult.load(run.folder / BENCH / RESULTS_FILE),
        inheritance=InheritanceGrid.load(run.folder / INHERIT / GRID_FILE) if has_grid else None,
    )


def _has_grid_of(run: Run, teacher: ModelHandle, student: ModelHandle) -> bool:
    """Whether the run's inheritance grid is of these two models: an earlier teacher's may be there
    where this one has none.
    """
    if not (run.folder / INHERIT / MANIFEST_FILE).is_file():
        return False
    passes = read_manifest(run.folder / INHERIT).inputs["passes"]
    measured = (passes["teacher"], passes["student"])
    return measured == (teacher.model.fingerprint, student.model.fingerprint)


def describe_run(run: Run, command: str) -> RunReport:
    """What every report says of its run."""
    return RunReport(
        name=run.recipe.name,
        command=command,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        commit=git_commit(),
        recipe=to_plain(run.recipe),
        versions=versions(),
        machine=describe_machine(run),
        steps=summarise_steps(run.steps),
        cuts=tuple(run.cuts),
    )


def summarise_steps(steps: Sequence[Mapping[str, Any]]) -> tuple[StepTime, ...]:
    """Each step once: what was done, and what was up to date without having been done earlier in
    this run.
    """
    first: dict[str, StepTime] = {}
    for step in steps:
        first.setdefault(step["name"], codec.from_plain(StepTime, step, "step"))
    return tuple(first.values())


def collect_losses(run: Run) -> dict[str, tuple[float, ...]]:
    """Loss curves of the teacher's stages, where a recipe trains it, and of the student."""
    folders = {STUDENT: run.folder / STUDENT}
    if run.recipe.teacher.source.startswith("recipe:"):
        teacher = load_teacher_recipe(run.recipe)
        folders = {stage: run.root / teacher.name / stage for stage in teacher.stages} | folders
    return {
        name: tuple(json.loads((folder / LOSSES_FILE).read_text()))
        for name, folder in folders.items()
    }


def describe_model(handle: ModelHandle) -> ModelFacts:
    """Size, cost and interface of a model; of one that is not loaded here only its interface."""
    model, network = handle.model, handle.network
    return ModelFacts(
        name=handle.name,
        parameters=network.num_parameters() if network is not None else None,
        dim=model.dim,
        mrl_dims=tuple(model.mrl_dims),
        flops_per_token=network.flops_per_token() if network is not None else None,
        prompts={role: model.prompt(role) for role in ("query", "document")},
    )


def describe_machine(run: Run) -> Machine:
    """What the figures were measured on."""
    return Machine(
        cpu=cpu_name(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        memory_gib=memory_gib(),
        peak_memory_gib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        device=run.device.type,
        precision=str(run.precision).removeprefix("torch."),
        accelerator=torch.cuda.get_device_name() if run.device.type == "cuda" else "",
        processes=run.world.size,
    )
