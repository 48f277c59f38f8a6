"""The two models of a pair, teacher and student, wherever their vectors come from."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import torch

from leafkit.config import EmbeddingsConfig, Recipe, TeacherConfig
from leafkit.config.load import load_recipe
from leafkit.core.artifact import open_artifact
from leafkit.core.checkpoint_layout import MODEL_SPACE_FILE, STUDENT, VECTORS_FOLDER
from leafkit.core.console import log
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.openai_client import check_consent
from leafkit.core.swap import wait_for
from leafkit.embedders.distinct import probe_model
from leafkit.embedders.make_embedder import make_embedder
from leafkit.embedders.open_folder import open_folder
from leafkit.embedders.openai_api import SECTION as ENDPOINT_SECTION
from leafkit.embedders.openai_api import OpenAIEmbedder
from leafkit.embedders.precomputed import PrecomputedVectors
from leafkit.embedders.prefix import take_first_dims
from leafkit.embedders.protocol import Embedder, LocalEmbedder
from leafkit.models.checkpoint import find_model
from leafkit.models.encoder_protocol import Encoder, load_model, read_model
from leafkit.models.folder import read_space, read_teacher_prompts
from leafkit.models.given_prompts import give_prompts
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.run import Run, folder_name
from leafkit.pipeline.space_guard import another_dimension, check_prompts, check_space

_ROLES = ("query", "document")


@dataclass(frozen=True, slots=True)
class ModelHandle:
    """One model of a pair: a teacher or a student.

    Attributes:
        model: gives its vectors.
        name: in folder names and messages.
        reference: how a recipe names it.
        declared: the space that its files name: for a student that leafkit distilled, its
            teacher's; for vectors, what their about.json or their store says; "" where they name
            none.
        given_prompts: by role, those that the user gave it in place of what its files say.
        teacher_prompts: by role, those that its teacher was given when it was distilled.
    """

    model: Embedder
    name: str
    reference: str
    declared: str = ""
    given_prompts: Mapping[str, str] = field(default_factory=dict)
    teacher_prompts: Mapping[str, str] = field(default_factory=dict)

    @property
    def encoder(self) -> TextEncoder | None:
        """The transformer itself, where it is one and is loaded here; else None."""
        encoder = self.model.encoder
        return encoder if isinstance(encoder, TextEncoder) else None

    @property
    def network(self) -> Encoder | None:
        """The model itself, of whatever kind, where it is loaded here, no endpoint; else None."""
        return self.model.encoder

    @property
    def space_id(self) -> str:
        """The name of the space of its vectors, for its students and for an index of them."""
        return self.model.space_id


@dataclass(frozen=True, slots=True)
class ModelOpener:
    """Opens models by reference.

    Attributes:
        device: computed on.
        precision: of the arithmetic.
        checkpoints: where the artifacts of ``recipe:NAME`` are.
        teacher: prompts, dimensions and revision of the teacher it names.
        embeddings: how endpoints are reached.
        memory: folder that keeps what an endpoint said of itself; None keeps nothing.
        allowed_hosts: that the user of a recipe lets its endpoints be asked at; None where the
            settings are the user's own.
    """

    device: torch.device
    precision: torch.dtype
    checkpoints: Path
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    embeddings: EmbeddingsConfig = field(default_factory=EmbeddingsConfig)
    memory: Path | None = None
    allowed_hosts: tuple[str, ...] | None = None

    def open_teacher(self) -> ModelHandle:
        """The model that ``teacher.source`` names; of ``recipe:NAME`` the last stage.

        Raises:
            UsageError: the reference is of no known kind, or names a recipe without stages.
            LeafkitError: it is not there, or damaged.
        """
        config = self.teacher
        kind, _, rest = config.source.partition(":")
        if kind == "recipe":
            recipe = load_recipe(rest, config.overrides)
            if not recipe.stages:
                raise UsageError(
                    f"teacher.source={config.source}: that recipe has no stages, so it trains no "
                    f"teacher",
                    "recipe:kalm-mini has",
                )
            return self._trained_teacher(rest, recipe)
        if kind == "vectors":
            return _from_vectors(rest, config.source, tuple(config.mrl_dims))
        if kind == "endpoint":
            return self._from_endpoint(rest, config.source, is_pair=True)
        return self._from_model(
            config.source,
            config.revision,
            trust_remote_code=config.trust_remote_code,
            prompts=self._given_prompts(),
        )

    def open(self, reference: str, is_pair: bool) -> ModelHandle:
        """A model other than the teacher.

        Args:
            reference: as ``teacher.source``; of ``recipe:NAME`` its student, or the teacher of a
                recipe that trains one alone.
            is_pair: it is the teacher's student, so an endpoint or a model gets the teacher's
                prompts.

        Raises:
            UsageError: the reference is of no known kind.
            LeafkitError: it is not there, or damaged.
        """
        kind, _, rest = reference.partition(":")
        if kind == "recipe":
            recipe = load_recipe(rest)
            if recipe.stages and not recipe.teacher.source:
                return self._trained_teacher(rest, recipe)
            folder = self.checkpoints / recipe.name / STUDENT
            name = f"{folder_name(recipe.name)}-student"
            return self.open_artifact(folder, STUDENT, name, _trained_by("distill", rest))
        if kind == "vectors":
            return _from_vectors(rest, reference, ())
        if kind == "endpoint":
            return self._from_endpoint(rest, reference, is_pair)
        prompts = self._given_prompts() if is_pair else {}
        return self._from_model(reference, "", prompts=prompts)

    def open_artifact(self, folder: Path, step: str, name: str, hint: str) -> ModelHandle:
        """The model in an artifact.

        Args:
            folder: of the artifact.
            step: that made it.
            name: of the model.
            hint: how to make it where it is not there.

        Raises:
            LeafkitError: it is not there, or damaged.
        """
        wait_for(folder)
        if not folder.is_dir():
            what = "student" if step == STUDENT else "teacher"
            raise LeafkitError(f"there is no {what}: {folder}: no such artifact", hint)
        open_artifact(folder, step)
        model = make_embedder(read_model(folder), self.device, self.precision)
        return _handle(model, folder, name, f"model:{folder}")

    def _trained_teacher(self, reference: str, recipe: Recipe) -> ModelHandle:
        stage = list(recipe.stages)[-1]
        folder = self.checkpoints / recipe.name / stage
        return self.open_artifact(folder, stage, recipe.name, _trained_by("teach", reference))

    def _given_prompts(self) -> dict[str, str]:
        prompts = {"query": self.teacher.query_prompt, "document": self.teacher.document_prompt}
        return {role: text for role, text in prompts.items() if text}

    def _from_model(
        self,
        reference: str,
        revision: str,
        *,
        prompts: Mapping[str, str],
        trust_remote_code: bool = False,
    ) -> ModelHandle:
        rest = reference.partition(":")[2]
        if reference.startswith("tiny:"):
            tiny = self._embedder_of(load_model(reference), prompts, reference, is_own=False)
            return _handle(tiny, None, folder_name(rest), reference, prompts=prompts)
        folder = find_model(reference, revision, trust_remote_code)
        is_local = Path(rest).is_dir()
        name = folder_name(rest if is_local else rest.partition("@")[0])
        model = open_folder(
            folder,
            device=self.device,
            precision=self.precision,
            prompts=prompts,
            what=reference,
            trust_remote_code=trust_remote_code,
        )
        if revision and not is_local and "@" not in reference and reference.startswith("model:"):
            reference = f"{reference}@{revision}"  # what is kept beside a student names all of it
        return _handle(model, folder, name, reference, prompts=prompts)

    def _embedder_of(
        self, encoder: Encoder, prompts: Mapping[str, str], what: str, *, is_own: bool
    ) -> LocalEmbedder:
        if isinstance(encoder, TextEncoder):  # a table has no prompt
            encoder = give_prompts(encoder, prompts, what, is_own=is_own)
        return make_embedder(encoder, self.device, self.precision)

    def _from_endpoint(self, model: str, reference: str, is_pair: bool) -> ModelHandle:
        config = self.teacher
        is_teacher = reference == config.source
        prompts = self._given_prompts() if is_pair or is_teacher else {}
        dims = config.mrl_dims if is_teacher else []
        if self.allowed_hosts is not None:
            check_consent(self.embeddings.endpoint, self.allowed_hosts, ENDPOINT_SECTION)
        endpoint = OpenAIEmbedder(model, self.embeddings, prompts, dims, memory=self.memory)
        return ModelHandle(endpoint, folder_name(model), reference, given_prompts=prompts)


def opener_of(run: Run) -> ModelOpener:
    """An opener with a run's settings."""
    recipe = run.recipe
    return ModelOpener(
        run.device,
        run.precision,
        run.root,
        recipe.teacher,
        embeddings=recipe.embeddings,
        memory=run.root / VECTORS_FOLDER,
        allowed_hosts=tuple(recipe.allow_hosts),
    )


def load_teacher(run: Run, roles: Collection[str] = _ROLES) -> ModelHandle:
    """The recipe's teacher, at ``student.dim`` dimensions; of ``recipe:NAME`` the last stage.

    Args:
        run: this run.
        roles: of texts to embed, whose prompts must leave room for a text.

    Raises:
        UsageError: the recipe names none, or it has no such dimensions.
        LeafkitError: it is not there, or damaged.
    """
    if not run.recipe.teacher.source:
        raise UsageError(
            f"recipe {run.recipe.name} names no teacher",
            "teacher.source=model:FOLDER_OR_HUB_ID, builtin:mpnet, or recipe:NAME of stages",
        )
    whole = opener_of(run).open_teacher()
    model = take_first_dims(whole.model, run.recipe.student.dim, whole.reference)
    teacher = replace(whole, model=model)
    check_rooms(run, teacher, roles)
    return teacher


def check_rooms(run: Run, handle: ModelHandle, roles: Collection[str] = _ROLES) -> None:
    """Refuse limits that a model's prompts fill, before any work is done.

    Raises:
        UsageError: nothing is left of a query or document.
    """
    data = run.recipe.data
    for role in roles:
        if handle.network is not None:
            limit = data.max_query_tokens if role == "query" else data.max_document_tokens
            handle.network.tokenize([""], role, limit)


def load_student(run: Run, teacher: ModelHandle) -> ModelHandle:
    """The recipe's own student, or the one that bench.student names, if it lives in the teacher's
    space.

    Raises:
        LeafkitError: it is not there, damaged, of another dimension, or of a space that is not the
            teacher's; with bench.same_space the last is the user's word against the files'.
    """
    reference = run.recipe.bench.student
    if reference:
        student = opener_of(run).open(reference, is_pair=True)
    else:
        student = opener_of(run).open_artifact(
            run.folder / STUDENT,
            STUDENT,
            f"{folder_name(run.recipe.name)}-student",
            "leafkit distill recipe=NAME trains a recipe's own; or name one: "
            "bench.student=model:FOLDER, or recipe:NAME",
        )
    check_rooms(run, student)
    check_pair(student, teacher, run.recipe.bench.same_space)
    return student


def load_handle(run: Run, reference: str) -> ModelHandle:
    """A model on its own, without a pair: the baseline. An endpoint gets no prompts: the recipe's
    are those of the pair.
    """
    return opener_of(run).open(reference, is_pair=False)


def _trained_by(command: str, recipe: str) -> str:
    return (
        f"leafkit {command} recipe={recipe} trains it, or point at the folder that holds it with "
        f"checkpoints=DIR"
    )


def _handle(
    model: Embedder,
    folder: Path | None,
    name: str,
    reference: str,
    *,
    prompts: Mapping[str, str] = MappingProxyType({}),
) -> ModelHandle:
    declared, taught_with = "", {}
    probe_model(model, reference)
    is_own = folder is not None and (folder / MODEL_SPACE_FILE).is_file()
    if folder is not None and is_own and model.encoder is not None:
        space = read_space(folder)
        check_prompts(folder, model.encoder)
        declared = str(space.get("teacher") or model.fingerprint)  # a teacher's space is its own
        taught_with = read_teacher_prompts(space)
    given = {role: text for role, text in prompts.items() if model.prompt(role) == text}
    return ModelHandle(
        model, name, reference, declared, given_prompts=given, teacher_prompts=taught_with
    )


def _from_vectors(folder: str, reference: str, mrl_dims: tuple[int, ...]) -> ModelHandle:
    vectors = PrecomputedVectors(Path(folder), mrl_dims)
    declared = vectors.space_id if vectors.is_named else ""
    if any(vectors.space(role, 0).similarity == "dot" for role in vectors.roles):
        _log_once(
            f"  {reference}: vectors of other lengths than one are ranked by inner product; "
            f'"normalized": true in about.json would rank them by cosine'
        )
    return ModelHandle(vectors, folder_name(vectors.name or folder), reference, declared)


def check_pair(student: ModelHandle, teacher: ModelHandle, same_space: bool) -> None:
    """Refuse a student whose vectors cannot be compared with the teacher's.

    Two models share a space where they are the same, where one was distilled from the other, or
    where both name one space: the teacher that both were distilled from, or the "space" of their
    about.json.

    Args:
        student: of the pair.
        teacher: of the pair.
        same_space: the user vouches for it where the files do not.

    Raises:
        LeafkitError: another dimension, another space, or no telling which.
    """
    if student.model.dim != teacher.model.dim:
        raise another_dimension(student.model.dim, teacher.model.dim)
    names = {student.model.fingerprint, student.space_id, student.declared} - {""}
    if names & {teacher.model.fingerprint, teacher.space_id, teacher.declared}:
        return
    if same_space:
        _log_once(
            f"  {student.reference} and {teacher.reference} are compared because "
            f"bench.same_space=true says they may be"
        )
        return
    if dict(student.teacher_prompts) != dict(teacher.given_prompts) and student.teacher_prompts:
        keys = [f"teacher.{role}_prompt={t!r}" for role, t in student.teacher_prompts.items()]
        raise LeafkitError(
            f"{student.reference} was distilled from {teacher.reference} under given prompts, and "
            f"the teacher has {dict(teacher.given_prompts) or 'no such prompts'} here",
            f"give them again: {' '.join(keys)}",
        )
    if student.declared:
        check_space(student.reference, student.declared, teacher.space_id)
    raise LeafkitError(
        f"no telling whether {student.reference} lives in the space of {teacher.reference}: "
        f"nothing beside it names its space",
        "measure a student that was distilled from this teacher, or give both folders of vectors "
        'one "space" in about.json; if you know that they share one, bench.same_space=true',
    )


@functools.cache
def _log_once(text: str) -> None:
    log(text)
