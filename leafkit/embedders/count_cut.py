"""How much of texts a model does not read, because they are longer than its limit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leafkit.core.console import log
from leafkit.embedders.onnx_graph import OnnxGraphEmbedder
from leafkit.embedders.protocol import Embedder
from leafkit.models.encoder_protocol import Encoder
from leafkit.results import CutTexts

_MOST_BYTES = 4_000_000  # counted exactly, in a few seconds; of more text a random sample
_SPECIALS = 4  # special tokens around a text, at most
_LONGEST = 64  # texts looked at where a sample holds none that is cut


def count_cut(
    encoder: Encoder, texts: Sequence[str], role: str, max_tokens: int, *, model: str, what: str
) -> CutTexts:
    """Count the texts that a model cuts, and the tokens of all texts that it does not read.

    A token is a byte at least, so that short texts need no tokenizer; of more than
    ``_MOST_BYTES`` a random sample is counted, the same every time.

    Args:
        encoder: reads them.
        texts: n texts.
        role: decides about the prompt.
        max_tokens: where they are cut; 0 takes the model's own limit.
        model: its name, for the result.
        what: what the texts are, for the result.
    """
    limit, prompt = encoder.limit(max_tokens), len(encoder.prompt(role).encode())
    sizes = np.array([len(text.encode("utf-8", "replace")) for text in texts], dtype=np.int64)
    may_be_cut = sizes + prompt + _SPECIALS > limit
    if not may_be_cut.any():
        return CutTexts(
            model=model,
            texts=what,
            limit=limit,
            num_texts=len(texts),
            num_cut=0,
            num_tokens=0,
            num_read=0,
        )
    rows = np.random.default_rng(0).permutation(len(texts))
    rows = rows[: max(1, int(np.searchsorted(np.cumsum(sizes[rows]), _MOST_BYTES)) + 1)]
    counts = np.array(encoder.count_uncut([texts[i] for i in rows], role))
    is_sample = len(rows) < len(texts)
    num_cut, scale = int((counts > limit).sum()), len(texts) / len(rows)
    if is_sample and not num_cut:
        longest = np.argsort(-sizes, kind="stable")[:_LONGEST]
        lengths = np.array(encoder.count_uncut([texts[i] for i in longest], role))
        num_cut, scale_of_cut = int((lengths > limit).sum()), 1.0
    else:
        scale_of_cut = scale
    return CutTexts(
        model,
        what,
        limit,
        num_texts=len(texts),
        num_cut=round(num_cut * scale_of_cut),
        num_tokens=round(int(counts.sum()) * scale),
        num_read=round(int(np.minimum(counts, limit).sum()) * scale),
        is_sample=is_sample,
    )


def uncut_lengths(model: Embedder, texts: Sequence[str], role: str) -> list[int] | None:
    """Tokens of each text with its prompt and special tokens, however many the model reads; None
    where its tokenizer is not here.
    """
    if isinstance(model, OnnxGraphEmbedder):
        return model.count_uncut(texts, role)
    return None if model.encoder is None else model.encoder.count_uncut(texts, role)


def say_cut(
    embedder: Embedder, texts: Sequence[str], role: str, max_tokens: int, *, model: str, what: str
) -> None:
    """Say what a model cuts of texts, where it is loaded here and cuts any."""
    if embedder.encoder is None:
        return
    found = count_cut(embedder.encoder, texts, role, max_tokens, model=model, what=what)
    if found.num_cut:
        log(f"  {found}", style="yellow")
