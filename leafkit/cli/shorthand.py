"""``bench`` and ``inherit`` of any pair in one line: short keys, and a recipe's name and corpus
where none is given.
"""

from __future__ import annotations

from collections.abc import Sequence

from leafkit.core.errors import UsageError

SHORT_KEYS = {
    "teacher": "teacher.source",
    "query_prompt": "teacher.query_prompt",
    "document_prompt": "teacher.document_prompt",
    "student": "bench.student",
    "baseline": "bench.baseline",
    "collections": "bench.collections",
    "tasks": "bench.tasks",
    "same_space": "bench.same_space",
    "indexes": "bench.indexes.kinds",
    "corpus": "data.corpus",
    "dims": "inherit.dims",
    "precisions": "inherit.precisions",
    "diagnose": "inherit.diagnose",
    "strict": "inherit.strict",
}
RENAMED_SHORT_KEYS = {"home": "corpus"}
DEFAULT_RECIPE = "measure"
_MAX_NAME = 100  # letters of a folder's name made from two references


def expand(words: Sequence[str]) -> list[str]:
    """Words of the command line with full keys.

    Without ``recipe=`` they name recipe ``measure``; the run is called after its models, and a
    benchmark of given collections measures no corpus beside them.

    Raises:
        UsageError: neither a recipe nor a teacher is named, or a short key has another name today.
    """
    full = [_lengthen(word) for word in words]
    given = dict(word.split("=", 1) for word in full if "=" in word)
    if "recipe" in given:
        return full
    teacher, student = given.get("teacher.source", ""), given.get("bench.student", "")
    if not teacher:
        raise UsageError(
            "name a recipe or a teacher",
            "recipe=NAME, or teacher=model:FOLDER student=model:FOLDER",
        )
    full.append(f"recipe={DEFAULT_RECIPE}")
    if "name" not in given:
        full.append(
            f"name={'--'.join(_tail(reference) for reference in (teacher, student) if reference)}"
        )
    if "bench.collections" in given and "data.corpus" not in given:
        full.append("data.corpus=")
    return full


def _lengthen(word: str) -> str:
    key, equals, value = word.partition("=")
    if equals and key in RENAMED_SHORT_KEYS:
        raise UsageError(
            f"{key}= is now called {RENAMED_SHORT_KEYS[key]}=",
            f"write {RENAMED_SHORT_KEYS[key]}={value}",
        )
    return f"{SHORT_KEYS.get(key, key)}{equals}{value}"


def _tail(reference: str) -> str:
    """The last part of a reference as part of a folder's name, with its parent where that tells
    checkpoints apart.
    """
    path = reference.partition(":")[2].rpartition("@")[0] or reference.partition(":")[2]
    parts = [
        part
        for part in path.replace("\\", "/").split("/")
        if part not in {"", ".", "..", "checkpoints"}
    ]
    words = "".join(c if c.isalnum() or c in "._-" else "-" for c in "-".join(parts[-2:]))
    return words.strip("-._")[-_MAX_NAME // 2 :].lstrip("-._") or "unnamed"
