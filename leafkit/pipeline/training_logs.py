"""What a recipe's ``trainer`` section asks for, and where loggers write.

While a step trains, its loggers write into a hidden folder beside the step's own, where TensorBoard
can follow them; when the step is published they are moved into it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from leafkit.core.checkpoint_layout import LOGS_FOLDER
from leafkit.pipeline.run import Run
from leafkit.train.trainer_options import TrainerOptions, make_options


def recipe_options(run: Run, step: str, phase: str = "") -> TrainerOptions:
    """The Trainer's options for a step of a recipe.

    Args:
        run: of the recipe.
        step: trained.
        phase: of a step that trains more than once; its logs are in a folder of that name.

    Raises:
        MissingExtra: a logger or callback needs a package that is not installed.
    """
    return make_options(run.recipe.trainer, _draft_folder(run, step) / phase)


def keep_logs(run: Run, step: str, draft: Path) -> None:
    """Move what a step's loggers wrote into its artifact."""
    written = _draft_folder(run, step)
    if written.is_dir():
        shutil.move(written, draft / LOGS_FOLDER)


def _draft_folder(run: Run, step: str) -> Path:
    return run.folder / f".{step}.{LOGS_FOLDER}"
