"""``dry_run=true``: every stage of a recipe with tiny random weights of the same architectures, a
few rows and two steps.

Nothing is learnt; everything is run: rows through the real loaders where the sources can be had,
mining, soft labels, batches, losses, averages, the saved model. What takes an original's place is
said.
"""

from __future__ import annotations

import json
import os
import re
import socket
from dataclasses import replace
from functools import cache
from pathlib import Path
from urllib.parse import urlparse

from transformers import CONFIG_MAPPING

from leafkit.config import LABEL_TASKS, DataConfig, Recipe, StageConfig, TrainSourceConfig
from leafkit.core.builtin_models.published import PUBLISHED
from leafkit.core.builtin_models.table import BUILTIN_MODELS, is_builtin
from leafkit.core.checkpoint_layout import DRY_RUN_ROWS
from leafkit.core.console import log
from leafkit.core.errors import UsageError
from leafkit.data.augment import as_question
from leafkit.data.builtin import read_pydocs
from leafkit.data.records import Document

HIDDEN = 64  # of the tiny models
NUM_ROWS = 64  # per source
NUM_STEPS = 2
BATCH_SIZE = 8
# small, and on every machine that runs Python
PACKAGES = [
    "argparse",
    "asyncio",
    "collections",
    "concurrent",
    "email",
    "http",
    "importlib",
    "json",
    "logging",
    "multiprocessing",
    "unittest",
    "urllib",
    "xml",
]
MAX_TOKENS = 128  # of documents: those of symmetric tasks have few-shot examples before them
_FILTER_RANK = 1000  # keeps rows also where a source's documents are many and its rows few
_NUM_WORDS = 40  # of a built-in row's document, so that few-shot examples leave room for the query
_HUB_TIMEOUT_S = 3.0


def plan_dry_run(recipe: Recipe) -> Recipe:
    """The recipe made small: its artifacts are under NAME-dry-run and never mix with real ones.

    Raises:
        UsageError: a model's architecture is not known.
    """
    name = f"{recipe.name}-dry-run"
    rows = Path(recipe.checkpoints) / name / DRY_RUN_ROWS
    is_online = hub_is_reachable()
    data = small_data(recipe.data)
    widths: dict[str, int] = {}
    stages = {}
    for stage_name, stage in recipe.stages.items():
        num_scored = max(1, stage.mining.num_negatives) if "rows" in stage.soft_labels.models else 0
        sources = {
            source_name: _plan_source(
                source_name, source, rows, is_online=is_online, num_scored=num_scored
            )
            for source_name, source in stage.sources.items()
        }
        stages[stage_name] = _plan_stage(stage, widths, sources)
        before = stage.soup.members[0] if stage.soup.members else stage.init
        widths[stage_name] = stages[stage_name].hidden_size or widths.get(
            before.removeprefix("stage:"), HIDDEN
        )
    return replace(recipe, name=name, data=data, stages=stages, dry_run=False)


def small_data(data: DataConfig) -> DataConfig:
    """Few texts, in place of any corpus: the same on every machine with this Python."""
    return replace(
        data,
        corpus="builtin:pydocs",
        packages=PACKAGES,
        on_bad_row="skip",
        num_pseudo_texts=64,
        max_query_tokens=min(512, data.max_query_tokens or 512),
        max_document_tokens=min(MAX_TOKENS, data.max_document_tokens or MAX_TOKENS),
    )


def _plan_stage(
    stage: StageConfig, widths: dict[str, int], sources: dict[str, TrainSourceConfig]
) -> StageConfig:
    if stage.soup.members:
        members = [stand_in(member, stage.architecture) for member in stage.soup.members]
        return replace(stage, soup=replace(stage.soup, members=members, num_rows=NUM_ROWS))
    mining, soft, loss = stage.mining, stage.soft_labels, stage.loss
    before = widths.get(stage.init.removeprefix("stage:"), HIDDEN)
    full = max([stage.hidden_size, *loss.mrl_dims], default=0)
    width = 2 * before if stage.hidden_size else before
    dims = sorted({max(1, d * width // full) for d in loss.mrl_dims}, reverse=True)
    return replace(
        stage,
        init=stand_in(stage.init, stage.architecture),
        hidden_size=width if stage.hidden_size else 0,
        intermediate_size=0,
        sources=sources,
        mining=replace(
            mining,
            model=stand_in(mining.model, "") if mining.model else "",
            # Random weights put everything near everything, and any document anywhere in a ranking.
            first_rank=0,
            last_rank=NUM_ROWS,
            max_positive_share=0.0,
            min_margin=0.0,
            on_shortfall="keep",
            filter_rank=max(_FILTER_RANK, mining.filter_rank) if mining.filter_rank else 0,
        ),
        soft_labels=replace(
            soft, models=[m if m in {"rows", "bm25"} else stand_in(m, "") for m in soft.models]
        ),
        neighbor_model=stand_in(stage.neighbor_model, "")
        if stage.batching == "neighbors"
        else stage.neighbor_model,
        num_neighbors=4,
        num_steps=NUM_STEPS,
        batch_size=BATCH_SIZE,
        anchor_batch_size=4,
        chunk_tokens=min(stage.chunk_tokens, 512),
        lora=replace(stage.lora, rank=min(stage.lora.rank, 4)),
        loss=replace(loss, mrl_dims=dims, mrl_weights=loss.mrl_weights[: len(dims)]),
    )


def stand_in(reference: str, architecture: str = "") -> str:
    """The tiny model that stands in for a big one."""
    if reference.startswith(("stage:", "tiny:")) or reference == "start":
        return reference
    architecture = architecture or (
        BUILTIN_MODELS[reference].architecture
        if is_builtin(reference)
        else _guess_architecture(reference)
    )
    log(f"dry run: tiny random {architecture} weights stand in for {reference}", style="dim")
    return f"tiny:{architecture}"


def _guess_architecture(reference: str) -> str:
    """model_type of a folder by its config.json, of a hub model by its name.

    Raises:
        UsageError: neither says it.
    """
    rest = reference.removeprefix("model:").partition("@")[0]
    if rest in PUBLISHED:
        return PUBLISHED[rest].architecture
    config = Path(rest) / "config.json"
    if config.is_file():
        return str(json.loads(config.read_text(encoding="utf-8")).get("model_type", "bert"))
    words = re.sub(r"[^a-z0-9]+", " ", rest.rpartition("/")[2].lower())
    found = [
        kind
        for kind in CONFIG_MAPPING
        if re.match(rf"{re.escape(kind.replace('_', ' '))}\b", words)
    ]
    if not found:
        raise UsageError(
            f"dry_run: the name {rest} does not tell its architecture",
            "set the stage's architecture (model_type of its config)",
        )
    return max(found, key=len)


def _plan_source(
    name: str, source: TrainSourceConfig, rows: Path, *, is_online: bool, num_scored: int
) -> TrainSourceConfig:
    """The source with few rows; built-in rows of the same form where it cannot be had."""
    if is_at_hand(source.uri, is_online=is_online):
        return replace(source, limit=min(source.limit or NUM_ROWS, NUM_ROWS))
    uri = built_in_rows(name, source.uri, source.task, rows, num_scored=num_scored)
    return replace(source, uri=uri, limit=0)


def is_at_hand(uri: str, *, is_online: bool) -> bool:
    """Whether rows of a source can be had."""
    kind, _, rest = uri.partition(":")
    if kind in {"hf", "mteb"}:
        return is_online
    return kind == "builtin" or Path(rest).exists()


def built_in_rows(name: str, uri: str, task: str, rows: Path, *, num_scored: int = 0) -> str:
    """Write rows that take the place of a source's, and say so; returns their address.

    Args:
        name: of the source.
        uri: that cannot be had.
        task: of its rows.
        rows: folder to write into.
        num_scored: negatives of each row, with scores.
    """
    log(f"dry run: built-in rows stand in for {uri}", style="dim")
    path = rows / f"{name}{f'-{num_scored}-scored' * bool(num_scored)}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    sample = sample_rows(task, num_scored=num_scored)
    path.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in sample), encoding="utf-8"
    )
    return f"jsonl:{path}"


def sample_rows(task: str, count: int = NUM_ROWS, num_scored: int = 0) -> list[dict[str, object]]:
    """Rows of a task's form, out of the standard library's documentation: the same on every machine
    with this Python.

    Args:
        task: of the rows.
        count: of the rows.
        num_scored: negatives of each row, with scores; the rows of label and sts tasks have none.
    """
    pairs = _read_pairs()
    if task in LABEL_TASKS:
        rows: list[dict[str, object]] = [
            {"text": text, "label": document.id.partition(".")[0], "split": "train"}
            for text, document in pairs
        ]
        return sorted(rows, key=lambda row: len(str(row["text"])))[:count]
    if task == "sts":
        asked = [(text, as_question(text, 0)) for text, _ in pairs]
        return [{"s1": a, "s2": b, "score": 5.0, "split": "train"} for a, b in asked if b][:count]
    sample: list[dict[str, object]] = [
        {"query": text, "positive": document.full_text, "split": "train"}
        for text, document in pairs[:count]
    ]
    texts = list(dict.fromkeys(document.full_text for _, document in pairs))
    for row in sample if num_scored else []:
        after = texts.index(str(row["positive"])) + 1
        row["negatives"] = [texts[(after + k) % len(texts)] for k in range(num_scored)]
        row["scores"] = [1.0, *(0.5 / (k + 1) for k in range(num_scored))]
    return sample


@cache
def _read_pairs() -> list[tuple[str, Document]]:
    """Queries of the standard library's documentation with the start of their documents; read once
    for all sources.
    """
    collection = read_pydocs("pydocs", PACKAGES)
    documents = [
        replace(d, text=" ".join(d.text.split()[:_NUM_WORDS])) for d in collection.documents
    ]
    return [(query.text, documents[positions[0]]) for query, positions in collection.pairs("train")]


def hub_is_reachable() -> bool:
    """Whether rows can be fetched, found out in seconds: a client's own retries take minutes per
    source.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or os.environ.get("HF_DATASETS_OFFLINE", "0") not in {"", "0"}:
        return False
    address = urlparse(constants.ENDPOINT)
    try:
        with socket.create_connection(
            (address.hostname or "", address.port or 443), timeout=_HUB_TIMEOUT_S
        ):
            return True
    except OSError:
        return False
