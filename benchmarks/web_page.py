"""The page that `leafkit export to=web` writes, in Chromium on one core: from its opening to the
first answer, then question after question.

    python benchmarks/web_page.py --pair checkpoints/kalm-to-23m [--turns 3] [--queries 128]
        [--exported FOLDER] [--runtime FOLDER] [--core N]

--exported holds what `leafkit export to=web` wrote of the pair (web/); without it the page is
exported first, with the runtime that `npm ci` brings into tests/browser beside the driver of
Chromium, or that npm installed into --runtime. Every turn opens the page in a profile of its own,
so that nothing is in a cache, and asks while the page loads, as a person would. Chromium's
processes share the core --core (the last that this process may use unless said), and the server of
files has the others. The hits are compared with those of leafkit's own int8 search, the vectors
with those of the same graph outside of the browser. --tiny measures a pair of no size, to show that
the script works. Writes a dated report.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lib.arguments import make_parser
from lib.children import Figures, median
from lib.chromium import Watch, chromium_version, files_served, processes_on, write_starter
from lib.machine import describe
from lib.report import command, publish, table, title
from serve_parts.made import make_tiny_pair
from serve_parts.ways import choose_questions

import leafkit
from leafkit.core.checkpoint_layout import GRAPH_ABOUT_FILE
from leafkit.core.errors import LeafkitError
from leafkit.embedders.make_embedder import make_embedder
from leafkit.embedders.onnx_graph import OnnxGraphEmbedder
from leafkit.exporters.web.runtime import PACKAGES
from leafkit.exporters.web.target import ABOUT_FILE
from leafkit.index.exact import search_exact
from leafkit.pipeline.pair import Pair
from leafkit.server.answers.documents import DocumentVectors

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
from browser import MODULES, Browser, why_missing

FIRST_BAR_S, P50_BAR_MS = 3.0, 60.0
NUM_HITS = 10  # that the page shows
_ANSWER_WITHIN_S = 120
# a question asked through the form, until its documents stand in the page; times are of the page's
# clock, which begins when it is opened
_ASK = """new Promise((resolve, reject) => {
  const late = setTimeout(() => reject(new Error(document.body.innerText)), %d);
  const hits = document.getElementById("hits");
  new MutationObserver((changes, watching) => {
    const shown = performance.now();
    watching.disconnect();
    clearTimeout(late);
    const ids = [...hits.children].map((item) => item.dataset.id);
    resolve({ asked, shown, ids });
  }).observe(hits, { childList: true });
  document.getElementById("query").value = %s;
  const asked = performance.now();
  document.getElementById("ask").requestSubmit();
})"""


def measure_page(folder: Path, questions: Sequence[str], starter: Path, core: int) -> Figures:
    """One turn: a fresh profile, the first question while the page loads, then the others, then all
    once more for the page's own times and vectors.

    Returns:
        "first_s" from the page's opening, "p50_ms" and "p95_ms" of the other questions until their
        hits are shown, "embed_ms" and "search_ms" the page's medians, "mib" of all the browser's
        processes (proportional set size), "bytes" and "files" fetched, "others" of ``Watch``,
        "shown" and "found" the hits' ids and "vectors" by question.
    """
    with files_served(folder) as files, Browser(str(starter)) as browser:
        limit_ms = 1000 * _ANSWER_WITHIN_S
        # the parts are still on their way when this returns
        browser.call("goto", files.url, {"waitUntil": "domcontentloaded"})
        shown = [browser.evaluate(_ASK % (limit_ms, json.dumps(questions[0])))]
        with Watch(core) as watch:
            shown += [browser.evaluate(_ASK % (limit_ms, json.dumps(q))) for q in questions[1:]]
        mib = sum(one.memory_full_info().pss for one in processes_on(core)) / 2**20
        answers = [
            browser.evaluate(f"leafkit.search({json.dumps(question)}, {NUM_HITS})")
            for question in questions
        ]
        if browser.console:
            raise SystemExit(f"the page is not well: {browser.console}")
    each = [one["shown"] - one["asked"] for one in shown[1:]]
    times = {
        key: float(np.median([answer["timings"][key] for answer in answers[1:]]))
        for key in ("embed_ms", "search_ms")
    }
    return times | {
        "first_s": shown[0]["shown"] / 1000,
        "p50_ms": float(np.percentile(each, 50)),
        "p95_ms": float(np.percentile(each, 95)),
        "mib": mib,
        "bytes": files.num_bytes,
        "files": files.num_files,
        "others": watch.others,
        "shown": [one["ids"] for one in shown],
        "found": [[hit["id"] for hit in answer["hits"]] for answer in answers],
        "vectors": [answer["vector"] for answer in answers],
    }


@dataclass(frozen=True)
class Agreement:
    """The page's answers beside leafkit's.

    Attributes:
        num_found: questions whose hits are those of leafkit's int8 search for the page's own
            vector, in its order.
        num_equal: those of leafkit's int8 search for the vector of the same graph outside of the
            browser.
        overlap: share of the latter's documents that the page shows, in any order.
        cosines: (Q,) of the question's vectors, in the page and outside.
        page: median cosine of the page's vectors with those of the model in float32.
        native: of those outside of the browser.
    """

    num_found: int
    num_equal: int
    overlap: float
    cosines: np.ndarray
    page: float
    native: float


def compare(
    pair: Pair, folder: Path, questions: Sequence[str], turn: Mapping[str, Any]
) -> Agreement:
    """Hold a turn against the documents as leafkit keeps them at int8, and the same graph outside
    of the browser.

    Raises:
        SystemExit: what the page shows is not what it finds.
    """
    if turn["shown"] != turn["found"]:
        raise SystemExit("the page shows other documents than leafkit.search() finds in it")
    documents = DocumentVectors(pair).find("teacher", pair.dim, "int8")

    def search(vectors: np.ndarray) -> list[list[str]]:
        positions = search_exact(vectors, documents, NUM_HITS).positions
        return [[pair.documents[i].id for i in row if i >= 0] for row in positions]

    found, vectors = turn["found"], np.array(turn["vectors"], dtype=np.float32)
    graph, model = OnnxGraphEmbedder(folder, "int8"), make_embedder(pair.student)
    native = np.stack([graph.encode_query(question) for question in questions])
    precise = model.embed(questions, "query", model.max_tokens)
    right = search(native)
    return Agreement(
        sum(a == b for a, b in zip(found, search(vectors), strict=True)),
        sum(a == b for a, b in zip(found, right, strict=True)),
        float(np.mean([len({*a} & {*b}) / len(b) for a, b in zip(found, right, strict=True)])),
        cosines_of(vectors, native),
        float(np.median(cosines_of(vectors, precise))),
        float(np.median(cosines_of(native, precise))),
    )


def cosines_of(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(Q,) of the rows of two (Q, D) matrices, in double precision."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines: np.ndarray = np.einsum("qd,qd->q", a, b) / lengths
    return cosines


def questions_of(pair: Pair, count: int, *, is_tiny: bool) -> tuple[list[str], str]:
    """Distinct judged questions, spread over all that there are, and whose they are in words.

    Raises:
        LeafkitError: the pair comes without them.
    """
    if is_tiny:
        texts = choose_questions([document.full_text for document in pair.documents])
        return texts[:count], "beginnings of documents"
    collection = pair.collection
    texts = list(dict.fromkeys(query.text for query in collection.judged("test")))
    chosen = texts[:: max(1, len(texts) // count)][:count]
    return chosen, f"judged questions of {collection.name}"


def find_page(options: argparse.Namespace, pair: Pair, work: Path) -> Path:
    """The folder of the page; exported where none is named.

    Raises:
        SystemExit: the named one is not of this pair.
    """
    if options.exported is None:
        return leafkit.export(pair, work, to=["web"], web_runtime=options.runtime)["web"]
    folder = options.exported / "web"
    about = json.loads((folder / ABOUT_FILE).read_text(encoding="utf-8"))
    graph = json.loads((folder / GRAPH_ABOUT_FILE).read_text(encoding="utf-8"))
    found = about["space"], about["documents"], graph["fingerprint"]
    if found != (pair.space.teacher, len(pair.documents), pair.student.fingerprint):
        raise SystemExit(f"{folder}: a page of another pair than {options.pair}")
    return folder


def bar_cell(found: Sequence[Figures], key: str, digits: int, bar: float = 0.0) -> str:
    """A figure's median over the turns, the smallest and the largest, and whether it is under the
    bar; 0 is none.
    """
    each = [float(f[key]) for f in found]
    middle = median(found, key)
    cell = f"{middle:.{digits}f} [{min(each):.{digits}f}, {max(each):.{digits}f}]"
    return f"{cell}; bar < {bar:g} {'reached' if middle < bar else '**missed**'}" if bar else cell


def report_lines(found: Sequence[Figures], agreement: Agreement, num_questions: int) -> list[str]:
    """The tables."""
    rows = {
        "page opened to first answer shown, s": bar_cell(found, "first_s", 2, FIRST_BAR_S),
        "then a question until its hits are shown, p50, ms": bar_cell(
            found, "p50_ms", 1, P50_BAR_MS
        ),
        "the same, p95, ms": bar_cell(found, "p95_ms", 1),
        "embedding, as the page times it, median, ms": bar_cell(found, "embed_ms", 1),
        "searching, as the page times it, median, ms": bar_cell(found, "search_ms", 1),
        "memory of all the browser's processes, MiB": bar_cell(found, "mib", 0),
        "fetched, MB (1e6)": f"{found[0]['bytes'] / 1e6:.1f} in {found[0]['files']} files",
    }
    others = [f["others"] for f in found]
    return [
        *table(["", "median over the turns [smallest, largest]"], rows.items()),
        f"While the questions were asked, other programs had {min(others):.0%} to "
        f"{max(others):.0%} of that core.",
        "",
        f"For its own vector of a question, the page finds the {NUM_HITS} documents of leafkit's "
        f"int8 search, in its order, in {agreement.num_found} of {num_questions} questions (where "
        "two scores are equal in float32, the page, which counts in float64, may order them "
        "otherwise). For "
        "that of the same graph outside of the browser, where sums are rounded otherwise before "
        f"they become int8 again, they are the same in {agreement.num_equal}, and "
        f"{agreement.overlap:.1%} of all documents are. Cosine of the two vectors: median "
        f"{np.median(agreement.cosines):.6f}, smallest {agreement.cosines.min():.6f}; with the "
        f"model's in float32 the page's have a median of {agreement.page:.6f}, the others one of "
        f"{agreement.native:.6f}.",
        "",
    ]


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = make_parser(__doc__, turns=3, can_print=True)
    parser.add_argument("--pair", type=Path, help="folder of a finished recipe")
    parser.add_argument("--exported", type=Path, help="folder of an export")
    parser.add_argument("--queries", type=int, default=128, help="of each turn")
    parser.add_argument("--runtime", type=Path, default=MODULES, help="npm installed into it")
    parser.add_argument("--core", type=int, help="that the browser's processes share")
    parser.add_argument(
        "--tiny", action="store_true", help="a pair of no size; figures mean nothing"
    )
    options = parser.parse_args()
    if options.tiny:
        options.turns, options.queries = 1, 12
    elif options.pair is None:
        parser.error("--pair FOLDER, or --tiny")
    if options.turns < 1 or options.queries < 2:
        parser.error("--turns is at least 1, --queries at least 2")
    mine = sorted(os.sched_getaffinity(0))
    if options.core is None:
        options.core = mine[-1]
    elif options.core not in mine:
        parser.error(f"--core {options.core}: this process may use {mine}")
    needed = () if options.runtime != MODULES else tuple(PACKAGES)
    if reason := why_missing(*needed):
        raise SystemExit(reason)
    return options


def write_report(options: argparse.Namespace, work: Path) -> list[str]:
    """Measure everything; lines of Markdown."""
    if options.tiny:
        options.pair = make_tiny_pair(work / "tiny")
    pair = leafkit.load_pair(options.pair)
    questions, whose = questions_of(pair, options.queries, is_tiny=options.tiny)
    folder = find_page(options, pair, work)
    starter = write_starter(options.core, work)
    # the server of files, and what drives the browser
    os.sched_setaffinity(0, os.sched_getaffinity(0) - {options.core} or {options.core})
    began = os.getloadavg()[0]
    found = []
    for turn in range(options.turns):
        found.append(measure_page(folder, questions, starter, options.core))
        shown = {key: value for key, value in found[-1].items() if isinstance(value, int | float)}
        print(f"turn {turn + 1}: {shown}", flush=True)
    load = f"{began:.1f} at the beginning and {os.getloadavg()[0]:.1f} at the end"
    graph = OnnxGraphEmbedder(folder, "int8")
    counted = sum(graph.count_tokens([text], "query") for text in questions) / len(questions)
    tiny = " **Tiny: the figures mean nothing.**" if options.tiny else ""
    runtime = ", ".join(f"{name} {package.version}" for name, package in PACKAGES.items())
    return [
        *title("The page in a browser"),
        f"{command()}, {describe('onnxruntime', num_threads=1, python=True)}, "
        f"{chromium_version()}, {runtime}. Load average {load}.{tiny}",
        "",
        f"Student of {pair.student.num_parameters():,} parameters, {pair.dim} dimensions; "
        f"{len(pair.documents):,} documents; {len(questions)} {whose}, {counted:.0f} tokens on "
        f"average, prompt included. {options.turns} turn(s), each in a fresh profile, nothing in a "
        "cache; all processes of headless Chromium on one core, the server of files on the others.",
        "",
        *report_lines(found, compare(pair, folder, questions, found[-1]), len(questions)),
    ]


def main() -> None:
    """Measure and write the report."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    options = read_options()
    with tempfile.TemporaryDirectory() as temporary:
        try:
            lines = write_report(options, Path(temporary))
        except LeafkitError as err:
            raise SystemExit(f"{err}") from err
    publish(lines, "web_page", print_only=options.print_only)


if __name__ == "__main__":
    main()
