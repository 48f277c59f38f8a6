"""What is read: the corpus that is served, and what training reads beside it."""

from __future__ import annotations

from dataclasses import dataclass

from leafkit.config.fields import choice, names, number, section, text, texts

BAD_ROW_POLICIES = ("error", "skip")
COLUMN_NAMES = (
    "text",
    "title",
    "id",
    "query",
    "positive",
    "positives",
    "positive_ids",
    "negatives",
    "negative_ids",
    "scores",
    "instruction",
    "task",
    "split",
    "label",
    "s1",
    "s2",
    "score",
)
SOURCE_TAKES = ("all", "queries", "documents", "as_queries")
SOURCE_CHOICES = ("random", "leverage")
OWN_DOCUMENT_POLICIES = ("auto", "always", "never")
MADE_QUERY_VECTORS = ("teacher", "source")
MAX_TOKENS = 1_000_000  # longer texts than any model takes
_MAX_COUNT = 10**9


@dataclass(frozen=True)
class SourceConfig:
    """One more source of training texts for the student."""

    uri: str = text(
        "", "builtin:NAME, jsonl:PATH (csv:, tsv:, parquet:), beir:PATH or hf:NAME[:CONFIG]@SPLIT."
    )
    limit: int = number(
        0,
        "Texts taken of each role (of hf: that many rows), as choose says; a higher limit keeps "
        "what a lower one took. 0 takes all.",
        low=0,
        high=_MAX_COUNT,
    )
    take: str = choice(
        "all",
        "all takes documents and train queries; queries or documents these alone; as_queries takes "
        "plain texts that are questions, and trains them as queries.",
        SOURCE_TAKES,
    )
    choose: str = choice(
        "random",
        "Which texts limit takes: random draws them by their content. leverage takes first what "
        "the texts before it say least of, by the start model, which reads all of them (of hf: "
        "the rows that limit drew); the teacher embeds them in this order.",
        SOURCE_CHOICES,
    )


@dataclass(frozen=True)
class DataConfig:
    """The corpus to serve, and what else training reads."""

    corpus: str = text(
        "",
        "The collection that is indexed; its train queries train, its test queries measure. "
        "builtin:NAME, jsonl:PATH, beir:PATH, hf:NAME[:CONFIG]@SPLIT, ...",
    )
    packages: list[str] = texts(
        ["stdlib", "torch", "numpy", "scipy", "sklearn", "pandas", "networkx"],
        "Python packages whose documentation builtin:pydocs reads.",
    )
    out_of_domain_packages: list[str] = texts(
        ["aiohttp", "click", "fsspec", "jinja2", "joblib", "rich"],
        "Packages whose documentation builtin:pydocs-out-of-domain reads; never trained on.",
    )
    sources: dict[str, SourceConfig] = section(
        dict, "Texts beside the corpus's that train the student."
    )
    on_bad_row: str = choice(
        "error", "error stops at the first bad row; skip counts it and goes on.", BAD_ROW_POLICIES
    )
    max_bad_rows: int = number(
        100,
        "Rows that skip may drop per file before it stops all the same.",
        low=0,
        high=_MAX_COUNT,
    )
    columns: dict[str, str] = names(
        {},
        "Names of columns in rows of files and of hf, where they are others: "
        "data.columns.query=question reads the column question as the query.",
        choices=COLUMN_NAMES,
    )
    ignore_columns: list[str] = texts(
        [], "Columns of such rows that are left out; others without a use are named or refused."
    )
    max_query_tokens: int = number(
        0,
        "Queries are cut here, prompt included; 0 takes each model's own limit.",
        unit="tokens",
        low=0,
        high=MAX_TOKENS,
    )
    max_document_tokens: int = number(
        0,
        "Documents are cut here, prompt included; 0 takes each model's own limit. The teacher's "
        "cost grows with it.",
        unit="tokens",
        low=0,
        high=MAX_TOKENS,
    )
    exclude_self: str = choice(
        "auto",
        "Whether a document with the query's id is left out of its results; auto does so where it "
        "is the query's text too.",
        OWN_DOCUMENT_POLICIES,
    )
    max_train_queries: int = number(
        0, "Train queries that the student learns from; 0 takes all.", low=0, high=_MAX_COUNT
    )
    num_made_queries: int = number(
        0,
        "Titles and sentences of the corpus's documents that the student learns as queries, where "
        "train queries are few; the teacher embeds them.",
        low=0,
        high=10**7,
    )
    made_query_vectors: str = choice(
        "teacher",
        "Whose vectors those queries have: teacher, which embeds them; or source, the vector of "
        "the document that each was made of, for a teacher that can be asked no more.",
        MADE_QUERY_VECTORS,
    )
    num_pseudo_texts: int = number(
        2048,
        "Texts of random vocabulary words, seen by stages (as anchors) and by the student.",
        low=0,
        high=10**7,
    )
