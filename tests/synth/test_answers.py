"""Answers: what is accepted, and the reason of every refusal."""

# ruff: noqa: RUF001  the texts are Chinese

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from leafkit.config import SYNTH_TASKS, TASKS
from leafkit.synth.answers import RefusedAnswer, normalize, read_instruction, read_row
from leafkit.synth.chat_prompts import (
    LANGUAGE_NAMES,
    TASK_TYPES,
    hash_prompts,
    instruction_messages,
    row_messages,
)

QUERY = "how does the harbour keeper note the weather"
LONG = (
    "The keeper of the harbour wrote down how the weather changed and what it did to the ships "
    "in that year. " * 4
)
OTHER = LONG.replace("harbour", "station")
FRENCH = (
    "Un gardien a noté dans le port que les navires sont au large et que le temps est beau. " * 4
)
POLISH = "Strażnik zapisał, że dla statków nie było to bez znaczenia i że się bał. " * 4
GOOD = {"query": QUERY, "positive": LONG, "negatives": [OTHER]}


def read(row: object, num_negatives: int = 1) -> dict:
    content = row if isinstance(row, str) else json.dumps(row)
    return read_row(content, TASK_TYPES["short_long"], ("en", "en"), num_negatives)


def test_a_good_row() -> None:
    assert read(GOOD | {"extra": 1}) == {
        "query": QUERY,
        "positive": LONG.strip(),
        "negatives": [OTHER.strip()],
    }


@pytest.mark.parametrize(
    "wrap",
    [
        "```json\n{}\n```",
        "```\n{}\n```",
        "Sure:\n```JSON\n{}\n```\nDone.",
        "<think>no {{</think>{}",
    ],
)
def test_fences_and_thoughts_come_off(wrap: str) -> None:
    assert read(wrap.replace("{}", json.dumps(GOOD)).replace("{{", "{"))["query"] == QUERY


def test_a_fence_inside_a_text_is_text() -> None:
    positive = LONG + "```\ncode\n```"
    assert read(GOOD | {"positive": positive})["positive"] == positive


def test_no_negatives_wanted() -> None:
    row = {"query": QUERY, "positive": LONG}
    assert read(row, 0) == {"query": QUERY, "positive": LONG.strip(), "negatives": []}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("", "not JSON"),
        ("null", "not a JSON object"),
        ("[]", "not a JSON object"),
        ("{'query': 1}", "not JSON"),
        ("[" * 100_000, "not JSON"),
        (json.dumps(GOOD)[:-1], "not JSON"),
        ("9" * 5000, "not JSON"),
        ({"positive": LONG, "negatives": [OTHER]}, "'query' is missing or not text"),
        (GOOD | {"query": None}, "'query' is missing or not text"),
        (GOOD | {"query": ["a"]}, "'query' is missing or not text"),
        (GOOD | {"query": " \u3000\n"}, "'query' is empty"),
        (GOOD | {"positive": "\0\0"}, "'positive' is empty"),
        (GOOD | {"positive": "..."}, "'positive' is empty"),
        (GOOD | {"positive": "Too short."}, "'positive' is too short"),
        (GOOD | {"query": "the " * 200}, "'query' is too long"),
        (GOOD | {"negatives": [OTHER * 100]}, "'negatives' is too long"),
        (GOOD | {"negatives": OTHER}, "'negatives' is no list"),
        (GOOD | {"negatives": [None]}, "'negatives' is missing or not text"),
        (GOOD | {"negatives": [{"text": OTHER}]}, "'negatives' is missing or not text"),
        (GOOD | {"negatives": []}, "wrong number of negatives"),
        ({"query": QUERY, "positive": LONG}, "wrong number of negatives"),
        (GOOD | {"negatives": [OTHER, OTHER + "x"]}, "wrong number of negatives"),
        (GOOD | {"negatives": [f"  {LONG.upper()}!"]}, "a negative repeats the positive"),
        (GOOD | {"positive": FRENCH}, "wrong language"),
        (GOOD | {"negatives": [POLISH]}, "wrong language"),
    ],
)
def test_each_refusal_has_its_reason(row: object, reason: str) -> None:
    with pytest.raises(RefusedAnswer) as caught:
        read(row)
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"positive": "The Shop is Closed on Mondays, they say."},
            "the positive repeats the query",
        ),
        (
            {"negatives": ["the shop is closed on mondays, they say", "b" * 20]},
            "a negative repeats the query",
        ),
        (
            {"negatives": ["the shop is shut today, friends", "The shop  is shut today, friends!"]},
            "a negative is repeated",
        ),
    ],
)
def test_texts_of_a_row_are_different(change: dict, reason: str) -> None:
    row = {
        "query": "The shop is closed on Mondays, they say",
        "positive": "On Mondays nobody sells here",
        "negatives": ["a" * 20] * 2,
    }
    with pytest.raises(RefusedAnswer) as caught:
        read_row(json.dumps(row | change), TASK_TYPES["sts"], ("en", "en"), 2)
    assert str(caught.value) == reason


def test_the_languages_of_bitext_are_checked_side_by_side() -> None:
    row = {
        "query": "The shop of the village is not open.",
        "positive": "Le magasin du village est fermé.",
        "negatives": [],
    }
    assert read_row(json.dumps(row), TASK_TYPES["bitext"], ("en", "fr"), 0)["query"] == row["query"]
    with pytest.raises(RefusedAnswer, match="wrong language"):
        read_row(json.dumps(row), TASK_TYPES["bitext"], ("fr", "en"), 0)


def test_chinese_may_be_shorter() -> None:
    text = "港口的看守人每天记下天气的变化，以及这些变化给过往船只带来的影响和麻烦。" * 2
    row = {"query": "港口天气", "positive": text, "negatives": []}
    assert len(text) < TASK_TYPES["short_long"].document.min_chars
    assert read_row(json.dumps(row), TASK_TYPES["short_long"], ("zh", "zh"), 0)["positive"] == text


def test_texts_are_repaired_as_everywhere_else() -> None:
    row = json.dumps(GOOD).replace("harbour keeper", "harbour\\ud800\\u0000keeper")
    assert read(row)["query"] == QUERY.replace("harbour keeper", "harbour? keeper")


def test_instructions() -> None:
    text = "Given a note of the harbour,\n find the report that explains it"
    assert read_instruction(json.dumps({"instruction": text})) == {
        "instruction": " ".join(text.split())
    }
    for bad, reason in (
        ({}, "'instruction' is missing or not text"),
        ({"instruction": "Find it"}, "'instruction' is too short"),
        ({"instruction": "Find the " * 100}, "'instruction' is too long"),
        (
            {"instruction": "Znajdź przepis, który się nie zmienił dla rolników z okolicy"},
            "wrong language",
        ),
    ):
        with pytest.raises(RefusedAnswer) as caught:
            read_instruction(json.dumps(bad))
        assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Ｆｕｌｌ　width!", "full width"),
        ("  A\n b. ", "a b"),
        ("好吗？", "好吗"),
        ("Straße", "STRASSE"),
    ],
)
def test_normalized_texts_are_equal(a: str, b: str) -> None:
    assert normalize(a) == normalize(b)


@pytest.mark.parametrize(("a", "b"), [("C", "C++"), ("été", "ete"), ("1.5", "15"), ("no", "now")])
def test_normalized_texts_stay_different(a: str, b: str) -> None:
    assert normalize(a) != normalize(b)


def test_the_task_types_are_the_schemas() -> None:
    assert tuple(TASK_TYPES) == SYNTH_TASKS
    assert {t.task for t in TASK_TYPES.values()} <= set(TASKS)
    assert all(bool(t.brainstorm) != bool(t.instruction) for t in TASK_TYPES.values())


def test_the_persona_is_in_the_first_step_alone() -> None:
    task = TASK_TYPES["short_long"]
    first = instruction_messages(task, "A cook in Lyon.")
    assert [m["role"] for m in first] == ["system", "user"]
    assert "A cook in Lyon." in first[0]["content"]
    second = row_messages(task, "Find recipes", ("fr", "fr"), 3, key="k", number=0)
    assert [m["role"] for m in second] == ["user"]
    assert "Find recipes" in second[0]["content"]
    assert "exactly 3" in second[0]["content"]
    assert second[0]["content"].count("in French") == 3
    assert all("JSON" in m[-1]["content"] for m in (first, second))  # json_object asks for the word


def test_a_prompt_names_both_languages_of_bitext() -> None:
    prompt = row_messages(
        TASK_TYPES["bitext"], "i", ("pl", "zh"), 1, key="k", number=0, persona="p"
    )[-1]["content"]
    assert f"in {LANGUAGE_NAMES['pl']}" in prompt.splitlines()[3]
    assert f"in {LANGUAGE_NAMES['zh']}" in prompt.splitlines()[4]


@pytest.mark.parametrize("task", ["short_long", "long_long"])
def test_the_rows_of_an_instruction_have_different_prompts(task: str) -> None:
    prompts = [
        row_messages(TASK_TYPES[task], "i", ("en", "en"), 0, key="k", number=i)[0]["content"]
        for i in range(40)
    ]
    assert len(set(prompts)) == 40
    assert '"negatives"' not in prompts[0]
    assert prompts != [
        row_messages(TASK_TYPES[task], "i", ("en", "en"), 0, key="other", number=i)[0]["content"]
        for i in range(40)
    ]


def test_a_changed_prompt_has_another_identity(monkeypatch) -> None:
    before = hash_prompts()
    assert hash_prompts() == before
    monkeypatch.setitem(TASK_TYPES, "sts", replace(TASK_TYPES["sts"], positive="says the opposite"))
    assert hash_prompts() != before
