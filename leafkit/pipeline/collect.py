"""Everything a report shows, gathered from the artifacts of a recipe as plain data."""

from __future__ import annotations

import datetime
import json
import os
import resource
from typing import Any

import torch

from leafkit.config import to_plain
from leafkit.config.load import load_recipe
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


def collect_report(run: Run, command: str) -> dict[str, Any]:
    """Recipe, machine, models, losses, figures and timings of a finished run; see leafkit.report
    for what shows them.
    """
    steps = summarise_steps(run.steps)
    teacher = load_teacher(run)
    student = load_student(run, teacher)
    corpora = [
        load_corpus(run, uri).about()
        for uri in (run.recipe.data.corpus, *run.recipe.bench.collections)
    ]
    manifest = read_manifest(run.folder / STUDENT)
    data: dict[str, Any] = {
        "name": run.recipe.name,
        "command": command,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": git_commit(),
        "recipe": to_plain(run.recipe),
        "versions": versions(),
        "hardware": describe_machine(run),
        "steps": steps,
        "teacher": describe_side(teacher),
        "student": describe_side(student) | {"name": f"{run.recipe.name} student"},
        "spectrum": manifest.metrics["spectrum"],
        "losses": collect_losses(run),
        "corpora": corpora,
        "bench": json.loads((run.folder / BENCH / RESULTS_FILE).read_text()),
    }
    if (run.folder / INHERIT / MANIFEST_FILE).is_file():
        data["inherit"] = json.loads((run.folder / INHERIT / GRID_FILE).read_text())
    return data


def summarise_steps(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each step once: what was done, and what was found up to date without having been done earlier
    in this run.
    """
    seen: dict[str, dict[str, Any]] = {}
    for step in steps:
        if step["name"] not in seen:
            seen[step["name"]] = dict(step)
    return list(seen.values())


def collect_losses(run: Run) -> dict[str, list[float]]:
    """Loss curves of the teacher's stages, where a recipe trains it, and of the student."""
    kind, _, name = run.recipe.teacher.source.partition(":")
    curves = {}
    if kind == "recipe":
        teacher = load_recipe(name)
        curves = {
            stage: json.loads((run.root / teacher.name / stage / LOSSES_FILE).read_text())
            for stage in teacher.stages
        }
    return curves | {STUDENT: json.loads((run.folder / STUDENT / LOSSES_FILE).read_text())}


def describe_side(side: ModelHandle) -> dict[str, Any]:
    """Size, cost and interface of a model; of one that is not at hand only its interface."""
    model, network = side.model, side.network
    return {
        "name": side.name,
        "parameters": network.num_parameters() if network is not None else None,
        "dim": model.dim,
        "mrl_dims": list(model.mrl_dims),
        "flops_per_token": network.flops_per_token() if network is not None else None,
        "prompts": {role: model.prompt(role) for role in ("query", "document")},
    }


def describe_machine(run: Run) -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": memory_gib(),
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "device": run.device.type,
        "precision": str(run.precision).removeprefix("torch."),
        "accelerator": torch.cuda.get_device_name() if run.device.type == "cuda" else "",
        "processes": run.world.size,
    }
