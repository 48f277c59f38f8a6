"""Tiny random encoders and a tiny collection: whole runs in seconds, without a hub."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn
from transformers import BertConfig, BertModel, BertTokenizerFast

from leafkit.models.checkpoint import write_encoder
from leafkit.models.text_encoder import EncoderSpec, TextEncoder

ROOT = Path(__file__).parents[2]
PROMPT = "find the answer : "
VERBS = [
    "compute",
    "find",
    "return",
    "solve",
    "draw",
    "merge",
    "split",
    "count",
    "sort",
    "read",
    "write",
    "invert",
]
THINGS = [
    "matrix",
    "vector",
    "graph",
    "table",
    "column",
    "token",
    "string",
    "image",
    "signal",
    "window",
    "kernel",
    "tensor",
    "queue",
    "stack",
    "archive",
    "socket",
    "thread",
    "folder",
    "header",
    "buffer",
    "polygon",
    "spectrum",
    "gradient",
    "eigenvalue",
    "integral",
    "quantile",
    "histogram",
    "calendar",
    "currency",
    "cluster",
]
MANNERS = ["quickly", "safely", "exactly", "sparsely", "twice", "backwards", "remotely", "lazily"]
OTHERS = [
    "the",
    "of",
    "a",
    "to",
    "how",
    "do",
    "can",
    "i",
    "which",
    "function",
    "and",
    "for",
    "with",
    "in",
    "by",
    "first",
    "second",
    "value",
    "values",
    "answer",
]


def make_tokenizer(max_length: int = 128) -> BertTokenizerFast:
    """WordPiece over the words above, with single letters for all other words."""
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789.:,?!-"]
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = dict.fromkeys(
        [*specials, *VERBS, *THINGS, *MANNERS, *OTHERS, *letters, *(f"##{c}" for c in letters)]
    )
    return BertTokenizerFast(
        vocab={word: i for i, word in enumerate(words)}, model_max_length=max_length
    )


def make_encoder(
    hidden: int = 32,
    pooling: str = "mean",
    dim: int = 0,
    seed: int = 0,
    prompts: dict[str, str] | None = None,
    mrl_dims: Sequence[int] = (),
    normalized: bool = True,
    bias: bool = True,
) -> TextEncoder:
    """A random BERT of two layers and four heads in evaluation mode; ``dim`` adds a projection to
    that dimension.
    """
    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=2 * hidden,
        max_position_embeddings=128,
        initializer_range=0.1,
    )
    backbone = BertModel(config, add_pooling_layer=False)
    # zeros and ones would hide a mistake in biases and norms
    for (
        name,
        weight,
    ) in backbone.named_parameters():
        if weight.ndim == 1:
            nn.init.normal_(weight, mean=1.0 if name.endswith("LayerNorm.weight") else 0.0, std=0.1)
    # texts of different words shall lie apart
    nn.init.normal_(backbone.embeddings.word_embeddings.weight)
    spec = EncoderSpec(pooling, normalized, prompts or {}, 128, tuple(mrl_dims))
    projection = nn.Linear(hidden, dim, bias=bias) if dim else None
    return TextEncoder(backbone, tokenizer, spec, projection).eval()


def write_model(folder: Path, **settings: Any) -> Path:
    """A model folder with a random encoder; ``settings`` go to ``make_encoder``."""
    encoder = make_encoder(**settings)
    write_encoder(
        encoder,
        folder,
        {"kind": "teacher", "dim": encoder.dim, "mrl_dims": list(encoder.spec.mrl_dims)},
    )
    return folder


def with_spec(encoder: TextEncoder, **changes: Any) -> TextEncoder:
    """The same weights under another spec."""
    return TextEncoder(
        encoder.backbone, encoder.tokenizer, replace(encoder.spec, **changes), encoder.projection
    ).eval()


def make_pairs(count: int = 72) -> list[tuple[str, str]]:
    """Different (query, document) pairs that share their thing and their manner."""
    chooser = random.Random(0)
    triples = [(v, t, m) for v in VERBS for t in THINGS for m in MANNERS]
    rows = []
    for verb, thing, manner in chooser.sample(triples, count):
        extra = " ".join(chooser.sample(THINGS + OTHERS, chooser.randint(2, 14)))
        rows.append(
            (
                f"{verb.capitalize()} the {thing} {manner}.",
                f"the {thing} and the {verb} value {manner} {extra}",
            )
        )
    return rows


def write_pairs(path: Path, count: int = 72, num_test: int = 12, num_validation: int = 4) -> Path:
    """A jsonl collection: ``num_test`` test pairs, ``num_validation`` validation pairs, the rest
    for training.
    """
    rows = []
    for i, (query, document) in enumerate(make_pairs(count)):
        split = (
            "test" if i < num_test else "validation" if i < num_test + num_validation else "train"
        )
        rows.append({"query": query, "positive": document, "split": split})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def edit_json(path: Path, **changes: Any) -> None:
    """Change keys of an object in a file; ``...`` takes one out."""
    value = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in value.items() if v is not ...}))


def vectors_of(encoder: TextEncoder, texts: Sequence[str]) -> np.ndarray:
    """(n, D) of texts as queries, as they are served."""
    with torch.no_grad():
        found: np.ndarray = encoder.finish(encoder(encoder.tokenize(texts, "query"))).numpy()
    return found


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Rows as jsonl."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_documents(path: Path, count: int = 60) -> Path:
    """A jsonl collection of documents alone."""
    rows = [
        {"id": f"doc{i}", "text": document} for i, (_, document) in enumerate(make_pairs(count))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def make_home(root: Path) -> Path:
    """A folder with pairs.jsonl, a 48-wide teacher with a prompt and Matryoshka dimensions, and a
    32-wide student.
    """
    root.mkdir(parents=True, exist_ok=True)
    write_pairs(root / "pairs.jsonl")
    write_model(root / "big", hidden=48, seed=1, prompts={"query": PROMPT}, mrl_dims=(48, 24))
    write_model(root / "small", hidden=32, seed=2)
    return root


def tiny_recipe(home: Path, checkpoints: Path) -> dict[str, Any]:
    """The recipe of a whole distillation of ``home`` in about two seconds."""
    return {
        "checkpoints": str(checkpoints),
        "device": "cpu",
        "precision": "float32",
        "data": {
            "corpus": f"jsonl:{home / 'pairs.jsonl'}",
            "num_pseudo_texts": 16,
            "max_document_tokens": 48,
            "max_query_tokens": 32,
        },
        "teacher": {"source": f"model:{home / 'big'}"},
        "student": {
            "init": f"model:{home / 'small'}",
            "tokens_per_batch": 512,
            "num_epochs": 1.0,
            "optimizer": {"lr": 3e-4},
            "num_ridge_texts": 64,
        },
        "bench": {
            "baseline": "",
            "collections": [],
            "num_resamples": 200,
            "num_latency_queries": 3,
            "num_samples": 2,
        },
    }


def tiny_stage(home: Path, **changes: Any) -> dict[str, Any]:
    """One contrastive stage of four steps; a section among ``changes`` keeps its other keys."""
    stage: dict[str, Any] = {
        "init": f"model:{home / 'small'}",
        "neighbor_model": f"model:{home / 'small'}",
        "num_steps": 4,
        "batch_size": 8,
        "anchor_batch_size": 4,
        "num_neighbors": 4,
        "optimizer": {"lr": 1e-3},
        "loss": {"mrl_dims": [32, 16], "mrl_weights": [1.0, 0.3]},
        "query_template": "{instruction} : {query}",
        "instruction": "find the answer",
    }
    for key, value in changes.items():
        is_section = isinstance(value, dict) and isinstance(stage.get(key), dict)
        stage[key] = stage[key] | value if is_section else value
    return stage


def write_recipe(path: Path, recipe: dict[str, Any]) -> Path:
    """The recipe as YAML."""
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return path


def environment(**changes: str) -> dict[str, str]:
    """Environment of a child process that must find this checkout, one thread and no hub."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return (
        os.environ
        | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        | changes
    )


def free_port() -> str:
    """A port that nobody listens at now."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return str(place.getsockname()[1])


def run_cli(
    *words: str,
    processes: int = 1,
    cwd: Path | None = None,
    timeout: float = 120,
    env: dict[str, str] | None = None,
    program: Sequence[str] = ("-m", "leafkit.cli"),
) -> subprocess.CompletedProcess[str]:
    """``leafkit WORDS`` in a child process, or in several under torchrun; ``env`` changes their
    environment, ``program`` is what Python runs instead of leafkit's command line.
    """
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        if processes > 1
        else []
    )
    command = [sys.executable, *launcher, *program, *words]
    return subprocess.run(
        command,
        env=environment(**(env or {})),
        cwd=cwd,
        timeout=timeout,
        capture_output=True,
        text=True,
        check=False,
    )
