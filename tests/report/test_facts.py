"""What was measured, in words."""

from __future__ import annotations

from typing import Any

from report_page import read_report

from leafkit.report import facts
from leafkit.results import Contamination, Overlap


def test_verdict_names_share_interval_queries_size_and_speed(data: dict[str, Any]) -> None:
    home, away, size = facts.verdict_sentences(read_report(data))
    assert home.startswith(
        "On pydocs (in-domain, 1,109 queries), the student keeps 99.3% [98.1, 100.5] of the "
        "teacher's nDCG@10"
    )
    assert "(asymmetric, within noise of the teacher)" in home
    assert (
        "98.4% [97.0, 99.8] where it embeds queries and documents (symmetric, below the teacher)"
        in home
    )
    assert away.startswith("On pydocs-out-of-domain (out-of-domain, 402 queries), it keeps 96.3%")
    assert "22.9M parameters, 39% of the teacher's 59.3M" in size
    assert "4.3 times as many queries per second (2 threads, float32, single queries)" in size


def test_speed_is_compared_at_equal_settings_only(data: dict[str, Any]) -> None:
    data["bench"]["latency"][1]["threads"] = 8
    assert facts.speed_up(read_report(data)) is None
    assert not any(
        "times as many" in sentence for sentence in facts.verdict_sentences(read_report(data))
    )


def test_summary_of_inheritance_counts_verdicts(data: dict[str, Any]) -> None:
    assert (
        facts.inherit_summary(read_report(data))
        == "Not passed: of 14 settings, 11 inherited, 2 not inherited, 1 undecided."
    )
    data["inherit"]["rows"] = data["inherit"]["rows"][:1]
    assert facts.inherit_summary(read_report(data)) == "Passed: of 1 setting, 1 inherited."


def test_the_mean_follows_the_collections_and_is_no_collection(full: dict[str, Any]) -> None:
    parts = facts.scored(read_report(full))
    assert [part.name for part in parts] == ["pydocs", "pydocs-out-of-domain", "all collections"]
    assert [part.collection is None for part in parts] == [False, False, True]
    assert parts[2].title == "all collections (mean of 2 collections)"
    full["bench"]["macro"]["rows"] = []
    assert len(facts.scored(read_report(full))) == 2


def test_the_brief_result_leaves_out_what_the_mean_holds(full: dict[str, Any]) -> None:
    assert [s.split(",")[0] for s in facts.verdict_sentences(read_report(full))] == [
        "On pydocs (in-domain",
        "On pydocs-out-of-domain (out-of-domain",
        "On all collections (mean of 2 collections)",
        "The student has 22.9M parameters",
    ]
    assert len(facts.verdict_sentences(read_report(full), brief=True)) == 3
    del full["bench"]["macro"]
    assert facts.verdict_sentences(read_report(full), brief=True) == facts.verdict_sentences(
        read_report(full)
    )


def test_contamination_is_said_also_where_it_is_not_known() -> None:
    line = facts.contamination_line
    assert line(None) == "contamination: not checked"
    assert line(Contamination(unknown="why")) == "contamination: unknown (why)"
    assert (
        line(Contamination(training_texts=7))
        == "contamination: not counted (against 7 training texts)"
    )
    counts = Overlap(total=1300, exact=0, near=2)
    assert line(Contamination(queries=counts, documents=counts)) == (
        "contamination: 0 of 1,300 queries exact, 2 near; 0 of 1,300 documents exact, 2 near"
    )


def test_notes_name_dropped_documents_where_there_were_any(full: dict[str, Any]) -> None:
    home, away, mean = facts.scored(read_report(full))
    assert facts.notes_on(home)[1:] == [
        "home's documents train the student by design",
        "own documents dropped from the rankings: 1,109",
    ]
    assert len(facts.notes_on(home, brief=True)) == 2
    assert facts.notes_on(away) == [
        "contamination: unknown (the training texts of minilm are not known)"
    ]
    assert facts.notes_on(mean)[0].startswith("every collection counts the same")


def test_a_strict_check_says_so(full: dict[str, Any]) -> None:
    assert facts.inherit_summary(read_report(full)) == (
        "Not passed: of 78 settings, 65 inherited, 1 not inherited, 12 undecided. Undecided "
        "settings fail too."
    )


def test_the_teacher_is_judged_in_a_sentence(full: dict[str, Any]) -> None:
    judged = "judged on its vectors of 13,379 texts of pydocs and 1,109 queries."
    for verdict, words in {
        "with losses": "can be inherited from with losses",
        "cannot be inherited": "cannot be inherited from",
    }.items():
        full["diagnosis"]["verdict"] = verdict
        assert (
            facts.diagnosis_sentence(read_report(full))
            == f"The teacher kalm-mini {words}, {judged}"
        )
    del full["diagnosis"]
    assert facts.diagnosis_sentence(read_report(full)) == ""
