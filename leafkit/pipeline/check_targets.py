"""What can only fail when a step is published is found before its work: hours of training are not
lost to a folder that stood in the way.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from leafkit.config import Recipe
from leafkit.core.artifact import refuse_foreign
from leafkit.core.checkpoint_layout import (
    BENCH,
    CERTIFICATE,
    CONTAMINATION,
    DIAGNOSIS,
    EXPORT,
    INDEX,
    INHERIT,
    LADDER,
    MINED,
    PAIRS,
    ROUTER_FOLDER,
    SHARED_FOLDERS,
    STUDENT,
    SYNTH,
)
from leafkit.core.errors import UsageError, explain_write_errors

_STEPS = (
    STUDENT,
    INDEX,
    BENCH,
    INHERIT,
    CONTAMINATION,
    DIAGNOSIS,
    EXPORT,
    SYNTH,
    PAIRS,
    CERTIFICATE,
    f"{LADDER}/{ROUTER_FOLDER}",
)
_BESIDE = len(".") + len(".draft")  # bytes that a step's name is longer by while it is written


def check_targets(recipe: Recipe) -> None:
    """Refuse a recipe whose results could not be put where they belong.

    Args:
        recipe: whose checkpoints folder exists.

    Raises:
        UsageError: a name is longer than the file system takes.
        LeafkitError: something else than a step's result stands in the place of one, or a folder
            cannot be written.
    """
    root = Path(recipe.checkpoints)
    folder = root / recipe.name
    longest = os.pathconf(root, "PC_NAME_MAX") - _BESIDE
    for name in (recipe.name, *recipe.stages):
        size = len(os.fsencode(name))
        if size > longest:
            raise UsageError(
                f"the name {name[:40]}... has {size} bytes, and a folder in {root} can have "
                f"{longest}",
                "take a shorter one for the recipe (name=NAME) or its stage",
            )
    mined = sorted(p for p in (folder / MINED).glob("*/*") if not p.name.startswith("."))
    for target in (*(folder / name for name in (*_STEPS, *recipe.stages)), *mined):
        refuse_foreign(target)
    for place in (root, folder, *(root / shared for shared in SHARED_FOLDERS)):
        if place.exists():
            with explain_write_errors(place), tempfile.TemporaryFile(dir=place):
                pass
