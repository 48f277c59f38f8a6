"""How a key of a recipe is declared: its type stands in the dataclass, all else in one call.

    num_steps: int = number(100, "Optimizer steps.", above=0, high=10**7)
    batching: str = choice("random", "How rows meet in a batch.", ("random", "neighbors"))

The call says what the key means in a sentence, its unit and what is allowed. ``validate`` checks
every key against it, ``leafkit show`` and the recipes reference print it.
"""

from __future__ import annotations

import copy
import functools
import typing
from collections.abc import Callable, Hashable, Mapping
from dataclasses import Field, dataclass, field
from typing import Any

_KEY = "leafkit"


@dataclass(frozen=True, slots=True)
class Spec:
    """What is known of one key.

    Attributes:
        doc: a sentence.
        unit: of a number; empty for a count whose name says what is counted.
        low: least value that is allowed.
        above: numbers must be above it.
        high: greatest value that is allowed.
        choices: texts that are allowed; empty allows any. Of a mapping, its keys.
        order: of a list's items: rising, falling, or empty for any.
        least_items: of a list.
        is_consent: a recipe file cannot set it: what it allows is for the user of a recipe to say,
            on the command line or in Python.
    """

    doc: str
    unit: str = ""
    low: float | None = None
    above: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    order: str = ""
    least_items: int = 0
    is_consent: bool = False


def number(
    default: float,
    doc: str,
    *,
    high: float,
    low: float | None = None,
    above: float | None = None,
    unit: str = "",
) -> Any:
    """A number between ``low`` (or, exclusive, ``above``) and ``high``."""
    return _field(default, Spec(doc, unit, low, above, high))


def numbers(
    default: list[Any],
    doc: str,
    *,
    high: float,
    low: float | None = None,
    above: float | None = None,
    unit: str = "",
    order: str = "",
    least_items: int = 0,
) -> Any:
    """A list of numbers, each between the bounds."""
    return _field(
        default,
        Spec(
            doc=doc,
            unit=unit,
            low=low,
            above=above,
            high=high,
            choices=(),
            order=order,
            least_items=least_items,
        ),
    )


def text(default: str, doc: str, *, is_consent: bool = False) -> Any:
    """Any text."""
    return _field(default, Spec(doc, is_consent=is_consent))


def texts(
    default: list[str],
    doc: str,
    *,
    choices: tuple[str, ...] = (),
    least_items: int = 0,
    is_consent: bool = False,
) -> Any:
    """A list of texts, each one of ``choices`` where there are any."""
    spec = Spec(doc, choices=choices, least_items=least_items, is_consent=is_consent)
    return _field(default, spec)


def choice(default: str, doc: str, choices: tuple[str, ...]) -> Any:
    """One of several texts."""
    return _field(default, Spec(doc, choices=choices))


def flag(default: bool, doc: str, *, is_consent: bool = False) -> Any:
    """True or false."""
    return _field(default, Spec(doc, is_consent=is_consent))


def shares(default: dict[str, float], doc: str, *, choices: tuple[str, ...]) -> Any:
    """A number from 0 to 1 for each of several names."""
    return _field(default, Spec(doc=doc, unit="", low=0, above=None, high=1, choices=choices))


def names(default: dict[str, str], doc: str, *, choices: tuple[str, ...]) -> Any:
    """A text for some of several names."""
    return _field(default, Spec(doc, choices=choices))


def section(make: Callable[[], Any], doc: str) -> Any:
    """Keys of their own: a dataclass, or names that each have one."""
    return field(default_factory=make, metadata={_KEY: Spec(doc)})


def hints_of(section: Any) -> Mapping[str, Any]:
    """Types of a section's keys by name; resolved once, for every recipe asks for them often."""
    return _resolve_hints(typing.cast(Hashable, section))


@functools.cache
def _resolve_hints(section: Any) -> Mapping[str, Any]:
    return typing.get_type_hints(section)


def spec_of(declared: Field[Any]) -> Spec:
    """What the call that declared a field says."""
    spec: Spec = declared.metadata[_KEY]
    return spec


def allowed(spec: Spec) -> str:
    """The bounds or choices in a few words; empty where any value will do.

    >>> allowed(Spec("", above=0, high=1)), allowed(Spec("", choices=("", "mean")))
    ('above 0, at most 1', 'one of empty, mean')
    """
    if spec.choices and spec.high is None:
        return f"one of {', '.join(name or 'empty' for name in spec.choices)}"
    parts = []
    if spec.above is not None:
        parts.append(f"above {plain_number(spec.above)}")
    if spec.low is not None:
        parts.append(f"at least {plain_number(spec.low)}")
    if spec.high is not None:
        parts.append(f"at most {plain_number(spec.high)}")
    if spec.order:
        parts.append(spec.order)
    if spec.least_items:
        parts.append(f"{spec.least_items} or more")
    return ", ".join(parts)


def plain_number(value: float) -> str:
    """A bound as a recipe may hold it: 1_000_000, 0.5.

    >>> plain_number(1e6), plain_number(0.5)
    ('1_000_000', '0.5')
    """
    return f"{int(value):_}" if value == int(value) else f"{value:g}"


def _field(default: Any, spec: Spec) -> Any:
    if isinstance(default, list | dict):
        return field(default_factory=lambda: copy.copy(default), metadata={_KEY: spec})
    return field(default=default, metadata={_KEY: spec})
