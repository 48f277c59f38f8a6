"""The guard that keeps spaces apart: vectors of two spaces must never be compared."""

from __future__ import annotations

from pathlib import Path

from leafkit.core.errors import LeafkitError, UsageError
from leafkit.data.vector_store import Space
from leafkit.models.encoder_protocol import Encoder
from leafkit.models.folder import read_prefix_of, read_space


def check_student(folder: Path, student: Encoder, teacher: str, dim: int) -> None:
    """Refuse a student that leafkit distilled from another teacher than that of an index. One of
    the teacher's first dimensions may ask an index of all of them, cut.

    Args:
        folder: of the student.
        student: read from it.
        teacher: space of the index.
        dim: dimension of the index.

    Raises:
        LeafkitError: another teacher's student, prompts that are not those it was distilled with,
            or another dimension.
    """
    space = read_space(folder)
    check_space(str(folder), space.get("teacher", ""), teacher)
    check_prompts(folder, student)
    is_cut = space.get("dim") == student.dim and dim == read_prefix_of(space)
    if student.dim != dim and not is_cut:
        raise another_dimension(student.dim, dim)


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


def check_space(what: str, space: str, expected: str) -> None:
    """Refuse to compare vectors of two spaces.

    Raises:
        LeafkitError: the two are not the same.
    """
    if space != expected:
        raise LeafkitError(
            f"{what} lives in the space of teacher {space or 'unknown'}, not of teacher {expected}:"
            " rankings would be meaningless",
            "distil again from this teacher, or point at the teacher it was distilled from",
        )


def check_cosine(what: str, space: Space, command: str) -> None:
    """Refuse measures that are made for cosines where vectors are ranked by inner product.

    Args:
        what: names the model.
        space: of its documents.
        command: that measures.

    Raises:
        UsageError: its vectors have other lengths than one.
    """
    if space.similarity != "cosine":
        raise UsageError(
            f"{what} ranks by the inner product of vectors of any length (similarity_fn_name dot, "
            f"or vectors that say nothing and are not of length one): {command} compares cosines, "
            "and its figures would be another model's",
            "leafkit bench and search rank by inner product; where cosine is meant, set "
            'similarity_fn_name "cosine" in config_sentence_transformers.json, "normalized": true '
            "in about.json",
        )


def another_dimension(student: int, teacher: int) -> LeafkitError:
    """The error of vectors whose dimensions differ."""
    return LeafkitError(
        f"the student's vectors have {student} dimensions and the teacher's {teacher}: they "
        f"share no space",
        "measure a student that was distilled from this teacher; one of its first dimensions needs "
        "the student.dim that it was distilled with",
    )
