"""Encoding by a model that people bring, without padding against SentenceTransformer.encode.

    python benchmarks/packed_encoding.py [--model builtin:mpnet] [--texts 192] [--turns 3]

Documents and queries of builtin:pydocs, mixed; tokenization included. Ways take turns in one
process, medians; the vectors are compared first. Where the model is not at hand, random weights of
all-mpnet-base-v2's shape stand in for it, and the report says so. Writes a dated report.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from lib.arguments import make_parser
from lib.machine import describe
from lib.report import command, publish, table, title
from sentence_transformers import SentenceTransformer
from speed_ways import read_texts, write_texts
from transformers import MPNetConfig, MPNetModel

from leafkit.core.errors import LeafkitError
from leafkit.embedders import make_embedder as maker
from leafkit.embedders.protocol import LocalEmbedder
from leafkit.models import text_encoder as encoder_module
from leafkit.models.checkpoint import load_encoder, write_encoder
from leafkit.models.packed.backbone import can_pack, why_padded
from leafkit.models.precision import choose_precision
from leafkit.models.text_encoder import EncoderSpec, TextEncoder


def load(name: str) -> tuple[TextEncoder, str]:
    """The model, and what it is in words."""
    try:
        return load_encoder(name), name
    except LeafkitError as err:
        print(f"{name}: {err}; random weights stand in for it")
    torch.manual_seed(0)
    like = load_encoder("builtin:minilm")
    config = MPNetConfig(vocab_size=30_527, max_position_embeddings=514)
    backbone = MPNetModel(config, add_pooling_layer=False).eval()
    spec = EncoderSpec(pooling="mean", max_tokens=384)
    words = "random weights of all-mpnet-base-v2's shape, MiniLM's tokenizer"
    return TextEncoder(backbone, like.tokenizer, spec).eval(), words


def padded(run: Callable[[], np.ndarray]) -> Callable[[], np.ndarray]:
    """The same call in padded groups of similar length."""

    def call() -> np.ndarray:
        encoder_module.can_pack = lambda backbone: False
        try:
            return run()
        finally:
            encoder_module.can_pack = can_pack

    return call


def main() -> None:
    """Measure and write the report."""
    parser = make_parser(__doc__, turns=3, can_print=True)
    parser.add_argument("--model", default="builtin:mpnet")
    parser.add_argument("--texts", type=int, default=192)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as torch takes")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device("cpu")
    encoder, words = load(options.model)
    precision = choose_precision("auto", device)
    with tempfile.TemporaryDirectory() as folder:
        write_texts(Path(folder) / "texts.json")
        texts = read_texts(Path(folder) / "texts.json", options.texts)
        write_encoder(encoder, Path(folder) / "model", {})
        peer = SentenceTransformer(str(Path(folder) / "model"), device="cpu")
    lengths = [len(ids) for ids in encoder.tokenize(texts, "document")]

    def embed(embedder: LocalEmbedder) -> Callable[[], np.ndarray]:
        return lambda: embedder.embed(texts, "document", 0)

    exact = embed(maker.make_embedder(encoder, device))
    ways = {
        "SentenceTransformer.encode, float32": lambda: peer.encode(texts),
        "leafkit, float32, padded groups": padded(exact),
        "leafkit, float32, packed": exact,
    }
    if precision != torch.float32:
        ways["leafkit, bf16, packed"] = embed(maker.make_embedder(encoder, device, precision))
    reference = ways["SentenceTransformer.encode, float32"]()
    cosines = {
        name: float((run() * reference).sum(axis=1).min() / (reference**2).sum(axis=1).max())
        for name, run in ways.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(options.turns):
        for name in list(ways)[:: -1 if turn % 2 else 1]:
            started_s = time.perf_counter()
            ways[name]()
            seconds[name].append(time.perf_counter() - started_s)
    base = seconds["SentenceTransformer.encode, float32"]
    rows = []
    for name, found in seconds.items():
        ratios = [theirs / ours for ours, theirs in zip(found, base, strict=True)]
        ratio = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
        rate = len(texts) / statistics.median(found)
        rows.append([name, f"{rate:,.1f}", ratio, f"{cosines[name]:.5f}"])
    spread = np.percentile(lengths, [5, 50, 95]).astype(int).tolist()
    lines = [
        *title("Encoding without padding"),
        f"{command()}, {describe('torch', num_threads=torch.get_num_threads())}.",
        f"{words}: {type(encoder.backbone).__name__}, {encoder.num_parameters():,} parameters"
        f"{', ' + why_padded(encoder.backbone) if why_padded(encoder.backbone) else ''}.",
        f"{len(texts)} documents and queries of builtin:pydocs, {statistics.mean(lengths):.0f} "
        f"tokens on average (5, 50 and 95%: {spread}), tokenization included; median of "
        f"{options.turns} alternating turns, ratios within a turn [smallest, largest].",
        "",
        *table(["way", "texts/s", "ratio", "smallest cosine to the first way's vectors"], rows),
    ]
    publish(lines, "packed_encoding", print_only=options.print_only)


if __name__ == "__main__":
    main()
