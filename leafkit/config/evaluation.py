"""What is measured: retrieval, approximate indexes, inheritance."""

from __future__ import annotations

from dataclasses import dataclass

from leafkit.config.data import MAX_TOKENS
from leafkit.config.fields import choice, flag, number, numbers, section, shares, text, texts

QUERY_SPLITS = ("test", "validation", "train")
VECTOR_PRECISIONS = ("float32", "float16", "int8", "int8_fixed", "int4", "binary", "pq")
QUERY_FORMS = ("float", "quantized")
INDEX_KINDS = (
    "flat",
    "hnsw",
    "ivf_flat",
    "ivf_pq",
    "opq",
    "int8",
    "binary",
    "binary_rescored",
    "rabitq",
)
# cheapest first: a table of token vectors, or so many layers of the student's start
LADDER_RUNGS = ("table", "1l", "2l", "3l")
LADDER_INDEXES = ("flat", "hnsw")
EMBEDDING_TASKS = ("sts", "clustering", "classification")
_MAX_BYTES = 1_000_000
_MAX_SWEEP = 10_000_000


@dataclass(frozen=True)
class IndexConfig:
    """faiss indexes compared on the corpus's vectors."""

    kinds: list[str] = texts([], "Which; empty compares none.", choices=INDEX_KINDS)
    hnsw_links: int = number(32, "Links per document in an HNSW graph.", above=0, high=1024)
    ef_search: list[int] = numbers(
        [16, 32, 64, 128, 256],
        "Candidates HNSW keeps while searching.",
        low=1,
        high=_MAX_SWEEP,
        order="rising",
        least_items=1,
    )
    num_lists: int = number(
        0,
        "Clusters of the IVF kinds; 0 takes the nearest power of two to 4 sqrt(documents).",
        low=0,
        high=_MAX_SWEEP,
    )
    num_probes: list[int] = numbers(
        [1, 4, 16, 64],
        "Clusters looked into.",
        low=1,
        high=_MAX_SWEEP,
        order="rising",
        least_items=1,
    )
    code_bytes: int = number(
        0,
        "Per vector of the PQ kinds; 0 takes a bit per dimension.",
        unit="bytes",
        low=0,
        high=_MAX_BYTES,
    )
    rescore_factors: list[int] = numbers(
        [2, 4, 10],
        "binary_rescored: this many times k candidates are scored again.",
        low=1,
        high=1_000_000,
        order="rising",
        least_items=1,
    )
    target_recall: float = number(
        0.95,
        "Of the exact top 10; queries/s is quoted at the cheapest setting that reaches it.",
        low=0,
        high=1,
    )


@dataclass(frozen=True)
class BenchConfig:
    """What is measured, and how often it is resampled."""

    collections: list[str] = texts([], "Measured beside the corpus.")
    split: str = choice("test", "Judged queries of this split.", QUERY_SPLITS)
    num_resamples: int = number(
        10_000, "Of the paired bootstrap and of the randomization test.", above=0, high=10_000_000
    )
    max_document_tokens: int = number(
        0,
        "Documents of the other collections are cut here; 0 takes each model's own limit.",
        unit="tokens",
        low=0,
        high=MAX_TOKENS,
    )
    student: str = text(
        "",
        "recipe:NAME, or any other reference that teacher.source takes, instead of the recipe's "
        "own student.",
    )
    same_space: bool = flag(
        False,
        "You vouch that student and teacher share a space that the student's files do not name.",
    )
    baseline: str = text(
        "builtin:minilm", "A third encoder measured as it came; empty leaves it out."
    )
    tasks: list[str] = texts([], "sts:PATH, clustering:PATH or classification:PATH of jsonl rows.")
    indexes: IndexConfig = section(IndexConfig, "Approximate indexes.")
    contamination: bool = flag(True, "Count evaluation texts that training saw.")
    training_sources: list[str] = texts([], "Texts that models not made here were trained on.")
    overlap_words: int = number(
        13, "Near duplicates share a run of this many words.", above=0, high=10_000
    )
    num_latency_queries: int = number(
        200, "Single queries timed per encoder.", low=0, high=1_000_000
    )
    num_samples: int = number(6, "Queries shown with both rankings.", low=0, high=1000)


@dataclass(frozen=True)
class InheritConfig:
    """Gates on what the student keeps, relative to the teacher under the same setting."""

    dims: list[int] = numbers(
        [], "Matryoshka dimensions; empty takes the teacher's.", low=1, high=1_000_000
    )
    precisions: list[str] = texts(
        ["float32", "int8", "binary"],
        "Of the stored vectors.",
        choices=VECTOR_PRECISIONS,
        least_items=1,
    )
    queries: list[str] = texts(
        ["float"],
        "float, quantized: as the stored vectors are.",
        choices=QUERY_FORMS,
        least_items=1,
    )
    rescoring: list[int] = numbers(
        [0],
        "Times k candidates scored again in float32; 0 does not.",
        low=0,
        high=1_000_000,
        least_items=1,
    )
    int8_range: float = number(
        0.0,
        "int8_fixed stores -range to range; 0 takes the documents' largest absolute value.",
        low=0,
        high=1e6,
    )
    pq_bytes: int = number(
        0,
        "Per vector of pq; 0 takes a bit per dimension, as binary.",
        unit="bytes",
        low=0,
        high=_MAX_BYTES,
    )
    max_gap: dict[str, float] = shares(
        {
            "float32": 0.02,
            "float16": 0.02,
            "int8": 0.02,
            "int8_fixed": 0.02,
            "int4": 0.03,
            "binary": 0.03,
            "pq": 0.03,
        },
        "By how much the student's retention may fall short of the teacher's own, per precision.",
        choices=VECTOR_PRECISIONS,
    )
    min_retention: float = number(
        0.9,
        "Share of the teacher's nDCG@10 that a student must keep at full size in float32; below "
        "it nothing is inherited, whatever the student keeps of itself.",
        low=0,
        high=1,
    )
    strict: bool = flag(False, "Undecided settings fail too.")
    diagnose: bool = flag(False, "Examine the teacher alone, before any student is trained.")
    ranks: list[int] = numbers(
        [],
        "Of the maps that diagnose fits; empty takes 64, 128, ...",
        low=1,
        high=1_000_000,
    )


@dataclass(frozen=True)
class LadderConfig:
    """Cheap rungs below the student, and what a router over them promises."""

    rungs: list[str] = texts(
        ["table", "3l"],
        "Fitted in closed form below the recipe's student: table, a table of token vectors; 3l, "
        "three layers of student.init. Empty routes between student and teacher alone.",
        choices=LADDER_RUNGS,
    )
    promises: list[float] = numbers(
        [0.9, 0.95, 0.98, 0.99],
        "Shares of the teacher's nDCG@10 that leafkit serve can be told to hold, each with 95% "
        "confidence.",
        above=0,
        high=0.9999,
        order="rising",
        least_items=1,
    )
    index: str = choice(
        "flat",
        "That all rungs search, and that leafkit serve has to be started with: flat, or hnsw at "
        "the most accurate of its settings.",
        LADDER_INDEXES,
    )
