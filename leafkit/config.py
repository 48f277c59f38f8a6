"""The schema of a recipe: frozen dataclasses. Every field has its type, its unit and a sentence; ranges are at the end.

This module knows neither YAML nor files. ``leafkit.recipe`` turns text into these classes and reports every mistake.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

BAD_ROW_POLICIES = ("error", "skip")
DEVICES = ("auto", "cpu", "cuda", "npu", "mps")
PRECISIONS = ("auto", "float32", "bf16")
BATCHINGS = ("random", "neighbours")
QUERY_SPLITS = ("test", "validation", "train")
VECTOR_PRECISIONS = ("float32", "int8", "binary")


@dataclass(frozen=True)
class SourceConfig:
    """One more source of training texts for the student."""

    uri: str = ""  # builtin:NAME, jsonl:PATH, beir:PATH or hf:NAME[:CONFIG]@SPLIT
    limit: int = 0  # texts taken, in the source's order; 0 takes all


@dataclass(frozen=True)
class DataConfig:
    """The collection to serve, and what else training reads."""

    home: str = "builtin:pydocs"  # the collection that is indexed; its train queries train, its test queries measure
    packages: list[str] = field(
        default_factory=lambda: ["stdlib", "torch", "numpy", "scipy", "sklearn", "pandas", "networkx"]
    )  # whose documentation builtin:pydocs reads
    away_packages: list[str] = field(
        default_factory=lambda: [
            "aiohttp", "click", "fsspec", "jinja2", "joblib", "rich",
        ]
    )  # whose documentation builtin:pydocs-away reads; never trained on  # fmt: skip
    sources: dict[str, SourceConfig] = field(default_factory=dict)  # texts beside home's that train the student
    on_bad_row: str = "error"  # error stops at the first bad row; skip counts it and goes on
    max_bad_rows: int = 100  # rows that skip may drop per file before it stops all the same
    max_query_tokens: int = 64  # queries are cut here, prompt included
    max_document_tokens: int = 64  # documents are cut here; the teacher's cost grows with it
    max_train_queries: int = 0  # train queries that the student learns from; 0 takes all
    num_pseudo_texts: int = 2048  # texts of random vocabulary words, seen by stages (as anchors) and by the student


@dataclass(frozen=True)
class TeacherConfig:
    """Where the document vectors come from."""

    source: str = ""  # recipe:NAME trains one here; model:FOLDER_OR_HUB_ID@REVISION takes one as it is
    revision: str = ""  # 40-hex commit of a hub model; needed for hub ids, so that the space cannot change
    trust_remote_code: bool = False  # run code that comes with a hub model; asks for a pinned revision


@dataclass(frozen=True)
class StageConfig:
    """One contrastive training stage of a teacher."""

    init: str = "builtin:minilm"  # builtin:minilm, stage:NAME of an earlier stage, or model:FOLDER_OR_HUB_ID@REVISION
    hidden_size: int = 0  # grow the start model to this width before training; 0 keeps it
    intermediate_size: int = 0  # width of the feed-forward layers after growing; 0 keeps the ratio
    query_template: str = "Instruct: {instruction} \n Query: {query}"  # KaLM V1/V2, byte-exact
    instruction: str = "Find the documentation"  # what fills {instruction}
    batching: str = "neighbours"  # neighbours puts similar documents into one batch, random does not
    neighbour_model: str = "builtin:minilm"  # whose document vectors say what is similar
    num_neighbours: int = 16  # nearest documents a batch may grow through
    num_steps: int = 100  # optimiser steps
    batch_size: int = 64  # pairs per optimiser step, over all processes
    lr: float = 5e-5  # peak learning rate of AdamW
    warmup_share: float = 0.1  # share of the steps that the learning rate climbs
    weight_decay: float = 0.01  # AdamW's, on matrices only
    max_grad_norm: float = 1.0  # gradients are scaled down to this length
    temperature: float = 0.05  # tau of InfoNCE
    false_negative_margin: float = 0.1  # candidates this much above the positive's cosine are masked
    mrl_dims: list[int] = field(default_factory=list)  # Matryoshka dimensions, largest first; empty takes the full one
    mrl_weights: list[float] = field(default_factory=list)  # weight of the loss at each dimension
    question_share: float = 0.25  # share of the train queries rewritten as questions ("how do I ...")
    anchor_weight: float = 1.0  # weight of the squared distance to the start model on the anchor texts
    anchor_batch_size: int = 32  # anchor texts per step
    soup_share: float = 1.0  # weight of the trained weights in the average with the stage's start (WiSE-FT)


@dataclass(frozen=True)
class StudentConfig:
    """The student and its distillation (LEAF, arXiv 2509.12539)."""

    init: str = "builtin:minilm"  # builtin:minilm or model:FOLDER_OR_HUB_ID@REVISION
    tokens_per_batch: int = 2048  # padded tokens per optimiser step, over all processes
    max_texts_per_batch: int = 128  # texts per optimiser step, over all processes
    num_epochs: float = 1.0  # passes over the texts
    question_share: float = 0.25  # share of the train queries rewritten as questions ("how do I ...")
    query_repeats: int = 1  # times each query is seen per pass; queries are what the student serves
    lr: float = 1e-4  # peak learning rate of AdamW
    final_lr_share: float = 0.1  # learning rate of the last step as a share of the peak
    warmup_share: float = 0.05  # share of the steps that the learning rate climbs
    weight_decay: float = 0.01  # AdamW's, on matrices only
    max_grad_norm: float = 1.0  # gradients are scaled down to this length
    ridge: float = 1e-3  # strength of the ridge solution that W_out starts from, relative to the mean eigenvalue
    num_ridge_texts: int = 4096  # texts that solution is computed from


@dataclass(frozen=True)
class BenchConfig:
    """What is measured, and how often it is resampled."""

    collections: list[str] = field(default_factory=lambda: ["builtin:pydocs-away"])  # measured beside home
    split: str = "test"  # judged queries of this split
    num_resamples: int = 10_000  # of the paired bootstrap
    max_document_tokens: int = 256  # documents of the other collections are cut here
    student: str = ""  # model:FOLDER_OR_HUB_ID@REVISION measures another student than the recipe's own
    baseline: str = "builtin:minilm"  # a third encoder measured as it came; "" leaves it out
    num_latency_queries: int = 200  # single queries timed per encoder
    num_samples: int = 6  # queries shown with both rankings


@dataclass(frozen=True)
class InheritConfig:
    """Gates on what the student keeps, relative to the teacher under the same setting."""

    dims: list[int] = field(default_factory=list)  # Matryoshka dimensions; empty takes the teacher's
    precisions: list[str] = field(default_factory=lambda: ["float32", "int8", "binary"])  # of the stored vectors
    max_gap: dict[str, float] = field(
        default_factory=lambda: {"float32": 0.02, "int8": 0.02, "binary": 0.03}
    )  # by how much the student's retention may fall short of the teacher's own, per precision


@dataclass(frozen=True)
class Recipe:
    """A whole run."""

    name: str = ""  # the recipe's name; its artifacts are under checkpoints/NAME
    seed: int = 42  # of everything random
    checkpoints: str = "checkpoints"  # folder that holds all artifacts
    device: str = "auto"  # auto takes cuda, then npu, then mps, then cpu
    precision: str = "auto"  # of the arithmetic; auto takes bf16 where a short probe finds it faster
    force: bool = False  # run stages again although their inputs have not changed
    data: DataConfig = field(default_factory=DataConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    stages: dict[str, StageConfig] = field(default_factory=dict)  # the teacher's training, in this order
    student: StudentConfig = field(default_factory=StudentConfig)
    bench: BenchConfig = field(default_factory=BenchConfig)
    inherit: InheritConfig = field(default_factory=InheritConfig)


def to_plain(value: Any) -> Any:
    """Nested dataclasses as dicts and lists of numbers and strings."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value


_FOLDER_NAME = r"[A-Za-z0-9][\w.-]*"
_RESERVED_STAGES = ("student", "index", "bench", "inherit")
_POSITIVE = frozenset(
    "num_steps batch_size tokens_per_batch max_texts_per_batch lr max_grad_norm temperature num_epochs query_repeats"
    " max_query_tokens max_document_tokens num_resamples num_neighbours num_ridge_texts ridge anchor_batch_size".split()
)
_NOT_NEGATIVE = frozenset(
    "limit max_bad_rows weight_decay anchor_weight num_pseudo_texts max_train_queries"
    " num_latency_queries num_samples hidden_size intermediate_size"
    " false_negative_margin seed".split()
)
_SHARE = frozenset("warmup_share soup_share final_lr_share question_share".split())
_CHOICES = {
    "on_bad_row": BAD_ROW_POLICIES,
    "device": DEVICES,
    "precision": PRECISIONS,
    "batching": BATCHINGS,
    "split": QUERY_SPLITS,
}


def _check_value(path: str, name: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, float) and not math.isfinite(value):
        return [(path, f"{value} is not a finite number")]
    if name in _POSITIVE and not value > 0:
        return [(path, f"{value} is not above 0")]
    if name in _NOT_NEGATIVE and value < 0:
        return [(path, f"{value} is below 0")]
    if name in _SHARE and not 0 <= value <= 1:
        return [(path, f"{value} is not between 0 and 1")]
    if name in _CHOICES and value not in _CHOICES[name]:
        return [(path, f"{value!r} is not one of {', '.join(_CHOICES[name])}")]
    return []


def _check_stage(path: str, stage: StageConfig, earlier: list[str]) -> list[tuple[str, str]]:
    problems = []
    kind, _, rest = stage.init.partition(":")
    if kind == "stage" and rest not in earlier:
        known = ", ".join(earlier) or "none"
        problems.append((f"{path}.init", f"{stage.init!r} names no earlier stage (earlier stages: {known})"))
    elif kind not in {"stage", "builtin", "model"}:
        problems.append(
            (f"{path}.init", f"{stage.init!r} is not builtin:minilm, stage:NAME or model:FOLDER_OR_HUB_ID@REVISION")
        )
    if not stage.query_template.endswith("{query}"):
        problems.append((f"{path}.query_template", "does not end with {query}: a prompt is put before the text"))
    if len(stage.mrl_dims) != len(stage.mrl_weights):
        problems.append(
            (f"{path}.mrl_weights", f"{len(stage.mrl_weights)} weights for {len(stage.mrl_dims)} dimensions in mrl_dims")
        )
    if any(weight < 0 for weight in stage.mrl_weights):
        problems.append((f"{path}.mrl_weights", f"{stage.mrl_weights} has a weight below 0"))
    if sorted(stage.mrl_dims, reverse=True) != stage.mrl_dims or any(d < 1 for d in stage.mrl_dims):
        problems.append((f"{path}.mrl_dims", f"{stage.mrl_dims} is not a falling list of positive dimensions"))
    return problems


def find_problems(recipe: Recipe) -> list[tuple[str, str]]:
    """Every value out of range and every broken rule between fields, as ``(key, what is wrong)``."""
    problems: list[tuple[str, str]] = []

    def walk(value: Any, path: str) -> None:
        children = {f.name: getattr(value, f.name) for f in fields(value)}.items() if is_dataclass(value) else value.items()
        for name, child in children:
            child_path = f"{path}.{name}" if path else str(name)
            if is_dataclass(child) or (isinstance(child, dict) and any(is_dataclass(c) for c in child.values())):
                walk(child, child_path)
            else:
                problems.extend(_check_value(child_path, str(name), child))

    walk(recipe, "")
    earlier: list[str] = []
    for name, stage in recipe.stages.items():
        if not re.fullmatch(_FOLDER_NAME, name) or name in _RESERVED_STAGES:
            problems.append(
                (f"stages.{name}", f"{name!r} cannot name a stage's folder ({', '.join(_RESERVED_STAGES)} are taken)")
            )
        problems.extend(_check_stage(f"stages.{name}", stage, earlier))
        earlier.append(name)
    if not re.fullmatch(_FOLDER_NAME, recipe.name):
        problems.append(("name", f"{recipe.name!r} is not a folder name: letters, digits, '.', '_' and '-'"))
    kind = recipe.teacher.source.partition(":")[0]
    if recipe.teacher.source and kind not in {"recipe", "model"}:
        problems.append(("teacher.source", f"{recipe.teacher.source!r} is not recipe:NAME or model:FOLDER_OR_HUB_ID@REVISION"))
    if recipe.teacher.trust_remote_code and not recipe.teacher.revision:
        problems.append(("teacher.trust_remote_code", "needs teacher.revision, a 40-hex commit: unpinned code could change"))
    keys = [("inherit.precisions", name) for name in recipe.inherit.precisions]
    keys += [(f"inherit.max_gap.{name}", name) for name in recipe.inherit.max_gap]
    for key, precision in keys:
        if precision not in VECTOR_PRECISIONS:
            problems.append((key, f"{precision!r} is not one of {', '.join(VECTOR_PRECISIONS)}"))
    problems.extend(
        (f"inherit.max_gap.{name}", f"{value} is not between 0 and 1")
        for name, value in recipe.inherit.max_gap.items()
        if not 0 <= value <= 1
    )
    return problems
