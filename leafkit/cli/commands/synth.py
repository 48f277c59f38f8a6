"""``leafkit synth``: training rows from a chat model."""

from __future__ import annotations

from collections.abc import Sequence

from leafkit.cli.recipe_words import read_recipe
from leafkit.core.checkpoint_layout import SYNTH_ROWS_FILE
from leafkit.core.console import log


def run(words: Sequence[str]) -> int:
    """Write the rows, and say what they cost and where they are."""
    recipe = read_recipe("synth", words)
    from leafkit.pipeline.run import open_run
    from leafkit.pipeline.synth import describe_summary, run_synth

    with open_run(recipe) as run:
        folder = run_synth(run)
        if run.is_main:
            log(describe_summary(folder))
            path = folder / SYNTH_ROWS_FILE
            log(f"rows: {path}; train on them with uri=jsonl:{path}")
    return 0
