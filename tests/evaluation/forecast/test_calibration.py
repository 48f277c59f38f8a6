"""The regression on finished runs, on runs of known arithmetic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from finished_runs import GAIN, figures, make_run, make_runs

from leafkit.core.errors import LeafkitError
from leafkit.evaluation.forecast import calibration
from leafkit.evaluation.forecast.calibration import CEILING, FEATURES, calibrate, shipped_runs
from leafkit.results.prediction import DOCUMENTS_ALONE, GIVEN_QUERIES, MADE_QUERIES, TRAINED


@pytest.mark.parametrize("asked_with", FEATURES)
def test_the_law_of_the_runs_is_found(asked_with):
    found = calibrate(make_runs(), asked_with)
    for overlap in (0.35, 0.55, 0.75):
        told = found.forecast(figures(overlap))
        assert told.value == pytest.approx(overlap**0.5, abs=0.02)
        assert told.low < told.value < told.high
        assert told.outside == ""


def test_what_took_steps_is_told_apart():
    found = calibrate(make_runs(), GIVEN_QUERIES)
    plain, trained = (found.forecast(figures(0.6), is_trained=is_it) for is_it in (False, True))
    assert trained.value / plain.value == pytest.approx(GAIN, abs=0.03)


def test_without_runs_that_took_steps_nothing_is_said_of_them():
    found = calibrate(make_runs(is_trained=False), GIVEN_QUERIES)
    assert not found.has_trained
    with pytest.raises(ValueError, match="no finished run was trained"):
        found.forecast(figures(0.6), is_trained=True)


def test_the_interval_is_as_wide_as_corpora_differ():
    apart = [replace(run, corpus=f"{run.corpus}'") for run in make_runs()]
    apart = [
        replace(run, outcome=replace(run.outcome, value=run.outcome.value * 1.3)) for run in apart
    ]
    same, mixed = (
        calibrate(make_runs(), GIVEN_QUERIES),
        calibrate([*make_runs(), *apart], GIVEN_QUERIES),
    )
    narrow, wide = same.forecast(figures(0.5)), mixed.forecast(figures(0.5))
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    # 1.3 times apart, the one half must lie within the interval of the other
    assert wide.low < 0.5**0.5 < 1.3 * 0.5**0.5 < wide.high


def test_beyond_the_runs_it_says_so_and_is_less_sure():
    found = calibrate(make_runs(), MADE_QUERIES)
    inside, outside = found.forecast(figures(0.3)), found.forecast(figures(0.1))
    assert "neighbors of queries" in outside.outside
    assert "*" in str(outside)
    assert "*" not in str(inside)
    assert outside.high / outside.low > inside.high / inside.low
    only_one = replace(figures(0.5), query_overlap=0.95)
    assert found.forecast(only_one).outside == "the neighbors of queries"


def test_more_texts_from_the_probes_than_any_run_had_are_told_as_outside():
    """Students of the shipped table were fitted to at most three times the texts of the probe."""
    found, asked = (
        calibrate(shipped_runs(), MADE_QUERIES),
        replace(figures(0.5), document_cosine=0.8),
    )
    known = found.forecast(asked)
    for growth in (0.5, 2.0, 3.0):
        assert found.forecast(asked, growth=growth) == known
    far = found.forecast(asked, growth=16)
    assert far.outside == "16.0 times the texts of the largest probe (finished runs: 3.0)"
    assert "*" in str(far)
    assert (far.value, far.low, far.high) == (known.value, known.low, known.high)
    # the trained ones were made of all texts
    assert not found.forecast(asked, growth=16, is_trained=True).outside
    assert found.forecast(asked, growth=40, is_trained=True).outside
    both = found.forecast(figures(0.05), growth=16).outside
    assert "the neighbors of queries" in both
    assert "16.0 times" in both


def test_runs_of_one_corpus_are_none():
    with pytest.raises(LeafkitError, match="of 1 corpora"):
        calibrate([run for run in make_runs() if run.corpus == "a"], GIVEN_QUERIES)


def test_a_figure_that_is_not_known_is_not_guessed():
    found = calibrate(make_runs(), MADE_QUERIES)
    with pytest.raises(ValueError, match="query_overlap is not known"):
        found.forecast(replace(figures(0.5), query_overlap=None))
    assert calibrate(make_runs(), DOCUMENTS_ALONE).forecast(
        replace(figures(0.5), source_share=None, query_overlap=None, query_cosine=None)
    )


def test_a_corpus_of_many_runs_counts_as_one_of_few():
    few = make_runs(is_trained=False)
    twice = [*few, *(run for run in few if run.corpus == "c")]
    a, b = (calibrate(runs, GIVEN_QUERIES).forecast(figures(0.5)) for runs in (few, twice))
    assert a.value == pytest.approx(b.value, abs=2e-3)


def test_a_run_that_kept_nothing_does_not_break_the_logarithm():
    found = calibrate([*make_runs(), make_run("d", 0.0, 0.0)], GIVEN_QUERIES)
    assert np.isfinite(found.forecast(figures(0.0)).high)


def test_no_interval_leaves_what_a_share_can_be():
    apart = [*make_runs(), make_run("d", 0.5, 0.05), make_run("d", 0.6, 1.1)]
    found = calibrate(apart, GIVEN_QUERIES)
    for overlap in (0.0, 0.5, 1.0):
        told = found.forecast(figures(overlap))
        assert 0 <= told.low <= told.value <= told.high <= CEILING


@pytest.mark.parametrize("is_trained", [False, True])
@pytest.mark.parametrize("asked_with", FEATURES)
def test_a_student_that_finds_all_that_its_teacher_finds_keeps_all(asked_with, is_trained):
    """Beyond the table's figures the slope went on to 125%."""
    found, told = calibrate(shipped_runs(), asked_with), []
    for overlap, cosine in ((0.5, 0.85), (0.6, 0.9), (0.68, 0.92), (0.95, 0.97), (1.0, 1.0)):
        asked = replace(figures(overlap), document_cosine=cosine)
        told.append(found.forecast(asked, is_trained=is_trained))
    assert told[-1].value == 1.0
    assert told[-1].low < 1 < told[-1].high
    assert told[-1].outside
    values = [one.value for one in told]
    assert values == sorted(values)
    assert values[0] < values[1] < 1
    # and its interval is wider than that of a student within the table
    assert told[-1].high - told[-1].low > told[1].high - told[1].low


@pytest.mark.parametrize("asked_with", FEATURES)
def test_within_the_shipped_table_corpora_left_out_are_told_as_without_the_bound(
    asked_with, monkeypatch
):
    runs, told = shipped_runs(), []
    for bound in (calibration.WHOLE, np.inf):
        monkeypatch.setattr(calibration, "WHOLE", bound)
        told.append([])
        for corpus in dict.fromkeys(run.corpus for run in runs):
            found = calibrate([run for run in runs if run.corpus != corpus], asked_with)
            for run in runs:
                values = calibration.figures_of(run.probe, found.features)
                is_within = bool(((found.low <= values) & (values <= found.high)).all())
                if run.corpus == corpus and is_within:
                    told[-1].append(found.forecast(run.probe, is_trained=run.kind == TRAINED))
    assert len(told[0]) > 100
    assert told[0] == told[1]


@pytest.mark.parametrize("asked_with", FEATURES)
def test_each_corpus_of_the_shipped_table_is_foretold_by_the_others(asked_with):
    runs = shipped_runs()
    assert max(run.outcome.value for run in runs) < CEILING
    off, widths = [], []
    for corpus in dict.fromkeys(run.corpus for run in runs):
        found = calibrate([run for run in runs if run.corpus != corpus], asked_with)
        own = [run for run in runs if run.corpus == corpus]
        told = [found.forecast(run.probe, is_trained=run.kind == TRAINED) for run in own]
        within = [t.low <= r.outcome.value <= t.high for t, r in zip(told, own, strict=True)]
        assert np.mean(within) >= 0.85, corpus
        off += [abs(t.value - r.outcome.value) for t, r in zip(told, own, strict=True)]
        widths += [t.high - t.low for t in told]
    # as docs/predict.md says: 5.1 and 4.5 points, 60 and 72 wide
    assert np.median(off) < 0.055
    assert np.median(widths) < 0.75
