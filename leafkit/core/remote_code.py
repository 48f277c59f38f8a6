"""Code that comes with a model: a pinned revision must hold all of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from leafkit.core.errors import LeafkitError

_ELSEWHERE = "--"  # in a reference to code, between another repository and its file


def refuse_foreign_code(folder: Path) -> None:
    """Refuse a model whose files name code of another repository: transformers would fetch that
    repository's newest code and run it, whatever revision the model is pinned to.

    Args:
        folder: of the model; every JSON file in it and one folder below is looked at.

    Raises:
        LeafkitError: a file names such code.
    """
    for path in sorted([*folder.glob("*.json"), *folder.glob("*/*.json")]):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue  # whoever needs the file says what is wrong with it
        for reference in _code_of(content):
            if _ELSEWHERE in reference:
                repository = reference.partition(_ELSEWHERE)[0]
                raise LeafkitError(
                    f"{path} names code of another repository, {reference!r}: a revision pins "
                    f"none of it, so it is not run",
                    f"copy the files of {repository} into a folder of the model, name them there "
                    f"without {repository}{_ELSEWHERE}, and look at what they do",
                )


def _code_of(content: Any) -> Iterator[str]:
    """References to code in what a configuration file holds: those of auto_map, custom pipelines
    and sentence-transformers' modules.
    """
    if isinstance(content, list):
        for item in content:
            yield from _code_of(item)
    if not isinstance(content, dict):
        return
    for key, value in content.items():
        if key in {"auto_map", "impl", "type", "custom_generate"}:
            yield from _texts_in(value)
        elif isinstance(value, dict | list):
            yield from _code_of(value)


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(item)
