"""``benchmarks/growth.py``: the fitted exponent, and a plot that stands on its own."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import growth


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_the_exponent_is_that_of_the_power(power):
    assert growth.exponent([1, 10, 100], [3 * x**power for x in (1, 10, 100)]) == pytest.approx(
        power
    )


def test_the_plot_is_one_self_contained_file():
    drawn = growth.draw(
        {
            "texts": {"embedding": [(1e4, 1.0), (1e5, 11.0)]},
            "length": {"LEAF step": [(16, 0.02), (512, 0.9)]},
        }
    )
    root = ElementTree.fromstring(drawn)
    assert root.tag.endswith("svg")
    assert len(root.findall(".//{*}polyline")) == 2
    assert "href" not in drawn
