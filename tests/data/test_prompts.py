"""Prompts: the published templates byte by byte, examples in front of them, and which texts they
stand before.
"""

from __future__ import annotations

import pytest

from leafkit.config import LABEL_TASKS, TASKS, StageConfig
from leafkit.core.errors import UsageError
from leafkit.data.prompts import (
    GEMMA_TEMPLATE,
    KALM_TEMPLATE,
    SYMMETRIC_TASKS,
    Example,
    check_room,
    find_prompt,
    is_symmetric,
    make_prompt,
    takes_in_batch_negatives,
)

INSTRUCTION = "Given a query, retrieve documents that answer the query."


def test_kalm_v1_and_v2_have_a_space_on_both_sides_of_the_newline() -> None:
    prompt = make_prompt(KALM_TEMPLATE, INSTRUCTION)
    assert (
        prompt.encode()
        == b"Instruct: Given a query, retrieve documents that answer the query. \n Query: "
    )
    assert StageConfig().query_template == KALM_TEMPLATE


def test_gemma_has_none() -> None:
    prompt = make_prompt(GEMMA_TEMPLATE, INSTRUCTION)
    assert (
        prompt.encode()
        == b"Instruct: Given a query, retrieve documents that answer the query.\nQuery: "
    )


@pytest.mark.parametrize(
    ("template", "instruction", "prompt"),
    [
        ("{query}", "unused", ""),
        ("Query:{query}", "", "Query:"),
        ("{instruction}{instruction}|{query}", "a", "aa|"),
        # the last place is the query's, the text before it stays
        (
            "{query} and {query}",
            "",
            "{query} and ",
        ),
        ("{instruction}: {query}", "say {query} {instruction}", "say {query} {instruction}: "),
        ("{instruction}\n{query}", "語 ü \\n", "語 ü \\n\n"),
    ],
)
def test_a_prompt_is_everything_before_the_query(
    template: str, instruction: str, prompt: str
) -> None:
    assert make_prompt(template, instruction) == prompt


def test_examples_stand_before_the_prompt_in_their_order() -> None:
    template = StageConfig().example_template
    examples = [Example("q one", "d one"), Example("q two", "d two", "own")]
    assert make_prompt(GEMMA_TEMPLATE, INSTRUCTION, examples, template) == (
        f"Instruct: {INSTRUCTION}\nQuery: q one\nResponse: d one\n\n"
        "Instruct: own\nQuery: q two\nResponse: d two\n\n"
        f"Instruct: {INSTRUCTION}\nQuery: "
    )
    assert make_prompt(GEMMA_TEMPLATE, INSTRUCTION, [], template) == make_prompt(
        GEMMA_TEMPLATE, INSTRUCTION
    )


def test_braces_inside_a_text_are_no_places_to_fill() -> None:
    examples = [Example("f({document})", "{query} {instruction}"), Example("a", "{document}")]
    shown = make_prompt("", "i", examples, "{query}>{document};")
    assert shown == "f({document})>{query} {instruction};a>{document};"


@pytest.mark.parametrize("task", TASKS)
def test_the_prompt_stands_before_documents_of_symmetric_tasks_alone(task: str) -> None:
    assert is_symmetric(task, "auto") == (
        task in {"sts", "pair_classification", "bitext", "classification", "clustering"}
    )
    assert is_symmetric(task, "both")
    assert not is_symmetric(task, "query")
    assert set(SYMMETRIC_TASKS) < set(TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_rows_of_labels_take_no_negatives_from_other_rows(task: str) -> None:
    assert takes_in_batch_negatives(task, "auto") == (task not in LABEL_TASKS)
    assert takes_in_batch_negatives(task, "use")
    assert not takes_in_batch_negatives(task, "none")


@pytest.mark.parametrize(
    ("prompt", "fits"), [(0, True), (56, True), (57, False), (64, False), (1000, False)]
)
def test_a_prompt_leaves_eight_tokens_for_the_query(prompt: int, fits: bool) -> None:
    if fits:
        check_room("source a", prompt, 64)
        return
    with pytest.raises(
        UsageError, match=f"source a: the prompt takes {prompt} of the 64 tokens a query may have"
    ) as caught:
        check_room("source a", prompt, 64)
    assert "data.max_query_tokens" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "template", "found"),
    [
        (f"Instruct: {INSTRUCTION} \n Query: why", "", (INSTRUCTION, "why")),
        ("Instruct: Find it.\nQuery: a: b\nc", "", ("Find it.", "a: b\nc")),
        ("  Instruct:Find it.\n\nQuery:why", "", ("Find it.", "why")),
        ("Instruction: Find it.\nQuery: why", "", ("Find it.", "why")),
        ("Instruct: \nQuery: why", "", ("", "why")),
        (
            "Aufgabe: Suche.  Frage:warum",
            "Aufgabe: {instruction} Frage: {query}",
            ("Suche.", "warum"),
        ),
        # words that a query may well hold, and prompts without a text after them
        ("Instruct the model to answer\nQuery the index", "", None),
        ("How do I write Instruct: x\nQuery: y", "", None),
        ("Query: why", "", None),
        ("Instruct: Find it.\nQuery: ", "", None),
        ("a > b", "{instruction} > {query}", None),
        ("find the answer : why", "find the answer : {query}", None),
    ],
)
def test_a_prompt_inside_a_text_is_known(
    text: str, template: str, found: tuple[str, str] | None
) -> None:
    assert find_prompt(text, template) == found
    if found and "Instruct:" in text:
        assert find_prompt(make_prompt(KALM_TEMPLATE, found[0]) + found[1]) == found
