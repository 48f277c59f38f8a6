"""Train a teacher: contrastive stages, each an artifact (KaLM-Embedding, arXiv 2501.01028 and 2506.20923)."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from leafkit.artifact import read_manifest
from leafkit.config import StageConfig, to_plain
from leafkit.data.batching import neighbour_batches, random_batches, share_of_rank
from leafkit.errors import LeafkitError, UsageError
from leafkit.models.checkpoint import identify_model, load_encoder, read_encoder, write_encoder
from leafkit.models.encoder import TextEncoder
from leafkit.models.grow import grow
from leafkit.models.soup import average_into
from leafkit.progress import say
from leafkit.search.embed import Embedder
from leafkit.search.index import nearest_others
from leafkit.stages.corpus import Corpus, load_corpus, pseudo_texts, vary_queries
from leafkit.stages.run import Run
from leafkit.stages.vectors import load_vectors
from leafkit.train.fit import BatchList, fit
from leafkit.train.modules import ContrastiveModule, ContrastiveSettings, PairBatch
from leafkit.train.optim import OptimizerSettings

LOSSES_FILE = "losses.json"


@dataclass(frozen=True, slots=True)
class Pairs:
    """Training pairs in columns: row i's query is answered by document ``documents[i]`` of the collection."""

    queries: list[str]
    query_ids: list[int]
    documents: list[int]


def run_teach(run: Run) -> Path:
    """Run every stage of the recipe and return the folder of the last one: the teacher.

    Raises:
        UsageError: the recipe has no stages.
        LeafkitError: a stage failed.
    """
    if not run.recipe.stages:
        raise UsageError(f"recipe {run.recipe.name} trains no teacher: it has no stages", "recipe=kalm-mini has")
    corpus = load_corpus(run, run.recipe.data.home)
    folder = run.folder
    for name, config in run.recipe.stages.items():
        folder = run_teacher_stage(run, name, config, corpus)
    return folder


def run_teacher_stage(run: Run, name: str, config: StageConfig, corpus: Corpus) -> Path:
    """One stage: start model, grown if asked; pairs in batches; contrastive training; average with the start."""
    folder = run.folder / name
    start_folder = run.folder / config.init.partition(":")[2] if config.init.startswith("stage:") else None
    start_identity = read_manifest(start_folder).fingerprint() if start_folder else identify_model(config.init)
    data = run.recipe.data
    inputs = {
        "config": to_plain(config), "start": start_identity, "corpus": corpus.fingerprint, "seed": run.recipe.seed,
        "tokens": [data.max_query_tokens, data.max_document_tokens], "pseudo_texts": data.num_pseudo_texts,
        "precision": str(run.precision),
    }  # fmt: skip

    def work(metrics: dict[str, Any]) -> tuple[TextEncoder, list[float]]:
        start = read_encoder(start_folder) if start_folder else load_encoder(config.init)
        encoder = prepare_encoder(start, config, run.recipe.seed)
        say(
            f"  {encoder.num_parameters():,} parameters, {encoder.flops_per_token() / 1e6:.1f} MFLOPs per token,"
            f" {encoder.dim} dimensions"
        )
        pairs = collect_pairs(corpus, config.question_share, run.recipe.seed)
        batches = plan_batches(run, config, corpus, pairs)
        losses = train_stage(run, name, config, encoder, start, corpus, pairs, batches)
        average_into(encoder, prepare_encoder(start, config, run.recipe.seed), config.soup_share)
        metrics.update(parameters=encoder.num_parameters(), first_loss=losses[0], last_loss=float(np.mean(losses[-10:])))
        return encoder, losses

    def save(result: tuple[TextEncoder, list[float]], draft: Path) -> None:
        encoder, losses = result
        write_encoder(encoder, draft, {"kind": "teacher", "dim": encoder.dim, "mrl_dims": list(encoder.spec.mrl_dims)})
        (draft / LOSSES_FILE).write_text(json.dumps(losses))

    run.stage(name, folder, inputs, work, save, on_every_process=True)
    return folder


def prepare_encoder(start: TextEncoder, config: StageConfig, seed: int) -> TextEncoder:
    """A copy of the start model, grown if the stage says so, with the stage's prompt and Matryoshka dimensions."""
    width = config.hidden_size or start.hidden_size
    if config.hidden_size or config.intermediate_size:
        encoder = grow(start, width, config.intermediate_size, seed)
    else:
        encoder = copy.deepcopy(start)
    too_large = [d for d in config.mrl_dims if d > encoder.dim]
    if too_large:
        raise UsageError(
            f"mrl_dims {too_large} are above the model's {encoder.dim} dimensions", "lower them or raise hidden_size"
        )
    prompt = config.query_template.replace("{instruction}", config.instruction).removesuffix("{query}")
    spec = replace(start.spec, prompts={"query": prompt}, mrl_dims=tuple(config.mrl_dims or [encoder.dim]))
    return TextEncoder(encoder.backbone, start.tokenizer, spec)


def collect_pairs(corpus: Corpus, question_share: float, seed: int) -> Pairs:
    """Every train query with each of its relevant documents.

    Raises:
        LeafkitError: the collection has no judged train queries.
    """
    found = corpus.collection.pairs("train")
    rows = [(i, query.text, document) for i, (query, documents) in enumerate(found) for document in documents]
    if not rows:
        raise LeafkitError(
            f"{corpus.collection.name} has no judged train queries: a teacher cannot be trained on it",
            "give pairs as data.home (rows with query and positives), or take a trained teacher with teacher.source=model:...",
        )
    queries = vary_queries([text for _, text, _ in rows], question_share, seed)
    return Pairs(queries, [i for i, _, _ in rows], [d for _, _, d in rows])


def plan_batches(run: Run, config: StageConfig, corpus: Corpus, pairs: Pairs) -> list[np.ndarray]:
    """Rows of each step's global batch; the same on every process.

    Raises:
        UsageError: the batch does not divide among the processes, or the pairs do not fill one.
    """
    for key, size in (("batch_size", config.batch_size), ("anchor_batch_size", config.anchor_batch_size)):
        if size % run.world.size:
            raise UsageError(f"{key}={size} does not divide among {run.world.size} processes", "choose a multiple")
    num_pairs = len(pairs.documents)
    if num_pairs < config.batch_size:
        raise UsageError(
            f"batch_size={config.batch_size} is more than the {num_pairs} training pairs there are", "lower batch_size"
        )
    if config.batching == "random":
        return random_batches(num_pairs, config.batch_size, run.recipe.seed, config.num_steps)
    embedder = Embedder(load_encoder(config.neighbour_model), run.device, run.precision)
    texts = [d.full_text for d in corpus.collection.documents]
    name = config.neighbour_model.split(":")[-1].split("/")[-1]
    store = load_vectors(
        run, embedder, name, texts, "document", run.recipe.data.max_document_tokens, f"{corpus.collection.name} documents"
    )
    neighbours = nearest_others(store[np.asarray(pairs.documents)], min(config.num_neighbours, num_pairs - 1))
    return neighbour_batches(neighbours, config.batch_size, run.recipe.seed, config.num_steps)


def train_stage(
    run: Run, name: str, config: StageConfig, encoder: TextEncoder, start: TextEncoder, corpus: Corpus, pairs: Pairs,
    batches: list[np.ndarray],
) -> list[float]:  # fmt: skip
    """Contrastive training with anchors; returns the loss of each step."""
    data, seed = run.recipe.data, run.recipe.seed
    query_ids = encoder.tokenize(pairs.queries, "query", data.max_query_tokens)
    document_ids = encoder.tokenize([d.full_text for d in corpus.collection.documents], "document", data.max_document_tokens)
    anchor_texts = pseudo_texts(encoder, data.num_pseudo_texts if config.anchor_weight > 0 else 0, seed)
    anchor_ids, anchor_targets = _anchors(run, encoder, start, anchor_texts)

    def make(step: int) -> PairBatch:
        rows = share_of_rank(batches[step], run.world.rank, run.world.size)
        offset = step * config.anchor_batch_size
        chosen = np.arange(offset, offset + config.anchor_batch_size) % max(1, len(anchor_ids))
        chosen = share_of_rank(chosen, run.world.rank, run.world.size) if anchor_ids else chosen[:0]
        return PairBatch(
            queries=[query_ids[i] for i in rows],
            documents=[document_ids[pairs.documents[i]] for i in rows],
            groups=torch.tensor([[pairs.query_ids[i], pairs.documents[i]] for i in rows]),
            anchors=[anchor_ids[i] for i in chosen],
            anchor_targets=torch.from_numpy(anchor_targets[chosen]),
        )

    dims = tuple(config.mrl_dims) or (encoder.dim,)
    loss = ContrastiveSettings(
        config.temperature, config.false_negative_margin, dims, tuple(config.mrl_weights) or (1.0,), config.anchor_weight
    )
    settings = OptimizerSettings(
        config.lr, config.num_steps, config.warmup_share, 0.0, config.weight_decay, config.max_grad_norm
    )  # fmt: skip
    module = ContrastiveModule(encoder, settings, loss)
    return fit(module, BatchList(len(batches), make), f"{name}: training", run.device, run.precision, seed)


def _anchors(run: Run, encoder: TextEncoder, start: TextEncoder, texts: list[str]) -> tuple[list[list[int]], np.ndarray]:
    """Ids of the anchor texts, half as queries and half as documents, and where the start model put them.

    The start model sees its own prompts: where it had none, the trained one learns that its prompt adds nothing.
    """
    if not texts:
        return [], np.zeros((0, encoder.dim), dtype=np.float32)
    embedder = Embedder(start, run.device, run.precision)
    max_tokens = run.recipe.data.max_query_tokens
    ids, targets = [], []
    for i, role in enumerate(("query", "document")):
        ids.append(encoder.tokenize(texts[i::2], role, max_tokens))
        targets.append(embedder.embed(texts[i::2], role, max_tokens))
    order = np.random.default_rng(run.recipe.seed).permutation(len(texts))
    joined = ids[0] + ids[1]
    vectors = np.concatenate(targets)
    copies = encoder.dim // start.dim  # a grown model's vector is the start's, repeated
    vectors = np.tile(vectors, (1, copies)) / np.sqrt(copies)
    return [joined[i] for i in order], np.ascontiguousarray(vectors[order], dtype=np.float32)
