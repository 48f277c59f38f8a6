"""The model card: front matter the hub reads, figures of the data, safe Markdown."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from huggingface_hub.repocard_data import model_index_to_eval_results
from report_page import read_report

from leafkit.report.card import render_card as render_typed


def render_card(data: dict[str, Any]) -> str:
    return render_typed(read_report(data))


def _split(card: str) -> tuple[dict[str, Any], str]:
    _, front, body = card.split("---\n", 2)
    return yaml.safe_load(front), body


def test_front_matter_is_yaml_with_what_the_hub_asks_for(data: dict[str, Any]) -> None:
    front, _ = _split(render_card(data))
    assert front["library_name"] == "sentence-transformers"
    assert front["pipeline_tag"] == "sentence-similarity"
    assert {"sentence-transformers", "matryoshka"} <= set(front["tags"])
    data["student"]["mrl_dims"] = []
    assert "matryoshka" not in _split(render_card(data))[0]["tags"]


def test_the_hub_gets_each_figure_with_its_interval(data: dict[str, Any]) -> None:
    front, body = _split(render_card(data))
    name, results = model_index_to_eval_results(front["model-index"])
    assert name == data["name"]
    assert results
    for result in results:
        low, high = result.metric_args["interval_95"]
        assert low <= result.metric_value <= high
        assert result.metric_args["num_queries"] > 0
        assert f"{result.metric_value:.3f} [{low:.3f}, {high:.3f}]" in body


def test_figures_are_those_of_the_data(data: dict[str, Any]) -> None:
    card = render_card(data)
    for expected in (
        "| teacher | 0.573 [0.553, 0.593] | 0.873 [0.861, 0.885] | 0.533 [0.513, 0.553] |",
        "| pydocs | asymmetric - teacher | nDCG@10 | -0.004 [-0.011, +0.003] | within noise |",
        "| 64 | float32 | symmetric | 0.499 | 0.474 | +0.031 [+0.021, +0.041] | 0.020 | not "
        "inherited |",
        "the student keeps 99.3% [98.1, 100.5] of the teacher's nDCG@10",
        "2026-11-21, AMD EPYC 9B14, 2 cores, bf16",
        "pydocs: 13,379 documents; queries: 10,456 train, 332 validation, 1,109 test",
        "leafkit distill recipe=kalm-to-23m",
        "queries of up to 64 tokens",
        "at most 99.8% of the variance",
    ):
        assert expected in card


def test_loading_names_the_prompts_that_exist(data: dict[str, Any]) -> None:
    card = render_card(data)
    assert 'prompt_name="query")' in card
    assert 'prompt_name="document")' not in card
    assert '"query": "Instruct: Find the documentation \\n Query: "' in card
    data["teacher"]["prompts"]["document"] = "passage: "
    assert (
        'teacher.encode(["Compute the inverse of a matrix."], prompt_name="document")'
        in render_card(data)
    )


def test_a_model_without_prompts_is_loaded_without_them(data: dict[str, Any]) -> None:
    data["student"]["prompts"] = data["teacher"]["prompts"] = {}
    card = render_card(data)
    assert 'prompt_name="document")' not in card
    assert "Queries need their prompt" not in card


def test_the_example_code_compiles(data: dict[str, Any]) -> None:
    (code,) = re.findall(r"```python\n(.*?)\n```", render_card(data), re.DOTALL)
    compile(code, "card", "exec")


def test_tables_are_rectangular_even_with_hostile_names(data: dict[str, Any]) -> None:
    home = data["bench"]["collections"][1]
    home["name"] = data["name"] = "a|b\n# <script> [x](javascript:y) [0](evil) `c`"
    home["rows"][0]["system"] = "x|y"
    card = render_card(data)
    assert "<script>" not in re.sub(r"\\<", "", card)
    assert not re.search(r"(?<!\\)\]\(", card)
    assert "\n# <" not in card
    for block in re.findall(r"(?:^\|.*\|\n?)+", card, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1


def test_a_fence_is_longer_than_any_in_the_text(data: dict[str, Any]) -> None:
    data["command"] = "leafkit ```` x"
    assert "`````\nleafkit ```` x\n`````" in render_card(data)


@pytest.mark.parametrize(
    ("key", "heading"),
    [
        ("bench", "## Measured"),
        ("inherit", "### Inheritance"),
        ("teacher", "## The space it lives in"),
        ("corpora", "- pydocs:"),
        ("spectrum", "pass through"),
        ("hardware", "EPYC"),
        ("recipe", "tokens, prompt included"),
        ("commit", "leafkit commit"),
        ("command", "leafkit distill"),
        ("student", "matryoshka"),
        ("created", "2026"),
    ],
)
def test_a_missing_part_is_left_out(data: dict[str, Any], key: str, heading: str) -> None:
    assert heading in render_card(data)
    del data[key]
    card = render_card(data)
    assert heading not in card
    assert "None" not in card


def test_an_empty_run_still_has_a_card() -> None:
    front, body = _split(render_card({}))
    assert front["library_name"] == "sentence-transformers"
    assert "Nothing was measured out of domain" in body


def test_new_figures_are_those_of_the_data(full: dict[str, Any]) -> None:
    card = render_card(full)
    for expected in (
        "| system | nDCG@10 | MAP@100 | recall@10 | recall@100 | MRR@10 |",
        "contamination: 0 of 1,109 queries exact, 12 near",
        "home's documents train the student by design",
        "contamination: unknown (the training texts of minilm are not known)",
        "| pydocs | asymmetric - teacher | nDCG@10 | -0.004 [-0.011, +0.003] | 0.210 | within "
        "noise |",
        "| stsb | student - teacher | Spearman | -0.007 [-0.012, -0.002] |  | lower |",
        "| stsb | sts | Spearman | 1,379 | teacher | 0.842 [0.822, 0.862] |",
        "| hnsw | student | ef\\_search=128 | 3,346 | 2,500 | 0.970 [0.966, 0.974] | 0.553 "
        "[0.533, 0.573] |",
        "| 64 | binary | asymmetric | plain | 0.459 | 0.454 | +0.002 [-0.008, +0.012] | 0.020 | "
        "not inherited |",
        "Not passed: of 78 settings, 65 inherited, 1 not inherited, 12 undecided.",
        "### The teacher before training",
        "- One bit per dimension keeps 92.1%.",
    ):
        assert expected in card, expected
    assert "None" not in card


def test_the_card_of_a_large_grid_that_passes_has_no_table_of_it(full: dict[str, Any]) -> None:
    for row in full["inherit"]["rows"]:
        row["verdict"] = "inherited"
    card = render_card(full)
    assert "of 78 settings, 78 inherited" in card
    assert "all settings but the inherited" not in card


def test_new_names_and_sentences_cannot_break_the_tables(full: dict[str, Any]) -> None:
    hostile = "a|b\n# <script> [x](javascript:y)"
    full["diagnosis"]["findings"] = [hostile]
    full["bench"]["indexes"][0]["kind"] = full["bench"]["tasks"][0]["name"] = hostile
    full["bench"]["collections"][0]["contamination"]["unknown"] = hostile
    card = render_card(full)
    assert "<script>" not in card.replace("\\<script", "")
    assert "\n# <" not in card
    assert not re.search(r"(?<!\\)\]\(", card)
