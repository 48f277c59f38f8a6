"""What a prediction is asked, from the command line and from Python: one declaration, one check."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any

from leafkit.config.effects import key_of, refuse
from leafkit.config.fields import Spec, flag, number, spec_of
from leafkit.config.rules_stage import Problem
from leafkit.config.validate import out_of_range
from leafkit.core.errors import UsageError
from leafkit.results.prediction import KINDS

_MOST_MINUTES = 1440
_OF_DIAGNOSIS = ("bench.num_resamples",)
_LONGEST_SHOWN = 60  # characters of a wrong value


@dataclass(frozen=True, slots=True)
class PredictSettings:
    """What is asked; wrong values are refused when it is made, all of them at once.

    Attributes:
        target: share of the teacher's nDCG@10 that is wanted, from 0.01 to 1.
        minutes: that may be spent, about, from 0.1 to 1,440.
        texts: documents to look at, 0 takes what fits: all that have vectors, or as many as the
            teacher embeds in its part of the minutes.
        kinds: of students, each once.
        has_diagnosis: examine the teacher, too.

    Raises:
        UsageError: naming every wrong value.

    Examples:
        >>> PredictSettings(target=0, minutes=float("nan"))
        Traceback (most recent call last):
        leafkit.core.errors.UsageError: target: 0 is below 0.01; minutes: nan is not a finite number
    """

    target: float = number(0.95, "Share of the teacher that is wanted.", low=0.01, high=1)
    minutes: float = number(2.0, "That may be spent.", unit="min", low=0.1, high=_MOST_MINUTES)
    texts: int = number(0, "Documents to look at; 0 takes what fits.", low=0, high=10**7)
    kinds: tuple[str, ...] = KINDS
    has_diagnosis: bool = flag(False, "Examine the teacher, too.")

    def __post_init__(self) -> None:
        kinds: Any = self.kinds  # from Python, whatever was given
        if isinstance(kinds, list):
            object.__setattr__(self, "kinds", tuple(kinds))
        wrong = [f"{name}: {what}" for name, what in self._problems()]
        if wrong:
            raise UsageError(
                "; ".join(wrong),
                f"target=0.95 minutes=2 texts=0 (what fits) kinds={','.join(KINDS)}",
            )
        # 2 and 2.0 minutes are one prediction, whose settings are kept as text
        object.__setattr__(self, "target", float(self.target))
        object.__setattr__(self, "minutes", float(self.minutes))
        object.__setattr__(self, "texts", int(self.texts))

    def _problems(self) -> Iterator[Problem]:
        for declared in fields(self):
            name, value = declared.name, getattr(self, declared.name)
            if name == "kinds":
                what = _wrong_kinds(value)
            elif name == "has_diagnosis":
                what = (
                    "" if isinstance(value, bool) else f"{_shown(value)} is neither true nor false"
                )
            else:
                what = _wrong_number(value, spec_of(declared), is_whole=name == "texts")
            if what:
                yield name, what


def refuse_undiagnosed(asked: PredictSettings, words: Sequence[str]) -> None:
    """Refuse settings (``key=value``) that the teacher's diagnosis alone reads, where none is asked
    for.

    Raises:
        UsageError: naming them.
    """
    if not asked.has_diagnosis:
        keys = [key for key in map(key_of, words) if key in _OF_DIAGNOSIS]
        refuse("predict", [(key, "it needs diagnose=true") for key in keys])


def _wrong_number(value: Any, spec: Spec, *, is_whole: bool) -> str:
    """What is wrong with a value that may be of any type."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return f"{_shown(value)} is no number"
    if isinstance(value, Integral):
        return out_of_range(int(value), spec)
    wrong = out_of_range(float(value), spec)
    return f"{value} is no whole number" if is_whole and not wrong else wrong


def _wrong_kinds(kinds: Any) -> str:
    if not isinstance(kinds, tuple) or not kinds:
        return f"{_shown(kinds)} is no list of kinds of students"
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        return f"{_shown(unknown[0])} is no kind of student"
    return "a kind comes twice" if len(set(kinds)) < len(kinds) else ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
