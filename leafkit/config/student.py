"""The student and its distillation."""

from __future__ import annotations

from dataclasses import dataclass

from leafkit.config.fields import choice, number, section, text
from leafkit.config.trainer import OptimizerConfig

STUDENT_KINDS = ("transformer", "static")
_MAX_EPOCHS = 100_000


@dataclass(frozen=True)
class StaticConfig:
    """A lookup-table student: one vector per token, averaged (student.kind=static)."""

    width: int = number(
        384,
        "Of the table, before the linear map onto the teacher's dimensions.",
        unit="dimensions",
        above=0,
        high=65_536,
    )
    document_epochs: float = number(
        4.0, "Passes over the documents, first.", above=0, high=_MAX_EPOCHS
    )
    query_epochs: float = number(
        8.0, "Passes over the queries, after them.", above=0, high=_MAX_EPOCHS
    )
    lr: float = number(
        1e-2, "Peak learning rate on documents, instead of student.optimizer.lr.", above=0, high=10
    )
    query_lr: float = number(
        3e-3, "Peak learning rate on queries, instead of student.optimizer.lr.", above=0, high=10
    )
    texts_per_batch: int = number(256, "Texts per optimizer step.", above=0, high=10_000_000)


@dataclass(frozen=True)
class StudentConfig:
    """The student and its distillation (LEAF, arXiv 2509.12539)."""

    kind: str = choice(
        "transformer",
        "transformer, or static: a table of token vectors, a hundred times as fast and less able.",
        STUDENT_KINDS,
    )
    init: str = text(
        "builtin:minilm",
        "builtin:minilm, builtin:mpnet or model:FOLDER_OR_HUB_ID@REVISION; static takes its "
        "tokenizer.",
    )
    tokens_per_batch: int = number(
        2048,
        "Padded tokens per optimizer step, over all processes.",
        unit="tokens",
        above=0,
        high=10**9,
    )
    max_texts_per_batch: int = number(
        128, "Texts per optimizer step, over all processes.", above=0, high=10_000_000
    )
    num_epochs: float = number(1.0, "Passes over the texts.", above=0, high=_MAX_EPOCHS)
    question_ratio: float = number(
        0.0,
        "Share of the train queries rewritten as questions (how do I ...) by the rules of English "
        "documentation; for builtin:pydocs alone.",
        low=0,
        high=1,
    )
    query_repeats: int = number(
        1,
        "Times each query is seen per pass; queries are what the student serves.",
        above=0,
        high=10_000,
    )
    optimizer: OptimizerConfig = section(OptimizerConfig, "AdamW and its schedule.")
    ridge: float = number(
        1e-3,
        "Strength of the ridge solution that W_out starts from, relative to the mean eigenvalue.",
        above=0,
        high=1e6,
    )
    num_ridge_texts: int = number(
        4096, "Texts that solution is computed from.", above=0, high=10**9
    )
    static: StaticConfig = section(StaticConfig, "Of student.kind=static.")
