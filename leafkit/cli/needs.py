"""What a command needs beside its recipe, asked before anything heavy is loaded."""

from __future__ import annotations

from leafkit.config.recipe import Recipe
from leafkit.core.errors import UsageError

_OWN_CORPUS = (
    "data.corpus=beir:FOLDER or jsonl:FILE, your own documents; data.corpus=builtin:pydocs is this "
    "machine's Python documentation"
)


def check_needs(command: str, recipe: Recipe) -> None:
    """Refuse a command whose recipe leaves open what it works on.

    Raises:
        UsageError: no teacher, no documents, or nothing to measure on is named.
    """
    name = recipe.name
    if (
        command in {"distill", "embed", "bench", "inherit", "predict", "ladder"}
        and not recipe.teacher.source
    ):
        raise UsageError(
            f"recipe {name} names no teacher",
            "teacher.source=model:FOLDER_OR_HUB_ID, builtin:mpnet, builtin:minilm or "
            "recipe:kalm-mini; a recipe of stages trains one: recipe:NAME",
        )
    if (
        command in {"distill", "embed", "inherit", "export", "predict", "ladder"}
        and not recipe.data.corpus
    ):
        raise UsageError(f"recipe {name} names no corpus", _OWN_CORPUS)
    if command in {"teach", "mine"} and not recipe.data.corpus:
        bare = [
            stage
            for stage, config in recipe.stages.items()
            if (not config.soup.weights if config.soup.members else not config.sources)
        ]
        if bare:
            raise UsageError(
                f"recipe {name} names no corpus, and stages.{bare[0]} has no sources", _OWN_CORPUS
            )
    if command == "bench" and not (
        recipe.data.corpus or recipe.bench.collections or recipe.bench.tasks
    ):
        raise UsageError(
            "nothing says what to measure on",
            "collections=beir:FOLDER, tasks=sts:FILE or corpus=builtin:pydocs, this machine's "
            "Python documentation",
        )
