"""Distil a student from cached teacher vectors (LEAF, arXiv 2509.12539), and the whole road around
it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from leafkit.config.load import load_recipe
from leafkit.config.schema import Recipe, StudentConfig, to_plain
from leafkit.core.checkpoint_layout import LOSSES_FILE, STUDENT
from leafkit.core.console import log
from leafkit.core.method import method_of
from leafkit.data.batching import share_of_rank, token_budget_batches
from leafkit.data.sources import read_collection, source_fingerprint
from leafkit.data.vector_store import VectorStore
from leafkit.embedders.precomputed import PrecomputedVectors
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.evaluation.diagnosis.spectrum import fit_ridge, variance_kept
from leafkit.models.checkpoint import identify_model, load_encoder, write_encoder
from leafkit.models.text_encoder import EncoderSpec, TextEncoder
from leafkit.pipeline.corpus import Corpus, load_corpus, pseudo_texts, vary_queries
from leafkit.pipeline.embed import load_vectors
from leafkit.pipeline.evaluate.bench import run_bench
from leafkit.pipeline.evaluate.inherit import run_inherit
from leafkit.pipeline.model_handle import ModelHandle, load_teacher
from leafkit.pipeline.pair import write_index
from leafkit.pipeline.run import Run
from leafkit.pipeline.student.static import read_targets, run_static_student
from leafkit.pipeline.teacher.train import run_teach
from leafkit.train.batch_list import BatchList
from leafkit.train.fit import fit
from leafkit.train.leaf_module import LeafBatch, LeafModule

ROLES = ("query", "document")


@dataclass(frozen=True, slots=True)
class Target:
    """Texts of one role with the store of their teacher vectors."""

    texts: list[str]
    role: str
    store: VectorStore
    repeats: int = 1


@dataclass(frozen=True, slots=True)
class StudentInputs:
    """What decides about a transformer student."""

    config: dict[str, Any]
    start: str  # identity of the start model
    teacher: str
    corpus: str
    seed: int
    precision: str
    tokens: list[int]  # cuts of queries and documents
    texts: list[int]  # numbers of texts, by target
    sources: dict[str, list[Any]]


def run_distill(run: Run) -> None:
    """Corpus -> teacher -> teacher vectors -> student -> index -> benchmark -> inheritance.

    Raises:
        LeafkitError: a step failed; what was finished before it stays.
    """
    if run.recipe.teacher.source.startswith("recipe:"):
        run_teach(run.with_recipe(teacher_recipe(run)))
    corpus = load_corpus(run, run.recipe.data.corpus)
    teacher = load_teacher(run)
    targets = embed_targets(run, teacher, corpus)
    if run.recipe.student.kind == "static":
        run_static_student(run, teacher, corpus, targets)
    else:
        run_student(run, teacher, corpus, targets)
    write_index(run, teacher, corpus, targets[0].store)
    run_bench(run)
    if corpus.collection.judged(run.recipe.bench.split):
        run_inherit(run)


def teacher_recipe(run: Run) -> Recipe:
    """The recipe that trains this recipe's teacher, on the same machine settings."""
    mine = run.recipe
    recipe = load_recipe(mine.teacher.source.partition(":")[2])
    return replace(
        recipe,
        checkpoints=mine.checkpoints,
        device=mine.device,
        precision=mine.precision,
        force=mine.force,
    )


def embed_targets(run: Run, teacher: ModelHandle, corpus: Corpus) -> list[Target]:
    """Teacher vectors of everything the student learns from: documents first, then queries,
    pseudo-texts, other sources.
    """
    data, seed = run.recipe.data, run.recipe.seed
    documents = [d.full_text for d in corpus.collection.documents]
    queries = [q.text for q in corpus.collection.queries if q.split == "train"]
    if data.max_train_queries:
        chosen = np.random.default_rng(seed).permutation(len(queries))[: data.max_train_queries]
        queries = [queries[i] for i in sorted(chosen)]
    known = teacher.model if isinstance(teacher.model, PrecomputedVectors) else None
    if known is None:
        queries = vary_queries(queries, run.recipe.student.question_ratio, seed)
    groups = [
        ("documents", documents, "document", 1),
        ("queries", queries, "query", run.recipe.student.query_repeats),
    ]
    if known is None:
        vocabulary = teacher.encoder or load_encoder(run.recipe.student.init)
        groups.append(
            ("pseudo-texts", pseudo_texts(vocabulary, data.num_pseudo_texts, seed), "query", 1)
        )
    else:
        log(
            f"  {teacher.reference} has the vectors of its own texts alone: no pseudo-texts, no "
            f"queries rewritten as questions"
        )
    for name, source in data.sources.items():
        collection = read_collection(source.uri, data)
        texts = [d.full_text for d in collection.documents]
        groups.append((f"{name} documents", texts[: source.limit or None], "document", 1))
        texts = [q.text for q in collection.queries if q.split == "train"]
        groups.append((f"{name} queries", texts[: source.limit or None], "query", 1))
    targets = []
    for what, texts, role, repeats in groups:
        # the home documents are the index: none of them may lack
        if known is not None and what != "documents":
            texts = keep_known(known, texts, role, what)
        if texts:
            limit = data.max_document_tokens if role == "document" else data.max_query_tokens
            what = f"{corpus.collection.name} {what}" if what in {"documents", "queries"} else what
            store = load_vectors(run, teacher.model, teacher.name, texts, role, limit, what)
            targets.append(Target(texts, role, store, repeats))
    return targets


def keep_known(vectors: PrecomputedVectors, texts: list[str], role: str, what: str) -> list[str]:
    """The texts that have a vector; says how many have none."""
    kept = [
        text for text, is_there in zip(texts, vectors.has(texts, role), strict=True) if is_there
    ]
    if len(kept) < len(texts):
        log(
            f"  {what}: {len(texts) - len(kept):,} of {len(texts):,} texts have no vector and "
            f"train nothing"
        )
    return kept


def run_student(run: Run, teacher: ModelHandle, corpus: Corpus, targets: list[Target]) -> Path:
    """Start W_out from the closed-form solution, then move the whole student onto the teacher's
    vectors.
    """
    config, data = run.recipe.student, run.recipe.data
    folder = run.folder / STUDENT
    sources = {
        name: [to_plain(source), source_fingerprint(source.uri, data)]
        for name, source in data.sources.items()
    }
    inputs = StudentInputs(
        config={
            key: value for key, value in to_plain(config).items() if key not in {"kind", "static"}
        },
        start=identify_model(config.init),
        teacher=teacher.model.fingerprint,
        corpus=corpus.fingerprint,
        seed=run.recipe.seed,
        precision=str(run.precision),
        tokens=[data.max_query_tokens, data.max_document_tokens],
        texts=[len(t.texts) for t in targets],
        sources=sources,
    )

    def work(metrics: dict[str, Any]) -> tuple[TextEncoder, list[float]]:
        student = build_student(load_encoder(config.init), teacher, run.recipe.seed)
        token_ids = [student.tokenize(t.texts, t.role, _limit(run, t.role)) for t in targets]
        metrics["spectrum"] = start_projection(run, student, config, token_ids, targets)
        losses = train_student(run, student, config, token_ids, targets, metrics)
        metrics.update(
            parameters=student.num_parameters(),
            first_loss=losses[0],
            last_loss=float(np.mean(losses[-20:])),
        )
        return student, losses

    def save(result: tuple[TextEncoder, list[float]], draft: Path) -> None:
        student, losses = result
        space = {
            "kind": "student",
            "teacher": teacher.space_id,
            "teacher_reference": teacher.reference,
            "dim": student.dim,
            "normalized": student.spec.normalized,
            "prompts": student.spec.prompts,
        }
        write_encoder(student, draft, space)
        (draft / LOSSES_FILE).write_text(json.dumps(losses))

    run.step(
        name=STUDENT,
        folder=folder,
        inputs=inputs,
        method=method_of(run_student, embed_targets),
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


def build_student(start: TextEncoder, teacher: ModelHandle, seed: int) -> TextEncoder:
    """The start model with W_out onto the teacher's dimensions, and the teacher's prompts, lengths
    and dimensions.
    """
    torch.manual_seed(seed)
    longest = getattr(start.backbone.config, "max_position_embeddings", 512)
    space = teacher.model.space("document", longest)
    prompts = {role: teacher.model.prompt(role) for role in ROLES if teacher.model.prompt(role)}
    told = (
        teacher.encoder.spec
        if teacher.encoder is not None
        else EncoderSpec(prompts=prompts, max_tokens=longest)
    )
    spec = EncoderSpec(
        pooling=start.spec.pooling,
        normalized=space.normalized,
        prompts=dict(told.prompts),
        max_tokens=min(told.max_tokens, longest),
        mrl_dims=teacher.model.mrl_dims,
        templates=dict(told.templates),
    )
    return TextEncoder(
        start.backbone, start.tokenizer, spec, nn.Linear(start.hidden_size, teacher.model.dim)
    )


def start_projection(
    run: Run,
    student: TextEncoder,
    config: StudentConfig,
    token_ids: list[list[list[int]]],
    targets: list[Target],
) -> dict[str, Any]:
    """Set W_out to the ridge solution on a sample, and say what a map of its rank can keep of the
    teacher.
    """
    assert student.projection is not None
    sizes = [len(t.texts) for t in targets]
    total = sum(sizes)
    sample = np.sort(
        np.random.default_rng(run.recipe.seed).permutation(total)[: config.num_ridge_texts]
    )
    starts = np.cumsum([0, *sizes[:-1]])
    group = np.searchsorted(starts, sample, side="right") - 1
    ids = [token_ids[g][i - starts[g]] for g, i in zip(group, sample, strict=True)]
    wanted = np.concatenate(
        [targets[g].store[sample[group == g] - starts[g]] for g in range(len(targets))]
    )
    inputs = TransformerEmbedder(student, run.device, run.precision).embed_ids(
        ids, pooled_only=True
    )
    solution = fit_ridge(inputs, wanted, config.ridge)
    with torch.no_grad():
        student.projection.weight.copy_(torch.from_numpy(solution.weight.T))
        student.projection.bias.copy_(torch.from_numpy(solution.bias))
    predicted = inputs @ solution.weight + solution.bias
    lengths = np.linalg.norm(predicted, axis=1) * np.linalg.norm(wanted, axis=1)
    cosine = np.einsum("nd,nd->n", predicted, wanted) / np.maximum(lengths, 1e-12)
    kept = variance_kept(wanted, student.hidden_size)
    log(
        f"  a map of rank {student.hidden_size} can keep {kept:.2%} of the teacher's variance in "
        f"{student.dim} dimensions;"
        f" the closed-form W_out starts at cosine {cosine.mean():.4f}"
    )
    return {
        "rank": student.hidden_size,
        "variance_kept": kept,
        "ridge_cosine": float(cosine.mean()),
        "num_texts": len(sample),
    }


def train_student(
    run: Run,
    student: TextEncoder,
    config: StudentConfig,
    token_ids: list[list[list[int]]],
    targets: list[Target],
    metrics: dict[str, Any],
) -> list[float]:
    """Squared L2 to the teacher's vectors over token-budget batches; the loss of each step."""
    rows = [
        (g, i) for g, t in enumerate(targets) for _ in range(t.repeats) for i in range(len(t.texts))
    ]
    lengths = [len(token_ids[g][i]) for g, i in rows]
    batches: list[np.ndarray] = []
    for epoch in range(int(np.ceil(config.num_epochs))):
        part = token_budget_batches(
            lengths, config.tokens_per_batch, config.max_texts_per_batch, run.recipe.seed, epoch
        )
        share = min(1.0, config.num_epochs - epoch)
        batches += part[: max(1, round(share * len(part)))]

    def make(step: int) -> LeafBatch:
        batch = batches[step]
        mine = share_of_rank(batch, run.world.rank, run.world.size)
        weight = 1.0 if len(mine) else 0.0
        mine = mine if len(mine) else batch[:1]
        chosen = [rows[r] for r in mine]
        vectors = torch.from_numpy(read_targets(targets, chosen))
        return LeafBatch([token_ids[g][i] for g, i in chosen], vectors, len(batch), weight)

    return fit(
        LeafModule(student, config.optimizer),
        BatchList(len(batches), make, rows=[len(batch) for batch in batches]),
        title="student: training",
        device=run.device,
        precision=run.precision,
        seed=run.recipe.seed,
        metrics=metrics,
    )
