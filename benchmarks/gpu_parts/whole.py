"""The default recipe from its first text to its report."""

from __future__ import annotations

import time

from gpu_parts.part import Emit, Part, Setting

RECIPE = "kalm-to-23m"
# a dry run on one small package's documentation: the same road, of no use as a student
_TINY_WORDS = [
    "dry_run=true",
    "precision=float32",
    "data.packages=[click]",
    "bench.collections=[]",
]


def run(setting: Setting, emit: Emit) -> None:
    """``leafkit distill``, its time and what its report says of the student."""
    from leafkit.cli.main import main
    from leafkit.core.checkpoint_layout import REPORT_FILE
    from leafkit.report.facts import verdict_sentences
    from leafkit.results import RunReport

    words = ["distill", f"recipe={RECIPE}", f"device={setting.device}"]
    words += [f"checkpoints={setting.folder}", *(_TINY_WORDS if setting.is_tiny else [])]
    started_s = time.perf_counter()
    status = main(words)
    seconds = time.perf_counter() - started_s
    if status:
        raise SystemExit(f"leafkit {' '.join(words[:3])} ended with status {status}")
    (path,) = setting.folder.glob(f"*/{REPORT_FILE}")
    said = " ".join(verdict_sentences(RunReport.load(path)))
    emit({"way": f"leafkit distill recipe={RECIPE}", "seconds": seconds, "quality": said})


WHOLE = Part(
    "whole",
    "The whole default recipe",
    "Corpus, teacher, teacher vectors, student, benchmark and inheritance, from an empty folder;"
    " the quality line is the report's own.",
    300,
    run,
    {
        "way": ("command", ""),
        "seconds": ("seconds", ",.0f"),
        "quality": ("quality", ""),
    },
)
