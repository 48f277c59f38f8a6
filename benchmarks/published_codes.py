"""all-MiniLM-L6-v2 in int8 and binary: what others have published of it, looked for on collections
at hand.

    python benchmarks/published_codes.py --data FOLDER_OF_BEIR_COLLECTIONS [--collections scifact
    cranfield npl]

Published for MTEB's retrieval tasks (Hugging Face's blog on embedding quantisation, 2024): int8
keeps 90.8% of float32's nDCG@10, binary 93.8%. Here the vectors are computed once in float32;
leafkit's codecs and sentence-transformers' own quantize_embeddings and semantic_search_faiss search
the same ones. Writes a dated report.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from lib.arguments import make_parser
from lib.machine import describe
from lib.report import command, save, title
from sentence_transformers.util import quantize_embeddings
from sentence_transformers.util.quantization import semantic_search_faiss

from leafkit.config import DataConfig, InheritConfig
from leafkit.data.sources import read_collection
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.evaluation.bootstrap import Bootstrap
from leafkit.evaluation.metrics import Judgments, fast_ndcg
from leafkit.index.codecs.fit import fit_codecs
from leafkit.index.exact import search_exact
from leafkit.index.ranking import Ranking
from leafkit.models.checkpoint import load_encoder

K, MAX_TOKENS, NUM_RESAMPLES = 10, 256, 10_000
PRECISIONS = ["int8", "int8_fixed", "binary"]


def theirs(
    queries: np.ndarray,
    documents: np.ndarray,
    precision: str,
    rescore: bool,
    *,
    ranges: np.ndarray | None,
) -> Ranking:
    """sentence-transformers' own quantisation and search, rescoring four times as many where it is
    asked for.
    """
    stored = quantize_embeddings(documents, precision=precision, ranges=ranges)
    found, _ = semantic_search_faiss(
        queries,
        corpus_embeddings=stored,
        corpus_precision=precision,
        top_k=K,
        rescore=rescore,
        rescore_multiplier=4,
        ranges=ranges,
    )
    positions = np.array([[hit["corpus_id"] for hit in hits] for hits in found])
    scores = np.array([[hit["score"] for hit in hits] for hits in found], dtype=np.float32)
    # they are distances
    return Ranking(positions, -scores if precision == "ubinary" and not rescore else scores)


def make_ways(
    queries: np.ndarray, documents: np.ndarray, ties: np.ndarray
) -> dict[str, Callable[[], Ranking]]:
    """Every way of storing and searching the same vectors."""
    dim = documents.shape[1]
    codecs = fit_codecs(documents, [dim], PRECISIONS, InheritConfig(), seed=0)
    ranges = np.stack([documents.min(axis=0), documents.max(axis=0)])

    def ours(precision: str, quantized: bool) -> Ranking:
        codec = codecs[dim, precision]
        asked = codec.round_trip(queries) if quantized else queries
        return search_exact(asked, codec.round_trip(documents), K, ties)

    return {
        "float32": lambda: search_exact(queries, documents, K, ties),
        "leafkit int8, calibrated on documents, float queries": lambda: ours("int8", False),
        "leafkit int8, calibrated on documents, quantised queries": lambda: ours("int8", True),
        "leafkit int8, one fixed range, quantised queries": lambda: ours("int8_fixed", True),
        "sentence-transformers uint8, ranges of the documents": lambda: theirs(
            queries, documents, "uint8", False, ranges=ranges
        ),
        "the same, rescored x4": lambda: theirs(queries, documents, "uint8", True, ranges=ranges),
        "sentence-transformers uint8, no ranges given": lambda: theirs(
            queries, documents, "uint8", False, ranges=None
        ),
        "leafkit binary, float queries": lambda: ours("binary", False),
        # inner products of +1 and -1 are D minus twice the Hamming distance
        "leafkit binary, Hamming": lambda: ours("binary", True),
        "sentence-transformers ubinary": lambda: theirs(
            queries, documents, "ubinary", False, ranges=None
        ),
        "sentence-transformers ubinary, rescored x4": lambda: theirs(
            queries, documents, "ubinary", True, ranges=None
        ),
    }


def measure(uri: str) -> tuple[str, dict[str, str]]:
    """Head and cells of one collection's two columns, a pair for each way."""
    collection = read_collection(uri, DataConfig(on_bad_row="skip"))
    judged = collection.judged("test")
    embedder = TransformerEmbedder(
        load_encoder("builtin:minilm"), torch.device("cpu"), torch.float32
    )
    documents = embedder.embed([d.full_text for d in collection.documents], "document", MAX_TOKENS)
    queries = embedder.embed([q.text for q in judged], "query", MAX_TOKENS)
    judgments = Judgments(
        [q.id for q in judged], [d.id for d in collection.documents], collection.qrels
    )
    draws, base = Bootstrap(len(judged), NUM_RESAMPLES, 0), None
    cells: dict[str, str] = {}
    for name, way in make_ways(queries, documents, judgments.ties).items():
        values = fast_ndcg(way(), judgments)
        base = values if base is None else base
        mean, kept = draws.mean(values), draws.ratio(values, base)
        cells[name] = (
            f"{mean.value:.4f} [{mean.low:.3f}, {mean.high:.3f}] | {kept.value:.1%} "
            f"[{kept.low:.1%}, {kept.high:.1%}]"
        )
        print(f"{collection.name}: {name}: {cells[name]}", flush=True)
    return f"{collection.name} (n = {len(judged):,}) | kept", cells


def main() -> None:
    """Measure the collections and write the report."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--collections", nargs="+", default=["scifact", "cranfield", "npl"])
    options = parser.parse_args()
    columns = [measure(f"beir:{options.data / name}") for name in options.collections]
    machine = describe("torch", num_threads=torch.get_num_threads())
    lines = [
        *title("all-MiniLM-L6-v2 in int8 and binary"),
        f"{command()}, {machine}, float32,"
        f" documents and queries cut at {MAX_TOKENS} tokens. nDCG@10 and the share of float32's, "
        f"95% paired bootstrap over"
        " queries.",
        "Published for MTEB's retrieval tasks: int8 90.8%, binary 93.8%.",
        "Inner products of unsigned codes, which sentence-transformers' search takes, are not "
        "proportional to those of the"
        " vectors: each dimension has its own step and smallest value. leafkit restores values "
        "before it multiplies.",
        "",
        f"| stored and searched as | {' | '.join(head for head, _ in columns)} |",
        "|---|" + "---|---|" * len(columns),
        *(
            f"| {name} | {' | '.join(cells[name] for _, cells in columns)} |"
            for name in columns[0][1]
        ),
        "",
    ]
    print(save(lines, "published_codes"))


if __name__ == "__main__":
    main()
