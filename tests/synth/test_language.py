"""The detector refuses what is surely another language, and lets everything doubtful pass."""

# ruff: noqa: RUF001  the texts are Chinese

from __future__ import annotations

import pytest

from leafkit.config import SYNTH_LANGUAGES
from leafkit.synth.language import count_han, is_other_language

TEXTS = {
    "en": (
        "The committee decided that the bridge would have to be closed for repairs, and this has "
        "not pleased the traders."
    ),
    "fr": (
        "Le conseil a décidé que le pont serait fermé pour des travaux, ce qui ne plaît pas du "
        "tout aux commerçants."
    ),
    "pl": (
        "Rada zdecydowała, że most zostanie zamknięty na czas remontu, co się nie podoba "
        "handlarzom z okolicy."
    ),
    "zh": "委员会决定关闭大桥进行维修，附近的商贩对此很不满意，认为应该提前通知大家。",
}


@pytest.mark.parametrize("written", SYNTH_LANGUAGES)
@pytest.mark.parametrize("wanted", SYNTH_LANGUAGES)
def test_every_pair(written: str, wanted: str) -> None:
    assert is_other_language(TEXTS[written], wanted) is (written != wanted)


@pytest.mark.parametrize(
    "text",
    [
        "Смотритель гавани записал, как менялась погода.",
        "港の番人は、天気がどのように変わったかを書き留めました。",
        "항구 관리인은 날씨가 어떻게 변했는지 적어 두었다.",
        "كتب حارس الميناء كيف تغير الطقس",
    ],
)
@pytest.mark.parametrize("wanted", SYNTH_LANGUAGES)
def test_other_scripts(text: str, wanted: str) -> None:
    assert is_other_language(text, wanted)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "en"),
        ("42", "zh"),
        ("???", "pl"),
        ("asyncio timeout", "zh"),
        ("Python 3.11", "fr"),
        ("Łódź, Kraków, Wałęsa and Gdańsk", "en"),
        ("the word 你好 means hello", "en"),
        ("a café au lait", "en"),
        ("GDPR compliance checklist", "pl"),
        ("label", "fr"),
        ("α and β decay of U-238", "en"),
        ("如何用 PyTorch 的 DataLoader 读取大文件", "zh"),
        ("rock'n'roll", "pl"),
        ("C++", "en"),
    ],
)
def test_doubt_is_no_refusal(text: str, wanted: str) -> None:
    assert not is_other_language(text, wanted)


def test_a_long_text_without_one_function_word_is_not_in_the_language() -> None:
    german = " ".join(
        ["Der Hafenmeister schrieb täglich sorgfältig auf, wie stark Wind und Wellen waren."] * 4
    )
    assert is_other_language(german, "pl")
    assert is_other_language(german, "fr")


def test_chinese_characters_are_counted() -> None:
    assert count_han("a 你好, 世 b。") == 3
