"""The two sides of a pair, teacher and student, wherever their vectors come from, and the guard
that keeps spaces apart.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from leafkit.config.load import load_recipe
from leafkit.core.artifact import open_artifact, recover
from leafkit.core.checkpoint_layout import MODEL_SPACE_FILE, STUDENT, VECTORS_FOLDER
from leafkit.core.console import log
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.embedders.make_embedder import make_embedder
from leafkit.embedders.openai_api import OpenAIEmbedder
from leafkit.embedders.precomputed import PrecomputedVectors
from leafkit.embedders.protocol import Embedder, LocalEmbedder
from leafkit.models.checkpoint import find_model
from leafkit.models.encoder import Encoder, load_model, read_model
from leafkit.models.folder import read_space
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.run import Run, folder_name


@dataclass(frozen=True, slots=True)
class ModelHandle:
    """One side of a pair: a teacher or a student.

    Attributes:
        model: gives its vectors.
        name: in folder names and messages.
        reference: how a recipe names it.
        declared: the space that its files name: for a student that leafkit distilled, its
            teacher's; for vectors, what their about.json or their store says; "" where they name
            none.
    """

    model: Embedder
    name: str
    reference: str
    declared: str = ""

    @property
    def encoder(self) -> TextEncoder | None:
        """The transformer itself, where it is at hand; None for a static model, an endpoint and
        vectors computed elsewhere.
        """
        found = self.model.encoder
        return found if isinstance(found, TextEncoder) else None

    @property
    def network(self) -> Encoder | None:
        """The model itself, of whatever kind, where it is at hand; None for an endpoint and vectors
        computed elsewhere.
        """
        return self.model.encoder

    @property
    def space_id(self) -> str:
        """What a student distilled from this side, and an index of its vectors, call their space."""
        return self.model.space_id


def load_teacher(run: Run) -> ModelHandle:
    """The recipe's teacher; of ``recipe:NAME`` the last stage.

    Raises:
        UsageError: the recipe names none.
        LeafkitError: it is not there, or damaged.
    """
    config = run.recipe.teacher
    kind, _, rest = config.source.partition(":")
    if not config.source:
        raise UsageError(
            f"recipe {run.recipe.name} names no teacher",
            "teacher.source=recipe:kalm-mini or model:FOLDER_OR_HUB_ID; a recipe of stages "
            "trains one: recipe:NAME",
        )
    if kind == "recipe":
        recipe = load_recipe(rest)
        stages = list(recipe.stages)
        if not stages:
            raise UsageError(
                f"teacher.source={config.source}: that recipe has no stages, so it trains no "
                f"teacher",
                "recipe:kalm-mini has",
            )
        return _from_artifact(
            run,
            run.root / recipe.name / stages[-1],
            stages[-1],
            recipe.name,
            _trained_by("teach", rest),
        )
    if kind == "vectors":
        return _from_vectors(rest, config.source, tuple(config.mrl_dims))
    if kind == "endpoint":
        return _from_endpoint(run, rest, config.source, is_pair=True)
    return _from_model(run, config.source, config.revision, config.trust_remote_code)


def load_student(run: Run, teacher: ModelHandle) -> ModelHandle:
    """The recipe's own student, or the one that bench.student names, if it lives in the teacher's
    space.

    Raises:
        LeafkitError: it is not there, damaged, of another dimension, or of a space that is not the
            teacher's; with bench.same_space the last is the user's word against the files'.
    """
    reference = run.recipe.bench.student
    if reference:
        student = _load(run, reference, is_pair=True)
    else:
        hint = (
            "leafkit distill recipe=NAME trains a recipe's own; or name one: "
            "bench.student=model:FOLDER, or recipe:NAME"
        )
        student = _from_artifact(
            run, run.folder / STUDENT, STUDENT, f"{folder_name(run.recipe.name)}-student", hint
        )
    check_pair(student, teacher, run.recipe.bench.same_space)
    return student


def load_handle(run: Run, reference: str) -> ModelHandle:
    """A model on its own, without a pair: the baseline. An endpoint gets no prompts: the recipe's
    are those of the pair.
    """
    return _load(run, reference, is_pair=False)


def _load(run: Run, reference: str, is_pair: bool) -> ModelHandle:
    kind, _, rest = reference.partition(":")
    if kind == "recipe":
        recipe = load_recipe(rest)
        if recipe.stages and not recipe.teacher.source:
            stage = list(recipe.stages)[-1]
            return _from_artifact(
                run, run.root / recipe.name / stage, stage, recipe.name, _trained_by("teach", rest)
            )
        name = f"{folder_name(recipe.name)}-student"
        return _from_artifact(
            run, run.root / recipe.name / STUDENT, STUDENT, name, _trained_by("distill", rest)
        )
    if kind == "vectors":
        return _from_vectors(rest, reference, ())
    if kind == "endpoint":
        return _from_endpoint(run, rest, reference, is_pair)
    return _from_model(run, reference, "", trust_remote_code=False)


def _trained_by(command: str, recipe: str) -> str:
    return (
        f"leafkit {command} recipe={recipe} trains it, or point at the folder that holds it with "
        f"checkpoints=DIR"
    )


def _from_artifact(run: Run, folder: Path, stage: str, name: str, hint: str) -> ModelHandle:
    recover(folder)
    if not folder.is_dir():
        raise LeafkitError(
            f"there is no {'student' if stage == STUDENT else 'teacher'}: {folder}: no such "
            f"artifact",
            hint,
        )
    open_artifact(folder, stage)
    return _handle(_read_model(run, folder), folder, name, f"model:{folder}")


def _from_model(run: Run, reference: str, revision: str, trust_remote_code: bool) -> ModelHandle:
    rest = reference.partition(":")[2]
    if reference.startswith("tiny:"):
        return _handle(
            make_embedder(load_model(reference), run.device, run.precision),
            None,
            folder_name(rest),
            reference,
        )
    folder, is_local = find_model(reference, revision), Path(rest).is_dir()
    name = folder_name(rest if is_local else rest.partition("@")[0])
    return _handle(
        _read_model(run, folder, trust_remote_code=trust_remote_code and not is_local),
        folder,
        name,
        reference,
    )


def _read_model(run: Run, folder: Path, *, trust_remote_code: bool = False) -> LocalEmbedder:
    encoder = read_model(folder, trust_remote_code=trust_remote_code)
    return make_embedder(encoder, run.device, run.precision)


def _handle(model: LocalEmbedder, folder: Path | None, name: str, reference: str) -> ModelHandle:
    declared = ""
    if folder is not None and (folder / MODEL_SPACE_FILE).is_file():
        space = read_space(folder)
        check_prompts(folder, model.encoder)
        declared = str(space.get("teacher") or model.fingerprint)  # a teacher's space is its own
    return ModelHandle(model, name, reference, declared)


def _from_vectors(folder: str, reference: str, mrl_dims: tuple[int, ...]) -> ModelHandle:
    vectors = PrecomputedVectors(Path(folder), mrl_dims)
    declared = vectors.space_id if vectors.is_named else ""
    return ModelHandle(vectors, folder_name(vectors.name or folder), reference, declared)


def _from_endpoint(run: Run, model: str, reference: str, is_pair: bool) -> ModelHandle:
    config = run.recipe.teacher
    is_teacher = reference == config.source
    prompts = (
        {"query": config.query_prompt, "document": config.document_prompt}
        if is_pair or is_teacher
        else {}
    )
    dims = config.mrl_dims if is_teacher else []
    side = OpenAIEmbedder(model, run.recipe.embeddings, prompts, dims, run.root / VECTORS_FOLDER)
    return ModelHandle(side, folder_name(model), reference)


def check_pair(student: ModelHandle, teacher: ModelHandle, same_space: bool) -> None:
    """Refuse a student whose vectors cannot be compared with the teacher's.

    Two sides share a space where they are the same model, where one was distilled from the other,
    or where both name one
    space: the teacher that both were distilled from, or the "space" of their about.json.

    Args:
        student: of the pair.
        teacher: of the pair.
        same_space: the user vouches for it where the files do not.

    Raises:
        LeafkitError: another dimension, another space, or no telling which.
    """
    if student.model.dim != teacher.model.dim:
        raise _another_dimension(student.model.dim, teacher.model.dim)
    mine = {student.model.fingerprint, student.space_id, student.declared} - {""}
    if mine & {teacher.model.fingerprint, teacher.space_id, teacher.declared}:
        return
    if same_space:
        _say_once(
            f"  {student.reference} and {teacher.reference} are compared because "
            f"bench.same_space=true says they may be"
        )
        return
    if student.declared:
        check_space(student.reference, student.declared, teacher.space_id)
    raise LeafkitError(
        f"no telling whether {student.reference} lives in the space of {teacher.reference}: "
        f"nothing beside it names its space",
        "measure a student that was distilled from this teacher, or give both folders of vectors "
        'one "space" in about.json; if'
        " you know that the two share a space, bench.same_space=true",
    )


@functools.cache
def _say_once(text: str) -> None:
    log(text)


def check_student(folder: Path, student: Encoder, teacher: str, dim: int) -> None:
    """Refuse a student that leafkit distilled from another teacher than that of an index.

    Args:
        folder: of the student.
        student: read from it.
        teacher: space of the index.
        dim: dimension of the index.

    Raises:
        LeafkitError: another teacher's student, prompts that are not those it was distilled with,
            or another dimension.
    """
    check_space(str(folder), read_space(folder).get("teacher", ""), teacher)
    check_prompts(folder, student)
    if student.dim != dim:
        raise _another_dimension(student.dim, dim)


def check_prompts(folder: Path, student: Encoder) -> None:
    """Refuse a student whose prompts are not those that leafkit.json says it was distilled with.

    Raises:
        LeafkitError: they differ.
    """
    prompts = {
        role: text
        for role, text in read_space(folder).get("prompts", student.spec.prompts).items()
        if text
    }
    if prompts != student.spec.prompts:
        raise LeafkitError(
            f"{folder}: its prompts are {student.spec.prompts} and were {prompts} when it was "
            f"distilled",
            "restore config_sentence_transformers.json: without its prompts a student answers "
            "from elsewhere in the space",
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


def _another_dimension(student: int, teacher: int) -> LeafkitError:
    return LeafkitError(
        f"the student's vectors have {student} dimensions and the teacher's {teacher}: they "
        f"share no space",
        "measure a student that was distilled from this teacher",
    )
