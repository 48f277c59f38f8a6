"""YAML as recipes may hold it: plain values, read as what is written and nothing else."""

from __future__ import annotations

import re
from typing import Any

import yaml

_MAX_DIGITS = 40  # of a number; no key's bound has as many
# YAML 1.1 reads 190:20:30 as a number to the base 60, and 0777 as an octal one
_ODD_NUMBER = re.compile(r"[-+]?(0[0-9_]|[0-9_]+:)")


def compose(text: str) -> yaml.Node | None:
    """The nodes of a text, which are not values yet; None of an empty one.

    Raises:
        ValueError: it is no YAML, or is nested too deeply.
    """
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (yaml.YAMLError, ValueError, OverflowError) as err:  # an escape that is no character
        raise ValueError(str(err) or "it is no YAML") from err


def find_refused(text: str) -> list[tuple[int, str]]:
    """Line and name of what recipes may not hold: tags (they construct objects) and aliases (they
    may hold themselves).

    Args:
        text: that ``compose`` takes.
    """
    found = []
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        tag = getattr(event, "tag", None)
        what = (
            f"the alias *{event.anchor}"
            if isinstance(event, yaml.AliasEvent)
            else f"the YAML tag {tag}"
            if tag
            else ""
        )
        if what:
            line = event.start_mark.line + 1 if event.start_mark else 1
            found.append((line, f"{what} is not part of recipes: write the value itself"))
    return found


def to_value(node: yaml.Node) -> Any:
    """Value of a node, with 1e-5 read as a number (YAML 1.1 reads it as text).

    Raises:
        ValueError: there is no such value: a date that is none, say, or a number of thousands of
            digits.
    """
    if isinstance(node, yaml.SequenceNode):
        return [to_value(child) for child in node.value]
    is_plain = isinstance(node, yaml.ScalarNode) and node.style is None
    if node.tag.endswith((":int", ":float")) and is_plain:
        if len(node.value) > _MAX_DIGITS:
            raise ValueError(f"{shown(node.value)} has {len(node.value):,} digits")
        if _ODD_NUMBER.match(node.value):
            raise ValueError(
                f"YAML does not read {node.value} as it looks: write a number without 0 before it "
                f"and without colons, or text in quotes"
            )
    try:
        value = yaml.SafeLoader("").construct_object(node, deep=True)
    except (yaml.YAMLError, TypeError, AttributeError, OverflowError, RecursionError) as err:
        raise ValueError(f"no value that a recipe may hold: {_first_line(err)}") from err
    if isinstance(value, str) and is_plain and len(value) <= _MAX_DIGITS:
        try:
            return float(value) if "e" in value.lower() else value
        except ValueError:
            return value
    return value


def shown(value: object) -> str:
    """A value in a message: as Python writes it, in the middle of a line and no longer than that.

    >>> shown("x"), shown([1, 2]), len(shown("x" * 1000))
    ("'x'", '[1, 2]', 80)
    """
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return "a value too long to show"
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 20]} ... {text[-15:]}"


_MAX_SHOWN = 80


def _first_line(err: Exception) -> str:
    return (str(err).splitlines() or [type(err).__name__])[0]
