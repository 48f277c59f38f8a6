"""Which values a recipe may hold: every key against its own declaration, then the rules between
keys; and what is wrong with one, in a message that is read rather than scrolled past.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from leafkit.config.fields import Spec, plain_number, spec_of
from leafkit.config.recipe import Recipe
from leafkit.config.rules import broken_rules
from leafkit.config.rules_stage import Problem
from leafkit.config.yaml_text import shown

KNOWN = "known here: "  # what a section has, after an unknown key without a near one

_MAX_LINE = 800  # characters
_MAX_LINES = 30  # shown at once


def find_problems(recipe: Recipe) -> list[Problem]:
    """Every value out of range and every broken rule between keys, as ``(key, what is wrong)``."""
    return [*check_section(recipe), *broken_rules(recipe)]


def check_section(section: Any, prefix: str = "") -> Iterator[Problem]:
    """Every value of one section that its declaration does not allow, ``prefix`` before its key."""
    for declared in fields(section):
        key, value, spec = (
            prefix + declared.name,
            getattr(section, declared.name),
            spec_of(declared),
        )
        if is_dataclass(value):
            yield from check_section(value, f"{key}.")
        elif isinstance(value, dict):
            for name, child in value.items():
                if is_dataclass(child):
                    yield from check_section(child, f"{key}.{name}.")
                else:
                    yield from _check_entry(f"{key}.{name}", name, child, spec)
        elif isinstance(value, list):
            yield from _check_list(key, value, spec)
        elif complaint := _complaint(value, spec):
            yield key, complaint


def _check_entry(key: str, name: str, value: Any, spec: Spec) -> Iterator[Problem]:
    """One entry of a mapping whose keys are choices and whose values are numbers or texts."""
    if name not in spec.choices:
        yield key, f"{shown(name)} is not one of {', '.join(spec.choices)}"
    if isinstance(value, str):
        complaint = "" if value else "is empty"
    else:
        complaint = out_of_range(value, spec)
    if complaint:
        yield key, complaint


def _check_list(key: str, values: list[Any], spec: Spec) -> Iterator[Problem]:
    if len(values) < spec.least_items:
        yield key, "is empty: name some" + (f" of {', '.join(spec.choices)}" * bool(spec.choices))
    complaints = [complaint for item in values if (complaint := _complaint(item, spec))]
    yield from ((key, complaint) for complaint in dict.fromkeys(complaints))
    ordered = sorted(set(values), reverse=spec.order == "falling")
    if spec.order and values != ordered and not complaints:
        yield key, f"{shown(values)} is not a {spec.order} list"


def _complaint(value: Any, spec: Spec) -> str:
    """What is wrong with one value; empty where it is allowed."""
    if isinstance(value, bool):
        return ""
    if isinstance(value, int | float):
        return out_of_range(value, spec)
    if spec.choices and value not in spec.choices:
        return f"{shown(value)} is not one of {', '.join(spec.choices)}"
    return ""


def out_of_range(value: float, spec: Spec) -> str:
    """Why a number is not allowed; empty where it is."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not a finite number"
    low, high = spec.low, spec.high
    if (low, high) == (0, 1) and not 0 <= value <= 1:
        return f"{value} is not between 0 and 1"
    if spec.above is not None and not value > spec.above:
        return f"{value} is not above {spec.above:g}"
    if low is not None and value < low:
        return f"{value} is below {low:g}"
    if high is not None and value > high:
        return f"{value} is above {plain_number(high)}"
    return ""


def tell_mistakes(recipe: str, problems: Sequence[str]) -> str:
    """All of a recipe's mistakes, a line each; each of them, and the keys of a section, once."""
    told = list(dict.fromkeys(problems))
    known: set[str] = set()
    lines = []
    for problem in told[:_MAX_LINES]:
        what, _, keys = problem.partition(KNOWN)
        if keys in known:
            problem = f"{what}{KNOWN}as above"
        if keys:
            known.add(keys)
        lines.append(f"  {_cut(problem)}")
    if len(told) > _MAX_LINES:
        lines.append(f"  ... and {len(told) - _MAX_LINES} more")
    return "\n".join([f"recipe {recipe} has {len(told)} mistake(s):", *lines])


def _cut(line: str) -> str:
    return line if len(line) <= _MAX_LINE else f"{line[:_MAX_LINE]} ..."
