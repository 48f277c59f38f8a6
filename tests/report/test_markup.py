"""Nothing gets into the markup that was not made by ``element``."""

from __future__ import annotations

from leafkit.report.markup import Safe, badge, definitions, element, table


def test_children_and_attributes_are_escaped() -> None:
    assert element("p", "<b>", title='"x"&') == '<p title="&quot;x&quot;&amp;">&lt;b&gt;</p>'
    assert element("p", Safe("<b></b>")) == "<p><b></b></p>"


def test_attribute_names_are_translated_and_none_is_left_out() -> None:
    assert element("i", class_="a", stroke_width=2, id=None) == '<i class="a" stroke-width="2"></i>'


def test_table_has_row_headings_true_minus_signs_in_numbers_only_and_its_own_box() -> None:
    markup = table("T", ["a", "b"], "tn", [["x-1", "-0.5 [-1.0, +0.1]"]])
    assert markup.startswith(
        '<div class="scroll" role="region" aria-label="T" tabindex="0"><table>'
    )
    assert (
        '<th class="t" scope="row">x-1</th><td class="n">\u22120.5 [\u22121.0, +0.1]</td>' in markup
    )


def test_badge_says_its_verdict_in_words_too() -> None:
    symbol = '<span aria-hidden="true">!</span>'
    assert (
        badge("fail", "!", "not inherited")
        == f'<span class="badge fail">{symbol} not inherited</span>'
    )


def test_definitions_leave_out_what_is_empty_but_not_zero() -> None:
    assert definitions([("a", ""), ("b", None)]) == ""
    assert definitions([("a", ""), ("b", 0)]) == "<dl><div><dt>b</dt><dd>0</dd></div></dl>"
