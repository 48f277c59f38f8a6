"""Malformed recipes by the hundred: each is refused by name, or read as exactly what it says."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import pytest
import yaml
from fuzz_recipes import VALUES, BadRecipe, all_keys, bad_files, bad_values

from leafkit.config import Recipe, to_plain
from leafkit.config.load import load_recipe, to_yaml
from leafkit.core.errors import UsageError

_MAX_MESSAGE = 2000


def _value(recipe: Recipe, key: str) -> object:
    found = to_plain(recipe)
    for part in key.split("."):
        found = found[part]
    return found


def _check(case: BadRecipe, path: Path) -> str:
    """What became of a case; fails where that is neither a refusal by name nor what was written."""
    path.write_bytes(case.content)
    key = case.about.partition("=" if case.overrides else ": ")[0]
    recipe, err = _load(path, case.overrides)
    if recipe is None:
        told = str(err).replace(str(path.parent), "")  # as long as this machine has it
        assert err is not None, case.about
        assert err.hint, case.about
        assert len(told) < _MAX_MESSAGE, (case.about, len(told))
        assert path.name in told or "recipe mine" in told or "base" in told, (case.about, told)
        if case.overrides or case.about.partition(": ")[2] in VALUES:
            section = key.rpartition(".")[0]  # may lack another key
            assert key in told or path.name in told or f" {section}." in told, (case.about, told)
        return "refused"
    if case.overrides or case.about.partition(": ")[2] in VALUES:
        _check_value(recipe, key, case)
    # what only the command line may allow is not read from a file
    if not recipe.allow_hosts:
        assert load_again(recipe, path) == recipe, case.about
    return "read"


def _load(path: Path, overrides: tuple[str, ...]) -> tuple[Recipe, None] | tuple[None, UsageError]:
    try:
        return load_recipe(str(path), overrides), None
    except UsageError as err:
        return None, err


def load_again(recipe: Recipe, path: Path) -> Recipe:
    """What is read from what it is shown as."""
    path.write_text(to_yaml(recipe), encoding="utf-8")
    return load_recipe(str(path))


def _check_value(recipe: Recipe, key: str, case: BadRecipe) -> None:
    """The value that was read is the one that was written."""
    written = (
        case.overrides[0].partition("=")[2]
        if case.overrides
        else VALUES[case.about.partition(": ")[2]]
    )
    known = next(k for k in all_keys() if k.name == key)
    kind = known.kind
    found = _value(recipe, key)
    if kind is str and case.overrides:
        assert found == written, case.about
        return
    expected = yaml.safe_load(written)
    if isinstance(expected, str) and known.is_number:
        expected = float(expected)  # 1e18 is text in YAML 1.1
    wrapped = [expected] if isinstance(found, list) and not isinstance(expected, list) else expected
    # a mapping with nothing in it says nothing
    says_nothing = expected is None and found == _value(Recipe(), key) and isinstance(found, dict)
    assert found == wrapped or says_nothing, (case.about, found)


def _check_all(cases: Iterable[BadRecipe], folder: Path) -> Counter[str]:
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    for case in cases:
        try:
            counts[_check(case, folder / "mine.yaml")] += 1
        except Exception as err:
            wrong.append(f"{case.about}: {type(err).__name__}: {str(err)[:300]}")
    assert not wrong, "\n".join([f"{len(wrong)} wrong, {counts} good", *wrong])
    return counts


@pytest.fixture
def sound(tmp_path: Path) -> bytes:
    """A recipe that is read."""
    return to_yaml(load_recipe("kalm-to-23m")).encode()


@pytest.mark.slow
def test_some_values_and_files(tmp_path: Path, sound: bytes) -> None:
    counts = _check_all(islice(bad_values(seed=1), 40), tmp_path)
    counts += _check_all(bad_files(sound, 50), tmp_path)
    assert counts["refused"] > 60
    assert counts["read"] > 3


@pytest.mark.slow
def test_every_key_with_every_value_and_many_files(tmp_path: Path, sound: bytes) -> None:
    values = _check_all(islice(bad_values(), 900), tmp_path)
    files = _check_all(bad_files(sound, 200, seed=2), tmp_path)
    logging.getLogger(__name__).warning("values: %s; files: %s", dict(values), dict(files))
    assert values.total() + files.total() == 1100
    assert values["refused"] > values["read"] > 20


NUMBERS = [key for key in all_keys() if key.is_number]


def test_every_number_has_two_bounds_and_one_word_beyond_is_refused() -> None:
    beyond: list[tuple[str, str]] = []
    for key in NUMBERS:
        spec, is_int = key.spec, "int" in str(key.kind)
        low = spec.low if spec.low is not None else spec.above
        assert low is not None, key.name
        assert spec.high is not None, key.name
        step = 1 if is_int else 1e-3
        values = [spec.high + step * max(1, spec.high * 1e-3), low - step]
        values += [] if spec.above is None else [spec.above]
        entry = f".{spec.choices[0]}" if "dict" in str(key.kind) else ""
        beyond += [(f"{key.name}{entry}", str(int(v) if is_int else v)) for v in values]
    assert len(beyond) > 200
    for start in range(0, len(beyond), 20):  # a message shows 30 mistakes
        for part in (beyond[start : start + 20 : 3], beyond[start + 1 : start + 20 : 3],
                     beyond[start + 2 : start + 20 : 3]):  # fmt: skip
            with pytest.raises(UsageError) as caught:
                load_recipe("measure", [f"{key}={value}" for key, value in part])
            told = str(caught.value)
            assert [key for key, _ in part if f": {key}: " not in told] == []
