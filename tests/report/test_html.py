"""The report: complete, well-formed, self-contained, safe, and without what was not measured."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest

from leafkit.report.html import render_report

_VOID = {"meta", "br", "hr", "img", "link", "input"}
_HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=alert(1)>"


class _Page(HTMLParser):
    """Checks that tags are balanced and remembers what it saw."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(markup)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def sections(self) -> list[str | None]:
        return [attributes["id"] for tag, attributes in self.tags if tag == "section"]


def _without(data: dict[str, Any], path: str) -> dict[str, Any]:
    *parents, last = path.split(".")
    place = data
    for key in parents:
        place = place[key]
    del place[last]
    return data


def test_full_report_has_every_section_and_is_balanced(data: dict[str, Any]) -> None:
    page = _Page(render_report(data))
    assert page.sections == [
        "retrieval", "differences", "inheritance", "latency", "samples", "models", "spectrum", "losses", "texts", "steps",
        "origin",
    ]  # fmt: skip
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert links == [f"#{anchor}" for anchor in page.sections]


def test_figures_are_those_of_the_data(data: dict[str, Any]) -> None:
    text = _Page(render_report(data)).text
    for expected in (
        "0.573 [0.553, 0.593]", "99.3%", "[98.1, 100.5] of the teacher, asymmetric, pydocs, n = 1,109", "4.3\u00d7",
        "+0.004 [\u22120.016, +0.024]", "leafkit distill recipe=kalm-to-23m", "data.max_query_tokens=64", "11 of 14",
        "15 min 8 s", "passes through 384 hidden dimensions", "AMD EPYC 9B14", "2.13.0", "duplicate documents dropped: 744",
    ):  # fmt: skip
        assert expected in text


def test_differences_are_judged_in_words(data: dict[str, Any]) -> None:
    data["bench"]["collections"] = data["bench"]["collections"][1:]
    data["bench"]["collections"][0]["differences"] = [
        {"label": "a - b", "metric": "ndcg@10", "mean": 0.01, "low": low, "high": high}
        for low, high in ((-0.01, 0.03), (0.005, 0.02), (-0.02, -0.01))
    ]
    del data["inherit"]
    text = _Page(render_report(data)).text
    assert [text.count(words) for words in ("\u2248 within noise", "\u2191 higher", "\u2193 lower")] == [1, 1, 1]


def test_inheritance_verdicts_are_symbol_and_words(data: dict[str, Any]) -> None:
    text = _Page(render_report(data)).text
    assert text.count("\u2717 not inherited") == 2
    assert text.count("\u2713 inherited") == 11
    assert text.count("? undecided") == 1
    assert "\u2717 Not passed" in text
    data["inherit"]["passed"] = True
    assert "\u2713 Passed" in _Page(render_report(data)).text


def test_relevant_documents_are_marked(data: dict[str, Any]) -> None:
    page = _Page(render_report(data))
    assert sum(tag == "li" and attributes.get("class") == "relevant" for tag, attributes in page.tags) == 3
    assert page.text.count("\u2713 relevant") == 3
    assert page.text.count("No relevant document among the first 5.") == 1


def test_charts_are_well_formed_and_named(data: dict[str, Any]) -> None:
    charts = re.findall(r"<svg.*?</svg>", render_report(data), re.DOTALL)
    assert len(charts) == 11
    for chart in charts:
        root = ElementTree.fromstring(chart)
        assert root.attrib["role"] == "img"
        assert root.findtext("title")
        assert root.findtext("desc")


@pytest.mark.parametrize(
    ("path", "gone"),
    [
        ("inherit", {"inheritance"}), ("bench", {"retrieval", "differences", "latency", "samples"}), ("losses", {"losses"}),
        ("bench.latency", {"latency"}), ("bench.samples", {"samples"}), ("bench.collections", {"retrieval", "differences"}),
        ("spectrum", {"spectrum"}), ("corpora", {"texts"}), ("steps", {"steps"}), ("teacher", set()), ("student", set()),
        ("recipe", set()), ("versions", set()), ("hardware", set()), ("commit", set()), ("command", set()), ("name", set()),
        ("created", set()),
    ],
)  # fmt: skip
def test_a_missing_part_leaves_out_its_section_only(data: dict[str, Any], path: str, gone: set[str]) -> None:
    whole = _Page(render_report(data)).sections
    page = _Page(render_report(_without(data, path)))
    assert set(whole) - set(page.sections) == gone
    assert "None" not in page.text


@pytest.mark.parametrize("empty", [{}, {"bench": {}, "inherit": {}, "losses": {}, "steps": [], "teacher": {}, "corpora": []}])
def test_nothing_measured_gives_a_page_that_says_so(empty: dict[str, Any]) -> None:
    page = _Page(render_report(empty))
    assert page.sections == []
    assert "This run measured no retrieval." in page.text


def test_collections_may_lack_systems_metrics_and_intervals(data: dict[str, Any]) -> None:
    home = data["bench"]["collections"][1]
    home["rows"] = [
        {"system": "mine", "label": "mine / mine", "ndcg@10": {"mean": 0.5}},
        {"system": "teacher", "ndcg@10": None},
    ]
    home["differences"] = [{"label": "a - b", "metric": "ndcg@10", "mean": None}]
    home["retention"] = {"symmetric": {"mean": float("nan"), "low": 0.0, "high": 0.0}}
    text = _Page(render_report(data)).text
    assert "mine / mine" in text
    assert "n/a" in text
    assert "nan" not in text.replace("inan", "")


def test_odd_losses_and_grids_do_not_break_it(data: dict[str, Any]) -> None:
    data["losses"] = {"empty": [], "one": [1.0], "broken": [1.0, float("nan"), None, 0.5], "long": [1.0] * 10_001}
    data["inherit"]["rows"] = data["inherit"]["rows"][:1]
    page = _Page(render_report(data))
    assert page.text.count("Loss of stage broken") == 1
    assert "Loss of stage one" not in page.text
    assert len(render_report(data)) < 200_000


def test_hostile_text_stays_text(data: dict[str, Any]) -> None:
    data["name"] = data["command"] = data["steps"][0]["name"] = data["corpora"][0]["name"] = _HOSTILE
    data["recipe"] = {_HOSTILE: _HOSTILE}
    data["versions"] = {_HOSTILE: _HOSTILE}
    data["hardware"]["cpu"] = data["teacher"]["prompts"]["query"] = _HOSTILE
    data["losses"] = {_HOSTILE: [1.0, 0.5]}
    data["inherit"]["rows"][0] |= {"precision": _HOSTILE, "mode": _HOSTILE, "verdict": _HOSTILE}
    sample, home = data["bench"]["samples"][0], data["bench"]["collections"][1]
    sample["query"] = sample["teacher"][0]["id"] = sample["teacher"][0]["text"] = _HOSTILE
    home["name"] = home["kind"] = home["rows"][0]["system"] = home["rows"][0]["label"] = _HOSTILE
    home["differences"][0]["label"] = home["differences"][0]["metric"] = data["bench"]["latency"][0]["encoder"] = _HOSTILE
    markup = render_report(data)
    page = _Page(markup)
    assert "alert(1)" in page.text
    assert "<script" not in markup
    assert not {"script", "img", "iframe", "object", "link"} & {tag for tag, _ in page.tags}
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)


def test_text_that_no_encoding_holds_can_still_be_written(data: dict[str, Any]) -> None:
    data["bench"]["samples"][0]["query"] = "lone \ud800 surrogate, \x00 and \x1b"
    markup = render_report(data)
    assert "lone ? surrogate,  and " in _Page(markup.encode().decode()).text


def test_it_loads_nothing_and_runs_nothing(data: dict[str, Any]) -> None:
    markup = render_report(data)
    page = _Page(markup)
    assert not any(key in {"src", "srcset", "data", "poster"} for _, attributes in page.tags for key in attributes)
    assert all(str(a["href"]).startswith("#") for _, a in page.tags if "href" in a)
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<script", markup)
    assert "default-src 'none'" in markup


def test_it_is_made_for_phones_and_for_the_night(data: dict[str, Any]) -> None:
    markup = render_report(data)
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in markup
    assert "@media (prefers-color-scheme:dark)" in markup
    page = _Page(markup)
    boxes = sum(attributes.get("class") == "scroll" for _, attributes in page.tags)
    assert boxes == sum(tag == "table" for tag, _ in page.tags) > 0


def test_every_class_of_a_mark_has_a_colour(data: dict[str, Any]) -> None:
    markup = render_report(data)
    style = markup[markup.index("<style>") : markup.index("</style>")]
    used = set(re.findall(r"(?<=[\" ])(?:tone|stroke|back)-\d(?=[\" ])", markup))
    assert used
    assert all(f".{name}{{" in style for name in used)
    light, dark = (set(re.findall(r"--([\w-]+):", part)) for part in re.findall(r":root\{(.*?)\}", style))
    assert light == dark >= set(re.findall(r"var\(--([\w-]+)\)", style))
