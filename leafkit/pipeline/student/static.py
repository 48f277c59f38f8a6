"""Distill a lookup-table student (student.kind=static): the teacher's token vectors, then the
training texts.

Cosine loss, documents first, then queries at a lower learning rate, as pyNIFE does; the index stays
the teacher's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn

from leafkit.core.console import log
from leafkit.core.truncate import truncate_then_normalize
from leafkit.data.batching import share_of_rank
from leafkit.embedders.prefix import precomputed_of
from leafkit.embedders.token_reader import bare_reader
from leafkit.evaluation.diagnosis.spectrum import variance_kept
from leafkit.index.vectors import read_chunks
from leafkit.models.static_encoder import (
    StaticEncoder,
    bare_tokenizer,
    check_size,
    token_texts,
)
from leafkit.models.static_init import context_vectors, count_tokens, start_table
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.student.checks import (
    TABLE_START,
    keep_best,
    make_table_check,
    say_checks,
    summarize_table,
    warn_unwatched,
)
from leafkit.pipeline.student.targets import (
    Distillation,
    Distilled,
    Start,
    Target,
    count_cuts,
    list_rows,
    read_targets,
)
from leafkit.pipeline.student.text_groups import DOCUMENTS, MADE_QUERIES, QUERIES
from leafkit.pipeline.student.train_rows import pairs_of, train_rows
from leafkit.pipeline.student.validation import Agreed, TokenIds, Validation, choose_validation
from leafkit.pipeline.student.whole_words import MIN_COUNT, add_words
from leafkit.train.batch_list import BatchList
from leafkit.train.fit import fit
from leafkit.train.keep_best import KeepBest
from leafkit.train.static_module import StaticBatch, StaticModule, join_texts
from leafkit.train.world import read_world

ROLES = {"document": "documents", "query": "queries"}
TOKEN_TEXT_LENGTH = 16  # tokens; a token's text may be more than one token of the teacher's


def distill_static(start: TextEncoder, task: Distillation) -> Distilled:
    """A table of token vectors in the teacher's space, started from the teacher's vectors of single
    tokens and trained on its vectors of whole texts.

    Args:
        start: the model whose tokenizer the student takes.
        task: teacher, texts and settings.

    Raises:
        UsageError: the table would be too large, or the start model's tokenizer is not a fast one.
        LeafkitError: a loss is not finite.
    """
    tokenizer = bare_tokenizer(start.tokenizer)
    check_size(tokenizer.get_vocab_size(), task.config.static.width, task.teacher.model.dim)
    token_ids = _tokenize(task, tokenizer)
    if task.config.static.num_words:
        tokenizer = _with_words(task, tokenizer, token_ids)
        token_ids = _tokenize(task, tokenizer)
    validation = None
    if task.config.num_checks:
        origins = (QUERIES, MADE_QUERIES, DOCUMENTS)
        validation = choose_validation(task, token_ids, origins, is_watched=True)
        if validation is None:
            warn_unwatched(TABLE_START)
    student = start_student(task, tokenizer, token_ids, validation)
    cuts = count_cuts(student, task)
    begun = measure_start(student, task, token_ids)
    metrics: dict[str, Any] = {}
    trained = train_static(student, task, token_ids, metrics, validation=validation)
    found = None
    if validation is not None:
        found = summarize_table(validation, trained.phases)
        say_checks(found)
    return Distilled(student, trained.losses, begun, metrics["loader"], cuts, found)


def _tokenize(task: Distillation, tokenizer: Tokenizer) -> TokenIds:
    return [
        task.tokenize(bare_reader(tokenizer, _cut_of(task, target.role)), target.texts)
        for target in task.targets
    ]


def _with_words(task: Distillation, tokenizer: Tokenizer, token_ids: TokenIds) -> Tokenizer:
    """The tokenizer with the whole words that the settings ask for.

    Raises:
        UsageError: they do not fit the tokenizer, or the table would be too large.
    """
    asked, width = task.config.static.num_words, task.config.static.width
    cuts = [_cut_of(task, target.role) for target in task.targets]
    longer, found = add_words(tokenizer, zip(token_ids, cuts, strict=True), asked)
    check_size(longer.get_vocab_size(), width, task.teacher.model.dim)
    seldom = "" if found == asked else f" (no other occurs {MIN_COUNT} times)"
    log(f"  {found:,} frequent words of several tokens get a row of their own{seldom}")
    return longer


def _cut_of(task: Distillation, role: str) -> int:
    """Where texts are cut for a table, which has no limit of its own: where the teacher's are."""
    return task.limits.of(role) or task.teacher.model.max_tokens


def start_student(
    task: Distillation,
    tokenizer: Tokenizer,
    token_ids: TokenIds,
    validation: Validation | None = None,
) -> StaticEncoder:
    """The table before training: the teacher's vectors of single tokens, or, where it is not at
    hand, of texts with them, apart from those that are held out.
    """
    teacher = task.teacher
    num_tokens, dim = tokenizer.get_vocab_size(), teacher.model.dim
    if precomputed_of(teacher.model) is not None:
        log(
            f"  {teacher.reference} has the vectors of its own texts alone: tokens start at the "
            f"mean of texts with them"
        )
        vectors = context_vectors(texts_with_vectors(task, token_ids, validation), num_tokens, dim)
    else:
        vectors = token_vectors(task, tokenizer)
    counts = count_tokens((ids for group in token_ids for ids in group.chunks()), num_tokens)
    start = start_table(vectors, counts, task.config.static.width)
    projection = nn.Linear(len(start.weight), dim)
    with torch.no_grad():
        projection.weight.copy_(torch.from_numpy(start.weight.T))
        projection.bias.copy_(torch.from_numpy(start.bias))
    return StaticEncoder(
        tokenizer, torch.from_numpy(start.table), projection, teacher.model.mrl_dims
    )


def texts_with_vectors(
    task: Distillation, token_ids: TokenIds, validation: Validation | None
) -> Iterator[tuple[Sequence[np.ndarray], np.ndarray]]:
    """Token ids of the texts that train, with the teacher's vectors, a part at a time."""
    held = validation.texts if validation else frozenset()
    for ids, target in zip(token_ids, task.targets, strict=True):
        for start, vectors in read_chunks(target.vectors):
            texts = target.texts[start : start + len(vectors)]
            kept = [i for i, text in enumerate(texts) if text not in held]
            if kept:
                yield [ids[start + i] for i in kept], vectors[kept]


def token_vectors(task: Distillation, tokenizer: Tokenizer) -> np.ndarray:
    """(V, D) the teacher's vectors of all tokens' texts, as documents: a query's prompt would be
    most of so short a text.

    Tokens of one text share a vector; special tokens have no text and get NaN.
    """
    texts = token_texts(tokenizer)
    unique = sorted(set(texts) - {""})
    prompt = task.teacher.model.prompt("document")  # has a token a byte at most
    limit = TOKEN_TEXT_LENGTH + len(prompt.encode())
    known = task.embed(unique, "document", limit, "single tokens")
    place = {text: i for i, text in enumerate(unique)}
    rows = np.array([place.get(text, -1) for text in texts])
    vectors = np.full((len(texts), task.teacher.model.dim), np.nan, dtype=np.float32)
    vectors[rows >= 0] = known[rows[rows >= 0]]
    return vectors


def measure_start(student: StaticEncoder, task: Distillation, token_ids: TokenIds) -> Start:
    """What a map of the table's rank can keep of the teacher, and how near the start is, on a
    sample of the texts.
    """
    rows = list_rows(task.targets)
    chosen = np.random.default_rng(task.seed).permutation(len(rows))[: task.config.num_ridge_texts]
    sample = [rows[i] for i in np.sort(chosen)]
    wanted = read_targets(task.targets, sample)
    with torch.inference_mode():
        vectors = student.finish(student([token_ids[g][i] for g, i in sample])).numpy()
    cosine = float(np.einsum("nd,nd->n", vectors, truncate_then_normalize(wanted)).mean())
    kept = variance_kept(wanted, student.hidden_size)
    # vectors of single tokens were not fitted to any text; means of texts were
    is_fitted = precomputed_of(task.teacher.model) is not None
    start = Start(student.hidden_size, kept, cosine, len(sample), 0 if is_fitted else len(sample))
    log(
        f"  a map of rank {student.hidden_size} can keep {kept:.2%} of the teacher's variance in "
        f"{student.dim} dimensions; the table starts at cosine {cosine:.4f} on {start.measured_on}"
    )
    return start


@dataclass(frozen=True, slots=True)
class TrainedTable:
    """What a table's training leaves beside its weights.

    Attributes:
        losses: of each batch.
        phases: the checks on held-out texts while it learned documents, then queries, and the
            batches that each was planned for; none where nothing was held out.
    """

    losses: list[float]
    phases: list[tuple[KeepBest[Agreed], int]]


def train_static(
    student: StaticEncoder,
    task: Distillation,
    token_ids: TokenIds,
    metrics: dict[str, Any],
    *,
    validation: Validation | None = None,
) -> TrainedTable:
    """1 - cosine on documents, then on queries. Where texts are held out, each of the two ends as
    the table was at its best check, which may be where it began.

    Args:
        student: trained in place.
        task: texts, teacher vectors and settings.
        token_ids: by target.
        metrics: see ``fit``.
        validation: what is held out.
    """
    settings, targets = task.config.static, task.targets
    held = validation.texts if validation else frozenset()
    used, place = places_of_tokens(student, task, token_ids, held)
    trained = TrainedTable([], [])
    phases = (
        ("document", settings.document_epochs, settings.lr),
        ("query", settings.query_epochs, settings.query_lr),
    )
    for role, num_epochs, lr in phases:
        rows = train_rows(targets, _of_role(role), without=held)
        if not len(rows):
            continue
        batches = plan_batches(len(rows), settings.texts_per_batch, num_epochs, task.seed)
        module = StaticModule(student, replace(task.config.optimizer, lr=lr), used)
        options, best = task.options(ROLES[role]), None
        if validation is not None:
            check = make_table_check(module, validation)
            best = keep_best(module.trained(), task.config, check, len(batches))
            options = replace(options, callbacks=[*options.callbacks, best])
            trained.phases.append((best, len(batches)))
        losses = fit(
            module,
            _list_batches(task, token_ids, rows, batches, place=place),
            title=f"student: {ROLES[role]}",
            device=task.device,
            precision=torch.float32,
            seed=task.seed,
            metrics=metrics,
            options=options,
        )
        trained.losses.extend(losses)
        if best is not None:
            best.restore()
        module.write_back()
    return trained


def places_of_tokens(
    student: StaticEncoder, task: Distillation, token_ids: TokenIds, held: AbstractSet[str]
) -> tuple[np.ndarray, np.ndarray]:
    """(R,) tokens of the texts that train, and (V,) the place of each among them."""
    num_tokens = student.table.num_embeddings
    counts = count_tokens((ids for group in token_ids for ids in group.chunks()), num_tokens)
    if held:
        out = (
            token_ids[g][i]
            for g, target in enumerate(task.targets)
            for i, text in enumerate(target.texts)
            if text in held
        )
        counts -= count_tokens(out, num_tokens)
    used = np.flatnonzero(counts)
    place = np.zeros(num_tokens, dtype=np.int32)
    place[used] = np.arange(len(used))
    return used, place


def _list_batches(
    task: Distillation,
    token_ids: TokenIds,
    rows: np.ndarray,
    batches: Sequence[np.ndarray],
    *,
    place: np.ndarray,
) -> BatchList:
    """This process's shares of batches of rows, each made when it is asked for."""
    world = read_world()

    def make(step: int) -> StaticBatch:
        share = share_of_rank(batches[step], world.rank, world.size)
        weight = 1.0 if len(share) else 0.0
        # a process without a row takes one along, which counts nothing
        chosen = pairs_of(rows[share if len(share) else batches[step][:1]])
        texts = [place[token_ids[g][i]] for g, i in chosen]
        return join_texts(texts, read_targets(task.targets, chosen), len(batches[step]), weight)

    return BatchList(len(batches), make, rows=[len(batch) for batch in batches])


def _of_role(role: str) -> Callable[[int, Target], bool]:
    return lambda _, target: target.role == role


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
