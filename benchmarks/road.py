"""Quality of the default road, home and away: reproduces the figures README quotes and writes a dated report.

    python benchmarks/road.py --data DIR [--checkpoints checkpoints]

DIR holds collections in BEIR's layout (scifact, cranfield, npl); those that are there are measured. It takes the models of a
finished ``leafkit distill recipe=kalm-to-23m``, or makes them. Nothing is trained on what is measured here but the train
queries of builtin:pydocs.
"""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np

from leafkit.data.records import Collection, Query
from leafkit.models.checkpoint import read_encoder
from leafkit.recipe import load_recipe
from leafkit.search.benchmark import run_benchmark
from leafkit.search.embed import Embedder
from leafkit.stages.bench import embed_systems
from leafkit.stages.collect import describe_machine
from leafkit.stages.corpus import Corpus, load_corpus
from leafkit.stages.distill import run_distill
from leafkit.stages.inherit import run_inherit
from leafkit.stages.run import Run, open_run
from leafkit.stages.teacher import STUDENT, load_side, load_student, load_teacher

COLLECTIONS = ("scifact", "cranfield", "npl")
QUESTIONS = Path(__file__).parent / "natural_questions.jsonl"
DOCUMENT_TOKENS = 256


def natural_questions(home: Corpus) -> Corpus:
    """Our own questions with accepted names, on the documents of builtin:pydocs."""
    rows = [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    known = {d.id for d in home.collection.documents}
    qrels = {r["id"]: {name: 1 for name in r["accepted"] if name in known} for r in rows}
    queries = [Query(r["id"], r["query"]) for r in rows if qrels[r["id"]]]
    return Corpus(Collection("natural questions", home.collection.documents, queries, qrels), "natural-questions")


def measure(run: Run, data: Path) -> list[dict[str, Any]]:
    """Figures of every collection."""
    teacher = load_teacher(run)
    student = load_student(run, teacher)
    baseline = load_side(run, run.recipe.bench.baseline)
    home = load_corpus(run, run.recipe.data.home)
    corpora = [
        (home, "home", run.recipe.data.max_document_tokens),
        (natural_questions(home), "home", run.recipe.data.max_document_tokens),
        (load_corpus(run, "builtin:pydocs-away"), "away", DOCUMENT_TOKENS),
    ]
    corpora += [
        (load_corpus(run, f"beir:{data / name}"), "away", DOCUMENT_TOKENS) for name in COLLECTIONS if (data / name).is_dir()
    ]
    figures = []
    for corpus, kind, cut in corpora:
        vectors = embed_systems(run, teacher, student, baseline, corpus, cut)
        result = run_benchmark(corpus.collection, "test", vectors, kind, run.recipe.bench.num_resamples, run.recipe.seed)
        figures.append(result.figures)
    return figures


def parity(run: Run) -> float:
    """Smallest cosine between sentence-transformers' and leafkit's vectors of the student, prompts included, float32."""
    import torch
    from sentence_transformers import SentenceTransformer

    folder = run.folder / STUDENT
    collection = load_corpus(run, run.recipe.data.home).collection
    queries = [q.text for q in collection.judged("test")][:500]
    documents = [d.full_text for d in collection.documents[:500]]
    embedder = Embedder(read_encoder(folder), torch.device("cpu"), torch.float32)
    theirs = SentenceTransformer(str(folder), device="cpu")
    limit = embedder.encoder.spec.max_tokens
    pairs = [
        (embedder.embed(queries, "query", limit), theirs.encode(queries, prompt_name="query")),
        (embedder.embed(documents, "document", limit), theirs.encode(documents)),
    ]
    return min(float(np.einsum("nd,nd->n", ours, other).min()) for ours, other in pairs)


def _span(figure: dict[str, float], scale: float = 1.0) -> str:
    return f"{figure['mean'] * scale:.3f} [{figure['low'] * scale:.3f}, {figure['high'] * scale:.3f}]"


def write_report(run: Run, figures: list[dict[str, Any]], grid: dict[str, Any], cosine: float) -> Path:
    """The dated Markdown report."""
    machine = describe_machine(run)
    lines = [
        f"# The default road, {datetime.date.today().isoformat()}",
        "",
        "`python benchmarks/road.py --data DIR`, "
        f"{machine['cpu']}, {machine['threads']} threads, {machine['precision']}, seed {run.recipe.seed}.",
        "nDCG@10 with 95% bootstrap intervals over queries; retention is the ratio to the teacher, paired. Documents of",
        f"away collections are cut at {DOCUMENT_TOKENS} tokens, those of home at {run.recipe.data.max_document_tokens}.",
        "",
        "| collection | n | MiniLM | BM25 | teacher | symmetric | asymmetric | symmetric kept | asymmetric kept"
        " | teacher - MiniLM |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for c in figures:
        rows = {row["system"]: row["ndcg@10"] for row in c["rows"]}
        differences = {d["label"]: d for d in c["differences"]}
        cells = [
            f"{c['name']} ({c['kind']})", str(c["num_queries"]), *(f"{rows[s]['mean']:.3f}" for s in ("baseline", "bm25")),
            *(_span(rows[s]) for s in ("teacher", "symmetric", "asymmetric")),
            *(_span(c["retention"][s]) for s in ("symmetric", "asymmetric")), _span(differences["teacher - baseline"]),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "## Inheritance on builtin:pydocs",
        "",
        "| mode | dim | precision | teacher keeps | student keeps | gap | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in grid["rows"]:
        gap = f"{r['gap']:+.3f} [{r['low']:+.3f}, {r['high']:+.3f}]"
        lines.append(
            f"| {r['mode']} | {r['dim']} | {r['precision']} | {r['teacher_retention']:.3f} | {r['student_retention']:.3f}"
            f" | {gap} | {r['verdict']} |"
        )
    lines += [
        "",
        f"Smallest cosine of the student's vectors in sentence-transformers and in leafkit, 1,000 texts, float32: {cosine:.8f}",
        "",
    ]
    path = Path(__file__).parent / "reports" / f"{datetime.date.today().isoformat()}-road.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def main() -> None:
    """Parse arguments, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of BEIR collections")
    parser.add_argument("--checkpoints", default="checkpoints")
    arguments = parser.parse_args()
    # Two of cranfield's documents have no text.
    overrides = [f"checkpoints={arguments.checkpoints}", "data.on_bad_row=skip"]
    with open_run(load_recipe("kalm-to-23m", overrides)) as run:
        run_distill(run)
        figures = measure(run, arguments.data)
        print(write_report(run, figures, run_inherit(run), parity(run)))


if __name__ == "__main__":
    main()
