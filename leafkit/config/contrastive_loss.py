"""The terms of the contrastive loss; handed to the training module as they are."""

from __future__ import annotations

from dataclasses import dataclass

from leafkit.config.fields import choice, number, numbers, text, texts

SOFT_KINDS = ("kl", "mse")
_MAX_WEIGHT = 1e6


@dataclass(frozen=True)
class ContrastiveLossConfig:
    """InfoNCE at every Matryoshka dimension, and the terms beside it."""

    temperature: float = number(0.05, "Tau of InfoNCE.", above=0, high=1000)
    false_negative_margin: float = number(
        0.1,
        "Candidates this much above the positive's cosine are taken for false negatives and masked "
        "(Qwen3-Embedding's rule and value, arXiv 2506.05176; KaLM-Embedding states none). 2 is "
        "off: no two cosines are further apart.",
        unit="cosine",
        low=0,
        high=2,
    )
    focal_gamma: float = number(
        0.0,
        "Weight (1 - p)^gamma of each row; KaLM-Embedding V2 takes .5.",
        low=0,
        high=100,
    )
    contrastive_weight: float = number(
        1.0,
        "Of InfoNCE beside the other terms; 0 trains on soft labels alone.",
        low=0,
        high=_MAX_WEIGHT,
    )
    gor_weight: float = number(
        0.0,
        "Of the orthogonality regularizer, the mean squared off-diagonal similarity (GOR, arXiv "
        "1708.06320).",
        low=0,
        high=_MAX_WEIGHT,
    )
    anchor_weight: float = number(
        1.0,
        "Of the squared distance to the start model on the anchor texts.",
        low=0,
        high=_MAX_WEIGHT,
    )
    mrl_dims: list[int] = numbers(
        [],
        "Matryoshka dimensions, largest first; empty takes the full one.",
        low=1,
        high=1_000_000,
        order="falling",
    )
    mrl_weights: list[float] = numbers(
        [], "Weight of the loss at each Matryoshka dimension.", low=0, high=_MAX_WEIGHT
    )


@dataclass(frozen=True)
class MixingConfig:
    """Synthetic hard negatives (KaLM-Embedding V2, arXiv 2506.20923)."""

    num_pairwise: int = number(
        0,
        "Per row: lambda n_1 + (1 - lambda) n_2 of two of its hard negatives.",
        low=0,
        high=1000,
    )
    num_listwise: int = number(
        0,
        "Per row: similarity-weighted sums of all its hard negatives; more than one draws subsets.",
        low=0,
        high=1000,
    )
    beta: float = number(2.0, "lambda ~ Beta(beta, beta).", above=0, high=1e6)
    temperature: float = number(
        0.1,
        "Of the softmax that weighs listwise mixing; the paper gives none.",
        above=0,
        high=1000,
    )


@dataclass(frozen=True)
class SoftLabelConfig:
    """Soft labels over each row's own candidates: its positive and its hard negatives."""

    models: list[str] = texts(
        [],
        "Whose scores are the labels: rows, bm25, builtin:minilm, builtin:mpnet, stage:NAME, "
        "model:... Those of several are brought to one scale, then averaged.",
    )
    kind: str = choice(
        "kl",
        "kl of the softmaxes (KaLM-Embedding V2.5) or mse of the scores (LG-ANNA).",
        SOFT_KINDS,
    )
    weight: float = number(1.0, "Of this term beside the contrastive one.", low=0, high=_MAX_WEIGHT)
    temperature: float = number(
        0.05,
        "Of both softmaxes; the teacher's scores collapse to one-hot at .02 and below.",
        above=0,
        high=1000,
    )
    query_template: str = text(
        "",
        "Prompt of those models, with the row's, source's or stage's instruction and no few-shot "
        "examples; empty takes each model's own.",
    )
