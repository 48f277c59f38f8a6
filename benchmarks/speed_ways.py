"""What benchmarks/speed.py measures, one way per process: ``python benchmarks/speed_ways.py WAY
--texts FILE [...]``.

Prints its figures as JSON on the last line. FILE is written by ``write_texts``: real text, read
from the packages once.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lib.arguments import make_parser
from lib.machine import peak_mib

TEACHER_DIM = 768
MAX_TOKENS = 128
# of every way the second half of a training and the second pass over texts are timed: what starts
# once is not what lasts
NUM_TRAIN_TEXTS, NUM_ENCODE_TEXTS, NUM_LONG_TEXTS = 640, 768, 128
ST_BATCH = 32  # LEAF's; sentence-transformers' own default of 8 is slower
# a fast way is timed for as long as a slow one: a machine's moods last for seconds
NUM_QUERIES, QUERY_SECONDS = (
    300,
    3.0,
)


def write_texts(path: Path) -> None:
    """Documents and queries of builtin:pydocs mixed, and its test queries, the same ones every
    time.
    """
    import numpy as np

    from leafkit.config import DataConfig
    from leafkit.data.sources import read_collection

    collection = read_collection("builtin:pydocs", DataConfig())
    texts = [d.full_text for d in collection.documents] + [q.text for q in collection.queries]
    mixed = [texts[i] for i in np.random.default_rng(0).permutation(len(texts))]
    path.write_text(
        json.dumps({"mixed": mixed, "queries": [q.text for q in collection.judged("test")]}),
        encoding="utf-8",
    )


def read_texts(path: Path, count: int, kind: str = "mixed") -> list[str]:
    """The first texts of a file that ``write_texts`` wrote: "mixed" or "queries"."""
    return list(json.loads(path.read_text(encoding="utf-8"))[kind][:count])


def fake_targets(count: int) -> Any:
    """Unit vectors; what they are does not change the speed."""
    import numpy as np

    vectors = np.random.default_rng(1).standard_normal((count, TEACHER_DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def precision_of(options: argparse.Namespace) -> Any:
    """The torch dtype that leafkit computes in, the same in every turn."""
    import torch

    return getattr(torch, options.precision)


def device_of(options: argparse.Namespace) -> Any:
    """The torch device measured."""
    import torch

    return torch.device(options.device)


# --- training


def train_leafkit(options: argparse.Namespace) -> dict[str, float]:
    """leafkit's loop with the default recipe's budget."""
    import numpy as np
    import torch
    from torch import nn

    from leafkit.config import OptimizerConfig, StudentConfig
    from leafkit.data.batching import token_budget_batches
    from leafkit.models.checkpoint import load_encoder
    from leafkit.models.text_encoder import TextEncoder
    from leafkit.train.batch_list import BatchList
    from leafkit.train.fit import fit
    from leafkit.train.leaf_module import LeafBatch, LeafModule

    config = StudentConfig()
    base = load_encoder("builtin:minilm")
    student = TextEncoder(
        base.backbone, base.tokenizer, base.spec, nn.Linear(base.hidden_size, TEACHER_DIM)
    )
    texts, targets = read_texts(options.texts, NUM_TRAIN_TEXTS), fake_targets(NUM_TRAIN_TEXTS)
    ids = student.tokenize(texts, "document", MAX_TOKENS)
    lengths = [len(i) for i in ids]
    batches = token_budget_batches(
        lengths, config.tokens_per_batch, config.max_texts_per_batch, 0, epoch=0
    )
    marks = []

    def make(step: int) -> LeafBatch:
        marks.append(time.perf_counter())
        rows = batches[step]
        return LeafBatch(
            [ids[r] for r in rows], torch.from_numpy(targets[np.asarray(rows)]), len(rows), 1.0
        )

    device = device_of(options)
    settings = OptimizerConfig()
    fit(
        LeafModule(student, settings),
        BatchList(len(batches), make),
        title="train",
        device=device,
        precision=precision_of(options),
        seed=0,
    )
    marks.append(time.perf_counter())
    first = len(batches) // 2
    timed = [lengths[r] for batch in batches[first:] for r in batch]
    seconds = marks[-1] - marks[first + 1]  # the next batch is made when a step begins
    # batches are of texts of one length: which one is left out must not count
    tokens_per_s = sum(timed) / seconds
    return {
        "texts_per_s": tokens_per_s / statistics.mean(lengths),
        "tokens_per_s": tokens_per_s,
        "tokens_per_text": statistics.mean(lengths),
        "tflops": _train_flops(student, timed) / seconds / 1e12,
    }


def _train_flops(encoder: Any, lengths: Sequence[int]) -> float:
    """Linear layers and attention, forward and backward (three times forward)."""
    width, layers = encoder.hidden_size, encoder.backbone.config.num_hidden_layers
    return 3.0 * sum(n * encoder.flops_per_token() + 4 * layers * width * n * n for n in lengths)


def train_sentence_transformers(options: argparse.Namespace) -> dict[str, float]:
    """Its trainer with EmbedDistillLoss, as it comes; --bf16 sets the trainer's own switch."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import EmbedDistillLoss
    from transformers import TrainerCallback

    from leafkit.models.builtin.find import find_builtin

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.marks: list[float] = []

        def on_step_end(self, *args: object, **kwargs: object) -> None:
            self.marks.append(time.perf_counter())

    model = SentenceTransformer(str(find_builtin("builtin:minilm")), device=options.device)
    model.max_seq_length = MAX_TOKENS
    rows = Dataset.from_dict(
        {
            "text": read_texts(options.texts, NUM_TRAIN_TEXTS),
            "label": fake_targets(NUM_TRAIN_TEXTS).tolist(),
        }
    )
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            folder,
            per_device_train_batch_size=ST_BATCH,
            num_train_epochs=1,
            use_cpu=options.device == "cpu",
            bf16=options.bf16,
            save_strategy="no",
            report_to=[],
            logging_strategy="no",
            disable_tqdm=True,
        )
        loss = EmbedDistillLoss(model, distance_metric="l2", projection_dim=TEACHER_DIM)
        SentenceTransformerTrainer(
            model=model, args=arguments, train_dataset=rows, loss=loss, callbacks=[clock]
        ).train()
    timed = clock.marks[len(clock.marks) // 2 - 1 :]
    return {"texts_per_s": ST_BATCH * (len(timed) - 1) / (timed[-1] - timed[0])}


# --- encoding


def _encode_texts(options: argparse.Namespace) -> list[str]:
    texts = read_texts(options.texts, NUM_ENCODE_TEXTS)
    if not options.long:
        return texts
    joined = " ".join(texts).split()
    # all longer than the model takes
    return [" ".join(joined[i * 200 : (i + 1) * 200]) for i in range(NUM_LONG_TEXTS)]


def encode_leafkit(options: argparse.Namespace) -> dict[str, float]:
    """The embedder in the chosen precision, tokenization included and no vector store."""
    from leafkit.embedders.transformer import TransformerEmbedder
    from leafkit.models.checkpoint import load_encoder

    texts, device = _encode_texts(options), device_of(options)
    embedder = TransformerEmbedder(load_encoder("builtin:minilm"), device, precision_of(options))
    embedder.embed(texts, "document", 256)
    lengths = [len(ids) for ids in embedder.encoder.tokenize(texts, "document", 256)]
    started_s = time.perf_counter()
    embedder.embed(texts, "document", 256)
    seconds = time.perf_counter() - started_s
    flops = _train_flops(embedder.encoder, lengths) / 3
    return {
        "texts_per_s": len(texts) / seconds,
        "tflops": flops / seconds / 1e12,
        "tokens_per_text": statistics.mean(lengths),
    }


def encode_parts(options: argparse.Namespace) -> dict[str, float]:
    """Which share of encoding's time each kind of work takes, by the clock around the modules that
    do it; on the CPU.

    "linear_tflops" is the rate of the linear layers alone, with the GELU that they compute where
    their weights are laid out.
    """
    from collections import Counter

    from torch import nn
    from transformers.activations import GELUActivation

    from leafkit.embedders.transformer import TransformerEmbedder
    from leafkit.models.checkpoint import load_encoder
    from leafkit.models.onednn_linear import OneDnnLinear
    from leafkit.models.packed import bert

    texts = _encode_texts(options)
    embedder = TransformerEmbedder(
        load_encoder("builtin:minilm"), device_of(options), precision_of(options)
    )
    seconds: Counter[str] = Counter()

    def timed(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            started_s = time.perf_counter()
            result = work(*args, **kwargs)
            seconds[name] += time.perf_counter() - started_s
            return result

        return run

    linear = "linear layers"
    kinds = {
        nn.Linear: linear,
        OneDnnLinear: linear,
        nn.LayerNorm: "layer norms",
        GELUActivation: "GELU",
        nn.Embedding: "embeddings",
    }
    for module in embedder._ready.backbone.modules():
        if type(module) in kinds:
            module.forward = timed(kinds[type(module)], module.forward)
    bert.attend = timed("attention", bert.attend)
    lengths = [len(ids) for ids in embedder.encoder.tokenize(texts, "document", 256)]
    embedder.encoder.tokenize = timed("tokenizer", embedder.encoder.tokenize)
    for _ in range(2):  # the first time warms up
        seconds.clear()
        started_s = time.perf_counter()
        embedder.embed(texts, "document", 256)
        total = time.perf_counter() - started_s
    rate = sum(lengths) * embedder.encoder.flops_per_token() / seconds[linear] / 1e12
    names = dict.fromkeys((*kinds.values(), "attention", "tokenizer"))
    shares = {name: seconds[name] / total for name in names if name in seconds}
    return {"linear_tflops": rate, "all else": 1 - sum(shares.values()), **shares}


def encode_sentence_transformers(options: argparse.Namespace) -> dict[str, float]:
    """SentenceTransformer.encode with its defaults."""
    from sentence_transformers import SentenceTransformer

    from leafkit.models.builtin.find import find_builtin

    texts = _encode_texts(options)
    model = SentenceTransformer(str(find_builtin("builtin:minilm")), device=options.device)
    model.encode(texts)
    started_s = time.perf_counter()
    model.encode(texts)
    return {"texts_per_s": len(texts) / (time.perf_counter() - started_s)}


def matmul(options: argparse.Namespace) -> dict[str, float]:
    """The machine's rate on one large product, in the chosen precision: the limit of linear layers.

    The better of torch's product and, on a CPU, the one with laid-out weights that encoding uses.
    """
    import torch

    from leafkit.models.onednn_linear import OneDnnLinear, has_onednn_linear

    device, dtype = device_of(options), precision_of(options)
    a = torch.randn(4096, 1536, device=device).to(dtype)
    b = torch.randn(1536, 1536, device=device).to(dtype)
    ways: list[Callable[[], Any]] = [lambda: a @ b]
    if device.type == "cpu" and dtype == torch.bfloat16 and has_onednn_linear():
        layer = OneDnnLinear(b, None)
        ways.append(lambda: layer(a))
    rates: list[list[float]] = [[] for _ in ways]
    with torch.inference_mode():
        for _ in range(30):
            for way, found in zip(ways, rates, strict=True):
                started_s = time.perf_counter()
                way()
                if device.type == "cuda":
                    torch.cuda.synchronize()
                found.append(2 * 4096 * 1536 * 1536 / (time.perf_counter() - started_s) / 1e12)
    best = max(rates, key=lambda found: statistics.median(found[5:]))
    return {"tflops": statistics.median(best[5:]), "best_tflops": max(best)}


# --- one query


def one_query(options: argparse.Namespace) -> dict[str, float]:
    """p50 in ms of single test queries through one way of serving them, asked again until
    QUERY_SECONDS are over.
    """
    queries = read_texts(options.texts, NUM_QUERIES, "queries")
    serve = _server(options.server, Path(options.checkpoints))
    for query in queries[:20]:
        serve(query)
    times: list[float] = []
    while sum(times) < 1e3 * QUERY_SECONDS:
        for query in queries:
            started_s = time.perf_counter()
            serve(query)
            times.append(1e3 * (time.perf_counter() - started_s))
    return {"p50_ms": statistics.median(times), "p99_ms": sorted(times)[int(0.99 * len(times))]}


def _server(way: str, folder: Path) -> Callable[[str], Any]:
    if way == "sentence-transformers":
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(folder / "student"), device="cpu")
        return lambda query: model.encode(query, prompt_name="query")
    if way == "torch":
        import torch

        from leafkit.embedders.transformer import TransformerEmbedder
        from leafkit.models.checkpoint import read_encoder

        embedder = TransformerEmbedder(
            read_encoder(folder / "student"), torch.device("cpu"), torch.float32
        )
        return lambda query: embedder.embed([query], "query", 64)
    if way == "static":
        from leafkit.embedders.lookup_table import LookupTableEmbedder
        from leafkit.models.static_encoder import read_static

        return LookupTableEmbedder(
            read_static(folder.parent / "kalm-to-static" / "student")
        ).embed_one
    from leafkit.embedders.onnx_graph import OnnxGraphEmbedder

    return OnnxGraphEmbedder(folder / "export", way).embed_one


WAYS: dict[str, Callable[[argparse.Namespace], dict[str, float]]] = {
    "train-leafkit": train_leafkit,
    "train-st": train_sentence_transformers,
    "encode-leafkit": encode_leafkit,
    "encode-parts": encode_parts,
    "encode-st": encode_sentence_transformers,
    "matmul": matmul,
    "query": one_query,
}


def main() -> None:
    """Run one way and print its figures."""
    parser = make_parser(__doc__)
    parser.add_argument("way", choices=list(WAYS))
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--checkpoints", default="checkpoints/kalm-to-23m")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--server", default="", help="what answers a query")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--long", action="store_true")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    is_peer = options.way.endswith("-st") or options.server == "sentence-transformers"
    if not is_peer:
        from leafkit.core.system import keep_freed_memory

        keep_freed_memory()  # as leafkit's command line does; a peer runs as it comes
    figures = WAYS[options.way](options)
    print(json.dumps(figures | {"peak_mib": peak_mib()}))


if __name__ == "__main__":
    main()
