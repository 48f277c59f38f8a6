"""Encoding by models of a teacher's size, beside SentenceTransformer.encode on the same texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from gpu_parts.arithmetic import forward_flops, peak_tflops, share_of_peak
from gpu_parts.made import (
    device_of,
    make_lengths,
    make_mpnet,
    make_qwen2,
    make_texts,
    peak_gib,
    profile,
    seconds_of,
)
from gpu_parts.part import PROFILE, Emit, Part, Row, Setting, Verdict, at_least, of_way, quotient
from leafkit.core.devices import kind_of
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.models.checkpoint import write_encoder
from leafkit.models.packed.backbone import why_padded
from leafkit.models.text_encoder import TextEncoder

BAR_MFU, BAR_RATIO = 0.45, 2.0
MEDIAN, LONGEST = 100, 384
OURS_IDS, OURS, PEER = "leafkit, tokenized beforehand", "leafkit, from text", "SentenceTransformer"
PEER_BATCHES = (32, 256)  # its default, and one that fills a card
_PROFILED_TEXTS = 1024


def run(make: Callable[[Setting], TextEncoder], setting: Setting, emit: Emit) -> None:
    """leafkit's packed encoder, then the peer, each warmed up on a part of the texts."""
    from sentence_transformers import SentenceTransformer

    device, encoder = device_of(setting), make(setting)
    assert not why_padded(encoder.backbone)
    count = 24 if setting.is_tiny else 8192
    texts = make_texts(encoder.tokenizer, make_lengths(count, MEDIAN, LONGEST))
    ids = encoder.tokenize(texts, "document")
    lengths, warm = [len(one) for one in ids], max(8, count // 8)
    flops = forward_flops(encoder, lengths)
    peak = setting.peak_tflops or peak_tflops(kind_of(device).model_name())
    embedder = TransformerEmbedder(encoder, device, torch.bfloat16)

    def figures(way: str, work: Callable[[], object]) -> Row:
        seconds = min(seconds_of(work, device) for _ in range(2))
        return {
            "way": way,
            "texts_per_s": count / seconds,
            "tokens_per_s": sum(lengths) / seconds,
            "mfu": share_of_peak(flops, seconds, peak),
            "peak_gib": peak_gib(device),
        }

    embedder.embed_ids(ids[:warm])
    found = figures(OURS_IDS, lambda: embedder.embed_ids(ids))
    emit(found)
    if found["mfu"] is not None and found["mfu"] < BAR_MFU:
        few = ids[:_PROFILED_TEXTS]
        table = profile(lambda: embedder.embed_ids(few), device)
        emit({PROFILE: table, "what": f"{len(few):,} texts, {OURS_IDS}"})
    emit(figures(OURS, lambda: embedder.embed(texts, "document", 0)))
    folder = setting.folder / "model"
    write_encoder(encoder, folder, {})
    peer = SentenceTransformer(
        str(folder), device=setting.device, model_kwargs={"dtype": torch.bfloat16}
    )
    for size in PEER_BATCHES:
        peer.encode(texts[:warm], batch_size=size)
        emit(figures(f"{PEER}, batches of {size}", partial(peer.encode, texts, batch_size=size)))


def judge(name: str, rows: Sequence[Row]) -> list[Verdict]:
    """The bars of encoding; the peer's better batch counts."""
    rates = [of_way(rows, f"{PEER}, batches of {size}", "texts_per_s") for size in PEER_BATCHES]
    best = max(filter(None, rates), default=None)
    ratio = quotient(of_way(rows, OURS, "texts_per_s"), best)
    return [
        at_least(f"MFU, encoding, {name}", BAR_MFU, of_way(rows, OURS_IDS, "mfu")),
        at_least(f"encoding, times sentence-transformers bf16, {name}", BAR_RATIO, ratio, ".2f"),
    ]


def _part(key: str, title: str, make: Callable[[Setting], TextEncoder], limit_s: float) -> Part:
    return Part(
        f"encoding-{key}",
        f"Encoding: {title}",
        f"Random weights of the shape of {title}, bf16, mean pooling, made texts of {MEDIAN} tokens"
        f" in the median, cut at {LONGEST}. The better of two passes after one over an eighth of"
        " the texts. The peer is SentenceTransformer.encode on the same folder and texts, bf16, at"
        " its default batch and at one that fills a card; the better counts.",
        limit_s,
        partial(run, make),
        {
            "way": ("way", ""),
            "texts_per_s": ("texts/s", ",.0f"),
            "tokens_per_s": ("tokens/s", ",.0f"),
            "mfu": ("MFU", ".1%"),
            "peak_gib": ("peak memory, GiB", ".1f"),
        },
        partial(judge, title),
    )


QWEN2 = _part("qwen2", "Qwen2-0.5B", make_qwen2, 60)
MPNET = _part("mpnet", "MPNet-base", make_mpnet, 60)
