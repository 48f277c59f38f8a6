"""Every key of a recipe with what its declaration says: for ``leafkit show`` and for docs."""

from __future__ import annotations

import difflib
import json
import re
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from leafkit.config.fields import allowed, hints_of, spec_of
from leafkit.config.recipe import Recipe, to_plain
from leafkit.config.renamed import familiar_keys, new_name
from leafkit.core.errors import UsageError

ANY_NAME = "NAME"  # stands for the name of a stage or a source, which the recipe chooses
_KINDS = {str: "text", int: "whole number", float: "number", bool: "true or false"}


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a recipe.

    Attributes:
        name: with its sections, ``stages.NAME.optimizer.lr`` say.
        kind: its type in words.
        default: what holds where a recipe does not name it.
        unit: of a number; often empty.
        allowed: bounds or choices in words; empty where any value will do.
        doc: a sentence.
    """

    name: str
    kind: str
    default: Any
    unit: str
    allowed: str
    doc: str


def list_keys(section: Any = None, prefix: str = "") -> Iterator[Key]:
    """Every key of a section and of those in it, in the order of their declaration.

    Args:
        section: one with its defaults; None takes the whole recipe.
        prefix: what stands before the names, ``student.`` say.
    """
    section = Recipe() if section is None else section
    hints = hints_of(type(section))
    for declared in fields(section):
        name, hint, value = (
            prefix + declared.name,
            hints[declared.name],
            getattr(section, declared.name),
        )
        inner = typing.get_args(hint)[-1] if typing.get_origin(hint) is dict else None
        if is_dataclass(hint):
            yield from list_keys(value, f"{name}.")
        elif inner is not None and is_dataclass(inner):
            yield from list_keys(typing.cast(Any, inner)(), f"{name}.{ANY_NAME}.")
        else:
            spec = spec_of(declared)
            yield Key(
                name=name,
                kind=_kind(hint),
                default=to_plain(value),
                unit=spec.unit,
                allowed=allowed(spec),
                doc=spec.doc,
            )


def find_keys(recipe: Recipe, section: str) -> list[Key]:
    """The keys of ``section``, or the key of that name, under the names that the recipe gives its
    stages and sources.

    Raises:
        UsageError: there is none; the hint has the nearest.
    """
    keys = [key for general in list_keys() for key in _with_names(recipe, general)]
    chosen = [key for key in keys if f"{key.name}.".startswith(f"{section}.")]
    if chosen:
        return chosen
    renamed = new_name(section)
    if renamed:
        raise UsageError(f"{section} is now called {renamed}", f"leafkit show ... {renamed}")
    parts = [key.name.split(".") for key in keys]
    known = {".".join(path[:depth]) for path in parts for depth in range(1, len(path) + 1)}
    near = difflib.get_close_matches(section, sorted(known), n=1)
    sections = dict.fromkeys(path[0] for path in parts if len(path) > 1)
    raise UsageError(
        f"{section!r} is neither key=value nor a section of the recipe",
        f"did you mean {near[0]}?" if near else f"sections: {', '.join(sections)}",
    )


def find_general_keys(name: str) -> list[Key]:
    """Every key that a word may mean: the key or the keys of the section of that name, whatever
    stands for ``NAME``; else those whose last parts it is; else those of that name elsewhere.

    Raises:
        UsageError: there is none; the hint has the nearest.

    >>> [key.name for key in find_general_keys("weight_decay")]
    ['stages.NAME.optimizer.weight_decay', 'student.optimizer.weight_decay']
    """
    keys, parts = list(list_keys()), name.split(".")
    for wanted in (name, new_name(name) or "", *familiar_keys(name)):
        asked = wanted.split(".")
        found = [key for key in keys if wanted and _begins(key.name.split("."), asked)]
        found = found or [key for key in keys if f".{key.name}".endswith(f".{wanted}") and wanted]
        if found:
            return found
    near = difflib.get_close_matches(
        parts[-1], [key.name.rpartition(".")[2] for key in keys], n=1
    ) or difflib.get_close_matches(name, [key.name for key in keys], n=1)
    raise UsageError(
        f"no key of a recipe is called {name!r}",
        f"did you mean {near[0]}?" if near else "leafkit show recipe=own-data prints all of them",
    )


def _begins(parts: Sequence[str], asked: Sequence[str]) -> bool:
    """Whether the key of these parts is the one asked for, or in that section."""
    return len(parts) >= len(asked) and all(
        part in (word, ANY_NAME) for part, word in zip(parts, asked, strict=False)
    )


def value_at(recipe: Recipe, key: str) -> Any:
    """The recipe's value of a key.

    >>> value_at(Recipe(), "student.optimizer.lr")
    0.0001
    """
    value: Any = recipe
    for part in key.split("."):
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    return value


def annotated_yaml(recipe: Recipe) -> str:
    """Every key with its value; before it a comment with its sentence, its unit and what is
    allowed. ``load_recipe`` reads it back.
    """
    keys = {key.name: key for key in list_keys()}
    return "".join(f"{line}\n" for line in _yaml_lines(to_plain(recipe), keys, "", ""))


def describe_key(key: Key) -> str:
    """A key's sentence, then its unit and what is allowed, where there is any."""
    rules = ", ".join(part for part in (key.unit, key.allowed) if part)
    return f"{key.doc} ({rules})" if rules else key.doc


def _yaml_lines(section: Any, keys: dict[str, Key], path: str, indent: str) -> Iterator[str]:
    for name, value in section.items():
        full = f"{path}{name}"
        key = keys.get(full)
        if key is not None:
            yield f"{indent}# {describe_key(key)}"
        if isinstance(value, dict) and value and key is None:
            yield f"{indent}{_as_yaml(name)}:"
            inner = f"{path}{name}."
            if not any(other.startswith(inner) for other in keys):
                inner = f"{path}{ANY_NAME}."
            yield from _yaml_lines(value, keys, inner, f"{indent}  ")
        else:
            yield f"{indent}{_as_yaml(name)}: {_as_yaml(value)}"


def _as_yaml(value: Any) -> str:
    """A value on one line, as YAML: words as they are, all else as JSON, which YAML contains."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w./-]*", value) and not _is_word(value):
        return value
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)


def _is_word(text: str) -> bool:
    """Whether YAML would read a text as something else than text."""
    return text.lower() in {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def render_reference() -> str:
    """All keys as Markdown: a heading and a table for each section."""
    by_section: dict[str, list[Key]] = {}
    for key in list_keys():
        by_section.setdefault(key.name.rpartition(".")[0], []).append(key)
    return "\n".join(_render_section(name, keys) for name, keys in by_section.items())


def _render_section(section: str, keys: Sequence[Key]) -> str:
    head = "| key | type | default | unit | allowed | meaning |\n|---|---|---|---|---|---|\n"
    rows = [
        (
            f"`{key.name.rpartition('.')[2]}`",
            key.kind,
            _code(key.default),
            key.unit,
            key.allowed,
            key.doc,
        )
        for key in keys
    ]
    lines = "".join(
        f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |\n" for row in rows
    )
    return f"## {f'`{section}`' if section else 'The recipe itself'}\n\n{head}{lines}"


def _code(value: Any) -> str:
    """A default as a recipe would hold it."""
    if value in ("", [], {}):
        return "empty"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    if isinstance(value, dict):
        return f"`{{{', '.join(f'{name}: {item}' for name, item in value.items())}}}`"
    return f"`{value!r}`" if isinstance(value, str) and "\n" in value else f"`{value}`"


def _kind(hint: Any) -> str:
    if typing.get_origin(hint) is list:
        return f"list of {_kind(typing.get_args(hint)[0])}s".replace("texts", "text")
    if typing.get_origin(hint) is dict:
        return f"{_kind(typing.get_args(hint)[1])} by name"
    return _KINDS[hint]


def _with_names(recipe: Recipe, key: Key) -> Iterator[Key]:
    """The key once for each stage or source that ``NAME`` stands for; as it is without ``NAME``."""
    before, marker, after = key.name.partition(f".{ANY_NAME}.")
    if not marker:
        yield key
        return
    for name in value_at(recipe, before):
        named = Key(
            name=f"{before}.{name}.{after}",
            kind=key.kind,
            default=key.default,
            unit=key.unit,
            allowed=key.allowed,
            doc=key.doc,
        )
        yield from _with_names(recipe, named)
