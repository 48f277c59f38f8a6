"""The schema of a recipe: frozen dataclasses. Every field has its type, its unit and a sentence.

This module knows neither YAML nor files. ``leafkit.config.load`` turns text into these classes;
``leafkit.config.validate`` says which values are allowed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

BAD_ROW_POLICIES = ("error", "skip")
OWN_DOCUMENT_POLICIES = ("auto", "always", "never")
DEVICES = ("auto", "cpu", "cuda", "npu", "mps")
PRECISIONS = ("auto", "float32", "bf16")
BATCHINGS = ("random", "neighbors")
TASKS = (
    "retrieval",
    "reranking",
    "sts",
    "pair_classification",
    "bitext",
    "classification",
    "clustering",
)
# rows are a text and its label; positives are texts of the same label
LABEL_TASKS = (
    "classification",
    "clustering",
)
PROMPT_SIDES = ("auto", "query", "both")
IN_BATCH = ("auto", "use", "none")
SHORTFALLS = ("keep", "drop")
SOFT_KINDS = ("kl", "mse")
ATTENTIONS = ("", "bidirectional", "causal")
STUDENT_KINDS = ("transformer", "static")
POOLING_CHOICES = ("", "mean", "cls", "last")
SYNTH_LANGUAGES = ("en", "zh", "fr", "pl")
SYNTH_TASKS = ("short_long", "long_short", "short_short", "long_long", "sts", "bitext")
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
EMBEDDING_TASKS = ("sts", "clustering", "classification")


@dataclass(frozen=True)
class SourceConfig:
    """One more source of training texts for the student."""

    uri: str = ""  # builtin:NAME, jsonl:PATH, beir:PATH or hf:NAME[:CONFIG]@SPLIT
    limit: int = 0  # texts taken, in the source's order; 0 takes all


@dataclass(frozen=True)
class DataConfig:
    """The collection to serve, and what else training reads."""

    # the collection that is indexed; its train queries train, its test queries measure
    corpus: str = "builtin:pydocs"
    # whose documentation builtin:pydocs reads
    packages: list[str] = field(
        default_factory=lambda: [
            "stdlib",
            "torch",
            "numpy",
            "scipy",
            "sklearn",
            "pandas",
            "networkx",
        ]
    )
    # whose documentation builtin:pydocs-out-of-domain reads; never trained on
    out_of_domain_packages: list[str] = field(
        default_factory=lambda: [
            "aiohttp",
            "click",
            "fsspec",
            "jinja2",
            "joblib",
            "rich",
        ]
    )
    # texts beside home's that train the student
    sources: dict[str, SourceConfig] = field(default_factory=dict)
    on_bad_row: str = "error"  # error stops at the first bad row; skip counts it and goes on
    max_bad_rows: int = 100  # rows that skip may drop per file before it stops all the same
    max_query_tokens: int = 64  # queries are cut here, prompt included
    max_document_tokens: int = 64  # documents are cut here; the teacher's cost grows with it
    # a document with the query's id is not retrieved: auto where it is the query's text too
    exclude_self: str = "auto"
    max_train_queries: int = 0  # train queries that the student learns from; 0 takes all
    num_pseudo_texts: int = (
        2048  # texts of random vocabulary words, seen by stages (as anchors) and by the student
    )


@dataclass(frozen=True)
class TeacherConfig:
    """Where the document vectors come from."""

    # recipe:NAME, builtin:minilm, model:FOLDER_OR_HUB_ID@REVISION, vectors:FOLDER or endpoint:MODEL
    source: str = ""
    revision: str = (
        ""  # 40-hex commit of a hub model; needed for hub ids, so that the space cannot change
    )
    trust_remote_code: bool = (
        False  # run code that comes with a hub model; asks for a pinned revision
    )
    query_prompt: str = (
        ""  # put before queries by an endpoint's model; models on disk know their own
    )
    document_prompt: str = ""  # likewise, before documents
    # Matryoshka dimensions of vectors: and endpoint: teachers
    mrl_dims: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class EmbeddingsConfig:
    """How endpoint:MODEL is reached: any OpenAI-compatible embeddings endpoint."""

    # of the endpoint, http://localhost:8000/v1 say; empty takes $OPENAI_BASE_URL, else OpenAI's own
    base_url: str = ""
    api_key_env: str = (
        "OPENAI_API_KEY"  # environment variable that holds the key; a recipe never does
    )
    dimensions: int = 0  # asked of the endpoint; 0 takes what it gives
    texts_per_request: int = 64  # in one request
    max_concurrency: int = 4  # requests in flight
    max_retries: int = 5  # per request, with exponential backoff, for 429, 5xx and timeouts
    backoff_s: float = 1.0  # wait before the first retry; doubles, unless the server says how long
    timeout_s: float = 60.0  # of one request


@dataclass(frozen=True)
class TrainSourceConfig:
    """One source of a stage's training rows."""

    uri: str = (
        ""  # builtin:NAME, jsonl:PATH, beir:PATH or hf:NAME[:CONFIG]@SPLIT; its train split is read
    )
    # what a positive means; classification and clustering rows are {"text", "label"}
    task: str = "retrieval"
    instruction: str = (
        ""  # fills {instruction} of the stage's template; empty takes the stage's own
    )
    weight: float = 1.0  # share of the batches drawn from here, relative to the other sources
    limit: int = 0  # rows taken, in the source's order; 0 takes all
    prompt_on: str = (
        "auto"  # both puts the prompt before documents too; auto does so for symmetric tasks
    )
    # none takes no negatives from other rows; auto does so for classification and clustering
    in_batch: str = "auto"
    min_score: float = (
        4.0  # sts rows {"s1", "s2", "score"} at or above it are positives, the rest is left out
    )


@dataclass(frozen=True)
class MiningConfig:
    """Hard negatives and the ranking-consistency filter, both out of one search over the source's
    documents.
    """

    # start (the stage's start model), builtin:minilm, stage:NAME or model:...; empty searches
    # nothing
    model: str = ""
    num_negatives: int = 0  # hard negatives per row; KaLM-Embedding takes 7
    first_rank: int = (
        50  # negatives come from ranks first_rank <= rank < last_rank of the query's ranking
    )
    last_rank: int = 100  # see first_rank
    max_positive_share: float = (
        0.95  # drops negatives above this share of the positive's score (NV-Retriever); 0 is off
    )
    min_margin: float = 0.0  # drops negatives that are not this much below the positive's score
    # keeps a row only if its positive ranks above this rank; KaLM-Embedding takes 50; 0 keeps all
    filter_rank: int = 0
    # rows with too few negatives: keep trains them with those found, drop leaves them out
    on_shortfall: str = "keep"


@dataclass(frozen=True)
class MixingConfig:
    """Synthetic hard negatives (KaLM-Embedding V2, arXiv 2506.20923)."""

    num_pairwise: int = 0  # per row: lambda n_1 + (1 - lambda) n_2 of two of its hard negatives
    # per row: similarity-weighted sums of all its hard negatives; more than one draws subsets
    num_listwise: int = 0
    beta: float = 2.0  # lambda ~ Beta(beta, beta)
    temperature: float = 0.1  # of the softmax that weighs listwise mixing; the paper gives none


@dataclass(frozen=True)
class SoftLabelConfig:
    """Soft labels over each row's own candidates: its positive and its hard negatives."""

    # rows, bm25, builtin:minilm, stage:NAME or model:...; averaged
    models: list[str] = field(default_factory=list)
    kind: str = "kl"  # kl of the softmaxes (KaLM-Embedding V2.5) or mse of the scores (LG-ANNA)
    weight: float = 1.0  # of this term beside the contrastive one
    temperature: float = (
        0.05  # of both softmaxes; the teacher's scores collapse to one-hot at .02 and below
    )
    contrastive_weight: float = (
        1.0  # of the contrastive term beside this one; 0 trains on soft labels alone
    )
    query_template: str = ""  # prompt of those models; empty takes each model's own


@dataclass(frozen=True)
class SoupConfig:
    """Average of several checkpoints; a stage with members trains nothing."""

    members: list[str] = field(default_factory=list)  # stage:NAME or model:...
    # one per member; empty takes softmax(-loss / temperature)
    weights: list[float] = field(default_factory=list)
    temperature: float = 5.0  # of those weights (LM-Cocktail, arXiv 2311.13534)
    num_rows: int = 256  # held-out rows the losses are measured on


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters through peft; merged into the weights when the stage ends."""

    rank: int = 0  # of the adapters; 0 trains all weights
    alpha: float = 32.0  # scale: alpha / rank
    # modules that get one
    targets: list[str] = field(default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj"])


@dataclass(frozen=True)
class StageConfig:
    """One contrastive training stage of a teacher."""

    # builtin:minilm, stage:NAME of an earlier stage, or model:FOLDER_OR_HUB_ID@REVISION
    init: str = "builtin:minilm"
    architecture: str = ""  # model_type that init must have; dry_run builds tiny weights of it
    attention: str = (
        ""  # bidirectional takes a decoder's causal mask away; empty keeps what the checkpoint says
    )
    pooling: str = ""  # mean, cls or last; empty keeps what the checkpoint says
    gradient_checkpointing: bool = (
        False  # recompute activations layer by layer: less memory, a third more time
    )
    hidden_size: int = 0  # grow the start model to this width before training; 0 keeps it
    intermediate_size: int = 0  # width of the feed-forward layers after growing; 0 keeps the ratio
    query_template: str = "Instruct: {instruction} \n Query: {query}"  # KaLM V1/V2, byte-exact
    instruction: str = "Find the documentation"  # what fills {instruction}
    num_examples: int = (
        0  # few-shot examples in the prompt, from the training rows (LG-ANNA); they train no more
    )
    example_template: str = (
        "Instruct: {instruction}\nQuery: {query}\nResponse: {document}\n\n"  # of each example
    )
    # of training rows; empty takes data.corpus
    sources: dict[str, TrainSourceConfig] = field(default_factory=dict)
    mining: MiningConfig = field(default_factory=MiningConfig)
    batching: str = "neighbors"  # neighbors puts similar documents into one batch, random does not
    same_task_ratio: float = (
        1.0  # r of semi-homogeneous batches: share of each batch that is not dealt among sources
    )
    neighbor_model: str = "builtin:minilm"  # whose document vectors say what is similar
    num_neighbors: int = 16  # nearest documents a batch may grow through
    num_steps: int = 100  # optimiser steps
    batch_size: int = 64  # rows per optimiser step, over all processes
    chunk_tokens: int = (
        0  # GradCache: at most this many tokens are held for the backward pass at once; 0 holds all
    )
    lr: float = 5e-5  # peak learning rate of AdamW
    warmup_ratio: float = 0.1  # share of the steps that the learning rate climbs
    weight_decay: float = 0.01  # AdamW's, on matrices only
    max_grad_norm: float = 1.0  # gradients are scaled down to this length
    lora: LoraConfig = field(default_factory=LoraConfig)
    temperature: float = 0.05  # tau of InfoNCE
    false_negative_margin: float = (
        0.1  # candidates this much above the positive's cosine are masked
    )
    focal_gamma: float = 0.0  # weight (1 - p)^gamma of each row; KaLM-Embedding V2 takes .5
    mixing: MixingConfig = field(default_factory=MixingConfig)
    soft: SoftLabelConfig = field(default_factory=SoftLabelConfig)
    gor_weight: float = 0.0  # of the mean squared off-diagonal similarity (GOR, arXiv 1708.06320)
    # Matryoshka dimensions, largest first; empty takes the full one
    mrl_dims: list[int] = field(default_factory=list)
    mrl_weights: list[float] = field(default_factory=list)  # weight of the loss at each dimension
    question_ratio: float = (
        0.25  # share of the train queries rewritten as questions ("how do I ...")
    )
    anchor_weight: float = (
        1.0  # weight of the squared distance to the start model on the anchor texts
    )
    anchor_batch_size: int = 32  # anchor texts per step
    wise_ft_alpha: float = (
        1.0  # weight of the trained weights in the average with the stage's start (WiSE-FT)
    )
    soup: SoupConfig = field(default_factory=SoupConfig)


@dataclass(frozen=True)
class SynthConfig:
    """Persona-based synthetic rows from a chat model behind an OpenAI-compatible endpoint."""

    # of the endpoint, http://localhost:8000/v1 say; empty takes $OPENAI_BASE_URL, else OpenAI's own
    base_url: str = ""
    model: str = ""  # name the endpoint knows the chat model by
    api_key_env: str = (
        "OPENAI_API_KEY"  # environment variable that holds the key; a recipe never does
    )
    personas: str = "builtin"  # builtin, or jsonl:PATH of {"persona", "language", "id"?}
    # of personas and rows
    languages: list[str] = field(default_factory=lambda: list(SYNTH_LANGUAGES))
    tasks: list[str] = field(default_factory=lambda: list(SYNTH_TASKS))  # task types
    # tasks, dealt over the types, then the languages; sts and bitext have a fixed instruction
    num_instructions: int = 100
    rows_per_instruction: int = 4  # rows to write for each
    num_negatives: int = 1  # hard negatives per row
    temperature: float = 1.0  # of the chat model
    max_output_tokens: int = 1024  # of one answer
    max_concurrency: int = 8  # requests in flight
    # per request, with exponential backoff, for 429, 5xx, timeouts and answers that are no rows
    max_retries: int = 5
    backoff_s: float = 1.0  # wait before the first retry; doubles, unless the server says how long
    timeout_s: float = 60.0  # of one request
    price_per_million_input_tokens: float = 0.0  # for the estimate shown before anything is sent
    price_per_million_output_tokens: float = 0.0  # likewise
    max_cost: float = (
        0.0  # does not start above this estimate, stops where as much is spent; 0 is no limit
    )


@dataclass(frozen=True)
class StaticConfig:
    """A lookup-table student: one vector per token, averaged (student.kind=static)."""

    width: int = 384  # of the table, before the linear map onto the teacher's dimensions
    document_epochs: float = 4.0  # passes over the documents, first
    query_epochs: float = 8.0  # passes over the queries, after them
    lr: float = 1e-2  # peak learning rate on documents
    query_lr: float = 3e-3  # peak learning rate on queries
    texts_per_batch: int = 256  # texts per optimiser step


@dataclass(frozen=True)
class StudentConfig:
    """The student and its distillation (LEAF, arXiv 2509.12539)."""

    # transformer, or static: a table of token vectors, a hundred times as fast and less able
    kind: str = "transformer"
    static: StaticConfig = field(default_factory=StaticConfig)
    # builtin:minilm or model:FOLDER_OR_HUB_ID@REVISION; static takes its tokenizer
    init: str = "builtin:minilm"
    tokens_per_batch: int = 2048  # padded tokens per optimiser step, over all processes
    max_texts_per_batch: int = 128  # texts per optimiser step, over all processes
    num_epochs: float = 1.0  # passes over the texts
    question_ratio: float = (
        0.25  # share of the train queries rewritten as questions ("how do I ...")
    )
    query_repeats: int = 1  # times each query is seen per pass; queries are what the student serves
    lr: float = 1e-4  # peak learning rate of AdamW
    final_lr_ratio: float = 0.1  # learning rate of the last step as a share of the peak
    warmup_ratio: float = 0.05  # share of the steps that the learning rate climbs
    weight_decay: float = 0.01  # AdamW's, on matrices only
    max_grad_norm: float = 1.0  # gradients are scaled down to this length
    # strength of the ridge solution that W_out starts from, relative to the mean eigenvalue
    ridge: float = 1e-3
    num_ridge_texts: int = 4096  # texts that solution is computed from


@dataclass(frozen=True)
class IndexConfig:
    """faiss indexes compared on the home collection's vectors."""

    kinds: list[str] = field(default_factory=list)  # which; empty compares none
    hnsw_links: int = 32  # links per document in an HNSW graph
    # candidates HNSW keeps while searching
    ef_search: list[int] = field(default_factory=lambda: [16, 32, 64, 128, 256])
    num_lists: int = (
        0  # clusters of the IVF kinds; 0 takes the nearest power of two to 4 sqrt(documents)
    )
    num_probes: list[int] = field(default_factory=lambda: [1, 4, 16, 64])  # clusters looked into
    code_bytes: int = 0  # bytes per vector of the PQ kinds; 0 takes a bit per dimension
    # binary_rescored: of this many times k
    rescore_factors: list[int] = field(default_factory=lambda: [2, 4, 10])
    target_recall: float = (
        0.95  # of the exact top 10; queries/s is quoted at the cheapest setting that reaches it
    )


@dataclass(frozen=True)
class BenchConfig:
    """What is measured, and how often it is resampled."""

    # measured beside home
    collections: list[str] = field(default_factory=lambda: ["builtin:pydocs-out-of-domain"])
    split: str = "test"  # judged queries of this split
    num_resamples: int = 10_000  # of the paired bootstrap and of the randomisation test
    max_document_tokens: int = 256  # documents of the other collections are cut here
    # recipe:NAME, or any other reference that teacher.source takes, instead of the recipe's own
    # student
    student: str = ""
    # you vouch that student and teacher share a space that the student's files do not name
    same_space: bool = False
    baseline: str = "builtin:minilm"  # a third encoder measured as it came; "" leaves it out
    # sts:PATH, clustering:PATH or classification:PATH of jsonl rows
    tasks: list[str] = field(default_factory=list)
    indexes: IndexConfig = field(default_factory=IndexConfig)
    contamination: bool = True  # count evaluation texts that training saw
    # texts that models not made here were trained on
    training_sources: list[str] = field(default_factory=list)
    overlap_words: int = 13  # near duplicates share a run of this many words
    num_latency_queries: int = 200  # single queries timed per encoder
    num_samples: int = 6  # queries shown with both rankings


@dataclass(frozen=True)
class InheritConfig:
    """Gates on what the student keeps, relative to the teacher under the same setting."""

    # Matryoshka dimensions; empty takes the teacher's
    dims: list[int] = field(default_factory=list)
    # of the stored vectors
    precisions: list[str] = field(default_factory=lambda: ["float32", "int8", "binary"])
    # float, quantized: as the stored vectors are
    queries: list[str] = field(default_factory=lambda: ["float"])
    # times k candidates scored again in float32; 0 does not
    rescoring: list[int] = field(default_factory=lambda: [0])
    int8_range: float = (
        0.0  # int8_fixed stores -range to range; 0 takes the documents' largest absolute value
    )
    pq_bytes: int = 0  # bytes per vector of pq; 0 takes a bit per dimension, as binary
    # by how much the student's retention may fall short of the teacher's own, per precision
    max_gap: dict[str, float] = field(
        default_factory=lambda: {
            "float32": 0.02,
            "float16": 0.02,
            "int8": 0.02,
            "int8_fixed": 0.02,
            "int4": 0.03,
            "binary": 0.03,
            "pq": 0.03,
        }
    )
    strict: bool = False  # undecided settings fail too
    diagnose: bool = False  # examine the teacher alone, before any student is trained
    # of the maps that diagnose fits; empty takes 64, 128, ...
    ranks: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Recipe:
    """A whole run."""

    name: str = ""  # the recipe's name; its artifacts are under checkpoints/NAME
    seed: int = 42  # of everything random
    checkpoints: str = "checkpoints"  # folder that holds all artifacts
    device: str = "auto"  # auto takes cuda, then npu, then mps, then cpu
    precision: str = (
        "auto"  # of the arithmetic; auto takes bf16 where a short probe finds it faster
    )
    force: bool = False  # run stages again although their inputs have not changed
    # every stage of teach on tiny random weights of the same architecture, two steps each
    dry_run: bool = False
    data: DataConfig = field(default_factory=DataConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    embeddings: EmbeddingsConfig = field(default_factory=EmbeddingsConfig)
    # the teacher's training, in this order
    stages: dict[str, StageConfig] = field(default_factory=dict)
    synth: SynthConfig = field(default_factory=SynthConfig)
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
