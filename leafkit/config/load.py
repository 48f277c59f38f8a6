"""Recipes: YAML text to frozen dataclasses, with every mistake reported at once.

Order: defaults < base recipe (one) < recipe < ``key=value``. The only module that knows YAML and
    OmegaConf.
"""

from __future__ import annotations

import difflib
import functools
import typing
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from leafkit.config.fields import hints_of
from leafkit.config.recipe import Recipe, to_plain
from leafkit.config.renamed import familiar_keys, new_name, old_value, with_new_names
from leafkit.config.rules import is_consent, with_own_hosts
from leafkit.config.validate import KNOWN, find_problems, tell_mistakes
from leafkit.config.yaml_text import compose, find_refused, shown, to_value
from leafkit.core.errors import UsageError

_COMMAND_LINE = "command line"  # where a setting was written
_MAX_KEY, _MAX_DEPTH, _MAX_REASON = 200, 20, 400  # characters, levels, characters
_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class _Setting:
    """One leaf of the input: where it goes, what it is, and where it was written."""

    path: tuple[str, ...]
    value: Any
    origin: str
    from_command_line: bool = False

    @property
    def key(self) -> str:
        return ".".join(self.path)


def recipe_folders() -> list[Path]:
    """Folders that hold recipes: the working tree's, the checkout's, the installed wheel's; first
    match wins.
    """
    candidates = [Path("recipes"), _PACKAGE.parent / "recipes", _PACKAGE / "recipes"]
    unique: dict[Path, Path] = {}
    for folder in candidates:
        if folder.is_dir():
            unique.setdefault(folder.resolve(), folder)
    return list(unique.values())


def list_recipes() -> dict[str, Path]:
    """Every recipe that can be named, with its file."""
    found: dict[str, Path] = {}
    for folder in recipe_folders():
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def find_recipe(name: str) -> Path:
    """File of a recipe given by name or by path.

    Raises:
        UsageError: there is none; the message lists those that exist and the nearest name.
    """
    if name.endswith((".yaml", ".yml")) or "/" in name:
        path = Path(name)
        if not path.is_file():
            raise UsageError(
                f"recipe={name[:_MAX_KEY]}: no such file",
                "name a recipe (leafkit recipes lists them) or an existing file",
            )
        return path
    known = list_recipes()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean recipe={near[0]}? " if near else ""
        raise UsageError(
            f"recipe={name[:_MAX_KEY]}: no such recipe",
            f"{hint}known recipes: {', '.join(known) or 'none'}",
        )
    return known[name]


def describe_recipe(path: Path) -> str:
    """First comment line of a recipe, or why there is none."""
    try:
        with path.open(encoding="utf-8") as stream:
            return stream.readline(_MAX_REASON).lstrip("# ").strip()
    except OSError as err:
        return f"cannot be read: {err.strerror}"
    except UnicodeDecodeError:
        return "cannot be read: it is not UTF-8"


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe ``name`` (a name or a path) with ``key=value`` overrides.

    Raises:
        UsageError: unknown keys, wrong types, values out of range; all of them in one message, each
            with its origin.
    """
    path = find_recipe(name)
    problems: list[str] = []
    settings, base = _read_file(path, problems)
    if base is not None:
        try:
            base_path = find_recipe(base)
        except UsageError as err:
            raise UsageError(f"{path}: base: {err}", err.hint) from err
        base_settings, second = _read_file(base_path, problems)
        if second is not None:
            problems.append(f"{base_path}: base: {second}: a base recipe cannot have a base itself")
        settings = base_settings + settings
    settings += _read_overrides(overrides, problems)
    recipe = _build(path.stem, settings, problems)
    if problems:
        raise UsageError(
            tell_mistakes(path.stem, problems),
            f"leafkit show recipe={name} prints every key",
        )
    return recipe


def from_plain(plain: dict[str, Any]) -> Recipe:
    """The recipe that a manifest holds; what ``to_plain`` made of it, back again.

    Raises:
        ValueError: another version of leafkit wrote it, with keys or types that are not those of
            today.
    """
    try:
        return typing.cast(
            Recipe,
            OmegaConf.to_object(
                OmegaConf.merge(_defaults(), OmegaConf.create(with_new_names(plain)))
            ),
        )
    except OmegaConfBaseException as err:
        raise ValueError(str(err).splitlines()[0]) from err


@functools.cache
def _defaults() -> DictConfig:
    """The recipe without settings, typed; what is merged with it works on a copy."""
    made: DictConfig = OmegaConf.structured(Recipe)
    return made


def to_yaml(recipe: Recipe) -> str:
    """The resolved recipe as YAML that load_recipe reads back."""
    return OmegaConf.to_yaml(OmegaConf.create(to_plain(recipe)))


def _read_file(path: Path, problems: list[str]) -> tuple[list[_Setting], str | None]:
    try:
        text = path.read_text(encoding="utf-8")
        root = compose(text)
        refused = find_refused(text)
    except (OSError, ValueError) as err:
        what = f"{err.strerror}" if isinstance(err, OSError) else f"{err}"[:_MAX_REASON]
        raise UsageError(f"{path} cannot be read as YAML: {what}", "correct the file") from err
    if refused:  # an alias may hold itself, so nothing else of this file is looked at
        problems.extend(f"{path}:{line}: {what}" for line, what in refused)
        return [], None
    if root is None:
        return [], None
    if not isinstance(root, yaml.MappingNode):
        raise UsageError(
            f"{path} is not a mapping of keys to values", "a recipe looks like 'seed: 42'"
        )
    settings: list[_Setting] = []
    _collect(root, (), path, settings, problems=problems)
    base = next((s for s in settings if s.path == ("base",)), None)
    if base is not None and not isinstance(base.value, str | None):
        problems.append(f"{base.origin}: base: {base.value!r} is not the name of a recipe")
        base = None
    return [s for s in settings if s.path != ("base",)], base.value if base else None


def _collect(
    node: yaml.MappingNode,
    prefix: tuple[str, ...],
    path: Path,
    out: list[_Setting],
    *,
    problems: list[str],
) -> None:
    seen: set[str] = set()
    for key_node, value_node in node.value:
        origin = f"{path}:{key_node.start_mark.line + 1}"
        if not isinstance(key_node, yaml.ScalarNode):
            problems.append(f"{origin}: a key must be text")
            continue
        if len(prefix) > _MAX_DEPTH:
            problems.append(f"{origin}: {'.'.join(prefix[:3])}...: it is nested too deeply")
            return
        if len(key_node.value) > _MAX_KEY or not key_node.value.isprintable():
            problems.append(f"{origin}: {shown(key_node.value)} is no key")
            continue
        key = (*prefix, str(key_node.value))
        if key_node.value in seen:
            problems.append(f"{origin}: {'.'.join(key)} is written twice")
        seen.add(key_node.value)
        if isinstance(value_node, yaml.MappingNode) and value_node.value:
            _collect(value_node, key, path, out, problems=problems)
        else:
            try:
                out.append(_Setting(key, to_value(value_node), origin))
            except ValueError as err:  # a date that is none, say
                problems.append(f"{origin}: {'.'.join(key)}: {err}")


def _read_overrides(overrides: Sequence[str], problems: list[str]) -> list[_Setting]:
    settings = []
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            problems.append(f"command line: {shown(text)} is not key=value")
            continue
        if len(key) > _MAX_KEY or not key.isprintable():
            problems.append(f"command line: {shown(key)} is no key")
            continue
        settings.append(
            _Setting(tuple(key.strip().split(".")), value, _COMMAND_LINE, from_command_line=True)
        )
    return settings


def _resolve_type(path: tuple[str, ...]) -> tuple[Any | None, str]:
    """Type of the field at ``path`` and, where there is none, what is wrong with the nearest known
    key.
    """
    renamed = new_name(".".join(path))
    if renamed:
        return None, f"{'.'.join(path)} is now called {renamed}"
    current: Any = Recipe
    for i, part in enumerate(path):
        if is_dataclass(current):
            names = [f.name for f in fields(current)]
            if part not in names:
                near = " or ".join(familiar_keys(part) if i == 0 else ()) or _nearest(part, current)
                hint = (
                    f"did you mean {'.'.join((*path[:i], near))}?"
                    if near
                    else f"{KNOWN}{', '.join(names)}"
                )
                return None, f"unknown key {'.'.join(path[: i + 1])}; {hint}"
            current = hints_of(current)[part]
        elif typing.get_origin(current) is dict:
            current = typing.get_args(current)[1]
        else:
            return None, f"{'.'.join(path[:i])} is a value, it has no key {part!r}"
    return current, ""


def _nearest(name: str, section: Any) -> str:
    """The key of a section, or of a section in it, that is most like ``name``; else empty."""
    hints = hints_of(section)
    names = {key: key for key in hints}
    inner = {key: kind for key, kind in hints.items() if is_dataclass(kind)}
    for key, kind in inner.items():
        for f in fields(kind):
            names.setdefault(f.name, f"{key}.{f.name}")
    near = difflib.get_close_matches(name, hints, n=1) or difflib.get_close_matches(
        name, names, n=1
    )
    return names[near[0]] if near else ""


def _type_name(kind: Any) -> str:
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    if typing.get_origin(kind) is list:
        return f"a list of {_type_name(typing.get_args(kind)[0]).removeprefix('a ')}s"
    return names.get(kind, "a mapping")


def _parse(setting: _Setting, kind: Any) -> Any:
    """The setting's value for a field of type ``kind``.

    Raises:
        ValueError: the value is of another type; the message says what is needed.
    """
    value = setting.value
    if setting.from_command_line and kind is not str:
        node = compose(value) if value.strip() else None
        if refused := find_refused(value):
            raise ValueError(refused[0][1])
        value = to_value(node) if node is not None else None
    if typing.get_origin(kind) is list:
        (item_kind,) = typing.get_args(kind)
        items = (
            value
            if isinstance(value, list)
            else [value]
            if setting.from_command_line and value is not None
            else None
        )
        if items is None:
            raise ValueError(f"{shown(value)} is not {_type_name(kind)}")
        return [_parse(_Setting(setting.path, item, setting.origin), item_kind) for item in items]
    if kind is str and not isinstance(value, str):
        raise ValueError(
            f"YAML reads this as {shown(value)}, but the key takes text: write it in quotes"
        )
    if kind is str and "\0" in value:
        raise ValueError(f"{shown(value)} holds a NUL character")
    # what stands for a byte of a file's name, as Python reads it from a command line, is allowed
    if kind is str and any("\ud800" <= c <= "\udc7f" or "\udd00" <= c <= "\udfff" for c in value):
        raise ValueError(f"{shown(value)} holds half of a surrogate pair, which is no character")
    # OmegaConf would fill in the one and drop the other
    if kind is str and ("${" in value or value == "???"):
        raise ValueError(
            "interpolation (${...}, ???) is not part of recipes: write the value itself"
        )
    wrong_number = kind in {int, float} and (
        isinstance(value, bool) or not isinstance(value, int | float)
    )
    if wrong_number or (kind is int and isinstance(value, float) and not value.is_integer()):
        raise ValueError(f"{shown(value)} is not {_type_name(kind)}")
    if kind is bool and not isinstance(value, bool):
        raise ValueError(f"{shown(value)} is not {_type_name(kind)}")
    if is_dataclass(kind) or typing.get_origin(kind) is dict:
        if value in (None, {}):
            return {}
        raise ValueError(f"{shown(value)} is not a mapping of keys to values")
    return int(value) if kind is int else value


def _place(
    tree: dict[str, Any], path: tuple[str, ...], value: Any, *, is_named: bool = False
) -> None:
    """Put a value under its keys. An empty mapping empties one of names; a section, whose keys are
    given, keeps what it has.
    """
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
    if value == {} and not is_named:
        tree.setdefault(path[-1], {})
    else:
        tree[path[-1]] = value


def _build(name: str, settings: list[_Setting], problems: list[str]) -> Recipe:
    given: dict[str, Any] = {"name": name}
    origins: dict[str, str] = {}
    told: set[tuple[str, str]] = set()
    for setting in settings:
        kind, unknown = _resolve_type(setting.path)
        if kind is None:
            place = setting.origin.rpartition(":")[0]
            # a section that is none has many keys, all of them wrong by its name alone
            if (place, unknown) not in told:
                problems.append(f"{setting.origin}: {unknown}")
            told.add((place, unknown))
            continue
        try:
            value = _parse(setting, kind)
            if value and not setting.from_command_line and is_consent(setting.path):
                problems.append(
                    f"{setting.origin}: {setting.key}: a recipe cannot allow this itself, whoever "
                    f"wrote it: leave it out, and give it on the command line if you trust the "
                    f"recipe"
                )
                continue
            renamed = old_value(setting.key, value)
            if renamed:
                problems.append(
                    f"{setting.origin}: {setting.key}: {renamed[0]!r} is now called {renamed[1]!r}"
                )
                continue
            is_named = typing.get_origin(kind) is dict and setting.value not in (None, "")
            _place(given, setting.path, value, is_named=is_named)
            origins[setting.key] = setting.origin
        except ValueError as err:
            reason = (str(err).splitlines() or ["no value that a recipe may hold"])[0]
            problems.append(f"{setting.origin}: {setting.key}: {reason[:_MAX_REASON]}")
    try:
        typed = OmegaConf.merge(_defaults(), OmegaConf.create(given))
        recipe = typing.cast(Recipe, OmegaConf.to_object(typed))
    except OmegaConfBaseException as err:
        problems.append(str(err).splitlines()[0][:_MAX_REASON])
        return Recipe(name=name)
    for key, text in find_problems(recipe):
        problems.append(f"{origins.get(key, 'defaults')}: {key}: {text}")
    own = {key for key, origin in origins.items() if origin == _COMMAND_LINE}
    return with_own_hosts(recipe, own)
