"""Distil a lookup-table student (student.kind=static): the teacher's token vectors, then the
training texts.

Cosine loss, documents first, then queries at a lower learning rate, as pyNIFE does; the index stays
the teacher's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn

from leafkit.config.schema import to_plain
from leafkit.core.checkpoint_layout import LOSSES_FILE, STUDENT
from leafkit.core.console import log
from leafkit.core.method import method_of
from leafkit.core.truncate import truncate_then_normalize
from leafkit.data.batching import share_of_rank
from leafkit.data.sources import source_fingerprint
from leafkit.data.vector_store import VectorStore
from leafkit.embedders.precomputed import PrecomputedVectors
from leafkit.evaluation.diagnosis.spectrum import variance_kept
from leafkit.models.checkpoint import identify_model, load_encoder
from leafkit.models.static_encoder import (
    StaticEncoder,
    bare_tokenizer,
    check_size,
    token_texts,
    tokenize,
    write_static,
)
from leafkit.models.static_init import context_vectors, count_tokens, start_table
from leafkit.pipeline.corpus import Corpus
from leafkit.pipeline.embed import load_vectors
from leafkit.pipeline.model_handle import ModelHandle
from leafkit.pipeline.run import Run
from leafkit.train.batch_list import BatchList
from leafkit.train.fit import fit
from leafkit.train.static_module import StaticBatch, StaticModule, join_texts

ROLES = {"document": "documents", "query": "queries"}
TOKEN_TEXT_LENGTH = 16  # tokens; a token's text may be more than one token of the teacher's


@dataclass(frozen=True, slots=True)
class StaticStudentInputs:
    """What decides about a lookup-table student."""

    config: dict[str, Any]
    start: str  # identity of the model whose tokenizer it takes
    teacher: str
    corpus: str
    seed: int
    tokens: list[int]  # cuts of queries and documents
    texts: list[int]  # numbers of texts, by target
    sources: dict[str, list[Any]]


class Target(Protocol):
    """Texts of one role with the store of their teacher vectors."""

    @property
    def texts(self) -> list[str]:
        """What is learned."""

    @property
    def role(self) -> str:
        """query or document."""

    @property
    def store(self) -> VectorStore:
        """Their teacher vectors, in order."""

    @property
    def repeats(self) -> int:
        """Times each is seen per pass."""


def run_static_student(
    run: Run, teacher: ModelHandle, corpus: Corpus, targets: Sequence[Target]
) -> Path:
    """Start from the teacher's vectors of single tokens, then move table and W_out onto its vectors
    of whole texts.

    The artifact is the one that ``run_student`` of a transformer writes: same folder, files of
    stock modules, leafkit.json.

    Raises:
        UsageError: the table would be too large, or the start model's tokenizer is not a fast one.
        LeafkitError: a loss is not finite, or the student cannot be written.
    """
    config, data = run.recipe.student, run.recipe.data
    folder = run.folder / STUDENT
    sources = {
        name: [to_plain(source), source_fingerprint(source.uri, data)]
        for name, source in data.sources.items()
    }
    inputs = StaticStudentInputs(
        config=to_plain(config),
        start=identify_model(config.init),
        teacher=teacher.model.fingerprint,
        corpus=corpus.fingerprint,
        seed=run.recipe.seed,
        tokens=[data.max_query_tokens, data.max_document_tokens],
        texts=[len(t.texts) for t in targets],
        sources=sources,
    )

    def work(metrics: dict[str, Any]) -> tuple[StaticEncoder, list[float]]:
        tokenizer = bare_tokenizer(load_encoder(config.init).tokenizer)
        check_size(tokenizer.get_vocab_size(), config.static.width, teacher.model.dim)
        token_ids = [
            [np.array(ids, np.int32) for ids in tokenize(tokenizer, t.texts, _limit(run, t.role))]
            for t in targets
        ]
        student = start_student(run, teacher, tokenizer, token_ids, targets)
        metrics["spectrum"] = measure_start(run, student, token_ids, targets)
        losses = train_static(run, student, token_ids, targets, metrics)
        metrics.update(
            parameters=student.num_parameters(),
            first_loss=losses[0],
            last_loss=float(np.mean(losses[-20:])),
        )
        return student, losses

    def save(result: tuple[StaticEncoder, list[float]], draft: Path) -> None:
        student, losses = result
        space = {
            "kind": "student",
            "teacher": teacher.space_id,
            "teacher_reference": teacher.reference,
            "dim": student.dim,
            "normalized": True,
        }
        write_static(student, draft, space)
        (draft / LOSSES_FILE).write_text(json.dumps(losses))

    run.step(
        name=STUDENT,
        folder=folder,
        inputs=inputs,
        method=method_of(run_static_student),
        work=work,
        save=save,
        on_every_process=True,
    )
    return folder


def _limit(run: Run, role: str) -> int:
    return (
        run.recipe.data.max_document_tokens
        if role == "document"
        else run.recipe.data.max_query_tokens
    )


def start_student(
    run: Run,
    teacher: ModelHandle,
    tokenizer: Tokenizer,
    token_ids: Sequence[Sequence[np.ndarray]],
    targets: Sequence[Target],
) -> StaticEncoder:
    """The table before training: the teacher's vectors of single tokens, or, where it is not at
    hand, of texts with them.
    """
    num_tokens, dim = tokenizer.get_vocab_size(), teacher.model.dim
    if isinstance(teacher.model, PrecomputedVectors):
        log(
            f"  {teacher.reference} has the vectors of its own texts alone: tokens start at the "
            f"mean of texts with them"
        )
        parts = (
            (ids[start : start + len(vectors)], vectors)
            for ids, target in zip(token_ids, targets, strict=True)
            for start, vectors in target.store.chunks()
        )
        vectors = context_vectors(parts, num_tokens, dim)
    else:
        vectors = token_vectors(run, teacher, tokenizer)
    counts = count_tokens((ids for group in token_ids for ids in group), num_tokens)
    start = start_table(vectors, counts, run.recipe.student.static.width)
    projection = nn.Linear(len(start.weight), dim)
    with torch.no_grad():
        projection.weight.copy_(torch.from_numpy(start.weight.T))
        projection.bias.copy_(torch.from_numpy(start.bias))
    return StaticEncoder(
        tokenizer, torch.from_numpy(start.table), projection, teacher.model.mrl_dims
    )


def token_vectors(run: Run, teacher: ModelHandle, tokenizer: Tokenizer) -> np.ndarray:
    """(V, D) the teacher's vectors of all tokens' texts, as documents: a query's prompt would be
    most of so short a text.

    Tokens of one text share a vector; special tokens have no text and get NaN.
    """
    texts = token_texts(tokenizer)
    unique = sorted(set(texts) - {""})
    store = load_vectors(
        run, teacher.model, teacher.name, unique, "document", TOKEN_TEXT_LENGTH, "single tokens"
    )
    place = {text: i for i, text in enumerate(unique)}
    rows = np.array([place.get(text, -1) for text in texts])
    vectors = np.full((len(texts), store.dim), np.nan, dtype=np.float32)
    vectors[rows >= 0] = store[rows[rows >= 0]]
    return vectors


def measure_start(
    run: Run,
    student: StaticEncoder,
    token_ids: Sequence[Sequence[np.ndarray]],
    targets: Sequence[Target],
) -> dict[str, Any]:
    """What a map of the table's rank can keep of the teacher, and how near the start is, on a
    sample of the texts.
    """
    rows = [(g, i) for g, target in enumerate(targets) for i in range(len(target.texts))]
    chosen = np.random.default_rng(run.recipe.seed).permutation(len(rows))[
        : run.recipe.student.num_ridge_texts
    ]
    sample = [rows[i] for i in np.sort(chosen)]
    wanted = read_targets(targets, sample)
    with torch.inference_mode():
        found = student.finish(student([token_ids[g][i] for g, i in sample])).numpy()
    cosine = float(np.einsum("nd,nd->n", found, truncate_then_normalize(wanted)).mean())
    kept = variance_kept(wanted, student.hidden_size)
    log(
        f"  a map of rank {student.hidden_size} can keep {kept:.2%} of the teacher's variance in "
        f"{student.dim} dimensions;"
        f" the teacher's vectors of single tokens start at cosine {cosine:.4f}"
    )
    return {
        "rank": student.hidden_size,
        "variance_kept": kept,
        "ridge_cosine": cosine,
        "num_texts": len(sample),
    }


def train_static(
    run: Run,
    student: StaticEncoder,
    token_ids: Sequence[Sequence[np.ndarray]],
    targets: Sequence[Target],
    metrics: dict[str, Any],
) -> list[float]:
    """1 - cosine on documents, then on queries; returns the loss of each step."""
    config, settings = run.recipe.student, run.recipe.student.static
    used = np.unique(np.concatenate([ids for group in token_ids for ids in group]))
    place = np.zeros(student.table.num_embeddings, dtype=np.int32)
    place[used] = np.arange(len(used))
    losses: list[float] = []
    phases = (
        ("document", settings.document_epochs, settings.lr),
        ("query", settings.query_epochs, settings.query_lr),
    )
    for role, num_epochs, lr in phases:
        rows = [
            (g, i)
            for g, t in enumerate(targets)
            if t.role == role
            for _ in range(t.repeats)
            for i in range(len(t.texts))
        ]
        if not rows:
            continue
        batches = plan_batches(len(rows), settings.texts_per_batch, num_epochs, run.recipe.seed)

        def make(
            step: int, rows: list[tuple[int, int]] = rows, batches: list[np.ndarray] = batches
        ) -> StaticBatch:
            mine = share_of_rank(batches[step], run.world.rank, run.world.size)
            weight = 1.0 if len(mine) else 0.0
            chosen = [rows[r] for r in (mine if len(mine) else batches[step][:1])]
            texts = [place[token_ids[g][i]] for g, i in chosen]
            return join_texts(texts, read_targets(targets, chosen), len(batches[step]), weight)

        module = StaticModule(
            student,
            replace(config.optimizer, lr=lr),
            used,
        )
        losses += fit(
            module,
            BatchList(len(batches), make, rows=[len(batch) for batch in batches]),
            title=f"student: {ROLES[role]}",
            device=run.device,
            precision=torch.float32,
            seed=run.recipe.seed,
            metrics=metrics,
        )
        module.write_back()
    return losses


def plan_batches(num_rows: int, batch_size: int, num_epochs: float, seed: int) -> list[np.ndarray]:
    """Random batches that cover all rows once per epoch; the share of a last, partial epoch is that
    of its rows.

    Every process plans the same ones.
    """
    wanted = max(1, round(num_epochs * num_rows))
    orders = [
        np.random.default_rng([seed, epoch]).permutation(num_rows)
        for epoch in range(-(-wanted // num_rows))
    ]
    order = np.concatenate(orders)[:wanted]
    return [order[start : start + batch_size] for start in range(0, wanted, batch_size)]


def read_targets(targets: Sequence[Target], rows: Sequence[tuple[int, int]]) -> np.ndarray:
    """(n, D) teacher vectors of rows, each (number of the target, number of its text)."""
    groups, texts = np.array([g for g, _ in rows]), np.array([i for _, i in rows])
    found = np.empty((len(rows), targets[0].store.dim), dtype=np.float32)
    for g in np.unique(groups):
        found[groups == g] = targets[int(g)].store[texts[groups == g]]
    return found
