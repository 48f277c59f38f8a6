"""leafkit's models in mteb's own harness: a single encoder, or a pair of which the student embeds
queries.

    import mteb
    from leafkit.evaluation.mteb_encoder import load_for_mteb
    pair = load_for_mteb("model:checkpoints/NAME/student", "model:checkpoints/TEACHER/STAGE",
    name="my-pair") mteb.evaluate(pair, mteb.get_tasks(tasks=["SciFact"]))

mteb (extra ``bench``) is imported when a model is wrapped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from leafkit.core.checkpoint_layout import MODEL_SPACE_FILE
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.truncate import truncate_then_normalize
from leafkit.data.mteb_source import task_instruction
from leafkit.data.prompts import make_prompt
from leafkit.embedders.distinct import probe_model
from leafkit.embedders.make_embedder import make_embedder
from leafkit.embedders.prefix import PrefixEmbedder
from leafkit.embedders.prompted import has_template, place_prompts, prompt_with
from leafkit.embedders.protocol import Embedder
from leafkit.evaluation.mteb_meta import describe
from leafkit.models.encoder_protocol import load_model
from leafkit.models.folder import read_prefix_of, read_space, read_teacher_prompts
from leafkit.models.given_prompts import give_prompts
from leafkit.models.precision import choose_device, choose_precision
from leafkit.models.text_encoder import TextEncoder

UNCUT = 1 << 20  # tokens: every model cuts at its own limit before


class MtebEncoder:
    """mteb's encoder protocol (2.26) over one or two VectorModels.

    mteb says of each batch whether it holds queries or documents. Where it says neither, the task
    is symmetric (STS, clustering, classification): all its texts are embedded as queries, by the
    model for queries, so that they lie in one space under one prompt.

    A model whose query prompt has a place for an instruction gets each task's: the one given here,
    else the task's own, else that of mteb's kind of task. Documents are searched under their own
    prompt.

    Args:
        queries: embeds queries and the texts of symmetric tasks; the student of a pair.
        documents: embeds documents; the teacher of a pair, or ``queries`` again.
        meta: mteb's ModelMeta.
        max_query_tokens: queries are cut here.
        max_document_tokens: documents, and the texts of symmetric tasks, are cut here.
        template: of the query prompt, "Instruct: {instruction}\\nQuery: {query}" say, for models
            whose files name none; "" takes theirs.
        instructions: by mteb's name of a task, its type ("STS"), or "query", in this order; "" puts
            no prompt at all, as KaLM-Embedding is measured on STS.

    Raises:
        LeafkitError: the two models' vectors differ in dimension.
        UsageError: the template does not end with {query}, or there are instructions and no
            template that takes them.
    """

    def __init__(
        self,
        queries: Embedder,
        documents: Embedder,
        meta: Any,
        *,
        max_query_tokens: int = UNCUT,
        max_document_tokens: int = UNCUT,
        template: str = "",
        instructions: Mapping[str, str] | None = None,
    ) -> None:
        if template and not template.endswith("{query}"):
            raise UsageError(
                f"template {template!r} does not end with {{query}}",
                "a prompt is put before the text",
            )
        if instructions and not (template or has_template(queries)):
            raise UsageError(
                "instructions, and no template with a place for one",
                "give template='Instruct: {instruction}\\nQuery: {query}', or as the model has it",
            )
        if queries.dim != documents.dim:
            raise LeafkitError(
                f"the student's vectors have {queries.dim} dimensions and the teacher's "
                f"{documents.dim}: they share no space",
                "measure a student that was distilled from this teacher",
            )
        self.mteb_model_meta = meta
        self._queries, self._documents = queries, documents
        self._max_query_tokens, self._max_document_tokens = max_query_tokens, max_document_tokens
        self._template, self._instructions = template, dict(instructions or {})
        self._normalized = all(
            model.space("query", UNCUT).normalized for model in (queries, documents)
        )

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: str | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """(n, D) float32 vectors of all texts of a loader.

        Args:
            inputs: batches with a list of texts under "text". They are embedded together: batches
                are formed anew, by length.
            task_metadata: of mteb; says the task's instruction, and its name in messages.
            hf_split: of mteb; not used.
            hf_subset: of mteb; not used.
            prompt_type: "query", "document" or None.
            kwargs: mteb's encode_kwargs (batch_size and the like), which decide nothing here.

        Raises:
            LeafkitError: the task's inputs are no texts, or a vector is not finite.
        """
        texts: list[str] = []
        for batch in inputs:
            if "text" not in batch:
                raise LeafkitError(
                    f"mteb task {task_metadata.name} has inputs that are no texts: "
                    f"{', '.join(batch)}"
                )
            texts.extend(batch["text"])
        of_documents = prompt_type == "document"
        model = self._documents if of_documents else self._queries
        cut = self._max_query_tokens if prompt_type == "query" else self._max_document_tokens
        role = "document"
        asked: list[str] = texts
        if not of_documents:
            prompt = self.query_prompt(task_metadata, prompt_type)
            asked, role = place_prompts(model, texts, [prompt] * len(texts), ("query",))
        vectors = model.embed(asked, role, cut)
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            raise LeafkitError(
                f"mteb task {task_metadata.name}: the vector of {texts[bad[0]][:80]!r} is not "
                f"finite (and {len(bad) - 1} more)",
                "try precision=float32",
            )
        return vectors

    def query_prompt(self, task_metadata: Any, prompt_type: str | None) -> str:
        """What is put before the queries, or all texts, of an mteb task."""
        about = task_metadata
        keys = (about.name, getattr(about, "type", ""), prompt_type or "")
        given = [self._instructions[key] for key in keys if key in self._instructions]
        if given and not given[0]:
            return ""
        if self._template and "{instruction}" not in self._template:
            return make_prompt(self._template, "")
        if not self._template and not has_template(self._queries):
            return self._queries.prompt("query")
        instruction = given[0] if given else task_instruction(about)
        if not self._template:
            return prompt_with(self._queries, instruction)
        # as mteb's own wrapper of such models: no instruction, no prompt
        return make_prompt(self._template, instruction) if instruction else ""

    def similarity(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """(n, m) scores as leafkit ranks by them: cosines, or inner products where a model does not
        normalise.
        """
        return self._ready(embeddings1) @ self._ready(embeddings2).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """(n,) scores of each row with the same row."""
        return (self._ready(embeddings1) * self._ready(embeddings2)).sum(dim=-1)

    def _ready(self, vectors: Any) -> torch.Tensor:
        tensor = torch.as_tensor(vectors).float()
        tensor = tensor[None] if tensor.ndim == 1 else tensor  # mteb may pass one vector alone
        return truncate_then_normalize(tensor) if self._normalized else tensor


def wrap_for_mteb(
    queries: Embedder,
    documents: Embedder | None = None,
    *,
    name: str,
    references: Iterable[str] = (),
    max_query_tokens: int = UNCUT,
    max_document_tokens: int = UNCUT,
    template: str = "",
    instructions: Mapping[str, str] | None = None,
) -> MtebEncoder:
    """A model that ``mteb.evaluate`` takes.

    Args:
        queries: the encoder, or the student of a pair.
        documents: the teacher of a pair; None where ``queries`` embeds documents too.
        name: of the model in mteb's results; "leafkit/" is put before it where it has no
            organisation.
        references: where the models came from ("model:FOLDER", "builtin:minilm"), for the
            disclosure of training data.
        max_query_tokens: queries are cut here.
        max_document_tokens: documents and the texts of symmetric tasks are cut here.
        template: see ``MtebEncoder``.
        instructions: likewise.

    Raises:
        MissingExtra: mteb is not installed.
        LeafkitError: the two share no dimension.
    """
    pair = (queries,) if documents is None or documents is queries else (queries, documents)
    meta = describe(pair, name, tuple(references), max(max_query_tokens, max_document_tokens))
    return MtebEncoder(
        queries,
        pair[-1],
        meta,
        max_query_tokens=max_query_tokens,
        max_document_tokens=max_document_tokens,
        template=template,
        instructions=instructions,
    )


def load_for_mteb(
    student: str,
    teacher: str = "",
    *,
    name: str,
    device: str = "auto",
    precision: str = "auto",
    max_query_tokens: int = UNCUT,
    max_document_tokens: int = UNCUT,
    same_space: bool = False,
    template: str = "",
    instructions: Mapping[str, str] | None = None,
) -> MtebEncoder:
    """The same, from references as recipes have them.

    Args:
        student: the encoder, or the student of a pair.
        teacher: of the pair; "" where ``student`` embeds documents too.
        name: see ``wrap_for_mteb``.
        device: as in recipes.
        precision: as in recipes.
        max_query_tokens: see ``wrap_for_mteb``.
        max_document_tokens: likewise.
        same_space: your word that the two share a space where their files do not say so.
        template: see ``MtebEncoder``.
        instructions: likewise.

    Raises:
        MissingExtra: mteb is not installed.
        UsageError: a reference is of no known kind, or the device is not there.
        LeafkitError: a model cannot be loaded, or nothing says that the two share a space.
    """
    where = choose_device(device)
    dtype = choose_precision(precision, where)
    references = [reference for reference in (student, teacher) if reference]
    encoders = [load_model(reference) for reference in references]
    if teacher and isinstance(encoders[-1], TextEncoder):
        prompts = read_teacher_prompts(_space_of(student))
        encoders[-1] = give_prompts(encoders[-1], prompts, teacher, is_own=False)
    models: list[Embedder] = [make_embedder(encoder, where, dtype) for encoder in encoders]
    for model, reference in zip(models, references, strict=True):
        probe_model(model, reference)
    if teacher and not same_space:
        _check_space(student, models[0], teacher, models[1])
    if teacher and models[-1].dim == read_prefix_of(_space_of(student)):
        models[-1] = PrefixEmbedder(models[-1], models[0].dim)
    return wrap_for_mteb(
        models[0],
        models[-1],
        name=name,
        references=references,
        max_query_tokens=max_query_tokens,
        max_document_tokens=max_document_tokens,
        template=template,
        instructions=instructions,
    )


def _check_space(
    student: str, student_model: Embedder, teacher: str, teacher_model: Embedder
) -> None:
    """Refuse two models of one dimension whose vectors have nothing to do with each other."""
    folder, space = Path(student.removeprefix("model:")), _space_of(student)
    if teacher_model.fingerprint in (student_model.fingerprint, space.get("teacher")):
        return
    if space.get("kind") == "student":
        raise LeafkitError(
            f"{folder} lives in the space of teacher {space.get('teacher')}, not of {teacher} "
            f"({teacher_model.fingerprint})",
            f"take the teacher it was distilled from: "
            f"{space.get('teacher_reference') or 'its leafkit.json names none'}",
        )
    raise LeafkitError(
        f"no telling whether {student} lives in the space of {teacher}: nothing beside it names "
        f"its space",
        "take a student that was distilled from this teacher; if you know that the two share a "
        "space, same_space=True",
    )


def _space_of(student: str) -> dict[str, Any]:
    """What the folder of a student says of its space; nothing where it is not leafkit's."""
    folder = Path(student.removeprefix("model:"))
    return read_space(folder) if (folder / MODEL_SPACE_FILE).is_file() else {}
