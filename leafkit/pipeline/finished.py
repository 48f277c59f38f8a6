"""Is there anything to do? A finished run leaves a record of everything that it read; while all of
that is the same, the same command has nothing to do and finds it out without loading anything.

The record is no cache of results: where it is missing, or anything differs, however little, the
steps are asked one by one, and each decides for itself.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafkit.config import Recipe, to_plain
from leafkit.config.load import load_recipe
from leafkit.core.artifact import fingerprint, write_durably
from leafkit.core.checkpoint_layout import FINISHED_FILE
from leafkit.core.devices import KINDS
from leafkit.core.errors import LeafkitError
from leafkit.core.version import versions
from leafkit.core.watch import is_as_watched, state_of
from leafkit.data.builtin import PYDOCS_QUESTION, pydocs_fingerprint
from leafkit.train.world import read_world

if TYPE_CHECKING:
    from leafkit.pipeline.run import Run

FORMAT = 1  # of the record
_PACKAGE = Path(__file__).resolve().parents[1]
# what they hold can change without any file here changing
_REMOTE_SOURCES = ("hf:", "mteb:")
_REMOTE_MODELS = ("endpoint:", "vectors:")
_SETTLE_S = 0.05  # longer than a tick of a local file system's clock


def record_finished(run: Run, files: list[Path]) -> None:
    """Keep what the run read and wrote, where all of it can be watched.

    Args:
        run: a finished one, with its watch.
        files: further ones that it wrote, such as its report.
    """
    path = run.folder / FINISHED_FILE
    path.unlink(missing_ok=True)
    watch = run.watch
    if not run.is_main or run.world.size > 1 or watch is None or not _can_be_watched(run.recipe):
        return
    for file in files:
        watch.add(file, state_of(file))
    time.sleep(_SETTLE_S)
    if not watch.is_settled():
        return
    record = _circumstances(run.recipe) | {"files": watch.files, "values": watch.values}
    write_durably(path, json.dumps(record).encode())


def is_finished(recipe: Recipe) -> bool:
    """Whether a run of this very recipe has finished here, and nothing that it read has changed
    since, nor anything that it wrote.
    """
    if recipe.force:
        return False
    try:
        if read_world().size > 1:
            return False
        text = (Path(recipe.checkpoints) / recipe.name / FINISHED_FILE).read_text(encoding="utf-8")
        record = json.loads(text)
        now = json.loads(json.dumps(_circumstances(recipe)))
        return (
            all(record.get(key) == value for key, value in now.items())
            and bool(record["files"])
            and _are_as_found(record["values"])
            and is_as_watched(record["files"])
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, LeafkitError):
        return False  # the steps themselves say what is wrong


def _circumstances(recipe: Recipe) -> dict[str, object]:
    """All that decides about a run beside the files that it reads."""
    return {
        "format": FORMAT,
        "recipes": fingerprint([to_plain(one) for one in _with_named_ones(recipe)]),
        "package": _package_state(),
        "versions": versions(),
        "machine": [
            platform.node(),
            [os.environ.get(kind.visible, "") for kind in KINDS.values() if kind.visible],
            sorted(
                path.name
                for kind in KINDS.values()
                if kind.device_files
                for path in Path("/dev").glob(kind.device_files)
            ),
            Path("/dev/kfd").exists(),
        ],
    }


def _with_named_ones(recipe: Recipe) -> list[Recipe]:
    """A recipe and those that it names, directly or through others, in order."""
    found: dict[str, Recipe] = {"": recipe}
    pending = [recipe]
    while pending:
        one = pending.pop()
        for reference in (one.teacher.source, one.bench.student, one.bench.baseline):
            kind, _, name = reference.partition(":")
            if kind == "recipe" and name not in found:
                overrides = one.teacher.overrides if reference == one.teacher.source else ()
                found[name] = load_recipe(name, overrides)
                pending.append(found[name])
    return list(found.values())


def _package_state() -> str:
    """What changes when a source file of leafkit does; a comment counts here."""
    states = []
    for path in sorted(_PACKAGE.rglob("*")):
        if path.suffix in {".py", ".jsonl", ".css", ".j2"}:
            found = path.stat()
            states.append([path.relative_to(_PACKAGE).as_posix(), found.st_size, found.st_mtime_ns])
    return fingerprint(states)


def _can_be_watched(recipe: Recipe) -> bool:
    """Whether all that a run of a recipe reads lies in files here."""
    plain = [to_plain(one) for one in _with_named_ones(recipe)]
    return not any(
        text.startswith((*_REMOTE_SOURCES, *_REMOTE_MODELS))
        for one in plain
        for text in _texts(one)
    )


def _texts(value: Any) -> list[str]:
    """All texts in plain data."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [text for item in value for text in _texts(item)] if isinstance(value, list) else []


def _are_as_found(values: dict[str, str]) -> bool:
    """Whether the values that a run found by other means than reading a file are what they were."""
    return all(
        question.startswith(PYDOCS_QUESTION)
        and pydocs_fingerprint(question.removeprefix(PYDOCS_QUESTION).split(",")) == value
        for question, value in values.items()
    )
