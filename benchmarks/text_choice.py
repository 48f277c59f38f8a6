"""Which texts of a pool should a teacher embed first, so that a student learns most of a few?

    python benchmarks/text_choice.py --texts questions=jsonl:FILE --texts definitions=jsonl:FILE
        --out-of-domain beir:FOLDER ... --teacher builtin:mpnet --folder DIR
        [--pool 12000] [--counts 1000 3000 6000] [--seeds 5] [--orders NAME ...] [key=value ...]

The pool has up to ``--pool`` texts of each kind, drawn by content, no judged query among them; an
order knows these texts and the start model alone. Of every order the first texts, by number and by
the tokens that the teacher reads, are fitted by a closed-form head on the frozen start, which is
measured on collections that neither train nor choose: cosine of the judged queries to the teacher,
and what is kept of its nDCG@10 over its own documents. Lots of several seeds say what is noise. A
fortieth of the pool, in no order, chooses the ridge. All texts are embedded as documents, so the
teacher may have no prompt of its own for queries. The teacher's vectors and the start's states are
kept in DIR. Writes a dated report.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lib.arguments import add_pool_options, make_parser
from lib.case import Case, case_words, describe_case, load_case, read_case_recipe
from lib.machine import describe
from lib.report import REPORTS, command, save, table, title
from lib.retention import Retention, mean_of_seeds, points, verdict
from text_choice_parts import orders
from text_choice_parts.heads import Learned, Lesson, within
from text_choice_parts.orders import Pool
from text_curve import BASE_WORDS, read_kinds, write_texts

from leafkit.core.console import set_verbosity
from leafkit.core.version import git_commit
from leafkit.data.sources.sample import choose_numbers
from leafkit.data.vector_store import hash_texts
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.models.checkpoint import load_encoder
from leafkit.pipeline.run import open_run

LOT = "by lot"
Order = Callable[[Pool, int], np.ndarray]
ORDERS: dict[str, Order] = {
    "as they came": orders.as_they_came,
    "shortest first": orders.shortest_first,
    "longest first": orders.longest_first,
    "clusters in turns": orders.balanced,
    "clusters by the root of their size": partial(orders.balanced, power=0.5),
    "farthest first": orders.farthest_first,
    "leverage": orders.by_leverage,
    "variance": orders.by_variance,
    "variance per token": partial(orders.by_variance, is_per_token=True),
    "words": orders.by_words,
}
_HELD_PART = 40  # one of so many texts is in no order


def encode(case: Case, texts: Sequence[str], role: str, folder: Path) -> np.ndarray:
    """(n, H) pooled states of the start, kept in a folder."""
    run, limits = case.run, case.home.limits
    init = run.recipe.student.init
    about = repr((init, role, limits.of(role), str(run.precision))).encode()
    name = hashlib.sha256(about + hash_texts(texts).tobytes()).hexdigest()[:16]
    path = folder / f"states-{name}.npy"
    if not path.exists():
        start = load_encoder(init)
        ids = start.tokenize(texts, role, limits.of(role))
        embedder = TransformerEmbedder(start, run.device, run.precision)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(path, embedder.embed_ids(ids, pooled_only=True))
    states: np.ndarray = np.load(path)
    return states


def count_tokens(case: Case, texts: Sequence[str]) -> np.ndarray:
    """(n,) that the teacher reads."""
    encoder = case.teacher.encoder
    if encoder is None:
        sys.exit("the teacher has no tokenizer to count by: give a model")
    ids = encoder.tokenize(texts, "document", case.home.limits.document)
    return np.array([len(each) for each in ids])


def prepare(case: Case, folder: Path) -> tuple[Pool, Lesson]:
    """The pool that is chosen from, and what heads are measured on."""
    texts, vectors = case.targets[0].texts, case.vectors()
    states, tokens = encode(case, texts, "document", folder), count_tokens(case, texts)
    held = np.array(choose_numbers(texts, max(1, len(texts) // _HELD_PART)))
    rest = np.setdiff1d(np.arange(len(texts)), held)
    asked = [(encode(case, one.asked, one.role, folder), one) for one in case.away]
    pool = Pool([texts[i] for i in rest], states[rest], tokens[rest])
    lesson = Lesson(
        states=pool.states,
        vectors=vectors[rest],
        tokens=pool.tokens,
        held_states=states[held],
        held_vectors=vectors[held],
        asked=asked,
    )
    return pool, lesson


class Found:
    """What was learned, by order, number of texts and budget.

    Args:
        case: with the measured collections.
    """

    def __init__(self, case: Case) -> None:
        self.names = [one.collection.name for one in case.away]
        self.teacher = {one.collection.name: one.ndcg(one.queries) for one in case.away}
        self.lots: dict[tuple[int, str], list[Learned]] = {}
        self.chosen: dict[tuple[str, int, str], tuple[Learned, int]] = {}
        self.seconds: dict[str, float] = {}
        whole = {name: np.ones(len(values)) for name, values in self.teacher.items()}
        self._measures = {
            "cosine": Retention(whole, self.names),
            "ndcg": Retention(self.teacher, self.names),
        }

    def of(self, learned: Sequence[Learned], what: str) -> float:
        """Mean over collections and seeds: the cosine, or the share of the teacher's nDCG@10."""
        values = mean_of_seeds([getattr(one, what) for one in learned])
        return self._measures[what].of(values).value

    def against_lots(self, learned: Learned, place: tuple[int, str], what: str) -> tuple[str, str]:
        """The difference to the mean of lots with its interval, in hundredths, and what it says;
        a difference inside what single lots are apart from their mean says nothing.
        """
        lots = [getattr(one, what) for one in self.lots[place]]
        measure, mean = self._measures[what], mean_of_seeds(lots)
        gap = measure.difference(getattr(learned, what), mean)
        noise = max(abs(measure.of(lot).value - measure.of(mean).value) for lot in lots)
        said = "no difference" if abs(gap.value) <= noise else verdict(gap)
        return points(gap), said


def run_orders(case: Case, options: Any) -> tuple[Pool, Found]:
    """Every order at every number of texts, and at the tokens that so many have in the mean."""
    pool, lesson = prepare(case, options.folder / "text_choice")
    counts = [count for count in options.counts if count < len(pool)]
    if not counts:
        sys.exit(f"the pool has {len(pool):,} texts: no fewer are among --counts")
    found, mean_tokens = Found(case), float(pool.tokens.mean())
    for seed in range(options.seeds):
        order = orders.at_random(pool, counts[-1], seed)
        for count in counts:
            learned = lesson.learn(order[:count])
            for budget in ("texts", "tokens"):  # as many of both, in the mean
                found.lots.setdefault((count, budget), []).append(learned)
    for name in options.orders or ORDERS:
        began_s = time.process_time()
        order = ORDERS[name](pool, counts[-1])
        found.seconds[name] = time.process_time() - began_s
        for count in counts:
            rows = order[:count]
            found.chosen[name, count, "texts"] = lesson.learn(rows), count
            # short texts: an order that ends before the budget does is as long as it is
            rows = within(pool.tokens, order, count * mean_tokens)
            if 0 < len(rows) < len(order):
                found.chosen[name, count, "tokens"] = lesson.learn(rows), len(rows)
        print(name, f"{found.seconds[name]:.1f} s", flush=True)
    return pool, found


def rows(found: Found, budget: str) -> list[list[str]]:
    """A line per order and number of texts, lots first."""
    lines = []
    for count in sorted({count for count, _ in found.lots}):
        lots = found.lots[count, budget]
        spread = [
            np.ptp([found.of([one], what) for one in lots]) / 2 for what in ("cosine", "ndcg")
        ]
        lines.append(
            [
                f"{count:,}",
                LOT,
                f"{count:,}",
                f"{np.mean([one.tokens for one in lots]):,.0f}",
                f"{np.mean([one.held_out for one in lots]):.4f}",
                f"{found.of(lots, 'cosine'):.4f} ± {spread[0]:.4f}",
                f"{100 * found.of(lots, 'ndcg'):.1f} ± {100 * spread[1]:.1f}",
                *["-"] * 3,
            ]
        )
        for (name, at, of), (learned, number) in found.chosen.items():
            if (at, of) != (count, budget):
                continue
            cosine = found.against_lots(learned, (count, budget), "cosine")
            ndcg = found.against_lots(learned, (count, budget), "ndcg")
            lines.append(
                [
                    f"{count:,}",
                    name,
                    f"{number:,}",
                    f"{learned.tokens:,}",
                    f"{learned.held_out:.4f}",
                    f"{found.of([learned], 'cosine'):.4f}",
                    f"{100 * found.of([learned], 'ndcg'):.1f}",
                    cosine[0],
                    ndcg[0],
                    f"{cosine[1]}, {ndcg[1]}",
                ]
            )
    return lines


def write_report(
    options: Any, about: Mapping[str, Any], pool: Pool, found: Found, *, kinds: Mapping[str, int]
) -> Path:
    """Two tables: as many texts, and as many tokens."""
    header = ["n", "order", "texts", "teacher tokens", "held out", "cosine", "kept, %"]
    header += ["cosine against lots, x 100", "kept against lots, points", "said"]
    of_pool = ", ".join(f"{count:,} {name}" for name, count in kinds.items())
    cost = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in found.seconds.items())
    lines = [
        *title("Which texts a teacher should embed first"),
        f"{command()}, {describe('torch', num_threads=options.threads)}; commit "
        f"{git_commit() or 'unknown'}. {describe_case(about)}",
        f"Pool: {of_pool}, of which one in {_HELD_PART} is in no order and chooses the ridge; "
        f"{pool.tokens.mean():.1f} tokens a text. Kept: share of the teacher's nDCG@10 over its "
        "own documents, the student asking. Cosine: of judged queries to the teacher. Means over "
        f"{', '.join(found.names)}; intervals are 95% paired bootstrap over queries (10,000 "
        f"resamples). Lots: the mean of {options.seeds}, ± half of how far they are apart. A "
        "difference is said only where its interval leaves out zero and it is larger than any "
        "single lot's to their mean: cosine first, then what is kept.",
        "",
        "## As many texts",
        "",
        *table(header, rows(found, "texts")),
        "## As many tokens",
        "",
        "An order ends where its texts have as many tokens as n texts of the pool in the mean; "
        "orders of short texts, which have more than the largest n by then, are left out.",
        "",
        *table(header, rows(found, "tokens")),
        f"Seconds of one processor that an order took, for the largest n: {cost}.",
    ]
    return save(lines, options.name, options.out)


def main() -> None:
    """Embed what is missing, try the orders and write the report."""
    parser = make_parser(__doc__)
    add_pool_options(parser, "states")
    parser.add_argument("--pool", type=int, default=12_000, help="texts of each kind")
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 3000, 6000])
    parser.add_argument("--seeds", type=int, default=5, help="lots")
    parser.add_argument("--orders", nargs="+", choices=list(ORDERS), help="all unless said")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=REPORTS, help="folder of the report")
    parser.add_argument("--name", default="text_choice", help="of the report")
    parser.add_argument("words", nargs="*", metavar="key=value", help="of the recipe")
    options = parser.parse_intermixed_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(options.threads)
    options.counts = sorted(options.counts)
    kinds = {name: parts[0] for name, parts in read_kinds(options.texts, is_mixed=False).items()}
    drawn = {n: [of[i] for i in choose_numbers(of, options.pool)] for n, of in kinds.items()}
    texts = list(dict.fromkeys(text for of_kind in drawn.values() for text in of_kind))
    path = options.folder / "texts" / "pool.jsonl"
    write_texts(texts, path)
    options.corpus = f"jsonl:{path}"
    set_verbosity("info")
    with open_run(read_case_recipe(options.recipe, case_words(options, BASE_WORDS))) as run:
        case = load_case(run, options.out_of_domain, is_home_judged=False)
    if case.teacher.model.prompt("query") != case.teacher.model.prompt("document"):
        sys.exit("the teacher has a prompt for queries, and the texts train without it")
    pool, found = run_orders(case, options)
    sizes = {name: len(of_kind) for name, of_kind in drawn.items()}
    print(write_report(options, case.about(), pool, found, kinds=sizes))


if __name__ == "__main__":
    main()
