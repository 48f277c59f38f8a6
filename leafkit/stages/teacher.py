"""The frozen teacher and the student measured against it, with the guard that keeps spaces apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from leafkit.artifact import open_artifact
from leafkit.errors import LeafkitError, UsageError
from leafkit.models.checkpoint import SPACE_FILE, load_encoder, read_encoder, read_space
from leafkit.models.encoder import TextEncoder
from leafkit.recipe import load_recipe
from leafkit.stages.run import Run, folder_name

STUDENT = "student"


@dataclass(frozen=True, slots=True)
class Teacher:
    """The model whose space everything lives in."""

    encoder: TextEncoder
    name: str
    reference: str


def load_teacher(run: Run) -> Teacher:
    """The recipe's teacher: the last stage of the recipe that trains it, or a model that is there already.

    Raises:
        UsageError: the recipe names none.
        LeafkitError: it is not there, or damaged.
    """
    config = run.recipe.teacher
    kind, _, rest = config.source.partition(":")
    if not config.source:
        raise UsageError(
            f"recipe {run.recipe.name} names no teacher", "teacher.source=recipe:kalm-mini or model:FOLDER_OR_HUB_ID"
        )
    if kind == "model":
        encoder = load_encoder(config.source, config.revision, config.trust_remote_code)
        return Teacher(encoder, folder_name(rest), config.source)
    recipe = load_recipe(rest)
    stages = list(recipe.stages)
    if not stages:
        raise UsageError(
            f"teacher.source={config.source}: that recipe has no stages, so it trains no teacher", "recipe:kalm-mini has"
        )
    folder = run.root / recipe.name / stages[-1]
    open_artifact(folder, stages[-1])
    return Teacher(read_encoder(folder), recipe.name, f"model:{folder}")


def load_student(run: Run, teacher: Teacher) -> TextEncoder:
    """The recipe's own student, or the one that bench.student names, if it lives in the teacher's space.

    Raises:
        LeafkitError: it is not there, damaged, or was distilled from another teacher.
    """
    reference = run.recipe.bench.student
    folder = Path(reference.removeprefix("model:")) if reference else run.folder / STUDENT
    if not reference:
        open_artifact(folder, STUDENT)
    student = load_encoder(reference) if reference else read_encoder(folder)
    check_student(folder, student, teacher.encoder.fingerprint, teacher.encoder.dim)
    return student


def check_student(folder: Path, student: TextEncoder, teacher: str, dim: int) -> None:
    """Refuse a student whose vectors cannot be compared with the teacher's.

    A student that leafkit did not write says nothing of its teacher or prompts; only its dimension can be checked.

    Args:
        folder: of the student.
        student: read from it.
        teacher: fingerprint of the teacher.
        dim: dimension of the teacher's vectors.

    Raises:
        LeafkitError: another teacher's student, prompts that are not those it was distilled with, or another dimension.
    """
    if (folder / SPACE_FILE).is_file():
        space = read_space(folder)
        check_space(str(folder), space.get("teacher", ""), teacher)
        if space.get("prompts", {}) != student.spec.prompts:
            raise LeafkitError(
                f"{folder}: its prompts are {student.spec.prompts} and were {space.get('prompts')} when it was distilled",
                "restore config_sentence_transformers.json: without its prompts a student answers from elsewhere in the space",
            )
    if student.dim != dim:
        raise LeafkitError(
            f"the student's vectors have {student.dim} dimensions and the teacher's {dim}: they share no space",
            "measure a student that was distilled from this teacher",
        )


def check_space(what: str, found: str, expected: str) -> None:
    """Refuse to compare vectors of two spaces.

    Raises:
        LeafkitError: the two are not the same.
    """
    if found != expected:
        raise LeafkitError(
            f"{what} lives in the space of teacher {found or 'unknown'}, not of teacher {expected}:"
            " rankings would be meaningless",
            "distil again from this teacher, or point at the teacher it was distilled from",
        )
