"""What each training technique of the teacher gives: everything on, then each one off, at equal
steps and equal rows.

    python benchmarks/teacher_ablation.py --data DIR [--seeds 3] [--steps 16] [--jobs 1]

DIR holds medquad and scifact in BEIR's layout and cls/banking77.jsonl. Each run starts from
all-MiniLM-L6-v2 and trains one stage on medquad train, banking77 train and builtin:pydocs train
through ``leafkit teach``. Measured: nDCG@10 on medquad test, scifact test (never trained on) and
pydocs test against the relevant documents and a sample of others, medquad at 64 dimensions, and
banking77 test accuracy (5 nearest train texts). Differences to the full set are means over seeds,
with a 95% paired bootstrap interval over queries. Writes a dated report.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
from lib import children
from lib.arguments import make_parser
from lib.machine import describe
from lib.report import command, save, title

NUM_PAIRS = 1500  # training pairs of each retrieval source; its documents are what is mined
NUM_QUERIES, NUM_OTHERS = 300, 300  # per measured collection
NUM_TEXTS, NUM_EXEMPLARS, NUM_NEIGHBORS = 300, 770, 5
DOCUMENT_TOKENS, OUT_OF_DOMAIN_TOKENS = 48, 96
MEASURES = ("medquad", "medquad, 64-d", "pydocs", "scifact (out-of-domain)", "banking77")
PUBLISHED = {
    "minus focal": "-1.52 / -.63 (cmn / eng mean, arXiv 2506.20923)",
    "minus mixing": "-.39 / -.42",
    "minus soft labels": "-2.62 (cmn, contrastive only against both)",
    "minus soup": "none of a soup alone",
    "minus filter": "none",
    "minus hard negatives": "none",
    "minus MRL": "none per dimension",
    "r = 0": "the published runs keep r = 0",
    "r = 1": "none",
}


def stage_settings(steps: int, variant: str) -> dict[str, Any]:
    """The stage of a variant: the full set with one thing off."""
    stage: dict[str, Any] = {
        "init": "builtin:minilm",
        "batching": "random",
        "num_steps": steps,
        "batch_size": 16,
        "optimizer": {"lr": 5e-5},
        "instruction": "Given a question, retrieve passages that answer it",
        "question_ratio": 0.0,
        "mining": {
            "model": "start",
            "num_negatives": 3,
            "first_rank": 5,
            "last_rank": 60,
            "max_positive_share": 0.95,
            "filter_rank": 50,
        },
        "mixing": {"num_pairwise": 1, "num_listwise": 1},
        "soft_labels": {"models": ["bm25", "builtin:minilm"], "weight": 1.0},
        "loss": {
            "anchor_weight": 0.0,
            "focal_gamma": 0.5,
            "mrl_dims": [384, 256, 128, 64],
            "mrl_weights": [1.0, 0.3, 0.2, 0.1],
        },
        "wise_ft_alpha": 0.6,
        "same_task_ratio": 0.5,
    }
    changes: dict[str, dict[str, Any]] = {
        "full": {},
        "minus focal": {"loss": stage["loss"] | {"focal_gamma": 0.0}},
        "minus mixing": {"mixing": {}},
        "minus hard negatives": {
            "mining": {"model": "start", "filter_rank": 50},
            "mixing": {},
            "soft_labels": {},
        },
        "minus filter": {"mining": stage["mining"] | {"filter_rank": 0}},
        "minus MRL": {"loss": stage["loss"] | {"mrl_dims": [384], "mrl_weights": [1.0]}},
        "minus soft labels": {"soft_labels": {}},
        "minus soup": {"wise_ft_alpha": 1.0},
        "r = 0": {"same_task_ratio": 0.0},
        "r = 1": {"same_task_ratio": 1.0},
    }
    return stage | changes[variant]


VARIANTS = (
    "full",
    "minus focal",
    "minus mixing",
    "minus hard negatives",
    "minus filter",
    "minus MRL",
    "minus soft labels",
    "minus soup",
    "r = 0",
    "r = 1",
)


def prepare(data: Path, work: Path) -> None:
    """Training rows as jsonl and the measured collections, sampled once."""
    from leafkit.config import DataConfig
    from leafkit.data.records import Collection
    from leafkit.data.sources import read_collection

    chooser = random.Random(0)
    settings = DataConfig(on_bad_row="skip")
    for name, uri in (
        ("medquad", f"beir:{data / 'medquad'}"),
        ("pydocs", "builtin:pydocs"),
        ("scifact", f"beir:{data / 'scifact'}"),
    ):
        collection = read_collection(uri, settings)
        if name != "scifact":
            found = chooser.sample(collection.pairs("train"), NUM_PAIRS)
            lines = [
                {
                    "query": q.text,
                    "positive": collection.documents[positions[0]].full_text,
                    "split": "train",
                }
                for q, positions in found
            ]
            (work / f"{name}.jsonl").write_text(
                "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8"
            )
        judged = collection.judged("test")
        queries = chooser.sample(judged, min(NUM_QUERIES, len(judged)))
        relevant = {d for q in queries for d in collection.qrels[q.id]}
        others = [d for d in collection.documents if d.id not in relevant]
        kept = {d.id for d in chooser.sample(others, min(NUM_OTHERS, len(others)))} | relevant
        documents = [d for d in collection.documents if d.id in kept]
        small = Collection(
            name, documents, queries, {q.id: collection.qrels[q.id] for q in queries}
        )
        (work / name).mkdir()
        small.save(work / name)
    rows = [
        json.loads(line)
        for line in (data / "cls" / "banking77.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    train, test = ([row for row in rows if row["split"] == split] for split in ("train", "test"))
    (work / "banking77.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in train), encoding="utf-8"
    )
    sample = {
        "train": chooser.sample(train, NUM_EXEMPLARS),
        "test": chooser.sample(test, NUM_TEXTS),
    }
    (work / "banking77-eval.json").write_text(json.dumps(sample), encoding="utf-8")


def measure(encoder: Any, work: Path) -> dict[str, list[float]]:
    """Every measure per query or text."""
    import torch
    from lib.scores import score_encoder

    from leafkit.data.records import Collection
    from leafkit.embedders.transformer import TransformerEmbedder
    from leafkit.index.exact import search_exact
    from leafkit.models.precision import choose_precision

    device = torch.device("cpu")
    embedder = TransformerEmbedder(encoder, device, choose_precision("auto", device))
    found: dict[str, list[float]] = {}
    for name, label in (
        ("medquad", "medquad"),
        ("pydocs", "pydocs"),
        ("scifact", "scifact (out-of-domain)"),
    ):
        role = name if name in encoder.spec.prompts else "query"
        cut = OUT_OF_DOMAIN_TOKENS if name == "scifact" else DOCUMENT_TOKENS
        scores = score_encoder(
            embedder,
            Collection.load(work / name),
            "test",
            query_tokens=64,
            document_tokens=cut,
            dims=(0, 64),
            role=role,
        )
        found[label] = scores[0].tolist()
        if name == "medquad":
            found["medquad, 64-d"] = scores[64].tolist()
    texts = json.loads((work / "banking77-eval.json").read_text(encoding="utf-8"))
    role = "banking77" if "banking77" in encoder.spec.prompts else "query"
    test, train = (
        embedder.embed([row["text"] for row in texts[split]], role, 64)
        for split in ("test", "train")
    )
    nearest = search_exact(test, train, NUM_NEIGHBORS).positions
    labels = [row["label"] for row in texts["train"]]
    guesses = [Counter(labels[p] for p in row).most_common(1)[0][0] for row in nearest]
    found["banking77"] = [
        float(g == row["label"]) for g, row in zip(guesses, texts["test"], strict=True)
    ]
    return found


def child(variant: str, seed: int, steps: int, work: Path, *, root: Path) -> None:
    """Train and measure one variant; its figures are the last line."""
    import yaml

    from leafkit.config.load import load_recipe
    from leafkit.models.checkpoint import load_encoder, read_encoder
    from leafkit.pipeline.run import open_run
    from leafkit.pipeline.teacher.teach import run_teach

    if variant == "start":
        print(
            json.dumps({"measures": measure(load_encoder("builtin:minilm"), work), "seconds": 0.0})
        )
        return
    sources = {
        "medquad": {"uri": f"jsonl:{work / 'medquad.jsonl'}"},
        "pydocs": {
            "uri": f"jsonl:{work / 'pydocs.jsonl'}",
            "instruction": "Find the documentation",
        },
        "banking77": {
            "uri": f"jsonl:{work / 'banking77.jsonl'}",
            "task": "classification",
            "instruction": "Classify the intent",
            "weight": 0.5,
        },
    }
    if variant == "minus hard negatives":
        # rows of labels have no other negatives: leafkit refuses to train on them
        del sources["banking77"]
    recipe = {
        "seed": seed,
        "data": {"max_document_tokens": DOCUMENT_TOKENS, "num_pseudo_texts": 0},
        "stages": {"tune": stage_settings(steps, variant) | {"sources": sources}},
    }
    path = root / f"{variant.replace(' ', '-').replace('=', '')}-{seed}.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    started_s = time.perf_counter()
    with open_run(load_recipe(str(path), [f"checkpoints={root / 'checkpoints'}"])) as run:
        folder = run_teach(run)
    seconds = time.perf_counter() - started_s
    print(json.dumps({"measures": measure(read_encoder(folder), work), "seconds": seconds}))


def run_all(options: argparse.Namespace, work: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """Every variant and seed, ``jobs`` at a time; jobs have their own checkpoints folder and share
    of the processors.
    """
    roots: Queue[Path] = Queue()
    for number in range(options.jobs):
        root = work / f"job{number}"
        root.mkdir()
        roots.put(root)
    threads = max(1, (os.cpu_count() or 1) // options.jobs)

    def one(job: tuple[str, int]) -> dict[str, Any]:
        root = roots.get()
        variant, seed = job
        words = ["--child", variant, "--seed", str(seed), "--steps", str(options.steps)]
        words += ["--work", str(work), "--root", str(root)]
        environment = {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        found = children.measure(__file__, words, environment)
        roots.put(root)
        means = ", ".join(
            f"{name} {np.mean(values):.3f}" for name, values in found["measures"].items()
        )
        print(f"{job[0]}, seed {job[1]}: {means} ({found['seconds']:.0f} s)", flush=True)
        return found

    jobs = [
        ("start", 0),
        *((variant, seed) for seed in range(options.seeds) for variant in VARIANTS),
    ]
    with ThreadPoolExecutor(options.jobs) as pool:
        return dict(zip(jobs, pool.map(one, jobs), strict=True))


def report(
    found: dict[tuple[str, int], dict[str, Any]], options: argparse.Namespace, seconds: float
) -> list[str]:
    """The report's lines."""
    from leafkit.evaluation.bootstrap import Bootstrap

    def of(variant: str, measure: str) -> np.ndarray:
        seeds = [0] if variant == "start" else range(options.seeds)
        return np.array([found[variant, seed]["measures"][measure] for seed in seeds])

    lines = [
        *title("Ablation of the teacher's techniques"),
        f"{command()}, {describe('torch')}, bf16 where the processor has it; {seconds / 60:.0f} "
        f"minutes in all.",
        f"all-MiniLM-L6-v2 trained {options.steps} steps of 16 rows on {NUM_PAIRS:,} medquad and "
        f"{NUM_PAIRS:,} pydocs pairs"
        " and banking77 (weights 1, 1, .5), documents cut at 48 tokens, 3 hard negatives of "
        "ranks 5 to 60; the full set:"
        " focal .5, one pairwise and one listwise mixed negative, filter 50, MRL 384/256/128/64, "
        "KL to BM25 + MiniLM, soup .6,"
        " r = .5.",
        "",
        "Means over seeds; differences in points (x 100) with the 95% paired bootstrap interval "
        "over queries, and beneath it"
        " the smallest and largest difference of a single seed.",
        "",
        "| | " + " | ".join(MEASURES) + " | published effect |",
        "|---|" + "---|" * (len(MEASURES) + 1),
    ]
    sizes = {m: of("full", m).shape[1] for m in MEASURES}
    lines.append("| n | " + " | ".join(str(sizes[m]) for m in MEASURES) + " | |")
    for variant in ("start", "full"):
        lines.append(
            f"| {variant} | "
            + " | ".join(f"{of(variant, m).mean():.3f}" for m in MEASURES)
            + " | |"
        )
    for variant in ("start", *VARIANTS[1:]):
        cells = []
        for m in MEASURES:
            theirs, full = of(variant, m), of("full", m)
            interval = Bootstrap(sizes[m], 10_000, 0).difference(
                theirs.mean(axis=0), full.mean(axis=0)
            )
            per_seed = 100 * (theirs.mean(axis=1) - full.mean(axis=1))
            cells.append(
                f"{100 * interval.value:+.1f} [{100 * interval.low:+.1f}, "
                f"{100 * interval.high:+.1f}]"
                f"<br>{per_seed.min():+.1f} to {per_seed.max():+.1f}"
            )
        lines.append(
            f"| {variant}, against full | "
            + " | ".join(cells)
            + f" | {PUBLISHED.get(variant, '')} |"
        )
    return lines


def main() -> None:
    """Run everything and write the report."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--child", default="")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--root", type=Path)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.seed, options.steps, options.work, root=options.root)
        return
    if options.data is None:
        parser.error("--data is needed")
    started_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        prepare(options.data, work)
        found = run_all(options, work)
    lines = report(found, options, time.perf_counter() - started_s)
    print(save(lines, "teacher_ablation"))


if __name__ == "__main__":
    main()
