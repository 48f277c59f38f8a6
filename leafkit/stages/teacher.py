"""The frozen teacher and the student measured against it, with the guard that keeps spaces apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from leafkit.artifact import open_artifact
from leafkit.errors import LeafkitError, UsageError
from leafkit.models.checkpoint import SPACE_FILE, load_encoder, read_encoder, read_space
from leafkit.models.encoder import TextEncoder
from leafkit.recipe import load_recipe
from leafkit.search.embed import Embedder, VectorModel
from leafkit.stages.run import Run, folder_name

STUDENT = "student"


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a pair: a teacher or a student.

    Attributes:
        model: gives its vectors.
        name: in folder names and messages.
        reference: how a recipe names it.
    """

    model: VectorModel
    name: str
    reference: str

    @property
    def encoder(self) -> TextEncoder | None:
        """The model itself, where it is at hand; None for an endpoint and for vectors computed elsewhere."""
        return self.model.encoder if isinstance(self.model, Embedder) else None


def load_teacher(run: Run) -> Side:
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
        return _side(run, encoder, folder_name(rest), config.source)
    recipe = load_recipe(rest)
    stages = list(recipe.stages)
    if not stages:
        raise UsageError(
            f"teacher.source={config.source}: that recipe has no stages, so it trains no teacher", "recipe:kalm-mini has"
        )
    folder = run.root / recipe.name / stages[-1]
    open_artifact(folder, stages[-1])
    return _side(run, read_encoder(folder), recipe.name, f"model:{folder}")


def load_student(run: Run, teacher: Side) -> Side:
    """The recipe's own student, or the one that bench.student names, if it lives in the teacher's space.

    Raises:
        LeafkitError: it is not there, damaged, or was distilled from another teacher.
    """
    reference = run.recipe.bench.student
    folder = Path(reference.removeprefix("model:")) if reference else run.folder / STUDENT
    if not reference:
        open_artifact(folder, STUDENT)
    student = load_encoder(reference) if reference else read_encoder(folder)
    check_student(folder, student, teacher.model.fingerprint, teacher.model.dim)
    return _side(run, student, f"{folder_name(run.recipe.name)}-student", reference or f"model:{folder}")


def load_side(run: Run, reference: str) -> Side:
    """A model on its own, without a pair: the baseline."""
    return _side(run, load_encoder(reference), folder_name(reference.partition(":")[2]), reference)


def _side(run: Run, encoder: TextEncoder, name: str, reference: str) -> Side:
    return Side(Embedder(encoder, run.device, run.precision), name, reference)


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
