"""How the student was made, in words that its settings bear out."""

from __future__ import annotations

from typing import Any

import pytest
from report_page import read_report

from leafkit.report import provenance

CHECKS = {
    "texts": "queries",
    "num_texts": 200,
    "ridge": 0.01,
    "fitted_to": "documents",
    "start_cosine": 0.7731,
    "start_overlap": 0.692,
    "cosine": 0.8155,
    "overlap": 0.724,
    "kept_after": 208,
    "num_batches": 260,
}


@pytest.mark.parametrize(
    ("student", "words", "others"),
    [
        ({}, ["Minimised was the squared distance"], ["divergence", "Nothing was trained"]),
        (
            {"kind": "transformer", "losses": {"l2": 0.0, "score_kl": 1.0}},
            ["Minimised was the divergence"],
            ["squared distance"],
        ),
        (
            {"kind": "transformer", "losses": {"l2": 1.0, "cosine": 0.0, "score_kl": 2.0}},
            ["squared distance", " and the divergence", "(2)"],
            ["1 minus the cosine"],
        ),
        (
            {
                "kind": "transformer",
                "losses": {"l2": 1, "score_kl": 2, "begin": {"score_kl": 0.25}, "end": {"l2": 0.5}},
            },
            ["2509.12539) (until 50% of the steps)", "(2, from 25% of the steps on)"],
            ["(1"],
        ),
        ({"kind": "instant", "losses": {"l2": 1.0}}, ["Nothing was trained"], ["Minimised"]),
        ({"kind": "static"}, ["A table of one vector per token"], ["closed form"]),
    ],
)
def test_the_loss_is_the_one_that_was_trained_on(
    data: dict[str, Any], student, words, others
) -> None:
    data["recipe"]["student"] = student
    told = provenance.training_in_words(read_report(data))
    assert all(word in told for word in words)
    assert not any(word in told for word in others)


@pytest.mark.parametrize(
    ("changes", "end"),
    [
        ({}, "the student kept, after 208 of 260 batches, has 0.816 and finds 72.4%."),
        ({"kept_after": 0}, "training found no more, and the start was kept."),
        ({"kept_after": 0, "num_batches": 0}, "there was no training."),
    ],
)
def test_start_and_end_on_held_out_texts(data: dict[str, Any], changes, end) -> None:
    data["checks"] = CHECKS | changes
    told = provenance.checks_in_words(read_report(data))
    assert told.startswith(
        "On 200 queries that trained nothing, the closed-form start (ridge 0.01, fitted to "
        "documents) has cosine 0.773 to the teacher and finds 69.2% of its ten nearest documents; "
    )
    assert told.endswith(end)


def test_a_table_starts_as_its_own(data: dict[str, Any]) -> None:
    data["checks"] = CHECKS | {"fitted_to": "", "begun_as": "the table of its start"}
    assert provenance.checks_in_words(read_report(data)).startswith(
        "On 200 queries that trained nothing, the table of its start has cosine 0.773 to the"
    )


def test_steps_on_scores_are_part_of_the_start(data: dict[str, Any]) -> None:
    data["checks"] = CHECKS | {"head_steps": 300, "kept_after": 0, "num_batches": 0}
    data["recipe"]["student"] = {"kind": "instant"}
    report = read_report(data)
    assert "(ridge 0.01, fitted to documents, then 300 steps on scores) has cosine 0.773" in (
        provenance.checks_in_words(report)
    )
    assert provenance.training_in_words(report).startswith(
        "No other layer was trained: the last layer was set in closed form (ridge regression onto "
        "the teacher's vectors) and moved 300 steps towards the teacher's scores"
    )


def test_without_held_out_texts_nothing_is_said(data: dict[str, Any]) -> None:
    assert provenance.checks_in_words(read_report(data)) == ""
