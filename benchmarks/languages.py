"""French, Polish and Chinese through ``leafkit teach``: fine-tune on a language's train rows,
measure its test set.

    python benchmarks/languages.py --data DIR [--steps 32]

DIR holds piaf_fr, poquad_pl and xquad_zh in BEIR's layout and pairs/tldr_pages.jsonl. xquad_zh has
no train queries: Chinese trains on the Chinese pages of tldr (description -> examples). The start
is all-MiniLM-L6-v2, an English model; each language is one stage through ``leafkit teach``: filter,
one hard negative, focal, MRL, soup .8. Writes a dated report.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import yaml
from lib.arguments import make_parser
from lib.machine import describe
from lib.report import command, save, title
from lib.scores import score_encoder

from leafkit.config import DataConfig
from leafkit.config.load import load_recipe
from leafkit.data.records import Collection
from leafkit.data.sources import read_collection
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.evaluation.bm25 import search_bm25
from leafkit.evaluation.bootstrap import Bootstrap
from leafkit.evaluation.metrics import per_query_metrics
from leafkit.models.checkpoint import load_encoder, read_encoder
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.run import open_run
from leafkit.pipeline.teacher.teach import run_teach

DOCUMENT_TOKENS, QUERY_TOKENS = 96, 48
LANGUAGES = {"French": "piaf_fr", "Polish": "poquad_pl", "Chinese": "xquad_zh"}


def chinese_rows(data: Path, path: Path) -> str:
    """Descriptions and examples of the Chinese pages as pairs."""
    pages = [
        json.loads(line)
        for line in (data / "pairs" / "tldr_pages.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    rows = [
        {
            "query": page["desc"],
            "positive": " ".join(e["d"] for e in page["examples"]),
            "split": "train",
        }
        for page in pages
        if page["lang"] == "zh" and page["desc"] and any(e["d"] for e in page["examples"])
    ]
    path.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )
    return f"jsonl:{path}"


def bm25_scores(collection: Collection) -> np.ndarray:
    """BM25's nDCG@10 of each test query."""
    judged = collection.judged("test")
    ranking = search_bm25([q.text for q in judged], [d.full_text for d in collection.documents], 10)
    ids = ([q.id for q in judged], [d.id for d in collection.documents])
    return per_query_metrics(ranking, *ids, collection.qrels, metrics=["ndcg@10"])["ndcg@10"]


def tune(uri: str, name: str, steps: int, work: Path) -> tuple[TextEncoder, torch.dtype]:
    """One stage on a language's train rows."""
    stage = {
        "init": "builtin:minilm",
        "sources": {name: {"uri": uri}},
        "batching": "random",
        "num_steps": steps,
        "batch_size": 24,
        "instruction": "Find the passage that answers the question",
        "optimizer": {"lr": 1e-4},
        "mining": {
            "model": "start",
            "num_negatives": 1,
            "first_rank": 5,
            "last_rank": 60,
            "filter_rank": 50,
        },
        "loss": {
            "anchor_weight": 0.0,
            "focal_gamma": 0.5,
            "mrl_dims": [384, 128],
            "mrl_weights": [1.0, 0.3],
        },
        "wise_ft_alpha": 0.8,
    }
    data = {
        "max_document_tokens": DOCUMENT_TOKENS,
        "max_query_tokens": QUERY_TOKENS,
        "num_pseudo_texts": 0,
        "on_bad_row": "skip",
    }
    path = work / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"data": data, "stages": {"tune": stage}}), encoding="utf-8")
    with open_run(load_recipe(str(path), [f"checkpoints={work / 'checkpoints'}"])) as run:
        return read_encoder(run_teach(run)), run.precision


def main() -> None:
    """Train and measure each language, and write the report."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=32)
    options = parser.parse_args()
    started_s = time.perf_counter()
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for language, name in LANGUAGES.items():
            collection = read_collection(
                f"beir:{options.data / name}", DataConfig(on_bad_row="skip")
            )
            is_chinese = name == "xquad_zh"
            uri = (
                chinese_rows(options.data, work / "tldr_zh.jsonl")
                if is_chinese
                else f"beir:{options.data / name}"
            )
            tuned, precision = tune(uri, name, options.steps, work)
            before, after = (
                score_encoder(
                    TransformerEmbedder(encoder, torch.device("cpu"), precision),
                    collection,
                    "test",
                    query_tokens=QUERY_TOKENS,
                    document_tokens=DOCUMENT_TOKENS,
                )[0]
                for encoder in (load_encoder("builtin:minilm"), tuned)
            )
            bm25 = bm25_scores(collection)
            bootstrap = Bootstrap(len(before), 10_000, 0)
            gain = bootstrap.difference(after, before)
            lines.append(
                f"| {language} | {name} | {len(before):,} | {before.mean():.3f} | "
                f"{after.mean():.3f}"
                f" | {gain.signed()} | {bm25.mean():.3f} |"
            )
            print(lines[-1], flush=True)
    minutes = (time.perf_counter() - started_s) / 60
    machine = describe("torch", num_threads=torch.get_num_threads())
    head = [
        *title("Other languages"),
        f"{command()}, {machine}, {str(precision).removeprefix('torch.')}; {minutes:.0f} minutes.",
        f"{options.steps} steps of 24 rows from all-MiniLM-L6-v2, an English model with an "
        f"English vocabulary; documents cut at"
        f" {DOCUMENT_TOKENS} tokens for all models. Chinese trains on tldr pages, because "
        f"xquad_zh has no train queries.",
        "",
        "| language | test set | n | start nDCG@10 | tuned | gain, 95% paired bootstrap | BM25 |",
        "|---|---|---|---|---|---|---|",
    ]
    print(save([*head, *lines], "languages"))


if __name__ == "__main__":
    main()
