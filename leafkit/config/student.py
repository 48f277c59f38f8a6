"""The student and its distillation."""

from __future__ import annotations

from dataclasses import dataclass

from leafkit.config.fields import choice, flag, number, section, shares, text
from leafkit.config.stage import ATTENTIONS, POOLING_CHOICES
from leafkit.config.trainer import OptimizerConfig

STUDENT_KINDS = ("transformer", "instant", "static")
HEADS = ("linear", "two_layer", "none")
FITTED_TO = ("best", "documents", "queries", "all")
_MAX_EPOCHS = 100_000
_MAX_WEIGHT = 10_000.0
# need a query's candidate documents
SCORE_TERMS = ("score_kl", "score_mse", "ranking", "triplet", "margin_mse", "contrastive")
TERMS = ("l2", "cosine", "in_batch", "mrl_prefix", "gor", *SCORE_TERMS)
# a part of student.init_layers, between commas
LAYERS = r"(?:(first|last|every):)?([1-9][0-9]*)"
SCORED_TEXTS = ("queries", "all")


def read_layers(asked: str) -> tuple[int, ...] | None:
    """What ``head_layers`` says: the numbers, none of them for the last layer alone; None for all.

    Raises:
        ValueError: it says neither.

    >>> read_layers("last"), read_layers("all"), read_layers("[0, 3, 6]")
    ((), None, (0, 3, 6))
    """
    if asked in ("last", "all"):
        return () if asked == "last" else None
    parts = asked.removeprefix("[").removesuffix("]").split(",")
    if not all(part.strip().isdecimal() and len(part.strip()) < 6 for part in parts):
        raise ValueError("is neither last nor all nor numbers of layers, 0,3,6 say")
    return tuple(int(part) for part in parts)


def _weight(default: float, doc: str) -> float:
    value: float = number(default, doc, low=0, high=_MAX_WEIGHT)
    return value


@dataclass(frozen=True)
class CandidatesConfig:
    """The documents over which a student's scores follow its teacher's; their vectors are the
    teacher's and stay as they are.
    """

    texts: str = choice(
        "queries",
        "Which texts are scored: queries (pseudo-texts are none), or all, documents too.",
        SCORED_TEXTS,
    )
    num_nearest: int = number(
        32, "Of the teacher's own nearest documents, for each text.", above=0, high=10_000
    )
    num_random: int = number(32, "Of all documents, drawn anew for each batch.", low=0, high=10_000)
    temperature: float = number(
        0.05,
        "Scores are divided by it before the softmax of score_kl, both sides', and of contrastive.",
        above=0,
        high=100,
    )
    margin: float = number(
        0.015,
        "By which the first document must score more than another, in triplet.",
        low=0,
        high=2,
    )


@dataclass(frozen=True)
class StudentLosses:
    """Weights of the terms that a transformer student is trained on; 0 leaves a term out.

    A term is a mean over the batch's texts. Those over scores are a sum over its scored texts,
    divided by as many as a batch of its size has on average: a text weighs by the size of its
    batch, as in the other terms, and not by how many beside it are scored.
    """

    l2: float = _weight(1.0, "Squared L2 distance to the teacher's vector (LEAF).")
    cosine: float = _weight(0.0, "1 - cosine to the teacher's vector.")
    score_kl: float = _weight(
        0.0, "KL divergence of the scores over the candidates from the teacher's (soft scores)."
    )
    score_mse: float = _weight(0.0, "Squared difference of those scores.")
    ranking: float = _weight(
        0.0, "Pairs of candidates in the teacher's order, weighed by what a swap costs in nDCG."
    )
    triplet: float = _weight(
        0.0,
        "The candidate that the teacher's scores (with start_weight the start's too) put first "
        "above each other one, by candidates.margin: the part of L_resim (Jasper and Stella) that "
        "is anchored at queries.",
    )
    margin_mse: float = _weight(
        0.0, "Squared difference of the candidates' margins to that first one."
    )
    contrastive: float = _weight(
        0.0,
        "InfoNCE of judged train queries: their relevant documents above the other candidates, all "
        "as the teacher embeds them. Of judged queries alone; the others have no part in it.",
    )
    in_batch: float = _weight(
        0.0, "Squared difference of the batch's similarity matrices (Jasper and Stella)."
    )
    mrl_prefix: float = _weight(
        0.0, "Squared L2 distance at every Matryoshka dimension of the teacher."
    )
    gor: float = _weight(0.0, "Squared similarity of unrelated texts (orthogonality, jina-v5).")
    begin: dict[str, float] = shares(
        {}, "Share of the steps after which a term counts; 0 where not named.", choices=TERMS
    )
    end: dict[str, float] = shares(
        {},
        "Share of the steps after which a term counts no more; 1 where not named. While terms over "
        "scores count alone, batches hold scored texts alone.",
        choices=TERMS,
    )
    candidates: CandidatesConfig = section(CandidatesConfig, "Of the terms over scores.")


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
    num_words: int = number(
        0,
        "Frequent words of the training texts that the tokenizer cuts in pieces and that get a row "
        "of their own; for WordPiece tokenizers.",
        unit="words",
        low=0,
        high=10_000_000,
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
        "transformer; instant: the same with the head alone, its backbone as it came; or "
        "static: a table of token vectors, a hundred times as fast and less able.",
        STUDENT_KINDS,
    )
    init: str = text(
        "builtin:minilm",
        "builtin:minilm, builtin:mpnet or model:FOLDER_OR_HUB_ID@REVISION; static takes its "
        "tokenizer.",
    )
    init_layers: str = text(
        "",
        "Layers of init that the student keeps: numbers from 1, first:N, last:N, every:N (layers "
        "N, 2N, ...), joined by commas (1,6,12 or first:1,last:2); empty keeps all.",
    )
    attention: str = choice(
        "",
        "bidirectional removes a decoder's causal mask; empty keeps what the checkpoint says.",
        ATTENTIONS,
    )
    pooling: str = choice(
        "",
        "Of the hidden states that W_out reads; empty keeps what the checkpoint says.",
        POOLING_CHOICES,
    )
    dim: int = number(
        0,
        "Of the student's vectors: N matches the first N dimensions of a Matryoshka teacher, cut "
        "and normalized again, and the pair, its index included, lives there. 0 matches all of "
        "them.",
        unit="dimensions",
        low=0,
        high=65_536,
    )
    head: str = choice(
        "linear",
        "What maps pooled hidden states into the teacher's space: linear, W_out; two_layer, which "
        "adds W2 gelu(W1 x + b1) to it where that finds more; or none, for hidden states as wide "
        "as the student's vectors. All have a form that sentence-transformers loads.",
        HEADS,
    )
    head_hidden: int = number(
        512, "Width between the two layers.", unit="dimensions", above=0, high=65_536
    )
    head_layers: str = text(
        "last",
        "Whose hidden states W_out reads, side by side: last (the last layer alone); all; or "
        "numbers of the student's layers, the last one among them: 0,3,6. 0 is the embedding "
        "layer. Only last has a form that sentence-transformers loads.",
    )
    token_table: int = number(
        0,
        "Of a table of token vectors beside the transformer, whose mean over a text W_out reads "
        "beside the hidden states; it is fitted with W_out, kept where held-out texts find more "
        "with it, and trained with the rest. 128 costs one to four million parameters and no time. "
        "0 for none, which alone has a form that sentence-transformers loads.",
        unit="dimensions",
        low=0,
        high=65_536,
    )
    token_units: int = number(
        0,
        "Of a layer over each token's last hidden state, before the mean: each answers to what one "
        "kind of token looks like there, so that the mean keeps the words of a text apart. For a "
        "student of many corpora, fitted to many texts. sentence-transformers loads it (tried with "
        "6.2). 0 for none.",
        low=0,
        high=65_536,
    )
    head_bias: bool = flag(True, "W_out adds a bias.")
    head_steps: int = number(
        400,
        "Steps that the head alone takes from the closed form towards the teacher's ranking, on "
        "hidden states that stay as they are: seconds. For the instant student, and where a term "
        "over scores has a weight; what held-out texts find decides which are kept. 0 takes none.",
        low=0,
        high=1_000_000,
    )
    start_weight: float = number(
        0.0,
        "Weight of the start model's own scores beside the teacher's, whose weight is 1, wherever "
        "the student follows scores: in head_steps and in the terms over scores. For a start that "
        "retrieves well as it came; it reads every document once for that.",
        low=0,
        high=100,
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
    minutes: float = number(
        -1.0,
        "Of training: as many batches as fit, by the speed measured first, instead of num_epochs. "
        "0 trains nothing (the instant student), -1 trains num_epochs.",
        unit="minutes",
        low=-1,
        high=1e6,
    )
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
    losses: StudentLosses = section(StudentLosses, "Weighted terms of the loss.")
    ema: float = number(
        0.0,
        "Decay of a moving average of the weights over the steps (0.999, say), less in the first "
        "steps; it is what is checked and kept. 0 keeps the weights themselves.",
        low=0,
        high=0.999999,
    )
    num_checks: int = number(
        8,
        "Times that training is checked on held-out texts; the best of these and of the start is "
        "kept. 0 keeps the end, whatever it is. A static student is checked so often on documents, "
        "and again on queries.",
        low=0,
        high=10_000,
    )
    enough_overlap: float = number(
        0.99,
        "Training ends, or does not begin, where held-out texts find this share of the teacher's "
        "ten nearest documents: int8 vectors lose more. 1 trains on.",
        above=0,
        high=1,
    )
    patience: int = number(
        0,
        "Checks in a row that find no better student, after which training ends; 0 trains on.",
        low=0,
        high=10_000,
    )
    num_held_out: int = number(
        200,
        "Training texts, one in twenty at most, that train nothing: they choose the ridge and the "
        "best check.",
        low=0,
        high=100_000,
    )
    ridge: float = number(
        0.0,
        "Strength of the ridge solution that W_out starts from, relative to the mean eigenvalue; 0 "
        "chooses it and its texts by what held-out texts find.",
        low=0,
        high=1e6,
    )
    fit_to: str = choice(
        "best",
        "Texts that the ridge solution is fitted to: best tries the documents, these and their "
        "queries, and all, and takes what finds most on held-out texts of the corpus; documents, "
        "queries (with the documents) or all takes these. all is for a student of many corpora: "
        "texts of elsewhere cost at home, where best looks. With a ridge, or nothing held out, "
        "best is all.",
        FITTED_TO,
    )
    num_ridge_texts: int = number(
        4096,
        "Texts of each origin (documents, queries, ...), at most, that solution is computed from.",
        above=0,
        high=10**9,
    )
    static: StaticConfig = section(StaticConfig, "Of student.kind=static.")

    @property
    def trains_nothing(self) -> bool:
        """Whether the closed form is the student."""
        return self.kind == "instant" or (self.kind == "transformer" and self.minutes == 0)

    @property
    def trains_on_losses(self) -> bool:
        """Whether ``losses`` are what trains it."""
        return self.kind == "transformer" and not self.trains_nothing
