"""What a prediction prints, keeps and reads again."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from finished_runs import figures

from leafkit.core.errors import LeafkitError
from leafkit.report.prediction import render_prediction
from leafkit.results import FinishedRuns, Forecast, Prediction, StudentForecast
from leafkit.results.prediction import (
    DOCUMENTS_ALONE,
    ProbeAt,
    SearchEffort,
    WayForecast,
)

SURE = Forecast(0.93, 0.88, 0.98, "")
STUDENT = StudentForecast(
    kind="last-layer",
    settings="student.kind=instant",
    num_texts=5000,
    probes=(ProbeAt(512, figures(0.6)),),
    expected=replace(figures(0.7), query_overlap=None),
    retention=SURE,
    seconds=61.4,
    texts_needed=8000,
)
PREDICTION = Prediction(
    teacher="vectors:old <b>index</b>",
    corpus="books",
    dim=768,
    num_documents=4000,
    num_corpus=5000,
    num_held_out=300,
    num_queries=400,
    asked_with=DOCUMENTS_ALONE,
    start="builtin:minilm",
    target=0.95,
    students=(
        STUDENT,
        replace(
            STUDENT,
            kind="static",
            retention=Forecast(0.5, 0.2, 0.9, "the neighbors of queries"),
            texts_needed=0,
        ),
    ),
    ways=(
        WayForecast(
            kind="last-layer",
            documents="teacher's",
            dim=768,
            precision="int8",
            figures=figures(0.69),
            retention=SURE,
        ),
    ),
    efforts=(SearchEffort("last-layer", 4000, 0, 0.95, 0.9),),
    num_runs=80,
    corpora=("a", "b"),
    teacher_seconds=600.0,
    seconds=100.0,
    not_predicted=("how people ask",),
)


def test_it_says_what_is_told_and_what_is_not():
    shown = str(PREDICTION)
    assert "93.0% [88.0, 98.0]" in shown
    assert "8,000" in shown
    assert "beyond the probes" in shown
    assert "50.0% [20.0, 90.0] *" in shown
    assert "outside what was ever measured: the neighbors of queries" in shown
    assert "80 finished runs on a, b" in shown
    assert "10 min here" in shown
    assert "more than was asked" in shown
    assert "how people ask" in shown


def test_it_is_read_as_it_was_written(tmp_path):
    PREDICTION.save(tmp_path / "prediction.json")
    assert Prediction.load(tmp_path / "prediction.json") == PREDICTION
    edited = json.loads((tmp_path / "prediction.json").read_text()) | {"dim": 5}
    (tmp_path / "prediction.json").write_text(json.dumps(edited))
    with pytest.raises(LeafkitError, match="edited since"):
        Prediction.load(tmp_path / "prediction.json")


def test_there_is_a_record_of_every_forecast():
    records = PREDICTION.records()
    assert [row["kind"] for row in records] == ["last-layer", "static", "last-layer"]
    assert records[2]["precision"] == "int8"
    assert records[1]["outside"] == "the neighbors of queries"


def test_the_page_escapes_names_and_has_every_table():
    page = render_prediction(PREDICTION)
    assert "<b>index</b>" not in page
    assert "&lt;b&gt;index" in page
    for what in ("93.0%", "[88.0, 98.0]", "HNSW", "Ways to search", "how people ask"):
        assert what in page
    assert "Intervals are 90% prediction intervals." in page
    assert "bootstrap" not in page


@pytest.mark.parametrize("kind", [Prediction, FinishedRuns])
@pytest.mark.parametrize(
    ("number", "says"),
    [
        (1, "it has format 1; this leafkit reads 2"),
        (3, "it has format 3; this leafkit reads 2"),
        ("2", "it has format '2'; this leafkit reads 2"),
        (True, "it has format True; this leafkit reads 2"),
        (None, "it has no format"),
    ],
)
def test_files_of_other_versions_are_refused_by_name(kind, number, says, tmp_path):
    """Neither was ever written in format 1."""
    data = {} if number is None else {"format": number}
    path = tmp_path / "of-another-version.json"
    path.write_text(json.dumps(data | {"students": []}))
    with pytest.raises(LeafkitError, match=re.escape(says)) as refused:
        kind.load(path)
    assert str(path) in str(refused.value)
    assert kind.made_by in refused.value.hint


def test_a_prediction_of_before_samples_were_read_is_still_one():
    plain = PREDICTION.to_json()
    del plain["num_read"], plain["num_rows"]
    assert Prediction.from_json(plain) == PREDICTION


def test_a_drawn_part_is_said():
    text = str(replace(PREDICTION, num_corpus=900_000, num_read=45_000, num_rows=1_000_000))
    assert "Of 1,000,000 rows 45,000 documents were read" in text
    assert "of about 900,000 documents looked at" in text
    assert "were read" not in str(PREDICTION)
