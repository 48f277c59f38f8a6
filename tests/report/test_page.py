"""The report: complete, well-formed, self-contained, safe, and without what was not measured."""

from __future__ import annotations

import contextlib
import copy
import math
import re
from typing import Any
from xml.etree import ElementTree

import pytest
from report_page import HOSTILE, Page, check_safe, read_report

from leafkit.core.errors import LeafkitError
from leafkit.report.page import render_report as render_typed


def render_report(data: dict[str, Any]) -> str:
    return render_typed(read_report(data))


def _without(data: dict[str, Any], path: str) -> dict[str, Any]:
    *parents, last = path.split(".")
    place = data
    for key in parents:
        place = place[key]
    del place[last]
    return data


def test_full_report_has_every_section_and_is_balanced(data: dict[str, Any]) -> None:
    page = Page(render_report(data))
    assert page.sections == [
        "retrieval",
        "differences",
        "inheritance",
        "frontiers",
        "latency",
        "samples",
        "models",
        "spectrum",
        "losses",
        "texts",
        "steps",
        "origin",
    ]
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert links == [f"#{anchor}" for anchor in page.sections]


def test_figures_are_those_of_the_data(data: dict[str, Any]) -> None:
    text = Page(render_report(data)).text
    for expected in (
        "0.573 [0.553, 0.593]",
        "99.3%",
        "[98.1, 100.5] of the teacher, asymmetric, pydocs, n = 1,109",
        "4.3\u00d7",
        "+0.004 [\u22120.016, +0.024]",
        "leafkit distill recipe=kalm-to-23m",
        "data.max_query_tokens=64",
        "11 of 14",
        "15 min 8 s",
        "passes through 384 hidden dimensions",
        "AMD EPYC 9B14",
        "2.13.0",
        "duplicate documents dropped: 744",
    ):
        assert expected in text


def test_differences_are_judged_in_words(data: dict[str, Any]) -> None:
    data["bench"]["collections"] = data["bench"]["collections"][1:]
    data["bench"]["collections"][0]["differences"] = [
        {"label": "a - b", "metric": "ndcg@10", "mean": 0.01, "low": low, "high": high}
        for low, high in ((-0.01, 0.03), (0.005, 0.02), (-0.02, -0.01))
    ]
    del data["inherit"]
    text = Page(render_report(data)).text
    assert [
        text.count(words) for words in ("\u2248 within noise", "\u2191 higher", "\u2193 lower")
    ] == [1, 1, 1]


def test_inheritance_verdicts_are_symbol_and_words(data: dict[str, Any]) -> None:
    text = Page(render_report(data)).text
    assert text.count("\u2717 not inherited") == 2 + 1  # the key names each once
    assert text.count("\u2713 inherited") == 11 + 1
    assert text.count("? undecided") == 1 + 1
    assert "\u2717 Not passed" in text
    for row in data["inherit"]["rows"]:
        row["verdict"] = "inherited"
    assert "\u2713 Passed" in Page(render_report(data)).text


def test_relevant_documents_are_marked(data: dict[str, Any]) -> None:
    page = Page(render_report(data))
    assert (
        sum(tag == "li" and attributes.get("class") == "relevant" for tag, attributes in page.tags)
        == 3
    )
    assert page.text.count("\u2713 relevant") == 3
    assert page.text.count("No relevant document among the first 5.") == 1


def test_charts_are_well_formed_and_named(data: dict[str, Any]) -> None:
    charts = re.findall(r"<svg.*?</svg>", render_report(data), re.DOTALL)
    assert len(charts) == 13
    for chart in charts:
        root = ElementTree.fromstring(chart)
        assert root.attrib["role"] == "img"
        assert root.findtext("title")
        assert root.findtext("desc")


@pytest.mark.parametrize(
    ("path", "gone"),
    [
        ("inherit", {"inheritance"}),
        ("losses", {"losses"}),
        ("bench", {"retrieval", "differences", "latency", "samples"}),
        ("bench.latency", {"latency"}),
        ("bench.samples", {"samples"}),
        ("spectrum", {"spectrum"}),
        ("corpora", {"texts"}),
        ("steps", {"steps"}),
        ("teacher", set()),
        ("student", set()),
        ("recipe", set()),
        ("versions", set()),
        ("hardware", set()),
        ("commit", set()),
        ("command", set()),
        ("name", set()),
        ("created", set()),
    ],
)
def test_a_missing_part_leaves_out_its_section_only(
    data: dict[str, Any], path: str, gone: set[str]
) -> None:
    whole = Page(render_report(data)).sections
    page = Page(render_report(_without(data, path)))
    assert set(whole) - set(page.sections) == gone
    assert "None" not in page.text


@pytest.mark.parametrize("empty", [{}, {"losses": {}, "steps": [], "corpora": []}])
def test_nothing_measured_gives_a_page_that_says_so(empty: dict[str, Any]) -> None:
    page = Page(render_report(empty))
    assert page.sections == ["origin"]
    assert "This run measured no retrieval." in page.text


def test_collections_may_lack_systems_and_figures(data: dict[str, Any]) -> None:
    home = data["bench"]["collections"][1]
    undefined = {"mean": math.nan, "low": math.nan, "high": math.nan}
    home["rows"] = [
        {"system": "mine", "label": "", "ndcg@10": {"mean": 0.5, "low": 0.4, "high": 0.6}},
        {"system": "teacher", "label": "", "ndcg@10": undefined},
    ]
    home["differences"] = [{"label": "a - b", "metric": "ndcg@10", **undefined}]
    home["retention"] = {"symmetric": undefined}
    text = Page(render_report(data)).text
    assert "mine" in text
    assert "n/a" in text
    assert "nan" not in text.replace("inan", "")


def test_odd_losses_and_grids_do_not_break_it(data: dict[str, Any]) -> None:
    data["losses"] = {
        "empty": [],
        "one": [1.0],
        "broken": [1.0, float("nan"), 0.5],
        "long": [1.0] * 10_001,
    }
    data["inherit"]["rows"] = data["inherit"]["rows"][:1]
    page = Page(render_report(data))
    assert page.text.count("Loss of stage broken") == 1
    assert "Loss of stage one" not in page.text
    assert len(render_report(data)) < 200_000


def test_hostile_text_stays_text(data: dict[str, Any]) -> None:
    data["name"] = data["command"] = data["steps"][0]["name"] = data["corpora"][0]["name"] = HOSTILE
    data["recipe"] = {HOSTILE: HOSTILE}
    data["versions"] = {HOSTILE: HOSTILE}
    data["hardware"]["cpu"] = data["teacher"]["prompts"]["query"] = HOSTILE
    data["losses"] = {HOSTILE: [1.0, 0.5]}
    data["inherit"]["rows"][0] |= {"precision": HOSTILE, "mode": HOSTILE}
    sample, home = data["bench"]["samples"][0], data["bench"]["collections"][1]
    sample["query"] = sample["teacher"][0]["id"] = sample["teacher"][0]["text"] = HOSTILE
    home["name"] = home["kind"] = home["rows"][0]["system"] = home["rows"][0]["label"] = HOSTILE
    home["differences"][0]["label"] = home["differences"][0]["metric"] = data["bench"]["latency"][
        0
    ]["encoder"] = HOSTILE
    assert "alert(1)" in check_safe(render_report(data)).text


def test_text_that_no_encoding_holds_can_still_be_written(data: dict[str, Any]) -> None:
    data["bench"]["samples"][0]["query"] = "lone \ud800 surrogate, \x00 and \x1b"
    markup = render_report(data)
    assert "lone ? surrogate,  and " in Page(markup.encode().decode()).text


def test_it_loads_nothing_and_runs_nothing(data: dict[str, Any], full: dict[str, Any]) -> None:
    check_safe(render_report(data))
    check_safe(render_report(full))


def test_it_is_made_for_phones_and_for_the_night(data: dict[str, Any]) -> None:
    markup = render_report(data)
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in markup
    assert "@media (prefers-color-scheme:dark)" in markup
    page = Page(markup)
    boxes = sum(attributes.get("class") == "scroll" for _, attributes in page.tags)
    assert boxes == sum(tag == "table" for tag, _ in page.tags) > 0


def test_every_class_of_a_mark_has_a_color(full: dict[str, Any]) -> None:
    markup = render_report(full)
    style = markup[markup.index("<style>") : markup.index("</style>")]
    used = set(re.findall(r"(?<=[\" ])(?:tone|stroke|back|band)-\d(?=[\" ])", markup))
    assert used
    assert all(f".{name}{{" in style for name in used)
    light, dark = (
        set(re.findall(r"--([\w-]+):", part)) for part in re.findall(r":root\{(.*?)\}", style, re.S)
    )
    assert light == dark >= set(re.findall(r"var\(--([\w-]+)\)", style))


# --- what newer runs record


def test_every_new_part_has_its_section(full: dict[str, Any]) -> None:
    page = Page(render_report(full))
    assert page.sections == [
        "retrieval",
        "differences",
        "tasks",
        "queries",
        "inheritance",
        "indexes",
        "frontiers",
        "latency",
        "diagnosis",
        "samples",
        "models",
        "spectrum",
        "losses",
        "texts",
        "steps",
        "origin",
    ]
    boxes = sum(attributes.get("class") == "scroll" for _, attributes in page.tags)
    assert boxes == sum(tag == "table" for tag, _ in page.tags)
    assert "None" not in page.text
    assert "nan" not in page.text.replace("inan", "").replace("Inan", "")


def test_new_figures_are_those_of_the_data(full: dict[str, Any]) -> None:
    text = Page(render_report(full)).text
    for expected in (
        "reversed: teacher embeds queries, student embeds documents",
        "recall@10",
        "MAP@100",
        "97.9% [96.9, 98.9]",
        "contamination: 0 of 1,109 queries exact, 12 near; 13,379 of 13,379 documents exact, 0 "
        "near (against 40,211 training",
        "home's documents train the student by design",
        "contamination: unknown (the training texts of minilm are not known)",
        "own documents dropped from the rankings: 1,109",
        "mean of 2 collections",
        "p <0.001",
        "p 0.210",
        "Spearman",
        "\u22120.007 [\u22120.012, \u22120.002]",
        "3,345.5",
        "0.980 [0.976, 0.984]",
        "effective rank212.3",
        "signs kept at cosine 0.95 to the teacher89.9%",
        "One bit per dimension keeps 92.1%.",
        "\u2713 can be inherited",
        "Undecided settings fail too.",
        "where the whole interval of the gap is no larger than allowed",
    ):
        assert expected in text, expected


def test_the_mean_stands_for_all_collections_at_the_top(full: dict[str, Any]) -> None:
    head = Page(render_report(full)).text.split("Retrieval")[0]
    assert "On pydocs (in-domain, 1,109 queries), the student keeps" in head
    assert "On all collections (mean of 2 collections), it keeps 97.8%" in head
    assert "pydocs-out-of-domain" not in head


@pytest.mark.parametrize(
    ("path", "gone"),
    [
        ("diagnosis", {"diagnosis"}),
        ("inherit", {"inheritance"}),
        ("bench.tasks", {"tasks"}),
        ("bench.indexes", {"indexes"}),
        ("bench.macro", set()),
        ("recipe", set()),
    ],
)
def test_a_missing_new_part_leaves_out_its_section_only(
    full: dict[str, Any], path: str, gone: set[str]
) -> None:
    whole = Page(render_report(full)).sections
    assert set(whole) - set(Page(render_report(_without(full, path))).sections) == gone


@pytest.mark.parametrize(
    ("parts", "sections", "opening"),
    [
        (
            ("diagnosis",),
            ["diagnosis"],
            "The teacher kalm-mini can be inherited from, judged on its vectors of 13,379 texts "
            "of py",
        ),
        (
            ("inherit",),
            ["inheritance", "frontiers"],
            "Inheritance on pydocs: Not passed: of 78 settings, 65 inherited",
        ),
        (
            ("bench",),
            [
                "retrieval",
                "differences",
                "tasks",
                "queries",
                "indexes",
                "frontiers",
                "latency",
                "samples",
            ],
            "On pydocs",
        ),
    ],
)
def test_a_run_may_have_done_one_thing(
    full: dict[str, Any], parts: tuple[str, ...], sections: list[str], opening: str
) -> None:
    page = Page(
        render_report({"name": "x", "command": "leafkit x"} | {part: full[part] for part in parts})
    )
    assert page.sections == [*sections, "origin"]
    assert opening in page.text


def _everywhere(value: Any, make: Any) -> None:
    """Replace every leaf of nested containers in place."""
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    for key, child in items:
        if isinstance(child, dict | list):
            _everywhere(child, make)
        else:
            value[key] = make(child)


@pytest.mark.parametrize("part", ["bench", "inherit", "diagnosis"])
def test_hostile_text_in_any_new_place_stays_text(full: dict[str, Any], part: str) -> None:
    kept = {"teacher", "student", "asymmetric", "float32", "quantized", "ndcg@10", "cpu", "home"}
    kept |= {"inherited", "not inherited", "undecided"}
    _everywhere(
        full[part], lambda leaf: HOSTILE if isinstance(leaf, str) and leaf not in kept else leaf
    )
    assert "alert(1)" in check_safe(render_report(full)).text


@pytest.mark.parametrize("undefined", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["bench", "inherit", "diagnosis"])
def test_undefined_figures_anywhere_do_not_break_it(
    full: dict[str, Any], part: str, undefined: float
) -> None:
    _everywhere(
        full[part],
        lambda leaf: undefined if isinstance(leaf, float) else leaf,
    )
    text = Page(render_report(full)).text
    assert "n/a" in text
    assert " nan" not in text
    assert " inf" not in text


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of every key of nested dicts; of lists the first entry stands for all."""
    if isinstance(value, list):
        return _leaves(value[0], (*path, 0)) if value else []
    if not isinstance(value, dict):
        return []
    return [
        p for key, child in value.items() for p in [(*path, key), *_leaves(child, (*path, key))]
    ]


class _RefusedByName(Exception):
    """The missing key is named."""


def _render_or_refuse(data: dict[str, Any], missing: str) -> str:
    try:
        report = read_report(data)
    except LeafkitError as err:
        raise (_RefusedByName if missing in str(err) else err) from err
    return render_typed(report)


@pytest.mark.parametrize("part", ["bench", "inherit", "diagnosis"])
def test_any_single_key_may_be_missing_or_is_refused_by_name(
    full: dict[str, Any], part: str
) -> None:
    full["bench"] |= {
        "collections": full["bench"]["collections"][1:],
        "samples": full["bench"]["samples"][:1],
    }
    full["inherit"]["rows"] = full["inherit"]["rows"][::13]
    paths = _leaves(full[part])
    assert len(paths) > 15
    for path in paths:
        data = {"name": "x", part: copy.deepcopy(full[part])}
        place = data[part]
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]
        with contextlib.suppress(_RefusedByName):
            assert "None" not in Page(_render_or_refuse(data, path[-1])).text, path


def test_queries_are_dots_with_their_texts(full: dict[str, Any]) -> None:
    markup = render_report(full)
    assert "student worse: 1" in markup
    assert "equal: 2" in markup
    assert "student better: 1" in markup  # the query without a teacher's score has no dot
    assert "<title>sort a list (teacher 0.50, student 0.25)</title>" in markup
    assert "A sample of 4 queries." in markup


def test_lost_queries_have_both_rankings(full: dict[str, Any]) -> None:
    page = Page(render_report(full))
    assert "the 1 largest losses" in page.text
    assert "\u201csort a list\u201d teacher 0.50, student 0.25" in page.text
    lost = page.text[
        page.text.index("largest losses") : page.text.index(
            "Inheritance", page.text.index("largest losses")
        )
    ]
    assert "list.sort" in lost
    assert "No relevant document among the first 5." in lost


def test_a_large_grid_is_a_matrix_with_the_table_folded(full: dict[str, Any]) -> None:
    markup = render_report(full)
    page = Page(markup)
    folded = [attributes for tag, attributes in page.tags if tag == "details"]
    assert sum("open" in attributes for attributes in folded) == 0
    assert "All 78 settings with their figures" in page.text
    # 2 modes x 4 ways to score
    assert sum(attributes.get("class") == "matrix" for _, attributes in page.tags) == 8
    titles = [
        str(a["title"])
        for _, a in page.tags
        if str(a.get("class", "")).startswith("badge") and a.get("title")
    ]
    assert len(titles) == 78
    assert sum(title.startswith("not inherited: the student keeps") for title in titles) == 1
    assert sum(title.startswith("undecided") for title in titles) == 12


def test_a_small_grid_is_open(data: dict[str, Any]) -> None:
    assert "open" in next(a for tag, a in Page(render_report(data)).tags if tag == "details")


def test_the_cheapest_settings_are_marked_for_each_side(full: dict[str, Any]) -> None:
    text = Page(render_report(full)).text.replace("\n", "")
    assert "exhaustive\u2605 teacher and student" in text
    assert "ef_search=64\u2605 teacher3,345.5" in text
    assert "ef_search=128\u2605 student3,345.5" in text


def test_many_queries_stay_a_small_file(full: dict[str, Any]) -> None:
    home = full["bench"]["collections"][1]
    count = 2000
    home["per_query"] = {
        "ids": [str(n) for n in range(count)],
        "texts": [f"query {n} " + "x" * 300 for n in range(count)],
        "teacher": [n % 7 / 7 for n in range(count)],
        "asymmetric": [n % 5 / 5 for n in range(count)],
    }
    full["bench"]["collections"] = [home | {"name": f"c{n}"} for n in range(5)]
    markup = render_report(full)
    assert markup.count("<circle") > 5 * count
    assert len(markup.encode()) < 3_000_000
