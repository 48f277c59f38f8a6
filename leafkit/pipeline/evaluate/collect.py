"""What a report shows of a run that measured only: bench, inherit or the diagnosis of a teacher."""

from __future__ import annotations

import datetime
import json
from typing import Any

from leafkit.config.schema import to_plain
from leafkit.core.artifact import git_commit, versions
from leafkit.core.checkpoint_layout import BENCH, GRID_FILE, INHERIT, RESULTS_FILE
from leafkit.pipeline.collect import describe_machine, describe_side, summarise_steps
from leafkit.pipeline.corpus import load_corpus
from leafkit.pipeline.model_handle import load_student, load_teacher
from leafkit.pipeline.run import Run


def collect_bench(run: Run, command: str) -> dict[str, Any]:
    """The benchmark with its models, collections and machine."""
    uris = [uri for uri in (run.recipe.data.corpus, *run.recipe.bench.collections) if uri]
    data = _models(run) | {"corpora": [load_corpus(run, uri).about() for uri in uris]}
    return (
        _header(run, command)
        | data
        | {"bench": json.loads((run.folder / BENCH / RESULTS_FILE).read_text())}
    )


def collect_inherit(run: Run, command: str) -> dict[str, Any]:
    """The inheritance grid with its models, collection and machine."""
    data = _models(run) | {"corpora": [load_corpus(run, run.recipe.data.corpus).about()]}
    return (
        _header(run, command)
        | data
        | {"inherit": json.loads((run.folder / INHERIT / GRID_FILE).read_text())}
    )


def collect_diagnosis(run: Run, command: str, diagnosis: dict[str, Any]) -> dict[str, Any]:
    """A teacher's diagnosis with its collection and machine."""
    data = {
        "teacher": describe_side(load_teacher(run)),
        "corpora": [load_corpus(run, run.recipe.data.corpus).about()],
    }
    return _header(run, command) | data | {"diagnosis": diagnosis}


def _models(run: Run) -> dict[str, Any]:
    teacher = load_teacher(run)
    return {"teacher": describe_side(teacher), "student": describe_side(load_student(run, teacher))}


def _header(run: Run, command: str) -> dict[str, Any]:
    """Everything that every report says of its run, read last so that it covers the loading too."""
    return {
        "name": run.recipe.name,
        "command": command,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": git_commit(),
        "recipe": to_plain(run.recipe),
        "versions": versions(),
        "hardware": describe_machine(run),
        "steps": summarise_steps(run.steps),
    }
