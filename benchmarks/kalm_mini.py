"""The default teacher in-domain and out-of-domain, against all-MiniLM-L6-v2 and against another
recipe's teacher.

    python benchmarks/kalm_mini.py --data DIR [--against RECIPE.yaml] [--checkpoints checkpoints]

DIR holds scifact, cranfield, npl and medquad in BEIR's layout. Trains the teachers that are not
there. Each collection is a sample of its judged test queries, their relevant documents and others,
the same for all models: a teacher costs five times MiniLM, and this must end on two cores. Writes a
dated report.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import torch
from lib.arguments import make_parser
from lib.machine import describe
from lib.report import command, save, title
from lib.scores import score_encoder

from leafkit.config import DataConfig
from leafkit.config.load import load_recipe
from leafkit.data.records import Collection
from leafkit.data.sources import read_collection
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.evaluation.bootstrap import Bootstrap
from leafkit.models.checkpoint import load_encoder, read_encoder
from leafkit.models.precision import choose_precision
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.run import open_run
from leafkit.pipeline.teacher.teach import run_teach

SAMPLES = {  # queries, other documents, tokens per document
    "pydocs": (2000, 1500, 56),
    "scifact": (300, 300, 96),
    "cranfield": (225, 300, 96),
    "npl": (93, 300, 64),
    "medquad": (300, 300, 96),
}
SMALLEST_DIM = 64


def sample(uri: str, name: str) -> Collection:
    """Some judged test queries with their relevant documents and others."""
    num_queries, num_others, _ = SAMPLES[name]
    collection = read_collection(uri, DataConfig(on_bad_row="skip"))
    chooser = random.Random(0)
    judged = collection.judged("test")
    queries = chooser.sample(judged, min(num_queries, len(judged)))
    relevant = {d for q in queries for d, grade in collection.qrels[q.id].items() if grade > 0}
    others = [d for d in collection.documents if d.id not in relevant]
    kept = relevant | {d.id for d in chooser.sample(others, min(num_others, len(others)))}
    documents = [d for d in collection.documents if d.id in kept]
    return Collection(name, documents, queries, {q.id: collection.qrels[q.id] for q in queries})


def teach(recipe: str, checkpoints: str) -> tuple[TextEncoder, float]:
    """The recipe's teacher and the seconds its training took; what is there stays as it is."""
    started_s = time.perf_counter()
    with open_run(load_recipe(recipe, [f"checkpoints={checkpoints}"])) as run:
        folder = run_teach(run)
    return read_encoder(folder), time.perf_counter() - started_s


def main() -> None:
    """Train, measure, and write the report."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--against", default="")
    parser.add_argument("--checkpoints", default="checkpoints")
    options = parser.parse_args()
    device = torch.device("cpu")
    precision = choose_precision("auto", device)
    systems = {"all-MiniLM-L6-v2": load_encoder("builtin:minilm")}
    seconds = {}
    for label, recipe in (("kalm-mini", "kalm-mini"), ("against", options.against)):
        if recipe:
            systems[label], seconds[label] = teach(recipe, options.checkpoints)
    lines = []
    for name, (_, _, tokens) in SAMPLES.items():
        collection = sample(
            "builtin:pydocs" if name == "pydocs" else f"beir:{options.data / name}", name
        )
        skipped = {"against"} if name != "pydocs" else set()
        found = {
            who: score_encoder(
                TransformerEmbedder(encoder, device, precision),
                collection,
                "test",
                query_tokens=64,
                document_tokens=tokens,
                dims=(0, SMALLEST_DIM),
            )
            for who, encoder in systems.items()
            if who not in skipped
        }
        bootstrap = Bootstrap(len(collection.queries), 10_000, 0)
        ours = found["kalm-mini"]
        cells = [f"{found[who][0].mean():.3f}" if who in found else "" for who in systems]
        gains = []
        for who in systems:
            if who != "kalm-mini":
                gain = bootstrap.difference(ours[0], found[who][0]) if who in found else None
                gains.append(gain.signed() if gain else "")
        kept = bootstrap.ratio(ours[SMALLEST_DIM], ours[0])
        share = kept.percent()
        sizes = f"{len(collection.queries):,} | {len(collection.documents):,} | {tokens}"
        lines.append(f"| {name} | {sizes} | " + " | ".join([*cells, *gains, share]) + " |")
        print(lines[-1], flush=True)
    others = [who for who in systems if who != "kalm-mini"]
    trained = ", ".join(f"{who} {value:.0f} s" for who, value in seconds.items())
    machine = describe("torch", num_threads=torch.get_num_threads())
    head = [
        *title("The default teacher"),
        f"{command()}, {machine}, {str(precision).removeprefix('torch.')}.",
        f"nDCG@10, 95% paired bootstrap over queries; training: {trained}.",
        *(
            [f"`against` is the teacher of {Path(options.against).name}."]
            if options.against
            else []
        ),
        "",
        "| collection | queries | documents | tokens | "
        + " | ".join(systems)
        + " | "
        + " | ".join(f"kalm-mini - {who}" for who in others)
        + f" | kept at {SMALLEST_DIM} dimensions |",
        "|---|---|---|---|" + "---|" * (len(systems) + len(others) + 1),
    ]
    print(save([*head, *lines], "kalm_mini"))


if __name__ == "__main__":
    main()
