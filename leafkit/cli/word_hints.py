"""Words that other tools take, and how to say the same here."""

from __future__ import annotations

import re
from collections.abc import Sequence

from leafkit.core.errors import UsageError

_HELP = {"-h", "--help"}
_OPTION = re.compile(r"--?([A-Za-z][\w.-]*)(?:=(.*))?", re.DOTALL)
_WITHOUT_RECIPE = ("search", "serve", "compare", "recipes", "explain", "completion", "doctor")


def asks_for_help(words: Sequence[str]) -> bool:
    """Whether a command's words ask for its help, wherever they do so."""
    return bool(words) and (words[0] == "help" or bool(_HELP & set(words)))


def check_words(command: str, words: Sequence[str]) -> None:
    """Refuse options with dashes, and a recipe without ``recipe=``.

    Raises:
        UsageError: the hint has the words that do it.
    """
    for place, word in enumerate(words):
        option = _OPTION.fullmatch(word)
        if option:
            raise UsageError(
                f"{word}: leafkit takes key=value, no options with dashes",
                _say_option(command, option[1], option[2], words[place + 1 :]),
            )
    if command in _WITHOUT_RECIPE:
        return
    for word in words:
        if "=" not in word and command != "show" and _names_recipe(word):
            raise UsageError(
                f"{word!r} is not key=value", f"leafkit {command} recipe={word} names the recipe"
            )
    if command == "show" and words and "=" not in words[0] and _names_recipe(words[0]):
        raise UsageError(f"{words[0]!r} is not key=value", f"leafkit show recipe={words[0]}")


def _names_recipe(word: str) -> bool:
    from leafkit.config.load import list_recipes

    return word.endswith((".yaml", ".yml")) or word in list_recipes()


def _say_option(command: str, name: str, value: str | None, behind: Sequence[str]) -> str:
    """How to say ``--NAME VALUE``: the key that it means, with its value."""
    from leafkit.config.renamed import familiar_keys

    key = name.replace("-", "_")
    if value is None:
        follows = behind[0] if behind and "=" not in behind[0] and behind[0][:1] != "-" else ""
        value = follows or ("true" if key in {"force", "strict", "diagnose", "dry_run"} else "...")
    if key in {"recipe", "config", "config_name"}:
        return f"write recipe={value}"
    if key in {"v", "V"}:
        return "leafkit --version"
    keys = familiar_keys(key)
    if command in _WITHOUT_RECIPE or not keys:
        keys = (key,)
    return f"write {' or '.join(f'{one}={value}' for one in keys)}"
