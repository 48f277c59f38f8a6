"""What each loss, kind of student and mixture of texts brings at equal wall time: in-domain and
out-of-domain, symmetric and asymmetric, shortened and quantized, and in an HNSW graph.

    python benchmarks/students.py --corpus beir:FOLDER --teacher builtin:mpnet --folder DIR
        [--minutes 10] [--seeds 3] [--arm "kl=student.losses.score_kl=1"] [--kind NAME=overrides]
        [--mixture NAME=overrides] [--out-of-domain beir:FOLDER ...] [--dims 384 192]
        [--asymmetric-only] [--no-hnsw] [--report-only] [key=value ...]

Arms, kinds and mixtures are overrides of the recipe under a name, separated by commas; all arms are
trained as all kinds on all mixtures. Without --arm each term of student.losses is an arm; with
--techniques the recipe as it ships and one change of it at a time (for one that trains l2 and
score_kl, as mpnet-to-23m), without the benchmark's own texts and learning rate. Every cell runs in
a process of its own and is kept in DIR, where the teacher's vectors are too: a run that was broken
off goes on. No text that is a judged query trains. Writes a dated report, which says of each arm by
how much it differs from the first one, and what brought nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lib.arguments import make_parser
from lib.case import add_case_options, describe_case
from lib.cells import FAILED, Cell, check_one_case, is_done, read_cells, run_missing
from lib.machine import describe
from lib.pinned import thread_variables
from lib.report import REPORTS, command, save, table, title
from lib.retention import Retention, mean_of_seeds, points, verdict
from lib.student_arms import (
    NO_OVERRIDE,
    Arm,
    arm_words,
    default_arms,
    plan_arms,
    plan_cells,
    technique_arms,
)
from students_cell import PRECISIONS, TARGET_RECALL

CELL_FILE = str(Path(__file__).parent / "students_cell.py")
_FULL = "float32"


class Found:
    """Finished cells by arm, and the figures that tables hold.

    Args:
        planned: arm by cell.
        cells: figures by cell.
    """

    def __init__(
        self, planned: Mapping[Cell, Arm], cells: Mapping[Cell, Mapping[str, Any]]
    ) -> None:
        self.by_arm: dict[Arm, list[Mapping[str, Any]]] = {}
        for cell, arm in planned.items():
            if is_done(cells.get(cell)):
                self.by_arm.setdefault(arm, []).append(cells[cell])
        # in the order of the plan, not of the seeds
        self.arms = [arm for arm in dict.fromkeys(planned.values()) if arm in self.by_arm]

    @property
    def first(self) -> Mapping[str, Any]:
        """Figures of some cell."""
        return self.by_arm[self.arms[0]][0]

    @property
    def collections(self) -> list[str]:
        """Names, the indexed one first."""
        return [name for name, *_ in self.first["about"]["collections"]]

    def values(self, arm: Arm, system: str, setting: str = "") -> dict[str, Any] | None:
        """nDCG per query by collection, the mean over seeds.

        Args:
            arm: whose students.
            system: teacher, asymmetric or symmetric.
            setting: dimension/precision; all of them in float32 unless given.

        Returns:
            None where it was not measured.
        """
        found = []
        for cell in self.by_arm[arm]:
            column = f"{system}/{setting or self.full(cell)}"
            by_name = {name: one["ndcg"].get(column) for name, one in cell["collections"].items()}
            if any(values is None for values in by_name.values()):
                return None
            found.append(by_name)
        return dict(mean_of_seeds(found))

    def full(self, cell: Mapping[str, Any]) -> str:
        """The setting without any loss."""
        return f"{cell['collections'][self.collections[0]]['dim']}/{_FULL}"

    def settings(self) -> list[str]:
        """Dimension/precision, the largest first."""
        columns = self.first["collections"][self.collections[0]]["ndcg"]
        found = {column.partition("/")[2] for column in columns}
        order = {precision: i for i, precision in enumerate(PRECISIONS)}

        def place(setting: str) -> tuple[int, int]:
            dim, _, precision = setting.partition("/")
            return -int(dim), order[precision]

        return sorted(found, key=place)

    def median(self, arm: Arm, key: str) -> float:
        """Over the seeds."""
        return statistics.median(float(cell[key]) for cell in self.by_arm[arm])


def kept_rows(found: Found, names: Sequence[str]) -> list[list[str]]:
    """What each arm keeps on some collections, and how it differs from the first."""
    reference = found.arms[0]
    teacher = found.values(reference, "teacher")
    assert teacher is not None
    kept = Retention(teacher, names)
    lines = []
    for arm in found.arms:
        cells = found.by_arm[arm]
        line = [arm.name, f"{len(cells)}", f"{found.median(arm, 'seconds'):,.0f}"]
        line.append(f"{found.median(arm, 'steps'):,.0f}")
        for system in ("asymmetric", "symmetric"):
            values, base = found.values(arm, system), found.values(reference, system)
            if values is None or base is None:
                line += ["", ""]
                continue
            gap = kept.difference(values, base)
            told = "reference" if arm == reference else f"{points(gap)} {verdict(gap)}"
            line += [kept.of(values).percent(), told]
        line.append(_spread(found, arm, names))
        for key in ("cosine", "overlap"):
            each = [cell["collections"][name][key] for cell in cells for name in names]
            line.append(f"{statistics.mean(each):.3f}")
        lines.append(line)
    return lines


def _spread(found: Found, arm: Arm, names: Sequence[str]) -> str:
    """Smallest and largest share that a seed keeps, asymmetric."""
    shares = []
    for cell in found.by_arm[arm]:
        full = found.full(cell)
        parts = [cell["collections"][name]["ndcg"] for name in names]
        shares.append(
            statistics.mean(
                statistics.mean(part[f"asymmetric/{full}"])
                / max(statistics.mean(part[f"teacher/{full}"]), 1e-12)
                for part in parts
            )
        )
    return f"{100 * min(shares):.1f} to {100 * max(shares):.1f}" if len(shares) > 1 else ""


KEPT_HEADER = [
    "arm",
    "seeds",
    "seconds",
    "steps",
    "asymmetric kept",
    "minus the reference, points",
    "symmetric kept",
    "minus the reference, points",
    "seeds, asymmetric %",
    "cosine",
    "overlap@10",
]


def setting_rows(found: Found, home: str) -> list[list[str]]:
    """What teacher and students keep of the teacher's full score, shortened and quantized."""
    settings, lines = found.settings(), []
    reference = found.arms[0]
    teacher = found.values(reference, "teacher")
    assert teacher is not None
    kept = Retention(teacher, [home])
    of_teacher = [found.values(reference, "teacher", setting) or teacher for setting in settings]
    lines.append(["teacher", *(kept.of(values).percent() for values in of_teacher)])
    for arm in found.arms:
        for system in ("asymmetric", "symmetric"):
            if found.values(arm, system) is None:
                continue
            cells = [found.values(arm, system, setting) for setting in settings]
            shown = [kept.of(values).percent() if values else "" for values in cells]
            lines.append([f"{arm.name}, {system}", *shown])
    return lines


def hnsw_rows(found: Found) -> list[list[str]]:
    """Width of the search that reaches the recall, by whose queries."""
    lines = []
    for arm in found.arms:
        cells = [cell["hnsw"] for cell in found.by_arm[arm] if cell["hnsw"]]
        if not cells:
            continue
        needed = {who: [width(cell[who]) for cell in cells] for who in ("teacher", "student")}
        lines.append(
            [
                arm.name,
                *(", ".join(dict.fromkeys(needed[who])) for who in ("teacher", "student")),
                *(
                    " ".join(f"{ef}: {recall:.3f}" for ef, recall in cells[0][who].items())
                    for who in ("teacher", "student")
                ),
            ]
        )
    return lines


def width(recall: Mapping[str, float], target: float = TARGET_RECALL) -> str:
    """The smallest ef that reaches the target.

    >>> width({"16": 0.9, "32": 0.96, "64": 0.99}), width({"16": 0.9})
    ('32', 'more than 16')
    """
    widths = sorted(recall, key=int)
    return next((ef for ef in widths if recall[ef] >= target), f"more than {widths[-1]}")


def without_gain(found: Found, names: Sequence[str]) -> list[str]:
    """Arms whose asymmetric share is not above the first one's beyond noise."""
    reference = found.arms[0]
    teacher, base = found.values(reference, "teacher"), found.values(reference, "asymmetric")
    assert teacher is not None
    assert base is not None
    kept, lines = Retention(teacher, names), []
    for arm in found.arms[1:]:
        values = found.values(arm, "asymmetric")
        assert values is not None
        gap = kept.difference(values, base)
        if verdict(gap) != "better":
            lines.append(f"- {arm.name}: {points(gap)} points, {verdict(gap)}")
    return lines


def describe_mixtures(found: Found) -> list[str]:
    """Texts of each mixture, where there are several."""
    texts: dict[str, list[list[Any]]] = {}
    for arm in found.arms:
        texts.setdefault(arm.mixture.name, found.by_arm[arm][0]["about"]["texts"])
    if len(texts) < 2:
        return []
    each = [
        f"- {name}: {', '.join(f'{count:,} {what}' for what, count in groups)}"
        for name, groups in texts.items()
    ]
    return ["Texts of each mixture:", "", *each, ""]


def write_report(options: argparse.Namespace, found: Found, notes: Sequence[str]) -> Path:
    """Tables of what is there."""
    home, *away = found.collections
    reference = found.arms[0].name
    cells = [cell for cells in found.by_arm.values() for cell in cells]
    commits = sorted({cell["commit"] or "unknown" for cell in cells})
    stopped = sum(bool(cell["was_stopped"]) for cell in cells)
    lines = [
        *title("Students: losses, kinds and texts at equal wall time"),
        f"{command()}, {describe('torch', num_threads=options.threads)}; commit(s) "
        f"{', '.join(commits)}. {describe_case(found.first['about'])}",
        f"Each student has {options.minutes:g} minutes from the teacher's vectors to its end, "
        f"{stopped} of {len(cells)} were stopped by the clock before the end of their plan. Kept: "
        "share of the teacher's nDCG@10, mean over seeds, 95% paired bootstrap over queries "
        f"(10,000 resamples); differences are to {reference}, on the same resamples.",
        "",
        *describe_mixtures(found),
        f"## In-domain: {home}",
        "",
        *table(KEPT_HEADER, kept_rows(found, [home])),
    ]
    if away:
        lines += ["## Out-of-domain, mean of the collections", ""]
        lines += table(KEPT_HEADER, kept_rows(found, away))
    for name in away if len(away) > 1 else []:
        lines += [f"## Out-of-domain: {name}", "", *table(KEPT_HEADER, kept_rows(found, [name]))]
    lines += [f"## Shortened and quantized: {home}", ""]
    lines += ["Share of the teacher's full score; dimension/precision of stored vectors.", ""]
    lines += table(["", *found.settings()], setting_rows(found, home))
    if searched := hnsw_rows(found):
        lines += [f"## HNSW of {home}: ef for {TARGET_RECALL:.0%} recall@10", ""]
        header = ["arm", "teacher's queries", "student's queries"]
        lines += table([*header, "recall by ef, teacher", "recall by ef, student"], searched)
    several = len(found.arms) > 1
    lines += [f"## What is not above {reference}", ""] if several else []
    for what, names in (("In-domain", [home]), ("Out-of-domain", away)):
        if names and several:
            lines += [f"{what}:", "", *(without_gain(found, names) or ["- nothing"]), ""]
    lines += [*notes, ""] if notes else []
    return save(lines, options.name, options.out)


def prepare(options: argparse.Namespace, arms: Sequence[Arm]) -> None:
    """The teacher's vectors of all texts, which no student's clock counts; arms that cannot be read
    are found before the first of them.
    """
    from lib.case import load_case, read_case_recipe

    from leafkit.core.console import set_verbosity
    from leafkit.pipeline.run import open_run

    recipes = {arm: read_case_recipe(options.recipe, arm_words(options, arm)) for arm in arms}
    set_verbosity("info")
    seen = set()
    for arm, recipe in recipes.items():
        words = arm_words(options, arm)
        # what texts there are hangs on data alone, and on the kind
        deciding = tuple(w for w in words if not w.startswith("student.") or ".kind=" in w)
        if deciding in seen:
            continue
        seen.add(deciding)
        with open_run(recipe) as run:
            load_case(run, options.out_of_domain)
    set_verbosity("warning")


def main() -> None:
    """Measure what is missing and write the report."""
    parser = make_parser(__doc__)
    add_case_options(parser, "own-data")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arm", action="append", help="NAME=overrides; may be given again")
    parser.add_argument(
        "--techniques",
        action="store_true",
        help="without --arm: the recipe as it ships, and one change of it at a time",
    )
    parser.add_argument("--kind", action="append", help="likewise")
    parser.add_argument("--mixture", action="append", help="likewise")
    parser.add_argument("--out-of-domain", nargs="*", default=[], help="other collections")
    parser.add_argument("--dims", type=int, nargs="*", default=[], help="the teacher's unless said")
    parser.add_argument("--asymmetric-only", action="store_true", help="embed no documents")
    parser.add_argument("--no-hnsw", action="store_true")
    parser.add_argument("--out", type=Path, default=REPORTS, help="folder of the report")
    parser.add_argument("--name", default="students", help="of the report")
    parser.add_argument("--report-only", action="store_true", help="of what DIR holds")
    options = parser.parse_intermixed_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    options.arm = options.arm or (technique_arms() if options.techniques else default_arms())
    options.kind = options.kind or [NO_OVERRIDE]
    options.mixture = options.mixture or [NO_OVERRIDE]
    arms = plan_arms(options)
    planned, folder = plan_cells(options, arms), options.folder / "students"
    if not options.report_only:
        print(f"{len(planned)} students of {options.minutes:g} minutes", flush=True)
        prepare(options, arms)
        run_missing(CELL_FILE, list(planned), folder, thread_variables(options.threads))
    cells = read_cells(folder, planned)
    check_one_case(cells)
    notes = [
        f"- {cell.name} failed: {figures[FAILED]}"
        for cell, figures in cells.items()
        if FAILED in figures
    ]
    missing = len(planned) - sum(map(is_done, cells.values())) - len(notes)
    notes += [f"- {missing} of {len(planned)} students are not trained yet"] if missing else []
    found = Found(planned, cells)
    if not found.arms:
        sys.exit("\n".join(["nothing is measured yet", *notes]))
    print(write_report(options, found, notes))


if __name__ == "__main__":
    main()
