"""``leafkit COMMAND recipe=NAME key=value ...``: parses, calls one stage, prints what it did, sets
the exit status.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leafkit.config.schema import Recipe
from leafkit.core.checkpoint_layout import (
    BENCH_REPORT,
    CARD_FILE,
    DIAGNOSIS_REPORT,
    INHERIT_REPORT,
    MINED_ROWS_FILE,
    REPORT,
    REPORT_FILE,
    REPORT_PAGE_FILE,
    SYNTH_ROWS_FILE,
)
from leafkit.core.console import console, log, set_verbosity
from leafkit.core.errors import LeafkitError, UsageError, explain_write_errors
from leafkit.core.system import keep_freed_memory, tune_gc
from leafkit.core.version import __version__
from leafkit.results import RunReport


@dataclass(frozen=True, slots=True)
class Command:
    """One command: what it needs, what it says of itself, and what runs it."""

    usage: str
    does: str
    run: Callable[[Sequence[str]], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 failed, 2 used wrongly, 130 and 143
    stopped.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    set_verbosity("info")
    keep_freed_memory()
    tune_gc()
    try:
        signal.signal(signal.SIGTERM, _stop)
        return _dispatch(words)
    except LeafkitError as err:
        _complain(str(err), err.hint)
        return err.exit_status
    except KeyboardInterrupt:
        log("stopped; finished stages and shards are kept, the same command continues after them")
        return 130
    except _Terminated:
        log(
            "terminated; finished stages and shards are kept, the same command continues after them"
        )
        return 143


class _Terminated(BaseException):
    """SIGTERM arrived."""


def _stop(number: int, frame: Any) -> None:
    raise _Terminated


def _complain(message: str, hint: str) -> None:
    from rich.console import Console
    from rich.markup import escape

    stderr = Console(stderr=True, highlight=False, soft_wrap=True)
    stderr.print(f"[bold red]error:[/] {escape(message)}")
    if hint:
        stderr.print(f"[bold]remedy:[/] {escape(hint)}")


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in {"help", "--help", "-h"}:
        _print_commands()
        return 0
    if words[0] in {"--version", "version"}:
        console.print(f"leafkit {__version__}")
        return 0
    name, *rest = words
    if name not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(name, COMMANDS, n=1)
        raise UsageError(
            f"unknown command {name!r}",
            f"did you mean {near[0]}?" if near else f"commands: {', '.join(COMMANDS)}",
        )
    if rest and rest[0] in {"help", "--help", "-h"}:
        console.print(
            f"leafkit {name} {COMMANDS[name].usage}\n  {COMMANDS[name].does}", markup=False
        )
        return 0
    return COMMANDS[name].run(rest)


def _print_commands() -> None:
    from rich.table import Table

    table = Table(
        box=None,
        pad_edge=False,
        title=f"leafkit {__version__}: leafkit COMMAND recipe=NAME key=value ...",
        title_justify="left",
    )
    table.add_column("command", style="bold", no_wrap=True)
    table.add_column("does")
    for name, command in COMMANDS.items():
        table.add_row(name, command.does)
    console.print(table)


def _load_recipe(words: Sequence[str], dry_run: bool = False, short: bool = False) -> Recipe:
    """The recipe that the command line names.

    Args:
        words: of the command line.
        dry_run: the command can run on tiny stand-ins, where the words say dry_run=true.
        short: the command takes short keys, and a pair of models instead of a recipe.
    """
    from leafkit.cli.shorthand import expand
    from leafkit.config.load import load_recipe

    if short:
        words = expand(words)
    names = [w.removeprefix("recipe=") for w in words if w.startswith("recipe=")]
    if len(names) != 1:
        raise UsageError("name one recipe with recipe=NAME", "leafkit recipes lists them")
    recipe = load_recipe(names[0], [w for w in words if not w.startswith("recipe=")])
    if not recipe.dry_run:
        return recipe
    if not dry_run:
        raise UsageError(
            "dry_run=true is for the commands that train: teach and mine", "leave dry_run out"
        )
    from leafkit.pipeline.teacher.dry_run import plan_dry_run

    return plan_dry_run(recipe)


def _distill(words: Sequence[str]) -> int:
    from leafkit.cli.unchanged import show_unchanged

    recipe = _load_recipe(words)
    if show_unchanged(recipe):
        return 0
    from leafkit.pipeline.collect import collect_report
    from leafkit.pipeline.distill import run_distill
    from leafkit.pipeline.finished import record_finished
    from leafkit.pipeline.run import open_run

    with open_run(recipe) as run:
        run_distill(run)
        # every process takes part: it opens corpora
        data = collect_report(run, " ".join(["leafkit distill", *words]))
        if run.is_main:
            from leafkit.report.card import render_card

            report = RunReport.from_json(data)
            _write(run.folder, {CARD_FILE: render_card(report)})
            _report(run.folder, REPORT, report)
            written = (CARD_FILE, REPORT_FILE, REPORT_PAGE_FILE)
            record_finished(run, [run.folder / name for name in written])
            log(f'try it: leafkit search {run.folder} "how do I invert a sparse matrix"')
    return 0


def _bench(words: Sequence[str]) -> int:
    from leafkit.pipeline.evaluate.bench import run_bench
    from leafkit.pipeline.evaluate.collect import collect_bench
    from leafkit.pipeline.run import open_run

    with open_run(_load_recipe(words, short=True)) as run:
        run_bench(run, allow_empty=False)
        # every process takes part: it opens corpora
        data = collect_bench(run, " ".join(["leafkit bench", *words]))
        if run.is_main:
            _report(run.folder, BENCH_REPORT, RunReport.from_json(data))
    return 0


def _inherit(words: Sequence[str]) -> int:
    from leafkit.pipeline.evaluate.collect import (
        collect_diagnosis,
        collect_inherit,
    )
    from leafkit.pipeline.run import open_run

    command = " ".join(["leafkit inherit", *words])
    with open_run(_load_recipe(words, short=True)) as run:
        if run.recipe.inherit.diagnose:
            from leafkit.pipeline.evaluate.diagnose import run_diagnose

            data = collect_diagnosis(run, command, run_diagnose(run))
            if run.is_main:
                _report(run.folder, DIAGNOSIS_REPORT, RunReport.from_json(data))
            return 0
        from leafkit.pipeline.evaluate.inherit import run_inherit

        grid = run_inherit(run)
        data = collect_inherit(run, command)
        if run.is_main:
            _report(run.folder, INHERIT_REPORT, RunReport.from_json(data))
    return 0 if grid["passed"] else 1


def _compare(words: Sequence[str]) -> int:
    from leafkit.report.compare import read_reports, render_comparison

    options = dict(w.split("=", 1) for w in words if w.startswith("out="))
    folders = [Path(w) for w in words if not w.startswith("out=")]
    if len(folders) < 2:
        raise UsageError(
            "compare takes two runs or more",
            "leafkit compare checkpoints/A checkpoints/B [out=comparison.html]",
        )
    target = Path(options.get("out") or "comparison.html")
    page = render_comparison(read_reports(folders))
    with explain_write_errors(target.parent):
        target.write_text(page, encoding="utf-8")
    log(f"comparison: {target}")
    return 0


def _teach(words: Sequence[str]) -> int:
    from leafkit.pipeline.run import open_run
    from leafkit.pipeline.teacher.teach import run_teach

    with open_run(_load_recipe(words, dry_run=True)) as run:
        log(f"teacher: {run_teach(run)}")
    return 0


def _mine(words: Sequence[str]) -> int:
    from leafkit.pipeline.run import open_run
    from leafkit.pipeline.teacher.teach import run_mine

    with open_run(_load_recipe(words, dry_run=True)) as run:
        for folder in run_mine(run):
            log(f"mined rows: {folder / MINED_ROWS_FILE}")
    return 0


def _synth(words: Sequence[str]) -> int:
    from leafkit.pipeline.run import open_run
    from leafkit.pipeline.synth import describe_summary, run_synth

    with open_run(_load_recipe(words)) as run:
        folder = run_synth(run)
        if run.is_main:
            log(describe_summary(folder))
            log(
                f"rows: {folder / SYNTH_ROWS_FILE}; train on them with uri=jsonl:{folder / SYNTH_ROWS_FILE}"
            )
    return 0


def _embed(words: Sequence[str]) -> int:
    from leafkit.pipeline.document_index import run_embed
    from leafkit.pipeline.run import open_run

    with open_run(_load_recipe(words)) as run:
        log(f"index: {run_embed(run)}")
    return 0


def _export(words: Sequence[str]) -> int:
    from leafkit.pipeline.export import run_export
    from leafkit.pipeline.run import open_run

    with open_run(_load_recipe(words)) as run:
        log(f"graphs: {run_export(run)}")
    return 0


def _search(words: Sequence[str]) -> int:
    from rich.markup import escape

    from leafkit.core.printable import printable
    from leafkit.pipeline.load_pair import load_pair

    is_option = ("k=", "index=")
    options = dict(w.split("=", 1) for w in words if w.startswith(is_option))
    plain = [w for w in words if not w.startswith(is_option)]
    if len(plain) != 2:
        raise UsageError(
            "search takes a folder and a question",
            'leafkit search checkpoints/kalm-to-23m "how do I invert a sparse matrix"',
        )
    if not options.get("k", "10").isdecimal() or int(options.get("k", "10")) < 1:
        raise UsageError(f"k={options['k']} is not a positive whole number", "k=10")
    pair = load_pair(plain[0], index=options.get("index", "flat"))
    hits = pair.search(plain[1], int(options.get("k", "10")))
    for number, hit in enumerate(hits, 1):
        console.print(f"[bold]{number:2d}. {escape(printable(hit.id))}[/]  {hit.score:.3f}")
        console.print(f"    {escape(printable(hit.text)[:200])}", style="dim")
    console.print(
        f"{hits.num_documents:,} documents; query embedded in {hits.embed_ms:.1f} ms, "
        f"searched in {hits.search_ms:.1f} ms"
    )
    return 0


def _recipes(words: Sequence[str]) -> int:
    from leafkit.config.load import describe_recipe, list_recipes

    for name, path in list_recipes().items():
        console.print(f"{name}: {describe_recipe(path)} ({path})", markup=False)
    return 0


def _show(words: Sequence[str]) -> int:
    from leafkit.config.load import to_yaml

    console.print(to_yaml(_load_recipe(words)), markup=False, end="")
    return 0


def _doctor(words: Sequence[str]) -> int:
    from leafkit.cli.doctor import examine

    for what, found, hint in examine():
        console.print(f"{what:22} {found}" + (f"\n{'':22} -> {hint}" if hint else ""), markup=False)
    return 0


def _report(folder: Path, stem: str, report: RunReport) -> None:
    """Write STEM.json and STEM.html, and print the summary."""
    from leafkit.report.console import print_summary
    from leafkit.report.page import render_report

    _write(folder, {f"{stem}.html": render_report(report)})
    with explain_write_errors(folder):
        report.save(folder / f"{stem}.json")
    print_summary(report, console)
    log(f"report: {folder / f'{stem}.html'}")


def _write(folder: Path, files: dict[str, str]) -> None:
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")


COMMANDS = {
    "distill": Command(
        "recipe=NAME [key=value ...]",
        "the whole road: corpus, teacher, teacher vectors, student, benchmark, inheritance, report",
        _distill,
    ),
    "teach": Command(
        "recipe=NAME [dry_run=true] [key=value ...]", "train the teacher alone", _teach
    ),
    "mine": Command(
        "recipe=NAME [key=value ...]",
        "hard negatives for the recipe's stages, and the ranking-consistency filter",
        _mine,
    ),
    "synth": Command(
        "recipe=NAME [synth.model=NAME synth.endpoint.base_url=URL key=value ...]",
        "persona-based synthetic training rows from a chat model, resumable; shows the cost "
        "before it starts",
        _synth,
    ),
    "embed": Command(
        "recipe=NAME [key=value ...]",
        "embed the documents with the teacher, resumable, into an index",
        _embed,
    ),
    "bench": Command(
        "recipe=NAME | teacher=MODEL student=MODEL collections=SOURCE [key=value ...]",
        "asymmetric retrieval benchmark of any teacher and student on any collections, BM25 "
        "beside them",
        _bench,
    ),
    "inherit": Command(
        "recipe=NAME | teacher=MODEL student=MODEL corpus=SOURCE [strict=true] [diagnose=true] "
        "[key=value ...]",
        "Matryoshka and quantisation inheritance, with gates; exit status 1 when one fails; "
        "diagnose=true looks at a teacher",
        _inherit,
    ),
    "compare": Command(
        "FOLDER FOLDER ... [out=comparison.html]", "several runs in one report", _compare
    ),
    "export": Command(
        "recipe=NAME [key=value ...]",
        "the student as ONNX graphs, float32 and int8, checked against the model",
        _export,
    ),
    "search": Command(
        'FOLDER "question" [k=10] [index=hnsw]',
        "ask an index a question with the student; index= keeps a faiss index",
        _search,
    ),
    "recipes": Command("", "list the recipes", _recipes),
    "show": Command("recipe=NAME [key=value ...]", "print a resolved recipe", _show),
    "doctor": Command("", "what this machine has, what is missing, how to get it", _doctor),
}
