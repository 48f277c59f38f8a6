"""A recipe's student, and its teacher, in folders for other tools: ``leafkit export to=...``."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from leafkit.config import to_plain
from leafkit.core.builtin_models.table import BUILTIN_MODELS, is_builtin
from leafkit.core.checkpoint_layout import CARD_FILE, INDEX, INDEX_SPACE_FILE
from leafkit.core.console import log
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.file_hashes import without_stamp
from leafkit.embedders.prefix import whole_dim
from leafkit.exporters.hub import document_model
from leafkit.exporters.source import ExportSource
from leafkit.exporters.targets import write_targets
from leafkit.pipeline.document_index import read_space_of_index
from leafkit.pipeline.exports.search_page import search_page
from leafkit.pipeline.model_handle import ModelHandle, load_student, load_teacher
from leafkit.pipeline.pair_folder import describe_student_space
from leafkit.pipeline.run import Run


def export_folders(
    run: Run,
    to: Sequence[str],
    *,
    license: str = "",
    repository: str = "",
    web_runtime: str = "",
    is_cut_given: bool = False,
) -> dict[str, Path]:
    """Write a recipe's student, and its teacher, for other tools, into the recipe's folder.

    Args:
        run: this run.
        to: as of ``export``.
        license: likewise.
        repository: OWNER/NAME that the student will be published as, in the cards; "" leaves that
            open.
        web_runtime: as of ``export``.
        is_cut_given: data.max_document_tokens stands on the command line.

    Returns:
        The folder of each target that was written.

    Raises:
        UsageError: the recipe names no teacher, or data.max_document_tokens on the command line
            differs from the index's.
        LeafkitError: as of ``export``, or the student is no local model or lives in another space
            than the teacher.
    """
    teacher = load_teacher(run)
    student = load_student(run, teacher)
    if student.network is None:
        raise no_local_model(student.reference)
    is_own = not run.recipe.bench.student
    space = describe_student_space(
        student.network,
        teacher.space_id,
        teacher.reference,
        teacher.given_prompts,
        prefix_of=whole_dim(teacher.model),
    )
    dim, limit = teacher.model.dim, document_cut(run, teacher, is_given=is_cut_given)
    source = ExportSource(
        student.network,
        space,
        name=repository.rpartition("/")[2] or run.recipe.name,
        license=license,
        card=read_card(run.folder) if is_own else "",
        teacher=functools.cache(
            lambda: document_model(
                teacher.network, dim=dim, max_tokens=limit, reference=teacher.reference
            )
        ),
        base_model=hub_id_of_start(to_plain(run.recipe)) if is_own else "",
        repository=repository,
        page=functools.cache(lambda: search_page(run.folder, web_runtime)),
    )
    return write_targets(source, run.folder, to)


def document_cut(run: Run, teacher: ModelHandle, *, is_given: bool) -> int:
    """Tokens that the teacher's folder cuts documents at: where those of its index were cut, which
    another word on another command line may have set; the recipe's where it has no index.

    Raises:
        UsageError: the command line asks for another cut than the index's.
    """
    asked = teacher.model.space("document", run.recipe.data.max_document_tokens)
    folder = run.folder / INDEX
    if not (folder / INDEX_SPACE_FILE).is_file():
        return asked.max_tokens
    index = read_space_of_index(folder)
    if index.teacher != asked.teacher or index.max_tokens == asked.max_tokens:
        return asked.max_tokens
    told = f"the documents of {folder} were cut at {index.max_tokens:,} tokens"
    if is_given:
        raise UsageError(
            f"data.max_document_tokens={run.recipe.data.max_document_tokens}: {told}",
            "leave it out; leafkit embed or distill with it makes another index",
        )
    if teacher.encoder is not None:  # others have no folder
        log(f"{told}, not at the recipe's {asked.max_tokens:,}: the teacher's folder cuts there")
    return index.max_tokens


def hub_id_of_start(recipe: Mapping[str, Any]) -> str:
    """The hub's id of the model that a student began as; "" where it has none.

    Args:
        recipe: resolved, as a manifest holds it.
    """
    student = recipe.get("student") or {}
    reference = str(student.get("init", ""))
    kind, _, rest = reference.partition(":")
    if student.get("kind") == "static":
        return ""  # a table takes the tokenizer alone
    if is_builtin(reference):
        return BUILTIN_MODELS[reference].hub_id
    # a folder may be called so too, but only what comes from the hub is pinned
    pinned = re.fullmatch(r"([\w.-]+/[\w.-]+)@[0-9a-f]{40}", rest)
    return pinned[1] if kind == "model" and pinned else ""


def read_card(folder: Path) -> str:
    """The card of a recipe's folder, without the report's stamp; "" where there is none."""
    card = folder / CARD_FILE
    return without_stamp(card.read_text(encoding="utf-8")) if card.is_file() else ""


def no_local_model(reference: str) -> LeafkitError:
    """The error of a student that is not loaded here."""
    return LeafkitError(
        f"{reference} is no local model: there is nothing to export", "export a trained student"
    )
