"""Every key says what it means and what it may be; the same calls that say so are checked."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass

import pytest

from leafkit import config
from leafkit.config.fields import (
    Spec,
    allowed,
    choice,
    number,
    numbers,
    section,
    shares,
    spec_of,
    texts,
)
from leafkit.config.validate import check_section

SECTIONS = sorted(
    (kind for kind in vars(config).values() if isinstance(kind, type) and is_dataclass(kind)),
    key=lambda kind: kind.__name__,
)
KEYS = [(kind, f.name) for kind in SECTIONS for f in fields(kind)]


def _spec(kind: type, name: str) -> Spec:
    return spec_of(next(f for f in fields(kind) if f.name == name))


def _is_number(hint: object) -> bool:
    return hint in {int, float, list[int], list[float], dict[str, float]}


@pytest.mark.parametrize(("kind", "name"), KEYS, ids=[f"{k.__name__}.{n}" for k, n in KEYS])
def test_every_key_has_a_sentence_and_every_number_its_bounds(kind: type, name: str) -> None:
    spec, hint = _spec(kind, name), typing.get_type_hints(kind)[name]
    assert spec.doc.endswith((".", '"', "...")), spec.doc
    assert spec.doc[0].isalnum() or spec.doc[0] in "'\""
    if _is_number(hint):
        assert (spec.low is None) != (spec.above is None)
        assert spec.high is not None
        assert spec.high > (spec.low if spec.low is not None else spec.above or 0.0)
    else:
        assert spec.low is spec.above is spec.high is None


@pytest.mark.parametrize(("kind", "name"), KEYS, ids=[f"{k.__name__}.{n}" for k, n in KEYS])
def test_a_number_beyond_its_bound_is_refused(kind: type, name: str) -> None:
    spec, hint = _spec(kind, name), typing.get_type_hints(kind)[name]
    if spec.high is None:
        return
    most = int(spec.high) if "int" in str(hint) else float(spec.high)
    value: typing.Any = {int: most + 1, float: most * 2}.get(hint)
    if value is None:
        value = {spec.choices[0]: most * 2} if "dict" in str(hint) else [most * 2]
    broken = kind(**{name: value})
    found = [key for key, _ in check_section(broken)]
    assert [key.partition(".")[0] for key in found] == [name]
    assert [key for key, _ in check_section(kind())] == []


@dataclass(frozen=True)
class Inner:
    width: int = number(2, "A width.", above=0, high=8)


@dataclass(frozen=True)
class Outer:
    share: float = number(0.5, "A share.", low=0, high=1)
    kind: str = choice("a", "A kind.", ("a", "b"))
    dims: list[int] = numbers([4, 2], "Falling.", low=1, high=9, order="falling", least_items=1)
    names: list[str] = texts(["x"], "Names.", choices=("x", "y"))
    gap: dict[str, float] = shares({"x": 0.1}, "Gaps.", choices=("x", "y"))
    inner: Inner = section(Inner, "Its own keys.")
    many: dict[str, Inner] = section(dict, "By name.")


@pytest.mark.parametrize(
    ("outer", "problems"),
    [
        (Outer(), []),
        (Outer(share=1.5), [("share", "1.5 is not between 0 and 1")]),
        (Outer(share=float("nan")), [("share", "nan is not a finite number")]),
        (Outer(kind="c"), [("kind", "'c' is not one of a, b")]),
        (Outer(dims=[2, 4]), [("dims", "[2, 4] is not a falling list")]),
        (Outer(dims=[2, 2]), [("dims", "[2, 2] is not a falling list")]),
        (Outer(dims=[]), [("dims", "is empty: name some")]),
        (Outer(dims=[10, 0]), [("dims", "10 is above 9"), ("dims", "0 is below 1")]),
        (Outer(names=["z", "x", "z"]), [("names", "'z' is not one of x, y")]),
        (
            Outer(gap={"z": 2.0}),
            [("gap.z", "'z' is not one of x, y"), ("gap.z", "2.0 is not between 0 and 1")],
        ),
        (Outer(inner=Inner(0)), [("inner.width", "0 is not above 0")]),
        (Outer(many={"m": Inner(9)}), [("many.m.width", "9 is above 8")]),
    ],
)
def test_the_walker(outer: Outer, problems: list[tuple[str, str]]) -> None:
    assert list(check_section(outer)) == problems


def test_a_default_list_is_not_shared() -> None:
    Outer().dims.append(1)
    assert Outer().dims == [4, 2]


def _bounds() -> Iterator[tuple[Spec, str]]:
    yield _spec(Outer, "share"), "at least 0, at most 1"
    yield _spec(Outer, "kind"), "one of a, b"
    yield _spec(Outer, "dims"), "at least 1, at most 9, falling, 1 or more"
    yield _spec(Outer, "gap"), "at least 0, at most 1"
    yield _spec(Outer, "inner"), ""
    yield Spec("", low=0, high=10**6), "at least 0, at most 1_000_000"


def test_bounds_in_words() -> None:
    for spec, words in _bounds():
        assert allowed(spec) == words
