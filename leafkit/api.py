"""The Python API: objects in, objects out; no folder is needed and nothing is printed.

Names here are reached as ``leafkit.distill`` and so on.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from leafkit.config import DataConfig, EmbeddingsConfig, Recipe, StudentConfig, TeacherConfig
from leafkit.core.console import log, progress_bar, warn
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.data.records import Collection, Document, Query, clean_text
from leafkit.embedders.count_cut import say_cut
from leafkit.embedders.distinct import check_distinct
from leafkit.embedders.kept_endpoint import keep_endpoint
from leafkit.embedders.make_embedder import make_embedder
from leafkit.embedders.prefix import take_first_dims, whole_dim
from leafkit.embedders.protocol import Embedder
from leafkit.models.checkpoint import load_encoder
from leafkit.models.encoder_protocol import Encoder
from leafkit.models.precision import choose_device, choose_precision
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.check_settings import check_settings, say_idle
from leafkit.pipeline.model_handle import ModelHandle, ModelOpener
from leafkit.pipeline.model_in_memory import as_handle, identify_weights
from leafkit.pipeline.pair import Pair
from leafkit.pipeline.student.candidates import check_scores
from leafkit.pipeline.student.head import check_enough_texts, check_head
from leafkit.pipeline.student.start import shape_start
from leafkit.pipeline.student.static import distill_static
from leafkit.pipeline.student.targets import Distillation, Embed, TokenLimits, embed_groups
from leafkit.pipeline.student.text_groups import choose_texts
from leafkit.pipeline.student.transformer import distill_transformer
from leafkit.pipeline.student.validation import relevant_documents
from leafkit.train.student_terms import check_losses
from leafkit.train.trainer_options import TrainerOptions, default_options

_DATA, _STUDENT = DataConfig(), StudentConfig()
Record = str | Mapping[str, object] | Document


def distill(
    teacher: str | Embedder | Encoder,
    student: str | TextEncoder | None = None,
    texts: Collection | Sequence[Record] = (),
    queries: Sequence[str] = (),
    *,
    config: StudentConfig | None = None,
    query_prompt: str = "",
    document_prompt: str = "",
    max_query_tokens: int = _DATA.max_query_tokens,
    max_document_tokens: int = _DATA.max_document_tokens,
    num_pseudo_texts: int = _DATA.num_pseudo_texts,
    device: str = "auto",
    precision: str = "auto",
    seed: int = 42,
    checkpoints: str | Path = "checkpoints",
    embeddings: EmbeddingsConfig | None = None,
    trainer: TrainerOptions | None = None,
) -> Pair:
    """A student whose query vectors live in a teacher's space, and the documents it searches (LEAF,
    arXiv 2509.12539): the teacher's vectors of all texts, a closed-form linear map onto them, then
    training on the squared L2 distance.

    Nothing is written. Vectors of the texts are held in memory; ``leafkit distill`` keeps them on
    disk and goes on after an interruption.

    Args:
        teacher: "builtin:mpnet", "builtin:minilm", "model:FOLDER_OR_HUB_ID@REVISION", "recipe:NAME"
            (trained below ``checkpoints``), "vectors:FOLDER", "endpoint:MODEL"; or an object: what
            ``leafkit.load_model`` or ``leafkit.train_teacher`` gives, or any ``Embedder``.
        student: the model that it begins as, a reference or an object (which stays as it is); None
            takes ``config.init``. A table of token vectors (``config.kind="static"``) takes its
            tokenizer.
        texts: the documents: text, rows with "text" and perhaps "id" and "title", or a collection,
            whose train queries are learned from too and whose judged queries measure the pair.
        queries: questions without judgments, as users would ask them.
        config: of the student and its training.
        query_prompt: put before queries by a teacher whose files name no prompt, "query: " for e5
            say, or by an endpoint.
        document_prompt: likewise for documents.
        max_query_tokens: queries are cut here, prompt included; 0 takes each model's own limit.
        max_document_tokens: likewise for documents; the teacher's cost grows with it.
        num_pseudo_texts: queries made of random words of the student's vocabulary, which keep it
            near the teacher where documents are few.
        device: "auto" takes the fastest there is.
        precision: "auto" takes bf16 where a short probe finds it faster.
        seed: of everything random.
        checkpoints: where the teacher of "recipe:NAME" is.
        embeddings: how the endpoint of "endpoint:MODEL" is reached.
        trainer: loggers, callbacks, strategy and gradient accumulation.

    Returns:
        The pair; its documents are in the order given.

    Raises:
        UsageError: there is no text, a text is empty, an id comes twice, a reference is unknown,
            there are fewer texts than the teacher has dimensions, or a term over scores has
            nothing to score.
        LeafkitError: a model cannot be had, a text has no vector, or a loss is not finite.

    Examples:
        >>> import leafkit
        >>> pair = leafkit.distill(
        ...     "builtin:minilm",
        ...     texts=[{"id": "inv", "text": "Inverse of a matrix."}, "Bake bread from rye."],
        ...     queries=["how do I invert a matrix"],
        ...     config=leafkit.StudentConfig(kind="instant"),
        ...     num_pseudo_texts=400,
        ... )
        >>> [hit.id for hit in pair.search("matrix inverse", k=2)]
        ['inv', '1']
    """
    config = config or _STUDENT
    data = DataConfig(
        max_query_tokens=max_query_tokens,
        max_document_tokens=max_document_tokens,
        num_pseudo_texts=num_pseudo_texts,
    )
    settings = Recipe(seed=seed, student=config, data=data)
    check_settings(settings, "seed", "student", "data")
    say_idle("distill", settings)
    if trainer is not None and config.trains_nothing:
        log("trainer= counts for nothing: an instant student takes no steps", style="dim")
    collection = _collection_of(texts, queries)
    where = choose_device(device)
    arithmetic = choose_precision(precision, where)
    prompts = {"query": query_prompt, "document": document_prompt}
    handle = _open_teacher(
        teacher,
        prompts,
        ModelOpener(
            where, arithmetic, Path(checkpoints), embeddings=embeddings or EmbeddingsConfig()
        ),
    )
    model = take_first_dims(handle.model, config.dim, handle.reference)
    handle = replace(handle, model=model)
    start = _open_start(student, config)
    vocabulary = (handle.encoder or start) if num_pseudo_texts else None
    groups = choose_texts(collection, handle, config, data, seed=seed, vocabulary=vocabulary)
    check_head(config, model.dim, start)
    if config.trains_on_losses:
        check_losses(config.losses, model.mrl_dims)
    check_enough_texts(groups, config, handle.model)
    check_scores(groups, config, collection)
    limits, embed = TokenLimits(max_query_tokens, max_document_tokens), _embedding_by(handle)
    targets = embed_groups(groups, limits, embed)
    task = Distillation(
        teacher=handle,
        targets=targets,
        config=config,
        limits=limits,
        embed=embed,
        device=where,
        precision=arithmetic,
        seed=seed,
        options=lambda training: trainer or default_options(training),
        relevant=relevant_documents(collection, targets),
    )
    method = distill_static if config.kind == "static" else distill_transformer
    result = method(start, task).student
    result.fingerprint = identify_weights(result)
    return Pair(
        result,
        collection,
        np.asarray(task.targets[0].vectors[: len(collection.documents)]),
        handle.model.space("document", max_document_tokens),
        embedder=make_embedder(result),
        teacher=handle,
        reference=handle.reference,
        teacher_prompts=handle.given_prompts,
        prefix_of=whole_dim(model),
        endpoint=keep_endpoint(model),
    )


def _collection_of(texts: Collection | Iterable[Record], queries: Sequence[str]) -> Collection:
    if isinstance(texts, str) or isinstance(queries, str):
        raise UsageError("texts and queries are lists", "put the text into a list: [text]")
    counts: Counter[str] = Counter()
    if isinstance(texts, Collection):
        collection = copy.copy(texts)
        collection.queries = list(texts.queries)
    else:
        documents = [_document_of(row, number, counts) for number, row in enumerate(texts)]
        collection = Collection("texts", documents)
    if not collection.documents:
        raise UsageError("there is no text to learn from and to search", "texts=[...]")
    twice = [i for i, n in Counter(d.id for d in collection.documents).items() if n > 1]
    if twice:
        raise UsageError(f"the id {twice[0]!r} comes more than once", "give every text its own")
    for number, text in enumerate(queries):
        if not isinstance(text, str) or not text.strip():
            raise UsageError(f"query {number} is {text!r}, which asks nothing", "leave it out")
        query = Query(f"query {number}", clean_text(text, counts), "train")
        collection.queries.append(query)
    for what, count in counts.items():
        warn(f"{what}: {count:,}")
    return collection


def _document_of(row: Record, number: int, counts: Counter[str]) -> Document:
    """A document of a text or a row; without an id it is known by its number."""
    if isinstance(row, Document):
        row = {"id": row.id, "title": row.title, "text": row.text}
    if isinstance(row, str):
        row = {"text": row}
    if not isinstance(row, Mapping):
        raise UsageError(
            f"text {number} is a {type(row).__name__}", "give text or rows with 'text'"
        )
    unknown = sorted(set(row) - {"id", "title", "text"})
    if unknown:
        raise UsageError(
            f"text {number} has a key {unknown[0]!r}", "a row has 'text', and perhaps id and title"
        )
    parts = {key: row.get(key, "") for key in ("title", "text")}
    for key, value in parts.items():
        if not isinstance(value, str):
            raise UsageError(f"text {number}: {key} is a {type(value).__name__}", "give text")
    title, text = (clean_text(str(parts[key]), counts) for key in ("title", "text"))
    if not title and not text:
        raise UsageError(f"text {number} is empty", "leave it out")
    return Document(str(row.get("id", number)), text, title)


def _open_teacher(
    teacher: str | Embedder | Encoder, prompts: Mapping[str, str], opener: ModelOpener
) -> ModelHandle:
    config = TeacherConfig(
        source=teacher if isinstance(teacher, str) else "",
        query_prompt=prompts["query"],
        document_prompt=prompts["document"],
    )
    if isinstance(teacher, str):
        check_settings(Recipe(teacher=config), "teacher")
        return replace(opener, teacher=config).open_teacher()
    if any(prompts.values()):
        raise UsageError(
            f"query_prompt and document_prompt are for references; a {type(teacher).__name__} has "
            "its own prompts",
            "give a reference such as 'model:FOLDER', or an encoder with the prompts in its spec",
        )
    return as_handle(teacher, opener.device, opener.precision)


def _open_start(student: str | TextEncoder | None, config: StudentConfig) -> TextEncoder:
    """The model that the student begins as; a given one is copied, for training changes it."""
    if student is None or isinstance(student, str):
        if student is not None and config.init not in (student, _STUDENT.init):
            raise UsageError(
                f"student={student!r} and config.init={config.init!r} are two models",
                "name one of them",
            )
        reference = student or config.init
        return shape_start(load_encoder(reference), config, reference)
    if not isinstance(student, TextEncoder):
        raise UsageError(
            f"a {type(student).__name__} cannot be trained as a student",
            "give a reference such as 'model:FOLDER', or what leafkit.load_model gives of a "
            "transformer",
        )
    # what is pruned is a copy already
    given = student if config.init_layers else copy.deepcopy(student)
    return shape_start(given, config, "the given student")


def _embedding_by(teacher: ModelHandle) -> Embed:
    """What gives the teacher's vectors, (n, D), of texts; they are computed then."""

    def embed(texts: Sequence[str], role: str, max_tokens: int, what: str) -> np.ndarray:
        teacher.model.require(texts, role)
        with progress_bar(f"teacher vectors of {what}", len(texts), "texts") as bar:
            vectors = teacher.model.embed(texts, role, max_tokens, bar)
        if not np.isfinite(vectors).all():
            row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
            raise LeafkitError(
                f"the teacher's vector of {what} {row} is not finite",
                "compute in float32 with precision='float32'; if it stays, look at that text",
            )
        check_distinct(texts, vectors, f"teacher vectors of {what}")
        say_cut(teacher.model, texts, role, max_tokens, model="the teacher", what=what)
        return vectors

    return embed
