"""``leafkit predict``: what students of a teacher will be worth, before any of them is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from leafkit.cli.recipe_words import read_recipe
from leafkit.core.console import console, log
from leafkit.core.errors import UsageError
from leafkit.results.prediction import KINDS

OPTIONS = ("target", "minutes", "texts", "kinds", "diagnose")
_TRUTH = {"true": True, "false": False}
_MOST_MINUTES = 1440


def run(words: Sequence[str]) -> int:
    """Probe, print the forecasts, and keep them in the recipe's folder."""
    asked, rest = split_words(words)
    recipe = read_recipe("predict", rest, has_short_keys=True)
    from leafkit.core.checkpoint_layout import PREDICTION, PREDICTION_PAGE_FILE
    from leafkit.pipeline.predict.load_sample import PredictSettings
    from leafkit.pipeline.predict.predict import run_predict
    from leafkit.pipeline.run import open_run

    settings = PredictSettings(
        asked.target, asked.minutes, asked.texts, asked.kinds, asked.has_diagnosis
    )
    with open_run(recipe, trains=False) as opened:
        found = run_predict(opened, settings)
        if opened.is_main:
            console.print(str(found), markup=False)
            log(f"prediction: {opened.folder / PREDICTION / PREDICTION_PAGE_FILE}")
    return 0


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command's own words say; fields as in ``PredictSettings``."""

    target: float = 0.95
    minutes: float = 2.0
    texts: int = 0
    kinds: tuple[str, ...] = KINDS
    has_diagnosis: bool = False


def split_words(words: Sequence[str]) -> tuple[Asked, list[str]]:
    """The command's own options, and the words of the recipe.

    >>> asked, rest = split_words(["teacher=vectors:old", "home=beir:docs", "target=.9"])
    >>> asked.target, rest
    (0.9, ['teacher=vectors:old', 'data.corpus=beir:docs'])

    Raises:
        UsageError: an option comes twice or has a value that it cannot have, a kind of student is
            not known.
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
    kinds = tuple(k.strip() for k in options.get("kinds", ",".join(KINDS)).strip("[]").split(","))
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or len(set(kinds)) < len(kinds):
        what = f"{unknown[0]!r} is no kind of student" if unknown else "a kind comes twice"
        raise UsageError(f"kinds={options['kinds'][:80]}: {what}", f"kinds={','.join(KINDS)}")
    diagnose = options.get("diagnose", "false")
    if diagnose not in _TRUTH:
        raise UsageError(f"diagnose={diagnose[:40]} is neither true nor false", "diagnose=true")
    asked = Asked(
        _number(options, "target", 0.95, 0.01, 1.0),
        _number(options, "minutes", 2.0, 0.1, _MOST_MINUTES),
        int(_number(options, "texts", 0, 0, 10**7)),
        kinds,
        _TRUTH[diagnose],
    )
    return asked, rest


def _number(options: dict[str, str], key: str, default: float, low: float, high: float) -> float:
    """The value of an option between two bounds; of texts a whole one."""
    word = options.get(key)
    if word is None:
        return default
    try:
        value = float(word)
    except ValueError:
        value = float("nan")
    if not low <= value <= high or (key == "texts" and value != int(value)):
        raise UsageError(
            f"{key}={word[:40]} is no number from {low:g} to {high:g}", f"{key}={default:g}"
        )
    return value


def _name_texts(words: list[str]) -> list[str]:
    """A folder of vectors brings its own texts where no other home is named."""
    if any(word.startswith(("data.corpus=", "corpus=", "recipe=")) for word in words):
        return words
    teacher = [w.partition("=")[2] for w in words if w.startswith(("teacher=", "teacher.source="))]
    if len(teacher) == 1 and teacher[0].startswith("vectors:"):
        from pathlib import Path

        from leafkit.core.checkpoint_layout import PAIR_TEXTS_FILE

        folder = Path(teacher[0].partition(":")[2])
        if not folder.is_dir():
            raise UsageError(f"{teacher[0]}: no such folder: {folder.absolute()}", "check the path")
        if not (folder / PAIR_TEXTS_FILE).is_file():
            raise UsageError(
                f"{teacher[0]} knows its texts by their hashes alone, or has none of documents",
                "home=jsonl:FILE names the texts",
            )
        return [*words, f"data.corpus=jsonl:{folder / PAIR_TEXTS_FILE}"]
    return words
