"""A pair on disk: student/ and index/, as a finished run has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from leafkit.core.artifact import publish
from leafkit.core.checkpoint_layout import INDEX, STUDENT
from leafkit.core.errors import LeafkitError
from leafkit.data.records import Collection
from leafkit.data.vector_store import Space
from leafkit.embedders.kept_endpoint import ENDPOINT_KEY, KeptEndpoint
from leafkit.index.vectors import Vectors
from leafkit.models.encoder_protocol import Encoder, save_model
from leafkit.pipeline.document_index import save_documents
from leafkit.results.codec import to_plain


def describe_student_space(
    student: Encoder,
    teacher: str,
    reference: str,
    prompts: Mapping[str, str],
    *,
    prefix_of: int = 0,
    endpoint: KeptEndpoint | None = None,
) -> dict[str, object]:
    """What leafkit.json says of the space that a student lives in.

    Args:
        student: the model.
        teacher: name of the space.
        reference: how a recipe names the teacher.
        prompts: that the teacher was given, by role; those of its own files are not among them.
        prefix_of: the teacher's whole dimension, where the student lives in its first dimensions;
            else 0.
        endpoint: that the teacher is asked at; None for other teachers, and in what is made to be
            published, which names no address of the maker's.
    """
    return {
        "kind": "student",
        "teacher": teacher,
        "teacher_reference": reference,
        "teacher_prompts": dict(prompts),
        "dim": student.dim,
        "normalized": student.spec.normalized,
        **({"prefix_of": prefix_of} if prefix_of else {}),
        **({ENDPOINT_KEY: asdict(endpoint)} if endpoint else {}),
    }


def save_parts(
    folder: Path,
    student: Encoder,
    collection: Collection,
    vectors: Vectors,
    *,
    space: Space,
    reference: str,
    teacher_prompts: Mapping[str, str],
    prefix_of: int,
    retention: Mapping[str, object],
    endpoint: KeptEndpoint | None = None,
) -> None:
    """Write a pair: two artifacts that ``leafkit.pipeline.load_pair`` reads.

    Args:
        folder: where to; an earlier pair there is replaced.
        student: the model.
        collection: documents in the order of the vectors, and judged queries where there are some.
        vectors: (N, D).
        space: that they are in.
        reference: how a recipe names the teacher.
        teacher_prompts: see ``describe_student_space``.
        prefix_of: likewise.
        retention: what was measured, as plain data can hold it.
        endpoint: see ``describe_student_space``.

    Raises:
        LeafkitError: the folder holds something else than a pair, or cannot be written.
    """
    if folder.is_dir():
        others = sorted(p.name for p in folder.iterdir() if p.name not in (INDEX, STUDENT))
        if others:
            raise LeafkitError(
                f"{folder} holds {others[0]!r}, which is no part of a pair",
                "choose a new folder, or one that pair.save wrote",
            )
    elif folder.exists():
        raise LeafkitError(f"{folder} is not a folder", "choose another place")
    inputs = {"teacher": space.teacher, "corpus": collection.fingerprint()}
    with publish(folder / INDEX, INDEX, inputs, {}, metrics={"documents": len(vectors)}) as draft:
        save_documents(collection, vectors, space, draft)
    metrics: dict[str, Any] = {"retention": to_plain(retention)} if retention else {}
    with publish(folder / STUDENT, STUDENT, inputs, {}, metrics=metrics) as draft:
        about = describe_student_space(
            student,
            space.teacher,
            reference,
            teacher_prompts,
            prefix_of=prefix_of,
            endpoint=endpoint,
        )
        save_model(student, draft, about)
