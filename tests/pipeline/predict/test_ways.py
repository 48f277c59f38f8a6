"""Other ways to search, and the texts that a target needs, on vectors made for it."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from finished_runs import figures, make_runs

from leafkit.config import IndexConfig, InheritConfig, StudentConfig
from leafkit.evaluation.forecast.calibration import calibrate, shipped_runs
from leafkit.evaluation.forecast.growth import FARTHEST
from leafkit.evaluation.forecast.yardstick import Yardstick, unit
from leafkit.pipeline.predict.forecasts import (
    Probed,
    find_best,
    find_texts,
    forecast_student,
    forecast_trained,
)
from leafkit.pipeline.predict.sample import Sample
from leafkit.pipeline.predict.student_words import StudentWords
from leafkit.pipeline.predict.ways import (
    find_efforts,
    measure_symmetric,
    measure_ways,
    ratios_of,
    scale_figures,
)
from leafkit.results import Forecast, StudentForecast
from leafkit.results.prediction import GIVEN_QUERIES, MADE_QUERIES, ProbeAt


@pytest.fixture(scope="module")
def documents() -> np.ndarray:
    chooser = np.random.default_rng(0)
    # of falling size, so that first dimensions hold most
    return unit(chooser.normal(size=(240, 32)) * np.linspace(2, 0.2, 32))


@pytest.fixture(scope="module")
def sample(documents) -> Sample:
    held_out = np.arange(40)
    queries = unit(documents[:40] + 0.05)
    yardstick = Yardstick(documents, held_out, held_out, queries)
    texts = [f"text {i}" for i in range(len(documents))]
    return Sample(texts, np.arange(40, 240), held_out, texts[:40], MADE_QUERIES, yardstick)


def test_dimensions_and_precisions_lose_what_they_leave_out(sample, documents):
    asked = (documents[:40], sample.yardstick.queries)
    ways = [(32, "float32"), (32, "int8"), (32, "binary"), (16, "float32"), (4, "float32")]
    found = {
        (way.dim, way.precision): told
        for way, told in measure_ways(
            sample.yardstick, *asked, ways, config=InheritConfig(), seed=1
        )
    }
    whole = sample.yardstick.measure(*asked)
    assert found[32, "float32"] == whole
    assert whole.query_overlap == 1.0
    assert 0.9 < found[32, "int8"].query_overlap <= 1.0
    assert found[32, "binary"].query_overlap < found[32, "int8"].query_overlap
    assert found[4, "float32"].query_overlap < found[16, "float32"].query_overlap < 1.0


def test_a_student_that_is_its_teacher_loses_nothing_over_its_own_documents(sample, documents):
    unfitted = np.arange(100, 240)
    vectors = (documents[:40], sample.yardstick.queries, documents[unfitted])
    found = measure_symmetric(sample, unfitted, vectors)
    assert all(getattr(found, field.name) == pytest.approx(1) for field in fields(found))


def test_a_student_whose_documents_are_noise_loses_it_there(sample, documents):
    unfitted = np.arange(100, 240)
    noise = unit(np.random.default_rng(1).normal(size=(len(unfitted), 32)))
    vectors = (documents[:40], sample.yardstick.queries, noise)
    assert measure_symmetric(sample, unfitted, vectors).query_overlap < 0.5


def test_ratios_scale_figure_by_figure():
    half = ratios_of(figures(0.3), figures(0.6))
    assert scale_figures(figures(0.8), half) == figures(0.4)
    assert ratios_of(figures(0.3), figures(0.0)) == figures(1.0)


def test_the_smallest_ef_that_finds_enough_is_told(sample, documents):
    queries = {"teacher": sample.yardstick.queries}
    (told,) = find_efforts(documents, queries, IndexConfig(ef_search=[10, 64]), 1)
    assert told.ef in (10, 64)
    assert told.found >= told.recall
    (never,) = find_efforts(
        np.repeat(documents, 8, axis=0), queries, IndexConfig(ef_search=[1], hnsw_links=2), 1
    )
    assert never.ef == 0
    assert never.found < never.recall


def test_of_students_at_100_percent_the_nearest_to_its_teacher_is_the_best():
    def student(value: float, overlap: float) -> StudentForecast:
        told = Forecast(value, 0.5, 1.2, "")
        return StudentForecast("a", "", 100, (), figures(overlap), told, 1.0, 0)

    assert find_best([student(1.0, 0.8), student(1.0, 0.97), student(1.0, 0.9)]) == 1
    assert find_best([student(0.9, 0.6), student(0.8, 0.97)]) == 0


@pytest.mark.parametrize(("num_texts", "is_marked"), [(300, False), (1500, False), (8192, True)])
def test_probes_of_512_are_not_said_to_know_8192(num_texts, is_marked):
    probes = tuple(
        ProbeAt(n, replace(figures(f), document_cosine=0.8)) for n, f in ((256, 0.4), (512, 0.45))
    )
    nothing: Any = None
    probed = Probed("last-layer", probes, *[nothing] * 2, 1.0, *[nothing] * 2)
    about = (calibrate(shipped_runs(), MADE_QUERIES), num_texts, 0.9)
    words = StudentWords(StudentConfig())
    told = forecast_student(probed, *about, words=words).retention
    assert ("times the texts of the largest probe" in told.outside) == is_marked
    assert ("*" in str(told)) == is_marked
    # those that were trained were made of up to 24 times as many
    assert not forecast_trained(probed, *about, words=words).retention.outside


def test_the_texts_for_a_target_lie_on_the_law():
    calibration = calibrate(make_runs(), GIVEN_QUERIES)
    probes = [ProbeAt(100, figures(0.3)), ProbeAt(200, figures(0.475))]  # three quarters missing
    # a share of .9 needs overlap .81, at which .19 is missing: .525 * .75^3.53
    assert find_texts(probes, calibration, 0.9) == pytest.approx(200 * 2**3.53, rel=0.35)
    assert find_texts(probes, calibration, 0.4) == 100
    assert find_texts(probes, calibration, 1.5) == 0
    # no growth is counted beyond four doublings, of which .834 is the overlap
    assert FARTHEST == 16
    most = calibration.forecast(figures(1 - 0.525 * 0.75**4)).value
    assert find_texts(probes, calibration, most - 0.01) > 200
    assert find_texts(probes, calibration, most + 0.01) == 0
