"""Nothing that a run says becomes markup, and everything that a page needs is in the package."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from markupsafe import Markup

import leafkit
from leafkit.report import environment
from leafkit.results import Table

_REPOSITORY = Path(leafkit.__file__).parents[1]


def _html(source: str, **context: object) -> str:
    imports = '{% from "macros.html.j2" import badge, grid, table %}'
    html = environment.environment(environment.clean_html)
    return html.from_string(imports + source).render(context)


def test_expressions_are_escaped_and_cleaned() -> None:
    assert _html("<p>{{ x }}</p>", x="<b>&\x00\ud800") == "<p>&lt;b&gt;&amp;?</p>"
    assert _html("{{ x }}", x=Markup("<b></b>")) == "<b></b>"


def test_a_name_that_a_template_misspells_is_an_error() -> None:
    with pytest.raises(Exception, match="undefined"):
        _html("{{ nonsense }}")


def test_table_has_row_headings_true_minus_signs_in_numbers_only_and_its_own_box() -> None:
    made = _html("{{ table(t) }}", t=Table("T", ("a", "b"), "lr", (("x-1", "-0.5 [-1.0, +0.1]"),)))
    assert '<div class="scroll" role="region" aria-label="T" tabindex="0"><table>' in made
    assert (
        '<th class="l" scope="row">x-1</th><td class="r">\u22120.5 <small>[\u22121.0, +0.1]</small>'
        in made
    )


def test_verdicts_are_told_by_color_symbol_and_words() -> None:
    made = _html("{{ badge('not inherited') }}{{ badge(x) }}", x="<i>")
    assert made == (
        '<span class="badge fail"><span aria-hidden="true">\u2717</span> not inherited</span>'
        '<span class="badge open"><span aria-hidden="true">?</span> &lt;i&gt;</span>'
    )


def test_markdown_means_nothing_in_a_text() -> None:
    escape = environment.escape_markdown
    assert escape("a|b\n# <script> [x](y) 0.5 [0.4, 0.6]") == (
        r"a\|b \# \<script\> \[x\](y) 0.5 [0.4, 0.6]"
    )
    assert environment.fence("a ``` b") == "````\na ``` b\n````"


def test_templates_and_style_sheet_are_in_the_wheel(tmp_path: Path) -> None:
    (built,) = WheelBuilder(str(_REPOSITORY)).build(directory=str(tmp_path), versions=["standard"])
    shipped = set(zipfile.ZipFile(built).namelist())
    templates = _REPOSITORY / "leafkit" / "report" / "templates"
    needed = {str(p.relative_to(_REPOSITORY)) for p in templates.rglob("*") if p.is_file()}
    assert len(needed) > 20
    assert needed <= shipped
