"""The instant student: which texts, ridge and lengths its closed form should be fitted to.

    python benchmarks/closed_form.py recipe=own-data data.corpus=beir:FOLDER \
        teacher.source=builtin:mpnet data.num_made_queries=4000 data.num_pseudo_texts=0

Words are those of leafkit distill; teacher vectors are kept in the recipe's checkpoints folder. For
every choice: what held-out documents and made queries find, the cosine of documents left out one by
one, and, what none of them may know, the share of the teacher's nDCG@10 that the judged queries
keep. Lengths: the targets have length one, or the proportions of the start's own vectors. Writes a
dated report.
"""

from __future__ import annotations

import itertools
import sys

import numpy as np
from lib.arguments import make_parser
from lib.machine import describe
from lib.report import publish, table, title

from leafkit.cli.recipe_words import read_recipe
from leafkit.config import Recipe
from leafkit.core.truncate import truncate_then_normalize
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.evaluation.agreement import cosines, shares_found
from leafkit.evaluation.bootstrap import Bootstrap
from leafkit.evaluation.diagnosis.spectrum import sum_for_ridge
from leafkit.evaluation.metrics import per_query_metrics
from leafkit.index.exact import search_exact
from leafkit.index.ranking import exclude_self, tie_order
from leafkit.models.checkpoint import load_encoder
from leafkit.pipeline.corpus import load_corpus
from leafkit.pipeline.distill import load_targets
from leafkit.pipeline.embed import load_query_vectors
from leafkit.pipeline.model_handle import load_teacher
from leafkit.pipeline.run import Run, open_run
from leafkit.pipeline.student.fit.closed_form import follow_lengths
from leafkit.pipeline.student.text_groups import DOCUMENTS, MADE_QUERIES

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
FITTED = {"documents": (DOCUMENTS,), "documents and made queries": (DOCUMENTS, MADE_QUERIES)}
LENGTHS = {"one": lambda inputs, targets: targets, "the start's": follow_lengths}
HELD_OUT = {DOCUMENTS: 0.05, MADE_QUERIES: 0.05}
DEPTH = 10


def nearest(vectors: np.ndarray, documents: np.ndarray, own: np.ndarray | None) -> np.ndarray:
    """(Q, 10) positions, each without its own document."""
    if own is None:
        return search_exact(vectors, documents, DEPTH).positions
    ranking = search_exact(vectors, documents, DEPTH + 1)
    return exclude_self(ranking, own, DEPTH).positions


def measure(run: Run, recipe: Recipe) -> tuple[list[list[str]], str]:
    """A row for every choice, and what it was measured on."""
    corpus, teacher = load_corpus(run, recipe.data.corpus), load_teacher(run)
    collection = corpus.collection
    targets = {t.origin: t for t in load_targets(run, teacher, corpus) if t.origin in HELD_OUT}
    queries = collection.judged(recipe.bench.split)
    asked = load_query_vectors(
        run,
        teacher.model,
        teacher.name,
        queries,
        max_tokens=recipe.data.max_query_tokens,
        what=f"{collection.name} {recipe.bench.split} queries",
    )
    start = load_encoder(recipe.student.init)
    embedder = TransformerEmbedder(start, run.device, run.precision)

    def pool(texts: list[str], role: str, limit: int) -> np.ndarray:
        # the student gets the teacher's prompts
        prompted = [teacher.model.prompt(role) + text for text in texts]
        ids = start.tokenize(prompted, "", limit or teacher.model.max_tokens)
        return embedder.embed_ids(ids, pooled_only=True)

    limits = {
        DOCUMENTS: recipe.data.max_document_tokens,
        MADE_QUERIES: recipe.data.max_query_tokens,
    }
    pooled = {o: pool(t.texts, t.role, limits[o]) for o, t in targets.items()}
    wanted = {o: np.asarray(t.vectors[: len(t.texts)], np.float32) for o, t in targets.items()}
    real = pool([q.text for q in queries], "query", recipe.data.max_query_tokens)
    real_wanted = np.asarray(asked[: len(queries)], dtype=np.float32)
    documents = wanted[DOCUMENTS]
    ids, ties = (
        [d.id for d in collection.documents],
        tie_order([d.id for d in collection.documents]),
    )

    def ndcg(vectors: np.ndarray) -> np.ndarray:
        found = search_exact(vectors, documents, 100, ties)
        names = [q.id for q in queries]
        scores = per_query_metrics(found, names, ids, collection.qrels, metrics=["ndcg@10"])
        return scores["ndcg@10"]

    chooser = np.random.default_rng(recipe.seed)
    held = {
        origin: np.sort(chooser.permutation(len(pooled[origin]))[: int(part * len(pooled[origin]))])
        for origin, part in HELD_OUT.items()
    }
    of_teacher, rows = ndcg(real_wanted), []
    bootstrap = Bootstrap(len(queries), recipe.bench.num_resamples, recipe.seed)
    for name, lengths in itertools.product(FITTED, LENGTHS):
        kept = {o: np.setdiff1d(np.arange(len(pooled[o])), held[o]) for o in FITTED[name]}
        inputs = np.concatenate([pooled[o][kept[o]] for o in kept])
        aims = LENGTHS[lengths](inputs, np.concatenate([wanted[o][kept[o]] for o in kept]))
        sums, of_index = sum_for_ridge(inputs, aims), slice(0, len(kept[DOCUMENTS]))
        for ridge in RIDGES:
            solution = sums.solve(ridge)
            predicted = sums.predict_left_out(inputs[of_index], aims[of_index], ridge)
            left_out = cosines(aims[of_index], predicted).mean()

            def apply(inputs: np.ndarray, fitted=solution) -> np.ndarray:  # noqa: ANN001
                return truncate_then_normalize(inputs @ fitted.weight + fitted.bias)

            overlaps = []
            for origin in HELD_OUT:
                own = held[origin] if origin == DOCUMENTS else None
                both = (wanted[origin][held[origin]], apply(pooled[origin][held[origin]]))
                found = [nearest(vectors, documents, own) for vectors in both]
                overlaps.append(f"{shares_found(*found).mean():.3f}")
            vectors = apply(real)
            found = [nearest(v, documents, None) for v in (real_wanted, vectors)]
            retention = bootstrap.ratio(ndcg(vectors), of_teacher)
            rows.append(
                [
                    name,
                    lengths,
                    f"{ridge:g}",
                    *overlaps,
                    f"{left_out:.3f}",
                    f"{shares_found(*found).mean():.3f}",
                    f"{cosines(real_wanted, vectors).mean():.3f}",
                    f"{retention.value:.1%} [{retention.low:.1%}, {retention.high:.1%}]",
                ]
            )
    what = (
        f"{collection.name}: {len(documents):,} documents, {len(targets[MADE_QUERIES].texts):,} "
        f"made queries, {len(queries):,} judged queries that nothing was chosen by; teacher "
        f"{teacher.reference}, nDCG@10 {of_teacher.mean():.3f}; start {recipe.student.init}. "
        "One seed."
    )
    return rows, what


def main() -> None:
    parser = make_parser(__doc__, can_print=True)
    options, words = parser.parse_known_args()
    recipe = read_recipe("distill", words)
    if not recipe.data.num_made_queries:
        sys.exit("data.num_made_queries=4000, say: made queries are half of what is compared")
    with open_run(recipe) as run:
        rows, what = measure(run, recipe)
        precision = str(run.precision)
    header = ["fitted to", "lengths", "ridge", "held-out documents", "held-out made queries"]
    header += ["left-out documents, cosine", "judged queries", "their cosine"]
    header += ["of the teacher's nDCG@10, asymmetric"]
    lines = [
        *title("The closed form of an instant student"),
        f"`python benchmarks/closed_form.py ...`, {describe('torch')}, {precision}. {what}",
        "",
        "Held-out texts and judged queries: share of the teacher's ten nearest documents that are "
        "found (overlap@10).",
        "",
        *table(header, rows),
    ]
    publish(lines, "closed_form", print_only=options.print_only)


if __name__ == "__main__":
    main()
