"""``leafkit predict``: what students of a teacher will be worth, before any of them is made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from leafkit.cli.recipe_words import read_recipe
from leafkit.config.effects import key_of
from leafkit.config.load import load_recipe
from leafkit.core.checkpoint_layout import PAIR_TEXTS_FILE, PREDICTION, PREDICTION_PAGE_FILE
from leafkit.core.console import console, log
from leafkit.core.errors import UsageError
from leafkit.pipeline.predict.settings import PredictSettings, refuse_undiagnosed

OPTIONS = ("target", "minutes", "texts", "kinds", "diagnose")
_TRUTH = {"true": True, "false": False}


def run(words: Sequence[str]) -> int:
    """Probe, print the forecasts, and keep them in the recipe's folder."""
    asked, rest = split_words(words)
    recipe = read_recipe("predict", rest, has_short_keys=True)
    refuse_undiagnosed(asked, rest)
    from leafkit.pipeline.predict.predict import run_predict
    from leafkit.pipeline.run import open_run

    with open_run(recipe, trains=False) as opened:
        found = run_predict(opened, asked)
        if opened.is_main:
            console.print(str(found), markup=False)
            log(f"prediction: {opened.folder / PREDICTION / PREDICTION_PAGE_FILE}")
    return 0


def split_words(words: Sequence[str]) -> tuple[PredictSettings, list[str]]:
    """The command's own options, and the words of the recipe.

    >>> asked, rest = split_words(["teacher=vectors:old", "home=beir:docs", "target=.9"])
    >>> asked.target, rest
    (0.9, ['teacher=vectors:old', 'data.corpus=beir:docs'])

    Raises:
        UsageError: an option comes twice or has a value that it cannot have.
    """
    options: dict[str, str] = {}
    rest: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key in OPTIONS:
            if key in options:
                raise UsageError(f"{key}= comes twice", f"{key}= once")
            options[key] = value
        elif equals and key == "home":
            rest.append(f"data.corpus={value}")
        else:
            rest.append(word)
    rest = _name_texts(rest)
    asked: dict[str, Any] = {
        key: _number(options[key]) for key in ("target", "minutes", "texts") if key in options
    }
    if "kinds" in options:
        asked["kinds"] = tuple(one.strip() for one in options["kinds"].strip("[]").split(","))
    diagnose = options.get("diagnose", "false")
    if diagnose not in _TRUTH:
        raise UsageError(f"diagnose={diagnose[:40]} is neither true nor false", "diagnose=true")
    return PredictSettings(**asked, has_diagnosis=_TRUTH[diagnose]), rest


def _number(word: str) -> int | float | str:
    """As the settings check it; a word that is no number stays one."""
    try:
        value = float(word)
    except ValueError:
        return word
    return int(value) if value.is_integer() else value


def _name_texts(words: list[str]) -> list[str]:
    """A folder of vectors brings its own texts where neither a word nor the recipe names others."""
    if any(word.startswith(("data.corpus=", "corpus=")) for word in words):
        return words
    teachers = [w.partition("=")[2] for w in words if key_of(w) in ("teacher", "teacher.source")]
    recipes = [word.removeprefix("recipe=") for word in words if word.startswith("recipe=")]
    if len(recipes) == 1:
        recipe = load_recipe(recipes[0])
        if recipe.data.corpus:
            return words
        teachers = teachers or [recipe.teacher.source]
    if len(teachers) == 1 and teachers[0].startswith("vectors:"):
        return [*words, f"data.corpus={_texts_of(teachers[0])}"]
    return words


def _texts_of(teacher: str) -> str:
    """The source of the texts that lie beside vectors.

    Raises:
        UsageError: there are none.
    """
    folder = Path(teacher.partition(":")[2])
    if not folder.is_dir():
        raise UsageError(f"{teacher}: no such folder: {folder.absolute()}", "check the path")
    if not (folder / PAIR_TEXTS_FILE).is_file():
        raise UsageError(
            f"{teacher} knows its texts by their hashes alone, or has none of documents",
            "home=jsonl:FILE names the texts",
        )
    return f"jsonl:{folder / PAIR_TEXTS_FILE}"
