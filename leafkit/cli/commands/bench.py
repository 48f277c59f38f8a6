"""``leafkit bench``: the retrieval benchmark of a pair."""

from __future__ import annotations

from collections.abc import Sequence

from leafkit.cli.recipe_words import read_recipe
from leafkit.core.checkpoint_layout import BENCH_REPORT


def run(words: Sequence[str]) -> int:
    """Measure the pair on the corpus and the collections; the report is in the recipe's folder."""
    recipe = read_recipe("bench", words, has_short_keys=True)
    from leafkit.cli.write_report import check_places, write_report
    from leafkit.pipeline.evaluate.bench import run_bench
    from leafkit.pipeline.evaluate.collect import collect_bench
    from leafkit.pipeline.run import open_run

    with open_run(recipe, trains=False) as run:
        run.on_main(lambda: check_places(run.folder, BENCH_REPORT))
        run_bench(run, allow_empty=False)
        # every process takes part: it opens corpora
        report = collect_bench(run, " ".join(["leafkit bench", *words]))
        if run.is_main:
            write_report(run.folder, BENCH_REPORT, report)
    return 0
