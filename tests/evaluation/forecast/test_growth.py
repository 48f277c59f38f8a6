"""What figures will be of more texts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from finished_runs import figures

from leafkit.evaluation.forecast.growth import FARTHEST, expect_at
from leafkit.results.prediction import ProbeAt


def probes(*points: tuple[int, float]) -> list[ProbeAt]:
    return [ProbeAt(count, figures(value)) for count, value in points]


def test_a_power_law_is_followed():
    told = expect_at(probes((100, 0.2), (200, 0.4), (400, 0.55)), 1600)
    # .8, .6, .45 of what is missing: three quarters with every doubling
    assert told.query_overlap == pytest.approx(1 - 0.45 * 0.75**2, abs=1e-9)


def test_at_the_largest_probe_it_is_what_was_measured():
    found = probes((100, 0.2), (200, 0.41))
    assert expect_at(found, 200) == found[-1].figures
    assert expect_at(found, 150) == found[-1].figures


def test_a_single_probe_and_one_that_falls_do_not_grow():
    assert expect_at(probes((100, 0.3)), 1600).source_gain == 0.3
    assert expect_at(probes((100, 0.4), (200, 0.3)), 1600).source_gain == pytest.approx(0.3)


def test_beyond_the_farthest_nothing_is_added():
    found = probes((100, 0.2), (200, 0.4))
    assert expect_at(found, 10**9) == expect_at(found, FARTHEST * 200)


def test_what_is_not_known_stays_so_and_a_share_above_one_stays_finite():
    found = [
        ProbeAt(count, replace(figures(0.5), query_overlap=None, source_share=share))
        for count, share in ((100, 0.9), (200, 1.01))
    ]
    told = expect_at(found, 1600)
    assert told.query_overlap is None
    assert told.source_share is not None
    assert 1.0 <= told.source_share < 1.1
