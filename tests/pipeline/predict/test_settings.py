"""What a prediction may be asked, from Python as from the command line."""

from __future__ import annotations

import doctest
from typing import Any

import numpy as np
import pytest

from leafkit.core.errors import UsageError
from leafkit.pipeline.predict import settings
from leafkit.pipeline.predict.settings import PredictSettings


def test_doctests():
    assert doctest.testmod(settings).failed == 0


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"target": 0}, "target: 0 is below 0.01"),
        ({"target": -0.5}, "target: -0.5 is below 0.01"),
        ({"target": 1.01}, "target: 1.01 is above 1"),
        ({"target": float("nan")}, "target: nan is not a finite number"),
        ({"target": np.float32("nan")}, "target: nan is not a finite number"),
        ({"target": "0.9"}, "target: '0.9' is no number"),
        ({"target": True}, "target: True is no number"),
        ({"target": None}, "target: None is no number"),
        ({"minutes": 0}, "minutes: 0 is below 0.1"),
        ({"minutes": float("inf")}, "minutes: inf is not a finite number"),
        ({"minutes": 1441}, "minutes: 1441 is above"),
        ({"texts": -1}, "texts: -1 is below 0"),
        ({"texts": 500.5}, "texts: 500.5 is no whole number"),
        ({"texts": float("nan")}, "texts: nan is not a finite number"),
        ({"texts": 10**8}, "texts: 100000000 is above"),
        ({"kinds": ()}, "kinds: () is no list of kinds of students"),
        ({"kinds": "static"}, "kinds: 'static' is no list of kinds of students"),
        ({"kinds": ("static", "huge")}, "kinds: 'huge' is no kind of student"),
        ({"kinds": ("static", "static")}, "kinds: a kind comes twice"),
        ({"has_diagnosis": "yes"}, "has_diagnosis: 'yes' is neither true nor false"),
        ({"target": 2, "texts": -1}, "target: 2 is above 1; texts: -1 is below 0"),
    ],
)
def test_values_that_cannot_be_are_refused(given: dict[str, Any], says: str):
    with pytest.raises(UsageError) as refused:
        PredictSettings(**given)
    assert says in str(refused.value)
    assert "target=0.95" in refused.value.hint


def test_values_that_can_be_are_taken():
    found = PredictSettings(np.float32(0.5), np.int64(3), np.int64(400), ["static"])  # type: ignore[arg-type]
    assert found.kinds == ("static",)
    assert PredictSettings(1, 0.1, 0) == PredictSettings(target=1.0, minutes=0.1)


def test_equal_numbers_are_kept_as_the_same_text():
    """What decides about a prediction is compared as text."""
    told = str(PredictSettings(target=1.0, minutes=2.0, texts=500))
    for kind in (int, np.int64, np.float64):
        given = PredictSettings(target=kind(1), minutes=kind(2), texts=500)
        assert str(given) == told
    assert str(PredictSettings(1, 2, np.int64(500))) == told  # type: ignore[arg-type]
