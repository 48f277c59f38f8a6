"""What a recipe's ``trainer`` section asks for, where loggers write, and where a training's state
is kept.

While a step trains, its loggers write into a hidden folder beside the step's own, where TensorBoard
can follow them; when the step is published they are moved into it. Its state is in another one,
which goes then.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from leafkit.core.checkpoint_layout import LOGS_FOLDER, STATE_FOLDER
from leafkit.pipeline.run import Run
from leafkit.train.resume import Checkpoints
from leafkit.train.trainer_options import TrainerOptions, make_options


def recipe_options(run: Run, step: str, phase: str = "", *, identity: str = "") -> TrainerOptions:
    """The Trainer's options for a step of a recipe.

    Args:
        run: of the recipe.
        step: trained.
        phase: of a step that trains more than once; its logs are in a folder of that name.
        identity: names everything that decides about the step; "" keeps no state.

    Raises:
        MissingExtra: a logger or callback needs a package that is not installed.
    """
    options = make_options(run.recipe.trainer, _draft_folder(run, step) / phase)
    minutes = run.recipe.trainer.checkpoint_minutes
    if not identity or not minutes:
        return options
    place = Checkpoints(_state_folder(run, step) / phase, f"{identity} {phase}", 60 * minutes)
    return replace(options, checkpoints=place)


def forget_state(run: Run, step: str) -> None:
    """Delete what a training kept on its way; its step is published."""
    if run.is_main:
        shutil.rmtree(_state_folder(run, step), ignore_errors=True)


def keep_logs(run: Run, step: str, draft: Path) -> None:
    """Move what a step's loggers wrote into its artifact."""
    written = _draft_folder(run, step)
    if written.is_dir():
        shutil.move(written, draft / LOGS_FOLDER)


def _state_folder(run: Run, step: str) -> Path:
    return run.folder / f".{step}.{STATE_FOLDER}"


def _draft_folder(run: Run, step: str) -> Path:
    return run.folder / f".{step}.{LOGS_FOLDER}"
