"""Vectors of a source's queries and documents, under the prompts that training will put there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from leafkit.embedders.prompted import place_prompts, prompt_with
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.index.vectors import Vectors
from leafkit.pipeline.teacher.task import EmbedRequest, Source, StageTask

PromptOf = Callable[[str], str]  # a row's own instruction, "" for none -> the prompt


def prompts_of(embedder: TransformerEmbedder, source: Source) -> PromptOf:
    """The prompts that a model knows for a source's rows: what it was trained with under the
    source's name, its template with a row's instruction, else its own query prompt.
    """
    usual = embedder.encoder.spec.prompts.get(source.name)
    if usual is None:
        usual = prompt_with(embedder, source.instruction)
    return lambda own: prompt_with(embedder, own) if own else usual


def embed_queries(
    task: StageTask,
    embedder: TransformerEmbedder,
    name: str,
    *,
    source: Source,
    prompt_of: PromptOf | None = None,
) -> tuple[Vectors, np.ndarray]:
    """Vectors of a source's distinct queries, and (R,) for each row which of them is its.

    Args:
        task: the stage.
        embedder: of the model.
        name: of the model.
        source: whose queries.
        prompt_of: prompts; None takes those the model knows.
    """
    rows = source.rows
    first, query_of_row = rows.distinct_queries()
    prompt_of = prompt_of or prompts_of(embedder, source)
    texts, role = place_prompts(
        embedder,
        [rows.queries[i] for i in first],
        [prompt_of(rows.instructions[i]) for i in first],
        ("query", source.name),
    )
    request = EmbedRequest(texts, role, task.data.max_query_tokens, f"{source.name} train queries")
    return task.library.embed(embedder, name, request), np.array(query_of_row)


def embed_documents(
    task: StageTask,
    embedder: TransformerEmbedder,
    name: str,
    *,
    source: Source,
    prompt_of: PromptOf | None = None,
    used: Sequence[int] | None = None,
) -> Vectors:
    """Vectors of a source's documents; where the task is symmetric, under the prompt of the first
    row that names them.

    Args:
        task: the stage.
        embedder: of the model.
        name: of the model.
        source: whose documents.
        prompt_of: of symmetric sources; None takes the prompts that the model knows.
        used: positions of those wanted; None takes all.
    """
    chosen = range(len(source.rows.documents)) if used is None else used
    prompts = document_prompts(embedder, source, prompt_of or prompts_of(embedder, source))
    texts, role = place_prompts(
        embedder,
        [source.rows.documents[d] for d in chosen],
        [prompts[d] for d in chosen],
        ("document", "query", source.name),
    )
    what = f"{source.name} {'documents' if used is None else 'candidates'}"
    return task.library.embed(
        embedder, name, EmbedRequest(texts, role, task.data.max_document_tokens, what)
    )


def document_prompts(
    embedder: TransformerEmbedder, source: Source, prompt_of: PromptOf
) -> list[str]:
    """(n,) the prompt of each of a source's documents."""
    rows = source.rows
    if not source.is_symmetric:
        return [embedder.prompt("document")] * len(rows.documents)
    prompts = dict.fromkeys(rows.instructions, "")
    prompts = {own: prompt_of(own) for own in (*prompts, "")}
    instruction_of: dict[int, str] = {}
    for i, own in enumerate(rows.instructions):
        for document in (rows.positives[i], *rows.negatives[i]):
            instruction_of.setdefault(document, own)
    return [prompts[instruction_of.get(d, "")] for d in range(len(rows.documents))]
