"""What a certificate says, and how many queries it asks for."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from leafkit.core.errors import LeafkitError
from leafkit.report.certificate import render_certificate
from leafkit.results import Certificate, CutTexts, Interval, RescuedSystem
from leafkit.results.certificate import LINEAR_MAP, RESCUED, queries_needed


def interval(value: float) -> Interval:
    return Interval(value, value - 0.05, value + 0.05, 100)


CUT = CutTexts(
    model="student",
    texts="texts trained as documents",
    limit=512,
    num_texts=1000,
    num_cut=100,
    num_tokens=90_000,
    num_read=80_000,
)
CERTIFICATE = Certificate(
    source="vectors:old <b>index</b>",
    space="abc",
    dim=768,
    num_documents=1000,
    num_held_out=50,
    num_queries=50,
    depth=10,
    training="held out of training",
    systems=(
        RescuedSystem(RESCUED, interval(0.8), interval(0.7), interval(0.6), interval(0.9)),
        RescuedSystem(LINEAR_MAP, interval(0.7), interval(0.6), interval(0.5), interval(0.8)),
        RescuedSystem("BM25", None, interval(0.3), interval(0.4), interval(0.95)),
    ),
    gain_over_linear=Interval(0.1, 0.05, 0.15, 50),
    cuts=(CUT,),
    num_logged=625,
    num_labelled=400,
)


@pytest.mark.parametrize(
    ("half", "n", "needed"),
    [(0.02, 100, 100), (0.04, 100, 400), (0.03, 200, 450), (0.0, 100, 30), (0.001, 100, 30)],
)
def test_the_half_width_falls_with_the_root_of_the_number_of_queries(half, n, needed):
    assert queries_needed(Interval(0.5, 0.5 - half, 0.5 + half, n)) == needed


def test_an_interval_of_an_unknown_number_of_queries_gives_none():
    with pytest.raises(ValueError, match="unknown number"):
        queries_needed(Interval(0.5, 0.4, 0.6))


def test_it_is_read_as_it_was_written(tmp_path):
    CERTIFICATE.save(tmp_path / "certificate.json")
    assert Certificate.load(tmp_path / "certificate.json") == CERTIFICATE
    data = json.loads((tmp_path / "certificate.json").read_text())
    assert any("prompt" in what for what in data["not_promised"])


def test_a_promise_that_is_taken_out_of_the_file_is_noticed(tmp_path):
    path = tmp_path / "certificate.json"
    CERTIFICATE.save(path)
    data = json.loads(path.read_text())
    del data["seal"]
    data["not_promised"] = []
    path.write_text(json.dumps(data))
    with pytest.raises(LeafkitError, match="not_promised"):
        Certificate.load(path)


def test_its_tables_hold_the_figures_what_was_cut_and_what_is_not_promised():
    shown = str(CERTIFICATE)
    assert "60.0% [55.0, 65.0]" in shown  # the rescued student's neighbors by made queries
    assert "+0.100 [+0.050, +0.150]" in shown
    assert "10.0% of them are cut" in shown
    assert "11.1% of their tokens are not read" in shown
    assert "625" in shown
    assert all(what in shown for what in CERTIFICATE.not_promised)
    cells = CERTIFICATE.tables()[0].rows
    assert [row[0] for row in cells] == [RESCUED, LINEAR_MAP, "BM25"]
    assert cells[2][1] == ""  # BM25 has no vectors


def test_a_record_per_figure_and_none_for_what_is_not_there():
    records = CERTIFICATE.records()
    assert len(records) == 4 + 4 + 3
    assert {"system": "BM25", "metric": "document cosine"}.items() not in [
        r.items() for r in records
    ]
    assert records[0]["value"] == 0.8


def test_the_page_has_no_script_and_escapes_what_is_not_ours():
    page = render_certificate(CERTIFICATE)
    assert "<script" not in page
    assert "<b>index" not in page
    assert "old &lt;b&gt;index" in page
    assert "http://" not in page
    assert "https://" not in page
    assert "+0.100" in page
    without = render_certificate(replace(CERTIFICATE, cuts=()))
    assert "are cut" not in without
