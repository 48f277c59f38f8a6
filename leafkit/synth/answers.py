"""Answers of the chat model: read, checked by hand, refused with a reason. Nothing is ever filled
in.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping

from leafkit.data.records import clean_text
from leafkit.synth.chat_prompts import HAN_SHARE, INSTRUCTION_LENGTH, Length, TaskType
from leafkit.synth.language import is_other_language

_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL | re.IGNORECASE)
# reasoning models behind plain endpoints
_THOUGHTS = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)


class RefusedAnswer(Exception):
    """An answer that is no row; the reason is one of a few, so that they can be counted."""


def normalize(text: str) -> str:
    """The form in which two texts are compared: NFKC, no case, single spaces, no full stop."""
    # NFKC narrows wide exclamation and question marks
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(" .!?。")


def read_instruction(content: str) -> dict[str, str]:
    """``{"instruction"}`` of an answer of step 1.

    Raises:
        RefusedAnswer: with the reason.
    """
    row = _parse_object(content)
    text = " ".join(_text(row, "instruction").split())
    _check_length(text, INSTRUCTION_LENGTH, "en", "instruction")
    if is_other_language(text, "en"):
        raise RefusedAnswer("wrong language")
    return {"instruction": text}


def read_row(
    content: str, task: TaskType, languages: tuple[str, str], num_negatives: int
) -> Mapping[str, object]:
    """``{"query", "positive", "negatives"}`` of an answer of step 2.

    Args:
        content: of the answer.
        task: decides about the lengths.
        languages: of the query and of the documents.
        num_negatives: that must be there, no more and no fewer.

    Raises:
        RefusedAnswer: with the reason.
    """
    row = _parse_object(content)
    query, positive = _text(row, "query"), _text(row, "positive")
    found = row.get("negatives", [])
    if not isinstance(found, list):
        raise RefusedAnswer("'negatives' is no list")
    if len(found) != num_negatives:
        raise RefusedAnswer("wrong number of negatives")
    negatives = [_text({"negatives": text}, "negatives") for text in found]
    _check_length(query, task.query, languages[0], "query")
    for side, text in (("positive", positive), *(("negatives", n) for n in negatives)):
        _check_length(text, task.document, languages[1], side)
    _check_distinct(normalize(query), normalize(positive), [normalize(n) for n in negatives])
    if is_other_language(query, languages[0]) or any(
        is_other_language(t, languages[1]) for t in (positive, *negatives)
    ):
        raise RefusedAnswer("wrong language")
    return {"query": query, "positive": positive, "negatives": negatives}


def _parse_object(content: str) -> Mapping[str, object]:
    text = _THOUGHTS.sub("", content).strip()
    fenced = _FENCE.search(text)
    try:
        row = json.loads(fenced[1] if fenced and not text.startswith("{") else text)
    except (ValueError, RecursionError):
        raise RefusedAnswer("not JSON") from None
    if not isinstance(row, dict):
        raise RefusedAnswer("not a JSON object")
    return row


def _text(row: Mapping[str, object], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise RefusedAnswer(f"{key!r} is missing or not text")
    text = clean_text(value, Counter())
    if not normalize(text):
        raise RefusedAnswer(f"{key!r} is empty")
    return text


def _check_length(text: str, length: Length, language: str, side: str) -> None:
    min_chars = length.min_chars * HAN_SHARE if language == "zh" else length.min_chars
    if len(text) < min_chars:
        raise RefusedAnswer(f"{side!r} is too short")
    if len(text) > length.max_chars:
        raise RefusedAnswer(f"{side!r} is too long")


def _check_distinct(query: str, positive: str, negatives: list[str]) -> None:
    if query == positive:
        raise RefusedAnswer("the positive repeats the query")
    if positive in negatives:
        raise RefusedAnswer("a negative repeats the positive")
    if query in negatives:
        raise RefusedAnswer("a negative repeats the query")
    if len(set(negatives)) < len(negatives):
        raise RefusedAnswer("a negative is repeated")
