"""What a rescued index answers, beside the model that it lost: a known teacher is hidden.

    python benchmarks/rescue.py --corpus beir:FOLDER --folder DIR --vectors 1000 4000 16000

Of every corpus so many documents' vectors, chosen by their texts' hashes, are all that `leafkit
rescue` gets. The index that is asked is the whole one. The teacher's own queries, which nothing of
the rescue sees, are the measure: the share of their nDCG@10 that the rescued student keeps, beside
the closed-form linear map of the same vectors, a random map and BM25, on the judged queries, with
paired intervals. Finished cells are kept in DIR and not computed again; one that was measured with
other options is refused. Words behind the options are those of the rescue's recipe. Writes a dated
report.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lib.arguments import add_cell_options, make_parser
from lib.case import Judged, read_case_recipe
from lib.cells import about_options, check_about, write
from lib.machine import describe
from lib.pinned import pin
from lib.report import command, publish, table, title
from lib.retention import Retention, points

SYSTEMS = ("rescued", "linear map", "random map", "BM25")
CHECKED = 4000  # vectors at which the bar is asked
_SMALLEST_GAP = 0.005  # that a share of says anything
Cell = Mapping[str, list[float]]  # nDCG@10 of each query by system, the teacher among them


@dataclass(frozen=True)
class Truth:
    """A corpus as the hidden teacher sees it."""

    name: str
    judged: Judged


def open_truth(options: argparse.Namespace, corpus: str) -> Truth:
    """Documents and judged queries with the teacher's vectors; what DIR lacks is embedded now."""
    from lib.case import load_case

    from leafkit.pipeline.run import open_run

    words = [
        f"data.corpus={corpus}",
        f"teacher.source={options.teacher}",
        f"checkpoints={options.folder}",
        f"data.max_document_tokens={options.max_document_tokens}",
        "data.num_made_queries=0",
        "data.max_train_queries=1",
        "name=truth",
    ]
    with open_run(read_case_recipe("own-index", words)) as run:
        judged = load_case(run).home
    return Truth(judged.collection.name, judged)


def write_pairs(truth: Truth, count: int, folder: Path) -> None:
    """What is left of the index: some documents with their vectors."""
    from leafkit.data.vector_store import hash_texts

    documents = truth.judged.collection.documents
    order = np.argsort(hash_texts(truth.judged.texts), kind="stable")
    # a rescue refuses rows without a text, and some collections have them
    chosen = np.sort([i for i in order.tolist() if documents[i].text.strip()][:count])
    rows = [documents[i] for i in chosen.tolist()]
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"id": d.id, "title": d.title, "text": d.text}) for d in rows]
    (folder / "documents.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    vectors = np.asarray(truth.judged.documents[chosen], dtype=np.float32)
    np.save(folder / "documents.npy", vectors)


def rescue(truth: Truth, folder: Path, words: Sequence[str]) -> dict[str, object]:
    """The systems' nDCG@10 by query, seconds, and the certificate's figures."""
    from leafkit.evaluation.bm25 import search_bm25
    from leafkit.evaluation.metrics import fast_ndcg
    from leafkit.index.ranking import exclude_self
    from leafkit.pipeline.corpus import load_corpus
    from leafkit.pipeline.distill import load_targets, save_student
    from leafkit.pipeline.model_handle import load_student, load_teacher
    from leafkit.pipeline.rescue.certify import fit_maps, run_certificate
    from leafkit.pipeline.rescue.pairs import read_pair_source, with_pairs
    from leafkit.pipeline.run import open_run
    from leafkit.pipeline.student.leave_out import leave_out
    from leafkit.pipeline.student.targets import TokenLimits
    from leafkit.pipeline.student.unjudged_test_set import choose_held_out, unseen_texts

    said = [f"checkpoints={folder / 'ck'}", "name=rescued", *words]
    started = time.perf_counter()
    with open_run(read_case_recipe("rescue", said)) as opened:
        run = with_pairs(opened, read_pair_source(f"vectors:{folder / 'pairs'}"))
        recipe, teacher = run.recipe, load_teacher(run)
        corpus = load_corpus(run, recipe.data.corpus)
        targets = load_targets(run, teacher, corpus)
        held_out = choose_held_out(corpus.collection, recipe.bench.split, teacher)
        kept = leave_out(targets, unseen_texts(held_out))
        save_student(run, teacher, corpus, kept)
        seconds = time.perf_counter() - started
        certificate = run_certificate(run)
        limits = TokenLimits(recipe.data.max_query_tokens, recipe.data.max_document_tokens)
        linear, random = fit_maps(run, teacher, kept[:1], limits)
        models = {
            "rescued": load_student(run, teacher).model,
            "linear map": linear,
            "random map": random,
        }
        judged = truth.judged
        values = {"teacher": judged.ndcg(judged.queries)} | {
            name: judged.ndcg(model.embed(judged.asked, "query", limits.query))
            for name, model in models.items()
        }
    ranking = search_bm25(judged.asked, judged.texts, 11)
    values["BM25"] = fast_ndcg(exclude_self(ranking, judged.own, 10), judged.judgments)
    systems = {system.name: system for system in certificate.systems}
    return {
        "ndcg": {name: np.round(found, 6).tolist() for name, found in values.items()},
        "seconds": seconds,
        "documents": len(corpus.collection.documents),
        "whole": len(judged.texts),
        "certified": {
            name: [system.query_overlap.value, system.source_gain.value]
            for name, system in systems.items()
        },
        "cuts": [str(cut) for cut in certificate.cuts],
    }


def measure(options: argparse.Namespace) -> dict[tuple[str, int], dict[str, object]]:
    """Every cell, out of DIR where it is there."""
    found: dict[tuple[str, int], dict[str, object]] = {}
    for corpus in options.corpus:
        truth: Truth | None = None
        stem = corpus.rstrip("/").rpartition("/")[2]
        for count in sorted(options.vectors):
            folder = options.folder / "cells" / f"{stem}-{count}-{options.label}"
            path = folder / "cell.json"
            about = about_options(options, corpus, vectors=count)
            if not path.is_file():
                truth = truth or open_truth(options, corpus)
                write_pairs(truth, count, folder / "pairs")
                cell = rescue(truth, folder, options.words)
                write(path, {"about": about, **cell})
            found[(stem, count)] = json.loads(path.read_text(encoding="utf-8"))
            check_about(path, found[(stem, count)].get("about"), about)
            if int(str(found[(stem, count)]["documents"])) < count:
                break  # that was the whole index
    return found


def rows_of(found: Mapping[tuple[str, int], dict[str, object]]) -> Iterator[list[str]]:
    """A row per cell."""
    for (stem, count), cell in found.items():
        ndcg: Cell = cell["ndcg"]  # type: ignore[assignment]
        kept = Retention({stem: ndcg["teacher"]}, [stem])
        shares = {name: kept.of({stem: ndcg[name]}) for name in SYSTEMS}
        gain = kept.difference({stem: ndcg["rescued"]}, {stem: ndcg["linear map"]})
        yield [
            stem,
            f"{min(count, int(str(cell['documents']))):,} of {cell['whole']:,}",
            str(len(ndcg["teacher"])),
            f"{np.mean(ndcg['teacher']):.3f}",
            *(shares[name].percent() for name in SYSTEMS),
            points(gain),
            closed(shares["rescued"].value, shares["linear map"].value),
            f"{cell['seconds']:.0f} s",
        ]


def closed(rescued: float, linear: float) -> str:
    """Share of the linear map's gap to the teacher that is closed.

    >>> closed(0.95, 0.9), closed(0.85, 0.9), closed(1.0, 0.999)
    ('50%', '-50%', 'no gap')
    """
    return "no gap" if linear > 1 - _SMALLEST_GAP else f"{(rescued - linear) / (1 - linear):.0%}"


def judge(found: Mapping[tuple[str, int], dict[str, object]]) -> list[str]:
    """Whether the bar is met at ``CHECKED`` vectors, in sentences."""
    cells = {stem: cell["ndcg"] for (stem, count), cell in found.items() if count == CHECKED}
    if not cells:
        return [f"No corpus was measured with {CHECKED:,} vectors: the bar was not asked.", ""]
    names = list(cells)
    kept = Retention({name: cells[name]["teacher"] for name in names}, names)  # type: ignore[index]
    mean = {
        system: kept.of({name: cells[name][system] for name in names})  # type: ignore[index]
        for system in SYSTEMS
    }
    part = closed(mean["rescued"].value, mean["linear map"].value)
    lines = [
        f"At {CHECKED:,} vectors, the mean over {', '.join(names)}: rescued "
        f"{mean['rescued'].percent()}, linear map {mean['linear map'].percent()}, BM25 "
        f"{mean['BM25'].percent()} of the teacher's nDCG@10. Closed of the linear map's gap: "
        f"{part}; the bar is half of it.",
        "",
    ]
    for name in names:
        ndcg: Cell = cells[name]  # type: ignore[assignment]
        teacher, bm25, own = (np.mean(ndcg[s]) for s in ("teacher", "BM25", "rescued"))
        if teacher > bm25:
            verdict = "beats" if own > bm25 else "does not beat"
            lines += [f"- {name}: the teacher beats BM25, and the rescued student {verdict} it."]
        else:
            lines += [f"- {name}: the teacher itself does not beat BM25."]
    return [*lines, ""]


def certified(found: Mapping[tuple[str, int], dict[str, object]]) -> Iterator[list[str]]:
    """What the certificates said, which no judged query has a part in."""
    for (stem, count), cell in found.items():
        figures: Mapping[str, list[float]] = cell["certified"]  # type: ignore[assignment]
        yield [
            stem,
            f"{min(count, int(str(cell['documents']))):,}",
            *(f"{figures[name][0]:.1%} / {figures[name][1]:.3f}" for name in figures),
        ]


def main() -> None:
    """Measure, then write the report."""
    parser = make_parser(__doc__, can_print=True)
    add_cell_options(parser, "rescue", "rescue")
    parser.add_argument("--teacher-name", default="", help="in the report, of vectors:FOLDER")
    parser.add_argument("--vectors", type=int, nargs="+", default=[1000, 4000, 16000])
    options = parser.parse_args()
    pin(options.threads)
    found = measure(options)
    words = " ".join(options.words) or "none"
    heads = ("corpus", "vectors", "queries", "teacher's nDCG@10", *SYSTEMS)
    lines = [
        *title("Rescue of a hidden teacher"),
        f"{command()}, {describe('torch', num_threads=options.threads)}. Teacher "
        f"{options.teacher_name or options.teacher}, documents cut at "
        f"{options.max_document_tokens} tokens; recipe rescue, words: {words}. One seed.",
        "",
        "Shares of the teacher's own nDCG@10 on judged queries that nothing was trained on or "
        "chosen by; rescued minus linear map in points, paired.",
        "",
        *table(
            (*heads, "rescued - linear map", "gap closed", "time"),
            rows_of(found),
        ),
        *judge(found),
        "What the certificates said without any query: share of the ten documents nearest to a "
        "held-out document that a query made of it finds / nDCG@10 of that document.",
        "",
        *table(
            ("corpus", "vectors", "rescued", "linear map", "random map", "BM25"), certified(found)
        ),
    ]
    publish(lines, options.name, print_only=options.print_only)


if __name__ == "__main__":
    main()
