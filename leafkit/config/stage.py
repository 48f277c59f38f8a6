"""The training stages of a teacher."""

from __future__ import annotations

from dataclasses import dataclass

from leafkit.config.contrastive_loss import ContrastiveLossConfig, MixingConfig, SoftLabelConfig
from leafkit.config.fields import choice, flag, number, numbers, section, text, texts
from leafkit.config.trainer import OptimizerConfig

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
AUTO_TASK = "auto"  # of a source whose rows say theirs
# rows are a text and its label; positives are texts of the same label
LABEL_TASKS = ("classification", "clustering")
# What fills {instruction} where neither row nor source nor stage says it. That of retrieval is
# KaLM-Embedding's own for web search (arXiv 2506.20923), the others are worded after E5-mistral
# (arXiv 2401.00368).
INSTRUCTIONS = {
    "retrieval": "Given a query, retrieve documents that answer the query.",
    "reranking": "Given a query, retrieve documents that answer the query.",
    "sts": "Retrieve semantically similar text",
    "pair_classification": "Retrieve semantically similar text",
    "bitext": "Retrieve the translation of the text",
    "classification": "Classify the text",
    "clustering": "Identify the category of the text",
}
PROMPT_SIDES = ("auto", "query", "both")
PROMPT_POLICIES = ("refuse", "strip", "keep")
IN_BATCH = ("auto", "use", "none")
SHORTFALLS = ("keep", "drop")
ATTENTIONS = ("", "bidirectional", "causal")
POOLING_CHOICES = ("", "mean", "cls", "last")
_MAX_COUNT = 10**9
_MAX_WIDTH = 1_000_000


@dataclass(frozen=True)
class TrainSourceConfig:
    """One source of a stage's training rows."""

    uri: str = text(
        "",
        "builtin:NAME, jsonl:PATH (csv:, tsv:, parquet:), beir:PATH or hf:NAME[:CONFIG]@SPLIT; its "
        "train split is read.",
    )
    task: str = choice(
        AUTO_TASK,
        "What a positive means. auto takes each row's own task, and retrieval where it has none; "
        "any other holds for all rows. Rows of labels are {text, label}, those of sentences "
        "{s1, s2}; both may be {query, positive} too.",
        (AUTO_TASK, *TASKS),
    )
    instruction: str = text(
        "",
        "Fills {instruction} of the stage's template where a row has none of its own; empty takes "
        "the stage's own.",
    )
    prompt_in_query: str = choice(
        "refuse",
        'Queries that hold a prompt already ("Instruct: ... Query: ..."), as KaLM-Embedding\'s '
        "released rows do: strip makes it the row's own instruction, keep trains them under two.",
        PROMPT_POLICIES,
    )
    weight: float = number(
        1.0,
        "Share of the batches drawn from here, relative to the other sources.",
        low=0,
        high=1e9,
    )
    limit: int = number(
        0,
        "Rows taken, drawn by their content, so that a higher limit keeps what a lower one took; 0 "
        "takes all.",
        low=0,
        high=_MAX_COUNT,
    )
    prompt_on: str = choice(
        "auto",
        "both puts the prompt before documents too; auto does so for symmetric tasks, but not "
        "before names of labels.",
        PROMPT_SIDES,
    )
    in_batch: str = choice(
        "auto",
        "none takes no negatives from other rows; auto does so for classification and clustering.",
        IN_BATCH,
    )
    min_score: float = number(
        4.0,
        'Rows {"s1", "s2", "score"} at or above it are positives, the rest is left out.',
        low=-1e6,
        high=1e6,
    )


@dataclass(frozen=True)
class MiningConfig:
    """Hard negatives and the ranking-consistency filter, both out of one search over the source's
    documents.
    """

    model: str = text(
        "",
        "start (the stage's start model), builtin:minilm, builtin:mpnet, stage:NAME or model:...; "
        "empty searches nothing.",
    )
    num_negatives: int = number(
        0, "Hard negatives per row; KaLM-Embedding takes 7.", low=0, high=1000
    )
    first_rank: int = number(
        50,
        "Negatives come from ranks first_rank <= rank < last_rank of the query's ranking.",
        low=0,
        high=1_000_000,
    )
    last_rank: int = number(
        100, "First rank that gives no negatives; see first_rank.", above=0, high=1_000_000
    )
    max_positive_share: float = number(
        0.95,
        "Drops negatives above this share of the positive's score (NV-Retriever's rule and value, "
        "arXiv 2407.15831; KaLM-Embedding states no such rule); 0 is off.",
        low=0,
        high=1,
    )
    min_margin: float = number(
        0.0,
        "Drops negatives that are not this much below the positive's score.",
        low=0,
        high=1000,
    )
    filter_rank: int = number(
        0,
        "Keeps a row only if its positive ranks above this rank; KaLM-Embedding takes 50; 0 keeps "
        "all.",
        low=0,
        high=1_000_000,
    )
    on_shortfall: str = choice(
        "keep",
        "Rows with too few negatives: keep trains them with those found, drop leaves them out.",
        SHORTFALLS,
    )


@dataclass(frozen=True)
class SoupConfig:
    """Average of several checkpoints; a stage with members trains nothing."""

    members: list[str] = texts([], "stage:NAME or model:...")
    weights: list[float] = numbers(
        [], "Shares, one per member; empty takes softmax(-loss / temperature).", low=0, high=1
    )
    temperature: float = number(
        5.0, "Of those weights (LM-Cocktail, arXiv 2311.13534).", above=0, high=1e6
    )
    num_rows: int = number(
        256, "Held-out rows the losses are measured on.", above=0, high=1_000_000
    )


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters through peft; merged into the weights when the stage ends."""

    rank: int = number(0, "Of the adapters; 0 trains all weights.", low=0, high=65_536)
    alpha: float = number(32.0, "Scale: alpha / rank.", above=0, high=1e6)
    targets: list[str] = texts(
        ["q_proj", "k_proj", "v_proj", "o_proj"], "Modules that get an adapter."
    )


def _stage_optimizer() -> OptimizerConfig:
    return OptimizerConfig(lr=5e-5, warmup_ratio=0.1, final_lr_ratio=0.0)


@dataclass(frozen=True)
class StageConfig:
    """One contrastive training stage of a teacher."""

    init: str = text(
        "builtin:minilm",
        "builtin:minilm, builtin:mpnet, stage:NAME of an earlier stage, or "
        "model:FOLDER_OR_HUB_ID@REVISION.",
    )
    architecture: str = text(
        "", "model_type that init must have; dry_run builds tiny weights of it."
    )
    attention: str = choice(
        "",
        "bidirectional removes a decoder's causal mask; empty keeps what the checkpoint says.",
        ATTENTIONS,
    )
    pooling: str = choice("", "Empty keeps what the checkpoint says.", POOLING_CHOICES)
    gradient_checkpointing: bool = flag(
        False, "Recompute activations layer by layer: less memory, a third more time."
    )
    hidden_size: int = number(
        0,
        "Grow the start model to this width before training; 0 keeps it.",
        low=0,
        high=_MAX_WIDTH,
    )
    intermediate_size: int = number(
        0,
        "Width of the feed-forward layers after growing; 0 keeps the ratio.",
        low=0,
        high=_MAX_WIDTH,
    )
    query_template: str = text(
        "Instruct: {instruction} \n Query: {query}",
        "Prompt of queries; the default is KaLM V1's and V2's, byte-exact.",
    )
    instruction: str = text(
        "",
        "What fills {instruction} where neither the row nor its source says it; empty takes a "
        "neutral one by the task: for retrieval KaLM-Embedding's.",
    )
    num_examples: int = number(
        0,
        "Few-shot examples in the prompt, from the training rows (LG-ANNA); those rows train no "
        "more.",
        low=0,
        high=1000,
    )
    example_template: str = text(
        "Instruct: {instruction}\nQuery: {query}\nResponse: {document}\n\n", "Of each example."
    )
    sources: dict[str, TrainSourceConfig] = section(
        dict, "Sources of training rows by name; empty takes data.corpus."
    )
    mining: MiningConfig = section(MiningConfig, "Hard negatives.")
    batching: str = choice(
        "neighbors",
        "neighbors puts similar documents into one batch, random does not.",
        BATCHINGS,
    )
    same_task_ratio: float = number(
        1.0,
        "r of semi-homogeneous batches: share of each batch that is not dealt among sources.",
        low=0,
        high=1,
    )
    neighbor_model: str = text("builtin:minilm", "Whose document vectors say what is similar.")
    num_neighbors: int = number(
        16, "Nearest documents a batch may grow through.", above=0, high=10_000
    )
    num_steps: int = number(100, "Optimizer steps.", above=0, high=_MAX_COUNT)
    batch_size: int = number(
        64, "Rows per optimizer step, over all processes.", above=0, high=10_000_000
    )
    chunk_tokens: int = number(
        0,
        "GradCache: at most this many tokens are held for the backward pass at once; 0 holds all.",
        unit="tokens",
        low=0,
        high=_MAX_COUNT,
    )
    optimizer: OptimizerConfig = section(_stage_optimizer, "AdamW and its schedule.")
    lora: LoraConfig = section(LoraConfig, "Low-rank adapters.")
    loss: ContrastiveLossConfig = section(ContrastiveLossConfig, "The contrastive loss.")
    mixing: MixingConfig = section(MixingConfig, "Synthetic hard negatives.")
    soft_labels: SoftLabelConfig = section(SoftLabelConfig, "Soft labels.")
    question_ratio: float = number(
        0.0,
        "Share of the train queries rewritten as questions (how do I ...) by the rules of English "
        "documentation; for builtin:pydocs alone.",
        low=0,
        high=1,
    )
    anchor_batch_size: int = number(32, "Anchor texts per step.", above=0, high=10_000_000)
    wise_ft_alpha: float = number(
        1.0,
        "Weight of the trained weights in the average with the stage's start (WiSE-FT, arXiv "
        "2109.01903).",
        low=0,
        high=1,
    )
    soup: SoupConfig = section(SoupConfig, "Average of several checkpoints.")
