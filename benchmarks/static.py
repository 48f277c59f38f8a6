"""A lookup-table student: how long one query takes beside its peers, and what it keeps of the
teacher.

    python benchmarks/static.py [--checkpoints checkpoints] [--recipe kalm-to-static] [--sweep]

Makes the student where it is not there (the teacher and its vectors too: minutes). Latency: the
test queries one at a time, one thread, tokenizer included, all ways taking turns. Quality: student
queries against the teacher's documents, in-domain and out-of-domain. --sweep trains again under
other settings, one changed at a time. Writes a dated report.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lib.arguments import make_parser
from lib.machine import describe
from lib.report import command, save, title
from sentence_transformers import SentenceTransformer

from leafkit.config import Recipe
from leafkit.config.load import load_recipe
from leafkit.data.vector_store import VectorStore
from leafkit.embedders.lookup_table import LookupTableEmbedder
from leafkit.evaluation.bootstrap import Bootstrap
from leafkit.evaluation.metrics import Judgments, fast_ndcg
from leafkit.index.exact import search_exact
from leafkit.models.builtin.find import find_builtin
from leafkit.models.static_encoder import StaticEncoder, read_static
from leafkit.pipeline.corpus import Corpus, load_corpus
from leafkit.pipeline.distill import load_targets, run_teach, save_student, teacher_recipe
from leafkit.pipeline.embed import load_vectors
from leafkit.pipeline.model_handle import ModelHandle, load_teacher
from leafkit.pipeline.run import Run, open_run

NUM_REPETITIONS = 5
NUM_RESAMPLES = 10_000
# of student.
SWEEP = (
    "static.width=128",
    "static.width=256",
    "static.width=640",
    "static.document_epochs=2",
    "static.document_epochs=8",
    "static.query_epochs=1",
    "static.query_epochs=8",
    "static.lr=0.003",
    "static.lr=0.03",
    "static.query_lr=0.001",
    "static.query_lr=0.01",
    "static.texts_per_batch=128",
    "static.texts_per_batch=512",
    "optimizer.weight_decay=0",
)


@dataclass(frozen=True, slots=True)
class Judged:
    """A collection with the teacher's vectors of its documents and judged queries."""

    name: str
    texts: list[str]
    documents: np.ndarray
    queries: np.ndarray
    judgments: Judgments

    def ndcg(self, queries: np.ndarray) -> np.ndarray:
        """nDCG@10 of each query."""
        return fast_ndcg(
            search_exact(queries, self.documents, 10, self.judgments.ties), self.judgments
        )


def read_judged(run: Run, teacher: ModelHandle, uri: str, max_document_tokens: int) -> Judged:
    """A collection; the teacher embeds what it has not embedded."""
    corpus = load_corpus(run, uri)
    found, judged = corpus.collection, corpus.collection.judged(run.recipe.bench.split)

    def embed(texts: list[str], role: str, max_tokens: int) -> VectorStore:
        return load_vectors(
            run,
            teacher.model,
            teacher.name,
            texts,
            role=role,
            max_tokens=max_tokens,
            what=f"{found.name} {role}s",
        )

    texts = [q.text for q in judged]
    return Judged(
        found.name,
        texts,
        embed([d.full_text for d in found.documents], "document", max_document_tokens)[:],
        embed(texts, "query", run.recipe.data.max_query_tokens)[:],
        Judgments([q.id for q in judged], [d.id for d in found.documents], found.qrels),
    )


def distil(run: Run, teacher: ModelHandle, corpus: Corpus) -> tuple[StaticEncoder, float]:
    """The recipe's student and the seconds it took, teacher vectors of tokens not counted."""
    targets, before = load_targets(run, teacher, corpus), len(run.steps)
    folder = save_student(run, teacher, corpus, targets)
    seconds = next(s["seconds"] for s in run.steps[before:] if s["name"] == "student")
    return read_static(folder), seconds


def quality_row(
    label: str, student: StaticEncoder, collections: Sequence[Judged], seconds: float
) -> str:
    """Asymmetric nDCG@10 with interval and share of the teacher's, per collection."""
    model, cells = LookupTableEmbedder(student), []
    for one in collections:
        draws = Bootstrap(len(one.texts), NUM_RESAMPLES, 0)
        vectors = model.embed(one.texts, "query", 64)
        ours, best = one.ndcg(vectors), one.ndcg(one.queries)
        mean, kept = draws.mean(ours), draws.ratio(ours, best)
        cosine = float((vectors * one.queries).sum(axis=1).mean())
        cells.append(f"{mean} | {kept.value:.1%} [{kept.low:.1%}, {kept.high:.1%}] | {cosine:.3f}")
    return f"| {label} | {' | '.join(cells)} | {seconds:.0f} |"


def time_ways(
    ways: dict[str, Callable[[str], object]], texts: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """p50 and p99 in ms of each way: medians over repetitions, in each of which every text is
    answered by all in turn.
    """
    quantiles: dict[str, list[np.ndarray]] = {name: [] for name in ways}
    for way in ways.values():
        for text in texts[:20]:
            way(text)
    for _ in range(NUM_REPETITIONS):
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for text in texts:
            for name, way in ways.items():
                started_s = time.perf_counter()
                way(text)
                seconds[name].append(time.perf_counter() - started_s)
        for name, values in seconds.items():
            quantiles[name].append(np.quantile(values, (0.5, 0.99)))
    return {name: tuple(1e3 * np.median(values, axis=0)) for name, values in quantiles.items()}


def latency_rows(folder: Path, texts: Sequence[str]) -> list[str]:
    """leafkit's ways to answer a query of the student, and sentence-transformers' with it and with
    MiniLM.
    """
    student = read_static(folder)
    fast, half = LookupTableEmbedder(student), LookupTableEmbedder(student, np.float16)
    table, weight = (
        student.table.weight.detach().numpy(),
        student.projection.weight.detach().numpy().T.copy(),
    )
    bias = student.projection.bias.detach().numpy()

    def narrow(text: str) -> np.ndarray:
        """The table as it is stored, and a product with W_out for each query."""
        ids = student.tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids
        vector = table.take(ids, axis=0).mean(axis=0) @ weight + bias
        return vector / np.sqrt(vector @ vector)

    theirs = SentenceTransformer(str(folder), device="cpu")
    minilm = SentenceTransformer(str(find_builtin("builtin:minilm")), device="cpu")
    ways: dict[str, Callable[[str], object]] = {
        "leafkit, folded table, float32": fast.embed_one,
        "leafkit, folded table, float16": half.embed_one,
        "leafkit, narrow table and W_out": narrow,
        "tokenizer alone": lambda text: student.tokenizer.encode_batch_fast(
            [text], add_special_tokens=False
        ),
        "sentence-transformers, the same folder": lambda text: theirs.encode(
            text, show_progress_bar=False
        ),
        "sentence-transformers, all-MiniLM-L6-v2": lambda text: minilm.encode(
            text, show_progress_bar=False
        ),
    }
    found = time_ways(ways, texts)
    base = found["leafkit, folded table, float32"][0]
    return [
        f"| {name} | {p50:.3f} | {p99:.3f} | {p50 / base:.1f} |"
        for name, (p50, p99) in found.items()
    ]


def measure(
    recipe: Recipe, sweep: Sequence[str], load: Callable[[Sequence[str]], Recipe]
) -> list[str]:
    """The report's lines."""
    rows = []
    with open_run(recipe) as run:
        if recipe.teacher.source.startswith("recipe:"):
            run_teach(run.with_recipe(teacher_recipe(recipe)))
        corpus, teacher = load_corpus(run, recipe.data.corpus), load_teacher(run)
        student, seconds = distil(run, teacher, corpus)
        collections = [
            read_judged(run, teacher, recipe.data.corpus, recipe.data.max_document_tokens)
        ]
        collections += [
            read_judged(run, teacher, uri, recipe.bench.max_document_tokens)
            for uri in recipe.bench.collections
        ]
        rows.append(quality_row("the recipe", student, collections, seconds))
        print(rows[-1], flush=True)
        for change in sweep:
            changed = run.with_recipe(load([f"student.{change}", f"name={recipe.name}-sweep"]))
            rows.append(
                quality_row(
                    change,
                    *distil(changed, teacher, corpus)[:1],
                    collections,
                    run.steps[-1]["seconds"],
                )
            )
            print(rows[-1], flush=True)
        latency = latency_rows(run.folder / "student", collections[0].texts)
        num_tokens = np.mean([len(ids) for ids in student.tokenize(collections[0].texts)])
    heads = " | ".join(f"{c.name} nDCG@10 | kept | cosine" for c in collections)
    sizes = "; ".join(
        f"{c.name}: {len(c.texts):,} queries, {len(c.documents):,} documents, teacher's nDCG@10"
        f" {c.ndcg(c.queries).mean():.3f}"
        for c in collections
    )
    return [
        f"{student.num_parameters():,} parameters; {sizes}. Intervals: 95% paired bootstrap over "
        f"queries.",
        "",
        f"| setting | {heads} | training s |",
        "|---|" + "---|" * (3 * len(collections) + 1),
        *rows,
        "",
        f"One query of {num_tokens:.1f} tokens on average, ms, medians of {NUM_REPETITIONS} "
        f"repetitions over"
        f" {len(collections[0].texts):,} queries:",
        "",
        "| way | p50 | p99 | p50 / leafkit's |",
        "|---|---|---|---|",
        *latency,
    ]


def main() -> None:
    """Train what is not there, measure, and write the report."""
    parser = make_parser(__doc__)
    parser.add_argument("--checkpoints", default="checkpoints")
    parser.add_argument("--recipe", default="kalm-to-static")
    parser.add_argument(
        "--precision", default="auto", help="what the teacher's vectors were made with"
    )
    parser.add_argument("--sweep", action="store_true", help="train again under other settings")
    options = parser.parse_args()
    torch.set_num_threads(1)

    def load(overrides: Sequence[str]) -> Recipe:
        common = [f"checkpoints={options.checkpoints}", f"precision={options.precision}"]
        return load_recipe(options.recipe, [*common, *overrides])

    lines = measure(load([]), SWEEP if options.sweep else (), load)
    head = [
        *title("A lookup-table student"),
        f"{command()}, {describe('torch', num_threads=1)}, float32, recipe {options.recipe}.",
    ]
    print(save([*head, *lines], "static"))


if __name__ == "__main__":
    main()
