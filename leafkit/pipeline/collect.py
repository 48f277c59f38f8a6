"""Everything a report shows, gathered from the artifacts of a recipe."""

from __future__ import annotations

import datetime
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from leafkit.config import Recipe, to_plain
from leafkit.config.teacher_recipe import load_teacher_recipe
from leafkit.core.artifact import Manifest, read_manifest
from leafkit.core.builtin_models.table import BUILTIN_MODELS, is_builtin
from leafkit.core.checkpoint_layout import (
    BENCH,
    DIAGNOSIS,
    DIAGNOSIS_FILE,
    GRID_FILE,
    INHERIT,
    LOSSES_FILE,
    MANIFEST_FILE,
    RESULTS_FILE,
    STUDENT,
)
from leafkit.core.devices import kind_of
from leafkit.core.system import cpu_name, memory_gib, peak_memory_gib
from leafkit.core.version import git_commit, versions
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.corpus import load_corpus
from leafkit.pipeline.evaluate.contamination import list_stages
from leafkit.pipeline.model_handle import ModelHandle, load_student, load_teacher
from leafkit.pipeline.run import Run
from leafkit.results import (
    CutTexts,
    Diagnosis,
    EvaluationResult,
    InheritanceGrid,
    Machine,
    ModelFacts,
    RunReport,
    SpectrumSummary,
    StepTime,
    StudentChecks,
    TrainingTexts,
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
    corpora = [load_corpus(run, uri) for uri in uris]
    manifest = read_manifest(run.folder / STUDENT)
    # what an earlier run on other texts left there is not of this one
    of_teacher = {"teacher": teacher.model.fingerprint, "corpus": corpora[0].fingerprint}
    is_examined = _is_of(run, DIAGNOSIS, of_teacher)
    has_grid = _is_of(run, INHERIT, of_teacher | {"student": student.model.fingerprint})
    bench = read_manifest(run.folder / BENCH)
    return replace(
        describe_run(run, command),
        **_describe_origin(run.recipe),
        training=list_training_texts(run, manifest),
        measured_at=bench.created,
        measured_on=codec.from_plain(Machine | None, bench.metrics.get("machine"), "machine"),
        steps=steps,
        teacher=describe_model(teacher),
        student=replace(describe_model(student), name=f"{run.recipe.name} student"),
        spectrum=_spectrum_of(manifest),
        checks=codec.from_plain(StudentChecks | None, manifest.metrics.get("held_out"), "held_out"),
        losses=collect_losses(run),
        corpora=tuple(one.about() for one in corpora),
        cuts=(*run.cuts, *map(CutTexts.from_plain, manifest.metrics.get("cuts", ()))),
        bench=EvaluationResult.load(run.folder / BENCH / RESULTS_FILE),
        inheritance=InheritanceGrid.load(run.folder / INHERIT / GRID_FILE) if has_grid else None,
        diagnosis=Diagnosis.load(run.folder / DIAGNOSIS / DIAGNOSIS_FILE) if is_examined else None,
    )


def _is_of(run: Run, step: str, wanted: Mapping[str, str]) -> bool:
    """Whether what a step left was measured on these models and texts, and not on earlier ones."""
    if not (run.folder / step / MANIFEST_FILE).is_file():
        return False
    inputs = read_manifest(run.folder / step).inputs
    found = inputs.get("passes", inputs)  # of a grid
    return all(found[name] == value for name, value in wanted.items())


def _spectrum_of(manifest: Manifest) -> SpectrumSummary | None:
    """What the student's width lets it express; None where its step did not measure that."""
    found = manifest.metrics.get("spectrum")
    return codec.from_plain(SpectrumSummary, found, "spectrum") if found else None


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
    """Each artifact once, under the name that it was first asked for by: what was done, and what
    was up to date without having been done earlier in this run.
    """
    first: dict[str, StepTime] = {}
    for step in steps:
        told = codec.from_plain(StepTime, step, "step")
        first.setdefault(told.artifact or told.name, told)
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
        # an average of models has none
        if (folder / LOSSES_FILE).is_file()
    }


def list_training_texts(run: Run, student: Manifest) -> tuple[TrainingTexts, ...]:
    """What the student was trained on, as its manifest says, and the sources of its teacher's
    stages, where a recipe trains it.
    """
    texts = [
        TrainingTexts("student", name, "documents" if role == "document" else "queries", number)
        for name, role, number in student.metrics.get("texts", ())
    ]
    if run.recipe.teacher.source.startswith("recipe:"):
        sources, _ = list_stages(run, load_teacher_recipe(run.recipe))
        names = dict.fromkeys(source_label(source.config.uri) for source in sources)
        texts += [TrainingTexts("teacher", source, "rows") for source in names]
    return tuple(texts)


def source_label(uri: str) -> str:
    """A source in print, without the folders that it lies in here.

    >>> source_label("jsonl:/home/me/rows.jsonl"), source_label("hf:owner/name@train")
    ('jsonl:rows.jsonl', 'hf:owner/name@train')
    """
    kind, _, rest = uri.partition(":")
    return uri if kind in ("builtin", "hf", "mteb") else f"{kind}:{Path(rest).name}"


def _describe_origin(recipe: Recipe) -> dict[str, Any]:
    """What the hub wants to know of a model: ids of its start and of its data, and the language."""
    kind, _, rest = recipe.student.init.partition(":")
    is_local = kind == "model" and Path(rest).is_dir()
    start = ""
    if is_builtin(recipe.student.init):
        start = BUILTIN_MODELS[recipe.student.init].hub_id
    elif kind == "model" and not is_local:
        start = rest.partition("@")[0]
    # a table takes the tokenizer alone
    base_model = start if recipe.student.kind != "static" else ""
    uris = [recipe.data.corpus, *(source.uri for source in recipe.data.sources.values())]
    named = [re.split("[:@]", uri.removeprefix("hf:"))[0] for uri in uris if uri[:3] == "hf:"]
    datasets = [name for name in named if not Path(name).exists()]
    is_english = all(uri.startswith("builtin:pydocs") for uri in uris)
    return {
        "base_model": base_model,
        "datasets": tuple(dict.fromkeys(datasets)),
        "languages": ("en",) if is_english else (),
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
        head_layers=(network.spec.head_layers or None) if network is not None else None,
        token_table=(network.table_dim or None) if isinstance(network, TextEncoder) else None,
        token_units=(network.num_units or None) if isinstance(network, TextEncoder) else None,
    )


def describe_machine(run: Run) -> Machine:
    """What the figures were measured on."""
    return Machine(
        cpu=cpu_name(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        memory_gib=memory_gib(),
        peak_memory_gib=peak_memory_gib(),
        device=run.device.type,
        precision=str(run.precision).removeprefix("torch."),
        accelerator=kind_of(run.device).model_name(),
        processes=run.world.size,
    )
