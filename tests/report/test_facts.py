"""What was measured, in words."""

from __future__ import annotations

from typing import Any

from leafkit.report import facts


def test_verdict_names_share_interval_queries_size_and_speed(data: dict[str, Any]) -> None:
    home, away, size = facts.verdict_sentences(data)
    assert home.startswith(
        "On pydocs (home, 1,109 queries), the student keeps 99.3% [98.1, 100.5] of the teacher's "
        "nDCG@10"
    )
    assert "(asymmetric, within noise of the teacher)" in home
    assert (
        "98.4% [97.0, 99.8] where it embeds queries and documents (symmetric, below the teacher)"
        in home
    )
    assert away.startswith("On pydocs-out-of-domain (away, 402 queries), it keeps 96.3%")
    assert "22.9M parameters, 39% of the teacher's 59.3M" in size
    assert "4.3 times as many queries per second (2 threads, float32, single queries)" in size


def test_speed_is_compared_at_equal_settings_only(data: dict[str, Any]) -> None:
    data["bench"]["latency"][1]["threads"] = 8
    assert facts.speed_up(data) is None
    assert not any("times as many" in sentence for sentence in facts.verdict_sentences(data))


def test_summary_of_inheritance_counts_verdicts(data: dict[str, Any]) -> None:
    assert (
        facts.inherit_summary(data)
        == "Not passed: of 14 settings, 11 inherited, 2 not inherited, 1 undecided."
    )
    data["inherit"] = {"passed": True, "rows": [{"verdict": "inherited"}]}
    assert facts.inherit_summary(data) == "Passed: of 1 settings, 1 inherited."


def test_the_mean_follows_the_collections_and_is_no_collection(full: dict[str, Any]) -> None:
    assert [c["name"] for c in facts.measured(full)] == [
        "pydocs",
        "pydocs-out-of-domain",
        "all collections",
    ]
    assert [c["name"] for c in facts.collections(full)] == ["pydocs", "pydocs-out-of-domain"]
    assert facts.describe(facts.measured(full)[2]) == "all collections (mean of 2 collections)"
    full["bench"]["macro"]["rows"] = []
    assert facts.macro(full) is None


def test_the_brief_result_leaves_out_what_the_mean_holds(full: dict[str, Any]) -> None:
    assert [s.split(",")[0] for s in facts.verdict_sentences(full)] == [
        "On pydocs (home",
        "On pydocs-out-of-domain (away",
        "On all collections (mean of 2 collections)",
        "The student has 22.9M parameters",
    ]
    assert len(facts.verdict_sentences(full, brief=True)) == 3
    del full["bench"]["macro"]
    assert facts.verdict_sentences(full, brief=True) == facts.verdict_sentences(full)


def test_contamination_is_said_also_where_it_is_not_known() -> None:
    line = facts.contamination_line
    assert (
        line({})
        == line({"contamination": None})
        == line({"contamination": "x"})
        == "contamination: not checked"
    )
    assert line({"contamination": {"unknown": "why"}}) == "contamination: unknown (why)"
    assert (
        line({"contamination": {"training_texts": 7}})
        == "contamination: not counted (against 7 training texts)"
    )
    counts = {"total": 1300, "exact": 0, "near": 2}
    assert line({"contamination": {"queries": counts, "documents": counts}}) == (
        "contamination: 0 of 1,300 queries exact, 2 near; 0 of 1,300 documents exact, 2 near"
    )
    assert (
        line({"contamination": {"queries": {}, "documents": {"exact": 1}}})
        == "contamination: 1 of n/a documents exact, n/a near"
    )


def test_notes_name_dropped_documents_where_there_were_any() -> None:
    assert facts.notes_on({"own_documents_dropped": 0}) == ["contamination: not checked"]
    assert (
        facts.notes_on({"own_documents_dropped": 3})[1]
        == "own documents dropped from the rankings: 3"
    )
    remarked = {
        "contamination": {"queries": {"total": 1, "exact": 0, "near": 0}, "notes": ["a remark"]}
    }
    assert facts.notes_on(remarked)[1:] == ["a remark"]
    assert facts.notes_on(remarked, brief=True)[1:] == []


def test_latency_of_an_encoder_without_a_name_belongs_to_nobody(data: dict[str, Any]) -> None:
    data["bench"]["latency"] = [{"p50_ms": 1.0}]
    assert facts.encoder_latency(data, "baseline") == []


def test_a_strict_check_says_so(full: dict[str, Any]) -> None:
    assert facts.inherit_summary(full) == (
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
        assert facts.diagnosis_sentence(full) == f"The teacher kalm-mini {words}, {judged}"
    assert facts.diagnosis_sentence({"diagnosis": {"dim": 3}}) == "The teacher ? was examined."
    assert facts.diagnosis_sentence({}) == ""
