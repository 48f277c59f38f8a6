"""README's table of collections: a recipe's distillation, its benchmark in-domain and
out-of-domain, its full inheritance grid.

    python benchmarks/asymmetric.py [--recipe kalm-to-23m] [--data FOLDER_OF_BEIR_COLLECTIONS]
        [--checkpoints checkpoints] [--collections scifact npl]

Collections that are not there are left out, and the report says which. Finished parts are taken
from the checkpoints. Writes a dated Markdown report; the HTML reports are beside the recipe's
artifacts.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

from lib.arguments import make_parser
from lib.report import command, save, table, title

from leafkit.results import Contamination, EvaluationResult, InheritanceGrid
from leafkit.results.retrieval import MAIN

COLLECTIONS = ("scifact", "cranfield", "npl", "medquad")
TASKS = (
    "sts:sts/stsb_en.jsonl",
    "classification:cls/banking77.jsonl",
    "clustering:cls/banking77.jsonl",
)
# without opq, whose training takes minutes in 768 dimensions: see indexes.py
INDEX_KINDS = ("flat", "hnsw", "ivf_flat", "ivf_pq", "int8", "binary", "binary_rescored", "rabitq")
FULL_GRID = {
    "precisions": ["float32", "float16", "int8", "int8_fixed", "int4", "binary", "pq"],
    "queries": ["float", "quantized"],
    "rescoring": [0, 4],
}
SYSTEMS = ("baseline", "bm25", "teacher", "symmetric", "asymmetric", "reversed")
NUM_PARITY_TEXTS = 500  # queries and as many documents


def retrieval(bench: EvaluationResult) -> list[str]:
    """nDCG@10 of every system, what the student keeps, and the teacher against MiniLM."""
    rows = []
    measured = [(c.name, f"{c.num_queries}", c) for c in bench.collections]
    averages = [("macro average", "", bench.macro)] if bench.macro else []
    for name, size, c in [*measured, *averages]:
        found = {row.system: str(row.metrics[MAIN]) for row in c.systems}
        differences = {d.label: d.interval for d in c.differences}
        rows.append(
            [
                name,
                size,
                *(found.get(s, "") for s in SYSTEMS),
                *(str(c.retention[s]) for s in ("symmetric", "asymmetric")),
                *(
                    differences[d].signed()
                    for d in ("teacher - baseline", "asymmetric - symmetric")
                ),
            ]
        )
    header = [
        "collection",
        "n",
        "MiniLM",
        "BM25",
        "teacher",
        "student/student",
        "student/teacher",
        "teacher/student",
        "symmetric kept",
        "asymmetric kept",
        "teacher - MiniLM",
        "asymmetric - symmetric",
    ]
    return table(header, rows)


def contamination(bench: EvaluationResult) -> list[str]:
    """Evaluation texts that training saw."""
    rows = []
    for c in bench.collections:
        found = c.contamination or Contamination(unknown="not checked")
        counts = [
            f"{part.exact:,} exact, {part.near:,} near of {part.total:,}" if part else found.unknown
            for part in (found.queries, found.documents)
        ]
        rows.append([c.name, *counts, str(c.own_documents_dropped)])
    return table(
        [
            "collection",
            "test queries seen in training",
            "documents seen in training",
            "own documents dropped",
        ],
        rows,
    )


def tasks(bench: EvaluationResult) -> list[str]:
    """STS, classification, clustering."""
    rows = [
        [t.name, t.metric, str(t.num_rows), encoder, str(score)]
        for t in bench.tasks
        for encoder, score in t.scores.items()
    ]
    return table(["task", "metric", "n", "model", "score"], rows)


def indexes(bench: EvaluationResult) -> list[str]:
    """What each faiss index costs and keeps."""
    rows = [
        [
            r.kind,
            r.setting,
            r.queries,
            f"{r.bytes_per_vector:,.0f}",
            f"{r.build_s:.1f}",
            f"{r.queries_per_s:,.0f}",
            str(r.recall_at_10),
            str(r.ndcg_at_10),
            "x" if r.is_cheapest_at_target else "",
        ]
        for r in bench.indexes
    ]
    return table(
        [
            "index",
            "setting",
            "queries",
            "bytes/vector",
            "build s",
            "queries/s",
            "recall@10",
            "nDCG@10",
            "cheapest at target",
        ],
        rows,
    )


def inheritance(grid: InheritanceGrid) -> list[str]:
    """Every cell of the grid."""
    rows = [
        [
            c.mode,
            str(c.dim),
            c.precision,
            c.queries,
            str(c.rescoring),
            f"{c.bytes_per_vector:g}",
            f"{c.teacher_retention.value:.3f}",
            f"{c.student_retention.value:.3f}",
            c.gap.signed(),
            c.verdict,
        ]
        for c in grid.cells
    ]
    return table(
        [
            "mode",
            "dim",
            "precision",
            "queries",
            "rescoring",
            "bytes",
            "teacher keeps",
            "student keeps",
            "gap",
            "verdict",
        ],
        rows,
    )


def parity(folder: Path, texts: tuple[list[str], list[str]]) -> float:
    """Smallest cosine between sentence-transformers' and leafkit's vectors of a model, prompts
    included, float32.
    """
    import numpy as np
    import torch
    from sentence_transformers import SentenceTransformer

    from leafkit.embedders.transformer import TransformerEmbedder
    from leafkit.models.checkpoint import read_encoder

    embedder = TransformerEmbedder(read_encoder(folder), torch.device("cpu"), torch.float32)
    theirs = SentenceTransformer(str(folder), device="cpu")
    limit = embedder.encoder.spec.max_tokens
    queries, documents = texts
    pairs = [
        (embedder.embed(queries, "query", limit), theirs.encode(queries, prompt_name="query")),
        (embedder.embed(documents, "document", limit), theirs.encode(documents)),
    ]
    return min(float(np.einsum("nd,nd->n", ours, other).min()) for ours, other in pairs)


def main() -> None:
    """Distil, measure, write."""
    parser = make_parser(__doc__)
    parser.add_argument("--recipe", default="kalm-to-23m")
    parser.add_argument("--data", type=Path, help="folder of BEIR collections, of sts/ and of cls/")
    parser.add_argument("--checkpoints", default="checkpoints")
    parser.add_argument(
        "--collections",
        nargs="*",
        default=COLLECTIONS,
        choices=COLLECTIONS,
        help="of DIR; all of them",
    )
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    from leafkit.config.load import load_recipe
    from leafkit.core.checkpoint_layout import STUDENT
    from leafkit.pipeline.corpus import load_corpus
    from leafkit.pipeline.distill import run_distill
    from leafkit.pipeline.evaluate.bench import run_bench
    from leafkit.pipeline.evaluate.collect import collect_bench
    from leafkit.pipeline.evaluate.inherit import run_inherit
    from leafkit.pipeline.run import open_run

    there = [
        name for name in options.collections if options.data and (options.data / name).is_dir()
    ]
    task_files = [
        t for t in TASKS if options.data and (options.data / t.partition(":")[2]).is_file()
    ]
    # two of cranfield's documents have no text
    overrides = [
        f"checkpoints={options.checkpoints}",
        "data.on_bad_row=skip",
    ]
    recipe = load_recipe(options.recipe, overrides)
    uris = [*recipe.bench.collections, *(f"beir:{options.data / name}" for name in there)]
    task_uris = [f"{t.partition(':')[0]}:{options.data / t.partition(':')[2]}" for t in task_files]
    bench = replace(
        recipe.bench,
        collections=uris,
        tasks=task_uris,
        indexes=replace(recipe.bench.indexes, kinds=list(INDEX_KINDS)),
    )
    wide = replace(
        recipe,
        name=f"{recipe.name}-wide",
        bench=replace(bench, student=f"recipe:{options.recipe}"),
        inherit=replace(recipe.inherit, **FULL_GRID),
    )
    with open_run(recipe) as run:
        run_distill(run)
        wider = run.with_recipe(wide)
        run_bench(wider)
        report = collect_bench(wider, f"python benchmarks/asymmetric.py --recipe {options.recipe}")
        started_s = time.perf_counter()
        grid = run_inherit(wider)
        grid_s = time.perf_counter() - started_s
        collection = load_corpus(run, recipe.data.corpus).collection
        texts = (
            [q.text for q in collection.judged("test")],
            [d.full_text for d in collection.documents],
        )
        cosine = parity(
            run.folder / STUDENT, (texts[0][:NUM_PARITY_TEXTS], texts[1][:NUM_PARITY_TEXTS])
        )
    machine, compared = report.machine, report.bench.indexes
    verdicts = [cell.verdict for cell in grid.cells]
    counts = ", ".join(f"{verdicts.count(v)} {v}" for v in sorted(set(verdicts)))
    missing = [name for name in COLLECTIONS if name not in there]
    lines = [
        *title(f"{options.recipe}, in-domain and out-of-domain"),
        f"{command()}, {machine.cpu},"
        f" {machine.threads} threads, {machine.precision}, seed {recipe.seed}.",
        "nDCG@10 with 95% bootstrap intervals over queries (10,000 resamples); kept: ratio to "
        "the teacher, paired. X/Y: X"
        f" embeds queries, Y documents. Documents cut at {recipe.data.max_document_tokens} "
        f"tokens in-domain,"
        f" {bench.max_document_tokens} elsewhere."
        + (f" Not there: {', '.join(missing)}." if missing else ""),
        "",
        *retrieval(report.bench),
        "## Contamination",
        "",
        *contamination(report.bench),
        *(["## Other tasks", "", *tasks(report.bench)] if task_uris else []),
        f"## Indexes of {compared[0].collection if compared else 'none'}",
        "",
        *indexes(report.bench),
        f"## Inheritance on {grid.collection}, {grid.num_queries:,} queries, "
        f"{grid.num_documents:,} documents",
        "",
        f"{len(verdicts)} cells in {grid_s:.0f} s from stored vectors (0 s: taken from an "
        f"earlier run): {counts}.",
        "",
        *inheritance(grid),
        f"Smallest cosine of the student's vectors in sentence-transformers and in leafkit, "
        f"{2 * NUM_PARITY_TEXTS:,} texts,"
        f" float32: {cosine:.8f}",
        "",
    ]
    print(save(lines, f"asymmetric-{options.recipe}"))


if __name__ == "__main__":
    main()
