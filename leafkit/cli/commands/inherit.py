"""``leafkit inherit``: what the student keeps of the teacher, or what a teacher has to give."""

from __future__ import annotations

from collections.abc import Sequence

from leafkit.cli.recipe_words import read_recipe
from leafkit.core.checkpoint_layout import DIAGNOSIS_REPORT, INHERIT_REPORT


def run(words: Sequence[str]) -> int:
    """Measure every setting of the grid; the exit status is 1 where a gate fails."""
    recipe = read_recipe("inherit", words, has_short_keys=True)
    from leafkit.cli.write_report import check_places, write_report
    from leafkit.pipeline.evaluate.collect import collect_diagnosis, collect_inherit
    from leafkit.pipeline.evaluate.diagnose import run_diagnose
    from leafkit.pipeline.evaluate.inherit import run_inherit
    from leafkit.pipeline.run import open_run

    command = " ".join(["leafkit inherit", *words])
    stem = DIAGNOSIS_REPORT if recipe.inherit.diagnose else INHERIT_REPORT
    with open_run(recipe, trains=False) as run:
        run.on_main(lambda: check_places(run.folder, stem))
        if recipe.inherit.diagnose:
            report, passed = collect_diagnosis(run, command, run_diagnose(run)), True
        else:
            passed = run_inherit(run).passed
            report = collect_inherit(run, command)
        if run.is_main:
            write_report(run.folder, stem, report)
    return 0 if passed else 1
